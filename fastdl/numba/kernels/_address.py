"""Arrays at addresses, as tables hold them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
from numba.core import types
from numba.extending import intrinsic

from fastdl.numba.kernels._kernel import compiled
from fastdl.reference._memory import at


@intrinsic
def _pointer(typing, address, like_):
    """To elements of the dtype of the array `like_`."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like_.dtype)(types.int64, like_), lower


@compiled(counted=True)
def array_at(address, size, like_):
    """The `size` elements there, in the dtype of the array `like_`."""
    return numba.carray(_pointer(address, like_), (size,))


@lru_cache(1024)
def _lying_at(address, size, dtype):
    """A view, which keeps nothing alive: the next time the same, if the address is."""
    return at(address, size, dtype)


def columns(table, column, dtype):
    """Of rows (address, address, size), the arrays of either column; None where the address is 0."""
    rows = table.reshape(-1, 3).tolist()
    return [_lying_at(row[column], row[2], dtype) if row[column] or row[2] == 0 else None for row in rows]
