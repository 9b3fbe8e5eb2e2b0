"""Padding: borders around an array, of any number of dimensions."""

from __future__ import annotations

from typing import Any

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    bordered_shape,
    borders,
    choice,
    disjoint,
    fail,
    floats,
    number_or_nan,
    output,
)

__all__ = [
    "pad",
    "pad_backward",
]

CONSTANT = _kernels.PAD_CONSTANT

_PAD = {
    "pad": """
pad : tuple of int
    Elements before and after each dimension, from the last one backwards: (left, right), (left, right, top, bottom)
    and so on, for as many dimensions as are padded. Numbers below 0 crop.
""",
    "mode": """
mode : {"constant", "reflect", "replicate", "circular"}, optional
    What the border holds.
""",
    "raises": """
Raises
------
TypeError
    An argument is of a type or a dtype that it may not be.
ValueError
    A border that the mode does not have: "reflect" has less than the size, "circular" at most what cropping leaves,
    "replicate" none of nothing; or another shape or value that is not as described. Nothing has been written.
""",
}


@operation
@doc(_PAD)
def pad(
    x: ArrayLike, pad: tuple[int, ...], mode: str = "constant", value: float | None = 0.0, out: Array | None = None
) -> Array:
    """x with a border.

    As torch.nn.functional.pad, but that every mode pads any number of dimensions. Along each of them, with size that
    of x::

        y[i] = x[i - before],    and where i - before is outside of x
        constant     value
        reflect      x[before - i] before, x[2 * (size - 1) - (i - before)] after
        replicate    x[0] before, x[size - 1] after
        circular     x[i - before + size] before, x[i - before - size] after; of x after cropping

    Parameters
    ----------
    x : array_like of float32 or float64
        The input, of any shape.
    {pad}
    {mode}
    value : float, optional
        The border of mode "constant". None is 0.
    out : ndarray, optional
        Where the result goes: an array of its shape and the dtype of `x`, which does not overlap `x`.

    Returns
    -------
    ndarray
        y, of sizes before + size + after and the dtype of `x`.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.pad(np.array([1.0, 2.0, 3.0]), (1, 2))
    array([0., 1., 2., 3., 0., 0.])
    >>> fastdl.pad(np.array([1.0, 2.0, 3.0]), (2, -1), mode="reflect")
    array([3., 2., 1., 2.])
    """
    x = floats(x, "x")
    kind = choice(mode, "mode", _kernels.PAD_NAMES)
    border = _border(value)
    geometry, shape = _padded(x.shape, pad, kind)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
    _kernels.pad(x, result, geometry, x.ndim, kind, border)
    return result


@operation
@doc(_PAD)
def pad_backward(
    grad_output: ArrayLike, pad: tuple[int, ...], mode: str = "constant", out: Array | None = None
) -> Array:
    """The gradient of `pad` in x, its adjoint: every grad_output is added to the element of x that was copied there.

    Parameters
    ----------
    grad_output : array_like of float32 or float64
        The gradient of the result, of its shape.
    {pad}
    {mode}
    out : ndarray, optional
        Where the gradient goes: an array of its shape and dtype, which does not overlap `grad_output`.

    Returns
    -------
    ndarray
        The gradient of x, of its shape and the dtype of `grad_output`.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.pad_backward(np.ones(6), (1, 2), mode="replicate")
    array([2., 1., 3.])
    """
    grad_output = floats(grad_output, "grad_output")
    kind = choice(mode, "mode", _kernels.PAD_NAMES)
    geometry, shape = _unpadded(grad_output.shape, pad, kind)
    result = output(out, shape, grad_output)
    if out is not None:
        disjoint(result, "grad_output", grad_output)
    _kernels.pad_backward(grad_output, result, geometry, grad_output.ndim, kind)
    return result


@helper
def _border(value: float | None) -> float:
    """A number, which may be NaN, or None for 0."""
    if value is None:
        return 0.0
    return number_or_nan(value, "value")


@cached_helper
def _padded(shape: tuple[int, ...], pad: Any, kind: int) -> tuple[Array, tuple[int, ...]]:
    """The kernels' geometry and the shape of the result."""
    geometry = borders(pad, "pad", shape)
    check_borders(geometry, "pad", kind)
    return geometry, bordered_shape(shape, geometry, 1)


@cached_helper
def _unpadded(shape: tuple[int, ...], pad: Any, kind: int) -> tuple[Array, tuple[int, ...]]:
    """The same from the shape of what pad returned."""
    geometry = borders(pad, "pad", shape)
    for i in range(len(shape)):
        geometry[i, 0] -= geometry[i, 1] + geometry[i, 2]
        if geometry[i, 0] < 0:
            fail("grad_output", shape, ("at least", int(geometry[i, 1] + geometry[i, 2]), "in dimension", i))
    check_borders(geometry, "pad", kind)
    return geometry, bordered_shape(shape, geometry, -1)


@helper
def check_borders(geometry: Array, argument: str, kind: int) -> None:
    """Refuse borders that the mode cannot make around the sizes, and results larger than 64 bits count bytes of."""
    elements = 1.0
    for i in range(len(geometry)):
        size, before, after = int(geometry[i, 0]), int(geometry[i, 1]), int(geometry[i, 2])
        most = max(before, after)
        elements *= float(max(size + before + after, 1))
        found = ("(before, after) =", (before, after), "in dimension", i, "of size", size)
        if size + before + after < 0:
            fail(argument, found, "a size of at least 0 left of it")
        elif kind == _kernels.PAD_REFLECT and most > max(size - 1, 0):
            fail(argument, found, "less than the size in mode 'reflect'")
        elif kind == _kernels.PAD_REPLICATE and size == 0 and most > 0:
            fail(argument, found, "a size of at least 1 in mode 'replicate'")
        elif kind == _kernels.PAD_CIRCULAR and most > max(size + min(before, 0) + min(after, 0), 0):
            fail(argument, found, "at most the size, less what is cropped, in mode 'circular'")
    if elements >= 2.0**60:
        fail(argument, ("a result of", elements, "elements"), "one whose size in bytes fits 64 bits")
