"""The matrix product that linear, convolution and recurrent networks are made of.

B is cut into panels of PANEL columns and slices of DEPTH rows, packed so that a slice of a panel lies in the
second-level cache: `pack` for matrices, convolution packs its columns itself. A is packed as well, once, ROWS rows side
by side. For `multiply`, `_tile` adds their product to ROWS x PANEL sums in the first-level cache: sixteen multiply-adds
for eight vectors that are loaded and four that are stored, so that the multiply-adds are what takes the time.
"""

from __future__ import annotations

import numpy as np

from fastdl.numba.kernels._kernel import blocks, compiled, share
from fastdl.numba.kernels.vmath import like

PANEL = 128  # columns
DEPTH = 256  # terms
ROWS = 4
TERMS = 4  # that a sum is loaded and stored for
_FEW = 16
"""Rows for which packing would take longer than the product."""
PIECE_ROWS = 256
"""Of a panel that one thread takes: for each it is packed anew."""
WORTH_SHARING = 1 << 20
"""Multiply-adds that take longer than to wake another thread."""


@compiled
def _tile(a, b, c, terms, width):
    """c [ROWS, PANEL] += a b, of the first `width` columns; a [terms / 4, 4, ROWS], b [terms, PANEL]."""
    for k in range(0, terms, TERMS):
        p = a[k * ROWS : (k + TERMS) * ROWS]
        a00, a10, a20, a30 = p[0], p[1], p[2], p[3]
        a01, a11, a21, a31 = p[4], p[5], p[6], p[7]
        a02, a12, a22, a32 = p[8], p[9], p[10], p[11]
        a03, a13, a23, a33 = p[12], p[13], p[14], p[15]
        q = b[k * PANEL : (k + TERMS) * PANEL]
        for j in range(width):
            b0, b1, b2, b3 = q[j], q[PANEL + j], q[2 * PANEL + j], q[3 * PANEL + j]
            c[j] = (((c[j] + a00 * b0) + a01 * b1) + a02 * b2) + a03 * b3
            c[PANEL + j] = (((c[PANEL + j] + a10 * b0) + a11 * b1) + a12 * b2) + a13 * b3
            c[2 * PANEL + j] = (((c[2 * PANEL + j] + a20 * b0) + a21 * b1) + a22 * b2) + a23 * b3
            c[3 * PANEL + j] = (((c[3 * PANEL + j] + a30 * b0) + a31 * b1) + a32 * b2) + a33 * b3


@compiled
def packed_rows(m, k):
    """How many elements `pack_rows` writes."""
    return (m + ROWS - 1) // ROWS * ROWS * ((k + TERMS - 1) // TERMS * TERMS)


@compiled
def pack_rows(a, a_begin, a_row, a_column, m, k, packed, begin, end):
    """Blocks [begin, end) of ROWS rows of A [m, k], of all slices: [slice, block, terms, ROWS]; zeros up to a whole
    number of TERMS. Past the last row there is that once more."""
    blocks_ = (m + ROWS - 1) // ROWS
    for term in range(0, k, DEPTH):
        terms = min(DEPTH, k - term)
        padded = (terms + TERMS - 1) // TERMS * TERMS
        for i in range(begin, end):
            most = m - 1 - i * ROWS
            start = a_begin + i * ROWS * a_row + term * a_column
            a0, a1 = a[start:], a[start + min(1, most) * a_row :]
            a2, a3 = a[start + min(2, most) * a_row :], a[start + min(3, most) * a_row :]
            block = packed[blocks_ * ROWS * term + i * ROWS * padded :]
            if a_column == 1:
                for t in range(terms):
                    to = block[t * ROWS : (t + 1) * ROWS]
                    to[0], to[1], to[2], to[3] = a0[t], a1[t], a2[t], a3[t]
            else:
                for t in range(terms):
                    to, at = block[t * ROWS : (t + 1) * ROWS], t * a_column
                    to[0], to[1], to[2], to[3] = a0[at], a1[at], a2[at], a3[at]
            block[terms * ROWS : padded * ROWS] = like(0.0, a[0])


@compiled
def multiply(packed, m, k, row, rows, term, panel, c, c_begin, c_row, columns, first, relu, sums):
    """c [rows, columns] = rows from `row` on (a multiple of ROWS) of a packed A [m, k], of the slice that begins at
    `term`, times panel; or that added to c where it is not `first`; relu of it. c lies from c_begin on, its rows c_row
    apart. sums [ROWS PANEL]: scratch."""
    zero = like(0.0, panel[0])
    padded = (min(DEPTH, k - term) + TERMS - 1) // TERMS * TERMS
    slice_ = packed[(m + ROWS - 1) // ROWS * ROWS * term :]
    width = min(PANEL, (columns + 15) // 16 * 16)
    for i in range(0, rows, ROWS):
        here = min(ROWS, rows - i)
        for r in range(here):
            total = sums[r * PANEL : (r + 1) * PANEL]
            if first:
                total[:] = zero
            else:
                to = c[c_begin + (i + r) * c_row :]
                for j in range(columns):
                    total[j] = to[j]
        _tile(slice_[(row + i) * padded :], panel, sums, padded, width)
        for r in range(here):
            total = sums[r * PANEL : (r + 1) * PANEL]
            to = c[c_begin + (i + r) * c_row :]
            if relu:
                for j in range(columns):
                    to[j] = zero if total[j] < zero else total[j]
            else:
                for j in range(columns):
                    to[j] = total[j]


@compiled
def pack(b, b_begin, b_row, b_column, terms, columns, panel):
    """panel [terms, PANEL] = b [terms, columns], and zeros up to a whole number of TERMS."""
    zero = like(0.0, panel[0])
    if b_column == 1:
        for k in range(terms):
            row, to = b[b_begin + k * b_row :], panel[k * PANEL : (k + 1) * PANEL]
            for j in range(columns):
                to[j] = row[j]
    else:
        for begin in range(0, terms, 16):  # what is read of a line of cache stays there until the rest is
            end = min(terms, begin + 16)
            whole = columns // 4 * 4
            for j in range(0, whole, 4):
                start = b_begin + j * b_column + begin * b_row
                b0, b1 = b[start:], b[start + b_column :]
                b2, b3 = b[start + 2 * b_column :], b[start + 3 * b_column :]
                to = panel[begin * PANEL + j :]
                if b_row == 1:
                    for k in range(end - begin):
                        at = k * PANEL
                        to[at], to[at + 1], to[at + 2], to[at + 3] = b0[k], b1[k], b2[k], b3[k]
                else:
                    for k in range(end - begin):
                        at, of = k * PANEL, k * b_row
                        to[at], to[at + 1], to[at + 2], to[at + 3] = b0[of], b1[of], b2[of], b3[of]
            for j in range(whole, columns):
                column = b[b_begin + j * b_column + begin * b_row :]
                for k in range(end - begin):
                    panel[(begin + k) * PANEL + j] = column[k * b_row]
    for k in range(terms, (terms + TERMS - 1) // TERMS * TERMS):
        panel[k * PANEL : (k + 1) * PANEL] = zero


@compiled
def scratch_panel(like_):
    """Of which what is never written is 0, and no NaN that happened to lie there."""
    return np.zeros(DEPTH * PANEL, like_.dtype)


@compiled
def scratch_sums(like_):
    return np.zeros(ROWS * PANEL, like_.dtype)


@compiled
def _panels(packed, b, b_row, b_column, bias, c, c_row, m, n, k, relu, row_pieces, piece_rows, begin, end):
    panel, sums = scratch_panel(b), scratch_sums(b)
    for piece in range(begin, end):
        column, row = piece // row_pieces * PANEL, piece % row_pieces * piece_rows
        columns, rows = min(PANEL, n - column), min(piece_rows, m - row)
        if bias.size:
            for i in range(row, row + rows):
                to, of = c[i * c_row + column :], bias[column:]
                for j in range(columns):
                    to[j] = of[j]
        for term in range(0, k, DEPTH):
            pack(b, term * b_row + column * b_column, b_row, b_column, min(DEPTH, k - term), columns, panel)
            first, last = term == 0 and bias.size == 0, term + DEPTH >= k
            c_begin = row * c_row + column
            multiply(packed, m, k, row, rows, term, panel, c, c_begin, c_row, columns, first, relu and last, sums)


@compiled(sums=True)
def _dots(a, a_row, b, b_column, bias, c, c_row, m, k, relu, begin, end):
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
def _axpys(a, a_row, a_column, b, b_row, c, c_row, m, k, begin, end):
    """Where rows of B are contiguous, and A's rows few."""
    for i in range(m):
        total = c[i * c_row + begin : i * c_row + end]
        total[:] = like(0.0, total[0])
        for t in range(k):
            factor, row = a[i * a_row + t * a_column], b[t * b_row + begin : t * b_row + end]
            for j in range(total.size):
                total[j] += factor * row[j]


def packed_matrix(a, a_begin, a_strides, m, k):
    """What `pack_rows` makes of all of A."""
    packed = np.empty(packed_rows(m, k), a.dtype)
    share(pack_rows, blocks(m, ROWS), max(1, (1 << 15) // k), a, a_begin, *a_strides, m, k, packed)
    return packed


def product(a, a_strides, b, b_strides, bias, c, m, n, k, relu=False):
    """c [m, n] = a [m, k] b [k, n] + bias [n], a and b with any strides; relu of it."""
    if m == 0 or n == 0:
        return
    if k == 0:
        c.reshape(m, n)[...] = bias if bias.size else 0
        if relu:
            np.maximum(c, 0, out=c)
        return
    if m <= _FEW and a_strides[1] == 1 and b_strides[0] == 1:
        share(_dots, n, max(1, (1 << 16) // (m * k)), a, a_strides[0], b, b_strides[1], bias, c, n, m, k, relu)
        return
    if m <= _FEW and b_strides[1] == 1 and not bias.size and not relu:
        share(_axpys, n, max(64, (1 << 16) // (m * k)), a, *a_strides, b, b_strides[0], c, n, m, k)
        return
    packed = packed_matrix(a, 0, a_strides, m, k)
    row_pieces = blocks(m, PIECE_ROWS)
    pieces = row_pieces * blocks(n, PANEL)
    grain = max(1, WORTH_SHARING // (min(m, PIECE_ROWS) * PANEL * k))
    share(_panels, pieces, grain, packed, b, *b_strides, bias, c, n, m, n, k, relu, row_pieces, PIECE_ROWS)


@compiled
def _column_sums(x, rows, columns, sums, begin, end):
    total = np.zeros(end - begin, np.float64)
    for i in range(rows):
        row = x[i * columns + begin : i * columns + end]
        for j in range(total.size):
            total[j] += row[j]
    to = sums[begin:end]
    for j in range(to.size):
        to[j] = total[j]


def column_sums(x, rows, columns, sums):
    """sums [columns] of x [rows, columns], in double."""
    share(_column_sums, columns, max(16, (1 << 16) // max(1, rows)), x, rows, columns, sums)
