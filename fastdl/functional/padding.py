"""Padding: borders around an array, of any number of dimensions."""

from __future__ import annotations

from typing import Any

from fastdl import _kernels
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.verbs import Array, bordered_shape, borders, choice, disjoint, fail, floats, output

__all__ = [
    "pad",
    "pad_backward",
]

CONSTANT, REFLECT, REPLICATE, CIRCULAR = range(4)


@operation
def pad(x: Any, pad: tuple[int, ...], mode: str = "constant", value: float = 0.0, out: Array | None = None) -> Array:
    """x with a border. torch.nn.functional.pad.

    pad: elements before and after each dimension, from the last one backwards: (left, right), (left, right, top,
    bottom), ..., for as many dimensions as are padded. Along each of them result[i] = x[i - before], and outside of x

        "constant"    value; numbers below 0 crop
        "reflect"     x[before - i] before, x[2 (size - 1) - (i - before)] after; each less than the size
        "replicate"   the first or the last element
        "circular"    x[i - before + size] before, x[i - before - size] after; each at most the size

    Returns an array of sizes before + size + after. Unlike torch's, every mode pads any number of dimensions.
    """
    x = floats(x, "x")
    kind = choice(mode, "mode", _kernels.PAD_NAMES)
    geometry, shape = _padded(x.shape, pad, kind)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
    _kernels.pad(x, result, geometry, x.ndim, kind, value)
    return result


@operation
def pad_backward(grad_output: Any, pad: tuple[int, ...], mode: str = "constant", out: Array | None = None) -> Array:
    """The gradient of pad, its adjoint: every grad_output is added to the element of x that was copied there."""
    grad_output = floats(grad_output, "grad_output")
    kind = choice(mode, "mode", _kernels.PAD_NAMES)
    geometry, shape = _unpadded(grad_output.shape, pad, kind)
    result = output(out, shape, grad_output)
    if out is not None:
        disjoint(result, "grad_output", grad_output)
    _kernels.pad_backward(grad_output, result, geometry, grad_output.ndim, kind)
    return result


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
        elements *= float(max(size + before + after, 1))
        found = ("(before, after) =", (before, after), "in dimension", i, "of size", size)
        if kind == CONSTANT:
            if size + before + after < 0:
                fail(argument, found, "a size of at least 0 left of it")
        elif min(before, after) < 0:
            fail(argument, found, "at least 0, except in mode 'constant'")
        elif kind == REFLECT and max(before, after) > max(size - 1, 0):
            fail(argument, found, "less than the size in mode 'reflect'")
        elif kind == REPLICATE and size == 0 and max(before, after) > 0:
            fail(argument, found, "a size of at least 1 in mode 'replicate'")
        elif kind == CIRCULAR and max(before, after) > size:
            fail(argument, found, "at most the size in mode 'circular'")
    if elements >= 2.0**60:
        fail(argument, ("a result of", elements, "elements"), "one whose size in bytes fits 64 bits")
