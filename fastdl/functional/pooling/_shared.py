"""What the functions of pooling share, for sequences (1d), images (2d) and volumes (3d): text, and windows."""

from __future__ import annotations

from typing import Any

from fastdl.functional._operation import cached_helper, helper
from fastdl.functional._window import Volume, Window, bounded, window
from fastdl.functional.verbs import (
    Array,
    channels_last,
    disjoint,
    fail,
    flag,
    output,
    pads,
    sizes,
    strides,
    triple,
    volume,
    volume_shape,
    with_batch,
    without_batch,
)

POOLING = {
    "x": """
x : array_like of float32 or float64
    The input, of shape
    {layout}
""",
    "saved_x": """
x : array_like of float32 or float64
    What the function was given.
""",
    "saved_shape": """
x : array_like of float32 or float64
    What the function was given, of which only shape and dtype matter.
""",
    "grad_output": """
grad_output : array_like of the dtype of `x`
    The gradient of the result, of its shape.
""",
    "window": """
kernel_size : int or tuple of int
    The size of a window, one number for all dimensions or one for each, as all that follows.
stride : int or tuple of int, optional
    The step from one window to the next. None, the default, or an empty tuple: `kernel_size`.
""",
    "padding": """
padding : int, tuple of int or tuple of pairs, optional
    The border around the input, at most half of `kernel_size`; a pair is (before, after).
""",
    "dilation": """
dilation : int or tuple of int, optional
    The step from one element of a window to the next.
""",
    "ceil_mode": """
ceil_mode : bool, optional
    Whether to add a last window that starts in the input or the border before it, but ends outside.
""",
    "positions": """
Along each dimension there are
``(size + padding before and after - dilation * (kernel - 1) - 1) // stride + 1`` windows, where ``ceil_mode`` rounds
the division up instead of down.
""",
    "adaptive": """
Along each dimension window i of ``out`` goes from ``floor(i * size / out)`` to ``ceil((i + 1) * size / out)``.
""",
    "return_indices": """
return_indices : bool, optional
    Whether to return positions too. (A literal inside Numba.)
""",
    "indices": """
indices : array_like of int64, optional
    The positions that the function returned, if it was asked to; without them they are found again.
""",
    "out": """
out : ndarray, optional
    Where the result goes: an array of its shape and the dtype of `x`, which does not overlap `x`.
""",
    "out_backward": """
out : ndarray, optional
    Where the gradient goes: an array of its shape and dtype, which overlaps no input.
""",
    "returns": """
Returns
-------
ndarray
    One value for each window, of the dtype of `x` and shaped as it is.

{raises}
""",
    "returns_maxima": """
Returns
-------
y : ndarray
    The maximum of each window, of the dtype of `x` and shaped as it is; NaN where there is one.
indices : ndarray of int64
    Only with `return_indices`: where in its channel the maximum is, all dimensions counted as one; -1 where a
    window sees only padding. The first of equals, the last of NaN.

{raises}
""",
    "returns_backward": """
Returns
-------
ndarray
    The gradient of x, of its shape and dtype.

{raises}
""",
    "raises": """
Raises
------
TypeError
    An argument is of a type or a dtype that it may not be.
ValueError
    A shape or a value is not as described. Nothing has been written.
""",
    "as_given": """
kernel_size, stride, padding, dilation, ceil_mode, data_format
    As given to the function.
""",
}

POOLING_1D = {
    "layout": "(batch, channels, length) or (channels, length).",
    "data_format": """
data_format : {"NCL", "NLC"}, optional
    Whether the channels come before the length or after it.
""",
    "output_size": """
output_size : int, None, or tuple of one of those
    The number of windows; None is as many as x is long.
""",
}
POOLING_2D = {
    "layout": "(batch, channels, height, width) or (channels, height, width).",
    "data_format": """
data_format : {"NCHW", "NHWC"}, optional
    Whether the channels come before height and width or after them.
""",
    "output_size": """
output_size : int, None, or tuple of int and None
    The number of windows along each dimension; None: as many as elements.
""",
}
POOLING_3D = {
    "layout": "(batch, channels, depth, height, width) or (channels, depth, height, width).",
    "data_format": """
data_format : {"NCDHW", "NDHWC"}, optional
    Whether the channels come before depth, height and width or after them.
""",
    "output_size": """
output_size : int, None, or tuple of int and None
    The number of windows along each dimension; None: as many as elements.
""",
}

FORMATS = ("NCL", "NCHW", "NCDHW")
SEQUENCE, IMAGE, VOLUME = (1,) * 3, (1,) * 4, (1,) * 5
"""Shapes with as many dimensions as inputs have with a batch."""


@helper
def gradient_of(x: Array, grad_output: Array, shape: tuple[int, ...], out: Array | None) -> Array:
    """Where the gradient of x goes, once grad_output is known to have the shape of the result."""
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = output(out, x.shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "grad_output", grad_output)
    return result


@cached_helper
def windows(
    shape: tuple[int, ...],
    like: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    data_format: str,
) -> tuple[Window, tuple[int, ...]]:
    """The window over x, of that shape, and the shape of the result."""
    full = with_batch(shape, "x", like)
    last = channels_last(data_format, full)
    kernel, images = triple(kernel_size, "kernel_size", 1, 1, full), _volume(full, last)
    steps, spread = strides(stride, kernel, full), triple(dilation, "dilation", 1, 1, full)
    around = pads(padding, "padding", full, kernel, steps, spread)
    beyond = flag(ceil_mode, "ceil_mode")
    most = (max(around[0], around[3]), max(around[1], around[4]), max(around[2], around[5]))
    if 2 * most[0] > kernel[0] or 2 * most[1] > kernel[1] or 2 * most[2] > kernel[2]:
        fail("padding", padding, ("at most half of kernel_size", kernel_size))
    bounded("kernel_size", kernel, "stride", steps)
    bounded("dilation", spread, "padding", most)
    found = (
        _positions(images[2], kernel[0], steps[0], around[0], around[3], spread[0], beyond),
        _positions(images[3], kernel[1], steps[1], around[1], around[4], spread[1], beyond),
        _positions(images[4], kernel[2], steps[2], around[2], around[5], spread[2], beyond),
    )
    result = volume_shape(full, images[0], images[1], found, last)
    return window(images, images[1], found, kernel, steps, around, spread, 1, last), without_batch(result, shape, like)


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
def adaptive_windows(shape: tuple[int, ...], like: tuple[int, ...], output_size: Any) -> tuple[Window, tuple[int, ...]]:
    """The window over x and the shape of the result: ordinary windows where they divide x evenly, else stride 0."""
    full = with_batch(shape, "x", like)
    images = _volume(full, 0)
    found = sizes(output_size, "output_size", images[2:], full, 0)
    bounded("output_size", found, "output_size", found)
    steps = (_even(images[2], found[0]), _even(images[3], found[1]), _even(images[4], found[2]))
    result = without_batch(volume_shape(full, images[0], images[1], found, 0), shape, like)
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
