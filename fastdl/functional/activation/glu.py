"""The gated linear unit."""

from __future__ import annotations

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, operation
from fastdl.functional.activation.elementwise import ELEMENTWISE
from fastdl.functional.activation.softmax import split_at
from fastdl.functional.verbs import Array, ArrayLike, bordered_shape, disjoint, fail, floats, floats_like, output

__all__ = [
    "glu",
    "glu_backward",
]


@operation
@doc(ELEMENTWISE)
def glu(x: ArrayLike, dim: int = -1, out: Array | None = None) -> Array:
    """The gated linear unit: half of x, gated by the other half.

    As torch.nn.functional.glu::

        y = a * sigmoid(b),    a and b the first and the second half of x along dim

    Parameters
    ----------
    x : array_like of float32 or float64
        The input, of an even size in dimension `dim`.
    dim : int, optional
        The dimension that is halved, from the end if negative.
    out : ndarray, optional
        Where the result goes: an array of its shape and the dtype of `x`, which does not overlap `x`.

    Returns
    -------
    ndarray
        y, of the dtype of `x` and its shape with dimension `dim` halved.

    {raises}

    References
    ----------
    Dauphin et al., "Language Modeling with Gated Convolutional Networks", ICML 2017, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.glu(np.array([[2.0, 3.0, 0.0, 100.0]]))
    array([[1., 3.]])
    """
    x = floats(x, "x")
    outer, inner, shape = _halved(x.shape, dim)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
    _kernels.glu(x, result, outer, inner)
    return result


@operation
@doc(ELEMENTWISE)
def glu_backward(grad_output: ArrayLike, x: ArrayLike, dim: int = -1, out: Array | None = None) -> Array:
    """The gradient of `glu` in x.

    ::

        grad_a = grad_output * s,    s = sigmoid(b)
        grad_b = grad_output * s * (1 - s) * a

    Parameters
    ----------
    {grad_output}
    {saved_x}
    dim : int, optional
        As given to the function.
    out : ndarray, optional
        Where the gradient goes: an array of the shape and dtype of `x`, which overlaps neither input.

    Returns
    -------
    ndarray
        grad_a and grad_b as the halves of an array of the shape and dtype of `x`.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.glu_backward(np.array([1.0]), np.array([2.0, 0.0]))
    array([0.5, 0.5])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    outer, inner, shape = _halved(x.shape, dim)
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = output(out, x.shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "grad_output", grad_output)
    _kernels.glu_backward(grad_output, x, result, outer, inner)
    return result


@cached_helper
def _halved(shape: tuple[int, ...], dim: int) -> tuple[int, int, tuple[int, ...]]:
    """The shape seen as (outer, 2, inner), and with dim halved."""
    outer, size, inner = split_at(shape, dim)
    if len(shape) == 0 or size % 2 != 0:
        fail("x", ("shape", shape), ("an even size in dimension", dim))
    borders = np.zeros((len(shape), 3), np.int64)
    borders[dim, 2] = -(size // 2)
    return outer, size // 2 * inner, bordered_shape(shape, borders, 1)
