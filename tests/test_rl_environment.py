"""Environments of a user's own: what their functions may do, what is refused, and the random numbers they draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="fastdl.rl is compiled by Numba")
pytest.importorskip("gymnasium", reason="fastdl.rl describes spaces by Gymnasium's")

import numba
from gymnasium import spaces

from fastdl import rl
from fastdl.rl.random import integers, normal, random, streams, uniform

BOX, TWO = spaces.Box(-10.0, 10.0, (2,)), spaces.Discrete(2)


@numba.njit
def _reset(state: Any, observation: Any, rng: Any) -> None:
    state[0] = 0.0
    observation[0], observation[1] = 0.0, uniform(rng, -1.0, 1.0)


@numba.njit
def _step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    state[0] += 1.0
    observation[0] = state[0] % 5
    return 1.0, state[0] >= 7.0


def _environment(step: Any = _step, reset: Any = _reset, **options: Any) -> rl.Environment:
    given = {"observation_space": BOX, "action_space": TWO, "state": 1, "max_steps": 50, **options}
    return rl.Environment(reset, step, **given)


def _agent(environment: rl.Environment) -> rl.PPO:
    return rl.PPO(environment, n_envs=2, n_steps=32, batch_size=32, hidden=(4,), seed=0)


# ---- random numbers ----


def test_streams_are_numpys() -> None:
    rng, expected = streams(11), np.random.default_rng(11)
    for i in range(2000):
        assert random(rng) == expected.random()
        assert uniform(rng, -0.3, 0.7) == expected.uniform(-0.3, 0.7)
        n = (i * 2654435761) % 2**32 if i % 2 else 1 + i % 13
        assert integers(rng, n) == expected.integers(n)
    children = np.random.SeedSequence(5).spawn(3)
    for row, child in zip(streams(5, 3), children, strict=True):
        assert random(row) == np.random.default_rng(child).random()
    assert streams(None).shape == (6,)
    assert streams(0, 0).shape == (0, 6)


def test_normal_numbers_are_normal() -> None:
    rng = streams(0)
    values = np.sort([normal(rng) for _ in range(40_000)])
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    scipy = pytest.importorskip("scipy.stats", reason="the distribution is compared with SciPy's")
    assert scipy.kstest(values, "norm").pvalue > 1e-3


# ---- functions that are right ----


def test_what_an_environment_says_of_itself() -> None:
    environment = _environment(name="counter")
    environment.check()
    assert (environment.observation_size, environment.n_actions, environment.action_size) == (2, 2, 1)
    assert repr(environment).startswith("Environment(counter, Box(")
    grid = _environment(observation_space=spaces.Tuple((spaces.Discrete(3), spaces.Discrete(4))))
    assert grid.observation_counts == (3, 4)
    steered = _environment(action_space=spaces.Box(-1.0, 1.0, (3,)))
    assert (steered.n_actions, steered.action_size) == (None, 3)
    assert not environment.state.flags.writeable


def test_plain_functions_are_compiled_and_rewards_may_be_integers() -> None:
    def step(state, action, observation, rng):  # type: ignore[no-untyped-def]
        state[0] += 1
        observation[0] = 0.0
        return 1, state[0] > 3

    environment = _environment(step=step)
    history = _agent(environment).train(64)
    assert set(history.returns) == {4.0}


def test_exceptions_come_out_of_compiled_loops() -> None:
    @numba.njit
    def step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
        state[0] += 1.0
        if state[0] > 110.0:
            raise ValueError("the cart fell off the table")
        return 1.0, False

    agent = _agent(_environment(step=step, max_steps=None))
    with pytest.raises(ValueError, match="the cart fell off the table"):
        agent.train(1000)
    assert np.isfinite(agent.parameters.flat).all()


# ---- functions that are not ----


@numba.njit
def _three(state: Any, action: Any, observation: Any) -> Any:
    return 1.0, False


@numba.njit
def _beyond_state(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    state[1] = 1.0
    return 1.0, False


@numba.njit
def _beyond_observation(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    observation[2] = 1.0
    return 1.0, False


@numba.njit
def _only_a_reward(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    return 1.0


@numba.njit
def _no_number(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    return np.nan, False


@numba.njit
def _far_away(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    observation[1] = 11.0
    return 1.0, False


@numba.njit
def _infinite(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    observation[1] = np.inf
    return 1.0, False


@numba.njit
def _mistyped(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    return state + "x", False


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (_three, TypeError, r"step: found parameters \(state, action, observation\), expected \(state, action, obs"),
        (3, TypeError, "step: found 3, expected a function"),
        (_beyond_state, ValueError, r"step: index 1 is out of bounds.*expected state\[0:1\]"),
        (_beyond_observation, ValueError, r"step: index 2 is out of bounds.*observation\[0:2\]"),
        (_only_a_reward, TypeError, "step: found a function that Numba cannot compile as step"),
        (_mistyped, TypeError, "step: found a function that Numba cannot compile as step"),
        (_no_number, ValueError, "step: found a reward of nan at step 0"),
        (_far_away, ValueError, r"step: found observation \[.*11.0\], expected one inside Box"),
        (_infinite, ValueError, r"step: found observation \[.*inf\], expected finite numbers"),
    ],
)
def test_steps_that_are_refused_before_training(step: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _agent(_environment(step=step))


def test_observations_that_are_not_written() -> None:
    @numba.njit
    def reset(state: Any, observation: Any, rng: Any) -> None:
        observation[0] = 0.0

    with pytest.raises(ValueError, match=r"reset: found observation \[0.0, nan\]"):
        _environment(reset=reset).check()


def test_discrete_observations_are_integers_of_their_space() -> None:
    @numba.njit
    def step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
        observation[0] = 2.5
        return 1.0, False

    @numba.njit
    def reset(state: Any, observation: Any, rng: Any) -> None:
        observation[0] = 0.0

    with pytest.raises(ValueError, match=r"step: found observation \[2.5\], expected one inside Discrete\(4\)"):
        _environment(step, reset, observation_space=spaces.Discrete(4)).check()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"state": 0}, ValueError, "state: found 0, expected at least one number"),
        ({"state": np.zeros((2, 2))}, ValueError, r"state: found shape \(2, 2\)"),
        ({"max_steps": 0}, ValueError, "max_steps: found 0"),
        ({"observation_space": spaces.Box(0, 1, (2, 2))}, TypeError, r"observation_space: found shape \(2, 2\)"),
        ({"observation_space": spaces.MultiBinary(3)}, TypeError, "space: found MultiBinary"),
        ({"action_space": spaces.Discrete(3, start=1)}, TypeError, "action_space: found Discrete"),
        ({"action_space": spaces.MultiDiscrete([2, 2])}, TypeError, "action_space: found MultiDiscrete"),
    ],
)
def test_descriptions_that_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _environment(**options)
