"""The verbs that are not read as they are: they deal with objects that compiled code does not have, or take lists."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from llvmlite import ir

from fastdl import _kernels
from fastdl.functional import verbs
from fastdl.functional._operation import plain
from fastdl.functional.verbs import arrays as array_verbs
from fastdl.functional.verbs import windows as window_verbs
from fastdl.numba.boundary import from_numba
from fastdl.numba.twins import TWINS, address, method, twin
from fastdl.numba.values import (
    INT,
    ArrayValue,
    Conflict,
    ListValue,
    Memory,
    Number,
    Other,
    Table,
    Words,
    is_known,
    joined,
    python_type,
    text,
    type_name,
)

# ---- mistakes ----


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


# ---- arrays ----


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
    if python_type(from_numba(code, x.type.dtype, None)) not in kinds:
        _wrong(run, f"{argument}: found {type_name(x)}, expected {expected}")
    array = code.empty((Number(int, items.size),), dtype)

    def one(i: Number) -> None:
        value = from_numba(code, x.type.dtype, items.getitem(i.ir))
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


@twin(verbs.matrices)
def _matrices(run: Any, x: Any, argument: str, like: Any = None) -> Any:
    """Matrices in Fortran's order are read where they lie, as C's are."""
    array = _view(run, x, argument)
    steps: Any = ()
    if array.layout == "F" and array.ndim == 2 and array.dtype in (np.float32, np.float64):
        steps = tuple(run.code.arithmetic(operator.floordiv, step, array.itemsize) for step in array.strides)
    else:
        array = _floats(run, array, argument)
    if like is not None and array.dtype != like.dtype:
        run.call(verbs.floats_like, (array, argument, like), {})
    return array, steps


@twin(array_verbs.writable)
def _writable(run: Any, out: Any, argument: str, shape: Any, like: Any) -> Any:
    """As it is in Python; an array that passes is in C order, whatever its type says."""
    array = run.run(array_verbs.writable, (out, argument, shape, like), {})
    return array if array.layout == "C" else replace(array, layout="C", strides=None)


# ---- tables ----


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
            code.compare(operator.lt, run.call(min, (sizes,), {"default": -1}), 0),
            code.compare(operator.ne, run.call(sum, (sizes,), {}), along),
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
    far = run.code.some(run.code.compare(operator.gt, run.call(abs, (n,), {}), 2**60) for n in value)
    run.code.check(far, "ValueError", joined((f"{argument}: found ", text(value), ", expected at most 2**60")))
    table = np.zeros((len(shape), 3), object)
    for i, n in enumerate(shape):
        table[i, 0] = n
    for i, n in enumerate(value):
        table[len(shape) - 1 - i // 2, 1 + i % 2] = n
    return table


# ---- sequences ----


@twin(verbs.total_steps)
def _total_steps(run: Any, lengths: Any, most: Any) -> Any:
    return method(run.code, lengths, "sum")()


@twin(verbs.sequence_lengths)
def _sequence_lengths(run: Any, x: Any, batch: Any, steps: Any) -> Any:
    if x is None:
        return None
    code = run.code
    if isinstance(x, ListValue):
        x = _listed(run, x, "lengths", np.int64)
    elif isinstance(x, tuple):
        x = code.array_of([run.call(verbs.integer, (n, f"lengths[{i}]"), {}) for i, n in enumerate(x)], np.int64)
    lengths = run.call(np.array, (run.call(verbs.class_indices, (x, "lengths", 1), {}),), {})
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

    def own(run: Any, value: Any, *rest: Any) -> Any:
        if isinstance(value, ListValue):
            value = _fixed(run, value, rest, rank(*rest), words(rank(*rest)))
        return run.run(plain(verb), (value, *rest), {})

    TWINS[verb] = own


def _fixed(run: Any, value: ListValue, rest: Any, rank: int, words: str) -> Any:
    code, items = run.code, run.code.list_of(value)
    argument = rest[0] if isinstance(rest[0], str) else "stride"
    if python_type(from_numba(code, value.type.dtype, None)) is not int:
        _wrong(run, f"{argument}: found {type_name(value)}, expected {words}")
    count = Number(int, items.size, value.sources)
    wrong = code.every(code.compare(operator.ne, count, n) for n in {1, rank})
    said = (f"{argument}: found ", Words((value,)), f", expected {words}")
    code.check(wrong, "TypeError", joined(said))
    one = code.compare(operator.eq, count, 1)
    found = []
    for i in range(rank):
        index = code.ir(code.select(one, 0, i), int)
        found.append(from_numba(code, value.type.dtype, items.getitem(index)))
    return tuple(found)


_rank_of(verbs.triple, lambda argument, least, unit, shape: len(shape) - 2, window_verbs.ints)
_rank_of(verbs.strides, lambda kernel, shape: len(shape) - 2, window_verbs.ints)
_rank_of(verbs.sizes, lambda argument, defaults, shape, whole: len(shape) - 2, window_verbs.ints)
_rank_of(verbs.pads, lambda argument, shape, *rest: len(shape) - 2, window_verbs._padding)
