"""Products of matrices."""

from __future__ import annotations

import numpy as np

from fastdl import functional
from fastdl.reference._implements import implements

__all__ = [
    "matmul",
    "matmul_backward",
]


@implements(functional.matmul)
def matmul(x, other):
    return np.asarray(np.matmul(x, other))


@implements(functional.matmul_backward)
def matmul_backward(grad_output, x, other):
    row, column = x.reshape(1, -1) if x.ndim == 1 else x, other.reshape(-1, 1) if other.ndim == 1 else other
    batch = grad_output.shape[: grad_output.ndim - (x.ndim > 1) - (other.ndim > 1)]
    grad = grad_output.reshape(*batch, row.shape[-2], column.shape[-1])
    return tuple(
        _to(of.shape, found).reshape(given.shape)
        for of, given, found in (
            (row, x, grad @ column.swapaxes(-1, -2)),
            (column, other, row.swapaxes(-1, -2) @ grad),
        )
    )


def _to(shape, grad):
    """grad, summed over what is broadcast."""
    grad = grad.sum(tuple(range(grad.ndim - len(shape))))
    return grad.sum(tuple(d for d, n in enumerate(shape) if n == 1), keepdims=True)
