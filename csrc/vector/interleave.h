/* LANES arrays side by side: sheet [size, LANES], a lane an array. What is too short for vectors along it, small images
 * above all, fills them so, and neither shifts nor masks are needed where windows move. */
#ifndef FASTDL_INTERLEAVE_H
#define FASTDL_INTERLEAVE_H

#include "vector/simd.h"

/* How many of the first elements to take so that what follows, in steps of LANES, touches no cache line twice: between
 * two touches of one there are those of all arrays, which may well be of the same set. */
FDL_INLINE int64_t until_aligned(const real *x, int64_t size)
{
    const int64_t past = (int64_t)((uintptr_t)x % VECTOR_BYTES / sizeof(real));
    return min64(LANES - past, size);
}

/* block[l] = element l of each of the arrays, `step` apart; 0 past the first n elements, and in lanes past `arrays`. */
FDL_INLINE void load_side_by_side(const real *x, int64_t step, int64_t arrays, int64_t n, vreal block[LANES])
{
    if (n == LANES && arrays == LANES) {
        vload_transposed(x, step, block);
        return;
    }
    for (int64_t i = 0; i < LANES; i++)
        block[i] = i < arrays ? vload_up_to(x + i * step, n) : (vreal){0};
    vtranspose(block);
}

/* Where the block after the one at e begins: at whole cache lines, and the last one so that it is whole too, if there are
 * as many elements, even if it takes some of the one before again. */
FDL_INLINE int64_t next_block(const real *x, int64_t e, int64_t size)
{
    if (size - e <= LANES)
        return size;
    return min64(e == 0 ? until_aligned(x, size) : e + LANES, size - LANES);
}

/* sheet = the arrays x [size], `step` apart; 0 in lanes past the last. */
static FDL_OUTLINE void interleave(const real *x, int64_t step, int64_t arrays, int64_t size, real *sheet)
{
    for (int64_t e = 0; e < size; e = next_block(x, e, size)) {
        const int64_t n = min64(LANES, size - e);
        vreal block[LANES];
        load_side_by_side(x + e, step, arrays, n, block);
        if (n == LANES) { /* main loop */
            FDL_UNROLL
            for (int l = 0; l < LANES; l++)
                vstore(sheet + (e + l) * LANES, block[l]);
        } else {
            for (int64_t l = 0; l < n; l++) /* tail */
                vstore(sheet + (e + l) * LANES, block[l]);
        }
    }
}

/* The other way round: the arrays y [size], `step` apart, from the sheet. */
static FDL_OUTLINE void separate(const real *sheet, int64_t step, int64_t arrays, int64_t size, real *y)
{
    for (int64_t e = 0; e < size; e = next_block(y, e, size)) {
        const int64_t n = min64(LANES, size - e);
        vreal block[LANES];
        if (n == LANES && arrays == LANES) { /* main loop */
            vload_transposed(sheet + e * LANES, LANES, block);
            FDL_UNROLL
            for (int i = 0; i < LANES; i++)
                vstore(y + i * step + e, block[i]);
        } else { /* tail */
            for (int64_t l = 0; l < LANES; l++)
                block[l] = l < n ? vload(sheet + (e + l) * LANES) : (vreal){0};
            vtranspose(block);
            for (int64_t i = 0; i < arrays; i++)
                vstore_up_to(y + i * step + e, block[i], n);
        }
    }
}

#endif
