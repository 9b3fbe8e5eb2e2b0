"""Figures of merit: functions of what a model gives for all examples, and of their targets.

Any function of (output, target) that returns a number is one; these are the commonest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from fastdl.functional.verbs import fail

__all__ = ["accuracy", "binary_accuracy", "mean_absolute_error", "r2_score", "top_k_accuracy"]

Array = np.ndarray[Any, Any]
Metric: TypeAlias = Callable[[Any, Any], Any]
Metrics: TypeAlias = "Mapping[str, Metric] | Iterable[Metric] | Metric"


def accuracy(output: Array, target: Array) -> float:
    """The share of examples whose class has the highest score.

    Parameters
    ----------
    output : array of shape (n, classes, ...)
        Scores.
    target : array of int, shape (n, ...)
        Classes; or probabilities shaped as `output`, of which the highest is right.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import training
    >>> training.accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    return float((output.argmax(1) == _classes(output, target)).mean())


def top_k_accuracy(output: Array, target: Array, k: int = 5) -> float:
    """The share of examples whose class is among the k highest scores.

    Parameters
    ----------
    output : array of shape (n, classes, ...)
        Scores.
    target : array of int, shape (n, ...)
        Classes; or probabilities, as in `accuracy`.
    k : int
        At least 1. `functools.partial(top_k_accuracy, k=3)` is a metric too.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import training
    >>> training.top_k_accuracy(np.array([[0.1, 0.7, 0.2], [0.8, 0.1, 0.3]]), np.array([2, 1]), k=2)
    0.5
    """
    if not 1 <= k <= output.shape[1]:
        fail("k", k, f"1 to {output.shape[1]}, the number of classes")
    target = np.expand_dims(_classes(output, target), 1)
    own = np.take_along_axis(output, target, 1)
    return float(((output > own).sum(1) < k).mean())


def binary_accuracy(output: Array, target: Array) -> float:
    """The share of scores (logits) that are above 0 where the target is above 1/2, and only there.

    Parameters
    ----------
    output, target : array
        Of one shape.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import training
    >>> training.binary_accuracy(np.array([-1.0, 2.0]), np.array([0.0, 0.0]))
    0.5
    """
    _check_same(output, target)
    return float(((output > 0) == (target > 0.5)).mean())


def mean_absolute_error(output: Array, target: Array) -> float:
    """The mean of ``abs(output - target)``.

    Parameters
    ----------
    output, target : array
        Of one shape.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import training
    >>> training.mean_absolute_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    1.0
    """
    _check_same(output, target)
    return float(np.abs(output - target).mean(dtype=np.float64))


def r2_score(output: Array, target: Array) -> float:
    """How much of the variance of the target is explained, the mean over columns; 1 at best.

    ::

        1 - sum((target - output)**2) / sum((target - mean(target))**2)

    Parameters
    ----------
    output, target : array of shape (n, ...)
        Of one shape.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import training
    >>> training.r2_score(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    0.5
    """
    _check_same(output, target)
    wanted, found = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (target, output))
    of_mean = ((wanted - wanted.mean(0)) ** 2).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((1 - ((wanted - found) ** 2).sum(0) / of_mean).mean())


def named(metrics: Metrics) -> dict[str, Metric]:
    """Metrics by name, in order."""
    if callable(metrics):
        metrics = [metrics]
    if not isinstance(metrics, (Mapping, Iterable)):
        raise TypeError(f"metrics: found {type(metrics).__name__}, expected functions, or a dict of them")
    found: dict[str, Metric] = {}
    for item in metrics.items() if isinstance(metrics, Mapping) else [(_name(m), m) for m in metrics]:
        name, metric = item
        if not callable(metric):
            raise TypeError(f"metrics: found {type(metric).__name__}, expected functions of (output, target)")
        if not isinstance(name, str) or not name or name in found or name == "loss":
            fail("metrics", f"the name {name!r}", "a name for each, other than the others' and loss: a dict gives one")
        found[name] = metric
    return found


def _name(metric: Any) -> str:
    inner = getattr(metric, "func", metric)  # of a partial
    return getattr(inner, "__name__", type(inner).__name__)


def _classes(output: Array, target: Array) -> Array:
    if output.ndim < 2:
        fail("output", f"shape {output.shape}", "(n, classes, ...)")
    if target.dtype.kind == "f":
        _check_same(output, target)
        return np.asarray(target.argmax(1))
    if target.shape != (expected := output.shape[:1] + output.shape[2:]):
        fail("target", f"shape {target.shape}", f"shape {expected}")
    return target


def _check_same(output: Array, target: Array) -> None:
    if output.shape != target.shape:
        fail("target", f"shape {target.shape}", f"shape {output.shape}, that of output")
