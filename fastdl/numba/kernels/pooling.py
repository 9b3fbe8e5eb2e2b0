"""Pooling: windows that slide, or (a stride of 0 along a dimension) adaptive ones.

Planes, an image's channels, are cut over threads. Within one, windows that slide are gone over row by row of the
output: along the width it is, for each tap, one loop over the positions that see it, which is vectorised.
"""

from __future__ import annotations

import numpy as np

from fastdl.numba.kernels._kernel import compiled, kernel, share
from fastdl.numba.kernels.conv import channels_back, channels_first, inside, positions, room, taps
from fastdl.numba.kernels.vmath import like, root

BAD_INDEX = 4
_INFINITY = float("inf")
_TWO = np.uint64(2)  # an index without a sign, which cannot count from the end: so it is vectorised


def _grain(w, work=1):
    return max(1, (1 << 15) // max(1, positions(w) * max(1, taps(w)) * work))


@compiled
def _extent(position, size, out, kernel_size, stride, padding, padding_end, dilation):
    """Of a window along one dimension: where it begins, how many taps it has, those that are inside [first, last), and
    how many count as padding or inside."""
    if stride == 0:
        begin = position * size // out
        count = ((position + 1) * size + out - 1) // out - begin
        return begin, count, 0, count, count
    begin = position * stride - padding
    first, last = inside(begin, size, kernel_size, dilation)
    _, counted = inside(begin, size + padding_end, kernel_size, dilation)
    return begin, kernel_size, first, last, counted


@compiled
def _depth(w, at):
    return _extent(
        at, w.depth, w.out_depth, w.kernel_depth, w.stride_depth, w.padding_depth, w.padding_end_depth,
        w.dilation_depth,
    )  # fmt: skip


@compiled
def _height(w, at):
    return _extent(
        at, w.height, w.out_height, w.kernel_height, w.stride_height, w.padding_height, w.padding_end_height,
        w.dilation_height,
    )  # fmt: skip


@compiled
def _width(w, at):
    return _extent(
        at, w.width, w.out_width, w.kernel_width, w.stride_width, w.padding_width, w.padding_end_width,
        w.dilation_width,
    )  # fmt: skip


# ---- maxima ----


@compiled
def _winner(x, at, w, out_depth, out_height, out_width):
    """The position of the largest of a window, -1 where there is none: the first of equals, the last NaN."""
    best, where = like(-_INFINITY, x[0]), -1
    plane, _, first_plane, last_plane, _ = _depth(w, out_depth)
    line, _, first_line, last_line, _ = _height(w, out_height)
    place, _, first, last, _ = _width(w, out_width)
    for d in range(first_plane, last_plane):
        for h in range(first_line, last_line):
            start = ((plane + d * w.dilation_depth) * w.height + line + h * w.dilation_height) * w.width + place
            for i in range(first, last):
                value = x[at + start + i * w.dilation_width]
                if value > best or value != value or where < 0:
                    best, where = value, start + i * w.dilation_width
    return where


@compiled
def _larger(x, y):
    """y = the larger of both, NaN if either is."""
    for i in range(y.size):
        y[i] = x[i] if (x[i] > y[i]) | (x[i] != x[i]) else y[i]


@compiled
def _max_rows(x, y, w, begin, end):
    """Windows that slide, without indices: of rows of y. First the largest of each column, then along the width."""
    columns = np.empty(w.width, x.dtype)
    for line in range(w.out_depth * w.out_height):
        of_depth, _, first_plane, last_plane, _ = _depth(w, line // w.out_height)
        of_height, _, first_line, last_line, _ = _height(w, line % w.out_height)
        for plane in range(begin, end):
            at = plane * w.depth * w.height * w.width
            start = (plane * w.out_depth * w.out_height + line) * w.out_width
            to = y[start : start + w.out_width]
            to[:] = columns[:] = like(-_INFINITY, x[0])
            if first_plane == last_plane or first_line == last_line:
                continue
            for d in range(first_plane, last_plane):
                for h in range(first_line, last_line):
                    of_row = (of_depth + d * w.dilation_depth) * w.height + of_height + h * w.dilation_height
                    _larger(x[at + of_row * w.width : at + (of_row + 1) * w.width], columns)
            for tap in range(w.kernel_width):
                first = tap * w.dilation_width - w.padding_width
                low, high = inside(first, w.width, w.out_width, w.stride_width)
                part = to[low:high]
                if w.stride_width == 1:
                    _larger(columns[first + low : first + high], part)
                elif w.stride_width == 2:
                    seen = columns[first + low * 2 :]
                    for i in range(part.size):
                        value = seen[_TWO * np.uint64(i)]
                        part[i] = value if (value > part[i]) | (value != value) else part[i]
                else:
                    seen = columns[first + low * w.stride_width :]
                    for i in range(part.size):
                        value = seen[i * w.stride_width]
                        part[i] = value if (value > part[i]) | (value != value) else part[i]


@compiled
def _winners(x, at, w, line, best, where):
    """Of windows that slide, in a row of y: the largest, and their positions, -1 where there is none."""
    best[:] = like(-_INFINITY, x[0])
    where[:] = -1
    of_depth, _, first_plane, last_plane, _ = _depth(w, line // w.out_height)
    of_height, _, first_line, last_line, _ = _height(w, line % w.out_height)
    for d in range(first_plane, last_plane):
        for h in range(first_line, last_line):
            start = ((of_depth + d * w.dilation_depth) * w.height + of_height + h * w.dilation_height) * w.width
            for tap in range(w.kernel_width):
                first = tap * w.dilation_width - w.padding_width
                low, high = inside(first, w.width, w.out_width, w.stride_width)
                seen, part, places = x[at + start + first + low * w.stride_width :], best[low:high], where[low:high]
                position = start + first + low * w.stride_width
                for i in range(part.size):
                    value = seen[i * w.stride_width]
                    better = (value > part[i]) | (value != value) | (places[i] < 0)
                    part[i] = value if better else part[i]
                    places[i] = position + i * w.stride_width if better else places[i]


@compiled
def _max_windows(x, y, indices, w, begin, end):
    """With indices, or of any windows."""
    adaptive = w.stride_depth == 0 or w.stride_height == 0 or w.stride_width == 0
    for plane in range(begin, end):
        at, to = plane * w.depth * w.height * w.width, plane * w.out_depth * w.out_height * w.out_width
        if not adaptive:
            for line in range(w.out_depth * w.out_height):
                start = to + line * w.out_width
                _winners(x, at, w, line, y[start : start + w.out_width], indices[start : start + w.out_width])
            continue
        for d in range(w.out_depth):
            for h in range(w.out_height):
                for i in range(w.out_width):
                    where = _winner(x, at, w, d, h, i)
                    y[to] = like(-_INFINITY, x[0]) if where < 0 else x[at + where]
                    if indices.size:
                        indices[to] = where
                    to += 1


@kernel
def max_pool(x, y, indices, window):
    w = window
    if y.size == 0:
        return
    x, to = channels_first(x, w.channels, w), room(y, w)
    places = room(indices, w)
    if indices.size or 0 in (w.stride_depth, w.stride_height, w.stride_width):
        share(_max_windows, w.batch * w.channels, _grain(w), x, to, places, w)
    else:
        share(_max_rows, w.batch * w.channels, _grain(w), x, to, w)
    channels_back(to, w.channels, w, y)
    channels_back(places, w.channels, w, indices)


@compiled
def _max_gradients(grad_output, x, indices, grad_input, w, begin, end):
    size, count = w.depth * w.height * w.width, w.out_depth * w.out_height * w.out_width
    adaptive = w.stride_depth == 0 or w.stride_height == 0 or w.stride_width == 0
    best, places = np.empty(w.out_width, x.dtype), np.empty(w.out_width, np.int64)
    for plane in range(begin, end):
        at, of = plane * size, plane * count
        grad_input[at : at + size] = like(0.0, grad_output[0])
        if indices.size:
            for i in range(count):
                where = indices[of + i]
                if where >= 0:
                    grad_input[at + where] += grad_output[of + i]
        elif not adaptive:
            for line in range(w.out_depth * w.out_height):
                _winners(x, at, w, line, best, places)
                for i in range(w.out_width):
                    if places[i] >= 0:
                        grad_input[at + places[i]] += grad_output[of + line * w.out_width + i]
        else:
            for d in range(w.out_depth):
                for h in range(w.out_height):
                    for i in range(w.out_width):
                        where = _winner(x, at, w, d, h, i)
                        if where >= 0:
                            grad_input[at + where] += grad_output[of]
                        of += 1


@kernel
def max_pool_backward(grad_output, x, indices, grad_input, window):
    w = window
    if grad_output.size == 0 or grad_input.size == 0:
        grad_input[:] = 0
        return None
    if indices.size and not _are_inside(indices, w.depth * w.height * w.width, -1):
        return BAD_INDEX
    g, x, to = channels_first(grad_output, w.channels, w), channels_first(x, w.channels, w), room(grad_input, w)
    share(_max_gradients, w.batch * w.channels, _grain(w), g, x, channels_first(indices, w.channels, w), to, w)
    channels_back(to, w.channels, w, grad_input)
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


@compiled
def _are_inside(indices, size, first):
    """Whether first <= index < size."""
    least, most = 0, 0
    for i in range(indices.size):
        least, most = min(least, indices[i]), max(most, indices[i])
    return least >= first and most < size


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
def _divisor(w, out_depth, out_height, out_width, count_include_pad, divisor_override):
    if divisor_override:
        return divisor_override
    _, _, first_plane, last_plane, planes = _depth(w, out_depth)
    _, _, first_line, last_line, lines = _height(w, out_height)
    _, _, first, last, places = _width(w, out_width)
    if count_include_pad:
        return max(1, planes * lines * places)
    return max(1, (last_plane - first_plane) * (last_line - first_line) * (last - first))


@compiled
def _divisors(w, out_depth, out_height, count_include_pad, divisor_override, out):
    """Those of a row of y."""
    for i in range(out.size):
        out[i] = _divisor(w, out_depth, out_height, i, count_include_pad, divisor_override)


@compiled
def _added(x, y):
    for i in range(y.size):
        y[i] += x[i]


@compiled
def _average_rows(x, y, w, count_include_pad, divisor_override, begin, end):
    """Windows that slide: of rows of y. First the sum of each column, then those along the width."""
    columns, divisors = np.empty(w.width, x.dtype), np.empty(w.out_width, x.dtype)
    for line in range(w.out_depth * w.out_height):
        out_depth, out_height = line // w.out_height, line % w.out_height
        of_depth, _, first_plane, last_plane, _ = _depth(w, out_depth)
        of_height, _, first_line, last_line, _ = _height(w, out_height)
        _divisors(w, out_depth, out_height, count_include_pad, divisor_override, divisors)
        for plane in range(begin, end):
            at = plane * w.depth * w.height * w.width
            start = (plane * w.out_depth * w.out_height + line) * w.out_width
            to = y[start : start + w.out_width]
            to[:] = columns[:] = like(0.0, x[0])
            for d in range(first_plane, last_plane):
                for h in range(first_line, last_line):
                    of_row = (of_depth + d * w.dilation_depth) * w.height + of_height + h * w.dilation_height
                    _added(x[at + of_row * w.width : at + (of_row + 1) * w.width], columns)
            for tap in range(w.kernel_width):
                first = tap * w.dilation_width - w.padding_width
                low, high = inside(first, w.width, w.out_width, w.stride_width)
                part = to[low:high]
                if w.stride_width == 1:
                    _added(columns[first + low : first + high], part)
                elif w.stride_width == 2:
                    seen = columns[first + low * 2 :]
                    for i in range(part.size):
                        part[i] += seen[_TWO * np.uint64(i)]
                else:
                    seen = columns[first + low * w.stride_width :]
                    for i in range(part.size):
                        part[i] += seen[i * w.stride_width]
            for i in range(to.size):
                to[i] = to[i] / divisors[i]


@compiled
def _average_row_gradients(grad_output, grad_input, w, count_include_pad, divisor_override, begin, end):
    """The other way: first along the width, then to each row that a window sees."""
    columns, divisors = np.empty(w.width, grad_output.dtype), np.empty(w.out_width, grad_output.dtype)
    size = w.depth * w.height * w.width
    grad_input[begin * size : end * size] = like(0.0, grad_output[0])
    for line in range(w.out_depth * w.out_height):
        out_depth, out_height = line // w.out_height, line % w.out_height
        of_depth, _, first_plane, last_plane, _ = _depth(w, out_depth)
        of_height, _, first_line, last_line, _ = _height(w, out_height)
        _divisors(w, out_depth, out_height, count_include_pad, divisor_override, divisors)
        for plane in range(begin, end):
            start = (plane * w.out_depth * w.out_height + line) * w.out_width
            given = grad_output[start : start + w.out_width]
            columns[:] = like(0.0, grad_output[0])
            for tap in range(w.kernel_width):
                first = tap * w.dilation_width - w.padding_width
                low, high = inside(first, w.width, w.out_width, w.stride_width)
                part, by = given[low:high], divisors[low:high]
                seen = columns[first + low * w.stride_width :]
                for i in range(part.size):
                    seen[i * w.stride_width] += part[i] / by[i]
            for d in range(first_plane, last_plane):
                for h in range(first_line, last_line):
                    of_row = (of_depth + d * w.dilation_depth) * w.height + of_height + h * w.dilation_height
                    at = plane * size + of_row * w.width
                    _added(columns, grad_input[at : at + w.width])


@compiled
def _average_windows(x, y, w, count_include_pad, divisor_override, begin, end):
    """Any windows, one at a time."""
    for plane in range(begin, end):
        at, to = plane * w.depth * w.height * w.width, plane * w.out_depth * w.out_height * w.out_width
        for d in range(w.out_depth):
            of_depth, _, first_plane, last_plane, _ = _depth(w, d)
            for h in range(w.out_height):
                of_height, _, first_line, last_line, _ = _height(w, h)
                for i in range(w.out_width):
                    of_width, _, first, last, _ = _width(w, i)
                    total = 0.0
                    for a in range(first_plane, last_plane):
                        for b in range(first_line, last_line):
                            line = (of_depth + a * w.dilation_depth) * w.height + of_height + b * w.dilation_height
                            start = at + line * w.width + of_width
                            for c in range(first, last):
                                total += x[start + c * w.dilation_width]
                    y[to] = total / _divisor(w, d, h, i, count_include_pad, divisor_override)
                    to += 1


@kernel
def avg_pool(x, y, window, count_include_pad, divisor_override):
    w = window
    if y.size == 0:
        return
    x, to = channels_first(x, w.channels, w), room(y, w)
    if x.size == 0:
        y[:] = 0
        return
    adaptive = 0 in (w.stride_depth, w.stride_height, w.stride_width)
    over = _average_windows if adaptive else _average_rows
    share(over, w.batch * w.channels, _grain(w), x, to, w, count_include_pad, divisor_override)
    channels_back(to, w.channels, w, y)


@compiled
def _average_gradients(grad_output, grad_input, w, count_include_pad, divisor_override, begin, end):
    for plane in range(begin, end):
        size = w.depth * w.height * w.width
        at, of = plane * size, plane * w.out_depth * w.out_height * w.out_width
        grad_input[at : at + size] = like(0.0, grad_output[0])
        for d in range(w.out_depth):
            of_depth, _, first_plane, last_plane, _ = _depth(w, d)
            for h in range(w.out_height):
                of_height, _, first_line, last_line, _ = _height(w, h)
                for i in range(w.out_width):
                    of_width, _, first, last, _ = _width(w, i)
                    share_ = grad_output[of] / like(
                        np.float64(_divisor(w, d, h, i, count_include_pad, divisor_override)), grad_output[0]
                    )
                    of += 1
                    for a in range(first_plane, last_plane):
                        for b in range(first_line, last_line):
                            line = (of_depth + a * w.dilation_depth) * w.height + of_height + b * w.dilation_height
                            start = at + line * w.width + of_width
                            for c in range(first, last):
                                grad_input[start + c * w.dilation_width] += share_


@kernel
def avg_pool_backward(grad_output, grad_input, window, count_include_pad, divisor_override):
    w = window
    if grad_output.size == 0 or grad_input.size == 0:
        grad_input[:] = 0
        return
    g, to = channels_first(grad_output, w.channels, w), room(grad_input, w)
    adaptive = 0 in (w.stride_depth, w.stride_height, w.stride_width)
    over = _average_gradients if adaptive else _average_row_gradients
    share(over, w.batch * w.channels, _grain(w), g, to, w, count_include_pad, divisor_override)
    channels_back(to, w.channels, w, grad_input)


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
def _sum_of_powers(x, at, w, p, d, h, i):
    of_depth, _, first_plane, last_plane, planes = _depth(w, d)
    of_height, _, first_line, last_line, lines = _height(w, h)
    of_width, _, first, last, places = _width(w, i)
    total = 0.0
    for a in range(first_plane, last_plane):
        for b in range(first_line, last_line):
            line = (of_depth + a * w.dilation_depth) * w.height + of_height + b * w.dilation_height
            start = at + line * w.width + of_width
            for c in range(first, last):
                total += _power(np.float64(x[start + c * w.dilation_width]), p)
    count = w.kernel_depth * w.kernel_height * w.kernel_width
    return total * (count / max(1, planes * lines * places))


@compiled
def _norms(x, y, w, p, begin, end):
    for plane in range(begin, end):
        at, to = plane * w.depth * w.height * w.width, plane * w.out_depth * w.out_height * w.out_width
        for d in range(w.out_depth):
            for h in range(w.out_height):
                for i in range(w.out_width):
                    y[to] = _power(_sum_of_powers(x, at, w, p, d, h, i), 1.0 / p)
                    to += 1


@compiled
def _norm_gradients(grad_output, x, grad_input, w, p, begin, end):
    count = w.kernel_depth * w.kernel_height * w.kernel_width
    size = w.depth * w.height * w.width
    sums = np.empty(size, np.float64)
    for plane in range(begin, end):
        at, of = plane * size, plane * w.out_depth * w.out_height * w.out_width
        sums[:] = 0.0
        for d in range(w.out_depth):
            of_depth, _, first_plane, last_plane, planes = _depth(w, d)
            for h in range(w.out_height):
                of_height, _, first_line, last_line, lines = _height(w, h)
                for i in range(w.out_width):
                    of_width, _, first, last, places = _width(w, i)
                    total = _sum_of_powers(x, at, w, p, d, h, i)
                    grad = grad_output[of] * _power(total, 1.0 / p - 1.0) * (count / max(1, planes * lines * places))
                    if total == 0.0:
                        grad = 0.0
                    elif total != total:
                        grad = 0.0 * grad
                    of += 1
                    for a in range(first_plane, last_plane):
                        for b in range(first_line, last_line):
                            line = (of_depth + a * w.dilation_depth) * w.height + of_height + b * w.dilation_height
                            start = line * w.width + of_width
                            for c in range(first, last):
                                sums[start + c * w.dilation_width] += grad
        for i in range(size):
            grad_input[at + i] = _power(np.float64(x[at + i]), p - 1.0) * sums[i]


@kernel
def lp_pool(x, y, window, norm_type):
    w = window
    if y.size == 0:
        return
    x, to = channels_first(x, w.channels, w), room(y, w)
    share(_norms, w.batch * w.channels, _grain(w, 4), x, to, w, norm_type)
    channels_back(to, w.channels, w, y)


@kernel
def lp_pool_backward(grad_output, x, grad_input, window, norm_type):
    w = window
    if grad_output.size == 0:
        grad_input[:] = 0
        return
    g, x, to = channels_first(grad_output, w.channels, w), channels_first(x, w.channels, w), room(grad_input, w)
    share(_norm_gradients, w.batch * w.channels, _grain(w, 8), g, x, to, w, norm_type)
    channels_back(to, w.channels, w, grad_input)
