"""Arrays that are broadcast, and numbers in place of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._call import shortcut
from fastdl.functional._operation import cached_helper
from fastdl.functional.verbs.arrays import Array, floats, floats_like
from fastdl.functional.verbs.errors import fail, shown
from fastdl.functional.verbs.scalars import is_number, number_or_nan

FIT = ("", "", "")
"""In place of names: shapes that are known to broadcast."""


@shortcut
def operands(
    x: Any, x_name: str, other: Any, other_name: str
) -> tuple[Array | None, Array | None, float, Array, tuple[int, ...], Array]:
    """Both as arrays of one dtype, or None for one that is a number; that number; the first that is an array; and what
    `broadcast` says."""
    first = None if is_number(x) else floats(x, x_name)
    second = (
        None
        if is_number(other)
        else floats(other, other_name)
        if first is None
        else floats_like(other, other_name, first)
    )
    value = number_or_nan(x, x_name) if first is None else number_or_nan(other, other_name) if second is None else 0.0
    like = second if first is None else first
    if like is None:
        raise TypeError(f"{other_name}: found {shown(other)}, expected an array, as {x_name} is none")
    shape, geometry = broadcast(shape_of(first), shape_of(second), (), (x_name, other_name))
    return first, second, value, like, shape, geometry


def shape_of(x: Array | None) -> tuple[int, ...]:
    return () if x is None else x.shape


@cached_helper
def broadcast(
    x: tuple[int, ...], y: tuple[int, ...], z: tuple[int, ...], names: tuple[str, ...]
) -> tuple[tuple[int, ...], Array]:
    """The shape that three broadcast to, () if there are fewer, and the geometry that kernels read."""
    shapes = (x, y, z)
    rank = max(len(x), len(y), len(z))
    geometry = np.zeros((rank, 4), np.int64)
    shape: tuple[int, ...] = ()
    for d in range(1, rank + 1):
        n = 1
        for i in range(3):
            m = shapes[i][-d] if d <= len(shapes[i]) else 1
            if m != 1:
                if n != 1 and n != m:
                    others = ("one that broadcasts with", x) if i == 1 else ("one that broadcasts with", x, "and", y)
                    fail(names[i], ("shape", shapes[i]), others)
                n = m
        geometry[rank - d, 0] = n
        shape = (n, *shape)
    for i in range(3):
        step = 1
        for d in range(1, len(shapes[i]) + 1):
            m = shapes[i][-d]
            geometry[rank - d, 1 + i] = 0 if m == 1 else step
            step = step * m
    return shape, geometry
