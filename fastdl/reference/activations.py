"""Activations: relu, softmax, log_softmax, each with its backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._arrays import Array
from fastdl.reference._window import fill


def relu(x: Any, out: Array | None = None) -> Array:
    return fill(out, np.maximum(x, 0))


def relu_backward(grad_output: Any, x: Any, out: Array | None = None) -> Array:
    return fill(out, np.where(x <= 0, 0, grad_output))


def softmax(x: Any, dim: int = -1, out: Array | None = None) -> Array:
    exp = np.exp(x - x.max(dim, keepdims=True, initial=-np.inf))
    return fill(out, exp / exp.sum(dim, keepdims=True))


def softmax_backward(grad_output: Any, y: Any, dim: int = -1, out: Array | None = None) -> Array:
    return fill(out, y * (grad_output - (grad_output * y).sum(dim, keepdims=True)))


def log_softmax(x: Any, dim: int = -1, out: Array | None = None) -> Array:
    shifted = x - x.max(dim, keepdims=True, initial=-np.inf)
    return fill(out, shifted - np.log(np.exp(shifted).sum(dim, keepdims=True)))


def log_softmax_backward(grad_output: Any, y: Any, dim: int = -1, out: Array | None = None) -> Array:
    return fill(out, grad_output - np.exp(y) * grad_output.sum(dim, keepdims=True))
