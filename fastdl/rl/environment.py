"""What an environment is to compiled code: two functions over an array of state, called by their addresses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdl.rl import random
from fastdl.rl._numba import Dispatcher, cgutils, compiled, intrinsic, numba, types

if TYPE_CHECKING:
    import gymnasium

__all__ = ["Environment"]

_FLOATS = types.Array(types.float64, 1, "C")
_RNG = types.Array(types.uint64, 1, "C")
_RESET = types.none(_FLOATS, _FLOATS, _RNG)
_OUTCOME = types.Tuple((types.float64, types.boolean))
_STEP_DISCRETE = _OUTCOME(_FLOATS, types.int64, _FLOATS, _RNG)
_STEP_CONTINUOUS = _OUTCOME(_FLOATS, _FLOATS, _FLOATS, _RNG)

_GUARD = 16
"""Values on each side of an array that a checked function must not write."""


class Spaces:
    """What the spaces of observations and actions say."""

    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]

    @cached_property
    def observation_counts(self) -> tuple[int, ...] | None:
        """How many values each integer of a discrete observation has; None: it is continuous."""
        return _counts(self.observation_space)

    @cached_property
    def observation_size(self) -> int:
        """How many numbers an observation has."""
        counts = self.observation_counts
        return len(counts) if counts is not None else _size("observation_space", self.observation_space)

    @cached_property
    def n_actions(self) -> int | None:
        """How many discrete actions there are; None: they are continuous."""
        counts = _counts(self.action_space)
        if counts is not None and (len(counts) != 1 or getattr(self.action_space, "start", 0) != 0):
            raise TypeError(f"action_space: found {self.action_space}, expected Discrete from 0, or Box")
        return None if counts is None else counts[0]

    @cached_property
    def action_size(self) -> int:
        """How many numbers a continuous action has; 1 where it is discrete."""
        return 1 if self.n_actions is not None else _size("action_space", self.action_space)


@dataclass(frozen=True, eq=False)
class Environment(Spaces):
    """An environment that compiled code steps: a pair of plain functions over an array of state.

    Both are written by the user at the top level of a module, marked ``@numba.njit(cache=True)``, and may call others
    of that kind and those of `fastdl.rl.random`. They are called by address, so that loops over environments are
    compiled once and kept on disk, whatever the environment is.

    Parameters
    ----------
    reset : function(state, observation, rng)
        Starts an episode: writes `state` and `observation`.
    step : function(state, action, observation, rng) -> (reward, terminated)
        Takes an action: changes `state`, writes `observation`. `action` is an integer from 0 where the space of actions
        is discrete, else an array of float64.
    observation_space, action_space : gymnasium.Space
        What observations and actions are: Box of one axis, or Discrete (also MultiDiscrete, or a Tuple of Discrete, for
        observations), whose integers are written into `observation` as floats.
    state : int or array_like of float64
        How many numbers the state has, or its first values; what `reset` leaves alone are parameters.
    max_steps : int, optional
        After how many steps an episode is cut off (truncated).
    name : str, optional
        Of the environment, in messages and files.
    gymnasium_id : str, optional
        Of the same environment in Gymnasium, on which agents are evaluated.
    gymnasium_options : dict
        With which ``gymnasium.make`` makes it the same.

    state, observation, action : array of float64, shape (n,)
        `rng` is a stream of `fastdl.rl.random`.

    Raises
    ------
    TypeError
        A function that is none, that has other parameters, or cannot be compiled; a space that is not known.
    ValueError
        By `check`, which agents call before they train: a function that writes outside its arrays, an observation
        outside its space or not finite, a reward that is not finite.

    Examples
    --------
    A walk to the right from 0, until 5:

    >>> import gymnasium, numba
    >>> from fastdl import rl
    >>> @numba.njit
    ... def reset(state, observation, rng):
    ...     state[0] = observation[0] = 0.0
    >>> @numba.njit
    ... def step(state, action, observation, rng):
    ...     state[0] += 1.0 if action == 1 else -1.0
    ...     observation[0] = state[0]
    ...     return -1.0, state[0] >= 5.0
    >>> spaces = gymnasium.spaces
    >>> walk = rl.Environment(reset, step, spaces.Box(-100.0, 5.0, (1,)), spaces.Discrete(2), state=1, max_steps=100)
    >>> walk.check()
    >>> walk.observation_size
    1
    """

    reset: Callable[..., Any]
    step: Callable[..., Any]
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    state: Any
    max_steps: int | None = None
    name: str = "environment"
    gymnasium_id: str | None = None
    gymnasium_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, parameters in (
            ("reset", ("state", "observation", "rng")),
            ("step", ("state", "action", "observation", "rng")),
        ):
            function = getattr(self, name)
            python = _interpreted(function)
            if not inspect.isfunction(python):
                raise TypeError(f"{name}: found {function!r}, expected a function that Numba compiles")
            found = tuple(inspect.signature(python).parameters)
            if len(found) != len(parameters):
                raise TypeError(f"{name}: found parameters ({', '.join(found)}), expected ({', '.join(parameters)})")
        if isinstance(self.state, (int, np.integer)):
            if self.state < 1:
                raise ValueError(f"state: found {self.state}, expected at least one number")
            template = np.zeros(self.state)
        else:
            template = np.array(self.state, np.float64)
            if template.ndim != 1 or not template.size:
                raise ValueError(f"state: found shape {template.shape}, expected one axis of at least one number")
        template.flags.writeable = False
        object.__setattr__(self, "state", template)
        if not np.isfinite(template).all():
            raise ValueError(f"state: found {template.tolist()}, expected finite numbers")
        if not isinstance(self.max_steps, (int, np.integer, type(None))) or isinstance(self.max_steps, bool):
            raise TypeError(f"max_steps: found {self.max_steps!r}, expected an integer or None")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps: found {self.max_steps}, expected None or at least 1")
        _ = self.observation_size, self.action_size

    def __repr__(self) -> str:
        return f"Environment({self.name}, {self.observation_space} -> {self.action_space}, max_steps={self.max_steps})"

    @cached_property
    def addresses(self) -> tuple[int, int]:
        """Where the compiled `reset` and `step` are, for `call_reset` and `call_step`."""
        step = _STEP_CONTINUOUS if self.n_actions is None else _STEP_DISCRETE
        return _compiled("reset", self.reset, _RESET)[0], _compiled("step", self.step, step)[0]

    def check(self, seed: int = 0, steps: int = 100) -> None:
        """Try both functions on random actions, with walls of guarded memory around their arrays.

        Parameters
        ----------
        seed : int
            Of the actions and of the environment.
        steps : int
            How many are taken, by the functions as Python runs them, where each access is checked, and compiled.
        """
        compiled_functions = self.addresses  # what cannot be compiled is an error before anything is run
        chooser = np.random.default_rng(seed)
        if self.n_actions is not None:
            actions: Any = chooser.integers(0, self.n_actions, steps)
        else:
            low, high = np.broadcast_arrays(self.action_space.low, self.action_space.high)  # type: ignore[attr-defined]
            actions = chooser.uniform(np.maximum(low, -1e3), np.minimum(high, 1e3), (steps, self.action_size))
        self._try(_interpreted(self.reset), _interpreted(self.step), actions, seed)
        self._try(*by_address(*compiled_functions), actions, seed)

    def _try(self, reset: Any, step: Any, actions: Any, seed: int) -> None:
        state, walls_of_state = _walled(self.state)
        observation, walls_of_observation = _walled(np.zeros(self.observation_size))
        rng = random.streams(seed)

        def called(name: str, function: Any, *arguments: Any) -> Any:
            if name == "reset":  # a step may leave alone what does not change
                observation[...] = np.nan
            try:
                result = function(*arguments)
            except IndexError as error:
                raise ValueError(
                    f"{name}: {error}; found an access outside its arrays, expected state[0:{state.size}] and "
                    f"observation[0:{observation.size}]"
                ) from error
            if walls_of_state() or walls_of_observation():
                which = "state" if walls_of_state() else "observation"
                raise ValueError(f"{name}: found a write outside {which}, expected {which}[0:{locals_[which].size}]")
            self._check_observation(name, observation)
            return result

        locals_ = {"state": state, "observation": observation}
        called("reset", reset, state, observation, rng)
        for i, action in enumerate(actions):
            given = np.int64(action) if self.n_actions is not None else np.array(action, np.float64)
            result = called("step", step, state, given, observation, rng)
            if not isinstance(result, tuple) or len(result) != 2:
                raise TypeError(f"step: found {result!r}, expected (reward, terminated)")
            if not np.isfinite(result[0]):
                raise ValueError(f"step: found a reward of {result[0]} at step {i}, expected a finite number")
            if result[1]:
                called("reset", reset, state, observation, rng)

    def _check_observation(self, name: str, observation: np.ndarray[Any, Any]) -> None:
        if not np.isfinite(observation).all():
            raise ValueError(f"{name}: found observation {observation.tolist()}, expected finite numbers")
        counts = self.observation_counts
        if counts is not None:
            inside = (observation == np.floor(observation)) & (observation >= 0) & (observation < counts)
        else:
            space: Any = self.observation_space
            slack = 1e-5 * np.maximum(1.0, np.abs(observation))
            inside = (observation >= space.low - slack) & (observation <= space.high + slack)
        if not np.all(inside):
            raise ValueError(
                f"{name}: found observation {observation.tolist()}, expected one inside {self.observation_space}"
            )


def _counts(space: Any) -> tuple[int, ...] | None:
    """How many values each integer of a discrete space has."""
    kind = type(space).__name__
    if kind == "Discrete":
        return (int(space.n),)
    if kind == "MultiDiscrete":
        return tuple(int(n) for n in space.nvec.ravel())
    if kind == "Tuple":
        parts = [_counts(part) for part in space.spaces]
        if all(part is not None for part in parts):
            return sum((part for part in parts if part is not None), ())
    if kind == "Box":
        return None
    raise TypeError(f"space: found {space!r}, expected Box, Discrete, MultiDiscrete, or a Tuple of Discrete")


def _size(name: str, space: Any) -> int:
    if len(space.shape) != 1 or not space.shape[0]:
        raise TypeError(f"{name}: found shape {space.shape}, expected one axis of at least one number")
    return int(space.shape[0])


def _compiled(name: str, function: Any, signature: Any) -> tuple[int, Any]:
    """The address of a function compiled for a signature, and what keeps it."""
    dispatcher = function if isinstance(function, Dispatcher) else numba.njit(function)
    found: Any = dispatcher.overloads.get(signature.args)
    if found is not None and found.signature.return_type != signature.return_type:
        dispatcher = numba.njit(dispatcher.py_func)  # compiled before, with another type of reward
    try:
        dispatcher.compile(signature)
    except numba.core.errors.NumbaError as error:
        what = str(error).strip().splitlines()
        raise TypeError(
            f"{name}: found a function that Numba cannot compile as {name}{signature.args} -> {signature.return_type}: "
            + " ".join(what[:6])
        ) from error
    result: Any = dispatcher.overloads[signature.args]
    address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    _KEPT.append(dispatcher)
    return int(address), dispatcher


_KEPT: list[Any] = []
"""Compiled functions live as long as the process: their addresses may be anywhere."""


def _interpreted(function: Any) -> Any:
    return function.py_func if isinstance(function, Dispatcher) else function


def _walled(values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], Callable[[], bool]]:
    """A copy of an array between guards, and whether these have been written."""
    wall = -7.123456789e300
    memory = np.full(values.size + 2 * _GUARD, wall)
    inner = memory[_GUARD:-_GUARD]
    inner[:] = values
    return inner, lambda: bool((memory[:_GUARD] != wall).any() or (memory[-_GUARD:] != wall).any())


def _called_by_address(return_type: Any) -> Any:
    """Code that calls what lies at an address, by Numba's own convention: exceptions come through."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function_type = context.call_conv.get_function_type(return_type, signature.args[1:])
        function = builder.inttoptr(arguments[0], function_type.as_pointer())
        status, result = context.call_conv.call_function(
            builder, function, return_type, signature.args[1:], arguments[1:]
        )
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value() if return_type == types.none else result

    return lower


@intrinsic
def call_reset(typing_context: Any, address: Any, state: Any, observation: Any, rng: Any) -> Any:
    """Call ``reset(state, observation, rng)`` at an address."""
    return types.none(types.int64, _FLOATS, _FLOATS, _RNG), _called_by_address(types.none)


@intrinsic
def call_step(typing_context: Any, address: Any, state: Any, action: Any, observation: Any, rng: Any) -> Any:
    """The result of ``step(state, action, observation, rng)`` at an address: (reward, terminated)."""
    given = _FLOATS if isinstance(action, types.Array) else types.int64
    return _OUTCOME(types.int64, _FLOATS, given, _FLOATS, _RNG), _called_by_address(_OUTCOME)


@compiled
def _reset_at(address: int, state: Any, observation: Any, rng: Any) -> None:
    call_reset(address, state, observation, rng)


@compiled
def _step_at(address: int, state: Any, action: Any, observation: Any, rng: Any) -> Any:
    return call_step(address, state, action, observation, rng)


def by_address(reset: int, step: int) -> tuple[Any, Any]:
    """Two functions that Python can call, of their addresses."""
    return (
        lambda *arguments: _reset_at(reset, *arguments),
        lambda *arguments: _step_at(step, *arguments),
    )
