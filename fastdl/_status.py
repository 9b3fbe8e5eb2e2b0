"""What a kernel's status code means in Python."""

from __future__ import annotations

from typing import NoReturn

MESSAGES: dict[int, tuple[type[Exception], str]] = {
    1: (MemoryError, "fastdl: out of memory for a kernel's scratch buffers"),
    2: (ValueError, "target: found a class index outside the classes, expected 0 <= target < classes"),
    3: (ValueError, "algorithm: found one that does not compute this convolution, expected another, or 'auto'"),
    4: (ValueError, "indices: found a position outside the array, expected 0 <= index < its spatial volume"),
    5: (ValueError, "x: found a value outside [0, 1], expected probabilities"),
    6: (ValueError, "target: found a value outside [0, 1], expected probabilities"),
    7: (RuntimeError, "packed: found weights packed for another instruction-set level, expected the active one's"),
}


def raise_status(status: int) -> NoReturn:
    kind, message = MESSAGES[status]
    raise kind(message)
