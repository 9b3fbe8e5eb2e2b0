/* `real`, integers as wide, vectors of them, and what the language itself does with these.
 *
 * Included by the file of an instruction set, which has said how large a vector is (VECTOR_BYTES) and how many there
 * are (VECTOR_REGISTERS). */
#ifndef FASTDL_TYPES_H
#define FASTDL_TYPES_H

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
#define REAL_BYTES 4 /* for the preprocessor */
typedef float real;
typedef int32_t integer;
typedef uint32_t natural;
#define FDL_NAME(name) FDL_PASTE2(name, _f32, FDL_LEVEL)
#else
#define REAL_BYTES 8
typedef double real;
typedef int64_t integer;
typedef uint64_t natural;
#define FDL_NAME(name) FDL_PASTE2(name, _f64, FDL_LEVEL)
#endif

/* Every kernel's name gets its dtype and level: fdl_relu is fdl_relu_f32_v3 from here on. */
#include "names.h"
#include "fastdl.h"

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
/* A function of its own: inlined wherever it is used, what it holds would be a good part of the library, and of the time
 * that it takes to compile. */
#define FDL_OUTLINE __attribute__((noinline, unused))
/* What is large, and inlined in many places; FDL_SMALL: a level where size comes before speed. */
#if defined(FDL_SMALL)
#define FDL_INLINE_LARGE static FDL_OUTLINE
#else
#define FDL_SMALL 0
#define FDL_INLINE_LARGE FDL_INLINE
#endif
/* Before a loop of few turns, constant once it is inlined: unroll it. (Clang does not know GCC's pragma.) */
#if defined(__clang__)
#define FDL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FDL_UNROLL _Pragma("GCC unroll 32")
#endif

FDL_INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
FDL_INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
FDL_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

FDL_INLINE vreal vload(const real *p) { return *(const vreal_unaligned *)p; }
FDL_INLINE void vstore(real *p, vreal v) { *(vreal_unaligned *)p = v; }
FDL_INLINE vreal vset1(real x) { return x - (vreal){0}; } /* x - 0 is x for every x, -0 and NaN included */
FDL_INLINE vint vset1_int(integer x) { return x - (vint){0}; }

#endif
