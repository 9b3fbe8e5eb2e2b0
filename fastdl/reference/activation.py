"""Activations and elementary functions, each with its backward."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastdl.functional.activation import PReLUGrad
from fastdl.functional.verbs import Array
from fastdl.reference._window import fill

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


def relu(x: Any, out: Array | None = None) -> Array:
    return fill(out, np.maximum(x, 0))


def relu_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    return fill(out, np.where(x <= 0, 0, grad_output))


def relu6(x: Any, out: Array | None = None) -> Array:
    return fill(out, np.clip(x, 0, 6))


def relu6_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    return fill(out, np.where((x > 0) & (x < 6), grad_output, 0))


def leaky_relu(x: Any, negative_slope: float = 0.01, out: Array | None = None) -> Array:
    return fill(out, np.where(x > 0, x, negative_slope * x))


def leaky_relu_backward(grad_output: Any, x: Any, negative_slope: float = 0.01, out: Array | None = None) -> Array:
    return fill(out, np.where(x > 0, grad_output, negative_slope * grad_output))


def elu(x: Any, alpha: float = 1.0, out: Array | None = None) -> Array:
    return fill(out, np.where(x > 0, x, alpha * np.expm1(x)))


def elu_backward(grad_output: Any, x: Any, alpha: float = 1.0, out: Array | None = None) -> Array:
    return fill(out, grad_output * np.where(x > 0, 1, alpha * np.exp(x)))


def selu(x: Any, out: Array | None = None) -> Array:
    return fill(out, _SELU_SCALE * elu(x, _SELU_ALPHA))


def selu_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    return fill(out, elu_backward(_SELU_SCALE * grad_output, x, _SELU_ALPHA))


def celu(x: Any, alpha: float = 1.0, out: Array | None = None) -> Array:
    return fill(out, np.where(x > 0, x, alpha * np.expm1(x / alpha)))


def celu_backward(grad_output: Any, x: Any, alpha: float = 1.0, out: Array | None = None) -> Array:
    return fill(out, grad_output * np.where(x > 0, 1, np.exp(x / alpha)))


def gelu(x: Any, approximate: str = "none", out: Array | None = None) -> Array:
    return fill(out, x * (sigmoid(2 * _gelu_inner(x)) if approximate == "tanh" else _normal_cdf(x)))


def gelu_backward(grad_output: Any, x: Any, approximate: str = "none", out: Array | None = None) -> Array:
    if approximate == "none":
        return fill(out, grad_output * (_normal_cdf(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)))
    s = sigmoid(2 * _gelu_inner(x))
    slope = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x * x)
    return fill(out, grad_output * (s + x * 2 * s * (1 - s) * slope))


def silu(x: Any, out: Array | None = None) -> Array:
    return fill(out, x * sigmoid(x))


def silu_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    s = sigmoid(x)
    return fill(out, grad_output * s * (1 + x * (1 - s)))


def mish(x: Any, out: Array | None = None) -> Array:
    return fill(out, x * np.tanh(softplus(x)))


def mish_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    t = np.tanh(softplus(x))
    return fill(out, grad_output * (t + x * (1 - t * t) * sigmoid(x)))


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0, out: Array | None = None) -> Array:
    return fill(out, np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta))


def softplus_backward(
    grad_output: Any, x: Any, beta: float = 1.0, threshold: float = 20.0, out: Array | None = None
) -> Array:
    return fill(out, np.where(beta * x > threshold, grad_output, grad_output * sigmoid(beta * x)))


def softsign(x: Any, out: Array | None = None) -> Array:
    return fill(out, x / (1 + np.abs(x)))


def softsign_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    return fill(out, grad_output / (1 + np.abs(x)) ** 2)


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0, out: Array | None = None) -> Array:
    return fill(out, np.clip(x, min_val, max_val))


def hardtanh_backward(
    grad_output: Any, x: Any, min_val: float = -1.0, max_val: float = 1.0, out: Array | None = None
) -> Array:
    return fill(out, np.where((x > min_val) & (x < max_val), grad_output, 0))


def hardsigmoid(x: Any, out: Array | None = None) -> Array:
    return fill(out, np.clip(x + 3, 0, 6) / 6)


def hardsigmoid_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    return fill(out, np.where((x > -3) & (x < 3), grad_output / 6, 0))


def hardswish(x: Any, out: Array | None = None) -> Array:
    return fill(out, x * np.clip(x + 3, 0, 6) / 6)


def hardswish_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    return fill(out, np.where(x <= -3, 0, np.where(x >= 3, grad_output, grad_output * (x / 3 + 0.5))))


def logsigmoid(x: Any, out: Array | None = None) -> Array:
    return fill(out, -np.logaddexp(0, -x))


def logsigmoid_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    return fill(out, grad_output * sigmoid(-x))


def sigmoid(x: Any, out: Array | None = None) -> Array:
    return fill(out, np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))))


def sigmoid_backward(grad_output: Any, y: Any, out: Array | None = None) -> Array:
    return fill(out, grad_output * y * (1 - y))


def tanh(x: Any, out: Array | None = None) -> Array:
    return fill(out, np.tanh(x))


def tanh_backward(grad_output: Any, y: Any, out: Array | None = None) -> Array:
    return fill(out, grad_output * (1 - y * y))


def exp(x: Any, out: Array | None = None) -> Array:
    return fill(out, np.exp(x))


def exp_backward(grad_output: Any, y: Any, out: Array | None = None) -> Array:
    return fill(out, grad_output * y)


def expm1(x: Any, out: Array | None = None) -> Array:
    return fill(out, np.expm1(x))


def expm1_backward(grad_output: Any, y: Any, out: Array | None = None) -> Array:
    return fill(out, grad_output * (y + 1))


def log(x: Any, out: Array | None = None) -> Array:
    return fill(out, np.log(x))


def log_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    return fill(out, grad_output / x)


def log1p(x: Any, out: Array | None = None) -> Array:
    return fill(out, np.log1p(x))


def log1p_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    return fill(out, grad_output / (1 + x))


def erf(x: Any, out: Array | None = None) -> Array:
    return fill(out, _each(math.erf, x))


def erf_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    return fill(out, grad_output * 2 / np.sqrt(np.pi) * np.exp(-x * x))


def prelu(x: Any, weight: Any, out: Array | None = None) -> Array:
    return fill(out, np.where(x > 0, x, _by_channel(weight, x) * x))


def prelu_backward(grad_output: Any, x: Any, weight: Any) -> PReLUGrad:
    grad_weight = np.where(x > 0, 0, x * grad_output)
    others = tuple(i for i in range(x.ndim) if i != 1 or weight.size == 1)
    return PReLUGrad(
        np.where(x > 0, grad_output, _by_channel(weight, x) * grad_output),
        grad_weight.sum(others).reshape(weight.shape),
    )


def softmax(x: Any, dim: int = -1, out: Array | None = None) -> Array:
    exp = np.exp(x - x.max(dim, keepdims=True, initial=-np.inf))
    return fill(out, exp / exp.sum(dim, keepdims=True))


def softmax_backward(grad_output: Any, y: Any, dim: int = -1, out: Array | None = None) -> Array:
    return fill(out, y * (grad_output - (grad_output * y).sum(dim, keepdims=True)))


def log_softmax(x: Any, dim: int = -1, out: Array | None = None) -> Array:
    shifted = x - x.max(dim, keepdims=True, initial=-np.inf)
    return fill(out, shifted - np.log(np.exp(shifted).sum(dim, keepdims=True)))


def log_softmax_backward(grad_output: Any, y: Any, dim: int = -1, out: Array | None = None) -> Array:
    return fill(out, grad_output - np.exp(y) * grad_output.sum(dim, keepdims=True))


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
