"""What makes arrays, and what changes their shapes: most of it moves nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdl
from fastdl.functional.verbs import Array
from fastdl.onnx._table import Node, bounded, is_floats, operator
from fastdl.onnx.operators._shared import axes_of, contiguous, ints, reshaped


@operator("Identity", view=True)
def identity(x: Any) -> Any:
    return x


@operator("Shape", of_shape=True)
def shape(x: Array, *, start: int = 0, end: int | None = None) -> Array:
    return np.array(x.shape[start:end], np.int64)


@operator("Size", of_shape=True)
def size(x: Array) -> Array:
    return np.array(x.size, np.int64)


@operator("Constant")
def constant(
    *,
    value: Array | None = None,
    sparse_value: Array | None = None,
    value_float: float | None = None,
    value_floats: list[float] | None = None,
    value_int: int | None = None,
    value_ints: list[int] | None = None,
    value_string: str | None = None,
    value_strings: list[str] | None = None,
) -> Array:
    for found, dtype in (
        (value, None),
        (sparse_value, None),
        (value_float, np.float32),
        (value_floats, np.float32),
        (value_int, np.int64),
        (value_ints, np.int64),
        (value_string, object),
        (value_strings, object),
    ):
        if found is not None:
            return np.asarray(found, dtype)
    raise ValueError("found a constant without a value")


@operator("ConstantOfShape", sizes=("shape",))
def constant_of_shape(shape: Array, *, value: Array | None = None) -> Array:
    fill = np.zeros((), np.float32) if value is None else value.reshape(-1)[0]
    return np.full(bounded(ints(shape), fill.dtype), fill)


@operator("EyeLike")
def eye_like(x: Array, *, dtype: int | None = None, k: int = 0) -> Array:
    from fastdl.onnx.operators.arithmetic import dtype_of

    return np.eye(x.shape[0], x.shape[1], k, dtype=x.dtype if dtype is None else dtype_of(dtype))


@operator("Range", sizes=("start", "limit", "delta"))
def range_(start: Array, limit: Array, delta: Array) -> Array:
    start, limit, delta = (np.reshape(a, ()) for a in (start, limit, delta))
    if delta == 0:
        raise ValueError("delta: found 0, expected another number")
    count = max(0, int(np.ceil((limit - start) / delta)))
    bounded((count,), start.dtype)
    return (start + np.arange(count) * delta).astype(start.dtype)


def _new_shape(x: Array, wanted: list[int], allowzero: int) -> list[int]:
    if not allowzero:
        wanted = [x.shape[i] if n == 0 and i < x.ndim else n for i, n in enumerate(wanted)]
    return wanted


@operator("Reshape", since=5, sizes=("shape",), view=True)
def reshape(x: Array, shape: Array, *, allowzero: int = 0) -> Array:
    return reshaped(x, _new_shape(x, ints(shape), allowzero))


@operator("Reshape", view=True)
def reshape_1(x: Array, *, shape: list[int]) -> Array:
    return reshaped(x, _new_shape(x, shape, 0))


@operator("Flatten", view=True)
def flatten(x: Array, *, axis: int = 1) -> Array:
    (at,) = axes_of([axis], x.ndim + 1) if axis >= 0 else axes_of([axis], x.ndim)
    rows = int(np.prod(x.shape[:at], dtype=np.int64))
    return reshaped(x, (rows, int(np.prod(x.shape[at:], dtype=np.int64))))


def _squeezed(x: Array, axes: Any) -> Array:
    if axes is None:
        return x.reshape([n for n in x.shape if n != 1]) if x.flags.c_contiguous else np.squeeze(x)
    return np.squeeze(x, axes_of(axes, x.ndim))


def _unsqueezed(x: Array, axes: Any) -> Array:
    return np.expand_dims(x, axes_of(axes, x.ndim + len(ints(axes))))


@operator("Squeeze", since=13, sizes=("axes",), view=True)
def squeeze(x: Array, axes: Array | None = None) -> Array:
    return _squeezed(x, axes)


@operator("Squeeze", view=True)
def squeeze_1(x: Array, *, axes: list[int] | None = None) -> Array:
    return _squeezed(x, axes)


@operator("Unsqueeze", since=13, sizes=("axes",), view=True)
def unsqueeze(x: Array, axes: Array) -> Array:
    return _unsqueezed(x, axes)


@operator("Unsqueeze", view=True)
def unsqueeze_1(x: Array, *, axes: list[int]) -> Array:
    return _unsqueezed(x, axes)


@operator("Transpose", view=True)
def transpose(x: Array, *, perm: list[int] | None = None) -> Array:
    return np.transpose(x, perm)


@operator("Expand", sizes=("shape",), view=True)
def expand(x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, bounded(np.broadcast_shapes(x.shape, tuple(ints(shape))), x.dtype))


@operator("Tile", since=6, sizes=("repeats",), view=True)
def tile(x: Array, repeats: Array) -> Array:
    """Broadcast along new dimensions, and these made part of the others."""
    counts = ints(repeats)
    final = bounded((n * c for n, c in zip(x.shape, counts, strict=True)), x.dtype)
    spread = np.broadcast_to(
        x.reshape([k for n in x.shape for k in (1, n)]) if x.flags.c_contiguous else _spread(x),
        [k for n, c in zip(x.shape, counts, strict=True) for k in (c, n)],
    )
    return reshaped(spread, final)


def _spread(x: Array) -> Array:
    return np.expand_dims(x, tuple(range(0, 2 * x.ndim, 2)))


def _joins(node: Node, *arrays: Any) -> bool:
    return is_floats(*arrays) and any(a.size for a in arrays)


@operator("Concat", since=4, kernels=_joins)
def concat(*arrays: Array, axis: int) -> Array:
    full = [a for a in arrays if a.size]
    return fastdl.cat(full, axis) if is_floats(*arrays) and full else np.concatenate(arrays, axis)


@operator("Concat", kernels=_joins)
def concat_1(*arrays: Array, axis: int = 1) -> Array:
    return concat(*arrays, axis=axis)


def _parts(x: Array, sizes: list[int] | None, count: int, axis: int) -> tuple[Array, ...]:
    (at,) = axes_of([axis], x.ndim)
    if sizes is None:
        each = -(-x.shape[at] // max(count, 1))
        sizes = [min(each, max(x.shape[at] - i * each, 0)) for i in range(count)]
    if sum(sizes) != x.shape[at] or min(sizes, default=0) < 0:
        raise ValueError(f"split: found {sizes}, expected parts of {x.shape[at]}")
    found, begin = [], 0
    for n in sizes:
        found.append(x[(*(slice(None),) * at, slice(begin, begin + n))])
        begin += n
    return tuple(found)


@operator("Split", since=13, sizes=("split",), view=True)
def split(x: Array, split: Array | None = None, *, axis: int = 0, num_outputs: int | None = None, node: Node) -> Any:
    return _parts(x, None if split is None else ints(split), num_outputs or len(node.outputs), axis)


@operator("Split", view=True)
def split_1(x: Array, _: Array | None = None, *, axis: int = 0, split: list[int] | None = None, node: Node) -> Any:
    return _parts(x, split, len(node.outputs), axis)


def _sliced(x: Array, starts: Any, ends: Any, axes: Any, steps: Any) -> Array:
    first, last = ints(starts), ints(ends)
    at = axes_of(range(len(first)) if axes is None else axes, x.ndim)
    by = [1] * len(first) if steps is None else ints(steps)
    where = [slice(None)] * x.ndim
    for axis, low, high, step in zip(at, first, last, by, strict=True):
        n = x.shape[axis]
        if step < 0 and high < -n:
            where[axis] = slice(low, None, step)
        else:
            where[axis] = slice(low, high, step)
    return x[tuple(where)]


@operator("Slice", since=10, sizes=("starts", "ends", "axes", "steps"), view=True)
def slice_(x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    return _sliced(x, starts, ends, axes, steps)


@operator("Slice", view=True)
def slice_1(x: Array, *, starts: list[int], ends: list[int], axes: list[int] | None = None) -> Array:
    return _sliced(x, starts, ends, axes, None)


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _pad_sides(x: Array, pads: Any, axes: Any) -> list[tuple[int, int]]:
    amounts, at = ints(pads), axes_of(axes, x.ndim)
    sides = [(0, 0)] * x.ndim
    for axis, before, after in zip(at, amounts[: len(at)], amounts[len(at) :], strict=True):
        sides[axis] = before, after
    bounded((max(n + b + a, 0) for n, (b, a) in zip(x.shape, sides, strict=True)), x.dtype)
    return sides


def _pads_well(node: Node, x: Any, *_: Any) -> bool:
    return is_floats(x) and x.ndim > 0 and x.size > 0


def _padded(x: Array, pads: Any, value: Any, axes: Any, mode: str) -> Array:
    sides = _pad_sides(x, pads, axes)
    flat = tuple(n for side in reversed(sides) for n in side)
    fill = 0.0 if value is None else np.asarray(value).reshape(-1)[0]
    if is_floats(x) and x.ndim and x.size:
        return fastdl.pad(x, flat, mode=_MODES[mode], value=float(fill))
    x = x[tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, sides, strict=True))]
    kept = [(max(b, 0), max(a, 0)) for b, a in sides]
    return np.pad(x, kept, mode, constant_values=fill) if mode == "constant" else np.pad(x, kept, mode)  # type: ignore[call-overload]


@operator("Pad", since=11, sizes=("pads", "axes"), fixed=("value",), kernels=_pads_well)
def pad(
    x: Array, pads: Array, value: Array | None = None, axes: Array | None = None, *, mode: str = "constant"
) -> Array:
    return _padded(x, pads, value, axes, mode)


@operator("Pad", kernels=_pads_well)
def pad_1(
    x: Array,
    *,
    pads: list[int] | None = None,
    paddings: list[int] | None = None,
    mode: str = "constant",
    value: float = 0.0,
) -> Array:
    return _padded(x, paddings if pads is None else pads, value, None, mode)


@operator("Trilu", fixed=("k",), kernels=lambda node, x, k=None: is_floats(x))
def trilu(x: Array, k: Array | None = None, *, upper: int = 1, node: Node) -> Array:
    (by,) = ints(k) or [0]
    if is_floats(x):
        mask = node.once(
            "mask", (x.shape[-2:], by), lambda: (np.triu if upper else np.tril)(np.ones(x.shape[-2:], bool), by)
        )
        return fastdl.where(mask, x, 0.0)
    return np.triu(x, by) if upper else np.tril(x, by)


@operator("DepthToSpace", view=True)
def depth_to_space(x: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    b, c, h, w = x.shape
    n = blocksize
    if c % (n * n):
        raise ValueError(f"x: found {c} channels, expected a multiple of {n * n}")
    if mode == "DCR":
        turned = reshaped(x, (b, n, n, c // n**2, h, w)).transpose(0, 3, 4, 1, 5, 2)
    else:
        turned = reshaped(x, (b, c // n**2, n, n, h, w)).transpose(0, 1, 4, 2, 5, 3)
    return reshaped(turned, (b, c // n**2, h * n, w * n))


@operator("SpaceToDepth", view=True)
def space_to_depth(x: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    b, c, h, w = x.shape
    n = blocksize
    if h % n or w % n:
        raise ValueError(f"x: found {h} x {w} pixels, expected multiples of {n}")
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    turned = reshaped(x, (b, c, h // n, n, w // n, n)).transpose(order)
    return reshaped(turned, (b, c * n * n, h // n, w // n))


@operator("ReverseSequence")
def reverse_sequence(x: Array, lengths: Array, *, batch_axis: int = 1, time_axis: int = 0) -> Array:
    found = x.copy()
    moved, source = np.moveaxis(found, (batch_axis, time_axis), (0, 1)), np.moveaxis(x, (batch_axis, time_axis), (0, 1))
    for i, n in enumerate(ints(lengths)):
        moved[i, :n] = source[i, :n][::-1]
    return found


__all__ = ["contiguous"]
