"""A frozen lake is crossed and a taxi driven: Q-learning, against the exact optimum and in Gymnasium's environments."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastdl.examples import _control

Array = Any
GAMMA = 0.99


class Task(NamedTuple):
    """What is learned, and how it is evaluated."""

    id: str
    episodes: int
    """In Gymnasium's own environment."""
    result: str
    """The format of their mean return."""
    window: int
    """How many episodes the learning curve is averaged over."""


TASKS = (
    Task("FrozenLake8x8-v1", 1000, "success rate {:.1%}", 1000),
    Task("Taxi-v4", 100, "mean return {:.2f}", 100),
)


class Result(NamedTuple):
    """Of a task: its agents, one a seed, and how they learned; the best of them and its policy's exact values."""

    environment: Any
    theirs: Any
    """The same environment, of Gymnasium's."""
    histories: list[Any]
    agent: Any
    values: Array
    returns: Array
    """Of the best agent, in Gymnasium's own environment."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _control.add_arguments(parser, "qlearning", steps=2_000_000, seeds=5)


def run(arguments: argparse.Namespace) -> None:
    """Train on both tasks, report and draw, and at the end evaluate in Gymnasium's own environments."""
    _control.prepare(arguments)
    from fastdl import rl

    results = [learn(task, arguments.steps, arguments.seeds, arguments.seed) for task in TASKS]
    _draw(arguments.png, results)
    lake, taxi = results
    states, total = episode(taxi.agent, taxi.environment, arguments.seed)
    rl.animate(taxi.environment, states, arguments.gif)
    print(f"learning curves, values and policy: {arguments.png} | a taxi's episode of {total:.0f}: {arguments.gif}")
    for task, result in zip(TASKS, (lake, taxi), strict=True):
        found = task.result.format(result.returns.mean())
        print(f"{found} in {task.episodes:,} episodes of Gymnasium's {result.environment.gymnasium_id}, best policy")


def learn(task: Task, steps: int, seeds: int, seed: int) -> Result:
    """Train an agent for each seed, and say how far their policies are from an optimal one."""
    import gymnasium

    from fastdl import rl

    environment = rl.make(task.id)

    def agent_of(seed: int) -> Any:
        exploration = rl.Linear(1.0, 0.05, steps)
        return rl.QLearning(environment, alpha=rl.InverseVisits(0.6), gamma=GAMMA, epsilon=exploration, seed=seed)

    began = time.perf_counter()
    agent_of(seed).train(1)
    compiling = time.perf_counter() - began
    agents, seconds = [], 0.0
    with _control.progress(steps * seeds, f"{task.id} ") as show:
        for i in range(seeds):
            agent = agent_of(seed + i)
            part = max(1, steps // 20)
            while agent.steps < steps:
                began = time.perf_counter()
                agent.train(min(part, steps - agent.steps))
                seconds += time.perf_counter() - began
                show(i * steps + agent.steps, agent.history.returns[-1000:])
            agents.append(agent)
    print(
        f"{task.id}: {seeds} agents, {steps:,} steps each, {steps * seeds / seconds / 1e6:.1f} million steps/s "
        f"(before that {compiling:.1f} s for what is compiled once, and kept)"
    )
    theirs: Any = gymnasium.make(str(environment.gymnasium_id), **environment.gymnasium_options)
    start = theirs.unwrapped.initial_state_distrib
    model = rl.MDP.from_gymnasium(environment, GAMMA)
    optimum = float(start @ rl.value_iteration(model, 1e-9).value)
    values = [rl.evaluate_policy(model, agent.policy).value for agent in agents]
    worths = [float(start @ value) for value in values]
    best = int(np.argmax(worths))
    print(
        f"  their policies are worth {min(worths):.4f} to {max(worths):.4f} at the start, "
        f"{max(0.0, optimum - min(worths)):.4f} less than the optimum at most: {optimum:.4f}, by value iteration"
    )
    returns = evaluate(agents[best], theirs, task.episodes, seed)
    return Result(environment, theirs, [agent.history for agent in agents], agents[best], values[best], returns)


def evaluate(agent: Any, environment: Any, episodes: int, seed: int) -> Array:
    """The return of each episode with the best actions, in an environment that Python steps."""
    returns, policy = np.zeros(episodes), agent.policy.tolist()
    for i in range(episodes):
        observation, _ = environment.reset(seed=seed if i == 0 else None)
        over = False
        while not over:
            observation, reward, terminated, truncated, _ = environment.step(policy[observation])
            returns[i] += reward
            over = terminated or truncated
    return returns


def episode(agent: Any, environment: Any, seed: int) -> tuple[list[Array], float]:
    """The states of an episode, for pictures, and its return."""
    from fastdl import rl

    env = rl.envs.GymnasiumEnv(environment)
    observation, _ = env.reset(seed=seed)
    states, total, over = [env.state], 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(agent.predict(observation))
        states.append(env.state)
        total += reward
        over = terminated or truncated
    return states, total


def _draw(path: Path, results: list[Result]) -> None:
    from matplotlib.figure import Figure

    from fastdl import rl

    figure: Any = Figure(figsize=(16, 5), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.05))
    for task, result, panel in zip(TASKS, results, axes, strict=False):
        n = len(result.histories)
        rl.learning_curve(result.histories, panel, label=f"exploring, mean and range of {n} runs", window=task.window)
        found = result.returns.mean()
        panel.axhline(found, color="#263238", linestyle=":", label=f"best policy, in Gymnasium: {found:.2f}")
        panel.set(title=f"{task.id}, Q-learning")
        panel.legend(frameon=False)
    lake = results[0]
    shape = lake.theirs.unwrapped.desc.shape
    tiles = lake.theirs.unwrapped.desc.astype(str).ravel()
    policy = np.where(np.isin(tiles, ("H", "G")), -1, lake.agent.policy)
    title = "Values and policy of the best agent (S: start, G: goal)"
    rl.draw(lake.values, policy, shape, arrows="ldru", walls=tiles == "H", title=title, ax=axes[2])
    for letter in "SG":
        for place in np.flatnonzero(tiles == letter):
            spot = (place % shape[1] - 0.38, place // shape[1] - 0.3)
            axes[2].text(*spot, letter, color="white", fontsize=8, weight="bold", ha="center", va="center")
    figure.savefig(path, format="png", dpi=110)


if __name__ == "__main__":
    from fastdl.__main__ import main

    main(["train", "qlearning", *sys.argv[1:]])
