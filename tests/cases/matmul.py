"""matmul: one and many matrices, vectors, broadcasting, sizes around tiles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.cases.case import Array, Backward, Case, Draw, Shape, declare, summed


def _matmul(x: Shape, y: Shape, values: Draw | None = None, **form: Any) -> Case:
    m, n, k = (x[-2] if len(x) > 1 else 1), (y[-1] if len(y) > 1 else 1), x[-1]
    batch = np.broadcast_shapes(x[:-2], y[:-2])
    result = (*batch, *((m,) if len(x) > 1 else ()), *((n,) if len(y) > 1 else ()))
    many = math.prod(batch)
    return declare(
        "matmul",
        {"x": values or x, "other": y},
        result,
        flops=2 * many * m * n * k,
        tolerance=summed("matmul", k),
        backward=Backward(
            flops=4 * many * m * n * k,
            tolerance=summed("matmul_backward", n * many, m * many),
            shapes=(x, y),
        ),
        **form,
    )


def _not_finite(rng: np.random.Generator) -> Array:
    x = rng.standard_normal((9, 20))
    x[0, 0], x[3, 5], x[4, 19], x[5, 1:3] = np.nan, np.inf, -np.inf, (np.inf, -np.inf)
    return x


_AROUND_TILES = (1, 2, 5, 6, 7, 12, 13, 16, 17, 33)

CASES = [
    *(_matmul((n, 19), (19, 23)) for n in _AROUND_TILES),
    *(_matmul((9, n), (n, 11)) for n in _AROUND_TILES),
    *(_matmul((14, 10), (10, n)) for n in _AROUND_TILES),
    _matmul((7,), (7,)),
    _matmul((7,), (7, 5)),
    _matmul((5, 7), (7,)),
    _matmul((3, 5, 7), (7,)),
    _matmul((7,), (3, 7, 5)),
    _matmul((3, 5, 7), (7, 4)),
    _matmul((5, 7), (3, 7, 4)),
    _matmul((3, 5, 7), (3, 7, 4)),
    _matmul((2, 1, 5, 7), (3, 7, 4)),
    _matmul((2, 3, 1, 7), (2, 1, 7, 4)),
    _matmul((2, 3, 5, 7), (1, 3, 7, 1)),
    _matmul((4, 64, 32), (4, 32, 64)),
    _matmul((0, 5), (5, 4), tags=("empty",)),
    _matmul((3, 0), (0, 4), tags=("empty",)),
    _matmul((0, 3, 5), (5, 4), tags=("empty",)),
    _matmul((131, 700), (700, 97)),
    _matmul((1025,), (1025, 300)),
    _matmul((300, 1025), (1025,)),
    _matmul((9, 20), (20, 21), _not_finite, note="special", tags=("special",)),
    _matmul((1, 64), (64, 10), tags=("bench",)),
    _matmul((4, 64, 32), (4, 32, 64), note="heads", tags=("bench",)),
    _matmul((32, 128), (128, 64), tags=("bench",)),
    _matmul((1024, 1024), (1024, 1024), tags=("bench", "large")),
    _matmul((64, 256, 64), (64, 64, 256), tags=("bench", "large")),
]
