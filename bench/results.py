"""Results as pytest-benchmark's JSON holds them: this project's, with what its entries say besides, or anybody's.

A group is one comparison: entries of a group were timed against each other. What fastdl's own entries carry in
`extra_info` (of others, any part may be missing):

    family            the file of tests/cases, or what else was timed: "convolution", "networks", "calls", ...
    case, operation   what was computed; the group is the case with dtype, threads and level
    implementation    "fastdl", "numba", "numpy", "torch", ...; backend: "c", "numba", "numpy" of fastdl's own, else ""
    role              "ours": what is judged, "reference": plain NumPy, "peer": what a user would pick instead,
                      "variant": fastdl otherwise (its kernels in Numba, a bound cell, ...), which nothing is judged by
    dtype, threads, level, size ("call", "small" or "large")
    flops, bytes      of one call; peak_flops, bandwidth: this machine's, a second, measured in the same run
    of_roofline       the part of what those limits allow that the median reached
    ratio             this entry's time over that of "ours": [median of the rounds' ratios, low, high], the bounds of a
                      95% interval by bootstrap over rounds; above 1, ours is faster
    disturbed         why the times are not to be trusted, or ""

`machine_info["fastdl"]` says what they were measured on: processor (its kind, as `bench.machine.kind` has it), level,
peak_flops and bandwidth by dtype and threads, versions of all that was timed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Unreadable(ValueError):
    """A file of results that cannot be used, and what is missing in it."""


@dataclass(frozen=True)
class Entry:
    """One implementation in one comparison."""

    group: str
    name: str
    fullname: str
    params: dict[str, Any]
    stats: dict[str, float]
    """In seconds: at least median; min, max, mean, stddev, q1, q3, iqr, rounds and iterations where there are."""
    extra: dict[str, Any]

    @property
    def median(self) -> float:
        return self.stats["median"]


@dataclass(frozen=True)
class Run:
    """What one file holds."""

    source: str
    commit: str
    """Its hash, or ""."""
    date: str
    """ISO 8601, of the run."""
    machine: dict[str, Any]
    commit_info: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)

    def groups(self) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.group, []).append(entry)
        return found


def read(path: str | Path) -> Run:
    """The run in a pytest-benchmark JSON file; Unreadable says what is wrong with it."""
    try:
        data = parsed(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise Unreadable(f"{path}: {problem.strerror}") from problem
    except (ValueError, RecursionError) as problem:
        raise Unreadable(f"{path}: not JSON, or cut off: {problem}") from problem
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        raise Unreadable(f"{path}: found no list of benchmarks, expected what pytest-benchmark writes")
    commit, machine = _part(data, "commit_info"), _part(data, "machine_info")
    entries = [_entry(each, f"{path}: benchmarks[{i}]") for i, each in enumerate(data["benchmarks"])]
    if not entries:
        raise Unreadable(f"{path}: found no benchmark in it")
    known = commit.get("id") not in NO_COMMIT
    return Run(str(path), str(commit["id"]) if known else "", str(data.get("datetime") or ""), machine, commit, entries)


NO_COMMIT = (None, "", "unversioned", "unknown")
"""What pytest-benchmark says where there is no repository, or none that it can read."""


def parsed(text: str) -> Any:
    """JSON, in which a whole number that no float can hold is infinite: what follows looks for that."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 300 else float(digits))


def is_positive(value: Any) -> bool:
    """Whether it is a finite number above 0, as times and ratios are."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def in_role(entries: Iterable[Entry], role: str) -> Entry | None:
    """The first of a group's entries that has that role: "ours" and "reference" have one each."""
    return next((entry for entry in entries if entry.extra.get("role") == role), None)


def ratio_of(entry: Entry) -> tuple[float, float, float] | None:
    """What the file says of its time over that of ours, where it says that in full."""
    ratio = entry.extra.get("ratio")
    if not isinstance(ratio, list) or len(ratio) != 3 or not all(map(is_positive, ratio)):
        return None
    middle, low, high = map(float, ratio)
    return middle, min(low, middle), max(high, middle)


def _entry(data: Any, where: str) -> Entry:
    stats = data.get("stats") if isinstance(data, dict) else None
    if not isinstance(stats, dict):
        raise Unreadable(f"{where}: found no stats, expected those of pytest-benchmark")
    median = stats.get("median")
    if not is_positive(median):
        raise Unreadable(f"{where}: stats.median: found {median!r}, expected seconds above 0")
    numbers = {k: v for k, v in stats.items() if isinstance(v, (int, float)) and math.isfinite(v)}
    name = str(data.get("name") or data.get("fullname") or "")
    if not name:
        raise Unreadable(f"{where}: found no name")
    params, extra = _part(data, "params"), _part(data, "extra_info")
    return Entry(str(data.get("group") or ""), name, str(data.get("fullname") or name), params, numbers, extra)


def _part(data: dict[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}
