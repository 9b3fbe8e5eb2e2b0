/* Functions that are compiled elsewhere, element by element: y[i] = f(x[i]), or f'(x[i]) grad_output[i]. */
#include "runtime/core.h"
#include "vector/simd.h"

/* Of x [size], grad_output [size] or NULL and the function's own parameters, to y [size], which may be either of them. */
typedef void applied(const real *x, const real *grad_output, real *y, const double *parameters, int64_t size);

typedef struct {
    applied *function;
    const real *x, *grad_output;
    real *y;
    const double *parameters;
} application;

static int apply_range(void *context, int64_t begin, int64_t end)
{
    const application *t = context;
    t->function(t->x + begin, t->grad_output ? t->grad_output + begin : NULL, t->y + begin, t->parameters, end - begin);
    return FDL_OK;
}

int fdl_apply(const real *x, const real *grad_output, real *y, int64_t size, int64_t function, double p0, double p1,
              double p2, double p3)
{
    enum { ENOUGH = 1 << 13 }; /* elements: a thread costs a few microseconds to wake */
    const double parameters[] = {p0, p1, p2, p3};
    application t = {(applied *)(intptr_t)function, x, grad_output, y, parameters};
    return size > 0 ? fdl_parallel(size, ENOUGH, apply_range, &t) : FDL_OK;
}
