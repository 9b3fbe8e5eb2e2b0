"""The fully connected layer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.activation.elementwise import fused_activation
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    PackedLinearWeight,
    disjoint,
    fail,
    flag,
    floats,
    floats_like,
    gradient,
    linear_weight,
    optional_vector,
    output,
)

__all__ = [
    "LinearGrad",
    "PackedLinearWeight",
    "linear",
    "linear_backward",
    "pack_linear_weight",
]

_LINE = 64  # bytes of a cache line, at which packed weights begin: vectors are loaded from one, not two

_TEXTS = {
    "x": """
        x : array of shape (..., in)
            float32 or float64. Any number of leading dimensions, also none.
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
    weight: ArrayLike | PackedLinearWeight,
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
    weight : array of shape (out, in) or (in,), or PackedLinearWeight
        As x, or what pack_linear_weight made of it. One of shape (in,) gives one number in place of the last dimension,
        which results then do not have.
    bias : array of shape (out,), or () where weight is (in,), optional
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
        (..., out), or (...) where weight is (in,).

    {raises}

    See Also
    --------
    linear_backward : its gradients.
    pack_linear_weight : for repeated calls with the same weight.

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
    elements, weight_shape, packed = linear_weight(weight, x)
    rows, inputs, features, shape, biases = _sizes(x.shape, weight_shape)
    bias = optional_vector(bias, "bias", x, biases)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "weight", elements)
        disjoint(result, "bias", bias)
    act = fused_activation(activation, activation_args)
    _kernels.linear(x, elements, bias, result, rows, inputs, features, packed, act[0], act[1], act[2])
    return result


@helper
@doc(_TEXTS)
def pack_linear_weight(weight: ArrayLike) -> PackedLinearWeight:
    """A weight as linear's kernels read it, for repeated calls with the same one (inference).

    linear takes the result in place of the weight, for any number of samples. The copy is independent of `weight`, good
    on every instruction-set level, and as large, but for outputs that fill up its last cache lines. The gradients
    (linear_backward) need the plain weight.

    Parameters
    ----------
    weight : array of shape (out, in) or (in,)
        float32 or float64.

    Returns
    -------
    PackedLinearWeight
        What linear takes as its weight.

    {raises}

    See Also
    --------
    pack_conv2d_weight : the same for conv2d.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((8, 20), np.float32), np.ones((100, 20), np.float32)
    >>> packed = fastdl.pack_linear_weight(weight)
    >>> bool((fastdl.linear(x, packed) == fastdl.linear(x, weight)).all())
    True
    """
    weight = floats(weight, "weight")
    _, inputs, features, _, _ = _sizes(weight.shape[-1:], weight.shape)
    size = np.empty(1, np.int64)
    _kernels.linear_packed_size(weight, size, inputs, features)
    data = np.empty(size[0] + _LINE // weight.itemsize, weight.dtype)
    first = -data.ctypes.data % _LINE // weight.itemsize
    data = data[first : first + size[0]]
    _kernels.linear_pack(weight, data, inputs, features)
    return PackedLinearWeight(data, weight.shape)


def packed_linear_size(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> int:
    """How many elements a weight of that shape has when it is packed."""
    _, inputs, features, _, _ = _sizes(shape[-1:], shape)
    size = np.empty(1, np.int64)
    _kernels.linear_packed_size(np.empty(shape, dtype), size, inputs, features)
    return int(size[0])


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
    grad_output : array of shape (..., out) or (...)
        The gradient of what linear returned.
    {x}
    weight : array of shape (out, in) or (in,)
        As x; not packed.
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
    weight = floats_like(weight, "weight", x)
    grad_output = floats_like(grad_output, "grad_output", x)
    rows, inputs, features, shape, _ = _sizes(x.shape, weight.shape)
    flag(input_grad, "input_grad")
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = LinearGrad(gradient(x, input_grad), gradient(weight), np.empty(weight.shape[:-1], x.dtype))
    _kernels.linear_backward(
        grad_output, x, weight, result.input, result.weight, result.bias, rows, inputs, features, 0
    )
    return result


@cached_helper
def _sizes(x: tuple[int, ...], weight: tuple[int, ...]) -> tuple[int, int, int, tuple[int, ...], int]:
    """Rows, inputs and outputs of the product, the shape of the result, and the size of the bias (-1: a scalar)."""
    if len(weight) != 1 and len(weight) != 2:
        fail("weight", ("shape", weight), "(out, in) or (in,)")
    inputs, rows = weight[-1], 1
    if len(x) == 0 or x[-1] != inputs:
        fail("x", x, ("...", inputs))
    for i in range(len(x) - 1):
        rows *= x[i]
    if len(weight) == 1:
        return rows, inputs, 1, x[:-1], -1
    return rows, inputs, weight[0], (*x[:-1], weight[0]), weight[0]
