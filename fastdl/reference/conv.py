"""Convolution, its transpose, and the im2col / col2im pair."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import functional
from fastdl.functional.conv._shared import ConvGrad
from fastdl.functional.verbs import Array
from fastdl.reference._implements import implements
from fastdl.reference._window import channels_back, channels_second, crop, each, fill, pad, sides, taps
from fastdl.reference.activation import fused
from fastdl.reference.padding import pad as bordered
from fastdl.reference.padding import pad_backward as bordered_backward

__all__ = [
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
]


def _convnd(
    x,
    weight,
    bias,
    stride,
    padding,
    dilation,
    groups,
    padding_mode,
    data_format,
    activation,
    activation_args,
    residual,
    out,
):
    window = (stride, padding, dilation, groups, padding_mode, data_format)
    if x.ndim < weight.ndim:
        residual = None if residual is None else residual[None]
        y = _conv(x[None], weight, bias, *window, activation, activation_args, residual, None)
        return fill(out, y[0])
    return _conv(x, weight, bias, *window, activation, activation_args, residual, out)


conv1d = implements(functional.conv1d)(_convnd)
conv2d = implements(functional.conv2d)(_convnd)
conv3d = implements(functional.conv3d)(_convnd)


def _convnd_backward(grad_output, x, weight, stride, padding, dilation, groups, padding_mode, data_format, input_grad):
    window = (stride, padding, dilation, groups, padding_mode, data_format)
    if x.ndim < weight.ndim:
        return _without_batch(_conv_backward(grad_output[None], x[None], weight, *window, input_grad), x, input_grad)
    return _conv_backward(grad_output, x, weight, *window, input_grad)


def _without_batch(grads, x, input_grad):
    return grads._replace(input=grads.input[0] if input_grad else np.empty_like(x[:0]))


conv1d_backward = implements(functional.conv1d_backward)(_convnd_backward)
conv2d_backward = implements(functional.conv2d_backward)(_convnd_backward)
conv3d_backward = implements(functional.conv3d_backward)(_convnd_backward)


def _conv(
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
    data_format: str,
    activation: str,
    activation_args: tuple[float, ...],
    residual: Any,
    out: Array | None,
) -> Array:
    """Every tap is a matrix product over the channels, at all positions and in all groups at once."""
    x, kernel = channels_second(x, data_format), weight.shape[2:]
    (batch, channels), rank = x.shape[:2], len(kernel)
    weights = _weights_by_tap(weight, groups)
    y: Any = 0
    padded = bordered(x, *_border(padding, kernel, dilation, padding_mode, x.shape[2:], stride))
    for tap, view in taps(padded, kernel, stride, dilation):
        sizes = view.shape[2:]
        y = y + weights[tap] @ view.reshape(batch, groups, channels // groups, math.prod(sizes))
    y = y.reshape(batch, weight.shape[0], *sizes)
    if bias is not None:
        y += bias.reshape(-1, *[1] * rank)
    if residual is not None:
        y += channels_second(residual, data_format)
    return fill(out, channels_back(fused(y, activation, activation_args), data_format))


def _conv_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
    data_format: str,
    input_grad: bool,
) -> ConvGrad:
    """The two transposes of each tap's product y = w x: w^T g is added where x was read, and g x^T is w's gradient."""
    given, grad_output = x, channels_second(grad_output, data_format)
    x, kernel = channels_second(x, data_format), weight.shape[2:]
    (batch, channels), rank = x.shape[:2], len(kernel)
    weights = _weights_by_tap(weight, groups)
    positions = math.prod(grad_output.shape[2:])
    g = grad_output.reshape(batch, groups, weight.shape[0] // groups, positions)
    border = _border(padding, kernel, dilation, padding_mode, x.shape[2:], stride)
    padded = bordered(x, *border)
    grad_padded, grad_weights = np.zeros_like(padded), np.zeros_like(weights)
    grad_taps = taps(grad_padded, kernel, stride, dilation)
    for (tap, view), (_, grad_view) in zip(taps(padded, kernel, stride, dilation), grad_taps, strict=True):
        columns = view.reshape(batch, groups, channels // groups, positions)
        grad_weights[tap] = (g @ columns.swapaxes(2, 3)).sum(0)
        if input_grad:
            grad_view += (weights[tap].swapaxes(1, 2) @ g).reshape(view.shape)
    grad_x = channels_back(bordered_backward(grad_padded, *border), data_format)
    return ConvGrad(
        input=grad_x if input_grad else np.empty_like(given[:0]),
        weight=np.moveaxis(grad_weights, range(rank), range(3, 3 + rank)).reshape(weight.shape),
        bias=grad_output.sum((0, *range(2, 2 + rank))),
    )


def _conv_transposend(
    x, weight, bias, stride, padding, output_padding, groups, dilation, activation, activation_args, out
):
    if x.ndim < weight.ndim:
        y = _conv_transpose(
            x[None],
            weight,
            bias,
            stride,
            padding,
            output_padding,
            groups,
            dilation,
            activation,
            activation_args,
            None,
        )
        return fill(out, y[0])
    return _conv_transpose(
        x, weight, bias, stride, padding, output_padding, groups, dilation, activation, activation_args, out
    )


conv_transpose1d = implements(functional.conv_transpose1d)(_conv_transposend)


def _conv_transposend_backward(grad_output, x, weight, stride, padding, output_padding, groups, dilation, input_grad):
    window = (stride, padding, output_padding, groups, dilation)
    if x.ndim < weight.ndim:
        grads = _conv_transpose_backward(grad_output[None], x[None], weight, *window, input_grad)
        return _without_batch(grads, x, input_grad)
    return _conv_transpose_backward(grad_output, x, weight, *window, input_grad)


conv_transpose1d_backward = implements(functional.conv_transpose1d_backward)(_conv_transposend_backward)
conv_transpose2d = implements(functional.conv_transpose2d)(_conv_transposend)
conv_transpose2d_backward = implements(functional.conv_transpose2d_backward)(_conv_transposend_backward)
conv_transpose3d = implements(functional.conv_transpose3d)(_conv_transposend)
conv_transpose3d_backward = implements(functional.conv_transpose3d_backward)(_conv_transposend_backward)


def _conv_transpose(
    x: Any,
    weight: Any,
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
    """Every tap is a matrix product over the channels, added to where a convolution would have read its input."""
    (batch, channels), sizes, kernel = x.shape[:2], x.shape[2:], weight.shape[2:]
    rank, weights = len(kernel), _weights_by_tap(weight, groups)
    columns = x.reshape(batch, groups, channels // groups, math.prod(sizes))
    whole = _sizes_reached(sizes, kernel, stride, dilation)
    y = np.zeros((batch, weight.shape[1] * groups, *whole), x.dtype)
    for tap, view in taps(y, kernel, stride, dilation):
        view += (weights[tap].swapaxes(1, 2) @ columns).reshape(view.shape)
    y = crop(pad(y, [(0, n) for n in each(output_padding, rank)]), sides(padding, rank, kernel, dilation))
    if bias is not None:
        y = y + bias.reshape(-1, *[1] * rank)
    return fill(out, np.ascontiguousarray(fused(y, activation, activation_args)))


def _conv_transpose_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    input_grad: bool,
) -> ConvGrad:
    """The two transposes of each tap's product y = w^T x: w g is x's gradient, and x g^T is w's."""
    (batch, channels), sizes, kernel = x.shape[:2], x.shape[2:], weight.shape[2:]
    rank, weights = len(kernel), _weights_by_tap(weight, groups)
    padded = pad(grad_output, sides(padding, rank, kernel, dilation))
    padded = crop(padded, [(0, n) for n in each(output_padding, rank)])
    columns = x.reshape(batch, groups, channels // groups, math.prod(sizes))
    grad_columns, grad_weights = np.zeros_like(columns), np.zeros_like(weights)
    for tap, view in taps(padded, kernel, stride, dilation):
        g = view.reshape(batch, groups, weight.shape[1], math.prod(sizes))
        grad_columns += weights[tap] @ g
        grad_weights[tap] = (columns @ g.swapaxes(2, 3)).sum(0)
    return ConvGrad(
        input=grad_columns.reshape(x.shape) if input_grad else np.empty_like(x[:0]),
        weight=np.moveaxis(grad_weights, range(rank), range(3, 3 + rank)).reshape(weight.shape),
        bias=grad_output.sum((0, *range(2, 2 + rank))),
    )


@implements(functional.im2col)
def im2col(x, kernel_size, dilation, padding, stride):
    rank = _rank(kernel_size, x.ndim)
    kernel, sizes, leading = each(kernel_size, rank), x.shape[-rank:], x.shape[: x.ndim - rank]
    around = sides(padding, rank, kernel, dilation, sizes, stride)
    views = [view for _, view in taps(pad(x, around), kernel, stride, dilation)]
    columns = np.stack(views, axis=-rank - 1)  # (batch, channels, taps, *positions)
    return columns.reshape(*leading[:-1], leading[-1] * len(views), math.prod(columns.shape[-rank:]))


@implements(functional.col2im)
def col2im(columns, output_size, kernel_size, dilation, padding, stride):
    rank = _rank(output_size, 0)
    kernel, sizes = each(kernel_size, rank), each(output_size, rank)
    count, around = math.prod(kernel), sides(padding, rank, kernel, dilation, sizes, stride)
    channels = columns.shape[-2] // count
    padded = pad(np.zeros((*columns.shape[:-2], channels, *sizes), columns.dtype), around)
    for i, (_, view) in enumerate(taps(padded, kernel, stride, dilation)):
        view += columns[..., i::count, :].reshape(view.shape)
    return crop(padded, around)


def _rank(sizes, ndim):
    return len(sizes) if isinstance(sizes, tuple) else 3 if ndim == 5 else 2


def _sizes_reached(sizes: Any, kernel: Any, stride: Any, dilation: Any) -> list[int]:
    """The sizes of what a convolution with these output sizes reads."""
    steps, spread = each(stride, len(kernel)), each(dilation, len(kernel))
    return [(n - 1) * s + d * (k - 1) + 1 for n, k, s, d in zip(sizes, kernel, steps, spread, strict=True)]


def _weights_by_tap(weight: Array, groups: int) -> Array:
    """The weights as (*kernel, groups, out_channels / groups, channels / groups)."""
    out_channels, channels_per_group, *kernel = weight.shape
    weights = weight.reshape(groups, out_channels // groups, channels_per_group, *kernel)
    return np.ascontiguousarray(np.moveaxis(weights, range(3, weights.ndim), range(len(kernel))))


def _border(
    padding: Any, kernel: tuple[int, ...], dilation: Any, padding_mode: str, sizes: tuple[int, ...], stride: Any
) -> tuple[tuple[int, ...], str]:
    """What pad is given: the sides from the last dimension backwards, and the mode."""
    around = sides(padding, len(kernel), kernel, dilation, sizes, stride)
    return tuple(n for side in reversed(around) for n in side), padding_mode.replace("zeros", "constant")
