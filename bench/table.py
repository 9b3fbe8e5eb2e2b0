"""The table of ratios of a run: a row a group, a column an implementation, and what that comes to, family by family."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from bench.results import Entry, Run, in_role, ratio_of


def show(run: Run, console: Any) -> None:
    groups = run.groups()
    judged = {group: ours for group, entries in groups.items() if (ours := in_role(entries, "ours")) is not None}
    words = {tuple(str(ours.extra.get(key)) for key in ("dtype", "threads", "level")) for ours in judged.values()}
    for family in dict.fromkeys(str(ours.extra.get("family")) for ours in judged.values()):
        members = {group: ours for group, ours in judged.items() if ours.extra.get("family") == family}
        console.print(_of_family(family, members, groups, len(words) > 1))
    disturbed = [group for group, ours in judged.items() if ours.extra.get("disturbed")]
    console.print(f"{NOT_SURE}: the 95% interval holds 1, either may be faster")
    if disturbed:
        console.print(f"* disturbed while it was measured: {len(disturbed)} of {len(judged)} groups")
    console.print(_families(groups, judged))


NOT_SURE = "~"
ORDER = {"reference": 0, "peer": 1, "variant": 2}


def _of_family(family: str, members: dict[str, Entry], groups: dict[str, list[Entry]], whole: bool) -> Any:
    from rich.table import Table
    from rich.text import Text

    roles = {
        str(e.extra.get("implementation")): ORDER.get(str(e.extra.get("role")), 3)
        for group in members
        for e in groups[group]
        if ratio_of(e) is not None
    }
    names = sorted(roles, key=lambda name: roles[name])
    table = Table(title=f"{family}: time over that of fastdl", title_justify="left")
    table.add_column("group" if whole else "case", overflow="fold", min_width=20)
    for name in ("fastdl", "of limit", *names):
        table.add_column(name.removeprefix("fastdl "), justify="right", min_width=5, overflow="fold")
    for group, ours in members.items():
        others = {e.extra.get("implementation"): e for e in groups[group]}
        cells = [told(ratio_of(others[name])) if name in others else "" for name in names]
        title = (group if whole else str(ours.extra.get("case"))) + (" *" if ours.extra.get("disturbed") else "")
        table.add_row(Text(title), _time(ours.median), _part(ours.extra.get("of_roofline")), *cells)
    return table


def _families(groups: dict[str, list[Entry]], judged: dict[str, Entry]) -> Any:
    """Geometric means over NumPy and over the best peer of each group, and how many groups lose to that."""
    from rich.table import Table

    table = Table(title="geometric means")
    for name in ("family", "groups", "over NumPy", "over the best peer", "lose"):
        table.add_column(name, justify="left" if name == "family" else "right")
    for family in dict.fromkeys(str(ours.extra.get("family")) for ours in judged.values()):
        members = [groups[group] for group, ours in judged.items() if ours.extra.get("family") == family]
        numpy = [
            r[0] for entries in members for e in entries if e.extra.get("role") == "reference" and (r := ratio_of(e))
        ]
        best = [min(found) for entries in members if (found := _of_peers(entries))]
        loses = sum(ratio < 1 for ratio in best)
        table.add_row(family, str(len(members)), _mean(numpy), _mean(best), f"{loses} of {len(best)}" if best else "")
    return table


def _of_peers(entries: Iterable[Entry]) -> list[float]:
    return [r[0] for e in entries if e.extra.get("role") == "peer" and (r := ratio_of(e))]


def told(ratio: tuple[float, float, float] | None) -> str:
    if ratio is None:
        return ""
    median, low, high = ratio
    return f"{median:.{2 if median < 10 else 1 if median < 100 else 0}f}" + (NOT_SURE if low <= 1 <= high else "")


def _mean(ratios: list[float]) -> str:
    return f"{statistics.geometric_mean(ratios):.2f}" if ratios else ""


def _part(part: Any) -> str:
    return f"{part:.0%}" if isinstance(part, (int, float)) else ""


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
