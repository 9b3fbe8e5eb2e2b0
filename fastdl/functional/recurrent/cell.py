"""The cells that recurrent networks are made of, a step at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl._kernels import RECURRENT_GRU as GRU
from fastdl._kernels import RECURRENT_GRU_RESET_FIRST as GRU_RESET_FIRST
from fastdl._kernels import RECURRENT_LSTM as LSTM
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.recurrent._shared import GATES, NONLINEARITIES, TEXT, gru_kind
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    choice,
    disjoint,
    fail,
    floats,
    floats_like,
    optional_like,
    optional_vector,
    output,
)

__all__ = [
    "CellGrad",
    "LSTMCellGrad",
    "gru_cell",
    "gru_cell_backward",
    "lstm_cell",
    "lstm_cell_backward",
    "rnn_cell",
    "rnn_cell_backward",
]


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


@doc(TEXT)
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
    shape = (*x.shape[:-1], hidden)
    h, c = _state(h, "h", x, shape), _state(c, "c", x, shape)
    bias_ih = optional_vector(bias_ih, "bias_ih", x, 4 * hidden)
    bias_hh = optional_vector(bias_hh, "bias_hh", x, 4 * hidden)
    h_next, c_next = output(None, shape, x), output(None, shape, x)
    _kernels.recurrent_cell(
        x, h, c, weight_ih, weight_hh, bias_ih, bias_hh, h_next, c_next, batch, x.shape[-1], hidden, LSTM
    )
    return h_next, c_next


@doc(TEXT)
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
    shape = (*x.shape[:-1], hidden)
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


@doc(TEXT)
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
    kind = gru_kind(linear_before_reset)
    return _cell(kind, x, h, weight_ih, weight_hh, bias_ih, bias_hh, out)


@doc(TEXT)
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
    kind = gru_kind(linear_before_reset)
    return _cell_backward(kind, grad_output, x, h, weight_ih, weight_hh, bias_ih, bias_hh)


@doc(TEXT)
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


@doc(TEXT)
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
    bias_ih: ArrayLike | None,
    bias_hh: ArrayLike | None,
    out: Array | None,
) -> Array:
    """What rnn_cell and gru_cell have in common. `out` may not be h: other units still read it."""
    x = floats(x, "x")
    weight_ih, weight_hh = floats_like(weight_ih, "weight_ih", x, 2), floats_like(weight_hh, "weight_hh", x, 2)
    batch, hidden = _cell_sizes(GATES[kind], x.shape, weight_ih.shape, weight_hh.shape)
    shape = (*x.shape[:-1], hidden)
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
    bias_ih: ArrayLike | None,
    bias_hh: ArrayLike | None,
) -> CellGrad:
    x = floats(x, "x")
    weight_ih, weight_hh = floats_like(weight_ih, "weight_ih", x, 2), floats_like(weight_hh, "weight_hh", x, 2)
    batch, hidden = _cell_sizes(GATES[kind], x.shape, weight_ih.shape, weight_hh.shape)
    shape = (*x.shape[:-1], hidden)
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


def step_in_place(
    kind: int,
    x: Array,
    h: Array,
    c: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
) -> None:
    """A step of such a cell from x (batch, in), replacing h and c (batch, hidden), by weights packed for it."""
    batch, size = x.shape
    hidden = h.shape[1]
    needed = np.empty(1, np.int64)
    _kernels.recurrent_packed_size(weight_hh, needed, size, hidden, kind)
    packed = np.empty(needed[0], x.dtype)
    _kernels.recurrent_pack(weight_ih, weight_hh, bias_ih, bias_hh, packed, size, hidden, kind)
    _kernels.recurrent_step(x, packed, h, c, h, c, batch, size, hidden, kind)


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
