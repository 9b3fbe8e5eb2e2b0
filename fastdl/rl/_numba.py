"""Numba, which this package is compiled with: imported here, and nowhere else in fastdl.rl."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import numba as _numba
    from llvmlite import ir as _ir
    from numba.core import cgutils as _cgutils
    from numba.core.dispatcher import Dispatcher
    from numba.extending import intrinsic as _intrinsic
except ImportError as error:
    raise ImportError('fastdl.rl is compiled by Numba: pip install "fastdl[rl]"') from error

# Numba's own types do not describe what it makes of functions.
numba: Any = _numba
types: Any = _numba.types
cgutils: Any = _cgutils
ir: Any = _ir

__all__ = ["Dispatcher", "borrowing", "cgutils", "compiled", "inlined", "intrinsic", "ir", "numba", "types"]


def intrinsic(function: Callable[..., Any]) -> Any:
    """A function that writes instructions."""
    return _intrinsic(function)


_SOURCES = [file.stat() for file in sorted(Path(__file__).parent.rglob("*.py"))]
_STAMP = max(source.st_mtime for source in _SOURCES), sum(source.st_size for source in _SOURCES)
"""Numba looks whether the file of a function has changed, and not those of the functions that it calls."""


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function when it is first called, and keep what was compiled on disk."""
    if function is None:
        return lambda function: compiled(function, **options)
    dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    file: Any = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if hasattr(file, "_source_stamp"):
        file._source_stamp = _STAMP
    return dispatcher


def borrowing(function: Callable[..., Any]) -> Any:
    """`compiled`, for functions that make no arrays and return none: what they are given is not counted, which would
    cost more than a step on a table does."""
    return compiled(_nrt=False)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """`borrowing`, and a part of every function that calls it."""
    return compiled(_nrt=False, forceinline=True)(function)
