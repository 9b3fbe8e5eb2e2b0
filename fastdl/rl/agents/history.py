"""What training leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

__all__ = ["DivergedError", "History"]


class DivergedError(FloatingPointError):
    """Training left the numbers: a parameter, an observation or a reward is not finite.

    Attributes
    ----------
    step : int
        Steps of environments until then. The agent has its last good parameters again.
    """

    def __init__(self, what: str, step: int) -> None:
        super().__init__(f"found {what} that is not finite after {step} steps, expected finite numbers")
        self.step = step


@dataclass
class History:
    """The course of training.

    Attributes
    ----------
    returns : array of shape (episodes,)
        The sum of rewards of each episode that ended, not discounted.
    lengths : array of int64, shape (episodes,)
        Their steps.
    steps : array of int64, shape (episodes,)
        Steps of all environments made when they ended, to the iteration.
    losses : dict of str to array of shape (iterations,)
        Means over the updates of an iteration.
    seconds : float
        How long it took.
    """

    returns: Array = field(default_factory=lambda: np.zeros(0))
    lengths: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    steps: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    losses: dict[str, Array] = field(default_factory=dict)
    seconds: float = 0.0

    def __repr__(self) -> str:
        last = f"{self.returns[-100:].mean():.1f}" if self.returns.size else "none"
        steps = self.steps[-1] if self.steps.size else 0
        return f"History({self.returns.size} episodes, {steps} steps, mean return of the last 100: {last})"
