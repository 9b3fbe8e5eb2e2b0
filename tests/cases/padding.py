"""pad: every mode, rank and number of padded dimensions, crops, rows around vector widths, and what torch refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.cases.case import Backward, Case, Draw, Shape, declare, summed
from tests.cases.case import exact as copied


def padding(x: Shape, pad: tuple[int, ...], values: Draw | None = None, **form: Any) -> Case:
    sides = [(0, 0)] * (len(x) - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    output = tuple(b + n + a for n, (b, a) in zip(x, sides, strict=True))
    mode = form.get("mode", "constant")
    # How often an element of x stands in the result at most, along each dimension.
    most = {"constant": lambda b, a: 1, "replicate": lambda b, a: 1 + max(b, a, a + b)}
    times = math.prod(most.get(mode, lambda b, a: 3 if a and b else 2 if a or b else 1)(b, a) for b, a in sides)
    return declare(
        "pad",
        {"x": values or x},
        output,
        pad=pad,
        flops=0,
        tolerance=copied,
        backward=Backward(
            flops=math.prod(output),
            tolerance=copied if times == 1 else summed("pad_backward", times, linear_in=("grad_output",)),
            shapes=(x,),
        ),
        **form,
    )


def _not_finite(rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((2, 3, 5, 6))
    x[0, 0, 0, 0], x[1, 2, 4, 5], x[0, 1, 2, 3], x[1, 0, :, 5] = np.nan, np.inf, -np.inf, np.nan
    return x


_BORDERS = ("reflect", "replicate", "circular")

CASES = [
    # the last dimension
    *(padding((2, 3, width), (2, 1)) for width in (1, 2, 15, 16, 17, 31, 33)),
    *(padding((2, 3, width), (2, 1), mode=mode) for mode in _BORDERS for width in (3, 15, 16, 17, 33)),
    *(padding((2, 3, 5), (0, n), mode=mode) for mode in _BORDERS for n in (0, 1, 4)),
    *(padding((2, 3, 5), (n, 0), mode=mode) for mode in _BORDERS for n in (1, 4)),
    *(padding((7,), (3, 2), mode=mode) for mode in ("constant", *_BORDERS)),
    padding((2, 3, 1), (3, 40), mode="replicate"),
    padding((2, 3, 5), (5, 5), mode="circular"),
    # several, and others than the last
    *(padding((2, 3, 5, 6), (1, 2, 3, 4), mode=mode) for mode in ("constant", *_BORDERS)),
    *(padding((2, 3, 5, 6, 7), (1, 2, 3, 4, 0, 2), mode=mode) for mode in ("constant", *_BORDERS)),
    *(padding((2, 3, 5, 6), (0, 0, 2, 1), mode=mode) for mode in ("constant", *_BORDERS)),
    *(padding((2, 3, 5, 17), (0, 0, 0, 0, 1, 2), mode=mode) for mode in ("constant", *_BORDERS)),
    *(padding((2, 1, 5, 3, 6), (1, 1, 0, 0, 3, 2, 0, 0, 1, 1), mode=mode) for mode in ("constant", *_BORDERS)),
    *(padding((3, 1, 2, 2, 1, 2, 3), (1,) * 14, mode=mode) for mode in ("constant", "replicate", "circular")),
    padding((2, 3, 5, 6), (1, 2, 3, 4), value=-1.5),
    # enough for threads
    padding((2, 40, 66, 62), (1, 1, 1, 1)),
    *(padding((2, 40, 66, 62), (1, 1, 1, 1), mode=mode) for mode in _BORDERS),
    *(padding((600, 500), (3, 3, 2, 2), mode=mode) for mode in ("constant", *_BORDERS)),
    # crops
    padding((2, 3, 5, 17), (-1, -2)),
    padding((2, 3, 5, 17), (-1, 2, 3, -4), value=2.0),
    padding((2, 3, 5, 6), (-2, 3, -2, -1, -1, -1)),
    padding((2, 3, 5), (-3, -2)),
    padding((2, 3, 5), (-7, 9), value=3.0),
    padding((2, 3, 5), (9, -7, 1, 0)),
    # the smallest and the emptiest
    *(padding((), (), mode=mode) for mode in ("constant", *_BORDERS)),
    *(padding((2, 3), (), mode=mode) for mode in ("constant", *_BORDERS)),
    *(padding((0, 3, 5), (1, 2), mode=mode) for mode in ("constant", *_BORDERS)),
    padding((2, 0, 3), (1, 2, 1, 1), value=4.0),
    padding((0,), (1, 2)),
    *(padding((1, 1, 1), (1, 1), mode=mode) for mode in ("constant", "replicate", "circular")),
    *(
        padding((2, 3, 5, 6), (1, 2, 3, 4), _not_finite, mode=mode, note="special", tags=("special",))
        for mode in ("constant", *_BORDERS)
    ),
    *(padding((32, 3, 8, 8), (1, 1, 1, 1), mode=mode, tags=("bench",)) for mode in ("constant", *_BORDERS)),
    *(padding((8, 64, 56, 56), (1, 1, 1, 1), mode=mode, tags=("bench", "large")) for mode in ("constant", *_BORDERS)),
]
