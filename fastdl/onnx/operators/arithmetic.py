"""Arithmetic, comparisons, logic, casts."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import onnx

import fastdl
from fastdl.functional.verbs import Array
from fastdl.onnx._table import Node, bounded, floats_only, is_floats, operator
from fastdl.onnx.operators._shared import ints


def _fits(x: Array, y: Array) -> None:
    bounded(np.broadcast_shapes(x.shape, y.shape), np.result_type(x, y))


def _aligned(x: Array, y: Array, axis: int | None, broadcast: int) -> Array:
    """y as the first versions broadcast it: its first dimension is dimension `axis` of x."""
    if not broadcast or axis is None or y.ndim == 0:
        return y
    at = axis % x.ndim
    return y.reshape(y.shape + (1,) * (x.ndim - at - y.ndim))


def add(x: Array, y: Array) -> Array:
    return fastdl.add(x, y) if is_floats(x, y) else np.add(x, y)


def sub(x: Array, y: Array) -> Array:
    return fastdl.sub(x, y) if is_floats(x, y) else np.subtract(x, y)


def div(x: Array, y: Array) -> Array:
    """Of integers, towards zero."""
    if is_floats(x, y):
        return fastdl.div(x, y)
    if x.dtype.kind != "i":
        return np.floor_divide(x, y) if x.dtype.kind == "u" else np.divide(x, y)
    quotient = np.floor_divide(x, y)
    inexact = quotient * y != x
    return (quotient + (inexact & ((x < 0) != (y < 0)))).astype(x.dtype)


def mul(x: Array, y: Array) -> Array:
    if is_floats(x, y):
        return fastdl.mul(x, y)
    return np.logical_and(x, y) if x.dtype == bool else np.multiply(x, y)


def _maximum(x: Array, y: Array) -> Array:
    return fastdl.maximum(x, y) if is_floats(x, y) else np.maximum(x, y)


def _minimum(x: Array, y: Array) -> Array:
    return fastdl.minimum(x, y) if is_floats(x, y) else np.minimum(x, y)


def _pow(x: Array, y: Array) -> Array:
    """In the dtype of x."""
    if is_floats(x, y):
        return fastdl.pow(x, y)
    if x.dtype.kind in "iu" and y.dtype.kind in "iu":
        return np.power(x.astype(np.float64), y).astype(x.dtype) if np.any(y < 0) else np.power(x, y.astype(x.dtype))
    wide = np.float64 if x.dtype.kind in "iu" or y.dtype == np.float64 else x.dtype
    return np.power(x.astype(wide), y.astype(wide)).astype(x.dtype)


def _binary(name: str, function: Callable[[Array, Array], Array], kernels: Any = False) -> None:
    def compute(x: Array, y: Array, *, axis: int | None = None, broadcast: int = 0) -> Array:
        y = _aligned(x, y, axis, broadcast)
        _fits(x, y)
        return function(x, y)

    operator(name, kernels=kernels)(compute)


for _name, _function, _kernels in (
    ("Add", add, floats_only),
    ("Sub", sub, floats_only),
    ("Mul", mul, floats_only),
    ("Div", div, floats_only),
    ("Pow", _pow, floats_only),
    ("And", np.logical_and, False),
    ("Or", np.logical_or, False),
    ("Xor", np.logical_xor, False),
    ("Equal", np.equal, False),
    ("Greater", np.greater, False),
    ("Less", np.less, False),
    ("GreaterOrEqual", np.greater_equal, False),
    ("LessOrEqual", np.less_equal, False),
    ("BitwiseAnd", np.bitwise_and, False),
    ("BitwiseOr", np.bitwise_or, False),
    ("BitwiseXor", np.bitwise_xor, False),
):
    _binary(_name, _function, _kernels)


@operator("Mod")
def mod(x: Array, y: Array, *, fmod: int = 0) -> Array:
    """With the sign of y or, with fmod, that of x."""
    _fits(x, y)
    return np.fmod(x, y) if fmod else np.mod(x, y)


@operator("BitShift")
def bit_shift(x: Array, y: Array, *, direction: str) -> Array:
    _fits(x, y)
    return np.left_shift(x, y) if direction == "LEFT" else np.right_shift(x, y)


def _many(name: str, function: Callable[[Array, Array], Array], kernels: Any = False) -> None:
    def compute(first: Array, *others: Array) -> Array:
        bounded(np.broadcast_shapes(first.shape, *(o.shape for o in others)), first.dtype)
        return reduce(function, others, first)

    operator(name, kernels=kernels)(compute)


_many("Sum", add, floats_only)
_many("Max", _maximum, floats_only)
_many("Min", _minimum, floats_only)


@operator("Mean", kernels=floats_only)
def mean(first: Array, *others: Array) -> Array:
    total, count = reduce(add, others, first), 1 + len(others)
    return fastdl.div(total, float(count)) if is_floats(total) else (total / count).astype(first.dtype)


def absolute(x: Array) -> Array:
    return fastdl.maximum(x, fastdl.mul(x, -1.0)) if is_floats(x) else np.abs(x)


_KERNELS: dict[str, Callable[[Array], Array]] = {
    "Abs": absolute,
    "Neg": lambda x: fastdl.mul(x, -1.0),
    "Reciprocal": lambda x: fastdl.div(1.0, x),
}


def _unary(name: str, function: Callable[[Array], Array]) -> None:
    ours = _KERNELS.get(name)

    def compute(x: Array) -> Array:
        if ours is not None and is_floats(x):
            return ours(x)
        found = function(x)
        return found if found.dtype in (x.dtype, np.bool_) else found.astype(x.dtype)

    operator(name, kernels=False if ours is None else floats_only)(compute)


for _name, _one in (
    ("Abs", np.abs),
    ("Acos", np.arccos),
    ("Acosh", np.arccosh),
    ("Asin", np.arcsin),
    ("Asinh", np.arcsinh),
    ("Atan", np.arctan),
    ("Atanh", np.arctanh),
    ("BitwiseNot", np.bitwise_not),
    ("Ceil", np.ceil),
    ("Cos", np.cos),
    ("Cosh", np.cosh),
    ("Floor", np.floor),
    ("IsNaN", np.isnan),
    ("Neg", np.negative),
    ("Not", np.logical_not),
    ("Reciprocal", lambda x: 1 / x),
    ("Round", np.rint),
    ("Sign", np.sign),
    ("Sin", np.sin),
    ("Sinh", np.sinh),
    ("Sqrt", np.sqrt),
    ("Tan", np.tan),
):
    _unary(_name, _one)


@operator("IsInf")
def is_inf(x: Array, *, detect_negative: int = 1, detect_positive: int = 1) -> Array:
    found = np.isinf(x)
    if not detect_negative:
        found &= ~(x < 0)
    if not detect_positive:
        found &= ~(x > 0)
    return found


def _clipped(x: Array, low: Any, high: Any) -> Array:
    if is_floats(x):
        low = -np.inf if low is None else float(low)
        high = np.inf if high is None else float(high)
        if low <= high:
            return fastdl.hardtanh(x, low, high)
    found = x if low is None else np.maximum(x, np.asarray(low, x.dtype))
    return found if high is None else np.minimum(found, np.asarray(high, x.dtype))


def _in_order(node: Node, x: Any, low: Any = None, high: Any = None) -> bool:
    return is_floats(x) and (low is None or high is None or bool(np.all(low <= high)))


@operator("Clip", since=11, fixed=("low", "high"), kernels=_in_order)
def clip(x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    return _clipped(x, low, high)


@operator("Clip", kernels=lambda node, x: is_floats(x))
def clip_1(x: Array, *, min: float = -3.4028234663852886e38, max: float = 3.4028234663852886e38) -> Array:
    return _clipped(x, min, max)


@operator("Where", kernels=lambda node, condition, x, y: is_floats(x, y))
def where(condition: Array, x: Array, y: Array) -> Array:
    bounded(np.broadcast_shapes(condition.shape, x.shape, y.shape), x.dtype)
    return fastdl.where(condition, x, y) if is_floats(x, y) else np.where(condition, x, y)


def dtype_of(number: int | str) -> np.dtype[Any]:
    given = onnx.TensorProto.DataType.Value(number) if isinstance(number, str) else number  # in the first version
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(given))


def cast_to(x: Array, dtype: np.dtype[Any], saturate: int = 1, round_mode: str = "up") -> Array:
    """x in another dtype: numbers that small floats do not have become their largest, or infinity or NaN."""
    if x.dtype == dtype:
        return x
    if dtype.kind == "O":
        return np.array([_text(v) for v in x.reshape(-1)], object).reshape(x.shape)
    if x.dtype.kind in "OU":
        numbers = [float(v) for v in x.reshape(-1)]
        return np.array(numbers, np.float64).reshape(x.shape).astype(dtype)
    if dtype.kind == "b":
        return x != 0
    name = dtype.name
    if name in ("int4", "uint4", "int2", "uint2"):
        bits = int(name[-1])
        wrapped = np.trunc(np.asarray(x, np.float64)).astype(np.int64) & ((1 << bits) - 1)
        return (
            np.where(wrapped >= 1 << bits - 1, wrapped - (1 << bits), wrapped).astype(np.int8).astype(dtype)
            if (name.startswith("i"))
            else wrapped.astype(np.uint8).astype(dtype)
        )
    if name == "float8_e8m0fnu":
        return _power_of_2(x, dtype, round_mode)
    if name.startswith("float8") and saturate:
        import ml_dtypes

        largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
        wide = x.astype(np.float32)
        return np.where(np.isnan(wide), wide, np.clip(wide, -largest, largest)).astype(dtype)
    if x.dtype.kind == "V" or dtype.kind == "V":  # ml_dtypes' convert from and to float32
        return x.astype(np.float32).astype(dtype)
    return x.astype(dtype)


def _power_of_2(x: Array, dtype: np.dtype[Any], how: str) -> Array:
    """The exponent alone (FLOAT8E8M0)."""
    part, exponent = np.frexp(np.abs(x.astype(np.float64)))
    least = {"up": 0.5, "nearest": 0.75, "down": 1.0}[how]
    above = part > least if how == "up" else part >= least
    bits = np.clip(exponent - 1 + above + 127, 0, 254)
    bits = np.where(x == 0, 0, np.where(np.isfinite(x), bits, 255))
    return bits.astype(np.uint8).view(dtype)


def _text(value: Any) -> str:
    return "NaN" if value != value else str(value)


@operator("Cast")
def cast(x: Array, *, to: Any, saturate: int = 1, round_mode: str = "up") -> Array:
    return cast_to(x, dtype_of(to), saturate, round_mode)


@operator("CastLike")
def cast_like(x: Array, like: Array, *, saturate: int = 1, round_mode: str = "up") -> Array:
    return cast_to(x, like.dtype, saturate, round_mode)


@operator("CumSum", fixed=("axis",))
def cum_sum(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    return _running(np.add, x, axis, exclusive, reverse, 0)


@operator("CumProd", fixed=("axis",))
def cum_prod(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    return _running(np.multiply, x, axis, exclusive, reverse, 1)


def _running(ufunc: Any, x: Array, axis: Array, exclusive: int, reverse: int, first: int) -> Array:
    (at,) = ints(axis)
    x = np.flip(x, at) if reverse else x
    found = ufunc.accumulate(x, at, dtype=x.dtype)
    if exclusive:
        found = np.roll(found, 1, at)
        found[(*(slice(None),) * (at % x.ndim), slice(0, 1))] = first
    return np.flip(found, at) if reverse else found
