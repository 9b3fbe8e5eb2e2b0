"""A way along a cliff (Sutton and Barto 2018, example 6.6)."""

from __future__ import annotations

from typing import Any

from fastdl.rl._numba import compiled
from fastdl.rl.environment import Environment
from fastdl.rl.envs._options import as_in_gymnasium, flag, gymnasium
from fastdl.rl.envs.toy_text.transitions import drawn
from fastdl.rl.random import random

__all__ = ["cliff_walking"]

# What the state holds.
PLACE, SLIPPERY = range(2)

ROWS, COLUMNS = 4, 12
START, GOAL = 36, 47


@compiled
def reset(state: Any, observation: Any, rng: Any) -> None:
    random(rng)  # Gymnasium draws the one start there is
    state[PLACE] = observation[0] = START


@compiled
def outcomes(state: Any, s: Any, action: Any) -> Any:
    if state[SLIPPERY] != 0.0:
        return 3, (1 / 3, 1 / 3, 1 / 3)
    return 1, (1.0, 0.0, 0.0)


@compiled
def outcome(state: Any, s: Any, action: Any, i: Any) -> Any:
    direction = (action + i - 1) % 4 if state[SLIPPERY] != 0.0 else action
    row, column = s // COLUMNS, s % COLUMNS
    if direction == 0:
        row = max(row - 1, 0)
    elif direction == 1:
        column = min(column + 1, COLUMNS - 1)
    elif direction == 2:
        row = min(row + 1, ROWS - 1)
    else:
        column = max(column - 1, 0)
    place = row * COLUMNS + column
    if START < place < GOAL:
        return START, -100.0, False
    return place, -1.0, place == GOAL


@compiled
def step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    s = int(state[PLACE])
    place, reward, terminated = outcome(state, s, action, drawn(outcomes(state, s, action), rng))
    state[PLACE] = observation[0] = place
    return reward, terminated


def cliff_walking(*, is_slippery: bool = False, max_steps: int | None = None) -> Environment:
    """CliffWalking-v1: a way over 4 x 12 tiles from the lower left to the lower right, along a cliff.

    Actions are up (0), right (1), down (2) and left (3). An observation is the number of the tile one is on, row by
    row. A step is rewarded with -1, one over the cliff with -100 and leads back to the start; an episode ends at the
    goal. The same numbers as Gymnasium's, from the same seed.

    Parameters
    ----------
    is_slippery : bool
        Whether one moves where one wants to with probability 1/3 only, else to either side of it.
    max_steps : int, optional
        After how many steps an episode is cut off; Gymnasium's are not.

    Returns
    -------
    Environment
        ``state[0]`` is the tile.

    Raises
    ------
    TypeError
        An option that is not True or False.

    References
    ----------
    Sutton and Barto, "Reinforcement learning: an introduction" (2018), example 6.6.

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.envs.cliff_walking()
    Environment(CliffWalking-v1, Discrete(48) -> Discrete(4), max_steps=None)
    """
    options = {"is_slippery": flag("is_slippery", is_slippery)}
    spaces = gymnasium().spaces
    return Environment(
        reset,
        step,
        spaces.Discrete(ROWS * COLUMNS),
        spaces.Discrete(4),
        state=[START, is_slippery],
        **as_in_gymnasium(("CliffWalking-v1", "CliffWalking-v0"), cliff_walking, max_steps, options),
    )
