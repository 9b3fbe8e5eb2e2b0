"""What agents with networks share: networks, normalisation, actions, evaluation, files."""

from __future__ import annotations

import copy
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from fastdl import _files, nn, optim
from fastdl.rl.agents import _collect
from fastdl.rl.agents._gymnasium import GymnasiumWorlds, check_vector, normalised, quickest_vector_of, vector_of
from fastdl.rl.agents._networks import Parameters, mlp
from fastdl.rl.agents._options import check_options, options_of, seed_of
from fastdl.rl.agents._programs import Bound
from fastdl.rl.agents.history import DivergedError, History
from fastdl.rl.environment import Environment
from fastdl.rl.random import streams

Array = np.ndarray[Any, Any]
Self = TypeVar("Self", bound="Agent")

__all__ = ["Agent", "Clock", "described", "evaluate", "options_of"]

_FORMAT = 1


def described(environment: Any, options: dict[str, Any]) -> Any:
    """The environment as agents use it, when it and the options are right."""
    check_options(options)
    n = "n_envs" if "n_envs" in options else "episodes"
    if isinstance(environment, str):
        environment = vector_of(environment, options[n])
    if hasattr(environment, "num_envs"):
        environment = GymnasiumWorlds(environment)
        options[n] = environment.n
    if not isinstance(environment, (Environment, GymnasiumWorlds)):
        raise TypeError(
            f"environment: found {type(environment).__name__}, expected fastdl.rl.Environment, the name of one of "
            "Gymnasium's, or a vector of these"
        )
    if environment.observation_counts is not None:
        raise TypeError(
            f"environment: found {environment.observation_space}, discrete observations, expected continuous ones: "
            "use a tabular method, such as fastdl.rl.QLearning"
        )
    environment.check()
    return environment


class Agent(ABC):
    """An agent whose actions come from a network.

    Attributes
    ----------
    environment : Environment
        What it learns in.
    steps : int
        The steps of environments that it has learned from.
    parameters : Parameters
        Of its networks, by name in ``parameters.named``.
    optimizer : fastdl.optim.Optimizer
    """

    optimizer: optim.Optimizer
    worlds: _collect.Worlds
    steps: int = 0

    def __init__(self, environment: Any, options: dict[str, Any], networks: dict[str, tuple[Any, int, float]]) -> None:
        """`environment` as `described` returns it. `networks`: by name, the user's or None, how many numbers it gives,
        and the gain of its last layer."""
        self.environment, self.options = environment, options
        self.dtype = np.dtype(options["dtype"])
        names = "networks", "worlds", "updates", "predictions"
        self._seeds = dict(zip(names, seed_of(options["seed"]).spawn(len(names)), strict=True))
        self._predictions = streams(self._seeds["predictions"])
        self.rng = np.random.default_rng(self._seeds["updates"])
        self.scale = _collect.scale_of(environment, options.get("normalize_observations", False))
        of_networks = np.random.default_rng(self._seeds["networks"])
        self.networks: dict[str, nn.Module] = {}
        self._custom = []
        for name, (given, outputs, gain) in networks.items():
            if given is not None:
                if not isinstance(given, nn.Module):
                    raise TypeError(f"{name}: found {type(given).__name__}, expected a Module of fastdl.nn")
                self._custom.append(name)
            sizes = (environment.observation_size, *options["hidden"], outputs)
            self.networks[name] = given or mlp(sizes, options["activation"], gain, self.dtype, of_networks)
        self._started = np.zeros(1, np.int64)
        """1: episodes go on where they are."""
        self._bound: dict[tuple[str, int], Bound] = {}
        for name, (_, outputs, _) in networks.items():
            found = self.networks[name](np.zeros((3, environment.observation_size), self.dtype))
            if found.shape != (3, outputs):
                raise ValueError(f"{name}: found results of shape {found.shape}, expected (3, {outputs}) for 3 rows")
        arrays = {}
        if environment.n_actions is None and "initial_std" in options:
            arrays["log_std"] = np.full(environment.action_size, np.log(options["initial_std"]), self.dtype)
        self.parameters = Parameters(self.networks, arrays, self.dtype)
        self.log_std = self.parameters.named.get("log_std")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.environment.name}, {self.steps} steps)"

    @property
    def acting(self) -> str:
        """The name of the network that gives actions."""
        return next(iter(self.networks))

    @property
    def vector_seed(self) -> int:
        """Of Gymnasium's environments."""
        return int(self._seeds["worlds"].generate_state(1)[0])

    @abstractmethod
    def train(
        self, steps: int, *, target: float | None = None, callback: Callable[[Agent, History], Any] | None = None
    ) -> History:
        """Learn for some steps more."""

    # What the classes of agents use.

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Inside of this, whatever goes wrong leaves an agent that can go on: its episodes begin anew."""
        try:
            yield
        except BaseException:
            self._started[0] = 0
            raise

    def check_steps(self, steps: Any, target: Any) -> tuple[int, int]:
        """The number of steps made before, and that to be made until the end."""
        if target is not None:
            if not isinstance(target, (int, float, np.number)) or not np.isfinite(target):
                raise TypeError(f"target: found {target!r}, expected a finite number, or None")
            if isinstance(self.environment, Environment) and self.environment.max_steps is None:
                raise ValueError(
                    f"target: found {self.environment}, expected max_steps, without which it may never end"
                )
        if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool):
            raise TypeError(f"steps: found {steps!r}, expected an integer")
        if steps < 1:
            raise ValueError(f"steps: found {steps}, expected at least 1")
        return self.steps, self.steps + int(steps)

    def refuse(self, status: int, steps: int) -> None:
        """End where a loop stopped with this status after so many steps."""
        if status:
            self.parameters.restore()
            raise DivergedError("an observation, a reward or what a network gives", steps)

    def noted(self, clock: Clock, episodes: Any, losses: dict[str, float], target: Any, callback: Any) -> bool:
        """Whether training ends, after an iteration."""
        if not self.parameters.finite():
            self.parameters.restore()
            raise DivergedError("a parameter", self.steps)
        before = len(clock.parts)
        clock.note(episodes, self.steps, losses)
        if callback is not None and callback(self, clock.since(before)):
            return True
        if target is None:
            return False
        recent = clock.recent(20)
        if len(recent) < 20 or recent.mean() < target - abs(target) / 2 or self.steps < clock.next_evaluation:
            return False
        clock.next_evaluation = self.steps * 1.05
        return bool(self.evaluate(100).mean() >= target)

    def bound(self, name: str, rows: int) -> Bound:
        """The program of a network for so many observations."""
        if (name, rows) not in self._bound:
            example = np.zeros((rows, self.environment.observation_size), self.dtype)
            network = self.networks[name]
            self._bound[name, rows] = Bound(network.bind(example))
        return self._bound[name, rows]

    def predict(self, observation: Any, deterministic: bool = True) -> Any:
        """The action for an observation, or for many.

        Parameters
        ----------
        observation : array_like of shape (O,) or (n, O)
            As the environment gives it.
        deterministic : bool
            The best action, or one drawn as in training.

        Returns
        -------
        int or array
            A discrete action, or a continuous one of shape (D,); for n observations (n,), or (n, D).
        """
        given = np.asarray(observation, np.float64)
        rows = np.atleast_2d(given)
        if given.ndim not in (1, 2) or rows.shape[1] != self.environment.observation_size:
            raise ValueError(
                f"observation: found shape {given.shape}, expected ({self.environment.observation_size},) or "
                f"(n, {self.environment.observation_size})"
            )
        if not len(rows):
            raise ValueError("observation: found none, expected at least one")
        # A power of two, so that there are few programs.
        inputs = np.zeros((1 << (len(rows) - 1).bit_length(), rows.shape[1]), self.dtype)
        if not normalised(np.ascontiguousarray(rows), self.scale, inputs):
            raise ValueError(f"observation: found {rows.tolist()}, expected finite numbers")
        actions = self._actions(self.bound(self.acting, len(inputs))(inputs)[: len(rows)], deterministic)
        if given.ndim == 2:
            return actions
        return int(actions[0]) if self.environment.n_actions is not None else actions[0]

    def _actions(self, outputs: Array, deterministic: bool) -> Array:
        """As the environment takes them."""
        drawn, _ = _collect.choose(outputs, self.log_std, deterministic, self._predictions)
        if self.environment.n_actions is not None:
            return drawn
        return _collect.taken(drawn.astype(self.dtype).astype(np.float64), self.scale)

    def policy_network(self) -> nn.Sequential:
        """The network of actions as a module of its own, which takes observations as the environment gives them.

        Returns
        -------
        nn.Sequential
            In eval mode: a batch norm by running statistics and bounds, where observations are normalised, and a copy
            of the network. Its results are logits (the best action is the largest one's), or means in units of half
            the range of actions.
        """
        layers: list[nn.Module] = []
        if self.scale.normalize[0]:
            norm = nn.BatchNorm1d(self.environment.observation_size, eps=0.0, affine=False, dtype=self.dtype)
            norm.running_mean[...] = self.scale.mean  # type: ignore[index]
            norm.running_var[...] = 1 / self.scale.factor**2  # type: ignore[index]
            layers += [norm, nn.Hardtanh(-10.0, 10.0)]
        network = copy.deepcopy(self.networks[self.acting])
        return nn.Sequential(*layers, network).eval()

    def evaluate(self, episodes: int = 100, seed: int = 0) -> Array:
        """The returns of episodes with the best actions, in the environment that the agent learned in.

        Parameters
        ----------
        episodes : int
            How many.
        seed : int
            Of the environments.

        Returns
        -------
        array of float64, shape (episodes,)
            In the order of their environments.
        """
        _check_episodes(episodes, seed)
        if isinstance(self.environment, GymnasiumWorlds):
            return evaluate(self, self.environment.gymnasium_id, episodes, seed)
        environment = self.environment
        if environment.max_steps is None:
            raise ValueError(f"environment: found {environment}, expected max_steps, without which it may never end")
        bound = self.bound(self.acting, episodes)
        worlds = _collect.worlds_of(environment, episodes, np.random.SeedSequence(seed))
        done = _collect.episodes_of(episodes)
        chunk = min(environment.max_steps, 64)
        steps = _collect.steps_of(environment, chunk, episodes, self.dtype)
        scratch = _collect.scratch_of(environment, episodes, bound.columns, self.dtype)
        reset, step = environment.addresses
        scale = self.scale._replace(moments=self.scale.moments.copy())
        fresh = True
        while done.ended[0] < episodes:
            made, status = _collect.collect(
                bound.code, 0, reset, step, environment.max_steps, fresh, True, True,
                worlds, scale, self.log_std, steps, done, scratch,
            )  # fmt: skip
            fresh = False
            if status:
                raise DivergedError("an observation, a reward or a parameter", self.steps)
            steps.observations[0] = steps.observations[made]
        return worlds.returns

    def episode(self, seed: int = 0) -> tuple[Array, float]:
        """The states of an episode with the best actions, for pictures (`fastdl.rl.animate`), and its return.

        Parameters
        ----------
        seed : int
            Of the environment.

        Returns
        -------
        states : array of float64, shape (n + 1, S)
        total : float
        """
        environment = self.environment
        seed_of(seed)
        if not isinstance(environment, Environment):
            raise TypeError(f"environment: found {environment.name} of Gymnasium's, expected a compiled one")
        state, observation = environment.state.copy(), np.zeros(environment.observation_size)
        rng, total = streams(seed), 0.0
        environment.reset(state, observation, rng)
        states = [state.copy()]
        for _ in range(environment.max_steps or 10_000):
            action = self.predict(observation)
            given = np.int64(action) if environment.n_actions is not None else action
            reward, terminated = environment.step(state, given, observation, rng)
            states.append(state.copy())
            total += reward
            if terminated:
                break
        return np.array(states), total

    # Files.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that is needed to go on, and to act, to a file: `.safetensors` if it is named so, else `.npz`.

        Parameters
        ----------
        path : path
            Written whole, or not at all.
        """
        options = self.options | {"dtype": self.dtype.name, "hidden": list(self.options["hidden"])}
        about = {
            "format": _FORMAT,
            "agent": type(self).__name__,
            "environment": self.environment.gymnasium_id,
            "environment_options": self.environment.gymnasium_options,
            "stepped_by_gymnasium": isinstance(self.environment, GymnasiumWorlds),
            "n": len(self.worlds.lengths),
            "custom": self._custom,
            "options": options,
            "steps": self.steps,
            "rng": self.rng.bit_generator.state,
        }
        arrays = {f"parameters/{name}": array for name, array in self.parameters.named.items()}
        for prefix, network in self.networks.items():
            arrays |= {f"networks/{prefix}.{name}": array for name, array in network.state_dict().items()}
        arrays |= {f"optimizer/{name}": np.asarray(value) for name, value in self.optimizer.state_dict().items()}
        arrays |= {f"state/{name}": array for name, array in self._state().items()}
        _files.write(path, arrays, about, _plain)

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str], environment: Any = None, **networks: Any) -> Self:
        """An agent from a file that `save` wrote; it goes on as if it had never stopped.

        Parameters
        ----------
        path : path
        environment : Environment, optional
            What it learned in; by default the one that `fastdl.rl.make` knows by name.
        **networks : Module
            Those that were given to the constructor; their parameters are replaced.
        """
        try:
            values, about = _files.read(path)
        except ValueError:
            about = None
        if not isinstance(about, dict):
            raise ValueError(f"path: found {os.fspath(path)} without an agent, expected a file that save wrote")
        if about.get("format") != _FORMAT or about.get("agent") != cls.__name__:
            raise ValueError(
                f"path: found an agent {about.get('agent')} of format {about.get('format')}, expected {cls.__name__} "
                f"of format {_FORMAT}"
            )
        if sorted(networks) != sorted(about["custom"]):
            raise ValueError(f"networks: found {sorted(networks)}, expected {sorted(about['custom'])}, as given before")
        if environment is None:
            if about["environment"] is None:
                raise ValueError("environment: found none, expected the one that the agent learned in")
            if about["stepped_by_gymnasium"]:
                environment = vector_of(about["environment"], about["n"], **about["environment_options"])
            else:
                from fastdl.rl.envs import make

                environment = make(about["environment"], **about["environment_options"])
        agent: Any = cls(environment, **about["options"], **networks)
        # What of it goes on: episodes only where the environment is the same, and its state is in the file.
        goes_on = isinstance(agent.environment, Environment) and np.array_equal(
            agent.environment.state, values.get("state/template", np.nan)
        )
        state = {
            name: array
            for name, array in agent._state().items()
            if goes_on or not name.startswith(("worlds.", "started", "first", "now", "running", "template"))
        }
        of_file = {
            "parameters": agent.parameters.named,
            "state": state,
            "networks": {
                f"{k}.{n}": a for k, network in agent.networks.items() for n, a in network.state_dict().items()
            },
        }
        for part, arrays in of_file.items():
            for name, array in arrays.items():
                found = np.shape(values[f"{part}/{name}"]) if f"{part}/{name}" in values else None
                if found != np.shape(array):
                    raise ValueError(f"path: found {name} of shape {found}, expected {np.shape(array)}")
        for prefix, network in agent.networks.items():
            network.load_state_dict(_part(values, f"networks/{prefix}."))
        agent.parameters.load(_part(values, "parameters/"))
        agent.optimizer.load_state_dict(_part(values, "optimizer/"))
        for name, array in state.items():
            if name != "template":
                array[...] = values[f"state/{name}"]
        agent.steps = about["steps"]
        agent.rng.bit_generator.state = about["rng"]
        return agent  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"{type(self).__name__}: found a copy or a pickle of an agent, expected save and load instead")

    def _state(self) -> dict[str, Array]:
        """What changes besides parameters, to be written into when an agent is loaded."""
        return {
            "template": self.environment.state,
            "started": self._started,
            "predictions": self._predictions,
            **{f"scale.{name}": getattr(self.scale, name) for name in ("mean", "factor", "moments")},
            **{f"worlds.{name}": array for name, array in self.worlds._asdict().items()},
        }


def evaluate(agent: Agent, environment: Any = None, episodes: int = 100, seed: int = 0) -> Array:
    """The returns of episodes with an agent's best actions, in Gymnasium's own environment.

    Parameters
    ----------
    agent : Agent
    environment : str or gymnasium.vector.VectorEnv, optional
        Gymnasium's name of it; by default that of the environment which the agent learned in.
    episodes : int
        How many; so many environments run at once, and of each the first episode counts. Of a vector, as many as it has
        environments.
    seed : int
        Of the environments.

    Returns
    -------
    array of float64, shape (episodes,)
    """
    _check_episodes(episodes, seed)
    if environment is None:
        environment = agent.environment.gymnasium_id
        if environment is None:
            raise ValueError(f"environment: found {agent.environment}, which Gymnasium does not have, expected a name")
    vector = environment
    if isinstance(environment, str):
        vector = quickest_vector_of(environment, episodes, **agent.environment.gymnasium_options)
    else:
        check_vector(vector)
    observation, _ = vector.reset(seed=seed)
    returns, running = np.zeros(vector.num_envs), np.ones(vector.num_envs, np.bool_)
    while running.any():
        actions = np.asarray(agent.predict(observation))
        observation, reward, terminated, truncated, _ = vector.step(actions.astype(vector.single_action_space.dtype))
        returns += np.where(running, reward, 0)
        running &= ~(terminated | truncated)
    if isinstance(environment, str):
        vector.close()
    return returns


def _part(values: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in values.items() if name.startswith(prefix)}


def _plain(value: Any) -> Any:
    """NumPy's numbers as JSON takes them."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _check_episodes(episodes: Any, seed: Any) -> None:
    if not isinstance(episodes, (int, np.integer)) or isinstance(episodes, bool):
        raise TypeError(f"episodes: found {episodes!r}, expected an integer")
    if episodes < 1:
        raise ValueError(f"episodes: found {episodes}, expected at least 1")
    seed_of(seed)


class Clock:
    """Collects a History while an agent learns."""

    def __init__(self) -> None:
        self._losses: dict[str, list[float]] = {}
        self.next_evaluation = 0.0
        """Not before so many steps."""
        self.parts: list[tuple[Array, Array, int]] = []
        self._begin = time.perf_counter()

    def note(self, episodes: Any, steps: int, losses: dict[str, float]) -> None:
        n = int(episodes.ended[0])
        if n:
            self.parts.append((episodes.returns[:n].copy(), episodes.lengths[:n].copy(), steps))
        episodes.ended[0] = 0
        for name, value in losses.items():
            self._losses.setdefault(name, []).append(value)

    def since(self, part: int) -> History:
        """Of the last notes."""
        parts = self.parts[part:]
        last = {name: np.array(values[-1:]) for name, values in self._losses.items()}
        if not parts:
            return History(losses=last)
        return History(
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
            np.repeat([part[2] for part in parts], [len(part[0]) for part in parts]),
            last,
            time.perf_counter() - self._begin,
        )

    def recent(self, n: int) -> Array:
        """The returns of the last n episodes, fewer if there are not so many."""
        found: list[Array] = []
        for returns, _, _ in reversed(self.parts):
            found.insert(0, returns)
            if sum(map(len, found)) >= n:
                break
        return np.concatenate(found)[-n:] if found else np.zeros(0)

    def finished(self) -> History:
        """All of it."""
        history = self.since(0)
        history.losses = {name: np.array(values) for name, values in self._losses.items()}
        history.seconds = time.perf_counter() - self._begin
        return history
