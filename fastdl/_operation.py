"""The registry of operations.

An operation is one public function whose body is written in the verbs of _arrays.py and the kernels of
_kernels.py. @operation enters it here and returns it unchanged. From that one entry follow: the Numba overload
(the same body, compiled), the test that its NumPy reference has the same signature, the cases and the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

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
