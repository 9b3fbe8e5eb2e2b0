"""Returns, advantages and value targets over time.

Arrays have time as their first dimension, and what follows are sequences of their own, as of environments that run side
by side: (T,), (T, N) or more. Masks are arrays of bools. What comes after a step that is done does not count, NaN and
infinity included; nor does the next state's value after one that is terminated.
"""

from __future__ import annotations

import math
from math import inf
from typing import NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import operation
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    bools,
    disjoint,
    floats,
    floats_as,
    number,
    optional_like,
    output,
    probability,
    rows_of,
)

__all__ = [
    "AdvantageAndTarget",
    "DiscountedReturnsGrad",
    "GaeGrad",
    "discounted_returns",
    "discounted_returns_backward",
    "gae",
    "gae_backward",
    "vtrace",
]

_TEXTS = {
    "reward": """
        reward : array of shape (T, ...)
            What each step earned, float32 or float64. Time comes first; the rest are sequences side by side.
        """,
    "values": """
        state_value, next_state_value : array, as reward
            The value of the state before each step, and of that after it: at the last step of a sequence that was cut
            short that of its final observation, not of the first one of the next episode.
        """,
    "masks": """
        terminated : array of bools, shaped as reward
            Whether a step ended in a state that is worth 0. What next_state_value has there is not used.
        done : array of bools, shaped as reward, optional
            Whether the episode ends with a step, terminated or truncated (cut short): what comes after belongs to
            another. As terminated, if it is not given.
        """,
    "gamma": """
        gamma : float, in [0, 1]
            How much a reward one step later is worth.
        """,
    "lmbda": """
        lmbda : float, in [0, 1]
            How far the estimate looks ahead: 0 is one step, 1 all of the rewards.
        """,
    "raises": """
        Raises
        ------
        ValueError
            Shapes do not match, or a number is out of range.
        TypeError
            A dtype is another, or a mask is not of bools.
        """,
    "returns_advantage": """
        AdvantageAndTarget
            (advantage, value_target), each as reward.
        """,
}


class AdvantageAndTarget(NamedTuple):
    """What gae and vtrace return.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> one = np.ones(1)
    >>> fastdl.AdvantageAndTarget(advantage=one, value_target=one)._fields
    ('advantage', 'value_target')
    """

    advantage: Array
    """How much better a step was than its state's value."""
    value_target: Array
    """What the value of its state should have been."""


class GaeGrad(NamedTuple):
    """The gradients of gae.

    Examples
    --------
    >>> import fastdl
    >>> fastdl.GaeGrad._fields
    ('reward', 'state_value', 'next_state_value')
    """

    reward: Array
    state_value: Array
    next_state_value: Array


class DiscountedReturnsGrad(NamedTuple):
    """The gradients of discounted_returns.

    Examples
    --------
    >>> import fastdl
    >>> fastdl.DiscountedReturnsGrad._fields
    ('reward', 'bootstrap')
    """

    reward: Array
    bootstrap: Array


@operation
@doc(_TEXTS)
def discounted_returns(
    reward: ArrayLike,
    done: ArrayLike,
    *,
    gamma: float,
    bootstrap: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    """The discounted sum of the rewards from each step to the end of its episode.

    ::

        R[t] = reward[t] + gamma * (1 - done[t]) * R[t + 1]        R[T] = bootstrap


    Parameters
    ----------
    {reward}
    done : array of bools, shaped as reward
        Whether the episode ends with a step: what comes after belongs to another.
    {gamma}
    bootstrap : array, shaped as one step of reward, optional
        What follows the last step: the value of the state that it led to. 0, if it is not given.
    out : array, optional
        Where to store the result: of its shape and dtype, C-contiguous; no argument shares its memory.

    Returns
    -------
    array
        As reward.

    {raises}

    Notes
    -----
    Sutton and Barto, "Reinforcement Learning: An Introduction" (2nd edition, 2018), section 3.3.

    See Also
    --------
    gae : Advantages, of less variance.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> reward, done = np.ones(4), np.array([False, True, False, False])
    >>> fastdl.discounted_returns(reward, done, gamma=0.5, bootstrap=np.array(8.0))
    array([1.5, 1. , 3.5, 5. ])
    """
    reward = floats(reward, "reward")
    steps, row = rows_of(reward.shape, "reward")
    done = bools(done, "done", reward.shape)
    gamma = probability(gamma, "gamma")
    bootstrap = optional_like(bootstrap, "bootstrap", reward, row)
    result = output(out, reward.shape, reward)
    if out is not None:
        disjoint(result, "reward", reward)
        disjoint(result, "done", done)
        disjoint(result, "bootstrap", bootstrap)
    _kernels.discounted_returns(reward, done, bootstrap, result, steps, math.prod(row), gamma)
    return result


@operation
@doc(_TEXTS)
def discounted_returns_backward(grad_output: ArrayLike, done: ArrayLike, *, gamma: float) -> DiscountedReturnsGrad:
    """The gradients of discounted_returns.

    ::

        grad[t] = grad_output[t] + gamma * (1 - done[t - 1]) * grad[t - 1]

    of reward, and of bootstrap what would come to step T.

    Parameters
    ----------
    grad_output : array of shape (T, ...)
        The gradient of the returns, float32 or float64.
    done : array of bools, shaped as grad_output
        What the forward was given.
    gamma : float, in [0, 1]
        As in the forward.

    Returns
    -------
    DiscountedReturnsGrad
        The gradients of reward and of bootstrap: (reward, bootstrap).

    {raises}

    See Also
    --------
    discounted_returns : the forward.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.discounted_returns_backward(np.ones(3), np.zeros(3, bool), gamma=0.5)
    DiscountedReturnsGrad(reward=array([1.  , 1.5 , 1.75]), bootstrap=array(0.875))
    """
    grad_output = floats(grad_output, "grad_output")
    steps, row = rows_of(grad_output.shape, "grad_output")
    done = bools(done, "done", grad_output.shape)
    gamma = probability(gamma, "gamma")
    grad_reward, grad_bootstrap = np.empty_like(grad_output), np.empty(row, grad_output.dtype)
    _kernels.discounted_returns_backward(grad_output, done, grad_reward, grad_bootstrap, steps, math.prod(row), gamma)
    return DiscountedReturnsGrad(grad_reward, grad_bootstrap)


@operation
@doc(_TEXTS)
def gae(
    reward: ArrayLike,
    state_value: ArrayLike,
    next_state_value: ArrayLike,
    terminated: ArrayLike,
    done: ArrayLike | None = None,
    *,
    gamma: float,
    lmbda: float,
) -> AdvantageAndTarget:
    """Generalized advantage estimation. torchrl's generalized_advantage_estimate.

    ::

        delta[t]     = reward[t] + gamma * (1 - terminated[t]) * next_state_value[t] - state_value[t]
        advantage[t] = delta[t] + gamma * lmbda * (1 - done[t]) * advantage[t + 1]        advantage[T] = 0
        value_target = advantage + state_value


    Parameters
    ----------
    {reward}
    {values}
    {masks}
    {gamma}
    {lmbda}

    Returns
    -------
    {returns_advantage}

    {raises}

    Notes
    -----
    Schulman, Moritz, Levine, Jordan and Abbeel, "High-Dimensional Continuous Control Using Generalized Advantage
    Estimation" (2016), equation 16.

    See Also
    --------
    vtrace : The same of what another policy did.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> reward, value = np.array([1.0, 0.0, 1.0]), np.array([2.0, 1.0, 0.5])
    >>> next_value, terminated = np.array([1.0, 0.5, 4.0]), np.array([False, False, True])
    >>> fastdl.gae(reward, value, next_value, terminated, gamma=0.5, lmbda=0.5)
    AdvantageAndTarget(advantage=array([-0.65625, -0.625  ,  0.5    ]), value_target=array([1.34375, 0.375  , 1.     ]))
    """
    reward = floats(reward, "reward")
    steps, row = rows_of(reward.shape, "reward")
    state_value = floats_as(state_value, "state_value", reward)
    next_state_value = floats_as(next_state_value, "next_state_value", reward)
    terminated = bools(terminated, "terminated", reward.shape)
    done = terminated if done is None else bools(done, "done", reward.shape)
    gamma, lmbda = probability(gamma, "gamma"), probability(lmbda, "lmbda")
    advantage, value_target = np.empty_like(reward), np.empty_like(reward)
    _kernels.gae(
        reward,
        state_value,
        next_state_value,
        terminated,
        done,
        advantage,
        value_target,
        steps,
        math.prod(row),
        gamma,
        lmbda,
    )
    return AdvantageAndTarget(advantage, value_target)


@operation
@doc(_TEXTS)
def gae_backward(
    grad_advantage: ArrayLike,
    grad_value_target: ArrayLike,
    terminated: ArrayLike,
    done: ArrayLike | None = None,
    *,
    gamma: float,
    lmbda: float,
) -> GaeGrad:
    """The gradients of gae.

    With g = grad_advantage + grad_value_target::

        grad_delta[t]    = g[t] + gamma * lmbda * (1 - done[t - 1]) * grad_delta[t - 1]
        reward           = grad_delta
        state_value      = grad_value_target - grad_delta
        next_state_value = gamma * (1 - terminated) * grad_delta


    Parameters
    ----------
    grad_advantage, grad_value_target : array of shape (T, ...)
        The gradients of what the forward returned, float32 or float64.
    terminated, done : array of bools
        What the forward was given.
    gamma, lmbda : float
        As in the forward.

    Returns
    -------
    GaeGrad
        The gradients of reward, state_value and next_state_value.

    {raises}

    See Also
    --------
    gae : the forward.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> one, terminated = np.ones(2), np.array([False, True])
    >>> fastdl.gae_backward(one, 0 * one, terminated, gamma=0.5, lmbda=1.0).next_state_value
    array([0.5, 0. ])
    """
    grad_advantage = floats(grad_advantage, "grad_advantage")
    steps, row = rows_of(grad_advantage.shape, "grad_advantage")
    grad_value_target = floats_as(grad_value_target, "grad_value_target", grad_advantage)
    terminated = bools(terminated, "terminated", grad_advantage.shape)
    done = terminated if done is None else bools(done, "done", grad_advantage.shape)
    gamma, lmbda = probability(gamma, "gamma"), probability(lmbda, "lmbda")
    grad_reward, grad_value = np.empty_like(grad_advantage), np.empty_like(grad_advantage)
    grad_next = np.empty_like(grad_advantage)
    _kernels.gae_backward(
        grad_advantage,
        grad_value_target,
        terminated,
        done,
        grad_reward,
        grad_value,
        grad_next,
        steps,
        math.prod(row),
        gamma,
        lmbda,
    )
    return GaeGrad(grad_reward, grad_value, grad_next)


@operation
@doc(_TEXTS)
def vtrace(
    log_rho: ArrayLike,
    reward: ArrayLike,
    state_value: ArrayLike,
    next_state_value: ArrayLike,
    terminated: ArrayLike,
    done: ArrayLike | None = None,
    *,
    gamma: float,
    lmbda: float = 1.0,
    rho_threshold: float = 1.0,
    c_threshold: float = 1.0,
) -> AdvantageAndTarget:
    """V-trace: value targets, and advantages, of what another policy did. torchrl's vtrace_advantage_estimate.

    ::

        rho, c       = min(exp(log_rho), rho_threshold), lmbda * min(exp(log_rho), c_threshold)
        delta[t]     = reward[t] + gamma * (1 - terminated[t]) * next_state_value[t] - state_value[t]
        error[t]     = rho[t] * delta[t] + gamma * (1 - done[t]) * c[t] * error[t + 1]        error[T] = 0
        value_target = state_value + error
        next[t]      = next_state_value[t] + (1 - done[t]) * error[t + 1]
        advantage    = rho * (reward + gamma * (1 - terminated) * next - state_value)

    `next` is the value target of the next state, of an episode that was cut short that state's value.

    These are targets: there is no backward.

    Parameters
    ----------
    log_rho : array, as reward
        The log-probability of each action by the policy that learns, less that by the policy that took it.
    {reward}
    {values}
    {masks}
    {gamma}
    {lmbda}
    rho_threshold, c_threshold : float, at least 0
        Where the ratio of probabilities is cut off, in what a step's error counts and in what is carried on.

    Returns
    -------
    {returns_advantage}

    {raises}

    Notes
    -----
    Espeholt et al., "IMPALA: Scalable Distributed Deep-RL with Importance Weighted Actor-Learner Architectures" (2018),
    equation 1, section 4.2 and remark 2.

    See Also
    --------
    gae : The same of what the policy itself did.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> log_rho, terminated = np.log([0.5, 2.0]), np.array([False, True])
    >>> fastdl.vtrace(log_rho, np.ones(2), np.zeros(2), np.zeros(2), terminated, gamma=0.5)
    AdvantageAndTarget(advantage=array([0.75, 1.  ]), value_target=array([0.75, 1.  ]))
    """
    log_rho = floats(log_rho, "log_rho")
    steps, row = rows_of(log_rho.shape, "log_rho")
    reward = floats_as(reward, "reward", log_rho)
    state_value = floats_as(state_value, "state_value", log_rho)
    next_state_value = floats_as(next_state_value, "next_state_value", log_rho)
    terminated = bools(terminated, "terminated", log_rho.shape)
    done = terminated if done is None else bools(done, "done", log_rho.shape)
    gamma, lmbda = probability(gamma, "gamma"), probability(lmbda, "lmbda")
    rho_threshold = number(rho_threshold, "rho_threshold", 0.0, inf)
    c_threshold = number(c_threshold, "c_threshold", 0.0, inf)
    advantage, value_target = np.empty_like(reward), np.empty_like(reward)
    _kernels.vtrace(
        log_rho,
        reward,
        state_value,
        next_state_value,
        terminated,
        done,
        advantage,
        value_target,
        steps,
        math.prod(row),
        gamma,
        lmbda,
        rho_threshold,
        c_threshold,
    )
    return AdvantageAndTarget(advantage, value_target)
