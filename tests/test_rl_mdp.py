"""Markov decision processes: published solutions, other solvers, one another, and every mistake."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from math import exp, factorial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="the kernels are written in Numba")

import fastdl
from fastdl import rl
from tests.support import HOME

# ---- models ----


def gridworld(discount: float = 0.9) -> rl.MDP:
    """Sutton and Barto, example 3.5: 5 x 5, north south west east, two states with a way out."""
    P, R = np.zeros((25, 4, 25)), np.zeros((25, 4))
    for s in range(25):
        y, x = divmod(s, 5)
        for a, (dy, dx) in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1))):
            if s in (1, 3):
                P[s, a, 21 if s == 1 else 13], R[s, a] = 1, 10 if s == 1 else 5
            elif 0 <= y + dy < 5 and 0 <= x + dx < 5:
                P[s, a, s + 5 * dy + dx] = 1
            else:
                P[s, a, s], R[s, a] = 1, -1
    return rl.MDP(P, R, discount)


def corners(discount: float = 1.0, **options: Any) -> rl.MDP:
    """Sutton and Barto, example 4.1: 4 x 4, a step costs 1, two corners are the end."""
    P = np.zeros((16, 4, 16))
    for s in range(16):
        y, x = divmod(s, 4)
        for a, (dy, dx) in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1))):
            inside = 0 <= y + dy < 4 and 0 <= x + dx < 4
            P[s, a, s + 4 * dy + dx if inside else s] = 1
    return rl.MDP(P, np.full(16, -1.0), discount, terminal=[0, 15], **options)


def gambler(heads: float = 0.4, smallest: int = 0) -> rl.MDP:
    """Sutton and Barto, example 4.3: stakes from a capital of 1 to 99; 100 wins."""
    states, actions, rows, successors, probabilities, rewards = [], [], [0], [], [], []
    for s in range(1, 100):
        for a in range(smallest, min(s, 100 - s) + 1):
            states.append(s)
            actions.append(a)
            successors += [s + a, s - a]
            probabilities += [heads, 1 - heads]
            rewards += [float(s + a == 100), 0.0]
            rows.append(len(successors))
    return rl.MDP.from_csr(
        rows, successors, probabilities, rewards, 1.0, num_states=101, states=states, actions=actions, terminal=[0, 100]
    )


def car_rental() -> rl.MDP:
    """Sutton and Barto, example 4.2: 20 cars at two places, up to 5 of them moved overnight for 2 dollars each."""
    from scipy.sparse import csr_array

    def day(requests: float, returns: float) -> tuple[Any, Any]:
        """From the cars in the morning to those in the evening, and what is rented."""
        wanted, back = (
            np.array([rate**k * exp(-rate) / factorial(k) for k in range(40)]) for rate in (requests, returns)
        )
        move, earned = np.zeros((21, 21)), np.zeros(21)
        for n in range(21):
            rented = np.minimum(n, np.arange(40))
            earned[n] = 10 * wanted @ rented
            evening = np.minimum(20, n - rented[:, None] + np.arange(40))
            np.add.at(move[n], evening, np.outer(wanted, back))
        return move / move.sum(1, keepdims=True), earned

    (first, earned_1), (second, earned_2) = day(3, 3), day(4, 2)
    states, actions, rows, rewards = [], [], [], []
    for n in range(21):
        for m in range(21):
            for a in range(-min(5, m), min(5, n) + 1):
                x, y = min(n - a, 20), min(m + a, 20)
                states.append(n * 21 + m)
                actions.append(a + 5)
                rows.append(np.outer(first[x], second[y]).ravel())
                rewards.append(earned_1[x] + earned_2[y] - 2 * abs(a))
    return rl.MDP(csr_array(np.array(rows)), rewards, 0.9, states=states, actions=actions)


def random_model(seed: int, states: int = 30, discount: float = 0.9, ends: bool = True) -> rl.MDP:
    """Actions that differ from state to state, several transitions to one state, and maybe ends of both kinds."""
    rng = np.random.default_rng(seed)
    there = rng.random((states, 4)) < 0.6
    there[np.arange(states), rng.integers(0, 4, states)] = True
    s, a = np.nonzero(there)
    lengths = rng.integers(1, 6, len(s))
    rows = np.concatenate(([0], lengths.cumsum()))
    p = rng.random(rows[-1]) + 0.01
    p /= np.repeat(np.add.reduceat(p, rows[:-1]), lengths)
    successors = rng.integers(0, states, rows[-1])
    more = {"terminal": [states - 1], "terminated": rng.random(rows[-1]) < 0.1} if ends else {}
    return rl.MDP.from_csr(
        *(rows, successors, p, rng.normal(size=rows[-1]), discount), num_states=states, states=s, actions=a, **more
    )


def optimum(model: rl.MDP) -> np.ndarray:
    """Plain value iteration in NumPy, to the last digit."""
    P, R = model.to_dense()
    v = np.zeros(model.num_states)
    for _ in range(100_000):
        new = (R + model.discount * P @ v).max(1)
        if np.abs(new - v).max() <= 1e-15 * max(1, np.abs(new).max()):
            return new
        v = new
    raise AssertionError("does not converge")


def exact(model: rl.MDP, policy: Any) -> np.ndarray:
    """A policy's value, by NumPy alone."""
    P, R = model.to_dense()
    policy = np.asarray(policy)
    if policy.ndim == 1:
        policy = np.eye(model.num_actions)[policy]
    r = (policy * np.where(np.isfinite(R), R, 0)).sum(1)
    r[model.terminal] = 0
    chain = np.einsum("sa,saj->sj", policy, P)
    return np.linalg.solve(np.eye(len(r)) - model.discount * chain, r)


SOLVERS = {
    "value iteration": rl.value_iteration,
    "gauss-seidel": lambda model, epsilon=1e-6: rl.value_iteration(model, epsilon, method="gauss_seidel"),
    "modified": rl.modified_policy_iteration,
    "modified, 5 sweeps": lambda model, epsilon=1e-6: rl.modified_policy_iteration(model, epsilon, sweeps=5),
    "modified, from 0": lambda model, epsilon=1e-6: rl.modified_policy_iteration(
        model, epsilon, initial=np.zeros(model.num_states)
    ),
    "policy": lambda model, epsilon=1e-6: rl.policy_iteration(model, epsilon=epsilon),
    "policy, by sweeps": lambda model, epsilon=1e-6: rl.policy_iteration(model, method="iterative", epsilon=epsilon),
    "prioritized": rl.prioritized_sweeping,
}

# ---- published solutions ----

EXAMPLE_3_5 = """
 3.3 8.8 4.4 5.3 1.5
 1.5 3.0 2.3 1.9 0.5
 0.1 0.7 0.7 0.4 -0.4
-1.0 -0.4 -0.4 -0.6 -1.2
-1.9 -1.3 -1.2 -1.4 -2.0"""
EXAMPLE_3_8 = """
22.0 24.4 22.0 19.4 17.5
19.8 22.0 19.8 17.8 16.0
17.8 19.8 17.8 16.0 14.4
16.0 17.8 16.0 14.4 13.0
14.4 16.0 14.4 13.0 11.7"""


@pytest.mark.parametrize("method", ["direct", "iterative"])
def test_gridworld_of_sutton_and_barto(method: Any) -> None:
    found = rl.evaluate_policy(gridworld(), np.full((25, 4), 0.25), method=method)
    assert found.converged
    np.testing.assert_allclose(found.value, np.array(EXAMPLE_3_5.split(), float), atol=0.05 + 1e-8)


@pytest.mark.parametrize("solver", SOLVERS)
def test_gridworld_of_sutton_and_barto_solved(solver: str) -> None:
    found = SOLVERS[solver](gridworld())
    assert found.converged
    np.testing.assert_allclose(found.value, np.array(EXAMPLE_3_8.split(), float), atol=0.05 + 1e-6)


def test_small_gridworld_of_sutton_and_barto() -> None:
    """Figure 4.1, without a discount."""
    values = [0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0]
    for method in ("direct", "iterative"):
        found = rl.evaluate_policy(corners(), np.full((16, 4), 0.25), method=method)  # type: ignore[arg-type]
        assert found.converged
        np.testing.assert_allclose(found.value, values, atol=1e-7)
    steps = [0, 1, 2, 3, 1, 2, 3, 2, 2, 3, 2, 1, 3, 2, 1, 0]
    for find in (rl.value_iteration, SOLVERS["gauss-seidel"], rl.prioritized_sweeping):
        found = find(corners())
        np.testing.assert_array_equal(found.value, np.negative(steps))
        assert found.converged
        assert found.bound == np.inf  # walking into a wall never ends
        assert found.policy[[0, 15]].tolist() == [-1, -1]


def test_car_rental_of_sutton_and_barto() -> None:
    """Figure 4.2: the policy where the first or the second place is full or empty, and the lowest value."""
    model = car_rental()
    found = rl.policy_iteration(model)
    moved = (found.policy - 5).reshape(21, 21)
    assert found.iterations <= 5
    assert moved[20].tolist() == [5, 5, 5, 5, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 0, 0, 0]
    assert moved[0].tolist() == [0] * 8 + [-1, -1, -2, -2, -2, -3, -3, -3, -3, -3, -4, -4, -4]
    assert (moved.min(), moved.max()) == (-4, 5)
    assert round(found.value.min()) == 421
    np.testing.assert_allclose(rl.modified_policy_iteration(model, 1e-8).value, found.value, atol=1e-8)


def bold(capital: float, heads: float, plays: int = 60) -> float:
    """The chance to win by bold play, which is optimal for heads <= 1/2 (Dubins and Savage, 1965)."""
    if capital in (0, 1) or not plays:
        return capital
    if capital <= 0.5:
        return heads * bold(2 * capital, heads, plays - 1)
    return heads + (1 - heads) * bold(2 * capital - 1, heads, plays - 1)


@pytest.mark.parametrize("smallest", [0, 1])
def test_gambler(smallest: int) -> None:
    """A stake of 0 changes nothing and never ends; the policy does not take it."""
    model = gambler(0.4, smallest)
    found = rl.value_iteration(model, 1e-10)
    assert found.converged
    np.testing.assert_allclose(found.value[1:100], [bold(c / 100, 0.4) for c in range(1, 100)], atol=1e-9)
    policy = found.policy
    assert (policy[1:100] > 0).all()
    value = rl.evaluate_policy(model, policy).value
    np.testing.assert_allclose(value, found.value, atol=1e-9)


def test_example_of_puterman() -> None:
    """Section 3.1.1 with a discount of 0.95 (section 6.1 and after): -8.571 and -20."""
    from scipy.sparse import csr_array

    P = csr_array([[0.5, 0.5], [0, 1], [0, 1]])
    model = rl.MDP(P, [5, 10, -1], 0.95, states=[0, 0, 1], actions=[0, 1, 0])
    for solve in SOLVERS.values():
        found = solve(model)
        np.testing.assert_allclose(found.value, [-4.5 / 0.525, -20], atol=1e-6)
        assert found.policy.tolist() == [0, 0]


# ---- solvers against one another and NumPy ----


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("discount", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_keep_their_bounds(solver: str, discount: float, ends: bool) -> None:
    for seed in range(5):
        model = random_model(seed, 1 + 7 * seed + 2 * ends, discount, ends)
        best = optimum(model)
        for epsilon in (1e-1, 1e-4, 1e-9):
            found = SOLVERS[solver](model, epsilon)
            assert found.converged
            assert found.bound <= epsilon
            assert np.abs(found.value - best).max() <= found.bound + 1e-12  # what the reference is off by
            worth = exact(model, found.policy)
            assert (best - worth).max() <= found.bound + 1e-12
            assert (found.value[model.terminal] == 0).all()


def test_relative_bounds_stop_early() -> None:
    """Where all values grow alike, sweeps end long before values do: 0.999 ** 200 is 0.82."""
    model = random_model(0, 500, 0.999, ends=False)
    found = rl.value_iteration(model, 1e-4)
    assert found.iterations < 200
    np.testing.assert_allclose(found.value, rl.policy_iteration(model).value, atol=1e-4)


def test_gauss_seidel_pays_on_a_chain() -> None:
    states = 300
    P = np.zeros((states, 1, states))
    P[np.arange(1, states), 0, np.arange(states - 1)] = 1
    P[0, 0, 0] = 1
    model = rl.MDP(P, -np.ones(states), 1.0, terminal=[0], layout="sas")
    jacobi, other = rl.value_iteration(model), SOLVERS["gauss-seidel"](model)
    np.testing.assert_allclose(other.value, -np.arange(states), atol=1e-6)
    np.testing.assert_allclose(jacobi.value, -np.arange(states), atol=1e-6)
    assert jacobi.converged
    assert other.converged
    assert jacobi.bound <= 1e-6  # every policy ends, and it is known how soon
    assert other.iterations <= 4 < 290 < jacobi.iterations


@pytest.mark.parametrize("solver", SOLVERS)
def test_without_discount_where_all_policies_end(solver: str) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        P = rng.random((12, 3, 12)) * (rng.random((12, 3, 12)) < 0.3)
        P[:, :, 11] += 0.05
        model = rl.MDP(P / P.sum(2, keepdims=True), rng.normal(size=(12, 3)), 1.0, terminal=[11])
        found = SOLVERS[solver](model, 1e-7)
        best = optimum(model)
        assert found.converged
        assert np.abs(found.value - best).max() <= found.bound <= 1e-7
        assert (best - exact(model, found.policy)).max() <= found.bound


@pytest.mark.parametrize("method", ["direct", "iterative"])
@pytest.mark.parametrize("discount", [0.0, 0.9])
def test_evaluation_keeps_its_bound(method: Any, discount: float) -> None:
    for seed in range(8):
        model = random_model(seed, 20, discount, ends=seed % 2 == 0)
        rng = np.random.default_rng(seed)
        mixed = rng.random((20, 4)) * model.available
        mixed /= np.maximum(mixed.sum(1, keepdims=True), 1e-300)
        fixed = np.where(model.terminal, 0, model.available.argmax(1))
        for policy in (mixed, fixed):
            for epsilon in (1e-2, 1e-10):
                found = rl.evaluate_policy(model, policy, method=method, epsilon=epsilon)
                assert found.converged
                assert np.abs(found.value - exact(model, policy)).max() <= found.bound <= epsilon
        one_hot = np.eye(4)[fixed] * model.available
        np.testing.assert_allclose(
            rl.evaluate_policy(model, one_hot).value, rl.evaluate_policy(model, fixed).value, rtol=1e-13
        )


def test_evaluation_of_many_states() -> None:
    """Above the size for dense matrices: SciPy's factors, and sweeps to machine precision without SciPy."""
    states = 3000
    model = rl.MDP.from_csr(
        *(np.arange(states + 1) * 2, np.column_stack((np.r_[1:states, 0], np.r_[states - 1, : states - 1])).ravel()),
        *(np.full(2 * states, 0.5), np.arange(states) % 7, 0.9),
        num_states=states,
    )
    policy = np.zeros(states, int)
    by_sweeps = rl.evaluate_policy(model, policy, epsilon=1e-10)
    direct = rl.evaluate_policy(model, policy, method="direct", epsilon=1e-10)
    assert by_sweeps.iterations > 0 == direct.iterations
    assert direct.converged
    np.testing.assert_allclose(direct.value, by_sweeps.value, atol=1e-10)
    residual = model.expected_rewards(policy) + 0.9 * model.transition_matrix(policy, sparse=True) @ direct.value
    np.testing.assert_allclose(residual, direct.value, atol=1e-12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "scipy.sparse.linalg", None)
        without = rl.evaluate_policy(model, policy, method="direct", epsilon=1e-10)
    assert without.iterations > 0
    np.testing.assert_allclose(without.value, direct.value, rtol=1e-13)


def test_what_cannot_be_reached_is_said() -> None:
    found = rl.value_iteration(gridworld(0.999), 1e-12, max_iterations=3)
    assert not found.converged
    assert np.abs(found.value - rl.policy_iteration(gridworld(0.999)).value).max() <= found.bound
    found = rl.value_iteration(gridworld(0.999), 1e-14)  # below what float64 can tell
    assert not found.converged
    assert found.bound < 1e-6


def test_backward_induction() -> None:
    for seed in range(4):
        model = random_model(seed, 15, 0.97)
        P, R = model.to_dense()
        final = np.random.default_rng(seed).normal(size=15)
        found = rl.backward_induction(model, 6, final=final)
        v = np.where(model.terminal, 0, final)
        np.testing.assert_array_equal(found.value[6], v)
        for t in range(5, -1, -1):
            q = R + model.discount * P @ v
            v = q.max(1)
            np.testing.assert_allclose(found.value[t], v, rtol=1e-13, atol=1e-14)
            alive = ~model.terminal
            np.testing.assert_array_equal(found.policy[t][alive], q.argmax(1)[alive])
    assert (rl.backward_induction(model, 1).value[1] == 0).all()


def test_action_values_and_ties() -> None:
    model = random_model(3, 12)
    value = np.random.default_rng(0).normal(size=12)
    P, R = model.to_dense()
    q = rl.action_values(model, value)
    np.testing.assert_allclose(q, R + 0.9 * P @ value, rtol=1e-13)
    assert np.array_equal(np.isfinite(q), model.available | model.terminal[:, None])
    greedy = rl.greedy_policy(model, value)
    np.testing.assert_array_equal(greedy, np.where(model.terminal, -1, q.argmax(1)))
    # equal but for the order of the sum
    P = np.zeros((3, 3, 3))
    P[:, 0] = [0.1, 0.2, 0.7]
    P[:, 1] = [0.7, 0.2, 0.1]
    P[:, 2] = [0.2, 0.1, 0.7]
    model = rl.MDP(P, np.zeros(3), 0.9, layout="sas")
    assert rl.greedy_policy(model, [1 / 3, 1 / 3, 1 / 3]).tolist() == [0, 0, 0]


def test_prioritized_sweeping_backs_up_what_changed() -> None:
    """One reward at the end of a corridor of 2000 states: a backup each, not a sweep each."""
    states = 2000
    P = np.arange(1, states + 1, dtype=np.int32) % states
    model = rl.MDP.from_csr(
        *(np.arange(states + 1), P, np.ones(states), (np.arange(states) == states - 2).astype(float), 0.99),
        num_states=states,
        terminal=[states - 1],
    )
    found = rl.prioritized_sweeping(model, 1e-6)
    assert found.converged
    assert found.iterations <= states
    np.testing.assert_allclose(found.value[: states - 1], 0.99 ** np.arange(states - 2, -1, -1), atol=1e-6)
    changed = found.value.copy()
    changed[1000] += 1
    again = rl.prioritized_sweeping(model, 1e-6, initial=changed)
    np.testing.assert_allclose(again.value, found.value, atol=1e-6)
    assert again.iterations < 3 * states


# ---- where a policy goes ----


@pytest.mark.parametrize("method", ["direct", "iterative"])
def test_occupancy(method: Any) -> None:
    for seed in range(4):
        ends = seed % 2 == 1
        model = random_model(seed, 14, 0.9, ends)
        rng = np.random.default_rng(seed)
        policy = rng.random((14, 4)) * model.available
        policy /= np.maximum(policy.sum(1, keepdims=True), 1e-300)
        start = rng.dirichlet(np.ones(14))
        x = rl.occupancy_measure(model, policy, start, method=method)
        R = np.where(model.available, model.expected_rewards(), 0)
        np.testing.assert_allclose((x * R).sum(), start @ exact(model, policy), atol=1e-8)
        if ends:
            assert x.sum() < 10
        else:
            np.testing.assert_allclose(x.sum(), 10, atol=1e-8)
            normal = rl.occupancy_measure(model, policy, start, method=method, normalize=True)
            np.testing.assert_allclose(normal.sum(), 1, atol=1e-8)
        # Bellman's flow: in = out
        flow = start + 0.9 * np.einsum("sa,saj->j", x, model.to_dense()[0])
        alive = ~model.terminal
        np.testing.assert_allclose(x.sum(1)[alive], flow[alive], atol=1e-8)


@pytest.mark.parametrize("method", ["direct", "iterative"])
def test_occupancy_without_discount_is_the_number_of_steps(method: Any) -> None:
    x = rl.occupancy_measure(corners(), np.full((16, 4), 0.25), 1, method=method)
    np.testing.assert_allclose(x.sum(), 14, atol=1e-8)
    with pytest.raises(ValueError, match=r"normalize: found True and a discount of 1"):
        rl.occupancy_measure(corners(), np.full((16, 4), 0.25), 1, normalize=True)


def test_simulation() -> None:
    """Frequencies of transitions and returns, within five standard errors; rewards are those of the transitions."""
    model = random_model(5, 6, 1.0)
    policy = model.available / np.maximum(model.available.sum(1, keepdims=True), 1)
    value = rl.evaluate_policy(model, policy).value
    returns = np.array([model.simulate(policy, 0, 10_000, seed=i).rewards.sum() for i in range(2000)])
    assert abs(returns.mean() - value[0]) < 5 * returns.std() / np.sqrt(len(returns))
    one, same = (model.simulate(policy, 0, 50, seed=7) for _ in range(2))
    np.testing.assert_array_equal(one.states, same.states)
    np.testing.assert_array_equal(one.rewards, same.rewards)
    assert len(one.states) == len(one.actions) + 1 == len(one.rewards) + 1
    coin = rl.MDP([[[0.5, 0.5]], [[0.5, 0.5]]], [[[0, 3]], [[-1, 0]]], 0.9)
    episode = coin.simulate([0, 0], [0.5, 0.5], 4000, seed=0)
    assert not episode.terminated
    expected = np.where(np.diff(episode.states) == 1, 3, np.where(np.diff(episode.states) == -1, -1, 0))
    np.testing.assert_array_equal(episode.rewards, expected)
    assert abs((episode.states == 1).mean() - 0.5) < 0.05
    assert len(corners().simulate(np.zeros(16, int), 0).actions) == 0


def test_simulation_ends_with_a_terminated_transition() -> None:
    model = rl.MDP.from_gymnasium({0: {0: [(0.5, 0, 1.0, False), (0.5, 0, 5.0, True)]}}, 0.9)
    for seed in range(20):
        episode = model.simulate([0], 0, seed=seed)
        assert episode.terminated
        assert episode.rewards.tolist() == [1.0] * (len(episode.rewards) - 1) + [5.0]
    assert rl.evaluate_policy(model, [0]).value[0] == pytest.approx(3 / 0.55)


# ---- Gymnasium, QuantEcon ----


@pytest.mark.parametrize("name", ["FrozenLake", "CliffWalking", "Taxi"])
def test_gymnasium(name: str) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make(max(known for known in gymnasium.registry if known.startswith(f"{name}-v")))
    model = rl.MDP.from_gymnasium(env, 0.95)
    table = env.unwrapped.P
    value = rl.policy_iteration(model).value
    for s, actions in table.items():
        q = [
            sum(p * (r + 0.95 * value[j] * (not ended)) for p, j, r, ended in outcomes) for outcomes in actions.values()
        ]
        assert max(q) == pytest.approx(value[s], abs=1e-9)
    np.testing.assert_allclose(rl.value_iteration(model).value, value, atol=1e-6)
    assert model.num_states == env.observation_space.n
    assert model.num_actions == env.action_space.n


def test_frozen_lake_without_discount() -> None:
    """Known: the goal is reached with probability 14/17 from the start (4 x 4, slippery)."""
    gymnasium = pytest.importorskip("gymnasium")
    model = rl.MDP.from_gymnasium(gymnasium.make("FrozenLake-v1"), 1.0)
    found = rl.value_iteration(model, 1e-10)
    assert found.value[0] == pytest.approx(14 / 17, abs=1e-7)
    reached = rl.evaluate_policy(model, found.policy)
    assert reached.value[0] == pytest.approx(14 / 17, abs=1e-7)
    returns = [model.simulate(found.policy, 0, 10_000, seed=i).rewards.sum() for i in range(800)]
    assert abs(np.mean(returns) - 14 / 17) < 0.06


def test_quantecon() -> None:
    markov = pytest.importorskip("quantecon.markov", reason="QuantEcon is a peer, not a dependency")
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    states = 200
    s, a = np.repeat(np.arange(states), 3), np.tile(np.arange(3), states)
    P = rng.dirichlet(np.ones(5), 3 * states).ravel()
    columns = np.concatenate([rng.choice(states, 5, replace=False) for _ in range(3 * states)])
    matrix = csr_matrix((P, columns, np.arange(3 * states + 1) * 5), shape=(3 * states, states))
    R = rng.normal(size=3 * states)
    peer = markov.DiscreteDP(R, matrix, 0.95, s, a).solve("policy_iteration")
    model = rl.MDP(matrix, R, 0.95, states=s, actions=a)
    for solve in SOLVERS.values():
        found = solve(model, 1e-8)
        np.testing.assert_allclose(found.value, peer.v, atol=1e-8)
        np.testing.assert_array_equal(found.policy, peer.sigma)


# ---- forms ----


def test_all_forms_are_one_model() -> None:
    from scipy.sparse import coo_array, csr_array

    rng = np.random.default_rng(0)
    P = rng.random((5, 3, 5)) * (rng.random((5, 3, 5)) < 0.5)
    P[:, :, 2] += 0.1
    P /= P.sum(2, keepdims=True)
    R = rng.normal(size=(5, 3, 5)) * (P > 0)
    expected = (P * R).sum(2)
    flat, order = csr_array(P.reshape(15, 5)), rng.permutation(15)
    s, a = np.divmod(np.arange(15), 3)
    models = [
        rl.MDP(P, R, 0.9),
        rl.MDP(P.transpose(1, 0, 2), R.transpose(1, 0, 2), 0.9),
        rl.MDP(P, expected, 0.9),
        rl.MDP(flat, expected, 0.9),
        rl.MDP(flat, csr_array(R.reshape(15, 5)), 0.9),
        rl.MDP(coo_array(P.reshape(15, 5)), R[P > 0], 0.9),
        rl.MDP([csr_array(P[:, i]) for i in range(3)], [csr_array(R[:, i]) for i in range(3)], 0.9),
        rl.MDP([csr_array(P[:, i]) for i in range(3)], expected, 0.9),
        rl.MDP(flat[order], expected.ravel()[order], 0.9, states=s[order], actions=a[order]),
        rl.MDP(flat[order], csr_array(R.reshape(15, 5)[order]), 0.9, states=s[order], actions=a[order]),
        rl.MDP.from_csr(flat.indptr, flat.indices, flat.data, expected, 0.9, num_states=5),
        rl.MDP.from_csr(flat.indptr, flat.indices, flat.data, R[P > 0], 0.9, num_states=5, copy=False),
    ]
    for model in models:
        dense, rewards = model.to_dense()
        np.testing.assert_array_equal(dense, P)
        np.testing.assert_allclose(rewards, expected, rtol=1e-12)
        assert model.available.all()
        assert repr(model).startswith("MDP(states=5, actions=3, transitions=")
    by_state = rl.MDP(P, np.arange(5.0), 0.9)
    np.testing.assert_array_equal(by_state.expected_rewards(), np.repeat(np.arange(5.0), 3).reshape(5, 3))
    mixed = rng.dirichlet(np.ones(3), 5)
    for model in models[:2]:
        chain = model.transition_matrix(mixed)
        np.testing.assert_allclose(chain, np.einsum("sa,saj->sj", mixed, P), rtol=1e-13)
        np.testing.assert_allclose(model.transition_matrix(mixed, sparse=True).toarray(), chain)
        np.testing.assert_allclose(model.expected_rewards(mixed), (mixed * expected).sum(1), rtol=1e-12)


def test_nothing_can_be_changed() -> None:
    from scipy.sparse import csr_array

    matrix = csr_array([[0.5, 0.5], [0.0, 1.0]])
    model = rl.MDP(matrix, [1.0, 2.0], 0.9)
    matrix.data[:] = 7
    assert model.to_dense()[0].max() == 1
    with pytest.raises(AttributeError):
        model.discount = 0.5  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        model.terminal[0] = True


def test_read_only_arrays_are_as_good() -> None:
    from scipy.sparse import csr_array

    matrix = csr_array([[0.5, 0.5], [0.0, 1.0]])
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    policy = np.zeros(2, np.int64)
    policy.flags.writeable = False
    model = rl.MDP(matrix, [1.0, 2.0], 0.9, copy=False)
    before = [len(kernel.signatures) for kernel in _kernels()]
    assert rl.evaluate_policy(model, policy).converged
    assert [len(kernel.signatures) for kernel in _kernels()] == before


def _kernels() -> list[Any]:
    from fastdl.rl.mdp import kernels

    return [value for value in vars(kernels).values() if hasattr(value, "signatures")]


def test_absorbing_and_reachable() -> None:
    P = np.zeros((5, 2, 5))
    P[0, :, 1] = P[1, 0, 0] = P[1, 1, 2] = P[2, :, 2] = P[3, :, 4] = 1
    model = rl.MDP(P, np.ones(5), 0.9, terminal=[4])
    assert model.absorbing.tolist() == [False, False, True, False, True]
    assert model.reachable(0).tolist() == [True, True, True, False, False]
    assert model.reachable([2, 3]).tolist() == [False, False, True, True, True]
    assert model.available.tolist() == [[True, True]] * 4 + [[False, False]]
    with pytest.raises(ValueError, match=r"start: found 5, expected states from 0 to 4"):
        model.reachable(5)


# ---- threads, processes ----


def test_threads_change_nothing() -> None:
    from scipy.sparse import csr_array

    rng = np.random.default_rng(0)
    states = 20_000
    rows = 3 * states
    P = rng.dirichlet(np.ones(4), rows).ravel()
    columns = rng.integers(0, states, 4 * rows)
    matrix = csr_array((P, columns, np.arange(rows + 1) * 4), shape=(rows, states))
    found = []
    for threads in (1, 2, 3):
        with fastdl.threads(threads):
            model = rl.MDP(matrix, np.sin(np.arange(4 * rows)), 0.95)
            solutions = [solve(model) for solve in (rl.value_iteration, rl.modified_policy_iteration)]
            mixed = rl.evaluate_policy(model, np.full((states, 3), 1 / 3))
            visits = rl.occupancy_measure(model, solutions[0].policy, 0)
        found.append([*(s.value for s in solutions), *(s.policy for s in solutions), mixed.value, visits])
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


def test_a_second_process_compiles_nothing() -> None:
    rl.modified_policy_iteration(random_model(0))
    code = f"""
import json, sys
from fastdl import rl
sys.path.append({str(Path(__file__).parents[1])!r})
from tests.test_rl_mdp import random_model, _kernels
rl.modified_policy_iteration(random_model(0))
used = [k for k in _kernels() if k.signatures]
print(json.dumps([len(used), sum(sum(k.stats.cache_misses.values()) for k in used)]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, check=True)
    used, compiled = json.loads(done.stdout)
    assert used >= 5
    assert compiled == 0


def test_without_numba_it_says_what_to_install() -> None:
    code = """
import sys
import fastdl, fastdl.rl
assert "numba" not in sys.modules
sys.modules["numba"] = None
try:
    fastdl.rl.MDP([[[1.0]]], [0.0], 0.9, layout="sas")
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout == 'Numba is not installed: pip install "fastdl[rl]"\n'


# ---- PETSc ----


def _read_petsc(path: Path) -> np.ndarray:
    """An independent reader of a sparse matrix in PETSc's binary format."""
    content = path.read_bytes()
    class_id, rows, columns, entries = struct.unpack(">4i", content[:16])
    assert class_id == 1211216
    lengths = struct.unpack(f">{rows}i", content[16 : 16 + 4 * rows])
    at = 16 + 4 * rows
    indices = struct.unpack(f">{entries}i", content[at : at + 4 * entries])
    values = struct.unpack(f">{entries}d", content[at + 4 * entries :])
    dense, k = np.zeros((rows, columns)), 0
    for row, length in enumerate(lengths):
        of_row = indices[k : k + length]
        assert list(of_row) == sorted(set(of_row))
        for _ in range(length):
            dense[row, indices[k]] = values[k]
            k += 1
    assert k == entries
    return dense


@pytest.mark.parametrize("ends", [False, True])
def test_petsc(tmp_path: Path, ends: bool) -> None:
    """Read back and solved as a problem of costs, it has the same values."""
    model = random_model(2, 20, 0.9, ends)
    model.to_petsc(tmp_path / "P.bin", tmp_path / "g.bin")
    P, costs = _read_petsc(tmp_path / "P.bin"), _read_petsc(tmp_path / "g.bin")
    states = 20 + ends
    assert P.shape == (4 * states, states)
    assert costs.shape == (states, 4)
    np.testing.assert_allclose(P.sum(1), 1, rtol=1e-12)
    there = model.available
    dense, rewards = model.to_dense()
    np.testing.assert_array_equal(-costs[:20][there], rewards[there])
    np.testing.assert_allclose(P.reshape(states, 4, states)[:20][there][:, :20], dense[there], rtol=1e-15)
    solved = rl.policy_iteration(rl.MDP(P.reshape(states, 4, states), -costs, 0.9))
    np.testing.assert_allclose(solved.value[:20], rl.policy_iteration(model).value, atol=1e-12)


# ---- pictures ----


def test_draw() -> None:
    pytest.importorskip("matplotlib")
    model = gridworld()
    solution = rl.value_iteration(model)
    ax = rl.draw(solution, shape=(5, 5), arrows="udlr", title="Example 3.8")
    assert ax.get_title() == "Example 3.8"
    assert len(ax.texts) == 25
    assert ax.texts[0].get_text() == "21.98"
    arrows = [c for c in ax.collections if type(c).__name__ == "Quiver"]
    assert sum(len(q.U) for q in arrows) == 25
    ax = rl.draw(model, np.full((25, 4), 0.25), (5, 5), arrows="udlr", numbers=False)
    assert sum(len(q.U) for q in ax.collections) == 100
    assert len(ax.texts) == 0
    ax = rl.draw(corners(0.9), np.zeros(16, int), (4, 4), arrows="udlr", walls=[5])
    assert sum(len(q.U) for q in ax.collections) == 13  # neither ends nor walls
    with pytest.raises(ValueError, match=r"shape: found \(2, 3\), expected \(rows, columns\) of 25 states"):
        rl.draw(solution, shape=(2, 3))
    with pytest.raises(ValueError, match=r"arrows: found 'x'"):
        rl.draw(solution, shape=(5, 5), arrows="udlx")
    with pytest.raises(ValueError, match=r"policy: found None with a model"):
        rl.draw(model, shape=(5, 5))
    with pytest.raises(ValueError, match=r"policy: found action 3 in state"):
        rl.draw(solution, shape=(5, 5), arrows="udl")
    with pytest.raises(ValueError, match=r"policy: found shape \(3,\)"):
        rl.draw(solution, [1, 2, 3], shape=(5, 5))


# ---- mistakes ----

GOOD = [[[0.5, 0.5], [1, 0], [0, 1]], [[0, 1], [1, 0], [0.25, 0.75]]]  # (S, A, S) = (2, 3, 2)


def _with(value: Any, *place: int) -> np.ndarray:
    array = np.array(GOOD, np.float64)
    array[place] = value
    return array


def _sparse(**changes: Any) -> Any:
    from scipy.sparse import csr_array

    arguments = {"states": [0, 0, 1], "actions": [0, 1, 0], **changes}
    return rl.MDP(csr_array([[0.5, 0.5], [1, 0], [0, 1]]), [1, 2, 3], 0.9, **arguments)


def _csr(**changes: Any) -> Any:
    arguments = {
        **{"row_ptr": [0, 1, 2], "successors": [1, 0], "probabilities": [1.0, 1.0], "rewards": [0, 0]},
        **{"discount": 0.9, "num_states": 2},
    }
    return rl.MDP.from_csr(**{**arguments, **changes})


MISTAKES = [
    (
        lambda: rl.MDP(_with(0.4, 0, 0, 0), [0, 0], 0.9),
        ValueError,
        r"transitions: found a sum of 0.9 at state 0, action 0, expected 1",
    ),
    (
        lambda: rl.MDP(_with(0, 1, 1, 0), [0, 0], 0.9),
        ValueError,
        r"transitions: found no successor at state 1, action 1",
    ),
    (
        lambda: rl.MDP(_with([-0.5, 1.5], 1, 2), [0, 0], 0.9),
        ValueError,
        r"transitions: found probability -0.5 of state 0 at state 1, action 2, expected at least 0",
    ),
    (
        lambda: rl.MDP(_with(np.nan, 1, 0, 0), [0, 0], 0.9),
        ValueError,
        r"transitions: found probability nan of state 0 at state 1, action 0, expected a finite number",
    ),
    (lambda: rl.MDP(_with(np.inf, 1, 0, 0), [0, 0], 0.9), ValueError, r"transitions: found probability inf"),
    (
        lambda: rl.MDP(np.ones((2, 3)), [0, 0], 0.9),
        ValueError,
        r"transitions: found shape \(2, 3\), expected \(S, A, S\) or \(A, S, S\)",
    ),
    (lambda: rl.MDP(np.ones((2, 3, 4)), [0, 0], 0.9), ValueError, r"transitions: found shape \(2, 3, 4\)"),
    (
        lambda: rl.MDP(np.ones((2, 2, 2)), [0, 0], 0.9),
        ValueError,
        r"transitions: found shape \(2, 2, 2\), which is .* expected layout=",
    ),
    (
        lambda: rl.MDP(GOOD, [0, 0], 0.9, layout="ass"),
        ValueError,
        r"transitions: found shape \(2, 3, 2\), expected \(A, S, S\)",
    ),
    (lambda: rl.MDP(GOOD, [0, 0], 0.9, layout="x"), ValueError, r"layout: found 'x'"),  # type: ignore[arg-type]
    (lambda: rl.MDP("P", [0, 0], 0.9), TypeError, r"transitions: found str, expected an array of real numbers"),
    (lambda: rl.MDP(np.array(GOOD) * 1j, [0, 0], 0.9), TypeError, r"transitions: found an array of complex128"),
    (
        lambda: rl.MDP(GOOD, [0, 0], 0.9, states=[0], actions=[0]),
        ValueError,
        r"states, actions: found them with dense transitions",
    ),
    (lambda: rl.MDP(GOOD, [0, 0], 1.5), ValueError, r"discount: found 1.5, expected 0 to 1"),
    (lambda: rl.MDP(GOOD, [0, 0], -0.1), ValueError, r"discount: found -0.1"),
    (lambda: rl.MDP(GOOD, [0, 0], float("nan")), ValueError, r"discount: found nan"),
    (lambda: rl.MDP(GOOD, [0, 0], "0.9"), TypeError, r"discount: found '0.9', expected a number"),  # type: ignore[arg-type]
    (
        lambda: rl.MDP(GOOD, [0, np.nan], 0.9),
        ValueError,
        r"rewards: found nan at state 1, action 0, expected a finite number",
    ),
    (lambda: rl.MDP(GOOD, [[0, 0, 0], [0, np.inf, 0]], 0.9), ValueError, r"rewards: found inf at state 1, action 1"),
    (lambda: rl.MDP(GOOD, np.full((2, 3, 2), np.nan), 0.9), ValueError, r"rewards: found nan at state 0, action 0"),
    (
        lambda: rl.MDP(GOOD, [0, 0, 0], 0.9),
        ValueError,
        r"rewards: found shape \(3,\), expected \(2,\), \(2, 3\), or one a transition",
    ),
    (
        lambda: rl.MDP(GOOD, np.zeros((3, 2, 2)), 0.9),
        ValueError,
        r"rewards: found shape \(3, 2, 2\), expected \(2, 3, 2\)",
    ),
    (lambda: rl.MDP(GOOD, [0, 0], 0.9, terminal=[2]), ValueError, r"terminal: found 2, expected states from 0 to 1"),
    (lambda: rl.MDP(GOOD, [0, 0], 0.9, terminal=[True]), ValueError, r"terminal: found shape \(1,\), expected \(2,\)"),
    (lambda: rl.MDP(GOOD, [0, 0], 0.9, terminal=[0.5]), TypeError, r"terminal: found list, expected integers"),
    (
        lambda: rl.MDP(GOOD, [0, 0], 0.9, terminated=np.zeros((2, 3, 2))),
        TypeError,
        r"terminated: found float64, expected bool",
    ),
    (
        lambda: rl.MDP(GOOD, [0, 0], 0.9, terminated=[True]),
        ValueError,
        r"terminated: found shape \(1,\), expected \(2, 3, 2\)",
    ),
    (lambda: _sparse(states=None), ValueError, r"states, actions: found one without the other"),
    (
        lambda: _sparse(states=None, actions=None),
        ValueError,
        r"transitions: found shape \(3, 2\), expected \(S \* A, S\)",
    ),
    (lambda: _sparse(states=[0, 0]), ValueError, r"states: found shape \(2,\), expected \(3,\)"),
    (lambda: _sparse(states=[0, 0, 2]), ValueError, r"states: found 2 in row 2, expected below 2"),
    (lambda: _sparse(actions=[0, -1, 0]), ValueError, r"actions: found -1 in row 1, expected at least 0"),
    (lambda: _sparse(actions=[0, 1.5, 0]), TypeError, r"actions: found list, expected integers"),
    (lambda: _sparse(actions=[0, 0, 0]), ValueError, r"states, actions: found two rows of state 0, action 0"),
    (
        lambda: _sparse(states=[0, 0, 0], actions=[0, 1, 2]),
        ValueError,
        r"states: found no action in state 1, expected one at least",
    ),
    (
        lambda: _csr(successors=[1, 2]),
        ValueError,
        r"transitions: found successor 2 at state 1, action 0, expected 0 to 1",
    ),
    (lambda: _csr(successors=[1, -1]), ValueError, r"transitions: found successor -1 at state 1, action 0"),
    (lambda: _csr(successors=[1, 2**40]), ValueError, r"successors: found 1 to 1099511627776, expected int32"),
    (lambda: _csr(probabilities=[1.0]), ValueError, r"probabilities: found shape \(1,\), expected \(2,\)"),
    (lambda: _csr(row_ptr=[0, 1, 3]), ValueError, r"row_ptr: found shape \(3,\), expected \(R \+ 1,\) from 0 to 2"),
    (lambda: _csr(row_ptr=[0, 3, 2]), ValueError, r"row_ptr: found less behind row 1"),
    (lambda: _csr(num_states=0), ValueError, r"row_ptr: found 2 rows, expected a multiple of num_states, 0"),
    (lambda: _csr(num_states=3), ValueError, r"row_ptr: found 2 rows, expected a multiple of num_states, 3"),
    (lambda: rl.MDP.from_gymnasium(3, 0.9), TypeError, r"env: found int, expected an environment with a table P"),
    (
        lambda: rl.MDP.from_gymnasium(rl.make("CartPole-v1"), 0.9),
        ValueError,
        r"environment: found Environment\(CartPole-v1.*expected FrozenLake, Taxi or CliffWalking",
    ),
    (lambda: rl.MDP.from_gymnasium({1: {}}, 0.9), ValueError, r"P: found no state 0 among 1"),
    (lambda: rl.MDP.from_gymnasium({0: {0: [(1.0, 0)]}}, 0.9), ValueError, r"P: found \(1.0, 0\) at state 0, action 0"),
    (lambda: rl.MDP.from_gymnasium({0: {}}, 0.9), ValueError, r"states: found no action in state 0"),
    (
        lambda: rl.MDP.from_gymnasium({0: {0: [(0.5, 0, 0.0, False)]}}, 0.9),
        ValueError,
        r"found a sum of 0.5 at state 0, action 0",
    ),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_mistakes_in_models(number: int) -> None:
    call, kind, message = MISTAKES[number]
    with pytest.raises(kind, match=message):
        call()


def _some() -> Any:
    """Actions 0, 1 of state 0 and action 1 of state 1, without a discount."""
    return _sparse(actions=[0, 1, 1])


POLICIES = [
    ([0], ValueError, r"policy: found shape \(1,\), expected \(2,\) actions or \(2, 2\) probabilities"),
    ([0.0, 1.0], TypeError, r"policy: found list, expected integers"),
    ([0, 2], ValueError, r"policy: found action 2 in state 1, expected 0 to 1"),
    ([-1, 1], ValueError, r"policy: found action -1 in state 0, expected 0 to 1"),
    ([0, 0], ValueError, r"policy: found action 0 in state 1, expected its actions 1"),
    (np.ones((2, 3)), ValueError, r"policy: found shape \(2, 3\)"),
    ([[0.5, 0.4], [0, 1]], ValueError, r"policy: found a sum of 0.9 in state 0, expected 1"),
    ([[1.5, -0.5], [0, 1]], ValueError, r"policy: found probability -0.5 at state 0, action 1, expected at least 0"),
    (
        [[1, 0], [0, np.nan]],
        ValueError,
        r"policy: found probability nan at state 1, action 1, expected a finite number",
    ),
    (
        [[1, 0], [0.5, 0.5]],
        ValueError,
        r"policy: found probability 0.5 at state 1, action 0, expected 0, as the state has its actions 1",
    ),
]


@pytest.mark.parametrize("number", range(len(POLICIES)))
def test_mistakes_in_policies(number: int) -> None:
    policy, kind, message = POLICIES[number]
    model = _some()
    for use in (
        lambda: rl.evaluate_policy(model, policy),
        lambda: rl.occupancy_measure(model, policy, 0),
        lambda: model.simulate(policy, 0),
        lambda: model.transition_matrix(policy),
        lambda: model.expected_rewards(policy),
    ):
        with pytest.raises(kind, match=message):
            use()


ARGUMENTS = [
    (lambda m: rl.value_iteration(m, 0.0), ValueError, r"epsilon: found 0.0, expected a number above 0"),
    (lambda m: rl.value_iteration(m, float("nan")), ValueError, r"epsilon: found nan"),
    (lambda m: rl.value_iteration(m, "x"), TypeError, r"epsilon: found 'x', expected a number"),
    (
        lambda m: rl.value_iteration(m, method="x"),
        ValueError,
        r"method: found 'x', expected 'jacobi' or 'gauss_seidel'",
    ),
    (lambda m: rl.value_iteration(m, max_iterations=0), ValueError, r"max_iterations: found 0, expected at least 1"),
    (lambda m: rl.value_iteration(m, max_iterations=1.5), TypeError, r"max_iterations: found 1.5, expected an int"),
    (lambda m: rl.value_iteration(m, initial=[0]), ValueError, r"initial: found shape \(1,\), expected \(2,\)"),
    (lambda m: rl.value_iteration(m, initial=[0, np.inf]), ValueError, r"initial: found inf in state 1"),
    (lambda m: rl.modified_policy_iteration(m, sweeps=-1), ValueError, r"sweeps: found -1, expected at least 0"),
    (lambda m: rl.policy_iteration(m, initial=[0, 0]), ValueError, r"policy: found action 0 in state 1"),
    (lambda m: rl.policy_iteration(m, initial=[[1, 0], [0, 1.0]]), ValueError, r"initial: found probabilities"),
    (lambda m: rl.policy_iteration(m, method="x"), ValueError, r"method: found 'x'"),
    (lambda m: rl.evaluate_policy(m, [0, 1], method="x"), ValueError, r"method: found 'x', expected 'auto'"),
    (lambda m: rl.prioritized_sweeping(m, max_backups=0), ValueError, r"max_backups: found 0"),
    (lambda m: rl.backward_induction(m, 0), ValueError, r"horizon: found 0, expected at least 1"),
    (lambda m: rl.backward_induction(m, 1, final=[0]), ValueError, r"final: found shape \(1,\)"),
    (lambda m: rl.action_values(m, [[0, 0]]), ValueError, r"value: found shape \(1, 2\)"),
    (lambda m: rl.greedy_policy(m, [0, np.nan]), ValueError, r"value: found nan in state 1"),
    (lambda m: rl.occupancy_measure(m, [0, 1], 2), ValueError, r"start: found 2, expected a state from 0 to 1"),
    (lambda m: rl.occupancy_measure(m, [0, 1], [0.5, 0.4]), ValueError, r"start: found a sum of 0.9, expected 1"),
    (lambda m: rl.occupancy_measure(m, [0, 1], [1.5, -0.5]), ValueError, r"start: found -0.5 in state 1"),
    (lambda m: rl.occupancy_measure(m, [0, 1], 0, normalize=1), TypeError, r"normalize: found 1, expected a bool"),
    (lambda m: m.simulate([0, 1], 0, 0), ValueError, r"steps: found 0, expected at least 1"),
]


@pytest.mark.parametrize("number", range(len(ARGUMENTS)))
def test_mistakes_in_arguments(number: int) -> None:
    call, kind, message = ARGUMENTS[number]
    with pytest.raises(kind, match=message):
        call(_some())


def test_without_discount_what_never_ends_is_said() -> None:
    to_and_fro = np.zeros((4, 2, 4))
    to_and_fro[0, :, 1] = to_and_fro[1, 0, 0] = to_and_fro[1, 1, 2] = to_and_fro[2, :, 2] = to_and_fro[3, :, 3] = 1
    model = rl.MDP(to_and_fro, [-1, -1, 0, -1], 1.0)
    for solve in SOLVERS.values():
        with pytest.raises(ValueError, match=r"discount: found 1 and no way from state 3 to an end"):
            solve(model)
    model = rl.MDP(to_and_fro, [-1, -1, 0, 0], 1.0)
    with pytest.raises(ValueError, match=r"discount: found 1 and a policy that never ends from state 0"):
        rl.evaluate_policy(model, [0, 0, 0, 0])
    for solve in (rl.modified_policy_iteration, rl.policy_iteration):
        with pytest.raises(ValueError, match=r"discount: found 1 and a policy that never ends from state 0"):
            solve(model)
    for method in ("direct", "iterative"):
        np.testing.assert_allclose(rl.evaluate_policy(model, [0, 1, 0, 0], method=method).value, [-2, -1, 0, 0])  # type: ignore[arg-type]
    assert rl.value_iteration(model).policy.tolist() == [0, 1, 0, 0]
    with pytest.raises(ValueError, match=r"never ends from state 0"):
        rl.occupancy_measure(model, [0, 0, 0, 0], 0)


# ---- what is written about it ----


def test_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = Path(__file__).parents[1].joinpath("docs", "mdp.md").read_text()
    blocks = [block for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S) if "madupite" not in block]
    assert len(blocks) >= 3
    path = tmp_path / "page.py"
    path.write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
