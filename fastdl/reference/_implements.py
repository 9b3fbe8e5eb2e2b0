"""The signatures of the functions, given to the plain bodies that compute the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from fastdl.reference._window import fill

Function = TypeVar("Function", bound=Callable[..., Any])


def implements(function: Function) -> Callable[[Callable[..., Any]], Function]:
    """Make a body the NumPy counterpart of `function`, with its name, signature and defaults.

    The body takes, under their names, those of the function's arguments that it needs. If `out` is not one of them,
    what it returns is copied there.
    """
    signature = inspect.signature(function)
    names = tuple(signature.parameters)
    defaults = {n: p.default for n, p in signature.parameters.items() if p.default is not inspect.Parameter.empty}

    def decorate(body: Callable[..., Any]) -> Function:
        taken = tuple(inspect.signature(body).parameters)
        fills = "out" in names and "out" not in taken

        def call(*arguments: Any, **options: Any) -> Any:
            given = defaults | dict(zip(names, arguments, strict=False)) | options
            if len(given) != len(names) or len(arguments) + len(options) > len(names):
                signature.bind(*arguments, **options)  # which says what is wrong
            result = body(**{name: given[name] for name in taken})
            return fill(given["out"], result) if fills else result

        call.__name__ = call.__qualname__ = function.__name__
        call.__module__, call.__doc__ = body.__module__, body.__doc__
        call.__signature__ = signature  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return decorate
