"""Columns of windows, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl.functional.verbs import Array
from fastdl.nn._arguments import example, extents, padding_of
from fastdl.nn._layer import Layer

__all__ = ["Fold", "Unfold"]

_SHARED = {
    "window": """
kernel_size : int or tuple of int
    The sizes of the window.
dilation : int or tuple of int
    The distance of its elements.
padding : int, tuple of int or tuple of pairs
    Zeros around the images.
stride : int or tuple of int
    The steps that the window makes."""
}


class _Windows(Layer):
    def _describe(self, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> None:
        self.kernel_size = extents(kernel_size, "kernel_size", 2, 1)
        self.dilation, self.stride = extents(dilation, "dilation", 2, 1), extents(stride, "stride", 2, 1)
        self.padding = padding_of(padding, 2, words=False)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


@doc(
    _SHARED,
    example(
        ">>> nn.Unfold(2)(np.arange(9.0).reshape(1, 1, 3, 3))[0, :, 0]  # the first window\narray([0., 1., 3., 4.])"
    ),
)
class Unfold(_Windows):
    """Every window of images as a column.

    The input is (batch, channels, height, width), the result (batch, channels * kernel_height * kernel_width,
    positions), positions row by row.

    Parameters
    ----------
    {window}

    See Also
    --------
    fastdl.im2col : The function.
    Fold : Its adjoint. torch.nn.Unfold.

    {example}
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        dilation: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | tuple[tuple[int, int], ...] = 0,
        stride: int | tuple[int, ...] = 1,
    ) -> None:
        self._describe(kernel_size, dilation, padding, stride)

    def forward(self, x: Any) -> Array:
        y = functions().im2col(x, self.kernel_size, self.dilation, self.padding, self.stride)
        self.save_for_backward(np.shape(x)[-2:])
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        options = self.kernel_size, self.dilation, self.padding, self.stride
        return functions().col2im(grad_output, *self.saved, *options)  # type: ignore[no-any-return]


@doc(
    _SHARED,
    example(
        ">>> nn.Fold(3, 2)(np.ones((1, 4, 4)))[0, 0]\narray([[1., 2., 1.],\n       [2., 4., 2.],\n       [1., 2., 1.]])"
    ),
)
class Fold(_Windows):
    """The sum of columns back into images: the adjoint of Unfold.

    The input is (batch, channels * kernel_height * kernel_width, positions), the result (batch, channels, height,
    width).

    Parameters
    ----------
    output_size : int or tuple of int
        Height and width of the images.
    {window}

    See Also
    --------
    fastdl.col2im : The function.
    Unfold : Its adjoint. torch.nn.Fold.

    {example}
    """

    def __init__(
        self,
        output_size: int | tuple[int, ...],
        kernel_size: int | tuple[int, ...],
        dilation: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | tuple[tuple[int, int], ...] = 0,
        stride: int | tuple[int, ...] = 1,
    ) -> None:
        self.output_size = extents(output_size, "output_size", 2, 1)
        self._describe(kernel_size, dilation, padding, stride)

    def forward(self, x: Any) -> Array:
        options = self.kernel_size, self.dilation, self.padding, self.stride
        y = functions().col2im(x, self.output_size, *options)
        self.save_for_backward()
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        options = self.kernel_size, self.dilation, self.padding, self.stride
        return functions().im2col(grad_output, *self.saved, *options)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"
