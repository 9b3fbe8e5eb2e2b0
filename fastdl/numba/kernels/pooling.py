"""Pooling: windows that slide, or (a stride of 0 along a dimension) adaptive ones.

Planes, an image's channels, are taken as many at a time as a vector has lanes, side by side: [positions, lanes], to
which they are turned, a strip of windows at a time, so that it stays in the second-level cache. Then every window is a
loop over vectors, whatever its size, stride, dilation and borders are: these are tables (`_plan`). Maxima and sums are
taken over rows first, then along the last dimension, so that windows that overlap share them. Groups of planes are cut
over threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastdl.numba.kernels._kernel import compiled, fallback, kernel, share
from fastdl.numba.kernels.conv import channels_back, channels_first, positions, room, taps, volume
from fastdl.numba.kernels.vector import exceeds, filled, lanes, lanes_of, larger, load, select, store, turn
from fastdl.numba.kernels.vmath import like, root

BAD_INDEX = 4
STRIP = 1 << 11
"""Positions of a strip: 128 KB."""
LONG = 512
"""Terms of a sum, from which on it is taken in double."""
_INFINITY = float("inf")


# ---- windows, as tables ----


class Plan(NamedTuple):
    """Of large planes, dimensions of one position come last, so that the first is one that can be cut into strips."""

    windows: tuple[Any, Any, Any]
    """Of each dimension [windows, 3]: the first position inside, how many taps are, and how many count as padding or
    inside."""
    strips: Any
    """[strips, 5]: the windows along the first dimension, from one to another; the rows that these see, from one to
    another; and the row from which on later strips add to gradients."""
    sizes: Any
    """Positions along the three dimensions, those from one tap to the next, then channels, and whether these are last"""
    rows: int
    """The most that a strip sees or keeps."""


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


@lru_cache(256)
def _plan(w):
    dimensions = [
        (
            *(getattr(w, f"{part}{name}") for part in ("", "out_", "kernel_", "stride_", "padding_", "padding_end_")),
            getattr(w, f"dilation_{name}"),
        )
        for name in ("depth", "height", "width")
    ]
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
    return Plan(tables, np.array(strips, np.int64).reshape(-1, 5), np.array(sizes, np.int64), rows * row)


def _share(function, w, work, *arguments):
    """function(*arguments, the plan's, begin, end) over all groups of planes."""
    plan, width = _plan(w), lanes_of(arguments[0].dtype)
    groups = w.batch * -(-w.channels // width) if w.channels_last else -(-w.batch * w.channels // width)
    grain = max(1, (1 << 15) // max(1, positions(w) * max(1, taps(w)) * work * width))
    share(function, groups, grain, *arguments, *plan.windows, plan.strips, plan.sizes, plan.rows)


# ---- planes side by side ----


@compiled
def _place(array, group, size, sizes):
    """Where a group of planes of `size` positions begins in an array, and how many planes it has."""
    channels, width = sizes[6], lanes(array)
    if not sizes[7]:
        begin = group * width
        return begin * size, min(width, array.size // size - begin)
    each = (channels + width - 1) // width
    image, channel = group // each, group % each * width
    return image * size * channels + channel, min(width, channels - channel)


@compiled
def _fetch(array, group, size, sizes, begin, end, to):
    """to [end - begin, lanes] = positions [begin, end) of a group's planes of `size` positions."""
    at, count = _place(array, group, size, sizes)
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
def _put(to, group, size, sizes, begin, end, array):
    """The other way."""
    at, count = _place(array, group, size, sizes)
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
def _most(table, column):
    most = 0
    for i in range(len(table)):
        most = max(most, table[i, column])
    return most


@compiled
def _seen_rows(at, rows, row, lines, line, starts):
    """How many rows of an image a window sees; and where they begin, the first `at`."""
    for d in range(rows):
        for h in range(lines):
            starts[d * lines + h] = at + d * row + h * line
    return rows * lines


@compiled
def _most_windows(strips):
    most = 0
    for s in range(len(strips)):
        most = max(most, strips[s, 1] - strips[s, 0])
    return most


# ---- maxima ----


@compiled
def _maxima(x, width, outer, middle, inner, sizes, first, last, low, columns, y):
    """y [windows [first, last), lines, windows along a row, lanes] of a strip x whose first row is `low`: the largest of
    each column, then those of windows."""
    line, row, least = sizes[2] * width, sizes[1] * sizes[2] * width, filled(-_INFINITY, x)
    most, across, starts = _most(inner, 1), len(inner), np.empty(_most(outer, 1) * _most(middle, 1), np.int64)
    for window in range(first * len(middle), last * len(middle)):
        o, m = window // len(middle), window % len(middle)
        at, y_begin = (outer[o, 0] - low) * row + middle[m, 0] * line, (window - first * len(middle)) * across * width
        rows = _seen_rows(at, outer[o, 1], sizes[3] * row, middle[m, 1], sizes[4] * line, starts)
        for j in range(0, 0 if rows else line, width):
            store(columns, j, least)
        for k in range(0, rows, 2):
            a, b = starts[k], starts[min(k + 1, rows - 1)]
            if k == 0:
                for j in range(0, line, width):
                    store(columns, j, larger(load(x, a + j), load(x, b + j)))
            else:
                for j in range(0, line, width):
                    store(columns, j, larger(larger(load(x, a + j), load(x, b + j)), load(columns, j)))
        for i in range(across):
            store(y, y_begin + i * width, load(columns, inner[i, 0] * width) if inner[i, 1] else least)
        for tap in range(1, most):
            for i in range(across):
                if tap < inner[i, 1]:
                    to, of = y_begin + i * width, (inner[i, 0] + tap * sizes[5]) * width
                    store(y, to, larger(load(columns, of), load(y, to)))


@compiled
def _max_pool(x, y, outer, middle, inner, strips, sizes, room_, begin, end):
    width, volume_, row = lanes(x), sizes[0] * sizes[1] * sizes[2], sizes[1] * sizes[2]
    lines, line = len(middle), len(inner)
    seen, columns = np.zeros(room_ * width, x.dtype), np.empty(sizes[2] * width, x.dtype)
    out = np.empty(_most_windows(strips) * lines * line * width, x.dtype)
    for group in range(begin, end):
        for s in range(len(strips)):
            first, last, low, high, _ = strips[s]
            _fetch(x, group, volume_, sizes, low * row, high * row, seen)
            _maxima(seen, width, outer, middle, inner, sizes, first, last, low, columns, out)
            _put(out, group, len(outer) * lines * line, sizes, first * lines * line, last * lines * line, y)


@compiled
def _winners(x, width, outer, middle, inner, sizes, first, last, low, y, places):
    """The largest likewise, and their positions in the plane, -1 where there is none: the first of equals, the last
    NaN."""
    line, row, before, across = sizes[2], sizes[1] * sizes[2], low * sizes[1] * sizes[2], len(inner)
    for window in range(first * len(middle), last * len(middle)):
        o, m = window // len(middle), window % len(middle)
        at, y_begin = (outer[o, 0] - low) * row + middle[m, 0] * line, (window - first * len(middle)) * across * width
        is_there = outer[o, 1] > 0 and middle[m, 1] > 0
        for i in range(across):
            start, taps_ = at + inner[i, 0], inner[i, 1]
            best = filled(-_INFINITY, x)
            where = filled(before + start if is_there and taps_ > 0 else -1, places)
            for d in range(outer[o, 1]):
                for h in range(middle[m, 1]):
                    position = start + d * sizes[3] * row + h * sizes[4] * line
                    for _ in range(taps_):
                        value = load(x, position * width)
                        better = exceeds(value, best)
                        best, where = (
                            select(better, value, best),
                            select(better, filled(before + position, places), where),
                        )
                        position += sizes[5]
            store(y, y_begin + i * width, best)
            store(places, y_begin + i * width, where)


@compiled
def _max_pool_indices(x, y, indices, numbers, outer, middle, inner, strips, sizes, room_, begin, end):
    """numbers: an array of the integers that are as wide as x's numbers."""
    width, volume_, row = lanes(x), sizes[0] * sizes[1] * sizes[2], sizes[1] * sizes[2]
    lines, line, channels = len(middle), len(inner), sizes[6]
    seen = np.zeros(room_ * width, x.dtype)
    out = np.empty(_most_windows(strips) * lines * line * width, x.dtype)
    places, size = np.empty(out.size, numbers.dtype), len(outer) * lines * line
    for group in range(begin, end):
        at, count = _place(y, group, size, sizes)
        for s in range(len(strips)):
            first, last, low, high, _ = strips[s]
            _fetch(x, group, volume_, sizes, low * row, high * row, seen)
            _winners(seen, width, outer, middle, inner, sizes, first, last, low, out, places)
            begin_, end_ = first * lines * line, last * lines * line
            _put(out, group, size, sizes, begin_, end_, y)
            for j in range(count):
                for i in range(begin_, end_):
                    place = at + i * channels + j if sizes[7] else at + j * size + i
                    indices[place] = places[(i - begin_) * width + j]


def _integers(dtype):
    return np.empty(0, np.int32 if dtype.itemsize == 4 else np.int64)


@kernel
def max_pool(x, y, indices, window):
    w = window
    if y.size == 0:
        return None
    if volume(w) >= 1 << 31 or x.size == 0:
        return fallback("max_pool", x, y, indices, w)
    if indices.size:
        _share(_max_pool_indices, w, 2, x, y, indices, _integers(x.dtype))
    else:
        _share(_max_pool, w, 1, x, y)
    return None


@compiled
def _max_gradients(grad_output, x, grad_input, numbers, outer, middle, inner, strips, sizes, room_, begin, end):
    width, volume_, row = lanes(x), sizes[0] * sizes[1] * sizes[2], sizes[1] * sizes[2]
    lines, line = len(middle), len(inner)
    seen, sums = np.zeros(room_ * width, x.dtype), np.empty(room_ * width, x.dtype)
    given = np.zeros(_most_windows(strips) * lines * line * width, x.dtype)
    best, places = np.empty_like(given), np.empty(given.size, numbers.dtype)
    for group in range(begin, end):
        done = known = 0
        for s in range(len(strips)):
            first, last, low, high, kept = strips[s]
            _fetch(x, group, volume_, sizes, low * row, high * row, seen)
            _fetch(
                grad_output, group, len(outer) * lines * line, sizes, first * lines * line, last * lines * line, given
            )
            known = _clear(sums, (known - done) * row * width, (max(high, kept) - done) * row * width, high, kept)
            _winners(seen, width, outer, middle, inner, sizes, first, last, low, best, places)
            _add_to_winners(given, places, (last - first) * lines * line, done * row, sums)
            _put(sums, group, volume_, sizes, done * row, kept * row, grad_input)
            done = _keep(sums, (kept - done) * row * width, (known - done) * row * width, kept)


@compiled
def _add_to_winners(given, places, windows, before, sums):
    """`before`: the position that sums begin with."""
    width = lanes(given)
    for i in range(0, windows * width, width):
        for j in range(width):
            if places[i + j] >= 0:
                sums[(places[i + j] - before) * width + j] += given[i + j]


@compiled
def _clear(sums, begin, end, high, kept):
    """Rows that no strip has added to yet; up to which they are cleared now."""
    for i in range(begin, end):
        sums[i] = like(0.0, sums[0])
    return max(high, kept)


@compiled
def _keep(sums, begin, end, kept):
    """What later strips add to comes first, and begins with row `kept`."""
    for i in range(end - begin):
        sums[i] = sums[begin + i]
    return kept


@compiled
def _scatter(x, indices, y, positions_, volume_, begin, end):
    """To where the indices say, -1 being nowhere; of planes, of which y [volume] are zeros and x [positions]."""
    for plane in range(begin, end):
        y[plane * volume_ : (plane + 1) * volume_] = like(0.0, x[0])
        for i in range(plane * positions_, (plane + 1) * positions_):
            if indices[i] >= 0:
                y[plane * volume_ + indices[i]] += x[i]


@compiled
def _are_inside(indices, size, first):
    """Whether first <= index < size."""
    least, most = 0, 0
    for i in range(indices.size):
        least, most = min(least, indices[i]), max(most, indices[i])
    return least >= first and most < size


@kernel
def max_pool_backward(grad_output, x, indices, grad_input, window):
    w = window
    if grad_output.size == 0 or grad_input.size == 0:
        grad_input[:] = 0
        return None
    if indices.size and not _are_inside(indices, volume(w), -1):
        return BAD_INDEX
    if indices.size:
        g, to, indices = (
            channels_first(grad_output, w.channels, w),
            room(grad_input, w),
            channels_first(indices, w.channels, w),
        )
        planes, grain = w.batch * w.channels, max(1, (1 << 15) // volume(w))
        share(_scatter, planes, grain, g, indices, to, positions(w), volume(w))
        channels_back(to, w.channels, w, grad_input)
    elif volume(w) >= 1 << 31:
        return fallback("max_pool_backward", grad_output, x, indices, grad_input, w)
    else:
        _share(_max_gradients, w, 4, grad_output, x, grad_input, _integers(x.dtype))
    return None


@compiled
def _unpool(x, indices, y, positions_, volume_, begin, end):
    for plane in range(begin, end):
        y[plane * volume_ : (plane + 1) * volume_] = like(0.0, x[0])
        for i in range(plane * positions_, (plane + 1) * positions_):
            y[plane * volume_ + indices[i]] = x[i]


@compiled
def _taken(grad_output, indices, grad_input, positions_, volume_, begin, end):
    for plane in range(begin, end):
        for i in range(plane * positions_, (plane + 1) * positions_):
            grad_input[i] = grad_output[plane * volume_ + indices[i]]


@kernel
def max_unpool(x, indices, y, planes, positions, volume):
    if indices.size == 0:
        y[:] = 0
        return None
    if not _are_inside(indices, volume, 0):
        return BAD_INDEX
    share(_unpool, planes, max(1, (1 << 15) // max(1, volume)), x, indices, y, positions, volume)
    return None


@kernel
def max_unpool_backward(grad_output, indices, grad_input, planes, positions, volume):
    if indices.size == 0:
        return None
    if not _are_inside(indices, volume, 0):
        return BAD_INDEX
    share(_taken, planes, max(1, (1 << 15) // max(1, volume)), grad_output, indices, grad_input, positions, volume)
    return None


# ---- sums ----


@compiled
def _sums(x, width, outer, middle, inner, sizes, first, last, low, columns, y):
    """y [windows [first, last), lines, windows along a row, width] of a strip x whose first row is `low`: the sum of
    each column, then those of windows."""
    line, row, zero, lanes_ = sizes[2] * width, sizes[1] * sizes[2] * width, filled(0.0, x), lanes(x)
    most, across, starts = _most(inner, 1), len(inner), np.empty(_most(outer, 1) * _most(middle, 1), np.int64)
    for window in range(first * len(middle), last * len(middle)):
        o, m = window // len(middle), window % len(middle)
        at, y_begin = (outer[o, 0] - low) * row + middle[m, 0] * line, (window - first * len(middle)) * across * width
        rows = _seen_rows(at, outer[o, 1], sizes[3] * row, middle[m, 1], sizes[4] * line, starts)
        for j in range(0, 0 if rows > 1 else line, lanes_):
            store(columns, j, load(x, at + j) if rows else zero)
        for k in range(rows % 2, rows, 2):
            a, b = starts[k], starts[k + 1]
            if k == 0:
                for j in range(0, line, lanes_):
                    store(columns, j, load(x, a + j) + load(x, b + j))
            elif k == 1:
                for j in range(0, line, lanes_):
                    store(columns, j, load(x, at + j) + load(x, a + j) + load(x, b + j))
            else:
                for j in range(0, line, lanes_):
                    store(columns, j, load(columns, j) + (load(x, a + j) + load(x, b + j)))
        for part in range(0, width, lanes_):
            for i in range(across):
                value = load(columns, inner[i, 0] * width + part) if inner[i, 1] else zero
                store(y, y_begin + i * width + part, value)
            for tap in range(1, most):
                for i in range(across):
                    if tap < inner[i, 1]:
                        to, of = y_begin + i * width + part, (inner[i, 0] + tap * sizes[5]) * width + part
                        store(y, to, load(y, to) + load(columns, of))


@compiled
def _add_sums(y, width, outer, middle, inner, sizes, first, last, low, columns, x):
    """The other way: along the row, then to all rows."""
    line, row, zero, lanes_ = sizes[2] * width, sizes[1] * sizes[2] * width, filled(0.0, x), lanes(x)
    most, across = _most(inner, 1), len(inner)
    for window in range(first * len(middle), last * len(middle)):
        o, m = window // len(middle), window % len(middle)
        at, y_begin = (outer[o, 0] - low) * row + middle[m, 0] * line, (window - first * len(middle)) * across * width
        for j in range(0, line, lanes_):
            store(columns, j, zero)
        for part in range(0, width, lanes_):
            for tap in range(most):
                for i in range(across):
                    if tap < inner[i, 1]:
                        of, to = y_begin + i * width + part, (inner[i, 0] + tap * sizes[5]) * width + part
                        store(columns, to, load(columns, to) + load(y, of))
        for d in range(outer[o, 1]):
            for h in range(middle[m, 1]):
                start = at + d * sizes[3] * row + h * sizes[4] * line
                for j in range(0, line, lanes_):
                    store(x, start + j, load(x, start + j) + load(columns, j))


@compiled
def _divide(x, width, outer, middle, inner, first, last, column, override):
    """Sums of windows by what counts in them, as `column` of the tables says, or by `override`."""
    lanes_ = lanes(x)
    for window in range(first * len(middle), last * len(middle)):
        of_rows = outer[window // len(middle), column] * middle[window % len(middle), column]
        begin = (window - first * len(middle)) * len(inner) * width
        for part in range(begin, begin + width, lanes_):
            for i in range(len(inner)):
                divisor = filled(override if override else max(1, of_rows * inner[i, column]), x)
                store(x, part + i * width, load(x, part + i * width) / divisor)


@compiled
def _average_pool(x, y, column, override, outer, middle, inner, strips, sizes, room_, begin, end):
    width, volume_, row = lanes(x), sizes[0] * sizes[1] * sizes[2], sizes[1] * sizes[2]
    lines, line = len(middle), len(inner)
    seen, columns = np.zeros(room_ * width, x.dtype), np.empty(sizes[2] * width, x.dtype)
    out = np.empty(_most_windows(strips) * lines * line * width, x.dtype)
    for group in range(begin, end):
        for s in range(len(strips)):
            first, last, low, high, _ = strips[s]
            _fetch(x, group, volume_, sizes, low * row, high * row, seen)
            _sums(seen, width, outer, middle, inner, sizes, first, last, low, columns, out)
            _divide(out, width, outer, middle, inner, first, last, column, override)
            _put(out, group, len(outer) * lines * line, sizes, first * lines * line, last * lines * line, y)


@compiled
def _average_gradients(
    grad_output, grad_input, column, override, outer, middle, inner, strips, sizes, room_, begin, end
):
    width, volume_, row = lanes(grad_output), sizes[0] * sizes[1] * sizes[2], sizes[1] * sizes[2]
    lines, line = len(middle), len(inner)
    sums, columns = np.empty(room_ * width, grad_output.dtype), np.empty(sizes[2] * width, grad_output.dtype)
    given = np.zeros(_most_windows(strips) * lines * line * width, grad_output.dtype)
    for group in range(begin, end):
        done = known = 0
        for s in range(len(strips)):
            first, last, _, high, kept = strips[s]
            _fetch(
                grad_output, group, len(outer) * lines * line, sizes, first * lines * line, last * lines * line, given
            )
            known = _clear(sums, (known - done) * row * width, (max(high, kept) - done) * row * width, high, kept)
            _divide(given, width, outer, middle, inner, first, last, column, override)
            _add_sums(given, width, outer, middle, inner, sizes, first, last, done, columns, sums)
            _put(sums, group, volume_, sizes, done * row, kept * row, grad_input)
            done = _keep(sums, (kept - done) * row * width, (known - done) * row * width, kept)


@kernel
def avg_pool(x, y, window, count_include_pad, divisor_override):
    w = window
    if x.size == 0 or y.size == 0:
        y[:] = 0
        return
    column = 2 if count_include_pad else 1
    if _longest(w) > LONG and x.dtype == np.float32:
        _share(_norms, w, 4, x, y, column, divisor_override, 0.0, 0)
    else:
        _share(_average_pool, w, 1, x, y, column, divisor_override)


def _longest(w):
    """Taps of the largest window."""
    return int(np.prod([table[:, 1].max(initial=0) for table in _plan(w).windows]))


@kernel
def avg_pool_backward(grad_output, grad_input, window, count_include_pad, divisor_override):
    w = window
    if grad_output.size == 0 or grad_input.size == 0:
        grad_input[:] = 0
        return
    column = 2 if count_include_pad else 1
    _share(_average_gradients, w, 1, grad_output, grad_input, column, divisor_override)


# ---- norms: the averages of powers, times what a window has; a window beyond padding counts more than it sees ----


@compiled
def _power(x, p):
    if p == 1.0:
        return x
    if p == 2.0:
        return x * x
    if p == 0.5:
        return root(x)
    if p == -0.5:
        return 1.0 / root(x)  # of -0 and -infinity too
    if p == 0.0:
        return 1.0
    return x**p


@compiled
def _powers(x, p, y):
    """In double."""
    if p == 1.0:
        for i in range(y.size):
            y[i] = x[i]
    elif p == 2.0:
        for i in range(y.size):
            y[i] = np.float64(x[i]) * np.float64(x[i])
    else:
        for i in range(y.size):
            y[i] = _power(np.float64(x[i]), p)


@compiled
def _norms(x, y, column, override, p, count, outer, middle, inner, strips, sizes, room_, begin, end):
    """(count times the average of x^p)^(1/p); where p is 0, the average of x."""
    width, volume_, row = lanes(x), sizes[0] * sizes[1] * sizes[2], sizes[1] * sizes[2]
    lines, line = len(middle), len(inner)
    seen, columns = np.zeros(room_ * width, x.dtype), np.empty(sizes[2] * width, np.float64)
    out = np.empty(_most_windows(strips) * lines * line * width, x.dtype)
    powers, sums = np.empty(seen.size, np.float64), np.empty(out.size, np.float64)
    for group in range(begin, end):
        for s in range(len(strips)):
            first, last, low, high, _ = strips[s]
            _fetch(x, group, volume_, sizes, low * row, high * row, seen)
            used = (high - low) * row * width
            _powers(seen[:used], p if p else 1.0, powers[:used])
            _sums(powers, width, outer, middle, inner, sizes, first, last, low, columns, sums)
            _divide(sums, width, outer, middle, inner, first, last, column, override)
            for i in range((last - first) * lines * line * width):
                out[i] = _power(sums[i] * count, 1.0 / p) if p else sums[i]
            _put(out, group, len(outer) * lines * line, sizes, first * lines * line, last * lines * line, y)


@compiled
def _norm_gradients(grad_output, x, grad_input, p, count, outer, middle, inner, strips, sizes, room_, begin, end):
    width, volume_, row = lanes(x), sizes[0] * sizes[1] * sizes[2], sizes[1] * sizes[2]
    lines, line = len(middle), len(inner)
    seen, columns = np.zeros(room_ * width, x.dtype), np.empty(sizes[2] * width, np.float64)
    powers, sums = np.empty(seen.size, np.float64), np.empty(seen.size, np.float64)
    given = np.zeros(_most_windows(strips) * lines * line * width, x.dtype)
    totals = np.empty(given.size, np.float64)
    for group in range(begin, end):
        done = known = 0
        for s in range(len(strips)):
            first, last, low, high, kept = strips[s]
            _fetch(x, group, volume_, sizes, low * row, high * row, seen)
            used = (high - low) * row * width
            _powers(seen[:used], p, powers[:used])
            _fetch(
                grad_output, group, len(outer) * lines * line, sizes, first * lines * line, last * lines * line, given
            )
            known = _clear(sums, (known - done) * row * width, (max(high, kept) - done) * row * width, high, kept)
            _sums(powers, width, outer, middle, inner, sizes, first, last, low, columns, totals)
            _divide(totals, width, outer, middle, inner, first, last, 2, 0)
            for i in range((last - first) * lines * line * width):
                total = totals[i] * count
                grad = given[i] * _power(total, 1.0 / p - 1.0) * count
                if total == 0.0:
                    grad = 0.0
                elif total != total:
                    grad = 0.0 * grad
                totals[i] = grad
            _divide(totals, width, outer, middle, inner, first, last, 2, 0)
            _add_sums(totals, width, outer, middle, inner, sizes, first, last, done, columns, sums)
            _fetch(x, group, volume_, sizes, done * row, kept * row, seen)
            for i in range((kept - done) * row * width):
                seen[i] = _power(np.float64(seen[i]), p - 1.0) * sums[i]
            _put(seen, group, volume_, sizes, done * row, kept * row, grad_input)
            done = _keep(sums, (kept - done) * row * width, (known - done) * row * width, kept)


@kernel
def lp_pool(x, y, window, norm_type):
    if y.size:
        _share(_norms, window, 4, x, y, 2, 0, norm_type, taps(window))


@kernel
def lp_pool_backward(grad_output, x, grad_input, window, norm_type):
    if grad_output.size == 0:
        grad_input[:] = 0
    else:
        _share(_norm_gradients, window, 8, grad_output, x, grad_input, norm_type, taps(window))
