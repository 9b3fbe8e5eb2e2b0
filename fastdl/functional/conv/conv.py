"""Convolution of sequences, images and volumes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional._window import Padding, Pads, Pair, Triple, Volume, Window, out_sizes, window
from fastdl.functional.activation.elementwise import fused_activation
from fastdl.functional.conv._shared import (
    ALGORITHMS,
    PADDING_MODES,
    PRECISIONS,
    SHARED,
    Algorithm,
    ConvGrad,
    PaddingMode,
    Precision,
)
from fastdl.functional.padding import CONSTANT, check_borders
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    PackedConv2dWeight,
    channels_last,
    choice,
    conv_weight,
    disjoint,
    fail,
    flag,
    floats,
    floats_like,
    gradient,
    optional_like,
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
    "ConvGrad",
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv3d",
    "conv3d_backward",
]


@operation
@doc(SHARED)
def conv1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    data_format: Literal["NCL", "NLC"] = "NCL",
    algorithm: Algorithm = "auto",
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    residual: ArrayLike | None = None,
    out: Array | None = None,
    precision: Precision = "default",
) -> Array:
    """Convolution (cross-correlation) of sequences, with bias, residual and activation in one pass.

    ::

        y[n, k, i] = bias[k] + residual[n, k, i] + sum over c, r of
            weight[k, c, r] * x[n, c, i * stride - padding + r * dilation]

    then the activation; x is zero outside (or as padding_mode says), and c runs over the channels of k's group.
    torch.nn.functional.conv1d.

    Parameters
    ----------
    x : array of shape (batch, channels, length), or without the batch
        float32 or float64; channels last where data_format says so.
    weight : array of shape (out_channels, channels / groups, kernel_length)
        Of x's dtype.
    {bias}
    {window}
    {padding_mode}
    data_format : {"NCL", "NLC"}
        How x, residual and the result lie.
    {algorithm}
    {fused}
    {residual}
    {out}
    {precision}

    {conv_returns}

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.conv1d(np.array([[[1.0, 2.0, 4.0, 8.0]]]), np.array([[[-1.0, 1.0]]]))
    array([[[1., 2., 4.]]])
    """
    x = floats(x, "x")
    plain, packed, kernel, tile = conv_weight(weight, x, 3, groups, data_format)
    return _conv(
        x,
        plain,
        packed,
        kernel,
        tile,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        activation,
        activation_args,
        residual,
        out,
        precision,
    )


@operation
@doc(SHARED)
def conv1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: int | tuple[int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    data_format: Literal["NCL", "NLC"] = "NCL",
    algorithm: Algorithm = "auto",
    input_grad: bool = True,
    precision: Precision = "default",
) -> ConvGrad:
    """The gradients of conv1d (with activation "none").

    {conv_gradients}

    Parameters
    ----------
    grad_output : array
        As conv1d returns: the gradient of a loss by its result.
    x : array of shape (batch, channels, length), or without the batch
        As it was given to conv1d; float32 or float64.
    weight : array of shape (out_channels, channels / groups, kernel_length)
        Of x's dtype; not packed.
    {window}
    {padding_mode}
    data_format : {"NCL", "NLC"}
        How x and grad_output lie.
    {algorithm}
        A gradient that it does not compute is computed by "direct".
    {input_grad}
    {precision}

    {grads}

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((2, 3, 5)), np.ones((4, 3, 2))
    >>> grads = fastdl.conv1d_backward(np.ones((2, 4, 4)), x, weight)
    >>> grads.input.shape, grads.weight.shape, grads.bias
    ((2, 3, 5), (4, 3, 2), array([8., 8., 8., 8.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 3)
    grad_output = floats_like(grad_output, "grad_output", x)
    return _conv_backward(
        grad_output,
        x,
        weight,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        input_grad,
        precision,
    )


@operation
@doc(SHARED)
def conv2d(
    x: ArrayLike,
    weight: ArrayLike | PackedConv2dWeight,
    bias: ArrayLike | None = None,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    data_format: Literal["NCHW", "NHWC"] = "NCHW",
    algorithm: Algorithm = "auto",
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    residual: ArrayLike | None = None,
    out: Array | None = None,
    precision: Precision = "default",
) -> Array:
    """Convolution (cross-correlation) of images, with bias, residual and activation in one pass.

    ::

        y[n, k, i, j] = bias[k] + residual[n, k, i, j] + sum over c, r, s of
            weight[k, c, r, s] * x[n, c, i * stride - padding + r * dilation, j * stride - padding + s * dilation]

    then the activation; x is zero outside (or as padding_mode says), and c runs over the channels of k's group.
    torch.nn.functional.conv2d.

    Parameters
    ----------
    x : array of shape (batch, channels, height, width), or without the batch
        float32 or float64; channels last where data_format says so.
    weight : array of shape (out_channels, channels / groups, kernel_height, kernel_width) or PackedConv2dWeight
        Of x's dtype, or what pack_conv2d_weight made of it.
    {bias}
    {window}
    {padding_mode}
    data_format : {"NCHW", "NHWC"}
        How x, residual and the result lie.
    {algorithm}
    {fused}
    {residual}
    {out}
    {precision}

    {conv_returns}

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> fastdl.conv2d(x, np.ones((1, 1, 2, 2)), bias=np.array([0.5]))
    array([[[[ 8.5, 12.5],
             [20.5, 24.5]]]])
    >>> fastdl.conv2d(x, np.ones((1, 1, 3, 3)), stride=2, padding="same").shape
    (1, 1, 2, 2)
    """
    x = floats(x, "x")
    plain, packed, kernel, tile = conv_weight(weight, x, 4, groups, data_format)
    return _conv(
        x,
        plain,
        packed,
        kernel,
        tile,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        activation,
        activation_args,
        residual,
        out,
        precision,
    )


@operation
@doc(SHARED)
def conv2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    data_format: Literal["NCHW", "NHWC"] = "NCHW",
    algorithm: Algorithm = "auto",
    input_grad: bool = True,
    precision: Precision = "default",
) -> ConvGrad:
    """The gradients of conv2d (with activation "none").

    {conv_gradients}

    Parameters
    ----------
    grad_output : array
        As conv2d returns: the gradient of a loss by its result.
    x : array of shape (batch, channels, height, width), or without the batch
        As it was given to conv2d; float32 or float64.
    weight : array of shape (out_channels, channels / groups, kernel_height, kernel_width)
        Of x's dtype; not packed.
    {window}
    {padding_mode}
    data_format : {"NCHW", "NHWC"}
        How x and grad_output lie.
    {algorithm}
        A gradient that it does not compute is computed by "direct".
    {input_grad}
    {precision}

    {grads}

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((2, 3, 5, 5)), np.ones((4, 3, 2, 2))
    >>> grads = fastdl.conv2d_backward(np.ones((2, 4, 4, 4)), x, weight)
    >>> grads.input.shape, grads.weight.shape, grads.bias
    ((2, 3, 5, 5), (4, 3, 2, 2), array([32., 32., 32., 32.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 4)
    grad_output = floats_like(grad_output, "grad_output", x)
    return _conv_backward(
        grad_output,
        x,
        weight,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        input_grad,
        precision,
    )


@operation
@doc(SHARED)
def conv3d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Triple = 1,
    padding: Padding = 0,
    dilation: int | Triple = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    data_format: Literal["NCDHW", "NDHWC"] = "NCDHW",
    algorithm: Algorithm = "auto",
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    residual: ArrayLike | None = None,
    out: Array | None = None,
    precision: Precision = "default",
) -> Array:
    """Convolution (cross-correlation) of volumes, with bias, residual and activation in one pass.

    ::

        y[n, k, d, i, j] = bias[k] + residual[n, k, d, i, j] + sum over c, q, r, s of weight[k, c, q, r, s] *
            x[n, c, d * stride - padding + q * dilation, i * stride - padding + r * dilation,
              j * stride - padding + s * dilation]

    then the activation; x is zero outside (or as padding_mode says), and c runs over the channels of k's group.
    torch.nn.functional.conv3d.

    Parameters
    ----------
    x : array of shape (batch, channels, depth, height, width), or without the batch
        float32 or float64; channels last where data_format says so.
    weight : array of shape (out_channels, channels / groups, kernel_depth, kernel_height, kernel_width)
        Of x's dtype.
    {bias}
    {window}
    {padding_mode}
    data_format : {"NCDHW", "NDHWC"}
        How x, residual and the result lie.
    {algorithm}
    {fused}
    {residual}
    {out}
    {precision}

    {conv_returns}

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.conv3d(np.ones((1, 2, 4, 4, 4)), np.ones((3, 2, 3, 3, 3)), padding=1).shape
    (1, 3, 4, 4, 4)
    """
    x = floats(x, "x")
    plain, packed, kernel, tile = conv_weight(weight, x, 5, groups, data_format)
    return _conv(
        x,
        plain,
        packed,
        kernel,
        tile,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        activation,
        activation_args,
        residual,
        out,
        precision,
    )


@operation
@doc(SHARED)
def conv3d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: int | Triple = 1,
    padding: Padding = 0,
    dilation: int | Triple = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    data_format: Literal["NCDHW", "NDHWC"] = "NCDHW",
    algorithm: Algorithm = "auto",
    input_grad: bool = True,
    precision: Precision = "default",
) -> ConvGrad:
    """The gradients of conv3d (with activation "none").

    {conv_gradients}

    Parameters
    ----------
    grad_output : array
        As conv3d returns: the gradient of a loss by its result.
    x : array of shape (batch, channels, depth, height, width), or without the batch
        As it was given to conv3d; float32 or float64.
    weight : array of shape (out_channels, channels / groups, kernel_depth, kernel_height, kernel_width)
        Of x's dtype; not packed.
    {window}
    {padding_mode}
    data_format : {"NCDHW", "NDHWC"}
        How x and grad_output lie.
    {algorithm}
        A gradient that it does not compute is computed by "direct".
    {input_grad}
    {precision}

    {grads}

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((2, 3, 5, 5, 5)), np.ones((4, 3, 2, 2, 2))
    >>> grads = fastdl.conv3d_backward(np.ones((2, 4, 4, 4, 4)), x, weight)
    >>> grads.input.shape, grads.weight.shape, grads.bias
    ((2, 3, 5, 5, 5), (4, 3, 2, 2, 2), array([128., 128., 128., 128.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 5)
    grad_output = floats_like(grad_output, "grad_output", x)
    return _conv_backward(
        grad_output,
        x,
        weight,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        input_grad,
        precision,
    )


@helper
def _conv(
    x: Array,
    plain: Array | None,
    packed: Array | None,
    kernel: tuple[int, ...],
    tile: int,
    bias: ArrayLike | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
    data_format: str,
    algorithm: str,
    activation: str,
    activation_args: tuple[float, ...],
    residual: ArrayLike | None,
    out: Array | None,
    precision: str,
) -> Array:
    window, shape, codes, act = conv_geometry(
        x.shape,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        activation,
        activation_args,
        precision,
    )
    bias = optional_vector(bias, "bias", x, kernel[0])
    residual = optional_like(residual, "residual", x, shape)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "weight", plain)
        disjoint(result, "weight", packed)
        disjoint(result, "bias", bias)
        disjoint(result, "residual", residual)
    if padding_mode != "zeros":
        images = _bordered(x, kernel, stride, padding, dilation, padding_mode, data_format)
        _kernels.conv(
            images, plain, packed, bias, residual, result, window, tile, act[0], act[1], act[2], codes[0], codes[1]
        )
    else:
        _kernels.conv(
            x, plain, packed, bias, residual, result, window, tile, act[0], act[1], act[2], codes[0], codes[1]
        )
    return result


@helper
def _conv_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
    data_format: str,
    algorithm: str,
    input_grad: bool,
    precision: str,
) -> ConvGrad:
    window, shape, codes, _ = conv_geometry(
        x.shape,
        weight.shape,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        "none",
        (),
        precision,
    )
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = ConvGrad(gradient(x, flag(input_grad, "input_grad")), gradient(weight), np.empty(weight.shape[0], x.dtype))
    if padding_mode == "zeros":
        _kernels.conv_backward(
            grad_output, x, weight, result.input, result.weight, result.bias, window, codes[0], codes[1]
        )
        return result
    bordered = _bordered(x, weight.shape, stride, padding, dilation, padding_mode, data_format)
    grad = gradient(bordered, input_grad)
    _kernels.conv_backward(grad_output, bordered, weight, grad, result.weight, result.bias, window, codes[0], codes[1])
    if input_grad:
        kind = choice(padding_mode, "padding_mode", PADDING_MODES)
        geometry, _ = _borders(x.shape, weight.shape, stride, padding, dilation, kind, data_format)
        _kernels.pad_backward(grad, result.input, geometry, 5, kind)
    return result


@cached_helper
def conv_geometry(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
    data_format: str,
    algorithm: str,
    activation: str,
    activation_args: tuple[float, ...],
    precision: str,
) -> tuple[Window, tuple[int, ...], tuple[int, int], tuple[int, float, float]]:
    """The window (over x, or over x with the border that padding_mode makes), the shape of the result, and the numbers
    of algorithm and precision, and of the activation."""
    codes = choice(algorithm, "algorithm", ALGORITHMS), choice(precision, "precision", PRECISIONS)
    act = fused_activation(activation, activation_args)
    given, x = x, with_batch(x, "x", weight)
    last = channels_last(data_format, x)
    images, kernels = volume(x, last), volume(weight, 0)
    kernel, channels = kernels[2:], images[1]
    groups = triple(groups, "groups", 1, 1, (1, 1, 1))[2]
    if weight[0] % groups != 0:
        fail("groups", groups, ("a divisor of the out_channels", weight[0]))
    if weight[1] * groups != channels:
        fail(
            "weight",
            ("shape", weight, "and groups", groups, ", for", weight[1] * groups, "channels"),
            ("one for the", channels, "channels of x"),
        )
    if min(kernel[0], kernel[1], kernel[2]) < 1:
        fail("weight", weight, "a kernel of at least 1 x 1")
    steps, spread = triple(stride, "stride", 1, 1, x), triple(dilation, "dilation", 1, 1, x)
    around = pads(padding, "padding", x, kernel, steps, spread, images[2:])
    sizes = out_sizes(images[2:], kernel, steps, around, spread)
    shape = without_batch(volume_shape(x, x[0], weight[0], sizes, last), given, x)
    kind = choice(padding_mode, "padding_mode", PADDING_MODES)
    if kind != CONSTANT:
        _borders(x, weight, stride, padding, dilation, kind, data_format)  # refuses what it cannot make
        depth, height, width = _padded_sizes(images, around)
        images, around = (images[0], images[1], depth, height, width), (0, 0, 0, 0, 0, 0)
    return window(images, weight[0], sizes, kernel, steps, around, spread, groups, last), shape, codes, act


@helper
def _bordered(
    x: Array, weight: tuple[int, ...], stride: Any, padding: Any, dilation: Any, padding_mode: str, data_format: str
) -> Array:
    """x with the border that padding_mode makes."""
    kind = choice(padding_mode, "padding_mode", PADDING_MODES)
    geometry, shape = _borders(x.shape, weight, stride, padding, dilation, kind, data_format)
    result = np.empty(shape, x.dtype)
    _kernels.pad(x, result, geometry, 5, kind, 0.0)
    return result


@cached_helper
def _borders(
    x: tuple[int, ...], weight: tuple[int, ...], stride: Any, padding: Any, dilation: Any, kind: int, data_format: str
) -> tuple[Array, tuple[int, ...]]:
    """What the kernels of pad take, for x as a volume, and the shape of x with its border, with a batch."""
    x = with_batch(x, "x", weight)
    last = channels_last(data_format, x)
    images, kernel = volume(x, last), volume(weight, 0)[2:]
    steps, spread = triple(stride, "stride", 1, 1, x), triple(dilation, "dilation", 1, 1, x)
    around = pads(padding, "padding", x, kernel, steps, spread, images[2:])
    geometry = np.zeros((5, 3), np.int64)
    geometry[0, 0], geometry[4 if last else 1, 0] = images[0], images[1]
    for i in range(3):
        at = i + 1 if last else i + 2
        geometry[at, 0], geometry[at, 1], geometry[at, 2] = images[i + 2], around[i], around[i + 3]
    check_borders(geometry, "padding", kind)
    return geometry, volume_shape(x, images[0], images[1], _padded_sizes(images, around), last)


@helper
def _padded_sizes(images: Volume, around: Pads) -> Triple:
    return images[2] + around[0] + around[3], images[3] + around[1] + around[4], images[4] + around[2] + around[5]
