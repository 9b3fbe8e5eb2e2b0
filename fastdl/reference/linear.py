"""The fully connected layer."""

from __future__ import annotations

import math

import numpy as np

from fastdl import functional
from fastdl.functional.linear import LinearGrad
from fastdl.reference._implements import implements
from fastdl.reference.activation import fused

__all__ = [
    "linear",
    "linear_backward",
]


@implements(functional.linear)
def linear(x, weight, bias, activation, activation_args):
    y = np.asarray(x @ weight.T)
    if bias is not None:
        y += bias
    return fused(y, activation, activation_args)


@implements(functional.linear_backward)
def linear_backward(grad_output, x, weight, input_grad):
    matrix, rows = np.atleast_2d(weight), math.prod(x.shape[:-1])
    g = grad_output.reshape(rows, len(matrix))
    return LinearGrad(
        input=(g @ matrix).reshape(x.shape) if input_grad else np.empty_like(x[:0]),
        weight=(g.T @ x.reshape(rows, matrix.shape[1])).reshape(weight.shape),
        bias=g.sum(0).reshape(weight.shape[:-1]),
    )
