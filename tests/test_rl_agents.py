"""Agents: their parts against plain versions, what they learn, what they refuse, and that a seed says all."""

from __future__ import annotations

import copy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="fastdl.rl is compiled by Numba")
pytest.importorskip("gymnasium", reason="fastdl.rl describes spaces by Gymnasium's")

import gymnasium
import numba

import fastdl
from fastdl import nn, rl
from fastdl.rl.agents import _collect, _replay
from fastdl.rl.agents._networks import Parameters, mlp, orthogonal
from tests.support import HOME

SMALL = {"n_envs": 4, "n_steps": 32}
AGENTS: dict[str, Any] = {
    "PPO": lambda environment, **options: rl.PPO(environment, **{**SMALL, "batch_size": 32, "epochs": 2, **options}),
    "A2C": lambda environment, **options: rl.A2C(environment, **{**SMALL, **options}),
    "REINFORCE": lambda environment, **options: rl.REINFORCE(environment, **{"episodes": 3, **options}),
    "DQN": lambda environment, **options: rl.DQN(environment, **{"learning_starts": 100, "hidden": (16,), **options}),
}
CONTINUOUS = [name for name in AGENTS if name != "DQN"]


@numba.njit
def _reset(state: Any, observation: Any, rng: Any) -> None:
    state[0] = 0.0
    observation[0] = observation[1] = 0.5


@numba.njit
def _step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    """An observation that gets out of all bounds after state[1] steps."""
    state[0] += 1.0
    observation[0] = np.nan if state[0] + state[1] > 1000.0 else 0.5
    return 1.0, state[0] >= 900.0


def _breaking(after: int) -> rl.Environment:
    space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    return rl.Environment(
        _reset, _step, space, gymnasium.spaces.Discrete(2), state=[0.0, 1000.0 - after], max_steps=1000
    )


# ---- parts ----


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 6)])
def test_orthogonal_weights(shape: tuple[int, int]) -> None:
    found = orthogonal(shape, 2.0, np.random.default_rng(0))
    product = found @ found.T if shape[0] <= shape[1] else found.T @ found
    np.testing.assert_allclose(product, 4 * np.eye(min(shape)), atol=1e-12)


def test_parameters_lie_in_one_block() -> None:
    shared = nn.Linear(3, 3, rng=0)
    networks = {"a": nn.Sequential(shared, nn.Tanh(), shared), "b": nn.Linear(3, 1, rng=1)}
    x = np.ones((2, 3), np.float32)
    before = networks["a"](x)
    parameters = Parameters(networks, {"log_std": np.zeros(2, np.float32)}, np.float32)
    np.testing.assert_array_equal(networks["a"](x), before)
    assert networks["a"][0].weight is networks["a"][2].weight
    assert parameters.finite()
    networks["b"].weight[0, 0] = np.nan
    assert not parameters.finite()
    parameters.restore()
    assert np.isfinite(networks["b"].weight).all()


def test_normalisation_is_that_of_all_observations() -> None:
    rng = np.random.default_rng(0)
    scale = _collect.scale_of(rl.make("Pendulum-v1"), True)
    parts = [rng.normal(5, [1, 2, 3], (n, 3)) for n in (50, 7, 1000)]
    for part in parts:
        _collect.note(part, scale)
        _collect.rescale(scale)
    everything = np.concatenate(parts)
    np.testing.assert_allclose(scale.mean, everything.mean(0), rtol=1e-12)
    np.testing.assert_allclose(1 / scale.factor, np.sqrt(everything.var(0) + 1e-8), rtol=1e-12)
    out = np.zeros(3)
    assert _collect.normalise(np.array([5.0, 1e9, -1e9]), scale, out)
    np.testing.assert_allclose(out, [(5 - scale.mean[0]) * scale.factor[0], 10, -10])


def test_a_constant_feature_far_away_is_normalised() -> None:
    scale, noise = _collect.scale_of(rl.make("Pendulum-v1"), True), np.random.default_rng(0).normal(size=(1000, 3))
    _collect.note([123456.789, 1e9, 0.0] + [0.0, 1.0, 0.0] * noise, scale)
    _collect.rescale(scale)
    assert np.isfinite(scale.factor).all()
    np.testing.assert_allclose(1 / scale.factor[1], 1.0, rtol=0.1)


def test_rewards_are_scaled_by_the_deviation_of_returns() -> None:
    environment = rl.make("Pendulum-v1")
    steps = _collect.steps_of(environment, 500, 1, np.float64)
    rewards = np.random.default_rng(1).normal(3, 2, 500)
    steps.rewards[:, 0], steps.done[::50, 0] = rewards, True
    _collect.scale_rewards(steps, 0.9, np.zeros(3), np.zeros(1))
    running, returns = 0.0, []
    for i, reward in enumerate(rewards):
        running = running * 0.9 + reward
        returns.append(running)
        running *= i % 50 != 0
    np.testing.assert_allclose(steps.rewards[:, 0], rewards / np.std(returns), rtol=1e-9)


def test_rewards_that_are_all_alike_are_not_blown_up() -> None:
    steps = _collect.steps_of(rl.make("Pendulum-v1"), 1, 4, np.float32)
    steps.rewards[...] = 1.0
    _collect.scale_rewards(steps, 0.9, np.zeros(3), np.zeros(4))
    np.testing.assert_array_equal(steps.rewards, 1.0)


@pytest.mark.parametrize("std", [0.5, 2.0])
def test_actions_come_as_their_probabilities_say(std: float) -> None:
    rng = rl.random.streams(0)
    logits = np.tile(np.log([0.1, 0.2, 0.7]).astype(np.float32), (100_000, 1))
    actions, log_probs = _collect.choose(logits, None, False, rng)
    np.testing.assert_allclose(np.bincount(actions) / 1e5, [0.1, 0.2, 0.7], atol=0.01)
    np.testing.assert_allclose(log_probs, fastdl.log_softmax(logits, 1)[np.arange(100_000), actions], atol=1e-6)
    best, _ = _collect.choose(logits, None, True, rng)
    assert (best == 2).all()
    mean, log_std = np.full((100_000, 2), 1.5, np.float32), np.log([std, 1.0]).astype(np.float32)
    values, log_probs = _collect.choose(mean, log_std, False, rng)
    np.testing.assert_allclose(values.mean(0), 1.5, atol=0.03)
    np.testing.assert_allclose(values.std(0), [std, 1], rtol=0.02)
    z = (values - 1.5) / [std, 1]
    expected = (-0.5 * z**2 - np.log([std, 1]) - 0.5 * np.log(2 * np.pi)).sum(1)
    np.testing.assert_allclose(log_probs, expected, atol=1e-4)


def test_collected_steps_are_those_of_the_environment() -> None:
    """Replayed by hand from the actions that were taken: observations, rewards, ends, and who is cut off."""
    environment = rl.make("CartPole-v1")
    agent = rl.PPO(environment, n_envs=3, n_steps=400, batch_size=64, seed=1)
    worlds, steps = agent.worlds, agent.rollout
    rngs, state, observation = worlds.rngs.copy(), environment.state.copy(), np.zeros(4)
    agent._collect()
    ends = 0
    for i in range(3):
        environment.reset(state, observation, rngs[i])
        length = 0
        for t in range(400):
            np.testing.assert_array_equal(steps.observations[t, i], observation.astype(np.float32))
            reward, terminated = environment.step(state, steps.actions[t, i], observation, rngs[i])
            length += 1
            assert (steps.rewards[t, i], steps.terminated[t, i]) == (reward, terminated)
            assert steps.done[t, i] == (terminated or length == 500)
            if steps.done[t, i]:
                ends, length = ends + 1, 0
                environment.reset(state, observation, rngs[i])
    assert ends == agent._episodes.ended[0] > 3
    output = agent.networks["policy"](steps.observations[:-1].reshape(-1, 4))
    expected = fastdl.log_softmax(output, 1)[np.arange(1200), steps.actions.ravel()]
    np.testing.assert_allclose(steps.log_probs.ravel(), expected, atol=1e-5)


def test_values_of_truncated_episodes() -> None:
    """Pendulum never terminates: at step 200 the value is that of the last observation, not of the next one's."""
    agent = rl.PPO(rl.make("Pendulum-v1"), n_envs=2, n_steps=201, batch_size=64, seed=0)
    agent._collect()
    steps = agent.rollout
    assert steps.done[199].all()
    assert not steps.terminated.any()
    assert not np.allclose(steps.next_values[199], agent.networks["value"](steps.observations[200])[:, 0], atol=1e-6)
    np.testing.assert_allclose(steps.next_values[199], agent.networks["value"](agent._scratch.finals)[:, 0], atol=1e-6)


def test_priorities_are_drawn_as_they_say() -> None:
    replay = _replay.replay_of(5, 1, np.float32, True)
    for i in range(7):  # two are overwritten
        _replay.store(replay, np.full(1, i, np.float32), i, 1.0, False, np.zeros(1, np.float32))
    assert sorted(replay.actions) == [2, 3, 4, 5, 6]
    priorities = [1.0, 2.0, 3.0, 0.5, 3.5]
    for row, priority in enumerate(priorities):
        _replay.set_priority(replay.tree, row, priority)
    batch, rng, counts = _replay.batch_of(50, 1, np.float32), rl.random.streams(3), np.zeros(5)
    for _ in range(400):
        _replay.draw(replay, batch, 1.0, rng)
        counts += np.bincount(batch.rows, minlength=5)
    np.testing.assert_allclose(counts / counts.sum(), np.array(priorities) / 10, atol=0.01)
    weights = 1 / np.array(priorities)[batch.rows]
    np.testing.assert_allclose(batch.weights, weights / weights.max() / 50, rtol=1e-6)
    np.testing.assert_array_equal(batch.observations[:, 0], batch.actions)


def test_dueling_values() -> None:
    layer, x = rl.agents.Dueling(3, np.float64), np.random.default_rng(0).standard_normal((4, 4))
    np.testing.assert_allclose(layer(x), x[:, :1] + x[:, 1:] - x[:, 1:].mean(1, keepdims=True))
    assert nn.gradcheck(layer, x)


# ---- updates against torch ----


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_an_update_is_that_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    options = {"entropy_weight": 0.01, "hidden": (8,), "dtype": np.float64, "max_norm": 0.5, "lr": 1e-2, "seed": 0}
    agent = rl.PPO(rl.make(name), n_envs=2, n_steps=16, batch_size=32, epochs=1, **options)
    rng = np.random.default_rng(0)
    size, discrete = agent.environment.observation_size, agent.environment.n_actions is not None
    observation = rng.standard_normal((32, size))
    action = rng.integers(0, 2, 32) if discrete else rng.standard_normal((32, 1))
    old, advantage, target = rng.normal(-1, 0.2, 32), rng.standard_normal(32), rng.standard_normal(32)

    named = {k: torch.tensor(v.copy(), requires_grad=True) for k, v in agent.parameters.named.items()}

    def run(prefix: str) -> Any:
        x = torch.tensor(observation)
        x = torch.tanh(x @ named[f"{prefix}.0.weight"].T + named[f"{prefix}.0.bias"])
        return x @ named[f"{prefix}.2.weight"].T + named[f"{prefix}.2.bias"]

    output = run("policy")
    if discrete:
        distribution = torch.distributions.Categorical(logits=output)
        log_prob, entropy = distribution.log_prob(torch.tensor(action)), distribution.entropy()
    else:
        distribution = torch.distributions.Normal(output, named["log_std"].exp())
        log_prob, entropy = distribution.log_prob(torch.tensor(action)).sum(1), distribution.entropy().sum(1)
    ratio, a = torch.exp(log_prob - torch.tensor(old)), torch.tensor(advantage)
    policy = -torch.min(ratio * a, torch.clamp(ratio, 0.8, 1.2) * a).mean() - 0.01 * entropy.mean()
    value = ((run("value")[:, 0] - torch.tensor(target)) ** 2).mean()
    optimizer = torch.optim.Adam(named.values(), lr=1e-2, eps=1e-5)
    (policy + 0.5 * value).backward()
    torch.nn.utils.clip_grad_norm_(named.values(), 0.5)
    optimizer.step()

    losses = agent._improve(observation, action, old, advantage, target)
    np.testing.assert_allclose([losses["policy"], losses["value"]], [policy.item(), value.item()], rtol=1e-9)
    for key, array in agent.parameters.named.items():
        np.testing.assert_allclose(array, named[key].detach().numpy(), rtol=1e-6, atol=1e-9, err_msg=key)


# ---- agents ----


@pytest.mark.parametrize("kind", AGENTS)
def test_a_seed_says_all_and_files_hold_all(kind: str, tmp_path: Path) -> None:
    environment = rl.make("CartPole-v1")
    path = tmp_path / ("agent.safetensors" if kind == "A2C" and find_spec("safetensors") else "agent.npz")

    def flat(threads: int) -> Any:
        agent = AGENTS[kind](environment, seed=5)
        with fastdl.threads(threads):
            agent.train(1500)
            agent.save(path)
            agent.train(1500)
        return agent

    one, two = flat(1), flat(2)
    np.testing.assert_array_equal(one.parameters.flat, two.parameters.flat)
    resumed = type(one).load(path)
    assert resumed.steps < one.steps
    resumed.train(1500)
    assert resumed.steps == one.steps
    np.testing.assert_array_equal(resumed.parameters.flat, one.parameters.flat)
    other = AGENTS[kind](environment, seed=6)
    assert not np.array_equal(other.parameters.flat, AGENTS[kind](environment, seed=5).parameters.flat)


@pytest.mark.parametrize("kind", CONTINUOUS)
def test_continuous_actions(kind: str) -> None:
    agent = AGENTS[kind](rl.make("Pendulum-v1"), normalize_observations=True, seed=0)
    history = agent.train(2000)
    assert len(history.returns) == len(history.lengths) == len(history.steps) > 0
    assert (history.lengths == 200).all()
    observations = np.random.default_rng(0).uniform(-1, 1, (6, 3))
    actions = agent.predict(observations)
    assert actions.shape == (6, 1)
    assert (np.abs(actions) <= 2).all()
    # The network alone says the same: normalisation is part of it.
    network = agent.policy_network()
    np.testing.assert_allclose(2 * np.clip(network(observations.astype(np.float32)), -1, 1), actions, atol=1e-5)
    assert agent.evaluate(5).shape == (5,)


@pytest.mark.parametrize("kind", AGENTS)
def test_learns_on_cart_pole(kind: str) -> None:
    """Far better than chance (about 22) after a second of training."""
    options = {"dueling": True, "alpha": 0.6} if kind == "DQN" else {}
    agent = {"PPO": rl.PPO, "A2C": rl.A2C, "REINFORCE": rl.REINFORCE, "DQN": rl.DQN}[kind](
        rl.make("CartPole-v1"), seed=0, **options
    )
    agent.train(100_000 if kind != "DQN" else 40_000, target=300.0)
    returns = rl.evaluate(agent, "CartPole-v1", 20)
    assert returns.mean() > 100
    # Gymnasium's own environment and ours are the same to an agent.
    assert abs(agent.evaluate(200).mean() - returns.mean()) < 100


@pytest.mark.parametrize("kind", AGENTS)
def test_gymnasium_environments(kind: str) -> None:
    agent, again = (AGENTS[kind]("CartPole-v1", seed=0) for _ in range(2))
    history = agent.train(1000)
    assert history.returns.size > 0
    assert (history.returns == history.lengths).all()
    again.train(1000)
    np.testing.assert_array_equal(agent.parameters.flat, again.parameters.flat)
    assert not np.array_equal(agent.parameters.flat, AGENTS[kind]("CartPole-v1", seed=0).parameters.flat)
    if kind == "DQN":
        return
    vector = gymnasium.make_vec("Pendulum-v1", 2)
    with pytest.raises(ValueError, match=r"environment: found autoreset mode .*SAME_STEP"):
        AGENTS[kind](vector)
    same_step = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    agent = AGENTS[kind](gymnasium.make_vec("Pendulum-v1", 2, vector_kwargs=same_step), seed=0)
    agent.train(1000)
    assert agent.options["episodes" if kind == "REINFORCE" else "n_envs"] == 2
    assert agent.predict([1.0, 0.0, 0.0]).shape == (1,)


def test_what_python_and_compiled_loops_collect_is_the_same() -> None:
    """The same numbers where Gymnasium's environment starts where ours does, which ours are tested for."""
    compiled, python = AGENTS["PPO"](rl.make("Pendulum-v1"), seed=0), AGENTS["PPO"]("Pendulum-v1", seed=0)
    python.environment.start(python.worlds, python.scale, python.rollout.observations[0], 0)
    python._started[0] = 1
    states = np.stack([env.unwrapped.state for env in python.environment.vector.envs])
    compiled.worlds.states[:, :2] = states
    compiled.worlds.observations[...] = python.worlds.observations
    compiled.rollout.observations[0] = python.rollout.observations[0]
    compiled._started[0] = 1
    compiled._collect()
    python._collect()
    for name in ("observations", "actions", "log_probs", "rewards", "done"):
        np.testing.assert_allclose(
            getattr(compiled.rollout, name), getattr(python.rollout, name), atol=1e-4, err_msg=name
        )


def test_networks_of_the_users_own(tmp_path: Path) -> None:
    policy = nn.Sequential(nn.Linear(4, 5, rng=0), nn.ReLU(), nn.Linear(5, 2, rng=0))
    agent = rl.PPO(rl.make("CartPole-v1"), policy=policy, seed=0)
    agent.train(2000)
    agent.save(tmp_path / "agent.npz")
    with pytest.raises(ValueError, match=r"networks: found \[\], expected \['policy'\]"):
        rl.PPO.load(tmp_path / "agent.npz")
    other = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    again = rl.PPO.load(tmp_path / "agent.npz", policy=other)
    np.testing.assert_array_equal(other[0].weight, policy[0].weight)
    assert again.predict(np.zeros(4)) == agent.predict(np.zeros(4))
    with pytest.raises(ValueError, match=r"policy: found results of shape \(3, 3\), expected \(3, 2\)"):
        rl.PPO(rl.make("CartPole-v1"), policy=nn.Linear(4, 3))


@numba.njit
def _reset_only(state: Any, observation: Any, rng: Any) -> None:
    state[0] = rl.random.uniform(rng, 90.0, 110.0)
    observation[0] = state[0]


@numba.njit
def _one_step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    observation[0] = 0.0  # of no use
    return (1.0 if (state[0] > 100.0) == (action == 1) else 0.0), True


@numba.njit
def _free(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    return action[0], False


def test_observations_of_resets_are_normalised_too() -> None:
    space = gymnasium.spaces.Box(-1000.0, 1000.0, (1,))
    bandit = rl.Environment(_reset_only, _one_step, space, gymnasium.spaces.Discrete(2), state=1, max_steps=1)
    agent = rl.PPO(bandit, normalize_observations=True, n_steps=32, batch_size=64, seed=0)
    agent.train(20_000)
    assert agent.evaluate(200).mean() > 0.95


def test_entropy_holds_deviations_up() -> None:
    def log_std(kind: str, weight: float) -> float:
        agent = AGENTS[kind](rl.make("Pendulum-v1"), seed=0, entropy_weight=weight, lr=1e-2)
        agent.train(4000)
        return float(agent.log_std[0])

    for kind in CONTINUOUS:
        assert log_std(kind, 10.0) > log_std(kind, 0.0) + 0.02


@pytest.mark.parametrize(("n", "every"), [(16, 1), (16, 4), (8, 3), (1, 4)])
def test_updates_of_deep_q_learning(n: int, every: int) -> None:
    options = {"n_envs": n, "train_every": every, "target_every": 10**6, "learning_starts": 100, "hidden": (4,)}
    agent = rl.DQN(rl.make("CartPole-v1"), seed=0, **options)
    agent.train(1000)
    assert agent.steps >= 1000
    expected = sum(m // every - (m - n) // every for m in range(n, agent.steps + 1, n) if m >= 100)
    assert agent._memory.updates[0] == expected > 900 // every - n


def test_exploration_is_that_of_training() -> None:
    agent = rl.DQN(rl.make("CartPole-v1"), seed=0, final_epsilon=0.2, exploration_steps=1, hidden=(8,))
    agent.train(2000)
    observations = np.tile([0.0, 0.1, 0.0, 0.1], (4000, 1))
    best = agent.predict(observations[0])
    assert abs((agent.predict(observations, deterministic=False) != best).mean() - 0.1) < 0.03


@pytest.mark.parametrize(("low", "high"), [(-np.inf, np.inf), (5.0, np.inf), (-np.inf, -3.0), (-1.0, 3.0)])
def test_actions_are_inside_their_bounds(low: float, high: float) -> None:
    box = gymnasium.spaces.Box
    environment = rl.Environment(_reset, _free, box(-1.0, 1.0, (2,)), box(low, high, (1,)), 2, max_steps=20)
    scale, values = _collect.scale_of(environment, False), np.random.default_rng(0).normal(0, 4, (100, 1))
    taken = _collect.taken(values, scale)
    assert ((taken >= low) & (taken <= high)).all()
    if np.isinf(low) and np.isinf(high):
        np.testing.assert_array_equal(taken, values)
    agent = AGENTS["PPO"](environment, seed=0, initial_std=4.0)
    agent._collect()  # rewards are the actions that were taken
    np.testing.assert_allclose(
        agent.rollout.rewards[..., None], _collect.taken(agent.rollout.actions.astype(np.float64), scale), rtol=1e-6
    )


def test_prediction_and_evaluation_change_nothing() -> None:
    one, two = (AGENTS["PPO"](rl.make("CartPole-v1"), seed=0) for _ in range(2))
    one.train(512), two.train(512)
    two.predict(np.zeros((7, 4)), deterministic=False), two.evaluate(3), two.episode(1)
    one.train(512), two.train(512)
    np.testing.assert_array_equal(one.parameters.flat, two.parameters.flat)


def test_few_programs_for_many_sizes() -> None:
    agent = AGENTS["PPO"](rl.make("CartPole-v1"), seed=0)
    observations = np.random.default_rng(0).uniform(-1, 1, (70, 4))
    expected = agent.predict(observations)
    for n in range(1, 70):
        np.testing.assert_array_equal(agent.predict(observations[:n]), expected[:n])
    assert len(agent._bound) <= 8


def test_running_statistics_are_in_the_file(tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8, rng=0), nn.BatchNorm1d(8), nn.Linear(8, 2, rng=0))

    agent = rl.PPO(rl.make("CartPole-v1"), policy=network(), seed=0)
    agent.train(3000)
    agent.save(tmp_path / "agent.npz")
    again = rl.PPO.load(tmp_path / "agent.npz", policy=network())
    observations = np.random.default_rng(0).uniform(-1, 1, (50, 4))
    np.testing.assert_array_equal(again.predict(observations), agent.predict(observations))
    np.testing.assert_array_equal(again.networks["policy"][1].running_mean, agent.networks["policy"][1].running_mean)
    with pytest.raises(TypeError, match="expected no running statistics"):
        rl.DQN(rl.make("CartPole-v1"), network=network())


@pytest.mark.parametrize("kind", AGENTS)
def test_agents_of_gymnasium_are_loaded_as_such(kind: str, tmp_path: Path) -> None:
    agent = AGENTS[kind]("CartPole-v1", seed=0)
    agent.train(500)
    agent.save(tmp_path / "agent.npz")
    again = type(agent).load(tmp_path / "agent.npz")
    assert again.environment.vector.num_envs == agent.environment.vector.num_envs
    again.train(500)
    assert again.steps > agent.steps


def test_options_of_a_vector_are_those_of_its_evaluation() -> None:
    same_step = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    vector = gymnasium.make_vec("CartPole-v1", 2, "sync", max_episode_steps=20, vector_kwargs=same_step)
    agent = AGENTS["REINFORCE"](vector, seed=0)
    agent.train(200)
    assert agent.environment.max_steps == 20
    assert (agent.evaluate(5) <= 20).all()


@pytest.mark.parametrize("kind", AGENTS)
def test_after_an_exception_episodes_begin_anew(kind: str) -> None:
    options = {"n_steps": 64} if kind in ("PPO", "A2C") else {}
    agent = AGENTS[kind](_breaking(after=150), seed=0, **options)
    with pytest.raises(rl.DivergedError):
        agent.train(5000)
    assert not agent._started[0]
    if options:
        agent.train(64 * 4)
        np.testing.assert_array_equal(agent.worlds.states[:, 0], 64.0)


def test_networks_belong_to_one_agent() -> None:
    environment, trunk = rl.make("CartPole-v1"), nn.Linear(4, 8, rng=0)
    policy, value = nn.Sequential(trunk, nn.Linear(8, 2)), nn.Sequential(trunk, nn.Linear(8, 1))
    with pytest.raises(TypeError, match="found a module that both have"):
        rl.PPO(environment, policy=policy, value=value)
    net = nn.Linear(4, 2)
    first = rl.PPO(environment, policy=net)
    with pytest.raises(ValueError, match="found a network of another agent"):
        rl.PPO(environment, policy=net)
    with pytest.raises(TypeError, match="expected save and load"):
        copy.deepcopy(first)


# ---- mistakes ----


@pytest.mark.parametrize("kind", AGENTS)
def test_observations_that_are_no_numbers(kind: str) -> None:
    options = {"PPO": {"n_steps": 512}, "A2C": {"n_steps": 512}, "REINFORCE": {}, "DQN": {}}[kind]
    agent = AGENTS[kind](_breaking(after=300), seed=0, **options)
    with pytest.raises(rl.DivergedError, match=r"not finite after 1?[0-9]+ steps") as caught:
        agent.train(10_000)
    assert 0 < caught.value.step <= 300 * 5
    assert np.isfinite(agent.parameters.flat).all()
    assert agent.predict([0.5, 0.5]) in (0, 1)


@pytest.mark.parametrize("kind", AGENTS)
def test_parameters_that_are_no_numbers(kind: str) -> None:
    options = {"lr": 1e30, "max_norm": None}
    agent = AGENTS[kind](rl.make("CartPole-v1"), seed=0, **options)
    with pytest.raises(rl.DivergedError):
        agent.train(25_000)
    assert np.isfinite(agent.parameters.flat).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gamma": 1.5}, ValueError, "gamma: found 1.5, expected at least 0, at most 1"),
        ({"lr": 0.0}, ValueError, "lr: found 0.0, expected more than 0"),
        ({"lr": np.nan}, ValueError, "lr: found nan"),
        ({"n_envs": 0}, ValueError, "n_envs: found 0, expected at least 1"),
        ({"n_steps": 2.5}, TypeError, "n_steps: found 2.5, expected an integer"),
        ({"activation": "sine"}, ValueError, "activation: found 'sine', expected one of tanh"),
        ({"hidden": (0,)}, ValueError, r"hidden: found \(0,\)"),
        ({"dtype": np.int32}, TypeError, "dtype: found"),
        ({"seed": -1}, TypeError, "seed: found -1"),
        ({"batch_size": 10_000}, ValueError, "batch_size: found 10000, expected at most"),
        ({"hidden": 64}, TypeError, "hidden: found 64, expected a sequence"),
        ({"n_envs": None}, TypeError, "n_envs: found None, expected an integer"),
        ({"entropy_weight": None}, TypeError, "entropy_weight: found None, expected a number"),
        ({"initial_std": np.inf}, ValueError, "initial_std: found inf"),
        ({"dtype": "foo"}, TypeError, "dtype: found 'foo'"),
        ({"activation": ["tanh"]}, ValueError, "activation: found"),
        ({"policy": 3}, TypeError, "policy: found int, expected a Module"),
        ({"normalize_rewards": 1}, TypeError, "normalize_rewards: found 1, expected True or False"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rl.PPO(rl.make("CartPole-v1"), **options)


def test_environments_that_do_not_fit() -> None:
    with pytest.raises(TypeError, match=r"environment: found Discrete.*tabular"):
        rl.PPO(rl.make("FrozenLake-v1"))
    with pytest.raises(TypeError, match="environment: found int"):
        rl.PPO(3)
    with pytest.raises(TypeError, match="expected discrete actions"):
        rl.DQN(rl.make("Pendulum-v1"))
    agent = rl.PPO(rl.make("CartPole-v1"), seed=0)
    with pytest.raises(ValueError, match=r"observation: found shape \(3,\)"):
        agent.predict([0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="finite"):
        agent.predict([0.0, np.nan, 0.0, 0.0])
    with pytest.raises(ValueError, match="steps: found 0"):
        agent.train(0)
    with pytest.raises(TypeError, match="target: found 'x'"):
        agent.train(1, target="x")
    with pytest.raises(ValueError, match="observation: found none"):
        agent.predict(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="episodes: found 0"):
        agent.evaluate(0)
    with pytest.raises(TypeError, match="seed: found -1"):
        rl.evaluate(agent, seed=-1)
    with pytest.raises(TypeError, match="environment: found TimeLimit, expected the name of one, or a vector"):
        rl.evaluate(agent, gymnasium.make("CartPole-v1"))
    disabled = {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}
    with pytest.raises(ValueError, match="environment: found autoreset mode DISABLED"):
        rl.evaluate(agent, gymnasium.make_vec("CartPole-v1", 2, "sync", vector_kwargs=disabled))
    with pytest.raises(ValueError, match="dueling: found True and a network"):
        rl.DQN(rl.make("CartPole-v1"), network=nn.Linear(4, 2), dueling=True)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    agent = rl.A2C(rl.make("CartPole-v1"), seed=0)
    agent.save(tmp_path / "agent.npz")
    with pytest.raises(ValueError, match="found an agent A2C of format 1, expected PPO"):
        rl.PPO.load(tmp_path / "agent.npz")
    (tmp_path / "text.npz").write_text("no agent")
    with pytest.raises(ValueError, match="without an agent"):
        rl.PPO.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(ValueError, match="without an agent"):
        rl.PPO.load(tmp_path / "other.npz")
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    program = (
        "from numba.core import event\n"
        "from fastdl import rl\n"
        "with event.install_recorder('numba:compile') as recorder:\n"
        "    rl.PPO(rl.make('CartPole-v1'), seed=0, n_steps=64).train(1000)\n"
        "    rl.REINFORCE(rl.make('CartPole-v1'), seed=0).train(1000)\n"
        "    rl.DQN(rl.make('CartPole-v1'), seed=0, learning_starts=100).train(1000)\n"
        "print(sum(e.is_start for _, e in recorder.buffer))\n"
    )
    import os

    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    counts = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=HOME, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        counts.append(int(done.stdout))
    assert counts[0] > 10
    assert counts[1] == 0


def test_training_stops_where_it_is_told() -> None:
    agent = AGENTS["PPO"](rl.make("CartPole-v1"), seed=0)
    seen = []
    history = agent.train(
        10_000, callback=lambda who, part: seen.append((who.steps, len(part.returns))) or len(seen) == 3
    )
    assert [steps for steps, _ in seen] == [128, 256, 384]
    assert sum(n for _, n in seen) == len(history.returns)
    assert agent.steps == 384
    assert mlp((2, 3, 1), "relu", 1.0, np.float32, np.random.default_rng(0))(np.ones((4, 2), np.float32)).shape == (
        4,
        1,
    )
