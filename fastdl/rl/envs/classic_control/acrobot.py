"""Two links that hang from a bar, driven at the joint between them, to be swung up (Sutton 1996)."""

from __future__ import annotations

from math import cos, pi, sin
from typing import Any

import numpy as np

from fastdl.rl._numba import compiled
from fastdl.rl.environment import Environment
from fastdl.rl.envs._options import as_in_gymnasium, gymnasium, number
from fastdl.rl.random import uniform

__all__ = ["acrobot"]

# What the state holds: the angles of the first link and of the second to it, their velocities, and parameters.
ANGLE_1, ANGLE_2, VELOCITY_1, VELOCITY_2 = range(4)
TIME_STEP, NOISE, NIPS = range(4, 7)

SPEED_LIMIT_1, SPEED_LIMIT_2 = 4 * pi, 9 * pi

# Masses, lengths, and moments of inertia of both links are 1; their centres of mass are in their middles.
CENTRE, GRAVITY = 0.5, 9.8


@compiled
def observe(state: Any, observation: Any) -> None:
    for i in range(2):
        observation[2 * i] = np.float32(cos(state[i]))
        observation[2 * i + 1] = np.float32(sin(state[i]))
        observation[4 + i] = np.float32(state[2 + i])


@compiled
def reset(state: Any, observation: Any, rng: Any) -> None:
    for i in range(4):
        state[i] = np.float32(uniform(rng, -0.1, 0.1))
    observe(state, observation)


@compiled
def slope(y: Any, torque: Any, nips: Any) -> Any:
    """What angles and velocities change by in time."""
    angle_1, angle_2, velocity_1, velocity_2 = y
    d1 = CENTRE**2 + (1.0 + CENTRE**2 + 2 * CENTRE * cos(angle_2)) + 1.0 + 1.0
    d2 = (CENTRE**2 + CENTRE * cos(angle_2)) + 1.0
    phi_2 = CENTRE * GRAVITY * cos(angle_1 + angle_2 - pi / 2.0)
    phi_1 = (
        -CENTRE * (velocity_2 * velocity_2) * sin(angle_2)
        - 2 * CENTRE * velocity_2 * velocity_1 * sin(angle_2)
        + (CENTRE + 1.0) * GRAVITY * cos(angle_1 - pi / 2)
        + phi_2
    )
    driven = torque + d2 / d1 * phi_1
    if not nips:
        driven -= CENTRE * (velocity_1 * velocity_1) * sin(angle_2)
    acceleration_2 = (driven - phi_2) / (CENTRE**2 + 1.0 - d2 * d2 / d1)
    acceleration_1 = -(d2 * acceleration_2 + phi_1) / d1
    return velocity_1, velocity_2, acceleration_1, acceleration_2


@compiled
def moved(y: Any, time: Any, k: Any) -> Any:
    return y[0] + time * k[0], y[1] + time * k[1], y[2] + time * k[2], y[3] + time * k[3]


@compiled
def wrapped(angle: Any) -> Any:
    while angle > pi:
        angle -= 2 * pi
    while angle < -pi:
        angle += 2 * pi
    return angle


@compiled
def step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    torque, nips, time = action - 1.0, state[NIPS] != 0.0, state[TIME_STEP]
    if state[NOISE] > 0.0:
        torque += uniform(rng, -state[NOISE], state[NOISE])

    # Runge and Kutta's method of order 4.
    y = state[ANGLE_1], state[ANGLE_2], state[VELOCITY_1], state[VELOCITY_2]
    half = time / 2.0
    k1 = slope(y, torque, nips)
    k2 = slope(moved(y, half, k1), torque, nips)
    k3 = slope(moved(y, half, k2), torque, nips)
    k4 = slope(moved(y, time, k3), torque, nips)
    for i in range(4):
        state[i] = y[i] + time / 6.0 * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i])

    state[ANGLE_1], state[ANGLE_2] = wrapped(state[ANGLE_1]), wrapped(state[ANGLE_2])
    state[VELOCITY_1] = min(max(state[VELOCITY_1], -SPEED_LIMIT_1), SPEED_LIMIT_1)
    state[VELOCITY_2] = min(max(state[VELOCITY_2], -SPEED_LIMIT_2), SPEED_LIMIT_2)
    observe(state, observation)
    up = -cos(state[ANGLE_1]) - cos(state[ANGLE_2] + state[ANGLE_1]) > 1.0
    return (0.0 if up else -1.0), up


def acrobot(
    *,
    dt: float = 0.2,
    torque_noise_max: float = 0.0,
    book_or_nips: str = "book",
    max_steps: int | None = 500,
) -> Environment:
    """Acrobot-v1: two links that hang from a bar, driven at the joint between them, to be swung up above a line.

    Actions are the torques -1, 0 and 1. An observation is cosine and sine of the first link's angle from hanging down,
    the same of the second's to the first, and the angular velocities; an episode starts with angles and velocities from
    [-0.1, 0.1) and ends when the tip is a link's length above the bar. Steps are rewarded with -1, the last one with 0.

    From the same seed an episode starts as Gymnasium's does, and goes as that one to rounding: squares are taken by the
    power function there, which now and then rounds to the other side.

    Parameters
    ----------
    dt : float
        Time of a step, in s; the method is Runge and Kutta's of order 4.
    torque_noise_max : float
        How much is added to a torque at most, at random.
    book_or_nips : "book" or "nips"
        Whose equations: those of Sutton and Barto's book, or those of Sutton's article.
    max_steps : int, optional
        After how many steps an episode is cut off.

    Returns
    -------
    Environment
        `state` is both angles and angular velocities, in float64, and parameters.

    Raises
    ------
    TypeError, ValueError
        An option that is no number, out of range, or unknown.

    References
    ----------
    Sutton, "Generalization in reinforcement learning: successful examples using sparse coarse coding" (1996); Sutton
    and Barto, "Reinforcement learning: an introduction" (1998), section 11.3.

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.envs.acrobot().observation_size
    6
    """
    if book_or_nips not in ("book", "nips"):
        raise ValueError(f"book_or_nips: found {book_or_nips!r}, expected 'book' or 'nips'")
    physics = {
        "dt": number("dt", dt, 0.0, above=True),
        "torque_noise_max": number("torque_noise_max", torque_noise_max, 0.0),
        "book_or_nips": book_or_nips,
    }
    spaces = gymnasium().spaces
    high = np.array([1.0, 1.0, 1.0, 1.0, SPEED_LIMIT_1, SPEED_LIMIT_2], np.float32)
    return Environment(
        reset,
        step,
        spaces.Box(-high, high, dtype=np.float32),
        spaces.Discrete(3),
        state=[0.0] * 4 + [float(dt), float(torque_noise_max), book_or_nips == "nips"],
        **as_in_gymnasium("Acrobot-v1", acrobot, max_steps, physics=physics),
    )
