"""What README.md and pages of docs/ show, run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1].joinpath("README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_example(number: int, tmp_path: Path) -> None:
    for module in ("numba", "gymnasium"):
        if "import numba" in BLOCKS[number] or "rl.make" in BLOCKS[number]:
            pytest.importorskip(module)
    path = tmp_path / "example.py"  # a file: Numba's cache needs one
    path.write_text(BLOCKS[number])
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def _page(name: str, parts: int, tmp_path: Path) -> list[str]:
    """What a page prints, whose blocks are one program in so many parts."""
    pytest.importorskip("numba")
    text = Path(__file__).parents[1].joinpath("docs", name).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert len(blocks) == parts
    path = tmp_path / "page.py"
    path.write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_programs(tmp_path: Path) -> None:
    (loss,) = _page("programs.md", 5, tmp_path)
    assert 0 < float(loss) < 1


def test_networks(tmp_path: Path) -> None:
    names, arrays, same = _page("networks.md", 4, tmp_path)
    assert names == "['layer1.1.conv1.weight', 'layer1.1.conv2.weight']"
    assert arrays == "['mean', 'std']"
    assert same == "True"


def test_vector_mathematics(tmp_path: Path) -> None:
    assert _page("vector-math.md", 3, tmp_path) == ["True", "True", "(16384,) (16384,)"]


def test_numba(tmp_path: Path) -> None:
    (loss,) = _page("numba.md", 1, tmp_path)
    assert 0 < float(loss) < 0.4


def test_reinforcement_learning(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    history, cart_pole, hill, steps, lake = _page("rl.md", 5, tmp_path)
    assert history.startswith("History(")
    assert float(cart_pole) > 400
    before, after = map(float, hill.split())
    assert before < 50 < 80 < after < 100
    assert int(steps) >= 2000
    learned, optimum = map(float, lake.split())
    assert optimum - 0.01 < learned <= optimum + 1e-6


def test_training(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    numbers, columns, same = _page("training.md", 3, tmp_path)
    count, best, accuracy = map(float, numbers.split())
    assert best <= count <= 60
    assert accuracy > 0.85
    assert columns == "['epoch', 'loss', 'val_loss', 'val_accuracy', 'lr', 'seconds']"
    assert same == "True"
    assert (tmp_path / "curves.png").exists()


def test_distributed(tmp_path: Path) -> None:
    try:
        from mpi4py import MPI  # noqa: F401
    except ImportError as error:  # of the package, or of the library that it loads
        pytest.skip(f"no MPI: {error}")
    assert _page("distributed.md", 1, tmp_path) == ["5 1"]


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 2


def test_is_for_users_and_short() -> None:
    written = re.sub(r"<!-- figures: begin -->.*<!-- figures: end -->", "", README, flags=re.S)
    assert len(written.split()) < 1100
