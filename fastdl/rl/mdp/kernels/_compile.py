"""How kernels are compiled, and the one instruction that Numba has no name for."""

from __future__ import annotations

from typing import Any

from fastdl.rl import _numba
from fastdl.rl._numba import intrinsic, ir, types

AHEAD = 128
"""How many transitions ahead of its use a successor's value is fetched."""


def compiled(function: Any) -> Any:
    """Compile at the first call and keep that on disk. Products may be contracted to multiply-adds, as in C; sums are
    taken in the order written."""
    return _numba.compiled(fastmath={"contract"})(function)


def _prefetch(context: Any, array: Any, index: Any) -> Any:
    """Begin to bring array[index] into the caches. Successors lie anywhere, and a processor looks ahead no further than
    to the next branch that it takes for another one: without this, a sweep waits for most of them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
        builder.call(function, [address, number(0), number(3), number(1)])  # to read, soon again, data
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


prefetch: Any = intrinsic(_prefetch)
