"""Attention, with the whole array of scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import functional
from fastdl.functional.attention import AttentionGrad
from fastdl.functional.verbs import Array
from fastdl.reference._implements import implements
from fastdl.reference.regularization import kept

__all__ = [
    "scaled_dot_product_attention",
    "scaled_dot_product_attention_backward",
]


def _shared(x: Array, query: Array) -> Array:
    """Heads of keys or values, each as often as queries share it."""
    return np.repeat(x, query.shape[-3] // x.shape[-3], -3) if x.ndim > 2 and x.shape[-3] else x


def _scores(query: Array, key: Array, attn_mask: Any, is_causal: bool, scale: float) -> Array:
    scores = (query * query.dtype.type(scale)) @ np.swapaxes(key, -1, -2)
    if is_causal:
        attn_mask = np.tri(*scores.shape[-2:], dtype=bool)
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    return scores.astype(query.dtype)


def _weights(scores: Array, logsumexp: Array) -> Array:
    """exp(scores - logsumexp), 0 in rows of nothing but -infinity."""
    return np.exp(scores - np.where(logsumexp == -np.inf, 0, logsumexp)[..., None])


def _logsumexp(scores: Array) -> Array:
    most = scores.max(-1, initial=-np.inf)
    least = np.where(most == -np.inf, 0, most)
    return (most + np.log(np.exp(scores - least[..., None]).sum(-1))).astype(scores.dtype)


def _keeping(scores: Array, p: float, seed: int, offset: int) -> Array:
    """What weights are multiplied by."""
    rows, keys = math.prod(scores.shape[:-1]), scores.shape[-1]
    width = -(-keys // 4) * 4
    keep = kept(rows * width, p, p > 0, seed, offset).reshape(rows, width)[:, :keys].reshape(scores.shape)
    return np.where(keep, 1 / (1 - p) if p < 1 else 0, 0).astype(scores.dtype)


def _factor(query: Array, scale: float | None) -> float:
    return 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale


@implements(functional.scaled_dot_product_attention)
def scaled_dot_product_attention(
    query, key, value, attn_mask, dropout_p, is_causal, scale, seed, offset, out, return_saved
):
    key, value = _shared(key, query), _shared(value, query)
    scores = _scores(query, key, attn_mask, is_causal, _factor(query, scale))
    saved = _logsumexp(scores)
    y = (_weights(scores, saved) * _keeping(scores, dropout_p, seed, offset)) @ value
    if out is not None:
        out[...] = y
        y = out
    return (y, saved) if return_saved else y


@implements(functional.scaled_dot_product_attention_backward)
def scaled_dot_product_attention_backward(
    grad_output, query, key, value, y, saved, attn_mask, dropout_p, is_causal, scale, seed, offset
):
    heads, factor = key.shape, _factor(query, scale)
    key, value = _shared(key, query), _shared(value, query)
    scores = _scores(query, key, attn_mask, is_causal, factor)
    weights, keep = _weights(scores, saved), _keeping(scores, dropout_p, seed, offset)
    inner = (grad_output * y).sum(-1, keepdims=True)
    grad_scores = factor * weights * (keep * (grad_output @ np.swapaxes(value, -1, -2)) - inner)

    def summed(grad: Array) -> Array:
        """Over the queries that share a head."""
        if key.shape == heads:
            return grad
        return grad.reshape(*heads[:-2], -1, *grad.shape[-2:]).sum(-3)

    return AttentionGrad(
        query=(grad_scores @ key).astype(query.dtype),
        key=summed(np.swapaxes(grad_scores, -1, -2) @ query).astype(query.dtype),
        value=summed(np.swapaxes(weights * keep, -1, -2) @ grad_output).astype(query.dtype),
    )
