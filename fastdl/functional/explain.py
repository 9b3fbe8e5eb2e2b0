"""What convolution does for given shapes, and why."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._config import get_num_threads, set_num_threads
from fastdl._docs import doc
from fastdl._native import ffi, lib
from fastdl.functional._window import Pair
from fastdl.functional.conv._shared import ALGORITHMS, SHARED, Algorithm, Precision
from fastdl.functional.conv.conv import conv2d, conv2d_backward, conv_geometry
from fastdl.functional.conv.packing import pack_conv2d_weight
from fastdl.functional.verbs import choice, fail, is_int, with_batch

__all__ = [
    "ConvExplanation",
    "explain_conv2d",
]

Pass = Literal["forward", "input_grad", "weight_grad"]


class ConvExplanation(NamedTuple):
    """What explain_conv2d returns; printed, it is three lines.

    Examples
    --------
    >>> import fastdl
    >>> isinstance(fastdl.explain_conv2d((1, 8, 9, 9), (8, 8, 3, 3)), fastdl.ConvExplanation)
    True
    """

    algorithm: str
    """Which one runs: a name that conv2d's argument of that name takes."""
    reason: str
    """Why that one."""
    output_shape: tuple[int, ...]
    """The shape of what the pass computes."""
    flops: int
    """Multiplications and additions of the definition; Winograd's algorithm does fewer."""
    bytes: int
    """Least memory traffic: what is read and what is written, once each."""
    scratch: int
    """Bytes of scratch memory that a thread takes, as measured."""

    def __str__(self) -> str:
        return (
            f"{self.algorithm}: {self.reason}\n"
            f"output {self.output_shape}, {self.flops / 1e6:,.1f} MFLOP, {self.bytes / 1e6:,.2f} MB in and out, "
            f"{self.scratch / 1024:,.0f} KiB of scratch a thread"
        )


@doc(SHARED)
def explain_conv2d(
    x_shape: Any,
    weight_shape: Any,
    stride: int | Pair = 1,
    padding: Any = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    data_format: Literal["NCHW", "NHWC"] = "NCHW",
    algorithm: Algorithm = "auto",
    packed: bool = False,
    dtype: Any = None,
    which: Pass = "forward",
    precision: Precision = "default",
) -> ConvExplanation:
    """Which algorithm conv2d, or a gradient of it, uses for arrays of these shapes, why, and what it costs.

    The pass is run once, on zeros and one thread, to measure its scratch memory.

    Parameters
    ----------
    x_shape, weight_shape : tuples of 4 ints, or arrays
        What conv2d will be given, or its shapes.
    {window}
    data_format : {"NCHW", "NHWC"}
        Where the channels of x are.
    {algorithm}
    packed : bool
        With weights from ``pack_conv2d_weight(..., x_shape=x_shape)``; only of the forward pass.
    dtype : float32 or float64
        Of the arrays; where they are given as shapes, float32 unless said.
    which : {"forward", "input_grad", "weight_grad"}
        The pass: conv2d, or what conv2d_backward computes for x or for the weights.
    {precision}

    Returns
    -------
    ConvExplanation
        algorithm, reason, output_shape, flops, bytes, scratch.

    Raises
    ------
    ValueError
        Where conv2d refuses these arguments, or `which` is none of those.

    Examples
    --------
    >>> import fastdl
    >>> fastdl.explain_conv2d((1, 64, 56, 56), (64, 64, 3, 3), padding=1).algorithm
    'winograd'
    >>> fastdl.explain_conv2d((1, 64, 56, 56), (64, 64, 3, 3), stride=2, which="input_grad").reason
    'pixels a stride apart see the same taps: a convolution at stride 1 for each set of them'
    """
    code = choice(which, "which", _kernels.PASS_NAMES)
    if packed and which != "forward":
        fail("packed", "True for a gradient", "False: gradients take the plain weight")
    x_shape, dtype = _shape(x_shape, "x_shape", dtype)
    weight_shape, dtype = _shape(weight_shape, "weight_shape", dtype)
    window, shape, codes, _ = conv_geometry(
        x_shape,
        weight_shape,
        stride,
        padding,
        dilation,
        groups,
        "zeros",
        data_format,
        algorithm,
        "none",
        (),
        precision,
    )
    form: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "data_format": data_format,
        "precision": precision,
    }
    x, weight, y = np.zeros(x_shape, dtype), np.zeros(weight_shape, dtype), np.zeros(shape, dtype)
    kernel: Any = pack_conv2d_weight(weight, **form, x_shape=with_batch(x_shape, "x_shape", (1,) * 4)) if packed else 0
    threads = get_num_threads()
    set_num_threads(1)  # scratch is known for the calling thread
    try:
        lib.fdl_scratch_reset()
        if which == "forward":
            conv2d(x, kernel if packed else weight, None, **form, algorithm=algorithm)
        elif which == "input_grad":
            gradient = np.empty_like(x)
            _kernels.conv_backward(y, x, weight, gradient, None, None, window, codes[0], codes[1])
        else:
            conv2d_backward(y, x, weight, **form, algorithm=algorithm, input_grad=False)
        scratch = lib.fdl_scratch_peak()
    finally:
        set_num_threads(threads)
    plan = np.array([codes[0], -1, -1, 0], np.int64)
    _kernels.conv_plan(x, plan, window, kernel.tile if packed else -1, code, codes[1])
    why = [ffi.string(_kernels.conv_reason(int(row))).decode() for row in plan[1:3] if row >= 0]
    found = ALGORITHMS[plan[0]]
    return ConvExplanation(
        algorithm=found,
        reason="asked for" if found == algorithm else ": ".join(why),
        output_shape={"forward": shape, "input_grad": x_shape, "weight_grad": weight_shape}[which],
        flops=2 * y.size * math.prod(weight_shape[1:]),
        bytes=x.nbytes + weight.nbytes + y.nbytes,
        scratch=scratch,
    )


def _shape(given: Any, argument: str, dtype: Any) -> tuple[tuple[int, ...], Any]:
    """What conv2d would see: a shape as it is, with float32 if there is no dtype yet, or an array's."""
    if hasattr(given, "shape"):
        return tuple(given.shape), given.dtype if dtype is None else dtype
    if not isinstance(given, (tuple, list)) or not all(map(is_int, given)):
        raise TypeError(f"{argument}: found {given!r}, expected an array or the shape of one")
    return tuple(map(int, given)), np.float32 if dtype is None else dtype
