"""Policies that choose one of several actions: log-probabilities, entropies and losses, of logits.

An action whose logit is -infinity is never chosen, and has no part in the entropy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import helper, operation
from fastdl.functional.policy._shared import TEXTS, of_rows, optional_of_rows, ratio_bound
from fastdl.functional.verbs import Array, ArrayLike, class_indices, fail, floats, loss_grad, number, output

__all__ = [
    "categorical_entropy",
    "categorical_entropy_backward",
    "categorical_log_prob",
    "categorical_log_prob_backward",
    "categorical_policy_loss",
    "categorical_policy_loss_backward",
]

_TEXTS = TEXTS | {
    "logits": """
        logits : array of shape (N, A)
            Logarithms of what the probabilities of A actions are proportional to, float32 or float64.
        """,
    "action": """
        action : array (or list) of N integers
            Each in [0, A).
        """,
    "returns_grad": """
        array
            The gradient of logits.
        """,
}


@operation
@doc(_TEXTS)
def categorical_log_prob(logits: ArrayLike, action: ArrayLike) -> Array:
    """The logarithm of the probability of each action. torch.distributions.Categorical(logits=logits).log_prob.

    Of each row::

        log_prob = logits[action] - log(sum(exp(logits)))


    Parameters
    ----------
    {logits}
    {action}

    Returns
    -------
    {returns_rows}

    {raises}

    See Also
    --------
    log_softmax : The logarithms of all probabilities.
    categorical_policy_loss : A loss of them in one pass.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> np.exp(fastdl.categorical_log_prob(np.log([[0.5, 0.5], [1.0, 3.0]]), np.array([0, 1])))
    array([0.5 , 0.75])
    """
    logits = _logits(logits)
    action = _actions(action, logits)
    result = np.empty(logits.shape[:1], logits.dtype)
    _kernels.categorical(logits, action, result, None, logits.shape[0], logits.shape[1])
    return result


@operation
@doc(_TEXTS)
def categorical_log_prob_backward(grad_output: ArrayLike, logits: ArrayLike, action: ArrayLike) -> Array:
    """The gradient of categorical_log_prob.

    Of each row::

        grad = grad_output * ((1 at action, 0 elsewhere) - softmax(logits))


    Parameters
    ----------
    {grad_rows}
    {logits}
    {action}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    categorical_log_prob : The forward.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.categorical_log_prob_backward(np.ones(1), np.log([[1.0, 3.0]]), np.array([1]))
    array([[-0.25,  0.25]])
    """
    logits = _logits(logits)
    action = _actions(action, logits)
    grad_output = of_rows(grad_output, "grad_output", logits)
    grad = np.empty_like(logits)
    _kernels.categorical_backward(grad_output, None, logits, action, grad, logits.shape[0], logits.shape[1])
    return grad


@operation
@doc(_TEXTS)
def categorical_entropy(logits: ArrayLike) -> Array:
    """The entropy of each distribution, in nats. torch.distributions.Categorical(logits=logits).entropy.

    Of each row, with p = softmax(logits)::

        entropy = -sum(p * log(p))        0 where p is


    Parameters
    ----------
    {logits}

    Returns
    -------
    {returns_rows}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.categorical_entropy(np.array([[0.0, 0.0], [0.0, -np.inf]])).round(4)
    array([0.6931, 0.    ])
    """
    logits = _logits(logits)
    result = np.empty(logits.shape[:1], logits.dtype)
    _kernels.categorical(logits, None, None, result, logits.shape[0], logits.shape[1])
    return result


@operation
@doc(_TEXTS)
def categorical_entropy_backward(grad_output: ArrayLike, logits: ArrayLike) -> Array:
    """The gradient of categorical_entropy.

    Of each row, with p = softmax(logits)::

        grad = -grad_output * p * (log(p) + entropy)        0 where p is


    Parameters
    ----------
    {grad_rows}
    {logits}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    categorical_entropy : The forward.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.categorical_entropy_backward(np.ones(1), np.log([[1.0, 3.0]])).round(4)
    array([[ 0.206, -0.206]])
    """
    logits = _logits(logits)
    grad_output = of_rows(grad_output, "grad_output", logits)
    grad = np.empty_like(logits)
    _kernels.categorical_backward(None, grad_output, logits, None, grad, logits.shape[0], logits.shape[1])
    return grad


@operation
@doc(_TEXTS)
def categorical_policy_loss(
    logits: ArrayLike,
    action: ArrayLike,
    advantage: ArrayLike,
    old_log_prob: ArrayLike | None = None,
    *,
    clip: float | None = None,
    entropy_weight: float = 0.0,
) -> Array:
    """The loss of a policy over discrete actions: REINFORCE, actor-critic and PPO, in one pass.

    With log_prob = categorical_log_prob(logits, action)::

        loss      = -mean(objective) - entropy_weight * mean(categorical_entropy(logits))
        objective = advantage * log_prob                                    without old_log_prob
        objective = min(ratio * advantage, clamp(ratio, 1 - clip, 1 + clip) * advantage)
        ratio     = exp(log_prob - old_log_prob)


    Parameters
    ----------
    {logits}
    {action}
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
    normal_policy_loss : The same of continuous actions.
    gae : Advantages.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> logits, action, advantage = np.log([[0.5, 0.5], [1.0, 3.0]]), np.array([0, 1]), np.array([1.0, -2.0])
    >>> old = np.log([0.25, 0.5])
    >>> fastdl.categorical_policy_loss(logits, action, advantage, old, clip=0.5)
    array(0.75)
    """
    logits = _logits(logits)
    action = _actions(action, logits)
    advantage = of_rows(advantage, "advantage", logits)
    old_log_prob = optional_of_rows(old_log_prob, "old_log_prob", logits)
    bound = ratio_bound(clip, old_log_prob)
    entropy_weight = number(entropy_weight, "entropy_weight")
    rows, actions = logits.shape
    result = output(None, (), logits)
    _kernels.categorical_policy_loss(
        None, logits, action, advantage, old_log_prob, result, None, rows, actions, bound, entropy_weight
    )
    return result


@operation
@doc(_TEXTS)
def categorical_policy_loss_backward(
    grad_output: ArrayLike | float,
    logits: ArrayLike,
    action: ArrayLike,
    advantage: ArrayLike,
    old_log_prob: ArrayLike | None = None,
    *,
    clip: float | None = None,
    entropy_weight: float = 0.0,
) -> Array:
    """The gradient of categorical_policy_loss in the logits.

    Where clamp(ratio) * advantage is the smaller, the objective has no slope; else that in log_prob is advantage, or
    ratio * advantage.

    Parameters
    ----------
    {grad_output}
    {logits}
    {action}
    advantage, old_log_prob : array of shape (N,)
        What the forward was given.
    {forward}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    categorical_policy_loss : The forward.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> logits, action, advantage = np.log([[0.5, 0.5], [1.0, 3.0]]), np.array([0, 1]), np.array([1.0, -2.0])
    >>> fastdl.categorical_policy_loss_backward(1.0, logits, action, advantage)
    array([[-0.25,  0.25],
           [-0.25,  0.25]])
    """
    logits = _logits(logits)
    action = _actions(action, logits)
    advantage = of_rows(advantage, "advantage", logits)
    old_log_prob = optional_of_rows(old_log_prob, "old_log_prob", logits)
    bound = ratio_bound(clip, old_log_prob)
    entropy_weight = number(entropy_weight, "entropy_weight")
    grad_output = loss_grad(grad_output, logits, ())
    rows, actions = logits.shape
    grad = np.empty_like(logits)
    _kernels.categorical_policy_loss(
        grad_output, logits, action, advantage, old_log_prob, None, grad, rows, actions, bound, entropy_weight
    )
    return grad


@helper
def _logits(logits: Any) -> Array:
    array = floats(logits, "logits", 2)
    if array.shape[1] == 0:
        fail("logits", array.shape, "at least 1 action")
    return array


@helper
def _actions(action: Any, logits: Array) -> Array:
    array = class_indices(action, "action", 1)
    if len(array) != len(logits):
        fail("action", array.shape, logits.shape[:1])
    return array
