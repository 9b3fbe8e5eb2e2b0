"""Losses: rows and classes around vector widths, every reduction, scores far apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl import reference
from tests.cases.case import Arguments, Array, Backward, Case, Draw, declare


def _spread(x: Array) -> float:
    finite = x[np.isfinite(x)]
    return float(np.ptp(finite)) if finite.size else 0.0


def _loss(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Absolute, a row: a few roundings of log(sum(exp)) and of x - max, whose difference the loss is; then the sum."""
    rows, classes = a["x"].shape
    row = 8 + 2 * np.sqrt(classes) + 2 * _spread(a["x"])
    return ((rows if a["reduction"] == "sum" else 1) * row + np.abs(expected[0]),)


def _loss_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """As softmax, relative to the terms of g (softmax - onehot) taken positive."""
    onehot = np.zeros_like(a["x"])
    onehot[np.arange(len(onehot)), a["target"]] = 1
    scale = np.abs(np.reshape(a["grad_output"], (-1, 1))) / (len(onehot) if a["reduction"] == "mean" else 1)
    terms = scale * (reference.softmax(a["x"]) + onehot)
    return ((8 + np.sqrt(onehot.shape[1]) + _spread(a["x"])) * terms,)


def _cross_entropy(rows: int, classes: int, reduction: str = "mean", x: Draw | None = None, **form: Any) -> Case:
    return declare(
        "cross_entropy",
        {"x": x or (rows, classes), "target": lambda rng: rng.integers(0, classes, rows)},
        (rows,) if reduction == "none" else (),
        reduction=reduction,
        flops=4 * rows * classes,
        tolerance=_loss,
        backward=Backward(flops=4 * rows * classes, tolerance=_loss_backward, shapes=((rows, classes),)),
        **form,
    )


def _special(rng: np.random.Generator) -> Array:
    x = rng.standard_normal((8, 17))
    x[0, 3], x[1, 16], x[2, 0], x[3] = np.nan, np.inf, -np.inf, -np.inf
    return x


CASES = [
    *(_cross_entropy(5, classes) for classes in (1, 2, 15, 16, 17, 31, 33, 1000)),
    *(_cross_entropy(rows, 10, "sum") for rows in (1, 15, 16, 17)),
    *(_cross_entropy(rows, 10, "none") for rows in (0, 1, 33)),
    _cross_entropy(0, 10, tags=("special",)),  # the mean of nothing: NaN
    _cross_entropy(0, 10, "sum"),
    _cross_entropy(700, 130),
    _cross_entropy(9, 20, "none", lambda rng: 30 * rng.standard_normal((9, 20)) + 1000, note="far-from-zero"),
    _cross_entropy(8, 17, "none", _special, note="special", tags=("special",)),
    _cross_entropy(8, 17, "mean", _special, note="special", tags=("special",)),
    _cross_entropy(128, 10, tags=("bench",)),
    _cross_entropy(512, 1000, tags=("bench", "large")),
]
