"""Columns of windows, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl.functional._window import Pair
from fastdl.functional.verbs import Array
from fastdl.nn.module import Module

__all__ = ["Fold", "Unfold"]


class Unfold(Module):
    """fastdl.im2col. torch.nn.Unfold."""

    def __init__(
        self, kernel_size: int | Pair, dilation: int | Pair = 1, padding: Any = 0, stride: int | Pair = 1
    ) -> None:
        self.options = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}

    def forward(self, x: Any) -> Array:
        self.save_for_backward(np.shape(x)[2:])
        return functions().im2col(x, **self.options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return functions().col2im(grad_output, *self.saved, **self.options)


class Fold(Module):
    """fastdl.col2im. torch.nn.Fold."""

    def __init__(
        self,
        output_size: int | Pair,
        kernel_size: int | Pair,
        dilation: int | Pair = 1,
        padding: Any = 0,
        stride: int | Pair = 1,
    ) -> None:
        self.output_size = output_size
        self.options = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}

    def forward(self, x: Any) -> Array:
        self.save_for_backward()
        return functions().col2im(x, self.output_size, **self.options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return functions().im2col(grad_output, *self.saved, **self.options)
