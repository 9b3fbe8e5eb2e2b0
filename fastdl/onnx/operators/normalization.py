"""Normalization."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdl
from fastdl.functional.verbs import Array
from fastdl.onnx._table import Node, is_floats, operator
from fastdl.onnx.operators._shared import axes_of, bordered, contiguous


def _norm(x: Array, scale: Array, bias: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    return fastdl.batch_norm(x, mean, variance, scale, bias, False, 0.1, epsilon)


def _same_floats(node: Node, *values: Any) -> bool:
    return is_floats(*values) and not node.attributes.get("training_mode", 0)


@operator("BatchNormalization", since=14, kernels=_same_floats)
def batch_norm(
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
    node: Node,
) -> Any:
    """momentum is the part that is kept, and the running variance takes the biased one."""
    dtype = x.dtype
    x, scale, bias, mean_, variance_ = (
        a if is_floats(x, scale, bias, mean, variance) else a.astype(np.result_type(np.float32, x.dtype))
        for a in (x, scale, bias, mean, variance)
    )
    if not training_mode:
        return _norm(x, scale, bias, mean_, variance_, epsilon).astype(dtype, copy=False)
    found = mean_.copy(), variance_.copy()
    y = fastdl.batch_norm(x, *found, scale, bias, True, 1 - momentum, epsilon)
    count = x.size // x.shape[1]
    kept = variance_ * variance_.dtype.type(momentum)
    biased = kept + (found[1] - kept) * ((count - 1) / count)
    return (y.astype(dtype), found[0].astype(mean.dtype), biased.astype(variance.dtype))[: len(node.outputs)]


@operator("BatchNormalization", kernels=_same_floats)
def batch_norm_1(
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    is_test: int = 1,
    spatial: int = 1,
    node: Node,
) -> Array:
    if not spatial:
        raise ValueError("spatial: found 0, expected 1")
    return batch_norm(x, scale, bias, mean, variance, epsilon=epsilon, node=node)


def _shape_of(x: Array, axis: int) -> tuple[int, ...]:
    (at,) = axes_of([axis], x.ndim)
    return x.shape[at:]


def _fitting(node: Node, x: Any, scale: Any, bias: Any = None) -> bool:
    if not is_floats(x, scale, bias):
        return False
    return scale.shape == _shape_of(x, node.attributes.get("axis", -1)) and len(node.outputs) == 1


@operator("LayerNormalization", kernels=_fitting)
def layer_norm(
    x: Array,
    scale: Array,
    bias: Array | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    node: Node,
) -> Any:
    shape = _shape_of(x, axis)
    if _fitting(node, x, scale, bias):
        return fastdl.layer_norm(x, shape, scale, bias, epsilon)
    wide = x.astype(np.float64 if x.dtype == np.float64 else np.float32)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    mean = wide.mean(axes, keepdims=True)
    inverse = 1 / np.sqrt(((wide - mean) ** 2).mean(axes, keepdims=True) + epsilon)
    y = ((wide - mean) * inverse).astype(x.dtype) * scale
    y = y if bias is None else y + bias
    return (y.astype(x.dtype), mean.astype(wide.dtype), inverse.astype(wide.dtype))[: len(node.outputs)]


@operator("RMSNormalization", kernels=_fitting)
def rms_norm(
    x: Array, scale: Array, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1, node: Node
) -> Array:
    shape = _shape_of(x, axis)
    if _fitting(node, x, scale):
        return fastdl.rms_norm(x, shape, scale, epsilon)
    wide = x.astype(np.float64 if x.dtype == np.float64 else np.float32)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    inverse = 1 / np.sqrt((wide**2).mean(axes, keepdims=True) + epsilon)
    return ((wide * inverse).astype(x.dtype) * scale).astype(x.dtype)


@operator("GroupNormalization", since=21, kernels=True)
def group_norm(
    x: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Array:
    return fastdl.group_norm(x, num_groups, scale, bias, epsilon)


@operator("GroupNormalization", since=18, kernels=False)
def group_norm_18(
    x: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Array:
    """With a scale and bias for each group."""
    each = x.shape[1] // num_groups
    wide = np.float64 if x.dtype == np.float64 else np.float32
    arrays = x.astype(wide), np.repeat(scale, each).astype(wide), np.repeat(bias, each).astype(wide)
    return fastdl.group_norm(arrays[0], num_groups, arrays[1], arrays[2], epsilon).astype(x.dtype)


@operator("InstanceNormalization", kernels=True)
def instance_norm(x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5) -> Array:
    return fastdl.instance_norm(x, None, None, scale, bias, True, 0.1, epsilon)


@operator("MeanVarianceNormalization", kernels=lambda node, x: is_floats(x) and _channels(node, x))
def mean_variance_norm(x: Array, *, axes: list[int] | None = None, node: Node) -> Array:
    if is_floats(x) and _channels(node, x):
        return fastdl.batch_norm(x, training=True, eps=1e-18)
    at = axes_of([0, 2, 3] if axes is None else axes, x.ndim)
    wide = x.astype(np.float64 if x.dtype == np.float64 else np.float32)
    centred = wide - wide.mean(at, keepdims=True)
    return (centred / (np.sqrt((centred**2).mean(at, keepdims=True)) + 1e-9)).astype(x.dtype)


def _channels(node: Node, x: Any) -> bool:
    axes = axes_of(node.attributes.get("axes", [0, 2, 3]), x.ndim)
    return x.ndim >= 2 and axes == (0, *range(2, x.ndim))


@operator("LpNormalization")
def lp_norm(x: Array, *, axis: int = -1, p: int = 2) -> Array:
    """0 where the norm is."""
    norm = np.abs(x).sum(axis, keepdims=True) if p == 1 else np.sqrt((x * x).sum(axis, keepdims=True))
    return np.divide(x, norm, out=np.zeros_like(x), where=norm != 0)


@operator("LRN", kernels=True)
def lrn(x: Array, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Array:
    """Divided by a power of the mean square of neighbouring channels, which is average pooling."""
    x = contiguous(x)
    n, c = x.shape[:2]
    squares = bordered(fastdl.mul(x, x).reshape(n, 1, c, -1), (((size - 1) // 2, size // 2), (0, 0)))
    means = fastdl.avg_pool2d(squares, (size, 1), 1)
    return fastdl.div(x, fastdl.pow(fastdl.add(fastdl.mul(means, alpha), bias), beta).reshape(x.shape))
