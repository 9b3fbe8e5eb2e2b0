"""Fully connected layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl.functional.verbs import Array
from fastdl.nn._parameters import initial, size_of
from fastdl.nn.module import Module, Rng

__all__ = ["Linear"]


class Linear(Module):
    """x weight^T + bias. torch.nn.Linear. rng: a numpy Generator or a seed, for the initial values."""

    parameter_names = ("weight", "bias")

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = np.float32, rng: Rng = None
    ) -> None:
        shape = (size_of(out_features, "out_features"), size_of(in_features, "in_features"))
        self.weight, self.bias = initial(shape, bias, dtype, rng)

    def forward(self, x: Any) -> Array:
        self.save_for_backward(x)
        return functions().linear(x, self.weight, self.bias)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        grad = functions().linear_backward(grad_output, *self.saved, self.weight, input_grad=input_grad)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input
