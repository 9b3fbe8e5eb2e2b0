/* Gated linear units: Dauphin et al., "Language Modeling with Gated Convolutional Networks" (ICML 2017), section 2.
 *
 *   y = a * s, s = sigmoid(b)               x [outer, 2, inner] holds a and b, y [outer, inner]
 *   grad_a = grad_output * s                grad_b = grad_output * s * (1 - s) * a
 *
 * All arithmetic is in `real`. Work is cut into elements of y. */
#include "vector/elementwise.h"
#include "vector/vmath.h"

typedef struct {
    const real *x, *grad_output; /* the second NULL: forward */
    real *out;                   /* y, or grad_input [outer, 2, inner] */
    int64_t inner;
} glu;

FDL_INLINE void glu_range(const glu *t, int64_t begin, int64_t end, const bool backward)
{
    const int64_t inner = t->inner;
    for (int64_t at = begin, stop; at < end; at = stop) { /* what lies in one row of y */
        const int64_t row = at / inner, pair = at + row * inner;
        stop = min64(end, (row + 1) * inner);
        for (int64_t j = 0; j < stop - at; j += LANES) { /* main loop and tail */
            const int64_t left = stop - at - j;
            const vreal a = vload_up_to(t->x + pair + j, left);
            const vreal s = vsigmoid(vload_up_to(t->x + pair + inner + j, left));
            if (!backward) {
                vstore_up_to(t->out + at + j, a * s, left);
                continue;
            }
            const vreal grad = vload_up_to(t->grad_output + at + j, left);
            vstore_up_to(t->out + pair + j, grad * s, left);
            vstore_up_to(t->out + pair + inner + j, grad * (s * (1 - s)) * a, left);
        }
    }
}

static int forward(void *task, int64_t begin, int64_t end)
{
    glu_range(task, begin, end, false);
    return FDL_OK;
}

static int backward(void *task, int64_t begin, int64_t end)
{
    glu_range(task, begin, end, true);
    return FDL_OK;
}

int fdl_glu(const real *x, real *y, int64_t outer, int64_t inner)
{
    glu t = {.x = x, .out = y, .inner = inner};
    return fdl_parallel(outer * inner, COMPUTE_GRAIN, forward, &t);
}

int fdl_glu_backward(const real *grad_output, const real *x, real *grad_input, int64_t outer, int64_t inner)
{
    glu t = {.x = x, .grad_output = grad_output, .out = grad_input, .inner = inner};
    return fdl_parallel(outer * inner, COMPUTE_GRAIN, backward, &t);
}
