"""JAX: the compiled function. NPROC and XLA_FLAGS (hold_to) are its only knobs for threads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bench.peers import Call


def prepare(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    jax.config.update("jax_enable_x64", True)
    arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
    settings = {name: value for name, value in arguments.items() if name not in arrays}
    build = OPERATIONS.get(operation)
    if build is None:
        return None
    function = jax.jit(functools.partial(build, **settings))
    on_device = {name: jax.device_put(value) for name, value in arrays.items()}
    return lambda: function(**on_device).block_until_ready()


def _conv2d(  # type: ignore[no-untyped-def]
    x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, activation="none", algorithm="auto"
):
    pair = lambda value: (value, value) if isinstance(value, int) else tuple(value)  # noqa: E731
    y = jax.lax.conv_general_dilated(
        x,
        weight,
        pair(stride),
        [(p, p) for p in pair(padding)],
        rhs_dilation=pair(dilation),
        feature_group_count=groups,
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )
    y = y if bias is None else y + bias[:, None, None]
    return jax.nn.relu(y) if activation == "relu" else y


def _linear(x, weight, bias=None, activation="none"):  # type: ignore[no-untyped-def]
    y = x @ weight.T if bias is None else x @ weight.T + bias
    return jax.nn.relu(y) if activation == "relu" else y


OPERATIONS: dict[str, Callable[..., Any]] = {
    "relu": lambda x: jax.numpy.maximum(x, 0),
    "softmax": lambda x, dim=-1: jax.nn.softmax(x, dim),
    "log_softmax": lambda x, dim=-1: jax.nn.log_softmax(x, dim),
    "linear": _linear,
    "conv2d": _conv2d,
}
