"""The error that every mistake in a shape or a value ends in."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np


def fail(argument: str, found: Any, expected: Any) -> NoReturn:
    """Raise the ValueError that every mistake in a shape or a value ends in. A tuple with words in it is a phrase."""
    raise ValueError(f"{argument}: found {phrase(found)}, expected {phrase(expected)}")


def phrase(said: Any) -> str:
    words = type(said) is tuple and any(isinstance(word, str) for word in said)
    return " ".join(map(str, said)) if words else str(said)


def shown(value: Any) -> str:
    """What was found in place of a number or a name, in few words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 80 else f"a value of type {type(value).__name__}"
