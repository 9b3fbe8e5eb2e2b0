"""Branches and loops, in Python over their graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.functional.verbs import Array
from fastdl.onnx._graph import Graph
from fastdl.onnx._table import operator


def _interpret(graph: Graph, given: dict[str, Any], outer: dict[str, Any]) -> list[Any]:
    from fastdl.onnx._plan import interpret

    return interpret(graph, given, outer)


@operator("If", varying=True)
def if_(condition: Array, *, then_branch: Graph, else_branch: Graph, outer: dict[str, Any]) -> Any:
    return tuple(_interpret(then_branch if np.all(condition) else else_branch, {}, outer))


@operator("Loop", varying=True)
def loop(
    count: Array | None = None, condition: Array | None = None, *carried: Any, body: Graph, outer: dict[str, Any]
) -> Any:
    most = None if count is None else int(count.reshape(()))
    going = True if condition is None else bool(condition.reshape(()))
    values, collected = list(carried), [[] for _ in body.outputs[1 + len(carried) :]]  # type: ignore[var-annotated]
    names = [t.name for t in body.inputs]
    i = 0
    while going and (most is None or i < most):
        given = dict(zip(names, [np.array(i, np.int64), np.array(going), *values], strict=True))
        flag, *found = _interpret(body, given, outer)
        going = bool(np.all(flag))
        values = found[: len(values)]
        for row, value in zip(collected, found[len(values) :], strict=True):
            row.append(value)
        i += 1
    return (*values, *(_stacked(row, t) for row, t in zip(collected, body.outputs[1 + len(values) :], strict=True)))


def _stacked(row: list[Array], info: Any, axis: int = 0) -> Array:
    if row:
        return np.stack(row, axis)
    sizes = [n if isinstance(n, int) else 0 for n in info.shape or ()]
    return np.empty((0, *sizes), info.dtype or np.float32)


@operator("Scan", since=9, varying=True)
def scan(
    *values: Any,
    body: Graph,
    num_scan_inputs: int,
    scan_input_axes: list[int] | None = None,
    scan_input_directions: list[int] | None = None,
    scan_output_axes: list[int] | None = None,
    scan_output_directions: list[int] | None = None,
    outer: dict[str, Any],
) -> Any:
    states, inputs = list(values[: len(values) - num_scan_inputs]), values[len(values) - num_scan_inputs :]
    moved = [np.moveaxis(x, a, 0) for x, a in zip(inputs, scan_input_axes or [0] * len(inputs), strict=True)]
    moved = [x[::-1] if d else x for x, d in zip(moved, scan_input_directions or [0] * len(inputs), strict=True)]
    lengths = {len(x) for x in moved}
    if len(lengths) != 1:
        raise ValueError(f"inputs: found sequences of {sorted(lengths)}, expected one length")
    names = [t.name for t in body.inputs]
    many = body.outputs[len(states) :]
    collected: list[list[Array]] = [[] for _ in many]
    for i in range(lengths.pop()):
        found = _interpret(body, dict(zip(names, [*states, *(x[i] for x in moved)], strict=True)), outer)
        states = found[: len(states)]
        for row, value in zip(collected, found[len(states) :], strict=True):
            row.append(value)
    axes, turned = scan_output_axes or [0] * len(many), scan_output_directions or [0] * len(many)
    rows = [row[::-1] if d else row for row, d in zip(collected, turned, strict=True)]
    return (*states, *(_stacked(row, t, a) for row, t, a in zip(rows, many, axes, strict=True)))


@operator("Scan", since=8, varying=True)
def scan_8(
    lengths: Array | None = None,
    *values: Any,
    body: Graph,
    num_scan_inputs: int,
    directions: list[int] | None = None,
    outer: dict[str, Any],
) -> Any:
    """For each sample of a batch."""
    found = [
        scan(
            *(v[i] for v in values[: len(values) - num_scan_inputs]),
            *(v[i][: None if lengths is None else lengths[i]] for v in values[len(values) - num_scan_inputs :]),
            body=body,
            num_scan_inputs=num_scan_inputs,
            scan_input_directions=directions,
            outer=outer,
        )
        for i in range(len(values[0]))
    ]
    return tuple(np.stack(column) for column in zip(*found, strict=True))
