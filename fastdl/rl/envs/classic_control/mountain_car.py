"""A car in a valley that has to swing to get out (Moore 1990), pushed by one of three forces, or by any."""

from __future__ import annotations

from math import cos
from typing import Any

import numpy as np

from fastdl.rl._numba import compiled
from fastdl.rl.environment import Environment
from fastdl.rl.envs._options import as_in_gymnasium, gymnasium, number
from fastdl.rl.random import uniform

__all__ = ["mountain_car", "mountain_car_continuous"]

# What the state holds: position and velocity; whether they are float32, as Gymnasium's are after a step of the
# continuous car; parameters.
POSITION, VELOCITY, SINGLE = range(3)
GOAL_VELOCITY, FORCE, GRAVITY = range(3, 6)

LEFT_END, RIGHT_END, SPEED_LIMIT = -1.2, 0.6, 0.07


@compiled
def reset(state: Any, observation: Any, rng: Any) -> None:
    state[POSITION] = uniform(rng, -0.6, -0.4)
    state[VELOCITY] = state[SINGLE] = 0.0
    observation[0] = np.float32(state[POSITION])
    observation[1] = 0.0


@compiled
def step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    position, velocity = state[POSITION], state[VELOCITY]
    velocity += (action - 1) * state[FORCE] + cos(3 * position) * -state[GRAVITY]
    velocity = min(max(velocity, -SPEED_LIMIT), SPEED_LIMIT)
    position = min(max(position + velocity, LEFT_END), RIGHT_END)
    if position == LEFT_END and velocity < 0:
        velocity = 0.0
    state[POSITION], state[VELOCITY] = position, velocity
    observation[0], observation[1] = np.float32(position), np.float32(velocity)
    return -1.0, position >= 0.5 and velocity >= state[GOAL_VELOCITY]


@compiled
def rounded(x: Any, single: Any) -> Any:
    """A float64, or what float32 makes of it: the sum and the product of two float32, too, if rounded so."""
    return np.float64(np.float32(x)) if single else x


@compiled
def step_continuous(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    # Gymnasium computes in the types it is given: actions are float32, positions and velocities after the first step.
    position, velocity, single = state[POSITION], state[VELOCITY], state[SINGLE] != 0.0
    given = rounded(action[0], True)
    slope = state[GRAVITY] * cos(rounded(3 * position, single))
    if -1.0 <= given <= 1.0:
        push = rounded(rounded(given * rounded(state[FORCE], True), True) - rounded(slope, True), True)
    else:
        push = rounded((1.0 if given > 0.0 else -1.0) * state[FORCE] - slope, single)
    limit = rounded(SPEED_LIMIT, single)
    velocity = min(max(rounded(velocity + push, single), -limit), limit)
    left_end, right_end = rounded(LEFT_END, single), rounded(RIGHT_END, single)
    position = min(max(rounded(position + velocity, single), left_end), right_end)
    if position == left_end and velocity < 0:
        velocity = 0.0
    arrived = position >= rounded(0.45, single) and velocity >= rounded(state[GOAL_VELOCITY], single)
    state[POSITION] = observation[0] = np.float32(position)
    state[VELOCITY] = observation[1] = np.float32(velocity)
    state[SINGLE] = 1.0
    return (100.0 if arrived else 0.0) - given * given * 0.1, arrived


def _observation_space() -> Any:
    low, high = np.array([[LEFT_END, -SPEED_LIMIT], [RIGHT_END, SPEED_LIMIT]], np.float32)
    return gymnasium().spaces.Box(low, high, dtype=np.float32)


def mountain_car(
    *, goal_velocity: float = 0.0, force: float = 0.001, gravity: float = 0.0025, max_steps: int | None = 200
) -> Environment:
    """MountainCar-v0: a car in a valley, too weak to drive out, pushed to the left (0), not at all (1), or right (2).

    An observation is position and velocity; an episode starts at rest from [-0.6, -0.4) and ends at 0.5. Every step is
    rewarded with -1. The same numbers as Gymnasium's, from the same seed.

    Parameters
    ----------
    goal_velocity : float
        At least so fast has the car to arrive.
    force, gravity : float
        How much a push, and the steepest slope, change the velocity in a step.
    max_steps : int, optional
        After how many steps an episode is cut off.

    Returns
    -------
    Environment
        `state` is position and velocity, in float64, and parameters.

    Raises
    ------
    TypeError, ValueError
        An option that is no number or out of range.

    References
    ----------
    Moore, "Efficient memory-based learning for robot control" (1990); Sutton and Barto, "Reinforcement learning: an
    introduction" (2018), example 10.1.

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.envs.mountain_car().n_actions
    3
    """
    physics = {"force": number("force", force), "gravity": number("gravity", gravity)}
    options = {"goal_velocity": number("goal_velocity", goal_velocity)}
    return Environment(
        reset,
        step,
        _observation_space(),
        gymnasium().spaces.Discrete(3),
        state=[0.0] * 3 + [*options.values(), *physics.values()],
        **as_in_gymnasium("MountainCar-v0", mountain_car, max_steps, options, physics),
    )


def mountain_car_continuous(
    *, goal_velocity: float = 0.0, power: float = 0.0015, max_steps: int | None = 999
) -> Environment:
    """MountainCarContinuous-v0: a car in a valley, too weak to drive out, pushed by a force from -1 to 1.

    An observation is position and velocity; an episode starts at rest from [-0.6, -0.4) and ends at 0.45, rewarded with
    100. A step is rewarded with -0.1 times the square of the force. The same numbers as Gymnasium's, from the same seed
    and actions of float32, which its space has: others are rounded to it.

    Parameters
    ----------
    goal_velocity : float
        At least so fast has the car to arrive.
    power : float
        How much a force of 1 changes the velocity in a step.
    max_steps : int, optional
        After how many steps an episode is cut off.

    Returns
    -------
    Environment
        `state` is position and velocity, and parameters.

    Raises
    ------
    TypeError, ValueError
        An option that is no number or out of range.

    References
    ----------
    Moore, "Efficient memory-based learning for robot control" (1990).

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.envs.mountain_car_continuous().action_size
    1
    """
    options, physics = {"goal_velocity": number("goal_velocity", goal_velocity)}, {"power": number("power", power)}
    return Environment(
        reset,
        step_continuous,
        _observation_space(),
        gymnasium().spaces.Box(-1.0, 1.0, (1,), np.float32),
        state=[0.0] * 3 + [*options.values(), *physics.values(), 0.0025],
        **as_in_gymnasium("MountainCarContinuous-v0", mountain_car_continuous, max_steps, options, physics),
    )
