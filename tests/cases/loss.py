"""Losses: sizes around vector widths, every reduction, weights, kinks, scores far apart, and what is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastdl import reference
from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, Tolerance, declare

_DATA = ("target", "weight", "pos_weight")
Magnitude = Callable[[Arguments], Any]


def _reduced(values: Any, reduction: str) -> Any:
    values = np.asarray(values)
    divisor = {"mean": values.size, "batchmean": values.shape[0] if values.ndim else 1}.get(reduction, 1)
    return values if reduction == "none" else values.sum() / max(divisor, 1)


def _of_sum(x: Array, terms: int) -> float:
    """Roundings of adding so many terms in double: none that matters, unless that is the precision of x itself."""
    return 0.0 if np.array_equal(x, x.astype(np.float32), equal_nan=True) else np.sqrt(terms)


# Element by element

# Roundings of one element: some ten, of its terms taken positive; functions are within 1 to 3 of theirs.
# A sum adds those of 32 terms in a row, whose errors grow as the root of that, and none after: 4 sqrt(32).
_ROUNDINGS, _IN_A_ROW = 12, 24


def _terms(name: str, a: Arguments) -> Any:
    """The terms of each loss, taken positive."""
    x, t = np.abs(a["x"]), np.abs(a["target"])
    p, w = (np.abs(a[key]) if a.get(key) is not None else 1 for key in ("pos_weight", "weight"))
    if name == "binary_cross_entropy_with_logits":
        return w * np.abs((1 - t) * np.logaddexp(0, a["x"]) + p * t * np.logaddexp(0, -a["x"]))
    if name == "kl_div" and a.get("log_target"):
        return np.exp(a["target"]) * (x + t)
    if name == "kl_div":
        return np.where(t == 0, 0, np.abs(t * np.log(t))) + t * x
    if name == "hinge_embedding_loss":
        return abs(a.get("margin", 1)) + x
    # None of the others has terms of different signs.
    forward = getattr(reference, name)
    return np.abs(forward(**{k: v for k, v in a.items() if k != "grad_output"} | {"reduction": "none"}))


def _elementwise_tolerance(name: str) -> Tolerance:
    def tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        reduction = a.get("reduction", "mean")
        units = _ROUNDINGS + (0 if reduction == "none" else _IN_A_ROW + _of_sum(a["x"], a["x"].size))
        return (units * _reduced(_terms(name, a), reduction),)

    return tolerance


def _elementwise_backward(name: str) -> Tolerance:
    def tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        """Relative; but where two terms of different signs are added, to them taken positive."""
        if name != "binary_cross_entropy_with_logits":
            return (_ROUNDINGS * np.abs(expected[0]),)
        positive = {k: np.abs(a[k]) if a.get(k) is not None else 1 for k in ("weight", "pos_weight", "target")}
        sigmoid, rest = np.exp(-np.logaddexp(0, -a["x"])), np.exp(-np.logaddexp(0, a["x"]))
        slope = np.abs(1 - a["target"]) * sigmoid + positive["pos_weight"] * positive["target"] * rest
        scale = max(slope.size, 1) if a.get("reduction", "mean") == "mean" else 1
        return (_ROUNDINGS * np.abs(a["grad_output"]) * positive["weight"] * slope / scale,)

    return tolerance


def _elementwise(
    name: str, shape: Shape, x: Draw | None = None, target: Draw | None = None, others: Any = None, **form: Any
) -> Case:
    size = math.prod(shape)
    draw_x, draw_target = _DRAWS.get(name, (None, None))
    if form.get("log_target"):
        draw_target = draw_x
    # (what is drawn stands in the shape's place, so that a case is named by it)
    inputs = {"x": x or _drawn(draw_x, shape), "target": target or _drawn(draw_target, shape)} | (others or {})
    note = "-".join(filter(None, [form.pop("note", ""), "x".join(map(str, shape)) or "scalar"]))
    return declare(
        name,
        inputs,
        shape if form.get("reduction") == "none" else (),
        flops=4 * size,
        tolerance=_elementwise_tolerance(name),
        data=tuple(key for key in inputs if key in _DATA),
        backward=Backward(flops=4 * size, tolerance=_elementwise_backward(name), shapes=(shape,)),
        note=note,
        **form,
    )


def _drawn(draw: Callable[[np.random.Generator, Shape], Array] | None, shape: Shape) -> Draw:
    return lambda rng: draw(rng, shape) if draw else np.asarray(rng.standard_normal(shape))


def _probability(rng: np.random.Generator, shape: Shape) -> Array:
    return np.asarray(rng.uniform(0.05, 0.95, shape))


def _signs(rng: np.random.Generator, shape: Shape) -> Array:
    return np.asarray(rng.choice([-1.0, 1.0, 0.5], shape, p=[0.45, 0.45, 0.1]))


_DRAWS: dict[str, Any] = {
    "binary_cross_entropy": (_probability, _probability),
    "binary_cross_entropy_with_logits": (lambda rng, shape: np.asarray(3 * rng.standard_normal(shape)), _probability),
    "kl_div": (lambda rng, shape: np.asarray(np.log(rng.uniform(0.05, 0.95, shape))), _probability),
    "hinge_embedding_loss": (None, _signs),
}
_NAMES = (
    "mse_loss",
    "l1_loss",
    "huber_loss",
    "smooth_l1_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "kl_div",
    "hinge_embedding_loss",
)


def _not_finite(rng: np.random.Generator, shape: Shape) -> Array:
    return np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38, 1e30, -1e30, 1.0, -1.0, 40.0, -40.0, 1e-30, 2.0])


def _special(name: str) -> list[Case]:
    """NaN, infinities and huge values, and equal values, which are on a kink; and probabilities of 0 and 1."""
    form: dict[str, Any] = {"reduction": "none", "tags": ("special",), "note": "special"}
    if name == "binary_cross_entropy":
        x = np.array([0.0, 0.0, 1.0, 1.0, 1e-30, 0.5, 1.0 - 1e-7])
        t = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.5, 0.3])
        return [_elementwise(name, (7,), lambda rng: x, lambda rng: t, **form)]
    cases = []
    for i, t in enumerate((0.0, 1.0, -1.0)):
        if name == "binary_cross_entropy_with_logits":
            if t < 0:
                continue
            # (not both infinities: torch's own formula makes NaN of a loss that is infinite)
            x = _not_finite(np.random.default_rng(0), ())
            x = x[x != (-np.inf if t else np.inf)] if t else x
        else:
            x = _not_finite(np.random.default_rng(0), ())
        if name == "mse_loss":  # whose squares overflow
            x = x[~(np.abs(x) > 1e18) | np.isinf(x)]
        cases.append(
            _elementwise(
                name,
                x.shape,
                lambda rng, x=x: x,
                lambda rng, x=x, t=t: np.full(x.shape, t),
                **form | {"note": f"special{i}"},
            )
        )
    return cases


def _elementwise_cases(name: str) -> list[Case]:
    return [
        *(_elementwise(name, shape) for shape in ((), (1,), (15,), (16,), (33,), (3, 5, 7), (5_000,))),
        _elementwise(name, (0, 3), tags=("special",)),  # the mean of nothing: NaN
        *(_elementwise(name, shape, reduction="sum") for shape in ((17,), (0,), (2, 70_001))),
        *(_elementwise(name, shape, reduction="none") for shape in ((), (7,), (0,), (3, 43))),
        *_special(name),
        _elementwise(name, (1 << 10,), tags=("bench",)),
        _elementwise(name, (1 << 22,), tags=("bench", "large")),
        _elementwise(name, (10_000_000,), tags=("large",)),
        _elementwise(name, (1 << 22,), reduction="none", tags=("large",)),
    ]


def _kinked(rng: np.random.Generator) -> Array:
    return 3 * rng.standard_normal((9, 11))


# Of classes


def _spread(x: Array) -> Any:
    """The largest |x - max| of each row, classes last."""
    rows = reference.loss._classes_last(x)
    with np.errstate(invalid="ignore"):
        finite = np.where(np.isfinite(rows), rows, np.nan)
        return np.nan_to_num(np.nanmax(finite, -1, initial=-np.inf) - np.nanmin(finite, -1, initial=np.inf))


def _coefficients(a: Arguments) -> tuple[Any, float]:
    options = (a["target"], a.get("weight"), a.get("ignore_index", -100), a.get("label_smoothing", 0.0))
    c, count = reference.loss._coefficients(a["x"], *options)
    return c, {"mean": count, "none": 1, "sum": 1}[a.get("reduction", "mean")]


def _cross_entropy_tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Absolute, a row: a few roundings of log(sum(exp)) and of x - max, whose difference the loss is; then the sum."""
    c, count = _coefficients(a)
    rows = c.sum(-1) * (8 + 2 * np.sqrt(c.shape[-1]) + 2 * _spread(a["x"]))
    if a.get("reduction", "mean") != "none":
        rows = np.asarray(rows.sum() / count * (1 + _of_sum(a["x"], rows.size)) if count else 0)
    return (rows + 2 * np.abs(expected[0]),)


def _cross_entropy_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """As softmax, relative to the terms of g (sum(c) softmax - c) taken positive."""
    c, count = _coefficients(a)
    rows = reference.loss._classes_last(a["x"])
    terms = reference.softmax(rows) * c.sum(-1, keepdims=True) + c
    terms *= np.abs(np.asarray(a.get("grad_output", 1.0)))[..., None] / (count or 1)
    terms *= 8 + np.sqrt(c.shape[-1]) + _spread(a["x"])[..., None] + _of_sum(a["x"], a["x"].size)
    return (np.moveaxis(terms, -1, min(a["x"].ndim - 1, 1)),)


def _with_grad(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    return *_cross_entropy_tolerance(a, expected[:1]), *_cross_entropy_backward(a, expected[1:])


def _nll_tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Products, summed in double: of their magnitudes."""
    return ((4 + _of_sum(a["x"], a["x"].size)) * reference.nll_loss(**a | {"x": -np.abs(a["x"])}),)


def _nll_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Relative; the mean divides by a sum of weights."""
    return ((4 + _of_sum(a["x"], a["x"].size)) * np.abs(expected[0]),)


def _classes(
    name: str,
    shape: Shape,
    x: Draw | None = None,
    soft: bool = False,
    weight: bool = False,
    ignored: float = 0.0,
    **form: Any,
) -> Case:
    """ignored: the part of the targets that says ignore_index. soft: probabilities."""
    rows = shape[:1] + shape[2:] if len(shape) > 1 else ()
    classes = shape[min(len(shape) - 1, 1)]

    def target(rng: np.random.Generator) -> Array:
        if soft:
            p = rng.uniform(0, 1, shape)
            return p / p.sum(min(len(shape) - 1, 1), keepdims=True)
        named = np.asarray(rng.integers(0, max(classes, 1), rows))
        return np.where(rng.uniform(size=rows) < ignored, form.get("ignore_index", -100), named)

    def positive(rng: np.random.Generator) -> Array:
        return rng.uniform(0.2, 2, classes)

    inputs = {"x": x or shape, "target": target} | ({"weight": positive} if weight else {})
    words = {"soft": soft, "weighted": weight, "ignored": ignored}
    note = "-".join(filter(None, [form.pop("note", ""), *(word for word, said in words.items() if said)]))
    if x:
        note += ("-" if note else "") + "x".join(map(str, shape))
    reduced = rows if form.get("reduction") == "none" else ()
    flops, form["data"] = 4 * math.prod(shape), ("target",) * soft + ("weight",) * weight
    if name == "cross_entropy_with_grad":
        return declare(name, inputs, (reduced, shape), flops=2 * flops, tolerance=_with_grad, note=note, **form)
    tolerances = {
        "cross_entropy": (_cross_entropy_tolerance, _cross_entropy_backward),
        "nll_loss": (_nll_tolerance, _nll_backward),
    }[name]
    return declare(
        name,
        inputs,
        reduced,
        flops=flops,
        tolerance=tolerances[0],
        backward=Backward(flops=flops, tolerance=tolerances[1], shapes=(shape,)),
        note=note,
        **form,
    )


def _special_scores(rng: np.random.Generator) -> Array:
    x = rng.standard_normal((8, 17))
    x[0, 3], x[1, 16], x[2, 0], x[3] = np.nan, np.inf, -np.inf, -np.inf
    return x


def _far_apart(shape: Shape) -> Draw:
    """Logits up to 1e30 on either side."""
    return lambda rng: rng.choice([-1e30, -1e5, 0.0, 1.0, 1e5, 1e30], shape)


def _class_cases(name: str) -> list[Case]:
    return [
        *(_classes(name, (5, n)) for n in (1, 2, 15, 16, 17, 31, 33, 1000)),
        *(_classes(name, (n, 10), reduction="sum") for n in (1, 15, 16, 17)),
        *(_classes(name, (n, 10), reduction="none") for n in (0, 1, 33)),
        _classes(name, (0, 10), tags=("special",)),  # the mean of nothing: NaN
        _classes(name, (0, 10), reduction="sum"),
        _classes(name, (7,)),
        _classes(name, (7,), weight=True, reduction="none"),
        *(
            _classes(name, shape, weight=weight, ignored=ignored, ignore_index=index, reduction=reduction)
            for shape in ((9, 21), (3, 5, 70), (2, 40, 3, 5))
            for weight, ignored, index in ((True, 0.3, -100), (False, 0.5, 2))
            for reduction in ("mean", "none")
        ),
        _classes(name, (2, 3, 0, 4), reduction="none"),
        _classes(name, (3, 4), ignored=1.0, tags=("special",)),
        _classes(name, (2, 4, 3), ignored=1.0, tags=("special",)),
        _classes(name, (8, 17), _special_scores, reduction="none", note="special", tags=("special",)),
        _classes(name, (8, 17), _special_scores, note="special", tags=("special",)),
        _classes(name, (700, 130)),
        _classes(name, (128, 10), tags=("bench",)),
        _classes(name, (1024, 1000), tags=("bench", "large")),
        _classes(name, (8, 21, 128, 128), tags=("bench", "large")),
        _classes(name, (1_000_000, 10), tags=("large",)),
    ]


def _entropy_cases(name: str) -> list[Case]:
    return [
        *_class_cases(name),
        *(
            _classes(name, shape, soft=soft, weight=weight, reduction=reduction, label_smoothing=smoothing)
            for shape in ((9, 21), (3, 5, 70), (5,), (2, 40, 3, 5))
            for soft, smoothing in ((True, 0.0), (True, 0.2), (False, 0.1))
            for weight, reduction in ((False, "mean"), (True, "none"), (True, "mean"))
        ),
        *(_classes(name, shape, label_smoothing=0.3, weight=True, ignored=0.4) for shape in ((9, 16), (2, 3, 17))),
        *(_classes(name, shape, label_smoothing=0.3, ignored=1.0, tags=("special",)) for shape in ((3, 4), (2, 3, 5))),
        _classes(name, (9, 5), label_smoothing=1.0),
        _classes(name, (0, 10), soft=True, tags=("special",)),
        *(
            _classes(name, (n, 20), lambda rng, n=n: 30 * rng.standard_normal((n, 20)) + 1000, note="far-from-zero")
            for n in (9,)
        ),
        *(
            _classes(name, shape, _far_apart(shape), soft=soft, reduction=reduction, note="far-apart")
            for shape in ((40, 9), (4, 9, 10))
            for soft in (False, True)
            for reduction in ("none", "mean")
        ),
        _classes(name, (512, 1000), soft=True, tags=("large",)),
    ]


# cosine_embedding_loss


def _cosine_parts(a: Arguments) -> tuple[Array, Array, Array]:
    return reference.loss._cosine(a["x1"], a["x2"])


def _cosine_tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Absolute: a cosine is a sum of products, whose magnitudes add up to no more than 1."""
    return (_reduced(np.ones(a["target"].shape) * (8 + _IN_A_ROW), a.get("reduction", "mean")),)


def _cosine_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Relative to the two terms taken positive; the cosine may be off as above."""
    _, square1, square2 = (np.asarray(part)[..., None] for part in _cosine_parts(a))
    scale = np.abs(np.asarray(a["grad_output"]))[..., None]
    scale = scale / (max(a["target"].size, 1) if a.get("reduction", "mean") == "mean" else 1)
    length, units = np.sqrt(square1 * square2), 8 + _IN_A_ROW
    x1, x2 = np.abs(a["x1"]), np.abs(a["x2"])
    return (units * scale * (x2 / length + x1 / square1), units * scale * (x1 / length + x2 / square2))


def _cosine(shape: Shape, target: Draw | None = None, **form: Any) -> Case:
    rows = shape[:-1]
    reduced = rows if form.get("reduction") == "none" else ()
    flops = 6 * math.prod(shape)
    return declare(
        "cosine_embedding_loss",
        {"x1": form.pop("x1", shape), "x2": shape, "target": target or (lambda rng: _signs(rng, rows))},
        reduced,
        flops=flops,
        tolerance=_cosine_tolerance,
        data=("target",),
        backward=Backward(flops=2 * flops, tolerance=_cosine_backward, shapes=(shape, shape)),
        **form,
    )


def _special_vectors(rng: np.random.Generator) -> Array:
    x = rng.standard_normal((6, 9))
    x[0], x[1, 3], x[2], x[3] = 0, np.nan, 1e15, 1e-12
    return x


CASES = [
    *(case for name in _NAMES for case in _elementwise_cases(name)),
    _elementwise("huber_loss", (9, 11), _kinked, delta=0.7, note="kinked"),
    _elementwise("huber_loss", (9, 11), _kinked, delta=float("inf"), note="kinked"),
    _elementwise("smooth_l1_loss", (9, 11), _kinked, beta=0.3, note="kinked"),
    _elementwise("smooth_l1_loss", (9, 11), _kinked, beta=0.0, reduction="none", note="kinked"),
    _elementwise("hinge_embedding_loss", (9, 11), _kinked, margin=0.3, note="kinked"),
    *(
        _elementwise(
            name, (6, 5, 4), others=dict.fromkeys(names, draw), reduction=reduction, note=f"{'-'.join(names)}-{i}"
        )
        for name, names in (
            ("binary_cross_entropy", ("weight",)),
            ("binary_cross_entropy_with_logits", ("weight",)),
            ("binary_cross_entropy_with_logits", ("pos_weight",)),
            ("binary_cross_entropy_with_logits", ("weight", "pos_weight")),
        )
        for i, draw in enumerate(
            (lambda rng, shape=shape: rng.uniform(0.2, 2, shape)) for shape in ((), (4,), (5, 1), (6, 1, 4), (6, 5, 4))
        )
        for reduction in ("mean", "none")
    ),
    *(
        _elementwise("kl_div", shape, log_target=log, reduction=reduction)
        for shape in ((), (33,), (7, 31))
        for log, reduction in ((True, "mean"), (True, "none"), (True, "batchmean"), (False, "batchmean"))
    ),
    *(case for name in ("nll_loss",) for case in _class_cases(name)),
    *(case for name in ("cross_entropy", "cross_entropy_with_grad") for case in _entropy_cases(name)),
    *(_cosine((3, n)) for n in (1, 2, 15, 16, 17, 33, 700)),
    *(_cosine((n, 10), reduction=reduction) for n in (0, 1, 17, 300) for reduction in ("sum", "none")),
    _cosine((9, 20), margin=0.2),
    _cosine((11,)),
    _cosine((11,), reduction="none"),
    _cosine((6, 9), x1=_special_vectors, reduction="none", note="special", tags=("special",)),
    _cosine((128, 64), tags=("bench",)),
    _cosine((4096, 512), tags=("bench", "large")),
]
