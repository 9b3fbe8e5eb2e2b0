"""Accuracy of the elementary functions: every float32, and many float64, on every level, in units in the last place.

The reference of float32 is float64 and that of float64 is long double (where it has 64 bits or more), in which NumPy
has all functions but erf; that one is a Taylor series around the nearest of many centres, checked against mpmath.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest

import fastdl

CHUNK = 1 << 16
"""Elements at a time: the temporary arrays stay in cache."""
MOST = 2.0
"""The largest error, in units in the last place of the exact result."""


def _taylor_of_erf(centre: Fraction, terms: int) -> list[Fraction]:
    """Taylor coefficients of erf around centre, to 2^-120."""
    unit = 1 << 160
    # erf(c) = 2 / sqrt(pi) * sum (-1)^k c^(2k+1) / (k! (2k+1)), e^(-c^2) likewise; 2 / sqrt(pi) from pi's digits
    c2 = centre * centre
    erf, gauss, term, k = Fraction(0), Fraction(0), Fraction(1), 0
    while abs(term) * unit > 1:
        gauss += term
        erf += term * centre / (2 * k + 1)
        k += 1
        term = Fraction(int(-term * c2 / k * (unit << 60)), unit << 60)
    pi = Fraction(3141592653589793238462643383279502884197169399375105820974944592307816406286, 10**75)
    scale = Fraction(math.isqrt(int(4 / pi * (1 << 400))), 1 << 200)
    slope = [gauss, -2 * centre * gauss]  # of e^(-x^2): (k + 1) s[k + 1] = -2 (c s[k] + s[k - 1])
    while len(slope) < terms:
        slope.append(-2 * (centre * slope[-1] + slope[-2]) / len(slope))
    return [scale * erf] + [scale * s / (i + 1) for i, s in enumerate(slope[: terms - 1])]


_STEP = 64  # centres a unit


@cache
def _erf_table(wide: Any) -> list[np.ndarray]:
    """Taylor coefficients around 0, 1 / 64, ... 7, an array for each power."""
    terms = 9 if wide == np.float64 else 13
    rows = [_taylor_of_erf(Fraction(i, _STEP), terms) for i in range(7 * _STEP + 1)]

    def number(x: Fraction) -> Any:
        high = float(x)
        return wide(high) + wide(float(x - Fraction(high)))

    return [np.array([number(row[k]) for row in rows], wide) for k in range(terms)]


def _erf(x: np.ndarray) -> np.ndarray:
    wide = x.dtype.type
    a = np.minimum(np.abs(x), wide(7))  # 1 - erf(7) is 4e-23
    index = np.rint(np.nan_to_num(a) * _STEP).astype(np.intp)
    h = a - index / wide(_STEP)
    table = _erf_table(wide)
    total = table[-1][index]
    for coefficients in table[-2::-1]:
        total *= h
        total += coefficients[index]
    return np.copysign(total, x)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


REFERENCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "erf": _erf,
}
NAMES = pytest.mark.parametrize("name", REFERENCES)


def reference(name: str, x: np.ndarray) -> np.ndarray:
    """f(x) in the next wider type, exact but for its last bits."""
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        return REFERENCES[name](x.astype(wide))


def worst_error(name: str, x: np.ndarray, expected: np.ndarray) -> float:
    """In units in the last place of the exact result, which for subnormal ones is the smallest number."""
    y = getattr(fastdl, name)(x)
    info = np.finfo(x.dtype)
    # Overflow to infinity counts as the power of two after the largest number.
    wide = expected.dtype.type
    beyond = np.ldexp(wide(1), info.maxexp)
    exact = np.clip(expected, -beyond, beyond)
    with np.errstate(all="ignore"):
        error = np.clip(y.astype(wide), -beyond, beyond) - exact
        if wide == np.float64:  # faster than frexp, for the exhaustive test
            bits = exact.view(np.int64) & (0x7FF << 52)
            bits -= info.nmant << 52
            unit = np.maximum(bits, (1023 + info.minexp - info.nmant) << 52).view(np.float64)
        else:
            unit = np.ldexp(wide(1), np.maximum(np.frexp(exact)[1] - 1, info.minexp) - info.nmant)
        error /= unit
    np.abs(error, out=error)
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    if not expected.all():  # signed zero: an exact 0 keeps its sign
        zero = expected == 0
        assert np.array_equal(np.signbit(y[zero]), np.signbit(expected[zero]))
    return float(np.fmax.reduce(error, initial=0.0))


def chunks(stop: int, step: int = 1) -> Iterator[np.ndarray]:
    for first in range(0, stop, CHUNK * step):
        yield np.arange(first, min(stop, first + CHUNK * step), step, np.uint64)


def float32_from_bits(bits: np.ndarray) -> np.ndarray:
    return bits.astype(np.uint32).view(np.float32)


def special(dtype: Any) -> np.ndarray:
    """Zero, the limits of the type, infinity, NaN, and the neighbours of points where a result or a method changes."""
    info = np.finfo(dtype)
    edges = [0, 1, 2, 0.5, 0.75, 1.5, 0.875, math.log(2) / 2, math.log(2), math.log(info.max), -math.log(info.tiny)]
    lowest = -math.log(info.smallest_subnormal)
    edges += [lowest, lowest + math.log(2), math.sqrt(0.5), math.sqrt(2)]
    edges += [info.tiny, info.max, info.smallest_subnormal, info.eps, info.epsneg, 3.92, 5.86, 9.01, 10, 19.06, 20, 100]
    edges += [2.0**k for k in range(info.minexp - info.nmant, info.maxexp)]
    bits = np.int32 if dtype == np.float32 else np.int64
    near = np.array(edges, dtype).view(bits)[:, None] + np.arange(-300, 301, dtype=bits)
    near = near[(near >= 0) & (near <= np.array(np.inf, dtype).view(bits))].view(dtype)
    return np.concatenate([near, -near, np.array([np.nan], dtype)])


def worst_of(name: str, x: np.ndarray) -> float:
    return worst_error(name, x, reference(name, x))


@NAMES
def test_float32(name: str, level: str) -> None:
    """Every 997th float32 and the special values."""
    assert worst_of(name, special(np.float32)) <= MOST
    for bits in chunks(1 << 32, 997):
        assert worst_of(name, float32_from_bits(bits)) <= MOST


@pytest.mark.slow
@NAMES
def test_every_float32(name: str) -> None:
    worst = dict.fromkeys(fastdl.supported_isas(), 0.0)
    before = fastdl.active_isa()
    try:
        for bits in chunks(1 << 32):
            x = float32_from_bits(bits)
            expected = reference(name, x)
            for level in worst:
                fastdl.use_isa(level)
                worst[level] = max(worst[level], worst_error(name, x, expected))
    finally:
        fastdl.use_isa(before)
    print(name, worst)
    assert max(worst.values()) <= MOST


def random_float64(size: int, seed: int) -> np.ndarray:
    """A third uniform where functions curve, a third over all exponents that matter, a third over all bit patterns."""
    rng = np.random.default_rng(seed)
    third = size // 3
    scale = np.ldexp(rng.uniform(-2, 2, third), rng.integers(-60, 11, third))
    return np.concatenate(
        [rng.uniform(-4, 4, third), scale, rng.integers(0, 1 << 64, size - 2 * third, np.uint64).view(np.float64)]
    )


needs_long_double = pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double is no wider than double")


@needs_long_double
@NAMES
def test_float64(name: str, level: str) -> None:
    assert worst_of(name, special(np.float64)) <= MOST
    assert worst_of(name, random_float64(100_000, 1)) <= MOST


@pytest.mark.slow
@needs_long_double
@NAMES
def test_much_float64(name: str) -> None:
    worst = dict.fromkeys(fastdl.supported_isas(), 0.0)
    before = fastdl.active_isa()
    try:
        for seed in range(1000):
            x = random_float64(100_000, seed)
            expected = reference(name, x)
            for level in worst:
                fastdl.use_isa(level)
                worst[level] = max(worst[level], worst_error(name, x, expected))
    finally:
        fastdl.use_isa(before)
    print(name, worst)
    assert max(worst.values()) <= MOST


@NAMES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_edges(name: str, dtype: Any, level: str) -> None:
    inf, nan = math.inf, math.nan
    edges = {  # at -inf, -0, 0, inf
        "exp": (0, 1, 1, inf),
        "expm1": (-1, -0.0, 0, inf),
        "log": (nan, -inf, -inf, inf),
        "log1p": (nan, -0.0, 0, inf),
        "tanh": (-1, -0.0, 0, 1),
        "sigmoid": (0, 0.5, 0.5, 1),
        "erf": (-1, -0.0, 0, 1),
    }
    y = getattr(fastdl, name)(np.array([-inf, -0.0, 0, inf, nan], dtype))
    expected = np.array([*edges[name], nan], dtype)
    np.testing.assert_array_equal(y, expected)
    assert np.array_equal(np.signbit(y[:4]) & (y[:4] == 0), np.signbit(expected[:4]) & (expected[:4] == 0))
    outside = {"log": [-1, -np.finfo(dtype).smallest_subnormal], "log1p": [-1.5, -np.finfo(dtype).max]}.get(name, [])
    assert np.isnan(getattr(fastdl, name)(np.array(outside, dtype))).all()


@needs_long_double
def test_reference() -> None:
    """The references themselves against mpmath, to 1 / 32 of a unit in the last place of float64."""
    mpmath = pytest.importorskip("mpmath")
    x = np.concatenate([random_float64(1500, 7)[:1000], special(np.float64)[::997]])
    x = x[np.abs(x) < 1e3]
    exact = {"sigmoid": lambda v: 1 / (1 + mpmath.exp(-v)), "log": lambda v: mpmath.log(v) if v > 0 else mpmath.nan}
    with mpmath.workprec(200):
        for name in REFERENCES:
            for a, y in zip(x.tolist(), reference(name, x), strict=True):
                if not np.isfinite(y):
                    continue
                mantissa, exponent = np.frexp(y)
                got = mpmath.ldexp(mpmath.mpf(int(np.ldexp(mantissa, 64))), int(exponent) - 64)
                true = exact.get(name, getattr(mpmath, name, None))(mpmath.mpf(a))
                assert abs(got - true) <= abs(true) * 2.0**-58, (name, a)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu(dtype: Any, level: str) -> None:
    """Within 7 units in the last place as far as results are normal, at the far end of the left tail too."""
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(0)
    lowest = {np.float32: -12.9, np.float64: -37.4}[dtype]
    x = np.concatenate([rng.uniform(lowest, 6, 2000), rng.standard_normal(1000), [lowest, -1e-30, 1e-30]]).astype(dtype)
    with mpmath.workdps(40):
        exact = [mpmath.mpf(float(v)) * mpmath.ncdf(mpmath.mpf(float(v))) for v in x]
        unit = np.spacing(np.abs(np.array([float(v) for v in exact]).astype(dtype)))
        pairs = zip(fastdl.gelu(x), exact, unit, strict=True)
        errors = [abs(float((mpmath.mpf(float(y)) - v) / mpmath.mpf(float(u)))) for y, v, u in pairs]
    assert max(errors) <= 7
    np.testing.assert_array_equal(fastdl.gelu(np.array([np.inf, np.nan, -1e30], dtype)), [np.inf, np.nan, 0])
