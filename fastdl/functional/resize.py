"""Images (sequences, volumes) of other sizes: interpolated, or with channels laid out as pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.verbs import (
    ABOVE_ZERO,
    FINITE,
    Array,
    ArrayLike,
    choice,
    disjoint,
    fail,
    flag,
    floats,
    floats_like,
    integer,
    number,
    output,
    sizes,
)

__all__ = [
    "interpolate",
    "interpolate_backward",
    "pixel_shuffle",
    "pixel_shuffle_backward",
    "pixel_unshuffle",
    "pixel_unshuffle_backward",
    "resize",
    "resize_backward",
]

MODES = ("nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area")
"""Of interpolate."""
RESIZE_MODES = ("nearest", "linear", "cubic")
_NEAREST, _LINEAR, _CUBIC, _AREA = (
    _kernels.RESIZE_NEAREST,
    _kernels.RESIZE_LINEAR,
    _kernels.RESIZE_CUBIC,
    _kernels.RESIZE_AREA,
)
_KINDS = (_NEAREST, _NEAREST, _LINEAR, _LINEAR, _LINEAR, _CUBIC, _AREA)
_RANKS = (0, 0, 1, 2, 3, 2, 0)
"""How many spatial dimensions each has; 0: any."""

_TEXTS = {
    "x": """
        x : array of shape (batch, channels, ...)
            float32 or float64, with one to three spatial dimensions.
        """,
    "sizes": """
        size : int or tuple of int, optional
            The spatial sizes of the result, one for all dimensions or one for each.
        scale_factor : float or tuple of float, optional
            Instead: what sizes are multiplied by; a result is rounded down.
        """,
    "interpolate": """
        mode : {"nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area"}
            How; "linear", "bilinear" and "trilinear" are of one, two and three dimensions, "bicubic" of two.
        align_corners : bool, optional
            Whether the first and the last elements of both stand in the same places, and not the corners of the
            outermost elements. For the linear and cubic modes; None is False.
        recompute_scale_factor : bool, optional
            Whether places follow from the sizes, also where a scale_factor was given.
        """,
    "resize": """
        mode : {"nearest", "linear", "cubic"}
            How, in every dimension.
        coordinates : {"half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"}
            Where element i of the result is in x: of size `n`, with s the scale and `out` the size of the result,
            (i + 1/2) / s - 1/2; the same, but 0 if out is 1; i (n - 1) / (out - 1); or i / s.
        nearest_mode : {"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"}
            How mode "nearest" rounds that.
        cubic_coefficient : float
            Of mode "cubic": -0.75 as in torch, or -0.5.
        exclude_outside : bool
            Whether what lies outside of x counts nothing, instead of as much as the border does. (The nearest element
            never does.)
        """,
    "grad_output": """
        grad_output : array of the dtype of `x`
            The gradient of the result, of its shape.
        x : array
            What the function was given, of which only shape and dtype matter.
        """,
    "out": """
        out : array, optional
            Where to store the result: as it is, C-contiguous, in memory that no argument shares.
        """,
    "raises": """
        Raises
        ------
        ValueError
            Shapes and numbers that are not as described, names that are none, arrays that overlap what is written.
        TypeError
            What is no array (or no number), or has another dtype. Either message names the argument, what was found
            and what was expected; nothing has been written then.
        """,
}


@operation
@doc(_TEXTS)
def interpolate(
    x: ArrayLike,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    out: Array | None = None,
) -> Array:
    """x in another size. torch.nn.functional.interpolate, without antialias.

    Parameters
    ----------
    {x}
    {sizes}
    {interpolate}
    {out}

    Returns
    -------
    array of shape (batch, channels, ...)
        Of the dtype of `x`.

    {raises}

    See Also
    --------
    resize : with the options of ONNX.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[[1.0, 2.0]]])
    >>> fastdl.interpolate(x, scale_factor=2)
    array([[[1., 1., 2., 2.]]])
    >>> fastdl.interpolate(x, 5, mode="linear", align_corners=True)
    array([[[1.  , 1.25, 1.5 , 1.75, 2.  ]]])
    """
    x = floats(x, "x")
    kind = choice(mode, "mode", MODES)
    volumes, scales, shape = _resized(x.shape, size, scale_factor, kind, recompute_scale_factor)
    coordinates = _coordinates(kind, align_corners)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
    _kernels.resize(x, result, volumes, _KINDS[kind], coordinates, 0, *scales, -0.75, 0)
    return result


@operation
@doc(_TEXTS)
def interpolate_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    out: Array | None = None,
) -> Array:
    """The gradient of interpolate in x.

    Parameters
    ----------
    {grad_output}
    {sizes}
    {interpolate}
    {out}

    Returns
    -------
    array
        As x.

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.interpolate_backward(np.ones((1, 1, 4)), np.zeros((1, 1, 2)), scale_factor=2)
    array([[[2., 2.]]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    kind = choice(mode, "mode", MODES)
    volumes, scales, shape = _resized(x.shape, size, scale_factor, kind, recompute_scale_factor)
    coordinates = _coordinates(kind, align_corners)
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = output(out, x.shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "grad_output", grad_output)
    _kernels.resize_backward(grad_output, result, volumes, _KINDS[kind], coordinates, 0, *scales, -0.75, 0)
    return result


@operation
@doc(_TEXTS)
def resize(
    x: ArrayLike,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coefficient: float = -0.75,
    exclude_outside: bool = False,
    out: Array | None = None,
) -> Array:
    """x in another size, as ONNX's operator Resize has it (without roi and antialias).

    Parameters
    ----------
    {x}
    {sizes}
    {resize}
    {out}

    Returns
    -------
    array of shape (batch, channels, ...)
        Of the dtype of `x`.

    {raises}

    See Also
    --------
    interpolate : with the options of torch.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.resize(np.array([[[1.0, 2.0, 4.0]]]), 5, mode="linear", coordinates="asymmetric")
    array([[[1. , 1.6, 2.4, 3.6, 4. ]]])
    """
    x = floats(x, "x")
    kind, places = choice(mode, "mode", RESIZE_MODES), choice(coordinates, "coordinates", _COORDINATES)
    volumes, scales, shape = _resized(x.shape, size, scale_factor, -1, False)
    nearest = choice(nearest_mode, "nearest_mode", _kernels.NEAREST_NAMES)
    cubic, inside = number(cubic_coefficient, "cubic_coefficient"), flag(exclude_outside, "exclude_outside")
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
    _kernels.resize(x, result, volumes, kind, places, nearest, *scales, cubic, int(inside))
    return result


@operation
@doc(_TEXTS)
def resize_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coefficient: float = -0.75,
    exclude_outside: bool = False,
    out: Array | None = None,
) -> Array:
    """The gradient of resize in x.

    Parameters
    ----------
    {grad_output}
    {sizes}
    {resize}
    {out}

    Returns
    -------
    array
        As x.

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.resize_backward(np.ones((1, 1, 4)), np.zeros((1, 1, 2)), 4, mode="linear")
    array([[[2., 2.]]])
    """
    x = floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", x)
    kind, places = choice(mode, "mode", RESIZE_MODES), choice(coordinates, "coordinates", _COORDINATES)
    volumes, scales, shape = _resized(x.shape, size, scale_factor, -1, False)
    nearest = choice(nearest_mode, "nearest_mode", _kernels.NEAREST_NAMES)
    cubic, inside = number(cubic_coefficient, "cubic_coefficient"), flag(exclude_outside, "exclude_outside")
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = output(out, x.shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "grad_output", grad_output)
    _kernels.resize_backward(grad_output, result, volumes, kind, places, nearest, *scales, cubic, int(inside))
    return result


_COORDINATES = _kernels.COORDINATES_NAMES[:4]
"""Those that ONNX has."""


@helper
def _coordinates(kind: int, align_corners: bool | None) -> int:
    """How interpolate finds places."""
    corners = False
    if align_corners is not None:
        if _KINDS[kind] == _NEAREST or _KINDS[kind] == _AREA:
            fail("align_corners", ("a value with mode", MODES[kind]), "None, except for linear and cubic modes")
        corners = flag(align_corners, "align_corners")
    if kind == 0:
        return _kernels.COORDINATES_ASYMMETRIC
    if kind == 1:
        return _kernels.COORDINATES_NEAREST_EXACT
    return _kernels.COORDINATES_ALIGN_CORNERS if corners else _kernels.COORDINATES_HALF_PIXEL


@cached_helper
def _resized(
    shape: tuple[int, ...], size: Any, scale_factor: Any, kind: int, recompute: Any
) -> tuple[_kernels.Volumes, tuple[float, float, float], tuple[int, ...]]:
    """What kernels take for the sizes, the elements of x that one of the result covers, and the shape of the result.
    kind: of interpolate; -1: of resize."""
    rank = len(shape) - 2
    if rank < 1 or rank > 3:
        fail("x", ("shape", shape), "3 to 5 dimensions: batch, channels, and one to three more")
    if kind >= 0 and _RANKS[kind] != 0 and _RANKS[kind] != rank:
        fail("mode", (MODES[kind], "of", rank, "spatial dimensions"), ("one of", _RANKS[kind], "in x, or another mode"))
    again = False if recompute is None else flag(recompute, "recompute_scale_factor")
    before = (1,) * (3 - rank) + shape[2:]
    factors = (1.0, 1.0, 1.0)
    if size is not None:
        if scale_factor is not None:
            fail("scale_factor", "one beside size", "one of the two")
        if again:
            fail("recompute_scale_factor", "True with size", "a scale_factor")
        after = sizes(size, "size", (1, 1, 1), shape, 0)
    else:
        if scale_factor is None:
            fail("size", "None, and no scale_factor", "one of the two")
        factors = _factors(scale_factor, rank)
        grown = [int(float(n) * factor) for n, factor in zip(before, factors, strict=True)]
        after = grown[0], grown[1], grown[2]
    for d in range(3):
        if before[d] < 1:
            fail("x", ("shape", shape), "spatial sizes of at least 1")
        if after[d] < 1:
            fail("size", after[d], "at least 1 (or a larger scale_factor)")
        if after[d] > 2_147_483_647:
            fail("size", after[d], "less than 2^31")
    of_sizes, linear = size is not None or again, kind >= 0 and _KINDS[kind] == _LINEAR
    scales = [_scale(before[d], after[d], factors[d], of_sizes, linear) for d in range(3)]
    found = _kernels.Volumes(
        planes=shape[0] * shape[1],
        depth=before[0],
        height=before[1],
        width=before[2],
        out_depth=after[0],
        out_height=after[1],
        out_width=after[2],
    )
    return found, (scales[0], scales[1], scales[2]), (shape[0], shape[1], *after[3 - rank :])


@helper
def _scale(before: int, after: int, factor: float, of_sizes: bool, linear: bool) -> float:
    """The elements of x that one of the result covers."""
    if of_sizes or (linear and before == after):  # the latter as torch has it, whatever the factor
        return float(before) / float(after)
    return 1.0 / factor


@helper
def _factors(scale_factor: Any, rank: int) -> tuple[float, float, float]:
    """One for each of three dimensions."""
    values = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * rank
    if len(values) != rank:
        fail("scale_factor", scale_factor, (rank, "numbers, one for each spatial dimension, or one for all"))
    found = [number(value, "scale_factor", ABOVE_ZERO, FINITE) for value in values]
    every = (1.0,) * (3 - rank) + tuple(found)
    return every[0], every[1], every[2]


# ---- channels as pixels ----

_SHUFFLE = {
    "x": """
        x : array of shape (..., channels, height, width)
            float32 or float64.
        """,
    "out": _TEXTS["out"],
    "raises": _TEXTS["raises"],
}


@operation
@doc(_SHUFFLE)
def pixel_shuffle(x: ArrayLike, upscale_factor: int, out: Array | None = None) -> Array:
    """Channels laid out as pixels. torch.nn.functional.pixel_shuffle.

    ::

        y[..., c, h * r + i, w * r + j] = x[..., (c * r + i) * r + j, h, w]

    Parameters
    ----------
    {x}
    upscale_factor : int
        r, at least 1; the channels are a multiple of r * r.
    {out}

    Returns
    -------
    array of shape (..., channels / (r * r), height * r, width * r)
        Of the dtype of `x`.

    {raises}

    References
    ----------
    Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network", CVPR 2016.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.pixel_shuffle(np.arange(4.0).reshape(4, 1, 1), 2)
    array([[[0., 1.],
            [2., 3.]]])
    """
    x = floats(x, "x")
    geometry, shape = _shuffled(x.shape, "x", upscale_factor, "upscale_factor")
    return _turned(x, "x", geometry, shape, out)


@operation
@doc(_SHUFFLE)
def pixel_shuffle_backward(grad_output: ArrayLike, upscale_factor: int, out: Array | None = None) -> Array:
    """The gradient of pixel_shuffle, which is pixel_unshuffle.

    Parameters
    ----------
    grad_output : array
        The gradient of the result.
    upscale_factor : int
        As given to the function.
    {out}

    Returns
    -------
    array
        As x was.

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.pixel_shuffle_backward(np.arange(4.0).reshape(1, 2, 2), 2).ravel()
    array([0., 1., 2., 3.])
    """
    grad_output = floats(grad_output, "grad_output")
    geometry, shape = _unshuffled(grad_output.shape, "grad_output", upscale_factor, "upscale_factor")
    return _turned(grad_output, "grad_output", geometry, shape, out)


@operation
@doc(_SHUFFLE)
def pixel_unshuffle(x: ArrayLike, downscale_factor: int, out: Array | None = None) -> Array:
    """Pixels laid out as channels: the inverse of pixel_shuffle. torch.nn.functional.pixel_unshuffle.

    Parameters
    ----------
    {x}
    downscale_factor : int
        r, at least 1, of which height and width are multiples.
    {out}

    Returns
    -------
    array of shape (..., channels * r * r, height / r, width / r)
        Of the dtype of `x`.

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.pixel_unshuffle(np.arange(4.0).reshape(1, 2, 2), 2).shape
    (4, 1, 1)
    """
    x = floats(x, "x")
    geometry, shape = _unshuffled(x.shape, "x", downscale_factor, "downscale_factor")
    return _turned(x, "x", geometry, shape, out)


@operation
@doc(_SHUFFLE)
def pixel_unshuffle_backward(grad_output: ArrayLike, downscale_factor: int, out: Array | None = None) -> Array:
    """The gradient of pixel_unshuffle, which is pixel_shuffle.

    Parameters
    ----------
    grad_output : array
        The gradient of the result.
    downscale_factor : int
        As given to the function.
    {out}

    Returns
    -------
    array
        As x was.

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.pixel_unshuffle_backward(np.arange(4.0).reshape(4, 1, 1), 2).shape
    (1, 2, 2)
    """
    grad_output = floats(grad_output, "grad_output")
    geometry, shape = _shuffled(grad_output.shape, "grad_output", downscale_factor, "downscale_factor")
    return _turned(grad_output, "grad_output", geometry, shape, out)


@helper
def _turned(x: Array, argument: str, geometry: Array, shape: tuple[int, ...], out: Array | None) -> Array:
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, argument, x)
    _kernels.copy(x, result, geometry, 6)
    return result


@cached_helper
def _shuffled(shape: tuple[int, ...], argument: str, factor: int, name: str) -> tuple[Array, tuple[int, ...]]:
    """What the copying kernel takes, which goes over (..., c, h, i, w, j), and the shape of the result."""
    r = integer(factor, name, 1, 2**31)
    if len(shape) < 3:
        fail(argument, ("shape", shape), "at least 3 dimensions")
    if shape[-3] % (r * r) != 0:
        fail(argument, (shape[-3], "channels"), ("a multiple of", r * r))
    channels, height, width = shape[-3] // (r * r), shape[-2], shape[-1]
    plane, geometry = height * width, np.zeros((6, 3), np.int64)
    counts = (math.prod(shape[:-3]), channels, height, r, width, r)
    steps = (shape[-3] * plane, r * r * plane, width, r * plane, 1, plane)
    to = (shape[-3] * plane, r * r * plane, r * width * r, width * r, r, 1)
    for d in range(6):
        geometry[d, 0] = counts[d]
        geometry[d, 1] = steps[d]
        geometry[d, 2] = to[d]
    return geometry, (*shape[:-3], channels, height * r, width * r)


@cached_helper
def _unshuffled(shape: tuple[int, ...], argument: str, factor: int, name: str) -> tuple[Array, tuple[int, ...]]:
    """The same the other way: the same places, read where they were written."""
    r = integer(factor, name, 1, 2**31)
    if len(shape) < 3:
        fail(argument, ("shape", shape), "at least 3 dimensions")
    if shape[-2] % r != 0 or shape[-1] % r != 0:
        fail(argument, ("shape", shape), ("a height and a width that are multiples of", r))
    before = (*shape[:-3], shape[-3] * r * r, shape[-2] // r, shape[-1] // r)
    geometry, _ = _shuffled(before, argument, factor, name)
    turned = np.zeros((6, 3), np.int64)
    for d in range(6):
        turned[d, 0] = geometry[d, 0]
        turned[d, 1] = geometry[d, 2]
        turned[d, 2] = geometry[d, 1]
    return turned, before
