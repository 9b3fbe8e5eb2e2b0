/* x^y of vectors, as C's pow at all edges; that of float through double:
 *
 *   |x|^y = 2^(y log2 |x|),   log2(2^k (1 + f)) = k + 2 artanh(s) / ln 2,   s = f / (2 + f),   -0.25 <= f < 0.5
 *
 * whose exponent is then off by less than 2^-29, so that results are those of a rounding, or next to them. That of
 * double is C's. */
#ifndef FASTDL_POW_H
#define FASTDL_POW_H

#include "vector/vmath.h"

#include <math.h>

#if defined(FDL_f32)
FDL_INLINE vdouble vset1_double(double x) { return x - (vdouble){0}; }

/* As vpolynomial. */
FDL_POLYNOMIAL(vpolynomial_double_in, vdouble)
FDL_INLINE vdouble vpolynomial_double(const double *c, int terms, vdouble x)
{
    vdouble all[16];
    FDL_UNROLL
    for (int i = 0; i < terms; i++)
        all[i] = vset1_double(c[i]);
    return vpolynomial_double_in(all, terms, x);
}

/* log2 x of x > 0, subnormal floats included; anything of 0, infinity and NaN. */
FDL_INLINE vdouble vlog2_double(vdouble x)
{
    static const double c[] = {0x1.71547652b82fep+1, 0x1.ec709dc3a03fdp-1, 0x1.2776c50ef9bfep-1, 0x1.a61762a7aded9p-2,
                               0x1.484b13d7c02a9p-2, 0x1.0c9a84994022dp-2, 0x1.c68f568d3176p-3};
    /* Half a mantissa more carries into the exponent from 1.5 on. */
    const vwide biased = ((vwide)x + (UINT64_C(1) << 51)) >> 52;
    const vdouble k = (vdouble)(biased | (vwide)vset1_double(0x1p52)) - (0x1p52 + 1023);
    const vdouble f = (vdouble)((vwide)x - ((biased - 1023) << 52)) - 1, s = f / (2 + f);
    return k + s * vpolynomial_double(c, FDL_TERMS(c), s * s);
}

/* 2^t, |t| < 1000. */
FDL_INLINE vdouble vexp2_double(vdouble t)
{
    static const double c[] = {0x1p+0,
                               0x1.62e42fefa39efp-1,
                               0x1.ebfbdff82c58fp-3,
                               0x1.c6b08d704a0cp-5,
                               0x1.3b2ab6fba4e77p-7,
                               0x1.5d87fe78a6731p-10,
                               0x1.430912f86c787p-13,
                               0x1.ffcbfc588b0c7p-17,
                               0x1.62c0223a5c824p-20};
    const double rounder = 0x1.8p52;
    const vdouble sum = t + rounder, r = t - (sum - rounder);
    return (vdouble)((vwide)vpolynomial_double(c, FDL_TERMS(c), r) + ((vwide)sum << 52));
}

/* Where x is not positive, or x or y is not finite; v is right elsewhere. */
static FDL_OUTLINE vreal vpow_edges(vreal v, vreal x, vreal y)
{
    const vreal infinity = vset1((real)INFINITY), zero = {0}, one = vset1(1), size = vabs(x), much = vabs(y);
    v = vselect((size == zero) | (size == infinity), vselect((size == infinity) == (y > 0), infinity, zero), v);
    v = vselect(much == infinity, vselect((size > one) == (y > 0), infinity, zero), v);
    v = vselect((size == one) & (much == infinity), one, v);
    /* Of negative x y has to be an integer, and an odd one keeps the sign. All from 2^24 on are even. */
    const vint whole = __builtin_convertvector(y, vint), far = much >= (real)0x1p24;
    const vint is_whole = __builtin_convertvector(whole, vreal) == y;
    v = vselect(((vint)vsign_bit(x) != 0) & is_whole & ((whole & 1) != 0) & ~far, -v, v);
    v = vselect((x < zero) & (size != infinity) & ~(far | is_whole), vset1((real)NAN), v);
    v = vselect((x != x) | (y != y), x + y, v);
    return vselect((x == one) | (y == zero), one, v);
}

FDL_INLINE_LARGE vreal vpow(vreal x, vreal y)
{
    enum { HALVES = LANES / WIDE_LANES };
    const vreal size = vabs(x);
    const double most = 400; /* beyond, all floats are infinite or 0 */
    real xs[LANES], ys[LANES];
    vdouble t[HALVES];
    vwide far = {0};
    vstore(xs, size);
    vstore(ys, y);
    FDL_UNROLL
    for (int i = 0; i < HALVES; i++) {
        t[i] = vload_double(ys + i * WIDE_LANES) * vlog2_double(vload_double(xs + i * WIDE_LANES));
        far |= ~(vwide)((vdouble)((vwide)t[i] & INT64_MAX) < most);
    }
    if (vany((vint)far)) {
        FDL_UNROLL
        for (int i = 0; i < HALVES; i++) {
            const vwide high = (vwide)(t[i] > most), low = (vwide)(t[i] < -most), either = high | low;
            t[i] = (vdouble)(((vwide)vset1_double(most) & high) | ((vwide)vset1_double(-most) & low) |
                             ((vwide)t[i] & ~either));
        }
    }
    FDL_UNROLL
    for (int i = 0; i < HALVES; i++)
        vstore_double(xs + i * WIDE_LANES, vexp2_double(t[i]));
    const vreal v = vload(xs);
    /* Positive and finite numbers are those whose bits, less 1, are below infinity's, less 1. */
    const vint usual = ((vuint)x - 1 < (vuint)vset1((real)INFINITY) - 1) & (vabs(y) < (real)INFINITY);
    return __builtin_expect(vany(~usual), 0) ? vpow_edges(v, x, y) : v;
}
#else
FDL_INLINE_LARGE vreal vpow(vreal x, vreal y)
{
    for (int i = 0; i < LANES; i++)
        x[i] = (real)pow((double)x[i], (double)y[i]);
    return x;
}
#endif

#endif
