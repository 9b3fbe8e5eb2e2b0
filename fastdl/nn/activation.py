"""Activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl.functional.verbs import Array, fail
from fastdl.nn._parameters import size_of
from fastdl.nn.module import Module

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
]


class _Elementwise(Module):
    """A layer over an elementwise function. inplace: write the result over x; there is then a backward only where the
    function's gradient can do with the result."""

    elementwise = True
    function: str

    def __init_subclass__(cls, function: str) -> None:
        cls.function = function

    def __init__(self, inplace: bool = False, **options: Any) -> None:
        self.inplace = inplace
        self.options = options
        self.from_result = self.function in _FROM_RESULT and options.get("negative_slope", 0) >= 0

    def forward(self, x: Any) -> Array:
        y: Array = getattr(functions(), self.function)(x, **self.options, out=x if self.inplace else None)
        # Where the result will do, it is what is kept: the next layer keeps it anyway.
        self.save_for_backward(y if self.from_result else x)
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        if self.inplace and not self.from_result:
            fail("inplace", True, ("False:", self.function, "needs for its gradient the input that it has overwritten"))
        return getattr(functions(), f"{self.function}_backward")(grad_output, *self.saved, **self.options)


_FROM_RESULT = {"relu", "relu6", "leaky_relu", "hardtanh", "sigmoid", "tanh"}
"""The functions whose gradient is found from the result: it is what they take, or it stands in for the input."""


class ReLU(_Elementwise, function="relu"):
    """max(x, 0). torch.nn.ReLU."""


class ReLU6(_Elementwise, function="relu6"):
    """min(max(x, 0), 6). torch.nn.ReLU6."""


class LeakyReLU(_Elementwise, function="leaky_relu"):
    """x, below 0 negative_slope x. torch.nn.LeakyReLU."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace, negative_slope=negative_slope)


class ELU(_Elementwise, function="elu"):
    """x, below 0 alpha (e^x - 1). torch.nn.ELU."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace, alpha=alpha)


class SELU(_Elementwise, function="selu"):
    """A scaled ELU that keeps mean 0 and variance 1. torch.nn.SELU."""


class CELU(_Elementwise, function="celu"):
    """x, below 0 alpha (e^(x / alpha) - 1). torch.nn.CELU."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace, alpha=alpha)


class GELU(_Elementwise, function="gelu"):
    """x Phi(x). torch.nn.GELU."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__(False, approximate=approximate)


class SiLU(_Elementwise, function="silu"):
    """x sigmoid(x). torch.nn.SiLU."""


class Mish(_Elementwise, function="mish"):
    """x tanh(softplus(x)). torch.nn.Mish."""


class Softplus(_Elementwise, function="softplus"):
    """log(1 + e^(beta x)) / beta. torch.nn.Softplus."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(False, beta=beta, threshold=threshold)


class Softsign(_Elementwise, function="softsign"):
    """x / (1 + |x|). torch.nn.Softsign."""

    def __init__(self) -> None:
        super().__init__(False)


class Hardtanh(_Elementwise, function="hardtanh"):
    """min(max(x, min_val), max_val). torch.nn.Hardtanh."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace, min_val=min_val, max_val=max_val)


class Hardsigmoid(_Elementwise, function="hardsigmoid"):
    """min(max(x + 3, 0), 6) / 6. torch.nn.Hardsigmoid."""


class Hardswish(_Elementwise, function="hardswish"):
    """x hardsigmoid(x). torch.nn.Hardswish."""


class LogSigmoid(_Elementwise, function="logsigmoid"):
    """log(sigmoid(x)). torch.nn.LogSigmoid."""

    def __init__(self) -> None:
        super().__init__(False)


class Sigmoid(_Elementwise, function="sigmoid"):
    """1 / (1 + e^-x). torch.nn.Sigmoid."""

    def __init__(self) -> None:
        super().__init__(False)


class Tanh(_Elementwise, function="tanh"):
    """The hyperbolic tangent. torch.nn.Tanh."""

    def __init__(self) -> None:
        super().__init__(False)


class PReLU(Module):
    """x, below 0 weight x, weight being a parameter: one, or one for each channel (dimension 1). torch.nn.PReLU."""

    parameter_names = ("weight",)

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = np.float32) -> None:
        self.weight = np.full(size_of(num_parameters, "num_parameters"), init, dtype)

    def forward(self, x: Any) -> Array:
        self.save_for_backward(x)
        return functions().prelu(x, self.weight)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        grad = functions().prelu_backward(grad_output, *self.saved, self.weight)
        self.set_grads(weight=grad.weight)
        return grad.input


class Softmax(Module):
    """exp(x) / sum(exp(x)) along dim. torch.nn.Softmax."""

    function = "softmax"

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Array:
        y: Array = getattr(functions(), self.function)(x, self.dim)
        self.save_for_backward(y)
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return getattr(functions(), f"{self.function}_backward")(grad_output, *self.saved, self.dim)


class LogSoftmax(Softmax):
    """log(softmax(x)) along dim. torch.nn.LogSoftmax."""

    function = "log_softmax"
