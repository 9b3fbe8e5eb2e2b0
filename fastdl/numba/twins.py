"""What Python's and NumPy's functions are for values that are not known: each does what the function does in Python."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from fastdl import _kernels
from fastdl.numba.code import Code
from fastdl.numba.values import (
    INT,
    ArrayValue,
    Conflict,
    ListValue,
    Memory,
    Number,
    Other,
    Text,
    is_known,
    joined,
    python_type,
    text,
)

TWINS: dict[Any, Callable[..., Any]] = {}
"""By the function that bodies call."""

Function = TypeVar("Function", bound=Callable[..., Any])


def twin(*functions: Any) -> Callable[[Function], Function]:
    """What is decorated is called, with the interpreter before its arguments, where bodies call one of these."""

    def enter(own: Function) -> Function:
        TWINS.update(dict.fromkeys(functions, own))
        return own

    return enter


# ---- attributes and methods ----


def attribute(code: Code, base: Any, name: str) -> Any:
    match base:
        case Conflict():
            raise code.needs_literal(base.sources)
        case ArrayValue():
            return _array_attribute(code, base, name)
        case Memory() if name in ("shape", "dtype"):
            return base.shape if name == "shape" else np.dtype(np.int64)
        case Number() | Text() | ListValue() | Other():
            raise NotImplementedError(f"{name} of what is not known")
    return getattr(base, name)


def _array_attribute(code: Code, array: ArrayValue, name: str) -> Any:
    match name:
        case "shape" | "dtype" | "ndim" | "itemsize":
            return getattr(array, name)
        case "size":
            return code.size(array.shape)
        case "nbytes":
            return code.arithmetic(operator.mul, code.size(array.shape), array.itemsize)
        case "strides":
            return code.strides(array)
        case "ctypes":
            return SimpleNamespace(data=address(code, array))
        case "flags":
            return SimpleNamespace(c_contiguous=contiguous(code, array), writeable=array.mutable, aligned=True)
    raise NotImplementedError(f"{name} of an array")


def address(code: Code, array: ArrayValue) -> Number:
    return Number(int, code.builder.ptrtoint(array.data, INT))


def contiguous(code: Code, array: ArrayValue) -> Any:
    """Whether an array is in C order, as its strides say where its type does not."""
    if array.layout == "C":
        return True
    in_order = ArrayValue(array.dtype, array.shape, None, array.data, array.meminfo, array.parent)
    one = [code.compare(operator.eq, n, 1) for n in array.shape]
    same = [code.compare(operator.eq, *each) for each in zip(array.strides or (), code.strides(in_order), strict=True)]
    return code.every(code.some(each) for each in zip(one, same, strict=True))


def method(code: Code, base: Any, name: str) -> Any:
    """A method of a value that is not known, or that takes one."""
    if isinstance(base, ArrayValue) and name == "reshape":
        return partial(_reshape, code, base)
    if isinstance(base, ArrayValue) and name == "sum":
        return partial(_sum, code, base)
    if isinstance(base, tuple) and name == "index":
        return partial(_index, code, base)
    if isinstance(base, str) and name == "join":
        return lambda parts: joined(p for i, part in enumerate(parts) for p in ([base] * bool(i) + [part]))
    return None


def _reshape(code: Code, array: ArrayValue, *shape: Any) -> ArrayValue:
    assert array.layout == "C"
    return ArrayValue(array.dtype, shape, None, array.data, array.meminfo, array.parent, "C", array.mutable)


def _index(code: Code, names: tuple[Any, ...], value: Any) -> Any:
    if is_known(value):
        return names.index(value) if value in names or not code.impossible else 0
    found: Any = 0
    for i, name in enumerate(names):
        found = code.select(code.compare(operator.eq, value, name), i, found)
    return found


def _sum(code: Code, array: ArrayValue) -> Number:
    total = cgutils.alloca_once_value(code.builder, ir.Constant(INT, 0))

    def add(i: Number) -> None:
        pointer = code.builder.gep(code.builder.bitcast(array.data, INT.as_pointer()), [i.ir])
        code.builder.store(code.builder.add(code.builder.load(total), code.builder.load(pointer)), total)

    code.loop(code.size(array.shape), add)
    return Number(int, code.builder.load(total))


# ---- Python ----


@twin(isinstance)
def _isinstance(run: Any, value: Any, kinds: Any) -> bool:
    if isinstance(value, Conflict):
        raise run.code.needs_literal(value.sources)
    return issubclass(python_type(value), kinds)


@twin(type)
def _type(run: Any, value: Any) -> type:
    return python_type(value)


@twin(len)
def _len(run: Any, value: Any) -> Any:
    if isinstance(value, Conflict):
        raise run.code.needs_literal(value.sources)
    return run.code.length(value)


for _kind in (int, float, bool):
    TWINS[_kind] = lambda run, value, kind=_kind: run.code.truth(value) if kind is bool else run.code.cast(value, kind)


@twin(abs)
def _abs(run: Any, value: Any) -> Any:
    return run.code.extreme(operator.gt, [value, run.code.negative(value)])


@twin(min)
def _min(run: Any, *values: Any, default: Any = None) -> Any:
    return _extreme(run, operator.lt, values, default)


@twin(max)
def _max(run: Any, *values: Any, default: Any = None) -> Any:
    return _extreme(run, operator.gt, values, default)


def _extreme(run: Any, op: Any, values: Any, default: Any) -> Any:
    values = run.items(values[0]) if len(values) == 1 else list(values)
    return run.code.extreme(op, values) if values else default


@twin(map)
def _map(run: Any, function: Any, *iterables: Any) -> list[Any]:
    return [run.call(function, items, {}) for items in zip(*map(run.items, iterables), strict=False)]


@twin(all)
def _all(run: Any, values: Any) -> Any:
    return run.code.every(run.items(values))


@twin(any)
def _any(run: Any, values: Any) -> Any:
    return run.code.some(run.items(values))


@twin(sum)
def _sum_of(run: Any, values: Any) -> Any:
    total: Any = 0
    for value in run.items(values):
        total = run.code.arithmetic(operator.add, total, value)
    return total


@twin(zip)
def _zip(run: Any, *values: Any, strict: bool = False) -> list[Any]:
    return list(zip(*map(run.items, values), strict=strict))


@twin(enumerate)
def _enumerate(run: Any, values: Any) -> list[Any]:
    return list(enumerate(run.items(values)))


@twin(tuple)
def _tuple(run: Any, values: Any = ()) -> Any:
    return tuple(run.items(values))


@twin(list)
def _list(run: Any, values: Any = ()) -> Any:
    return run.items(values)


@twin(str)
def _str(run: Any, value: Any) -> Any:
    return text(value)


@twin(repr)
def _repr(run: Any, value: Any) -> Any:
    return text(value, True)


@twin(range)
def _range(run: Any, *bounds: Any) -> Any:
    if not is_known(bounds):
        raise NotImplementedError("a range that is not known")
    return range(*bounds)


@twin(math.isinf)
def _isinf(run: Any, value: Any) -> Any:
    return math.isinf(value) if is_known(value) else run.code.compare(operator.eq, _abs(run, value), math.inf)


@twin(math.sqrt)
def _sqrt(run: Any, value: Any) -> Any:
    return math.sqrt(value) if is_known(value) else run.code.call("sqrt", value)


@twin(math.prod)
def _prod(run: Any, values: Any) -> Any:
    return run.code.size(tuple(run.items(values)))


# ---- NumPy ----


@twin(np.empty)
def _empty(run: Any, shape: Any, dtype: Any) -> Any:
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if any(isinstance(n, Conflict) for n in shape):
        raise run.code.needs_literal(frozenset().union(*(n.sources for n in shape if isinstance(n, Conflict))))
    if np.dtype(dtype) == np.int64 and is_known(shape) and len(shape) == 1:
        return Memory(shape, run.code.memory([0] * math.prod(shape)))
    return run.code.empty(shape, dtype)


@twin(np.empty_like)
def _empty_like(run: Any, array: Any) -> Any:
    return run.code.empty(array.shape, array.dtype)


@twin(np.zeros)
def _zeros(run: Any, shape: Any, dtype: Any) -> Any:
    if np.dtype(dtype) != np.int64 or not is_known(shape):
        raise NotImplementedError("zeros other than a small table")
    table = np.zeros(shape, object)
    return table


@twin(np.ones)
def _ones(run: Any, shape: Any, dtype: Any) -> Any:
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    array = run.code.empty(shape, dtype)
    run.call(_kernels.fill, (array, run.code.size(array.shape), 1.0), {})
    return array


@twin(np.asarray)
def _asarray(run: Any, value: Any, dtype: Any = None) -> Any:
    """A number as an array without dimensions."""
    return run.code.array_of([value], dtype, ())


@twin(np.may_share_memory)
def _may_share_memory(run: Any, a: Any, b: Any) -> Any:
    code, (first, second) = run.code, (address(run.code, a), address(run.code, b))
    if not all(isinstance(array, ArrayValue) for array in (a, b)):
        return False

    def end(array: ArrayValue, start: Number) -> Any:
        size = code.arithmetic(operator.mul, code.size(array.shape), array.itemsize)
        return code.arithmetic(operator.add, start, size)

    return code.every(
        [
            code.compare(operator.lt, first, end(b, second)),
            code.compare(operator.lt, second, end(a, first)),
        ]
    )


def _elementwise(compute: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy over arrays in C order of one shape, and numbers; the last argument may be the result."""

    def apply(run: Any, *given: Any, out: Any = None) -> Any:
        code, arity = run.code, compute.__code__.co_argcount - 1
        arrays, out = given[:arity], given[arity] if len(given) > arity else out
        like = next(a for a in arrays if isinstance(a, ArrayValue))
        if any(isinstance(a, ArrayValue) and (a.dtype, a.layout) != (like.dtype, "C") for a in arrays):
            raise NotImplementedError("arithmetic of arrays of several dtypes or layouts")
        out = code.empty(like.shape, like.dtype) if out is None else out
        real = ir.DoubleType() if like.itemsize == 8 else ir.FloatType()
        numbers = [None if isinstance(a, ArrayValue) else _rounded(code, a, real) for a in arrays]

        def pointer(array: ArrayValue, i: Number) -> Any:
            element = ir.IntType(8) if array.dtype == np.bool_ else real
            return code.builder.gep(code.builder.bitcast(array.data, element.as_pointer()), [i.ir])

        def one(i: Number) -> None:
            loaded = [n or code.builder.load(pointer(a, i)) for a, n in zip(arrays, numbers, strict=True)]
            code.builder.store(compute(code.builder, *loaded), pointer(out, i))

        code.loop(code.size(like.shape), one)
        return out

    return apply


def _rounded(code: Code, number: Any, real: Any) -> Any:
    found = code.ir(number, float)
    return found if isinstance(real, ir.DoubleType) else code.builder.fptrunc(found, real)


def _clipped(builder: Any, x: Any, least: Any, most: Any) -> Any:
    """NaN stays NaN."""
    x = builder.select(builder.fcmp_ordered("<", x, least), least, x)
    return builder.select(builder.fcmp_ordered(">", x, most), most, x)


def _magnitude(builder: Any, x: Any) -> Any:
    name = "llvm.fabs." + ("f64" if isinstance(x.type, ir.DoubleType) else "f32")
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(x.type, [x.type]), name)
    return builder.call(function, [x])


def _sign(builder: Any, x: Any) -> Any:
    """-1, 0 or 1 of each; NaN stays NaN."""
    zero, one = ir.Constant(x.type, 0.0), ir.Constant(x.type, 1.0)
    below = builder.select(builder.fcmp_ordered("<", x, zero), ir.Constant(x.type, -1.0), x)
    sign = builder.select(builder.fcmp_ordered(">", x, zero), one, below)
    return builder.select(builder.fcmp_ordered("==", x, zero), zero, sign)


def differ(run: Any, array: ArrayValue, value: Any) -> ArrayValue:
    """array != value, of each element."""
    compared = _elementwise(lambda builder, x, y: builder.zext(builder.fcmp_unordered("!=", x, y), ir.IntType(8)))
    return compared(run, array, value, out=run.code.empty(array.shape, np.bool_))


ARITHMETIC = {
    operator.add: _elementwise(lambda builder, x, y: builder.fadd(x, y)),
    operator.sub: _elementwise(lambda builder, x, y: builder.fsub(x, y)),
    operator.mul: _elementwise(lambda builder, x, y: builder.fmul(x, y)),
    operator.truediv: _elementwise(lambda builder, x, y: builder.fdiv(x, y)),
}
"""Of arrays."""
TWINS[np.clip] = _elementwise(_clipped)
TWINS[np.multiply] = ARITHMETIC[operator.mul]
TWINS[np.negative] = _elementwise(lambda builder, x: builder.fneg(x))
TWINS[np.abs] = _elementwise(_magnitude)
TWINS[np.sign] = _elementwise(_sign)


@twin(np.int64)
def _int64(run: Any, value: Any) -> Any:
    return run.code.array_of([value], np.int64, ())


@twin(np.broadcast_to)
def _broadcast_to(run: Any, array: ArrayValue, shape: Any) -> ArrayValue:
    code, missing = run.code, len(shape) - array.ndim
    strides = [
        code.select(code.compare(operator.eq, n, 1), 0, step)
        for n, step in zip(array.shape, code.strides(array), strict=True)
    ]
    return ArrayValue(
        array.dtype, tuple(shape), (*[0] * missing, *strides), array.data, array.meminfo, array.parent, "A", False
    )


@twin(np.require)
def _require(run: Any, x: ArrayValue, dtype: Any, order: str) -> ArrayValue:
    """Integers as int64, or bools as they are, in C order."""
    if x.dtype == dtype and x.layout == "C":
        return x
    code = run.code
    result = code.empty(x.shape, dtype)
    width, own = ir.IntType(8 * x.itemsize), ir.IntType(8 * result.itemsize)
    steps = code.strides(x)

    def one(i: Number) -> None:
        rest: Any = i
        offset: Any = 0
        for n, step in zip(reversed(x.shape), reversed(steps), strict=True):
            place = code.arithmetic(operator.mod, rest, n)
            offset = code.arithmetic(operator.add, offset, code.arithmetic(operator.mul, place, step))
            rest = code.arithmetic(operator.floordiv, rest, n)
        source = code.builder.gep(x.data, [code.ir(offset, int)])
        value = code.builder.load(code.builder.bitcast(source, width.as_pointer()))
        if x.itemsize < result.itemsize:
            value = (code.builder.sext if x.dtype.kind == "i" else code.builder.zext)(value, own)
        target = code.builder.gep(code.builder.bitcast(result.data, own.as_pointer()), [i.ir])
        code.builder.store(value, target)

    code.loop(code.size(x.shape), one)
    return result


@twin(np.array)
def _array(run: Any, x: Any, dtype: Any = None) -> Any:
    """A copy, of integers; or numbers as an array."""
    if isinstance(x, (tuple, list)):
        return run.code.array_of(list(x), dtype)
    result = run.code.empty(x.shape, x.dtype)
    size = run.code.arithmetic(operator.mul, run.code.size(x.shape), x.itemsize)
    cgutils.raw_memcpy(run.code.builder, result.data, x.data, run.code.ir(size, int), 1)
    return result


@twin(np.can_cast)
def _can_cast(run: Any, given: Any, dtype: Any) -> bool:
    return bool(np.can_cast(given, dtype))


@twin(np.ndim)
def _ndim(run: Any, x: Any) -> int:
    return int(getattr(x, "ndim", 0))
