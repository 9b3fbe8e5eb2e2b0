"""The contenders, a file each, NAME_.py, found by name (torch.compile: torch_compile_.py): it turns an operation and
its arguments into a call that takes none and is ready to be timed.

What a file defines:

    prepare(operation, arguments, threads)     that call, or None where the peer does not have the operation
    together(operation, arguments, threads)    where it pays: forward and backward as one call, or None

What can be made once (views, graphs, weights in the peer's own layout where its API offers that) is made before. What
a call returns are arrays or, where handing them over is not part of the work, a function that returns them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any

Arguments = Mapping[str, Any]
Call = Callable[[], Any]

PEERS = {
    "fastdl": ("fastdl",),
    "numba": ("numba",),
    "numpy": ("numpy", "threadpoolctl"),
    "matmul": ("numpy", "threadpoolctl"),
    "torch": ("torch",),
    "torch.compile": ("torch",),
    "onnxruntime": ("onnxruntime", "onnx"),
    "jax": ("jax",),
    "openvino": ("openvino", "onnx"),
    "ncnn": ("ncnn",),
    "mnn": ("MNN", "onnx"),
}
"""Their names, and what has to be installed for each."""


def missing(name: str) -> list[str]:
    return [package for package in PEERS[name] if importlib.util.find_spec(package) is None]


def installed() -> list[str]:
    """The peers that can be imported here."""
    return [name for name in PEERS if not missing(name)]


def peer(name: str) -> Any:
    """The module of that name."""
    if missing(name):
        raise ModuleNotFoundError(f"{name} is not installed: pip install {' '.join(missing(name))}")
    return importlib.import_module(f"{__name__}.{name.replace('.', '_')}_")


def prepare(name: str, operation: str, arguments: Arguments, threads: int) -> Call | None:
    return peer(name).prepare(operation, dict(arguments), threads)


def together(name: str, operation: str, arguments: Arguments, threads: int) -> Call | None:
    """Forward and backward as one call; None: nothing passes from one to the other, so that each can be made alone."""
    build = getattr(peer(name), "together", None)
    return build(operation, dict(arguments), threads) if build else None


def positional(function: Callable[..., Any], arguments: dict[str, Any]) -> Call:
    """As one writes the call: the leading arguments by position, which is also faster than by keyword."""
    parameters = inspect.signature(function).parameters
    by_position = (name for name, each in parameters.items() if each.kind is not inspect.Parameter.KEYWORD_ONLY)
    leading = list(itertools.takewhile(arguments.__contains__, by_position))
    keywords = {name: value for name, value in arguments.items() if name not in leading}
    return functools.partial(function, *(arguments[name] for name in leading), **keywords)


def split_backward(arguments: Arguments, operation: str) -> Arguments:
    """What the forward operation was given, out of the arguments of its backward."""
    import fastdl

    accepted = inspect.signature(getattr(fastdl, operation.removesuffix("_backward"))).parameters
    return {name: value for name, value in arguments.items() if name in accepted and name != "out"}


def arrays_of(result: Any) -> list[Any]:
    """What a call returned, as NumPy arrays (gradients that were not asked for left out)."""
    import numpy as np

    if callable(result):
        return arrays_of(result())
    if isinstance(result, (tuple, list)):
        return [array for item in result for array in arrays_of(item)]
    return [] if result is None or not np.size(result) else [np.asarray(result)]
