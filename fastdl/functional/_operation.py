"""The registry of operations.

An operation is one public function whose body is written in the verbs of verbs/ and the kernels of
_kernels.py. @operation enters it here and returns it unchanged. From that one entry follow: the function inside Numba
(the same body, compiled), the test that its NumPy reference has the same signature, the cases and the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

from fastdl._call import remember

Function = TypeVar("Function", bound=Callable[..., Any])

HELPERS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""What bodies call, and the function that it is."""
OPERATIONS: dict[str, Callable[..., Any]] = {}


def operation(function: Function) -> Function:
    OPERATIONS[function.__name__] = function
    return function


def helper(function: Function) -> Function:
    """Mark a private function that operations' bodies call, so that it compiles along with them."""
    HELPERS[function] = function
    return function


def cached_helper(function: Function) -> Function:
    """The same for a function of a few numbers, tuples and strings: plain Python computes each combination once.
    Called by position."""
    call = remember(function)
    HELPERS[call] = function
    return call


def plain(function: Any) -> Any:
    """The Python function behind one that is cached, or has a shortcut in C."""
    function = HELPERS.get(function, function)
    behind = getattr(function, "__self__", None)
    return behind if isinstance(behind, FunctionType) else function
