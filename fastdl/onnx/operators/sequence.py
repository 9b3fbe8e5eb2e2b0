"""Sequences of arrays, as lists, and what may be None."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.functional.verbs import Array
from fastdl.onnx._graph import Graph
from fastdl.onnx._table import operator
from fastdl.onnx.operators._shared import axes_of, ints
from fastdl.onnx.operators.control import _interpret


@operator("SequenceEmpty", varying=True)
def sequence_empty(*, dtype: int = 1) -> Any:
    return ([],)


@operator("SequenceConstruct", varying=True)
def sequence_construct(*arrays: Array) -> Any:
    return (list(arrays),)


def _at(sequence: list[Any], position: Array, last: int) -> int:
    i = int(position.reshape(()))
    if not -len(sequence) <= i < len(sequence) + last:
        raise IndexError(f"position: found {i}, expected one in a sequence of {len(sequence)}")
    return i


@operator("SequenceAt", varying=True)
def sequence_at(sequence: list[Any], position: Array) -> Any:
    return sequence[_at(sequence, position, 0)]


@operator("SequenceInsert", varying=True)
def sequence_insert(sequence: list[Any], array: Array, position: Array | None = None) -> Any:
    found = list(sequence)
    found.insert(len(found) if position is None else _at(found, position, 1), array)
    return (found,)


@operator("SequenceErase", varying=True)
def sequence_erase(sequence: list[Any], position: Array | None = None) -> Any:
    found = list(sequence)
    del found[-1 if position is None else _at(found, position, 0)]
    return (found,)


@operator("SequenceLength", varying=True)
def sequence_length(sequence: list[Any]) -> Array:
    return np.array(len(sequence), np.int64)


@operator("SplitToSequence", varying=True)
def split_to_sequence(x: Array, split: Array | None = None, *, axis: int = 0, keepdims: int = 1) -> Any:
    (at,) = axes_of([axis], x.ndim)
    size = x.shape[at]
    if split is None:
        parts = np.split(x, size, at)
        return (parts if keepdims else [np.squeeze(p, at) for p in parts],)
    if split.ndim == 0:
        ends = list(range(int(split), size, int(split)))
    else:
        ends = [int(n) for n in np.cumsum(ints(split))[:-1]]
    return (np.split(x, ends, at),)


@operator("ConcatFromSequence", varying=True)
def concat_from_sequence(sequence: list[Any], *, axis: int, new_axis: int = 0) -> Array:
    return np.stack(sequence, axis) if new_axis else np.concatenate(sequence, axis)


@operator("SequenceMap", varying=True)
def sequence_map(first: list[Any], *others: Any, body: Graph, outer: dict[str, Any]) -> Any:
    names = [t.name for t in body.inputs]
    rows = [
        _interpret(
            body, dict(zip(names, [x, *(o[i] if isinstance(o, list) else o for o in others)], strict=True)), outer
        )
        for i, x in enumerate(first)
    ]
    return tuple(list(column) for column in zip(*rows, strict=True)) or tuple([] for _ in body.outputs)


@operator("Optional", varying=True)
def optional(value: Any = None, *, type: Any = None) -> Any:
    return (value,)


@operator("OptionalHasElement", varying=True)
def optional_has_element(value: Any = None) -> Array:
    return np.array(value is not None)


@operator("OptionalGetElement", varying=True)
def optional_get_element(value: Any) -> Any:
    if value is None:
        raise ValueError("found an optional input without a value")
    return (value,)
