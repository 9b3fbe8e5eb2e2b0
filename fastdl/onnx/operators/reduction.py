"""Reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastdl
from fastdl.functional.verbs import Array
from fastdl.onnx._table import is_floats, operator
from fastdl.onnx.operators._shared import axes_of, ints
from fastdl.onnx.operators.arithmetic import absolute

Reduce = Callable[[Array, tuple[int, ...], bool], Array]


def _log_sum_exp(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    if not x.size:
        return np.log(np.sum(np.exp(x), axes, keepdims=keep))
    top = np.max(x, axes, keepdims=True)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    found = np.log(np.sum(np.exp(x - top), axes, keepdims=True)) + top
    return found if keep else np.squeeze(found, axes)


def _mean(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    """NaN of nothing, of which NumPy warns."""
    return np.mean(x, axes, keepdims=keep) if x.size else np.sum(x, axes, keepdims=keep) / np.zeros((), x.dtype)


def _extreme(ufunc: Any, lowest: bool) -> Reduce:
    def reduce(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
        if x.size:
            return ufunc.reduce(x, axes, keepdims=keep)
        if x.dtype.kind == "f":
            start: Any = -np.inf if lowest else np.inf
        elif x.dtype.kind == "b":
            start = not lowest
        else:
            start = np.iinfo(x.dtype).min if lowest else np.iinfo(x.dtype).max
        return ufunc.reduce(x, axes, keepdims=keep, initial=x.dtype.type(start))

    return reduce


_REDUCTIONS: dict[str, Reduce] = {
    "ReduceL1": lambda x, axes, keep: np.sum(np.abs(x), axes, keepdims=keep),
    "ReduceL2": lambda x, axes, keep: np.sqrt(np.sum(np.square(x.astype(np.float64)), axes, keepdims=keep)),
    "ReduceLogSum": lambda x, axes, keep: np.log(np.sum(x, axes, keepdims=keep)),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _extreme(np.maximum, True),
    "ReduceMean": _mean,
    "ReduceMin": _extreme(np.minimum, False),
    "ReduceProd": lambda x, axes, keep: np.prod(x, axes, keepdims=keep),
    "ReduceSum": lambda x, axes, keep: np.sum(x, axes, keepdims=keep),
    "ReduceSumSquare": lambda x, axes, keep: np.sum(np.square(x), axes, keepdims=keep),
}


_KERNELS: dict[str, Reduce] = {
    "ReduceL1": lambda x, axes, keep: fastdl.sum(absolute(x), axes, keep),
    "ReduceMax": fastdl.amax,
    "ReduceMean": fastdl.mean,
    "ReduceMin": fastdl.amin,
    "ReduceSum": fastdl.sum,
    "ReduceSumSquare": lambda x, axes, keep: fastdl.sum(fastdl.mul(x, x), axes, keep),
}


def _reduced(name: str, function: Reduce, x: Array, axes: Any, keepdims: int, idle: int) -> Array:
    if not ints(axes):
        if idle:
            return x
        axes = None
    at = axes_of(axes, x.ndim)
    if name in _KERNELS and is_floats(x) and x.size and at:
        return _KERNELS[name](x, at, bool(keepdims))
    return np.asarray(function(x, at, bool(keepdims))).astype(x.dtype, copy=False)


def _reduction(name: str, function: Reduce, since: int) -> None:
    def compute(x: Array, axes: Array | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
        return _reduced(name, function, x, axes, keepdims, noop_with_empty_axes)

    def compute_1(x: Array, *, axes: list[int] | None = None, keepdims: int = 1) -> Array:
        return _reduced(name, function, x, axes, keepdims, 0)

    kernels = (lambda node, x, *_: is_floats(x) and x.size > 0 and x.ndim > 0) if name in _KERNELS else False
    operator(name, since=since, sizes=("axes",), kernels=kernels)(compute)
    operator(name, kernels=kernels)(compute_1)


for _name, _function in _REDUCTIONS.items():
    _reduction(_name, _function, 13 if _name == "ReduceSum" else 18)


def _place(x: Array, axis: int, keepdims: int, last: int, find: Any) -> Array:
    found = x.shape[axis] - 1 - find(np.flip(x, axis), axis) if last else find(x, axis)
    return np.asarray(np.expand_dims(found, axis) if keepdims else found, np.int64)


@operator("ArgMax")
def arg_max(x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    return _place(x, axis, keepdims, select_last_index, np.argmax)


@operator("ArgMin")
def arg_min(x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    return _place(x, axis, keepdims, select_last_index, np.argmin)
