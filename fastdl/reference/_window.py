"""Windows sliding over images, one kernel tap at a time.

A kernel of R x S has R S taps. What tap (r, s) sees, over all window positions at once, is a strided slice of the
padded images: its corner at (r dilation, s dilation), its step the stride. Reading through that slice is im2col,
convolution or pooling; adding into it is the gradient of each.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastdl._arrays import Array
from fastdl._window import Pair


def pair(value: int | Pair) -> Pair:
    height, width = np.broadcast_to(value, 2)
    return int(height), int(width)


def pad(x: Array, padding: int | Pair, value: float = 0) -> Array:
    """A copy of the images x (..., height, width) with a border of `value`."""
    (top, left), (height, width) = pair(padding), x.shape[-2:]
    padded = np.full((*x.shape[:-2], height + 2 * top, width + 2 * left), value, x.dtype)
    padded[..., top : top + height, left : left + width] = x
    return padded


def crop(padded: Array, padding: int | Pair) -> Array:
    """Undo pad."""
    (top, left), (height, width) = pair(padding), padded.shape[-2:]
    return padded[..., top : height - top, left : width - left]


def taps(padded: Array, kernel: Pair, stride: int | Pair, dilation: int | Pair) -> Iterator[tuple[int, int, Array]]:
    """For each tap, (r, s, the view of padded that it sees); every view is (..., out_height, out_width)."""
    (R, S), (down, right), (dh, dw) = kernel, pair(stride), pair(dilation)
    rows, columns = padded.shape[-2] - dh * (R - 1), padded.shape[-1] - dw * (S - 1)
    for r, s in np.ndindex(R, S):
        yield r, s, padded[..., r * dh : r * dh + rows : down, s * dw : s * dw + columns : right]


def fill(out: Array | None, result: Array) -> Array:
    """The result, in `out` if there is one."""
    if out is None:
        return result
    out[...] = result
    return out
