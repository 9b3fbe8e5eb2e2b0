"""Vectors of symbols."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl.functional.verbs import Array, integer
from fastdl.nn._arguments import example, float_dtype, size_of
from fastdl.nn._layer import Layer
from fastdl.nn._parameters import PARAMETERS, generator
from fastdl.nn.module import Rng

__all__ = ["Embedding"]


@doc(PARAMETERS, example(">>> nn.Embedding(10, 3)(np.array([[1, 2], [4, 4]])).shape\n(2, 2, 3)"))
class Embedding(Layer, function="embedding"):
    """A learned vector for each of so many symbols. torch.nn.Embedding.

    Parameters
    ----------
    num_embeddings : int
        How many symbols there are.
    embedding_dim : int
        The size of a vector.
    padding_idx : int, optional
        A symbol whose vector is 0 at first and is not learned.
    {dtype}
    {rng}

    Attributes
    ----------
    weight : (num_embeddings, embedding_dim) array
        Standard normal at first.

    Notes
    -----
    The input, integers, has no gradient: backward returns None.

    See Also
    --------
    fastdl.embedding, torch.nn.Embedding

    {example}
    """

    parameter_names = ("weight",)

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        dtype: Any = np.float32,
        rng: Rng = None,
    ) -> None:
        self.num_embeddings = size_of(num_embeddings, "num_embeddings")
        self.embedding_dim = size_of(embedding_dim, "embedding_dim")
        if padding_idx is not None:
            padding_idx = integer(padding_idx, "padding_idx", -num_embeddings, num_embeddings - 1) % num_embeddings
        self.padding_idx = padding_idx
        shape = self.num_embeddings, self.embedding_dim
        self.weight = generator(rng).standard_normal(shape).astype(float_dtype(dtype))
        if padding_idx is not None:
            self.weight[padding_idx] = 0

    def forward(self, x: Any) -> Array:
        y = functions().embedding(x, self.weight, self.padding_idx)
        self.save_for_backward(x)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> None:
        grad = functions().embedding_backward(grad_output, *self.saved, self.weight, self.padding_idx)
        self.set_grads(weight=grad)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
