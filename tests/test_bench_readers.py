"""What other tools make of the results: pytest-benchmark's own comparison, asv, github-action-benchmark."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bench", reason="the measurements are not beside the tests")
from bench import check, history
from bench.results import read
from tests.made_up_runs import run_of, saved

GROUP = "conv2d-1x3x8x8_kernel=3/2 float32 1t v3"
SECONDS = np.linspace(1e-3, 1.1e-3, 9)


def times_of(ratio: float) -> dict[str, dict[str, np.ndarray]]:
    return {
        GROUP: {"fastdl": SECONDS, "numpy": SECONDS * ratio, "torch": SECONDS * 1.5},
        "relu-8 float32 1t v3": {"fastdl": SECONDS, "numpy": SECONDS * 3},
    }


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "before.json", tmp_path / "after.json"]
    for at, path in enumerate(paths):
        path.write_text(json.dumps(saved(run_of(times_of(2.0 + at), at))))
    return paths


def run(*command: object, cwd: Path) -> str:
    environment = os.environ | {"GIT_CONFIG_NOSYSTEM": "1", "HOME": str(cwd)}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_our_own_reader(results: list[Path]) -> None:
    before, after = map(read, results)
    assert set(before.groups()) == set(times_of(1.0))
    assert [entry.extra["ratio"][0] for entry in after.groups()[GROUP]] == [1.0, 3.0, 1.5]


def test_pytest_benchmark_compare(results: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    code = "from pytest_benchmark.cli import main; main()"
    shown = run(
        sys.executable, "-c", code, "compare", *results, "--group-by=group", "--columns=median,ops", cwd=tmp_path
    )
    assert f"benchmark '{GROUP}': 6 tests" in shown
    assert shown.count(f"{GROUP}[torch]") == 2


def test_github_action_benchmark(results: list[Path]) -> None:
    """Its `tool: pytest` takes these of each benchmark and shows them as they are, were one undefined."""
    for path in results:
        read_by_it = [
            (
                each["fullname"],
                each["stats"]["ops"],
                each["stats"]["stddev"],
                each["stats"]["mean"],
                each["stats"]["rounds"],
            )
            for each in json.loads(path.read_text())["benchmarks"]
        ]
        assert len({name for name, *_ in read_by_it}) == 5
        for name, ops, stddev, mean, rounds in read_by_it:
            assert name
            assert rounds == len(SECONDS)
            assert ops == pytest.approx(1 / mean)
            assert 0 < stddev < mean


def test_what_the_command_saves(tmp_path: Path) -> None:
    """`python -m bench` itself, on one small case: all of them read it."""
    pytest.importorskip("pytest_benchmark")
    if importlib.util.find_spec("bench.__main__") is None:
        pytest.skip("there is no such command here")
    path, record = tmp_path / "results.json", tmp_path / "history.jsonl"
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(root)])}
    command = [sys.executable, "-m", "bench", "--quick", "--only", "^relu-16384", "--against", "numpy", "-o", str(path)]
    subprocess.run(command, cwd=root, env=environment, capture_output=True, check=True)
    for each in json.loads(path.read_text())["benchmarks"]:
        stats = [each["stats"][name] for name in ("ops", "stddev", "mean", "rounds", "median")]
        assert all(np.isfinite(stats))
        assert each["fullname"]
    measured = read(path)
    assert {entry.extra["implementation"] for entry in measured.entries} == {"fastdl", "numpy"}
    trusted = [replace(entry, extra=entry.extra | {"disturbed": ""}) for entry in measured.entries]
    recorded = history.append(record, replace(measured, commit="f" * 40, commit_info={}, entries=trusted))
    assert {line.group for line in history.load(record)} == set(measured.groups())
    assert not recorded.left_out
    report = check.check([replace(measured, commit="", entries=trusted)], history.load(record))
    assert [verdict.deviations for verdict in report.verdicts] == pytest.approx([0] * len(trusted[::2]), abs=0.1)
    code = "from pytest_benchmark.cli import main; main()"
    assert "relu-" in run(sys.executable, "-c", code, "compare", path, cwd=tmp_path)


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, list[str]]:
    """An empty repository of three commits, and their names."""
    me = ("-c", "user.name=x", "-c", "user.email=x@y")
    run("git", "init", "-q", ".", cwd=tmp_path)
    for at in range(3):
        run("git", *me, "commit", "-q", "--allow-empty", "-m", f"Change {at}", cwd=tmp_path)
    return tmp_path, run("git", "log", "--reverse", "--format=%H", cwd=tmp_path).split()


def test_airspeed_velocity(repository: tuple[Path, list[str]]) -> None:
    """Its own commands read the history: `publish` makes its site, `compare` says what has changed."""
    pytest.importorskip("asv")
    folder, commits = repository
    for at, commit in enumerate(commits):
        history.append(folder / "history.jsonl", replace(run_of(times_of(2.0 + at), at), commit=commit))
    assert history.main(["--history", str(folder / "history.jsonl"), "--asv", str(folder / "results")]) == 0
    settings: dict[str, Any] = {
        "version": 1,
        "project": "p",
        "repo": ".",
        "branches": ["HEAD"],
        "results_dir": "results",
    }
    settings |= {"html_dir": "html", "show_commit_url": "#", "environment_type": "existing"}
    (folder / "asv.conf.json").write_text(json.dumps(settings))
    asv = (sys.executable, "-m", "asv")

    assert "Skipping" not in run(*asv, "publish", cwd=folder)
    index = json.loads((folder / "html" / "index.json").read_text())
    assert set(index["benchmarks"]) == {f"made up.{group}" for group in times_of(1.0)}
    assert index["benchmarks"][f"made up.{GROUP}"]["params"] == [["'numpy'", "'torch'"]]
    (graph,) = (path for path in (folder / "html/graphs").rglob("*conv2d*.json") if "summary" not in path.parts)
    assert [values for _, values in json.loads(graph.read_text())] == [[0.5, 0.6667], [0.3333, 0.6667], [0.25, 0.6667]]

    compared = run(*asv, "compare", commits[0], commits[2], "--factor", "1.05", cwd=folder).splitlines()
    (changed,) = (line for line in compared if "conv2d" in line and "numpy" in line)
    assert [cell.strip() for cell in changed.split("|")[1:5]] == ["-", "0.5", "0.25", "0.5"]
