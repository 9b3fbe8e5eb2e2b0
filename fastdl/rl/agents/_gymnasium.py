"""Gymnasium's own environments: stepped from Python, for the same networks and the same memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.rl.agents import _collect
from fastdl.rl.environment import Spaces

Array = np.ndarray[Any, Any]

__all__ = ["GymnasiumWorlds", "check_vector", "quickest_vector_of", "vector_of"]


def vector_of(environment_id: str, n: int, **options: Any) -> Any:
    """Gymnasium's vector of so many environments, each of which is reset in the step that ends its episode."""
    import gymnasium

    same_step = gymnasium.vector.AutoresetMode.SAME_STEP
    return gymnasium.make_vec(environment_id, n, "sync", vector_kwargs={"autoreset_mode": same_step}, **options)


def quickest_vector_of(environment_id: str, n: int, **options: Any) -> Any:
    """The vector that Gymnasium makes by itself: of CartPole there is one that steps all of them at once."""
    import gymnasium

    return vector_of(environment_id, n, **options) if options else gymnasium.make_vec(environment_id, n)


def check_vector(vector: Any) -> None:
    """Refuse what is no vector, or one that does not go on after an episode."""
    import gymnasium

    if not isinstance(vector, gymnasium.vector.VectorEnv):
        raise TypeError(
            f"environment: found {type(vector).__name__}, expected the name of one, or a vector: gymnasium.make_vec"
        )
    if vector.metadata.get("autoreset_mode") == gymnasium.vector.AutoresetMode.DISABLED:
        raise ValueError("environment: found autoreset mode DISABLED, expected one that begins the next episode")


class GymnasiumWorlds(Spaces):
    """A vector of Gymnasium's environments, described as `Environment` is.

    Parameters
    ----------
    vector : gymnasium.vector.VectorEnv
        It resets an environment in the step that ends its episode (``AutoresetMode.SAME_STEP``).
    """

    state = np.zeros(1)
    """Not known here."""
    gymnasium_options: dict[str, Any]

    def __init__(self, vector: Any) -> None:
        mode = vector.metadata.get("autoreset_mode")
        if mode is None or mode.value != "SameStep":
            raise ValueError(
                f"environment: found autoreset mode {mode}, expected one that resets in the step that ends an episode: "
                'gymnasium.make_vec(id, n, vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP})'
            )
        self.vector, self.n = vector, vector.num_envs
        self.observation_space, self.action_space = vector.single_observation_space, vector.single_action_space
        self.name = vector.spec.id if vector.spec is not None else type(vector).__name__
        self.gymnasium_id = vector.spec.id if vector.spec is not None else None
        given = dict(vector.spec.kwargs) if vector.spec is not None else {}
        of_the_vector = ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers")
        self.gymnasium_options = {name: value for name, value in given.items() if name not in of_the_vector}
        limit = vector.spec.max_episode_steps if vector.spec is not None else None
        self.max_steps = given.get("max_episode_steps", limit)

    def check(self) -> None:
        """Nothing can be said before it is stepped."""

    def start(self, worlds: Any, scale: Any, first: Array, seed: int | None) -> None:
        """Begin an episode in each environment."""
        observation, _ = self.vector.reset(seed=seed)
        worlds.observations[...] = observation
        worlds.lengths[...], worlds.returns[...] = 0, 0.0
        _collect.note(worlds.observations, scale)
        normalised(worlds.observations, scale, first)

    def step(
        self, actions: Array, worlds: Any, scale: Any, after: Array, finals: Array, episodes: Any, once: bool = False
    ) -> tuple[Array, Array, Array, bool]:
        """Take a step in each environment.

        `after` is what is observed next, in a new episode where one has ended, and `finals` what the step led to. With
        `once` an environment rests after an episode: what it does then counts nowhere.

        Returns
        -------
        rewards, terminated, done : (N,); whether all that counts is finite
        """
        if self.n_actions is None:
            actions = _collect.taken(actions.astype(np.float64), scale)
        observation, reward, terminated, truncated, info = self.vector.step(actions.astype(self.action_space.dtype))
        active = worlds.lengths >= 0
        worlds.observations[...] = observation
        worlds.lengths[active] += 1
        worlds.returns[active] += reward[active]
        done = (terminated | truncated) & active
        raw = worlds.observations.copy()
        for i in np.flatnonzero(terminated | truncated):
            raw[i] = info["final_obs"][i]
        _collect.note(raw[active], scale)
        if not once:
            _collect.note(worlds.observations[done], scale)
        finite = normalised(worlds.observations, scale, after) & normalised(raw, scale, finals)
        for i in np.flatnonzero(done):
            n = episodes.ended[0]
            if n < episodes.returns.shape[0]:
                episodes.returns[n], episodes.lengths[n] = worlds.returns[i], worlds.lengths[i]
                episodes.ended[0] = n + 1
            if once:
                worlds.lengths[i] = -1
            else:
                worlds.lengths[i], worlds.returns[i] = 0, 0.0
        return reward, terminated, done, finite and bool(np.isfinite(reward).all())

    def collect(
        self, policy: Any, critic: Any, worlds: Any, scale: Any, log_std: Any, steps: Any, episodes: Any,
        once: bool = False,
    ) -> tuple[int, int]:  # fmt: skip
        """As `_collect.collect`."""
        finals = np.empty_like(steps.observations[0])
        for t in range(steps.rewards.shape[0]):
            output = policy(steps.observations[t])
            steps.actions[t], steps.log_probs[t] = _collect.choose(output, log_std, False, worlds.rng)
            resting = worlds.lengths < 0
            reward, terminated, done, finite = self.step(
                steps.actions[t], worlds, scale, steps.observations[t + 1], finals, episodes, once
            )
            if not finite:
                return t, 1
            steps.rewards[t], steps.terminated[t], steps.done[t] = reward, terminated & ~resting, done
            cut = done & ~terminated
            if critic is not None and cut.any():
                steps.next_values[t, cut] = critic(finals)[cut, 0]
            if once and (worlds.lengths < 0).all():
                return t + 1, 0
        return steps.rewards.shape[0], 0


def normalised(raw: Array, scale: Any, out: Array) -> bool:
    """Write observations, (N, O), as networks take them; whether they are finite."""
    return bool(np.all([_collect.normalise(raw[i], scale, out[i]) for i in range(raw.shape[0])]))
