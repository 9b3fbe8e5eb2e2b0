"""For Numba. Class indices and positions."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.core.errors import RequireLiteralValue, TypingError
from numba.extending import overload, register_jitable

from fastdl.functional import verbs
from fastdl.numba.verbs.types import are_ints, check_wanted, is_list, is_none, literal


@overload(verbs.class_indices, prefer_literal=True)
def _class_indices(x, argument, ndim):
    name = literal(argument)
    if is_list(x):
        return lambda x, argument, ndim: verbs.class_indices(np.array(x), name, ndim)
    if isinstance(x, types.Integer) and literal(ndim) in (0, -1):

        def of_an_int(x, argument, ndim):
            array = np.empty((), np.int64)
            array[()] = x
            return array

        return of_an_int
    if not isinstance(x, types.Array) or not isinstance(x.dtype, types.Integer):
        raise TypingError(f"{literal(argument)}: found {x}, expected an array of integers")
    if literal(ndim) not in (x.ndim, -1):
        raise TypingError(f"{literal(argument)}: found {x.ndim} dimensions, expected {literal(ndim)}")
    if x.dtype == types.int64 and x.layout == "C":
        return lambda x, argument, ndim: x
    return lambda x, argument, ndim: np.ascontiguousarray(x).astype(np.int64)


@overload(verbs.class_target, prefer_literal=True)
def _class_target(target, x, soft):
    if literal(soft) and isinstance(target, types.Array) and target.ndim == x.ndim and target.dtype == x.dtype:

        def probabilities(target, x, soft):
            target = verbs.floats_like(target, "target", x)
            if target.shape != x.shape:
                verbs.fail("target", target.shape, x.shape)
            return None, target

        return probabilities
    ndim = max(x.ndim - 1, 0)

    def indices(target, x, soft):
        target = verbs.class_indices(target, "target", ndim)
        if target.shape != verbs.row_shape(x.shape):
            verbs.fail("target", target.shape, verbs.row_shape(x.shape))
        return target, None

    return indices


@overload(verbs.class_split)
def _class_split(shape):
    if len(shape) == 0:
        raise TypingError("x: found 0 dimensions, expected at least 1")
    if len(shape) == 1:
        return lambda shape: (1, shape[0], 1)
    if len(shape) == 2:
        return lambda shape: (shape[0], shape[1], 1)

    def implementation(shape):
        inner = 1
        for n in shape[2:]:
            inner *= n
        return shape[0], shape[1], inner

    return implementation


@overload(verbs.row_shape)
def _row_shape(shape):
    if len(shape) == 1:
        return lambda shape: ()
    return lambda shape: shape[:1] + shape[2:]


@overload(verbs.rows_of)
def _rows_of(shape, argument):
    if len(shape) == 0:
        raise TypingError(f"{literal(argument)}: found 0 dimensions, expected at least 1")
    return lambda shape, argument: (shape[0], shape[1:])


@overload(verbs.leading_sizes, prefer_literal=True)
def _leading_sizes(shape, argument, leading):
    name, count = literal(argument), len(leading)
    if len(shape) < count:
        raise TypingError(f"{name}: found {len(shape)} dimensions, expected at least {count}")

    def implementation(shape, argument, leading):
        if shape[:count] != leading:
            verbs.fail(name, ("shape", shape), ("one that begins with", leading))
        return shape[count:]

    return implementation


@overload(verbs.optional_indices, prefer_literal=True)
def _optional_indices(x, argument, shape):
    if is_none(x):
        return lambda x, argument, shape: None
    name, ndim = literal(argument), len(shape)

    def implementation(x, argument, shape):
        x = verbs.class_indices(x, name, ndim)
        if x.shape != shape:
            verbs.fail(name, x.shape, shape)
        return x

    return implementation


@overload(verbs.sequence_lengths)
def _sequence_lengths(x, batch, steps):
    if is_none(x):
        return lambda x, batch, steps: None

    def checked(lengths, batch, steps):
        if lengths.size != batch:
            verbs.fail("lengths", lengths.shape, (batch,))
        for length in lengths:
            if length < 1 or length > steps:
                verbs.fail("lengths", length, ("between 1 and", steps, "steps"))
        return lengths

    checked = register_jitable(checked)
    if isinstance(x, types.BaseTuple):
        if not are_ints(x, len(x)):
            raise TypingError(f"lengths: found {x}, expected ints")
        return lambda x, batch, steps: checked(np.array(x, np.int64), batch, steps)
    return lambda x, batch, steps: checked(verbs.class_indices(x, "lengths", 1).copy(), batch, steps)


@overload(verbs.total_steps)
def _total_steps(lengths, most):
    return lambda lengths, most: lengths.sum()


@overload(verbs.position_array, prefer_literal=True)
def _position_array(x, argument, shape, rank):
    name, ndim, last = literal(argument), len(shape), literal(rank)
    if not isinstance(last, int):
        raise RequireLiteralValue("the number of dimensions has to be a literal")
    first = ndim - last

    def implementation(x, argument, shape, rank):
        x = verbs.class_indices(x, name, ndim)
        if x.shape[:first] != shape[:first]:
            verbs.fail(name, x.shape, shape)
        return x

    return implementation


@overload(verbs.index_output, prefer_literal=True)
def _index_output(shape, wanted):
    if check_wanted(wanted):
        return lambda shape, wanted: np.empty(shape, np.int64)
    return lambda shape, wanted: np.empty(0, np.int64)


@overload(verbs.with_indices, prefer_literal=True)
def _with_indices(y, indices, wanted):
    if check_wanted(wanted):
        return lambda y, indices, wanted: (y, indices)
    return lambda y, indices, wanted: y
