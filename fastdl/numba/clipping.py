"""fastdl.clip_grad_norm_ and clip_grad_value_ in compiled code, of an array or a tuple of arrays.

In Python they go over tables that optimizers keep; here each call makes its own, on the stack."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from math import inf
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from fastdl import _kernels
from fastdl.functional import verbs
from fastdl.numba.code import Code
from fastdl.numba.twins import address, twin
from fastdl.numba.values import DOUBLE, ArrayValue, ListValue, Number, Other, joined, python_type, text, type_name
from fastdl.optim._table import DTYPES
from fastdl.optim.clipping import clip_grad_norm_, clip_grad_value_

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


@dataclass
class _Table:
    """fdl_optimizer_step's arguments, for gradients of one dtype."""

    dtype: str
    rows: Any
    count: int
    options: Any


@twin(clip_grad_norm_)
def _norm(run: Any, grads: Any, max_norm: Any, norm_type: Any, error_if_nonfinite: Any) -> Any:
    code: Code = run.code
    max_norm = run.call(verbs.number, (max_norm, "max_norm", 0.0, inf), {})
    norm_type = run.call(verbs.number, (norm_type, "norm_type", verbs.ABOVE_ZERO, inf), {})
    wanted = run.call(verbs.flag, (error_if_nonfinite, "error_if_nonfinite"), {})
    tables = _tables(run, grads)
    if not tables:
        return 0.0
    norms = cgutils.alloca_once(code.builder, ir.ArrayType(DOUBLE, len(tables)))
    norm = cgutils.alloca_once(code.builder, DOUBLE)
    for i, table in enumerate(tables):
        place = cgutils.gep_inbounds(code.builder, norms, 0, i)
        code.kernel("grad_norm", (place, table.rows, table.count, norm_type), table.dtype)
    for table in tables:
        scaling = (norm_type, 1.0, max_norm, inf)
        code.kernel("scale_grads", (table.options, norms, norm, len(tables), *scaling), table.dtype)
    found = Number(float, code.builder.load(norm))
    finite = code.compare(operator.lt, run.call(abs, (found,), {}), inf)
    said = ("grads: found a norm of ", text(found), ", expected a finite one")
    code.check(code.every([wanted, code.invert(finite)]), "ValueError", joined(said))
    for table in tables:
        code.kernel("optimizer_step", (table.options, table.rows, table.count), table.dtype)
    return found


@twin(clip_grad_value_)
def _value(run: Any, grads: Any, clip_value: Any) -> None:
    clip_value = run.call(verbs.number, (clip_value, "clip_value", 0.0, inf), {})
    for table in _tables(run, grads):
        run.code.kernel("scale_grads", (table.options, None, None, 0, 2.0, 1.0, inf, clip_value), table.dtype)
        run.code.kernel("optimizer_step", (table.options, table.rows, table.count), table.dtype)


def _tables(run: Any, grads: Any) -> list[_Table]:
    """One for each dtype. A gradient that is given again counts as empty."""
    code: Code = run.code
    if not isinstance(grads, (tuple, ArrayValue)):
        found = type_name(grads) if isinstance(grads, (ListValue, Other)) else python_type(grads).__name__
        code.fail("TypeError", f"grads: found {found}, expected an array or, in compiled code, a tuple of arrays")
    given = grads if isinstance(grads, tuple) else (grads,)
    arrays = [run.call(verbs.in_place, (grad, f"grads[{i}]"), {}) for i, grad in enumerate(given) if grad is not None]
    tables = []
    for dtype in DTYPES:
        chosen = [array for array in arrays if array.dtype == dtype]
        if not chosen:
            continue
        end: Any = 0
        rows: list[Any] = []
        places = [address(code, array) for array in chosen]
        for i, array in enumerate(chosen):
            again = code.some(code.compare(operator.eq, places[i], earlier) for earlier in places[:i])
            end = code.arithmetic(operator.add, end, code.select(again, 0, code.size(array.shape)))
            row: list[Any] = [0] * _kernels.TABLE_COLUMNS
            row[_kernels.TABLE_END], row[_kernels.TABLE_PARAM] = end, places[i]
            row[_kernels.TABLE_GRAD] = code.select(again, 0, places[i])
            rows += row
        options = _kernels.Optimizer._fields
        words = [0] * len(options)
        words[options.index("method")] = _kernels.OPTIMIZER_CLIP
        tables.append(_Table(dtype.name, code.memory(rows), len(chosen), code.memory(words)))
    return tables
