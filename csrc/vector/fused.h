/* Activations fused into what produces an array. Those that only limit numbers (relu, relu6, hardtanh) are applied in
 * registers by whoever stores the result; any other kind (activation.h) in place to what has just been stored, while it
 * is in the first-level cache. */
#ifndef FASTDL_FUSED_H
#define FASTDL_FUSED_H

#include "vector/simd.h"

#include <math.h>

typedef struct {
    int64_t kind; /* FDL_ACTIVATION_... */
    real alpha, beta;
} activation;

/* That activation, relu and relu6 as the hardtanh that they are. */
FDL_INLINE activation activation_of(int64_t kind, double alpha, double beta)
{
    if (kind == FDL_ACTIVATION_RELU)
        return (activation){FDL_ACTIVATION_HARDTANH, 0, (real)INFINITY};
    if (kind == FDL_ACTIVATION_RELU6)
        return (activation){FDL_ACTIVATION_HARDTANH, 0, 6};
    return (activation){kind, (real)alpha, (real)beta};
}

/* What is applied in registers: x, but at least low and at most high, unless there are no limits. */
typedef struct {
    bool any;
    real low, high;
} limits;
static const limits no_limits = {false, -(real)INFINITY, (real)INFINITY};
FDL_INLINE limits limits_of(const activation *f)
{
    return f->kind == FDL_ACTIVATION_HARDTANH ? (limits){true, f->alpha, f->beta} : no_limits;
}
FDL_INLINE vreal vlimit(limits l, vreal x) { return vmin(vset1(l.high), vmax(vset1(l.low), x)); } /* NaN passes */

#define activate_array FDL_NAME(activate_array)
#define activate_rows FDL_NAME(activate_rows)
/* out = f(x), or where grad_output is not NULL its gradient f'(x) grad_output, all [size]; on all threads. */
int activate_array(const activation *f, const real *x, const real *grad_output, real *out, int64_t size);
/* x[i * row + j] = f(x[i * row + j]) for i < rows, j < columns. */
void activate_rows(const activation *f, real *x, int64_t row, int64_t rows, int64_t columns);

/* Whether that is still to be done to what is stored with these limits. */
FDL_INLINE bool is_stored_first(const activation *f)
{
    return f->kind != FDL_ACTIVATION_NONE && f->kind != FDL_ACTIVATION_HARDTANH;
}
/* The same where it is. */
FDL_INLINE void activate_stored(const activation *f, real *x, int64_t row, int64_t rows, int64_t columns)
{
    if (is_stored_first(f))
        activate_rows(f, x, row, rows, columns);
}

#endif
