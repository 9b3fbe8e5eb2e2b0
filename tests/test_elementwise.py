"""Elementwise functions of a user's own: traced, derived, compiled, and used everywhere that an activation may be."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

import numba

import fastdl
from fastdl import nn, optim
from fastdl.numba import math as vectors

DTYPES = [np.float32, np.float64]


def _snake(x, alpha=1.0):
    return x + math.sin(alpha * x) ** 2 / alpha


def _helper(x):
    return 1 / (1 + np.exp(-x))


def _swish(x, beta=1.0):
    return x * _helper(beta * x)


def _branches(x):
    if x > 1:
        return 2 * x - 1
    if x < -1 or x == 0.25:
        return math.expm1(x)
    return x * x


def _loops(x):
    total = 0.0
    for n in range(1, 6):
        total = total + x**n / n
    return total


FUNCTIONS: dict[str, Any] = {
    "snake": _snake,
    "swish": _swish,
    "branches": _branches,
    "loops": _loops,
    "constant": lambda x: 3.0,
    "identity": lambda x: x,
    "where": lambda x: np.where(x > 0, x, np.log1p(np.abs(x))),
    "clip": lambda x: np.clip(x, -0.5, 0.5) + np.maximum(x, 0.1) - np.minimum(x, -0.1),
    "max": lambda x: max(x, 0.0) + min(1.0, x),
    "trigonometry": lambda x: math.cos(x) * np.tan(x / 4) + np.arctan(x) - np.sin(2 * x),
    "hyperbola": lambda x: np.sinh(x) / np.cosh(x) + np.tanh(x),
    "erf": lambda x: math.erf(x) * 0.5 + np.sqrt(x * x + 1),
    "powers": lambda x: (x * x + 0.5) ** 1.5 + x**3 + 1 / (x * x + 1) ** 2 + 2.0**x,
    "logarithms": lambda x: np.log2(x * x + 1) + np.log10(x * x + 2) + np.exp2(x) + np.logaddexp(x, 0.5),
    "whole": lambda x: np.floor(x) + np.ceil(x) * x + np.rint(x) + np.sign(x) * x,
    "logic": lambda x: np.where((x > -1) & ~(x > 1), x, -x),
    "functions": lambda x: vectors.sin(x) + vectors.exp(-abs(x)),
}


def _in_numpy(function: Any, x: Any, *parameters: float) -> Any:
    """In float64, one after the other."""
    return np.array([float(function(np.float64(each), *parameters)) for each in x.ravel()]).reshape(x.shape)


def _points(dtype: Any, size: int = 203) -> Any:
    return (3 * np.random.default_rng(0).standard_normal(size)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_agrees_with_the_scalar_function(name: str, dtype: Any) -> None:
    function, x = fastdl.elementwise(FUNCTIONS[name]), _points(dtype)
    wanted = _in_numpy(FUNCTIONS[name] if name != "functions" else lambda x: np.sin(x) + np.exp(-abs(x)), x)
    y = function(x)
    assert y.dtype == dtype
    scale = np.maximum(np.abs(wanted), 1)
    assert np.max(np.abs(y - wanted) / scale) < 100 * np.finfo(dtype).eps
    step = 1e-6
    low, high = (
        fastdl.elementwise(FUNCTIONS[name])(x.astype(np.float64) + sign * step).astype(np.float64) for sign in (-1, 1)
    )
    smooth = np.abs(high - low) < 1e-2  # no jump in between
    slope = function.backward(np.ones_like(x), x)
    difference = ((high - low) / (2 * step))[smooth]
    assert smooth.mean() > 0.9
    np.testing.assert_allclose(slope[smooth], difference, rtol=1e-4, atol=1e-4 if dtype == np.float64 else 1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_layouts_and_memory(dtype: Any) -> None:
    function = fastdl.elementwise(lambda x: x * x)
    for shape in ((), (0,), (1,), (7,), (3, 0, 2), (511,), (513,), (40, 1000)):
        x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        np.testing.assert_array_equal(function(x), x * x)
        np.testing.assert_allclose(function.backward(x, x), 2 * x * x, rtol=1e-6)
    x = np.arange(12, dtype=dtype).reshape(3, 4)
    np.testing.assert_array_equal(function(x.T), (x * x).T)
    out = np.empty_like(x)
    assert function(x, out=out) is out
    np.testing.assert_array_equal(out, x * x)
    again = x.copy()
    function(again, out=again)
    np.testing.assert_array_equal(again, x * x)


def test_threads_change_nothing() -> None:
    function, x = fastdl.elementwise(_snake), _points(np.float32, 100_003)
    with fastdl.threads(1):
        one = function(x), function.backward(x, x)
    with fastdl.threads(2):
        two = function(x), function.backward(x, x)
    np.testing.assert_array_equal(one, two)


def test_large_arguments_of_sines() -> None:
    """The quick way is for small numbers; where one of a block is large, the block is computed in another."""
    x = np.concatenate([np.linspace(-20_000, 20_000, 4001), [1e6, -1e9, 3e12]])
    for dtype in DTYPES:
        for of in (math.sin, math.cos):
            given = x.astype(dtype)
            wanted = getattr(np, of.__name__)(given.astype(np.float64))
            found = fastdl.elementwise(_of(of))(given)
            assert np.max(np.abs(found - wanted)) < 4 * np.finfo(dtype).eps
            in_place = given.copy()
            fastdl.elementwise(_of(of))(in_place, out=in_place)
            assert np.max(np.abs(in_place - wanted)) < 4 * np.finfo(dtype).eps
    zeros = fastdl.elementwise(_of(math.sin))(np.array([0.0, -0.0]))
    assert not np.signbit(zeros[0])
    assert np.signbit(zeros[1])
    special = np.array([np.nan, np.inf, -np.inf, 1e300, 0.5])
    found = fastdl.elementwise(_of(math.sin))(special)
    assert np.isnan(found[:4]).all()
    assert abs(found[4] - math.sin(0.5)) < 1e-15


def _of(function: Any) -> Any:
    return lambda x: function(x)


def test_a_derivative_that_is_given() -> None:
    rounding = fastdl.elementwise(lambda x: np.rint(x), derivative=lambda x: 1.0)  # the straight-through estimator
    x = _points(np.float64)
    np.testing.assert_array_equal(rounding(x), np.rint(x))
    np.testing.assert_array_equal(rounding.backward(x, x), x)


def test_parameters() -> None:
    function, x = fastdl.elementwise(_snake), _points(np.float64)
    np.testing.assert_allclose(function(x, 2.0), x + np.sin(2 * x) ** 2 / 2)
    np.testing.assert_array_equal(function(x, alpha=2), function(x, 2.0))
    np.testing.assert_allclose(function.backward(x, x, alpha=2.0), x * (1 + 2 * np.sin(2 * x) * np.cos(2 * x)))
    needs = fastdl.elementwise(lambda x, a, b=1.0: a * x + b)
    np.testing.assert_allclose(needs(x, 3.0), 3 * x + 1)


def test_in_networks() -> None:
    snake = fastdl.elementwise(_snake)
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(3, 8, rng=0), nn.Elementwise(snake, alpha=2.0), nn.Linear(8, 2, rng=1))
    nn.gradcheck(net, rng.standard_normal((5, 3)))
    x, target = rng.standard_normal((64, 3)).astype(np.float32), rng.integers(0, 2, 64)
    step = nn.compile_step(net, nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=0.05), x, target)
    losses = [float(step(x, target)) for _ in range(200)]
    assert losses[-1] < 0.5 * losses[0]
    assert "snake" in repr(net)
    with pytest.raises(TypeError, match=r"_snake: found arguments \['gamma'\]"):
        nn.Elementwise(snake, gamma=1.0)


_SNAKE = fastdl.elementwise(_snake)


def test_inside_njit() -> None:
    @numba.njit
    def run(function, grad, x, out):
        y = _SNAKE(x)
        return y, function(y, alpha=2.0), _SNAKE.backward(grad, x, 3.0), function(x, 0.5, out)

    x = _points(np.float32)
    out = np.empty_like(x)
    found = run(_SNAKE, x, x, out)
    y = _SNAKE(x)
    wanted = y, _SNAKE(y, 2.0), _SNAKE.backward(x, x, 3.0), _SNAKE(x, 0.5)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(numba.TypingError, match="x: found dtype <i8, expected float32 or float64"):
        run(_SNAKE, x, np.arange(3), out)
    with pytest.raises(numba.TypingError, match="alpha"):
        numba.njit(lambda x: _SNAKE(x, "one"))(x)
    with pytest.raises(ValueError, match="grad_output: found"):
        numba.njit(lambda grad, x: _SNAKE.backward(grad, x))(x[:3], x)


def test_is_not_cached_with_an_address_of_this_process(tmp_path: Any) -> None:
    with pytest.warns(numba.NumbaWarning, match="dynamic globals"):
        numba.njit(cache=True)(_calls)(_points(np.float32))


def _calls(x):
    return _SNAKE(x)


def test_in_programs() -> None:
    x = _points(np.float32)

    def step(x):
        y = _SNAKE(x, alpha=2.0)
        return y, _SNAKE.backward(y, x, alpha=2.0)

    program = fastdl.record(step, x)
    other = 2 * x
    for a, b in zip(program(other), step(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_pickles_by_name() -> None:
    again = pickle.loads(pickle.dumps(_SNAKE))
    x = _points(np.float64)
    np.testing.assert_array_equal(again(x), _SNAKE(x))


MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (lambda: fastdl.elementwise(3), TypeError, "function: found int"),
    (lambda: fastdl.elementwise(lambda: 1), ValueError, r"function: found \(\)"),
    (lambda: fastdl.elementwise(lambda *x: 1), ValueError, r"function: found \(\*x\)"),
    (lambda: fastdl.elementwise(lambda x, a, b, c, d, e: x), ValueError, "at most 4 parameters"),
    (lambda: fastdl.elementwise(lambda x: float(x)), TypeError, "converted by float"),
    (lambda: fastdl.elementwise(lambda x: np.arcsin(x)), TypeError, "found arcsin"),
    (lambda: fastdl.elementwise(lambda x: "no"), TypeError, "returns str"),
    (lambda: fastdl.elementwise(lambda x: x + "no"), TypeError, "found str as an operand of add"),
    (lambda: fastdl.elementwise(_many_ways), ValueError, "more than 64 ways"),
    (lambda: fastdl.elementwise(lambda x: x, derivative=lambda x, y: 1.0), ValueError, "derivative: found"),
    (lambda: _SNAKE(np.arange(3)), TypeError, "x: found dtype <i8"),
    (lambda: _SNAKE(np.ones(3), "a"), TypeError, "alpha: found"),
    (lambda: _SNAKE(np.ones(3), 1.0, 2.0), TypeError, "found arguments"),
    (lambda: _SNAKE(np.ones(3), out=np.ones(4)), ValueError, "out: found"),
    (lambda: _SNAKE.backward(np.ones(4), np.ones(3)), ValueError, "grad_output: found"),
    (lambda: fastdl.elementwise(lambda x, a: a)(np.ones(3)), TypeError, "found no a"),
]


def _many_ways(x):
    total = 0
    for n in range(10):
        total = total + 1 if x > n and x < 2 * n else total
    return total


@pytest.mark.parametrize(("mistake", "error", "message"), MISTAKES)
def test_mistakes(mistake: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mistake()
