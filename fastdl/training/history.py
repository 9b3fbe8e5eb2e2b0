"""What training leaves behind: a row of numbers for each epoch."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastdl._files import replacing
from fastdl.functional.verbs import fail

__all__ = ["History"]

Array = np.ndarray[Any, Any]


class History(Sequence[dict[str, float]]):
    """The course of a training: rows, one for each epoch that ended, and columns of numbers by name.

    Attributes
    ----------
    rows : list of dict of str to float
        "epoch" (from 1), "loss", that of training, "lr", "seconds"; and of validation "val_loss" and "val_" with the
        name of each metric.
    best : int or None
        The epoch that was best by what was monitored.
    ended : str
        Why training ended: "epochs", all were made; "patience", nothing got better; "callback"; "interrupted", by
        Ctrl-C.

    Parameters
    ----------
    rows : list of dict of str to float

    Examples
    --------
    >>> from fastdl import training
    >>> history = training.History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    >>> history["loss"], history[-1]["loss"], len(history)
    (array([0.5 , 0.25]), 0.25, 2)
    """

    def __init__(self, rows: list[dict[str, float]] | None = None) -> None:
        self.rows: list[dict[str, float]] = [] if rows is None else rows
        self.best: int | None = None
        self.ended = "epochs"

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def __getitem__(self, which: Any) -> Any:
        """A row by its position, or a column, as an array, by its name; NaN where an epoch has none."""
        if not isinstance(which, str):
            return self.rows[which]
        if which not in self.columns:
            raise KeyError(f"{which}: expected one of {', '.join(self.columns)}")
        return np.array([row.get(which, np.nan) for row in self.rows])

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    @property
    def seconds(self) -> float:
        """How long all epochs took."""
        return float(sum(row.get("seconds", 0.0) for row in self.rows))

    def __repr__(self) -> str:
        last = ", ".join(f"{n} {v:.4g}" for row in self.rows[-1:] for n, v in row.items() if n != "epoch")
        best = f", best {self.best}" if self.best is not None else ""
        return f"History({len(self.rows)} epochs{best}, ended by {self.ended}{last and ': '}{last})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as a table, comma-separated, with a line of names. What was there before is replaced at once.

        Parameters
        ----------
        path : path
        """
        with replacing(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path

        Returns
        -------
        History

        Raises
        ------
        ValueError
            For a file that is no such table.
        """
        try:
            with open(path, newline="") as file:
                table = list(csv.DictReader(file))
            return cls([{n: _number(n, v) for n, v in row.items() if v != ""} for row in table])
        except (TypeError, ValueError, csv.Error):
            raise ValueError(f"path: found {os.fspath(path)}, expected a table of numbers, as save writes it") from None

    def plot(self, path: str | os.PathLike[str] | None = None, axes: Any = None) -> Any:
        """Draw losses, and beside them metrics if there are any, over epochs, by Matplotlib.

        Parameters
        ----------
        path : path, optional
            A file to write to; its name says the format: .png, .svg, .pdf.
        axes : matplotlib.axes.Axes, optional
            Where to draw the losses alone; by default on a figure of their own.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Where Matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError('Matplotlib is not installed: pip install "fastdl[examples]"') from error
        if not self.rows:
            fail("history", "no epoch", "at least one")
        losses = [n for n in self.columns if n in ("loss", "val_loss")]
        metrics = [n for n in self.columns if n.startswith("val_") and n != "val_loss"]
        panels: list[list[str]] = [losses, metrics] if metrics else [losses]
        drawn: list[Any] = [axes]
        figure: Any = None
        if axes is None:
            figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
            drawn = list(figure.subplots(1, len(panels), squeeze=False)[0])
        else:
            figure, panels = axes.figure, [losses]
        for place, names in zip(drawn, panels, strict=True):
            for name in names:
                place.plot(self["epoch"], self[name], marker="o", markersize=3, label=name)
            if self.best is not None:
                place.axvline(self.best, color="gray", linewidth=1, linestyle=":", label=f"best: epoch {self.best}")
            place.set(xlabel="epoch", ylabel="loss" if names is losses else "validation")
            place.xaxis.get_major_locator().set_params(integer=True)
            place.grid(alpha=0.3)
            place.legend(frameon=False)
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure


def _number(name: str, text: Any) -> float:
    return int(text) if name == "epoch" else float(text)
