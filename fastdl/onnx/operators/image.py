"""Resizing, attention over positions, and rotary embedding: what mixes elements of few places."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastdl
from fastdl import _kernels
from fastdl.functional.verbs import Array
from fastdl.onnx._table import Node, bounded, is_floats, operator
from fastdl.onnx.operators._shared import axes_of, ints, reshaped


def _positions(mode: str, out: int, size: int, scale: float, roi: tuple[float, float]) -> Array:
    """Where in the input each element of the output lies."""
    i, length = np.arange(out, dtype=np.float64), scale * size
    if mode == "align_corners":
        return i * (size - 1) / (length - 1) if length != 1 else np.zeros(out)
    if mode == "asymmetric":
        return i / scale
    if mode == "tf_crop_and_resize":
        span = (roi[1] - roi[0]) * (size - 1)
        return roi[0] * (size - 1) + (i * span / (length - 1) if length != 1 else np.full(out, span / 2))
    if mode == "pytorch_half_pixel":
        return (i + 0.5) / scale - 0.5 if length != 1 else np.full(out, -0.5)
    if mode == "half_pixel":
        return (i + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        return size / 2 * (1 - out / length) + (i + 0.5) / scale - 0.5
    if mode == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    raise ValueError(f"coordinate_transformation_mode: found {mode!r}, expected one of ONNX's")


def _nearest(x: Array, mode: str) -> Array:
    if mode == "floor":
        return np.floor(x)
    if mode == "ceil":
        return np.ceil(x)
    return np.floor(x + 0.5) if mode == "round_prefer_ceil" else np.ceil(x - 0.5)


def _tent(d: Array, a: float) -> Array:
    return np.clip(1 - np.abs(d), 0, None)


def _cubic(d: Array, a: float) -> Array:
    d = np.abs(d)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    return np.where(d <= 1, near, np.where(d < 2, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a, 0))


def _taps(x: Array, size: int, scale: float, kind: str, a: float, antialias: int, exclude: int) -> tuple[Array, Array]:
    """Of each output, which inputs it is made of, and of how much of each."""
    reach, kernel = (1, _tent) if kind == "linear" else (2, _cubic)
    narrow = min(scale, 1.0) if antialias else 1.0
    width = math.ceil(reach / narrow)
    places = np.floor(x)[:, None] + np.arange(1 - width, width + 1)
    weights = kernel((x[:, None] - places) * narrow, a)
    inside = (places >= 0) & (places < size)
    if exclude:
        weights = np.where(inside, weights, 0)
    if exclude or antialias:
        weights = weights / weights.sum(1, keepdims=True)
    return np.clip(places, 0, size - 1).astype(np.int64), weights


def _resized(
    x: Array,
    roi: Any,
    scales: Any,
    sizes: Any,
    axes: Any,
    mode: str,
    coordinates: str,
    nearest_mode: str,
    cubic_coeff_a: float = -0.75,
    antialias: int = 0,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    policy: str = "stretch",
) -> Array:
    at = axes_of(axes, x.ndim)
    out, by = list(x.shape), [1.0] * x.ndim
    if sizes is not None and np.size(sizes):
        wanted = ints(sizes)
        ratios = [n / x.shape[a] for a, n in zip(at, wanted, strict=True)]
        if policy != "stretch":
            ratios = [min(ratios) if policy == "not_larger" else max(ratios)] * len(at)
            wanted = [int(r * x.shape[a] + 0.5) for a, r in zip(at, ratios, strict=True)]
        for a, n, r in zip(at, wanted, ratios, strict=True):
            out[a], by[a] = n, r
    else:
        for a, r in zip(at, np.asarray(scales, np.float32).astype(np.float64), strict=True):
            out[a], by[a] = int(np.floor(float(np.float32(r)) * x.shape[a])), float(r)
    bounded(out, x.dtype)
    crop = [(0.0, 1.0)] * x.ndim
    if coordinates == "tf_crop_and_resize":
        for i, a in enumerate(at):
            crop[a] = float(roi[i]), float(roi[len(at) + i])
    mode = mode.removeprefix("tri").removeprefix("bi")
    same = [out[a] == x.shape[a] and math.isclose(by[a], 1.0) and crop[a] == (0.0, 1.0) for a in range(x.ndim)]
    positions = {a: _positions(coordinates, out[a], x.shape[a], by[a], crop[a]) for a in at if not same[a]}
    outside = {a: (p < 0) | (p > x.shape[a] - 1) for a, p in positions.items() if coordinates == "tf_crop_and_resize"}
    if mode == "nearest":
        places = {
            a: np.clip(_nearest(p, nearest_mode), 0, x.shape[a] - 1).astype(np.int64) for a, p in positions.items()
        }
        found = x
        for a, place in places.items():
            found = np.take(found, place, a)
    else:
        found = x.astype(np.float64)
        for a, p in positions.items():
            index, weights = _taps(p, x.shape[a], by[a], mode, cubic_coeff_a, antialias, exclude_outside)
            matrix = np.zeros((out[a], x.shape[a]))
            np.add.at(matrix, (np.arange(out[a])[:, None], index), weights)
            found = np.moveaxis(np.tensordot(matrix, found, (1, a)), 0, a)
    for a, mask in outside.items():
        found = np.where(mask.reshape([-1 if i == a else 1 for i in range(x.ndim)]), extrapolation_value, found)
    if found.dtype != x.dtype and x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        found = np.clip(np.rint(found), limits.min, limits.max)
    return found.astype(x.dtype, copy=False)


def _amounts(node: Node, x: Any, scales: Any, sizes: Any) -> tuple[Any, Any] | None:
    """The sizes, or else the scales, of the dimensions after the second, where the kernel resizes just those."""
    options = node.attributes
    if not is_floats(x) or not 3 <= x.ndim <= 5 or not x.size or options.get("antialias", 0):
        return None
    if options.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    if options.get("coordinate_transformation_mode", "half_pixel") not in _kernels.COORDINATES_NAMES[:4]:
        return None
    at = axes_of(options.get("axes"), x.ndim)
    sized = sizes is not None and np.size(sizes) > 0
    given = dict(zip(at, ints(sizes) if sized else map(float, scales), strict=True))
    none = list(x.shape) if sized else [1.0] * x.ndim
    amounts = tuple(given.get(i, n) for i, n in enumerate(none))
    shape = amounts if sized else [int(n * s) for n, s in zip(x.shape, amounts, strict=True)]
    if amounts[:2] != tuple(none[:2]) or min(shape) < 1:
        return None
    corners = options.get("coordinate_transformation_mode") == "align_corners"
    if corners and not sized and any(n != m * s for n, m, s in zip(shape, x.shape, amounts, strict=True)):
        return None  # ONNX's corners are those of n * s, which is no whole number
    return (amounts[2:], None) if sized else (None, amounts[2:])


def _by_kernel(node: Node, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> bool:
    return _amounts(node, x, scales, sizes) is not None


@operator("Resize", since=11, sizes=("scales", "sizes"), fixed=("roi",), kernels=_by_kernel)
def resize(
    x: Array,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
    *,
    antialias: int = 0,
    axes: list[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
    node: Node,
) -> Array:
    amounts = _amounts(node, x, scales, sizes)
    if amounts is not None:
        by = x.shape[2:] if amounts[1] is None else amounts[1]
        shape = amounts[0] or [int(n * s) for n, s in zip(x.shape[2:], by, strict=True)]
        bounded((*x.shape[:2], *shape), x.dtype)
        return fastdl.resize(
            x,
            *amounts,
            mode.removeprefix("tri").removeprefix("bi"),
            coordinate_transformation_mode,
            nearest_mode,
            cubic_coeff_a,
            bool(exclude_outside),
        )
    return _resized(
        x,
        roi,
        scales,
        sizes,
        axes,
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        antialias,
        exclude_outside,
        extrapolation_value,
        keep_aspect_ratio_policy,
    )


def _upsampling(node: Node, x: Any, scales: Any = None) -> bool:
    by = node.attributes.get("scales") if scales is None else scales
    return is_floats(x) and 3 <= x.ndim <= 5 and x.size > 0 and by is not None and float(by[0]) == float(by[1]) == 1


def _upsampled(x: Array, scales: Any, mode: str, node: Node) -> Array:
    mode = mode.removeprefix("tri").removeprefix("bi")
    if _upsampling(node, x, scales):
        by = tuple(float(s) for s in scales[2:])
        bounded((*x.shape[:2], *(int(n * s) for n, s in zip(x.shape[2:], by, strict=True))), x.dtype)
        return fastdl.resize(x, None, by, mode, "asymmetric", "floor")
    return _resized(x, None, scales, None, None, mode, "asymmetric", "floor")


@operator("Upsample", "Resize", since=9, sizes=("scales",), kernels=_upsampling)
def upsample(x: Array, scales: Array, *, mode: str = "nearest", node: Node) -> Array:
    return _upsampled(x, scales, mode, node)


@operator("Upsample", since=7, kernels=_upsampling)
def upsample_7(x: Array, *, scales: list[float], mode: str = "nearest", node: Node) -> Array:
    return _upsampled(x, scales, mode, node)


@operator("DotProductAttention", domain="fastdl", kernels=lambda node, *arrays: is_floats(*arrays))
def dot_product_attention(q: Array, k: Array, v: Array, mask: Array | None = None, *, scale: float) -> Array:
    """What fusions make of products and a softmax between them: k is turned. Masks that other shapes follow from, and
    operands that are broadcast, are left to the kernels of which it was."""
    if not is_floats(q, k, v, mask):
        scores = np.matmul(q, k) * scale
        return np.matmul(_soft(scores if mask is None else scores + mask), v)
    turned = k.swapaxes(-1, -2)
    scores_shape = (*q.shape[:-1], k.shape[-1])
    fits = mask is None or (mask.ndim >= 2 and np.broadcast_shapes(mask.shape, scores_shape) == scores_shape)
    if fits and q.ndim >= 2 and q.shape[:-2] == turned.shape[:-2] == v.shape[:-2]:
        return fastdl.scaled_dot_product_attention(q, turned, v, mask, scale=scale)
    scores = fastdl.mul(fastdl.matmul(q, k), scale)
    return fastdl.matmul(fastdl.softmax(scores if mask is None else fastdl.add(scores, mask), -1), v)


def _heads(x: Array, heads: int | None) -> Array:
    """(batch, heads, positions, size)."""
    if x.ndim == 4:
        return x
    if not heads:
        raise ValueError("q_num_heads, kv_num_heads: found none, expected them for inputs of three dimensions")
    return reshaped(x, (*x.shape[:2], heads, x.shape[2] // heads)).swapaxes(1, 2)


_OTHERS = ("qk_matmul_output_mode", "softcap", "softmax_precision")


def _simple(node: Node, query: Any, key: Any, value: Any, mask: Any = None, *others: Any) -> bool:
    """Whether the fused kernel computes it."""
    options = node.attributes
    floats = is_floats(query, key, value) and (mask is None or mask.dtype in (np.bool_, query.dtype))
    none = all(o is None for o in others) and sum(map(bool, node.outputs)) == 1
    windows = max(options.get("left_window_size", -1), options.get("right_window_size", -1)) >= 0
    masked = mask is None or (not options.get("is_causal", 0) and mask.ndim >= 2 and mask.shape[-1] == key.shape[-2])
    return floats and none and masked and not windows and not any(options.get(name) for name in _OTHERS)


def _soft(x: Array) -> Array:
    """Rows of which everything is masked are zero."""
    top = np.max(x, -1, keepdims=True, initial=-np.inf)
    found = np.exp(x - np.where(np.isneginf(top), 0, top))
    total = found.sum(-1, keepdims=True)
    return found / np.where(total == 0, 1, total)


@operator("Attention", kernels=_simple)
def attention(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    nonpad: Array | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    node: Node,
) -> Any:
    dtype = query.dtype
    if _simple(node, query, key, value, mask, past_key, past_value, nonpad):
        heads = _heads(query, q_num_heads), _heads(key, kv_num_heads), _heads(value, kv_num_heads)
        y = fastdl.scaled_dot_product_attention(
            *heads, mask, is_causal=bool(is_causal), scale=scale, enable_gqa=heads[0].shape[1] != heads[1].shape[1]
        )
        return y if query.ndim == 4 else reshaped(y.swapaxes(1, 2), (y.shape[0], y.shape[2], y.shape[1] * y.shape[3]))
    q, k, v = _heads(query, q_num_heads), _heads(key, kv_num_heads), _heads(value, kv_num_heads)
    k = k if past_key is None else np.concatenate((past_key, k), 2)
    v = v if past_value is None else np.concatenate((past_value, v), 2)
    present = np.ascontiguousarray(k), np.ascontiguousarray(v)
    rows, columns = q.shape[2], k.shape[2]
    root = dtype.type(math.sqrt(1 / math.sqrt(q.shape[3]) if scale is None else scale))
    wide = np.float64 if dtype == np.float64 else np.float32
    bias: Any = np.zeros((rows, columns), wide)
    if mask is not None:
        lacking = columns - mask.shape[-1]
        if lacking > 0:
            fill: Any = False if mask.dtype == bool else -np.inf
            mask = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, lacking)], constant_values=fill)
        bias = bias + (np.where(mask, 0, -np.inf) if mask.dtype == bool else mask.astype(wide)).astype(wide)
    offset: Any = 0 if past_key is None else past_key.shape[2]
    if past_key is None and nonpad is not None:
        offset = (nonpad.reshape(-1, 1, 1, 1) - rows).astype(np.int64)
    ahead = np.arange(columns) - np.arange(rows)[:, None] - offset
    allowed = np.ones(ahead.shape, bool)
    if is_causal:
        allowed &= ahead <= 0
    if left_window_size >= 0:
        allowed &= -ahead <= left_window_size
    if right_window_size >= 0:
        allowed &= ahead <= right_window_size
    if nonpad is not None:
        allowed = allowed & (np.arange(columns) < nonpad.reshape(-1, 1, 1, 1))
    bias = bias + np.where(allowed, 0, -np.inf).astype(wide)
    times = q.shape[1] // k.shape[1]
    if times > 1:
        k, v = np.repeat(k, times, 1), np.repeat(v, times, 1)
    scores = np.matmul((q * root).astype(wide), (k * root).astype(wide).swapaxes(2, 3)).astype(dtype).astype(wide)
    if softcap > 0:
        scores = (softcap * np.tanh(scores / softcap)).astype(wide)
    masked = scores + bias
    weights = np.where(np.isneginf(np.max(bias, -1, keepdims=True, initial=-np.inf)), 0, _soft(masked)).astype(dtype)
    shown = (scores, scores, masked, weights)[qk_matmul_output_mode]
    y = np.matmul(weights.astype(wide), v.astype(wide)).astype(dtype)
    if query.ndim == 3:
        y = y.swapaxes(1, 2).reshape(y.shape[0], rows, -1)
    return y, *present, np.broadcast_to(shown, masked.shape).astype(dtype)


@operator("RotaryEmbedding")
def rotary_embedding(
    x: Array,
    cos_cache: Array,
    sin_cache: Array,
    position_ids: Array | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Array:
    turned = x.swapaxes(1, 2) if x.ndim == 4 else x.reshape(*x.shape[:2], num_heads, -1)
    size = rotary_embedding_dim or turned.shape[-1]
    half = size // 2
    cos, sin = (c if position_ids is None else c[position_ids] for c in (cos_cache, sin_cache))
    cos, sin = cos[..., None, :half], sin[..., None, :half]
    part = turned[..., :size]
    one, two = (part[..., 0::2], part[..., 1::2]) if interleaved else (part[..., :half], part[..., half:])
    found = np.array(turned)
    real, imaginary = cos * one - sin * two, sin * one + cos * two
    if interleaved:
        found[..., 0:size:2], found[..., 1:size:2] = real, imaginary
    else:
        found[..., :half], found[..., half:size] = real, imaginary
    return found.swapaxes(1, 2) if x.ndim == 4 else found.reshape(x.shape)
