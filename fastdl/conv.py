"""Convolution, and the im2col / col2im pair."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._arrays import (
    Array,
    choice,
    disjoint,
    fail,
    floats,
    floats_like,
    gradient,
    optional_vector,
    output,
    pair,
)
from fastdl._operation import helper, operation
from fastdl._window import Pair, Window, window2d
from fastdl.linear import ACTIVATIONS

ALGORITHMS = ("auto", "direct", "im2col", "winograd")
_WINOGRAD = ALGORITHMS.index("winograd")


class Conv2dGrad(NamedTuple):
    input: Array
    weight: Array
    bias: Array


@operation
def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    algorithm: str = "auto",
    activation: str = "none",
    out: Array | None = None,
) -> Array:
    """activation(conv(x, weight) + bias), the cross-correlation of torch.nn.functional.conv2d:

        y[n, k, i, j] = bias[k] + sum over c, r, s of
            weight[k, c, r, s] x[n, c, i stride - padding + r dilation, j stride - padding + s dilation]

    with x zero outside the image and c running over the channels of k's group.

    x: (batch, channels, height, width). weight: (out_channels, channels / groups, kernel_height, kernel_width).
    bias: (out_channels,). stride, padding, dilation: an int or (height, width).
    algorithm: "direct" packs cache-sized tiles of x on the fly; "im2col" builds the matrix of columns and
    multiplies (Chellapilla et al., 2006); "winograd" (3x3, stride 1, dilation 1, groups 1; Lavin and Gray, 2016) needs
    a quarter of the multiplications and has two to four times the rounding error; "auto" chooses.
    activation: "none" or "relu", applied while results are still in registers.
    Returns (batch, out_channels, out_height, out_width) with
    out = (size + 2 padding - dilation (kernel - 1) - 1) // stride + 1.
    """
    x = floats(x, "x", 4)
    weight = floats_like(weight, "weight", x, 4)
    window = _conv_window(x.shape, weight.shape, stride, padding, dilation, groups)
    bias = optional_vector(bias, "bias", x, weight.shape[0])
    result = output(out, (x.shape[0], weight.shape[0], window[5], window[6]), x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "weight", weight)
        disjoint(result, "bias", bias)
    _kernels.conv2d(
        x,
        weight,
        bias,
        result,
        window,
        choice(activation, "activation", ACTIVATIONS),
        _algorithm(algorithm, window),
    )
    return result


@operation
def conv2d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    algorithm: str = "auto",
    input_grad: bool = True,
) -> Conv2dGrad:
    """The gradients of conv2d (with activation "none") as (input, weight, bias).

    grad_output: as conv2d returns. algorithm: as for conv2d; "winograd" is for the gradient of the input, those of
    weight and bias are then "direct". Without input_grad, `input` is an empty array and is not computed.
    """
    x = floats(x, "x", 4)
    weight = floats_like(weight, "weight", x, 4)
    grad_output = floats_like(grad_output, "grad_output", x, 4)
    window = _conv_window(x.shape, weight.shape, stride, padding, dilation, groups)
    expected = (x.shape[0], weight.shape[0], window[5], window[6])
    if grad_output.shape != expected:
        fail("grad_output", grad_output.shape, expected)
    code = _algorithm(algorithm, window)
    result = Conv2dGrad(gradient(x, input_grad), gradient(weight), np.empty(weight.shape[0], x.dtype))
    _kernels.conv2d_backward(grad_output, x, weight, result.input, result.weight, result.bias, window, code)
    return result


@operation
def im2col(
    x: Any,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: int | Pair = 0,
    stride: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """Every window of x as a column. torch.nn.functional.unfold.

    x: (batch, channels, height, width). Returns (batch, channels kernel_height kernel_width, positions), where
    positions = out_height out_width, row by row.
    """
    x = floats(x, "x", 4)
    window = _unfold_window(x.shape, kernel_size, dilation, padding, stride)
    result = output(out, (x.shape[0], x.shape[1] * window[7] * window[8], window[5] * window[6]), x)
    if out is not None:
        disjoint(result, "x", x)
    _kernels.im2col(x, result, window)
    return result


@operation
def col2im(
    columns: Any,
    output_size: Pair,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: int | Pair = 0,
    stride: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """The sum of columns back into images, the adjoint (and so the backward) of im2col. torch.nn.functional.fold.

    columns: (batch, channels kernel_height kernel_width, positions). output_size: (height, width).
    Returns (batch, channels, height, width).
    """
    columns = floats(columns, "columns", 3)
    size = pair(output_size, "output_size", 1)
    kernel = pair(kernel_size, "kernel_size", 1)
    taps = kernel[0] * kernel[1]
    if columns.shape[1] % taps != 0:
        fail("columns", columns.shape, ("batch", "a multiple of", taps, "positions"))
    shape = (columns.shape[0], columns.shape[1] // taps, size[0], size[1])
    window = _unfold_window(shape, kernel, dilation, padding, stride)
    if columns.shape[2] != window[5] * window[6]:
        fail("columns", columns.shape, (columns.shape[0], columns.shape[1], window[5] * window[6]))
    result = output(out, shape, columns)
    if out is not None:
        disjoint(result, "columns", columns)
    _kernels.col2im(columns, result, window)
    return result


@helper
def _conv_window(
    x: tuple[int, int, int, int],
    weight: tuple[int, int, int, int],
    stride: int | Pair,
    padding: int | Pair,
    dilation: int | Pair,
    groups: int,
) -> Window:
    if groups < 1 or weight[0] % groups != 0:
        fail("groups", groups, ("a divisor of the out_channels", weight[0]))
    if weight[1] * groups != x[1]:
        fail("weight", weight, ("out_channels", ("channels / groups", x[1] / groups), "kernel_height", "kernel_width"))
    if weight[2] < 1 or weight[3] < 1:
        fail("weight", weight, "a kernel of at least 1 x 1")
    kernel = (weight[2], weight[3])
    strides, paddings = pair(stride, "stride", 1), pair(padding, "padding", 0)
    return window2d(x, weight[0], kernel, strides, paddings, pair(dilation, "dilation", 1), groups)


@helper
def _algorithm(algorithm: str, window: Window) -> int:
    """The value of the C enum; refuses "winograd" where the window is not one that it computes."""
    code = choice(algorithm, "algorithm", ALGORITHMS)
    if code == _WINOGRAD and window[7:] != (3, 3, 1, 1, window[11], window[12], 1, 1, 1):
        fail("algorithm", ("winograd", window[7:]), "kernel 3x3, stride 1, dilation 1 and groups 1 for winograd")
    return code


@helper
def _unfold_window(
    shape: tuple[int, int, int, int],
    kernel_size: int | Pair,
    dilation: int | Pair,
    padding: int | Pair,
    stride: int | Pair,
) -> Window:
    kernel = pair(kernel_size, "kernel_size", 1)
    strides, paddings = pair(stride, "stride", 1), pair(padding, "padding", 0)
    return window2d(shape, shape[1], kernel, strides, paddings, pair(dilation, "dilation", 1), 1)
