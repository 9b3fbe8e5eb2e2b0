"""What families share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import fastdl
from fastdl.functional.verbs import Array, floats
from fastdl.onnx._table import FLOATS

Sides = tuple[tuple[int, int], ...]


def contiguous(x: Array) -> Array:
    """x in C order: by a kernel where there is one."""
    return floats(x, "x") if x.dtype in FLOATS else np.ascontiguousarray(x)


def reshaped(x: Array, shape: Sequence[int]) -> Array:
    return contiguous(x).reshape(tuple(shape))


def ints(x: Any) -> list[int]:
    """An array, a list or None as ints."""
    return [] if x is None else [int(n) for n in np.asarray(x).reshape(-1)]


def axes_of(axes: Any, ndim: int) -> tuple[int, ...]:
    """Axes counted from the first; None: all."""
    if axes is None:
        return tuple(range(ndim))
    found = ints(axes)
    for a in found:
        if not -ndim <= a < ndim:
            raise ValueError(f"axes: found {a}, expected at least {-ndim}, less than {ndim}")
    return tuple(a % ndim for a in found)


def sides_of(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int] | None,
    auto_pad: str,
) -> Sides:
    """What is added before and after each dimension."""
    if auto_pad.startswith("SAME"):
        extra = [
            max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, s, d, k in zip(sizes, strides, dilations, kernel, strict=True)
        ]
        return split_sides(extra, auto_pad)
    if pads is None or auto_pad == "VALID":
        return ((0, 0),) * len(sizes)
    half = len(pads) // 2
    return tuple(zip(pads[:half], pads[half:], strict=True))


def split_sides(extra: Sequence[int], auto_pad: str) -> Sides:
    upper = auto_pad == "SAME_UPPER"
    return tuple((n // 2, n - n // 2) if upper else (n - n // 2, n // 2) for n in extra)


def bordered(x: Array, sides: Sides, value: float = 0.0) -> Array:
    """x with borders at its last dimensions, cropped where a number is negative."""
    if not any(n for side in sides for n in side):
        return x
    return fastdl.pad(x, tuple(n for side in reversed(sides) for n in side), value=value)
