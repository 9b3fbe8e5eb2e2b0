"""Pictures of values and policies on grids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastdl.rl.mdp._evaluation import evaluate_policy
from fastdl.rl.mdp._model import MDP
from fastdl.rl.mdp._solution import Solution

DIRECTIONS = {"u": (0, -1), "r": (1, 0), "d": (0, 1), "l": (-1, 0), ".": (0, 0)}


def draw(
    values: Any,
    policy: Any = None,
    shape: tuple[int, int] | None = None,
    *,
    arrows: Sequence[str] | str = "urdl",
    walls: Any = None,
    numbers: bool | None = None,
    title: str = "",
    ax: Any = None,
    cmap: str = "viridis",
) -> Any:
    """Draw values as colours and a policy as arrows, on a grid whose states are numbered row by row.

    Parameters
    ----------
    values : MDP, Solution, or (S,) floats
        What to colour cells by. Of a model, the values of `policy`, and states that are never left get no arrow.
    policy : (S,) ints or (S, A) floats, optional
        The action of each state, or the probability of each: the lengths of its arrows are as these. By default that of
        a Solution, else none. A negative action is none.
    shape : (rows, columns)
        Of the grid.
    arrows : sequence of str
        The direction of each action: "u", "r", "d", "l", or "." for none. The default is Gymnasium's CliffWalking;
        FrozenLake is "ldru".
    walls : (S,) bool, or sequence of ints, optional
        Cells that are no states, drawn in grey.
    numbers : bool, optional
        Whether to write values into the cells; by default up to 150 cells.
    title : str
        Of the picture.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a figure of its own, which pyplot does not know of.
    cmap : str
        The name of a colour map.

    Returns
    -------
    matplotlib.axes.Axes
        ``ax.figure.savefig(path)`` writes the picture.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    TypeError, ValueError
        An argument is not as described.

    Examples
    --------
    >>> from fastdl import rl
    >>> ax = rl.draw([0.1, 0.5, 0.2, 1.0], [1, 2, 1, -1], (2, 2), title="Four states")
    >>> ax.get_title()
    'Four states'
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Matplotlib is not installed: pip install "fastdl[rl]"') from error
    still = None
    if isinstance(values, MDP):
        if policy is None:
            raise ValueError("policy: found None with a model, expected the policy whose values to draw")
        still, values = values.absorbing, evaluate_policy(values, policy).value
    elif isinstance(values, Solution):
        policy, values = values.policy if policy is None else policy, values.value
    values = np.asarray(values, np.float64).ravel()
    if shape is None or len(shape) != 2 or shape[0] * shape[1] != len(values):
        raise ValueError(f"shape: found {shape}, expected (rows, columns) of {len(values)} states")
    unknown = [name for name in arrows if name not in DIRECTIONS]
    if unknown:
        raise ValueError(f"arrows: found {unknown[0]!r}, expected each of {', '.join(DIRECTIONS)}")
    rows, columns = shape
    lengths = None if policy is None else _lengths(policy, len(values), len(arrows))
    blocked = np.zeros(len(values), bool)
    if walls is not None:
        blocked[np.asarray(walls)] = True
    if ax is None:
        size = 0.8 if max(shape) <= 16 else 12 / max(shape)
        ax = Figure(figsize=(columns * size + 1.6, rows * size + 0.8), layout="constrained").add_subplot()

    import matplotlib

    colours = matplotlib.colormaps[cmap].with_extremes(bad="0.35")
    grid = np.ma.masked_array(values, blocked).reshape(shape)
    image = ax.imshow(grid, cmap=colours)
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1 + 0.2 / columns, 0, 0.25 / columns, 1)))
    bar.outline.set_visible(False)
    inks = np.array([_ink(colours(image.norm(value))) for value in values])
    y, x = np.divmod(np.arange(len(values)), columns)
    if numbers is None:
        numbers = len(values) <= 150
    if lengths is not None:
        lengths[blocked] = 0
        if still is not None:
            lengths[still] = 0
        _draw_arrows(ax, x, y, lengths, arrows, inks, lifted=numbers)
    if numbers:
        digits = _digits(values[~blocked])
        for i in np.flatnonzero(~blocked):
            arrowless = lengths is None or not lengths[i].any()
            text = f"{values[i]:.{digits}f}".replace("-", "\N{MINUS SIGN}")
            place = 0.0 if arrowless else 0.36
            ax.text(x[i], y[i] + place, text, color=inks[i], fontsize=7.5, ha="center", va="center")
    ax.set_xticks([])
    ax.set_yticks([])
    if max(shape) <= 40:
        ax.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=1)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title)
    return ax


def _lengths(policy: Any, states: int, actions: int) -> Any:
    """(S, A): how long the arrow of each action is."""
    policy = np.asarray(policy)
    if policy.shape == (states, actions):
        lengths = np.array(policy, np.float64)
        return lengths / np.maximum(lengths.max(1, keepdims=True), 1e-300)
    if policy.shape != (states,) or policy.dtype.kind not in "iu":
        raise ValueError(
            f"policy: found shape {policy.shape} of {policy.dtype}, expected ({states},) ints or ({states}, {actions})"
        )
    if (policy >= actions).any():
        state = int(np.argmax(policy >= actions))
        raise ValueError(f"policy: found action {policy[state]} in state {state}, expected one of {actions} in arrows")
    lengths = np.zeros((states, actions))
    lengths[policy >= 0, policy[policy >= 0]] = 1.0
    return lengths


def _draw_arrows(ax: Any, x: Any, y: Any, lengths: Any, arrows: Any, inks: Any, lifted: bool) -> None:
    raised = 0.1 if lifted else 0.0
    for action, name in enumerate(arrows):
        dx, dy = DIRECTIONS[name]
        there = lengths[:, action] > 1e-9
        if not there.any():
            continue
        if name == ".":
            ax.scatter(x[there], y[there] - raised, s=14, c=inks[there])
            continue
        alone = (lengths[there] > 1e-9).sum(1) == 1  # from the middle of its cell, else from the tail
        reach = 0.5 * np.where(alone, 1.0, 0.66 * lengths[there, action])
        start = np.where(alone, 0.5 * reach, 0.0)
        ax.quiver(
            *(x[there] - start * dx, y[there] - raised - start * dy, reach * dx, reach * dy),
            **{"angles": "xy", "scale_units": "xy", "scale": 1, "color": inks[there], "units": "xy", "width": 0.045},
            **{"headwidth": 4, "headlength": 4, "headaxislength": 3.6, "minlength": 0.1},
        )


def _ink(colour: Any) -> str:
    return "black" if np.dot(colour[:3], (0.299, 0.587, 0.114)) > 0.5 else "white"


def _digits(values: Any) -> int:
    spread = float(np.abs(values).max(initial=0.0))
    return 0 if spread >= 1000 else 1 if spread >= 100 else 2
