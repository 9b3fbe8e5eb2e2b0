"""Timing that a noisy machine cannot bend: contenders take turns in short rounds, and medians are compared."""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

Call = Callable[[], Any]
_clock = time.perf_counter


def use_cpu_time() -> None:
    global _clock
    _clock = time.process_time


class _CPU(argparse.Action):
    def __call__(self, *_: Any) -> None:
        use_cpu_time()


def offer_cpu_time(parser: argparse.ArgumentParser) -> None:
    """--cpu: beside other work, one thread's ratios are steadier so."""
    parser.add_argument("--cpu", action=_CPU, nargs=0, help="take processor time, not wall time: one thread only")


def is_cpu_time() -> bool:
    """Whether time in which this process does not run counts for nothing."""
    return _clock is time.process_time


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
    if seconds_per_call(call, 1) > 20 * seconds and seconds_per_call(call, 1) > seconds:
        return 1  # (the first one may have compiled it)
    calls = 1
    while (elapsed := seconds_per_call(call, calls) * calls) < seconds / 10:
        calls *= 2 if elapsed < seconds / 100 else 1 + int(seconds / 10 / elapsed)
    return max(1, round(calls * seconds / elapsed))


def last_of(call: Call, calls: int) -> tuple[float, Any]:
    """Seconds a call, and what the last of those calls returned: nobody else saw it, so that it can be checked."""
    repeat = itertools.repeat(None, calls - 1)
    start = _clock()
    for _ in repeat:
        call()
    result = call()
    return (_clock() - start) / calls, result


class Turn:
    """A contender's turns: each runs it for about `seconds`, the first of them untimed, to find how many calls that is.

    around: makes a context in which all of a turn takes place, untimed itself. check: what to call, untimed, with what
    the last call returned.
    """

    def __init__(
        self,
        call: Call,
        seconds: float,
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
        check: Callable[[Any], Any] | None = None,
    ) -> None:
        self.call, self.seconds, self.around, self.check = call, seconds, around, check
        self.calls = 0

    def __call__(self) -> float:
        with self.around():
            if not self.calls:
                self.calls = calls_lasting(self.call, self.seconds)
            elif self.calls > 1:
                self.call()  # brings its data back into cache, wakes its threads
            seconds, result = last_of(self.call, self.calls)
        if self.check is not None:
            self.check(result)
        return seconds


def interleave(
    contenders: Mapping[str, Call], rounds: int, seconds: float, before: Mapping[str, Call] | None = None
) -> dict[str, list[float]]:
    """Seconds per call of every contender in every round, each running for about `seconds` a round.

    before: what to call, untimed, ahead of a contender's turn.
    """
    ahead = before or {}

    def around(name: str) -> AbstractContextManager[Any]:
        if name in ahead:
            ahead[name]()
        return nullcontext()

    return take_turns(
        {name: Turn(call, seconds, functools.partial(around, name)) for name, call in contenders.items()}, rounds
    )


def take_turns(turns: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What every contender's turn took in every round, after a round that does not count."""
    for turn in turns.values():
        turn()
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            times[name].append(turn())
    return times


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """The median of the rounds' ratios: what slows a whole round down cancels out."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def ratio_interval(numerator: Sequence[float], denominator: Sequence[float]) -> tuple[float, float, float]:
    """The median of the rounds' ratios, and the bounds of its 95% interval: a bootstrap over rounds, always the same.

    Of pairs, so that rounds that only one of the two took part in are left out."""
    import numpy as np

    ratios = np.array([a / b for a, b in zip(numerator, denominator, strict=False)])
    drawn = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)
