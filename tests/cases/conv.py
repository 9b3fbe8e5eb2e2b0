"""Convolution, its transpose, im2col and col2im: geometry that straddles tiles, and the convolutions of ResNet-50."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

import fastdl
from fastdl import _kernels
from fastdl.functional._operation import HELPERS
from fastdl.functional.conv._shared import ALGORITHMS
from fastdl.functional.conv.conv import conv_geometry
from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, declare, signature_of, summed
from tests.cases.case import exact as copied
from tests.cases.window import as_sides, as_tuple, window_positions


def convolution(
    x: Shape, out_channels: int, kernel: Any, values: Draw | None = None, *, bias: bool = True, **form: Any
) -> Case:
    """A case of conv1d, conv2d or conv3d, by the dimensions of x, whose shape stands as the data_format says."""
    rank, groups = len(x) - 2, form.get("groups", 1)
    last = form.get("data_format", "NCHW").endswith("C")
    channels, sizes = (x[-1], x[1:-1]) if last else (x[1], x[2:])
    kernel = as_tuple(kernel, rank)
    positions = window_positions(sizes, kernel, form)
    output = (x[0], *positions, out_channels) if last else (x[0], out_channels, *positions)
    weight = (out_channels, channels // groups, *kernel)
    taps, summands = math.prod(weight[1:]), x[0] * math.prod(positions)
    product = 2 * summands * out_channels * taps
    inputs = {"x": values or x, "weight": weight, "bias": (out_channels,) if bias else None}
    if form.pop("residual", False):
        inputs["residual"] = output
    fused = "residual" in inputs or form.get("activation", "none") != "none"
    return declare(
        f"conv{rank}d",
        inputs,
        output,
        flops=product,
        tolerance=summed(f"conv{rank}d", taps + 1),
        backward=None
        if fused
        else Backward(
            flops=2 * product,
            tolerance=summed(
                f"conv{rank}d_backward", out_channels * taps / channels if channels else 0, summands, summands
            ),
            shapes=(x, weight, (out_channels,)),
        ),
        **form,
    )


def transposed(
    x: Shape, out_channels: int, kernel: Any, values: Draw | None = None, *, bias: bool = True, **form: Any
) -> Case:
    """A case of conv_transpose1d, 2d or 3d, by the dimensions of x."""
    rank, groups = len(x) - 2, form.get("groups", 1)
    kernel = as_tuple(kernel, rank)
    stride, dilation, more = (
        as_tuple(form.get(name, default), rank)
        for name, default in (("stride", 1), ("dilation", 1), ("output_padding", 0))
    )
    around = as_sides(form.get("padding", 0), kernel, dilation)
    positions = tuple(
        s * (n - 1) + 1 + d * (k - 1) + m - before - after
        for n, k, s, d, m, (before, after) in zip(x[2:], kernel, stride, dilation, more, around, strict=True)
    )
    output, weight = (x[0], out_channels, *positions), (x[1], out_channels // groups, *kernel)
    taps, summands = math.prod(kernel), x[0] * math.prod(x[2:])
    product = 2 * summands * weight[0] * math.prod(weight[1:])
    return declare(
        f"conv_transpose{rank}d",
        {"x": values or x, "weight": weight, "bias": (out_channels,) if bias else None},
        output,
        flops=product,
        tolerance=summed(f"conv_transpose{rank}d", x[1] // groups * taps + 1),
        backward=None
        if form.get("activation", "none") != "none"
        else Backward(
            flops=2 * product,
            tolerance=summed(
                f"conv_transpose{rank}d_backward", math.prod(weight[1:]), summands, x[0] * math.prod(positions)
            ),
            shapes=(x, weight, (out_channels,)),
        ),
        **form,
    )


def _not_finite(*shape: int) -> Draw:
    """Normal numbers with NaN and an infinity here and there, one of them in a corner."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        x = rng.standard_normal(shape)
        x[0, 0, 0, 0], x[-1, -1, -1, -1], x[0, -1, 5, 6], x[-1, 0, 7, 3] = np.nan, np.inf, np.inf, -np.inf
        return x

    return draw


def unfold(x: Shape, kernel: Any, **form: Any) -> list[Case]:
    """im2col and its adjoint."""
    height, width = window_positions(x[2:], kernel, form)
    taps = math.prod(as_tuple(kernel, 2))
    columns = (x[0], x[1] * taps, height * width)
    adds = columns[0] * columns[1] * columns[2]
    return [
        declare("im2col", {"x": x}, columns, kernel_size=kernel, flops=0, tolerance=copied, **form),
        declare(
            "col2im",
            {"columns": columns},
            x,
            output_size=x[2:],
            kernel_size=kernel,
            flops=adds,
            tolerance=summed("col2im", taps),
            **form,
        ),
    ]


def computed_by(algorithm: str, case: Case, dtype: Any = np.float32) -> bool:
    """Whether a convolution, or its backward, takes that algorithm by name."""
    geometry = signature_of(HELPERS[conv_geometry]).parameters
    given = {name: value for name, value in case.parameters.items() if name in geometry}
    defaults = signature_of(getattr(fastdl, case.operation.removesuffix("_backward"))).parameters
    options = [given.get(name, defaults[name].default) for name in list(geometry)[2:-4]]
    x = np.empty(case.shape("x"), dtype)
    window, _, codes, _ = conv_geometry(x.shape, case.shape("weight"), *options, algorithm, "none", (), "fast")
    found = np.array([codes[0], -1, -1, 0])
    try:
        _kernels.conv_plan(x, found, window, -1, _kernels.PASS_FORWARD, codes[1])
    except ValueError:
        return False
    return ALGORITHMS[found[0]] == algorithm


def by_winograd(case: Case) -> Case:
    """The case with the tolerance of that algorithm, F(4x4, 3x3): conv2d, and its gradients.

    A result is not summed from its own 9 products a channel but, with its neighbours, from the 36 of a tile, which
    mix all of the tile's pixels with all weights: the error is relative to max |pixel| sum |weight|. The gradient of
    the weights is summed, for a filter and a channel, from the 36 products of every tile, which mix its pixels with
    its grad_output: the error is relative to the sum over images of max |pixel| sum |grad_output|.
    """

    def size(image: Array) -> Array:
        return np.abs(image, where=np.isfinite(image), out=np.zeros_like(image))

    def sums(a: Arguments, image: Array, weight: Array) -> Array:
        sums = size(image).max((1, 2, 3), initial=0)[:, None] * np.abs(weight).sum((1, 2, 3))
        return np.expand_dims(sums, (1, 2) if a.get("data_format", "NCHW") == "NHWC" else (2, 3))

    def tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        if case.operation == "conv2d_backward":
            weight, plane = a["weight"].swapaxes(0, 1), (1, 2) if a.get("data_format", "NCHW") == "NHWC" else (2, 3)
            grad = a["grad_output"]
            tile = 4 * np.sqrt(36 * weight.shape[1]) * sums(a, grad, weight)
            tiles = grad.shape[0] * math.prod(-(-grad.shape[axis] // 4) for axis in plane)
            products = np.einsum("nf,nc->fc", np.abs(grad).sum(plane), size(a["x"]).max(plane, initial=0))
            return tile, 4 * np.sqrt(36 * tiles) * products[..., None, None], *case.tolerance(a, expected)[2:]
        total = sums(a, a["x"], a["weight"]) + np.abs(a.get("residual", 0))
        bias = 0 if a["bias"] is None else np.abs(a["bias"])
        total = total + (bias if a.get("data_format", "NCHW") == "NHWC" else np.reshape(bias, (-1, 1, 1)))
        return (4 * np.sqrt(36 * a["weight"].shape[1]) * total,)

    return replace(case, tolerance=tolerance, backward=by_winograd(case.backward) if case.backward else None)


def channels_last() -> list[Case]:
    """data_format "NHWC", "NLC" and "NDHWC"."""

    def nhwc(x: Shape, *others: Any, **form: Any) -> Case:
        data_format = {3: "NLC", 4: "NHWC", 5: "NDHWC"}[len(x)]
        return convolution(x, *others, data_format=data_format, **form)

    special = {"note": "special", "tags": ("special",)}
    large = {"bias": False, "tags": ("nhwc", "large")}
    return [
        # widths around the number of lanes and of rows in a tile, channels and filters likewise
        *(nhwc((2, 4, width, 3), 5, 3, padding=1) for width in (1, 6, 7, 12, 15, 16, 17, 33)),
        *(nhwc((1, 4, 5, channels), channels + 1, 3) for channels in (1, 4, 15, 16, 17, 33, 64)),
        # 1x1
        nhwc((2, 7, 7, 16), 33, 1),
        nhwc((1, 8, 8, 17), 15, 1, bias=False),
        nhwc((3, 9, 11, 5), 7, 1, stride=2),
        nhwc((2, 4, 5, 3), 6, 1, padding=1),
        nhwc((2, 4, 5, 1), 6, 1),
        # stride, padding, dilation, each on its own and together
        nhwc((2, 13, 17, 3), 8, 3, stride=2),
        nhwc((2, 13, 17, 3), 8, 3, stride=(2, 3), padding=(1, 0)),
        nhwc((1, 15, 16, 4), 8, 5, padding=2),
        nhwc((1, 15, 16, 4), 8, 3, padding=2, dilation=2),
        nhwc((2, 14, 19, 2), 3, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(3, 2)),
        nhwc((1, 33, 31, 3), 16, 7, stride=2, padding=3),
        nhwc((1, 9, 9, 2), 3, 3, stride=5),
        nhwc((1, 4, 4, 2), 3, 3, padding=7),
        nhwc((1, 1, 40, 1), 3, (1, 5), padding=(0, 2)),
        nhwc((2, 8, 9, 3), 4, (4, 3), padding="same", dilation=(2, 1)),
        nhwc((2, 8, 19, 3), 4, 3, padding=((0, 2), (3, 1)), stride=2),
        # groups
        nhwc((2, 7, 9, 6), 9, 3, groups=3, padding=1),
        nhwc((1, 9, 9, 4), 12, 3, groups=4, bias=False),
        nhwc((2, 5, 5, 34), 32, 1, groups=2),
        nhwc((2, 7, 6, 40), 48, 3, groups=2, padding=1, stride=2),
        # depthwise
        *(nhwc((2, 7, 9, c), c, 3, groups=c, padding=1) for c in (2, 8, 16, 17, 33, 64)),
        nhwc((1, 16, 16, 17), 17, 3, groups=17, padding=1, stride=2, bias=False),
        nhwc((2, 9, 15, 35), 35, (2, 5), groups=35, padding=(1, 4), dilation=(3, 1), stride=(3, 1)),
        nhwc((1, 12, 11, 9), 9, (3, 4), groups=9, padding=((2, 0), (0, 5)), stride=(1, 3)),
        nhwc((2, 8, 8, 20), 20, 3, groups=20, activation="relu", residual=True),
        nhwc((1, 2, 3, 6), 6, 3, groups=6, padding=4),
        nhwc((1, 9, 8, 7), 7, 3, _not_finite(1, 9, 8, 7), groups=7, padding=1, **special),
        # the smallest and the emptiest
        nhwc((1, 1, 1, 1), 1, 1),
        nhwc((3, 1, 1, 4), 5, 1, bias=False),
        nhwc((1, 1, 1, 1), 2, 3, padding=1),
        nhwc((2, 6, 5, 3), 4, (6, 5)),
        nhwc((0, 6, 5, 3), 4, 3, padding=1),
        nhwc((0, 6, 5, 4), 4, 3, groups=4),
        # epilogues
        nhwc((2, 9, 9, 5), 17, 3, padding=1, activation="relu"),
        nhwc((2, 9, 9, 5), 17, 3, padding=1, bias=False, residual=True),
        nhwc((2, 12, 9, 33), 37, 3, padding=1, residual=True, activation="relu"),
        nhwc((3, 5, 5, 40), 17, 1, residual=True),
        # more terms than fit a slice: in blocks of channels, of few taps and of many
        nhwc((1, 3, 4, 600), 5, 1, residual=True, activation="relu"),
        nhwc((2, 5, 4, 133), 20, 3, padding=1),
        nhwc((1, 9, 9, 70), 18, 5, padding=2),
        nhwc((1, 9, 11, 40), 18, 7, padding=3, stride=2),
        nhwc((1, 700, 2), 3, 600, padding=7),
        nhwc((2, 14, 14, 130), 70, 3, padding=1, stride=2, groups=2),
        # sequences and volumes
        *(nhwc((2, length, 5), 7, 3, padding=1) for length in (1, 15, 17, 33)),
        nhwc((2, 50, 6), 4, 5, stride=2, padding=((3, 0),), dilation=3, groups=2),
        nhwc((3, 20, 18), 18, 4, groups=18, padding=3, stride=2),
        nhwc((3, 5, 6, 7, 4), 8, 3, padding=1),
        nhwc((2, 6, 7, 9, 4), 6, (2, 3, 1), stride=(1, 2, 2), padding=(1, 0, 2), dilation=(2, 1, 3), groups=2),
        nhwc((1, 5, 1, 1, 2), 3, (3, 1, 1), padding=(1, 0, 0)),
        nhwc((2, 1, 1, 20, 3), 4, (3, 3, 3), padding=1, activation="relu", residual=True),
        nhwc((2, 5, 6, 7, 12), 12, 3, groups=12, padding=1, stride=(1, 2, 1)),
        # not finite
        nhwc((2, 12, 8, 8), 7, 3, _not_finite(2, 12, 8, 8), padding=1, **special),
        nhwc((1, 9, 8, 8), 6, 1, _not_finite(1, 9, 8, 8), **special),
        # past the cache blocks, and enough work for threads
        nhwc((2, 30, 29, 40), 50, 3, padding=1),
        nhwc((5, 7, 7, 64), 100, 3, padding=1, stride=2),
        # for Winograd's algorithm
        nhwc((1, 16, 16, 32), 32, 3, padding=1),
        nhwc((1, 19, 21, 33), 35, 3, bias=False),
        nhwc((3, 9, 14, 64), 32, 3, padding=2, activation="relu", residual=True),
        nhwc((2, 9, 10, 17), 150, 3, padding=1, residual=True, activation="leaky_relu"),
        nhwc((1, 6, 7, 530), 17, 3, padding=1),
        nhwc((5, 23, 3, 20), 47, 3, padding=(0, 1)),
        nhwc((2, 5, 430, 34), 35, 3, padding=(2, 1), activation="tanh"),
        nhwc((2, 18, 17, 32), 33, 3, _not_finite(2, 18, 17, 32), padding=1, **special),
        # of ResNet-50, and a depthwise one that is larger than the caches
        nhwc((1, 56, 56, 64), 256, 1, **large),
        nhwc((1, 56, 56, 256), 64, 1, **large),
        nhwc((1, 56, 56, 64), 64, 3, padding=1, **large),
        nhwc((1, 28, 28, 128), 128, 3, padding=1, **large),
        nhwc((1, 14, 14, 512), 512, 3, padding=1, stride=2, **large),
        nhwc((1, 224, 224, 3), 64, 7, padding=3, stride=2, **large),
        nhwc((1, 7, 7, 2048), 512, 1, **large),
        nhwc((8, 112, 112, 64), 64, 3, padding=1, groups=64, **large),
    ]


def resnet50(batch: int, *tags: str) -> list[Case]:
    """The 23 different convolutions of ResNet-50 (He et al., 2016; stride in the 3x3, as torchvision has it)."""
    layers = [(3, 224, 64, 7, 2, 3), (64, 56, 64, 1, 1, 0), (64, 56, 64, 3, 1, 1), (64, 56, 256, 1, 1, 0)]
    layers += [(256, 56, 64, 1, 1, 0)]
    for mid, cin, size in ((128, 256, 56), (256, 512, 28), (512, 1024, 14)):
        layers += [
            (cin, size, mid, 1, 1, 0),
            (mid, size, mid, 3, 2, 1),
            (mid, size // 2, 4 * mid, 1, 1, 0),
            (cin, size, 4 * mid, 1, 2, 0),
            (4 * mid, size // 2, mid, 1, 1, 0),
            (mid, size // 2, mid, 3, 1, 1),
        ]
    return [
        convolution((batch, c, size, size), k, r, bias=False, stride=stride, padding=padding, tags=tags)
        for c, size, k, r, stride, padding in layers
    ]


def vgg16(batch: int, *tags: str) -> list[Case]:
    """The 9 different convolutions of VGG-16 (Simonyan and Zisserman, 2015)."""
    layers = [(512, 14, 512), (512, 28, 512), (256, 28, 512), (256, 56, 256), (128, 56, 256)]
    layers += [(128, 112, 128), (64, 112, 128), (64, 224, 64), (3, 224, 64)]
    return [convolution((batch, c, size, size), k, 3, padding=1, bias=False, tags=tags) for c, size, k in layers]


def mobilenet_v2(batch: int, *tags: str) -> list[Case]:
    """The different convolutions of MobileNetV2 (Sandler et al., 2018): 1x1, depthwise 3x3, 1x1."""
    layers, channels, size = [(3, 224, 32, 3, 2, 1)], 32, 112
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, width, blocks, first in stages:
        for block in range(blocks):
            stride, inside = 1 if block else first, channels * expand
            layers += [(channels, size, inside, 1, 1, 1)] if expand > 1 else []
            layers += [(inside, size, inside, 3, stride, inside)]
            size //= stride
            layers += [(inside, size, width, 1, 1, 1)]
            channels = width
    layers += [(320, 7, 1280, 1, 1, 1)]
    return [
        convolution(
            (batch, c, n, n),
            k,
            r,
            bias=False,
            stride=stride,
            padding=r // 2,
            **({"groups": g} if g > 1 else {}),
            tags=tags,
        )
        for c, n, k, r, stride, g in dict.fromkeys(layers)
    ]


# Shapes that small networks use, for `bench.compare --tag grid`: (channels, pixels), filters, kernel, form.
_SMALL = (
    *(((1, 28), 6, 5, {"padding": 2}), ((6, 14), 16, 5, {}), ((16, 5), 120, 5, {}), ((1, 8), 8, 3, {"padding": 1})),
    *(((8, 8), 16, 3, {"padding": 1}), ((16, 8), 32, 3, {"padding": 1}), ((32, 4), 64, 3, {"padding": 1})),
    *(((64, 4), 64, 3, {"padding": 1}), ((3, 32), 16, 3, {"padding": 1}), ((16, 32), 16, 3, {"padding": 1})),
    *(((16, 32), 32, 3, {"padding": 1, "stride": 2}), ((32, 16), 32, 3, {"padding": 1})),
    *(((32, 16), 64, 1, {}), ((64, 8), 16, 1, {}), ((128, 4), 128, 1, {}), ((17, 15), 19, 3, {"padding": 1})),
    *(((4, 84), 32, 8, {"stride": 4}), ((4, 20), 32, 8, {"stride": 4}), ((32, 20), 64, 4, {"stride": 2})),
    *(((32, 9), 64, 4, {"stride": 2}), ((64, 9), 64, 3, {})),
)
CASES = [
    *(
        convolution((batch, channels, size, size), filters, kernel, note="grid", tags=("grid", "large"), **form)
        for (channels, size), filters, kernel, form in _SMALL
        for batch in (1, 16, 64)
    ),
    # plain, around lanes and tiles
    *(convolution((1, 3, 5, width), 4, 3) for width in (3, 15, 16, 17, 18, 31, 33, 35)),
    *(convolution((2, channels, 6, 7), 5, 3, padding=1) for channels in (1, 2, 15, 16, 17)),
    *(convolution((2, 3, 6, 7), outputs, 3, padding=1, bias=False) for outputs in (1, 6, 7, 12, 15, 16, 17, 33)),
    # many filters, and rows that end within a vector: some are joined, the last ones fewer
    *(convolution((1, 2, 9, width), 40, 3, padding=1) for width in (2, 4, 5, 9, 10, 18)),
    convolution((2, 3, 14, 14), 64, 5, activation="relu"),
    convolution((1, 3, 21, 19), 70, 3, stride=2, padding=1, activation="gelu", residual=True),
    convolution((1, 2, 37, 44), 33, (2, 5), stride=(1, 4), dilation=(3, 1), bias=False),
    convolution((2, 2, 4, 7, 6), 48, (2, 3, 3), padding=1),
    convolution((1, 3, 23, 10), 40, 5, stride=(3, 1), padding=2),
    convolution((1, 2, 19, 11), 40, (4, 3), stride=(2, 1), dilation=(2, 1), activation="relu"),
    # 1x1
    convolution((2, 16, 7, 7), 33, 1),
    convolution((1, 17, 8, 8), 15, 1, bias=False),
    convolution((3, 5, 9, 11), 7, 1, stride=2),
    convolution((2, 3, 4, 5), 6, 1, padding=1),
    # stride, padding, dilation, each on its own and together
    convolution((2, 3, 13, 17), 8, 3, stride=2),
    convolution((2, 3, 13, 17), 8, 3, stride=(2, 3), padding=(1, 0)),
    convolution((1, 4, 15, 16), 8, 5, stride=1, padding=2),
    convolution((1, 4, 15, 16), 8, 3, padding=2, dilation=2),
    convolution((2, 2, 14, 19), 3, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(3, 2)),
    convolution((1, 3, 33, 31), 16, 7, stride=2, padding=3),
    convolution((1, 2, 9, 9), 3, 3, stride=5),
    convolution((1, 2, 4, 4), 3, 3, padding=7),
    convolution((1, 1, 1, 40), 3, (1, 5), padding=(0, 2)),
    convolution((1, 1, 40, 1), 3, (5, 1), padding=(2, 0)),
    # groups, depthwise among them
    convolution((2, 6, 7, 9), 9, 3, groups=3, padding=1),
    convolution((2, 8, 7, 9), 8, 3, groups=8, padding=1),
    convolution((1, 17, 16, 16), 17, 3, groups=17, padding=1, stride=2),
    *(
        convolution((2, 19, 8, 6), 19, kernel, groups=19, padding=padding, stride=stride)
        for kernel, stride in ((3, 1), (3, 2), (5, 2))
        for padding in (((0, 1), (0, 1)), ((2, 0), (1, 3)))
    ),
    convolution((1, 4, 9, 9), 12, 3, groups=4, bias=False),
    convolution((2, 34, 5, 5), 32, 1, groups=2),
    # depthwise: the kernels that are compiled in, rows around lanes, blocks and bands of rows, several filters
    *(convolution((2, 3, 9, width), 3, 3, groups=3, padding=1, stride=width % 2 + 1) for width in range(13, 20)),
    *(convolution((1, 2, height, 5), 2, 3, groups=2, padding=1) for height in (1, 4, 7)),
    convolution((2, 3, 12, 37), 3, 5, groups=3, padding=2),
    convolution((1, 3, 11, 35), 6, 5, groups=3, padding=2, stride=2),
    convolution((1, 3, 13, 70), 3, 3, groups=3, padding=((0, 2), (3, 1)), stride=(1, 2), residual=True),
    convolution((2, 4, 15, 34), 8, 3, groups=4, padding=2, dilation=2, activation="relu", residual=True),
    convolution((2, 3, 16, 33), 3, (2, 7), groups=3, padding=(1, 3), stride=(3, 1), dilation=(1, 2)),
    convolution((1, 3, 17, 50), 3, 3, groups=3, stride=(2, 5), dilation=(3, 2), padding=4),
    convolution((1, 2, 19, 40), 2, 2, groups=2, stride=3, padding=1, bias=False),
    convolution((1, 3, 3, 4), 6, 3, groups=3, padding=6),
    convolution((2, 5, 9, 10), 5, 1, groups=5),
    convolution((2, 5, 9, 10), 10, 1, groups=5, stride=2),
    convolution((1, 2, 150, 140), 2, 3, groups=2, padding=1),
    convolution((1, 2, 90, 140), 2, 3, groups=2, padding=1, stride=2),
    # planes side by side: rows that are not whole blocks, the narrowest, images without a row but one
    *(convolution((1, 35, height, 5), 35, 3, groups=35, padding=1) for height in (1, 2, 5)),
    *(convolution((1, 35, 6, width), 35, 3, groups=35, padding=((0, 2), (1, 1))) for width in (1, 2, 9)),
    # where lanes are masked: blocks of rows and vectors that are not whole, residuals, activations after the store
    *(convolution((1, 20, 23, width), 20, 3, groups=20, padding=1) for width in (25, 31, 32, 34)),
    *(convolution((1, 20, 25, width), 20, 3, groups=20, padding=1, stride=2) for width in (31, 32, 33, 66)),
    *(
        convolution((2, 3, 6, 19), 6, 3, groups=3, padding=((2, 0), (3, 1)), stride=s, activation="silu", residual=True)
        for s in (1, 2)
    ),
    convolution((1, 1, 100, 60), 1, (41, 2), padding=(20, 0), dilation=(2, 30)),
    convolution((2, 1, 12, 13), 7, 3, padding=1),
    convolution((2, 3, 5000), 3, 4, groups=3, padding=3),
    convolution((1, 2, 9001), 4, 3, groups=2, stride=2, padding=1, dilation=4),
    convolution((2, 3, 5, 6, 19), 6, 3, groups=3, padding=1),
    convolution((1, 3, 7, 6, 9), 3, (2, 3, 3), groups=3, stride=2, padding=(1, 0, 1), dilation=(2, 1, 1)),
    convolution((0, 3, 8, 8), 3, 3, groups=3),
    convolution(
        (2, 3, 12, 13), 3, 3, _not_finite(2, 3, 12, 13), groups=3, padding=1, note="special", tags=("special",)
    ),
    convolution((2, 3, 9, 18), 3, 3, _not_finite(2, 3, 9, 18), groups=3, stride=2, note="special", tags=("special",)),
    convolution((8, 64, 112, 112), 64, 3, groups=64, padding=1, bias=False, tags=("depthwise", "large")),
    convolution((8, 64, 112, 112), 64, 3, groups=64, padding=1, stride=2, bias=False, tags=("depthwise", "large")),
    convolution((1, 512, 14, 14), 512, 3, groups=512, padding=1, bias=False, tags=("depthwise", "large")),
    # the smallest and the emptiest
    convolution((1, 1, 1, 1), 1, 1),
    convolution((3, 4, 1, 1), 5, 1, bias=False),
    convolution((1, 1, 1, 1), 2, 3, padding=1),
    convolution((2, 3, 6, 5), 4, (6, 5)),
    convolution((2, 3, 2, 2), 4, 4, padding=1),
    convolution((0, 3, 6, 5), 4, 3, padding=1),
    # epilogues
    # an activation that is not applied in registers, wherever results are stored
    convolution((2, 5, 9, 9), 17, 3, padding=1, activation="tanh"),
    convolution((2, 33, 12, 9), 37, 3, padding=1, residual=True, activation="gelu"),
    convolution((3, 64, 9, 14), 32, 3, padding=2, activation="silu"),
    convolution((2, 3, 20, 23), 8, 7, stride=2, padding=3, activation="leaky_relu", activation_args=(0.25,)),
    convolution((2, 40, 7, 9), 13, 1, activation="sigmoid"),
    convolution((2, 6, 15, 34), 6, 3, groups=6, padding=1, activation="softplus", activation_args=(2.0,)),
    convolution((2, 6, 15, 34), 6, (3, 2), groups=6, padding=1, dilation=2, activation="elu"),
    convolution((2, 4, 15, 34), 8, 3, groups=2, padding=2, activation="mish", residual=True),
    convolution((2, 3, 5, 6, 7), 4, (3, 3, 3), padding=1, activation="hardswish"),
    convolution((2, 3, 20), 4, (3,), padding=1, activation="hardtanh", activation_args=(-0.5, 2.0)),
    convolution((2, 8, 8, 20), 20, 3, groups=20, activation="gelu", residual=True, data_format="NHWC"),
    convolution((2, 9, 9, 5), 17, 3, padding=1, activation="tanh", data_format="NHWC"),
    convolution((3, 9, 14, 64), 32, 3, padding=2, activation="silu", residual=True, data_format="NHWC"),
    transposed((2, 5, 12, 13), 6, (3, 2), padding=((0, 2), (1, 0)), activation="tanh"),
    transposed((3, 17, 9, 10), 8, 2, stride=2, activation="gelu"),
    transposed((2, 16, 20, 21), 16, 4, stride=2, padding=1, activation="silu"),
    transposed((2, 5, 9, 8), 6, 5, stride=3, padding=2, activation="sigmoid"),
    transposed((2, 6, 9, 8), 6, 4, stride=2, padding=1, groups=6, activation="elu"),
    transposed((2, 5, 9, 8), 6, 1, stride=3, activation="sigmoid"),
    transposed((2, 2, 3, 4), 3, 3, stride=2, activation="softsign"),
    convolution((2, 5, 9, 9), 17, 3, padding=1, activation="relu"),
    convolution((2, 5, 9, 9), 17, 3, padding=1, bias=False, activation="relu"),
    convolution((2, 5, 9, 9), 17, 3, padding=1, bias=False, residual=True),
    convolution((2, 33, 12, 9), 37, 3, padding=1, residual=True, activation="relu"),
    convolution((3, 40, 5, 5), 17, 1, residual=True),
    convolution((1, 600, 3, 4), 5, 1, residual=True, activation="relu"),
    # padding in its other forms
    convolution((2, 3, 8, 9), 4, (4, 3), padding="same", dilation=(2, 1)),
    convolution((2, 3, 8, 9), 4, 3, padding="valid"),
    convolution((2, 3, 8, 19), 4, 3, padding=((0, 2), (3, 1)), stride=2),
    convolution((2, 32, 16, 17), 32, 3, padding=((0, 2), (2, 1))),
    convolution((2, 5, 8, 9), 4, 1, padding=((0, 1), (0, 2))),
    # borders that are not zero
    *(
        convolution((2, 3, 8, 9), 4, (4, 3), padding=padding, padding_mode=mode)
        for mode in ("reflect", "replicate", "circular")
        for padding in (1, (2, 0), ((1, 0), (3, 2)), "same")
    ),
    convolution((2, 32, 17, 16), 33, 3, padding=1, padding_mode="circular", activation="relu", residual=True),
    convolution((2, 8, 9, 6), 4, 3, padding=(2, 1), stride=2, groups=2, data_format="NHWC", padding_mode="reflect"),
    convolution((2, 20, 6), 5, 5, padding="same", dilation=2, data_format="NLC", padding_mode="replicate"),
    convolution((2, 5, 20), 4, 3, padding=((4, 0),), padding_mode="reflect"),
    convolution((2, 3, 4, 5, 6), 4, 3, padding=1, padding_mode="circular"),
    convolution((2, 3, 4, 5, 6), 4, 2, padding=((1, 0), (2, 1), (0, 3)), padding_mode="reflect"),
    # sequences and volumes
    *(convolution((2, 5, length), 7, 3, padding=1) for length in (1, 15, 17, 33)),
    convolution((2, 6, 50), 4, 5, stride=2, padding=((3, 0),), dilation=3, groups=2),
    convolution((1, 16, 100), 32, 1, bias=False, tags=("bench",)),
    convolution((3, 4, 5, 6, 7), 8, 3, padding=1),
    convolution((2, 4, 6, 7, 9), 6, (2, 3, 1), stride=(1, 2, 2), padding=(1, 0, 2), dilation=(2, 1, 3), groups=2),
    convolution((1, 2, 5, 1, 1), 3, (3, 1, 1), padding=(1, 0, 0)),
    convolution((2, 3, 1, 1, 20), 4, (3, 3, 3), padding=1, activation="relu", residual=True),
    convolution((2, 16, 8, 16, 16), 16, 3, padding=1, tags=("bench",)),
    # not finite: only the outputs whose windows see it
    convolution((2, 5, 12, 13), 7, 3, _not_finite(2, 5, 12, 13), padding=1, note="special", tags=("special",)),
    convolution((1, 7, 9, 8), 6, 1, _not_finite(1, 7, 9, 8), note="special", tags=("special",)),
    convolution((2, 32, 18, 17), 33, 3, _not_finite(2, 32, 18, 17), padding=1, note="special", tags=("special",)),
    *channels_last(),
    # enough channels and tiles for Winograd's algorithm, its tiles whole and cut
    convolution((1, 32, 16, 16), 32, 3, padding=1),
    convolution((1, 33, 19, 21), 35, 3, bias=False),
    convolution((3, 64, 9, 14), 32, 3, padding=2, activation="relu"),
    # more filters, and more channels, than it takes at a time; a half panel of filters, rows of one tile, no row whole
    convolution((2, 17, 9, 10), 150, 3, padding=1, residual=True, activation="leaky_relu"),
    convolution((1, 530, 6, 7), 17, 3, padding=1),
    convolution((5, 20, 23, 3), 47, 3, padding=(0, 1)),
    # rows of tiles in more than one block
    convolution((2, 34, 5, 430), 35, 3, padding=(2, 1), activation="tanh"),
    # past the cache blocks, and enough work for threads
    convolution((2, 40, 30, 29), 50, 3, padding=1),
    convolution((1, 300, 14, 14), 70, 1),
    convolution((5, 64, 7, 7), 100, 3, padding=1, stride=2),
    convolution((1, 1, 8, 8), 8, 3, padding=1, tags=("bench",)),
    *resnet50(1, "bench", "large"),
    *resnet50(8, "batch8", "large"),
    *vgg16(1, "vgg16", "large"),
    *mobilenet_v2(1, "mobilenet_v2", "large"),
    # transposed: stride 1, turned; few positions, added from columns; phases of two and more, tiles whole and cut
    transposed((2, 5, 7, 9), 6, 3, padding=1),
    transposed((2, 5, 12, 13), 6, (3, 2), padding=((0, 2), (1, 0)), activation="relu"),
    transposed((2, 3, 4, 5), 4, 3, stride=2, padding=1, output_padding=1),
    transposed((1, 3, 2, 2), 4, 3, padding=1, bias=False),
    transposed((1, 2, 1, 1), 3, 4, stride=2, padding=1),
    *(transposed((2, 6, 5, width), 7, 4, stride=2, padding=1) for width in (7, 8, 9, 15, 16, 17, 33)),
    *(transposed((2, 6, 6, 7), channels, 3, stride=2, padding=1, output_padding=1) for channels in (1, 12, 13, 33)),
    transposed((3, 17, 9, 10), 8, 2, stride=2, activation="relu"),
    transposed((1, 5, 9, 10), 6, 1, stride=2, output_padding=1),
    transposed((1, 5, 9, 10), 6, (2, 1), stride=(4, 3), output_padding=(1, 2)),
    transposed((2, 5, 9, 8), 6, 5, stride=3, padding=2, activation="relu"),
    transposed((2, 4, 9, 8), 6, 3, stride=(1, 2), padding=4, dilation=(5, 4), output_padding=(0, 1)),
    transposed((2, 4, 9, 8), 6, 3, stride=2, padding=5, dilation=3, output_padding=2),
    transposed((2, 4, 9, 8), 6, 4, stride=6, padding=((3, 1), (0, 4)), dilation=4),
    transposed((2, 6, 9, 8), 9, 4, stride=2, padding=3, groups=3),
    transposed((2, 6, 9, 8), 6, 4, stride=2, padding=1, groups=6, activation="relu"),
    transposed((2, 6, 9, 8), 12, 3, stride=3, padding=1, groups=6),
    transposed((2, 6, 9, 8), 3, 3, padding=1, groups=3),
    transposed((0, 4, 9, 8), 6, 4, stride=2, padding=1),
    transposed((2, 4, 9, 8), 6, 4, _not_finite(2, 4, 9, 8), stride=2, padding=1, note="special", tags=("special",)),
    transposed((2, 40, 20, 37), 50, 4, stride=2, padding=1),
    # Winograd's tiles, whole and cut, at other strides and paddings, and what it leaves to products
    transposed((2, 33, 13, 31), 19, 4, stride=2, padding=((1, 0), (3, 2)), output_padding=1, activation="relu"),
    transposed((1, 32, 20, 23), 48, 6, stride=3, padding=2, output_padding=1),
    transposed((2, 64, 9, 50), 64, 8, stride=4, padding=2, output_padding=3),
    transposed((1, 48, 17, 5), 33, (4, 8), stride=(2, 4), padding=1),
    transposed(
        (2, 32, 9, 18), 32, 4, _not_finite(2, 32, 9, 18), stride=2, padding=1, note="special", tags=("special",)
    ),
    transposed((2, 30, 40, 17), 3, 4, stride=2, padding=1),
    transposed((2, 5, 13, 18), 4, (3, 6), stride=3, padding=(0, 2), output_padding=(2, 1), activation="relu"),
    transposed((3, 5, 10, 30), 8, 2, stride=2, padding=1, groups=1),
    transposed((3, 10, 14, 30), 8, (4, 2), stride=(2, 1), groups=2, padding=3),
    transposed((2, 3, 30, 1), 5, (3, 1), stride=(2, 2), output_padding=(0, 1)),
    transposed((2, 3, 1, 40), 5, (1, 4), stride=2, output_padding=1),
    transposed((2, 150, 9, 11), 20, 3, stride=2, padding=1),
    transposed((2, 5, 33), 6, 4, stride=2, padding=((1, 2),)),
    transposed((1, 16, 100), 8, 4, stride=2, padding=1, tags=("bench",)),
    transposed((2, 5, 40, 1), 6, (4, 1), stride=(2, 1), padding=(1, 0)),
    transposed((2, 4, 4, 5, 6), 5, 3, stride=2, padding=1, output_padding=(1, 0, 1)),
    transposed((1, 4, 5, 4, 3), 6, (2, 3, 4), stride=(3, 1, 2), dilation=(1, 2, 1), padding=(1, 2, 1), groups=2),
    transposed((1, 8, 8, 16, 16), 8, 4, stride=2, padding=1, tags=("bench",)),
    transposed((1, 4, 8, 8), 8, 4, stride=2, padding=1, tags=("bench",)),
    transposed((8, 64, 32, 32), 32, 4, stride=2, padding=1, tags=("bench", "large")),
    *unfold((2, 3, 7, 9), 3),
    *unfold((1, 1, 1, 1), 1),
    *unfold((2, 3, 4, 5), (4, 5)),
    *unfold((2, 17, 8, 16), 3, padding=1),
    *unfold((2, 3, 13, 17), (3, 2), dilation=(2, 3), padding=(2, 1), stride=(2, 3)),
    *unfold((1, 2, 9, 33), 2, stride=2),
    *unfold((1, 2, 9, 9), 2, stride=3),
    *unfold((0, 3, 5, 5), 3, padding=1),
    *unfold((2, 3, 6, 17), (2, 3), padding=((0, 2), (3, 1)), stride=(1, 2)),
    *unfold((2, 3, 6, 17), (4, 3), padding="same", dilation=(1, 2)),
    *unfold((8, 64, 28, 28), 3, padding=1, tags=("bench", "large")),
]
