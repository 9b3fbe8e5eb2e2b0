"""A pole on a cart, to be kept upright (Barto, Sutton and Anderson 1983)."""

from __future__ import annotations

from math import cos, inf, pi, sin
from typing import Any

import numpy as np

from fastdl.rl._numba import compiled
from fastdl.rl.environment import Environment
from fastdl.rl.envs._options import as_in_gymnasium, flag, gymnasium, number
from fastdl.rl.random import uniform

__all__ = ["cart_pole"]

# What the state holds: position and velocity of the cart, angle and angular velocity of the pole, and parameters.
POSITION, VELOCITY, ANGLE, ANGULAR_VELOCITY = range(4)
GRAVITY, CART_MASS, POLE_MASS, HALF_LENGTH, FORCE, TIME_STEP, SUTTON_BARTO = range(4, 11)

ANGLE_LIMIT = 12 * 2 * pi / 360
POSITION_LIMIT = 2.4


@compiled
def observe(state: Any, observation: Any) -> None:
    for i in range(4):
        observation[i] = np.float32(state[i])


@compiled
def reset(state: Any, observation: Any, rng: Any) -> None:
    for i in range(4):
        state[i] = uniform(rng, -0.05, 0.05)
    observe(state, observation)


@compiled
def step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    time_step, pole_mass, half_length = state[TIME_STEP], state[POLE_MASS], state[HALF_LENGTH]
    mass, moment = pole_mass + state[CART_MASS], pole_mass * half_length
    force = state[FORCE] if action == 1 else -state[FORCE]
    velocity, angle, angular_velocity = state[VELOCITY], state[ANGLE], state[ANGULAR_VELOCITY]

    # Florian, "Correct equations for the dynamics of the cart-pole system" (2007), without friction.
    cosine, sine = cos(angle), sin(angle)
    pushed = (force + moment * (angular_velocity * angular_velocity) * sine) / mass
    angular_acceleration = (state[GRAVITY] * sine - cosine * pushed) / (
        half_length * (4.0 / 3.0 - pole_mass * (cosine * cosine) / mass)
    )
    acceleration = pushed - moment * angular_acceleration * cosine / mass

    state[POSITION] += time_step * velocity
    state[VELOCITY] = velocity + time_step * acceleration
    state[ANGLE] = angle + time_step * angular_velocity
    state[ANGULAR_VELOCITY] = angular_velocity + time_step * angular_acceleration
    observe(state, observation)

    fallen = abs(state[POSITION]) > POSITION_LIMIT or abs(state[ANGLE]) > ANGLE_LIMIT
    if state[SUTTON_BARTO] != 0.0:
        return (-1.0 if fallen else 0.0), fallen
    return 1.0, fallen


def cart_pole(
    *,
    sutton_barto_reward: bool = False,
    gravity: float = 9.8,
    masscart: float = 1.0,
    masspole: float = 0.1,
    length: float = 0.5,
    force_mag: float = 10.0,
    tau: float = 0.02,
    max_steps: int | None = 500,
) -> Environment:
    """CartPole-v1: a pole on a cart that is pushed to the left (0) or to the right (1), to be kept upright.

    An observation is the cart's position and velocity and the pole's angle and angular velocity; an episode starts with
    each from [-0.05, 0.05) and ends when the angle is beyond 12 degrees or the position beyond 2.4. The same numbers
    as Gymnasium's, from the same seed.

    Parameters
    ----------
    sutton_barto_reward : bool
        Whether a step is rewarded with 0 and the fall with -1, instead of 1 for every step.
    gravity : float
        In m/s^2.
    masscart, masspole : float
        In kg.
    length : float
        Half of the pole's, in m.
    force_mag : float
        With which the cart is pushed, in N.
    tau : float
        Time of a step, in s; the method is Euler's.
    max_steps : int, optional
        After how many steps an episode is cut off.

    Returns
    -------
    Environment
        `state` is the four numbers observed, in float64, and the parameters.

    Raises
    ------
    TypeError, ValueError
        An option that is no number or out of range.

    References
    ----------
    Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve difficult learning control problems"
    (1983); the equations are Florian's, "Correct equations for the dynamics of the cart-pole system" (2007).

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.envs.cart_pole(gravity=1.6)
    Environment(CartPole-v1, Box([-4.8 ...) -> Discrete(2), max_steps=500)
    """
    physics = {
        "gravity": number("gravity", gravity),
        "masscart": number("masscart", masscart, 0.0, above=True),
        "masspole": number("masspole", masspole, 0.0, above=True),
        "length": number("length", length, 0.0, above=True),
        "force_mag": number("force_mag", force_mag),
        "tau": number("tau", tau, 0.0, above=True),
    }
    sutton_barto_reward = flag("sutton_barto_reward", sutton_barto_reward)
    spaces = gymnasium().spaces
    high = np.array([2 * POSITION_LIMIT, inf, 2 * ANGLE_LIMIT, inf], np.float32)
    return Environment(
        reset,
        step,
        spaces.Box(-high, high, dtype=np.float32),
        spaces.Discrete(2),
        state=[0.0] * 4 + [*physics.values(), sutton_barto_reward],
        **as_in_gymnasium("CartPole-v1", cart_pole, max_steps, {"sutton_barto_reward": sutton_barto_reward}, physics),
    )
