"""For Numba. Arguments that are an array, or a tuple or a list of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.errors import TypingError
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import overload, register_jitable

from fastdl.functional import verbs
from fastdl.numba.verbs.arrays import address, check_floats, check_floats_like
from fastdl.numba.verbs.types import are_ints, is_none, is_several, literal


@overload(verbs.many_floats, prefer_literal=True)
def _many_floats(x, argument):
    name = literal(argument)
    if not is_several(x):
        return lambda x, argument: (verbs.floats(x, name),)
    arrays: Any = x
    if len(arrays) == 0:
        raise TypingError(f"{name}: found no arrays, expected at least one")
    for item in arrays:
        check_floats(item, name, -1)
        if item.dtype != arrays[0].dtype:
            raise TypingError(f"{name}: found dtype {item.dtype}, expected {arrays[0].dtype}, that of the first")
    if len(arrays) == 1:
        return lambda x, argument: (verbs.floats(x[0], name),)
    return lambda x, argument: (verbs.floats(x[0], name), *verbs.many_floats(x[1:], name))


@overload(verbs.many_like, prefer_literal=True)
def _many_like(x, argument, like):
    if is_none(x):
        return lambda x, argument, like: ()
    name = literal(argument)
    for item in x if is_several(x) else [x]:
        check_floats_like(item, name, like)
    return lambda x, argument, like: verbs.many_floats(x, name)


@overload(verbs.several_floats, prefer_literal=True)
def _several_floats(x, argument):
    name = literal(argument)
    if not is_several(x):
        raise TypingError(f"{name}: found {x}, expected a tuple of arrays")
    for item in x:
        ndim = getattr(item, "ndim", x[0].ndim)  # what is no array is found by many_floats
        if ndim == 0 or ndim != x[0].ndim:
            raise TypingError(f"{name}: found {ndim} dimensions, expected as many as the first has, at least 1")
    return lambda x, argument: verbs.many_floats(x, name)


@overload(verbs.shapes_of)
def _shapes_of(arrays):
    if len(arrays) == 1:
        return lambda arrays: (arrays[0].shape,)
    return lambda arrays: (arrays[0].shape, *verbs.shapes_of(arrays[1:]))


def _parts(like, sizes, dim):
    """New arrays of those sizes along a dimension."""


@overload(_parts)
def _parts_of(like, sizes, dim):
    if len(sizes) == 1:
        return lambda like, sizes, dim: (np.empty(tuple_setitem(like.shape, dim, sizes[0]), like.dtype),)
    return lambda like, sizes, dim: (
        np.empty(tuple_setitem(like.shape, dim, sizes[0]), like.dtype),
        *_parts(like, sizes[1:], dim),
    )


@overload(verbs.split_along)
def _split_along(like, argument, sizes, dim):
    name, count = literal(argument), len(sizes) if is_several(sizes) else 0
    if count == 0 or not are_ints(sizes, count):
        raise TypingError(f"{name}: found {sizes}, expected a tuple of ints")

    def implementation(like, argument, sizes, dim):
        total = 0
        for n in sizes:
            total += n
        if min(sizes) < 0 or total != like.shape[dim]:
            verbs.fail(argument, sizes, ("sizes that add up to", like.shape[dim]))
        return _parts(like, sizes, dim)

    return implementation


@overload(verbs.result_table)
def _result_table(arrays):
    def implementation(arrays):
        table = verbs.array_table(arrays, arrays, 1)
        table[:, 0] = 0
        return table

    return implementation


@overload(verbs.matrix_shapes)
def _matrix_shapes(arrays):
    if len(arrays) == 0:
        return lambda arrays: ()
    shape = register_jitable(
        (lambda a: a.shape)
        if arrays[0].ndim == 2
        else (lambda a: (a.size, 0))
        if arrays[0].ndim == 1
        else lambda a: (-1, 0)
    )
    if len(arrays) == 1:
        return lambda arrays: (shape(arrays[0]),)
    return lambda arrays: (shape(arrays[0]), *verbs.matrix_shapes(arrays[1:]))


@overload(verbs.arrays_like, prefer_literal=True)
def _arrays_like(out, argument, arrays, x):
    name, count = literal(argument), len(arrays)
    if is_none(out):
        if count == 0:
            return lambda out, argument, arrays, x: ()
        if count == 1:
            return lambda out, argument, arrays, x: (np.empty_like(arrays[0]),)
        return lambda out, argument, arrays, x: (
            np.empty_like(arrays[0]),
            *verbs.arrays_like(None, name, arrays[1:], None),
        )
    if is_several(x) != is_several(out) or (is_several(x) and len(out) != count):
        raise TypingError(f"{name}: found {out}, expected it to be like x, {x}")
    if not is_several(x):

        def implementation(out, argument, arrays, x):
            y = verbs.writable(out, name, arrays[0].shape, arrays[0])
            verbs.same_or_disjoint(y, "x", arrays[0])
            return (y,)

    elif count == 1:

        def implementation(out, argument, arrays, x):
            return verbs.arrays_like(out[0], name, arrays, x[0])

    else:

        def implementation(out, argument, arrays, x):
            first = verbs.arrays_like(out[0], name, arrays[:1], x[0])
            return (*first, *verbs.arrays_like(out[1:], name, arrays[1:], x[1:]))

    return implementation


def _fill_rows(table, i, first, second, both):
    """Rows i, i + 1, ... of array_table."""


@overload(_fill_rows)
def _fill_rows_of(table, i, first, second, both):
    last = len(first) == 1

    def implementation(table, i, first, second, both):
        table[i, 0] = address(first[0])
        table[i, 1] = address(second[0]) if both else 0
        table[i, 2] = first[0].size
        if not last:
            _fill_rows(table, i + 1, first[1:], second[1:], both)

    return implementation


@overload(verbs.array_table)
def _array_table(first, second, both):
    count = len(first)

    def implementation(first, second, both):
        table = np.empty((count, 3), np.int64)
        _fill_rows(table, 0, first, second, both)
        return table

    return implementation


@overload(verbs.as_given)
def _as_given(arrays, x):
    if is_several(x):
        return lambda arrays, x: arrays
    return lambda arrays, x: arrays[0]
