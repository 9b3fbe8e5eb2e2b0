"""What a body works with while it is compiled.

What is known then (numbers and names that are literals, dtypes, numbers of dimensions, None) is what it is in Python.
What is only known when the compiled code runs is one of these; a tuple is a tuple of either kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llvmlite import ir

INT, DOUBLE, BOOL, POINTER = ir.IntType(64), ir.DoubleType(), ir.IntType(1), ir.IntType(8).as_pointer()
KINDS = {int: INT, float: DOUBLE, bool: BOOL}

Sources = frozenset[str]
"""The arguments that something follows from: those that would have to be literals."""


class Unsupported(Exception):
    """What Numba cannot do: `argument: found ..., expected ...`, as of any mistake."""


@dataclass(eq=False, slots=True)
class Number:
    kind: type[int] | type[float] | type[bool]
    ir: Any
    sources: Sources = frozenset()


@dataclass(eq=False, slots=True)
class Text:
    """A string."""

    ir: Any  # of Numba's unicode_type
    sources: Sources = frozenset()


@dataclass(eq=False, slots=True)
class Words:
    """A message, in parts: strings and what is not known yet."""

    parts: tuple[Any, ...]


@dataclass(eq=False, slots=True)
class ArrayValue:
    dtype: np.dtype[Any]
    shape: tuple[Any, ...]
    strides: tuple[Any, ...] | None  # in bytes; None: in C order
    data: Any
    meminfo: Any
    parent: Any
    layout: str = "C"
    mutable: bool = True

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize


@dataclass(eq=False, slots=True)
class ListValue:
    """A list of Numba's, whose length is not known."""

    type: Any
    ir: Any
    sources: Sources = frozenset()


@dataclass(eq=False, slots=True)
class Memory:
    """int64 that kernels write: as many as its shape, which is known, says."""

    shape: tuple[int, ...]
    ir: Any


@dataclass(eq=False, slots=True)
class Other:
    """What no function of fastdl takes."""

    type: Any


@dataclass(eq=False, slots=True)
class Conflict:
    """What has one type or another, as arguments say that are not literals."""

    sources: Sources = field(default_factory=frozenset)


Table = np.ndarray
"""A small array of integers, known one by one or not: an array of objects."""


def is_table(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == object


def is_known(value: Any) -> bool:
    """Whether it is the same whatever the code runs on."""
    if isinstance(value, (tuple, list)):
        return all(map(is_known, value))
    return not isinstance(value, (Number, Text, Words, ArrayValue, ListValue, Memory, Other, Conflict, np.ndarray))


def python_type(value: Any) -> type:
    """The type that it would have in Python."""
    match value:
        case Number():
            return value.kind
        case Text() | Words():
            return str
        case ArrayValue() | Memory():
            return np.ndarray
        case ListValue():
            return list
    return type(value)


def sources_of(*values: Any) -> Sources:
    found: Sources = frozenset()
    for value in values:
        if isinstance(value, (tuple, list)):
            found |= sources_of(*value)
        else:
            found |= getattr(value, "sources", frozenset())
    return found


def text(value: Any, quoted: bool = False) -> str | Words:
    """str(value), or repr(value)."""
    match value:
        case _ if is_known(value) and not is_table(value):
            return repr(value) if quoted else str(value)
        case Number():
            return Words((value,))
        case Text():
            return Words(("'", value, "'")) if quoted else Words((value,))
        case Words():
            return joined(("'", value, "'")) if quoted else value
        case tuple() | list():
            items: list[Any] = []
            for item in value:
                items += [", "] * bool(items) + [text(item, True)]
            opening, closing = "()" if isinstance(value, tuple) else "[]"
            return joined((opening, *items, ",)" if isinstance(value, tuple) and len(value) == 1 else closing))
        case ArrayValue() | Memory():
            return joined(("an array of shape ", text(tuple(value.shape))))
        case ListValue() | Other():
            return f"a value of type {type_name(value)}"
    return f"a value of type {type(value).__name__}"


def joined(parts: Iterable[Any]) -> str | Words:
    """Strings and messages as one."""
    found: list[Any] = []
    for part in parts:
        for piece in part.parts if isinstance(part, Words) else (part,):
            if isinstance(piece, str) and found and isinstance(found[-1], str):
                found[-1] += piece
            else:
                found.append(piece)
    if all(isinstance(part, str) for part in found):
        return "".join(found)
    return Words(tuple(found))


def without_values(words: str | Words) -> str:
    """A message while compiling, when of the values in it no more than a type is known."""
    if isinstance(words, str):
        return words
    return "".join(part if isinstance(part, str) else python_type(part).__name__ for part in words.parts)


def type_name(value: ListValue | Other) -> str:
    """Numba's name of a type, without what it knows of a list besides."""
    return str(value.type).partition("<iv=")[0]
