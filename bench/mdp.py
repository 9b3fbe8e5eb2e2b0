"""Markov decision processes: fastdl.rl against SciPy's sparse products and QuantEcon's DiscreteDP, on a random model.

    python -m bench.mdp [--states 1000000] [--actions 4] [--successors 5] [--discount 0.99] [--rounds 7] [--json FILE]

A sweep of value iteration, ``max_a R + discount * P v``, is made by

    fastdl       fastdl.rl's kernel, on fastdl.get_num_threads() threads, and on one
    scipy        (R + discount * (P @ v)).reshape(S, A).max(1)
    quantecon    DiscreteDP.bellman_operator, with sparse state-action pairs

and the same model is solved to 1e-6 by modified policy iteration, by fastdl and by QuantEcon. All results are compared
before anything is timed. What a sweep has to read and write is told as a part of what this machine reads in a row, and
of what it gathers: the same successors' values, summed, which is what a sweep cannot do without.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastdl
from bench.timing import interleave, median_ratio, offer_cpu_time, seconds_per_call
from fastdl import rl
from fastdl.numba.kernels._kernel import compiled, share
from fastdl.rl.mdp._ends import Sweeps

EPSILON = 1e-6


def random_model(states: int, actions: int, successors: int) -> tuple[Any, Any]:
    """(S * A, S) sparse probabilities and (S, A) rewards."""
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    rows = states * actions
    columns = rng.integers(0, states, rows * successors, dtype=np.int32)
    weights = rng.random((rows, successors))
    weights /= weights.sum(1, keepdims=True)
    pointers = np.arange(rows + 1, dtype=np.int32) * np.int32(successors)
    return csr_matrix((weights.ravel(), columns, pointers), shape=(rows, states)), rng.random((states, actions))


@compiled(sums=True)
def _read(array: Any, out: Any, begin: int, end: int) -> None:
    size = array.size // out.size
    for piece in range(begin, end):
        total = 0.0
        for i in range(piece * size, (piece + 1) * size):
            total += array[i]
        out[piece] = total


@compiled(sums=True)
def _gather(columns: Any, value: Any, out: Any, begin: int, end: int) -> None:
    size = columns.size // out.size
    for piece in range(begin, end):
        total = 0.0
        for i in range(piece * size, (piece + 1) * size):
            total += value[np.uint32(columns[i])]
        out[piece] = total


def sweep_contenders(mdp: Any, peer: Any, matrix: Any, rewards: Any, discount: float) -> dict[str, Callable[[], Any]]:
    """A sweep of each, which returns the new values and what is best, if it says that; and what it cannot do without:
    reading, and gathering."""
    states = len(rewards)
    value = np.random.default_rng(1).random(states)
    out, policy, sweep = np.empty_like(value), np.empty(states, np.int32), Sweeps(mdp)
    other, chosen, sums = np.empty_like(value), np.empty(states, np.int64), np.empty(64)

    def by_fastdl() -> Any:
        sweep(value, out, policy, 0.0)
        return out, policy

    def on_one_thread() -> Any:
        with fastdl.threads(1):
            return by_fastdl()

    def by_quantecon() -> Any:
        peer.bellman_operator(value, other, chosen)
        return other, chosen

    return {
        "fastdl": by_fastdl,
        "fastdl, one thread": on_one_thread,
        "scipy": lambda: (rewards.ravel() + discount * (matrix @ value)).reshape(rewards.shape).max(1)[np.newaxis],
        "quantecon": by_quantecon,
        "read in a row": lambda: share(_read, 64, 1, matrix.data, sums),
        "gather": lambda: share(_gather, 64, 1, matrix.indices, value, sums),
    }


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="bench.mdp", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("states", 1_000_000), ("actions", 4), ("successors", 5), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--discount", type=float, default=0.99)
    parser.add_argument("--json", help="write the report to this file too")
    offer_cpu_time(parser)
    options = parser.parse_args(argv)

    from quantecon.markov import DiscreteDP

    matrix, rewards = random_model(options.states, options.actions, options.successors)
    rl.MDP(_loops(4, options.actions), np.zeros(4), 0.5)  # compiles
    construct = lambda: rl.MDP(matrix, rewards, options.discount)  # noqa: E731
    construction = statistics.median(seconds_per_call(construct, 1) for _ in range(5))
    mdp = construct()
    states = np.repeat(np.arange(options.states), options.actions)
    actions = np.tile(np.arange(options.actions), options.states)
    peer = DiscreteDP(rewards.ravel(), matrix, options.discount, states, actions)

    sweeps = sweep_contenders(mdp, peer, matrix, rewards, options.discount)
    values, chosen = sweeps["quantecon"]()
    for name in ("fastdl", "fastdl, one thread", "scipy"):
        found, *policy = sweeps[name]()
        np.testing.assert_allclose(found, values, rtol=1e-12)
        assert all(np.array_equal(each, chosen) for each in policy)
    times = interleave(sweeps, options.rounds, 0.2)

    solved = rl.modified_policy_iteration(mdp, EPSILON)
    expected = peer.modified_policy_iteration(epsilon=EPSILON)
    assert solved.converged
    np.testing.assert_allclose(solved.value, expected.v, rtol=0, atol=EPSILON)
    iterated = rl.value_iteration(mdp, EPSILON)
    np.testing.assert_allclose(iterated.value, expected.v, rtol=0, atol=EPSILON)
    solvers = {
        "fastdl": lambda: rl.modified_policy_iteration(mdp, EPSILON),
        "fastdl, value iteration": lambda: rl.value_iteration(mdp, EPSILON),
        "quantecon": lambda: peer.modified_policy_iteration(epsilon=EPSILON),
    }
    solving = interleave(solvers, max(3, options.rounds // 2), 0.01)

    entries = matrix.nnz
    traffic = 12 * entries + 8 * len(matrix.indptr) + rewards.nbytes + options.states * (8 + 8 + 8 + 4)
    median = {name: statistics.median(found) for name, found in times.items()}
    bandwidth = matrix.data.nbytes / median["read in a row"]
    report = {
        "construction, s": construction,
        "sweep, ms": {name: 1e3 * median[name] for name in sweeps},
        "sweep, bytes": traffic,
        "bandwidth, GB/s": bandwidth / 1e9,
        "of the bandwidth": traffic / median["fastdl"] / bandwidth,
        "of the gather": median["gather"] / median["fastdl"],
        "sweep, ratio to scipy": median_ratio(times["scipy"], times["fastdl"]),
        "sweep, ratio to scipy, one thread": median_ratio(times["scipy"], times["fastdl, one thread"]),
        "sweep, ratio to quantecon": median_ratio(times["quantecon"], times["fastdl"]),
        "sweep, ratio to quantecon, one thread": median_ratio(times["quantecon"], times["fastdl, one thread"]),
        "solve, ms": {name: 1e3 * statistics.median(found) for name, found in solving.items()},
        "solve, ratio to quantecon": median_ratio(solving["quantecon"], solving["fastdl"]),
        "improvements": {"fastdl": solved.iterations, "quantecon": expected.num_iter},
        "threads": fastdl.get_num_threads(),
    }
    for name, found in report.items():
        if isinstance(found, dict):
            print(name)
            for each, number in found.items():
                print(f"    {each:32} {number:12.1f}")
        else:
            print(f"{name:36} {found:12.4g}")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1))
    return report


def _loops(states: int, actions: int) -> Any:
    """A model that stays where it is, of the types of the large one."""
    from scipy.sparse import csr_matrix

    rows = states * actions
    columns = np.repeat(np.arange(states, dtype=np.int32), actions)
    return csr_matrix((np.ones(rows), columns, np.arange(rows + 1, dtype=np.int32)), shape=(rows, states))


if __name__ == "__main__":
    main()
