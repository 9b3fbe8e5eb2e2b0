"""What the examples of control share: arguments and a progress bar; those by networks also training and reports."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import fastdl
from fastdl.examples import at_least_one, at_least_zero, requires


def add_arguments(parser: argparse.ArgumentParser, name: str, steps: int, seeds: int) -> None:
    parser.add_argument("--steps", type=at_least_one, default=steps, metavar="N", help="at most (%(default)s)")
    parser.add_argument("--seeds", type=at_least_one, default=seeds, metavar="N", help="runs (%(default)s)")
    parser.add_argument("--seed", type=at_least_zero, default=0, metavar="N", help="of the first run (%(default)s)")
    for kind in ("png", "gif"):
        path = Path(f"{name}.{kind}")
        parser.add_argument(f"--{kind}", type=Path, default=path, metavar=kind.upper(), help="default: %(default)s")
    parser.add_argument("--threads", type=at_least_one, metavar="N", help="default: as fastdl info shows")


def prepare(arguments: argparse.Namespace) -> None:
    """What can be wrong is, now, rather than after the training."""
    for extra, modules in (("rl", ("numba", "gymnasium")), ("examples", ("matplotlib.figure", "rich.progress", "PIL"))):
        with requires(extra):
            for module in modules:
                import_module(module)
    for path in (arguments.png, arguments.gif):
        if not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"found {path}, expected a file in a folder that exists")
    if arguments.threads:
        fastdl.set_num_threads(arguments.threads)


def run(
    arguments: argparse.Namespace, title: str, agent_of: Callable[[int], Any], target: float | None, solved: float
) -> None:
    """Train, report, draw, and at the end evaluate in Gymnasium's own environment."""
    prepare(arguments)
    from fastdl import rl

    agents, histories = [], []
    began = time.perf_counter()
    agent_of(arguments.seed).train(1)
    compiling = time.perf_counter() - began
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        agents.append(agent_of(seed))
        histories.append(_trained(agents[-1], arguments.steps, target))
    seconds = [history.seconds for history in histories]
    steps = sum(agent.steps for agent in agents)
    print(
        f"trained {len(agents)} agents: {np.median(seconds):.2f} s each in the median, {max(seconds):.2f} s at most, "
        f"{steps / sum(seconds):,.0f} steps/s (before that {compiling:.1f} s for what is compiled once, and kept)"
    )
    finals = [rl.evaluate(agent, episodes=100, seed=1000).mean() for agent in agents]
    best = agents[int(np.argmax(finals))]
    states, total = best.episode(seed=arguments.seed)
    rl.animate(best.environment, states, arguments.gif)
    _draw(arguments.png, title, histories, solved)
    print(f"learning curves: {arguments.png} | an episode of {total:.0f}: {arguments.gif}")
    print(
        f"mean return of 100 episodes in Gymnasium's {best.environment.gymnasium_id}, each agent: "
        f"{', '.join(f'{final:.1f}' for final in finals)}: {sum(final >= solved for final in finals)} of {len(finals)} "
        f"reach {solved:g}"
    )


def _trained(agent: Any, steps: int, target: float | None) -> Any:
    recent: list[float] = []
    with progress(steps) as show:

        def callback(agent: Any, part: Any) -> None:
            recent.extend(part.returns)
            del recent[:-100]
            show(agent.steps, recent)

        return agent.train(steps, target=target, callback=callback)


@contextmanager
def progress(steps: int, label: str = "") -> Iterator[Callable[[int, Sequence[float]], None]]:
    """A bar, and what shows in it how many steps were made, and the mean of late returns."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.fields[state]}"), BarColumn(), TextColumn("{task.percentage:.0f}%"), TimeElapsedColumn()
    with Progress(*columns) as bar:
        task = bar.add_task("", total=steps, state=label)

        def show(done: int, recent: Sequence[float]) -> None:
            state = f"{label}return {np.mean(recent):.1f}" if len(recent) else label
            bar.update(task, completed=min(done, steps), state=state)

        yield show
        bar.update(task, completed=steps)


def _draw(path: Path, title: str, histories: list[Any], solved: float) -> None:
    from matplotlib.figure import Figure

    from fastdl import rl

    figure: Any = Figure(figsize=(9, 5), layout="constrained")
    axes = rl.learning_curve(histories, figure.add_subplot(), label=f"mean and range of {len(histories)} runs")
    axes.axhline(solved, color="#263238", linestyle=":", label=f"solved: {solved:g}")
    axes.set(title=title)
    axes.legend(frameon=False)
    figure.savefig(path, format="png", dpi=120)
