"""Activations made of straight lines: relu, what limits it or lets a part through, and what imitates sigmoid."""

from __future__ import annotations

from math import inf

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import operation
from fastdl.functional.activation.elementwise import ELEMENTWISE, elementwise, elementwise_backward, limits
from fastdl.functional.verbs import Array, ArrayLike, number

__all__ = [
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
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "softshrink",
    "softshrink_backward",
    "threshold",
    "threshold_backward",
]


@operation
@doc(ELEMENTWISE)
def relu(x: ArrayLike, out: Array | None = None) -> Array:
    """The rectified linear unit: x where it is positive, else 0.

    As torch.nn.functional.relu::

        y = max(x, 0)

    {forward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return elementwise(x, _kernels.ACTIVATION_RELU, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def relu_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `relu` in x.

    ::

        grad_input = grad_output where x > 0, else 0

    The result of `relu` may stand in for `x`. A NaN in `x` hands `grad_output` on.

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.relu_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 1.])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_RELU, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def relu6(x: ArrayLike, out: Array | None = None) -> Array:
    """`relu`, limited to 6.

    As torch.nn.functional.relu6::

        y = min(max(x, 0), 6)

    {forward}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.relu6(np.array([-1.0, 2.0, 9.0]))
    array([0., 2., 6.])
    """
    return elementwise(x, _kernels.ACTIVATION_RELU6, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def relu6_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `relu6` in x.

    ::

        grad_input = grad_output where 0 < x < 6, else 0

    The result of `relu6` may stand in for `x`. A NaN in `x` hands `grad_output` on.

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.relu6_backward(np.ones(3), np.array([-1.0, 2.0, 9.0]))
    array([0., 1., 0.])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_RELU6, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def leaky_relu(x: ArrayLike, negative_slope: float = 0.01, out: Array | None = None) -> Array:
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
    return elementwise(x, _kernels.ACTIVATION_LEAKY_RELU, number(negative_slope, "negative_slope", -inf, inf), 0.0, out)


@operation
@doc(ELEMENTWISE)
def leaky_relu_backward(
    grad_output: ArrayLike, x: ArrayLike, negative_slope: float = 0.01, out: Array | None = None
) -> Array:
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
    return elementwise_backward(
        grad_output,
        x,
        "x",
        _kernels.ACTIVATION_LEAKY_RELU,
        number(negative_slope, "negative_slope", -inf, inf),
        0.0,
        out,
    )


@operation
@doc(ELEMENTWISE)
def hardtanh(x: ArrayLike, min_val: float = -1.0, max_val: float = 1.0, out: Array | None = None) -> Array:
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
    low, high = limits(min_val, max_val)
    return elementwise(x, _kernels.ACTIVATION_HARDTANH, low, high, out)


@operation
@doc(ELEMENTWISE)
def hardtanh_backward(
    grad_output: ArrayLike, x: ArrayLike, min_val: float = -1.0, max_val: float = 1.0, out: Array | None = None
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
    low, high = limits(min_val, max_val)
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_HARDTANH, low, high, out)


@operation
@doc(ELEMENTWISE)
def hardsigmoid(x: ArrayLike, out: Array | None = None) -> Array:
    """A sigmoid of three straight lines.

    As torch.nn.functional.hardsigmoid::

        y = min(max(x + 3, 0), 6) / 6

    {forward}

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
    return elementwise(x, _kernels.ACTIVATION_HARDSIGMOID, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def hardsigmoid_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `hardsigmoid` in x.

    ::

        grad_input = grad_output / 6 where -3 < x < 3, else 0

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.hardsigmoid_backward(np.ones(3), np.array([-4.0, 0.0, 1.5]))
    array([0.        , 0.16666667, 0.16666667])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_HARDSIGMOID, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def hardswish(x: ArrayLike, out: Array | None = None) -> Array:
    """x times `hardsigmoid`.

    As torch.nn.functional.hardswish::

        y = x * min(max(x + 3, 0), 6) / 6

    {forward}

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
    return elementwise(x, _kernels.ACTIVATION_HARDSWISH, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def hardswish_backward(grad_output: ArrayLike, x: ArrayLike, out: Array | None = None) -> Array:
    """The gradient of `hardswish` in x.

    ::

        grad_input = 0 where x <= -3, grad_output * (x / 3 + 1 / 2) where -3 < x < 3, else grad_output

    A NaN in `x` hands `grad_output` on.

    {backward_x}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.hardswish_backward(np.ones(3), np.array([-4.0, 1.5, 3.0]))
    array([0., 1., 1.])
    """
    return elementwise_backward(grad_output, x, "x", _kernels.ACTIVATION_HARDSWISH, 0.0, 0.0, out)


@operation
@doc(ELEMENTWISE)
def threshold(x: ArrayLike, threshold: float, value: float, out: Array | None = None) -> Array:
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
    return elementwise(
        x,
        _kernels.ACTIVATION_THRESHOLD,
        number(threshold, "threshold", -inf, inf),
        number(value, "value", -inf, inf),
        out,
    )


@operation
@doc(ELEMENTWISE)
def threshold_backward(
    grad_output: ArrayLike, x: ArrayLike, threshold: float, value: float = 0.0, out: Array | None = None
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
    return elementwise_backward(
        grad_output,
        x,
        "x",
        _kernels.ACTIVATION_THRESHOLD,
        number(threshold, "threshold", -inf, inf),
        number(value, "value", -inf, inf),
        out,
    )


@operation
@doc(ELEMENTWISE)
def hardshrink(x: ArrayLike, lambd: float = 0.5, out: Array | None = None) -> Array:
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
    return elementwise(x, _kernels.ACTIVATION_HARDSHRINK, number(lambd, "lambd", -inf, inf), 0.0, out)


@operation
@doc(ELEMENTWISE)
def hardshrink_backward(grad_output: ArrayLike, x: ArrayLike, lambd: float = 0.5, out: Array | None = None) -> Array:
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
    return elementwise_backward(
        grad_output, x, "x", _kernels.ACTIVATION_HARDSHRINK, number(lambd, "lambd", -inf, inf), 0.0, out
    )


@operation
@doc(ELEMENTWISE)
def softshrink(x: ArrayLike, lambd: float = 0.5, out: Array | None = None) -> Array:
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
    return elementwise(x, _kernels.ACTIVATION_SOFTSHRINK, number(lambd, "lambd", 0.0), 0.0, out)


@operation
@doc(ELEMENTWISE)
def softshrink_backward(grad_output: ArrayLike, x: ArrayLike, lambd: float = 0.5, out: Array | None = None) -> Array:
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
    return elementwise_backward(
        grad_output, x, "x", _kernels.ACTIVATION_SOFTSHRINK, number(lambd, "lambd", 0.0), 0.0, out
    )
