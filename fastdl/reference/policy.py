"""Returns and advantages over time."""

from __future__ import annotations

import numpy as np

from fastdl import functional
from fastdl.functional.policy.returns import AdvantageAndTarget, DiscountedReturnsGrad, GaeGrad
from fastdl.functional.verbs import Array
from fastdl.reference._implements import implements

__all__ = [
    "discounted_returns",
    "discounted_returns_backward",
    "gae",
    "gae_backward",
    "vtrace",
]


def _backwards(terms: Array, factors: Array, done: Array, after: Array) -> Array:
    """sum[t] = terms[t] + factors[t] * sum[t + 1], of which there is nothing after a step that is done."""
    sums = np.empty_like(terms)
    for t in reversed(range(len(terms))):
        sums[t] = after = terms[t] + factors[t] * np.where(done[t], 0, after)
    return sums


def _forwards(terms: Array, factor: float, done: Array) -> tuple[Array, Array]:
    """sum[t] = terms[t] + factor * sum[t - 1], likewise; and what comes after the last."""
    sums, before = np.empty_like(terms), np.zeros(terms.shape[1:], terms.dtype)
    for t in range(len(terms)):
        sums[t] = terms[t] + before
        before = factor * np.where(done[t], 0, sums[t])
    return sums, np.asarray(before, terms.dtype)


@implements(functional.discounted_returns)
def discounted_returns(reward, done, gamma, bootstrap):
    after = np.zeros(reward.shape[1:], reward.dtype) if bootstrap is None else bootstrap
    return _backwards(reward, np.full_like(reward, gamma), done, after)


@implements(functional.discounted_returns_backward)
def discounted_returns_backward(grad_output, done, gamma):
    return DiscountedReturnsGrad(*_forwards(grad_output, gamma, done))


@implements(functional.gae)
def gae(reward, state_value, next_state_value, terminated, done, gamma, lmbda):
    done = terminated if done is None else done
    delta = reward + gamma * np.where(terminated, 0, next_state_value) - state_value
    advantage = _backwards(delta, np.full_like(delta, gamma * lmbda), done, np.zeros(reward.shape[1:], reward.dtype))
    return AdvantageAndTarget(advantage, advantage + state_value)


@implements(functional.gae_backward)
def gae_backward(grad_advantage, grad_value_target, terminated, done, gamma, lmbda):
    done = terminated if done is None else done
    grad_delta, _ = _forwards(grad_advantage + grad_value_target, gamma * lmbda, done)
    return GaeGrad(grad_delta, grad_value_target - grad_delta, gamma * np.where(terminated, 0, grad_delta))


@implements(functional.vtrace)
def vtrace(
    log_rho, reward, state_value, next_state_value, terminated, done, gamma, lmbda, rho_threshold, c_threshold
):
    done = terminated if done is None else done
    ratio = np.exp(log_rho)
    rho, c = np.minimum(ratio, rho_threshold), lmbda * np.minimum(ratio, c_threshold)
    delta = reward + gamma * np.where(terminated, 0, next_state_value) - state_value
    errors = _backwards(rho * delta, gamma * c, done, np.zeros(reward.shape[1:], reward.dtype))
    later = np.where(done, 0, np.concatenate([errors[1:], np.zeros_like(errors[:1])]))
    advantage = rho * (delta + gamma * np.where(terminated, 0, later))
    return AdvantageAndTarget(advantage, state_value + errors)
