"""Programs (fastdl.record) as compiled loops call them: by the address of their code, whatever their shapes are.

A loop that took programs as arguments would be compiled anew for each combination of shapes. Those of agents check
shapes in Python, once, and hand over arrays that fit: they are compiled once and kept on disk."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._library import COMPILED
from fastdl.rl._numba import intrinsic, types

if not COMPILED:
    raise ImportError(
        "fastdl.rl.agents: found fastdl without its kernels in C, which compiled loops call, expected an install with "
        "a C compiler; fastdl.rl.mdp and tabular agents work without"
    )
from fastdl.numba.programs import call_code

Array = np.ndarray[Any, Any]


@intrinsic
def run_program(typing_context: Any, code: Any, arrays: Any) -> Any:
    """Run the program whose code is at this address, on a tuple of C-contiguous arrays: its arguments, then its
    results. The status, 0 for right."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return call_code(context, builder, values[0], signature.args[1], values[1])

    return types.int32(types.int64, arrays), lower


class Bound:
    """A network's program, of one array in and one out, kept as long as its code may be called."""

    def __init__(self, program: Any) -> None:
        *_, shape = program._described()[1][0]
        self.program, self.columns = program, shape[-1]
        self.code: int = program._native[0]

    def __call__(self, x: Array) -> Array:
        return self.program(x)  # type: ignore[no-any-return]
