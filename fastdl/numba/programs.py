"""A Program (fastdl/program/) as an argument of compiled code, which calls it like a function.

Its type says the shapes and dtypes that it was recorded with, so that a call compares shapes and calls C; what
differs between programs of one type, the addresses, is in its value."""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.errors import TypingError
from numba.core.typing.templates import signature
from numba.extending import (
    NativeValue,
    intrinsic,
    lower_builtin,
    overload,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.numpy_support import from_dtype

from fastdl import _kernels
from fastdl._native import ffi, lib
from fastdl.program import Program

llvmlite.binding.add_symbol("fdl_program_run", int(ffi.cast("intptr_t", ffi.addressof(lib, "fdl_program_run"))))

overload(_kernels.raise_status)(lambda status: _kernels.raise_status)

_INT64 = ir.IntType(64)
_FIELDS = ("code", "block", "block_end")


class ProgramType(types.Callable):
    """arguments: (dtype, shape, whether it is written) of each; results: ("new", dtype, shape), ("argument", index),
    ("number", dtype, ()) or ("none",) of each; one: whether the only result stands alone."""

    def __init__(self, arguments: tuple[Any, ...], results: tuple[Any, ...], one: bool) -> None:
        self.arguments, self.results, self.one = arguments, results, one
        super().__init__(name=f"fastdl.Program({arguments}, {results}, {one})")

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        if kws or len(args) != len(self.arguments):
            raise TypingError(f"arguments: found {len(args) + len(kws)}, expected {len(self.arguments)} by position")
        for i, (given, (dtype, shape, written)) in enumerate(zip(args, self.arguments, strict=True)):
            expected = types.Array(from_dtype(np.dtype(dtype)), len(shape), "C")
            right = isinstance(given, types.Array) and (given.dtype, given.ndim) == (expected.dtype, expected.ndim)
            if not right or given.layout != "C" or (written and not given.mutable):
                raise TypingError(
                    f"argument[{i}]: found {given}, expected {expected}, with which the program was recorded"
                )
        found = [self._result(kind, args) for kind in self.results]
        return signature(found[0] if self.one else types.Tuple(found), *args, recvr=self)

    @staticmethod
    def _result(kind: tuple[Any, ...], args: tuple[Any, ...]) -> Any:
        if kind[0] == "new":
            return types.Array(from_dtype(np.dtype(kind[1])), len(kind[2]), "C")
        return args[kind[1]] if kind[0] == "argument" else types.float64 if kind[0] == "number" else types.none

    def get_call_signatures(self) -> tuple[tuple[Any, ...], bool]:
        return (), False

    def get_impl_key(self, sig: Any) -> str:
        return "fastdl.Program"


@register_model(ProgramType)
class _ProgramModel(models.StructModel):
    def __init__(self, manager: Any, program: Any) -> None:
        super().__init__(manager, program, [(name, types.int64) for name in _FIELDS])


@typeof_impl.register(Program)
def _typeof(program, context):
    found = program._described()
    if found is None:
        raise TypingError("program: found nested arguments or results, expected arrays, which compiled code can pass")
    return ProgramType(*found)


@unbox(ProgramType)
def _unbox(program_type, value, c):
    native = cgutils.create_struct_proxy(program_type)(c.context, c.builder)
    held = c.pyapi.object_getattr_string(value, "_native")
    for i, name in enumerate(_FIELDS):
        item = c.pyapi.tuple_getitem(held, i)
        setattr(native, name, c.pyapi.long_as_longlong(item))
    c.pyapi.decref(held)
    return NativeValue(native._getvalue(), is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


def call_code(context: Any, builder: Any, code: Any, array_types: Any, arrays: Any) -> Any:
    """Instructions that run the program whose code is at an address, on a tuple of arrays: the status."""
    addresses = cgutils.alloca_once(builder, ir.ArrayType(_INT64, max(1, len(array_types))))
    for i, array_type in enumerate(array_types):
        array = context.make_array(array_type)(context, builder, builder.extract_value(arrays, i))
        builder.store(builder.ptrtoint(array.data, _INT64), cgutils.gep_inbounds(builder, addresses, 0, i))
    pointer = _INT64.as_pointer()
    function_type = ir.FunctionType(ir.IntType(32), [pointer, pointer])
    function = cgutils.get_or_insert_function(builder.module, function_type, "fdl_program_run")
    return builder.call(function, [builder.inttoptr(code, pointer), cgutils.gep_inbounds(builder, addresses, 0, 0)])


@intrinsic
def _run(typing_context, program, arrays):
    """The status of a call with these arrays."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        native = cgutils.create_struct_proxy(program)(context, builder, values[0])
        return call_code(context, builder, native.code, arrays, values[1])

    return types.int32(program, arrays), lower


@intrinsic
def _in_block(typing_context, program, array):
    """Whether an array lies in the memory between the program's kernels."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        native = cgutils.create_struct_proxy(program)(context, builder, values[0])
        data = builder.ptrtoint(context.make_array(array)(context, builder, values[1]).data, _INT64)
        return builder.and_(
            builder.icmp_unsigned(">=", data, native.block), builder.icmp_unsigned("<", data, native.block_end)
        )

    return types.boolean(program, array), lower


def _implementation(program: ProgramType) -> Any:
    """The body of a call, in Python."""
    names = [f"a{i}" for i in range(len(program.arguments))]
    known: dict[str, Any] = {
        "np": np,
        "run": _run,
        "in_block": _in_block,
        "raise_status": _kernels.raise_status,
    }
    lines = [f"def call(program, {', '.join(names)}):" if names else "def call(program):"]
    for i, (_, shape, written) in enumerate(program.arguments):
        known[f"shape{i}"] = shape
        text = f"argument[{i}]: found another shape, expected shape {shape}, with which the program was recorded"
        lines += [f"    if a{i}.shape != shape{i}:", f"        raise ValueError({text!r})"]
        if not written and shape != ():
            lines += [f"    if in_block(program, a{i}):", f"        a{i} = a{i}.copy()"]
        for j in range(len(names)) if written else ():
            text = (
                f"argument[{j}]: found memory shared with argument[{i}], which is written, expected memory of its own"
            )
            if i != j:
                lines += [
                    f"    if a{i}.ctypes.data < a{j}.ctypes.data + a{j}.nbytes and "
                    f"a{j}.ctypes.data < a{i}.ctypes.data + a{i}.nbytes:",
                    f"        raise ValueError({text!r})",
                ]
    made = []
    values = []
    for i, kind in enumerate(program.results):
        if kind[0] in ("new", "number"):
            known[f"dtype{i}"], known[f"new{i}"] = from_dtype(np.dtype(kind[1])), kind[2]
            lines += [f"    r{i} = np.empty(new{i}, dtype{i})"]
            made += [f"r{i}"]
        values += [
            f"r{i}" if kind[0] == "new"
            else f"a{kind[1]}" if kind[0] == "argument"
            else f"np.float64(r{i}[()])" if kind[0] == "number"
            else "None"
        ]  # fmt: skip
    given = ", ".join([*names, *made])
    lines += [
        f"    status = run(program, ({given}{',' if given else ''}))",
        "    if status != 0:",
        "        raise_status(status)",
        f"    return {values[0] if program.one else '(' + ''.join(v + ', ' for v in values) + ')'}",
    ]
    exec("\n".join(lines), known)
    return known["call"]


@lower_builtin("fastdl.Program", ProgramType, types.VarArg(types.Any))
def _call(context, builder, sig, args):
    return context.compile_internal(builder, _implementation(sig.args[0]), sig, args)
