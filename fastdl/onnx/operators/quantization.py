"""Quantized numbers, and products of integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.functional.verbs import Array
from fastdl.onnx._table import operator
from fastdl.onnx.operators.arithmetic import cast_to, dtype_of
from fastdl.onnx.operators.conv import conv


def _spread(values: Array, x: Array, axis: int, block_size: int) -> Array:
    """One value, one a place along the axis, or one a block of places, as broadcast to x."""
    if values.size == 1 and values.ndim <= 1:
        return values.reshape(())
    if values.ndim == 1:
        return values.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    if block_size:
        values = np.repeat(values, block_size, axis)
        return values[(*(slice(None),) * (axis % x.ndim), slice(x.shape[axis]))]
    return values


_RANGES = {"uint4": (0, 15), "int4": (-8, 7), "uint2": (0, 3), "int2": (-2, 1)}


def _into(x: Array, dtype: Any) -> Array:
    """Rounded to even, and cut to what the dtype holds."""
    low, high = _RANGES.get(dtype.name) or (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return cast_to(np.clip(np.rint(x), low, high).astype(np.int64), dtype)


@operator("QuantizeLinear")
def quantize_linear(
    x: Array,
    scale: Array,
    zero_point: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Array:
    dtype = (
        zero_point.dtype if zero_point is not None else dtype_of(output_dtype) if output_dtype else np.dtype(np.uint8)
    )
    by = _spread(scale, x, axis, block_size)
    if precision:
        wide = dtype_of(precision)
        y = x.astype(wide) / by.astype(wide)
    else:
        y = x.astype(np.float32) / by.astype(np.float32) if x.dtype.kind in "iuV" else x / by
    if dtype.kind in "iu" or dtype.name in _RANGES:
        y = np.rint(y.astype(np.float64))
        shift = 0 if zero_point is None else _spread(zero_point, x, axis, block_size).astype(np.int64)
        return _into(y + shift, dtype)
    return cast_to(y.astype(np.float32), dtype, saturate)


@operator("DequantizeLinear")
def dequantize_linear(
    x: Array,
    scale: Array,
    zero_point: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Array:
    wide = x.astype(np.float32)
    if zero_point is not None:
        wide = wide - _spread(zero_point, x, axis, block_size).astype(np.float32)
    found = wide * _spread(scale, x, axis, block_size).astype(np.float32)
    return found.astype(dtype_of(output_dtype) if output_dtype else scale.dtype)


@operator("FakeQuantized", domain="fastdl")
def fake_quantized(x: Array, scale: Array, zero_point: Array | None = None, *, axis: int = 1) -> Array:
    return dequantize_linear(quantize_linear(x, scale, zero_point, axis=axis), scale, zero_point, axis=axis)


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(x: Array) -> tuple[Array, ...]:
    high, low = np.float32(max(0, x.max(initial=0))), np.float32(min(0, x.min(initial=0)))
    scale = np.float32(1) if high == low else (high - low) / np.float32(255)
    zero = np.rint(np.clip(-low / scale, 0, 255))
    return np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8), np.array(scale), np.array(zero, np.uint8)


def _from_zero(x: Array, zero: Array | None, axis: int) -> Array:
    wide = x.astype(np.float64)
    if zero is None:
        return wide
    if zero.ndim == 1 and zero.size > 1:
        zero = zero.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    return wide - zero.astype(np.float64)


@operator("MatMulInteger")
def mat_mul_integer(a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None) -> Array:
    return np.matmul(_from_zero(a, a_zero, -2), _from_zero(b, b_zero, -1)).astype(np.int32)


@operator("ConvInteger")
def conv_integer(
    x: Array,
    weight: Array,
    x_zero: Array | None = None,
    weight_zero: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Array:
    """In float64, which holds these sums."""
    options: dict[str, Any] = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "pads": pads}
    found = conv(_from_zero(x, x_zero, 1), _from_zero(weight, weight_zero, 0), strides=strides, **options)
    return np.rint(found).astype(np.int32)


@operator("QLinearMatMul")
def qlinear_mat_mul(
    a: Array, a_scale: Array, a_zero: Array, b: Array, b_scale: Array, b_zero: Array, scale: Array, zero: Array
) -> Array:
    found = np.matmul(_from_zero(a, a_zero, -2), _from_zero(b, b_zero, -1))
    by = a_scale.astype(np.float32) * b_scale.astype(np.float32) / scale.astype(np.float32)
    return _into(found * by + zero, zero.dtype)


@operator("QLinearConv")
def qlinear_conv(
    x: Array,
    x_scale: Array,
    x_zero: Array,
    weight: Array,
    weight_scale: Array,
    weight_zero: Array,
    scale: Array,
    zero: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Array:
    options: dict[str, Any] = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "pads": pads}
    wide = None if bias is None else bias.astype(np.float64)
    found = conv(_from_zero(x, x_zero, 1), _from_zero(weight, weight_zero, 0), wide, strides=strides, **options)
    by = x_scale * weight_scale / scale
    by = by.reshape(-1, *[1] * (x.ndim - 2)) if by.size > 1 else by
    return _into(np.rint(found) * by + zero, zero.dtype)
