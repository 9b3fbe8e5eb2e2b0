"""A taxi that takes a passenger to a destination (Dietterich 2000)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.rl._numba import compiled
from fastdl.rl.environment import Environment
from fastdl.rl.envs._options import as_in_gymnasium, flag, gymnasium, number
from fastdl.rl.envs.toy_text.transitions import drawn
from fastdl.rl.random import integers, random

__all__ = ["taxi"]

# What the state holds: what is observed, whether the passenger will change the destination, and parameters.
PLACE, UNDECIDED = range(2)
RAINY, FORWARD, SIDEWAYS, FICKLE, FICKLENESS = range(2, 7)

SIZE, STANDS, INSIDE = 5, 4, 4
STAND_ROWS, STAND_COLUMNS = (0, 0, 4, 4), (0, 4, 0, 3)
"""Where the red, green, yellow and blue stands are."""

SOUTH, NORTH, EAST, WEST, PICK_UP, DROP_OFF = range(6)
LEFT_OF, RIGHT_OF = (EAST, WEST, NORTH, SOUTH), (WEST, EAST, SOUTH, NORTH)
"""The directions beside each."""


@compiled
def encoded(row: Any, column: Any, passenger: Any, destination: Any) -> Any:
    return ((row * SIZE + column) * (STANDS + 1) + passenger) * STANDS + destination


@compiled
def decoded(s: Any) -> Any:
    """Row and column of the taxi, stand of the passenger (or INSIDE) and of the destination."""
    place = s // (STANDS * (STANDS + 1))
    return place // SIZE, place % SIZE, s // STANDS % (STANDS + 1), s % STANDS


@compiled
def open_to_the_east(row: Any, column: Any) -> Any:
    if column < 0 or column == SIZE - 1:
        return False
    if row < 2:
        return column != 1
    return row == 2 or (column != 0 and column != 2)


@compiled
def moved(row: Any, column: Any, direction: Any) -> Any:
    if direction == SOUTH:
        row = min(row + 1, SIZE - 1)
    elif direction == NORTH:
        row = max(row - 1, 0)
    elif direction == EAST:
        column += open_to_the_east(row, column)
    else:
        column -= open_to_the_east(row, column - 1)
    return row, column


@compiled
def stand_at(row: Any, column: Any) -> Any:
    for i in range(STANDS):
        if row == STAND_ROWS[i] and column == STAND_COLUMNS[i]:
            return i
    return -1


@compiled
def outcomes(state: Any, s: Any, action: Any) -> Any:
    if state[RAINY] != 0.0 and action <= WEST:
        return 3, (state[FORWARD], state[SIDEWAYS], state[SIDEWAYS])
    return 1, (1.0, 0.0, 0.0)


@compiled
def outcome(state: Any, s: Any, action: Any, i: Any) -> Any:
    row, column, passenger, destination = decoded(s)
    if action <= WEST:
        forward = moved(row, column, action)
        if i == 0 or (forward[0] == row and forward[1] == column):  # what is blocked does not slip
            new = forward
        else:
            new = moved(row, column, LEFT_OF[action] if i == 1 else RIGHT_OF[action])
        return encoded(new[0], new[1], passenger, destination), -1.0, False
    stand = stand_at(row, column)
    if action == PICK_UP:
        if passenger != INSIDE and stand == passenger:
            return encoded(row, column, INSIDE, destination), -1.0, False
    elif passenger == INSIDE and stand >= 0:
        there = stand == destination
        return encoded(row, column, stand, destination), (20.0 if there else -1.0), there
    return s, -10.0, False


STARTS = np.array(
    [
        encoded.py_func(row, column, passenger, destination)
        for row in range(SIZE)
        for column in range(SIZE)
        for passenger in range(STANDS)
        for destination in range(STANDS)
        if passenger != destination
    ]
)
CUMULATIVE = np.cumsum(np.full(STARTS.size, 1.0 / STARTS.size))


@compiled
def reset(state: Any, observation: Any, rng: Any) -> None:
    x = random(rng)
    i = int(x * len(STARTS))  # or one beside it, as the sums are rounded
    while i > 0 and CUMULATIVE[i - 1] > x:
        i -= 1
    while i < len(STARTS) and CUMULATIVE[i] <= x:
        i += 1
    state[PLACE] = observation[0] = STARTS[i] if i < len(STARTS) else 0
    state[UNDECIDED] = state[FICKLE] != 0.0 and random(rng) < state[FICKLENESS]


@compiled
def step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    s = int(state[PLACE])
    new, reward, terminated = outcome(state, s, action, drawn(outcomes(state, s, action), rng))
    if state[UNDECIDED] != 0.0:
        row, column, passenger, destination = decoded(s)
        new_row, new_column, new_passenger, _ = decoded(new)
        if passenger == INSIDE and (new_row != row or new_column != column):
            state[UNDECIDED] = 0.0
            other = integers(rng, STANDS - 1)
            new = encoded(new_row, new_column, new_passenger, other + (other >= destination))
    state[PLACE] = observation[0] = new
    return reward, terminated


def taxi(
    *,
    is_rainy: bool = False,
    fickle_passenger: bool = False,
    rainy_probability: float = 0.8,
    fickle_probability: float = 0.3,
    max_steps: int | None = 200,
) -> Environment:
    """Taxi-v4: a taxi on 5 x 5 places takes a passenger from one of four stands to another.

    Actions are south (0), north (1), east (2), west (3), to pick up (4) and to drop off (5) the passenger. An
    observation is ((row * 5 + column) * 5 + passenger) * 4 + destination, where stands are red (0), green (1), yellow
    (2) and blue (3), and a passenger inside the taxi is 4. A step is rewarded with -1, to pick up or drop off what
    cannot be with -10, the arrival with 20, which ends an episode. The same numbers as Gymnasium's, from the same seed;
    without options also those of Taxi-v3.

    Parameters
    ----------
    is_rainy : bool
        Whether the taxi moves only by chance where it should, else to either side of it.
    fickle_passenger : bool
        Whether passengers may change their destination in the first move with them.
    rainy_probability : float
        The probability of moving where it should, in rain.
    fickle_probability : float
        The probability that a fickle passenger changes the destination.
    max_steps : int, optional
        After how many steps an episode is cut off.

    Returns
    -------
    Environment
        ``state[0]`` is what is observed.

    Raises
    ------
    TypeError, ValueError
        An option that is out of range.

    References
    ----------
    Dietterich, "Hierarchical reinforcement learning with the MAXQ value function decomposition" (2000).

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.envs.taxi(is_rainy=True).observation_space
    Discrete(500)
    """
    options = {
        "is_rainy": flag("is_rainy", is_rainy),
        "fickle_passenger": flag("fickle_passenger", fickle_passenger),
        "rainy_probability": number("rainy_probability", rainy_probability, 0.0, 1.0),
        "fickle_probability": number("fickle_probability", fickle_probability, 0.0, 1.0),
    }
    forward = options["rainy_probability"]
    spaces = gymnasium().spaces
    return Environment(
        reset,
        step,
        spaces.Discrete(SIZE * SIZE * (STANDS + 1) * STANDS),
        spaces.Discrete(6),
        state=[0.0, 0.0, is_rainy, forward, (1.0 - forward) / 2.0, fickle_passenger, options["fickle_probability"]],
        **as_in_gymnasium(("Taxi-v4", "Taxi-v3"), taxi, max_steps, options),
    )
