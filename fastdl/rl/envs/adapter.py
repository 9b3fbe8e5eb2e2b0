"""An environment for code that knows Gymnasium's."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.rl import random
from fastdl.rl.environment import Environment, by_address
from fastdl.rl.envs._options import gymnasium

__all__ = ["GymnasiumEnv"]


class GymnasiumEnv(gymnasium().Env):  # type: ignore[misc]
    """An environment as a ``gymnasium.Env``: ours, or one's own, in code that is written for Gymnasium.

    Parameters
    ----------
    environment : Environment
        Which one. An episode is truncated after its `max_steps`. Options of `reset` are not looked at.

    Attributes
    ----------
    state : ndarray of float64
        A copy of the environment's state.

    Raises
    ------
    ValueError
        By `step`: an action outside the space, or no episode begun.

    Examples
    --------
    >>> from fastdl import rl
    >>> env = rl.envs.GymnasiumEnv(rl.make("CartPole-v1"))
    >>> observation, info = env.reset(seed=7)
    >>> observation, reward, terminated, truncated, info = env.step(1)
    >>> reward
    1.0
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.observation_space, self.action_space = environment.observation_space, environment.action_space
        self._reset, self._step = by_address(*environment.addresses)
        self._state = np.array(environment.state)
        self._observation = np.zeros(environment.observation_size)
        self._rng: Any = None
        self._steps: int | None = None

    @property
    def state(self) -> np.ndarray[Any, Any]:
        return self._state.copy()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None or self._rng is None:
            self._rng = random.streams(self.np_random_seed)
        self._reset(self._state, self._observation, self._rng)
        self._steps = 0
        return self._observed(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._steps is None:
            raise ValueError("step: found no episode, expected reset before")
        if not self.action_space.contains(action):
            raise ValueError(f"action: found {action!r}, expected one of {self.action_space}")
        discrete = self.environment.n_actions is not None
        given = np.int64(action) if discrete else np.array(action, np.float64)
        reward, terminated = self._step(self._state, given, self._observation, self._rng)
        self._steps += 1
        limit = self.environment.max_steps
        return self._observed(), reward, terminated, limit is not None and self._steps >= limit, {}

    def _observed(self) -> Any:
        return _of_space(self.observation_space, list(self._observation))


def _of_space(space: Any, numbers: list[float]) -> Any:
    """An element of a space, of the numbers at the front of a list, which are taken away."""
    kind = type(space).__name__
    if kind == "Tuple":
        return tuple(_of_space(part, numbers) for part in space.spaces)
    if kind == "Discrete":
        return int(numbers.pop(0))
    size = int(np.prod(space.shape))
    taken, numbers[:size] = numbers[:size], []
    return np.array(taken, space.dtype).reshape(space.shape)
