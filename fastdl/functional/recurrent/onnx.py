"""Weights as ONNX's operators have them, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastdl._docs import doc
from fastdl.functional.recurrent._shared import TEXT
from fastdl.functional.verbs import Array, ArrayLike, fail, floats, many_like, optional_like

__all__ = [
    "weights_from_onnx",
    "weights_to_onnx",
]

_ONNX_ORDER = {"RNN": (0,), "LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
"""The places of ONNX's gates in torch's order: (i, o, f, c) and (z, r, h)."""
_ONNX_PEEPHOLES = (0, 2, 1)


@doc(TEXT)
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


@doc(TEXT)
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
