"""What conv2d does with a convolution, and why."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._config import get_num_threads, set_num_threads
from fastdl._native import ffi, lib
from fastdl.functional._window import Pair
from fastdl.functional.conv import ALGORITHMS, _geometry, conv2d, pack_conv2d_weight

__all__ = [
    "ConvExplanation",
    "explain_conv2d",
]


class ConvExplanation(NamedTuple):
    algorithm: str
    """Which one runs: a name that conv2d's argument of that name takes."""
    reason: str
    output_shape: tuple[int, ...]
    flops: int
    """Multiplications and additions of the definition; Winograd's algorithm does fewer."""
    bytes: int
    """Least memory traffic: input, weight and output once each."""
    scratch: int
    """Bytes of scratch memory that a thread takes, as measured."""

    def __str__(self) -> str:
        return (
            f"{self.algorithm}: {self.reason}\n"
            f"output {self.output_shape}, {self.flops / 1e6:,.1f} MFLOP, {self.bytes / 1e6:,.2f} MB in and out, "
            f"{self.scratch / 1024:,.0f} KiB of scratch a thread"
        )


def explain_conv2d(
    x_shape: tuple[int, int, int, int],
    weight_shape: tuple[int, int, int, int],
    stride: int | Pair = 1,
    padding: Any = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    algorithm: str = "auto",
    packed: bool = False,
    dtype: Any = np.float32,
) -> ConvExplanation:
    """Which algorithm conv2d uses for arrays of these shapes, why, and what it costs.

    Arguments as for conv2d. packed: with weights from pack_conv2d_weight(..., x_shape=x_shape).
    The convolution is run once, on zeros, to measure its scratch memory.
    """
    window, shape, code, _ = _geometry(
        tuple(x_shape),
        tuple(weight_shape),
        stride,
        padding,
        dilation,
        groups,
        "zeros",
        data_format,
        algorithm,
        "none",
        (),
    )
    arguments: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "data_format": data_format,
    }
    x, weight = np.zeros(x_shape, dtype), np.zeros(weight_shape, dtype)
    kernel: Any = pack_conv2d_weight(weight, **arguments, x_shape=x_shape) if packed else weight
    threads = get_num_threads()
    set_num_threads(1)  # scratch is known for the calling thread
    try:
        lib.fdl_scratch_reset()
        y = conv2d(x, kernel, None, **arguments, algorithm=algorithm)
        scratch = lib.fdl_scratch_peak()
    finally:
        set_num_threads(threads)
    reason = "asked for"
    if algorithm == "auto":
        found = np.zeros(1, np.int64)
        _kernels.conv_plan(x, found, window, kernel.tile if packed else -1)
        code = int(found[0])
        reason = ffi.string(_kernels.conv_reason(code)).decode()
    return ConvExplanation(
        algorithm=ALGORITHMS[code],
        reason=reason,
        output_shape=shape,
        flops=2 * y.size * math.prod(weight_shape[1:]),
        bytes=x.nbytes + weight.nbytes + y.nbytes,
        scratch=scratch,
    )
