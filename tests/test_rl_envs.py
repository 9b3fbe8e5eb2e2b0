"""The environments of fastdl.rl against Gymnasium's: the same seeds and actions, number for number."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

numba = pytest.importorskip("numba")
gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from fastdl import rl  # noqa: E402
from fastdl.rl.environment import call_reset, call_step  # noqa: E402
from tests.support import HOME  # noqa: E402

MANY, SOME = 100_000, 10_000
"""Steps that are compared: of each environment, and of each with other options. Half of them are enough where
Gymnasium takes 50 us and more for one."""


class Case(NamedTuple):
    id: str
    options: Mapping[str, Any] = MappingProxyType({})
    steps: int = SOME
    attributes: Mapping[str, Any] = MappingProxyType({})
    """What Gymnasium has no options for, by its names."""


CASES = [
    Case("CartPole-v1", steps=MANY),
    Case("CartPole-v1", {"sutton_barto_reward": True}),
    Case("CartPole-v1", {}, SOME, {"gravity": 3.7, "masscart": 2.0, "masspole": 0.3, "length": 0.7, "tau": 0.01}),
    Case("MountainCar-v0", steps=MANY),
    Case("MountainCar-v0", {"goal_velocity": 0.02}, SOME, {"force": 0.003}),
    Case("MountainCarContinuous-v0", steps=MANY),
    Case("MountainCarContinuous-v0", {"goal_velocity": 0.02}, SOME, {"power": 0.004}),
    Case("Acrobot-v1", steps=MANY // 2),
    Case("Acrobot-v1", {}, SOME, {"torque_noise_max": 0.5, "book_or_nips": "nips", "dt": 0.1}),
    Case("Pendulum-v1", steps=MANY),
    Case("Pendulum-v1", {"g": 9.81}, SOME, {"m": 0.7, "l": 1.3}),
    Case("FrozenLake-v1", steps=MANY),
    Case("FrozenLake8x8-v1"),
    Case("FrozenLake-v1", {"is_slippery": False}),
    Case("FrozenLake-v1", {"desc": ["SFHF", "FSFG", "FFSH"]}),
    Case("FrozenLake-v1", {"success_rate": 0.8, "reward_schedule": (3, -2, -0.1)}),
    Case("Taxi-v4", steps=MANY),
    Case("Taxi-v4", {"is_rainy": True, "rainy_probability": 0.7}),
    Case("Taxi-v4", {"is_rainy": True, "fickle_passenger": True, "fickle_probability": 0.9}),
    Case("CliffWalking-v1", steps=MANY),
    Case("CliffWalking-v1", {"is_slippery": True}),
    Case("Blackjack-v1", steps=MANY // 2),
    Case("Blackjack-v1", {"sab": False}),
    Case("Blackjack-v1", {"natural": True, "sab": False}),
]


def _name(case: Case) -> str:
    return "-".join([case.id, *case.options, *case.attributes])


EVERY = pytest.mark.parametrize("case", CASES, ids=_name)


def _theirs(case: Case) -> Any:
    if case.id not in gymnasium.registry:
        pytest.skip(f"this Gymnasium has no {case.id}")
    try:
        env = gymnasium.make(case.id, **case.options).unwrapped
    except TypeError as error:
        pytest.skip(f"this Gymnasium has no such option: {error}")
    for name, value in case.attributes.items():
        assert hasattr(env, name)
        setattr(env, name, value)
    if case.id == "CartPole-v1":  # what it has derived from these
        env.total_mass, env.polemass_length = env.masspole + env.masscart, env.masspole * env.length
    return env


def _ours(case: Case) -> rl.Environment:
    return rl.make(case.id, **case.options, **case.attributes)


def _actions(case: Case) -> np.ndarray[Any, Any]:
    """Random ones; beyond the bounds too, where these are clipped, and now and then held, so that something happens."""
    rng = np.random.default_rng(3)
    environment = _ours(case)
    if environment.n_actions is not None:
        actions = rng.integers(0, environment.n_actions, case.steps)
        if case.id == "Blackjack-v1":
            actions = (rng.random(case.steps) < 0.6).astype(np.int64)
        if case.id.startswith(("MountainCar", "Acrobot")):
            actions = np.repeat(actions[::20], 20)[: case.steps]
        return actions
    actions = rng.uniform(-1.5, 1.5, (case.steps, 1)) * environment.action_space.high[0]  # type: ignore[attr-defined]
    actions = np.repeat(actions[::25], 25, axis=0)[: case.steps]
    return actions.astype(np.float32).astype(np.float64)


SEED = 20260724


class Run(NamedTuple):
    """What happened before and in each step; after its end an episode is begun anew."""

    begun: np.ndarray[Any, Any]
    before: np.ndarray[Any, Any]
    first: np.ndarray[Any, Any]
    observation: np.ndarray[Any, Any]
    reward: np.ndarray[Any, Any]
    terminated: np.ndarray[Any, Any]


def _state(case: Case, env: Any) -> list[float]:
    """What Gymnasium's environment has where the state of ours begins."""
    if case.id == "Blackjack-v1":
        hands = [(sum(hand), 1 in hand, len(hand)) for hand in (env.player, env.dealer)]
        return [*hands[0], *hands[1], env.dealer[0]]
    return list(env.state) if hasattr(env, "state") else [env.s]


@cache
def _run_of_theirs(index: int) -> Run:
    case = CASES[index]
    env, environment, actions = _theirs(case), _ours(case), _actions(case)
    discrete = environment.n_actions is not None
    limit, n = environment.max_steps or case.steps, case.steps
    given: Any = actions.tolist() if discrete else actions.astype(np.float32)
    observation, _ = env.reset(seed=SEED)
    lists: Any = [], [], [], [], [], []
    begun, t = True, 0
    for action in given:
        record: tuple[Any, ...] = begun, _state(case, env), observation
        observation, reward, terminated, _, _ = env.step(action)
        t += 1
        for values, value in zip(lists, (*record, observation, reward, terminated), strict=True):
            values.append(value)
        begun = terminated or t == limit
        if begun:
            observation, t = env.reset()[0], 0
    shapes = (n,), (n, -1), (n, -1), (n, -1), (n,), (n,)
    return Run(*(np.array(values).reshape(shape) for values, shape in zip(lists, shapes, strict=True)))


@numba.njit  # type: ignore[untyped-decorator]
def _loop(reset: int, step: int, template: Any, rng: Any, actions: Any, limit: int, size: int, given: Any) -> Any:
    """A run of ours; of each step after another's state, where these are given."""
    n = len(actions)
    begun, terminated, reward = np.zeros(n, np.bool_), np.zeros(n, np.bool_), np.zeros(n)
    before, first, after = np.zeros((n, template.size)), np.zeros((n, size)), np.zeros((n, size))
    state, observation = template.copy(), np.zeros(size)
    call_reset(reset, state, observation, rng)
    again, t = True, 0
    for i in range(n):
        begun[i], before[i], first[i] = again, state, observation
        if given.size:
            state[: given.shape[1]] = given[i]
        reward[i], terminated[i] = call_step(step, state, actions[i], observation, rng)
        after[i] = observation
        t += 1
        again = terminated[i] or t == limit
        if again:
            call_reset(reset, state, observation, rng)
            t = 0
    return begun, before, first, after, reward, terminated


def _run_of_ours(case: Case, given: np.ndarray[Any, Any] | None = None) -> Run:
    environment = _ours(case)
    given = np.empty((0, 0)) if given is None else given.astype(np.float64)
    return Run(
        *_loop(
            *environment.addresses,
            np.array(environment.state),
            rl.random.streams(SEED),
            _actions(case),
            environment.max_steps or case.steps,
            environment.observation_size,
            given,
        )
    )


def _libm() -> bool:
    """Whether NumPy's sine and cosine are the C library's, which Numba calls, and not vectors of its own."""
    x = np.random.default_rng(0).uniform(-10.0, 10.0, 10_000)
    return all([f(v) for v in x] == [g(v) for v in x] for f, g in ((np.sin, math.sin), (np.cos, math.cos)))


def _exact(case: Case) -> tuple[str, ...]:
    """What has to agree bit for bit, over whole runs."""
    everything = "begun", "before", "first", "observation", "reward", "terminated"
    if case.id.startswith(("MountainCar", "FrozenLake", "Taxi", "Cliff", "Blackjack")):
        return everything
    if not _libm():
        pytest.skip("NumPy's sine and cosine are not the C library's here: see the test below")
    if case.id == "Pendulum-v1":
        return tuple(name for name in everything if name != "reward")
    return everything


@pytest.mark.parametrize("case", [case for case in CASES if case.id != "Acrobot-v1"], ids=_name)
def test_runs_are_gymnasiums_bit_for_bit(case: Case) -> None:
    """Acrobot's are not, as squares are taken by the power function there: see below."""
    names = _exact(case)
    theirs, ours = _run_of_theirs(CASES.index(case)), _run_of_ours(case)
    assert theirs.begun.sum() > 2
    assert theirs.terminated.any() or case.id == "Pendulum-v1"
    for name in names:
        found, expected = getattr(ours, name), getattr(theirs, name)
        if name == "before":
            found = found[:, : expected.shape[1]]
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.id in ("CartPole-v1", "Acrobot-v1", "Pendulum-v1")], ids=_name
)
def test_steps_are_gymnasiums_to_rounding(case: Case) -> None:
    """From the same states, where NumPy may round sine, cosine and squares to the other side."""
    theirs = _run_of_theirs(CASES.index(case))
    ours = _run_of_ours(case, theirs.before)
    np.testing.assert_array_equal(ours.begun, theirs.begun)
    np.testing.assert_array_equal(ours.terminated, theirs.terminated)
    reward = ours.reward
    if case.id == "Pendulum-v1":  # a float32 squared by the power function is not always what the product rounds to
        torque = np.clip(_actions(case)[:, 0], -2.0, 2.0).astype(np.float32)
        power = np.array([x**2 for x in torque])
        reward = reward - (np.float32(0.001) * power - np.float32(0.001) * (torque * torque)).astype(np.float64)
        assert np.abs(reward - ours.reward).max() <= 2.4e-10
    np.testing.assert_allclose(reward, theirs.reward, rtol=1e-12)
    for name in ("first", "observation"):  # of float32: to its last bit
        np.testing.assert_array_max_ulp(
            getattr(ours, name).astype(np.float32), getattr(theirs, name).astype(np.float32), 1
        )
    size = theirs.before.shape[1]
    np.testing.assert_array_equal(ours.before[ours.begun, :size], theirs.before[ours.begun])
    np.testing.assert_allclose(ours.before[:, :size], theirs.before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if case.id == "Acrobot-v1"], ids=_name)
def test_runs_of_acrobot_are_gymnasiums_to_rounding(case: Case) -> None:
    if not _libm():
        pytest.skip("NumPy's sine and cosine are not the C library's here: see the test above")
    theirs, ours = _run_of_theirs(CASES.index(case)), _run_of_ours(case)
    for name in ("begun", "reward", "terminated"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert theirs.terminated.any()
    np.testing.assert_allclose(ours.before[:, :4], theirs.before, rtol=0, atol=1e-12)


@EVERY
def test_spaces_and_limits_are_gymnasiums(case: Case) -> None:
    environment, env = _ours(case), _theirs(case)
    assert environment.observation_space == env.observation_space
    assert environment.action_space == env.action_space
    assert environment.max_steps == gymnasium.spec(case.id).max_episode_steps
    environment.check()


@EVERY
def test_gymnasium_makes_the_same_one_of_its_description(case: Case) -> None:
    environment = _ours(case)
    if case.attributes:
        assert environment.gymnasium_id is None
        return
    assert environment.gymnasium_id is not None
    env = gymnasium.make(environment.gymnasium_id, **environment.gymnasium_options)
    given = gymnasium.make(case.id, **case.options)
    assert type(env.unwrapped) is type(given.unwrapped)
    steps = [wrapper._max_episode_steps if hasattr(wrapper, "_max_episode_steps") else None for wrapper in (env, given)]
    assert steps[0] == steps[1] == environment.max_steps
    if hasattr(env.unwrapped, "P"):
        assert env.unwrapped.P == given.unwrapped.P


TABLES = [case for case in CASES if case.id.startswith(("FrozenLake", "Taxi", "Cliff"))]


@pytest.mark.parametrize("case", TABLES, ids=_name)
def test_tables_are_gymnasiums(case: Case) -> None:
    assert rl.envs.transitions(_ours(case)) == _theirs(case).P


def test_tables_of_certain_slips_keep_every_outcome() -> None:
    for options in ({"success_rate": 1.0}, {"success_rate": 0.0}):
        case = Case("FrozenLake-v1", options)
        assert rl.envs.transitions(_ours(case)) == _theirs(case).P


def test_random_maps_are_gymnasiums() -> None:
    from gymnasium.envs.toy_text.frozen_lake import generate_random_map

    for seed in range(20):
        assert rl.envs.random_map(5, 0.5, seed) == generate_random_map(5, 0.5, seed)
    environment = rl.envs.frozen_lake(map_name=None)
    assert environment.observation_counts == (64,)
    assert len(environment.gymnasium_options["desc"]) == 8


def test_ids_of_gymnasiums_that_differ_in_options_only() -> None:
    assert rl.make("CartPole-v0").max_steps == 200
    assert rl.make("CartPole-v0").gymnasium_options == {"max_episode_steps": 200}
    assert rl.make("FrozenLake8x8-v1").max_steps == 200
    assert rl.make("CartPole-v1", max_steps=None).gymnasium_options == {"max_episode_steps": -1}
    slippery = rl.make("CliffWalkingSlippery-v1")
    assert rl.envs.transitions(slippery) == rl.envs.transitions(rl.envs.cliff_walking(is_slippery=True))
    np.testing.assert_array_equal(rl.make("Taxi-v3").state, rl.make("Taxi-v4").state)


envs: Any = rl.envs  # whose types are not kept here
BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: rl.make("Pong-v5"), ValueError, r"id: found 'Pong-v5', expected one of Acrobot-v1, .*Taxi-v4"),
    (lambda: rl.make("CartPole-v1", wind=1), TypeError, r"options: found wind, expected for CartPole-v1 some of .*tau"),
    (lambda: envs.cart_pole(tau=0.0), ValueError, r"tau: found 0.0, expected a finite number above 0"),
    (lambda: envs.cart_pole(gravity=float("nan")), ValueError, r"gravity: found nan, expected a finite number"),
    (lambda: envs.cart_pole(gravity="moon"), TypeError, r"gravity: found 'moon', expected a number"),
    (lambda: envs.cart_pole(sutton_barto_reward=1), TypeError, r"sutton_barto_reward: found 1, expected True or"),
    (lambda: envs.cart_pole(max_steps=0), ValueError, r"max_steps: found 0"),
    (lambda: envs.acrobot(book_or_nips="x"), ValueError, r"book_or_nips: found 'x', expected 'book' or 'nips'"),
    (lambda: envs.frozen_lake(map_name="5x5"), ValueError, r"map_name: found '5x5', expected one of 4x4, 8x8"),
    (lambda: envs.frozen_lake(desc=["SF", "XG"]), ValueError, r"desc: found 'X', expected S \(start\)"),
    (lambda: envs.frozen_lake(desc=["SFF", "FG"]), ValueError, r"desc: found rows of \[3, 2\] tiles"),
    (lambda: envs.frozen_lake(desc=["FF", "FG"]), ValueError, r"desc: found no S in .*, expected at least one st"),
    (lambda: envs.frozen_lake(desc=["SF", "FF"]), ValueError, r"desc: found no G in .*, expected at least one go"),
    (lambda: envs.frozen_lake(desc="SFFG"), TypeError, r"desc: found 'SFFG', expected a list of strings"),
    (lambda: envs.frozen_lake(desc=[]), TypeError, r"desc: found \[\], expected a list of strings"),
    (lambda: envs.frozen_lake(desc=[1, 2]), TypeError, r"desc: found \[1, 2\], expected a list of strings"),
    (lambda: envs.frozen_lake(success_rate=1.5), ValueError, r"success_rate: found 1.5, expected a .* from 0 to 1"),
    (lambda: envs.frozen_lake(reward_schedule=(1, 0)), ValueError, r"reward_schedule: found \(1, 0\), expected th"),
    (lambda: envs.frozen_lake(reward_schedule=3), ValueError, r"reward_schedule: found 3, expected three numbers"),
    (lambda: envs.random_map(1), ValueError, r"size: found 1, expected an integer from 2"),
    (lambda: envs.random_map(2.5), TypeError, r"size: found 2.5, expected an integer"),
    (lambda: envs.random_map(4, 0.0), ValueError, r"p: found 0.0, expected a finite number above 0 to 1"),
    (lambda: envs.taxi(rainy_probability=-1), ValueError, r"rainy_probability: found -1, expected a finite number"),
    (
        lambda: envs.transitions(envs.pendulum()),
        ValueError,
        r"environment: found .*Pendulum-v1.*, expected Froze",
    ),
    (lambda: envs.frames(envs.acrobot(), [[0.0]]), ValueError, r"environment: found .*Acrobot-v1.*, expected"),
    (
        lambda: envs.frames(envs.taxi(), [0.0]),
        ValueError,
        r"states: found shape \(1,\), expected \(at least 1, 7\)",
    ),
]


@pytest.mark.parametrize("index", range(len(BAD)))
def test_mistakes_are_named(index: int) -> None:
    call, error, message = BAD[index]
    with pytest.raises(error, match=message):
        call()


ADAPTED = ["CartPole-v1", "Pendulum-v1", "MountainCarContinuous-v0", "FrozenLake-v1", "Taxi-v4", "Blackjack-v1"]


@pytest.mark.parametrize("id", ADAPTED)
@pytest.mark.filterwarnings("ignore::UserWarning:gymnasium")
def test_adapted_it_is_an_environment_of_gymnasiums(id: str) -> None:
    env = rl.envs.GymnasiumEnv(rl.make(id))
    check_env(env, skip_render_check=True)
    limit = env.environment.max_steps or 1000
    other = gymnasium.make(id, max_episode_steps=limit)
    other.action_space.seed(5)
    np.testing.assert_equal(env.reset(seed=9)[0], other.reset(seed=9)[0])
    for _ in range(300):
        action = other.action_space.sample()
        ours, theirs = env.step(action), other.step(action)
        np.testing.assert_equal(ours[0], theirs[0])
        assert type(ours[0]) is type(theirs[0])
        assert ours[1] == pytest.approx(theirs[1], rel=1e-12)
        assert ours[2:4] == theirs[2:4]
        if ours[2] or ours[3]:
            np.testing.assert_equal(env.reset()[0], other.reset()[0])


def test_adapted_it_names_mistakes() -> None:
    env = rl.envs.GymnasiumEnv(rl.make("CartPole-v1"))
    with pytest.raises(ValueError, match="step: found no episode, expected reset before"):
        env.step(0)
    env.reset()
    with pytest.raises(ValueError, match="action: found 2, expected one of Discrete"):
        env.step(2)


_PROCESS = """
import sys
from fastdl import rl
from fastdl.rl.environment import _reset_at, _step_at
functions = {_reset_at, _step_at}
for id in sys.argv[1:]:
    env = rl.envs.GymnasiumEnv(rl.make(id))
    env.reset(seed=0)
    env.step(env.action_space.sample())
    functions |= {env.environment.reset, env.environment.step}
for counts in ("cache_hits", "cache_misses"):
    print(sum(sum(getattr(function.stats, counts).values()) for function in functions))
"""


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    ids = "CartPole-v1", "Pendulum-v1"

    def run() -> list[int]:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", _PROCESS, *ids],
            cwd=HOME,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return [int(word) for word in done.stdout.split()]

    n = 2 * len(ids) + 3  # a step of either kind and one reset are called by address from Python
    assert run() == [0, n]
    assert run() == [n, 0]


def test_without_gymnasium_it_says_what_to_install() -> None:
    code = """
import sys
sys.modules["gymnasium"] = None
from fastdl import rl
try:
    rl.make("CartPole-v1")
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout == 'Environments need the spaces of Gymnasium: pip install "fastdl[rl]"\n'


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Taxi-v4"])
def test_pictures(id: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    env = rl.envs.GymnasiumEnv(rl.make(id))
    env.reset(seed=1)
    states = [env.state]
    env.action_space.seed(1)
    while len(states) < 4:
        if env.step(env.action_space.sample())[2]:
            env.reset()
        if not np.array_equal(env.state, states[-1]):
            states.append(env.state)
    pictures = rl.envs.frames(env.environment, states, size=2.0, dpi=50)
    assert len(pictures) == 4
    assert all(picture.dtype == np.uint8 and picture.shape == pictures[0].shape for picture in pictures)
    assert max(pictures[0].shape[:2]) == 100
    assert all((a != b).any() for a, b in pairwise(pictures))
    again = rl.envs.frames(env.environment, states[:1], size=2.0, dpi=50)
    np.testing.assert_array_equal(again[0], pictures[0])
    path = tmp_path / "episode.gif"
    rl.animate(env.environment, states, path, size=2.0, dpi=50)
    with Image.open(path) as image:
        assert image.size == pictures[0].shape[1::-1]
        assert image.n_frames == 4  # type: ignore[attr-defined]
