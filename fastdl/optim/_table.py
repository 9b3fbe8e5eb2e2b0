"""Many arrays as one argument of a kernel: the tables of fastdl.h."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl._native import ffi, lib
from fastdl.functional.verbs import Array

Arrays = Iterable[Array] | Mapping[str, Array]

FIELDS = frozenset(_kernels.Optimizer._fields)
"""Of the C struct of options."""
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))

_KERNELS: dict[str, dict[Any, Any]] = {
    name: {dtype: getattr(lib, f"fdl_{name}_{suffix}") for dtype, suffix in zip(DTYPES, ("f32", "f64"), strict=True)}
    for name in ("optimizer_step", "grad_norm")
}
_POINTERS, _CHARS, _INT64 = ffi.typeof("char *[]"), ffi.typeof("char[]"), ffi.typeof("int64_t[]")


def addresses(arrays: Sequence[Array]) -> Array:
    """Of the elements of C-contiguous arrays, as int64."""
    from_buffer = ffi.from_buffer
    pointers = ffi.new(_POINTERS, [from_buffer(_CHARS, a) for a in arrays])
    return np.frombuffer(ffi.buffer(pointers), np.int64)  # which keeps `pointers` alive


class Table:
    """Arrays of one dtype, and the options of the step that goes over them. columns: parameters, gradients, states
    (None: there is none); whoever makes a table keeps the arrays alive."""

    def __init__(self, dtype: Any, columns: Sequence[Sequence[Array] | None], method: str) -> None:
        first = columns[0] or ()
        self.rows = np.zeros((len(first), _kernels.TABLE_COLUMNS), np.int64)
        self.rows[:, _kernels.TABLE_END] = np.cumsum([a.size for a in first], dtype=np.int64)
        for i, column in enumerate(columns):
            if column is not None:
                self.rows[:, _kernels.TABLE_PARAM + i] = addresses(column)
        self.dtype = dtype
        self.options = ffi.new("fdl_optimizer *")
        self.options.method = _kernels.OPTIMIZER_NAMES.index(method)
        self.options.grad_scale, self.options.clip_value = 1.0, np.inf
        self.point()

    def point(self) -> None:
        self.call = (
            _KERNELS["optimizer_step"][self.dtype],
            self.options,
            ffi.from_buffer(_INT64, self.rows),
            len(self.rows),
        )
        """The kernel that makes a step, and its arguments."""

    def bound(self, grads: Array) -> Any:
        """`call` with these addresses of gradients, in a table of its own, with the very same options."""
        other = object.__new__(Table)
        other.rows, other.dtype, other.options = self.rows.copy(), self.dtype, self.options
        other.rows[:, _kernels.TABLE_GRAD] = grads
        other.point()
        return other.call

    def set_grads(self, grads: Array) -> None:
        self.rows[:, _kernels.TABLE_GRAD] = grads

    def step(self) -> None:
        kernel, *arguments = self.call
        if status := kernel(*arguments):
            _kernels.raise_status(status)

    def norm(self, norm_type: float) -> float:
        """Of all gradients, as if they were one vector."""
        found = ffi.new("double *")
        if status := _KERNELS["grad_norm"][self.dtype](found, *self.call[2:], norm_type):
            _kernels.raise_status(status)
        return found[0]


def total_norm(tables: Iterable[Table], norm_type: float = 2.0) -> float:
    norms = [table.norm(norm_type) for table in tables]
    if len(norms) == 1:
        return norms[0]
    return float(np.linalg.norm(norms, norm_type)) if norms else 0.0


def clip_factor(norm: float, max_norm: float) -> float:
    """torch's: at most 1; NaN for a norm that is."""
    factor = max_norm / (norm + 1e-6)
    return 1.0 if factor > 1 else factor
