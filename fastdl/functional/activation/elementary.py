"""The elementary functions that activations are made of."""

from __future__ import annotations

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import operation
from fastdl.functional.activation.elementwise import ELEMENTWISE, elementwise, elementwise_backward
from fastdl.functional.verbs import Array, ArrayLike

__all__ = [
    "erf",
    "erf_backward",
    "exp",
    "exp_backward",
    "expm1",
    "expm1_backward",
    "log",
    "log1p",
    "log1p_backward",
    "log_backward",
    "sigmoid",
    "sigmoid_backward",
    "tanh",
    "tanh_backward",
]


@operation
@doc(ELEMENTWISE)
def sigmoid(x: ArrayLike, out: Array | None = None) -> Array:
    """The logistic function.

    As torch.sigmoid::

        y = 1 / (1 + e^-x)

    {forward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.sigmoid(np.array([-1.0, 0.0, 2.0]))
    array([0.26894142, 0.5       , 0.88079708])
    """
    return elementwise(x, _kernels.ACTIVATION_SIGMOID, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def sigmoid_backward(grad_output: ArrayLike, y: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `sigmoid` in x.

    ::

        grad_input = grad_output * y * (1 - y)

    {backward_y}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> y = fastdl.sigmoid(np.array([-1.0, 0.0, 2.0]))
    >>> fastdl.sigmoid_backward(np.ones(3), y)
    array([0.19661193, 0.25      , 0.10499359])
    """
    return elementwise_backward(grad_output, y, "y", _kernels.ACTIVATION_SIGMOID, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def tanh(x: ArrayLike, out: Array | None = None) -> Array:
    """The hyperbolic tangent.

    As torch.tanh::

        y = (e^x - e^-x) / (e^x + e^-x)

    {forward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.tanh(np.array([-1.0, 0.0, 2.0]))
    array([-0.76159416,  0.        ,  0.96402758])
    """
    return elementwise(x, _kernels.ACTIVATION_TANH, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def tanh_backward(grad_output: ArrayLike, y: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `tanh` in x.

    ::

        grad_input = grad_output * (1 - y^2)

    {backward_y}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> y = fastdl.tanh(np.array([-1.0, 0.0, 2.0]))
    >>> fastdl.tanh_backward(np.ones(3), y)
    array([0.41997434, 1.        , 0.07065082])
    """
    return elementwise_backward(grad_output, y, "y", _kernels.ACTIVATION_TANH, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def exp(x: ArrayLike, out: Array | None = None) -> Array:
    """The exponential function.

    As torch.exp::

        y = e^x

    {forward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.exp(np.array([-1.0, 0.0, 2.0]))
    array([0.36787944, 1.        , 7.3890561 ])
    """
    return elementwise(x, _kernels.ACTIVATION_EXP, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def exp_backward(grad_output: ArrayLike, y: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `exp` in x.

    ::

        grad_input = grad_output * y

    {backward_y}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> y = fastdl.exp(np.array([-1.0, 0.0, 2.0]))
    >>> fastdl.exp_backward(np.ones(3), y)
    array([0.36787944, 1.        , 7.3890561 ])
    """
    return elementwise_backward(grad_output, y, "y", _kernels.ACTIVATION_EXP, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def expm1(x: ArrayLike, out: Array | None = None) -> Array:
    """e^x - 1, accurate near 0.

    As torch.expm1::

        y = e^x - 1

    {forward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.expm1(np.array([-1.0, 0.0, 1e-10]))
    array([-6.32120559e-01,  0.00000000e+00,  1.00000000e-10])
    """
    return elementwise(x, _kernels.ACTIVATION_EXPM1, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def expm1_backward(grad_output: ArrayLike, y: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `expm1` in x.

    ::

        grad_input = grad_output * (y + 1)

    {backward_y}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> y = fastdl.expm1(np.array([-1.0, 0.0, 1e-10]))
    >>> fastdl.expm1_backward(np.ones(3), y)
    array([0.36787944, 1.        , 1.        ])
    """
    return elementwise_backward(grad_output, y, "y", _kernels.ACTIVATION_EXPM1, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def log(x: ArrayLike, out: Array | None = None) -> Array:
    """The natural logarithm: -infinity at 0, NaN below.

    As torch.log::

        y = log(x)

    {forward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.log(np.array([0.5, 1.0, 2.0]))
    array([-0.69314718,  0.        ,  0.69314718])
    """
    return elementwise(x, _kernels.ACTIVATION_LOG, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def log_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `log` in x.

    ::

        grad_input = grad_output / x

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.log_backward(np.ones(3), np.array([0.5, 1.0, 2.0]))
    array([2. , 1. , 0.5])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_LOG, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def log1p(x: ArrayLike, out: Array | None = None) -> Array:
    """log(1 + x), accurate near 0.

    As torch.log1p::

        y = log(1 + x)

    {forward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.log1p(np.array([0.0, 1e-10, 1.0]))
    array([0.00000000e+00, 1.00000000e-10, 6.93147181e-01])
    """
    return elementwise(x, _kernels.ACTIVATION_LOG1P, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def log1p_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `log1p` in x.

    ::

        grad_input = grad_output / (1 + x)

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.log1p_backward(np.ones(3), np.array([0.0, 1e-10, 1.0]))
    array([1. , 1. , 0.5])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_LOG1P, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def erf(x: ArrayLike, out: Array | None = None) -> Array:
    """The error function.

    As torch.erf::

        y = 2 / sqrt(pi) * integral of e^(-t^2) from 0 to x

    {forward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.erf(np.array([-1.0, 0.0, 2.0]))
    array([-0.84270079,  0.        ,  0.99532227])
    """
    return elementwise(x, _kernels.ACTIVATION_ERF, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def erf_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `erf` in x.

    ::

        grad_input = grad_output * 2 / sqrt(pi) * e^(-x^2)

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.erf_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.4151075 , 1.12837917, 0.02066699])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_ERF, 0.0, 0.0, out)
