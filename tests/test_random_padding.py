"""Padding with shapes, borders and modes drawn at random, crops and sizes of 0 and 1 among them, against torch where it
has the mode for that many dimensions, and against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import reference

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional

Rng = np.random.Generator
MODES = ("constant", "reflect", "replicate", "circular")
DRAWS = 400


def _draw(rng: Rng, mode: str) -> tuple[np.ndarray, dict[str, Any]]:
    ndim = int(rng.integers(0, 6))
    shape = tuple(int(rng.choice([0, 1, 1, 2, 3, 4, 9], p=[0.05, 0.2, 0.1, 0.15, 0.2, 0.2, 0.1])) for _ in range(ndim))
    sides = [0] * (2 * int(rng.integers(0, ndim + 1)))
    for i in range(len(sides)):
        size = shape[-1 - i // 2]
        sides[i] = int(rng.integers(-2, size + 1)) if rng.random() < 0.7 else 0
    x = rng.integers(-9, 10, shape).astype(rng.choice([np.float32, np.float64]))
    form: dict[str, Any] = {"pad": tuple(sides), "mode": mode}
    if mode == "constant" and rng.random() < 0.7:
        form["value"] = [None, 0, 2.5, np.nan, np.inf][rng.integers(5)]
    return x, form


def _by_torch(x: np.ndarray, form: dict[str, Any], grad: np.ndarray) -> tuple[Any, Any] | None:
    """None where torch has no such padding, leaves the gradient of nothing as it finds it, or takes a circular border
    from what it has not written yet."""
    leaf = torch.from_numpy(x.copy()).requires_grad_()
    cropped = any(n < 0 for n in form["pad"])
    if form["mode"] != "constant" and (x.size == 0 or grad.size == 0 or (cropped and form["mode"] == "circular")):
        return None
    try:
        y = F.pad(leaf, **form)
    except (RuntimeError, NotImplementedError):
        return None
    if y.shape != grad.shape:
        return y.detach().numpy(), None
    (found,) = torch.autograd.grad(y, leaf, torch.from_numpy(grad), allow_unused=True)
    return y.detach().numpy(), np.zeros_like(x) if found is None else found.numpy()


@pytest.mark.parametrize("mode", MODES)
def test_options_at_random(mode: str) -> None:
    done = by_torch = 0
    for seed in range(DRAWS):
        rng = np.random.default_rng((seed, 2))
        x, form = _draw(rng, mode)
        try:
            y = fastdl.pad(x, **form)
        except ValueError:
            assert _by_torch(x, form, np.zeros(1)) is None, (x.shape, form)
            continue
        grad = rng.integers(-9, 10, y.shape).astype(x.dtype)
        options = {"pad": form["pad"], "mode": mode}
        found = fastdl.pad_backward(grad, **options)
        expected = [(reference.pad(x, **form), reference.pad_backward(grad, **options)), _by_torch(x, form, grad)]
        for pair in filter(None, expected):
            for got, want in zip((y, found), pair, strict=True):
                np.testing.assert_array_equal(got, want, err_msg=f"{x.shape}, {form}")
                assert got.dtype == x.dtype
        done += 1
        by_torch += expected[1] is not None
    assert done > DRAWS / 4
    assert by_torch > DRAWS / 20
