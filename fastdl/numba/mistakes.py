"""The exceptions of compiled code: Python's own, in Python's own words."""

from __future__ import annotations

import builtins
import struct
from typing import Any

from fastdl import _kernels


class Mistake(Exception):
    """What compiled code raises, which becomes the exception that is meant as soon as Python makes it.

    sites: for each place that raises, the exception's name and the parts of its message, of which some say what a
    number is that only running code knows; site: the place; numbers: those."""

    def __new__(cls, sites: Any, site: int, *numbers: int) -> Any:
        name, parts = sites[site]
        words, at = [], 0
        for part in parts:
            if isinstance(part, str):
                words.append(part)
            else:
                kind, count = part
                words.append(_shown(kind, numbers[at : at + count]))
                at += count
        if name == "status":
            try:
                _kernels.raise_status(int(words[0]))
            except Exception as error:
                return error.with_traceback(None)
        return getattr(builtins, name)("".join(words))


def _shown(kind: str, words: tuple[int, ...]) -> str:
    if kind == "ListValue":
        return str(list(words[1 : 1 + words[0]])) if words[0] <= 8 else f"a list of {words[0]} ints"
    if kind == "Text":
        return struct.pack("<8q", *words).rstrip(b"\0").decode("latin-1")
    if kind == "float":
        return repr(struct.unpack("<d", struct.pack("<q", words[0]))[0])
    return str(bool(words[0]) if kind == "bool" else words[0])
