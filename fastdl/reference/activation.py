"""Activations and elementary functions, each with its backward."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fastdl import functional
from fastdl.functional.activation.prelu import PReLUGrad
from fastdl.functional.verbs import Array
from fastdl.reference._implements import implements

__all__ = [
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
    "glu",
    "glu_backward",
    "hardshrink",
    "hardshrink_backward",
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
    "softmin",
    "softmin_backward",
    "softplus",
    "softplus_backward",
    "softshrink",
    "softshrink_backward",
    "softsign",
    "softsign_backward",
    "tanh",
    "tanh_backward",
    "tanhshrink",
    "tanhshrink_backward",
    "threshold",
    "threshold_backward",
]


@implements(functional.relu)
def relu(x):
    return np.maximum(x, 0)


@implements(functional.relu_backward)
def relu_backward(grad_output, x):
    return np.where(x <= 0, 0, grad_output)


@implements(functional.relu6)
def relu6(x):
    return np.clip(x, 0, 6)


@implements(functional.relu6_backward)
def relu6_backward(grad_output, x):
    return np.where((x <= 0) | (x >= 6), 0, grad_output)


@implements(functional.leaky_relu)
def leaky_relu(x, negative_slope):
    return np.where(x > 0, x, negative_slope * x)


@implements(functional.leaky_relu_backward)
def leaky_relu_backward(grad_output, x, negative_slope):
    return np.where(x > 0, grad_output, negative_slope * grad_output)


@implements(functional.elu)
def elu(x, alpha):
    return np.where(x < 0, alpha * np.expm1(x), x)


@implements(functional.elu_backward)
def elu_backward(grad_output, x, alpha):
    return grad_output * np.where(x <= 0, alpha * np.exp(x), 1)


@implements(functional.selu)
def selu(x):
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


@implements(functional.selu_backward)
def selu_backward(grad_output, x):
    return elu_backward(_SELU_SCALE * grad_output, x, _SELU_ALPHA)


@implements(functional.celu)
def celu(x, alpha):
    return np.where(x < 0, alpha * np.expm1(x / alpha), x)


@implements(functional.celu_backward)
def celu_backward(grad_output, x, alpha):
    return grad_output * np.where(x <= 0, np.exp(x / alpha), 1)


@implements(functional.gelu)
def gelu(x, approximate):
    return x * (sigmoid(2 * _gelu_inner(x)) if approximate == "tanh" else _normal_cdf(x))


@implements(functional.gelu_backward)
def gelu_backward(grad_output, x, approximate):
    if approximate == "none":
        return grad_output * (_normal_cdf(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi))
    s = sigmoid(2 * _gelu_inner(x))
    slope = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x * x)
    return grad_output * (s + x * 2 * s * (1 - s) * slope)


@implements(functional.silu)
def silu(x):
    return x * sigmoid(x)


@implements(functional.silu_backward)
def silu_backward(grad_output, x):
    s = sigmoid(x)
    return grad_output * s * (1 + x * (1 - s))


@implements(functional.mish)
def mish(x):
    return x * np.tanh(softplus(x))


@implements(functional.mish_backward)
def mish_backward(grad_output, x):
    t = np.tanh(softplus(x))
    return grad_output * (t + x * (1 - t * t) * sigmoid(x))


@implements(functional.softplus)
def softplus(x, beta, threshold):
    return np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta)


@implements(functional.softplus_backward)
def softplus_backward(grad_output, x, beta, threshold):
    return np.where(beta * x > threshold, grad_output, grad_output * sigmoid(beta * x))


@implements(functional.softsign)
def softsign(x):
    return x / (1 + np.abs(x))


@implements(functional.softsign_backward)
def softsign_backward(grad_output, x):
    return grad_output / (1 + np.abs(x)) ** 2


@implements(functional.hardtanh)
def hardtanh(x, min_val, max_val):
    return np.clip(x, min_val, max_val)


@implements(functional.hardtanh_backward)
def hardtanh_backward(grad_output, x, min_val, max_val):
    return np.where((x <= min_val) | (x >= max_val), 0, grad_output)


@implements(functional.hardsigmoid)
def hardsigmoid(x):
    return np.clip(x + 3, 0, 6) / 6


@implements(functional.hardsigmoid_backward)
def hardsigmoid_backward(grad_output, x):
    return np.where((x > -3) & (x < 3), grad_output / 6, 0)


@implements(functional.hardswish)
def hardswish(x):
    return x * np.clip(x + 3, 0, 6) / 6


@implements(functional.hardswish_backward)
def hardswish_backward(grad_output, x):
    return np.where(x <= -3, 0, np.where(x < 3, grad_output * (x / 3 + 0.5), grad_output))


@implements(functional.threshold)
def threshold(x, threshold, value):
    return np.where(x <= threshold, value, x)


@implements(functional.threshold_backward)
def threshold_backward(grad_output, x, threshold):
    return np.where(x <= threshold, 0, grad_output)


@implements(functional.hardshrink)
def hardshrink(x, lambd):
    return np.where((x >= -lambd) & (x <= lambd), 0, x)


@implements(functional.hardshrink_backward)
def hardshrink_backward(grad_output, x, lambd):
    return np.where((x >= -lambd) & (x <= lambd), 0, grad_output)


@implements(functional.softshrink)
def softshrink(x, lambd):
    return np.where((x >= -lambd) & (x <= lambd), 0, x - np.copysign(lambd, x))


@implements(functional.softshrink_backward)
def softshrink_backward(grad_output, x, lambd):
    return np.where((x >= -lambd) & (x <= lambd), 0, grad_output)


@implements(functional.tanhshrink)
def tanhshrink(x):
    return x - np.tanh(x)


@implements(functional.tanhshrink_backward)
def tanhshrink_backward(grad_output, x):
    return grad_output * np.tanh(x) ** 2


@implements(functional.logsigmoid)
def logsigmoid(x):
    return -np.logaddexp(0, -x)


@implements(functional.logsigmoid_backward)
def logsigmoid_backward(grad_output, x):
    return grad_output * sigmoid(-x)


@implements(functional.sigmoid)
def sigmoid(x):
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


@implements(functional.sigmoid_backward)
def sigmoid_backward(grad_output, y):
    return grad_output * y * (1 - y)


@implements(functional.tanh)
def tanh(x):
    return np.tanh(x)


@implements(functional.tanh_backward)
def tanh_backward(grad_output, y):
    return grad_output * (1 - y * y)


@implements(functional.exp)
def exp(x):
    return np.exp(x)


@implements(functional.exp_backward)
def exp_backward(grad_output, y):
    return grad_output * y


@implements(functional.expm1)
def expm1(x):
    return np.expm1(x)


@implements(functional.expm1_backward)
def expm1_backward(grad_output, y):
    return grad_output * (y + 1)


@implements(functional.log)
def log(x):
    return np.log(x)


@implements(functional.log_backward)
def log_backward(grad_output, x):
    return grad_output / x


@implements(functional.log1p)
def log1p(x):
    return np.log1p(x)


@implements(functional.log1p_backward)
def log1p_backward(grad_output, x):
    return grad_output / (1 + x)


@implements(functional.erf)
def erf(x):
    return _each(math.erf, x)


@implements(functional.erf_backward)
def erf_backward(grad_output, x):
    return grad_output * 2 / np.sqrt(np.pi) * np.exp(-x * x)


@implements(functional.prelu)
def prelu(x, weight):
    return np.where(x > 0, x, _by_channel(weight, x) * x)


@implements(functional.prelu_backward)
def prelu_backward(grad_output, x, weight):
    grad_weight = np.where(x > 0, 0, x * grad_output)
    others = tuple(i for i in range(x.ndim) if i != 1 or weight.size == 1)
    return PReLUGrad(
        np.where(x > 0, grad_output, _by_channel(weight, x) * grad_output),
        grad_weight.sum(others).reshape(weight.shape),
    )


@implements(functional.softmax)
def softmax(x, dim):
    exp = np.exp(x - x.max(dim, keepdims=True, initial=-np.inf))
    return exp / exp.sum(dim, keepdims=True)


@implements(functional.softmax_backward)
def softmax_backward(grad_output, y, dim):
    return y * (grad_output - (grad_output * y).sum(dim, keepdims=True))


@implements(functional.softmin)
def softmin(x, dim):
    return softmax(-x, dim)


@implements(functional.softmin_backward)
def softmin_backward(grad_output, y, dim):
    return -softmax_backward(grad_output, y, dim)


@implements(functional.log_softmax)
def log_softmax(x, dim):
    shifted = x - x.max(dim, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(dim, keepdims=True))


@implements(functional.log_softmax_backward)
def log_softmax_backward(grad_output, y, dim):
    return grad_output - np.exp(y) * grad_output.sum(dim, keepdims=True)


@implements(functional.glu)
def glu(x, dim):
    a, b = np.split(x, 2, dim)
    return a * sigmoid(b)


@implements(functional.glu_backward)
def glu_backward(grad_output, x, dim):
    a, b = np.split(x, 2, dim)
    s = sigmoid(b)
    return np.concatenate([grad_output * s, grad_output * s * (1 - s) * a], dim)


def fused(y: Array, activation: str, arguments: tuple[float, ...]) -> Array:
    """What the argument `activation` of linear and convolution names."""
    if activation == "none":
        return y
    name, more = ("gelu", ("tanh",)) if activation == "gelu_tanh" else (activation, arguments)
    function: Callable[..., Array] = globals()[name]
    return function(y, *more)


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def _each(function: Callable[[float], float], x: Array) -> Array:
    """A function of Python's math module, which NumPy lacks."""
    return np.array([function(v) for v in x.ravel().tolist()], x.dtype).reshape(x.shape)


def _normal_cdf(x: Array) -> Array:
    return _each(math.erfc, -x / np.sqrt(2)) / 2


def _gelu_inner(x: Array) -> Array:
    return np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)


def _by_channel(weight: Array, x: Array) -> Array:
    return weight if weight.size == 1 else weight.reshape(-1, *(1,) * (x.ndim - 2))
