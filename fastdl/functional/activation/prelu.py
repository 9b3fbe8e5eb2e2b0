"""relu with slopes below 0 that are learnt."""

from __future__ import annotations

from typing import NamedTuple

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, operation
from fastdl.functional.activation.elementwise import ELEMENTWISE
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    disjoint,
    fail,
    floats,
    floats_like,
    gradient,
    output,
    same_or_disjoint,
)

__all__ = [
    "PReLUGrad",
    "prelu",
    "prelu_backward",
]


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
@doc(ELEMENTWISE)
def prelu(x: ArrayLike, weight: ArrayLike, out: Array | None = None) -> Array:
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
@doc(ELEMENTWISE)
def prelu_backward(grad_output: ArrayLike, x: ArrayLike, weight: ArrayLike) -> PReLUGrad:
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


@cached_helper
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
