"""Long short-term memory over sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, overload

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl._kernels import RECURRENT_LSTM as LSTM
from fastdl.functional._operation import operation
from fastdl.functional.recurrent._shared import (
    TEXT,
    check_backward,
    grad_norms,
    kept,
    recurrence,
    saved_size,
)
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    array_table,
    arrays_like,
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
    "LSTMGrad",
    "lstm",
    "lstm_backward",
]


class LSTMGrad(NamedTuple):
    """The gradients of `lstm`, each shaped as the argument of that name; `input` is that of x."""

    input: Array
    weights: tuple[Array, ...]
    h0: Array
    c0: Array
    peepholes: tuple[Array, ...]


@overload
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
    return_saved: Literal[False] = False,
) -> tuple[Array, Array, Array]: ...
@overload
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
    *,
    return_saved: Literal[True],
) -> tuple[Array, Array, Array, Array]: ...
@doc(TEXT)
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
    x = floats(x, "x")
    weights = many_like(weights, "weights", x)
    peepholes = many_like(peepholes, "peepholes", x)
    shapes = matrix_shapes(weights + peepholes)
    sizes = recurrence(LSTM, x.shape, shapes, len(peepholes), num_layers, bidirectional, batch_first, reverse)
    r, shape, h_shape, c_shape = sizes
    h0, c0 = optional_like(h0, "h0", x, h_shape), optional_like(c0, "c0", x, c_shape)
    lengths = sequence_lengths(lengths, r.batch, r.steps)
    keep = kept(dropout, training)
    result, h_n, c_n = np.empty(shape, x.dtype), np.empty(h_shape, x.dtype), np.empty(c_shape, x.dtype)
    flag(return_saved, "return_saved")
    saved = np.empty(saved_size(r, lengths) if return_saved else 0, x.dtype)
    arrays = weights + peepholes
    table = array_table(arrays, arrays, 0)
    start = integer(offset, "offset", 0)
    _kernels.recurrent(x, table, lengths, h0, c0, result, h_n, c_n, saved, r, keep, integer(seed, "seed", 0), start)
    return with_saved((result, h_n, c_n), saved, return_saved)


@doc(TEXT)
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
    x = floats(x, "x")
    weights = many_like(weights, "weights", x)
    peepholes = many_like(peepholes, "peepholes", x)
    shapes = matrix_shapes(weights + peepholes)
    sizes = recurrence(LSTM, x.shape, shapes, len(peepholes), num_layers, bidirectional, batch_first, reverse)
    r, shape, h_shape, c_shape = sizes
    grad_output = floats_like(grad_output, "grad_output", x)
    saved = floats_like(saved, "saved", x, 1)
    h0, c0 = optional_like(h0, "h0", x, h_shape), optional_like(c0, "c0", x, c_shape)
    grad_h_n = optional_like(grad_h_n, "grad_h_n", x, h_shape)
    grad_c_n = optional_like(grad_c_n, "grad_c_n", x, c_shape)
    lengths = sequence_lengths(lengths, r.batch, r.steps)
    norms = grad_norms(state_grad_norms, r, x, grad_output, saved)
    check_backward(r, shape, grad_output, saved, lengths)
    keep = kept(dropout, training)
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
