"""Layers: the functions of fastdl with parameters, and what backward needs, remembered.

A layer names its parameters, and writes forward and backward; everything else is in Module:

    class Scale(Module):
        parameter_names = ("weight",)

        def __init__(self, features):
            self.weight = np.ones(features, np.float32)

        def forward(self, x):
            self.save_for_backward(x)
            return x * self.weight

        def backward(self, grad_output, input_grad=True):
            (x,) = self.saved
            self.set_grads(weight=(grad_output * x).sum(0))
            return grad_output * self.weight
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from fastdl._arrays import Array, _view, choice, fail, floats, pair
from fastdl._backend import backend, functions
from fastdl._window import Pair
from fastdl.losses import REDUCTIONS

__all__ = [
    "Conv2d",
    "CrossEntropyLoss",
    "Flatten",
    "Linear",
    "MaxPool2d",
    "Module",
    "ReLU",
    "Sequential",
    "backend",
]

Self = TypeVar("Self", bound="Module")
Rng = np.random.Generator | int | None


class Module:
    """A layer or a network of layers.

    Attributes that are Modules are its children; their parameters are named "child.parameter", as in torch.
    What forward was given is kept, not copied, until the next forward: change it only after backward.
    """

    parameter_names: tuple[str, ...] = ()
    """Attributes that are parameters: arrays, or None."""
    training: bool = True
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    """backward(grad_output, input_grad=True) returns the gradient of forward's input and fills `grads`.
    Without input_grad, which the first layer of a network does not need, what it returns means nothing."""

    _saved: tuple[Any, ...] | None = None
    _grads: Mapping[str, Array] = MappingProxyType({})

    def __call__(self, *inputs: Any) -> Any:
        return self.forward(*inputs)

    def save_for_backward(self, *values: Any) -> None:
        self._saved = values

    @property
    def saved(self) -> tuple[Any, ...]:
        """What the last forward saved."""
        if self._saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward: called before forward")
        return self._saved

    def set_grads(self, **grads: Array) -> None:
        """Make these the gradients of this layer's own parameters; one of a parameter that is None is dropped."""
        self._grads = {name: grad for name, grad in grads.items() if getattr(self, name) is not None}

    @property
    def grads(self) -> dict[str, Array]:
        """The gradients that the last backward found, by the names of parameters()."""
        return self._collect(lambda module: module._grads)

    def parameters(self) -> dict[str, Array]:
        """The parameters themselves, not copies, by torch's names."""
        return self._collect(
            lambda module: {
                name: array for name in module.parameter_names if (array := getattr(module, name)) is not None
            }
        )

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters, by torch's names."""
        return {name: array.copy() for name, array in self.parameters().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy into the parameters what state_dict() of this class, or of the same torch network, returned.

        Parameters keep their dtype. Every key and shape is checked first: after an error nothing has changed.
        """
        parameters = self.parameters()
        problems = [f"missing {name!r}" for name in parameters if name not in state]
        problems += [f"unexpected {name!r}" for name in state if name not in parameters]
        values = {name: _view(state[name], name) for name in parameters if name in state}
        for name, value in values.items():
            if value.shape != parameters[name].shape:
                problems.append(f"{name!r}: found shape {value.shape}, expected {parameters[name].shape}")
            if value.dtype.kind != "f":
                problems.append(f"{name!r}: found dtype {value.dtype}, expected a floating-point one")
        if problems:
            raise ValueError("state: " + "; ".join(problems))
        for name, value in values.items():
            np.copyto(parameters[name], value, casting="same_kind")

    def train(self: Self, mode: bool = True) -> Self:
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        return self.train(False)

    def children(self) -> dict[str, Module]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Module)}

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        yield self
        for child in self.children().values():
            yield from child.modules()

    def _collect(self, own: Callable[[Module], Mapping[str, Array]]) -> dict[str, Array]:
        found = dict(own(self))
        for prefix, child in self.children().items():
            found.update({f"{prefix}.{name}": array for name, array in child._collect(own).items()})
        return found


class Linear(Module):
    """x weight^T + bias. torch.nn.Linear. rng: a numpy Generator or a seed, for the initial values."""

    parameter_names = ("weight", "bias")

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = np.float32, rng: Rng = None
    ) -> None:
        shape = (_size(out_features, "out_features"), _size(in_features, "in_features"))
        self.weight, self.bias = _initial(shape, bias, dtype, rng)

    def forward(self, x: Any) -> Array:
        self.save_for_backward(x)
        return functions().linear(x, self.weight, self.bias)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        grad = functions().linear_backward(grad_output, *self.saved, self.weight, input_grad=input_grad)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input


class Conv2d(Module):
    """fastdl.conv2d with zero padding. torch.nn.Conv2d. rng: a numpy Generator or a seed, for the initial values."""

    parameter_names = ("weight", "bias")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = np.float32,
        rng: Rng = None,
    ) -> None:
        for argument, channels in ("in_channels", in_channels), ("out_channels", out_channels):
            if _size(groups, "groups") < 1 or _size(channels, argument) % groups:
                fail(argument, channels, f"a multiple of groups, {groups}, which is at least 1")
        shape = (out_channels, in_channels // groups, *pair(kernel_size, "kernel_size", 1))
        self.options = {
            "stride": pair(stride, "stride", 1),
            "padding": pair(padding, "padding", 0),
            "dilation": pair(dilation, "dilation", 1),
            "groups": groups,
        }
        self.weight, self.bias = _initial(shape, bias, dtype, rng)

    def forward(self, x: Any) -> Array:
        self.save_for_backward(x)
        return functions().conv2d(x, self.weight, self.bias, **self.options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        grad = functions().conv2d_backward(grad_output, *self.saved, self.weight, **self.options, input_grad=input_grad)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input


class ReLU(Module):
    """max(x, 0). torch.nn.ReLU. inplace: write the result over x."""

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def forward(self, x: Any) -> Array:
        y = functions().relu(x, out=x if self.inplace else None)
        self.save_for_backward(y)  # it stands in for x, and the next layer keeps it anyway
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return functions().relu_backward(grad_output, *self.saved)


class MaxPool2d(Module):
    """fastdl.max_pool2d. torch.nn.MaxPool2d."""

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
    ) -> None:
        self.options = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}

    def forward(self, x: Any) -> Array:
        self.save_for_backward(x)
        return functions().max_pool2d(x, **self.options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return functions().max_pool2d_backward(grad_output, *self.saved, **self.options)


class Flatten(Module):
    """The dimensions from start_dim to end_dim as one. torch.nn.Flatten."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Array:
        x = floats(x, "x")
        start, end = (d + x.ndim if d < 0 else d for d in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < x.ndim:
            fail("x", f"shape {x.shape}", f"dimensions {self.start_dim} to {self.end_dim} in it")
        self.save_for_backward(x.shape)
        return x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return floats(grad_output, "grad_output").reshape(*self.saved)


class Sequential(Module):
    """Layers one after another. torch.nn.Sequential: layers, or one dict of named layers."""

    def __init__(self, *layers: Any) -> None:
        named = layers[0] if len(layers) == 1 and isinstance(layers[0], Mapping) else dict(enumerate(layers))
        self.layers: dict[str, Module] = {str(name): layer for name, layer in named.items()}
        for name, layer in self.layers.items():
            if not isinstance(layer, Module):
                raise TypeError(f"layers: found {type(layer).__name__} as {name!r}, expected a Module")
        modules = list(self.modules())
        if len({id(module) for module in modules}) < len(modules):
            fail("layers", "the same layer twice", "each once (a layer remembers one forward)")

    def children(self) -> dict[str, Module]:
        return self.layers

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Module:
        return list(self.layers.values())[index]

    def forward(self, x: Any) -> Any:
        for layer in self.layers.values():
            x = layer(x)
        return x

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        first = next(iter(self.layers), None)
        for name, layer in reversed(self.layers.items()):
            grad_output = layer.backward(grad_output, input_grad=input_grad or name != first)
        return grad_output


class CrossEntropyLoss(Module):
    """fastdl.cross_entropy of scores (rows, classes) and class indices (rows,). torch.nn.CrossEntropyLoss."""

    def __init__(self, reduction: str = "mean") -> None:
        choice(reduction, "reduction", REDUCTIONS)
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Array:
        self.save_for_backward(input, target)
        return functions().cross_entropy(input, target, reduction=self.reduction)

    def backward(self, grad_output: Any = None) -> Array:
        """The gradient of input. grad_output: 1 where None; needed only for reduction "none"."""
        if grad_output is None:
            grad_output = np.ones((), floats(self.saved[0], "input").dtype)
        return functions().cross_entropy_backward(grad_output, *self.saved, reduction=self.reduction)


def _size(value: Any, argument: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{argument}: found {value!r}, expected an int")
    if value < 0:
        fail(argument, value, "at least 0")
    return int(value)


def _initial(shape: tuple[int, ...], bias: bool, dtype: Any, rng: Rng) -> tuple[Array, Array | None]:
    """Weight and bias as torch starts them: Kaiming uniform with a = sqrt(5), which is 1 / sqrt(fan_in) for both."""
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype: found {dtype}, expected float32 or float64")
    rng = np.random.default_rng(rng)
    fan_in = math.prod(shape[1:])
    bound = 1 / np.sqrt(fan_in) if fan_in else 0.0
    weight = rng.uniform(-bound, bound, shape).astype(dtype)
    return weight, rng.uniform(-bound, bound, shape[0]).astype(dtype) if bias else None
