"""Recurrent networks: one loop over time for all kinds, forwards and backwards, around the formulas of one step.

A step keeps what its backward needs in a _Step; nothing of that is handed out. `saved`, whose layout is each
implementation's own, is therefore full of NaN here, and the backwards make all steps again.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastdl import functional
from fastdl._kernels import RECURRENT_GRU as GRU
from fastdl._kernels import RECURRENT_GRU_RESET_FIRST as GRU_RESET_FIRST
from fastdl._kernels import RECURRENT_LSTM as LSTM
from fastdl._kernels import RECURRENT_RNN_RELU as RNN_RELU
from fastdl.functional.recurrent._shared import NONLINEARITIES
from fastdl.functional.recurrent.cell import CellGrad, LSTMCellGrad
from fastdl.functional.recurrent.lstm import LSTMGrad
from fastdl.functional.recurrent.rnn import RecurrentGrad
from fastdl.functional.verbs import Array
from fastdl.reference._implements import implements
from fastdl.reference._window import fill
from fastdl.reference.activation import sigmoid
from fastdl.reference.regularization import kept

__all__ = [
    "gru",
    "gru_backward",
    "gru_cell",
    "gru_cell_backward",
    "lstm",
    "lstm_backward",
    "lstm_cell",
    "lstm_cell_backward",
    "rnn",
    "rnn_backward",
    "rnn_cell",
    "rnn_cell_backward",
]

_SAVED = {LSTM: 5, GRU: 4, GRU_RESET_FIRST: 3}


class _Unit(NamedTuple):
    """One layer in one direction, or a cell."""

    kind: int
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None = None
    bias_hh: Array | None = None
    weight_hr: Array | None = None
    peepholes: Array | None = None


class _Step(NamedTuple):
    """What a step was given and what it found. h, c: before it; `gates` in the order of the weights' rows."""

    x: Array
    h: Array
    c: Array
    gates: tuple[Array, ...]
    c_next: Array
    hidden: Array
    """h' before the projection."""
    seen: Array
    """What the last gate's rows of weight_hh are multiplied with: h, or r * h."""
    product: Array
    """That product and its bias."""


class _StepGrad(NamedTuple):
    x: Array
    h: Array
    c: Array
    input_part: Array
    """In W x + b."""
    hidden_part: Array
    """In R h + d."""
    output: Array
    """What was given, in h'."""


# ---- one step: x (batch, in), h (batch, out), c (batch, hidden), without columns where there is no such state ----


def _step(unit: _Unit, x: Array, h: Array, c: Array) -> tuple[Array, Array, _Step]:
    """h', c' and what the backward needs."""
    kind, gates = unit.kind, len(unit.weight_ih) // _hidden(unit)
    from_x, from_h = x @ unit.weight_ih.T, h @ unit.weight_hh.T
    if unit.bias_ih is not None:
        from_x, from_h = from_x + unit.bias_ih, from_h + unit.bias_hh
    a, u = np.split(from_x, gates, 1), np.split(from_h, gates, 1)
    seen, c_next = h, c
    found: tuple[Array, ...]
    if kind == LSTM:
        i, f, g, o = (first + second for first, second in zip(a, u, strict=True))
        p = None if unit.peepholes is None else np.split(unit.peepholes, 3)  # (not 0, which makes NaN of infinity)
        if p is not None:
            i, f = i + p[0] * c, f + p[1] * c
        i, f, g = sigmoid(i), sigmoid(f), np.tanh(g)
        c_next = f * c + i * g
        if p is not None:
            o = o + p[2] * c_next
        o = sigmoid(o)
        found, hidden = (i, f, g, o), o * np.tanh(c_next)
    elif kind in (GRU, GRU_RESET_FIRST):
        r, z = sigmoid(a[0] + u[0]), sigmoid(a[1] + u[1])
        if kind == GRU:
            n = np.tanh(a[2] + r * u[2])
        else:
            seen = r * h
            n = np.tanh(a[2] + seen @ np.split(unit.weight_hh, 3)[2].T + _last(unit.bias_hh, 3))
        found, hidden = (r, z, n), (1 - z) * n + z * h
    else:
        hidden = np.maximum(a[0] + u[0], 0) if kind == RNN_RELU else np.tanh(a[0] + u[0])
        found = (hidden,)
    h_next = hidden if unit.weight_hr is None else hidden @ unit.weight_hr.T
    return h_next, c_next, _Step(x, h, c, found, c_next, hidden, seen, u[-1])


def _step_backward(unit: _Unit, step: _Step, grad_h: Array, grad_c: Array) -> _StepGrad:
    """From the gradients in h' and c'."""
    kind, h, c = unit.kind, step.h, step.c
    g_h = grad_h if unit.weight_hr is None else grad_h @ unit.weight_hr
    weight_hh, to_c = unit.weight_hh, grad_c
    to_h: Any = 0
    parts: tuple[Array, ...]
    hidden_parts: tuple[Array, ...]
    if kind == LSTM:
        i, f, g, o = step.gates
        p = None if unit.peepholes is None else np.split(unit.peepholes, 3)
        t = np.tanh(step.c_next)
        g_o = g_h * t * o * (1 - o)
        g_c = grad_c + g_h * o * (1 - t * t)
        if p is not None:
            g_c = g_c + p[2] * g_o
        g_i, g_f, g_g = g_c * g * i * (1 - i), g_c * c * f * (1 - f), g_c * i * (1 - g * g)
        parts = hidden_parts = (g_i, g_f, g_g, g_o)
        to_c = g_c * f
        if p is not None:
            to_c = to_c + p[0] * g_i + p[1] * g_f
    elif kind in (GRU, GRU_RESET_FIRST):
        r, z, n = step.gates
        g_n, g_z = g_h * (1 - z) * (1 - n * n), g_h * (h - n) * z * (1 - z)
        to_h = g_h * z
        if kind == GRU:
            g_r, through = g_n * step.product * r * (1 - r), g_n * r
        else:
            g_seen = g_n @ np.split(weight_hh, 3)[2]
            g_r, through = g_seen * h * r * (1 - r), g_n
            to_h = to_h + g_seen * r
            weight_hh = np.concatenate(np.split(weight_hh, 3)[:2])
        parts, hidden_parts = (g_r, g_z, g_n), (g_r, g_z, through)
    else:
        h_next = step.hidden  # (of relu, NaN lets the gradient through; where nothing goes through, no NaN does)
        parts = hidden_parts = (np.where(h_next <= 0, 0, g_h) if kind == RNN_RELU else g_h * (1 - h_next**2),)
    input_part, hidden_part = np.concatenate(parts, 1), np.concatenate(hidden_parts, 1)
    to_h = to_h + hidden_part[:, : len(weight_hh)] @ weight_hh
    return _StepGrad(input_part @ unit.weight_ih, to_h, to_c, input_part, hidden_part, grad_h)


def _weight_grads(unit: _Unit, steps: list[_Step], grads: list[_StepGrad]) -> tuple[list[Array], list[Array]]:
    """The gradients of a unit's weights, in their order, and of its peepholes: of all steps' rows at once."""

    def rows(name: str, of: list[Any]) -> Array:
        return np.concatenate([getattr(step, name) for step in of])

    hidden = _hidden(unit)
    a, u = rows("input_part", grads), rows("hidden_part", grads)
    weights = [a.T @ rows("x", steps)]
    weights += [np.concatenate([u[:, :-hidden].T @ rows("h", steps), u[:, -hidden:].T @ rows("seen", steps)])]
    if unit.bias_ih is not None:
        weights += [a.sum(0), u.sum(0)]
    if unit.weight_hr is not None:
        weights.append(rows("output", grads).T @ rows("hidden", steps))
    if unit.peepholes is None:
        return weights, []
    i, f, _, o = np.split(a, 4, 1)
    c, c_next = rows("c", steps), rows("c_next", steps)
    return weights, [np.concatenate([(i * c).sum(0), (f * c).sum(0), (o * c_next).sum(0)])]


def _hidden(unit: _Unit) -> int:
    """A projection's columns; else as many units as numbers given on."""
    return unit.weight_hh.shape[1] if unit.weight_hr is None else unit.weight_hr.shape[1]


def _last(bias: Array | None, gates: int) -> Any:
    return 0 if bias is None else np.split(bias, gates)[-1]


# ---- all steps ----


class _Network:
    """The units of a stack, and how sequences go through it: (steps, batch, ...) inside, whatever x is."""

    def __init__(
        self,
        kind: int,
        x: Any,
        weights: Any,
        num_layers: int,
        bidirectional: bool,
        batch_first: bool,
        reverse: bool,
        lengths: Any,
        dropout: float,
        training: bool,
        seed: int,
        offset: int,
        peepholes: Any = None,
    ) -> None:
        self.one = x.ndim == 2
        """Whether there is a batch only in here: one sequence is given without."""
        self.batch_first, self.layers = batch_first and not self.one, num_layers
        self.x = self._steps_first(x)
        self.steps, self.batch, _ = self.x.shape
        self.directions = (True,) if reverse else (False, True)[: 1 + bidirectional]
        """For each: whether it goes from the end to the beginning."""
        self.lengths = np.full(self.batch, self.steps if lengths is None else lengths, np.int64)
        self.dropout, self.training, self.seed, self.offset = dropout, training, seed, offset
        count = num_layers * len(self.directions)
        each = len(weights) // count
        self.units = []
        for i in range(count):
            arrays = weights[i * each : (i + 1) * each]
            bias_ih, bias_hh = arrays[2:4] if each >= 4 else (None, None)
            projection, own = arrays[-1] if each % 2 else None, None if peepholes is None else peepholes[i]
            self.units.append(_Unit(kind, arrays[0], arrays[1], bias_ih, bias_hh, projection, own))
        self.hidden, self.output = _hidden(self.units[0]), weights[1].shape[1]
        self.cells = self.hidden if kind == LSTM else 0

    def zeros(self, size: int) -> Array:
        return np.zeros((len(self.units), self.batch, size), self.x.dtype)

    def saved(self) -> Array:
        """As large as fastdl's, and empty of meaning."""
        per_step = _SAVED.get(self.units[0].kind, 0) * self.hidden + self.output
        return np.full(len(self.units) * int(self.lengths.sum()) * per_step, np.nan, self.x.dtype)

    def forward(self, h0: Any, c0: Any) -> tuple[Array, Array, Array]:
        """output, h_n, c_n; and what the backward needs, kept in the object."""
        h = self.zeros(self.output) if h0 is None else self._batched(h0).copy()
        c = self.zeros(self.cells) if c0 is None else self._batched(c0).copy()
        self.history: list[dict[int, _Step]] = [{} for _ in self.units]
        y = self.x
        for layer in range(self.layers):
            given, y = y, np.zeros((self.steps, self.batch, len(self.directions) * self.output), self.x.dtype)
            for d, backwards in enumerate(self.directions):
                u = layer * len(self.directions) + d
                for t in self._times(backwards):
                    here = t < self.lengths
                    h[u, here], c[u, here], self.history[u][t] = _step(
                        self.units[u], given[t, here], h[u, here], c[u, here]
                    )
                    y[t, here, d * self.output : (d + 1) * self.output] = h[u, here]
            y = self._dropped(layer, y)
        return self._as_given(y), self._unbatched(h), self._unbatched(c)

    def backward(
        self, grad_output: Any, grad_h_n: Any, grad_c_n: Any, truncate: int, norms: Array | None
    ) -> tuple[Array, tuple[Array, ...], Array, Array, tuple[Array, ...]]:
        """The gradients in x, weights, h0, c0 and peepholes, after a forward."""
        g_y = self._steps_first(grad_output)
        g_h = self.zeros(self.output) if grad_h_n is None else self._batched(grad_h_n).copy()
        g_c = self.zeros(self.cells) if grad_c_n is None else self._batched(grad_c_n).copy()
        weights: list[Array] = []
        peepholes: list[Array] = []
        for layer in reversed(range(self.layers)):
            of_layer: list[Array] = []
            of_peepholes: list[Array] = []
            g_y = self._dropped(layer, g_y)
            width = self.units[layer * len(self.directions)].weight_ih.shape[1]
            g_x = np.zeros((self.steps, self.batch, width), self.x.dtype)
            for d, backwards in enumerate(self.directions):
                u = layer * len(self.directions) + d
                made: dict[int, _StepGrad] = {}
                for t in self._times(not backwards):
                    here = t < self.lengths
                    g_h[u, here] += g_y[t, here, d * self.output : (d + 1) * self.output]
                    if norms is not None:
                        norms[u, t] = np.linalg.norm(g_h[u, here])
                    made[t] = _step_backward(self.units[u], self.history[u][t], g_h[u, here], g_c[u, here])
                    g_x[t, here] += made[t].x
                    g_h[u, here], g_c[u, here] = made[t].h, made[t].c
                    if truncate:  # each sequence counts its own steps, whatever else is in the batch
                        done = self.lengths - 1 - t if backwards else np.full(self.batch, t)
                        cut = here & (done > 0) & (done % truncate == 0)
                        g_h[u, cut], g_c[u, cut] = 0, 0
                found = _weight_grads(self.units[u], list(self.history[u].values()), [made[t] for t in self.history[u]])
                of_layer += found[0]
                of_peepholes += found[1]
            weights, peepholes, g_y = of_layer + weights, of_peepholes + peepholes, g_x
        states = self._unbatched(g_h), self._unbatched(g_c)
        return self._as_given(g_y), tuple(weights), *states, tuple(peepholes)

    def _times(self, backwards: bool) -> Any:
        return reversed(range(self.steps)) if backwards else range(self.steps)

    def _dropped(self, layer: int, y: Array) -> Array:
        """What dropout makes of a layer's output or its gradient: each step and sample has a row of its own."""
        if not self.training or layer == self.layers - 1:
            return y
        width = len(self.directions) * self.output
        words = math.ceil(width / 4)
        rows = self.steps * self.batch
        keep = kept(rows * words * 4, self.dropout, True, self.seed, self.offset + layer * rows * words)
        keep = keep.reshape(self.steps, self.batch, words * 4)[:, :, :width]
        scale = 1 / (1 - self.dropout) if self.dropout < 1 else 0
        return np.where(keep, y * self.x.dtype.type(scale), 0 * y)

    def _batched(self, x: Array) -> Array:
        return x[:, None] if self.one else x

    def _unbatched(self, x: Array) -> Array:
        return x[:, 0] if self.one else x

    def _steps_first(self, x: Array) -> Array:
        return x.swapaxes(0, 1) if self.batch_first else self._batched(x)

    def _as_given(self, x: Array) -> Array:
        return np.ascontiguousarray(x.swapaxes(0, 1)) if self.batch_first else self._unbatched(x)


@implements(functional.lstm)
def lstm(
    x,
    weights,
    h0,
    c0,
    num_layers,
    bidirectional,
    batch_first,
    reverse,
    lengths,
    peepholes,
    dropout,
    training,
    seed,
    offset,
    return_saved,
):
    sizes = num_layers, bidirectional, batch_first, reverse, lengths
    network = _Network(LSTM, x, weights, *sizes, dropout, training, seed, offset, peepholes)
    results = network.forward(h0, c0)
    return (*results, network.saved()) if return_saved else results


@implements(functional.lstm_backward)
def lstm_backward(
    grad_output,
    x,
    weights,
    h0,
    c0,
    grad_h_n,
    grad_c_n,
    num_layers,
    bidirectional,
    batch_first,
    reverse,
    lengths,
    peepholes,
    dropout,
    training,
    seed,
    offset,
    truncate,
    input_grad,
    state_grad_norms,
):
    sizes = num_layers, bidirectional, batch_first, reverse, lengths
    network = _Network(LSTM, x, weights, *sizes, dropout, training, seed, offset, peepholes)
    network.forward(h0, c0)
    grads = network.backward(grad_output, grad_h_n, grad_c_n, truncate, state_grad_norms)
    return LSTMGrad(grads[0] if input_grad else np.empty_like(x[:0]), *grads[1:])


@implements(functional.gru)
def gru(
    x,
    weights,
    h0,
    num_layers,
    bidirectional,
    batch_first,
    reverse,
    lengths,
    linear_before_reset,
    dropout,
    training,
    seed,
    offset,
    return_saved,
):
    sizes = num_layers, bidirectional, batch_first, reverse, lengths
    network = _Network(_gru(linear_before_reset), x, weights, *sizes, dropout, training, seed, offset)
    return _forward(network, h0, return_saved)


@implements(functional.gru_backward)
def gru_backward(
    grad_output,
    x,
    weights,
    h0,
    grad_h_n,
    num_layers,
    bidirectional,
    batch_first,
    reverse,
    lengths,
    linear_before_reset,
    dropout,
    training,
    seed,
    offset,
    truncate,
    input_grad,
    state_grad_norms,
):
    sizes = num_layers, bidirectional, batch_first, reverse, lengths
    network = _Network(_gru(linear_before_reset), x, weights, *sizes, dropout, training, seed, offset)
    return _backward(network, x, grad_output, h0, grad_h_n, truncate, input_grad, state_grad_norms)


@implements(functional.rnn)
def rnn(
    x,
    weights,
    h0,
    nonlinearity,
    num_layers,
    bidirectional,
    batch_first,
    reverse,
    lengths,
    dropout,
    training,
    seed,
    offset,
    return_saved,
):
    sizes = num_layers, bidirectional, batch_first, reverse, lengths
    network = _Network(NONLINEARITIES.index(nonlinearity), x, weights, *sizes, dropout, training, seed, offset)
    return _forward(network, h0, return_saved)


@implements(functional.rnn_backward)
def rnn_backward(
    grad_output,
    x,
    weights,
    h0,
    grad_h_n,
    nonlinearity,
    num_layers,
    bidirectional,
    batch_first,
    reverse,
    lengths,
    dropout,
    training,
    seed,
    offset,
    truncate,
    input_grad,
    state_grad_norms,
):
    sizes = num_layers, bidirectional, batch_first, reverse, lengths
    network = _Network(NONLINEARITIES.index(nonlinearity), x, weights, *sizes, dropout, training, seed, offset)
    return _backward(network, x, grad_output, h0, grad_h_n, truncate, input_grad, state_grad_norms)


def _gru(linear_before_reset: bool) -> int:
    return GRU if linear_before_reset else GRU_RESET_FIRST


def _forward(network: _Network, h0: Any, return_saved: bool) -> Any:
    output, h_n, _ = network.forward(h0, None)
    return (output, h_n, network.saved()) if return_saved else (output, h_n)


def _backward(
    network: _Network,
    x: Any,
    grad_output: Any,
    h0: Any,
    grad_h_n: Any,
    truncate: int,
    input_grad: bool,
    state_grad_norms: Array | None,
) -> RecurrentGrad:
    network.forward(h0, None)
    grad_x, weights, grad_h0, _, _ = network.backward(grad_output, grad_h_n, None, truncate, state_grad_norms)
    return RecurrentGrad(grad_x if input_grad else np.empty_like(x[:0]), weights, grad_h0)


# ---- cells: one step of one unit, with or without a batch ----


def _batched(*arrays: Array) -> list[Array]:
    return [np.atleast_2d(a) for a in arrays]


@implements(functional.lstm_cell)
def lstm_cell(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    unit = _cell_unit(LSTM, weight_ih, weight_hh, bias_ih, bias_hh)
    h_next, c_next, _ = _step(unit, *_batched(x, h, c))
    return h_next.reshape(h.shape), c_next.reshape(c.shape)


@implements(functional.lstm_cell_backward)
def lstm_cell_backward(grad_output, x, h, c, weight_ih, weight_hh, bias_ih, bias_hh, grad_c):
    grad_c = np.zeros_like(c) if grad_c is None else grad_c
    unit = _cell_unit(LSTM, weight_ih, weight_hh, bias_ih, bias_hh)
    return LSTMCellGrad(*_cell_backward(unit, grad_output, grad_c, x, h, c))


@implements(functional.gru_cell)
def gru_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh, linear_before_reset, out):
    return _cell(_cell_unit(_gru(linear_before_reset), weight_ih, weight_hh, bias_ih, bias_hh), x, h, out)


@implements(functional.gru_cell_backward)
def gru_cell_backward(grad_output, x, h, weight_ih, weight_hh, bias_ih, bias_hh, linear_before_reset):
    unit = _cell_unit(_gru(linear_before_reset), weight_ih, weight_hh, bias_ih, bias_hh)
    grad_x, grad_h, _, *weights = _cell_backward(unit, grad_output, grad_output[..., :0], x, h, h[..., :0])
    return CellGrad(grad_x, grad_h, *weights)


@implements(functional.rnn_cell)
def rnn_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh, nonlinearity, out):
    return _cell(_cell_unit(NONLINEARITIES.index(nonlinearity), weight_ih, weight_hh, bias_ih, bias_hh), x, h, out)


@implements(functional.rnn_cell_backward)
def rnn_cell_backward(grad_output, x, h, weight_ih, weight_hh, bias_ih, bias_hh, nonlinearity):
    unit = _cell_unit(NONLINEARITIES.index(nonlinearity), weight_ih, weight_hh, bias_ih, bias_hh)
    grad_x, grad_h, _, *weights = _cell_backward(unit, grad_output, grad_output[..., :0], x, h, h[..., :0])
    return CellGrad(grad_x, grad_h, *weights)


def _cell_unit(kind: int, weight_ih: Array, weight_hh: Array, bias_ih: Array | None, bias_hh: Array | None) -> _Unit:
    """Either bias may be missing; there is a gradient in both all the same."""
    zero = np.zeros(len(weight_ih), weight_ih.dtype)
    return _Unit(kind, weight_ih, weight_hh, *(zero if bias is None else bias for bias in (bias_ih, bias_hh)))


def _cell(unit: _Unit, x: Any, h: Any, out: Array | None) -> Array:
    rows, before = _batched(x, h)
    h_next, _, _ = _step(unit, rows, before, before[:, :0])
    return fill(out, h_next.reshape(h.shape))


def _cell_backward(unit: _Unit, grad_h: Any, grad_c: Any, x: Any, h: Any, c: Any) -> tuple[Array, ...]:
    g_h, rows, before = _batched(grad_h, x, h)
    cells, g_c = (a.reshape(len(before), a.shape[-1]) for a in (c, grad_c))  # of no size where there are none
    _, _, step = _step(unit, rows, before, cells)
    grads = _step_backward(unit, step, g_h, g_c)
    weights, _ = _weight_grads(unit, [step], [grads])
    return grads.x.reshape(x.shape), grads.h.reshape(h.shape), grads.c.reshape(c.shape), *weights
