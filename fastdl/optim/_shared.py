"""What the step functions of all optimizers check alike, and what their docstrings say alike."""

from __future__ import annotations

from math import inf

from fastdl.functional._operation import helper
from fastdl.functional.verbs import Array, ArrayLike, disjoint, fail, flag, floats_like, number, pair

SHARED = {
    "param_grad": """
        param : array of float32 or float64, any shape
            The parameter. Updated in place, so it has to be C-contiguous and writable.
        grad : array, like `param`
            Its gradient, g in the formula. Not changed.
    """,
    "step": """
        step : int
            The number of this step, t in the formula; the first is 1.
    """,
    "lr": """
        lr : float
            The learning rate, at least 0.
    """,
    "betas": """
        betas : tuple of two floats
            How much of the averages of the gradient and of its square is kept, each at least 0 and below 1.
    """,
    "eps": """
        eps : float
            What is added to a denominator, at least 0.
    """,
    "coupled": """
        weight_decay : float
            Coupled weight decay, at least 0: ``weight_decay * param`` is added to the gradient.
    """,
    "decoupled": """
        weight_decay : float
            Decoupled weight decay, at least 0: beforehand, ``param *= 1 - lr * weight_decay``.
    """,
    "either_decay": """
        weight_decay : float
            Weight decay, at least 0: ``weight_decay * param`` is added to the gradient or, with
            `decoupled_weight_decay`, beforehand ``param *= 1 - lr * weight_decay``.
        decoupled_weight_decay : bool
            Which of the two.
    """,
    "maximize": """
        maximize : bool
            Go up the gradient instead of down.
    """,
    "scaling": """
        grad_scale, clip_value : float
            The gradient counts as ``clip(grad_scale * grad, -clip_value, clip_value)``, before anything else. Both are
            at least 0; clip_value may be infinite.
    """,
    "step_raises": """
        Raises
        ------
        ValueError, TypeError
            For an array that is not as said above, or shares memory with another, and for an option out of its range.
            Nothing has been written then.
    """,
    "params": """
        params : list or dict of arrays, or list of dicts
            What to optimize, in place: arrays of float32 or float64, C-contiguous and writable, such as
            ``net.parameters()``; or groups of them with options of their own, ``[{"params": ..., "lr": 0.1}, ...]``.
            An array that is given twice (tied parameters) is updated once.
    """,
    "class_raises": """
        Raises
        ------
        ValueError, TypeError
            For no parameters, parameters that cannot be updated in place, and an option out of its range.
    """,
}
"""For fastdl._docs.doc."""


@helper
def gradient_of(grad: ArrayLike, param: Array) -> Array:
    array = floats_like(grad, "grad", param)
    if array.shape != param.shape:
        fail("grad", array.shape, param.shape)
    disjoint(param, "grad", array)
    return array


@helper
def check_common(lr: float, weight_decay: float, maximize: bool, grad_scale: float, clip_value: float) -> None:
    number(lr, "lr", 0.0)
    number(weight_decay, "weight_decay", 0.0)
    flag(maximize, "maximize")
    number(grad_scale, "grad_scale", 0.0)
    number(clip_value, "clip_value", 0.0, inf)


@helper
def two_betas(betas: tuple[float, float]) -> tuple[float, float]:
    beta1, beta2 = pair(betas, "betas")
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        fail("betas", betas, "two numbers of at least 0 and below 1")
    return beta1, beta2


@helper
def check_buffer(momentum: float, has_buffer: bool) -> None:
    number(momentum, "momentum", 0.0)
    if momentum != 0 and not has_buffer:
        fail("momentum_buffer", "none", "an array like param, because momentum is not 0")
