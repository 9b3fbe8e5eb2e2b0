/* Sums of any number of terms. A sum in `real` of n terms may be wrong by n / 2 roundings of itself, and of terms of one
 * sign in float it is: by percents of 10^6 terms. So what has no bound is summed in blocks of a few hundred to a few
 * thousand terms, in `real` and as fast as ever, and the blocks' sums are added here, to twice as many digits:
 *
 *   high + low = the sum     low collects what each addition to high rounds off (Knuth's two-sum)
 *
 * Where few blocks' sums come from whole vectors, double does the same (vsum_double). */
#ifndef FASTDL_SUMS_H
#define FASTDL_SUMS_H

#include "vector/simd.h"

enum { SUM_TERMS = 512 }; /* of a block, unless there is reason for another size */

FDL_INLINE void vtotal_add(vreal *high, vreal *low, vreal v)
{
    const vreal sum = *high + v, part = sum - *high;
    *low += (*high - (sum - part)) + (v - part);
    *high = sum;
}

/* Where the sum is not finite, low is NaN, and of no use. */
FDL_INLINE vreal vtotal(vreal high, vreal low) { return vselect(low == low, high + low, high); }

/* The same in memory, of n sums. */
FDL_INLINE void total_add(real *high, real *low, const real *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) { /* main loop and tail */
        vreal h = vload_up_to(high + i, n - i), l = vload_up_to(low + i, n - i);
        vtotal_add(&h, &l, vload_up_to(x + i, n - i));
        vstore_up_to(high + i, h, n - i);
        vstore_up_to(low + i, l, n - i);
    }
}

/* high = the sums. */
FDL_INLINE void total_finish(real *high, const real *low, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) /* main loop and tail */
        vstore_up_to(high + i, vtotal(vload_up_to(high + i, n - i), vload_up_to(low + i, n - i)), n - i);
}

#endif
