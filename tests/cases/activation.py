"""Activations: around vector widths, along every dimension, and on what is not finite."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastdl import reference
from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, Tolerance, declare, exact


def _special(rng: np.random.Generator) -> Array:
    """Rows that hold NaN, infinities, signed zeros, numbers near overflow, and -infinity alone."""
    x = rng.standard_normal((12, 21))
    x[0, 3], x[1, 20], x[2, 0], x[3, 5] = np.nan, np.inf, -np.inf, 3e38
    x[4, 7:9], x[5, 7:9], x[6] = (np.inf, -np.inf), (0.0, -0.0), -np.inf
    x[7, :], x[8, 1:], x[9] = 3e38, -np.inf, 1e-40
    return x


class Elementwise(NamedTuple):
    """What the cases of an elementwise function differ in."""

    parameters: Mapping[str, Any] = MappingProxyType({})
    draw: Callable[[Array], Array] = lambda x: x
    """Makes arguments within the domain of normal numbers."""
    cancels: bool = False
    """Whether its derivative is a difference of terms of the size of 1 + |x|, and so as exact as those only."""
    shrinks: bool = False
    """Whether it is itself x less something, and so as exact as x only."""


ELEMENTWISE: dict[str, tuple[Elementwise, ...]] = {
    "relu": (Elementwise(),),
    "relu6": (Elementwise(draw=lambda x: 4 * x),),
    "leaky_relu": (Elementwise(), Elementwise({"negative_slope": 0.25})),
    "elu": (Elementwise(), Elementwise({"alpha": 0.5})),
    "selu": (Elementwise(),),
    "celu": (Elementwise(), Elementwise({"alpha": 0.5})),
    "gelu": (Elementwise(cancels=True), Elementwise({"approximate": "tanh"}, cancels=True)),
    "silu": (Elementwise(cancels=True),),
    "mish": (Elementwise(cancels=True),),
    "softplus": (Elementwise(), Elementwise({"beta": 2.0, "threshold": 3.0})),
    "softsign": (Elementwise(),),
    "hardtanh": (Elementwise(), Elementwise({"min_val": -0.5, "max_val": 2.0})),
    "hardsigmoid": (Elementwise(draw=lambda x: 3 * x),),
    "hardswish": (Elementwise(draw=lambda x: 3 * x, cancels=True),),
    "logsigmoid": (Elementwise(),),
    "threshold": (Elementwise({"threshold": 0.25, "value": -2.0}),),
    "hardshrink": (Elementwise(), Elementwise({"lambd": 0.25})),
    "softshrink": (Elementwise(), Elementwise({"lambd": 0.25})),
    "tanhshrink": (Elementwise(cancels=True, shrinks=True),),
    "sigmoid": (Elementwise(),),
    "tanh": (Elementwise(cancels=True),),
    "exp": (Elementwise(),),
    "expm1": (Elementwise(),),
    "log": (Elementwise(draw=np.exp),),
    "log1p": (Elementwise(draw=lambda x: np.exp(x) - 0.75),),
    "erf": (Elementwise(),),
}


def _forward_error(operation: str, shrinks: bool) -> Tolerance:
    """Some roundings of the result, and of the argument it is computed at: |x y'|; or of x itself."""

    def tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        y, x = expected[0], a["x"]
        backward = getattr(reference, f"{operation}_backward")
        options = {name: value for name, value in a.items() if name != "x"}
        if shrinks:
            return (4 * np.nan_to_num(np.abs(x), posinf=0),)
        slope = backward(np.ones_like(x), y if "y" in inspect.signature(backward).parameters else x, **options)
        return (12 * np.abs(y) + 4 * np.nan_to_num(np.abs(x * slope), posinf=0),)

    return tolerance if operation not in _EXACT else exact


def _backward_error(cancels: bool) -> Tolerance:
    """Eight roundings of the result, and of the x^2 that an exponential may be taken of; or of terms that cancel."""

    def tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        x = np.nan_to_num(a["x"] if "x" in a else a["y"], posinf=0, neginf=0)
        grad = np.abs(a["grad_output"] * (1 + np.abs(x)) if cancels else expected[0])
        return (8 * grad * (1 + (np.minimum(x * x, 1e3) if "x" in a else 0)),)

    return tolerance


_EXACT = ("relu", "relu6", "hardtanh", "threshold", "hardshrink")


def _elementwise(operation: str, which: Elementwise, shape: Shape, x: Draw | None = None, **form: Any) -> Case:
    size = math.prod(shape)
    backward = exact if operation in _EXACT else _backward_error(which.cancels)
    return declare(
        operation,
        {"x": x or (lambda rng: np.asarray(which.draw(rng.standard_normal(shape))))},
        shape,
        flops=size,
        tolerance=_forward_error(operation, which.shrinks),
        backward=Backward(flops=size, tolerance=backward, shapes=(shape,)),
        note=form.pop("note", "x".join(map(str, shape)) or "scalar"),
        **which.parameters,
        **form,
    )


def _prelu(shape: Shape, weights: int = 1, x: Draw | None = None, **form: Any) -> Case:
    size = math.prod(shape)
    return declare(
        "prelu",
        {"x": x or shape, "weight": (weights,)},
        shape,
        flops=size,
        tolerance=lambda a, expected: (np.abs(expected[0]),),
        backward=Backward(flops=3 * size, tolerance=_prelu_error, shapes=(shape, (weights,))),
        **form,
    )


def _prelu_error(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """A product's rounding; for the weight, those of a sum of size / weights terms."""
    terms = reference.prelu_backward(np.abs(a["grad_output"]), -np.abs(a["x"]), a["weight"])[1]
    return np.abs(expected[0]), 4 * np.sqrt(a["x"].size / a["weight"].size + 2) * np.abs(terms)


def _count(x: np.ndarray, dim: int) -> int:
    """Elements along a dimension, of which a 0-d array has one."""
    return x.shape[dim] if x.ndim else 1


def _spread(x: Array) -> float:
    """The largest |x - max(x)| that exp is taken of: one rounding of it is that many of exp's result."""
    finite = x[np.isfinite(x) & (np.abs(x) < 1e30)]
    return float(np.ptp(finite)) if finite.size else 0.0


def _softmax(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Relative: exp's and the division's few roundings, the sum's sqrt(classes), and that of exp's argument."""
    return ((8 + np.sqrt(_count(a["x"], a["dim"])) + _spread(a["x"])) * expected[0],)


def _softmin(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    return _softmax(a | {"x": -a["x"]}, expected)


def _log_softmax(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Absolute in terms of |x - max| and log(sum): y is their difference."""
    return (8 + 2 * np.sqrt(_count(a["x"], a["dim"])) + 2 * _spread(a["x"]) + 2 * np.abs(expected[0]),)


def _softmax_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """The terms of y (g - sum(g y)), all taken positive; a few roundings each and sqrt(classes) for the sum."""
    g, y = np.abs(a["grad_output"]), np.abs(a["y"])
    return (2 * (4 + np.sqrt(_count(y, a["dim"]))) * y * (g + (g * y).sum(a["dim"], keepdims=True)),)


def _log_softmax_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """The terms of g - exp(y) sum(g), all taken positive."""
    g = -np.abs(a["grad_output"])
    return (
        2 * (4 + np.sqrt(_count(g, a["dim"]))) * np.abs(reference.log_softmax_backward(-g, a["y"], a["dim"]) + 2 * g),
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
            ("softmin", _softmin, _softmax_backward),
            ("log_softmax", _log_softmax, _log_softmax_backward),
        )
    ]


def _glu(shape: Shape, dim: int = -1, x: Draw | None = None, **form: Any) -> Case:
    half = list(shape)
    half[dim] //= 2
    size = math.prod(half)
    return declare(
        "glu",
        {"x": x or shape},
        tuple(half),
        dim=dim,
        flops=4 * size,
        tolerance=lambda a, expected: (12 * np.abs(expected[0]),),
        backward=Backward(flops=8 * size, tolerance=_glu_error, shapes=(shape,)),
        **form,
    )


def _glu_error(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Some roundings of the terms of grad_output a s (1 - s); 1 - s has one of 1."""
    gate = np.abs(expected[0])
    first, _ = np.split(np.nan_to_num(np.abs(a["x"]), posinf=0), 2, a["dim"])
    _, s = np.split(reference.sigmoid(a["x"]), 2, a["dim"])
    cancelled = np.abs(a["grad_output"]) * first * s
    return (12 * gate + 4 * np.nan_to_num(np.concatenate([0 * cancelled, cancelled], a["dim"])),)


def _tags(operation: str) -> tuple[str, ...]:
    """torch's gradient of softsign is NaN at infinity."""
    return ("special", "not-in-torch") if operation == "softsign" else ("special",)


_LENGTHS = (0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 129)
_SHAPES: list[Shape] = [(), *((n,) for n in _LENGTHS), (3, 5, 7), (2, 0, 3), (70_001,)]
_EACH = [(operation, which) for operation, variants in ELEMENTWISE.items() for which in variants]

CASES = [
    *(_elementwise("relu", Elementwise(), shape) for shape in _SHAPES),
    *(_elementwise(*each, shape) for each in _EACH[1:] for shape in ((), (0,), (33,), (3, 5, 7), (20_001,))),
    *(_elementwise(*each, (12, 21), _special, note="special", tags=_tags(each[0])) for each in _EACH),
    _elementwise("relu", Elementwise(), (8,), note="tiny", tags=("bench",)),
    *(_elementwise(*each, (1 << 14,), tags=("bench",)) for each in _EACH),
    *(_elementwise(*each, (6_400_000,), tags=("bench", "large")) for each in _EACH),
    *(_prelu(shape) for shape in ((), (0,), (1,), (33,), (3, 5, 7), (70_001,))),
    *(_prelu(shape, 5) for shape in ((3, 5), (0, 5), (3, 5, 0), (2, 5, 7), (3, 5, 4, 9), (40, 5))),
    *(_prelu((70, n), n) for n in (2, 15, 16, 17, 63, 130)),
    _prelu((12, 21), 21, _special, note="special", tags=("special",)),
    _prelu((12, 21), 1, _special, note="special", tags=("special",)),
    _prelu((32, 64, 14, 14), 64, tags=("bench",)),
    _prelu((8, 64, 112, 112), 64, tags=("bench", "large")),
    *(_glu((n, 6)) for n in (1, 3)),
    *(_glu((3, 2 * n)) for n in (1, 7, 8, 9, 16, 33)),
    *(_glu((3, 4, 5), dim) for dim in (1, -2)),
    _glu((4, 17, 3), 0),
    *(_glu(shape) for shape in ((0, 4), (2, 0), (8,))),
    _glu(
        (12, 22),
        x=lambda rng: np.concatenate([_special(rng), _special(rng)[:, :1]], 1),
        note="special",
        tags=("special",),
    ),
    _glu((64, 256), tags=("bench",)),
    _glu((8, 128, 56, 56), 1, tags=("bench", "large")),
    *(c for n in _LENGTHS[1:] for c in _softmaxes((3, n), (3, n))),
    *_softmaxes((), ()),
    *_softmaxes((), (), dim=0),
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
