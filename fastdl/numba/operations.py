"""Each operation's own Python body, compiled, and those of the @helper functions that they call."""

from __future__ import annotations

import inspect
from typing import Any

from numba.extending import overload

from fastdl.functional import _operation


def _register(function: Any, body: Any) -> None:
    # The overload's signature has to be the function's own, defaults included.
    def typing(*args: Any, **kwargs: Any) -> Any:
        return body

    typing.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]
    overload(function)(typing)


for _function, _body in _operation.HELPERS.items():
    _register(_function, _body)
for _function in _operation.OPERATIONS.values():
    _register(_function, _function)
