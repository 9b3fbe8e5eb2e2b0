"""conv2d, im2col and col2im: geometry that straddles tiles, and the convolutions of ResNet-50."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fastdl._window import Pair
from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, declare, summed
from tests.cases.case import exact as copied
from tests.cases.window import as_pair, window_positions


def convolution(
    x: Shape, out_channels: int, kernel: int | Pair, values: Draw | None = None, *, bias: bool = True, **form: Any
) -> Case:
    height, width = window_positions(x, kernel, form)
    taps = as_pair(kernel)[0] * as_pair(kernel)[1] * (x[1] // form.get("groups", 1))
    output = (x[0], out_channels, height, width)
    weight = (out_channels, x[1] // form.get("groups", 1), *as_pair(kernel))
    positions = x[0] * height * width
    product = 2 * positions * out_channels * taps
    return declare(
        "conv2d",
        {"x": values or x, "weight": weight, "bias": (out_channels,) if bias else None},
        output,
        flops=product,
        tolerance=summed("conv2d", taps),
        backward=None
        if form.get("activation", "none") != "none"
        else Backward(
            flops=2 * product,
            tolerance=summed("conv2d_backward", out_channels * taps / x[1] if x[1] else 0, positions, positions),
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


def unfold(x: Shape, kernel: int | Pair, **form: Any) -> list[Case]:
    """im2col and its adjoint."""
    height, width = window_positions(x, kernel, form)
    taps = as_pair(kernel)[0] * as_pair(kernel)[1]
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


def winograd_applies(case: Case) -> bool:
    """algorithm="winograd" is for 3x3 kernels without stride, dilation or groups."""
    weight = case.make(np.float32)["weight"].shape
    plain = all(as_pair(case.parameters.get(name, 1)) == (1, 1) for name in ("stride", "dilation", "groups"))
    return weight[2:] == (3, 3) and plain


def by_winograd(case: Case) -> Case:
    """The case with the tolerance of that algorithm, conv2d's F(4x4, 3x3), whose backward is the direct one.

    An output is not summed from its own 9 products a channel but, with its neighbours, from the 36 of a tile, which
    mix all of the tile's pixels with all weights: the error is relative to max |pixel| sum |weight|.
    """

    def tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        pixel = np.abs(a["x"], where=np.isfinite(a["x"]), out=np.zeros_like(a["x"])).max((1, 2, 3), initial=0)
        sums = pixel[:, None] * np.abs(a["weight"]).sum((1, 2, 3)) + (0 if a["bias"] is None else np.abs(a["bias"]))
        return (4 * np.sqrt(36 * a["weight"].shape[1]) * sums[:, :, None, None],)

    return replace(case, tolerance=tolerance) if case.operation == "conv2d" else case


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


CASES = [
    # plain, around lanes and tiles
    *(convolution((1, 3, 5, width), 4, 3) for width in (3, 15, 16, 17, 18, 31, 33, 35)),
    *(convolution((2, channels, 6, 7), 5, 3, padding=1) for channels in (1, 2, 15, 16, 17)),
    *(convolution((2, 3, 6, 7), outputs, 3, padding=1, bias=False) for outputs in (1, 6, 7, 12, 15, 16, 17, 33)),
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
    convolution((1, 4, 9, 9), 12, 3, groups=4, bias=False),
    convolution((2, 34, 5, 5), 32, 1, groups=2),
    # the smallest and the emptiest
    convolution((1, 1, 1, 1), 1, 1),
    convolution((3, 4, 1, 1), 5, 1, bias=False),
    convolution((1, 1, 1, 1), 2, 3, padding=1),
    convolution((2, 3, 6, 5), 4, (6, 5)),
    convolution((2, 3, 2, 2), 4, 4, padding=1),
    convolution((0, 3, 6, 5), 4, 3, padding=1),
    # epilogues
    convolution((2, 5, 9, 9), 17, 3, padding=1, activation="relu"),
    convolution((2, 5, 9, 9), 17, 3, padding=1, bias=False, activation="relu"),
    # not finite: only the outputs whose windows see it
    convolution((2, 5, 12, 13), 7, 3, _not_finite(2, 5, 12, 13), padding=1, note="special", tags=("special",)),
    convolution((1, 7, 9, 8), 6, 1, _not_finite(1, 7, 9, 8), note="special", tags=("special",)),
    convolution((2, 32, 18, 17), 33, 3, _not_finite(2, 32, 18, 17), padding=1, note="special", tags=("special",)),
    # enough channels and tiles for Winograd's algorithm, its tiles whole and cut
    convolution((1, 32, 16, 16), 32, 3, padding=1),
    convolution((1, 33, 19, 21), 35, 3, bias=False),
    convolution((3, 64, 9, 14), 32, 3, padding=2, activation="relu"),
    # past the cache blocks, and enough work for threads
    convolution((2, 40, 30, 29), 50, 3, padding=1),
    convolution((1, 300, 14, 14), 70, 1),
    convolution((5, 64, 7, 7), 100, 3, padding=1, stride=2),
    convolution((1, 1, 8, 8), 8, 3, padding=1, tags=("bench",)),
    *resnet50(1, "bench", "large"),
    *resnet50(8, "batch8", "large"),
    *unfold((2, 3, 7, 9), 3),
    *unfold((1, 1, 1, 1), 1),
    *unfold((2, 3, 4, 5), (4, 5)),
    *unfold((2, 17, 8, 16), 3, padding=1),
    *unfold((2, 3, 13, 17), (3, 2), dilation=(2, 3), padding=(2, 1), stride=(2, 3)),
    *unfold((1, 2, 9, 33), 2, stride=2),
    *unfold((1, 2, 9, 9), 2, stride=3),
    *unfold((0, 3, 5, 5), 3, padding=1),
    *unfold((8, 64, 28, 28), 3, padding=1, tags=("bench", "large")),
]
