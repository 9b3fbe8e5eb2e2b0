"""Pooling: inputs without a batch, strides that are not given, and positions that another thread writes meanwhile."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import reference
from tests.support import DTYPES, HOME, Guarded


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_without_a_batch(rank: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, *(6, 5, 4)[:rank])).astype(np.float32)
    for name in ("max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool"):
        function, backward = getattr(fastdl, f"{name}{rank}d"), getattr(fastdl, f"{name}{rank}d_backward")
        arguments = (2.0, 2) if name == "lp_pool" else (2,)
        y, expected = function(x, *arguments), function(x[None], *arguments)[0]
        np.testing.assert_array_equal(y, expected, strict=True)
        np.testing.assert_array_equal(
            backward(y, x, *arguments), backward(y[None], x[None], *arguments)[0], strict=True
        )
    y, indices = getattr(fastdl, f"max_pool{rank}d")(x, 2, return_indices=True)
    assert indices.shape == y.shape
    back = getattr(fastdl, f"max_unpool{rank}d")(y, indices, 2, output_size=x.shape[1:])
    assert back.shape == x.shape
    np.testing.assert_array_equal(getattr(fastdl, f"max_unpool{rank}d_backward")(back, indices), y, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_by_two_of_any_width(level: str, dtype: Any) -> None:
    """Rows that are joined in a vector, that fill some, that end within one; with ties, NaN and infinities, and nothing
    touched before and after the arrays. All is chosen, or a sum of small integers: exact."""
    rng = np.random.default_rng(0)
    for width in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 17, 18, 24, 28, 31, 32, 33, 34, 47, 66):
        for height, planes, stride, dilation in [(2, 7, 2, 1), (4, 5, 2, 1), (6, 1, 2, 1), (7, 3, (3, 2), (2, 1))]:
            x = rng.integers(-3, 4, (planes, height, width)).astype(dtype)
            x.flat[:: 2 * width + 1] = np.nan
            x.flat[3 :: width + 2] = rng.choice([-np.inf, np.inf, np.nan])
            form: Any = {"stride": stride, "dilation": dilation}
            where = f"{x.shape} {form}"
            y, indices = reference.max_pool2d(x, 2, **form, return_indices=True)
            grad = rng.integers(1, 9, y.shape).astype(dtype)
            given = Guarded.holding(x)
            guarded = Guarded(y.shape, dtype)
            np.testing.assert_array_equal(fastdl.max_pool2d(given.array, 2, **form, out=guarded.array), y, where)
            guarded.check()
            guarded = Guarded(y.shape, dtype)
            out, at = fastdl.max_pool2d(given.array, 2, **form, return_indices=True, out=guarded.array)
            np.testing.assert_array_equal(out, y, where)
            np.testing.assert_array_equal(at, indices, where)
            back = Guarded(x.shape, dtype)
            fastdl.max_pool2d_backward(Guarded.holding(grad).array, given.array, 2, **form, out=back.array)
            expected = reference.max_pool2d_backward(grad, x, 2, **form)
            np.testing.assert_array_equal(back.array, expected, where)
            for divisor in (None, 3) if dilation == 1 else ():
                fastdl.avg_pool2d(given.array, 2, stride, divisor_override=divisor, out=guarded.array)
                expected = reference.avg_pool2d(x.astype(np.float64), 2, stride, divisor_override=divisor)
                np.testing.assert_array_equal(guarded.array, expected.astype(dtype), where)
            guarded.check(), back.check(), given.check()


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("draw", ["ties", "infinities", "NaN"])
def test_gradient_of_three_by_three_of_any_width(level: str, stride: int, draw: str) -> None:
    """Rows of several planes in a vector, that fill one, that need several; nothing touched before and after. Sums of
    small integers: exact."""
    rng = np.random.default_rng(0)
    for width in (1, 2, 3, 4, 5, 7, 8, 9, 13, 14, 15, 16, 17, 23, 30, 31, 32, 33, 34, 47, 49, 63, 64, 65, 97):
        for height, planes, padding, ceil_mode in [
            (3, 9, 0, False),
            (4, 6, 1, True),
            (8, 5, 0, True),
            (7, 1, 1, False),
        ]:
            if width + 2 * padding < 3:
                continue
            x = rng.integers(-2, 3, (planes, height, width)).astype(np.float32)
            if draw != "ties":
                x.flat[:: width + 2] = rng.choice([-np.inf, np.inf])
                x[0] = -np.inf
            if draw == "NaN":
                x.flat[5 :: 2 * width + 3] = np.nan
            form: Any = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
            y = reference.max_pool2d(x, 3, **form)
            grad = rng.integers(1, 9, y.shape).astype(np.float32)
            back = Guarded(x.shape, np.float32)
            given = Guarded.holding(grad).array, Guarded.holding(x).array
            fastdl.max_pool2d_backward(*given, 3, **form, out=back.array)
            expected = reference.max_pool2d_backward(grad, x, 3, **form)
            np.testing.assert_array_equal(back.array, expected, f"{x.shape} {form}")
            back.check()


@pytest.mark.parametrize("compiled", [False, True])
def test_an_empty_stride_is_the_kernel(compiled: bool) -> None:
    x = np.arange(24.0).reshape(1, 4, 6)
    y = fastdl.max_pool2d(x, (2, 3))
    calls: dict[str, Any] = {
        "max_pool2d": lambda stride: fastdl.max_pool2d(x, (2, 3), stride),
        "max_pool2d_backward": lambda stride: fastdl.max_pool2d_backward(y, x, (2, 3), stride),
        "avg_pool2d": lambda stride: fastdl.avg_pool2d(x, (2, 3), stride),
        "avg_pool2d_backward": lambda stride: fastdl.avg_pool2d_backward(y, x, (2, 3), stride),
        "lp_pool2d": lambda stride: fastdl.lp_pool2d(x, 2.0, (2, 3), stride),
        "lp_pool2d_backward": lambda stride: fastdl.lp_pool2d_backward(y, x, 2.0, (2, 3), stride),
    }
    for name, call in calls.items():
        found = (pytest.importorskip("numba").njit(call) if compiled else call)(())
        np.testing.assert_array_equal(found, call(None), err_msg=name, strict=True)


_REFILLED = """
import threading, time
import numpy as np
import fastdl

x = np.ones((4, 16, 48, 48), np.float32)
y, right = fastdl.max_pool2d(x, 2, return_indices=True)
indices = right.copy()
done = False

def refill():
    while not done:
        indices[...] = 1 << 44
        indices[...] = right

thread = threading.Thread(target=refill)
thread.start()
calls = refused = 0
end = time.monotonic() + 2
while time.monotonic() < end:
    for call in (
        lambda: fastdl.max_unpool2d(y, indices, 2),
        lambda: fastdl.max_unpool2d_backward(x, indices),
        lambda: fastdl.max_pool2d_backward(y, x, 2, indices=indices),
    ):
        calls += 1
        try:
            call()
        except ValueError as error:
            assert str(error).startswith("indices: found")
            refused += 1
done = True
thread.join()
print(calls, refused)
"""


def test_positions_that_another_thread_writes() -> None:
    """Refused or used, but never trusted for having been right before: the process goes on."""
    ran = subprocess.run([sys.executable, "-c", _REFILLED], cwd=HOME, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    calls, refused = map(int, ran.stdout.split())
    assert 0 < refused < calls
