"""Elementary functions of one number, which LLVM vectorises where they stand in a loop: no libm, no branches.

The formulas, the coefficients and the errors are those of csrc/vector/vmath.h, where they are explained. Numba makes
float64 of every product with a Python number: `like(0.5, x)` is 0.5 in the dtype of x.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastdl.numba.kernels._kernel import compiled


@intrinsic
def like(typing, value, x):
    """value in the dtype of x."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[0], value, x)

    return x(value, x), lower


@intrinsic
def by_dtype(typing, x, single, double):
    """`single` where x is float32, else `double`, in the dtype of x."""
    i, chosen = (1, single) if x == types.float32 else (2, double)

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[i], chosen, x)

    return x(x, single, double), lower


@intrinsic
def polynomial(typing, x, single, double):
    """c[0] + c[1] x + ..., c being `single` where x is float32, else `double`: even and odd powers apart."""
    i, terms = (1, len(single)) if x == types.float32 else (2, len(double))

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def c(term: int) -> Any:
            return context.cast(builder, builder.extract_value(arguments[i], term), types.float64, x)

        def add(product: Any, term: int) -> Any:
            return builder.fadd(product, c(term), flags=("contract",))

        variable = arguments[0]
        square = builder.fmul(variable, variable)
        last, before = c(terms - 1), c(terms - 2)
        for term in range(terms - 3, -1, -1):
            last, before = before, add(builder.fmul(last, square, flags=("contract",)), term)
        return builder.fadd(builder.fmul(last, variable, flags=("contract",)), before, flags=("contract",))

    return x(x, single, double), lower


def _instruction(builder: Any, name: str, arguments: Any) -> Any:
    """An instruction of LLVM's, of one or more numbers of the same dtype."""
    real = arguments[0].type
    function = builder.module.declare_intrinsic(name, [real], ir.FunctionType(real, [real] * len(arguments)))
    return builder.call(function, arguments)


@intrinsic
def rounded(typing, x):
    """To the nearest integer, ties to even."""
    return x(x), lambda context, builder, signature, arguments: _instruction(builder, "llvm.rint", arguments)


@intrinsic
def magnitude(typing, x):
    return x(x), lambda context, builder, signature, arguments: _instruction(builder, "llvm.fabs", arguments)


@intrinsic
def root(typing, x):
    return x(x), lambda context, builder, signature, arguments: _instruction(builder, "llvm.sqrt", arguments)


@intrinsic
def with_sign(typing, y, x):
    """y with the sign of x."""
    return y(y, x), lambda context, builder, signature, arguments: _instruction(builder, "llvm.copysign", arguments)


@intrinsic
def multiply_add(typing, a, b, c):
    """a b + c, rounded once."""
    return a(a, b, c), lambda context, builder, signature, arguments: _instruction(builder, "llvm.fma", arguments)


def _bits(x: Any) -> tuple[Any, int, int]:
    """The integers as wide as x, the bits of a mantissa, and the bias of an exponent."""
    return (ir.IntType(32), 23, 127) if x == types.float32 else (ir.IntType(64), 52, 1023)


@intrinsic
def power_of_2(typing, n):
    """2^n, n integral and 2^n normal."""
    integer, mantissa, bias = _bits(n)
    # Large numbers whose last digits are the integer: vectors have no conversion to 64 bits before AVX-512.
    lifted = 1.5 * 2.0**mantissa

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sum_ = builder.fadd(arguments[0], ir.Constant(arguments[0].type, lifted + bias))
        return builder.bitcast(builder.shl(builder.bitcast(sum_, integer), integer(mantissa)), arguments[0].type)

    return n(n), lower


@intrinsic
def mantissa(typing, x):
    """m of x = m 2^k with 0.75 <= m < 1.5, for a normal x above 0."""
    integer, digits, bias = _bits(x)

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], integer)
        # Half a mantissa more carries into the exponent from 1.5 on.
        carried = builder.lshr(builder.add(bits, integer(1 << (digits - 1))), integer(digits))
        k = builder.sub(carried, integer(bias))
        return builder.bitcast(builder.sub(bits, builder.shl(k, integer(digits))), arguments[0].type)

    return x(x), lower


@intrinsic
def exponent(typing, x):
    """k of the same."""
    integer, digits, bias = _bits(x)

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits, real = builder.bitcast(arguments[0], integer), arguments[0].type
        carried = builder.lshr(builder.add(bits, integer(1 << (digits - 1))), integer(digits))
        two = 2.0**digits  # its last digits are the integer
        lifted = builder.bitcast(builder.or_(carried, builder.bitcast(ir.Constant(real, two), integer)), real)
        return builder.fsub(lifted, ir.Constant(real, two + bias))

    return x(x), lower


# ---- exponentials ----

_LN2_HIGH = float.fromhex("0x1.63p-1"), float.fromhex("0x1.62e42feep-1")
_LN2_LOW = float.fromhex("-0x1.bd0106p-13"), float.fromhex("0x1.a39ef35793c76p-33")
_HIGH_32, _HIGH_64 = _LN2_HIGH
_LOW_32, _LOW_64 = _LN2_LOW
_LOG2_E = float.fromhex("0x1.71547652b82fep0")


def _hex(numbers: str) -> tuple[float, ...]:
    return tuple(float.fromhex(number) for number in numbers.split())


# q of e^r - 1 = r + r^2 q(r), |r| <= 0.38
_EXP_32 = _hex("0x1.fffffep-2 0x1.5554a8p-3 0x1.55579ap-5 0x1.122e06p-7 0x1.6ab486p-10")
_EXP_64 = _hex(
    "0x1.0000000000005p-1 0x1.5555555555539p-3 0x1.55555555520d3p-5 0x1.11111111191e7p-7 0x1.6c16c17f4812fp-10 "
    "0x1.a01a01749fc5ep-13 0x1.a019a63cd8918p-16 0x1.71de882791a9cp-19 0x1.28a307fff8c1cp-22 0x1.ae6ceec55b1f1p-26"
)


@compiled
def _reduced(x, n):
    """r of x = n ln 2 + r"""
    return x - n * by_dtype(x, _HIGH_32, _HIGH_64) - n * by_dtype(x, _LOW_32, _LOW_64)


@compiled
def _expm1_rest(r):
    return r * r * polynomial(r, _EXP_32, _EXP_64)


@compiled
def between(x, low, high):
    """NaN where x is."""
    x = low if x < low else x
    return high if x > high else x


@compiled
def exp(x):
    x = between(x, by_dtype(x, -104.0, -746.0), by_dtype(x, 89.0, 710.0))
    n = rounded(x * like(_LOG2_E, x))
    r = _reduced(x, n)
    half = rounded(n * like(0.5, x))  # 2^n alone may be out of range
    return (like(1.0, x) + (r + _expm1_rest(r))) * power_of_2(half) * power_of_2(n - half)


@compiled
def expm1(x):
    low = between(x, by_dtype(x, -20.0, -40.0), by_dtype(x, 89.0, 710.0))
    n = rounded(low * like(_LOG2_E, x))
    r = _reduced(low, n)
    half = power_of_2(n - like(1.0, x))
    y = like(2.0, x) * (half * _expm1_rest(r) + (half * r + (half - like(0.5, x))))
    return with_sign(x if magnitude(x) < like(2.0**-60, x) else y, x)


@compiled
def sigmoid(x):
    e = exp(-magnitude(x))
    total = like(1.0, x) + e
    # What the sum lost, relative to it.
    lost = (e - (total - like(1.0, x))) * (like(1.457, x) - like(0.5, x) * total)
    y = (e if x < like(0.0, x) else like(1.0, x)) / total
    return y - y * lost


# x + x^3 P(x^2)
_TANH_32 = _hex("-0x1.555548p-2 0x1.110c66p-3 -0x1.b9084ap-5 0x1.582d72p-6 -0x1.95088p-8")
_TANH_64 = _hex(
    "-0x1.555555555543dp-2 0x1.11111110fbf48p-3 -0x1.ba1ba1a8736aep-5 0x1.664f44d85f25fp-6 -0x1.226dc50e7be51p-7 "
    "0x1.d6c31af1253cfp-9 -0x1.7cd65748d69d2p-10 0x1.2ef61e1d88871p-11 -0x1.b4af828f74964p-13 0x1.a018eebd8cea4p-15"
)


@compiled
def tanh(x):
    """Near 0 a polynomial, else 1 - 2 / (e^2|x| + 1)."""
    one, a = like(1.0, x), magnitude(x)
    limit = by_dtype(x, 10.0, 20.0)  # it rounds to 1 there
    a = limit if a > limit else a
    n = rounded((a + a) * like(_LOG2_E, x))
    r = _reduced(a + a, n)
    power = power_of_2(n)
    near = a + a * (a * a) * polynomial(a * a, _TANH_32, _TANH_64)
    far = one - like(2.0, x) / (power + one + power * (r + _expm1_rest(r)))
    return with_sign(near if a < like(0.5625, x) else far, x)


@compiled
def gate_sigmoid(x):
    """Less exact and faster, for the gates of recurrent networks."""
    one, limit = like(1.0, x), by_dtype(x, 88.0, 708.0)
    x = -between(x, -limit, limit)
    n = rounded(x * like(_LOG2_E, x))
    r = _reduced(x, n)
    power = power_of_2(n)
    return one / (one + (power + power * (r + _expm1_rest(r))))


@compiled
def gate_tanh(x):
    """(e^2x - 1) / (e^2x + 1)"""
    one, limit = like(1.0, x), by_dtype(x, 10.0, 20.0)
    x = between(x, -limit, limit)
    n = rounded((x + x) * like(_LOG2_E, x))
    r = _reduced(x + x, n)
    power = power_of_2(n)
    m = (power - one) + power * (r + _expm1_rest(r))
    return m / (m + like(2.0, x))


# ---- logarithms ----

_LOG_32 = _hex("0x1.555554p-1 0x1.999c0cp-2 0x1.23e044p-2 0x1.ee9f7cp-3")
_LOG_64 = _hex(
    "0x1.555555555554fp-1 0x1.999999999c17cp-2 0x1.24924921e40f9p-2 0x1.c71c749001e23p-3 "
    "0x1.745c4ac9872a0p-3 0x1.3b35c36c8a4a0p-3 0x1.0dcb64439220ep-3 0x1.1b8304c6b8584p-3"
)
_INFINITY, _NAN = float("inf"), float("nan")


@compiled
def _log_parts(f, k):
    """log(2^k (1 + f)), -0.25 <= f < 0.5"""
    s = f / (like(2.0, f) + f)
    z, half_square = s * s, like(0.5, f) * f * f
    rest = z * polynomial(z, _LOG_32, _LOG_64)
    low = s * (half_square + rest) + k * by_dtype(f, _LOW_32, _LOW_64)
    return k * by_dtype(f, _HIGH_32, _HIGH_64) + (f - (half_square - low))


@compiled
def _log_edges(y, x):
    zero, infinity = like(0.0, x), like(_INFINITY, x)
    y = y if x > zero else (-infinity if x == zero else like(_NAN, x))
    return infinity if x == infinity else y


@compiled
def log(x):
    subnormal = x < by_dtype(x, 2.0**-126, 2.0**-1022)
    scaled = x * by_dtype(x, 2.0**23, 2.0**52) if subnormal else x
    k = exponent(scaled) - (by_dtype(x, 23.0, 52.0) if subnormal else like(0.0, x))
    return _log_edges(_log_parts(mantissa(scaled) - like(1.0, x), k), x)


@compiled
def log1p(x):
    one = like(1.0, x)
    total = one + x
    larger = x if x > one else one
    smaller = one if x > one else x
    lost = smaller - (total - larger)  # 1 + x = total + lost exactly
    k = exponent(total)
    rest = lost * power_of_2(-between(k, like(-100.0, x), like(100.0, x)))
    return with_sign(_log_edges(_log_parts((mantissa(total) - one) + rest, k), total), x)


# ---- the error function and the normal distribution ----

# |x| < split: x + x P(x^2); else 1 - e^Q(|x|)
_ERF_NEAR_32 = _hex("0x1.06eba8p-3 -0x1.81273ap-2 0x1.ce2acep-4 -0x1.b7a75cp-6 0x1.4f188ap-8 -0x1.613e5ep-11")
_ERF_FAR_32 = _hex(
    "-0x1.5fb58cp-16 -0x1.20e128p+0 -0x1.458c80p-1 -0x1.aec58cp-4 0x1.7662a4p-6 -0x1.a44644p-9 0x1.bf369ap-13"
)
_ERF_NEAR_64 = _hex(
    "0x1.06eba8214db69p-3 -0x1.812746b037a2bp-2 0x1.ce2f21a0461d1p-4 -0x1.b82ce313936c2p-6 0x1.565bcd38bb101p-8 "
    "-0x1.c02dbbd32dae6p-11 0x1.f9a40cfa5f2bfp-14 -0x1.f4e32fd759d19p-17 0x1.baade39396303p-20 "
    "-0x1.64f3359086158p-23 0x1.11ca1a7cdf6c9p-26 -0x1.63bcde8a85223p-30"
)
_ERF_FAR_64 = _hex(
    "-0x1.b1db606f7242ap-25 -0x1.20dd6bf405bb4p+0 -0x1.45f35f70b5835p-1 -0x1.a4ecc58ac2eccp-4 0x1.392811b182d69p-6 "
    "0x1.de5d60da201a0p-13 -0x1.c03b048c3c241p-10 0x1.34dd17e9edfcfp-11 -0x1.204bf466a27a8p-17 "
    "-0x1.7b595087df971p-14 0x1.c449dfa503408p-15 -0x1.4984071ad48e3p-16 0x1.5cc5139041b5ap-18 "
    "-0x1.16fb077583e8ap-20 0x1.50f56c264bfacp-23 -0x1.2b4fcc6e67c9ep-26 0x1.71db3156ac83dp-30 "
    "-0x1.1c3598d79f363p-34 0x1.991fbf12d6a21p-40"
)


@compiled
def erf(x):
    limit, a = by_dtype(x, 3.93, 5.95), magnitude(x)  # it rounds to 1 there
    a = limit if a > limit else a
    near = a + a * polynomial(a * a, _ERF_NEAR_32, _ERF_NEAR_64)
    exponent_ = polynomial(a, _ERF_FAR_32, _ERF_FAR_64)
    n = rounded(exponent_ * like(_LOG2_E, x))
    r = _reduced(exponent_, n)
    power = power_of_2(n)
    far = (like(1.0, x) - power) - (r + _expm1_rest(r)) * power
    return with_sign(near if a < by_dtype(x, 0.75, 0.875) else far, x)


# Phi(-a) = e^(-a^2 / 2) P(a) / Q(a)
_NORMAL_P_32 = _hex("0x1p-1 0x1.c01890p-2 0x1.761bcep-3 0x1.4b3308p-5 0x1.0b8a9cp-8")
_NORMAL_Q_32 = _hex("0x1p+0 0x1.ac4e78p+0 0x1.3343eap+0 0x1.df3304p-2 0x1.9f1f98p-4 0x1.4f4f3ep-7")
_NORMAL_P_64 = _hex(
    "0x1p-1 0x1.8c9bc757ff491p-1 0x1.2ff7cb5dc70bap-1 0x1.2803ad90de7aap-2 0x1.8fb4c4fd01127p-4 "
    "0x1.82749a7c112f3p-6 0x1.0b82809ba5892p-8 0x1.008e7a9ee2977p-11 0x1.37b15b347f1f3p-15 0x1.72cec8dfd8760p-20"
)
_NORMAL_Q_64 = _hex(
    "0x1p+0 0x1.2c6ef87b507c6p+1 0x1.47b1f92527acbp+1 0x1.b695f391737b7p+0 0x1.90085e5a7ed36p-1 0x1.04c3e567ca3a2p-2 "
    "0x1.ee5779e00f661p-5 0x1.525362e290706p-7 0x1.427422b30e3f7p-10 0x1.86a62437aaaeap-14 0x1.d0bd14cb997fcp-19"
)


@compiled
def density(x):
    """e^(-x^2 / 2)"""
    return _scaled_density(like(1.0, x), magnitude(x))


@compiled
def _scaled_density(factor, a):
    """factor e^(-a^2 / 2)"""
    limit, half = by_dtype(a, 14.5, 38.6), like(0.5, a)  # what it is multiplied by is 0 there
    a = limit if a > limit else a
    square = a * a
    low = multiply_add(a, a, -square)  # what one number lacks of it would count in the exponential
    exponent_ = -half * square
    n = rounded(exponent_ * like(_LOG2_E, a))
    r = _reduced(exponent_, n) - half * low
    first = rounded(n * half)
    return factor * (like(1.0, a) + (r + _expm1_rest(r))) * power_of_2(first) * power_of_2(n - first)


@compiled
def _tail(a, factor):
    """factor Phi(-a), a >= 0"""
    limit = by_dtype(a, 14.5, 38.6)
    a = limit if a > limit else a
    ratio = factor * polynomial(a, _NORMAL_P_32, _NORMAL_P_64) / polynomial(a, _NORMAL_Q_32, _NORMAL_Q_64)
    return _scaled_density(ratio, a)


@compiled
def normal(x):
    """Phi(x), the normal distribution's."""
    tail = _tail(magnitude(x), like(1.0, x))
    return like(1.0, x) - tail if x > like(0.0, x) else tail


@compiled
def gelu(x):
    """x Phi(x) = max(x, 0) - |x| Phi(-|x|)"""
    a, limit, zero = magnitude(x), by_dtype(x, 14.5, 38.6), like(0.0, x)
    below = x if x < zero else zero
    return x - below - _tail(a, limit if a > limit else a)
