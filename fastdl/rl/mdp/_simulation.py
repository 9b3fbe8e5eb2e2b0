"""Episodes of a model whose transitions are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdl.rl.mdp._lazy import kernels
from fastdl.rl.mdp._policy import checked_count, checked_start, shares_of_policy

if TYPE_CHECKING:
    from fastdl.rl.mdp._model import MDP


@dataclass(frozen=True, eq=False)
class Episode:
    """What happened, step by step.

    Attributes
    ----------
    states : (T + 1,) int32
        From the first to the last.
    actions : (T,) int32
        What was done in each but the last.
    rewards : (T,) float64
        What that earned.
    terminated : bool
        Whether it ended; False: the number of steps was used up.
    """

    states: Any
    actions: Any
    rewards: Any
    terminated: bool

    def __repr__(self) -> str:
        return f"Episode(steps={len(self.actions)}, return={self.rewards.sum():.6g}, terminated={self.terminated})"


def simulate(mdp: MDP, policy: Any, start: Any, steps: int, seed: Any) -> Episode:
    shares = shares_of_policy(mdp, policy)
    distribution = checked_start(mdp, start)
    steps = checked_count("steps", steps)
    rng = np.random.default_rng(seed)
    states, rows, gained = np.empty(steps + 1, np.int32), np.empty(steps, np.int64), np.empty(steps)
    states[0] = rng.choice(mdp.num_states, p=distribution / distribution.sum())
    by_transition = mdp._transition_rewards is not None
    made, over = kernels.episode(
        *(mdp._state_ptr, mdp._row_ptr, mdp._successors, mdp._probabilities, mdp._weights, mdp._rewards, by_transition),
        *(
            mdp._transition_rewards if by_transition else mdp._rewards,
            shares,
            rng.random((steps, 2)),
            states,
            rows,
            gained,
        ),
    )
    return Episode(states[: made + 1], mdp._actions[rows[:made]], gained[:made], bool(over))
