"""OpenVINO, given the ONNX model. It reads and writes NumPy's memory; another layout in between is its own choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov

from bench.peers import Call, one_node


def prepare(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    model = one_node.model(operation, arguments)
    if model is None or arguments.get("peepholes") is not None:  # it would take no notice of those
        return None
    core = ov.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # its own choice may be bfloat16
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core.compile_model(core.read_model(model.data), "CPU", settings)
    request = compiled.create_infer_request()
    x, *outputs = arrays = [arguments["x"], *(np.empty(port.shape, np.float32) for port in compiled.outputs)]
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))
    for i, output in enumerate(outputs):
        request.set_output_tensor(i, ov.Tensor(output, shared_memory=True))

    def results() -> Any:
        return one_node.results(arrays[1:])  # (x has to live as long as well)

    def call() -> Any:
        request.infer(share_inputs=True, share_outputs=True)
        return results

    return call
