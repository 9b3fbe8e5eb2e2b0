"""Fully connected layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl.functional.verbs import Array, flag
from fastdl.nn._arguments import blame_input, example, size_of
from fastdl.nn._layer import Layer
from fastdl.nn._parameters import PARAMETERS, initial
from fastdl.nn.module import Rng

__all__ = ["Linear"]


@doc(PARAMETERS, example(">>> nn.Linear(3, 2)(np.ones((5, 3), np.float32)).shape\n(5, 2)"))
class Linear(Layer, function="linear"):
    """A fully connected layer: ``x @ weight.T + bias``.

    Input and result are (..., in_features) and (..., out_features), with any number of dimensions before the last.

    Parameters
    ----------
    in_features, out_features : int
        The sizes of the last dimension.
    bias : bool
        Whether a learned value is added to each feature of the result.
    {dtype}
    {rng}

    Attributes
    ----------
    weight : (out_features, in_features) array
    bias : (out_features,) array or None
        Both start uniform in ``[-1, 1] / sqrt(in_features)``.

    See Also
    --------
    fastdl.linear, torch.nn.Linear

    {example}
    """

    parameter_names = ("weight", "bias")

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = np.float32, rng: Rng = None
    ) -> None:
        self.in_features, self.out_features = size_of(in_features, "in_features"), size_of(out_features, "out_features")
        shape = self.out_features, self.in_features
        self.weight, self.bias = initial(shape, flag(bias, "bias"), dtype, rng)

    def forward(self, x: Any) -> Array:
        try:
            y = functions().linear(x, self.weight, self.bias)
        except (TypeError, ValueError):
            blame_input(x, self.weight.dtype, self.in_features, -1)
            raise
        self.save_for_backward(x)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        grad = functions().linear_backward(grad_output, *self.saved, self.weight, input_grad=input_grad)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
