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
enum { TOGETHER = 4 };

FDL_INLINE void take_pass(const elementwise_task *t, int64_t begin, int64_t end, const int kind, const bool backward)
{
    const activation f = t->f;
    for (pass p = pass_over(begin, end, t->out, t->streams); p.lanes > 0; pass_next(&p)) {
        while (p.lanes == LANES && p.end - p.at > TOGETHER * LANES) { /* main loop */
            vreal y[TOGETHER];
            FDL_UNROLL
            for (int i = 0; i < TOGETHER; i++) {
                const vreal x = vload(t->x + p.at + i * LANES);
                y[i] = backward ? activation_grad(vload(t->grad_output + p.at + i * LANES), x, kind, f.alpha, f.beta)
                                : activation_of(x, kind, f.alpha, f.beta);
            }
            FDL_UNROLL
            for (int i = 0; i < TOGETHER; i++, p.at += LANES)
                pass_store(&p, t->out, y[i]);
            p.lanes = min64(LANES, p.end - p.at);
        }
        const vreal x = pass_load(&p, t->x);
        pass_store(&p, t->out,
                   backward ? activation_grad(pass_load(&p, t->grad_output), x, kind, f.alpha, f.beta)
                            : activation_of(x, kind, f.alpha, f.beta));
    }
}

static int elementwise_range(void *context, int64_t begin, int64_t end)
{
    const elementwise_task t = *(const elementwise_task *)context; /* a copy, which no store can change */
    switch (t.f.kind) {
#define CASE(KIND)                                                                                                     \
    case FDL_ACTIVATION_##KIND:                                                                                        \
        if (t.grad_output)                                                                                             \
            take_pass(&t, begin, end, FDL_ACTIVATION_##KIND, true);                                                    \
        else                                                                                                           \
            take_pass(&t, begin, end, FDL_ACTIVATION_##KIND, false);                                                   \
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
    for (int64_t i = 0; i < rows; i++) {
        elementwise_task t = {.x = x + i * row, .out = x + i * row, .f = *f};
        elementwise_range(&t, 0, columns);
    }
}
