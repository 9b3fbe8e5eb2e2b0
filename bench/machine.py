"""This machine: what kind it is, its limits for rooflines (peak multiply-add rate and memory bandwidth, both measured),
and whether something else was at work on it while time was taken.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.timing import interleave
from fastdl import _kernels

COPY_BYTES = 1 << 27  # more than a last-level cache holds


def on_threads(tasks: list[Callable[[], object]]) -> Callable[[], None]:
    """A call that runs the tasks side by side, one a thread (they have to release the GIL)."""
    if len(tasks) == 1:
        return tasks[0]  # type: ignore[return-value]
    pool = ThreadPoolExecutor(len(tasks))

    def run() -> None:
        for future in [pool.submit(task) for task in tasks]:
            future.result()

    return run


def fma(dtype: np.dtype, threads: int = 1, iterations: int = 20_000) -> tuple[Callable[[], None], float]:
    """A call that does nothing but multiply-adds in registers at the active level, and its number of operations."""
    flops, sinks = np.zeros(1), [np.zeros(1, dtype) for _ in range(threads)]
    _kernels.peak_fma(iterations, flops, sinks[0])

    def task(sink: np.ndarray) -> Callable[[], None]:
        return lambda: _kernels.peak_fma(iterations, np.zeros(1), sink)

    return on_threads([task(sink) for sink in sinks]), float(flops[0]) * threads


def copy(threads: int = 1, traffic: float = 2 * COPY_BYTES) -> tuple[Callable[[], None], float]:
    """A call that copies memory (by default more than caches hold), and the bytes that it reads and writes."""
    source, target = (np.ones(max(1, round(traffic / 16))) for _ in range(2))
    pieces = zip(np.array_split(target, threads), np.array_split(source, threads), strict=True)
    return on_threads([functools.partial(np.copyto, *piece) for piece in pieces]), 2.0 * source.nbytes


@functools.cache
def limits(dtype: np.dtype, threads: int, isa: str) -> tuple[float, float]:
    """(floating-point operations, bytes) per second; isa is the active level, which the first depends on."""
    contenders = {"fma": fma(dtype, threads), "copy": copy(threads)}
    times = interleave({name: call for name, (call, _) in contenders.items()}, rounds=7, seconds=0.01)
    flops, traffic = (amount / statistics.median(times[name]) for name, (_, amount) in contenders.items())
    return flops, traffic


def roofline_seconds(flops: float, traffic: float, dtype: np.dtype, threads: int, isa: str) -> float:
    """The least time that the limits allow (data that stays in cache may do better than memory's bandwidth)."""
    peak, bandwidth = limits(dtype, threads, isa)
    return max(flops / peak, traffic / bandwidth)


# ---- its kind ----

_WHOLE, _HALVES, _ONE = "AVX-512", "AVX-512 in halves", "AVX-512 with one unit"
_FAMILIES: dict[tuple[str, int], tuple[tuple[str, str, str], ...]] = {
    ("AMD", 0x17): (
        ("Zen", "01 11 20", ""),
        ("Zen+", "08 18", ""),
        ("Zen 2", "30-3f 47 60-6f 71 90-9f a0-af", ""),
    ),
    ("AMD", 0x19): (
        ("Zen 3", "00-0f 20-5f", ""),
        ("Zen 4", "10-1f 60-7f a0-af", _HALVES),
    ),
    ("AMD", 0x1A): (
        ("Zen 5", "00-1f 40-4f", _WHOLE),
        ("Zen 5 mobile", "20-3f 60-7f", _HALVES),
    ),
    ("Intel", 6): (
        ("Haswell", "3c 3f 45 46", ""),
        ("Broadwell", "3d 47 4f 56", ""),
        ("Skylake", "4e 5e 8e 9e a5 a6", ""),
        ("Skylake server", "55", _WHOLE),
        ("Ice Lake", "7d 7e", _ONE),
        ("Ice Lake server", "6a 6c", _WHOLE),
        ("Tiger Lake", "8c 8d", _ONE),
        ("Rocket Lake", "a7", _ONE),
        ("Alder Lake", "97 9a be", ""),
        ("Raptor Lake", "b7 ba bf", ""),
        ("Sapphire Rapids", "8f", _WHOLE),
        ("Emerald Rapids", "cf", _WHOLE),
        ("Granite Rapids", "ad ae", _WHOLE),
    ),
}
"""By vendor and family: what its models are called, their numbers, and how they execute AVX-512 where they have it."""


class Processor(NamedTuple):
    name: str
    vectors: str
    """The widest vectors, and how it executes them where its peak depends on that."""

    def __str__(self) -> str:
        return f"{self.name} ({self.vectors})"


def kind() -> str:
    """The kind of processor, in the same words on every machine that has it: "AMD Zen 4 (AVX-512 in halves)"."""
    return str(processor())


def vectors() -> str:
    """Of that, what limits are stated by: "AVX-512", "AVX-512 in halves", "AVX-512 with one unit", "AVX2", ..."""
    return processor().vectors


@functools.cache
def processor() -> Processor:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    return processor_of(text, platform.machine())


def processor_of(cpuinfo: str, architecture: str) -> Processor:
    """Of the text of /proc/cpuinfo, which may be empty."""
    first = dict(
        (part.strip() for part in line.split(":", 1)) for line in cpuinfo.split("\n\n")[0].splitlines() if ":" in line
    )
    flags = set((first.get("flags") or first.get("Features") or "").split())
    if {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags:
        widest = _WHOLE
    elif {"avx2", "fma"} <= flags:
        widest = "AVX2"
    elif architecture in ("aarch64", "arm64"):
        widest = "NEON"
    else:
        widest = "SSE" if architecture in ("x86_64", "AMD64") else "vectors unknown"
    vendor = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}.get(first.get("vendor_id", ""), "")
    if not vendor:
        arm = f"ARM {first.get('CPU implementer', '')} {first.get('CPU part', '')}".strip()
        return Processor(arm if widest == "NEON" else first.get("vendor_id") or architecture or "unknown", widest)
    family, model = int(first.get("cpu family") or 0), int(first.get("model") or 0)
    for name, models, executed in _FAMILIES.get((vendor, family), ()):
        if _among(model, models):
            return Processor(f"{vendor} {name}", executed if widest == _WHOLE and executed else widest)
    return Processor(vendor, widest)


def _among(model: int, models: str) -> bool:
    """Whether it is one of those hexadecimal numbers and ranges."""
    ends = [(part.split("-") * 2)[:2] for part in models.split()]
    return any(int(low, 16) <= model <= int(high, 16) for low, high in ends)


def versions(names: Iterable[str]) -> dict[str, str]:
    """Of those packages that are installed."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# ---- what else is at work ----

TICK = 1.0 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01


def cores() -> set[int]:
    """Those that this process may use; empty where that cannot be asked."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def pin(where: set[int]) -> None:
    """All threads of this process, and those that they start, onto those cores; nothing where that cannot be done."""
    if not where or not hasattr(os, "sched_setaffinity"):
        return
    tasks = [int(task.name) for task in Path("/proc/self/task").iterdir()] if Path("/proc/self/task").exists() else [0]
    for task in tasks:
        try:
            os.sched_setaffinity(task, where)
        except OSError:  # it has ended, or may not
            continue


def quietest(among: set[int], seconds: float = 0.1) -> set[int]:
    """The core that the others of this machine use the least."""
    before = _core_times()
    time.sleep(seconds)
    after = _core_times()
    known = sorted(among & before.keys() & after.keys())
    if not known:
        return set(among)
    return {min(known, key=lambda core: sum(after[core]) - sum(before[core]))}


def _core_times() -> dict[int, tuple[float, float]]:
    """Of each core: seconds at work, and seconds that the host of this machine took for others (steal)."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        if match := re.match(r"cpu(\d+) (.*)", line):
            ticks = [*map(int, match[2].split()), *[0] * 8]
            found[int(match[1])] = (ticks[0] + ticks[1] + ticks[2]) * TICK, ticks[7] * TICK
    return found


def _own_time(processes: Iterable[int]) -> float:
    """Processor time of this process and of those."""
    total = time.process_time()
    for pid in processes:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) * TICK
    return total


class Watch:
    """What happened on some cores since it was made, beside the work of this process and of `processes`."""

    def __init__(self, where: set[int], processes: Iterable[int] = ()) -> None:
        self.where, self.processes = where, list(processes)
        self.began, self.own, self.cores = time.perf_counter(), _own_time(self.processes), _core_times()

    def shares(self) -> tuple[float, float]:
        """The parts of those cores' time that the host took (steal), and that other processes took."""
        now, own, after = time.perf_counter(), _own_time(self.processes), _core_times()
        known = self.where & after.keys() & self.cores.keys()
        seconds = (now - self.began) * len(known)
        if seconds < 10 * TICK:  # too few ticks to say anything
            return 0.0, 0.0
        busy, stolen = (sum(after[core][i] - self.cores[core][i] for core in known) for i in (0, 1))
        return stolen / seconds, max(0.0, busy - (own - self.own) - 2 * TICK) / seconds


MOST = {"steal": 0.02, "neighbour": 0.05, "drift": 0.1, "slow": 0.15}
"""The parts of time, and of the rate of multiply-adds, from which on a measurement is called disturbed."""


def disturbance(steal: float, neighbour: float, rates: list[float], best: float) -> tuple[float, str]:
    """How far what was seen is beyond that, as a multiple (0: not at all), and in words.

    rates: of multiply-adds, by round; best: the best median that this run has seen. One far below says that something
    shares the core without taking time on it: a neighbour on its other hyperthread, or a lower frequency.
    """
    found: list[tuple[float, str]] = [
        (steal / MOST["steal"], f"the host took {steal:.0%} of the time"),
        (neighbour / MOST["neighbour"], f"other processes took {neighbour:.0%} of the time"),
    ]
    if len(rates) >= 4:
        half = len(rates) // 2
        first, last, middle = (statistics.median(part) for part in (rates[:half], rates[-half:], rates))
        drift, slow = abs(last - first) / middle, 1 - middle / best if best else 0.0
        found += [
            (drift / MOST["drift"], f"the rate of multiply-adds drifted by {drift:.0%}"),
            (slow / MOST["slow"], f"multiply-adds ran at {1 - slow:.0%} of their best rate"),
        ]
    over = [(by, words) for by, words in found if by > 1]
    return max((by for by, _ in over), default=0.0), "; ".join(words for _, words in over)
