"""Borders."""

from __future__ import annotations

from typing import Any

from fastdl._backend import functions
from fastdl.functional.verbs import Array, borders, fail
from fastdl.nn.module import Spatial

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class _Pad(Spatial):
    """fastdl.pad. padding: an int for all sides, or (before, after) from the last dimension backwards."""

    mode: str = "constant"

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        sides = padding if isinstance(padding, (tuple, list)) else (padding,) * (2 * self.rank)
        borders(sides, "padding", (1,) * self.rank)
        if len(sides) != 2 * self.rank:
            fail("padding", padding, ("an int or", 2 * self.rank, "ints"))
        self.padding: tuple[int, ...] = tuple(sides)
        self.options: dict[str, Any] = {}

    def forward(self, x: Any) -> Array:
        self.save_for_backward()
        return functions().pad(x, self.padding, self.mode, **self.options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return functions().pad_backward(grad_output, *self.saved, self.padding, self.mode)


class _ConstantPad(_Pad):
    def __init__(self, padding: int | tuple[int, ...], value: float) -> None:
        super().__init__(padding)
        self.options = {"value": float(value)}


class ZeroPad1d(_Pad, rank=1):
    """torch.nn.ZeroPad1d."""


class ZeroPad2d(_Pad, rank=2):
    """torch.nn.ZeroPad2d."""


class ZeroPad3d(_Pad, rank=3):
    """torch.nn.ZeroPad3d."""


class ReflectionPad1d(_Pad, rank=1, mode="reflect"):
    """torch.nn.ReflectionPad1d."""


class ReflectionPad2d(_Pad, rank=2, mode="reflect"):
    """torch.nn.ReflectionPad2d."""


class ReflectionPad3d(_Pad, rank=3, mode="reflect"):
    """torch.nn.ReflectionPad3d."""


class ReplicationPad1d(_Pad, rank=1, mode="replicate"):
    """torch.nn.ReplicationPad1d."""


class ReplicationPad2d(_Pad, rank=2, mode="replicate"):
    """torch.nn.ReplicationPad2d."""


class ReplicationPad3d(_Pad, rank=3, mode="replicate"):
    """torch.nn.ReplicationPad3d."""


class CircularPad1d(_Pad, rank=1, mode="circular"):
    """torch.nn.CircularPad1d."""


class CircularPad2d(_Pad, rank=2, mode="circular"):
    """torch.nn.CircularPad2d."""


class CircularPad3d(_Pad, rank=3, mode="circular"):
    """torch.nn.CircularPad3d."""


class ConstantPad1d(_ConstantPad, rank=1):
    """torch.nn.ConstantPad1d."""


class ConstantPad2d(_ConstantPad, rank=2):
    """torch.nn.ConstantPad2d."""


class ConstantPad3d(_ConstantPad, rank=3):
    """torch.nn.ConstantPad3d."""
