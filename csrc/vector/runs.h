/* Runs of elements that lie side by side: filled, copied, added; n may be anything, and is often 1. */
#ifndef FASTDL_RUNS_H
#define FASTDL_RUNS_H

#include "vector/simd.h"

FDL_INLINE void fill_run(real *y, int64_t n, real value)
{
    if (n == 1) {
        *y = value;
        return;
    }
    const vreal v = vset1(value);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) /* main loop */
        vstore(y + i, v);
    if (i < n) /* tail */
        vstore_first(y + i, v, n - i);
}

FDL_INLINE void copy_run(real *y, const real *x, int64_t n)
{
    if (n == 1) {
        *y = *x;
        return;
    }
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) /* main loop */
        vstore(y + i, vload(x + i));
    if (i < n) /* tail */
        vstore_first(y + i, vload_first(x + i, n - i), n - i);
}

/* y += x */
FDL_INLINE void add_run(real *y, const real *x, int64_t n)
{
    if (n == 1) {
        *y += *x;
        return;
    }
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) /* main loop */
        vstore(y + i, vload(y + i) + vload(x + i));
    if (i < n) /* tail */
        vstore_first(y + i, vload_first(y + i, n - i) + vload_first(x + i, n - i), n - i);
}

#endif
