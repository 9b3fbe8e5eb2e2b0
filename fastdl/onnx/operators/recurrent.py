"""Recurrent networks."""

from __future__ import annotations

from typing import Any

import fastdl
from fastdl.functional.verbs import Array
from fastdl.onnx._table import Node, is_floats, operator

_ACTIVATIONS = {"RNN": (("tanh",), ("relu",)), "LSTM": (("sigmoid", "tanh", "tanh"),), "GRU": (("sigmoid", "tanh"),)}


def _fits(node: Node, x: Any, *others: Any) -> bool:
    return is_floats(x, *(o for o in others if o is not None and o.dtype.kind == "f"))


def _chosen(name: str, given: list[str] | None, directions: int) -> tuple[str, ...]:
    """The activations, which have to be such as the kernels have."""
    known = _ACTIVATIONS[name]
    if not given:
        return known[0]
    lower = tuple(a.lower() for a in given)
    each = len(known[0])
    if len(lower) != each * directions or any(lower[:each] != lower[i : i + each] for i in range(0, len(lower), each)):
        raise ValueError(f"activations: found {given}, expected {each} for each direction, the same for both")
    if lower[:each] not in known:
        raise ValueError(f"activations: found {given}, expected {' or '.join(map(str, known))}")
    return lower[:each]


def _run(
    name: str,
    node: Node,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None,
    lengths: Array | None,
    states: dict[str, Array | None],
    p: Array | None,
    direction: str,
    layout: int,
    **options: Any,
) -> Any:
    weights, peepholes = node.once("weights", (w, r, b, p), lambda: fastdl.weights_from_onnx(name, w, r, b, p))
    directions = len(w)
    for state, given in states.items():
        options[state] = given.swapaxes(0, 1) if layout and given is not None else given
    if name == "LSTM":
        options["peepholes"] = peepholes
    function = getattr(fastdl, name.lower())
    y, *last = function(
        x,
        weights,
        lengths=lengths,
        batch_first=bool(layout),
        bidirectional=directions == 2,
        reverse=direction == "reverse",
        **options,
    )
    y = y.reshape(*y.shape[:2], directions, y.shape[2] // directions)
    return (y if layout else y.swapaxes(1, 2), *(s.swapaxes(0, 1) if layout else s for s in last))


def _refuse(clip: float | None, given: Any = None) -> None:
    if clip is not None:
        raise ValueError(f"clip: found {clip}, expected none")
    if given:
        raise ValueError(f"activation_alpha, activation_beta: found {given}, expected none")


@operator("LSTM", fixed=("w", "r", "b", "p"), kernels=_fits)
def lstm(
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    p: Array | None = None,
    *,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
    node: Node,
) -> Any:
    _refuse(clip, activation_alpha or activation_beta)
    _chosen("LSTM", activations, len(w))
    if input_forget:
        raise ValueError("input_forget: found 1, expected 0")
    return _run("LSTM", node, x, w, r, b, lengths, {"h0": h0, "c0": c0}, p, direction, layout)


@operator("GRU", fixed=("w", "r", "b"), kernels=_fits)
def gru(
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    h0: Array | None = None,
    *,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
    node: Node,
) -> Any:
    _refuse(clip, activation_alpha or activation_beta)
    _chosen("GRU", activations, len(w))
    options = {"linear_before_reset": bool(linear_before_reset)}
    return _run("GRU", node, x, w, r, b, lengths, {"h0": h0}, None, direction, layout, **options)


@operator("RNN", fixed=("w", "r", "b"), kernels=_fits)
def rnn(
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    h0: Array | None = None,
    *,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    node: Node,
) -> Any:
    _refuse(clip, activation_alpha or activation_beta)
    (how,) = _chosen("RNN", activations, len(w))
    return _run("RNN", node, x, w, r, b, lengths, {"h0": h0}, None, direction, layout, nonlinearity=how)
