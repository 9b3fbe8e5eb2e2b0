"""Activations."""

from __future__ import annotations

import numpy as np

import fastdl
from fastdl.functional.verbs import Array
from fastdl.onnx._table import is_floats, operator
from fastdl.onnx.operators._shared import axes_of, reshaped

_SELU = 1.67326319217681884765625, 1.05070102214813232421875


@operator("Relu", kernels=lambda node, x: is_floats(x))
def relu(x: Array) -> Array:
    return fastdl.relu(x) if is_floats(x) else np.maximum(x, np.zeros((), x.dtype))


@operator("Sigmoid", kernels=True)
def sigmoid(x: Array) -> Array:
    return fastdl.sigmoid(x)


@operator("Tanh", kernels=True)
def tanh(x: Array) -> Array:
    return fastdl.tanh(x)


@operator("Exp", kernels=True)
def exp(x: Array) -> Array:
    return fastdl.exp(x)


@operator("Log", kernels=True)
def log(x: Array) -> Array:
    return fastdl.log(x)


@operator("Erf", kernels=True)
def erf(x: Array) -> Array:
    return fastdl.erf(x)


@operator("Softplus", kernels=True)
def softplus(x: Array) -> Array:
    return fastdl.softplus(x)


@operator("Softsign", kernels=True)
def softsign(x: Array) -> Array:
    return fastdl.softsign(x)


@operator("Mish", kernels=True)
def mish(x: Array) -> Array:
    return fastdl.mish(x)


@operator("HardSwish", kernels=True)
def hard_swish(x: Array) -> Array:
    return fastdl.hardswish(x)


@operator("Elu", kernels=True)
def elu(x: Array, *, alpha: float = 1.0) -> Array:
    return fastdl.elu(x, alpha)


@operator("Celu", kernels=True)
def celu(x: Array, *, alpha: float = 1.0) -> Array:
    return fastdl.celu(x, alpha)


@operator("LeakyRelu", kernels=True)
def leaky_relu(x: Array, *, alpha: float = 0.01) -> Array:
    return fastdl.leaky_relu(x, alpha)


@operator("Gelu", kernels=True)
def gelu(x: Array, *, approximate: str = "none") -> Array:
    return fastdl.gelu(x, approximate)


@operator("ThresholdedRelu", kernels=True)
def thresholded_relu(x: Array, *, alpha: float = 1.0) -> Array:
    return fastdl.threshold(x, alpha, 0.0)


@operator("Selu", kernels=True)
def selu(x: Array, *, alpha: float = _SELU[0], gamma: float = _SELU[1]) -> Array:
    if (alpha, gamma) == _SELU:
        return fastdl.selu(x)
    return fastdl.mul(fastdl.elu(x, alpha), gamma)


@operator("HardSigmoid", kernels=True)
def hard_sigmoid(x: Array, *, alpha: float = 0.2, beta: float = 0.5) -> Array:
    """min(max(alpha x + beta, 0), 1); of the kernel, alpha is 1 / 6 and beta 1 / 2."""
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return fastdl.hardsigmoid(x)
    return fastdl.hardtanh(fastdl.add(fastdl.mul(x, alpha), beta), 0.0, 1.0)


@operator("Swish", kernels=True)
def swish(x: Array, *, alpha: float = 1.0) -> Array:
    return fastdl.silu(x) if alpha == 1.0 else fastdl.mul(x, fastdl.sigmoid(fastdl.mul(x, alpha)))


@operator("Shrink", kernels=lambda node, x: is_floats(x) and _shrinks(**node.attributes) != "")
def shrink(x: Array, *, bias: float = 0.0, lambd: float = 0.5) -> Array:
    how = _shrinks(bias, lambd) if is_floats(x) else ""
    if how == "soft":
        return fastdl.softshrink(x, lambd)
    if how == "hard":
        return fastdl.hardshrink(x, lambd)
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)).astype(x.dtype)


def _shrinks(bias: float = 0.0, lambd: float = 0.5) -> str:
    return "" if lambd < 0 else "soft" if bias == lambd else "hard" if bias == 0 else ""


def _channelwise(x: Array, slope: Array) -> int:
    """How many slopes there are, where they are one for all, or one for each channel; else 0."""
    if slope.size == 1:
        return 1
    from_end = x.ndim - slope.ndim
    at_channels = [n for i, n in enumerate(slope.shape) if i + from_end != 1]
    return slope.size if x.ndim >= 2 and from_end <= 1 and all(n == 1 for n in at_channels) else 0


@operator("PRelu", since=7, kernels=lambda node, x, slope: is_floats(x, slope))
def prelu(x: Array, slope: Array) -> Array:
    """ONNX's slopes have the shape of x, or one that broadcasts to it; the kernel's are one, or one a channel."""
    if is_floats(x, slope) and x.size and _channelwise(x, slope):
        return fastdl.prelu(x, reshaped(slope, (-1,)))
    if is_floats(x, slope):
        return fastdl.add(fastdl.relu(x), fastdl.mul(slope, fastdl.minimum(x, 0.0)))
    return np.where(x < 0, x * slope, x).astype(x.dtype)


@operator("PRelu", kernels=lambda node, x, slope: is_floats(x, slope) and x.ndim > 1)
def prelu_1(x: Array, slope: Array) -> Array:
    """With slopes for channels."""
    return prelu(x, reshaped(slope, (-1, *[1] * (x.ndim - 2))))


@operator("Softmax", since=13, kernels=True)
def softmax(x: Array, *, axis: int = -1) -> Array:
    return fastdl.softmax(x, axis)


@operator("LogSoftmax", since=13, kernels=True)
def log_softmax(x: Array, *, axis: int = -1) -> Array:
    return fastdl.log_softmax(x, axis)


def _flat(x: Array, axis: int) -> tuple[int, int]:
    (at,) = axes_of([axis], x.ndim + (axis >= 0))
    rows = int(np.prod(x.shape[:at], dtype=np.int64))
    return rows, x.size // max(rows, 1)


@operator("Softmax", kernels=True)
def softmax_1(x: Array, *, axis: int = 1) -> Array:
    """Over all dimensions from the axis on."""
    return fastdl.softmax(reshaped(x, _flat(x, axis)), 1).reshape(x.shape)


@operator("LogSoftmax", kernels=True)
def log_softmax_1(x: Array, *, axis: int = 1) -> Array:
    return fastdl.log_softmax(reshaped(x, _flat(x, axis)), 1).reshape(x.shape)


def _one_hot_of_largest(x: Array, axis: int) -> Array:
    found = np.zeros_like(x)
    np.put_along_axis(found, np.expand_dims(np.argmax(x, axis), axis), 1, axis)
    return found


@operator("Hardmax", since=13)
def hardmax(x: Array, *, axis: int = -1) -> Array:
    return _one_hot_of_largest(x, axis)


@operator("Hardmax")
def hardmax_1(x: Array, *, axis: int = 1) -> Array:
    return _one_hot_of_largest(x.reshape(_flat(x, axis)), 1).reshape(x.shape)
