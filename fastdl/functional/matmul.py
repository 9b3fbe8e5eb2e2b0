"""Products of matrices, one or many."""

from __future__ import annotations

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.arithmetic import summed_to
from fastdl.functional.verbs import Array, ArrayLike, Arrays, disjoint, fail, floats_like, matrices, output

__all__ = [
    "matmul",
    "matmul_backward",
]

_TEXTS = {
    "operands": """
        x : array of shape (..., m, k) or (k,)
            float32 or float64.
        other : array of shape (..., k, n) or (k,)
            As x. Dimensions before the last two broadcast with those of x.
        """,
    "raises": """
        Raises
        ------
        ValueError
            Shapes that do not fit each other, arrays that overlap what is written.
        TypeError
            What is no array, or has another dtype. Either message names the argument, what was found and what was
            expected; nothing has been written then.
        """,
}


@operation
@doc(_TEXTS)
def matmul(x: ArrayLike, other: ArrayLike, out: Array | None = None) -> Array:
    """The product of matrices, or of each of two stacks of them. torch.matmul.

    ::

        result[..., i, j] = sum over l of x[..., i, l] * other[..., l, j]

    An argument of one dimension is a row (x) or a column, whose dimension the result does not have. Views whose rows or
    whose columns are dense, such as transposes and heads of attention, are read where they lie.

    Parameters
    ----------
    {operands}
    out : array, optional
        Where to store the result: C-contiguous, in memory that x and `other` do not share.

    Returns
    -------
    array
        (..., m, n), of their dtype.

    {raises}

    See Also
    --------
    linear : with a bias and an activation.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.matmul(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0]))
    array([21., 43.])
    >>> fastdl.matmul(np.ones((5, 1, 2, 3)), np.ones((4, 3, 7))).shape
    (5, 4, 2, 7)
    """
    x, x_steps = matrices(x, "x")
    y, y_steps = matrices(other, "other", x)
    shape, geometry, m, n, k, row, column, y_row, y_column = _products(x.shape, x_steps, y.shape, y_steps)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "other", y)
    _kernels.matmul(x, y, result, geometry, len(geometry), m, n, k, row, column, y_row, y_column)
    return result


@operation
@doc(_TEXTS)
def matmul_backward(grad_output: ArrayLike, x: ArrayLike, other: ArrayLike) -> Arrays:
    """The gradients of matmul.

    ::

        grad_x = grad_output @ other.T        grad_other = x.T @ grad_output

    Parameters
    ----------
    grad_output : array of shape (..., m, n)
        The gradient of the result.
    {operands}

    Returns
    -------
    tuple of arrays
        The gradients in x and in `other`, with their shapes: sums over what they were broadcast over.

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.matmul_backward(np.array([1.0, 2.0]), np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0]))
    (array([[ 1., 10.],
           [ 2., 20.]]), array([ 7., 10.]))
    """
    x, x_steps = matrices(x, "x")
    y, y_steps = matrices(other, "other", x)
    shape, geometry, m, n, k, row, column, y_row, y_column = _products(x.shape, x_steps, y.shape, y_steps)
    grad = floats_like(grad_output, "grad_output", x)
    if grad.shape != shape:
        fail("grad_output", grad.shape, shape)
    batch = shape[: len(geometry)]
    rank = len(geometry)
    grad_x = output(None, (*batch, k) if x.ndim == 1 else (*batch, m, k), x)
    of_x, of_y = _of_gradients(geometry, m * n)
    _kernels.matmul(grad, y, grad_x, of_x, rank, m, k, n, n, 1, y_column, y_row)
    if y.ndim <= 2 and len(x_steps) == 0:  # one product, over all rows of x
        grad_y = output(None, y.shape, x)
        none = np.zeros((0, 3), np.int64)
        _kernels.matmul(x, grad, grad_y, none, 0, k, n, x.size // max(k, 1), 1, k, n, 1)
        return summed_to(grad_x, x.shape), grad_y
    grad_y = output(None, (*batch, k) if y.ndim == 1 else (*batch, k, n), x)
    _kernels.matmul(x, grad, grad_y, of_y, rank, k, n, m, column, row, n, 1)
    return summed_to(grad_x, x.shape), summed_to(grad_y, y.shape)


@cached_helper
def _products(
    x: tuple[int, ...], x_steps: tuple[int, ...], y: tuple[int, ...], y_steps: tuple[int, ...]
) -> tuple[tuple[int, ...], Array, int, int, int, int, int, int, int]:
    """The shape of the result, the geometry that the kernel reads, m, n, k, and the elements from one row, and from one
    column, to the next."""
    if len(x) == 0:
        fail("x", ("shape", x), "at least 1 dimension")
    if len(y) == 0:
        fail("other", ("shape", y), "at least 1 dimension")
    x_all = x_steps if len(x_steps) else _dense(x)
    y_all = y_steps if len(y_steps) else _dense(y)
    m, k = (1 if len(x) == 1 else x[-2]), x[-1]
    terms, n = (y[0], 1) if len(y) == 1 else (y[-2], y[-1])
    if terms != k:
        fail("other", ("shape", y), (k, "rows, as x has columns"))
    row, column = (k, 1) if len(x) == 1 else _steps(m, k, x_all[-2], x_all[-1])
    y_row, y_column = (1, k) if len(y) == 1 else _steps(k, n, y_all[-2], y_all[-1])
    rank = max(len(x), len(y), 2) - 2
    geometry = np.zeros((rank, 3), np.int64)
    shape: tuple[int, ...] = (*(() if len(x) == 1 else (m,)), *(() if len(y) == 1 else (n,)))
    for d in range(3, rank + 3):
        p = x[-d] if d <= len(x) else 1
        q = y[-d] if d <= len(y) else 1
        if p != 1 and q != 1 and p != q:
            fail("other", ("shape", y), ("one whose dimensions before the last two broadcast with those of", x))
        size = q if p == 1 else p
        geometry[rank + 2 - d, 0] = size
        geometry[rank + 2 - d, 1] = 0 if p == 1 else x_all[-d]
        geometry[rank + 2 - d, 2] = 0 if q == 1 else y_all[-d]
        shape = (size, *shape)
    return shape, geometry, m, n, k, row, column, y_row, y_column


@helper
def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The elements from one index to the next in C order."""
    steps: tuple[int, ...] = ()
    step = 1
    for d in range(1, len(shape) + 1):
        steps = (step, *steps)
        step = step * shape[-d]
    return steps


@helper
def _steps(rows: int, columns: int, row: int, column: int) -> tuple[int, int]:
    """The same of a matrix, in which one is 1: in a dimension of one element it may be anything."""
    if column == 1 or columns == 1:
        return (columns if rows == 1 else row), 1
    return 1, column


@helper
def _of_gradients(geometry: Array, size: int) -> tuple[Array, Array]:
    """The geometry of products of grad and y, and of x and grad, whose matrices have that many elements."""
    of_x = np.zeros((len(geometry), 3), np.int64)
    of_y = np.zeros((len(geometry), 3), np.int64)
    step = size
    for d in range(1, len(geometry) + 1):
        n = geometry[len(geometry) - d, 0]
        of_x[len(geometry) - d, 0] = n
        of_x[len(geometry) - d, 1] = step
        of_x[len(geometry) - d, 2] = geometry[len(geometry) - d, 2]
        of_y[len(geometry) - d, 0] = n
        of_y[len(geometry) - d, 1] = geometry[len(geometry) - d, 1]
        of_y[len(geometry) - d, 2] = step
        step = step * n
    return of_x, of_y
