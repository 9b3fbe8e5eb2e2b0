"""Sums, means, maxima and minima over dimensions."""

from __future__ import annotations

import math

import numpy as np

from fastdl import functional
from fastdl.reference._implements import implements

__all__ = [
    "amax",
    "amax_backward",
    "amin",
    "amin_backward",
    "mean",
    "mean_backward",
    "sum",
    "sum_backward",
]


def _axes(dim, rank):
    """Those dimensions, from 0 on."""
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    return tuple(d % rank for d in dims) if rank and dim is not None and dims else tuple(range(rank))


def _kept(y, shape, dim):
    """y with all dimensions of that shape, those that it lacks of size 1."""
    axes = _axes(dim, len(shape))
    return np.reshape(y, [1 if d in axes else n for d, n in enumerate(shape)])


def _count(shape, dim):
    return math.prod(shape[d] for d in _axes(dim, len(shape)))


@implements(functional.sum)
def sum(x, dim, keepdim):
    return np.asarray(np.sum(x, _axes(dim, x.ndim), keepdims=keepdim))


@implements(functional.sum_backward)
def sum_backward(grad_output, shape, dim, keepdim):
    return np.broadcast_to(_kept(grad_output, shape, dim), shape).copy()


@implements(functional.mean)
def mean(x, dim, keepdim):
    total, count = np.sum(x, _axes(dim, x.ndim), keepdims=keepdim), _count(x.shape, dim)
    return np.asarray(total / count if count else total * np.nan)


@implements(functional.mean_backward)
def mean_backward(grad_output, shape, dim, keepdim):
    count = _count(shape, dim)
    return np.broadcast_to(_kept(grad_output / max(count, 1), shape, dim), shape).copy()


@implements(functional.amax)
def amax(x, dim, keepdim):
    return np.asarray(np.amax(x, _axes(dim, x.ndim), keepdims=keepdim))


@implements(functional.amin)
def amin(x, dim, keepdim):
    return np.asarray(np.amin(x, _axes(dim, x.ndim), keepdims=keepdim))


@implements(functional.amax_backward)
def amax_backward(grad_output, x, y, dim, keepdim):
    same = x == _kept(y, x.shape, dim)
    parts = _kept(grad_output, x.shape, dim) / same.sum(_axes(dim, x.ndim), keepdims=True)
    return (parts * same).astype(x.dtype)


@implements(functional.amin_backward)
def amin_backward(grad_output, x, y, dim, keepdim):
    return amax_backward(grad_output, x, y, dim, keepdim)
