"""Steps of optimizers (ai.onnx.preview.training)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastdl
from fastdl.functional.verbs import Array
from fastdl.onnx._table import operator

_DOMAIN = "ai.onnx.preview.training"


def _stepped(
    function: Callable[..., None], rate: Array, arrays: tuple[Array, ...], states: tuple[str, ...], **options: Any
) -> tuple[Array, ...]:
    """All parameters, all gradients, then all of each state; the new ones come out likewise, without gradients."""
    count = len(arrays) // (2 + len(states))
    columns = [[np.array(a, order="C") for a in arrays[i * count : (i + 1) * count]] for i in range(2 + len(states))]
    for row in zip(*columns, strict=True):
        function(**dict(zip(("param", "grad", *states), row, strict=True)), lr=float(rate), **options)
    return tuple(a for i, column in enumerate(columns) if i != 1 for a in column)


@operator("Adagrad", domain=_DOMAIN)
def adagrad(
    rate: Array,
    steps: Array,
    *arrays: Array,
    decay_factor: float = 0.0,
    epsilon: float = 0.0,
    norm_coefficient: float = 0.0,
) -> tuple[Array, ...]:
    options = {"step": int(steps) + 1, "lr_decay": decay_factor, "eps": epsilon, "weight_decay": norm_coefficient}
    return _stepped(fastdl.adagrad_step, rate, arrays, ("state_sum",), **options)


@operator("Adam", domain=_DOMAIN)
def adam(
    rate: Array,
    steps: Array,
    *arrays: Array,
    alpha: float = 0.9,
    beta: float = 0.999,
    epsilon: float = 0.0,
    norm_coefficient: float = 0.0,
    norm_coefficient_post: float = 0.0,
) -> tuple[Array, ...]:
    """At step 0, ONNX corrects no bias: the corrections are 1 from some step on."""
    if norm_coefficient_post:
        raise ValueError(f"norm_coefficient_post: found {norm_coefficient_post}, expected 0")
    correction = np.float32(1)
    if int(steps) > 0:
        correction = np.float32(np.sqrt(1 - beta ** int(steps)) / (1 - alpha ** int(steps)))
    options = {"step": 10**6, "betas": (alpha, beta), "eps": epsilon, "weight_decay": norm_coefficient}
    return _stepped(fastdl.adam_step, rate * correction, arrays, ("exp_avg", "exp_avg_sq"), **options)


@operator("Momentum", domain=_DOMAIN)
def momentum(
    rate: Array, steps: Array, *arrays: Array, alpha: float, beta: float, mode: str, norm_coefficient: float
) -> tuple[Array, ...]:
    """beta is the part of the gradient that is added, 1 at the first step."""
    dampening = 1 - beta if int(steps) > 0 else 0.0
    options = {"step": 2, "momentum": alpha, "dampening": dampening, "nesterov": mode == "nesterov"}
    return _stepped(fastdl.sgd_step, rate, arrays, ("momentum_buffer",), weight_decay=norm_coefficient, **options)
