"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl._arrays import Array, choice, class_indices, fail, floats, floats_like, reduced_shape
from fastdl._operation import helper, operation

REDUCTIONS = ("none", "mean", "sum")


@operation
def cross_entropy(x: Any, target: Any, reduction: str = "mean") -> Array:
    """log(sum over j of exp(x[i, j])) - x[i, target[i]], reduced over i. torch.nn.functional.cross_entropy.

    x: (rows, classes), unnormalised scores. target: (rows,), integers in [0, classes); anything else is a
    ValueError. reduction: "mean", "sum" or "none". Returns an array of shape (), or (rows,) for "none".
    Sums run in float64; the mean over no rows is NaN, as torch's.
    """
    x = floats(x, "x", 2)
    target = _targets(x, target)
    code = choice(reduction, "reduction", REDUCTIONS)
    result = np.empty(reduced_shape(target.shape, reduction), x.dtype)
    _kernels.cross_entropy(x, target, result, x.shape[0], x.shape[1], code)
    return result


@operation
def cross_entropy_backward(grad_output: Any, x: Any, target: Any, reduction: str = "mean") -> Array:
    """The gradient of cross_entropy in x: grad_output (softmax(x) - onehot(target)), divided by rows for "mean".

    grad_output: what the loss's own gradient is, shaped as cross_entropy returns.
    """
    x = floats(x, "x", 2)
    target = _targets(x, target)
    code = choice(reduction, "reduction", REDUCTIONS)
    grad_output = floats_like(grad_output, "grad_output", x)
    expected = reduced_shape(target.shape, reduction)
    if grad_output.shape != expected:
        fail("grad_output", grad_output.shape, expected)
    result = np.empty_like(x)
    _kernels.cross_entropy_backward(grad_output, x, target, result, x.shape[0], x.shape[1], code)
    return result


@helper
def _targets(x: Array, target: Any) -> Array:
    target = class_indices(target, "target", 1)
    if target.shape[0] != x.shape[0]:
        fail("target", target.shape, (x.shape[0],))
    return target
