"""Pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._arrays import Array
from fastdl._window import Pair
from fastdl.reference._window import crop, fill, pad, pair, taps


def max_pool2d(
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    best, _ = _winners(x, kernel_size, stride, padding, dilation)
    return fill(out, best)


def max_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    _, winner = _winners(x, kernel_size, stride, padding, dilation)
    grad_padded = pad(np.zeros_like(x), padding)
    step = kernel_size if stride is None else stride
    for tap, (_, _, grad_view) in enumerate(taps(grad_padded, pair(kernel_size), step, dilation)):
        grad_view += np.where(winner == tap, grad_output, 0)
    return fill(out, crop(grad_padded, padding))


def _winners(
    x: Array, kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair, dilation: int | Pair
) -> tuple[Array, Array]:
    """The largest value of each window, and the number of the tap that saw it (-1: the window saw only padding).

    A tap replaces the best so far if it is larger or NaN: the first of equals and the last NaN win, as in torch.
    """
    kernel, step = pair(kernel_size), kernel_size if stride is None else stride
    inside = pad(np.ones(x.shape[2:], bool), padding, False)
    values = taps(pad(x, padding, -np.inf), kernel, step, dilation)
    best, winner = np.array(-np.inf, x.dtype), np.array(-1)
    for tap, ((_, _, value), (_, _, image)) in enumerate(
        zip(values, taps(inside, kernel, step, dilation), strict=True)
    ):
        better = image & ((value > best) | np.isnan(value) | (winner < 0))
        best, winner = np.where(better, value, best), np.where(better, tap, winner)
    return best, winner
