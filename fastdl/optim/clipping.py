"""Gradients limited by their norm or by value, in place; Optimizer.step does the same without changing them."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from fastdl.functional.verbs import Array, fail, in_place
from fastdl.optim._table import DTYPES, Arrays, Table, clip_factor, total_norm

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
]


def clip_grad_norm_(
    grads: Array | Arrays, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    """Scale gradients, in place, so that their norm, taken over all of them as one vector, is at most max_norm.

    torch.nn.utils.clip_grad_norm_. grads: one array, a list, or a dict such as net.grads. norm_type: 2, 1, any other
    positive number, or inf. Returns the norm before. Where it is not finite, gradients become NaN or 0, or, with
    error_if_nonfinite, ValueError is raised and nothing changes. The norm is computed in float64.
    """
    if not max_norm >= 0:
        fail("max_norm", max_norm, "at least 0")
    if not norm_type > 0:
        fail("norm_type", norm_type, "a number above 0")
    tables = _tables(grads)
    norm = total_norm(tables, float(norm_type))
    if error_if_nonfinite and not isfinite(norm):
        fail("grads", f"a norm of {norm}", "a finite one")
    factor = clip_factor(norm, max_norm)
    for table in tables if factor != 1 else ():
        table.options.grad_scale = factor
        table.step()
    return norm


def clip_grad_value_(grads: Array | Arrays, clip_value: float) -> None:
    """Limit every element of gradients, in place, to [-clip_value, clip_value]. torch.nn.utils.clip_grad_value_."""
    if not clip_value >= 0:
        fail("clip_value", clip_value, "at least 0")
    for table in _tables(grads):
        table.options.clip_value = clip_value
        table.step()


def _tables(grads: Any) -> list[Table]:
    if isinstance(grads, np.ndarray):
        grads = [grads]
    named = grads.items() if isinstance(grads, Mapping) else enumerate(grads)
    arrays = [in_place(grad, f"grads[{name!r}]") for name, grad in named]
    by_dtype = [(dtype, [a for a in arrays if a.dtype == dtype]) for dtype in DTYPES]
    return [Table(dtype, (column, column), "clip") for dtype, column in by_dtype if column]
