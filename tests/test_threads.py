"""Threads: the same results for any number, safe to call from several, safe to fork."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastdl
from tests.cases import Case
from tests.support import HOME, everyday, made, parameters

_OPENMP = fastdl.show_config()["openmp"]
needs_openmp = pytest.mark.skipif(not _OPENMP, reason="built without OpenMP")


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("case", parameters(everyday()))
def test_any_number_of_threads(case: Case) -> None:
    arguments, expected = made(case, np.float32)
    for number in (1, 2, 3):
        fastdl.set_num_threads(number)
        case.check(case.run(arguments), arguments, expected)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("operation", ["batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"])
def test_norms_are_the_same_for_any_number_of_threads(operation: str) -> None:
    """To the last digit: the pieces of work are cut by shapes alone."""
    rng = np.random.default_rng(0)
    for shape in ((3000, 40), (40, 24, 300)):
        if operation == "instance_norm" and len(shape) == 2:
            continue
        x, grad_output = rng.standard_normal((2, *shape), np.float32)
        options: dict[str, Any] = {"batch_norm": {"training": True}, "group_norm": {"num_groups": 4}}.get(operation, {})
        if operation in ("layer_norm", "rms_norm"):
            options = {"normalized_shape": shape[-1]}
        found = []
        for number in (1, 2, 3):
            fastdl.set_num_threads(number)
            y = getattr(fastdl, operation)(x, **options)
            found.append((y, *getattr(fastdl, f"{operation}_backward")(grad_output, x, **options)))
        for others in found[1:]:
            for a, b in zip(found[0], others, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(300_001, 3), (3, 5, 70_001)])
@pytest.mark.parametrize("operation", ["mse_loss", "nll_loss", "cross_entropy", "cosine_embedding_loss"])
def test_sums_do_not_depend_on_the_number_of_threads(operation: str, shape: tuple[int, ...]) -> None:
    """Not even in the last bit."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    classes = rng.integers(0, shape[1], shape[:1] + shape[2:])
    pair = x.reshape(-1, shape[-1])
    arguments = {
        "mse_loss": (x, rng.standard_normal(shape, np.float32)),
        "cosine_embedding_loss": (pair, pair[::-1].copy(), np.ones(len(pair), np.float32)),
    }.get(operation, (x, classes))
    found = set()
    for number in (1, 2, 3):
        fastdl.set_num_threads(number)
        found.add(float(getattr(fastdl, operation)(*arguments)))
    assert len(found) == 1


@pytest.mark.usefixtures("threads")
def test_calls_from_several_python_threads() -> None:
    """Kernels are re-entrant: calls that overlap in time (cffi releases the GIL) do not share scratch."""
    fastdl.set_num_threads(2)
    chosen = [case for case in everyday() if case.flops > 1e5] * 4

    def run(case: Case) -> None:
        arguments, expected = made(case, np.float32)
        case.check(case.run(arguments), arguments, expected)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, chosen))


@needs_openmp
@pytest.mark.usefixtures("threads")
def test_set_num_threads() -> None:
    for number in (1, 3, 2):
        fastdl.set_num_threads(number)
        assert fastdl.get_num_threads() == number


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_set_num_threads_refuses(number: Any, error: type[Exception]) -> None:
    before = fastdl.get_num_threads()
    with pytest.raises(error, match=f"^threads: found {number}, expected"):
        fastdl.set_num_threads(number)
    assert fastdl.get_num_threads() == before


def _reported(**environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("FASTDL_NUM_THREADS", "OMP_NUM_THREADS")}
    command = [sys.executable, "-c", "import fastdl; print(fastdl.get_num_threads())"]
    return subprocess.run(command, cwd=HOME, capture_output=True, text=True, env=clean | environment, timeout=60)


@needs_openmp
def test_number_of_threads_from_the_environment() -> None:
    assert _reported(FASTDL_NUM_THREADS="3").stdout.strip() == "3"
    assert _reported(OMP_NUM_THREADS="5").stdout.strip() == "5"
    assert _reported(OMP_NUM_THREADS="5", FASTDL_NUM_THREADS="3").stdout.strip() == "3"


@pytest.mark.parametrize("text", ["0", "-2", "many"])
def test_environment_is_checked(text: str) -> None:
    failed = _reported(FASTDL_NUM_THREADS=text)
    assert failed.returncode != 0
    assert f"found {text}" in failed.stderr.replace("'", "")


_FORK = """
import os, numpy as np, fastdl
fastdl.set_num_threads(2)
x, weight = np.ones((512, 512), np.float32), np.ones((512, 512), np.float32)
before = fastdl.linear(x, weight)  # enough work for both threads
child = os.fork()
if child == 0:
    same = np.array_equal(fastdl.linear(x, weight), before)
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert np.array_equal(fastdl.linear(x, weight), before)  # the parent still has its threads
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_child_computes() -> None:
    """In a process of its own, so that a hang ends with the timeout."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORK]
    ran = subprocess.run(command, cwd=HOME, capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == "done", ran.stderr


@needs_openmp
def test_threadpoolctl_sees_the_runtime() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    assert "openmp" in {pool["user_api"] for pool in threadpoolctl.threadpool_info()}


@needs_openmp
@pytest.mark.usefixtures("threads")
def test_threads_for_a_block() -> None:
    fastdl.set_num_threads(3)
    with fastdl.threads(2):
        assert fastdl.get_num_threads() == 2
        with fastdl.threads(1):
            assert fastdl.get_num_threads() == 1
        assert fastdl.get_num_threads() == 2
        with pytest.raises(KeyError), fastdl.threads(1):
            raise KeyError
        assert fastdl.get_num_threads() == 2
    assert fastdl.get_num_threads() == 3
    for wrong, error in ((0, ValueError), (4097, ValueError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(error, match="threads: found"), fastdl.threads(wrong):  # type: ignore[arg-type]
            pass
    assert fastdl.get_num_threads() == 3


@needs_openmp
def test_threads_leaves_the_decision_to_openmp_where_it_was() -> None:
    """What OpenMP is told later still counts."""
    code = """
import fastdl
with fastdl.threads(1):
    pass
import threadpoolctl
with threadpoolctl.threadpool_limits(3, "openmp"):
    print(fastdl.get_num_threads())
"""
    environment = {k: v for k, v in os.environ.items() if k != "FASTDL_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, env=environment, capture_output=True, text=True)
    assert done.stdout == "3\n", done.stderr
