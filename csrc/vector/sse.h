/* x86-64-v2: SSE4.2. */
#define VECTOR_BYTES 16
#define VECTOR_REGISTERS 16

#include <immintrin.h>

#include "vector/types.h"

#if defined(FDL_f32)
#define FDL_X86(verb) _mm_##verb##_ps
#else
#define FDL_X86(verb) _mm_##verb##_pd
#endif
#include "vector/x86.h"

FDL_INLINE void vstream(real *p, vreal v) { _mm_stream_si128((__m128i *)(void *)p, (__m128i)v); }
#define vstream vstream

FDL_INLINE vwide vmultiply_low(vwide a, vwide b) { return (vwide)_mm_mul_epu32((__m128i)a, (__m128i)b); }
#define vmultiply_low vmultiply_low

FDL_INLINE bool vany(vint mask) { return FDL_X86(movemask)((vreal)mask) != 0; }
#define vany vany
