"""Vectors of numbers, for the loops that LLVM does not vectorise by itself: csrc/vector/simd.h once more.

A `Vector` is a value that stays in registers, however wide these are, which is what plain loops over arrays do not
get across: sums that are kept over a loop, squares that are turned round. They are read from and written to flat arrays
at an index, which is not checked.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from fastdl.numba.kernels._kernel import compiled

BYTES = 128 if "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2] else 64
"""Of a vector: two registers, four of NEON. Six such sums, as a product's tile keeps, are as many chains of
multiply-adds as it takes to keep the units busy, and fit into the registers."""
_SIDE = 8  # of a square that is turned round in registers


def lanes_of(dtype: Any) -> int:
    """How many numbers of a NumPy dtype are a vector."""
    return BYTES // int(dtype.itemsize)


class Vector(types.Type):
    """Of a dtype; or of booleans, one for each number of that dtype: what `select` chooses by."""

    def __init__(self, dtype: Any, chooses: bool = False) -> None:
        self.dtype, self.chooses = dtype, chooses
        super().__init__(name=f"Vector({dtype}, {chooses})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, type_: Any) -> None:
        lane = ir.IntType(1) if type_.chooses else manager.lookup(type_.dtype).get_value_type()
        super().__init__(manager, type_, ir.VectorType(lane, BYTES * 8 // type_.dtype.bitwidth))


def _address(context: Any, builder: Any, type_: Any, array: Any, at: Any) -> Any:
    return builder.gep(context.make_array(type_)(context, builder, array).data, [at])


def _size(context: Any, type_: Any) -> int:
    return int(context.get_abi_sizeof(context.get_value_type(type_)))


def _shuffle(builder: Any, a: Any, b: Any, order: Any) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order)))


def _spread(context: Any, builder: Any, number: Any, dtype: Any) -> Any:
    first = ir.Constant(context.get_value_type(Vector(dtype)), ir.Undefined)
    first = builder.insert_element(first, number, ir.IntType(32)(0))
    return _shuffle(builder, first, first, [0] * first.type.count)


@intrinsic
def lanes(typing, array):
    """How many of its numbers are a vector."""
    count = BYTES * 8 // array.dtype.bitwidth
    return types.int64(array), lambda context, builder, signature, arguments: ir.IntType(64)(count)


@intrinsic
def load(typing, array, at):
    """array[at : at + lanes(array)]"""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        type_ = context.get_value_type(signature.return_type).as_pointer()
        address = builder.bitcast(_address(context, builder, array, *arguments), type_)
        return builder.load(address, align=_size(context, array.dtype))

    return Vector(array.dtype)(array, types.int64), lower


@intrinsic
def store(typing, array, at, vector):
    """array[at : at + lanes(array)] = vector"""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        type_ = context.get_value_type(vector).as_pointer()
        address = builder.bitcast(_address(context, builder, array, *arguments[:2]), type_)
        builder.store(arguments[2], address, align=_size(context, array.dtype))
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), lower


@intrinsic
def spread(typing, array, at):
    """array[at] in every lane"""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = builder.load(_address(context, builder, array, *arguments))
        return _spread(context, builder, number, array.dtype)

    return Vector(array.dtype)(array, types.int64), lower


@intrinsic
def filled(typing, number, array):
    """`number` in every lane, in the dtype of the array"""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _spread(context, builder, context.cast(builder, arguments[0], number, array.dtype), array.dtype)

    return Vector(array.dtype)(number, array), lower


@intrinsic
def multiply_add(typing, a, b, c):
    """a b + c, rounded once where there is an instruction for it"""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        product = builder.fmul(*arguments[:2], flags=("contract",))
        return builder.fadd(product, arguments[2], flags=("contract",))

    return a(a, b, c), lower


@intrinsic
def exceeds(typing, a, b):
    """Where a > b, or a is NaN."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a_, b_ = arguments
        return builder.or_(builder.fcmp_ordered(">", a_, b_), builder.fcmp_unordered("uno", a_, a_))

    return Vector(a.dtype, chooses=True)(a, b), lower


@intrinsic
def larger(typing, a, b):
    """The larger of a and b, NaN where either is."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _larger(builder, *arguments)

    return a(a, b), lower


def _larger(builder: Any, a: Any, b: Any) -> Any:
    most = builder.select(builder.fcmp_ordered(">", a, b), a, b)  # one instruction, which b's NaN passes
    return builder.select(builder.fcmp_unordered("uno", a, a), a, most)


@intrinsic
def largest_lane(typing, vector):
    """Of a vector; NaN where there is one."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        most, count = arguments[0], arguments[0].type.count
        while count > 1:
            count //= 2
            low, high = (_shuffle(builder, most, most, range(first, first + count)) for first in (0, count))
            most = _larger(builder, low, high)
        return builder.extract_element(most, ir.IntType(32)(0))

    return vector.dtype(vector), lower


@intrinsic
def larger_number(typing, a, b):
    """The larger of a and b, where a is NaN b."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return a(a, b), lower


@intrinsic
def select(typing, chosen, a, b):
    """a where `chosen`, else b"""
    return a(chosen, a, b), lambda context, builder, signature, arguments: builder.select(*arguments)


def _operator(symbol: Any, instruction: str) -> None:
    """Of two vectors of real numbers."""

    @type_callable(symbol)
    def typed(context: Any) -> Any:
        return lambda a, b: a if isinstance(a, Vector) and a == b else None

    @lower_builtin(symbol, Vector, Vector)  # type: ignore[untyped-decorator]
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)


for _symbol, _instruction in ((operator.add, "fadd"), (operator.mul, "fmul"), (operator.truediv, "fdiv")):
    _operator(_symbol, _instruction)


# ---- matrices turned round ----


@intrinsic
def _turn_square(typing, x, x_begin, x_row, y, y_begin, y_row):
    """y[j, i] = x[i, j] of _SIDE by _SIDE numbers, where rows begin at x_begin + i x_row and y_begin + j y_row."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row_type = ir.VectorType(context.get_value_type(x.dtype), _SIDE).as_pointer()
        size, lanes = _size(context, x.dtype), range(_SIDE)
        x_, begin, step, y_, to, to_step = arguments

        def row(type_: Any, array: Any, begin: Any, step: Any, i: int) -> Any:
            at = builder.add(begin, builder.mul(step, step.type(i)))
            return builder.bitcast(_address(context, builder, type_, array, at), row_type)

        rows = [builder.load(row(x, x_, begin, step, i), align=size) for i in lanes]
        for apart in (1, 2, 4):  # of squares of 2, 4, 8 the quarters off the diagonal change places
            first = [k if not k & apart else _SIDE + k - apart for k in lanes]
            second = [k + apart if not k & apart else _SIDE + k for k in lanes]
            for i in (i for i in lanes if not i & apart):
                a, b = rows[i], rows[i + apart]
                rows[i], rows[i + apart] = _shuffle(builder, a, b, first), _shuffle(builder, a, b, second)
        for j in lanes:
            builder.store(rows[j], row(y, y_, to, to_step, j), align=size)
        return context.get_dummy_value()

    return types.void(x, types.int64, types.int64, y, types.int64, types.int64), lower


@compiled
def turn(x, x_begin, x_row, rows, columns, y, y_begin, y_row):
    """y [columns, rows] = x [rows, columns], each from `begin` on, with rows that begin `row` apart."""
    whole, broad = rows // _SIDE * _SIDE, columns // _SIDE * _SIDE
    for i in range(0, whole, _SIDE):
        for j in range(0, broad, _SIDE):
            _turn_square(x, x_begin + i * x_row + j, x_row, y, y_begin + j * y_row + i, y_row)
    for i in range(rows):
        of, to = x[x_begin + i * x_row :], y[y_begin + i :]
        for j in range(broad if i < whole else 0, columns):
            to[j * y_row] = of[j]
