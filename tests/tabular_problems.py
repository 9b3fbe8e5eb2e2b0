"""Small environments and tables that tabular agents are tested on, those of Sutton and Barto (2018) among them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numba
import numpy as np

from fastdl import rl
from fastdl.rl.random import normal

spaces = gymnasium.spaces
Table = rl.tabular.Table


@numba.njit(cache=True)
def cliff_reset(state: Any, observation: Any, rng: Any) -> None:
    state[0] = observation[0] = 36.0


@numba.njit(cache=True)
def cliff_step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    """Example 6.6, as Gymnasium numbers it: up, right, down, left."""
    row, column = int(state[0]) // 12, int(state[0]) % 12
    if action == 0:
        row = max(row - 1, 0)
    elif action == 1:
        column = min(column + 1, 11)
    elif action == 2:
        row = min(row + 1, 3)
    else:
        column = max(column - 1, 0)
    reward, terminated = -1.0, row == 3 and column == 11
    if row == 3 and 1 <= column <= 10:
        reward, column = -100.0, 0
    state[0] = observation[0] = row * 12 + column
    return reward, terminated


CLIFF = rl.Environment(cliff_reset, cliff_step, spaces.Discrete(48), spaces.Discrete(4), state=1, name="cliff")


@numba.njit(cache=True)
def windy_reset(state: Any, observation: Any, rng: Any) -> None:
    state[0], state[1] = 3.0, 0.0
    observation[0], observation[1] = 3.0, 0.0


@numba.njit(cache=True)
def windy_step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    """Example 6.5: 7 rows and 10 columns; the wind of the column that is left blows up."""
    row, column = int(state[0]), int(state[1])
    wind = 0
    if 3 <= column <= 5 or column == 8:
        wind = 1
    elif 6 <= column <= 7:
        wind = 2
    if action == 0:
        row -= 1
    elif action == 1:
        row += 1
    elif action == 2:
        column -= 1
    else:
        column += 1
    row, column = min(max(row - wind, 0), 6), min(max(column, 0), 9)
    state[0], state[1] = row, column
    observation[0], observation[1] = row, column
    return -1.0, row == 3 and column == 7


WINDY = rl.Environment(
    windy_reset, windy_step, spaces.MultiDiscrete([7, 10]), spaces.Discrete(4), state=2, name="windy gridworld"
)


@numba.njit(cache=True)
def bias_reset(state: Any, observation: Any, rng: Any) -> None:
    state[0] = observation[0] = 0.0


@numba.njit(cache=True)
def bias_step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    """Figure 6.5: from A to the right is the end, to the left is B, all of whose actions pay -0.1 on average. Every
    state has ten actions here: those of A are five times either."""
    if state[0] == 0.0:
        state[0] = observation[0] = 1.0
        return 0.0, action >= 5
    observation[0] = 1.0
    return -0.1 + normal(rng), True


BIAS = rl.Environment(
    bias_reset, bias_step, spaces.Discrete(2), spaces.Discrete(10), state=1, max_steps=2, name="maximization bias"
)


@numba.njit(cache=True)
def counter_reset(state: Any, observation: Any, rng: Any) -> None:
    observation[0] = 0.0


@numba.njit(cache=True)
def counter_step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    """Counts what is done."""
    state[action] += 1.0
    observation[0] = 0.0
    return 0.0, False


COUNTER = rl.Environment(
    counter_reset, counter_step, spaces.Discrete(1), spaces.Discrete(4), state=4, name="counter of actions"
)


@numba.njit(cache=True)
def pair_reset(state: Any, observation: Any, rng: Any) -> None:
    state[0] = observation[0] = observation[1] = 0.0


@numba.njit(cache=True)
def pair_step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    """Goes over all pairs of integers, and pays what says which it was."""
    before = int(state[0])
    state[0] = (before + 1) % 6
    observation[0], observation[1] = state[0] // 3, state[0] % 3
    return 10.0 * (before // 3) + before % 3, False


PAIR = rl.Environment(pair_reset, pair_step, spaces.MultiDiscrete([2, 3]), spaces.Discrete(2), state=1, name="pairs")


@numba.njit(cache=True)
def late_reset(state: Any, observation: Any, rng: Any) -> None:
    state[0] = observation[0] = 0.0


@numba.njit(cache=True)
def late_step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    """Goes wrong after 300 steps, later than a check looks: as state[1] says."""
    state[0] += 1.0
    observation[0] = 0.0
    if state[0] == 300.0:
        if state[1] == 0.0:
            return np.nan, False
        if state[1] == 1.0:
            observation[0] = 5.0
        else:
            raise RuntimeError("out of order")
    return 0.0, False


def late(fault: int) -> rl.Environment:
    """An environment of which one finds out late that something is wrong with it."""
    return rl.Environment(late_reset, late_step, spaces.Discrete(2), spaces.Discrete(2), state=[0.0, fault])


def deterministic(seed: int, n_states: int = 7, n_actions: int = 3) -> dict[int, Any]:
    """A table without chance, with a few ends."""
    rng = np.random.default_rng(seed)
    return {
        s: {
            a: [(1.0, int(rng.integers(n_states)), float(rng.integers(-3, 4)), bool(rng.random() < 0.12))]
            for a in range(n_actions)
        }
        for s in range(n_states)
    }


def loop(terminated: bool) -> Any:
    """One state, one action, a reward of 1."""
    return Table.from_gymnasium({0: {0: [(1.0, 0, 1.0, terminated)]}}, start=0)


def walk(n: int, left: float, right: float) -> Any:
    """Examples 6.2 and 7.1: n states in a row, either end pays."""
    P = {
        s: {
            0: [
                (0.5, max(s - 1, 0), left if s == 0 else 0.0, s == 0),
                (0.5, min(s + 1, n - 1), right if s == n - 1 else 0.0, s == n - 1),
            ]
        }
        for s in range(n)
    }
    return Table.from_gymnasium(P, start=n // 2)


MAZE = ["       #G", "  #    # ", "S #    # ", "  #      ", "     #   ", "         "]


def maze() -> Any:
    """Figure 8.2: Dyna maze, 1 for reaching the goal."""
    cells = {(i, j): None for i, row in enumerate(MAZE) for j, cell in enumerate(row) if cell != "#"}
    number = {cell: k for k, cell in enumerate(cells)}
    P: dict[int, Any] = {}
    for (i, j), s in number.items():
        P[s] = {}
        for a, (di, dj) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
            s2 = number.get((i + di, j + dj), s)
            goal = s2 == number[0, 8]
            P[s][a] = [(1.0, s2, float(goal), goal)]
    return Table.from_gymnasium(P, start=number[2, 0])
