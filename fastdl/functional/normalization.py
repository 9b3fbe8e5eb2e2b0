"""Normalization: batch_norm, layer_norm, group_norm, instance_norm, rms_norm, each with its backward.

y = (x - mean) / sqrt(variance + eps) * weight + bias; the functions differ in what mean and variance are taken over.
With return_stats (a literal inside Numba) a forward also returns the mean and rstd = 1 / sqrt(variance + eps) that it
used, in float64; a backward that is given them need not take them from x again, and is as exact.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, overload

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    disjoint,
    fail,
    flag,
    floats,
    floats_like,
    integer,
    number,
    optional_like,
    optional_stats,
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

GROUP, RMS, BATCH, FIXED = _kernels.NORM_GROUP, _kernels.NORM_RMS, _kernels.NORM_BATCH, _kernels.NORM_FIXED

WithStats = tuple[Array, Array, Array]
"""y, mean, rstd."""


class NormGrad(NamedTuple):
    """The gradients of a normalization.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[0, 4], [2, 8]], np.float32)
    >>> grads = fastdl.layer_norm_backward(np.ones_like(x), x, 2)
    >>> grads.weight.round(3), grads.bias
    (array([-2.,  2.], dtype=float32), array([2., 2.], dtype=float32))
    """

    input: Array
    """Of x, shaped as x."""
    weight: Array
    """Of weight, which need not have been given."""
    bias: Array
    """Of bias, which need not have been given."""


class RMSNormGrad(NamedTuple):
    """The gradients of rms_norm.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[3, 4]], np.float32)
    >>> fastdl.rms_norm_backward(np.ones_like(x), x, 2).weight.round(4)
    array([0.8485, 1.1314], dtype=float32)
    """

    input: Array
    """Of x, shaped as x."""
    weight: Array
    """Of weight, which need not have been given."""


_TEXTS = {
    "x": """
        x : array of shape (batch, channels, ...)
            float32 or float64, which is then the dtype of all other arrays but the statistics.
        """,
    "x_rows": """
        x : array of shape (..., *normalized_shape)
            float32 or float64, which is then the dtype of all other arrays but the statistics.
        normalized_shape : int or tuple of ints
            The sizes of the last dimensions, over which is normalised; an int for the last one alone.
        """,
    "running": """
        running_mean, running_var : array of shape (channels,), optional
            Both or none.
        """,
    "affine": """
        weight, bias : array of shape (channels,), optional
            What each channel is multiplied by and what is then added to it: either, both or none.
        """,
    "affine_rows": """
        weight, bias : array of shape normalized_shape, optional
            What each element is multiplied by and what is then added to it: either, both or none.
        """,
    "weight": """
        weight : array of shape (channels,), optional
            What the forward was given.
        """,
    "weight_rows": """
        weight : array of shape normalized_shape, optional
            What the forward was given.
        """,
    "momentum": """
        momentum : float, in [0, 1]
            The part of the new statistics in the running ones.
        """,
    "eps": """
        eps : float, at least 0
            Added to the variance.
        """,
    "return_stats": """
        return_stats : bool
            Whether to return the statistics as well. A literal inside Numba.
        """,
    "out": """
        out : array, optional
            Where to store the result: as x, C-contiguous; x itself, or memory that no argument shares.
        """,
    "grad_output": """
        grad_output : array
            The gradient of what the forward returned, shaped as x.
        """,
    "returns": """
        array or tuple of arrays
            y, shaped as x; with return_stats (y, mean, rstd), the statistics in float64, where
            rstd = 1 / sqrt(variance + eps),
        """,
    "grads": """
        NormGrad
            The gradients of x, of weight and of bias: (input, weight, bias).
        """,
    "raises": """
        Raises
        ------
        ValueError
            Shapes that do not fit each other, numbers out of range, arrays that overlap what is written.
        TypeError
            What is no array (or no number), or has another dtype. Either message names the argument, what was found
            and what was expected; nothing has been written then.
        """,
}


@overload
def batch_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    return_stats: Literal[False] = False,
    out: Array | None = None,
) -> Array: ...
@overload
def batch_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    return_stats: Literal[True],
    out: Array | None = None,
) -> WithStats: ...
@operation
@doc(_TEXTS)
def batch_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    return_stats: bool = False,
    out: Array | None = None,
) -> Array | WithStats:
    """Normalise each channel over the batch, or with running statistics. torch.nn.functional.batch_norm.

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    In training, mean and variance are those of all elements of the channel in the batch, and running statistics, if
    given, are updated in place::

        running = (1 - momentum) * running + momentum * new

    where the new variance is the unbiased one: the sum of squares divided by one less than the number of elements.
    Else they are running_mean and running_var.

    Parameters
    ----------
    {x}
    {running}
        Needed without `training`; with it they are updated, and have to be writable.
    {affine}
    training : bool
        Whether to normalise with the statistics of the batch. There then has to be more than one value a channel.
    {momentum}
    {eps}
    {return_stats}
    {out}

    Returns
    -------
    {returns}
        each of shape (channels,).

    {raises}

    See Also
    --------
    batch_norm_backward : its gradients.

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 1.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[1, 10], [3, 30]], np.float32)
    >>> mean, var = np.zeros(2, np.float32), np.ones(2, np.float32)
    >>> fastdl.batch_norm(x, mean, var, training=True).round(3)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    >>> mean, var
    (array([0.2, 2. ], dtype=float32), array([ 1.1, 20.9], dtype=float32))
    """
    x = floats(x, "x")
    flag(training, "training")
    flag(return_stats, "return_stats")
    momentum, eps = number(momentum, "momentum", 0.0, 1.0), number(eps, "eps", 0.0)
    batch, channels, inner = _channels(x.shape)
    running_mean = running_stat(running_mean, "running_mean", x, channels, training)
    running_var = running_stat(running_var, "running_var", x, channels, training)
    weight = optional_vector(weight, "weight", x, channels)
    bias = optional_vector(bias, "bias", x, channels)
    _check_running(running_mean, running_var, training, "training")
    if training and batch * inner == 1:
        fail("x", x.shape, "more than 1 value per channel in training")
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        _check_out(result, weight, bias, running_mean, running_var)
    if training:
        _check_updates(x, weight, bias, running_mean, running_var)
    mean = stats_output((channels,), return_stats)
    rstd = stats_output((channels,), return_stats)
    kind = BATCH if training else FIXED
    _normalize_channels(
        x, running_mean, running_var, weight, bias, result, mean, rstd, batch, channels, inner, kind, momentum, eps
    )
    return with_mean_and_rstd(result, mean, rstd, return_stats)


@operation
@doc(_TEXTS)
def batch_norm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    training: bool = False,
    eps: float = 1e-5,
    mean: ArrayLike | None = None,
    rstd: ArrayLike | None = None,
) -> NormGrad:
    """The gradients of batch_norm.

    With z = (x - mean) * rstd and h = grad_output * weight, means being over each channel's elements::

        input  = rstd * (h - mean(h) - z * mean(h * z))        in training
        input  = rstd * h                                      else
        weight = sum(grad_output * z)
        bias   = sum(grad_output)

    Parameters
    ----------
    {grad_output}
    {x}
    {running}
        Needed without `training`; not read with it.
    {weight}
    training : bool
        As in the forward.
    {eps}
    mean, rstd : float64 array of shape (channels,), optional
        What batch_norm returned in training, with return_stats; else they are taken from x again.

    Returns
    -------
    {grads}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[1, 10], [3, 30], [5, 80]], np.float32)
    >>> y, mean, rstd = fastdl.batch_norm(x, training=True, return_stats=True)
    >>> grad_output = np.array([[1, 0], [0, 0], [0, 1]], np.float32)
    >>> grads = fastdl.batch_norm_backward(grad_output, x, training=True, mean=mean, rstd=rstd)
    >>> grads.input.round(3)
    array([[ 0.102,  0.004],
           [-0.204, -0.006],
           [ 0.102,  0.002]], dtype=float32)
    """
    x = floats(x, "x")
    flag(training, "training")
    eps = number(eps, "eps", 0.0)
    grad_output = floats_like(grad_output, "grad_output", x)
    _check_grad(grad_output, x)
    batch, channels, inner = _channels(x.shape)
    running_mean = optional_vector(running_mean, "running_mean", x, channels)
    running_var = optional_vector(running_var, "running_var", x, channels)
    weight = optional_vector(weight, "weight", x, channels)
    mean = optional_stats(mean, "mean", (channels,))
    rstd = optional_stats(rstd, "rstd", (channels,))
    _check_running(running_mean, running_var, training, "training")
    _check_stats(mean, rstd)
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
@doc(_TEXTS)
def fuse_conv_bn_weights(
    weight: ArrayLike,
    bias: ArrayLike | None,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    eps: float = 1e-5,
    norm_weight: ArrayLike | None = None,
    norm_bias: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """The weight and bias of a layer that computes what it and a batch_norm after it do in inference.
    torch.nn.utils.fusion.fuse_conv_bn_weights and fuse_linear_bn_weights.

    ::

        scale  = norm_weight / sqrt(running_var + eps)
        weight = weight * scale
        bias   = (bias - running_mean) * scale + norm_bias

    Parameters
    ----------
    weight : array of shape (out, ...)
        Of linear or of a convolution (not a transposed one): float32 or float64, which is then the dtype of all others.
    bias : array of shape (out,) or None
        The layer's.
    running_mean, running_var : array of shape (out,)
        The norm's statistics.
    {eps}
    norm_weight, norm_bias : array of shape (out,), optional
        The norm's.

    Returns
    -------
    tuple of arrays
        The weight and the bias, (out, ...) and (out,), computed in float64 and rounded once.

    {raises}

    See Also
    --------
    record : with freeze=True it does this by itself.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> rng = np.random.default_rng(0)
    >>> x, weight = rng.standard_normal((4, 3)), rng.standard_normal((2, 3))
    >>> mean, var = rng.standard_normal(2), rng.uniform(1, 2, 2)
    >>> one = fastdl.linear(x, *fastdl.fuse_conv_bn_weights(weight, None, mean, var))
    >>> bool(np.allclose(one, fastdl.batch_norm(fastdl.linear(x, weight), mean, var)))
    True
    """
    weight = floats(weight, "weight")
    eps = number(eps, "eps", 0.0)
    outputs, inner = _outputs(weight.shape)
    bias = optional_vector(bias, "bias", weight, outputs)
    mean, var = floats_like(running_mean, "running_mean", weight, 1), floats_like(running_var, "running_var", weight, 1)
    if len(mean) != outputs:
        fail("running_mean", mean.shape, (outputs,))
    if len(var) != outputs:
        fail("running_var", var.shape, (outputs,))
    norm_weight = optional_vector(norm_weight, "norm_weight", weight, outputs)
    norm_bias = optional_vector(norm_bias, "norm_bias", weight, outputs)
    fused, fused_bias = np.empty_like(weight), np.empty(outputs, weight.dtype)
    _kernels.fuse_norm(weight, bias, mean, var, norm_weight, norm_bias, fused, fused_bias, outputs, inner, eps)
    return fused, fused_bias


@overload
def instance_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    return_stats: Literal[False] = False,
    out: Array | None = None,
) -> Array: ...
@overload
def instance_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    return_stats: Literal[True],
    out: Array | None = None,
) -> WithStats: ...
@operation
@doc(_TEXTS)
def instance_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    return_stats: bool = False,
    out: Array | None = None,
) -> Array | WithStats:
    """Normalise each channel of each sample over its own elements. torch.nn.functional.instance_norm.

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    Running statistics, if given, are updated in place as by batch_norm, with the mean over the batch of the samples'
    statistics; without `use_input_stats` it is they that are used.

    Parameters
    ----------
    {x}
        Samples have at least one more dimension, as in torch: one without a batch is x[None].
    {running}
        Needed without `use_input_stats`; with it they are updated, and have to be writable.
    {affine}
    use_input_stats : bool
        Whether to normalise with the statistics of x. A channel then has to have more than one element.
    {momentum}
    {eps}
    {return_stats}
    {out}

    Returns
    -------
    {returns}
        each of shape (batch, channels).

    {raises}

    See Also
    --------
    instance_norm_backward : its gradients.

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, "Instance Normalization: The Missing Ingredient for Fast Stylization", 2016.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[[1, 3], [10, 30]]], np.float32)
    >>> y, mean, rstd = fastdl.instance_norm(x, return_stats=True)
    >>> y.round(3)
    array([[[-1.,  1.],
            [-1.,  1.]]], dtype=float32)
    >>> mean
    array([[ 2., 20.]])
    """
    x = floats(x, "x")
    flag(use_input_stats, "use_input_stats")
    flag(return_stats, "return_stats")
    momentum, eps = number(momentum, "momentum", 0.0, 1.0), number(eps, "eps", 0.0)
    batch, channels, inner = _channels(x.shape)
    running_mean = running_stat(running_mean, "running_mean", x, channels, use_input_stats)
    running_var = running_stat(running_var, "running_var", x, channels, use_input_stats)
    weight = optional_vector(weight, "weight", x, channels)
    bias = optional_vector(bias, "bias", x, channels)
    _check_running(running_mean, running_var, use_input_stats, "use_input_stats")
    if use_input_stats and inner == 1:
        fail("x", x.shape, "more than 1 spatial element with use_input_stats")
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        _check_out(result, weight, bias, running_mean, running_var)
    if use_input_stats:
        _check_updates(x, weight, bias, running_mean, running_var)
    mean = stats_output((batch, channels), return_stats)
    rstd = stats_output((batch, channels), return_stats)
    kind = GROUP if use_input_stats else FIXED
    _normalize_channels(
        x, running_mean, running_var, weight, bias, result, mean, rstd, batch, channels, inner, kind, momentum, eps
    )
    if not use_input_stats and return_stats:
        for sample in range(1, batch):  # the kernel has written those of the channels once
            mean[sample], rstd[sample] = mean[0], rstd[0]
    return with_mean_and_rstd(result, mean, rstd, return_stats)


@operation
@doc(_TEXTS)
def instance_norm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    use_input_stats: bool = True,
    eps: float = 1e-5,
    mean: ArrayLike | None = None,
    rstd: ArrayLike | None = None,
) -> NormGrad:
    """The gradients of instance_norm.

    Those of batch_norm (see batch_norm_backward), where the means are over the elements of each channel of a sample
    and the sums over the batch as well.

    Parameters
    ----------
    {grad_output}
    {x}
    {running}
        Needed without `use_input_stats`; not read with it.
    {weight}
    use_input_stats : bool
        As in the forward.
    {eps}
    mean, rstd : float64 array of shape (batch, channels), optional
        What instance_norm returned with `use_input_stats` and return_stats; else they are taken from x again.

    Returns
    -------
    {grads}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[[1, 3, 5], [10, 30, 80]]], np.float32)
    >>> grad_output = np.array([[[1, 0, 0], [0, 0, 1]]], np.float32)
    >>> fastdl.instance_norm_backward(grad_output, x).input.round(3)
    array([[[ 0.102, -0.204,  0.102],
            [ 0.004, -0.006,  0.002]]], dtype=float32)
    """
    x = floats(x, "x")
    flag(use_input_stats, "use_input_stats")
    eps = number(eps, "eps", 0.0)
    grad_output = floats_like(grad_output, "grad_output", x)
    _check_grad(grad_output, x)
    batch, channels, inner = _channels(x.shape)
    running_mean = optional_vector(running_mean, "running_mean", x, channels)
    running_var = optional_vector(running_var, "running_var", x, channels)
    weight = optional_vector(weight, "weight", x, channels)
    mean = optional_stats(mean, "mean", (batch, channels))
    rstd = optional_stats(rstd, "rstd", (batch, channels))
    _check_running(running_mean, running_var, use_input_stats, "use_input_stats")
    _check_stats(mean, rstd)
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


@overload
def group_norm(
    x: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    return_stats: Literal[False] = False,
    out: Array | None = None,
) -> Array: ...
@overload
def group_norm(
    x: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    return_stats: Literal[True],
    out: Array | None = None,
) -> WithStats: ...
@operation
@doc(_TEXTS)
def group_norm(
    x: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    return_stats: bool = False,
    out: Array | None = None,
) -> Array | WithStats:
    """Normalise each sample's groups of neighbouring channels. torch.nn.functional.group_norm.

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    Mean and variance are those of each group of each sample.

    Parameters
    ----------
    {x}
    num_groups : int
        How many groups; it divides the number of channels. Groups have to have more than one value.
    {affine}
    {eps}
    {return_stats}
    {out}

    Returns
    -------
    {returns}
        each of shape (batch, num_groups).

    {raises}

    See Also
    --------
    group_norm_backward : its gradients.

    References
    ----------
    Wu and He, "Group Normalization", ECCV 2018.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[1, 3, 10, 30]], np.float32)
    >>> fastdl.group_norm(x, 2).round(3)
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    x = floats(x, "x")
    flag(return_stats, "return_stats")
    num_groups, eps = integer(num_groups, "num_groups", 1), number(eps, "eps", 0.0)
    batch, channels, inner = _channels(x.shape)
    _check_groups(num_groups, x.shape)
    weight = optional_vector(weight, "weight", x, channels)
    bias = optional_vector(bias, "bias", x, channels)
    each = channels // num_groups
    if batch * each * inner == 1:
        fail("x", x.shape, "more than 1 value per group")
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        _check_out(result, weight, bias, None, None)
    mean = stats_output((batch, num_groups), return_stats)
    rstd = stats_output((batch, num_groups), return_stats)
    _kernels.normalize(
        x, None, None, None, None, weight, bias, result, mean, rstd, batch, num_groups, each, inner, GROUP, 0.0, eps
    )
    return with_mean_and_rstd(result, mean, rstd, return_stats)


@operation
@doc(_TEXTS)
def group_norm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    eps: float = 1e-5,
    mean: ArrayLike | None = None,
    rstd: ArrayLike | None = None,
) -> NormGrad:
    """The gradients of group_norm.

    With z = (x - mean) * rstd and h = grad_output * weight, means being over the elements of each group of a sample,
    and sums over all but the channels::

        input  = rstd * (h - mean(h) - z * mean(h * z))
        weight = sum(grad_output * z)
        bias   = sum(grad_output)

    Parameters
    ----------
    {grad_output}
    {x}
    num_groups : int
        As in the forward.
    {weight}
    {eps}
    mean, rstd : float64 array of shape (batch, num_groups), optional
        What group_norm returned with return_stats; else they are taken from x again.

    Returns
    -------
    {grads}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[1, 3, 5, 10, 30, 80]], np.float32)
    >>> grad_output = np.array([[1, 0, 0, 0, 0, 1]], np.float32)
    >>> fastdl.group_norm_backward(grad_output, x, 2).input.round(3)
    array([[ 0.102, -0.204,  0.102,  0.004, -0.006,  0.002]], dtype=float32)
    """
    x = floats(x, "x")
    num_groups, eps = integer(num_groups, "num_groups", 1), number(eps, "eps", 0.0)
    grad_output = floats_like(grad_output, "grad_output", x)
    _check_grad(grad_output, x)
    batch, channels, inner = _channels(x.shape)
    _check_groups(num_groups, x.shape)
    weight = optional_vector(weight, "weight", x, channels)
    mean = optional_stats(mean, "mean", (batch, num_groups))
    rstd = optional_stats(rstd, "rstd", (batch, num_groups))
    _check_stats(mean, rstd)
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


@overload
def layer_norm(
    x: ArrayLike,
    normalized_shape: int | tuple[int, ...],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    return_stats: Literal[False] = False,
    out: Array | None = None,
) -> Array: ...
@overload
def layer_norm(
    x: ArrayLike,
    normalized_shape: int | tuple[int, ...],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    return_stats: Literal[True],
    out: Array | None = None,
) -> WithStats: ...
@operation
@doc(_TEXTS)
def layer_norm(
    x: ArrayLike,
    normalized_shape: int | tuple[int, ...],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    return_stats: bool = False,
    out: Array | None = None,
) -> Array | WithStats:
    """Normalise over the last dimensions. torch.nn.functional.layer_norm.

    ::

        y = (x - mean) / sqrt(variance + eps) * weight + bias

    Mean and variance are those over the dimensions of normalized_shape.

    Parameters
    ----------
    {x_rows}
    {affine_rows}
    {eps}
    {return_stats}
    {out}

    Returns
    -------
    {returns}
        shaped as the other dimensions.

    {raises}

    See Also
    --------
    layer_norm_backward : its gradients.
    rms_norm : the same without the mean.

    References
    ----------
    Ba, Kiros and Hinton, "Layer Normalization", 2016.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[0, 4], [2, 8]], np.float32)
    >>> fastdl.layer_norm(x, 2, bias=np.array([0, 1], np.float32)).round(3)
    array([[-1.,  2.],
           [-1.,  2.]], dtype=float32)
    """
    x = floats(x, "x")
    flag(return_stats, "return_stats")
    eps = number(eps, "eps", 0.0)
    rows, last, outer, inner = _split(normalized_shape, x.shape)
    weight = optional_like(weight, "weight", x, last)
    bias = optional_like(bias, "bias", x, last)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        _check_out(result, weight, bias, None, None)
    mean = stats_output(rows, return_stats)
    rstd = stats_output(rows, return_stats)
    _kernels.normalize(x, None, None, None, None, weight, bias, result, mean, rstd, outer, 1, inner, 1, GROUP, 0.0, eps)
    return with_mean_and_rstd(result, mean, rstd, return_stats)


@operation
@doc(_TEXTS)
def layer_norm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    normalized_shape: int | tuple[int, ...],
    weight: ArrayLike | None = None,
    eps: float = 1e-5,
    mean: ArrayLike | None = None,
    rstd: ArrayLike | None = None,
) -> NormGrad:
    """The gradients of layer_norm.

    With z = (x - mean) * rstd and h = grad_output * weight, means being over the dimensions of normalized_shape and
    sums over the others::

        input  = rstd * (h - mean(h) - z * mean(h * z))
        weight = sum(grad_output * z)
        bias   = sum(grad_output)

    Parameters
    ----------
    {grad_output}
    {x_rows}
    {weight_rows}
    {eps}
    mean, rstd : float64 array, shaped as the other dimensions, optional
        What layer_norm returned with return_stats; else they are taken from x again.

    Returns
    -------
    {grads}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[1, 3, 5]], np.float32)
    >>> y, mean, rstd = fastdl.layer_norm(x, 3, return_stats=True)
    >>> grad_output = np.array([[1, 0, 0]], np.float32)
    >>> fastdl.layer_norm_backward(grad_output, x, 3, mean=mean, rstd=rstd).input.round(3)
    array([[ 0.102, -0.204,  0.102]], dtype=float32)
    """
    x = floats(x, "x")
    eps = number(eps, "eps", 0.0)
    grad_output = floats_like(grad_output, "grad_output", x)
    _check_grad(grad_output, x)
    rows, last, outer, inner = _split(normalized_shape, x.shape)
    weight = optional_like(weight, "weight", x, last)
    mean = optional_stats(mean, "mean", rows)
    rstd = optional_stats(rstd, "rstd", rows)
    _check_stats(mean, rstd)
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
        outer,
        1,
        inner,
        1,
        GROUP,
        eps,
    )
    return result


@overload
def rms_norm(
    x: ArrayLike,
    normalized_shape: int | tuple[int, ...],
    weight: ArrayLike | None = None,
    eps: float | None = None,
    return_stats: Literal[False] = False,
    out: Array | None = None,
) -> Array: ...
@overload
def rms_norm(
    x: ArrayLike,
    normalized_shape: int | tuple[int, ...],
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    return_stats: Literal[True],
    out: Array | None = None,
) -> tuple[Array, Array]: ...
@operation
@doc(_TEXTS)
def rms_norm(
    x: ArrayLike,
    normalized_shape: int | tuple[int, ...],
    weight: ArrayLike | None = None,
    eps: float | None = None,
    return_stats: bool = False,
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
    """Divide by the root of the mean square over the last dimensions. torch.nn.functional.rms_norm.

    ::

        y = x / sqrt(mean(x^2) + eps) * weight

    Parameters
    ----------
    {x_rows}
    weight : array of shape normalized_shape, optional
        What each element is multiplied by.
    eps : float, at least 0, or None
        Added to the mean square; the dtype's machine epsilon where None.
    {return_stats}
    {out}

    Returns
    -------
    array or tuple of arrays
        y, shaped as x; with return_stats (y, rstd), where rstd = 1 / sqrt(mean(x^2) + eps), in float64, is shaped as
        the other dimensions.

    {raises}

    See Also
    --------
    rms_norm_backward : its gradients.

    References
    ----------
    Zhang and Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.rms_norm(np.array([[3, 4]], np.float32), 2).round(4)
    array([[0.8485, 1.1314]], dtype=float32)
    """
    x = floats(x, "x")
    flag(return_stats, "return_stats")
    rows, last, outer, inner = _split(normalized_shape, x.shape)
    weight = optional_like(weight, "weight", x, last)
    least = number(_epsilon(x, eps), "eps", 0.0)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        _check_out(result, weight, None, None, None)
    rstd = stats_output(rows, return_stats)
    _kernels.normalize(x, None, None, None, None, weight, None, result, None, rstd, outer, 1, inner, 1, RMS, 0.0, least)
    return with_rstd(result, rstd, return_stats)


@operation
@doc(_TEXTS)
def rms_norm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    normalized_shape: int | tuple[int, ...],
    weight: ArrayLike | None = None,
    eps: float | None = None,
    rstd: ArrayLike | None = None,
) -> RMSNormGrad:
    """The gradients of rms_norm.

    With z = x * rstd and h = grad_output * weight, the mean being over the dimensions of normalized_shape and the sum
    over the others::

        input  = rstd * (h - z * mean(h * z))
        weight = sum(grad_output * z)

    Parameters
    ----------
    {grad_output}
    {x_rows}
    {weight_rows}
    eps : float, at least 0, or None
        As in the forward.
    rstd : float64 array, shaped as the other dimensions, optional
        What rms_norm returned with return_stats; else it is taken from x again.

    Returns
    -------
    RMSNormGrad
        The gradients of x and of weight: (input, weight).

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[3, 4]], np.float32)
    >>> fastdl.rms_norm_backward(np.ones_like(x), x, 2).input.round(4)
    array([[ 0.0453, -0.0339]], dtype=float32)
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    _check_grad(grad_output, x)
    rows, last, outer, inner = _split(normalized_shape, x.shape)
    weight = optional_like(weight, "weight", x, last)
    rstd = optional_stats(rstd, "rstd", rows)
    least = number(_epsilon(x, eps), "eps", 0.0)
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
        outer,
        1,
        inner,
        1,
        RMS,
        least,
    )
    return result


@helper
def _normalize_channels(
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None,
    bias: Array | None,
    y: Array,
    mean: Array | None,
    rstd: Array | None,
    batch: int,
    channels: int,
    inner: int,
    kind: int,
    momentum: float,
    eps: float,
) -> None:
    """By the running statistics (FIXED), which may be read-only then, or by x's own, which update them."""
    sizes, none = (batch, channels, 1, inner), None
    if kind == FIXED:
        _kernels.normalize(
            x, running_mean, running_var, none, none, weight, bias, y, mean, rstd, *sizes, kind, momentum, eps
        )
    else:
        _kernels.normalize(
            x, none, none, running_mean, running_var, weight, bias, y, mean, rstd, *sizes, kind, momentum, eps
        )


@cached_helper
def _outputs(weight: tuple[int, ...]) -> tuple[int, int]:
    """Of a weight: outputs, elements of each."""
    if len(weight) == 0:
        fail("weight", weight, "(out, ...)")
    inner = 1
    for i in range(1, len(weight)):
        inner *= weight[i]
    return weight[0], inner


@cached_helper
def _split(normalized_shape: Any, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
    """The shape as what is before the normalized sizes, those, and the elements of both."""
    rows, last = split_shape(normalized_shape, "normalized_shape", shape)
    outer, inner = 1, 1
    for size in rows:
        outer *= size
    for size in last:
        inner *= size
    return rows, last, outer, inner


@cached_helper
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
def _check_groups(num_groups: int, shape: tuple[int, ...]) -> None:
    if shape[1] % num_groups != 0:
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
def _check_running(mean: Array | None, variance: Array | None, optional: bool, option: str) -> None:
    if (mean is None) != (variance is None):
        fail("running_mean", "one of running_mean and running_var", "both or none")
    if mean is None and not optional:
        fail("running_mean", "None", ("an array without", option))


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
