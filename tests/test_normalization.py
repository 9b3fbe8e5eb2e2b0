"""Normalization: means that are not finite, scales that squares do not survive, statistics as they are handed on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import nn
from tests.support import DTYPES

_FORMS: dict[str, dict[str, Any]] = {
    "batch_norm": {"training": True},
    "instance_norm": {},
    "group_norm": {"num_groups": 2},
    "layer_norm": {"normalized_shape": (4, 35)},
    "rms_norm": {"normalized_shape": (35,)},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", _FORMS)
@pytest.mark.parametrize("exponent", [-900, -560, -400, -70, 70, 120, 400, 560, 900])
def test_scale_of_x(name: str, dtype: Any, exponent: int, level: str) -> None:
    """Without eps, x times a power of two gives the same y, and the gradient divided by it; float64 included."""
    if dtype == np.float32 and abs(exponent) > 125:
        return
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, 3, 4, 35)).astype(dtype)[:, 0], rng.standard_normal((2, 4, 35)).astype(dtype)
    forward, backward = getattr(fastdl, name), getattr(fastdl, f"{name}_backward")
    form = _FORMS[name] | {"eps": 0.0}
    y, *stats = forward(x, **form, return_stats=True)
    scaled, *scaled_stats = forward(np.ldexp(x, exponent), **form, return_stats=True)
    tolerance = 64 * np.finfo(dtype).eps
    np.testing.assert_allclose(scaled, y, rtol=0, atol=4 * tolerance)
    np.testing.assert_allclose(np.ldexp(scaled_stats[-1], exponent), stats[-1], rtol=tolerance)
    names = ("mean", "rstd")[-len(stats) :]
    for known in ({}, dict(zip(names, scaled_stats, strict=True))):
        want = backward(grad, x, **form)
        got = backward(grad, np.ldexp(x, exponent), **form, **known)
        np.testing.assert_allclose(np.ldexp(got.input, exponent), want.input, rtol=0, atol=16 * tolerance)
        np.testing.assert_allclose(got.weight, want.weight, rtol=0, atol=64 * tolerance)


@pytest.mark.parametrize("size", [3, 100, 3000, 20_000])
@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf], [np.inf, np.nan]], ids=str)
def test_means_of_what_is_not_finite(values: list[float], size: int, level: str) -> None:
    """Wherever it is, in rows, runs and columns."""
    rng = np.random.default_rng(0)
    for _ in range(8):
        x = rng.standard_normal((2, size)).astype(np.float32)
        x[0, rng.choice(size, len(values), replace=False)] = values
        with np.errstate(invalid="ignore"):
            want = x.astype(np.float64).mean(1)
        columns, running = np.ascontiguousarray(x.T), (np.zeros(2, np.float32), np.ones(2, np.float32))
        found = {
            "rows": fastdl.layer_norm(x, size, return_stats=True)[1],
            "runs": fastdl.instance_norm(x[None], return_stats=True)[1][0],
            "columns": fastdl.batch_norm(columns, *running, training=True, return_stats=True)[1],
            "running": running[0] / np.float32(0.1),
        }
        for driver, mean in found.items():
            np.testing.assert_allclose(mean, want, rtol=1e-5, atol=1e-6, err_msg=driver)
        assert np.isnan(running[1][0])
        assert np.isfinite(running[1][1])


@pytest.mark.parametrize(
    ("layer", "name", "form"),
    [
        (nn.BatchNorm1d(4), "batch_norm", {"training": True}),
        (nn.InstanceNorm1d(4, affine=True), "instance_norm", {}),
        (nn.GroupNorm(2, 4), "group_norm", {"num_groups": 2}),
        (nn.LayerNorm((4, 50)), "layer_norm", {"normalized_shape": (4, 50)}),
        (nn.RMSNorm(50), "rms_norm", {"normalized_shape": 50}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_backward_of_a_layer_is_that_of_the_function(layer: Any, name: str, form: dict[str, Any]) -> None:
    """To the last digit, also where the mean is far from 0: statistics are handed on in float64."""
    rng = np.random.default_rng(0)
    x = (1000 + rng.standard_normal((3, 4, 50))).astype(np.float32)
    grad = rng.standard_normal(x.shape).astype(np.float32)
    layer(x)
    got = layer.backward(grad)
    want = getattr(fastdl, f"{name}_backward")(grad, x, weight=layer.weight, **form)
    np.testing.assert_allclose(got, want.input, rtol=1e-6, atol=1e-6 * np.abs(want.input).max())
