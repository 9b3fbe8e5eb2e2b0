"""Policies: sequences of few and many columns around vector widths, episodes that end; distributions around them too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import reference
from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, declare

# Over time


def _ends(shape: Shape, part: float) -> Draw:
    """Bools, that part of them true."""
    return lambda rng: np.asarray(rng.uniform(size=shape) < part)


def _roundings(a: Arguments) -> float:
    """Of a sum over steps that is carried on by a factor, in units of its terms taken positive: as many steps as it
    reaches over, each with some five roundings, add up at random (case.summed); and where the factor is no number of
    float32, its own error once for each step."""
    steps = len(next(value for value in a.values() if isinstance(value, np.ndarray)))
    factor = a["gamma"] * a.get("lmbda", 1.0)
    reach = min(steps, 1 / (1 - factor) if factor < 1 else math.inf)
    return 4 * np.sqrt(5 * reach + 2) + (0 if np.float32(factor) == factor else reach)


def _positive(a: Arguments, *names: str) -> Arguments:
    """With those arguments positive, and state_value so that it adds to them."""
    signs = {name: np.abs(a[name]) for name in names if a.get(name) is not None}
    return a | signs | ({"state_value": -np.abs(a["state_value"])} if "state_value" in a else {})


def _returns_tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    return (_roundings(a) * reference.discounted_returns(**_positive(a, "reward", "bootstrap")),)


def _returns_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    grads = reference.discounted_returns_backward(**_positive(a, "grad_output"))
    return tuple(_roundings(a) * grad for grad in grads)


def _gae_tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    advantage, _ = reference.gae(**_positive(a, "reward", "next_state_value"))
    return _roundings(a) * advantage, _roundings(a) * (advantage + np.abs(a["state_value"]))


def _gae_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    reward, _, next_ = reference.gae_backward(**_positive(a, "grad_advantage", "grad_value_target"))
    return tuple(_roundings(a) * grad for grad in (reward, reward + np.abs(a["grad_value_target"]), next_))


def _vtrace_tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Ratios are within some roundings of theirs, and count once a step."""
    advantage, target = reference.vtrace(**_positive(a, "reward", "next_state_value"))
    units = 2 * _roundings(a)
    return units * advantage, units * (target + 2 * np.abs(a["state_value"]))


def _returns(shape: Shape, *, bootstrap: bool = True, part: float = 0.1, reward: Any = None, **form: Any) -> Case:
    size = math.prod(shape)
    return declare(
        "discounted_returns",
        {"reward": reward or shape, "done": _ends(shape, part), "bootstrap": shape[1:] if bootstrap else None},
        shape,
        flops=2 * size,
        tolerance=_returns_tolerance,
        backward=Backward(flops=2 * size, tolerance=_returns_backward, shapes=(shape, shape[1:])),
        note=_note(form, shape, bootstrap=bootstrap, part=part),
        **form,
    )


def _gae(shape: Shape, *, done: bool = False, part: float = 0.1, **form: Any) -> Case:
    size = math.prod(shape)
    values = {name: form.pop(name, shape) for name in ("reward", "state_value", "next_state_value")}
    return declare(
        "gae",
        values | {"terminated": _ends(shape, part), "done": _ends(shape, 2 * part) if done else None},
        (shape, shape),
        flops=6 * size,
        tolerance=_gae_tolerance,
        data=("done",),
        backward=Backward(
            flops=5 * size,
            tolerance=_gae_backward,
            shapes=(shape,) * 3,
            grads=("grad_advantage", "grad_value_target"),
        ),
        note=_note(form, shape, done=done, part=part),
        **form,
    )


def _vtrace(shape: Shape, *, done: bool = True, part: float = 0.1, **form: Any) -> Case:
    values = {name: form.pop(name, shape) for name in ("log_rho", "reward", "state_value", "next_state_value")}
    return declare(
        "vtrace",
        values | {"terminated": _ends(shape, part), "done": _ends(shape, 2 * part) if done else None},
        (shape, shape),
        flops=30 * math.prod(shape),
        tolerance=_vtrace_tolerance,
        note=_note(form, shape, done=done, part=part),
        **form,
    )


def _note(form: dict[str, Any], shape: Shape, **options: Any) -> str:
    words = [form.pop("note", ""), "x".join(map(str, shape)), *(f"{name}={value}" for name, value in options.items())]
    return "-".join(filter(None, words))


def _not_finite(rng: np.random.Generator) -> Array:
    """Of the columns some have NaN or infinity somewhere; none more than one kind, which would make another."""
    x = rng.standard_normal((9, 21))
    x[4, 3], x[8, 7], x[0, 11], x[5, 20] = np.nan, np.inf, -np.inf, np.nan
    return x


_HALF: dict[str, Any] = {"gamma": 0.9375}
_BOTH: dict[str, Any] = {"gamma": 0.9375, "lmbda": 0.75}
_USUAL: dict[str, Any] = {"gamma": 0.99, "lmbda": 0.95}
_SHAPES: tuple[Shape, ...] = (
    *((n,) for n in (1, 2, 33)),
    *((5, n) for n in (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 100)),
    (1, 6),
    (200, 6),
    (4, 3, 5),
)
_EMPTY: tuple[Shape, ...] = ((0,), (0, 3), (4, 0))

_OVER_TIME = [
    *(_returns(shape, **_HALF) for shape in _SHAPES),
    *(_returns(shape, **_HALF, tags=("empty",)) for shape in _EMPTY),
    *(_returns((20, 5), bootstrap=False, gamma=gamma) for gamma in (0.0, 0.99, 1.0)),
    *(_returns((20, 5), part=part, gamma=0.5) for part in (0.0, 1.0)),
    _returns((9, 21), reward=_not_finite, **_HALF, note="special", tags=("special",)),
    *(_gae(shape, **_BOTH) for shape in _SHAPES),
    *(_gae(shape, **_BOTH, tags=("empty",)) for shape in _EMPTY),
    *(_gae((40, 9), done=True, gamma=gamma, lmbda=lmbda) for gamma, lmbda in ((0.99, 0.95), (1.0, 1.0), (0.5, 0.0))),
    *(_gae((20, 5), part=part, done=True, **_BOTH) for part in (0.0, 0.5)),
    _gae((9, 21), done=True, reward=_not_finite, **_BOTH, note="special-reward", tags=("special",)),
    _gae((9, 21), done=True, next_state_value=_not_finite, **_BOTH, note="special-value", tags=("special",)),
    *(_vtrace(shape, **_BOTH) for shape in _SHAPES),
    *(_vtrace(shape, **_BOTH, tags=("empty",)) for shape in _EMPTY),
    _vtrace((40, 9), done=False, gamma=0.99),
    _vtrace((40, 9), **_USUAL, rho_threshold=2.0, c_threshold=0.5),
    _vtrace((40, 9), **_BOTH, rho_threshold=math.inf, c_threshold=0.0),
    _vtrace((9, 21), log_rho=_not_finite, **_BOTH, note="special-ratio", tags=("special",)),
    _vtrace((9, 21), reward=_not_finite, **_BOTH, note="special-reward", tags=("special",)),
    *(
        form(shape, **options, tags=("bench",))
        for shape in ((128, 8), (2048, 1), (2048, 64))
        for form, options in ((_returns, {"gamma": 0.99}), (_gae, _USUAL), (_vtrace, {"gamma": 0.99}))
    ),
    _gae((1024, 2048), **_USUAL, tags=("large",)),
]

CASES = [*_OVER_TIME]
