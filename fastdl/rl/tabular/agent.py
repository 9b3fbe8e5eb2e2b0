"""What all tabular agents share: their arrays, training, saving."""

from __future__ import annotations

import json
import math
import operator
import os
import time
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from fastdl.rl.random import streams
from fastdl.rl.tabular import rules
from fastdl.rl.tabular.loops import refresh_all
from fastdl.rl.tabular.problems import problem_of
from fastdl.rl.tabular.rules import Tables
from fastdl.rl.tabular.schedules import KINDS, Constant, InverseVisits, Schedule, schedule

__all__ = ["Agent", "History"]

Array = np.ndarray[Any, Any]
Self = TypeVar("Self", bound="Agent")

_SLICE = 0.02
"""Seconds that compiled code runs for before Python has a look at signals."""
_FOREVER = 2**62


class History(NamedTuple):
    """Of episodes, in order.

    Attributes
    ----------
    returns : ndarray of float64
        The sum of an episode's rewards, not discounted.
    lengths : ndarray of int64
        How many steps it had.
    truncated : ndarray of bool
        Whether it was cut off, and not ended by its environment.
    """

    returns: Array
    lengths: Array
    truncated: Array


class Agent:
    """The base of tabular agents; each of them says how a value is learned (`method`, `target`)."""

    method: ClassVar[int]
    target: ClassVar[int] = rules.SAMPLED
    _arguments: dict[str, Any]
    """Those of the constructor that a file has to say."""

    def _set_up(
        self,
        environment: Any,
        *,
        alpha: float | Schedule,
        gamma: float,
        max_steps: int | None,
        seed: int | None,
        values: Any,
        predicts: bool = False,
        policy: Any = None,
        epsilon: float | Schedule = 0.0,
        temperature: float | Schedule | None = None,
        n: int | None = 1,
        lambda_: float = 0.0,
        replacing: bool = False,
        planning_steps: int = 0,
        bonus: float = 0.0,
    ) -> None:
        step_size = schedule("alpha", alpha, 0.0, 1.0, above=True, visits=True)
        exploration = schedule("epsilon", epsilon, 0.0, 1.0, above=False)
        warmth = schedule("temperature", Constant(1.0) if temperature is None else temperature, 0, math.inf, above=True)
        for name, number, low, high in (
            ("gamma", gamma, 0.0, 1.0),
            ("lambda_", lambda_, 0.0, 1.0),
            ("bonus", bonus, 0.0, math.inf),
            ("max_steps", 1 if max_steps is None else max_steps, 1, _FOREVER),
            ("n", 1 if n is None else n, 1, 2**31),
            ("planning_steps", planning_steps, 0, 2**31),
        ):
            whole = name in ("max_steps", "n", "planning_steps")
            if isinstance(number, bool) or not isinstance(
                number, (int, np.integer) if whole else (int, float, np.number)
            ):
                raise TypeError(f"{name}: found {number!r}, expected {'an integer' if whole else 'a number'}")
            if not (low <= number <= high and math.isfinite(number)):
                raise ValueError(f"{name}: found {number}, expected a number from {low:g} to {high:g}")
        try:
            entropy = np.random.SeedSequence(seed)
        except (TypeError, ValueError):
            raise TypeError(f"seed: found {seed!r}, expected an integer that is not negative, or None") from None
        problem = self.problem = problem_of(environment, int(entropy.generate_state(1)[0]))
        columns = 1 if predicts else problem.n_actions
        pairs = problem.n_states * columns
        if pairs > 2**31 - 1:
            raise ValueError(f"environment: found {pairs} pairs of state and action, expected at most {2**31 - 1}")
        name, shape = ("values", (problem.n_states,)) if predicts else ("q", (problem.n_states, columns))
        initial = np.asarray(values, np.float64)
        if initial.shape not in ((), shape):
            raise ValueError(f"{name}: found shape {initial.shape}, expected a number, or shape {shape}")
        if not np.isfinite(initial).all():
            raise ValueError(f"{name}: found {initial[~np.isfinite(initial)][0]}, expected finite numbers")
        q = np.empty((1 + (self.method == rules.DOUBLE), problem.n_states, columns))
        q[...] = initial[:, None] if predicts and initial.ndim else initial
        counters = np.zeros(rules.N_COUNTERS, np.int64)
        counters[rules.METHOD], counters[rules.TARGET], counters[rules.STATE] = self.method, self.target, -1
        counters[rules.SOFTMAX], counters[rules.REPLACING] = temperature is not None, replacing
        counters[rules.PLANNING_STEPS], counters[rules.UNBOUNDED] = planning_steps, n is None
        limits = [limit for limit in (max_steps, problem.max_steps) if limit is not None]
        counters[rules.MAX_STEPS] = min(limits, default=_FOREVER)
        self._bounded = problem.bounded or max_steps is not None
        memory = {rules.N_STEP: 1024 if n is None else n, rules.TRACES: pairs, rules.PLANNING: pairs}
        room = memory.get(self.method, 0)
        planning = self.method == rules.PLANNING
        self._tables = Tables(
            q=q,
            best=np.zeros(problem.n_states, rules.BEST),
            visits=np.zeros(pairs if isinstance(step_size, InverseVisits) else 0, np.int64),
            policy=_cumulative(policy, problem.n_states, problem.n_actions) if predicts else np.zeros((0, 0)),
            scratch=np.zeros(problem.n_actions),
            reals=np.zeros(room),
            indices=np.repeat([rules.UNKNOWN, 0, 0], room) if planning else np.zeros(room, np.int64),
            counters=counters,
            numbers=np.array([gamma, lambda_, bonus, 0.0]),
            schedules=np.array([(each.row[2], *each.row) for each in (step_size, exploration, warmth)]),
            rng=streams(entropy, 2),
            returns=np.zeros(1024),
            lengths=np.zeros(1024, np.int64),
            truncated=np.zeros(1024, bool),
        )
        refresh_all(self._tables)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.problem.name}, steps={self.steps}, episodes={self.episodes})"

    @property
    def steps(self) -> int:
        """How many steps the agent has learned from."""
        return int(self._tables.counters[rules.STEPS])

    @property
    def episodes(self) -> int:
        """How many episodes have come to an end."""
        return int(self._tables.counters[rules.EPISODES])

    @property
    def history(self) -> History:
        """All episodes so far."""
        return self._history(0)

    def _history(self, first: int) -> History:
        t, last = self._tables, self.episodes
        return History(t.returns[first:last].copy(), t.lengths[first:last].copy(), t.truncated[first:last].copy())

    def index(self, observation: Any) -> int:
        """The row of an observation in the agent's arrays; several integers are numbered with the last one fastest."""
        return self.problem.index(observation)

    def train(
        self,
        steps: int | None = None,
        episodes: int | None = None,
        *,
        callback: Callable[[Any], bool | None] | None = None,
        every: int | None = None,
    ) -> History:
        """Learn from so many more steps, or episodes, from where the agent is.

        Ctrl-C is answered at once: KeyboardInterrupt comes out of here, and the agent is what it was after its last
        step; training can go on, and `history` has all episodes.

        Parameters
        ----------
        steps, episodes : int
            One of the two. An episode that is not over after the last step goes on in the next call.
        callback : function(agent), optional
            Is called again and again; training stops where it returns True.
        every : int, optional
            After how many steps (or episodes, where these are asked for) it is called; by default a hundredth.

        Returns
        -------
        History
            Of the episodes that ended meanwhile.

        Raises
        ------
        ValueError
            Episodes of an environment of which nobody says that they end, without `max_steps`; a reward that is not
            finite, an observation outside its space.
        FloatingPointError
            A value that is no longer finite.
        """
        if (steps is None) == (episodes is None):
            raise ValueError(f"steps: found steps={steps} and episodes={episodes}, expected one of the two")
        unit, name = (rules.STEPS, "steps") if steps is not None else (rules.EPISODES, "episodes")
        asked = _count(name, steps if steps is not None else episodes)
        interval = max(1, asked // 100) if every is None else _count("every", every)
        if unit == rules.EPISODES and not self._bounded:
            raise ValueError(
                f"max_steps: found None, expected a bound on the steps of an episode: "
                f"nothing says that those of {self.problem.name} end"
            )
        counters = self._tables.counters
        first, goal = self.episodes, int(counters[unit]) + asked
        while counters[unit] < goal:
            self._train_until(unit, min(goal, int(counters[unit]) + interval) if callback is not None else goal)
            if callback is not None and callback(self):
                break
        return self._history(first)

    def _train_until(self, unit: int, goal: int) -> None:
        counters = self._tables.counters
        counters[rules.UNTIL] = goal if unit == rules.EPISODES else -1
        size = 1000
        while counters[unit] < goal:
            steps = min(size, goal - int(counters[unit])) if unit == rules.STEPS else size
            start = time.perf_counter()
            answer = self.problem.run(self._tables, steps)
            seconds = time.perf_counter() - start
            if steps == size and answer not in (rules.FULL, rules.ENDED):
                size = max(1, int(size * min(4.0, max(0.1, _SLICE / max(seconds, 1e-9)))))
            if answer == rules.FULL:
                self._grow()
            elif answer < rules.FULL:
                self._explain(answer)

    def _grow(self) -> None:
        """Double what is full: room for episodes, and for the steps of one."""
        t = self._tables
        names = ["returns", "lengths", "truncated"] if self.episodes == t.returns.size else ["reals", "indices"]
        self._tables = t._replace(**{name: _doubled(getattr(t, name)) for name in names})

    def _explain(self, answer: int) -> None:
        if answer == rules.BAD_REWARD:
            raise ValueError(f"reward: found one that is not finite at step {self.steps + 1}, expected a finite number")
        if answer == rules.OUTSIDE:
            found = self.problem.memory["observation"].tolist()
            raise ValueError(f"observation: found {found} at step {self.steps + 1}, expected one inside its space")
        _, row, column = np.argwhere(~np.isfinite(self._tables.q))[0]
        raise FloatingPointError(
            f"a value: found {self._tables.q[:, row, column].max()} for state {row}, action {column} at step "
            f"{self.steps}, expected a finite number; a smaller alpha may help"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that the agent knows into an .npz file, without pickle.

        Training that goes on from it gives the same bits; where Python steps the environment, from the next episode.

        Parameters
        ----------
        path : str or path
            Of the file; .npz is appended where it is missing.
        """
        arrays = {name: value for name, value in self._tables._asdict().items() if name != "best"}
        arguments = {
            name: [type(value).__name__, *vars(value).values()] if isinstance(value, Schedule) else value
            for name, value in self._arguments.items()
        }
        about = json.dumps({"agent": type(self).__name__, "arguments": arguments}, default=lambda number: number.item())
        memory = {f"environment_{name}": value for name, value in self.problem.memory.items()}
        np.savez(path, about=about, **arrays, **memory)  # type: ignore[arg-type]

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str], environment: Any) -> Self:
        """The agent that was saved in a file.

        Parameters
        ----------
        path : str or path
            Of the file.
        environment : Table, MDP, Environment or gymnasium.Env
            What it goes on with: the same as before.

        Returns
        -------
        Agent
            Of the class that is asked.

        Raises
        ------
        ValueError
            A file of another class, or of an environment of another size.
        """
        name = os.fspath(path)
        with np.load(name if os.path.exists(name) else f"{name}.npz", allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(str(arrays["about"]))
        if about["agent"] != cls.__name__:
            raise ValueError(f"path: found an agent of class {about['agent']}, expected {cls.__name__}")
        arguments = {
            name: KINDS[value[0]](*value[1:]) if isinstance(value, list) else value
            for name, value in about["arguments"].items()
        }
        if arrays["policy"].size:
            arguments["policy"] = np.diff(arrays["policy"], axis=1, prepend=0.0)
        make: Callable[..., Self] = cls
        agent = make(environment, **arguments)
        found, expected = arrays["q"].shape[1:], agent._tables.q.shape[1:]
        if found != expected:
            raise ValueError(f"environment: found one whose table of values has shape {expected}, expected {found}")
        agent._tables = Tables(best=agent._tables.best, **{n: arrays[n] for n in Tables._fields if n != "best"})
        for name, value in agent.problem.memory.items():
            value[...] = arrays[f"environment_{name}"]
        if not agent.problem.resumes:
            agent._tables.counters[rules.STATE] = -1
        refresh_all(agent._tables)
        return agent


def _count(name: str, value: Any) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: found {value!r}, expected an integer") from None
    if count < 1:
        raise ValueError(f"{name}: found {count}, expected at least 1")
    return count


def _cumulative(policy: Any, n_states: int, n_actions: int) -> Array:
    """A policy as sums of probabilities over the actions of each state."""
    shape = n_states, n_actions
    if policy is None:
        return np.full(shape, 1.0 / n_actions).cumsum(axis=1)
    policy = np.asarray(policy)
    if policy.shape == (n_states,) and policy.dtype.kind in "iu":
        if (wrong := (policy < 0) | (policy >= n_actions)).any():
            state = int(np.argmax(wrong))
            raise ValueError(f"policy: found action {policy[state]} in state {state}, expected 0 to {n_actions - 1}")
        policy = policy[:, None] == np.arange(n_actions)
    if policy.shape != shape:
        raise ValueError(
            f"policy: found {policy.dtype} of shape {policy.shape}, expected integers of shape ({n_states},), "
            f"or probabilities of shape {shape}"
        )
    policy = policy.astype(np.float64)
    if not ((policy >= 0).all() and np.allclose(policy.sum(axis=1), 1.0, rtol=0, atol=1e-6)):
        raise ValueError("policy: found a state whose probabilities are negative or do not sum to 1")
    return np.asarray(policy.cumsum(axis=1))


def _doubled(array: Array) -> Array:
    return np.concatenate([array, np.zeros_like(array)])
