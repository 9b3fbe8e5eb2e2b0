"""Elementary functions of one number, float32 or float64, for loops of compiled code: LLVM vectorises them, which it
cannot do with those of `math` and NumPy inside @njit. docs/numba.md says how exact each of them is.

    >>> import numba, numpy as np
    >>> from fastdl.numba import math
    >>> @numba.njit(error_model="numpy")
    ... def damped(x):
    ...     y = np.empty_like(x)
    ...     for i in range(x.size):
    ...         y[i] = x[i] * math.tanh(math.softplus(x[i]))
    ...     return y
    >>> damped(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.3034,  0.    ,  0.8651])
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastdl.numba.kernels import vmath
from fastdl.numba.kernels.vmath import by_dtype, like, magnitude, multiply_add, polynomial, root, rounded, with_sign

__all__ = ["absolute", "arctan", "ceil", "cos", "cosh", "erf", "exp", "expm1", "floor", "log", "log1p", "power", "rint"]
__all__ += ["select", "sigmoid", "sign", "sin", "sinh", "softplus", "sqrt", "tan", "tanh"]


def inlined(function: Callable[..., Any]) -> Any:
    """Compiled into whatever calls it, where a loop can be vectorised."""
    return numba.njit(error_model="numpy", fastmath={"contract"}, forceinline=True)(function)


exp, expm1, log, log1p = (inlined(f.py_func) for f in (vmath.exp, vmath.expm1, vmath.log, vmath.log1p))
tanh, sigmoid, erf = (inlined(f.py_func) for f in (vmath.tanh, vmath.sigmoid, vmath.erf))


@intrinsic
def select(typing, condition, one, other):
    """`one` where the condition holds, else `other`: both are computed."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return one(types.boolean, one, one), lower


def _hex(numbers: str) -> tuple[float, ...]:
    return tuple(float.fromhex(number) for number in numbers.split())


# ---- roots, signs and whole numbers ----


@inlined
def absolute(x):
    return magnitude(x)


@inlined
def sqrt(x):
    return root(x)


@inlined
def rint(x):
    """The nearest whole number; of two, the even one."""
    return rounded(x)


@inlined
def floor(x):
    y = rounded(x)
    return with_sign(select(y > x, y - like(1.0, x), y), x)


@inlined
def ceil(x):
    y = rounded(x)
    return with_sign(select(y < x, y + like(1.0, x), y), x)


@inlined
def sign(x):
    """-1, 0 or 1; NaN of NaN."""
    return select(x == like(0.0, x), like(0.0, x), select(x == x, with_sign(like(1.0, x), x), x))


@inlined
def power(x, y):
    """x**y: the one that is not vectorised."""
    return like(x**y, x)


# ---- the circle ----

# r = x - n pi / 2, |r| <= pi / 4, in float64: pi / 2 = p0 + p1 + ..., each to 53 bits. Good for |n| < 2^51.
_HALF_PI = _hex("0x1.921fb54442d18p+0 0x1.1a62633145c07p-54 -0x1.f1976b7ed8fbcp-110")
_P0, _P1, _P2 = _HALF_PI
_OVER_HALF_PI = float.fromhex("0x1.45f306dc9c883p-1")
_MOST = 2.0**51
# sin r = r + r z s(z), cos r = 1 - z / 2 + z^2 c(z), z = r^2: least largest relative errors, 2^-28 and 2^-33 in
# float32, 2^-57 and 2^-64 in float64
_SIN_32 = _hex("-0x1.555546p-3 0x1.11073cp-7 -0x1.994374p-13")
_SIN_64 = _hex(
    "-0x1.5555555555548p-3 0x1.111111110f784p-7 -0x1.a01a019bf5299p-13 0x1.71de356081b28p-19 -0x1.ae5e54ee95b3bp-26 "
    "0x1.5d8e30b196bb4p-33"
)
_COS_32 = _hex("0x1.55554ap-5 -0x1.6c0c30p-10 0x1.99ea9ap-16")
_COS_64 = _hex(
    "0x1.555555555554bp-5 -0x1.6c16c16c14f63p-10 0x1.a01a019c7f681p-16 -0x1.27e4f7e708f0bp-22 0x1.1ee9d50fc8c4dp-29 "
    "-0x1.8fa32e80df68bp-37"
)


@intrinsic
def _wide(typing, x):
    """x in float64."""
    return types.float64(x), lambda context, builder, signature, arguments: context.cast(
        builder, arguments[0], x, types.float64
    )


@intrinsic
def _last_bits(typing, n):
    """The last two bits of a whole number, |n| < 2^51."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lifted = builder.fadd(arguments[0], ir.Constant(ir.DoubleType(), 1.5 * 2.0**52))
        return builder.and_(builder.bitcast(lifted, ir.IntType(64)), ir.IntType(64)(3))

    return types.int64(types.float64), lower


@inlined
def _turns(wide):
    return rounded(wide * _OVER_HALF_PI)


@inlined
def _rest(wide, n):
    r = multiply_add(-n, _P2, multiply_add(-n, _P1, multiply_add(-n, _P0, wide)))
    return select(magnitude(wide) < _MOST, r, nan)


@inlined
def _sin_of(r):
    z = r * r
    return r + r * z * polynomial(z, _SIN_32, _SIN_64)


@inlined
def _cos_of(r):
    z = r * r
    return like(1.0, r) - (like(0.5, r) * z - z * z * polynomial(z, _COS_32, _COS_64))


@inlined
def sin(x):
    """NaN from 2^51 on, and of infinity."""
    n = _turns(_wide(x))
    r, quarter = like(_rest(_wide(x), n), x), _last_bits(n)
    y = select(quarter & 1 == 1, _cos_of(r), _sin_of(r))
    return select(x == like(0.0, x), x, select(quarter & 2 == 2, -y, y))


@inlined
def cos(x):
    """NaN from 2^51 on, and of infinity."""
    n = _turns(_wide(x))
    r, quarter = like(_rest(_wide(x), n), x), _last_bits(n + 1.0)
    y = select(quarter & 1 == 1, _cos_of(r), _sin_of(r))
    return select(quarter & 2 == 2, -y, y)


@inlined
def tan(x):
    """NaN from 2^51 on, and of infinity."""
    n = _turns(_wide(x))
    r, odd = like(_rest(_wide(x), n), x), _last_bits(n) & 1 == 1
    s, c = _sin_of(r), _cos_of(r)
    return select(x == like(0.0, x), x, select(odd, -c, s) / select(odd, s, c))


# The same for |x| < NEAR, without float64: r = x - n pi, |r| <= pi / 2, sin x = +-sin r, of which a longer polynomial
# is good to 2^-27 and 2^-61: near its zeros that is the error in terms of 1, not of the sine. n is k - 1 / 2 for the
# cosine, whose sign is that of k likewise.
NEAR = 2.0**13
_PI = _hex("0x1.921fb54442d18p+1 0x1.1a62633145c07p-53")
_PI_0, _PI_1 = _PI
_PI_0_32, _PI_1_32 = _hex("0x1.921fb6p+1 -0x1.777a5cp-24")
_NEAR_32 = _hex("-0x1.55554cp-3 0x1.110ed2p-7 -0x1.9f6fb2p-13 0x1.5db9b4p-19")
_NEAR_64 = _hex(
    "-0x1.5555555555555p-3 0x1.11111111110c1p-7 -0x1.a01a01a01489bp-13 0x1.71de3a5286b31p-19 -0x1.ae6454cac580ap-26 "
    "0x1.6123caff9232ap-33 -0x1.ae4311925bf5dp-41 0x1.88283e07fdcdep-49"
)


@intrinsic
def _turned(typing, y, n):
    """-y where the whole number n is odd."""
    integer, digits = (ir.IntType(32), 23) if y == types.float32 else (ir.IntType(64), 52)

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, whole = arguments
        lifted = builder.bitcast(builder.fadd(whole, ir.Constant(whole.type, 1.5 * 2.0**digits)), integer)
        odd = builder.shl(lifted, integer(integer.width - 1))
        return builder.bitcast(builder.xor(builder.bitcast(value, integer), odd), value.type)

    return y(y, y), lower


@intrinsic
def _in_turn(typing, x, single, double):
    """As `polynomial`, one term after the other: the fewest operations, where many loop steps overlap."""
    i, terms = (1, len(single)) if x == types.float32 else (2, len(double))

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        c = [
            context.cast(builder, builder.extract_value(arguments[i], t), types.float64, x)
            for t in reversed(range(terms))
        ]
        total = c[0]
        for each in c[1:]:
            total = builder.fadd(builder.fmul(total, arguments[0], flags=("contract",)), each, flags=("contract",))
        return total

    return x(x, single, double), lower


@inlined
def _near(x, n):
    r = multiply_add(-n, by_dtype(x, _PI_0_32, _PI_0), x)
    r = multiply_add(-n, by_dtype(x, _PI_1_32, _PI_1), r)
    z = r * r
    return r + r * z * _in_turn(z, _NEAR_32, _NEAR_64)


@inlined
def near_sin(x):
    n = rounded(x * like(1 / _PI_0, x))
    return select(x == like(0.0, x), x, _turned(_near(x, n), n))


@inlined
def near_cos(x):
    k, half = rounded(x * like(1 / _PI_0, x) + like(0.5, x)), like(0.5, x)
    return _turned(_near(x, k - half), k)


# arctan r = r + r z a(z), |r| <= tan(pi / 8): relative errors of 2^-30 and 2^-59
_ATAN_32 = _hex("-0x1.55554ap-2 0x1.999186p-3 -0x1.23b3eap-3 0x1.b1d982p-4 -0x1.f18cb0p-5")
_ATAN_64 = _hex(
    "-0x1.555555555553cp-2 0x1.99999999956b4p-3 -0x1.24924922a2ce0p-3 0x1.c71c70e1f385dp-4 -0x1.745cf86605acdp-4 "
    "0x1.3b1110d7d610fp-4 -0x1.10eb59b4852cdp-4 0x1.df09e138cb792p-5 -0x1.9cba291935410p-5 0x1.3796b7a438d37p-5 "
    "-0x1.24df73e907844p-6"
)
_TAN_PI_8, _TAN_3_PI_8 = 2.0**0.5 - 1, 2.0**0.5 + 1


@inlined
def arctan(x):
    a, one = magnitude(x), like(1.0, x)
    far, middle = a > like(_TAN_3_PI_8, x), a > like(_TAN_PI_8, x)
    r = select(far, -one / a, select(middle, (a - one) / (a + one), a))
    base = select(far, like(_P0, x), select(middle, like(_P0 / 2, x), like(0.0, x)))
    less = select(far, by_dtype(x, _P0 - 1.57079637050628662109375, _P1), like(0.0, x))
    less = select(middle, select(far, less, by_dtype(x, (_P0 - 1.57079637050628662109375) / 2, _P1 / 2)), less)
    z = r * r
    return with_sign(base + (r + (less + r * z * polynomial(z, _ATAN_32, _ATAN_64))), x)


# ---- the hyperbola, and what is made of exponentials ----


@inlined
def sinh(x):
    a = magnitude(x)
    e, half = expm1(a), like(0.5, x)
    large = exp(a * half)
    small = half * (e + e / (e + like(1.0, x)))
    return with_sign(select(a < like(20.0, x), small, half * large * large), x)


@inlined
def cosh(x):
    half = like(0.5, x)
    large = exp(magnitude(x) * half)
    return half * large * large + half / large / large


@inlined
def softplus(x):
    """log(1 + exp(x))."""
    rest = log1p(exp(-magnitude(x)))
    return select(x > like(0.0, x), x, select(x == x, like(0.0, x), x)) + rest
