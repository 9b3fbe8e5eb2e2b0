/* What softmax, log_softmax and cross_entropy share: the maximum, and the sum of exponentials, of the classes of a row
 * that lies along them, or of a strip of up to STRIP rows that lie beside each other.
 *
 * Sums run in `real` vectors over FOLD terms a lane and in double from there on, so their error does not grow with
 * the length of the row. */
#ifndef FASTDL_SOFTMAX_H
#define FASTDL_SOFTMAX_H

#include <math.h>

#include "vector/vmath.h"

enum { FOLD = 32, STRIP = 256 / (int)sizeof(real) };

/* Sums are so many vectors side by side: the next addition does not wait for the one before. */
enum { CHAINS = 4 };
FDL_INLINE double sum_chains(const vreal sum[CHAINS]) { return vsum_double((sum[0] + sum[1]) + (sum[2] + sum[3])); }

/* The largest of x [size]; -infinity if there are none. NaN may be passed over: the sum below has it. */
FDL_INLINE real row_maximum(const real *x, int64_t size)
{
    const vreal least = vset1((real)-INFINITY);
    vreal most[CHAINS] = {least, least, least, least};
    int64_t i = 0;
    for (; i + CHAINS * LANES <= size; i += CHAINS * LANES) { /* main loop */
        FDL_UNROLL
        for (int c = 0; c < CHAINS; c++)
            most[c] = vmax(vload(x + i + c * LANES), most[c]);
    }
    for (; i < size; i += LANES) /* tail */
        most[0] = vmax(vload_first_or(x + i, min64(LANES, size - i), least), most[0]);
    return vmax_lane(vmax(vmax(most[0], most[1]), vmax(most[2], most[3])));
}

/* The sum of exp(x - maximum) over x [size]. `store`, a constant: the terms go to y [size], which may be x. */
FDL_INLINE double row_exp_sum(const real *x, real maximum, real *y, int64_t size, const bool store)
{
    double total = 0;
    for (int64_t i = 0; i < size;) {
        const int64_t stop = min64(size, i + FOLD * CHAINS * LANES);
        vreal sum[CHAINS] = {{0}};
        for (; i + CHAINS * LANES <= stop; i += CHAINS * LANES) { /* main loop */
            vreal e[CHAINS];
            FDL_UNROLL
            for (int c = 0; c < CHAINS; c++) {
                e[c] = vexp(vload(x + i + c * LANES) - maximum);
                sum[c] += e[c];
            }
            FDL_UNROLL
            for (int c = 0; c < CHAINS && store; c++)
                vstore(y + i + c * LANES, e[c]);
        }
        for (; i < stop; i += LANES) { /* tail: e^-inf = 0 where there is no element */
            const int64_t lanes = min64(LANES, stop - i);
            const vreal e = vexp(vload_first_or(x + i, lanes, vset1((real)-INFINITY)) - maximum);
            sum[0] += e;
            if (store)
                vstore_first(y + i, e, lanes);
        }
        total += sum_chains(sum);
    }
    return total;
}

/* maximum [STRIP] of width <= STRIP columns of x [classes, inner]. */
FDL_INLINE void strip_maximum(const real *x, real *maximum, int64_t classes, int64_t inner, int64_t width)
{
    for (int j = 0; j < STRIP; j++)
        maximum[j] = (real)-INFINITY;
    for (int64_t k = 0; k < classes; k++)
        for (int64_t j = 0; j < width; j += LANES)
            vstore(maximum + j, vmax(vload_up_to(x + k * inner + j, width - j), vload(maximum + j)));
}

/* total[j] += sum[j], sum[j] = 0: what keeps sums in `real` short. */
FDL_INLINE void strip_fold(real *sum, double *total, int64_t width)
{
    for (int64_t j = 0; j < width; j++) {
        total[j] += (double)sum[j];
        sum[j] = 0;
    }
}

/* result[j] = log(total[j]), of [STRIP] each. */
FDL_INLINE void strip_log(const double *total, real *result, int64_t width)
{
    for (int j = 0; j < STRIP; j++)
        result[j] = (real)total[j];
    for (int64_t j = 0; j < width; j += LANES)
        vstore(result + j, vlog(vload(result + j)));
}

#endif
