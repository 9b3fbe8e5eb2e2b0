"""Programs (fastdl.record) as compiled loops call them: by the address of their code, whatever their shapes are.

A loop that took programs as arguments would be compiled anew for each combination of shapes. Those of agents check
shapes in Python, once, and hand over arrays that fit: they are compiled once and kept on disk."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._library import COMPILED
from fastdl.rl._numba import cgutils, intrinsic, ir, types

if not COMPILED:
    raise ImportError(
        "fastdl.rl.agents: found fastdl without its kernels in C, which compiled loops call, expected an install with "
        "a C compiler; fastdl.rl.mdp and tabular agents work without"
    )
import fastdl.numba.programs  # noqa: F401 (makes fdl_program_run known to compiled code)

Array = np.ndarray[Any, Any]

_INT64 = ir.IntType(64)


@intrinsic
def run_program(typing_context: Any, code: Any, arrays: Any) -> Any:
    """Run the program whose code is at this address, on a tuple of C-contiguous arrays: its arguments, then its
    results. The status, 0 for right."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        given = signature.args[1]
        addresses = cgutils.alloca_once(builder, ir.ArrayType(_INT64, len(given)))
        for i, array_type in enumerate(given):
            array = context.make_array(array_type)(context, builder, builder.extract_value(values[1], i))
            builder.store(builder.ptrtoint(array.data, _INT64), cgutils.gep_inbounds(builder, addresses, 0, i))
        pointer = _INT64.as_pointer()
        function_type = ir.FunctionType(ir.IntType(32), [pointer, pointer])
        function = cgutils.get_or_insert_function(builder.module, function_type, "fdl_program_run")
        code_at = builder.inttoptr(values[0], pointer)
        return builder.call(function, [code_at, cgutils.gep_inbounds(builder, addresses, 0, 0)])

    return types.int32(types.int64, arrays), lower


class Bound:
    """A network's program for so many rows, kept as long as its code may be called.

    Parameters
    ----------
    program : fastdl.Program
        Of one array in and one out.
    rows : int
    """

    def __init__(self, program: Any, rows: int) -> None:
        *_, shape = program._described()[1][0]
        self.program, self.rows, self.columns = program, rows, shape[-1]
        self.code: int = program._native[0]

    def __call__(self, x: Array) -> Array:
        return self.program(x)  # type: ignore[no-any-return]
