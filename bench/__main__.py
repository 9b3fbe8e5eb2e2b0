"""Every benchmark of bench.suites in one command, and what comes of it.

    python -m bench                    about a quarter of an hour: each operation once small and once large, networks
    python -m bench --quick            under 3 minutes: what stands for its family
    python -m bench --full             everything, as long as it takes
    python -m bench --only conv        families, operations, cases or groups that this regular expression finds
    python -m bench --threads 1 2      each contender of the second in a process of its own
    python -m bench --level v3 v4      instruction-set levels of fastdl

Results are pytest-benchmark's JSON, in the folder given with -o (default: bench/results/), with dashboard.html beside
it. A ratio is the other's time over fastdl's, the median over rounds: above 1, fastdl is faster. docs/benchmarks.md
says how things are measured. Exit code: 0; 1 where a result was wrong or --check found a loss; 2 for bad options; 130
after Ctrl-C, with what had been measured saved.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import environment

BEGAN = time.perf_counter()
HERE = Path(__file__).parent
BUDGETS = {"quick": 140.0, "default": 900.0, "full": float("inf")}
"""Seconds."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--quick", dest="depth", action="store_const", const="quick", help="under 3 minutes")
    depth.add_argument("--full", dest="depth", action="store_const", const="full", help="everything")
    parser.set_defaults(depth="default")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="what one of these finds")
    parser.add_argument("--level", nargs="+", default=[], metavar="LEVEL", help="default: the one in use")
    parser.add_argument("--threads", nargs="+", type=_positive, default=[1], metavar="N", help="default: 1")
    parser.add_argument("--dtype", nargs="+", choices=("float32", "float64"), default=["float32"])
    parser.add_argument("--against", nargs="+", metavar="NAME", help="only these implementations, besides fastdl's")
    parser.add_argument("--minutes", type=_minutes, help="the time there is (quick: 2.3, default: 15, full: no limit)")
    parser.add_argument("--packed", action="store_true", help="conv2d and linear only, fastdl's weights packed before")
    parser.add_argument("--cpu", action="store_true", help="processor time, not wall time: one thread only")
    parser.add_argument("-o", "--output", default=str(HERE / "results"), metavar="PLACE", help="a folder, or a .json")
    parser.add_argument("--list", action="store_true", help="print the groups that would be timed")
    parser.add_argument("--check", action="store_true", help="fail where a ratio to NumPy fell beyond its history")
    parser.add_argument("--record", action="store_true", help="append to bench/history.jsonl")
    options = parser.parse_args(arguments)
    for word in options.only:
        try:
            re.compile(word)
        except re.error as problem:
            parser.error(f"--only: found {word!r}: {problem}")
    if options.cpu and set(options.threads) != {1}:
        parser.error("--cpu: one thread only: processor time says nothing of more")
    if options.packed and (options.check or options.record):
        parser.error("--packed: found --check or --record, expected neither: what is tracked has plain weights")
    if options.check and options.against and "numpy" not in options.against:
        parser.error("--check: found no numpy in --against, expected it: what is tracked is the ratio to it")
    output = Path(options.output)
    folder = output.parent if output.suffix == ".json" else output
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        parser.error(f"--output: found the file {there}, expected a folder")
    if output.suffix == ".json" and output.is_dir():
        parser.error(f"--output: found the folder {output}, expected a file")
    options.json = output if output.suffix == ".json" else output / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    environment.hold_to("v3" if set(options.level) == {"v3"} else "", 1)
    missing = [name for name in ("pytest", "pytest_benchmark", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f'not installed: {", ".join(missing)}: pip install "fastdl[bench]"')
    options.groups = _groups(options, parser)
    return options


def _positive(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 4096:
        raise argparse.ArgumentTypeError(f"found {text}, expected 1 to 4096")
    return number


def _minutes(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text}, expected more than 0")
    return number


def _groups(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Any]:
    import fastdl
    from bench import peers, suites

    levels, supported = options.level or [fastdl.active_isa()], fastdl.supported_isas()
    for level in levels:
        if level not in supported:
            parser.error(f"--level: found {level!r}, expected of this machine's: {', '.join(supported)}")
    if len(set(levels)) == 1:
        fastdl.use_isa(levels[0])
    elif "v3" in levels and supported[0] != "v3" and 1 in options.threads:
        parser.error("--level: v3 in a run of its own: the others of a process are held to it before they are loaded")
    for name in options.against or ():
        if name in peers.PEERS and peers.missing(name):
            parser.error(f"--against: {name} is not installed: pip install {' '.join(peers.missing(name))}")
    found = [
        group
        for threads in dict.fromkeys(options.threads)
        for level in dict.fromkeys(levels)
        for dtype in dict.fromkeys(options.dtype)
        for group in suites.in_turns(
            suites.chosen(suites.all_groups(dtype, threads, level), options.only, options.depth)
        )
    ]
    if options.packed:
        found = suites.with_packed_weights(found)
    if not found:
        parser.error(f"--only: nothing has {' or '.join(options.only)} in its family, operation, case or name")
    known = {name for group in found for name in group.implementations}
    if unknown := set(options.against or ()) - known:
        parser.error(f"--against: found {', '.join(sorted(unknown))}, expected among {', '.join(sorted(known))}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.list:
        print("\n".join(f"{group.family:24} {group.name}" for group in options.groups))
        return 0
    from bench import results

    _history()  # what is wrong with it is told before anything is measured
    session, interrupted = run(options)
    if not session.saved:
        why = ": interrupted" if interrupted else ": no time left, --minutes gives more" if session.late else ""
        print(f"nothing was measured{why}", file=sys.stderr)
        print(*(f"failed: {name}: {words}" for name, words in session.failures.items()), sep="\n", file=sys.stderr)
        return 130 if interrupted else 1
    measured = results.read(options.json)
    return max(report(options, session, measured, interrupted), 130 * interrupted)


def run(options: argparse.Namespace) -> tuple[Any, bool]:
    """Time them, and save what was measured, even where that was interrupted."""
    import pytest

    from bench import contest, timing
    from bench.session import Session

    if options.cpu:
        timing.use_cpu_time()
    full = options.depth == "full"
    settings = contest.Settings(
        rounds={"quick": 7, "default": 9, "full": 15}[options.depth],
        repeats=1 if options.depth == "quick" else 3,
        against=None if options.against is None else frozenset(options.against),
        slow=full,
    )
    budget = BUDGETS[options.depth] if options.minutes is None else 60 * options.minutes
    progress = _Progress(len(options.groups))
    session = Session(
        options.groups, settings, budget - (time.perf_counter() - BEGAN), began=progress.begin, ended=progress.end
    )
    options.json.parent.mkdir(parents=True, exist_ok=True)
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_XDIST_WORKER"):  # of a pytest that this was started from
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(dir=options.json.parent, prefix=".") as folder:
        part = Path(folder, "part.json")
        command = [str(HERE / "suites" / "test_suites.py"), f"--rootdir={HERE.parent}", "-c", os.devnull, "-s"]
        command += [
            f"--benchmark-json={part}",
            f"--benchmark-storage={folder}",
            "--benchmark-quiet",
            "--import-mode=append",
        ]
        command += [
            word for name in ("cacheprovider", "terminal", "warnings", "xdist") for word in ("-p", f"no:{name}")
        ]
        with progress, _muted() as words:
            code = pytest.main(command, plugins=[session])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
            print(*words, sep="\n", file=sys.stderr)
            raise SystemExit(f"pytest ended with {code!r}")
        if part.exists():
            os.replace(part, options.json)
            session.saved = True
    return session, code == pytest.ExitCode.INTERRUPTED


@contextlib.contextmanager
def _muted() -> Iterator[list[str]]:
    """What pytest and libraries print goes into a file, and in the end into that list: a bar is being drawn."""
    kept, words = [os.dup(1), os.dup(2)], []  # type: ignore[var-annotated]
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield words
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            file.seek(0)
            words += file.read().splitlines()


class _Progress:
    """A bar, where there is a terminal: the group that is timed, how many are left, and how long that takes."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self.file = os.fdopen(os.dup(2), "w")
        columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self.bar = Progress(*columns, console=Console(file=self.file), transient=True, disable=not self.file.isatty())
        self.task = self.bar.add_task("", total=total)

    def begin(self, group: Any) -> None:
        self.bar.update(self.task, description=f"{group.family}: {group.case[:60]}")

    def end(self, group: Any, outcome: Any) -> None:
        self.bar.advance(self.task)

    def __enter__(self) -> None:
        self.bar.start()

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()
        self.file.close()


# ---- what comes of it ----


def report(options: argparse.Namespace, session: Any, run: Any, interrupted: bool) -> int:
    """Print the table, write the dashboard, and check or record if that was asked for."""
    from rich.console import Console

    from bench import table

    console = Console(width=None if sys.stdout.isatty() else 160)
    table.show(run, console)
    for name, words in session.failures.items():
        console.print(f"failed: {name}: {words}", markup=False)
    if session.late:
        console.print(f"no time left for {len(session.late)} of {len(session.groups)} groups: --minutes gives more")
    console.print(f"results: {options.json}", markup=False, soft_wrap=True)
    history = _history()
    _dashboard(options, run, history, console)
    code = 1 if session.failures else 0
    if options.check and not interrupted:
        code = max(code, _check(run, history))
    if options.record and not interrupted:
        _record(run, console)
    return code


PATH = HERE / "history.jsonl"


def _history() -> list[Any]:
    if not PATH.exists():
        return []
    return list(importlib.import_module("bench.history").load(PATH))


def _dashboard(options: argparse.Namespace, run: Any, history: list[Any], console: Any) -> None:
    if importlib.util.find_spec("bench.dashboard") is None:
        console.print("no dashboard: this checkout has no bench/dashboard")
        return
    out = options.json.parent / "dashboard.html"
    try:
        links = importlib.import_module("bench.history").commit_url()
        importlib.import_module("bench.dashboard").write([run], history, out, links)
    except ImportError as problem:
        console.print(f'no dashboard: {problem}: pip install "fastdl[bench]"', markup=False)
        return
    console.print(f"dashboard: {out}", markup=False, soft_wrap=True)


def _check(run: Any, history: list[Any]) -> int:
    check = importlib.import_module("bench.check")
    found = check.check([run], history, check.remeasured_like([run]))
    check.show(found)
    return int(found.code)


def _record(run: Any, console: Any) -> None:
    recorded = importlib.import_module("bench.history").append(PATH, run)
    console.print(f"recorded: {len(recorded.lines)} groups in {PATH}; left out: {len(recorded.left_out)}", markup=False)


def end(arguments: Sequence[str] | None = None) -> int:
    """As a command: what is wrong with a file is told, and 2 returned."""
    from bench.results import Unreadable

    try:
        return main(arguments)
    except (Unreadable, OSError) as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(end())
