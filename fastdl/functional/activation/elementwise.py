"""Activations and the elementary functions they are made of, each with its backward.

The elementwise ones are one kernel, csrc/vector/activation.h: a function here names its kind and the two numbers that
belong to it. They work in place where out is x, and are what `activation` fuses into linear and convolution.
"""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.verbs import (
    Array,
    bordered_shape,
    choice,
    disjoint,
    fail,
    floats,
    floats_like,
    fused,
    gradient,
    integer,
    number,
    output,
    same_or_disjoint,
)

__all__ = [
    "PReLUGrad",
    "celu",
    "celu_backward",
    "elu",
    "elu_backward",
    "erf",
    "erf_backward",
    "exp",
    "exp_backward",
    "expm1",
    "expm1_backward",
    "gelu",
    "gelu_backward",
    "glu",
    "glu_backward",
    "hardshrink",
    "hardshrink_backward",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "hardtanh",
    "hardtanh_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "log",
    "log1p",
    "log1p_backward",
    "log_backward",
    "log_softmax",
    "log_softmax_backward",
    "logsigmoid",
    "logsigmoid_backward",
    "mish",
    "mish_backward",
    "prelu",
    "prelu_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softmin",
    "softmin_backward",
    "softplus",
    "softplus_backward",
    "softshrink",
    "softshrink_backward",
    "softsign",
    "softsign_backward",
    "tanh",
    "tanh_backward",
    "tanhshrink",
    "tanhshrink_backward",
    "threshold",
    "threshold_backward",
]

# Of each kind how many arguments it takes, and the two numbers that the kernel gets where they are not given.
ACTIVATION_ARGS = tuple(
    {
        "leaky_relu": (1, 0.01, 0.0),
        "elu": (1, 1.0, 0.0),
        "celu": (1, 1.0, 0.0),
        "softplus": (2, 1.0, 20.0),
        "hardtanh": (2, -1.0, 1.0),
        "threshold": (2, 0.0, 0.0),
        "hardshrink": (1, 0.5, 0.0),
        "softshrink": (1, 0.5, 0.0),
    }.get(name, (0, 0.0, 0.0))
    for name in _kernels.ACTIVATION_NAMES
)

_RAISES = """
Raises
------
TypeError
    An argument is of a type or a dtype that it may not be.
ValueError
    A shape or a value is not as described. Nothing has been written.
"""

_ELEMENTWISE = {
    "x": """
x : array_like of float32 or float64
    The input, of any shape.
""",
    "out": """
out : ndarray, optional
    Where the result goes: an array of the shape and dtype of `x`, or `x` itself, to work in place.
""",
    "returns": """
Returns
-------
ndarray
    y, of the shape and dtype of `x`. NaN stays NaN.

{raises}
""",
    "grad_output": """
grad_output : array_like of float32 or float64
    The gradient of the result, of its shape and dtype.
""",
    "saved_x": """
x : array_like of float32 or float64
    What the function was given.
""",
    "saved_y": """
y : array_like of float32 or float64
    What the function returned.
""",
    "out_backward": """
out : ndarray, optional
    Where the gradient goes: an array of the same shape and dtype, or one of the two inputs.
""",
    "returns_backward": """
Returns
-------
ndarray
    grad_input, of the shape and dtype of `grad_output`.

{raises}
""",
    "raises": _RAISES,
}


@operation
@doc(_ELEMENTWISE)
def relu(x: Any, out: Array | None = None) -> Array:
    """The rectified linear unit: x where it is positive, else 0.

    As torch.nn.functional.relu::

        y = max(x, 0)

    Parameters
    ----------
    {x}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return _elementwise(x, _kernels.ACTIVATION_RELU, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def relu_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `relu` in x.

    ::

        grad_input = grad_output where x > 0, else 0

    The result of `relu` may stand in for `x`. A NaN in `x` hands `grad_output` on.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.relu_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 1.])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_RELU, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def relu6(x: Any, out: Array | None = None) -> Array:
    """`relu`, limited to 6.

    As torch.nn.functional.relu6::

        y = min(max(x, 0), 6)

    Parameters
    ----------
    {x}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.relu6(np.array([-1.0, 2.0, 9.0]))
    array([0., 2., 6.])
    """
    return _elementwise(x, _kernels.ACTIVATION_RELU6, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def relu6_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `relu6` in x.

    ::

        grad_input = grad_output where 0 < x < 6, else 0

    The result of `relu6` may stand in for `x`. A NaN in `x` hands `grad_output` on.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.relu6_backward(np.ones(3), np.array([-1.0, 2.0, 9.0]))
    array([0., 1., 0.])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_RELU6, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def leaky_relu(x: Any, negative_slope: float = 0.01, out: Array | None = None) -> Array:
    """`relu` that lets a part of what is negative through.

    As torch.nn.functional.leaky_relu::

        y = x where x > 0, else negative_slope * x

    Parameters
    ----------
    {x}
    negative_slope : float, optional
        The slope below 0.
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.leaky_relu(np.array([-1.0, 0.0, 2.0]), negative_slope=0.1)
    array([-0.1,  0. ,  2. ])
    """
    return _elementwise(
        x, _kernels.ACTIVATION_LEAKY_RELU, number(negative_slope, "negative_slope", -inf, inf), 0.0, out
    )


@operation
@doc(_ELEMENTWISE)
def leaky_relu_backward(grad_output: Any, x: Any, negative_slope: float = 0.01, out: Array | None = None) -> Array:
    """The gradient of `leaky_relu` in x.

    ::

        grad_input = grad_output where x > 0, else negative_slope * grad_output

    Parameters
    ----------
    {grad_output}
    {saved_x}
    negative_slope : float, optional
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.leaky_relu_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]), negative_slope=0.1)
    array([0.1, 0.1, 1. ])
    """
    return _elementwise_backward(
        grad_output,
        x,
        "x",
        _kernels.ACTIVATION_LEAKY_RELU,
        number(negative_slope, "negative_slope", -inf, inf),
        0.0,
        out,
    )


@operation
@doc(_ELEMENTWISE)
def elu(x: Any, alpha: float = 1.0, out: Array | None = None) -> Array:
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
    return _elementwise(x, _kernels.ACTIVATION_ELU, number(alpha, "alpha", -inf, inf), 0.0, out)


@operation
@doc(_ELEMENTWISE)
def elu_backward(grad_output: Any, x: Any, alpha: float = 1.0, out: Array | None = None) -> Array:
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
    return _elementwise_backward(
        grad_output, x, "x", _kernels.ACTIVATION_ELU, number(alpha, "alpha", -inf, inf), 0.0, out
    )


@operation
@doc(_ELEMENTWISE)
def selu(x: Any, out: Array | None = None) -> Array:
    """The scaled exponential linear unit, which keeps mean 0 and variance 1.

    As torch.nn.functional.selu::

        y = scale * (x where x > 0, else alpha * (e^x - 1)),    scale = 1.05070..., alpha = 1.67326...

    Parameters
    ----------
    {x}
    {out}

    {returns}

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
    return _elementwise(x, _kernels.ACTIVATION_SELU, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def selu_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `selu` in x.

    ::

        grad_input = grad_output * scale * (1 where x > 0, else alpha * e^x),    scale = 1.05070..., alpha = 1.67326...

    A NaN in `x` counts as positive.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.selu_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.6467686 , 1.75809934, 1.05070099])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_SELU, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def celu(x: Any, alpha: float = 1.0, out: Array | None = None) -> Array:
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
    return _elementwise(x, _kernels.ACTIVATION_CELU, _nonzero(alpha, "alpha"), 0.0, out)


@operation
@doc(_ELEMENTWISE)
def celu_backward(grad_output: Any, x: Any, alpha: float = 1.0, out: Array | None = None) -> Array:
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
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_CELU, _nonzero(alpha, "alpha"), 0.0, out)


@operation
@doc(_ELEMENTWISE)
def gelu(x: Any, approximate: str = "none", out: Array | None = None) -> Array:
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
    return _elementwise(x, _gelu(approximate), 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def gelu_backward(grad_output: Any, x: Any, approximate: str = "none", out: Array | None = None) -> Array:
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
    return _elementwise_backward(grad_output, x, "x", _gelu(approximate), 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def silu(x: Any, out: Array | None = None) -> Array:
    """The sigmoid linear unit, also known as swish.

    As torch.nn.functional.silu::

        y = x * sigmoid(x)

    Parameters
    ----------
    {x}
    {out}

    {returns}

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
    return _elementwise(x, _kernels.ACTIVATION_SILU, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def silu_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `silu` in x.

    ::

        grad_input = grad_output * s * (1 + x * (1 - s)),    s = sigmoid(x)

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.silu_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.07232949, 0.5       , 1.09078425])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_SILU, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def mish(x: Any, out: Array | None = None) -> Array:
    """Mish, a smooth function like `relu` that is not monotonic.

    As torch.nn.functional.mish::

        y = x * tanh(log(1 + e^x))

    Parameters
    ----------
    {x}
    {out}

    {returns}

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
    return _elementwise(x, _kernels.ACTIVATION_MISH, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def mish_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `mish` in x.

    ::

        grad_input = grad_output * (t + x * (1 - t^2) * sigmoid(x)),    t = tanh(log(1 + e^x))

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.mish_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.05921676, 0.6       , 1.06931793])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_MISH, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0, out: Array | None = None) -> Array:
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
    return _elementwise(
        x, _kernels.ACTIVATION_SOFTPLUS, _nonzero(beta, "beta"), number(threshold, "threshold", -inf, inf), out
    )


@operation
@doc(_ELEMENTWISE)
def softplus_backward(
    grad_output: Any, x: Any, beta: float = 1.0, threshold: float = 20.0, out: Array | None = None
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
    return _elementwise_backward(
        grad_output,
        x,
        "x",
        _kernels.ACTIVATION_SOFTPLUS,
        _nonzero(beta, "beta"),
        number(threshold, "threshold", -inf, inf),
        out,
    )


@operation
@doc(_ELEMENTWISE)
def softsign(x: Any, out: Array | None = None) -> Array:
    """A sigmoid that nears its limits slowly.

    As torch.nn.functional.softsign::

        y = x / (1 + |x|)

    Parameters
    ----------
    {x}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softsign(np.array([-1.0, 0.0, 2.0]))
    array([-0.5       ,  0.        ,  0.66666667])
    """
    return _elementwise(x, _kernels.ACTIVATION_SOFTSIGN, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def softsign_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `softsign` in x.

    ::

        grad_input = grad_output / (1 + |x|)^2

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softsign_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.25      , 1.        , 0.11111111])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_SOFTSIGN, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0, out: Array | None = None) -> Array:
    """x, limited to an interval.

    As torch.nn.functional.hardtanh::

        y = min(max(x, min_val), max_val)

    Parameters
    ----------
    {x}
    min_val : float, optional
        The least result; at most `max_val`.
    max_val : float, optional
        The largest result.
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.hardtanh(np.array([-3.0, 0.5, 2.0]), max_val=1.5)
    array([-1. ,  0.5,  1.5])
    """
    return _elementwise(
        x, _kernels.ACTIVATION_HARDTANH, _least(min_val, max_val), number(max_val, "max_val", -inf, inf), out
    )


@operation
@doc(_ELEMENTWISE)
def hardtanh_backward(
    grad_output: Any, x: Any, min_val: float = -1.0, max_val: float = 1.0, out: Array | None = None
) -> Array:
    """The gradient of `hardtanh` in x.

    ::

        grad_input = grad_output where min_val < x < max_val, else 0

    The result of `hardtanh` may stand in for `x`. A NaN in `x` hands `grad_output` on.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    min_val, max_val : float, optional
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.hardtanh_backward(np.ones(3), np.array([-3.0, 0.5, 2.0]), max_val=1.5)
    array([0., 1., 0.])
    """
    return _elementwise_backward(
        grad_output,
        x,
        "x",
        _kernels.ACTIVATION_HARDTANH,
        _least(min_val, max_val),
        number(max_val, "max_val", -inf, inf),
        out,
    )


@operation
@doc(_ELEMENTWISE)
def hardsigmoid(x: Any, out: Array | None = None) -> Array:
    """A sigmoid of three straight lines.

    As torch.nn.functional.hardsigmoid::

        y = min(max(x + 3, 0), 6) / 6

    Parameters
    ----------
    {x}
    {out}

    {returns}

    References
    ----------
    Howard et al., "Searching for MobileNetV3", ICCV 2019, section 5.2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.hardsigmoid(np.array([-4.0, 0.0, 1.5]))
    array([0.  , 0.5 , 0.75])
    """
    return _elementwise(x, _kernels.ACTIVATION_HARDSIGMOID, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def hardsigmoid_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `hardsigmoid` in x.

    ::

        grad_input = grad_output / 6 where -3 < x < 3, else 0

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.hardsigmoid_backward(np.ones(3), np.array([-4.0, 0.0, 1.5]))
    array([0.        , 0.16666667, 0.16666667])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_HARDSIGMOID, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def hardswish(x: Any, out: Array | None = None) -> Array:
    """x times `hardsigmoid`.

    As torch.nn.functional.hardswish::

        y = x * min(max(x + 3, 0), 6) / 6

    Parameters
    ----------
    {x}
    {out}

    {returns}

    References
    ----------
    Howard et al., "Searching for MobileNetV3", ICCV 2019, section 5.2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.hardswish(np.array([-4.0, 1.5, 3.0]))
    array([-0.   ,  1.125,  3.   ])
    """
    return _elementwise(x, _kernels.ACTIVATION_HARDSWISH, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def hardswish_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `hardswish` in x.

    ::

        grad_input = 0 where x <= -3, grad_output * (x / 3 + 1 / 2) where -3 < x < 3, else grad_output

    A NaN in `x` hands `grad_output` on.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.hardswish_backward(np.ones(3), np.array([-4.0, 1.5, 3.0]))
    array([0., 1., 1.])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_HARDSWISH, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def threshold(x: Any, threshold: float, value: float, out: Array | None = None) -> Array:
    """x where it is above a threshold, else a value.

    As torch.nn.functional.threshold::

        y = x where x > threshold, else value

    Parameters
    ----------
    {x}
    threshold : float
        What x has to exceed.
    value : float
        The result where it does not.
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.threshold(np.array([-1.0, 0.0, 2.0]), threshold=0.5, value=-9.0)
    array([-9., -9.,  2.])
    """
    return _elementwise(
        x,
        _kernels.ACTIVATION_THRESHOLD,
        number(threshold, "threshold", -inf, inf),
        number(value, "value", -inf, inf),
        out,
    )


@operation
@doc(_ELEMENTWISE)
def threshold_backward(
    grad_output: Any, x: Any, threshold: float, value: float = 0.0, out: Array | None = None
) -> Array:
    """The gradient of `threshold` in x.

    ::

        grad_input = grad_output where x > threshold, else 0

    A NaN in `x` hands `grad_output` on.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    threshold : float
        As given to the function.
    value : float, optional
        The same; the gradient does not depend on it.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.threshold_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]), threshold=0.5, value=-9.0)
    array([0., 0., 1.])
    """
    return _elementwise_backward(
        grad_output,
        x,
        "x",
        _kernels.ACTIVATION_THRESHOLD,
        number(threshold, "threshold", -inf, inf),
        number(value, "value", -inf, inf),
        out,
    )


@operation
@doc(_ELEMENTWISE)
def hardshrink(x: Any, lambd: float = 0.5, out: Array | None = None) -> Array:
    """x, or 0 where it is small.

    As torch.nn.functional.hardshrink::

        y = 0 where -lambd <= x <= lambd, else x

    Parameters
    ----------
    {x}
    lambd : float, optional
        What is small.
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.hardshrink(np.array([-1.0, 0.25, 2.0]))
    array([-1.,  0.,  2.])
    """
    return _elementwise(x, _kernels.ACTIVATION_HARDSHRINK, number(lambd, "lambd", -inf, inf), 0.0, out)


@operation
@doc(_ELEMENTWISE)
def hardshrink_backward(grad_output: Any, x: Any, lambd: float = 0.5, out: Array | None = None) -> Array:
    """The gradient of `hardshrink` in x.

    ::

        grad_input = 0 where -lambd <= x <= lambd, else grad_output

    A NaN in `x` hands `grad_output` on.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    lambd : float, optional
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.hardshrink_backward(np.ones(3), np.array([-1.0, 0.25, 2.0]))
    array([1., 0., 1.])
    """
    return _elementwise_backward(
        grad_output, x, "x", _kernels.ACTIVATION_HARDSHRINK, number(lambd, "lambd", -inf, inf), 0.0, out
    )


@operation
@doc(_ELEMENTWISE)
def softshrink(x: Any, lambd: float = 0.5, out: Array | None = None) -> Array:
    """x, drawn towards 0.

    As torch.nn.functional.softshrink::

        y = x - lambd where x > lambd, x + lambd where x < -lambd, else 0

    Parameters
    ----------
    {x}
    lambd : float, optional
        How far; at least 0.
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softshrink(np.array([-1.0, 0.25, 2.0]))
    array([-0.5,  0. ,  1.5])
    """
    return _elementwise(x, _kernels.ACTIVATION_SOFTSHRINK, number(lambd, "lambd", 0.0), 0.0, out)


@operation
@doc(_ELEMENTWISE)
def softshrink_backward(grad_output: Any, x: Any, lambd: float = 0.5, out: Array | None = None) -> Array:
    """The gradient of `softshrink` in x.

    ::

        grad_input = 0 where -lambd <= x <= lambd, else grad_output

    A NaN in `x` hands `grad_output` on.

    Parameters
    ----------
    {grad_output}
    {saved_x}
    lambd : float, optional
        As given to the function.
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softshrink_backward(np.ones(3), np.array([-1.0, 0.25, 2.0]))
    array([1., 0., 1.])
    """
    return _elementwise_backward(
        grad_output, x, "x", _kernels.ACTIVATION_SOFTSHRINK, number(lambd, "lambd", 0.0), 0.0, out
    )


@operation
@doc(_ELEMENTWISE)
def tanhshrink(x: Any, out: Array | None = None) -> Array:
    """x less its hyperbolic tangent.

    As torch.nn.functional.tanhshrink::

        y = x - tanh(x)

    Parameters
    ----------
    {x}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.tanhshrink(np.array([-1.0, 0.0, 2.0]))
    array([-0.23840584,  0.        ,  1.03597242])
    """
    return _elementwise(x, _kernels.ACTIVATION_TANHSHRINK, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def tanhshrink_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `tanhshrink` in x.

    ::

        grad_input = grad_output * tanh(x)^2

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.tanhshrink_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.58002566, 0.        , 0.92934918])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_TANHSHRINK, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def logsigmoid(x: Any, out: Array | None = None) -> Array:
    """The logarithm of `sigmoid`, without its underflow.

    As torch.nn.functional.logsigmoid::

        y = log(1 / (1 + e^-x))

    Parameters
    ----------
    {x}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.logsigmoid(np.array([-1.0, 0.0, 2.0]))
    array([-1.31326169, -0.69314718, -0.12692801])
    """
    return _elementwise(x, _kernels.ACTIVATION_LOGSIGMOID, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def logsigmoid_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `logsigmoid` in x.

    ::

        grad_input = grad_output * sigmoid(-x)

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.logsigmoid_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.73105858, 0.5       , 0.11920292])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_LOGSIGMOID, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def sigmoid(x: Any, out: Array | None = None) -> Array:
    """The logistic function.

    As torch.sigmoid::

        y = 1 / (1 + e^-x)

    Parameters
    ----------
    {x}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.sigmoid(np.array([-1.0, 0.0, 2.0]))
    array([0.26894142, 0.5       , 0.88079708])
    """
    return _elementwise(x, _kernels.ACTIVATION_SIGMOID, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def sigmoid_backward(grad_output: Any, y: Any, out: Array | None = None) -> Array:
    """The gradient of `sigmoid` in x.

    ::

        grad_input = grad_output * y * (1 - y)

    Parameters
    ----------
    {grad_output}
    {saved_y}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> y = fastdl.sigmoid(np.array([-1.0, 0.0, 2.0]))
    >>> fastdl.sigmoid_backward(np.ones(3), y)
    array([0.19661193, 0.25      , 0.10499359])
    """
    return _elementwise_backward(grad_output, y, "y", _kernels.ACTIVATION_SIGMOID, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def tanh(x: Any, out: Array | None = None) -> Array:
    """The hyperbolic tangent.

    As torch.tanh::

        y = (e^x - e^-x) / (e^x + e^-x)

    Parameters
    ----------
    {x}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.tanh(np.array([-1.0, 0.0, 2.0]))
    array([-0.76159416,  0.        ,  0.96402758])
    """
    return _elementwise(x, _kernels.ACTIVATION_TANH, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def tanh_backward(grad_output: Any, y: Any, out: Array | None = None) -> Array:
    """The gradient of `tanh` in x.

    ::

        grad_input = grad_output * (1 - y^2)

    Parameters
    ----------
    {grad_output}
    {saved_y}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> y = fastdl.tanh(np.array([-1.0, 0.0, 2.0]))
    >>> fastdl.tanh_backward(np.ones(3), y)
    array([0.41997434, 1.        , 0.07065082])
    """
    return _elementwise_backward(grad_output, y, "y", _kernels.ACTIVATION_TANH, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def exp(x: Any, out: Array | None = None) -> Array:
    """The exponential function.

    As torch.exp::

        y = e^x

    Parameters
    ----------
    {x}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.exp(np.array([-1.0, 0.0, 2.0]))
    array([0.36787944, 1.        , 7.3890561 ])
    """
    return _elementwise(x, _kernels.ACTIVATION_EXP, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def exp_backward(grad_output: Any, y: Any, out: Array | None = None) -> Array:
    """The gradient of `exp` in x.

    ::

        grad_input = grad_output * y

    Parameters
    ----------
    {grad_output}
    {saved_y}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> y = fastdl.exp(np.array([-1.0, 0.0, 2.0]))
    >>> fastdl.exp_backward(np.ones(3), y)
    array([0.36787944, 1.        , 7.3890561 ])
    """
    return _elementwise_backward(grad_output, y, "y", _kernels.ACTIVATION_EXP, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def expm1(x: Any, out: Array | None = None) -> Array:
    """e^x - 1, accurate near 0.

    As torch.expm1::

        y = e^x - 1

    Parameters
    ----------
    {x}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.expm1(np.array([-1.0, 0.0, 1e-10]))
    array([-6.32120559e-01,  0.00000000e+00,  1.00000000e-10])
    """
    return _elementwise(x, _kernels.ACTIVATION_EXPM1, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def expm1_backward(grad_output: Any, y: Any, out: Array | None = None) -> Array:
    """The gradient of `expm1` in x.

    ::

        grad_input = grad_output * (y + 1)

    Parameters
    ----------
    {grad_output}
    {saved_y}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> y = fastdl.expm1(np.array([-1.0, 0.0, 1e-10]))
    >>> fastdl.expm1_backward(np.ones(3), y)
    array([0.36787944, 1.        , 1.        ])
    """
    return _elementwise_backward(grad_output, y, "y", _kernels.ACTIVATION_EXPM1, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def log(x: Any, out: Array | None = None) -> Array:
    """The natural logarithm: -infinity at 0, NaN below.

    As torch.log::

        y = log(x)

    Parameters
    ----------
    {x}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.log(np.array([0.5, 1.0, 2.0]))
    array([-0.69314718,  0.        ,  0.69314718])
    """
    return _elementwise(x, _kernels.ACTIVATION_LOG, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def log_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `log` in x.

    ::

        grad_input = grad_output / x

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.log_backward(np.ones(3), np.array([0.5, 1.0, 2.0]))
    array([2. , 1. , 0.5])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_LOG, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def log1p(x: Any, out: Array | None = None) -> Array:
    """log(1 + x), accurate near 0.

    As torch.log1p::

        y = log(1 + x)

    Parameters
    ----------
    {x}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.log1p(np.array([0.0, 1e-10, 1.0]))
    array([0.00000000e+00, 1.00000000e-10, 6.93147181e-01])
    """
    return _elementwise(x, _kernels.ACTIVATION_LOG1P, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def log1p_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `log1p` in x.

    ::

        grad_input = grad_output / (1 + x)

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.log1p_backward(np.ones(3), np.array([0.0, 1e-10, 1.0]))
    array([1. , 1. , 0.5])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_LOG1P, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def erf(x: Any, out: Array | None = None) -> Array:
    """The error function.

    As torch.erf::

        y = 2 / sqrt(pi) * integral of e^(-t^2) from 0 to x

    Parameters
    ----------
    {x}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.erf(np.array([-1.0, 0.0, 2.0]))
    array([-0.84270079,  0.        ,  0.99532227])
    """
    return _elementwise(x, _kernels.ACTIVATION_ERF, 0.0, 0.0, out)


@operation
@doc(_ELEMENTWISE)
def erf_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    """The gradient of `erf` in x.

    ::

        grad_input = grad_output * 2 / sqrt(pi) * e^(-x^2)

    Parameters
    ----------
    {grad_output}
    {saved_x}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.erf_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.4151075 , 1.12837917, 0.02066699])
    """
    return _elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_ERF, 0.0, 0.0, out)


class PReLUGrad(NamedTuple):
    """The gradients of `prelu`.

    Attributes
    ----------
    input : ndarray
        In `x`, of its shape.
    weight : ndarray
        In `weight`, of its shape.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> grads = fastdl.prelu_backward(np.ones(2), np.array([-3.0, 2.0]), np.array([0.1]))
    >>> grads.weight
    array([-3.])
    """

    input: Array
    weight: Array


@operation
@doc(_ELEMENTWISE)
def prelu(x: Any, weight: Any, out: Array | None = None) -> Array:
    """`leaky_relu` with slopes that are learned, one for each channel or one for all.

    As torch.nn.functional.prelu::

        y = x where x > 0, else weight * x

    Parameters
    ----------
    {x}
    weight : array_like of the dtype of `x`
        The slopes below 0: a scalar, shape (1,), or (channels,) where `x` is (batch, channels, ...).
    {out}

    {returns}

    References
    ----------
    He et al., "Delving Deep into Rectifiers", ICCV 2015, section 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.prelu(np.array([[-1.0, -1.0], [3.0, -3.0]]), np.array([0.1, 0.5]))
    array([[-0.1, -0.5],
           [ 3. , -1.5]])
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x)
    outer, channels, inner = _channels(x.shape, weight.shape)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
        disjoint(result, "weight", weight)
    _kernels.prelu(x, weight, result, outer, channels, inner, weight.size)
    return result


@operation
@doc(_ELEMENTWISE)
def prelu_backward(grad_output: Any, x: Any, weight: Any) -> PReLUGrad:
    """The gradients of `prelu` in x and weight.

    ::

        grad_input = grad_output where x > 0, else weight * grad_output
        grad_weight = sum of x * grad_output over each weight's x <= 0

    Parameters
    ----------
    {grad_output}
    {saved_x}
    weight : array_like of the dtype of `x`
        As given to the function.

    Returns
    -------
    PReLUGrad
        (input, weight), shaped as they are.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.prelu_backward(np.ones(2), np.array([-3.0, 2.0]), np.array([0.1]))
    PReLUGrad(input=array([0.1, 1. ]), weight=array([-3.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x)
    grad_output = floats_like(grad_output, "grad_output", x)
    if grad_output.shape != x.shape:
        fail("grad_output", grad_output.shape, x.shape)
    outer, channels, inner = _channels(x.shape, weight.shape)
    result = PReLUGrad(gradient(x), gradient(weight))
    _kernels.prelu_backward(grad_output, x, weight, result.input, result.weight, outer, channels, inner, weight.size)
    return result


_DIM = {
    "dim": """
dim : int, optional
    The dimension along which the result sums to 1, from the end if negative. (torch's default, None, means one
    that depends on the number of dimensions, and is deprecated there.)
""",
}


@operation
@doc(_ELEMENTWISE, _DIM)
def softmax(x: Any, dim: int = -1, out: Array | None = None) -> Array:
    """Probabilities from scores, along a dimension.

    As torch.nn.functional.softmax::

        y = exp(x - max(x)) / sum(exp(x - max(x)))

    A NaN or +infinity makes all along the dimension NaN.

    Parameters
    ----------
    {x}
    {dim}
    {out}

    {returns}

    See Also
    --------
    log_softmax, cross_entropy

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softmax(np.array([0.0, np.log(3.0)])).round(6)
    array([0.25, 0.75])
    """
    x = floats(x, "x")
    outer, classes, inner = _split_at(x.shape, dim)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
    _kernels.softmax(x, result, outer, classes, inner)
    return result


@operation
@doc(_ELEMENTWISE, _DIM)
def softmax_backward(grad_output: Any, y: Any, dim: int = -1, out: Array | None = None) -> Array:
    """The gradient of `softmax` in x.

    ::

        grad_input = y * (grad_output - sum(grad_output * y))

    Parameters
    ----------
    {grad_output}
    {saved_y}
    {dim}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softmax_backward(np.array([1.0, 0.0]), np.array([0.25, 0.75]))
    array([ 0.1875, -0.1875])
    """
    y = floats(y, "y")
    grad_output = floats_like(grad_output, "grad_output", y)
    if grad_output.shape != y.shape:
        fail("grad_output", grad_output.shape, y.shape)
    outer, classes, inner = _split_at(y.shape, dim)
    result = output(out, y.shape, y)
    if out is not None:
        same_or_disjoint(result, "y", y)
        same_or_disjoint(result, "grad_output", grad_output)
    _kernels.softmax_backward(grad_output, y, result, outer, classes, inner)
    return result


@operation
@doc(_ELEMENTWISE, _DIM)
def softmin(x: Any, dim: int = -1, out: Array | None = None) -> Array:
    """`softmax` of -x: the smallest gets the most.

    As torch.nn.functional.softmin::

        y = exp(-x) / sum(exp(-x))

    Parameters
    ----------
    {x}
    {dim}
    {out}

    {returns}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softmin(np.array([0.0, np.log(3.0)])).round(6)
    array([0.75, 0.25])
    """
    x = floats(x, "x")
    outer, classes, inner = _split_at(x.shape, dim)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
    _negate(x, result)
    _kernels.softmax(result, result, outer, classes, inner)
    return result


@operation
@doc(_ELEMENTWISE, _DIM)
def softmin_backward(grad_output: Any, y: Any, dim: int = -1, out: Array | None = None) -> Array:
    """The gradient of `softmin` in x.

    ::

        grad_input = y * (sum(grad_output * y) - grad_output)

    Parameters
    ----------
    {grad_output}
    {saved_y}
    {dim}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.softmin_backward(np.array([1.0, 0.0]), np.array([0.25, 0.75]))
    array([-0.1875,  0.1875])
    """
    y = floats(y, "y")
    grad_output = floats_like(grad_output, "grad_output", y)
    if grad_output.shape != y.shape:
        fail("grad_output", grad_output.shape, y.shape)
    outer, classes, inner = _split_at(y.shape, dim)
    result = output(out, y.shape, y)
    if out is not None:
        same_or_disjoint(result, "y", y)
        same_or_disjoint(result, "grad_output", grad_output)
    _kernels.softmax_backward(grad_output, y, result, outer, classes, inner)
    _negate(result, result)
    return result


@operation
@doc(_ELEMENTWISE, _DIM)
def log_softmax(x: Any, dim: int = -1, out: Array | None = None) -> Array:
    """The logarithm of `softmax`, without its underflow.

    As torch.nn.functional.log_softmax::

        y = x - max(x) - log(sum(exp(x - max(x))))

    A NaN or +infinity makes all along the dimension NaN.

    Parameters
    ----------
    {x}
    {dim}
    {out}

    {returns}

    See Also
    --------
    nll_loss, cross_entropy

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.log_softmax(np.array([0.0, 0.0])).round(6)
    array([-0.693147, -0.693147])
    """
    x = floats(x, "x")
    outer, classes, inner = _split_at(x.shape, dim)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
    _kernels.log_softmax(x, result, outer, classes, inner)
    return result


@operation
@doc(_ELEMENTWISE, _DIM)
def log_softmax_backward(grad_output: Any, y: Any, dim: int = -1, out: Array | None = None) -> Array:
    """The gradient of `log_softmax` in x.

    ::

        grad_input = grad_output - exp(y) * sum(grad_output)

    Parameters
    ----------
    {grad_output}
    {saved_y}
    {dim}
    {out_backward}

    {returns_backward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.log_softmax_backward(np.array([1.0, 0.0]), np.log(np.array([0.25, 0.75]))).round(6)
    array([ 0.75, -0.75])
    """
    y = floats(y, "y")
    grad_output = floats_like(grad_output, "grad_output", y)
    if grad_output.shape != y.shape:
        fail("grad_output", grad_output.shape, y.shape)
    outer, classes, inner = _split_at(y.shape, dim)
    result = output(out, y.shape, y)
    if out is not None:
        same_or_disjoint(result, "y", y)
        same_or_disjoint(result, "grad_output", grad_output)
    _kernels.log_softmax_backward(grad_output, y, result, outer, classes, inner)
    return result


@operation
@doc(_ELEMENTWISE)
def glu(x: Any, dim: int = -1, out: Array | None = None) -> Array:
    """The gated linear unit: half of x, gated by the other half.

    As torch.nn.functional.glu::

        y = a * sigmoid(b),    a and b the first and the second half of x along dim

    Parameters
    ----------
    x : array_like of float32 or float64
        The input, of an even size in dimension `dim`.
    dim : int, optional
        The dimension that is halved, from the end if negative.
    out : ndarray, optional
        Where the result goes: an array of its shape and the dtype of `x`, which does not overlap `x`.

    Returns
    -------
    ndarray
        y, of the dtype of `x` and its shape with dimension `dim` halved.

    {raises}

    References
    ----------
    Dauphin et al., "Language Modeling with Gated Convolutional Networks", ICML 2017, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.glu(np.array([[2.0, 3.0, 0.0, 100.0]]))
    array([[1., 3.]])
    """
    x = floats(x, "x")
    outer, inner, shape = _halved(x.shape, dim)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
    _kernels.glu(x, result, outer, inner)
    return result


@operation
@doc(_ELEMENTWISE)
def glu_backward(grad_output: Any, x: Any, dim: int = -1, out: Array | None = None) -> Array:
    """The gradient of `glu` in x.

    ::

        grad_a = grad_output * s,    s = sigmoid(b)
        grad_b = grad_output * s * (1 - s) * a

    Parameters
    ----------
    {grad_output}
    {saved_x}
    dim : int, optional
        As given to the function.
    out : ndarray, optional
        Where the gradient goes: an array of the shape and dtype of `x`, which overlaps neither input.

    Returns
    -------
    ndarray
        grad_a and grad_b as the halves of an array of the shape and dtype of `x`.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.glu_backward(np.array([1.0]), np.array([2.0, 0.0]))
    array([0.5, 0.5])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    outer, inner, shape = _halved(x.shape, dim)
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = output(out, x.shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "grad_output", grad_output)
    _kernels.glu_backward(grad_output, x, result, outer, inner)
    return result


@helper
def _negate(x: Array, result: Array) -> None:
    """result = -x, in one dimension: Numba has no such function of scalars' arrays."""
    np.negative(x.reshape(x.size), result.reshape(x.size))


@helper
def _elementwise(x: Any, kind: int, alpha: float, beta: float, out: Array | None) -> Array:
    x = floats(x, "x")
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
    _kernels.elementwise(x, result, x.size, kind, alpha, beta)
    return result


@helper
def _elementwise_backward(
    grad_output: Any, saved: Any, argument: str, kind: int, alpha: float, beta: float, out: Array | None
) -> Array:
    """The gradient; `saved` is x or y, and `argument` is which."""
    saved = floats(saved, argument)
    grad_output = floats_like(grad_output, "grad_output", saved)
    if grad_output.shape != saved.shape:
        fail("grad_output", grad_output.shape, saved.shape)
    result = output(out, saved.shape, saved)
    if out is not None:
        same_or_disjoint(result, argument, saved)
        same_or_disjoint(result, "grad_output", grad_output)
    _kernels.elementwise_backward(grad_output, saved, result, saved.size, kind, alpha, beta)
    return result


@helper
def fused_activation(activation: str, args: tuple[float, ...]) -> tuple[int, float, float]:
    """An activation and its arguments, which are what its own function takes, as the kind and two numbers."""
    act = fused(activation, args, _kernels.ACTIVATION_NAMES, ACTIVATION_ARGS)
    if act[0] == _kernels.ACTIVATION_THRESHOLD and len(args) < 2:  # which has no defaults
        fail("activation_args", (len(args), "numbers"), "2, threshold and value")
    if len(args) > 0:  # the defaults are right
        if act[0] == _kernels.ACTIVATION_CELU:
            _nonzero(act[1], "alpha")
        elif act[0] == _kernels.ACTIVATION_SOFTPLUS:
            _nonzero(act[1], "beta")
        elif act[0] == _kernels.ACTIVATION_HARDTANH:
            _least(act[1], act[2])
        elif act[0] == _kernels.ACTIVATION_SOFTSHRINK:
            number(act[1], "lambd", 0.0)
    return act


@helper
def _nonzero(value: float, argument: str) -> float:
    if number(value, argument, -inf, inf) == 0:
        fail(argument, value, "a number other than 0")
    return float(value)


@helper
def _least(min_val: float, max_val: float) -> float:
    if number(min_val, "min_val", -inf, inf) > number(max_val, "max_val", -inf, inf):
        fail("min_val", min_val, ("at most max_val,", max_val))
    return float(min_val)


@helper
def _gelu(approximate: str) -> int:
    return (
        _kernels.ACTIVATION_GELU_TANH
        if choice(approximate, "approximate", ("none", "tanh")) == 1
        else _kernels.ACTIVATION_GELU
    )


@helper
def _channels(shape: tuple[int, ...], weight: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape seen as (outer, channels, inner); as one channel if there is one weight."""
    size, weights = 1, 1
    for n in shape:
        size *= n
    for n in weight:
        weights *= n
    if len(weight) < 2 and weights == 1:
        return 1, 1, size
    if len(weight) != 1 or len(shape) < 2 or shape[1] != weights:
        fail("weight", ("shape", weight), ("shape (1,) or one for each channel of", shape))
    inner = 1
    for i in range(2, len(shape)):
        inner *= shape[i]
    return shape[0], weights, inner


@helper
def _split_at(shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """The shape seen as (outer, shape[dim], inner); a scalar is like an array of one element."""
    ndim = max(len(shape), 1)
    at = integer(dim, "dim", -ndim, ndim - 1) % ndim
    outer, classes, inner = 1, 1, 1
    for i in range(len(shape)):
        if i < at:
            outer *= shape[i]
        elif i > at:
            inner *= shape[i]
        else:
            classes = shape[i]
    return outer, classes, inner


@cached_helper
def _halved(shape: tuple[int, ...], dim: int) -> tuple[int, int, tuple[int, ...]]:
    """The shape seen as (outer, 2, inner), and with dim halved."""
    outer, size, inner = _split_at(shape, dim)
    if len(shape) == 0 or size % 2 != 0:
        fail("x", ("shape", shape), ("an even size in dimension", dim))
    borders = np.zeros((len(shape), 3), np.int64)
    borders[dim, 2] = -(size // 2)
    return outer, size // 2 * inner, bordered_shape(shape, borders, 1)
