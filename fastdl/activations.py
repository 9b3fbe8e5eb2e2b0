"""Activations: relu, softmax, log_softmax, each with its backward."""

from __future__ import annotations

from typing import Any

from fastdl import _kernels
from fastdl._arrays import Array, fail, floats, floats_like, output, same_or_disjoint
from fastdl._operation import helper, operation


@operation
def relu(x: Any, out: Array | None = None) -> Array:
    """max(x, 0), element by element; NaN stays NaN. torch.nn.functional.relu.

    x: any shape, float32 or float64. out: an array like x, or x itself.
    """
    x = floats(x, "x")
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
    _kernels.relu(x, result, x.size)
    return result


@operation
def relu_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of relu: grad_output where x > 0, else 0. relu's output may stand in for x.

    grad_output, x: one shape. out: an array like x, or one of the two.
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    if grad_output.shape != x.shape:
        fail("grad_output", grad_output.shape, x.shape)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        same_or_disjoint(result, "grad_output", grad_output)
    _kernels.relu_backward(grad_output, x, result, x.size)
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
