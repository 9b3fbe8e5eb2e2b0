"""Tabular agents on the examples of Sutton and Barto (2018), whose figures they have to give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="fastdl.rl is compiled by Numba")
gymnasium = pytest.importorskip("gymnasium", reason="environments and spaces are Gymnasium's")

from fastdl import rl  # noqa: E402
from tests.tabular_problems import BIAS, CLIFF, WINDY, maze, walk  # noqa: E402

Table = rl.tabular.Table


def walk_errors(cls: type[Any], runs: int, episodes: int, **options: Any) -> Any:
    """The RMS error after each episode, averaged over runs, on the walk of example 6.2."""
    table, true = walk(5, 0.0, 1.0), np.arange(1, 6) / 6
    errors = np.empty((runs, episodes))
    for run in range(runs):
        agent = cls(table, gamma=1.0, values=0.5, seed=run, **options)
        for episode in range(episodes):
            agent.train(episodes=1)
            errors[run, episode] = np.sqrt(((agent.values - true) ** 2).mean())
    return errors.mean(axis=0)


def simulated_error(alpha: float) -> float:
    """Of TD(0) after 80 to 100 episodes, in plain Python."""
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        values = np.array([0.0, *[0.5] * 5, 0.0])
        for episode in range(100):
            s = 3
            while 0 < s < 6:
                s2 = s + (1 if rng.random() < 0.5 else -1)
                values[s] += alpha * ((s2 == 6) + values[s2] - values[s])
                s = s2
            if episode >= 80:
                found.append(np.sqrt(((values[1:6] - np.arange(1, 6) / 6) ** 2).mean()))
    return float(np.mean(found))


def test_random_walk() -> None:
    """Example 6.2, right: TD(0) with alpha 0.05 comes from 0.24 to about 0.05 in 100 episodes, below all of Monte
    Carlo's curves; with 0.15 it is fast, and stays where a plain simulation of it does."""
    slow = walk_errors(rl.TD, 100, 100, alpha=0.05)
    fast = walk_errors(rl.TD, 100, 100, alpha=0.15)
    monte_carlo = [walk_errors(rl.MonteCarloPrediction, 100, 100, alpha=alpha) for alpha in (0.01, 0.02, 0.03, 0.04)]
    assert 0.2 < slow[0] < 0.2357
    assert 0.035 < slow[-20:].mean() < 0.065
    assert fast[-20:].mean() == pytest.approx(simulated_error(0.15), rel=0.1)
    assert fast[10] < slow[10]
    assert slow[-20:].mean() < min(curve[-20:].mean() for curve in monte_carlo)


def test_n_steps_on_the_random_walk() -> None:
    """Figure 7.2: over 19 states and 10 episodes, n of 4 with alpha 0.4 is best, at an error of about 0.27; 1 and 16
    are worse with that alpha, 1 by far."""
    table, true = walk(19, -1.0, 1.0), np.arange(-9, 10) / 10

    def error(n: int, alpha: float) -> float:
        found = []
        for run in range(100):
            agent = rl.NStepTD(table, n=n, alpha=alpha, gamma=1.0, seed=run)
            for _ in range(10):
                agent.train(episodes=1)
                found.append(np.sqrt(((agent.values - true) ** 2).mean()))
        return float(np.mean(found))

    best = error(4, 0.4)
    assert 0.24 < best < 0.3
    assert error(1, 0.4) > best + 0.05
    assert error(16, 0.4) > best + 0.02
    assert error(64, 0.4) > 0.4


def test_cliff() -> None:
    """Example 6.6: online, SARSA gets about -25 an episode and Q-learning about -50, though what Q-learning has learned
    is the shortest way, of 13 steps; SARSA's goes round, of 17."""
    returns = {}
    for cls in (rl.SARSA, rl.QLearning):
        agents = [cls(CLIFF, alpha=0.5, gamma=1.0, epsilon=0.1, max_steps=10_000, seed=seed) for seed in range(50)]
        returns[cls] = np.mean([agent.train(episodes=500).returns[100:].mean() for agent in agents])
    assert -30 < returns[rl.SARSA] < -20
    assert -55 < returns[rl.QLearning] < -42
    shortest = greedy_length(rl.QLearning(CLIFF, alpha=0.5, gamma=1.0, max_steps=10_000, seed=0), 2000, CLIFF)
    assert shortest == 13
    fading = rl.Exponential(0.1, 1e-6, 0.998, per="episode")
    safe = rl.SARSA(CLIFF, alpha=0.1, gamma=1.0, epsilon=fading, max_steps=10_000, seed=0)
    assert greedy_length(safe, 4000, CLIFF) in (15, 17)


def greedy_length(agent: Any, episodes: int, environment: Any) -> int:
    """How many steps the policy takes that has been learned."""
    agent.train(episodes=episodes)
    state, observation = np.array(environment.state), np.zeros(environment.observation_size)
    rng = rl.random.streams(0)
    environment.reset(state, observation, rng)
    for length in range(1, 1000):
        if environment.step(state, agent.predict(observation), observation, rng)[1]:
            return length
    return 1000


def test_windy_gridworld() -> None:
    """Example 6.5: SARSA with alpha 0.5 and epsilon 0.1 ends about 170 episodes in 8000 steps; the shortest has 15."""
    found = [rl.SARSA(WINDY, alpha=0.5, gamma=1.0, epsilon=0.1, seed=seed).train(steps=8000) for seed in range(50)]
    assert 150 < np.mean([history.lengths.size for history in found]) < 200
    assert min(history.lengths.min() for history in found) >= 15
    agent = rl.QLearning(WINDY, alpha=0.5, gamma=1.0, epsilon=0.1, max_steps=10_000, seed=0)
    assert greedy_length(agent, 3000, WINDY) == 15


def test_maximization_bias() -> None:
    """Figure 6.5, alpha 0.1, epsilon 0.1: Q-learning goes left much more often than not at first, and more often than
    the 5 percent of exploration at the end; double Q-learning hardly ever does so."""
    left = {}
    for cls in (rl.QLearning, rl.DoubleQLearning):
        agents = [cls(BIAS, alpha=0.1, gamma=1.0, epsilon=0.1, seed=seed) for seed in range(500)]
        left[cls] = np.mean([agent.train(episodes=300).lengths == 2 for agent in agents], axis=0)
    plain, double = left[rl.QLearning], left[rl.DoubleQLearning]
    assert 0.4 < plain[0] < 0.6
    assert plain[10:60].max() > 0.65
    assert plain[-50:].mean() > 0.06
    assert double[:60].max() < 0.62
    assert 0.04 < double[-50:].mean() < 0.08
    assert double[-50:].mean() < plain[-50:].mean()


def test_dyna_maze() -> None:
    """Figure 8.2: the first episode is a walk at random; then 50 planning steps need some 3 episodes, 5 need some 5,
    and none some 25, to come near the shortest way, of 14 steps."""
    lengths, every = {}, []
    for steps in (0, 5, 50):
        agents = [
            rl.DynaQ(maze(), planning_steps=steps, alpha=0.1, gamma=0.95, epsilon=0.1, max_steps=100_000, seed=seed)
            for seed in range(100)
        ]
        every.append(agents)
        lengths[steps] = np.mean([agent.train(episodes=50).lengths for agent in agents], axis=0)
    table = maze()
    chance = np.zeros((table.n_states, table.n_states))
    for s, s2 in zip(np.arange(table.n_states).repeat(4), table.slots["successor"], strict=False):
        chance[s, s2] += 0.25 * (s2 >= 0)
    walk_lengths = np.linalg.solve(np.eye(table.n_states) - chance, np.ones(table.n_states))
    walk_length = walk_lengths[table.slots["successor"][-1]]
    first = np.concatenate([[agent.history.lengths[0] for agent in agents] for agents in every])
    assert abs(first.mean() - walk_length) < 4 * first.std() / np.sqrt(first.size)
    near = {steps: int(np.argmax(curve < 25)) + 1 for steps, curve in lengths.items()}
    assert near[50] <= 4
    assert 4 <= near[5] <= 8
    assert 15 <= near[0] <= 35
    assert all(curve.min() >= 14 for curve in lengths.values())
    assert lengths[50][-20:].mean() < 18
    agent = rl.DynaQ(maze(), planning_steps=50, alpha=0.1, gamma=0.95, epsilon=0.1, seed=0)
    assert agent.train(episodes=50).lengths.min() == 14
