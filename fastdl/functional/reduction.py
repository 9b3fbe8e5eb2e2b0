"""Sums, means, maxima and minima over dimensions."""

from __future__ import annotations

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.verbs import (
    FIT,
    Array,
    ArrayLike,
    broadcast,
    fail,
    flag,
    floats,
    floats_like,
    gradient,
    is_int,
    natural,
    output,
    shown,
)

__all__ = [
    "amax",
    "amax_backward",
    "amin",
    "amin_backward",
    "mean",
    "mean_backward",
    "sum",
    "sum_backward",
]

_TEXTS = {
    "x": """
        x : array
            float32 or float64, of any shape.
        """,
    "dim": """
        dim : int or tuple of ints, optional
            The dimensions over which, from the end if negative; all of them if it is None or ().
        """,
    "keepdim": """
        keepdim : bool, optional
            Whether these stay, with size 1.
        """,
    "returns": """
        Returns
        -------
        array
            Of the dtype of x, without those dimensions, or with their size 1.
        """,
    "grad_output": """
        grad_output : array
            The gradient of the result.
        """,
    "shape": """
        shape : tuple of ints
            The shape of x.
        """,
    "gradient": """
        Returns
        -------
        array
            The gradient in x.
        """,
    "raises": """
        Raises
        ------
        ValueError
            Dimensions that x does not have, or has once only; shapes that do not fit each other.
        TypeError
            What is no array (or no number), or has another dtype. Either message names the argument, what was found
            and what was expected.
        """,
}


@operation
@doc(_TEXTS)
def sum(x: ArrayLike, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Array:
    """The sum over dimensions. torch.sum.

    Right to a few 10^-6 of itself in float32, if terms are of one sign, however many there are.

    Parameters
    ----------
    {x}
    {dim}
    {keepdim}

    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.sum(np.ones((2, 3)), dim=1)
    array([3., 3.])
    """
    return _reduced(floats(x, "x"), dim, keepdim, _kernels.REDUCE_SUM)


@operation
@doc(_TEXTS)
def sum_backward(
    grad_output: ArrayLike, shape: tuple[int, ...], dim: int | tuple[int, ...] | None = None, keepdim: bool = False
) -> Array:
    """The gradient of sum in x: that of the result, for each of its terms.

    Parameters
    ----------
    {grad_output}
    {shape}
    {dim}
    {keepdim}

    {gradient}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.sum_backward(np.array([1.0, 2.0]), (2, 3), dim=1)
    array([[1., 1., 1.],
           [2., 2., 2.]])
    """
    return _spread(floats(grad_output, "grad_output"), shape, dim, keepdim, False)


@operation
@doc(_TEXTS)
def mean(x: ArrayLike, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Array:
    """The mean over dimensions; NaN of no elements. torch.mean.

    Parameters
    ----------
    {x}
    {dim}
    {keepdim}

    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.mean(np.array([[1.0, 2.0], [3.0, 6.0]]), dim=0, keepdim=True)
    array([[2., 4.]])
    """
    x = floats(x, "x")
    geometry, shape, _, count = _reduction(x.shape, dim, flag(keepdim, "keepdim"))
    result = output(None, shape, x)
    _kernels.reduce(x, result, geometry, x.ndim, _kernels.REDUCE_SUM, count)
    return result


@operation
@doc(_TEXTS)
def mean_backward(
    grad_output: ArrayLike, shape: tuple[int, ...], dim: int | tuple[int, ...] | None = None, keepdim: bool = False
) -> Array:
    """The gradient of mean in x: that of the result over the number of terms, for each of them.

    Parameters
    ----------
    {grad_output}
    {shape}
    {dim}
    {keepdim}

    {gradient}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.mean_backward(np.array([1.0, 2.0]), (2, 2), dim=1)
    array([[0.5, 0.5],
           [1. , 1. ]])
    """
    return _spread(floats(grad_output, "grad_output"), shape, dim, keepdim, True)


@operation
@doc(_TEXTS)
def amax(x: ArrayLike, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Array:
    """The largest over dimensions; NaN where there is one. torch.amax.

    Parameters
    ----------
    {x}
    {dim}
    {keepdim}

    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.amax(np.array([[1.0, 5.0], [3.0, 2.0]]), dim=1)
    array([5., 3.])
    """
    return _extreme(x, dim, keepdim, _kernels.REDUCE_AMAX)


@operation
@doc(_TEXTS)
def amax_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
) -> Array:
    """The gradient of amax in x: that of the result, in equal parts for all that are as large as it.

    Parameters
    ----------
    {grad_output}
    {x}
    y : array
        What amax returned.
    {dim}
    {keepdim}

    {gradient}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.amax_backward(np.array(1.0), np.array([1.0, 5.0, 5.0]), np.array(5.0))
    array([0. , 0.5, 0.5])
    """
    return _shared(grad_output, x, y, dim, keepdim)


@operation
@doc(_TEXTS)
def amin(x: ArrayLike, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Array:
    """The smallest over dimensions; NaN where there is one. torch.amin.

    Parameters
    ----------
    {x}
    {dim}
    {keepdim}

    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.amin(np.array([[1.0, 5.0], [3.0, 2.0]]))
    array(1.)
    """
    return _extreme(x, dim, keepdim, _kernels.REDUCE_AMIN)


@operation
@doc(_TEXTS)
def amin_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    dim: int | tuple[int, ...] | None = None,
    keepdim: bool = False,
) -> Array:
    """The gradient of amin in x: that of the result, in equal parts for all that are as small as it.

    Parameters
    ----------
    {grad_output}
    {x}
    y : array
        What amin returned.
    {dim}
    {keepdim}

    {gradient}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.amin_backward(np.array(1.0), np.array([1.0, 5.0, 5.0]), np.array(1.0))
    array([1., 0., 0.])
    """
    return _shared(grad_output, x, y, dim, keepdim)


@helper
def _reduced(x: Array, dim: int | tuple[int, ...] | None, keepdim: bool, kind: int) -> Array:
    geometry, shape, _, count = _reduction(x.shape, dim, flag(keepdim, "keepdim"))
    if count == 0 and kind != _kernels.REDUCE_SUM:
        fail("x", ("shape", x.shape), "elements in the dimensions that are reduced")
    result = output(None, shape, x)
    _kernels.reduce(x, result, geometry, x.ndim, kind, 1.0)
    return result


@helper
def _extreme(x: ArrayLike, dim: int | tuple[int, ...] | None, keepdim: bool, kind: int) -> Array:
    return _reduced(floats(x, "x"), dim, keepdim, kind)


@helper
def _spread(
    grad: Array, shape: tuple[int, ...], dim: int | tuple[int, ...] | None, keepdim: bool, of_mean: bool
) -> Array:
    """The gradient of a sum, or of a mean."""
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"shape: found {shown(shape)}, expected a tuple of ints")
    sizes = tuple([natural(n, "shape") for n in shape])
    _, small, kept, count = _reduction(sizes, dim, flag(keepdim, "keepdim"))
    if grad.shape != small:
        fail("grad_output", grad.shape, small)
    result = output(None, sizes, grad)
    _, geometry = broadcast(kept, (), sizes, FIT)
    divisor = count if of_mean else 1.0
    _kernels.arithmetic(grad, None, None, result, geometry, len(sizes), _kernels.ARITHMETIC_DIV, divisor, 1.0)
    return result


@helper
def _shared(
    grad_output: ArrayLike, x: ArrayLike, y: ArrayLike, dim: int | tuple[int, ...] | None, keepdim: bool
) -> Array:
    """The gradient of an extreme."""
    x = floats(x, "x")
    y = floats_like(y, "y", x)
    grad = floats_like(grad_output, "grad_output", x)
    geometry, small, kept, _ = _reduction(x.shape, dim, flag(keepdim, "keepdim"))
    if y.shape != small:
        fail("y", y.shape, small)
    if grad.shape != small:
        fail("grad_output", grad.shape, small)
    result, counts = gradient(x), gradient(y)
    rank = x.ndim
    _, places = broadcast(x.shape, kept, (), FIT)
    _kernels.arithmetic(x, y, None, result, places, rank, _kernels.ARITHMETIC_EQUAL, 0.0, 1.0)
    _kernels.reduce(result, counts, geometry, rank, _kernels.REDUCE_SUM, 1.0)
    _, each = broadcast(small, small, (), FIT)
    parts = gradient(y)
    _kernels.arithmetic(grad, counts, None, parts, each, len(small), _kernels.ARITHMETIC_DIV, 0.0, 1.0)
    _, all_places = broadcast(kept, x.shape, kept, FIT)
    _kernels.arithmetic(parts, x, y, result, all_places, rank, _kernels.ARITHMETIC_EQUAL_GRAD, 0.0, 1.0)
    return result


@cached_helper
def _reduction(
    shape: tuple[int, ...], dim: int | tuple[int, ...] | None, keepdim: bool
) -> tuple[Array, tuple[int, ...], tuple[int, ...], float]:
    """The geometry that the kernel reads, the shape of the result, the same with all dimensions kept, and how many
    elements there are of each of the result's."""
    if not (dim is None or is_int(dim) or isinstance(dim, (tuple, list))):
        raise TypeError(f"dim: found {shown(dim)}, expected an int or a tuple of ints")
    rank = len(shape)
    dims = () if dim is None else tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    geometry = np.zeros((rank, 2), np.int64)
    kept = np.zeros((rank + 1, 1), np.int64)
    place, count = 0, 1
    full: tuple[int, ...] = ()
    for each in dims:
        if not is_int(each):
            raise TypeError(f"dim: found {shown(dim)}, expected an int or a tuple of ints")
        if each < -max(rank, 1) or each >= max(rank, 1):
            fail("dim", dim, ("between", -max(rank, 1), "and", max(rank, 1) - 1))
    for d in range(rank):
        times = 0 if len(dims) else 1
        for each in dims:
            times = times + (1 if each in (d, d - rank) else 0)
        if times > 1:
            fail("dim", dim, "each dimension once")
        geometry[d, 0] = shape[d]
        geometry[d, 1] = times
        count = count * (shape[d] if times else 1)
        full = (*full, 1 if times else shape[d])
        kept[place, 0] = shape[d]
        place = place + 1 - times
    left = rank - len(dims) if len(dims) else 0
    small = full if keepdim else tuple([int(kept[i, 0]) for i in range(max(left, 0))])
    return geometry, small, full, float(count)
