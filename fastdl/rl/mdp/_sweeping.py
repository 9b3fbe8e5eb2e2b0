"""Prioritized sweeping: one state at a time, where it changes most."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl.rl.mdp._lazy import kernels
from fastdl.rl.mdp._model import MDP
from fastdl.rl.mdp._policy import checked_count, checked_positive
from fastdl.rl.mdp._solution import Solution
from fastdl.rl.mdp._solvers import _Problem


def prioritized_sweeping(
    mdp: MDP, epsilon: float = 1e-6, *, initial: Any = None, max_backups: int | None = None
) -> Solution:
    """An optimal policy to within epsilon, by backing up states in the order of how much they can change.

    The state of the highest priority gets its value from its successors; the change, times the discount and the largest
    probability with which an action leads there, is added to the priority of each state before it. (In the paper it
    takes the place of what was there if it is larger; added up, a priority is never below the state's error in
    Bellman's equation, so that when all are low the values are known to be good.) It pays where few states matter at a
    time: rewards in few places, or values to begin with that are right but for some states.

    Parameters
    ----------
    mdp : MDP
        The model. With a discount of 1 as of `value_iteration`.
    epsilon : float
        The policy is worth at most so much less than an optimal one in any state, and no value is further off.
    initial : (S,) floats, optional
        Values to begin with; 0 by default.
    max_backups : int, optional
        Backups of one state; by default no limit where a bound is known, else 100,000 for each state.

    Returns
    -------
    Solution
        `iterations` is the number of backups.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; with a discount of 1, no end can be reached from some state, which is named.

    References
    ----------
    Moore and Atkeson, "Prioritized sweeping: reinforcement learning with less data and less time", Machine Learning 13,
    1993; Sutton and Barto, "Reinforcement Learning", 2018, section 8.4.

    Examples
    --------
    >>> from fastdl import rl
    >>> mdp = rl.MDP([[[1, 0], [0, 1]], [[1, 0], [0, 1]]], [[0, 1], [3, 0]], 0.5, layout="sas")
    >>> rl.prioritized_sweeping(mdp).value.round(5)
    array([3.33333, 4.66667])
    """
    epsilon = checked_positive("epsilon", epsilon)
    limit = None if max_backups is None else checked_count("max_backups", max_backups)
    problem = _Problem(mdp)
    value, out, policy = problem.fresh(initial)
    problem.sweep(value, out, policy, 0.0)
    priority = np.abs(out - value)
    begins, rows, places = kernels.transpose(mdp._row_ptr, mdp._successors, mdp.num_states)
    before = kernels.predecessors(begins, rows, places, mdp._weights, mdp._state_of_row())
    unbounded = problem.horizon == math.inf
    threshold = epsilon / (2 if unbounded else 2 * problem.horizon)
    if limit is None:
        limit = 100_000 * mdp.num_states if unbounded else 2**62
    # no priority falls below what rounding makes of values, however low the threshold
    most = float(np.abs(mdp._rewards).max(initial=0.0)) * (1.0 if unbounded else problem.horizon)
    threshold = max(threshold, problem.slack * most)
    arguments = (*mdp._arrays, mdp.discount, *before, threshold, limit, priority, value)
    backups = int(kernels.sweep_by_priority(*arguments))
    low, high, size = problem.sweep(value, out, policy, problem.slack * float(np.abs(value).max()))
    lower, upper = problem.bounds(low, high)
    return problem.solution(out, policy, lower, upper, size, backups, epsilon)
