"""Structs of integers, which compiled functions are given as arrays: to read a tuple of thirty numbers, call by call,
takes Numba two microseconds."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic


@lru_cache(1024)
def numbers(struct):
    """A named tuple's."""
    return np.array(struct, np.int64)


@intrinsic
def fields(typing, array, kind):
    """The named tuple of the class `kind` whose numbers these are."""
    struct = types.NamedUniTuple(types.int64, len(kind.instance_class._fields), kind.instance_class)

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = context.make_array(array)(context, builder, arguments[0]).data
        each = [builder.load(builder.gep(first, [ir.IntType(64)(i)])) for i in range(len(struct))]
        return context.make_tuple(builder, struct, each)

    return struct(array, kind), lower
