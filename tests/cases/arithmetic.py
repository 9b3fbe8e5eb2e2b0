"""Arithmetic: sizes around vectors, dimensions that are broadcast in every place, numbers, NaN, infinity and ties."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, declare, exact


def _rounded(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """One or two roundings of the result, and of the product with alpha, itself rounded to the dtype, one of that."""
    return (3 * np.abs(a.get("alpha", 1.0) * a["other"]) + 2 * np.abs(expected[0]),)


def _relative(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    return (4 * np.abs(expected[0]),)


def _summed_grads(operation: str) -> Any:
    """Of sums over what is broadcast: as in `summed`, of the terms' magnitudes, each of a few roundings itself."""

    def tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        grad = np.abs(a["grad_output"])
        names = [name for name in ("x", "other", "exponent") if name in a]
        parts = _TERMS[operation](a)
        found = []
        for name, part in zip(names, parts, strict=True):
            whole = np.broadcast_to(grad * part, grad.shape)
            of = a[name]
            total = whole.sum(tuple(range(whole.ndim - of.ndim)))
            total = total.sum(tuple(d for d, n in enumerate(of.shape) if n == 1), keepdims=True)
            found.append((8 + 4 * math.sqrt(whole.size // max(of.size, 1) + 2)) * total)
        return tuple(found)

    return tolerance


_TERMS: dict[str, Any] = {
    "add": lambda a: (1.0, abs(a.get("alpha", 1.0))),
    "sub": lambda a: (1.0, abs(a.get("alpha", 1.0))),
    "mul": lambda a: (np.abs(a["other"]), np.abs(a["x"])),
    "div": lambda a: (1 / np.abs(a["other"]), np.abs(a["x"] / a["other"] / a["other"])),
    "pow": lambda a: (
        np.where(a["exponent"] == 0, 0, np.abs(a["exponent"] * np.power(a["x"], a["exponent"] - 1))),
        np.where((a["x"] == 0) & (a["exponent"] >= 0), 0, np.abs(np.power(a["x"], a["exponent"]) * np.log(a["x"]))),
    ),
    "maximum": lambda a: (1.0, 1.0),
    "minimum": lambda a: (1.0, 1.0),
    "where": lambda a: (1.0, 1.0),
}


def _apart_from_0(shape: Shape) -> Draw:
    def draw(rng: np.random.Generator) -> Array:
        return rng.uniform(0.25, 3.0, shape)

    return draw


def _two(
    operation: str, x: Shape, y: Shape | None = None, x_of: Draw | None = None, y_of: Draw | None = None, **form: Any
) -> Case:
    y = x if y is None else y
    shape = np.broadcast_shapes(x, y)
    positive = operation in ("div", "pow") and x_of is None and y_of is None
    drawn = {
        "x": x_of or (_apart_from_0(x) if positive else x),
        "exponent" if operation == "pow" else "other": y_of or (_apart_from_0(y) if positive else y),
    }
    exactly = operation in ("maximum", "minimum", "where")
    more = x != y or positive or x_of
    return declare(
        operation,
        drawn,
        shape,
        flops=math.prod(shape),
        tolerance=exact if exactly else _rounded if operation in ("add", "sub") else _relative,
        backward=Backward(flops=2 * math.prod(shape), tolerance=_summed_grads(operation), shapes=(x, y)),
        note=form.pop("note", "") or ("x".join(map(str, x)) + "_" + "x".join(map(str, y)) if more else ""),
        **form,
    )


def _number(operation: str, shape: Shape, **form: Any) -> Case:
    """With a number in place of one of the arrays; its gradient is tested in tests/test_arithmetic.py."""
    name = "y" if set(form) & {"other", "exponent"} else "exponent" if operation == "pow" else "other"
    given = {"x" if set(form) & {"other", "exponent"} else name: _apart_from_0(shape)}
    value = next(form[n] for n in ("x", "other", "exponent") if n in form)

    def tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        return (3 * abs(a.get("alpha", 1.0) * value) + 4 * np.abs(expected[0]) + 3 * np.abs(a.get("other", 0.0)),)

    return declare(
        operation,
        given,
        shape,
        flops=math.prod(shape),
        tolerance=exact if operation in ("maximum", "minimum") else tolerance,
        note="x".join(map(str, shape)),
        **form,
    )


def _bools(shape: Shape) -> Draw:
    def draw(rng: np.random.Generator) -> Array:
        return rng.random(shape) < 0.5

    return draw


def _where(condition: Shape, x: Shape, y: Shape, **form: Any) -> Case:
    shape = np.broadcast_shapes(condition, x, y)
    return declare(
        "where",
        {"condition": _bools(condition), "x": x, "other": y},
        shape,
        flops=0,
        tolerance=exact,
        backward=Backward(flops=0, tolerance=_summed_grads("where"), shapes=(x, y)),
        note=form.pop("note", "") or "x".join(map(str, condition)) + "_",
        **form,
    )


def _special(rng: np.random.Generator) -> Array:
    x = rng.standard_normal(133)
    x[::3], x[1::6], x[4::6] = np.nan, np.inf, -np.inf
    return x


def _values(*found: float) -> tuple[Draw, Draw]:
    """Every one of them with every other."""
    x, y = (np.array(part).ravel() for part in np.meshgrid(found, found))
    return (lambda rng: x.copy()), (lambda rng: y.copy())


_EDGES = (0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, 0.5, -0.5, -3.0, 1e30, -1e30, np.inf, -np.inf, np.nan)
_LENGTHS = (0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 1023, 1025)
_BROADCAST = (
    ((3, 5), (5,)),
    ((5,), (3, 5)),
    ((4, 1), (1, 6)),
    ((2, 3, 4), (3, 1)),
    ((2, 1, 4), (3, 1)),
    ((3, 40, 70), (40, 1)),
    ((3, 7, 300), (300,)),
    ((3, 7, 300), (7, 1)),
    ((3, 1, 300), (7, 300)),
    ((1, 1), (1,)),
    ((5,), ()),
    ((0, 3), (3,)),
    ((2, 3, 5, 3, 2), (3, 1, 3, 1)),
)
_NAMES = ("add", "sub", "mul", "div", "pow", "maximum", "minimum")

CASES = [
    *(_two("add", (n,)) for n in _LENGTHS),
    *(_two("add", (3, 5, 7), alpha=alpha) for alpha in (-1.0, 0.1, 3.0)),
    _two("add", (), alpha=2.0),
    _two("add", (70_001,), alpha=0.3),
    *(_two("add", (133,), x_of=_special, alpha=alpha, note="special", tags=("special",)) for alpha in (1.0, 0.0, -2.0)),
    *(_two(name, (n,)) for name in ("mul", "pow", "maximum") for n in _LENGTHS if n),
    *(_two(name, x, y) for name in _NAMES for x, y in _BROADCAST),
    _two("sub", (3, 4), (4,), alpha=0.5),
    *(_two("mul", (9, n), (n,)) for n in (1, 2, 127, 255, 256, 257, 1030)),
    *(_two("mul", (n, 9), (n, 1)) for n in (130, 300, 1030)),
    _two("mul", (3, 70_001), (70_001,)),
    _two("mul", (70_001, 3), (3,)),
    *(
        _two(
            name,
            (len(_EDGES) ** 2,),
            x_of=_values(*_EDGES)[0],
            y_of=_values(*_EDGES)[1],
            note="special",
            tags=("special",),
        )
        for name in _NAMES
    ),
    *(_number(name, (35,), other=1.5) for name in ("add", "sub", "mul", "div", "maximum", "minimum")),
    *(_number(name, (35,), x=1.5) for name in ("add", "sub", "mul", "div", "maximum", "minimum")),
    *(_number("pow", (35,), exponent=e) for e in (2, 3, 0.5, -0.5, -1, -2, 0, 1, 1.7)),
    _number("pow", (35,), x=1.5),
    _number("add", (3, 4), other=2, alpha=3.0),
    *(
        _where(c, x, y)
        for c, x, y in (
            ((7,), (7,), (7,)),
            ((33,), (33,), (33,)),
            ((3, 1), (5,), (3, 5)),
            ((5,), (3, 1), ()),
            ((2, 3, 1), (3, 4), (2, 1, 4)),
            ((3, 300), (300,), (3, 1)),
            ((), (3,), (3,)),
            ((0,), (1,), ()),
        )
    ),
    *(
        _two(name, shapes[0], shapes[1], tags=tags)
        for name in _NAMES
        for shapes, tags in (
            (((8,), (8,)), ("bench",)),
            (((32, 64), (32, 64)), ("bench",)),
            (((32, 64), (64,)), ("bench",)),
            (((8, 64, 56, 56), (8, 64, 56, 56)), ("bench", "large")),
            (((8, 64, 56, 56), (64, 1, 1)), ("bench", "large")),
        )
    ),
    _two("add", (8, 64, 112, 112), tags=("bench", "large")),
    _where((32, 64), (32, 64), (64,), tags=("bench",)),
    _where((8, 64, 56, 56), (8, 64, 56, 56), (8, 64, 56, 56), tags=("bench", "large")),
]
