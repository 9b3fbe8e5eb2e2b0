"""Optimizer steps: sizes around vector widths and every combination of their options."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import reference
from tests.cases.case import Arguments, Array, Case, Draw, Shape, declare


def _sgd_terms(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Some eight roundings, each relative to the sum of the step's terms taken positive."""
    positive = {name: np.array(np.abs(v)) if isinstance(v, np.ndarray) else v for name, v in a.items()}
    positive |= {"maximize": False, "lr": -a["lr"]}  # param -= -lr |g|
    reference.sgd_step(**positive)
    return tuple(8 * positive[name] for name in ("param", "momentum_buffer")[: len(expected)])


def _sgd(shape: Shape, values: Draw | None = None, tags: tuple[str, ...] = (), **options: Any) -> Case:
    momentum = options.get("momentum", 0) != 0
    return declare(
        "sgd_step",
        {"param": values or shape, "grad": shape, "momentum_buffer": shape if momentum else None},
        (shape, shape) if momentum else (shape,),
        updates=("param", "momentum_buffer") if momentum else ("param",),
        flops=(4 if momentum else 2) * math.prod(shape),
        tolerance=_sgd_terms,
        tags=tags,
        **{"lr": 0.1} | options,
    )


def _not_finite(rng: np.random.Generator) -> Array:
    x = rng.standard_normal(33)
    x[[0, 9, 32]] = np.nan, np.inf, -np.inf
    return x


CASES = [
    *(_sgd((n,)) for n in (0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 70_001)),
    *(_sgd((n,), momentum=0.9, step=2) for n in (0, 1, 15, 16, 17, 33, 70_001)),
    _sgd((3, 5, 7), momentum=0.9),
    _sgd((), momentum=0.9, step=2),
    _sgd((33,), weight_decay=0.01),
    _sgd((33,), maximize=True),
    _sgd((33,), momentum=0.9, step=3, dampening=0.25, weight_decay=0.01),
    _sgd((33,), momentum=0.9, step=3, nesterov=True, weight_decay=0.01),
    _sgd((33,), momentum=0.9, step=1, nesterov=True, maximize=True),
    _sgd((33,), lr=0.0),
    _sgd((33,), _not_finite, tags=("special",), note="special"),
    _sgd((33,), _not_finite, tags=("special",), note="special", momentum=0.9, step=2, weight_decay=0.1),
    _sgd((10_000,), momentum=0.9, step=2, tags=("bench",)),
    _sgd((1 << 22,), momentum=0.9, step=2, tags=("bench", "large")),
]
