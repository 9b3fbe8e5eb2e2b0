/* The elementwise activations (activation.h has their formulas) in passes over x [size], compiled once for all that use
 * them. */
#include "vector/activation.h"
#include "vector/elementwise.h"

typedef struct {
    const real *x, *grad_output; /* the second NULL: forward */
    real *out;
    activation f;
    bool streams;
} elementwise_task;

/* Formulas are long chains of operations that wait for each other, and the processor looks only so far ahead: this many
 * vectors are taken together, for the compiler to interleave (CMakeLists.txt tells GCC to). */
enum { TOGETHER = FDL_SMALL ? 1 : 4 };

/* A pass with the formula `value`, of a vector of x and one of grad_output. */
#define PASS(name, value)                                                                                              \
    static void name(const elementwise_task *task, int64_t begin, int64_t end)                                         \
    {                                                                                                                  \
        const elementwise_task t = *task; /* a copy, which no store can change */                                      \
        const real alpha = t.f.alpha, beta = t.f.beta, *const grads = t.grad_output ? t.grad_output : t.x;             \
        for (pass p = pass_over(begin, end, t.out, t.streams); p.lanes > 0; pass_next(&p)) {                           \
            while (p.lanes == LANES && p.end - p.at > TOGETHER * LANES) { /* main loop */                              \
                vreal y[TOGETHER];                                                                                     \
                FDL_UNROLL                                                                                             \
                for (int i = 0; i < TOGETHER; i++) {                                                                   \
                    const vreal x = vload(t.x + p.at + i * LANES), grad = vload(grads + p.at + i * LANES);             \
                    (void)grad;                                                                                        \
                    y[i] = value;                                                                                      \
                }                                                                                                      \
                FDL_UNROLL                                                                                             \
                for (int i = 0; i < TOGETHER; i++, p.at += LANES)                                                      \
                    pass_store(&p, t.out, y[i]);                                                                       \
                p.lanes = min64(LANES, p.end - p.at);                                                                  \
            }                                                                                                          \
            const vreal x = pass_load(&p, t.x), grad = pass_load(&p, grads);                                           \
            (void)grad;                                                                                                \
            pass_store(&p, t.out, value);                                                                              \
        }                                                                                                              \
    }
#define PASSES(KIND)                                                                                                   \
    PASS(forward_##KIND, activation_##KIND(x, alpha, beta))                                                            \
    PASS(backward_##KIND, gradient_##KIND(grad, x, alpha, beta))
FDL_EACH_ACTIVATION(PASSES)

static int elementwise_range(void *context, int64_t begin, int64_t end)
{
    const elementwise_task *t = context;
    switch (t->f.kind) {
#define CASE(KIND)                                                                                                     \
    case FDL_ACTIVATION_##KIND:                                                                                        \
        (t->grad_output ? backward_##KIND : forward_##KIND)(t, begin, end);                                            \
        break;
        FDL_EACH_ACTIVATION(CASE)
#undef CASE
    }
    return FDL_OK;
}

int activate_array(const activation *f, const real *x, const real *grad_output, real *out, int64_t size)
{
    elementwise_task t = {.x = x, .grad_output = grad_output, .out = out, .f = *f};
    t.streams = out != x && out != grad_output && pass_streams(size);
    return fdl_parallel(size, f->kind == FDL_ACTIVATION_RELU ? MEMORY_GRAIN : COMPUTE_GRAIN, elementwise_range, &t);
}

void activate_rows(const activation *f, real *x, int64_t row, int64_t rows, int64_t columns)
{
    if (row == columns) /* one behind the other */
        columns *= rows, rows = 1;
    for (int64_t i = 0; i < rows; i++) {
        elementwise_task t = {.x = x + i * row, .out = x + i * row, .f = *f};
        elementwise_range(&t, 0, columns);
    }
}
