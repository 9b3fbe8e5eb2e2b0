"""The largest value of every window, and of a given number of windows (adaptive)."""

from __future__ import annotations

from typing import Literal, overload

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
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    disjoint,
    flag,
    floats,
    floats_like,
    index_output,
    optional_indices,
    output,
    with_indices,
)

__all__ = [
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool3d",
    "max_pool3d_backward",
]


@overload
def max_pool1d(
    x: ArrayLike,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = ...,
    padding: Padding = ...,
    dilation: int | tuple[int] = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    data_format: str = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def max_pool1d(
    x: ArrayLike,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = ...,
    padding: Padding = ...,
    dilation: int | tuple[int] = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: Literal[True],
    data_format: str = ...,
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
@operation
@doc(POOLING, POOLING_1D)
def max_pool1d(
    x: ArrayLike,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = None,
    padding: Padding = 0,
    dilation: int | tuple[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: str = "NCL",
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
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
    window, shape = windows(x.shape, SEQUENCE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima(x, window, shape, return_indices, out)


@operation
@doc(POOLING, POOLING_1D)
def max_pool1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | tuple[()] | None = None,
    padding: Padding = 0,
    dilation: int | tuple[int] = 1,
    ceil_mode: bool = False,
    data_format: str = "NCL",
    indices: ArrayLike | None = None,
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
    window, shape = windows(x.shape, SEQUENCE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@overload
def max_pool2d(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = ...,
    padding: Padding = ...,
    dilation: int | Pair = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    data_format: str = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def max_pool2d(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = ...,
    padding: Padding = ...,
    dilation: int | Pair = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: Literal[True],
    data_format: str = ...,
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
@operation
@doc(POOLING, POOLING_2D)
def max_pool2d(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = None,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: str = "NCHW",
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
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
    window, shape = windows(x.shape, IMAGE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima(x, window, shape, return_indices, out)


@operation
@doc(POOLING, POOLING_2D)
def max_pool2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | tuple[()] | None = None,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    data_format: str = "NCHW",
    indices: ArrayLike | None = None,
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
    window, shape = windows(x.shape, IMAGE, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@overload
def max_pool3d(
    x: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = ...,
    padding: Padding = ...,
    dilation: int | Triple = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    data_format: str = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def max_pool3d(
    x: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = ...,
    padding: Padding = ...,
    dilation: int | Triple = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: Literal[True],
    data_format: str = ...,
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
@operation
@doc(POOLING, POOLING_3D)
def max_pool3d(
    x: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = None,
    padding: Padding = 0,
    dilation: int | Triple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: str = "NCDHW",
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
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
    window, shape = windows(x.shape, VOLUME, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima(x, window, shape, return_indices, out)


@operation
@doc(POOLING, POOLING_3D)
def max_pool3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    kernel_size: int | Triple,
    stride: int | Triple | tuple[()] | None = None,
    padding: Padding = 0,
    dilation: int | Triple = 1,
    ceil_mode: bool = False,
    data_format: str = "NCDHW",
    indices: ArrayLike | None = None,
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
    window, shape = windows(x.shape, VOLUME, kernel_size, stride, padding, dilation, ceil_mode, data_format)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@overload
def adaptive_max_pool1d(
    x: ArrayLike,
    output_size: int | tuple[int | None] | None,
    return_indices: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def adaptive_max_pool1d(
    x: ArrayLike,
    output_size: int | tuple[int | None] | None,
    *,
    return_indices: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
@operation
@doc(POOLING, POOLING_1D)
def adaptive_max_pool1d(
    x: ArrayLike,
    output_size: int | tuple[int | None] | None,
    return_indices: bool = False,
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
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
    window, shape = adaptive_windows(x.shape, SEQUENCE, output_size)
    return _maxima(x, window, shape, return_indices, out)


@operation
@doc(POOLING, POOLING_1D)
def adaptive_max_pool1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    output_size: int | tuple[int | None] | None,
    indices: ArrayLike | None = None,
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
    window, shape = adaptive_windows(x.shape, SEQUENCE, output_size)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@overload
def adaptive_max_pool2d(
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None] | None,
    return_indices: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def adaptive_max_pool2d(
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None] | None,
    *,
    return_indices: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
@operation
@doc(POOLING, POOLING_2D)
def adaptive_max_pool2d(
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None] | None,
    return_indices: bool = False,
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
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
    window, shape = adaptive_windows(x.shape, IMAGE, output_size)
    return _maxima(x, window, shape, return_indices, out)


@operation
@doc(POOLING, POOLING_2D)
def adaptive_max_pool2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None] | None,
    indices: ArrayLike | None = None,
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
    window, shape = adaptive_windows(x.shape, IMAGE, output_size)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@overload
def adaptive_max_pool3d(
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    return_indices: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def adaptive_max_pool3d(
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    *,
    return_indices: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
@operation
@doc(POOLING, POOLING_3D)
def adaptive_max_pool3d(
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    return_indices: bool = False,
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
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
    window, shape = adaptive_windows(x.shape, VOLUME, output_size)
    return _maxima(x, window, shape, return_indices, out)


@operation
@doc(POOLING, POOLING_3D)
def adaptive_max_pool3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None, int | None] | None,
    indices: ArrayLike | None = None,
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
    window, shape = adaptive_windows(x.shape, VOLUME, output_size)
    return _maxima_backward(grad_output, x, window, shape, indices, out)


@helper
def _maxima(
    x: Array, window: Window, shape: tuple[int, ...], return_indices: bool, out: Array | None
) -> Array | tuple[Array, Array]:
    flag(return_indices, "return_indices")
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
    indices = index_output(shape, return_indices)
    _kernels.max_pool(x, result, indices, window)
    return with_indices(result, indices, return_indices)


@helper
def _maxima_backward(
    grad_output: Array, x: Array, window: Window, shape: tuple[int, ...], indices: ArrayLike | None, out: Array | None
) -> Array:
    result = gradient_of(x, grad_output, shape, out)
    positions = optional_indices(indices, "indices", shape)
    if out is not None:
        disjoint(result, "indices", positions)
    _kernels.max_pool_backward(grad_output, x, positions, result, window)
    return result
