"""Dropout, with the very mask of fastdl.dropout, and penalties on weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import functional
from fastdl.functional.verbs import Array
from fastdl.reference._implements import implements
from fastdl.reference._window import fill

__all__ = [
    "alpha_dropout",
    "alpha_dropout_backward",
    "dropout",
    "dropout1d",
    "dropout1d_backward",
    "dropout2d",
    "dropout2d_backward",
    "dropout3d",
    "dropout3d_backward",
    "dropout_backward",
    "l1_penalty",
    "l1_penalty_backward",
    "l2_penalty",
    "l2_penalty_backward",
]

_LOW = np.uint64(0xFFFFFFFF)


def philox(counter: Any, key: Any) -> Array:
    """Philox4x32-10 (Salmon et al., SC 2011): the words (n, 4) of counters (n, 4) under a key (2,), all of 32 bits."""
    c0, c1, c2, c3 = np.asarray(counter, np.uint64).T
    k0, k1 = (int(word) for word in key)
    for _ in range(10):
        high0, low0 = np.divmod(np.uint64(0xD2511F53) * c0, np.uint64(1 << 32))
        high1, low1 = np.divmod(np.uint64(0xCD9E8D57) * c2, np.uint64(1 << 32))
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint64(k0), low1, high0 ^ c3 ^ np.uint64(k1), low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([c0, c1, c2, c3], -1).astype(np.uint32)


def kept(size: int, p: float, training: bool, seed: int, offset: int) -> Array:
    """Which of so many numbers are kept: where word i % 4 of counter offset + i // 4 < round((1 - p) 2^32)."""
    if not training:
        return np.ones(size, bool)
    number = np.uint64(offset) + np.arange(math.ceil(size / 4), dtype=np.uint64)
    zeros = np.zeros_like(number)
    words = philox(np.stack([number & _LOW, number >> np.uint64(32), zeros, zeros], -1), (seed % 2**32, seed >> 32))
    return words.ravel()[:size].astype(np.uint64) < np.uint64(np.rint((1.0 - p) * 2**32))


@implements(functional.dropout)
def dropout(x, p, training, seed, offset):
    keep = kept(x.size, p, training, seed, offset).reshape(x.shape)
    return np.where(keep, x / (1 - p) if training and p < 1 else x, 0 * x)


def _dropout_channels(x: Any, p: float, training: bool, seed: int, offset: int, out: Array | None, rank: int) -> Array:
    first = x.shape[: x.ndim - rank]
    keep = kept(math.prod(first), p, training, seed, offset).reshape(*first, *(1,) * rank)
    return fill(out, np.where(keep, x / (1 - p) if training and p < 1 else x, 0 * x))


@implements(functional.dropout1d)
def dropout1d(x, p, training, seed, offset, out):
    return _dropout_channels(x, p, training, seed, offset, out, 1)


@implements(functional.dropout2d)
def dropout2d(x, p, training, seed, offset, out):
    return _dropout_channels(x, p, training, seed, offset, out, x.ndim - 2)


@implements(functional.dropout3d)
def dropout3d(x, p, training, seed, offset, out):
    return _dropout_channels(x, p, training, seed, offset, out, 3)


@implements(functional.dropout_backward)
def dropout_backward(grad_output, p, training, seed, offset, out):
    return dropout(grad_output, p, training, seed, offset, out)


@implements(functional.dropout1d_backward)
def dropout1d_backward(grad_output, p, training, seed, offset, out):
    return _dropout_channels(grad_output, p, training, seed, offset, out, 1)


@implements(functional.dropout2d_backward)
def dropout2d_backward(grad_output, p, training, seed, offset, out):
    return _dropout_channels(grad_output, p, training, seed, offset, out, grad_output.ndim - 2)


@implements(functional.dropout3d_backward)
def dropout3d_backward(grad_output, p, training, seed, offset, out):
    return _dropout_channels(grad_output, p, training, seed, offset, out, 3)


_SELU_LIMIT = 1.0507009873554805 * 1.6732632423543772
"""Scale times alpha of SELU, which tends to minus this."""


@implements(functional.alpha_dropout)
def alpha_dropout(x, p, training, seed, offset):
    if not training or p == 1:
        return x if not training else 0 * x
    keep = kept(x.size, p, training, seed, offset).reshape(x.shape)
    scale = ((1 - p) * (1 + p * _SELU_LIMIT**2)) ** -0.5
    return scale * np.where(keep, x, 0 * x - _SELU_LIMIT) + scale * _SELU_LIMIT * p


@implements(functional.alpha_dropout_backward)
def alpha_dropout_backward(grad_output, p, training, seed, offset):
    if not training or p == 1:
        return grad_output if not training else 0 * grad_output
    keep = kept(grad_output.size, p, training, seed, offset).reshape(grad_output.shape)
    scale = ((1 - p) * (1 + p * _SELU_LIMIT**2)) ** -0.5
    return np.where(keep, grad_output * scale, 0 * grad_output)


@implements(functional.l1_penalty)
def l1_penalty(x, coefficient):
    arrays = x if isinstance(x, (tuple, list)) else [x]
    return np.asarray(coefficient * sum(np.abs(a).sum(dtype=np.float64) for a in arrays), arrays[0].dtype)


@implements(functional.l1_penalty_backward)
def l1_penalty_backward(grad_output, x, coefficient, out, add):
    return _each(lambda a: grad_output * coefficient * ((a > 0).astype(a.dtype) - (a < 0)), x, out, add)


@implements(functional.l2_penalty)
def l2_penalty(x, coefficient):
    arrays = x if isinstance(x, (tuple, list)) else [x]
    return np.asarray(coefficient / 2 * sum(np.square(a, dtype=np.float64).sum() for a in arrays), arrays[0].dtype)


@implements(functional.l2_penalty_backward)
def l2_penalty_backward(grad_output, x, coefficient, out, add):
    return _each(lambda a: grad_output * coefficient * a, x, out, add)


def _each(gradient: Any, x: Any, out: Any, add: bool) -> Any:
    """The gradient of each array, stored in, or added to, those of out."""
    if isinstance(x, (tuple, list)):
        outs = [None] * len(x) if out is None else out
        return type(x)(_each(gradient, a, o, add) for a, o in zip(x, outs, strict=True))
    return fill(out, gradient(x) + out if add else gradient(x))
