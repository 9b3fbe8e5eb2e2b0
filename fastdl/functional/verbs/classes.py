"""Class indices and positions."""

from __future__ import annotations

import math
from typing import Any, Literal, overload

import numpy as np
from numpy import empty, int64

from fastdl._call import get_recorder, shortcut
from fastdl.functional.verbs.arrays import _I64, Array, floats_like, listed, view
from fastdl.functional.verbs.errors import fail
from fastdl.functional.verbs.scalars import integer, is_int


@shortcut
def class_indices(x: Any, argument: str, ndim: int) -> Array:
    """x as a C-contiguous int64 array of that many dimensions (-1: any): any integer dtype that int64 holds, or a list
    of ints, or one for no dimensions; floats (so NaN) are refused."""
    x = view(np.int64(integer(x, argument)) if is_int(x) else listed(x, argument, _I64), argument)
    if x.dtype.kind not in "iu" or not np.can_cast(x.dtype, _I64):
        raise TypeError(f"{argument}: found dtype {x.dtype}, expected integers that fit int64")
    if ndim >= 0 and x.ndim != ndim:
        fail(argument, f"shape {x.shape}", f"{ndim} dimensions")
    return np.require(x, _I64, "C")


@overload
def class_target(target: Any, x: Array, soft: Literal[False]) -> tuple[Array, None]: ...
@overload
def class_target(target: Any, x: Array, soft: bool) -> tuple[Array | None, Array | None]: ...
@shortcut
def class_target(target: Any, x: Array, soft: bool) -> tuple[Array | None, Array | None]:
    """A target for x, whose classes are dimension 1 (0 where there is no other): class indices and None or, where
    `soft`, None and probabilities, floats shaped as x."""
    probabilities = soft and not isinstance(target, (int, list, tuple)) and view(target, "target").dtype.kind == "f"
    if probabilities and np.ndim(target) == x.ndim:
        target, shape = floats_like(target, "target", x), x.shape
    else:
        target, shape = class_indices(target, "target", max(x.ndim - 1, 0)), row_shape(x.shape)
        soft = False
    if target.shape != shape:
        fail("target", target.shape, shape)
    return (None, target) if soft else (target, None)


def class_split(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of x as what is before its classes, the classes, and what is after them."""
    if not shape:
        fail("x", shape, "at least 1 dimension")
    return (1, shape[0], 1) if len(shape) == 1 else (shape[0], shape[1], math.prod(shape[2:]))


def rows_of(shape: tuple[int, ...], argument: str) -> tuple[int, tuple[int, ...]]:
    """How many rows there are along the first dimension, and the shape of one."""
    if not shape:
        fail(argument, ("shape", shape), "at least 1 dimension")
    return shape[0], shape[1:]


def leading_sizes(shape: tuple[int, ...], argument: str, leading: tuple[int, ...]) -> tuple[int, ...]:
    """What of `shape` is after `leading`, which it has to begin with."""
    if shape[: len(leading)] != leading:
        fail(argument, ("shape", shape), ("one that begins with", leading))
    return shape[len(leading) :]


def row_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of x without its classes."""
    return () if len(shape) == 1 else shape[:1] + shape[2:]


def optional_indices(x: Any, argument: str, shape: tuple[int, ...]) -> Array | None:
    """x as class_indices of that shape, or None."""
    if x is None:
        return None
    array = class_indices(x, argument, len(shape))
    if array.shape != shape:
        fail(argument, array.shape, shape)
    return array


def total_steps(lengths: Array, most: int) -> int:
    """Of all sequences together; at most, if a program is recorded, whose lengths will be others."""
    return int(lengths.sum()) if get_recorder() is None else most


def sequence_lengths(x: Any, batch: int, steps: int) -> Array | None:
    """The lengths of that many sequences, an array or a list of ints between 1 and `steps`, or None. Always a new int64
    array, so that what is checked here is what kernels read, whatever other threads do to x."""
    if x is None:
        return None
    if isinstance(x, (tuple, list)):
        x = np.array([integer(n, f"lengths[{i}]") for i, n in enumerate(x)], int64)
    lengths = class_indices(x, "lengths", 1)
    lengths = lengths.copy() if get_recorder() is None else lengths  # programs read the argument
    if lengths.shape != (batch,):
        fail("lengths", lengths.shape, (batch,))
    for wrong in lengths[(lengths < 1) | (lengths > steps)]:
        fail("lengths", wrong, ("between 1 and", steps, "steps"))
    return lengths


@shortcut
def position_array(x: Any, argument: str, shape: tuple[int, ...], rank: int) -> Array:
    """x as class_indices with as many dimensions as `shape` and the same sizes, but of the last `rank`."""
    positions = class_indices(x, argument, len(shape))
    if positions.shape[: len(shape) - rank] != shape[: len(shape) - rank]:
        fail(argument, positions.shape, shape if rank == 0 else (shape, "but for the last", rank))
    return positions


def index_output(shape: tuple[int, ...], wanted: bool) -> Array:
    """A new array of positions; an empty one, which kernels take as "not wanted", if they are not wanted."""
    return empty(shape if wanted else (0,), int64)


def with_indices(y: Array, indices: Array, wanted: bool) -> Array | tuple[Array, Array]:
    """(y, indices), or y alone. (Inside Numba, `wanted` has to be a literal.)"""
    return (y, indices) if wanted else y
