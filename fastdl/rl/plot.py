"""Learning curves, drawn by Matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["learning_curve"]


def learning_curve(
    histories: Sequence[Any], axes: Any = None, *, label: str | None = None, window: int = 20, points: int = 200
) -> Any:
    """Draw returns against steps: the mean over runs, and their spread.

    Parameters
    ----------
    histories : sequence of History
        Of the same agent with other seeds: what has `returns` and `lengths` of episodes, in order.
    axes : matplotlib.axes.Axes, optional
        Where to draw; by default on a figure of their own.
    label : str, optional
        What the curve is called.
    window : int
        How many episodes are averaged, of each run.
    points : int
        How many steps are looked at.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Where a run has no episode.
    ImportError
        Where Matplotlib is not installed.

    Examples
    --------
    >>> from fastdl import rl
    >>> histories = [rl.A2C(rl.make("CartPole-v1"), seed=seed).train(2000) for seed in range(3)]
    >>> rl.learning_curve(histories).get_xlabel()
    'steps'
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Matplotlib is not installed: pip install "fastdl[examples]"') from error
    if not histories or any(not len(history.returns) for history in histories):
        raise ValueError("histories: found none, or one without an episode, expected at least one episode each")
    if axes is None:
        figure: Any = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
    ends = [np.cumsum(history.lengths) for history in histories]
    steps = np.linspace(max(end[0] for end in ends), min(end[-1] for end in ends), points)
    curves = np.stack(
        [
            np.interp(steps, end, _smoothed(np.asarray(history.returns), window))
            for end, history in zip(ends, histories, strict=True)
        ]
    )
    (line,) = axes.plot(steps, curves.mean(0), label=label)
    if len(curves) > 1:
        axes.fill_between(steps, curves.min(0), curves.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel="steps", ylabel=f"return in training, mean of {window} episodes")
    axes.grid(alpha=0.3)
    return axes


def _smoothed(values: np.ndarray[Any, Any], window: int) -> np.ndarray[Any, Any]:
    """The mean of the last `window` values, or of as many as there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - window, 0)
    return np.asarray((sums[last] - sums[first]) / (last - first))
