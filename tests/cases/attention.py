"""Attention: sizes around blocks of queries and of keys, and around tiles; masks of every kind and way to broadcast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl.reference import attention as plain
from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, declare


def _parts(a: Arguments) -> tuple[Array, ...]:
    """Of the function in float64: weights, the factors of dropout, and how far each weight may be off, as a part of
    itself: by 4 roots of the terms of a score (see `summed`) and a few roundings of the score, its exponential and the
    sum, which are exact to some."""
    q, k = a["query"], plain._shared(a["key"], a["query"])
    factor = plain._factor(q, a.get("scale"))
    scores = plain._scores(q, k, a["attn_mask"], a.get("is_causal", False), factor)
    saved = plain._logsumexp(scores)
    weights = plain._weights(scores, saved)
    keep = plain._keeping(scores, a.get("dropout_p", 0.0), a.get("seed", 0), a.get("offset", 0))
    magnitude = 4 * math.sqrt(q.shape[-1] + 3) * abs(factor) * np.abs(q) @ np.abs(np.swapaxes(k, -1, -2))
    magnitude = magnitude + 4 * np.abs(np.where(np.isfinite(scores), scores, 0))
    magnitude = np.where(scores == -np.inf, 0, magnitude)
    rows = magnitude.max(-1, initial=0, keepdims=True)
    found = np.where(np.isfinite(saved), np.abs(saved), 0)[..., None]
    return weights, keep, magnitude + rows + 4 * found + 4 * math.sqrt(k.shape[-2]) + 16


def _forward_error(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    weights, keep, off = _parts(a)
    v = np.abs(plain._shared(a["value"], a["query"]))
    return ((weights * keep * (off + 4 * math.sqrt(v.shape[-2] + 2))) @ v,)


def _backward_error(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    weights, keep, off = _parts(a)
    q, g, y = (a[name] for name in ("query", "grad_output", "y"))
    k, v = plain._shared(a["key"], q), plain._shared(a["value"], q)
    factor, root = abs(plain._factor(q, a.get("scale"))), 4 * math.sqrt(v.shape[-1] + 2)
    products = keep * (np.abs(g) @ np.abs(np.swapaxes(v, -1, -2)))
    inner = (np.abs(g) * np.abs(y)).sum(-1, keepdims=True)
    grad = weights * np.abs(keep * (g @ np.swapaxes(v, -1, -2)) - (g * y).sum(-1, keepdims=True))
    wrong = factor * (grad * (off + 4) + weights * (root + 4) * (products + inner))

    def summed(grad: Array) -> Array:
        return grad if k.shape == a["key"].shape else grad.reshape(*a["key"].shape[:-2], -1, *grad.shape[-2:]).sum(-3)

    def turned(x: Array) -> Array:
        return np.swapaxes(x, -1, -2)

    by_keys, by_queries = (
        4 * math.sqrt(k.shape[-2] + 2),
        4 * math.sqrt(q.shape[-2] * q.size / max(a["key"].size, 1) + 2),
    )
    return (
        (wrong + by_keys * factor * grad) @ np.abs(k),
        summed(turned(wrong + by_queries * factor * grad) @ np.abs(q)),
        summed(turned(weights * keep * (off + by_queries)) @ np.abs(g)),
    )


def _attention(
    leading: Shape,
    queries: int,
    keys: int,
    width: int,
    value_width: int | None = None,
    mask: Draw | None = None,
    key_heads: int | None = None,
    **form: Any,
) -> Case:
    value_width = width if value_width is None else value_width
    shared = leading if key_heads is None else (*leading[:-1], key_heads)
    shapes = (*leading, queries, width), (*shared, keys, width), (*shared, keys, value_width)
    work = 2 * math.prod(leading) * queries * keys * (width + value_width) * (0.5 if form.get("is_causal") else 1)
    return declare(
        "scaled_dot_product_attention",
        dict(zip(("query", "key", "value"), shapes, strict=True)) | {"attn_mask": mask},
        (*leading, queries, value_width),
        flops=work,
        tolerance=_forward_error,
        data=("attn_mask",),
        backward=Backward(flops=2.5 * work, tolerance=_backward_error, shapes=shapes),
        **form,
    )


def _bools(*shape: int) -> Draw:
    """Of which one in four is False."""
    return lambda rng: rng.integers(0, 4, shape) > 0


def _numbers(*shape: int) -> Draw:
    """Some are -infinity."""

    def draw(rng: np.random.Generator) -> Array:
        return np.where(rng.integers(0, 5, shape) == 0, -np.inf, rng.standard_normal(shape))

    return draw


def _no_key(rng: np.random.Generator) -> Array:
    """One query may look at nothing, another in the first keys only, another in the last."""
    mask = np.ones((9, 300), bool)
    mask[2], mask[4, 3:], mask[5, :290] = False, False, False
    return mask


def _padded(batch: int, keys: int) -> Draw:
    """What follows a sequence is not looked at."""
    return lambda rng: np.arange(keys) < rng.integers(1, keys + 1, (batch, 1, 1, 1))


CASES = [
    *(_attention((2,), n, 19, 8) for n in (1, 2, 5, 6, 7, 12, 13, 17, 33)),
    *(_attention((2,), 7, n, 5) for n in (1, 2, 3, 4, 8, 15, 16, 17, 31, 33, 63, 64, 65)),
    *(_attention((), 5, 9, n, 3) for n in (1, 2, 7, 8, 9, 16, 17, 33)),
    *(_attention((), 5, 9, 4, n) for n in (1, 2, 7, 8, 9, 16, 17, 33)),
    *(_attention((1,), n, 260, 16) for n in (71, 72, 73, 145)),
    *(_attention((2,), 80, n, 8) for n in (255, 256, 257, 515)),
    *(_attention((1,), n, 4100, 4, tags=("large",)) for n in (1, 4, 20)),
    *(
        _attention((2,), *sizes, 8, is_causal=True)
        for sizes in ((5, 5), (3, 9), (9, 3), (150, 150), (80, 400), (300, 70))
    ),
    _attention((2, 3), 9, 21, 8),
    _attention((2, 3, 2), 4, 5, 3, 6),
    _attention((2, 6), 9, 21, 8, key_heads=2, enable_gqa=True),
    _attention((4,), 75, 130, 8, key_heads=1, enable_gqa=True, is_causal=True),
    _attention((2, 3), 9, 21, 8, key_heads=3, enable_gqa=True, note="as-many"),
    _attention((2, 3), 9, 21, 8, mask=_bools(9, 21), note="bools"),
    _attention((2, 3), 9, 21, 8, mask=_bools(21), note="bools-keys"),
    _attention((2, 3), 9, 21, 8, mask=_bools(3, 1, 21), note="bools-heads"),
    _attention((2, 3), 9, 21, 8, mask=_bools(2, 1, 9, 1), note="bools-batch", tags=("special",)),
    _attention((2, 3), 9, 21, 8, mask=_padded(2, 21), note="padded"),
    _attention((2, 3), 9, 300, 8, mask=_no_key, note="no-key", tags=("special",)),
    _attention((2, 3), 9, 21, 8, mask=_numbers(9, 21), note="numbers"),
    _attention((2, 3), 9, 21, 8, mask=_numbers(2, 3, 9, 21), note="numbers-all"),
    _attention((2, 3), 9, 21, 8, mask=lambda rng: rng.standard_normal((2, 1, 9, 1)), note="numbers-batch"),
    _attention((2, 3), 9, 21, 8, mask=lambda rng: np.asarray(rng.standard_normal(())), note="number"),
    _attention((2,), 150, 530, 8, mask=_bools(150, 530), note="bools"),
    *(_attention((2,), 9, 21, 8, scale=scale) for scale in (1.0, 0.0, -0.5)),
    _attention((2, 2), 9, 21, 8, dropout_p=0.3, seed=5, offset=11, tags=("not-in-torch",)),
    _attention((2,), 80, 300, 8, dropout_p=0.5, tags=("not-in-torch",)),
    _attention((2,), 5, 7, 8, dropout_p=1.0),
    *(_attention((2,), *sizes, 3, tags=("empty",)) for sizes in ((0, 3), (3, 0), (0, 0))),
    _attention((0, 2), 3, 4, 3, tags=("empty",)),
    _attention((2,), 3, 4, 0, 3, tags=("empty",)),
    _attention((2,), 3, 4, 3, 0, tags=("empty",)),
    _attention((1, 8), 64, 64, 32, tags=("bench",)),
    _attention((1, 4), 256, 256, 64, tags=("bench",)),
    _attention((1, 1), 1, 512, 64, tags=("bench",)),
    _attention((1, 8), 1024, 1024, 64, tags=("bench", "large")),
    _attention((1, 8), 1024, 1024, 64, is_causal=True, tags=("bench", "large")),
]
