"""The geometry of a window sliding over volumes, which convolution, im2col and pooling share.

Images are volumes of depth 1, sequences volumes of depth and height 1, so that every kernel is written once.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastdl._kernels import Window as Window
from fastdl.functional._operation import cached_helper, helper
from fastdl.functional.verbs import fail

Pair = tuple[int, int]
Triple = tuple[int, int, int]
Volume = tuple[int, int, int, int, int]
Pads = tuple[int, int, int, int, int, int]
Padding = int | Sequence[int] | Sequence[Pair] | str
"""A number for all dimensions, one or (before, after) for each, or a name."""


@helper
def out_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """Positions of a window along one dimension:
    (size + before + after - dilation (kernel - 1) - 1) // stride + 1."""
    padded, extent = size + before + after, dilation * (kernel - 1) + 1
    if extent > padded:
        fail(
            "kernel_size",
            ("a kernel of", kernel, "with dilation", dilation, "which covers", extent),
            ("at most the input size", size, "with its padding", before, "+", after),
        )
    return (padded - extent) // stride + 1


@helper
def out_sizes(sizes: Triple, kernel: Triple, stride: Triple, pads: Pads, dilation: Triple) -> Triple:
    """out_size for depth, height and width."""
    bounded("kernel_size", kernel, "stride", stride)
    bounded("dilation", dilation, "padding", (max(pads[0], pads[3]), max(pads[1], pads[4]), max(pads[2], pads[5])))
    return (
        out_size(sizes[0], kernel[0], stride[0], pads[0], pads[3], dilation[0]),
        out_size(sizes[1], kernel[1], stride[1], pads[1], pads[4], dilation[1]),
        out_size(sizes[2], kernel[2], stride[2], pads[2], pads[5], dilation[2]),
    )


@helper
def transposed_size(size: int, kernel: int, stride: int, padding: int, dilation: int, more: int) -> int:
    """Positions that a transposed convolution gives along one dimension, with `more` of output_padding:
    (size - 1) stride - padding + dilation (kernel - 1) + more + 1."""
    if more > 0 and more >= max(stride, dilation):
        fail("output_padding", more, ("less than the stride", stride, "or the dilation", dilation))
    full = (size - 1) * stride + dilation * (kernel - 1) + more + 1
    if padding >= full:
        fail("padding", padding, ("less than the", full, "positions that it is cut off from"))
    return full - padding


@helper
def bounded(argument: str, values: Triple, second: str, others: Triple) -> None:
    """Refuse numbers so large that products of them would not fit 64 bits."""
    if max(values[0], values[1], values[2]) > 2**30:
        fail(argument, values, "at most 2**30")
    if max(others[0], others[1], others[2]) > 2**30:
        fail(second, others, "at most 2**30")


@cached_helper
def window(
    volume: Volume,
    out_channels: int,
    sizes: Triple,
    kernel: Triple,
    stride: Triple,
    pads: Pads,
    dilation: Triple,
    groups: int,
    channels_last: int,
) -> Window:
    """The window whose output has these sizes; refuses arrays with more elements than 64 bits count bytes of."""
    elements = float(max(volume[0], 1)) * float(max(volume[1], out_channels, 1))
    largest = float(max(sizes[0], volume[2])) * float(max(sizes[1], volume[3])) * float(max(sizes[2], volume[4]))
    taps = float(kernel[0]) * float(kernel[1]) * float(kernel[2])
    if elements * largest >= 2.0**60 or float(max(volume[1], 1)) * taps >= 2.0**60:
        fail("x", ("an output of", (volume[0], out_channels), sizes), "one whose size in bytes fits 64 bits")
    return Window(
        volume[0],
        volume[1],
        volume[2],
        volume[3],
        volume[4],
        out_channels,
        sizes[0],
        sizes[1],
        sizes[2],
        kernel[0],
        kernel[1],
        kernel[2],
        stride[0] if sizes[0] > 1 else 1,  # which says nothing about one position
        stride[1] if sizes[1] > 1 else 1,
        stride[2] if sizes[2] > 1 else 1,
        pads[0],
        pads[1],
        pads[2],
        pads[3],
        pads[4],
        pads[5],
        dilation[0],
        dilation[1],
        dilation[2],
        groups,
        channels_last,
    )
