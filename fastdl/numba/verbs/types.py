"""What Numba knows of an argument while compiling: its type, and its value where it is a literal."""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.core.errors import RequireLiteralValue


def is_none(t: Any) -> bool:
    return t is None or isinstance(t, types.NoneType) or (isinstance(t, types.Omitted) and t.value is None)


def literal(t: Any) -> Any:
    """The value of a literal or omitted argument, or the plain default itself."""
    if isinstance(t, types.Literal):
        return t.literal_value
    return t.value if isinstance(t, types.Omitted) else t


def check_wanted(wanted: Any, argument: str = "return_indices") -> bool:
    if not isinstance(literal(wanted), bool):
        raise RequireLiteralValue(f"{argument} has to be a literal inside Numba")
    return bool(literal(wanted))


def is_several(x: Any) -> bool:
    return isinstance(x, types.BaseTuple)


def is_list(x: Any) -> bool:
    """Whether NumPy makes an array of it, inside Numba: a list, or a tuple of one type."""
    return isinstance(x, (types.List, types.ListType, types.UniTuple))


def is_int(t: Any) -> bool:
    return isinstance(t, types.Integer) or (isinstance(literal(t), int) and not isinstance(literal(t), bool))


def are_ints(t: Any, length: int) -> bool:
    items: Any = t
    return isinstance(t, types.BaseTuple) and len(items) == length and all(map(is_int, items))
