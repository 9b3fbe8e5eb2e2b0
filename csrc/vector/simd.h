/* Vectors of `real` for the level being compiled: GCC/Clang vector extensions (+ - * / and comparisons are
 * the language's own) plus the verbs that they lack.
 *
 *   vreal    LANES values of real            vint, vuint   LANES integers of the same width
 *
 * The file of an instruction set says how large a vector is and has the verbs that it does better; of every other,
 * `#ifndef verb`, the portable form stands here. Only those files hold intrinsics.
 *
 * Helpers are static inline on purpose: a shared out-of-line copy would leak one level's instructions
 * into another. */
#ifndef FASTDL_SIMD_H
#define FASTDL_SIMD_H

#if defined(__AVX512F__)
#include "vector/avx512.h"
#elif defined(__AVX2__)
#include "vector/avx2.h"
#elif defined(__x86_64__)
#include "vector/sse.h"
#elif defined(__aarch64__)
#include "vector/neon.h"
#else
#define VECTOR_BYTES 16
#define VECTOR_REGISTERS 16
#endif
#include "vector/types.h"
#include "vector/lanes.h"

/* A store past the caches, to aligned memory; and what has to follow the last one, before another thread looks. */
#ifndef vstream
FDL_INLINE void vstream(real *p, vreal v) { vstore(p, v); }
#endif
#ifndef vstream_end
FDL_INLINE void vstream_end(void) {}
#endif

/* v, held in a register: GCC would otherwise load it anew for every use. */
#ifndef vkeep
FDL_INLINE vreal vkeep(vreal v) { return v; }
#endif

/* The full products of the lower 32 bits of each 64-bit lane. */
#ifndef vmultiply_low
FDL_INLINE vwide vmultiply_low(vwide a, vwide b) { return (a & UINT32_MAX) * (b & UINT32_MAX); }
#endif

/* mask ? a : b, for a mask of all-ones and all-zeros lanes, as comparisons give. */
#ifndef vselect
FDL_INLINE vreal vselect(vint mask, vreal a, vreal b) { return (vreal)(((vint)a & mask) | ((vint)b & ~mask)); }
#endif
FDL_INLINE vint vselect_int(vint mask, vint a, vint b) { return (a & mask) | (b & ~mask); }
/* v where the mask is set, else 0. */
FDL_INLINE vreal vonly(vint mask, vreal v) { return (vreal)((vint)v & mask); }

/* v, from `place`, comes after what is best: it takes over where it is larger, or NaN. */
#ifndef vtake_later
FDL_INLINE void vtake_later(vreal *best, vint *at, vreal v, vint place)
{
    const vint won = (v > *best) | (v != v);
    *best = vselect(won, v, *best);
    *at = vselect_int(won, place, *at);
}
#endif
/* The larger and the smaller; b where either is NaN. */
#ifndef vmax
FDL_INLINE vreal vmax(vreal a, vreal b) { return vselect(a > b, a, b); }
#endif
#ifndef vmin
FDL_INLINE vreal vmin(vreal a, vreal b) { return vselect(a < b, a, b); }
#endif

/* The square root, rounded once; NaN below 0. */
#ifndef vsqrt
FDL_INLINE vreal vsqrt(vreal x)
{
    for (int i = 0; i < LANES; i++)
        x[i] = sizeof(real) == 4 ? (real)__builtin_sqrtf((float)x[i]) : (real)__builtin_sqrt((double)x[i]);
    return x;
}
#endif

/* The larger and the smaller, b of equals; NaN where either is NaN. */
FDL_INLINE vreal vmax_nan(vreal a, vreal b) { return vselect(a != a, a, vmax(a, b)); }
FDL_INLINE vreal vmin_nan(vreal a, vreal b) { return vselect(a != a, a, vmin(a, b)); }

/* Adding this to |x| < 2^22 (float), 2^51 (double) leaves the nearest integer, ties to even, in the low bits. */
#define FDL_ROUNDER (sizeof(real) == 4 ? (real)0x1.8p23 : (real)0x1.8p52)
FDL_INLINE vreal vround(vreal x) { return x + FDL_ROUNDER - FDL_ROUNDER; }

enum { FDL_MANTISSA = sizeof(real) == 4 ? 23 : 52, FDL_BIAS = sizeof(real) == 4 ? 127 : 1023 };
FDL_INLINE vuint vsign_bit(vreal x) { return (vuint)x & ((natural)1 << (8 * sizeof(real) - 1)); }
FDL_INLINE vreal vabs(vreal x) { return (vreal)((vuint)x & ~((natural)1 << (8 * sizeof(real) - 1))); }
/* y with the sign of x, where y is positive or has it already. */
FDL_INLINE vreal vwith_sign(vreal y, vreal x) { return (vreal)((vuint)y | vsign_bit(x)); }

/* a b = what is returned + *low, to twice the digits. */
#ifndef vproduct /* Dekker 1971, "A floating-point technique for extending the available precision" */
FDL_INLINE vreal vproduct(vreal a, vreal b, vreal *low)
{
    const real split = (real)((natural)1 << (FDL_MANTISSA / 2 + 1)) + 1;
    const vreal a_high = a * split - (a * split - a), a_low = a - a_high;
    const vreal b_high = b * split - (b * split - b), b_low = b - b_high;
    const vreal product = a * b;
    *low = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low);
    return product;
}
#endif

/* v 2^n, rounded once: v is normal and n integral, within twice the range of exponents; NaN stays NaN. */
#ifndef vldexp
FDL_INLINE vreal vldexp(vreal v, vreal n)
{
    /* In two steps, because 2^n alone may be out of range where v 2^n is not; the first is exact. */
    const vuint both = (vuint)(n + FDL_ROUNDER) - (vuint)vset1(FDL_ROUNDER) + 2 * FDL_BIAS, half = both >> 1;
    return v * (vreal)(half << FDL_MANTISSA) * (vreal)((both - half) << FDL_MANTISSA);
}
#endif

/* 2^n, n integral and 2^n normal. */
FDL_INLINE vreal vpow2(vreal n)
{
    return (vreal)(((vuint)(n + FDL_ROUNDER) - (vuint)vset1(FDL_ROUNDER) + FDL_BIAS) << FDL_MANTISSA);
}

/* x rounded to an integer n, and 2^(n + lift) in *power, where that is normal. What is multiplied by *power of FDL_LIFT
 * and then by FDL_UNLIFT = 2^-FDL_LIFT is rounded once, for n down to where it is 0: cheaper than vldexp. */
enum { FDL_LIFT = FDL_BIAS / 2 };
#define FDL_UNLIFT (sizeof(real) == 4 ? (real)0x1p-63 : (real)0x1p-511)
FDL_INLINE vreal vround_lifted(vreal x, const int lift, vreal *power)
{
    const real rounder = FDL_ROUNDER + (real)(FDL_BIAS + lift); /* the low bits then are the exponent */
    const vreal sum = x + rounder;
    *power = (vreal)((vuint)sum << FDL_MANTISSA);
    return sum - rounder;
}

/* m and *k of x = m 2^k with 0.75 <= m < 1.5, for x > 0, subnormal x included; anything for other x. */
#ifndef vfrexp
FDL_INLINE vreal vfrexp(vreal x, vreal *k)
{
    const real two_mantissa = (real)((natural)1 << FDL_MANTISSA);
    const vint subnormal = x < (sizeof(real) == 4 ? (real)0x1p-126 : (real)0x1p-1022);
    x = vselect(subnormal, x * two_mantissa, x);
    /* Half a mantissa more carries into the exponent from 1.5 on. */
    const vuint biased = ((vuint)x + ((natural)1 << (FDL_MANTISSA - 1))) >> FDL_MANTISSA;
    *k = (vreal)(biased | (vuint)vset1(two_mantissa)) - (two_mantissa + FDL_BIAS) -
         vselect(subnormal, vset1(FDL_MANTISSA), (vreal){0});
    return (vreal)((vuint)x - ((biased - FDL_BIAS) << FDL_MANTISSA));
}
#endif

/* y, but where log x is not a number of the ordinary kind, that: -inf at 0, NaN below, inf at inf, NaN at NaN. */
#ifndef vlog_edges
FDL_INLINE vreal vlog_edges(vreal y, vreal x)
{
    const vreal infinity = vset1((real)INFINITY);
    y = vselect(x > 0, y, vselect(x == 0, -infinity, vset1((real)NAN)));
    return vselect(x == infinity, infinity, y);
}
#endif

/* Masked verbs: lanes [first, last) are accessed, no byte outside them is; the others load as 0. */
#ifndef vmask_range /* no masked instructions: lane by lane */
typedef struct {
    int32_t first, last;
} vmask;
FDL_INLINE vmask vmask_range(int64_t first, int64_t last) { return (vmask){(int32_t)first, (int32_t)last}; }
FDL_INLINE vreal vload_masked(const real *p, vmask m)
{
    vreal v = {0};
    for (int i = m.first; i < m.last; i++)
        v[i] = p[i];
    return v;
}
FDL_INLINE void vstore_masked(real *p, vreal v, vmask m)
{
    for (int i = m.first; i < m.last; i++)
        p[i] = v[i];
}
#endif

/* The first n lanes, 0 <= n <= LANES. */
FDL_INLINE vreal vload_first(const real *p, int64_t n) { return vload_masked(p, vmask_range(0, n)); }
FDL_INLINE void vstore_first(real *p, vreal v, int64_t n) { vstore_masked(p, v, vmask_range(0, n)); }

/* The same for any n >= 0, of which LANES count: main loop and tail in one, where a branch costs nothing. */
FDL_INLINE vreal vload_up_to(const real *p, int64_t n) { return n >= LANES ? vload(p) : vload_first(p, n); }
FDL_INLINE void vstore_up_to(real *p, vreal v, int64_t n)
{
    if (n >= LANES)
        vstore(p, v);
    else
        vstore_first(p, v, n);
}

/* A mask from LANES bools. */
#ifndef vload_bools
FDL_INLINE vint vload_bools(const uint8_t *p)
{
    typedef uint8_t bools __attribute__((vector_size(LANES)));
    bools b;
    memcpy(&b, p, sizeof b);
    return __builtin_convertvector(b, vint) != 0;
}
#endif
/* The same, false past the first n >= 1, which are not read. */
FDL_INLINE vint vload_bools_up_to(const uint8_t *p, int64_t n)
{
    uint8_t own[LANES] = {0};
    if (n >= LANES)
        return vload_bools(p);
    memcpy(own, p, (size_t)n);
    return vload_bools(own);
}

/* WIDE_LANES elements, as doubles, and from doubles. */
typedef real vnarrow __attribute__((vector_size(WIDE_LANES * sizeof(real)), aligned(sizeof(real)), may_alias));
#ifndef vload_double
FDL_INLINE vdouble vload_double(const real *p) { return __builtin_convertvector(*(const vnarrow *)p, vdouble); }
#endif
FDL_INLINE void vstore_double(real *p, vdouble v) { *(vnarrow *)p = __builtin_convertvector(v, vnarrow); }

/* 0, 1, 2, ... */
FDL_INLINE vint lane_numbers(void)
{
    vint lane;
    for (int i = 0; i < LANES; i++)
        lane[i] = i;
    return lane;
}
/* The first n lanes, with `other` in the rest. */
FDL_INLINE vreal vfirst_or(vreal v, int64_t n, vreal other)
{
    return vselect(lane_numbers() < vset1_int((integer)n), v, other);
}
FDL_INLINE vreal vload_first_or(const real *p, int64_t n, vreal other)
{
    return vfirst_or(vload_first(p, n), n, other);
}

/* Whether any lane of a mask is set. */
#ifndef vany
FDL_INLINE bool vany(vint mask)
{
    integer any = 0;
    FDL_UNROLL
    for (int i = 0; i < LANES; i++)
        any |= mask[i];
    return any != 0;
}
#endif

#ifndef vunordered
FDL_INLINE vint vunordered(vreal a, vreal b) { return (a != a) | (b != b); }
#endif
/* A mask that is kept, in what the level has for that; a where it is set, else b; the same, and where a or b is NaN. */
#ifndef vflags_of
typedef vint vflags;
FDL_INLINE vflags vflags_of(vint mask) { return mask; }
FDL_INLINE vreal vwhere(vflags flags, vreal a, vreal b) { return vselect(flags, a, b); }
FDL_INLINE vflags vnan_seen(vflags so_far, vreal a, vreal b) { return so_far | vunordered(a, b); }
FDL_INLINE bool vnan_any(vflags seen) { return vany(seen); }
#endif

/* Lanes 0, 2, 4, ... and 1, 3, 5, ... */
#ifndef veven
FDL_INLINE vreal veven(vreal a, vreal b) { return __builtin_shufflevector(a, b, LANE_LIST(EVEN)); }
FDL_INLINE vreal vodd(vreal a, vreal b) { return __builtin_shufflevector(a, b, LANE_LIST(ODD)); }
#endif
/* The same of 2 LANES elements. */
#ifndef vload_even_odd
FDL_INLINE void vload_even_odd(const real *p, vreal *even, vreal *odd)
{
    const vreal a = vload(p), b = vload(p + LANES);
    *even = veven(a, b), *odd = vodd(a, b);
}
#endif
/* a0 b0 a1 b1 ..., from the lower and from the upper halves. */
FDL_INLINE vreal vzip_low(vreal a, vreal b) { return __builtin_shufflevector(a, b, LANE_LIST(ZIP_LOW)); }
FDL_INLINE vreal vzip_high(vreal a, vreal b) { return __builtin_shufflevector(a, b, LANE_LIST(ZIP_HIGH)); }
/* Each lane's neighbour in (a, b): to the right, of those of a, and to the left, of those of b. */
FDL_INLINE vreal vnext(vreal a, vreal b) { return __builtin_shufflevector(a, b, LANE_LIST(NEXT)); }
FDL_INLINE vreal vprevious(vreal a, vreal b) { return __builtin_shufflevector(a, b, LANE_LIST(PREVIOUS)); }
/* Lanes turned round in threes, once and twice. */
FDL_INLINE vreal vturn(vreal v) { return __builtin_shufflevector(v, v, LANE_LIST(TURN)); }
FDL_INLINE vreal vturn_back(vreal v) { return __builtin_shufflevector(v, v, LANE_LIST(TURN_BACK)); }
/* Of v, in each lane the one that is asked for. */
#ifndef vpick
FDL_INLINE vreal vpick(vreal v, vint lane)
{
    vreal picked;
    for (int i = 0; i < LANES; i++)
        picked[i] = v[lane[i]];
    return picked;
}
#endif
/* Every third lane of a, b, c end to end, and their lanes in turn. */
FDL_INLINE vreal vthird(vreal a, vreal b, vreal c)
{
    return __builtin_shufflevector(__builtin_shufflevector(a, b, LANE_LIST(THIRD_A)), c, LANE_LIST(THIRD_B));
}
FDL_INLINE void vzip_3(vreal a, vreal b, vreal c, vreal out[3])
{
    out[0] = __builtin_shufflevector(__builtin_shufflevector(a, b, LANE_LIST(ZIP_3_0A)), c, LANE_LIST(ZIP_3_0B));
    out[1] = __builtin_shufflevector(__builtin_shufflevector(a, b, LANE_LIST(ZIP_3_1A)), c, LANE_LIST(ZIP_3_1B));
    out[2] = __builtin_shufflevector(__builtin_shufflevector(a, b, LANE_LIST(ZIP_3_2A)), c, LANE_LIST(ZIP_3_2B));
}

/* Transpose a LANES x LANES block in place. Interleaving the two halves of the rows moves the top bit of the
 * row index to the bottom of the lane index; after log2(LANES) rounds rows and lanes have changed places. */
FDL_INLINE void vtranspose(vreal row[LANES])
{
    vreal next[LANES];
    FDL_UNROLL
    for (int round = 1; round < LANES; round *= 2) {
        FDL_UNROLL
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = vzip_low(row[i], row[i + LANES / 2]);
            next[2 * i + 1] = vzip_high(row[i], row[i + LANES / 2]);
        }
        FDL_UNROLL
        for (int i = 0; i < LANES; i++)
            row[i] = next[i];
    }
}

/* LANES rows of LANES elements, `stride` apart, transposed: out[l] has element l of each. */
#ifndef vload_transposed
FDL_INLINE void vload_transposed(const real *from, int64_t stride, vreal out[LANES])
{
    FDL_UNROLL
    for (int i = 0; i < LANES; i++)
        out[i] = vload(from + i * stride);
    vtranspose(out);
}
#endif

/* The sum over the lanes of row[l] in lane l, pairwise. In each round two rows become one, which has the sums of lanes
 * of the first where `bit` of the lane's number is 0, of the second where it is 1. */
FDL_INLINE vreal vsum_each(vreal row[LANES])
{
#define FDL_ROUND(bit)                                                                                                 \
    FDL_UNROLL                                                                                                         \
    for (int i = 0; i < (bit); i++)                                                                                    \
        row[i] = __builtin_shufflevector(row[i], row[i + (bit)], LANE_LIST(OWN_##bit)) +                               \
                 __builtin_shufflevector(row[i], row[i + (bit)], LANE_LIST(OTHER_##bit));
#if VECTOR_BYTES / REAL_BYTES >= 16
    FDL_ROUND(8)
#endif
#if VECTOR_BYTES / REAL_BYTES >= 8
    FDL_ROUND(4)
#endif
#if VECTOR_BYTES / REAL_BYTES >= 4
    FDL_ROUND(2)
#endif
    FDL_ROUND(1)
#undef FDL_ROUND
    return row[0];
}

/* Sum and maximum over the lanes, pairwise; whether NaN survives the maximum is left open. */
#define FDL_FOLD_LANES(type, v, combine)                                                                               \
    type lane[LANES];                                                                                                  \
    FDL_UNROLL                                                                                                         \
    for (int i = 0; i < LANES; i++)                                                                                    \
        lane[i] = (type)(v)[i];                                                                                        \
    FDL_UNROLL                                                                                                         \
    for (int half = LANES / 2; half > 0; half /= 2) {                                                                  \
        FDL_UNROLL                                                                                                     \
        for (int i = 0; i < half; i++)                                                                                 \
            lane[i] = combine(lane[i], lane[i + half]);                                                                \
    }                                                                                                                  \
    return lane[0]
#define FDL_ADD(a, b) ((a) + (b))
FDL_INLINE real vsum(vreal v) { FDL_FOLD_LANES(real, v, FDL_ADD); }
/* The same sum, of the same pairs, in double. */
#ifndef vsum_double
FDL_INLINE double vsum_double(vreal v) { FDL_FOLD_LANES(double, v, FDL_ADD); }
#endif
/* v with the same in all lanes: of each lane and the one whose number differs in a bit, what `combine` makes. */
#define FDL_BUTTERFLY(v, combine, bit) v = combine(v, __builtin_shufflevector(v, v, LANE_LIST(OTHER_##bit)))
#if VECTOR_BYTES / REAL_BYTES == 16
#define FDL_BUTTERFLIES(v, combine)                                                                                    \
    FDL_BUTTERFLY(v, combine, 8), FDL_BUTTERFLY(v, combine, 4), FDL_BUTTERFLY(v, combine, 2),                          \
        FDL_BUTTERFLY(v, combine, 1)
#elif VECTOR_BYTES / REAL_BYTES == 8
#define FDL_BUTTERFLIES(v, combine)                                                                                    \
    FDL_BUTTERFLY(v, combine, 4), FDL_BUTTERFLY(v, combine, 2), FDL_BUTTERFLY(v, combine, 1)
#elif VECTOR_BYTES / REAL_BYTES == 4
#define FDL_BUTTERFLIES(v, combine) FDL_BUTTERFLY(v, combine, 2), FDL_BUTTERFLY(v, combine, 1)
#else
#define FDL_BUTTERFLIES(v, combine) FDL_BUTTERFLY(v, combine, 1)
#endif
FDL_INLINE real vmax_lane(vreal v)
{
    FDL_BUTTERFLIES(v, vmax);
    return v[0];
}
FDL_INLINE vint vmin_int(vint a, vint b) { return vselect_int(a < b, a, b); }
FDL_INLINE integer vmin_lane_int(vint v)
{
    FDL_BUTTERFLIES(v, vmin_int);
    return v[0];
}

#endif
