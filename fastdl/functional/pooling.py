"""Pooling: the largest, the average or the norm of every window, and of a given number of windows (adaptive).

In each family the function for images says what all do; those for sequences and volumes take one or three numbers
where it takes two.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional._window import Pair, Triple, Volume, Window, bounded, window
from fastdl.functional.verbs import (
    Array,
    channels_last,
    class_indices,
    disjoint,
    fail,
    floats,
    floats_like,
    index_output,
    optional_indices,
    output,
    pads,
    sizes,
    triple,
    volume,
    volume_shape,
    with_indices,
)

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool3d",
    "adaptive_avg_pool3d_backward",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_backward",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool3d",
    "avg_pool3d_backward",
    "lp_pool1d",
    "lp_pool1d_backward",
    "lp_pool2d",
    "lp_pool2d_backward",
    "lp_pool3d",
    "lp_pool3d_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool3d",
    "max_pool3d_backward",
    "max_unpool1d",
    "max_unpool1d_backward",
    "max_unpool2d",
    "max_unpool2d_backward",
    "max_unpool3d",
    "max_unpool3d_backward",
]


@operation
def max_pool1d(
    x: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: str = "NCL",
    out: Array | None = None,
) -> Any:
    """max_pool2d of sequences, (batch, channels, length).

    data_format: "NCL" or "NLC". torch.nn.functional.max_pool1d.
    """
    x = floats(x, "x", 3)
    window, shape = _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima(x, window, shape, return_indices, out)


@operation
def max_pool1d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    ceil_mode: bool = False,
    data_format: str = "NCL",
    indices: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of max_pool1d; see max_pool2d_backward."""
    x = floats(x, "x", 3)
    grad_output = floats_like(grad_output, "grad_output", x, 3)
    window, shape = _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@operation
def max_pool2d(
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Any = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: str = "NCHW",
    out: Array | None = None,
) -> Any:
    """The largest value in each window; padding counts as -infinity, NaN wins. torch.nn.functional.max_pool2d.

    x: (batch, channels, height, width). stride: kernel_size where None. padding: at most half the kernel; an int,
    (height, width), or ((top, bottom), (left, right)).
    ceil_mode: also the last window that starts in the input or the padding before it, though it ends outside.
    return_indices: return (y, indices), with the position of each maximum in its channel's height x width, int64 (-1
    where a window sees only padding); the first of equals, the last of NaN. (A literal inside Numba.)
    data_format: "NCHW", or "NHWC" for arrays (batch, height, width, channels).
    Returns (batch, channels, out_height, out_width) with
    out = (size + padding before and after - dilation (kernel - 1) - 1) // stride + 1, rounded up in ceil_mode.
    """
    x = floats(x, "x", 4)
    window, shape = _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima(x, window, shape, return_indices, out)


@operation
def max_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Any = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    data_format: str = "NCHW",
    indices: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of max_pool2d: each grad_output goes to the element that was largest, the first of equals
    (the last NaN where there are NaN), as torch does.

    indices: what max_pool2d returned, if it was asked to; else positions are found again.
    """
    x = floats(x, "x", 4)
    grad_output = floats_like(grad_output, "grad_output", x, 4)
    window, shape = _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@operation
def max_pool3d(
    x: Any,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: Any = 0,
    dilation: int | Triple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: str = "NCDHW",
    out: Array | None = None,
) -> Any:
    """max_pool2d of volumes, (batch, channels, depth, height, width).

    data_format: "NCDHW" or "NDHWC". torch.nn.functional.max_pool3d.
    """
    x = floats(x, "x", 5)
    window, shape = _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima(x, window, shape, return_indices, out)


@operation
def max_pool3d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: Any = 0,
    dilation: int | Triple = 1,
    ceil_mode: bool = False,
    data_format: str = "NCDHW",
    indices: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of max_pool3d; see max_pool2d_backward."""
    x = floats(x, "x", 5)
    grad_output = floats_like(grad_output, "grad_output", x, 5)
    window, shape = _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@operation
def max_unpool1d(
    x: Any,
    indices: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: int | tuple[int] = 0,
    output_size: Any = None,
    out: Array | None = None,
) -> Array:
    """max_unpool2d of sequences, (batch, channels, length). torch.nn.functional.max_unpool1d."""
    x = floats(x, "x", 3)
    indices = class_indices(indices, "indices", 3)
    shape = _unpooled(x.shape, kernel_size, stride, padding, output_size)
    return _unpool(x, indices, shape, out)


@operation
def max_unpool1d_backward(
    grad_output: Any,
    indices: Any,
    out: Array | None = None,
) -> Array:
    """The gradient of max_unpool1d in x; see max_unpool2d_backward."""
    grad_output = floats(grad_output, "grad_output", 3)
    indices = class_indices(indices, "indices", 3)
    return _unpool_backward(grad_output, indices, out)


@operation
def max_unpool2d(
    x: Any,
    indices: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    output_size: Any = None,
    out: Array | None = None,
) -> Array:
    """The partial inverse of max_pool2d: x where indices say, 0 elsewhere. torch.nn.functional.max_unpool2d.

    x, indices: (batch, channels, height, width), as max_pool2d returned them; of equal indices the last wins, and one
    outside the result is a ValueError. output_size: (height, width), less than a stride from what None stands for:
    (size - 1) stride - 2 padding + kernel; or a whole shape, of which height and width count.
    """
    x = floats(x, "x", 4)
    indices = class_indices(indices, "indices", 4)
    shape = _unpooled(x.shape, kernel_size, stride, padding, output_size)
    return _unpool(x, indices, shape, out)


@operation
def max_unpool2d_backward(
    grad_output: Any,
    indices: Any,
    out: Array | None = None,
) -> Array:
    """The gradient of max_unpool2d in x: grad_output at the indices, in their shape."""
    grad_output = floats(grad_output, "grad_output", 4)
    indices = class_indices(indices, "indices", 4)
    return _unpool_backward(grad_output, indices, out)


@operation
def max_unpool3d(
    x: Any,
    indices: Any,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: int | Triple = 0,
    output_size: Any = None,
    out: Array | None = None,
) -> Array:
    """max_unpool2d of volumes, (batch, channels, depth, height, width). torch.nn.functional.max_unpool3d."""
    x = floats(x, "x", 5)
    indices = class_indices(indices, "indices", 5)
    shape = _unpooled(x.shape, kernel_size, stride, padding, output_size)
    return _unpool(x, indices, shape, out)


@operation
def max_unpool3d_backward(
    grad_output: Any,
    indices: Any,
    out: Array | None = None,
) -> Array:
    """The gradient of max_unpool3d in x; see max_unpool2d_backward."""
    grad_output = floats(grad_output, "grad_output", 5)
    indices = class_indices(indices, "indices", 5)
    return _unpool_backward(grad_output, indices, out)


@operation
def avg_pool1d(
    x: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | tuple[int] = 1,
    data_format: str = "NCL",
    out: Array | None = None,
) -> Array:
    """avg_pool2d of sequences, (batch, channels, length).

    data_format: "NCL" or "NLC". torch.nn.functional.avg_pool1d.
    """
    x = floats(x, "x", 3)
    window, shape = _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    divisor = _divisor(divisor_override)
    return _averages(x, window, shape, count_include_pad, divisor, out)


@operation
def avg_pool1d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | tuple[int] = 1,
    data_format: str = "NCL",
    out: Array | None = None,
) -> Array:
    """The gradient of avg_pool1d; see avg_pool2d_backward."""
    x = floats(x, "x", 3)
    grad_output = floats_like(grad_output, "grad_output", x, 3)
    window, shape = _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    divisor = _divisor(divisor_override)
    return _averages_backward(grad_output, x, window, shape, count_include_pad, divisor, out)


@operation
def avg_pool2d(
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | Pair = 1,
    data_format: str = "NCHW",
    out: Array | None = None,
) -> Array:
    """The sum of each window over the number of its elements. torch.nn.functional.avg_pool2d.

    x: (batch, channels, height, width). kernel_size, stride, padding, dilation, ceil_mode, data_format: as for
    max_pool2d. count_include_pad: padding counts as elements that are 0 (what ceil_mode adds never counts).
    divisor_override: this instead of the number of elements. dilation: ONNX AveragePool has it, torch does not.
    Sums are in the dtype of x; where one window is everything, in parts that are summed in float64.
    Returns (batch, channels, out_height, out_width).
    """
    x = floats(x, "x", 4)
    window, shape = _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    divisor = _divisor(divisor_override)
    return _averages(x, window, shape, count_include_pad, divisor, out)


@operation
def avg_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | Pair = 1,
    data_format: str = "NCHW",
    out: Array | None = None,
) -> Array:
    """The gradient of avg_pool2d. x: only its shape matters; the arguments are avg_pool2d's."""
    x = floats(x, "x", 4)
    grad_output = floats_like(grad_output, "grad_output", x, 4)
    window, shape = _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    divisor = _divisor(divisor_override)
    return _averages_backward(grad_output, x, window, shape, count_include_pad, divisor, out)


@operation
def avg_pool3d(
    x: Any,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | Triple = 1,
    data_format: str = "NCDHW",
    out: Array | None = None,
) -> Array:
    """avg_pool2d of volumes, (batch, channels, depth, height, width).

    data_format: "NCDHW" or "NDHWC". torch.nn.functional.avg_pool3d.
    """
    x = floats(x, "x", 5)
    window, shape = _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    divisor = _divisor(divisor_override)
    return _averages(x, window, shape, count_include_pad, divisor, out)


@operation
def avg_pool3d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | Triple = 1,
    data_format: str = "NCDHW",
    out: Array | None = None,
) -> Array:
    """The gradient of avg_pool3d; see avg_pool2d_backward."""
    x = floats(x, "x", 5)
    grad_output = floats_like(grad_output, "grad_output", x, 5)
    window, shape = _windows(x.shape, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    divisor = _divisor(divisor_override)
    return _averages_backward(grad_output, x, window, shape, count_include_pad, divisor, out)


@operation
def lp_pool1d(
    x: Any,
    norm_type: float,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    ceil_mode: bool = False,
    dilation: int | tuple[int] = 1,
    out: Array | None = None,
) -> Array:
    """lp_pool2d of sequences, (batch, channels, length). torch.nn.functional.lp_pool1d."""
    x = floats(x, "x", 3)
    window, shape = _windows(x.shape, kernel_size, stride, 0, dilation, ceil_mode, "NCL")
    return _norms(x, norm_type, window, shape, out)


@operation
def lp_pool1d_backward(
    grad_output: Any,
    x: Any,
    norm_type: float,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    ceil_mode: bool = False,
    dilation: int | tuple[int] = 1,
    out: Array | None = None,
) -> Array:
    """The gradient of lp_pool1d; see lp_pool2d_backward."""
    x = floats(x, "x", 3)
    grad_output = floats_like(grad_output, "grad_output", x, 3)
    window, shape = _windows(x.shape, kernel_size, stride, 0, dilation, ceil_mode, "NCL")
    return _norms_backward(grad_output, x, norm_type, window, shape, out)


@operation
def lp_pool2d(
    x: Any,
    norm_type: float,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    ceil_mode: bool = False,
    dilation: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """(sum over the window of x^p)^(1 / p), p = norm_type. torch.nn.functional.lp_pool2d.

    As in torch there is no absolute value: where the sum is negative, or x is and p is not whole, the result is NaN.
    What ceil_mode adds counts for the average of the rest. norm_type: not 0; infinity is the largest |x|, -infinity
    the smallest. dilation: ONNX LpPool has it, torch does not. x: (batch, channels, height, width).
    Returns (batch, channels, out_height, out_width).
    """
    x = floats(x, "x", 4)
    window, shape = _windows(x.shape, kernel_size, stride, 0, dilation, ceil_mode, "NCHW")
    return _norms(x, norm_type, window, shape, out)


@operation
def lp_pool2d_backward(
    grad_output: Any,
    x: Any,
    norm_type: float,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    ceil_mode: bool = False,
    dilation: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """The gradient of lp_pool2d; 0 where the sum of the window is 0, as torch has it."""
    x = floats(x, "x", 4)
    grad_output = floats_like(grad_output, "grad_output", x, 4)
    window, shape = _windows(x.shape, kernel_size, stride, 0, dilation, ceil_mode, "NCHW")
    return _norms_backward(grad_output, x, norm_type, window, shape, out)


@operation
def lp_pool3d(
    x: Any,
    norm_type: float,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    ceil_mode: bool = False,
    dilation: int | Triple = 1,
    out: Array | None = None,
) -> Array:
    """lp_pool2d of volumes, (batch, channels, depth, height, width). torch.nn.functional.lp_pool3d."""
    x = floats(x, "x", 5)
    window, shape = _windows(x.shape, kernel_size, stride, 0, dilation, ceil_mode, "NCDHW")
    return _norms(x, norm_type, window, shape, out)


@operation
def lp_pool3d_backward(
    grad_output: Any,
    x: Any,
    norm_type: float,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    ceil_mode: bool = False,
    dilation: int | Triple = 1,
    out: Array | None = None,
) -> Array:
    """The gradient of lp_pool3d; see lp_pool2d_backward."""
    x = floats(x, "x", 5)
    grad_output = floats_like(grad_output, "grad_output", x, 5)
    window, shape = _windows(x.shape, kernel_size, stride, 0, dilation, ceil_mode, "NCDHW")
    return _norms_backward(grad_output, x, norm_type, window, shape, out)


@operation
def adaptive_avg_pool1d(
    x: Any,
    output_size: int | tuple[int],
    out: Array | None = None,
) -> Array:
    """adaptive_avg_pool2d of sequences, (batch, channels, length).

    torch.nn.functional.adaptive_avg_pool1d.
    """
    x = floats(x, "x", 3)
    window, shape = _adaptive(x.shape, output_size)
    return _averages(x, window, shape, True, 0, out)


@operation
def adaptive_avg_pool1d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int],
    out: Array | None = None,
) -> Array:
    """The gradient of adaptive_avg_pool1d; see adaptive_avg_pool2d_backward."""
    x = floats(x, "x", 3)
    grad_output = floats_like(grad_output, "grad_output", x, 3)
    window, shape = _adaptive(x.shape, output_size)
    return _averages_backward(grad_output, x, window, shape, True, 0, out)


@operation
def adaptive_avg_pool2d(
    x: Any,
    output_size: int | tuple[int | None, int | None] | None,
    out: Array | None = None,
) -> Array:
    """The average of each of output_size windows, i from floor(i size / out) to ceil((i + 1) size / out).

    torch.nn.functional.adaptive_avg_pool2d. x: (batch, channels, height, width). output_size: an int or (height,
    width); None: as x. Size 1 averages everything (global pooling), in parts that are summed in float64.
    """
    x = floats(x, "x", 4)
    window, shape = _adaptive(x.shape, output_size)
    return _averages(x, window, shape, True, 0, out)


@operation
def adaptive_avg_pool2d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int | None, int | None] | None,
    out: Array | None = None,
) -> Array:
    """The gradient of adaptive_avg_pool2d. x: only its shape matters."""
    x = floats(x, "x", 4)
    grad_output = floats_like(grad_output, "grad_output", x, 4)
    window, shape = _adaptive(x.shape, output_size)
    return _averages_backward(grad_output, x, window, shape, True, 0, out)


@operation
def adaptive_avg_pool3d(
    x: Any,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    out: Array | None = None,
) -> Array:
    """adaptive_avg_pool2d of volumes, (batch, channels, depth, height, width).

    torch.nn.functional.adaptive_avg_pool3d.
    """
    x = floats(x, "x", 5)
    window, shape = _adaptive(x.shape, output_size)
    return _averages(x, window, shape, True, 0, out)


@operation
def adaptive_avg_pool3d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    out: Array | None = None,
) -> Array:
    """The gradient of adaptive_avg_pool3d; see adaptive_avg_pool2d_backward."""
    x = floats(x, "x", 5)
    grad_output = floats_like(grad_output, "grad_output", x, 5)
    window, shape = _adaptive(x.shape, output_size)
    return _averages_backward(grad_output, x, window, shape, True, 0, out)


@operation
def adaptive_max_pool1d(
    x: Any,
    output_size: int | tuple[int],
    return_indices: bool = False,
    out: Array | None = None,
) -> Any:
    """adaptive_max_pool2d of sequences, (batch, channels, length).

    torch.nn.functional.adaptive_max_pool1d.
    """
    x = floats(x, "x", 3)
    window, shape = _adaptive(x.shape, output_size)
    return _maxima(x, window, shape, return_indices, out)


@operation
def adaptive_max_pool1d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int],
    indices: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of adaptive_max_pool1d; see adaptive_max_pool2d_backward."""
    x = floats(x, "x", 3)
    grad_output = floats_like(grad_output, "grad_output", x, 3)
    window, shape = _adaptive(x.shape, output_size)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@operation
def adaptive_max_pool2d(
    x: Any,
    output_size: int | tuple[int | None, int | None] | None,
    return_indices: bool = False,
    out: Array | None = None,
) -> Any:
    """The largest value of each of output_size windows, i from floor(i size / out) to ceil((i + 1) size / out).

    torch.nn.functional.adaptive_max_pool2d. x: (batch, channels, height, width). output_size: an int or (height,
    width); None: as x. return_indices, NaN and ties: as for max_pool2d.
    """
    x = floats(x, "x", 4)
    window, shape = _adaptive(x.shape, output_size)
    return _maxima(x, window, shape, return_indices, out)


@operation
def adaptive_max_pool2d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int | None, int | None] | None,
    indices: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of adaptive_max_pool2d. indices: as for max_pool2d_backward."""
    x = floats(x, "x", 4)
    grad_output = floats_like(grad_output, "grad_output", x, 4)
    window, shape = _adaptive(x.shape, output_size)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@operation
def adaptive_max_pool3d(
    x: Any,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    return_indices: bool = False,
    out: Array | None = None,
) -> Any:
    """adaptive_max_pool2d of volumes, (batch, channels, depth, height, width).

    torch.nn.functional.adaptive_max_pool3d.
    """
    x = floats(x, "x", 5)
    window, shape = _adaptive(x.shape, output_size)
    return _maxima(x, window, shape, return_indices, out)


@operation
def adaptive_max_pool3d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    indices: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of adaptive_max_pool3d; see adaptive_max_pool2d_backward."""
    x = floats(x, "x", 5)
    grad_output = floats_like(grad_output, "grad_output", x, 5)
    window, shape = _adaptive(x.shape, output_size)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@helper
def _maxima(x: Array, window: Window, shape: tuple[int, ...], return_indices: bool, out: Array | None) -> Any:
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
    indices = index_output(shape, return_indices)
    _kernels.max_pool(x, result, indices, window)
    return with_indices(result, indices, return_indices)


@helper
def _maxima_backward(
    grad_output: Array, x: Array, window: Window, shape: tuple[int, ...], indices: Any, out: Array | None
) -> Array:
    result = _gradient_of(x, grad_output, shape, out)
    positions = optional_indices(indices, "indices", shape)
    if out is not None:
        disjoint(result, "indices", positions)
    _kernels.max_pool_backward(grad_output, x, positions, result, window)
    return result


@helper
def _unpool(x: Array, indices: Array, shape: tuple[int, ...], out: Array | None) -> Array:
    if indices.shape != x.shape:
        fail("indices", indices.shape, x.shape)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "indices", indices)
    planes = shape[0] * shape[1]
    _kernels.max_unpool(x, indices, result, planes, x.size // max(planes, 1), result.size // max(planes, 1))
    return result


@helper
def _unpool_backward(grad_output: Array, indices: Array, out: Array | None) -> Array:
    planes = indices.shape[0] * indices.shape[1]
    if grad_output.shape[:2] != indices.shape[:2]:
        fail("grad_output", grad_output.shape, ("batch and channels of indices,", indices.shape))
    result = output(out, indices.shape, grad_output)
    if out is not None:
        disjoint(result, "grad_output", grad_output)
        disjoint(result, "indices", indices)
    positions, elements = indices.size // max(planes, 1), grad_output.size // max(planes, 1)
    _kernels.max_unpool_backward(grad_output, indices, result, planes, positions, elements)
    return result


@helper
def _averages(
    x: Array, window: Window, shape: tuple[int, ...], count_include_pad: bool, divisor: int, out: Array | None
) -> Array:
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
    _kernels.avg_pool(x, result, window, count_include_pad, divisor)
    return result


@helper
def _averages_backward(
    grad_output: Array,
    x: Array,
    window: Window,
    shape: tuple[int, ...],
    count_include_pad: bool,
    divisor: int,
    out: Array | None,
) -> Array:
    result = _gradient_of(x, grad_output, shape, out)
    _kernels.avg_pool_backward(grad_output, result, window, count_include_pad, divisor)
    return result


@helper
def _norms(x: Array, norm_type: float, window: Window, shape: tuple[int, ...], out: Array | None) -> Array:
    _check_norm(norm_type)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
    if math.isinf(norm_type):
        _kernels.max_pool(_magnitudes(x, norm_type), result, None, window)
        if norm_type < 0:
            np.negative(result, result)
    else:
        _kernels.lp_pool(x, result, window, norm_type)
    return result


@helper
def _norms_backward(
    grad_output: Array, x: Array, norm_type: float, window: Window, shape: tuple[int, ...], out: Array | None
) -> Array:
    _check_norm(norm_type)
    result = _gradient_of(x, grad_output, shape, out)
    if math.isinf(norm_type):
        _kernels.max_pool_backward(grad_output, _magnitudes(x, norm_type), None, result, window)
        np.multiply(result, np.sign(x), result)
    else:
        _kernels.lp_pool_backward(grad_output, x, result, window, norm_type)
    return result


@helper
def _check_norm(norm_type: float) -> None:
    if norm_type == 0 or math.isnan(norm_type):
        fail("norm_type", norm_type, "a number other than 0")


@helper
def _magnitudes(x: Array, norm_type: float) -> Array:
    """|x|, or -|x| for the norm of -infinity, which is the largest of those, negated."""
    result = np.abs(x)
    if norm_type < 0:
        np.negative(result, result)
    return result


@helper
def _gradient_of(x: Array, grad_output: Array, shape: tuple[int, ...], out: Array | None) -> Array:
    """Where the gradient of x goes, once grad_output is known to have the shape of the result."""
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = output(out, x.shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "grad_output", grad_output)
    return result


@helper
def _divisor(divisor_override: int | None) -> int:
    """The kernel's: 0 is none."""
    if divisor_override is None:
        return 0
    if divisor_override == 0:
        fail("divisor_override", divisor_override, "a number other than 0")
    return divisor_override


@cached_helper
def _windows(
    shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    data_format: str,
) -> tuple[Window, tuple[int, ...]]:
    """The window over x and the shape of the result."""
    last = channels_last(data_format, shape)
    kernel, images = triple(kernel_size, "kernel_size", 1, 1, shape), _volume(shape, last)
    steps = kernel if stride is None else triple(stride, "stride", 1, 1, shape)
    spread = triple(dilation, "dilation", 1, 1, shape)
    around = pads(padding, "padding", shape, kernel, steps, spread)
    most = (max(around[0], around[3]), max(around[1], around[4]), max(around[2], around[5]))
    if 2 * most[0] > kernel[0] or 2 * most[1] > kernel[1] or 2 * most[2] > kernel[2]:
        fail("padding", padding, ("at most half of kernel_size", kernel_size))
    bounded("kernel_size", kernel, "stride", steps)
    bounded("dilation", spread, "padding", most)
    found = (
        _positions(images[2], kernel[0], steps[0], around[0], around[3], spread[0], ceil_mode),
        _positions(images[3], kernel[1], steps[1], around[1], around[4], spread[1], ceil_mode),
        _positions(images[4], kernel[2], steps[2], around[2], around[5], spread[2], ceil_mode),
    )
    result = volume_shape(shape, images[0], images[1], found, last)
    return window(images, images[1], found, kernel, steps, around, spread, 1, last), result


@helper
def _positions(size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool) -> int:
    """Positions of a window along one dimension; one past the end has to start in the input or the padding before."""
    padded, extent = size + before + after, dilation * (kernel - 1) + 1
    beyond = stride - 1 if ceil_mode else 0
    if extent > padded + beyond:
        fail(
            "kernel_size",
            ("a kernel of", kernel, "with dilation", dilation, "which covers", extent),
            ("at most the input size", size, "with its padding", before, "+", after),
        )
    found = (padded + beyond - extent) // stride + 1
    return found - 1 if (found - 1) * stride >= size + before and ceil_mode else found


@cached_helper
def _adaptive(shape: tuple[int, ...], output_size: Any) -> tuple[Window, tuple[int, ...]]:
    """The window over x and the shape of the result: ordinary windows where they divide x evenly, else stride 0."""
    images = _volume(shape, 0)
    found = sizes(output_size, "output_size", images[2:], shape, 0)
    bounded("output_size", found, "output_size", found)
    steps = (_even(images[2], found[0]), _even(images[3], found[1]), _even(images[4], found[2]))
    result = volume_shape(shape, images[0], images[1], found, 0)
    return window(images, images[1], found, steps, steps, (0, 0, 0, 0, 0, 0), (1, 1, 1), 1, 0), result


@helper
def _even(size: int, out: int) -> int:
    """size / out if that is whole, else 0."""
    return size // out if out > 0 and size % out == 0 else 0


@helper
def _volume(shape: tuple[int, ...], last: int) -> Volume:
    images = volume(shape, last)
    if min(images[2], images[3], images[4]) < 1:
        fail("x", shape, "sizes of at least 1 beside the batch and the channels")
    return images


@cached_helper
def _unpooled(shape: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, output_size: Any) -> tuple[int, ...]:
    """The shape of what max_unpool returns."""
    kernel, images = triple(kernel_size, "kernel_size", 1, 1, shape), volume(shape, 0)
    steps = kernel if stride is None else triple(stride, "stride", 1, 1, shape)
    around = triple(padding, "padding", 0, 0, shape)
    bounded("kernel_size", kernel, "stride", steps)
    bounded("padding", around, "padding", around)
    default = (
        (images[2] - 1) * steps[0] - 2 * around[0] + kernel[0],
        (images[3] - 1) * steps[1] - 2 * around[1] + kernel[1],
        (images[4] - 1) * steps[2] - 2 * around[2] + kernel[2],
    )
    found = sizes(output_size, "output_size", default, shape, 2)
    far = max(abs(found[0] - default[0]) - steps[0], abs(found[1] - default[1]) - steps[1])
    if max(far, abs(found[2] - default[2]) - steps[2]) >= 0 or min(found[0], found[1], found[2]) < 1:
        fail("output_size", found, ("at least 1 and less than a stride from", default))
    return volume_shape(shape, images[0], images[1], found, 0)
