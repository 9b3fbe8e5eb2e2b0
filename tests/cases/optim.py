"""Optimizer steps: sizes around vector widths and every combination of their options."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import reference
from tests.cases.case import Arguments, Array, Case, Draw, Shape, Tolerance, declare

# What each keeps of a parameter, and its flops for one.
_STATES: dict[str, tuple[tuple[str, ...], int]] = {
    "sgd_step": (("momentum_buffer",), 4),
    "adagrad_step": (("state_sum",), 7),
    "rmsprop_step": (("square_avg", "grad_avg", "momentum_buffer"), 9),
    "adam_step": (("exp_avg", "exp_avg_sq", "max_exp_avg_sq"), 13),
    "adamw_step": (("exp_avg", "exp_avg_sq", "max_exp_avg_sq"), 14),
    "adadelta_step": (("square_avg", "acc_delta"), 15),
    "nadam_step": (("exp_avg", "exp_avg_sq"), 14),
    "lion_step": (("exp_avg",), 10),
}
_SQUARES = ("state_sum", "square_avg", "exp_avg_sq", "max_exp_avg_sq", "acc_delta")


def _terms(operation: str, updates: tuple[str, ...]) -> Tolerance:
    """Some sixteen roundings, each relative to the sum of the step's terms taken positive.

    A variance about the mean is a difference, whose own error is as much larger as its terms are larger than it.
    """

    def tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        positive = {name: np.array(np.abs(v)) if isinstance(v, np.ndarray) else v for name, v in a.items()}
        positive |= {"maximize": False, "lr": -a["lr"]}  # param -= -lr |g|
        if operation == "rmsprop_step" and a.get("grad_avg") is not None:
            positive["grad_avg"] = None  # the root then is larger, which the condition makes up for
        if a.get("dampening", 0) > 1:
            positive["dampening"] = 2 - a["dampening"]
        getattr(reference, operation)(**positive)
        found = dict(zip(updates, expected, strict=True))
        condition = np.ones_like(a["param"])
        if "grad_avg" in found:
            mean, square = found["grad_avg"] ** 2, found["square_avg"]
            condition = ((square + mean) / (square - mean)) ** 1.5
            positive["grad_avg"] = np.abs(a["grad_avg"]) + np.abs(a["grad"])
        return tuple(16 * positive[n] * (condition if n in ("param", "momentum_buffer") else 1) for n in updates)

    return tolerance


def _step(
    operation: str, shape: Shape, values: Draw | None = None, tags: tuple[str, ...] = (), note: str = "", **options: Any
) -> Case:
    """options: momentum, amsgrad and centered decide which states there are."""
    states, flops = _STATES[operation]
    unused = [("momentum_buffer", options.get("momentum", 0) != 0)]
    unused += [(n, options.pop(flag, False)) for n, flag in (("max_exp_avg_sq", "amsgrad"), ("grad_avg", "centered"))]
    absent = {name for name, used in unused if not used}
    inputs: dict[str, Any] = {"param": values or shape, "grad": shape}
    for name in states:
        if name in _SQUARES:  # never below what a mean of squares can be
            inputs[name] = lambda rng: np.asarray(1 + rng.standard_normal(shape) ** 2)
        elif name == "grad_avg":
            inputs[name] = lambda rng: np.asarray(0.7 * np.tanh(rng.standard_normal(shape)))
        else:
            inputs[name] = shape
        if name in absent:
            inputs[name] = None
    updates = ("param", *(name for name in states if name not in absent))
    shapes: tuple[Shape, ...] = (shape,) * len(updates)
    if operation == "nadam_step":
        inputs["mu_product"] = lambda rng: np.array(0.25)
        updates, shapes = (*updates, "mu_product"), (*shapes, ())
    if operation in ("adam_step", "adamw_step", "nadam_step"):
        options = {"step": 3} | options
    used = "-".join([note, *updates[1:]] if operation in ("adam_step", "adamw_step", "rmsprop_step") else [note])
    return declare(
        operation,
        inputs,
        shapes,
        updates=updates,
        flops=flops * math.prod(shape),
        tolerance=_terms(operation, updates),
        tags=tags,
        note=used.strip("-"),
        **{"lr": 0.1} | options,
    )


def _not_finite(rng: np.random.Generator) -> Array:
    x = rng.standard_normal(33)
    x[[0, 9, 32]] = np.nan, np.inf, -np.inf
    return x


# Besides what all have: maximize, weight_decay, grad_scale and clip_value.
_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "sgd_step": [
        {"momentum": 0.9, "step": 3, "dampening": 0.25, "weight_decay": 0.01},
        {"momentum": 0.9, "step": 3, "nesterov": True, "weight_decay": 0.01},
        {"momentum": 0.9, "step": 1, "nesterov": True, "maximize": True},
        {"lr": 0.0},
    ],
    "adagrad_step": [{"step": 7, "lr_decay": 0.1}, {"eps": 0.5}],
    "rmsprop_step": [
        {"momentum": 0.9},
        {"centered": True},
        {"centered": True, "momentum": 0.5, "weight_decay": 0.1},
        {"alpha": 0.25, "eps": 0.1},
    ],
    "adam_step": [
        {"amsgrad": True},
        {"betas": (0.3, 0.6), "eps": 0.1, "step": 1},
        {"betas": (0.0, 0.0)},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"step": 1_000_000, "amsgrad": True, "weight_decay": 0.1},
    ],
    "adamw_step": [{"amsgrad": True}, {"weight_decay": 0.0}],
    "adadelta_step": [{"lr": 1.0}, {"rho": 0.5, "eps": 0.1}],
    "nadam_step": [
        {"step": 1, "momentum_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"betas": (0.5, 0.5), "step": 100},
    ],
    "lion_step": [{"betas": (0.3, 0.6)}],
}

CASES = [
    *(_step("sgd_step", (n,)) for n in (0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 70_001)),
    *(_step("sgd_step", (n,), momentum=0.9, step=2) for n in (0, 1, 15, 16, 17, 33, 70_001)),
    *(_step(name, (n,)) for name in _STATES if name != "sgd_step" for n in (0, 1, 15, 16, 17, 33, 70_001)),
    *(_step(name, shape) for name in _STATES for shape in ((), (3, 5, 7))),
    *(_step(name, (33,), **options) for name, rows in _OPTIONS.items() for options in rows),
    *(_step(name, (33,), weight_decay=0.05, maximize=True) for name in _STATES),
    *(_step(name, (33,), grad_scale=0.5, clip_value=0.25) for name in _STATES),
    *(_step(name, (33,), _not_finite, tags=("special",), note="special") for name in _STATES),
    _step("sgd_step", (33,), _not_finite, tags=("special",), note="special", momentum=0.9, step=2, weight_decay=0.1),
    _step("sgd_step", (10_000,), momentum=0.9, step=2, tags=("bench",)),
    _step("sgd_step", (10_000_000,), momentum=0.9, step=2, tags=("bench", "large")),
    _step("rmsprop_step", (10_000_000,), momentum=0.9, centered=True, tags=("bench", "large")),
    _step("adam_step", (10_000_000,), amsgrad=True, tags=("bench", "large")),
    *(_step(name, (10_000,), tags=("bench",)) for name in _STATES if name != "sgd_step"),
    *(_step(name, (10_000_000,), tags=("bench", "large")) for name in _STATES),
]
