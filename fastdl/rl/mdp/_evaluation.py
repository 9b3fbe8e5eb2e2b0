"""What a policy is worth, what actions are worth, and where a policy goes."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from fastdl.rl.mdp._ends import DENSE, MOST_SWEEPS, Sweeps, expected_steps, settled_chain, solve_dense
from fastdl.rl.mdp._lazy import kernels, share
from fastdl.rl.mdp._model import MDP
from fastdl.rl.mdp._policy import (
    Chain,
    blocks,
    chain_of,
    checked_count,
    checked_positive,
    checked_start,
    checked_values,
    grain,
    shares_of_policy,
)
from fastdl.rl.mdp._solution import Solution

EPS = float(np.finfo(np.float64).eps)
Method = Literal["auto", "direct", "iterative"]


def rounding(longest_row: int) -> float:
    """What a sum over a row of transitions can be wrong by, relative to the values in it."""
    return (16 + longest_row) * EPS


def horizon_of(chain: Chain, discount: float) -> float:
    """What changes of a sweep are multiplied by to bound an error: the (discounted) number of steps that can follow."""
    return 1 / (1 - discount) if discount < 1 else expected_steps(chain)


def may_end(mdp: MDP) -> bool:
    return mdp._ending is not None


def between(low: float, high: float, ends: bool, discount: float) -> tuple[float, float]:
    """Changes from which bounds follow. A sum of probabilities below 1 is one of 1 with a state that is worth 0 and
    never changes."""
    return (min(low, 0.0), max(high, 0.0)) if ends or discount == 1 else (low, high)


def target(epsilon: float, rounded: float) -> float:
    """How narrow bounds have to become, where rounding adds so much to them, below which they need not be."""
    return max(epsilon - rounded, rounded)


def enough_sweeps(width: float, epsilon: float, discount: float, horizon: float) -> int:
    """How many more sweeps take bounds so wide to epsilon, rounding aside."""
    modulus = discount if discount < 1 else 1 - 1 / horizon
    if width <= epsilon or modulus <= 0 or epsilon <= 0:
        return 2
    if not width < math.inf or modulus >= 1:
        return MOST_SWEEPS
    slack = 0 if discount < 1 else math.log(horizon)  # which the norm that shrinks may be off by
    return 2 + math.ceil((math.log(width / epsilon) + slack) / -math.log(modulus))


def checked_method(method: str) -> None:
    if method not in ("auto", "direct", "iterative"):
        raise ValueError(f"method: found {method!r}, expected 'auto', 'direct' or 'iterative'")


def solve_directly(chain: Chain, discount: float, constants: Any) -> Any:
    """(I - discount * P) x = constants; None where that would take a dense matrix too large and SciPy is missing."""
    if chain.states <= DENSE:
        return solve_dense(chain, discount, constants)
    try:
        from scipy.sparse import eye_array
        from scipy.sparse.linalg import spsolve
    except ImportError:
        return None
    return spsolve((eye_array(chain.states) - discount * chain.sparse()).tocsc(), constants)


def iterate(
    chain: Chain, discount: float, value: Any, epsilon: float, horizon: float, limit: int | None
) -> tuple[Any, int, float]:
    """x = constants + discount * P x to within epsilon by sweeps: x, their number, a bound on its error."""
    out = np.empty_like(value)
    ends, slack = chain.ending is not None, rounding(chain.longest_row)
    sweeps = 0
    while True:
        low, high, size = chain.sweep(discount, value, out)
        sweeps += 1
        low, high = between(low, high, ends, discount)
        lower, upper = (horizon - 1) * low, (horizon - 1) * high
        shift = 0.0 if lower <= 0 <= upper else (lower + upper) / 2
        width, rounded = max(upper - shift, shift - lower), horizon * slack * size
        narrow = target(epsilon, rounded)
        if limit is None:
            limit = sweeps + enough_sweeps(width, narrow, discount, horizon)
        if width <= narrow or sweeps >= limit or not width < math.inf:
            return out + shift if shift else out, sweeps, width + rounded
        value, out = out, value


def evaluate_chain(
    chain: Chain, discount: float, method: Method, epsilon: float, limit: int | None, initial: Any
) -> tuple[Any, int, float]:
    """As `iterate`, of a chain that is settled where there is no discount."""
    solved = None
    if method == "direct" or (method == "auto" and chain.states <= DENSE):
        solved = solve_directly(chain, discount, chain.constants)
    horizon = horizon_of(chain, discount)
    if solved is None:
        if method == "direct":
            epsilon = 4 * EPS * horizon * float(np.abs(chain.constants).max())
        return iterate(chain, discount, initial, max(epsilon, np.finfo(np.float64).tiny), horizon, limit)
    out = np.empty(chain.states)
    low, high, size = chain.sweep(discount, solved, out)
    error = max(abs(low), abs(high)) + rounding(chain.longest_row) * size
    return solved, 0, horizon * error


def evaluate_policy(
    mdp: MDP,
    policy: Any,
    *,
    method: Method = "auto",
    epsilon: float = 1e-8,
    max_iterations: int | None = None,
    initial: Any = None,
) -> Solution:
    """The value of a policy: ``v = r + discount * P v``, with the rewards and transitions of the policy.

    Directly, by solving that system of equations, or by sweeps ``v = r + discount * P v``, until the error is at most
    `epsilon`: with changes between a and b in a sweep, what is still to come is between ``a * discount / (1 -
    discount)`` and ``b * discount / (1 - discount)``, and values are moved to the middle of that.

    With a discount of 1, the policy has to come to an end from every state (in a terminal state, by a transition that
    is terminated, or in a state that is never left and never rewarded), and the expected number of steps takes the
    place of ``1 / (1 - discount)``; it is found by sweeps of its own.

    Parameters
    ----------
    mdp : MDP
        The model.
    policy : (S,) ints or (S, A) floats
        Deterministic, or the probability of each action.
    method : {"auto", "direct", "iterative"}
        "direct": by numpy.linalg up to 1500 states, above by scipy.sparse.linalg, whose factors can be large where
        transitions go everywhere; without SciPy by sweeps to about machine precision. "auto": directly up to 1500
        states, above by sweeps.
    epsilon : float
        Largest error that sweeps leave.
    max_iterations : int, optional
        Of sweeps; by default as many as they can take at most.
    initial : (S,) floats, optional
        Values to begin with.

    Returns
    -------
    Solution
        `bound` is a bound on the error of every value.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; with a discount of 1, the policy never ends from some state, which is named.

    References
    ----------
    Puterman, "Markov Decision Processes", 2014, section 6.1 and corollary 6.6.1 (MacQueen's bounds).

    Examples
    --------
    >>> from fastdl import rl
    >>> mdp = rl.MDP([[[0.5, 0.5]], [[0, 1]]], [2, 0], 0.5)
    >>> rl.evaluate_policy(mdp, [0, 0]).value
    array([2.66666667, 0.        ])
    """
    checked_method(method)
    epsilon = checked_positive("epsilon", epsilon)
    limit = None if max_iterations is None else checked_count("max_iterations", max_iterations)
    chain = chain_of(mdp, policy)
    value = np.zeros(mdp.num_states) if initial is None else checked_values("initial", initial, mdp)
    value[np.diff(mdp._state_ptr) == 0] = 0.0
    if mdp.discount == 1:
        chain, ended = settled_chain(chain)
        value[ended] = 0.0
    value, sweeps, bound = evaluate_chain(chain, mdp.discount, method, epsilon, limit, value)
    return Solution(value, np.asarray(policy), sweeps, float(bound), bool(bound <= epsilon))


def action_values(mdp: MDP, value: Any) -> Any:
    """What each action is worth if values are `value` from the next step on.

    ``q(s, a) = r(s, a) + discount * sum_j p(j | s, a) * value[j]``

    Parameters
    ----------
    mdp : MDP
        The model.
    value : (S,) floats
        Values of the states.

    Returns
    -------
    (S, A) float64
        -inf of an action that a state does not have; 0 in terminal states.

    Raises
    ------
    TypeError, ValueError
        `value` is not as described.

    References
    ----------
    Sutton and Barto, "Reinforcement Learning", 2018, section 3.5.

    Examples
    --------
    >>> from fastdl import rl
    >>> mdp = rl.MDP([[[1, 0], [0, 1]], [[0, 1], [0, 1]]], [[1, 0], [0, 0]], 0.5, layout="sas")
    >>> rl.action_values(mdp, [2, 4])
    array([[2., 2.],
           [2., 2.]])
    """
    value = checked_values("value", value, mdp)
    out = np.full((mdp.num_states, mdp.num_actions), -np.inf)
    out[np.diff(mdp._state_ptr) == 0] = 0.0
    pieces = blocks(mdp.num_states, kernels.BLOCK)
    arguments = (*mdp._arrays, mdp._actions, mdp.discount, value, out)
    share(kernels.q_values, pieces, grain(len(mdp._successors), pieces), *arguments)
    return out


def greedy_policy(mdp: MDP, value: Any) -> Any:
    """The best action of each state if values are `value` from the next step on.

    Parameters
    ----------
    mdp : MDP
        The model.
    value : (S,) floats
        Values of the states.

    Returns
    -------
    (S,) int32
        Of actions that are equal but for rounding, the lowest; -1 in states without actions.

    Raises
    ------
    TypeError, ValueError
        `value` is not as described.

    References
    ----------
    Puterman, "Markov Decision Processes", 2014, section 6.2.3 (v-improving decision rules).

    Examples
    --------
    >>> from fastdl import rl
    >>> mdp = rl.MDP([[[1, 0], [0, 1]], [[0, 1], [0, 1]]], [[1, 0], [0, 0]], 0.5, layout="sas")
    >>> rl.greedy_policy(mdp, [2, 5])
    array([1, 0], dtype=int32)
    """
    value = checked_values("value", value, mdp)
    policy = np.empty(mdp.num_states, np.int32)
    size = max(float(np.abs(value).max()), float(np.abs(mdp._rewards).max(initial=0.0)))
    Sweeps(mdp)(value, np.empty_like(value), policy, rounding(longest_row(mdp)) * size)
    return policy


def longest_row(mdp: MDP) -> int:
    return int(np.diff(mdp._row_ptr).max(initial=0))


def occupancy_measure(
    mdp: MDP,
    policy: Any,
    start: Any,
    *,
    normalize: bool = False,
    method: Method = "auto",
    epsilon: float = 1e-10,
) -> Any:
    """How often a policy takes each action in each state: the discounted expected number of times.

    ``x(s, a) = sum_t discount ** t * Pr(s_t = s, a_t = a)``, so that ``(x * rewards).sum()`` is what the policy is
    worth from `start`. Together it is ``1 / (1 - discount)``, or less if episodes end: nothing is done in terminal
    states, or after a transition that is terminated. With a discount of 1 it is the expected number of steps; states
    that are never left and never rewarded are ends then, and 0.

    Parameters
    ----------
    mdp : MDP
        The model.
    policy : (S,) ints or (S, A) floats
        Deterministic, or the probability of each action.
    start : int, or (S,) floats
        The first state, or its distribution.
    normalize : bool
        Multiply by ``1 - discount``: a distribution over states and actions, if episodes do not end.
    method : {"auto", "direct", "iterative"}
        As of `evaluate_policy`.
    epsilon : float
        By how much sweeps may leave the sum too small, or any part of it.

    Returns
    -------
    (S, A) float64

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the discount is 1 and `normalize` is True, or the policy never ends.

    References
    ----------
    Puterman, "Markov Decision Processes", 2014, section 6.9.2 (the dual linear program).

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.occupancy_measure(rl.MDP([[[0, 1]], [[0, 1]]], [0, 0], 0.5), [0, 0], 0)
    array([[1.],
           [1.]])
    """
    checked_method(method)
    epsilon = checked_positive("epsilon", epsilon)
    if not isinstance(normalize, bool):
        raise TypeError(f"normalize: found {normalize!r}, expected a bool")
    if normalize and mdp.discount == 1:
        raise ValueError("normalize: found True and a discount of 1, expected False or a discount below 1")
    distribution = checked_start(mdp, start)
    shares = shares_of_policy(mdp, policy)
    chain = chain_of(mdp, policy)
    over = np.diff(chain.ptr) == 0
    if mdp.discount == 1:
        chain, over = settled_chain(chain)
    flow = chain.transposed(distribution)
    visits = None
    if method == "direct" or (method == "auto" and chain.states <= DENSE):
        visits = solve_directly(flow, mdp.discount, distribution)
    if visits is None:
        horizon = horizon_of(chain, mdp.discount)
        visits = _visits(flow, mdp.discount, epsilon if method != "direct" else 4 * EPS * horizon, horizon)
    visits[over] = 0.0
    state_of_row = mdp._state_of_row()
    out = np.zeros((mdp.num_states, mdp.num_actions))
    out[state_of_row, mdp._actions] = visits[state_of_row] * shares
    return out * (1 - mdp.discount) if normalize else out


def _visits(flow: Chain, discount: float, epsilon: float, horizon: float) -> Any:
    """sum_t discount ** t * (P ** t) start, up to where what still moves can add no more than epsilon."""
    moving, new = flow.constants.copy(), np.empty(flow.states)
    visits, nothing = moving.copy(), np.zeros(flow.states)
    while float(moving.sum()) * horizon > epsilon:
        flow.sweep(discount, moving, new, nothing)
        moving, new = new, moving
        visits += moving
    return visits
