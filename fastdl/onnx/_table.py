"""The table of operators: a function for each, and for each version that means something else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastdl._recording import get_recorder, set_recorder
from fastdl.functional.verbs import Array

Function = Callable[..., Any]
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
LIMIT = 1 << 31
"""Bytes that one result of a node may have where its size follows from numbers, not from the sizes of its inputs."""


@dataclass(frozen=True)
class Operator:
    """One row."""

    name: str
    since: int
    function: Function
    """Takes the inputs, None for one that is left out, and attributes by keyword; returns an output, or a tuple."""
    attributes: frozenset[str]
    required: frozenset[str]
    inputs: tuple[int, int]
    """At least, and at most, how many."""
    sizes: frozenset[int]
    """Inputs whose values say how large results are."""
    fixed: frozenset[int]
    """Others whose values have to be known for kernels to be recorded."""
    kernels: bool | Callable[..., bool]
    """Whether kernels compute it; or a function of the node and the inputs, which says so: then the operator's function
    goes on with all other dtypes itself."""
    view: bool
    """Whether it moves no elements."""
    varying: bool
    """Whether the size of its result follows from values of any input."""
    random: bool
    of_shape: bool
    """Whether it takes the shape of its input only."""


TABLE: dict[tuple[str, str], list[Operator]] = {}
"""By domain and name: the versions, the newest first."""


def operator(
    *names: str,
    since: int = 1,
    domain: str = "",
    sizes: Iterable[str] = (),
    fixed: Iterable[str] = (),
    kernels: bool | Callable[..., bool] = False,
    view: bool = False,
    varying: bool = False,
    random: bool = False,
    of_shape: bool = False,
) -> Callable[[Function], Function]:
    """Put a function into the table. Its positional parameters are the inputs, its keywords the attributes, with ONNX's
    defaults; `node` and `outer` are the node itself, and what its subgraphs take from outside."""

    def register(function: Function) -> Function:
        parameters = inspect.signature(function).parameters.values()
        given = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD or p.kind is p.POSITIONAL_ONLY]
        keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        many = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        places = {p.name: i for i, p in enumerate(given)}
        for name in names:
            row = Operator(
                name,
                since,
                function,
                frozenset(p.name for p in keywords),
                frozenset(p.name for p in keywords if p.default is p.empty and p.name not in ("node", "outer")),
                (sum(p.default is p.empty for p in given), 1 << 30 if many else len(given)),
                frozenset(places[s] for s in sizes),
                frozenset(places[s] for s in fixed),
                kernels,
                view,
                varying,
                random,
                of_shape,
            )
            rows = TABLE.setdefault((domain, name), [])
            rows.append(row)
            rows.sort(key=lambda r: -r.since)
        return function

    return register


def find(domain: str, name: str, version: int) -> Operator | None:
    """The row for a node of a model whose operators are of that version."""
    return next((row for row in TABLE.get((domain, name), ()) if row.since <= version), None)


def _same(a: Any, b: Any) -> bool:
    return a is b or (not isinstance(a, np.ndarray) and type(a) is type(b) and bool(a == b))


@dataclass
class Node:
    """A node of a graph, with the function that computes it."""

    name: str
    operator: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    captured: tuple[str, ...] = ()
    """What its subgraphs take from outside."""
    _made: dict[str, tuple[tuple[Any, ...], Any]] = field(default_factory=dict, repr=False)

    @property
    def uses(self) -> tuple[str, ...]:
        return (*(name for name in self.inputs if name), *self.captured)

    def once(self, name: str, sources: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What is made of these constants, kept for the next call."""
        found = self._made.get(name)
        if found is None or not all(map(_same, found[0], sources)):
            before = set_recorder(None)
            try:
                found = self._made[name] = sources, make()
            finally:
                set_recorder(before)
        return found[1]

    def with_names(self, change: Callable[[str], str]) -> Node:
        names = [tuple(change(n) if n else n for n in group) for group in (self.inputs, self.outputs, self.captured)]
        return replace(self, inputs=names[0], outputs=names[1], captured=names[2])

    def __call__(self, get: Callable[[str], Any]) -> tuple[Any, ...]:
        """The outputs, of what `get` says that the inputs are."""
        values = [get(name) if name else None for name in self.inputs]
        options = self.attributes
        if "outer" in self.operator.attributes:
            options = options | {"outer": {name: get(name) for name in self.captured}}
        if "node" in self.operator.attributes:
            options = options | {"node": self}
        try:
            if self.operator.kernels is True and values and isinstance(values[0], np.ndarray):
                found = self._widened(values, options)
            else:
                found = self.operator.function(*values, **options)
        except (MemoryError, OverflowError) as error:
            raise ValueError(f"{self}: {error or 'found too little memory'}") from None
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, ZeroDivisionError) as error:
            if get_recorder() is not None or str(error).startswith(str(self)):
                raise
            kind = type(error) if type(error) in (ValueError, TypeError, IndexError) else ValueError
            raise kind(f"{self}: {error}") from error
        every = found if isinstance(found, tuple) else (found,)
        return tuple([np.asarray(v) if isinstance(v, np.generic) else v for v in every])

    def _widened(self, values: list[Any], options: dict[str, Any]) -> Any:
        """Kernels compute in float32 and float64: other numbers become those, and are made of them again."""
        dtype = values[0].dtype
        if dtype in FLOATS:
            return self.operator.function(*values, **options)
        wide = np.float64 if dtype.kind in "iub" else np.float32
        values = [v.astype(wide) if isinstance(v, np.ndarray) and v.dtype == dtype else v for v in values]
        found = self.operator.function(*values, **options)
        every = found if isinstance(found, tuple) else (found,)
        return tuple(v.astype(dtype) if isinstance(v, np.ndarray) and v.dtype == wide else v for v in every)

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.operator.name})"


def bounded(shape: Iterable[int], dtype: Any) -> tuple[int, ...]:
    """A shape, if an array of it has no more than LIMIT bytes."""
    sizes = tuple(int(n) for n in shape)
    if min(sizes, default=0) < 0:
        raise ValueError(f"found shape {sizes}, expected no negative sizes")
    total = np.dtype(dtype).itemsize
    for n in sizes:
        total *= n
    if total > LIMIT:
        raise ValueError(f"found a result of shape {sizes}, {total} bytes, expected at most {LIMIT}")
    return sizes


def is_floats(*values: Any) -> bool:
    """Whether these are arrays of float32, or all of float64."""
    arrays = [v for v in values if v is not None]
    return all(isinstance(v, np.ndarray) for v in arrays) and {v.dtype for v in arrays} in ({FLOATS[0]}, {FLOATS[1]})


def floats_only(node: Node, *values: Any) -> bool:
    """For `kernels`: all inputs are of one dtype, one that kernels have."""
    return is_floats(*values)


__all__ = [
    "FLOATS",
    "LIMIT",
    "TABLE",
    "Array",
    "Node",
    "Operator",
    "bounded",
    "find",
    "floats_only",
    "is_floats",
    "operator",
]
