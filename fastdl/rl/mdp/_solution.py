"""What solvers return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Solution:
    """A value function, a policy, and how far they can be from what was looked for.

    Attributes
    ----------
    value : (S,) float64
        The value of each state.
    policy : (S,) int32, or as it was given
        The action of each state, -1 in a state without actions. Of an evaluation, the policy that was evaluated.
    iterations : int
        Sweeps, improvements of a policy or, of `prioritized_sweeping`, backups of one state.
    bound : float
        No state's value is further from the true one, and the policy is worth at most so much less than an optimal one
        in any state. (Of an evaluation, only the first.) What rounding can add is included. Infinite where nothing is
        known, which takes a discount of 1 and policies that never end.
    converged : bool
        Whether `bound` is what was asked for; where it is infinite, whether values changed no more than that in the
        last sweep.
    """

    value: Any
    policy: Any
    iterations: int
    bound: float
    converged: bool

    def __repr__(self) -> str:
        return (
            f"Solution(states={len(self.value)}, iterations={self.iterations}, bound={self.bound:.3g}, "
            f"converged={self.converged})"
        )


@dataclass(frozen=True, eq=False)
class FiniteHorizonSolution:
    """What is optimal with so many steps to go.

    Attributes
    ----------
    value : (N + 1, S) float64
        value[t] is that of the states at time t, value[N] what they are worth at the end.
    policy : (N, S) int32
        The action of each state at time t, -1 in a state without actions.
    """

    value: Any
    policy: Any

    def __repr__(self) -> str:
        return f"FiniteHorizonSolution(horizon={self.policy.shape[0]}, states={self.policy.shape[1]})"
