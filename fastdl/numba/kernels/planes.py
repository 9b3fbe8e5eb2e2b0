"""Planes side by side: the windows of pooling as tables, and strips of planes as [positions, lanes]."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastdl.numba.kernels._kernel import compiled, share
from fastdl.numba.kernels.conv import positions, taps, volume
from fastdl.numba.kernels.vector import lanes, lanes_of, turn

STRIP = 1 << 11
"""Positions of a strip: 128 KB."""


class Plan(NamedTuple):
    """Of large planes, dimensions of one position come last, so that the first is one that can be cut into strips."""

    windows: tuple[Any, Any, Any]
    """Of each dimension [windows, 3]: the first position inside, how many taps are, and how many count as padding or
    inside."""
    strips: Any
    """[strips, 5]: the windows along the first dimension, from one to another; the rows that these see, from one to
    another; and the row that later strips begin to add gradients to."""
    sizes: Any
    """Positions along the three dimensions, those from one tap to the next, then channels, whether these are last"""
    rows: int
    """The most that a strip sees or keeps."""
    longest: int
    """Taps of the largest window."""


def _windows(size, out, kernel_size, stride, padding, padding_end, dilation):
    at = np.arange(out)
    if stride == 0:
        first, end = at * size // out, -(-(at + 1) * size // out)
        return np.stack([first, end - first, end - first], 1)
    begin = at * stride - padding

    def taps_below(limit):
        return np.clip(-((begin - limit) // dilation), 0, kernel_size)

    before = taps_below(0)
    inside, counted = taps_below(size) - before, taps_below(size + padding_end)
    return np.stack([np.where(inside > 0, begin + before * dilation, 0), inside, counted], 1)


def _dimensions(w):
    """What `_windows` takes, of each."""
    parts = "", "out_", "kernel_", "stride_", "padding_", "padding_end_", "dilation_"
    return [[getattr(w, f"{part}{name}") for part in parts] for name in ("depth", "height", "width")]


def windows_of(w):
    """Of depths, heights and widths [windows, 3], as in a Plan."""
    return tuple(np.ascontiguousarray(_windows(*d), np.int64) for d in _dimensions(w))


@lru_cache(256)
def plan_of(w):
    dimensions = _dimensions(w)
    if volume(w) > 2 * STRIP:
        dimensions.sort(key=lambda d: d[0] == d[1] == 1)
    tables = tuple(np.ascontiguousarray(_windows(*d), np.int64) for d in dimensions)
    size, out, step = dimensions[0][0], dimensions[0][1], dimensions[0][-1]
    first, count = tables[0][:, 0], tables[0][:, 1]
    seen = count > 0
    low = np.minimum.accumulate(np.where(seen, first, size)[::-1])[::-1]
    high = np.maximum.accumulate(np.where(seen, first + (count - 1) * step + 1, 0))
    row = max(1, dimensions[1][0] * dimensions[2][0])
    strips, begin, rows = [], 0, 1
    while begin < out:
        fit = int(np.searchsorted(high[begin:], low[begin] + STRIP // row, side="right"))
        end = min(out, begin + max(1, fit))
        kept = int(low[end]) if end < out else size
        done = strips[-1][4] if strips else 0
        strips.append((begin, end, min(int(low[begin]), int(high[end - 1])), int(high[end - 1]), kept))
        rows, begin = max(rows, max(strips[-1][3], kept) - min(done, strips[-1][2])), end
    sizes = [d[0] for d in dimensions] + [d[-1] for d in dimensions] + [w.channels, w.channels_last]
    longest = math.prod(int(table[:, 1].max(initial=0)) for table in tables)
    return Plan(tables, np.array(strips, np.int64).reshape(-1, 5), np.array(sizes, np.int64), rows * row, longest)


def share_planes(function, w, work, *arguments):
    """function(*arguments, the plan's, begin, end) over all groups of planes."""
    plan, width = plan_of(w), lanes_of(arguments[0].dtype)
    groups = w.batch * -(-w.channels // width) if w.channels_last else -(-w.batch * w.channels // width)
    grain = max(1, (1 << 15) // max(1, positions(w) * max(1, taps(w)) * work * width))
    share(function, groups, grain, *arguments, *plan.windows, plan.strips, plan.sizes, plan.rows)


# ---- planes side by side ----


@compiled
def place(array, group, size, sizes):
    """Where a group of planes of `size` positions begins in an array, and how many planes it has."""
    channels, width = sizes[6], lanes(array)
    if not sizes[7]:
        begin = group * width
        return begin * size, min(width, array.size // size - begin)
    each = (channels + width - 1) // width
    image, channel = group // each, group % each * width
    return image * size * channels + channel, min(width, channels - channel)


@compiled
def fetch(array, group, size, sizes, begin, end, to):
    """to [end - begin, lanes] = positions [begin, end) of a group's planes of `size` positions."""
    at, count = place(array, group, size, sizes)
    width = lanes(array)
    if not sizes[7]:
        turn(array, at + begin, size, count, end - begin, to, 0, width)
    else:
        for i in range(end - begin):
            start = at + (begin + i) * sizes[6]
            of, row = array[start : start + count], to[i * width : i * width + count]
            for j in range(row.size):
                row[j] = of[j]


@compiled
def put(to, group, size, sizes, begin, end, array):
    """The other way."""
    at, count = place(array, group, size, sizes)
    width = lanes(array)
    if not sizes[7]:
        turn(to, 0, width, end - begin, count, array, at + begin, size)
    else:
        for i in range(end - begin):
            start = at + (begin + i) * sizes[6]
            of, row = to[i * width : i * width + count], array[start : start + count]
            for j in range(row.size):
                row[j] = of[j]


@compiled
def most_of(table, column):
    most = 0
    for i in range(len(table)):
        most = max(most, table[i, column])
    return most


@compiled
def seen_rows(at, rows, row, lines, line, starts):
    """How many rows of an image a window sees; and where they begin, the first `at`."""
    for d in range(rows):
        for h in range(lines):
            starts[d * lines + h] = at + d * row + h * line
    return rows * lines


@compiled
def most_windows(strips):
    most = 0
    for s in range(len(strips)):
        most = max(most, strips[s, 1] - strips[s, 0])
    return most
