"""What tabular agents do in a step, compiled: choose, learn, count. Every loop, over whatever environment, calls it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastdl.rl._numba import borrowing, inlined
from fastdl.rl.random import random
from fastdl.rl.tabular.schedules import CONSTANT, EXPONENTIAL, INVERSE_VISITS, LINEAR

__all__ = ["Tables", "advance", "begin", "refresh"]

Array = np.ndarray[Any, Any]

# How a value is learned ...
ONE_STEP, DOUBLE, N_STEP, TRACES, PLANNING = range(5)
# ... and what the value of the next state is: of its best action, of the action that is taken, or of the average one.
GREEDY, SAMPLED, EXPECTED = range(3)

# `Tables.counters`: the settings that are integers, and where the agent is.
(
    METHOD, TARGET, SOFTMAX, REPLACING, PLANNING_STEPS, MAX_STEPS, UNBOUNDED,
    STEPS, EPISODES, STATE, ACTION, LENGTH, STORED, FAULT, UNTIL,
    N_COUNTERS,
) = range(16)  # fmt: skip
# `Tables.numbers`: the settings that are not, and the return so far.
GAMMA, LAMBDA, BONUS, RETURN = range(4)
# `Tables.schedules`: a row each; a row is the present value and what `Schedule.row` says.
ALPHA, EPSILON, TEMPERATURE = range(3)
VALUE, KIND, BY_EPISODE, INITIAL, FINAL, RATE = range(6)
# What `advance` answers instead of an action.
ENDED, FULL, BAD_REWARD, DIVERGED, OUTSIDE = -1, -2, -3, -4, -5

NEGLIGIBLE = 1e-12
"""Eligibility below it is 0."""
UNKNOWN = -(2**62)
"""The successor, in a model, of a pair that has not been tried."""

BEST = np.dtype([("value", np.float64), ("action", np.int32), ("ties", np.int32)], align=True)
"""The greatest value of a state, the first action that has it, and how many have it."""


class Tables(NamedTuple):
    """All that an agent knows. Where one value a state is learned there is one column, and `policy` acts.

    Of what a method remembers, pairs (state, column) are numbered ``state * columns + column``: n-step methods keep
    the last pairs in `indices` and their rewards in `reals`; traces the eligible pairs and the eligibility of all; a
    model, of every pair, the successor (``~successor`` where the episode ended), the pairs that have been tried in
    order, and when each was tried last, and the rewards in `reals`.
    """

    q: Array
    """float64, shape (1, S, columns), or (2, S, columns) of double Q-learning."""
    best: Array
    """BEST, shape (S,): kept up to date, so that nobody has to look for it."""
    visits: Array
    """int64, shape (S * columns,): updates of every pair; of no size where the step size does not ask."""
    policy: Array
    """float64, shape (S, A): cumulative probabilities of a given policy; of no size where the agent has its own."""
    scratch: Array
    """float64, shape (A,)."""
    reals: Array
    indices: Array
    counters: Array
    numbers: Array
    schedules: Array
    rng: Array
    """uint64, shape (2, 6): the agent's stream, and the environment's."""
    returns: Array
    lengths: Array
    truncated: Array
    """float64, int64, bool: of every episode; there is room for more."""


@inlined
def value_of(t: Any, s: Any, c: Any) -> Any:
    """The value of an action; the mean of both estimates where there are two."""
    return t.q[0, s, c] if t.q.shape[0] == 1 else 0.5 * (t.q[0, s, c] + t.q[1, s, c])


@inlined
def refresh(t: Any, s: Any) -> None:
    """Look for the best actions of a state."""
    value, action, ties = value_of(t, s, 0), 0, 1
    for c in range(1, t.q.shape[2]):
        other = value_of(t, s, c)
        ties = 1 if other > value else ties + (other == value)
        action = c if other > value else action
        value = max(value, other)
    t.best[s].value = value
    t.best[s].action = action
    t.best[s].ties = ties


@inlined
def add(t: Any, k: Any, s: Any, c: Any, change: Any) -> None:
    """Change a value: the only place where it is done."""
    value = t.q[k, s, c] + change
    t.q[k, s, c] = value
    if not abs(value) < np.inf:
        t.counters[FAULT] = 1
    refresh(t, s)


@inlined
def step_size(t: Any, pair: Any) -> Any:
    schedule = t.schedules[ALPHA]
    if schedule[KIND] != INVERSE_VISITS:
        return schedule[VALUE]
    visits = float(t.visits[pair])
    return 1.0 / visits if schedule[RATE] == 1.0 else visits ** -schedule[RATE]


@inlined
def learn_toward(t: Any, k: Any, s: Any, c: Any, target: Any) -> None:
    """Move a value toward a target by the step size."""
    pair = s * t.q.shape[2] + c
    if t.visits.size:
        t.visits[pair] += 1
    add(t, k, s, c, step_size(t, pair) * (target - t.q[k, s, c]))


@borrowing
def among_ties(t: Any, s: Any, u: Any) -> Any:
    """One of the best actions of a state, each as likely."""
    best = t.best[s]
    left = min(int(u * best.ties), best.ties - 1)
    for a in range(t.q.shape[2]):
        if value_of(t, s, a) == best.value:
            if left == 0:
                return a
            left -= 1
    return int(best.action)


@borrowing
def boltzmann(t: Any, s: Any) -> Any:
    """Weights of the softmax policy, into `scratch`, and their sum."""
    total, temperature, best = 0.0, t.schedules[TEMPERATURE, VALUE], t.best[s].value
    for a in range(t.q.shape[2]):
        weight = np.exp((value_of(t, s, a) - best) / temperature)
        t.scratch[a] = weight
        total += weight
    return total


@borrowing
def by_policy(t: Any, s: Any, u: Any) -> Any:
    last = t.policy.shape[1] - 1
    for a in range(last):
        if u < t.policy[s, a]:
            return a
    return last


@borrowing
def by_softmax(t: Any, s: Any, u: Any) -> Any:
    left, last = u * boltzmann(t, s), t.q.shape[2] - 1
    for a in range(last):
        left -= t.scratch[a]
        if left < 0.0:
            return a
    return last


@inlined
def choose(t: Any, s: Any) -> Any:
    """The action that the behaviour takes in a state. One random number serves: what is left of it, after it has
    decided whether to explore, is as random."""
    u = random(t.rng[0])
    if t.policy.size:
        return by_policy(t, s, u)
    epsilon, n = t.schedules[EPSILON, VALUE], t.q.shape[2]
    if u < epsilon:
        return min(int(u / epsilon * n), n - 1)
    if t.counters[SOFTMAX]:
        return by_softmax(t, s, (u - epsilon) / (1.0 - epsilon))
    best = t.best[np.uint64(s)]
    if best.ties > 1:
        return among_ties(t, s, (u - epsilon) / (1.0 - epsilon))
    return int(best.action)


@borrowing
def expected(t: Any, s: Any) -> Any:
    """The value of a state under the behaviour."""
    epsilon, n, mean = t.schedules[EPSILON, VALUE], t.q.shape[2], 0.0
    for a in range(n):
        mean += value_of(t, s, a) / n
    value = t.best[s].value
    if t.counters[SOFTMAX]:
        total, value = boltzmann(t, s), 0.0
        for a in range(n):
            value += t.scratch[a] / total * value_of(t, s, a)
    return epsilon * mean + (1.0 - epsilon) * value


@borrowing
def learn_double(t: Any, s: Any, a: Any, r: Any, s2: Any, terminated: Any) -> None:
    """One estimate, by the toss of a coin, toward what the other one says of its best action, ties at random."""
    u = 2.0 * random(t.rng[0])
    k = int(u)
    u -= k
    target = r
    if not terminated:
        best, chosen, ties = -np.inf, 0, 1
        for c in range(t.q.shape[2]):
            value = t.q[k, s2, c]
            ties = 1 if value > best else ties + (value == best)
            best = max(best, value)
        left = min(int(u * ties), ties - 1)
        for c in range(t.q.shape[2]):
            if t.q[k, s2, c] == best:
                if left == 0:
                    chosen = c
                left -= 1
        target += t.numbers[GAMMA] * t.q[1 - k, s2, chosen]
    learn_toward(t, k, s, a, target)


@borrowing
def learn_n_step(t: Any, s: Any, c: Any, r: Any, next_value: Any, ended: Any) -> None:
    """The pair of n steps ago toward its n-step return; at an episode's end, in order, all that are left."""
    n, m, gamma, columns = t.indices.size, t.counters[STORED], t.numbers[GAMMA], t.q.shape[2]
    t.indices[m % n] = s * columns + c
    t.reals[m % n] = r
    m += 1
    g = next_value
    if ended:
        left = min(m, n)
        for j in range(m - 1, m - left - 1, -1):
            g = t.reals[j % n] + gamma * g
            t.reals[j % n] = g
        for j in range(m - left, m):
            pair = t.indices[j % n]
            learn_toward(t, 0, pair // columns, pair % columns, t.reals[j % n])
        m = 0
    elif m >= n and not t.counters[UNBOUNDED]:
        for j in range(m - 1, m - n - 1, -1):
            g = t.reals[j % n] + gamma * g
        pair = t.indices[m % n]
        learn_toward(t, 0, pair // columns, pair % columns, g)
    t.counters[STORED] = m


@borrowing
def learn_traces(t: Any, s: Any, c: Any, target: Any, cut: Any) -> None:
    """All eligible pairs by the error of one; they fade, or are forgotten (`cut`)."""
    columns, m, fading = t.q.shape[2], t.counters[STORED], t.numbers[GAMMA] * t.numbers[LAMBDA]
    pair = s * columns + c
    error = target - t.q[0, s, c]
    if t.visits.size:
        t.visits[pair] += 1
    if t.reals[pair] == 0.0:
        t.indices[m] = pair
        m += 1
    t.reals[pair] = 1.0 if t.counters[REPLACING] else t.reals[pair] + 1.0
    kept = 0
    for i in range(m):
        pair = t.indices[i]
        trace = t.reals[pair]
        add(t, 0, pair // columns, pair % columns, step_size(t, pair) * error * trace)
        trace *= fading
        if cut or trace < NEGLIGIBLE:
            t.reals[pair] = 0.0
        else:
            t.reals[pair] = trace
            t.indices[kept] = pair
            kept += 1
    t.counters[STORED] = kept


@borrowing
def plan(t: Any, s: Any, a: Any, r: Any, s2: Any, terminated: Any) -> None:
    """Keep a step in the model, and learn from steps of the model."""
    columns, now = t.q.shape[2], t.counters[STEPS]
    pairs = t.reals.size
    gamma, bonus = t.numbers[GAMMA], t.numbers[BONUS]
    pair = s * columns + a
    if t.indices[pair] == UNKNOWN:  # with a bonus, actions that were never tried are thought to lead nowhere
        for other in range(s * columns if bonus else pair, (s + 1) * columns if bonus else pair + 1):
            t.indices[other] = s
            t.indices[pairs + t.counters[STORED]] = other
            t.counters[STORED] += 1
    t.indices[pair] = ~s2 if terminated else s2
    t.indices[2 * pairs + pair] = now
    t.reals[pair] = r
    known = t.counters[STORED]
    for _ in range(t.counters[PLANNING_STEPS]):
        pair = t.indices[pairs + min(int(random(t.rng[0]) * known), known - 1)]
        target, successor = t.reals[pair], t.indices[pair]
        if bonus:
            target += bonus * np.sqrt(now - t.indices[2 * pairs + pair])
        if successor >= 0:
            target += gamma * t.best[successor].value
        learn_toward(t, 0, pair // columns, pair % columns, target)


@inlined
def tick(t: Any, which: Any, by_episode: Any) -> None:
    """Move a schedule on."""
    schedule = t.schedules[which]
    if schedule[KIND] == CONSTANT or schedule[BY_EPISODE] != by_episode:
        return
    if schedule[KIND] == LINEAR:
        count = t.counters[EPISODES] if by_episode else t.counters[STEPS]
        fraction = min(count * schedule[RATE], 1.0)
        schedule[VALUE] = schedule[INITIAL] + (schedule[FINAL] - schedule[INITIAL]) * fraction
    elif schedule[KIND] == EXPONENTIAL:
        schedule[VALUE] = max(schedule[VALUE] * schedule[RATE], schedule[FINAL])


@inlined
def begin(t: Any, s: Any) -> Any:
    """The first action of an episode; what is left of one that was given up is forgotten."""
    if t.counters[METHOD] == TRACES:
        for i in range(t.counters[STORED]):
            t.reals[t.indices[i]] = 0.0
    if t.counters[METHOD] != PLANNING:
        t.counters[STORED] = 0
    t.counters[LENGTH] = 0
    t.numbers[RETURN] = 0.0
    return choose(t, s)


@inlined
def has_room(t: Any) -> Any:
    """Whether there is memory for one step more, and for one episode."""
    return t.counters[EPISODES] < t.returns.size and not (
        t.counters[UNBOUNDED] and t.counters[STORED] == t.indices.size
    )


@inlined
def advance(t: Any, s: Any, a: Any, r: Any, s2: Any, terminated: Any, cut_off: Any) -> Any:
    """Learn from a step; the action to take next, or a number below 0 that says why there is none.

    An episode that is cut off (truncated) could have gone on: its last state has a value as any other.
    """
    if not abs(r) < np.inf:
        return BAD_REWARD
    counters, method, gamma = t.counters, t.counters[METHOD], t.numbers[GAMMA]
    counters[STEPS] += 1
    counters[LENGTH] += 1
    t.numbers[RETURN] += r
    truncated = not terminated and (cut_off or counters[LENGTH] == counters[MAX_STEPS])
    ended = terminated or truncated
    c = min(a, t.q.shape[2] - 1)
    if counters[TARGET] == GREEDY and method != TRACES:  # the next action follows from what is learned now
        if method == DOUBLE:
            learn_double(t, s, a, r, s2, terminated)
        else:
            learn_toward(t, 0, s, a, r if terminated else r + gamma * t.best[s2].value)
        if method == PLANNING:
            plan(t, s, a, r, s2, terminated)
        a2 = -1 if ended else choose(t, s2)
    else:
        a2, value = -1, 0.0
        if not terminated:
            a2 = choose(t, s2)
            if counters[TARGET] == GREEDY:
                value = t.best[s2].value
            elif counters[TARGET] == EXPECTED:
                value = expected(t, s2)
            else:
                value = value_of(t, s2, min(a2, t.q.shape[2] - 1))
        if method == ONE_STEP:
            learn_toward(t, 0, s, c, r + gamma * value)
        elif method == N_STEP:
            learn_n_step(t, s, c, r, value, ended)
        else:
            cut = ended or (counters[TARGET] == GREEDY and value_of(t, s2, a2) < value)
            learn_traces(t, s, c, r + gamma * value, cut)
    tick(t, ALPHA, 0.0)
    tick(t, EPSILON, 0.0)
    tick(t, TEMPERATURE, 0.0)
    if counters[FAULT]:
        return DIVERGED
    if ended:
        episode = counters[EPISODES]
        t.returns[episode] = t.numbers[RETURN]
        t.lengths[episode] = counters[LENGTH]
        t.truncated[episode] = truncated
        counters[EPISODES] = episode + 1
        for which in range(3):
            tick(t, which, 1.0)
        return ENDED
    return a2
