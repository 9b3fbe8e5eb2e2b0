"""ONNX Runtime."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

from bench.peers import Call, one_node


def prepare(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    model = one_node.model(operation, arguments)
    if model is None:
        return None
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    session = ort.InferenceSession(model.data, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(arguments["x"]))
    for name in model.outputs:
        binding.bind_output(name)

    def results() -> Any:
        return one_node.results(binding.copy_outputs_to_cpu())

    def call() -> Any:
        session.run_with_iobinding(binding)
        return results

    return call
