"""Optimal policies by sweeps over all states: value iteration and what is made of it."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from fastdl.rl.mdp._ends import Ends, Sweeps, settled_chain
from fastdl.rl.mdp._evaluation import (
    Method,
    action_values,
    between,
    checked_method,
    enough_sweeps,
    evaluate_chain,
    longest_row,
    may_end,
    rounding,
    target,
)
from fastdl.rl.mdp._lazy import kernels
from fastdl.rl.mdp._model import MDP
from fastdl.rl.mdp._policy import chain_of_rows, checked_count, checked_positive, checked_values, rows_of_policy
from fastdl.rl.mdp._solution import FiniteHorizonSolution, Solution

GOOD_ENOUGH = 0.1
"""A policy is evaluated until changes are this part of what the improvement changed."""
MOST_EVALUATIONS = 1000


class _Problem:
    """A model with what every solver begins with: the operator, and what its changes are multiplied by."""

    def __init__(self, mdp: MDP) -> None:
        self.mdp, self.discount = mdp, mdp.discount
        self.ends = Ends(mdp) if mdp.discount == 1 else None
        self.horizon = self.ends.most_steps() if self.ends else 1 / (1 - mdp.discount)
        self.sweep = Sweeps(mdp)
        self.slack = rounding(longest_row(mdp))
        self.idle = np.diff(mdp._state_ptr) == 0

    def fresh(self, initial: Any, default: float = 0.0) -> tuple[Any, Any, Any]:
        """Values to begin with, an array for new ones, and one for the policy."""
        states = self.mdp.num_states
        value = np.full(states, default) if initial is None else checked_values("initial", initial, self.mdp)
        value[self.idle] = 0.0
        if self.ends:
            value[self.ends.ended] = 0.0
        return value, np.empty(states), np.full(states, -1, np.int32)

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        """What the values after a sweep, with changes between low and high, are off by, at least and at most."""
        low, high = between(low, high, may_end(self.mdp), self.discount)
        if self.horizon == math.inf:
            return low, high
        return (self.horizon - 1) * low, (self.horizon - 1) * high

    def rounded(self, size: float) -> float:
        """What rounding can add to a bound, where values are so large."""
        return 0.0 if self.horizon == math.inf else 2 * self.horizon * self.slack * size

    def solution(
        self, out: Any, policy: Any, lower: float, upper: float, size: float, sweeps: int, epsilon: float
    ) -> Solution:
        """After a sweep that made `out`, and found `policy` on the way."""
        if self.horizon == math.inf:
            assert self.ends
            policy = self.ends.leading(out, policy, max(epsilon * 1e-3, self.slack * size))
            return Solution(out, policy, sweeps, math.inf, upper - lower <= epsilon)
        shift = 0.0 if lower <= 0 <= upper else (lower + upper) / 2
        if shift:
            out += shift
            out[self.idle] = 0.0
        bound = upper - lower + self.rounded(size)
        return Solution(out, policy, sweeps, bound, bound <= epsilon)


def value_iteration(
    mdp: MDP,
    epsilon: float = 1e-6,
    *,
    method: Literal["jacobi", "gauss_seidel"] = "jacobi",
    initial: Any = None,
    max_iterations: int | None = None,
) -> Solution:
    """An optimal policy to within epsilon, by sweeps ``v[s] = max_a r(s, a) + discount * sum_j p(j | s, a) * v[j]``.

    If a sweep changes values by a at least and b at most, the optimal values are above the new ones by
    ``a * discount / (1 - discount)`` at least and ``b * discount / (1 - discount)`` at most, and the policy that the
    sweep found is worth no less than the first. Sweeps end when both are within `epsilon`, which is long before values
    themselves stop to change where all of them grow alike; values are then moved to the middle.

    With a discount of 1, an end (a terminal state, a transition that is terminated, or a state that is never left and
    never rewarded) has to be reachable from every state. If every policy comes to an end, the largest expected number
    of steps takes the place of ``1 / (1 - discount)``, and is found by sweeps of its own. If some policy never does,
    there is no bound: sweeps begin from 0 and end when no value changes by more than `epsilon`, which leads to the
    optimum if rewards are all of one sign, or if all that never ends is worth minus infinity; of actions that then look
    equally good, to a thousandth of `epsilon`, the policy takes those that lead to an end.

    Parameters
    ----------
    mdp : MDP
        The model.
    epsilon : float
        The policy is worth at most so much less than an optimal one in any state, and no value is further off.
    method : {"jacobi", "gauss_seidel"}
        "jacobi": all states from the values before the sweep, on all threads. "gauss_seidel": one after the other, from
        what the others have become, up and down in turn, on one thread: far fewer sweeps where states follow one
        another as they are numbered (chains, queues), some on grids, none where values all grow alike.
    initial : (S,) floats, optional
        Values to begin with.
    max_iterations : int, optional
        Sweeps; by default as many as can be needed, 100,000 where that is not known.

    Returns
    -------
    Solution

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; with a discount of 1, no end can be reached from some state, which is named.

    References
    ----------
    Puterman, "Markov Decision Processes", 2014, section 6.3, propositions 6.6.3 and 6.6.5, chapter 7 (a discount of 1).

    Examples
    --------
    >>> from fastdl import rl
    >>> mdp = rl.MDP([[[1, 0], [0, 1]], [[1, 0], [0, 1]]], [[0, 1], [3, 0]], 0.5, layout="sas")
    >>> rl.value_iteration(mdp).value.round(5)
    array([3.33333, 4.66667])
    """
    if method not in ("jacobi", "gauss_seidel"):
        raise ValueError(f"method: found {method!r}, expected 'jacobi' or 'gauss_seidel'")
    epsilon = checked_positive("epsilon", epsilon)
    limit = None if max_iterations is None else checked_count("max_iterations", max_iterations)
    problem = _Problem(mdp)
    value, out, policy = problem.fresh(initial)
    sweeps, tie = 0, problem.slack * float(np.abs(value).max())
    if method == "gauss_seidel":
        sweeps = _gauss_seidel(problem, value, epsilon, limit)
        tie = problem.slack * float(np.abs(value).max())
    while True:
        low, high, size = problem.sweep(value, out, policy, tie)
        sweeps += 1
        lower, upper = problem.bounds(low, high)
        narrow = target(epsilon, problem.rounded(size))
        if limit is None:
            limit = sweeps + enough_sweeps(upper - lower, narrow, problem.discount, problem.horizon)
        if upper - lower <= narrow or sweeps >= limit or not upper - lower < math.inf:
            return problem.solution(out, policy, lower, upper, size, sweeps, epsilon)
        value, out, tie = out, value, problem.slack * size


def _gauss_seidel(problem: _Problem, value: Any, epsilon: float, limit: int | None) -> int:
    """Sweeps in place until one by `bellman` can be expected to find all within epsilon."""
    *arrays, discount = (*problem.mdp._arrays, problem.discount)
    extremes = np.empty((1, 3))
    factor = 1.0 if problem.horizon == math.inf else problem.horizon * problem.discount
    sweeps = 0
    while True:
        kernels.gauss_seidel(*arrays, discount, sweeps % 2 == 1, value, extremes)
        sweeps += 1
        low, high, size = extremes[0]
        width, narrow = factor * (max(high, 0.0) - min(low, 0.0)), target(epsilon, problem.rounded(size)) / 2
        if limit is None:
            limit = sweeps + enough_sweeps(width, narrow, discount, problem.horizon)
        if width <= narrow or sweeps >= limit - 1 or not width < math.inf:
            return sweeps


def modified_policy_iteration(
    mdp: MDP,
    epsilon: float = 1e-6,
    *,
    sweeps: int | None = None,
    initial: Any = None,
    max_iterations: int | None = None,
) -> Solution:
    """An optimal policy to within epsilon, by value iteration that stays with each policy for some sweeps.

    After a sweep that takes the best action of each state, some follow of these actions only, which read no more than
    their transitions. It ends as `value_iteration` does, with the same bounds, and is mostly the fastest.

    Parameters
    ----------
    mdp : MDP
        The model. With a discount of 1, every policy has to come to an end.
    epsilon : float
        The policy is worth at most so much less than an optimal one in any state, and no value is further off.
    sweeps : int, optional
        How many sweeps evaluate each policy. By default, until one changes values by a tenth as differently as the
        improvement did, and 1000 at most.
    initial : (S,) floats, optional
        Values to begin with; by default so low that they can only rise.
    max_iterations : int, optional
        Improvements; by default as many as value iteration can take.

    Returns
    -------
    Solution
        `iterations` is the number of improvements.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the discount is 1 and there is a state from which some policy never ends, which
        is named.

    References
    ----------
    Puterman and Shin, "Modified policy iteration algorithms for discounted Markov decision problems", Management
    Science 24(11), 1978; Puterman, "Markov Decision Processes", 2014, section 6.5.

    Examples
    --------
    >>> from fastdl import rl
    >>> mdp = rl.MDP([[[1, 0], [0, 1]], [[1, 0], [0, 1]]], [[0, 1], [3, 0]], 0.5, layout="sas")
    >>> rl.modified_policy_iteration(mdp).policy
    array([1, 0], dtype=int32)
    """
    epsilon = checked_positive("epsilon", epsilon)
    limit = None if max_iterations is None else checked_count("max_iterations", max_iterations)
    evaluations = None if sweeps is None else checked_count("sweeps", sweeps, 0)
    problem = _Problem(mdp)
    _all_must_end(problem)
    least = float(mdp._rewards.min(initial=0.0 if may_end(mdp) or problem.idle.any() else math.inf))
    value, out, policy = problem.fresh(initial, least * problem.horizon if problem.horizon < math.inf else 0.0)
    tie, iterations, chain, before = problem.slack * float(np.abs(value).max()), 0, None, policy.copy()
    while True:
        low, high, size = problem.sweep(value, out, policy, tie)
        iterations += 1
        lower, upper = problem.bounds(low, high)
        narrow = target(epsilon, problem.rounded(size))
        if limit is None:
            limit = iterations + enough_sweeps(upper - lower, narrow, problem.discount, problem.horizon)
        if upper - lower <= narrow or iterations >= limit or not upper - lower < math.inf:
            return problem.solution(out, policy, lower, upper, size, iterations, epsilon)
        if chain is None or not np.array_equal(policy, before):
            chain = chain_of_rows(mdp, rows_of_policy(mdp, policy)[0])
            before[:] = policy
        value, out = out, value
        enough = GOOD_ENOUGH * (upper - lower)
        for _ in range(MOST_EVALUATIONS if evaluations is None else evaluations):
            lower, upper = problem.bounds(*chain.sweep(problem.discount, value, out)[:2])
            value, out = out, value
            if evaluations is None and (upper - lower <= max(enough, narrow / 2)):
                break
        tie = problem.slack * size


def _all_must_end(problem: _Problem) -> None:
    if problem.ends and problem.ends.endless is not None:
        raise ValueError(
            f"discount: found 1 and a policy that never ends from state {problem.ends.endless}, expected less than 1, "
            "or that every policy ends; value_iteration does without"
        )


def policy_iteration(
    mdp: MDP,
    *,
    method: Method = "auto",
    epsilon: float = 1e-8,
    initial: Any = None,
    max_iterations: int = 1000,
) -> Solution:
    """An optimal policy, by evaluating one and taking the best actions by that, until none is better.

    A state stays with its action unless another is better by more than rounding, so that no two policies alternate.
    Few policies are needed, but each is a system of equations: for many states, prefer `modified_policy_iteration`.

    Parameters
    ----------
    mdp : MDP
        The model. With a discount of 1, every policy has to come to an end.
    method : {"auto", "direct", "iterative"}
        How policies are evaluated, as of `evaluate_policy`.
    epsilon : float
        For `converged`; policies that are evaluated by sweeps are so to a fourth of it, and once one is as good as
        this, no better one is looked for.
    initial : (S,) ints, optional
        The policy to begin with; by default the best for the next reward.
    max_iterations : int
        Policies at most.

    Returns
    -------
    Solution
        `iterations` is the number of policies that were evaluated.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the discount is 1 and there is a state from which some policy never ends, which
        is named.

    References
    ----------
    Howard, "Dynamic Programming and Markov Processes", 1960; Puterman, "Markov Decision Processes", 2014, section 6.4.

    Examples
    --------
    >>> from fastdl import rl
    >>> mdp = rl.MDP([[[1, 0], [0, 1]], [[1, 0], [0, 1]]], [[0, 1], [3, 0]], 0.5, layout="sas")
    >>> rl.policy_iteration(mdp).value.round(5)
    array([3.33333, 4.66667])
    """
    checked_method(method)
    epsilon = checked_positive("epsilon", epsilon)
    limit = checked_count("max_iterations", max_iterations)
    rows = None
    if initial is not None:
        rows, _ = rows_of_policy(mdp, initial)
        if rows is None:
            raise ValueError("initial: found probabilities, expected an action of each state")
    problem = _Problem(mdp)
    _all_must_end(problem)
    value, out, policy = problem.fresh(None)
    states = np.arange(mdp.num_states)
    if rows is None:
        problem.sweep(value, out, policy, 0.0)
    else:
        policy[rows >= 0] = mdp._actions[rows[rows >= 0]]
    for iteration in range(1, limit + 1):
        chain = chain_of_rows(mdp, rows_of_policy(mdp, policy)[0])
        value, evaluated_by_sweeps, error = _evaluated(problem, chain, method, epsilon / 4, value)
        q = action_values(mdp, value)
        best, size = q.max(1), float(np.abs(value).max())
        # one step is worth at most this more than the policy, so all of them that times the horizon
        gain = max(0.0, float((best - value).max())) + problem.slack * size
        bound = error + problem.horizon * gain
        good = q >= (best - 2 * error / problem.horizon - problem.slack * size)[:, None]
        better = ~good[states, policy]
        if not better.any() or iteration == limit or (evaluated_by_sweeps and bound <= epsilon):
            break
        policy[better] = good[better].argmax(1)
    return Solution(value, policy, iteration, bound, bool(bound <= epsilon))


def _evaluated(problem: _Problem, chain: Any, method: Method, epsilon: float, value: Any) -> tuple[Any, int, float]:
    if problem.ends:
        chain, _ = settled_chain(chain)
    return evaluate_chain(chain, problem.discount, method, epsilon, None, value)


def backward_induction(mdp: MDP, horizon: int, *, final: Any = None) -> FiniteHorizonSolution:
    """What is optimal with a number of steps to go: a policy that changes with time.

    ``v[N] = final``, ``v[t, s] = max_a r(s, a) + discount * sum_j p(j | s, a) * v[t + 1, j]``

    Parameters
    ----------
    mdp : MDP
        The model; its discount may be 1.
    horizon : int
        N, the number of steps, at least 1.
    final : (S,) floats, optional
        What states are worth after the last step; 0 by default, and in terminal states always.

    Returns
    -------
    FiniteHorizonSolution
        value (N + 1, S) and policy (N, S).

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.

    References
    ----------
    Puterman, "Markov Decision Processes", 2014, section 4.5.

    Examples
    --------
    >>> from fastdl import rl
    >>> mdp = rl.MDP([[[1, 0], [0, 1]], [[1, 0], [0, 1]]], [[0, 1], [3, 0]], 1.0, layout="sas")
    >>> rl.backward_induction(mdp, 2).value
    array([[4., 4.],
           [1., 3.],
           [0., 0.]])
    """
    horizon = checked_count("horizon", horizon)
    sweep, slack = Sweeps(mdp), rounding(longest_row(mdp))
    value = np.zeros((horizon + 1, mdp.num_states))
    policy = np.empty((horizon, mdp.num_states), np.int32)
    if final is not None:
        value[horizon] = checked_values("final", final, mdp)
        value[horizon, np.diff(mdp._state_ptr) == 0] = 0.0
    size = float(np.abs(value[horizon]).max())
    for t in range(horizon - 1, -1, -1):
        _, _, size = sweep(value[t + 1], value[t], policy[t], slack * size)
    return FiniteHorizonSolution(value, policy)
