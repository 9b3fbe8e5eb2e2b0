"""Images of other sizes: along each axis in turn a sum over taps, those that shrink first.

Which taps an element of the output has is a table, made of fastdl.reference's matrix of that axis and kept; the
gradient is the same over the table of the matrix turned round.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from fastdl.numba.kernels._kernel import MEMORY_GRAIN, compiled, kernel, share
from fastdl.numba.kernels.vmath import like
from fastdl.reference.resize import _matrix


@lru_cache(256)
def _taps(size, out, scale, options, back):
    """Of each element of the result: the first tap and how many there are, and their weights [elements, most taps]."""
    matrix = _matrix(size, out, scale, options)
    matrix = matrix.T if back else matrix
    is_tap = matrix != 0
    first = is_tap.argmax(1)
    count = np.where(is_tap.any(1), matrix.shape[1] - is_tap[:, ::-1].argmax(1) - first, 0)
    weights = np.zeros((len(matrix), max(1, int(count.max(initial=0)))))
    for tap in range(weights.shape[1]):
        rows = np.flatnonzero(tap < count)
        weights[rows, tap] = matrix[rows, first[rows] + tap]
    return np.stack([first, count], 1).astype(np.int64), weights


@compiled
def _along_rows(x, y, size, places, weights, begin, end):
    """Of the last axis."""
    for row in range(begin, end):
        of, to = x[row * size : (row + 1) * size], y[row * len(places) : (row + 1) * len(places)]
        for i in range(to.size):
            total, first = like(0.0, x[0]), places[i, 0]
            for tap in range(places[i, 1]):
                total += like(weights[i, tap], x[0]) * of[first + tap]
            to[i] = total


@compiled
def _across_rows(x, y, size, inner, places, weights, begin, end):
    """Rows [inner] of the result."""
    for row in range(begin, end):
        outer, i = row // len(places), row % len(places)
        to = y[row * inner : (row + 1) * inner]
        for j in range(inner):
            to[j] = like(0.0, x[0])
        for tap in range(places[i, 1]):
            start, weight = (outer * size + places[i, 0] + tap) * inner, like(weights[i, tap], x[0])
            of = x[start : start + inner]
            for j in range(inner):
                to[j] += weight * of[j]


def _resized(x, y, sizes, axes):
    """axes: of each that changes its dimension, and the table. x [planes, ...]"""
    sizes = list(sizes)
    for i, (axis, (places, weights)) in enumerate(axes):
        outer, size, inner = math.prod(sizes[:axis]), sizes[axis], math.prod(sizes[axis + 1 :])
        sizes[axis] = len(places)
        to = y if i + 1 == len(axes) else np.empty(outer * len(places) * inner, x.dtype)
        grain = max(1, MEMORY_GRAIN // (inner * len(places) if inner == 1 else inner))
        if inner == 1:
            share(_along_rows, outer, grain, x, to, size, places, weights)
        else:
            share(_across_rows, outer * len(places), grain, x, to, size, inner, places, weights)
        x = to
    if not axes:
        y[:] = x


def _axes(volumes, scales, options, back):
    """The dimensions that change and their tables, those that shrink first."""
    axes = [
        (d, _taps(volumes[d], volumes[d + 3], scales[d - 1], options, back))
        for d in (1, 2, 3)
        if volumes[d] != volumes[d + 3] or scales[d - 1] != 1
    ]
    at = 3 if back else 0
    return sorted(axes, key=lambda axis: len(axis[1][0]) / volumes[axis[0] + at])


@kernel
def resize(x, y, volumes, mode, coordinates, nearest, scale_depth, scale_height, scale_width, cubic, exclude_outside):
    if y.size:
        options = mode, coordinates, nearest, cubic, exclude_outside
        axes = _axes(volumes, (scale_depth, scale_height, scale_width), options, False)
        _resized(x, y, volumes[:4], axes)


@kernel
def resize_backward(
    grad_output, grad_input, volumes, mode, coordinates, nearest, scale_depth, scale_height, scale_width, cubic,
    exclude_outside,
):  # fmt: skip
    if grad_input.size and grad_output.size:
        options = mode, coordinates, nearest, cubic, exclude_outside
        axes = _axes(volumes, (scale_depth, scale_height, scale_width), options, True)
        _resized(grad_output, grad_input, (volumes[0], *volumes[4:]), axes)
    else:
        grad_input[:] = 0
