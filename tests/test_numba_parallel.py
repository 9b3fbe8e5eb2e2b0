"""Calls in prange loops, on each threading layer of Numba that there is here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba", reason="Numba is not installed")

_POOLS = {"omp": "omppool", "tbb": "tbbpool", "workqueue": "workqueue"}


def _is_there(layer: str) -> bool:
    try:
        import_module(f"numba.np.ufunc.{_POOLS[layer]}")
    except ImportError:
        return False
    return True


LAYERS = [layer for layer in _POOLS if _is_there(layer)]


def _run(program: str, folder: Path, layer: str) -> tuple[Any, str]:
    """What a program prints as JSON, and what it writes to stderr."""
    script = folder / "program.py"
    script.write_text(program)
    environment = os.environ | {
        "NUMBA_THREADING_LAYER": layer,
        "NUMBA_NUM_THREADS": "2",
        "NUMBA_CACHE_DIR": str(folder),
    }
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout), ran.stderr


_THREADS = """
import json, os
import numba, numpy as np
import fastdl

fastdl.set_num_threads(3)

@numba.njit
def inner(x):
    return fastdl.relu(x)

@numba.njit(parallel=True, cache=True)
def loop(x, first):
    y = np.empty_like(x)
    for i in numba.prange(len(x)):
        if i < first:
            fastdl.relu(x[i], out=y[i])
        else:
            y[i] = inner(x[i])
    return y

def tasks():
    return len(os.listdir("/proc/self/task"))

x = np.random.default_rng(0).standard_normal((8, 1 << 20)).astype(np.float32)
loop(x[:, :8].copy(), 8)
before = tasks()
right = bool((loop(x, 8) == np.maximum(x, 0)).all())
inside = tasks() - before
fastdl.relu(x)
outside = tasks() - before
right &= bool((loop(x, 0) == np.maximum(x, 0)).all())
print(json.dumps([inside, outside, right]))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads cannot be counted")
@pytest.mark.parametrize("layer", LAYERS)
def test_calls_in_a_loop_use_one_thread(layer: str, tmp_path: Path) -> None:
    """The library's own threads are made when they are first needed: by the call outside."""
    for _ in range(2):  # compiled, and from the cache
        found, complaints = _run(_THREADS, tmp_path, layer)
        assert found == [0, 2, True]
        assert not complaints


_MISTAKES = """
import json, sys
import numba, numpy as np
import fastdl

seen = []
sys.unraisablehook = lambda unraisable: seen.append(str(unraisable.exc_value))

@numba.njit(parallel=True)
def losses(x, target):
    found = np.zeros(len(x))
    for i in numba.prange(len(x)):
        found[i] = float(fastdl.cross_entropy(x[i], target[i]))
    return found

x, target = np.ones((8, 3, 4)), np.zeros((8, 3), np.int64)
losses(x, target)
found = []
for wrong in (0, 7):
    seen.clear()
    bad = target.copy()
    bad[wrong, 1] = 9
    try:
        losses(x, bad)
    except SystemError as error:
        seen.append(str(error.__cause__))
    found.append(list(seen))
right = bool(np.allclose(losses(x, target), np.log(4)))
print(json.dumps([numba.threading_layer(), found, right]))
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_mistakes_in_a_loop_are_not_lost(layer: str, tmp_path: Path) -> None:
    """Whichever thread makes them: the first or the last half of the rounds."""
    (used, found, right), _ = _run(_MISTAKES, tmp_path, layer)
    assert used == layer
    said = "target: found a class index outside the classes, expected 0 <= target < classes"
    assert found == [[said], [said]]
    assert right


_SERVED = """
import json
import numba, numpy as np
import fastdl

@numba.njit(parallel=True)
def batch(x, weight):
    y = np.empty((len(x), len(weight)), x.dtype)
    for i in numba.prange(len(x)):
        y[i] = fastdl.softmax(fastdl.linear(x[i], weight, activation="gelu"))
    return y

rng = np.random.default_rng(0)
x, weight = rng.standard_normal((50, 30)), rng.standard_normal((20, 30))
found = [bool(np.allclose(batch(x, weight), batch.py_func(x, weight))) for _ in range(200)]
print(json.dumps(all(found)))
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_many_loops(layer: str, tmp_path: Path) -> None:
    found, complaints = _run(_SERVED, tmp_path, layer)
    assert found is True
    assert not complaints
