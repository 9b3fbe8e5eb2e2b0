"""The one place where an argument is checked and made ready for a kernel.

These few verbs are all that the operations' Python code is written in. Each has a second implementation, for
Numba, in fastdl/numba/arrays.py; that is what lets the very same function body run in plain Python and compile
inside a user's @njit function.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy import empty, float32, float64, int64, ndarray

from fastdl._call import shortcut

Array = np.ndarray[Any, Any]


class PackedConv2dWeight(NamedTuple):
    """What fastdl.pack_conv2d_weight returns: accepted by conv2d in place of the weight. Its fields are private."""

    data: Array
    shape: tuple[int, int, int, int]
    groups: int
    channels_last: int
    tile: int
    """Of Winograd's algorithm, for which the weights are transformed as well: 2 or 4; 0: they are not."""


_F32, _F64, _I64 = np.dtype(float32), np.dtype(float64), np.dtype(int64)


def fail(argument: str, found: Any, expected: Any) -> NoReturn:
    """Raise the ValueError that every mistake in a shape or a value ends in. A tuple with words in it is a phrase."""
    raise ValueError(f"{argument}: found {_phrase(found)}, expected {_phrase(expected)}")


def _phrase(said: Any) -> str:
    words = type(said) is tuple and any(isinstance(word, str) for word in said)
    return " ".join(map(str, said)) if words else str(said)


@shortcut
def floats(x: Any, argument: str, ndim: int = -1) -> Array:
    """x as a C-contiguous float32 or float64 array of that many dimensions (-1: any); copied only if it must be."""
    x = _view(x, argument)
    if x.dtype not in (_F32, _F64) or not x.dtype.isnative:
        raise TypeError(f"{argument}: found dtype {x.dtype.str}, expected float32 or float64 in native byte order")
    if ndim >= 0 and x.ndim != ndim:
        fail(argument, f"shape {x.shape}", f"{ndim} dimensions")
    x = np.require(x, requirements="C")
    return x if x.dtype is _F32 or x.dtype is _F64 else x.view(_F32 if x.dtype == _F32 else _F64)


@shortcut
def floats_like(x: Any, argument: str, like: Array, ndim: int = -1) -> Array:
    """The same, with the dtype of `like`."""
    x = floats(x, argument, ndim)
    if x.dtype is not like.dtype:
        raise TypeError(f"{argument}: found dtype {x.dtype}, expected {like.dtype}, the dtype of the first argument")
    return x


@shortcut
def optional_vector(x: Any, argument: str, like: Array, size: int) -> Array | None:
    """x as floats_like of shape (size,), or None."""
    if x is None:
        return None
    x = floats_like(x, argument, like, 1)
    if len(x) != size:
        fail(argument, x.shape, (size,))
    return x


@shortcut
def optional_like(x: Any, argument: str, like: Array, shape: tuple[int, ...]) -> Array | None:
    """x as floats_like of that shape, or None."""
    if x is None:
        return None
    x = floats_like(x, argument, like, len(shape))
    if x.shape != shape:
        fail(argument, x.shape, shape)
    return x


def optional_broadcast(x: Any, argument: str, like: Array) -> Array | None:
    """x, of the dtype of `like` and a shape that broadcasts to its shape, broadcast to it, or None."""
    if x is None:
        return None
    x = floats_like(x, argument, like)
    if x.shape == like.shape:
        return x
    own = (1,) * (like.ndim - x.ndim) + x.shape
    if len(own) != like.ndim or any(n not in (1, m) for n, m in zip(own, like.shape, strict=True)):
        fail(argument, x.shape, ("one that broadcasts to", like.shape))
    return np.ascontiguousarray(np.broadcast_to(x, like.shape))


@shortcut
def conv_weight(
    weight: Any, x: Array, groups: int, data_format: str
) -> tuple[Array | None, Array | None, tuple[int, ...], int]:
    """A weight, plain or packed: the array or None, the packed one or None, the shape, and the tile (-1: plain)."""
    if type(weight) is not PackedConv2dWeight:
        weight = floats_like(weight, "weight", x, x.ndim)
        return weight, None, weight.shape, -1
    if weight.data.dtype is not x.dtype:
        raise TypeError(f"weight: found dtype {weight.data.dtype} (packed), expected {x.dtype}")
    packed_for = weight.groups, weight.channels_last
    if x.ndim != 4 or packed_for != (groups, channels_last(data_format, x.shape)):
        fail(
            "weight",
            ("one packed for conv2d with groups", packed_for[0], "and data_format", _DATA_FORMATS[1][packed_for[1]]),
            ("one packed for", x.ndim, "dimensions, groups", groups, "and data_format", data_format),
        )
    return None, weight.data, weight.shape, weight.tile


@shortcut
def class_indices(x: Any, argument: str, ndim: int) -> Array:
    """x as a C-contiguous int64 array: any integer dtype that int64 holds; floats (so NaN) are refused."""
    x = _view(x, argument)
    if x.dtype.kind not in "iu" or not np.can_cast(x.dtype, _I64):
        raise TypeError(f"{argument}: found dtype {x.dtype}, expected integers that fit int64")
    if x.ndim != ndim:
        fail(argument, f"shape {x.shape}", f"{ndim} dimensions")
    return np.require(x, _I64, "C")


def class_target(target: Any, x: Array, soft: bool) -> tuple[Array | None, Array | None]:
    """A target for x, whose classes are dimension 1 (0 where there is no other): class indices and None or, where
    `soft`, None and probabilities, floats shaped as x."""
    viewed = _view(target, "target")
    if soft and viewed.dtype.kind == "f" and viewed.ndim == x.ndim:
        target, shape = floats_like(target, "target", x), x.shape
    else:
        target, shape = class_indices(target, "target", max(x.ndim - 1, 0)), row_shape(x.shape)
        soft = False
    if target.shape != shape:
        fail("target", target.shape, shape)
    return (None, target) if soft else (target, None)


def class_split(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of x as what is before its classes, the classes, and what is after them."""
    if not shape:
        fail("x", shape, "at least 1 dimension")
    return (1, shape[0], 1) if len(shape) == 1 else (shape[0], shape[1], math.prod(shape[2:]))


def row_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of x without its classes."""
    return () if len(shape) == 1 else shape[:1] + shape[2:]


def optional_indices(x: Any, argument: str, shape: tuple[int, ...]) -> Array | None:
    """x as class_indices of that shape, or None."""
    if x is None:
        return None
    x = class_indices(x, argument, len(shape))
    if x.shape != shape:
        fail(argument, x.shape, shape)
    return x


def index_output(shape: tuple[int, ...], wanted: bool) -> Array:
    """A new array of positions; an empty one, which kernels take as "not wanted", if they are not wanted."""
    return empty(shape if wanted else (0,), int64)


def with_indices(y: Array, indices: Array, wanted: bool) -> Any:
    """(y, indices), or y alone. (Inside Numba, `wanted` has to be a literal.)"""
    return (y, indices) if wanted else y


def running_stat(x: Any, argument: str, like: Array, size: int, updated: bool) -> Array | None:
    """x as optional_vector; one that is updated is never copied, and has to be writable."""
    if updated and x is not None:
        return writable(x, argument, (size,), like)
    return optional_vector(x, argument, like, size)


def stats_output(shape: tuple[int, ...], like: Array, wanted: bool) -> Array:
    """A new array for statistics; an empty one, which kernels take as "not wanted", if they are not wanted."""
    return empty(shape if wanted else (0,) * len(shape), like.dtype)


def with_mean_and_rstd(y: Array, mean: Array, rstd: Array, wanted: bool) -> Any:
    """(y, mean, rstd), or y alone. (Inside Numba, `wanted` has to be a literal.)"""
    return (y, mean, rstd) if wanted else y


def with_rstd(y: Array, rstd: Array, wanted: bool) -> Any:
    """The same of (y, rstd)."""
    return (y, rstd) if wanted else y


def with_saved(results: tuple[Array, ...], saved: Array, wanted: bool) -> Any:
    """`results`, and after them `saved` if it is wanted. (Inside Numba, `wanted` has to be a literal.)"""
    return (*results, saved) if wanted else results


def split_shape(value: Any, argument: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """`shape` as its leading sizes and its last ones, which are `value`: an int, or a sequence of at least one."""
    last = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not last or not all(map(_is_int, last)):
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
    if not isinstance(out, ndarray):
        raise TypeError(f"{argument}: found {type(out).__name__}, expected a NumPy array")
    if out.dtype != like.dtype:
        raise TypeError(f"{argument}: found dtype {out.dtype}, expected {like.dtype}")
    if out.shape != tuple(shape):
        fail(argument, f"shape {out.shape}", f"shape {tuple(shape)}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        fail(argument, "an array that is not C-contiguous and writable", "one that is")
    return out


@shortcut
def in_place(x: Any, argument: str) -> Array:
    """x, an array that a kernel updates: float32 or float64, C-contiguous, writable; never copied."""
    if not isinstance(x, ndarray):
        raise TypeError(f"{argument}: found {type(x).__name__}, expected a NumPy array")
    if x.dtype not in (_F32, _F64):
        raise TypeError(f"{argument}: found dtype {x.dtype.str}, expected float32 or float64 in native byte order")
    return writable(x, argument, x.shape, x)


@shortcut
def optional_in_place(x: Any, argument: str, like: Array) -> Array | None:
    """The same with the shape and dtype of `like`, or None."""
    return None if x is None else writable(x, argument, like.shape, like)


def optional_writable(x: Any, argument: str, shape: tuple[int, ...], like: Array) -> Array | None:
    """x as `writable`, or None."""
    return None if x is None else writable(x, argument, shape, like)


def state(x: Any, argument: str, param: Array, grad: Array) -> Array:
    """x, what an optimizer keeps of a parameter: updated in place, of its shape and dtype, in memory of its own."""
    x = writable(x, argument, param.shape, param) if x is None else optional_in_place(x, argument, param)
    disjoint(param, argument, x)
    disjoint(grad, argument, x)
    return x


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


def triple(value: Any, argument: str, least: int, unit: int, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """An int, or one for each spatial dimension of `shape`, as (depth, height, width); `unit` where there is none."""
    rank = len(shape) - 2
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    if len(values) not in (1, rank) or not all(map(_is_int, values)):
        raise TypeError(f"{argument}: found {value!r}, expected an int or {rank} ints")
    if min(values) < least:
        fail(argument, value, ("at least", least))
    values = values * rank if len(values) == 1 else values
    return (unit,) * (3 - rank) + tuple(map(int, values))  # type: ignore[return-value]


def sizes(
    value: Any, argument: str, defaults: tuple[int, int, int], shape: tuple[int, ...], whole: int
) -> tuple[int, int, int]:
    """Sizes as (depth, height, width): one for each spatial dimension of `shape` (or, where `whole` is 2, for its two
    others before them as well, which do not count), or an int; `defaults` where there is None."""
    rank = len(shape) - 2
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    values = values[2:] if whole and len(values) == rank + 2 else values
    if len(values) != rank or not all(v is None or _is_int(v) for v in values):
        raise TypeError(f"{argument}: found {value!r}, expected an int or {rank} ints (or None)")
    found = defaults[: 3 - rank] + tuple(
        default if v is None else int(v) for v, default in zip(values, defaults[3 - rank :], strict=True)
    )
    if min(found[3 - rank :]) < 0:
        fail(argument, value, "at least 0")
    return found  # type: ignore[return-value]


def pads(
    value: Any, argument: str, shape: tuple[int, ...], kernel: tuple[int, int, int], stride: Any, dilation: Any
) -> tuple[int, int, int, int, int, int]:
    """Padding as (depth, height, width) before and after: given as an int, as one or as (before, after) for each
    spatial dimension of `shape`, as "valid" (none) or as "same" (positions as the input, at stride 1)."""
    rank = len(shape) - 2
    if isinstance(value, str):
        if value not in ("same", "valid"):
            fail(argument, repr(value), "'same', 'valid' or numbers")
        if value == "valid":
            return 0, 0, 0, 0, 0, 0
        if stride != (1, 1, 1):
            fail(argument, ("'same' with stride", stride), "stride 1 with 'same'")
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple(t // 2 for t in total) + tuple(t - t // 2 for t in total)  # type: ignore[return-value]
    if not isinstance(value, (tuple, list)) or all(map(_is_int, value)):
        before = triple(value, argument, 0, 0, shape)
        return before + before
    sides = [tuple(side) if isinstance(side, (tuple, list)) else () for side in value]
    if len(sides) != rank or not all(len(side) == 2 and all(map(_is_int, side)) for side in sides):
        raise TypeError(f"{argument}: found {value!r}, expected an int, {rank} ints or {rank} pairs (before, after)")
    if min(map(min, sides)) < 0:
        fail(argument, value, "at least 0")
    none = ((0, 0),) * (3 - rank)
    before, after = zip(*none, *sides, strict=True)
    return tuple(map(int, before + after))  # type: ignore[return-value]


def borders(value: Any, argument: str, shape: tuple[int, ...]) -> Array:
    """Padding given from the last dimension backwards as (before, after, before, after, ...), as an int64 array
    (dimensions of `shape`, 3) of size, before, after."""
    if not isinstance(value, (tuple, list)) or not all(map(_is_int, value)):
        raise TypeError(f"{argument}: found {value!r}, expected a tuple of ints")
    if len(value) % 2 or len(value) > 2 * len(shape):
        fail(argument, value, ("(before, after) of at most", len(shape), "dimensions, from the last backwards"))
    if any(abs(n) > 2**60 for n in value):
        fail(argument, value, "at most 2**60")
    geometry = np.zeros((len(shape), 3), int64)
    geometry[:, 0] = shape
    geometry[len(shape) - len(value) // 2 :, 1:] = np.reshape(value, (-1, 2))[::-1]
    return geometry


def bordered_shape(shape: tuple[int, ...], geometry: Array, sign: int) -> tuple[int, ...]:
    """`shape` with those borders added (sign 1) or taken away (-1)."""
    return tuple(n + sign * int(before + after) for n, (_, before, after) in zip(shape, geometry, strict=True))


def volume(shape: tuple[int, ...], channels_last: int) -> tuple[int, int, int, int, int]:
    """The shape of images (or sequences, or volumes) as (batch, channels, depth, height, width)."""
    channels, sizes = (shape[-1], shape[1:-1]) if channels_last else (shape[1], shape[2:])
    return (shape[0], channels, *(1,) * (3 - len(sizes)), *sizes)  # type: ignore[return-value]


def volume_shape(
    shape: tuple[int, ...], batch: int, channels: int, sizes: tuple[int, int, int], channels_last: int
) -> tuple[int, ...]:
    """The other way: a shape with as many dimensions as `shape`, of that batch, channels and sizes."""
    spatial = sizes[5 - len(shape) :]
    return (batch, *spatial, channels) if channels_last else (batch, channels, *spatial)


def channels_last(data_format: str, shape: tuple[int, ...]) -> int:
    """1 for "NHWC" (or its counterpart for sequences or volumes), 0 for "NCHW"."""
    first, last = _DATA_FORMATS[len(shape) - 3]
    if data_format not in (first, last):
        fail("data_format", repr(data_format), ("one of", first, last))
    return int(data_format == last)


def probability(value: float, argument: str) -> float:
    """A number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{argument}: found {value!r}, expected a number")
    if not 0 <= value <= 1:
        fail(argument, value, "a probability between 0 and 1")
    return float(value)


def natural(value: int, argument: str) -> int:
    """An int in [0, 2^63)."""
    if not _is_int(value):
        raise TypeError(f"{argument}: found {value!r}, expected an int")
    if not 0 <= value < 2**63:
        fail(argument, value, "at least 0 and less than 2**63")
    return int(value)


def many_floats(x: Any, argument: str) -> tuple[Array, ...]:
    """An array, or the arrays of a tuple or a list, as a tuple of `floats` of one dtype."""
    if not isinstance(x, (tuple, list)):
        return (floats(x, argument),)
    if not x:
        fail(argument, "no arrays", "at least one")
    arrays = tuple(floats(item, f"{argument}[{i}]") for i, item in enumerate(x))
    for i, array in enumerate(arrays):
        if array.dtype is not arrays[0].dtype:
            raise TypeError(
                f"{argument}[{i}]: found dtype {array.dtype}, expected {arrays[0].dtype}, that of the first"
            )
    return arrays


@shortcut
def many_like(x: Any, argument: str, like: Array) -> tuple[Array, ...]:
    """The arrays of a tuple or a list, as a tuple of `floats` with the dtype of `like`; None: none."""
    if x is None:
        return ()
    arrays = many_floats(x, argument)
    if arrays[0].dtype is not like.dtype:
        raise TypeError(f"{argument}: found dtype {arrays[0].dtype}, expected {like.dtype}, the dtype of x")
    return arrays


def matrix_shapes(arrays: tuple[Array, ...]) -> tuple[tuple[int, int], ...]:
    """The shapes of matrices and vectors; of a vector as (size, 0). Anything else has the shape (-1, 0)."""
    return tuple([a.shape if a.ndim == 2 else (len(a) if a.ndim == 1 else -1, 0) for a in arrays])  # type: ignore[misc]


def arrays_like(out: Any, argument: str, arrays: tuple[Array, ...], x: Any) -> tuple[Array, ...]:
    """New arrays like those of many_floats(x); or `out`, in the form of x, each writable and like one of them, which
    it may be itself."""
    if out is None:
        return tuple(np.empty_like(array) for array in arrays)
    if not isinstance(x, (tuple, list)):
        same_or_disjoint(writable(out, argument, arrays[0].shape, arrays[0]), "x", arrays[0])
        return (out,)
    if not isinstance(out, (tuple, list)):
        raise TypeError(f"{argument}: found {type(out).__name__}, expected a tuple or a list, as x is")
    if len(out) != len(arrays):
        fail(argument, (len(out), "arrays"), (len(arrays), "as there are in x"))
    for i, (y, array) in enumerate(zip(out, arrays, strict=True)):
        same_or_disjoint(writable(y, f"{argument}[{i}]", array.shape, array), f"x[{i}]", array)
    return tuple(out)


@shortcut
def array_table(first: tuple[Array, ...], second: tuple[Array, ...], both: int) -> Array:
    """(n, 3) int64: the addresses of the arrays of `first` and, if `both`, of `second` (else 0), and their sizes."""
    rows = [(a.ctypes.data, b.ctypes.data if both else 0, a.size) for a, b in zip(first, second, strict=True)]
    return np.array(rows, int64)


def as_given(arrays: tuple[Array, ...], x: Any) -> Any:
    """Those arrays in the form of x: an array, a tuple or a list."""
    if isinstance(x, list):
        return list(arrays)
    return arrays if isinstance(x, tuple) else arrays[0]


def reduced_shape(shape: tuple[int, ...], reduction: str) -> tuple[int, ...]:
    """The shape of a loss: one value unless reduction is "none". (Inside Numba, reduction has to be a literal.)"""
    return shape if reduction == "none" else ()


@shortcut
def choice(value: str, argument: str, names: tuple[str, ...]) -> int:
    """The position of `value` in `names`, which is the value of the C enum."""
    if value not in names:
        fail(argument, repr(value), "one of " + ", ".join(names))
    return names.index(value)


def fused(
    activation: str, args: tuple[float, ...], names: tuple[str, ...], known: tuple[tuple[int, float, float], ...]
) -> tuple[int, float, float]:
    """An activation and its arguments as the kind and the two numbers that kernels take; `known` of each kind says how
    many there are, and the defaults."""
    kind = choice(activation, "activation", names)
    most, alpha, beta = known[kind]
    if len(args) > most:
        fail("activation_args", args, ("at most", most, "numbers for", activation))
    return kind, float(args[0]) if len(args) > 0 else alpha, float(args[1]) if len(args) > 1 else beta


_DATA_FORMATS = (("NCL", "NLC"), ("NCHW", "NHWC"), ("NCDHW", "NDHWC"))


def _is_int(value: Any) -> bool:
    return type(value) is int or (isinstance(value, (int, np.integer)) and not isinstance(value, bool))


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
