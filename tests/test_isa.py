"""Instruction-set levels: the forced one runs, anything else is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import _kernels
from fastdl.functional.conv.packing import _window
from tests.support import HOME


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=HOME, capture_output=True, text=True, env=os.environ | environment, timeout=60)


_REPORT = "import fastdl; print(fastdl.active_isa())"


@pytest.mark.parametrize("name", fastdl.supported_isas())
def test_environment_forces_a_level(name: str) -> None:
    """active_isa() asks the level's own code, so this is what ran, not what was asked for."""
    assert _python(_REPORT, FASTDL_ISA=name).stdout.strip() == name


def test_best_level_is_the_default() -> None:
    assert _python(_REPORT, FASTDL_ISA="").stdout.strip() == fastdl.supported_isas()[0]


def test_environment_with_an_unknown_level() -> None:
    failed = _python(_REPORT, FASTDL_ISA="v9")
    assert failed.returncode != 0
    assert "ValueError: isa: found 'v9' (unknown), expected one of" in failed.stderr


def test_use_isa(level: str) -> None:
    assert fastdl.active_isa() == level
    assert fastdl.show_config()["isa"] == level


@pytest.mark.parametrize("name", ["v9", "", "V3", "avx2"])
def test_use_isa_refuses_unknown_levels(name: str) -> None:
    before = fastdl.active_isa()
    with pytest.raises(ValueError, match="isa: found .* expected one of " + ", ".join(fastdl.supported_isas())):
        fastdl.use_isa(name)
    assert fastdl.active_isa() == before


def test_use_isa_refuses_unsupported_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A level that was built but that this CPU lacks (here: pretended)."""
    best, *others = fastdl.supported_isas()
    monkeypatch.setattr("fastdl._config.supported_isas", lambda: others)
    with pytest.raises(ValueError, match=f"isa: found '{best}' .not supported by this CPU., expected one of"):
        fastdl.use_isa(best)


def test_show_config() -> None:
    config = fastdl.show_config()
    assert config["fastdl"] == fastdl.__version__
    assert config["isa supported"] == fastdl.supported_isas()
    assert set(fastdl.supported_isas()) <= set(config["isa built"])
    assert config["threads"] == fastdl.get_num_threads()


def _packings(dtype: type) -> Any:
    """(name, weights, arguments) of kernels that pack weights."""
    rng = np.random.default_rng(0)
    for rows, columns in [(1, 1), (3, 7), (9, 20), (24, 25), (25, 24), (64, 130), (130, 64), (600, 17)]:
        yield "linear", [rng.standard_normal((columns, rows)).astype(dtype)], (rows, columns)
        for kind, gates in [("RNN_TANH", 1), ("RNN_RELU", 1), ("LSTM", 4), ("GRU", 3)]:
            parameters = [(gates * columns, rows), (gates * columns, columns), (gates * columns,), (gates * columns,)]
            weights = [rng.standard_normal(shape).astype(dtype) for shape in parameters]
            yield "recurrent", weights, (rows, columns, getattr(_kernels, f"RECURRENT_{kind}"))
    tiles = [0, 2, 4, _kernels.TILE_COLUMNS]
    for shape, groups in [((5, 3, 3, 3), 1), ((16, 16, 3, 3), 1), ((25, 7, 3, 3), 1), ((40, 1, 3, 3), 40)]:
        weight = rng.standard_normal(shape).astype(dtype)
        for tile in tiles if groups == 1 else tiles[:1]:
            yield "conv", [weight], (_window(shape, groups, False), tile)
        yield "conv", [weight], (_window(shape, groups, True), tiles[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_packed_weights_have_one_size(dtype: type) -> None:
    """The same on every level, for a program packs them again in the same memory when the level changes."""
    before = fastdl.active_isa()
    try:
        for name, weights, arguments in _packings(dtype):
            sizes = set()
            for level in fastdl.supported_isas():
                fastdl.use_isa(level)
                found = np.zeros(1, np.int64)
                measured = weights[1 if name == "recurrent" else 0]
                getattr(_kernels, f"{name}_packed_size")(measured, found, *arguments)
                sizes.add(int(found[0]))
                packed = np.full(found[0] + 256, 7, dtype)
                getattr(_kernels, f"{name}_pack")(*weights, packed, *arguments)
                np.testing.assert_array_equal(packed[found[0] :], 7, f"{name} {level}: written behind the end")
            assert len(sizes) == 1, (name, [w.shape for w in weights], sizes)
    finally:
        fastdl.use_isa(before)
