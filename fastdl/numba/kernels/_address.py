"""Arrays at addresses, as tables hold them."""

from __future__ import annotations

from typing import Any

import numba
from numba.core import types
from numba.extending import intrinsic

from fastdl.numba.kernels._kernel import compiled


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
