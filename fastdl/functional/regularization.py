"""Regularization: dropout of elements and of whole channels, and penalties on weights, each with its backward.

The mask is not stored: it is a function of `seed`, `offset` and the position, the same on every machine, for every
dtype and number of threads, which backward computes again. Elements, in C order, or channels of (N, C, ...), sample by
sample, are numbered from 0; number i is kept where word i % 4 of Philox4x32-10 (Salmon et al., SC 2011) is less than
round((1 - p) 2^32). Its key is `seed` and its counter offset + i // 4, both as 64 bits, lower word first, with zeros
above. A call that numbers n therefore uses ceil(n / 4) counters from `offset` on: add as much to it for the next.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl.functional._operation import helper, operation
from fastdl.functional.verbs import (
    Array,
    array_table,
    arrays_like,
    as_given,
    fail,
    floats,
    floats_like,
    many_floats,
    natural,
    output,
    probability,
    same_or_disjoint,
)

__all__ = [
    "alpha_dropout",
    "alpha_dropout_backward",
    "dropout",
    "dropout1d",
    "dropout1d_backward",
    "dropout2d",
    "dropout2d_backward",
    "dropout3d",
    "dropout3d_backward",
    "dropout_backward",
    "dropout_mask",
    "l1_penalty",
    "l1_penalty_backward",
    "l2_penalty",
    "l2_penalty_backward",
]


@operation
def dropout(
    x: Any, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """x / (1 - p), with each element times 0 instead with probability p. torch.nn.functional.dropout.

    x: any shape. Element i, in C order, draws word i % 4 of Philox's counter offset + i // 4 under the key `seed`.
    Where it is dropped the result is 0, but NaN if x is NaN or infinite, as in torch. p = 0 gives x, p = 1 zeros.
    training: if False, the result is x. seed, offset: at least 0. out: an array like x, or x itself.
    """
    x = floats(x, "x")
    return _dropout(x, 1, p, training, seed, offset, out, "x")


@operation
def dropout_backward(
    grad_output: Any, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """The gradient of dropout, called with the same p, training, seed and offset: its mask is computed again.

    grad_output: any shape. out: an array like grad_output, or grad_output itself.
    """
    grad_output = floats(grad_output, "grad_output")
    return _dropout(grad_output, 1, p, training, seed, offset, out, "grad_output")


@operation
def dropout1d(
    x: Any, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """dropout of whole channels: x is (N, C, L). torch.nn.functional.dropout1d.

    Channel c of sample n has number i = n C + c, and draws as dropout's element i does. The rest as for dropout.
    """
    x = floats(x, "x", 3)
    return _dropout(x, _channel(x.shape), p, training, seed, offset, out, "x")


@operation
def dropout1d_backward(
    grad_output: Any, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """The gradient of dropout1d, called with the same p, training, seed and offset. grad_output: (N, C, L)."""
    grad_output = floats(grad_output, "grad_output", 3)
    return _dropout(grad_output, _channel(grad_output.shape), p, training, seed, offset, out, "grad_output")


@operation
def dropout2d(
    x: Any, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """dropout of whole channels: x is (N, C, H, W). torch.nn.functional.dropout2d.

    Channel c of sample n has number i = n C + c, and draws as dropout's element i does. The rest as for dropout.
    """
    x = floats(x, "x", 4)
    return _dropout(x, _channel(x.shape), p, training, seed, offset, out, "x")


@operation
def dropout2d_backward(
    grad_output: Any, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """The gradient of dropout2d, called with the same p, training, seed and offset. grad_output: (N, C, H, W)."""
    grad_output = floats(grad_output, "grad_output", 4)
    return _dropout(grad_output, _channel(grad_output.shape), p, training, seed, offset, out, "grad_output")


@operation
def dropout3d(
    x: Any, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """dropout of whole channels: x is (N, C, D, H, W). torch.nn.functional.dropout3d.

    Channel c of sample n has number i = n C + c, and draws as dropout's element i does. The rest as for dropout.
    """
    x = floats(x, "x", 5)
    return _dropout(x, _channel(x.shape), p, training, seed, offset, out, "x")


@operation
def dropout3d_backward(
    grad_output: Any, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """The gradient of dropout3d, called with the same p, training, seed and offset. grad_output: (N, C, D, H, W)."""
    grad_output = floats(grad_output, "grad_output", 5)
    return _dropout(grad_output, _channel(grad_output.shape), p, training, seed, offset, out, "grad_output")


@operation
def alpha_dropout(
    x: Any, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """dropout that keeps mean 0 and variance 1, for networks of SELU. torch.nn.functional.alpha_dropout.

        a (x if kept else -s) + a s p,   a = 1 / sqrt((1 - p) (1 + p s^2)),   s = 1.758...

    -s is what selu tends to at -infinity (Klambauer et al., "Self-Normalizing Neural Networks", NIPS 2017). p = 1 gives
    zeros. The mask and the rest as for dropout.
    """
    x = floats(x, "x")
    keep = _keep(p, training)
    scale = _alpha_scale(keep)
    shift = scale * _SELU_LIMIT * (1 - keep)
    return _mapped(x, 1, keep, seed, offset, scale, shift, shift - scale * _SELU_LIMIT, out, "x")


@operation
def alpha_dropout_backward(
    grad_output: Any, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """The gradient of alpha_dropout, called with the same p, training, seed and offset.

    grad_output: any shape. out: an array like grad_output, or grad_output itself.
    """
    grad_output = floats(grad_output, "grad_output")
    keep = _keep(p, training)
    return _mapped(grad_output, 1, keep, seed, offset, _alpha_scale(keep), -0.0, -0.0, out, "grad_output")


@helper
def dropout_mask(
    shape: tuple[int, ...], p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0
) -> Array:
    """What dropout of an array of that shape keeps: bools, False where it gives 0."""
    return dropout(np.ones(shape, np.float32), p, training, seed, offset) != 0


@helper
def _dropout(
    x: Array, run: int, p: float, training: bool, seed: int, offset: int, out: Array | None, argument: str
) -> Array:
    keep = _keep(p, training)
    # x scale + -0.0 is x scale for every x; adding 0.0 would make 0 of -0.
    return _mapped(x, run, keep, seed, offset, 1 / keep if keep > 0 else 0.0, -0.0, -0.0, out, argument)


@helper
def _mapped(
    x: Array,
    run: int,
    keep: float,
    seed: int,
    offset: int,
    scale: float,
    shift: float,
    dropped: float,
    out: Array | None,
    argument: str,
) -> Array:
    """scale x + shift for the runs that are kept, else 0 x + dropped."""
    seed, offset = natural(seed, "seed"), natural(offset, "offset")
    result = output(out, x.shape, x)
    if out is not None:
        same_or_disjoint(result, argument, x)
    _kernels.dropout(x, result, x.size, run, keep, seed, offset, scale, shift, dropped)
    return result


@helper
def _keep(p: float, training: bool) -> float:
    p = probability(p, "p")
    return 1.0 - p if training else 1.0


@helper
def _channel(shape: tuple[int, ...]) -> int:
    """The elements of one channel, at least 1."""
    volume = 1
    for n in shape[2:]:
        volume *= n
    return max(volume, 1)


_SELU_LIMIT = 1.7580993408473766


@helper
def _alpha_scale(keep: float) -> float:
    if keep == 0:
        return 0.0
    return 1 / math.sqrt(keep * (1 + (1 - keep) * _SELU_LIMIT * _SELU_LIMIT))


@operation
def l1_penalty(x: Any, coefficient: float = 1.0) -> Array:
    """coefficient times the sum of |x|, over one array or over all arrays of a tuple (or a list).

    x: any shapes, one dtype. Returns an array of shape (). Summed in float64, the same for any number of threads.
    """
    return _penalty(x, coefficient, 1)


@operation
def l1_penalty_backward(grad_output: Any, x: Any, coefficient: float = 1.0, out: Any = None, add: bool = False) -> Any:
    """The gradient of l1_penalty: grad_output coefficient sign(x), where sign(0) and, as in torch, sign(NaN) are 0.

    grad_output: shape (). x: what l1_penalty was given; the result is like it: an array, or a tuple (or list) of them.
    out: arrays for the result, which share no memory with another; each may be its own x. With `add` the gradient is
    added to what they hold.
    """
    return _penalty_backward(grad_output, x, coefficient, 1, out, add)


@operation
def l2_penalty(x: Any, coefficient: float = 1.0) -> Array:
    """coefficient / 2 times the sum of x^2, over one array or over all arrays of a tuple (or a list).

    x: any shapes, one dtype. Returns an array of shape (). Summed in float64, the same for any number of threads.
    """
    return _penalty(x, coefficient / 2, 2)


@operation
def l2_penalty_backward(grad_output: Any, x: Any, coefficient: float = 1.0, out: Any = None, add: bool = False) -> Any:
    """The gradient of l2_penalty: grad_output coefficient x.

    grad_output: shape (). x: what l2_penalty was given; the result is like it: an array, or a tuple (or list) of them.
    out: arrays for the result, which share no memory with another; each may be its own x. With `add` the gradient is
    added to what they hold.
    """
    return _penalty_backward(grad_output, x, coefficient, 2, out, add)


@helper
def _penalty(x: Any, factor: float, power: int) -> Array:
    arrays = many_floats(x, "x")
    result = np.empty((), arrays[0].dtype)
    _kernels.penalty(result, array_table(arrays, arrays, 0), len(arrays), factor, power)
    return result


@helper
def _penalty_backward(grad_output: Any, x: Any, factor: float, power: int, out: Any, add: bool) -> Any:
    arrays = many_floats(x, "x")
    grad_output = floats_like(grad_output, "grad_output", arrays[0], 0)
    if add and out is None:
        fail("add", "no out", "arrays to add to")
    grads = arrays_like(out, "out", arrays, x)
    _kernels.penalty_backward(grad_output, array_table(arrays, grads, 1), len(arrays), factor, power, add)
    return as_given(grads, x)
