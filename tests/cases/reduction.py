"""Reductions: every set of dimensions, sizes around vectors and pieces, NaN, infinity and ties."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, declare, exact


def _reduced(shape: Shape, dim: Any, keepdim: bool) -> Shape:
    dims = dim if isinstance(dim, tuple) else (dim,)
    axes = {d % len(shape) for d in dims} if dim not in (None, ()) and shape else set(range(len(shape)))
    return tuple(1 if d in axes else n for d, n in enumerate(shape) if keepdim or d not in axes)


def _terms(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """A few roundings of the sum of magnitudes, however many terms there are: what is long goes in blocks."""
    dim = a.get("dim")
    axes = tuple(dim) if isinstance(dim, tuple) else dim
    total = np.sum(np.abs(a["x"]), None if axes == () or a["x"].ndim == 0 else axes, keepdims=a.get("keepdim", False))
    count = max(1, a["x"].size // max(1, expected[0].size)) if a["_mean"] else 1
    return (16 * total / count + np.abs(expected[0]),)


def _sum_tolerance(mean: bool) -> Any:
    return lambda a, expected: _terms(a | {"_mean": mean}, expected)


def _quotient(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    return (2 * np.abs(expected[0]),)


def _reduce(
    operation: str, shape: Shape, dim: Any = None, keepdim: bool = False, x: Draw | None = None, **form: Any
) -> Case:
    options = {
        name: value for name, value in (("dim", dim), ("keepdim", keepdim)) if value is not None and value is not False
    }
    extreme = operation.startswith("am")
    return declare(
        operation,
        {"x": x or shape},
        _reduced(shape, dim, keepdim),
        flops=math.prod(shape),
        tolerance=exact if extreme else _sum_tolerance(operation == "mean"),
        backward=Backward(
            flops=math.prod(shape),
            tolerance=_quotient,
            shapes=(shape,),
            parameters={} if extreme else {"shape": shape},
        ),
        note=form.pop("note", "") or ("x".join(map(str, shape)) if x else ""),
        **options,
        **form,
    )


def _special(rng: np.random.Generator) -> Array:
    x = rng.standard_normal((6, 37))
    x[0, 3], x[1, 36], x[2, :2], x[3] = np.nan, np.inf, (np.inf, -np.inf), 1.0
    x[4, [5, 30]] = 9.0
    x[5, [5, 30]] = -9.0
    return x


_LENGTHS = (1, 3, 7, 8, 9, 16, 31, 33, 64, 129, 1025)

CASES = [
    *(
        _reduce(name, (3, 5, 7), dim, keep)
        for name in ("sum", "mean", "amax", "amin")
        for dim, keep in (
            (None, False),
            (0, False),
            (1, True),
            (-1, False),
            ((0, 2), False),
            ((-1, 0), True),
            ((), False),
        )
    ),
    *(_reduce(name, (n,)) for name in ("sum", "amax") for n in _LENGTHS),
    *(_reduce("sum", (n, 5), 0) for n in _LENGTHS),
    *(_reduce("amin", (37, n), 0) for n in _LENGTHS),
    *(_reduce(name, (2, 19, n), 1) for name in ("mean", "amax") for n in _LENGTHS),
    *(_reduce(name, ()) for name in ("sum", "mean", "amax", "amin")),
    _reduce("sum", (), 0),
    _reduce("sum", (1, 4, 1), (0, 2)),
    _reduce("mean", (2, 3, 4, 5), (1, 3)),
    _reduce("amax", (2, 3, 4, 5, 2), (0, 2, 4), True),
    _reduce("sum", (0, 3), 0, tags=("empty",)),
    _reduce("sum", (3, 0), 0, tags=("empty",)),
    _reduce("amax", (0, 3), 1, tags=("empty",)),
    _reduce("amin", (3, 0), 0, True, tags=("empty",)),
    _reduce("sum", (70_001,)),
    _reduce("mean", (300, 1100), 0),
    _reduce("amax", (3, 90_000), 1),
    _reduce("amin", (40_000, 3), 0),
    *(
        _reduce(name, (6, 37), dim, x=_special, note="special", tags=("special",))
        for name in ("sum", "mean", "amax", "amin")
        for dim in (0, 1, None)
    ),
    *(
        _reduce(name, shape, dim, tags=tags, note="bench")
        for name in ("sum", "mean", "amax", "amin")
        for shape, dim, tags in (
            ((64,), None, ("bench",)),
            ((32, 64), -1, ("bench",)),
            ((32, 64), 0, ("bench",)),
            ((4096, 1024), -1, ("bench", "large")),
            ((32, 64, 56, 56), (0, 2, 3), ("bench", "large")),
        )
    ),
]
