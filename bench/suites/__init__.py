"""What is timed, family by family: each file here lists its groups, and makes the contenders of one.

A group is one comparison: implementations of the same work, timed against each other. What a file has:

    groups(dtype, threads, level)     its groups, all of them
    prepare(group, implementation)    that contender, its result checked (bench.contenders.Prepared); raises Absent
    traffic(group)                    the bytes that one call reads and writes at least; 0 where that says nothing
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from bench.contenders import Prepared

SUITES = ("operations", "networks", "training", "calls", "learning")

BACKENDS = {"fastdl": "c", "numba": "numba", "numpy": "numpy"}


class Absent(Exception):
    """An implementation does not have this."""


@dataclass(frozen=True)
class Group:
    suite: str
    family: str
    case: str
    operation: str
    dtype: str
    threads: int
    level: str
    flops: float
    """Of one call; 0: not known, or none."""
    implementations: tuple[str, ...]
    """Which may take part; some turn out to be absent."""
    roles: tuple[tuple[str, str], ...] = ()
    """Those whose role does not follow from their name (`role`)."""
    tags: frozenset[str] = frozenset()
    """"quick", "small" (may be run once in a test), "full" (only with all the others)."""
    packed: bool = False
    """Whether fastdl's weights were packed before, where there is that (`with_packed_weights`)."""

    @functools.cached_property
    def name(self) -> str:
        return f"{self.case} {self.dtype} {self.threads}t {self.level}{' packed' if self.packed else ''}"

    @functools.cached_property
    def bytes(self) -> float:
        """The least that one call reads and writes; 0: not known."""
        return float(suite(self.suite).traffic(self))

    @property
    def size(self) -> str:
        """ "call": what a call costs is most of it; "large": memory or arithmetic is; "small": in between."""
        if self.family == "calls":
            return "call"
        return "large" if self.bytes >= 2**20 or self.flops >= 1e7 else "small"

    def role(self, implementation: str) -> str:
        """ "ours", "reference", "peer", or "variant": fastdl otherwise, which is compared and not judged."""
        known = {"fastdl": "ours", "numba": "variant", "numpy": "reference"} | dict(self.roles)
        return known.get(implementation, "peer")

    @property
    def ours(self) -> str:
        return next(name for name in self.implementations if self.role(name) == "ours")

    def prepare(self, implementation: str) -> Prepared:
        """Of that implementation; Absent or contenders.Inaccurate say why it takes no part."""
        return suite(self.suite).prepare(self, implementation)


def suite(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}")


def all_groups(dtype: str = "float32", threads: int = 1, level: str = "") -> list[Group]:
    """All there are, for one dtype, number of threads and instruction-set level (default: the active one)."""
    import fastdl

    level = level or fastdl.active_isa()
    return [group for name in SUITES for group in suite(name).groups(dtype, threads, level)]


def chosen(groups: Iterable[Group], only: Iterable[str] = (), depth: str = "default") -> list[Group]:
    """Those of that depth ("quick", "default" or "full") in which one of the regular expressions finds something: the
    family, the operation, the case or the name. One that is a whole name, or finds nothing at that depth, has all that
    it finds."""
    groups = list(groups)
    deep = [g for g in groups if depth == "full" or (depth == "quick" and "quick" in g.tags) or _default(depth, g)]
    patterns = [re.compile(word, re.IGNORECASE) for word in only]
    if not patterns:
        return deep
    found = set()
    for pattern in patterns:
        some = [group for group in deep if _finds(pattern, group)] or [g for g in groups if _finds(pattern, g)]
        found |= {group.name for group in (*some, *(g for g in groups if pattern.fullmatch(g.name)))}
    return [group for group in groups if group.name in found]


def _default(depth: str, group: Group) -> bool:
    return depth == "default" and "full" not in group.tags


def _finds(pattern: re.Pattern[str], group: Group) -> bool:
    return any(map(pattern.search, (group.family, group.operation, group.case, group.name)))


def with_packed_weights(groups: Iterable[Group]) -> list[Group]:
    """Of these, the ones whose weights can be packed, with those."""
    return [replace(group, packed=True) for group in groups if group.operation in ("conv2d", "linear")]


def in_turns(groups: Iterable[Group]) -> list[Group]:
    """One of each family, then the second of each: what is left out at the end is some of each."""
    families: dict[str, list[Group]] = {}
    for group in groups:
        families.setdefault(group.family, []).append(group)
    ranked = [(i, group) for members in families.values() for i, group in enumerate(members)]
    return [group for _, group in sorted(ranked, key=lambda pair: pair[0])]
