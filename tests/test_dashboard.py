"""The dashboard's half in Python: what the page is given, that it is one file, and what is said of bad input."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from bench import dashboard, results
from bench.dashboard.__main__ import main
from bench.dashboard.data import comparisons, page_data
from bench.history import load
from tests import dashboard_demo as demo

ROOT = Path(__file__).parents[1]


@pytest.fixture
def without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package that brings the chart library is not needed to see what is put around it."""
    monkeypatch.setattr(dashboard, "echarts", lambda: "var echarts;\n")


def entry(name: str, group: str | None = None, median: Any = 1e-3, **extra: Any) -> dict[str, Any]:
    stats = {"median": median, "q1": median, "q3": median}
    return {"group": group, "name": name, "fullname": f"tests/test_a.py::{name}", "stats": stats, "extra_info": extra}


def run_of(*benchmarks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"machine_info": {}, "commit_info": {}, "benchmarks": list(benchmarks), "datetime": "2026-01-01"} | more


def saved(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def read(path: Path, data: Any) -> results.Run:
    return results.read(saved(path, data))


def columns(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries as the page reads them."""
    entries = given["entries"]
    names, words, texts = entries["columns"], entries["words"], entries["texts"]
    return [
        {name: texts[column[i]] if name in words else column[i] for name, column in names.items()}
        for i in range(len(names["run"]))
    ]


def series(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Histories as the page unpacks them."""
    history = given["history"]
    found = json.loads(zlib.decompress(base64.b64decode(history["packed"])))
    for each in found:
        each["key"] = tuple(history["texts"][i] for i in each["words"])
        each["value"] = [math.exp(part / history["step"]) for part in each["values"][0]]
        each["low"] = [math.exp((a - b) / history["step"]) for a, b in zip(*each["values"][:2], strict=True)]
    return found


def test_page_is_given_what_the_file_says(tmp_path: Path) -> None:
    made = demo.results(most=60)
    rows = columns(page_data([read(tmp_path / "a.json", made)], [], ""))
    assert len(rows) == len(made["benchmarks"])
    for row, given in zip(rows, made["benchmarks"], strict=True):
        extra = given["extra_info"]
        assert row["group"] == given["group"]
        assert row["label"] == extra["implementation"]
        assert [row[name] for name in ("family", "dtype", "level", "size", "role")] == [
            extra[name] for name in ("family", "dtype", "level", "size", "role")
        ]
        assert row["threads"] == str(extra["threads"])
        assert row["median"] == pytest.approx(given["stats"]["median"], rel=1e-4)  # to five digits
        assert row["flops"] == pytest.approx(extra["flops"], rel=1e-4)
        assert row["ratio"] == (pytest.approx(extra["ratio"], rel=1e-4) if "ratio" in extra else None)


def test_figures_that_are_none_are_left_out(tmp_path: Path) -> None:
    bad = {"flops": math.nan, "bytes": "many", "of_roofline": -1, "peak_flops": True, "ratio": [1, math.nan, 2]}
    (row, _) = columns(page_data([read(tmp_path / "a.json", run_of(entry("a", **bad), entry("b")))], [], ""))
    assert [row[name] for name in bad] == [None] * len(bad)


@pytest.mark.parametrize(
    ("names", "groups", "labels"),
    [
        # functions of a file
        (["test_x", "test_y"], ["a", "a"], ["test_x", "test_y"]),
        # a function's parameters
        (["test_x[1]", "test_x[2]"], ["a", "a"], ["1", "2"]),
        # functions at equal parameters
        (["test_x[1]", "test_y[1]", "test_x[2]"], ["a [1]", "a [1]", "a [2]"], ["test_x", "test_y", "test_x"]),
        # functions with parameters of their own
        (["test_x[1]", "test_x[2]", "test_y"], ["a: test_x", "a: test_x", "a: test_y"], ["1", "2", "test_y"]),
    ],
)
def test_comparisons_of_others(names: list[str], groups: list[str], labels: list[str], tmp_path: Path) -> None:
    found = comparisons(read(tmp_path / "a.json", run_of(*(entry(name) for name in names))))
    assert [each.group for each in found] == groups
    assert [each.label for each in found] == labels
    assert {each.word("family") for each in found} == {"a"}


def test_two_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first, second = entry("test_x", "g"), entry("test_x", "g") | {"fullname": "tests/test_b.py::test_x"}
    found = comparisons(read(tmp_path / "a.json", run_of(first, second)))
    assert [each.label for each in found] == ["tests/test_a.py::test_x", "tests/test_b.py::test_x"]


def test_steps_of_a_history(tmp_path: Path) -> None:
    made = demo.results()
    some = {"family": ("convolution", "pooling"), "dtype": ("float32",), "threads": (1,)}
    made["benchmarks"] = [b for b in made["benchmarks"] if all(b["extra_info"][k] in v for k, v in some.items())]
    lines = demo.history(made)
    path = saved(tmp_path / "h.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    given = page_data([read(tmp_path / "a.json", made)], load(path), "")
    places = given["history"]["places"]
    assert len(places) == demo.COMMITS + 1  # and the run's own
    assert places[3] == {"commit": demo.sha(3), "date": demo.date(3), "subject": "Change number 3", "link": ""}
    found = {each["key"]: each for each in series(given)}
    families = {line["group"]: line["family"] for line in lines}
    slowed = {line["group"] for line in lines if line["group"].startswith(demo.SLOWED[1] + " ")}
    for (processor, group, against), each in found.items():
        assert processor == demo.PROCESSOR
        ratios = [line["ratio"][against] for line in lines if line["group"] == group]
        recorded = slice(len(ratios))  # then the run's own
        assert each["value"][recorded] == pytest.approx([r[0] for r in ratios], rel=2 / given["history"]["step"])
        assert each["low"][recorded] == pytest.approx([ratio[1] for ratio in ratios], rel=2 / given["history"]["step"])
        if families[group] == "convolution":
            assert any(abs(step - demo.FASTER) <= 1 for step in each["steps"])
        if group in slowed:
            assert any(abs(step - demo.SLOWER) <= 1 for step in each["steps"])
    assert sum(families[group] == "convolution" for _, group, _ in found) > 5
    assert slowed


def test_several_files_are_a_history(tmp_path: Path) -> None:
    days = [
        read(tmp_path / f"{day}.json", run_of(entry("x", median=day * 1e-3), entry("y"), datetime=f"2026-01-0{day}"))
        for day in (3, 1, 2)
    ]
    given = page_data(days, [], "")
    assert given["history"]["kind"] == "time"
    assert [place["subject"] for place in given["history"]["places"]] == ["1.json", "2.json", "3.json"]
    values = {each["key"][2]: each["value"] for each in series(given)}
    assert values["x"] == pytest.approx([1e-3, 2e-3, 3e-3], rel=1e-3)
    assert page_data(days[:1], [], "")["history"] is None


def test_a_run_that_the_history_has_is_there_once(tmp_path: Path) -> None:
    made = demo.results(most=20)
    lines = demo.history(made, commits=3)
    for line in lines:
        line["commit"] = line["commit"].replace(demo.sha(2), demo.sha(demo.COMMITS))
    path = saved(tmp_path / "h.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    history = page_data([read(tmp_path / "a.json", made)], load(path), "")["history"]
    assert [place["commit"] for place in history["places"]] == [demo.sha(0), demo.sha(1), demo.sha(demo.COMMITS)]


def ours_and_numpy(ratio: float, **more: Any) -> list[dict[str, Any]]:
    return [
        entry("a[fastdl]", "a", implementation="fastdl", role="ours", **more),
        entry("a[numpy]", "a", ratio * 1e-3, implementation="numpy", role="reference", ratio=[ratio] * 3, **more),
    ]


def test_neither_another_tree_nor_the_disturbed_speak_for_a_commit(tmp_path: Path) -> None:
    commit = {"id": "1", "time": "2026-01-01"}
    made = [
        run_of(*ours_and_numpy(2.0), datetime="2026-01-01", commit_info=commit),
        run_of(*ours_and_numpy(3.0), datetime="2026-01-02", commit_info=commit | {"dirty": True}),
        run_of(*ours_and_numpy(9.0, disturbed="a neighbour"), datetime="2026-01-03", commit_info={"id": "2"}),
    ]
    given = page_data([read(tmp_path / f"{i}.json", each) for i, each in enumerate(made)], [], "")
    places = [(place["commit"], place["date"], place["subject"]) for place in given["history"]["places"]]
    assert places == [("1", "2026-01-01", "0.json"), ("1", "2026-01-02", "1.json, with changes")]
    (only,) = series(given)
    assert only["value"] == pytest.approx([2, 3], rel=1e-3)


def test_numbers_beyond_floats_are_none(tmp_path: Path) -> None:
    huge = run_of(entry("x", flops=10**400, ratio=[10**400] * 3), entry("y"), machine_info={"fastdl": {"x": 10**400}})
    huge["benchmarks"][0]["stats"]["q1"] = 10**400
    given = columns(page_data([read(tmp_path / "a.json", huge)], [], ""))
    assert [given[0][name] for name in ("flops", "ratio", "q1")] == [None, None, None]


def test_what_is_read_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [saved(tmp_path / f"{name}.json", GOOD) for name in "ab"]
    text = paths[0].read_text()
    assert main([*map(str, paths), "-o", str(paths[0])]) == 2
    assert main([str(paths[1]), "--history", str(paths[0]), "-o", str(paths[0])]) == 2
    assert "which is read, expected another file" in capsys.readouterr().err
    assert paths[0].read_text() == text


def test_machine_is_described_without_its_name(tmp_path: Path) -> None:
    made = demo.results(most=20)
    made["machine_info"]["node"] = "secret-host"
    given = page_data([read(tmp_path / "a.json", made)], [], "")
    assert "secret-host" not in json.dumps(given)
    rows = dict(given["runs"][0]["environment"])
    assert rows["peak flops, float32, 2 threads"] == "128 GFLOP/s"
    assert rows["versions, torch"] == "2.13"
    assert given["runs"][0]["processor"] == demo.PROCESSOR


@pytest.mark.parametrize(("url", "link"), [("https://a.org/c/1", "https://a.org/c/1"), ("javascript:alert(1)", "")])
def test_link_that_a_file_gives(url: str, link: str, tmp_path: Path) -> None:
    days = [
        read(
            tmp_path / f"{day}.json",
            run_of(entry("x"), datetime=f"2026-01-0{day}", commit_info={"id": "1", "url": url}),
        )
        for day in (1, 2)
    ]
    given = page_data(days, [], "")
    assert [place["link"] for place in given["history"]["places"]] == [link, link]
    assert given["runs"][0]["link"] == link


NASTY = "</script><script>alert(1)</script> <!-- \u2028 & \ud800 ]]> {{data}}"


def test_no_name_ends_the_element() -> None:
    text = dashboard.as_json({"a": NASTY})
    assert not set("<>&\u2028") & set(text)
    assert text.isascii()
    assert json.loads(text) == {"a": NASTY}


@pytest.mark.usefixtures("without_charts")
def test_page_is_whole_by_itself(tmp_path: Path) -> None:
    run = read(tmp_path / "a.json", run_of(entry(NASTY, NASTY), entry("b", NASTY)))
    text = dashboard.page([run])
    data, *scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    assert NASTY in json.loads(data)["entries"]["texts"]
    assert len(scripts) == 2
    # The browser runs these two, and nothing else.
    for script in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in text
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", text)
    assert "default-src 'none'" in text
    assert not re.search(r"<!--\w+-->|\{\{\w+\}\}", text.replace(data, ""))


def test_nothing_becomes_markup() -> None:
    for path in sorted(dashboard.PAGE.glob("*.js")):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", path.read_text()), path


@pytest.mark.usefixtures("without_charts")
def test_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read(tmp_path / "a.json", run_of(entry("a"), entry("b")))
    out = saved(tmp_path / "out.html", "before")

    def full(self: Path, *_: Any, **__: Any) -> None:
        with open(self, "w") as file:
            file.write("half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            dashboard.write([run], [], out)
    assert out.read_text() == "before"
    assert sorted(os.listdir(tmp_path)) == ["a.json", "out.html"]
    dashboard.write([run], [], out)
    assert out.read_text().startswith("<!doctype html>")


GOOD = run_of(entry("a"), entry("b"))
LINE = json.dumps(demo.history(demo.results(most=5), commits=1)[0])
BAD: dict[str, tuple[Any, str | None, list[str], str]] = {
    "cut off": (json.dumps(GOOD)[:-40], None, [], "not JSON, or cut off"),
    "another tool's": ({"results": {"time_x": [1.0]}, "params": {}}, None, [], "expected what pytest-benchmark writes"),
    "a list": ([1, 2], None, [], "expected what pytest-benchmark writes"),
    "empty": (run_of(), None, [], "found no benchmark in it"),
    "nothing to compare": (run_of(entry("a", "g"), entry("b", "h")), None, [], "nothing to compare"),
    "NaN": (run_of(entry("a", median=math.nan), entry("b")), None, [], "stats.median: found nan"),
    "no time": (run_of(entry("a", median=0), entry("b")), None, [], "stats.median: found 0"),
    "history cut off": (GOOD, LINE + "\n" + LINE[:-20], [], "line 2"),
    "history with a gap": (GOOD, LINE + "\n\n" + LINE, [], "line 2"),
    "another schema": (GOOD, LINE.replace('"schema": 1', '"schema": 7'), [], "schema"),
    "no address": (GOOD, None, ["--commit-url", "javascript:alert('{commit}')"], "expected an http address"),
}


@pytest.mark.usefixtures("without_charts")
@pytest.mark.parametrize("kind", BAD)
def test_bad_input(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, history, more, said = BAD[kind]
    arguments = [str(saved(tmp_path / "a.json", data)), "-o", str(tmp_path / "out.html"), *more]
    if history is not None:
        arguments += ["--history", str(saved(tmp_path / "h.jsonl", history))]
    before = sorted(os.listdir(tmp_path))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert not out
    assert len(err.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.usefixtures("without_charts")
@pytest.mark.parametrize("missing", ["results", "history", "folder"])
def test_files_that_are_not_there(missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, none = saved(tmp_path / "a.json", GOOD), tmp_path / "none" / "there"
    given = {
        "results": [str(none)],
        "history": [str(good), "--history", str(none)],
        "folder": [str(good), "-o", str(none)],
    }
    assert main(["-o", str(tmp_path / "out.html"), *given[missing]]) == 2
    assert "No such file" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["a.json"]


def test_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([str(saved(tmp_path / "a.json", GOOD)), "-o", str(tmp_path / "out.html")]) == 2
    assert 'pip install "fastdl[bench]"' in capsys.readouterr().err


def test_chart_library_keeps_its_notice() -> None:
    pytest.importorskip("panel", reason="the extra bench is not installed")
    text = dashboard.echarts()
    assert "Licensed to the Apache Software Foundation (ASF)" in text[:200]
    assert "http://www.apache.org/licenses/LICENSE-2.0" in text[:600]


def test_size_without_data(tmp_path: Path) -> None:
    pytest.importorskip("panel", reason="the extra bench is not installed")
    text = dashboard.page([read(tmp_path / "a.json", GOOD)])
    assert len(text.encode()) <= 1_500_000


FOREIGN = """
import pytest

@pytest.mark.parametrize("n", [10, 100, 1000])
def test_sorted(benchmark, n):
    benchmark(sorted, list(range(n)))

@pytest.mark.parametrize("n", [10, 100, 1000])
def test_set(benchmark, n):
    benchmark(set, list(range(n)))

@pytest.mark.benchmark(group="join <script>window.hacked = 1</script>")
@pytest.mark.parametrize("how", ["plain", "<img src=x onerror='window.hacked = 1'>"])
def test_join(benchmark, how):
    benchmark(lambda: ",".join(map(str, range(100))))
    benchmark.extra_info["note"] = how
"""


def foreign_results(folder: Path, runs: int) -> list[Path]:
    """JSON of somebody else's small project, as pytest-benchmark writes it."""
    pytest.importorskip("pytest_benchmark", reason="the extra bench is not installed")
    saved(folder / "test_sorting.py", FOREIGN)
    found = [folder / f"run{i}.json" for i in range(runs)]
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "--benchmark-max-time=0.01", "--benchmark-min-rounds=3"]
    for path in found:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *options, f"--benchmark-json={path}", "test_sorting.py"],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return found


def test_project_of_others(tmp_path: Path) -> None:
    (path,) = foreign_results(tmp_path, 1)
    given = page_data([results.read(path)], [], "")
    rows = columns(given)
    assert given["ours"] == ""
    assert {row["family"] for row in rows} == {"sorting"}
    by_group: dict[str, set[str]] = {}
    for row in rows:
        by_group.setdefault(row["group"], set()).add(row["label"])
    assert by_group == {
        **{f"sorting [{n}]": {"test_sorted", "test_set"} for n in (10, 100, 1000)},
        "join <script>window.hacked = 1</script>": {"plain", "<img src=x onerror='window.hacked = 1'>"},
    }
    assert [row["parameters"] for row in rows if row["label"] == "test_set"] == [{"n": 10}, {"n": 100}, {"n": 1000}]


def test_as_a_command(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.json", json.dumps(GOOD)[:50])
    command = [sys.executable, "-m", "bench.dashboard", str(path), "-o", str(tmp_path / "out.html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"dashboard: {path}: not JSON, or cut off")
    assert os.listdir(tmp_path) == ["a.json"]
