"""Policies over continuous actions, of normal distributions whose coordinates are independent: log-probabilities and
losses. A log_std of shape (D,) is that of all rows, and has the sum of their gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import helper, operation
from fastdl.functional.policy._shared import TEXTS, of_rows, optional_of_rows, ratio_bound
from fastdl.functional.verbs import Array, ArrayLike, fail, floats, floats_as, floats_like, loss_grad, number, output

__all__ = [
    "NormalGrad",
    "normal_log_prob",
    "normal_log_prob_backward",
    "normal_policy_loss",
    "normal_policy_loss_backward",
]

_TEXTS = TEXTS | {
    "normal": """
        mean : array of shape (N, D)
            The mean of each coordinate, float32 or float64.
        log_std : array of shape (D,) or (N, D)
            The logarithm of its standard deviation.
        action : array of shape (N, D)
            Where the density is taken; data.
        """,
    "returns_grad": """
        NormalGrad
            The gradients of mean and log_std: (mean, log_std).
        """,
}


class NormalGrad(NamedTuple):
    """The gradients of a function of a normal distribution.

    Examples
    --------
    >>> import fastdl
    >>> fastdl.NormalGrad._fields
    ('mean', 'log_std')
    """

    mean: Array
    log_std: Array


@operation
@doc(_TEXTS)
def normal_log_prob(mean: ArrayLike, log_std: ArrayLike, action: ArrayLike) -> Array:
    """The logarithm of the density of each action. torch.distributions.Normal(mean, exp(log_std)).log_prob, summed.

    Of each row, with z = (action - mean) * exp(-log_std)::

        log_prob = -sum(z^2 / 2 + log_std + log(2 pi) / 2)


    Parameters
    ----------
    {normal}

    Returns
    -------
    {returns_rows}

    {raises}

    See Also
    --------
    normal_policy_loss : A loss of them in one pass.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.normal_log_prob(np.zeros((2, 1)), np.zeros(1), np.array([[0.0], [2.0]])).round(4)
    array([-0.9189, -2.9189])
    """
    mean = floats(mean, "mean", 2)
    log_std, own = _log_std(log_std, mean)
    action = floats_as(action, "action", mean)
    result = np.empty(mean.shape[:1], mean.dtype)
    _kernels.normal_log_prob(mean, log_std, action, result, mean.shape[0], mean.shape[1], own)
    return result


@operation
@doc(_TEXTS)
def normal_log_prob_backward(
    grad_output: ArrayLike, mean: ArrayLike, log_std: ArrayLike, action: ArrayLike
) -> NormalGrad:
    """The gradients of normal_log_prob in mean and log_std; that in action is the first with its sign turned.

    Of each row, with z = (action - mean) * exp(-log_std)::

        mean    = grad_output * z * exp(-log_std)
        log_std = grad_output * (z^2 - 1)


    Parameters
    ----------
    {grad_rows}
    {normal}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    normal_log_prob : The forward.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.normal_log_prob_backward(np.ones(2), np.zeros((2, 1)), np.zeros(1), np.array([[0.0], [2.0]])).log_std
    array([2.])
    """
    mean = floats(mean, "mean", 2)
    log_std, own = _log_std(log_std, mean)
    action = floats_as(action, "action", mean)
    grad_output = of_rows(grad_output, "grad_output", mean)
    grad_mean, grad_log_std = np.empty_like(mean), np.empty_like(log_std)
    _kernels.normal_log_prob_backward(
        grad_output, mean, log_std, action, grad_mean, grad_log_std, mean.shape[0], mean.shape[1], own
    )
    return NormalGrad(grad_mean, grad_log_std)


@operation
@doc(_TEXTS)
def normal_policy_loss(
    mean: ArrayLike,
    log_std: ArrayLike,
    action: ArrayLike,
    advantage: ArrayLike,
    old_log_prob: ArrayLike | None = None,
    *,
    clip: float | None = None,
    entropy_weight: float = 0.0,
) -> Array:
    """The loss of a policy over continuous actions: REINFORCE, actor-critic and PPO, in one pass.

    With log_prob = normal_log_prob(mean, log_std, action)::

        loss      = -mean(objective) - entropy_weight * mean(entropy)
        objective = advantage * log_prob                                    without old_log_prob
        objective = min(ratio * advantage, clamp(ratio, 1 - clip, 1 + clip) * advantage)
        ratio     = exp(log_prob - old_log_prob)
        entropy   = sum(log_std + 1 / 2 + log(2 pi) / 2)


    Parameters
    ----------
    {normal}
    {advantage}

    Returns
    -------
    {returns_loss}

    {raises}

    Notes
    -----
    {sources}

    See Also
    --------
    categorical_policy_loss : The same of discrete actions.
    gae : Advantages.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> mean, log_std, action = np.zeros((2, 1)), np.zeros(1), np.array([[0.0], [2.0]])
    >>> fastdl.normal_policy_loss(mean, log_std, action, np.array([1.0, -1.0]), entropy_weight=0.5)
    array(-1.70946927)
    """
    mean = floats(mean, "mean", 2)
    log_std, own = _log_std(log_std, mean)
    action = floats_as(action, "action", mean)
    advantage = of_rows(advantage, "advantage", mean)
    old_log_prob = optional_of_rows(old_log_prob, "old_log_prob", mean)
    bound = ratio_bound(clip, old_log_prob)
    entropy_weight = number(entropy_weight, "entropy_weight")
    rows, columns = mean.shape
    result = output(None, (), mean)
    _kernels.normal_policy_loss(
        None,
        mean,
        log_std,
        action,
        advantage,
        old_log_prob,
        result,
        None,
        None,
        rows,
        columns,
        own,
        bound,
        entropy_weight,
    )
    return result


@operation
@doc(_TEXTS)
def normal_policy_loss_backward(
    grad_output: ArrayLike | float,
    mean: ArrayLike,
    log_std: ArrayLike,
    action: ArrayLike,
    advantage: ArrayLike,
    old_log_prob: ArrayLike | None = None,
    *,
    clip: float | None = None,
    entropy_weight: float = 0.0,
) -> NormalGrad:
    """The gradients of normal_policy_loss in mean and log_std.

    Where clamp(ratio) * advantage is the smaller, the objective has no slope; else that in log_prob is advantage, or
    ratio * advantage.

    Parameters
    ----------
    {grad_output}
    {normal}
    advantage, old_log_prob : array of shape (N,)
        What the forward was given.
    {forward}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    normal_policy_loss : The forward.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> mean, log_std, action = np.zeros((2, 1)), np.zeros(1), np.array([[0.0], [2.0]])
    >>> fastdl.normal_policy_loss_backward(1.0, mean, log_std, action, np.array([1.0, 0.5]), entropy_weight=0.25)
    NormalGrad(mean=array([[-0. ],
           [-0.5]]), log_std=array([-0.5]))
    """
    mean = floats(mean, "mean", 2)
    log_std, own = _log_std(log_std, mean)
    action = floats_as(action, "action", mean)
    advantage = of_rows(advantage, "advantage", mean)
    old_log_prob = optional_of_rows(old_log_prob, "old_log_prob", mean)
    bound = ratio_bound(clip, old_log_prob)
    entropy_weight = number(entropy_weight, "entropy_weight")
    grad_output = loss_grad(grad_output, mean, ())
    rows, columns = mean.shape
    grad_mean, grad_log_std = np.empty_like(mean), np.empty_like(log_std)
    _kernels.normal_policy_loss(
        grad_output,
        mean,
        log_std,
        action,
        advantage,
        old_log_prob,
        None,
        grad_mean,
        grad_log_std,
        rows,
        columns,
        own,
        bound,
        entropy_weight,
    )
    return NormalGrad(grad_mean, grad_log_std)


@helper
def _log_std(log_std: Any, mean: Array) -> tuple[Array, int]:
    """log_std, and 1 if each row has its own."""
    array = floats_like(log_std, "log_std", mean)
    if array.shape != mean.shape and array.shape != mean.shape[1:]:
        fail("log_std", array.shape, (mean.shape[1:], "or", mean.shape))
    return array, 1 if array.ndim == 2 else 0
