"""The im2col / col2im pair."""

from __future__ import annotations

from typing import Any

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional._window import Padding, Pair, Window, bounded, out_sizes, window
from fastdl.functional.conv._shared import SHARED
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    disjoint,
    fail,
    floats,
    output,
    pads,
    triple,
    unfolded,
    volume,
    volume_shape,
    with_batch,
    without_batch,
)

__all__ = [
    "col2im",
    "im2col",
]


@operation
@doc(SHARED)
def im2col(
    x: ArrayLike,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: Padding = 0,
    stride: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """Every window of x as a column, the taps of each channel one below the other.

    ::

        columns[n, (c, r, s), (i, j)] =
            x[n, c, i * stride - padding + r * dilation, j * stride - padding + s * dilation]

    torch.nn.functional.unfold, and the same for sequences and volumes.

    Parameters
    ----------
    x : array of shape (batch, channels, height, width), or without the batch
        float32 or float64; sequences and volumes likewise.
    kernel_size : int or tuple of ints
        A tuple of 1, 2 or 3 says of how many dimensions windows are; an int is for images (x of 5 dimensions: volumes).
    stride, dilation : int or tuple of ints
        Steps between windows and between a window's taps.
    padding : int, tuple of ints, tuple of pairs, "valid", "same" or "same_lower"
        Zeros around the images, as conv2d's.
    {out}

    Returns
    -------
    ndarray
        (batch, channels * taps, positions), windows row by row; without the batch if x is.

    {conv_raises}

    See Also
    --------
    col2im : the adjoint.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.im2col(np.arange(9.0).reshape(1, 1, 3, 3), 2)
    array([[[0., 1., 3., 4.],
            [1., 2., 4., 5.],
            [3., 4., 6., 7.],
            [4., 5., 7., 8.]]])
    >>> fastdl.im2col(np.arange(4.0).reshape(1, 1, 4), (2,))
    array([[[0., 1., 2.],
            [1., 2., 3.]]])
    """
    x = floats(x, "x")
    window, shape = _unfolded(x.shape, kernel_size, dilation, padding, stride)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
    _kernels.im2col(x, result, window)
    return result


@operation
@doc(SHARED)
def col2im(
    columns: ArrayLike,
    output_size: int | Pair,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: Padding = 0,
    stride: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """The sum of columns back into images: the adjoint of im2col, and so its gradient.

    ::

        x[n, c, i * stride - padding + r * dilation, j * stride - padding + s * dilation] +=
            columns[n, (c, r, s), (i, j)]

    torch.nn.functional.fold, and the same for sequences and volumes.

    Parameters
    ----------
    columns : array of shape (batch, channels * taps, positions), or without the batch
        As im2col returns them; float32 or float64.
    output_size : int or tuple of ints
        The sizes of the images; a tuple of 1, 2 or 3 says of how many dimensions they are, an int is for images.
    kernel_size : int or tuple of ints
        The sizes of the windows.
    stride, dilation : int or tuple of ints
        Steps between windows and between a window's taps.
    padding : int, tuple of ints, tuple of pairs, "valid", "same" or "same_lower"
        Zeros around the images, as conv2d's.
    {out}

    Returns
    -------
    ndarray
        (batch, channels, height, width), or as many sizes as output_size has; without the batch if columns are.

    {conv_raises}

    See Also
    --------
    im2col : the adjoint.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.col2im(np.ones((1, 4, 4)), 3, 2)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    columns = floats(columns, "columns")
    window, shape = _folded(columns.shape, output_size, kernel_size, dilation, padding, stride)
    result = output(out, shape, columns)
    if out is not None:
        disjoint(result, "columns", columns)
    _kernels.col2im(columns, result, window)
    return result


@helper
def _taps(window: Window) -> int:
    return window.kernel_depth * window.kernel_height * window.kernel_width


@helper
def _positions(window: Window) -> int:
    return window.out_depth * window.out_height * window.out_width


@cached_helper
def _unfolded(
    shape: tuple[int, ...], kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[Window, tuple[int, ...]]:
    """The window of im2col, and the shape of its columns."""
    like = unfolded(kernel_size, shape)
    window = _unfold_window(with_batch(shape, "x", like), kernel_size, dilation, padding, stride)
    return window, without_batch((window.batch, window.channels * _taps(window), _positions(window)), shape, like)


@cached_helper
def _folded(
    shape: tuple[int, ...], output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[Window, tuple[int, ...]]:
    """The window of col2im, and the shape of its images."""
    like = unfolded(output_size, (1, 1))
    found = with_batch(shape, "columns", (1, 1, 1))
    size = triple(output_size, "output_size", 1, 1, like)
    bounded("output_size", size, "output_size", size)
    kernel = triple(kernel_size, "kernel_size", 1, 1, like)
    taps = kernel[0] * kernel[1] * kernel[2]
    if found[1] % taps != 0:
        fail("columns", shape, ("batch", "a multiple of", taps, "positions"))
    images = volume_shape(like, found[0], found[1] // taps, size, 0)
    window = _unfold_window(images, kernel_size, dilation, padding, stride)
    if found[2] != _positions(window):
        fail("columns", shape, (found[0], found[1], _positions(window)))
    return window, without_batch(images, shape, (1, 1, 1))


@helper
def _unfold_window(shape: tuple[int, ...], kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Window:
    kernel, images = triple(kernel_size, "kernel_size", 1, 1, shape), volume(shape, 0)
    steps, spread = triple(stride, "stride", 1, 1, shape), triple(dilation, "dilation", 1, 1, shape)
    around = pads(padding, "padding", shape, kernel, steps, spread, images[2:])
    sizes = out_sizes(images[2:], kernel, steps, around, spread)
    positions = float(sizes[0]) * float(sizes[1]) * float(sizes[2])
    taps = float(kernel[0]) * float(kernel[1]) * float(kernel[2])
    if float(max(shape[0], 1)) * float(max(shape[1], 1)) * taps * positions >= 2.0**60:
        fail("kernel_size", ("columns of", kernel, "at", sizes, "positions"), "ones whose size in bytes fits 64 bits")
    return window(images, images[1], sizes, kernel, steps, around, spread, 1, 0)
