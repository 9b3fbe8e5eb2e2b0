"""The registry of operations.

An operation is one public function whose body is written in the verbs of _arrays.py and the kernels of
_kernels.py. @operation enters it here and returns it unchanged. From that one entry follow: the Numba overload
(the same body, compiled), the test that its NumPy reference has the same signature, the cases and the benchmarks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

HELPERS: list[Callable[..., Any]] = []
OPERATIONS: dict[str, Callable[..., Any]] = {}


def operation(function: Function) -> Function:
    OPERATIONS[function.__name__] = function
    return function


def helper(function: Function) -> Function:
    """Mark a private function that operations' bodies call, so that it compiles along with them."""
    HELPERS.append(function)
    return function


def cached_helper(function: Function) -> Function:
    """The same for a function of a few numbers, tuples and strings: plain Python computes each combination once."""
    remembered = functools.lru_cache(maxsize=4096, typed=True)(function)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        try:
            return remembered(*arguments)
        except TypeError:  # a list, say, which cannot be looked up, or a mistake, which is worth its full message
            return function(*arguments)

    HELPERS.append(call)
    return cast(Function, call)
