"""Activations and the elementary functions they are made of, each with its backward.

The elementwise ones are one kernel, csrc/vector/activation.h: a function here names its kind and the two numbers that
belong to it. They work in place where out is x, and are what `activation` fuses into linear and convolution.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastdl import _kernels
from fastdl.functional._operation import helper, operation
from fastdl.functional.verbs import (
    Array,
    disjoint,
    fail,
    floats,
    floats_like,
    fused,
    gradient,
    output,
    same_or_disjoint,
)

__all__ = [
    "PReLUGrad",
    "celu",
    "celu_backward",
    "elu",
    "elu_backward",
    "erf",
    "erf_backward",
    "exp",
    "exp_backward",
    "expm1",
    "expm1_backward",
    "gelu",
    "gelu_backward",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "hardtanh",
    "hardtanh_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "log",
    "log1p",
    "log1p_backward",
    "log_backward",
    "log_softmax",
    "log_softmax_backward",
    "logsigmoid",
    "logsigmoid_backward",
    "mish",
    "mish_backward",
    "prelu",
    "prelu_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softplus",
    "softplus_backward",
    "softsign",
    "softsign_backward",
    "tanh",
    "tanh_backward",
]

ACTIVATIONS = _kernels.ACTIVATION_NAMES

# Of each kind how many arguments it takes, and the two numbers that the kernel gets where they are not given.
ACTIVATION_ARGS = tuple(
    {
        "leaky_relu": (1, 0.01, 0.0),
        "elu": (1, 1.0, 0.0),
        "celu": (1, 1.0, 0.0),
        "softplus": (2, 1.0, 20.0),
        "hardtanh": (2, -1.0, 1.0),
    }.get(name, (0, 0.0, 0.0))
    for name in ACTIVATIONS
)

(
    _NONE,
    _RELU,
    _LEAKY_RELU,
    _ELU,
    _SELU,
    _CELU,
    _GELU,
    _GELU_TANH,
    _SILU,
    _MISH,
    _SOFTPLUS,
    _SOFTSIGN,
    _HARDTANH,
    _HARDSIGMOID,
    _HARDSWISH,
    _RELU6,
    _LOGSIGMOID,
    _SIGMOID,
    _TANH,
    _EXP,
    _EXPM1,
    _LOG,
    _LOG1P,
    _ERF,
) = range(len(ACTIVATIONS))


@operation
def relu(x: Any, out: Array | None = None) -> Array:
    """max(x, 0), element by element; NaN stays NaN. torch.nn.functional.relu.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _RELU, 0.0, 0.0, out)


@operation
def relu_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of relu: grad_output where x > 0, else 0. relu's output may stand in for x.

    x: what relu was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _RELU, 0.0, 0.0, out)


@operation
def relu6(x: Any, out: Array | None = None) -> Array:
    """min(max(x, 0), 6). torch.nn.functional.relu6.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _RELU6, 0.0, 0.0, out)


@operation
def relu6_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of relu6: grad_output where 0 < x < 6, else 0.

    x: what relu6 was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _RELU6, 0.0, 0.0, out)


@operation
def leaky_relu(x: Any, negative_slope: float = 0.01, out: Array | None = None) -> Array:
    """x where x > 0, else negative_slope x. torch.nn.functional.leaky_relu.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _LEAKY_RELU, negative_slope, 0.0, out)


@operation
def leaky_relu_backward(grad_output: Any, x: Any, negative_slope: float = 0.01, out: Array | None = None) -> Array:
    """The gradient of leaky_relu: grad_output where x > 0, else negative_slope grad_output.

    x: what leaky_relu was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _LEAKY_RELU, negative_slope, 0.0, out)


@operation
def elu(x: Any, alpha: float = 1.0, out: Array | None = None) -> Array:
    """x where x > 0, else alpha (e^x - 1). torch.nn.functional.elu.

    x: any shape, float32 or float64. out: an array like x, or x itself. Source: Clevert et al., ICLR 2016.
    """
    return _elementwise(x, _ELU, alpha, 0.0, out)


@operation
def elu_backward(grad_output: Any, x: Any, alpha: float = 1.0, out: Array | None = None) -> Array:
    """The gradient of elu: grad_output where x > 0, else grad_output alpha e^x.

    x: what elu was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _ELU, alpha, 0.0, out)


@operation
def selu(x: Any, out: Array | None = None) -> Array:
    """1.0507 elu(x, 1.6733), the constants in full precision. torch.nn.functional.selu.

    x: any shape, float32 or float64. out: an array like x, or x itself. Source: Klambauer et al., NeurIPS 2017.
    """
    return _elementwise(x, _SELU, 0.0, 0.0, out)


@operation
def selu_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of selu: grad_output 1.0507 (1 where x > 0, else 1.6733 e^x).

    x: what selu was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _SELU, 0.0, 0.0, out)


@operation
def celu(x: Any, alpha: float = 1.0, out: Array | None = None) -> Array:
    """x where x > 0, else alpha (e^(x / alpha) - 1). torch.nn.functional.celu.

    x: any shape, float32 or float64. alpha: not 0. out: an array like x, or x itself. Source: Barron, 2017.
    """
    return _elementwise(x, _CELU, _nonzero(alpha, "alpha"), 0.0, out)


@operation
def celu_backward(grad_output: Any, x: Any, alpha: float = 1.0, out: Array | None = None) -> Array:
    """The gradient of celu: grad_output where x > 0, else grad_output e^(x / alpha).

    x: what celu was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _CELU, _nonzero(alpha, "alpha"), 0.0, out)


@operation
def gelu(x: Any, approximate: str = "none", out: Array | None = None) -> Array:
    """x Phi(x), Phi the normal distribution's; with approximate="tanh",
    x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. torch.nn.functional.gelu.

    x: any shape, float32 or float64. out: an array like x, or x itself. Source: Hendrycks and Gimpel, 2016.
    """
    return _elementwise(x, _gelu(approximate), 0.0, 0.0, out)


@operation
def gelu_backward(grad_output: Any, x: Any, approximate: str = "none", out: Array | None = None) -> Array:
    """The gradient of gelu: grad_output (Phi(x) + x phi(x)), or that of the approximation.

    x: what gelu was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _gelu(approximate), 0.0, 0.0, out)


@operation
def silu(x: Any, out: Array | None = None) -> Array:
    """x sigmoid(x), also known as swish. torch.nn.functional.silu.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _SILU, 0.0, 0.0, out)


@operation
def silu_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of silu: grad_output s (1 + x (1 - s)), s = sigmoid(x).

    x: what silu was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _SILU, 0.0, 0.0, out)


@operation
def mish(x: Any, out: Array | None = None) -> Array:
    """x tanh(softplus(x)). torch.nn.functional.mish.

    x: any shape, float32 or float64. out: an array like x, or x itself. Source: Misra, BMVC 2020.
    """
    return _elementwise(x, _MISH, 0.0, 0.0, out)


@operation
def mish_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of mish: grad_output (t + x (1 - t^2) sigmoid(x)), t = tanh(softplus(x)).

    x: what mish was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _MISH, 0.0, 0.0, out)


@operation
def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0, out: Array | None = None) -> Array:
    """log(1 + e^(beta x)) / beta, and x where beta x > threshold. torch.nn.functional.softplus.

    x: any shape, float32 or float64. beta: not 0. out: an array like x, or x itself.
    """
    return _elementwise(x, _SOFTPLUS, _nonzero(beta, "beta"), threshold, out)


@operation
def softplus_backward(
    grad_output: Any, x: Any, beta: float = 1.0, threshold: float = 20.0, out: Array | None = None
) -> Array:
    """The gradient of softplus: grad_output sigmoid(beta x), and grad_output where beta x > threshold.

    x: what softplus was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _SOFTPLUS, _nonzero(beta, "beta"), threshold, out)


@operation
def softsign(x: Any, out: Array | None = None) -> Array:
    """x / (1 + |x|). torch.nn.functional.softsign.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _SOFTSIGN, 0.0, 0.0, out)


@operation
def softsign_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of softsign: grad_output / (1 + |x|)^2.

    x: what softsign was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _SOFTSIGN, 0.0, 0.0, out)


@operation
def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0, out: Array | None = None) -> Array:
    """min(max(x, min_val), max_val). torch.nn.functional.hardtanh.

    x: any shape, float32 or float64. min_val: at most max_val. out: an array like x, or x itself.
    """
    return _elementwise(x, _HARDTANH, _least(min_val, max_val), max_val, out)


@operation
def hardtanh_backward(
    grad_output: Any, x: Any, min_val: float = -1.0, max_val: float = 1.0, out: Array | None = None
) -> Array:
    """The gradient of hardtanh: grad_output where min_val < x < max_val, else 0.

    x: what hardtanh was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _HARDTANH, _least(min_val, max_val), max_val, out)


@operation
def hardsigmoid(x: Any, out: Array | None = None) -> Array:
    """min(max(x + 3, 0), 6) / 6. torch.nn.functional.hardsigmoid.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _HARDSIGMOID, 0.0, 0.0, out)


@operation
def hardsigmoid_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of hardsigmoid: grad_output / 6 where -3 < x < 3, else 0.

    x: what hardsigmoid was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _HARDSIGMOID, 0.0, 0.0, out)


@operation
def hardswish(x: Any, out: Array | None = None) -> Array:
    """x hardsigmoid(x). torch.nn.functional.hardswish.

    x: any shape, float32 or float64. out: an array like x, or x itself. Source: Howard et al., ICCV 2019.
    """
    return _elementwise(x, _HARDSWISH, 0.0, 0.0, out)


@operation
def hardswish_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of hardswish: 0 where x <= -3, grad_output (x / 3 + 1 / 2) where -3 < x < 3, grad_output beyond.

    x: what hardswish was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _HARDSWISH, 0.0, 0.0, out)


@operation
def logsigmoid(x: Any, out: Array | None = None) -> Array:
    """log(1 / (1 + e^-x)). torch.nn.functional.logsigmoid.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _LOGSIGMOID, 0.0, 0.0, out)


@operation
def logsigmoid_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of logsigmoid: grad_output sigmoid(-x).

    x: what logsigmoid was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _LOGSIGMOID, 0.0, 0.0, out)


@operation
def sigmoid(x: Any, out: Array | None = None) -> Array:
    """1 / (1 + e^-x). torch.sigmoid.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _SIGMOID, 0.0, 0.0, out)


@operation
def sigmoid_backward(grad_output: Any, y: Any, out: Array | None = None) -> Array:
    """The gradient of sigmoid: grad_output y (1 - y).

    y: what sigmoid returned; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, y, "y", _SIGMOID, 0.0, 0.0, out)


@operation
def tanh(x: Any, out: Array | None = None) -> Array:
    """The hyperbolic tangent. torch.tanh.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _TANH, 0.0, 0.0, out)


@operation
def tanh_backward(grad_output: Any, y: Any, out: Array | None = None) -> Array:
    """The gradient of tanh: grad_output (1 - y^2).

    y: what tanh returned; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, y, "y", _TANH, 0.0, 0.0, out)


@operation
def exp(x: Any, out: Array | None = None) -> Array:
    """e^x. torch.exp.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _EXP, 0.0, 0.0, out)


@operation
def exp_backward(grad_output: Any, y: Any, out: Array | None = None) -> Array:
    """The gradient of exp: grad_output y.

    y: what exp returned; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, y, "y", _EXP, 0.0, 0.0, out)


@operation
def expm1(x: Any, out: Array | None = None) -> Array:
    """e^x - 1, accurate near 0. torch.expm1.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _EXPM1, 0.0, 0.0, out)


@operation
def expm1_backward(grad_output: Any, y: Any, out: Array | None = None) -> Array:
    """The gradient of expm1: grad_output (y + 1).

    y: what expm1 returned; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, y, "y", _EXPM1, 0.0, 0.0, out)


@operation
def log(x: Any, out: Array | None = None) -> Array:
    """The natural logarithm; -infinity at 0, NaN below. torch.log.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _LOG, 0.0, 0.0, out)


@operation
def log_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of log: grad_output / x.

    x: what log was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _LOG, 0.0, 0.0, out)


@operation
def log1p(x: Any, out: Array | None = None) -> Array:
    """log(1 + x), accurate near 0. torch.log1p.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _LOG1P, 0.0, 0.0, out)


@operation
def log1p_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of log1p: grad_output / (1 + x).

    x: what log1p was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _LOG1P, 0.0, 0.0, out)


@operation
def erf(x: Any, out: Array | None = None) -> Array:
    """2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x. torch.erf.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    return _elementwise(x, _ERF, 0.0, 0.0, out)


@operation
def erf_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of erf: grad_output 2 / sqrt(pi) e^(-x^2).

    x: what erf was given; grad_output: its shape. out: an array like them, or one of the two.
    """
    return _elementwise_backward(grad_output, x, "x", _ERF, 0.0, 0.0, out)


class PReLUGrad(NamedTuple):
    input: Array
    weight: Array


@operation
def prelu(x: Any, weight: Any, out: Array | None = None) -> Array:
    """x where x > 0, else weight x. torch.nn.functional.prelu.

    x: any shape. weight: (1,), or one for each channel, x.shape[1]. out: an array like x, or x itself.
    Source: He et al., ICCV 2015, section 2.1.
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 1)
    outer, channels, inner = _channels(x.shape, weight.size)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        disjoint(result, "weight", weight)
    _kernels.prelu(x, weight, result, outer, channels, inner, weight.size)
    return result


@operation
def prelu_backward(grad_output: Any, x: Any, weight: Any) -> PReLUGrad:
    """The gradients of prelu as (input, weight): grad_output where x > 0, else weight grad_output; and the sum of
    x grad_output over each weight's x <= 0."""
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 1)
    grad_output = floats_like(grad_output, "grad_output", x)
    if grad_output.shape != x.shape:
        fail("grad_output", grad_output.shape, x.shape)
    outer, channels, inner = _channels(x.shape, weight.size)
    result = PReLUGrad(gradient(x), gradient(weight))
    _kernels.prelu_backward(grad_output, x, weight, result.input, result.weight, outer, channels, inner, weight.size)
    return result


@operation
def softmax(x: Any, dim: int = -1, out: Array | None = None) -> Array:
    """exp(x) / sum(exp(x)) along dim. torch.nn.functional.softmax.

    The maximum is subtracted first, so that no finite x overflows. x: any shape. out: an array like x, or x itself.
    """
    x = floats(x, "x")
    outer, classes, inner = _split_at(x.shape, dim)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
    _kernels.softmax(x, result, outer, classes, inner)
    return result


@operation
def softmax_backward(grad_output: Any, y: Any, dim: int = -1, out: Array | None = None) -> Array:
    """The gradient of softmax: y (grad_output - sum(grad_output y)) along dim.

    y: what softmax returned. grad_output: its shape. out: an array like y, or one of the two.
    """
    y = floats(y, "y")
    grad_output = floats_like(grad_output, "grad_output", y)
    if grad_output.shape != y.shape:
        fail("grad_output", grad_output.shape, y.shape)
    outer, classes, inner = _split_at(y.shape, dim)
    result = output(out, y.shape, y)
    if out is not None:
        same_or_disjoint(result, "y", y)
        same_or_disjoint(result, "grad_output", grad_output)
    _kernels.softmax_backward(grad_output, y, result, outer, classes, inner)
    return result


@operation
def log_softmax(x: Any, dim: int = -1, out: Array | None = None) -> Array:
    """x - log(sum(exp(x))) along dim. torch.nn.functional.log_softmax.

    The maximum is subtracted first, so that no finite x overflows. x: any shape. out: an array like x, or x itself.
    """
    x = floats(x, "x")
    outer, classes, inner = _split_at(x.shape, dim)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
    _kernels.log_softmax(x, result, outer, classes, inner)
    return result


@operation
def log_softmax_backward(grad_output: Any, y: Any, dim: int = -1, out: Array | None = None) -> Array:
    """The gradient of log_softmax: grad_output - exp(y) sum(grad_output) along dim.

    y: what log_softmax returned. grad_output: its shape. out: an array like y, or one of the two.
    """
    y = floats(y, "y")
    grad_output = floats_like(grad_output, "grad_output", y)
    if grad_output.shape != y.shape:
        fail("grad_output", grad_output.shape, y.shape)
    outer, classes, inner = _split_at(y.shape, dim)
    result = output(out, y.shape, y)
    if out is not None:
        same_or_disjoint(result, "y", y)
        same_or_disjoint(result, "grad_output", grad_output)
    _kernels.log_softmax_backward(grad_output, y, result, outer, classes, inner)
    return result


@helper
def _elementwise(x: Any, kind: int, alpha: float, beta: float, out: Array | None) -> Array:
    x = floats(x, "x")
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
    _kernels.elementwise(x, result, x.size, kind, alpha, beta)
    return result


@helper
def _elementwise_backward(
    grad_output: Any, saved: Any, argument: str, kind: int, alpha: float, beta: float, out: Array | None
) -> Array:
    """The gradient; `saved` is x or y, and `argument` is which."""
    saved = floats(saved, argument)
    grad_output = floats_like(grad_output, "grad_output", saved)
    if grad_output.shape != saved.shape:
        fail("grad_output", grad_output.shape, saved.shape)
    result = output(out, saved.shape, saved)
    if out is not None:
        same_or_disjoint(result, argument, saved)
        same_or_disjoint(result, "grad_output", grad_output)
    _kernels.elementwise_backward(grad_output, saved, result, saved.size, kind, alpha, beta)
    return result


@helper
def fused_activation(activation: str, args: tuple[float, ...]) -> tuple[int, float, float]:
    """An activation and its arguments, which are what its own function takes, as the kind and two numbers."""
    act = fused(activation, args, ACTIVATIONS, ACTIVATION_ARGS)
    if len(args) > 0:  # the defaults are right
        if act[0] == _CELU:
            _nonzero(act[1], "alpha")
        elif act[0] == _SOFTPLUS:
            _nonzero(act[1], "beta")
        elif act[0] == _HARDTANH:
            _least(act[1], act[2])
    return act


@helper
def _nonzero(value: float, argument: str) -> float:
    if value == 0:
        fail(argument, value, "a number other than 0")
    return value


@helper
def _least(min_val: float, max_val: float) -> float:
    if not min_val <= max_val:
        fail("min_val", min_val, ("at most max_val,", max_val))
    return min_val


@helper
def _gelu(approximate: str) -> int:
    if approximate not in ("none", "tanh"):
        fail("approximate", repr(approximate), "one of none, tanh")
    return _GELU_TANH if approximate == "tanh" else _GELU


@helper
def _channels(shape: tuple[int, ...], weights: int) -> tuple[int, int, int]:
    """The shape seen as (outer, channels, inner); as one channel if there is one weight."""
    size = 1
    for n in shape:
        size *= n
    if weights == 1:
        return 1, 1, size
    if len(shape) < 2 or shape[1] != weights:
        fail("weight", ("shape", (weights,)), ("shape (1,) or one for each channel of", shape))
    inner = 1
    for i in range(2, len(shape)):
        inner *= shape[i]
    return shape[0], weights, inner


@helper
def _split_at(shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """The shape seen as (outer, shape[dim], inner)."""
    ndim = len(shape)
    if dim < -ndim or dim >= ndim:
        fail("dim", dim, (-ndim, ndim - 1))
    outer, inner = 1, 1
    for i in range(ndim):
        if i < dim % ndim:
            outer *= shape[i]
        elif i > dim % ndim:
            inner *= shape[i]
    return outer, shape[dim], inner
