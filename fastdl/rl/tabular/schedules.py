"""Numbers that change while an agent learns: step sizes, exploration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

__all__ = ["Constant", "Exponential", "InverseVisits", "Linear", "Schedule"]

CONSTANT, LINEAR, EXPONENTIAL, INVERSE_VISITS = range(4)
Unit = Literal["step", "episode"]


class Schedule:
    """What a number is after so many steps or episodes."""

    kind: ClassVar[int]
    per: Unit

    def __call__(self, t: int) -> float:
        """The number after `t` steps or episodes."""
        raise NotImplementedError

    @property
    def row(self) -> tuple[float, float, float, float, float]:
        """As compiled code has it: kind, whether it goes by episodes, first value, last value, what moves it."""
        raise NotImplementedError

    @property
    def extremes(self) -> tuple[float, float]:
        """The least and the greatest value that it takes."""
        first, last = self.row[2:4]
        return min(first, last), max(first, last)


@dataclass(frozen=True)
class Constant(Schedule):
    """A number that does not change.

    Parameters
    ----------
    value : float
        The number.

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.Constant(0.1)(1000)
    0.1
    """

    value: float
    kind: ClassVar[int] = CONSTANT

    def __call__(self, t: int) -> float:
        return float(self.value)

    @property
    def row(self) -> tuple[float, float, float, float, float]:
        return float(self.kind), 0.0, float(self.value), float(self.value), 0.0


@dataclass(frozen=True)
class Linear(Schedule):
    """From one number to another along a line, which stays at the second.

    Parameters
    ----------
    initial, final : float
        The first value and the last.
    duration : int
        After how many steps or episodes the last is reached.
    per : {"step", "episode"}
        What is counted.

    Examples
    --------
    >>> from fastdl import rl
    >>> epsilon = rl.Linear(1.0, 0.0, 1000)
    >>> epsilon(0), epsilon(250), epsilon(5000)
    (1.0, 0.75, 0.0)
    """

    initial: float
    final: float
    duration: int
    per: Unit = "step"
    kind: ClassVar[int] = LINEAR

    def __post_init__(self) -> None:
        _check_unit(self.per)
        if not self.duration >= 1:
            raise ValueError(f"duration: found {self.duration}, expected at least 1")

    def __call__(self, t: int) -> float:
        return self.initial + (self.final - self.initial) * min(t / self.duration, 1.0)

    @property
    def row(self) -> tuple[float, float, float, float, float]:
        return (
            float(self.kind),
            float(self.per == "episode"),
            float(self.initial),
            float(self.final),
            1.0 / self.duration,
        )


@dataclass(frozen=True)
class Exponential(Schedule):
    """A number that is multiplied by a factor again and again, until it reaches a last value.

    Parameters
    ----------
    initial, final : float
        The first value, and the least.
    decay : float
        The factor, between 0 and 1.
    per : {"step", "episode"}
        When it is multiplied.

    Examples
    --------
    >>> from fastdl import rl
    >>> epsilon = rl.Exponential(1.0, 0.1, decay=0.5, per="episode")
    >>> epsilon(0), epsilon(2), epsilon(100)
    (1.0, 0.25, 0.1)
    """

    initial: float
    final: float
    decay: float
    per: Unit = "step"
    kind: ClassVar[int] = EXPONENTIAL

    def __post_init__(self) -> None:
        _check_unit(self.per)
        if not 0.0 < self.decay < 1.0:
            raise ValueError(f"decay: found {self.decay}, expected a factor between 0 and 1")
        if not self.final <= self.initial:
            raise ValueError(f"final: found {self.final}, expected at most initial, {self.initial}")

    def __call__(self, t: int) -> float:
        return max(float(self.final), self.initial * self.decay**t)

    @property
    def row(self) -> tuple[float, float, float, float, float]:
        return float(self.kind), float(self.per == "episode"), float(self.initial), float(self.final), self.decay


@dataclass(frozen=True)
class InverseVisits(Schedule):
    """The step size *n(s, a)^-exponent*, n(s, a) being how often a pair has been updated, this time included.

    With exponent 1 a value is the average of its targets; Q-learning converges for exponents above 0.5 up to 1, and
    fast for some 0.8 (Even-Dar and Mansour 2003).

    Parameters
    ----------
    exponent : float
        Above 0, up to 1.

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.InverseVisits()(4)
    0.25
    """

    exponent: float = 1.0
    kind: ClassVar[int] = INVERSE_VISITS

    def __post_init__(self) -> None:
        if not 0.0 < self.exponent <= 1.0:
            raise ValueError(f"exponent: found {self.exponent}, expected above 0 and at most 1")

    def __call__(self, t: int) -> float:
        return float(t**-self.exponent)

    @property
    def row(self) -> tuple[float, float, float, float, float]:
        return float(self.kind), 0.0, 1.0, 1.0, float(self.exponent)


KINDS: dict[str, type[Schedule]] = {kind.__name__: kind for kind in (Constant, Linear, Exponential, InverseVisits)}


def schedule(name: str, value: Any, low: float, high: float, *, above: bool, visits: bool = False) -> Schedule:
    """A number or a schedule as a schedule, all of whose values are from `low` (or above it) to `high`."""
    try:
        result: Schedule = value if isinstance(value, Schedule) else Constant(float(value))
    except (TypeError, ValueError):
        raise TypeError(f"{name}: found {value!r}, expected a number or a schedule") from None
    if isinstance(value, InverseVisits) and not visits:
        raise TypeError(f"{name}: found {value!r}, expected a number or a schedule of steps or episodes")
    for extreme in result.extremes:
        if not ((low < extreme if above else low <= extreme) and extreme <= high and math.isfinite(extreme)):
            left, right = "(" if above else "[", "]" if math.isfinite(high) else ")"
            raise ValueError(f"{name}: found {extreme}, expected a value in {left}{low:g}, {high:g}{right}")
    return result


def _check_unit(per: str) -> None:
    if per not in ("step", "episode"):
        raise ValueError(f"per: found {per!r}, expected 'step' or 'episode'")
