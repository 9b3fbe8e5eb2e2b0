"""Initial values of parameters, with the distributions of torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl.functional.verbs import Array
from fastdl.nn._arguments import float_dtype
from fastdl.nn.module import Rng

PARAMETERS = {
    "dtype": "dtype : numpy.float32 or numpy.float64\n    Of the parameters, and so of inputs and outputs.",
    "rng": """
rng : numpy.random.Generator, int or None
    Draws the initial values: a generator, which moves on, or a seed. None takes fresh entropy from the system.""",
}
"""Shared by the docstrings of layers that have parameters."""


def generator(rng: Rng) -> np.random.Generator:
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise TypeError(f"rng: found {rng!r}, expected a numpy Generator, a seed or None") from None


def within(bound: float, shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> Array:
    """Uniform in [-bound, bound]."""
    return rng.uniform(-bound, bound, shape).astype(dtype)


def within_root(shape: tuple[int, ...], hidden: int, dtype: Any, rng: np.random.Generator) -> Array:
    """Initial values of recurrent networks."""
    return within(1 / math.sqrt(hidden), shape, dtype, rng)


def initial(
    shape: tuple[int, ...], bias: bool, dtype: Any, rng: Rng, features: int | None = None
) -> tuple[Array, Array | None]:
    """Weight and bias (shape[0] values, or `features`): Kaiming uniform with a = sqrt(5), which is within
    1 / sqrt(fan_in) for both."""
    dtype, rng = float_dtype(dtype), generator(rng)
    fan_in = math.prod(shape[1:])
    bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
    weight = within(bound, shape, dtype, rng)
    return weight, within(bound, (shape[0] if features is None else features,), dtype, rng) if bias else None
