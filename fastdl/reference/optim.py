"""Optimizers: in-place step functions."""

from __future__ import annotations

from typing import Any

from fastdl._arrays import Array


def sgd_step(
    param: Array,
    grad: Any,
    momentum_buffer: Array | None = None,
    step: int = 1,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> None:
    if maximize:
        grad = -grad
    if weight_decay:  # 0 times an infinite parameter would be NaN
        grad = grad + weight_decay * param
    if momentum and momentum_buffer is not None:
        momentum_buffer[...] = grad if step == 1 else momentum * momentum_buffer + (1 - dampening) * grad
        grad = grad + momentum * momentum_buffer if nesterov else momentum_buffer
    param -= lr * grad
