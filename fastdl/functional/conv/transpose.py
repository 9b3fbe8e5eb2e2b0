"""Transposed convolution of sequences, images and volumes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional._window import Padding, Pair, Triple, Window, bounded, transposed_size, window
from fastdl.functional.activation.elementwise import fused_activation
from fastdl.functional.conv._shared import PRECISIONS, SHARED, ConvGrad, Precision
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    choice,
    disjoint,
    fail,
    flag,
    floats,
    floats_like,
    gradient,
    optional_vector,
    output,
    pads,
    triple,
    volume,
    volume_shape,
    with_batch,
    without_batch,
)

__all__ = [
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "conv_transpose3d",
    "conv_transpose3d_backward",
]


@operation
@doc(SHARED)
def conv_transpose1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int] = 1,
    padding: Padding = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    out: Array | None = None,
    precision: Precision = "default",
) -> Array:
    """Transposed convolution of sequences: every input adds a weighted kernel to the output.

    ::

        y[n, k, i * stride - padding + r * dilation] += weight[c, k, r] * x[n, c, i]

    for all inputs and taps, and the channels c of k's group; then bias and activation. It is the gradient of conv1d
    with input and output in each other's place. torch.nn.functional.conv_transpose1d.

    Parameters
    ----------
    x : array of shape (batch, in_channels, length), or without the batch
        float32 or float64.
    weight : array of shape (in_channels, out_channels / groups, kernel_length)
        Of x's dtype.
    {bias}
    {transposed_window}
    {fused}
    {out}
    {precision}

    {transposed_returns}

    {conv_raises}

    {transposed_source}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.conv_transpose1d(np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0, 100.0]]]), stride=2)
    array([[[  1.,  10., 102.,  20., 200.]]])
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 3)
    return _conv_transpose(
        x, weight, bias, stride, padding, output_padding, groups, dilation, activation, activation_args, out, precision
    )


@operation
@doc(SHARED)
def conv_transpose1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: int | tuple[int] = 1,
    padding: Padding = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
    input_grad: bool = True,
    precision: Precision = "default",
) -> ConvGrad:
    """The gradients of conv_transpose1d (with activation "none").

    ::

        input  = conv1d(grad_output, weight), without output_padding
        weight = conv1d's gradient of the weights, with x and grad_output in each other's place
        bias   = sum over batch and positions of grad_output

    Parameters
    ----------
    grad_output : array
        As conv_transpose1d returns: the gradient of a loss by its result.
    x : array of shape (batch, in_channels, length), or without the batch
        As it was given to conv_transpose1d; float32 or float64.
    weight : array of shape (in_channels, out_channels / groups, kernel_length)
        Of x's dtype.
    {transposed_window}
    {input_grad}
    {precision}

    {grads}

    {conv_raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((1, 2, 3)), np.ones((2, 4, 2))
    >>> grads = fastdl.conv_transpose1d_backward(np.ones((1, 4, 6)), x, weight, stride=2)
    >>> grads.input.shape, grads.weight.shape, grads.bias
    ((1, 2, 3), (2, 4, 2), array([6., 6., 6., 6.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 3)
    grad_output = floats_like(grad_output, "grad_output", x)
    return _conv_transpose_backward(
        grad_output, x, weight, stride, padding, output_padding, groups, dilation, input_grad, precision
    )


@operation
@doc(SHARED)
def conv_transpose2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Pair = 1,
    padding: Padding = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    out: Array | None = None,
    precision: Precision = "default",
) -> Array:
    """Transposed convolution of images: every input adds a weighted kernel to the output.

    ::

        y[n, k, i * stride - padding + r * dilation, j * stride - padding + s * dilation] +=
            weight[c, k, r, s] * x[n, c, i, j]

    for all inputs and taps, and the channels c of k's group; then bias and activation. It is the gradient of conv2d
    with input and output in each other's place. torch.nn.functional.conv_transpose2d.

    Parameters
    ----------
    x : array of shape (batch, in_channels, height, width), or without the batch
        float32 or float64.
    weight : array of shape (in_channels, out_channels / groups, kernel_height, kernel_width)
        Of x's dtype.
    {bias}
    {transposed_window}
    {fused}
    {out}
    {precision}

    {transposed_returns}

    {conv_raises}

    {transposed_source}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.conv_transpose2d(np.ones((1, 8, 5, 5)), np.ones((8, 4, 4, 4)), stride=2, padding=1).shape
    (1, 4, 10, 10)
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 4)
    return _conv_transpose(
        x, weight, bias, stride, padding, output_padding, groups, dilation, activation, activation_args, out, precision
    )


@operation
@doc(SHARED)
def conv_transpose2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: int | Pair = 1,
    padding: Padding = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
    input_grad: bool = True,
    precision: Precision = "default",
) -> ConvGrad:
    """The gradients of conv_transpose2d (with activation "none").

    ::

        input  = conv2d(grad_output, weight), without output_padding
        weight = conv2d's gradient of the weights, with x and grad_output in each other's place
        bias   = sum over batch and positions of grad_output

    Parameters
    ----------
    grad_output : array
        As conv_transpose2d returns: the gradient of a loss by its result.
    x : array of shape (batch, in_channels, height, width), or without the batch
        As it was given to conv_transpose2d; float32 or float64.
    weight : array of shape (in_channels, out_channels / groups, kernel_height, kernel_width)
        Of x's dtype.
    {transposed_window}
    {input_grad}
    {precision}

    {grads}

    {conv_raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((1, 2, 3, 3)), np.ones((2, 4, 2, 2))
    >>> grads = fastdl.conv_transpose2d_backward(np.ones((1, 4, 6, 6)), x, weight, stride=2)
    >>> grads.input.shape, grads.weight.shape, grads.bias
    ((1, 2, 3, 3), (2, 4, 2, 2), array([36., 36., 36., 36.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 4)
    grad_output = floats_like(grad_output, "grad_output", x)
    return _conv_transpose_backward(
        grad_output, x, weight, stride, padding, output_padding, groups, dilation, input_grad, precision
    )


@operation
@doc(SHARED)
def conv_transpose3d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Triple = 1,
    padding: Padding = 0,
    output_padding: int | Triple = 0,
    groups: int = 1,
    dilation: int | Triple = 1,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    out: Array | None = None,
    precision: Precision = "default",
) -> Array:
    """Transposed convolution of volumes: every input adds a weighted kernel to the output.

    ::

        y[n, k, d * stride - padding + q * dilation, i * stride - padding + r * dilation,
          j * stride - padding + s * dilation] += weight[c, k, q, r, s] * x[n, c, d, i, j]

    for all inputs and taps, and the channels c of k's group; then bias and activation. It is the gradient of conv3d
    with input and output in each other's place. torch.nn.functional.conv_transpose3d.

    Parameters
    ----------
    x : array of shape (batch, in_channels, depth, height, width), or without the batch
        float32 or float64.
    weight : array of shape (in_channels, out_channels / groups, kernel_depth, kernel_height, kernel_width)
        Of x's dtype.
    {bias}
    {transposed_window}
    {fused}
    {out}
    {precision}

    {transposed_returns}

    {conv_raises}

    {transposed_source}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.conv_transpose3d(np.ones((1, 2, 3, 3, 3)), np.ones((2, 4, 2, 2, 2)), stride=2).shape
    (1, 4, 6, 6, 6)
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 5)
    return _conv_transpose(
        x, weight, bias, stride, padding, output_padding, groups, dilation, activation, activation_args, out, precision
    )


@operation
@doc(SHARED)
def conv_transpose3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: int | Triple = 1,
    padding: Padding = 0,
    output_padding: int | Triple = 0,
    groups: int = 1,
    dilation: int | Triple = 1,
    input_grad: bool = True,
    precision: Precision = "default",
) -> ConvGrad:
    """The gradients of conv_transpose3d (with activation "none").

    ::

        input  = conv3d(grad_output, weight), without output_padding
        weight = conv3d's gradient of the weights, with x and grad_output in each other's place
        bias   = sum over batch and positions of grad_output

    Parameters
    ----------
    grad_output : array
        As conv_transpose3d returns: the gradient of a loss by its result.
    x : array of shape (batch, in_channels, depth, height, width), or without the batch
        As it was given to conv_transpose3d; float32 or float64.
    weight : array of shape (in_channels, out_channels / groups, kernel_depth, kernel_height, kernel_width)
        Of x's dtype.
    {transposed_window}
    {input_grad}
    {precision}

    {grads}

    {conv_raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((1, 2, 3, 3, 3)), np.ones((2, 4, 2, 2, 2))
    >>> grads = fastdl.conv_transpose3d_backward(np.ones((1, 4, 6, 6, 6)), x, weight, stride=2)
    >>> grads.input.shape, grads.weight.shape, grads.bias
    ((1, 2, 3, 3, 3), (2, 4, 2, 2, 2), array([216., 216., 216., 216.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 5)
    grad_output = floats_like(grad_output, "grad_output", x)
    return _conv_transpose_backward(
        grad_output, x, weight, stride, padding, output_padding, groups, dilation, input_grad, precision
    )


@helper
def _conv_transpose(
    x: Array,
    weight: Array,
    bias: ArrayLike | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    activation: str,
    activation_args: tuple[float, ...],
    out: Array | None,
    precision: str,
) -> Array:
    window, shape, codes = _transposed_geometry(
        x.shape, weight.shape, stride, padding, output_padding, groups, dilation, precision
    )
    bias = optional_vector(bias, "bias", x, codes[0])
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "weight", weight)
        disjoint(result, "bias", bias)
    act = fused_activation(activation, activation_args)
    _kernels.conv_transpose(x, weight, bias, result, window, act[0], act[1], act[2], codes[1])
    return result


@helper
def _conv_transpose_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    input_grad: bool,
    precision: str,
) -> ConvGrad:
    window, shape, codes = _transposed_geometry(
        x.shape, weight.shape, stride, padding, output_padding, groups, dilation, precision
    )
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = ConvGrad(gradient(x, flag(input_grad, "input_grad")), gradient(weight), np.empty(codes[0], x.dtype))
    _kernels.conv_transpose_backward(grad_output, x, weight, result.input, result.weight, result.bias, window, codes[1])
    return result


@cached_helper
def _transposed_geometry(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    precision: str,
) -> tuple[Window, tuple[int, ...], tuple[int, int]]:
    """The window over the result, of the convolution whose output x is; the shape of the result; its channels, and the
    number of the precision."""
    code = choice(precision, "precision", PRECISIONS)
    given, x = x, with_batch(x, "x", weight)
    images, kernels = volume(x, 0), volume(weight, 0)
    kernel, sizes = kernels[2:], images[2:]
    groups = triple(groups, "groups", 1, 1, (1, 1, 1))[2]
    if x[1] % groups != 0:
        fail("groups", groups, ("a divisor of the in_channels", x[1]))
    if weight[0] != x[1]:
        fail("weight", ("shape", weight, ", for", weight[0], "channels"), ("one for the", x[1], "channels of x"))
    if min(kernel[0], kernel[1], kernel[2]) < 1:
        fail("weight", weight, "a kernel of at least 1 x 1")
    if min(sizes[0], sizes[1], sizes[2]) < 1:
        fail("x", x, "at least one position")
    steps, spread = triple(stride, "stride", 1, 1, x), triple(dilation, "dilation", 1, 1, x)
    more = triple(output_padding, "output_padding", 0, 0, x)
    around = pads(padding, "padding", x, kernel, steps, spread)
    around_most = (max(around[0], around[3]), max(around[1], around[4]), max(around[2], around[5]))
    bounded("weight", kernel, "stride", steps)
    bounded("dilation", spread, "padding", around_most)
    full = (
        transposed_size(sizes[0], kernel[0], steps[0], around[0] + around[3], spread[0], more[0]),
        transposed_size(sizes[1], kernel[1], steps[1], around[1] + around[4], spread[1], more[1]),
        transposed_size(sizes[2], kernel[2], steps[2], around[2] + around[5], spread[2], more[2]),
    )
    channels = weight[1] * groups
    result = (x[0], channels, full[0], full[1], full[2])
    shape = without_batch(volume_shape(x, x[0], channels, full, 0), given, x)
    return window(result, x[1], sizes, kernel, steps, around, spread, groups, 0), shape, (channels, code)
