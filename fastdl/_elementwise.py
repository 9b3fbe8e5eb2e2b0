"""The decorator for elementwise functions of a user's own; fastdl/numba/elementwise/ does the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from fastdl.numba.elementwise import Elementwise

__all__ = ["elementwise"]


@overload
def elementwise(function: Callable[..., Any], *, derivative: Callable[..., Any] | None = None) -> Elementwise: ...
@overload
def elementwise(
    function: None = None, *, derivative: Callable[..., Any] | None = None
) -> Callable[[Callable[..., Any]], Elementwise]: ...
def elementwise(
    function: Callable[..., Any] | None = None, *, derivative: Callable[..., Any] | None = None
) -> Elementwise | Callable[[Callable[..., Any]], Elementwise]:
    """Turn a scalar Python function into one of arrays, with its gradient: vectorised, on several threads.

    The result is used like an activation of fastdl: called with an array; ``.backward(grad_output, x)`` for the
    gradient; in networks as ``nn.Elementwise(function)``; inside @njit; recorded in programs. A decorator. It needs
    Numba: ``pip install "fastdl[numba]"``.

    Parameters
    ----------
    function : callable
        Of a number x, and at most 4 parameters after it, numbers too. It may use arithmetic, functions of `math` and
        NumPy (exp, expm1, log, log1p, sqrt, sin, cos, tan, sinh, cosh, tanh, arctan, erf, abs, sign, floor, ceil, rint,
        minimum, maximum, ...), np.where, conditions, loops of a fixed length, and functions of its own kind. It is
        called once for each way through its conditions, with symbols in place of numbers, and what it does with them
        is compiled.
    derivative : callable, optional
        Of the same arguments: the derivative in x. Without it, it is derived from what the function does.

    Returns
    -------
    Elementwise
        ``f(x, *parameters, out=None)``, with x of float32 or float64, and ``f.backward(grad_output, x, *parameters,
        out=None)``.

    Raises
    ------
    TypeError, ValueError
        For what cannot be compiled: a function of another form, more than 64 ways through its conditions, float(x).
    ImportError
        Without Numba.

    See Also
    --------
    fastdl.nn.Elementwise : As a layer.

    Notes
    -----
    Both are compiled for a dtype when they are first called with it. Where two numbers are equal, maximum and minimum
    have the derivative of the first. Sines and cosines are NaN from 2^51 on.

    Examples
    --------
    >>> import math
    >>> import numpy as np, fastdl
    >>> @fastdl.elementwise
    ... def snake(x, alpha=1.0):
    ...     return x + math.sin(alpha * x) ** 2 / alpha
    >>> x = np.array([-1.0, 0.0, 2.0])
    >>> snake(x).round(4), snake.backward(np.ones(3), x, alpha=0.5).round(4)
    (array([-0.2919,  0.    ,  2.8268]), array([0.1585, 1.    , 1.9093]))
    """
    from fastdl.numba.elementwise import Elementwise  # which says what to install, without Numba

    if function is None:
        return lambda function: Elementwise(function, derivative)
    return Elementwise(function, derivative)
