"""Arrays that are long in one dimension: scratch memory that does not grow with it, and sums of millions of terms.

Sums in float32: what has no bound is summed in blocks of 512 terms to some 10^5 and these are added up to more digits
(csrc/vector/sums.h), so that a result is right to some 10 roundings, 10^-6, whatever the number of terms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl._native import lib
from tests.support import on_each_level

_MIB = 1 << 20
_LONG = 5_000_000
_TERMS = 1 << 22


def _uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def _pooling(kernel: int, stride: int, padding: int = 0, dilation: int = 1) -> dict[str, Any]:
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}


_WINDOWS = {
    "overlapping": _pooling(3, 1, 1),
    "pairs": _pooling(2, 2),
    "strided": _pooling(3, 3),
    "dilated": _pooling(3, 1, 1, _LONG // 3),
    "dilated and strided": _pooling(3, 2, 1, _LONG // 3),
    "long": _pooling(_LONG // 2, _LONG // 4),
    "far apart": _pooling(5, _LONG // 4),
    "far apart and dilated": _pooling(5, _LONG // 4, 0, 2),
}


@pytest.fixture(scope="module")
def row() -> np.ndarray:
    return _uniform(1, 1, _LONG)


def _scratch(call: Callable[[], Any]) -> int:
    """Bytes, of the calling thread."""
    with fastdl.threads(1):
        lib.fdl_scratch_reset()
        call()
        return int(lib.fdl_scratch_peak())


@pytest.mark.parametrize("window", _WINDOWS)
def test_pooling_of_a_long_row_takes_little_memory(row: np.ndarray, window: str) -> None:
    """At most 4 MiB, less than a fifth of the row."""
    form = _WINDOWS[window]
    x: Any = row
    y = fastdl.max_pool1d(x, **form)
    plain = {name: value for name, value in form.items() if name != "padding"}
    calls: dict[str, Callable[[], Any]] = {
        "max": lambda: fastdl.max_pool1d(x, **form),
        "indices": lambda: fastdl.max_pool1d(x, **form, return_indices=True),
        "max backward": lambda: fastdl.max_pool1d_backward(y, x, **form),
        "average": lambda: fastdl.avg_pool1d(x, **form),
        "average backward": lambda: fastdl.avg_pool1d_backward(y, x, **form),
        "power": lambda: fastdl.lp_pool1d(x, 2.0, **plain),
        "power backward": lambda: fastdl.lp_pool1d_backward(fastdl.lp_pool1d(x, 2.0, **plain), x, 2.0, **plain),
    }
    for name, call in calls.items():
        assert _scratch(call) <= 4 * _MIB, name


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("channels", [1, 16, 17])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(5, 30000, 1), (5, 30000, 2), (4, 33000, 3), (3, 3, 1)])
def test_pooling_of_many_long_rows(channels: int, kernel: int, stride: int, dilation: int) -> None:
    """Their cuts may be so small that they would be taken side by side, were they not parts of longer rows."""
    x = np.random.default_rng(0).random((1, channels, 120_001), np.float32)
    form: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "dilation": dilation}
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel - 1) * dilation + 1, 2)[:, :, ::stride, ::dilation]
    y, indices = fastdl.max_pool1d(x, **form, return_indices=True)
    np.testing.assert_array_equal(y, windows.max(3))
    np.testing.assert_array_equal(np.take_along_axis(x, indices, 2), y)
    expected = np.zeros_like(x)
    np.put_along_axis(expected, indices, y, 2)  # no two windows have the same winner
    np.testing.assert_array_equal(fastdl.max_pool1d_backward(y, x, **form), expected)
    if dilation == 1:
        averages = fastdl.avg_pool1d(x, kernel, stride)
        np.testing.assert_allclose(averages, windows.mean(3), rtol=1e-6)
        grad = fastdl.avg_pool1d_backward(averages, x, kernel, stride)
        np.testing.assert_allclose(grad.sum(), averages.sum(), rtol=1e-5)


@pytest.mark.parametrize("size", [2, 3, _LONG // 3, _LONG - 1])
def test_adaptive_pooling_of_a_long_row_takes_little_memory(row: np.ndarray, size: int) -> None:
    for name in ("avg", "max"):
        pool = getattr(fastdl, f"adaptive_{name}_pool1d")
        y = pool(row, size)
        assert _scratch(lambda pool=pool: pool(row, size)) <= 4 * _MIB, name  # type: ignore[misc]
        backward = getattr(fastdl, f"adaptive_{name}_pool1d_backward")
        assert _scratch(lambda backward=backward, y=y: backward(y, row, size)) <= 4 * _MIB, name  # type: ignore[misc]


@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
def test_pooling_of_a_tall_image_takes_little_memory(data_format: str) -> None:
    x = _uniform(1, 1, _LONG // 4, 4) if data_format == "NCHW" else _uniform(1, _LONG // 4, 2, 2)
    form: dict[str, Any] = {"kernel_size": 2, "stride": 2, "data_format": data_format}
    y = fastdl.max_pool2d(x, **form)
    for name in ("max", "avg"):
        pool, backward = getattr(fastdl, f"{name}_pool2d"), getattr(fastdl, f"{name}_pool2d_backward")
        assert _scratch(lambda pool=pool: pool(x, **form)) <= 4 * _MIB, name  # type: ignore[misc]
        assert _scratch(lambda backward=backward: backward(y, x, **form)) <= 4 * _MIB, name  # type: ignore[misc]


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize(
    "form", [{}, {"stride": 2}, {"dilation": _LONG // 24}, {"stride": 2, "dilation": _LONG // 24}], ids=str
)
def test_convolution_of_a_long_row_takes_little_memory(channels: int, form: dict[str, Any]) -> None:
    x, weight = _uniform(1, channels, _LONG // 8), _uniform(channels, channels, 3)
    y = fastdl.conv1d(x, weight, **form)
    assert _scratch(lambda: fastdl.conv1d(x, weight, **form)) <= 4 * _MIB
    assert _scratch(lambda: fastdl.conv1d_backward(y, x, weight, **form)) <= 4 * _MIB
    assert _scratch(lambda: fastdl.conv_transpose1d(y, weight, **form)) <= 4 * _MIB


def _slow_max_pool(x: np.ndarray, kernel: int, stride: int, dilation: int) -> tuple[np.ndarray, np.ndarray]:
    """y [out] and the positions of x [size]; the first of equals."""
    start = np.arange((len(x) - (kernel - 1) * dilation - 1) // stride + 1) * stride
    at = start.copy()
    for tap in range(1, kernel):
        at = np.where(x[start + tap * dilation] > x[at], start + tap * dilation, at)
    return x[at], at


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [(3, 1, 1), (2, 2, 1), (3, 2, 1), (3, 3, 1), (4, 1, 40_001), (5, 2, 20_000), (3, 7, 60_000), (50, 40, 1)],
)
def test_cuts_of_a_long_row_do_not_show(kernel: int, stride: int, dilation: int) -> None:
    """Whole numbers, so that every sum is exact."""
    rng = np.random.default_rng(0)
    x: Any = rng.integers(-1000, 1000, (2, 1, 210_007)).astype(np.float32)
    form = _pooling(kernel, stride, 0, dilation)
    y, indices = fastdl.max_pool1d(x, **form, return_indices=True)
    expected = [_slow_max_pool(each[0], kernel, stride, dilation) for each in x]
    np.testing.assert_array_equal(y[:, 0], [values for values, _ in expected])
    np.testing.assert_array_equal(indices[:, 0], [places for _, places in expected])
    np.testing.assert_array_equal(fastdl.max_pool1d(x, **form), y)
    grad: Any = rng.integers(-8, 9, y.shape).astype(np.float32)
    back = np.zeros_like(x)
    for n in range(2):
        np.add.at(back[n, 0], indices[n, 0], grad[n, 0])
    np.testing.assert_array_equal(fastdl.max_pool1d_backward(grad, x, **form), back)

    start = np.arange(y.shape[2]) * stride
    sums = sum(x[:, :, start + tap * dilation] for tap in range(kernel))
    np.testing.assert_array_equal(fastdl.avg_pool1d(x, **form, divisor_override=1), sums)
    back = np.zeros_like(x)
    for tap in range(kernel):
        back[:, :, start + tap * dilation] += grad
    np.testing.assert_array_equal(fastdl.avg_pool1d_backward(grad, x, **form, divisor_override=1), back)


def _packed_linear(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return fastdl.linear(x, fastdl.pack_linear_weight(weight))


def _sums() -> dict[str, Callable[[], tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]]:
    """Calls, made when they are needed, each of which adds up some _TERMS numbers."""
    n, u = _TERMS, _uniform
    calls: dict[str, Any] = {}
    for layout, last in (("NCL", False), ("NLC", True)):

        def shape(batch: int, channels: int, length: int, last: bool = last) -> tuple[int, ...]:
            return (batch, length, channels) if last else (batch, channels, length)

        form = {"data_format": layout}
        calls |= {
            f"conv kernel {layout}": lambda s=shape, f=form: (fastdl.conv1d, (u(*s(1, 1, n)), u(1, 1, n)), f),
            f"conv depthwise kernel {layout}": lambda s=shape, f=form: (
                fastdl.conv1d,
                (u(*s(1, 4, n // 4)), u(4, 1, n // 4)),
                {**f, "groups": 4},
            ),
            f"conv channels {layout}": lambda s=shape, f=form: (
                fastdl.conv1d,
                (u(*s(1, n // 2, 4)), u(2, n // 2, 3)),
                f,
            ),
            f"conv filters backward {layout}": lambda s=shape, f=form: (
                fastdl.conv1d_backward,
                (u(*s(1, n // 2, 4)), u(*s(1, 2, 6)), u(n // 2, 2, 3)),
                f,
            ),
            f"conv batch backward {layout}": lambda s=shape, f=form: (
                fastdl.conv1d_backward,
                (u(*s(n // 8, 4, 2)), u(*s(n // 8, 4, 4)), u(4, 4, 3)),
                f,
            ),
            f"average {layout}": lambda s=shape, f=form: (fastdl.avg_pool1d, (u(*s(1, 2, n)), n - 5), f),
        }
        for channels, groups in ((1, 1), (4, 1), (4, 4), (32, 32)):
            calls[f"conv {channels}/{groups} backward {layout}"] = lambda s=shape, f=form, c=channels, g=groups: (
                fastdl.conv1d_backward,
                (u(*s(1, c, n // c - 2)), u(*s(1, c, n // c)), u(c, c // g, 3)),
                {**f, "groups": g},
            )
    for i, o in ((1, 1), (2, 3), (40, 50)):
        calls[f"linear batch backward {i} {o}"] = lambda i=i, o=o: (
            fastdl.linear_backward,
            (u(n // 4, o), u(n // 4, i), u(o, i)),
            {},
        )
    calls |= {
        "linear": lambda: (fastdl.linear, (u(2, n), u(2, n)), {}),
        "linear packed": lambda: (_packed_linear, (u(2, n // 4), u(20, n // 4)), {}),
        "linear of many rows": lambda: (fastdl.linear, (u(40, n // 4), u(20, n // 4)), {}),
        "linear outputs backward": lambda: (fastdl.linear_backward, (u(2, n), u(2, 2), u(n, 2)), {}),
        "conv2d kernel": lambda: (fastdl.conv2d, (u(1, 1, 2048, 2048), u(1, 1, 2048, 2048)), {}),
        "conv_transpose": lambda: (fastdl.conv_transpose1d, (u(1, n // 2, 4), u(n // 2, 2, 3)), {"stride": 2}),
        "replicate": lambda: (fastdl.pad_backward, (u(1, n), (n // 2, n // 2 - 1), "replicate"), {}),
        "replicate rows": lambda: (fastdl.pad_backward, (u(n, 2), (0, 0, n // 2, n // 2 - 1), "replicate"), {}),
        "replicate image": lambda: (fastdl.pad_backward, (u(2048, 2048), (1000, 1047, 1000, 1047), "replicate"), {}),
        "average of rows": lambda: (fastdl.avg_pool2d, (u(1, 1, n, 3), (n - 2, 2)), {}),
        "average dilated": lambda: (fastdl.avg_pool1d, (u(1, 1, n), n // 2 - 20), {"dilation": 2}),
        "average of an image": lambda: (fastdl.avg_pool2d, (u(1, 1, 2048, 2048), 2040), {}),
        "adaptive average": lambda: (fastdl.adaptive_avg_pool2d, (u(1, 1, 2048, 2048), 3), {}),
        "global average": lambda: (fastdl.adaptive_avg_pool1d, (u(1, 1, n), 1), {}),
        "power average": lambda: (fastdl.lp_pool1d, (u(1, 1, n), 2.0, n), {}),
        "power average of a part": lambda: (fastdl.lp_pool1d, (u(1, 1, n), 2.0, n - 20), {}),
        "prelu backward": lambda: (fastdl.prelu_backward, (u(n, 2), -u(n, 2), u(2)), {}),
        "softmax": lambda: (fastdl.softmax, (u(1, n),), {}),
        "softmax along rows": lambda: (fastdl.softmax, (u(n, 2), 0), {}),
        "log_softmax backward": lambda: (fastdl.log_softmax_backward, (u(1, n), -u(1, n)), {}),
        "layer_norm": lambda: (fastdl.layer_norm, (u(1, n), n), {}),
        "layer_norm backward": lambda: (fastdl.layer_norm_backward, (u(n, 2), u(n, 2), 2, u(2)), {}),
        "batch_norm backward": lambda: (
            fastdl.batch_norm_backward,
            (u(n, 2) ** 2, u(n, 2), None, None, u(2)),
            {"training": True},
        ),
        "cross_entropy": lambda: (fastdl.cross_entropy, (u(1, n), np.zeros(1, np.int64)), {}),
        "cross_entropy of many": lambda: (fastdl.cross_entropy, (u(n, 2), np.zeros(n, np.int64)), {"reduction": "sum"}),
        "mse_loss": lambda: (fastdl.mse_loss, (u(n), -u(n)), {"reduction": "sum"}),
        "l1_penalty": lambda: (fastdl.l1_penalty, (u(n),), {}),
    }
    return calls


_SUMS = _sums()


def _results(returned: Any) -> list[np.ndarray]:
    if isinstance(returned, tuple):
        return [each for part in returned for each in _results(part)]
    return [] if returned is None else [np.asarray(returned)]


def _wide(value: Any) -> Any:
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value


@pytest.mark.parametrize("name", _SUMS)
@on_each_level
def test_sums_of_millions_of_terms(level: str, name: str) -> None:
    """Against the same in float64: to 5 10^-6; one accumulator is off by up to 2 10^-3."""
    call, arguments, options = _SUMS[name]()
    found = _results(call(*arguments, **options))
    expected = _results(call(*map(_wide, arguments), **options))
    for got, want in zip(found, expected, strict=True):
        assert np.abs(got - want).max() <= 5e-6 * np.abs(want).max(), name
