"""Activations, element by element: csrc/vector/activation.h says what alpha and beta are of each, and why it is so.

A kind is a pair of loops: one for it, and one for its gradient, which is given the input x or, of sigmoid, tanh, exp
and expm1, the result y.
"""

from __future__ import annotations

from typing import Any

from fastdl import _kernels
from fastdl.numba.kernels._kernel import MEMORY_GRAIN, compiled, fallback, kernel, share, share_elements
from fastdl.numba.kernels.memory import overlap
from fastdl.numba.kernels.vmath import (
    between,
    density,
    like,
    magnitude,
    normal,
)
from fastdl.numba.kernels.vmath import erf as erf_of
from fastdl.numba.kernels.vmath import exp as exp_of
from fastdl.numba.kernels.vmath import expm1 as expm1_of
from fastdl.numba.kernels.vmath import gelu as gelu_of
from fastdl.numba.kernels.vmath import log as log_of
from fastdl.numba.kernels.vmath import log1p as log1p_of
from fastdl.numba.kernels.vmath import sigmoid as sigmoid_of
from fastdl.numba.kernels.vmath import tanh as tanh_of

LOOPS: dict[int, Any] = {}
GRADIENT_LOOPS: dict[int, Any] = {}
SHORT = 512
"""Elements that cost less than to look at them."""
BLOCK = 1 << 14
GRAIN = MEMORY_GRAIN // 4  # elements: most of these take longer than to read one


def _kind(name: str) -> int:
    return _kernels.ACTIVATION_NAMES.index(name)


def forward(function: Any) -> Any:
    loop = compiled(function)
    LOOPS[_kind(function.__name__)] = loop
    return loop


def gradient(function: Any) -> Any:
    loop = compiled(function)
    GRADIENT_LOOPS[_kind(function.__name__.removesuffix("_gradient"))] = loop
    return loop


def _over(loop, size, arrays, *options):
    """The last array is made of the others. In place it is made of copies, block by block: of arrays that overlap no
    loop is vectorised."""
    if size < SHORT:
        loop(*arrays, *options)
    elif overlap(arrays[0], arrays[-1]) or (len(arrays) > 2 and overlap(arrays[1], arrays[-1])):
        share(_of_copies, size, GRAIN, loop, arrays[:-1], arrays[-1], options)
    else:
        share_elements(loop, GRAIN, arrays, *options)


def _of_copies(loop, given, to, options, begin, end):
    for first in range(begin, end, BLOCK):
        last = min(first + BLOCK, end)
        loop(*[x[first:last].copy() for x in given], to[first:last], *options)


@kernel
def elementwise(x, y, size, activation, alpha, beta):
    if activation not in LOOPS:
        return fallback("elementwise", x, y, size, activation, alpha, beta)
    _over(LOOPS[activation], size, (x, y), alpha, beta)
    return None


@kernel
def elementwise_backward(grad_output, x, grad_input, size, activation, alpha, beta):
    if activation not in GRADIENT_LOOPS:
        return fallback("elementwise_backward", grad_output, x, grad_input, size, activation, alpha, beta)
    _over(GRADIENT_LOOPS[activation], size, (grad_output, x, grad_input), alpha, beta)
    return None


def activate(y, activation, alpha, beta):
    """In place, what linear and convolution are followed by; relu is theirs."""
    if activation not in (_kernels.ACTIVATION_NONE, _kernels.ACTIVATION_RELU):
        elementwise(y, y, y.size, activation, alpha, beta)


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848


@compiled
def gelu_inner(x):
    """Twice the argument of gelu_tanh's tanh: (1 + tanh(z)) / 2 = sigmoid(2 z), without its cancellation."""
    return like(2.0 * 0.79788456080286535588, x) * (x + like(0.044715, x) * x * x * x)


@compiled
def gelu_inner_slope(x):
    """The derivative of half of that."""
    x = between(x, like(-1000.0, x), like(1000.0, x))  # what it is multiplied by is 0 long before x^2 overflows
    return like(0.79788456080286535588, x) * (like(1.0, x) + like(3 * 0.044715, x) * x * x)


@compiled
def softplus_of(x):
    """log(1 + e^x)"""
    return (x if x > like(0.0, x) else like(0.0, x)) + log1p_of(exp_of(-magnitude(x)))


# tanh(log(1 + e^x)) = numerator / denominator, in terms of w = e^-|x|, which neither overflows nor cancels.


@compiled
def mish_of(x):
    one, two, zero = like(1.0, x), like(2.0, x), like(0.0, x)
    w = exp_of(-magnitude(x))
    numerator = one + two * w if x > zero else w * (w + two)
    return x * (numerator / (numerator + two * (w * w if x > zero else one)))


@compiled
def mish_slope(x):
    """t + x (1 - t^2) sigmoid(x)"""
    one, two, zero = like(1.0, x), like(2.0, x), like(0.0, x)
    w = exp_of(-magnitude(x))
    numerator = one + two * w if x > zero else w * (w + two)
    r = one / (numerator + two * (w * w if x > zero else one))
    slope = like(4.0, x) * w * (one + w) * (w if x > zero else one)
    return numerator * r + x * (slope * r * r)


@forward
def relu(x, y, alpha, beta):
    zero = like(0.0, x[0])
    for i in range(y.size):
        v = x[i]
        y[i] = zero if v < zero else v


@gradient
def relu_gradient(grad_output, x, grad_input, alpha, beta):
    zero = like(0.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = zero if v <= zero else g


@forward
def leaky_relu(x, y, alpha, beta):
    zero, slope = like(0.0, x[0]), like(alpha, x[0])
    for i in range(y.size):
        v = x[i]
        y[i] = v if v > zero else slope * v


@gradient
def leaky_relu_gradient(grad_output, x, grad_input, alpha, beta):
    zero, slope = like(0.0, x[0]), like(alpha, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g if v > zero else slope * g


@forward
def elu(x, y, alpha, beta):
    zero, a = like(0.0, x[0]), like(alpha, x[0])
    for i in range(y.size):
        v = x[i]
        y[i] = a * expm1_of(v) if v < zero else v


@gradient
def elu_gradient(grad_output, x, grad_input, alpha, beta):
    zero, one, a = like(0.0, x[0]), like(1.0, x[0]), like(alpha, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * (a * exp_of(v) if v <= zero else one)


@forward
def selu(x, y, alpha, beta):
    zero, scale, a = like(0.0, x[0]), like(SELU_SCALE, x[0]), like(SELU_SCALE * SELU_ALPHA, x[0])
    for i in range(y.size):
        v = x[i]
        y[i] = a * expm1_of(v) if v < zero else scale * v


@gradient
def selu_gradient(grad_output, x, grad_input, alpha, beta):
    zero, scale, a = like(0.0, x[0]), like(SELU_SCALE, x[0]), like(SELU_SCALE * SELU_ALPHA, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * (a * exp_of(v) if v <= zero else scale)


@forward
def celu(x, y, alpha, beta):
    zero, one, a = like(0.0, x[0]), like(1.0, x[0]), like(alpha, x[0])
    inner = one / a
    for i in range(y.size):
        v = x[i]
        y[i] = a * expm1_of(inner * v) if v < zero else v


@gradient
def celu_gradient(grad_output, x, grad_input, alpha, beta):
    zero, one, a = like(0.0, x[0]), like(1.0, x[0]), like(alpha, x[0])
    inner = one / a
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * (a * inner * exp_of(inner * v) if v <= zero else one)


@forward
def gelu(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = gelu_of(v)


@gradient
def gelu_gradient(grad_output, x, grad_input, alpha, beta):
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * (normal(v) + v * (like(0.39894228040143267794, v) * density(v)))


@forward
def gelu_tanh(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = v * sigmoid_of(gelu_inner(v))


@gradient
def gelu_tanh_gradient(grad_output, x, grad_input, alpha, beta):
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        s = sigmoid_of(gelu_inner(v))
        grad_input[i] = g * (s + v * (like(2.0, v) * s * (like(1.0, v) - s)) * gelu_inner_slope(v))


@forward
def silu(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = v * sigmoid_of(v)


@gradient
def silu_gradient(grad_output, x, grad_input, alpha, beta):
    one = like(1.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        s = sigmoid_of(v)
        grad_input[i] = g * (s * (one + v * (one - s)))


@forward
def mish(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = mish_of(v)


@gradient
def mish_gradient(grad_output, x, grad_input, alpha, beta):
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * mish_slope(v)


@forward
def softplus(x, y, alpha, beta):
    a, threshold = like(alpha, x[0]), like(beta, x[0])
    for i in range(y.size):
        v = x[i]
        soft = softplus_of(a * v) / a  # whether it is wanted or not: branches are not vectorised
        y[i] = v if a * v > threshold else soft


@gradient
def softplus_gradient(grad_output, x, grad_input, alpha, beta):
    a, threshold = like(alpha, x[0]), like(beta, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g if a * v > threshold else g * sigmoid_of(a * v)


@forward
def softsign(x, y, alpha, beta):
    one = like(1.0, x[0])
    for i in range(y.size):
        v = x[i]
        y[i] = v / (one + magnitude(v))


@gradient
def softsign_gradient(grad_output, x, grad_input, alpha, beta):
    one = like(1.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g / ((one + magnitude(v)) * (one + magnitude(v)))


@forward
def hardtanh(x, y, alpha, beta):
    low, high = like(alpha, x[0]), like(beta, x[0])
    for i in range(y.size):
        v = x[i]
        y[i] = between(v, low, high)


@gradient
def hardtanh_gradient(grad_output, x, grad_input, alpha, beta):
    low, high, zero = like(alpha, x[0]), like(beta, x[0]), like(0.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = zero if (v <= low) | (v >= high) else g


@forward
def hardsigmoid(x, y, alpha, beta):
    zero, three, six = like(0.0, x[0]), like(3.0, x[0]), like(6.0, x[0])
    sixth = like(1.0 / 6.0, x[0])
    for i in range(y.size):
        v = x[i]
        y[i] = between(v + three, zero, six) * sixth


@gradient
def hardsigmoid_gradient(grad_output, x, grad_input, alpha, beta):
    zero, three = like(0.0, x[0]), like(3.0, x[0])
    sixth = like(1.0 / 6.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * sixth if (v > -three) & (v < three) else zero


@forward
def hardswish(x, y, alpha, beta):
    zero, three, six = like(0.0, x[0]), like(3.0, x[0]), like(6.0, x[0])
    sixth = like(1.0 / 6.0, x[0])
    for i in range(y.size):
        v = x[i]
        y[i] = v * (between(v + three, zero, six) * sixth)


@gradient
def hardswish_gradient(grad_output, x, grad_input, alpha, beta):
    zero, three = like(0.0, x[0]), like(3.0, x[0])
    half, third = like(0.5, x[0]), like(1.0 / 3.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = zero if v <= -three else (g * (v * third + half) if v < three else g)


@forward
def relu6(x, y, alpha, beta):
    zero, six = like(0.0, x[0]), like(6.0, x[0])
    for i in range(y.size):
        v = x[i]
        y[i] = between(v, zero, six)


@gradient
def relu6_gradient(grad_output, x, grad_input, alpha, beta):
    zero, six = like(0.0, x[0]), like(6.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = zero if (v <= zero) | (v >= six) else g


@forward
def logsigmoid(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = -softplus_of(-v)


@gradient
def logsigmoid_gradient(grad_output, x, grad_input, alpha, beta):
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * sigmoid_of(-v)


@forward
def sigmoid(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = sigmoid_of(v)


@gradient
def sigmoid_gradient(grad_output, x, grad_input, alpha, beta):
    one = like(1.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * (v * (one - v))


@forward
def tanh(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = tanh_of(v)


@gradient
def tanh_gradient(grad_output, x, grad_input, alpha, beta):
    one = like(1.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * (one - v * v)


@forward
def threshold(x, y, alpha, beta):
    threshold_, value = like(alpha, x[0]), like(beta, x[0])
    for i in range(y.size):
        v = x[i]
        y[i] = value if v <= threshold_ else v


@gradient
def threshold_gradient(grad_output, x, grad_input, alpha, beta):
    threshold_, zero = like(alpha, x[0]), like(0.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = zero if v <= threshold_ else g


@forward
def hardshrink(x, y, alpha, beta):
    bound, zero = like(alpha, x[0]), like(0.0, x[0])
    for i in range(y.size):
        v = x[i]
        y[i] = zero if (v >= -bound) & (v <= bound) else v


@gradient
def hardshrink_gradient(grad_output, x, grad_input, alpha, beta):
    bound, zero = like(alpha, x[0]), like(0.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = zero if (v >= -bound) & (v <= bound) else g


@forward
def softshrink(x, y, alpha, beta):
    bound, zero = like(alpha, x[0]), like(0.0, x[0])
    for i in range(y.size):
        v = x[i]
        y[i] = zero if (v >= -bound) & (v <= bound) else (v + bound if v < zero else v - bound)


@gradient
def softshrink_gradient(grad_output, x, grad_input, alpha, beta):
    bound, zero = like(alpha, x[0]), like(0.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = zero if (v >= -bound) & (v <= bound) else g


@forward
def tanhshrink(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = v - tanh_of(v)


@gradient
def tanhshrink_gradient(grad_output, x, grad_input, alpha, beta):
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * (tanh_of(v) * tanh_of(v))


@forward
def exp(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = exp_of(v)


@gradient
def exp_gradient(grad_output, x, grad_input, alpha, beta):
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * v


@forward
def expm1(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = expm1_of(v)


@gradient
def expm1_gradient(grad_output, x, grad_input, alpha, beta):
    one = like(1.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * (v + one)


@forward
def log(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = log_of(v)


@gradient
def log_gradient(grad_output, x, grad_input, alpha, beta):
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g / v


@forward
def log1p(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = log1p_of(v)


@gradient
def log1p_gradient(grad_output, x, grad_input, alpha, beta):
    one = like(1.0, x[0])
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g / (one + v)


@forward
def erf(x, y, alpha, beta):
    for i in range(y.size):
        v = x[i]
        y[i] = erf_of(v)


@gradient
def erf_gradient(grad_output, x, grad_input, alpha, beta):
    for i in range(x.size):
        g, v = grad_output[i], x[i]
        grad_input[i] = g * (like(1.12837916709551257390, v) * exp_of(-v * v))
