"""max_pool2d: geometry, ties, NaN and windows of nothing but -infinity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl._window import Pair
from tests.cases.case import Backward, Case, Draw, Shape, declare, exact, summed
from tests.cases.window import as_pair, window_positions


def pooling(shape: Shape, kernel: int | Pair, x: Draw | None = None, **form: Any) -> Case:
    output = (*shape[:2], *window_positions(shape, kernel, {"stride": kernel} | form))
    taps = math.prod(as_pair(kernel))
    return declare(
        "max_pool2d",
        {"x": x or shape},
        output,
        kernel_size=kernel,
        flops=math.prod(output) * taps,
        tolerance=exact,
        backward=Backward(
            flops=math.prod(output) * taps,
            # An element is the largest of at most `taps` windows.
            tolerance=summed("max_pool2d_backward", taps, linear_in=("grad_output",)),
            shapes=(shape,),
        ),
        **form,
    )


def _ties(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-1, 2, (2, 3, 12, 19)).astype(np.float64)


def _special(rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((2, 3, 12, 19))
    scattered = rng.random(x.shape)
    x[scattered < 0.1], x[scattered > 0.9], x[:, :, 6:] = np.nan, np.inf, -np.inf
    return x


CASES = [
    *(pooling((2, 3, 6, width), 2) for width in (2, 3, 15, 16, 17, 31, 32, 33, 34, 65)),
    pooling((2, 3, 13, 17), 3),
    pooling((2, 3, 13, 17), 3, stride=2, padding=1),
    pooling((2, 3, 13, 35), 3, stride=1, padding=1),
    pooling((1, 2, 13, 17), (2, 3), stride=(3, 1), padding=(1, 0)),
    pooling((1, 2, 13, 17), 3, stride=2, padding=1, dilation=2),
    pooling((1, 2, 14, 19), (2, 4), stride=(1, 2), padding=(0, 2), dilation=(3, 1)),
    pooling((1, 2, 9, 9), 2, stride=5),
    pooling((1, 1, 1, 1), 1),
    pooling((4, 3, 1, 1), 1),
    pooling((1, 1, 1, 1), 3, padding=1),
    pooling((2, 3, 6, 5), (6, 5)),
    pooling((0, 3, 6, 6), 2),
    pooling((2, 1, 2, 2), 2, padding=1, dilation=3, tags=("special", "padding-only")),
    pooling((1, 2, 5, 2), (3, 2), stride=1, padding=1, dilation=(1, 3), tags=("special", "padding-only")),
    pooling((3, 17, 30, 30), 2),
    pooling((2, 3, 12, 19), 2, _ties, note="ties", tags=("special",)),
    pooling((2, 3, 12, 19), 3, _ties, stride=1, padding=1, note="ties", tags=("special",)),
    pooling((2, 3, 12, 19), 2, _special, note="special", tags=("special",)),
    pooling((2, 3, 12, 19), 3, _special, stride=2, padding=1, note="special", tags=("special",)),
    pooling((32, 16, 8, 8), 2, tags=("bench",)),
    pooling((8, 64, 112, 112), 3, stride=2, padding=1, tags=("bench", "large")),
]
