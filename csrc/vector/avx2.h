/* x86-64-v3: AVX2 and FMA. */
#define VECTOR_BYTES 32
#define VECTOR_REGISTERS 16

#include <immintrin.h>

#include "vector/types.h"

#if defined(FDL_f32)
#define FDL_X86(verb) _mm256_##verb##_ps
#else
#define FDL_X86(verb) _mm256_##verb##_pd
#endif
/* Pieces of 16 bytes, `step` elements apart, as one vector. */
#if defined(FDL_f32)
#define FDL_DOUBLES(v) ((__m256d)(v))
#define FDL_PIECES(p, step) _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps((p) + (step)), 1)
#else
#define FDL_PIECES(p, step) _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(p)), _mm_loadu_pd((p) + (step)), 1)
#endif
#define FDL_UNPACK(half, a, b) _mm256_unpack##half##_pd(a, b)
#include "vector/x86.h"

FDL_INLINE void vstream(real *p, vreal v) { _mm256_stream_si256((__m256i *)(void *)p, (__m256i)v); }
#define vstream vstream

FDL_INLINE vwide vmultiply_low(vwide a, vwide b) { return (vwide)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
#define vmultiply_low vmultiply_low

FDL_INLINE vint vload_bools(const uint8_t *p)
{
#if defined(FDL_f32)
    return (vint)_mm256_cvtepu8_epi32(_mm_loadu_si64(p)) != 0;
#else
    return (vint)_mm256_cvtepu8_epi64(_mm_loadu_si32(p)) != 0;
#endif
}
#define vload_bools vload_bools

/* Within 16 bytes, then across: one of the slow permutations, where lists of lanes make three. */
FDL_INLINE vreal vpieces_even(vreal a, vreal b)
{
#if defined(FDL_f32)
    return _mm256_shuffle_ps(a, b, 0x88);
#else
    return _mm256_unpacklo_pd(a, b);
#endif
}
FDL_INLINE vreal vpieces_odd(vreal a, vreal b)
{
#if defined(FDL_f32)
    return _mm256_shuffle_ps(a, b, 0xdd);
#else
    return _mm256_unpackhi_pd(a, b);
#endif
}
FDL_INLINE vreal veven(vreal a, vreal b) { return (vreal)_mm256_permute4x64_pd((__m256d)vpieces_even(a, b), 0xd8); }
FDL_INLINE vreal vodd(vreal a, vreal b) { return (vreal)_mm256_permute4x64_pd((__m256d)vpieces_odd(a, b), 0xd8); }
#define veven veven
FDL_INLINE void vload_even_odd(const real *p, vreal *even, vreal *odd)
{
    enum { PIECE = LANES / 2 };
    const vreal a = FDL_PIECES(p, LANES), b = FDL_PIECES(p + PIECE, LANES);
    *even = vpieces_even(a, b), *odd = vpieces_odd(a, b);
}
#define vload_even_odd vload_even_odd

#if defined(FDL_f32)
FDL_INLINE vreal vpick(vreal v, vint lane) { return (vreal)_mm256_permutevar8x32_ps((__m256)v, (__m256i)lane); }
#define vpick vpick
#endif

FDL_INLINE vint vunordered(vreal a, vreal b) { return (vint)FDL_X86(cmp)(a, b, _CMP_UNORD_Q); }
#define vunordered vunordered

#define FDL_LANE_BITS 1
FDL_INLINE uint64_t vbits_equal(vreal a, vreal b)
{
    return (uint64_t)FDL_X86(movemask)(FDL_X86(cmp)(a, b, _CMP_EQ_OQ));
}

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
FDL_INLINE vreal vload_masked(const real *p, vmask m) { return (vreal)FDL_X86(maskload)(p, (__m256i)m); }
FDL_INLINE void vstore_masked(real *p, vreal v, vmask m) { FDL_X86(maskstore)(p, (__m256i)m, v); }
#define vmask_range vmask_range

FDL_INLINE bool vany(vint mask) { return FDL_X86(movemask)((vreal)mask) != 0; }
#define vany vany

#if defined(FDL_f32)
FDL_INLINE double vsum_double(vreal v)
{
    const vdouble both = __builtin_convertvector(__builtin_shufflevector(v, v, 0, 1, 2, 3), vdouble) +
                         __builtin_convertvector(__builtin_shufflevector(v, v, 4, 5, 6, 7), vdouble);
    return (both[0] + both[2]) + (both[1] + both[3]);
}
#define vsum_double vsum_double
#endif
