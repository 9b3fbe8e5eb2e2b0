/* The elementwise activations: each a formula on a vector, and the one for its gradient.
 *
 * activation_RELU(x, alpha, beta), gradient_RELU(grad, x, alpha, beta) and so on; what alpha and beta are:
 *
 *   kind          y                                                alpha            beta
 *   relu          max(x, 0)
 *   leaky_relu    x, alpha x below 0                               negative_slope
 *   elu           x, alpha (e^x - 1) below 0                       alpha
 *   selu          scale elu(x), Klambauer et al. 2017's constants
 *   celu          x, alpha (e^(x / alpha) - 1) below 0             alpha
 *   gelu          x Phi(x), Phi the normal distribution's
 *   gelu_tanh     x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
 *   silu          x sigmoid(x)
 *   mish          x tanh(softplus(x))
 *   softplus      log(1 + e^(alpha x)) / alpha, x where            beta (torch's)   threshold
 *                 alpha x > beta
 *   softsign      x / (1 + |x|)
 *   hardtanh      min(max(x, alpha), beta)                         min_val          max_val
 *   hardsigmoid   min(max(x / 6 + 1 / 2, 0), 1)
 *   hardswish     x hardsigmoid(x)
 *   relu6         min(max(x, 0), 6)
 *   logsigmoid    log(sigmoid(x))
 *   sigmoid       1 / (1 + e^-x)
 *   threshold     x, beta where x <= alpha                         threshold        value
 *   hardshrink    x, 0 where -alpha <= x <= alpha                  lambd
 *   softshrink    x - alpha above alpha, x + alpha below -alpha,   lambd
 *                 0 between them
 *   tanhshrink    x - tanh(x)
 *   tanh exp expm1 log log1p erf
 *
 * NaN stays NaN in all of them. The gradient is given the input x, but for sigmoid, tanh, exp and expm1 the result y.
 * Where the gradient is chosen by comparing x, a NaN is what torch's formulas take it for: not beyond any bound, so that
 * relu, relu6, hardtanh, elu, hardswish, threshold and the shrinks hand grad on. (torch's own vectors differ from its
 * formulas there, and so does its answer with the length of an array.)
 * All arithmetic is in `real`. */
#ifndef FASTDL_ACTIVATION_H
#define FASTDL_ACTIVATION_H

#include "vector/fused.h"
#include "vector/vmath.h"

/* X of every kind. */
/* clang-format off */
#define FDL_EACH_ACTIVATION(X) \
    X(RELU) X(LEAKY_RELU) X(ELU) X(SELU) X(CELU) X(GELU) X(GELU_TANH) X(SILU) X(MISH) X(SOFTPLUS) \
    X(SOFTSIGN) X(HARDTANH) X(HARDSIGMOID) X(HARDSWISH) X(RELU6) X(LOGSIGMOID) X(SIGMOID) X(TANH) \
    X(THRESHOLD) X(HARDSHRINK) X(SOFTSHRINK) X(TANHSHRINK) X(EXP) X(EXPM1) X(LOG) X(LOG1P) X(ERF)
/* clang-format on */

/* low and high where x is beyond; NaN where x is. */
FDL_INLINE vreal vclamp(vreal x, real low, real high)
{
    return vselect(x < vset1(low), vset1(low), vselect(x > vset1(high), vset1(high), x));
}
/* log(1 + e^x) */
FDL_INLINE vreal vsoftplus(vreal x) { return vselect(x > (vreal){0}, x, (vreal){0}) + vlog1p(vexp(-vabs(x))); }
/* positive x; below 0 negative (e^(inner x) - 1) */
FDL_INLINE vreal velu(vreal x, real positive, real negative, real inner)
{
    return vselect(x < (vreal){0}, negative * vexpm1(inner * x), positive * x);
}
FDL_INLINE vreal velu_grad(vreal grad, vreal x, real positive, real negative, real inner)
{
    return grad * vselect(x <= (vreal){0}, negative * inner * vexp(inner * x), vset1(positive));
}
/* grad, or 0 where x <= low or x >= high. */
FDL_INLINE vreal vgrad_between(vreal grad, vreal x, real low, real high)
{
    return vselect((x <= vset1(low)) | (x >= vset1(high)), (vreal){0}, grad);
}
/* v, or 0 where -bound <= x <= bound. */
FDL_INLINE vreal vshrunk(vreal v, vreal x, real bound)
{
    return vselect((x >= vset1(-bound)) & (x <= vset1(bound)), (vreal){0}, v);
}
/* t = tanh(log(1 + e^x)) = numerator / denominator, in terms of w = e^-|x|, which neither overflows nor cancels. */
typedef struct {
    vreal w, numerator, denominator;
} mish_parts;
FDL_INLINE mish_parts vmish(vreal x)
{
    const vint positive = x > (vreal){0};
    const vreal w = vexp(-vabs(x)), numerator = vselect(positive, 1 + 2 * w, w * (w + 2));
    return (mish_parts){w, numerator, numerator + 2 * vselect(positive, w * w, vset1(1))};
}
/* The argument of gelu_tanh's tanh, and its derivative. */
FDL_INLINE vreal vgelu_inner(vreal x) { return (real)0.79788456080286535588 * (x + (real)0.044715 * x * x * x); }
FDL_INLINE vreal vgelu_inner_grad(vreal x)
{
    x = vclamp(x, -1000, 1000); /* what it is multiplied by is 0 long before x^2 overflows */
    return (real)0.79788456080286535588 * ((real)1 + (real)(3 * 0.044715) * x * x);
}

#define ACTIVATION(KIND) FDL_INLINE_LARGE vreal activation_##KIND(vreal x, ACTIVATION_OPTIONS)
/* grad times the derivative at x or, where it is said above, the one that belongs to the result x. */
#define GRADIENT(KIND) FDL_INLINE_LARGE vreal gradient_##KIND(vreal grad, vreal x, ACTIVATION_OPTIONS)
#define ACTIVATION_OPTIONS __attribute__((unused)) const real alpha, __attribute__((unused)) const real beta

ACTIVATION(RELU) { return vselect(x < (vreal){0}, (vreal){0}, x); }
GRADIENT(RELU) { return vselect(x <= (vreal){0}, (vreal){0}, grad); }

ACTIVATION(LEAKY_RELU) { return vselect(x > (vreal){0}, x, alpha * x); }
GRADIENT(LEAKY_RELU) { return vselect(x > (vreal){0}, grad, alpha * grad); }

ACTIVATION(ELU) { return velu(x, 1, alpha, 1); }
GRADIENT(ELU) { return velu_grad(grad, x, 1, alpha, 1); }

static const real selu_scale = (real)1.0507009873554804934, selu_alpha = (real)1.6732632423543772848;
ACTIVATION(SELU) { return velu(x, selu_scale, selu_scale * selu_alpha, 1); }
GRADIENT(SELU) { return velu_grad(grad, x, selu_scale, selu_scale * selu_alpha, 1); }

ACTIVATION(CELU) { return velu(x, 1, alpha, 1 / alpha); }
GRADIENT(CELU) { return velu_grad(grad, x, 1, alpha, 1 / alpha); }

ACTIVATION(GELU) { return vgelu(x); }
GRADIENT(GELU)
{
    vreal pdf;
    const vreal cdf = vnormal(x, &pdf);
    return grad * (cdf + x * pdf);
}

ACTIVATION(GELU_TANH)
{
    return x * vsigmoid(2 * vgelu_inner(x)); /* (1 + tanh(z)) / 2 = sigmoid(2 z), without its cancellation */
}
GRADIENT(GELU_TANH)
{
    const vreal s = vsigmoid(2 * vgelu_inner(x));
    return grad * (s + x * (2 * s * (1 - s)) * vgelu_inner_grad(x));
}

ACTIVATION(SILU) { return x * vsigmoid(x); }
GRADIENT(SILU)
{
    const vreal s = vsigmoid(x);
    return grad * (s * (1 + x * (1 - s)));
}

ACTIVATION(MISH)
{
    const mish_parts m = vmish(x);
    return x * (m.numerator / m.denominator);
}
GRADIENT(MISH)
{
    /* t + x (1 - t^2) sigmoid(x) */
    const mish_parts m = vmish(x);
    const vreal r = 1 / m.denominator, slope = 4 * m.w * (1 + m.w) * vselect(x > (vreal){0}, m.w, vset1(1));
    return grad * (m.numerator * r + x * (slope * r * r));
}

ACTIVATION(SOFTPLUS) { return vselect(alpha * x > vset1(beta), x, vsoftplus(alpha * x) / alpha); }
GRADIENT(SOFTPLUS) { return vselect(alpha * x > vset1(beta), grad, grad * vsigmoid(alpha * x)); }

ACTIVATION(SOFTSIGN) { return x / (1 + vabs(x)); }
GRADIENT(SOFTSIGN)
{
    const vreal d = 1 + vabs(x);
    return grad / (d * d);
}

ACTIVATION(HARDTANH) { return vclamp(x, alpha, beta); }
GRADIENT(HARDTANH) { return vgrad_between(grad, x, alpha, beta); }

ACTIVATION(HARDSIGMOID) { return vclamp(x + 3, 0, 6) * ((real)1 / 6); }
/* Where x is NaN it is 0. (GCC would load grad by a mask, which takes half as long again.) */
GRADIENT(HARDSIGMOID) { return vselect((x > vset1(-3)) & (x < vset1(3)), vkeep(grad * ((real)1 / 6)), (vreal){0}); }

ACTIVATION(HARDSWISH) { return x * (vclamp(x + 3, 0, 6) * ((real)1 / 6)); }
GRADIENT(HARDSWISH)
{
    return vselect(x <= vset1(-3), (vreal){0}, vselect(x < vset1(3), grad * (x * ((real)1 / 3) + (real)0.5), grad));
}

ACTIVATION(RELU6) { return vclamp(x, 0, 6); }
GRADIENT(RELU6) { return vgrad_between(grad, x, 0, 6); }

ACTIVATION(LOGSIGMOID) { return -vsoftplus(-x); }
GRADIENT(LOGSIGMOID) { return grad * vsigmoid(-x); }

ACTIVATION(SIGMOID) { return vsigmoid(x); }
GRADIENT(SIGMOID) { return grad * (x * (1 - x)); }

ACTIVATION(TANH) { return vtanh(x); }
GRADIENT(TANH) { return grad * (1 - x * x); }

ACTIVATION(THRESHOLD) { return vselect(x <= vset1(alpha), vset1(beta), x); }
GRADIENT(THRESHOLD) { return vselect(x <= vset1(alpha), (vreal){0}, grad); }

ACTIVATION(HARDSHRINK) { return vshrunk(x, x, alpha); }
GRADIENT(HARDSHRINK) { return vshrunk(grad, x, alpha); }

ACTIVATION(SOFTSHRINK) { return vshrunk(x - vselect(x < (vreal){0}, vset1(-alpha), vset1(alpha)), x, alpha); }
GRADIENT(SOFTSHRINK) { return vshrunk(grad, x, alpha); }

ACTIVATION(TANHSHRINK) { return x - vtanh(x); }
GRADIENT(TANHSHRINK)
{
    const vreal t = vtanh(x);
    return grad * (t * t);
}

ACTIVATION(EXP) { return vexp(x); }
GRADIENT(EXP) { return grad * x; }

ACTIVATION(EXPM1) { return vexpm1(x); }
GRADIENT(EXPM1) { return grad * (x + 1); }

ACTIVATION(LOG) { return vlog(x); }
GRADIENT(LOG) { return grad / x; }

ACTIVATION(LOG1P) { return vlog1p(x); }
GRADIENT(LOG1P) { return grad / (1 + x); }

ACTIVATION(ERF) { return verf(x); }
GRADIENT(ERF) { return grad * ((real)1.12837916709551257390 * vexp(-x * x)); }

#undef ACTIVATION
#undef GRADIENT
#undef ACTIVATION_OPTIONS

#endif
