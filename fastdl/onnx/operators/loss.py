"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdl
from fastdl.functional.verbs import Array
from fastdl.onnx._table import Node, is_floats, operator


def _options(target: Array, weight: Array | None, ignore_index: int | None, reduction: str) -> dict[str, Any]:
    ignored = -(2**62) if ignore_index is None else ignore_index
    return {"target": target, "weight": weight, "ignore_index": ignored, "reduction": reduction}


def _plain(node: Node, x: Any, target: Any, weight: Any = None) -> bool:
    return is_floats(x, weight)


@operator("NegativeLogLikelihoodLoss", kernels=True)
def nll_loss(
    x: Array, target: Array, weight: Array | None = None, *, ignore_index: int | None = None, reduction: str = "mean"
) -> Array:
    return np.asarray(fastdl.nll_loss(x, **_options(target, weight, ignore_index, reduction)))


@operator("SoftmaxCrossEntropyLoss", kernels=True)
def cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
    node: Node,
) -> Any:
    """ONNX may ask for the logarithms of the probabilities as well."""
    loss = np.asarray(fastdl.cross_entropy(x, **_options(target, weight, ignore_index, reduction)))
    return loss if len(node.outputs) < 2 else (loss, fastdl.log_softmax(x, 1))
