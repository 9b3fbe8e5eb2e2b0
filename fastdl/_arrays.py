"""The one place where an argument is checked and made ready for a kernel.

These few verbs are all that the operations' Python code is written in. Each has a second implementation, for
Numba, in fastdl/numba/arrays.py; that is what lets the very same function body run in plain Python and compile
inside a user's @njit function.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy import empty, float32, float64, int64, ndarray

Array = np.ndarray[Any, Any]

_F32, _F64, _I64 = np.dtype(float32), np.dtype(float64), np.dtype(int64)


def fail(argument: str, found: Any, expected: Any) -> NoReturn:
    """Raise the ValueError that every mistake in a shape or a value ends in."""
    raise ValueError(f"{argument}: found {found}, expected {expected}")


def floats(x: Any, argument: str, ndim: int = -1) -> Array:
    """x as a C-contiguous float32 or float64 array of that many dimensions (-1: any); copied only if it must be."""
    if (
        type(x) is ndarray
        and (x.dtype is _F32 or x.dtype is _F64)
        and (ndim < 0 or x.ndim == ndim)
        and x.flags.c_contiguous
    ):
        return x
    x = _view(x, argument)
    if x.dtype not in (_F32, _F64) or not x.dtype.isnative:
        raise TypeError(f"{argument}: found dtype {x.dtype.str}, expected float32 or float64 in native byte order")
    if ndim >= 0 and x.ndim != ndim:
        fail(argument, f"shape {x.shape}", f"{ndim} dimensions")
    x = np.require(x, requirements="C")
    return x if x.dtype is _F32 or x.dtype is _F64 else x.view(_F32 if x.dtype == _F32 else _F64)


def floats_like(x: Any, argument: str, like: Array, ndim: int = -1) -> Array:
    """The same, with the dtype of `like`."""
    x = floats(x, argument, ndim)
    if x.dtype is not like.dtype:
        raise TypeError(f"{argument}: found dtype {x.dtype}, expected {like.dtype}, the dtype of the first argument")
    return x


def optional_vector(x: Any, argument: str, like: Array, size: int) -> Array | None:
    """x as floats_like of shape (size,), or None."""
    if x is None:
        return None
    x = floats_like(x, argument, like, 1)
    if x.size != size:
        fail(argument, x.shape, (size,))
    return x


def class_indices(x: Any, argument: str, ndim: int) -> Array:
    """x as a C-contiguous int64 array: any integer dtype that int64 holds; floats (so NaN) are refused."""
    x = _view(x, argument)
    if x.dtype.kind not in "iu" or not np.can_cast(x.dtype, _I64):
        raise TypeError(f"{argument}: found dtype {x.dtype}, expected integers that fit int64")
    if x.ndim != ndim:
        fail(argument, f"shape {x.shape}", f"{ndim} dimensions")
    return np.require(x, _I64, "C")


def output(out: Any, shape: tuple[int, ...], like: Array) -> Array:
    """`out` checked, or a new array, of that shape and the dtype of `like`."""
    if out is None:
        return empty(shape, like.dtype)
    return writable(out, "out", shape, like)


def writable(out: Any, argument: str, shape: tuple[int, ...], like: Array) -> Array:
    """`out` if a kernel may write it as it is: an array of that shape, and the dtype of `like`."""
    if not isinstance(out, ndarray):
        raise TypeError(f"{argument}: found {type(out).__name__}, expected a NumPy array")
    if out.dtype != like.dtype:
        raise TypeError(f"{argument}: found dtype {out.dtype}, expected {like.dtype}")
    if out.shape != tuple(shape):
        fail(argument, f"shape {out.shape}", f"shape {tuple(shape)}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        fail(argument, "an array that is not C-contiguous and writable", "one that is")
    return out


def in_place(x: Any, argument: str) -> Array:
    """x, an array that a kernel updates: float32 or float64, C-contiguous, writable; never copied."""
    if not isinstance(x, ndarray):
        raise TypeError(f"{argument}: found {type(x).__name__}, expected a NumPy array")
    if x.dtype not in (_F32, _F64):
        raise TypeError(f"{argument}: found dtype {x.dtype.str}, expected float32 or float64 in native byte order")
    return writable(x, argument, x.shape, x)


def optional_in_place(x: Any, argument: str, like: Array) -> Array | None:
    """The same with the shape and dtype of `like`, or None."""
    return None if x is None else writable(x, argument, like.shape, like)


def gradient(x: Array, wanted: bool = True) -> Array:
    """A new array for the gradient of x; an empty one, which kernels take as "not wanted", if it is not wanted."""
    return np.empty_like(x) if wanted else np.empty_like(x[:0])


def disjoint(written: Array, argument: str, other: Any) -> None:
    """Refuse an input that shares memory with what is written (both C-contiguous; None shares nothing)."""
    if other is not None and np.may_share_memory(written, other):
        fail(argument, "an array that overlaps the result", "one that does not")


def same_or_disjoint(written: Array, argument: str, other: Array) -> None:
    """The same for element by element operations, which may also work in place."""
    if written.ctypes.data != other.ctypes.data:
        disjoint(written, argument, other)


def pair(value: int | tuple[int, int], argument: str, least: int) -> tuple[int, int]:
    """An int or a pair of ints as a pair, each at least `least`."""
    if type(value) is int:
        if value < least:
            fail(argument, value, f"at least {least}")
        return value, value
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2 or any(isinstance(v, bool) or not isinstance(v, (int, np.integer)) for v in values):
        raise TypeError(f"{argument}: found {value!r}, expected an int or a pair of ints")
    if min(values) < least:
        fail(argument, value, f"at least {least}")
    return int(values[0]), int(values[1])


def reduced_shape(shape: tuple[int, ...], reduction: str) -> tuple[int, ...]:
    """The shape of a loss: one value unless reduction is "none". (Inside Numba, reduction has to be a literal.)"""
    return shape if reduction == "none" else ()


def choice(value: str, argument: str, names: tuple[str, ...]) -> int:
    """The position of `value` in `names`, which is the value of the C enum."""
    if value not in names:
        fail(argument, repr(value), "one of " + ", ".join(names))
    return names.index(value)


def _view(x: Any, argument: str) -> Array:
    """Whatever NumPy can see without copying, as an array."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{argument}: found a masked array, expected a plain one (masks are not supported)")
    if isinstance(x, (ndarray, np.generic, memoryview)) or hasattr(x, "__array_interface__"):
        return np.asarray(x)
    if hasattr(x, "__dlpack__"):
        return np.from_dlpack(x)
    try:
        return np.asarray(memoryview(x))
    except TypeError:
        raise TypeError(
            f"{argument}: found {type(x).__name__}, expected an array (buffer or DLPack protocol)"
        ) from None
