"""What pytest is told to time, and what it found: the plugin behind `pytest bench` and `python -m bench`."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import fastdl
from bench import contest, history, machine, peers
from bench.contest import Apart, Here, Outcome, Settings
from bench.suites import Group
from bench.suites.operations import SHARED
from bench.timing import is_cpu_time

PACKAGES = ("fastdl", "numpy", "numba", *(name for needs in peers.PEERS.values() for name in needs), "pytest-benchmark")


@dataclass(eq=False)  # plugins are told apart by identity
class Session:
    groups: Sequence[Group]
    settings: Settings = field(default_factory=Settings)
    budget: float = math.inf
    """Seconds, from when this was made: groups that there is no time for are left out."""
    began: Callable[[Group], Any] = lambda group: None
    """Told of every group that is begun."""
    ended: Callable[[Group, Outcome], Any] = lambda group, outcome: None

    def __post_init__(self) -> None:
        self.by_name = {group.name: group for group in self.groups}
        self.start = time.perf_counter()
        self.left = len(self.groups)
        self.late: list[str] = []
        """The groups that there was no time for."""
        self.failures: dict[str, str] = {}
        """By group and implementation: a wrong result, or what else went wrong."""
        self.saved = False
        """Whether anything was measured, and is in the file."""
        self._cores = len(machine.cores()) or os.cpu_count()
        self._now: tuple[str, Outcome] | None = None
        self._place: tuple[tuple[int, str], Any] | None = None
        self._level = fastdl.active_isa()
        self._limits: dict[str, dict[str, float]] = {"peak_flops": {}, "bandwidth": {}}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def outcome(self, name: str) -> Outcome:
        """Of that group, which is measured when it is asked for first. Those of a group follow each other."""
        if self._now is None or self._now[0] != name:
            self._now = name, self._measured(self.by_name[name])
        return self._now[1]

    def _measured(self, group: Group) -> Outcome:
        now = time.perf_counter()
        rest = self.start + self.budget - now
        if rest <= 0:
            self.late.append(group.name)
            self.left -= 1
            return Outcome(absent=dict.fromkeys(group.implementations, "no time left"))
        until = now + min(rest, 2 * rest / max(1, self.left))
        settings = replace(self.settings, allowance=lambda: until - time.perf_counter())
        self.began(group)
        fastdl.use_isa(group.level)
        try:
            outcome = contest.measure(group, settings, self._at(group))
        finally:
            fastdl.use_isa(self._level)
        self.left -= 1
        self.failures |= {f"{group.name}, {name}": words for name, words in outcome.failed.items()}
        if outcome.rates:
            key = f"{group.dtype}, threads={group.threads}, {group.level}"
            self._limits["peak_flops"][key], self._limits["bandwidth"][key] = outcome.peak, outcome.bandwidth
        self.ended(group, outcome)
        return outcome

    def _at(self, group: Group) -> Any:
        """Where its contenders are: here, or in processes that stay as long as the number of threads and the level."""
        key = (1, "") if group.threads == 1 else (group.threads, group.level)
        if self._place is None or self._place[0] != key:
            self.close()
            if group.threads > 1:
                self._folder = tempfile.TemporaryDirectory()
                os.environ[SHARED] = self._folder.name
            self._place = key, Here() if group.threads == 1 else Apart(group.threads, group.level)
        return self._place[1]

    def close(self) -> None:
        if self._place is not None:
            self._place[1].close()
            self._place = None
        if self._folder is not None:
            os.environ.pop(SHARED, None)
            self._folder.cleanup()
            self._folder = None

    def machine_info(self) -> dict[str, Any]:
        return {
            "processor": machine.kind(),
            "vectors": machine.vectors(),
            "level": self._level,
            "clock": "processor time" if is_cpu_time() else "wall time",
            **self._limits,
            "versions": machine.versions(dict.fromkeys(PACKAGES)),
            "cores": self._cores,
        }

    # ---- what pytest and pytest-benchmark call ----

    def pytest_benchmark_update_machine_info(self, config: Any, machine_info: dict[str, Any]) -> None:
        machine_info["fastdl"] = self.machine_info()

    def pytest_benchmark_update_commit_info(self, config: Any, commit_info: dict[str, Any]) -> None:
        described = history.describe(dict(commit_info))
        commit_info.clear()
        commit_info.update(described)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """What went wrong outside of a contender is a failure of the run, too."""
        crash = getattr(report.longrepr, "reprcrash", None)
        words = crash.message if crash else report.longreprtext
        words = words.removeprefix("Failed: ")  # as pytest.fail says
        if report.failed and words not in self.failures.values():
            self.failures[report.nodeid.partition("::")[2]] = words

    def pytest_sessionfinish(self) -> None:
        self.close()


def default(groups: Sequence[Group]) -> Session:
    """For `pytest bench`: what `python -m bench` times, without a limit."""
    return Session([group for group in groups if "full" not in group.tags])


_times: list[float] = []


def recorded() -> float:
    """A clock for pytest-benchmark: it goes by the times that were measured, whatever is done between two looks."""
    return _times.pop()


def replay(benchmark: Any, times: Sequence[float]) -> None:
    """Tell pytest-benchmark what was measured, as a pedantic run of that many rounds."""
    _times[:] = [moment for seconds in reversed(times) for moment in (seconds, 0.0)]
    benchmark.pedantic(lambda: None, rounds=len(times))
    assert not _times
