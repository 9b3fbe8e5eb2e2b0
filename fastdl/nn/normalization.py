"""Normalization."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl._recording import count, get_recorder, writing
from fastdl.functional.verbs import Array, copied, fail, flag, floats
from fastdl.nn._arguments import blame_input, dtype_of, example, float_dtype, normalized_size_of, real, size_of
from fastdl.nn._layer import Layer
from fastdl.nn._parameters import PARAMETERS
from fastdl.nn._saved import is_grad_enabled

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

_SHARED = {
    **PARAMETERS,
    "formula": """
The formula is, of mean and variance over what is said above::

    (x - mean) / sqrt(variance + eps) * weight + bias""",
    "eps": "eps : float\n    Added to the variance, at least 0.",
    "running": """
num_features : int
    The channels.
{eps}
momentum : float or None
    How much of a batch's statistics goes into the running ones, in [0, 1]: ``running = (1 - momentum) * running +
    momentum * new``, of the unbiased variance.
    {average}
affine : bool
    Whether there are a weight and a bias.
track_running_stats : bool
    Whether there are running statistics, which are used in inference. Without them those of the input always are.
{dtype}
bias : bool
    False for a weight alone.

Attributes
----------
weight, bias : (num_features,) array or None
    Ones and zeros at first.
running_mean, running_var : (num_features,) array or None
    Zeros and ones at first; buffers.
num_batches_tracked : () array of int64 or None
    A buffer.""",
}


class _Norm(Layer):
    """What layers of normalization share: weight of ones, bias of zeros."""

    parameter_names: tuple[str, ...] = ("weight", "bias")
    weight: Array | None
    bias: Array | None
    eps: float | None

    def _describe(self, shape: tuple[int, ...], eps: float, affine: bool, bias: bool, dtype: Any) -> None:
        dtype, affine, bias = float_dtype(dtype), flag(affine, "affine"), flag(bias, "bias")
        self.eps = real(eps, "eps", 0.0)
        self.weight = np.ones(shape, dtype) if affine else None
        self.bias = np.zeros(shape, dtype) if affine and bias else None


class _RunningNorm(_Norm):
    buffer_names = ("running_mean", "running_var", "num_batches_tracked")
    counts: bool
    """Whether batches are counted. torch's InstanceNorm does not: with momentum=None its statistics stay the same."""
    ranks: tuple[int, ...]
    """How many dimensions an input may have."""
    alone: int = 0
    """How many it has without a batch."""

    def _running(
        self, num_features: int, eps: float, momentum: float | None, affine: bool, track: bool, dtype: Any, bias: bool
    ) -> None:
        self.num_features = size_of(num_features, "num_features")
        self._describe((self.num_features,), eps, affine, bias, dtype)
        self.momentum = None if momentum is None else real(momentum, "momentum", 0.0, 1.0)
        self.affine, self.track_running_stats = affine, flag(track, "track_running_stats")
        self.running_mean = np.zeros(self.num_features, float_dtype(dtype)) if track else None
        self.running_var = np.ones(self.num_features, float_dtype(dtype)) if track else None
        self.num_batches_tracked = np.zeros((), np.int64) if track else None

    def forward(self, x: Any) -> Array:
        x = floats(x, "x")
        alone = x.ndim == self.alone
        if x.ndim not in self.ranks and not alone:
            counts = sorted({*self.ranks, self.alone} - {0})
            fail("x", f"shape {x.shape}", " or ".join(map(str, counts)) + " dimensions")
        dim = 0 if alone else 1
        if x.shape[dim] != self.num_features:
            blame_input(x, dtype_of(self.weight, self.running_mean), self.num_features, dim - x.ndim, "channels")
        of_input = self.training or self.running_mean is None
        momentum = 0.0
        if self.training and self.num_batches_tracked is not None:
            momentum = self.momentum if self.momentum is not None else self._share() if self.counts else 0.0
        if alone:
            x = x[None]
        try:
            with writing((self.running_mean, self.running_var) if of_input else ()):
                found = getattr(functions(), self.function)(
                    x,
                    self.running_mean,
                    self.running_var,
                    self.weight,
                    self.bias,
                    of_input,
                    momentum,
                    self.eps,
                    return_stats=of_input,
                )
        except (TypeError, ValueError):
            blame_input(x, dtype_of(self.weight, self.running_mean), self.num_features, 1 - x.ndim, "channels")
            raise
        if self.training and self.num_batches_tracked is not None and self.counts:
            count(self.num_batches_tracked)
        if of_input:
            self.save_for_backward(x, None, None, True, found[1], found[2], alone)
        elif is_grad_enabled():  # the gradient is taken with the running statistics as they are now
            self.save_for_backward(x, copied(self.running_mean), copied(self.running_var), False, None, None, alone)
        y = found[0] if of_input else found
        return y[0] if alone else y  # type: ignore[no-any-return]

    def _share(self) -> float:
        """Of the next batch in an average over all."""
        if get_recorder() is not None:
            raise RuntimeError(
                "record: found a norm with momentum=None, whose average changes from call to call, expected a number"
            )
        return 1 / (int(self.num_batches_tracked or 0) + self.counts)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, mean, variance, of_input, *stats, alone = self.saved
        grad_output = floats(grad_output, "grad_output")
        grad = getattr(functions(), self.function_backward)(
            grad_output[None] if alone else grad_output, x, mean, variance, self.weight, of_input, self.eps, *stats
        )
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input[0] if alone else grad.input  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        said = f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"
        return f"{said}, bias={self.bias is not None}, track_running_stats={self.track_running_stats}"


class _BatchNorm(_RunningNorm, function="batch_norm", counts=True):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = np.float32,
        *,
        bias: bool = True,
    ) -> None:
        self._running(num_features, eps, momentum, affine, track_running_stats, dtype, bias)


class _InstanceNorm(_RunningNorm, function="instance_norm", counts=False):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = np.float32,
        *,
        bias: bool = True,
    ) -> None:
        self._running(num_features, eps, momentum, affine, track_running_stats, dtype, bias)


_OF_ALL = "None: the average over all batches so far."
_AS_THEY_ARE = "None: they stay as they are, as in torch."


def _rest(function: str, average: str, shape: str, *see: str) -> dict[str, str]:
    """What docstrings of norms with running statistics have after the first sentence, with an example."""
    name = "BatchNorm" if function == "batch_norm" else "InstanceNorm"
    rank = shape.count(",") - 1
    given = ", ".join(["2", "3", "5", "6", "7"][: rank + 2])
    return {
        **_SHARED,
        **example(f">>> nn.{name}{rank}d(3)(np.ones(({given}), np.float32)).shape\n({given})"),
        "average": average,
        "rest": f"""
Inputs are {shape}{"".join(see)}.

{{formula}}

Parameters
----------
{{running}}

See Also
--------
fastdl.{function} : The function. torch.nn has the same layer.

{{example}}""",
    }


@doc(_rest("batch_norm", _OF_ALL, "(batch, channels, length)", " or (batch, channels)"))
class BatchNorm1d(_BatchNorm, rank=1, ranks=(2, 3)):
    """Normalizes each channel of sequences over the batch and all positions, in inference by the running statistics.

    {rest}
    """


@doc(_rest("batch_norm", _OF_ALL, "(batch, channels, height, width)"))
class BatchNorm2d(_BatchNorm, rank=2, ranks=(4,)):
    """Normalizes each channel of images over the batch and all positions, in inference by the running statistics.

    {rest}
    """


@doc(_rest("batch_norm", _OF_ALL, "(batch, channels, depth, height, width)"))
class BatchNorm3d(_BatchNorm, rank=3, ranks=(5,)):
    """Normalizes each channel of volumes over the batch and all positions, in inference by the running statistics.

    {rest}
    """


@doc(_rest("instance_norm", _AS_THEY_ARE, "(batch, channels, length)", ", or have no batch"))
class InstanceNorm1d(_InstanceNorm, rank=1, ranks=(3,), alone=2):
    """Normalizes each channel of each sample of sequences over its positions.

    {rest}
    """


@doc(_rest("instance_norm", _AS_THEY_ARE, "(batch, channels, height, width)", ", or have no batch"))
class InstanceNorm2d(_InstanceNorm, rank=2, ranks=(4,), alone=3):
    """Normalizes each channel of each sample of images over its positions.

    {rest}
    """


@doc(_rest("instance_norm", _AS_THEY_ARE, "(batch, channels, depth, height, width)", ", or have no batch"))
class InstanceNorm3d(_InstanceNorm, rank=3, ranks=(5,), alone=4):
    """Normalizes each channel of each sample of volumes over its positions.

    {rest}
    """


@doc(
    _SHARED,
    example(">>> nn.LayerNorm(2)(np.array([[1.0, 3.0]], np.float32)).round(3)\narray([[-1.,  1.]], dtype=float32)"),
)
class LayerNorm(_Norm, function="layer_norm"):
    """Normalizes over the last dimensions, whose sizes are normalized_shape.

    {formula}

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The sizes of the dimensions; an int for the last one.
    {eps}
    elementwise_affine : bool
        Whether there are a weight and a bias.
    bias : bool
        False for a weight alone.
    {dtype}

    Attributes
    ----------
    weight, bias : array of normalized_shape or None
        Ones and zeros at first.

    See Also
    --------
    fastdl.layer_norm, torch.nn.LayerNorm

    References
    ----------
    Ba, Kiros and Hinton, "Layer Normalization", 2016.

    {example}
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        self.normalized_shape = normalized_size_of(normalized_shape)
        self.elementwise_affine = flag(elementwise_affine, "elementwise_affine")
        self._describe(self.normalized_shape, eps, elementwise_affine, bias, dtype)

    def forward(self, x: Any) -> Array:
        try:
            y, *stats = functions().layer_norm(
                x, self.normalized_shape, self.weight, self.bias, self.eps, return_stats=True
            )
        except (TypeError, ValueError):
            blame_input(x, dtype_of(self.weight), self.normalized_shape[-1], -1)
            raise
        self.save_for_backward(x, *stats)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, *stats = self.saved
        grad = functions().layer_norm_backward(grad_output, x, self.normalized_shape, self.weight, self.eps, *stats)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        said = f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        return f"{said}, bias={self.bias is not None}"


@doc(_SHARED, example(">>> nn.GroupNorm(2, 6)(np.ones((5, 6, 4, 4), np.float32)).shape\n(5, 6, 4, 4)"))
class GroupNorm(_Norm, function="group_norm"):
    """Normalizes each group of channels of each sample over its channels and positions.

    Inputs are (batch, channels, ...).

    {formula}

    Parameters
    ----------
    num_groups, num_channels : int
        The groups, and the channels, which are a multiple of them.
    {eps}
    affine : bool
        Whether there are a weight and a bias.
    {dtype}
    bias : bool
        False for a weight alone.

    Attributes
    ----------
    weight, bias : (num_channels,) array or None
        Ones and zeros at first.

    See Also
    --------
    fastdl.group_norm, torch.nn.GroupNorm

    References
    ----------
    Wu and He, "Group Normalization", 2018.

    {example}
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = np.float32,
        *,
        bias: bool = True,
    ) -> None:
        self.num_groups = size_of(num_groups, "num_groups", 1)
        self.num_channels, self.affine = size_of(num_channels, "num_channels"), affine
        if num_channels % num_groups:
            fail("num_channels", num_channels, f"a multiple of num_groups, {num_groups}")
        self._describe((self.num_channels,), eps, affine, bias, dtype)

    def forward(self, x: Any) -> Array:
        try:
            y, *stats = functions().group_norm(x, self.num_groups, self.weight, self.bias, self.eps, return_stats=True)
        except (TypeError, ValueError):
            blame_input(x, dtype_of(self.weight), self.num_channels, min(1 - np.ndim(x), -1), "channels")
            raise
        self.save_for_backward(x, *stats)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, *stats = self.saved
        grad = functions().group_norm_backward(grad_output, x, self.num_groups, self.weight, self.eps, *stats)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        said = f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"
        return f"{said}, bias={self.bias is not None}"


@doc(_SHARED, example(">>> nn.RMSNorm(2)(np.array([[1.0, 7.0]], np.float32))\narray([[0.2, 1.4]], dtype=float32)"))
class RMSNorm(_Norm, function="rms_norm"):
    """Divides by the root mean square over the last dimensions, whose sizes are normalized_shape::

        x / sqrt(mean(x**2) + eps) * weight

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The sizes of the dimensions; an int for the last one.
    eps : float, optional
        Added to the mean, at least 0; None is the machine epsilon of the input's dtype.
    elementwise_affine : bool
        Whether there is a weight.
    {dtype}

    Attributes
    ----------
    weight : array of normalized_shape or None
        Ones at first.

    See Also
    --------
    fastdl.rms_norm, torch.nn.RMSNorm

    References
    ----------
    Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.

    {example}
    """

    parameter_names = ("weight",)

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        self.normalized_shape = normalized_size_of(normalized_shape)
        self.elementwise_affine = flag(elementwise_affine, "elementwise_affine")
        self._describe(self.normalized_shape, 0.0 if eps is None else eps, elementwise_affine, False, dtype)
        self.eps = eps

    def forward(self, x: Any) -> Array:
        try:
            y, rstd = functions().rms_norm(x, self.normalized_shape, self.weight, self.eps, return_stats=True)
        except (TypeError, ValueError):
            blame_input(x, dtype_of(self.weight), self.normalized_shape[-1], -1)
            raise
        self.save_for_backward(x, rstd)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, rstd = self.saved
        grad = functions().rms_norm_backward(grad_output, x, self.normalized_shape, self.weight, self.eps, rstd)
        self.set_grads(weight=grad.weight)
        return grad.input  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
