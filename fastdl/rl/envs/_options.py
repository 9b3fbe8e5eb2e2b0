"""What the functions that make environments share: Gymnasium, and checks of their options."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any


def gymnasium() -> Any:
    """Gymnasium, imported when an environment is made."""
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError('Environments need the spaces of Gymnasium: pip install "fastdl[rl]"') from error
    return gymnasium


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> float:
    """An option that is a finite number from low to high, or above low."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: found {value!r}, expected a number") from None
    if not math.isfinite(result) or not low <= result <= high or (above and result == low):
        bounds = (f" above {low:g}" if above else f" from {low:g}") if low > -math.inf else ""
        bounds += f" to {high:g}" if high < math.inf else ""
        raise ValueError(f"{name}: found {value!r}, expected a finite number{bounds}")
    return result


def flag(name: str, value: Any) -> bool:
    """An option that is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: found {value!r}, expected True or False")
    return value


def as_in_gymnasium(
    ids: str | tuple[str, ...],
    factory: Callable[..., Any],
    max_steps: int | None,
    options: dict[str, Any] | None = None,
    physics: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Which environment of Gymnasium is the same one, as arguments of `Environment`.

    Parameters
    ----------
    ids
        Its id; several: the first that is registered, of which only the first has options.
    factory
        The function that makes ours: its defaults are what Gymnasium registers.
    options, physics
        What is given for options of Gymnasium's, and for what Gymnasium has no options for.
    """
    defaults = {name: parameter.default for name, parameter in inspect.signature(factory).parameters.items()}

    def changed(given: dict[str, Any] | None) -> dict[str, Any]:
        return {name: value for name, value in (given or {}).items() if value != defaults[name]}

    ids = (ids,) if isinstance(ids, str) else ids
    name = next((name for name in ids if name in gymnasium().registry), ids[0])
    found = changed(options)
    if changed(physics) or (found and name != ids[0]):
        return {"name": ids[0], "max_steps": max_steps}
    if max_steps != defaults["max_steps"]:
        found["max_episode_steps"] = -1 if max_steps is None else max_steps
    return {"name": ids[0], "max_steps": max_steps, "gymnasium_id": name, "gymnasium_options": found}
