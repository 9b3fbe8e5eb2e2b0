"""The norm of every window."""

from __future__ import annotations

import math

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import helper, operation
from fastdl.functional._window import Pair, Triple, Window
from fastdl.functional.pooling._shared import (
    FORMATS,
    IMAGE,
    POOLING,
    POOLING_1D,
    POOLING_2D,
    POOLING_3D,
    SEQUENCE,
    VOLUME,
    gradient_of,
    windows,
)
from fastdl.functional.verbs import Array, ArrayLike, disjoint, fail, floats, floats_like, number, output

__all__ = [
    "lp_pool1d",
    "lp_pool1d_backward",
    "lp_pool2d",
    "lp_pool2d_backward",
    "lp_pool3d",
    "lp_pool3d_backward",
]


@operation
@doc(POOLING, POOLING_1D)
def lp_pool1d(
    x: ArrayLike,
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
    window, shape = windows(x.shape, SEQUENCE, kernel_size, stride, 0, dilation, ceil_mode, FORMATS[0])
    return _norms(x, norm_type, window, shape, out)


@operation
@doc(POOLING, POOLING_1D)
def lp_pool1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
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
    window, shape = windows(x.shape, SEQUENCE, kernel_size, stride, 0, dilation, ceil_mode, FORMATS[0])
    return _norms_backward(grad_output, x, norm_type, window, shape, out)


@operation
@doc(POOLING, POOLING_2D)
def lp_pool2d(
    x: ArrayLike,
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
    window, shape = windows(x.shape, IMAGE, kernel_size, stride, 0, dilation, ceil_mode, FORMATS[1])
    return _norms(x, norm_type, window, shape, out)


@operation
@doc(POOLING, POOLING_2D)
def lp_pool2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
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
    window, shape = windows(x.shape, IMAGE, kernel_size, stride, 0, dilation, ceil_mode, FORMATS[1])
    return _norms_backward(grad_output, x, norm_type, window, shape, out)


@operation
@doc(POOLING, POOLING_3D)
def lp_pool3d(
    x: ArrayLike,
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
    window, shape = windows(x.shape, VOLUME, kernel_size, stride, 0, dilation, ceil_mode, FORMATS[2])
    return _norms(x, norm_type, window, shape, out)


@operation
@doc(POOLING, POOLING_3D)
def lp_pool3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
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
    window, shape = windows(x.shape, VOLUME, kernel_size, stride, 0, dilation, ceil_mode, FORMATS[2])
    return _norms_backward(grad_output, x, norm_type, window, shape, out)


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
    result = gradient_of(x, grad_output, shape, out)
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
