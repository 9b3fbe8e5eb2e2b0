"""fastdl itself."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import fastdl
from bench.peers import Call, positional, split_backward


def prepare(operation: str, arguments: dict[str, Any], threads: int) -> Call:
    fastdl.set_num_threads(threads)
    return positional(getattr(fastdl, operation), arguments)


def together(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    """The backward with what the forward has saved for it, where it saves anything."""
    if "saved" not in arguments:
        return None
    forward = positional(
        getattr(fastdl, operation.removesuffix("_backward")),
        dict(split_backward(arguments, operation)) | {"return_saved": True},
    )
    given = {key: value for key, value in arguments.items() if key != "saved"}
    backward = functools.partial(getattr(fastdl, operation), **given)
    fastdl.set_num_threads(threads)
    return lambda: backward(saved=forward()[-1])


def packed_weight(operation: str, arguments: dict[str, Any]) -> Any:
    """The weight of conv2d or linear as fastdl.pack_..._weight makes it for these very arguments."""
    if operation == "linear":
        return fastdl.pack_linear_weight(arguments["weight"])
    names = inspect.signature(fastdl.pack_conv2d_weight).parameters
    given = {name: value for name, value in arguments.items() if name in names}
    return fastdl.pack_conv2d_weight(**given, x_shape=arguments["x"].shape)
