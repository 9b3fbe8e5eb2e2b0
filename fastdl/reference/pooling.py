"""Pooling.

A window is either one of a kernel that slides (a tap at a time, over all positions at once, as in _window.py), or one
of a given number of adaptive windows, which are taken one after another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import numpy as np

from fastdl import functional
from fastdl.functional.verbs import Array
from fastdl.reference._implements import implements
from fastdl.reference._window import Sizes, channels_back, channels_second, crop, each, fill, pad, sides, taps

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool3d",
    "adaptive_avg_pool3d_backward",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_backward",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool3d",
    "avg_pool3d_backward",
    "lp_pool1d",
    "lp_pool1d_backward",
    "lp_pool2d",
    "lp_pool2d_backward",
    "lp_pool3d",
    "lp_pool3d_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool3d",
    "max_pool3d_backward",
    "max_unpool1d",
    "max_unpool1d_backward",
    "max_unpool2d",
    "max_unpool2d_backward",
    "max_unpool3d",
    "max_unpool3d_backward",
]


def _pooling(function: Callable[..., Any], body: Callable[..., Any]) -> Callable[..., Any]:
    """The reference of `function`, which may do without a batch, from a body that wants one."""
    rank = int(re.findall(r"(\d)d", function.__name__)[0])

    @wraps(body)
    def call(**given: Any) -> Any:
        if given["x" if "x" in given else "grad_output"].ndim == rank + 2:
            return body(**given)
        arrays = {name: value for name, value in given.items() if name in ("x", "grad_output", "indices", "out")}
        result = body(**given | {name: None if value is None else value[None] for name, value in arrays.items()})
        return tuple(item[0] for item in result) if isinstance(result, tuple) else result[0]

    return implements(function)(call)


def _max_poolnd(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, data_format, out):
    return _maxima(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, data_format, out)


max_pool1d = _pooling(functional.max_pool1d, _max_poolnd)


def _max_poolnd_backward(grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, data_format, out):
    return _maxima_backward(grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, data_format, out)


max_pool1d_backward = _pooling(functional.max_pool1d_backward, _max_poolnd_backward)
max_pool2d = _pooling(functional.max_pool2d, _max_poolnd)
max_pool2d_backward = _pooling(functional.max_pool2d_backward, _max_poolnd_backward)
max_pool3d = _pooling(functional.max_pool3d, _max_poolnd)
max_pool3d_backward = _pooling(functional.max_pool3d_backward, _max_poolnd_backward)


def _max_unpoolnd(x, indices, kernel_size, stride, padding, output_size, out):
    return _unpool(x, indices, kernel_size, stride, padding, output_size, out)


max_unpool1d = _pooling(functional.max_unpool1d, _max_unpoolnd)


def _max_unpoolnd_backward(grad_output, indices):
    return np.take_along_axis(_flat(grad_output), _flat(indices), 2).reshape(indices.shape)


max_unpool1d_backward = _pooling(functional.max_unpool1d_backward, _max_unpoolnd_backward)
max_unpool2d = _pooling(functional.max_unpool2d, _max_unpoolnd)
max_unpool2d_backward = _pooling(functional.max_unpool2d_backward, _max_unpoolnd_backward)
max_unpool3d = _pooling(functional.max_unpool3d, _max_unpoolnd)
max_unpool3d_backward = _pooling(functional.max_unpool3d_backward, _max_unpoolnd_backward)


def _avg_poolnd(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, data_format):
    window = kernel_size, stride, padding, dilation, ceil_mode
    return _averages(x, window, count_include_pad, divisor_override, data_format)


avg_pool1d = _pooling(functional.avg_pool1d, _avg_poolnd)


def _avg_poolnd_backward(
    grad_output, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, data_format
):
    window = kernel_size, stride, padding, dilation, ceil_mode
    return _averages_backward(grad_output, x, window, count_include_pad, divisor_override, data_format)


avg_pool1d_backward = _pooling(functional.avg_pool1d_backward, _avg_poolnd_backward)
avg_pool2d = _pooling(functional.avg_pool2d, _avg_poolnd)
avg_pool2d_backward = _pooling(functional.avg_pool2d_backward, _avg_poolnd_backward)
avg_pool3d = _pooling(functional.avg_pool3d, _avg_poolnd)
avg_pool3d_backward = _pooling(functional.avg_pool3d_backward, _avg_poolnd_backward)


def _lp_poolnd(x, norm_type, kernel_size, stride, ceil_mode, dilation):
    return _norms(x, norm_type, (kernel_size, stride, 0, dilation, ceil_mode))


lp_pool1d = _pooling(functional.lp_pool1d, _lp_poolnd)


def _lp_poolnd_backward(grad_output, x, norm_type, kernel_size, stride, ceil_mode, dilation):
    return _norms_backward(grad_output, x, norm_type, (kernel_size, stride, 0, dilation, ceil_mode))


lp_pool1d_backward = _pooling(functional.lp_pool1d_backward, _lp_poolnd_backward)
lp_pool2d = _pooling(functional.lp_pool2d, _lp_poolnd)
lp_pool2d_backward = _pooling(functional.lp_pool2d_backward, _lp_poolnd_backward)
lp_pool3d = _pooling(functional.lp_pool3d, _lp_poolnd)
lp_pool3d_backward = _pooling(functional.lp_pool3d_backward, _lp_poolnd_backward)


def _adaptive_avg_poolnd(x, output_size):
    return _adaptive_averages(x, output_size)


adaptive_avg_pool1d = _pooling(functional.adaptive_avg_pool1d, _adaptive_avg_poolnd)


def _adaptive_avg_poolnd_backward(grad_output, x, output_size):
    return _adaptive_averages_backward(grad_output, x, output_size)


adaptive_avg_pool1d_backward = _pooling(functional.adaptive_avg_pool1d_backward, _adaptive_avg_poolnd_backward)
adaptive_avg_pool2d = _pooling(functional.adaptive_avg_pool2d, _adaptive_avg_poolnd)
adaptive_avg_pool2d_backward = _pooling(functional.adaptive_avg_pool2d_backward, _adaptive_avg_poolnd_backward)
adaptive_avg_pool3d = _pooling(functional.adaptive_avg_pool3d, _adaptive_avg_poolnd)
adaptive_avg_pool3d_backward = _pooling(functional.adaptive_avg_pool3d_backward, _adaptive_avg_poolnd_backward)


def _adaptive_max_poolnd(x, output_size, return_indices, out):
    return _adaptive_maxima(x, output_size, return_indices, out)


adaptive_max_pool1d = _pooling(functional.adaptive_max_pool1d, _adaptive_max_poolnd)


def _adaptive_max_poolnd_backward(grad_output, x, output_size):
    return _adaptive_maxima_backward(grad_output, x, output_size)


adaptive_max_pool1d_backward = _pooling(functional.adaptive_max_pool1d_backward, _adaptive_max_poolnd_backward)
adaptive_max_pool2d = _pooling(functional.adaptive_max_pool2d, _adaptive_max_poolnd)
adaptive_max_pool2d_backward = _pooling(functional.adaptive_max_pool2d_backward, _adaptive_max_poolnd_backward)
adaptive_max_pool3d = _pooling(functional.adaptive_max_pool3d, _adaptive_max_poolnd)
adaptive_max_pool3d_backward = _pooling(functional.adaptive_max_pool3d_backward, _adaptive_max_poolnd_backward)


# ---- windows of a kernel that slides ----


def _geometry(sizes: Sizes, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    """kernel, step, dilation, padding, and what ceil_mode adds after it for a last window that starts inside."""
    rank = len(sizes)
    kernel, spread = each(kernel_size, rank), each(dilation, rank)
    step = kernel if stride is None or stride == () else each(stride, rank)
    around, beyond = sides(padding, rank), []
    for n, k, s, d, (before, after) in zip(sizes, kernel, step, spread, around, strict=True):
        padded, extent = n + before + after, d * (k - 1) + 1
        starts = range(0, (padded if ceil_mode else padded - extent) + 1, s)
        last = max(i for i in starts if not ceil_mode or (i < n + before and i < padded - extent + s))
        beyond.append((0, max(0, last + extent - padded)))
    return kernel, step, spread, around, beyond


def _winners(x: Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    """The largest value of each window, and the number of the tap that saw it (-1: the window saw only padding).

    A tap replaces the best so far if it is larger or NaN: the first of equals and the last NaN win, as in torch.
    """
    kernel, step, spread, around, beyond = _geometry(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    inside = pad(pad(np.ones(x.shape[2:], bool), around, False), beyond, False)
    values = taps(pad(pad(x, around, -np.inf), beyond, -np.inf), kernel, step, spread)
    best, winner = np.array(-np.inf, x.dtype), np.array(-1)
    for tap, ((_, value), (_, image)) in enumerate(zip(values, taps(inside, kernel, step, spread), strict=True)):
        better = image & ((value > best) | np.isnan(value) | (winner < 0))
        best, winner = np.where(better, value, best), np.where(better, tap, winner)
    return best, winner


def _maxima(
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
    data_format: str,
    out: Any,
) -> Any:
    x = channels_second(x, data_format)
    best, winner = _winners(x, kernel_size, stride, padding, dilation, ceil_mode)
    best = fill(out, channels_back(best, data_format))
    if not return_indices:
        return best
    kernel, step, spread, around, beyond = _geometry(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    positions = np.arange(np.prod(x.shape[2:])).reshape(x.shape[2:])
    seen = np.stack([view for _, view in taps(pad(pad(positions, around), beyond), kernel, step, spread)])
    indices = np.take_along_axis(seen[:, None, None], np.maximum(winner, 0)[None], 0)[0]
    return best, channels_back(np.where(winner < 0, -1, indices), data_format)


def _maxima_backward(
    grad_output: Any,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    data_format: str,
    out: Any,
) -> Array:
    x, grad_output = channels_second(x, data_format), channels_second(grad_output, data_format)
    _, winner = _winners(x, kernel_size, stride, padding, dilation, ceil_mode)
    kernel, step, spread, around, beyond = _geometry(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    grad_padded = pad(pad(np.zeros_like(x), around), beyond)
    for tap, (_, grad_view) in enumerate(taps(grad_padded, kernel, step, spread)):
        grad_view += np.where(winner == tap, grad_output, 0)
    return fill(out, channels_back(crop(crop(grad_padded, beyond), around), data_format))


def _flat(x: Array) -> Array:
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def _unpool(x: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any, out: Any) -> Array:
    rank = x.ndim - 2
    kernel = each(kernel_size, rank)
    step, around = kernel if stride in (None, ()) else each(stride, rank), each(padding, rank)
    sizes = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(x.shape[2:], step, around, kernel, strict=True))
    if output_size is not None:
        sizes = each(output_size[-rank:] if isinstance(output_size, (tuple, list)) else output_size, rank)
    y = np.zeros((*x.shape[:2], *sizes), x.dtype)
    np.put_along_axis(_flat(y), _flat(indices), _flat(x), 2)
    return fill(out, y)


def _summed(x: Array, window: Any) -> Array:
    kernel, step, spread, around, beyond = _geometry(x.shape[2:], *window)
    total: Any = 0
    for _, view in taps(pad(pad(x, around), beyond), kernel, step, spread):
        total = total + view
    return total


def _divisors(sizes: Sizes, window: Any, count_include_pad: bool, divisor_override: int | None) -> Any:
    """For each window the elements, with count_include_pad the padding too, that it sees; 1 where it sees none."""
    if divisor_override is not None:
        return divisor_override
    kernel, step, spread, around, beyond = _geometry(sizes, *window)
    counted = pad(pad(np.ones(sizes), around, count_include_pad), beyond)
    return np.maximum(1, sum(view for _, view in taps(counted, kernel, step, spread)))


def _averages(x: Any, window: Any, count_include_pad: bool, divisor_override: Any, data_format: str) -> Array:
    x = channels_second(x, data_format)
    divisors = _divisors(x.shape[2:], window, count_include_pad, divisor_override)
    return channels_back((_summed(x, window) / divisors).astype(x.dtype), data_format)


def _averages_backward(
    grad_output: Any, x: Any, window: Any, count_include_pad: bool, divisor_override: Any, data_format: str
) -> Array:
    x, grad_output = channels_second(x, data_format), channels_second(grad_output, data_format)
    each_grad = grad_output / _divisors(x.shape[2:], window, count_include_pad, divisor_override)
    kernel, step, spread, around, beyond = _geometry(x.shape[2:], *window)
    grad_padded = pad(pad(np.zeros_like(x), around), beyond)
    for _, grad_view in taps(grad_padded, kernel, step, spread):
        grad_view += each_grad
    return channels_back(crop(crop(grad_padded, beyond), around), data_format)


def _norms(x: Any, p: float, window: Any) -> Array:
    if np.isinf(p):
        return np.sign(p) * _winners(np.sign(p) * np.abs(x), *window)[0]
    count = np.prod(each(window[0], x.ndim - 2))
    return _power(count * _averages(_power(x, p), window, True, None, ""), 1 / p)


def _norms_backward(grad_output: Any, x: Any, p: float, window: Any) -> Array:
    if np.isinf(p):
        arguments = (*window, "", None)
        return np.sign(x) * _maxima_backward(grad_output, np.sign(p) * np.abs(x), *arguments)
    count = np.prod(each(window[0], x.ndim - 2))
    average = _averages(_power(x, p), window, True, None, "")
    grad_average = grad_output * count * _power(count * average, 1 / p - 1) / p
    grad_average = np.where(average == 0, 0, np.where(np.isnan(average), 0 * grad_average, grad_average))
    return p * _power(x, p - 1) * _averages_backward(grad_average, x, window, True, None, "")


def _power(x: Array, p: float) -> Array:
    """x^p; a root in the denominator as torch takes it, of -0 and -infinity too."""
    return 1 / np.sqrt(x) if p == -0.5 else x**p


# ---- adaptive windows ----


def _adaptive(sizes: Sizes, output_size: Any) -> tuple[Sizes, Iterator[tuple[Any, Any]]]:
    """The output's sizes, and for each of its positions the slices that are its window."""
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * len(sizes)
    outs = tuple(n if out is None else out for n, out in zip(sizes, wanted, strict=True))

    def windows() -> Iterator[tuple[Any, Any]]:
        for at in np.ndindex(outs):
            yield at, tuple(slice(i * n // o, -(-(i + 1) * n // o)) for i, n, o in zip(at, sizes, outs, strict=True))

    return outs, windows()


def _adaptive_averages(x: Any, output_size: Any) -> Array:
    outs, windows = _adaptive(x.shape[2:], output_size)
    y = np.empty((*x.shape[:2], *outs), x.dtype)
    for at, window in windows:
        y[(..., *at)] = _flat(x[(..., *window)]).mean(2)
    return y


def _adaptive_averages_backward(grad_output: Any, x: Any, output_size: Any) -> Array:
    grad = np.zeros_like(x)
    for at, window in _adaptive(x.shape[2:], output_size)[1]:
        count = np.prod([s.stop - s.start for s in window])
        grad[(..., *window)] += np.expand_dims(grad_output[(..., *at)] / count, tuple(range(2, x.ndim)))
    return grad


def _adaptive_winners(x: Any, output_size: Any) -> tuple[Array, Array]:
    """The largest value of each window, and its position: the first of equals, the last NaN."""
    outs, windows = _adaptive(x.shape[2:], output_size)
    positions = np.arange(np.prod(x.shape[2:])).reshape(x.shape[2:])
    best = np.empty((*x.shape[:2], *outs), x.dtype)
    indices = np.empty(best.shape, np.int64)
    for at, window in windows:
        values = _flat(x[(..., *window)])
        nan = np.isnan(values)
        winner = np.where(nan.any(2), values.shape[2] - 1 - nan[..., ::-1].argmax(2), values.argmax(2))
        best[(..., *at)] = np.take_along_axis(values, winner[..., None], 2)[..., 0]
        indices[(..., *at)] = positions[window].ravel()[winner]
    return best, indices


def _adaptive_maxima(x: Any, output_size: Any, return_indices: bool, out: Any) -> Any:
    best, indices = _adaptive_winners(x, output_size)
    best = fill(out, best)
    return (best, indices) if return_indices else best


def _adaptive_maxima_backward(grad_output: Any, x: Any, output_size: Any) -> Array:
    _, indices = _adaptive_winners(x, output_size)
    grad = np.zeros_like(x)
    image, channel = np.ogrid[: x.shape[0], : x.shape[1]]
    np.add.at(_flat(grad), (image[..., None], channel[..., None], _flat(indices)), _flat(grad_output))
    return grad
