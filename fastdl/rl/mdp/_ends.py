"""Where there is no discount, what makes values finite is that episodes end. Whether they do is a question of which
states can be reached, and how long they last is what errors are multiplied by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdl.rl.mdp._lazy import kernels, share
from fastdl.rl.mdp._policy import Chain, blocks, grain

if TYPE_CHECKING:
    from fastdl.rl.mdp._model import MDP

DENSE = 1500
"""States up to which a system of equations is solved by default, as a dense matrix."""
MOST_SWEEPS = 100_000
"""Where it is not known how many it takes."""
SLACK = 0.01
"""What the expected number of steps may be overestimated by."""


def solve_dense(chain: Chain, discount: float, constants: Any) -> Any:
    """(I - discount * P) x = constants."""
    return np.linalg.solve(np.eye(chain.states) - discount * chain.dense(), constants)


def settled_chain(chain: Chain) -> tuple[Chain, Any]:
    """The chain without weights where it stays for ever and earns nothing, and those states; ValueError if from a state
    it never ends."""
    moving = np.ones(chain.states, bool)
    lengths = np.diff(chain.ptr)
    rows = np.repeat(np.arange(chain.states), lengths)
    moving &= lengths > 0
    leaves = np.zeros(chain.states, bool)
    leaves[rows[(chain.columns != rows) & (chain.weights > 0)]] = True
    if chain.ending is not None:
        leaves |= chain.ending
    moving &= leaves | (chain.constants != 0)
    ended = ~moving
    begins, befores, places = kernels.transpose(chain.ptr, chain.columns, chain.states)
    reached = ended.copy() if chain.ending is None else ended | chain.ending
    kernels.backward_reach(begins, befores, places, chain.weights, np.arange(chain.states), reached)
    if not reached.all():
        raise ValueError(
            f"discount: found 1 and a policy that never ends from state {np.argmin(reached)}, expected less than 1, or "
            "that every state comes to a terminal state, to a transition that is terminated, or to a state that is "
            "never left and never rewarded"
        )
    return replace(chain, weights=np.where(ended[rows], 0.0, chain.weights)), ended


def expected_steps(chain: Chain) -> float:
    """At least the expected number of steps to the end, from the state from which it is largest.

    It is the limit of w_{k+1} = 1 + P w_k. If no w_{k+1} - w_k is above d < 1, then u = w_k / (1 - d) has u >= 1 + P u,
    so that u is no less than the limit."""
    ones, new = np.ones(chain.states), np.empty(chain.states)
    steps = np.zeros(chain.states) if chain.states > DENSE else solve_dense(chain, 1.0, ones)
    while True:
        _, rise, _ = chain.sweep(1.0, steps, new, ones)
        if rise <= SLACK:
            return float(steps.max() / (1 - max(rise, 0.0)))
        steps, new = new, steps


class Sweeps:
    """Bellman's operator of a model, maybe with other rewards."""

    def __init__(self, mdp: MDP, rewards: Any = None) -> None:
        *arrays, own = mdp._arrays
        full = len(mdp._actions) == mdp.num_states * mdp.num_actions
        actions = mdp._actions[:0] if full else mdp._actions
        self.pieces = blocks(mdp.num_states, kernels.BLOCK)
        self.grain = grain(len(mdp._successors), self.pieces)
        self.extremes = np.empty((self.pieces, 3))
        self.arguments = (*arrays, own if rewards is None else rewards, actions, mdp.discount)

    def __call__(self, value: Any, out: Any, policy: Any, tie: float) -> tuple[float, float, float]:
        """out = max_a q(., a), policy where it is reached; smallest and largest change, largest magnitude."""
        arguments = (*self.arguments, tie, value, out, policy, self.extremes)
        share(kernels.bellman, self.pieces, self.grain, *arguments)
        return float(self.extremes[:, 0].min()), float(self.extremes[:, 1].max()), float(self.extremes[:, 2].max())


class Ends:
    """What of a model without a discount is known before it is solved."""

    def __init__(self, mdp: MDP) -> None:
        """ValueError if there is a state that no policy leads to an end from."""
        self.mdp = mdp
        self.ended = np.empty(mdp.num_states, bool)
        """States that are never left and never rewarded, and terminal ones."""
        kernels.absorbing_states(
            *(mdp._state_ptr, mdp._row_ptr, mdp._successors, mdp._weights, mdp._rewards, True, self.ended)
        )
        self.ending = np.zeros(len(mdp._actions), bool) if mdp._ending is None else mdp._ending
        self.state_of_row = mdp._state_of_row()
        self.transpose = kernels.transpose(mdp._row_ptr, mdp._successors, mdp.num_states)
        reached = self.ended.copy()
        reached[self.state_of_row[self.ending]] = True
        kernels.backward_reach(*self.transpose, mdp._weights, self.state_of_row, reached)
        if not reached.all():
            state = np.argmin(reached)
            raise ValueError(
                f"discount: found 1 and no way from state {state} to an end, expected less than 1, or that a terminal "
                "state, a transition that is terminated, or a state that is never left and never rewarded can be "
                "reached from every state"
            )
        certain = self.ended.copy()
        counts = np.bincount(self.state_of_row, minlength=mdp.num_states)
        kernels.endless_states(*self.transpose, mdp._weights, self.state_of_row, self.ending, certain, counts)
        self.endless = None if certain.all() else int(np.argmin(certain))
        """A state from which some policy never ends."""

    def most_steps(self) -> float:
        """At least the largest number of steps that is expected under any policy: the optimum of `expected_steps`;
        infinity where it is not found in MOST_SWEEPS."""
        if self.endless is not None:
            return np.inf
        mdp = self.mdp
        ones = (~self.ended[self.state_of_row]).astype(np.float64)
        steps, new = np.zeros(mdp.num_states), np.empty(mdp.num_states)
        policy, sweep = np.empty(mdp.num_states, np.int32), Sweeps(mdp, ones)
        for _ in range(MOST_SWEEPS):
            _, rise, size = sweep(steps, new, policy, 0.0)
            if rise <= SLACK:
                return max(1.0, float(size / (1 - rise)))
            steps, new = new, steps
        return np.inf

    def leading(self, value: Any, policy: Any, tie: float) -> Any:
        """The policy, or where it never ends, one of the same worth that does: of the actions within `tie` of the best,
        those that lead to an end, and soonest."""
        mdp = self.mdp
        q = np.full((mdp.num_states, mdp.num_actions), -np.inf)
        pieces = -(-mdp.num_states // kernels.BLOCK)
        kernels.q_values(*mdp._arrays, mdp._actions, 1.0, value, q, 0, pieces)
        allowed = q[self.state_of_row, mdp._actions] >= q.max(1)[self.state_of_row] - tie
        chosen = mdp._actions == policy[self.state_of_row]
        policy = policy.copy()
        reached = self.ended.copy()
        reached[self.state_of_row[self.ending & chosen]] = True
        # what the policy itself leads to an end stays as it is; the rest is led to that
        shared = (*self.transpose, mdp._weights, self.state_of_row, mdp._actions)
        kernels.steer(*shared, chosen, reached, policy)
        for row in np.flatnonzero(self.ending & allowed):
            state = self.state_of_row[row]
            if not reached[state]:
                reached[state], policy[state] = True, mdp._actions[row]
        kernels.steer(*shared, allowed, reached, policy)
        return policy
