"""Memory of compiled functions: scratch, which has to be released, for they do not count references; and copies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.core.runtime.context import NRTContext
from numba.extending import intrinsic

from fastdl.numba.kernels._kernel import compiled

LINE = 64
"""Bytes of the caches. A vector that lies across two is read twice."""


def from_line(array, size):
    """`size` elements of a longer array, from the beginning of a line on."""
    first = -array.ctypes.data % LINE // array.itemsize
    return array[first : first + size]


_from_line = compiled(counted=True)(from_line)


@compiled(counted=True)
def scratch(size, dtype):
    """An array that its taker has to `release`, at the beginning of a line."""
    return _from_line(np.empty(size + LINE, dtype), size)


@compiled(counted=True)
def cleared(size, dtype):
    """The same of zeros."""
    return _from_line(np.zeros(size + LINE, dtype), size)


@compiled
def overlap(x, y):
    """Whether two flat arrays do."""
    a, b = x.ctypes.data, y.ctypes.data
    return a < b + y.size * y.itemsize and b < a + x.size * x.itemsize


@intrinsic
def release(typing, array):
    """Of what `scratch` or `cleared` gave, or of a tuple of that."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        NRTContext(context, True).decref(builder, array, arguments[0])
        return context.get_dummy_value()

    return types.void(array), lower


@intrinsic
def copied(typing, x, x_begin, y, y_begin, count):
    """y[y_begin : y_begin + count] = x[x_begin : x_begin + count], which do not overlap."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def address(type_: Any, array: Any, at: Any) -> Any:
            return builder.gep(context.make_array(type_)(context, builder, array).data, [at])

        of, to = address(x, *arguments[:2]), address(y, *arguments[2:4])
        cgutils.raw_memcpy(builder, to, of, arguments[4], context.get_abi_sizeof(context.get_value_type(x.dtype)))
        return context.get_dummy_value()

    return types.void(x, types.int64, y, types.int64, types.int64), lower
