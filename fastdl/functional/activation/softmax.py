"""Probabilities from scores, along a dimension."""

from __future__ import annotations

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.activation.elementwise import ELEMENTWISE
from fastdl.functional.verbs import Array, ArrayLike, fail, floats, floats_like, integer, output, same_or_disjoint

__all__ = [
    "log_softmax",
    "log_softmax_backward",
    "softmax",
    "softmax_backward",
    "softmin",
    "softmin_backward",
]

_DIM = {
    "dim": """
dim : int, optional
    The dimension along which the result sums to 1, from the end if negative. (torch's default, None, means one
    that depends on the number of dimensions, and is deprecated there.)
""",
}


@operation
@doc(ELEMENTWISE, _DIM)
def softmax(x: ArrayLike, dim: int = -1, out: Array | None = None) -> Array:
    """Probabilities from scores, along a dimension.

    As torch.nn.functional.softmax::

        y = exp(x - max(x)) / sum(exp(x - max(x)))

    A NaN or +infinity makes all along the dimension NaN.

    Parameters
    ----------
    {x}
    {dim}
    {out}

    {returns}

    See Also
    --------
    log_softmax, cross_entropy

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softmax(np.array([0.0, np.log(3.0)])).round(6)
    array([0.25, 0.75])
    """
    x = floats(x, "x")
    outer, classes, inner = split_at(x.shape, dim)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
    _kernels.softmax(x, result, outer, classes, inner)
    return result


@operation
@doc(ELEMENTWISE, _DIM)
def softmax_backward(grad_output: ArrayLike, y: ArrayLike, dim: int = -1, out: Array | None = None) -> Array:
    """The gradient of `softmax` in x.

    ::

        grad_input = y * (grad_output - sum(grad_output * y))

    Parameters
    ----------
    {grad_output}
    {saved_y}
    {dim}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softmax_backward(np.array([1.0, 0.0]), np.array([0.25, 0.75]))
    array([ 0.1875, -0.1875])
    """
    y = floats(y, "y")
    grad_output = floats_like(grad_output, "grad_output", y)
    if grad_output.shape != y.shape:
        fail("grad_output", grad_output.shape, y.shape)
    outer, classes, inner = split_at(y.shape, dim)
    result = output(out, y.shape, y)
    if out is not None:
        same_or_disjoint(result, "y", y)
        same_or_disjoint(result, "grad_output", grad_output)
    _kernels.softmax_backward(grad_output, y, result, outer, classes, inner)
    return result


@operation
@doc(ELEMENTWISE, _DIM)
def softmin(x: ArrayLike, dim: int = -1, out: Array | None = None) -> Array:
    """`softmax` of -x: the smallest gets the most.

    As torch.nn.functional.softmin::

        y = exp(-x) / sum(exp(-x))

    Parameters
    ----------
    {x}
    {dim}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softmin(np.array([0.0, np.log(3.0)])).round(6)
    array([0.75, 0.25])
    """
    x = floats(x, "x")
    outer, classes, inner = split_at(x.shape, dim)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
    _negate(x, result)
    _kernels.softmax(result, result, outer, classes, inner)
    return result


@operation
@doc(ELEMENTWISE, _DIM)
def softmin_backward(grad_output: ArrayLike, y: ArrayLike, dim: int = -1, out: Array | None = None) -> Array:
    """The gradient of `softmin` in x.

    ::

        grad_input = y * (sum(grad_output * y) - grad_output)

    Parameters
    ----------
    {grad_output}
    {saved_y}
    {dim}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softmin_backward(np.array([1.0, 0.0]), np.array([0.25, 0.75]))
    array([-0.1875,  0.1875])
    """
    y = floats(y, "y")
    grad_output = floats_like(grad_output, "grad_output", y)
    if grad_output.shape != y.shape:
        fail("grad_output", grad_output.shape, y.shape)
    outer, classes, inner = split_at(y.shape, dim)
    result = output(out, y.shape, y)
    if out is not None:
        same_or_disjoint(result, "y", y)
        same_or_disjoint(result, "grad_output", grad_output)
    _kernels.softmax_backward(grad_output, y, result, outer, classes, inner)
    _negate(result, result)
    return result


@operation
@doc(ELEMENTWISE, _DIM)
def log_softmax(x: ArrayLike, dim: int = -1, out: Array | None = None) -> Array:
    """The logarithm of `softmax`, without its underflow.

    As torch.nn.functional.log_softmax::

        y = x - max(x) - log(sum(exp(x - max(x))))

    A NaN or +infinity makes all along the dimension NaN.

    Parameters
    ----------
    {x}
    {dim}
    {out}

    {returns}

    See Also
    --------
    nll_loss, cross_entropy

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.log_softmax(np.array([0.0, 0.0])).round(6)
    array([-0.693147, -0.693147])
    """
    x = floats(x, "x")
    outer, classes, inner = split_at(x.shape, dim)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
    _kernels.log_softmax(x, result, outer, classes, inner)
    return result


@operation
@doc(ELEMENTWISE, _DIM)
def log_softmax_backward(grad_output: ArrayLike, y: ArrayLike, dim: int = -1, out: Array | None = None) -> Array:
    """The gradient of `log_softmax` in x.

    ::

        grad_input = grad_output - exp(y) * sum(grad_output)

    Parameters
    ----------
    {grad_output}
    {saved_y}
    {dim}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.log_softmax_backward(np.array([1.0, 0.0]), np.log(np.array([0.25, 0.75]))).round(6)
    array([ 0.75, -0.75])
    """
    y = floats(y, "y")
    grad_output = floats_like(grad_output, "grad_output", y)
    if grad_output.shape != y.shape:
        fail("grad_output", grad_output.shape, y.shape)
    outer, classes, inner = split_at(y.shape, dim)
    result = output(out, y.shape, y)
    if out is not None:
        same_or_disjoint(result, "y", y)
        same_or_disjoint(result, "grad_output", grad_output)
    _kernels.log_softmax_backward(grad_output, y, result, outer, classes, inner)
    return result


@helper
def _negate(x: Array, result: Array) -> None:
    """result = -x."""
    np.negative(x, result)


@cached_helper
def split_at(shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """The shape seen as (outer, shape[dim], inner); a scalar is like an array of one element."""
    ndim = max(len(shape), 1)
    at = integer(dim, "dim", -ndim, ndim - 1) % ndim
    outer, classes, inner = 1, 1, 1
    for i in range(len(shape)):
        if i < at:
            outer *= shape[i]
        elif i > at:
            inner *= shape[i]
        else:
            classes = shape[i]
    return outer, classes, inner
