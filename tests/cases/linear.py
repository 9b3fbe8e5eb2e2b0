"""linear: every size around the tiles of the micro-kernel, then past its cache blocks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl._kernels import ACTIVATION_NAMES
from tests.cases.case import Backward, Case, Draw, Shape, declare, summed


def _not_finite(rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((9, 20))
    x[0, 0], x[3, 5], x[4, 19], x[5, 1:3] = np.nan, np.inf, -np.inf, (np.inf, -np.inf)
    return x


def _linear(
    batch: Shape, inputs: int, outputs: int | None, values: Draw | None = None, *, bias: bool = True, **form: Any
) -> Case:
    """outputs None: a weight without that dimension."""
    rows, out = math.prod(batch), () if outputs is None else (outputs,)
    product = 2 * rows * inputs * math.prod(out)
    return declare(
        "linear",
        {"x": values or (*batch, inputs), "weight": (*out, inputs), "bias": out if bias else None},
        (*batch, *out),
        flops=product,
        tolerance=summed("linear", inputs),
        # The fused activation has no backward of its own.
        backward=None
        if form.get("activation", "none") != "none"
        else Backward(
            flops=2 * product,
            tolerance=summed("linear_backward", math.prod(out), rows, rows),
            shapes=((*batch, inputs), (*out, inputs), out),
        ),
        **form,
    )


# Every activation with a slope of at most 2, and without a jump.
FUSED = tuple(
    name
    for name in ACTIVATION_NAMES
    if name not in ("none", "relu", "exp", "expm1", "log", "log1p", "threshold", "hardshrink")
)
# Sizes that small networks use, for `bench.compare --tag grid`.
_GRID_BATCHES = (1, 2, 3, 4, 5, 8, 16, 32, 64)
_GRID_SIZES = (
    *((8, 8), (32, 32), (63, 63), (64, 64), (65, 65), (100, 37), (128, 10), (1024, 10), (64, 2048), (2048, 64)),
    *((128, 512), (256, 256), (784, 128), (512, 512), (1024, 1024)),
)
_AROUND_TILES = (1, 2, 5, 6, 7, 12, 13, 15, 16, 17, 31, 32, 33)

CASES = [
    *(_linear((n,), 19, 23) for n in _AROUND_TILES),
    *(_linear((9,), n, 11, bias=False) for n in _AROUND_TILES),
    *(_linear((14,), 10, n) for n in _AROUND_TILES),
    _linear((), 17, 33),
    _linear((2, 3, 5), 15, 16),
    _linear((0,), 8, 4),
    _linear((2, 0), 8, 4, bias=False),
    _linear((3,), 0, 4),
    _linear((3,), 0, 4, bias=False),
    _linear((3,), 4, 0),
    _linear((), 17, None),
    _linear((), 17, None, bias=False),
    _linear((2, 7), 9, None, bias=False),
    _linear((13,), 65, None, activation="relu", bias=False),
    _linear((0,), 8, None, bias=False),
    _linear((5,), 8, None, tags=("not-in-torch",)),  # its bias is for one sample only
    _linear((17,), 33, 31, activation="relu"),
    _linear((17,), 33, 31, bias=False, activation="relu"),
    *(_linear((17,), 33, 31, activation=name) for name in FUSED),
    _linear((17,), 1033, 3, activation="leaky_relu", activation_args=(0.25,)),
    _linear((17,), 33, 31, activation="hardtanh", activation_args=(-0.5, 2.0)),
    _linear((9,), 20, 21, _not_finite, note="special", tags=("special",), activation="tanh"),
    _linear((9,), 20, 21, _not_finite, note="special", tags=("special",)),
    _linear((131,), 700, 97),
    _linear((260,), 130, 1100),
    _linear((1,), 1025, 300),
    _linear((1,), 64, 10, tags=("bench",)),
    *(_linear((n,), n, n, bias=False, tags=("bench", "large")) for n in (512, 1024, 2048)),
    *(_linear((n,), inputs, outputs, tags=("grid", "large")) for inputs, outputs in _GRID_SIZES for n in _GRID_BATCHES),
]
