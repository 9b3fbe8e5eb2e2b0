"""Pooling."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

import fastdl
from fastdl.functional.verbs import Array
from fastdl.onnx._table import FLOATS, Node, bounded, is_floats, operator
from fastdl.onnx.operators._shared import Sides, bordered, ints, sides_of
from fastdl.onnx.operators.arithmetic import absolute


class _Pool(NamedTuple):
    rank: int
    x: Array
    """Padded, where the operation does not take such padding."""
    options: dict[str, Any]
    padded: bool
    sides: Sides


def _pool(
    x: Array,
    kernel_shape: list[int],
    strides: list[int] | None,
    pads: list[int] | None,
    dilations: list[int] | None,
    ceil_mode: int,
    auto_pad: str,
    outside: float,
) -> _Pool:
    rank = x.ndim - 2
    if rank not in (1, 2, 3) or len(kernel_shape) != rank:
        raise ValueError(
            f"x: found shape {x.shape} for a kernel {kernel_shape}, expected 1 to 3 dimensions besides two"
        )
    kernel, stride = tuple(kernel_shape), tuple(strides or (1,) * rank)
    dilation = tuple(dilations or (1,) * rank)
    sides = sides_of(x.shape[2:], kernel, stride, dilation, pads, auto_pad)
    native = all(b == a and b <= k // 2 for (b, a), k in zip(sides, kernel, strict=True))
    options: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "ceil_mode": bool(ceil_mode)}
    if native:
        options["padding"] = tuple(b for b, _ in sides)
    if any(d > 1 for d in dilation):
        options["dilation"] = dilation
    return _Pool(rank, x if native else bordered(x, sides, outside), options, not native, sides)


def _of(name: str, rank: int) -> Any:
    return getattr(fastdl, f"{name}{rank}d")


@operator("MaxPool", kernels=lambda node, x: is_floats(x) and sum(map(bool, node.outputs)) == 1)
def max_pool(
    x: Array,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    storage_order: int = 0,
    strides: list[int] | None = None,
    node: Node,
) -> Any:
    """Indices count the elements of all planes; with storage_order 1 those of a plane column by column."""
    dtype = x.dtype
    x = x if dtype in FLOATS else x.astype(np.float64)
    pool = _pool(x, kernel_shape, strides, pads, dilations, ceil_mode, auto_pad, -math.inf)
    if len([name for name in node.outputs if name]) < 2:
        return _of("max_pool", pool.rank)(pool.x, **pool.options).astype(dtype, copy=False)
    y, indices = _of("max_pool", pool.rank)(pool.x, return_indices=True, **pool.options)
    sizes = x.shape[2:]
    places = np.unravel_index(indices, pool.x.shape[2:])
    if pool.padded:
        places = tuple(p - b for p, (b, _) in zip(places, pool.sides, strict=True))
    indices = np.ravel_multi_index(places, sizes, order="F" if storage_order else "C", mode="clip")
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * pool.rank)
    return y.astype(dtype, copy=False), indices + planes * math.prod(sizes)


@operator("AveragePool", kernels=True)
def average_pool(
    x: Array,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
    node: Node,
) -> Array:
    pool = _pool(x, kernel_shape, strides, pads, dilations, ceil_mode, auto_pad, 0.0)
    average = _of("avg_pool", pool.rank)
    if not pool.padded or count_include_pad:
        return average(pool.x, count_include_pad=bool(count_include_pad), **pool.options)

    def part() -> Array:
        """How much of each window is in x, turned round."""
        inside = bordered(np.ones(x.shape, x.dtype), pool.sides)
        return np.array(1 / average(inside, count_include_pad=False, **pool.options))

    y = average(pool.x, count_include_pad=False, **pool.options)
    return fastdl.mul(y, node.once("part", (x.shape, x.dtype), part))


@operator("LpPool", kernels=True)
def lp_pool(
    x: Array,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    p: float = 2,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Array:
    """Of the absolute values; torch does not take them."""
    pool = _pool(bordered(absolute(x), sides_of_x(x, kernel_shape, strides, dilations, pads, auto_pad)), kernel_shape,
                 strides, None, dilations, ceil_mode, "NOTSET", 0.0)  # fmt: skip
    pool.options.pop("padding")
    return _of("lp_pool", pool.rank)(pool.x, norm_type=float(p), **pool.options)


def sides_of_x(
    x: Array,
    kernel: list[int],
    strides: list[int] | None,
    dilations: list[int] | None,
    pads: list[int] | None,
    auto_pad: str,
) -> Sides:
    ones = (1,) * len(kernel)
    return sides_of(x.shape[2:], kernel, strides or ones, dilations or ones, pads, auto_pad)


@operator("GlobalAveragePool", kernels=True)
def global_average_pool(x: Array) -> Array:
    return _of("adaptive_avg_pool", x.ndim - 2)(x, 1)


@operator("GlobalMaxPool", kernels=True)
def global_max_pool(x: Array) -> Array:
    return _of("adaptive_max_pool", x.ndim - 2)(x, 1)


@operator("GlobalLpPool")
def global_lp_pool(x: Array, *, p: float = 2) -> Array:
    axes = tuple(range(2, x.ndim))
    return (np.abs(x) ** p).sum(axes, keepdims=True) ** (1 / p)


@operator("MaxUnpool", sizes=("output_shape",))
def max_unpool(
    x: Array,
    indices: Array,
    output_shape: Array | None = None,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Array:
    """Indices are those in a result of the default size; a larger output_shape adds zeros after it."""
    rank = len(kernel_shape)
    stride = tuple(strides or (1,) * rank)
    sides = sides_of(x.shape[2:], kernel_shape, stride, (1,) * rank, pads, "NOTSET")
    sizes = [(n - 1) * s + k - b - a for n, s, k, (b, a) in zip(x.shape[2:], stride, kernel_shape, sides, strict=True)]
    wanted = ints(output_shape)[2:] or sizes
    bounded((*x.shape[:2], *wanted), x.dtype)
    plane = math.prod(sizes)
    found = np.zeros((x.shape[0] * x.shape[1], plane), x.dtype)
    np.put_along_axis(found, (indices % plane).reshape(len(found), -1), x.reshape(len(found), -1), 1)
    more = [(0, 0), (0, 0), *((0, n - size) for n, size in zip(wanted, sizes, strict=True))]
    return np.pad(found.reshape(*x.shape[:2], *sizes), more)


@operator("MaxRoiPool")
def max_roi_pool(x: Array, rois: Array, *, pooled_shape: list[int], spatial_scale: float = 1.0) -> Array:
    rows, columns = pooled_shape
    found = np.zeros((len(rois), x.shape[1], rows, columns), x.dtype)
    for i, roi in enumerate(rois):
        left, top, right, bottom = (int(n) for n in np.rint(roi[1:] * spatial_scale))
        height, width = max(bottom - top + 1, 1), max(right - left + 1, 1)
        for row in range(rows):
            for column in range(columns):
                y = np.clip([top + row * height // rows, top + -(-(row + 1) * height // rows)], 0, x.shape[2])
                z = np.clip(
                    [left + column * width // columns, left + -(-(column + 1) * width // columns)], 0, x.shape[3]
                )
                part = x[int(roi[0]), :, y[0] : y[1], z[0] : z[1]]
                if part.size:
                    found[i, :, row, column] = part.max((1, 2))
    return found
