"""A pendulum to be swung up and held, by a torque too weak to lift it."""

from __future__ import annotations

from math import cos, pi, sin
from typing import Any

import numpy as np

from fastdl.rl._numba import compiled
from fastdl.rl.environment import Environment
from fastdl.rl.envs._options import as_in_gymnasium, gymnasium, number
from fastdl.rl.random import uniform

__all__ = ["pendulum"]

# What the state holds: the angle from upright, which is not wrapped, and its velocity; what gravity and torque are
# multiplied with.
ANGLE, VELOCITY = range(2)
PULL, LEVER = range(2, 4)

SPEED_LIMIT, TORQUE_LIMIT, TIME_STEP = 8.0, 2.0, 0.05


@compiled
def observe(state: Any, observation: Any) -> None:
    observation[0] = np.float32(cos(state[ANGLE]))
    observation[1] = np.float32(sin(state[ANGLE]))
    observation[2] = np.float32(state[VELOCITY])


@compiled
def reset(state: Any, observation: Any, rng: Any) -> None:
    state[ANGLE] = uniform(rng, -pi, pi)
    state[VELOCITY] = uniform(rng, -1.0, 1.0)
    observe(state, observation)


@compiled
def step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    angle, velocity = state[ANGLE], state[VELOCITY]
    # The torque, and what is computed of it alone, is float32, as the space of actions says.
    torque = np.float32(min(max(action[0], -TORQUE_LIMIT), TORQUE_LIMIT))
    from_upright = (angle + pi) % (2 * pi) - pi
    cost = from_upright * from_upright + 0.1 * (velocity * velocity) + np.float32(0.001) * (torque * torque)

    velocity += (state[PULL] * sin(angle) + np.float32(state[LEVER]) * torque) * TIME_STEP
    state[VELOCITY] = min(max(velocity, -SPEED_LIMIT), SPEED_LIMIT)
    state[ANGLE] = angle + state[VELOCITY] * TIME_STEP
    observe(state, observation)
    return -cost, False


def pendulum(*, g: float = 10.0, m: float = 1.0, l: float = 1.0, max_steps: int | None = 200) -> Environment:
    """Pendulum-v1: a pendulum to be swung up and held, by a torque from -2 to 2 that is too weak to lift it.

    An observation is cosine and sine of the angle from upright, and the angular velocity. An episode starts with an
    angle from [-pi, pi) and a velocity from [-1, 1), and never ends by itself. The reward of a step is
    -(angle^2 + 0.1 velocity^2 + 0.001 torque^2), with the angle and velocity before it.

    The same movement as Gymnasium's bit for bit, from the same seed and actions of float32, which its space has: others
    are rounded to it. Rewards are the same to rounding, as squares are taken by the power function there.

    Parameters
    ----------
    g : float
        Gravity, in m/s^2.
    m : float
        The pendulum's mass, in kg.
    l : float
        Its length, in m.
    max_steps : int, optional
        After how many steps an episode is cut off.

    Returns
    -------
    Environment
        `state` is the angle, which is not wrapped, and its velocity, in float64, and parameters.

    Raises
    ------
    TypeError, ValueError
        An option that is no number or out of range.

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.envs.pendulum(g=9.81).action_space
    Box(-2.0, 2.0, (1,), float32)
    """
    options = {"g": number("g", g)}
    physics = {"m": number("m", m, 0.0, above=True), "l": number("l", l, 0.0, above=True)}
    spaces = gymnasium().spaces
    high = np.array([1.0, 1.0, SPEED_LIMIT], np.float32)
    return Environment(
        reset,
        step,
        spaces.Box(-high, high, dtype=np.float32),
        spaces.Box(-TORQUE_LIMIT, TORQUE_LIMIT, (1,), np.float32),
        state=[0.0, 0.0, 3 * float(g) / (2 * float(l)), 3.0 / (float(m) * float(l) ** 2)],
        **as_in_gymnasium("Pendulum-v1", pendulum, max_steps, options, physics),
    )
