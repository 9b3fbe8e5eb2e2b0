/* Vectors of `real` for the level being compiled: GCC/Clang vector extensions (+ - * / and comparisons are
 * the language's own) plus the verbs that they lack. The only file with intrinsics.
 *
 *   vreal    LANES values of real            vint, vuint   LANES integers of the same width
 * Helpers are static inline on purpose: a shared out-of-line copy would leak one level's instructions
 * into another. */
#ifndef FASTDL_SIMD_H
#define FASTDL_SIMD_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "runtime/core.h"

#define FDL_PASTE(a, b, c) a##b##_##c
#define FDL_PASTE2(a, b, c) FDL_PASTE(a, b, c)
#define FDL_TEXT(a) #a
#define FDL_TEXT2(a) FDL_TEXT(a)

#if defined(FDL_f32)
typedef float real;
typedef int32_t integer;
typedef uint32_t natural;
#define FDL_NAME(name) FDL_PASTE2(name, _f32, FDL_LEVEL)
#else
typedef double real;
typedef int64_t integer;
typedef uint64_t natural;
#define FDL_NAME(name) FDL_PASTE2(name, _f64, FDL_LEVEL)
#endif

/* Every kernel's name gets its dtype and level: fdl_relu is fdl_relu_f32_v3 from here on. */
#include "names.h"
#include "fastdl.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define VECTOR_REGISTERS 32
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#define VECTOR_REGISTERS 16
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define VECTOR_REGISTERS 32
#else
#define VECTOR_BYTES 16
#define VECTOR_REGISTERS 16
#endif

enum { LANES = VECTOR_BYTES / (int)sizeof(real) };
typedef real vreal __attribute__((vector_size(VECTOR_BYTES)));
typedef integer vint __attribute__((vector_size(VECTOR_BYTES)));
typedef natural vuint __attribute__((vector_size(VECTOR_BYTES)));
typedef real vreal_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

/* Lanes of 64 bits, whatever `real` is: of integers, and of doubles. */
enum { WIDE_LANES = VECTOR_BYTES / 8 };
typedef uint64_t vwide __attribute__((vector_size(VECTOR_BYTES)));
typedef double vdouble __attribute__((vector_size(VECTOR_BYTES)));

#define FDL_INLINE static inline __attribute__((always_inline, unused))
#define FDL_UNROLL _Pragma("GCC unroll 32")

FDL_INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
FDL_INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
FDL_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

FDL_INLINE vreal vload(const real *p) { return *(const vreal_unaligned *)p; }
FDL_INLINE void vstore(real *p, vreal v) { *(vreal_unaligned *)p = v; }
FDL_INLINE vreal vset1(real x) { return x - (vreal){0}; } /* x - 0 is x for every x, -0 and NaN included */
/* WIDE_LANES elements, as doubles. */
FDL_INLINE vdouble vload_double(const real *p)
{
    typedef real narrow __attribute__((vector_size(WIDE_LANES * sizeof(real)), aligned(sizeof(real)), may_alias));
    return __builtin_convertvector(*(const narrow *)p, vdouble);
}
/* A store past the caches, to aligned memory; and what has to follow the last one, before another thread looks. */
FDL_INLINE void vstream(real *p, vreal v)
{
#if defined(__AVX512F__)
    _mm512_stream_si512((__m512i *)(void *)p, (__m512i)v);
#elif defined(__AVX2__)
    _mm256_stream_si256((__m256i *)(void *)p, (__m256i)v);
#elif defined(__x86_64__)
    _mm_stream_si128((__m128i *)(void *)p, (__m128i)v);
#else
    vstore(p, v);
#endif
}
FDL_INLINE void vstream_end(void)
{
#if defined(__x86_64__)
    _mm_sfence();
#endif
}
/* v, held in a register: GCC would otherwise load it anew for every use. */
FDL_INLINE vreal vkeep(vreal v)
{
#if defined(__x86_64__)
    __asm__("" : "+v"(v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(v));
#endif
    return v;
}
FDL_INLINE vint vset1_int(integer x) { return x - (vint){0}; }

/* The full products of the lower 32 bits of each 64-bit lane. */
FDL_INLINE vwide vmultiply_low(vwide a, vwide b)
{
#if defined(__AVX512F__)
    return (vwide)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (vwide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
    return (vwide)_mm_mul_epu32((__m128i)a, (__m128i)b);
#elif defined(__aarch64__)
    return (vwide)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#else
    return (a & UINT32_MAX) * (b & UINT32_MAX);
#endif
}

/* mask ? a : b, for a mask of all-ones and all-zeros lanes, as comparisons give. */
FDL_INLINE vreal vselect(vint mask, vreal a, vreal b)
{
#if defined(__AVX512F__) && defined(FDL_f32)
    return _mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)mask), b, a);
#elif defined(__AVX512F__)
    return _mm512_mask_blend_pd(_mm512_movepi64_mask((__m512i)mask), b, a);
#else
    return (vreal)(((vint)a & mask) | ((vint)b & ~mask));
#endif
}
FDL_INLINE vint vselect_int(vint mask, vint a, vint b) { return (a & mask) | (b & ~mask); }

/* The x86 intrinsic of this level and dtype: FDL_X86(max) is _mm512_max_ps, ... */
#if defined(__AVX512F__) && defined(FDL_f32)
#define FDL_X86(verb) _mm512_##verb##_ps
#elif defined(__AVX512F__)
#define FDL_X86(verb) _mm512_##verb##_pd
#elif defined(__AVX2__) && defined(FDL_f32)
#define FDL_X86(verb) _mm256_##verb##_ps
#elif defined(__AVX2__)
#define FDL_X86(verb) _mm256_##verb##_pd
#elif defined(__x86_64__) && defined(FDL_f32)
#define FDL_X86(verb) _mm_##verb##_ps
#elif defined(__x86_64__)
#define FDL_X86(verb) _mm_##verb##_pd
#endif

/* The larger and the smaller; b where either is NaN. */
#if defined(FDL_X86)
FDL_INLINE vreal vmax(vreal a, vreal b) { return FDL_X86(max)(a, b); }
FDL_INLINE vreal vmin(vreal a, vreal b) { return FDL_X86(min)(a, b); }
#else
FDL_INLINE vreal vmax(vreal a, vreal b) { return vselect(a > b, a, b); }
FDL_INLINE vreal vmin(vreal a, vreal b) { return vselect(a < b, a, b); }
#endif
/* The square root, rounded once; NaN below 0. */
FDL_INLINE vreal vsqrt(vreal x)
{
#if defined(FDL_X86)
    return FDL_X86(sqrt)(x);
#else
    for (int i = 0; i < LANES; i++)
        x[i] = sizeof(real) == 4 ? (real)__builtin_sqrtf((float)x[i]) : (real)__builtin_sqrt((double)x[i]);
    return x;
#endif
}
/* The larger, b of equals; NaN where either is NaN. */
FDL_INLINE vreal vmax_nan(vreal a, vreal b) { return vselect(a != a, a, vmax(a, b)); }

/* Adding this to |x| < 2^22 (float), 2^51 (double) leaves the nearest integer, ties to even, in the low bits. */
#define FDL_ROUNDER (sizeof(real) == 4 ? (real)0x1.8p23 : (real)0x1.8p52)
FDL_INLINE vreal vround(vreal x) { return x + FDL_ROUNDER - FDL_ROUNDER; }

enum { FDL_MANTISSA = sizeof(real) == 4 ? 23 : 52, FDL_BIAS = sizeof(real) == 4 ? 127 : 1023 };
FDL_INLINE vuint vsign_bit(vreal x) { return (vuint)x & ((natural)1 << (8 * sizeof(real) - 1)); }
FDL_INLINE vreal vabs(vreal x) { return (vreal)((vuint)x & ~((natural)1 << (8 * sizeof(real) - 1))); }
/* y with the sign of x, where y is positive or has it already. */
FDL_INLINE vreal vwith_sign(vreal y, vreal x) { return (vreal)((vuint)y | vsign_bit(x)); }

/* a b = what is returned + *low, to twice the digits. */
FDL_INLINE vreal vproduct(vreal a, vreal b, vreal *low)
{
#if defined(__AVX512F__) || defined(__FMA__)
    const vreal product = a * b;
    *low = FDL_X86(fmsub)(a, b, product);
    return product;
#else /* Dekker 1971, "A floating-point technique for extending the available precision" */
    const real split = (real)((natural)1 << (FDL_MANTISSA / 2 + 1)) + 1;
    const vreal a_high = a * split - (a * split - a), a_low = a - a_high;
    const vreal b_high = b * split - (b * split - b), b_low = b - b_high;
    const vreal product = a * b;
    *low = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low);
    return product;
#endif
}

/* v 2^n, rounded once: v is normal and n integral, within twice the range of exponents; NaN stays NaN. */
FDL_INLINE vreal vldexp(vreal v, vreal n)
{
#if defined(__AVX512F__)
    return FDL_X86(scalef)(v, n);
#else
    /* In two steps, because 2^n alone may be out of range where v 2^n is not; the first is exact. */
    const vuint both = (vuint)(n + FDL_ROUNDER) - (vuint)vset1(FDL_ROUNDER) + 2 * FDL_BIAS, half = both >> 1;
    return v * (vreal)(half << FDL_MANTISSA) * (vreal)((both - half) << FDL_MANTISSA);
#endif
}

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
FDL_INLINE vreal vfrexp(vreal x, vreal *k)
{
#if defined(__AVX512F__)
    const vreal m = FDL_X86(getmant)(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
    *k = FDL_X86(getexp)(x) - FDL_X86(getexp)(m);
    return m;
#else
    const real two_mantissa = (real)((natural)1 << FDL_MANTISSA);
    const vint subnormal = x < (sizeof(real) == 4 ? (real)0x1p-126 : (real)0x1p-1022);
    x = vselect(subnormal, x * two_mantissa, x);
    /* Half a mantissa more carries into the exponent from 1.5 on. */
    const vuint biased = ((vuint)x + ((natural)1 << (FDL_MANTISSA - 1))) >> FDL_MANTISSA;
    *k = (vreal)(biased | (vuint)vset1(two_mantissa)) - (two_mantissa + FDL_BIAS) -
         vselect(subnormal, vset1(FDL_MANTISSA), (vreal){0});
    return (vreal)((vuint)x - ((biased - FDL_BIAS) << FDL_MANTISSA));
#endif
}

/* y, but where log x is not a number of the ordinary kind, that: -inf at 0, NaN below, inf at inf, NaN at NaN. */
FDL_INLINE vreal vlog_edges(vreal y, vreal x)
{
#if defined(__AVX512F__) && defined(FDL_f32)
    return _mm512_fixupimm_ps(y, x, _mm512_set1_epi32(0x03530422), 0); /* a digit for each class of x */
#elif defined(__AVX512F__)
    return _mm512_fixupimm_pd(y, x, _mm512_set1_epi64(0x03530422), 0);
#else
    const vreal infinity = vset1((real)INFINITY);
    y = vselect(x > 0, y, vselect(x == 0, -infinity, vset1((real)NAN)));
    return vselect(x == infinity, infinity, y);
#endif
}

/* table[index], of the index its lowest 4 bits: only where one instruction does it. */
#if defined(__AVX512F__) && defined(FDL_f32)
#define FDL_LOOKUP 16
FDL_INLINE vreal vlookup(const real table[FDL_LOOKUP], vuint index)
{
    return _mm512_permutexvar_ps((__m512i)index, vload(table));
}
#endif

/* Masked verbs: lanes [first, last) are accessed, no byte outside them is; the others load as 0. */
#if defined(__AVX512F__) && defined(FDL_f32)
typedef __mmask16 vmask;
FDL_INLINE vmask vmask_range(int64_t first, int64_t last)
{
    return (vmask)(((1u << last) - 1u) & ~((1u << first) - 1u));
}
FDL_INLINE vreal vload_masked(const real *p, vmask m) { return (vreal)_mm512_maskz_loadu_ps(m, p); }
FDL_INLINE void vstore_masked(real *p, vreal v, vmask m) { _mm512_mask_storeu_ps(p, m, (__m512)v); }
#elif defined(__AVX512F__)
typedef __mmask8 vmask;
FDL_INLINE vmask vmask_range(int64_t first, int64_t last)
{
    return (vmask)(((1u << last) - 1u) & ~((1u << first) - 1u));
}
FDL_INLINE vreal vload_masked(const real *p, vmask m) { return (vreal)_mm512_maskz_loadu_pd(m, p); }
FDL_INLINE void vstore_masked(real *p, vreal v, vmask m) { _mm512_mask_storeu_pd(p, m, (__m512d)v); }
#elif defined(__AVX2__)
typedef vint vmask;
FDL_INLINE vmask vmask_range(int64_t first, int64_t last)
{
#if defined(FDL_f32)
    const vint lane = {0, 1, 2, 3, 4, 5, 6, 7};
#else
    const vint lane = {0, 1, 2, 3};
#endif
    return (lane >= vset1_int((integer)first)) & (lane < vset1_int((integer)last));
}
#if defined(FDL_f32)
FDL_INLINE vreal vload_masked(const real *p, vmask m) { return (vreal)_mm256_maskload_ps(p, (__m256i)m); }
FDL_INLINE void vstore_masked(real *p, vreal v, vmask m) { _mm256_maskstore_ps(p, (__m256i)m, (__m256)v); }
#else
FDL_INLINE vreal vload_masked(const real *p, vmask m) { return (vreal)_mm256_maskload_pd(p, (__m256i)m); }
FDL_INLINE void vstore_masked(real *p, vreal v, vmask m) { _mm256_maskstore_pd(p, (__m256i)m, (__m256d)v); }
#endif
#else /* no masked instructions: lane by lane */
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
/* The first n lanes, with `other` in the rest. */
FDL_INLINE vreal vfirst_or(vreal v, int64_t n, vreal other)
{
    vint lane;
    for (int i = 0; i < LANES; i++)
        lane[i] = i;
    return vselect(lane < vset1_int((integer)n), v, other);
}
FDL_INLINE vreal vload_first_or(const real *p, int64_t n, vreal other)
{
    return vfirst_or(vload_first(p, n), n, other);
}

/* Whether any lane of a mask is set. */
FDL_INLINE bool vany(vint mask)
{
#if defined(__AVX512F__) && defined(FDL_f32)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX512F__)
    return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(FDL_X86)
    return FDL_X86(movemask)((vreal)mask) != 0;
#else
    integer any = 0;
    FDL_UNROLL
    for (int i = 0; i < LANES; i++)
        any |= mask[i];
    return any != 0;
#endif
}

/* Shuffles of the concatenation (a, b). The builtin (GCC 12, Clang) wants as many literal indices as lanes. */
#if defined(__AVX512F__) && defined(FDL_f32)
#define FDL_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define FDL_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define FDL_ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FDL_ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define FDL_THIRDA 0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0
#define FDL_THIRDB 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29
#define FDL_ZIP_3_0A 0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5
#define FDL_ZIP_3_0B 0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15
#define FDL_ZIP_3_1A 21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26
#define FDL_ZIP_3_1B 0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15
#define FDL_ZIP_3_2A 0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0
#define FDL_ZIP_3_2B 26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31
#elif defined(__AVX512F__) || (defined(__AVX2__) && defined(FDL_f32))
#define FDL_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define FDL_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define FDL_ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define FDL_ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define FDL_THIRDA 0, 3, 6, 9, 12, 15, 0, 0
#define FDL_THIRDB 0, 1, 2, 3, 4, 5, 10, 13
#define FDL_ZIP_3_0A 0, 8, 0, 1, 9, 0, 2, 10
#define FDL_ZIP_3_0B 0, 1, 8, 3, 4, 9, 6, 7
#define FDL_ZIP_3_1A 0, 3, 11, 0, 4, 12, 0, 5
#define FDL_ZIP_3_1B 10, 1, 2, 11, 4, 5, 12, 7
#define FDL_ZIP_3_2A 13, 0, 6, 14, 0, 7, 15, 0
#define FDL_ZIP_3_2B 0, 13, 2, 3, 14, 5, 6, 15
#elif defined(__AVX2__) || defined(FDL_f32)
#define FDL_EVEN 0, 2, 4, 6
#define FDL_ODD 1, 3, 5, 7
#define FDL_ZIP_LOW 0, 4, 1, 5
#define FDL_ZIP_HIGH 2, 6, 3, 7
#define FDL_THIRDA 0, 3, 6, 0
#define FDL_THIRDB 0, 1, 2, 5
#define FDL_ZIP_3_0A 0, 4, 0, 1
#define FDL_ZIP_3_0B 0, 1, 4, 3
#define FDL_ZIP_3_1A 5, 0, 2, 6
#define FDL_ZIP_3_1B 0, 5, 2, 3
#define FDL_ZIP_3_2A 0, 3, 7, 0
#define FDL_ZIP_3_2B 6, 1, 2, 7
#else
#define FDL_EVEN 0, 2
#define FDL_ODD 1, 3
#define FDL_ZIP_LOW 0, 2
#define FDL_ZIP_HIGH 1, 3
#define FDL_THIRDA 0, 3
#define FDL_THIRDB 0, 1
#define FDL_ZIP_3_0A 0, 2
#define FDL_ZIP_3_0B 0, 1
#define FDL_ZIP_3_1A 0, 1
#define FDL_ZIP_3_1B 2, 1
#define FDL_ZIP_3_2A 3, 0
#define FDL_ZIP_3_2B 0, 3
#endif
/* Lanes 0, 2, 4, ... and 1, 3, 5, ... */
FDL_INLINE vreal veven(vreal a, vreal b) { return __builtin_shufflevector(a, b, FDL_EVEN); }
FDL_INLINE vreal vodd(vreal a, vreal b) { return __builtin_shufflevector(a, b, FDL_ODD); }
/* a0 b0 a1 b1 ..., from the lower and from the upper halves. */
FDL_INLINE vreal vzip_low(vreal a, vreal b) { return __builtin_shufflevector(a, b, FDL_ZIP_LOW); }
FDL_INLINE vreal vzip_high(vreal a, vreal b) { return __builtin_shufflevector(a, b, FDL_ZIP_HIGH); }
/* Every third lane of a, b, c end to end, and their lanes in turn. */
FDL_INLINE vreal vthird(vreal a, vreal b, vreal c)
{
    return __builtin_shufflevector(__builtin_shufflevector(a, b, FDL_THIRDA), c, FDL_THIRDB);
}
FDL_INLINE void vzip_3(vreal a, vreal b, vreal c, vreal out[3])
{
    out[0] = __builtin_shufflevector(__builtin_shufflevector(a, b, FDL_ZIP_3_0A), c, FDL_ZIP_3_0B);
    out[1] = __builtin_shufflevector(__builtin_shufflevector(a, b, FDL_ZIP_3_1A), c, FDL_ZIP_3_1B);
    out[2] = __builtin_shufflevector(__builtin_shufflevector(a, b, FDL_ZIP_3_2A), c, FDL_ZIP_3_2B);
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
#define FDL_LARGER(a, b) ((a) > (b) ? (a) : (b))
FDL_INLINE real vsum(vreal v) { FDL_FOLD_LANES(real, v, FDL_ADD); }
#if defined(FDL_f32) && VECTOR_BYTES > 16
/* The same sum, of the same pairs: both halves made double, added, and folded as one vector. */
#if defined(__AVX512F__)
FDL_INLINE double vsum_double(vreal v)
{
    /* Intrinsics, as GCC makes a vector of 8 floats double in two steps. */
    const __m256 low = _mm512_castps512_ps256((__m512)v), high = _mm512_extractf32x8_ps((__m512)v, 1);
    return _mm512_reduce_add_pd(_mm512_cvtps_pd(low) + _mm512_cvtps_pd(high));
}
#else
#define FDL_LOW 0, 1, 2, 3
#define FDL_HIGH 4, 5, 6, 7
FDL_INLINE double vsum_double(vreal v)
{
    const vdouble both = __builtin_convertvector(__builtin_shufflevector(v, v, FDL_LOW), vdouble) +
                         __builtin_convertvector(__builtin_shufflevector(v, v, FDL_HIGH), vdouble);
    return (both[0] + both[2]) + (both[1] + both[3]);
}
#endif
#else
FDL_INLINE double vsum_double(vreal v) { FDL_FOLD_LANES(double, v, FDL_ADD); }
#endif
FDL_INLINE real vmax_lane(vreal v) { FDL_FOLD_LANES(real, v, FDL_LARGER); }

#endif
