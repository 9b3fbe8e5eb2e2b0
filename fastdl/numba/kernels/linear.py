"""The fully connected layer: three products, and sums over rows."""

from __future__ import annotations

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
    none = x[:0]
    if grad_x.size:
        sums = _room(grad_x, added & _kernels.ADDED_X)
        product(grad_output, (out_features, 1), weight, (in_features, 1), none, sums, rows, in_features, out_features)
        _put(sums, grad_x)
    if grad_weight.size:
        sums = _room(grad_weight, added & _kernels.ADDED_WEIGHT)
        product(grad_output, (1, out_features), x, (in_features, 1), none, sums, out_features, in_features, rows)
        _put(sums, grad_weight)
    if grad_bias.size:
        sums = _room(grad_bias, added & _kernels.ADDED_BIAS)
        column_sums(grad_output, rows, out_features, sums)
        _put(sums, grad_bias)


def _room(array, added):
    """Where sums go that become, or are added to, an array."""
    return np.empty_like(array) if added else array


def _put(sums, array):
    if sums is not array:
        array += sums
