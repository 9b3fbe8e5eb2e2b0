"""What bodies call that is not read as they are: Python's and NumPy's functions, and the few verbs that deal with
objects which compiled code does not have. Each does for values that are not known what the function does in Python."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, NoReturn, TypeVar

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from fastdl import _kernels
from fastdl.functional import verbs
from fastdl.functional.verbs import arrays as array_verbs
from fastdl.functional.verbs import windows as window_verbs
from fastdl.numba.code import Code
from fastdl.numba.values import (
    INT,
    ArrayValue,
    Conflict,
    ListValue,
    Memory,
    Number,
    Other,
    Table,
    Text,
    Words,
    is_known,
    joined,
    python_type,
    text,
    type_name,
)

TWINS: dict[Any, Callable[..., Any]] = {}


Function = TypeVar("Function", bound=Callable[..., Any])


def twin(*functions: Any) -> Callable[[Function], Function]:
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


# ---- verbs: mistakes ----


@twin(verbs.fail)
def _fail(run: Any, argument: Any, found: Any, expected: Any) -> None:
    said = (text(argument), ": found ", _phrase(run, found), ", expected ", _phrase(run, expected))
    run.code.fail("ValueError", joined(said))


@twin(verbs.phrase)
def _phrase(run: Any, said: Any) -> Any:
    if type(said) is tuple and any(python_type(word) is str for word in said):
        return joined(piece for i, word in enumerate(said) for piece in ([" "] * bool(i) + [text(word)]))
    return text(said)


@twin(verbs.shown)
def _shown(run: Any, value: Any) -> Any:
    return verbs.shown(value) if is_known(value) else text(value, True)


def _wrong(run: Any, message: Any) -> NoReturn:
    """Raise what is wrong with a type."""
    run.code.fail("TypeError", message)
    raise AssertionError


# ---- verbs: arrays ----


@twin(array_verbs.view)
def _view(run: Any, x: Any, argument: str) -> Any:
    """x, if it is an array, or a number, which is one without dimensions."""
    match x:
        case ArrayValue():
            return x
        case Memory():
            loaded = [run.code.load(x, i) for i in range(math.prod(x.shape))]
            return run.code.array_of(loaded, np.int64, x.shape)
        case Conflict():
            raise run.code.needs_literal(x.sources)
    found = type_name(x) if isinstance(x, (Other, ListValue)) else python_type(x).__name__
    return _wrong(run, f"{argument}: found {found}, expected an array (buffer or DLPack protocol)")


@twin(np.int64)
def _int64(run: Any, value: Any) -> Any:
    return run.code.array_of([value], np.int64, ())


@twin(array_verbs._check_unmasked)
def _check_unmasked(run: Any, x: Any, argument: str) -> None:
    return None


@twin(array_verbs.listed)
def _listed(run: Any, x: Any, argument: str, dtype: Any) -> Any:
    """A list or tuple of numbers as an array."""
    if not isinstance(x, (tuple, ListValue)):
        return x
    kinds = (int,) if np.dtype(dtype) == np.int64 else (int, float)
    expected = "integers that fit int64" if kinds == (int,) else "numbers"
    if isinstance(x, ListValue):
        return _from_list(run, x, argument, np.dtype(dtype), kinds, expected)
    if not all(python_type(item) in kinds for item in x):
        _wrong(run, joined((f"{argument}: found ", text(x), f", expected {expected}")))
    return run.code.array_of(list(x), dtype)


def _from_list(run: Any, x: ListValue, argument: str, dtype: Any, kinds: Any, expected: str) -> ArrayValue:
    code, items = run.code, run.code.list_of(x)
    if python_type(code.lift(x.type.dtype, None)) not in kinds:
        _wrong(run, f"{argument}: found {type_name(x)}, expected {expected}")
    array = code.empty((Number(int, items.size),), dtype)

    def one(i: Number) -> None:
        value = code.lift(x.type.dtype, items.getitem(i.ir))
        real = ir.DoubleType() if dtype == np.float64 else ir.FloatType() if dtype == np.float32 else INT
        pointer = code.builder.gep(code.builder.bitcast(array.data, real.as_pointer()), [i.ir])
        number = code.ir(value, float if dtype.kind == "f" else int)
        code.builder.store(code.builder.fptrunc(number, real) if dtype == np.float32 else number, pointer)

    code.loop(array.shape[0], one)
    return array


@twin(verbs.copied)
def _copied(run: Any, x: ArrayValue) -> ArrayValue:
    """By the kernel; integers by Numba's."""
    code, result = run.code, run.code.empty(x.shape, x.dtype)
    table = np.empty((x.ndim, 3), object)
    for i, (n, step, own) in enumerate(zip(x.shape, code.strides(x), code.strides(result), strict=True)):
        width = x.itemsize
        table[i] = (
            n,
            code.arithmetic(operator.floordiv, step, width),
            code.arithmetic(operator.floordiv, own, width),
        )
    run.call(_kernels.copy, (x, result, table, x.ndim), {})
    return result


@twin(verbs.floats)
def _floats(run: Any, x: Any, argument: str, ndim: int = -1) -> ArrayValue:
    array = _view(run, x, argument)
    if array.dtype not in (np.float32, np.float64):
        expected = "float32 or float64 in native byte order"
        _wrong(run, f"{argument}: found dtype {array.dtype.str}, expected {expected}")
    if ndim >= 0 and array.ndim != ndim:
        _fail(run, argument, joined(("shape ", text(array.shape))), f"{ndim} dimensions")
    return array if array.layout == "C" else run.call(verbs.copied, (array,), {})


@twin(array_verbs.writable)
def _writable(run: Any, out: Any, argument: str, shape: Any, like: Any) -> Any:
    """As it is in Python; an array that passes is in C order, whatever its type says."""
    array = run.run(array_verbs.writable, (out, argument, shape, like), {})
    return array if array.layout == "C" else replace(array, layout="C", strides=None)


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
    """Integers as int64 in C order."""
    if x.dtype == np.int64 and x.layout == "C":
        return x
    code = run.code
    result = code.empty(x.shape, np.int64)
    width = ir.IntType(8 * x.itemsize)
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
        if x.itemsize < 8:
            value = (code.builder.sext if x.dtype.kind == "i" else code.builder.zext)(value, INT)
        target = code.builder.gep(code.builder.bitcast(result.data, INT.as_pointer()), [i.ir])
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


# ---- verbs: tables ----


@twin(verbs.array_table)
def _array_table(run: Any, first: Any, second: Any, both: int) -> Table:
    return _table(
        [
            (address(run.code, a), address(run.code, b) if both else 0, run.code.size(a.shape))
            for a, b in zip(first, second, strict=True)
        ]
    )


@twin(verbs.result_table)
def _result_table(run: Any, arrays: Any) -> Table:
    return _table([(0, address(run.code, a), run.code.size(a.shape)) for a in arrays])


def _table(rows: list[Any]) -> Table:
    table = np.empty((len(rows), 3), object)
    for i, row in enumerate(rows):
        table[i] = row
    return table


@twin(verbs.split_along)
def _split_along(run: Any, like: ArrayValue, argument: str, sizes: Any, dim: Any) -> Any:
    code = run.code
    if not isinstance(sizes, tuple) or not all(run.call(verbs.is_int, (n,), {}) for n in sizes):
        _wrong(run, joined((f"{argument}: found ", text(sizes), ", expected a tuple of ints")))
    along = run.subscript(like.shape, dim)
    wrong = code.some(
        [
            code.compare(operator.lt, _min(run, sizes, default=-1), 0),
            code.compare(operator.ne, _sum_of(run, sizes), along),
        ]
    )
    said = (f"{argument}: found ", text(sizes), ", expected sizes that add up to ", text(along))
    code.check(wrong, "ValueError", joined(said))
    return tuple(
        code.empty([code.select(code.is_index(dim, i, like.ndim), n, m) for i, m in enumerate(like.shape)], like.dtype)
        for n in sizes
    )


@twin(verbs.bordered_shape)
def _bordered_shape(run: Any, shape: Any, geometry: Table, sign: int) -> Any:
    code = run.code

    def wider(n: Any, before: Any, after: Any) -> Any:
        return code.arithmetic(
            operator.add, n, code.arithmetic(operator.mul, sign, code.arithmetic(operator.add, before, after))
        )

    return tuple(wider(n, before, after) for n, (_, before, after) in zip(shape, geometry, strict=True))


@twin(verbs.borders)
def _borders(run: Any, value: Any, argument: str, shape: Any) -> Table:
    if not isinstance(value, tuple) or not all(run.call(verbs.is_int, (n,), {}) for n in value):
        _wrong(run, joined((f"{argument}: found ", text(value), ", expected a tuple of ints")))
    if len(value) % 2 or len(value) > 2 * len(shape):
        expected = f"(before, after) of at most {len(shape)} dimensions, from the last backwards"
        _fail(run, argument, value, expected)
        value = ()
    far = run.code.some(run.code.compare(operator.gt, _abs(run, n), 2**60) for n in value)
    run.code.check(far, "ValueError", joined((f"{argument}: found ", text(value), ", expected at most 2**60")))
    table = np.zeros((len(shape), 3), object)
    for i, n in enumerate(shape):
        table[i, 0] = n
    for i, n in enumerate(value):
        table[len(shape) - 1 - i // 2, 1 + i % 2] = n
    return table


# ---- verbs: sequences ----


@twin(verbs.total_steps)
def _total_steps(run: Any, lengths: Any, most: Any) -> Number:
    return _sum(run.code, lengths)


@twin(verbs.sequence_lengths)
def _sequence_lengths(run: Any, x: Any, batch: Any, steps: Any) -> Any:
    if x is None:
        return None
    code = run.code
    if isinstance(x, ListValue):
        x = _listed(run, x, "lengths", np.int64)
    elif isinstance(x, tuple):
        x = code.array_of([run.call(verbs.integer, (n, f"lengths[{i}]"), {}) for i, n in enumerate(x)], np.int64)
    lengths = _array(run, run.call(verbs.class_indices, (x, "lengths", 1), {}))
    wrong = code.compare(operator.ne, lengths.shape, (batch,))
    code.check(wrong, "ValueError", joined(("lengths: found ", text(lengths.shape), ", expected ", text((batch,)))))

    def one(i: Number) -> None:
        pointer = code.builder.gep(code.builder.bitcast(lengths.data, INT.as_pointer()), [i.ir])
        length = Number(int, code.builder.load(pointer))
        outside = code.some([code.compare(operator.lt, length, 1), code.compare(operator.gt, length, steps)])
        said = ("lengths: found ", text(length), ", expected between 1 and ", text(steps), " steps")
        code.check(outside, "ValueError", joined(said))

    code.loop(lengths.shape[0], one)
    return lengths


def _rank_of(verb: Any, rank: Callable[..., int], words: Callable[[int], str]) -> None:
    """A verb whose value may be a list, which then has to have as many numbers as there are dimensions, or one."""
    from fastdl.numba.interpreter import plain

    def own(run: Any, value: Any, *rest: Any) -> Any:
        if isinstance(value, ListValue):
            value = _fixed(run, value, rest, rank(*rest), words(rank(*rest)))
        return run.run(plain(verb), (value, *rest), {})

    TWINS[verb] = own


def _fixed(run: Any, value: ListValue, rest: Any, rank: int, words: str) -> Any:
    code, items = run.code, run.code.list_of(value)
    argument = rest[0] if isinstance(rest[0], str) else "stride"
    if python_type(code.lift(value.type.dtype, None)) is not int:
        _wrong(run, f"{argument}: found {type_name(value)}, expected {words}")
    count = Number(int, items.size, value.sources)
    wrong = code.every(code.compare(operator.ne, count, n) for n in {1, rank})
    said = (f"{argument}: found ", Words((value,)), f", expected {words}")
    code.check(wrong, "TypeError", joined(said))
    one = code.compare(operator.eq, count, 1)
    found = []
    for i in range(rank):
        index = code.ir(code.select(one, 0, i), int)
        found.append(code.lift(value.type.dtype, items.getitem(index)))
    return tuple(found)


def fixed_lists() -> None:
    ints = window_verbs.ints
    _rank_of(verbs.triple, lambda argument, least, unit, shape: len(shape) - 2, ints)
    _rank_of(verbs.strides, lambda kernel, shape: len(shape) - 2, ints)
    _rank_of(verbs.sizes, lambda argument, defaults, shape, whole: len(shape) - 2, ints)
    _rank_of(verbs.pads, lambda argument, shape, *rest: len(shape) - 2, window_verbs._padding)
