"""Recurrent networks: rnn, lstm and gru over sequences, the cells that they are made of, and each one's backward.

The formulas are those of torch.nn.RNN, LSTM and GRU (for LSTM: Hochreiter and Schmidhuber, Neural Computation 9(8),
1997, with the forget gate of Gers et al. 2000; GRU: Cho et al., EMNLP 2014). With * element by element, sigma the
logistic function, W = weight_ih, R = weight_hh, b = bias_ih, d = bias_hh, in the order of rows that torch has:

    rnn    h' = tanh(W x + b + R h + d), or relu
    lstm   i, f, o = sigma(...), g = tanh(...) of the parts (i, f, g, o) of W x + b + R h + d
           c' = f * c + i * g,  h' = o * tanh(c')         with peepholes p, i and f also see p * c, and o sees p * c'
           with a projection, what is given on is weight_hr h'
    gru    r, z = sigma(...) of those parts (r, z, n) of W x + b + R h + d
           n = tanh(W_n x + b_n + r * (R_n h + d_n)), or, without linear_before_reset, tanh(... + R_n (r * h) + d_n)
           h' = (1 - z) * n + z * h

`weights` holds the arrays of all layers, in torch's order (that of module.parameters()): for each layer, and for each
of its directions, weight_ih (gates hidden, in), weight_hh (gates hidden, out), then, if there are any, bias_ih and
bias_hh (gates hidden,), then, if there is one, the LSTM's projection weight_hr (out, hidden). What a layer gives on,
its directions side by side, is the input of the next.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._kernels import RECURRENT_GRU as GRU
from fastdl._kernels import RECURRENT_GRU_RESET_FIRST as GRU_RESET_FIRST
from fastdl._kernels import RECURRENT_LSTM as LSTM
from fastdl._kernels import Recurrence
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.verbs import (
    Array,
    array_table,
    arrays_like,
    choice,
    disjoint,
    fail,
    flag,
    floats,
    floats_like,
    gradient,
    integer,
    many_like,
    matrix_shapes,
    number,
    optional_like,
    optional_vector,
    optional_writable,
    output,
    sequence_lengths,
    with_saved,
)

__all__ = [
    "CellGrad",
    "LSTMCellGrad",
    "LSTMGrad",
    "RecurrentGrad",
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
    "weights_from_onnx",
    "weights_to_onnx",
]

NONLINEARITIES = tuple(name.removeprefix("rnn_") for name in _kernels.RECURRENT_NAMES if name.startswith("rnn_"))
"""Of an RNN; their places are those of its kinds."""
_GATES = (1, 1, 4, 3, 3)
"""By kind: the blocks of rows of the weights."""
_SAVED = (0, 0, 5, 4, 3)
"""By kind: what backward needs of a step beyond h', in multiples of hidden: the gates, and c', or R_n h + d_n."""


class LSTMGrad(NamedTuple):
    input: Array
    weights: tuple[Array, ...]
    h0: Array
    c0: Array
    peepholes: tuple[Array, ...]


class RecurrentGrad(NamedTuple):
    input: Array
    weights: tuple[Array, ...]
    h0: Array


class LSTMCellGrad(NamedTuple):
    input: Array
    h: Array
    c: Array
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array


class CellGrad(NamedTuple):
    input: Array
    h: Array
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array


# ---- sequences ----


@helper
def _gru_kind(linear_before_reset: bool) -> int:
    return GRU if flag(linear_before_reset, "linear_before_reset") else GRU_RESET_FIRST


@operation
def lstm(
    x: Any,
    weights: Any,
    h0: Any = None,
    c0: Any = None,
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: Any = None,
    peepholes: Any = None,
    dropout: float = 0.0,
    training: bool = False,
    seed: int = 0,
    offset: int = 0,
    return_saved: bool = False,
) -> Any:
    """A stack of LSTM layers over whole sequences: (output, h_n, c_n). torch.nn.LSTM.

    x: (steps, batch, in), or with batch_first (batch, steps, in); at least one step. weights: as the module says;
    the sizes of all layers follow from them. h0, c0: (num_layers directions, batch, out) and (..., hidden), where
    `out` is hidden unless there is a projection; None is zeros. bidirectional: a second direction goes from the end to
    the beginning; reverse: the only one does. lengths: (batch,) integers between 1 and steps, in any order; what lies
    past the end of a sequence is not read, and the output there is 0. peepholes: a (3 hidden,) array of the parts
    (i, f, o) for each layer and direction. dropout: of what each layer but the last gives on, if training; row
    (layer, step, sample) of it has the mask of fastdl.dropout with the offset
    offset + ((layer steps + step) batch + sample) ceil(directions out / 4).

    Returns output, (steps, batch, directions out) or batch first; h_n and c_n, shaped as h0 and c0, the states after
    the last step of each sequence; with return_saved (a literal inside Numba) also what lstm_backward needs, which
    takes 5 hidden + out numbers for each layer, direction, sample and step.
    """
    x = floats(x, "x", 3)
    weights = many_like(weights, "weights", x)
    peepholes = many_like(peepholes, "peepholes", x)
    shapes = matrix_shapes(weights + peepholes)
    r = _recurrence(LSTM, x.shape, shapes, len(peepholes), num_layers, bidirectional, batch_first, reverse)
    h0 = optional_like(h0, "h0", x, (r.layers * r.directions, r.batch, r.output))
    c0 = optional_like(c0, "c0", x, (r.layers * r.directions, r.batch, r.hidden))
    lengths = sequence_lengths(lengths, r.batch, r.steps)
    keep = _keep(dropout, training)
    result = np.empty(_output_shape(r), x.dtype)
    h_n = np.empty((r.layers * r.directions, r.batch, r.output), x.dtype)
    c_n = np.empty((r.layers * r.directions, r.batch, r.hidden), x.dtype)
    flag(return_saved, "return_saved")
    saved = np.empty(_saved_size(r, lengths) if return_saved else 0, x.dtype)
    arrays = weights + peepholes
    table = array_table(arrays, arrays, 0)
    start = integer(offset, "offset", 0)
    _kernels.recurrent(x, table, lengths, h0, c0, result, h_n, c_n, saved, r, keep, integer(seed, "seed", 0), start)
    return with_saved((result, h_n, c_n), saved, return_saved)


@operation
def lstm_backward(
    grad_output: Any,
    x: Any,
    weights: Any,
    saved: Any,
    h0: Any = None,
    c0: Any = None,
    grad_h_n: Any = None,
    grad_c_n: Any = None,
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: Any = None,
    peepholes: Any = None,
    dropout: float = 0.0,
    training: bool = False,
    seed: int = 0,
    offset: int = 0,
    truncate: int = 0,
    input_grad: bool = True,
    state_grad_norms: Array | None = None,
) -> LSTMGrad:
    """The gradients of lstm as (input, weights, h0, c0, peepholes): backpropagation through time.

    saved: what lstm returned with return_saved. grad_output, grad_h_n, grad_c_n: of what it returned; of the last two,
    None is 0.
    truncate: k > 0 cuts the states' gradients every k steps, where the number of steps done divides by k, as if lstm
    had been called for one piece after another and given the states; 0 does not (truncated backpropagation through
    time: Williams and Peng, Neural Computation 2(4), 1990). Without input_grad, `input` is an empty array.
    state_grad_norms: a (num_layers directions, steps) array, filled with the norm, over batch and hidden, of the loss'
    whole gradient in the state h' of each step.
    """
    x = floats(x, "x", 3)
    weights = many_like(weights, "weights", x)
    peepholes = many_like(peepholes, "peepholes", x)
    shapes = matrix_shapes(weights + peepholes)
    r = _recurrence(LSTM, x.shape, shapes, len(peepholes), num_layers, bidirectional, batch_first, reverse)
    grad_output = floats_like(grad_output, "grad_output", x, 3)
    saved = floats_like(saved, "saved", x, 1)
    h_shape = (r.layers * r.directions, r.batch, r.output)
    c_shape = (r.layers * r.directions, r.batch, r.hidden)
    h0, c0 = optional_like(h0, "h0", x, h_shape), optional_like(c0, "c0", x, c_shape)
    grad_h_n = optional_like(grad_h_n, "grad_h_n", x, h_shape)
    grad_c_n = optional_like(grad_c_n, "grad_c_n", x, c_shape)
    lengths = sequence_lengths(lengths, r.batch, r.steps)
    norms = _grad_norms(state_grad_norms, r, x, grad_output, saved)
    _check_backward(r, grad_output, saved, lengths)
    keep = _keep(dropout, training)
    grad_weights = arrays_like(None, "weights", weights, None)
    grad_peepholes = arrays_like(None, "peepholes", peepholes, None)
    result = LSTMGrad(
        gradient(x, flag(input_grad, "input_grad")),
        grad_weights,
        np.empty(h_shape, x.dtype),
        np.empty(c_shape, x.dtype),
        grad_peepholes,
    )
    table = array_table(weights + peepholes, grad_weights + grad_peepholes, 1)
    start, stretch = integer(offset, "offset", 0), integer(truncate, "truncate", 0)
    _kernels.recurrent_backward(
        grad_output,
        grad_h_n,
        grad_c_n,
        x,
        table,
        lengths,
        h0,
        c0,
        saved,
        result.input,
        result.h0,
        result.c0,
        norms,
        r,
        keep,
        integer(seed, "seed", 0),
        start,
        stretch,
    )
    return result


@operation
def gru(
    x: Any,
    weights: Any,
    h0: Any = None,
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: Any = None,
    linear_before_reset: bool = True,
    dropout: float = 0.0,
    training: bool = False,
    seed: int = 0,
    offset: int = 0,
    return_saved: bool = False,
) -> Any:
    """A stack of GRU layers over whole sequences: (output, h_n). torch.nn.GRU.

    linear_before_reset: as torch; without it, the reset gate is applied to h before its product with R_n (the ONNX
    operator's default, and the paper's). Everything else is as lstm's. What gru_backward needs takes 5 hidden numbers
    for each layer, direction, sample and step, or 4 without linear_before_reset.
    """
    x = floats(x, "x", 3)
    weights = many_like(weights, "weights", x)
    kind = _gru_kind(linear_before_reset)
    r = _recurrence(kind, x.shape, matrix_shapes(weights), 0, num_layers, bidirectional, batch_first, reverse)
    return _forward(r, x, weights, h0, lengths, dropout, training, seed, offset, return_saved)


@operation
def gru_backward(
    grad_output: Any,
    x: Any,
    weights: Any,
    saved: Any,
    h0: Any = None,
    grad_h_n: Any = None,
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: Any = None,
    linear_before_reset: bool = True,
    dropout: float = 0.0,
    training: bool = False,
    seed: int = 0,
    offset: int = 0,
    truncate: int = 0,
    input_grad: bool = True,
    state_grad_norms: Array | None = None,
) -> RecurrentGrad:
    """The gradients of gru as (input, weights, h0). The arguments are as lstm_backward's."""
    x = floats(x, "x", 3)
    weights = many_like(weights, "weights", x)
    kind = _gru_kind(linear_before_reset)
    r = _recurrence(kind, x.shape, matrix_shapes(weights), 0, num_layers, bidirectional, batch_first, reverse)
    return _backward(
        r,
        grad_output,
        x,
        weights,
        saved,
        h0,
        grad_h_n,
        lengths,
        dropout,
        training,
        seed,
        offset,
        truncate,
        input_grad,
        state_grad_norms,
    )


@operation
def rnn(
    x: Any,
    weights: Any,
    h0: Any = None,
    nonlinearity: str = "tanh",
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: Any = None,
    dropout: float = 0.0,
    training: bool = False,
    seed: int = 0,
    offset: int = 0,
    return_saved: bool = False,
) -> Any:
    """A stack of plain recurrent layers over whole sequences: (output, h_n). torch.nn.RNN.

    nonlinearity: "tanh" or "relu". Everything else is as lstm's. What rnn_backward needs takes hidden numbers for each
    layer, direction, sample and step.
    """
    x = floats(x, "x", 3)
    weights = many_like(weights, "weights", x)
    kind = choice(nonlinearity, "nonlinearity", NONLINEARITIES)
    r = _recurrence(kind, x.shape, matrix_shapes(weights), 0, num_layers, bidirectional, batch_first, reverse)
    return _forward(r, x, weights, h0, lengths, dropout, training, seed, offset, return_saved)


@operation
def rnn_backward(
    grad_output: Any,
    x: Any,
    weights: Any,
    saved: Any,
    h0: Any = None,
    grad_h_n: Any = None,
    nonlinearity: str = "tanh",
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: Any = None,
    dropout: float = 0.0,
    training: bool = False,
    seed: int = 0,
    offset: int = 0,
    truncate: int = 0,
    input_grad: bool = True,
    state_grad_norms: Array | None = None,
) -> RecurrentGrad:
    """The gradients of rnn as (input, weights, h0). The arguments are as lstm_backward's."""
    x = floats(x, "x", 3)
    weights = many_like(weights, "weights", x)
    kind = choice(nonlinearity, "nonlinearity", NONLINEARITIES)
    r = _recurrence(kind, x.shape, matrix_shapes(weights), 0, num_layers, bidirectional, batch_first, reverse)
    return _backward(
        r,
        grad_output,
        x,
        weights,
        saved,
        h0,
        grad_h_n,
        lengths,
        dropout,
        training,
        seed,
        offset,
        truncate,
        input_grad,
        state_grad_norms,
    )


@helper
def _forward(
    r: Recurrence,
    x: Array,
    weights: tuple[Array, ...],
    h0: Any,
    lengths: Any,
    dropout: float,
    training: bool,
    seed: int,
    offset: int,
    return_saved: bool,
) -> Any:
    """What rnn and gru have in common."""
    h0 = optional_like(h0, "h0", x, (r.layers * r.directions, r.batch, r.output))
    lengths = sequence_lengths(lengths, r.batch, r.steps)
    keep = _keep(dropout, training)
    result = np.empty(_output_shape(r), x.dtype)
    h_n = np.empty((r.layers * r.directions, r.batch, r.output), x.dtype)
    flag(return_saved, "return_saved")
    saved = np.empty(_saved_size(r, lengths) if return_saved else 0, x.dtype)
    table = array_table(weights, weights, 0)
    start = integer(offset, "offset", 0)
    _kernels.recurrent(x, table, lengths, h0, None, result, h_n, None, saved, r, keep, integer(seed, "seed", 0), start)
    return with_saved((result, h_n), saved, return_saved)


@helper
def _backward(
    r: Recurrence,
    grad_output: Any,
    x: Array,
    weights: tuple[Array, ...],
    saved: Any,
    h0: Any,
    grad_h_n: Any,
    lengths: Any,
    dropout: float,
    training: bool,
    seed: int,
    offset: int,
    truncate: int,
    input_grad: bool,
    state_grad_norms: Any,
) -> RecurrentGrad:
    grad_output = floats_like(grad_output, "grad_output", x, 3)
    saved = floats_like(saved, "saved", x, 1)
    h_shape = (r.layers * r.directions, r.batch, r.output)
    h0, grad_h_n = optional_like(h0, "h0", x, h_shape), optional_like(grad_h_n, "grad_h_n", x, h_shape)
    lengths = sequence_lengths(lengths, r.batch, r.steps)
    norms = _grad_norms(state_grad_norms, r, x, grad_output, saved)
    _check_backward(r, grad_output, saved, lengths)
    keep = _keep(dropout, training)
    grad_weights = arrays_like(None, "weights", weights, None)
    result = RecurrentGrad(gradient(x, flag(input_grad, "input_grad")), grad_weights, np.empty(h_shape, x.dtype))
    table = array_table(weights, grad_weights, 1)
    start, stretch = integer(offset, "offset", 0), integer(truncate, "truncate", 0)
    _kernels.recurrent_backward(
        grad_output,
        grad_h_n,
        None,
        x,
        table,
        lengths,
        h0,
        None,
        saved,
        result.input,
        result.h0,
        None,
        norms,
        r,
        keep,
        integer(seed, "seed", 0),
        start,
        stretch,
    )
    return result


@cached_helper
def _recurrence(
    kind: int,
    x_shape: tuple[int, ...],
    shapes: Any,
    peepholes: int,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    reverse: bool,
) -> Recurrence:
    """The sizes, all of them checked. shapes: of the weights and then that many peepholes, vectors as (size, 0)."""
    layers = integer(num_layers, "num_layers", 1, 2**30)
    directions = 2 if flag(bidirectional, "bidirectional") else 1
    gates = _GATES[kind]
    flag(reverse, "reverse")
    flag(batch_first, "batch_first")
    batch, steps = (x_shape[0], x_shape[1]) if batch_first else (x_shape[1], x_shape[0])
    if bidirectional and reverse:
        fail("reverse", "True with bidirectional", "one of the two")
    if steps < 1:
        fail("x", x_shape, "at least 1 step")
    count = len(shapes) - peepholes
    each = count // (layers * directions)
    most = 5 if kind == LSTM else 4
    if count != each * layers * directions or each < 2 or each > most or (each == 3 and kind != LSTM):
        fail(
            "weights",
            (count, "arrays"),
            (
                "for each of",
                layers * directions,
                "layers and directions 2 or, with biases, 4 (LSTM: 1 more to project)",
            ),
        )
    if peepholes not in (0, layers * directions):
        fail("peepholes", (peepholes, "arrays"), (layers * directions, "arrays"))
    biases, projection = each >= 4, each % 2
    hidden, size = shapes[0][0] // gates, shapes[1][1]
    if hidden < 1 or size < 1:
        fail("weights", ("weight_ih and weight_hh of", shapes[0], shapes[1]), "at least 1 unit")
    if not projection and size != hidden:
        fail("weights[1]", shapes[1], (gates * hidden, hidden))
    for i in range(len(shapes)):
        which = i % each
        if i >= count:
            expected = 3 * hidden, 0
        elif which == 0:
            expected = gates * hidden, x_shape[2] if i // each < directions else directions * size
        elif which == 1:
            expected = gates * hidden, size
        elif which < 4 and biases:
            expected = gates * hidden, 0
        else:
            expected = size, hidden
        if shapes[i] != expected:
            fail("weights", ("as array", i, "(then the peepholes) the shape", shapes[i]), expected)
    return Recurrence(
        kind,
        steps,
        batch,
        x_shape[2],
        hidden,
        size,
        layers,
        directions,
        int(reverse),
        int(batch_first),
        int(biases),
        projection,
        int(peepholes > 0),
    )


@helper
def _output_shape(r: Recurrence) -> tuple[int, int, int]:
    if r.batch_first:
        return r.batch, r.steps, r.directions * r.output
    return r.steps, r.batch, r.directions * r.output


@helper
def _saved_size(r: Recurrence, lengths: Any) -> int:
    return r.layers * r.directions * _rows(r, lengths) * (_SAVED[r.kind] * r.hidden + r.output)


@helper
def _rows(r: Recurrence, lengths: Any) -> int:
    """The steps of all sequences together."""
    if lengths is None:
        return r.steps * r.batch
    return int(lengths.sum())


@helper
def _grad_norms(state_grad_norms: Any, r: Recurrence, x: Array, grad_output: Array, saved: Array) -> Array | None:
    """In memory of its own, or None."""
    norms = optional_writable(state_grad_norms, "state_grad_norms", (r.layers * r.directions, r.steps), x)
    disjoint(grad_output, "state_grad_norms", norms)
    disjoint(x, "state_grad_norms", norms)
    disjoint(saved, "state_grad_norms", norms)
    return norms


@helper
def _check_backward(r: Recurrence, grad_output: Array, saved: Array, lengths: Any) -> None:
    if grad_output.shape != _output_shape(r):
        fail("grad_output", grad_output.shape, _output_shape(r))
    if saved.shape[0] != _saved_size(r, lengths):
        fail("saved", saved.shape, (_saved_size(r, lengths),))


@helper
def _keep(dropout: float, training: bool) -> float:
    """The probability with which a number is kept."""
    p = number(dropout, "dropout", 0.0, 1.0)
    return 1.0 - p if flag(training, "training") else 1.0


# ---- cells ----


@operation
def lstm_cell(
    x: Any, h: Any, c: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None
) -> tuple[Array, Array]:
    """One step of an LSTM: (h', c'). torch.nn.LSTMCell.

    x: (..., in), where ... is at most one dimension, the batch. h, c: (..., hidden). weight_ih: (4 hidden, in),
    weight_hh: (4 hidden, hidden), bias_ih, bias_hh: (4 hidden,), in the order i, f, g, o.
    """
    x = floats(x, "x")
    weight_ih, weight_hh = floats_like(weight_ih, "weight_ih", x, 2), floats_like(weight_hh, "weight_hh", x, 2)
    batch, hidden = _cell_sizes(4, x.shape, weight_ih.shape, weight_hh.shape)
    shape = x.shape[:-1] + (hidden,)  # noqa: RUF005 (Numba has no tuple unpacking)
    h, c = _state(h, "h", x, shape), _state(c, "c", x, shape)
    bias_ih = optional_vector(bias_ih, "bias_ih", x, 4 * hidden)
    bias_hh = optional_vector(bias_hh, "bias_hh", x, 4 * hidden)
    h_next, c_next = output(None, shape, x), output(None, shape, x)
    _kernels.recurrent_cell(
        x, h, c, weight_ih, weight_hh, bias_ih, bias_hh, h_next, c_next, batch, x.shape[-1], hidden, LSTM
    )
    return h_next, c_next


@operation
def lstm_cell_backward(
    grad_output: Any,
    x: Any,
    h: Any,
    c: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    grad_c: Any = None,
) -> LSTMCellGrad:
    """The gradients of lstm_cell as (input, h, c, weight_ih, weight_hh, bias_ih, bias_hh); the step is made again.

    grad_output, grad_c: of h' and c', shaped as they are; grad_c None: 0.
    """
    x = floats(x, "x")
    weight_ih, weight_hh = floats_like(weight_ih, "weight_ih", x, 2), floats_like(weight_hh, "weight_hh", x, 2)
    batch, hidden = _cell_sizes(4, x.shape, weight_ih.shape, weight_hh.shape)
    shape = x.shape[:-1] + (hidden,)  # noqa: RUF005 (Numba has no tuple unpacking)
    h, c, grad_output = _state(h, "h", x, shape), _state(c, "c", x, shape), _state(grad_output, "grad_output", x, shape)
    grad_c = optional_like(grad_c, "grad_c", x, shape)
    bias_ih = optional_vector(bias_ih, "bias_ih", x, 4 * hidden)
    bias_hh = optional_vector(bias_hh, "bias_hh", x, 4 * hidden)
    result = LSTMCellGrad(
        np.empty_like(x),
        np.empty_like(h),
        np.empty_like(c),
        np.empty_like(weight_ih),
        np.empty_like(weight_hh),
        np.empty(4 * hidden, x.dtype),
        np.empty(4 * hidden, x.dtype),
    )
    _kernels.recurrent_cell_backward(
        grad_output,
        grad_c,
        x,
        h,
        c,
        weight_ih,
        weight_hh,
        bias_ih,
        bias_hh,
        result.input,
        result.h,
        result.c,
        result.weight_ih,
        result.weight_hh,
        result.bias_ih,
        result.bias_hh,
        batch,
        x.shape[-1],
        hidden,
        LSTM,
    )
    return result


@operation
def gru_cell(
    x: Any,
    h: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    linear_before_reset: bool = True,
    out: Array | None = None,
) -> Array:
    """One step of a GRU: h'. torch.nn.GRUCell.

    x: (..., in), where ... is at most one dimension, the batch. h: (..., hidden). weight_ih: (3 hidden, in),
    weight_hh: (3 hidden, hidden), bias_ih, bias_hh: (3 hidden,), in the order r, z, n. linear_before_reset: as gru's.
    """
    kind = _gru_kind(linear_before_reset)
    return _cell(kind, x, h, weight_ih, weight_hh, bias_ih, bias_hh, out)


@operation
def gru_cell_backward(
    grad_output: Any,
    x: Any,
    h: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    linear_before_reset: bool = True,
) -> CellGrad:
    """The gradients of gru_cell as (input, h, weight_ih, weight_hh, bias_ih, bias_hh); the step is made again."""
    kind = _gru_kind(linear_before_reset)
    return _cell_backward(kind, grad_output, x, h, weight_ih, weight_hh, bias_ih, bias_hh)


@operation
def rnn_cell(
    x: Any,
    h: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    nonlinearity: str = "tanh",
    out: Array | None = None,
) -> Array:
    """One step of a plain recurrent network: h'. torch.nn.RNNCell.

    x: (..., in), where ... is at most one dimension, the batch. h: (..., hidden). weight_ih: (hidden, in), weight_hh:
    (hidden, hidden), bias_ih, bias_hh: (hidden,). nonlinearity: "tanh" or "relu".
    """
    kind = choice(nonlinearity, "nonlinearity", NONLINEARITIES)
    return _cell(kind, x, h, weight_ih, weight_hh, bias_ih, bias_hh, out)


@operation
def rnn_cell_backward(
    grad_output: Any,
    x: Any,
    h: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    nonlinearity: str = "tanh",
) -> CellGrad:
    """The gradients of rnn_cell as (input, h, weight_ih, weight_hh, bias_ih, bias_hh); the step is made again."""
    kind = choice(nonlinearity, "nonlinearity", NONLINEARITIES)
    return _cell_backward(kind, grad_output, x, h, weight_ih, weight_hh, bias_ih, bias_hh)


@helper
def _cell(
    kind: int, x: Any, h: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any, out: Array | None
) -> Array:
    """What rnn_cell and gru_cell have in common. `out` may not be h: other units still read it."""
    x = floats(x, "x")
    weight_ih, weight_hh = floats_like(weight_ih, "weight_ih", x, 2), floats_like(weight_hh, "weight_hh", x, 2)
    batch, hidden = _cell_sizes(_GATES[kind], x.shape, weight_ih.shape, weight_hh.shape)
    shape = x.shape[:-1] + (hidden,)  # noqa: RUF005 (Numba has no tuple unpacking)
    h = _state(h, "h", x, shape)
    bias_ih = optional_vector(bias_ih, "bias_ih", x, weight_ih.shape[0])
    bias_hh = optional_vector(bias_hh, "bias_hh", x, weight_ih.shape[0])
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "h", h)
        disjoint(result, "weight_ih", weight_ih)
        disjoint(result, "weight_hh", weight_hh)
        disjoint(result, "bias_ih", bias_ih)
        disjoint(result, "bias_hh", bias_hh)
    _kernels.recurrent_cell(
        x, h, None, weight_ih, weight_hh, bias_ih, bias_hh, result, None, batch, x.shape[-1], hidden, kind
    )
    return result


@helper
def _cell_backward(
    kind: int, grad_output: Any, x: Any, h: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any
) -> CellGrad:
    x = floats(x, "x")
    weight_ih, weight_hh = floats_like(weight_ih, "weight_ih", x, 2), floats_like(weight_hh, "weight_hh", x, 2)
    batch, hidden = _cell_sizes(_GATES[kind], x.shape, weight_ih.shape, weight_hh.shape)
    shape = x.shape[:-1] + (hidden,)  # noqa: RUF005 (Numba has no tuple unpacking)
    h, grad_output = _state(h, "h", x, shape), _state(grad_output, "grad_output", x, shape)
    bias_ih = optional_vector(bias_ih, "bias_ih", x, weight_ih.shape[0])
    bias_hh = optional_vector(bias_hh, "bias_hh", x, weight_ih.shape[0])
    result = CellGrad(
        np.empty_like(x),
        np.empty_like(h),
        np.empty_like(weight_ih),
        np.empty_like(weight_hh),
        np.empty(weight_ih.shape[0], x.dtype),
        np.empty(weight_ih.shape[0], x.dtype),
    )
    _kernels.recurrent_cell_backward(
        grad_output,
        None,
        x,
        h,
        None,
        weight_ih,
        weight_hh,
        bias_ih,
        bias_hh,
        result.input,
        result.h,
        None,
        result.weight_ih,
        result.weight_hh,
        result.bias_ih,
        result.bias_hh,
        batch,
        x.shape[-1],
        hidden,
        kind,
    )
    return result


def cell_kind(function: str, nonlinearity: str = "tanh", linear_before_reset: bool = True) -> int:
    """Which kind the cell function of that name is, with those options."""
    if function == "rnn_cell":
        return NONLINEARITIES.index(nonlinearity)
    return LSTM if function == "lstm_cell" else GRU if linear_before_reset else GRU_RESET_FIRST


def bound_step(
    kind: int,
    x: Array,
    h: Array,
    c: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
) -> Callable[[], None]:
    """A function that makes a step of such a cell from x (batch, in), replacing h and c (batch, hidden), as they are by
    then. The weights are packed now, for the instruction-set level in use."""
    batch, size = x.shape
    hidden = h.shape[1]
    needed = np.empty(1, np.int64)
    _kernels.recurrent_packed_size(weight_hh, needed, size, hidden, kind)
    packed = np.zeros(needed[0], x.dtype)
    _kernels.recurrent_pack(weight_ih, weight_hh, bias_ih, bias_hh, packed, size, hidden, kind)
    return partial(_kernels.recurrent_step, x, packed, h, c, batch, size, hidden, kind)


@cached_helper
def _cell_sizes(
    gates: int, x_shape: tuple[int, ...], ih_shape: tuple[int, int], hh_shape: tuple[int, int]
) -> tuple[int, int]:
    """Batch and hidden, the weights' shapes checked."""
    if len(x_shape) < 1 or len(x_shape) > 2:
        fail("x", x_shape, "1 or 2 dimensions")
    hidden = hh_shape[1]
    if hidden < 1:
        fail("weight_hh", hh_shape, "at least 1 unit")
    if hh_shape[0] != gates * hidden:
        fail("weight_hh", hh_shape, (gates * hidden, hidden))
    if ih_shape != (gates * hidden, x_shape[-1]):
        fail("weight_ih", ih_shape, (gates * hidden, x_shape[-1]))
    return x_shape[0] if len(x_shape) == 2 else 1, hidden


@helper
def _state(h: Any, argument: str, x: Array, shape: tuple[int, ...]) -> Array:
    h = floats_like(h, argument, x)
    if h.shape != shape:
        fail(argument, h.shape, shape)
    return h


# ---- ONNX ----

_ONNX_ORDER = {"RNN": (0,), "LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
"""The places of ONNX's gates in torch's order: (i, o, f, c) and (z, r, h)."""
_ONNX_PEEPHOLES = (0, 2, 1)


def weights_from_onnx(
    operator: str, W: Any, R: Any, B: Any = None, P: Any = None
) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
    """The inputs W, R, B and P of ONNX's operator RNN, LSTM or GRU as (weights, peepholes) of rnn, lstm or gru.

    W: (directions, gates hidden, in), R: (directions, gates hidden, hidden), B: (directions, 2 gates hidden), P:
    (directions, 3 hidden), in ONNX's order of gates. The results are copies. For "GRU", whose operator has
    linear_before_reset = 0 unless it says otherwise, pass that on to gru too.
    """
    order = _onnx_order(operator, P)
    W, R = floats(W, "W", 3), floats(R, "R", 3)
    directions, rows, _ = W.shape
    if rows % len(order) or R.shape != (directions, rows, rows // len(order)):
        fail("R", R.shape, (directions, rows, f"{rows} / {len(order)}"))
    B, P = optional_like(B, "B", W, (directions, 2 * rows)), optional_like(P, "P", W, (directions, 3 * R.shape[2]))
    weights: list[Array] = []
    for d in range(directions):
        weights += [_reordered(W[d], order), _reordered(R[d], order)]
        if B is not None:
            weights += [_reordered(B[d, :rows], order), _reordered(B[d, rows:], order)]
    return tuple(weights), None if P is None else tuple(_reordered(p, _ONNX_PEEPHOLES) for p in P)


def weights_to_onnx(
    operator: str, weights: Any, bidirectional: bool = False, peepholes: Any = None
) -> dict[str, Array]:
    """The other way, for one layer: what rnn, lstm or gru takes as the inputs "W", "R", "B" and "P" of the operator."""
    order = _onnx_order(operator, peepholes)
    directions = 2 if bidirectional else 1
    if len(weights) not in (2 * directions, 4 * directions):
        fail("weights", (len(weights), "arrays"), (2 * directions, "or", 4 * directions, "arrays, those of one layer"))
    back = tuple(order.index(i) for i in range(len(order)))
    arrays = [_reordered(array, back) for array in many_like(weights, "weights", floats(weights[0], "weights[0]"))]
    each = len(arrays) // directions
    inputs = {"W": np.stack(arrays[::each]), "R": np.stack(arrays[1::each])}
    if each == 4:
        inputs["B"] = np.stack([np.concatenate(arrays[i + 2 : i + 4]) for i in range(0, len(arrays), 4)])
    if peepholes is not None:
        inputs["P"] = np.stack([_reordered(p, _ONNX_PEEPHOLES) for p in peepholes])
    return inputs


def _onnx_order(operator: str, peepholes: Any) -> tuple[int, ...]:
    if operator not in _ONNX_ORDER:
        fail("operator", repr(operator), "one of RNN, LSTM, GRU")
    if peepholes is not None and operator != "LSTM":
        fail("P", "peepholes", f"none for {operator}")
    return _ONNX_ORDER[operator]


def _reordered(x: Array, order: tuple[int, ...]) -> Array:
    """The blocks of rows of x such that block order[i] of the result is block i of x."""
    blocks = np.split(x, len(order))
    return np.concatenate([blocks[order.index(i)] for i in range(len(order))])
