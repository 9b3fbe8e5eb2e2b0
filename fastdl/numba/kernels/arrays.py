"""Arrays as wholes: added, filled, copied, taken, joined. Tables hold addresses, which Numba takes arrays at."""

from __future__ import annotations

import numpy as np

from fastdl.numba.kernels._address import columns
from fastdl.numba.kernels._kernel import MEMORY_GRAIN, compiled, kernel, share, share_elements
from fastdl.numba.kernels.memory import copied
from fastdl.numba.kernels.vmath import like

BAD_ROW = 11


@compiled
def _add(x, y, out, alpha):
    factor = like(alpha, x[0])
    for i in range(out.size):
        out[i] = x[i] + factor * y[i]


@kernel
def add(x, y, out, size, alpha):
    if size:
        share_elements(_add, MEMORY_GRAIN, (x, y, out), alpha)


@kernel
def fill(y, size, value):
    y[:] = value


@compiled
def _rows_taken(x, index, y, row, begin, end):
    for i in range(begin, end):
        to, of = y[i * row : (i + 1) * row], x[index[i] * row : (index[i] + 1) * row]
        for j in range(to.size):
            to[j] = of[j]


@compiled
def _rows_added(grad_output, index, grad_input, count, row, begin, end):
    """To columns [begin, end) of grad_input's rows."""
    for i in range(count):
        to = grad_input[index[i] * row + begin : index[i] * row + end]
        of = grad_output[i * row + begin : i * row + end]
        for j in range(to.size):
            to[j] += of[j]


def _are_rows(index, rows):
    return index.size == 0 or (index.min() >= 0 and index.max() < rows)


@kernel
def take(x, index, y, rows, row, count):
    if not _are_rows(index, rows):
        return BAD_ROW
    if y.size:
        share(_rows_taken, count, max(1, MEMORY_GRAIN // row), x, index, y, row)
    return None


@kernel
def take_backward(grad_output, index, grad_input, rows, row, count, padding):
    if not _are_rows(index, rows):
        return BAD_ROW
    grad_input[:] = 0
    if grad_output.size:
        share(_rows_added, row, max(16, MEMORY_GRAIN // count), grad_output, index, grad_input, count, row)
    if padding >= 0:
        grad_input[padding * row : (padding + 1) * row] = 0
    return None


@compiled
def _columns_copied(x, x_row, x_begin, y, y_row, y_begin, size, rows):
    for i in range(rows):
        copied(x, x_begin + i * x_row, y, y_begin + i * y_row, size)


@kernel
def cat(y, arrays, count, outer):
    begin, width = 0, y.size // max(outer, 1)
    for part in columns(arrays, 0, y.dtype):
        size = part.size // max(outer, 1)
        if part.size:
            _columns_copied(part, size, 0, y, width, begin, size, outer)
        begin += size


@kernel
def cat_backward(grad_output, arrays, count, outer):
    begin, width = 0, grad_output.size // max(outer, 1)
    for part in columns(arrays, 1, grad_output.dtype):
        size = part.size // max(outer, 1)
        if part.size:
            _columns_copied(grad_output, width, begin, part, size, 0, size, outer)
        begin += size


@kernel
def copy(strided, y, geometry, rank):
    """NumPy's own is compiled, and knows all strides."""
    dimensions, items = geometry.reshape(rank, 3), strided.itemsize
    if 0 not in dimensions[:, 0]:
        view = np.lib.stride_tricks.as_strided
        from_ = view(strided, dimensions[:, 0], dimensions[:, 1] * items)
        view(y, dimensions[:, 0], dimensions[:, 2] * items)[...] = from_
