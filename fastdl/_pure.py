"""What stands in for the compiled library in an install without a compiler: the two modules that it holds, in Python.

`call` is csrc/binding/call.c: kernels go to the backend in use, a shortcut is the function that it is short for.
`native` is what the rest uses of cffi's module: the library's knobs, and memory.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

import numpy as np

call, native = ModuleType("fastdl._call", __doc__), ModuleType("fastdl._native", __doc__)


def _in(module: ModuleType) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(module, function.__name__, function)
        return function

    return enter


# ---- kernels ----

_threads = threading.local()
_backend: list[Any] = [None]


@_in(call)
def set_recorder(recorder: Any) -> Any:
    before, _threads.recorder = get_recorder(), recorder
    return before


@_in(call)
def get_recorder() -> Any:
    return getattr(_threads, "recorder", None)


@_in(call)
def set_backend(backend: Any) -> Any:
    before, _backend[0] = _backend[0], backend
    return before


@_in(call)
def set_thread_backend(backend: Any) -> Any:
    before, _threads.backend = getattr(_threads, "backend", ...), backend
    return before


@_in(call)
def get_backend() -> Any:
    own = getattr(_threads, "backend", ...)
    return _backend[0] if own is ... else own


@_in(call)
def get_diversion() -> Any:
    recorder = get_recorder()
    return get_backend() if recorder is None else recorder


def _kernel(name: str) -> Any:
    from fastdl import _kernels

    if name not in _kernels.SIGNATURES:
        raise AttributeError(f"module 'fastdl._call' has no attribute {name!r}")
    types = [c_type for c_type, _, _ in _kernels.SIGNATURES[name]]
    by_dtype = next(
        i for i, (c_type, _, optional) in enumerate(_kernels.SIGNATURES[name]) if "real" in c_type and not optional
    )
    written = [c_type for c_type in types if c_type.endswith("*") and not c_type.startswith("const ")]
    answers = all(c_type == "int64_t *" for c_type in written)

    def kernel(*given: Any) -> None:
        if len(given) != len(types):
            raise TypeError(f"{name}: found {len(given)} arguments, expected {len(types)}")
        instead = get_backend() if answers else get_diversion()
        instead(name, int(given[by_dtype].dtype == np.float64), given)

    kernel.__name__ = kernel.__qualname__ = name
    return kernel


class _Late:
    """Kernels, of which _kernels.py, which names them, is imported later."""

    def __getattr__(self, name: str) -> Any:
        def kernel(*given: Any) -> None:
            found = _kernel(name)
            setattr(call, name, found)
            found(*given)

        if name.startswith("_"):
            raise AttributeError(name)
        kernel.__name__ = name
        return kernel


call.__getattr__ = _Late().__getattr__  # type: ignore[method-assign]


# ---- call.c's other functions ----


@_in(call)
def shortcut(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _key(value: Any) -> Any:
    """Equal only for what is of the same types throughout: 1 == 1.0 == True."""
    return (type(value), tuple(map(_key, value)) if isinstance(value, tuple) else value)


@_in(call)
def remember(function: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[Any, Any] = {}

    @wraps(function)
    def recall(*given: Any) -> Any:
        try:
            key = tuple(map(_key, given))
            if key in known:
                return known[key]
        except TypeError:  # a list
            return function(*given)
        result = function(*given)
        if len(known) >= 2048:
            known.clear()
        known[key] = result
        return result

    return recall


@_in(call)
def take_gradients(grads: Any, params: Any, places: Any, table: Any, dtype_number: int) -> int:
    found, begin = 0, 0
    for i, param in enumerate(params):
        row, grad = table[i], grads[i if places is None else places[i]]
        fine = param.dtype.num == dtype_number and param.flags.c_contiguous and param.flags.writeable
        if not fine or param.size != row[0] - begin or param.ctypes.data != row[1]:
            return 3
        if grad is not None and not (
            type(grad) is np.ndarray
            and grad.dtype.num == dtype_number
            and grad.dtype.isnative
            and grad.flags.c_contiguous
            and grad.shape == param.shape
        ):
            return 2
        address = 0 if grad is None else grad.ctypes.data
        found = found if address == row[2] else 1
        row[2], begin = address, row[0]
    return found


@_in(call)
def find_overlap(table: Any, starts: Any, ends: Any, itemsize: int) -> int:
    begin = 0
    for i, row in enumerate(table.tolist()):
        grad, end = row[2], row[2] + (row[0] - begin) * itemsize
        begin = row[0]
        low = int(np.searchsorted(starts, end))
        if grad and end > grad and low > 0 and ends[low - 1] > grad:
            return i
    return -1


@_in(call)
def sample(array: Any) -> int | None:
    if not isinstance(array, np.ndarray) or array.size == 0 or array.dtype.kind not in "biufc" or array.itemsize > 8:
        return None
    size = array.size
    return hash(tuple(array.flat[place].tobytes() for place in (size // 5, size // 2, size // 5 * 4)))


@_in(call)
def program_runner(parts: tuple[Any, ...]) -> Any:
    return parts[7]


# ---- cffi's module ----


class _Library:
    """The functions of fastdl.h's first part; fdl_<kernel>_<dtype> of the others are never called."""

    FDL_BUSY, FDL_STALE = 9, 10

    def __init__(self) -> None:
        self.requested = self.limit = self.deterministic = 0
        self.precision = 1

    def fdl_level_name(self, index: int) -> bytes | None:
        return b"generic" if index == 0 else None

    def fdl_level_supported(self, index: int) -> int:
        return 1

    def fdl_use_level(self, index: int) -> None:
        pass

    def fdl_compiled_level_f32(self) -> bytes:
        return b"generic"

    def fdl_conv_reason_f32(self, row: int) -> bytes:
        return b"fastdl was installed without a compiler"

    def fdl_set_num_threads(self, threads: int) -> None:
        self.requested = threads

    def fdl_set_thread_limit(self, threads: int) -> None:
        self.limit = threads

    def fdl_get_num_threads(self) -> int:
        if self.requested:
            return self.requested
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(cores, self.limit or cores)

    def fdl_set_conv_precision(self, precision: int) -> None:
        self.precision = precision

    def fdl_get_conv_precision(self) -> int:
        return self.precision

    def fdl_set_deterministic(self, on: bool) -> None:
        self.deterministic = int(on)

    def fdl_get_deterministic(self) -> int:
        return self.deterministic

    def fdl_scratch_reset(self) -> None:
        pass

    def fdl_scratch_peak(self) -> int:
        return 0

    def fdl_slot_kernel(self, index: int) -> int:
        return 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("fdl_"):
            raise AttributeError(name)

        def missing(*_: Any) -> None:
            raise RuntimeError(f"{name}: fastdl was installed without a compiler, and has no such function")

        return missing


class _Options:
    """The struct fdl_optimizer: its words, and its fields as attributes."""

    def __init__(self) -> None:
        from fastdl._kernels import Optimizer

        vars(self).update(words=np.zeros(len(Optimizer._fields), np.int64), fields=Optimizer._fields)

    def _place(self, name: str) -> Any:
        i = self.fields.index(name)
        return (self.words if i < self.fields.index("lr") else self.words.view(np.float64)), i

    def __setattr__(self, name: str, value: Any) -> None:
        words, i = self._place(name)
        words[i] = value

    def __getattr__(self, name: str) -> Any:
        if name not in vars(self)["fields"]:
            raise AttributeError(name)
        words, i = self._place(name)
        return words[i].item()


class _Memory:
    """cffi's FFI as far as it is used: pointers are arrays, or addresses."""

    NULL = None

    def typeof(self, name: str) -> str:
        return name

    def string(self, text: bytes) -> bytes:
        return text

    def new(self, type_: str, given: Any = None) -> Any:
        if type_ == "fdl_optimizer *":
            return _Options()
        return np.array([array.ctypes.data for array in given], np.int64)

    def from_buffer(self, type_: str, array: Any) -> Any:
        return array

    def cast(self, type_: str, address: int) -> int:
        return int(address)

    def buffer(self, what: Any, size: int | None = None) -> Any:
        if isinstance(what, int):
            return (ctypes.c_char * (size or 0)).from_address(what)
        return what.words if isinstance(what, _Options) else what


native.lib, native.ffi = _Library(), _Memory()  # type: ignore[attr-defined]
