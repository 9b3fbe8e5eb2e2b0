"""Plain and gated recurrent networks over sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import helper, operation
from fastdl.functional.recurrent._shared import (
    NONLINEARITIES,
    TEXT,
    Sizes,
    check_backward,
    grad_norms,
    gru_kind,
    kept,
    recurrence,
    saved_size,
)
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    array_table,
    arrays_like,
    choice,
    flag,
    floats,
    floats_like,
    gradient,
    integer,
    many_like,
    matrix_shapes,
    optional_like,
    sequence_lengths,
    with_saved,
)

__all__ = [
    "RecurrentGrad",
    "gru",
    "gru_backward",
    "rnn",
    "rnn_backward",
]


class RecurrentGrad(NamedTuple):
    """The gradients of `rnn` and `gru`, each shaped as the argument of that name; `input` is that of x."""

    input: Array
    weights: tuple[Array, ...]
    h0: Array


@overload
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
    return_saved: Literal[False] = False,
) -> tuple[Array, Array]: ...
@overload
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
    *,
    return_saved: Literal[True],
) -> tuple[Array, Array, Array]: ...
@doc(TEXT)
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
    x = floats(x, "x")
    weights = many_like(weights, "weights", x)
    kind = choice(nonlinearity, "nonlinearity", NONLINEARITIES)
    sizes = recurrence(kind, x.shape, matrix_shapes(weights), 0, num_layers, bidirectional, batch_first, reverse)
    return _forward(sizes, x, weights, h0, lengths, dropout, training, seed, offset, return_saved)


@doc(TEXT)
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
    x = floats(x, "x")
    weights = many_like(weights, "weights", x)
    kind = choice(nonlinearity, "nonlinearity", NONLINEARITIES)
    sizes = recurrence(kind, x.shape, matrix_shapes(weights), 0, num_layers, bidirectional, batch_first, reverse)
    return _backward(
        sizes,
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


@overload
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
    return_saved: Literal[False] = False,
) -> tuple[Array, Array]: ...
@overload
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
    *,
    return_saved: Literal[True],
) -> tuple[Array, Array, Array]: ...
@doc(TEXT)
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
    x = floats(x, "x")
    weights = many_like(weights, "weights", x)
    kind = gru_kind(linear_before_reset)
    sizes = recurrence(kind, x.shape, matrix_shapes(weights), 0, num_layers, bidirectional, batch_first, reverse)
    return _forward(sizes, x, weights, h0, lengths, dropout, training, seed, offset, return_saved)


@doc(TEXT)
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
    x = floats(x, "x")
    weights = many_like(weights, "weights", x)
    kind = gru_kind(linear_before_reset)
    sizes = recurrence(kind, x.shape, matrix_shapes(weights), 0, num_layers, bidirectional, batch_first, reverse)
    return _backward(
        sizes,
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
    sizes: Sizes,
    x: Array,
    weights: tuple[Array, ...],
    h0: ArrayLike | None,
    lengths: Any,
    dropout: float,
    training: bool,
    seed: int,
    offset: int,
    return_saved: bool,
) -> tuple[Array, ...]:
    """What rnn and gru have in common."""
    r, shape, h_shape, _ = sizes
    h0 = optional_like(h0, "h0", x, h_shape)
    lengths = sequence_lengths(lengths, r.batch, r.steps)
    keep = kept(dropout, training)
    result, h_n = np.empty(shape, x.dtype), np.empty(h_shape, x.dtype)
    flag(return_saved, "return_saved")
    saved = np.empty(saved_size(r, lengths) if return_saved else 0, x.dtype)
    table = array_table(weights, weights, 0)
    start = integer(offset, "offset", 0)
    _kernels.recurrent(x, table, lengths, h0, None, result, h_n, None, saved, r, keep, integer(seed, "seed", 0), start)
    return with_saved((result, h_n), saved, return_saved)


@helper
def _backward(
    sizes: Sizes,
    grad_output: ArrayLike,
    x: Array,
    weights: tuple[Array, ...],
    saved: ArrayLike,
    h0: ArrayLike | None,
    grad_h_n: ArrayLike | None,
    lengths: Any,
    dropout: float,
    training: bool,
    seed: int,
    offset: int,
    truncate: int,
    input_grad: bool,
    state_grad_norms: Any,
) -> RecurrentGrad:
    r, shape, h_shape, _ = sizes
    grad_output = floats_like(grad_output, "grad_output", x)
    saved = floats_like(saved, "saved", x, 1)
    h0, grad_h_n = optional_like(h0, "h0", x, h_shape), optional_like(grad_h_n, "grad_h_n", x, h_shape)
    lengths = sequence_lengths(lengths, r.batch, r.steps)
    norms = grad_norms(state_grad_norms, r, x, grad_output, saved)
    check_backward(r, shape, grad_output, saved, lengths)
    keep = kept(dropout, training)
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
