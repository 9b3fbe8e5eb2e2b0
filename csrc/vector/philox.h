/* Philox4x32-10: Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
 *
 * A function of a key (two 32-bit words) and a counter (four) to four random words, without any state: whoever knows
 * key and counter has the same words, in any order and on any number of threads. Ten times
 *
 *     (c0, c1, c2, c3) = (high(M1 c2) ^ c1 ^ k0, low(M1 c2), high(M0 c0) ^ c3 ^ k1, low(M0 c0))
 *
 * with 64-bit products, and between two rounds (k0, k1) += (W0, W1).
 *
 * Here the key is a 64-bit seed, and the counter a 64-bit number with two words of 0 above it. A vector holds the
 * same word of WIDE_LANES consecutive counters, each in the lower half of a 64-bit lane: what is left in the upper
 * halves neither products nor the words returned see. */
#ifndef FASTDL_PHILOX_H
#define FASTDL_PHILOX_H

#include "vector/simd.h"

enum { PHILOX_ROUNDS = 10, PHILOX_WORDS = 4 * WIDE_LANES }; /* words of one vector of counters */

/* The words of `counter` and the WIDE_LANES - 1 after it, in order: words [PHILOX_WORDS]. */
FDL_INLINE void philox(uint64_t seed, uint64_t counter, uint32_t *words)
{
    typedef uint64_t unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
    const vwide m0 = (vwide){0} + 0xD2511F53u, m1 = (vwide){0} + 0xCD9E8D57u;
    vwide c0;
    for (int i = 0; i < WIDE_LANES; i++)
        c0[i] = (uint64_t)i;
    c0 += counter;
    vwide c1 = c0 >> 32, c2 = {0}, c3 = {0};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    FDL_UNROLL
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        const vwide p0 = vmultiply_low(c0, m0), p1 = vmultiply_low(c2, m1);
        c0 = (p1 >> 32) ^ c1 ^ k0;
        c1 = p1;
        c2 = (p0 >> 32) ^ c3 ^ k1;
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    const vwide first = (c0 & UINT32_MAX) | c1 << 32, second = (c2 & UINT32_MAX) | c3 << 32;
    *(unaligned *)words = __builtin_shufflevector(first, second, WIDE_LIST(ZIP_LOW));
    *(unaligned *)(words + PHILOX_WORDS / 2) = __builtin_shufflevector(first, second, WIDE_LIST(ZIP_HIGH));
}

#endif
