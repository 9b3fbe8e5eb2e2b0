/* The elementwise activations: vector/activation.h has their formulas. */
#include "vector/activation.h"

int fdl_elementwise(const real *x, real *y, int64_t size, int64_t kind, double alpha, double beta)
{
    const activation f = {kind, (real)alpha, (real)beta};
    return activate_array(&f, x, NULL, y, size);
}

int fdl_elementwise_backward(const real *grad_output, const real *x, real *grad_input, int64_t size, int64_t kind,
                             double alpha, double beta)
{
    const activation f = {kind, (real)alpha, (real)beta};
    return activate_array(&f, x, grad_output, grad_input, size);
}
