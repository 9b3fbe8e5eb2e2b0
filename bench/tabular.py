"""Q-learning on tables of transitions: fastdl's loop, the same loop under @njit, and in Python with NumPy.

python -m bench.tabular           ratios of CPU time, taken in turns, and whether what they learn agrees
python -m bench.tabular --rounds 51
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numba
import numpy as np

import bench.timing
from fastdl import rl

ALPHA, GAMMA, EPSILON = 0.1, 0.95, 0.1
TAKES = {"fastdl": 1_000_000, "njit": 1_000_000, "python": 5_000}
Report = dict[str, Any]


class Rows(NamedTuple):
    """Transitions as a straightforward loop has them."""

    indptr: np.ndarray[Any, Any]
    successors: np.ndarray[Any, Any]
    cumulative: np.ndarray[Any, Any]
    rewards: np.ndarray[Any, Any]
    terminal: np.ndarray[Any, Any]
    start: np.ndarray[Any, Any]
    n_actions: int


def frozen_lake() -> tuple[Rows, rl.tabular.Table]:
    return _of_gymnasium("FrozenLake8x8-v1")


def taxi() -> tuple[Rows, rl.tabular.Table]:
    return _of_gymnasium("Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3")


def random_table(n_states: int = 1000, n_actions: int = 4, n_successors: int = 5) -> tuple[Rows, rl.tabular.Table]:
    rng = np.random.default_rng(0)
    rows = n_states * n_actions
    probabilities = rng.dirichlet(np.ones(n_successors), rows).ravel()
    return _both(
        np.arange(rows + 1) * n_successors,
        rng.integers(0, n_states, rows * n_successors),
        probabilities,
        rng.standard_normal(rows * n_successors),
        rng.random(rows * n_successors) < 0.01,
        np.full(n_states, 1.0 / n_states),
    )


def _of_gymnasium(name: str) -> tuple[Rows, rl.tabular.Table]:
    environment: Any = gymnasium.make(name).unwrapped
    rows = [environment.P[s][a] for s in range(len(environment.P)) for a in range(len(environment.P[0]))]
    probabilities, successors, rewards, terminal = (
        np.array(column) for column in zip(*itertools.chain(*rows), strict=True)
    )
    indptr = np.append(0, np.cumsum([len(row) for row in rows]))
    return _both(indptr, successors, probabilities, rewards, terminal, environment.initial_state_distrib)


def _both(indptr: Any, successors: Any, probabilities: Any, rewards: Any, terminal: Any, start: Any) -> Any:
    cumulative = np.concatenate([part.cumsum() for part in np.split(probabilities, indptr[1:-1])])
    rows = Rows(
        indptr.astype(np.int64),
        successors.astype(np.int32),
        cumulative,
        rewards.astype(np.float64),
        terminal.astype(np.uint8),
        start.cumsum(),
        (indptr.size - 1) // start.size,
    )
    return rows, rl.tabular.Table.build(indptr, successors, probabilities, rewards, terminal, start)


@numba.njit(cache=True)
def in_numba(q, rows, s, steps, seed):  # type: ignore[no-untyped-def]
    """As one writes it; the first of the best actions is taken."""
    np.random.seed(seed)  # noqa: NPY002
    n_actions = rows.n_actions
    for _ in range(steps):
        if s < 0:
            u, s = np.random.random(), 0  # noqa: NPY002
            while u >= rows.start[s] and s < rows.start.size - 1:
                s += 1
        if np.random.random() < EPSILON:  # noqa: NPY002
            a = np.random.randint(n_actions)  # noqa: NPY002
        else:
            a = 0
            for b in range(1, n_actions):
                if q[s, b] > q[s, a]:
                    a = b
        row = s * n_actions + a
        k, last, u = rows.indptr[row], rows.indptr[row + 1] - 1, np.random.random()  # noqa: NPY002
        while k < last and u >= rows.cumulative[k]:
            k += 1
        s2 = rows.successors[k]
        target = rows.rewards[k]
        if not rows.terminal[k]:
            best = q[s2, 0]
            for b in range(1, n_actions):
                best = max(best, q[s2, b])
            target += GAMMA * best
        q[s, a] += ALPHA * (target - q[s, a])
        s = -1 if rows.terminal[k] else s2
    return s


def in_python(q: Any, rows: Rows, s: int, steps: int, rng: np.random.Generator) -> int:
    """The same with NumPy."""
    n_actions, random = rows.n_actions, rng.random
    for _ in range(steps):
        if s < 0:
            s = int(np.searchsorted(rows.start, random(), side="right"))
        a = int(rng.integers(n_actions)) if random() < EPSILON else int(q[s].argmax())
        first, last = rows.indptr[s * n_actions + a], rows.indptr[s * n_actions + a + 1]
        k = min(first + np.searchsorted(rows.cumulative[first:last], random(), side="right"), last - 1)
        s2, target = int(rows.successors[k]), rows.rewards[k]
        if not rows.terminal[k]:
            target += GAMMA * q[s2].max()
        q[s, a] += ALPHA * (target - q[s, a])
        s = -1 if rows.terminal[k] else s2
    return s


class Contenders:
    """The three, each going on from where it was, on one table: from small values, where there are no ties."""

    def __init__(self, rows: Rows, table: rl.tabular.Table) -> None:
        self.rows = rows
        q = np.random.default_rng(0).uniform(0.0, 0.1, (table.n_states, table.n_actions))
        self.agent = rl.QLearning(table, alpha=ALPHA, gamma=GAMMA, epsilon=EPSILON, q=q.copy(), seed=0)
        self.q = {"njit": q.copy(), "python": q.copy()}
        self.s = dict.fromkeys(self.q, -1)
        self.seed, self.rng = 0, np.random.default_rng(0)

    def fastdl(self) -> None:
        self.agent.train(steps=TAKES["fastdl"])

    def njit(self) -> None:
        self.seed += 1
        self.s["njit"] = in_numba(self.q["njit"], self.rows, self.s["njit"], TAKES["njit"], self.seed)

    def python(self) -> None:
        self.s["python"] = in_python(self.q["python"], self.rows, self.s["python"], TAKES["python"], self.rng)

    def calls(self) -> dict[str, Callable[[], None]]:
        return {"fastdl": self.fastdl, "njit": self.njit, "python": self.python}


def disagreement(rows: Rows, table: rl.tabular.Table, runs: int = 20, steps: int = 200_000) -> float:
    """By how many standard errors the mean of the greatest value of the table differs between fastdl and @njit."""
    means: dict[str, list[float]] = {"fastdl": [], "njit": []}
    for seed in range(runs):
        q = np.random.default_rng(seed).uniform(0.0, 0.1, (table.n_states, table.n_actions))  # no ties to be broken
        agent = rl.QLearning(table, alpha=ALPHA, gamma=GAMMA, epsilon=EPSILON, q=q, seed=seed)
        agent.train(steps=steps)
        in_numba(q, rows, -1, steps, 1000 + seed)
        means["fastdl"].append(float(agent.q.max(axis=1).mean()))
        means["njit"].append(float(q.max(axis=1).mean()))
    ours, theirs = (np.array(values) for values in means.values())
    error = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / runs)
    return float(abs(ours.mean() - theirs.mean()) / error)


def main(argv: list[str] | None = None) -> Report:
    parser = argparse.ArgumentParser(
        prog="bench.tabular", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", help="write the report to this file too")
    options = parser.parse_args(argv)
    parser_of_clock = argparse.ArgumentParser()
    bench.timing.offer_cpu_time(parser_of_clock)
    parser_of_clock.parse_args(["--cpu"])
    report: Report = {}
    for name, make in (("FrozenLake 8x8", frozen_lake), ("Taxi", taxi), ("random, 1000 x 4 x 5", random_table)):
        rows, table = make()
        times = bench.timing.interleave(Contenders(rows, table).calls(), options.rounds, seconds=0.1)
        per_step = {who: [t / TAKES[who] for t in values] for who, values in times.items()}
        for who, values in per_step.items():
            report[f"{name}: {who}, ns a step"] = 1e9 * statistics.median(values)
        for who in ("njit", "python"):
            report[f"{name}: {who} over fastdl"] = bench.timing.median_ratio(per_step[who], per_step["fastdl"])
        report[f"{name}: values differ by, standard errors"] = errors = disagreement(rows, table)
        if not errors < 4.0:
            raise SystemExit(
                f"{name}: values differ by {errors:.1f} standard errors from those of @njit, expected below 4"
            )
    for name, value in report.items():
        print(f"{name:<56}{value:10.2f}")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1))
    return report


if __name__ == "__main__":
    main()
