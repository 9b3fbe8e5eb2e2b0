"""Dropout: sizes around vectors, counters and the buffer of words; runs of any length. Penalties likewise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, declare


def _scaled(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """1 / (1 - p) is rounded, and so is the product with it."""
    return (3 * np.abs(expected[0]),)


def _alpha(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """A few roundings of terms of which the result is the sum: a x and a s p, where a <= 1 / sqrt(1 - p), s < 2."""
    p = a.get("p", 0.5)
    return (4 * (np.abs(a["x"]) + 2) / math.sqrt(1 - p) if p < 1 else 0.0,)


def _alpha_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """The scale's formula has five roundings under a root, the root and a division, in float64 in the reference too."""
    return (9 * np.abs(expected[0]),)


def _dropout(operation: str, shape: Shape, values: Draw | None = None, **form: Any) -> Case:
    size = math.prod(shape)
    alpha = operation == "alpha_dropout"
    backward = Backward(flops=size, tolerance=_alpha_backward if alpha else _scaled, shapes=(shape,))
    tolerance = _alpha if alpha else _scaled
    inputs: dict[str, Any] = {"x": values or shape}
    return declare(operation, inputs, shape, flops=size, tolerance=tolerance, backward=backward, **form)


def _not_finite(rng: np.random.Generator) -> Array:
    x = rng.standard_normal(133)
    x[::3], x[1::6], x[4::6] = np.nan, np.inf, -np.inf
    return x


def _sum(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """No term is negative, so each of the sum's roundings is relative to it; they grow as sqrt(terms), as in summed."""
    return (4 * math.sqrt(a["x"].size + 2) * np.abs(expected[0]),)


def _penalties(shape: Shape, values: Draw | None = None, **form: Any) -> list[Case]:
    size = math.prod(shape)
    backward = Backward(flops=size, tolerance=_scaled, shapes=(shape,))
    return [
        declare(name, {"x": values or shape}, (), flops=2 * size, tolerance=_sum, backward=backward, **form)
        for name in ("l1_penalty", "l2_penalty")
    ]


def _zeros_and_nan(rng: np.random.Generator) -> Array:
    x = rng.standard_normal(37)
    x[[0, 9, 36]] = 0.0, np.nan, -0.0
    return x


def _infinite(rng: np.random.Generator) -> Array:
    x = rng.standard_normal(37)
    x[[0, 9, 36]] = np.inf, 1e30, -1e30
    return x


_LENGTHS = (0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 1023, 1025, 2050)
_SMALL: dict[str, list[Shape]] = {
    "dropout1d": [
        (2, 3, 7),
        (3, 5, 1),
        (1, 1, 1),
        (2, 700, 2),
        (5, 3, 1500),
        (2, 0, 3),
        (2, 3, 0),
        (1, 3, 40_000),
        (5, 9),
    ],
    "dropout2d": [(2, 3, 4, 5), (3, 50, 5, 7), (4, 1, 1, 1), (2, 3, 56, 56), (0, 3, 4, 5), (5, 3, 7)],
    "dropout3d": [(2, 3, 4, 5, 2), (3, 40, 1, 3, 3), (2, 0, 1, 2, 3), (5, 2, 3, 4)],
}

CASES = [
    *(_dropout("dropout", (n,)) for n in _LENGTHS),
    *(_dropout("dropout", (3, 5, 7), p=p, seed=7) for p in (0.0, 0.1, 0.9, 1.0)),
    _dropout("dropout", (), p=0.25),
    _dropout("dropout", (70_001,), p=0.25, seed=2**40 + 5, offset=2**32 - 100),
    _dropout("dropout", (133,), seed=2**63 - 1, offset=2**63 - 1),
    _dropout("dropout", (133,), training=False),
    *(
        _dropout(name, (133,), _not_finite, p=p, note="special", tags=("special",))
        for name in ("dropout", "alpha_dropout")
        for p in (0.0, 0.5, 1.0)
    ),
    _dropout("dropout", (8,), note="tiny", tags=("bench",)),
    _dropout("dropout", (8, 64, 112, 112), tags=("bench", "large")),
    *(_dropout(name, shape, seed=3) for name, shapes in _SMALL.items() for shape in shapes),
    *(_dropout(name, shapes[0], p=p) for name, shapes in _SMALL.items() for p in (0.0, 1.0)),
    _dropout("dropout1d", (8, 64, 100), tags=("bench",)),
    _dropout("dropout2d", (8, 64, 112, 112), tags=("bench", "large")),
    _dropout("dropout3d", (8, 64, 4, 8, 8), tags=("bench",)),
    *(_dropout("alpha_dropout", (n,), seed=1) for n in (0, 1, 15, 17, 33, 1025)),
    *(_dropout("alpha_dropout", (133,), p=p) for p in (0.0, 0.05, 0.9, 1.0)),
    _dropout("alpha_dropout", (133,), training=False, p=0.3),
    _dropout("alpha_dropout", (10_000,), p=0.1, tags=("bench",)),
    *(c for n in _LENGTHS for c in _penalties((n,))),
    *_penalties((3, 5, 7), coefficient=0.01),
    *_penalties((), coefficient=3.0),
    *_penalties((70_001,), coefficient=1e-4),
    *_penalties((37,), _zeros_and_nan, note="zeros-and-nan", tags=("special",)),
    *_penalties((37,), _infinite, note="infinite", tags=("special",)),
    *_penalties((10_000,), coefficient=1e-4, tags=("bench",)),
    *_penalties((1 << 22,), coefficient=1e-4, tags=("bench", "large")),
]
