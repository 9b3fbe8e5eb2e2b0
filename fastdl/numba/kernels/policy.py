"""Returns and advantages over time: arrays [steps, columns], a column a sequence. csrc/kernels/policy/ has the formulas.

Loops go over the columns of one step, which LLVM vectorises; threads take columns. What comes after a step that is done
is left out, not multiplied by 0."""

from __future__ import annotations

import numpy as np

from fastdl.numba.kernels._kernel import MEMORY_GRAIN, compiled, kernel, share
from fastdl.numba.kernels.vmath import exp, like


@compiled
def _returns(reward, done, bootstrap, returns, steps, columns, gamma, begin, end):
    zero, factor = like(0.0, reward[0]), like(gamma, reward[0])
    carried = np.empty(end - begin, reward.dtype)
    for j in range(carried.size):
        carried[j] = bootstrap[begin + j] if bootstrap.size else zero
    for t in range(steps - 1, -1, -1):
        low, high = t * columns + begin, t * columns + end
        r, over, to = reward[low:high], done[low:high], returns[low:high]
        for j in range(carried.size):
            to[j] = carried[j] = r[j] + (zero if over[j] else factor * carried[j])


@compiled
def _returns_gradient(grad_output, done, grad_reward, grad_bootstrap, steps, columns, gamma, begin, end):
    zero, factor = like(0.0, grad_output[0]), like(gamma, grad_output[0])
    carried = grad_bootstrap[begin:end]
    carried[:] = zero
    for t in range(steps):
        low, high = t * columns + begin, t * columns + end
        g, over, to = grad_output[low:high], done[low:high], grad_reward[low:high]
        for j in range(carried.size):
            to[j] = total = g[j] + carried[j]
            carried[j] = zero if over[j] else factor * total


@compiled
def _gae(
    reward, value, next_value, terminated, done, advantage, target, steps, columns, gamma, decay, begin, end
):  # fmt: skip
    zero, discount, factor = like(0.0, reward[0]), like(gamma, reward[0]), like(decay, reward[0])
    carried = np.zeros(end - begin, reward.dtype)
    for t in range(steps - 1, -1, -1):
        low, high = t * columns + begin, t * columns + end
        r, v, n, ends, over = reward[low:high], value[low:high], next_value[low:high], terminated[low:high], done[low:high]
        to, goal = advantage[low:high], target[low:high]
        for j in range(carried.size):
            delta = r[j] + (zero if ends[j] else discount * n[j]) - v[j]
            to[j] = carried[j] = delta + (zero if over[j] else factor * carried[j])
            goal[j] = carried[j] + v[j]


@compiled
def _gae_gradient(
    grad, grad_target, terminated, done, grad_reward, grad_value, grad_next, steps, columns, gamma, decay, begin, end
):  # fmt: skip
    zero, discount, factor = like(0.0, grad[0]), like(gamma, grad[0]), like(decay, grad[0])
    carried = np.zeros(end - begin, grad.dtype)
    for t in range(steps):
        low, high = t * columns + begin, t * columns + end
        g, goal, ends, over = grad[low:high], grad_target[low:high], terminated[low:high], done[low:high]
        of_reward, of_value, of_next = grad_reward[low:high], grad_value[low:high], grad_next[low:high]
        for j in range(carried.size):
            of_reward[j] = total = g[j] + goal[j] + carried[j]
            of_value[j] = goal[j] - total
            of_next[j] = zero if ends[j] else discount * total
            carried[j] = zero if over[j] else factor * total


@compiled
def _vtrace(
    log_rho, reward, value, next_value, terminated, done, advantage, target, steps, columns, gamma, decay,
    rho_threshold, c_threshold, begin, end,
):  # fmt: skip
    zero, discount, factor = like(0.0, reward[0]), like(gamma, reward[0]), like(decay, reward[0])
    most_rho, most_c = like(rho_threshold, reward[0]), like(c_threshold, reward[0])
    carried = np.zeros(end - begin, reward.dtype)
    for t in range(steps - 1, -1, -1):
        low, high = t * columns + begin, t * columns + end
        logs, r, v, n = log_rho[low:high], reward[low:high], value[low:high], next_value[low:high]
        ends, over, to, goal = terminated[low:high], done[low:high], advantage[low:high], target[low:high]
        for j in range(carried.size):
            ratio = exp(logs[j])
            rho, c = most_rho if ratio > most_rho else ratio, most_c if ratio > most_c else ratio
            delta = r[j] + (zero if ends[j] else discount * n[j]) - v[j]
            after = zero if over[j] else carried[j]
            to[j] = rho * (delta + (zero if ends[j] else discount * after))
            carried[j] = rho * delta + factor * c * after
            goal[j] = carried[j] + v[j]


def _over_columns(function, steps, columns, *arguments):
    if steps and columns:
        share(function, columns, max(16, MEMORY_GRAIN // steps), *arguments)


@kernel
def discounted_returns(reward, done, bootstrap, returns, steps, columns, gamma):
    _over_columns(_returns, steps, columns, reward, done, bootstrap, returns, steps, columns, gamma)


@kernel
def discounted_returns_backward(grad_output, done, grad_reward, grad_bootstrap, steps, columns, gamma):
    grad_bootstrap[:] = 0
    _over_columns(
        _returns_gradient, steps, columns, grad_output, done, grad_reward, grad_bootstrap, steps, columns, gamma
    )


@kernel
def gae(
    reward, state_value, next_state_value, terminated, done, advantage, value_target, steps, columns, gamma, lmbda
):  # fmt: skip
    arrays = reward, state_value, next_state_value, terminated, done, advantage, value_target
    _over_columns(_gae, steps, columns, *arrays, steps, columns, gamma, gamma * lmbda)


@kernel
def gae_backward(
    grad_advantage, grad_value_target, terminated, done, grad_reward, grad_state_value, grad_next_state_value, steps,
    columns, gamma, lmbda,
):  # fmt: skip
    arrays = grad_advantage, grad_value_target, terminated, done, grad_reward, grad_state_value, grad_next_state_value
    _over_columns(_gae_gradient, steps, columns, *arrays, steps, columns, gamma, gamma * lmbda)


@kernel
def vtrace(
    log_rho, reward, state_value, next_state_value, terminated, done, advantage, value_target, steps, columns, gamma,
    lmbda, rho_threshold, c_threshold,
):  # fmt: skip
    arrays = log_rho, reward, state_value, next_state_value, terminated, done, advantage, value_target
    options = gamma, gamma * lmbda, rho_threshold, c_threshold
    _over_columns(_vtrace, steps, columns, *arrays, steps, columns, *options)
