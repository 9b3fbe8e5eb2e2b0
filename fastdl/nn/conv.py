"""Convolution and its transpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl.functional.conv import PADDING_MODES
from fastdl.functional.verbs import Array, choice, fail, floats, pads, triple
from fastdl.nn._parameters import initial, size_of
from fastdl.nn.module import Module, Rng, Spatial

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class _Conv(Spatial):
    """padding: also "same", "valid" or pairs. rng: a numpy Generator or a seed, for the initial values."""

    parameter_names = ("weight", "bias")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = np.float32,
        rng: Rng = None,
    ) -> None:
        for argument, channels in ("in_channels", in_channels), ("out_channels", out_channels):
            if size_of(groups, "groups") < 1 or size_of(channels, argument) % groups:
                fail(argument, channels, f"a multiple of groups, {groups}, which is at least 1")
        images = (1,) * (self.rank + 2)  # of whatever size
        kernel = triple(kernel_size, "kernel_size", 1, 1, images)
        steps, spread = triple(stride, "stride", 1, 1, images), triple(dilation, "dilation", 1, 1, images)
        pads(padding, "padding", images, kernel, steps, spread)
        choice(padding_mode, "padding_mode", PADDING_MODES)
        self.kernel_size = kernel[3 - self.rank :]
        self.options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.options["padding_mode"] = padding_mode
        self.weight, self.bias = initial((out_channels, in_channels // groups, *self.kernel_size), bias, dtype, rng)

    def forward(self, x: Any) -> Array:
        self.save_for_backward(x)
        return getattr(functions(), f"conv{self.rank}d")(x, self.weight, self.bias, **self.options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        conv_backward = getattr(functions(), f"conv{self.rank}d_backward")
        grad = conv_backward(grad_output, *self.saved, self.weight, **self.options, input_grad=input_grad)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input


class Conv1d(_Conv, rank=1):
    """fastdl.conv1d. torch.nn.Conv1d."""


class Conv2d(_Conv, rank=2):
    """fastdl.conv2d. torch.nn.Conv2d."""


class Conv3d(_Conv, rank=3):
    """fastdl.conv3d. torch.nn.Conv3d."""


class _ConvTranspose(Module):
    """What the three have in common; `rank` is the number of spatial dimensions."""

    parameter_names = ("weight", "bias")
    rank: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        dtype: Any = np.float32,
        rng: Rng = None,
    ) -> None:
        for argument, channels in ("in_channels", in_channels), ("out_channels", out_channels):
            if size_of(groups, "groups") < 1 or size_of(channels, argument) % groups:
                fail(argument, channels, f"a multiple of groups, {groups}, which is at least 1")
        like = (1,) * (2 + self.rank)
        self.kernel = triple(kernel_size, "kernel_size", 1, 1, like)[3 - self.rank :]
        self.options = {"stride": stride, "padding": padding, "output_padding": output_padding}
        self.options |= {"groups": groups, "dilation": dilation}
        shape = (in_channels, out_channels // groups, *self.kernel)
        self.weight, self.bias = initial(shape, bias, dtype, rng, out_channels)

    def forward(self, x: Any, output_size: Any = None) -> Array:
        """output_size: the sizes of the result, where the stride leaves a choice, in place of output_padding."""
        options = self.options if output_size is None else self.options | {"output_padding": self._more(x, output_size)}
        self.save_for_backward(x, options)
        return getattr(functions(), f"conv_transpose{self.rank}d")(x, self.weight, self.bias, **options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, options = self.saved
        function = getattr(functions(), f"conv_transpose{self.rank}d_backward")
        grad = function(grad_output, x, self.weight, **options, input_grad=input_grad)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input

    def _more(self, x: Any, output_size: Any) -> tuple[int, ...]:
        """The output_padding that gives output_size."""
        x = floats(x, "x", 2 + self.rank)
        first = 3 - self.rank
        stride, dilation = (triple(self.options[name], name, 1, 1, x.shape)[first:] for name in ("stride", "dilation"))
        around = pads(self.options["padding"], "padding", x.shape, (1, 1, 1), (1, 1, 1), (1, 1, 1))
        wanted = triple(output_size, "output_size", 1, 1, x.shape)[first:]
        least = tuple(
            (n - 1) * s + d * (k - 1) + 1 - before - after
            for n, k, s, d, before, after in zip(
                x.shape[2:], self.kernel, stride, dilation, around[first:3], around[3 + first :], strict=True
            )
        )
        if not all(0 <= w - n < s for w, n, s in zip(wanted, least, stride, strict=True)):
            fail("output_size", wanted, f"at least {least}, and less than the stride {stride} above it")
        return tuple(w - n for w, n in zip(wanted, least, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """fastdl.conv_transpose1d. torch.nn.ConvTranspose1d. rng: a numpy Generator or a seed, for the initial values."""

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """fastdl.conv_transpose2d. torch.nn.ConvTranspose2d. rng: a numpy Generator or a seed, for the initial values."""

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """fastdl.conv_transpose3d. torch.nn.ConvTranspose3d. rng: a numpy Generator or a seed, for the initial values."""

    rank = 3
