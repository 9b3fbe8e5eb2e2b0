"""Many arrays as one argument of a kernel: the tables of fastdl.h."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl._call import get_diversion, take_gradients
from fastdl._native import ffi, lib
from fastdl._recording import hold
from fastdl.functional.verbs import Array

Arrays = Iterable[Array] | Mapping[str, Array]

FIELDS = frozenset(_kernels.Optimizer._fields)
"""Of the C struct of options."""
SCALARS = {"step": (_kernels.TABLE_STEP, np.int64), "mu_product": (_kernels.TABLE_MU_PRODUCT, np.float64)}
"""States that are one number for each parameter: their column in a table, and their dtype."""
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))

_KERNELS: dict[str, dict[Any, Any]] = {
    name: {dtype: getattr(lib, f"fdl_{name}_{suffix}") for dtype, suffix in zip(DTYPES, ("f32", "f64"), strict=True)}
    for name in ("optimizer_step", "grad_norm", "scale_grads")
}
_POINTERS, _CHARS = ffi.typeof("char *[]"), ffi.typeof("char[]")
_INT64, _DOUBLES = ffi.typeof("int64_t[]"), ffi.typeof("double[]")


def addresses(arrays: Sequence[Array]) -> Array:
    """Of the elements of C-contiguous arrays, as int64."""
    from_buffer = ffi.from_buffer
    pointers = ffi.new(_POINTERS, [from_buffer(_CHARS, a) for a in arrays])
    return np.frombuffer(ffi.buffer(pointers), np.int64)  # which keeps `pointers` alive


def method_of(step_function: str) -> int | None:
    """The kernel's number of what "adam_step" does; None if no kernel does it."""
    names, name = _kernels.OPTIMIZER_NAMES, step_function.removesuffix("_step")
    return names.index(name) if name in names else None


class Table:
    """Parameters of one dtype with their gradients and states, and the options of the step that goes over them.

    params: whoever makes a table keeps them, and the states, alive. places: where the gradient of each is among all
    gradients; None: in the same order. states: an array for each parameter, by name, in the order in which the kernel
    takes them; None where there is none.
    """

    def __init__(
        self,
        dtype: Any,
        params: Sequence[Array],
        method: int,
        places: Sequence[int] | None = None,
        states: Mapping[str, Sequence[Array] | None] | None = None,
    ) -> None:
        rows = np.zeros((len(params), _kernels.TABLE_COLUMNS), np.int64)
        rows[:, _kernels.TABLE_END] = np.cumsum([a.size for a in params], dtype=np.int64)
        rows[:, _kernels.TABLE_PARAM] = addresses(params)
        next_state = _kernels.TABLE_STATE
        for name, column in (states or {}).items():
            at = SCALARS[name][0] if name in SCALARS else next_state
            next_state += name not in SCALARS
            if column is not None:
                rows[:, at] = addresses(column)
        self.dtype = dtype
        self.options = ffi.new("fdl_optimizer *")
        self.options.method = method
        self.options.grad_scale, self.options.clip_value = 1.0, np.inf
        self.words = np.frombuffer(ffi.buffer(self.options), np.int64)
        """Of the options."""
        where = None if places is None or list(places) == list(range(len(params))) else np.array(places, np.int64)
        self._set(rows, tuple(params), where)

    def _set(self, rows: Array, params: tuple[Array, ...], places: Array | None) -> None:
        self.rows = rows
        self.look = (params, places, rows, self.dtype.num)
        """What take_gradients takes after the gradients."""
        self.call = (_KERNELS["optimizer_step"][self.dtype], self.options, ffi.from_buffer(_INT64, rows), len(rows))
        """The kernel that makes a step, and its arguments."""

    def copy(self) -> Table:
        """A table with gradients of its own, of the very same parameters, states and options."""
        other = object.__new__(Table)
        other.dtype, other.options, other.words = self.dtype, self.options, self.words
        other._set(self.rows.copy(), *self.look[:2])
        return other

    def take(self, grads: tuple[Array | None, ...]) -> int:
        """Make these the gradients of the next step, if take_gradients of call.c, which explains the result, can."""
        return take_gradients(grads, *self.look)

    def forget(self) -> None:
        """The gradients: there is none."""
        self.rows[:, _kernels.TABLE_GRAD] = 0

    @property
    def grads(self) -> Array:
        """The addresses of gradients; 0: there is none."""
        return self.rows[:, _kernels.TABLE_GRAD]

    def step(self) -> None:
        if get_diversion() is not None:
            hold(self, self.look[0])
            self._run("optimizer_step", self.words, self.rows, len(self.rows))
            return
        kernel, *arguments = self.call
        if status := kernel(*arguments):
            _kernels.raise_status(status)

    def norm(self, norm_type: float, found: Array) -> None:
        """found [1] = that of all gradients, as if they were one vector."""
        self._run("grad_norm", found, self.rows, len(self.rows), norm_type)

    def scale(self, grad_scale: float = 1.0, clip_value: float = inf) -> None:
        """What the next steps make of gradients, first and then."""
        self._run("scale_grads", self.words, None, None, 0, 2.0, grad_scale, inf, clip_value)

    def scale_to(
        self, max_norm: float, norms: Array, norm: Array, norm_type: float, scaling: tuple[float, float]
    ) -> None:
        """The same, so that the norm of all tables' gradients, whose parts are `norms`, is at most max_norm."""
        self._run("scale_grads", self.words, norms, norm, len(norms), norm_type, scaling[0], max_norm, scaling[1])

    def _run(self, kernel: str, *arguments: Any) -> None:
        instead = get_diversion()
        if instead is not None:
            instead(kernel, DTYPES.index(self.dtype), arguments)
            return
        given = [_pointer(a) if isinstance(a, np.ndarray) else ffi.NULL if a is None else a for a in arguments]
        if given[0] is not None and arguments[0] is self.words:
            given[0] = self.options
        if status := _KERNELS[kernel][self.dtype](*given):
            _kernels.raise_status(status)


def _pointer(array: Array) -> Any:
    return ffi.from_buffer(_DOUBLES if array.dtype == np.float64 else _INT64, array)


def clip(
    tables: Sequence[Table], max_norm: float, norm_type: float = 2.0, grad_scale: float = 1.0, clip_value: float = inf
) -> Array:
    """Make the next step of each table scale gradients so that their norm, of all tables, is at most max_norm; returns
    the norm before, after grad_scale, as an array of one element."""
    norms, norm = np.empty(len(tables)), np.empty(1)
    for i, table in enumerate(tables):
        table.norm(norm_type, norms[i : i + 1])
    for table in tables:
        table.scale_to(max_norm, norms, norm, norm_type, (grad_scale, clip_value))
    return norm
