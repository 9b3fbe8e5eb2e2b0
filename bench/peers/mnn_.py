"""MNN, given the ONNX model, in float32 (precision "high").

A module is handed a variable that was filled before, channels one after the other, and returns one of the same kind:
what layout it has in between is its own choice. There is no holding it to an instruction set.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _tools  # of MNN; the wrapper of it, MNN.tools, installs packages when it is imported
import MNN

from bench.peers import Call, one_node

OPERATIONS = {"conv2d", "conv_transpose2d", "linear", "max_pool2d", "avg_pool2d", "softmax", "log_softmax"}
OPERATIONS |= set(one_node.POINTWISE) - {"gelu", "mish"}  # the one approximated, the other not to be had


def prepare(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    model = one_node.model(operation, arguments) if operation in OPERATIONS else None
    if model is None or (operation == "max_pool2d" and arguments.get("dilation", 1) != 1):  # it would be ignored
        return None
    settings = {"backend": "CPU", "numThread": threads, "precision": "high"}
    with tempfile.TemporaryDirectory() as folder, silence():
        given, converted = Path(folder, "one.onnx"), Path(folder, "one.mnn")
        given.write_bytes(model.data)
        _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", str(given), "--MNNModel", str(converted)])
        manager = MNN.nn.create_runtime_manager((settings,))
        module = MNN.nn.load_module_from_file(
            str(converted), ["x"], ["y"], runtime_manager=manager, shape_mutable=False
        )
    x = arguments["x"]
    variable = MNN.expr.const(x, list(x.shape), MNN.expr.NCHW)

    def call() -> Any:
        output = module.forward(variable)
        return lambda: output.read()

    return call


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing on the process's standard output, where MNN tells of its steps."""
    flush, kept = ctypes.CDLL(None).fflush, os.dup(1)  # (what C has printed may still be in its buffer)
    flush(None)
    with open(os.devnull) as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)
