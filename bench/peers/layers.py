"""What the peers that run models of layers share: which arguments they can be given, and the windows in them."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from tests.cases.window import as_sides, as_tuple

CAN_BE = {"activation": ("none", "relu"), "padding_mode": ("zeros",), "data_format": ("NCL", "NCHW", "NCDHW")}
CANNOT = ("residual", "ceil_mode", "return_indices", "divisor_override")


class Window(NamedTuple):
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


def plain(a: dict[str, Any]) -> bool:
    """Whether it is float32, and asks for nothing that only fastdl does in the same call."""
    if "x" not in a or a["x"].dtype != np.float32 or not a["x"].size:
        return False
    can = all(a.get(name, values[0]) in values for name, values in CAN_BE.items())
    return can and all(a.get(name) is None or a[name] is False for name in CANNOT)


def family(operation: str) -> tuple[str, int]:
    """The name without the number of its dimensions, and that number."""
    return (operation[:-2], int(operation[-2])) if re.search(r"\dd$", operation) else (operation, 0)


def window(a: dict[str, Any], rank: int) -> Window:
    """Of convolution or pooling in that many dimensions."""
    kernel = as_tuple(a["kernel_size"] if "kernel_size" in a else a["weight"].shape[2:], rank)
    stride = as_tuple(a.get("stride") or (kernel if "kernel_size" in a else 1), rank)
    dilation = as_tuple(a.get("dilation", 1), rank)
    before, after = zip(*as_sides(a.get("padding", 0), kernel, dilation), strict=True)
    return Window(kernel, stride, dilation, before, after)
