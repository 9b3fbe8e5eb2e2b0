"""The way back from maxima to where they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional._window import Pair, Triple, bounded
from fastdl.functional.pooling._shared import IMAGE, POOLING, POOLING_1D, POOLING_2D, POOLING_3D, SEQUENCE, VOLUME
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    disjoint,
    fail,
    floats,
    output,
    position_array,
    sizes,
    strides,
    triple,
    volume,
    volume_shape,
    with_batch,
    without_batch,
)

__all__ = [
    "max_unpool1d",
    "max_unpool1d_backward",
    "max_unpool2d",
    "max_unpool2d_backward",
    "max_unpool3d",
    "max_unpool3d_backward",
]


@operation
@doc(POOLING, POOLING_1D)
def max_unpool1d(
    x: ArrayLike,
    indices: ArrayLike,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: int | tuple[int] = 0,
    output_size: int | Sequence[int | None] | None = None,
    out: Array | None = None,
) -> Array:
    """The partial inverse of `max_pool1d`: x where the indices say, 0 elsewhere.

    As torch.nn.functional.max_unpool1d. Of equal indices the last wins.

    Parameters
    ----------
    {x}
    indices : array_like of int64
        For each element of `x` its position in its channel of the result, as `max_pool1d` returns it.
    {window}
    padding : int or tuple of int, optional
        As of the pooling that is inverted.
    output_size : int or tuple of int, optional
        The sizes of the result, or its whole shape: less than a stride from what they are by default,
        ``(size - 1) * stride - 2 * padding + kernel``.
    {out}

    Returns
    -------
    ndarray
        Of the dtype of `x` and shaped as it is.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> y, indices = fastdl.max_pool1d(np.array([[1.0, 3.0, 2.0, 5.0]]), 2, return_indices=True)
    >>> fastdl.max_unpool1d(y, indices, 2)
    array([[0., 3., 0., 5.]])
    """
    x = floats(x, "x")
    shape = _unpooled(x.shape, SEQUENCE, kernel_size, stride, padding, output_size)
    return _unpool(x, position_array(indices, "indices", x.shape, 0), shape, 1, out)


@operation
@doc(POOLING, POOLING_1D)
def max_unpool1d_backward(
    grad_output: ArrayLike,
    indices: ArrayLike,
    out: Array | None = None,
) -> Array:
    """The gradient of `max_unpool1d` in x: grad_output at the indices.

    Parameters
    ----------
    grad_output : array_like of float32 or float64
        The gradient of the result, (batch, channels, length) or (channels, length).
    indices : array_like of int64
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.max_unpool1d_backward(np.arange(4.0).reshape(1, 4), np.array([[3, 0]]))
    array([[3., 0.]])
    """
    grad_output = floats(grad_output, "grad_output")
    with_batch(grad_output.shape, "grad_output", SEQUENCE)
    indices = position_array(indices, "indices", grad_output.shape, 1)
    return _unpool_backward(grad_output, indices, 1, out)


@operation
@doc(POOLING, POOLING_2D)
def max_unpool2d(
    x: ArrayLike,
    indices: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    output_size: int | Sequence[int | None] | None = None,
    out: Array | None = None,
) -> Array:
    """The partial inverse of `max_pool2d`: x where the indices say, 0 elsewhere.

    As torch.nn.functional.max_unpool2d. Of equal indices the last wins.

    Parameters
    ----------
    {x}
    indices : array_like of int64
        For each element of `x` its position in its channel of the result, as `max_pool2d` returns it.
    {window}
    padding : int or tuple of int, optional
        As of the pooling that is inverted.
    output_size : int or tuple of int, optional
        The sizes of the result, or its whole shape: less than a stride from what they are by default,
        ``(size - 1) * stride - 2 * padding + kernel``.
    {out}

    Returns
    -------
    ndarray
        Of the dtype of `x` and shaped as it is.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> y, indices = fastdl.max_pool2d(np.arange(16.0).reshape(1, 4, 4), 2, return_indices=True)
    >>> fastdl.max_unpool2d(y, indices, 2)
    array([[[ 0.,  0.,  0.,  0.],
            [ 0.,  5.,  0.,  7.],
            [ 0.,  0.,  0.,  0.],
            [ 0., 13.,  0., 15.]]])
    """
    x = floats(x, "x")
    shape = _unpooled(x.shape, IMAGE, kernel_size, stride, padding, output_size)
    return _unpool(x, position_array(indices, "indices", x.shape, 0), shape, 2, out)


@operation
@doc(POOLING, POOLING_2D)
def max_unpool2d_backward(
    grad_output: ArrayLike,
    indices: ArrayLike,
    out: Array | None = None,
) -> Array:
    """The gradient of `max_unpool2d` in x: grad_output at the indices.

    Parameters
    ----------
    grad_output : array_like of float32 or float64
        The gradient of the result, (batch, channels, height, width) or (channels, height, width).
    indices : array_like of int64
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.max_unpool2d_backward(np.arange(16.0).reshape(1, 4, 4), np.array([[[5, 15]]]))
    array([[[ 5., 15.]]])
    """
    grad_output = floats(grad_output, "grad_output")
    with_batch(grad_output.shape, "grad_output", IMAGE)
    indices = position_array(indices, "indices", grad_output.shape, 2)
    return _unpool_backward(grad_output, indices, 2, out)


@operation
@doc(POOLING, POOLING_3D)
def max_unpool3d(
    x: ArrayLike,
    indices: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: int | Triple = 0,
    output_size: int | Sequence[int | None] | None = None,
    out: Array | None = None,
) -> Array:
    """The partial inverse of `max_pool3d`: x where the indices say, 0 elsewhere.

    As torch.nn.functional.max_unpool3d. Of equal indices the last wins.

    Parameters
    ----------
    {x}
    indices : array_like of int64
        For each element of `x` its position in its channel of the result, as `max_pool3d` returns it.
    {window}
    padding : int or tuple of int, optional
        As of the pooling that is inverted.
    output_size : int or tuple of int, optional
        The sizes of the result, or its whole shape: less than a stride from what they are by default,
        ``(size - 1) * stride - 2 * padding + kernel``.
    {out}

    Returns
    -------
    ndarray
        Of the dtype of `x` and shaped as it is.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> y, indices = fastdl.max_pool3d(np.arange(64.0).reshape(1, 4, 4, 4), 2, return_indices=True)
    >>> np.flatnonzero(fastdl.max_unpool3d(y, indices, 2))
    array([21, 23, 29, 31, 53, 55, 61, 63])
    """
    x = floats(x, "x")
    shape = _unpooled(x.shape, VOLUME, kernel_size, stride, padding, output_size)
    return _unpool(x, position_array(indices, "indices", x.shape, 0), shape, 3, out)


@operation
@doc(POOLING, POOLING_3D)
def max_unpool3d_backward(
    grad_output: ArrayLike,
    indices: ArrayLike,
    out: Array | None = None,
) -> Array:
    """The gradient of `max_unpool3d` in x: grad_output at the indices.

    Parameters
    ----------
    grad_output : array_like of float32 or float64
        The gradient of the result, (batch, channels, depth, height, width),
        or without the batch.
    indices : array_like of int64
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.max_unpool3d_backward(np.arange(64.0).reshape(1, 4, 4, 4), np.array([[[[42, 63]]]]))
    array([[[[42., 63.]]]])
    """
    grad_output = floats(grad_output, "grad_output")
    with_batch(grad_output.shape, "grad_output", VOLUME)
    indices = position_array(indices, "indices", grad_output.shape, 3)
    return _unpool_backward(grad_output, indices, 3, out)


@helper
def _unpool(x: Array, indices: Array, shape: tuple[int, ...], rank: int, out: Array | None) -> Array:
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "indices", indices)
    planes = _planes(shape, rank)
    _kernels.max_unpool(x, indices, result, planes, x.size // max(planes, 1), result.size // max(planes, 1))
    return result


@helper
def _unpool_backward(grad_output: Array, indices: Array, rank: int, out: Array | None) -> Array:
    result = output(out, indices.shape, grad_output)
    if out is not None:
        disjoint(result, "grad_output", grad_output)
        disjoint(result, "indices", indices)
    planes = _planes(indices.shape, rank)
    positions, elements = indices.size // max(planes, 1), grad_output.size // max(planes, 1)
    _kernels.max_unpool_backward(grad_output, indices, result, planes, positions, elements)
    return result


@helper
def _planes(shape: tuple[int, ...], rank: int) -> int:
    """Of every batch and channel one."""
    planes = 1
    for i in range(len(shape) - rank):
        planes *= shape[i]
    return planes


@cached_helper
def _unpooled(
    shape: tuple[int, ...], like: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> tuple[int, ...]:
    """The shape of what max_unpool returns."""
    full = with_batch(shape, "x", like)
    kernel, images = triple(kernel_size, "kernel_size", 1, 1, full), volume(full, 0)
    steps, around = strides(stride, kernel, full), triple(padding, "padding", 0, 0, full)
    bounded("kernel_size", kernel, "stride", steps)
    bounded("padding", around, "padding", around)
    default = (
        (images[2] - 1) * steps[0] - 2 * around[0] + kernel[0],
        (images[3] - 1) * steps[1] - 2 * around[1] + kernel[1],
        (images[4] - 1) * steps[2] - 2 * around[2] + kernel[2],
    )
    found = sizes(output_size, "output_size", default, full, 2)
    far = max(abs(found[0] - default[0]) - steps[0], abs(found[1] - default[1]) - steps[1])
    if max(far, abs(found[2] - default[2]) - steps[2]) >= 0 or min(found[0], found[1], found[2]) < 1:
        fail("output_size", found, ("at least 1 and less than a stride from", default))
    return without_batch(volume_shape(full, images[0], images[1], found, 0), shape, like)
