"""Activations: around vector widths, along every dimension, and on what is not finite."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import reference
from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, declare, exact


def _special(rng: np.random.Generator) -> Array:
    """Rows that hold NaN, infinities, signed zeros, numbers near overflow, and -infinity alone."""
    x = rng.standard_normal((12, 21))
    x[0, 3], x[1, 20], x[2, 0], x[3, 5] = np.nan, np.inf, -np.inf, 3e38
    x[4, 7:9], x[5, 7:9], x[6] = (np.inf, -np.inf), (0.0, -0.0), -np.inf
    x[7, :], x[8, 1:], x[9] = 3e38, -np.inf, 1e-40
    return x


def _relu(x: Shape | Draw, shape: Shape, **form: Any) -> Case:
    size = math.prod(shape)
    backward = Backward(flops=size, tolerance=exact, shapes=(shape,))
    return declare("relu", {"x": x}, shape, flops=size, tolerance=exact, backward=backward, **form)


def _spread(x: Array) -> float:
    """The largest |x - max(x)| that exp is taken of: one rounding of it is that many of exp's result."""
    finite = x[np.isfinite(x) & (np.abs(x) < 1e30)]
    return float(np.ptp(finite)) if finite.size else 0.0


def _softmax(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Relative: exp's and the division's few roundings, the sum's sqrt(classes), and that of exp's argument."""
    return ((8 + np.sqrt(a["x"].shape[a["dim"]]) + _spread(a["x"])) * expected[0],)


def _log_softmax(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Absolute in terms of |x - max| and log(sum): y is their difference."""
    return (8 + 2 * np.sqrt(a["x"].shape[a["dim"]]) + 2 * _spread(a["x"]) + 2 * np.abs(expected[0]),)


def _softmax_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """The terms of y (g - sum(g y)), all taken positive; a few roundings each and sqrt(classes) for the sum."""
    g, y = np.abs(a["grad_output"]), np.abs(a["y"])
    return (2 * (4 + np.sqrt(y.shape[a["dim"]])) * y * (g + (g * y).sum(a["dim"], keepdims=True)),)


def _log_softmax_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """The terms of g - exp(y) sum(g), all taken positive."""
    g = -np.abs(a["grad_output"])
    return (
        2 * (4 + np.sqrt(g.shape[a["dim"]])) * np.abs(reference.log_softmax_backward(-g, a["y"], a["dim"]) + 2 * g),
    )


def _softmaxes(x: Shape | Draw, shape: Shape, dim: int = -1, **form: Any) -> list[Case]:
    size = math.prod(shape)
    return [
        declare(
            operation,
            {"x": x},
            shape,
            dim=dim,
            flops=4 * size,
            tolerance=tolerance,
            backward=Backward(flops=4 * size, tolerance=backward, shapes=(shape,)),
            **form,
        )
        for operation, tolerance, backward in (
            ("softmax", _softmax, _softmax_backward),
            ("log_softmax", _log_softmax, _log_softmax_backward),
        )
    ]


_LENGTHS = (0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 129)
_RELU_SHAPES: list[Shape] = [(), *((n,) for n in _LENGTHS), (3, 5, 7), (2, 0, 3), (70_001,)]

CASES = [
    *(_relu(shape, shape) for shape in _RELU_SHAPES),
    _relu(_special, (12, 21), note="special", tags=("special",)),
    _relu((8,), (8,), note="tiny", tags=("bench",)),
    _relu((1 << 22,), (1 << 22,), tags=("bench", "large")),
    *(c for n in _LENGTHS[1:] for c in _softmaxes((3, n), (3, n))),
    *_softmaxes((5,), (5,)),
    *_softmaxes((0, 10), (0, 10)),
    *_softmaxes((2, 0), (2, 0)),
    *_softmaxes((17, 33), (17, 33), dim=0),
    *_softmaxes((2, 19, 5), (2, 19, 5), dim=1),
    *_softmaxes((2, 10, 17), (2, 10, 17), dim=-2),
    *_softmaxes((300, 257), (300, 257)),
    *_softmaxes(lambda rng: 30 * rng.standard_normal((7, 40)) + 1000, (7, 40), note="far-from-zero"),
    *_softmaxes(_special, (12, 21), note="special", tags=("special",)),
    *_softmaxes((128, 10), (128, 10), tags=("bench",)),
    *_softmaxes((512, 1000), (512, 1000), tags=("bench", "large")),
    *_softmaxes((1024, 1000), (1024, 1000), tags=("bench", "large")),
]
