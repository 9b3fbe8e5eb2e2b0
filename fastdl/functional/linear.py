"""The fully connected layer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import helper, operation
from fastdl.functional.activation.elementwise import fused_activation
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    disjoint,
    fail,
    flag,
    floats,
    floats_like,
    gradient,
    optional_vector,
    output,
)

__all__ = [
    "LinearGrad",
    "linear",
    "linear_backward",
]

_TEXTS = {
    "x": """
        x : array of shape (..., in)
            float32 or float64. Any number of leading dimensions, also none.
        weight : array of shape (out, in)
            As x.
        """,
    "raises": """
        Raises
        ------
        ValueError
            Shapes that do not fit each other, names that are none, arrays that overlap what is written.
        TypeError
            What is no array (or no number), or has another dtype. Either message names the argument, what was found
            and what was expected; nothing has been written then.
        """,
}


class LinearGrad(NamedTuple):
    """The gradients of linear.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, weight = np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)
    >>> fastdl.linear_backward(np.ones((2, 1), np.float32), x, weight).bias
    array([2.], dtype=float32)
    """

    input: Array
    weight: Array
    bias: Array


@operation
@doc(_TEXTS)
def linear(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    out: Array | None = None,
) -> Array:
    """The fully connected layer, and an activation of it. torch.nn.functional.linear.

    ::

        y = activation(x @ weight.T + bias)

    Parameters
    ----------
    {x}
    bias : array of shape (out,), optional
        As x.
    activation : str
        What is applied to the result while it is in cache: "none", "relu", "gelu", ...: as conv2d's.
    activation_args : tuple of floats
        The activation's parameters, in the order of its function's; those that are left out have its defaults.
    out : array, optional
        Where to store the result: of its shape and dtype, C-contiguous; no argument shares its memory.

    Returns
    -------
    array
        (..., out).

    {raises}

    See Also
    --------
    linear_backward : its gradients.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> weight, bias = np.array([[1, 2, 3], [0, -1, 0]], np.float32), np.array([10, 0], np.float32)
    >>> fastdl.linear(np.array([[1, 1, 1]], np.float32), weight, bias)
    array([[16., -1.]], dtype=float32)
    >>> fastdl.linear(np.array([1, 1, 1], np.float32), weight, bias, activation="relu")
    array([16.,  0.], dtype=float32)
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 2)
    features, rows = weight.shape[0], _rows(x, weight)
    bias = optional_vector(bias, "bias", x, features)
    result = output(out, x.shape[:-1] + (features,), x)  # noqa: RUF005 (Numba has no tuple unpacking)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "weight", weight)
        disjoint(result, "bias", bias)
    act = fused_activation(activation, activation_args)
    _kernels.linear(x, weight, bias, result, rows, weight.shape[1], features, act[0], act[1], act[2])
    return result


@operation
@doc(_TEXTS)
def linear_backward(grad_output: ArrayLike, x: ArrayLike, weight: ArrayLike, input_grad: bool = True) -> LinearGrad:
    """The gradients of linear with activation "none".

    ::

        input  = grad_output @ weight
        weight = grad_output.T @ x              summed over all leading dimensions
        bias   = sum(grad_output)

    Parameters
    ----------
    grad_output : array of shape (..., out)
        The gradient of what linear returned.
    {x}
    input_grad : bool
        Without it `input` is an empty array, and its product is not computed: a network's first layer does not need it.

    Returns
    -------
    LinearGrad
        The gradients of x, of weight and of bias: (input, weight, bias).

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, weight = np.array([[1, 2, 3]], np.float32), np.array([[1, 2, 3], [0, -1, 0]], np.float32)
    >>> grads = fastdl.linear_backward(np.array([[1, 10]], np.float32), x, weight)
    >>> grads.input
    array([[ 1., -8.,  3.]], dtype=float32)
    >>> grads.weight
    array([[ 1.,  2.,  3.],
           [10., 20., 30.]], dtype=float32)
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 2)
    grad_output = floats_like(grad_output, "grad_output", x)
    features, rows = weight.shape[0], _rows(x, weight)
    flag(input_grad, "input_grad")
    expected = x.shape[:-1] + (features,)  # noqa: RUF005 (Numba has no tuple unpacking)
    if grad_output.shape != expected:
        fail("grad_output", grad_output.shape, expected)
    result = LinearGrad(gradient(x, input_grad), gradient(weight), np.empty(features, x.dtype))
    _kernels.linear_backward(
        grad_output, x, weight, result.input, result.weight, result.bias, rows, weight.shape[1], features
    )
    return result


@helper
def _rows(x: Array, weight: Array) -> int:
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        fail("x", x.shape, ("...", weight.shape[1]))
    if x.size > 0:
        return int(x.size // weight.shape[1])
    rows = 1
    for size in x.shape[:-1]:
        rows *= size
    return rows
