"""Activations made of exponentials, most of them a smooth relu."""

from __future__ import annotations

from math import inf

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import helper, operation
from fastdl.functional.activation.elementwise import ELEMENTWISE, elementwise, elementwise_backward, nonzero
from fastdl.functional.verbs import Array, ArrayLike, choice, number

__all__ = [
    "celu",
    "celu_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "logsigmoid",
    "logsigmoid_backward",
    "mish",
    "mish_backward",
    "selu",
    "selu_backward",
    "silu",
    "silu_backward",
    "softplus",
    "softplus_backward",
    "softsign",
    "softsign_backward",
    "tanhshrink",
    "tanhshrink_backward",
]


@operation
@doc(ELEMENTWISE)
def elu(x: ArrayLike, alpha: float = 1.0, out: Array | None = None) -> Array:
    """The exponential linear unit.

    As torch.nn.functional.elu::

        y = x where x > 0, else alpha * (e^x - 1)

    Parameters
    ----------
    {x}
    alpha : float, optional
        What it tends to below 0, negated.
    {out}

    {returns}

    References
    ----------
    Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units
    (ELUs)", ICLR 2016, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.elu(np.array([-1.0, 0.0, 2.0]))
    array([-0.63212056,  0.        ,  2.        ])
    """
    return elementwise(x, _kernels.ACTIVATION_ELU, number(alpha, "alpha", -inf, inf), 0.0, out)


@operation
@doc(ELEMENTWISE)
def elu_backward(grad_output: ArrayLike, x: ArrayLike, alpha: float = 1.0, out: Array | None = None) -> Array:
    """The gradient of `elu` in x.

    ::

        grad_input = grad_output where x > 0, else grad_output * alpha * e^x

    A NaN in `x` hands `grad_output` on.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    alpha : float, optional
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.elu_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.36787944, 1.        , 1.        ])
    """
    return elementwise_backward(
        grad_output, x, "x", _kernels.ACTIVATION_ELU, number(alpha, "alpha", -inf, inf), 0.0, out
    )


@operation
@doc(ELEMENTWISE)
def selu(x: ArrayLike, out: Array | None = None) -> Array:
    """The scaled exponential linear unit, which keeps mean 0 and variance 1.

    As torch.nn.functional.selu::

        y = scale * (x where x > 0, else alpha * (e^x - 1)),    scale = 1.05070..., alpha = 1.67326...

    {forward}

    References
    ----------
    Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017, equation 2 and, for the constants, 14.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.selu(np.array([-1.0, 0.0, 2.0]))
    array([-1.11133074,  0.        ,  2.10140197])
    """
    return elementwise(x, _kernels.ACTIVATION_SELU, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def selu_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `selu` in x.

    ::

        grad_input = grad_output * scale * (1 where x > 0, else alpha * e^x),    scale = 1.05070..., alpha = 1.67326...

    A NaN in `x` counts as positive.

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.selu_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.6467686 , 1.75809934, 1.05070099])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_SELU, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def celu(x: ArrayLike, alpha: float = 1.0, out: Array | None = None) -> Array:
    """The exponential linear unit whose slope is continuous for every `alpha`.

    As torch.nn.functional.celu::

        y = x where x > 0, else alpha * (e^(x / alpha) - 1)

    Parameters
    ----------
    {x}
    alpha : float, optional
        What it tends to below 0, negated; not 0.
    {out}

    {returns}

    References
    ----------
    Barron, "Continuously Differentiable Exponential Linear Units", arXiv:1704.07483, 2017, equation 2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.celu(np.array([-1.0, 0.0, 2.0]))
    array([-0.63212056,  0.        ,  2.        ])
    """
    return elementwise(x, _kernels.ACTIVATION_CELU, nonzero(alpha, "alpha"), 0.0, out)


@operation
@doc(ELEMENTWISE)
def celu_backward(grad_output: ArrayLike, x: ArrayLike, alpha: float = 1.0, out: Array | None = None) -> Array:
    """The gradient of `celu` in x.

    ::

        grad_input = grad_output where x > 0, else grad_output * e^(x / alpha)

    A NaN in `x` hands `grad_output` on.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    alpha : float, optional
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.celu_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.36787944, 1.        , 1.        ])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_CELU, nonzero(alpha, "alpha"), 0.0, out)


@operation
@doc(ELEMENTWISE)
def gelu(x: ArrayLike, approximate: str = "none", out: Array | None = None) -> Array:
    """The Gaussian error linear unit.

    As torch.nn.functional.gelu::

        y = x * Phi(x),    Phi the standard normal distribution's, or with approximate="tanh"
        y = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2

    Parameters
    ----------
    {x}
    approximate : {"none", "tanh"}, optional
        Which of the two formulas.
    {out}

    {returns}

    References
    ----------
    Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)", arXiv:1606.08415, 2016, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.gelu(np.array([-1.0, 0.0, 2.0]), approximate="tanh")
    array([-0.15880801,  0.        ,  1.95459769])
    """
    return elementwise(x, _gelu(approximate), 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def gelu_backward(grad_output: ArrayLike, x: ArrayLike, approximate: str = "none", out: Array | None = None) -> Array:
    """The gradient of `gelu` in x.

    ::

        grad_input = grad_output * (Phi(x) + x * phi(x)),    phi = Phi', or that of the approximation

    Parameters
    ----------
    {grad_output}
    {saved_x}
    approximate : {"none", "tanh"}, optional
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.gelu_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]), approximate="tanh")
    array([-0.08296408,  0.5       ,  1.08609926])
    """
    return elementwise_backward(grad_output, x, "x", _gelu(approximate), 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def silu(x: ArrayLike, out: Array | None = None) -> Array:
    """The sigmoid linear unit, also known as swish.

    As torch.nn.functional.silu::

        y = x * sigmoid(x)

    {forward}

    References
    ----------
    Elfwing, Uchibe and Doya, "Sigmoid-Weighted Linear Units for Neural Network Function Approximation in
    Reinforcement Learning", Neural Networks 107, 2018, equations 16 and 18.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.silu(np.array([-1.0, 0.0, 2.0]))
    array([-0.26894142,  0.        ,  1.76159416])
    """
    return elementwise(x, _kernels.ACTIVATION_SILU, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def silu_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `silu` in x.

    ::

        grad_input = grad_output * s * (1 + x * (1 - s)),    s = sigmoid(x)

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.silu_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.07232949, 0.5       , 1.09078425])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_SILU, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def mish(x: ArrayLike, out: Array | None = None) -> Array:
    """Mish, a smooth function like `relu` that is not monotonic.

    As torch.nn.functional.mish::

        y = x * tanh(log(1 + e^x))

    {forward}

    References
    ----------
    Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", BMVC 2020, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.mish(np.array([-1.0, 0.0, 2.0]))
    array([-0.30340146,  0.        ,  1.94395896])
    """
    return elementwise(x, _kernels.ACTIVATION_MISH, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def mish_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `mish` in x.

    ::

        grad_input = grad_output * (t + x * (1 - t^2) * sigmoid(x)),    t = tanh(log(1 + e^x))

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.mish_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.05921676, 0.6       , 1.06931793])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_MISH, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def softplus(x: ArrayLike, beta: float = 1.0, threshold: float = 20.0, out: Array | None = None) -> Array:
    """A smooth `relu`.

    As torch.nn.functional.softplus::

        y = log(1 + e^(beta * x)) / beta, and x where beta * x > threshold

    Parameters
    ----------
    {x}
    beta : float, optional
        How sharply it bends; not 0.
    threshold : float, optional
        Above it the result is x itself.
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softplus(np.array([-1.0, 0.0, 2.0]), beta=2.0)
    array([0.06346401, 0.34657359, 2.00907496])
    """
    return elementwise(
        x, _kernels.ACTIVATION_SOFTPLUS, nonzero(beta, "beta"), number(threshold, "threshold", -inf, inf), out
    )


@operation
@doc(ELEMENTWISE)
def softplus_backward(
    grad_output: ArrayLike, x: ArrayLike, beta: float = 1.0, threshold: float = 20.0, out: Array | None = None
) -> Array:
    """The gradient of `softplus` in x.

    ::

        grad_input = grad_output * sigmoid(beta * x), and grad_output where beta * x > threshold

    Parameters
    ----------
    {grad_output}
    {saved_x}
    beta, threshold : float, optional
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softplus_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]), beta=2.0)
    array([0.11920292, 0.5       , 0.98201379])
    """
    return elementwise_backward(
        grad_output,
        x,
        "x",
        _kernels.ACTIVATION_SOFTPLUS,
        nonzero(beta, "beta"),
        number(threshold, "threshold", -inf, inf),
        out,
    )


@operation
@doc(ELEMENTWISE)
def softsign(x: ArrayLike, out: Array | None = None) -> Array:
    """A sigmoid that nears its limits slowly.

    As torch.nn.functional.softsign::

        y = x / (1 + |x|)

    {forward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softsign(np.array([-1.0, 0.0, 2.0]))
    array([-0.5       ,  0.        ,  0.66666667])
    """
    return elementwise(x, _kernels.ACTIVATION_SOFTSIGN, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def softsign_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `softsign` in x.

    ::

        grad_input = grad_output / (1 + |x|)^2

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softsign_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.25      , 1.        , 0.11111111])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_SOFTSIGN, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def tanhshrink(x: ArrayLike, out: Array | None = None) -> Array:
    """x less its hyperbolic tangent.

    As torch.nn.functional.tanhshrink::

        y = x - tanh(x)

    {forward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.tanhshrink(np.array([-1.0, 0.0, 2.0]))
    array([-0.23840584,  0.        ,  1.03597242])
    """
    return elementwise(x, _kernels.ACTIVATION_TANHSHRINK, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def tanhshrink_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `tanhshrink` in x.

    ::

        grad_input = grad_output * tanh(x)^2

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.tanhshrink_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.58002566, 0.        , 0.92934918])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_TANHSHRINK, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def logsigmoid(x: ArrayLike, out: Array | None = None) -> Array:
    """The logarithm of `sigmoid`, without its underflow.

    As torch.nn.functional.logsigmoid::

        y = log(1 / (1 + e^-x))

    {forward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.logsigmoid(np.array([-1.0, 0.0, 2.0]))
    array([-1.31326169, -0.69314718, -0.12692801])
    """
    return elementwise(x, _kernels.ACTIVATION_LOGSIGMOID, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def logsigmoid_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `logsigmoid` in x.

    ::

        grad_input = grad_output * sigmoid(-x)

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.logsigmoid_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.73105858, 0.5       , 0.11920292])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_LOGSIGMOID, 0.0, 0.0, out)


@helper
def _gelu(approximate: str) -> int:
    return (
        _kernels.ACTIVATION_GELU_TANH
        if choice(approximate, "approximate", ("none", "tanh")) == 1
        else _kernels.ACTIVATION_GELU
    )
