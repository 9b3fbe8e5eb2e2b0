"""For Numba. Numbers, flags and names."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import overload

from fastdl.functional import verbs
from fastdl.numba.verbs.types import is_int, literal


def _check_number(value, name):
    if not isinstance(value, (types.Integer, types.Float, types.Omitted)) or isinstance(literal(value), (bool, str)):
        raise TypingError(f"{name}: found {value}, expected a number")


@overload(verbs.number, prefer_literal=True)
def _number(value, argument, least=-verbs.FINITE, most=verbs.FINITE):
    name = literal(argument)
    _check_number(value, name)

    def implementation(value, argument, least=-verbs.FINITE, most=verbs.FINITE):
        result = float(value)
        if not least <= result <= most:
            verbs.fail(name, value, ("a number between", least, "and", most))
        return result

    return implementation


@overload(verbs.number_or_nan, prefer_literal=True)
def _number_or_nan(value, argument):
    _check_number(value, literal(argument))
    return lambda value, argument: float(value)


@overload(verbs.integer, prefer_literal=True)
def _integer(value, argument, least=-(2**63), most=2**63 - 1):
    name = literal(argument)
    if not is_int(value):
        raise TypingError(f"{name}: found {value}, expected an int")

    def implementation(value, argument, least=-(2**63), most=2**63 - 1):
        result = np.int64(value)
        if not least <= result <= most:
            verbs.fail(name, value, ("an int between", least, "and", most))
        return result

    return implementation


@overload(verbs.flag, prefer_literal=True)
def _flag(value, argument):
    if not isinstance(value, types.Boolean) and not isinstance(literal(value), bool):
        raise TypingError(f"{literal(argument)}: found {value}, expected True or False")
    return lambda value, argument: value


@overload(verbs.pair, prefer_literal=True)
def _pair(value, argument):
    two = isinstance(value, types.BaseTuple) and len(value) == 2
    if not two or not all(isinstance(v, (types.Integer, types.Float)) for v in value):
        raise TypingError(f"{literal(argument)}: found {value}, expected two numbers")
    return lambda value, argument: (float(value[0]), float(value[1]))


@overload(verbs.probability, prefer_literal=True)
def _probability(value, argument):
    name = literal(argument)
    return lambda value, argument: verbs.number(value, name, 0.0, 1.0)


@overload(verbs.natural, prefer_literal=True)
def _natural(value, argument):
    name = literal(argument)
    return lambda value, argument: verbs.integer(value, name, 0)


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
