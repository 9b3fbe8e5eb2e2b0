"""Window arithmetic of the declarations, written apart from fastdl's own."""

from __future__ import annotations

from typing import Any

from tests.cases.case import Shape


def as_pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def window_positions(x: Shape, kernel: int | tuple[int, int], parameters: dict[str, Any]) -> tuple[int, int]:
    """How often the kernel fits into the padded images, down and across, by trying every position."""
    stride, padding = as_pair(parameters.get("stride", 1)), as_pair(parameters.get("padding", 0))
    dilation, kernel = as_pair(parameters.get("dilation", 1)), as_pair(kernel)
    down, across = (
        len(range(-padding[i], x[2 + i] + padding[i] - dilation[i] * (kernel[i] - 1), stride[i])) for i in (0, 1)
    )
    return down, across
