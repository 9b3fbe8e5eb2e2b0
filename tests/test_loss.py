"""Losses: targets that another thread writes meanwhile, lists and numbers in place of arrays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import fastdl
from tests.support import Guarded

F32 = np.float32


@contextmanager
def _refilled(target: np.ndarray, classes: int) -> Iterator[None]:
    """While a thread writes indices far outside the classes over the target and takes them back, as fast as it can."""
    stop = threading.Event()

    def refill() -> None:
        good, bad = np.zeros_like(target), np.full_like(target, 2**40)
        bad[::2] = -(2**40)
        bad[::3] = classes
        while not stop.is_set():
            target[...] = bad
            target[...] = good

    thread = threading.Thread(target=refill)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        target[...] = 0


_ROWS: dict[str, Callable[..., Any]] = {
    "nll_loss": lambda x, target, out, **o: fastdl.nll_loss(x, target, **o),
    "nll_loss_backward": lambda x, target, out, **o: fastdl.nll_loss_backward(1.0, x, target, out=out, **o),
    "cross_entropy": lambda x, target, out, **o: fastdl.cross_entropy(x, target, **o),
    "cross_entropy_backward": lambda x, target, out, **o: fastdl.cross_entropy_backward(1.0, x, target, out=out, **o),
    "cross_entropy_with_grad": lambda x, target, out, **o: fastdl.cross_entropy_with_grad(x, target, **o),
}


@pytest.mark.parametrize("shape", [(20_000, 4), (40, 4, 500)], ids=["rows", "strips"])
@pytest.mark.parametrize("name", _ROWS)
def test_targets_are_written_meanwhile(name: str, shape: tuple[int, ...]) -> None:
    """Whatever they are when they are read: a ValueError or a result, and no byte elsewhere."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal(shape).astype(F32), np.ones(4, F32)
    target, out = np.zeros(shape[:1] + shape[2:], np.int64), Guarded(shape, F32)
    refused = calls = 0
    with _refilled(target, 4):
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            calls += 1
            try:
                _ROWS[name](x, target, out.array, weight=weight if calls % 2 else None)
            except ValueError as error:
                assert "class index" in str(error)  # noqa: PT017
                refused += 1
    out.check()
    assert refused > 0
    _ROWS[name](x, target, out.array)


def test_lists_are_targets_and_weights() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(F32)
    target, weight = np.array([0, 3, 1]), np.array([1, 2, 0.5, 4], F32)
    for function in (fastdl.cross_entropy, fastdl.nll_loss):
        want = function(x, target, weight)
        assert function(x, [0, 3, 1], [1, 2, 0.5, 4]) == want
        assert function(x, (0, 3, 1), (1.0, 2.0, 0.5, 4.0)) == want
        assert function(x[0], 3) == function(x[0], np.array(3))
        assert function(x.T[None], [[0, 3, 1]], [1, 2, 0.5, 4]) == function(x.T[None], target[None], weight)
        assert np.isnan(function(x[:0], []))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_number_is_a_gradient(reduction: str) -> None:
    x, target = np.array([1, 3], F32), np.array([0.5, 2], F32)
    want = fastdl.mse_loss_backward(np.array(2, F32), x, target, reduction)
    np.testing.assert_array_equal(fastdl.mse_loss_backward(2, x, target, reduction), want)
    np.testing.assert_array_equal(fastdl.mse_loss_backward(2.0, x, target, reduction), want)
    scores = np.eye(2, dtype=F32)
    want = fastdl.cross_entropy_backward(np.array(2, F32), scores, [0, 1], reduction=reduction)
    np.testing.assert_array_equal(fastdl.cross_entropy_backward(2.0, scores, [0, 1], reduction=reduction), want)
    np.testing.assert_array_equal(fastdl.l2_penalty_backward(2.0, x), fastdl.l2_penalty_backward(np.array(2, F32), x))
    with pytest.raises(TypeError, match="grad_output: found dtype float64"):
        fastdl.mse_loss_backward(np.array(2.0), x, target, reduction)


def test_inside_numba() -> None:
    numba = pytest.importorskip("numba", reason="Numba is not installed")

    @numba.njit
    def loss(x: Any) -> Any:
        return fastdl.cross_entropy(x, [0, 1], (1.0, 3.0)), fastdl.nll_loss_backward(2.0, x, [0, 1])

    @numba.njit
    def one(x: Any) -> Any:
        return fastdl.nll_loss(x, 1)

    x = np.random.default_rng(0).standard_normal((2, 2)).astype(F32)
    value, grad = loss(x)
    assert value == fastdl.cross_entropy(x, [0, 1], [1, 3])
    np.testing.assert_array_equal(grad, fastdl.nll_loss_backward(2.0, x, [0, 1]))
    assert one(x[0]) == -x[0, 1]
