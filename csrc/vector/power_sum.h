/* sum |x|^power for power 1 and 2, in double: penalties, and norms of gradients. */
#ifndef FASTDL_POWER_SUM_H
#define FASTDL_POWER_SUM_H

#include <math.h>

#include "vector/simd.h"

enum { POWER_CHAINS = 4 };

FDL_INLINE vdouble power_term(vdouble x, const int64_t power)
{
    return power == 2 ? x * x : (vdouble)((vwide)x & INT64_MAX);
}

/* The sum of |x|^power over x [size]. */
FDL_INLINE double power_sum(const real *x, int64_t size, const int64_t power)
{
    vdouble sum[POWER_CHAINS] = {{0}};
    int64_t i = 0;
    for (; i + POWER_CHAINS * WIDE_LANES <= size; i += POWER_CHAINS * WIDE_LANES) { /* main loop */
        FDL_UNROLL
        for (int c = 0; c < POWER_CHAINS; c++)
            sum[c] += power_term(vload_double(x + i + c * WIDE_LANES), power);
    }
    for (; i + WIDE_LANES <= size; i += WIDE_LANES)
        sum[0] += power_term(vload_double(x + i), power);
    double total = 0;
    for (; i < size; i++) /* tail */
        total += power == 2 ? (double)x[i] * (double)x[i] : fabs((double)x[i]);
    const vdouble all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    for (int lane = 0; lane < WIDE_LANES; lane++)
        total += all[lane];
    return total;
}

#endif
