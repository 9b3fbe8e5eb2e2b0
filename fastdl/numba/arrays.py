"""The verbs of fastdl/_arrays.py for Numba: the same names, the same meaning.

What is a type's business (dtype, number of dimensions, layout of `out`) is settled while compiling, as a
TypingError; what is a value's (shapes, strides, overlap) raises the same ValueError as in plain Python.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.core.errors import RequireLiteralValue, TypingError
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
    _check_floats(x, argument, ndim)
    if x.dtype != like.dtype:
        raise TypingError(f"{_literal(argument)}: found dtype {x.dtype}, expected {like.dtype}")
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


@overload(_arrays.class_indices, prefer_literal=True)
def _class_indices(x, argument, ndim):  # type: ignore[no-untyped-def]
    if not isinstance(x, types.Array) or not isinstance(x.dtype, types.Integer):
        raise TypingError(f"{_literal(argument)}: found {x}, expected an array of integers")
    if x.ndim != _literal(ndim):
        raise TypingError(f"{_literal(argument)}: found {x.ndim} dimensions, expected {_literal(ndim)}")
    if x.dtype == types.int64 and x.layout == "C":
        return lambda x, argument, ndim: x
    return lambda x, argument, ndim: np.ascontiguousarray(x).astype(np.int64)


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


@overload(_arrays.in_place, prefer_literal=True)
def _in_place(x, argument):  # type: ignore[no-untyped-def]
    _check_floats(x, argument, -1)
    _check_writable(x, _literal(argument), x)
    return lambda x, argument: x


@overload(_arrays.optional_in_place, prefer_literal=True)
def _optional_in_place(x, argument, like):  # type: ignore[no-untyped-def]
    if _is_none(x):
        return lambda x, argument, like: None
    name = _literal(argument)
    _check_writable(x, name, like)

    def implementation(x, argument, like):  # type: ignore[no-untyped-def]
        if x.shape != like.shape:
            _arrays.fail(name, x.shape, like.shape)
        return x

    return implementation


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

    def implementation(written, argument, other):  # type: ignore[no-untyped-def]
        if _address(written) != _address(other):
            _arrays.disjoint(written, name, other)

    return implementation


@overload(_arrays.pair)
def _pair(value, argument, least):  # type: ignore[no-untyped-def]
    if isinstance(value, types.Integer):

        def implementation(value, argument, least):  # type: ignore[no-untyped-def]
            if value < least:
                _arrays.fail(argument, value, least)
            return value, value

    elif isinstance(value, types.UniTuple) and len(value) == 2 and isinstance(value.dtype, types.Integer):

        def implementation(value, argument, least):  # type: ignore[no-untyped-def]
            if min(value[0], value[1]) < least:
                _arrays.fail(argument, value, least)
            return value[0], value[1]

    else:
        raise TypingError(f"{_literal(argument)}: found {value}, expected an int or a pair of ints")
    return implementation


@overload(_arrays.choice, prefer_literal=True)
def _choice(value, argument, names):  # type: ignore[no-untyped-def]
    def implementation(value, argument, names):  # type: ignore[no-untyped-def]
        for i in range(len(names)):
            if names[i] == value:
                return i
        _arrays.fail(argument, value, names)

    return implementation
