"""Every case on the backends other than C, against the same tolerances; and how one is chosen."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import _kernels
from tests.cases import Case, all_cases, results
from tests.support import DTYPES, Guarded, made, parameters

OTHERS = ("numba", "numpy")


def _tried() -> list[Any]:
    """Every case; in float64 on NumPy, which computes it as the reference does, one of each operation."""
    cases = list(parameters(all_cases()))
    first = {case.values[0].operation: case for case in reversed(cases)}
    return [
        pytest.param(*case.values, backend, *dtype.values, id=f"{case.id}-{backend}-{dtype.id}", marks=case.marks)
        for case, dtype, backend in itertools.product(cases, DTYPES, OTHERS)
        if (backend, dtype.id) != ("numpy", "f64") or case is first[case.values[0].operation]
    ]


@pytest.mark.parametrize(("case", "backend", "dtype"), _tried())
def test_agrees_with_reference(case: Case, backend: str, dtype: Any) -> None:
    """From and into poisoned, guarded memory; and scratch memory is given back."""
    held = _held_by_numba() if backend == "numba" else 0
    arguments, expected = made(case, dtype)
    guards: list[Guarded] = []
    with fastdl.use_backend(backend):
        given = case.complete(arguments)
        call = {name: Guarded.within(value, guards) for name, value in given.items()}
        returned = getattr(fastdl, case.operation)(**call)
    case.check(results(case, returned, call), arguments, expected)
    for guard in guards:
        guard.check()
    assert backend != "numba" or _held_by_numba() == held


def _held_by_numba() -> int:
    """Arrays that compiled functions have made and not released."""
    from numba.core.runtime import _nrt_python, rtsys

    _nrt_python.memsys_enable_stats()
    stats = rtsys.get_allocation_stats()
    return int(stats.mi_alloc - stats.mi_free)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("case", parameters(all_cases("linear")))
def test_weights_packed_by_c(case: Case, backend: str, dtype: Any) -> None:
    arguments, expected = made(case, dtype)
    packed = fastdl.pack_linear_weight(arguments["weight"])
    with fastdl.use_backend(backend):
        case.check(case.run(arguments | {"weight": packed}), arguments, expected)


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("groups", "algorithm"), [(1, "direct"), (1, "winograd"), (2, "direct"), (6, "direct")])
def test_convolution_weights_packed_by_c(backend: str, data_format: str, groups: int, algorithm: str) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 6, 9, 9)), rng.standard_normal((12, 6 // groups, 3, 3))
    x = x if data_format == "NCHW" else np.ascontiguousarray(np.moveaxis(x, 1, -1))
    options: Any = {"groups": groups, "data_format": data_format}
    packed = fastdl.pack_conv2d_weight(weight, padding=1, algorithm=algorithm, **options)
    with fastdl.use_backend(backend):
        np.testing.assert_allclose(
            fastdl.conv2d(x, packed, padding=1, **options), fastdl.conv2d(x, weight, padding=1, **options), rtol=1e-12
        )


def test_every_kernel_has_a_version_in_numpy() -> None:
    from fastdl.reference import kernels

    assert set(_kernels.SIGNATURES) - set(kernels.KERNELS) == {"compiled_level", "conv_reason"}


def test_numba_is_not_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on "numba" really does: nothing that a network is made of falls back."""
    from fastdl.numba.kernels import KERNELS
    from fastdl.reference import kernels

    assert set(KERNELS) <= set(_kernels.SIGNATURES)
    monkeypatch.setattr(kernels, "call", lambda *_: pytest.fail("fell back"))
    x = np.ones((2, 3, 8, 8), np.float32)
    with fastdl.use_backend("numba"):
        y = fastdl.relu(fastdl.conv2d(x, np.ones((4, 3, 3, 3), np.float32)))
        fastdl.linear(y.reshape(2, -1), np.ones((5, 144), np.float32))


def test_processwide_per_thread_and_as_a_context() -> None:
    assert fastdl.active_backend() == "c"
    seen: list[str] = []

    def look() -> None:
        seen.append(fastdl.active_backend())

    def in_a_thread() -> list[str]:
        seen.clear()
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return seen

    with fastdl.use_backend("numpy"):
        assert fastdl.active_backend() == "numpy"
        assert in_a_thread() == ["numpy"]
        with fastdl.use_backend("c", thread=True):
            assert fastdl.active_backend() == "c"
            assert in_a_thread() == ["numpy"]
        assert fastdl.active_backend() == "numpy"
    assert fastdl.active_backend() == "c"
    assert in_a_thread() == ["c"]
    assert fastdl.show_config()["backend"] == "c"


@pytest.mark.parametrize("name", ["C", "", "cupy", None, 3])
def test_unknown_backends(name: Any) -> None:
    with pytest.raises(ValueError, match=r"backend: found .*, expected 'c', 'numba' or 'numpy'"):
        fastdl.use_backend(name)
    with pytest.raises(TypeError, match="thread: found 1, expected True or False"):
        fastdl.use_backend("numpy", thread=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OTHERS)
def test_environment(name: str, tmp_path: Path) -> None:
    code = (
        "import fastdl, numpy, sys; fastdl.relu(numpy.ones(1)); print(fastdl.active_backend(), 'numba' in sys.modules)"
    )
    environment = os.environ | {"FASTDL_BACKEND": name}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [name, str(name == "numba")]


def test_unknown_environment(tmp_path: Path) -> None:
    environment = os.environ | {"FASTDL_BACKEND": "nunba"}
    command = [sys.executable, "-c", "import fastdl"]
    found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "FASTDL_BACKEND: found 'nunba', expected one of c, numba, numpy" in found.stderr


@pytest.mark.parametrize("backend", OTHERS)
def test_copies_of_any_strides(backend: str) -> None:
    """By the kernel, which other backends are not asked for where there is C."""
    x = np.random.default_rng(0).standard_normal((4, 5, 6))
    for view in (x.transpose(2, 0, 1), x[::-1, ::2, 1:], np.broadcast_to(x[0], (3, 5, 6)), x[:, :0]):
        copy = np.empty(view.shape)
        geometry = np.array([view.shape, np.array(view.strides) // 8, np.array(copy.strides) // 8], np.int64)
        with fastdl.use_backend(backend):
            _kernels.copy(view, copy, np.ascontiguousarray(geometry.T), view.ndim)
        np.testing.assert_array_equal(copy, view)


def test_read_only_arrays_and_empty_ones() -> None:
    x = np.linspace(-1, 1, 12, dtype=np.float32)
    x.flags.writeable = False
    with fastdl.use_backend("numba"):
        np.testing.assert_array_equal(fastdl.relu(x), np.maximum(x, 0))
        assert fastdl.relu(np.empty((0, 3), np.float32)).shape == (0, 3)


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("size", [3, 600, (1 << 14) + 5])
def test_in_place(backend: str, size: int) -> None:
    """Short, in one copy, and in several."""
    x, g = np.random.default_rng(0).standard_normal((2, size), np.float32)
    expected = fastdl.tanh(x), fastdl.gelu_backward(g, x), fastdl.softmax(x), fastdl.log_softmax(x)
    with fastdl.use_backend(backend):
        found = [x.copy(), g.copy(), x.copy(), x.copy()]
        fastdl.tanh(found[0], out=found[0])
        fastdl.gelu_backward(found[1], x, out=found[1])
        fastdl.softmax(found[2], out=found[2])
        fastdl.log_softmax(found[3], out=found[3])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pixels", [1, 255, 256, 700])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_pixels(pixels: int, smoothing: float) -> None:
    """Blocks that are cut off, and pixels that are ignored, NaN or not."""
    rng = np.random.default_rng(pixels)
    x, target, weight = rng.standard_normal((2, 5, pixels)), rng.integers(0, 5, (2, pixels)), rng.uniform(0.5, 2, 5)
    target[:, ::7] = -100
    x[0, :, 0] = np.nan
    options: Any = {"weight": weight, "label_smoothing": smoothing}
    expected = fastdl.cross_entropy_with_grad(x, target, **options)
    with fastdl.use_backend("numba"):
        found = fastdl.cross_entropy_with_grad(x, target, **options)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
