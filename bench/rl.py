"""Agents of fastdl.rl: how fast they learn, against the same written by hand.

    python -m bench.rl                 all of it, in turns, a few minutes
    python -m bench.rl cartpole        seconds until CartPole is solved, ten seeds
    python -m bench.rl process         the same as a new process, with everything compiled on disk
    python -m bench.rl reinforce       steps a second, against products of NumPy's inside @njit
    python -m bench.rl pendulum        PPO on Pendulum, against torch and stable-baselines3 where installed
    python -m bench.rl gae             generalized advantage estimation, against NumPy and rlox where installed
    python -m bench.rl curves          learning curves of PPO here and in torch, as a PNG

Every figure is of learning that worked: returns are evaluated in Gymnasium's own environments, and what does not reach
its mark is an error. One thread, unless --threads says otherwise.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from math import exp
from typing import Any

import numba
import numpy as np

import fastdl
from bench import timing
from fastdl import rl
from fastdl.examples import cartpole, pendulum

STEPS = 303_104
SOLVED, SWUNG = 475.0, -200.0
Array = np.ndarray[Any, Any]


def main() -> None:
    parts = {
        "cartpole": _cartpole,
        "process": _process,
        "reinforce": _reinforce,
        "pendulum": _pendulum,
        "gae": _gae,
        "curves": _curves,
    }
    parser = argparse.ArgumentParser(prog="python -m bench.rl", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *parts], default=[], metavar="PART", help=", ".join(parts))
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--peer-seeds", type=int, default=2, metavar="N", help="of slow contenders (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: %(default)s")
    timing.offer_cpu_time(parser)
    arguments = parser.parse_args()
    fastdl.set_num_threads(arguments.threads)
    for name in arguments.parts or parts:
        print(f"\n{name}")
        parts[name](arguments)


def _spread(values: list[float], unit: str) -> str:
    return f"median {statistics.median(values):.3g}{unit}, worst {max(values):.3g}{unit}"


def _evaluated(agent: Any, mark: float) -> float:
    found = float(rl.evaluate(agent, episodes=100, seed=12345).mean())
    if found < mark:
        raise AssertionError(f"{agent}: found a mean return of {found:.1f} in Gymnasium, expected at least {mark:g}")
    return found


def _cartpole(arguments: argparse.Namespace) -> None:
    def agent(seed: int) -> Any:
        return rl.PPO(rl.make("CartPole-v1"), seed=seed, **cartpole.OPTIONS)

    begin = time.perf_counter()
    agent(0).train(1, target=490.0)
    agent(0).evaluate(100)
    print(f"before: {time.perf_counter() - begin:.1f} s to compile, or to load what was compiled")
    seconds, steps, returns = [], [], []
    for seed in range(arguments.seeds):
        begin = timing.now()
        learner = agent(seed)
        learner.train(500_000, target=490.0)
        seconds.append(timing.now() - begin)
        steps.append(float(learner.steps))
        returns.append(_evaluated(learner, SOLVED))
    print(f"solved by {len(seconds)} of {len(seconds)} seeds: {_spread(seconds, ' s')}; {_spread(steps, ' steps')}")
    print(f"mean returns in Gymnasium {min(returns):.1f} to {max(returns):.1f}")


def _process(arguments: argparse.Namespace) -> None:
    program = (
        "import fastdl; from fastdl import rl; from fastdl.examples.cartpole import OPTIONS\n"
        "fastdl.set_num_threads(1)\n"
        "agent = rl.PPO(rl.make('CartPole-v1'), seed={}, **OPTIONS); agent.train(500_000, target=490.0)\n"
        "print(rl.evaluate(agent, episodes=100, seed=12345).mean())"
    )
    # As for a user: Python keeps what it has made of sources, too.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    seconds = []
    for seed in range(-1, arguments.seeds):
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", program.format(max(seed, 0))],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        if float(done.stdout) < SOLVED:
            raise AssertionError(f"seed {seed}: found a mean return of {done.stdout}, expected {SOLVED:g}")
        if seed >= 0:  # the first one compiles
            seconds.append(time.perf_counter() - begin)
    print(f"a process that imports, trains and evaluates in Gymnasium: {_spread(seconds, ' s')}")


_ENVIRONMENT = rl.make("CartPole-v1")
_RESET, _STEP, _STATE = _ENVIRONMENT.reset, _ENVIRONMENT.step, tuple(map(float, _ENVIRONMENT.state))


@numba.njit
def _numpy_reinforce(
    steps: int, seed: int, w1: Array, b1: Array, w2: Array, b2: Array, lr: float, gamma: float
) -> tuple[int, float]:  # pragma: no cover
    """REINFORCE with NumPy's products: an episode, then a step of Adam by its normalised returns."""
    state, observation, rng = np.array(_STATE), np.zeros(4), np.arange(seed, seed + 6).astype(np.uint64)
    xs, hs, ps = np.zeros((500, 4), np.float32), np.zeros((500, 64), np.float32), np.zeros((500, 2), np.float32)
    actions, gains = np.zeros(500, np.int64), np.zeros(500, np.float32)
    first = [np.zeros_like(w1), np.zeros_like(w2)]
    second = [np.zeros_like(w1), np.zeros_like(w2)]
    first_b = [np.zeros_like(b1), np.zeros_like(b2)]
    second_b = [np.zeros_like(b1), np.zeros_like(b2)]
    made, updates, recent = 0, 0, 0.0
    while made < steps:
        _RESET(state, observation, rng)
        n = 0
        while n < 500:
            x = observation.astype(np.float32)
            h = np.tanh(np.dot(w1, x) + b1)
            z = np.dot(w2, h) + b2
            top = max(z[0], z[1])
            e0, e1 = exp(z[0] - top), exp(z[1] - top)
            p1 = e1 / (e0 + e1)
            action = 1 if rl.random.random(rng) < p1 else 0
            xs[n], hs[n] = x, h
            ps[n, 0], ps[n, 1] = 1 - p1, p1
            actions[n] = action
            _, terminated = _STEP(state, action, observation, rng)
            n += 1
            if terminated:
                break
        made += n
        recent += 0.05 * (n - recent)
        total = 0.0
        for t in range(n - 1, -1, -1):
            total = 1.0 + gamma * total
            gains[t] = total
        g = gains[:n]
        g = (g - g.mean()) / (g.std() + np.float32(1e-8))
        dz = ps[:n].copy()
        for t in range(n):
            dz[t, actions[t]] -= 1.0
            dz[t] *= g[t] / n
        dh = np.dot(dz, w2) * (1 - hs[:n] * hs[:n])
        grads = [np.dot(dh.T, xs[:n]), np.dot(dz.T, hs[:n])]
        grads_b = [dh.sum(0), dz.sum(0)]
        updates += 1
        c1, c2 = 1 - 0.9**updates, 1 - 0.999**updates
        for j in range(2):
            w = w1 if j == 0 else w2
            first[j] = np.float32(0.9) * first[j] + np.float32(0.1) * grads[j]
            second[j] = np.float32(0.999) * second[j] + np.float32(0.001) * grads[j] * grads[j]
            w -= (lr / c1 * first[j] / (np.sqrt(second[j] / c2) + 1e-8)).astype(np.float32)
            b = b1 if j == 0 else b2
            first_b[j] = np.float32(0.9) * first_b[j] + np.float32(0.1) * grads_b[j]
            second_b[j] = np.float32(0.999) * second_b[j] + np.float32(0.001) * grads_b[j] * grads_b[j]
            b -= (lr / c1 * first_b[j] / (np.sqrt(second_b[j] / c2) + 1e-8)).astype(np.float32)
    return made, recent


def numpy_learner(seed: int) -> Callable[[int], tuple[int, float]]:
    """REINFORCE that goes on: given a number of steps, those that it made and the mean length of its last episodes."""
    rng = np.random.default_rng(seed)
    w1, w2 = ((rng.uniform(-1, 1, s) / s[1] ** 0.5).astype(np.float32) for s in ((64, 4), (2, 64)))
    parameters, turns = (w1, np.zeros(64, np.float32), w2, np.zeros(2, np.float32)), itertools.count()
    return lambda steps: _numpy_reinforce(steps, seed + 100 * next(turns), *parameters, 5e-3, 0.99)


def fastdl_learner(seed: int, episodes: int = 1) -> Callable[[int], tuple[int, float]]:
    agent = rl.REINFORCE(rl.make("CartPole-v1"), seed=seed, episodes=episodes, baseline=False, max_norm=None, lr=5e-3)

    def train(steps: int) -> tuple[int, float]:
        before = agent.steps
        history = agent.train(steps)
        return agent.steps - before, float(history.returns[-20:].mean())

    return train


LEARNERS: dict[str, Callable[[int], Callable[[int], tuple[int, float]]]] = {
    "NumPy in @njit": numpy_learner,
    "fastdl": fastdl_learner,
    "fastdl 8 at once": functools.partial(fastdl_learner, episodes=8),
}


def _reinforce(arguments: argparse.Namespace) -> None:
    """Both learn from one episode at a time, 64 units, Adam, normalised returns, no baseline.

    Of what they learn the first half is not timed: programs are recorded there."""
    steps, rates = 200_000, {name: [] for name in LEARNERS}  # type: ignore[var-annotated]
    numpy_learner(0)(steps)
    for seed in range(3):
        for name, make in LEARNERS.items():
            learner = make(seed)
            learner(steps)
            begin = timing.now()
            made, recent = learner(steps)
            rates[name].append(made / (timing.now() - begin))
            if recent < 100:
                raise AssertionError(f"{name}: found a mean of {recent:.0f} steps, expected that it learns")
    for name, found in rates.items():
        ratio = timing.median_ratio(found, rates["NumPy in @njit"])
        print(f"{name:20} {statistics.median(found) / 1e6:6.2f} million steps/s {ratio:6.2f}x")


def _pendulum(arguments: argparse.Namespace) -> None:
    seconds, returns = [], []
    rl.PPO(rl.make("Pendulum-v1"), seed=0, **pendulum.OPTIONS).train(5000)
    for seed in range(arguments.seeds):
        begin = timing.now()
        agent = rl.PPO(rl.make("Pendulum-v1"), seed=seed, **pendulum.OPTIONS)
        agent.train(STEPS)
        seconds.append(timing.now() - begin)
        returns.append(_evaluated(agent, SWUNG))
    own = statistics.median(seconds)
    print(f"fastdl              {_spread(seconds, ' s')}, returns {min(returns):.0f} to {max(returns):.0f}")
    for name, package, peer in (("torch", "torch", _torch), ("stable-baselines3", "stable_baselines3", _baselines)):
        if find_spec(package) is None or arguments.peer_seeds < 1:
            print(f"{name:19} is not {'installed' if arguments.peer_seeds else 'asked for'}")
            continue
        found = [peer(seed) for seed in range(arguments.peer_seeds)]
        times, final = [took for took, _ in found], [reached for _, reached in found]
        ratio = statistics.median(times) / own
        print(f"{name:19} {_spread(times, ' s')}, returns {min(final):.0f} to {max(final):.0f}: {ratio:.1f}x")


def fastdl_ppo(seed: int) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    """On Pendulum: what trains for a number of steps, and the agent's parameters."""
    agent = rl.PPO(rl.make("Pendulum-v1"), seed=seed, **pendulum.OPTIONS)
    return agent.train, lambda: agent.parameters[0]


def torch_ppo(seed: int) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    import torch

    from bench.torch_ppo import TorchPPO

    torch.set_num_threads(1)
    torch.set_grad_enabled(True)
    options = {name: value for name, value in pendulum.OPTIONS.items() if name != "hidden"}
    agent = TorchPPO("Pendulum-v1", seed=seed, **options)
    return agent.train, lambda: agent.parameters[0].detach().numpy()


def baselines_ppo(seed: int) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    agent, _ = _baselines_agent(seed)
    return agent.learn, lambda: next(iter(agent.policy.parameters())).detach().numpy()


PPOS = {"fastdl": fastdl_ppo, "torch": torch_ppo, "stable-baselines3": baselines_ppo}


def _torch(seed: int) -> tuple[float, float]:
    begin = timing.now()
    train, _ = torch_ppo(seed)
    agent = train(STEPS)
    return timing.now() - begin, _by_gymnasium(agent.predict)


def _baselines_agent(seed: int) -> tuple[Any, Any]:
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(1)
    torch.set_grad_enabled(True)
    o = pendulum.OPTIONS
    vector = VecNormalize(make_vec_env("Pendulum-v1", o["n_envs"], seed=seed), gamma=o["gamma"])
    net = {"net_arch": [64, 64], "activation_fn": torch.nn.ReLU}
    agent = PPO(
        "MlpPolicy", vector, learning_rate=o["lr"], n_steps=o["n_steps"], batch_size=o["batch_size"],
        n_epochs=o["epochs"], gamma=o["gamma"], policy_kwargs=net, seed=seed, device="cpu",
    )  # fmt: skip
    return agent, vector


def _baselines(seed: int) -> tuple[float, float]:
    agent, vector = _baselines_agent(seed)
    begin = timing.now()
    agent.learn(STEPS)
    took = timing.now() - begin
    return took, _by_gymnasium(lambda x: agent.predict(vector.normalize_obs(x), deterministic=True)[0])


def _by_gymnasium(predict: Any) -> float:
    """The mean return of 100 episodes."""
    import gymnasium

    vector = gymnasium.make_vec("Pendulum-v1", 100, "sync")
    observation, _ = vector.reset(seed=12345)
    total = np.zeros(100)
    for _ in range(200):
        observation, reward, *_ = vector.step(predict(observation))
        total += reward
    return float(total.mean())


def gae_contenders() -> dict[str, Callable[[], Array]]:
    """Generalized advantage estimation of 64 environments for 2048 steps: what returns the advantages."""
    rng = np.random.default_rng(0)
    shape, gamma, lmbda = (2048, 64), 0.99, 0.95
    reward, value, following = (rng.standard_normal(shape, np.float32) for _ in range(3))
    following[:-1] = value[1:]
    done = rng.random(shape) < 0.01

    def by_numpy() -> Array:
        advantage, running = np.empty(shape, np.float32), np.zeros(shape[1], np.float32)
        for t in range(shape[0] - 1, -1, -1):
            alive = ~done[t]
            delta = reward[t] + np.float32(gamma) * following[t] * alive - value[t]
            running = delta + np.float32(gamma * lmbda) * alive * running
            advantage[t] = running
        return advantage

    calls: dict[str, Callable[[], Array]] = {
        "fastdl": lambda: fastdl.gae(reward, value, following, done, gamma=gamma, lmbda=lmbda)[0],
        "NumPy": by_numpy,
    }
    return calls | (_rlox(reward, value, following, done, gamma, lmbda) if find_spec("rlox") else {})


GAE_TRAFFIC = 2048 * 64 * (5 * 4 + 2)


def gae_compared(found: Array, right: Array) -> None:
    """To what sums of some hundred terms in float32 may differ by."""
    found = np.asarray(found)
    if found.size != right.size:
        raise AssertionError(f"found {found.size} advantages, expected {right.size}")
    found = found if found.shape == right.shape else found.reshape(right.shape[::-1]).T
    np.testing.assert_allclose(found, right, atol=1e-3)


def _gae(arguments: argparse.Namespace) -> None:
    calls = gae_contenders()
    for call in calls.values():
        gae_compared(call(), calls["NumPy"]())
    if "rlox" not in calls:
        print("rlox is not installed")
    times = timing.interleave(calls, rounds=7, seconds=0.1)
    own = statistics.median(times["fastdl"])
    for name, found in times.items():
        print(f"{name:8} {statistics.median(found) * 1e6:8.0f} us {timing.median_ratio(found, times['fastdl']):6.1f}x")
    print(f"{GAE_TRAFFIC / own / 1e9:.1f} GB/s")


def _rlox(reward: Array, value: Array, following: Array, done: Array, gamma: float, lmbda: float) -> Any:
    import rlox

    parts = [np.ascontiguousarray(array.T, np.float32) for array in (reward, value, done)]
    last, steps = following[-1], reward.shape[0]
    return {
        "rlox": lambda: rlox.compute_gae_batched_f32(*(part.ravel() for part in parts), last, steps, gamma, lmbda)[0]
    }


def _curves(arguments: argparse.Namespace) -> None:
    from types import SimpleNamespace

    from matplotlib.figure import Figure

    from bench.torch_ppo import TorchPPO

    options = {name: value for name, value in pendulum.OPTIONS.items() if name != "hidden"}
    here = [
        rl.PPO(rl.make("Pendulum-v1"), seed=seed, **pendulum.OPTIONS).train(STEPS) for seed in range(arguments.seeds)
    ]
    there = [TorchPPO("Pendulum-v1", seed=seed, **options).train(STEPS) for seed in range(arguments.seeds)]
    figure: Any = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    rl.learning_curve(here, axes, label=f"fastdl, {len(here)} seeds")
    peers = [SimpleNamespace(returns=np.array(agent.returns), lengths=np.array(agent.lengths)) for agent in there]
    rl.learning_curve(peers, axes, label=f"torch, {len(there)} seeds")
    axes.set(title="PPO on Pendulum-v1, the same options")
    axes.legend(frameon=False)
    figure.savefig("curves.png", dpi=120)
    last = {
        name: np.mean([run.returns[-100:].mean() for run in runs])
        for name, runs in (("fastdl", here), ("torch", peers))
    }
    print(f"curves.png; mean return of the last 100 episodes: {', '.join(f'{k} {v:.1f}' for k, v in last.items())}")


if __name__ == "__main__":
    main()
