"""Arithmetic of arrays that are broadcast, and sums, maxima and minima over dimensions.

Neighbouring dimensions along which every operand goes on as it did are joined. What remains is rows of the result, cut
into blocks; an operand that is neither as dense as the result is first gathered, a block at a time, so that every
formula is one loop over arrays side by side.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from fastdl import _kernels
from fastdl.numba.kernels._kernel import MEMORY_GRAIN, compiled, kernel, share
from fastdl.numba.kernels.memory import release, scratch
from fastdl.numba.kernels.vector import filled, lanes, larger, largest_lane, load
from fastdl.numba.kernels.vmath import like

BLOCK = 1 << 11
"""Elements of a block: three of them are in the first-level cache."""
NAMES = _kernels.ARITHMETIC_NAMES
MUL, ADD, DIV, POW = (NAMES.index(name) for name in ("mul", "add", "div", "pow"))
MAXIMUM, MINIMUM, EQUAL = (NAMES.index(name) for name in ("maximum", "minimum", "equal"))
DIV_GRAD, POW_GRAD, EXPONENT_GRAD = (NAMES.index(name) for name in ("div_grad", "pow_grad", "exponent_grad"))
MAXIMUM_GRAD, MINIMUM_GRAD = NAMES.index("maximum_grad"), NAMES.index("minimum_grad")


@compiled
def _formula(kind, x, y, z, alpha, out):
    """Of arrays of one size; of gradients, x is grad_output, and y and z are what was given."""
    zero, one, half = like(0.0, out[0]), like(1.0, out[0]), like(0.5, out[0])
    if kind == MUL:
        for i in range(out.size):
            out[i] = x[i] * y[i]
    elif kind == ADD:
        factor = like(alpha, out[0])
        for i in range(out.size):
            out[i] = x[i] + factor * y[i]
    elif kind == DIV:
        for i in range(out.size):
            out[i] = x[i] / y[i]
    elif kind == POW:
        for i in range(out.size):
            out[i] = x[i] ** y[i]
    elif kind == MAXIMUM:
        for i in range(out.size):
            out[i] = x[i] if (x[i] > y[i]) | (x[i] != x[i]) else y[i]
    elif kind == MINIMUM:
        for i in range(out.size):
            out[i] = x[i] if (x[i] < y[i]) | (x[i] != x[i]) else y[i]
    elif kind == EQUAL:
        for i in range(out.size):
            out[i] = one if x[i] == y[i] else zero
    elif kind == DIV_GRAD:
        for i in range(out.size):
            out[i] = -x[i] * (y[i] / z[i] / z[i])
    elif kind == POW_GRAD:
        for i in range(out.size):
            out[i] = zero if z[i] == zero else x[i] * (z[i] * y[i] ** (z[i] - one))
    elif kind == EXPONENT_GRAD:
        for i in range(out.size):
            out[i] = zero if y[i] == zero and z[i] >= zero else x[i] * (y[i] ** z[i] * np.log(y[i]))
    elif kind == MAXIMUM_GRAD:
        for i in range(out.size):
            out[i] = x[i] * half if y[i] == z[i] else zero if y[i] < z[i] else x[i]
    elif kind == MINIMUM_GRAD:
        for i in range(out.size):
            out[i] = x[i] * half if y[i] == z[i] else zero if y[i] > z[i] else x[i]
    else:
        for i in range(out.size):
            out[i] = x[i] * (one if y[i] == z[i] else zero)


@compiled
def _at(dims, operand, row):
    """Where an operand's part of a row of the result begins."""
    at = 0
    for d in range(len(dims) - 2, -1, -1):
        at += row % dims[d, 0] * dims[d, operand]
        row //= dims[d, 0]
    return at


@compiled
def _run(x, step, room, size):
    """The numbers x[i step], side by side."""
    if step == 1:
        return x
    if step == 0:
        number = x[0]
        for i in range(size):
            room[i] = number
    else:
        for i in range(size):
            room[i] = x[i * step]
    return room


@compiled
def _blocks(kind, x, y, z, out, dims, alpha, begin, end):
    """Blocks of rows: dims [rank, 4] are sizes, and the steps of x, y and z."""
    inner = dims[-1, 0]
    parts = (inner + BLOCK - 1) // BLOCK
    rooms = scratch(3 * min(inner, BLOCK), out.dtype).reshape(3, -1)
    for block in range(begin, end):
        row, first = block // parts, block % parts * BLOCK
        size = min(BLOCK, inner - first)
        a = _run(x[_at(dims, 1, row) + first * dims[-1, 1] :], dims[-1, 1], rooms[0], size)
        b = _run(y[_at(dims, 2, row) + first * dims[-1, 2] :], dims[-1, 2], rooms[1], size)
        c = b
        if kind >= DIV_GRAD:
            c = _run(z[_at(dims, 3, row) + first * dims[-1, 3] :], dims[-1, 3], rooms[2], size)
        _formula(kind, a, b, c, alpha, out[row * inner + first : row * inner + first + size])
    release(rooms)


@compiled
def _chosen(condition, x, y, out, dims, begin, end):
    inner = dims[-1, 0]
    parts = (inner + BLOCK - 1) // BLOCK
    chooses, rooms = scratch(min(inner, BLOCK), np.uint8), scratch(2 * min(inner, BLOCK), out.dtype).reshape(2, -1)
    for block in range(begin, end):
        row, first = block // parts, block % parts * BLOCK
        size = min(BLOCK, inner - first)
        is_first = _run(condition[_at(dims, 1, row) + first * dims[-1, 1] :], dims[-1, 1], chooses, size)
        a = _run(x[_at(dims, 2, row) + first * dims[-1, 2] :], dims[-1, 2], rooms[0], size)
        b = _run(y[_at(dims, 3, row) + first * dims[-1, 3] :], dims[-1, 3], rooms[1], size)
        to = out[row * inner + first : row * inner + first + size]
        for i in range(size):
            one, other = a[i], b[i]  # both, so that it is vectorised
            to[i] = one if is_first[i] != 0 else other
    release((chooses, rooms))


@lru_cache(1024)
def _joined(geometry, *there):
    """[rank, 4], neighbours joined: sizes, and the steps of operands; 0 of those that are not there. How many elements
    a row has; into how many blocks that is cut; how many blocks there are, and how many are worth a thread."""
    dims = []
    for size, *steps in np.frombuffer(geometry, np.int64).reshape(-1, 4).tolist():
        if size == 1:
            continue
        row = [size, *(step if is_there else 0 for step, is_there in zip(steps, there, strict=True))]
        if dims and all(before == step * size for before, step in zip(dims[-1][1:], row[1:], strict=True)):
            dims[-1] = [dims[-1][0] * size, *row[1:]]
        else:
            dims.append(row)
    dims = dims or [[1, 0, 0, 0]]
    inner = dims[-1][0]
    pieces = math.prod(row[0] for row in dims[:-1]) * -(-inner // BLOCK)
    return np.array(dims), pieces, max(1, MEMORY_GRAIN // min(inner, BLOCK))


@kernel
def arithmetic(x, y, z, out, geometry, rank, kind, value, alpha):
    if out.size:
        dims, pieces, grain = _joined(geometry.tobytes(), x.size > 0, y.size > 0, z.size > 0)
        number = np.array([value], out.dtype)
        given = x if x.size else number, y if y.size else number, z if z.size else number
        share(_blocks, pieces, grain, kind, *given, out, dims, alpha)


@kernel
def where(condition, x, y, out, geometry, rank, value):
    if out.size:
        dims, pieces, grain = _joined(geometry.tobytes(), True, x.size > 0, y.size > 0)
        number = np.array([value], out.dtype)
        given = x if x.size else number, y if y.size else number
        share(_chosen, pieces, grain, condition, *given, out, dims)


# ---- over dimensions: x [outer, count, inner] ----

SUM, AMAX, AMIN = _kernels.REDUCE_SUM, _kernels.REDUCE_AMAX, _kernels.REDUCE_AMIN
PIECE = 1 << 15
"""Terms of a piece of a long sum, whose size does not follow from the number of threads."""


@compiled(sums=True)
def total_of(x):
    """In double."""
    total = 0.0
    for i in range(x.size):
        total += x[i]
    return total


@compiled
def _extreme(x, sign):
    """The largest of sign x, times sign; NaN where there is one."""
    width = lanes(x)
    whole, factor = x.size // width * width, filled(sign, x)
    most = like(sign, x[0]) * x[0]
    if whole:
        best = load(x, 0) * factor
        for i in range(width, whole, width):
            best = larger(load(x, i) * factor, best)
        most = largest_lane(best)
    for i in range(whole, x.size):
        value = like(sign, x[0]) * x[i]
        most = value if (value > most) | (value != value) else most
    return like(sign, x[0]) * most


@compiled
def _reduced_rows(x, y, count, kind, divisor, begin, end):
    for row in range(begin, end):
        part = x[row * count : (row + 1) * count]
        if kind == SUM:
            y[row] = total_of(part) / divisor
        else:
            y[row] = _extreme(part, 1.0 if kind == AMAX else -1.0)


@compiled
def _reduced_columns(x, y, count, inner, kind, divisor, begin, end):
    """Blocks of columns."""
    parts = (inner + BLOCK - 1) // BLOCK
    totals = scratch(min(inner, BLOCK), np.float64)
    for block in range(begin, end):
        outer, first = block // parts, block % parts * BLOCK
        size = min(BLOCK, inner - first)
        to = y[outer * inner + first : outer * inner + first + size]
        at = outer * count * inner + first
        if kind == SUM:
            total = totals[:size]
            for i in range(size):
                total[i] = 0.0
            for row in range(count):
                part = x[at + row * inner : at + row * inner + size]
                for i in range(size):
                    total[i] += part[i]
            for i in range(size):
                to[i] = total[i] / divisor
            continue
        part = x[at : at + size]
        for i in range(size):
            to[i] = part[i]
        for row in range(1, count):
            part = x[at + row * inner : at + row * inner + size]
            if kind == AMAX:
                for i in range(size):
                    to[i] = part[i] if (part[i] > to[i]) | (part[i] != part[i]) else to[i]
            else:
                for i in range(size):
                    to[i] = part[i] if (part[i] < to[i]) | (part[i] != part[i]) else to[i]
    release(totals)


def _reduce_once(x, y, outer, count, inner, kind, divisor):
    if inner > 1:
        pieces, grain = outer * -(-inner // BLOCK), max(1, MEMORY_GRAIN // (count * min(inner, BLOCK)))
        share(_reduced_columns, pieces, grain, x, y, count, inner, kind, divisor)
    elif outer == 1 and count >= 2 * PIECE:
        whole, pieces = count // PIECE * PIECE, count // PIECE
        parts = np.empty(pieces + (whole < count), np.float64 if kind == SUM else x.dtype)
        share(_reduced_rows, pieces, 1, x, parts, PIECE, kind, 1.0)
        _reduced_rows(x[whole:], parts[pieces:], count - whole, kind, 1.0, 0, len(parts) - pieces)
        y[:] = parts.sum() / divisor if kind == SUM else (parts.max() if kind == AMAX else parts.min())
    else:
        share(_reduced_rows, outer, max(1, MEMORY_GRAIN // count), x, y, count, kind, divisor)


@lru_cache(1024)
def _passes(geometry):
    """outer, count and inner of each pass: where what is reduced lies apart, the last goes first."""
    sizes = [1]  # kept and reduced in turn
    for size, is_reduced in np.frombuffer(geometry, np.int64).reshape(-1, 2).tolist():
        if size != 1:
            sizes += [1] * (is_reduced == len(sizes) % 2)
            sizes[-1] *= size
    sizes += [1] * (len(sizes) % 2 == 0)
    passes = []
    while len(sizes) >= 3:
        *before, count, inner = sizes
        passes.append((math.prod(before), count, inner))
        sizes = [*before[:-1], before[-1] * inner]
    return passes


@kernel
def reduce(x, y, geometry, rank, kind, divisor):
    passes = _passes(geometry.tobytes())
    if x.size == 0 or not passes:
        y[:] = x / divisor if x.size else 0.0 / divisor if divisor else np.nan
        return
    for outer, count, inner in passes[:-1]:
        to = np.empty(outer * inner, x.dtype)
        _reduce_once(x, to, outer, count, inner, kind, 1.0)
        x = to
    _reduce_once(x, y, *passes[-1], kind, divisor)
