"""The fully connected layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl.functional._operation import helper, operation
from fastdl.functional.activation import fused_activation
from fastdl.functional.verbs import Array, disjoint, fail, floats, floats_like, gradient, optional_vector, output

__all__ = [
    "LinearGrad",
    "linear",
    "linear_backward",
]


class LinearGrad(NamedTuple):
    input: Array
    weight: Array
    bias: Array


@operation
def linear(
    x: Any,
    weight: Any,
    bias: Any = None,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    out: Array | None = None,
) -> Array:
    """activation(x weight^T + bias). torch.nn.functional.linear, with the activation fused.

    x: (..., in). weight: (out, in). bias: (out,). activation, activation_args: as conv2d's. Returns (..., out).
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 2)
    features, rows = weight.shape[0], _rows(x, weight)
    bias = optional_vector(bias, "bias", x, features)
    result = output(out, x.shape[:-1] + (features,), x)  # noqa: RUF005 (Numba has no tuple unpacking)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "weight", weight)
        disjoint(result, "bias", bias)
    act = fused_activation(activation, activation_args)
    _kernels.linear(x, weight, bias, result, rows, weight.shape[1], features, act[0], act[1], act[2])
    return result


@operation
def linear_backward(grad_output: Any, x: Any, weight: Any, input_grad: bool = True) -> LinearGrad:
    """The gradients of linear (with activation "none") as (input, weight, bias).

    grad_output: (..., out). x: (..., in). weight: (out, in). Without input_grad, `input` is an empty array and
    its product is not computed: the first layer of a network does not need it.
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 2)
    grad_output = floats_like(grad_output, "grad_output", x)
    features, rows = weight.shape[0], _rows(x, weight)
    expected = x.shape[:-1] + (features,)  # noqa: RUF005 (Numba has no tuple unpacking)
    if grad_output.shape != expected:
        fail("grad_output", grad_output.shape, expected)
    result = LinearGrad(gradient(x, input_grad), gradient(weight), np.empty(features, x.dtype))
    _kernels.linear_backward(
        grad_output, x, weight, result.input, result.weight, result.bias, rows, weight.shape[1], features
    )
    return result


@helper
def _rows(x: Array, weight: Array) -> int:
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        fail("x", x.shape, ("...", weight.shape[1]))
    if x.size > 0:
        return x.size // weight.shape[1]
    rows = 1
    for size in x.shape[:-1]:
        rows *= size
    return rows
