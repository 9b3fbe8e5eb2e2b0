"""Recurrent networks: rnn, lstm and gru over sequences, the cells that they are made of, and each one's backward.

The formulas, which stand with the functions, are those of torch.nn.RNN, LSTM and GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl._kernels import RECURRENT_GRU as GRU
from fastdl._kernels import RECURRENT_GRU_RESET_FIRST as GRU_RESET_FIRST
from fastdl._kernels import RECURRENT_LSTM as LSTM
from fastdl._kernels import Recurrence
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
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

_TEXT = {
    "x": """
x : array_like of float32 or float64
    Sequences, (steps, batch, in), or with `batch_first` (batch, steps, in); at least one step.
""",
    "weights": """
weights : sequence of arrays
    The arrays of all layers, in torch's order (that of ``module.parameters()``): for each layer, and for each of its
    directions, weight_ih (gates * hidden, in), weight_hh (gates * hidden, out), then, if there are any, bias_ih and
    bias_hh (gates * hidden,), then, if there is one, an LSTM's projection weight_hr (out, hidden). All sizes follow
    from them. `gates` is 4 for an LSTM, 3 for a GRU and 1 for an RNN, and `out` is hidden unless there is a projection.
    What a layer gives on, its directions side by side, is the input of the next.
""",
    "h0": """
h0 : array_like, optional
    The outputs before the first step, (num_layers * directions, batch, out); zeros by default.
""",
    "c0": """
c0 : array_like, optional
    The cells before the first step, (num_layers * directions, batch, hidden); zeros by default.
""",
    "options": """
num_layers : int
    How many layers are stacked.
bidirectional : bool
    Whether each layer has a second direction, which goes from the end to the beginning.
batch_first : bool
    Whether the batch is the first dimension of `x` and of the output.
reverse : bool
    Whether the only direction goes from the end to the beginning.
lengths : array_like or sequence of int, optional
    The length of each sequence, between 1 and steps, in any order. What lies past the end of a sequence is not read,
    and the output there is 0.
""",
    "peepholes": """
peepholes : sequence of arrays, optional
    For each layer and direction an array (3 * hidden,) of the parts (i, f, o).
""",
    "linear_before_reset": """
linear_before_reset : bool
    Whether the reset gate is applied to the product R_n * h, as torch does; else to h before it, which is the paper's
    form and the ONNX operator's default.
""",
    "nonlinearity": """
nonlinearity : {"tanh", "relu"}
    What is applied to the sum.
""",
    "dropout": """
dropout : float
    The probability, in [0, 1], with which what each layer but the last gives on is dropped, if `training`.
training : bool
    Whether anything is dropped.
seed, offset : int
    Which random numbers: those of `fastdl.dropout` with this seed. Row (layer, step, sample) has the mask of the offset
    ``offset + ((layer * steps + step) * batch + sample) * ceil(directions * out / 4)``.
""",
    "return_saved": """
return_saved : bool
    Whether to return what the backward needs as well (inside Numba a literal).
""",
    "output": """
output : array
    The last layer's output of all steps, (steps, batch, directions * out), or batch first.
h_n : array
    The outputs after the last step of each sequence, shaped as `h0`.
""",
    "saved": """
saved : array
    With `return_saved` only: what the backward needs, in a layout of its own.
""",
    "backward": """
grad_output : array_like
    The loss' gradient in `output`, shaped as it.
{x}
{weights}
saved : array
    What the forward returned with `return_saved`.
{h0}
""",
    "grad_h_n": """
grad_h_n : array_like, optional
    The loss' gradient in `h_n`; zeros by default.
""",
    "truncate": """
truncate : int
    k > 0 cuts the gradients of the states every k steps, where the number of steps done divides by k, as if the
    forward had been called for one piece after another and given the states; 0 does not cut them [1]_.
input_grad : bool
    Whether the gradient in `x` is wanted; without it, `input` is an empty array.
state_grad_norms : array, optional
    (num_layers * directions, steps), filled with the norm, over batch and hidden, of the loss' whole gradient in the
    output of each step.
""",
    "truncate_source": """
.. [1] R. J. Williams and J. Peng, "An efficient gradient-based algorithm for on-line training of recurrent network
   trajectories", Neural Computation 2(4), 1990.
""",
    "errors": """
TypeError, ValueError
    For an array or an option that does not fit; the message names it, what was found and what was expected.
""",
    "cell": """
x : array_like of float32 or float64
    What the step reads, (batch, in) or (in,).
h : array_like
    The state before it, (batch, hidden) or (hidden,).
""",
    "cell_weights": """
weight_ih : array_like
    (gates * hidden, in): 4 gates of an LSTM, in the order i, f, g, o; 3 of a GRU, r, z, n; 1 of an RNN.
weight_hh : array_like
    (gates * hidden, hidden).
bias_ih, bias_hh : array_like, optional
    (gates * hidden,).
""",
    "cell_out": """
out : array, optional
    Where the result is put: an array like `h`, which shares no memory with an argument.
""",
    "cell_backward": """
grad_output : array_like
    The loss' gradient in the state after the step, shaped as it.
""",
}
"""What the docstrings below share."""


class LSTMGrad(NamedTuple):
    """The gradients of `lstm`, each shaped as the argument of that name; `input` is that of x."""

    input: Array
    weights: tuple[Array, ...]
    h0: Array
    c0: Array
    peepholes: tuple[Array, ...]


class RecurrentGrad(NamedTuple):
    """The gradients of `rnn` and `gru`, each shaped as the argument of that name; `input` is that of x."""

    input: Array
    weights: tuple[Array, ...]
    h0: Array


class LSTMCellGrad(NamedTuple):
    """The gradients of `lstm_cell`, each shaped as the argument of that name; `input` is that of x."""

    input: Array
    h: Array
    c: Array
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array


class CellGrad(NamedTuple):
    """The gradients of `rnn_cell` and `gru_cell`, each shaped as the argument of that name; `input` is that of x."""

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


@doc(_TEXT)
@operation
def lstm(
    x: ArrayLike,
    weights: Sequence[ArrayLike],
    h0: ArrayLike | None = None,
    c0: ArrayLike | None = None,
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: ArrayLike | Sequence[int] | None = None,
    peepholes: Sequence[ArrayLike] | None = None,
    dropout: float = 0.0,
    training: bool = False,
    seed: int = 0,
    offset: int = 0,
    return_saved: bool = False,
) -> tuple[Array, ...]:
    """A stack of long short-term memory layers over whole sequences. torch.nn.LSTM.

    One step, with ``*`` element by element, ``@`` the matrix product, sigma the logistic function, W = weight_ih,
    R = weight_hh, b = bias_ih and d = bias_hh::

        i, f, g, o = sigma(.), sigma(.), tanh(.), sigma(.) of the four parts of W @ x + b + R @ h + d
        c' = f * c + i * g
        h' = o * tanh(c')

    With peepholes p, i and f also see p * c, and o sees p * c'; with a projection, what is given on is weight_hr @ h'.

    Parameters
    ----------
    {x}
    {weights}
    {h0}
    {c0}
    {options}
    {peepholes}
    {dropout}
    {return_saved}

    Returns
    -------
    {output}
    c_n : array
        The cells after the last step of each sequence, shaped as `c0`.
    {saved}

    Raises
    ------
    {errors}

    See Also
    --------
    lstm_backward, lstm_cell, weights_from_onnx, fastdl.nn.LSTM

    References
    ----------
    S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997; the forget gate: F. A.
    Gers, J. Schmidhuber and F. Cummins, "Learning to forget", Neural Computation 12(10), 2000.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((5, 2, 3), np.float32)  # 5 steps, a batch of 2, 3 features
    >>> weights = np.ones((16, 3), np.float32), np.ones((16, 4), np.float32)  # 4 units, no biases
    >>> output, h_n, c_n = fastdl.lstm(x, weights, lengths=[5, 2])
    >>> output.shape, h_n.shape, c_n.shape
    ((5, 2, 4), (1, 2, 4), (1, 2, 4))
    >>> bool((output[2:, 1] == 0).all())
    True
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


@doc(_TEXT)
@operation
def lstm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weights: Sequence[ArrayLike],
    saved: ArrayLike,
    h0: ArrayLike | None = None,
    c0: ArrayLike | None = None,
    grad_h_n: ArrayLike | None = None,
    grad_c_n: ArrayLike | None = None,
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: ArrayLike | Sequence[int] | None = None,
    peepholes: Sequence[ArrayLike] | None = None,
    dropout: float = 0.0,
    training: bool = False,
    seed: int = 0,
    offset: int = 0,
    truncate: int = 0,
    input_grad: bool = True,
    state_grad_norms: Array | None = None,
) -> LSTMGrad:
    """The gradients of lstm: backpropagation through time.

    Parameters
    ----------
    {backward}
    {c0}
    {grad_h_n}
    grad_c_n : array_like, optional
        The loss' gradient in `c_n`; zeros by default.
    {options}
    {peepholes}
    {dropout}
    {truncate}

    Returns
    -------
    LSTMGrad
        The gradients in (x, weights, h0, c0, peepholes), as `input`, `weights`, `h0`, `c0` and `peepholes`.

    Raises
    ------
    {errors}

    See Also
    --------
    lstm

    References
    ----------
    {truncate_source}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((5, 2, 3))
    >>> weights = np.ones((16, 3)), np.ones((16, 4))
    >>> output, h_n, c_n, saved = fastdl.lstm(x, weights, return_saved=True)
    >>> grads = fastdl.lstm_backward(np.ones_like(output), x, weights, saved)
    >>> grads.input.shape, [g.shape for g in grads.weights]
    ((5, 2, 3), [(16, 3), (16, 4)])
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


@doc(_TEXT)
@operation
def gru(
    x: ArrayLike,
    weights: Sequence[ArrayLike],
    h0: ArrayLike | None = None,
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: ArrayLike | Sequence[int] | None = None,
    linear_before_reset: bool = True,
    dropout: float = 0.0,
    training: bool = False,
    seed: int = 0,
    offset: int = 0,
    return_saved: bool = False,
) -> tuple[Array, ...]:
    """A stack of gated recurrent unit layers over whole sequences. torch.nn.GRU.

    One step, with ``*`` element by element, ``@`` the matrix product, W = weight_ih, R = weight_hh, b = bias_ih and
    d = bias_hh::

        r, z = sigma(.) of the first two parts of W @ x + b + R @ h + d
        n = tanh(W_n @ x + b_n + r * (R_n @ h + d_n))
        h' = (1 - z) * n + z * h

    without linear_before_reset::

        n = tanh(W_n @ x + b_n + R_n @ (r * h) + d_n)

    Parameters
    ----------
    {x}
    {weights}
    {h0}
    {options}
    {linear_before_reset}
    {dropout}
    {return_saved}

    Returns
    -------
    {output}
    {saved}

    Raises
    ------
    {errors}

    See Also
    --------
    gru_backward, gru_cell, weights_from_onnx, fastdl.nn.GRU

    References
    ----------
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
    EMNLP 2014.


    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((5, 2, 3), np.float32)  # 5 steps, a batch of 2, 3 features
    >>> weights = np.ones((12, 3), np.float32), np.ones((12, 4), np.float32)  # 4 units, no biases
    >>> output, h_n = fastdl.gru(x, weights, batch_first=True)
    >>> output.shape, h_n.shape
    ((5, 2, 4), (1, 5, 4))
    """
    x = floats(x, "x", 3)
    weights = many_like(weights, "weights", x)
    kind = _gru_kind(linear_before_reset)
    r = _recurrence(kind, x.shape, matrix_shapes(weights), 0, num_layers, bidirectional, batch_first, reverse)
    return _forward(r, x, weights, h0, lengths, dropout, training, seed, offset, return_saved)


@doc(_TEXT)
@operation
def gru_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weights: Sequence[ArrayLike],
    saved: ArrayLike,
    h0: ArrayLike | None = None,
    grad_h_n: ArrayLike | None = None,
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: ArrayLike | Sequence[int] | None = None,
    linear_before_reset: bool = True,
    dropout: float = 0.0,
    training: bool = False,
    seed: int = 0,
    offset: int = 0,
    truncate: int = 0,
    input_grad: bool = True,
    state_grad_norms: Array | None = None,
) -> RecurrentGrad:
    """The gradients of gru: backpropagation through time.

    Parameters
    ----------
    {backward}
    {grad_h_n}
    {options}
    {linear_before_reset}
    {dropout}
    {truncate}

    Returns
    -------
    RecurrentGrad
        The gradients in (x, weights, h0), as `input`, `weights` and `h0`.

    Raises
    ------
    {errors}

    See Also
    --------
    gru

    References
    ----------
    {truncate_source}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((5, 2, 3))
    >>> weights = np.ones((12, 3)), np.ones((12, 4))
    >>> output, h_n, saved = fastdl.gru(x, weights, return_saved=True)
    >>> grads = fastdl.gru_backward(np.ones_like(output), x, weights, saved)
    >>> grads.input.shape, [g.shape for g in grads.weights]
    ((5, 2, 3), [(12, 3), (12, 4)])
    """
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


@doc(_TEXT)
@operation
def rnn(
    x: ArrayLike,
    weights: Sequence[ArrayLike],
    h0: ArrayLike | None = None,
    nonlinearity: str = "tanh",
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: ArrayLike | Sequence[int] | None = None,
    dropout: float = 0.0,
    training: bool = False,
    seed: int = 0,
    offset: int = 0,
    return_saved: bool = False,
) -> tuple[Array, ...]:
    """A stack of plain recurrent layers over whole sequences. torch.nn.RNN.

    One step, with ``*`` element by element, ``@`` the matrix product, W = weight_ih, R = weight_hh, b = bias_ih and
    d = bias_hh::

        h' = tanh(W @ x + b + R @ h + d)        or relu(...)

    Parameters
    ----------
    {x}
    {weights}
    {h0}
    {nonlinearity}
    {options}
    {dropout}
    {return_saved}

    Returns
    -------
    {output}
    {saved}

    Raises
    ------
    {errors}

    See Also
    --------
    rnn_backward, rnn_cell, weights_from_onnx, fastdl.nn.RNN


    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((5, 2, 3), np.float32)  # 5 steps, a batch of 2, 3 features
    >>> weights = np.ones((4, 3), np.float32), np.ones((4, 4), np.float32)  # 4 units, no biases
    >>> output, h_n = fastdl.rnn(x, weights, batch_first=True)
    >>> output.shape, h_n.shape
    ((5, 2, 4), (1, 5, 4))
    """
    x = floats(x, "x", 3)
    weights = many_like(weights, "weights", x)
    kind = choice(nonlinearity, "nonlinearity", NONLINEARITIES)
    r = _recurrence(kind, x.shape, matrix_shapes(weights), 0, num_layers, bidirectional, batch_first, reverse)
    return _forward(r, x, weights, h0, lengths, dropout, training, seed, offset, return_saved)


@doc(_TEXT)
@operation
def rnn_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weights: Sequence[ArrayLike],
    saved: ArrayLike,
    h0: ArrayLike | None = None,
    grad_h_n: ArrayLike | None = None,
    nonlinearity: str = "tanh",
    num_layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
    reverse: bool = False,
    lengths: ArrayLike | Sequence[int] | None = None,
    dropout: float = 0.0,
    training: bool = False,
    seed: int = 0,
    offset: int = 0,
    truncate: int = 0,
    input_grad: bool = True,
    state_grad_norms: Array | None = None,
) -> RecurrentGrad:
    """The gradients of rnn: backpropagation through time.

    Parameters
    ----------
    {backward}
    {grad_h_n}
    {nonlinearity}
    {options}
    {dropout}
    {truncate}

    Returns
    -------
    RecurrentGrad
        The gradients in (x, weights, h0), as `input`, `weights` and `h0`.

    Raises
    ------
    {errors}

    See Also
    --------
    rnn

    References
    ----------
    {truncate_source}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((5, 2, 3))
    >>> weights = np.ones((4, 3)), np.ones((4, 4))
    >>> output, h_n, saved = fastdl.rnn(x, weights, return_saved=True)
    >>> grads = fastdl.rnn_backward(np.ones_like(output), x, weights, saved)
    >>> grads.input.shape, [g.shape for g in grads.weights]
    ((5, 2, 3), [(4, 3), (4, 4)])
    """
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
) -> tuple[Array, ...]:
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
    grad_output: ArrayLike,
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


@doc(_TEXT)
@operation
def lstm_cell(
    x: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """One step of a long short-term memory layer. torch.nn.LSTMCell.

    With ``*`` element by element, ``@`` the matrix product, W = weight_ih, R = weight_hh, b = bias_ih and d = bias_hh::

        i, f, g, o = sigma(.), sigma(.), tanh(.), sigma(.) of the four parts of W @ x + b + R @ h + d
        c' = f * c + i * g
        h' = o * tanh(c')

    Parameters
    ----------
    {cell}
    c : array_like
        The cell before it, shaped as `h`.
    {cell_weights}

    Returns
    -------
    h, c : array
        The state and the cell after the step, shaped as `h`.

    Raises
    ------
    {errors}

    See Also
    --------
    lstm_cell_backward, lstm, fastdl.nn.LSTMCell

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, h = np.ones(3), np.zeros(4)
    >>> weights = np.ones((16, 3)), np.ones((16, 4))
    >>> h, c = fastdl.lstm_cell(x, h, np.zeros(4), *weights)
    >>> h.shape, c.shape
    ((4,), (4,))
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


@doc(_TEXT)
@operation
def lstm_cell_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    grad_c: ArrayLike | None = None,
) -> LSTMCellGrad:
    """The gradients of lstm_cell, which makes the step again.

    Parameters
    ----------
    {cell_backward}
    {cell}
    c : array_like
        The cell before it, shaped as `h`.
    {cell_weights}
    grad_c : array_like, optional
        The loss' gradient in the cell after the step; zeros by default.

    Returns
    -------
    LSTMCellGrad
        The gradients in x, as `input`, and in h, c, the weights and the biases (those too that were not given).

    Raises
    ------
    {errors}

    See Also
    --------
    lstm_cell

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, h = np.ones(3), np.zeros(4)
    >>> weights = np.ones((16, 3)), np.ones((16, 4))
    >>> grads = fastdl.lstm_cell_backward(np.ones(4), x, h, np.zeros(4), *weights)
    >>> grads.input.shape, grads.bias_hh.shape
    ((3,), (16,))
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


@doc(_TEXT)
@operation
def gru_cell(
    x: ArrayLike,
    h: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    linear_before_reset: bool = True,
    out: Array | None = None,
) -> Array:
    """One step of a gated recurrent unit layer. torch.nn.GRUCell.

    With ``*`` element by element, ``@`` the matrix product, W = weight_ih, R = weight_hh, b = bias_ih and d = bias_hh::

        r, z = sigma(.) of the first two parts of W @ x + b + R @ h + d
        n = tanh(W_n @ x + b_n + r * (R_n @ h + d_n))
        h' = (1 - z) * n + z * h

    Parameters
    ----------
    {cell}
    {cell_weights}
    {linear_before_reset}
    {cell_out}

    Returns
    -------
    array
        The state after the step, shaped as `h`.

    Raises
    ------
    {errors}

    See Also
    --------
    gru_cell_backward, gru, fastdl.nn.GRUCell

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, h = np.ones(3), np.zeros(4)
    >>> weights = np.ones((12, 3)), np.ones((12, 4))
    >>> fastdl.gru_cell(x, h, *weights).shape
    (4,)
    """
    kind = _gru_kind(linear_before_reset)
    return _cell(kind, x, h, weight_ih, weight_hh, bias_ih, bias_hh, out)


@doc(_TEXT)
@operation
def gru_cell_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    h: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    linear_before_reset: bool = True,
) -> CellGrad:
    """The gradients of gru_cell, which makes the step again.

    Parameters
    ----------
    {cell_backward}
    {cell}
    {cell_weights}
    {linear_before_reset}

    Returns
    -------
    CellGrad
        The gradients in x, as `input`, and in h, the weights and the biases (those too that were not given).

    Raises
    ------
    {errors}

    See Also
    --------
    gru_cell

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, h = np.ones(3), np.zeros(4)
    >>> weights = np.ones((12, 3)), np.ones((12, 4))
    >>> grads = fastdl.gru_cell_backward(np.ones(4), x, h, *weights)
    >>> grads.input.shape, grads.bias_hh.shape
    ((3,), (12,))
    """
    kind = _gru_kind(linear_before_reset)
    return _cell_backward(kind, grad_output, x, h, weight_ih, weight_hh, bias_ih, bias_hh)


@doc(_TEXT)
@operation
def rnn_cell(
    x: ArrayLike,
    h: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    nonlinearity: str = "tanh",
    out: Array | None = None,
) -> Array:
    """One step of a plain recurrent layer. torch.nn.RNNCell.

    With ``*`` element by element, ``@`` the matrix product, W = weight_ih, R = weight_hh, b = bias_ih and d = bias_hh::

        h' = tanh(W @ x + b + R @ h + d)        or relu(...)

    Parameters
    ----------
    {cell}
    {cell_weights}
    {nonlinearity}
    {cell_out}

    Returns
    -------
    array
        The state after the step, shaped as `h`.

    Raises
    ------
    {errors}

    See Also
    --------
    rnn_cell_backward, rnn, fastdl.nn.RNNCell

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, h = np.ones(3), np.zeros(4)
    >>> weights = np.ones((4, 3)), np.ones((4, 4))
    >>> fastdl.rnn_cell(x, h, *weights).shape
    (4,)
    """
    kind = choice(nonlinearity, "nonlinearity", NONLINEARITIES)
    return _cell(kind, x, h, weight_ih, weight_hh, bias_ih, bias_hh, out)


@doc(_TEXT)
@operation
def rnn_cell_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    h: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    nonlinearity: str = "tanh",
) -> CellGrad:
    """The gradients of rnn_cell, which makes the step again.

    Parameters
    ----------
    {cell_backward}
    {cell}
    {cell_weights}
    {nonlinearity}

    Returns
    -------
    CellGrad
        The gradients in x, as `input`, and in h, the weights and the biases (those too that were not given).

    Raises
    ------
    {errors}

    See Also
    --------
    rnn_cell

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, h = np.ones(3), np.zeros(4)
    >>> weights = np.ones((4, 3)), np.ones((4, 4))
    >>> grads = fastdl.rnn_cell_backward(np.ones(4), x, h, *weights)
    >>> grads.input.shape, grads.bias_hh.shape
    ((3,), (4,))
    """
    kind = choice(nonlinearity, "nonlinearity", NONLINEARITIES)
    return _cell_backward(kind, grad_output, x, h, weight_ih, weight_hh, bias_ih, bias_hh)


@helper
def _cell(
    kind: int,
    x: ArrayLike,
    h: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: Any,
    bias_hh: Any,
    out: Array | None,
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
    kind: int,
    grad_output: ArrayLike,
    x: ArrayLike,
    h: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: Any,
    bias_hh: Any,
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
def _state(h: ArrayLike, argument: str, x: Array, shape: tuple[int, ...]) -> Array:
    h = floats_like(h, argument, x)
    if h.shape != shape:
        fail(argument, h.shape, shape)
    return h


# ---- ONNX ----

_ONNX_ORDER = {"RNN": (0,), "LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
"""The places of ONNX's gates in torch's order: (i, o, f, c) and (z, r, h)."""
_ONNX_PEEPHOLES = (0, 2, 1)


@doc(_TEXT)
def weights_from_onnx(
    operator: str, W: ArrayLike, R: ArrayLike, B: ArrayLike | None = None, P: ArrayLike | None = None
) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
    """The inputs of ONNX's operators RNN, LSTM and GRU as what rnn, lstm and gru take.

    Parameters
    ----------
    operator : {"RNN", "LSTM", "GRU"}
        Whose inputs. For "GRU", whose operator has linear_before_reset = 0 unless it says otherwise, pass that on.
    W : array_like
        (directions, gates * hidden, in), in ONNX's order of gates.
    R : array_like
        (directions, gates * hidden, hidden).
    B : array_like, optional
        (directions, 2 * gates * hidden).
    P : array_like, optional
        (directions, 3 * hidden); of an LSTM only.

    Returns
    -------
    weights : tuple of arrays
        Copies, in torch's order.
    peepholes : tuple of arrays, or None
        Likewise.

    Raises
    ------
    {errors}

    See Also
    --------
    weights_to_onnx

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> weights, peepholes = fastdl.weights_from_onnx("GRU", np.ones((1, 12, 3)), np.ones((1, 12, 4)))
    >>> [w.shape for w in weights], peepholes
    ([(12, 3), (12, 4)], None)
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


@doc(_TEXT)
def weights_to_onnx(
    operator: str,
    weights: Sequence[ArrayLike],
    bidirectional: bool = False,
    peepholes: Sequence[ArrayLike] | None = None,
) -> dict[str, Array]:
    """The weights of one layer as the inputs of ONNX's operator RNN, LSTM or GRU.

    Parameters
    ----------
    operator : {"RNN", "LSTM", "GRU"}
        Whose inputs.
    weights : sequence of arrays
        What rnn, lstm or gru takes, for one layer.
    bidirectional : bool
        Whether they are of two directions.
    peepholes : sequence of arrays, optional
        An LSTM's.

    Returns
    -------
    dict
        The inputs "W" and "R", and "B" and "P" where there are any, in ONNX's order of gates.

    Raises
    ------
    {errors}

    See Also
    --------
    weights_from_onnx

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> inputs = fastdl.weights_to_onnx("GRU", (np.ones((12, 3)), np.ones((12, 4))))
    >>> {name: array.shape for name, array in inputs.items()}
    {'W': (1, 12, 3), 'R': (1, 12, 4)}
    """
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
        inputs["P"] = np.stack([_reordered(p, _ONNX_PEEPHOLES) for p in many_like(peepholes, "peepholes", arrays[0])])
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
