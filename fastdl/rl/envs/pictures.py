"""Pictures of environments, and of episodes as animated GIFs, drawn by Matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, sin
from pathlib import Path
from typing import Any

import numpy as np

from fastdl.rl.environment import Environment
from fastdl.rl.envs.classic_control import cart_pole, pendulum
from fastdl.rl.envs.toy_text import frozen_lake, taxi

__all__ = ["animate", "frames"]

INK, GROUND, WOOD, STEEL, RED = "#263238", "#90a4ae", "#c98b4a", "#37668f", "#d1495b"
ICE, CRACK, WATER = "#dcecf7", "#b9d6ea", "#3b6c94"
STAND_COLOURS = ("#d1495b", "#3f9b6c", "#e0a526", "#3a6fb0")


def frames(environment: Environment, states: Any, *, size: float = 4.0, dpi: int = 80) -> list[np.ndarray[Any, Any]]:
    """Pictures of an environment in given states.

    Parameters
    ----------
    environment : Environment
        CartPole, Pendulum, FrozenLake or Taxi.
    states : array_like of float64, shape (n, len(environment.state))
        What its functions write into `state`.
    size : float
        Of the longer side, in inches.
    dpi : int
        Pixels an inch.

    Returns
    -------
    list of ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    ValueError
        An environment that has no pictures, or states of another shape.
    ImportError
        Matplotlib is not installed.

    Examples
    --------
    >>> from fastdl import rl
    >>> environment = rl.make("Pendulum-v1")
    >>> rl.envs.frames(environment, [environment.state])[0].shape
    (320, 320, 3)
    """
    return [np.array(figure.canvas.buffer_rgba())[..., :3] for figure in _drawn(environment, states, size, dpi)]


def animate(
    environment: Environment,
    states: Any,
    path: str | Path,
    *,
    fps: int | None = None,
    size: float = 4.0,
    dpi: int = 80,
) -> None:
    """Write an episode as an animated GIF.

    Parameters
    ----------
    environment : Environment
        CartPole, Pendulum, FrozenLake or Taxi.
    states : array_like of float64, shape (n, len(environment.state))
        One after the other, at least one.
    path : str or Path
        Of the file.
    fps : int, optional
        Frames a second; None: as fast as the system that is shown, or 4 tiles a second.
    size : float
        Of the longer side, in inches.
    dpi : int
        Pixels an inch.

    Raises
    ------
    ValueError
        An environment that has no pictures, or states of another shape.
    ImportError
        Matplotlib is not installed.

    Examples
    --------
    A taxi that drives to the south:

    >>> import tempfile
    >>> from fastdl import rl
    >>> env = rl.envs.GymnasiumEnv(rl.make("Taxi-v4"))
    >>> _ = env.reset(seed=7)
    >>> states = [env.state]
    >>> for _ in range(3):
    ...     _ = env.step(0)
    ...     states.append(env.state)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rl.animate(env.environment, states, folder + "/taxi.gif")
    """
    drawn = _drawn(environment, states, size, dpi)
    figure = next(drawn)
    from matplotlib.animation import PillowWriter

    writer = PillowWriter(fps=fps or _PICTURES[environment.step][1])
    with writer.saving(figure, str(path), dpi):
        writer.grab_frame()
        for _ in drawn:
            writer.grab_frame()


def _drawn(environment: Environment, states: Any, size: float, dpi: int) -> Iterator[Any]:
    """One figure, drawn anew for each state."""
    if environment.step not in _PICTURES:
        raise ValueError(f"environment: found {environment}, expected CartPole, Pendulum, FrozenLake or Taxi")
    states = np.asarray(states, np.float64)
    n = environment.state.size
    if states.ndim != 2 or states.shape[1] != n or not len(states):
        raise ValueError(f"states: found shape {states.shape}, expected (at least 1, {n})")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Pictures are drawn by Matplotlib: pip install "fastdl[examples]"') from error
    draw = _PICTURES[environment.step][0]
    figure = Figure(dpi=dpi)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    for state in states:
        axes.clear()
        axes.set_axis_off()
        axes.set_aspect("equal")
        draw(axes, state)
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        unit = size / max(right - left, abs(top - bottom))
        figure.set_size_inches((right - left) * unit, abs(top - bottom) * unit)
        canvas.draw()  # type: ignore[no-untyped-call]
        yield figure


def _cart_pole(axes: Any, state: Any) -> None:
    from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

    x, angle = state[cart_pole.POSITION], state[cart_pole.ANGLE]
    length = 2 * state[cart_pole.HALF_LENGTH]
    edge = cart_pole.POSITION_LIMIT
    axes.set(xlim=(-edge - 0.6, edge + 0.6), ylim=(-0.55, max(length, 1.0) + 0.65))
    axes.add_patch(Rectangle((-edge, -0.12), 2 * edge, 0.06, color=GROUND))
    for end in (-edge, edge):
        axes.add_patch(Rectangle((end - 0.04, -0.12), 0.08, 0.26, color=GROUND))
    for wheel in (-0.22, 0.22):
        axes.add_patch(Circle((x + wheel, 0.03), 0.09, facecolor=INK, edgecolor="white", linewidth=1.5))
    axes.add_patch(_rounded(FancyBboxPatch, x - 0.36, 0.1, 0.72, 0.26, facecolor=STEEL))
    pivot = (x, 0.3)
    tip = (x + length * sin(angle), 0.3 + length * cos(angle))
    axes.plot(*zip(pivot, tip, strict=True), color=WOOD, linewidth=9, solid_capstyle="round")
    axes.add_patch(Circle(pivot, 0.07, facecolor="white", edgecolor=INK, linewidth=1.5, zorder=3))


def _pendulum(axes: Any, state: Any) -> None:
    from matplotlib.patches import Circle

    angle = state[pendulum.ANGLE]
    tip = (-sin(angle), cos(angle))
    axes.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4))
    axes.add_patch(Circle((0.0, 0.0), 1.0, fill=False, edgecolor=GROUND, linewidth=1, linestyle=(0, (2, 4))))
    axes.add_patch(Circle((0.0, 1.0), 0.035, color=GROUND))  # where it is to be held
    axes.plot((0.0, tip[0]), (0.0, tip[1]), color=WOOD, linewidth=8, solid_capstyle="round")
    axes.add_patch(Circle(tip, 0.15, facecolor=RED, edgecolor="white", linewidth=2, zorder=3))
    axes.add_patch(Circle((0.0, 0.0), 0.06, facecolor="white", edgecolor=INK, linewidth=2, zorder=3))


def _frozen_lake(axes: Any, state: Any) -> None:
    from matplotlib.patches import Circle, Ellipse, Rectangle

    rows, columns = int(state[frozen_lake.ROWS]), int(state[frozen_lake.COLUMNS])
    axes.set(xlim=(-0.05, columns + 0.05), ylim=(rows + 0.05, -0.05))
    scale = 4.0 / max(rows, columns)
    for i, tile in enumerate(state[frozen_lake.TILES :].astype(int)):
        row, column = divmod(i, columns)
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=ICE, edgecolor="white", linewidth=3 * scale))
        if tile == frozen_lake.HOLE:
            axes.add_patch(Ellipse((column + 0.5, row + 0.53), 0.76, 0.66, facecolor=CRACK))
            axes.add_patch(Ellipse((column + 0.5, row + 0.56), 0.68, 0.56, facecolor=WATER))
        elif tile == frozen_lake.GOAL:
            axes.plot([column + 0.36] * 2, [row + 0.18, row + 0.86], color=INK, linewidth=3 * scale)
            axes.fill([column + t for t in (0.38, 0.8, 0.38)], [row + t for t in (0.17, 0.33, 0.49)], color=RED)
        elif tile == frozen_lake.STARTING:
            axes.text(column + 0.1, row + 0.1, "start", color=WATER, fontsize=9 * scale, va="top")
        else:
            x, y = column + 0.2 + 0.5 * (i * 0.37 % 1.0), row + 0.25 + 0.5 * (i * 0.61 % 1.0)
            axes.plot([x, x + 0.09, x + 0.2], [y, y + 0.05, y], color=CRACK, linewidth=1.5 * scale)
    row, column = divmod(int(state[frozen_lake.PLACE]), columns)
    x, y = column + 0.5, row + 0.55
    if state[frozen_lake.TILES + row * columns + column] == frozen_lake.HOLE:
        y += 0.08
        axes.add_patch(Circle((x, y), 0.14, facecolor=INK, zorder=3))
        axes.add_patch(Ellipse((x, y + 0.12), 0.5, 0.16, facecolor=WATER, zorder=4))
    else:
        axes.add_patch(Ellipse((x, y + 0.3), 0.42, 0.1, facecolor=CRACK, zorder=2))
        for side in (-0.09, 0.09):
            axes.add_patch(Ellipse((x + side, y + 0.29), 0.16, 0.07, facecolor=WOOD, zorder=3))
        axes.add_patch(Ellipse((x, y + 0.05), 0.38, 0.5, facecolor=INK, zorder=3))
        axes.add_patch(Ellipse((x, y + 0.1), 0.25, 0.36, facecolor="white", zorder=4))
        axes.add_patch(Circle((x, y - 0.2), 0.14, facecolor=INK, zorder=4))
    eyes = 0.0 if y > row + 0.6 else -0.2
    for side in (-0.055, 0.055):
        axes.add_patch(Circle((x + side, y + eyes - 0.02), 0.04, facecolor="white", zorder=5))
        axes.add_patch(Circle((x + side, y + eyes - 0.02), 0.018, facecolor=INK, zorder=6))
    beak = ([x - 0.045, x + 0.045, x], [y + eyes + 0.03, y + eyes + 0.03, y + eyes + 0.09])
    axes.fill(*beak, color=WOOD, zorder=6)


def _taxi(axes: Any, state: Any) -> None:
    from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

    row, column, passenger, destination = taxi.decoded.py_func(int(state[taxi.PLACE]))
    size = taxi.SIZE
    axes.set(xlim=(-0.15, size + 0.15), ylim=(size + 0.15, -0.15))
    axes.add_patch(Rectangle((0, 0), size, size, facecolor="#eceff1"))
    for r in range(size):
        for c in range(size):
            axes.add_patch(Rectangle((c, r), 1, 1, fill=False, edgecolor="white", linewidth=2))
    axes.add_patch(Rectangle((0, 0), size, size, fill=False, edgecolor=INK, linewidth=4))
    for stand, (r, c) in enumerate(zip(taxi.STAND_ROWS, taxi.STAND_COLUMNS, strict=True)):
        box = _rounded(FancyBboxPatch, c + 0.09, r + 0.09, 0.82, 0.82, facecolor=STAND_COLOURS[stand], alpha=0.45)
        axes.add_patch(box)
        if stand == destination:
            axes.plot([c + 0.78] * 2, [r + 0.2, r + 0.86], color=INK, linewidth=3)
            axes.fill([c + t for t in (0.765, 0.4, 0.765)], [r + t for t in (0.17, 0.3, 0.43)], STAND_COLOURS[stand])
    for r in range(size):
        for c in range(size - 1):
            if not taxi.open_to_the_east.py_func(r, c):
                axes.plot([c + 1] * 2, [r, r + 1], color=INK, linewidth=5, solid_capstyle="butt", zorder=2)
    x, y = column + 0.5, row + 0.62
    for wheel in (-0.19, 0.19):
        axes.add_patch(Circle((x + wheel, y + 0.14), 0.085, facecolor=INK, edgecolor="white", linewidth=1, zorder=5))
    axes.add_patch(_rounded(FancyBboxPatch, x - 0.22, y - 0.24, 0.44, 0.3, facecolor="#f4c430", zorder=4))
    axes.add_patch(_rounded(FancyBboxPatch, x - 0.37, y - 0.06, 0.74, 0.19, facecolor="#f4c430", zorder=4))
    axes.add_patch(Rectangle((x - 0.08, y - 0.32), 0.16, 0.08, facecolor=INK, zorder=4))
    for window in (-0.17, 0.02):
        axes.add_patch(Rectangle((x + window, y - 0.18), 0.15, 0.13, facecolor="#cfe3f0", zorder=5))
    if passenger == taxi.INSIDE:
        axes.add_patch(Circle((x + 0.095, y - 0.1), 0.055, facecolor=RED, zorder=6))
    else:
        x, y = taxi.STAND_COLUMNS[passenger] + 0.24, taxi.STAND_ROWS[passenger] + 0.3
        axes.add_patch(_rounded(FancyBboxPatch, x - 0.09, y + 0.09, 0.18, 0.3, facecolor=RED, zorder=6))
        axes.add_patch(Circle((x, y), 0.085, facecolor="#f1c9a5", edgecolor=INK, linewidth=1, zorder=7))


def _rounded(kind: Any, x: float, y: float, width: float, height: float, **style: Any) -> Any:
    """A box with round corners."""
    radius = 0.2 * min(width, height)
    corners = (x + radius, y + radius), width - 2 * radius, height - 2 * radius
    return kind(*corners, boxstyle=f"round,pad={radius}", linewidth=0, **style)


_PICTURES: dict[Any, tuple[Any, int]] = {
    cart_pole.step: (_cart_pole, 50),
    pendulum.step: (_pendulum, 20),
    frozen_lake.step: (_frozen_lake, 4),
    taxi.step: (_taxi, 4),
}
"""By the step of an environment: what draws it, and how many states are shown in a second."""
