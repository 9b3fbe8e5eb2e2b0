"""Losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastdl import functional
from fastdl.functional.loss import CosineEmbeddingGrad, LossAndGrad
from fastdl.functional.verbs import Array
from fastdl.reference._implements import implements
from fastdl.reference.activation import log_softmax, softmax

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_backward",
    "cosine_embedding_loss",
    "cosine_embedding_loss_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "cross_entropy_with_grad",
    "hinge_embedding_loss",
    "hinge_embedding_loss_backward",
    "huber_loss",
    "huber_loss_backward",
    "kl_div",
    "kl_div_backward",
    "l1_loss",
    "l1_loss_backward",
    "mse_loss",
    "mse_loss_backward",
    "nll_loss",
    "nll_loss_backward",
    "smooth_l1_loss",
    "smooth_l1_loss_backward",
]

_TINY = float(np.float32(1e-12))
"""What torch keeps denominators away from 0 with."""


def _reduced(losses: Any, reduction: str, count: Any = None) -> Array:
    """count: what the mean divides by, where it is not the number of losses."""
    losses = np.asarray(losses)
    if reduction == "none":
        return losses
    divisor = {
        "mean": losses.size if count is None else count,
        "sum": 1,
        "batchmean": len(losses) if losses.ndim else 1,
    }[reduction]
    return np.asarray(losses.sum(dtype=np.float64) / np.float64(divisor), losses.dtype)


def _spread(grad_output: Any, slope: Any, reduction: str, count: Any = None) -> Array:
    """The gradient of each element, of what _reduced makes of the losses whose derivatives are `slope`."""
    if reduction == "mean":
        slope = slope / max(slope.size, 1) if count is None else slope / count
    if reduction == "batchmean" and slope.ndim:
        slope = slope / max(len(slope), 1)
    return np.asarray(grad_output * slope, slope.dtype)


@implements(functional.mse_loss)
def mse_loss(x, target, reduction):
    return _reduced((x - target) ** 2, reduction)


@implements(functional.mse_loss_backward)
def mse_loss_backward(grad_output, x, target, reduction):
    return _spread(grad_output, 2 * (x - target), reduction)


@implements(functional.l1_loss)
def l1_loss(x, target, reduction):
    return _reduced(np.abs(x - target), reduction)


@implements(functional.l1_loss_backward)
def l1_loss_backward(grad_output, x, target, reduction):
    return _spread(grad_output, np.where(x > target, 1, np.where(x < target, -1, 0)).astype(x.dtype), reduction)


@implements(functional.huber_loss)
def huber_loss(x, target, reduction, delta):
    d = np.abs(x - target)
    return _reduced(np.where(d < delta, d * d / 2, delta * (d - delta / 2)), reduction)


@implements(functional.huber_loss_backward)
def huber_loss_backward(grad_output, x, target, reduction, delta):
    return _spread(grad_output, np.clip(x - target, -delta, delta), reduction)


@implements(functional.smooth_l1_loss)
def smooth_l1_loss(x, target, reduction, beta):
    if beta == 0:
        return l1_loss(x, target, reduction)
    d = np.abs(x - target)
    return _reduced(np.where(d < beta, d * d / (2 * beta), d - beta / 2), reduction)


@implements(functional.smooth_l1_loss_backward)
def smooth_l1_loss_backward(grad_output, x, target, reduction, beta):
    if beta == 0:
        return l1_loss_backward(grad_output, x, target, reduction)
    return _spread(grad_output, np.clip(x - target, -beta, beta) / beta, reduction)


@implements(functional.binary_cross_entropy)
def binary_cross_entropy(x, target, weight, reduction):
    with np.errstate(divide="ignore"):
        log, log_rest = np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)
    return _reduced(-_or_one(weight) * (target * log + (1 - target) * log_rest), reduction)


@implements(functional.binary_cross_entropy_backward)
def binary_cross_entropy_backward(grad_output, x, target, weight, reduction):
    return _spread(grad_output, _or_one(weight) * (x - target) / np.maximum(x * (1 - x), _TINY), reduction)


@implements(functional.binary_cross_entropy_with_logits)
def binary_cross_entropy_with_logits(x, target, weight, reduction, pos_weight):
    positive, negative = _or_one(pos_weight) * target * _softplus(-x), (1 - target) * _softplus(x)
    return _reduced(_or_one(weight) * (positive + negative), reduction)


@implements(functional.binary_cross_entropy_with_logits_backward)
def binary_cross_entropy_with_logits_backward(grad_output, x, target, weight, reduction, pos_weight):
    sigmoid, sigmoid_rest = np.exp(-_softplus(-x)), np.exp(-_softplus(x))
    slope = (1 - target) * sigmoid - _or_one(pos_weight) * target * sigmoid_rest
    return _spread(grad_output, _or_one(weight) * slope, reduction)


@implements(functional.kl_div)
def kl_div(x, target, reduction, log_target):
    if log_target:
        return _reduced(np.exp(target) * (target - x), reduction)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _reduced(np.where(target == 0, 0, target * np.log(target)) - target * x, reduction)


@implements(functional.kl_div_backward)
def kl_div_backward(grad_output, target, reduction, log_target):
    return _spread(grad_output, -np.exp(target) if log_target else -target, reduction)


@implements(functional.hinge_embedding_loss)
def hinge_embedding_loss(x, target, margin, reduction):
    return _reduced(np.where(target != -1, x, 0) + np.where(target != 1, np.maximum(0, margin - x), 0), reduction)


@implements(functional.hinge_embedding_loss_backward)
def hinge_embedding_loss_backward(grad_output, x, target, margin, reduction):
    slope = np.where(target != -1, 1, 0) - np.where((target != 1) & (margin - x >= 0), 1, 0)
    return _spread(grad_output, slope.astype(x.dtype), reduction)


@implements(functional.nll_loss)
def nll_loss(x, target, weight, ignore_index, reduction):
    onehot = _named(x, target, weight, ignore_index)
    return _by_rows(x, lambda rows: -np.where(onehot != 0, rows * onehot, 0).sum(-1), reduction, onehot.sum())


@implements(functional.nll_loss_backward)
def nll_loss_backward(grad_output, x, target, weight, ignore_index, reduction):
    onehot = _named(x, target, weight, ignore_index)
    return _grad_of_rows(grad_output, x, lambda rows: -onehot, reduction, onehot.sum())


@implements(functional.cross_entropy)
def cross_entropy(x, target, weight, ignore_index, reduction, label_smoothing):
    c, count = _coefficients(x, target, weight, ignore_index, label_smoothing)

    def losses(rows: Array) -> Array:
        with np.errstate(invalid="ignore"):
            terms = c * log_softmax(rows)
        # Other classes than a named one count for nothing, where a probability of 0 makes NaN of infinity.
        return -(terms if _is_soft(target) else np.where(c == 0, 0, terms)).sum(-1)

    return _by_rows(x, losses, reduction, count)


@implements(functional.cross_entropy_backward)
def cross_entropy_backward(grad_output, x, target, weight, ignore_index, reduction, label_smoothing):
    c, count = _coefficients(x, target, weight, ignore_index, label_smoothing)
    return _grad_of_rows(grad_output, x, lambda rows: softmax(rows) * c.sum(-1, keepdims=True) - c, reduction, count)


@implements(functional.cross_entropy_with_grad)
def cross_entropy_with_grad(x, target, weight, ignore_index, reduction, label_smoothing):
    loss = cross_entropy(x, target, weight, ignore_index, reduction, label_smoothing)
    grad_output = np.ones_like(loss)
    return LossAndGrad(
        loss, cross_entropy_backward(grad_output, x, target, weight, ignore_index, reduction, label_smoothing)
    )


@implements(functional.cosine_embedding_loss)
def cosine_embedding_loss(x1, x2, target, margin, reduction):
    cos, _, _ = _cosine(x1, x2)
    return _reduced(np.where(target == 1, 1 - cos, np.where(target == -1, np.maximum(0, cos - margin), 0)), reduction)


@implements(functional.cosine_embedding_loss_backward)
def cosine_embedding_loss_backward(grad_output, x1, x2, target, margin, reduction):
    cos, square1, square2 = _cosine(x1, x2)
    slope = np.where(target == 1, -1, np.where((target == -1) & ~(cos < margin), 1, 0)).astype(x1.dtype)
    each = _spread(grad_output, slope, reduction)[..., None]
    length, cos = np.sqrt(square1 * square2)[..., None], cos[..., None]
    return CosineEmbeddingGrad(
        each * (x2 / length - cos * x1 / square1[..., None]), each * (x1 / length - cos * x2 / square2[..., None])
    )


def _or_one(weight: Any) -> Any:
    return 1 if weight is None else weight


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _cosine(x1: Array, x2: Array) -> tuple[Array, Array, Array]:
    """The cosine and the squares of the lengths."""
    square1, square2 = (np.asarray((x * x).sum(-1) + _TINY, x.dtype) for x in (x1, x2))
    return np.asarray((x1 * x2).sum(-1) / np.sqrt(square1 * square2)), square1, square2


def _is_soft(target: Any) -> bool:
    return np.asarray(target).dtype.kind == "f"


def _classes_last(x: Array) -> Array:
    return np.moveaxis(x, min(x.ndim - 1, 1), -1)


def _named(x: Array, target: Any, weight: Any, ignore_index: int) -> Array:
    """The weight of the class that a row's target names, at that class, else 0: as x, classes last."""
    named = np.arange(_classes_last(x).shape[-1]) == np.asarray(target)[..., None]
    named = named & (np.asarray(target)[..., None] != ignore_index)
    return named * np.asarray(_or_one(weight), x.dtype)


def _coefficients(x: Array, target: Any, weight: Any, ignore_index: int, label_smoothing: float) -> tuple[Array, Any]:
    """What the classes' -log_softmax are multiplied by, classes last, and what the mean divides by."""
    classes = _classes_last(x).shape[-1]
    if _is_soft(target):
        spread = _classes_last(target) * (1 - label_smoothing) + label_smoothing / max(classes, 1)
        return spread * np.asarray(_or_one(weight), x.dtype), np.prod(spread.shape[:-1])
    named = _named(x, target, weight, ignore_index)
    counts = (np.asarray(target) != ignore_index)[..., None]
    even = label_smoothing / max(classes, 1) * counts * np.asarray(_or_one(weight), x.dtype)
    return named * (1 - label_smoothing) + even, named.sum()


def _by_rows(x: Array, losses: Callable[[Array], Array], reduction: str, count: Any) -> Array:
    return _reduced(np.asarray(losses(_classes_last(x)), x.dtype), reduction, count)


def _grad_of_rows(grad_output: Any, x: Array, slope: Callable[[Array], Array], reduction: str, count: Any) -> Array:
    rows = np.asarray(slope(_classes_last(x)), x.dtype)
    rows = _spread(np.asarray(grad_output)[..., None], rows, reduction, 1)
    if reduction == "mean":  # all ignored: nothing to divide, and 0 / 0 for the loss alone
        rows = rows / count if count else rows
    return np.ascontiguousarray(np.moveaxis(rows, -1, min(x.ndim - 1, 1)))
