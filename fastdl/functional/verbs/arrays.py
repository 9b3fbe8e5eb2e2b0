"""Arrays: checked, made ready for a kernel, created; what may be written, and what may not overlap."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy import empty, float32, float64, int64, ndarray

from fastdl import _kernels
from fastdl._call import shortcut
from fastdl.functional.verbs.errors import fail
from fastdl.functional.verbs.scalars import is_int, number_or_nan

Array = np.ndarray[Any, Any]


class SupportsArrayInterface(Protocol):
    """What shows its elements by NumPy's own protocol."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


class SupportsDLPack(Protocol):
    """What shows its elements by DLPack, as the tensors of other libraries do."""

    def __dlpack__(self) -> Any: ...


ArrayLike = Array | np.generic | memoryview | SupportsArrayInterface | SupportsDLPack
"""What functions take for an array: whatever NumPy can see without copying. (No lists: their dtype is a guess.)"""

Arrays = tuple[Array, ...]
"""Several that are returned."""

_F32, _F64, _I64 = np.dtype(float32), np.dtype(float64), np.dtype(int64)


@shortcut
def copied(x: Any) -> Array:
    """A copy of x, float32 or float64, in C order. By a kernel: what NumPy copies cannot be recorded."""
    result, width = empty(x.shape, x.dtype), x.itemsize
    if not x.flags.aligned or any(step % width for step in x.strides):  # fields of records
        result[...] = x
    elif x.size:
        sizes = zip(x.shape, x.strides, result.strides, strict=True)
        geometry = [(n, step // width, own // width) for n, step, own in sizes]
        _kernels.copy(x, result, np.array(geometry, int64).reshape(-1, 3), x.ndim)
    return result


def zeros(shape: tuple[int, ...], like: Array) -> Array:
    """A new array of zeros with the dtype of `like`. By a kernel, likewise."""
    result = empty(shape, like.dtype)
    _kernels.fill(result, result.size, 0.0)
    return result


@shortcut
def floats(x: Any, argument: str, ndim: int = -1) -> Array:
    """x as a C-contiguous float32 or float64 array of that many dimensions (-1: any); copied only if it must be."""
    array = view(x, argument)
    if array.dtype not in (_F32, _F64) or not array.dtype.isnative:
        raise TypeError(f"{argument}: found dtype {array.dtype.str}, expected float32 or float64 in native byte order")
    if ndim >= 0 and array.ndim != ndim:
        fail(argument, f"shape {array.shape}", f"{ndim} dimensions")
    if not (array.dtype is _F32 or array.dtype is _F64):  # equal to one of them
        array = array.view(_F32 if array.dtype == _F32 else _F64)
    return array if array.flags.c_contiguous else copied(array)


@shortcut
def floats_like(x: Any, argument: str, like: Array, ndim: int = -1) -> Array:
    """The same, with the dtype of `like`."""
    array = floats(x, argument, ndim)
    if array.dtype is not like.dtype:
        raise TypeError(
            f"{argument}: found dtype {array.dtype}, expected {like.dtype}, the dtype of the first argument"
        )
    return array


def matrices(x: Any, argument: str, like: Array | None = None) -> tuple[Array, tuple[int, ...]]:
    """x as a float32 or float64 array (of the dtype of `like`) whose rows or columns, in the last two dimensions, are
    dense; and the elements from one index to the next in each, () if it is C-contiguous. Copied only if it must be."""
    array = view(x, argument)
    steps = () if array.flags.c_contiguous else _dense_steps(array)
    if not steps:
        array = floats(array, argument)
    if like is not None and array.dtype != like.dtype:
        floats_like(array, argument, like)  # which says so
    return array, steps


def _dense_steps(array: Array) -> tuple[int, ...]:
    """Those steps; () if it has to be copied."""
    width = array.itemsize
    if array.ndim < 2 or array.size == 0 or array.dtype not in (_F32, _F64) or not array.flags.aligned:
        return ()
    (m, row), (n, column) = zip(array.shape[-2:], array.strides[-2:], strict=True)
    by_rows = (n == 1 or column == width) and (m == 1 or row > 0)
    by_columns = (m == 1 or row == width) and (n == 1 or column > 0)
    if not (by_rows or by_columns) or any(step % width for step in array.strides):
        return ()
    return tuple(step // width for step in array.strides)


class PackedLinearWeight(NamedTuple):
    """What pack_linear_weight returns: accepted by linear in place of the weight. Its fields but shape are private.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.pack_linear_weight(np.ones((8, 4))).shape
    (8, 4)
    """

    data: Array
    shape: tuple[int, ...]


@shortcut
def linear_weight(weight: Any, x: Array) -> tuple[Array, tuple[int, ...], int]:
    """A weight, plain or packed: its elements, its shape, and 1 if it is packed."""
    if type(weight) is not PackedLinearWeight:
        weight = floats_like(weight, "weight", x)
        return weight, weight.shape, 0
    return packed_data(weight.data, x), weight.shape, 1


def packed_data(data: Array, x: Array) -> Array:
    """The elements of a packed weight, which may have been pickled: its dtype is then equal, but not NumPy's own."""
    data = floats(data, "weight", 1)
    if data.dtype is not x.dtype:
        raise TypeError(f"weight: found dtype {data.dtype} (packed), expected {x.dtype}")
    return data


@shortcut
def floats_as(x: Any, argument: str, like: Array) -> Array:
    """The same, with the dtype and the shape of `like`."""
    array = floats_like(x, argument, like)
    if array.shape != like.shape:
        fail(argument, array.shape, like.shape)
    return array


@shortcut
def bools(x: Any, argument: str, shape: tuple[int, ...]) -> Array:
    """x as a C-contiguous array of bools of that shape; copied only if it must be."""
    array = mask(x, argument)
    if array.shape != shape:
        fail(argument, array.shape, shape)
    return array


def mask(x: Any, argument: str) -> Array:
    """The same of any shape."""
    array = view(x, argument)
    if array.dtype != np.bool_:
        raise TypeError(f"{argument}: found dtype {array.dtype}, expected bool")
    return np.require(array, np.bool_, "C")


def score_mask(x: Any, argument: str, like: Array) -> tuple[Array | None, Array | None]:
    """A mask: bools and None, or None and floats with the dtype of `like`; (None, None) where there is none."""
    if x is None:
        return None, None
    array = view(x, argument)
    if array.dtype == np.bool_:
        return np.require(array, np.bool_, "C"), None
    return None, floats_like(array, argument, like)


@shortcut
def optional_vector(x: Any, argument: str, like: Array, size: int) -> Array | None:
    """x as floats_like of shape (size,), which a list or tuple of numbers may give as well, or of shape () where size
    is -1; or None."""
    if x is None:
        return None
    if size == -1:
        return optional_like(x, argument, like, ())
    array = floats_like(listed(x, argument, like.dtype), argument, like, 1)
    if len(array) != size:
        fail(argument, array.shape, (size,))
    return array


def loss_grad(grad_output: Any, like: Array, shape: tuple[int, ...]) -> Array:
    """grad_output as floats_like of that shape, that of a loss; a Python number will do where that is ()."""
    if shape == () and type(grad_output) in (int, float):
        return np.asarray(number_or_nan(grad_output, "grad_output"), like.dtype)
    grad = floats_like(grad_output, "grad_output", like)
    if grad.shape != shape:
        fail("grad_output", grad.shape, shape)
    return grad


@shortcut
def optional_like(x: Any, argument: str, like: Array, shape: tuple[int, ...]) -> Array | None:
    """x as floats_like of that shape, or None."""
    if x is None:
        return None
    array = floats_like(x, argument, like, len(shape))
    if array.shape != shape:
        fail(argument, array.shape, shape)
    return array


def optional_broadcast(x: Any, argument: str, like: Array) -> Array | None:
    """x, of the dtype of `like` and a shape that broadcasts to its shape, broadcast to it, or None."""
    if x is None:
        return None
    array = floats_like(x, argument, like)
    if array.shape == like.shape:
        return array
    own = (1,) * (like.ndim - array.ndim) + array.shape
    if len(own) != like.ndim or any(n not in (1, m) for n, m in zip(own, like.shape, strict=True)):
        fail(argument, array.shape, ("one that broadcasts to", like.shape))
    return copied(np.broadcast_to(array, like.shape))


def running_stat(x: Any, argument: str, like: Array, size: int, updated: bool) -> Array | None:
    """x as optional_vector; one that is updated is never copied, and has to be writable."""
    if updated and x is not None:
        return writable(x, argument, (size,), like)
    return optional_vector(x, argument, like, size)


def optional_stats(x: Any, argument: str, shape: tuple[int, ...]) -> Array | None:
    """x, statistics as stats_output makes them, of that shape; or None."""
    if x is None:
        return None
    array = floats(x, argument, len(shape))
    if array.dtype is not _F64:
        raise TypeError(f"{argument}: found dtype {array.dtype}, expected float64, in which statistics are returned")
    if array.shape != shape:
        fail(argument, array.shape, shape)
    return array


def stats_output(shape: tuple[int, ...], wanted: bool) -> Any:
    """A new float64 array for statistics; None, which kernels take as "not wanted", if not."""
    return empty(shape, float64) if wanted else None


def with_mean_and_rstd(y: Array, mean: Any, rstd: Any, wanted: bool) -> Array | tuple[Array, Array, Array]:
    """(y, mean, rstd), or y alone. (Inside Numba, `wanted` has to be a literal.)"""
    return (y, mean, rstd) if wanted else y


def with_rstd(y: Array, rstd: Any, wanted: bool) -> Array | tuple[Array, Array]:
    """The same of (y, rstd)."""
    return (y, rstd) if wanted else y


def with_saved(results: tuple[Array, ...], saved: Array, wanted: bool) -> tuple[Array, ...]:
    """`results`, and after them `saved` if it is wanted. (Inside Numba, `wanted` has to be a literal.)"""
    return (*results, saved) if wanted else results


def split_shape(value: Any, argument: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """`shape` as its leading sizes and its last ones, which are `value`: an int, or a sequence of at least one."""
    last = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not last or not all(map(is_int, last)):
        raise TypeError(f"{argument}: found {value!r}, expected an int or a tuple of at least one")
    if last != shape[-len(last) :]:
        fail(argument, value, ("the last sizes of x, which is", shape))
    return shape[: -len(last)], shape[-len(last) :]


@shortcut
def output(out: Any, shape: tuple[int, ...], like: Array) -> Array:
    """`out` checked, or a new array, of that shape and the dtype of `like`."""
    if out is None:
        return empty(shape, like.dtype)
    return writable(out, "out", shape, like)


def writable(out: Any, argument: str, shape: tuple[int, ...], like: Array) -> Array:
    """`out` if a kernel may write it as it is: an array of that shape, and the dtype of `like`."""
    array = _written(out, argument)
    if array.dtype != like.dtype:
        raise TypeError(f"{argument}: found dtype {array.dtype}, expected {like.dtype}")
    if array.shape != tuple(shape):
        fail(argument, f"shape {array.shape}", f"shape {tuple(shape)}")
    if not (array.flags.c_contiguous and array.flags.writeable):
        fail(argument, "an array that is not C-contiguous and writable", "one that is")
    return array


@shortcut
def in_place(x: Any, argument: str) -> Array:
    """x, an array that a kernel updates: float32 or float64, C-contiguous, writable; never copied."""
    array = _written(x, argument)
    if array.dtype not in (_F32, _F64):
        raise TypeError(f"{argument}: found dtype {array.dtype.str}, expected float32 or float64 in native byte order")
    return writable(array, argument, array.shape, array)


@shortcut
def optional_in_place(x: Any, argument: str, like: Array) -> Array | None:
    """The same with the shape and dtype of `like`, or None."""
    return None if x is None else writable(x, argument, like.shape, like)


def optional_writable(x: Any, argument: str, shape: tuple[int, ...], like: Array) -> Array | None:
    """x as `writable`, or None."""
    return None if x is None else writable(x, argument, shape, like)


def state(x: Any, argument: str, param: Array, grad: Array) -> Array:
    """x, what an optimizer keeps of a parameter: updated in place, of its shape and dtype, in memory of its own."""
    quick = optional_in_place(x, argument, param)
    array = writable(x, argument, param.shape, param) if quick is None else quick
    disjoint(param, argument, array)
    disjoint(grad, argument, array)
    return array


def optional_state(x: Any, argument: str, param: Array, grad: Array) -> Array | None:
    """The same, or None."""
    return None if x is None else state(x, argument, param, grad)


@shortcut
def gradient(x: Array, wanted: bool = True) -> Array:
    """A new array for the gradient of x; an empty one, which kernels take as "not wanted", if it is not wanted."""
    return np.empty_like(x) if wanted else np.empty_like(x[:0])


@shortcut
def disjoint(written: Array, argument: str, other: Any) -> None:
    """Refuse an input that shares memory with what is written (both C-contiguous; None shares nothing)."""
    if other is not None and np.may_share_memory(written, other):
        fail(argument, "an array that overlaps the result", "one that does not")


@shortcut
def same_or_disjoint(written: Array, argument: str, other: Array) -> None:
    """The same for element by element operations, which may also work in place."""
    if written.ctypes.data != other.ctypes.data:
        disjoint(written, argument, other)


def reduced_shape(shape: tuple[int, ...], reduction: str) -> tuple[int, ...]:
    """The shape of a loss: one value unless reduction is "none". (Inside Numba, reduction has to be a literal.)"""
    return shape if reduction == "none" else ()


def _written(x: Any, argument: str) -> Array:
    """x, which has to be an array already to be written."""
    _check_unmasked(x, argument)
    if not isinstance(x, ndarray):
        raise TypeError(f"{argument}: found {type(x).__name__}, expected a NumPy array")
    return x


def _check_unmasked(x: Any, argument: str) -> None:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{argument}: found a masked array, expected a plain one (masks are not supported)")


def listed(x: Any, argument: str, dtype: Any) -> Any:
    """x, but a list or tuple of numbers, integers where dtype is int64, as an array of that dtype."""
    if not isinstance(x, (list, tuple)):
        return x
    try:
        array = np.array(x)
    except (ValueError, OverflowError):
        raise TypeError(f"{argument}: found a list of lists of several lengths, expected numbers") from None
    fits = array.dtype.kind in "iuf" and (dtype is not _I64 or np.can_cast(array.dtype, _I64))
    if array.size and not fits:
        expected = "integers that fit int64" if dtype is _I64 else "numbers"
        raise TypeError(f"{argument}: found a list of {array.dtype}, expected {expected}")
    return array.astype(dtype)


def view(x: Any, argument: str) -> Array:
    """Whatever NumPy can see without copying, as an array."""
    _check_unmasked(x, argument)
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
