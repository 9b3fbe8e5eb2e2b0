"""Reinforcement learning: the contenders of bench.rl, bench.tabular and bench.mdp. One thread."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.contenders import Prepared
from bench.suites import Group

FAMILY = "reinforcement learning"
LESSON = 20_000
"""Steps of one call of REINFORCE."""
STATES = 100_000
"""Of the random decision process."""
TABLES = ("FrozenLake 8x8", "Taxi", "random, 1000 x 4 x 5")


def groups(dtype: str, threads: int, level: str) -> list[Group]:
    if dtype != "float32" or threads > 1 or not importlib.util.find_spec("gymnasium"):
        return []

    def group(case: str, who: tuple[str, ...], *tags: str, **roles: str) -> Group:
        found = tuple(name for name in who if name not in NEEDS or importlib.util.find_spec(NEEDS[name]))
        return Group(
            "learning", FAMILY, case, case.split()[0].lower(), dtype, threads, level, 0.0, found,
            tuple(roles.items()), frozenset(tags),
        )  # fmt: skip

    return [
        group("GAE of 64 environments", ("fastdl", "numpy", "rlox"), "quick"),
        *(group(f"Q-learning, {table}", ("fastdl", "numpy", "njit")) for table in TABLES),
        *([group("Sweep of value iteration", ("fastdl", "scipy", "quantecon"))] if _HAS_MDP else []),
        group("REINFORCE on CartPole", ("fastdl", "njit", "fastdl 8 at once"), **{"fastdl 8 at once": "variant"}),
        group("PPO on Pendulum", ("fastdl", "torch", "stable-baselines3")),
    ]


NEEDS = {"rlox": "rlox", "torch": "torch", "stable-baselines3": "stable_baselines3", "quantecon": "quantecon"}
_HAS_MDP = all(importlib.util.find_spec(name) for name in ("scipy", "quantecon"))


def traffic(group: Group) -> int:
    if group.case.startswith("GAE"):
        from bench.rl import GAE_TRAFFIC

        return GAE_TRAFFIC
    return 0


def prepare(group: Group, implementation: str) -> Prepared:
    kind = group.case.split()[0].strip(",")
    return PREPARE[kind](group.case, implementation)


def _gae(case: str, implementation: str) -> Prepared:
    from bench import rl

    calls = rl.gae_contenders()
    call = calls["NumPy" if implementation == "numpy" else implementation]
    right = calls["NumPy"]()

    def check(found: Any) -> None:
        rl.gae_compared(found, right)

    check(call())
    return Prepared(call, check)


@functools.lru_cache(1)
def _tables(table: str) -> Any:
    from bench import tabular

    rows, made = dict(zip(TABLES, (tabular.frozen_lake, tabular.taxi, tabular.random_table), strict=True))[table]()
    if (errors := tabular.disagreement(rows, made)) >= 4.0:
        raise AssertionError(f"{table}: values differ by {errors:.1f} standard errors, expected below 4")
    return tabular.Contenders(rows, made)


def _q_learning(case: str, implementation: str) -> Prepared:
    from bench import tabular

    contenders = _tables(case.partition(", ")[2])
    who = {"numpy": "python"}.get(implementation, implementation)

    def values() -> Any:
        return contenders.agent.q if who == "fastdl" else contenders.q[who]

    return Prepared(contenders.calls()[who], _moves(f"{case}: {implementation}", values), steps=tabular.TAKES[who])


def _moves(what: str, values: Callable[[], Any]) -> Callable[[Any], None]:
    """A check that what is learned is finite, and has changed since the last time."""
    before = np.copy(values())

    def check(result: Any) -> None:
        now = values()
        if not np.isfinite(now).all() or np.array_equal(now, before):
            raise AssertionError(f"{what}: a turn has changed nothing that is learned")
        before[...] = now

    return check


@functools.lru_cache(1)
def _sweeps() -> Any:
    from quantecon.markov import DiscreteDP

    from bench import mdp
    from fastdl import rl

    matrix, rewards = mdp.random_model(STATES, 4, 5)
    states, actions = np.repeat(np.arange(STATES), 4), np.tile(np.arange(4), STATES)
    peer = DiscreteDP(rewards.ravel(), matrix, 0.99, states, actions)
    return mdp.sweep_contenders(rl.MDP(matrix, rewards, 0.99), peer, matrix, rewards, 0.99)


def _sweep(case: str, implementation: str) -> Prepared:
    calls = _sweeps()
    expected = np.copy(calls["scipy"]()[0])

    def check(found: Any) -> None:
        np.testing.assert_allclose(found[0], expected, rtol=1e-12)

    call = calls[implementation]
    check(call())
    return Prepared(call, check)


def _reinforce(case: str, implementation: str) -> Prepared:
    from bench import rl

    learner = rl.LEARNERS[{"njit": "NumPy in @njit"}.get(implementation, implementation)](0)
    _, recent = learner(10 * LESSON)
    if recent < 100:
        raise AssertionError(f"{case}: {implementation}: found a mean of {recent:.0f} steps, expected that it learns")

    def check(found: Any) -> None:
        made, recent = found
        if not LESSON <= made < 2 * LESSON or not recent >= 1:
            raise AssertionError(f"{case}: {implementation}: found {made} steps, expected about {LESSON}")

    return Prepared(lambda: learner(LESSON), check, steps=LESSON)


def _ppo(case: str, implementation: str) -> Prepared:
    from bench import rl
    from fastdl.examples import pendulum

    train, parameters = rl.PPOS[implementation](0)
    steps = pendulum.OPTIONS["n_envs"] * pendulum.OPTIONS["n_steps"]
    train(steps)
    return Prepared(lambda: train(steps), _moves(f"{case}: {implementation}", parameters), steps=steps)


PREPARE: dict[str, Callable[[str, str], Prepared]] = {
    "GAE": _gae,
    "Q-learning": _q_learning,
    "Sweep": _sweep,
    "REINFORCE": _reinforce,
    "PPO": _ppo,
}
