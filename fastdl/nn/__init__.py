"""Layers: the functions of fastdl with parameters, and what backward needs, remembered.

A layer names its parameters, and writes forward and backward; everything else is in Module:

    class Scale(Module):
        parameter_names = ("weight",)

        def __init__(self, features):
            self.weight = np.ones(features, np.float32)

        def forward(self, x):
            self.save_for_backward(x)
            return x * self.weight

        def backward(self, grad_output, input_grad=True):
            (x,) = self.saved
            self.set_grads(weight=(grad_output * x).sum(0))
            return grad_output * self.weight
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import numpy as np

from fastdl._backend import backend, functions
from fastdl.functional._window import Pair
from fastdl.functional.conv import PADDING_MODES
from fastdl.functional.loss import REDUCTIONS
from fastdl.functional.recurrent import NONLINEARITIES, bound_step, cell_kind
from fastdl.functional.verbs import Array, borders, choice, fail, floats, natural, pads, probability, triple, view

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AlphaDropout",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BoundCell",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Flatten",
    "Fold",
    "GRUCell",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "KLDivLoss",
    "L1Loss",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "Mish",
    "Module",
    "NLLLoss",
    "Output",
    "PReLU",
    "RMSNorm",
    "RNNCell",
    "ReLU",
    "ReLU6",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    "Unfold",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
    "backend",
    "gradient_norms",
]

Self = TypeVar("Self", bound="Module")
Rng: TypeAlias = "np.random.Generator | int | None"  # in words: numpy.random is slow to import


class Module:
    """A layer or a network of layers.

    Attributes that are Modules are its children; their parameters are named "child.parameter", as in torch.
    What forward was given is kept, not copied, until the next forward: change it only after backward.
    """

    parameter_names: tuple[str, ...] = ()
    """Attributes that are parameters: arrays, or None."""
    buffer_names: tuple[str, ...] = ()
    """Attributes that belong to the state as well, but are not trained: arrays, or None."""
    elementwise: bool = False
    """Whether each element of the result depends on the same element of the input only."""
    training: bool = True
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    """backward(grad_output, input_grad=True) returns the gradient of forward's input and fills `grads`.
    Without input_grad, which the first layer of a network does not need, what it returns means nothing."""

    _saved: tuple[Any, ...] | None = None
    _grads: Mapping[str, Array] = MappingProxyType({})

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def save_for_backward(self, *values: Any) -> None:
        self._saved = values

    @property
    def saved(self) -> tuple[Any, ...]:
        """What the last forward saved."""
        if self._saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward: called before forward")
        return self._saved

    def set_grads(self, **grads: Array) -> None:
        """Make these the gradients of this layer's own parameters; one of a parameter that is None is dropped."""
        self._grads = {name: grad for name, grad in grads.items() if getattr(self, name) is not None}

    @property
    def grads(self) -> dict[str, Array]:
        """The gradients that the last backward found, by the names of parameters()."""
        return self._collect(lambda module: module._grads)

    def parameters(self) -> dict[str, Array]:
        """The parameters themselves, not copies, by torch's names."""
        return self._collect(lambda module: module._named(module.parameter_names))

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters and buffers, by torch's names."""
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy into the parameters and buffers what state_dict() of this class, or of the same torch network, returned.

        They keep their dtype. Every key and shape is checked first: after an error nothing has changed.
        """
        parameters = self._state()
        problems = [f"missing {name!r}" for name in parameters if name not in state]
        problems += [f"unexpected {name!r}" for name in state if name not in parameters]
        values = {name: view(state[name], name) for name in parameters if name in state}
        for name, value in values.items():
            if value.shape != parameters[name].shape:
                problems.append(f"{name!r}: found shape {value.shape}, expected {parameters[name].shape}")
            if value.dtype.kind not in ("f" if parameters[name].dtype.kind == "f" else "iu"):
                expected = "a floating-point one" if parameters[name].dtype.kind == "f" else "integers"
                problems.append(f"{name!r}: found dtype {value.dtype}, expected {expected}")
        if problems:
            raise ValueError("state: " + "; ".join(problems))
        for name, value in values.items():
            np.copyto(parameters[name], value, casting="same_kind")

    def train(self: Self, mode: bool = True) -> Self:
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        return self.train(False)

    def children(self) -> dict[str, Module]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Module)}

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        yield self
        for child in self.children().values():
            yield from child.modules()

    def _named(self, names: tuple[str, ...]) -> dict[str, Array]:
        return {name: array for name in names if (array := getattr(self, name)) is not None}

    def _state(self) -> dict[str, Array]:
        return self._collect(lambda module: module._named(module.parameter_names + module.buffer_names))

    def _collect(self, own: Callable[[Module], Mapping[str, Array]]) -> dict[str, Array]:
        found = dict(own(self))
        for prefix, child in self.children().items():
            found.update({f"{prefix}.{name}": array for name, array in child._collect(own).items()})
        return found


class Linear(Module):
    """x weight^T + bias. torch.nn.Linear. rng: a numpy Generator or a seed, for the initial values."""

    parameter_names = ("weight", "bias")

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = np.float32, rng: Rng = None
    ) -> None:
        shape = (_size(out_features, "out_features"), _size(in_features, "in_features"))
        self.weight, self.bias = _initial(shape, bias, dtype, rng)

    def forward(self, x: Any) -> Array:
        self.save_for_backward(x)
        return functions().linear(x, self.weight, self.bias)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        grad = functions().linear_backward(grad_output, *self.saved, self.weight, input_grad=input_grad)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input


class _Spatial(Module):
    """What exists for sequences, images and volumes; says which, and what else tells subclasses apart."""

    rank: int

    def __init_subclass__(cls, **constants: Any) -> None:
        for name, value in constants.items():
            setattr(cls, name, value)


class _Conv(_Spatial):
    """padding: also "same", "valid" or pairs. rng: a numpy Generator or a seed, for the initial values."""

    parameter_names = ("weight", "bias")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = np.float32,
        rng: Rng = None,
    ) -> None:
        for argument, channels in ("in_channels", in_channels), ("out_channels", out_channels):
            if _size(groups, "groups") < 1 or _size(channels, argument) % groups:
                fail(argument, channels, f"a multiple of groups, {groups}, which is at least 1")
        images = (1,) * (self.rank + 2)  # of whatever size
        kernel = triple(kernel_size, "kernel_size", 1, 1, images)
        steps, spread = triple(stride, "stride", 1, 1, images), triple(dilation, "dilation", 1, 1, images)
        pads(padding, "padding", images, kernel, steps, spread)
        choice(padding_mode, "padding_mode", PADDING_MODES)
        self.kernel_size = kernel[3 - self.rank :]
        self.options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.options["padding_mode"] = padding_mode
        self.weight, self.bias = _initial((out_channels, in_channels // groups, *self.kernel_size), bias, dtype, rng)

    def forward(self, x: Any) -> Array:
        self.save_for_backward(x)
        return getattr(functions(), f"conv{self.rank}d")(x, self.weight, self.bias, **self.options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        conv_backward = getattr(functions(), f"conv{self.rank}d_backward")
        grad = conv_backward(grad_output, *self.saved, self.weight, **self.options, input_grad=input_grad)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input


class Conv1d(_Conv, rank=1):
    """fastdl.conv1d. torch.nn.Conv1d."""


class Conv2d(_Conv, rank=2):
    """fastdl.conv2d. torch.nn.Conv2d."""


class Conv3d(_Conv, rank=3):
    """fastdl.conv3d. torch.nn.Conv3d."""


class _Pad(_Spatial):
    """fastdl.pad. padding: an int for all sides, or (before, after) from the last dimension backwards."""

    mode: str = "constant"

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        sides = padding if isinstance(padding, (tuple, list)) else (padding,) * (2 * self.rank)
        borders(sides, "padding", (1,) * self.rank)
        if len(sides) != 2 * self.rank:
            fail("padding", padding, ("an int or", 2 * self.rank, "ints"))
        self.padding: tuple[int, ...] = tuple(sides)
        self.options: dict[str, Any] = {}

    def forward(self, x: Any) -> Array:
        self.save_for_backward()
        return functions().pad(x, self.padding, self.mode, **self.options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return functions().pad_backward(grad_output, *self.saved, self.padding, self.mode)


class _ConstantPad(_Pad):
    def __init__(self, padding: int | tuple[int, ...], value: float) -> None:
        super().__init__(padding)
        self.options = {"value": float(value)}


class ZeroPad1d(_Pad, rank=1):
    """torch.nn.ZeroPad1d."""


class ZeroPad2d(_Pad, rank=2):
    """torch.nn.ZeroPad2d."""


class ZeroPad3d(_Pad, rank=3):
    """torch.nn.ZeroPad3d."""


class ReflectionPad1d(_Pad, rank=1, mode="reflect"):
    """torch.nn.ReflectionPad1d."""


class ReflectionPad2d(_Pad, rank=2, mode="reflect"):
    """torch.nn.ReflectionPad2d."""


class ReflectionPad3d(_Pad, rank=3, mode="reflect"):
    """torch.nn.ReflectionPad3d."""


class ReplicationPad1d(_Pad, rank=1, mode="replicate"):
    """torch.nn.ReplicationPad1d."""


class ReplicationPad2d(_Pad, rank=2, mode="replicate"):
    """torch.nn.ReplicationPad2d."""


class ReplicationPad3d(_Pad, rank=3, mode="replicate"):
    """torch.nn.ReplicationPad3d."""


class CircularPad1d(_Pad, rank=1, mode="circular"):
    """torch.nn.CircularPad1d."""


class CircularPad2d(_Pad, rank=2, mode="circular"):
    """torch.nn.CircularPad2d."""


class CircularPad3d(_Pad, rank=3, mode="circular"):
    """torch.nn.CircularPad3d."""


class ConstantPad1d(_ConstantPad, rank=1):
    """torch.nn.ConstantPad1d."""


class ConstantPad2d(_ConstantPad, rank=2):
    """torch.nn.ConstantPad2d."""


class ConstantPad3d(_ConstantPad, rank=3):
    """torch.nn.ConstantPad3d."""


class Unfold(Module):
    """fastdl.im2col. torch.nn.Unfold."""

    def __init__(
        self, kernel_size: int | Pair, dilation: int | Pair = 1, padding: Any = 0, stride: int | Pair = 1
    ) -> None:
        self.options = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}

    def forward(self, x: Any) -> Array:
        self.save_for_backward(np.shape(x)[2:])
        return functions().im2col(x, **self.options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return functions().col2im(grad_output, *self.saved, **self.options)


class Fold(Module):
    """fastdl.col2im. torch.nn.Fold."""

    def __init__(
        self,
        output_size: int | Pair,
        kernel_size: int | Pair,
        dilation: int | Pair = 1,
        padding: Any = 0,
        stride: int | Pair = 1,
    ) -> None:
        self.output_size = output_size
        self.options = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}

    def forward(self, x: Any) -> Array:
        self.save_for_backward()
        return functions().col2im(x, self.output_size, **self.options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return functions().im2col(grad_output, *self.saved, **self.options)


class _ConvTranspose(Module):
    """What the three have in common; `rank` is the number of spatial dimensions."""

    parameter_names = ("weight", "bias")
    rank: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        dtype: Any = np.float32,
        rng: Rng = None,
    ) -> None:
        for argument, channels in ("in_channels", in_channels), ("out_channels", out_channels):
            if _size(groups, "groups") < 1 or _size(channels, argument) % groups:
                fail(argument, channels, f"a multiple of groups, {groups}, which is at least 1")
        like = (1,) * (2 + self.rank)
        self.kernel = triple(kernel_size, "kernel_size", 1, 1, like)[3 - self.rank :]
        self.options = {"stride": stride, "padding": padding, "output_padding": output_padding}
        self.options |= {"groups": groups, "dilation": dilation}
        shape = (in_channels, out_channels // groups, *self.kernel)
        self.weight, self.bias = _initial(shape, bias, dtype, rng, out_channels)

    def forward(self, x: Any, output_size: Any = None) -> Array:
        """output_size: the sizes of the result, where the stride leaves a choice, in place of output_padding."""
        options = self.options if output_size is None else self.options | {"output_padding": self._more(x, output_size)}
        self.save_for_backward(x, options)
        return getattr(functions(), f"conv_transpose{self.rank}d")(x, self.weight, self.bias, **options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, options = self.saved
        function = getattr(functions(), f"conv_transpose{self.rank}d_backward")
        grad = function(grad_output, x, self.weight, **options, input_grad=input_grad)
        self.set_grads(weight=grad.weight, bias=grad.bias)
        return grad.input

    def _more(self, x: Any, output_size: Any) -> tuple[int, ...]:
        """The output_padding that gives output_size."""
        x = floats(x, "x", 2 + self.rank)
        first = 3 - self.rank
        stride, dilation = (triple(self.options[name], name, 1, 1, x.shape)[first:] for name in ("stride", "dilation"))
        around = pads(self.options["padding"], "padding", x.shape, (1, 1, 1), (1, 1, 1), (1, 1, 1))
        wanted = triple(output_size, "output_size", 1, 1, x.shape)[first:]
        least = tuple(
            (n - 1) * s + d * (k - 1) + 1 - before - after
            for n, k, s, d, before, after in zip(
                x.shape[2:], self.kernel, stride, dilation, around[first:3], around[3 + first :], strict=True
            )
        )
        if not all(0 <= w - n < s for w, n, s in zip(wanted, least, stride, strict=True)):
            fail("output_size", wanted, f"at least {least}, and less than the stride {stride} above it")
        return tuple(w - n for w, n in zip(wanted, least, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """fastdl.conv_transpose1d. torch.nn.ConvTranspose1d. rng: a numpy Generator or a seed, for the initial values."""

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """fastdl.conv_transpose2d. torch.nn.ConvTranspose2d. rng: a numpy Generator or a seed, for the initial values."""

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """fastdl.conv_transpose3d. torch.nn.ConvTranspose3d. rng: a numpy Generator or a seed, for the initial values."""

    rank = 3


class _Elementwise(Module):
    """A layer over an elementwise function. inplace: write the result over x; there is then a backward only where the
    function's gradient can do with the result."""

    elementwise = True
    function: str

    def __init_subclass__(cls, function: str) -> None:
        cls.function = function

    def __init__(self, inplace: bool = False, **options: Any) -> None:
        self.inplace = inplace
        self.options = options
        self.from_result = self.function in _FROM_RESULT and options.get("negative_slope", 0) >= 0

    def forward(self, x: Any) -> Array:
        y: Array = getattr(functions(), self.function)(x, **self.options, out=x if self.inplace else None)
        # Where the result will do, it is what is kept: the next layer keeps it anyway.
        self.save_for_backward(y if self.from_result else x)
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        if self.inplace and not self.from_result:
            fail("inplace", True, ("False:", self.function, "needs for its gradient the input that it has overwritten"))
        return getattr(functions(), f"{self.function}_backward")(grad_output, *self.saved, **self.options)


_FROM_RESULT = {"relu", "relu6", "leaky_relu", "hardtanh", "sigmoid", "tanh"}
"""The functions whose gradient is found from the result: it is what they take, or it stands in for the input."""


class ReLU(_Elementwise, function="relu"):
    """max(x, 0). torch.nn.ReLU."""


class ReLU6(_Elementwise, function="relu6"):
    """min(max(x, 0), 6). torch.nn.ReLU6."""


class LeakyReLU(_Elementwise, function="leaky_relu"):
    """x, below 0 negative_slope x. torch.nn.LeakyReLU."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace, negative_slope=negative_slope)


class ELU(_Elementwise, function="elu"):
    """x, below 0 alpha (e^x - 1). torch.nn.ELU."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace, alpha=alpha)


class SELU(_Elementwise, function="selu"):
    """A scaled ELU that keeps mean 0 and variance 1. torch.nn.SELU."""


class CELU(_Elementwise, function="celu"):
    """x, below 0 alpha (e^(x / alpha) - 1). torch.nn.CELU."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace, alpha=alpha)


class GELU(_Elementwise, function="gelu"):
    """x Phi(x). torch.nn.GELU."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__(False, approximate=approximate)


class SiLU(_Elementwise, function="silu"):
    """x sigmoid(x). torch.nn.SiLU."""


class Mish(_Elementwise, function="mish"):
    """x tanh(softplus(x)). torch.nn.Mish."""


class Softplus(_Elementwise, function="softplus"):
    """log(1 + e^(beta x)) / beta. torch.nn.Softplus."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(False, beta=beta, threshold=threshold)


class Softsign(_Elementwise, function="softsign"):
    """x / (1 + |x|). torch.nn.Softsign."""

    def __init__(self) -> None:
        super().__init__(False)


class Hardtanh(_Elementwise, function="hardtanh"):
    """min(max(x, min_val), max_val). torch.nn.Hardtanh."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace, min_val=min_val, max_val=max_val)


class Hardsigmoid(_Elementwise, function="hardsigmoid"):
    """min(max(x + 3, 0), 6) / 6. torch.nn.Hardsigmoid."""


class Hardswish(_Elementwise, function="hardswish"):
    """x hardsigmoid(x). torch.nn.Hardswish."""


class LogSigmoid(_Elementwise, function="logsigmoid"):
    """log(sigmoid(x)). torch.nn.LogSigmoid."""

    def __init__(self) -> None:
        super().__init__(False)


class Sigmoid(_Elementwise, function="sigmoid"):
    """1 / (1 + e^-x). torch.nn.Sigmoid."""

    def __init__(self) -> None:
        super().__init__(False)


class Tanh(_Elementwise, function="tanh"):
    """The hyperbolic tangent. torch.nn.Tanh."""

    def __init__(self) -> None:
        super().__init__(False)


class PReLU(Module):
    """x, below 0 weight x, weight being a parameter: one, or one for each channel (dimension 1). torch.nn.PReLU."""

    parameter_names = ("weight",)

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = np.float32) -> None:
        self.weight = np.full(_size(num_parameters, "num_parameters"), init, dtype)

    def forward(self, x: Any) -> Array:
        self.save_for_backward(x)
        return functions().prelu(x, self.weight)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        grad = functions().prelu_backward(grad_output, *self.saved, self.weight)
        self.set_grads(weight=grad.weight)
        return grad.input


class Softmax(Module):
    """exp(x) / sum(exp(x)) along dim. torch.nn.Softmax."""

    function = "softmax"

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Array:
        y: Array = getattr(functions(), self.function)(x, self.dim)
        self.save_for_backward(y)
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return getattr(functions(), f"{self.function}_backward")(grad_output, *self.saved, self.dim)


class LogSoftmax(Softmax):
    """log(softmax(x)) along dim. torch.nn.LogSoftmax."""

    function = "log_softmax"


class _Dropout(Module):
    """seed: what the masks follow from; a new one where None. Every forward in training draws from counters of its own:
    `offset` is the first of the next, so that seed and offset make any run reproducible. inplace: write over x.
    Outside training forward returns x itself.
    """

    elementwise = True
    function: str
    whole_channels = False

    def __init__(self, p: float = 0.5, inplace: bool = False, *, seed: int | None = None) -> None:
        self.p, self.inplace = probability(p, "p"), inplace
        self.seed = int(np.random.default_rng().integers(2**63 - 1)) if seed is None else natural(seed, "seed")
        self.offset = 0

    def forward(self, x: Any) -> Any:
        if not self.training:
            self.save_for_backward(None)
            return x
        x = floats(x, "x") if not self.inplace else x
        options = {"p": self.p, "seed": self.seed, "offset": self.offset}
        y = getattr(functions(), self.function)(x, out=x if self.inplace else None, **options)
        self.save_for_backward(options)
        drawn = math.prod(y.shape[:2]) if self.whole_channels else y.size
        self.offset += -(-drawn // 4)
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        (options,) = self.saved
        if options is None:
            return grad_output
        return getattr(functions(), f"{self.function}_backward")(grad_output, **options)


class Dropout(_Dropout):
    """torch.nn.Dropout."""

    function = "dropout"


class AlphaDropout(_Dropout):
    """torch.nn.AlphaDropout."""

    function = "alpha_dropout"


class Dropout1d(_Dropout):
    """torch.nn.Dropout1d."""

    function = "dropout1d"
    whole_channels = True


class Dropout2d(_Dropout):
    """torch.nn.Dropout2d."""

    function = "dropout2d"
    whole_channels = True


class Dropout3d(_Dropout):
    """torch.nn.Dropout3d."""

    function = "dropout3d"
    whole_channels = True


class _Norm(Module):
    """What layers of normalization share: weight of ones, bias of zeros, and the statistics that forward saves."""

    parameter_names: tuple[str, ...] = ("weight", "bias")
    weight: Array | None
    bias: Array | None

    def _set(self, shape: tuple[int, ...], weight: bool, bias: bool, dtype: Any) -> None:
        dtype = _float_dtype(dtype)
        self.weight = np.ones(shape, dtype) if weight else None
        self.bias = np.zeros(shape, dtype) if bias else None


class _RunningNorm(_Norm, _Spatial):
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
        size = (_size(num_features, "num_features"),)
        self._set(size, affine, affine, dtype)
        self.num_features, self.eps, self.momentum = size[0], eps, momentum
        self.running_mean = np.zeros(size, _float_dtype(dtype)) if track_running_stats else None
        self.running_var = np.ones(size, _float_dtype(dtype)) if track_running_stats else None
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
        held = running if of_input else tuple(map(np.copy, running))  # type: ignore[arg-type]
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
        self.normalized_shape, self.eps = _shape(normalized_shape), eps
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
        if _size(num_groups, "num_groups") < 1 or _size(num_channels, "num_channels") % num_groups:
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
        self.normalized_shape, self.eps = _shape(normalized_shape), eps
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


class _Pool(Module):
    """A layer over the function named like its class: MaxPool2d over fastdl.max_pool2d; torch.nn.MaxPool2d."""

    function: str

    def __init_subclass__(cls) -> None:
        cls.function = re.sub(r"(?<=[A-Za-z])(?=[A-Z][a-z])", "_", cls.__name__).lower()

    def __init__(self, **options: Any) -> None:
        self.options = options

    def forward(self, x: Any) -> Any:
        y = getattr(functions(), self.function)(x, **self.options)
        # Positions that were asked for spare the gradient the search for them.
        self.save_for_backward(x, {"indices": y[1]} if isinstance(y, tuple) else {})
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, found = self.saved
        options = {name: value for name, value in self.options.items() if name != "return_indices"}
        return getattr(functions(), f"{self.function}_backward")(grad_output, x, **options, **found)


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        options = {"padding": padding, "dilation": dilation, "return_indices": return_indices, "ceil_mode": ceil_mode}
        super().__init__(kernel_size=kernel_size, stride=stride, **options)


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        options = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad, "divisor_override": divisor_override}
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding, **options)


class _LPPool(_Pool):
    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__(norm_type=float(norm_type), kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode)


class _AdaptiveAvgPool(_Pool):
    def __init__(self, output_size: Any) -> None:
        super().__init__(output_size=output_size)


class _AdaptiveMaxPool(_Pool):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size=output_size, return_indices=return_indices)


class _MaxUnpool(_Pool):
    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding)

    def forward(self, x: Any, indices: Any, output_size: Any = None) -> Array:  # type: ignore[override]
        self.save_for_backward(indices)
        return getattr(functions(), self.function)(x, indices, **self.options, output_size=output_size)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return getattr(functions(), f"{self.function}_backward")(grad_output, *self.saved)


class MaxPool1d(_MaxPool):
    """torch.nn.MaxPool1d."""


class MaxPool2d(_MaxPool):
    """torch.nn.MaxPool2d."""


class MaxPool3d(_MaxPool):
    """torch.nn.MaxPool3d."""


class MaxUnpool1d(_MaxUnpool):
    """torch.nn.MaxUnpool1d."""


class MaxUnpool2d(_MaxUnpool):
    """torch.nn.MaxUnpool2d."""


class MaxUnpool3d(_MaxUnpool):
    """torch.nn.MaxUnpool3d."""


class AvgPool1d(_AvgPool):
    """torch.nn.AvgPool1d."""


class AvgPool2d(_AvgPool):
    """torch.nn.AvgPool2d."""


class AvgPool3d(_AvgPool):
    """torch.nn.AvgPool3d."""


class LPPool1d(_LPPool):
    """torch.nn.LPPool1d."""


class LPPool2d(_LPPool):
    """torch.nn.LPPool2d."""


class LPPool3d(_LPPool):
    """torch.nn.LPPool3d."""


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """torch.nn.AdaptiveAvgPool1d."""


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """torch.nn.AdaptiveAvgPool2d."""


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """torch.nn.AdaptiveAvgPool3d."""


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """torch.nn.AdaptiveMaxPool1d."""


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """torch.nn.AdaptiveMaxPool2d."""


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """torch.nn.AdaptiveMaxPool3d."""


class _Recurrent(Module):
    """A stack of layers over whole sequences: what RNN, LSTM and GRU share.

    layer(x, state=None, lengths=None) returns (output, state after the last step), as torch. x: (steps, batch, in),
    with batch_first (batch, steps, in), or one sequence (steps, in), whose results have no batch either. state: h0, or
    an LSTM's (h0, c0); None is zeros. lengths: (batch,), what torch gives as a packed sequence.
    backward(grad_output, grad_state=None): of both results; either, or a part of an LSTM's, may be None, which is 0.
    It also sets `state_grad`, the gradient of the initial state, in the form of that state.

    truncate: k > 0 cuts the states' gradients every k steps. rng: a numpy Generator or a seed, for the initial values
    and for the seed of dropout, whose `offset` moves on with every forward in training. Outside training forward keeps
    nothing, and there is no backward. Inside nn.Sequential, nn.Output follows.
    """

    function: str
    gates: int
    state_names: tuple[str, ...] = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        dtype: Any = np.float32,
        rng: Rng = None,
        truncate: int = 0,
        **options: Any,
    ) -> None:
        self.input_size, self.hidden_size = _size(input_size, "input_size"), _units(hidden_size)
        self.output_size = _size(proj_size, "proj_size") or self.hidden_size
        if proj_size >= hidden_size:
            fail("proj_size", proj_size, ("less than hidden_size,", hidden_size))
        if _size(num_layers, "num_layers") < 1:
            fail("num_layers", num_layers, "at least 1")
        self.truncate = natural(truncate, "truncate")
        self.options = {"num_layers": num_layers, "bidirectional": bidirectional, "batch_first": batch_first, **options}
        self.options["dropout"] = probability(dropout, "dropout")
        self.directions = 2 if bidirectional else 1
        rng, dtype = np.random.default_rng(rng), _float_dtype(dtype)
        self.parameter_names: tuple[str, ...] = ()
        for layer in range(num_layers):
            width = self.directions * self.output_size if layer else self.input_size
            for suffix in (f"_l{layer}", f"_l{layer}_reverse")[: self.directions]:
                shapes = _recurrent_shapes(self.gates, width, self.hidden_size, self.output_size, bias)
                if proj_size:
                    shapes["weight_hr"] = self.output_size, self.hidden_size
                for name, shape in shapes.items():
                    setattr(self, name + suffix, _within_root(shape, self.hidden_size, dtype, rng))
                    self.parameter_names += (name + suffix,)
        self.seed, self.offset = int(rng.integers(2**63 - 1)), 0
        self.state_grad: Any = None

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Array, Any]:
        x = floats(x, "x")
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            fail("x", x.shape, ("(steps, batch,", self.input_size, ") or (steps,", self.input_size, ")"))
        one = x.ndim == 2
        if one:
            x = np.expand_dims(x, self._batch)
        states = tuple(self._with_batch(s, f"{name}0", one) for name, s in self._parts(state, "state"))
        options = self.options | {"lengths": lengths, "training": self.training, "seed": self.seed}
        options["offset"] = self.offset
        function = getattr(functions(), self.function)
        output, *after = function(x, self._weights(), *states, **options, return_saved=self.training)
        self.save_for_backward()
        if self.training:
            self.save_for_backward(x, after.pop(), states, options, output.shape, one)
            rows = (self.options["num_layers"] - 1) * x.shape[0] * x.shape[1]
            self.offset += rows * -(-output.shape[2] // 4)
        if one:
            output, after = output.squeeze(self._batch), [s.squeeze(1) for s in after]
        return output, self._joined(after)

    def backward(self, grad_output: Any, grad_state: Any = None, input_grad: bool = True) -> Array:
        grad, one = self._gradients(grad_output, grad_state, input_grad), self.saved[-1]
        self.set_grads(**dict(zip(self.parameter_names, grad.weights, strict=True)))
        states = grad[2 : 2 + len(self.state_names)]
        self.state_grad = self._joined([s.squeeze(1) for s in states] if one else states)
        return grad.input.squeeze(self._batch) if one and input_grad else grad.input

    def _gradients(
        self, grad_output: Any, grad_state: Any, input_grad: bool, state_grad_norms: Array | None = None
    ) -> Any:
        """What the function's backward returns, with a batch."""
        x, saved, states, options, shape, one = self._kept()
        if grad_output is None:
            grad_output = np.zeros(shape, x.dtype)
        elif one:
            grad_output = np.expand_dims(floats(grad_output, "grad_output", 2), self._batch)
        grads = tuple(self._with_batch(s, f"grad_{name}_n", one) for name, s in self._parts(grad_state, "grad_state"))
        options = options | {"truncate": self.truncate, "input_grad": input_grad, "state_grad_norms": state_grad_norms}
        backward = getattr(functions(), f"{self.function}_backward")
        return backward(grad_output, x, self._weights(), saved, *states, *grads, **options)

    def _kept(self) -> tuple[Any, ...]:
        if not self.saved:
            raise RuntimeError(f"{type(self).__name__}.backward: forward was called in eval mode, and kept nothing")
        return self.saved

    @property
    def _batch(self) -> int:
        """Where x has its batch."""
        return 0 if self.options["batch_first"] else 1

    def _weights(self) -> tuple[Array, ...]:
        return tuple(getattr(self, name) for name in self.parameter_names)

    def _parts(self, state: Any, argument: str) -> list[tuple[str, Any]]:
        """The arrays that make up a state, or None, by name."""
        return list(zip(self.state_names, _split_state(state, argument, len(self.state_names)), strict=True))

    def _joined(self, states: Any) -> Any:
        return states[0] if len(self.state_names) == 1 else tuple(states)

    def _with_batch(self, state: Any, argument: str, one: bool) -> Any:
        return floats(state, argument, 2)[:, None] if one and state is not None else state


class RNN(_Recurrent):
    """fastdl.rnn. torch.nn.RNN."""

    function, gates = "rnn", 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = np.float32,
        rng: Rng = None,
        truncate: int = 0,
    ) -> None:
        choice(nonlinearity, "nonlinearity", NONLINEARITIES)
        sizes = input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        super().__init__(*sizes, dtype=dtype, rng=rng, truncate=truncate, nonlinearity=nonlinearity)


class LSTM(_Recurrent):
    """fastdl.lstm. torch.nn.LSTM. Its states are pairs (h, c)."""

    function, gates, state_names = "lstm", 4, ("h", "c")


class GRU(_Recurrent):
    """fastdl.gru. torch.nn.GRU. linear_before_reset: as gru's."""

    function, gates = "gru", 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = np.float32,
        rng: Rng = None,
        truncate: int = 0,
        linear_before_reset: bool = True,
    ) -> None:
        sizes = input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        super().__init__(*sizes, dtype=dtype, rng=rng, truncate=truncate, linear_before_reset=linear_before_reset)


class Output(Module):
    """The output of a recurrent layer without the states, for the next layer of a Sequential."""

    def forward(self, x: tuple[Array, Any]) -> Array:
        return x[0]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        return grad_output


def gradient_norms(layer: _Recurrent, grad_output: Any, grad_state: Any = None) -> Array:
    """How gradients vanish or explode: the norm, over batch and hidden units, of the loss' gradient in the hidden state
    of each step, as (num_layers directions, steps).

    layer: an RNN, LSTM or GRU after a forward in training; the other arguments are as its backward's. Its grads stay as
    they are.
    """
    x = layer._kept()[0]
    shape = layer.options["num_layers"] * layer.directions, x.shape[1 - layer._batch]
    norms = np.zeros(shape, x.dtype)
    layer._gradients(grad_output, grad_state, False, norms)
    return norms


class _Cell(Module):
    """One step: what RNNCell, LSTMCell and GRUCell share. To train over sequences, take the layers above: a cell
    remembers one forward.

    cell(x, state=None) returns the next state: h, or an LSTM's (h, c). x: (batch, in) or (in,); state None is zeros.
    backward(grad_output): of what forward returned, in that form; sets `state_grad`, the gradient of `state`.
    rng: a numpy Generator or a seed, for the initial values.
    """

    parameter_names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    function: str
    gates: int
    states: int = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = np.float32,
        rng: Rng = None,
        **options: Any,
    ) -> None:
        self.input_size, self.hidden_size = _size(input_size, "input_size"), _units(hidden_size)
        self.options = options
        rng, dtype = np.random.default_rng(rng), _float_dtype(dtype)
        shapes = _recurrent_shapes(self.gates, self.input_size, self.hidden_size, self.hidden_size, bias)
        for name in self.parameter_names:
            setattr(self, name, _within_root(shapes[name], hidden_size, dtype, rng) if name in shapes else None)
        self.state_grad: Any = None

    def forward(self, x: Any, state: Any = None) -> Any:
        x = floats(x, "x")
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            fail("x", x.shape, ("(batch,", self.input_size, ") or (", self.input_size, ",)"))
        parts = _split_state(state, "state", self.states)
        states = [np.zeros((*x.shape[:-1], self.hidden_size), x.dtype) if s is None else s for s in parts]
        self.save_for_backward(x, *states)
        return getattr(functions(), self.function)(x, *states, *self._weights(), **self.options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, *states = self.saved
        grad_h, *grad_c = _split_state(grad_output, "grad_output", self.states)
        if grad_h is None:
            grad_h = np.zeros_like(states[0])
        backward = getattr(functions(), f"{self.function}_backward")
        grad = backward(grad_h, x, *states, *self._weights(), *grad_c, **self.options)
        self.set_grads(**{name: getattr(grad, name) for name in self.parameter_names})
        self.state_grad = grad.h if self.states == 1 else (grad.h, grad.c)
        return grad.input

    def bind(self, batch: int = 1) -> BoundCell:
        """This cell for streaming, with the parameters that it has now."""
        return BoundCell(self, _size(batch, "batch"))

    def _weights(self) -> tuple[Any, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh  # type: ignore[attr-defined]


class RNNCell(_Cell):
    """fastdl.rnn_cell. torch.nn.RNNCell."""

    function, gates = "rnn_cell", 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = np.float32,
        rng: Rng = None,
    ) -> None:
        choice(nonlinearity, "nonlinearity", NONLINEARITIES)
        super().__init__(input_size, hidden_size, bias, dtype, rng, nonlinearity=nonlinearity)


class LSTMCell(_Cell):
    """fastdl.lstm_cell. torch.nn.LSTMCell. Its states are pairs (h, c)."""

    function, gates, states = "lstm_cell", 4, 2

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = np.float32, rng: Rng = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype, rng)


class GRUCell(_Cell):
    """fastdl.gru_cell. torch.nn.GRUCell. linear_before_reset: as gru_cell's."""

    function, gates = "gru_cell", 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = np.float32,
        rng: Rng = None,
        linear_before_reset: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype, rng, linear_before_reset=linear_before_reset)


class BoundCell:
    """A cell that steps over arrays of its own: nothing is allocated and nothing checked.

        stream = cell.bind()
        for sample in sensor:
            h = stream(sample)  # copies into stream.x, steps, and returns stream.h, which the next step overwrites

    x: (batch, in), what the next step reads. h and, of an LSTM, c: (batch, hidden), the states, which may be set too.
    step(): reads x and replaces the states. The arrays are written, never exchanged for others.
    The parameters are those that the cell had when it was bound: after a change, bind it again.
    """

    def __init__(self, cell: _Cell, batch: int) -> None:
        dtype = cell._weights()[0].dtype
        self.x = np.zeros((batch, cell.input_size), dtype)
        states = [np.zeros((batch, cell.hidden_size), dtype) for _ in range(cell.states)]
        self.h = states[0]
        if len(states) == 2:
            self.c = states[1]
        self._states = states
        self.step: Callable[[], None] = _stepper(cell, self.x, states)

    def __call__(self, x: Any) -> Array:
        np.copyto(self.x, x)
        self.step()
        return self.h

    def reset(self) -> None:
        """Back to states of zeros."""
        for state in self._states:
            state.fill(0)


def _stepper(cell: _Cell, x: Array, states: list[Array]) -> Callable[[], None]:
    """What makes a step with these arrays."""
    import fastdl

    weights = [None if a is None else a.copy() for a in cell._weights()]
    if functions() is fastdl:
        h, c = states if len(states) == 2 else (states[0], None)
        return bound_step(cell_kind(cell.function, **cell.options), x, h, c, *weights)  # type: ignore[arg-type]
    function, options = getattr(functions(), cell.function), dict(cell.options)

    def step() -> None:
        result = function(x, *states, *weights, **options)
        for state, value in zip(states, result if len(states) == 2 else (result,), strict=True):
            state[...] = value

    return step


class Flatten(Module):
    """The dimensions from start_dim to end_dim as one. torch.nn.Flatten."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Array:
        x = floats(x, "x")
        start, end = (d + x.ndim if d < 0 else d for d in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < x.ndim:
            fail("x", f"shape {x.shape}", f"dimensions {self.start_dim} to {self.end_dim} in it")
        self.save_for_backward(x.shape)
        return x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return floats(grad_output, "grad_output").reshape(*self.saved)


class Sequential(Module):
    """Layers one after another. torch.nn.Sequential: layers, or one dict of named layers.

    Each is given what the one before returned: after a recurrent layer, which returns a pair, comes nn.Output()."""

    def __init__(self, *layers: Any) -> None:
        named = layers[0] if len(layers) == 1 and isinstance(layers[0], Mapping) else dict(enumerate(layers))
        self.layers: dict[str, Module] = {str(name): layer for name, layer in named.items()}
        for name, layer in self.layers.items():
            if not isinstance(layer, Module):
                raise TypeError(f"layers: found {type(layer).__name__} as {name!r}, expected a Module")
        modules = list(self.modules())
        if len({id(module) for module in modules}) < len(modules):
            fail("layers", "the same layer twice", "each once (a layer remembers one forward)")

    def children(self) -> dict[str, Module]:
        return self.layers

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Module:
        return list(self.layers.values())[index]

    def forward(self, x: Any) -> Any:
        for layer in self.layers.values():
            x = layer(x)
        return x

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        first = next(iter(self.layers), None)
        for name, layer in reversed(self.layers.items()):
            grad_output = layer.backward(grad_output, input_grad=input_grad or name != first)
        return grad_output


class _Loss(Module):
    """loss(*inputs), the last of them the target; backward() returns the gradient of the others.

    `function` is one of fastdl's, which everything else is given to as keywords."""

    function: str

    def __init__(self, reduction: str, allowed: tuple[str, ...] = REDUCTIONS[:3], **options: Any) -> None:
        choice(reduction, "reduction", allowed)
        self.options = {"reduction": reduction, **options}

    def forward(self, *inputs: Any) -> Array:
        self.save_for_backward(*inputs)
        return getattr(functions(), self.function)(*inputs, **self.options)

    def backward(self, grad_output: Any = None) -> Any:
        """The gradient of the input. grad_output: 1 where None; needed only for reduction "none"."""
        saved = self.saved
        if grad_output is None:
            grad_output = np.ones((), floats(saved[0], "input").dtype)
        return getattr(functions(), f"{self.function}_backward")(grad_output, *saved, **self.options)


class MSELoss(_Loss):
    """torch.nn.MSELoss."""

    function = "mse_loss"

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class L1Loss(_Loss):
    """torch.nn.L1Loss."""

    function = "l1_loss"

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class HuberLoss(_Loss):
    """torch.nn.HuberLoss."""

    function = "huber_loss"

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction, delta=delta)


class SmoothL1Loss(_Loss):
    """torch.nn.SmoothL1Loss."""

    function = "smooth_l1_loss"

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction, beta=beta)


class BCELoss(_Loss):
    """torch.nn.BCELoss: of probabilities."""

    function = "binary_cross_entropy"

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight)


class BCEWithLogitsLoss(_Loss):
    """torch.nn.BCEWithLogitsLoss."""

    function = "binary_cross_entropy_with_logits"

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction, weight=weight, pos_weight=pos_weight)


class KLDivLoss(_Loss):
    """torch.nn.KLDivLoss: of log-probabilities."""

    function = "kl_div"

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction, REDUCTIONS, log_target=log_target)


class HingeEmbeddingLoss(_Loss):
    """torch.nn.HingeEmbeddingLoss."""

    function = "hinge_embedding_loss"

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)


class CosineEmbeddingLoss(_Loss):
    """torch.nn.CosineEmbeddingLoss: loss(x1, x2, target); backward returns the gradients of x1 and x2."""

    function = "cosine_embedding_loss"

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)


class NLLLoss(_Loss):
    """torch.nn.NLLLoss: of log-probabilities and class indices."""

    function = "nll_loss"

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight, ignore_index=ignore_index)


class CrossEntropyLoss(_Loss):
    """torch.nn.CrossEntropyLoss: of scores, and class indices or probabilities."""

    function = "cross_entropy"

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing)


def _size(value: Any, argument: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{argument}: found {value!r}, expected an int")
    if value < 0:
        fail(argument, value, "at least 0")
    return int(value)


def _shape(value: Any) -> tuple[int, ...]:
    """A normalized_shape, as a tuple."""
    shape = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not shape:
        fail("normalized_shape", value, "at least one size")
    return tuple(_size(n, "normalized_shape") for n in shape)


def _float_dtype(dtype: Any) -> Any:
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype: found {dtype}, expected float32 or float64")
    return dtype


def _units(hidden_size: Any) -> int:
    if _size(hidden_size, "hidden_size") < 1:
        fail("hidden_size", hidden_size, "at least 1")
    return int(hidden_size)


def _recurrent_shapes(gates: int, width: int, hidden: int, output: int, bias: bool) -> dict[str, tuple[int, ...]]:
    """The parameters of one layer in one direction, or of a cell."""
    rows = gates * hidden
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, output)}
    return shapes | ({"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {})


def _within_root(shape: tuple[int, ...], hidden: int, dtype: Any, rng: np.random.Generator) -> Array:
    """Initial values of recurrent networks, as torch's."""
    bound = 1 / math.sqrt(hidden)
    return rng.uniform(-bound, bound, shape).astype(dtype)


def _split_state(state: Any, argument: str, count: int) -> tuple[Any, ...]:
    """The arrays of a state: one, or a pair."""
    if state is None:
        return (None,) * count
    if count == 1:
        return (state,)
    if not isinstance(state, (tuple, list)) or len(state) != count:
        found = f"{len(state)} values" if isinstance(state, (tuple, list)) else type(state).__name__
        raise TypeError(f"{argument}: found {found}, expected a pair (h, c)")
    return tuple(state)


def _initial(
    shape: tuple[int, ...], bias: bool, dtype: Any, rng: Rng, features: int | None = None
) -> tuple[Array, Array | None]:
    """Weight and bias (shape[0] values, or `features`) as torch starts them: Kaiming uniform with a = sqrt(5), which is
    1 / sqrt(fan_in) for both."""
    dtype = _float_dtype(dtype)
    rng = np.random.default_rng(rng)
    fan_in = math.prod(shape[1:])
    bound = 1 / np.sqrt(fan_in) if fan_in else 0.0
    weight = rng.uniform(-bound, bound, shape).astype(dtype)
    features = shape[0] if features is None else features
    return weight, rng.uniform(-bound, bound, features).astype(dtype) if bias else None
