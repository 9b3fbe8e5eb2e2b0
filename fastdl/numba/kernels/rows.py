"""Averages over windows of planes whose rows are wide, as they lie: nothing is turned round.

The rows that a window sees are added up into one, which stands between zeros where the windows of a row reach beyond
it; then windows along that row are as many loops as they have taps. Backwards the same from its end.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastdl.numba.kernels._kernel import compiled, share
from fastdl.numba.kernels.conv import positions, taps
from fastdl.numba.kernels.memory import cleared, release, scratch
from fastdl.numba.kernels.planes import windows_of
from fastdl.numba.kernels.vmath import like

LEAST, MOST = 24, 1 << 13
"""Windows along a row, and elements of a row with its zeros, for which this is the better way."""


@lru_cache(256)
def _plan_of(w):
    """The windows of depths and of heights; of widths what counts in each, inside and with padding; and sizes."""
    depths, heights, widths = windows_of(w)
    reach = (w.out_width - 1) * w.stride_width + (w.kernel_width - 1) * w.dilation_width + 1
    room = max(reach, w.padding_width + w.width)
    numbers = w.kernel_width, w.stride_width, w.dilation_width, w.padding_width, room
    sizes = np.array([w.height, w.width, w.dilation_depth, w.dilation_height, *numbers], np.int64)
    return depths, heights, widths, sizes


def are_wide(w):
    """Whether rows are better taken as they lie."""
    if w.channels_last or w.stride_width == 0 or w.out_width < LEAST:
        return False
    return int(_plan_of(w)[-1][-1]) <= MOST


@compiled
def _divisors(of_rows, widths, column, override, to):
    """Of the windows of a row."""
    for i in range(to.size):
        to[i] = override if override else max(1, of_rows * widths[i, column])


@compiled
def _add_up(x, at, depth, row, height, line, rows):
    """rows = the sum of depth x height rows of x, of which the first begins at `at`."""
    width, count = rows.size, depth * height
    if count < 2:
        for j in range(width):
            rows[j] = x[at + j] if count else like(0.0, x[0])
        return
    for k in range(count % 2, count, 2):
        a = x[at + k // height * row + k % height * line :]
        b = x[at + (k + 1) // height * row + (k + 1) % height * line :]
        if k == 0:
            for j in range(width):
                rows[j] = a[j] + b[j]
        elif k == 1:
            first = x[at:]
            for j in range(width):
                rows[j] = first[j] + (a[j] + b[j])
        else:
            for j in range(width):
                rows[j] += a[j] + b[j]


@compiled
def _sum_taps(room, taps_, stride, dilation, y):
    """y[i] = the sum of room[i stride + tap dilation]"""
    for tap in range(0, taps_, 2):
        a = room[tap * dilation :]
        b = room[min(tap + 1, taps_ - 1) * dilation :]
        last = tap + 1 == taps_
        if tap == 0:
            for i in range(y.size):
                y[i] = like(0.0, y[0])
        if last and stride == 1:
            for i in range(y.size):
                y[i] += a[i]
        elif last and stride == 2:
            for i in range(y.size):
                y[i] += a[2 * i]
        elif last:
            for i in range(y.size):
                y[i] += a[i * stride]
        elif stride == 1:
            for i in range(y.size):
                y[i] += a[i] + b[i]
        elif stride == 2:
            for i in range(y.size):
                y[i] += a[2 * i] + b[2 * i]
        else:
            for i in range(y.size):
                y[i] += a[i * stride] + b[i * stride]


@compiled
def _add_taps(g, taps_, stride, dilation, room):
    """room[i stride + tap dilation] += g[i]"""
    tap = 0
    if stride == 2 and dilation == 1:
        while tap + 1 < taps_:
            to = room[tap:]
            for i in range(g.size):
                to[2 * i], to[2 * i + 1] = to[2 * i] + g[i], to[2 * i + 1] + g[i]
            tap += 2
    while tap < taps_:
        to = room[tap * dilation :]
        if stride == 1:
            for i in range(g.size):
                to[i] += g[i]
        else:
            for i in range(g.size):
                to[i * stride] += g[i]
        tap += 1


@compiled
def _averages(x, y, column, override, depths, heights, widths, sizes, planes, begin, end):
    height, width, step_depth, step_height, taps_, stride, dilation, padding, size = sizes
    room, divisors, known = cleared(size, x.dtype), scratch(len(widths), x.dtype), -1
    for row in range(begin, end):
        plane, d, h = row // len(heights) // len(depths), row // len(heights) % len(depths), row % len(heights)
        at = plane * planes + (depths[d, 0] * height + heights[h, 0]) * width
        steps = step_depth * height * width, step_height * width
        _add_up(x, at, depths[d, 1], steps[0], heights[h, 1], steps[1], room[padding : padding + width])
        to = y[row * len(widths) : (row + 1) * len(widths)]
        _sum_taps(room, taps_, stride, dilation, to)
        of_rows = depths[d, column] * heights[h, column]
        if of_rows != known:
            _divisors(of_rows, widths, column, override, divisors)
            known = of_rows
        for i in range(to.size):
            to[i] /= divisors[i]
    release((room, divisors))


@compiled
def _average_gradients(grad_output, grad_input, column, override, depths, heights, widths, sizes, planes, begin, end):
    """Planes."""
    height, width, step_depth, step_height, taps_, stride, dilation, padding, size = sizes
    room, divisors, known = scratch(size, grad_output.dtype), scratch(len(widths), grad_output.dtype), -1
    given, zero = scratch(len(widths), grad_output.dtype), like(0.0, grad_output[0])
    for plane in range(begin, end):
        of_plane = grad_input[plane * planes : (plane + 1) * planes]
        for i in range(of_plane.size):
            of_plane[i] = zero
        for window in range(len(depths) * len(heights)):
            d, h = window // len(heights), window % len(heights)
            of_rows = depths[d, column] * heights[h, column]
            if of_rows != known:
                _divisors(of_rows, widths, column, override, divisors)
                known = of_rows
            start = (plane * len(depths) * len(heights) + window) * len(widths)
            g = grad_output[start : start + len(widths)]
            for i in range(given.size):
                given[i] = g[i] / divisors[i]
            for i in range(room.size):
                room[i] = zero
            _add_taps(given, taps_, stride, dilation, room)
            inside = room[padding : padding + width]
            for row in range(depths[d, 1] * heights[h, 1]):
                at = depths[d, 0] + row // heights[h, 1] * step_depth
                at = (at * height + heights[h, 0] + row % heights[h, 1] * step_height) * width
                to = of_plane[at : at + width]
                for j in range(to.size):
                    to[j] += inside[j]
    release((room, divisors, given))


def average(x, y, w, column, override):
    plan, volume = _plan_of(w), w.depth * w.height * w.width
    rows, grain = y.size // w.out_width, max(1, (1 << 15) // (w.out_width * taps(w)))
    share(_averages, rows, grain, x, y, column, override, *plan, volume)


def average_gradients(grad_output, grad_input, w, column, override):
    plan, volume = _plan_of(w), w.depth * w.height * w.width
    planes, grain = w.batch * w.channels, max(1, (1 << 15) // (positions(w) * taps(w)))
    share(_average_gradients, planes, grain, grad_output, grad_input, column, override, *plan, volume)
