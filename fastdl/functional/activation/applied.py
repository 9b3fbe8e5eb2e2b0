"""The kernel of functions that are compiled elsewhere: what fastdl.elementwise makes (fastdl/numba/elementwise/)."""

from __future__ import annotations

from fastdl import _kernels
from fastdl.functional._operation import helper
from fastdl.functional.verbs import Array, ArrayLike, fail, floats, floats_like, output, same_or_disjoint

MOST_PARAMETERS = 4
"""That the kernel hands on."""


@helper
def apply(
    x: ArrayLike, argument: str, function: int, p0: float, p1: float, p2: float, p3: float, out: Array | None
) -> Array:
    """The function at that address, of each element of x, which is the argument of that name."""
    x = floats(x, argument)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, argument, x)
    _kernels.apply(x, None, result, x.size, function, p0, p1, p2, p3)
    return result


@helper
def apply_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    argument: str,
    function: int,
    p0: float,
    p1: float,
    p2: float,
    p3: float,
    out: Array | None,
) -> Array:
    """The gradient in x, by the function at that address, which multiplies grad_output with the derivative."""
    x = floats(x, argument)
    grad_output = floats_like(grad_output, "grad_output", x)
    if grad_output.shape != x.shape:
        fail("grad_output", grad_output.shape, x.shape)
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, argument, x)
        same_or_disjoint(result, "grad_output", grad_output)
    _kernels.apply(x, grad_output, result, x.size, function, p0, p1, p2, p3)
    return result
