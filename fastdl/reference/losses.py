"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._arrays import Array
from fastdl.reference.activations import log_softmax, softmax


def cross_entropy(x: Any, target: Any, reduction: str = "mean") -> Array:
    losses = -log_softmax(x)[np.arange(len(x)), target]
    if reduction == "none":
        return losses
    total = losses.sum(dtype=np.float64)
    return np.asarray(total / np.float64(len(x)) if reduction == "mean" else total, x.dtype)


def cross_entropy_backward(grad_output: Any, x: Any, target: Any, reduction: str = "mean") -> Array:
    grad = softmax(x)
    grad[np.arange(len(x)), target] -= 1
    if reduction == "mean":
        grad /= max(len(x), 1)
    return grad * np.reshape(grad_output, (-1, 1))
