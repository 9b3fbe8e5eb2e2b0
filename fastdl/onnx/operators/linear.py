"""Products of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdl
from fastdl.functional.verbs import Array
from fastdl.onnx._table import bounded, is_floats, operator
from fastdl.onnx.operators._shared import reshaped


def _as_linear(x: Any, y: Any) -> bool:
    return is_floats(x, y) and y.ndim == 2 and x.ndim >= 1 and x.size > 0 and y.size > 0


def _of_kernels(x: Any, y: Any) -> bool:
    return is_floats(x, y) and x.ndim > 0 and y.ndim > 0


def matmul(x: Array, y: Array) -> Array:
    if _as_linear(x, y):
        return fastdl.linear(x, y.T)
    if _of_kernels(x, y):
        return fastdl.matmul(x, y)
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    bounded((*batch, *x.shape[-2:-1], *y.shape[-1:]), x.dtype)
    if x.dtype.kind == "V" or x.dtype == np.float16:
        return np.matmul(x.astype(np.float32), y.astype(np.float32)).astype(x.dtype)
    return np.matmul(x, y)


@operator("MatMul", kernels=lambda node, x, y: _of_kernels(x, y))
def mat_mul(x: Array, y: Array) -> Array:
    return matmul(x, y)


@operator("Linear", domain="fastdl", kernels=lambda node, *arrays: is_floats(*arrays))
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """What fusions make of MatMul and Add: weight is (out, in)."""
    return fastdl.linear(x, weight, bias) if is_floats(x, weight, bias) else np.matmul(x, weight.T) + (bias or 0)


@operator("Gemm", kernels=lambda node, *arrays: is_floats(*arrays))
def gemm(
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    broadcast: int = 1,
) -> Array:
    a = a.T if transA else a
    b = b if transB else b.T
    dtype = a.dtype
    if is_floats(a, b, c):
        if beta != 1.0 and c is not None:
            c = fastdl.mul(c, beta)
        flat = c is None or (c.size == len(b) and c.shape[-1:] == (len(b),))
        found = fastdl.linear(a, b, reshaped(c, (-1,)) if flat and c is not None and alpha == 1.0 else None)
        if alpha != 1.0:
            found = fastdl.mul(found, alpha)
        return found if c is None or (flat and alpha == 1.0) else fastdl.add(found, c)
    wide = np.float32 if dtype.kind == "V" or dtype == np.float16 else dtype
    found = np.matmul(a.astype(wide), b.T.astype(wide))
    if alpha != 1.0:
        found = found * found.dtype.type(alpha)
    if c is not None:
        found = found + (c.astype(found.dtype) if beta == 1.0 else found.dtype.type(beta) * c.astype(found.dtype))
    return found.astype(dtype, copy=False)


@operator("Einsum")
def einsum(*arrays: Array, equation: str) -> Array:
    _einsum_size(equation, arrays)
    dtype = arrays[0].dtype
    given = [a.astype(np.float32) for a in arrays] if dtype.kind == "V" else arrays
    return np.asarray(np.einsum(equation.replace(" ", ""), *given, optimize=True)).astype(dtype, copy=False)


def _einsum_size(equation: str, arrays: tuple[Array, ...]) -> None:
    """Refuse a result that is too large, where letters alone say how large."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    if "." in equation or not arrow:
        return
    sizes: dict[str, int] = {}
    for term, array in zip(left.split(","), arrays, strict=False):
        sizes.update(zip(term, array.shape, strict=False))
    bounded((sizes.get(letter, 1) for letter in right), arrays[0].dtype)


@operator("Det")
def det(x: Array) -> Array:
    return np.linalg.det(x).astype(x.dtype)
