"""Padding: along each dimension, every position of y is that of an element of x, or (-1) of the border. Rows, along the
last dimension, are cut over threads; in the gradient, where several positions may be the same element's, what is before
the first padded dimension is."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastdl import _kernels
from fastdl.numba.kernels._kernel import compiled, kernel, share
from fastdl.numba.kernels.vmath import like
from fastdl.reference.padding import pad as reference_pad


@lru_cache(256)
def _maps(geometry, mode):
    """Of all dimensions, one after the other: for each position of y that of the element in x; and for each dimension
    where its map begins, its sizes in y and in x, and the elements from one index to the next in x."""
    name = _kernels.PAD_NAMES[mode]
    maps = [reference_pad(np.arange(size), (before, after), name, -1) for size, before, after in geometry]
    sizes = np.array([row[0] for row in geometry], np.int64)
    lengths = np.array([m.size for m in maps], np.int64)
    strides = np.append(np.cumprod(sizes[::-1])[::-1][1:], 1)
    table = np.stack([np.cumsum(lengths) - lengths, lengths, sizes, strides], 1).astype(np.int64)
    return np.concatenate(maps).astype(np.int64), table


@compiled
def _row_of(maps, table, row):
    """Where the row of x begins that this one of y is from; -1: it is border."""
    at = 0
    for d in range(len(table) - 2, -1, -1):
        start, length, _, stride = table[d]
        position = maps[start + row % length]
        row //= length
        if position < 0:
            return -1
        at += position * stride
    return at


@compiled
def _pad(x, y, maps, table, low, high, first, value, begin, end):
    """Of the last dimension, [low, high) is elements side by side, from `first` on."""
    start, length, size, _ = table[len(table) - 1]
    border = like(value, x[0])
    last = maps[start : start + length]
    for row in range(begin, end):
        at, to = _row_of(maps, table, row), y[row * length : (row + 1) * length]
        if at < 0:
            to[:] = border
            continue
        given = x[at : at + size]
        for i in range(low):
            to[i] = border if last[i] < 0 else given[last[i]]
        part, seen = to[low:high], given[first : first + high - low]
        for i in range(part.size):
            part[i] = seen[i]
        for i in range(high, length):
            to[i] = border if last[i] < 0 else given[last[i]]


@compiled
def _gradients(grad_output, grad_input, maps, table, rows, plane, begin, end):
    """Each of [begin, end) is `rows` rows of grad_output and `plane` elements of grad_input."""
    start, length, _, _ = table[len(table) - 1]
    last = maps[start : start + length]
    grad_input[begin * plane : end * plane] = like(0.0, grad_input[0])
    for row in range(begin * rows, end * rows):
        at, given = _row_of(maps, table, row), grad_output[row * length : (row + 1) * length]
        if at < 0:
            continue
        for i in range(length):
            if last[i] >= 0:
                grad_input[at + last[i]] += given[i]


@kernel
def pad(x, y, geometry, rank, mode, value):
    if y.size == 0:
        return
    if rank == 0:
        y[:] = x
        return
    rows = tuple(map(tuple, geometry.reshape(rank, 3).tolist()))
    maps, table = _maps(rows, mode)
    size, before, after = rows[-1]
    low, high = max(before, 0), max(before, 0) + max(0, size + min(before, 0) + min(after, 0))
    x = x if x.size else np.zeros(1, y.dtype)
    length = table[-1, 1]
    arguments = x, y, maps, table, min(low, length), min(high, length), max(-before, 0), value
    share(_pad, y.size // length, max(1, (1 << 15) // length), *arguments)


@kernel
def pad_backward(grad_output, grad_input, geometry, rank, mode):
    if grad_input.size == 0:
        return
    if rank == 0 or grad_output.size == 0:
        grad_input[:] = grad_output if rank == 0 else 0
        return
    rows = tuple(map(tuple, geometry.reshape(rank, 3).tolist()))
    maps, table = _maps(rows, mode)
    outer = 1
    for size, before, after in rows[:-1]:
        if before or after:
            break
        outer *= size
    each, plane = grad_output.size // table[-1, 1] // outer, grad_input.size // outer
    share(_gradients, outer, max(1, (1 << 15) // plane), grad_output, grad_input, maps, table, each, plane)
