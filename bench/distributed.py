"""Ranks against one process: the digits network, `--batch` rows a rank, one thread each, and a model of the difference.

    python -m bench.distributed [--ranks 2] [--rounds 15] [--steps 20] [--batch 256] [--json FILE]
    mpiexec -n 2 python -m bench.distributed [...]        the same by an mpiexec of yours

In turns, rank 0 trains alone (the others sleep), as a group of one, and all ranks train together: with gradients summed
at the end of backward, and while it goes on ("overlap"). Times are of steps, over all rounds: the median, and the tenth
of them that is fastest. In turns with these the sum alone is timed (MPI_Allreduce of the gradients), of which the model
is made:

    t(n) = t(group of one) + t(sum)        speedup = n t(alone) / t(n)

The group of one copies gradients into their block, too, and calls two programs.

Where others work on the machine, ranks wait for one another's cores. So there is a third line: the processor time of a
step, without that of the sum, in which ranks that wait turn round; and the sum's own fastest tenth.

What t(sum) is on other networks follows from latency and bandwidth: of n ranks each sends and receives 2 (n - 1) / n
times the gradients' bytes, in 2 log2(n) messages at least (Thakur, Rabenseifner and Gropp 2005).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastdl
from bench.programs import digits
from fastdl import distributed, nn, optim
from fastdl.training.steps import Steps

NETWORKS = {"1 Gbit/s": (50e-6, 0.117e9), "10 Gbit/s": (20e-6, 1.17e9), "100 Gbit/s": (2e-6, 11.7e9)}
"""Seconds a message takes, and bytes a second, of what machines are connected by."""


def trainer(group: Any, batch: int) -> tuple[Callable[[], float], Any]:
    """A step, and what makes it; group: None for a process alone."""
    net = nn.Sequential(*digits(nn, rng=np.random.default_rng(1)))
    optimizer = optim.SGD(net.parameters(), lr=1e-9, momentum=0.9)  # which leaves the numbers as they are
    rng = np.random.default_rng(0 if group is None else group.rank)
    x, target = rng.standard_normal((batch, 1, 8, 8), np.float32), rng.integers(0, 10, batch)
    loss = nn.CrossEntropyLoss()
    if group is None:
        steps: Any = Steps(net, loss, optimizer, None, None, True)
        return lambda: float(steps(x, target)), (steps, x, target)
    steps = group.steps(net, loss, optimizer, None, None, True)
    return lambda: float(steps(x, target)), (steps, x, target)


class Sums(distributed.Group):
    """A group that knows how long it took to add up."""

    processor = 0.0

    def add_up(self, block: Any, wait: bool = True) -> Any:
        begin = time.process_time()
        found = super().add_up(block, wait)
        self.processor += time.process_time() - begin
        return found


def timed(call: Callable[[], Any], count: int, group: Any) -> list[tuple[float, float]]:
    """Of each call the time, and the processor's without that of sums."""
    found = []
    for _ in range(count):
        begin, cpu, sums = time.perf_counter(), time.process_time(), group.processor
        call()
        passed = time.process_time() - cpu - (group.processor - sums)
        found.append((time.perf_counter() - begin, passed))
    return found


def sleeping_barrier(comm: Any) -> None:
    """Who waits takes no time from those who work."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(5e-4)


def of_sum(n: int, size: int, latency: float, bandwidth: float) -> float:
    """The model's seconds for a sum over n ranks."""
    return 2 * math.ceil(math.log2(n)) * latency + 2 * (n - 1) / n * size / bandwidth if n > 1 else 0.0


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m bench.distributed", description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2, help="that are started where mpiexec did not (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20, help="of each contender in a round")
    parser.add_argument("--batch", type=int, default=256, help="rows of each rank")
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args(arguments)
    if not any(name in os.environ for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")):
        own = Path(sys.executable).parent / "mpiexec"
        command = [str(own) if own.exists() else "mpiexec", "-n", str(options.ranks), sys.executable, "-m"]
        given = sys.argv[1:] if arguments is None else arguments
        subprocess.run([*command, "bench.distributed", *given], check=True)
        return {}
    with Sums(threads=1) as group:
        return measure(group, options)


def measure(group: Sums, options: argparse.Namespace) -> dict[str, Any]:
    overlapping = distributed.Group(threads=1, overlap=True)
    fastdl.set_num_threads(1)
    alone, (one, x, target) = trainer(None, options.batch)
    together, (many, *_) = trainer(group, options.batch)
    overlap, (parts, *_) = trainer(overlapping, options.batch)
    single, _ = trainer(distributed.Group(group._mpi.COMM_SELF, threads=1), options.batch)
    calls = {"alone": alone, "one": single, "together": together, "overlap": overlap}
    for call in calls.values():
        timed(call, 3, group)
    blocks = [bucket.whole for bucket in many.buckets]
    calls["sum"] = lambda: [group.add_up(block) for block in blocks]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(options.rounds):
        for name, call in calls.items():
            sleeping_barrier(group.comm)
            if name not in ("alone", "one") or group.rank == 0:
                times[name] += timed(call, options.steps, group)
    if group.rank:
        return {}
    program = one._step.program(x, target)
    size, flops = sum(block.nbytes for block in blocks), sum(row.flops for row in program.explain().rows)
    report: dict[str, Any] = {"ranks": group.size, "batch": options.batch, "bytes": size, "flops": flops}
    print(f"{group.size} ranks, {options.batch} rows each: {size:,} bytes of gradients, {flops:,} operations a step")
    print(f"overlap: {len(parts.buckets)} buckets")
    for which, (of, column) in {"median": (50, 0), "fastest tenth": (10, 0), "processor": (50, 1)}.items():
        seconds = {name: float(np.percentile([t[column] for t in found], of)) for name, found in times.items()}
        if column:
            seconds["sum"] = report["fastest tenth"]["seconds"]["sum"]
            seconds["together"] += seconds["sum"]
            del seconds["overlap"]
        speedups = {n: group.size * seconds["alone"] / seconds[n] for n in ("together", "overlap") if n in seconds}
        model = group.size * seconds["alone"] / (seconds["one"] + seconds["sum"])
        report[which] = {"seconds": seconds, "speedup": speedups, "model": model}
        print(f"{which}: " + ", ".join(f"{name} {1e3 * value:.3f} ms" for name, value in seconds.items()))
        said = ", ".join(f"{name} {value:.2f}" for name, value in speedups.items())
        print(f"  speedup {said}; by the model {model:.2f}")
    of_alone, of_one = (report["processor"]["seconds"][name] for name in ("alone", "one"))
    print(f"the model on other networks, of a step of {1e3 * of_alone:.2f} ms: speedup of 2, 4, 8, 16, 64 machines")
    for name, (latency, bandwidth) in NETWORKS.items():
        found = [n * of_alone / (of_one + of_sum(n, size, latency, bandwidth)) for n in (2, 4, 8, 16, 64)]
        report[name] = found
        print(f"  {name:10} " + " ".join(f"{value:6.2f}" for value in found))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(report, file, indent=1)
    return report


if __name__ == "__main__":
    main()
