"""Arguments that are an array, or a tuple or a list of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import int64

from fastdl._call import shortcut
from fastdl._recording import hold
from fastdl.functional.verbs.arrays import Array, floats, same_or_disjoint, writable
from fastdl.functional.verbs.errors import fail
from fastdl.functional.verbs.scalars import is_int


def many_floats(x: Any, argument: str) -> tuple[Array, ...]:
    """An array, or the arrays of a tuple or a list, as a tuple of `floats` of one dtype."""
    if not isinstance(x, (tuple, list)):
        return (floats(x, argument),)
    if not x:
        fail(argument, "no arrays", "at least one")
    arrays = tuple(floats(item, f"{argument}[{i}]") for i, item in enumerate(x))
    for i, array in enumerate(arrays):
        if array.dtype is not arrays[0].dtype:
            raise TypeError(
                f"{argument}[{i}]: found dtype {array.dtype}, expected {arrays[0].dtype}, that of the first"
            )
    return arrays


@shortcut
def many_like(x: Any, argument: str, like: Array) -> tuple[Array, ...]:
    """The arrays of a tuple or a list, as a tuple of `floats` with the dtype of `like`; None: none."""
    if x is None:
        return ()
    arrays = many_floats(x, argument)
    if arrays[0].dtype is not like.dtype:
        raise TypeError(f"{argument}: found dtype {arrays[0].dtype}, expected {like.dtype}, the dtype of x")
    return arrays


@shortcut
def several_floats(x: Any, argument: str) -> tuple[Array, ...]:
    """The arrays of a tuple or a list, as many_floats, of one number of dimensions, which is at least 1."""
    if not isinstance(x, (tuple, list)):
        raise TypeError(f"{argument}: found {type(x).__name__}, expected a tuple or a list of arrays")
    arrays = many_floats(x, argument)
    for i, array in enumerate(arrays):
        if array.ndim == 0:
            fail(f"{argument}[{i}]", "shape ()", "at least 1 dimension")
        if array.ndim != arrays[0].ndim:
            fail(f"{argument}[{i}]", ("shape", array.shape), (arrays[0].ndim, "dimensions, as the first has"))
    return arrays


@shortcut
def shapes_of(arrays: tuple[Array, ...]) -> tuple[tuple[int, ...], ...]:
    """The shape of each."""
    return tuple([a.shape for a in arrays])


@shortcut
def split_along(like: Array, argument: str, sizes: Any, dim: int) -> tuple[Array, ...]:
    """New arrays like parts of `like`, of those sizes along a dimension, which they add up to."""
    if not isinstance(sizes, (tuple, list)) or not all(map(is_int, sizes)):
        raise TypeError(f"{argument}: found {sizes!r}, expected a tuple of ints")
    if min(sizes, default=-1) < 0 or sum(sizes) != like.shape[dim]:
        fail(argument, sizes, ("sizes that add up to", like.shape[dim]))
    return tuple([np.empty((*like.shape[:dim], n, *like.shape[dim + 1 :]), like.dtype) for n in sizes])


def matrix_shapes(arrays: tuple[Array, ...]) -> tuple[tuple[int, int], ...]:
    """The shapes of matrices and vectors; of a vector as (size, 0). Anything else has the shape (-1, 0)."""
    return tuple([a.shape if a.ndim == 2 else (len(a) if a.ndim == 1 else -1, 0) for a in arrays])


def arrays_like(out: Any, argument: str, arrays: tuple[Array, ...], x: Any) -> tuple[Array, ...]:
    """New arrays like those of many_floats(x); or `out`, in the form of x, each writable and like one of them, which
    it may be itself."""
    if out is None:
        return tuple(np.empty_like(array) for array in arrays)
    if not isinstance(x, (tuple, list)):
        same_or_disjoint(writable(out, argument, arrays[0].shape, arrays[0]), "x", arrays[0])
        return (out,)
    if not isinstance(out, (tuple, list)):
        raise TypeError(f"{argument}: found {type(out).__name__}, expected a tuple or a list, as x is")
    if len(out) != len(arrays):
        fail(argument, (len(out), "arrays"), (len(arrays), "as there are in x"))
    for i, (y, array) in enumerate(zip(out, arrays, strict=True)):
        same_or_disjoint(writable(y, f"{argument}[{i}]", array.shape, array), f"x[{i}]", array)
    return tuple(out)


@shortcut
def array_table(first: tuple[Array, ...], second: tuple[Array, ...], both: int) -> Array:
    """(n, 3) int64: the addresses of the arrays of `first` and, if `both`, of `second` (else 0), and their sizes."""
    hold(first, second)
    rows = [(a.ctypes.data, b.ctypes.data if both else 0, a.size) for a, b in zip(first, second, strict=True)]
    return np.array(rows, int64)


@shortcut
def result_table(arrays: tuple[Array, ...]) -> Array:
    """array_table of arrays that are written only: 0, the address, the size."""
    hold(arrays)
    return np.array([(0, a.ctypes.data, a.size) for a in arrays], int64)


def as_given(arrays: tuple[Array, ...], x: Any) -> Any:
    """Those arrays in the form of x: an array, a tuple or a list."""
    if isinstance(x, list):
        return list(arrays)
    return arrays if isinstance(x, tuple) else arrays[0]
