"""Pooling: windows that slide, or (a stride of 0 along a dimension) adaptive ones.

Planes, an image's channels, are taken as many at a time as a vector has lanes, side by side: [positions, lanes], to
which they are turned, a strip of windows at a time, so that it stays in the second-level cache. Then every window is a
loop over vectors, whatever its size, stride, dilation and borders are: these are tables (`_plan`). Maxima and sums are
taken over rows first, then along the last dimension, so that windows that overlap share them. Groups of planes are cut
over threads.
"""

from __future__ import annotations

import numpy as np

from fastdl.numba.kernels._kernel import compiled, fallback, kernel, share
from fastdl.numba.kernels.conv import channels_back, channels_first, positions, room, taps, volume
from fastdl.numba.kernels.memory import cleared, release, scratch
from fastdl.numba.kernels.planes import fetch, most_of, most_windows, place, plan_of, put, seen_rows, share_planes
from fastdl.numba.kernels.rows import are_wide, average, average_gradients
from fastdl.numba.kernels.vector import exceeds, filled, lanes, larger, load, select, store
from fastdl.numba.kernels.vmath import like, root

BAD_INDEX = 4
LONG = 512
"""Terms of a sum, from which on it is taken in double."""
_INFINITY = float("inf")


# ---- maxima ----


@compiled
def _maxima(x, width, outer, middle, inner, sizes, first, last, low, columns, y):
    """y [windows [first, last), lines, windows along a row, lanes] of a strip x whose first row is `low`: the largest
    of each column, then those of windows."""
    line, row, least = sizes[2] * width, sizes[1] * sizes[2] * width, filled(-_INFINITY, x)
    widest, across, starts = most_of(inner, 1), len(inner), scratch(most_of(outer, 1) * most_of(middle, 1), np.int64)
    for window in range(first * len(middle), last * len(middle)):
        o, m = window // len(middle), window % len(middle)
        at, y_begin = (outer[o, 0] - low) * row + middle[m, 0] * line, (window - first * len(middle)) * across * width
        rows = seen_rows(at, outer[o, 1], sizes[3] * row, middle[m, 1], sizes[4] * line, starts)
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
        for tap in range(1, widest):
            for i in range(across):
                if tap < inner[i, 1]:
                    to, of = y_begin + i * width, (inner[i, 0] + tap * sizes[5]) * width
                    store(y, to, larger(load(columns, of), load(y, to)))
    release(starts)


@compiled
def _max_pool(x, y, outer, middle, inner, strips, sizes, room_, begin, end):
    width, volume_, row = lanes(x), sizes[0] * sizes[1] * sizes[2], sizes[1] * sizes[2]
    lines, line = len(middle), len(inner)
    seen, columns = cleared(room_ * width, x.dtype), scratch(sizes[2] * width, x.dtype)
    out = scratch(most_windows(strips) * lines * line * width, x.dtype)
    for group in range(begin, end):
        for s in range(len(strips)):
            first, last, low, high, _ = strips[s]
            fetch(x, group, volume_, sizes, low * row, high * row, seen)
            _maxima(seen, width, outer, middle, inner, sizes, first, last, low, columns, out)
            put(out, group, len(outer) * lines * line, sizes, first * lines * line, last * lines * line, y)
    release((seen, columns, out))


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
    seen = cleared(room_ * width, x.dtype)
    out = scratch(most_windows(strips) * lines * line * width, x.dtype)
    places, size = scratch(out.size, numbers.dtype), len(outer) * lines * line
    for group in range(begin, end):
        at, count = place(y, group, size, sizes)
        for s in range(len(strips)):
            first, last, low, high, _ = strips[s]
            fetch(x, group, volume_, sizes, low * row, high * row, seen)
            _winners(seen, width, outer, middle, inner, sizes, first, last, low, out, places)
            begin_, end_ = first * lines * line, last * lines * line
            put(out, group, size, sizes, begin_, end_, y)
            for j in range(count):
                for i in range(begin_, end_):
                    to = at + i * channels + j if sizes[7] else at + j * size + i
                    indices[to] = places[(i - begin_) * width + j]
    release((seen, out, places))


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
        share_planes(_max_pool_indices, w, 2, x, y, indices, _integers(x.dtype))
    else:
        share_planes(_max_pool, w, 1, x, y)
    return None


@compiled
def _max_gradients(grad_output, x, grad_input, numbers, outer, middle, inner, strips, sizes, room_, begin, end):
    width, volume_, row = lanes(x), sizes[0] * sizes[1] * sizes[2], sizes[1] * sizes[2]
    lines, line = len(middle), len(inner)
    seen, sums = cleared(room_ * width, x.dtype), scratch(room_ * width, x.dtype)
    given = cleared(most_windows(strips) * lines * line * width, x.dtype)
    best, places = scratch(given.size, given.dtype), scratch(given.size, numbers.dtype)
    for group in range(begin, end):
        done = known = 0
        for s in range(len(strips)):
            first, last, low, high, kept = strips[s]
            fetch(x, group, volume_, sizes, low * row, high * row, seen)
            fetch(
                grad_output, group, len(outer) * lines * line, sizes, first * lines * line, last * lines * line, given
            )
            known = _clear(sums, (known - done) * row * width, (max(high, kept) - done) * row * width, high, kept)
            _winners(seen, width, outer, middle, inner, sizes, first, last, low, best, places)
            _add_to_winners(given, places, (last - first) * lines * line, done * row, sums)
            put(sums, group, volume_, sizes, done * row, kept * row, grad_input)
            done = _keep(sums, (kept - done) * row * width, (known - done) * row * width, kept)
    release((seen, sums, given, best, places))


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
        share_planes(_max_gradients, w, 4, grad_output, x, grad_input, _integers(x.dtype))
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
    widest, across, starts = most_of(inner, 1), len(inner), scratch(most_of(outer, 1) * most_of(middle, 1), np.int64)
    for window in range(first * len(middle), last * len(middle)):
        o, m = window // len(middle), window % len(middle)
        at, y_begin = (outer[o, 0] - low) * row + middle[m, 0] * line, (window - first * len(middle)) * across * width
        rows = seen_rows(at, outer[o, 1], sizes[3] * row, middle[m, 1], sizes[4] * line, starts)
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
            for tap in range(1, widest):
                for i in range(across):
                    if tap < inner[i, 1]:
                        to, of = y_begin + i * width + part, (inner[i, 0] + tap * sizes[5]) * width + part
                        store(y, to, load(y, to) + load(columns, of))
    release(starts)


@compiled
def _add_sums(y, width, outer, middle, inner, sizes, first, last, low, columns, x):
    """The other way: along the row, then to all rows."""
    line, row, zero, lanes_ = sizes[2] * width, sizes[1] * sizes[2] * width, filled(0.0, x), lanes(x)
    widest, across = most_of(inner, 1), len(inner)
    for window in range(first * len(middle), last * len(middle)):
        o, m = window // len(middle), window % len(middle)
        at, y_begin = (outer[o, 0] - low) * row + middle[m, 0] * line, (window - first * len(middle)) * across * width
        for j in range(0, line, lanes_):
            store(columns, j, zero)
        for part in range(0, width, lanes_):
            for tap in range(widest):
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
    seen, columns = cleared(room_ * width, x.dtype), scratch(sizes[2] * width, x.dtype)
    out = scratch(most_windows(strips) * lines * line * width, x.dtype)
    for group in range(begin, end):
        for s in range(len(strips)):
            first, last, low, high, _ = strips[s]
            fetch(x, group, volume_, sizes, low * row, high * row, seen)
            _sums(seen, width, outer, middle, inner, sizes, first, last, low, columns, out)
            _divide(out, width, outer, middle, inner, first, last, column, override)
            put(out, group, len(outer) * lines * line, sizes, first * lines * line, last * lines * line, y)
    release((seen, columns, out))


@compiled
def _average_gradients(
    grad_output, grad_input, column, override, outer, middle, inner, strips, sizes, room_, begin, end
):
    width, volume_, row = lanes(grad_output), sizes[0] * sizes[1] * sizes[2], sizes[1] * sizes[2]
    lines, line = len(middle), len(inner)
    sums, columns = scratch(room_ * width, grad_output.dtype), scratch(sizes[2] * width, grad_output.dtype)
    given = cleared(most_windows(strips) * lines * line * width, grad_output.dtype)
    for group in range(begin, end):
        done = known = 0
        for s in range(len(strips)):
            first, last, _, high, kept = strips[s]
            fetch(
                grad_output, group, len(outer) * lines * line, sizes, first * lines * line, last * lines * line, given
            )
            known = _clear(sums, (known - done) * row * width, (max(high, kept) - done) * row * width, high, kept)
            _divide(given, width, outer, middle, inner, first, last, column, override)
            _add_sums(given, width, outer, middle, inner, sizes, first, last, done, columns, sums)
            put(sums, group, volume_, sizes, done * row, kept * row, grad_input)
            done = _keep(sums, (kept - done) * row * width, (known - done) * row * width, kept)
    release((sums, columns, given))


@kernel
def avg_pool(x, y, window, count_include_pad, divisor_override):
    w = window
    if x.size == 0 or y.size == 0:
        y[:] = 0
        return
    column = 2 if count_include_pad else 1
    if plan_of(w).longest > LONG and x.dtype == np.float32:
        share_planes(_norms, w, 4, x, y, column, divisor_override, 0.0, 0)
    elif are_wide(w):
        average(x, y, w, column, divisor_override)
    else:
        share_planes(_average_pool, w, 1, x, y, column, divisor_override)


@kernel
def avg_pool_backward(grad_output, grad_input, window, count_include_pad, divisor_override):
    w = window
    if grad_output.size == 0 or grad_input.size == 0:
        grad_input[:] = 0
        return
    column = 2 if count_include_pad else 1
    if are_wide(w):
        average_gradients(grad_output, grad_input, w, column, divisor_override)
        return
    share_planes(_average_gradients, w, 1, grad_output, grad_input, column, divisor_override)


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
    seen, columns = cleared(room_ * width, x.dtype), scratch(sizes[2] * width, np.float64)
    out = scratch(most_windows(strips) * lines * line * width, x.dtype)
    powers, sums = scratch(seen.size, np.float64), scratch(out.size, np.float64)
    for group in range(begin, end):
        for s in range(len(strips)):
            first, last, low, high, _ = strips[s]
            fetch(x, group, volume_, sizes, low * row, high * row, seen)
            used = (high - low) * row * width
            _powers(seen[:used], p if p else 1.0, powers[:used])
            _sums(powers, width, outer, middle, inner, sizes, first, last, low, columns, sums)
            _divide(sums, width, outer, middle, inner, first, last, column, override)
            for i in range((last - first) * lines * line * width):
                out[i] = _power(sums[i] * count, 1.0 / p) if p else sums[i]
            put(out, group, len(outer) * lines * line, sizes, first * lines * line, last * lines * line, y)
    release((seen, columns, out, powers, sums))


@compiled
def _norm_gradients(grad_output, x, grad_input, p, count, outer, middle, inner, strips, sizes, room_, begin, end):
    width, volume_, row = lanes(x), sizes[0] * sizes[1] * sizes[2], sizes[1] * sizes[2]
    lines, line = len(middle), len(inner)
    seen, columns = cleared(room_ * width, x.dtype), scratch(sizes[2] * width, np.float64)
    powers, sums = scratch(seen.size, np.float64), scratch(seen.size, np.float64)
    given = cleared(most_windows(strips) * lines * line * width, x.dtype)
    totals = scratch(given.size, np.float64)
    for group in range(begin, end):
        done = known = 0
        for s in range(len(strips)):
            first, last, low, high, kept = strips[s]
            fetch(x, group, volume_, sizes, low * row, high * row, seen)
            used = (high - low) * row * width
            _powers(seen[:used], p, powers[:used])
            fetch(
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
            fetch(x, group, volume_, sizes, done * row, kept * row, seen)
            for i in range((kept - done) * row * width):
                seen[i] = _power(np.float64(seen[i]), p - 1.0) * sums[i]
            put(seen, group, volume_, sizes, done * row, kept * row, grad_input)
            done = _keep(sums, (kept - done) * row * width, (known - done) * row * width, kept)
    release((seen, columns, powers, sums, given, totals))


@kernel
def lp_pool(x, y, window, norm_type):
    if y.size:
        share_planes(_norms, window, 4, x, y, 2, 0, norm_type, taps(window))


@kernel
def lp_pool_backward(grad_output, x, grad_input, window, norm_type):
    if grad_output.size == 0:
        grad_input[:] = 0
    else:
        share_planes(_norm_gradients, window, 8, grad_output, x, grad_input, norm_type, taps(window))
