"""Activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl.functional.verbs import Array, copied, fail, flag, floats, integer
from fastdl.nn._arguments import (
    blame_input,
    example,
    float_dtype,
    in_place,
    one_of,
    real,
    size_of,
)
from fastdl.nn._layer import Layer
from fastdl.nn._parameters import PARAMETERS
from fastdl.nn._saved import is_grad_enabled

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Elementwise",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]

_SHARED = {
    "elementwise": "Input and output are arrays of the same shape, whatever it is, and of float32 or float64.",
    "inplace": """
inplace : bool
    Write the result over the input, which has to be a C-contiguous array.""",
    "dim": """
dim : int
    The dimension along which the values sum to 1; below 0 it counts from the last.""",
}


class _Elementwise(Layer):
    """A layer over an elementwise function, whose further arguments are `_arguments()`."""

    elementwise = True
    from_result: bool = False
    """Whether the gradient is found from the result: that is what is kept, for the next layer keeps it anyway."""
    inplace: bool = False

    def __init__(self) -> None:
        pass

    def _arguments(self) -> tuple[Any, ...]:
        return ()

    def forward(self, x: Any) -> Array:
        if self.inplace:
            kept = x if self.from_result or not is_grad_enabled() else copied(floats(x, "x"))
            y: Array = in_place(getattr(functions(), self.function), x, *self._arguments())
        else:
            y = getattr(functions(), self.function)(x, *self._arguments())
            kept = y if self.from_result else x
        self.save_for_backward(kept)
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        function = getattr(functions(), self.function_backward)
        return function(grad_output, *self.saved, *self._arguments())  # type: ignore[no-any-return]


class _Inplace(_Elementwise):
    def __init__(self, inplace: bool = False) -> None:
        self.inplace = flag(inplace, "inplace")

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


@doc(
    _SHARED,
    example(
        ">>> import fastdl\n>>> layer = nn.Elementwise(fastdl.elementwise(lambda x: x * x))\n"
        ">>> layer(np.array([1.0, 2.0]))\narray([1., 4.])\n"
        ">>> layer.backward(np.ones(2))\narray([2., 4.])"
    ),
)
class Elementwise(_Elementwise):
    """A function of one's own: ``function(x, **parameters)``.

    {elementwise}

    Parameters
    ----------
    function : fastdl.elementwise
        Or a scalar function that it takes.
    **parameters : float
        Numbers for the function's parameters; those that are left out have its defaults. They are not trained.

    See Also
    --------
    fastdl.elementwise : What makes the function.

    {example}
    """

    def __init__(self, function: Any, **parameters: float) -> None:
        from fastdl._elementwise import elementwise

        made = elementwise(function) if not hasattr(function, "backward") else function
        made._values((), parameters)
        self.made, self.options = made, parameters

    def forward(self, x: Any) -> Array:
        self.save_for_backward(x)
        return self.made(x, **self.options)  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return self.made.backward(grad_output, *self.saved, **self.options)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return ", ".join([self.made.name, *(f"{name}={value}" for name, value in self.options.items())])


def _listed(*parts: str, inplace: bool = False) -> str:
    return ", ".join(parts + ("inplace=True",) * inplace)


@doc(_SHARED, example(">>> nn.ReLU()(np.array([-1.0, 2.0]))\narray([0., 2.])"))
class ReLU(_Inplace, function="relu", from_result=True):
    """Rectified linear unit: ``max(x, 0)``.

    {elementwise}

    Parameters
    ----------
    {inplace}

    See Also
    --------
    fastdl.relu, torch.nn.ReLU

    {example}
    """


@doc(_SHARED, example(">>> nn.ReLU6()(np.array([-1.0, 2.0, 8.0]))\narray([0., 2., 6.])"))
class ReLU6(_Inplace, function="relu6", from_result=True):
    """Rectified linear unit with a ceiling: ``min(max(x, 0), 6)``.

    {elementwise}

    Parameters
    ----------
    {inplace}

    See Also
    --------
    fastdl.relu6, torch.nn.ReLU6

    {example}
    """


@doc(_SHARED, example(">>> nn.LeakyReLU(0.1)(np.array([-1.0, 2.0]))\narray([-0.1,  2. ])"))
class LeakyReLU(_Elementwise, function="leaky_relu"):
    """Rectified linear unit with a slope below 0: ``x if x > 0 else negative_slope * x``.

    {elementwise}

    Parameters
    ----------
    negative_slope : float
        The slope below 0.
    {inplace}

    See Also
    --------
    fastdl.leaky_relu, torch.nn.LeakyReLU

    {example}
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope, self.inplace = real(negative_slope, "negative_slope"), flag(inplace, "inplace")

    @property
    def from_result(self) -> bool:  # type: ignore[override]
        return self.negative_slope >= 0

    def _arguments(self) -> tuple[Any, ...]:
        return (self.negative_slope,)

    def extra_repr(self) -> str:
        return _listed(f"negative_slope={self.negative_slope}", inplace=self.inplace)


class _WithAlpha(_Elementwise):
    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha, self.inplace = real(alpha, "alpha"), flag(inplace, "inplace")

    def _arguments(self) -> tuple[Any, ...]:
        return (self.alpha,)

    def extra_repr(self) -> str:
        return _listed(f"alpha={self.alpha}", inplace=self.inplace)


@doc(_SHARED, example(">>> nn.ELU(2.0)(np.array([-1.0, 2.0])).round(3)\narray([-1.264,  2.   ])"))
class ELU(_WithAlpha, function="elu"):
    """Exponential linear unit: ``x if x > 0 else alpha * (exp(x) - 1)``.

    {elementwise}

    Parameters
    ----------
    alpha : float
        What the function tends to far below 0, negated.
    {inplace}

    See Also
    --------
    fastdl.elu, torch.nn.ELU

    References
    ----------
    Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units", 2016.

    {example}
    """


@doc(_SHARED, example(">>> nn.SELU()(np.array([-1.0, 2.0])).round(3)\narray([-1.111,  2.101])"))
class SELU(_Inplace, function="selu"):
    """Scaled exponential linear unit, which keeps mean 0 and variance 1 from layer to layer::

        scale * (x if x > 0 else alpha * (exp(x) - 1)),  scale = 1.0507, alpha = 1.6733

    {elementwise}

    Parameters
    ----------
    {inplace}

    See Also
    --------
    fastdl.selu, AlphaDropout, torch.nn.SELU

    References
    ----------
    Klambauer et al., "Self-Normalizing Neural Networks", 2017.

    {example}
    """


@doc(_SHARED, example(">>> nn.CELU(2.0)(np.array([-1.0, 2.0])).round(3)\narray([-0.787,  2.   ])"))
class CELU(_WithAlpha, function="celu"):
    """Exponential linear unit with a continuous slope: ``x if x > 0 else alpha * (exp(x / alpha) - 1)``.

    {elementwise}

    Parameters
    ----------
    alpha : float
        What the function tends to far below 0, negated; not 0.
    {inplace}

    See Also
    --------
    fastdl.celu, torch.nn.CELU

    References
    ----------
    Barron, "Continuously Differentiable Exponential Linear Units", 2017.

    {example}
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha, inplace)
        if alpha == 0:
            fail("alpha", alpha, "a number other than 0")


@doc(_SHARED, example(">>> nn.GELU()(np.array([-1.0, 2.0])).round(3)\narray([-0.159,  1.954])"))
class GELU(_Elementwise, function="gelu"):
    """Gaussian error linear unit: ``x * Phi(x)``, Phi being the distribution function of the normal distribution.

    {elementwise}

    Parameters
    ----------
    approximate : {"none", "tanh"}
        "tanh": ``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))`` instead.

    See Also
    --------
    fastdl.gelu, torch.nn.GELU

    References
    ----------
    Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.

    {example}
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = one_of(approximate, "approximate", ("none", "tanh"))

    def _arguments(self) -> tuple[Any, ...]:
        return (self.approximate,)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


@doc(_SHARED, example(">>> nn.SiLU()(np.array([-1.0, 2.0])).round(3)\narray([-0.269,  1.762])"))
class SiLU(_Inplace, function="silu"):
    """Sigmoid linear unit, or swish: ``x * sigmoid(x)``.

    {elementwise}

    Parameters
    ----------
    {inplace}

    See Also
    --------
    fastdl.silu, torch.nn.SiLU

    {example}
    """


@doc(_SHARED, example(">>> nn.Mish()(np.array([-1.0, 2.0])).round(3)\narray([-0.303,  1.944])"))
class Mish(_Inplace, function="mish"):
    """Mish: ``x * tanh(softplus(x))``.

    {elementwise}

    Parameters
    ----------
    {inplace}

    See Also
    --------
    fastdl.mish, torch.nn.Mish

    References
    ----------
    Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", 2019.

    {example}
    """


@doc(_SHARED, example(">>> nn.Softplus()(np.array([-1.0, 2.0])).round(3)\narray([0.313, 2.127])"))
class Softplus(_Elementwise, function="softplus"):
    """A smooth rectifier: ``log(1 + exp(beta * x)) / beta``.

    {elementwise}

    Parameters
    ----------
    beta : float
        How sharp the bend at 0 is; not 0.
    threshold : float
        Where ``beta * x`` is above it the result is x.

    See Also
    --------
    fastdl.softplus, torch.nn.Softplus

    {example}
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = real(beta, "beta"), real(threshold, "threshold")
        if beta == 0:
            fail("beta", beta, "a number other than 0")

    def _arguments(self) -> tuple[Any, ...]:
        return self.beta, self.threshold

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


@doc(_SHARED, example(">>> nn.Softsign()(np.array([-1.0, 3.0]))\narray([-0.5 ,  0.75])"))
class Softsign(_Elementwise, function="softsign"):
    """Softsign: ``x / (1 + abs(x))``.

    {elementwise}

    See Also
    --------
    fastdl.softsign, torch.nn.Softsign

    {example}
    """


@doc(_SHARED, example(">>> nn.Hardtanh()(np.array([-3.0, 0.5, 2.0]))\narray([-1. ,  0.5,  1. ])"))
class Hardtanh(_Elementwise, function="hardtanh", from_result=True):
    """x within limits: ``min(max(x, min_val), max_val)``.

    {elementwise}

    Parameters
    ----------
    min_val, max_val : float
        The limits; the first has to be less than the second.
    {inplace}

    See Also
    --------
    fastdl.hardtanh, torch.nn.Hardtanh

    {example}
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        self.min_val, self.max_val = real(min_val, "min_val"), real(max_val, "max_val")
        self.inplace = flag(inplace, "inplace")
        if not min_val < max_val:
            fail("min_val", min_val, ("less than max_val,", max_val))

    def _arguments(self) -> tuple[Any, ...]:
        return self.min_val, self.max_val

    def extra_repr(self) -> str:
        return _listed(f"min_val={self.min_val}", f"max_val={self.max_val}", inplace=self.inplace)


@doc(_SHARED, example(">>> nn.Hardsigmoid()(np.array([-4.0, 0.0, 1.5]))\narray([0.  , 0.5 , 0.75])"))
class Hardsigmoid(_Inplace, function="hardsigmoid"):
    """A sigmoid of straight lines: ``min(max(x + 3, 0), 6) / 6``.

    {elementwise}

    Parameters
    ----------
    {inplace}

    See Also
    --------
    fastdl.hardsigmoid, torch.nn.Hardsigmoid

    {example}
    """


@doc(_SHARED, example(">>> nn.Hardswish()(np.array([-4.0, 1.0, 3.0])).round(3)\narray([-0.   ,  0.667,  3.   ])"))
class Hardswish(_Inplace, function="hardswish"):
    """A swish of straight lines: ``x * min(max(x + 3, 0), 6) / 6``.

    {elementwise}

    Parameters
    ----------
    {inplace}

    See Also
    --------
    fastdl.hardswish, torch.nn.Hardswish

    References
    ----------
    Howard et al., "Searching for MobileNetV3", 2019.

    {example}
    """


@doc(_SHARED, example(">>> nn.LogSigmoid()(np.array([-1.0, 2.0])).round(3)\narray([-1.313, -0.127])"))
class LogSigmoid(_Elementwise, function="logsigmoid"):
    """The logarithm of the sigmoid: ``-log(1 + exp(-x))``.

    {elementwise}

    See Also
    --------
    fastdl.logsigmoid, torch.nn.LogSigmoid

    {example}
    """


@doc(_SHARED, example(">>> nn.Sigmoid()(np.array([-1.0, 2.0])).round(3)\narray([0.269, 0.881])"))
class Sigmoid(_Elementwise, function="sigmoid", from_result=True):
    """Sigmoid: ``1 / (1 + exp(-x))``.

    {elementwise}

    See Also
    --------
    fastdl.sigmoid, torch.nn.Sigmoid

    {example}
    """


@doc(_SHARED, example(">>> nn.Tanh()(np.array([-1.0, 2.0])).round(3)\narray([-0.762,  0.964])"))
class Tanh(_Elementwise, function="tanh", from_result=True):
    """The hyperbolic tangent.

    {elementwise}

    See Also
    --------
    fastdl.tanh, torch.nn.Tanh

    {example}
    """


@doc(_SHARED, example(">>> nn.Threshold(0.5, -1)(np.array([0.0, 2.0]))\narray([-1.,  2.])"))
class Threshold(_Elementwise, function="threshold"):
    """x where it is above a threshold, another value where it is not: ``x if x > threshold else value``.

    {elementwise}

    Parameters
    ----------
    threshold : float
        What x has to be above.
    value : float
        What stands where it is not.
    {inplace}

    See Also
    --------
    fastdl.threshold, torch.nn.Threshold

    {example}
    """

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        self.threshold, self.value = real(threshold, "threshold"), real(value, "value")
        self.inplace = flag(inplace, "inplace")

    def _arguments(self) -> tuple[Any, ...]:
        return self.threshold, self.value

    def extra_repr(self) -> str:
        return _listed(f"threshold={self.threshold}", f"value={self.value}", inplace=self.inplace)


class _Shrink(_Elementwise):
    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = real(lambd, "lambd")

    def _arguments(self) -> tuple[Any, ...]:
        return (self.lambd,)

    def extra_repr(self) -> str:
        return str(self.lambd)


@doc(_SHARED, example(">>> nn.Hardshrink()(np.array([-2.0, 0.25, 1.0]))\narray([-2.,  0.,  1.])"))
class Hardshrink(_Shrink, function="hardshrink"):
    """x without what is small: ``0 if -lambd <= x <= lambd else x``.

    {elementwise}

    Parameters
    ----------
    lambd : float
        How large what stays is.

    See Also
    --------
    fastdl.hardshrink, torch.nn.Hardshrink

    {example}
    """


@doc(_SHARED, example(">>> nn.Softshrink()(np.array([-2.0, 0.25, 1.0]))\narray([-1.5,  0. ,  0.5])"))
class Softshrink(_Shrink, function="softshrink"):
    """x, nearer to 0 by a constant: ``sign(x) * max(abs(x) - lambd, 0)``.

    {elementwise}

    Parameters
    ----------
    lambd : float
        How much nearer, at least 0.

    See Also
    --------
    fastdl.softshrink, torch.nn.Softshrink

    {example}
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = real(lambd, "lambd", 0.0)


@doc(_SHARED, example(">>> nn.Tanhshrink()(np.array([-1.0, 2.0])).round(3)\narray([-0.238,  1.036])"))
class Tanhshrink(_Elementwise, function="tanhshrink"):
    """What tanh takes away: ``x - tanh(x)``.

    {elementwise}

    See Also
    --------
    fastdl.tanhshrink, torch.nn.Tanhshrink

    {example}
    """


@doc(example(">>> nn.GLU()(np.array([[1.0, 2.0, 0.0, 0.0]]))\narray([[0.5, 1. ]])"))
class GLU(Layer, function="glu"):
    """Gated linear unit: ``a * sigmoid(b)``, where a and b are the first and the second half of the input.

    Parameters
    ----------
    dim : int
        The dimension that is halved, of an even size; below 0 it counts from the last.

    See Also
    --------
    fastdl.glu, torch.nn.GLU

    References
    ----------
    Dauphin et al., "Language Modeling with Gated Convolutional Networks", 2017.

    {example}
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = integer(dim, "dim")

    def forward(self, x: Any) -> Array:
        y = functions().glu(x, self.dim)
        self.save_for_backward(x)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return functions().glu_backward(grad_output, *self.saved, self.dim)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


@doc(PARAMETERS, example(">>> nn.PReLU()(np.array([-1.0, 2.0], np.float32))\narray([-0.25,  2.  ], dtype=float32)"))
class PReLU(Layer, function="prelu"):
    """Rectified linear unit whose slope below 0 is learned: ``x if x > 0 else weight * x``.

    Parameters
    ----------
    num_parameters : int
        How many slopes there are: 1, or one for each channel (dimension 1 of the input).
    init : float
        Where they start.
    {dtype}

    Attributes
    ----------
    weight : (num_parameters,) array
        The slopes.

    See Also
    --------
    fastdl.prelu, torch.nn.PReLU

    References
    ----------
    He et al., "Delving Deep into Rectifiers", 2015.

    {example}
    """

    parameter_names = ("weight",)

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = np.float32) -> None:
        self.num_parameters = size_of(num_parameters, "num_parameters", 1)
        self.init = real(init, "init")
        self.weight = np.full(self.num_parameters, self.init, float_dtype(dtype))

    def forward(self, x: Any) -> Array:
        try:
            y = functions().prelu(x, self.weight)
        except (TypeError, ValueError):
            dim = 1 - np.ndim(x) if self.num_parameters > 1 < np.ndim(x) else -1 - np.ndim(x)  # none: any will do
            blame_input(x, self.weight.dtype, self.num_parameters, dim, "channels")
            raise
        self.save_for_backward(x)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        grad = functions().prelu_backward(grad_output, *self.saved, self.weight)
        self.set_grads(weight=grad.weight)
        return grad.input  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class _AlongDim(Layer):
    """A layer over a function along a dimension; the gradient is found from the result."""

    dim: int

    def __init__(self, dim: int = -1) -> None:
        self.dim = integer(dim, "dim")

    def forward(self, x: Any) -> Array:
        y: Array = getattr(functions(), self.function)(x, self.dim)
        self.save_for_backward(y)
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        function = getattr(functions(), self.function_backward)
        return function(grad_output, *self.saved, self.dim)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


@doc(_SHARED, example(">>> nn.Softmax(dim=1)(np.log([[1.0, 3.0]]))\narray([[0.25, 0.75]])"))
class Softmax(_AlongDim, function="softmax"):
    """What is positive and sums to 1: ``exp(x) / sum(exp(x))`` along a dimension.

    Parameters
    ----------
    {dim}

    See Also
    --------
    fastdl.softmax, torch.nn.Softmax

    {example}
    """


@doc(_SHARED, example(">>> nn.Softmin(dim=1)(np.log([[1.0, 3.0]]))\narray([[0.75, 0.25]])"))
class Softmin(_AlongDim, function="softmin"):
    """Softmax of -x: ``exp(-x) / sum(exp(-x))`` along a dimension.

    Parameters
    ----------
    {dim}

    See Also
    --------
    fastdl.softmin, torch.nn.Softmin

    {example}
    """


@doc(_SHARED, example(">>> nn.LogSoftmax(dim=1)(np.log([[1.0, 3.0]])).round(3)\narray([[-1.386, -0.288]])"))
class LogSoftmax(_AlongDim, function="log_softmax"):
    """The logarithm of softmax: ``x - log(sum(exp(x)))`` along a dimension.

    Parameters
    ----------
    dim : int
        The dimension along which the exponentials of the results sum to 1; below 0 it counts from the last.

    See Also
    --------
    fastdl.log_softmax, NLLLoss, torch.nn.LogSoftmax

    {example}
    """


@doc(example(">>> nn.Softmax2d()(np.log([[[1.0]], [[3.0]]])).ravel()\narray([0.25, 0.75])"))
class Softmax2d(_AlongDim, function="softmax"):
    """Softmax over the channels of images, ``(batch, channels, height, width)`` or without a batch.

    See Also
    --------
    Softmax, torch.nn.Softmax2d

    {example}
    """

    def __init__(self) -> None:
        super().__init__(-3)

    def forward(self, x: Any) -> Array:
        if np.ndim(x) not in (3, 4):
            fail("x", ("shape", np.shape(x)), "3 or 4 dimensions")
        return super().forward(x)

    def extra_repr(self) -> str:
        return ""
