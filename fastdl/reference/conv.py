"""Convolution, and the im2col / col2im pair."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._arrays import Array
from fastdl._window import Pair
from fastdl.conv import Conv2dGrad
from fastdl.reference._window import crop, fill, pad, pair, taps
from fastdl.reference.activations import relu


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
    """Every tap is a matrix product over the channels, at all positions and in all groups at once."""
    (batch, channels, _, _), (out_channels, _, R, S) = x.shape, weight.shape
    weights = _weights_by_tap(weight, groups)
    y: Any = 0
    for r, s, view in taps(pad(x, padding), (R, S), stride, dilation):
        size = view.shape[2:]
        y = y + weights[r, s] @ view.reshape(batch, groups, channels // groups, size[0] * size[1])
    y = y.reshape(batch, out_channels, *size)
    if bias is not None:
        y += bias[:, None, None]
    return fill(out, relu(y) if activation == "relu" else y)


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
    """The two transposes of each tap's product y = w x: w^T g is added where x was read, and g x^T is w's gradient."""
    (batch, channels, _, _), (out_channels, _, R, S) = x.shape, weight.shape
    weights = _weights_by_tap(weight, groups)
    size = grad_output.shape[2:]
    g = grad_output.reshape(batch, groups, out_channels // groups, size[0] * size[1])
    padded = pad(x, padding)
    grad_padded, grad_weights = np.zeros_like(padded), np.zeros_like(weights)
    grad_taps = taps(grad_padded, (R, S), stride, dilation)
    for (r, s, view), (_, _, grad_view) in zip(taps(padded, (R, S), stride, dilation), grad_taps, strict=True):
        columns = view.reshape(batch, groups, channels // groups, size[0] * size[1])
        grad_weights[r, s] = (g @ columns.swapaxes(2, 3)).sum(0)
        if input_grad:
            grad_view += (weights[r, s].swapaxes(1, 2) @ g).reshape(view.shape)
    return Conv2dGrad(
        input=crop(grad_padded, padding) if input_grad else np.empty_like(x[:0]),
        weight=grad_weights.transpose(2, 3, 4, 0, 1).reshape(weight.shape),
        bias=grad_output.sum((0, 2, 3)),
    )


def im2col(
    x: Any,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: int | Pair = 0,
    stride: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    kernel = pair(kernel_size)
    views = [view for _, _, view in taps(pad(x, padding), kernel, stride, dilation)]
    columns = np.stack(views, axis=2)  # (batch, channels, taps, out_height, out_width)
    batch, channels, count, height, width = columns.shape
    return fill(out, columns.reshape(batch, channels * count, height * width))


def col2im(
    columns: Any,
    output_size: Pair,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: int | Pair = 0,
    stride: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    (R, S), batch = pair(kernel_size), columns.shape[0]
    channels = columns.shape[1] // (R * S)
    padded = pad(np.zeros((batch, channels, *pair(output_size)), columns.dtype), padding)
    for r, s, view in taps(padded, (R, S), stride, dilation):
        view += columns[:, r * S + s :: R * S].reshape(view.shape)
    return fill(out, crop(padded, padding))


def _weights_by_tap(weight: Array, groups: int) -> Array:
    """The weights as (kernel_height, kernel_width, groups, out_channels / groups, channels / groups)."""
    out_channels, channels_per_group, R, S = weight.shape
    weights = weight.reshape(groups, out_channels // groups, channels_per_group, R, S)
    return np.ascontiguousarray(weights.transpose(3, 4, 0, 1, 2))
