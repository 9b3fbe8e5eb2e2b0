"""Weights packed once, for repeated calls."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import helper
from fastdl.functional._window import Padding, Pair
from fastdl.functional.conv._shared import SHARED, Algorithm, Precision
from fastdl.functional.conv.conv import conv_geometry
from fastdl.functional.verbs import Array, ArrayLike, PackedConv2dWeight, channels_last, floats, triple, volume_shape

__all__ = [
    "PackedConv2dWeight",
    "pack_conv2d_weight",
]


@helper
@doc(SHARED)
def pack_conv2d_weight(
    weight: ArrayLike,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    data_format: Literal["NCHW", "NHWC"] = "NCHW",
    algorithm: Algorithm = "auto",
    x_shape: tuple[int, ...] | None = None,
    precision: Precision = "default",
) -> PackedConv2dWeight:
    """A weight as conv2d's kernels read it, for repeated calls with the same one (inference).

    conv2d takes the result in place of the weight, also with images of another size. The copy is independent of
    `weight`, good on every instruction-set level, and up to about 5 times as large (3 x 3, transformed for Winograd's
    algorithm). The gradients (conv2d_backward) need the plain weight.

    Parameters
    ----------
    weight : array of shape (out_channels, channels / groups, kernel_height, kernel_width)
        float32 or float64.
    {window}
    data_format : {"NCHW", "NHWC"}
        How conv2d will be given x.
    {algorithm}
        Where it is "winograd" or "winograd_2x2", weights are transformed for it as well; where "auto", if that pays.
    x_shape : tuple of 4 ints, optional
        Of the images for which that is asked; large ones, if it is not given.
    {precision}

    Returns
    -------
    PackedConv2dWeight
        What conv2d takes as its weight, with the same groups and data_format.

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((1, 2, 5, 5)), np.ones((3, 2, 3, 3))
    >>> packed = fastdl.pack_conv2d_weight(weight)
    >>> bool((fastdl.conv2d(x, packed) == fastdl.conv2d(x, weight)).all())
    True
    """
    weight = floats(weight, "weight", 4)
    shape = _large_images(weight.shape, dilation, groups, data_format) if x_shape is None else x_shape
    window, _, codes, _ = conv_geometry(
        shape, weight.shape, stride, padding, dilation, groups, "zeros", data_format, algorithm, "none", (), precision
    )
    found = np.zeros(4, np.int64)
    found[0] = codes[0]
    _kernels.conv_plan(weight, found, window, _kernels.TILE_ANY, 0, codes[1])
    tile = int(found[3])
    _kernels.conv_packed_size(weight, found, window, tile)
    data = np.empty(found[0], weight.dtype)
    _kernels.conv_pack(weight, data, window, tile)
    return PackedConv2dWeight(data, weight.shape, groups, window.channels_last, tile)


def packed_conv2d_size(shape: tuple[int, ...], dtype: Any, groups: int, channels_last: bool, tile: int) -> int:
    """How many elements a weight of that shape has when it is packed so."""
    size = np.zeros(1, np.int64)
    _kernels.conv_packed_size(np.empty(shape, dtype), size, _window(shape, groups, channels_last), tile)
    return int(size[0])


def pack_conv2d_weight_as(tile: int, weight: Array, groups: int = 1, channels_last: bool = False) -> PackedConv2dWeight:
    """Packed for that tile, whatever images it is for."""
    shape = weight.shape
    data = np.empty(packed_conv2d_size(shape, weight.dtype, groups, channels_last, tile), weight.dtype)
    _kernels.conv_pack(weight, data, _window(shape, groups, channels_last), tile)
    return PackedConv2dWeight(data, (shape[0], shape[1], shape[2], shape[3]), groups, int(channels_last), tile)


def _window(shape: tuple[int, ...], groups: int, channels_last: bool) -> Any:
    """Of all that matters to packing."""
    data_format = "NHWC" if channels_last else "NCHW"
    images = _large_images(shape, 1, groups, data_format)
    return conv_geometry(images, shape, 1, 0, 1, groups, "zeros", data_format, "direct", "none", (), "default")[0]


@helper
def _large_images(weight: tuple[int, ...], dilation: Any, groups: int, data_format: str) -> tuple[int, ...]:
    """The shape of one image with more than 64 x 64 positions."""
    spread = triple(dilation, "dilation", 1, 1, weight)
    sizes = (1, 64 + weight[2] * spread[1], 64 + weight[3] * spread[2])
    return volume_shape(weight, 1, weight[1] * groups, sizes, channels_last(data_format, weight))
