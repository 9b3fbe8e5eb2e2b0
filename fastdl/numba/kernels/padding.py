"""Padding: along each dimension, every position of y is that of an element of x, or (-1) of the border. Rows, along the
last dimension, are cut over threads; in the gradient, where several positions may be the same element's, what is before
the first padded dimension is."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastdl import _kernels
from fastdl.numba.kernels._kernel import compiled, kernel, share
from fastdl.numba.kernels.memory import copied
from fastdl.numba.kernels.vmath import like
from fastdl.reference.padding import pad as reference_pad


@lru_cache(256)
def _plan(geometry, mode):
    """Of all dimensions, of which there are two or more, one after the other: for each position of y that of the
    element in x; for each dimension where its map begins, its sizes in y and in x, and the elements from one index to
    the next in x. Then of the last dimension its length, the part [low, high) that is elements side by side, and the
    first of these."""
    geometry = np.frombuffer(geometry, np.int64).reshape(-1, 3).tolist()
    geometry = [[1, 0, 0], *geometry] if len(geometry) == 1 else geometry
    name = _kernels.PAD_NAMES[mode]
    maps = [reference_pad(np.arange(size), (before, after), name, -1) for size, before, after in geometry]
    size, before, after = geometry[-1]
    low, length = max(before, 0), maps[-1].size
    high = min(low + max(0, size + min(before, 0) + min(after, 0)), length)
    sizes = np.array([row[0] for row in geometry], np.int64)
    lengths = np.array([m.size for m in maps], np.int64)
    strides = np.append(np.cumprod(sizes[::-1])[::-1][1:], 1)
    table = np.stack([np.cumsum(lengths) - lengths, lengths, sizes, strides], 1).astype(np.int64)
    return np.concatenate(maps).astype(np.int64), table, length, min(low, length), high, max(-before, 0)


@compiled
def _plane_of(maps, table, plane):
    """Where the plane of x begins that this one of y is from; -1: it is border."""
    at = 0
    for d in range(len(table) - 3, -1, -1):
        start, length, _, stride = table[d]
        position = maps[start + plane % length]
        plane //= length
        if position < 0:
            return -1
        at += position * stride
    return at


@compiled
def _pad(x, y, maps, table, low, high, first, value, begin, end):
    """Rows of planes. Of the last dimension, [low, high) is elements side by side, from `first` on."""
    start, length, _, _ = table[len(table) - 1]
    of_lines, lines, _, stride = table[len(table) - 2]
    last, border = maps[start : start + length], like(value, x[0])
    row = begin
    while row < end:
        plane, line = _plane_of(maps, table, row // lines), row % lines
        for here in range(line, min(lines, line + end - row)):
            position, to = maps[of_lines + here], row * length
            row += 1
            if plane < 0 or position < 0:
                _pad_border(y[to : to + length], border)
                continue
            at = plane + position * stride
            for i in range(low):
                y[to + i] = border if last[i] < 0 else x[at + last[i]]
            copied(x, at + first, y, to + low, high - low)
            for i in range(high, length):
                y[to + i] = border if last[i] < 0 else x[at + last[i]]


@compiled
def _pad_border(y, border):
    for i in range(y.size):
        y[i] = border


@compiled
def _gradients(grad_output, grad_input, maps, table, low, high, first, planes, size, begin, end):
    """Each of [begin, end) is `planes` planes of grad_output and `size` elements of grad_input."""
    start, length, _, _ = table[len(table) - 1]
    of_lines, lines, _, stride = table[len(table) - 2]
    last = maps[start : start + length]
    grad_input[begin * size : end * size] = like(0.0, grad_input[0])
    for of_plane in range(begin * planes, end * planes):
        plane = _plane_of(maps, table, of_plane)
        for line in range(lines if plane >= 0 else 0):
            position, row = maps[of_lines + line], (of_plane * lines + line) * length
            if position < 0:
                continue
            at = plane + position * stride
            for i in range(low):
                if last[i] >= 0:
                    grad_input[at + last[i]] += grad_output[row + i]
            to, given = grad_input[at + first : at + first + high - low], grad_output[row + low : row + high]
            for i in range(to.size):
                to[i] += given[i]
            for i in range(high, length):
                if last[i] >= 0:
                    grad_input[at + last[i]] += grad_output[row + i]


@kernel
def pad(x, y, geometry, rank, mode, value):
    if y.size == 0:
        return
    if rank == 0:
        y[:] = x
        return
    maps, table, length, *inside = _plan(geometry.tobytes(), mode)
    x = x if x.size else np.zeros(1, y.dtype)
    share(_pad, y.size // length, max(1, (1 << 15) // length), x, y, maps, table, *inside, value)


@kernel
def pad_backward(grad_output, grad_input, geometry, rank, mode):
    if grad_input.size == 0:
        return
    if rank == 0 or grad_output.size == 0:
        grad_input[:] = grad_output if rank == 0 else 0
        return
    maps, table, _, *inside = _plan(geometry.tobytes(), mode)
    outer = 1
    for size, before, after in geometry.reshape(rank, 3).tolist()[:-2]:
        if before or after:
            break
        outer *= size
    planes, size = grad_output.size // int(table[-1, 1] * table[-2, 1]) // outer, grad_input.size // outer
    arguments = grad_output, grad_input, maps, table, *inside, planes, size
    share(_gradients, outer, max(1, (1 << 15) // size), *arguments)
