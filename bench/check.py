"""Whether anything has become slower: ratios of a run against what each case's own history allows.

    python -m bench.check results.json                    re-measures what looks slower; exit code 1 where it stays so
    python -m bench.check results.json --base old.json    against one other run, where there is no history
    python -m bench.check results.json --remeasure 0      what was measured is all there is

What a case is expected to reach is the median of its ratios to NumPy (logarithms throughout) since its last step
(`bench.history.change_points`), on the same kind of processor. How far they scatter from commit to commit is estimated
from all cases together: each case's own variance, drawn towards that of all (an F distribution fitted to the
variances, as in G. K. Smyth: Linear models and empirical Bayes methods, Stat. Appl. Genet. Mol. Biol. 3, 2004), so that
Student's t says what a case that has not changed may do. A new ratio may be as uncertain as its own bootstrap interval
says, where that is more. Besides every case, the median of each family is judged likewise: many small losses are one.

What is lower than 2 deviations is measured again, up to four times in processes of their own, and the median of all its
runs decides. It fails beyond the bound under which all of some hundred cases and families stay together in 199 of 200
runs of unchanged code (Bonferroni), and by at least 3%, which is what the place of a loop in memory can do. Entries
that are marked as disturbed count for nothing.
"""

from __future__ import annotations

import argparse
import functools
import math
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench import history as tracking
from bench.history import Line, change_points, disturbance, implementation_of, processor_of, ratio_of
from bench.results import Run, Unreadable, in_role, read

Remeasure = Callable[[Sequence[str]], Run]

FALSE_ALARMS = 0.005
"""The chance that a run of unchanged code fails: of all its cases and families together."""
SUSPECT = 2.0
"""Deviations below what is expected from which a case is measured again."""
AGAIN = 4
"""Times that a suspect is measured again at most."""
LEAST = math.log(1.03)
"""A loss that is worth an alarm."""
SPREAD, GUESSED = 0.04, 4.0
"""From commit to commit, where no history says what it is, and the degrees of freedom that this guess counts for."""
UNSURE = 8.0
"""Degrees of freedom at most, for each commit of a level beyond the first: of few, some may be outliers."""
FEW = 3
"""Cases of a family, and commits of a case, below which they say nothing about a spread."""


@dataclass(frozen=True)
class Verdict:
    """What was found of a case or a family; ratios, except for deviations."""

    name: str
    found: float
    expected: float
    allowed: float
    deviations: float
    """Of `found` from `expected`: below 0, it is slower."""
    commits: int
    since: str
    """The commit at which the present level began."""
    times: int
    """It was measured."""
    confirmed: bool
    """That is often enough for an alarm."""

    @property
    def slower(self) -> bool:
        return self.found < self.allowed and self.confirmed

    @property
    def doubtful(self) -> bool:
        """It looks slower, and nobody knows: it was disturbed when it was measured again."""
        return self.found < self.allowed and not self.confirmed

    @property
    def by(self) -> float:
        """The part of what was expected that is lost."""
        return 1 - self.found / self.expected


@dataclass
class Report:
    verdicts: list[Verdict] = field(default_factory=list)
    unjudged: dict[str, str] = field(default_factory=dict)
    """Groups that were compared with nothing, and why."""
    note: str = ""

    @property
    def failed(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.slower]

    @property
    def code(self) -> int:
        """The exit code."""
        return 1 if self.failed else 0


@dataclass
class _Found:
    """The undisturbed measurements of a group in this session: logarithms of ratios, and their standard errors."""

    family: str
    reference: str
    """What it is compared with: NumPy, or what plays its part in this group."""
    values: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    why: str = ""

    def pooled(self) -> tuple[float, float]:
        """The median, and its standard error: by the intervals, or by how far the runs lie apart, if that is more."""
        middle, count = statistics.median(self.values), len(self.values)
        between = 1.4826 * statistics.median(abs(value - middle) for value in self.values)
        error = max(statistics.median(self.errors), between)
        return middle, error * (1.2533 / math.sqrt(count) if count > 2 else 1)


@dataclass(frozen=True)
class Level:
    """What a series has been since its last step."""

    values: np.ndarray
    since: str

    @functools.cached_property
    def centre(self) -> float:
        return float(np.median(self.values))

    @property
    def freedom(self) -> int:
        return len(self.values) - 1

    @functools.cached_property
    def variance(self) -> float:
        """Between commits; what lies 3 deviations off counts as 3: a neighbour's doing widens no bound."""
        off = self.values - self.centre
        scale = max(tracking.LEAST_NOISE, 1.4826 * float(np.median(np.abs(off))))
        return float(np.var(np.clip(off, -3 * scale, 3 * scale), ddof=1)) + tracking.LEAST_NOISE**2


def check(runs: Sequence[Run], history: Sequence[Line], remeasure: Remeasure | None = None) -> Report:
    """Compare runs of one commit with the history of the same kind of processor (other commits' lines in it).

    remeasure: measures these groups once more, in a process of its own. Without, the runs given decide.
    """
    processor, commits = _common(runs)
    found: dict[str, _Found] = {}
    for run in runs:
        _take(found, run)
    lines = tracking.series((line for line in history if line.commit not in commits), processor)
    past = {
        group: [
            (line.commit, math.log(line.ratio[each.reference][0]))
            for line in lines.get(group, [])
            if each.reference in line.ratio
        ]
        for group, each in found.items()
    }
    levels = {group: _level(each) for group, each in past.items() if each}
    report = Report(unjudged={group: f"no history on {processor}" for group in found if group not in levels})
    if not levels:
        report.note = f"There is no history on {processor}: these ratios are compared with nothing."
        return report

    judge = _Judge(levels, {group: found[group].family for group in levels}, past)
    suspects = judge.suspects(found)
    for _ in range(AGAIN if remeasure else 0):
        if not suspects or remeasure is None:
            break
        again = remeasure(suspects)
        if processor_of(again) != processor:
            raise Unreadable(f"{again.source}: found processor {processor_of(again)!r}, expected {processor!r}")
        if (found_tree := _tree(again)) != (tree := _tree(runs[0])):
            raise Unreadable(f"measured again was {found_tree}, expected {tree}: check it out, or --remeasure 0")
        _take(found, again, suspects)
        suspects = judge.suspects(found)
    enough = FEW if remeasure else 1
    report.verdicts = judge.verdicts(found, enough)
    report.unjudged |= {verdict.name: DOUBTFUL for verdict in report.verdicts if verdict.doubtful}
    judged = {verdict.name for verdict in report.verdicts}
    report.unjudged |= {group: found[group].why or "disturbed" for group in levels if group not in judged}
    return report


def _common(runs: Sequence[Run]) -> tuple[str, set[str]]:
    """The kind of processor that all were made on, and the commits whose trees they measured."""
    if not runs:
        raise ValueError("runs: found none, expected at least one")
    kinds = {run.source: processor_of(run) for run in runs}
    for source, kind in kinds.items():
        if not kind:
            raise Unreadable(f"{source}: found no machine_info.fastdl.processor, expected the kind of processor")
    if len(set(kinds.values())) > 1:
        raise Unreadable(f"found runs of several kinds of processor, expected one: {kinds}")
    if len(trees := {_tree(run) for run in runs}) > 1:
        raise Unreadable(f"found runs of {' and '.join(sorted(trees))}, expected those of one commit")
    same = {run.commit for run in runs if run.commit and not run.commit_info.get("dirty")}
    return next(iter(kinds.values())), same


def _tree(run: Run) -> str:
    """What was measured, in words."""
    return f"commit {run.commit or 'unknown'}{' with changes' * bool(run.commit_info.get('dirty'))}"


def _take(found: dict[str, _Found], run: Run, wanted: Iterable[str] | None = None) -> None:
    """Add what a run has of each group that has both ours and the reference."""
    for group, entries in run.groups().items():
        ours = in_role(entries, "ours")
        reference = in_role(entries, "reference")
        if ours is None or reference is None or (wanted is not None and group not in wanted):
            continue
        each = found.setdefault(group, _Found(str(ours.extra.get("family") or ""), implementation_of(reference)))
        why = disturbance(ours) or disturbance(reference)
        if why:
            each.why = why
            continue
        middle, low, high = ratio_of(reference, ours)
        each.values.append(math.log(middle))
        each.errors.append(math.log(high / low) / (2 * 1.96))
    if not found:
        raise Unreadable(f"{run.source}: found no group with an entry that is judged and a reference")


Past = Sequence[tuple[str, float]]
"""Commits, oldest first, and the logarithm of what was measured at each."""


def _level(past: Past) -> Level:
    begin = max(change_points([math.exp(value) for _, value in past]), default=0)
    return Level(np.array([value for _, value in past[begin:]]), past[begin][0])


class _Judge:
    """What each case and each family is held to."""

    def __init__(self, levels: Mapping[str, Level], families: Mapping[str, str], past: Mapping[str, Past]):
        self.levels, self.prior = levels, _prior(levels.values())
        self.members = {
            family: groups
            for family in dict.fromkeys(families.values())
            if family and len(groups := [group for group, its in families.items() if its == family]) >= FEW
        }
        means = {family: self._family(groups, past) for family, groups in self.members.items()}
        self.family_levels = {family: level for family, level in means.items() if level.freedom >= FEW - 1}
        self.family_prior = _prior(self.family_levels.values())
        count = len(self.levels) + len(self.family_levels)
        self.chance = FALSE_ALARMS / count

    def _family(self, groups: Sequence[str], past: Mapping[str, Past]) -> Level:
        """At each commit that has at least half of them: the median of how far the cases are from their centres."""
        off: dict[str, list[float]] = {}
        for group in groups:
            level = self.levels[group]
            for commit, value in past[group][-len(level.values) :]:
                off.setdefault(commit, []).append(value - level.centre)
        middles = {c: float(np.median(each)) for c, each in off.items() if 2 * len(each) >= len(groups)}
        return Level(np.array(list(middles.values())), next(iter(middles), ""))

    def suspects(self, found: Mapping[str, _Found]) -> list[str]:
        """Groups that look slower than their history, by themselves or as a family, or that are yet unknown."""
        chosen = {group for group in self.levels if not found[group].values}
        for verdict in self.verdicts(found, 1):
            if verdict.deviations < -SUSPECT:
                chosen.update(self.members.get(verdict.name.removeprefix(FAMILY), [verdict.name]))
        return sorted(chosen)

    def verdicts(self, found: Mapping[str, _Found], enough: int) -> list[Verdict]:
        """Of what can be judged: a case is slower only where it was measured often enough."""
        known = {group: found[group].pooled() for group in self.levels if found[group].values}
        listed = []
        for group, (value, error) in known.items():
            times = len(found[group].values)
            listed.append(_verdict(group, value, error, self.levels[group], self.prior, self.chance, times, enough))
        for family, level in self.family_levels.items():
            groups = [group for group in self.members[family] if group in known]
            if 2 * len(groups) < len(self.members[family]):
                continue
            value = float(np.median([known[group][0] - self.levels[group].centre for group in groups]))
            error = 1.2533 * math.sqrt(sum(known[group][1] ** 2 for group in groups)) / len(groups)
            times = min(len(found[group].values) for group in groups)
            name = f"{FAMILY}{family}"
            # What shifts all cases of a run alike shifts all families: of that, there is one sample a commit, not more.
            most = max(level.freedom for level in self.family_levels.values())
            listed.append(_verdict(name, value, error, level, self.family_prior, self.chance, times, enough, most))
        return listed


FAMILY = "all of "
DOUBTFUL = "it looks slower, but was disturbed when it was measured again"


def _verdict(
    name: str,
    value: float,
    error: float,
    level: Level,
    prior: tuple[float, float],
    chance: float,
    times: int,
    enough: int,
    most: float = math.inf,
) -> Verdict:
    """most: degrees of freedom that the deviation is known by at best."""
    between, weight = prior
    freedom = level.freedom
    variance = between
    if freedom:
        variance = (weight * between + freedom * level.variance) / (weight + freedom)
    deviation = math.sqrt(max(variance, error**2) + variance / (freedom + 1))
    centre = level.centre
    certain = math.inf if weight == GUESSED and freedom < FEW - 1 else weight + freedom
    certain = min(certain, UNSURE * max(1, freedom))  # what is expected may itself be made of outliers
    bound = -max(LEAST, student(chance, min(certain, most)) * deviation)
    return Verdict(
        name,
        math.exp(value),
        math.exp(centre),
        math.exp(centre + bound),
        (value - centre) / deviation,
        freedom + 1,
        level.since,
        times,
        times >= enough,
    )


# ---- statistics ----


def _prior(levels: Iterable[Level]) -> tuple[float, float]:
    """The variance that those of all series scatter around, and as how many degrees of freedom it counts for each.

    Logarithms of variances over f degrees of freedom have a variance of trigamma(f / 2); what they have beyond that is
    trigamma(weight / 2), by which the cases themselves differ. None beyond: they do not, and count as one sample.
    """
    known = [(level.variance, level.freedom) for level in levels if level.freedom]
    if len(known) < FEW:
        return SPREAD**2, GUESSED
    halves = np.array([freedom / 2 for _, freedom in known])
    logs = np.log([variance for variance, _ in known]) - np.array([_digamma(h) - math.log(h) for h in halves])
    excess = float(np.var(logs, ddof=1)) - float(np.mean([_trigamma(h) for h in halves]))
    most = float(2 * np.sum(halves))  # together they are no better known
    if excess <= _trigamma(500.0):
        return math.exp(float(np.mean(logs))), most
    low, high = 0.01, 500.0  # trigamma falls
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _trigamma(middle) > excess else (low, middle)
    return math.exp(float(np.mean(logs)) + _digamma(low) - math.log(low)), min(most, 2 * low)


def _digamma(x: float) -> float:
    return (math.lgamma(x * 1.0001) - math.lgamma(x * 0.9999)) / (x * 0.0002)


def _trigamma(x: float) -> float:
    step = x * 0.001
    return (math.lgamma(x + step) - 2 * math.lgamma(x) + math.lgamma(x - step)) / step**2


@functools.cache
def student(chance: float, freedom: float) -> float:
    """What Student's t exceeds with that chance: by the integral of cos(angle)^(freedom - 1), t = sqrt(f) tan(angle).

    >>> round(student(0.025, 10), 2), round(student(0.025, float("inf")), 2)
    (2.23, 1.96)
    """
    freedom = min(max(freedom, 1.0), 1e3)
    left = np.geomspace(1e-7, math.pi / 2, 20_000)  # from the far end of the tail on
    density = np.exp((freedom - 1) * np.log(np.sin(left)))
    tail = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(left))])
    angle = float(np.interp(chance, tail / (2 * tail[-1]), left))
    return math.sqrt(freedom) / math.tan(angle)


# ---- the command ----


def measured_again(groups: Sequence[str], more: Sequence[str] = ()) -> Run:
    """Measure groups by `python -m bench`, with these options more, in processes of its own: one a level."""
    levels: dict[str, list[str]] = {}
    for group in groups:
        levels.setdefault(group.rpartition(" ")[2], []).append(group)
    runs = [_measured(same, more) for same in levels.values()]
    return replace(runs[0], entries=[entry for run in runs for entry in run.entries])


def _measured(groups: Sequence[str], more: Sequence[str]) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "again.json")
        command = [sys.executable, "-m", "bench", "-o", str(path), *options_for(groups), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not path.exists():
            raise Unreadable(f"measuring again wrote no results: {done.stderr.strip() or done.stdout.strip()}")
        return read(path)


def options_for(groups: Sequence[str]) -> list[str]:
    """Those of `python -m bench` that measure these and no others; a name ends in dtype, threads and level."""
    ends = [group.rsplit(" ", 3)[1:] for group in groups]
    options = ["--minutes", str(max(3, len(groups) / 4)), "--only", *(f"^{re.escape(group)}$" for group in groups)]
    for option, place in (("--dtype", 0), ("--threads", 1), ("--level", 2)):
        found = sorted({end[place].removesuffix("t") if place == 1 else end[place] for end in ends if len(end) == 3})
        options += [option, *found] if found else []
    return options


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", help="pytest-benchmark's JSON, of `python -m bench`, of one commit")
    parser.add_argument("--history", default=str(tracking.PATH), help="(default: bench/history.jsonl)")
    parser.add_argument("--base", help="another run's results, to compare with in place of the history")
    parser.add_argument(
        "--remeasure", type=int, choices=(0, 1), default=1, help="0: never (default: what looks slower)"
    )
    options = parser.parse_args(argv)
    try:
        runs = [read(path) for path in options.results]
        history = expected_of(options.base, options.history)
        report = check(runs, history, remeasured_like(runs) if options.remeasure else None)
    except Unreadable as problem:
        print(problem, file=sys.stderr)
        return 2
    show(report)
    return report.code


def expected_of(base: str | None, path: str | Path) -> list[Line]:
    """The history, or a single run that takes its place; none where there is no file yet."""
    if base:
        # Under a name of its own: it may be of the same commit, or of none.
        return tracking.lines_of(replace(read(base), commit=str(base)), of_any_tree=True).lines
    return tracking.load(path) if Path(path) != tracking.PATH or Path(path).exists() else []


def remeasured_like(runs: Sequence[Run]) -> Remeasure:
    """Measuring again by the clock of these runs."""
    about = [run.machine.get("fastdl") for run in runs]
    clocks = {str(each.get("clock")) for each in about if isinstance(each, dict)}
    if len(clocks) > 1:
        raise Unreadable(f"found runs by {' and by '.join(sorted(clocks))}, expected those of one clock")
    return lambda groups: measured_again(groups, ["--cpu"] if clocks == {"processor time"} else [])


def show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 180)
    if report.failed:
        table = Table(title="Slower than its history allows: NumPy's time over fastdl's")
        for column in ("case", "expected", "allowed", "found", "lost", "deviations", "commits", "since", "measured"):
            table.add_column(
                column, justify="left" if column in ("case", "since") else "right", no_wrap=column != "case"
            )
        for each in sorted(report.failed, key=lambda verdict: -verdict.by):
            cells = [f"{value:.3f}" for value in (each.expected, each.allowed, each.found)]
            cells += [f"{each.by:.1%}", f"{each.deviations:.1f}", str(each.commits), each.since[:10], str(each.times)]
            table.add_row(each.name, *cells)
        console.print(table, markup=False)
    counts: dict[str, int] = {}
    for why in report.unjudged.values():
        counts[why] = counts.get(why, 0) + 1
    for why, count in counts.items():
        console.print(f"{count} not judged: {why}", markup=False)
    if report.note:
        console.print(report.note, markup=False)
    else:
        console.print(f"{len(report.failed)} of {len(report.verdicts)} cases and families are slower", markup=False)


if __name__ == "__main__":
    sys.exit(main())
