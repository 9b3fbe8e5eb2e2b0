"""Times of one group: its contenders take turns, their results are checked, and what disturbs them is noticed.

One thread: all in this process. More: each in a process of its own (bench.worker), stopped while it is not its turn,
since threads that wait for work would spin on the others' cores.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench import machine
from bench.contenders import Inaccurate
from bench.suites import BACKENDS, Absent, Group
from bench.timing import Turn, is_cpu_time, ratio_interval
from bench.worker import Workers

LEAST = 3
"""Rounds; of what takes long, there are no more."""
LONG = 0.5
"""Seconds of one call, from which on it takes long."""


@dataclass(frozen=True)
class Settings:
    rounds: int = 9
    """At most."""
    seconds: float = 0.01
    """Of each contender in each round, one thread; five times that with more, which wake up in theirs."""
    repeats: int = 2
    """How often a disturbed measurement is made again."""
    allowance: Callable[[], float] = lambda: float("inf")
    """Seconds that this group may take from now on."""
    against: frozenset[str] | None = None
    """The implementations that take part besides ours; None: all of them."""
    slow: bool = False
    """Whether those of SLOW do without having been asked for."""


SLOW = frozenset(("torch.compile",))
"""What takes seconds to minutes to prepare."""


@dataclass
class Outcome:
    times: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of one unit of work (a call, or a step of one that makes many), by round."""
    calls: dict[str, int] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    """Of multiply-adds, flops a second, by round."""
    bandwidth: float = 0.0
    disturbed: str = ""
    attempts: int = 0

    @property
    def peak(self) -> float:
        return statistics.median(self.rates)


class Here:
    """Contenders in this process, on one core of it."""

    def __init__(self) -> None:
        self.all, self.core = machine.cores(), machine.cores()

    def settle(self) -> None:
        """On the core that others use the least."""
        machine.pin(self.all)
        self.core = machine.quietest(self.all)
        machine.pin(self.core)

    def prepare(self, group: Group, implementation: str, seconds: float) -> Callable[[], float]:
        prepared = group.prepare(implementation)
        turn = Turn(prepared.call, seconds, prepared.around, prepared.check)
        turn()  # which finds how many calls make a turn
        return _Steps(turn, prepared.steps)

    def watch(self) -> machine.Watch:
        return machine.Watch(self.core)

    def clear(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        machine.pin(self.all)


@dataclass
class _Steps:
    turn: Turn
    steps: int

    def __call__(self) -> float:
        return self.turn() / self.steps

    @property
    def calls(self) -> int:
        return self.turn.calls


class Apart:
    """Contenders in processes of their own, on all cores."""

    def __init__(self, threads: int, level: str) -> None:
        self.workers = Workers(threads, level)

    def settle(self) -> None:
        """They may use all cores."""

    def prepare(self, group: Group, implementation: str, seconds: float) -> Callable[[], float]:
        return self.workers.prepare(group, implementation, seconds * 5)

    def watch(self) -> machine.Watch:
        return machine.Watch(machine.cores(), self.workers.processes())

    def clear(self) -> None:
        self.workers.clear()

    def close(self) -> None:
        self.workers.close()


Place = Here | Apart
_best: dict[tuple[str, int, str], float] = {}
"""The best rate of multiply-adds, as medians of groups, by dtype, threads and level."""


def measure(group: Group, settings: Settings, place: Any) -> Outcome:
    """Prepare, time, and time again if that was disturbed; the least disturbed attempt counts."""
    begin = time.perf_counter()
    outcome = Outcome()
    place.settle()
    dtype = np.dtype(group.dtype)
    outcome.bandwidth = machine.limits(dtype, group.threads, group.level)[1]
    try:
        turns = _prepared(group, settings, place, outcome)
        if group.ours not in turns:
            place.clear()
            return outcome
        fma, flops = machine.fma(dtype, group.threads)
        turns[_CANARY] = _Steps(Turn(fma, settings.seconds / 2), 1)
        turns[_CANARY]()
        key, worst = (group.dtype, group.threads, group.level), float("inf")
        spent = time.perf_counter() - begin
        for _ in range(1 + settings.repeats):
            watch, started = place.watch(), time.perf_counter()
            times = _rounds(turns, settings, outcome)
            if group.ours not in times:
                place.clear()
                return outcome
            rates = [flops / t for t in times.pop(_CANARY)]
            _best[key] = max(_best.get(key, 0.0), statistics.median(rates))
            shares = (0.0, 0.0) if is_cpu_time() else watch.shares()  # what others take is not in the times then
            by, words = machine.disturbance(*shares, rates, _best[key])
            outcome.attempts += 1
            if by < worst:
                worst, outcome.times, outcome.rates, outcome.disturbed = by, times, rates, words
            took = time.perf_counter() - started
            if not by or settings.allowance() < took + 0.2 * spent:
                break
            place.settle()
        outcome.calls = {name: turn.calls for name, turn in turns.items() if name in outcome.times}
    except BaseException:  # Ctrl-C, in the middle of a turn
        place.close()
        raise
    place.clear()
    return outcome


_CANARY = "multiply-adds"


def _prepared(group: Group, settings: Settings, place: Any, outcome: Outcome) -> dict[str, Any]:
    turns: dict[str, Any] = {}
    for name in group.implementations:
        if name != group.ours and not _takes_part(name, group, settings):
            continue
        if group.role(name) not in ("ours", "reference") and settings.allowance() < 0:
            outcome.absent[name] = "no time left"
            continue
        try:
            turns[name] = place.prepare(group, name, settings.seconds)
        except (Absent, Inaccurate) as reason:
            outcome.absent[name] = str(reason)
        except Exception as problem:  # a peer of another version may fail in any way: that is a result, too
            outcome.failed[name] = f"{type(problem).__name__}: {problem}"
    return turns


def _takes_part(name: str, group: Group, settings: Settings) -> bool:
    if settings.against is not None:
        return name in settings.against
    return settings.slow or name not in SLOW


def _rounds(turns: Mapping[str, Callable[[], float]], settings: Settings, outcome: Outcome) -> dict[str, list[float]]:
    """As many rounds as there is time for."""
    times: dict[str, list[float]] = {name: [] for name in turns if name not in outcome.failed}
    for turn in range(settings.rounds):
        begin = time.perf_counter()
        for name in list(times):
            if turn >= LEAST and statistics.median(times[name]) > LONG:
                continue
            try:
                times[name].append(turns[name]())
            except Exception as problem:
                outcome.failed[name] = f"{type(problem).__name__}: {problem}"
                del times[name]
        if turn + 1 >= LEAST and settings.allowance() < time.perf_counter() - begin:
            break
    return times


def extra_info(group: Group, implementation: str, outcome: Outcome) -> dict[str, Any]:
    """What an entry says besides its times: see bench.results."""
    role = group.role(implementation)
    times, traffic = outcome.times[implementation], group.bytes
    info: dict[str, Any] = {
        "family": group.family,
        "case": group.case,
        "operation": group.operation,
        "implementation": implementation,
        "role": role,
        "backend": BACKENDS.get(implementation, ""),
        "dtype": group.dtype,
        "threads": group.threads,
        "level": group.level,
        "size": group.size,
        "flops": group.flops,
        "bytes": traffic,
        "peak_flops": outcome.peak,
        "bandwidth": outcome.bandwidth,
        "calls": outcome.calls[implementation],
        "disturbed": outcome.disturbed,
        "attempts": outcome.attempts,
    }
    if role in ("ours", "variant") and not info["backend"]:
        info["backend"] = "c"
    if group.flops or traffic:
        least = [max(group.flops / rate, traffic / outcome.bandwidth) for rate in outcome.rates]
        info["of_roofline"] = ratio_interval(least, times)[0]
    if role != "ours":
        info["ratio"] = list(ratio_interval(times, outcome.times[group.ours]))
    return info
