"""Normalization: runs, rows and columns around vector widths and chunks, large means, running statistics, NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, Tolerance, declare


def _positive(size: int) -> Draw:
    return lambda rng: 0.5 + rng.random(size)


class _Terms:
    """x, its z, and what the bounds below are made of, each of a shape that goes with x seen as `view`.

    unit: a sum over n values, of which at most n follow each other in one lane: sqrt(n) roundings, and a few more for
    what is done with it. That is the error of z in units of 1 (it is sum / sigma), and relatively that of rstd.
    """

    def __init__(self, operation: str, a: Arguments) -> None:
        x = a["x"]
        flat = (*x.shape[:2], math.prod(x.shape[2:]))
        self.fixed = not a.get("training", operation != "batch_norm") or not a.get("use_input_stats", True)
        if operation == "batch_norm":
            view, self.axes, params, self.others = flat, (0, 2), (1, flat[1], 1), (0, 2)
        elif operation == "instance_norm":
            view, self.axes, params, self.others = flat, (2,), (1, flat[1], 1), (0, 2)
        elif operation == "group_norm":
            groups = a["num_groups"]
            view = (flat[0], groups, flat[1] // groups, flat[2])
            self.axes, params, self.others = (2, 3), (1, *view[1:3], 1), (0, 3)
        else:
            view, count = x.shape, np.size(a["normalized_shape"])
            self.axes, params = tuple(range(x.ndim - count, x.ndim)), x.shape[-count:]
            self.others = tuple(range(x.ndim - count))
        n = max(1, math.prod(view[axis] for axis in self.axes))
        self.unit = 8 + np.sqrt(n)
        self.mean_of = lambda t: t.sum(self.axes, keepdims=True) / n
        self.x, self.view = x.reshape(view), view
        self.param = lambda name: np.abs(a[name]).reshape(params) if a.get(name) is not None else None
        if self.fixed:
            self.mean, variance = a["running_mean"].reshape(params), a["running_var"].reshape(params)
            self.unit = 8.0
        else:
            self.mean = 0 if operation == "rms_norm" else self.mean_of(self.x)
            variance = self.mean_of((self.x - self.mean) ** 2)
        eps = a.get("eps", 1e-5)
        self.variance, self.rstd = variance, 1 / np.sqrt(variance + (np.finfo(np.float32).eps if eps is None else eps))
        self.z = np.abs(self.x - self.mean) * self.rstd
        if self.fixed:  # what is known beforehand may be multiplied out: x rstd - mean rstd
            self.z = (np.abs(self.x) + np.abs(self.mean)) * self.rstd
        weight = self.param("weight")
        self.weight = 1.0 if weight is None else weight


def _forward(operation: str) -> Tolerance:
    def tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        t = _Terms(operation, a)
        bias = t.param("bias")
        y = t.unit * (t.z + (not t.fixed)) * t.weight + (0 if bias is None else 2 * bias)
        bounds = [y.reshape(a["x"].shape)]
        if a.get("return_stats"):
            rstd = np.broadcast_to(t.unit * t.rstd, t.mean_of(t.x).shape if not t.fixed else t.rstd.shape)
            mean = 2 * np.abs(t.mean) + t.unit * np.sqrt(t.variance)
            stats = [rstd] if operation == "rms_norm" else [mean, rstd]
            for s, e in zip(stats, expected[1:], strict=False):
                bounds.append(s.reshape(e.shape) if s.size == e.size else np.broadcast_to(s.ravel(), e.shape))
        if len(expected) > len(bounds):  # the running statistics, of which the mean over the samples is a part
            over = tuple(i for i in range(t.x.ndim) if i not in (1, *t.axes))
            mean, sigma, variance = (
                np.broadcast_to(s, t.mean_of(t.x).shape).max(over, initial=0, keepdims=True).ravel()
                for s in (np.abs(t.mean), np.sqrt(t.variance), t.variance)
            )
            count = math.prod(t.view[axis] for axis in t.axes)
            bounds += [
                t.unit * (np.abs(a["running_mean"]) + mean + sigma),
                t.unit * (a["running_var"] + 2 * variance * (count > 0)),
            ]
        return tuple(bounds)

    return tolerance


def _backward(operation: str) -> Tolerance:
    """The terms of h - mean(h) - z mean(h z), all taken positive; z is off by up to a unit."""

    def tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        t = _Terms(operation, a)
        g = np.abs(a["grad_output"]).reshape(t.view)
        h, z = g * t.weight, t.z + 1
        terms = h if t.fixed else h + t.mean_of(h) + z * t.mean_of(h * z)
        roundings = 8 + np.sqrt(max(1, math.prod(t.view[axis] for axis in t.others)))
        return tuple(
            bound.reshape(e.shape)
            for bound, e in zip(
                (
                    2 * t.unit * t.rstd * terms,
                    (roundings + t.unit) * (g * z).sum(t.others),
                    roundings * g.sum(t.others),
                ),
                expected,
                strict=False,  # rms_norm has no bias
            )
        )

    return tolerance


def norm(operation: str, x: Shape, values: Draw | None = None, *, affine: bool = True, **form: Any) -> Case:
    """A case of any of the five. running: with running statistics, where they are not needed."""
    channels = x[1] if len(x) > 1 else 0
    per_element = operation in ("layer_norm", "rms_norm")
    last = form.get("normalized_shape", ())
    params = ((last,) if isinstance(last, int) else tuple(last)) if per_element else (channels,)
    given = form.pop("running", False)
    of_input = form.get("training", False) if operation == "batch_norm" else form.get("use_input_stats", True)
    running: dict[str, Any] = {}
    if operation in ("batch_norm", "instance_norm"):
        known = given or not of_input
        running = {"running_mean": params if known else None, "running_var": _positive(channels) if known else None}
    updates = tuple(running) if given and of_input else ()
    inputs = {"x": values or x} | running | {"weight": params if affine else None}
    if operation != "rms_norm":
        inputs["bias"] = params if affine else None
    statistics: Shape = params
    if per_element:
        statistics = x[: len(x) - len(params)]
    elif operation != "batch_norm":
        statistics = (x[0], form.get("num_groups", channels))
    shapes = [x]
    if form.get("return_stats"):
        shapes += [statistics] * (1 if operation == "rms_norm" else 2)
    shapes += [params] * len(updates)
    size = math.prod(x)
    return declare(
        operation,
        inputs,
        tuple(shapes) if len(shapes) > 1 else x,
        flops=6 * size,
        tolerance=_forward(operation),
        backward=Backward(
            flops=9 * size,
            tolerance=_backward(operation),
            shapes=(x, params) if operation == "rms_norm" else (x, params, params),
        ),
        updates=updates,
        data=tuple(running),
        **form,
    )


def _far(*shape: int) -> Draw:
    return lambda rng: 1e4 + rng.standard_normal(shape)


def _constant(*shape: int) -> Draw:
    return lambda rng: np.full(shape, 1234.567)


def _special(*shape: int) -> Draw:
    """NaN and infinities, each in the middle of one sample's channel."""

    def draw(rng: np.random.Generator) -> Array:
        x = rng.standard_normal(shape)
        middle = tuple(n // 2 for n in shape[2:])
        x[(0, 0, *middle)], x[(-1, 1, *middle)] = np.nan, np.inf
        return x

    return draw


def _late(*shape: int) -> Draw:
    """The same in the last elements, far past what is summed at a time."""

    def draw(rng: np.random.Generator) -> Array:
        x = rng.standard_normal(shape)
        x[(0, 0, *(-1 for _ in shape[2:]))], x[-1, 1 - shape[1] :] = np.nan, 0.5
        x[(-1, -1, *(-2 for _ in shape[2:]))] = -np.inf
        return x

    return draw


def _scaled(scale: float, *shape: int) -> Draw:
    """Numbers whose squares float32 does not hold."""
    return lambda rng: scale * rng.standard_normal(shape)


def _name(note: str, x: Shape) -> str:
    return f"{note}-{'x'.join(map(str, x))}"


def _all(x: Shape, values: Draw | None = None, groups: int = 2, **form: Any) -> list[Case]:
    """Every way to normalise (batch, channels, ...)."""
    cases = [
        norm("batch_norm", x, values, training=True, running=True, **form),
        norm("batch_norm", x, values, **form),
        norm("group_norm", x, values, num_groups=groups, **form),
        norm("layer_norm", x, values, normalized_shape=x[1:], **form),
        norm("rms_norm", x, values, normalized_shape=x[-1:], **{"eps": 1e-6} | form),
    ]
    if len(x) > 2:
        cases += [
            norm("instance_norm", x, values, **form),
            norm("instance_norm", x, values, use_input_stats=False, **form),
        ]
    return cases


_LENGTHS = (1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 65, 257, 2049, 5000)


def _fused(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Both are computed in float64 and rounded; of float64 the terms of the bias may cancel."""

    def size(name: str, default: float) -> Any:
        return default if a[name] is None else np.abs(a[name])

    scale = size("norm_weight", 1) / np.sqrt(a["running_var"] + a.get("eps", 1e-5))
    terms = scale * (size("bias", 0) + np.abs(a["running_mean"])) + size("norm_bias", 0)
    return 8 * np.abs(expected[0]), 8 * terms


def _fuse(weight: Shape, given: tuple[str, ...] = ("bias", "norm_weight", "norm_bias"), **form: Any) -> Case:
    out = weight[:1]
    inputs: dict[str, Any] = {"weight": weight, "bias": out if "bias" in given else None}
    inputs |= {"running_mean": out, "running_var": _positive(*out)}
    inputs |= {name: out if name in given else None for name in ("norm_weight", "norm_bias")}
    form = {"note": "_".join(given) if len(given) < 3 else "", "flops": 2 * math.prod(weight)} | form
    return declare("fuse_conv_bn_weights", inputs, (weight, out), tolerance=_fused, **form)


_LARGE: dict[str, Any] = {"tags": ("bench", "large"), "return_stats": True}
_BENCH: dict[str, Any] = {"tags": ("bench",), "return_stats": True}

CASES = [
    *(norm("layer_norm", (3, n), normalized_shape=(n,), tags=("far",) * (n == 1)) for n in _LENGTHS),
    *(norm("rms_norm", (3, n), normalized_shape=n, eps=1e-6) for n in _LENGTHS),
    *(norm("batch_norm", (5, n), training=True, running=True) for n in _LENGTHS if n < 300),
    *(norm("batch_norm", (2, 3, n), training=True, running=True) for n in _LENGTHS),
    *(norm("batch_norm", (3, 4, n)) for n in (1, 5, 16, 40)),
    *(norm("instance_norm", (2, 3, n), running=True) for n in _LENGTHS[1:]),
    *(norm("group_norm", (2, 6, n), num_groups=3) for n in _LENGTHS),
    *(norm("group_norm", (2, 6, 5, 7), num_groups=n) for n in (1, 2, 6)),
    *(c for shape in ((4, 6), (3, 4, 9), (2, 6, 5, 7), (2, 4, 3, 3, 5)) for c in _all(shape, affine=False)),
    *(c for shape in ((4, 6), (2, 4, 3), (2, 6, 5, 7)) for c in _all(shape, return_stats=True)),
    *(c for shape in ((0, 4), (0, 4, 20), (2, 4, 0)) for c in _all(shape, tags=("empty",))),
    # rows, and blocks of rows, past every bound on sums in float
    norm("layer_norm", (33, 40), normalized_shape=(40,)),
    norm("layer_norm", (2500, 20), normalized_shape=(20,)),
    norm("layer_norm", (2, 3, 4, 5), normalized_shape=(4, 5), return_stats=True),
    norm("layer_norm", (5,), normalized_shape=5),
    norm("rms_norm", (2500, 20), normalized_shape=(20,)),
    norm("rms_norm", (2, 3, 4, 5), normalized_shape=(3, 4, 5), return_stats=True),
    norm("group_norm", (300, 4, 3), num_groups=2),
    norm("batch_norm", (2500, 20), training=True, running=True),
    norm("batch_norm", (40, 600), training=True, return_stats=True),
    norm("batch_norm", (1100, 7, 3), training=True, running=True, momentum=0.3, eps=1e-3),
    norm("batch_norm", (70, 5, 33), training=True, running=True),
    norm("batch_norm", (6, 3, 17, 29), training=True, running=True, return_stats=True),
    norm("instance_norm", (6, 3, 70, 80), running=True, momentum=0.7, return_stats=True),
    # where the mean is large and the variance is not, or is 0
    *(
        c
        for shape in ((40, 34), (3, 4, 2500), (50, 4, 3))
        for c in _all(shape, _far(*shape), note=_name("far", shape), tags=("far",))
    ),
    *(
        c
        for shape in ((40, 34), (3, 4, 50))
        for c in _all(shape, _constant(*shape), note=_name("constant", shape), tags=("far",))
    ),
    *(
        c
        for shape in ((4, 6), (3, 4, 9), (3, 4, 40))
        for c in _all(shape, _special(*shape), note=_name("special", shape), tags=("special",))
    ),
    *(
        c
        for shape in ((3000, 4), (2, 4, 5000), (1100, 4, 3))
        for c in _all(shape, _late(*shape), note=_name("late", shape), tags=("special", "far"))
    ),
    # what overflows or underflows when it is squared
    *(
        c
        for scale, eps in ((1e20, 1e-5), (1e30, 0.0), (1e-22, 0.0), (1e-25, 0.0))
        for shape in ((40, 34), (3, 4, 2500), (50, 4, 6))
        for c in _all(
            shape, _scaled(scale, *shape), note=_name(f"{scale:g}", shape), tags=("special", "not-in-torch"), eps=eps
        )
    ),
    *(_fuse((5, n)) for n in _LENGTHS),
    *(_fuse((4, 3, 3, 2), given) for given in ((), ("bias",), ("norm_weight",), ("norm_bias", "bias"))),
    *(_fuse(shape, eps=0.1) for shape in ((7,), (0, 3), (2, 3, 2, 2, 3), (17, 1, 4))),
    _fuse((64, 64, 3, 3), tags=("bench",)),
    *_all((2, 6, 30), **_BENCH),
    norm("batch_norm", (32, 64, 56, 56), training=True, **_LARGE),
    norm("batch_norm", (128, 256), training=True, **_LARGE),
    norm("batch_norm", (8, 512, 7, 7), training=True, **_LARGE),
    norm("batch_norm", (32, 64, 56, 56), **_LARGE),
    norm("layer_norm", (1024, 768), normalized_shape=(768,), **_LARGE),
    norm("layer_norm", (32, 128, 64), normalized_shape=(64,), **_LARGE),
    norm("group_norm", (8, 64, 32, 32), num_groups=32, **_LARGE),
    norm("instance_norm", (8, 64, 32, 32), **_LARGE),
    norm("rms_norm", (1024, 768), normalized_shape=(768,), eps=1e-6, **_LARGE),
]
