"""Runs as `python -m bench` saves them, of times that were made up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.results import Entry, Run

PROCESSOR = "AMD EPYC 7571 (v3)"
COMMITS = [f"{i:040x}" for i in range(1, 400)]


def date_of(i: int) -> str:
    return f"2026-{1 + i // 28:02}-{1 + i % 28:02}T12:00:00+00:00"


def group_of(i: int) -> str:
    return f"case{i}-float32-1-v3"


def run_of(
    times: Mapping[str, Mapping[str, np.ndarray]],
    at: int = 0,
    *,
    families: Mapping[str, str] | None = None,
    disturbed: Mapping[str, str] | None = None,
    processor: str = PROCESSOR,
    dirty: bool = False,
) -> Run:
    """times: by group and implementation ("fastdl" among them), seconds of each round."""
    entries = []
    for group, by_name in times.items():
        for name, seconds in by_name.items():
            extra: dict[str, Any] = {
                "family": (families or {}).get(group, "made up"),
                "case": group.split("-")[0],
                "operation": "relu",
                "implementation": name,
                "role": {"fastdl": "ours", "numpy": "reference"}.get(name, "peer"),
                "backend": "c" if name == "fastdl" else "",
                "dtype": "float32",
                "threads": 1,
                "level": "v3",
                "size": "large",
                "of_roofline": 0.5,
                "disturbed": (disturbed or {}).get(group, ""),
                "ratio": list(interval(seconds, by_name["fastdl"])),
            }
            entries.append(Entry(group, f"{group}[{name}]", f"bench::{group}[{name}]", {}, stats_of(seconds), extra))
    info = {"id": COMMITS[at], "time": date_of(at), "subject": f"Change number {at}", "dirty": dirty}
    machine = {"fastdl": {"processor": processor, "level": "v3"}}
    return Run(f"run{at}.json", COMMITS[at], date_of(at), machine, info, entries)


def interval(theirs: np.ndarray, ours: np.ndarray) -> tuple[float, float, float]:
    """The median of the rounds' ratios, and its 95% interval, here by order statistics, which are quick."""
    ratios = np.sort(theirs / ours)
    n = len(ratios)
    k = max(0, int(n / 2 - 0.98 * n**0.5))
    return float(ratios[n // 2]), float(ratios[k]), float(ratios[n - 1 - k])


def stats_of(seconds: np.ndarray) -> dict[str, float]:
    """All that pytest-benchmark has."""
    ordered = np.sort(seconds)
    q1, median, q3 = (ordered[len(ordered) * k // 4] for k in (1, 2, 3))
    return {
        "min": float(seconds.min()),
        "max": float(seconds.max()),
        "mean": float(seconds.mean()),
        "stddev": float(seconds.std(ddof=1)),
        "rounds": len(seconds),
        "median": float(median),
        "iqr": float(q3 - q1),
        "q1": float(q1),
        "q3": float(q3),
        "ld15iqr": float(seconds.min()),
        "hd15iqr": float(seconds.max()),
        "ops": float(1 / seconds.mean()),
        "total": float(seconds.sum()),
        "iterations": 1,
    }


def saved(run: Run) -> dict[str, object]:
    """As pytest-benchmark's JSON."""
    entries: list[Mapping[str, object]] = [
        {
            "group": entry.group,
            "name": entry.name,
            "fullname": entry.fullname,
            "params": None,
            "param": None,
            "extra_info": entry.extra,
            "options": {},
            "stats": entry.stats | {"outliers": "0;0", "iqr_outliers": 0, "stddev_outliers": 0},
        }
        for entry in run.entries
    ]
    return {
        "machine_info": run.machine,
        "commit_info": run.commit_info,
        "benchmarks": entries,
        "datetime": run.date,
        "version": "5.0.0",
    }
