"""Returns and advantages over time; distributions of actions, and the losses of policies that choose by them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl import functional
from fastdl.functional.policy.normal import NormalGrad
from fastdl.functional.policy.returns import AdvantageAndTarget, DiscountedReturnsGrad, GaeGrad
from fastdl.functional.verbs import Array
from fastdl.reference._implements import implements
from fastdl.reference.activation import log_softmax

__all__ = [
    "categorical_entropy",
    "categorical_entropy_backward",
    "categorical_log_prob",
    "categorical_log_prob_backward",
    "categorical_policy_loss",
    "categorical_policy_loss_backward",
    "discounted_returns",
    "discounted_returns_backward",
    "gae",
    "gae_backward",
    "normal_log_prob",
    "normal_log_prob_backward",
    "normal_policy_loss",
    "normal_policy_loss_backward",
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
def vtrace(log_rho, reward, state_value, next_state_value, terminated, done, gamma, lmbda, rho_threshold, c_threshold):
    done = terminated if done is None else done
    ratio = np.exp(log_rho)
    rho, c = np.minimum(ratio, rho_threshold), lmbda * np.minimum(ratio, c_threshold)
    delta = reward + gamma * np.where(terminated, 0, next_state_value) - state_value
    errors = _backwards(rho * delta, gamma * c, done, np.zeros(reward.shape[1:], reward.dtype))
    later = np.where(done, 0, np.concatenate([errors[1:], np.zeros_like(errors[:1])]))
    advantage = rho * (delta + gamma * np.where(terminated, 0, later))
    return AdvantageAndTarget(advantage, state_value + errors)


# ---- losses, of log-probabilities and entropies ----


def _objective(log_prob: Array, advantage: Array, old_log_prob: Any, clip: float | None) -> tuple[Array, Array]:
    """Of each row, and its slope in log_prob."""
    if old_log_prob is None:
        return advantage * log_prob, advantage
    bound = np.inf if clip is None else clip
    ratio = np.exp(log_prob - old_log_prob)
    plain, clipped = ratio * advantage, np.clip(ratio, 1 - bound, 1 + bound) * advantage
    cut = plain > clipped
    return np.where(cut, clipped, plain), np.where(cut, 0, plain)


def _loss(log_prob, entropy, advantage, old_log_prob, clip, entropy_weight) -> Array:
    values, _ = _objective(log_prob, advantage, old_log_prob, clip)
    values = values + entropy_weight * entropy if entropy_weight else values
    return np.asarray(-values.sum(dtype=np.float64) / np.float64(len(values)), log_prob.dtype)


def _slopes(grad_output, log_prob, advantage, old_log_prob, clip, entropy_weight) -> tuple[Array, Array]:
    """The gradients of the loss in log_prob and in the entropy of each row."""
    _, slope = _objective(log_prob, advantage, old_log_prob, clip)
    each = np.asarray(-grad_output / max(1, len(slope)), log_prob.dtype)
    return each * slope, np.full_like(log_prob, each * entropy_weight)


# ---- categorical ----


def _at(logits: Array, action: Any) -> Array:
    """1 at each row's action, 0 elsewhere."""
    return (np.arange(logits.shape[1]) == np.asarray(action).reshape(-1, 1)).astype(logits.dtype)


@implements(functional.categorical_log_prob)
def categorical_log_prob(logits, action):
    return log_softmax(logits)[np.arange(len(logits)), np.asarray(action, np.int64)]


@implements(functional.categorical_log_prob_backward)
def categorical_log_prob_backward(grad_output, logits, action):
    return grad_output[:, None] * (_at(logits, action) - np.exp(log_softmax(logits)))


@implements(functional.categorical_entropy)
def categorical_entropy(logits):
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    return -np.where(p == 0, 0, p * log_p).sum(-1).astype(logits.dtype)


@implements(functional.categorical_entropy_backward)
def categorical_entropy_backward(grad_output, logits):
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    return -grad_output[:, None] * np.where(p == 0, 0, p * (log_p + categorical_entropy(logits)[:, None]))


@implements(functional.categorical_policy_loss)
def categorical_policy_loss(logits, action, advantage, old_log_prob, clip, entropy_weight):
    log_prob = categorical_log_prob(logits, action)
    return _loss(log_prob, categorical_entropy(logits), advantage, old_log_prob, clip, entropy_weight)


@implements(functional.categorical_policy_loss_backward)
def categorical_policy_loss_backward(grad_output, logits, action, advantage, old_log_prob, clip, entropy_weight):
    log_prob = categorical_log_prob(logits, action)
    g_log_prob, g_entropy = _slopes(grad_output, log_prob, advantage, old_log_prob, clip, entropy_weight)
    grad = categorical_log_prob_backward(g_log_prob, logits, action)
    return grad + categorical_entropy_backward(g_entropy, logits) if entropy_weight else grad


# ---- normal ----


@implements(functional.normal_log_prob)
def normal_log_prob(mean, log_std, action):
    z = (action - mean) * np.exp(-log_std)
    return -(z * z / 2 + log_std + np.log(2 * np.pi) / 2).sum(-1)


@implements(functional.normal_log_prob_backward)
def normal_log_prob_backward(grad_output, mean, log_std, action):
    z, g = (action - mean) * np.exp(-log_std), grad_output[:, None]
    return NormalGrad(g * z * np.exp(-log_std), _to_shape(g * (z * z - 1), log_std))


@implements(functional.normal_policy_loss)
def normal_policy_loss(mean, log_std, action, advantage, old_log_prob, clip, entropy_weight):
    log_prob = normal_log_prob(mean, log_std, action)
    entropy = (np.broadcast_to(log_std, mean.shape) + 0.5 + np.log(2 * np.pi) / 2).sum(-1)
    return _loss(log_prob, entropy, advantage, old_log_prob, clip, entropy_weight)


@implements(functional.normal_policy_loss_backward)
def normal_policy_loss_backward(grad_output, mean, log_std, action, advantage, old_log_prob, clip, entropy_weight):
    log_prob = normal_log_prob(mean, log_std, action)
    g_log_prob, g_entropy = _slopes(grad_output, log_prob, advantage, old_log_prob, clip, entropy_weight)
    of_mean, of_log_std = normal_log_prob_backward(g_log_prob, mean, log_std, action)
    of_entropy = np.broadcast_to(g_entropy[:, None], mean.shape)
    return NormalGrad(of_mean, of_log_std + _to_shape(of_entropy, log_std))


def _to_shape(grad: Array, log_std: Array) -> Array:
    """Summed over the rows, if all share log_std."""
    return grad if log_std.ndim == 2 else grad.sum(0, dtype=np.float64).astype(grad.dtype)
