"""csrc/binding/call.c, beside the kernels, which fastdl._kernels names."""

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

def shortcut(function: Function, /) -> Function: ...
def remember(function: Function, /) -> Function: ...
def take_gradients(
    grads: tuple[Any, ...], params: tuple[Any, ...], places: Any, table: Any, dtype_number: int, /
) -> int: ...
