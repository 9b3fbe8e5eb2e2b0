"""From Numba's values to those of a body, and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.np.numpy_support import as_dtype, from_dtype

from fastdl.numba.code import Code, make_tuple
from fastdl.numba.values import INT, POINTER, ArrayValue, Conflict, ListValue, Memory, Number, Other, Text


def from_numba(code: Code, numba_type: Any, value: Any, source: str = "") -> Any:
    """What Numba has, as a body sees it."""
    context, builder = code.context, code.builder
    sources = frozenset([source] if source else [])
    match numba_type:
        case types.Literal():
            return numba_type.literal_value
        case types.Omitted():
            return numba_type.value
        case types.NoneType():
            return None
        case types.Boolean():
            return Number(bool, value, sources)
        case types.Integer():
            return Number(int, context.cast(builder, value, numba_type, types.int64), sources)
        case types.Float():
            return Number(float, context.cast(builder, value, numba_type, types.float64), sources)
        case types.UnicodeType():
            return Text(value, sources)
        case types.BaseTuple():
            each: Any = numba_type
            items = [from_numba(code, each[i], builder.extract_value(value, i), source) for i in range(len(each))]
            return make_tuple(getattr(numba_type, "instance_class", tuple), items)
        case types.Array() if not isinstance(numba_type.dtype, types.Record):
            return _array_from_numba(code, numba_type, value)
        case types.List():
            return ListValue(numba_type, value, sources)
    return Other(numba_type)


def _array_from_numba(code: Code, numba_type: Any, value: Any) -> Any:
    array = code.context.make_array(numba_type)(code.context, code.builder, value)

    def numbers(name: str) -> tuple[Any, ...]:
        found = cgutils.unpack_tuple(code.builder, getattr(array, name), numba_type.ndim)
        return tuple(Number(int, n) for n in found)

    return ArrayValue(
        as_dtype(numba_type.dtype),
        numbers("shape"),
        None if numba_type.layout == "C" else numbers("strides"),
        code.builder.bitcast(array.data, POINTER),
        code.builder.bitcast(array.meminfo, POINTER),
        array.parent,
        numba_type.layout,
        numba_type.mutable,
    )


def to_numba(code: Code, value: Any) -> tuple[Any, Any]:
    """The Numba type of a result, and the value."""
    context, builder = code.context, code.builder
    match value:
        case Conflict():
            raise code.needs_literal(value.sources)
        case None:
            return types.none, context.get_dummy_value()
        case Number(kind=kind):
            numba_type = {int: types.int64, float: types.float64, bool: types.boolean}[kind]
            return numba_type, value.ir
        case bool() | int() | float():
            return to_numba(code, Number(type(value), code.ir(value, type(value))))
        case tuple():
            found = [to_numba(code, item) for item in value]
            numba_type = types.BaseTuple.from_types([t for t, _ in found], type(value))
            return numba_type, context.make_tuple(builder, numba_type, [v for _, v in found])
        case Memory():
            loaded = [code.load(value, i) for i in range(math.prod(value.shape))]
            return to_numba(code, code.array_of(loaded, np.int64, value.shape))
        case ArrayValue():
            return _array_to_numba(code, value)
    raise NotImplementedError(f"a result of type {type(value).__name__}")


def _array_to_numba(code: Code, value: ArrayValue) -> tuple[Any, Any]:
    layout: Any = value.layout
    numba_type = types.Array(from_dtype(value.dtype), value.ndim, layout, readonly=not value.mutable)
    array = code.context.make_array(numba_type)(code.context, code.builder)
    array.shape = cgutils.pack_array(code.builder, [code.ir(n, int) for n in value.shape], INT)
    array.strides = cgutils.pack_array(code.builder, [code.ir(n, int) for n in code.strides(value)], INT)
    array.nitems = code.ir(code.size(value.shape), int)
    array.itemsize = ir.Constant(INT, value.itemsize)
    array.data = code.builder.bitcast(value.data, array.data.type)
    array.meminfo, array.parent = value.meminfo, value.parent
    return numba_type, array._getvalue()
