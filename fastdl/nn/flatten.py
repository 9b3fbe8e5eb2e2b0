"""Changes of shape."""

from __future__ import annotations

import math
from typing import Any

from fastdl.functional.verbs import Array, fail, floats
from fastdl.nn.module import Module

__all__ = ["Flatten"]


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
