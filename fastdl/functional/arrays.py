"""Arrays as wholes: rows by index, several side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.activation.softmax import split_at
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    Arrays,
    array_table,
    bordered_shape,
    class_indices,
    fail,
    floats,
    floats_like,
    integer,
    leading_sizes,
    natural,
    output,
    result_table,
    rows_of,
    several_floats,
    shapes_of,
    split_along,
)

__all__ = [
    "cat",
    "cat_backward",
    "embedding",
    "embedding_backward",
    "take",
    "take_backward",
]

_TEXTS = {
    "index": """
        index : array_like of int
            Row numbers, an array or a list of them of any shape; 0 <= index < rows.
        """,
    "dim": """
        dim : int, optional
            The dimension along which they stand, from the end if negative.
        """,
    "raises": """
        Raises
        ------
        ValueError
            Shapes that do not fit each other, numbers out of range, arrays that overlap what is written.
        TypeError
            What is no array (or no number), or has another dtype. Either message names the argument, what was found
            and what was expected; nothing has been written then.
        """,
}


@operation
@doc(_TEXTS)
def take(x: ArrayLike, index: ArrayLike | Sequence[int]) -> Array:
    """Rows of an array by their numbers, as numpy.take along axis 0. torch.nn.functional.embedding(index, x).

    ::

        y[i] = x[index[i]]

    For an index of one dimension, torch.index_select along dimension 0. (torch.take is of single elements.)

    Parameters
    ----------
    x : array of shape (rows, ...)
        float32 or float64.
    {index}

    Returns
    -------
    array
        (shape of index, ...), of the dtype of x.

    {raises}

    See Also
    --------
    take_backward : its gradient.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.take(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), [2, 0])
    array([[5., 6.],
           [1., 2.]])
    """
    x = floats(x, "x")
    index = class_indices(index, "index", -1)
    rows, row = rows_of(x.shape, "x")
    result = output(None, index.shape + row, x)
    _kernels.take(x, index, result, rows, x.size // max(rows, 1), index.size)
    return result


@operation
@doc(_TEXTS)
def take_backward(grad_output: ArrayLike, index: ArrayLike | Sequence[int], rows: int) -> Array:
    """The gradient of take in x: zeros, to whose rows those of grad_output are added.

    ::

        grad[r] = sum of grad_output[i] over the i with index[i] = r

    Each sum goes in the order of i, whatever the number of threads.

    Parameters
    ----------
    grad_output : array of shape (shape of index, ...)
        The gradient of what take returned.
    {index}
    rows : int
        How many rows x has.

    Returns
    -------
    array
        (rows, ...), of the dtype of grad_output.

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.take_backward(np.array([[1.0, 2.0], [3.0, 4.0]]), [2, 2], 3)
    array([[0., 0.],
           [0., 0.],
           [4., 6.]])
    """
    grad_output = floats(grad_output, "grad_output")
    index = class_indices(index, "index", -1)
    row = leading_sizes(grad_output.shape, "grad_output", index.shape)
    count = natural(rows, "rows")
    result = output(None, (count, *row), grad_output)
    _kernels.take_backward(grad_output, index, result, count, result.size // max(count, 1), index.size, -1)
    return result


@operation
@doc(_TEXTS)
def embedding(x: ArrayLike | Sequence[int], weight: ArrayLike, padding_idx: int | None = None) -> Array:
    """Vectors of symbols by their numbers. torch.nn.functional.embedding.

    ::

        y[i] = weight[x[i]]

    Parameters
    ----------
    x : array_like of int
        Numbers of symbols, an array or a list of them of any shape; 0 <= x < num_embeddings.
    weight : array of shape (num_embeddings, embedding_dim)
        float32 or float64.
    padding_idx : int, optional
        A symbol that is not learned: its gradient is 0. From the end if negative.

    Returns
    -------
    array of shape (shape of x, embedding_dim)
        Of the dtype of `weight`.

    {raises}

    See Also
    --------
    take : the same of rows of any shape.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.embedding([2, 0], np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    array([[5., 6.],
           [1., 2.]])
    """
    weight = floats(weight, "weight", 2)
    x = class_indices(x, "x", -1)
    _padding(padding_idx, weight.shape[0])
    result = output(None, (*x.shape, weight.shape[1]), weight)
    _kernels.take(weight, x, result, weight.shape[0], weight.shape[1], x.size)
    return result


@operation
@doc(_TEXTS)
def embedding_backward(
    grad_output: ArrayLike, x: ArrayLike | Sequence[int], weight: ArrayLike, padding_idx: int | None = None
) -> Array:
    """The gradient of embedding in weight.

    Parameters
    ----------
    grad_output : array of shape (shape of x, embedding_dim)
        The gradient of what embedding returned.
    x : array_like of int
        The numbers that it was given.
    weight : array of shape (num_embeddings, embedding_dim)
        Of which only shape and dtype matter.
    padding_idx : int, optional
        As given to the function.

    Returns
    -------
    array
        As weight.

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.embedding_backward(np.ones((3, 1)), [1, 1, 0], np.zeros((3, 1)), padding_idx=0).ravel()
    array([0., 2., 0.])
    """
    weight = floats(weight, "weight", 2)
    grad_output = floats_like(grad_output, "grad_output", weight)
    x = class_indices(x, "x", -1)
    if grad_output.shape != (*x.shape, weight.shape[1]):
        fail("grad_output", grad_output.shape, (*x.shape, weight.shape[1]))
    padding = _padding(padding_idx, weight.shape[0])
    result = output(None, weight.shape, weight)
    _kernels.take_backward(grad_output, x, result, weight.shape[0], weight.shape[1], x.size, padding)
    return result


@helper
def _padding(padding_idx: int | None, rows: int) -> int:
    """Counted from the first; -1: none."""
    if padding_idx is None:
        return -1
    at = integer(padding_idx, "padding_idx", -rows, rows - 1)
    return at if at >= 0 else at + rows


@operation
@doc(_TEXTS)
def cat(arrays: Sequence[ArrayLike], dim: int = 0) -> Array:
    """Arrays side by side, along a dimension in which their sizes may differ. torch.cat.

    Parameters
    ----------
    arrays : tuple or list of arrays
        float32 or float64, all of one dtype and number of dimensions, at least 1, and of the same sizes but for `dim`.
    {dim}

    Returns
    -------
    array
        Of their dtype and sizes, and as long as all together along `dim`.

    {raises}

    See Also
    --------
    cat_backward : its gradients.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.cat((np.zeros((2, 1)), np.ones((2, 2))), dim=1)
    array([[0., 1., 1.],
           [0., 1., 1.]])
    """
    parts = several_floats(arrays, "arrays")
    outer, shape = _joined(shapes_of(parts), dim)
    result = output(None, shape, parts[0])
    _kernels.cat(result, array_table(parts, parts, 0), len(parts), outer)
    return result


@operation
@doc(_TEXTS)
def cat_backward(grad_output: ArrayLike, sizes: tuple[int, ...], dim: int = 0) -> Arrays:
    """The gradients of cat: the parts of grad_output.

    Parameters
    ----------
    grad_output : array
        The gradient of what cat returned; float32 or float64.
    sizes : tuple of ints
        How long each array is along `dim`.
    {dim}

    Returns
    -------
    tuple of arrays
        Those parts, each in memory of its own.

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.cat_backward(np.arange(5.0), (2, 3))
    (array([0., 1.]), array([2., 3., 4.]))
    """
    grad_output = floats(grad_output, "grad_output")
    outer, at = _before(grad_output.shape, dim)
    parts = split_along(grad_output, "sizes", sizes, at)
    _kernels.cat_backward(grad_output, result_table(parts), len(parts), outer)
    return parts


@cached_helper
def _before(shape: tuple[int, ...], dim: int) -> tuple[int, int]:
    """How many elements there are of the dimensions before one, and that one counted from the first."""
    rows_of(shape, "grad_output")
    outer, _, _ = split_at(shape, dim)
    return outer, dim % len(shape)


@cached_helper
def _joined(shapes: tuple[tuple[int, ...], ...], dim: int) -> tuple[int, tuple[int, ...]]:
    """How many elements there are of the dimensions before one, and the shape of all along it."""
    first = shapes[0]
    outer, _, _ = split_at(first, dim)
    at = dim % len(first)
    more = np.zeros((len(first), 3), np.int64)
    for i in range(1, len(shapes)):
        for d in range(len(first)):
            if d == at:
                more[d, 2] += shapes[i][d]
            elif shapes[i][d] != first[d]:
                fail("arrays", ("shape", shapes[i], "as number", i), ("the sizes", first, "but for dimension", dim))
    return outer, bordered_shape(first, more, 1)
