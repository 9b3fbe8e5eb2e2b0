"""Pooling: the largest, the average or the norm of every window, and of a given number of windows (adaptive).

What the functions for sequences (1d), images (2d) and volumes (3d) share is written once, their documentation too.
"""

from __future__ import annotations

import math
from typing import Any, Literal, overload

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional._window import Pair, Triple, Volume, Window, bounded, window
from fastdl.functional.verbs import (
    Array,
    channels_last,
    disjoint,
    fail,
    flag,
    floats,
    floats_like,
    index_output,
    integer,
    number,
    optional_indices,
    output,
    pads,
    position_array,
    sizes,
    strides,
    triple,
    volume,
    volume_shape,
    with_batch,
    with_indices,
    without_batch,
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

_POOLING = {
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

_1D = {
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
_2D = {
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
_3D = {
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

_FORMATS = ("NCL", "NCHW", "NCDHW")
_SEQUENCE, _IMAGE, _VOLUME = (1,) * 3, (1,) * 4, (1,) * 5
"""Shapes with as many dimensions as inputs have with a batch."""


@overload
def max_pool1d(
    x: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = ...,
    padding: Any = ...,
    dilation: int | tuple[int] = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    data_format: str = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def max_pool1d(
    x: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = ...,
    padding: Any = ...,
    dilation: int | tuple[int] = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: Literal[True],
    data_format: str = ...,
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
@operation
@doc(_POOLING, _1D)
def max_pool1d(
    x: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: str = "NCL",
    out: Array | None = None,
) -> Any:
    """The largest value in each window that slides over a sequence.

    As torch.nn.functional.max_pool1d. Padding counts as -infinity.

    {positions}

    Parameters
    ----------
    {x}
    {window}
    {padding}
    {dilation}
    {ceil_mode}
    {return_indices}
    {data_format}
    {out}

    {returns_maxima}

    See Also
    --------
    max_unpool1d, adaptive_max_pool1d

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.max_pool1d(np.array([[1.0, 3.0, 2.0, 5.0]]), 2)
    array([[3., 5.]])
    >>> fastdl.max_pool1d(np.array([[1.0, 3.0, 2.0, 5.0]]), 2, return_indices=True)
    (array([[3., 5.]]), array([[1, 3]]))
    """
    x = floats(x, "x")
    window, shape = _windows(x.shape, _SEQUENCE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima(x, window, shape, return_indices, out)


@operation
@doc(_POOLING, _1D)
def max_pool1d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    ceil_mode: bool = False,
    data_format: str = "NCL",
    indices: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `max_pool1d` in x.

    Each grad_output goes to the element that was the largest: the first of equals, the last of NaN.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {as_given}
    {indices}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.max_pool1d_backward(np.ones((1, 2)), np.array([[1.0, 3.0, 2.0, 5.0]]), 2)
    array([[0., 1., 0., 1.]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _windows(x.shape, _SEQUENCE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@overload
def max_pool2d(
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = ...,
    padding: Any = ...,
    dilation: int | Pair = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    data_format: str = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def max_pool2d(
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = ...,
    padding: Any = ...,
    dilation: int | Pair = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: Literal[True],
    data_format: str = ...,
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
@operation
@doc(_POOLING, _2D)
def max_pool2d(
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = None,
    padding: Any = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: str = "NCHW",
    out: Array | None = None,
) -> Any:
    """The largest value in each window that slides over an image.

    As torch.nn.functional.max_pool2d. Padding counts as -infinity.

    {positions}

    Parameters
    ----------
    {x}
    {window}
    {padding}
    {dilation}
    {ceil_mode}
    {return_indices}
    {data_format}
    {out}

    {returns_maxima}

    See Also
    --------
    max_unpool2d, adaptive_max_pool2d

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.max_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 5.,  7.],
            [13., 15.]]])
    """
    x = floats(x, "x")
    window, shape = _windows(x.shape, _IMAGE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima(x, window, shape, return_indices, out)


@operation
@doc(_POOLING, _2D)
def max_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = None,
    padding: Any = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    data_format: str = "NCHW",
    indices: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `max_pool2d` in x.

    Each grad_output goes to the element that was the largest: the first of equals, the last of NaN.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {as_given}
    {indices}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.max_pool2d_backward(np.ones((1, 2, 2)), np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[0., 0., 0., 0.],
            [0., 1., 0., 1.],
            [0., 0., 0., 0.],
            [0., 1., 0., 1.]]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _windows(x.shape, _IMAGE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@overload
def max_pool3d(
    x: Any,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = ...,
    padding: Any = ...,
    dilation: int | Triple = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    data_format: str = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def max_pool3d(
    x: Any,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = ...,
    padding: Any = ...,
    dilation: int | Triple = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: Literal[True],
    data_format: str = ...,
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
@operation
@doc(_POOLING, _3D)
def max_pool3d(
    x: Any,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = None,
    padding: Any = 0,
    dilation: int | Triple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: str = "NCDHW",
    out: Array | None = None,
) -> Any:
    """The largest value in each window that slides over a volume.

    As torch.nn.functional.max_pool3d. Padding counts as -infinity.

    {positions}

    Parameters
    ----------
    {x}
    {window}
    {padding}
    {dilation}
    {ceil_mode}
    {return_indices}
    {data_format}
    {out}

    {returns_maxima}

    See Also
    --------
    max_unpool3d, adaptive_max_pool3d

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.max_pool3d(np.arange(64.0).reshape(1, 4, 4, 4), 2)
    array([[[[21., 23.],
             [29., 31.]],
            [[53., 55.],
             [61., 63.]]]])
    """
    x = floats(x, "x")
    window, shape = _windows(x.shape, _VOLUME, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima(x, window, shape, return_indices, out)


@operation
@doc(_POOLING, _3D)
def max_pool3d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = None,
    padding: Any = 0,
    dilation: int | Triple = 1,
    ceil_mode: bool = False,
    data_format: str = "NCDHW",
    indices: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `max_pool3d` in x.

    Each grad_output goes to the element that was the largest: the first of equals, the last of NaN.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {as_given}
    {indices}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> grad = fastdl.max_pool3d_backward(np.ones((1, 2, 2, 2)), np.arange(64.0).reshape(1, 4, 4, 4), 2)
    >>> np.flatnonzero(grad)
    array([21, 23, 29, 31, 53, 55, 61, 63])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _windows(x.shape, _VOLUME, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@operation
@doc(_POOLING, _1D)
def max_unpool1d(
    x: Any,
    indices: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: int | tuple[int] = 0,
    output_size: Any = None,
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
    shape = _unpooled(x.shape, _SEQUENCE, kernel_size, stride, padding, output_size)
    return _unpool(x, position_array(indices, "indices", x.shape, 0), shape, 1, out)


@operation
@doc(_POOLING, _1D)
def max_unpool1d_backward(
    grad_output: Any,
    indices: Any,
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
    with_batch(grad_output.shape, "grad_output", _SEQUENCE)
    indices = position_array(indices, "indices", grad_output.shape, 1)
    return _unpool_backward(grad_output, indices, 1, out)


@operation
@doc(_POOLING, _2D)
def max_unpool2d(
    x: Any,
    indices: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    output_size: Any = None,
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
    shape = _unpooled(x.shape, _IMAGE, kernel_size, stride, padding, output_size)
    return _unpool(x, position_array(indices, "indices", x.shape, 0), shape, 2, out)


@operation
@doc(_POOLING, _2D)
def max_unpool2d_backward(
    grad_output: Any,
    indices: Any,
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
    with_batch(grad_output.shape, "grad_output", _IMAGE)
    indices = position_array(indices, "indices", grad_output.shape, 2)
    return _unpool_backward(grad_output, indices, 2, out)


@operation
@doc(_POOLING, _3D)
def max_unpool3d(
    x: Any,
    indices: Any,
    kernel_size: int | Triple,
    stride: int | Triple | None = None,
    padding: int | Triple = 0,
    output_size: Any = None,
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
    shape = _unpooled(x.shape, _VOLUME, kernel_size, stride, padding, output_size)
    return _unpool(x, position_array(indices, "indices", x.shape, 0), shape, 3, out)


@operation
@doc(_POOLING, _3D)
def max_unpool3d_backward(
    grad_output: Any,
    indices: Any,
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
    with_batch(grad_output.shape, "grad_output", _VOLUME)
    indices = position_array(indices, "indices", grad_output.shape, 3)
    return _unpool_backward(grad_output, indices, 3, out)


@operation
@doc(_POOLING, _1D)
def avg_pool1d(
    x: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | tuple[int] = 1,
    data_format: str = "NCL",
    out: Array | None = None,
) -> Array:
    """The average of each window that slides over a sequence.

    As torch.nn.functional.avg_pool1d: the sum of a window over the number of its elements. Sums are in the dtype of
    `x`; where one window is everything, in parts that are summed in float64.

    {positions}

    Parameters
    ----------
    {x}
    {window}
    {padding}
    {ceil_mode}
    count_include_pad : bool, optional
        Whether padding counts, as elements that are 0. (What `ceil_mode` adds never does.)
    divisor_override : int, optional
        What to divide by instead; not 0.
    {dilation}
        (ONNX has it, torch does not.)
    {data_format}
    {out}

    {returns}

    See Also
    --------
    adaptive_avg_pool1d, lp_pool1d

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.avg_pool1d(np.array([[1.0, 3.0, 2.0, 5.0]]), 2)
    array([[2. , 3.5]])
    """
    x = floats(x, "x")
    window, shape = _windows(x.shape, _SEQUENCE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _averages(x, window, shape, flag(count_include_pad, "count_include_pad"), _divisor(divisor_override), out)


@operation
@doc(_POOLING, _1D)
def avg_pool1d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | tuple[int] = 1,
    data_format: str = "NCL",
    out: Array | None = None,
) -> Array:
    """The gradient of `avg_pool1d` in x: of each grad_output an equal part to all elements of its window.

    Parameters
    ----------
    {grad_output}
    {saved_shape}
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, data_format
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.avg_pool1d_backward(np.ones((1, 2)), np.array([[1.0, 3.0, 2.0, 5.0]]), 2)
    array([[0.5, 0.5, 0.5, 0.5]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _windows(x.shape, _SEQUENCE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    include, divisor = flag(count_include_pad, "count_include_pad"), _divisor(divisor_override)
    return _averages_backward(grad_output, x, window, shape, include, divisor, out)


@operation
@doc(_POOLING, _2D)
def avg_pool2d(
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | Pair = 1,
    data_format: str = "NCHW",
    out: Array | None = None,
) -> Array:
    """The average of each window that slides over an image.

    As torch.nn.functional.avg_pool2d: the sum of a window over the number of its elements. Sums are in the dtype of
    `x`; where one window is everything, in parts that are summed in float64.

    {positions}

    Parameters
    ----------
    {x}
    {window}
    {padding}
    {ceil_mode}
    count_include_pad : bool, optional
        Whether padding counts, as elements that are 0. (What `ceil_mode` adds never does.)
    divisor_override : int, optional
        What to divide by instead; not 0.
    {dilation}
        (ONNX has it, torch does not.)
    {data_format}
    {out}

    {returns}

    See Also
    --------
    adaptive_avg_pool2d, lp_pool2d

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """
    x = floats(x, "x")
    window, shape = _windows(x.shape, _IMAGE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _averages(x, window, shape, flag(count_include_pad, "count_include_pad"), _divisor(divisor_override), out)


@operation
@doc(_POOLING, _2D)
def avg_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | Pair = 1,
    data_format: str = "NCHW",
    out: Array | None = None,
) -> Array:
    """The gradient of `avg_pool2d` in x: of each grad_output an equal part to all elements of its window.

    Parameters
    ----------
    {grad_output}
    {saved_shape}
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, data_format
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.avg_pool2d_backward(np.ones((1, 2, 2)), np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[0.25, 0.25, 0.25, 0.25],
            [0.25, 0.25, 0.25, 0.25],
            [0.25, 0.25, 0.25, 0.25],
            [0.25, 0.25, 0.25, 0.25]]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _windows(x.shape, _IMAGE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    include, divisor = flag(count_include_pad, "count_include_pad"), _divisor(divisor_override)
    return _averages_backward(grad_output, x, window, shape, include, divisor, out)


@operation
@doc(_POOLING, _3D)
def avg_pool3d(
    x: Any,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | Triple = 1,
    data_format: str = "NCDHW",
    out: Array | None = None,
) -> Array:
    """The average of each window that slides over a volume.

    As torch.nn.functional.avg_pool3d: the sum of a window over the number of its elements. Sums are in the dtype of
    `x`; where one window is everything, in parts that are summed in float64.

    {positions}

    Parameters
    ----------
    {x}
    {window}
    {padding}
    {ceil_mode}
    count_include_pad : bool, optional
        Whether padding counts, as elements that are 0. (What `ceil_mode` adds never does.)
    divisor_override : int, optional
        What to divide by instead; not 0.
    {dilation}
        (ONNX has it, torch does not.)
    {data_format}
    {out}

    {returns}

    See Also
    --------
    adaptive_avg_pool3d, lp_pool3d

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.avg_pool3d(np.arange(64.0).reshape(1, 4, 4, 4), 2)
    array([[[[10.5, 12.5],
             [18.5, 20.5]],
            [[42.5, 44.5],
             [50.5, 52.5]]]])
    """
    x = floats(x, "x")
    window, shape = _windows(x.shape, _VOLUME, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _averages(x, window, shape, flag(count_include_pad, "count_include_pad"), _divisor(divisor_override), out)


@operation
@doc(_POOLING, _3D)
def avg_pool3d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | Triple = 1,
    data_format: str = "NCDHW",
    out: Array | None = None,
) -> Array:
    """The gradient of `avg_pool3d` in x: of each grad_output an equal part to all elements of its window.

    Parameters
    ----------
    {grad_output}
    {saved_shape}
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, data_format
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> grad = fastdl.avg_pool3d_backward(np.ones((1, 2, 2, 2)), np.arange(64.0).reshape(1, 4, 4, 4), 2)
    >>> grad.shape, grad.min(), grad.max()
    ((1, 4, 4, 4), np.float64(0.125), np.float64(0.125))
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _windows(x.shape, _VOLUME, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    include, divisor = flag(count_include_pad, "count_include_pad"), _divisor(divisor_override)
    return _averages_backward(grad_output, x, window, shape, include, divisor, out)


@operation
@doc(_POOLING, _1D)
def lp_pool1d(
    x: Any,
    norm_type: float,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = None,
    ceil_mode: bool = False,
    dilation: int | tuple[int] = 1,
    out: Array | None = None,
) -> Array:
    """The power-average of each window that slides over a sequence.

    As torch.nn.functional.lp_pool1d::

        y = (sum of x^p)^(1 / p),    p = norm_type

    which is the p-norm where nothing is negative; a sum that is negative has no root, and makes NaN. A window that
    ends outside of the input counts for as much as the others: its average times the kernel's size. The norm of
    infinity is the largest ``|x|``, that of -infinity the smallest (where torch returns 1).

    Parameters
    ----------
    {x}
    norm_type : float
        The power; not 0.
    {window}
    {ceil_mode}
    {dilation}
        (torch has none.)
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.lp_pool1d(np.array([[3.0, 4.0, 5.0, 12.0]]), 2.0, 2)
    array([[ 5., 13.]])
    """
    x = floats(x, "x")
    window, shape = _windows(x.shape, _SEQUENCE, kernel_size, stride, 0, dilation, ceil_mode, _FORMATS[0])
    return _norms(x, norm_type, window, shape, out)


@operation
@doc(_POOLING, _1D)
def lp_pool1d_backward(
    grad_output: Any,
    x: Any,
    norm_type: float,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = None,
    ceil_mode: bool = False,
    dilation: int | tuple[int] = 1,
    out: Array | None = None,
) -> Array:
    """The gradient of `lp_pool1d` in x.

    ::

        grad_input = sum over the windows of x of grad_output * (x / y)^(p - 1),    p = norm_type

    taken as 0 where the sum of powers is 0.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    norm_type, kernel_size, stride, ceil_mode, dilation
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.lp_pool1d_backward(np.ones((1, 1)), np.array([[3.0, 4.0]]), 2.0, 2).round(6)
    array([[0.6, 0.8]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _windows(x.shape, _SEQUENCE, kernel_size, stride, 0, dilation, ceil_mode, _FORMATS[0])
    return _norms_backward(grad_output, x, norm_type, window, shape, out)


@operation
@doc(_POOLING, _2D)
def lp_pool2d(
    x: Any,
    norm_type: float,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = None,
    ceil_mode: bool = False,
    dilation: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """The power-average of each window that slides over an image.

    As torch.nn.functional.lp_pool2d::

        y = (sum of x^p)^(1 / p),    p = norm_type

    which is the p-norm where nothing is negative; a sum that is negative has no root, and makes NaN. A window that
    ends outside of the input counts for as much as the others: its average times the kernel's size. The norm of
    infinity is the largest ``|x|``, that of -infinity the smallest (where torch returns 1).

    Parameters
    ----------
    {x}
    norm_type : float
        The power; not 0.
    {window}
    {ceil_mode}
    {dilation}
        (torch has none.)
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.lp_pool2d(np.full((1, 2, 2), 3.0), 2.0, 2).round(6)
    array([[[6.]]])
    """
    x = floats(x, "x")
    window, shape = _windows(x.shape, _IMAGE, kernel_size, stride, 0, dilation, ceil_mode, _FORMATS[1])
    return _norms(x, norm_type, window, shape, out)


@operation
@doc(_POOLING, _2D)
def lp_pool2d_backward(
    grad_output: Any,
    x: Any,
    norm_type: float,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = None,
    ceil_mode: bool = False,
    dilation: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """The gradient of `lp_pool2d` in x.

    ::

        grad_input = sum over the windows of x of grad_output * (x / y)^(p - 1),    p = norm_type

    taken as 0 where the sum of powers is 0.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    norm_type, kernel_size, stride, ceil_mode, dilation
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.lp_pool2d_backward(np.ones((1, 1, 1)), np.full((1, 2, 2), 3.0), 2.0, 2).round(6)
    array([[[0.5, 0.5],
            [0.5, 0.5]]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _windows(x.shape, _IMAGE, kernel_size, stride, 0, dilation, ceil_mode, _FORMATS[1])
    return _norms_backward(grad_output, x, norm_type, window, shape, out)


@operation
@doc(_POOLING, _3D)
def lp_pool3d(
    x: Any,
    norm_type: float,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = None,
    ceil_mode: bool = False,
    dilation: int | Triple = 1,
    out: Array | None = None,
) -> Array:
    """The power-average of each window that slides over a volume.

    As torch.nn.functional.lp_pool3d::

        y = (sum of x^p)^(1 / p),    p = norm_type

    which is the p-norm where nothing is negative; a sum that is negative has no root, and makes NaN. A window that
    ends outside of the input counts for as much as the others: its average times the kernel's size. The norm of
    infinity is the largest ``|x|``, that of -infinity the smallest (where torch returns 1).

    Parameters
    ----------
    {x}
    norm_type : float
        The power; not 0.
    {window}
    {ceil_mode}
    {dilation}
        (torch has none.)
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.lp_pool3d(np.full((1, 2, 2, 2), 3.0), 2.0, 2).round(6)
    array([[[[8.485281]]]])
    """
    x = floats(x, "x")
    window, shape = _windows(x.shape, _VOLUME, kernel_size, stride, 0, dilation, ceil_mode, _FORMATS[2])
    return _norms(x, norm_type, window, shape, out)


@operation
@doc(_POOLING, _3D)
def lp_pool3d_backward(
    grad_output: Any,
    x: Any,
    norm_type: float,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = None,
    ceil_mode: bool = False,
    dilation: int | Triple = 1,
    out: Array | None = None,
) -> Array:
    """The gradient of `lp_pool3d` in x.

    ::

        grad_input = sum over the windows of x of grad_output * (x / y)^(p - 1),    p = norm_type

    taken as 0 where the sum of powers is 0.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    norm_type, kernel_size, stride, ceil_mode, dilation
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.lp_pool3d_backward(np.ones((1, 1, 1, 1)), np.full((1, 2, 2, 2), 3.0), 2.0, 2).round(6)
    array([[[[0.353553, 0.353553],
             [0.353553, 0.353553]],
            [[0.353553, 0.353553],
             [0.353553, 0.353553]]]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _windows(x.shape, _VOLUME, kernel_size, stride, 0, dilation, ceil_mode, _FORMATS[2])
    return _norms_backward(grad_output, x, norm_type, window, shape, out)


@operation
@doc(_POOLING, _1D)
def adaptive_avg_pool1d(
    x: Any,
    output_size: int | tuple[int | None] | None,
    out: Array | None = None,
) -> Array:
    """The average of each of a given number of windows over a sequence.

    As torch.nn.functional.adaptive_avg_pool1d. Of one window that is everything, sums go on
    in float64.

    {adaptive}

    Parameters
    ----------
    {x}
    {output_size}
    {out}

    {returns}

    See Also
    --------
    avg_pool1d

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.adaptive_avg_pool1d(np.array([[1.0, 3.0, 2.0, 5.0]]), 3)
    array([[2. , 2.5, 3.5]])
    """
    x = floats(x, "x")
    window, shape = _adaptive(x.shape, _SEQUENCE, output_size)
    return _averages(x, window, shape, True, 0, out)


@operation
@doc(_POOLING, _1D)
def adaptive_avg_pool1d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int | None] | None,
    out: Array | None = None,
) -> Array:
    """The gradient of `adaptive_avg_pool1d` in x.

    Parameters
    ----------
    {grad_output}
    {saved_shape}
    output_size
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.adaptive_avg_pool1d_backward(np.ones((1, 2)), np.array([[1.0, 3.0, 2.0, 5.0]]), 2)
    array([[0.5, 0.5, 0.5, 0.5]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _adaptive(x.shape, _SEQUENCE, output_size)
    return _averages_backward(grad_output, x, window, shape, True, 0, out)


@operation
@doc(_POOLING, _2D)
def adaptive_avg_pool2d(
    x: Any,
    output_size: int | tuple[int | None, int | None] | None,
    out: Array | None = None,
) -> Array:
    """The average of each of a given number of windows over an image.

    As torch.nn.functional.adaptive_avg_pool2d. Of one window that is everything, sums go on
    in float64.

    {adaptive}

    Parameters
    ----------
    {x}
    {output_size}
    {out}

    {returns}

    See Also
    --------
    avg_pool2d

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.adaptive_avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """
    x = floats(x, "x")
    window, shape = _adaptive(x.shape, _IMAGE, output_size)
    return _averages(x, window, shape, True, 0, out)


@operation
@doc(_POOLING, _2D)
def adaptive_avg_pool2d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int | None, int | None] | None,
    out: Array | None = None,
) -> Array:
    """The gradient of `adaptive_avg_pool2d` in x.

    Parameters
    ----------
    {grad_output}
    {saved_shape}
    output_size
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.adaptive_avg_pool2d_backward(np.ones((1, 2, 2)), np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[0.25, 0.25, 0.25, 0.25],
            [0.25, 0.25, 0.25, 0.25],
            [0.25, 0.25, 0.25, 0.25],
            [0.25, 0.25, 0.25, 0.25]]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _adaptive(x.shape, _IMAGE, output_size)
    return _averages_backward(grad_output, x, window, shape, True, 0, out)


@operation
@doc(_POOLING, _3D)
def adaptive_avg_pool3d(
    x: Any,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    out: Array | None = None,
) -> Array:
    """The average of each of a given number of windows over a volume.

    As torch.nn.functional.adaptive_avg_pool3d. Of one window that is everything, sums go on
    in float64.

    {adaptive}

    Parameters
    ----------
    {x}
    {output_size}
    {out}

    {returns}

    See Also
    --------
    avg_pool3d

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.adaptive_avg_pool3d(np.arange(64.0).reshape(1, 4, 4, 4), 1)
    array([[[[31.5]]]])
    """
    x = floats(x, "x")
    window, shape = _adaptive(x.shape, _VOLUME, output_size)
    return _averages(x, window, shape, True, 0, out)


@operation
@doc(_POOLING, _3D)
def adaptive_avg_pool3d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    out: Array | None = None,
) -> Array:
    """The gradient of `adaptive_avg_pool3d` in x.

    Parameters
    ----------
    {grad_output}
    {saved_shape}
    output_size
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> grad = fastdl.adaptive_avg_pool3d_backward(np.ones((1, 2, 2, 2)), np.arange(64.0).reshape(1, 4, 4, 4), 2)
    >>> grad.shape, grad.sum()
    ((1, 4, 4, 4), np.float64(8.0))
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _adaptive(x.shape, _VOLUME, output_size)
    return _averages_backward(grad_output, x, window, shape, True, 0, out)


@overload
def adaptive_max_pool1d(
    x: Any,
    output_size: int | tuple[int | None] | None,
    return_indices: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def adaptive_max_pool1d(
    x: Any,
    output_size: int | tuple[int | None] | None,
    *,
    return_indices: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
@operation
@doc(_POOLING, _1D)
def adaptive_max_pool1d(
    x: Any,
    output_size: int | tuple[int | None] | None,
    return_indices: bool = False,
    out: Array | None = None,
) -> Any:
    """The largest value of each of a given number of windows over a sequence.

    As torch.nn.functional.adaptive_max_pool1d.

    {adaptive}

    Parameters
    ----------
    {x}
    {output_size}
    {return_indices}
    {out}

    {returns_maxima}

    See Also
    --------
    max_pool1d

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.adaptive_max_pool1d(np.array([[1.0, 3.0, 2.0, 5.0]]), 3)
    array([[3., 3., 5.]])
    """
    x = floats(x, "x")
    window, shape = _adaptive(x.shape, _SEQUENCE, output_size)
    return _maxima(x, window, shape, return_indices, out)


@operation
@doc(_POOLING, _1D)
def adaptive_max_pool1d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int | None] | None,
    indices: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `adaptive_max_pool1d` in x.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    output_size
        As given to the function.
    {indices}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.adaptive_max_pool1d_backward(np.ones((1, 2)), np.array([[1.0, 3.0, 2.0, 5.0]]), 2)
    array([[0., 1., 0., 1.]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _adaptive(x.shape, _SEQUENCE, output_size)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@overload
def adaptive_max_pool2d(
    x: Any,
    output_size: int | tuple[int | None, int | None] | None,
    return_indices: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def adaptive_max_pool2d(
    x: Any,
    output_size: int | tuple[int | None, int | None] | None,
    *,
    return_indices: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
@operation
@doc(_POOLING, _2D)
def adaptive_max_pool2d(
    x: Any,
    output_size: int | tuple[int | None, int | None] | None,
    return_indices: bool = False,
    out: Array | None = None,
) -> Any:
    """The largest value of each of a given number of windows over an image.

    As torch.nn.functional.adaptive_max_pool2d.

    {adaptive}

    Parameters
    ----------
    {x}
    {output_size}
    {return_indices}
    {out}

    {returns_maxima}

    See Also
    --------
    max_pool2d

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.adaptive_max_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 5.,  7.],
            [13., 15.]]])
    """
    x = floats(x, "x")
    window, shape = _adaptive(x.shape, _IMAGE, output_size)
    return _maxima(x, window, shape, return_indices, out)


@operation
@doc(_POOLING, _2D)
def adaptive_max_pool2d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int | None, int | None] | None,
    indices: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `adaptive_max_pool2d` in x.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    output_size
        As given to the function.
    {indices}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.adaptive_max_pool2d_backward(np.ones((1, 2, 2)), np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[0., 0., 0., 0.],
            [0., 1., 0., 1.],
            [0., 0., 0., 0.],
            [0., 1., 0., 1.]]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _adaptive(x.shape, _IMAGE, output_size)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@overload
def adaptive_max_pool3d(
    x: Any,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    return_indices: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def adaptive_max_pool3d(
    x: Any,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    *,
    return_indices: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
@operation
@doc(_POOLING, _3D)
def adaptive_max_pool3d(
    x: Any,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    return_indices: bool = False,
    out: Array | None = None,
) -> Any:
    """The largest value of each of a given number of windows over a volume.

    As torch.nn.functional.adaptive_max_pool3d.

    {adaptive}

    Parameters
    ----------
    {x}
    {output_size}
    {return_indices}
    {out}

    {returns_maxima}

    See Also
    --------
    max_pool3d

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.adaptive_max_pool3d(np.arange(64.0).reshape(1, 4, 4, 4), 1)
    array([[[[63.]]]])
    """
    x = floats(x, "x")
    window, shape = _adaptive(x.shape, _VOLUME, output_size)
    return _maxima(x, window, shape, return_indices, out)


@operation
@doc(_POOLING, _3D)
def adaptive_max_pool3d_backward(
    grad_output: Any,
    x: Any,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    indices: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `adaptive_max_pool3d` in x.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    output_size
        As given to the function.
    {indices}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> grad = fastdl.adaptive_max_pool3d_backward(np.ones((1, 2, 2, 2)), np.arange(64.0).reshape(1, 4, 4, 4), 2)
    >>> grad.shape, grad.sum()
    ((1, 4, 4, 4), np.float64(8.0))
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    window, shape = _adaptive(x.shape, _VOLUME, output_size)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@helper
def _maxima(x: Array, window: Window, shape: tuple[int, ...], return_indices: bool, out: Array | None) -> Any:
    flag(return_indices, "return_indices")
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
    if number(norm_type, "norm_type", -math.inf, math.inf) == 0:
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
    if integer(divisor_override, "divisor_override") == 0:
        fail("divisor_override", divisor_override, "a number other than 0")
    return divisor_override


@cached_helper
def _windows(
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
def _adaptive(shape: tuple[int, ...], like: tuple[int, ...], output_size: Any) -> tuple[Window, tuple[int, ...]]:
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
