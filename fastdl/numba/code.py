"""Machine code of one function, as it is put together: numbers, branches, arrays, kernels, mistakes.

One `Code` is one LLVM function. Numbers that are known are computed here and now; of the others a `Number` says where
they will be."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.np.numpy_support import from_dtype

from fastdl._kernels import MISTAKE_WORDS
from fastdl.numba import symbols
from fastdl.numba.mistakes import Mistake
from fastdl.numba.values import (
    DOUBLE,
    INT,
    KINDS,
    POINTER,
    ArrayValue,
    Conflict,
    ListValue,
    Memory,
    Number,
    Other,
    Text,
    Unsupported,
    Words,
    is_known,
    is_table,
    joined,
    sources_of,
    text,
    type_name,
    without_values,
)

ALIGNMENT = 64  # of new arrays, in bytes: a cache line


class Ended(Exception):
    """What was to be compiled next is never reached."""


_COMPARED: dict[Callable[[Any, Any], Any], str] = {
    operator.eq: "==",
    operator.ne: "!=",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
}


class Code:
    def __init__(self, context: Any, function: Any) -> None:
        self.context, self.function = context, function
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.conditions: list[Any] = []  # what the code being written depends on
        self.impossible = ""  # the mistake that is certain, if any: the code after it is never reached
        self.last_mistake = ""  # that was seen to
        self._owned: list[Any] = []  # where the arrays made here are held
        self._sites: list[tuple[str, tuple[Any, ...]]] = []
        self._exit: Any = None
        self.returned_before = 0  # how many ways there are to have returned already

    # ---- numbers ----

    def ir(self, value: Any, kind: Any) -> Any:
        """A number, known or not, as LLVM's of that kind."""
        if not isinstance(value, Number):
            if isinstance(value, (Conflict, Other)) or value is None:
                raise Unsupported(joined(("found ", text(value), f", expected {kind.__name__}")))
            constant = {int: int, float: float, bool: bool}[kind](value)
            if kind is int and not -(2**63) <= constant < 2**63:
                raise OverflowError("an int of more than 64 bits")
            return ir.Constant(KINDS[kind], constant)
        builder, found = self.builder, value.ir
        if value.kind is kind:
            return found
        if kind is bool:
            return self.truth(value).ir
        if kind is int:
            return builder.zext(found, INT) if value.kind is bool else builder.fptosi(found, INT)
        return builder.uitofp(found, DOUBLE) if value.kind is bool else builder.sitofp(found, DOUBLE)

    def cast(self, value: Any, kind: type) -> Any:
        if not isinstance(value, Number):
            return kind(value)
        return Number(kind, self.ir(value, kind), value.sources)

    def truth(self, value: Any) -> Any:
        """bool(value), known or not."""
        match value:
            case Number(kind=kind):
                if kind is bool:
                    return value
                zero = ir.Constant(KINDS[kind], 0)
                compare = self.builder.icmp_signed if kind is int else self.builder.fcmp_unordered
                return Number(bool, compare("!=", value.ir, zero), value.sources)
            case ArrayValue() | ListValue() | Other():
                return self.compare(operator.ne, self.length(value), 0)
            case Conflict():
                raise self.needs_literal(value.sources)
        return bool(value)

    def length(self, value: Any) -> Any:
        if isinstance(value, ListValue):
            return Number(int, self.list_of(value).size, value.sources)
        if isinstance(value, ArrayValue):
            if not value.shape:
                raise Unsupported("found an array without dimensions")
            return value.shape[0]
        if isinstance(value, Other):
            raise Unsupported(f"found {type_name(value)}")
        return len(value)

    def arithmetic(self, op: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        if not isinstance(a, Number) and not isinstance(b, Number):
            return op(a, b)
        builder, sources = self.builder, sources_of(a, b)
        # What changes nothing needs no instruction.
        if op is operator.mul and (_is(a, 1) or _is(b, 1)):
            return b if _is(a, 1) else a
        if op is operator.add and (_is(a, 0) or _is(b, 0)):
            return b if _is(a, 0) else a
        if op is operator.sub and _is(b, 0):
            return a
        real = op is operator.truediv or float in (_kind(a), _kind(b))
        if op is operator.pow:
            raise NotImplementedError("powers of what is not known")
        if real:
            x, y = self.ir(a, float), self.ir(b, float)
            made = {
                operator.add: builder.fadd,
                operator.sub: builder.fsub,
                operator.mul: builder.fmul,
                operator.truediv: builder.fdiv,
            }[op](x, y)
            return Number(float, made, sources)
        x, y = self.ir(a, int), self.ir(b, int)
        if op in (operator.floordiv, operator.mod):
            quotient, rest = self._divided(x, y, b)
            return Number(int, quotient if op is operator.floordiv else rest, sources)
        made = {operator.add: builder.add, operator.sub: builder.sub, operator.mul: builder.mul}[op](x, y)
        return Number(int, made, sources)

    def _divided(self, x: Any, y: Any, divisor: Any) -> tuple[Any, Any]:
        """Quotient and rest as in Python: rounded down. Division by 0, which the body has seen to, is one by 1."""
        builder, zero = self.builder, ir.Constant(INT, 0)
        if isinstance(divisor, Number):
            y = builder.select(builder.icmp_signed("==", y, zero), ir.Constant(INT, 1), y)
        quotient, rest = builder.sdiv(x, y), builder.srem(x, y)
        down = builder.and_(builder.icmp_signed("!=", rest, zero), builder.icmp_signed("<", builder.xor(rest, y), zero))
        return (
            builder.select(down, builder.sub(quotient, ir.Constant(INT, 1)), quotient),
            builder.select(down, builder.add(rest, y), rest),
        )

    def negative(self, value: Any) -> Any:
        return self.arithmetic(operator.sub, 0 if _kind(value) is not float else -0.0, value)

    def invert(self, value: Any) -> Any:
        """not value."""
        value = self.truth(value)
        return Number(bool, self.builder.not_(value.ir), value.sources) if isinstance(value, Number) else not value

    def compare(self, op: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        """a == b and the like, of numbers, strings and tuples of them."""
        if isinstance(a, Conflict) or isinstance(b, Conflict):
            raise self.needs_literal(sources_of(a, b))
        if isinstance(a, Words):
            a = without_values(a)
        if is_known(a) and is_known(b):
            return op(a, b)
        if op is operator.ne:
            return self.invert(self.compare(operator.eq, a, b))
        if isinstance(a, tuple) or isinstance(b, tuple):
            if not (isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b) and op is operator.eq):
                return False
            return self.every(self.compare(op, *both) for both in zip(a, b, strict=True))
        if isinstance(a, Text) or isinstance(b, Text):
            return self._same_text(a, b)
        if isinstance(a, ArrayValue) or isinstance(b, ArrayValue):
            raise NotImplementedError("a comparison of arrays")
        if _kind(a) is None or _kind(b) is None:
            return False
        sources = sources_of(a, b)
        if float in (_kind(a), _kind(b)):
            made = self.builder.fcmp_ordered(_COMPARED[op], self.ir(a, float), self.ir(b, float))
        else:
            made = self.builder.icmp_signed(_COMPARED[op], self.ir(a, int), self.ir(b, int))
        return Number(bool, made, sources)

    def _same_text(self, a: Any, b: Any) -> Any:
        text_, known = (a, b) if isinstance(a, Text) else (b, a)
        if not isinstance(known, str):
            return False
        if not known.isascii():
            raise NotImplementedError("strings to compare with are ASCII")
        builder = self.builder
        held = cgutils.create_struct_proxy(types.unicode_type)(self.context, builder, text_.ir)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(32), [POINTER, POINTER, INT]), "strncmp"
        )
        constant = self.context.insert_const_string(builder.module, known)
        differs = builder.call(function, [held.data, constant, ir.Constant(INT, len(known) + 1)])
        same = builder.icmp_signed("==", differs, ir.Constant(differs.type, 0))
        one_byte = builder.icmp_signed("==", held.kind, ir.Constant(held.kind.type, 1))
        return Number(bool, builder.and_(same, one_byte), text_.sources)

    def every(self, values: Any) -> Any:
        """all(values)."""
        return self._fold(values, False, self.builder.and_)

    def some(self, values: Any) -> Any:
        """any(values)."""
        return self._fold(values, True, self.builder.or_)

    def _fold(self, values: Any, decides: bool, join: Any) -> Any:
        found: Any = not decides
        for value in values:
            value = self.truth(value)
            if not isinstance(value, Number):
                if value is decides:
                    return decides
            elif isinstance(found, Number):
                found = Number(bool, join(found.ir, value.ir), found.sources | value.sources)
            else:
                found = value
        return found

    def extreme(self, op: Callable[[Any, Any], Any], values: list[Any]) -> Any:
        """min (op: lt) or max (op: gt)."""
        best = values[0]
        for value in values[1:]:
            if is_known(value) and is_known(best):
                best = value if op(value, best) else best
            else:
                best = self.select(self.compare(op, value, best), value, best)
        return best

    def select(self, condition: Any, a: Any, b: Any) -> Any:
        """a if condition else b, of numbers or tuples of them, both of which exist."""
        if not isinstance(condition, Number):
            return a if condition else b
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            return tuple(self.select(condition, *both) for both in zip(a, b, strict=True))
        if is_known(a) and is_known(b) and a == b and type(a) is type(b):
            return a
        kind = _common_kind([a, b])
        if kind is None:
            return Conflict(condition.sources or sources_of(a, b))
        made = self.builder.select(condition.ir, self.ir(a, kind), self.ir(b, kind))
        return Number(kind, made, condition.sources | sources_of(a, b))

    def item(self, values: Any, index: Any) -> Any:
        """values[index], where only the code will know the index, which is one."""
        found = values[-1]
        for i in range(len(values) - 1):
            found = self.select(self.is_index(index, i, len(values)), values[i], found)
        return found

    def is_index(self, index: Any, i: int, count: int) -> Any:
        """Whether index, which may count from the end, is i."""
        return self.some([self.compare(operator.eq, index, i), self.compare(operator.eq, index, i - count)])

    def call(self, name: str, *values: Any) -> Any:
        """A function of C's mathematics, of doubles."""
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(DOUBLE, [DOUBLE] * len(values)), name
        )
        return Number(float, self.builder.call(function, [self.ir(v, float) for v in values]), sources_of(*values))

    # ---- branches ----

    def block(self) -> Any:
        return self.function.append_basic_block()

    @contextmanager
    def within(self, condition: Any) -> Iterator[None]:
        self.conditions.append(condition)
        try:
            yield
        finally:
            self.conditions.pop()

    def merge(self, blocks: list[Any]) -> None:
        """Go on where several blocks end."""
        after = self.block()
        for block in blocks:
            self.builder.position_at_end(block)
            self.builder.branch(after)
        self.builder.position_at_end(after)

    def phi(self, values: list[Any], blocks: list[Any], sources: Any = frozenset()) -> Any:
        """One value after `merge`: that of the block it came from."""
        first = values[0]
        if all(value is first for value in values):
            return first
        if all(map(is_known, values)) and all(value == first and type(value) is type(first) for value in values):
            return first
        if all(isinstance(value, tuple) and len(value) == len(first) for value in values):
            return make_tuple(
                type(first), [self.phi(list(items), blocks, sources) for items in zip(*values, strict=True)]
            )
        if all(map(is_table, values)):
            flat = [
                self.phi(list(items), blocks, sources) for items in zip(*(value.flat for value in values), strict=True)
            ]
            return _table(flat, first.shape)
        if all(isinstance(value, ArrayValue) for value in values):
            return self._array_phi(values, blocks, sources)
        kind = _common_kind(values)
        if kind is None:
            return Conflict(sources or sources_of(*values))
        sources = sources | sources_of(*values)
        made = self.builder.phi(KINDS[kind])
        for value, block in zip(values, blocks, strict=True):
            made.add_incoming(value.ir if isinstance(value, Number) else ir.Constant(made.type, kind(value)), block)
        return Number(kind, made, sources)

    def _array_phi(self, arrays: list[ArrayValue], blocks: list[Any], sources: Any) -> Any:
        first = arrays[0]
        if any(array.dtype != first.dtype or array.ndim != first.ndim for array in arrays):
            return Conflict(sources)

        def pointer(values: list[Any]) -> Any:
            if all(value is values[0] for value in values):
                return values[0]
            made = self.builder.phi(POINTER)
            for value, block in zip(values, blocks, strict=True):
                made.add_incoming(value, block)
            return made

        in_order = all(array.layout == "C" for array in arrays)
        if not in_order:
            return Conflict(sources)
        return ArrayValue(
            first.dtype,
            tuple(self.phi(list(sizes), blocks) for sizes in zip(*(array.shape for array in arrays), strict=True)),
            None,
            pointer([array.data for array in arrays]),
            pointer([array.meminfo for array in arrays]),
            pointer([array.parent for array in arrays]),
            "C",
            all(array.mutable for array in arrays),
        )

    def needs_literal(self, sources: Any) -> Unsupported:
        if not sources:
            return Unsupported("an argument: found a value known at run time, expected a literal")
        name = sorted(sources)[0]
        return Unsupported(f"{name}: found a value known at run time only, expected a literal")

    # ---- mistakes ----

    def fail(self, kind: str, message: Any) -> None:
        """Raise that, at run time. Where that is certain, compiling goes on to see what would have been returned:
        the exception is raised at run time if that is seen, else while compiling."""
        self.last_mistake = without_values(message)
        certain = not self.conditions and not self.returned_before
        if certain and kind == "TypeError":
            raise Unsupported(without_values(message))
        parts = message.parts if isinstance(message, Words) else (message,)
        slots: list[Any] = []
        words = [ir.Constant(INT, len(self._sites))]
        for part in parts:
            if isinstance(part, str):
                slots.append(part)
                continue
            stored = self._stored(part)
            slots.append((part.kind.__name__ if isinstance(part, Number) else type(part).__name__, len(stored)))
            words += stored
        self._sites.append((kind, tuple(slots)))
        place = symbols.mistake(self.builder)
        if len(words) >= MISTAKE_WORDS:
            raise NotImplementedError("a message of so many numbers")
        for i, word in (*enumerate(words), (MISTAKE_WORDS - 1, ir.Constant(INT, 1))):
            self.builder.store(word, self.builder.gep(place, [ir.Constant(INT, i)]))
        self._exit = self._exit or self.block()
        self.builder.branch(self._exit)
        if not certain:
            raise Ended
        self.impossible = self.impossible or without_values(message)
        self.builder.position_at_end(self.block())

    def _stored(self, part: Any) -> list[Any]:
        """What is kept of a message's value: words of 8 bytes."""
        if isinstance(part, Number):
            if part.kind is float:
                return [self.builder.bitcast(part.ir, INT)]
            return [self.ir(part, int)]
        if isinstance(part, ListValue):
            return self._stored_list(part)
        held = cgutils.create_struct_proxy(types.unicode_type)(self.context, self.builder, part.ir)
        kept = cgutils.alloca_once(self.builder, ir.ArrayType(INT, 8), zfill=True)
        size, most = held.length, ir.Constant(INT, 64)
        size = self.builder.select(self.builder.icmp_signed("<", size, most), size, most)
        one_byte = self.builder.icmp_signed("==", held.kind, ir.Constant(held.kind.type, 1))
        size = self.builder.select(one_byte, size, ir.Constant(INT, 0))
        cgutils.raw_memcpy(self.builder, self.builder.bitcast(kept, POINTER), held.data, size, 1)
        return [self.builder.load(cgutils.gep_inbounds(self.builder, kept, 0, i)) for i in range(8)]

    def _stored_list(self, part: ListValue) -> list[Any]:
        """How many ints there are, and the first."""
        items = self.list_of(part)
        kept = cgutils.alloca_once(self.builder, ir.ArrayType(INT, 8), zfill=True)
        size, most = items.size, ir.Constant(INT, 8)

        def keep(i: Number) -> None:
            value = self.context.cast(self.builder, items.getitem(i.ir), part.type.dtype, types.int64)
            self.builder.store(value, self.builder.gep(kept, [ir.Constant(INT, 0), i.ir]))

        self.loop(Number(int, self.builder.select(self.builder.icmp_signed("<", size, most), size, most)), keep)
        return [size, *(self.builder.load(cgutils.gep_inbounds(self.builder, kept, 0, i)) for i in range(8))]

    def check(self, wrong: Any, kind: str, message: Any) -> None:
        """Raise that if it is wrong."""
        if not isinstance(wrong, Number):
            if wrong:
                self.fail(kind, message)
            return
        bad, good = self.block(), self.block()
        self.builder.cbranch(wrong.ir, bad, good)
        self.builder.position_at_end(bad)
        with self.within(wrong), suppress(Ended):
            self.fail(kind, message)
        self.builder.position_at_end(good)

    def finish(self) -> None:
        """Where all mistakes end."""
        if self._exit is None:
            return
        self.builder.position_at_end(self._exit)
        self.release()
        self.context.call_conv.return_user_exc(self.builder, Mistake, (tuple(self._sites),))

    # ---- arrays ----

    def size(self, shape: tuple[Any, ...]) -> Any:
        total: Any = 1
        for n in shape:
            total = self.arithmetic(operator.mul, total, n)
        return total

    def strides(self, array: ArrayValue) -> tuple[Any, ...]:
        if array.strides is not None:
            return array.strides
        found: list[Any] = [array.itemsize] if array.ndim else []
        for n in reversed(array.shape[1:]):
            found.append(self.arithmetic(operator.mul, found[-1], n))
        return tuple(reversed(found))

    def empty(self, shape: tuple[Any, ...], dtype: Any) -> ArrayValue:
        """A new array."""
        shape, dtype = tuple(shape), np.dtype(dtype)
        size: Any = dtype.itemsize
        overflows = []
        for n in shape:
            if isinstance(size, Number) and not _is(n, 1):
                product = self.builder.smul_with_overflow(self.ir(size, int), self.ir(n, int))
                size = Number(int, self.builder.extract_value(product, 0))
                overflows.append(Number(bool, self.builder.extract_value(product, 1)))
            else:
                size = self.arithmetic(operator.mul, size, n)
        self.check(self.some(overflows), "ValueError", "array is too big")
        nrt = self.context.nrt
        meminfo = nrt.meminfo_alloc_aligned(self.builder, self.ir(size, int), ALIGNMENT)
        missing = Number(bool, cgutils.is_null(self.builder, meminfo))
        self.check(missing, "MemoryError", "an array could not be allocated")
        slot = cgutils.alloca_once(self.builder, POINTER, zfill=True)
        self.builder.store(meminfo, slot)
        self._owned.append(slot)
        data = nrt.meminfo_data(self.builder, meminfo)
        return ArrayValue(dtype, shape, None, data, meminfo, ir.Constant(POINTER, None))

    def release(self) -> None:
        """Let go of what was made here; what is returned has another reference."""
        for slot in self._owned:
            self.context.nrt.decref(self.builder, types.MemInfoPointer(types.voidptr), self.builder.load(slot))

    def element(self, array: Any, index: int) -> Any:
        pointer = self.builder.bitcast(array.data, self.context.get_data_type(from_dtype(array.dtype)).as_pointer())
        return self.builder.gep(pointer, [ir.Constant(INT, index)])

    def store(self, array: ArrayValue, index: int, value: Any) -> None:
        """One element of an array in C order."""
        pointer = self.element(array, index)
        if array.dtype.kind == "f":
            real = self.ir(value, float)
            self.builder.store(real if array.itemsize == 8 else self.builder.fptrunc(real, ir.FloatType()), pointer)
        else:
            self.builder.store(self.ir(value, int), pointer)

    def array_of(self, values: Any, dtype: Any, shape: tuple[int, ...] | None = None) -> ArrayValue:
        """A new array of numbers, as many as are known."""
        array = self.empty((len(values),) if shape is None else shape, dtype)
        for i, value in enumerate(values):
            self.store(array, i, value)
        return array

    def kernel(self, name: str, given: tuple[Any, ...], dtype: str = "float32") -> None:
        """Call a kernel of C, and raise what its status says. dtype: where no array says it."""
        parameters = symbols.SIGNATURES[name]
        lowered = [self._argument(c_type, value) for (c_type, _, _), value in zip(parameters, given, strict=True)]
        reals = [v for (c_type, _, _), v in zip(parameters, given, strict=True) if "real" in c_type and v is not None]
        status = symbols.call(self.builder, name, reals[0].dtype.name if reals else dtype, lowered)
        for (c_type, _, _), value, block in zip(parameters, given, lowered, strict=True):
            if is_table(value) and not c_type.startswith("const"):
                self._read_back(value, block)
        wrong = Number(bool, self.builder.icmp_signed("!=", status, ir.Constant(status.type, 0)))
        self.check(wrong, "status", Words((Number(int, self.builder.sext(status, INT)),)))

    def _read_back(self, table: Any, block: Any) -> None:
        """What a kernel wrote into a table."""
        memory = Memory((table.size,), block)
        table.flat[:] = [self.load(memory, i) for i in range(table.size)]

    def _argument(self, c_type: str, value: Any) -> Any:
        """One argument of the C call."""
        match value:
            case Conflict():
                raise self.needs_literal(value.sources)
            case _ if "*" not in c_type:
                return self.ir(value, float if c_type == "double" else int)
            case None:
                return ir.Constant(POINTER, None)
            case ir.Value():  # an address
                return self.builder.bitcast(value, POINTER)
            case ArrayValue():
                size = self.size(value.shape)
                if not isinstance(size, Number):
                    return value.data if size else ir.Constant(POINTER, None)
                empty = self.builder.icmp_signed("==", size.ir, ir.Constant(INT, 0))
                return self.builder.select(empty, ir.Constant(POINTER, None), value.data)
            case Memory():
                return value.ir if math.prod(value.shape) else ir.Constant(POINTER, None)
        return self.memory([*(value.flat if is_table(value) else value)])

    def memory(self, values: list[Any]) -> Any:
        """The address of int64 on the stack."""
        block = cgutils.alloca_once(self.builder, ir.ArrayType(INT, max(1, len(values))))
        for i, value in enumerate(values):
            self.builder.store(self.ir(value, int), cgutils.gep_inbounds(self.builder, block, 0, i))
        return self.builder.bitcast(block, POINTER)

    def loop(self, count: Any, body: Callable[[Any], None]) -> None:
        """body(i) for i in range(count)."""
        with cgutils.for_range(self.builder, self.ir(count, int)) as loop, self.within(None):
            body(Number(int, loop.index))

    def load(self, memory: Memory, index: int) -> Number:
        pointer = self.builder.bitcast(memory.ir, INT.as_pointer())
        return Number(int, self.builder.load(self.builder.gep(pointer, [ir.Constant(INT, index)])))

    def list_of(self, value: ListValue) -> Any:
        from numba.cpython.listobj import ListInstance

        return ListInstance(self.context, self.builder, value.type, value.ir)


def make_tuple(kind: type, items: list[Any]) -> Any:
    return kind(*items) if hasattr(kind, "_fields") else tuple(items)


def _table(items: list[Any], shape: tuple[int, ...]) -> Any:
    table = np.empty(len(items), object)
    table[:] = items
    return table.reshape(shape)


def _kind(value: Any) -> Any:
    return value.kind if isinstance(value, Number) else type(value) if type(value) in KINDS else None


def _is(value: Any, number: int) -> bool:
    return type(value) is int and value == number


def _common_kind(values: list[Any]) -> Any:
    kinds = {_kind(value) for value in values}
    if len(kinds) == 1:
        return kinds.pop()
    if kinds == {int, float} and not any(isinstance(v, Number) and v.kind is int for v in values):
        return float
    return int if kinds == {int, bool} and not any(isinstance(v, Number) and v.kind is bool for v in values) else None
