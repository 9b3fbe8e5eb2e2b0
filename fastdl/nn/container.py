"""Networks of layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastdl.nn.module import Module

__all__ = ["Sequential"]


class Sequential(Module):
    """Layers one after another. torch.nn.Sequential: layers, or one dict of named layers.

    Each is given what the one before returned: after a recurrent layer, which returns a pair, comes nn.Output()."""

    layers: dict[str, Module]

    def __init__(self, *layers: Any) -> None:
        named = layers[0] if len(layers) == 1 and isinstance(layers[0], Mapping) else dict(enumerate(layers))
        for name, layer in named.items():
            if not isinstance(layer, Module):
                raise TypeError(f"layers: found {type(layer).__name__} as {str(name)!r}, expected a Module")
        self.__dict__["layers"] = {str(name): layer for name, layer in named.items()}

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
