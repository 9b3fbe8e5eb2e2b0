"""Instruction-set levels: the forced one runs, anything else is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import fastdl
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
