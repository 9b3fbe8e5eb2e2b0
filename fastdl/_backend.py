"""Where layers and optimizers look up the functions that they are made of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

DEFAULT: Any = sys.modules["fastdl"]  # which imports this module, and not the other way round
_backend: ContextVar[Any] = ContextVar("backend", default=DEFAULT)

functions = _backend.get
"""functions().conv2d is the conv2d in use."""


@contextmanager
def backend(module: Any) -> Iterator[None]:
    """Layers and optimizers use the functions of `module`, for example fastdl.reference, inside the with block."""
    token = _backend.set(module)
    try:
        yield
    finally:
        _backend.reset(token)
