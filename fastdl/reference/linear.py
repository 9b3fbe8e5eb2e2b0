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
    y = x @ weight.T
    if bias is not None:
        y += bias
    return fused(y, activation, activation_args)


@implements(functional.linear_backward)
def linear_backward(grad_output, x, weight, input_grad):
    (out_features, in_features), rows = weight.shape, math.prod(x.shape[:-1])
    g = grad_output.reshape(rows, out_features)
    return LinearGrad(
        input=grad_output @ weight if input_grad else np.empty_like(x[:0]),
        weight=g.T @ x.reshape(rows, in_features),
        bias=g.sum(0),
    )
