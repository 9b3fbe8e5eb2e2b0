"""The geometry of a window sliding over images, which convolution, im2col and pooling share."""

from __future__ import annotations

from fastdl._arrays import fail
from fastdl._operation import helper

Pair = tuple[int, int]
Window = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int]


@helper
def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Positions of a window along one dimension: (size + 2 padding - dilation (kernel - 1) - 1) // stride + 1."""
    padded = size + 2 * padding
    extent = dilation * (kernel - 1) + 1
    if extent > padded:
        fail("kernel_size", ("kernel extent", extent, "= dilation * (kernel - 1) + 1"), ("at most padded size", padded))
    return (padded - extent) // stride + 1


@helper
def window2d(
    shape: tuple[int, int, int, int],
    out_channels: int,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Window:
    """The fields of fdl_window2d (csrc/fastdl.h), in order; refuses a kernel larger than the padded image."""
    return (
        shape[0],
        shape[1],
        shape[2],
        shape[3],
        out_channels,
        output_size(shape[2], kernel[0], stride[0], padding[0], dilation[0]),
        output_size(shape[3], kernel[1], stride[1], padding[1], dilation[1]),
        kernel[0],
        kernel[1],
        stride[0],
        stride[1],
        padding[0],
        padding[1],
        dilation[0],
        dilation[1],
        groups,
    )
