"""Activations with shapes, options and numbers drawn at random, NaN, infinity, bounds and 0 among them, against torch.

torch's gradients at NaN depend on the length of an array where its vectors differ from its formulas; it is given arrays
that it takes element by element.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdl
from tests.cases.activation import ELEMENTWISE

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional

Rng = np.random.Generator
DRAWS = 40

# Options of each, drawn.
OPTIONS: dict[str, Callable[[Rng], dict[str, Any]]] = {
    "leaky_relu": lambda rng: {"negative_slope": _some(rng, -0.5, 0.0, 0.25, 2)},
    "elu": lambda rng: {"alpha": _some(rng, -0.5, 0.0, 0.25, 2)},
    "celu": lambda rng: {"alpha": _some(rng, -0.5, 0.25, 2)},
    "gelu": lambda rng: {"approximate": _some(rng, "none", "tanh")},
    "softplus": lambda rng: {"beta": _some(rng, -0.5, 0.25, 2), "threshold": _some(rng, 0.0, 3.0, 20)},
    "hardtanh": lambda rng: {"min_val": _some(rng, -2.0, -1, 0.0), "max_val": _some(rng, 0.0, 0.5, 3)},
    "threshold": lambda rng: {"threshold": _some(rng, -1.0, 0, 0.5), "value": _some(rng, -9.0, 0, 20)},
    "hardshrink": lambda rng: {"lambd": _some(rng, -0.5, 0.0, 0.5, 2)},
    "softshrink": lambda rng: {"lambd": _some(rng, 0.0, 0.5, 2)},
    "softmax": lambda rng: {"dim": int(rng.integers(-3, 3))},
    "softmin": lambda rng: {"dim": int(rng.integers(-3, 3))},
    "log_softmax": lambda rng: {"dim": int(rng.integers(-3, 3))},
    "glu": lambda rng: {"dim": int(rng.integers(-3, 3))},
}
SPECIAL = (
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    3.0,
    -3.0,
    6.0,
    2.0,
    -2.0,
    20.0,
    1e-30,
    30.0,
    -30.0,
)
NAMES = (*ELEMENTWISE, "softmax", "softmin", "log_softmax", "glu", "prelu")


def _some(rng: Rng, *values: Any) -> Any:
    return values[rng.integers(len(values))]


def _shape(rng: Rng) -> tuple[int, ...]:
    return tuple(_some(rng, 0, 1, 2, 4, 6, int(rng.integers(1, 40))) for _ in range(_some(rng, 0, 1, 2, 2, 3, 3)))


def _numbers(rng: Rng, shape: tuple[int, ...], dtype: Any, special: bool) -> np.ndarray:
    x = np.asarray(3 * rng.standard_normal(shape))
    if special:
        x = np.where(rng.random(shape) < 0.3, rng.choice(SPECIAL, shape), x)
    return np.asarray(x, dtype)


def _by_torch(name: str, given: dict[str, np.ndarray], options: dict[str, Any], grad: np.ndarray | None) -> Any:
    """In float64 of the same numbers: y, and the gradients of x (and weight) for grad_output."""
    leaves = {key: torch.from_numpy(np.asarray(v, np.float64)).requires_grad_() for key, v in given.items()}
    x = torch.stack([leaves["x"], leaves["x"]], -1)[..., 0]
    function = getattr(F, name, None) or getattr(torch, name)
    y = function(x, *list(leaves.values())[1:], **options)
    if grad is None:
        return y.detach().numpy(), None
    grads = torch.autograd.grad(y, list(leaves.values()), torch.from_numpy(np.asarray(grad, np.float64)))
    return y.detach().numpy(), [g.numpy() for g in grads]


def _compare(name: str, got: np.ndarray, want: np.ndarray, x: np.ndarray) -> None:
    """Within what rounding x to the dtype and sums of a few terms of its size leave."""
    assert got.shape == want.shape
    epsilon = np.finfo(x.dtype).eps
    finite = np.abs(x[np.isfinite(x) & (np.abs(x) < 1e20)])
    tolerance = 64 * epsilon * (1 + float(finite.max(initial=0)))
    if name == "hardsigmoid_backward":
        tolerance = 64 * np.finfo(np.float32).eps  # torch rounds 1 / 6 to float32
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=name)


def _check(rng: Rng, name: str) -> bool:
    shape, dtype, options = _shape(rng), _some(rng, np.float32, np.float64), OPTIONS.get(name, lambda rng: {})(rng)
    x = _numbers(rng, shape, dtype, rng.random() < 0.5)
    given = {"x": x}
    if name == "prelu":
        channels = _some(rng, (), (1,), (shape[1],)) if len(shape) > 1 else _some(rng, (), (1,))
        given["weight"] = _numbers(rng, channels, dtype, False)
    try:
        y = getattr(fastdl, name)(**given, **options)
    except ValueError as error:
        with pytest.raises((RuntimeError, IndexError)):
            _by_torch(name, given, options, None)
        assert str(error).startswith(("dim: found", "x: found shape"))  # noqa: PT017
        return False
    grad = _numbers(rng, y.shape, dtype, False)
    expected, gradients = _by_torch(name, given, options, grad)
    _compare(name, y, expected, x)
    assert y.dtype == dtype
    function = getattr(fastdl, f"{name}_backward")
    takes = inspect.signature(function).parameters
    saved = {"y": y} if "y" in takes else given
    found = function(grad, **saved, **options)
    found = found if isinstance(found, tuple) else (found,)
    at_infinity = {"softsign": np.isinf(x), "gelu": np.abs(x) > 1e20}.get(name)  # NaN in torch
    for got, want in zip(found, gradients, strict=True):
        if at_infinity is not None:
            got, want = got[~at_infinity], want[~at_infinity]
        _compare(f"{name}_backward", got, want, x)
    if "out" in takes:  # in place, over each of the two
        for target in (grad, next(iter(saved.values()))):
            if target.shape != found[0].shape or name == "glu":
                continue
            arrays = {"grad_output": grad.copy()} | {key: value.copy() for key, value in saved.items()}
            out = arrays["grad_output"] if target is grad else arrays[next(iter(saved))]
            assert function(**arrays, **options, out=out) is out
            np.testing.assert_array_equal(out, found[0])
    if name != "glu":
        copies = {key: value.copy() for key, value in given.items()}
        assert getattr(fastdl, name)(**copies, **options, out=copies["x"]) is copies["x"]
        np.testing.assert_array_equal(copies["x"], y)
    return True


@pytest.mark.parametrize("name", NAMES)
def test_options_at_random(name: str) -> None:
    done = 0
    for seed in range(DRAWS):
        try:
            done += _check(np.random.default_rng((seed, 1)), name)
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed}: {error}") from error
    assert done > DRAWS / 5
