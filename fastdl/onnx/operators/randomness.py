"""Dropout and random numbers: of a seed where there is one, else of NumPy's generator, others at each call."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.functional.verbs import Array
from fastdl.onnx._table import Node, bounded, operator
from fastdl.onnx.operators.arithmetic import dtype_of


def _generator(seed: float | None) -> np.random.Generator:
    return np.random.default_rng(None if seed is None else abs(int(np.float32(seed).view(np.int32))))


@operator("Dropout", since=12)
def dropout(
    x: Array, ratio: Array | None = None, training: Array | None = None, *, seed: int | None = None, node: Node
) -> Any:
    """The identity unless the third input says that it trains. The second output is the mask."""
    p = 0.5 if ratio is None else float(ratio)
    if training is None or not training or p == 0:
        return x if len(node.outputs) < 2 else (x, np.ones(x.shape, bool))
    kept = np.random.RandomState(seed).uniform(size=x.shape) >= p  # as ONNX's own has it
    return (np.where(kept, x / x.dtype.type(1 - p), 0).astype(x.dtype), kept)[: len(node.outputs)]


@operator("Dropout", view=True)
def dropout_1(x: Array, *, ratio: float = 0.5, is_test: int = 1, node: Node) -> Any:
    return x if len(node.outputs) < 2 else (x, np.ones(x.shape, bool))


def _typed(dtype: int | None, like: Any = np.float32) -> np.dtype[Any]:
    return np.dtype(like) if dtype is None else dtype_of(dtype)


def _typed_array(values: Any, dtype: Any) -> Array:
    return np.asarray(values, dtype)


@operator("RandomNormal", random=True)
def random_normal(
    *, shape: list[int], dtype: int = 1, mean: float = 0.0, scale: float = 1.0, seed: float | None = None
) -> Array:
    kind = _typed(dtype)
    return _typed_array(_generator(seed).normal(mean, scale, bounded(shape, np.float64)), kind)


@operator("RandomUniform", random=True)
def random_uniform(
    *, shape: list[int], dtype: int = 1, low: float = 0.0, high: float = 1.0, seed: float | None = None
) -> Array:
    kind = _typed(dtype)
    return _typed_array(_generator(seed).uniform(low, high, bounded(shape, np.float64)), kind)


@operator("RandomNormalLike", random=True)
def random_normal_like(
    x: Array, *, dtype: int | None = None, mean: float = 0.0, scale: float = 1.0, seed: float | None = None
) -> Array:
    kind = _typed(dtype, x.dtype)
    return _typed_array(_generator(seed).normal(mean, scale, x.shape), kind)


@operator("RandomUniformLike", random=True)
def random_uniform_like(
    x: Array, *, dtype: int | None = None, low: float = 0.0, high: float = 1.0, seed: float | None = None
) -> Array:
    kind = _typed(dtype, x.dtype)
    return _typed_array(_generator(seed).uniform(low, high, x.shape), kind)


@operator("Bernoulli", random=True)
def bernoulli(x: Array, *, dtype: int | None = None, seed: float | None = None) -> Array:
    state = np.random.RandomState(None if seed is None else int(seed))  # as ONNX's own has it
    return state.binomial(1, x.astype(np.float64)).astype(_typed(dtype, x.dtype))


@operator("Multinomial", random=True)
def multinomial(x: Array, *, dtype: int = 6, sample_size: int = 1, seed: float | None = None) -> Array:
    """From logarithms of probabilities that need not add up to 1."""
    bounded((len(x), sample_size, x.shape[1]), np.float64)
    noise = _generator(seed).gumbel(size=(len(x), sample_size, x.shape[1]))
    return np.argmax(x[:, None] + noise, -1).astype(_typed(dtype))
