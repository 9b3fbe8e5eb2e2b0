"""Where batches come from: arrays, cut in rows; or anything that gives batches, again in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

from fastdl.functional.verbs import fail

Array = np.ndarray[Any, Any]
Batch: TypeAlias = "tuple[Any, ...]"
Data: TypeAlias = "tuple[Array, ...] | Iterable[Batch] | Callable[[np.random.Generator], Iterable[Batch]]"


def arrays_of(data: Any, argument: str) -> tuple[Array, ...] | None:
    """The arrays, if that is what data are: (inputs..., target) of as many rows each."""
    if not isinstance(data, (tuple, list)) or not data or not all(isinstance(a, np.ndarray) for a in data):
        mixed = isinstance(data, tuple) and any(isinstance(a, np.ndarray) for a in data)
        if mixed:
            found = ", ".join(type(a).__name__ for a in data)
            raise TypeError(f"{argument}: found a tuple of {found}, expected arrays only, or batches")
        if not callable(data) and not isinstance(data, Iterable):
            raise TypeError(
                f"{argument}: found {type(data).__name__}, expected a tuple of arrays (inputs..., target), or batches"
            )
        return None
    if len(data) < 2 or any(a.ndim == 0 for a in data) or len({len(a) for a in data}) > 1:
        fail(argument, f"arrays of shapes {[a.shape for a in data]}", "inputs and a target, of as many rows each")
    if len(data[0]) == 0:
        fail(argument, "no rows", "at least one")
    return tuple(data)


def batches_of(data: Any, argument: str, rng: np.random.Generator) -> Iterator[Batch]:
    """One epoch of what gives batches."""
    for batch in data(rng) if callable(data) else data:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            found = f"{len(batch)} arrays" if isinstance(batch, (tuple, list)) else type(batch).__name__
            fail(argument, f"a batch of {found}", "a tuple (inputs..., target)")
        if np.size(batch[-1]) == 0:
            fail(argument, "a batch of no rows", "at least one in each")
        yield tuple(batch)


def check_again(data: Any, epochs: int, argument: str) -> None:
    """Refuse what gives batches but once."""
    if epochs > 1 and isinstance(data, Iterator):
        fail(argument, "an iterator, which ends after one epoch", "what can be iterated over again, such as a function")


def pieces_of(order: Array, size: int, drop_last: bool) -> tuple[Array, Array]:
    """Rows in their order, as those of whole batches (steps, size) and what is left."""
    whole = len(order) // size * size
    return order[:whole].reshape(-1, size), order[whole:][: 0 if drop_last else None]
