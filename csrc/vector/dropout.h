/* Dropout, which networks apply between layers and recurrent networks between theirs.
 *
 *   y = scale x + shift where the element is kept, else 0 x + dropped, so that NaN and infinity show
 *
 * Dropout's mask is a function of seed, offset and the position alone. Elements are taken in runs of `run`, which are
 * kept or dropped as a whole (1: each for itself; a channel's volume). Run r has word r % 4 of Philox at counter
 * offset + r / 4, and is kept where word < round(keep 2^32): so the probability to keep is off by 2^-33 at most, and
 * 0 and 1 are exact. The words of the next elements, one an element, stand ready in a buffer in the first-level
 * cache; it may begin and end anywhere, so that how the array is aligned or divided does not matter. */
#ifndef FASTDL_DROPOUT_H
#define FASTDL_DROPOUT_H

#include "vector/simd.h"

#define dropout_array FDL_NAME(dropout_array)
/* x, y [size], which may be one array. Returns a status. */
int dropout_array(const real *x, real *y, int64_t size, int64_t run, double keep, int64_t seed, int64_t offset,
                  double scale, double shift, double dropped);

#endif
