"""Padding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import functional
from fastdl.reference._implements import implements

__all__ = [
    "pad",
    "pad_backward",
]

_NUMPY_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@implements(functional.pad)
def pad(x, pad, mode, value):
    sides = _sides(pad, x.ndim)
    if mode != "constant" and x.ndim:  # of np.pad, which knows no scalars
        if mode == "circular":
            x = x[_left(x.shape, sides)]
        padded = np.pad(x, [(max(b, 0), max(a, 0)) for b, a in sides], _NUMPY_MODES[mode])
        return padded if mode == "circular" else padded[_left(padded.shape, sides)]
    value = 0 if value is None else value
    result = np.full([b + n + a for n, (b, a) in zip(x.shape, sides, strict=True)], value, x.dtype)
    seen = [(max(-b, 0), n + min(a, 0)) for n, (b, a) in zip(x.shape, sides, strict=True)]
    seen = [(first, max(first, last)) for first, last in seen]
    inside = tuple(slice(first + b, last + b) for (first, last), (b, _) in zip(seen, sides, strict=True))
    result[inside] = x[tuple(slice(*ends) for ends in seen)]
    return result


@implements(functional.pad_backward)
def pad_backward(grad_output, pad, mode):
    """Pad the positions of x's elements (-1: none): what then stands where says where each grad_output belongs."""
    added = [b + a for b, a in _sides(pad, grad_output.ndim)]
    shape = [n - extra for n, extra in zip(grad_output.shape, added, strict=True)]
    positions = _pad(np.arange(math.prod(shape)).reshape(shape), pad, mode, -1)
    grad = np.zeros(math.prod(shape), grad_output.dtype)
    np.add.at(grad, positions[positions >= 0], grad_output[positions >= 0])
    return grad.reshape(shape)


_pad = pad


def _left(shape: tuple[int, ...], sides: list[tuple[int, int]]) -> tuple[slice, ...]:
    """What negative numbers leave."""
    return tuple(slice(max(-b, 0), n + min(a, 0)) for n, (b, a) in zip(shape, sides, strict=True))


def _sides(pad: tuple[int, ...], ndim: int) -> list[tuple[int, int]]:
    """(before, after) of each dimension, from the first."""
    given = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    return [(0, 0)] * (ndim - len(given)) + given
