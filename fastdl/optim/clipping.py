"""Gradients limited by their norm or by value, in place; Optimizer.step does the same without changing them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, isfinite
from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl._recording import get_recorder
from fastdl.functional.verbs import ABOVE_ZERO, Array, fail, flag, in_place, number
from fastdl.optim._table import DTYPES, Arrays, Table, clip

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
]


def clip_grad_norm_(
    grads: Array | Arrays, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    """Scale gradients, in place, so that their norm, of all of them as one vector, is at most max_norm.

    As torch.nn.utils.clip_grad_norm_::

        norm = (abs(grads)**norm_type).sum()**(1 / norm_type)
        grads *= min(1, max_norm / (norm + 1e-6))

    Parameters
    ----------
    grads : array, or list or dict of arrays
        Such as ``net.grads``: float32 or float64, C-contiguous and writable. None among them is left out.
    max_norm : float
        At least 0.
    norm_type : float
        A number above 0, or inf: the largest absolute value.
    error_if_nonfinite : bool
        Refuse a norm that is infinite or NaN, with nothing changed. Without, gradients become 0 or NaN then.

    Returns
    -------
    float
        The norm before, computed in float64.

    Raises
    ------
    ValueError, TypeError
        For an array that cannot be changed in place, and a number out of its range.

    See Also
    --------
    fastdl.optim.Optimizer.step : Does the same, with its `max_norm`, without changing gradients.

    References
    ----------
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> grads = {"weight": np.array([3.0, 0.0]), "bias": np.array([4.0])}
    >>> fastdl.clip_grad_norm_(grads, max_norm=1.0)
    5.0
    >>> grads["weight"].round(4), grads["bias"].round(4)
    (array([0.6, 0. ]), array([0.8]))
    """
    number(max_norm, "max_norm", 0.0, inf)
    number(norm_type, "norm_type", ABOVE_ZERO, inf)
    flag(error_if_nonfinite, "error_if_nonfinite")
    tables = _tables(grads)
    if error_if_nonfinite and get_recorder() is not None:
        raise RuntimeError("record: found error_if_nonfinite=True, expected False: a program cannot decide by a number")
    norm = clip(tables, max_norm, float(norm_type))
    if error_if_nonfinite and not isfinite(norm[0]):
        fail("grads", f"a norm of {float(norm[0])}", "a finite one")
    for table in tables:
        table.step()
    return float(norm[0]) if tables else 0.0


def clip_grad_value_(grads: Array | Arrays, clip_value: float) -> None:
    """Limit every element of gradients, in place, to [-clip_value, clip_value].

    As torch.nn.utils.clip_grad_value_::

        grads = min(max(grads, -clip_value), clip_value)

    Parameters
    ----------
    grads : array, or list or dict of arrays
        Such as ``net.grads``: float32 or float64, C-contiguous and writable. None among them is left out.
    clip_value : float
        At least 0.

    Raises
    ------
    ValueError, TypeError
        For an array that cannot be changed in place, and a number out of its range.

    See Also
    --------
    fastdl.optim.Optimizer.step : Does the same, with its `clip_value`, without changing gradients.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> grad = np.array([3.0, -0.5])
    >>> fastdl.clip_grad_value_(grad, 1.0)
    >>> grad
    array([ 1. , -0.5])
    """
    number(clip_value, "clip_value", 0.0, inf)
    for table in _tables(grads):
        table.scale(1.0, clip_value)
        table.step()


def _tables(grads: Any) -> list[Table]:
    if isinstance(grads, np.ndarray):
        grads = [grads]
    if not isinstance(grads, Iterable):
        raise TypeError(f"grads: found {type(grads).__name__}, expected an array, or a list or a dict of arrays")
    named = grads.items() if isinstance(grads, Mapping) else enumerate(grads)
    arrays = [in_place(grad, f"grads[{name!r}]") for name, grad in named if grad is not None]
    arrays = list({id(array): array for array in arrays}.values())
    tables = []
    for dtype in DTYPES:
        if chosen := tuple(a for a in arrays if a.dtype == dtype):
            tables.append(Table(dtype, chosen, _kernels.OPTIMIZER_CLIP))
            tables[-1].rows[:, _kernels.TABLE_GRAD] = tables[-1].rows[:, _kernels.TABLE_PARAM]
    return tables
