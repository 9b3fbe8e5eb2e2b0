"""Windows sliding over sequences, images and volumes: strides, borders, layouts, packed weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy import int64

from fastdl._call import shortcut
from fastdl.functional.verbs.arrays import Array, floats_like, packed_data
from fastdl.functional.verbs.errors import fail
from fastdl.functional.verbs.scalars import choice, is_int


class PackedConv2dWeight(NamedTuple):
    """What pack_conv2d_weight returns: accepted by conv2d in place of the weight. Its fields but shape are private.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.pack_conv2d_weight(np.ones((8, 4, 3, 3))).shape
    (8, 4, 3, 3)
    """

    data: Array
    shape: tuple[int, int, int, int]
    groups: int
    channels_last: int
    tile: int
    """For which they are packed, as csrc/fastdl.h says: FDL_TILE_..."""


@shortcut
def conv_weight(
    weight: Any, x: Array, ndim: int, groups: int, data_format: str
) -> tuple[Array | None, Array | None, tuple[int, ...], int]:
    """A weight of that many dimensions, plain or packed: the array or None, the packed one or None, the shape, and the
    tile (-1: plain)."""
    if type(weight) is not PackedConv2dWeight:
        weight = floats_like(weight, "weight", x, ndim)
        return weight, None, weight.shape, -1
    data = packed_data(weight.data, x)
    packed_for = weight.groups, weight.channels_last
    if ndim != 4 or packed_for != (groups, channels_last(data_format, (1, 1, 1, 1))):
        fail(
            "weight",
            ("one packed for conv2d with groups", packed_for[0], "and data_format", DATA_FORMATS[1][packed_for[1]]),
            ("one packed for", ndim - 2, "dimensions, groups", groups, "and data_format", data_format),
        )
    return None, data, weight.shape, weight.tile


def ints(rank: int) -> str:
    """What an option with a number for each of `rank` dimensions takes, in words."""
    return "an int" if rank == 1 else f"an int or a tuple of {rank} ints"


def triple(value: Any, argument: str, least: int, unit: int, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """An int, or one for each spatial dimension of `shape`, as (depth, height, width); `unit` where there is none."""
    rank = len(shape) - 2
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    if len(values) not in (1, rank) or not all(map(is_int, values)):
        raise TypeError(f"{argument}: found {value!r}, expected {ints(rank)}")
    if min(values) < least:
        fail(argument, value, ("at least", least))
    values = values * rank if len(values) == 1 else values
    return (unit,) * (3 - rank) + tuple(map(int, values))  # type: ignore[return-value]


def strides(value: Any, kernel: tuple[int, int, int], shape: tuple[int, ...]) -> tuple[int, int, int]:
    """`stride` as a triple; None and an empty tuple: as the kernel."""
    if value is None or (isinstance(value, (tuple, list)) and not value):
        return kernel
    return triple(value, "stride", 1, 1, shape)


def sizes(
    value: Any, argument: str, defaults: tuple[int, int, int], shape: tuple[int, ...], whole: int
) -> tuple[int, int, int]:
    """Sizes as (depth, height, width): one for each spatial dimension of `shape` (or, where `whole` is 2, for its two
    others before them as well, which do not count), or an int; `defaults` where there is None."""
    rank = len(shape) - 2
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    values = values[2:] if whole and len(values) == rank + 2 else values
    if len(values) != rank or not all(v is None or is_int(v) for v in values):
        raise TypeError(f"{argument}: found {value!r}, expected {ints(rank)} (or None)")
    found = defaults[: 3 - rank] + tuple(
        default if v is None else int(v) for v, default in zip(values, defaults[3 - rank :], strict=True)
    )
    if min(found[3 - rank :]) < 0:
        fail(argument, value, "at least 0")
    return found  # type: ignore[return-value]


def pads(
    value: Any,
    argument: str,
    shape: tuple[int, ...],
    kernel: tuple[int, int, int],
    stride: Any,
    dilation: Any,
    sizes: tuple[int, int, int] = (0, 0, 0),
) -> tuple[int, int, int, int, int, int]:
    """Padding as (depth, height, width) before and after: given as an int, as one or as (before, after) for each
    spatial dimension of `shape`, as "valid" (none), or as "same" or "same_lower": so that there is a position at each
    stride of `sizes` (0: not known; at stride 1 that does not matter), the odd one after or before."""
    rank = len(shape) - 2
    if isinstance(value, str):
        if value not in ("same", "same_lower", "valid"):
            fail(argument, repr(value), "'same', 'same_lower', 'valid' or numbers")
        if value == "valid":
            return 0, 0, 0, 0, 0, 0
        if stride != (1, 1, 1) and min(sizes) == 0:
            fail(argument, (repr(value), "with stride", stride), ("stride 1 with", repr(value)))
        total = [same_padding(*each) for each in zip(sizes, kernel, stride, dilation, strict=True)]
        before = [t // 2 if value == "same" else t - t // 2 for t in total]
        after = [t - b for t, b in zip(total, before, strict=True)]
        return (*before, *after)  # type: ignore[return-value]
    if not isinstance(value, (tuple, list)) or all(map(is_int, value)):
        if isinstance(value, (tuple, list)) and len(value) not in (1, rank):
            raise TypeError(f"{argument}: found {value!r}, expected {_padding(rank)}")
        if not isinstance(value, (tuple, list)) and not is_int(value):
            raise TypeError(f"{argument}: found {value!r}, expected {_padding(rank)}")
        numbers = triple(value, argument, 0, 0, shape)
        return numbers + numbers
    sides = [tuple(side) if isinstance(side, (tuple, list)) else () for side in value]
    if len(sides) != rank or not all(len(side) == 2 and all(map(is_int, side)) for side in sides):
        raise TypeError(f"{argument}: found {value!r}, expected {_padding(rank)}")
    if min(map(min, sides)) < 0:
        fail(argument, value, "at least 0")
    none = ((0, 0),) * (3 - rank)
    first, last = zip(*none, *sides, strict=True)
    return tuple(map(int, first + last))  # type: ignore[return-value]


def _padding(rank: int) -> str:
    pair = "((before, after),)" if rank == 1 else f"{rank} pairs (before, after)"
    return f"{ints(rank)}, {pair}, or a string"


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Padding in all, so that there are ceil(size / stride) positions."""
    if stride == 1:
        return dilation * (kernel - 1)
    return int(max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size))


def borders(value: Any, argument: str, shape: tuple[int, ...]) -> Array:
    """Padding given from the last dimension backwards as (before, after, before, after, ...), as an int64 array
    (dimensions of `shape`, 3) of size, before, after."""
    if not isinstance(value, (tuple, list)) or not all(map(is_int, value)):
        raise TypeError(f"{argument}: found {value!r}, expected a tuple of ints")
    if len(value) % 2 or len(value) > 2 * len(shape):
        fail(argument, value, ("(before, after) of at most", len(shape), "dimensions, from the last backwards"))
    if any(abs(n) > 2**60 for n in value):
        fail(argument, value, "at most 2**60")
    geometry = np.zeros((len(shape), 3), int64)
    geometry[:, 0] = shape
    geometry[len(shape) - len(value) // 2 :, 1:] = np.reshape(value, (-1, 2))[::-1]
    return geometry


def bordered_shape(shape: tuple[int, ...], geometry: Array, sign: int) -> tuple[int, ...]:
    """`shape` with those borders added (sign 1) or taken away (-1)."""
    return tuple(n + sign * int(before + after) for n, (_, before, after) in zip(shape, geometry, strict=True))


def with_batch(shape: tuple[int, ...], argument: str, like: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with as many dimensions as `like`, which has a batch: one without a batch is a batch of one."""
    if len(shape) == len(like) - 1:
        return (1, *shape)
    if len(shape) != len(like):
        fail(argument, ("shape", shape), (len(like), "dimensions, or", len(like) - 1, "without a batch"))
    return shape


def without_batch(result: tuple[int, ...], given: tuple[int, ...], like: tuple[int, ...]) -> tuple[int, ...]:
    """`result`, a shape with a batch, as it is to be where with_batch found `given`: with a batch or without."""
    return result if len(given) == len(like) else result[1:]


def unfolded(option: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """As many ones as images have dimensions of which a window of that kernel_size (or col2im makes images of that
    output_size): a tuple says it, an int is for two dimensions (for three, if x has as many)."""
    if isinstance(option, (tuple, list)) and 1 <= len(option) <= 3:
        return (1,) * (len(option) + 2)
    return (1,) * max(4, len(shape))


def volume(shape: tuple[int, ...], channels_last: int) -> tuple[int, int, int, int, int]:
    """The shape of images (or sequences, or volumes) as (batch, channels, depth, height, width)."""
    channels, sizes = (shape[-1], shape[1:-1]) if channels_last else (shape[1], shape[2:])
    return (shape[0], channels, *(1,) * (3 - len(sizes)), *sizes)  # type: ignore[return-value]


def volume_shape(
    shape: tuple[int, ...], batch: int, channels: int, sizes: tuple[int, int, int], channels_last: int
) -> tuple[int, ...]:
    """The other way: a shape with as many dimensions as `shape`, of that batch, channels and sizes."""
    spatial = sizes[5 - len(shape) :]
    return (batch, *spatial, channels) if channels_last else (batch, channels, *spatial)


def channels_last(data_format: str, shape: tuple[int, ...]) -> int:
    """1 for "NHWC" (or its counterpart for sequences or volumes), 0 for "NCHW"."""
    return choice(data_format, "data_format", DATA_FORMATS[len(shape) - 3])


DATA_FORMATS = (("NCL", "NLC"), ("NCHW", "NHWC"), ("NCDHW", "NDHWC"))
