"""Images of other sizes: a matrix for each dimension."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl import _kernels, functional
from fastdl.functional.resize import _KINDS, MODES, RESIZE_MODES, _coordinates
from fastdl.functional.resize import _resized as sizes_of
from fastdl.functional.verbs import Array
from fastdl.reference._implements import implements

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

Options = tuple[int, int, int, float, int]
"""mode, coordinates, nearest, cubic, exclude_outside, as kernels take them."""


def _places(size: int, out: int, scale: float, mode: int, coordinates: int) -> Array:
    """Where in the input each element of the output is."""
    i = np.arange(out)
    if coordinates == _kernels.COORDINATES_NEAREST_EXACT:
        return ((i.astype(np.float32) + np.float32(0.5)) * np.float32(scale)).astype(np.float64)
    if coordinates == _kernels.COORDINATES_ASYMMETRIC:
        if mode == _kernels.RESIZE_NEAREST:
            return (i.astype(np.float32) * np.float32(scale)).astype(np.float64)
        return i * scale
    if out == 1 and coordinates != _kernels.COORDINATES_HALF_PIXEL:
        return np.zeros(1)
    if coordinates == _kernels.COORDINATES_ALIGN_CORNERS:
        return i * ((size - 1) / (out - 1))
    return scale * (i + 0.5) - 0.5


def _cubic(distance: Array, a: float) -> Array:
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _matrix(size: int, out: int, scale: float, options: Options) -> Array:
    """(out, size): how much of each element of the input is in each of the output."""
    mode, coordinates, nearest, cubic, exclude_outside = options
    matrix, rows = np.zeros((out, size)), np.arange(out)
    if mode == _kernels.RESIZE_AREA:
        for row in range(out):
            begin, end = row * size // out, -(-(row + 1) * size // out)
            matrix[row, begin:end] = 1 / (end - begin)
        return matrix
    places = _places(size, out, scale, mode, coordinates)
    if mode == _kernels.RESIZE_NEAREST:
        roundings = np.floor, np.ceil, lambda p: np.ceil(p - 0.5), lambda p: np.floor(p + 0.5)
        matrix[rows, np.clip(roundings[nearest](places).astype(int), 0, size - 1)] = 1
        return matrix
    if mode == _kernels.RESIZE_LINEAR:
        places = np.clip(places, 0, size - 1)
    first = np.floor(places).astype(int)
    for tap in (0, 1) if mode == _kernels.RESIZE_LINEAR else (-1, 0, 1, 2):
        at, distance = first + tap, places - (first + tap)
        weight = 1 - np.abs(distance) if mode == _kernels.RESIZE_LINEAR else _cubic(distance, cubic)
        if exclude_outside:
            weight = np.where((at < 0) | (at >= size), 0, weight)
        np.add.at(matrix, (rows, np.clip(at, 0, size - 1)), weight)
    return matrix / matrix.sum(1, keepdims=True) if exclude_outside else matrix


def resized(x: Array, sizes: Any, scales: Any, options: Options) -> Array:
    """The last three dimensions of x in other sizes."""
    for d in (-1, -2, -3):
        if x.shape[d] != sizes[d] or scales[d] != 1:
            matrix = _matrix(x.shape[d], sizes[d], scales[d], options).astype(x.dtype)
            x = np.swapaxes(np.swapaxes(x, d, -1) @ matrix.T, d, -1)
    return x


def resized_backward(grad: Array, sizes: Any, scales: Any, options: Options) -> Array:
    for d in (-1, -2, -3):
        if grad.shape[d] != sizes[d] or scales[d] != 1:
            matrix = _matrix(sizes[d], grad.shape[d], scales[d], options).astype(grad.dtype)
            grad = np.swapaxes(np.swapaxes(grad, d, -1) @ matrix, d, -1)
    return grad


def _deep(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:2], *(1,) * (5 - len(shape)), *shape[2:])


def _resized(x: Any, size: Any, scale_factor: Any, kind: int, recompute: Any, options: Options, grad: Any) -> Array:
    _, scales, shape = sizes_of(x.shape, size, scale_factor, kind, recompute)
    if grad is None:
        return resized(x.reshape(_deep(x.shape)), _deep(shape)[2:], scales, options).reshape(shape)
    return resized_backward(grad.reshape(_deep(shape)), _deep(x.shape)[2:], scales, options).reshape(x.shape)


def _of_torch(mode: str, align_corners: Any) -> tuple[int, Options]:
    kind = MODES.index(mode)
    return kind, (_KINDS[kind], _coordinates(kind, align_corners), 0, -0.75, 0)


def _of_onnx(mode: str, coordinates: str, nearest_mode: str, cubic: float, exclude_outside: bool) -> Options:
    return (
        RESIZE_MODES.index(mode),
        _kernels.COORDINATES_NAMES.index(coordinates),
        _kernels.NEAREST_NAMES.index(nearest_mode),
        cubic,
        int(exclude_outside),
    )


@implements(functional.interpolate)
def interpolate(x, size, scale_factor, mode, align_corners, recompute_scale_factor):
    kind, options = _of_torch(mode, align_corners)
    return _resized(x, size, scale_factor, kind, recompute_scale_factor, options, None)


@implements(functional.interpolate_backward)
def interpolate_backward(grad_output, x, size, scale_factor, mode, align_corners, recompute_scale_factor):
    kind, options = _of_torch(mode, align_corners)
    return _resized(x, size, scale_factor, kind, recompute_scale_factor, options, grad_output)


@implements(functional.resize)
def resize(x, size, scale_factor, mode, coordinates, nearest_mode, cubic_coefficient, exclude_outside):
    options = _of_onnx(mode, coordinates, nearest_mode, cubic_coefficient, exclude_outside)
    return _resized(x, size, scale_factor, -1, False, options, None)


@implements(functional.resize_backward)
def resize_backward(
    grad_output, x, size, scale_factor, mode, coordinates, nearest_mode, cubic_coefficient, exclude_outside
):
    options = _of_onnx(mode, coordinates, nearest_mode, cubic_coefficient, exclude_outside)
    return _resized(x, size, scale_factor, -1, False, options, grad_output)


@implements(functional.pixel_shuffle)
def pixel_shuffle(x, upscale_factor):
    *leading, channels, height, width = x.shape
    r, n = upscale_factor, len(leading)
    parts = x.reshape(*leading, channels // (r * r), r, r, height, width)
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return parts.transpose(order).reshape(*leading, channels // (r * r), height * r, width * r)


@implements(functional.pixel_unshuffle)
def pixel_unshuffle(x, downscale_factor):
    *leading, channels, height, width = x.shape
    r, n = downscale_factor, len(leading)
    parts = x.reshape(*leading, channels, height // r, r, width // r, r)
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return parts.transpose(order).reshape(*leading, channels * r * r, height // r, width // r)


@implements(functional.pixel_shuffle_backward)
def pixel_shuffle_backward(grad_output, upscale_factor):
    return pixel_unshuffle(grad_output, upscale_factor)


@implements(functional.pixel_unshuffle_backward)
def pixel_unshuffle_backward(grad_output, downscale_factor):
    return pixel_shuffle(grad_output, downscale_factor)
