"""Arrays as wholes."""

from __future__ import annotations

import numpy as np

from fastdl import functional
from fastdl.reference._implements import implements

__all__ = [
    "cat",
    "cat_backward",
    "embedding",
    "embedding_backward",
    "take",
    "take_backward",
]


@implements(functional.take)
def take(x, index):
    return np.asarray(x[np.asarray(index, np.int64)])


@implements(functional.take_backward)
def take_backward(grad_output, index, rows):
    index = np.asarray(index, np.int64)
    grad = np.zeros((rows, *grad_output.shape[index.ndim :]), grad_output.dtype)
    np.add.at(grad, index, grad_output)
    return grad


@implements(functional.embedding)
def embedding(x, weight):
    return np.asarray(weight[np.asarray(x, np.int64)])


@implements(functional.embedding_backward)
def embedding_backward(grad_output, x, weight, padding_idx):
    grad = take_backward(grad_output, x, len(weight))
    if padding_idx is not None:
        grad[padding_idx] = 0
    return grad


@implements(functional.cat)
def cat(arrays, dim):
    return np.concatenate(arrays, dim)


@implements(functional.cat_backward)
def cat_backward(grad_output, sizes, dim):
    return tuple(part.copy() for part in np.split(grad_output, np.cumsum(sizes)[:-1], dim))
