"""A frozen lake to be crossed without falling into a hole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastdl.rl._numba import compiled
from fastdl.rl.environment import Environment
from fastdl.rl.envs._options import as_in_gymnasium, flag, gymnasium, number
from fastdl.rl.envs.toy_text.transitions import drawn
from fastdl.rl.random import random

__all__ = ["frozen_lake", "random_map"]

MAPS = {
    "4x4": ["SFFF", "FHFH", "FFFH", "HFFG"],
    "8x8": ["SFFFFFFF", "FFFFFFFF", "FFFHFFFF", "FFFFFHFF", "FFFHFFFF", "FHHFFFHF", "FHFFHFHF", "FFFHFFFG"],
}

# What the state holds: the tile one is on; the map's size, the probability of each start, parameters; from TILES on,
# the letters of the map.
PLACE = 0
ROWS, COLUMNS, START, SLIPPERY, SUCCESS, FAILURE = range(1, 7)
REWARDS, TILES = 7, 10

LETTERS = "GHFS"
"""A tile's letter is its number here, which is also where its reward is; start tiles have that of frozen ones."""

GOAL, HOLE, FROZEN, STARTING = range(4)


@compiled
def reset(state: Any, observation: Any, rng: Any) -> None:
    x, total, place = random(rng), 0.0, 0
    for i in range(int(state[ROWS] * state[COLUMNS])):
        if state[TILES + i] == STARTING:
            total += state[START]
            if total > x:
                place = i
                break
    state[PLACE] = observation[0] = place


@compiled
def outcomes(state: Any, s: Any, action: Any) -> Any:
    if state[SLIPPERY] != 0.0 and state[TILES + s] > HOLE:
        return 3, (state[FAILURE], state[SUCCESS], state[FAILURE])
    return 1, (1.0, 0.0, 0.0)


@compiled
def outcome(state: Any, s: Any, action: Any, i: Any) -> Any:
    if state[TILES + s] <= HOLE:
        return s, 0.0, True
    direction = (action + i - 1) % 4 if state[SLIPPERY] != 0.0 else action
    rows, columns = int(state[ROWS]), int(state[COLUMNS])
    row, column = s // columns, s % columns
    if direction == 0:
        column = max(column - 1, 0)
    elif direction == 1:
        row = min(row + 1, rows - 1)
    elif direction == 2:
        column = min(column + 1, columns - 1)
    else:
        row = max(row - 1, 0)
    place = row * columns + column
    tile = int(state[TILES + place])
    return place, state[REWARDS + min(tile, FROZEN)], tile <= HOLE


@compiled
def step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    s = int(state[PLACE])
    place, reward, terminated = outcome(state, s, action, drawn(outcomes(state, s, action), rng))
    state[PLACE] = observation[0] = place
    return reward, terminated


def random_map(size: int = 8, p: float = 0.8, seed: int | None = None) -> list[str]:
    """A random square map for `frozen_lake` on which the goal can be reached, the same as Gymnasium's of that seed.

    Parameters
    ----------
    size : int
        How many tiles a side has, at least 2.
    p : float
        The probability that a tile is frozen, above 0 and up to 1.
    seed : int, optional
        Of the random numbers.

    Returns
    -------
    list of str
        A string a row: S is the start, at the upper left, G the goal, at the lower right, F ice, H a hole.

    Raises
    ------
    ValueError
        A size or probability out of range.

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.envs.random_map(4, seed=1)
    ['SHFH', 'FFHF', 'FFFF', 'FFFG']
    """
    if not isinstance(size, (int, np.integer)):
        raise TypeError(f"size: found {size!r}, expected an integer")
    if size < 2:
        raise ValueError(f"size: found {size}, expected an integer from 2")
    p = number("p", p, 0.0, 1.0, above=True)
    rng = np.random.default_rng(seed)
    while True:
        tiles = rng.choice(["F", "H"], (size, size), p=[p, 1 - p])
        tiles[0, 0], tiles[-1, -1] = "S", "G"
        rows = ["".join(row) for row in tiles]
        if _connected(rows):
            return rows


def _connected(rows: Sequence[str]) -> bool:
    """Whether there is a way from the upper left to a goal, not over holes."""
    reached, new = set(), {(0, 0)}
    while new:
        reached |= new
        beside = {(r + dr, c + dc) for r, c in new for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))}
        inside = {(r, c) for r, c in beside if 0 <= r < len(rows) and 0 <= c < len(rows[0]) and rows[r][c] != "H"}
        new = inside - reached
    return any(rows[r][c] == "G" for r, c in reached)


def _checked_map(desc: Any) -> list[str]:
    if not (isinstance(desc, (list, tuple, np.ndarray)) and len(desc) and all(isinstance(row, str) for row in desc)):
        raise TypeError(f"desc: found {desc!r}, expected a list of strings, one a row")
    rows = [str(row) for row in desc]
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"desc: found rows of {[len(row) for row in rows]} tiles, expected rows of one length")
    unknown = sorted(set("".join(rows)) - set(LETTERS))
    if unknown:
        raise ValueError(
            f"desc: found {', '.join(map(repr, unknown))}, expected S (start), F (ice), H (hole), G (goal)"
        )
    for letter, what in (("S", "start"), ("G", "goal")):
        if not any(letter in row for row in rows):
            raise ValueError(f"desc: found no {letter} in {rows}, expected at least one {what}")
    return rows


def frozen_lake(
    *,
    desc: Sequence[str] | None = None,
    map_name: str | None = "4x4",
    is_slippery: bool = True,
    success_rate: float = 1.0 / 3.0,
    reward_schedule: tuple[float, float, float] = (1, 0, 0),
    max_steps: int | None = 100,
) -> Environment:
    """FrozenLake-v1: a way over ice from the start to the goal, without falling into a hole.

    Actions are left (0), down (1), right (2) and up (3). An observation is the number of the tile one is on, row by
    row. An episode ends in a hole or at the goal. The same numbers as Gymnasium's, from the same seed.

    Parameters
    ----------
    desc : sequence of str, optional
        The map, a string a row: S is a start, F ice, H a hole, G a goal.
    map_name : "4x4", "8x8" or None
        A map that is known, where `desc` is None; None: a random one of `random_map`.
    is_slippery : bool
        Whether one moves only by chance where one wants to, else to either side of it.
    success_rate : float
        The probability to move where one wants to on slippery ice.
    reward_schedule : tuple of three floats
        The rewards of reaching a goal, a hole, and ice.
    max_steps : int, optional
        After how many steps an episode is cut off. FrozenLake8x8-v1 has 200.

    Returns
    -------
    Environment
        ``state[0]`` is the tile; the rest are parameters and the map.

    Raises
    ------
    TypeError, ValueError
        A map of another form, with other letters, or without start or goal; options that are out of range.

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.envs.frozen_lake(desc=["SFF", "FHG"], is_slippery=False).observation_space
    Discrete(6)
    """
    options: dict[str, Any] = {
        "is_slippery": flag("is_slippery", is_slippery),
        "success_rate": number("success_rate", success_rate, 0.0, 1.0),
    }
    if not isinstance(reward_schedule, (tuple, list)) or len(reward_schedule) != 3:
        raise ValueError(f"reward_schedule: found {reward_schedule!r}, expected three numbers: goal, hole, ice")
    options["reward_schedule"] = tuple(number("reward_schedule", reward) for reward in reward_schedule)
    if desc is not None or map_name is None:
        options["desc"] = rows = random_map() if desc is None else _checked_map(desc)
    elif map_name in MAPS:
        options["map_name"], rows = map_name, MAPS[map_name]
    else:
        raise ValueError(f"map_name: found {map_name!r}, expected one of {', '.join(MAPS)}, or None")
    tiles = [LETTERS.index(letter) for row in rows for letter in row]
    spaces = gymnasium().spaces
    return Environment(
        reset,
        step,
        spaces.Discrete(len(tiles)),
        spaces.Discrete(4),
        state=[
            *(0, len(rows), len(rows[0]), 1.0 / tiles.count(STARTING)),
            *(options["is_slippery"], options["success_rate"], (1.0 - options["success_rate"]) / 2.0),
            *options["reward_schedule"],
            *tiles,
        ],
        **as_in_gymnasium("FrozenLake-v1", frozen_lake, max_steps, options),
    )
