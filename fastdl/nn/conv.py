"""Convolution and its transpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl.functional._window import Triple
from fastdl.functional.conv._shared import PADDING_MODES, PRECISIONS, Precision
from fastdl.functional.verbs import Array, fail, flag, floats, pads, triple
from fastdl.nn._arguments import (
    blame_input,
    data_format_of,
    each,
    example,
    one_of,
    padding_of,
    size_of,
)
from fastdl.nn._layer import Layer
from fastdl.nn._parameters import PARAMETERS, initial
from fastdl.nn.module import Rng

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

_SHARED = {
    **PARAMETERS,
    "channels": """
in_channels, out_channels : int
    Channels of the input and of the result; multiples of `groups`.
kernel_size, stride, dilation : int or tuple of int
    The size of the kernel, the steps that it makes, and the distance of its taps; one number, or one a dimension.""",
    "groups": """
groups : int
    Channels are cut into so many groups, each convolved by itself.
bias : bool
    Whether a learned value is added to each channel of the result.""",
    "precision": """
precision : {"default", "fast", "exact"}
    As the function's, of every pass: "exact" keeps Winograd's algorithms out.""",
    "conv": """
Parameters
----------
{channels}
padding : int, tuple of int, tuple of pairs, "valid", "same" or "same_lower"
    Elements added on both sides, one number for all dimensions or one each; pairs are (before, after). "valid" adds
    none, "same" as many as give ``ceil(size / stride)`` positions, the odd one after, "same_lower" before. (torch has
    "same" at stride 1 only, and no "same_lower".)
{groups}
padding_mode : {"zeros", "reflect", "replicate", "circular"}
    What the padding consists of.
{dtype}
{rng}
data_format : str, optional
    The order of the dimensions of input and result: channels first, which is the default, or last.
{precision}

Attributes
----------
weight : (out_channels, in_channels / groups, *kernel_size) array
bias : (out_channels,) array or None
    Both start uniform in ``[-1, 1] / sqrt(in_channels / groups * prod(kernel_size))``.""",
    "transpose": """
Parameters
----------
{channels}
padding : int or tuple of int
    What the convolution that this is the transpose of would add, and so what is taken off the full result.
output_padding : int or tuple of int
    Added to the result's size at its end, where the stride leaves a choice; less than stride or dilation.
{groups}
padding_mode : {"zeros"}
{dtype}
{rng}
{precision}

Attributes
----------
weight : (in_channels, out_channels / groups, *kernel_size) array
bias : (out_channels,) array or None
    Both start uniform in ``[-1, 1] / sqrt(out_channels / groups * prod(kernel_size))``.

Notes
-----
The result has ``(size - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1`` elements in
each dimension; ``layer(x, output_size)`` chooses the output_padding that gives those sizes.""",
}


class _Convolution(Layer):
    """What both families share."""

    parameter_names = ("weight", "bias")
    weight: Array
    bias: Array | None
    data_format = ""

    def _describe(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        output_padding: Any,
        groups: int,
        padding_mode: str,
        precision: Precision,
        sizes: Triple,
    ) -> None:
        """Check the arguments, and keep them as torch's attributes. sizes: of some image, 0 where they are not known
        (what "same" with a stride depends on)."""
        self.groups = size_of(groups, "groups", 1)
        for argument, channels in ("in_channels", in_channels), ("out_channels", out_channels):
            if size_of(channels, argument) % groups:
                fail(argument, channels, f"a multiple of groups, {groups}")
        self.in_channels, self.out_channels = int(in_channels), int(out_channels)
        self.kernel_size = each(kernel_size, "kernel_size", self.rank, 1)
        self.stride, self.dilation = each(stride, "stride", self.rank, 1), each(dilation, "dilation", self.rank, 1)
        self.output_padding = each(output_padding, "output_padding", self.rank, 0)
        images = (1,) * (self.rank + 2)  # of whatever size
        kernel, steps, spread = (
            triple(value, "kernel_size", 1, 1, images) for value in (self.kernel_size, self.stride, self.dilation)
        )
        pads(padding, "padding", images, kernel, steps, spread, sizes)
        padding = padding_of(padding, self.rank, words=True)
        self.padding = (padding,) * self.rank if isinstance(padding, int) else padding
        self.padding_mode = padding_mode
        self.precision = one_of(precision, "precision", PRECISIONS)

    def _blame(self, x: Any) -> None:
        """After a mistake: what x has to do with it."""
        dim = -1 if self.data_format[-1:] == "C" else -1 - self.rank
        blame_input(x, self.weight.dtype, self.in_channels, dim, "channels", self.data_format)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}", f"kernel_size={self.kernel_size}", f"stride={self.stride}"]
        for name, usual in ("padding", (0,)), ("dilation", (1,)), ("output_padding", (0,)):
            if getattr(self, name) != usual * self.rank:
                parts.append(f"{name}={getattr(self, name)}")
        parts += [f"groups={self.groups}"] * (self.groups != 1) + ["bias=False"] * (self.bias is None)
        parts += [f"padding_mode={self.padding_mode}"] * (self.padding_mode != "zeros")
        parts += [f"data_format={self.data_format}"] * self.data_format.endswith("C")
        parts += [f"precision={self.precision}"] * (self.precision != "default")
        return ", ".join(parts)


class _Conv(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: str | int | tuple[int, ...] | tuple[tuple[int, int], ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = np.float32,
        rng: Rng = None,
        *,
        data_format: str | None = None,
        precision: Precision = "default",
    ) -> None:
        one_of(padding_mode, "padding_mode", PADDING_MODES)
        self.data_format = data_format_of(data_format, self.rank)
        sizes = in_channels, out_channels, kernel_size, stride, padding, dilation
        self._describe(*sizes, 0, groups, padding_mode, precision, (1, 1, 1))
        shape = (self.out_channels, self.in_channels // groups, *self.kernel_size)
        self.weight, self.bias = initial(shape, flag(bias, "bias"), dtype, rng)

    def forward(self, x: Any) -> Array:
        try:
            y = getattr(functions(), self.function)(
                x,
                self.weight,
                self.bias,
                self.stride,
                self.padding,
                self.dilation,
                self.groups,
                self.padding_mode,
                self.data_format,
                precision=self.precision,
            )
        except (TypeError, ValueError):
            self._blame(x)
            raise
        self.save_for_backward(x)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        grad = getattr(functions(), self.function_backward)(
            grad_output,
            *self.saved,
            self.weight,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.padding_mode,
            self.data_format,
            input_grad=input_grad,
            precision=self.precision,
        )
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input  # type: ignore[no-any-return]


@doc(_SHARED, example(">>> nn.Conv1d(3, 8, 5, padding=2)(np.ones((1, 3, 20), np.float32)).shape\n(1, 8, 20)"))
class Conv1d(_Conv, rank=1, function="conv1d"):
    """Convolution of sequences, (batch, channels, length): each channel of the result is a sum of the input's, each
    filtered by a kernel of its own.

    {conv}

    See Also
    --------
    fastdl.conv1d : The formula, and what else there is. torch.nn.Conv1d.

    {example}
    """


@doc(
    _SHARED,
    example(
        """
>>> nn.Conv2d(3, 8, 5, stride=2, padding=2)(np.ones((1, 3, 20, 30), np.float32)).shape
(1, 8, 10, 15)
>>> nn.Conv2d(3, 8, 3, data_format="NHWC")(np.ones((1, 20, 30, 3), np.float32)).shape
(1, 18, 28, 8)
"""
    ),
)
class Conv2d(_Conv, rank=2, function="conv2d"):
    """Convolution of images, (batch, channels, height, width): each channel of the result is a sum of the input's,
    each filtered by a kernel of its own.

    {conv}

    See Also
    --------
    fastdl.conv2d : The formula, and what else there is. torch.nn.Conv2d.

    {example}
    """


@doc(_SHARED, example(">>> nn.Conv3d(3, 8, 3)(np.ones((1, 3, 5, 6, 7), np.float32)).shape\n(1, 8, 3, 4, 5)"))
class Conv3d(_Conv, rank=3, function="conv3d"):
    """Convolution of volumes, (batch, channels, depth, height, width): each channel of the result is a sum of the
    input's, each filtered by a kernel of its own.

    {conv}

    See Also
    --------
    fastdl.conv3d : The formula, and what else there is. torch.nn.Conv3d.

    {example}
    """


class _ConvTranspose(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | tuple[tuple[int, int], ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        padding_mode: str = "zeros",
        dtype: Any = np.float32,
        rng: Rng = None,
        *,
        precision: Precision = "default",
    ) -> None:
        one_of(padding_mode, "padding_mode", ("zeros",))
        sizes = in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding
        self._describe(*sizes, groups, padding_mode, precision, (0, 0, 0))
        if any(m >= max(s, d) for m, s, d in zip(self.output_padding, self.stride, self.dilation, strict=True)):
            fail("output_padding", output_padding, ("less than stride,", self.stride, "or dilation,", self.dilation))
        shape = (self.in_channels, self.out_channels // groups, *self.kernel_size)
        self.weight, self.bias = initial(shape, flag(bias, "bias"), dtype, rng, self.out_channels)

    def forward(self, x: Any, output_size: int | tuple[int, ...] | None = None) -> Array:
        """output_size: the sizes of the result, where the stride leaves a choice, in place of output_padding."""
        more = self.output_padding if output_size is None else self._more(x, output_size)
        try:
            y = getattr(functions(), self.function)(
                x,
                self.weight,
                self.bias,
                self.stride,
                self.padding,
                more,
                self.groups,
                self.dilation,
                precision=self.precision,
            )
        except (TypeError, ValueError):
            self._blame(x)
            raise
        self.save_for_backward(x, more)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, more = self.saved
        options = self.stride, self.padding, more, self.groups, self.dilation
        grad = getattr(functions(), self.function_backward)(
            grad_output, x, self.weight, *options, input_grad=input_grad, precision=self.precision
        )
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input  # type: ignore[no-any-return]

    def _more(self, x: Any, output_size: Any) -> tuple[int, ...]:
        """The output_padding that gives output_size."""
        x = floats(x, "x")
        if x.ndim not in (self.rank + 1, self.rank + 2):
            fail("x", ("shape", x.shape), (self.rank + 1, "or", self.rank + 2, "dimensions"))
        if isinstance(output_size, (tuple, list)) and len(output_size) == x.ndim > self.rank:
            output_size = output_size[-self.rank :]
        images = (1,) * (self.rank + 2)
        around = pads(self.padding, "padding", images, (1, 1, 1), (1, 1, 1), (1, 1, 1))
        wanted = each(output_size, "output_size", self.rank, 1)
        first = 3 - self.rank
        least = tuple(
            (n - 1) * s + d * (k - 1) + 1 - before - after
            for n, k, s, d, before, after in zip(
                x.shape[-self.rank :],
                self.kernel_size,
                self.stride,
                self.dilation,
                around[first:3],
                around[3 + first :],
                strict=True,
            )
        )
        if not all(0 <= w - n < s for w, n, s in zip(wanted, least, self.stride, strict=True)):
            fail("output_size", wanted, f"at least {least}, and less than the stride {self.stride} above it")
        return tuple(w - n for w, n in zip(wanted, least, strict=True))


@doc(_SHARED, example(">>> nn.ConvTranspose1d(3, 8, 4, stride=2)(np.ones((1, 3, 9), np.float32)).shape\n(1, 8, 20)"))
class ConvTranspose1d(_ConvTranspose, rank=1, function="conv_transpose1d"):
    """Transposed convolution of sequences, (batch, channels, length): what the gradient of a convolution does, used to
    make them longer.

    {transpose}

    See Also
    --------
    fastdl.conv_transpose1d, torch.nn.ConvTranspose1d

    {example}
    """


@doc(
    _SHARED,
    example(
        """
>>> up, x = nn.ConvTranspose2d(3, 8, 3, stride=2), np.ones((1, 3, 9, 9), np.float32)
>>> up(x).shape, up(x, 20).shape
((1, 8, 19, 19), (1, 8, 20, 20))
"""
    ),
)
class ConvTranspose2d(_ConvTranspose, rank=2, function="conv_transpose2d"):
    """Transposed convolution of images, (batch, channels, height, width): what the gradient of a convolution does,
    used to make them larger.

    {transpose}

    See Also
    --------
    fastdl.conv_transpose2d, torch.nn.ConvTranspose2d

    {example}
    """


@doc(
    _SHARED,
    example(">>> nn.ConvTranspose3d(1, 2, 2, stride=2)(np.ones((1, 1, 3, 4, 5), np.float32)).shape\n(1, 2, 6, 8, 10)"),
)
class ConvTranspose3d(_ConvTranspose, rank=3, function="conv_transpose3d"):
    """Transposed convolution of volumes, (batch, channels, depth, height, width): what the gradient of a convolution
    does, used to make them larger.

    {transpose}

    See Also
    --------
    fastdl.conv_transpose3d, torch.nn.ConvTranspose3d

    {example}
    """
