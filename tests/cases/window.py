"""Window arithmetic of the declarations, written apart from fastdl's own."""

from __future__ import annotations

from typing import Any

from tests.cases.case import Shape


def as_tuple(value: Any, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


def as_sides(padding: Any, kernel: Shape, dilation: Shape) -> list[tuple[int, int]]:
    """Padding as (before, after) for each dimension."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        return [((d * (k - 1)) // 2, (d * (k - 1) + 1) // 2) for k, d in zip(kernel, dilation, strict=True)]
    values = as_tuple(padding, len(kernel))
    return [(v, v) if isinstance(v, int) else v for v in values]


def window_positions(sizes: Shape, kernel: Any, parameters: dict[str, Any]) -> Shape:
    """How often the kernel fits into the padded volume, along each dimension, by trying every position."""
    rank = len(sizes)
    kernel, stride, dilation = (
        as_tuple(value, rank) for value in (kernel, parameters.get("stride", 1), parameters.get("dilation", 1))
    )
    padding = as_sides(parameters.get("padding", 0), kernel, dilation)
    return tuple(
        len(range(-before, size + after - d * (k - 1), s))
        for size, k, s, (before, after), d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    )
