"""What the page is given: entries in columns, a history in series, the machines in words.

A group of fastdl's own results is one comparison by contract. In other projects' a group may be missing, or hold one
function with several parameters, or several functions with the same: then like is put beside like (`comparisons`).
"""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from bench.results import Entry, Run, Unreadable, is_positive, ratio_of

if TYPE_CHECKING:
    from bench.history import Line

WORDS = ("family", "case", "operation", "backend", "dtype", "threads", "level", "size", "role", "disturbed")
"""Of extra_info, what is shown as text."""
FILTERED = ("family", "dtype", "threads", "level", "backend", "size")
"""What a reader can choose by, in a history too."""
NUMBERS = ("flops", "bytes", "peak_flops", "bandwidth", "of_roofline")
RATES = ("peak flops", "GFLOP/s"), ("bandwidth", "GB/s")
"""Of what is said of a machine."""
SPREAD = ("median", "q1", "q3")
STEP = 4000
"""A history's values are logarithms in units of 1 / STEP, whole numbers: 0.025%, finer than anything measured."""


def page_data(runs: Sequence[Run], history: Sequence[Line], commit_url: str) -> dict[str, Any]:
    """All of it, ready for JSON."""
    if commit_url and not re.match(r"https?://[^\s{}]+\{commit\}[^\s{}]*$", commit_url):
        raise ValueError(f"commit_url: found {commit_url!r}, expected an http address with {{commit}} in it")
    runs = sorted(runs, key=lambda run: _when(run.date))
    compared = [comparisons(run) for run in runs]
    times = Counter((each.entry.fullname, each.group) for groups in compared for each in groups)
    if not any(len(set(members)) > 1 for members in _members(compared)) and max(times.values(), default=0) < 2:
        names = ", ".join(run.source for run in runs) or "no file"
        raise Unreadable(f"{names}: found no two results in one group and none in two files, so nothing to compare")
    ours = Counter(each.label for groups in compared for each in groups if each.word("role") == "ours")
    return {
        "ours": max(ours, key=lambda label: (label == "fastdl", ours[label])) if ours else "",
        "commit_url": commit_url,
        "runs": [_described(run) for run in runs],
        "entries": _columns(compared, runs),
        "history": _history(runs, compared, history),
    }


@dataclass(frozen=True)
class Compared:
    """An entry, in which comparison it stands, and what it is called there."""

    entry: Entry
    group: str
    label: str

    def word(self, name: str) -> str:
        if name == "family" and "family" not in self.entry.extra:
            return _file_of(self.entry)
        value = self.entry.extra.get(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> float | None:
        return _positive(self.entry.stats.get(name) if name in SPREAD else self.entry.extra.get(name))

    def ratio(self) -> list[float] | None:
        ratio = ratio_of(self.entry)
        return [_short(part) for part in ratio] if ratio else None


def _positive(value: Any) -> float | None:
    return _short(value) if is_positive(value) else None


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _file_of(entry: Entry) -> str:
    """tests/test_sort.py::test_quick[10] -> sort."""
    return re.sub(r"^test_|\.py$|_test(?=\.py$)", "", entry.fullname.split("::")[0].split("/")[-1]) or "benchmarks"


def _function(entry: Entry) -> str:
    return entry.name.split("[")[0]


def _parameter(entry: Entry) -> str:
    found = re.search(r"\[(.*)\]$", entry.name, re.DOTALL)
    return found[1] if found else ""


def comparisons(run: Run) -> list[Compared]:
    """The entries of a run, each with the comparison it stands in and its name among the others there."""
    found: list[Compared] = []
    foreign: dict[str, list[Entry]] = {}
    for entry in run.entries:
        if "implementation" in entry.extra:
            backend, name = str(entry.extra.get("backend") or ""), str(entry.extra["implementation"])
            label = f"{name} ({backend})" if backend not in ("", "c", name) else name
            found.append(Compared(entry, entry.group or entry.name, label))
        else:
            foreign.setdefault(entry.group, []).append(entry)
    for group, entries in foreign.items():
        parts = {group: entries} if group else _by(_file_of, entries)
        for name, members in parts.items():
            found += _alike(name, members)
    # Two of one name in a comparison are told apart by more of it.
    seen = Counter((each.group, each.label) for each in found)
    return [
        each if seen[each.group, each.label] == 1 else Compared(each.entry, each.group, each.entry.fullname)
        for each in found
    ]


def _by(key: Any, entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(key(entry), []).append(entry)
    return found


def _alike(group: str, entries: list[Entry]) -> list[Compared]:
    """One function: its parameters are compared; several: those, at equal parameters where they share any."""
    functions, parameters = _by(_function, entries), _by(_parameter, entries)
    if len(functions) == 1:
        return [Compared(each, group, _parameter(each) or each.name) for each in entries]
    if len(parameters) > 1 and any(len(_by(_function, same)) > 1 for same in parameters.values()):
        return [Compared(each, f"{group} [{_parameter(each)}]", _function(each)) for each in entries]
    if len(functions) == len(entries):
        return [Compared(each, group, each.name) for each in entries]
    return [Compared(each, f"{group}: {_function(each)}", _parameter(each) or each.name) for each in entries]


def _members(compared: Iterable[Sequence[Compared]]) -> list[list[str]]:
    return [
        members for groups in compared for members in _by_group((each.group, each.label) for each in groups).values()
    ]


def _by_group(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group, label in pairs:
        found.setdefault(group, []).append(label)
    return found


class _Texts(list[str]):
    """Texts by number, each once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        if text not in self.numbers:
            self.numbers[text] = len(self)
            self.append(text)
        return self.numbers[text]


def _columns(compared: Sequence[Sequence[Compared]], runs: Sequence[Run]) -> dict[str, Any]:
    """Entries as columns: most of what they say they say alike, so texts are numbers in a table of texts."""
    texts = _Texts()
    rows = [(i, each) for i, groups in enumerate(compared) for each in groups]
    columns: dict[str, list[Any]] = {
        "run": [i for i, _ in rows],
        "group": [texts.number(each.group) for _, each in rows],
        "label": [texts.number(each.label) for _, each in rows],
        "ratio": [each.ratio() for _, each in rows],
        "parameters": [_numbers(each.entry.params) for _, each in rows],
    }
    columns |= {name: [texts.number(each.word(name)) for _, each in rows] for name in WORDS}
    columns |= {name: [each.number(name) for _, each in rows] for name in (*SPREAD, *NUMBERS)}
    return {"texts": list(texts), "words": ["group", "label", *WORDS], "columns": columns}


def _numbers(params: Mapping[str, Any]) -> dict[str, float] | None:
    """Parameters that are numbers above 0: what times can be drawn against."""
    found = {name: _positive(value) for name, value in params.items()}
    return {name: value for name, value in found.items() if value} or None


def _described(run: Run) -> dict[str, Any]:
    own = run.machine.get("fastdl") if isinstance(run.machine.get("fastdl"), dict) else {}
    return {
        "source": _name(run),
        "commit": run.commit,
        "date": run.date,
        "processor": _processor(run),
        "link": _link(run.commit_info),
        "environment": [*_machine(run.machine), *_flat(own)],
        "commit_info": [[str(k), str(v)] for k, v in run.commit_info.items() if isinstance(v, (str, int, float, bool))],
    }


def _name(run: Run) -> str:
    return run.source.replace("\\", "/").split("/")[-1]


def _when(date: str) -> datetime:
    """What is no date is before all that are."""
    try:
        when = datetime.fromisoformat(date.replace("Z", "+00:00"))
    except ValueError:
        return datetime.min.replace(tzinfo=timezone.utc)
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


def _processor(run: Run) -> str:
    own, cpu = run.machine.get("fastdl"), run.machine.get("cpu")
    found = own.get("processor") if isinstance(own, dict) else None
    found = found or (cpu.get("brand_raw") or cpu.get("brand") if isinstance(cpu, dict) else None)
    return str(found or run.machine.get("processor") or run.machine.get("machine") or "")


def _changed(run: Run) -> bool:
    """Whether it measured another tree than its commit's."""
    return bool(run.commit_info.get("dirty"))


def _link(commit_info: Mapping[str, Any]) -> str:
    address = str(commit_info.get("url") or "")
    return address if re.match(r"https?://\S+$", address) else ""


def _machine(machine: Mapping[str, Any]) -> list[list[str]]:
    """Of what pytest-benchmark notes, what times depend on; not the machine's name."""
    cpu: dict[str, Any] = machine["cpu"] if isinstance(machine.get("cpu"), dict) else {}
    python = " ".join(str(machine.get(f"python_{part}") or "") for part in ("implementation", "version"))
    rows: dict[str, Any] = {
        "processor": cpu.get("brand_raw") or cpu.get("brand") or machine.get("processor"),
        "cores that the system counts": cpu.get("count"),
        "architecture": machine.get("machine"),
        "system": " ".join(str(machine.get(part) or "") for part in ("system", "release")).strip(),
        "Python": python.strip(),
        "compiler of Python": machine.get("python_compiler"),
    }
    return [[name, str(value)] for name, value in rows.items() if value]


def _flat(about: Any, path: tuple[str, ...] = ()) -> list[list[str]]:
    """What fastdl notes of the machine, nested as it may be, as rows."""
    if isinstance(about, Mapping):
        return [row for key, value in about.items() for row in _flat(value, (*path, str(key).replace("_", " ")))]
    unit = next((unit for part in path for name, unit in RATES if part == name), "")
    if unit and isinstance(about, (int, float)):
        about = f"{about / 1e9:.4g} {unit}"
    return [[", ".join(path), str(about)]]


@dataclass(frozen=True)
class _Value:
    """What one commit or run says of one thing that is followed over time."""

    place: tuple[str, str]
    """Commit and date, either of which may be missing."""
    key: tuple[str, str, str]
    """Processor, group, and what the ratio is to, or, for other projects, what the time is of."""
    words: dict[str, str]
    interval: tuple[float, float, float]
    """The median, and its bounds."""


_Places = dict[tuple[str, str], dict[str, str]]


def _history(
    runs: Sequence[Run], compared: Sequence[Sequence[Compared]], lines: Sequence[Line]
) -> dict[str, Any] | None:
    """Series by commit, with the places where a new level begins."""
    from bench.history import change_points

    ratios = bool(lines) or any(each.ratio() for groups in compared for each in groups)
    places: _Places = {}
    observed = list(_of_lines(lines, places))
    known = {(value.place, value.key) for value in observed}
    for run, groups in zip(runs, compared, strict=True):
        values = _of_ratios(run, groups) if ratios else _of_times(run, groups)
        new = [value for value in values if (value.place, value.key) not in known]
        for value in new:
            places.setdefault(value.place, _place(run, ratios))
        observed += new
    order = sorted(places, key=lambda place: _when(places[place]["date"]))
    if len(order) < 2:
        return None
    number = {place: i for i, place in enumerate(order)}
    words: dict[tuple[str, str, str], dict[str, str]] = {}
    series: dict[tuple[str, str, str], dict[int, tuple[float, float, float]]] = {}
    for value in observed:
        words.setdefault(value.key, value.words)
        series.setdefault(value.key, {})[number[value.place]] = value.interval
    texts, packed = _Texts(), []
    for key, by_place in series.items():
        at = sorted(by_place)
        logs = [[round(STEP * math.log(part)) for part in by_place[i]] for i in at]
        packed.append(
            {
                "words": [texts.number(text) for text in key],
                "more": {name: texts.number(text) for name, text in words[key].items()},
                "at": None if len(at) == len(order) else at,
                # The median, and how far below and above it the interval goes.
                "values": [[m for m, _, _ in logs], [m - low for m, low, _ in logs], [high - m for m, _, high in logs]],
                "steps": [int(i) for i in change_points([by_place[i][0] for i in at])],
            }
        )
    # The numbers are most of a page with a long history, and the page may not want them: packed.
    numbers = json.dumps(packed, separators=(",", ":")).encode()
    return {
        "kind": "ratio" if ratios else "time",
        "step": STEP,
        "places": [places[place] for place in order],
        "processors": sorted({processor for processor, _, _ in series}),
        "texts": list(texts),
        "packed": base64.b64encode(zlib.compress(numbers)).decode(),
    }


def _of_lines(lines: Sequence[Line], places: _Places) -> Iterator[_Value]:
    for line in lines:
        place = line.commit, ""
        places.setdefault(place, {"commit": line.commit, "date": line.date, "subject": line.subject, "link": ""})
        words = {name: str(getattr(line, name)) for name in FILTERED}
        for against, interval in line.ratio.items():
            yield _Value(place, (line.processor, line.group, against), words, interval)


def _of_ratios(run: Run, groups: Sequence[Compared]) -> Iterator[_Value]:
    judged: dict[str, Compared] = {}  # by group; the first, which the ratios are to
    for each in groups:
        if each.word("role") == "ours":
            judged.setdefault(each.group, each)
    place = run.commit, "" if run.commit and not _changed(run) else run.date or run.source
    for each in groups:
        ratio = each.ratio()
        # As in a history, what was disturbed says nothing.
        disturbed = any(one.word("disturbed") for one in (each, judged.get(each.group, each)))
        if ratio and not disturbed and each.word("role") != "ours":
            words = {name: judged.get(each.group, each).word(name) for name in FILTERED}
            yield _Value(place, (_processor(run), each.group, each.label), words, (ratio[0], ratio[1], ratio[2]))


def _of_times(run: Run, groups: Sequence[Compared]) -> Iterator[_Value]:
    place = run.commit, run.date or run.source
    for each in groups:
        if each.word("disturbed"):
            continue
        median, low, high = (each.number(name) or each.entry.median for name in SPREAD)
        words = {name: each.word(name) for name in FILTERED}
        yield _Value(place, (_processor(run), each.group, each.label), words, (median, low, high))


def _place(run: Run, ratios: bool) -> dict[str, str]:
    # As a history has it, a commit's date is its own; times are of the day on which they were measured.
    own = ratios and run.commit and not _changed(run)
    date = str(run.commit_info.get("time") or run.date) if own else run.date
    subject = str(run.commit_info.get("subject") or _name(run)) + ", with changes" * (ratios and _changed(run))
    return {"commit": run.commit, "date": date, "subject": subject, "link": _link(run.commit_info)}
