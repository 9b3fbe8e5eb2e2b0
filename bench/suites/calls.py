"""What a call costs beyond its arithmetic: the contenders of bench.calls. One thread, from Python."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

from bench import calls
from bench.contenders import Prepared
from bench.suites import Group

VARIANTS = {
    "bound": "fastdl bound",
    "bound with a copy": "fastdl bound with a copy",
    "other arrays": "fastdl new arrays",
}
"""fastdl otherwise, as bench.calls calls it and as it is called here."""
MORE = {
    "lstm_cell of 32": ("bound", "bound with a copy"),
    "adam step of 1000 arrays": ("other arrays",),
    "adam step of 1000 numbers": ("other arrays",),
}


def groups(dtype: str, threads: int, level: str) -> list[Group]:
    if dtype != "float32" or threads > 1 or not importlib.util.find_spec("torch"):
        return []
    return [
        Group(
            "calls", "calls", case, case.split()[0], dtype, threads, level, 0.0,
            ("fastdl", "numpy", "torch", *(VARIANTS[name] for name in MORE.get(case, ()))),
            tuple((VARIANTS[name], "variant") for name in MORE.get(case, ())),
            frozenset(("quick", "small")),
        )
        for case in calls.CONTENDERS
    ]  # fmt: skip


def traffic(group: Group) -> int:
    return 0


@functools.lru_cache(1)
def _contenders(case: str) -> dict[str, Any]:
    return calls.CONTENDERS[case]()


def prepare(group: Group, implementation: str) -> Prepared:
    names = {name: key for key, name in VARIANTS.items()}
    return _contenders(group.case)[names.get(implementation, implementation)]
