"""Recurrent networks: units around vectors and tiles, every option with every kind, blocks larger than caches."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from fastdl import reference
from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, Tolerance, declare, flat, mapped

_GATES = {"rnn": 1, "lstm": 4, "gru": 3}
_DELTA = 2.0**-26


def _conditioned(operation: str, terms: int) -> Tolerance:
    """What a change of every number that is given, by one rounding up or down, makes of the results: times 8 sqrt(n).

    A rounding anywhere in a step is as good as a small change of what went into it (backward error analysis), and
    what errors grow to through time, gates, layers and back again is then what such changes grow to: no formula
    need say it, and one that bounded each step by itself would grow exponentially where a network forgets. The longest
    sum has n terms, whose roundings add up to as much as sqrt(n) of one (see `summed`); 8 covers that a change at
    random is not the worst one, and that a norm is used: changes are compared by the largest in an array. The
    results' own roundings, and those of tanh and the like, come on top; in a backward also that slopes such as
    1 - n n are off by roundings of 1 where they are nearly 0. Tight: in float32 it is 1e-5 of the largest
    result, where a gate mistaken for another, or a bias left out, changes all of it.
    """

    def tolerance(arguments: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        rng = np.random.default_rng(0)

        def moved(x: Array) -> Array:
            return x * (1 + _DELTA * rng.choice((-1, 1), x.shape)) if x.dtype.kind == "f" else x

        changes = [0.0] * len(expected)
        for _ in range(2):
            given = {name: mapped(moved, value) for name, value in arguments.items() if name != "return_saved"}
            if operation.endswith("_backward") and "cell" not in operation:
                given["saved"] = None  # which the reference does not read
            returned = getattr(reference, operation)(**given)
            found = flat([returned, given.get("state_grad_norms")])
            for i, (a, b) in enumerate(zip(found, expected, strict=True)):
                changes[i] = max(changes[i], _largest(a - b))
        slopes = 0.0
        if operation.endswith("_backward"):
            grads = [value for name, value in arguments.items() if name.startswith("grad_")]
            others = [value for name, value in arguments.items() if not name.startswith(("grad_", "state_grad"))]
            slopes = 4 * max(map(_largest, flat(grads))) * max(1.0, *map(_largest, flat(others)))
        return tuple(
            8 * math.sqrt(terms + 2) * change / _DELTA + 16 * _largest(b) + slopes
            for change, b in zip(changes, expected, strict=True)
        )

    return tolerance


def _largest(x: Array) -> float:
    """Of the finite numbers, where there are floats."""
    if x.dtype.kind != "f":
        return 0.0
    return float(np.max(np.abs(x), where=np.isfinite(x), initial=0))


def _normal(shape: Shape, scale: float) -> Draw:
    return lambda rng: scale * rng.standard_normal(shape)


def recurrent(
    operation: str,
    hidden: int,
    batch: int | None = 3,
    steps: int = 4,
    size: int = 5,
    *,
    values: Draw | None = None,
    bias: bool = True,
    states: bool = True,
    lengths: tuple[int, ...] | None = None,
    projection: int = 0,
    peepholes: bool = False,
    norms: bool = False,
    note: str = "",
    tags: tuple[str, ...] = (),
    backward: Arguments | None = None,
    **options: Any,
) -> Case:
    """A case of rnn, lstm or gru on x of `size` numbers; batch None: one sequence. states: h0 and c0, and gradients in
    the last ones; norms: state_grad_norms; backward: options of the backward alone."""
    gates, output = _GATES[operation], projection or hidden
    layers, directions = options.get("num_layers", 1), 1 + options.get("bidirectional", False)
    count = layers * directions
    lead = () if batch is None else (batch,)
    sequence = lambda n: (*lead, steps, n) if options.get("batch_first") else (steps, *lead, n)  # noqa: E731
    weights: list[tuple[Shape, float]] = []
    for layer, _ in itertools.product(range(layers), range(directions)):
        given = size if layer == 0 else directions * output
        weights += [((gates * hidden, given), max(given, 1) ** -0.5), ((gates * hidden, output), output**-0.5)]
        weights += [((gates * hidden,), 0.5)] * 2 * bias
        weights += [((projection, hidden), hidden**-0.5)] * (projection > 0)
    state_shapes = [(count, *lead, output), (count, *lead, hidden)][: 1 + (operation == "lstm")]
    inputs: dict[str, Any] = {"x": values or sequence(size), "weights": tuple(_normal(*weight) for weight in weights)}
    inputs |= {name: shape if states else None for name, shape in zip(("h0", "c0"), state_shapes, strict=False)}
    words = [note, f"hidden={hidden}", "no-batch" * (batch is None)]
    if projection:
        words.append(f"to={projection}")
    if not bias:
        words.append("no-bias")
    if lengths:
        inputs["lengths"] = lambda rng: np.array(lengths)
        words.append("lengths=" + "x".join(map(str, lengths)))
    if peepholes:
        inputs["peepholes"] = (_normal((3 * hidden,), 0.5),) * count
        words.append("peepholes")
    backward = backward or {}
    words += [f"{name}={value}" for name, value in backward.items()]
    wanted = backward.get("input_grad", True)
    grads: list[Shape] = [sequence(size) if wanted else (0, *sequence(size)[1:])]
    grads += [shape for shape, _ in weights] + state_shapes + [(3 * hidden,)] * (count * peepholes)
    extra: dict[str, Any] = {}
    if norms:
        extra["state_grad_norms"] = lambda rng: np.full((count, steps), np.nan)
        grads.append((count, steps))
        words.append("norms")
    masked = options.get("training") and 0 < options.get("dropout", 0) < 1
    if peepholes or masked or backward or not options.get("linear_before_reset", True):
        tags = (*tags, "not-in-torch")
    rows = sum(lengths) if lengths else steps * math.prod(lead)
    flops = 2.0 * rows * sum(math.prod(shape) for shape, _ in weights if len(shape) == 2)
    terms = max(shape[-1] for shape, _ in weights if len(shape) == 2) + output
    return declare(
        operation,
        inputs,
        (sequence(directions * output), *state_shapes),
        flops=flops,
        tolerance=_conditioned(operation, terms),
        backward=Backward(
            flops=2 * flops,
            tolerance=_conditioned(f"{operation}_backward", max(terms, gates * hidden, rows)),
            shapes=tuple(grads),
            grads=("grad_output", "grad_h_n", "grad_c_n")[: 1 + states * len(state_shapes)],
            inputs=extra,
            updates=tuple(extra),
            parameters=backward,
        ),
        tags=tags,
        note="-".join(filter(None, words)),
        **options,
    )


def cell(
    operation: str,
    hidden: int,
    batch: int | None = None,
    size: int = 5,
    *,
    values: Draw | None = None,
    biases: tuple[bool, bool] = (True, True),
    note: str = "",
    tags: tuple[str, ...] = (),
    **options: Any,
) -> Case:
    """A case of rnn_cell, lstm_cell or gru_cell; batch None: x is a vector."""
    rows, lead = batch or 1, () if batch is None else (batch,)
    gates, long = _GATES[operation.removesuffix("_cell")], operation == "lstm_cell"
    x, state, weight_ih = (*lead, size), (*lead, hidden), (gates * hidden, size)
    weight_hh, bias = (gates * hidden, hidden), (gates * hidden,)
    inputs: dict[str, Any] = {"x": values or x, "h": state} | ({"c": state} if long else {})
    inputs |= {"weight_ih": _normal(weight_ih, size**-0.5), "weight_hh": _normal(weight_hh, hidden**-0.5)}
    for name, given in zip(("bias_ih", "bias_hh"), biases, strict=True):
        inputs[name] = _normal(bias, 0.5) if given else None
    words = ["x".join(map(str, (*lead, size))), *(f"no-{n}" for n in ("bias_ih", "bias_hh") if inputs[n] is None)]
    if not options.get("linear_before_reset", True):
        tags = (*tags, "not-in-torch")
    flops = 2.0 * (batch if batch is not None else 1) * gates * hidden * (size + hidden)
    return declare(
        operation,
        inputs,
        (state, state) if long else state,
        flops=flops,
        tolerance=_conditioned(operation, size + hidden),
        backward=Backward(
            flops=2 * flops,
            tolerance=_conditioned(f"{operation}_backward", max(size + hidden, gates * hidden, rows)),
            shapes=(x, state, *(state,) * long, weight_ih, weight_hh, bias, bias),
            grads=("grad_output", "grad_c")[: 1 + long],
        ),
        tags=tags,
        note="-".join(filter(None, [note, f"hidden={hidden}", *words])),
        **options,
    )


def _not_finite(rng: np.random.Generator) -> Array:
    """(steps 4, batch 5, 3): samples with a NaN or an infinity early, late, and not at all."""
    x = rng.standard_normal((4, 5, 3))
    x[0, 0, 1], x[3, 1, 0], x[1, 2, 2], x[2, 3, 0] = np.nan, np.inf, -np.inf, np.nan
    return x


def _not_finite_rows(rng: np.random.Generator) -> Array:
    x = rng.standard_normal((4, 3))
    x[0, 0], x[1, 1], x[2, 2] = np.nan, np.inf, -np.inf
    return x


# hidden, batch, steps, inputs
_SIZES: dict[str, list[tuple[int, int, int, int]]] = {
    "lstm": [
        (1, 1, 1, 1),
        (3, 2, 5, 1),
        (8, 4, 2, 8),
        (15, 5, 7, 3),
        (17, 7, 2, 16),
        (31, 1, 20, 5),
        (33, 13, 3, 7),
        (65, 6, 3, 33),
    ],
    "gru": [
        (1, 4, 6, 3),
        (5, 1, 3, 5),
        (9, 3, 4, 1),
        (16, 7, 2, 15),
        (24, 1, 20, 8),
        (32, 5, 3, 9),
        (65, 13, 3, 31),
    ],
    "rnn": [(7, 6, 4, 3), (17, 2, 20, 1), (32, 1, 5, 31), (33, 13, 2, 7)],
}
# Of each kind: all that is to be had with it. Together they use every option once or more.
_KINDS: list[tuple[str, dict[str, Any]]] = [
    ("lstm", {}),
    ("gru", {}),
    ("gru", {"linear_before_reset": False}),
    ("rnn", {}),
    ("rnn", {"nonlinearity": "relu"}),
]
_COMBINATIONS: list[dict[str, Any]] = [
    {"hidden": 9, "batch": 5, "steps": 6, "size": 3, "lengths": (3, 6, 1, 6, 2), "num_layers": 2, "bidirectional": True}
    | {"norms": True},
    {"hidden": 6, "batch": 3, "steps": 5, "lengths": (2, 5, 3), "batch_first": True, "reverse": True, "bias": False},
    {"hidden": 5, "batch": 2, "steps": 3, "num_layers": 3, "bidirectional": True, "batch_first": True}
    | {"dropout": 0.4, "training": True, "seed": 7, "offset": 2**32 - 5},
    {"hidden": 10, "batch": 2, "steps": 7, "states": False, "bidirectional": True, "backward": {"truncate": 3}}
    | {"norms": True},
    {"hidden": 4, "batch": 3, "steps": 6, "lengths": (4, 6, 5), "reverse": True, "num_layers": 2}
    | {"backward": {"truncate": 2, "input_grad": False}},
]
_MISSING = [(False, False), (True, False), (False, True)]
_ANCHORS = [(100, 1, 64), (100, 1, 256), (50, 1, 1024), (50, 32, 256), (25, 64, 512), (25, 64, 1024)]


def _anchor(operation: str, steps: int, batch: int, hidden: int) -> Case:
    tags = ("bench", "large") if steps * batch * hidden > 10_000 else ("bench",)
    return recurrent(operation, hidden, batch, steps, hidden, tags=tags)


CASES = [
    *(recurrent(name, *sizes) for name, rows in _SIZES.items() for sizes in rows),
    *(recurrent(name, **row, **kind) for name, kind in _KINDS for row in _COMBINATIONS[: 2 if kind else 5]),
    *(recurrent(name, 17, 4, 5, 3, **kind) for name, kind in _KINDS if kind),
    *(
        recurrent(name, 6, 5, 4, 3, values=_not_finite, note="special", tags=("special",), **kind)
        for name, kind in _KINDS
    ),
    *(
        recurrent("rnn", 9, 5, 4, 3, values=_not_finite, note="special", tags=("special",), num_layers=3, **kind)
        for kind in [{"nonlinearity": "relu", "dropout": 0.5, "training": True}]
    ),
    *(recurrent(name, 4, 0, 3, note="empty", tags=("empty",), num_layers=2) for name in _GATES),
    *(recurrent(name, 5, 2, 3, 0, note="no-features", tags=("not-in-torch",)) for name in _GATES),
    *(recurrent(name, 1, 1, 1, 1, num_layers=3, bidirectional=True) for name in _GATES),
    *(recurrent(name, 300, 20, 3, 40) for name in _GATES),
    *(recurrent(name, 9, None, 6, 3, **kind) for name, kind in _KINDS),
    recurrent("lstm", 6, None, 5, projection=4, peepholes=True, num_layers=2, bidirectional=True, norms=True),
    recurrent("lstm", 6, None, 5, states=False, batch_first=True, reverse=True, backward={"input_grad": False}),
    recurrent("gru", 8, None, 4, num_layers=2, batch_first=True, dropout=0.5, training=True, lengths=(3,)),
    recurrent("gru", 130, 20, 2, 40, linear_before_reset=False),
    recurrent("lstm", 9, 5, 4, 3, projection=4),
    recurrent("lstm", 17, 3, 6, 5, projection=16, lengths=(4, 6, 1), num_layers=2, bidirectional=True, norms=True),
    recurrent("lstm", 8, 2, 5, 3, projection=1, bias=False, reverse=True, batch_first=True, backward={"truncate": 2}),
    recurrent("lstm", 8, 3, 4, 5, peepholes=True),
    recurrent("lstm", 19, 4, 5, 2, peepholes=True, lengths=(1, 5, 2, 4), num_layers=2, bidirectional=True, bias=False),
    recurrent("lstm", 5, 2, 6, 3, peepholes=True, projection=3, reverse=True, states=False),
    *(recurrent(name, 8, 3, 4, 5, note="saving", return_saved=True) for name in _GATES),
    recurrent("gru", 5, 2, 3, 2, note="last-offset", num_layers=2, dropout=0.5, training=True, offset=2**63 - 1),
    recurrent("lstm", 3, 2, 2, 2, note="evaluation", num_layers=2, dropout=0.5),
    recurrent("gru", 3, 2, 4, 2, note="all-dropped", num_layers=2, dropout=1.0, training=True),
    *(
        cell(f"{name}_cell", *sizes, **kind)
        for name, kind in _KINDS
        for sizes in ((1, None, 1), (8, 1, 9), (17, 7, 16), (33, 13, 5))[2 if kind else 0 :]
    ),
    *(cell(f"{name}_cell", 9, 2, 3, biases=biases) for name, biases in zip(_GATES, _MISSING, strict=True)),
    *(
        cell(f"{name}_cell", 6, 4, 3, values=_not_finite_rows, note="special", tags=("special",), **kind)
        for name, kind in _KINDS
    ),
    *(cell(f"{name}_cell", 6, 0, 3, note="empty", tags=("empty",)) for name in _GATES),
    *(cell(f"{name}_cell", 32, 1, 32, tags=("bench",)) for name in _GATES),
    *(_anchor(name, *sizes) for name in ("lstm", "gru") for sizes in _ANCHORS),
    _anchor("rnn", 50, 32, 256),
]
