"""What was measured commit by commit: bench/history.jsonl, a line a commit, a kind of processor and a group.

    python -m bench.history results.json...       append what these files hold, and say what was left out
    python -m bench.history --show conv2d         the history of groups whose name this regular expression finds
    python -m bench.history --asv FOLDER          write it as results of airspeed velocity (`asv publish`, `asv show`)

Lines hold ratios, never times: those of another day, or of another machine of the kind, mean little. What was marked as
disturbed is left out, and so is everything measured on a tree that no commit has.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fastdl
from bench import results
from bench.results import NO_COMMIT, Entry, Run, Unreadable, in_role, is_positive, parsed, read
from fastdl._files import replacing

SCHEMA = 1
PATH = Path(__file__).with_name("history.jsonl")

Interval = tuple[float, float, float]
"""A median, and the bounds of its 95% interval."""


@dataclass(frozen=True)
class Line:
    """One comparison at one commit, on one kind of processor."""

    commit: str
    date: str
    """ISO 8601, of the commit where the results say it, else of the run."""
    subject: str
    processor: str
    group: str
    family: str
    size: str
    dtype: str
    threads: int
    level: str
    backend: str
    ratio: dict[str, Interval]
    """By implementation: its time over that of "ours"."""
    of_roofline: float | None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.commit, self.processor, self.group

    @property
    def when(self) -> datetime.datetime:
        return _when(self.date)


@dataclass
class Recorded:
    """What `append` has done."""

    lines: list[Line] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Groups, or a group's entries, and why."""


# ---- the file ----


def load(path: str | Path) -> list[Line]:
    """The lines of a history, oldest first; Unreadable says which line cannot be read, and why."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as problem:
        raise Unreadable(f"{path}: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise Unreadable(f"{path}: not UTF-8: {problem}") from problem
    lines: list[Line] = []
    seen: dict[tuple[str, str, str], int] = {}
    for number, raw in enumerate(text.removesuffix("\n").split("\n"), 1):
        line = _parsed(raw, f"{path}: line {number}")
        if line.key in seen:
            raise Unreadable(f"{path}: line {number}: the commit, processor and group of line {seen[line.key]} again")
        seen[line.key] = number
        lines.append(line)
    return sorted(lines, key=lambda line: line.when)


def append(path: str | Path, run: Run) -> Recorded:
    """Add a line for each group of the run that can be trusted.

    The same commit, processor and group measured again takes the place of what was there. The file is replaced at
    once: whatever happens meanwhile, it holds either what it held or all of it. Unreadable, and nothing written, where
    the file or the run cannot be used.
    """
    return append_all(path, [run])[0]


def append_all(path: str | Path, runs: Sequence[Run]) -> list[Recorded]:
    """The same of several, the last of which counts; of all or of none."""
    path = Path(path)
    recorded = [lines_of(run) for run in runs]
    there = load(path) if path.exists() and path.stat().st_size else []
    lines = {line.key: line for line in [*there, *(line for each in recorded for line in each.lines)]}
    if any(each.lines for each in recorded):
        _write(path, sorted(lines.values(), key=lambda line: line.when))
    return recorded


def lines_of(run: Run, of_any_tree: bool = False) -> Recorded:
    """The lines that a run is recorded as; of_any_tree: also where its tree was not that of its commit."""
    if not run.commit:
        raise Unreadable(f"{run.source}: found no commit in it, expected that of what was measured")
    processor = processor_of(run)
    if not processor:
        raise Unreadable(f"{run.source}: found no machine_info.fastdl.processor, expected the kind of processor")
    subject = str(run.commit_info.get("subject") or _subject(run.commit))
    recorded = Recorded()
    for group, entries in run.groups().items():
        ours = in_role(entries, "ours")
        why = "it has no entry that is judged" if ours is None else disturbance(ours)
        if run.commit_info.get("dirty") and not of_any_tree:
            why = f"the tree was not that of {run.commit[:10]}"
        if ours is None or why:
            recorded.left_out[group] = why
            continue
        ratio: dict[str, Interval] = {}
        for entry in entries:
            name = implementation_of(entry)
            if entry is ours or name in ratio:
                continue
            if disturbance(entry):
                recorded.left_out[f"{group}: {name}"] = disturbance(entry)
            else:
                ratio[name] = rounded(ratio_of(entry, ours))
        if not ratio:
            recorded.left_out[group] = "there is nothing to compare with"
            continue
        extra, threads = ours.extra, ours.extra.get("threads", 1)
        reached: Any = extra.get("of_roofline")
        text = {name: str(extra.get(name) or "") for name in ("family", "size", "dtype", "level", "backend")}
        line = Line(
            commit=run.commit,
            date=str(run.commit_info.get("time") or run.date),
            subject=subject,
            processor=processor,
            group=group,
            threads=threads,
            ratio=ratio,
            of_roofline=float(f"{reached:.4g}") if is_positive(reached) else None,
            **text,
        )
        recorded.lines.append(_parsed(_dumped(line), f"{run.source}: {group}"))  # what cannot be read is not written
    return recorded


def processor_of(run: Run) -> str:
    """The kind of processor that a run was made on, or ""."""
    own = run.machine.get("fastdl")
    return str(own.get("processor") or "") if isinstance(own, dict) else ""


def implementation_of(entry: Entry) -> str:
    return str(entry.extra.get("implementation") or entry.name)


def disturbance(entry: Entry) -> str:
    return str(entry.extra.get("disturbed") or "")


def ratio_of(entry: Entry, ours: Entry) -> Interval:
    """An entry's time over that of ours, with its interval where there is one, else that of the medians alone."""
    ratio = entry.median / ours.median
    return results.ratio_of(entry) or (ratio, ratio, ratio)


def rounded(ratio: Interval) -> Interval:
    """To four digits: more are noise, and make the file longer."""
    middle, low, high = (float(f"{each:.4g}") for each in ratio)
    return middle, low, high


def series(history: Iterable[Line], processor: str) -> dict[str, list[Line]]:
    """The lines of each group on that kind of processor, oldest first."""
    found: dict[str, list[Line]] = {}
    for line in sorted(history, key=lambda line: line.when):
        if line.processor == processor:
            found.setdefault(line.group, []).append(line)
    return found


def _parsed(raw: str, where: str) -> Line:
    try:
        data = parsed(raw)
    except (ValueError, RecursionError) as problem:
        what = "an empty line" if not raw.strip() else "a line that is no JSON, or cut off"
        raise Unreadable(f"{where}: found {what}, expected a measurement") from problem
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise Unreadable(f"{where}: schema: found {found!r}, expected {SCHEMA}")
    missing = [name for name in Line.__dataclass_fields__ if name not in data]
    if missing:
        raise Unreadable(f"{where}: found no {', '.join(missing)}")
    for name in ("commit", "date", "subject", "processor", "group", "family", "size", "dtype", "level", "backend"):
        if not isinstance(data[name], str) or (name in ("commit", "processor", "group") and not data[name]):
            raise Unreadable(f"{where}: {name}: found {data[name]!r}, expected text")
    try:
        _when(data["date"])
    except ValueError:
        raise Unreadable(f"{where}: date: found {data['date']!r}, expected one of ISO 8601") from None
    if isinstance(data["threads"], bool) or not isinstance(data["threads"], int) or data["threads"] < 1:
        raise Unreadable(f"{where}: threads: found {data['threads']!r}, expected a number from 1 on")
    reached, ratio = data["of_roofline"], data["ratio"]
    if reached is not None and not is_positive(reached):
        raise Unreadable(f"{where}: of_roofline: found {reached!r}, expected a number above 0, or null")
    if not isinstance(ratio, dict) or not ratio:
        raise Unreadable(f"{where}: ratio: found {ratio!r}, expected a ratio to at least one implementation")
    for name, each in ratio.items():
        good = isinstance(each, list) and len(each) == 3 and all(map(is_positive, each))
        if not good or not each[1] <= each[0] <= each[2]:
            raise Unreadable(f"{where}: ratio to {name}: found {each!r}, expected [median, low, high] above 0")
    known = {name: data[name] for name in Line.__dataclass_fields__}
    return Line(**known | {"ratio": {name: tuple(each) for name, each in ratio.items()}})


def _when(date: str) -> datetime.datetime:
    when = datetime.datetime.fromisoformat(date.replace("Z", "+00:00"))
    return when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)


MEASURED = ("bench", "csrc", "fastdl", "tests/cases", "CMakeLists.txt", "pyproject.toml")
"""What figures depend on."""


def describe(commit_info: dict[str, Any]) -> dict[str, Any]:
    """pytest-benchmark's commit_info, with the first line of the message, and "dirty" for what is measured alone.

    Recording a run changes the history, and the figures in documents: that makes no other tree of the next run's.
    pytest-benchmark asks about the folder that it is started in, which may be in another project: what was measured
    is this one.
    """
    head = _git("rev-parse", "--show-prefix", "HEAD")
    if not head or "\n" in head:  # in a folder of another's
        return {"id": NO_COMMIT[-1], "dirty": False}
    if head != commit_info.get("id"):
        branch, when = _git("rev-parse", "--abbrev-ref", "HEAD"), _git("log", "-1", "--format=%cI")
        commit_info = {"id": head, "time": when, "project": "fastdl", "branch": branch}
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *MEASURED, f":!bench/{PATH.name}")
    return commit_info | {
        "subject": _subject(commit_info["id"]),
        "dirty": bool(changed) or _is_another(Path(fastdl.__file__).parent),
    }


def _is_another(installed: Path) -> bool:
    """Whether the package that is measured has other Python in it than this checkout: one that was installed before.

    What its kernels were compiled from cannot be told.
    """
    checkout = Path(__file__).parents[1]
    names = [name for name in _git("ls-files", "fastdl").splitlines() if (installed.parent / name).exists()]
    return any((installed.parent / name).read_bytes() != (checkout / name).read_bytes() for name in names)


def _subject(commit: str) -> str:
    """The first line of the commit's message, where this is a checkout that has it."""
    is_hash = re.fullmatch(r"[0-9a-fA-F]{4,64}", commit)  # a file may say anything, also what git takes for an option
    return _git("log", "-1", "--format=%s", commit, "--") if is_hash else ""


def commit_url() -> str:
    """Where a commit of this checkout is to be seen, by the remote that it is from: with "{commit}" in it, or ""."""
    return _web_address(_git("remote", "get-url", "origin"))


def _web_address(remote: str) -> str:
    """Without the user, and the password, that may be in it.

    >>> _web_address("git@host.org:someone/fastdl.git")
    'https://host.org/someone/fastdl/commit/{commit}'
    """
    found = re.fullmatch(
        r"(?:\w+://(?:[^@/]+@)?|[\w.-]+@)([\w.-]+\.[\w.-]+)(?::\d+)?[:/]([^\s{}]+?)(?:\.git)?/?", remote
    )
    return f"https://{found[1]}/{found[2]}/commit/{{commit}}" if found else ""


def _git(*words: str) -> str:
    """What git says of this checkout, or ""."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _write(path: Path, lines: list[Line]) -> None:
    replace(path, "".join(f"{_dumped(line)}\n" for line in lines))


def _dumped(line: Line) -> str:
    text = json.dumps({"schema": SCHEMA} | asdict(line), separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode()  # half a surrogate pair, as JSON writes it


def replace(path: Path, text: str) -> None:
    """Write a file at once, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8", newline="\n")


# ---- steps ----

LEAST_NOISE = 0.004
"""Of logarithms of ratios: nobody measures better, and a series of equal values has noise too."""
OUTLIER = 3.0
"""Deviations beyond which a value says no more than that it is one."""


def change_points(values: Sequence[float]) -> list[int]:
    """Where a series of ratios steps to another level: the indices at which new levels begin.

    The logarithms are fitted by constants piece by piece, which cost the sum of min(z^2, OUTLIER^2), z = distance over
    noise, and a penalty of 2 log n + 8 for each step (a little more than BIC's), by dynamic programming: the penalised
    fit of Jackson et al. (2005), with the bounded loss of Fearnhead and Rigaill (2019), under which a value far away is
    no step, however far. Levels are looked for on a grid of a quarter of the noise. The noise is the median of absolute
    differences between neighbours, which steps hardly touch, and larger for short series, where it is known less well.
    (E-Divisive's test by permutation cannot see a step in the last two or three values, of which there are too few
    permutations; least squares takes every outlier for two steps.)

    P. Fearnhead, G. Rigaill: Changepoint detection in the presence of outliers. JASA 114 (2019), 169-183.
    B. Jackson et al.: An algorithm for optimal partitioning of data on an interval. IEEE Signal Processing Letters 12
    (2005), 105-108.

    >>> change_points([2.0, 2.04, 1.98, 2.02, 1.99, 1.5, 1.52, 1.49, 1.51])
    [5]
    """
    x = np.asarray(values, float)
    if not (np.isfinite(x).all() and (x > 0).all()):
        raise ValueError("values: found some that are not finite and above 0, expected ratios")
    x = np.log(x)
    n = len(x)
    if n < 4:  # two of a level, so that one is not the other's outlier
        return []
    noise = max(LEAST_NOISE, 1.4826 * float(np.median(np.abs(np.diff(x)))) / math.sqrt(2)) * (1 + 2 / n)
    span = float(np.ptp(x))
    levels = x.min() + np.linspace(0, span, min(2000, 2 + math.ceil(4 * span / noise)))
    penalty = 2 * math.log(n) + 8
    cost, start = np.zeros(len(levels)), np.zeros(len(levels), int)
    least, begun = 0.0, []  # the best cost up to here; where the last piece of that fit begins
    for i in range(n):
        step = least + penalty < cost if i else np.zeros(len(levels), bool)
        cost[step], start[step] = least + penalty, i
        cost += np.minimum(np.square((x[i] - levels) / noise), OUTLIER**2)
        best = int(np.argmin(cost))
        least = float(cost[best])
        begun.append(int(start[best]))
    found: list[int] = []
    while begun[n - 1]:
        n = begun[n - 1]
        found.append(n)
    return found[::-1]


# ---- for other tools ----


def write_asv(history: Sequence[Line], folder: str | Path) -> list[Path]:
    """The history as results of airspeed velocity (`results_dir` of its configuration).

    A benchmark a group, with a parameter for what it is compared with. Values are fastdl's time over the other's, so
    that less is better, as asv has it. Processors are asv's machines. One group at several sizes stays several.
    """
    folder = Path(folder)
    against: dict[str, list[str]] = {}
    for line in history:
        names = against.setdefault(_asv_name(line), [])
        names += [name for name in line.ratio if name not in names]
    written = {
        name: {
            "code": "",
            "name": name,
            "param_names": ["against"],
            "params": [[repr(each) for each in names]],
            "pretty_name": name,
            "type": "track",
            "unit": "of its time",
            "timeout": 60.0,
            "version": str(SCHEMA),
        }
        for name, names in against.items()
    }
    files: dict[Path, Any] = {folder / "benchmarks.json": written | {"version": 2}}
    for processor in dict.fromkeys(line.processor for line in history):
        machine = _file_name(processor)
        about = {"machine": machine, "cpu": processor, "arch": "", "num_cpu": "", "os": "", "ram": ""}
        files[folder / machine / "machine.json"] = about | {"version": 1}
        of_this = [line for line in history if line.processor == processor]
        for commit in dict.fromkeys(line.commit for line in of_this):
            lines = [line for line in of_this if line.commit == commit]
            files[folder / machine / f"{_file_name(commit[:8])}-fastdl.json"] = {
                "commit_hash": commit,
                "env_name": "fastdl",
                "date": round(lines[0].when.timestamp() * 1000),
                "params": about | {"python": ""},
                "python": "",
                "requirements": {},
                "env_vars": {},
                "result_columns": ["result", "params", "version"],
                "results": {name: [values, params, str(SCHEMA)] for name, values, params in _asv_rows(lines, against)},
                "durations": {},
                "version": 2,
            }
    for path, data in files.items():
        replace(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
    return list(files)


def _file_name(text: str) -> str:
    """Within the folder, whatever the text is."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "unknown"


def _asv_name(line: Line) -> str:
    return f"{line.family or 'benchmarks'}.{line.group}"


def _asv_rows(lines: list[Line], against: dict[str, list[str]]) -> Iterable[tuple[str, list[Any], list[list[str]]]]:
    for line in lines:
        names = against[_asv_name(line)]
        values = [float(f"{1 / line.ratio[name][0]:.4g}") if name in line.ratio else None for name in names]
        yield _asv_name(line), values, [[repr(name) for name in names]]


# ---- the command ----


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.history", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="*", help="pytest-benchmark's JSON, of `python -m bench`")
    parser.add_argument("--history", default=str(PATH), help="the file (default: bench/history.jsonl)")
    parser.add_argument("--show", metavar="REGEX", help="print the history of these groups, steps marked")
    parser.add_argument("--against", default="numpy", help="of --show (default: numpy)")
    parser.add_argument("--asv", metavar="FOLDER", help="write the history as asv's results")
    options = parser.parse_args(argv)
    try:
        pattern = re.compile(options.show or "")
        runs = [read(path) for path in options.results]
        for path, recorded in zip(options.results, append_all(options.history, runs) if runs else (), strict=True):
            print(f"{path}: {len(recorded.lines)} groups recorded in {options.history}")
            for group, why in recorded.left_out.items():
                print(f"  left out: {group}: {why}")
        if options.show is not None:
            show(load(options.history), pattern, options.against)
        if options.asv:
            print(f"{options.asv}: {len(write_asv(load(options.history), options.asv))} files")
    except re.error as problem:
        print(f"--show: found {options.show!r}: {problem}", file=sys.stderr)
        return 2
    except (ValueError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


def show(history: Sequence[Line], pattern: re.Pattern[str], against: str) -> None:
    for processor in dict.fromkeys(line.processor for line in history):
        for group, lines in series(history, processor).items():
            lines = [line for line in lines if against in line.ratio]
            if not lines or not pattern.search(group):
                continue
            print(f"{group}, against {against}, {processor}")
            steps = change_points([line.ratio[against][0] for line in lines])
            for i, line in enumerate(lines):
                middle, low, high = line.ratio[against]
                mark = "->" if i in steps else "  "
                print(f"  {mark} {middle:8.4g} ({low:.4g} to {high:.4g})  {line.commit[:10]} {line.subject[:70]}")


if __name__ == "__main__":
    sys.exit(main())
