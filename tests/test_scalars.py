"""Every number, flag and name that an operation takes, replaced by what it is not."""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any

import numpy as np
import pytest

from fastdl.functional._operation import OPERATIONS
from tests.support import everyday

_NO_SCALARS = [None, np.ones(3), np.ones(()), 1j, object(), b"a", {}]
_VALUES = [True, np.True_, "a", 2**70, -(2**70), 10**400, math.nan, math.inf, -1, 0, 1, 1.5, np.float16(1), np.int8(1)]


def _kind(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, (int, np.integer)):
        return "int"
    if isinstance(value, (float, np.floating)):
        return "float"
    return "str" if isinstance(value, str) else type(value).__name__


def _is_of(value: Any, annotation: str) -> bool:
    """Whether the type of that value is one that the annotation names (an int is a float)."""
    kinds = {kind.strip() for kind in annotation.split("|")}
    return _kind(value) in kinds or (_kind(value) == "int" and "float" in kinds) or (value is None and "None" in kinds)


_ARITHMETIC = ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "where")
"""Whose operands are arrays or numbers: an array is right, unless it does not fit the other one."""


_EXCLUSIVE = {("interpolate", "scale_factor"), ("resize", "scale_factor"), ("interpolate", "align_corners")}
"""Not to be given with what the first case has: that is the mistake then."""


def _scalars() -> list[Any]:
    return [
        pytest.param(name, parameter.name, parameter.annotation, id=f"{name}-{parameter.name}")
        for name, function in OPERATIONS.items()
        for parameter in inspect.signature(function).parameters.values()
        if {kind.strip() for kind in parameter.annotation.split("|")} & {"int", "float", "bool", "str"}
        and not (name.removesuffix("_backward") in _ARITHMETIC and "ArrayLike" in parameter.annotation)
        and (name.removesuffix("_backward"), parameter.name) not in _EXCLUSIVE
    ]


@pytest.mark.parametrize(("operation", "argument", "annotation"), _scalars())
def test_what_is_no_such_scalar_is_refused_by_name(operation: str, argument: str, annotation: str) -> None:
    """A value of another type is a TypeError about that argument; one of the right type is taken, or a mistake about
    an argument of that call (a kernel_size may be blamed on x)."""
    function = OPERATIONS[operation]
    case = everyday(operation=operation)[0]
    names = set(inspect.signature(function).parameters)
    for value in _NO_SCALARS + _VALUES:
        arguments = case.complete(case.make(np.float32)) | {argument: value}
        found = None
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                function(**arguments)
        except Exception as error:
            found = error
        if not _is_of(value, annotation):
            assert isinstance(found, TypeError), f"{value!r} passes: {found!r}"
            assert str(found).startswith(f"{argument}: found "), f"{value!r}: {found!r}"
        if found is not None:
            assert isinstance(found, (TypeError, ValueError)), f"{value!r}: {found!r}"
            blamed, _, rest = str(found).partition(": found ")
            assert blamed.partition("[")[0] in names, f"{value!r}: {found!r}"
            assert ", expected " in rest, f"{value!r}: {found!r}"
