"""Returns and advantages over time, [steps, columns], a column a sequence; losses of policies, whose rows are
distributions. csrc/kernels/policy/ has the formulas.

Over time, loops go over the columns of one step, which LLVM vectorises; threads take columns. What comes after a step
that is done is left out, not multiplied by 0. Distributions are taken ROWS at a time, and loops go over these."""

from __future__ import annotations

import numpy as np

from fastdl.numba.kernels._kernel import MEMORY_GRAIN, blocks, compiled, kernel, share
from fastdl.numba.kernels.memory import cleared, release, scratch
from fastdl.numba.kernels.vmath import exp, like, log

BAD_ACTION = 12
ROWS = 64
"""Of distributions, taken together."""


@compiled
def _returns(reward, done, bootstrap, returns, steps, columns, gamma, begin, end):
    zero, factor = like(0.0, reward[0]), like(gamma, reward[0])
    carried = scratch(end - begin, reward.dtype)
    for j in range(carried.size):
        carried[j] = bootstrap[begin + j] if bootstrap.size else zero
    for t in range(steps - 1, -1, -1):
        low, high = t * columns + begin, t * columns + end
        r, over, to = reward[low:high], done[low:high], returns[low:high]
        for j in range(carried.size):
            to[j] = carried[j] = r[j] + (zero if over[j] else factor * carried[j])
    release(carried)


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
    carried = cleared(end - begin, reward.dtype)
    for t in range(steps - 1, -1, -1):
        low, high = t * columns + begin, t * columns + end
        r, v, n, ends, over = (
            reward[low:high],
            value[low:high],
            next_value[low:high],
            terminated[low:high],
            done[low:high],
        )
        to, goal = advantage[low:high], target[low:high]
        for j in range(carried.size):
            delta = r[j] + (zero if ends[j] else discount * n[j]) - v[j]
            to[j] = carried[j] = delta + (zero if over[j] else factor * carried[j])
            goal[j] = carried[j] + v[j]
    release(carried)


@compiled
def _gae_gradient(
    grad, grad_target, terminated, done, grad_reward, grad_value, grad_next, steps, columns, gamma, decay, begin, end
):  # fmt: skip
    zero, discount, factor = like(0.0, grad[0]), like(gamma, grad[0]), like(decay, grad[0])
    carried = cleared(end - begin, grad.dtype)
    for t in range(steps):
        low, high = t * columns + begin, t * columns + end
        g, goal, ends, over = grad[low:high], grad_target[low:high], terminated[low:high], done[low:high]
        of_reward, of_value, of_next = grad_reward[low:high], grad_value[low:high], grad_next[low:high]
        for j in range(carried.size):
            of_reward[j] = total = g[j] + goal[j] + carried[j]
            of_value[j] = goal[j] - total
            of_next[j] = zero if ends[j] else discount * total
            carried[j] = zero if over[j] else factor * total
    release(carried)


@compiled
def _vtrace(
    log_rho, reward, value, next_value, terminated, done, advantage, target, steps, columns, gamma, decay,
    rho_threshold, c_threshold, begin, end,
):  # fmt: skip
    zero, discount, factor = like(0.0, reward[0]), like(gamma, reward[0]), like(decay, reward[0])
    most_rho, most_c = like(rho_threshold, reward[0]), like(c_threshold, reward[0])
    carried = cleared(end - begin, reward.dtype)
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
    release(carried)


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


# ---- distributions ----


@compiled
def _objectives(log_prob, entropy, advantage, old, low, high, weight, scale):
    """The sum over some rows of what is averaged; log_prob and entropy become their gradients."""
    zero, least, most = like(0.0, log_prob[0]), like(low, log_prob[0]), like(high, log_prob[0])
    each, of_entropy = like(-scale, log_prob[0]), like(-scale * weight, log_prob[0])
    total = 0.0
    for i in range(log_prob.size):
        value, slope = advantage[i] * log_prob[i], advantage[i]
        if old.size:
            ratio = exp(log_prob[i] - old[i])
            held = least if ratio < least else (most if ratio > most else ratio)
            plain, clipped = ratio * advantage[i], held * advantage[i]
            value, slope = (clipped, zero) if plain > clipped else (plain, plain)
        total += value
        if weight != 0:
            total += weight * entropy[i]
        log_prob[i] = each * slope
        entropy[i] = of_entropy
    return -total


@compiled(counted=True)
def _categorical(
    logits, action, advantage, old, grad_log_prob, grad_entropy, log_prob, entropy, grad, partial, actions, low, high,
    weight, scale, begin, end,
):  # fmt: skip
    zero, none = like(0.0, logits[0]), like(-np.inf, logits[0])
    for block in range(begin, end):
        first = block * ROWS
        rows = min(ROWS, logits.size // actions - first)
        x = logits[first * actions : (first + rows) * actions]
        most, sums, weighted = np.empty(rows, x.dtype), np.zeros(rows), np.zeros(rows)
        most[:] = none
        for k in range(actions):
            for i in range(rows):
                most[i] = x[i * actions + k] if x[i * actions + k] > most[i] else most[i]
        for k in range(actions):
            for i in range(rows):
                below = x[i * actions + k] - (zero if most[i] == none else most[i])
                e = exp(below)
                sums[i] += e
                weighted[i] += zero if e == zero else e * below
        rest, spread, chosen = np.empty(rows, x.dtype), np.empty(rows, x.dtype), np.zeros(rows, x.dtype)
        for i in range(rows):
            spread[i] = weighted[i] / sums[i]
            rest[i] = sums[i]
            rest[i] = log(rest[i])
            if action.size:
                chosen[i] = x[i * actions + action[first + i]] - most[i] - rest[i]
        bits = rest - spread
        own, g_entropy = bits.copy(), np.zeros(rows, x.dtype)
        for i in range(rows):
            if log_prob.size:
                log_prob[first + i] = chosen[i]
            if entropy.size:
                entropy[first + i] = bits[i]
        if advantage.size:
            before = old[first : first + rows] if old.size else old
            partial[block] = _objectives(chosen, own, advantage[first : first + rows], before, low, high, weight, scale)
            g_entropy[:] = own
        else:
            for i in range(rows):
                chosen[i] = grad_log_prob[first + i] if grad_log_prob.size else zero
                g_entropy[i] = grad_entropy[first + i] if grad_entropy.size else zero
        if grad.size:
            to = grad[first * actions : (first + rows) * actions]
            for k in range(actions):
                for i in range(rows):
                    log_p = x[i * actions + k] - most[i] - rest[i]
                    p = exp(log_p)
                    slope = zero if p == zero else p * (log_p + bits[i])
                    to[i * actions + k] = -p * chosen[i] - slope * g_entropy[i]
            for i in range(rows):
                if action.size:
                    to[i * actions + action[first + i]] += chosen[i]


def _categoricals(logits, action, arrays, rows, actions, loss, options=(0.0, 0.0, 0.0, 0.0)):
    action = action.copy()  # what is checked is what is read
    if ((action < 0) | (action >= actions)).any():
        return BAD_ACTION
    partial = np.zeros(blocks(rows, ROWS))
    grain = max(1, MEMORY_GRAIN // 8 // (ROWS * actions))
    if rows:
        share(_categorical, partial.size, grain, logits, action, *arrays, partial, actions, *options)
    _mean(partial, loss, rows)
    return None


def _mean(partial, loss, rows):
    if loss.size:
        loss[0] = partial.sum() / rows if rows else np.nan


def _options(grad_output, rows, clip, entropy_weight):
    scale = float(grad_output[0]) / rows if grad_output.size and rows else 0.0
    return 1 - clip, 1 + clip, entropy_weight, scale


@kernel
def categorical(logits, action, log_prob, entropy, rows, actions):
    none = logits[:0]
    return _categoricals(logits, action, (none, none, none, none, log_prob, entropy, none), rows, actions, none)


@kernel
def categorical_backward(grad_log_prob, grad_entropy, logits, action, grad_logits, rows, actions):
    none = logits[:0]
    arrays = none, none, grad_log_prob, grad_entropy, none, none, grad_logits
    return _categoricals(logits, action, arrays, rows, actions, none)


@kernel
def categorical_policy_loss(
    grad_output, logits, action, advantage, old_log_prob, loss, grad_logits, rows, actions, clip, entropy_weight
):  # fmt: skip
    none = logits[:0]
    arrays = advantage, old_log_prob, none, none, none, none, grad_logits
    options = _options(grad_output, rows, clip, entropy_weight)
    return _categoricals(logits, action, arrays, rows, actions, loss, options)


@compiled(counted=True)
def _normal(
    mean, log_std, action, advantage, old, grad_log_prob, log_prob, grad_mean, grad_log_std, sums, partial, count,
    columns, own, low, high, weight, scale, begin, end,
):  # fmt: skip
    """sums [blocks, columns]: of the gradient of a log_std that all rows share."""
    half_log_2_pi = 0.91893853320467274178
    for block in range(begin, end):
        first = block * ROWS
        rows = min(ROWS, count - first)
        squares, logs = np.zeros(rows), np.zeros(rows)
        for k in range(columns):
            for i in range(rows):
                at = (first + i) * columns + k
                v = log_std[at if own else k]
                z = (action[at] - mean[at]) * exp(-v)
                squares[i] += z * z
                logs[i] += v
        of, entropy = np.empty(rows, mean.dtype), np.empty(rows, mean.dtype)
        for i in range(rows):
            of[i] = -0.5 * squares[i] - logs[i] - columns * half_log_2_pi
            entropy[i] = logs[i] + columns * (0.5 + half_log_2_pi)
            if log_prob.size:
                log_prob[first + i] = of[i]
        if advantage.size:
            before = old[first : first + rows] if old.size else old
            partial[block] = _objectives(of, entropy, advantage[first : first + rows], before, low, high, weight, scale)
        elif grad_log_prob.size:
            of[:] = grad_log_prob[first : first + rows]
            entropy[:] = 0
        if grad_mean.size:
            for k in range(columns):
                total = 0.0
                for i in range(rows):
                    at = (first + i) * columns + k
                    inverse = exp(-log_std[at if own else k])
                    z = (action[at] - mean[at]) * inverse
                    grad_mean[at] = of[i] * z * inverse
                    slope = of[i] * (z * z - like(1.0, z)) + entropy[i]
                    total += slope
                    if own:
                        grad_log_std[at] = slope
                sums[block * columns + k] = total


def _normals(
    mean, log_std, action, arrays, grad_mean, grad_log_std, rows, columns, own, loss, options=(0.0, 0.0, 0.0, 0.0)
):  # fmt: skip
    partial = np.zeros(blocks(rows, ROWS))
    sums = np.zeros(partial.size * columns)
    if rows:
        grain = max(1, MEMORY_GRAIN // 8 // (ROWS * max(1, columns)))
        arrays = mean, log_std, action, *arrays, grad_mean, grad_log_std, sums, partial
        share(_normal, partial.size, grain, *arrays, rows, columns, bool(own), *options)
    if grad_log_std.size and not own:
        grad_log_std[:] = sums.reshape(-1, columns).sum(0)
    _mean(partial, loss, rows)


@kernel
def normal_log_prob(mean, log_std, action, log_prob, rows, columns, own):
    none = mean[:0]
    _normals(mean, log_std, action, (none, none, none, log_prob), none, none, rows, columns, own, none)


@kernel
def normal_log_prob_backward(grad_output, mean, log_std, action, grad_mean, grad_log_std, rows, columns, own):
    none = mean[:0]
    arrays = none, none, grad_output, none
    _normals(mean, log_std, action, arrays, grad_mean, grad_log_std, rows, columns, own, none)


@kernel
def normal_policy_loss(
    grad_output, mean, log_std, action, advantage, old_log_prob, loss, grad_mean, grad_log_std, rows, columns, own,
    clip, entropy_weight,
):  # fmt: skip
    none = mean[:0]
    arrays, options = (advantage, old_log_prob, none, none), _options(grad_output, rows, clip, entropy_weight)
    _normals(mean, log_std, action, arrays, grad_mean, grad_log_std, rows, columns, own, loss, options)
