"""Normalization: y = (x - mean) rstd weight + bias, where mean and variance are those over some of the axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import functional
from fastdl.functional.normalization import NormGrad, RMSNormGrad
from fastdl.functional.verbs import Array
from fastdl.reference._implements import implements
from fastdl.reference._window import fill

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "fuse_conv_bn_weights",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]


@implements(functional.batch_norm)
def batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps, return_stats, out):
    flat = _flat(x)
    if training:
        mean, apart, variance = _moments(flat, (0, 2))
        _update(running_mean, running_var, mean[0, :, 0], variance[0, :, 0], flat[:, :1].size, momentum)
    else:
        mean, variance = _column(running_mean), _column(running_var)
        apart = flat - mean
    y, rstd = _normalized(apart, variance, _column(weight), _column(bias), eps)
    y = fill(out, y.reshape(x.shape))
    return (y, mean.ravel(), rstd.ravel()) if return_stats else y


@implements(functional.batch_norm_backward)
def batch_norm_backward(grad_output, x, running_mean, running_var, weight, training, eps, mean, rstd):
    if not training:
        return _fixed_backward(grad_output, x, running_mean, running_var, weight, eps)
    stats = None if mean is None else (_column(mean), _column(rstd))
    grad, weight_terms = _backward(_flat(grad_output), _flat(x), _column(weight), (0, 2), eps, stats)
    return NormGrad(grad.reshape(x.shape), weight_terms.sum((0, 2)), _flat(grad_output).sum((0, 2)))


@implements(functional.fuse_conv_bn_weights)
def fuse_conv_bn_weights(weight, bias, running_mean, running_var, eps, norm_weight, norm_bias):
    scale = (1 if norm_weight is None else norm_weight) / np.sqrt(running_var + eps)
    shifted = (0 if bias is None else bias) - running_mean
    fused = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    return fused, (0 if norm_bias is None else norm_bias) + scale * shifted


@implements(functional.instance_norm)
def instance_norm(x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps, return_stats, out):
    flat = _flat(x)
    if use_input_stats:
        mean, apart, variance = _moments(flat, (2,))
        if len(x):
            means = mean[..., 0].mean(0), variance[..., 0].mean(0)
            _update(running_mean, running_var, *means, flat.shape[2], momentum)
    else:
        mean, variance = (np.repeat(_column(running), len(x), 0) for running in (running_mean, running_var))
        apart = flat - mean
    y, rstd = _normalized(apart, variance, _column(weight), _column(bias), eps)
    y = fill(out, y.reshape(x.shape))
    return (y, mean[..., 0], rstd[..., 0]) if return_stats else y


@implements(functional.instance_norm_backward)
def instance_norm_backward(grad_output, x, running_mean, running_var, weight, use_input_stats, eps, mean, rstd):
    if not use_input_stats:
        return _fixed_backward(grad_output, x, running_mean, running_var, weight, eps)
    stats = None if mean is None else (mean[..., None], rstd[..., None])
    grad, weight_terms = _backward(_flat(grad_output), _flat(x), _column(weight), (2,), eps, stats)
    return NormGrad(grad.reshape(x.shape), weight_terms.sum((0, 2)), _flat(grad_output).sum((0, 2)))


@implements(functional.group_norm)
def group_norm(x, num_groups, weight, bias, eps, return_stats, out):
    groups = _grouped(x, num_groups)
    mean, apart, variance = _moments(groups, (2, 3))
    y, rstd = _normalized(apart, variance, _in_groups(weight, num_groups), _in_groups(bias, num_groups), eps)
    y = fill(out, y.reshape(x.shape))
    return (y, mean[..., 0, 0], rstd[..., 0, 0]) if return_stats else y


@implements(functional.group_norm_backward)
def group_norm_backward(grad_output, x, num_groups, weight, eps, mean, rstd):
    g, groups = _grouped(grad_output, num_groups), _grouped(x, num_groups)
    stats = None if mean is None else (mean[..., None, None], rstd[..., None, None])
    grad, weight_terms = _backward(g, groups, _in_groups(weight, num_groups), (2, 3), eps, stats)
    return NormGrad(grad.reshape(x.shape), weight_terms.sum((0, 3)).ravel(), g.sum((0, 3)).ravel())


@implements(functional.layer_norm)
def layer_norm(x, normalized_shape, weight, bias, eps, return_stats, out):
    axes = _last(x, normalized_shape)
    mean, apart, variance = _moments(x, axes)
    y, rstd = _normalized(apart, variance, weight, bias, eps)
    y = fill(out, y)
    return (y, mean.squeeze(axes), rstd.squeeze(axes)) if return_stats else y


@implements(functional.layer_norm_backward)
def layer_norm_backward(grad_output, x, normalized_shape, weight, eps, mean, rstd):
    axes = _last(x, normalized_shape)
    stats = None if mean is None else (np.expand_dims(mean, axes), np.expand_dims(rstd, axes))
    grad, weight_terms = _backward(grad_output, x, weight, axes, eps, stats)
    rows = tuple(range(axes[0]))
    return NormGrad(grad, weight_terms.sum(rows), grad_output.sum(rows))


@implements(functional.rms_norm)
def rms_norm(x, normalized_shape, weight, eps, return_stats, out):
    axes = _last(x, normalized_shape)
    rstd = _rms_rstd(x, axes, eps)
    y = fill(out, x * rstd * (1 if weight is None else weight))
    return (y, rstd.squeeze(axes)) if return_stats else y


@implements(functional.rms_norm_backward)
def rms_norm_backward(grad_output, x, normalized_shape, weight, eps, rstd):
    axes = _last(x, normalized_shape)
    rstd = _rms_rstd(x, axes, eps) if rstd is None else np.expand_dims(rstd, axes)
    z, h = x * rstd, grad_output * (1 if weight is None else weight)
    grad = rstd * (h - z * _mean(h * z, axes))
    return RMSNormGrad(grad, (grad_output * z).sum(tuple(range(axes[0]))))


def _flat(x: Array) -> Array:
    """(batch, channels, everything else)."""
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def _grouped(x: Array, num_groups: int) -> Array:
    """(batch, groups, channels of a group, everything else)."""
    return x.reshape(len(x), num_groups, x.shape[1] // num_groups, math.prod(x.shape[2:]))


def _column(vector: Array | None) -> Any:
    return None if vector is None else vector[None, :, None]


def _in_groups(vector: Array | None, num_groups: int) -> Any:
    return None if vector is None else vector.reshape(1, num_groups, len(vector) // num_groups, 1)


def _last(x: Array, normalized_shape: Any) -> tuple[int, ...]:
    count = 1 if isinstance(normalized_shape, int) else len(normalized_shape)
    return tuple(range(x.ndim - count, x.ndim))


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    """0 of no elements."""
    return x.sum(axes, keepdims=True) / max(1, math.prod(x.shape[axis] for axis in axes))


def _moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Mean, deviations from it, and variance. Deviations are freed of what rounding the mean has cost them."""
    mean = _mean(x, axes)
    apart = x - mean
    apart = apart - _mean(apart, axes)
    return mean, apart, _mean(apart**2, axes)


def _rms_rstd(x: Array, axes: tuple[int, ...], eps: float | None) -> Array:
    return 1 / np.sqrt(_mean(x * x, axes) + (np.finfo(x.dtype).eps if eps is None else eps))


def _normalized(apart: Array, variance: Array, weight: Any, bias: Any, eps: float) -> tuple[Array, Array]:
    """y and rstd."""
    rstd = 1 / np.sqrt(variance + eps)
    return apart * rstd * (1 if weight is None else weight) + (0 if bias is None else bias), rstd


def _update(running_mean: Any, running_var: Any, mean: Array, variance: Array, count: int, momentum: float) -> None:
    if running_mean is not None and count:
        running_mean[...] = (1 - momentum) * running_mean + momentum * mean
        running_var[...] = (1 - momentum) * running_var + momentum * variance * (count / (count - 1))


def _backward(
    grad_output: Array, x: Array, weight: Any, axes: tuple[int, ...], eps: float, stats: tuple[Array, Array] | None
) -> tuple[Array, Array]:
    """The gradient of x and the terms of that of the weight."""
    if stats is None:
        _, apart, variance = _moments(x, axes)
        rstd = 1 / np.sqrt(variance + eps)
    else:
        apart, rstd = x - stats[0], stats[1]
    z, h = apart * rstd, grad_output * (1 if weight is None else weight)
    return rstd * (h - _mean(h, axes) - z * _mean(h * z, axes)), grad_output * z


def _fixed_backward(
    grad_output: Array, x: Array, running_mean: Array, running_var: Array, weight: Any, eps: float
) -> NormGrad:
    g, mean, rstd = _flat(grad_output), _column(running_mean), 1 / np.sqrt(_column(running_var) + eps)
    grad = g * rstd * (1 if weight is None else _column(weight))
    return NormGrad(grad.reshape(x.shape), (g * (_flat(x) - mean) * rstd).sum((0, 2)), g.sum((0, 2)))
