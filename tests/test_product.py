"""Products of every few rows, columns and terms: each tile of loose.c, and where packing begins; packed beforehand."""

from __future__ import annotations

import numpy as np
import pytest

import fastdl
from tests.support import DTYPES, Guarded

_ROWS = (*range(1, 21), 33, 64, 65, 70)
_SIZES = ((1, 1), (7, 5), (16, 16), (33, 17), (40, 15), (300, 10), (257, 50), (19, 130), (90, 300))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("terms", "columns"), _SIZES)
def test_linear_and_its_gradients(terms: int, columns: int, dtype: type) -> None:
    rng = np.random.default_rng(terms)
    for rows in _ROWS:
        x, weight = (
            rng.standard_normal((rows, terms)).astype(dtype),
            rng.standard_normal((columns, terms)).astype(dtype),
        )
        bias, grad = rng.standard_normal(columns).astype(dtype), rng.standard_normal((rows, columns)).astype(dtype)
        guarded = [Guarded.holding(a) for a in (x, weight, bias, grad)]
        a, w, b, g = (guard.array for guard in guarded)
        out, again = Guarded((rows, columns), dtype), Guarded((rows, columns), dtype)
        fastdl.linear(a, w, b, activation="relu", out=out.array)
        packed = fastdl.pack_linear_weight(w)
        guarded.append(Guarded.holding(packed.data))
        fastdl.linear(a, packed._replace(data=guarded[-1].array), b, activation="relu", out=again.array)
        wide = [v.astype(np.float64) for v in (x, weight, bias, grad)]
        eps = float(np.finfo(dtype).eps)
        found = out.array, again.array, *fastdl.linear_backward(g, a, w)
        expected = (
            *[np.maximum(wide[0] @ wide[1].T + wide[2], 0)] * 2,
            wide[3] @ wide[1],
            wide[3].T @ wide[0],
            wide[3].sum(0),
        )
        bounds = (
            *[np.abs(wide[0]) @ np.abs(wide[1].T) + np.abs(wide[2])] * 2,
            np.abs(wide[3]) @ np.abs(wide[1]),
            np.abs(wide[3].T) @ np.abs(wide[0]),
            np.abs(wide[3]).sum(0),
        )
        for value, right, bound, summands in zip(
            found, expected, bounds, (terms + 1, terms + 1, columns, rows, rows), strict=True
        ):
            assert (np.abs(value - right) <= (summands + 1) * eps * bound).all(), (rows, value.shape)
        for guard in (*guarded, out, again):
            guard.check()
