"""Normalization: batch_norm, layer_norm, group_norm, instance_norm, rms_norm, each with its backward.

y = (x - mean) / sqrt(variance + eps) * weight + bias; the functions differ in what mean and variance are taken over.
Statistics are accumulated in float64. With return_stats (a literal inside Numba) a forward also returns the mean and
rstd = 1 / sqrt(variance + eps) that it used; a backward that is given them need not take them from x again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl.functional._operation import helper, operation
from fastdl.functional.verbs import (
    Array,
    disjoint,
    fail,
    floats,
    floats_like,
    optional_like,
    optional_vector,
    output,
    running_stat,
    same_or_disjoint,
    split_shape,
    stats_output,
    with_mean_and_rstd,
    with_rstd,
)

__all__ = [
    "NormGrad",
    "RMSNormGrad",
    "batch_norm",
    "batch_norm_backward",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]

GROUP, RMS, BATCH, FIXED = _kernels.NORM_GROUP, _kernels.NORM_RMS, _kernels.NORM_BATCH, _kernels.NORM_FIXED


class NormGrad(NamedTuple):
    input: Array
    weight: Array
    bias: Array


class RMSNormGrad(NamedTuple):
    input: Array
    weight: Array


@operation
def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    return_stats: bool = False,
    out: Array | None = None,
) -> Any:
    """Normalise each channel: over the batch in training, else with running_mean and running_var.
    torch.nn.functional.batch_norm.

    x: (batch, channels, ...). All vectors: (channels,). In training the running ones, if given, are updated in place:
    running = (1 - momentum) running + momentum new, the variance's new value being the unbiased one; one value a
    channel is then a ValueError. return_stats: return (y, mean, rstd), both (channels,). out: an array like x, or x.
    """
    x = floats(x, "x")
    batch, channels, inner = _channels(x.shape)
    running_mean = running_stat(running_mean, "running_mean", x, channels, training)
    running_var = running_stat(running_var, "running_var", x, channels, training)
    weight = optional_vector(weight, "weight", x, channels)
    bias = optional_vector(bias, "bias", x, channels)
    _check_running(running_mean, running_var, training, "training")
    _check_eps(eps)
    if training and batch * inner == 1:
        fail("x", x.shape, "more than 1 value per channel in training")
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        _check_out(result, weight, bias, running_mean, running_var)
    if training:
        _check_updates(x, weight, bias, running_mean, running_var)
    mean = stats_output((channels,), x, return_stats)
    rstd = stats_output((channels,), x, return_stats)
    kind = BATCH if training else FIXED
    _kernels.normalize(
        x,
        running_mean,
        running_var,
        weight,
        bias,
        result,
        mean,
        rstd,
        batch,
        channels,
        1,
        inner,
        kind,
        momentum,
        eps,
    )
    return with_mean_and_rstd(result, mean, rstd, return_stats)


@operation
def batch_norm_backward(
    grad_output: Any,
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    training: bool = False,
    eps: float = 1e-5,
    mean: Any = None,
    rstd: Any = None,
) -> NormGrad:
    """The gradients of batch_norm as (input, weight, bias).

    mean, rstd: what batch_norm returned in training, if it was asked to; else they are taken from x again.
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    _check_grad(grad_output, x)
    batch, channels, inner = _channels(x.shape)
    running_mean = optional_vector(running_mean, "running_mean", x, channels)
    running_var = optional_vector(running_var, "running_var", x, channels)
    weight = optional_vector(weight, "weight", x, channels)
    mean = optional_vector(mean, "mean", x, channels)
    rstd = optional_vector(rstd, "rstd", x, channels)
    _check_running(running_mean, running_var, training, "training")
    _check_stats(mean, rstd)
    _check_eps(eps)
    result = NormGrad(np.empty_like(x), np.empty(channels, x.dtype), np.empty(channels, x.dtype))
    kind = BATCH if training else FIXED
    _kernels.normalize_backward(
        grad_output,
        x,
        running_mean,
        running_var,
        weight,
        mean,
        rstd,
        result.input,
        result.weight,
        result.bias,
        batch,
        channels,
        1,
        inner,
        kind,
        eps,
    )
    return result


@operation
def instance_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    return_stats: bool = False,
    out: Array | None = None,
) -> Any:
    """Normalise each channel of each sample over its own elements. torch.nn.functional.instance_norm.

    x: (batch, channels, ...). All vectors: (channels,). The running ones, if given, are updated in place with the
    mean over the batch of each sample's statistics, as by batch_norm; without use_input_stats it is they that are
    used. return_stats: return (y, mean, rstd), both (batch, channels). out: an array like x, or x.
    """
    x = floats(x, "x")
    batch, channels, inner = _channels(x.shape)
    running_mean = running_stat(running_mean, "running_mean", x, channels, use_input_stats)
    running_var = running_stat(running_var, "running_var", x, channels, use_input_stats)
    weight = optional_vector(weight, "weight", x, channels)
    bias = optional_vector(bias, "bias", x, channels)
    _check_running(running_mean, running_var, use_input_stats, "use_input_stats")
    _check_eps(eps)
    if use_input_stats and inner == 1:
        fail("x", x.shape, "more than 1 spatial element with use_input_stats")
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        _check_out(result, weight, bias, running_mean, running_var)
    if use_input_stats:
        _check_updates(x, weight, bias, running_mean, running_var)
    mean = stats_output((batch, channels), x, return_stats)
    rstd = stats_output((batch, channels), x, return_stats)
    kind = GROUP if use_input_stats else FIXED
    _kernels.normalize(
        x,
        running_mean,
        running_var,
        weight,
        bias,
        result,
        mean,
        rstd,
        batch,
        channels,
        1,
        inner,
        kind,
        momentum,
        eps,
    )
    if kind == FIXED and return_stats:
        for sample in range(1, batch):  # the kernel has written those of the channels once
            mean[sample], rstd[sample] = mean[0], rstd[0]
    return with_mean_and_rstd(result, mean, rstd, return_stats)


@operation
def instance_norm_backward(
    grad_output: Any,
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    use_input_stats: bool = True,
    eps: float = 1e-5,
    mean: Any = None,
    rstd: Any = None,
) -> NormGrad:
    """The gradients of instance_norm as (input, weight, bias).

    mean, rstd: what instance_norm returned with use_input_stats, if it was asked to; else they are taken from x again.
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    _check_grad(grad_output, x)
    batch, channels, inner = _channels(x.shape)
    running_mean = optional_vector(running_mean, "running_mean", x, channels)
    running_var = optional_vector(running_var, "running_var", x, channels)
    weight = optional_vector(weight, "weight", x, channels)
    mean = optional_like(mean, "mean", x, (batch, channels))
    rstd = optional_like(rstd, "rstd", x, (batch, channels))
    _check_running(running_mean, running_var, use_input_stats, "use_input_stats")
    _check_stats(mean, rstd)
    _check_eps(eps)
    result = NormGrad(np.empty_like(x), np.empty(channels, x.dtype), np.empty(channels, x.dtype))
    kind = GROUP if use_input_stats else FIXED
    _kernels.normalize_backward(
        grad_output,
        x,
        running_mean,
        running_var,
        weight,
        mean,
        rstd,
        result.input,
        result.weight,
        result.bias,
        batch,
        channels,
        1,
        inner,
        kind,
        eps,
    )
    return result


@operation
def group_norm(
    x: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    return_stats: bool = False,
    out: Array | None = None,
) -> Any:
    """Normalise each sample's num_groups groups of neighbouring channels. torch.nn.functional.group_norm.

    x: (batch, channels, ...). weight, bias: (channels,). return_stats: return (y, mean, rstd), both (batch,
    num_groups). out: an array like x, or x.
    """
    x = floats(x, "x")
    batch, channels, inner = _channels(x.shape)
    _check_groups(num_groups, x.shape)
    weight = optional_vector(weight, "weight", x, channels)
    bias = optional_vector(bias, "bias", x, channels)
    _check_eps(eps)
    each = channels // num_groups
    if batch * each * inner == 1:
        fail("x", x.shape, "more than 1 value per group")
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        _check_out(result, weight, bias, None, None)
    mean = stats_output((batch, num_groups), x, return_stats)
    rstd = stats_output((batch, num_groups), x, return_stats)
    _kernels.normalize(x, None, None, weight, bias, result, mean, rstd, batch, num_groups, each, inner, GROUP, 0.0, eps)
    return with_mean_and_rstd(result, mean, rstd, return_stats)


@operation
def group_norm_backward(
    grad_output: Any,
    x: Any,
    num_groups: int,
    weight: Any = None,
    eps: float = 1e-5,
    mean: Any = None,
    rstd: Any = None,
) -> NormGrad:
    """The gradients of group_norm as (input, weight, bias).

    mean, rstd: what group_norm returned, if it was asked to; else they are taken from x again.
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    _check_grad(grad_output, x)
    batch, channels, inner = _channels(x.shape)
    _check_groups(num_groups, x.shape)
    weight = optional_vector(weight, "weight", x, channels)
    mean = optional_like(mean, "mean", x, (batch, num_groups))
    rstd = optional_like(rstd, "rstd", x, (batch, num_groups))
    _check_stats(mean, rstd)
    _check_eps(eps)
    result = NormGrad(np.empty_like(x), np.empty(channels, x.dtype), np.empty(channels, x.dtype))
    _kernels.normalize_backward(
        grad_output,
        x,
        None,
        None,
        weight,
        mean,
        rstd,
        result.input,
        result.weight,
        result.bias,
        batch,
        num_groups,
        channels // num_groups,
        inner,
        GROUP,
        eps,
    )
    return result


@operation
def layer_norm(
    x: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    return_stats: bool = False,
    out: Array | None = None,
) -> Any:
    """Normalise over the last dimensions, whose sizes are normalized_shape. torch.nn.functional.layer_norm.

    x: (..., *normalized_shape). normalized_shape: a tuple, or an int for the last dimension. weight, bias:
    normalized_shape. return_stats: return (y, mean, rstd), both shaped as the other dimensions. out: an array like x,
    or x.
    """
    x = floats(x, "x")
    rows, last = split_shape(normalized_shape, "normalized_shape", x.shape)
    weight = optional_like(weight, "weight", x, last)
    bias = optional_like(bias, "bias", x, last)
    _check_eps(eps)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        _check_out(result, weight, bias, None, None)
    mean = stats_output(rows, x, return_stats)
    rstd = stats_output(rows, x, return_stats)
    _kernels.normalize(
        x, None, None, weight, bias, result, mean, rstd, _product(rows), 1, _product(last), 1, GROUP, 0.0, eps
    )
    return with_mean_and_rstd(result, mean, rstd, return_stats)


@operation
def layer_norm_backward(
    grad_output: Any,
    x: Any,
    normalized_shape: Any,
    weight: Any = None,
    eps: float = 1e-5,
    mean: Any = None,
    rstd: Any = None,
) -> NormGrad:
    """The gradients of layer_norm as (input, weight, bias).

    mean, rstd: what layer_norm returned, if it was asked to; else they are taken from x again.
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    _check_grad(grad_output, x)
    rows, last = split_shape(normalized_shape, "normalized_shape", x.shape)
    weight = optional_like(weight, "weight", x, last)
    mean = optional_like(mean, "mean", x, rows)
    rstd = optional_like(rstd, "rstd", x, rows)
    _check_stats(mean, rstd)
    _check_eps(eps)
    result = NormGrad(np.empty_like(x), np.empty(last, x.dtype), np.empty(last, x.dtype))
    _kernels.normalize_backward(
        grad_output,
        x,
        None,
        None,
        weight,
        mean,
        rstd,
        result.input,
        result.weight,
        result.bias,
        _product(rows),
        1,
        _product(last),
        1,
        GROUP,
        eps,
    )
    return result


@operation
def rms_norm(
    x: Any,
    normalized_shape: Any,
    weight: Any = None,
    eps: float | None = None,
    return_stats: bool = False,
    out: Array | None = None,
) -> Any:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimensions. torch.nn.functional.rms_norm.

    x: (..., *normalized_shape). normalized_shape: a tuple, or an int for the last dimension. weight:
    normalized_shape. eps: the dtype's machine epsilon where None. return_stats: return (y, rstd), rstd =
    1 / sqrt(mean(x^2) + eps) shaped as the other dimensions. out: an array like x, or x.
    """
    x = floats(x, "x")
    rows, last = split_shape(normalized_shape, "normalized_shape", x.shape)
    weight = optional_like(weight, "weight", x, last)
    least = _epsilon(x, eps)
    _check_eps(least)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        _check_out(result, weight, None, None, None)
    rstd = stats_output(rows, x, return_stats)
    _kernels.normalize(
        x, None, None, weight, None, result, None, rstd, _product(rows), 1, _product(last), 1, RMS, 0.0, least
    )
    return with_rstd(result, rstd, return_stats)


@operation
def rms_norm_backward(
    grad_output: Any,
    x: Any,
    normalized_shape: Any,
    weight: Any = None,
    eps: float | None = None,
    rstd: Any = None,
) -> RMSNormGrad:
    """The gradients of rms_norm as (input, weight).

    rstd: what rms_norm returned, if it was asked to; else it is taken from x again.
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    _check_grad(grad_output, x)
    rows, last = split_shape(normalized_shape, "normalized_shape", x.shape)
    weight = optional_like(weight, "weight", x, last)
    rstd = optional_like(rstd, "rstd", x, rows)
    least = _epsilon(x, eps)
    _check_eps(least)
    result = RMSNormGrad(np.empty_like(x), np.empty(last, x.dtype))
    _kernels.normalize_backward(
        grad_output,
        x,
        None,
        None,
        weight,
        None,
        rstd,
        result.input,
        result.weight,
        None,
        _product(rows),
        1,
        _product(last),
        1,
        RMS,
        least,
    )
    return result


@helper
def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


@helper
def _channels(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape as (batch, channels, what each channel of a sample has)."""
    if len(shape) < 2:
        fail("x", ("shape", shape), "at least 2 dimensions")
    inner = 1
    for i in range(2, len(shape)):
        inner *= shape[i]
    return shape[0], shape[1], inner


@helper
def _epsilon(x: Array, eps: float | None) -> float:
    return np.finfo(x.dtype).eps if eps is None else eps


@helper
def _check_eps(eps: float) -> None:
    if not eps >= 0:
        fail("eps", eps, "at least 0")


@helper
def _check_groups(num_groups: int, shape: tuple[int, ...]) -> None:
    if num_groups < 1 or shape[1] % num_groups != 0:
        fail("num_groups", num_groups, ("at least 1 and a divisor of the channels", shape[1]))


@helper
def _check_grad(grad_output: Array, x: Array) -> None:
    if grad_output.shape != x.shape:
        fail("grad_output", grad_output.shape, x.shape)


@helper
def _check_stats(mean: Array | None, rstd: Array | None) -> None:
    if (mean is None) != (rstd is None):
        fail("mean", "one of mean and rstd", "both or none")


@helper
def _check_running(mean: Array | None, variance: Array | None, optional: bool, flag: str) -> None:
    if (mean is None) != (variance is None):
        fail("running_mean", "one of running_mean and running_var", "both or none")
    if mean is None and not optional:
        fail("running_mean", "None", ("an array without", flag))


@helper
def _check_out(
    result: Array, weight: Array | None, bias: Array | None, mean: Array | None, variance: Array | None
) -> None:
    disjoint(result, "weight", weight)
    disjoint(result, "bias", bias)
    disjoint(result, "running_mean", mean)
    disjoint(result, "running_var", variance)


@helper
def _check_updates(
    x: Array, weight: Array | None, bias: Array | None, mean: Array | None, variance: Array | None
) -> None:
    """What is updated in place shares memory with nothing else."""
    if mean is not None and variance is not None:
        disjoint(mean, "running_var", variance)
        disjoint(mean, "x", x)
        disjoint(variance, "x", x)
        disjoint(mean, "weight", weight)
        disjoint(variance, "weight", weight)
        disjoint(mean, "bias", bias)
        disjoint(variance, "bias", bias)
