"""The figures of README.md and docs/figures.md are those that were recorded."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bench", reason="the measurements are not beside the tests")
from bench import history, readme
from tests.made_up_runs import COMMITS, run_of

ROOT = Path(__file__).parents[1]
SECONDS = np.linspace(1.0, 1.1, 9)
FAMILIES = {f"case{i}": "convolution" if i < 3 else "calls <script>|" for i in range(5)}


def lines(at: int = 0, best: float = 1.0) -> list[history.Line]:
    times = {
        group: {"fastdl": SECONDS, "numpy": SECONDS * 8, "torch": SECONDS * best * (i + 1), "onnxruntime": SECONDS * 3}
        for i, group in enumerate(FAMILIES)
    }
    return history.lines_of(run_of(times, at, families=FAMILIES)).lines


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/figures.md"):
        (tmp_path / name).write_text(f"# Before\n\n{readme.BEGIN}\n\n{readme.END}\n\nAfter.\n")
    return tmp_path


def record(root: Path, *parts: list[history.Line]) -> list[str]:
    path = root / "history.jsonl"
    history._write(path, [line for part in parts for line in part])
    return ["--history", str(path), "--root", str(root)]


def test_what_is_shown_here_is_what_was_recorded() -> None:
    """Else: python -m bench.readme."""
    if not history.PATH.exists():
        pytest.skip("nothing is recorded yet")
    assert readme.stale(ROOT, history.load(history.PATH)) == []


@pytest.mark.parametrize("name", ["README.md", "docs/figures.md"])
def test_there_is_a_place_for_them(name: str) -> None:
    assert readme.between(ROOT / name, "figures").count("\nfigures\n") == 1


def test_written_and_verified(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = record(root, lines())
    assert readme.main([*arguments, "--verify"]) == 1
    assert "README.md: its figures are not those of the history" in capsys.readouterr().out
    assert readme.main(arguments) == 0
    assert readme.main([*arguments, "--verify"]) == 0
    text = (root / "README.md").read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("After.\n")
    # (1 * 2 * 3)^(1/3), and of the others both times onnxruntime; half of the limit.
    assert "| convolution | 3 | 8.00x | 1.82x | 50% |" in text
    assert "| calls &lt;script&gt;&#124; | 2 | 8.00x | 3.00x | 50% |" in text
    assert "(docs/figures.svg)" in text

    for name, change in (("README.md", ("1.82x", "1.83x")), ("docs/figures.svg", ("1.82x", "1.83x"))):
        path = root / name
        before = path.read_text()
        path.write_text(before.replace(*change))
        assert path.read_text() != before
        assert readme.main([*arguments, "--verify"]) == 1
        path.write_text(before)
    assert readme.main([*record(root, lines(0, 2.0)), "--verify"]) == 1


def test_the_newest_of_each_group_count(root: Path) -> None:
    """A run of some cases only takes the place of those."""
    everything, some = lines(0, 1.0), lines(1, 2.0)[3:]
    shown = readme.current([*some, *everything])
    assert {line.commit for line in shown} == set(COMMITS[:2])
    table = readme.long_table([*everything, *some])
    assert f"commit {COMMITS[1][:10]} (3 of them measured at earlier ones)" in table
    assert "earlier ones" not in readme.long_table(everything)
    header, _, *rows = (line.split(" | ") for line in table.splitlines()[2:])
    assert header[5:10] == ["NumPy", "best peer", "lost", "onnxruntime", "torch"]
    assert rows[0][5:10] == ["8.00x", "1.82x", "0", "3.00x (3.00x)", "1.82x (1.00x)"]
    assert rows[1][6] == "3.00x"


def test_how_many_lose() -> None:
    (convolution, _) = readme.scores(lines(0, 0.4))
    assert convolution.lost == 2  # 0.4x and 0.8x; 1.2x is none
    assert convolution.over["torch"] == (pytest.approx(0.4 * 6 ** (1 / 3), rel=1e-3), 0.4)


def test_of_how_many_a_mean_is_is_said_where_not_all_have_a_peer() -> None:
    """Else the one case with a peer stands for its family."""
    given = lines()
    given[0] = replace(given[0], ratio={"numpy": given[0].ratio["numpy"]})
    assert "| convolution | 3 | 8.00x | 2.45x (of 2) | 50% |" in readme.short_table(given)


def test_the_picture_is_the_same_each_time_and_well_formed() -> None:
    drawn = readme.picture(lines())
    assert drawn == readme.picture(lines())
    tree = ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    words = [each.text for each in tree.iter(f"{space}text")]
    assert "calls <script>|" in words
    bars = {
        kind: [float(each.get("width", 0)) for each in tree.iter(f"{space}rect") if each.get("class") == kind][1:]
        for kind in ("best", "numpy")
    }
    # Logarithms: the width of a bar is that of its ratio, from 1x on.
    assert bars["best"][0] / bars["numpy"][0] == pytest.approx(np.log(6 ** (1 / 3)) / np.log(8), rel=0.01)
    assert re.search(r"prefers-color-scheme: dark", drawn)


def test_no_records_no_markers(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = record(root, lines())
    shutil.copy(root / "README.md", root / "before.md")
    (root / "docs/figures.md").write_text("no markers\n")
    assert readme.main(arguments) == 2
    assert "figures.md: expected one <!-- figures: begin" in capsys.readouterr().err
    assert (root / "README.md").read_text() == (root / "before.md").read_text()  # none is written, or all
    (root / "docs/figures.md").unlink()
    capsys.readouterr()
    assert readme.main(arguments) == 2
    assert "figures.md" in capsys.readouterr().err
    assert readme.main(["--history", str(root / "none.jsonl"), "--root", str(root)]) == 2
