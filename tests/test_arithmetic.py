"""What the cases of arithmetic, reductions and matmul do not show: numbers, views, programs, sums of many terms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastdl
from tests.support import DTYPES, on_each_level

_NAMES = ("add", "sub", "mul", "div", "pow", "maximum", "minimum")


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("first", [False, True])
def test_a_number_is_an_array_of_one(name: str, first: bool) -> None:
    """Forward, and the gradient in the array; of the number there is none."""
    x = np.random.default_rng(0).uniform(0.5, 2, (5, 7))
    number, one = 1.5, np.array(1.5)
    of, backward = getattr(fastdl, name), getattr(fastdl, f"{name}_backward")
    given, arrays = ((number, x), (one, x)) if first else ((x, number), (x, one))
    y = of(*given)
    np.testing.assert_array_equal(y, of(*arrays))
    found, expected = backward(y, *given), backward(y, *arrays)
    np.testing.assert_array_equal(found[first], expected[first])
    assert found[not first].shape == (0,)


def test_where_takes_numbers() -> None:
    x, chosen = np.arange(6.0).reshape(2, 3), np.array([[True], [False]])
    np.testing.assert_array_equal(fastdl.where(chosen, x, 9.0), np.where(chosen, x, 9.0))
    np.testing.assert_array_equal(fastdl.where(chosen, 9, x), np.where(chosen, 9.0, x))
    grad, none = fastdl.where_backward(x, chosen, x, 9.0)
    np.testing.assert_array_equal(grad, np.where(chosen, x, 0))
    assert none.shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
@on_each_level
def test_powers(dtype: Any, level: str) -> None:
    """Those that are computed otherwise are as exact as C's, at all magnitudes."""
    rng = np.random.default_rng(0)
    x = np.concatenate([10.0 ** rng.uniform(-12, 12, 99), [0.0, -0.0, np.inf, -np.inf, np.nan, -2.0]]).astype(dtype)
    for exponent in (2, 3, 1, 0.5, -0.5, -1, -2, 0):
        with np.errstate(all="ignore"):
            expected = np.power(x.astype(np.float64), exponent)
        if exponent in (0.5, -0.5):  # NumPy's root of -0 and of -infinity is C's sqrt
            expected[-3] = np.inf if exponent > 0 else 0.0
            expected[-5] = 0.0 if exponent > 0 else np.inf
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(fastdl.pow(x, exponent), expected.astype(dtype), 3 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@on_each_level
def test_powers_of_arrays(dtype: Any, level: str) -> None:
    """As C's at all edges, every base with every exponent; and within 0.6 of the last place everywhere."""
    info = np.finfo(dtype)
    most = 2.0 ** (info.nmant + 1)
    edges = [
        0,
        1,
        2,
        3,
        0.5,
        1.5,
        7,
        math.inf,
        info.max,
        info.tiny,
        info.smallest_subnormal,
        1 + info.eps,
        1 - info.epsneg,
    ]
    edges += [most, most - 1, most + 2, most / 2 + 0.5]
    values = np.array([*edges, *(-edge for edge in edges), math.nan]).astype(dtype)
    x, y = (np.ascontiguousarray(a) for a in np.meshgrid(values, values))
    wide = np.longdouble if np.finfo(np.longdouble).nmant > 52 else np.float64
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(wide), y.astype(wide))
        expected = exact.astype(dtype)
    found = fastdl.pow(x, y)
    np.testing.assert_array_max_ulp(np.nan_to_num(found), np.nan_to_num(expected), 1)
    for test in (np.isnan, np.isinf, np.signbit):
        defined = ~np.isnan(expected) if test is np.signbit else np.ones_like(x, bool)
        np.testing.assert_array_equal(test(found)[defined], test(expected)[defined], test.__name__)
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(-80, 80, 20000)).astype(dtype)
    y = (rng.uniform(-1, 1, x.size) * 87 / np.abs(np.log(x))).astype(dtype)
    x[::3], y[::3] = rng.uniform(0.5, 2, x[::3].size), rng.uniform(-120, 120, x[::3].size)
    exact = np.power(x.astype(wide), y.astype(wide))
    normal = (exact > info.tiny) & (exact < info.max)
    units = np.abs(fastdl.pow(x, y)[normal] - exact[normal]) / np.spacing(exact[normal].astype(dtype))
    assert units.max() < (0.6 if dtype == np.float32 else 1)


def _heads(rng: np.random.Generator) -> tuple[Any, Any]:
    x = rng.standard_normal((2, 9, 4, 5)).astype(np.float32)
    return x.transpose(0, 2, 1, 3), x.transpose(0, 2, 3, 1)


@on_each_level
def test_matrices_are_read_where_they_lie(level: str) -> None:
    """Transposes, heads, slices and repeated batches give what copies of them give, which are made of all else only."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((4, 12, 14)).astype(np.float32) for _ in range(2))
    pairs = [
        _heads(rng),
        (x, y.swapaxes(1, 2)),
        (x.swapaxes(1, 2), y),
        (x.swapaxes(1, 2), np.broadcast_to(y[:1], y.shape)),
        (x[:, :, 3:9], y[:, 5:11]),
        (x[::-1], y[::2].repeat(2, 0).swapaxes(1, 2)),
        (x[0].T, y[0]),
        (x[0].T, y[0, :, 3:4]),
        (x[0, :, 3:4].T, y[0]),
    ]
    copied = [(x[0].T, y[0, :, 3]), (x[:, :, ::2], y[:, :7]), (x[:, ::-1], y.swapaxes(1, 2))]
    for a, b in pairs + copied:
        assert len(fastdl.record(lambda a=a, b=b: fastdl.matmul(a, b))) == 1 + any(a is one for one, _ in copied)
        expected = np.matmul(a.astype(np.float64), b)
        np.testing.assert_allclose(fastdl.matmul(a, b), expected, rtol=1e-5, atol=1e-5)
        grad = rng.standard_normal(expected.shape).astype(np.float32)
        for found, plain in zip(
            fastdl.matmul_backward(grad, a, b), fastdl.matmul_backward(grad, np.array(a), np.array(b)), strict=True
        ):
            np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-5)


def test_views_are_part_of_a_program() -> None:
    """An attention, in which heads are views."""
    chosen = np.arange(12) % 3 > 0

    def attention(x: Any, weights: Any) -> Any:
        q, k, v = (fastdl.matmul(x, w).reshape(2, 9, 4, 3).transpose(0, 2, 1, 3) for w in weights)
        scores = fastdl.softmax(fastdl.mul(fastdl.matmul(q, k.swapaxes(-1, -2)), 3**-0.5))
        mixed = fastdl.matmul(scores, v).transpose(0, 2, 1, 3)
        y = fastdl.add(fastdl.mul(mixed, 1.0).reshape(2, 9, 12), x)
        centred = fastdl.sub(y, fastdl.mean(y, -1, True))
        scaled = fastdl.div(centred, fastdl.pow(fastdl.add(fastdl.mean(fastdl.pow(centred, 2), -1, True), 1e-5), 0.5))
        positive = fastdl.where(chosen, fastdl.maximum(scaled, 0.0), x)
        return positive, fastdl.amax_backward(fastdl.amax(y, 1), y, fastdl.amax(y, 1), 1), fastdl.sum(y, (0, 2))

    rng = np.random.default_rng(0)
    many = [(rng.standard_normal((2, 9, 12)), tuple(rng.standard_normal((3, 12, 12)))) for _ in range(3)]
    program = fastdl.record(attention, *many[0])
    for given in many:
        for found, expected in zip(program(*given), attention(*given), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(4_000_000,), (2, 2_000_000), (2_000_000, 2), (400_000, 9)])
@on_each_level
def test_sums_of_many_terms(shape: tuple[int, ...], level: str) -> None:
    """Right to a few 10^-6 of themselves: one accumulator would be off by 10^-2, pairs of them by 10^-7."""
    x = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    for dim in (None, *range(len(shape))):
        expected = x.sum(dim, dtype=np.float64)
        np.testing.assert_allclose(fastdl.sum(x, dim), expected, rtol=1e-6)
        np.testing.assert_allclose(fastdl.mean(x, dim), expected * (np.size(expected) / x.size), rtol=1e-6)
