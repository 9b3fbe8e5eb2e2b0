"""The checkpoint of a training: all that goes on, the history, and the best weights so far."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from fastdl import nn
from fastdl.checkpoint import load_checkpoint, save_checkpoint
from fastdl.functional.verbs import fail
from fastdl.optim import Optimizer
from fastdl.optim.lr_scheduler import LRScheduler

_NAME, _TABLE = "checkpoint.npz", "history.csv"


class Checkpoint:
    """A file, or two in a folder of their own."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: nn.Module,
        optimizer: Optimizer,
        schedule: LRScheduler | None,
        rng: np.random.Generator,
    ) -> None:
        found = Path(path)
        self.table: Path | None = None
        if found.is_dir() or not found.suffix:
            found.mkdir(parents=True, exist_ok=True)
            self.path, self.table = found / _NAME, found / _TABLE
        else:
            self.path = found
        check_place(self.path, "checkpoint", ", or a folder")
        self.parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "generators": rng}
        if schedule is not None:
            self.parts["schedule"] = schedule

    def save(self, history: Any, best: Any) -> None:
        """All of it, as it is after an epoch."""
        save_checkpoint(self.path, **self.parts, **progress_of(history, best), parts=list(self.parts))

    def load(self, history: Any, best: Any) -> None:
        """Go back to what is there, if anything is."""
        if self.path.exists():
            found = load_checkpoint(self.path)
            check_progress(best, found)
            if "schedule" in found.get("parts", ()) and "schedule" not in self.parts:
                fail("schedule", "none", "one, as in the checkpoint")
            set_progress(history, best, load_checkpoint(self.path, **self.parts))


def check_place(path: str | os.PathLike[str], argument: str = "table", more: str = "") -> None:
    """Refuse before training what could not be written after an epoch of it."""
    found = Path(path)
    if found.is_dir() or not found.absolute().parent.is_dir() or not os.access(found.absolute().parent, os.W_OK):
        fail(argument, found, f"a file in a folder that exists and may be written to{more}")


def progress_of(history: Any, best: Any) -> dict[str, Any]:
    """How far training is. Weights that are the best and the last ones are not kept twice."""
    weights = {} if best.epoch == len(history) else best.state
    return {
        "rows": history.rows,
        "best": {
            "epoch": best.epoch,
            "value": best.value,
            "since": best.since,
            "watched": best.watched,
            "sign": best.sign,
        },
        "weights": weights,
    }


def check_progress(best: Any, found: dict[str, Any]) -> None:
    """Refuse what progress_of did not say, or of something else."""
    of_best = found.get("best")
    said = {"epoch", "value", "since", "watched", "sign"}
    if not isinstance(of_best, dict) or of_best.keys() != said or not {"rows", "weights"} <= found.keys():
        fail("checkpoint", "one without a history", "one that fit wrote")
    if of_best["watched"] != best.watched:
        fail("monitor", repr(best.watched), f"{of_best['watched']!r}, as in the checkpoint")
    if of_best["sign"] != best.sign:
        mode, other = ("min", "max")[:: best.sign]
        fail("mode", repr(mode), f"{other!r}, as in the checkpoint")


def set_progress(history: Any, best: Any, found: dict[str, Any]) -> None:
    """What progress_of said; the model has its weights already."""
    rows, of_best, weights = (found[name] for name in ("rows", "best", "weights"))
    history.rows[:], history.best = rows, of_best["epoch"]
    best.epoch, best.value, best.since = of_best["epoch"], of_best["value"], of_best["since"]
    best.state = dict(weights) if weights or best.epoch is None else best.model.state_dict()
