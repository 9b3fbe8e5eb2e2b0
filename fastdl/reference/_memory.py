"""Arrays that kernels are given by their address."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from fastdl.functional.verbs import Array

REALS = np.dtype(np.float32), np.dtype(np.float64)


def at(address: int, size: int, dtype: Any) -> Array:
    """The `size` elements that lie there."""
    if size == 0:
        return np.empty(0, dtype)
    memory = (ctypes.c_char * (size * np.dtype(dtype).itemsize)).from_address(int(address))
    return np.frombuffer(memory, dtype)


def columns(table: Array, column: int, dtype: Any) -> list[Array | None]:
    """Of rows (address, address, size), the arrays of either column; None where the address is 0."""
    rows = table.reshape(-1, 3).tolist()
    return [at(row[column], row[2], dtype) if row[column] or row[2] == 0 else None for row in rows]
