"""ONNX Runtime: a graph of one node with the parameters as constants, so that they are packed once. float32 only."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import fastdl
from bench.peers import Call


def prepare(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    x = arguments.get("x")
    node = None if x is None or x.dtype != np.float32 else _node(operation, arguments)
    if node is None:
        return None
    kind, attributes, inputs = node
    constants = [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in inputs.items() if v is not None]
    outputs = {"LSTM": ["y", "h_n", "c_n"], "GRU": ["y", "h_n"], "RNN": ["y", "h_n"]}.get(kind, ["y"])
    names = [name if value is not None else "" for name, value in inputs.items()]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", *names], outputs, **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(x))
    for name in outputs:
        binding.bind_output(name)

    def results() -> list[Any]:
        arrays = list(binding.copy_outputs_to_cpu())
        if len(arrays) > 1:  # a network's (steps, directions, batch, hidden)
            y = arrays[0].swapaxes(1, 2)
            arrays[0] = y.reshape(*y.shape[:2], -1)
        return arrays

    def call() -> Any:
        session.run_with_iobinding(binding)
        return results

    return call


def _node(operation: str, a: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, np.ndarray]] | None:
    """The node's type, its attributes and its constant inputs."""

    def pair(name: str, default: Any) -> list[int]:
        value = default if a.get(name) is None else a[name]
        return [value, value] if isinstance(value, int) else list(value)

    def window(kernel: list[int], stride: Any) -> dict[str, Any]:
        shape = {"kernel_shape": kernel, "strides": pair("stride", stride), "dilations": pair("dilation", 1)}
        return shape | {"pads": pair("padding", 0) * 2}

    if operation in ("lstm", "gru", "rnn"):
        return _network(operation, a)
    if a.get("activation", "none") != "none" or "x" not in a:
        return None
    constants = {name: a[name] for name in ("weight", "bias") if a.get(name) is not None}
    if operation == "linear" and a["x"].ndim == 2:
        return "Gemm", {"transB": 1}, constants
    if operation == "conv2d" and a.get("data_format", "NCHW") == "NCHW":
        return "Conv", window(list(a["weight"].shape[2:]), 1) | {"group": a.get("groups", 1)}, constants
    if operation == "conv_transpose2d":
        transposed = {"group": a.get("groups", 1), "output_padding": pair("output_padding", 0)}
        return "ConvTranspose", window(list(a["weight"].shape[2:]), 1) | transposed, constants
    if operation == "pad":
        x, pad = a["x"], a["pad"]
        none = [0] * (x.ndim - len(pad) // 2)
        pads = none + list(pad[-2::-2]) + none + list(pad[::-2])
        mode = {"replicate": "edge", "circular": "wrap"}.get(a.get("mode", "constant"), a.get("mode", "constant"))
        # (onnxruntime has "wrap" from opset 19 on)
        return None if mode == "wrap" else ("Pad", {"mode": mode}, {"pads": np.array(pads)})
    kind, rank = operation[:-2] if re.search(r"pool\dd$", operation) else "", a["x"].ndim - 2
    if kind in ("max_pool", "avg_pool") and a.get("data_format", "NC").startswith("NC"):
        each = lambda value: [value] * rank if isinstance(value, int) else list(value)  # noqa: E731
        kernel = each(a["kernel_size"])
        sizes = {
            "kernel_shape": kernel,
            "strides": each(a.get("stride") or kernel),
            "pads": each(a.get("padding", 0)) * 2,
        }
        if kind == "max_pool":
            return "MaxPool", sizes | {"dilations": each(a.get("dilation", 1))}, {}
        return "AveragePool", sizes | {"count_include_pad": int(a.get("count_include_pad", True))}, {}
    if kind in ("adaptive_avg_pool", "adaptive_max_pool") and a["output_size"] == 1:
        return "GlobalAveragePool" if kind == "adaptive_avg_pool" else "GlobalMaxPool", {}, {}
    if operation == "relu":
        return "Relu", {}, {}
    if operation in ("softmax", "log_softmax"):
        return {"softmax": "Softmax", "log_softmax": "LogSoftmax"}[operation], {"axis": a.get("dim", -1)}, {}
    return None


def _network(operation: str, a: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]] | None:
    """One layer, in one direction or both, whose states before the first step are constants as well."""
    others = ("lengths", "dropout", "batch_first", "reverse", "return_saved")
    if any(a.get(name) is not None and a.get(name) is not False for name in others) or a.get("num_layers", 1) > 1:
        return None
    both, hidden, each = a.get("bidirectional", False), a["weights"][1].shape[1], len(a["weights"])
    if operation == "lstm" and (each // (1 + both)) % 2:
        return None  # a projection
    kind = operation.upper()
    given = fastdl.weights_to_onnx(kind, a["weights"], both, a.get("peepholes"))
    inputs = {"W": given["W"], "R": given["R"], "B": given.get("B"), "lengths": None, "h0": a.get("h0")}
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": "bidirectional" if both else "forward"}
    if kind == "LSTM":
        inputs |= {"c0": a.get("c0"), "P": given.get("P")}
    if kind == "GRU":
        attributes["linear_before_reset"] = int(a.get("linear_before_reset", True))
    if kind == "RNN":
        attributes["activations"] = [a.get("nonlinearity", "tanh").capitalize()] * (1 + both)
    while inputs and list(inputs.values())[-1] is None:
        inputs.popitem()
    return kind, attributes, inputs
