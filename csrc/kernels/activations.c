/* Activations: relu here; softmax in softmax.c.
 *
 *   relu(x) = max(x, 0), NaN stays NaN       d relu / dx = 1 where x > 0, else 0 (0 at x = 0, as torch)
 */
#include "simd.h"

typedef struct {
    const real *a, *b;
    real *out;
} pointwise;

/* Below this many elements a second thread costs more than it saves. */
enum { GRAIN = 1 << 15 };

static int relu_range(void *context, int64_t begin, int64_t end)
{
    const pointwise *p = context;
    int64_t i = begin;
    const vreal zero = {0};
    for (; i + LANES <= end; i += LANES) { /* main loop */
        const vreal x = vload(p->a + i);
        vstore(p->out + i, vselect(x < zero, zero, x));
    }
    if (i < end) { /* tail */
        const vreal x = vload_first(p->a + i, end - i);
        vstore_first(p->out + i, vselect(x < zero, zero, x), end - i);
    }
    return FDL_OK;
}

int fdl_relu(const real *x, real *y, int64_t size)
{
    pointwise p = {x, NULL, y};
    return fdl_parallel(size, GRAIN, relu_range, &p);
}

static int relu_backward_range(void *context, int64_t begin, int64_t end)
{
    const pointwise *p = context;
    int64_t i = begin;
    const vreal zero = {0};
    /* x <= 0 rather than x > 0: a NaN input passes the gradient on, as torch's threshold does. */
    for (; i + LANES <= end; i += LANES) /* main loop */
        vstore(p->out + i, vselect(vload(p->b + i) <= zero, zero, vload(p->a + i)));
    if (i < end) { /* tail */
        const vreal x = vload_first(p->b + i, end - i), grad = vload_first(p->a + i, end - i);
        vstore_first(p->out + i, vselect(x <= zero, zero, grad), end - i);
    }
    return FDL_OK;
}

int fdl_relu_backward(const real *grad_output, const real *x, real *grad_input, int64_t size)
{
    pointwise p = {grad_output, x, grad_input};
    return fdl_parallel(size, GRAIN, relu_backward_range, &p);
}
