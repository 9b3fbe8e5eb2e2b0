"""Threads: the same results for any number, safe to call from several, safe to fork."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import _config
from tests.cases import Case
from tests.support import HOME, everyday, made, parameters


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


def test_number_of_threads_from_the_environment() -> None:
    assert _reported(FASTDL_NUM_THREADS="3").stdout.strip() == "3"
    assert _reported(OMP_NUM_THREADS="1,4").stdout.strip() == "1"
    assert _reported(OMP_NUM_THREADS="4096").stdout == _reported().stdout  # there are no more cores than there are
    assert _reported(OMP_NUM_THREADS="1", FASTDL_NUM_THREADS="3").stdout.strip() == "3"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_number_of_threads_follows_the_affinity() -> None:
    """At import, and when it changes later."""
    code = """
import os
cores = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, cores[:1])
import fastdl
print(fastdl.get_num_threads())
os.sched_setaffinity(0, cores)
print(fastdl.get_num_threads() == len(cores))
"""
    clean = {k: v for k, v in os.environ.items() if k not in ("FASTDL_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, env=clean, capture_output=True, text=True)
    assert done.stdout == "1\nTrue\n", done.stderr


@pytest.mark.parametrize(
    ("groups", "files", "threads"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000", "a/cpu.max": "max 100000"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/a\n", {}, 0),
        ("4:cpu:/a\n0::/\n", {"cpu/a/cpu.cfs_quota_us": "250000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 3),
        ("4:cpu,cpuacct:/\n", {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 0),
        ("nonsense", {"cpu.max": "words"}, 0),
    ],
)
def test_quota_of_a_container(tmp_path: Path, groups: str, files: dict[str, str], threads: int) -> None:
    (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    assert _config._quota(str(tmp_path / "fs"), str(tmp_path / "cgroup")) == threads


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


_FORK_AFTER_OTHERS = """
import os, numpy as np, torch, fastdl
torch.set_num_threads(2)
a = torch.ones(1000, 1000)
a @ a; (a + a).sum()  # torch's threads, and its OpenMP runtime's
fastdl.set_num_threads(2)
x, weight = np.ones((512, 512), np.float32), np.ones((512, 512), np.float32)
child = os.fork()
if child == 0:
    os._exit(0 if (fastdl.linear(x, weight) == 512).all() else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
print("done")
"""

_NO_THREADS = """
import resource, threading, numpy as np, fastdl
x, weight = np.ones((512, 512), np.float32), np.ones((512, 512), np.float32)
y, lstm = np.empty_like(x), fastdl.nn.LSTM(256, 256, rng=0)
sequence = np.ones((20, 8, 256), np.float32)
fastdl.set_num_threads(1)
before = fastdl.linear(x, weight, out=y).copy(), lstm(sequence)[0]  # all memory that is needed
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + (7 << 20)  # too little for a stack
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    threading.Thread(target=print).start()
    raise SystemExit("a thread was created")
except RuntimeError:
    pass
fastdl.set_num_threads(4)
assert np.array_equal(fastdl.linear(x, weight, out=y), before[0])
assert np.abs(lstm(sequence)[0] - before[1]).max() < 1e-5
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("code", [_FORK, _FORK_AFTER_OTHERS, _NO_THREADS], ids=["own", "others", "none"])
def test_forked_child_computes(code: str) -> None:
    """In a process of its own, so that a hang ends with the timeout. Also where there can be no threads."""
    if "torch" in code:
        pytest.importorskip("torch")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    resource = pytest.importorskip("resource")

    def usual_stacks() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))

    ran = subprocess.run(
        command,
        cwd=HOME,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=usual_stacks if code is _NO_THREADS else None,
    )
    assert ran.stdout.strip() == "done", ran.stderr


@pytest.mark.parametrize("first", ["fastdl", "threadpoolctl"])
def test_threadpoolctl_limits_the_threads(first: str) -> None:
    pytest.importorskip("threadpoolctl")
    code = f"""
import {first}, fastdl, threadpoolctl
fastdl.set_num_threads(3)
with threadpoolctl.threadpool_limits(1):
    print(fastdl.get_num_threads())
pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "fastdl"]
print(fastdl.get_num_threads(), [pool["num_threads"] for pool in pools])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True)
    assert done.stdout == "1\n3 [3]\n", done.stderr


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


def test_threads_leaves_the_decision_where_it_was() -> None:
    """After the block, cores that the process gets later still count."""
    code = """
import fastdl
before = fastdl.get_num_threads()
with fastdl.threads(1):
    pass
import os
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
print(fastdl.get_num_threads())
"""
    environment = {k: v for k, v in os.environ.items() if k != "FASTDL_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, env=environment, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
