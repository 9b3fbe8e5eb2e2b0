"""What takes, puts and finds elements by index."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdl
from fastdl.functional.verbs import Array
from fastdl.onnx._table import Node, bounded, is_floats, operator
from fastdl.onnx.operators._shared import axes_of, ints


def _takes(node: Node, x: Any, indices: Any) -> bool:
    return is_floats(x) and x.ndim > 0 and x.size > 0 and indices.size > 0


@operator("Gather", fixed=("indices",), kernels=_takes)
def gather(x: Array, indices: Array, *, axis: int = 0, node: Node) -> Array:
    """By indices that are known: one of them is a slice, others are rows of x turned."""
    (at,) = axes_of([axis], x.ndim)
    bounded((*x.shape[:at], *indices.shape, *x.shape[at + 1 :]), x.dtype)
    if not _takes(node, x, indices):
        return np.take(x, _counted(indices, x.shape[at]), at)
    if indices.ndim == 0:
        return x[_before(at, int(indices))]
    rows = node.once("rows", (indices, x.shape[at]), lambda: _counted(indices, x.shape[at]).astype(np.int64))
    if at == 0:
        return fastdl.take(x, rows)
    turned = fastdl.take(np.moveaxis(x, at, 0), rows)
    return np.moveaxis(turned, range(rows.ndim), range(at, at + rows.ndim))


def _before(axes: int, last: Any) -> Any:
    """What takes all of so many axes, and `last` of the next."""
    return (*(slice(None),) * axes, last)


def _counted(indices: Array, size: int) -> Array:
    """From the first; NumPy says which is out of range."""
    if indices.size and not (-size <= indices.min() and indices.max() < size):
        raise IndexError(
            f"indices: found {indices.min()} to {indices.max()}, expected at least {-size}, less than {size}"
        )
    return np.where(indices < 0, indices + size, indices)


@operator("GatherElements")
def gather_elements(x: Array, indices: Array, *, axis: int = 0) -> Array:
    where: list[Any] = list(np.indices(indices.shape, sparse=True))
    where[axis % x.ndim] = indices
    return x[tuple(where)]


@operator("GatherND")
def gather_nd(x: Array, indices: Array, *, batch_dims: int = 0) -> Array:
    batch = x.shape[:batch_dims]
    places = np.moveaxis(indices, -1, 0)
    rest = indices.ndim - 1 - batch_dims
    lead = [
        np.arange(n).reshape([-1 if i == d else 1 for i in range(batch_dims)] + [1] * rest) for d, n in enumerate(batch)
    ]
    return x[(*lead, *places)]


def _combined(name: str, old: Array, new: Array) -> Array:
    return {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[name](old, new)


def _put(found: Array, where: Any, values: Array, reduction: str) -> None:
    if reduction == "none":
        found[where] = values
        return
    ufunc = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}.get(reduction)
    if ufunc is None:
        raise ValueError(f"reduction: found {reduction!r}, expected none, add, mul, max or min")
    ufunc.at(found, where, values)


@operator("ScatterElements", "Scatter")
def scatter_elements(x: Array, indices: Array, updates: Array, *, axis: int = 0, reduction: str = "none") -> Array:
    found = np.array(x)
    where: list[Any] = list(np.indices(indices.shape, sparse=True))
    where[axis % x.ndim] = indices
    _put(found, tuple(np.broadcast_arrays(*where)), updates, reduction)
    return found


@operator("ScatterND")
def scatter_nd(x: Array, indices: Array, updates: Array, *, reduction: str = "none") -> Array:
    found = np.array(x)
    _put(found, tuple(np.moveaxis(indices, -1, 0)), updates, reduction)
    return found


@operator("TensorScatter")
def tensor_scatter(
    past: Array, update: Array, write_indices: Array | None = None, *, axis: int = -2, mode: str = "linear"
) -> Array:
    found = np.array(past)
    at, count, size = axis % past.ndim, update.shape[axis], past.shape[axis]
    starts = [0] * past.shape[0] if write_indices is None else ints(write_indices)
    for i, start in enumerate(starts):
        rows = np.arange(start, start + count)
        rows = rows % size if mode == "circular" else _counted(rows, size)
        np.moveaxis(found[i], at - 1, 0)[rows] = np.moveaxis(update[i], at - 1, 0)
    return found


@operator("OneHot", sizes=("depth",))
def one_hot(indices: Array, depth: Array, values: Array, *, axis: int = -1) -> Array:
    (size,) = ints(depth)
    (at,) = axes_of([axis], indices.ndim + 1)
    bounded((*indices.shape, size), values.dtype)
    rows = np.expand_dims(indices.astype(np.int64), at)
    inside = (rows >= -size) & (rows < size)
    places = np.arange(size).reshape([-1 if i == at else 1 for i in range(indices.ndim + 1)])
    return np.where((rows % max(size, 1) == places) & inside, values[1], values[0]).astype(values.dtype)


@operator("NonZero", varying=True)
def non_zero(x: Array) -> Array:
    return np.array(np.nonzero(np.atleast_1d(x)), np.int64)


@operator("Compress", varying=True)
def compress(x: Array, condition: Array, *, axis: int | None = None) -> Array:
    return np.compress(condition, x, axis)


@operator("Unique", varying=True)
def unique(x: Array, *, axis: int | None = None, sorted: int = 1) -> tuple[Array, ...]:
    y, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not sorted:
        order = np.argsort(first)
        y, first, counts = np.take(y, order, axis or 0), first[order], counts[order]
        inverse = np.argsort(order)[inverse]
    return y, first.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)


def _largest(x: Array, k: int, axis: int, largest: int, sorted: int) -> tuple[Array, Array]:
    """Of equals, the one that comes first."""
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(f"K: found {k}, expected 0 to {x.shape[axis]}")
    if largest:
        order = np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
        order = x.shape[axis] - 1 - order
    else:
        order = np.argsort(x, axis, kind="stable")
    order = np.take(order, np.arange(k), axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int64)


@operator("TopK", since=10, sizes=("k",))
def top_k(x: Array, k: Array, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Array, Array]:
    return _largest(x, ints(k)[0], axis, largest, sorted)


@operator("TopK")
def top_k_1(x: Array, *, k: int, axis: int = -1) -> tuple[Array, Array]:
    return _largest(x, k, axis, 1, 1)


@operator("NonMaxSuppression", varying=True)
def non_max_suppression(
    boxes: Array,
    scores: Array,
    most: Array | None = None,
    overlap: Array | None = None,
    least: Array | None = None,
    *,
    center_point_box: int = 0,
) -> Array:
    limit = ints(most)[0] if most is not None and most.size else 0
    threshold = float(np.reshape(overlap, -1)[0]) if overlap is not None and overlap.size else 0.0
    found: list[tuple[int, int, int]] = []
    for b, rows in enumerate(boxes):
        if center_point_box:
            centre, half = rows[:, :2], rows[:, 2:] / 2
            low, high = centre - half, centre + half
        else:
            low, high = np.minimum(rows[:, :2], rows[:, 2:]), np.maximum(rows[:, :2], rows[:, 2:])
        areas = np.prod(high - low, -1)
        for c, score in enumerate(scores[b]):
            kept: list[int] = []
            for i in np.argsort(-score, kind="stable"):
                if len(kept) >= limit or (least is not None and least.size and score[i] <= np.reshape(least, -1)[0]):
                    break
                both = np.prod(np.clip(np.minimum(high[i], high[kept]) - np.maximum(low[i], low[kept]), 0, None), -1)
                if not np.any(both / (areas[i] + areas[kept] - both) > threshold):
                    kept.append(int(i))
            found += [(b, c, i) for i in kept]
    return np.array(found, np.int64).reshape(-1, 3)
