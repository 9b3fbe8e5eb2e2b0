"""What agents learn on: a table, a compiled environment, or one that Python steps; each runs the loop that it needs."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from fastdl.rl.environment import Environment, _counts
from fastdl.rl.mdp import MDP
from fastdl.rl.tabular import loops
from fastdl.rl.tabular.rules import ACTION, ENDED, EPISODES, FULL, STATE, STORED, UNBOUNDED, UNTIL, Tables
from fastdl.rl.tabular.table import Table

__all__ = ["Problem", "problem_of"]

Array = np.ndarray[Any, Any]


class Problem(Protocol):
    """What an agent asks of it."""

    name: str
    n_states: int
    n_actions: int
    max_steps: int | None
    bounded: bool
    """Whether it is known that episodes come to an end."""
    resumes: bool
    """Whether an episode can go on in another process."""
    memory: dict[str, Array]
    """What has to be kept for an episode to go on later."""

    def index(self, observation: Any) -> int:
        """The number of an observation; ValueError where it is none."""

    def run(self, tables: Tables, steps: int) -> int:
        """Up to so many steps; what `advance` answered last."""


class _Table:
    def __init__(self, table: Table) -> None:
        self.name, self.table = "table", table
        self.n_states, self.n_actions = table.n_states, table.n_actions
        self.max_steps: int | None = None
        self.bounded, self.resumes = table.ends, True
        self.memory: dict[str, Array] = {}

    def index(self, observation: Any) -> int:
        return _raveled(observation, (self.n_states,), (0,))

    def run(self, tables: Tables, steps: int) -> int:
        return int(loops.over_table(tables, self.table, steps))


class _Compiled:
    def __init__(self, environment: Environment) -> None:
        counts = environment.observation_counts
        if counts is None:
            raise TypeError(
                f"environment: found observations in {environment.observation_space}, expected discrete ones"
            )
        if environment.n_actions is None:
            raise TypeError(f"environment: found actions in {environment.action_space}, expected Discrete")
        if "_is_checked" not in vars(environment):
            environment.check()
            vars(environment)["_is_checked"] = True
        self.name, self.counts = environment.name, counts
        self.n_states, self.n_actions = _size(counts), environment.n_actions
        self.max_steps, self.bounded = environment.max_steps, environment.max_steps is not None
        self.resumes = True
        self.addresses = environment.addresses
        self.counts_array = np.array(counts, np.int64)
        self.memory = {"state": np.array(environment.state), "observation": np.zeros(len(counts))}

    def index(self, observation: Any) -> int:
        return _raveled(observation, self.counts, (0,) * len(self.counts))

    def run(self, tables: Tables, steps: int) -> int:
        state, observation = self.memory["state"], self.memory["observation"]
        try:
            return int(loops.over_environment(tables, *self.addresses, state, observation, self.counts_array, steps))
        except BaseException:  # of the environment's own: the episode is given up
            tables.counters[STATE] = -1
            raise


class _Stepped:
    """Of Gymnasium. An episode that is interrupted, or that was going on when an agent was saved, is given up."""

    def __init__(self, environment: Any, seed: int) -> None:
        spaces = environment.observation_space, environment.action_space
        counts, actions = (_counts(space) for space in spaces)
        if counts is None:
            raise TypeError(f"environment: found observations in {spaces[0]}, expected discrete ones")
        if actions is None or len(actions) != 1:
            raise TypeError(f"environment: found actions in {spaces[1]}, expected Discrete")
        spec = getattr(environment, "spec", None)
        self.environment, self.seed = environment, [seed]
        self.name = spec.id if spec is not None else str(environment)
        self.counts, self.starts = counts, _starts(spaces[0])
        self.n_states, self.n_actions, self.first_action = _size(counts), actions[0], _starts(spaces[1])[0]
        self.max_steps: int | None = None
        self.resumes = False
        self.bounded = getattr(spec, "max_episode_steps", None) is not None
        self.memory: dict[str, Array] = {}

    def index(self, observation: Any) -> int:
        return _raveled(observation, self.counts, self.starts)

    def run(self, tables: Tables, steps: int) -> int:
        counters, environment, answer = tables.counters, self.environment, 0
        action = int(counters[ACTION])
        room = int(tables.returns.size - counters[EPISODES])  # a step ends one episode at most
        if counters[UNBOUNDED]:
            room = min(room, int(tables.indices.size - counters[STORED]))
        if not room:
            return FULL
        try:
            for _ in range(min(steps, room)):
                if counters[STATE] < 0:
                    observation, _ = environment.reset(seed=self.seed.pop() if self.seed else None)
                    action = loops.begin_once(tables, self.index(observation))
                observation, reward, terminated, cut_off, _ = environment.step(action + self.first_action)
                index = self.index(observation)
                answer = action = loops.step_once(tables, float(reward), index, bool(terminated), bool(cut_off))
                if answer < 0 and (answer != ENDED or counters[EPISODES] == counters[UNTIL]):
                    break
        except BaseException:
            counters[STATE] = -1
            raise
        return int(answer)


def problem_of(environment: Any, seed: int) -> Problem:
    """What an agent was given, as it learns on it: here other forms of a decision process become a `Table`."""
    if isinstance(environment, Table):
        return _Table(environment)
    if isinstance(environment, MDP):
        return _Table(Table.from_mdp(environment))
    if isinstance(environment, Environment):
        return _Compiled(environment)
    import gymnasium

    if isinstance(environment, gymnasium.Env):
        return _Stepped(environment, seed)
    raise TypeError(f"environment: found {environment!r}, expected a Table, an MDP, an Environment or a gymnasium.Env")


def _size(counts: tuple[int, ...]) -> int:
    size = 1
    for count in counts:
        size *= count
    if size > 2**31 - 1:
        raise ValueError(f"environment: found {size} observations, expected at most {2**31 - 1}")
    return size


def _starts(space: Any) -> tuple[int, ...]:
    """The first value of each integer of a discrete space."""
    if type(space).__name__ == "Tuple":
        return sum((_starts(part) for part in space.spaces), ())
    start = np.broadcast_to(space.start, np.shape(getattr(space, "nvec", 0)))
    return tuple(int(value) for value in start.ravel())


def _raveled(observation: Any, counts: tuple[int, ...], starts: tuple[int, ...]) -> int:
    values = observation if isinstance(observation, tuple) else np.ravel(observation).tolist()
    if len(values) != len(counts):
        raise ValueError(f"observation: found {observation!r}, expected {len(counts)} integers")
    index = 0
    for value, count, start in zip(values, counts, starts, strict=True):
        offset = int(value) - start
        if offset != value - start or not 0 <= offset < count:
            raise ValueError(f"observation: found {observation!r}, expected integers from {starts}, below {counts}")
        index = index * count + offset
    return index
