"""For Numba. Numbers and names."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import overload

from fastdl.functional import verbs
from fastdl.numba.verbs.types import is_int, literal


@overload(verbs.probability, prefer_literal=True)
def _probability(value, argument):
    name = literal(argument)
    if not isinstance(value, (types.Integer, types.Float, types.Literal)) or isinstance(literal(value), (bool, str)):
        raise TypingError(f"{name}: found {value}, expected a number")

    def implementation(value, argument):
        if not 0 <= value <= 1:
            verbs.fail(name, value, "a probability between 0 and 1")
        return float(value)

    return implementation


@overload(verbs.natural, prefer_literal=True)
def _natural(value, argument):
    name = literal(argument)
    if not is_int(value):
        raise TypingError(f"{name}: found {value}, expected an int")

    def implementation(value, argument):
        if value < 0:
            verbs.fail(name, value, "at least 0 and less than 2**63")
        return np.int64(value)

    return implementation


@overload(verbs.choice, prefer_literal=True)
def _choice(value, argument, names):
    def implementation(value, argument, names):
        for i in range(len(names)):
            if names[i] == value:
                return i
        verbs.fail(argument, value, names)

    return implementation


@overload(verbs.fused, prefer_literal=True)
def _fused(activation, args, names, known):
    given = len(args)

    def implementation(activation, args, names, known):
        kind = verbs.choice(activation, "activation", names)
        most, alpha, beta = known[kind]
        if given > most:
            verbs.fail("activation_args", given, ("at most", most, "numbers for", activation))
        return kind, _item(args, 0, alpha), _item(args, 1, beta)

    return implementation


def _item(items: tuple[float, ...], i: int, default: float) -> float:
    return float(items[i]) if i < len(items) else default


@overload(_item, prefer_literal=True)
def _item_overload(items, i, default):
    if i.literal_value < len(items):
        return lambda items, i, default: float(items[i])
    return lambda items, i, default: default
