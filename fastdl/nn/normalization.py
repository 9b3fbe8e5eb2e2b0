"""Normalization."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl.functional.verbs import Array, fail, floats
from fastdl.nn._parameters import float_dtype, normalized_size_of, size_of
from fastdl.nn.module import Module, Spatial

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "RMSNorm",
]


class _Norm(Module):
    """What layers of normalization share: weight of ones, bias of zeros, and the statistics that forward saves."""

    parameter_names: tuple[str, ...] = ("weight", "bias")
    weight: Array | None
    bias: Array | None

    def _set(self, shape: tuple[int, ...], weight: bool, bias: bool, dtype: Any) -> None:
        dtype = float_dtype(dtype)
        self.weight = np.ones(shape, dtype) if weight else None
        self.bias = np.zeros(shape, dtype) if bias else None


class _RunningNorm(_Norm, Spatial):
    """momentum: None for the average over all batches so far. Without track_running_stats, statistics are always
    those of the input."""

    buffer_names = ("running_mean", "running_var", "num_batches_tracked")
    function: str
    flag: str
    counts: bool
    """Whether batches are counted. torch's InstanceNorm does not: with momentum=None its statistics stay the same."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        size = (size_of(num_features, "num_features"),)
        self._set(size, affine, affine, dtype)
        self.num_features, self.eps, self.momentum = size[0], eps, momentum
        self.running_mean = np.zeros(size, float_dtype(dtype)) if track_running_stats else None
        self.running_var = np.ones(size, float_dtype(dtype)) if track_running_stats else None
        self.num_batches_tracked = np.zeros((), np.int64) if track_running_stats else None

    def forward(self, x: Any) -> Array:
        x = self._batch(floats(x, "x"))
        if x.shape[1:2] != (self.num_features,):
            fail("x", f"shape {x.shape}", f"{self.num_features} channels")
        of_input = self.training or self.running_mean is None
        running, momentum = (self.running_mean, self.running_var), 0.0
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked += int(self.counts)
            average = 1 / int(self.num_batches_tracked) if self.counts else 0.0
            momentum = average if self.momentum is None else self.momentum
        options = {self.flag: of_input, "eps": self.eps}
        function = getattr(functions(), self.function)
        found = function(x, *running, self.weight, self.bias, **options, momentum=momentum, return_stats=True)
        # In inference the gradient is taken with the running statistics as they are now.
        kept = {"mean": found[1], "rstd": found[2]} if of_input else {}
        held = (None, None) if of_input else tuple(map(np.copy, running))  # type: ignore[arg-type]
        self.save_for_backward(x, held, options | kept)
        return self._unbatch(found[0])

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, running, options = self.saved
        function = getattr(functions(), f"{self.function}_backward")
        grad = function(self._batch(floats(grad_output, "grad_output")), x, *running, self.weight, **options)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return self._unbatch(grad.input)

    def _batch(self, x: Array) -> Array:
        """x as (batch, channels, ...), its dimensions checked."""
        if x.ndim != self.rank + 2 and not (self.rank == 1 and x.ndim == 2):
            fail("x", f"shape {x.shape}", f"{self.rank + 2} dimensions" + (" or 2" if self.rank == 1 else ""))
        return x

    def _unbatch(self, y: Array) -> Array:
        return y


class _BatchNorm(_RunningNorm, function="batch_norm", flag="training", counts=True):
    pass


class _InstanceNorm(_RunningNorm, function="instance_norm", flag="use_input_stats", counts=False):
    """x may be one sample, without a batch."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def _batch(self, x: Array) -> Array:
        self._alone = x.ndim == self.rank + 1
        if x.ndim != self.rank + 2 and not self._alone:
            fail("x", f"shape {x.shape}", f"{self.rank + 1} or {self.rank + 2} dimensions")
        return x[None] if self._alone else x

    def _unbatch(self, y: Array) -> Array:
        return y[0] if self._alone else y


class BatchNorm1d(_BatchNorm, rank=1):
    """fastdl.batch_norm of (batch, channels) or (batch, channels, length). torch.nn.BatchNorm1d."""


class BatchNorm2d(_BatchNorm, rank=2):
    """fastdl.batch_norm. torch.nn.BatchNorm2d."""


class BatchNorm3d(_BatchNorm, rank=3):
    """fastdl.batch_norm. torch.nn.BatchNorm3d."""


class InstanceNorm1d(_InstanceNorm, rank=1):
    """fastdl.instance_norm. torch.nn.InstanceNorm1d."""


class InstanceNorm2d(_InstanceNorm, rank=2):
    """fastdl.instance_norm. torch.nn.InstanceNorm2d."""


class InstanceNorm3d(_InstanceNorm, rank=3):
    """fastdl.instance_norm. torch.nn.InstanceNorm3d."""


class LayerNorm(_Norm):
    """fastdl.layer_norm. torch.nn.LayerNorm."""

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        self.normalized_shape, self.eps = normalized_size_of(normalized_shape), eps
        self._set(self.normalized_shape, elementwise_affine, elementwise_affine and bias, dtype)

    def forward(self, x: Any) -> Array:
        y, mean, rstd = functions().layer_norm(
            x, self.normalized_shape, self.weight, self.bias, self.eps, return_stats=True
        )
        self.save_for_backward(x, mean, rstd)
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, *stats = self.saved
        grad = functions().layer_norm_backward(grad_output, x, self.normalized_shape, self.weight, self.eps, *stats)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input


class GroupNorm(_Norm):
    """fastdl.group_norm. torch.nn.GroupNorm."""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, dtype: Any = np.float32
    ) -> None:
        if size_of(num_groups, "num_groups") < 1 or size_of(num_channels, "num_channels") % num_groups:
            fail("num_channels", num_channels, f"a multiple of num_groups, {num_groups}, which is at least 1")
        self.num_groups, self.eps = num_groups, eps
        self._set((num_channels,), affine, affine, dtype)

    def forward(self, x: Any) -> Array:
        y, mean, rstd = functions().group_norm(x, self.num_groups, self.weight, self.bias, self.eps, return_stats=True)
        self.save_for_backward(x, mean, rstd)
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, *stats = self.saved
        grad = functions().group_norm_backward(grad_output, x, self.num_groups, self.weight, self.eps, *stats)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input


class RMSNorm(_Norm):
    """fastdl.rms_norm. torch.nn.RMSNorm."""

    parameter_names = ("weight",)

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        self.normalized_shape, self.eps = normalized_size_of(normalized_shape), eps
        self._set(self.normalized_shape, elementwise_affine, False, dtype)

    def forward(self, x: Any) -> Array:
        y, rstd = functions().rms_norm(x, self.normalized_shape, self.weight, self.eps, return_stats=True)
        self.save_for_backward(x, rstd)
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, rstd = self.saved
        grad = functions().rms_norm_backward(grad_output, x, self.normalized_shape, self.weight, self.eps, rstd)
        self.set_grads(weight=grad.weight)
        return grad.input
