"""For Numba. Windows sliding over sequences, images and volumes: strides, borders, layouts, packed weights."""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.core.errors import RequireLiteralValue, TypingError
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import overload, register_jitable

from fastdl.functional import verbs
from fastdl.functional.verbs.windows import ints
from fastdl.numba.verbs.types import are_ints, is_int, is_none, literal


@overload(verbs.conv_weight, prefer_literal=True)
def _conv_weight(weight, x, ndim, groups, data_format):
    if getattr(weight, "instance_class", None) is not verbs.PackedConv2dWeight:
        count = literal(ndim)
        if not isinstance(count, int):
            raise RequireLiteralValue("the number of dimensions has to be a literal")

        def plain(weight, x, ndim, groups, data_format):
            array = verbs.floats_like(weight, "weight", x, count)
            return array, None, array.shape, -1

        return plain
    if weight.types[0].dtype != x.dtype or x.ndim > 4:
        raise TypingError(f"weight: found one packed for {weight.types[0].dtype} and conv2d, expected one for {x}")

    def packed(weight, x, ndim, groups, data_format):
        if weight.groups != groups or weight.channels_last != verbs.channels_last(data_format, (1, 1, 1, 1)):
            verbs.fail("weight", "one packed for other groups or data_format", (groups, data_format))
        return None, weight.data, weight.shape, weight.tile

    return packed


@overload(verbs.triple, prefer_literal=False)
def _triple(value, argument, least, unit, shape):
    rank = len(shape) - 2
    if is_int(value):
        if rank == 1:

            def spread(v, u):
                return u, u, v

        elif rank == 2:

            def spread(v, u):
                return u, v, v

        else:

            def spread(v, u):
                return v, v, v

    elif are_ints(value, rank):
        if rank == 1:

            def spread(v, u):
                return u, u, v[0]

        elif rank == 2:

            def spread(v, u):
                return u, v[0], v[1]

        else:

            def spread(v, u):
                return v[0], v[1], v[2]

    else:
        raise TypingError(f"{literal(argument)}: found {value}, expected {ints(rank)}")
    spread = register_jitable(spread)

    def implementation(value, argument, least, unit, shape):
        values = spread(value, unit)
        if min(values[3 - rank], values[1], values[2]) < least:
            verbs.fail(argument, value, ("at least", least))
        return values

    return implementation


@overload(verbs.strides, prefer_literal=False)
def _strides(value, kernel, shape):
    if is_none(value) or (isinstance(value, types.BaseTuple) and len(value) == 0):
        return lambda value, kernel, shape: kernel
    return lambda value, kernel, shape: verbs.triple(value, "stride", 1, 1, shape)


def _or_default(value, default):
    """value, or the default where it is None."""


@overload(_or_default)
def _value_or_default(value, default):
    return (lambda value, default: default) if is_none(value) else (lambda value, default: value)


@overload(verbs.sizes, prefer_literal=False)
def _sizes_of(value, argument, defaults, shape, whole):
    rank = len(shape) - 2
    if is_int(value) or is_none(value):

        def implementation(value, argument, defaults, shape, whole):
            return _spatial((value, value, value), argument, defaults, rank)

    elif isinstance(value, types.BaseTuple) and len(value) in (rank, rank + 2):
        missing = (None,) * (3 - rank)
        skipped = len(value) - rank

        def implementation(value, argument, defaults, shape, whole):
            if skipped > whole:
                verbs.fail(argument, value, ("as many numbers as", rank))
            return _spatial(missing + value[skipped:], argument, defaults, rank)

    else:
        raise TypingError(f"{literal(argument)}: found {value}, expected {ints(rank)} (or None)")
    return implementation


@register_jitable
def _spatial(values, argument, defaults, rank):
    depth = _or_default(values[0], defaults[0]) if rank > 2 else defaults[0]
    height = _or_default(values[1], defaults[1]) if rank > 1 else defaults[1]
    width = _or_default(values[2], defaults[2])
    if min(depth, height, width) < 0:
        verbs.fail(argument, (depth, height, width), "at least 0")
    return depth, height, width


@overload(verbs.pads, prefer_literal=False)
def _pads(value, argument, shape, kernel, stride, dilation, sizes=(0, 0, 0)):
    rank = len(shape) - 2
    if isinstance(value, (types.UnicodeType, types.StringLiteral)):

        def implementation(value, argument, shape, kernel, stride, dilation, sizes=(0, 0, 0)):
            if value == "valid":
                return 0, 0, 0, 0, 0, 0
            if value not in ("same", "same_lower"):
                verbs.fail(argument, value, "'same', 'same_lower', 'valid' or numbers")
            if stride != (1, 1, 1) and min(sizes[0], sizes[1], sizes[2]) == 0:
                verbs.fail(argument, ("'same' with stride", stride), "stride 1 with 'same'")
            d = verbs.same_padding(sizes[0], kernel[0], stride[0], dilation[0])
            h = verbs.same_padding(sizes[1], kernel[1], stride[1], dilation[1])
            w = verbs.same_padding(sizes[2], kernel[2], stride[2], dilation[2])
            if value == "same":
                return d // 2, h // 2, w // 2, d - d // 2, h - h // 2, w - w // 2
            return d - d // 2, h - h // 2, w - w // 2, d // 2, h // 2, w // 2

    elif isinstance(value, types.BaseTuple) and len(value) == rank and all(are_ints(side, 2) for side in value):

        def implementation(value, argument, shape, kernel, stride, dilation, sizes=(0, 0, 0)):
            before = verbs.triple(_sides(value, 0), argument, 0, 0, shape)
            after = verbs.triple(_sides(value, 1), argument, 0, 0, shape)
            return before[0], before[1], before[2], after[0], after[1], after[2]

    else:

        def implementation(value, argument, shape, kernel, stride, dilation, sizes=(0, 0, 0)):
            before = verbs.triple(value, argument, 0, 0, shape)
            return before[0], before[1], before[2], before[0], before[1], before[2]

    return implementation


def _sides(value, i):
    """The numbers before (0) or after (1), of each dimension."""


@overload(_sides)
def _sides_of(value, i):
    if len(value) == 1:
        return lambda value, i: (value[0][i],)
    if len(value) == 2:
        return lambda value, i: (value[0][i], value[1][i])
    return lambda value, i: (value[0][i], value[1][i], value[2][i])


@overload(verbs.borders, prefer_literal=False)
def _borders(value, argument, shape):
    rank, sides = len(shape), len(value) if isinstance(value, types.BaseTuple) else -1
    if not are_ints(value, sides):
        raise TypingError(f"{literal(argument)}: found {value}, expected a tuple of ints")
    if sides % 2 or sides > 2 * rank:
        raise TypingError(f"{literal(argument)}: found {sides} numbers, expected (before, after) of {rank} dimensions")
    if sides == 0:
        # Not even a loop that is never run may index an empty tuple.
        def implementation(value, argument, shape):
            geometry = np.zeros((rank, 3), np.int64)
            for i, n in enumerate(shape):
                geometry[i, 0] = n
            return geometry

    else:

        def implementation(value, argument, shape):
            geometry = np.zeros((rank, 3), np.int64)
            for i, n in enumerate(shape):
                geometry[i, 0] = n
            for i, n in enumerate(value):
                if abs(n) > 2**60:
                    verbs.fail(argument, value, "at most 2**60")
                geometry[rank - 1 - i // 2, 1 + i % 2] = n
            return geometry

    return implementation


@overload(verbs.bordered_shape)
def _bordered_shape(shape, geometry, sign):
    if len(shape) == 0:
        return lambda shape, geometry, sign: shape

    def implementation(shape, geometry, sign):
        result = shape
        for i in range(len(shape)):
            result = tuple_setitem(result, i, shape[i] + sign * (geometry[i, 1] + geometry[i, 2]))
        return result

    return implementation


@overload(verbs.same_padding)
def _same_padding(size, kernel, stride, dilation):
    def implementation(size, kernel, stride, dilation):
        if stride == 1:
            return dilation * (kernel - 1)
        return max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)

    return implementation


@overload(verbs.with_batch)
def _with_batch(shape, argument, like):
    if len(shape) == len(like) - 1:
        return lambda shape, argument, like: (np.int64(1), *shape)
    if len(shape) != len(like):
        expected = f"{len(like)} dimensions, or {len(like) - 1} without a batch"
        raise TypingError(f"{literal(argument)}: found {len(shape)} dimensions, expected {expected}")
    return lambda shape, argument, like: shape


@overload(verbs.without_batch)
def _without_batch(result, given, like):
    if len(given) == len(like):
        return lambda result, given, like: result
    return lambda result, given, like: result[1:]


@overload(verbs.unfolded)
def _unfolded(option, shape):
    given = isinstance(option, types.BaseTuple) and 1 <= len(option) <= 3
    ones = (1,) * (len(option) + 2 if given else max(4, len(shape)))
    return lambda option, shape: ones


@overload(verbs.volume)
def _volume(shape, channels_last):
    if len(shape) == 3:
        first, last = (lambda s: (s[0], s[1], 1, 1, s[2])), (lambda s: (s[0], s[2], 1, 1, s[1]))
    elif len(shape) == 4:
        first, last = (lambda s: (s[0], s[1], 1, s[2], s[3])), (lambda s: (s[0], s[3], 1, s[1], s[2]))
    else:
        first, last = (lambda s: (s[0], s[1], s[2], s[3], s[4])), (lambda s: (s[0], s[4], s[1], s[2], s[3]))
    first, last = register_jitable(first), register_jitable(last)
    return lambda shape, channels_last: last(shape) if channels_last else first(shape)


@overload(verbs.volume_shape)
def _volume_shape(shape, batch, channels, sizes, channels_last):
    if len(shape) == 3:
        first, last = (lambda n, c, s: (n, c, s[2])), (lambda n, c, s: (n, s[2], c))
    elif len(shape) == 4:
        first, last = (lambda n, c, s: (n, c, s[1], s[2])), (lambda n, c, s: (n, s[1], s[2], c))
    else:
        first, last = (lambda n, c, s: (n, c, s[0], s[1], s[2])), (lambda n, c, s: (n, s[0], s[1], s[2], c))
    first, last = register_jitable(first), register_jitable(last)

    def implementation(shape, batch, channels, sizes, channels_last):
        return last(batch, channels, sizes) if channels_last else first(batch, channels, sizes)

    return implementation


@overload(verbs.channels_last)
def _channels_last(data_format, shape):
    first, last = verbs.DATA_FORMATS[len(shape) - 3]

    def implementation(data_format, shape):
        if data_format == last:
            return 1
        if data_format != first:
            verbs.fail("data_format", data_format, (first, last))
        return 0

    return implementation
