"""Changes of shape."""

from __future__ import annotations

import math
from typing import Any

from fastdl.functional.verbs import Array, fail, floats
from fastdl.nn._layer import Layer

__all__ = ["Flatten", "Unflatten"]


class Flatten(Layer):
    """The dimensions from start_dim to end_dim as one. torch.nn.Flatten.

    Parameters
    ----------
    start_dim, end_dim : int
        The first and the last of them; negative ones count from the end.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn
    >>> nn.Flatten()(np.ones((2, 3, 4, 5))).shape
    (2, 60)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = _dim(start_dim, "start_dim"), _dim(end_dim, "end_dim")

    def forward(self, x: Any) -> Array:
        array = floats(x, "x")
        start, end = (d + array.ndim if d < 0 else d for d in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < array.ndim:
            fail("x", f"shape {array.shape}", f"dimensions {self.start_dim} to {self.end_dim} in it")
        self.save_for_backward(array.shape)
        return array.reshape(*array.shape[:start], math.prod(array.shape[start : end + 1]), *array.shape[end + 1 :])

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return floats(grad_output, "grad_output").reshape(*self.saved)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Layer):
    """One dimension as several. torch.nn.Unflatten.

    Parameters
    ----------
    dim : int
        Which one.
    unflattened_size : tuple of int
        What it becomes; one of them may be -1, which is whatever is left.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn
    >>> nn.Unflatten(1, (3, 4, -1))(np.ones((2, 60))).shape
    (2, 3, 4, 5)
    """

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        self.dim = _dim(dim, "dim")
        if not isinstance(unflattened_size, (tuple, list)):
            raise TypeError(f"unflattened_size: found {type(unflattened_size).__name__}, expected a tuple of ints")
        self.unflattened_size = tuple(_dim(n, "unflattened_size") for n in unflattened_size)
        if not self.unflattened_size or min(self.unflattened_size) < -1 or self.unflattened_size.count(-1) > 1:
            fail("unflattened_size", unflattened_size, "sizes, at least one, of which one may be -1")

    def forward(self, x: Any) -> Array:
        array = floats(x, "x")
        dim = self.dim + array.ndim if self.dim < 0 else self.dim
        if not 0 <= dim < array.ndim:
            fail("x", f"shape {array.shape}", f"dimension {self.dim} in it")
        known = math.prod(n for n in self.unflattened_size if n != -1)
        size = array.shape[dim]
        if size != known if -1 not in self.unflattened_size else not known or size % known:
            fail("x", f"size {size} in dimension {self.dim}", f"one that is {self.unflattened_size}")
        sizes = (size // known if n == -1 else n for n in self.unflattened_size)
        self.save_for_backward(array.shape)
        return array.reshape(*array.shape[:dim], *sizes, *array.shape[dim + 1 :])

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return floats(grad_output, "grad_output").reshape(*self.saved)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


def _dim(value: Any, argument: str) -> int:
    try:
        return int(value.__index__()) if not isinstance(value, bool) else fail(argument, value, "an int")
    except AttributeError:
        raise TypeError(f"{argument}: found {value!r}, expected an int") from None
