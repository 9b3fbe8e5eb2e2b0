"""This machine's limits, for rooflines: peak multiply-add rate and memory bandwidth, both measured."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
