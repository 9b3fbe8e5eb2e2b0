"""Convolution and its transpose, over volumes: images have a depth of 1, sequences a depth and a height of 1.

    y[out, position] = sum over the terms (channel, tap) of weight[out, term] columns[term, position]

`columns` is what im2col makes of an image; here it is never made as a whole, but packed panel by panel into the
product. Where a group has few filters, a product would be mostly packing: there rows of the image are added up tap by
tap (`_direct`). Arrays whose channels are last are turned round before and after.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastdl import _kernels
from fastdl._kernels import Window
from fastdl.numba.kernels._kernel import blocks, compiled, kernel, share
from fastdl.numba.kernels.activation import activate
from fastdl.numba.kernels.fields import fields, numbers
from fastdl.numba.kernels.memory import copied, release, scratch
from fastdl.numba.kernels.product import (
    DEPTH,
    PANEL,
    PIECE_ROWS,
    WORTH_SHARING,
    multiply,
    pack,
    scratch_panel,
    scratch_sums,
)
from fastdl.numba.kernels.vmath import like
from fastdl.reference.packing import conv_weight

FEW_FILTERS = 3


# ---- windows ----


def taps(w):
    return w.kernel_depth * w.kernel_height * w.kernel_width


def volume(w):
    return w.depth * w.height * w.width


def positions(w):
    return w.out_depth * w.out_height * w.out_width


@lru_cache(256)
def simplest(w):
    """Of a window that is one element, at stride 1 without borders: the same, as long sequences."""
    one = (w.kernel_depth, w.kernel_height, w.kernel_width, w.stride_depth, w.stride_height, w.stride_width)
    borders = w.padding_depth, w.padding_height, w.padding_width
    if set(one) != {1} or any(borders) or positions(w) != volume(w):
        return w
    size = volume(w)
    return w._replace(depth=1, height=1, width=size, out_depth=1, out_height=1, out_width=size)


def channels_first(x, channels, w, of_output=False):
    """[batch, channels, volume] of an array of a window whose channels are last, flat."""
    if not w.channels_last or x.size == 0:
        return x
    return np.ascontiguousarray(x.reshape(w.batch, -1, channels).swapaxes(1, 2)).reshape(-1)


def channels_back(x, channels, w, to):
    """The other way, into `to`."""
    if w.channels_last and to.size:
        to.reshape(w.batch, -1, channels)[...] = x.reshape(w.batch, channels, -1).swapaxes(1, 2)


def room(to, w):
    """Where what goes to `to` is computed, channels first."""
    return np.empty_like(to) if w.channels_last else to


@compiled
def inside(position, size, count, stride):
    """The range of i in [0, count) with 0 <= position + i stride < size."""
    low = 0 if position >= 0 else (-position + stride - 1) // stride
    high = 0 if position >= size else (size - position + stride - 1) // stride
    return min(low, count), max(min(low, count), min(high, count))


@compiled
def _row(w, plane, height, at):
    """Where a row of an image begins, counted from `at`; -1: outside."""
    if plane < 0 or plane >= w.depth or height < 0 or height >= w.height:
        return -1
    return at + (plane * w.height + height) * w.width


@compiled
def _move_columns(x, at, w, term, terms, column, columns, panel, back):
    """panel [terms, PANEL] = those rows and columns of the image that begins at x[at]; or, `back`, the adjoint: they
    are added to the image. Row by row of the image, of which [low, high) is inside."""
    zero, taps_, step = like(0.0, x[0]), w.kernel_depth * w.kernel_height * w.kernel_width, w.stride_width
    begin = column % w.out_width
    first_height, first_depth = column // w.out_width % w.out_height, column // w.out_width // w.out_height
    for k in range(terms):
        channel, tap = (term + k) // taps_, (term + k) % taps_
        image = at + channel * w.depth * w.height * w.width
        first = tap % w.kernel_width * w.dilation_width - w.padding_width
        height = tap // w.kernel_width % w.kernel_height * w.dilation_height - w.padding_height
        depth = tap // w.kernel_width // w.kernel_height * w.dilation_depth - w.padding_depth
        low, high = inside(first, w.width, w.out_width, step)
        j, out_width, out_height, out_depth = 0, begin, first_height, first_depth
        while j < columns:
            count = min(w.out_width - out_width, columns - j)
            start = _row(w, out_depth * w.stride_depth + depth, out_height * w.stride_height + height, image)
            to = panel[k * PANEL + j : k * PANEL + j + count]
            begin_, end = min(max(low - out_width, 0), count), min(max(high - out_width, 0), count)
            if start < 0:
                begin_ = end = count
            if not back:
                for i in range(begin_):
                    to[i] = zero
                for i in range(end, count):
                    to[i] = zero
            part, row = to[begin_:end], x[start + first + (out_width + begin_) * step :]
            if start < 0:
                pass
            elif step == 1 and not back:
                copied(row, 0, part, 0, part.size)
            elif step == 1:
                for i in range(part.size):
                    row[i] += part[i]
            elif not back:
                for i in range(part.size):
                    part[i] = row[i * step]
            else:
                for i in range(part.size):
                    row[i * step] += part[i]
            j, out_width, out_height = j + count, 0, out_height + 1
            if out_height == w.out_height:
                out_height, out_depth = 0, out_depth + 1


# ---- forward ----


@compiled
def _products(x, weight, bias, residual, y, window, relu, row_pieces, piece_rows, panels, begin, end):
    """Pieces are panels of positions of an image's group, times some of its filters."""
    w = fields(window, Window)
    panel, sums = scratch_panel(x), scratch_sums(x)
    volume_, positions_ = w.depth * w.height * w.width, w.out_depth * w.out_height * w.out_width
    channels, filters = w.channels // w.groups, w.out_channels // w.groups
    terms = channels * w.kernel_depth * w.kernel_height * w.kernel_width
    for piece in range(begin, end):
        row, column = piece % row_pieces * piece_rows, piece // row_pieces % panels * PANEL
        image, group = piece // row_pieces // panels // w.groups, piece // row_pieces // panels % w.groups
        rows, columns = min(piece_rows, filters - row), min(PANEL, positions_ - column)
        y_begin = (image * w.out_channels + group * filters + row) * positions_ + column
        given = bias.size > 0 or residual.size > 0
        if given:
            for i in range(rows):
                start = bias[group * filters + row + i] if bias.size else like(0.0, x[0])
                to = y[y_begin + i * positions_ : y_begin + i * positions_ + columns]
                if residual.size:
                    added = residual[y_begin + i * positions_ : y_begin + i * positions_ + columns]
                    for j in range(columns):
                        to[j] = start + added[j]
                else:
                    to[:] = start
        x_begin = (image * w.channels + group * channels) * volume_
        for term in range(0, terms, DEPTH):
            _move_columns(x, x_begin, w, term, min(DEPTH, terms - term), column, columns, panel, False)
            first, last = term == 0 and not given, term + DEPTH >= terms
            of, here = (group * filters + row) * terms + term, min(DEPTH, terms - term)
            multiply(
                weight, of, terms, 1, rows, here, panel, y, y_begin, positions_, columns, first, relu and last, sums
            )  # fmt: skip
    release((panel, sums))


@compiled
def _direct(x, weight, bias, residual, y, window, relu, begin, end):
    """Planes of y: rows of x are added up, tap by tap."""
    w = fields(window, Window)
    zero, positions_ = like(0.0, x[0]), w.out_depth * w.out_height * w.out_width
    channels, filters = w.channels // w.groups, w.out_channels // w.groups
    taps_ = w.kernel_depth * w.kernel_height * w.kernel_width
    for plane in range(begin, end):
        image, out = plane // w.out_channels, plane % w.out_channels
        for line in range(w.out_depth * w.out_height):
            out_depth, out_height = line // w.out_height, line % w.out_height
            y_begin = plane * positions_ + line * w.out_width
            to = y[y_begin : y_begin + w.out_width]
            to[:] = bias[out] if bias.size else zero
            if residual.size:
                added = residual[y_begin : y_begin + w.out_width]
                for j in range(to.size):
                    to[j] += added[j]
            for c in range(channels):
                at = (image * w.channels + out // filters * channels + c) * w.depth * w.height * w.width
                for tap in range(taps_):
                    of_width, of_height = tap % w.kernel_width, tap // w.kernel_width % w.kernel_height
                    of_depth = tap // w.kernel_width // w.kernel_height
                    start = _row(
                        w,
                        out_depth * w.stride_depth - w.padding_depth + of_depth * w.dilation_depth,
                        out_height * w.stride_height - w.padding_height + of_height * w.dilation_height,
                        at,
                    )
                    if start < 0:
                        continue
                    factor = weight[(out * channels + c) * taps_ + tap]
                    first = of_width * w.dilation_width - w.padding_width
                    low, high = inside(first, w.width, w.out_width, w.stride_width)
                    part = to[low:high]
                    if w.stride_width == 1:
                        row = x[start + first + low : start + first + high]
                        for i in range(part.size):
                            part[i] += factor * row[i]
                    else:
                        row = x[start + first + low * w.stride_width :]
                        for i in range(part.size):
                            part[i] += factor * row[i * w.stride_width]
            if relu:
                for j in range(to.size):
                    to[j] = zero if to[j] < zero else to[j]


def is_direct(w, algorithm):
    return algorithm == _kernels.ALGORITHM_DIRECT or (
        algorithm == _kernels.ALGORITHM_AUTO and min(w.channels, w.out_channels) // w.groups <= FEW_FILTERS
        and w.out_channels // w.groups <= FEW_FILTERS
    )  # fmt: skip


@kernel
def conv(x, weight, packed, bias, residual, y, window, packed_tile, activation, alpha, beta, algorithm, precision):
    if packed.size:
        weight = conv_weight(packed, window, packed_tile)
    w, relu = simplest(window), activation == _kernels.ACTIVATION_RELU
    filters, terms = w.out_channels // w.groups, w.channels // w.groups * taps(w)
    x, residual, to = channels_first(x, w.channels, w), channels_first(residual, w.out_channels, w), room(y, w)
    if y.size == 0:
        return
    if terms == 0 or is_direct(w, algorithm):
        work = max(1, positions(w) * terms)
        x = x if x.size else np.zeros(1, y.dtype)
        arguments = x, weight, bias, residual, to, numbers(w), relu
        share(_direct, w.batch * w.out_channels, max(1, WORTH_SHARING // work), *arguments)
    else:
        panels, row_pieces = blocks(positions(w), PANEL), blocks(filters, PIECE_ROWS)
        pieces, grain = (
            w.batch * w.groups * panels * row_pieces,
            WORTH_SHARING // (min(filters, PIECE_ROWS) * terms * PANEL),
        )
        arguments = x, weight, bias, residual, to, numbers(w), relu, row_pieces, PIECE_ROWS, panels
        share(_products, pieces, grain, *arguments)
    channels_back(to, w.out_channels, w, y)
    activate(y, activation, alpha, beta)


# ---- gradients ----


@compiled
def _input_gradients(g, weight, grad_x, window, piece_channels, pieces, begin, end):
    """Pieces are some channels of an image's group: weight^T g, of a panel of positions, is added to them."""
    w = fields(window, Window)
    panel, sums = scratch_panel(g), scratch_sums(g)
    volume_, positions_ = w.depth * w.height * w.width, w.out_depth * w.out_height * w.out_width
    channels, filters = w.channels // w.groups, w.out_channels // w.groups
    taps_ = w.kernel_depth * w.kernel_height * w.kernel_width
    terms = channels * taps_
    columns = scratch(piece_channels * taps_ * PANEL, g.dtype)
    for piece in range(begin, end):
        channel, image = piece % pieces * piece_channels, piece // pieces // w.groups
        group = piece // pieces % w.groups
        count = min(piece_channels, channels - channel)
        x_begin = (image * w.channels + group * channels) * volume_
        grad_x[x_begin + channel * volume_ : x_begin + (channel + count) * volume_] = like(0.0, g[0])
        rows = count * taps_
        for column in range(0, positions_, PANEL):
            width = min(PANEL, positions_ - column)
            for out in range(0, filters, DEPTH):
                of = (image * w.out_channels + group * filters + out) * positions_ + column
                pack(g, of, positions_, 1, min(DEPTH, filters - out), width, panel)
                at, here = (group * filters + out) * terms + channel * taps_, min(DEPTH, filters - out)
                multiply(weight, at, 1, terms, rows, here, panel, columns, 0, PANEL, width, out == 0, False, sums)
            _move_columns(grad_x, x_begin, w, channel * taps_, rows, column, width, columns, True)
    release((panel, sums, columns))


@compiled
def _weight_gradients(g, x, grad_weight, window, row_pieces, piece_rows, panels, begin, end):
    """Pieces are some filters of a group, of a panel of terms: g columns^T, of all images."""
    w = fields(window, Window)
    panel, sums = scratch_panel(g), scratch_sums(g)
    columns, step = scratch_panel(g), DEPTH // 2
    volume_, positions_ = w.depth * w.height * w.width, w.out_depth * w.out_height * w.out_width
    channels, filters = w.channels // w.groups, w.out_channels // w.groups
    terms = channels * w.kernel_depth * w.kernel_height * w.kernel_width
    for piece in range(begin, end):
        row, term = piece % row_pieces * piece_rows, piece // row_pieces % panels * PANEL
        group = piece // row_pieces // panels
        rows, width = min(piece_rows, filters - row), min(PANEL, terms - term)
        to = (group * filters + row) * terms + term
        for image in range(w.batch):
            x_begin = (image * w.channels + group * channels) * volume_
            for position in range(0, positions_, DEPTH):
                depth = min(DEPTH, positions_ - position)
                for column in range(0, depth, step):
                    here = min(step, depth - column)
                    _move_columns(x, x_begin, w, term, width, position + column, here, columns, False)
                    pack(columns, 0, 1, PANEL, here, width, panel[column * PANEL :])
                of = (image * w.out_channels + group * filters + row) * positions_ + position
                first = image == 0 and position == 0
                multiply(g, of, positions_, 1, rows, depth, panel, grad_weight, to, terms, width, first, False, sums)
    release((panel, sums, columns))


@compiled
def _direct_input_gradients(g, weight, grad_x, window, begin, end):
    """Planes of grad_x."""
    w = fields(window, Window)
    volume_, positions_ = w.depth * w.height * w.width, w.out_depth * w.out_height * w.out_width
    channels, filters = w.channels // w.groups, w.out_channels // w.groups
    taps_ = w.kernel_depth * w.kernel_height * w.kernel_width
    for plane in range(begin, end):
        image, channel = plane // w.channels, plane % w.channels
        group = channel // channels
        grad_x[plane * volume_ : (plane + 1) * volume_] = like(0.0, g[0])
        for out in range(group * filters, (group + 1) * filters):
            for line in range(w.out_depth * w.out_height):
                out_depth, out_height = line // w.out_height, line % w.out_height
                g_begin = (image * w.out_channels + out) * positions_ + line * w.out_width
                for tap in range(taps_):
                    of_width, of_height = tap % w.kernel_width, tap // w.kernel_width % w.kernel_height
                    of_depth = tap // w.kernel_width // w.kernel_height
                    start = _row(
                        w,
                        out_depth * w.stride_depth - w.padding_depth + of_depth * w.dilation_depth,
                        out_height * w.stride_height - w.padding_height + of_height * w.dilation_height,
                        plane * volume_,
                    )
                    if start < 0:
                        continue
                    factor = weight[(out * channels + channel % channels) * taps_ + tap]
                    first = of_width * w.dilation_width - w.padding_width
                    low, high = inside(first, w.width, w.out_width, w.stride_width)
                    part = g[g_begin + low : g_begin + high]
                    if w.stride_width == 1:
                        row = grad_x[start + first + low : start + first + high]
                        for i in range(part.size):
                            row[i] += factor * part[i]
                    else:
                        row = grad_x[start + first + low * w.stride_width :]
                        for i in range(part.size):
                            row[i * w.stride_width] += factor * part[i]


@compiled(sums=True)
def _direct_weight_gradients(g, x, grad_weight, window, begin, end):
    """Filters."""
    w = fields(window, Window)
    volume_, positions_ = w.depth * w.height * w.width, w.out_depth * w.out_height * w.out_width
    channels, filters = w.channels // w.groups, w.out_channels // w.groups
    taps_ = w.kernel_depth * w.kernel_height * w.kernel_width
    for out in range(begin, end):
        for term in range(channels * taps_):
            channel, tap = out // filters * channels + term // taps_, term % taps_
            of_width, of_height = tap % w.kernel_width, tap // w.kernel_width % w.kernel_height
            of_depth = tap // w.kernel_width // w.kernel_height
            first = of_width * w.dilation_width - w.padding_width
            low, high = inside(first, w.width, w.out_width, w.stride_width)
            total = 0.0
            for image in range(w.batch):
                for line in range(w.out_depth * w.out_height):
                    start = _row(
                        w,
                        line // w.out_height * w.stride_depth - w.padding_depth + of_depth * w.dilation_depth,
                        line % w.out_height * w.stride_height - w.padding_height + of_height * w.dilation_height,
                        (image * w.channels + channel) * volume_,
                    )
                    if start < 0:
                        continue
                    g_begin = (image * w.out_channels + out) * positions_ + line * w.out_width
                    part, row = g[g_begin + low : g_begin + high], x[start + first + low * w.stride_width :]
                    of_line = like(0.0, g[0])
                    if w.stride_width == 1:
                        for i in range(part.size):
                            of_line += part[i] * row[i]
                    else:
                        for i in range(part.size):
                            of_line += part[i] * row[i * w.stride_width]
                    total += of_line
            grad_weight[out * channels * taps_ + term] = total


@compiled(sums=True)
def _plane_sums(g, sums, batch, channels, size, begin, end):
    for channel in range(begin, end):
        total = 0.0
        for image in range(batch):
            plane = g[(image * channels + channel) * size : (image * channels + channel + 1) * size]
            for i in range(plane.size):
                total += plane[i]
        sums[channel] = total


def plane_sums(g, sums, batch, channels, size):
    """sums [channels] of g [batch, channels, size], in double."""
    share(_plane_sums, channels, max(1, (1 << 16) // max(1, batch * size)), g, sums, batch, channels, size)


def input_gradients(g, weight, grad_x, w, direct):
    """grad_x = the adjoint of the convolution, of g."""
    filters, terms = w.out_channels // w.groups, w.channels // w.groups * taps(w)
    if g.size == 0 or weight.size == 0:
        grad_x[:] = 0
    elif direct:
        grain = WORTH_SHARING // max(1, positions(w) * filters * taps(w))
        share(_direct_input_gradients, w.batch * w.channels, max(1, grain), g, weight, grad_x, numbers(w))
    else:
        each = max(1, 2 * PIECE_ROWS // taps(w))
        pieces = blocks(w.channels // w.groups, each)
        grain = WORTH_SHARING // (min(each * taps(w), terms) * filters * positions(w))
        share(_input_gradients, w.batch * w.groups * pieces, grain, g, weight, grad_x, numbers(w), each, pieces)


def weight_gradients(g, x, grad_weight, w, direct):
    filters, terms = w.out_channels // w.groups, w.channels // w.groups * taps(w)
    if g.size == 0 or x.size == 0:
        grad_weight[:] = 0
    elif direct:
        grain = WORTH_SHARING // max(1, w.batch * positions(w) * terms)
        share(_direct_weight_gradients, w.out_channels, max(1, grain), g, x, grad_weight, numbers(w))
    else:
        panels, row_pieces = blocks(terms, PANEL), blocks(filters, PIECE_ROWS)
        grain = WORTH_SHARING // (min(filters, PIECE_ROWS) * PANEL * positions(w) * w.batch)
        arguments = g, x, grad_weight, numbers(w), row_pieces, PIECE_ROWS, panels
        share(_weight_gradients, w.groups * panels * row_pieces, grain, *arguments)


@kernel
def conv_backward(grad_output, x, weight, grad_x, grad_weight, grad_bias, window, algorithm, precision):
    w = simplest(window)
    direct = is_direct(w, algorithm)
    g, x = channels_first(grad_output, w.out_channels, w), channels_first(x, w.channels, w)
    if grad_x.size:
        to = room(grad_x, w)
        input_gradients(g, weight, to, w, direct)
        channels_back(to, w.channels, w, grad_x)
    if grad_weight.size:
        weight_gradients(g, x, grad_weight, w, direct)
    if grad_bias.size:
        plane_sums(g, grad_bias, w.batch, w.out_channels, positions(w))


# ---- the transpose: the window is that of the convolution whose adjoint it is ----


@kernel
def conv_transpose(x, weight, bias, y, window, activation, alpha, beta, precision):
    w = simplest(window)
    input_gradients(x, weight, y, w, is_direct(w, _kernels.ALGORITHM_AUTO))
    if bias.size and y.size:
        y = y.reshape(w.batch, w.channels, -1)
        y += bias[:, None]
    if activation == _kernels.ACTIVATION_RELU:
        np.maximum(y, 0, out=y)
    activate(y.reshape(-1), activation, alpha, beta)


@kernel
def conv_transpose_backward(grad_output, x, weight, grad_x, grad_weight, grad_bias, window, precision):
    w, empty = simplest(window), np.empty(0, x.dtype)
    direct = is_direct(w, _kernels.ALGORITHM_AUTO)
    if grad_x.size:
        algorithm = _kernels.ALGORITHM_DIRECT if direct else _kernels.ALGORITHM_IM2COL
        none = _kernels.ACTIVATION_NONE
        conv(grad_output, weight, empty, empty, empty, grad_x, w, -1, none, 0.0, 0.0, algorithm, precision)
    if grad_weight.size:
        weight_gradients(x, grad_output, grad_weight, w, direct)
    if grad_bias.size:
        plane_sums(grad_output, grad_bias, w.batch, w.channels, volume(w))


# ---- im2col ----


@compiled
def _im2col(x, columns, window, begin, end):
    """Rows of columns."""
    w = fields(window, Window)
    panel = scratch_panel(x)
    positions_ = w.out_depth * w.out_height * w.out_width
    terms = w.channels * w.kernel_depth * w.kernel_height * w.kernel_width
    for line in range(begin, end):
        image, term = line // terms, line % terms
        for column in range(0, positions_, PANEL):
            count = min(PANEL, positions_ - column)
            _move_columns(x, image * w.channels * w.depth * w.height * w.width, w, term, 1, column, count, panel, False)
            to = columns[line * positions_ + column : line * positions_ + column + count]
            for i in range(count):
                to[i] = panel[i]
    release(panel)


@compiled
def _col2im(columns, x, window, begin, end):
    """Planes of x."""
    w = fields(window, Window)
    panel = scratch_panel(x)
    positions_, volume_ = w.out_depth * w.out_height * w.out_width, w.depth * w.height * w.width
    taps_ = w.kernel_depth * w.kernel_height * w.kernel_width
    for plane in range(begin, end):
        x[plane * volume_ : (plane + 1) * volume_] = like(0.0, x[0])
        for tap in range(taps_):
            for column in range(0, positions_, PANEL):
                count = min(PANEL, positions_ - column)
                start = (plane * taps_ + tap) * positions_ + column
                part = columns[start : start + count]
                for i in range(count):
                    panel[i] = part[i]
                _move_columns(x, plane * volume_, w, tap, 1, column, count, panel, True)
    release(panel)


@kernel
def im2col(x, columns, window):
    lines = window.batch * window.channels * taps(window)
    if columns.size:
        share(_im2col, lines, max(1, (1 << 15) // positions(window)), x, columns, numbers(window))


@kernel
def col2im(columns, x, window):
    work = max(1, taps(window) * positions(window))
    if x.size:
        share(_col2im, window.batch * window.channels, max(1, (1 << 15) // work), columns, x, numbers(window))
