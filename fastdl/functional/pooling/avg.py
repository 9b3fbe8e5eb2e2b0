"""The average of every window, and of a given number of windows (adaptive)."""

from __future__ import annotations

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import helper, operation
from fastdl.functional._window import Padding, Pair, Triple, Window
from fastdl.functional.pooling._shared import (
    IMAGE,
    POOLING,
    POOLING_1D,
    POOLING_2D,
    POOLING_3D,
    SEQUENCE,
    VOLUME,
    adaptive_windows,
    gradient_of,
    windows,
)
from fastdl.functional.verbs import Array, ArrayLike, disjoint, fail, flag, floats, floats_like, integer, output

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool3d",
    "adaptive_avg_pool3d_backward",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool3d",
    "avg_pool3d_backward",
]


@operation
@doc(POOLING, POOLING_1D)
def avg_pool1d(
    x: ArrayLike,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = None,
    padding: Padding = 0,
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
    window, shape = windows(x.shape, SEQUENCE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _averages(x, window, shape, flag(count_include_pad, "count_include_pad"), _divisor(divisor_override), out)


@operation
@doc(POOLING, POOLING_1D)
def avg_pool1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = None,
    padding: Padding = 0,
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
    window, shape = windows(x.shape, SEQUENCE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    include, divisor = flag(count_include_pad, "count_include_pad"), _divisor(divisor_override)
    return _averages_backward(grad_output, x, window, shape, include, divisor, out)


@operation
@doc(POOLING, POOLING_2D)
def avg_pool2d(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = None,
    padding: Padding = 0,
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
    window, shape = windows(x.shape, IMAGE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _averages(x, window, shape, flag(count_include_pad, "count_include_pad"), _divisor(divisor_override), out)


@operation
@doc(POOLING, POOLING_2D)
def avg_pool2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = None,
    padding: Padding = 0,
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
    window, shape = windows(x.shape, IMAGE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    include, divisor = flag(count_include_pad, "count_include_pad"), _divisor(divisor_override)
    return _averages_backward(grad_output, x, window, shape, include, divisor, out)


@operation
@doc(POOLING, POOLING_3D)
def avg_pool3d(
    x: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = None,
    padding: Padding = 0,
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
    window, shape = windows(x.shape, VOLUME, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _averages(x, window, shape, flag(count_include_pad, "count_include_pad"), _divisor(divisor_override), out)


@operation
@doc(POOLING, POOLING_3D)
def avg_pool3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = None,
    padding: Padding = 0,
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
    window, shape = windows(x.shape, VOLUME, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    include, divisor = flag(count_include_pad, "count_include_pad"), _divisor(divisor_override)
    return _averages_backward(grad_output, x, window, shape, include, divisor, out)


@operation
@doc(POOLING, POOLING_1D)
def adaptive_avg_pool1d(
    x: ArrayLike,
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
    window, shape = adaptive_windows(x.shape, SEQUENCE, output_size)
    return _averages(x, window, shape, True, 0, out)


@operation
@doc(POOLING, POOLING_1D)
def adaptive_avg_pool1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
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
    window, shape = adaptive_windows(x.shape, SEQUENCE, output_size)
    return _averages_backward(grad_output, x, window, shape, True, 0, out)


@operation
@doc(POOLING, POOLING_2D)
def adaptive_avg_pool2d(
    x: ArrayLike,
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
    window, shape = adaptive_windows(x.shape, IMAGE, output_size)
    return _averages(x, window, shape, True, 0, out)


@operation
@doc(POOLING, POOLING_2D)
def adaptive_avg_pool2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
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
    window, shape = adaptive_windows(x.shape, IMAGE, output_size)
    return _averages_backward(grad_output, x, window, shape, True, 0, out)


@operation
@doc(POOLING, POOLING_3D)
def adaptive_avg_pool3d(
    x: ArrayLike,
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
    window, shape = adaptive_windows(x.shape, VOLUME, output_size)
    return _averages(x, window, shape, True, 0, out)


@operation
@doc(POOLING, POOLING_3D)
def adaptive_avg_pool3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
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
    window, shape = adaptive_windows(x.shape, VOLUME, output_size)
    return _averages_backward(grad_output, x, window, shape, True, 0, out)


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
    result = gradient_of(x, grad_output, shape, out)
    _kernels.avg_pool_backward(grad_output, result, window, count_include_pad, divisor)
    return result


@helper
def _divisor(divisor_override: int | None) -> int:
    """The kernel's: 0 is none."""
    if divisor_override is None:
        return 0
    if integer(divisor_override, "divisor_override") == 0:
        fail("divisor_override", divisor_override, "a number other than 0")
    return divisor_override
