"""Weights that were packed, for the backends that read them as they were: csrc alone knows how they lie, where it was
built; else they are packed by leaving them as they are."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl._implementation import use_backend
from fastdl._library import COMPILED
from fastdl.functional.verbs import Array

__all__ = ["conv_weight", "linear_weight", "pack"]


def pack(kernel: str, *arguments: Any) -> None:
    """A kernel of C about packed weights."""
    with use_backend("c", thread=True):
        getattr(_kernels, kernel)(*arguments)


def linear_weight(packed: Array, in_features: int, out_features: int) -> Array:
    """[out, in]"""
    return packed[_linear_order(packed.dtype, in_features, out_features)] if COMPILED else packed


def conv_weight(packed: Array, window: Any, tile: int) -> Array:
    """As it was given, flat."""
    w = window
    size = w.out_channels * w.channels // w.groups * w.kernel_depth * w.kernel_height * w.kernel_width
    if not COMPILED:
        return packed[:size]
    return packed[_conv_order(packed.dtype, size, tile & _kernels.TILE_COLUMNS, *(getattr(w, name) for name in _FORM))]


@lru_cache(64)
def _linear_order(dtype: Any, in_features: int, out_features: int) -> Array:
    sizes = in_features, out_features
    return _order("linear", dtype, in_features * out_features, sizes)


_FORM = "channels", "out_channels", "kernel_depth", "kernel_height", "kernel_width", "groups", "channels_last"
"""What of a window matters to how weights are packed."""


@lru_cache(64)
def _conv_order(dtype: Any, size: int, tile: int, *form: int) -> Array:
    window = dict.fromkeys(_kernels.Window._fields, 1) | dict(zip(_FORM, form, strict=True))
    return _order("conv", dtype, size, (_kernels.Window(**window), tile))


def _order(kernel: str, dtype: Any, size: int, options: tuple[Any, ...]) -> Array:
    """Where each element went: half of a number says it, as both halves are exact in float32."""
    length = np.empty(1, np.int64)
    weight = np.zeros(size, dtype)
    pack(f"{kernel}_packed_size", weight, length, *options)
    packed = [np.zeros(int(length[0]), dtype) for _ in range(2)]
    numbers = np.arange(1, size + 1)
    for part, half in zip(packed, (numbers % 4096, numbers // 4096), strict=True):
        pack(f"{kernel}_pack", half.astype(dtype), part, *options)
    found = packed[0].astype(np.int64) + 4096 * packed[1].astype(np.int64)
    order = np.empty(size + 1, np.int64)
    order[found] = np.arange(len(found))
    return order[1:]
