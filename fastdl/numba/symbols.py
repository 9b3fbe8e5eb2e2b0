"""The C kernels as Numba sees them: symbols, called with the data pointers of arrays."""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload

from fastdl import _kernels
from fastdl._native import lib

_INT64, _DOUBLE, _POINTER = ir.IntType(64), ir.DoubleType(), ir.IntType(8).as_pointer()

for _index, _symbol in enumerate(f"fdl_{_name}_{_dtype}" for _name in _kernels.SIGNATURES for _dtype in ("f32", "f64")):
    llvmlite.binding.add_symbol(_symbol, lib.fdl_address(_index))


def _lower_argument(context: Any, builder: Any, c_type: str, numba_type: Any, value: Any) -> Any:
    """One argument of the C call."""
    if "*" not in c_type:
        target = types.float64 if c_type == "double" else types.int64
        return context.cast(builder, value, numba_type, target)
    if isinstance(numba_type, types.Array):
        array = context.make_array(numba_type)(context, builder, value)
        data = builder.bitcast(array.data, _POINTER)
        # An array without elements is passed as NULL, as in _kernels.py.
        empty = builder.icmp_signed("==", array.nitems, ir.Constant(array.nitems.type, 0))
        return builder.select(empty, ir.Constant(_POINTER, None), data)
    if isinstance(numba_type, types.BaseTuple):  # a struct of int64_t, as a tuple of its fields
        struct = cgutils.alloca_once(builder, ir.ArrayType(_INT64, len(numba_type)))
        fields: Any = numba_type
        for i in range(len(fields)):
            item = context.cast(builder, builder.extract_value(value, i), fields[i], types.int64)
            builder.store(item, cgutils.gep_inbounds(builder, struct, 0, i))
        return builder.bitcast(struct, _POINTER)
    return ir.Constant(_POINTER, None)  # None


def _caller(name: str, parameters: list[tuple[str, str, bool]]) -> Any:
    """An intrinsic that takes the kernel's arguments as one tuple and returns its status."""
    by_dtype = next(i for i, (c_type, _, optional) in enumerate(parameters) if "real" in c_type and not optional)
    c_types = [c_type for c_type, _, _ in parameters]

    @intrinsic
    def call(typing_context, arguments):
        suffix = {types.float32: "f32", types.float64: "f64"}.get(arguments[by_dtype].dtype)
        if suffix is None:
            raise TypingError(f"{name}: found dtype {arguments[by_dtype].dtype}, expected float32 or float64")

        def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            lowered = [
                _lower_argument(context, builder, c_type, numba_type, builder.extract_value(values[0], i))
                for i, (c_type, numba_type) in enumerate(zip(c_types, arguments, strict=True))
            ]
            function_type = ir.FunctionType(ir.IntType(32), [value.type for value in lowered])
            function = cgutils.get_or_insert_function(builder.module, function_type, f"fdl_{name}_{suffix}")
            return builder.call(function, lowered)

        return types.int32(arguments), lower

    return call


overload(_kernels.raise_status)(lambda status: _kernels.raise_status)


def _register(name: str, parameters: list[tuple[str, str, bool]]) -> None:
    call = _caller(name, parameters)

    @overload(getattr(_kernels, name), inline="never")
    def _kernel(*arguments):
        def implementation(*arguments):
            status = call(arguments)
            if status != 0:
                _kernels.raise_status(status)

        return implementation


for _name, _parameters in _kernels.SIGNATURES.items():
    if any("real" in c_type and not optional for c_type, _, optional in _parameters):
        _register(_name, _parameters)
