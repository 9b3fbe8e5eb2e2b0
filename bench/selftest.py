"""Whether --check can be believed: it has to find a kernel that takes 15% longer, and nothing in unchanged code.

    python -m bench.selftest                  builds fastdl twice in a temporary folder, once slowed, and measures
    python -m bench.selftest --keep FOLDER    in that folder, with the builds that are there already
    python -m bench.selftest --disturbed      what is marked as disturbed counts too: the bounds alone have to hold

The slowed build (CMake's FASTDL_SLOWED) does 15% of the rows of pooling twice. A history is measured first, each of its
commits a run of the unchanged build in a process of its own; then ten runs of the same build, two of them beside a
neighbour that computes and moves memory; then one of the slowed build. Whatever looks slower is measured
again by `--check` as always. Exit code 1: an alarm too many or too few.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench import check, history
from bench.results import Run, read

ROOT = Path(__file__).parents[1]
BUSY = (3, 8)
"""The runs that have a neighbour."""
NEIGHBOUR = """
import numpy
a, b = numpy.ones(1 << 23), numpy.ones((300, 300), numpy.float32)
while True:
    a += 1.0
    b @ b
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.selftest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", metavar="FOLDER", help="where builds and results go (default: a temporary folder)")
    parser.add_argument("--commits", type=int, default=6, help="of the history (default: 6)")
    parser.add_argument("--runs", type=int, default=10, help="of the unchanged build (default: 10)")
    parser.add_argument(
        "--only", nargs="+", default=["_pool.d-"], help="as of `python -m bench` (default: pooling, forward)"
    )
    parser.add_argument("--disturbed", action="store_true", help="judge what is marked as disturbed, too")
    parser.add_argument("--more", nargs=argparse.REMAINDER, default=[], help="further options of `python -m bench`")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        return _try(folder, options)


def _try(folder: Path, options: argparse.Namespace) -> int:
    unchanged, slowed = (_built(folder, name) for name in ("unchanged", "slowed"))
    measure = _Measure(folder, ["--against", "numpy", *options.more], options.disturbed)
    path = folder / "history.jsonl"
    path.unlink(missing_ok=True)
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    for at in range(options.commits):
        run = measure(unchanged, options.only)
        info = {
            "id": f"{at + 1:040x}",
            "time": (start + datetime.timedelta(days=at)).isoformat(),
            "subject": "unchanged",
        }
        recorded = history.append(path, replace(run, commit=info["id"], commit_info=info))
        _say(f"history {at + 1}: {len(recorded.lines)} groups, {len(recorded.left_out)} left out")
    lines = history.load(path)

    wrong = 0
    for number in range(1, options.runs + 1):
        with _neighbour() if number in BUSY else contextlib.nullcontext():
            report = measure.check(unchanged, options.only, lines)
        wrong += bool(report.failed)
        _told(f"unchanged {number}{', beside a neighbour' if number in BUSY else ''}", report)
    report = measure.check(slowed, options.only, lines)
    _told("slowed by 15%", report)
    check.show(report)
    _say(f"{wrong} false alarms in {options.runs} runs; the slowed build was {'' if report.failed else 'not '}found")
    return int(wrong > 0 or not report.failed)


def _built(folder: Path, name: str) -> Path:
    """fastdl of the best level, installed into a folder of that name."""
    place = folder / name
    if not (place / "fastdl").exists():
        _say(f"building: {name}")
        environment = os.environ | {
            "SKBUILD_BUILD_DIR": str(folder / "build"),  # one for both: only pooling is compiled again
            "SKBUILD_CMAKE_DEFINE": f"FASTDL_SLOWED={'ON' if name == 'slowed' else 'OFF'}",
            "FASTDL_LEVELS": _best_level(),
        }
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place), str(ROOT)]
        subprocess.run(command, env=environment, check=True)
    return place


def _best_level() -> str:
    import fastdl

    return fastdl.supported_isas()[0]


class _Measure:
    """Runs of `python -m bench` on an installation, in processes of their own."""

    def __init__(self, folder: Path, more: Sequence[str], disturbed: bool) -> None:
        self.folder, self.more, self.disturbed, self.count = folder, more, disturbed, 0

    def __call__(self, installed: Path, only: Sequence[str]) -> Run:
        return self._run(installed, ["--only", *only])

    def check(self, installed: Path, only: Sequence[str], lines: list[history.Line]) -> check.Report:
        run = self(installed, only)
        return check.check([run], lines, lambda groups: self._run(installed, check.options_for(groups)))

    def _run(self, installed: Path, options: Sequence[str]) -> Run:
        self.count += 1
        path = self.folder / f"{installed.name}-{self.count}.json"
        path.unlink(missing_ok=True)
        environment = os.environ | {"PYTHONPATH": str(installed)}
        command = [sys.executable, "-m", "bench", "-o", str(path), *options, *self.more]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if not path.exists():
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        run = read(path)
        entries = [replace(entry, extra=entry.extra | {"disturbed": ""}) for entry in run.entries]
        # What was measured is no commit's: it is judged by the history that was made here.
        return replace(run, commit="", commit_info={}, entries=entries if self.disturbed else run.entries)


@contextlib.contextmanager
def _neighbour() -> Iterator[None]:
    """A process that is busy meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR], env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    time.sleep(0.5)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _told(what: str, report: check.Report) -> None:
    losses = ", ".join(f"{verdict.name} {-verdict.by:+.1%}" for verdict in report.failed)
    judged = sum(not verdict.name.startswith(check.FAMILY) for verdict in report.verdicts)
    _say(f"{what}: {judged} cases judged, {len(report.unjudged)} not; {losses or 'no alarm'}")


def _say(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
