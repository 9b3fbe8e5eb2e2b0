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

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import numpy as np

from fastdl.functional.verbs import Array, view

__all__ = ["Module"]


Self = TypeVar("Self", bound="Module")


Rng: TypeAlias = "np.random.Generator | int | None"  # in words: numpy.random is slow to import


class Module:
    """A layer or a network of layers.

    Attributes that are Modules are its children; their parameters are named "child.parameter", as in torch.
    What forward was given is kept, not copied, until the next forward: change it only after backward.
    """

    parameter_names: tuple[str, ...] = ()
    """Attributes that are parameters: arrays, or None."""
    buffer_names: tuple[str, ...] = ()
    """Attributes that belong to the state as well, but are not trained: arrays, or None."""
    elementwise: bool = False
    """Whether each element of the result depends on the same element of the input only."""
    training: bool = True
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    """backward(grad_output, input_grad=True) returns the gradient of forward's input and fills `grads`.
    Without input_grad, which the first layer of a network does not need, what it returns means nothing."""

    _saved: tuple[Any, ...] | None = None
    _grads: Mapping[str, Array] = MappingProxyType({})

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

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
        return self._collect(lambda module: module._named(module.parameter_names))

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters and buffers, by torch's names."""
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy into the parameters and buffers what state_dict() of this class, or of the same torch network, returned.

        They keep their dtype. Every key and shape is checked first: after an error nothing has changed.
        """
        parameters = self._state()
        problems = [f"missing {name!r}" for name in parameters if name not in state]
        problems += [f"unexpected {name!r}" for name in state if name not in parameters]
        values = {name: view(state[name], name) for name in parameters if name in state}
        for name, value in values.items():
            if value.shape != parameters[name].shape:
                problems.append(f"{name!r}: found shape {value.shape}, expected {parameters[name].shape}")
            if value.dtype.kind not in ("f" if parameters[name].dtype.kind == "f" else "iu"):
                expected = "a floating-point one" if parameters[name].dtype.kind == "f" else "integers"
                problems.append(f"{name!r}: found dtype {value.dtype}, expected {expected}")
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

    def _named(self, names: tuple[str, ...]) -> dict[str, Array]:
        return {name: array for name in names if (array := getattr(self, name)) is not None}

    def _state(self) -> dict[str, Array]:
        return self._collect(lambda module: module._named(module.parameter_names + module.buffer_names))

    def _collect(self, own: Callable[[Module], Mapping[str, Array]]) -> dict[str, Array]:
        found = dict(own(self))
        for prefix, child in self.children().items():
            found.update({f"{prefix}.{name}": array for name, array in child._collect(own).items()})
        return found


class Spatial(Module):
    """What exists for sequences, images and volumes; says which, and what else tells subclasses apart."""

    rank: int

    def __init_subclass__(cls, **constants: Any) -> None:
        for name, value in constants.items():
            setattr(cls, name, value)
