"""The matrix product that linear, convolution and recurrent networks are made of.

B is cut into panels of PANEL columns and slices of DEPTH rows, packed so that a slice of a panel lies in the
second-level cache: `pack` for matrices, convolution packs its columns itself. A is read where it lies. For `multiply`,
`_tile` keeps ROWS x lanes sums in registers over a slice: twelve multiply-adds for two vectors and six numbers that are
loaded, so that the multiply-adds are what takes the time.
"""

from __future__ import annotations

import math

import numpy as np

from fastdl.numba.kernels._kernel import blocks, compiled, flat, kernel, share
from fastdl.numba.kernels.memory import cleared, release
from fastdl.numba.kernels.vector import BYTES, exceeds, filled, lanes, load, multiply_add, select, spread, store, turn
from fastdl.numba.kernels.vmath import like

PANEL = 160 if BYTES == 128 else 144
"""Columns: an odd number of vectors of float32, so that a vector wide, a slice is spread over all of the first-level
cache."""
DEPTH = 256  # terms
ROWS = 6
_FEW = 16
"""Rows for which packing would take longer than the product."""
PIECE_ROWS = 1024
"""Of a panel that one thread takes: for each it is packed anew."""
WORTH_SHARING = 1 << 20
"""Multiply-adds that take longer than to wake another thread."""


@compiled
def _tile(a, a_begin, a_row, a_column, rows, terms, b, b_begin, c, c_begin, c_row, first, relu):
    """c [ROWS, lanes(c)] = a [rows, terms] b, or that added to c; relu of it. Past a's last row there is that again."""
    last = rows - 1
    a0, a1, a2 = a_begin, a_begin + min(1, last) * a_row, a_begin + min(2, last) * a_row
    a3, a4, a5 = a_begin + min(3, last) * a_row, a_begin + min(4, last) * a_row, a_begin + min(5, last) * a_row
    if first:
        c0 = c1 = c2 = c3 = c4 = c5 = filled(0.0, c)
    else:
        c0, c1, c2 = load(c, c_begin), load(c, c_begin + c_row), load(c, c_begin + 2 * c_row)
        c3, c4, c5 = load(c, c_begin + 3 * c_row), load(c, c_begin + 4 * c_row), load(c, c_begin + 5 * c_row)
    for k in range(terms):
        row, at = load(b, b_begin + k * PANEL), k * a_column
        c0 = multiply_add(spread(a, a0 + at), row, c0)
        c1 = multiply_add(spread(a, a1 + at), row, c1)
        c2 = multiply_add(spread(a, a2 + at), row, c2)
        c3 = multiply_add(spread(a, a3 + at), row, c3)
        c4 = multiply_add(spread(a, a4 + at), row, c4)
        c5 = multiply_add(spread(a, a5 + at), row, c5)
    if relu:
        zero = filled(0.0, c)
        c0, c1 = select(exceeds(c0, zero), c0, zero), select(exceeds(c1, zero), c1, zero)
        c2, c3 = select(exceeds(c2, zero), c2, zero), select(exceeds(c3, zero), c3, zero)
        c4, c5 = select(exceeds(c4, zero), c4, zero), select(exceeds(c5, zero), c5, zero)
    store(c, c_begin, c0)
    store(c, c_begin + c_row, c1)
    store(c, c_begin + 2 * c_row, c2)
    store(c, c_begin + 3 * c_row, c3)
    store(c, c_begin + 4 * c_row, c4)
    store(c, c_begin + 5 * c_row, c5)


@compiled
def _edge(a, a_row, a_column, rows, terms, b, b_begin, c, c_begin, c_row, columns, first, relu, sums):
    """The same of a tile that is cut off by c's last row or column."""
    width = lanes(c)
    if not first:
        for r in range(rows):
            for j in range(columns):
                sums[r * width + j] = c[c_begin + r * c_row + j]
    _tile(a, 0, a_row, a_column, rows, terms, b, b_begin, sums, 0, width, first, relu)
    for r in range(rows):
        for j in range(columns):
            c[c_begin + r * c_row + j] = sums[r * width + j]


@compiled
def multiply(a, a_begin, a_row, a_column, rows, terms, panel, c, c_begin, c_row, columns, first, relu, sums):
    """c [rows, columns] = a [rows, terms] panel [terms, PANEL], or that added to c where it is not `first`; relu of it.
    c lies from c_begin on, its rows c_row apart, and a likewise, contiguous along one of its sides."""
    width = lanes(c)
    block = sums[ROWS * width :]
    row, column = (DEPTH, 1) if a_column == 1 else (1, ROWS)  # of the block, which keeps what was contiguous so
    for i in range(0, rows, ROWS):
        here, to = min(ROWS, rows - i), c_begin + i * c_row
        _copy_block(a, a_begin + i * a_row, a_row, a_column, here, terms, block)
        for j in range(0, columns, width):
            if here == ROWS and j + width <= columns:
                _tile(block, 0, row, column, here, terms, panel, j, c, to + j, c_row, first, relu)
            else:
                count = min(width, columns - j)
                _edge(block, row, column, here, terms, panel, j, c, to + j, c_row, count, first, relu, sums)


@compiled
def _copy_block(a, a_begin, a_row, a_column, rows, terms, block):
    """ROWS rows of a slice lie together, so that no two are in each other's way in the first-level cache."""
    if a_column == 1:
        for r in range(rows):
            of, to = a[a_begin + r * a_row : a_begin + r * a_row + terms], block[r * DEPTH : r * DEPTH + terms]
            for k in range(to.size):
                to[k] = of[k]
    else:
        for k in range(terms):
            of, to = a[a_begin + k * a_column :], block[k * ROWS : (k + 1) * ROWS]
            for r in range(rows):
                to[r] = of[r]


@compiled
def pack(b, b_begin, b_row, b_column, terms, columns, panel):
    """panel [terms, PANEL] = b [terms, columns], one of whose steps, from row to row or from column to column, is 1."""
    if b_column == 1:
        for k in range(terms):
            row, to = b[b_begin + k * b_row : b_begin + k * b_row + columns], panel[k * PANEL : k * PANEL + columns]
            for j in range(to.size):
                to[j] = row[j]
    else:
        turn(b, b_begin, b_column, columns, terms, panel, 0, PANEL)


@compiled(counted=True)
def scratch_panel(like_, k=DEPTH):
    """Of products of k terms. What is never written is 0, and no NaN that happened to lie there."""
    return cleared(min(k, DEPTH) * PANEL, like_.dtype)


@compiled(counted=True)
def scratch_sums(like_):
    """A tile, and a block of A."""
    return cleared(ROWS * (lanes(like_) + DEPTH), like_.dtype)


@compiled
def times(a, a_row, a_column, b, b_row, b_column, c, c_row, m, n, k, first, relu, panel, sums):
    """c [m, n] = a [m, k] b [k, n], or that added to c where it is not `first`; relu of it. k is not 0."""
    for column in range(0, n, PANEL):
        columns = min(PANEL, n - column)
        for term in range(0, k, DEPTH):
            terms, at = min(DEPTH, k - term), term * a_column
            pack(b, term * b_row + column * b_column, b_row, b_column, terms, columns, panel)
            is_first, is_relu = first and term == 0, relu and term + DEPTH >= k
            multiply(a, at, a_row, a_column, m, terms, panel, c, column, c_row, columns, is_first, is_relu, sums)


@compiled
def _panels(a, a_row, a_column, b, b_row, b_column, bias, c, c_row, m, n, k, relu, row_pieces, piece_rows, begin, end):
    panel, sums = scratch_panel(b, k), scratch_sums(b)
    for piece in range(begin, end):
        column, row = piece // row_pieces * PANEL, piece % row_pieces * piece_rows
        columns, rows = min(PANEL, n - column), min(piece_rows, m - row)
        to = c[row * c_row + column :]
        if bias.size:
            of = bias[column:]
            for i in range(rows):
                into = to[i * c_row :]
                for j in range(columns):
                    into[j] = of[j]
        x, y = a[row * a_row :], b[column * b_column :]
        times(x, a_row, a_column, y, b_row, b_column, to, c_row, rows, columns, k, bias.size == 0, relu, panel, sums)
    release((panel, sums))


@compiled(sums=True)
def dots(a, a_row, b, b_column, bias, c, c_row, m, k, relu, begin, end):
    """Where rows of A and columns of B are contiguous, and A's rows few: two columns by four rows at a time."""
    zero = like(0.0, a[0])
    for j in range(begin, end, 2):
        last = min(j + 1, end - 1)  # past the end, that once more
        b0, b1 = b[j * b_column : j * b_column + k], b[last * b_column : last * b_column + k]
        for i in range(0, m, 4):
            most = m - 1
            a0, a1 = a[i * a_row : i * a_row + k], a[min(i + 1, most) * a_row : min(i + 1, most) * a_row + k]
            a2 = a[min(i + 2, most) * a_row : min(i + 2, most) * a_row + k]
            a3 = a[min(i + 3, most) * a_row : min(i + 3, most) * a_row + k]
            s00 = s10 = s20 = s30 = s01 = s11 = s21 = s31 = zero
            if m == 1:
                for t in range(k):
                    s00 += a0[t] * b0[t]
                    s01 += a0[t] * b1[t]
            else:
                for t in range(k):
                    s00 += a0[t] * b0[t]
                    s10 += a1[t] * b0[t]
                    s20 += a2[t] * b0[t]
                    s30 += a3[t] * b0[t]
                    s01 += a0[t] * b1[t]
                    s11 += a1[t] * b1[t]
                    s21 += a2[t] * b1[t]
                    s31 += a3[t] * b1[t]
            sums = ((s00, s01), (s10, s11), (s20, s21), (s30, s31))
            for r in range(min(4, m - i)):
                for d in range(last - j + 1):
                    total = sums[r][d] + (bias[j + d] if bias.size else zero)
                    c[(i + r) * c_row + j + d] = zero if relu and total < zero else total


@compiled
def axpys(a, a_row, a_column, b, b_row, c, c_row, m, k, begin, end):
    """Where rows of B are contiguous, and A's rows few."""
    for i in range(m):
        total = c[i * c_row + begin : i * c_row + end]
        total[:] = like(0.0, total[0])
        for t in range(k):
            factor, row = a[i * a_row + t * a_column], b[t * b_row + begin : t * b_row + end]
            for j in range(total.size):
                total[j] += factor * row[j]


def product(a, a_strides, b, b_strides, bias, c, m, n, k, relu=False):
    """c [m, n] = a [m, k] b [k, n] + bias [n], a and b or their transposes with contiguous rows; relu of it."""
    if m == 0 or n == 0:
        return
    if k == 0:
        c.reshape(m, n)[...] = bias if bias.size else 0
        if relu:
            np.maximum(c, 0, out=c)
        return
    if m <= _FEW and a_strides[1] == 1 and b_strides[0] == 1:
        share(dots, n, max(1, (1 << 16) // (m * k)), a, a_strides[0], b, b_strides[1], bias, c, n, m, k, relu)
        return
    if m <= _FEW and b_strides[1] == 1 and not bias.size and not relu:
        share(axpys, n, max(64, (1 << 16) // (m * k)), a, *a_strides, b, b_strides[0], c, n, m, k)
        return
    row_pieces = blocks(m, PIECE_ROWS)
    pieces = row_pieces * blocks(n, PANEL)
    grain = max(1, WORTH_SHARING // (min(m, PIECE_ROWS) * PANEL * k))
    share(_panels, pieces, grain, a, *a_strides, b, *b_strides, bias, c, n, m, n, k, relu, row_pieces, PIECE_ROWS)


# ---- stacks of matrices ----


@compiled
def _stack(a, a_starts, a_row, a_column, b, b_starts, b_row, b_column, c, m, n, k, begin, end):
    """Matrices that begin where the starts say."""
    panel, sums = scratch_panel(b, k), scratch_sums(b)
    for i in range(begin, end):
        x, y, to = a[a_starts[i] :], b[b_starts[i] :], c[i * m * n : (i + 1) * m * n]
        times(x, a_row, a_column, y, b_row, b_column, to, n, m, n, k, True, False, panel, sums)
    release((panel, sums))


def _starts(geometry, column):
    """Of the matrices of a stack."""
    starts = np.zeros(1, np.int64)
    for size, step in geometry[:, [0, column]].tolist():
        starts = (starts[:, None] + np.arange(size) * step).reshape(-1)
    return starts


def _as_stack(strided, geometry, column, rows, columns, row, row_column):
    """The array, flat, and the steps of its stack, of rows and of columns: as it lies, if that is contiguous along rows
    or columns; else copied."""
    if strided.flags.c_contiguous and 1 in (row, row_column):
        return flat(strided), _starts(geometry, column), row, row_column
    if strided.flags.f_contiguous and 1 in (row, row_column):
        return flat(strided.T), _starts(geometry, column), row, row_column
    shape, steps = (*geometry[:, 0], rows, columns), (*geometry[:, column], row, row_column)
    view = np.lib.stride_tricks.as_strided(strided, shape, np.multiply(steps, strided.itemsize))
    each = np.arange(math.prod(geometry[:, 0].tolist()), dtype=np.int64) * (rows * columns)
    return np.ascontiguousarray(view).reshape(-1), each, columns, 1


@kernel
def matmul(strided_a, strided_b, c, geometry, rank, m, n, k, a_row, a_column, b_row, b_column):
    if c.size == 0 or k == 0:
        c[:] = 0
        return
    geometry = geometry.reshape(-1, 3)
    a, a_starts, *a_steps = _as_stack(strided_a, geometry, 1, m, k, a_row, a_column)
    b, b_starts, *b_steps = _as_stack(strided_b, geometry, 2, k, n, b_row, b_column)
    if len(a_starts) == 1:
        product(a, a_steps, b, b_steps, c[:0], c, m, n, k)
    else:
        share(
            _stack,
            len(a_starts),
            max(1, WORTH_SHARING // (m * n * k)),
            a,
            a_starts,
            *a_steps,
            b,
            b_starts,
            *b_steps,
            c,
            m,
            n,
            k,
        )


# ---- sums of columns ----


@compiled
def _column_sums(x, rows, columns, sums, begin, end):
    total = cleared(end - begin, np.float64)
    for i in range(rows):
        row = x[i * columns + begin : i * columns + end]
        for j in range(total.size):
            total[j] += row[j]
    to = sums[begin:end]
    for j in range(to.size):
        to[j] = total[j]
    release(total)


def column_sums(x, rows, columns, sums):
    """sums [columns] of x [rows, columns], in double."""
    share(_column_sums, columns, max(16, (1 << 16) // max(1, rows)), x, rows, columns, sums)
