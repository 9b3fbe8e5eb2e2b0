"""Numbers and names."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._call import shortcut
from fastdl.functional.verbs.errors import fail


def probability(value: float, argument: str) -> float:
    """A number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{argument}: found {value!r}, expected a number")
    if not 0 <= value <= 1:
        fail(argument, value, "a probability between 0 and 1")
    return float(value)


def natural(value: int, argument: str) -> int:
    """An int in [0, 2^63)."""
    if not is_int(value):
        raise TypeError(f"{argument}: found {value!r}, expected an int")
    if not 0 <= value < 2**63:
        fail(argument, value, "at least 0 and less than 2**63")
    return int(value)


@shortcut
def choice(value: str, argument: str, names: tuple[str, ...]) -> int:
    """The position of `value` in `names`, which is the value of the C enum."""
    if value not in names:
        fail(argument, repr(value), "one of " + ", ".join(names))
    return names.index(value)


def fused(
    activation: str, args: tuple[float, ...], names: tuple[str, ...], known: tuple[tuple[int, float, float], ...]
) -> tuple[int, float, float]:
    """An activation and its arguments as the kind and the two numbers that kernels take; `known` of each kind says how
    many there are, and the defaults."""
    kind = choice(activation, "activation", names)
    most, alpha, beta = known[kind]
    if len(args) > most:
        fail("activation_args", args, ("at most", most, "numbers for", activation))
    return kind, float(args[0]) if len(args) > 0 else alpha, float(args[1]) if len(args) > 1 else beta


def is_int(value: Any) -> bool:
    return type(value) is int or (isinstance(value, (int, np.integer)) and not isinstance(value, bool))
