"""The exceptions of compiled code: Python's own, in Python's own words."""

from __future__ import annotations

import builtins
import struct
import sys
from typing import Any

from fastdl import _kernels
from fastdl._native import lib


class Mistake(Exception):
    """What compiled code raises, which becomes the exception that is meant as soon as Python makes it.

    sites: for each place that raises, the exception's name and the parts of its message, of which some say what a
    number is that only running code knows. The place and the numbers are in fdl_mistake()."""

    def __new__(cls, sites: Any) -> Any:
        words = lib.fdl_mistake()
        name, parts = sites[words[0]]
        error = _exception(name, parts, words)
        first, words[_kernels.MISTAKE_WORDS - 1] = words[_kernels.MISTAKE_WORDS - 1], 0
        if first and sys._getframe().f_back is None:
            _LostInParallel(error)
        return error


class _LostInParallel:
    """What nothing called from Python raises is raised in a thread of a prange loop, where Numba drops it. Raised by
    __del__ as well, it reaches sys.unraisablehook, which reports it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error


def _exception(name: str, parts: tuple[Any, ...], words: Any) -> Exception:
    said, at = [], 1
    for part in parts:
        if isinstance(part, str):
            said.append(part)
        else:
            kind, count = part
            said.append(_shown(kind, tuple(words[at : at + count])))
            at += count
    if name == "status":
        try:
            _kernels.raise_status(int(said[0]))
        except Exception as error:
            return error.with_traceback(None)
    made: Exception = getattr(builtins, name)("".join(said))
    return made


def _shown(kind: str, words: tuple[int, ...]) -> str:
    if kind == "ListValue":
        return str(list(words[1 : 1 + words[0]])) if words[0] <= 8 else f"a list of {words[0]} ints"
    if kind == "Text":
        return struct.pack("<8q", *words).rstrip(b"\0").decode("latin-1")
    if kind == "float":
        return repr(struct.unpack("<d", struct.pack("<q", words[0]))[0])
    return str(bool(words[0]) if kind == "bool" else words[0])
