"""What kernels are declared with: how they are compiled, how they are cut over threads, and how they are called.

A kernel of csrc/fastdl.h is here a plain Python function of the same name and parameters, marked @kernel. It is given
arrays as C is given pointers, flat; an optional one that is not there is an array without elements. It leaves the work
to functions marked @compiled, by `share` where that pays, and returns a status of fastdl.h (None: OK).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import numba
import numpy as np

from fastdl import _kernels
from fastdl._native import lib
from fastdl.reference._memory import REALS
from fastdl.reference.kernels import TABLE_KERNELS

KERNELS: dict[str, Callable[..., int | None]] = {}
"""By name, without fdl_."""
MEMORY_GRAIN = 1 << 15
"""Elements that are worth another thread where each is read once."""

_SOURCES = [file.stat() for file in sorted(Path(__file__).parent.glob("*.py"))]
_STAMP = max(source.st_mtime for source in _SOURCES), sum(source.st_size for source in _SOURCES)
"""Numba looks whether the file of a function has changed, and not those of the functions that it calls."""


def compiled(function: Any = None, *, sums: bool = False, counted: bool = False) -> Any:
    """Compile for each combination of types at its first call, and keep that on disk. Products may be contracted to
    multiply-adds, as in C; with `sums`, sums may be taken in another order, so that they are vectorised.

    References to arrays are not counted, for each slice in a loop would cost two atomic instructions: whoever calls
    holds the arrays. What makes arrays itself is `counted`, or takes them from memory.py."""
    if function is None:
        return lambda function: compiled(function, sums=sums, counted=counted)
    flags = {"contract", "reassoc", "nsz", "arcp"} if sums else {"contract"}
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": flags, "_nrt": counted}
    dispatcher = numba.njit(cache=True, **options)(function)
    file: Any = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if hasattr(file, "_source_stamp"):
        file._source_stamp = _STAMP
    return dispatcher


def kernel(function: Callable[..., int | None]) -> Callable[..., int | None]:
    KERNELS[function.__name__] = function
    return function


_pool: Any = None
_pool_of = 0, 0
"""The process, a fork of which has none of its threads, and how many there are."""


def _workers(count: int) -> Any:
    global _pool, _pool_of
    if _pool is None or _pool_of[0] != os.getpid() or _pool_of[1] < count:
        _pool, _pool_of = ThreadPoolExecutor(count, "fastdl"), (os.getpid(), count)
    return _pool


_at_work = threading.local()
"""Of a thread that has a part of some work: what this shares is not shared once more, waiting for itself."""


def _work(function: Any, *arguments: Any) -> None:
    _at_work.yes = True
    try:
        function(*arguments)
    finally:
        _at_work.yes = False


def share(function: Any, pieces: int, grain: int, *arguments: Any) -> None:
    """function(*arguments, begin, end) over all of range(pieces), cut over threads into parts of at least `grain`.

    Which pieces there are does not follow from the number of threads, so that no result does."""
    most = pieces // max(1, grain)
    threads = min(int(lib.fdl_get_num_threads()), most) if most > 1 else 1
    if threads <= 1 or getattr(_at_work, "yes", False):
        if pieces > 0:
            function(*arguments, 0, pieces)
        return
    ends = [pieces * (i + 1) // threads for i in range(threads)]
    others = [_workers(threads - 1).submit(_work, function, *arguments, begin, end) for begin, end in pairwise(ends)]
    try:
        _work(function, *arguments, 0, ends[0])
    finally:  # they use the arrays
        wait(others)
    for other in others:
        other.result()


def share_elements(function: Any, grain: int, arrays: tuple[Any, ...], *arguments: Any) -> None:
    """function(*arrays, *arguments) over arrays of one size, cut into parts side by side. (A loop over all of an array
    is one that Numba knows to count from 0: an index that may be negative, from the end, is not vectorised.)"""
    size = arrays[0].size
    if size < 2 * grain or lib.fdl_get_num_threads() == 1:
        function(*arrays, *arguments)
    else:
        share(_part, size, grain, function, arrays, arguments)


def _part(function: Any, arrays: tuple[Any, ...], arguments: tuple[Any, ...], begin: int, end: int) -> None:
    function(*[array[begin:end] for array in arrays], *arguments)


def blocks(size: int, block: int) -> int:
    return ceil(size / block)


# ---- the way in ----

_EMPTY = {f"empty_{t.__name__}": np.empty(0, t) for t in (np.float32, np.float64, np.int64, np.uint8)}


class _Memory:
    """The elements of a C-contiguous array, flat, which may be written to as far as NumPy and Numba know: so that Numba
    need not compile a kernel anew for arrays that are read-only."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.__array_interface__ = {
            "version": 3,
            "shape": (array.size,),
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
        }


def flat(array: Any) -> Any:
    """Its elements, which kernels may only write to where they were given to be written."""
    return array.ravel() if array.flags.writeable else np.asarray(_Memory(array))


def _converted(c_type: str, parameter: str, optional: bool, dtype: int) -> str:
    """The expression that makes of what fastdl/functional hands to a kernel what it takes here."""
    if parameter.startswith("strided") or ("fdl_" in c_type and "fdl_optimizer" not in c_type):
        return parameter
    if c_type in ("int64_t", "double"):
        return f"{'int' if c_type == 'int64_t' else 'float'}({parameter})"
    name = c_type.removeprefix("const ").removesuffix(" *")
    numbers = {"real": REALS[dtype].name, "double": "float64", "uint8_t": "uint8"}.get(name, "int64")
    array = f"{parameter}.ravel()"
    if c_type.startswith("const "):
        array = f"({array} if {parameter}.flags.writeable else flat({parameter}))"
    array += ".view(uint8)" if name == "uint8_t" else ""
    return f"empty_{numbers} if {parameter} is None else {array}" if optional else array


class _WaysIn(dict[str, Callable[..., int | None]]):
    """By kernel, what converts its arguments and calls it: written out when it is first called, for a loop over
    arguments took longer than many a small kernel does."""

    def __init__(self, dtype: int) -> None:
        self._dtype = dtype

    def __missing__(self, name: str) -> Callable[..., int | None]:
        if name not in KERNELS:
            self[name] = in_numpy = partial(_in_numpy, name, self._dtype)
            return in_numpy
        parameters = _kernels.SIGNATURES[name]
        arguments = [_converted(*parameter, self._dtype) for parameter in parameters]
        if name in TABLE_KERNELS:
            arguments.append(f"empty_{REALS[self._dtype].name}")
        names = {"kernel": KERNELS[name], "flat": flat, "uint8": np.uint8, **_EMPTY}
        lambda_ = f"lambda {', '.join(p for _, p, _ in parameters)}: kernel({', '.join(arguments)})"
        self[name] = way_in = eval(lambda_, names)  # of names in fastdl.h
        return way_in


_WAYS_IN = _WaysIn(0), _WaysIn(1)


def _in_numpy(name: str, dtype: int, *given: Any) -> None:
    """A kernel that is not here."""
    from fastdl.reference import kernels

    kernels.call(name, dtype, given)


def fallback(name: str, *arguments: Any) -> int | None:
    """What NumPy makes of a kernel that is given something that there is no version of here."""
    from fastdl.reference import kernels

    optional = [parameter[2] for parameter in _kernels.SIGNATURES[name]]
    pairs = zip(arguments, optional, strict=True)
    given = [None if may_miss and isinstance(a, np.ndarray) and a.size == 0 else a for a, may_miss in pairs]
    with np.errstate(all="ignore"):
        return kernels.KERNELS[name](*given)


def call(name: str, dtype: int, given: tuple[Any, ...]) -> None:
    """A kernel with what fastdl/functional hands to it; dtype 0: float32, 1: float64."""
    status = _WAYS_IN[dtype][name](*given)
    if status:
        _kernels.raise_status(status)
