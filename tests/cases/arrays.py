"""Arrays as wholes: sizes around vectors, runs and rows of any length, all dimensions, indices often or never there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.cases.case import Array, Backward, Case, Shape, declare, exact, summed


def _take(rows: int, row: Shape, index: Shape, distinct: bool = False, **form: Any) -> Case:
    def draw(rng: np.random.Generator) -> Array:
        count = math.prod(index)
        found = rng.permutation(rows)[:count] if distinct else rng.integers(0, max(rows, 1), count)
        return found.reshape(index)

    size = math.prod(index) * math.prod(row)
    return declare(
        "take",
        {"x": (rows, *row), "index": draw},
        (*index, *row),
        flops=0,
        tolerance=exact,
        backward=Backward(
            flops=size,
            tolerance=exact if distinct else summed("take_backward", math.prod(index), linear_in=("grad_output",)),
            shapes=((rows, *row),),
            parameters={"rows": rows},
        ),
        note="distinct" * distinct + "x".join(map(str, index)),
        **form,
    )


def _embedding(rows: int, width: int, index: Shape, padding_idx: int | None = None, **form: Any) -> Case:
    terms = math.prod(index)
    return declare(
        "embedding",
        {"x": lambda rng: rng.integers(0, rows, index), "weight": (rows, width)},
        (*index, width),
        flops=0,
        tolerance=exact,
        backward=Backward(
            flops=terms * width,
            tolerance=summed("embedding_backward", terms, linear_in=("grad_output",)),
            shapes=((rows, width),),
        ),
        note="x".join(map(str, index)) or "one",
        padding_idx=padding_idx,
        **form,
    )


def _cat(shape: Shape, sizes: tuple[int, ...], dim: int = 0, **form: Any) -> Case:
    """Arrays like `shape`, but of those sizes along `dim`."""

    def like(n: int) -> Shape:
        at = dim % len(shape)
        return (*shape[:at], n, *shape[at + 1 :])

    parts = tuple(map(like, sizes))
    return declare(
        "cat",
        {"arrays": parts},
        like(sum(sizes)),
        flops=0,
        tolerance=exact,
        backward=Backward(flops=0, tolerance=exact, shapes=parts, parameters={"sizes": sizes}),
        note=form.pop("note", "x".join(map(str, shape)) + f"_{sizes}"),
        dim=dim,
        **form,
    )


_LENGTHS = (0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 1023, 1025)

CASES = [
    *(_take(5, (n,), (7,)) for n in _LENGTHS),
    *(_take(5, (), index) for index in ((9,), (), (2, 3))),
    _take(7, (3, 5), (2, 4)),
    _take(40, (17,), (30,), distinct=True),
    _take(5, (3,), (0,)),
    _take(0, (3,), (0, 2)),
    _take(1, (33,), (100,)),
    _take(3000, (40,), (2500,)),
    _take(3, (20_000,), (9,)),
    _take(10, (), (100_000,)),
    _take(1000, (64,), (256,), tags=("bench",)),
    _take(50_000, (256,), (32, 512), tags=("bench", "large")),
    *(_embedding(5, 7, index) for index in ((9,), (), (2, 3), (0,))),
    *(_embedding(5, 7, (20,), padding, tags=("special",)) for padding in (0, 4, -1, -5)),
    _embedding(1000, 64, (256,), tags=("bench",)),
    *(_cat((3, 4, 5), (2, 5, 1), dim) for dim in (0, 1, 2, -1, -2, -3)),
    *(_cat((2, 3, 7), (n, 2), 1) for n in _LENGTHS if n < 1000),
    *(_cat((n,), (n, 1)) for n in _LENGTHS),
    *(_cat((5, 2), (n, 3, 1), -1) for n in (1, 2, 16, 17)),
    _cat((3, 4), (4,), 1),
    _cat((3, 4), (0, 4, 0), 1),
    _cat((0, 4), (2, 3), 1),
    _cat((2, 3), (1,) * 9),
    _cat((3, 700, 40), (300, 401), 1),
    _cat((2, 30_000), (1, 2, 3)),
    _cat((4, 3, 8, 8), (2, 6), 1, tags=("bench",)),
    _cat((8, 64, 56, 56), (64, 32, 32), 1, tags=("bench", "large")),
]
