"""Timing that a noisy machine cannot bend: contenders take turns in short rounds, and medians are compared."""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Call = Callable[[], Any]
_clock = time.perf_counter


class _CPU(argparse.Action):
    def __call__(self, *_: Any) -> None:
        global _clock
        _clock = time.process_time


def offer_cpu_time(parser: argparse.ArgumentParser) -> None:
    """--cpu: beside other work, one thread's ratios are steadier so."""
    parser.add_argument("--cpu", action=_CPU, nargs=0, help="take processor time, not wall time: one thread only")


def now() -> float:
    """Seconds of the clock in use."""
    return _clock()


def seconds_per_call(call: Call, calls: int) -> float:
    repeat = itertools.repeat(None, calls)
    start = _clock()
    for _ in repeat:
        call()
    return (_clock() - start) / calls


def calls_lasting(call: Call, seconds: float) -> int:
    """How many calls take that long (at least one)."""
    call()
    calls = 1
    while (elapsed := seconds_per_call(call, calls) * calls) < seconds / 10:
        calls *= 2 if elapsed < seconds / 100 else 1 + int(seconds / 10 / elapsed)
    return max(1, round(calls * seconds / elapsed))


def interleave(
    contenders: Mapping[str, Call], rounds: int, seconds: float, before: Mapping[str, Call] | None = None
) -> dict[str, list[float]]:
    """Seconds per call of every contender in every round, each running for about `seconds` a round.

    before: what to call, untimed, ahead of a contender's turn.
    """
    before = before or {}
    calls, times = {}, {name: [] for name in contenders}  # type: ignore[var-annotated]
    for turn in range(rounds + 1):
        for name, call in contenders.items():
            if name in before:
                before[name]()
            if turn == 0:
                calls[name] = calls_lasting(call, seconds)
                continue
            call()  # brings its data back into cache, wakes its threads
            times[name].append(seconds_per_call(call, calls[name]))
    return times


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """The median of the rounds' ratios: what slows a whole round down cancels out."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))
