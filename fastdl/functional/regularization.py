"""Regularization: dropout of elements and of whole channels, and penalties on weights, each with its backward.

The mask is not stored: it is a function of `seed`, `offset` and the position, the same on every machine, for every
dtype and number of threads, which backward computes again. Elements, in C order, or channels of (N, C, ...), sample by
sample, are numbered from 0; number i is kept where word i % 4 of Philox4x32-10 (Salmon et al., SC 2011) is less than
round((1 - p) 2^32). Its key is `seed` and its counter offset + i // 4, both as 64 bits, lower word first, with zeros
above. A call that numbers n therefore uses ceil(n / 4) counters from `offset` on: add as much to it for the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import helper, operation
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    array_table,
    arrays_like,
    as_given,
    fail,
    flag,
    floats,
    loss_grad,
    many_floats,
    natural,
    number,
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

Arrays = TypeVar("Arrays", Array, tuple[Array, ...], list[Array])

_TEXTS = {
    "p": """
        p : float, in [0, 1]
            The probability to be dropped. 0 gives the input, 1 zeros.
        training : bool
            If False, the result is the input.
        seed, offset : int, in [0, 2^63)
            Which of the random masks: a call uses Philox counters from `offset` on, one for each 4 that it numbers.
        """,
    "out": """
        out : array, optional
            Where to store the result: as the input, C-contiguous; the input itself, or memory that it does not share.
        """,
    "as_forward": """
        p, training, seed, offset
            As in the forward.
        """,
    "returns": """
        array
            Shaped as the input, and of its dtype.
        """,
    "raises": """
        Raises
        ------
        ValueError
            Shapes that do not fit, numbers out of range, arrays that overlap what is written.
        TypeError
            What is no array (or no number), or has another dtype. Either message names the argument, what was found
            and what was expected; nothing has been written then.
        """,
    "channels": """
        Whole channels are kept or dropped: channel c of sample n has number i = n * channels + c, and draws as
        element i does in dropout.
        """,
    "penalised": """
        x : array, or tuple or list of arrays
            Of any shapes and one dtype, float32 or float64.
        coefficient : float
            What the sum is multiplied by.
        """,
    "grads": """
        grad_output : array of shape (), or a number
            The gradient of the penalty.
        x : array, or tuple or list of arrays
            What the forward was given.
        coefficient : float
            As in the forward.
        out : as x, optional
            Where to store the result; no array shares memory with another, but each may be its own x.
        add : bool
            Whether to add the gradient to what `out` holds.
        """,
    "returns_grads": """
        array, or tuple or list of arrays
            The gradient, as x.
        """,
}


@operation
@doc(_TEXTS)
def dropout(
    x: ArrayLike, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """Zero elements at random, and scale the others up. torch.nn.functional.dropout.

    ::

        y = x / (1 - p)          where the element is kept, with probability 1 - p
        y = 0 * x                else: NaN if x is NaN or infinite, as in torch

    Element i, in C order, is kept where word i % 4 of Philox4x32-10 with key `seed` and counter offset + i // 4 is less
    than round((1 - p) * 2^32): the same on every machine, for every dtype and number of threads.

    Parameters
    ----------
    x : array
        Any shape; float32 or float64.
    {p}
    {out}

    Returns
    -------
    {returns}

    {raises}

    See Also
    --------
    dropout_mask : what is kept.

    References
    ----------
    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15, 2014.
    Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.dropout(np.ones(8, np.float32), 0.5, seed=14)
    array([2., 0., 2., 0., 2., 2., 0., 2.], dtype=float32)
    """
    x = floats(x, "x")
    return _dropout(x, 1, p, training, seed, offset, out, "x")


@operation
@doc(_TEXTS)
def dropout_backward(
    grad_output: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    seed: int = 0,
    offset: int = 0,
    out: Array | None = None,
) -> Array:
    """The gradient of dropout: the same mask, computed again.

    Parameters
    ----------
    grad_output : array
        The gradient of what dropout returned.
    {as_forward}
    {out}

    Returns
    -------
    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.dropout_backward(np.ones(8, np.float32), 0.5, seed=14)
    array([2., 0., 2., 0., 2., 2., 0., 2.], dtype=float32)
    """
    grad_output = floats(grad_output, "grad_output")
    return _dropout(grad_output, 1, p, training, seed, offset, out, "grad_output")


@operation
@doc(_TEXTS)
def dropout1d(
    x: ArrayLike, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """dropout of whole channels. torch.nn.functional.dropout1d.

    {channels}

    Parameters
    ----------
    x : array of shape (batch, channels, length) or (channels, length)
        float32 or float64.
    {p}
    {out}

    Returns
    -------
    {returns}

    {raises}

    See Also
    --------
    dropout : the same of elements.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((1, 4, 2), np.float32)
    >>> fastdl.dropout1d(x, 0.5, seed=14)[0, :, 0]
    array([2., 0., 2., 0.], dtype=float32)
    """
    x = floats(x, "x")
    _check_ndim(x, "x", 1)
    return _dropout(x, _channel(x.shape, 1), p, training, seed, offset, out, "x")


@operation
@doc(_TEXTS)
def dropout1d_backward(
    grad_output: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    seed: int = 0,
    offset: int = 0,
    out: Array | None = None,
) -> Array:
    """The gradient of dropout1d: the same mask, computed again.

    Parameters
    ----------
    grad_output : array of shape (batch, channels, length) or (channels, length)
        The gradient of what dropout1d returned.
    {as_forward}
    {out}

    Returns
    -------
    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((1, 4, 2), np.float32)
    >>> bool((fastdl.dropout1d_backward(x, 0.5, seed=14) == fastdl.dropout1d(x, 0.5, seed=14)).all())
    True
    """
    grad_output = floats(grad_output, "grad_output")
    _check_ndim(grad_output, "grad_output", 1)
    return _dropout(grad_output, _channel(grad_output.shape, 1), p, training, seed, offset, out, "grad_output")


@operation
@doc(_TEXTS)
def dropout2d(
    x: ArrayLike, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """dropout of whole channels. torch.nn.functional.dropout2d.

    {channels}

    Parameters
    ----------
    x : array of shape (batch, channels, height, width)
        float32 or float64. Three dimensions are (batch, channels, length), as torch reads them, and warns that it may
        not for ever: dropout1d says it plainly.
    {p}
    {out}

    Returns
    -------
    {returns}

    {raises}

    See Also
    --------
    dropout : the same of elements.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((1, 4, 2, 2), np.float32)
    >>> fastdl.dropout2d(x, 0.5, seed=14)[0, :, 0, 0]
    array([2., 0., 2., 0.], dtype=float32)
    """
    x = floats(x, "x")
    return _dropout(x, _image_channel(x.shape, "x"), p, training, seed, offset, out, "x")


@operation
@doc(_TEXTS)
def dropout2d_backward(
    grad_output: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    seed: int = 0,
    offset: int = 0,
    out: Array | None = None,
) -> Array:
    """The gradient of dropout2d: the same mask, computed again.

    Parameters
    ----------
    grad_output : array of shape (batch, channels, height, width) or (batch, channels, length)
        The gradient of what dropout2d returned.
    {as_forward}
    {out}

    Returns
    -------
    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((1, 4, 2, 2), np.float32)
    >>> bool((fastdl.dropout2d_backward(x, 0.5, seed=14) == fastdl.dropout2d(x, 0.5, seed=14)).all())
    True
    """
    grad_output = floats(grad_output, "grad_output")
    run = _image_channel(grad_output.shape, "grad_output")
    return _dropout(grad_output, run, p, training, seed, offset, out, "grad_output")


@operation
@doc(_TEXTS)
def dropout3d(
    x: ArrayLike, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """dropout of whole channels. torch.nn.functional.dropout3d.

    {channels}

    Parameters
    ----------
    x : array of shape (batch, channels, depth, height, width) or (channels, depth, height, width)
        float32 or float64.
    {p}
    {out}

    Returns
    -------
    {returns}

    {raises}

    See Also
    --------
    dropout : the same of elements.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((1, 4, 2, 2, 2), np.float32)
    >>> fastdl.dropout3d(x, 0.5, seed=14)[0, :, 0, 0, 0]
    array([2., 0., 2., 0.], dtype=float32)
    """
    x = floats(x, "x")
    _check_ndim(x, "x", 3)
    return _dropout(x, _channel(x.shape, 3), p, training, seed, offset, out, "x")


@operation
@doc(_TEXTS)
def dropout3d_backward(
    grad_output: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    seed: int = 0,
    offset: int = 0,
    out: Array | None = None,
) -> Array:
    """The gradient of dropout3d: the same mask, computed again.

    Parameters
    ----------
    grad_output : array of shape (batch, channels, depth, height, width) or (channels, depth, height, width)
        The gradient of what dropout3d returned.
    {as_forward}
    {out}

    Returns
    -------
    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((1, 4, 2, 2, 2), np.float32)
    >>> bool((fastdl.dropout3d_backward(x, 0.5, seed=14) == fastdl.dropout3d(x, 0.5, seed=14)).all())
    True
    """
    grad_output = floats(grad_output, "grad_output")
    _check_ndim(grad_output, "grad_output", 3)
    return _dropout(grad_output, _channel(grad_output.shape, 3), p, training, seed, offset, out, "grad_output")


@operation
@doc(_TEXTS)
def alpha_dropout(
    x: ArrayLike, p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0, out: Array | None = None
) -> Array:
    """dropout that keeps mean 0 and variance 1, for networks of SELU. torch.nn.functional.alpha_dropout.

    ::

        y = a * (x if kept else -s) + a * s * p
        a = 1 / sqrt((1 - p) * (1 + p * s^2)),          s = 1.758...

    -s is what selu tends to at -infinity. The mask is that of dropout.

    Parameters
    ----------
    x : array
        Any shape; float32 or float64.
    {p}
    {out}

    Returns
    -------
    {returns}

    {raises}

    References
    ----------
    Klambauer et al., "Self-Normalizing Neural Networks", NIPS 2017, section 2.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.alpha_dropout(np.zeros(4, np.float32), 0.5, seed=14).round(4)
    array([ 0.7792, -0.7792,  0.7792, -0.7792], dtype=float32)
    """
    x = floats(x, "x")
    keep = _keep(p, training)
    scale = _alpha_scale(keep)
    shift = scale * _SELU_LIMIT * (1 - keep)
    return _mapped(x, 1, keep, seed, offset, scale, shift, shift - scale * _SELU_LIMIT, out, "x")


@operation
@doc(_TEXTS)
def alpha_dropout_backward(
    grad_output: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    seed: int = 0,
    offset: int = 0,
    out: Array | None = None,
) -> Array:
    """The gradient of alpha_dropout: a * grad_output where the element is kept, else 0.

    Parameters
    ----------
    grad_output : array
        The gradient of what alpha_dropout returned.
    {as_forward}
    {out}

    Returns
    -------
    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.alpha_dropout_backward(np.ones(4, np.float32), 0.5, seed=14).round(4)
    array([0.8864, 0.    , 0.8864, 0.    ], dtype=float32)
    """
    grad_output = floats(grad_output, "grad_output")
    keep = _keep(p, training)
    return _mapped(grad_output, 1, keep, seed, offset, _alpha_scale(keep), -0.0, -0.0, out, "grad_output")


@helper
@doc(_TEXTS)
def dropout_mask(
    shape: tuple[int, ...], p: float = 0.5, training: bool = True, seed: int = 0, offset: int = 0
) -> Array:
    """What dropout of an array of that shape keeps.

    Parameters
    ----------
    shape : tuple of ints
        Of the array.
    {p}

    Returns
    -------
    array of bools
        False where dropout gives 0.

    Examples
    --------
    >>> import fastdl
    >>> fastdl.dropout_mask((4,), 0.5, seed=14)
    array([ True, False,  True, False])
    """
    kept: Array = dropout(np.ones(shape, np.float32), p, training, seed, offset) != 0
    return kept


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
    flag(training, "training")
    p = probability(p, "p")
    return 1.0 - p if training else 1.0


@helper
def _check_ndim(x: Array, argument: str, rank: int) -> None:
    if x.ndim != rank + 1 and x.ndim != rank + 2:
        fail(argument, ("shape", x.shape), (rank + 1, "or", rank + 2, "dimensions"))


@helper
def _channel(shape: tuple[int, ...], rank: int) -> int:
    """The elements of one channel, in the last `rank` dimensions; at least 1."""
    volume = 1
    for i in range(len(shape) - rank, len(shape)):
        volume *= shape[i]
    return max(volume, 1)


@helper
def _image_channel(shape: tuple[int, ...], argument: str) -> int:
    """The same for what has a batch, and one or two dimensions after the channels."""
    if len(shape) != 3 and len(shape) != 4:
        fail(argument, ("shape", shape), "4 dimensions, or 3, (batch, channels, length)")
    volume = 1
    for i in range(2, len(shape)):
        volume *= shape[i]
    return max(volume, 1)


_SELU_LIMIT = 1.7580993408473766


@helper
def _alpha_scale(keep: float) -> float:
    if keep == 0:
        return 0.0
    return 1 / math.sqrt(keep * (1 + (1 - keep) * _SELU_LIMIT * _SELU_LIMIT))


@operation
@doc(_TEXTS)
def l1_penalty(x: ArrayLike | Sequence[ArrayLike], coefficient: float = 1.0) -> Array:
    """The sum of magnitudes, as a loss on weights.

    ::

        coefficient * sum(|x|)

    over one array, or over all of several. It runs in float64, and is the same for any number of threads.

    Parameters
    ----------
    {penalised}

    Returns
    -------
    array
        Shape ().

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.l1_penalty(np.array([-3, 4], np.float32), 0.1)
    array(0.7, dtype=float32)
    """
    return _penalty(x, number(coefficient, "coefficient"), 1)


@operation
@doc(_TEXTS)
def l1_penalty_backward(
    grad_output: ArrayLike | float, x: Arrays, coefficient: float = 1.0, out: Arrays | None = None, add: bool = False
) -> Arrays:
    """The gradient of l1_penalty.

    ::

        grad_output * coefficient * sign(x)          sign(0) and, as in torch, sign(NaN) are 0

    Parameters
    ----------
    {grads}

    Returns
    -------
    {returns_grads}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.l1_penalty_backward(1.0, np.array([-3, 4], np.float32), 0.5)
    array([-0.5,  0.5], dtype=float32)
    """
    return _penalty_backward(grad_output, x, number(coefficient, "coefficient"), 1, out, add)


@operation
@doc(_TEXTS)
def l2_penalty(x: ArrayLike | Sequence[ArrayLike], coefficient: float = 1.0) -> Array:
    """Half the sum of squares, as a loss on weights.

    ::

        coefficient / 2 * sum(x^2)

    over one array, or over all of several. It runs in float64, and is the same for any number of threads.

    Parameters
    ----------
    {penalised}

    Returns
    -------
    array
        Shape ().

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.l2_penalty([np.array([-3, 4], np.float32), np.ones((1, 1), np.float32)])
    array(13., dtype=float32)
    """
    return _penalty(x, number(coefficient, "coefficient") / 2, 2)


@operation
@doc(_TEXTS)
def l2_penalty_backward(
    grad_output: ArrayLike | float, x: Arrays, coefficient: float = 1.0, out: Arrays | None = None, add: bool = False
) -> Arrays:
    """The gradient of l2_penalty.

    ::

        grad_output * coefficient * x

    Parameters
    ----------
    {grads}

    Returns
    -------
    {returns_grads}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> fastdl.l2_penalty_backward(1.0, np.array([-3, 4], np.float32), 0.5)
    array([-1.5,  2. ], dtype=float32)
    """
    return _penalty_backward(grad_output, x, number(coefficient, "coefficient"), 2, out, add)


@helper
def _penalty(x: Any, factor: float, power: int) -> Array:
    arrays = many_floats(x, "x")
    result = np.empty((), arrays[0].dtype)
    _kernels.penalty(result, array_table(arrays, arrays, 0), len(arrays), factor, power)
    return result


@helper
def _penalty_backward(grad_output: Any, x: Arrays, factor: float, power: int, out: Arrays | None, add: bool) -> Arrays:
    arrays = many_floats(x, "x")
    grad_output = loss_grad(grad_output, arrays[0], ())
    flag(add, "add")
    if add and out is None:
        fail("add", "no out", "arrays to add to")
    grads = arrays_like(out, "out", arrays, x)
    _kernels.penalty_backward(grad_output, array_table(arrays, grads, 1), len(arrays), factor, power, add)
    result: Arrays = as_given(grads, x)
    return result
