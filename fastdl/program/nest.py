"""Nested tuples, lists and dicts of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


def leaves_of(value: Any, name: str) -> list[tuple[str, Any]]:
    """What is in nested tuples, lists and dicts, with a name for each."""
    if isinstance(value, (tuple, list)):
        return [leaf for i, item in enumerate(value) for leaf in leaves_of(item, f"{name}[{i}]")]
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves_of(item, f"{name}[{key!r}]")]
    return [(name, value)]


def copied(value: Any) -> Any:
    """The same nest with copies of the arrays, C-contiguous as a program uses them."""
    return rebuilt(
        value, (np.array(leaf, order="C") if isinstance(leaf, np.ndarray) else leaf for _, leaf in leaves_of(value, ""))
    )


def rebuilt(value: Any, leaves: Iterator[Any]) -> Any:
    """The same nest with other leaves."""
    if isinstance(value, tuple):
        items = [rebuilt(item, leaves) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [rebuilt(item, leaves) for item in value]
    if isinstance(value, dict):
        return {key: rebuilt(item, leaves) for key, item in value.items()}
    return next(leaves)
