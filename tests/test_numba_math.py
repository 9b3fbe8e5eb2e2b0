"""fastdl.numba.math: how exact the functions are, at their edges too, and that loops over them are vectorised."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

import numba

from fastdl.numba import math as vectors

WIDE = np.longdouble
"""At least float64: what is rounded to it from more digits is a reference for float32 everywhere."""
ROUNDINGS = {
    **{"absolute": 0, "sqrt": 0.5, "rint": 0, "floor": 0, "ceil": 0, "sign": 0},
    **{"exp": 1.5, "expm1": 2, "log": 1.5, "log1p": 1.5, "tanh": 1.5, "sigmoid": 2, "erf": 1.5},
    **{"sin": 1.5, "cos": 1.5, "tan": 2.5, "arctan": 2, "sinh": 2, "cosh": 2.5, "softplus": 1.5},
}
"""The largest error, in units of the last place of the result: docs/vector-math.md has this table."""


def _loop(function: Any) -> Any:
    @numba.njit(error_model="numpy")
    def loop(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    return loop


def _wide(name: str, x: Any) -> Any:
    x = x.astype(WIDE)
    if name == "sigmoid":
        return 1 / (1 + np.exp(-x))
    if name == "softplus":
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    if name == "erf":
        return np.array([math.erf(float(each)) for each in x], WIDE)
    return getattr(np, name)(x)


def _points(name: str, dtype: Any) -> Any:
    rng = np.random.default_rng(0)
    x = [rng.standard_normal(2000) * scale for scale in (1e-3, 0.3, 1, 10)]
    if name in ("sin", "cos", "tan", "arctan"):
        x += [rng.standard_normal(1000) * 1e5, np.arange(-200, 200) * np.pi / 4]
    x = np.concatenate(x).astype(dtype)
    return np.abs(x) if name in ("sqrt", "log", "log1p") else x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ROUNDINGS)
def test_errors(name: str, dtype: Any) -> None:
    if dtype == np.float64 and np.finfo(WIDE).nmant < 63:
        pytest.skip("long double is no more exact than float64 here: nothing to compare with")
    x = _points(name, dtype)
    y = np.empty_like(x)
    _loop(getattr(vectors, name))(x, y)
    wanted = _wide(name, x)
    unit = np.spacing(np.abs(wanted).astype(dtype)).astype(WIDE)
    allowed = ROUNDINGS[name] + (1 if name == "erf" and dtype == np.float64 else 0)  # libm's own error
    assert np.max(np.abs(y - wanted) / unit) <= allowed


EDGES = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-40, -1e-40])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ROUNDINGS)
def test_edges(name: str, dtype: Any) -> None:
    x = EDGES.astype(dtype)
    y = np.empty_like(x)
    _loop(getattr(vectors, name))(x, y)
    with np.errstate(all="ignore"):
        wanted = _wide(name, x).astype(dtype)
    if name in ("sin", "cos", "tan"):
        wanted[np.abs(x) > 2.0**51] = np.nan
    np.testing.assert_allclose(y, wanted, rtol=1e-6, atol=0)
    zeros = np.abs(x) == 0
    np.testing.assert_array_equal(np.signbit(y[zeros]), np.signbit(wanted[zeros]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(ROUNDINGS))
def test_loops_are_vectorised(name: str, dtype: Any) -> None:
    loop = _loop(getattr(vectors, name))
    kind = numba.from_dtype(np.dtype(dtype))[::1]
    loop.compile((kind, kind))
    assembly = loop.inspect_asm(loop.signatures[0])
    if not re.search(r"%[xyz]mm\d", assembly):
        pytest.skip("no x86: nothing is known of this processor's vectors")
    assert re.search(r"\bv\w+p[sd]\s.*%[yz]mm", assembly), "no instruction of whole vectors"
    assert not re.search(rf"\bcall\w*\s.*{name}", assembly), "a call of one number after another"


def test_power_and_select() -> None:
    @numba.njit
    def both(x, y):
        return vectors.power(x, y), vectors.select(x > y, x, y)

    assert both(2.0, 3.0) == (8.0, 3.0)
    assert both(np.float32(2), np.float32(0.5)) == (np.float32(2) ** np.float32(0.5), np.float32(2))
