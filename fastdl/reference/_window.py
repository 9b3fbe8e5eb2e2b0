"""Windows sliding over sequences, images and volumes, one kernel tap at a time.

A kernel of R x S has R S taps. What tap (r, s) sees, over all window positions at once, is a strided slice of the
padded images: its corner at (r dilation, s dilation), its step the stride. Reading through that slice is im2col,
convolution or pooling; adding into it is the gradient of each. Arrays are (..., *sizes), sizes one number for each
dimension of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastdl.functional.verbs import Array

Sizes = tuple[int, ...]
Sides = list[tuple[int, int]]


def each(value: Any, rank: int) -> Sizes:
    """An int, or one for each dimension, as a tuple."""
    return tuple(int(v) for v in np.broadcast_to(value, rank))


def sides(
    padding: Any, rank: int, kernel: Sizes = (), dilation: Any = 1, sizes: Sizes | None = None, stride: Any = 1
) -> Sides:
    """Padding in any of its forms as (before, after) for each dimension."""
    if isinstance(padding, str):
        if padding == "valid":
            return [(0, 0)] * rank
        around = []
        for k, d, n, s in zip(kernel, each(dilation, rank), sizes or (1,) * rank, each(stride, rank), strict=True):
            positions = -(-n // s)
            total = max(0, (positions - 1) * s + d * (k - 1) + 1 - n) if s > 1 else d * (k - 1)
            around.append((total // 2, (total + 1) // 2) if padding == "same" else ((total + 1) // 2, total // 2))
        return around
    if np.ndim(padding) == 2:
        return [(int(before), int(after)) for before, after in padding]
    return [(n, n) for n in each(padding, rank)]


def pad(x: Array, around: Sides, value: float = 0) -> Array:
    """A copy of x with a border of `value` around its last dimensions."""
    return np.pad(x, [(0, 0)] * (x.ndim - len(around)) + around, constant_values=value)


def crop(padded: Array, around: Sides) -> Array:
    """Undo pad."""
    sizes = padded.shape[padded.ndim - len(around) :]
    inside: Any = (..., *[slice(b, n - a) for n, (b, a) in zip(sizes, around, strict=True)])
    return padded[inside]


def taps(padded: Array, kernel: Sizes, stride: Any, dilation: Any) -> Iterator[tuple[Sizes, Array]]:
    """For each tap, (its index, the view of padded that it sees); every view is (..., *output sizes)."""
    rank = len(kernel)
    step, spread = each(stride, rank), each(dilation, rank)
    spans = [n - d * (k - 1) for n, k, d in zip(padded.shape[-rank:], kernel, spread, strict=True)]
    for tap in np.ndindex(*kernel):
        corner = [t * d for t, d in zip(tap, spread, strict=True)]
        seen: Any = (..., *[slice(c, c + n, s) for c, n, s in zip(corner, spans, step, strict=True)])
        yield tap, padded[seen]


def channels_second(x: Any, data_format: str) -> Any:
    """An array of that data_format as (batch, channels, *sizes); None stays None."""
    return np.moveaxis(x, -1, 1) if x is not None and data_format.endswith("C") else x


def channels_back(x: Array, data_format: str) -> Array:
    """Undo channels_second."""
    return np.moveaxis(x, 1, -1) if data_format.endswith("C") else x


def fill(out: Array | None, result: Array) -> Array:
    """The result, in `out` if there is one."""
    if out is None:
        return result
    out[...] = result
    return out
