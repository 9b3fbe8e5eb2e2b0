"""What losses of policies share."""

from __future__ import annotations

from math import inf
from typing import Any

from fastdl.functional._operation import helper
from fastdl.functional.verbs import Array, fail, floats_like, number

TEXTS = {
    "advantage": """
        advantage : array of shape (N,)
            How much better each action was than expected; data, which has no gradient.
        old_log_prob : array of shape (N,), optional
            The log-probability of each action by the policy that took it; data too. None: that policy is this one.
        clip : float of at least 0, optional
            How far the ratio of probabilities may go from 1; 0.1 to 0.3 is usual. None: any far, and without
            old_log_prob there is nothing to clip.
        entropy_weight : float
            What the mean entropy is multiplied by before it is taken off the loss.
        """,
    "forward": """
        clip, entropy_weight : float
            As in the forward.
        """,
    "grad_output": """
        grad_output : array of shape (), or a number
            The gradient of the loss.
        """,
    "grad_rows": """
        grad_output : array of shape (N,)
            The gradient of what the forward returned.
        """,
    "returns_rows": """
        array
            Shape (N,), of the dtype of the first argument.
        """,
    "returns_loss": """
        array
            Shape (), of the dtype of the first argument; NaN of no rows.
        """,
    "raises": """
        Raises
        ------
        ValueError
            Shapes do not match, an action is none of the distribution's, or a number is out of range.
        TypeError
            A dtype is another.
        """,
    "sources": """
        Without old_log_prob: Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist
        Reinforcement Learning" (1992), and Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning" (2016).
        With it: Schulman, Wolski, Dhariwal, Radford and Klimov, "Proximal Policy Optimization Algorithms" (2017),
        equations 6, 7 and 9.
        """,
}


@helper
def of_rows(x: Any, argument: str, like: Array) -> Array:
    """x as floats_like of one number for each row of `like`."""
    array = floats_like(x, argument, like, 1)
    if len(array) != len(like):
        fail(argument, array.shape, like.shape[:1])
    return array


@helper
def optional_of_rows(x: Any, argument: str, like: Array) -> Array | None:
    """The same, or None."""
    return None if x is None else of_rows(x, argument, like)


@helper
def ratio_bound(clip: float | None, old_log_prob: Any) -> float:
    """How far the ratio may go from 1, which is infinitely far without `clip`."""
    if clip is None:
        return inf
    bound = number(clip, "clip", 0.0)
    if old_log_prob is None:
        fail("clip", clip, "None without old_log_prob")
    return bound
