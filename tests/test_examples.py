"""The command line, as a user runs it."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import fastdl
from fastdl.examples import MissingExtra, requires


def _run(*arguments: str, cwd: Path, module: str = "fastdl") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def _png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG whose every chunk has the right checksum."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, kinds = 8, []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        chunk = data[position + 4 : position + 8 + length]
        assert zlib.crc32(chunk) == struct.unpack(">I", data[position + 8 + length : position + 12 + length])[0]
        kinds.append(chunk[:4])
        position += 12 + length
    assert (kinds[0], kinds[-1]) == (b"IHDR", b"IEND")
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("module", ["fastdl", "fastdl.examples.digits"])
def test_train_digits(module: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn"), pytest.importorskip("matplotlib"), pytest.importorskip("rich")
    arguments = ["--epochs", "6", "--threads", "1", "--seed", "3", "--output", "figure.png"]
    command = ["train", "digits", *arguments] if module == "fastdl" else arguments
    done = _run(*command, cwd=tmp_path, module=module)
    assert done.returncode == 0, done.stderr
    accuracy, correct, count = re.search(r"test accuracy ([\d.]+)% \((\d+) of (\d+)", done.stdout).groups()
    assert int(count) == 360
    assert float(accuracy) == pytest.approx(100 * int(correct) / int(count), abs=0.005)
    assert float(accuracy) >= 96
    speeds = re.search(r"\(threads: 1\): fastdl ([\d,]+) \| NumPy ([\d,]+), fastdl is ([\d.]+)x", done.stdout).groups()
    own, numpy, ratio = (float(value.replace(",", "")) for value in speeds)
    assert ratio == pytest.approx(own / numpy, abs=0.06)
    width, height = _png_size(tmp_path / "figure.png")
    assert width > 1000
    assert height > 500


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_train_digits_reaches_its_accuracy(seed: int, tmp_path: Path) -> None:
    pytest.importorskip("sklearn"), pytest.importorskip("matplotlib"), pytest.importorskip("rich")
    done = _run("train", "digits", "--seed", str(seed), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"test accuracy ([\d.]+)% \(", done.stdout)[1]) >= 98.5


def test_train_without_a_name_lists_the_examples(tmp_path: Path) -> None:
    done = _run("train", cwd=tmp_path)
    assert done.returncode == 0
    assert re.search(r"^fastdl train digits +A small convolutional network", done.stdout, re.MULTILINE)


def test_info_prints_the_configuration(tmp_path: Path) -> None:
    done = _run("info", cwd=tmp_path)
    assert done.returncode == 0
    lines = dict(re.split(" {2,}", line, maxsplit=1) for line in done.stdout.splitlines())
    assert lines.keys() == fastdl.show_config().keys()
    assert lines["fastdl"] == fastdl.__version__
    assert lines["isa supported"] == ", ".join(fastdl.supported_isas())


def test_version(tmp_path: Path) -> None:
    assert _run("--version", cwd=tmp_path).stdout.split() == ["fastdl", fastdl.__version__]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digits", "--epochs", "0"], "found 0, expected at least 1"),
        (["train", "digits", "--lr", "-1"], "lr: found -1.0, expected at least 0"),
        (["train", "digits", "--output", "absent/figure.png"], "expected a file in a folder that exists"),
        (["train", "digit"], "invalid choice: 'digit'"),
        ([], "required: COMMAND"),
    ],
)
def test_mistakes_end_with_a_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = _run(*arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_extra_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r'pip install "fastdl\[examples\]"'), requires("examples"):
        import a_package_that_is_not_there  # noqa: F401
    hidden = "import sys; sys.modules['rich'] = None; from fastdl.__main__ import main; main(['train', 'digits'])"
    done = subprocess.run([sys.executable, "-c", hidden], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'pip install "fastdl[examples]"' in done.stderr
    assert "Traceback" not in done.stderr
