/* Elementary functions on vectors of `real`: no libm, no tables, no branches.
 *
 *   vexp   within 1.1 ULP of e^x, subnormal results included; e^inf = inf, e^-inf = 0, NaN stays NaN
 *
 * Method of vexp: Cody and Waite, "Software Manual for the Elementary Functions" (1980), chapter 6.
 *     e^x = 2^n e^r,   n = round(x / ln 2),   r = x - n ln 2,   |r| <= ln 2 / 2
 * ln 2 is split in two, the higher part so short that n times it is exact. e^r = 1 + r + r^2 q(r), and the
 * coefficients of q are those that minimise the largest relative error of that sum over the interval, found by
 * Remez's exchange algorithm in 60-digit arithmetic and then rounded: degree 6 in all for float, 2^-28 from e^r,
 * and 11 for double, 2^-56. 2^n is applied in a way that rounds once (vldexp). */
#ifndef FASTDL_VMATH_H
#define FASTDL_VMATH_H

#include "simd.h"

FDL_INLINE vreal vexp(vreal x)
{
#if defined(FDL_f32)
    const real highest = 89.0f, lowest = -104.0f; /* e^x is infinite above, rounds to 0 below */
    const real ln2_high = 0x1.63p-1f, ln2_low = -0x1.bd0106p-13f;
    static const real q[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.1239e2p-7f, 0x1.6a2434p-10f};
#else
    const real highest = 710.0, lowest = -746.0;
    const real ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
    static const real q[] = {0x1.000000000000ap-1,  0x1.55555555554fap-3,  0x1.555555555087cp-5,  0x1.1111111127be5p-7,
                             0x1.6c16c1842a126p-10, 0x1.a01a012a57b5ep-13, 0x1.a0199a0c66195p-16, 0x1.71df255235e0bp-19,
                             0x1.28ad72cd4ab37p-22, 0x1.ad7f6f0e24922p-26};
#endif
    const real log2_e = (real)0x1.71547652b82fep0;
    x = vmax(vset1(lowest), vmin(vset1(highest), x)); /* in this order NaN passes */
    const vreal n = vround(x * log2_e);
    const vreal r = x - n * ln2_high - n * ln2_low;
    enum { TERMS = sizeof q / sizeof q[0] };
    vreal sum = vset1(q[TERMS - 1]);
    FDL_UNROLL
    for (int i = TERMS - 2; i >= 0; i--)
        sum = sum * r + q[i];
    return vldexp((real)1 + (r + r * r * sum), n);
}

#endif
