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

typedef vreal formula(vreal x, real alpha, real beta);
typedef vreal gradient(vreal grad, vreal x, real alpha, real beta);

/* A constant wherever inlined: of, or grad, which is NULL forward. */
FDL_INLINE void take_pass(const elementwise_task *t, int64_t begin, int64_t end, formula *of, gradient *grad)
{
    const real alpha = t->f.alpha, beta = t->f.beta;
    for (pass p = pass_over(begin, end, t->out, t->streams); p.lanes > 0; pass_next(&p)) {
        while (p.lanes == LANES && p.end - p.at > TOGETHER * LANES) { /* main loop */
            vreal y[TOGETHER];
            FDL_UNROLL
            for (int i = 0; i < TOGETHER; i++) {
                const vreal x = vload(t->x + p.at + i * LANES);
                y[i] = grad ? grad(vload(t->grad_output + p.at + i * LANES), x, alpha, beta) : of(x, alpha, beta);
            }
            FDL_UNROLL
            for (int i = 0; i < TOGETHER; i++, p.at += LANES)
                pass_store(&p, t->out, y[i]);
            p.lanes = min64(LANES, p.end - p.at);
        }
        const vreal x = pass_load(&p, t->x);
        pass_store(&p, t->out, grad ? grad(pass_load(&p, t->grad_output), x, alpha, beta) : of(x, alpha, beta));
    }
}

/* Of each kind its two formulas and their passes, functions of their own: the time that a compiler takes for a function
 * grows faster than the function, and what is inlined is simplified once, not wherever it goes. */
#define PASSES(KIND)                                                                                                   \
    FDL_INLINE vreal of_##KIND(vreal x, real alpha, real beta)                                                         \
    {                                                                                                                  \
        return activation_of(x, FDL_ACTIVATION_##KIND, alpha, beta);                                                   \
    }                                                                                                                  \
    FDL_INLINE vreal grad_##KIND(vreal grad, vreal x, real alpha, real beta)                                           \
    {                                                                                                                  \
        return activation_grad(grad, x, FDL_ACTIVATION_##KIND, alpha, beta);                                           \
    }                                                                                                                  \
    static void forward_##KIND(const elementwise_task *t, int64_t begin, int64_t end)                                  \
    {                                                                                                                  \
        take_pass(t, begin, end, of_##KIND, NULL);                                                                     \
    }                                                                                                                  \
    static void backward_##KIND(const elementwise_task *t, int64_t begin, int64_t end)                                 \
    {                                                                                                                  \
        take_pass(t, begin, end, NULL, grad_##KIND);                                                                   \
    }
FDL_EACH_ACTIVATION(PASSES)
#undef PASSES

typedef void whole_pass(const elementwise_task *t, int64_t begin, int64_t end);
#define PASS(KIND) [FDL_ACTIVATION_##KIND] = {forward_##KIND, backward_##KIND},
static whole_pass *const PASSES_OF[][2] = {FDL_EACH_ACTIVATION(PASS)};
#undef PASS

static int elementwise_range(void *context, int64_t begin, int64_t end)
{
    const elementwise_task t = *(const elementwise_task *)context; /* a copy, which no store can change */
    PASSES_OF[t.f.kind][t.grad_output != NULL](&t, begin, end);
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
