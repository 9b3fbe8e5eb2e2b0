"""Convolution and its transpose; columns."""

from __future__ import annotations

import numpy as np

import fastdl
from fastdl.functional.verbs import Array
from fastdl.onnx._table import bounded, floats_only, operator
from fastdl.onnx.operators._shared import bordered, ints, sides_of, split_sides


def _rank(x: Array) -> int:
    if not 3 <= x.ndim <= 5:
        raise ValueError(f"x: found shape {x.shape}, expected 1 to 3 dimensions besides batch and channels")
    return x.ndim - 2


@operator("Conv", kernels=True)
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Array:
    rank = _rank(x)
    stride, dilation = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    sides = sides_of(x.shape[2:], weight.shape[2:], stride, dilation, pads, auto_pad)
    function = (fastdl.conv1d, fastdl.conv2d, fastdl.conv3d)[rank - 1]
    options = {"stride": stride, "padding": sides, "dilation": dilation, "groups": group}
    return function(x, weight, bias, **options)  # type: ignore[arg-type]


@operator("ConvTranspose", kernels=True)
def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    output_padding: list[int] | None = None,
    output_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Array:
    """What output_shape, auto_pad or padding on one side only leave away, or add, is cropped or padded afterwards."""
    rank, kernel = _rank(x), weight.shape[2:]
    stride, dilation = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    more = tuple(output_padding or (0,) * rank)
    sides = sides_of(x.shape[2:], kernel, stride, dilation, pads, "NOTSET")
    if auto_pad.startswith("SAME") and output_shape is None:
        output_shape = [n * s for n, s in zip(x.shape[2:], stride, strict=True)]
    full = [
        s * (n - 1) + m + d * (k - 1) + 1
        for n, s, d, k, m in zip(x.shape[2:], stride, dilation, kernel, more, strict=True)
    ]
    bounded((x.shape[0], weight.shape[1] * group, *full), x.dtype)
    if output_shape is not None:
        extra = [n - out for n, out in zip(full, output_shape[-rank:], strict=True)]
        sides = split_sides(extra, auto_pad)
    native = all(b == a >= 0 for b, a in sides) and all(
        b <= d * (k - 1) for (b, _), d, k in zip(sides, dilation, kernel, strict=True)
    )
    function = (fastdl.conv_transpose1d, fastdl.conv_transpose2d, fastdl.conv_transpose3d)[rank - 1]
    options = {"output_padding": more, "groups": group, "dilation": dilation, "stride": stride}
    padding = tuple(b for b, _ in sides) if native else 0
    y = function(x, weight, bias, padding=padding, **options)  # type: ignore[arg-type]
    return y if native else bordered(y, tuple((-b, -a) for b, a in sides))


@operator("Col2Im", sizes=("image", "block"), kernels=lambda node, x, *_: floats_only(node, x) and len(ints(_[0])) == 2)
def col2im(
    columns: Array,
    image: Array,
    block: Array,
    *,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Array:
    sizes, kernel = ints(image), ints(block)
    rank = len(sizes)
    stride, dilation = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    sides = sides_of(sizes, kernel, stride, dilation, pads, "NOTSET")
    channels = columns.shape[1] // int(np.prod(kernel))
    bounded((columns.shape[0], channels, *sizes), columns.dtype)
    if rank == 2 and floats_only(None, columns):  # type: ignore[arg-type]
        return fastdl.col2im(columns, tuple(sizes), tuple(kernel), dilation, sides, stride)  # type: ignore[arg-type]
    padded = [n + b + a for n, (b, a) in zip(sizes, sides, strict=True)]
    found = np.zeros((columns.shape[0], channels, *padded), columns.dtype)
    counts = [(n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(padded, dilation, kernel, stride, strict=True)]
    parts = columns.reshape(columns.shape[0], channels, *kernel, *counts)
    for tap in np.ndindex(*kernel):
        where = [
            slice(t * d, t * d + (c - 1) * s + 1, s) for t, d, c, s in zip(tap, dilation, counts, stride, strict=True)
        ]
        found[(slice(None), slice(None), *where)] += parts[(slice(None), slice(None), *tap)]
    return found[(slice(None), slice(None), *(slice(b, b + n) for n, (b, _) in zip(sizes, sides, strict=True)))]
