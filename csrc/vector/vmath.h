/* Elementary functions on vectors of `real`: no libm, no branches; subnormal, infinite and NaN arguments and results
 * are right, zero keeps its sign, and each of the first seven is within 2 ULP of the exact value on every level.
 *
 *   vexp 1.1, verf 1.4, vtanh 1.8, vsigmoid 2.0, vlog 0.91, vlog1p 0.91, vexpm1 1.8 ULP at most, as far as measured
 *   (tests/test_vmath.py): float and double, the worst level
 *   vgelu 5.6 ULP (float), 4.9 (double); the density of vnormal, the normal distribution, 1.6
 *
 * Coefficients are those that minimise the largest error relative to the function (in e^Q, relative to the result),
 * found by Remez's exchange algorithm in 60-digit arithmetic and rounded one after another, the rest fitted anew after
 * each (those of vnormal_parts, a quotient, at once). Reduction of the argument: Cody and Waite, "Software Manual for
 * the Elementary Functions" (1980), chapter 6,
 *     e^x = 2^n e^r,   n = round(x / ln 2),   r = x - n ln 2,   |r| <= ln 2 / 2
 * with ln 2 split in two; 2^n is applied so that results are rounded once (vldexp). Logarithms:
 *     log(2^k (1 + f)) = k ln 2 + 2 artanh(s),   s = f / (2 + f)
 * arranged so that f, which is exact, carries the leading part of the sum. */
#ifndef FASTDL_VMATH_H
#define FASTDL_VMATH_H

#include "vector/simd.h"

/* ln 2 in two parts, the higher so short that a multiple n of it is exact for every exponent n. */
#if defined(FDL_f32)
#define FDL_LN2_HIGH 0x1.63p-1f
#define FDL_LN2_LOW -0x1.bd0106p-13f
#else
#define FDL_LN2_HIGH 0x1.62e42feep-1
#define FDL_LN2_LOW 0x1.a39ef35793c76p-33
#endif
#define FDL_LOG2_E ((real)0x1.71547652b82fep0)
#define FDL_TERMS(c) ((int)(sizeof(c) / sizeof(c)[0]))

/* name(c, terms, x) = c[0] + c[1] x + ... of such vectors, even and odd powers apart, so that the chain of dependent sums
 * is half as long. */
#define FDL_POLYNOMIAL(name, vector)                                                                                   \
    FDL_INLINE vector name(const vector *c, int terms, vector x)                                                       \
    {                                                                                                                  \
        const vector square = x * x;                                                                                   \
        vector last = c[terms - 1], before = c[terms - 2];                                                             \
        FDL_UNROLL                                                                                                     \
        for (int i = terms - 3; i >= 0; i--) {                                                                         \
            const vector next = last * square + c[i];                                                                  \
            last = before;                                                                                             \
            before = next;                                                                                             \
        }                                                                                                              \
        return last * x + before;                                                                                      \
    }
FDL_POLYNOMIAL(vpolynomial_in, vreal)
FDL_INLINE vreal vpolynomial(const real *c, int terms, vreal x)
{
    vreal all[32];
    FDL_UNROLL
    for (int i = 0; i < terms; i++)
        all[i] = vset1(c[i]);
    return vpolynomial_in(all, terms, x);
}
/* The same of c where the lane of mask is set, of d elsewhere: one chain of sums for two polynomials. */
FDL_INLINE vreal vpolynomial_of(vint mask, const real *c, const real *d, int terms, vreal x)
{
    vreal all[32];
    FDL_UNROLL
    for (int i = 0; i < terms; i++)
        all[i] = vselect(mask, vset1(c[i]), vset1(d[i]));
    return vpolynomial_in(all, terms, x);
}

/* q of e^r - 1 = r + r^2 q(r), |r| <= 0.38 */
#if defined(FDL_f32)
static const real exp_q[] = {0x1.fffffep-2f, 0x1.5554a8p-3f, 0x1.55579ap-5f, 0x1.122e06p-7f, 0x1.6ab486p-10f};
#else
static const real exp_q[] = {0x1.0000000000005p-1,  0x1.5555555555539p-3,  0x1.55555555520d3p-5,  0x1.11111111191e7p-7,
                             0x1.6c16c17f4812fp-10, 0x1.a01a01749fc5ep-13, 0x1.a019a63cd8918p-16, 0x1.71de882791a9cp-19,
                             0x1.28a307fff8c1cp-22, 0x1.ae6ceec55b1f1p-26};
#endif
enum { EXP_TERMS = FDL_TERMS(exp_q) };
FDL_INLINE vreal vexpm1_rest(vreal r) { return r * r * vpolynomial(exp_q, EXP_TERMS, r); }
FDL_INLINE vreal vexpm1_near_0(vreal r) { return r + vexpm1_rest(r); }
/* e^(-r / 2) - 1; the factors of the coefficients are exact. */
FDL_INLINE vreal vexpm1_of_half(vreal r)
{
    real q[EXP_TERMS], factor = (real)0.25;
    FDL_UNROLL
    for (int i = 0; i < EXP_TERMS; i++, factor *= (real)-0.5)
        q[i] = exp_q[i] * factor;
    return r * (real)-0.5 + r * r * vpolynomial(q, EXP_TERMS, r);
}

/* r of x = n ln 2 + r */
FDL_INLINE vreal vexp_reduce(vreal x, vreal *n)
{
    *n = vround(x * FDL_LOG2_E);
    return x - *n * FDL_LN2_HIGH - *n * FDL_LN2_LOW;
}
/* e^x = 2^n (1 + what is returned) */
FDL_INLINE_LARGE vreal vexp_parts(vreal x, vreal *n)
{
    const vreal r = vexp_reduce(x, n);
    return vexpm1_near_0(r);
}

/* e^x is infinite above the one and rounds to 0 below the other. */
#define FDL_EXP_HIGHEST ((real)(sizeof(real) == 4 ? 89 : 710))
#define FDL_EXP_LOWEST ((real)(sizeof(real) == 4 ? -104 : -746))

FDL_INLINE_LARGE vreal vexp(vreal x)
{
    vreal n;
    x = vmax(vset1(FDL_EXP_LOWEST), vmin(vset1(FDL_EXP_HIGHEST), x)); /* in this order NaN passes */
    const vreal p = vexp_parts(x, &n);
    return vldexp(1 + p, n);
}

/* e^x - 1 */
FDL_INLINE_LARGE vreal vexpm1(vreal x)
{
    const vreal lowest = vset1(sizeof(real) == 4 ? -20 : -40); /* already -1 there */
    vreal n;
    const vreal r = vexp_reduce(vmax(lowest, vmin(vset1(FDL_EXP_HIGHEST), x)), &n);
    const vreal half = vpow2(n - 1); /* 2^n is out of range before e^x is */
    const vreal y = 2 * (half * vexpm1_rest(r) + (half * r + (half - (real)0.5)));
    /* Half a subnormal r would be rounded. */
    return vwith_sign(vselect(vabs(x) < (real)0x1p-60, x, y), x);
}

/* log(2^k (1 + f)), -0.25 <= f < 0.5: with 2 artanh(s) = f - (f^2 / 2 - s (f^2 / 2 + s^2 q(s^2))) */
FDL_INLINE vreal vlog_parts(vreal f, vreal k)
{
#if defined(FDL_f32)
    static const real q[] = {0x1.555554p-1f, 0x1.999c0cp-2f, 0x1.23e044p-2f, 0x1.ee9f7cp-3f};
#else
    static const real q[] = {0x1.555555555554fp-1, 0x1.999999999c17cp-2, 0x1.24924921e40f9p-2, 0x1.c71c749001e23p-3,
                             0x1.745c4ac9872a0p-3, 0x1.3b35c36c8a4a0p-3, 0x1.0dcb64439220ep-3, 0x1.1b8304c6b8584p-3};
#endif
    const vreal s = f / (2 + f), z = s * s, half_square = (real)0.5 * f * f;
    const vreal rest = z * vpolynomial(q, FDL_TERMS(q), z);
    return k * FDL_LN2_HIGH + (f - (half_square - (s * (half_square + rest) + k * FDL_LN2_LOW)));
}

FDL_INLINE_LARGE vreal vlog(vreal x)
{
    vreal k;
    const vreal m = vfrexp(x, &k);
    return vlog_edges(vlog_parts(m - 1, k), x);
}

/* log(1 + x) */
FDL_INLINE_LARGE vreal vlog1p(vreal x)
{
    const vreal one = vset1(1), sum = 1 + x;
    const vreal lost = vmin(one, x) - (sum - vmax(one, x)); /* 1 + x = sum + lost exactly */
    vreal k;
    const vreal m = vfrexp(sum, &k);
    const vreal y = vlog_parts((m - 1) + vldexp(lost, -k), k);
    return vwith_sign(vlog_edges(y, sum), x);
}

#if defined(FDL_LOOKUP)
/* Sixteen intervals of |x|: to 0.25, to 0.375, 0.5, 0.75, 1, 1.5, ... 8, 16, whose number is the exponent and the first
 * bit of the mantissa; on each a polynomial in the distance from a point where tanh is almost a float. The first row
 * holds those points, the others the coefficients. */
static const real tanh_table[][FDL_LOOKUP] = {
    {0, 0x1.400148p-2f, 0x1.c0023cp-2f, 0x1.3ffe2ep-1f, 0x1.bfff6p-1f, 0x1.40015ep+0f, 0x1.bfff9p+0f, 0x1.3ffdeep+1f,
     0x1.bffdcp+1f, 0x1.40019cp+2f, 0x1.bffda8p+2f, 0x1.17fda8p+3f, 0, 0, 0, 0},
    {0, 0x1.35fab4p-2f, 0x1.a5747ap-2f, 0x1.1bf33cp-1f, 0x1.6866p-1f, 0x1.b253p-1f, 0x1.e1fbep-1f, 0x1.f9254ap-1f,
     0x1.ff1124p-1f, 0x1.fff41ap-1f, 0x1.ffffc8p-1f, 0x1.fffffep-1f, 0, 0, 0, 0},
    {0x1p+0f, 0x1.d1151ap-1f, 0x1.a944f6p-1f, 0x1.62862ap-1f, 0x1.02507cp-1f, 0x1.1f2272p-2f, 0x1.d22e14p-4f,
     0x1.b3be2ep-6f, 0x1.dd4adap-9f, 0x1.7d43c4p-13f, 0x1.bf2de2p-19f, 0x1.afbd1cp-24f, 0, 0, 0, 0},
    {-0x1.267edp-20f, -0x1.1992f8p-2f, -0x1.5e0ff4p-2f, -0x1.893ac4p-2f, -0x1.6ba81cp-2f, -0x1.e7258ap-3f,
     -0x1.b6d998p-4f, -0x1.ade794p-6f, -0x1.dc6b6p-9f, -0x1.7d1a7ep-13f, -0x1.bf075cp-19f, -0x1.afb64p-24f, 0, 0, 0, 0},
    {-0x1.5544c8p-2f, -0x1.c19b0ap-3f, -0x1.16db78p-3f, -0x1.24734ap-6f, 0x1.4f0fdap-4f, 0x1.bbb25p-4f, 0x1.01c1a8p-4f,
     0x1.16d9b2p-6f, 0x1.3c287p-9f, 0x1.f29958p-14f, 0x1.246fc2p-19f, 0x1.1e32e2p-24f, 0, 0, 0, 0},
    {-0x1.365594p-10f, 0x1.43e05ap-3f, 0x1.5c2c6ap-3f, 0x1.19c886p-3f, 0x1.f2143cp-5f, -0x1.9c7994p-7f, -0x1.817008p-6f,
     -0x1.07dea8p-7f, -0x1.39eafep-10f, -0x1.f38242p-15f, -0x1.251316p-20f, -0x1.1e66d4p-25f, 0, 0, 0, 0},
    {0x1.2509c4p-3f, 0x1.5ae7ccp-5f, -0x1.e1c1dcp-8f, -0x1.bb309ap-5f, -0x1.dee586p-5f, -0x1.42726p-6f, 0x1.c878b2p-9f,
     0x1.7a6ae2p-9f, 0x1.0112fap-11f, 0x1.dcd6fcp-16f, 0x1.183f96p-21f, 0x1.f8e6a4p-27f, 0, 0, 0, 0},
    {-0x1.2eed98p-5f, -0x1.4197a2p-4f, -0x1.06404cp-4f, -0x1.3fe82cp-7f, 0x1.a448d2p-7f, 0x1.eee758p-7f, 0x1.13e63ep-9f,
     -0x1.6d0f0ap-11f, -0x1.4ab022p-13f, -0x1.3ab672p-17f, -0x1.728cfap-23f, -0x1.4ed68p-28f, 0, 0, 0, 0},
};
FDL_INLINE_LARGE vreal vtanh(vreal x)
{
    enum { TERMS = FDL_TERMS(tanh_table) - 1 };
    const natural first = 0x3e800000u >> 22;                                  /* of 0.25 */
    const vreal a = vmin(vset1(9.5f), vabs(x));                               /* tanh rounds to 1 there */
    const vuint index = ((vuint)vmax(a, vset1(0.1875f)) >> 22) - (first - 1); /* 0.1875: of the first interval */
    vreal c[TERMS];
    FDL_UNROLL
    for (int i = 0; i < TERMS; i++)
        c[i] = vlookup(tanh_table[1 + i], index);
    return vwith_sign(vpolynomial_in(c, TERMS, a - vlookup(tanh_table[0], index)), x);
}
#else
/* |x| < 0.5625: x + x^3 P(x^2); else 1 - 2 / (e^2|x| + 1). The first has the form of e^r - 1, and shares its sum. */
FDL_INLINE_LARGE vreal vtanh(vreal x)
{
    const vreal limit = vset1(sizeof(real) == 4 ? 10 : 20); /* tanh rounds to 1 there */
#if defined(FDL_f32)
    static const real near[] = {-0x1.555548p-2f, 0x1.110c66p-3f, -0x1.b9084ap-5f, 0x1.582d72p-6f, -0x1.95088p-8f};
#else
    static const real near[] = {-0x1.555555555543dp-2,  0x1.11111110fbf48p-3,  -0x1.ba1ba1a8736aep-5,
                                0x1.664f44d85f25fp-6,   -0x1.226dc50e7be51p-7, 0x1.d6c31af1253cfp-9,
                                -0x1.7cd65748d69d2p-10, 0x1.2ef61e1d88871p-11, -0x1.b4af828f74964p-13,
                                0x1.a018eebd8cea4p-15};
#endif
    _Static_assert(FDL_TERMS(near) == EXP_TERMS, "one sum");
    const vreal a = vmin(limit, vabs(x));
    const vint small = a < (real)0.5625;
    vreal n;
    const vreal r = vexp_reduce(a + a, &n), power = vpow2(n);
    const vreal base = vselect(small, a, r), variable = vselect(small, a * a, r);
    const vreal y = base + base * variable * vpolynomial_of(small, near, exp_q, EXP_TERMS, variable);
    return vwith_sign(vselect(small, y, 1 - 2 / (power + 1 + power * y)), x);
}
#endif

/* With e = e^-|x|, 1 / (1 + e) for positive x and e / (1 + e) for negative x. */
FDL_INLINE_LARGE vreal vsigmoid(vreal x)
{
    vreal n;
    const vreal p = vexp_parts(vmax(vset1(FDL_EXP_LOWEST), vwith_sign(x, vset1(-1))), &n);
    const vreal e = vldexp(1 + p, n), sum = 1 + e;
    /* What the sum lost, relative to it; the line is within 9% of 1 / sum, and more is not needed. */
    const vreal lost = (e - (sum - 1)) * ((real)1.457 - (real)0.5 * sum);
    const vreal y = vselect(x < 0, e, vset1(1)) / sum;
    return y - y * lost;
}

/* Less exact and twice as fast, for the gates of recurrent cells, whose arguments have the rounding of long sums:
 * within 4 ULP, but sigmoid does not go below 2^-128 (2^-1022), and tanh of -0 is 0. */
#define FDL_EXP_NORMAL ((real)(sizeof(real) == 4 ? 88.3 : 708.3)) /* e^x and e^-x are normal up to there */
/* e^x = *power (1 + what is returned), |x| <= FDL_EXP_NORMAL */
FDL_INLINE_LARGE vreal vexp_normal(vreal x, vreal *power)
{
    const vreal n = vround_lifted(x * FDL_LOG2_E, 0, power);
    return vexpm1_near_0(x - n * FDL_LN2_HIGH - n * FDL_LN2_LOW);
}
FDL_INLINE vreal vgate_sigmoid(vreal x)
{
    vreal power;
    const vreal p = vexp_normal(-vmax(vset1(-FDL_EXP_NORMAL), vmin(vset1(FDL_EXP_NORMAL), x)), &power);
    return 1 / (1 + (power + power * p));
}
/* (e^2x - 1) / (e^2x + 1) */
FDL_INLINE vreal vgate_tanh(vreal x)
{
    const vreal limit = vset1(sizeof(real) == 4 ? 10 : 20);
    vreal power;
    x = vmax(-limit, vmin(limit, x));
    const vreal p = vexp_normal(x + x, &power), expm1 = (power - 1) + power * p;
    return expm1 / (expm1 + 2);
}

/* |x| < split: x + x P(x^2); else 1 - e^Q(|x|). */
FDL_INLINE_LARGE vreal verf(vreal x)
{
#if defined(FDL_f32)
    const real split = 0.75f, limit = 3.93f; /* erf rounds to 1 there */
    static const real near[] = {
        0x1.06eba8p-3f, -0x1.81273ap-2f, 0x1.ce2acep-4f, -0x1.b7a75cp-6f, 0x1.4f188ap-8f, -0x1.613e5ep-11f, 0};
    static const real far[] = {-0x1.5fb58cp-16f, -0x1.20e128p+0f, -0x1.458c80p-1f, -0x1.aec58cp-4f,
                               0x1.7662a4p-6f,   -0x1.a44644p-9f, 0x1.bf369ap-13f};
#else
    const real split = 0.875, limit = 5.95;
    static const real near[] = {0x1.06eba8214db69p-3,
                                -0x1.812746b037a2bp-2,
                                0x1.ce2f21a0461d1p-4,
                                -0x1.b82ce313936c2p-6,
                                0x1.565bcd38bb101p-8,
                                -0x1.c02dbbd32dae6p-11,
                                0x1.f9a40cfa5f2bfp-14,
                                -0x1.f4e32fd759d19p-17,
                                0x1.baade39396303p-20,
                                -0x1.64f3359086158p-23,
                                0x1.11ca1a7cdf6c9p-26,
                                -0x1.63bcde8a85223p-30,
                                0,
                                0,
                                0,
                                0,
                                0,
                                0,
                                0};
    static const real far[] = {
        -0x1.b1db606f7242ap-25, -0x1.20dd6bf405bb4p+0,  -0x1.45f35f70b5835p-1,  -0x1.a4ecc58ac2eccp-4,
        0x1.392811b182d69p-6,   0x1.de5d60da201a0p-13,  -0x1.c03b048c3c241p-10, 0x1.34dd17e9edfcfp-11,
        -0x1.204bf466a27a8p-17, -0x1.7b595087df971p-14, 0x1.c449dfa503408p-15,  -0x1.4984071ad48e3p-16,
        0x1.5cc5139041b5ap-18,  -0x1.16fb077583e8ap-20, 0x1.50f56c264bfacp-23,  -0x1.2b4fcc6e67c9ep-26,
        0x1.71db3156ac83dp-30,  -0x1.1c3598d79f363p-34, 0x1.991fbf12d6a21p-40};
#endif
    _Static_assert(FDL_TERMS(near) == FDL_TERMS(far), "one sum");
    const vreal a = vmin(vset1(limit), vabs(x));
    const vint small = a < split;
    const vreal sum = vpolynomial_of(small, near, far, FDL_TERMS(near), vselect(small, a * a, a));
    vreal n;
    const vreal p = vexp_parts(sum, &n), power = vpow2(n);
    return vwith_sign(vselect(small, a + a * sum, (1 - power) - p * power), x);
}

/* Of Phi, the normal distribution's: Phi(-a) = *power (1 + *m) *numerator / *denominator. *power is a power of 2,
 * lifted (vround_lifted), with *power (1 + *m) = e^(-a^2 / 2); *numerator makes up for that. a >= 0 is lowered to where
 * Phi(-a) is 0. */
FDL_INLINE_LARGE void vnormal_parts(vreal *a, vreal *power, vreal *m, vreal *numerator, vreal *denominator)
{
    /* Phi(-a) = e^(-a^2 / 2) P(a) / Q(a) to within 2^-27 (2^-54) of itself; no term is negative */
#if defined(FDL_f32)
    const real limit = 14.5f;
    static const real p[] = {0x1p-1f, 0x1.c01890p-2f, 0x1.761bcep-3f, 0x1.4b3308p-5f, 0x1.0b8a9cp-8f};
    static const real q[] = {0x1p+0f, 0x1.ac4e78p+0f, 0x1.3343eap+0f, 0x1.df3304p-2f, 0x1.9f1f98p-4f, 0x1.4f4f3ep-7f};
#else
    const real limit = 38.6;
    static const real p[] = {0x1p-1,
                             0x1.8c9bc757ff491p-1,
                             0x1.2ff7cb5dc70bap-1,
                             0x1.2803ad90de7aap-2,
                             0x1.8fb4c4fd01127p-4,
                             0x1.82749a7c112f3p-6,
                             0x1.0b82809ba5892p-8,
                             0x1.008e7a9ee2977p-11,
                             0x1.37b15b347f1f3p-15,
                             0x1.72cec8dfd8760p-20};
    static const real q[] = {0x1p+0,
                             0x1.2c6ef87b507c6p+1,
                             0x1.47b1f92527acbp+1,
                             0x1.b695f391737b7p+0,
                             0x1.90085e5a7ed36p-1,
                             0x1.04c3e567ca3a2p-2,
                             0x1.ee5779e00f661p-5,
                             0x1.525362e290706p-7,
                             0x1.427422b30e3f7p-10,
                             0x1.86a62437aaaeap-14,
                             0x1.d0bd14cb997fcp-19};
#endif
    *a = vmin(vset1(limit), *a);
    real unlifted[FDL_TERMS(p)];
    FDL_UNROLL
    for (int i = 0; i < FDL_TERMS(p); i++)
        unlifted[i] = p[i] * FDL_UNLIFT;
    vreal low;
    const vreal square = vproduct(*a, *a, &low); /* what one number lacks of it would count in the exponential */
    const vreal n = vround_lifted(square * (-FDL_LOG2_E / 2), FDL_LIFT, power);
    *m = vexpm1_of_half(square + n * (2 * FDL_LN2_HIGH) + n * (2 * FDL_LN2_LOW) + low);
    *numerator = vpolynomial(unlifted, FDL_TERMS(p), *a);
    *denominator = vpolynomial(q, FDL_TERMS(q), *a);
}
/* Phi(x) = (1 + erf(x / sqrt 2)) / 2, and its derivative e^(-x^2 / 2) / sqrt(2 pi) in *pdf. */
FDL_INLINE_LARGE vreal vnormal(vreal x, vreal *pdf)
{
    vreal a = vabs(x), power, m, p, q;
    vnormal_parts(&a, &power, &m, &p, &q);
    const vreal ratio = power * p / q, tail = ratio + ratio * m;
    const vreal density = power * (real)0x1.9884533d43651p-2; /* 1 / sqrt(2 pi) */
    *pdf = (density + density * m) * FDL_UNLIFT;
    return vselect(x > 0, 1 - tail, tail);
}
/* x Phi(x) = max(x, 0) - |x| Phi(-|x|); of -infinity NaN, as the product is. */
FDL_INLINE_LARGE vreal vgelu(vreal x)
{
    vreal a = vabs(x), power, m, p, q;
    vnormal_parts(&a, &power, &m, &p, &q);
    const vreal ratio = power * p * a / q; /* in this order nothing but the result can be subnormal */
    return x - vmin(x, (vreal){0}) - (ratio + ratio * m);
}
#endif
