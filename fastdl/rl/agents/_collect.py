"""Steps of environments by a policy, compiled: one loop for every environment and network, kept on disk."""

from __future__ import annotations

from math import log as ln
from math import pi
from typing import Any, NamedTuple

import numpy as np

from fastdl.numba.math import exp, log
from fastdl.rl._numba import borrowing, inlined
from fastdl.rl.agents._programs import run_program
from fastdl.rl.environment import Environment, call_reset, call_step
from fastdl.rl.random import normal, random, streams

Array = np.ndarray[Any, Any]

_HALF_LOG_TAU = 0.5 * ln(2 * pi)
_BOUND = 10.0
"""Of normalised observations."""


class Worlds(NamedTuple):
    """The environments, between two calls of the loop."""

    states: Array
    """(N, S), float64."""
    observations: Array
    """(N, O), float64: the last one of each."""
    actions: Array
    """(N, D), float64: continuous ones as the environment takes them."""
    rngs: Array
    """(N, 6): a stream of random numbers each."""
    lengths: Array
    """(N,), int64: of the episodes that run; -1: none does."""
    returns: Array
    """(N,), float64: their sums of rewards."""
    rng: Array
    """(6,): the policy's random numbers."""


class Scale(NamedTuple):
    """How observations are normalised, and actions scaled: each array is float64."""

    mean: Array
    """(O,)."""
    factor: Array
    """(O,): one over the standard deviation."""
    moments: Array
    """(3, O): how many observations there were, their mean, and the sum of their squared distances from it."""
    normalize: Array
    """(1,): 1, or 0 for observations as they are."""
    middle: Array
    """(D,): what an action of 0 is to the environment."""
    half: Array
    """(D,): what is added for one of 1."""
    low: Array
    high: Array
    """(D,): bounds of actions."""


class Steps(NamedTuple):
    """T steps of N environments. R is float32 or float64, as the networks have it."""

    observations: Array
    """(T + 1, N, O), R: normalised; the first row is there before."""
    actions: Array
    """(T, N), int64, or (T, N, D), R."""
    log_probs: Array
    """(T, N), R."""
    rewards: Array
    """(T, N), R."""
    terminated: Array
    """(T, N), bool."""
    done: Array
    """(T, N), bool: terminated or truncated."""
    next_values: Array
    """(T, N), R: of the final observations where an episode was truncated; elsewhere it is not written."""


class Episodes(NamedTuple):
    """Episodes that ended."""

    returns: Array
    """(many,), float64."""
    lengths: Array
    """(many,), int64."""
    ended: Array
    """(1,), int64: how many of them there are."""


class Scratch(NamedTuple):
    outputs: Array
    """(N, A or D), R: of the policy."""
    finals: Array
    """(N, O), R: final observations of truncated episodes."""
    values: Array
    """(N, 1), R."""


@inlined
def copy(row: Any, to: Any) -> None:
    """What ``to[...] = row`` does, which Numba allocates memory for."""
    for j in range(row.shape[0]):
        to[j] = row[j]


@inlined
def normalise(raw: Any, scale: Any, out: Any) -> bool:
    """Write an observation as networks take it; whether it is finite."""
    finite = True
    if scale.normalize[0]:
        for j in range(raw.shape[0]):
            value = (raw[j] - scale.mean[j]) * scale.factor[j]
            finite &= np.isfinite(value)
            out[j] = min(max(value, -_BOUND), _BOUND)
    else:
        for j in range(raw.shape[0]):
            finite &= np.isfinite(raw[j])
            out[j] = raw[j]
    return finite


@inlined
def _note(raw: Any, scale: Any) -> None:
    """Take an observation into what the next normalisation is made of, if there is one (Welford 1962)."""
    if not scale.normalize[0]:
        return
    for j in range(raw.shape[0]):
        scale.moments[0, j] += 1.0
        distance = raw[j] - scale.moments[1, j]
        scale.moments[1, j] += distance / scale.moments[0, j]
        scale.moments[2, j] += distance * (raw[j] - scale.moments[1, j])


@inlined
def _drawn(logits: Any, rng: Any) -> Any:
    """A discrete action, and the logarithm of its probability."""
    top = logits[0]
    for a in range(1, logits.shape[0]):
        top = max(top, logits[a])
    total = 0.0
    for a in range(logits.shape[0]):
        total += exp(np.float64(logits[a] - top))
    rest = random(rng) * total
    action = logits.shape[0] - 1
    for a in range(logits.shape[0]):
        rest -= exp(np.float64(logits[a] - top))
        if rest < 0.0:
            action = a
            break
    return action, np.float64(logits[action] - top) - log(total)


@inlined
def _best(logits: Any) -> int:
    best = 0
    for a in range(1, logits.shape[0]):
        if logits[a] > logits[best]:
            best = a
    return best


@borrowing
def note(raw: Any, scale: Any) -> None:
    """Add observations, (N, O)."""
    for i in range(raw.shape[0]):
        _note(raw[i], scale)


@borrowing
def _draw_each(logits: Any, greedy: bool, rng: Any, actions: Any, log_probs: Any) -> None:
    for i in range(logits.shape[0]):
        if greedy:
            actions[i] = _best(logits[i])
        else:
            actions[i], log_probs[i] = _drawn(logits[i], rng)


@borrowing
def _vary_each(means: Any, log_std: Any, greedy: bool, rng: Any, actions: Any, log_probs: Any) -> None:
    for i in range(means.shape[0]):
        log_probs[i] = _varied(means[i], log_std, greedy, actions[i], rng)


def choose(outputs: Array, log_std: Array | None, greedy: bool, rng: Array) -> tuple[Array, Array]:
    """Actions by what a policy says of N observations, and the logarithms of their probabilities, (N,): (N,) int64 by
    logits, or (N, D) by means."""
    actions: Array
    log_probs = np.zeros(len(outputs))
    if log_std is None:
        actions = np.zeros(len(outputs), np.int64)
        _draw_each(outputs, greedy, rng, actions, log_probs)
    else:
        actions = np.zeros(outputs.shape)
        _vary_each(outputs, log_std, greedy, rng, actions, log_probs)
    return actions, log_probs


@inlined
def _varied(mean: Any, log_std: Any, greedy: bool, value: Any, rng: Any) -> float:
    """Write a continuous action, and return the logarithm of its probability density."""
    log_prob = 0.0
    for d in range(log_std.shape[0]):
        noise = 0.0 if greedy else normal(rng)
        value[d] = mean[d] + noise * exp(np.float64(log_std[d]))
        log_prob -= 0.5 * noise * noise + log_std[d] + _HALF_LOG_TAU
    return log_prob


@inlined
def _started(reset_at: int, worlds: Any, i: int) -> None:
    call_reset(reset_at, worlds.states[i], worlds.observations[i], worlds.rngs[i])
    worlds.lengths[i], worlds.returns[i] = 0, 0.0


@inlined
def _start(reset_at: int, worlds: Any, scale: Any, first: Any) -> None:
    for i in range(worlds.states.shape[0]):
        _started(reset_at, worlds, i)
        _note(worlds.observations[i], scale)
        normalise(worlds.observations[i], scale, first[i])


@borrowing
def start(reset_at: int, worlds: Any, scale: Any, first: Any) -> None:
    """Begin an episode in each environment; `first`, (N, O), are the normalised observations."""
    _start(reset_at, worlds, scale, first)


@borrowing
def collect(
    policy: int,
    critic: int,
    reset_at: int,
    step_at: int,
    max_steps: int,
    fresh: bool,
    once: bool,
    greedy: bool,
    worlds: Any,
    scale: Any,
    log_std: Any,
    steps: Any,
    episodes: Any,
    scratch: Any,
) -> Any:
    """Take T steps in each of N environments.

    Parameters
    ----------
    policy, critic : addresses of programs
        Of the observations of N environments; `critic` 0: values of truncated episodes are not wanted.
    reset_at, step_at : addresses of the environment's functions
    max_steps : how long episodes may be; 0: no bound
    fresh : whether an episode begins in each environment first
    once : whether environments rest after one episode, and the loop ends when all do
    greedy : whether the most probable action is taken
    log_std : (D,), logarithms of standard deviations; None: actions are discrete

    Returns
    -------
    steps made, and 0 for right, 1 for an observation that is not finite, else 1 + the status of a program
    """  # fmt: skip
    environments = worlds.states.shape[0]
    if fresh:
        _start(reset_at, worlds, scale, steps.observations[0])
    for t in range(steps.rewards.shape[0]):
        now, after = steps.observations[t], steps.observations[t + 1]
        status = run_program(policy, (now, scratch.outputs))
        if status != 0:
            return t, 1 + status
        truncations = 0
        running = 0
        for i in range(environments):
            if worlds.lengths[i] < 0:
                continue
            output, observation = scratch.outputs[i], worlds.observations[i]
            if log_std is None:
                if greedy:
                    action, log_prob = _best(output), 0.0
                else:
                    action, log_prob = _drawn(output, worlds.rng)
                steps.actions[t, i] = action
                reward, terminated = call_step(step_at, worlds.states[i], action, observation, worlds.rngs[i])
            else:
                chosen, given = steps.actions[t, i], worlds.actions[i]
                log_prob = _varied(output, log_std, greedy, chosen, worlds.rng)
                for d in range(log_std.shape[0]):
                    wanted = scale.middle[d] + scale.half[d] * chosen[d]
                    given[d] = min(max(wanted, scale.low[d]), scale.high[d])
                reward, terminated = call_step(step_at, worlds.states[i], given, observation, worlds.rngs[i])
            worlds.lengths[i] += 1
            worlds.returns[i] += reward
            truncated = worlds.lengths[i] == max_steps and not terminated
            steps.log_probs[t, i], steps.rewards[t, i] = log_prob, reward
            steps.terminated[t, i], steps.done[t, i] = terminated, terminated or truncated
            if not (normalise(observation, scale, after[i]) and np.isfinite(reward)):
                return t, 1
            _note(observation, scale)
            if terminated or truncated:
                if truncated:
                    truncations += 1
                    copy(after[i], scratch.finals[i])
                n = episodes.ended[0]
                if n < episodes.returns.shape[0]:
                    episodes.returns[n], episodes.lengths[n] = worlds.returns[i], worlds.lengths[i]
                    episodes.ended[0] = n + 1
                if once:
                    worlds.lengths[i] = -1
                    continue
                _started(reset_at, worlds, i)
                _note(worlds.observations[i], scale)
                if not normalise(worlds.observations[i], scale, after[i]):
                    return t, 1
            running += 1
        if truncations and critic:
            status = run_program(critic, (scratch.finals, scratch.values))
            if status != 0:
                return t, 1 + status
            for i in range(environments):
                if steps.done[t, i] and not steps.terminated[t, i]:
                    steps.next_values[t, i] = scratch.values[i, 0]
        if once and not running:
            return t + 1, 0
    return steps.rewards.shape[0], 0


@borrowing
def prepare(values: Any, steps: Any) -> None:
    """Complete next_values: those of the next step, where an episode was not truncated. `values` is (T + 1, N)."""
    for t in range(steps.rewards.shape[0]):
        for i in range(steps.rewards.shape[1]):
            if steps.terminated[t, i] or not steps.done[t, i]:
                steps.next_values[t, i] = values[t + 1, i]


@borrowing
def scale_rewards(steps: Any, gamma: float, moments: Any, running: Any) -> None:
    """Divide rewards by the standard deviation of discounted returns so far, these steps included: `moments` are
    (count, mean, sum of squared distances), `running` the returns of N environments."""
    for t in range(steps.rewards.shape[0]):
        for i in range(steps.rewards.shape[1]):
            running[i] = running[i] * gamma + steps.rewards[t, i]
            moments[0] += 1.0
            distance = running[i] - moments[1]
            moments[1] += distance / moments[0]
            moments[2] += distance * (running[i] - moments[1])
            if steps.done[t, i]:
                running[i] = 0.0
    deviation = (moments[2] / moments[0]) ** 0.5
    if deviation > 1e-8:
        for t in range(steps.rewards.shape[0]):
            for i in range(steps.rewards.shape[1]):
                steps.rewards[t, i] /= deviation


def worlds_of(environment: Environment, n: int, seed: np.random.SeedSequence) -> Worlds:
    """N environments that have not started."""
    of_worlds, of_policy = seed.spawn(2)
    return Worlds(
        np.tile(environment.state, (n, 1)),
        np.zeros((n, environment.observation_size)),
        np.zeros((n, environment.action_size)),
        streams(of_worlds, n),
        np.zeros(n, np.int64),
        np.zeros(n),
        streams(of_policy),
    )


def steps_of(environment: Environment, t: int, n: int, dtype: Any) -> Steps:
    """Memory for T steps of N environments."""
    discrete = environment.n_actions is not None
    return Steps(
        observations=np.zeros((t + 1, n, environment.observation_size), dtype),
        actions=np.zeros((t, n), np.int64) if discrete else np.zeros((t, n, environment.action_size), dtype),
        log_probs=np.zeros((t, n), dtype),
        rewards=np.zeros((t, n), dtype),
        terminated=np.zeros((t, n), np.bool_),
        done=np.zeros((t, n), np.bool_),
        next_values=np.zeros((t, n), dtype),
    )


def episodes_of(most: int) -> Episodes:
    return Episodes(np.zeros(most), np.zeros(most, np.int64), np.zeros(1, np.int64))


def scale_of(environment: Any, normalize: bool) -> Scale:
    """Observations as they are until the first update. Actions from -1 to 1 are the range of those that are bounded;
    others are given as they are, up to the one bound that they may have."""
    size, actions = environment.observation_size, environment.action_size
    middle, half = np.zeros(actions), np.ones(actions)
    low, high = np.full(actions, -np.inf), np.full(actions, np.inf)
    if environment.n_actions is None:
        low[:], high[:] = (np.ravel(bound) for bound in (environment.action_space.low, environment.action_space.high))
        bounded = np.isfinite(low) & np.isfinite(high)
        middle[bounded], half[bounded] = (low[bounded] + high[bounded]) / 2, (high[bounded] - low[bounded]) / 2
    return Scale(
        np.zeros(size), np.ones(size), np.zeros((3, size)), np.array([int(normalize)]), middle, half, low, high
    )


def rescale(scale: Scale) -> None:
    """Normalise from now on by what was observed until now."""
    if scale.normalize[0] and scale.moments[0, 0]:
        scale.mean[...] = scale.moments[1]
        scale.factor[...] = 1 / np.sqrt(scale.moments[2] / scale.moments[0] + 1e-8)


def taken(values: Array, scale: Scale) -> Array:
    """Continuous actions as environments take them."""
    return np.clip(scale.middle + scale.half * values, scale.low, scale.high)  # type: ignore[no-any-return]


def scratch_of(environment: Any, n: int, outputs: int, dtype: Any) -> Scratch:
    return Scratch(
        np.zeros((n, outputs), dtype), np.zeros((n, environment.observation_size), dtype), np.zeros((n, 1), dtype)
    )
