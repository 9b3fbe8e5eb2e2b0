"""The kernels of csrc/fastdl.h in NumPy, for fastdl.use_backend("numpy"), mostly by the functions of this package.

Parameters are those that fastdl.h declares, arrays are flat, an optional one that is not there is None. What is
returned is a status, or None.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product as combinations
from typing import Any

import numpy as np

from fastdl import _kernels, reference
from fastdl._library import COMPILED
from fastdl.functional.activation.elementwise import ACTIVATION_ARGS
from fastdl.functional.verbs import Array
from fastdl.reference import packing
from fastdl.reference._memory import REALS, at, columns
from fastdl.reference.activation import fused
from fastdl.reference.recurrent import _cell_backward, _cell_unit, _Network, _step
from fastdl.reference.regularization import kept
from fastdl.reference.resize import resized, resized_backward

KERNELS: dict[str, Callable[..., int | None]] = {}
OUT_OF_MEMORY = 1
MOST_STEPS = 2**63 // 64 - 1
"""Of an empty batch: arrays that are empty may have any size."""
BAD_TARGET, BAD_INDEX, BAD_PROBABILITY, BAD_TARGET_PROBABILITY, BAD_LEVEL, BAD_LENGTH, BAD_ROW = 2, 4, 5, 6, 7, 8, 11
BAD_ACTION = 12


def kernel(function: Callable[..., int | None]) -> Callable[..., int | None]:
    KERNELS[function.__name__] = function
    return function


def call(name: str, dtype: int, given: tuple[Any, ...]) -> None:
    """A kernel with what fastdl/functional hands to it; dtype 0: float32, 1: float64."""
    parameters = _kernels.SIGNATURES[name]
    arguments = [_argument(*parameter, value) for parameter, value in zip(parameters, given, strict=True)]
    if name in TABLE_KERNELS:
        arguments.append(REALS[dtype])
    with np.errstate(all="ignore"):
        status = KERNELS[name](*arguments)
    if status:
        _kernels.raise_status(status)


def _argument(c_type: str, name: str, optional: bool, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if name.startswith("strided"):
            return value
        return None if optional and value.size == 0 else value.reshape(-1)
    return int(value) if c_type == "int64_t" else value


TABLE_KERNELS = {"optimizer_step", "grad_norm", "scale_grads"}
"""No argument says the dtype: it comes last."""


# ---- functions that are compiled elsewhere ----


@kernel
def apply(x, grad_output, y, size, function, *parameters):
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64)(function)
    values = np.array(parameters)
    grad = None if grad_output is None else grad_output.ctypes.data
    call(x.ctypes.data, grad, y.ctypes.data, values.ctypes.data, size)


# ---- arrays ----


@kernel
def add(x, y, out, size, alpha):
    out[...] = reference.add(x, y, x.dtype.type(alpha))


@kernel
def fill(y, size, value):
    y[...] = value


@kernel
def copy(strided, y, geometry, rank):
    dimensions = geometry.reshape(rank, 3)
    items = strided.itemsize
    shape, from_, to = dimensions[:, 0], dimensions[:, 1] * items, dimensions[:, 2] * items
    if 0 not in shape:
        view = np.lib.stride_tricks.as_strided
        view(y, shape, to)[...] = view(strided, shape, from_)


def _strided(x: Any, value: float, geometry: Array, column: int, dtype: Any) -> Any:
    """An operand, with the sizes of the result; a number if there is none."""
    if x is None:
        return dtype.type(value)
    return np.lib.stride_tricks.as_strided(x, geometry[:, 0], geometry[:, column] * x.itemsize)


def _chosen(grad: Any, x: Any, y: Any, other: Any) -> Any:
    return np.where(x == y, grad / 2, np.where(other, 0, grad))


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "mul": lambda x, y, z, alpha: x * y,
    "add": lambda x, y, z, alpha: x + alpha * y,
    "div": lambda x, y, z, alpha: x / y,
    "pow": lambda x, y, z, alpha: np.power(x, y),
    "maximum": lambda x, y, z, alpha: np.maximum(x, y),
    "minimum": lambda x, y, z, alpha: np.minimum(x, y),
    "equal": lambda x, y, z, alpha: x == y,
    "where": lambda x, y, z, alpha: np.where(x, y, z),
    "div_grad": lambda g, x, y, alpha: -g * (x / y / y),
    "pow_grad": lambda g, x, y, alpha: np.where(y == 0, 0, g * (y * np.power(x, y - 1))),
    "exponent_grad": lambda g, x, y, alpha: np.where((x == 0) & (y >= 0), 0, g * (np.power(x, y) * np.log(x))),
    "maximum_grad": lambda g, x, y, alpha: _chosen(g, x, y, x < y),
    "minimum_grad": lambda g, x, y, alpha: _chosen(g, x, y, x > y),
    "equal_grad": lambda g, x, y, alpha: g * (x == y),
}


@kernel
def arithmetic(x, y, z, out, geometry, rank, kind, value, alpha):
    geometry = geometry.reshape(rank, 4)
    operands = [_strided(each, value, geometry, 1 + i, out.dtype) for i, each in enumerate((x, y, z))]
    found = _ARITHMETIC[_kernels.ARITHMETIC_NAMES[kind]](*operands, out.dtype.type(alpha))
    out.reshape(geometry[:, 0])[...] = found


@kernel
def where(condition, x, y, out, geometry, rank, value):
    arithmetic(condition.view(np.bool_), x, y, out, geometry, rank, _kernels.ARITHMETIC_WHERE, value, 1.0)


@kernel
def reduce(x, y, geometry, rank, kind, divisor):
    shape, reduced = geometry.reshape(rank, 2).T
    function = (np.sum, np.amax, np.amin)[kind]
    found = function(x.reshape(shape), tuple(np.flatnonzero(reduced)))
    y[...] = (found / y.dtype.type(divisor) if kind == _kernels.REDUCE_SUM else found).reshape(-1)


@kernel
def matmul(strided_a, strided_b, c, geometry, rank, m, n, k, a_row, a_column, b_row, b_column):
    geometry = geometry.reshape(rank, 3)
    if c.size and not k:
        c[...] = 0
    elif c.size:
        a, b = (
            np.lib.stride_tricks.as_strided(x, (*geometry[:, 0], *shape), np.array((*steps, *own)) * x.itemsize)
            for x, shape, steps, own in (
                (strided_a, (m, k), geometry[:, 1], (a_row, a_column)),
                (strided_b, (k, n), geometry[:, 2], (b_row, b_column)),
            )
        )
        c.reshape((*geometry[:, 0], m, n))[...] = a @ b


@kernel
def take(x, index, y, rows, row, count):
    if index.size and (index.min() < 0 or index.max() >= rows):
        return BAD_ROW
    y.reshape(count, row)[...] = x.reshape(rows, row)[index]


@kernel
def take_backward(grad_output, index, grad_input, rows, row, count, padding):
    if index.size and (index.min() < 0 or index.max() >= rows):
        return BAD_ROW
    grad_input[...] = reference.take_backward(grad_output.reshape(count, row), index, rows).ravel()
    if padding >= 0:
        grad_input[padding * row : (padding + 1) * row] = 0


@kernel
def cat(y, arrays, count, outer):
    parts = columns(arrays, 0, y.dtype)
    if outer:
        y.reshape(outer, -1)[...] = np.concatenate([part.reshape(outer, -1) for part in parts], 1)


@kernel
def cat_backward(grad_output, arrays, count, outer):
    begin, rows = 0, grad_output.reshape(outer, -1) if outer else grad_output
    for part in columns(arrays, 1, grad_output.dtype) if outer else ():
        part = part.reshape(outer, -1)
        part[...] = rows[:, begin : begin + part.shape[1]]
        begin += part.shape[1]


# ---- attention ----


def _attended(query, key, value, allowed, bias, geometry, heads, scale, keep, seed, offset):
    """The arguments of the function that computes the same."""
    h = _kernels.Heads(*heads)
    mask = allowed if bias is None else bias
    if mask is not None:
        dimensions = geometry.reshape(-1, 2)[: h.mask_rank]
        shape = (*dimensions[:, 0], h.queries, h.keys)
        steps = np.array([*dimensions[:, 1], h.mask_row, h.mask_key]) * mask.itemsize
        mask = np.lib.stride_tricks.as_strided(mask, shape, steps).reshape(h.heads, h.queries, h.keys)
    return {
        "query": query.reshape(h.heads, h.queries, h.width),
        "key": key.reshape(h.heads // h.group, h.keys, h.width),
        "value": value.reshape(h.heads // h.group, h.keys, h.value_width),
        "attn_mask": mask,
        "dropout_p": 1 - keep,
        "is_causal": bool(h.causal),
        "scale": scale,
        "seed": seed,
        "offset": offset,
    }


@kernel
def attention(query, key, value, allowed, bias, y, logsumexp, geometry, heads, scale, keep, seed, offset):
    given = _attended(query, key, value, allowed, bias, geometry, heads, scale, keep, seed, offset)
    result, saved = reference.scaled_dot_product_attention(**given, return_saved=True)
    y[...] = result.ravel()
    if logsumexp is not None:
        logsumexp[...] = saved.ravel()


@kernel
def attention_backward(
    grad_output,
    query,
    key,
    value,
    allowed,
    bias,
    y,
    logsumexp,
    grad_query,
    grad_key,
    grad_value,
    geometry,
    heads,
    scale,
    keep,
    seed,
    offset,
):
    given = _attended(query, key, value, allowed, bias, geometry, heads, scale, keep, seed, offset)
    rows = given["query"].shape[:2]
    grad, result = (array.reshape(*rows, heads[5]) for array in (grad_output, y))
    found = reference.scaled_dot_product_attention_backward(grad, y=result, saved=logsumexp.reshape(rows), **given)
    for into, one in zip((grad_query, grad_key, grad_value), found, strict=True):
        into[...] = one.ravel()


# ---- images of other sizes ----


@kernel
def resize(x, y, volumes, mode, coordinates, nearest, scale_depth, scale_height, scale_width, cubic, exclude_outside):
    scales = scale_depth, scale_height, scale_width
    options = mode, coordinates, nearest, cubic, exclude_outside
    y[...] = resized(x.reshape(volumes[:4]), volumes[4:], scales, options).ravel()


@kernel
def resize_backward(
    grad_output,
    grad_input,
    volumes,
    mode,
    coordinates,
    nearest,
    scale_depth,
    scale_height,
    scale_width,
    cubic,
    exclude_outside,
):
    scales = scale_depth, scale_height, scale_width
    options = mode, coordinates, nearest, cubic, exclude_outside
    grad = grad_output.reshape(volumes[0], *volumes[4:])
    grad_input[...] = resized_backward(grad, volumes[1:4], scales, options).ravel()


# ---- activations ----

_OVERFLOW = "hardswish", "gelu_tanh"
"""On the way to a result that does not."""


def _activation(activation, alpha, beta):
    name = _kernels.ACTIVATION_NAMES[activation]
    return name, (alpha, beta)[: ACTIVATION_ARGS[activation][0]]


@kernel
def elementwise(x, y, size, activation, alpha, beta):
    x = x.astype(np.float64) if _kernels.ACTIVATION_NAMES[activation] in _OVERFLOW else x
    y[...] = fused(x, *_activation(activation, alpha, beta))


@kernel
def elementwise_backward(grad_output, x, grad_input, size, activation, alpha, beta):
    name, arguments = _activation(activation, alpha, beta)
    x = x.astype(np.float64) if name in _OVERFLOW else x
    if name == "gelu_tanh":
        name, arguments = "gelu", ("tanh",)
    arguments = arguments[:1] if name == "threshold" else arguments
    grad_input[...] = getattr(reference, f"{name}_backward")(grad_output, x, *arguments)


@kernel
def prelu(x, weight, y, outer, channels, inner, weights):
    y[...] = reference.prelu(x.reshape(outer, channels, inner), weight).ravel()


@kernel
def prelu_backward(grad_output, x, weight, grad_input, grad_weight, outer, channels, inner, weights):
    shape = outer, channels, inner
    grad_input[...], grad_weight[...] = map(
        np.ravel, reference.prelu_backward(grad_output.reshape(shape), x.reshape(shape), weight)
    )


@kernel
def softmax(x, y, outer, classes, inner):
    y[...] = reference.softmax(x.reshape(outer, classes, inner), 1).ravel()


@kernel
def softmax_backward(grad_output, y, grad_input, outer, classes, inner):
    shape = outer, classes, inner
    grad_input[...] = reference.softmax_backward(grad_output.reshape(shape), y.reshape(shape), 1).ravel()


@kernel
def log_softmax(x, y, outer, classes, inner):
    y[...] = reference.log_softmax(x.reshape(outer, classes, inner), 1).ravel()


@kernel
def log_softmax_backward(grad_output, y, grad_input, outer, classes, inner):
    shape = outer, classes, inner
    grad_input[...] = reference.log_softmax_backward(grad_output.reshape(shape), y.reshape(shape), 1).ravel()


@kernel
def glu(x, y, outer, inner):
    y[...] = reference.glu(x.reshape(outer, 2, inner), 1).ravel()


@kernel
def glu_backward(grad_output, x, grad_input, outer, inner):
    grads = reference.glu_backward(grad_output.reshape(outer, 1, inner), x.reshape(outer, 2, inner), 1)
    grad_input[...] = grads.ravel()


# ---- linear ----


@kernel
def linear(x, weight, bias, y, rows, in_features, out_features, packed, activation, alpha, beta):
    weight = packing.linear_weight(weight, in_features, out_features) if packed else weight
    result = x.reshape(rows, in_features) @ weight.reshape(out_features, in_features).T
    result = result if bias is None else result + bias
    y.reshape(rows, out_features)[...] = fused(result, *_activation(activation, alpha, beta))


@kernel
def linear_backward(grad_output, x, weight, grad_x, grad_weight, grad_bias, rows, in_features, out_features, added):
    g = grad_output.reshape(rows, out_features)
    if grad_x is not None:
        sums = (g @ weight.reshape(out_features, in_features)).ravel()
        grad_x[...] = sums + grad_x if added & _kernels.ADDED_X else sums
    if grad_weight is not None:
        sums = (g.T @ x.reshape(rows, in_features)).ravel()
        grad_weight[...] = sums + grad_weight if added & _kernels.ADDED_WEIGHT else sums
    if grad_bias is not None:
        sums = g.sum(0, dtype=np.float64)
        grad_bias[...] = sums + grad_bias if added & _kernels.ADDED_BIAS else sums


# ---- packed weights: as C has them, where it is ----


def _packs(name: str) -> None:
    def in_c(*arguments: Any) -> None:
        packing.pack(name, *arguments)

    in_c.__name__ = name
    kernel(in_c)


def _plain_size(weight, size, *_):
    size[0] = weight.size


def _plain_plan(x, plan, *_):
    plan[:] = _kernels.ALGORITHM_DIRECT, 0, -1, 0


def _plain_pack(weight, packed, *_):
    packed[: weight.size] = weight


if COMPILED:
    for _name in ("linear_packed_size", "linear_pack", "conv_packed_size", "conv_pack", "conv_plan"):
        _packs(_name)
else:
    KERNELS |= dict.fromkeys(("linear_packed_size", "conv_packed_size"), _plain_size)
    KERNELS |= dict.fromkeys(("linear_pack", "conv_pack"), _plain_pack)
    KERNELS["conv_plan"] = _plain_plan


# ---- windows: what each tap sees, at all positions ----


@lru_cache(256)
def _axis(
    size: int, out: int, kernel_size: int, stride: int, padding: int, padding_end: int, dilation: int
) -> tuple[Array, Array, Array]:
    """Along one dimension, for each position and tap: the index, whether it is inside, and whether it counts as padding
    or inside. A stride of 0: adaptive windows."""
    if stride == 0:
        places = np.arange(out)
        starts, ends = places * size // max(out, 1), -(-(places + 1) * size // max(out, 1))
        index = starts[:, None] + np.arange((ends - starts).max(initial=0))
        inside = counted = index < ends[:, None]
    else:
        index = np.arange(out)[:, None] * stride - padding + np.arange(kernel_size) * dilation
        inside, counted = (index >= 0) & (index < size), (index >= -padding) & (index < size + padding_end)
    return np.clip(index, 0, max(size - 1, 0)), inside, counted


def _axes(w: Any) -> list[tuple[Array, Array, Array]]:
    return [
        _axis(
            *(getattr(w, name) for name in (side, f"out_{side}")),
            *(getattr(w, f"{name}_{side}") for name in ("kernel", "stride", "padding", "padding_end", "dilation")),
        )
        for side in ("depth", "height", "width")
    ]


def _taps(w: Any) -> Iterator[tuple[Any, Any, Array, Array]]:
    """Of each: its place in the kernel, indices to see through, and where that is inside, and where it counts."""
    axes = _axes(w)
    for tap in combinations(*(range(index.shape[1]) for index, _, _ in axes)):
        sides = [[part[:, t] for part in axis] for axis, t in zip(axes, tap, strict=True)]
        index, inside, counted = ((d[:, None, None], h[:, None], w_) for d, h, w_ in zip(*sides, strict=True))
        yield tap, (..., *index), inside[0] & inside[1] & inside[2], counted[0] & counted[1] & counted[2]


def _volumes(x: Any, w: Any, of_output: bool = False) -> Any:
    """[batch, channels, depth, height, width], of the input or of the output."""
    if x is None:
        return None
    names = ("out_depth", "out_height", "out_width") if of_output else ("depth", "height", "width")
    sizes = tuple(getattr(w, name) for name in names)
    channels = w.out_channels if of_output else w.channels
    if w.channels_last:
        return np.moveaxis(x.reshape(w.batch, *sizes, channels), -1, 1)
    return x.reshape(w.batch, channels, *sizes)


def _pooled(x: Any, w: Any) -> Any:
    return _volumes(x, w._replace(out_channels=w.channels), True)


# ---- convolution ----


def _grouped(x: Any, w: Any) -> Any:
    """[batch, groups, channels / groups, positions]"""
    return x.reshape(w.batch, w.groups, x.shape[1] // w.groups, x.shape[2] * x.shape[3] * x.shape[4])


def _by_tap(weight: Array, w: Any) -> Array:
    """[depth, height, width, groups, out / groups, channels / groups], a view"""
    kernel_sizes = w.kernel_depth, w.kernel_height, w.kernel_width
    whole = weight.reshape(w.groups, w.out_channels // w.groups, w.channels // w.groups, *kernel_sizes)
    return np.moveaxis(whole, (3, 4, 5), (0, 1, 2))


def _convolved(x: Array, weight: Array, w: Any) -> Array:
    """Of volumes."""
    y = np.zeros((w.batch, w.out_channels, w.out_depth, w.out_height, w.out_width), x.dtype)
    of_taps, sums = _by_tap(weight, w), _grouped(y, w)
    if y.size and x.size:
        for tap, seen, inside, _ in _taps(w):
            sums += of_taps[tap] @ _grouped(np.where(inside, x[seen], 0), w)
    return y


def _adjoint(g: Array, weight: Array, w: Any) -> Array:
    x = np.zeros((w.batch, w.channels, w.depth, w.height, w.width), g.dtype)
    if g.size and x.size:
        of_taps, grouped = _by_tap(weight, w), _grouped(g, w)
        for tap, seen, inside, _ in _taps(w):
            part = (of_taps[tap].swapaxes(1, 2) @ grouped).reshape(*x.shape[:2], *inside.shape)
            np.add.at(x, seen, np.where(inside, part, 0)) if w.stride_depth == 0 else _add(x, seen, part, inside)
    return x


def _add(x: Array, seen: Any, part: Array, inside: Array) -> None:
    """x[seen] += part, whose places differ where they are inside; those outside, which do not count, are others'."""
    planes, rows, places = (np.flatnonzero(inside.any(axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    if planes.size and rows.size and places.size:
        chosen: Any = np.ix_(planes, rows, places)
        _, depth, height, width = seen
        x[..., depth[planes], height[rows], width[places]] += part[(..., *chosen)]


def _weight_grad(g: Array, x: Array, grad_weight: Array, w: Any) -> None:
    grads, grouped = _by_tap(grad_weight, w), _grouped(g, w)
    grad_weight[...] = 0
    if g.size and x.size:
        for tap, seen, inside, _ in _taps(w):
            grads[tap] = (grouped @ _grouped(np.where(inside, x[seen], 0), w).swapaxes(2, 3)).sum(0)


@kernel
def conv(
    x, weight, packed, bias, residual, y, window, packed_tile, activation, alpha, beta, algorithm, precision
):  # fmt: skip
    w = window
    if packed is not None:
        weight = packing.conv_weight(packed, w, packed_tile)
    elif weight is None:
        weight = np.empty(0, x.dtype)
    result = _convolved(_volumes(x, w), weight, w)
    if bias is not None:
        result += bias.reshape(-1, 1, 1, 1)
    if residual is not None:
        result += _volumes(residual, w, True)
    _volumes(y, w, True)[...] = fused(result, *_activation(activation, alpha, beta))


@kernel
def conv_backward(grad_output, x, weight, grad_x, grad_weight, grad_bias, window, algorithm, precision):
    w, g = window, _volumes(grad_output, window, True)
    if grad_x is not None:
        _volumes(grad_x, w)[...] = _adjoint(g, weight, w)
    if grad_weight is not None:
        _weight_grad(g, _volumes(x, w), grad_weight, w)
    if grad_bias is not None:
        grad_bias[...] = g.sum((0, 2, 3, 4), dtype=np.float64)


@kernel
def conv_transpose(x, weight, bias, y, window, activation, alpha, beta, precision):
    result = _adjoint(_volumes(x, window, True), weight, window)
    if bias is not None:
        result += bias.reshape(-1, 1, 1, 1)
    _volumes(y, window)[...] = fused(result, *_activation(activation, alpha, beta))


@kernel
def conv_transpose_backward(grad_output, x, weight, grad_x, grad_weight, grad_bias, window, precision):
    w, g = window, _volumes(grad_output, window)
    if grad_x is not None:
        _volumes(grad_x, w, True)[...] = _convolved(g, weight, w)
    if grad_weight is not None:
        _weight_grad(_volumes(x, w, True), g, grad_weight, w)
    if grad_bias is not None:
        grad_bias[...] = g.sum((0, 2, 3, 4), dtype=np.float64)


def _columns(columns: Array, w: Any) -> Array:
    taps = w.kernel_depth, w.kernel_height, w.kernel_width
    return columns.reshape(w.batch, w.channels, *taps, w.out_depth, w.out_height, w.out_width)


@kernel
def im2col(x, columns, window):
    result, x = _columns(columns, window), _volumes(x, window)
    for tap, seen, inside, _ in _taps(window) if x.size and columns.size else ():
        result[(slice(None), slice(None), *tap)] = np.where(inside, x[seen], 0)


@kernel
def col2im(columns, x, window):
    given, result = _columns(columns, window), _volumes(x, window)
    result[...] = 0
    for tap, seen, inside, _ in _taps(window) if x.size and columns.size else ():
        _add(result, seen, given[(slice(None), slice(None), *tap)], inside)


# ---- pooling ----


def _winners(x: Array, w: Any) -> tuple[Array, Array]:
    """The largest value of each window and its position, -1 where there is none: the first of equals, the last NaN."""
    shape = (*x.shape[:2], w.out_depth, w.out_height, w.out_width)
    best, where = np.full(shape, -np.inf, x.dtype), np.full(shape, -1)
    positions = np.arange(w.depth * w.height * w.width).reshape(w.depth, w.height, w.width)
    for _, seen, inside, _ in _taps(w):
        value = x[seen]
        better = inside & ((value > best) | np.isnan(value) | (where < 0))
        best, where = np.where(better, value, best), np.where(better, positions[seen], where)
    return best, where


@kernel
def max_pool(x, y, indices, window):
    if y.size == 0:
        return
    best, where = _winners(_volumes(x, window), window)
    _pooled(y, window)[...] = best
    if indices is not None:
        _pooled(indices, window)[...] = where


@kernel
def max_pool_backward(grad_output, x, indices, grad_input, window):
    if grad_output.size == 0:
        grad_input[...] = 0
        return None
    w, g = window, _pooled(grad_output, window)
    where = _winners(_volumes(x, w), w)[1] if indices is None else _pooled(indices, w)
    if where.max() >= w.depth * w.height * w.width or where.min() < -1:
        return BAD_INDEX
    grad = np.zeros((w.batch * w.channels, w.depth * w.height * w.width), grad_input.dtype)
    planes = np.arange(len(grad))[:, None]
    where, g = where.reshape(len(grad), -1), g.reshape(len(grad), -1)
    np.add.at(grad, (planes, np.maximum(where, 0)), np.where(where < 0, 0, g))
    to = _volumes(grad_input, w)
    to[...] = grad.reshape(to.shape)


@kernel
def max_unpool(x, indices, y, planes, positions, volume):
    if indices.size and (indices.min() < 0 or indices.max() >= volume):
        return BAD_INDEX
    y[...] = 0
    if indices.size:
        np.put_along_axis(y.reshape(planes, volume), indices.reshape(planes, -1), x.reshape(planes, -1), 1)


@kernel
def max_unpool_backward(grad_output, indices, grad_input, planes, positions, volume):
    if indices.size and (indices.min() < 0 or indices.max() >= volume):
        return BAD_INDEX
    if indices.size:
        taken = np.take_along_axis(grad_output.reshape(planes, volume), indices.reshape(planes, -1), 1)
        grad_input[...] = taken.ravel()


def _divisors(w: Any, count_include_pad: int, divisor_override: int) -> Any:
    if divisor_override:
        return divisor_override
    return np.maximum(
        1, sum((counted if count_include_pad else inside).astype(int) for *_, inside, counted in _taps(w))
    )


def _summed(x: Array, w: Any) -> Array:
    total = np.zeros((*x.shape[:2], w.out_depth, w.out_height, w.out_width))
    for _, seen, inside, _ in _taps(w):
        total += np.where(inside, x[seen], 0)
    return total


def _spread(g: Array, w: Any) -> Array:
    """g in each of the elements that its window sees."""
    x = np.zeros((*g.shape[:2], w.depth, w.height, w.width))
    adaptive = 0 in (w.stride_depth, w.stride_height, w.stride_width)
    for _, seen, inside, _ in _taps(w):
        np.add.at(x, seen, np.where(inside, g, 0)) if adaptive else _add(x, seen, g, inside)
    return x


@kernel
def avg_pool(x, y, window, count_include_pad, divisor_override):
    if y.size:
        divisors = _divisors(window, count_include_pad, divisor_override)
        _pooled(y, window)[...] = _summed(_volumes(x, window), window) / divisors


@kernel
def avg_pool_backward(grad_output, grad_input, window, count_include_pad, divisor_override):
    grad_input[...] = 0
    if grad_output.size:
        each = _pooled(grad_output, window) / _divisors(window, count_include_pad, divisor_override)
        _volumes(grad_input, window)[...] = _spread(each, window)


def _power(x: Array, p: float) -> Array:
    return 1 / np.sqrt(x) if p == -0.5 else x**p


def _share_seen(w: Any) -> Any:
    """What a window at the border, beyond padding, counts more than it sees (torch's, with ceil_mode)."""
    return w.kernel_depth * w.kernel_height * w.kernel_width / _divisors(w, 1, 0)


def _sums_of_powers(x: Array, p: float, w: Any) -> Array:
    return _summed(_power(x, p), w) * _share_seen(w)


@kernel
def lp_pool(x, y, window, norm_type):
    if y.size:
        total = _sums_of_powers(_volumes(x, window).astype(np.float64), norm_type, window)
        _pooled(y, window)[...] = _power(total, 1 / norm_type)


@kernel
def lp_pool_backward(grad_output, x, grad_input, window, norm_type):
    grad_input[...] = 0
    if grad_output.size:
        x, p = _volumes(x, window).astype(np.float64), norm_type
        total = _sums_of_powers(x, p, window)
        grad = _pooled(grad_output, window) * _power(total, 1 / p - 1) * _share_seen(window)
        grad = np.where(total == 0, 0, np.where(np.isnan(total), 0 * grad, grad))
        _volumes(grad_input, window)[...] = _power(x, p - 1) * _spread(grad, window)


# ---- padding ----


def _padding(geometry: Array, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rows = geometry.reshape(rank, 3).tolist()
    return tuple(row[0] for row in rows), tuple(n for row in reversed(rows) for n in row[1:])


@kernel
def pad(x, y, geometry, rank, mode, value):
    shape, sides = _padding(geometry, rank)
    if y.size:
        y[...] = reference.pad(x.reshape(shape), sides, _kernels.PAD_NAMES[mode], value).ravel()


@kernel
def pad_backward(grad_output, grad_input, geometry, rank, mode):
    shape, sides = _padding(geometry, rank)
    padded = [n + sum(around) for n, around in zip(shape, geometry.reshape(rank, 3)[:, 1:], strict=True)]
    grad_input[...] = reference.pad_backward(grad_output.reshape(padded), sides, _kernels.PAD_NAMES[mode]).ravel()


# ---- norms, in double ----


def _statistics_of(x: Array, kind: int) -> tuple[int, ...]:
    """The axes of [batch, groups, channels, inner] that a mean is taken over."""
    return (0, 2, 3) if kind in (_kernels.NORM_BATCH, _kernels.NORM_FIXED) else (2, 3)


def _moments(x: Array, kind: int, eps: float) -> tuple[Array, Array, Array, Array]:
    """mean, deviations from it, variance, rstd"""
    axes = _statistics_of(x, kind)
    count = max(1, int(np.prod([x.shape[axis] for axis in axes])))
    mean, apart = np.zeros(()), x
    if kind != _kernels.NORM_RMS:
        mean = x.sum(axes, keepdims=True) / count
        apart = x - mean
        apart = apart - apart.sum(axes, keepdims=True) / count  # freed of what rounding the mean has cost them
    variance = (apart**2).sum(axes, keepdims=True) / count
    return mean, apart, variance, 1 / np.sqrt(variance + eps)


def _channelwise(vector: Any, groups: int, channels: int, default: float) -> Any:
    return default if vector is None else vector.astype(np.float64).reshape(1, groups, channels, 1)


@kernel
def normalize(
    x, fixed_mean, fixed_var, running_mean, running_var, weight, bias, y, mean, rstd, batch, groups, channels, inner,
    kind, momentum, eps,
):  # fmt: skip
    wide = x.astype(np.float64).reshape(batch, groups, channels, inner)
    if kind == _kernels.NORM_FIXED:
        average, variance = (_channelwise(v, groups, 1, 0) for v in (fixed_mean, fixed_var))
        apart, inverse = wide - average, 1 / np.sqrt(variance + eps)
    else:
        average, apart, variance, inverse = _moments(wide, kind, eps)
    count = int(np.prod([wide.shape[axis] for axis in _statistics_of(wide, kind)]))
    if running_mean is not None and count and batch:
        means, variances = (np.broadcast_to(v, (v.shape[0], groups, 1, 1)).mean((0, 2, 3)) for v in (average, variance))
        running_mean[...] = (1 - momentum) * running_mean.astype(np.float64) + momentum * means
        unbiased = np.float64(count) / np.float64(count - 1)
        running_var[...] = (1 - momentum) * running_var.astype(np.float64) + momentum * variances * unbiased
    result = apart * inverse * _channelwise(weight, groups, channels, 1) + _channelwise(bias, groups, channels, 0)
    y[...] = result.ravel()
    for to, found in ((mean, average), (rstd, inverse)):
        if to is not None:
            to[: found.size] = found.ravel()


@kernel
def normalize_backward(
    grad_output, x, running_mean, running_var, weight, mean, rstd, grad_input, grad_weight, grad_bias, batch, groups,
    channels, inner, kind, eps,
):  # fmt: skip
    shape = batch, groups, channels, inner
    g, wide = grad_output.astype(np.float64).reshape(shape), x.astype(np.float64).reshape(shape)
    axes = _statistics_of(wide, kind)
    if kind == _kernels.NORM_FIXED:
        average, variance = (_channelwise(v, groups, 1, 0) for v in (running_mean, running_var))
        z, inverse = (wide - average) / np.sqrt(variance + eps), 1 / np.sqrt(variance + eps)
    elif rstd is None:
        _, apart, _, inverse = _moments(wide, kind, eps)
        z = apart * inverse
    else:
        of_statistics = (1 if 0 in axes else batch, groups, 1, 1)
        inverse = rstd.reshape(of_statistics)
        z = (wide - (0 if mean is None else mean.reshape(of_statistics))) * inverse
    h = g * _channelwise(weight, groups, channels, 1)
    if kind == _kernels.NORM_FIXED:
        grad = h * inverse
    else:
        count = max(1, int(np.prod([wide.shape[axis] for axis in axes])))
        centre = 0 if kind == _kernels.NORM_RMS else h.sum(axes, keepdims=True) / count
        grad = inverse * (h - centre - z * ((h * z).sum(axes, keepdims=True) / count))
    grad_input[...] = grad.ravel()
    if grad_weight is not None:
        grad_weight[...] = (g * z).sum((0, 3)).ravel()
    if grad_bias is not None:
        grad_bias[...] = g.sum((0, 3)).ravel()


@kernel
def fuse_norm(
    weight, bias, fixed_mean, fixed_var, norm_weight, norm_bias, fused_weight, fused_bias, out, inner, eps
):  # fmt: skip
    arrays = [None if v is None else v.astype(np.float64) for v in (bias, norm_weight, norm_bias)]
    wide = [v.astype(np.float64) for v in (weight, fixed_mean, fixed_var)]
    scaled, shifted = reference.fuse_conv_bn_weights(
        wide[0].reshape(out, inner), arrays[0], wide[1], wide[2], eps, arrays[1], arrays[2]
    )
    fused_weight[...], fused_bias[...] = scaled.ravel(), shifted


# ---- losses ----


def _reduce(losses: Array, loss: Array, reduction: int, divisor: float) -> None:
    if reduction == _kernels.REDUCTION_NONE:
        loss[...] = losses.ravel()
    else:
        loss[...] = losses.sum(dtype=np.float64) / np.float64(divisor)


def _divisor(reduction: int, size: float, batch: int = 1) -> float:
    return {_kernels.REDUCTION_MEAN: size, _kernels.REDUCTION_BATCHMEAN: batch}.get(reduction, 1)


def _elementwise_loss(kind: int, parameter: float, weight: Any, pos_weight: Any) -> tuple[str, dict[str, Any]]:
    name = _kernels.LOSS_NAMES[kind]
    options: dict[str, Any] = {
        "huber": {"delta": parameter},
        "smooth_l1": {"beta": parameter},
        "hinge_embedding": {"margin": parameter},
        "binary_cross_entropy": {"weight": weight},
        "binary_cross_entropy_with_logits": {"weight": weight, "pos_weight": pos_weight},
        "kl_div_log_target": {"log_target": True},
    }.get(name, {})
    plain = name.removesuffix("_log_target")
    return (plain if plain.startswith(("binary", "kl")) else f"{plain}_loss"), options | {"reduction": "none"}


def _bad_probabilities(x: Array, target: Array, kind: int) -> int | None:
    if kind == _kernels.LOSS_BINARY_CROSS_ENTROPY:
        for status, array in ((BAD_PROBABILITY, x), (BAD_TARGET_PROBABILITY, target)):
            if not ((array >= 0) & (array <= 1)).all():
                return status
    return None


@kernel
def elementwise_loss(x, target, weight, pos_weight, loss, size, batch, kind, parameter, reduction):
    if status := _bad_probabilities(x, target, kind):
        return status
    name, options = _elementwise_loss(kind, parameter, weight, pos_weight)
    _reduce(getattr(reference, name)(x, target, **options), loss, reduction, _divisor(reduction, size, batch))


@kernel
def elementwise_loss_backward(
    grad_output, x, target, weight, pos_weight, grad_input, size, batch, kind, parameter, reduction
):  # fmt: skip
    if status := _bad_probabilities(x, target, kind):
        return status
    name, options = _elementwise_loss(kind, parameter, weight, pos_weight)
    grad = grad_output / max(1, _divisor(reduction, size, batch))
    grad_input[...] = getattr(reference, f"{name}_backward")(grad.astype(x.dtype), x, target, **options)


def _bad_target(target: Array, classes: int, ignore_index: int) -> bool:
    return bool(((target != ignore_index) & ((target < 0) | (target >= classes))).any())


@kernel
def nll_loss(x, target, weight, loss, outer, classes, inner, ignore_index, reduction):
    if _bad_target(target, classes, ignore_index):
        return BAD_TARGET
    given = x.reshape(outer, classes, inner), target.reshape(outer, inner), weight, ignore_index
    loss[...] = reference.nll_loss(*given, _kernels.REDUCTION_NAMES[reduction]).ravel()


@kernel
def nll_loss_backward(grad_output, target, weight, grad_input, outer, classes, inner, ignore_index, reduction):
    if _bad_target(target, classes, ignore_index):
        return BAD_TARGET
    x = np.zeros((outer, classes, inner), grad_input.dtype)  # whose values do not matter
    g = grad_output.reshape(outer, inner) if reduction == _kernels.REDUCTION_NONE else grad_output[0]
    given = g, x, target.reshape(outer, inner), weight, ignore_index, _kernels.REDUCTION_NAMES[reduction]
    grad_input[...] = reference.nll_loss_backward(*given).ravel()


@kernel
def cross_entropy(
    x, target, probabilities, weight, grad_output, loss, grad_input, outer, classes, inner, ignore_index,
    label_smoothing, reduction,
):  # fmt: skip
    shape = outer, classes, inner
    if target is not None and _bad_target(target, classes, ignore_index):
        return BAD_TARGET
    if probabilities is not None:
        goal = probabilities.reshape(shape)
    else:
        goal = np.empty((outer, inner), np.int64) if target is None else target.reshape(outer, inner)
    given = x.reshape(shape), goal, weight, ignore_index, _kernels.REDUCTION_NAMES[reduction], label_smoothing
    if loss is not None:
        loss[...] = reference.cross_entropy(*given).ravel()
    if grad_input is not None:
        each = reduction == _kernels.REDUCTION_NONE
        g = np.ones(outer * inner if each else 1, x.dtype) if grad_output is None else grad_output
        grads = reference.cross_entropy_backward(g.reshape(outer, inner) if each else g[0], *given)
        grad_input[...] = grads.ravel()


@kernel
def cosine_embedding_loss(x1, x2, target, loss, rows, features, margin, reduction):
    given = x1.reshape(rows, features), x2.reshape(rows, features), target
    losses = reference.cosine_embedding_loss(*given, margin, "none")
    _reduce(losses, loss, reduction, _divisor(reduction, rows))


@kernel
def cosine_embedding_loss_backward(
    grad_output, x1, x2, target, grad_x1, grad_x2, rows, features, margin, reduction
):  # fmt: skip
    grad = (grad_output / max(1, _divisor(reduction, rows))).astype(x1.dtype)
    given = np.broadcast_to(grad, rows), x1.reshape(rows, features), x2.reshape(rows, features), target
    grads = reference.cosine_embedding_loss_backward(*given, margin, "none")
    grad_x1[...], grad_x2[...] = (np.ravel(g) for g in grads)


# ---- policies: over time ----


@kernel
def discounted_returns(reward, done, bootstrap, returns, steps, columns, gamma):
    shape = steps, columns
    returns[...] = reference.discounted_returns(
        reward.reshape(shape), done.reshape(shape), gamma=gamma, bootstrap=bootstrap
    ).ravel()


@kernel
def discounted_returns_backward(grad_output, done, grad_reward, grad_bootstrap, steps, columns, gamma):
    shape = steps, columns
    grads = reference.discounted_returns_backward(grad_output.reshape(shape), done.reshape(shape), gamma=gamma)
    grad_reward[...], grad_bootstrap[...] = (g.ravel() for g in grads)


@kernel
def gae(
    reward, state_value, next_state_value, terminated, done, advantage, value_target, steps, columns, gamma, lmbda
):  # fmt: skip
    given = [a.reshape(steps, columns) for a in (reward, state_value, next_state_value, terminated, done)]
    found = reference.gae(*given, gamma=gamma, lmbda=lmbda)
    advantage[...], value_target[...] = (a.ravel() for a in found)


@kernel
def gae_backward(
    grad_advantage, grad_value_target, terminated, done, grad_reward, grad_state_value, grad_next_state_value, steps,
    columns, gamma, lmbda,
):  # fmt: skip
    given = [a.reshape(steps, columns) for a in (grad_advantage, grad_value_target, terminated, done)]
    grads = reference.gae_backward(*given, gamma=gamma, lmbda=lmbda)
    grad_reward[...], grad_state_value[...], grad_next_state_value[...] = (g.ravel() for g in grads)


@kernel
def vtrace(
    log_rho, reward, state_value, next_state_value, terminated, done, advantage, value_target, steps, columns, gamma,
    lmbda, rho_threshold, c_threshold,
):  # fmt: skip
    arrays = log_rho, reward, state_value, next_state_value, terminated, done
    options = {"gamma": gamma, "lmbda": lmbda, "rho_threshold": rho_threshold, "c_threshold": c_threshold}
    found = reference.vtrace(*[a.reshape(steps, columns) for a in arrays], **options)
    advantage[...], value_target[...] = (a.ravel() for a in found)


# ---- policies: distributions ----


def _bad_action(action: Any, actions: int) -> bool:
    return action is not None and bool(((action < 0) | (action >= actions)).any())


@kernel
def categorical(logits, action, log_prob, entropy, rows, actions):
    if _bad_action(action, actions):
        return BAD_ACTION
    logits = logits.reshape(rows, actions)
    if log_prob is not None:
        log_prob[...] = reference.categorical_log_prob(logits, action)
    if entropy is not None:
        entropy[...] = reference.categorical_entropy(logits)


@kernel
def categorical_backward(grad_log_prob, grad_entropy, logits, action, grad_logits, rows, actions):
    if _bad_action(action, actions):
        return BAD_ACTION
    logits, to = logits.reshape(rows, actions), grad_logits.reshape(rows, actions)
    to[...] = 0
    if grad_log_prob is not None:
        to += reference.categorical_log_prob_backward(grad_log_prob, logits, action)
    if grad_entropy is not None:
        to += reference.categorical_entropy_backward(grad_entropy, logits)


@kernel
def categorical_policy_loss(
    grad_output, logits, action, advantage, old_log_prob, loss, grad_logits, rows, actions, clip, entropy_weight
):  # fmt: skip
    if _bad_action(action, actions):
        return BAD_ACTION
    given = logits.reshape(rows, actions), action, advantage, old_log_prob
    options = {"clip": clip, "entropy_weight": entropy_weight}
    if loss is not None:
        loss[...] = reference.categorical_policy_loss(*given, **options)
    if grad_logits is not None:
        grad_logits[...] = reference.categorical_policy_loss_backward(grad_output[0], *given, **options).ravel()


def _distribution(mean: Array, log_std: Array, action: Array, rows: int, columns: int, own: int) -> tuple[Array, ...]:
    shape = rows, columns
    return mean.reshape(shape), log_std.reshape(shape if own else columns), action.reshape(shape)


@kernel
def normal_log_prob(mean, log_std, action, log_prob, rows, columns, own):
    log_prob[...] = reference.normal_log_prob(*_distribution(mean, log_std, action, rows, columns, own))


@kernel
def normal_log_prob_backward(grad_output, mean, log_std, action, grad_mean, grad_log_std, rows, columns, own):
    given = _distribution(mean, log_std, action, rows, columns, own)
    grad_mean[...], grad_log_std[...] = (g.ravel() for g in reference.normal_log_prob_backward(grad_output, *given))


@kernel
def normal_policy_loss(
    grad_output, mean, log_std, action, advantage, old_log_prob, loss, grad_mean, grad_log_std, rows, columns, own,
    clip, entropy_weight,
):  # fmt: skip
    given = *_distribution(mean, log_std, action, rows, columns, own), advantage, old_log_prob
    options = {"clip": clip, "entropy_weight": entropy_weight}
    if loss is not None:
        loss[...] = reference.normal_policy_loss(*given, **options)
    if grad_log_std is not None:
        grads = reference.normal_policy_loss_backward(grad_output[0], *given, **options)
        grad_log_std[...] = grads.log_std.ravel()
        if grad_mean is not None:
            grad_mean[...] = grads.mean.ravel()


# ---- optimizers ----


def _step_kernel(name: str) -> None:
    names = [parameter for _, parameter, _ in _kernels.SIGNATURES[name]]

    def step_(*arguments: Any) -> None:
        given = dict(zip(names, arguments, strict=True))
        del given["size"]
        if "beta1" in given:
            given["betas"] = given.pop("beta1"), given.pop("beta2")
        getattr(reference, name)(**given)

    step_.__name__ = name
    kernel(step_)


for _name in _kernels.OPTIMIZER_NAMES:
    if _name != "clip":
        _step_kernel(f"{_name}_step")


class _Options:
    """The struct fdl_optimizer in the words that it is made of."""

    def __init__(self, words: Array) -> None:
        self.integers, self.numbers = words, words.view(np.float64)

    def __getitem__(self, name: str) -> Any:
        i = _kernels.Optimizer._fields.index(name)
        return int(self.integers[i]) if name in _INTEGERS else float(self.numbers[i])

    def __setitem__(self, name: str, value: float) -> None:
        self.numbers[_kernels.Optimizer._fields.index(name)] = value


_INTEGERS = ("method", "maximize", "nesterov", "decoupled_weight_decay")


def rows_of(table: Array) -> Iterator[tuple[Any, int]]:
    """Each row of a table, and the size of its arrays."""
    begin = 0
    for row in table.reshape(-1, _kernels.TABLE_COLUMNS).tolist():
        yield row, row[_kernels.TABLE_END] - begin
        begin = row[_kernels.TABLE_END]


@kernel
def optimizer_step(optimizer, table, count, dtype):
    """Row by row, by the kernel of one step."""
    options = _Options(optimizer)
    name = _kernels.OPTIMIZER_NAMES[options["method"]]
    for row, size in rows_of(table):
        if not row[_kernels.TABLE_GRAD] or not size:
            continue
        arrays = [at(row[_kernels.TABLE_PARAM + i], size, dtype) for i in range(2)]
        arrays += [
            at(address, size, dtype) if address else None for address in row[_kernels.TABLE_STATE : _kernels.TABLE_STEP]
        ]
        counts = name != "sgd" or (options["momentum"] and row[_kernels.TABLE_STATE])  # its first step is its buffer's
        counted = row[_kernels.TABLE_STEP] if counts else 0
        step = at(counted, 1, np.int64) if counted else np.zeros(1, np.int64)
        step += 1
        if name == "clip":
            arrays[0][...] = reference.optim._scaled(arrays[1], False, options["grad_scale"], options["clip_value"])
            continue
        product = at(row[_kernels.TABLE_MU_PRODUCT], 1, np.float64) if name == "nadam" else None
        parameters = _kernels.SIGNATURES[f"{name}_step"]
        given = iter(arrays)
        arguments = [
            product if p == "mu_product" else next(given) if c_type.endswith("real *") else size if p == "size"
            else int(step[0]) if p == "step" else options[p]
            for c_type, p, _ in parameters
        ]  # fmt: skip
        with np.errstate(all="ignore"):
            KERNELS[f"{name}_step"](*arguments)


@kernel
def grad_norm(norm, table, count, norm_type, dtype):
    sizes = [
        np.abs(at(row[_kernels.TABLE_GRAD], size, dtype).astype(np.float64))
        for row, size in rows_of(table)
        if row[_kernels.TABLE_GRAD]
    ]
    if np.isinf(norm_type):
        norm[...] = np.max([size.max(initial=0) for size in sizes], initial=0)
    else:
        norm[...] = sum((size**norm_type).sum() for size in sizes) ** (1 / norm_type)


@kernel
def scale_grads(optimizer, norms, norm, count, norm_type, grad_scale, max_norm, clip_value, dtype):
    factor = 1.0
    if norms is not None and norm is not None:
        largest = norms.max(initial=0)
        plain = len(norms) <= 1 or np.isinf(norm_type) or not 0 < largest < np.inf
        norm[...] = grad_scale * (
            largest if plain else largest * ((norms / largest) ** norm_type).sum() ** (1 / norm_type)
        )
        factor = max_norm / (norm[0] + 1e-6)
        factor = 1.0 if factor > 1 else factor
    options = _Options(optimizer)
    options["grad_scale"], options["clip_value"] = grad_scale * factor, clip_value


# ---- regularization ----


@kernel
def dropout(x, y, size, run, keep, seed, offset, scale, shift, dropped):
    if size == 0:
        return
    runs = kept(-(-size // run), 1 - keep, True, seed, offset) if keep < 1 else np.ones(-(-size // run), bool)
    here = np.repeat(runs, run)[:size]
    y[...] = np.where(here, x.dtype.type(scale) * x + x.dtype.type(shift), 0 * x + x.dtype.type(dropped))


@kernel
def penalty(result, arrays, count, factor, power):
    each = [np.abs(a.astype(np.float64)) ** power for a in columns(arrays, 0, result.dtype)]
    result[...] = factor * sum(a.sum() for a in each)


@kernel
def penalty_backward(grad_output, arrays, count, factor, power, add):
    """factor sign(x), or factor x."""
    scale = grad_output.dtype.type(float(grad_output[0]) * factor)
    pairs = zip(columns(arrays, 0, grad_output.dtype), columns(arrays, 1, grad_output.dtype), strict=True)
    for x, grad in pairs:
        slope = x if power == 2 else (x > 0).astype(x.dtype) - (x < 0)
        grad[...] = scale * slope + (grad if add else 0)


# ---- recurrent networks ----


def _network(
    x: Array, arrays: Array, lengths: Any, r: Any, keep: float, seed: int, offset: int
) -> tuple[_Network, Any]:
    """And, of each weight and peephole, its shape."""
    shape = (r.batch, r.steps, r.input) if r.batch_first else (r.steps, r.batch, r.input)
    units, gates = r.layers * r.directions, (1, 1, 4, 3, 3)[r.kind]
    shapes: list[tuple[int, ...]] = []
    for unit in range(units):
        width = r.input if unit < r.directions else r.directions * r.output
        shapes += [(gates * r.hidden, width), (gates * r.hidden, r.output)]
        shapes += [(gates * r.hidden,)] * 2 if r.biases else []
        shapes += [(r.output, r.hidden)] if r.projection else []
    shapes += [(3 * r.hidden,)] * units if r.peepholes else []
    table: list[Any] = columns(arrays, 0, x.dtype)
    whole = [a.reshape(s) for a, s in zip(table, shapes, strict=True)]
    count = len(whole) - units * r.peepholes
    options = r.layers, r.directions == 2, bool(r.batch_first), bool(r.reverse), lengths, 1 - keep, keep < 1
    peepholes = whole[count:] if r.peepholes else None
    return _Network(r.kind, x.reshape(shape), whole[:count], *options, seed, offset, peepholes), shapes


def _states(h: Any, r: Any, size: int) -> Any:
    return None if h is None else h.reshape(r.layers * r.directions, r.batch, size)


def _bad_lengths(lengths: Any, r: Any) -> bool:
    return lengths is not None and bool(((lengths < 1) | (lengths > r.steps)).any())


@kernel
def recurrent(x, arrays, lengths, h0, c0, output, h_n, c_n, saved, r, keep, seed, offset):
    if r.steps > MOST_STEPS:
        return OUT_OF_MEMORY
    if _bad_lengths(lengths, r):
        return BAD_LENGTH
    network, _ = _network(x, arrays, lengths, r, keep, seed, offset)
    y, h, c = network.forward(_states(h0, r, r.output), _states(c0, r, r.hidden))
    output[...], h_n[...] = y.ravel(), h.ravel()
    if c_n is not None:
        c_n[...] = c.ravel()
    if saved is not None:  # the backward makes all steps again
        saved[...] = np.nan


@kernel
def recurrent_backward(
    grad_output, grad_h_n, grad_c_n, x, arrays, lengths, h0, c0, saved, grad_x, grad_h0, grad_c0, state_grad_norms, r,
    keep, seed, offset, truncate,
):  # fmt: skip
    if r.steps > MOST_STEPS:
        return OUT_OF_MEMORY
    if _bad_lengths(lengths, r):
        return BAD_LENGTH
    network, _ = _network(x, arrays, lengths, r, keep, seed, offset)
    network.forward(_states(h0, r, r.output), _states(c0, r, r.hidden))
    norms = None if state_grad_norms is None else state_grad_norms.reshape(-1, r.steps)
    if norms is not None:
        norms[...] = 0
    given = _states(grad_h_n, r, r.output), _states(grad_c_n, r, r.hidden), truncate, norms
    of_output = (r.batch, r.steps) if r.batch_first else (r.steps, r.batch)
    g = grad_output.reshape(*of_output, r.directions * r.output)
    g_x, weights, g_h, g_c, peepholes = network.backward(g, *given)
    for to, grad in zip(columns(arrays, 1, x.dtype), (*weights, *peepholes), strict=True):
        to[...] = grad.ravel()
    for to, grad in ((grad_x, g_x), (grad_h0, g_h), (grad_c0, g_c)):
        if to is not None:
            to[...] = grad.ravel()


def _cell(kind, weight_ih, weight_hh, bias_ih, bias_hh, input_, hidden):
    return _cell_unit(kind, weight_ih.reshape(-1, input_), weight_hh.reshape(-1, hidden), bias_ih, bias_hh)


@kernel
def recurrent_cell(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh, h_next, c_next, batch, input_, hidden, kind):
    unit = _cell(kind, weight_ih, weight_hh, bias_ih, bias_hh, input_, hidden)
    h = h.reshape(batch, hidden)
    c = c.reshape(batch, hidden) if c is not None else h if kind == _kernels.RECURRENT_LSTM else h[:, :0]
    after, cells, _ = _step(unit, x.reshape(batch, input_), h, c)
    h_next[...] = after.ravel()
    if c_next is not None:
        c_next[...] = cells.ravel()


@kernel
def recurrent_cell_backward(
    grad_h_next, grad_c_next, x, h, c, weight_ih, weight_hh, bias_ih, bias_hh, grad_x, grad_h, grad_c, grad_weight_ih,
    grad_weight_hh, grad_bias_ih, grad_bias_hh, batch, input_, hidden, kind,
):  # fmt: skip
    unit = _cell(kind, weight_ih, weight_hh, bias_ih, bias_hh, input_, hidden)
    h, g = h.reshape(batch, hidden), grad_h_next.reshape(batch, hidden)
    if c is None:
        c = g_c = h if kind == _kernels.RECURRENT_LSTM else h[:, :0]
    else:
        c = c.reshape(batch, hidden)
        g_c = np.zeros_like(c) if grad_c_next is None else grad_c_next.reshape(batch, hidden)
    grads = _cell_backward(unit, g, g_c, x.reshape(batch, input_), h, c)
    tos = grad_x, grad_h, grad_c, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh
    for to, grad in zip(tos, grads, strict=True):
        if to is not None:
            to[...] = grad.ravel()


# Packed for steps: the arrays one after the other, behind a number that no other layout begins with.

_MARK = -8_675_309.0


def _layout(input_: int, hidden: int, kind: int) -> list[int]:
    rows = (1, 1, 4, 3, 3)[kind] * hidden
    return [rows * input_, rows * hidden, rows, rows]


@kernel
def recurrent_packed_size(weight_hh, size, input_, hidden, kind):
    size[0] = 1 + sum(_layout(input_, hidden, kind))


@kernel
def recurrent_pack(weight_ih, weight_hh, bias_ih, bias_hh, packed, input_, hidden, kind):
    sizes = _layout(input_, hidden, kind)
    arrays = [
        np.zeros(n) if a is None else a for a, n in zip((weight_ih, weight_hh, bias_ih, bias_hh), sizes, strict=True)
    ]
    packed[...] = np.concatenate([[_MARK], *arrays])


@kernel
def recurrent_step(x, packed, h, c, h_next, c_next, batch, input_, hidden, kind):
    sizes = _layout(input_, hidden, kind)
    if packed.size != 1 + sum(sizes) or packed[0] != packed.dtype.type(_MARK):
        return BAD_LEVEL
    arrays = np.split(packed[1:], np.cumsum(sizes)[:-1])
    after, cells = np.empty_like(h), None if c is None else np.empty_like(c)
    KERNELS["recurrent_cell"](x, h, c, *arrays, after, cells, batch, input_, hidden, kind)
    h_next[...] = after
    if c is not None:
        c_next[...] = cells


@kernel
def peak_fma(iterations, flops, sink):
    """Of NumPy there is none: as many multiply-adds as were asked for."""
    a = np.ones_like(sink)
    for _ in range(iterations):
        a = a * a
    flops[0] = 2 * iterations * a.size
    sink[...] = a
