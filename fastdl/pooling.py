"""Pooling."""

from __future__ import annotations

from typing import Any

from fastdl import _kernels
from fastdl._arrays import Array, disjoint, fail, floats, floats_like, output, pair
from fastdl._operation import helper, operation
from fastdl._window import Pair, Window, window2d


@operation
def max_pool2d(
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """The largest value in each window; padding counts as -infinity, NaN wins. torch.nn.functional.max_pool2d.

    x: (batch, channels, height, width). stride: kernel_size where None. padding: at most half the kernel.
    Returns (batch, channels, out_height, out_width).
    """
    x = floats(x, "x", 4)
    window = _pool_window(x.shape, kernel_size, stride, padding, dilation)
    result = output(out, (x.shape[0], x.shape[1], window[5], window[6]), x)
    if out is not None:
        disjoint(result, "x", x)
    _kernels.max_pool2d(x, result, window)
    return result


@operation
def max_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """The gradient of max_pool2d: each grad_output goes to the element that was largest, the first of equals
    (the last NaN where there are NaN), as torch does. The positions are found again rather than stored.
    """
    x = floats(x, "x", 4)
    grad_output = floats_like(grad_output, "grad_output", x, 4)
    window = _pool_window(x.shape, kernel_size, stride, padding, dilation)
    expected = (x.shape[0], x.shape[1], window[5], window[6])
    if grad_output.shape != expected:
        fail("grad_output", grad_output.shape, expected)
    result = output(out, x.shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "grad_output", grad_output)
    _kernels.max_pool2d_backward(grad_output, x, result, window)
    return result


@helper
def _pool_window(
    shape: tuple[int, int, int, int],
    kernel_size: int | Pair,
    stride: int | Pair | None,
    padding: int | Pair,
    dilation: int | Pair,
) -> Window:
    kernel = pair(kernel_size, "kernel_size", 1)
    strides = kernel if stride is None else pair(stride, "stride", 1)
    paddings = pair(padding, "padding", 0)
    if 2 * paddings[0] > kernel[0] or 2 * paddings[1] > kernel[1]:
        fail("padding", paddings, ("at most half of kernel_size", kernel))
    return window2d(shape, shape[1], kernel, strides, paddings, pair(dilation, "dilation", 1), 1)
