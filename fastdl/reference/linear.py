"""The fully connected layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl.functional.linear import LinearGrad
from fastdl.functional.verbs import Array
from fastdl.reference._window import fill
from fastdl.reference.activation import fused

__all__ = [
    "linear",
    "linear_backward",
]


def linear(
    x: Any,
    weight: Any,
    bias: Any = None,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    out: Array | None = None,
) -> Array:
    y = x @ weight.T
    if bias is not None:
        y += bias
    return fill(out, fused(y, activation, activation_args))


def linear_backward(grad_output: Any, x: Any, weight: Any, input_grad: bool = True) -> LinearGrad:
    (out_features, in_features), rows = weight.shape, math.prod(x.shape[:-1])
    g = grad_output.reshape(rows, out_features)
    return LinearGrad(
        input=grad_output @ weight if input_grad else np.empty_like(x[:0]),
        weight=g.T @ x.reshape(rows, in_features),
        bias=g.sum(0),
    )
