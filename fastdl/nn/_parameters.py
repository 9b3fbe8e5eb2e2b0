"""Parameters: their checks and their initial values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl.functional.verbs import Array, fail
from fastdl.nn.module import Rng


def size_of(value: Any, argument: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{argument}: found {value!r}, expected an int")
    if value < 0:
        fail(argument, value, "at least 0")
    return int(value)


def normalized_size_of(value: Any) -> tuple[int, ...]:
    """A normalized_shape, as a tuple."""
    shape = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not shape:
        fail("normalized_shape", value, "at least one size")
    return tuple(size_of(n, "normalized_shape") for n in shape)


def float_dtype(dtype: Any) -> Any:
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype: found {dtype}, expected float32 or float64")
    return dtype


def within_root(shape: tuple[int, ...], hidden: int, dtype: Any, rng: np.random.Generator) -> Array:
    """Initial values of recurrent networks, as torch's."""
    bound = 1 / math.sqrt(hidden)
    return rng.uniform(-bound, bound, shape).astype(dtype)


def initial(
    shape: tuple[int, ...], bias: bool, dtype: Any, rng: Rng, features: int | None = None
) -> tuple[Array, Array | None]:
    """Weight and bias (shape[0] values, or `features`) as torch starts them: Kaiming uniform with a = sqrt(5), which is
    1 / sqrt(fan_in) for both."""
    dtype = float_dtype(dtype)
    rng = np.random.default_rng(rng)
    fan_in = math.prod(shape[1:])
    bound = 1 / np.sqrt(fan_in) if fan_in else 0.0
    weight = rng.uniform(-bound, bound, shape).astype(dtype)
    features = shape[0] if features is None else features
    return weight, rng.uniform(-bound, bound, features).astype(dtype) if bias else None
