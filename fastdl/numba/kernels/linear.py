"""The fully connected layer: three products, and sums over rows."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from fastdl import _kernels
from fastdl.numba.kernels._kernel import kernel
from fastdl.numba.kernels.activation import activate
from fastdl.numba.kernels.product import column_sums, product
from fastdl.reference.packing import linear_weight


@kernel
def linear(x, weight, bias, y, rows, in_features, out_features, packed, activation, alpha, beta):
    """y [rows, out] = activation(x [rows, in] weight [out, in]^T + bias [out])"""
    if packed:
        weight = linear_weight(weight, in_features, out_features)
    relu = activation == _kernels.ACTIVATION_RELU
    product(x, (in_features, 1), weight, (1, in_features), bias, y, rows, out_features, in_features, relu)
    activate(y, activation, alpha, beta)


@kernel
def linear_backward(grad_output, x, weight, grad_x, grad_weight, grad_bias, rows, in_features, out_features, added):
    """grad_x (+)= grad_output weight, grad_weight (+)= grad_output^T x"""
    none = np.empty(0, x.dtype)
    if grad_x.size:
        given = (grad_output, (out_features, 1)), (weight, (in_features, 1))
        with _adding(grad_x, added & _kernels.ADDED_X) as sums:
            product(*given[0], *given[1], none, sums, rows, in_features, out_features)
    if grad_weight.size:
        given = (grad_output, (1, out_features)), (x, (in_features, 1))
        with _adding(grad_weight, added & _kernels.ADDED_WEIGHT) as sums:
            product(*given[0], *given[1], none, sums, out_features, in_features, rows)
    if grad_bias.size:
        with _adding(grad_bias, added & _kernels.ADDED_BIAS) as sums:
            column_sums(grad_output, rows, out_features, sums)


@contextmanager
def _adding(array, added):
    """Where sums go that become, or are added to, an array."""
    if not added:
        yield array
        return
    sums = np.empty_like(array)
    yield sums
    array += sums
