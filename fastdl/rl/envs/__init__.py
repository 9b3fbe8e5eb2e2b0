"""Environments that come with fastdl.rl: Gymnasium's classic control and toy text, compiled, number for number."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastdl.rl.environment import Environment
from fastdl.rl.envs.classic_control.acrobot import acrobot
from fastdl.rl.envs.classic_control.cart_pole import cart_pole
from fastdl.rl.envs.classic_control.mountain_car import mountain_car, mountain_car_continuous
from fastdl.rl.envs.classic_control.pendulum import pendulum
from fastdl.rl.envs.pictures import animate, frames
from fastdl.rl.envs.toy_text.blackjack import blackjack
from fastdl.rl.envs.toy_text.cliff_walking import cliff_walking
from fastdl.rl.envs.toy_text.frozen_lake import frozen_lake, random_map
from fastdl.rl.envs.toy_text.taxi import taxi
from fastdl.rl.envs.toy_text.transitions import transitions

if TYPE_CHECKING:
    from fastdl.rl.envs.adapter import GymnasiumEnv

__all__ = [
    "GymnasiumEnv",
    "acrobot",
    "animate",
    "blackjack",
    "cart_pole",
    "cliff_walking",
    "frames",
    "frozen_lake",
    "make",
    "mountain_car",
    "mountain_car_continuous",
    "pendulum",
    "random_map",
    "taxi",
    "transitions",
]

_IDS: dict[str, tuple[Callable[..., Environment], dict[str, Any]]] = {
    "Acrobot-v1": (acrobot, {}),
    "Blackjack-v1": (blackjack, {}),
    "CartPole-v0": (cart_pole, {"max_steps": 200}),
    "CartPole-v1": (cart_pole, {}),
    "CliffWalking-v0": (cliff_walking, {}),
    "CliffWalking-v1": (cliff_walking, {}),
    "CliffWalkingSlippery-v1": (cliff_walking, {"is_slippery": True}),
    "FrozenLake-v1": (frozen_lake, {}),
    "FrozenLake8x8-v1": (frozen_lake, {"map_name": "8x8", "max_steps": 200}),
    "MountainCar-v0": (mountain_car, {}),
    "MountainCarContinuous-v0": (mountain_car_continuous, {}),
    "Pendulum-v1": (pendulum, {}),
    "Taxi-v3": (taxi, {}),
    "Taxi-v4": (taxi, {}),
}
"""Which function makes what Gymnasium calls so, and with which options."""


def make(id: str, **options: Any) -> Environment:
    """An environment by the id that Gymnasium has for it.

    Parameters
    ----------
    id : str
        Such as ``"CartPole-v1"``. CliffWalking-v0 and Taxi-v3 are made by their next versions, which differ in options.
    **options
        Of the function that makes it, such as `cart_pole`: Gymnasium's, `max_steps`, and what else can be varied.

    Returns
    -------
    Environment

    Raises
    ------
    ValueError
        An id that is not known, or an option out of range.
    TypeError
        An option that the environment does not have, or of a wrong type.

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.make("FrozenLake-v1", is_slippery=False)
    Environment(FrozenLake-v1, Discrete(16) -> Discrete(4), max_steps=100)
    """
    if id not in _IDS:
        raise ValueError(f"id: found {id!r}, expected one of {', '.join(_IDS)}")
    factory, given = _IDS[id]
    known = inspect.signature(factory).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(f"options: found {', '.join(unknown)}, expected for {id} some of {', '.join(known)}")
    return factory(**{**given, **options})


def __getattr__(name: str) -> Any:
    if name == "GymnasiumEnv":  # a class of Gymnasium's, which is imported when it is needed
        from fastdl.rl.envs.adapter import GymnasiumEnv

        return GymnasiumEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
