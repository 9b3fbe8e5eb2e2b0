"""fastdl.distributed: ranks together are one process, and none waits for ever for another."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdl import load_checkpoint
from tests.distributed_worker import run
from tests.support import HOME, WITH_TESTS

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
ENVIRONMENT = WITH_TESTS | {
    # What Open MPI asks for: root in containers, and more ranks than cores.
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def _mpiexec(ranks: int, *command: str, cwd: Path = HOME) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(MPIEXEC), "-n", str(ranks), sys.executable, *command],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _why_not() -> str:
    """Why there can be no MPI here."""
    if MPIEXEC is None:
        return "mpiexec is not installed"
    done = _mpiexec(2, "-c", "from mpi4py.MPI import COMM_WORLD as w; w.Barrier(); w.rank or print(w.size)")
    if done.returncode or done.stdout.split() != ["2"]:
        return f"mpi4py does not run here: {(done.stderr or done.stdout)[-300:]}"
    return ""


@pytest.fixture(scope="module", autouse=True)
def _mpi() -> None:
    if why := _why_not():
        pytest.skip(why)


def _ranks(ranks: int, folder: Path, *options: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """One training after the other."""
    return _mpiexec(ranks, "-m", "tests.distributed_worker", str(folder), json.dumps(options))


def _results(ranks: int, folder: Path) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """What each rank says of one."""
    found = []
    for rank in range(ranks):
        with np.load(folder / f"{rank}.npz") as arrays:
            found.append((json.loads((folder / f"{rank}.json").read_text()), dict(arrays)))
    return found


CASES: dict[int, list[dict[str, Any]]] = {
    1: [{"batch": 32}],
    2: [
        {"batch": 32},
        {"batch": 32, "dtype": "float32"},
        {"batch": 32, "n": 67, "overlap": True, "bucket": 600},
        {"batch": 32, "kind": "shared", "overlap": True, "bucket": 1, "max_norm": 0.5},
        {"batch": 32, "kind": "shared"},
        {"batch": 32, "n": 67, "reduction": "sum"},
        {"batch": 32, "record": False},
    ],
    4: [
        {"batch": 32},
        {"batch": 32, "n": 90, "max_norm": 0.5},  # what is left of 90 rows is not the same for each of 4
        {"batch": 32, "n": 67, "twice": True},  # and a transform makes more rows
        {"batch": 32, "n": 67},  # one rank has no row in the last batch
        {"batch": 32, "dtype": "float32", "overlap": True, "bucket": 1},
    ],
}


@pytest.mark.parametrize("ranks", CASES)
def test_ranks_are_one_process(ranks: int, tmp_path: Path) -> None:
    done = _ranks(ranks, tmp_path, *CASES[ranks])
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for i, options in enumerate(CASES[ranks]):
        net, history = run(options, tmp_path, None)
        results = _results(ranks, tmp_path / str(i))
        # Sums in another order: 12 steps of Adam, which divides by what is as small as gradients, make more of it.
        tolerance = 2e-3 if options.get("dtype") == "float32" else 1e-9
        for name, array in net.state_dict().items():
            error = f"{options}: {name}"
            np.testing.assert_allclose(results[0][1][name], array, rtol=tolerance, atol=tolerance, err_msg=error)
            for _, other in results[1:]:
                assert np.array_equal(other[name], results[0][1][name])
        # That this can fail: batches of another size leave other weights.
        other, _ = run({**options, "batch": 28}, tmp_path, None)
        assert np.abs(net.state_dict()["0.weight"] - other.state_dict()["0.weight"]).max() > 4e-3
        for said, _ in results:
            assert said["rows"] == results[0][0]["rows"]
            for row, expected in zip(said["rows"], history, strict=True):
                for column, value in row.items():
                    assert value == pytest.approx(expected[column], rel=10 * tolerance, abs=tolerance), column


def test_random_and_running_numbers_agree_and_go_on(tmp_path: Path) -> None:
    common = {"batch": 32, "n": 67, "resume": True}
    runs: list[dict[str, Any]] = []
    for kind in ("dropout", "norm"):
        for folder, epochs in (("whole", 6), ("parts", 2), ("parts", 6)):
            runs.append({**common, "kind": kind, "folder": f"{kind} {folder}", "epochs": epochs})
    done = _ranks(2, tmp_path, *runs)
    assert done.returncode == 0, done.stderr
    for kind in ("dropout", "norm"):
        one, other = (_results(2, tmp_path / f"{kind} {folder}") for folder in ("whole", "parts"))
        for (said, state), (same, again) in zip(one, other, strict=True):
            assert said == same
            assert all(np.array_equal(state[name], again[name]) for name in state)
        assert all(np.array_equal(one[0][1][name], one[1][1][name]) for name in one[0][1])


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ({"epochs": 6}, "epochs: found 6 on rank 1, expected 5, as on rank 0"),
        ({"n": 95}, r"data: found \['float64 \(95,"),
        ({"max_norm": 1.0}, "max_norm: found 1.0 on rank 1, expected None"),
        ({"kind": "shared"}, "model: 6.weight: found .* on rank 1, expected"),
        ({"overlap": True}, "overlap: found True on rank 1"),
        ({"batches": 3}, "data: found more batches on some ranks than on others"),
        ({"batches": 1}, "data: found more batches on some ranks than on others"),
    ],
    ids=["epochs", "rows", "max_norm", "model", "overlap", "more", "fewer"],
)
def test_ranks_that_differ_are_told_so_and_do_not_wait(last: Any, message: str, tmp_path: Path) -> None:
    options = {"batch": 32, "epochs": 5, "last": last} | ({"batches": 2} if "batches" in last else {})
    began = time.perf_counter()
    done = _ranks(2, tmp_path, options)
    assert time.perf_counter() - began < 60
    assert done.returncode != 0
    assert re.search(f"ValueError: {message}", done.stderr), done.stderr


def _both_end_after_three(folder: Path, what: str, ended: str) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Two ranks, one of which does that in its third epoch: what is known of both."""
    done = _ranks(2, folder, {"batch": 32, "epochs": 10_000, "at": 3, "what": what})
    assert done.returncode == 0, done.stderr
    results = _results(2, folder / "0")
    assert [said["ended"] for said, _ in results] == [ended] * 2
    assert results[0][0] == results[1][0]
    assert len(results[0][0]["rows"]) == 3
    return results


def test_a_callback_on_one_rank_ends_training_on_all(tmp_path: Path) -> None:
    _both_end_after_three(tmp_path, "stop", "callback")


@pytest.mark.parametrize("what", ["die", "raise", "break"])
def test_a_rank_that_dies_ends_the_job(what: str, tmp_path: Path) -> None:
    began = time.perf_counter()
    options = {"batch": 32, "epochs": 10_000, "folder": "job"}
    done = _ranks(2, tmp_path, {**options, "at": 4, "what": what})
    assert time.perf_counter() - began < 60
    assert done.returncode != 0
    if what != "die":
        assert "fastdl: rank 1 of 2 ends the job" in done.stderr
        assert ("ValueError: this rank has had enough" if what == "raise" else "KeyboardInterrupt") in done.stderr
    else:
        assert re.search(r"BAD TERMINATION|signal 9|Killed", done.stdout + done.stderr)
    rows = load_checkpoint(tmp_path / "job" / "checkpoint.npz")["rows"]
    assert len(rows) >= 3  # rank 0 may not have come to write the fourth
    _, history = run({**options, "resume": True, "epochs": len(rows) + 1}, tmp_path / "job", None)
    assert len(history) == len(rows) + 1
    assert history.rows[:-1] == rows


def test_ctrl_c_ends_all_ranks_after_the_same_step(tmp_path: Path) -> None:
    results = _both_end_after_three(tmp_path, "interrupt", "interrupted")
    assert all(np.array_equal(results[0][1][name], results[1][1][name]) for name in results[0][1])


def test_train_digits_distributed(tmp_path: Path) -> None:
    for module in ("sklearn", "matplotlib", "rich"):
        pytest.importorskip(module)
    command = ["-m", "fastdl", "train", "digits", "--distributed", "--epochs", "2", "--output", "figure.png"]
    done = _mpiexec(2, *command, "--checkpoint", "digits.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (accuracy,) = re.findall(r"test accuracy ([\d.]+)%", done.stdout)
    assert float(accuracy) > 70
    assert len(re.findall(r"training on 2 ranks \(threads: \d+\), images/s: [\d,]+", done.stdout)) == 1
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert len(load_checkpoint(tmp_path / "digits.npz")["rows"]) == 2
