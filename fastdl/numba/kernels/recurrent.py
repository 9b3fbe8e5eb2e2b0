"""Recurrent networks and cells: functional/recurrent has the formulas, csrc/kernels/recurrent/recurrent.h how rows and
what is saved lie.

For each layer and direction, W x + b of all steps is one product. Then comes one loop over time, in which each step is
a product of the states with weights that were packed once, and the rest of the cell, unit by unit. Backwards the
gradients of the gates are kept, from which those of weights and of x are one product each at the end. Directions are
cut over threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl.numba.kernels._address import columns
from fastdl.numba.kernels._kernel import blocks, compiled, kernel, share
from fastdl.numba.kernels.memory import LINE, cleared, from_line, release, scratch
from fastdl.numba.kernels.product import (
    DEPTH,
    PANEL,
    column_sums,
    multiply,
    pack,
    product,
    scratch_sums,
)
from fastdl.numba.kernels.regularization import philox
from fastdl.numba.kernels.vector import filled, lanes, load, multiply_add, spread, store
from fastdl.numba.kernels.vmath import gate_sigmoid, gate_tanh, like
from fastdl.reference.kernels import KERNELS as IN_NUMPY
from fastdl.reference.kernels import MOST_STEPS, OUT_OF_MEMORY

RNN_TANH, RNN_RELU, LSTM = _kernels.RECURRENT_RNN_TANH, _kernels.RECURRENT_RNN_RELU, _kernels.RECURRENT_LSTM
GRU, GRU_RESET_FIRST = _kernels.RECURRENT_GRU, _kernels.RECURRENT_GRU_RESET_FIRST
GATES = {RNN_TANH: 1, RNN_RELU: 1, LSTM: 4, GRU: 3, GRU_RESET_FIRST: 3}
SAVED = {RNN_TANH: 0, RNN_RELU: 0, LSTM: 4, GRU: 4, GRU_RESET_FIRST: 3}
BAD_LENGTH = 8


# ---- products of a few rows with weights that were packed once ----


@compiled
def _pack_panels(b, b_row, b_column, k, n, packed, begin, end):
    """Of each panel all k rows, one below the other."""
    for p in range(begin, end):
        panel = packed[p * k * PANEL : (p + 1) * k * PANEL]
        for term in range(0, k, DEPTH):
            at, columns_ = term * b_row + p * PANEL * b_column, min(PANEL, n - p * PANEL)
            pack(b, at, b_row, b_column, min(DEPTH, k - term), columns_, panel[term * PANEL :])


def packed_weights(weight, strides, k, n):
    """A matrix [k, n] as `_times` reads it."""
    size = k * blocks(n, PANEL) * PANEL
    packed = from_line(np.empty(size + LINE, weight.dtype), size)
    share(_pack_panels, blocks(n, PANEL), max(1, (1 << 15) // (k * PANEL)), weight, *strides, k, n, packed)
    return packed


@compiled
def _row_times(x, x_begin, k, panel, y, y_begin, columns_, room):
    """y = x panel, of one row: five vectors at a time, three or one, of which the last may be cut off."""
    width = lanes(y)
    most = 5 if PANEL % (5 * width) == 0 else 3
    for j in range(0, columns_, most * width):
        here = min(most * width, columns_ - j)
        count = 1 if here <= width else 3 if here <= 3 * width else 5
        s0 = s1 = s2 = s3 = s4 = filled(0.0, y)
        for t in range(k):
            factor, at = spread(x, x_begin + t), t * PANEL + j
            s0 = multiply_add(factor, load(panel, at), s0)
            if count > 1:
                s1 = multiply_add(factor, load(panel, at + width), s1)
                s2 = multiply_add(factor, load(panel, at + 2 * width), s2)
            if count > 3:
                s3 = multiply_add(factor, load(panel, at + 3 * width), s3)
                s4 = multiply_add(factor, load(panel, at + 4 * width), s4)
        to, at = (y, y_begin + j) if here == count * width else (room, 0)
        store(to, at, s0)
        if count > 1:
            store(to, at + width, s1)
            store(to, at + 2 * width, s2)
        if count > 3:
            store(to, at + 3 * width, s3)
            store(to, at + 4 * width, s4)
        if here < count * width:
            for i in range(here):
                y[y_begin + j + i] = room[i]


@compiled
def _times(x, x_begin, x_row, rows, weights, k, n, y, y_begin, y_row, sums):
    """y [rows, n] = x [rows, k] times packed weights."""
    for p in range((n + PANEL - 1) // PANEL):
        panel, width = weights[p * k * PANEL : (p + 1) * k * PANEL], min(PANEL, n - p * PANEL)
        at = y_begin + p * PANEL
        if rows == 1:
            _row_times(x, x_begin, k, panel, y, at, width, sums)
            continue
        for term in range(0, k, DEPTH):
            of, terms = x_begin + term, min(DEPTH, k - term)
            rest = panel[term * PANEL :]
            multiply(x, of, x_row, 1, rows, terms, rest, y, at, y_row, width, term == 0, False, sums)


# ---- one step of the units of one row: a is W x + b, u is R h + d ----


# Loops are short ones over few arrays: LLVM vectorises none that has to look at more than some eight pairs of them
# for whether they overlap.


@compiled
def _copy(x, to):
    for j in range(to.size):
        to[j] = x[j]


@compiled
def _sigmoids(a, u, y):
    for j in range(y.size):
        y[j] = gate_sigmoid(a[j] + u[j])


@compiled
def _tanhs(a, u, y):
    for j in range(y.size):
        y[j] = gate_tanh(a[j] + u[j])


@compiled
def _add_products(x, y, to):
    for j in range(to.size):
        to[j] += x[j] * y[j]


@compiled
def _lstm(a, u, peephole, c, gates, c_next, h, hidden):
    two, three = 2 * hidden, 3 * hidden
    i, f, g, o = gates[:hidden], gates[hidden:two], gates[two:three], gates[three : 4 * hidden]
    if peephole.size:
        _add_products(peephole[:hidden], c, u[:hidden])
        _add_products(peephole[hidden:two], c, u[hidden:two])
    _sigmoids(a[:two], u[:two], gates[:two])
    _tanhs(a[two:three], u[two:three], g)
    for j in range(c_next.size):
        c_next[j] = f[j] * c[j] + i[j] * g[j]
    if peephole.size:
        _add_products(peephole[two:three], c_next, u[three : 4 * hidden])
    _sigmoids(a[three : 4 * hidden], u[three : 4 * hidden], o)
    for j in range(h.size):
        h[j] = o[j] * gate_tanh(c_next[j])


@compiled
def _lstm_gradients(g, gates, c_next, c, peephole, g_cell, a, p_grads, room, hidden):
    """g_cell: the gradient in the cell after, and in the end before."""
    one, two, three = like(1.0, g[0]), 2 * hidden, 3 * hidden
    i, f, new, o = gates[:hidden], gates[hidden:two], gates[two:three], gates[three : 4 * hidden]
    a_i, a_f, a_new, a_o = a[:hidden], a[hidden:two], a[two:three], a[three : 4 * hidden]
    for j in range(room.size):
        room[j] = gate_tanh(c_next[j])
    for j in range(a_o.size):
        a_o[j] = g[j] * room[j] * o[j] * (one - o[j])
    for j in range(g_cell.size):
        g_cell[j] += g[j] * o[j] * (one - room[j] * room[j])
    if peephole.size:
        _add_products(a_o, peephole[two:three], g_cell)
    for j in range(a_i.size):
        a_i[j] = g_cell[j] * new[j] * i[j] * (one - i[j])
    for j in range(a_f.size):
        a_f[j] = g_cell[j] * c[j] * f[j] * (one - f[j])
    for j in range(a_new.size):
        a_new[j] = g_cell[j] * i[j] * (one - new[j] * new[j])
    for j in range(g_cell.size):
        g_cell[j] *= f[j]
    if peephole.size:
        _add_products(a_i, peephole[:hidden], g_cell)
        _add_products(a_f, peephole[hidden:two], g_cell)
        _add_products(a_i, c, p_grads[:hidden])
        _add_products(a_f, c, p_grads[hidden:two])
        _add_products(a_o, c_next, p_grads[two:three])


@compiled
def _gru(a, u, h_before, gates, h, hidden):
    one, two, three = like(1.0, a[0]), 2 * hidden, 3 * hidden
    r, z, n, kept = gates[:hidden], gates[hidden:two], gates[two:three], gates[three : 4 * hidden]
    a_n, u_n = a[two:three], u[two:three]
    _sigmoids(a[:two], u[:two], gates[:two])
    for j in range(n.size):
        n[j] = gate_tanh(a_n[j] + r[j] * u_n[j])
    for j in range(kept.size):
        kept[j] = u_n[j]
    for j in range(h.size):
        h[j] = (one - z[j]) * n[j] + z[j] * h_before[j]


@compiled
def _gru_gradients(g, gates, h_before, a, u, kept, hidden):
    one, two, three = like(1.0, g[0]), 2 * hidden, 3 * hidden
    r, z, n, of = gates[:hidden], gates[hidden:two], gates[two:three], gates[three : 4 * hidden]
    a_r, a_z, a_n, u_n = a[:hidden], a[hidden:two], a[two:three], u[two:three]
    for j in range(a_z.size):
        a_z[j] = g[j] * (h_before[j] - n[j]) * z[j] * (one - z[j])
    for j in range(a_n.size):
        a_n[j] = g[j] * (one - z[j]) * (one - n[j] * n[j])
    for j in range(a_r.size):
        a_r[j] = a_n[j] * of[j] * r[j] * (one - r[j])
    for j in range(two):
        u[j] = a[j]
    for j in range(u_n.size):
        u_n[j] = a_n[j] * r[j]
    for j in range(kept.size):
        kept[j] = g[j] * z[j]


@compiled
def _rnn(a, u, h, relu):
    zero = like(0.0, a[0])
    if relu:
        for j in range(h.size):
            v = a[j] + u[j]
            h[j] = zero if v < zero else v
    else:
        for j in range(h.size):
            h[j] = gate_tanh(a[j] + u[j])


@compiled
def _plus(x, bias):
    for j in range(bias.size):
        x[j] += bias[j]


# ---- all steps of one layer in one direction ----


class Rows(NamedTuple):
    """Step t of the sequence order[i] is row first[t] + i, for i < active[t]: longer sequences come first."""

    order: Any
    active: Any
    first: Any
    lengths: Any
    """In that order."""


@compiled
def _forward(
    kind, a, weights, weights_n, projection, bias_hh, peephole, active, first, backwards, h, c, gates, c_rows, h_rows,
    h_column, h_row, hidden, output,
):  # fmt: skip
    """h, c [batch, ...]: the states before, and in the end after. gates, c_rows, h_rows are written, row by row."""
    steps, batch = active.size, h.size // output
    count = 4 if kind == LSTM else 1 if kind < LSTM else 3
    saved = 4 if kind in (LSTM, GRU) else 3 if kind == GRU_RESET_FIRST else 0
    product_of = 2 if kind == GRU_RESET_FIRST else count  # gates whose product is known before the cell
    u = cleared(batch * count * hidden, a.dtype)
    sums = scratch_sums(a)
    outputs, of_reset = scratch(batch * hidden, a.dtype), scratch(batch * hidden, a.dtype)
    for step in range(steps):
        t = steps - 1 - step if backwards else step
        rows = active[t]
        if rows == 0:
            continue
        _times(h, 0, output, rows, weights, output, product_of * hidden, u, 0, count * hidden, sums)
        if kind == GRU_RESET_FIRST:
            for i in range(rows):
                row, of = first[t] + i, u[i * count * hidden : (i + 1) * count * hidden]
                _plus(of[: 2 * hidden], bias_hh[: 2 * hidden])
                given = a[row * count * hidden : (row + 1) * count * hidden]
                to, before = gates[row * saved * hidden : (row + 1) * saved * hidden], h[i * hidden : (i + 1) * hidden]
                reset = of_reset[i * hidden : (i + 1) * hidden]
                for j in range(hidden):
                    r = gate_sigmoid(given[j] + of[j])
                    to[j], to[hidden + j] = r, gate_sigmoid(given[hidden + j] + of[hidden + j])
                    reset[j] = r * before[j]
            _times(of_reset, 0, hidden, rows, weights_n, hidden, hidden, u, 2 * hidden, count * hidden, sums)
        for i in range(rows):
            row, of = first[t] + i, u[i * count * hidden : (i + 1) * count * hidden]
            given = a[row * count * hidden : (row + 1) * count * hidden]
            state = h[i * output : (i + 1) * output]
            to = outputs[i * hidden : (i + 1) * hidden]
            if kind == LSTM:
                _plus(of, bias_hh)
                cell, next_ = c[i * hidden : (i + 1) * hidden], c_rows[row * hidden : (row + 1) * hidden]
                _lstm(given, of, peephole, cell, gates[row * 4 * hidden : (row + 1) * 4 * hidden], next_, to, hidden)
                _copy(next_, cell)
            elif kind == GRU:
                _plus(of, bias_hh)
                _gru(given, of, state, gates[row * 4 * hidden : (row + 1) * 4 * hidden], to, hidden)
            elif kind == GRU_RESET_FIRST:
                _plus(of[2 * hidden :], bias_hh[2 * hidden :])
                own, one = gates[row * 3 * hidden : (row + 1) * 3 * hidden], like(1.0, a[0])
                for j in range(hidden):
                    n = gate_tanh(given[2 * hidden + j] + of[2 * hidden + j])
                    own[2 * hidden + j] = n
                    to[j] = (one - own[hidden + j]) * n + own[hidden + j] * state[j]
            else:
                _plus(of, bias_hh)
                _rnn(given, of, to, kind == RNN_RELU)
        if projection.size:
            _times(outputs, 0, hidden, rows, projection, hidden, output, h, 0, output, sums)
        else:
            for i in range(rows):
                state, to = h[i * output : (i + 1) * output], outputs[i * output : (i + 1) * output]
                _copy(to, state)
        for i in range(rows):
            at = (first[t] + i) * h_row + h_column
            state, to = h[i * output : (i + 1) * output], h_rows[at : at + output]
            _copy(state, to)
    release((u, sums, outputs, of_reset))


@compiled
def _backward(
    kind, grad_rows, g_column, g_row, weights, weights_n, projection, peephole, active, first, lengths, backwards, g_h,
    g_c, h_before, c_before, gates, c_rows, h_rows, h_column, h_row, a_grads, u_grads, p_grads, grad_hidden, norms,
    truncate, hidden, output,
):  # fmt: skip
    """g_h, g_c [batch, ...]: gradients in the states after, and in the end before. Written, row by row: a_grads and
    u_grads, in W x + b and in R h + d; grad_hidden, in what a projection was given. h_before, c_before: of each row."""
    steps, one, zero = active.size, like(1.0, g_h[0]), like(0.0, g_h[0])
    count = 4 if kind == LSTM else 1 if kind < LSTM else 3
    product_of = 2 if kind == GRU_RESET_FIRST else count
    batch = g_h.size // output
    sums = scratch_sums(g_h)
    through, room = scratch(batch * hidden, g_h.dtype), scratch(hidden, g_h.dtype)
    before, of_reset = scratch(batch * output, g_h.dtype), scratch(batch * hidden, g_h.dtype)
    for step in range(steps):
        t = step if backwards else steps - 1 - step
        rows = active[t]
        if rows == 0:
            continue
        square = 0.0
        for i in range(rows):
            at = (first[t] + i) * g_row + g_column
            state, given = g_h[i * output : (i + 1) * output], grad_rows[at : at + output]
            for j in range(output):
                state[j] += given[j]
            if norms.size:
                for j in range(output):
                    square += np.float64(state[j]) * np.float64(state[j])
            to = grad_hidden[(first[t] + i) * output : (first[t] + i + 1) * output]
            _copy(state, to)
        if norms.size:
            norms[t] = np.sqrt(square)
        if projection.size:
            _times(g_h, 0, output, rows, projection, output, hidden, through, 0, hidden, sums)
        else:
            _copy(g_h[: rows * hidden], through[: rows * hidden])
        for i in range(rows):
            row, g = first[t] + i, through[i * hidden : (i + 1) * hidden]
            a = a_grads[row * count * hidden : (row + 1) * count * hidden]
            if kind == LSTM:
                own, next_ = gates[row * 4 * hidden : (row + 1) * 4 * hidden], c_rows[row * hidden : (row + 1) * hidden]
                past, g_cell = c_before[row * hidden : (row + 1) * hidden], g_c[i * hidden : (i + 1) * hidden]
                _lstm_gradients(g, own, next_, past, peephole, g_cell, a, p_grads, room, hidden)
            elif kind == GRU:
                own, past = (
                    gates[row * 4 * hidden : (row + 1) * 4 * hidden],
                    h_before[row * hidden : (row + 1) * hidden],
                )
                u, kept = u_grads[row * 3 * hidden : (row + 1) * 3 * hidden], g_h[i * hidden : (i + 1) * hidden]
                _gru_gradients(g, own, past, a, u, kept, hidden)
            elif kind == GRU_RESET_FIRST:
                own, past = (
                    gates[row * 3 * hidden : (row + 1) * 3 * hidden],
                    h_before[row * hidden : (row + 1) * hidden],
                )
                kept = g_h[i * hidden : (i + 1) * hidden]
                for j in range(hidden):
                    z, n = own[hidden + j], own[2 * hidden + j]
                    a[hidden + j] = g[j] * (past[j] - n) * z * (one - z)
                    a[2 * hidden + j] = g[j] * (one - z) * (one - n * n)
                    kept[j] = g[j] * z
            else:
                y = h_rows[row * h_row + h_column : row * h_row + h_column + hidden]
                if kind == RNN_RELU:
                    for j in range(hidden):
                        a[j] = zero if y[j] <= zero else g[j]
                else:
                    for j in range(hidden):
                        a[j] = g[j] * (one - y[j] * y[j])
        start = first[t] * count * hidden
        if kind == GRU_RESET_FIRST:
            _times(
                a_grads, start + 2 * hidden, count * hidden, rows, weights_n, hidden, hidden, of_reset, 0, hidden, sums,
            )  # fmt: skip
            for i in range(rows):
                row, d = first[t] + i, of_reset[i * hidden : (i + 1) * hidden]
                own, past = (
                    gates[row * 3 * hidden : (row + 1) * 3 * hidden],
                    h_before[row * hidden : (row + 1) * hidden],
                )
                a = a_grads[row * count * hidden : (row + 1) * count * hidden]
                kept = g_h[i * hidden : (i + 1) * hidden]
                for j in range(hidden):
                    a[j] = d[j] * past[j] * own[j] * (one - own[j])
                    kept[j] += d[j] * own[j]
        of_states = u_grads if kind == GRU else a_grads
        _times(of_states, start, count * hidden, rows, weights, product_of * hidden, output, before, 0, output, sums)
        for i in range(rows):
            state, d = g_h[i * output : (i + 1) * output], before[i * output : (i + 1) * output]
            if kind in (GRU, GRU_RESET_FIRST):
                for j in range(output):
                    state[j] += d[j]
            else:
                _copy(d, state)
            done = lengths[i] - 1 - t if backwards else t
            if truncate > 0 and done > 0 and done % truncate == 0:
                state[:] = zero
                if kind == LSTM:
                    g_c[i * hidden : (i + 1) * hidden] = zero
    release((sums, through, room, before, of_reset))


@compiled
def _before(rows_of, states, row, column, width, active, first, backwards, out):
    """out [rows, width] = what each row's step was given: the state of the row before it in time, or that at first."""
    steps = active.size
    for t in range(steps):
        past = t + 1 if backwards else t - 1
        known = active[past] if 0 <= past < steps else 0
        for i in range(active[t]):
            to = out[(first[t] + i) * width : (first[t] + i + 1) * width]
            if i < known:
                at = (first[past] + i) * row + column
                _copy(rows_of[at : at + width], to)
            else:
                _copy(states[i * width : (i + 1) * width], to)


@compiled
def _dropout(x, y, order, active, first, layer, steps, batch, width, limit, seed, offset, scale):
    words_of_row = (width + 3) // 4
    words = scratch(4 * words_of_row, np.uint32)
    factor, zero = like(scale, x[0]), like(0.0, x[0])
    for t in range(steps):
        for i in range(active[t]):
            row, number = first[t] + i, (layer * steps + t) * batch + order[i]
            philox(seed, offset + number * words_of_row, words)
            given, to = x[row * width : (row + 1) * width], y[row * width : (row + 1) * width]
            for j in range(width):
                to[j] = factor * given[j] if np.int64(words[j]) < limit else zero * given[j]
    release(words)


# ---- stacks ----


class Unit(NamedTuple):
    """The weights of one layer in one direction, or their gradients; what there is not has no elements."""

    weight_ih: Any
    weight_hh: Any
    bias_ih: Any
    bias_hh: Any
    weight_hr: Any
    peephole: Any


def _units(r, arrays, column, none):
    found = columns(arrays, column, none.dtype)
    each, count = 2 + 2 * r.biases + r.projection, r.layers * r.directions
    units = []
    for i in range(count):
        own = found[i * each : (i + 1) * each]
        biases, projection = own[2:4] if r.biases else (none, none), own[-1] if r.projection else none
        units.append(Unit(own[0], own[1], *biases, projection, found[count * each + i] if r.peepholes else none))
    return units


@lru_cache(64)
def _same_lengths(steps, batch, batch_first):
    """The schedule of sequences of all the steps; None where the rows are those of x."""
    rows, place = _sorted_schedule(np.full(batch, steps, np.int64), steps, batch, batch_first)
    return rows, None if not batch_first or batch == 1 or steps == 1 else place


def _schedule(r, lengths):
    """The rows, and where each is among those of x."""
    if not lengths.size:
        return _same_lengths(r.steps, r.batch, r.batch_first)
    if lengths.min() < 1 or lengths.max() > r.steps:
        return None, None
    return _sorted_schedule(lengths, r.steps, r.batch, r.batch_first)


def _sorted_schedule(own, steps, batch, batch_first):
    order = np.argsort(-own, kind="stable")
    t = np.arange(steps if batch else 0)[:, None]
    is_there = own[order] > t
    active = is_there.sum(1) if batch else np.zeros(steps, np.int64)
    first = np.cumsum(active) - active
    place = (order * steps + t if batch_first else order + t * batch)[is_there]
    return Rows(order, active, first, own[order]), place


def _taken(x, place, width):
    """The rows [width] of x in the order of the schedule, flat."""
    return x if place is None else x.reshape(-1, width)[place].reshape(-1)


def _put(rows, place, width, to):
    """The other way; zeros where there are none."""
    if place is None:
        to[:] = rows
    else:
        to[:] = 0
        to.reshape(-1, width)[place] = rows.reshape(-1, width)


def _parts(r, saved, rows):
    """Of what is saved, for each layer: gates and c of each direction, and h."""
    parts, at = [], 0

    def take(size):
        nonlocal at
        at += size
        return saved[at - size : at]

    for _ in range(r.layers):
        gates = [take(rows * SAVED[r.kind] * r.hidden) for _ in range(r.directions)]
        c = [take(rows * r.hidden if r.kind == LSTM else 0) for _ in range(r.directions)]
        parts.append((gates, c, take(rows * r.directions * r.output)))
    return parts


def _saved_size(r, rows):
    per_row = (SAVED[r.kind] + (r.kind == LSTM)) * r.hidden + r.output
    return r.layers * r.directions * rows * per_row


def _sorted(states, r, unit, size, order):
    """In the order of the rows; zeros where there are none."""
    if not states.size:
        return np.zeros(r.batch * size, states.dtype)
    if r.batch == 1:
        return states[unit * size : (unit + 1) * size].copy()
    return np.ascontiguousarray(states.reshape(-1, r.batch, size)[unit][order]).reshape(-1)


def _back(states, to, r, unit, size, order):
    if to.size and r.batch == 1:
        to[unit * size : (unit + 1) * size] = states
    elif to.size:
        to.reshape(-1, r.batch, size)[unit][order] = states.reshape(r.batch, size)


def _between(r, layer, x, rows, keep, seed, offset):
    """What dropout makes of a layer's output, or of its gradient."""
    if keep == 1 or layer == r.layers - 1 or not x.size:
        return x
    y, limit = np.empty_like(x), int(np.rint(keep * 2.0**32))
    arguments = (
        rows.order,
        rows.active,
        rows.first,
        layer,
        r.steps,
        r.batch,
        r.directions * r.output,
        limit,
        seed,
        offset,
    )
    _dropout(x, y, *arguments, 1 / keep if keep > 0 else 0.0)
    return y


def _packed(weight, r, rows, columns_, back=False):
    """Of weight_hh and weight_hr: the part that `rows` says, for states (or, back, for the gradients of gates)."""
    k, n = (rows, columns_) if back else (columns_, rows)
    return packed_weights(weight, (columns_, 1) if back else (1, columns_), k, n)


def _backwards(r, d):
    return d == 1 or bool(r.reverse)


@kernel
def recurrent(x, arrays, lengths, h0, c0, output, h_n, c_n, saved, r, keep, seed, offset):
    if r.steps > MOST_STEPS:
        return OUT_OF_MEMORY
    rows, place = _schedule(r, lengths)
    if rows is None:
        return BAD_LENGTH
    total, gates = int(rows.active.sum()), GATES[r.kind]
    none = x[:0]
    units = _units(r, arrays, 0, none)
    memory = saved if saved.size else np.empty(_saved_size(r, total), x.dtype)
    given = _taken(x, place, r.input)
    whole = 2 * r.hidden if r.kind == GRU_RESET_FIRST else gates * r.hidden
    for layer, (of_gates, c_rows, h_rows) in enumerate(_parts(r, memory, total)):
        width = r.input if layer == 0 else r.directions * r.output

        def one(begin, end, layer=layer, of_gates=of_gates, c_rows=c_rows, h_rows=h_rows, width=width, given=given):
            for d in range(begin, end):
                u = layer * r.directions + d
                unit = units[u]
                a = np.empty(total * gates * r.hidden, x.dtype)
                shape = total, gates * r.hidden, width
                product(given, (width, 1), unit.weight_ih, (1, width), unit.bias_ih, a, *shape)
                h = _sorted(h0 if h0.size else none, r, u, r.output, rows.order)
                c = _sorted(c0 if c0.size else none, r, u, r.hidden, rows.order) if r.kind == LSTM else none
                weights = _packed(unit.weight_hh, r, whole, r.output)
                reset = unit.weight_hh[2 * r.hidden * r.output :]
                weights_n = _packed(reset, r, r.hidden, r.output) if r.kind == GRU_RESET_FIRST else none
                projection = _packed(unit.weight_hr, r, r.output, r.hidden) if r.projection else none
                if r.batch:
                    _forward(
                        r.kind, a, weights, weights_n, projection, unit.bias_hh, unit.peephole, rows.active, rows.first,
                        _backwards(r, d), h, c, of_gates[d], c_rows[d], h_rows, d * r.output, r.directions * r.output,
                        r.hidden, r.output,
                    )  # fmt: skip
                    _back(h, h_n, r, u, r.output, rows.order)
                    _back(c, c_n, r, u, r.hidden, rows.order)

        share(one, r.directions, 1)
        given = _between(r, layer, h_rows, rows, keep, seed, offset)
    _put(given, place, r.directions * r.output, output)
    return None


@kernel
def recurrent_backward(
    grad_output, grad_h_n, grad_c_n, x, arrays, lengths, h0, c0, saved, grad_x, grad_h0, grad_c0, state_grad_norms, r,
    keep, seed, offset, truncate,
):  # fmt: skip
    if r.steps > MOST_STEPS:
        return OUT_OF_MEMORY
    rows, place = _schedule(r, lengths)
    if rows is None:
        return BAD_LENGTH
    total, gates = int(rows.active.sum()), GATES[r.kind]
    none = x[:0]
    units, grads = _units(r, arrays, 0, none), _units(r, arrays, 1, none)
    parts, out_width = _parts(r, saved, total), r.directions * r.output
    g_rows = _taken(grad_output, place, out_width)
    whole = 2 * r.hidden if r.kind == GRU_RESET_FIRST else gates * r.hidden
    state_grad_norms[:] = 0
    for layer in reversed(range(r.layers)):
        of_gates, c_rows, h_rows = parts[layer]
        width = r.input if layer == 0 else out_width
        g_rows = _between(r, layer, g_rows, rows, keep, seed, offset)
        if layer == 0:
            given = _taken(x, place, r.input)
        else:
            given = _between(r, layer - 1, parts[layer - 1][2], rows, keep, seed, offset)
        wanted = layer > 0 or grad_x.size > 0
        of_x = [np.empty(total * width if wanted else 0, x.dtype) for _ in range(r.directions)]

        def one(
            begin, end, layer=layer, of_gates=of_gates, c_rows=c_rows, h_rows=h_rows, width=width, given=given,
            of_x=of_x, g_rows=g_rows,
        ):  # fmt: skip
            for d in range(begin, end):
                u, back = layer * r.directions + d, _backwards(r, d)
                unit, to = units[u], grads[u]
                g_h = _sorted(grad_h_n if grad_h_n.size else none, r, u, r.output, rows.order)
                g_c = (
                    _sorted(grad_c_n if grad_c_n.size else none, r, u, r.hidden, rows.order) if r.kind == LSTM else none
                )
                first_h = _sorted(h0 if h0.size else none, r, u, r.output, rows.order)
                h_before = np.empty(total * r.output, x.dtype)
                _before(h_rows, first_h, out_width, d * r.output, r.output, rows.active, rows.first, back, h_before)
                c_before = np.empty(total * r.hidden if r.kind == LSTM else 0, x.dtype)
                if r.kind == LSTM:
                    first_c = _sorted(c0 if c0.size else none, r, u, r.hidden, rows.order)
                    _before(c_rows[d], first_c, r.hidden, 0, r.hidden, rows.active, rows.first, back, c_before)
                a_grads = np.empty(total * gates * r.hidden, x.dtype)
                u_grads = np.empty_like(a_grads) if r.kind == GRU else a_grads
                p_grads = np.zeros(3 * r.hidden if r.peepholes else 0)
                of_hidden = np.empty(total * r.output, x.dtype)
                reset = unit.weight_hh[2 * r.hidden * r.output :]
                weights = _packed(unit.weight_hh, r, whole, r.output, back=True)
                weights_n = _packed(reset, r, r.hidden, r.output, back=True) if r.kind == GRU_RESET_FIRST else none
                projection = _packed(unit.weight_hr, r, r.output, r.hidden, back=True) if r.projection else none
                norms = state_grad_norms[u * r.steps : (u + 1) * r.steps] if state_grad_norms.size else none
                if r.batch:
                    _backward(
                        r.kind, g_rows, d * r.output, out_width, weights, weights_n, projection, unit.peephole,
                        rows.active, rows.first, rows.lengths, back, g_h, g_c, h_before, c_before, of_gates[d],
                        c_rows[d], h_rows, d * r.output, out_width, a_grads, u_grads, p_grads, of_hidden, norms,
                        truncate, r.hidden, r.output,
                    )  # fmt: skip
                    _back(g_h, grad_h0, r, u, r.output, rows.order)
                    _back(g_c, grad_c0, r, u, r.hidden, rows.order)
                _weight_gradients(r, unit, to, given, width, total, a_grads, u_grads, h_before, of_gates[d])
                if r.projection:
                    outputs = _outputs(of_gates[d], c_rows[d], total, r.hidden)
                    product(
                        of_hidden, (1, r.output), outputs, (r.hidden, 1), none, to.weight_hr, r.output, r.hidden, total
                    )
                if r.peepholes:
                    to.peephole[:] = p_grads
                if of_x[d].size:
                    shape = total, width, gates * r.hidden
                    product(a_grads, (gates * r.hidden, 1), unit.weight_ih, (width, 1), none, of_x[d], *shape)

        share(one, r.directions, 1)
        g_rows = of_x[0] if r.directions == 1 else of_x[0] + of_x[1]
    if grad_x.size:
        _put(g_rows, place, r.input, grad_x)
    return None


def _outputs(gates, c, rows, hidden):
    """What an LSTM's projection was given: o tanh(c)."""
    return np.ascontiguousarray(gates.reshape(rows, 4, hidden)[:, 3] * np.tanh(c.reshape(rows, hidden))).reshape(-1)


def _weight_gradients(r, unit, to, given, width, rows, a_grads, u_grads, h_before, gates):
    count, none = GATES[r.kind] * r.hidden, np.empty(0, given.dtype)
    product(a_grads, (1, count), given, (width, 1), none, to.weight_ih, count, width, rows)
    if r.kind == GRU_RESET_FIRST:
        split = 2 * r.hidden * r.output
        product(a_grads, (1, count), h_before, (r.output, 1), none, to.weight_hh[:split], 2 * r.hidden, r.output, rows)
        seen = np.ascontiguousarray(gates.reshape(rows, 3, r.hidden)[:, 0] * h_before.reshape(rows, r.hidden)).reshape(
            -1
        )
        last = a_grads[2 * r.hidden :]
        product(last, (1, count), seen, (r.output, 1), none, to.weight_hh[split:], r.hidden, r.output, rows)
    else:
        product(u_grads, (1, count), h_before, (r.output, 1), none, to.weight_hh, count, r.output, rows)
    if to.bias_ih.size:
        column_sums(a_grads, rows, count, to.bias_ih)
        column_sums(u_grads, rows, count, to.bias_hh)


# ---- cells: one step of one layer ----


def _cell(kind, batch, input_, hidden):
    """As a stack of one layer and one step."""
    return _kernels.Recurrence(kind, 1, batch, input_, hidden, hidden, 1, 1, 0, 0, 1, 0, 0)


def _one_step(x, h, c, weights, h_next, c_next, batch, input_, hidden, kind):
    """`weights`: a Unit; what is saved, for a backward."""
    r, count = _cell(kind, batch, input_, hidden), GATES[kind] * hidden
    none, a = np.empty(0, x.dtype), np.empty(batch * count, x.dtype)
    product(x, (input_, 1), weights.weight_ih, (1, input_), weights.bias_ih, a, batch, count, input_)
    gates, c_rows = np.empty(batch * SAVED[kind] * hidden, x.dtype), np.empty(batch * hidden * (kind == LSTM), x.dtype)
    state, cell = h.copy(), c.copy()
    whole = 2 * hidden if kind == GRU_RESET_FIRST else count
    packed = _packed(weights.weight_hh, r, whole, hidden)
    packed_n = _packed(weights.weight_hh[2 * hidden * hidden :], r, hidden, hidden) if kind == GRU_RESET_FIRST else none
    one, start = np.array([batch]), np.zeros(1, np.int64)
    arguments = none, weights.bias_hh, none, one, start, False, state, cell, gates, c_rows, h_next
    _forward(kind, a, packed, packed_n, *arguments, 0, hidden, hidden, hidden)
    if c_next.size:
        c_next[:] = cell
    return gates, c_rows


@kernel
def recurrent_cell(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh, h_next, c_next, batch, input_, hidden, kind):
    if batch:
        none = np.empty(0, x.dtype)
        unit = Unit(weight_ih, weight_hh, bias_ih, bias_hh, none, none)
        _one_step(x, h, c, unit, h_next, c_next, batch, input_, hidden, kind)


@kernel
def recurrent_cell_backward(
    grad_h_next, grad_c_next, x, h, c, weight_ih, weight_hh, bias_ih, bias_hh, grad_x, grad_h, grad_c, grad_weight_ih,
    grad_weight_hh, grad_bias_ih, grad_bias_hh, batch, input_, hidden, kind,
):  # fmt: skip
    r, count, none = _cell(kind, batch, input_, hidden), GATES[kind] * hidden, np.empty(0, x.dtype)
    unit = Unit(weight_ih, weight_hh, bias_ih, bias_hh, none, none)
    a_grads = np.empty(batch * count, x.dtype)
    u_grads = np.empty_like(a_grads) if kind == GRU else a_grads
    gates = none
    if batch:
        after, cells = np.empty_like(h), np.empty_like(c)
        gates, c_rows = _one_step(x, h, c, unit, after, cells, batch, input_, hidden, kind)
        whole = 2 * hidden if kind == GRU_RESET_FIRST else count
        packed = _packed(weight_hh, r, whole, hidden, back=True)
        reset = weight_hh[2 * hidden * hidden :]
        packed_n = _packed(reset, r, hidden, hidden, back=True) if kind == GRU_RESET_FIRST else none
        g_h, g_c = np.zeros_like(h), grad_c_next.copy() if grad_c_next.size else np.zeros_like(c)
        one, start = np.array([batch]), np.zeros(1, np.int64)
        _backward(
            kind, grad_h_next, 0, hidden, packed, packed_n, none, none, one, start, one, False, g_h, g_c, h, c, gates,
            c_rows, after, 0, hidden, a_grads, u_grads, np.zeros(0), np.empty_like(h), none, 0, hidden, hidden,
        )  # fmt: skip
        grad_h[:] = g_h
        if grad_c.size:
            grad_c[:] = g_c
    to = Unit(grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh, none, none)
    _weight_gradients(r, unit, to, x, input_, batch, a_grads, u_grads, h, gates)
    product(a_grads, (count, 1), weight_ih, (input_, 1), none, grad_x, batch, input_, count)


@kernel
def recurrent_step(x, packed, h, c, h_next, c_next, batch, input_, hidden, kind):
    """In NumPy's layout of the weights."""
    cells = (c, c_next) if c.size else (None, None)
    return IN_NUMPY["recurrent_step"](x, packed, h, cells[0], h_next, cells[1], batch, input_, hidden, kind)
