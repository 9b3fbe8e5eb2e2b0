"""Arithmetic, element by element, of arrays that are broadcast, and of numbers."""

from __future__ import annotations

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.verbs import (
    FIT,
    Array,
    ArrayLike,
    Arrays,
    broadcast,
    disjoint,
    fail,
    floats_like,
    gradient,
    mask,
    number_or_nan,
    operands,
    output,
    same_or_disjoint,
    shape_of,
)

__all__ = [
    "add",
    "add_backward",
    "div",
    "div_backward",
    "maximum",
    "maximum_backward",
    "minimum",
    "minimum_backward",
    "mul",
    "mul_backward",
    "pow",
    "pow_backward",
    "sub",
    "sub_backward",
    "where",
    "where_backward",
]

_TEXTS = {
    "x": """
        x : array or float
            float32 or float64, of any shape, or a number.
        """,
    "other": """
        other : array or float
            As x, of a shape that broadcasts with that of x: from the last dimension back, sizes are the same, or one of
            them is 1 or not there. One of the two has to be an array.
        """,
    "alpha": """
        alpha : float, optional
            What `other` is multiplied by.
        """,
    "condition": """
        condition : array of bool
            Of a shape that broadcasts with theirs.
        """,
    "out": """
        out : array, optional
            Where to store the result: C-contiguous; memory that the arguments do not share, or one of them that has the
            shape of the result.
        """,
    "returns": """
        Returns
        -------
        array
            Of their dtype, and the shape that they are broadcast to.
        """,
    "grad_output": """
        grad_output : array
            The gradient of the result.
        """,
    "gradients": """
        Returns
        -------
        tuple of arrays
            The gradients in x and in the other, with their shapes: sums over what they were broadcast over. For a
            number, which has none, an array of shape (0,).
        """,
    "raises": """
        Raises
        ------
        ValueError
            Shapes that do not fit each other, arrays that overlap what is written.
        TypeError
            What is no array (or no number), or has another dtype. Either message names the argument, what was found
            and what was expected; nothing has been written then.
        """,
}


@operation
@doc(_TEXTS)
def add(x: ArrayLike | float, other: ArrayLike | float, alpha: float = 1.0, out: Array | None = None) -> Array:
    """x + alpha * other. torch.add.

    Parameters
    ----------
    {x}
    {other}
    {alpha}
    {out}

    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, y = np.array([1, 2, 3], np.float32), np.array([10, 20, 30], np.float32)
    >>> fastdl.add(x, y)
    array([11., 22., 33.], dtype=float32)
    >>> fastdl.add(x, y, alpha=-0.5, out=x)
    array([ -4.,  -8., -12.], dtype=float32)
    """
    return _combined(x, other, _kernels.ARITHMETIC_ADD, out, number_or_nan(alpha, "alpha"))


@operation
@doc(_TEXTS)
def add_backward(grad_output: ArrayLike, x: ArrayLike | float, other: ArrayLike | float, alpha: float = 1.0) -> Arrays:
    """The gradients of add.

    ::

        grad_x = grad_output        grad_other = alpha * grad_output

    Parameters
    ----------
    {grad_output}
    {x}
    {other}
    {alpha}

    {gradients}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.add_backward(np.ones((2, 2)), np.ones((2, 2)), np.ones(2))[1]
    array([2., 2.])
    """
    factor = number_or_nan(alpha, "alpha")
    grad, first, second, _ = _given(grad_output, x, other)
    return _multiple(grad, first, 1.0), _multiple(grad, second, factor)


@operation
@doc(_TEXTS)
def sub(x: ArrayLike | float, other: ArrayLike | float, alpha: float = 1.0, out: Array | None = None) -> Array:
    """x - alpha * other. torch.sub.

    Parameters
    ----------
    {x}
    {other}
    {alpha}
    {out}

    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.sub(1.0, np.array([0.25, 2.0]))
    array([ 0.75, -1.  ])
    """
    return _combined(x, other, _kernels.ARITHMETIC_ADD, out, -number_or_nan(alpha, "alpha"))


@operation
@doc(_TEXTS)
def sub_backward(grad_output: ArrayLike, x: ArrayLike | float, other: ArrayLike | float, alpha: float = 1.0) -> Arrays:
    """The gradients of sub.

    ::

        grad_x = grad_output        grad_other = -alpha * grad_output

    Parameters
    ----------
    {grad_output}
    {x}
    {other}
    {alpha}

    {gradients}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.sub_backward(np.ones(2), np.ones(2), np.ones(2))[1]
    array([-1., -1.])
    """
    factor = -number_or_nan(alpha, "alpha")
    grad, first, second, _ = _given(grad_output, x, other)
    return _multiple(grad, first, 1.0), _multiple(grad, second, factor)


@operation
@doc(_TEXTS)
def mul(x: ArrayLike | float, other: ArrayLike | float, out: Array | None = None) -> Array:
    """x * other. torch.mul.

    Parameters
    ----------
    {x}
    {other}
    {out}

    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.mul(np.array([[1.0], [2.0]]), np.array([3.0, 4.0]))
    array([[3., 4.],
           [6., 8.]])
    """
    return _combined(x, other, _kernels.ARITHMETIC_MUL, out)


@operation
@doc(_TEXTS)
def mul_backward(grad_output: ArrayLike, x: ArrayLike | float, other: ArrayLike | float) -> Arrays:
    """The gradients of mul.

    ::

        grad_x = grad_output * other        grad_other = grad_output * x

    Parameters
    ----------
    {grad_output}
    {x}
    {other}

    {gradients}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.mul_backward(np.ones((2, 2)), np.array([[1.0], [2.0]]), np.array([3.0, 4.0]))
    (array([[7.],
           [7.]]), array([3., 3.]))
    """
    grad, first, second, value = _given(grad_output, x, other)
    kind = _kernels.ARITHMETIC_MUL
    return _grad_in(first, kind, grad, second, None, value), _grad_in(second, kind, grad, first, None, value)


@operation
@doc(_TEXTS)
def div(x: ArrayLike | float, other: ArrayLike | float, out: Array | None = None) -> Array:
    """x / other. torch.div.

    Parameters
    ----------
    {x}
    {other}
    {out}

    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.div(1.0, np.array([2.0, 4.0]))
    array([0.5 , 0.25])
    """
    return _combined(x, other, _kernels.ARITHMETIC_DIV, out)


@operation
@doc(_TEXTS)
def div_backward(grad_output: ArrayLike, x: ArrayLike | float, other: ArrayLike | float) -> Arrays:
    """The gradients of div.

    ::

        grad_x = grad_output / other        grad_other = -grad_output * x / other^2

    Parameters
    ----------
    {grad_output}
    {x}
    {other}

    {gradients}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.div_backward(np.ones(1), np.array([3.0]), np.array([2.0]))
    (array([0.5]), array([-0.75]))
    """
    grad, first, second, value = _given(grad_output, x, other)
    grad_x = _grad_in(first, _kernels.ARITHMETIC_DIV, grad, second, None, value)
    return grad_x, _grad_in(second, _kernels.ARITHMETIC_DIV_GRAD, grad, first, second, value)


@operation
@doc(_TEXTS)
def pow(x: ArrayLike | float, exponent: ArrayLike | float, out: Array | None = None) -> Array:
    """x to the power of exponent. torch.pow.

    Parameters
    ----------
    {x}
    exponent : array or float
        As x, of a shape that broadcasts with that of x. One of the two has to be an array.
    {out}

    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.pow(np.array([1.0, 2.0, -3.0]), 2)
    array([1., 4., 9.])
    >>> fastdl.pow(2.0, np.array([0.5, 3.0])).round(6)
    array([1.414214, 8.      ])
    """
    return _combined(x, exponent, _kernels.ARITHMETIC_POW, out, 1.0, "exponent")


@operation
@doc(_TEXTS)
def pow_backward(grad_output: ArrayLike, x: ArrayLike | float, exponent: ArrayLike | float) -> Arrays:
    """The gradients of pow.

    ::

        grad_x = grad_output * exponent * x^(exponent - 1), 0 where exponent = 0
        grad_exponent = grad_output * x^exponent * log(x), 0 where x = 0 <= exponent

    Parameters
    ----------
    {grad_output}
    {x}
    exponent : array or float
        As pow was given it.

    {gradients}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.pow_backward(np.ones(2), np.array([1.0, 3.0]), 2)[0]
    array([2., 6.])
    """
    grad, first, second, value = _given(grad_output, x, exponent, "exponent")
    grad_x = _grad_in(first, _kernels.ARITHMETIC_POW_GRAD, grad, first, second, value)
    return grad_x, _grad_in(second, _kernels.ARITHMETIC_EXPONENT_GRAD, grad, first, second, value)


@operation
@doc(_TEXTS)
def maximum(x: ArrayLike | float, other: ArrayLike | float, out: Array | None = None) -> Array:
    """The larger of two; NaN where either is NaN. torch.maximum.

    Parameters
    ----------
    {x}
    {other}
    {out}

    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.maximum(np.array([1.0, 5.0]), 3.0)
    array([3., 5.])
    """
    return _combined(x, other, _kernels.ARITHMETIC_MAXIMUM, out)


@operation
@doc(_TEXTS)
def maximum_backward(grad_output: ArrayLike, x: ArrayLike | float, other: ArrayLike | float) -> Arrays:
    """The gradients of maximum: that of the result for the larger, half of it for each of two that are equal.

    Parameters
    ----------
    {grad_output}
    {x}
    {other}

    {gradients}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.maximum_backward(np.ones(3), np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0]))
    (array([0. , 0.5, 1. ]), array([1. , 0.5, 0. ]))
    """
    return _shared_grads(grad_output, x, other, _kernels.ARITHMETIC_MAXIMUM_GRAD)


@operation
@doc(_TEXTS)
def minimum(x: ArrayLike | float, other: ArrayLike | float, out: Array | None = None) -> Array:
    """The smaller of two; NaN where either is NaN. torch.minimum.

    Parameters
    ----------
    {x}
    {other}
    {out}

    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.minimum(np.array([1.0, 5.0]), 3.0)
    array([1., 3.])
    """
    return _combined(x, other, _kernels.ARITHMETIC_MINIMUM, out)


@operation
@doc(_TEXTS)
def minimum_backward(grad_output: ArrayLike, x: ArrayLike | float, other: ArrayLike | float) -> Arrays:
    """The gradients of minimum: that of the result for the smaller, half of it for each of two that are equal.

    Parameters
    ----------
    {grad_output}
    {x}
    {other}

    {gradients}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.minimum_backward(np.ones(3), np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0]))
    (array([1. , 0.5, 0. ]), array([0. , 0.5, 1. ]))
    """
    return _shared_grads(grad_output, x, other, _kernels.ARITHMETIC_MINIMUM_GRAD)


@operation
@doc(_TEXTS)
def where(condition: ArrayLike, x: ArrayLike | float, other: ArrayLike | float, out: Array | None = None) -> Array:
    """x where the condition holds, else `other`. torch.where.

    Parameters
    ----------
    {condition}
    {x}
    {other}
    {out}

    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.where(np.array([True, False]), np.array([1.0, 2.0]), 0.0)
    array([1., 0.])
    """
    chosen = mask(condition, "condition")
    first, second, value, like, _, _ = operands(x, "x", other, "other")
    names = ("condition", "x", "other")
    shape, geometry = broadcast(chosen.shape, shape_of(first), shape_of(second), names)
    result = output(out, shape, like)
    if out is not None:
        disjoint(result, "condition", chosen)
        _apart(result, "x", first)
        _apart(result, "other", second)
    _kernels.where(chosen, first, second, result, geometry, len(shape), value)
    return result


@operation
@doc(_TEXTS)
def where_backward(
    grad_output: ArrayLike, condition: ArrayLike, x: ArrayLike | float, other: ArrayLike | float
) -> Arrays:
    """The gradients of where: that of the result for what is taken, 0 for what is not.

    Parameters
    ----------
    {grad_output}
    {condition}
    {x}
    {other}

    {gradients}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.where_backward(np.ones(2), np.array([True, False]), np.zeros(2), np.zeros(2))
    (array([1., 0.]), array([0., 1.]))
    """
    chosen = mask(condition, "condition")
    first, second, _, like, _, _ = operands(x, "x", other, "other")
    names = ("condition", "x", "other")
    shape, _ = broadcast(chosen.shape, shape_of(first), shape_of(second), names)
    grad = _of_shape(grad_output, like, shape)
    _, taken = broadcast(chosen.shape, shape, (), names)
    _, left = broadcast(chosen.shape, (), shape, names)
    return _grad_where(first, grad, chosen, grad, None, taken), _grad_where(second, grad, chosen, None, grad, left)


@helper
def _grad_where(
    of: Array | None, grad: Array, chosen: Array, x: Array | None, y: Array | None, geometry: Array
) -> Array:
    """The gradient where it is x, or where it is y; 0 where that is None."""
    if of is None:
        return output(None, (0,), grad)
    full = gradient(grad)
    _kernels.where(chosen, x, y, full, geometry, grad.ndim, 0.0)
    return summed_to(full, of.shape)


@helper
def _apart(result: Array, argument: str, operand: Array | None) -> None:
    if operand is not None:
        if operand.shape == result.shape:
            same_or_disjoint(result, argument, operand)
        else:
            disjoint(result, argument, operand)


@helper
def _combined(
    x: ArrayLike | float,
    other: ArrayLike | float,
    kind: int,
    out: Array | None,
    alpha: float = 1.0,
    other_name: str = "other",
) -> Array:
    first, second, value, like, shape, geometry = operands(x, "x", other, other_name)
    result = output(out, shape, like)
    if out is not None:
        _apart(result, "x", first)
        _apart(result, other_name, second)
    _kernels.arithmetic(first, second, None, result, geometry, len(shape), kind, value, alpha)
    return result


# ---- gradients ----


@helper
def _of_shape(grad_output: ArrayLike, like: Array, shape: tuple[int, ...]) -> Array:
    grad = floats_like(grad_output, "grad_output", like)
    if grad.shape != shape:
        fail("grad_output", grad.shape, shape)
    return grad


@helper
def _given(
    grad_output: ArrayLike, x: ArrayLike | float, other: ArrayLike | float, other_name: str = "other"
) -> tuple[Array, Array | None, Array | None, float]:
    first, second, value, like, shape, _ = operands(x, "x", other, other_name)
    return _of_shape(grad_output, like, shape), first, second, value


@helper
def _shared_grads(grad_output: ArrayLike, x: ArrayLike | float, other: ArrayLike | float, kind: int) -> Arrays:
    """The gradients of what treats both of its arguments alike."""
    grad, first, second, value = _given(grad_output, x, other)
    return _grad_in(first, kind, grad, first, second, value), _grad_in(second, kind, grad, second, first, value)


@helper
def _grad_in(of: Array | None, kind: int, grad: Array, x: Array | None, y: Array | None, value: float) -> Array:
    """What `kind` makes of grad, x and y, summed over what `of` is broadcast over."""
    if of is None:
        return output(None, (0,), grad)
    _, geometry = broadcast(grad.shape, shape_of(x), shape_of(y), FIT)
    full = gradient(grad)
    _kernels.arithmetic(grad, x, y, full, geometry, grad.ndim, kind, value, 1.0)
    return summed_to(full, of.shape)


@helper
def _multiple(grad: Array, of: Array | None, factor: float) -> Array:
    """factor grad, likewise."""
    if of is None:
        return output(None, (0,), grad)
    total = summed_to(grad, of.shape)
    result = gradient(total)
    _, geometry = broadcast(total.shape, (), (), FIT)
    _kernels.arithmetic(total, None, None, result, geometry, total.ndim, _kernels.ARITHMETIC_MUL, factor, 1.0)
    return result


@helper
def summed_to(x: Array, shape: tuple[int, ...]) -> Array:
    """x summed over what an array of that shape is broadcast over; x itself if that is nothing."""
    if x.shape == shape:
        return x
    result = output(None, shape, x)
    _kernels.reduce(x, result, _repeated(x.shape, shape), x.ndim, _kernels.REDUCE_SUM, 1.0)
    return result


@cached_helper
def _repeated(shape: tuple[int, ...], small: tuple[int, ...]) -> Array:
    """The geometry of that sum."""
    geometry = np.zeros((len(shape), 2), np.int64)
    for d in range(1, len(shape) + 1):
        n = shape[-d]
        m = small[-d] if d <= len(small) else 1
        geometry[len(shape) - d, 0] = n
        geometry[len(shape) - d, 1] = 0 if n == m else 1
    return geometry
