/* x86-64-v4: AVX-512 F, BW, CD, DQ, VL. */
#define VECTOR_BYTES 64
#define VECTOR_REGISTERS 32
#define FDL_MASKS_ARE_FREE /* a masked access takes no longer than another */

#include <immintrin.h>

#include "vector/types.h"

#if defined(FDL_f32)
#define FDL_X86(verb) _mm512_##verb##_ps
#else
#define FDL_X86(verb) _mm512_##verb##_pd
#endif
/* Pieces of 16 bytes, `step` elements apart, as one vector. */
#if defined(FDL_f32)
#define FDL_DOUBLES(v) ((__m512d)(v))
#define FDL_INSERT(v, p, i) _mm512_insertf32x4(v, _mm_loadu_ps(p), i)
#define FDL_PIECES(p, step)                                                                                            \
    FDL_INSERT(FDL_INSERT(FDL_INSERT(_mm512_castps128_ps512(_mm_loadu_ps(p)), (p) + (step), 1), (p) + 2 * (step), 2),  \
               (p) + 3 * (step), 3)
#else
#define FDL_INSERT(v, p, i) _mm512_insertf64x2(v, _mm_loadu_pd(p), i)
#define FDL_PIECES(p, step)                                                                                            \
    FDL_INSERT(FDL_INSERT(FDL_INSERT(_mm512_castpd128_pd512(_mm_loadu_pd(p)), (p) + (step), 1), (p) + 2 * (step), 2),  \
               (p) + 3 * (step), 3)
#endif
#define FDL_UNPACK(half, a, b) _mm512_unpack##half##_pd(a, b)
#include "vector/x86.h"

FDL_INLINE void vstream(real *p, vreal v) { _mm512_stream_si512((__m512i *)(void *)p, (__m512i)v); }
#define vstream vstream

FDL_INLINE vwide vmultiply_low(vwide a, vwide b) { return (vwide)_mm512_mul_epu32((__m512i)a, (__m512i)b); }
#define vmultiply_low vmultiply_low

FDL_INLINE vint vload_bools(const uint8_t *p)
{
#if defined(FDL_f32)
    return (vint)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)) != 0;
#else
    return (vint)_mm512_cvtepu8_epi64(_mm_loadu_si64(p)) != 0;
#endif
}
#define vload_bools vload_bools

FDL_INLINE vreal vselect(vint mask, vreal a, vreal b)
{
#if defined(FDL_f32)
    return _mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)mask), b, a);
#else
    return _mm512_mask_blend_pd(_mm512_movepi64_mask((__m512i)mask), b, a);
#endif
}
#define vselect vselect

/* GCC makes vectors of masks, and masks of those again. */
FDL_INLINE void vtake_later(vreal *best, vint *at, vreal v, vint place)
{
#if defined(FDL_f32)
    const __mmask16 won = _mm512_cmp_ps_mask(v, *best, _CMP_GT_OQ) | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    *best = _mm512_mask_mov_ps(*best, won, v);
    *at = (vint)_mm512_mask_mov_epi32((__m512i)*at, won, (__m512i)place);
#else
    const __mmask8 won = _mm512_cmp_pd_mask(v, *best, _CMP_GT_OQ) | _mm512_cmp_pd_mask(v, v, _CMP_UNORD_Q);
    *best = _mm512_mask_mov_pd(*best, won, v);
    *at = (vint)_mm512_mask_mov_epi64((__m512i)*at, won, (__m512i)place);
#endif
}
#define vtake_later vtake_later

/* GCC converts halves, and puts them together. */
FDL_INLINE vdouble vload_double(const real *p)
{
#if defined(FDL_f32)
    return (vdouble)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#else
    return (vdouble)_mm512_loadu_pd(p);
#endif
}
#define vload_double vload_double

FDL_INLINE vreal vldexp(vreal v, vreal n) { return FDL_X86(scalef)(v, n); }
#define vldexp vldexp

FDL_INLINE vreal vfrexp(vreal x, vreal *k)
{
    const vreal m = FDL_X86(getmant)(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
    *k = FDL_X86(getexp)(x) - FDL_X86(getexp)(m);
    return m;
}
#define vfrexp vfrexp

FDL_INLINE vreal vlog_edges(vreal y, vreal x)
{
#if defined(FDL_f32)
    return _mm512_fixupimm_ps(y, x, _mm512_set1_epi32(0x03530422), 0); /* a digit for each class of x */
#else
    return _mm512_fixupimm_pd(y, x, _mm512_set1_epi64(0x03530422), 0);
#endif
}
#define vlog_edges vlog_edges

#if defined(FDL_f32)
/* table[index], of the index its lowest 4 bits: only where one instruction does it. */
#define FDL_LOOKUP 16
FDL_INLINE vreal vlookup(const real table[FDL_LOOKUP], vuint index)
{
    return _mm512_permutexvar_ps((__m512i)index, vload(table));
}
typedef __mmask16 vmask;
#else
typedef __mmask8 vmask;
#endif

FDL_INLINE vmask vmask_range(int64_t first, int64_t last)
{
    return (vmask)(((1u << last) - 1u) & ~((1u << first) - 1u));
}
FDL_INLINE vreal vload_masked(const real *p, vmask m) { return (vreal)FDL_X86(maskz_loadu)(m, p); }
FDL_INLINE void vstore_masked(real *p, vreal v, vmask m) { FDL_X86(mask_storeu)(p, m, v); }
#define vmask_range vmask_range

typedef vmask vflags;
FDL_INLINE bool vnan_any(vflags seen) { return seen != 0; }
/* vbits_equal: lanes in which a is b as bits of a number, lane 0 the lowest; only where that is cheap. */
#define FDL_LANE_BITS 1
#if defined(FDL_f32)
FDL_INLINE uint64_t vbits_equal(vreal a, vreal b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
FDL_INLINE vflags vflags_of(vint mask) { return _mm512_movepi32_mask((__m512i)mask); }
FDL_INLINE vreal vwhere(vflags flags, vreal a, vreal b) { return (vreal)_mm512_mask_blend_ps(flags, b, a); }
FDL_INLINE vflags vnan_seen(vflags so_far, vreal a, vreal b) { return so_far | _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
#else
FDL_INLINE uint64_t vbits_equal(vreal a, vreal b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
FDL_INLINE vflags vflags_of(vint mask) { return _mm512_movepi64_mask((__m512i)mask); }
FDL_INLINE vreal vwhere(vflags flags, vreal a, vreal b) { return (vreal)_mm512_mask_blend_pd(flags, b, a); }
FDL_INLINE vflags vnan_seen(vflags so_far, vreal a, vreal b) { return so_far | _mm512_cmp_pd_mask(a, b, _CMP_UNORD_Q); }
#endif
#define vflags_of vflags_of

#if defined(FDL_f32)
FDL_INLINE vreal vpick(vreal v, vint lane) { return (vreal)_mm512_permutexvar_ps((__m512i)lane, (__m512)v); }
#define vpick vpick

/* Half a vector each from, or to, two places. */
FDL_INLINE vreal vload_halves(const real *a, const real *b)
{
    return (vreal)_mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(a)), _mm256_loadu_ps(b), 1);
}
FDL_INLINE void vstore_halves(real *a, real *b, vreal v)
{
    _mm256_storeu_ps(a, _mm512_castps512_ps256((__m512)v));
    _mm256_storeu_ps(b, _mm512_extractf32x8_ps((__m512)v, 1));
}
#endif

FDL_INLINE bool vany(vint mask)
{
#if defined(FDL_f32)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#else
    return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#endif
}
#define vany vany

#if defined(FDL_f32)
FDL_INLINE double vsum_double(vreal v)
{
    /* Intrinsics, as GCC makes a vector of 8 floats double in two steps. */
    const __m256 low = _mm512_castps512_ps256((__m512)v), high = _mm512_extractf32x8_ps((__m512)v, 1);
    return _mm512_reduce_add_pd(_mm512_cvtps_pd(low) + _mm512_cvtps_pd(high));
}
#define vsum_double vsum_double
#endif
