"""What activations that work element by element share: their text, their checks and the call of the kernel.

The kernel is one, csrc/vector/activation.h: a function names its kind and the two numbers that belong to it. They work
in place where out is x, and are what `activation` fuses into linear and convolution.
"""

from __future__ import annotations

from math import inf

from fastdl import _kernels
from fastdl.functional._operation import cached_helper, helper
from fastdl.functional.verbs import Array, ArrayLike, fail, floats, floats_like, fused, number, output, same_or_disjoint

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

ELEMENTWISE = {
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
    "forward": """
Parameters
----------
{x}
{out}

{returns}
""",
    "backward_x": """
Parameters
----------
{grad_output}
{saved_x}
{out_backward}

{returns_backward}
""",
    "backward_y": """
Parameters
----------
{grad_output}
{saved_y}
{out_backward}

{returns_backward}
""",
    "raises": """
Raises
------
TypeError
    An argument is of a type or a dtype that it may not be.
ValueError
    A shape or a value is not as described. Nothing has been written.
""",
}


@helper
def elementwise(x: ArrayLike, kind: int, alpha: float, beta: float, out: Array | None) -> Array:
    x = floats(x, "x")
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, "x", x)
    _kernels.elementwise(x, result, x.size, kind, alpha, beta)
    return result


@helper
def elementwise_backward(
    grad_output: ArrayLike, saved: ArrayLike, argument: str, kind: int, alpha: float, beta: float, out: Array | None
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


@cached_helper
def fused_activation(activation: str, args: tuple[float, ...]) -> tuple[int, float, float]:
    """An activation and its arguments, which are what its own function takes, as the kind and two numbers."""
    act = fused(activation, args, _kernels.ACTIVATION_NAMES, ACTIVATION_ARGS)
    if act[0] == _kernels.ACTIVATION_THRESHOLD and len(args) < 2:  # which has no defaults
        fail("activation_args", (len(args), "numbers"), "2, threshold and value")
    if len(args) > 0:  # the defaults are right
        if act[0] == _kernels.ACTIVATION_CELU:
            nonzero(act[1], "alpha")
        elif act[0] == _kernels.ACTIVATION_SOFTPLUS:
            nonzero(act[1], "beta")
        elif act[0] == _kernels.ACTIVATION_HARDTANH:
            limits(act[1], act[2])
        elif act[0] == _kernels.ACTIVATION_SOFTSHRINK:
            number(act[1], "lambd", 0.0)
    return act


@helper
def nonzero(value: float, argument: str) -> float:
    number_given = number(value, argument, -inf, inf)
    if number_given == 0:
        fail(argument, value, "a number other than 0")
    return number_given


@cached_helper
def limits(min_val: float, max_val: float) -> tuple[float, float]:
    low, high = number(min_val, "min_val", -inf, inf), number(max_val, "max_val", -inf, inf)
    if low > high:
        fail("min_val", min_val, ("at most max_val,", max_val))
    return low, high
