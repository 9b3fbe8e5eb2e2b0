"""The verbs of fastdl/_arrays.py for Numba: the same names, the same meaning.

What is a type's business (dtype, number of dimensions, layout of `out`) is settled while compiling, as a
TypingError; what is a value's (shapes, strides, overlap) raises the same ValueError as in plain Python.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.core.errors import RequireLiteralValue, TypingError
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import intrinsic, overload, register_jitable

from fastdl import _arrays


def _is_none(t: Any) -> bool:
    return t is None or isinstance(t, types.NoneType) or (isinstance(t, types.Omitted) and t.value is None)


def _literal(t: Any) -> Any:
    """The value of a literal or omitted argument, or the plain default itself."""
    if isinstance(t, types.Literal):
        return t.literal_value
    return t.value if isinstance(t, types.Omitted) else t


def _check_floats(x: Any, argument: Any, ndim: Any) -> None:
    name, ndim = _literal(argument), _literal(ndim)
    if not isinstance(ndim, int):  # Numba's second try, after an error: the first one's message is the one to read
        raise RequireLiteralValue(f"{name} and its dimensions have to be literals")
    if not isinstance(x, types.Array):
        raise TypingError(f"{name}: found {x}, expected an array")
    if x.dtype not in (types.float32, types.float64):
        raise TypingError(f"{name}: found dtype {x.dtype}, expected float32 or float64")
    if ndim >= 0 and x.ndim != ndim:
        raise TypingError(f"{name}: found {x.ndim} dimensions, expected {ndim}")


def _check_floats_like(x: Any, argument: Any, like: Any, ndim: Any = -1) -> None:
    _check_floats(x, argument, ndim)
    if x.dtype != like.dtype:
        raise TypingError(f"{_literal(argument)}: found dtype {x.dtype}, expected {like.dtype}")


@overload(_arrays.fail)
def _fail(argument, found, expected):  # type: ignore[no-untyped-def]
    def implementation(argument, found, expected):  # type: ignore[no-untyped-def]
        raise ValueError(argument, "found", found, "expected", expected)

    return implementation


@overload(_arrays.floats, prefer_literal=True)
def _floats(x, argument, ndim=-1):  # type: ignore[no-untyped-def]
    _check_floats(x, argument, ndim)
    if x.layout == "C":
        return lambda x, argument, ndim=-1: x
    return lambda x, argument, ndim=-1: np.ascontiguousarray(x)


@overload(_arrays.floats_like, prefer_literal=True)
def _floats_like(x, argument, like, ndim=-1):  # type: ignore[no-untyped-def]
    _check_floats_like(x, argument, like, ndim)
    if x.layout == "C":
        return lambda x, argument, like, ndim=-1: x
    return lambda x, argument, like, ndim=-1: np.ascontiguousarray(x)


@overload(_arrays.optional_vector, prefer_literal=True)
def _optional_vector(x, argument, like, size):  # type: ignore[no-untyped-def]
    if _is_none(x):
        return lambda x, argument, like, size: None
    name = _literal(argument)

    def implementation(x, argument, like, size):  # type: ignore[no-untyped-def]
        x = _arrays.floats_like(x, name, like, 1)
        if x.size != size:
            _arrays.fail(name, x.shape, (size,))
        return x

    return implementation


@overload(_arrays.optional_like, prefer_literal=True)
def _optional_like(x, argument, like, shape):  # type: ignore[no-untyped-def]
    if _is_none(x):
        return lambda x, argument, like, shape: None
    name, ndim = _literal(argument), len(shape)

    def implementation(x, argument, like, shape):  # type: ignore[no-untyped-def]
        x = _arrays.floats_like(x, name, like, ndim)
        if x.shape != shape:
            _arrays.fail(name, x.shape, shape)
        return x

    return implementation


@overload(_arrays.optional_broadcast, prefer_literal=True)
def _optional_broadcast(x, argument, like):  # type: ignore[no-untyped-def]
    if _is_none(x):
        return lambda x, argument, like: None
    name, missing = _literal(argument), like.ndim - x.ndim
    if missing < 0:
        raise TypingError(f"{name}: found {x.ndim} dimensions, expected at most {like.ndim}")

    def broadcast(x, argument, like):  # type: ignore[no-untyped-def]
        result = np.empty(like.shape, like.dtype)
        for i in range(x.ndim):
            if x.shape[i] != 1 and x.shape[i] != like.shape[missing + i]:
                _arrays.fail(name, x.shape, ("one that broadcasts to", like.shape))
        result[...] = x
        return result

    if missing or x.layout != "C" or not x.mutable:
        _check_floats_like(x, name, like)
        return broadcast
    broadcast = register_jitable(broadcast)

    def implementation(x, argument, like):  # type: ignore[no-untyped-def]
        x = _arrays.floats_like(x, name, like)
        return x if x.shape == like.shape else broadcast(x, argument, like)

    return implementation


@overload(_arrays.conv_weight)
def _conv_weight(weight, x, groups, data_format):  # type: ignore[no-untyped-def]
    if getattr(weight, "instance_class", None) is not _arrays.PackedConv2dWeight:
        ndim = x.ndim

        def plain(weight, x, groups, data_format):  # type: ignore[no-untyped-def]
            array = _arrays.floats_like(weight, "weight", x, ndim)
            return array, None, array.shape, -1

        return plain
    if weight.types[0].dtype != x.dtype or x.ndim != 4:
        raise TypingError(f"weight: found one packed for {weight.types[0].dtype} and conv2d, expected one for {x}")

    def packed(weight, x, groups, data_format):  # type: ignore[no-untyped-def]
        if weight.groups != groups or weight.channels_last != _arrays.channels_last(data_format, x.shape):
            _arrays.fail("weight", "one packed for other groups or data_format", (groups, data_format))
        return None, weight.data, weight.shape, weight.tile

    return packed


@overload(_arrays.class_indices, prefer_literal=True)
def _class_indices(x, argument, ndim):  # type: ignore[no-untyped-def]
    if not isinstance(x, types.Array) or not isinstance(x.dtype, types.Integer):
        raise TypingError(f"{_literal(argument)}: found {x}, expected an array of integers")
    if x.ndim != _literal(ndim):
        raise TypingError(f"{_literal(argument)}: found {x.ndim} dimensions, expected {_literal(ndim)}")
    if x.dtype == types.int64 and x.layout == "C":
        return lambda x, argument, ndim: x
    return lambda x, argument, ndim: np.ascontiguousarray(x).astype(np.int64)


@overload(_arrays.class_target, prefer_literal=True)
def _class_target(target, x, soft):  # type: ignore[no-untyped-def]
    if _literal(soft) and isinstance(target, types.Array) and target.ndim == x.ndim and target.dtype == x.dtype:

        def probabilities(target, x, soft):  # type: ignore[no-untyped-def]
            target = _arrays.floats_like(target, "target", x)
            if target.shape != x.shape:
                _arrays.fail("target", target.shape, x.shape)
            return None, target

        return probabilities
    ndim = max(x.ndim - 1, 0)

    def indices(target, x, soft):  # type: ignore[no-untyped-def]
        target = _arrays.class_indices(target, "target", ndim)
        if target.shape != _arrays.row_shape(x.shape):
            _arrays.fail("target", target.shape, _arrays.row_shape(x.shape))
        return target, None

    return indices


@overload(_arrays.class_split)
def _class_split(shape):  # type: ignore[no-untyped-def]
    if len(shape) == 0:
        raise TypingError("x: found 0 dimensions, expected at least 1")
    if len(shape) == 1:
        return lambda shape: (1, shape[0], 1)
    if len(shape) == 2:
        return lambda shape: (shape[0], shape[1], 1)

    def implementation(shape):  # type: ignore[no-untyped-def]
        inner = 1
        for n in shape[2:]:
            inner *= n
        return shape[0], shape[1], inner

    return implementation


@overload(_arrays.row_shape)
def _row_shape(shape):  # type: ignore[no-untyped-def]
    if len(shape) == 1:
        return lambda shape: ()
    return lambda shape: shape[:1] + shape[2:]


@overload(_arrays.optional_indices, prefer_literal=True)
def _optional_indices(x, argument, shape):  # type: ignore[no-untyped-def]
    if _is_none(x):
        return lambda x, argument, shape: None
    name, ndim = _literal(argument), len(shape)

    def implementation(x, argument, shape):  # type: ignore[no-untyped-def]
        x = _arrays.class_indices(x, name, ndim)
        if x.shape != shape:
            _arrays.fail(name, x.shape, shape)
        return x

    return implementation


def _check_wanted(wanted: Any, argument: str = "return_indices") -> bool:
    if not isinstance(_literal(wanted), bool):
        raise RequireLiteralValue(f"{argument} has to be a literal inside Numba")
    return bool(_literal(wanted))


@overload(_arrays.index_output, prefer_literal=True)
def _index_output(shape, wanted):  # type: ignore[no-untyped-def]
    if _check_wanted(wanted):
        return lambda shape, wanted: np.empty(shape, np.int64)
    return lambda shape, wanted: np.empty(0, np.int64)


@overload(_arrays.with_indices, prefer_literal=True)
def _with_indices(y, indices, wanted):  # type: ignore[no-untyped-def]
    if _check_wanted(wanted):
        return lambda y, indices, wanted: (y, indices)
    return lambda y, indices, wanted: y


@overload(_arrays.stats_output, prefer_literal=True)
def _stats_output(shape, like, wanted):  # type: ignore[no-untyped-def]
    if not _check_wanted(wanted, "return_stats"):
        shape_of_none = (0,) * len(shape)
        return lambda shape, like, wanted: np.empty(shape_of_none, like.dtype)
    return lambda shape, like, wanted: np.empty(shape, like.dtype)


@overload(_arrays.with_mean_and_rstd, prefer_literal=True)
def _with_mean_and_rstd(y, mean, rstd, wanted):  # type: ignore[no-untyped-def]
    if _check_wanted(wanted, "return_stats"):
        return lambda y, mean, rstd, wanted: (y, mean, rstd)
    return lambda y, mean, rstd, wanted: y


@overload(_arrays.with_rstd, prefer_literal=True)
def _with_rstd(y, rstd, wanted):  # type: ignore[no-untyped-def]
    if _check_wanted(wanted, "return_stats"):
        return lambda y, rstd, wanted: (y, rstd)
    return lambda y, rstd, wanted: y


@overload(_arrays.with_saved, prefer_literal=True)
def _with_saved(results, saved, wanted):  # type: ignore[no-untyped-def]
    if _check_wanted(wanted, "return_saved"):
        return lambda results, saved, wanted: (*results, saved)
    return lambda results, saved, wanted: results


@overload(_arrays.split_shape, prefer_literal=False)
def _split_shape(value, argument, shape):  # type: ignore[no-untyped-def]
    count = 1 if _whole(value) else len(value) if isinstance(value, types.BaseTuple) else 0
    if count == 0 or not (_whole(value) or _wholes(value, count)):
        raise TypingError(f"{_literal(argument)}: found {value}, expected an int or a tuple of at least one")
    if count > len(shape):
        raise TypingError(f"{_literal(argument)}: found {count} sizes, expected at most {len(shape)}, as x has")
    first = len(shape) - count
    as_tuple = register_jitable((lambda value: (value,)) if _whole(value) else (lambda value: value))

    def implementation(value, argument, shape):  # type: ignore[no-untyped-def]
        if as_tuple(value) != shape[first:]:
            _arrays.fail(argument, value, shape)
        return shape[:first], shape[first:]

    return implementation


@overload(_arrays.running_stat, prefer_literal=True)
def _running_stat(x, argument, like, size, updated):  # type: ignore[no-untyped-def]
    if _is_none(x):
        return lambda x, argument, like, size, updated: None
    name = _literal(argument)
    if _literal(updated) is not False:
        _check_writable(x, name, like)

    def implementation(x, argument, like, size, updated):  # type: ignore[no-untyped-def]
        return _arrays.optional_vector(x, name, like, size)

    return implementation


def _check_writable(out: Any, argument: str, like: Any) -> None:
    if not isinstance(out, types.Array) or out.layout != "C" or not out.mutable:
        raise TypingError(f"{argument}: found {out}, expected a writable C-contiguous array")
    if out.dtype != like.dtype:
        raise TypingError(f"{argument}: found dtype {out.dtype}, expected {like.dtype}")


@overload(_arrays.output)
def _output(out, shape, like):  # type: ignore[no-untyped-def]
    if _is_none(out):
        return lambda out, shape, like: np.empty(shape, like.dtype)
    _check_writable(out, "out", like)

    def implementation(out, shape, like):  # type: ignore[no-untyped-def]
        if out.shape != shape:
            _arrays.fail("out", out.shape, shape)
        return out

    return implementation


@overload(_arrays.writable, prefer_literal=True)
def _writable(out, argument, shape, like):  # type: ignore[no-untyped-def]
    _check_writable(out, _literal(argument), like)

    def implementation(out, argument, shape, like):  # type: ignore[no-untyped-def]
        if out.shape != shape:
            _arrays.fail(argument, out.shape, shape)
        return out

    return implementation


@overload(_arrays.optional_writable, prefer_literal=True)
def _optional_writable(x, argument, shape, like):  # type: ignore[no-untyped-def]
    if _is_none(x):
        return lambda x, argument, shape, like: None
    name = _literal(argument)
    return lambda x, argument, shape, like: _arrays.writable(x, name, shape, like)


@overload(_arrays.in_place, prefer_literal=True)
def _in_place(x, argument):  # type: ignore[no-untyped-def]
    _check_floats(x, argument, -1)
    _check_writable(x, _literal(argument), x)
    return lambda x, argument: x


@overload(_arrays.state, prefer_literal=True)
def _state(x, argument, param, grad):  # type: ignore[no-untyped-def]
    name = _literal(argument)

    def implementation(x, argument, param, grad):  # type: ignore[no-untyped-def]
        x = _arrays.writable(x, name, param.shape, param)
        _arrays.disjoint(param, name, x)
        _arrays.disjoint(grad, name, x)
        return x

    return implementation


@overload(_arrays.optional_state, prefer_literal=True)
def _optional_state(x, argument, param, grad):  # type: ignore[no-untyped-def]
    if _is_none(x):
        return lambda x, argument, param, grad: None
    name = _literal(argument)
    return lambda x, argument, param, grad: _arrays.state(x, name, param, grad)


@overload(_arrays.probability, prefer_literal=True)
def _probability(value, argument):  # type: ignore[no-untyped-def]
    name = _literal(argument)
    if not isinstance(value, (types.Integer, types.Float, types.Literal)) or isinstance(_literal(value), (bool, str)):
        raise TypingError(f"{name}: found {value}, expected a number")

    def implementation(value, argument):  # type: ignore[no-untyped-def]
        if not 0 <= value <= 1:
            _arrays.fail(name, value, "a probability between 0 and 1")
        return float(value)

    return implementation


@overload(_arrays.natural, prefer_literal=True)
def _natural(value, argument):  # type: ignore[no-untyped-def]
    name = _literal(argument)
    if not _whole(value):
        raise TypingError(f"{name}: found {value}, expected an int")

    def implementation(value, argument):  # type: ignore[no-untyped-def]
        if value < 0:
            _arrays.fail(name, value, "at least 0 and less than 2**63")
        return np.int64(value)

    return implementation


def _is_several(x: Any) -> bool:
    return isinstance(x, types.BaseTuple)


@overload(_arrays.many_floats, prefer_literal=True)
def _many_floats(x, argument):  # type: ignore[no-untyped-def]
    name = _literal(argument)
    if not _is_several(x):
        return lambda x, argument: (_arrays.floats(x, name),)
    arrays: Any = x
    if len(arrays) == 0:
        raise TypingError(f"{name}: found no arrays, expected at least one")
    for item in arrays:
        _check_floats(item, name, -1)
        if item.dtype != arrays[0].dtype:
            raise TypingError(f"{name}: found dtype {item.dtype}, expected {arrays[0].dtype}, that of the first")
    if len(arrays) == 1:
        return lambda x, argument: (_arrays.floats(x[0], name),)
    return lambda x, argument: (_arrays.floats(x[0], name), *_arrays.many_floats(x[1:], name))


@overload(_arrays.many_like, prefer_literal=True)
def _many_like(x, argument, like):  # type: ignore[no-untyped-def]
    if _is_none(x):
        return lambda x, argument, like: ()
    name = _literal(argument)
    for item in x if _is_several(x) else [x]:
        _check_floats_like(item, name, like)
    return lambda x, argument, like: _arrays.many_floats(x, name)


@overload(_arrays.matrix_shapes)
def _matrix_shapes(arrays):  # type: ignore[no-untyped-def]
    if len(arrays) == 0:
        return lambda arrays: ()
    shape = register_jitable(
        (lambda a: a.shape)
        if arrays[0].ndim == 2
        else (lambda a: (a.size, 0))
        if arrays[0].ndim == 1
        else lambda a: (-1, 0)
    )
    if len(arrays) == 1:
        return lambda arrays: (shape(arrays[0]),)
    return lambda arrays: (shape(arrays[0]), *_arrays.matrix_shapes(arrays[1:]))


@overload(_arrays.arrays_like, prefer_literal=True)
def _arrays_like(out, argument, arrays, x):  # type: ignore[no-untyped-def]
    name, count = _literal(argument), len(arrays)
    if _is_none(out):
        if count == 0:
            return lambda out, argument, arrays, x: ()
        if count == 1:
            return lambda out, argument, arrays, x: (np.empty_like(arrays[0]),)
        return lambda out, argument, arrays, x: (
            np.empty_like(arrays[0]),
            *_arrays.arrays_like(None, name, arrays[1:], None),
        )
    if _is_several(x) != _is_several(out) or (_is_several(x) and len(out) != count):
        raise TypingError(f"{name}: found {out}, expected it to be like x, {x}")
    if not _is_several(x):

        def implementation(out, argument, arrays, x):  # type: ignore[no-untyped-def]
            y = _arrays.writable(out, name, arrays[0].shape, arrays[0])
            _arrays.same_or_disjoint(y, "x", arrays[0])
            return (y,)

    elif count == 1:

        def implementation(out, argument, arrays, x):  # type: ignore[no-untyped-def]
            return _arrays.arrays_like(out[0], name, arrays, x[0])

    else:

        def implementation(out, argument, arrays, x):  # type: ignore[no-untyped-def]
            first = _arrays.arrays_like(out[0], name, arrays[:1], x[0])
            return (*first, *_arrays.arrays_like(out[1:], name, arrays[1:], x[1:]))

    return implementation


def _fill_rows(table, i, first, second, both):  # type: ignore[no-untyped-def]
    """Rows i, i + 1, ... of array_table."""


@overload(_fill_rows)
def _fill_rows_of(table, i, first, second, both):  # type: ignore[no-untyped-def]
    last = len(first) == 1

    def implementation(table, i, first, second, both):  # type: ignore[no-untyped-def]
        table[i, 0] = _address(first[0])
        table[i, 1] = _address(second[0]) if both else 0
        table[i, 2] = first[0].size
        if not last:
            _fill_rows(table, i + 1, first[1:], second[1:], both)

    return implementation


@overload(_arrays.array_table)
def _array_table(first, second, both):  # type: ignore[no-untyped-def]
    count = len(first)

    def implementation(first, second, both):  # type: ignore[no-untyped-def]
        table = np.empty((count, 3), np.int64)
        _fill_rows(table, 0, first, second, both)
        return table

    return implementation


@overload(_arrays.as_given)
def _as_given(arrays, x):  # type: ignore[no-untyped-def]
    if _is_several(x):
        return lambda arrays, x: arrays
    return lambda arrays, x: arrays[0]


@overload(_arrays.reduced_shape, prefer_literal=True)
def _reduced_shape(shape, reduction):  # type: ignore[no-untyped-def]
    value = _literal(reduction)
    if not isinstance(value, str):
        raise RequireLiteralValue("reduction has to be a string literal inside Numba")
    if value == "none":
        return lambda shape, reduction: shape
    return lambda shape, reduction: ()


@overload(_arrays.gradient)
def _gradient(x, wanted=True):  # type: ignore[no-untyped-def]
    def implementation(x, wanted=True):  # type: ignore[no-untyped-def]
        if wanted:
            return np.empty_like(x)
        return np.empty_like(x[:0])

    return implementation


@intrinsic
def _address(typing_context, array):  # type: ignore[no-untyped-def]
    """array.ctypes.data, without the ctypes object, whose making takes longer than a small kernel."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.intp))

    return types.intp(array), lower


@register_jitable
def _overlap(a, b):  # type: ignore[no-untyped-def]
    first, second = _address(a), _address(b)
    return first < second + b.size * b.itemsize and second < first + a.size * a.itemsize


@overload(_arrays.disjoint, prefer_literal=True)
def _disjoint(written, argument, other):  # type: ignore[no-untyped-def]
    if _is_none(other):
        return lambda written, argument, other: None
    # A constant: an exception that carries a run-time string costs its references on every call.
    message = f"{_literal(argument)}: found an array that overlaps the result, expected one that does not"

    def implementation(written, argument, other):  # type: ignore[no-untyped-def]
        if _overlap(written, other):
            raise ValueError(message)

    return implementation


@overload(_arrays.same_or_disjoint, prefer_literal=True)
def _same_or_disjoint(written, argument, other):  # type: ignore[no-untyped-def]
    name = _literal(argument)
    if not isinstance(name, str):  # a helper's argument: compiled once more, with its value
        raise RequireLiteralValue("the argument's name has to be a literal")

    def implementation(written, argument, other):  # type: ignore[no-untyped-def]
        if _address(written) != _address(other):
            _arrays.disjoint(written, name, other)

    return implementation


def _whole(t: Any) -> bool:
    return isinstance(t, types.Integer) or (isinstance(_literal(t), int) and not isinstance(_literal(t), bool))


def _wholes(t: Any, length: int) -> bool:
    items: Any = t
    return isinstance(t, types.BaseTuple) and len(items) == length and all(map(_whole, items))


@overload(_arrays.triple, prefer_literal=False)
def _triple(value, argument, least, unit, shape):  # type: ignore[no-untyped-def]
    rank = len(shape) - 2
    if _whole(value):
        if rank == 1:

            def spread(v, u):  # type: ignore[no-untyped-def]
                return u, u, v

        elif rank == 2:

            def spread(v, u):  # type: ignore[no-untyped-def]
                return u, v, v

        else:

            def spread(v, u):  # type: ignore[no-untyped-def]
                return v, v, v

    elif _wholes(value, rank):
        if rank == 1:

            def spread(v, u):  # type: ignore[no-untyped-def]
                return u, u, v[0]

        elif rank == 2:

            def spread(v, u):  # type: ignore[no-untyped-def]
                return u, v[0], v[1]

        else:

            def spread(v, u):  # type: ignore[no-untyped-def]
                return v[0], v[1], v[2]

    else:
        raise TypingError(f"{_literal(argument)}: found {value}, expected an int or {rank} ints")
    spread = register_jitable(spread)

    def implementation(value, argument, least, unit, shape):  # type: ignore[no-untyped-def]
        values = spread(value, unit)
        if min(values[3 - rank], values[1], values[2]) < least:
            _arrays.fail(argument, value, ("at least", least))
        return values

    return implementation


def _or_default(value, default):  # type: ignore[no-untyped-def]
    """value, or the default where it is None."""


@overload(_or_default)
def _value_or_default(value, default):  # type: ignore[no-untyped-def]
    return (lambda value, default: default) if _is_none(value) else (lambda value, default: value)


@overload(_arrays.sizes, prefer_literal=False)
def _sizes_of(value, argument, defaults, shape, whole):  # type: ignore[no-untyped-def]
    rank = len(shape) - 2
    if _whole(value) or _is_none(value):

        def implementation(value, argument, defaults, shape, whole):  # type: ignore[no-untyped-def]
            return _spatial((value, value, value), argument, defaults, rank)

    elif isinstance(value, types.BaseTuple) and len(value) in (rank, rank + 2):
        missing = (None,) * (3 - rank)
        skipped = len(value) - rank

        def implementation(value, argument, defaults, shape, whole):  # type: ignore[no-untyped-def]
            if skipped > whole:
                _arrays.fail(argument, value, ("as many numbers as", rank))
            return _spatial(missing + value[skipped:], argument, defaults, rank)

    else:
        raise TypingError(f"{_literal(argument)}: found {value}, expected an int or {rank} ints (or None)")
    return implementation


@register_jitable
def _spatial(values, argument, defaults, rank):  # type: ignore[no-untyped-def]
    depth = _or_default(values[0], defaults[0]) if rank > 2 else defaults[0]
    height = _or_default(values[1], defaults[1]) if rank > 1 else defaults[1]
    width = _or_default(values[2], defaults[2])
    if min(depth, height, width) < 0:
        _arrays.fail(argument, (depth, height, width), "at least 0")
    return depth, height, width


@overload(_arrays.pads, prefer_literal=False)
def _pads(value, argument, shape, kernel, stride, dilation):  # type: ignore[no-untyped-def]
    rank = len(shape) - 2
    if isinstance(value, (types.UnicodeType, types.StringLiteral)):

        def implementation(value, argument, shape, kernel, stride, dilation):  # type: ignore[no-untyped-def]
            if value == "valid":
                return 0, 0, 0, 0, 0, 0
            if value != "same":
                _arrays.fail(argument, value, "'same', 'valid' or numbers")
            if stride != (1, 1, 1):
                _arrays.fail(argument, ("'same' with stride", stride), "stride 1 with 'same'")
            d, h, w = (dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1), dilation[2] * (kernel[2] - 1))
            return d // 2, h // 2, w // 2, d - d // 2, h - h // 2, w - w // 2

    elif isinstance(value, types.BaseTuple) and len(value) == rank and all(_wholes(side, 2) for side in value):

        def implementation(value, argument, shape, kernel, stride, dilation):  # type: ignore[no-untyped-def]
            before = _arrays.triple(_sides(value, 0), argument, 0, 0, shape)
            after = _arrays.triple(_sides(value, 1), argument, 0, 0, shape)
            return before[0], before[1], before[2], after[0], after[1], after[2]

    else:

        def implementation(value, argument, shape, kernel, stride, dilation):  # type: ignore[no-untyped-def]
            before = _arrays.triple(value, argument, 0, 0, shape)
            return before[0], before[1], before[2], before[0], before[1], before[2]

    return implementation


def _sides(value, i):  # type: ignore[no-untyped-def]
    """The numbers before (0) or after (1), of each dimension."""


@overload(_sides)
def _sides_of(value, i):  # type: ignore[no-untyped-def]
    if len(value) == 1:
        return lambda value, i: (value[0][i],)
    if len(value) == 2:
        return lambda value, i: (value[0][i], value[1][i])
    return lambda value, i: (value[0][i], value[1][i], value[2][i])


@overload(_arrays.borders, prefer_literal=False)
def _borders(value, argument, shape):  # type: ignore[no-untyped-def]
    rank, sides = len(shape), len(value) if isinstance(value, types.BaseTuple) else -1
    if not _wholes(value, sides):
        raise TypingError(f"{_literal(argument)}: found {value}, expected a tuple of ints")
    if sides % 2 or sides > 2 * rank:
        raise TypingError(f"{_literal(argument)}: found {sides} numbers, expected (before, after) of {rank} dimensions")
    if sides == 0:
        # Not even a loop that is never run may index an empty tuple.
        def implementation(value, argument, shape):  # type: ignore[no-untyped-def]
            geometry = np.zeros((rank, 3), np.int64)
            for i, n in enumerate(shape):
                geometry[i, 0] = n
            return geometry

    else:

        def implementation(value, argument, shape):  # type: ignore[no-untyped-def]
            geometry = np.zeros((rank, 3), np.int64)
            for i, n in enumerate(shape):
                geometry[i, 0] = n
            for i, n in enumerate(value):
                if abs(n) > 2**60:
                    _arrays.fail(argument, value, "at most 2**60")
                geometry[rank - 1 - i // 2, 1 + i % 2] = n
            return geometry

    return implementation


@overload(_arrays.bordered_shape)
def _bordered_shape(shape, geometry, sign):  # type: ignore[no-untyped-def]
    if len(shape) == 0:
        return lambda shape, geometry, sign: shape

    def implementation(shape, geometry, sign):  # type: ignore[no-untyped-def]
        result = shape
        for i in range(len(shape)):
            result = tuple_setitem(result, i, shape[i] + sign * (geometry[i, 1] + geometry[i, 2]))
        return result

    return implementation


@overload(_arrays.volume)
def _volume(shape, channels_last):  # type: ignore[no-untyped-def]
    if len(shape) == 3:
        first, last = (lambda s: (s[0], s[1], 1, 1, s[2])), (lambda s: (s[0], s[2], 1, 1, s[1]))
    elif len(shape) == 4:
        first, last = (lambda s: (s[0], s[1], 1, s[2], s[3])), (lambda s: (s[0], s[3], 1, s[1], s[2]))
    else:
        first, last = (lambda s: (s[0], s[1], s[2], s[3], s[4])), (lambda s: (s[0], s[4], s[1], s[2], s[3]))
    first, last = register_jitable(first), register_jitable(last)
    return lambda shape, channels_last: last(shape) if channels_last else first(shape)


@overload(_arrays.volume_shape)
def _volume_shape(shape, batch, channels, sizes, channels_last):  # type: ignore[no-untyped-def]
    if len(shape) == 3:
        first, last = (lambda n, c, s: (n, c, s[2])), (lambda n, c, s: (n, s[2], c))
    elif len(shape) == 4:
        first, last = (lambda n, c, s: (n, c, s[1], s[2])), (lambda n, c, s: (n, s[1], s[2], c))
    else:
        first, last = (lambda n, c, s: (n, c, s[0], s[1], s[2])), (lambda n, c, s: (n, s[0], s[1], s[2], c))
    first, last = register_jitable(first), register_jitable(last)

    def implementation(shape, batch, channels, sizes, channels_last):  # type: ignore[no-untyped-def]
        return last(batch, channels, sizes) if channels_last else first(batch, channels, sizes)

    return implementation


@overload(_arrays.channels_last)
def _channels_last(data_format, shape):  # type: ignore[no-untyped-def]
    first, last = _arrays._DATA_FORMATS[len(shape) - 3]

    def implementation(data_format, shape):  # type: ignore[no-untyped-def]
        if data_format == last:
            return 1
        if data_format != first:
            _arrays.fail("data_format", data_format, (first, last))
        return 0

    return implementation


@overload(_arrays.choice, prefer_literal=True)
def _choice(value, argument, names):  # type: ignore[no-untyped-def]
    def implementation(value, argument, names):  # type: ignore[no-untyped-def]
        for i in range(len(names)):
            if names[i] == value:
                return i
        _arrays.fail(argument, value, names)

    return implementation


@overload(_arrays.fused, prefer_literal=True)
def _fused(activation, args, names, known):  # type: ignore[no-untyped-def]
    given = len(args)

    def implementation(activation, args, names, known):  # type: ignore[no-untyped-def]
        kind = _arrays.choice(activation, "activation", names)
        most, alpha, beta = known[kind]
        if given > most:
            _arrays.fail("activation_args", given, ("at most", most, "numbers for", activation))
        return kind, _item(args, 0, alpha), _item(args, 1, beta)

    return implementation


def _item(items: tuple[float, ...], i: int, default: float) -> float:
    return float(items[i]) if i < len(items) else default


@overload(_item, prefer_literal=True)
def _item_overload(items, i, default):  # type: ignore[no-untyped-def]
    if i.literal_value < len(items):
        return lambda items, i, default: float(items[i])
    return lambda items, i, default: default
