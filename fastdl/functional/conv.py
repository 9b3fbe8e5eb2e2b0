"""Convolution, its transpose, and the im2col / col2im pair."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional._window import Pads, Pair, Triple, Volume, Window, bounded, out_sizes, transposed_size, window
from fastdl.functional.activation import fused_activation
from fastdl.functional.padding import CONSTANT, check_borders
from fastdl.functional.verbs import (
    Array,
    PackedConv2dWeight,
    channels_last,
    choice,
    conv_weight,
    disjoint,
    fail,
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
)

__all__ = [
    "ConvGrad",
    "PackedConv2dWeight",
    "col2im",
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv3d",
    "conv3d_backward",
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "conv_transpose3d",
    "conv_transpose3d_backward",
    "im2col",
    "pack_conv2d_weight",
]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")  # as those of pad
ALGORITHMS = _kernels.ALGORITHM_NAMES
_WINOGRAD, _WINOGRAD_2X2 = _kernels.ALGORITHM_WINOGRAD, _kernels.ALGORITHM_WINOGRAD_2X2
_ANY_TILE = 6  # for fdl_conv_plan: weights that are still to be packed
_IMAGES = (1, 1, 1, 1)  # of whatever size: as many dimensions as images have


class ConvGrad(NamedTuple):
    input: Array
    weight: Array
    bias: Array


@operation
def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "NCL",
    algorithm: str = "auto",
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    residual: Any = None,
    out: Array | None = None,
) -> Array:
    """conv2d in one dimension: x (batch, channels, length), weight (out_channels, channels / groups, kernel_length).

    Arguments as for conv2d; data_format: "NCL" or "NLC"; padding may also be ((before, after),).
    torch.nn.functional.conv1d.
    """
    x = floats(x, "x", 3)
    return _conv(
        x,
        weight,
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
    )


@operation
def conv1d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "NCL",
    algorithm: str = "auto",
    input_grad: bool = True,
) -> ConvGrad:
    """The gradients of conv1d (with activation "none") as (input, weight, bias); see conv2d_backward."""
    x = floats(x, "x", 3)
    weight = floats_like(weight, "weight", x, 3)
    grad_output = floats_like(grad_output, "grad_output", x, 3)
    return _conv_backward(
        grad_output, x, weight, stride, padding, dilation, groups, padding_mode, data_format, algorithm, input_grad
    )


@operation
def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Pair = 1,
    padding: Any = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "NCHW",
    algorithm: str = "auto",
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    residual: Any = None,
    out: Array | None = None,
) -> Array:
    """activation(conv(x, weight) + bias + residual), the cross-correlation of torch.nn.functional.conv2d:

        y[n, k, i, j] = bias[k] + residual[n, k, i, j] + sum over c, r, s of
            weight[k, c, r, s] x[n, c, i stride - padding + r dilation, j stride - padding + s dilation]

    with x zero outside the image (or as padding_mode says) and c running over the channels of k's group.

    x: (batch, channels, height, width). weight: (out_channels, channels / groups, kernel_height, kernel_width).
    bias: (out_channels,). residual: as the result.
    stride, dilation: an int or (height, width). padding: the same, or ((top, bottom), (left, right)), or "valid" (none)
    or "same" (as many positions as the input has; for stride 1; the odd one goes after).
    padding_mode: "zeros", or what stands in the border instead: "reflect", "replicate" or "circular", as pad makes it.
    data_format: "NCHW", or "NHWC" for x, residual and result of shape (batch, height, width, channels).
    weight may also be what pack_conv2d_weight made of one.
    algorithm: "auto" chooses (explain_conv2d tells what and why); else one by name, where it applies: "direct" packs
    cache-sized tiles of x on the fly; "im2col" builds the matrix of columns and multiplies (Chellapilla et al., 2006);
    "pointwise" is the product that a 1x1 kernel is; "rows" reads shifted rows of a padded copy; "winograd" (tiles of
    4x4) and "winograd_2x2" (3x3, stride 1, dilation 1, groups 1; Lavin and Gray, 2016) need a quarter and 4/9 of the
    multiplications, with two to four times and about the same rounding error; "depthwise" (one channel in each group)
    multiplies no matrices.
    activation: the name of an elementwise function ("relu", "leaky_relu", "gelu", "gelu_tanh", ...) or "none", applied
    while results are still in registers or first-level cache; activation_args: its arguments in order, torch's defaults
    where they end: activation="leaky_relu", activation_args=(0.2,).
    Returns (batch, out_channels, out_height, out_width) with
    out = (size + padding before and after - dilation (kernel - 1) - 1) // stride + 1.
    """
    x = floats(x, "x", 4)
    return _conv(
        x,
        weight,
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
    )


@operation
def conv2d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | Pair = 1,
    padding: Any = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "NCHW",
    algorithm: str = "auto",
    input_grad: bool = True,
) -> ConvGrad:
    """The gradients of conv2d (with activation "none") as (input, weight, bias); that of residual is grad_output.

    grad_output: as conv2d returns. algorithm: as for conv2d; "winograd_2x2" is for the gradient of the input, as is
    "winograd" where the channels are last; that of weight is then "direct". Without input_grad, `input` is an empty
    array and is not computed.
    """
    x = floats(x, "x", 4)
    weight = floats_like(weight, "weight", x, 4)
    grad_output = floats_like(grad_output, "grad_output", x, 4)
    return _conv_backward(
        grad_output, x, weight, stride, padding, dilation, groups, padding_mode, data_format, algorithm, input_grad
    )


@operation
def conv3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Triple = 1,
    padding: Any = 0,
    dilation: int | Triple = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "NCDHW",
    algorithm: str = "auto",
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    residual: Any = None,
    out: Array | None = None,
) -> Array:
    """conv2d in three dimensions: x (batch, channels, depth, height, width), weight (out_channels, channels / groups,
    kernel_depth, kernel_height, kernel_width).

    Arguments as for conv2d, three numbers where it has two; data_format: "NCDHW" or "NDHWC".
    torch.nn.functional.conv3d.
    """
    x = floats(x, "x", 5)
    return _conv(
        x,
        weight,
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
    )


@operation
def conv3d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | Triple = 1,
    padding: Any = 0,
    dilation: int | Triple = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    data_format: str = "NCDHW",
    algorithm: str = "auto",
    input_grad: bool = True,
) -> ConvGrad:
    """The gradients of conv3d (with activation "none") as (input, weight, bias); see conv2d_backward."""
    x = floats(x, "x", 5)
    weight = floats_like(weight, "weight", x, 5)
    grad_output = floats_like(grad_output, "grad_output", x, 5)
    return _conv_backward(
        grad_output, x, weight, stride, padding, dilation, groups, padding_mode, data_format, algorithm, input_grad
    )


@helper
def _conv(
    x: Array,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
    data_format: str,
    algorithm: str,
    activation: str,
    activation_args: tuple[float, ...],
    residual: Any,
    out: Array | None,
) -> Array:
    plain, packed, kernel, tile = conv_weight(weight, x, groups, data_format)
    window, shape, code, act = _geometry(
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
        x = _bordered(x, kernel, stride, padding, dilation, padding_mode, data_format)
    _kernels.conv(x, plain, packed, bias, residual, result, window, tile, act[0], act[1], act[2], code)
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
) -> ConvGrad:
    window, shape, code, _ = _geometry(
        x.shape, weight.shape, stride, padding, dilation, groups, padding_mode, data_format, algorithm, "none", ()
    )
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = ConvGrad(gradient(x, input_grad), gradient(weight), np.empty(weight.shape[0], x.dtype))
    if padding_mode == "zeros":
        _kernels.conv_backward(grad_output, x, weight, result.input, result.weight, result.bias, window, code)
        return result
    bordered = _bordered(x, weight.shape, stride, padding, dilation, padding_mode, data_format)
    grad = gradient(bordered, input_grad)
    _kernels.conv_backward(grad_output, bordered, weight, grad, result.weight, result.bias, window, code)
    if input_grad:
        kind = choice(padding_mode, "padding_mode", PADDING_MODES)
        geometry, _ = _borders(x.shape, weight.shape, stride, padding, dilation, kind, data_format)
        _kernels.pad_backward(grad, result.input, geometry, 5, kind)
    return result


@helper
def pack_conv2d_weight(
    weight: Any,
    stride: int | Pair = 1,
    padding: Any = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    algorithm: str = "auto",
    x_shape: tuple[int, int, int, int] | None = None,
) -> PackedConv2dWeight:
    """The weight in the layout that conv2d's kernels read, for repeated calls with the same weight (inference).

    Arguments as conv2d will be given them; conv2d then takes the result in place of the weight, also with images of
    another size. Where `algorithm` is "winograd" or "winograd_2x2", the weights are transformed for it as well; where
    it is "auto", they are if that pays for x of shape x_shape (None: large images). The copy is independent of
    `weight`, good on every instruction-set level, and up to about 5 times as large (3x3, transformed).
    The gradients (conv2d_backward) need the plain weight.
    """
    weight = floats(weight, "weight", 4)
    shape = _large_images(weight.shape, dilation, groups, data_format) if x_shape is None else x_shape
    window, _, code, _ = _geometry(
        shape, weight.shape, stride, padding, dilation, groups, "zeros", data_format, algorithm, "none", ()
    )
    found = np.zeros(1, np.int64)
    found[0] = code
    _kernels.conv_plan(weight, found, window, _ANY_TILE)
    tile = 0 if window.channels_last else 4 if found[0] == _WINOGRAD else 2 if found[0] == _WINOGRAD_2X2 else 0
    _kernels.conv_packed_size(weight, found, window, tile)
    data = np.empty(found[0], weight.dtype)
    _kernels.conv_pack(weight, data, window, tile)
    return PackedConv2dWeight(data, weight.shape, groups, window.channels_last, tile)


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
    """What the kernels of pad take, for x as a volume, and the shape of x with its border."""
    last = channels_last(data_format, x)
    images, kernel = volume(x, last), volume(weight, 0)[2:]
    around = pads(
        padding, "padding", x, kernel, triple(stride, "stride", 1, 1, x), triple(dilation, "dilation", 1, 1, x)
    )
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


@operation
def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    out: Array | None = None,
) -> Array:
    """conv_transpose2d in one dimension: x (batch, in_channels, length), weight (in_channels, out_channels / groups,
    kernel_length).

    Arguments as for conv_transpose2d; padding may also be ((before, after),). torch.nn.functional.conv_transpose1d.
    """
    x = floats(x, "x", 3)
    weight = floats_like(weight, "weight", x, 3)
    return _conv_transpose(
        x, weight, bias, stride, padding, output_padding, groups, dilation, activation, activation_args, out
    )


@operation
def conv_transpose1d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
    input_grad: bool = True,
) -> ConvGrad:
    """The gradients of conv_transpose1d (with activation "none") as (input, weight, bias).

    Arguments as for conv_transpose2d_backward.
    """
    x = floats(x, "x", 3)
    weight = floats_like(weight, "weight", x, 3)
    grad_output = floats_like(grad_output, "grad_output", x, 3)
    return _conv_transpose_backward(
        grad_output, x, weight, stride, padding, output_padding, groups, dilation, input_grad
    )


@operation
def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Pair = 1,
    padding: Any = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    out: Array | None = None,
) -> Array:
    """activation(conv_transpose(x, weight) + bias), as torch.nn.functional.conv_transpose2d: every input adds a
    weighted kernel to the output,

        y[n, k, i stride - padding + r dilation, j stride - padding + s dilation] +=
            weight[c, k, r, s] x[n, c, i, j]    for all i, j, r, s and the channels c of k's group

    which is the gradient of conv2d with input and output in each other's place (Dumoulin and Visin, "A guide to
    convolution arithmetic for deep learning", 2016, chapter 4).

    x: (batch, in_channels, height, width). weight: (in_channels, out_channels / groups, kernel_height, kernel_width).
    bias: (out_channels,). stride, output_padding, dilation: an int or (height, width); output_padding, positions added
    at the end, is less than stride or dilation. padding: the same, or ((top, bottom), (left, right)): what is cut off.
    activation, activation_args: as conv2d's.
    Returns (batch, out_channels, out_height, out_width) with
    out = (size - 1) stride - padding before and after + dilation (kernel - 1) + output_padding + 1.
    """
    x = floats(x, "x", 4)
    weight = floats_like(weight, "weight", x, 4)
    return _conv_transpose(
        x, weight, bias, stride, padding, output_padding, groups, dilation, activation, activation_args, out
    )


@operation
def conv_transpose2d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | Pair = 1,
    padding: Any = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
    input_grad: bool = True,
) -> ConvGrad:
    """The gradients of conv_transpose2d (with activation "none") as (input, weight, bias): its convolution for the
    input, and conv2d's gradient of the weights with x and grad_output in each other's place.

    grad_output: as conv_transpose2d returns. Without input_grad, `input` is an empty array and is not computed.
    """
    x = floats(x, "x", 4)
    weight = floats_like(weight, "weight", x, 4)
    grad_output = floats_like(grad_output, "grad_output", x, 4)
    return _conv_transpose_backward(
        grad_output, x, weight, stride, padding, output_padding, groups, dilation, input_grad
    )


@operation
def conv_transpose3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Triple = 1,
    padding: Any = 0,
    output_padding: int | Triple = 0,
    groups: int = 1,
    dilation: int | Triple = 1,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    out: Array | None = None,
) -> Array:
    """conv_transpose2d in three dimensions: x (batch, in_channels, depth, height, width), weight (in_channels,
    out_channels / groups, kernel_depth, kernel_height, kernel_width).

    Arguments as for conv_transpose2d, three numbers where it has two. torch.nn.functional.conv_transpose3d.
    """
    x = floats(x, "x", 5)
    weight = floats_like(weight, "weight", x, 5)
    return _conv_transpose(
        x, weight, bias, stride, padding, output_padding, groups, dilation, activation, activation_args, out
    )


@operation
def conv_transpose3d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | Triple = 1,
    padding: Any = 0,
    output_padding: int | Triple = 0,
    groups: int = 1,
    dilation: int | Triple = 1,
    input_grad: bool = True,
) -> ConvGrad:
    """The gradients of conv_transpose3d (with activation "none") as (input, weight, bias).

    Arguments as for conv_transpose2d_backward.
    """
    x = floats(x, "x", 5)
    weight = floats_like(weight, "weight", x, 5)
    grad_output = floats_like(grad_output, "grad_output", x, 5)
    return _conv_transpose_backward(
        grad_output, x, weight, stride, padding, output_padding, groups, dilation, input_grad
    )


@helper
def _conv_transpose(
    x: Array,
    weight: Array,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    activation: str,
    activation_args: tuple[float, ...],
    out: Array | None,
) -> Array:
    window, shape = _transposed_geometry(x.shape, weight.shape, stride, padding, output_padding, groups, dilation)
    bias = optional_vector(bias, "bias", x, shape[1])
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "weight", weight)
        disjoint(result, "bias", bias)
    act = fused_activation(activation, activation_args)
    _kernels.conv_transpose(x, weight, bias, result, window, act[0], act[1], act[2])
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
) -> ConvGrad:
    window, shape = _transposed_geometry(x.shape, weight.shape, stride, padding, output_padding, groups, dilation)
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = ConvGrad(gradient(x, input_grad), gradient(weight), np.empty(shape[1], x.dtype))
    _kernels.conv_transpose_backward(grad_output, x, weight, result.input, result.weight, result.bias, window)
    return result


@operation
def im2col(
    x: Any,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: Any = 0,
    stride: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """Every window of x as a column. torch.nn.functional.unfold.

    x: (batch, channels, height, width). Returns (batch, channels kernel_height kernel_width, positions), where
    positions = out_height out_width, row by row.
    """
    x = floats(x, "x", 4)
    window = _unfold_window(x.shape, kernel_size, dilation, padding, stride)
    taps, positions = window.kernel_height * window.kernel_width, window.out_height * window.out_width
    result = output(out, (x.shape[0], x.shape[1] * taps, positions), x)
    if out is not None:
        disjoint(result, "x", x)
    _kernels.im2col(x, result, window)
    return result


@operation
def col2im(
    columns: Any,
    output_size: int | Pair,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: Any = 0,
    stride: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """The sum of columns back into images, the adjoint (and so the backward) of im2col. torch.nn.functional.fold.

    columns: (batch, channels kernel_height kernel_width, positions). output_size: (height, width).
    Returns (batch, channels, height, width).
    """
    columns = floats(columns, "columns", 3)
    size = triple(output_size, "output_size", 1, 1, _IMAGES)
    kernel = triple(kernel_size, "kernel_size", 1, 1, _IMAGES)
    taps = kernel[1] * kernel[2]
    if columns.shape[1] % taps != 0:
        fail("columns", columns.shape, ("batch", "a multiple of", taps, "positions"))
    shape = (columns.shape[0], columns.shape[1] // taps, size[1], size[2])
    window = _unfold_window(shape, kernel_size, dilation, padding, stride)
    if columns.shape[2] != window.out_height * window.out_width:
        fail("columns", columns.shape, (columns.shape[0], columns.shape[1], window.out_height * window.out_width))
    result = output(out, shape, columns)
    if out is not None:
        disjoint(result, "columns", columns)
    _kernels.col2im(columns, result, window)
    return result


@cached_helper
def _geometry(
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
) -> tuple[Window, tuple[int, ...], int, tuple[int, float, float]]:
    """The window (over x, or over x with the border that padding_mode makes), the shape of the result, and the numbers
    of algorithm and activation."""
    code = choice(algorithm, "algorithm", ALGORITHMS)
    act = fused_activation(activation, activation_args)
    last = channels_last(data_format, x)
    images, kernels = volume(x, last), volume(weight, 0)
    kernel, channels = kernels[2:], images[1]
    groups = triple(groups, "groups", 1, 1, (1, 1, 1))[2]
    if weight[0] % groups != 0:
        fail("groups", groups, ("a divisor of the out_channels", weight[0]))
    if weight[1] * groups != channels:
        fail("weight", weight, ("channels / groups =", channels / groups, "in place of", weight[1]))
    if min(kernel[0], kernel[1], kernel[2]) < 1:
        fail("weight", weight, "a kernel of at least 1 x 1")
    steps, spread = triple(stride, "stride", 1, 1, x), triple(dilation, "dilation", 1, 1, x)
    around = pads(padding, "padding", x, kernel, steps, spread)
    sizes = out_sizes(images[2:], kernel, steps, around, spread)
    shape = volume_shape(x, x[0], weight[0], sizes, last)
    kind = choice(padding_mode, "padding_mode", PADDING_MODES)
    if kind != CONSTANT:
        _borders(x, weight, stride, padding, dilation, kind, data_format)  # refuses what it cannot make
        depth, height, width = _padded_sizes(images, around)
        images, around = (images[0], images[1], depth, height, width), (0, 0, 0, 0, 0, 0)
    return window(images, weight[0], sizes, kernel, steps, around, spread, groups, last), shape, code, act


@cached_helper
def _transposed_geometry(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> tuple[Window, tuple[int, ...]]:
    """The window over the result, of the convolution whose output x is, and the shape of the result."""
    images, kernels = volume(x, 0), volume(weight, 0)
    kernel, sizes = kernels[2:], images[2:]
    if groups < 1 or x[1] % groups != 0:
        fail("groups", groups, ("a divisor of the in_channels", x[1]))
    if weight[0] != x[1]:
        fail("weight", weight, ("in_channels =", x[1], "in place of", weight[0]))
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
    return window(result, x[1], sizes, kernel, steps, around, spread, groups, 0), volume_shape(
        x, x[0], channels, full, 0
    )


@helper
def _large_images(weight: tuple[int, ...], dilation: Any, groups: int, data_format: str) -> tuple[int, ...]:
    """The shape of one image with more than 64 x 64 positions."""
    spread = triple(dilation, "dilation", 1, 1, weight)
    sizes = (1, 64 + weight[2] * spread[1], 64 + weight[3] * spread[2])
    return volume_shape(weight, 1, weight[1] * groups, sizes, channels_last(data_format, weight))


@cached_helper
def _unfold_window(shape: tuple[int, ...], kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Window:
    kernel, images = triple(kernel_size, "kernel_size", 1, 1, shape), volume(shape, 0)
    steps, spread = triple(stride, "stride", 1, 1, shape), triple(dilation, "dilation", 1, 1, shape)
    around = pads(padding, "padding", shape, kernel, steps, spread)
    sizes = out_sizes(images[2:], kernel, steps, around, spread)
    positions = float(sizes[1]) * float(sizes[2])
    if float(max(shape[0], 1)) * float(max(shape[1], 1)) * float(kernel[1]) * float(kernel[2]) * positions >= 2.0**60:
        fail("kernel_size", ("columns of", kernel, "at", sizes, "positions"), "ones whose size in bytes fits 64 bits")
    return window(images, images[1], sizes, kernel, steps, around, spread, 1, 0)
