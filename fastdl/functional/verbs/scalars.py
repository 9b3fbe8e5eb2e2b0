"""Numbers, flags and names."""

from __future__ import annotations

from math import inf
from sys import float_info
from typing import Any, TypeGuard

import numpy as np

from fastdl._call import shortcut
from fastdl._recording import Counter
from fastdl.functional.verbs.errors import fail, shown

FINITE = float_info.max
"""The largest finite number: the bound of `number` that keeps infinity out."""
ABOVE_ZERO = 5e-324
"""The smallest number above 0: the bound of `number` that keeps 0 out."""


@shortcut
def number(value: float, argument: str, least: float = -FINITE, most: float = FINITE) -> float:
    """A number (an int or a float, Python's or NumPy's) with least <= value <= most, as a float; never NaN.

    Infinity passes where a bound is infinite: number(clip_value, "clip_value", 0.0, inf).
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{argument}: found {shown(value)}, expected {number_range(least, most)}")
    try:
        result = float(value)
    except OverflowError:  # an int: not infinite, but larger than a float can be
        fail(argument, shown(value), number_range(least, most))
    if not least <= result <= most:
        fail(argument, shown(value), number_range(least, most))
    return result


@shortcut
def number_or_nan(value: float, argument: str) -> float:
    """Any number, also NaN and infinity."""
    if isinstance(value, (float, np.floating)) and value != value:
        return float(value)
    return number(value, argument, -inf, inf)


def number_range(least: float, most: float) -> str:
    """The numbers that `number` takes, in words."""
    words = "a number" if most == inf or least == -inf else "a finite number"
    if least == ABOVE_ZERO:
        words += " above 0"
        return words if most >= FINITE else f"{words} and at most {most:g}"
    if least > -FINITE:
        return f"{words} of at least {least:g}" if most >= FINITE else f"a number between {least:g} and {most:g}"
    return words if most >= FINITE else f"{words} of at most {most:g}"


@shortcut
def integer(value: int, argument: str, least: int = -(2**63), most: int = 2**63 - 1) -> int:
    """An int (Python's or NumPy's; no bool) with least <= value <= most, within 64 bits."""
    if not is_int(value):
        raise TypeError(f"{argument}: found {shown(value)}, expected an int")
    if not least <= value <= most:
        fail(argument, shown(value), integer_range(least, most))
    return value if isinstance(value, Counter) else int(value)


def integer_range(least: int, most: int) -> str:
    """The numbers that `integer` takes, in words."""
    if most == 2**63 - 1:
        return "an int of 64 bits" if least == -(2**63) else f"at least {least} and less than 2**63"
    return f"at most {most}" if least == -(2**63) else f"at least {least} and at most {most}"


@shortcut
def flag(value: bool, argument: str) -> bool:
    """True or False (Python's or NumPy's); 0, 1, None and the like are refused, as torch refuses them."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{argument}: found {shown(value)}, expected True or False")
    return bool(value)


@shortcut
def pair(value: tuple[float, float], argument: str) -> tuple[float, float]:
    """Two numbers, of any size."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{argument}: found {shown(value)}, expected two numbers")
    if len(value) != 2:
        fail(argument, shown(value), "two numbers")
    if not all(isinstance(v, (int, float, np.integer, np.floating)) and not isinstance(v, bool) for v in value):
        raise TypeError(f"{argument}: found {shown(value)}, expected two numbers")
    return float(value[0]), float(value[1])


@shortcut
def probability(value: float, argument: str) -> float:
    """A number in [0, 1]."""
    return number(value, argument, 0.0, 1.0)


def natural(value: int, argument: str) -> int:
    """An int in [0, 2^63)."""
    return integer(value, argument, 0)


@shortcut
def choice(value: str, argument: str, names: tuple[str, ...]) -> int:
    """The position of `value` in `names`, which is the value of the C enum."""
    if not isinstance(value, str):
        raise TypeError(f"{argument}: found {shown(value)}, expected one of {', '.join(names)}")
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
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"activation_args: found {shown(args)}, expected a tuple of numbers")
    if len(args) > most:
        fail("activation_args", args, ("at most", most, "numbers for", activation))
    given = [number(arg, "activation_args", -inf, inf) for arg in args]
    return kind, given[0] if len(given) > 0 else alpha, given[1] if len(given) > 1 else beta


def is_int(value: Any) -> bool:
    return type(value) is int or (isinstance(value, (int, np.integer)) and not isinstance(value, bool))


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number of Python's or NumPy's; arrays without dimensions are none."""
    return type(value) in (int, float) or (
        isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    )
