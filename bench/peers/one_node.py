"""An operation as an ONNX model of one node, for the peers that read those. float32 only.

Parameters are constants of the model, so that a peer can lay them out beforehand. A fused activation is one more node.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import fastdl
from bench.peers import layers
from tests.cases.window import as_tuple


class Model(NamedTuple):
    data: bytes
    outputs: list[str]


class Node(NamedTuple):
    kind: str
    attributes: dict[str, Any]
    inputs: dict[str, np.ndarray | None]
    """Those after x, which are constants; None: left out."""


OPSETS = {"Mish": 18, "Gelu": 20}
"""Where 17 does not do."""

POINTWISE = {
    "celu": "Celu",
    "elu": "Elu",
    "erf": "Erf",
    "exp": "Exp",
    "gelu": "Gelu",
    "hardswish": "HardSwish",
    "leaky_relu": "LeakyRelu",
    "log": "Log",
    "mish": "Mish",
    "relu": "Relu",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "softsign": "Softsign",
    "tanh": "Tanh",
}

ARITHMETIC = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "maximum": "Max",
    "minimum": "Min",
    "matmul": "MatMul",
}
REDUCTIONS = {"mean": "ReduceMean", "amax": "ReduceMax", "amin": "ReduceMin"}


def model(operation: str, a: dict[str, Any]) -> Model | None:
    node = _node(operation, a) if layers.plain(a) else None
    if node is None:
        return None
    constants = [
        numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in node.inputs.items() if v is not None
    ]
    names = [name if value is not None else "" for name, value in node.inputs.items()]
    outputs = ["y", "h_n", "c_n"][: {"LSTM": 3, "GRU": 2, "RNN": 2}.get(node.kind, 1)]
    nodes = [helper.make_node(node.kind, ["x", *names], outputs, **node.attributes)]
    if a.get("activation") == "relu":
        nodes[0].output[0] = "before"
        nodes.append(helper.make_node("Relu", ["before"], outputs))
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, a["x"].shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )
    opset = helper.make_opsetid("", OPSETS.get(node.kind, 17))
    return Model(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString(), outputs)


def results(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """What the model returned as fastdl lays it out."""
    if len(arrays) == 1:
        return arrays
    y = arrays[0].swapaxes(1, 2)  # a network's (steps, directions, batch, hidden)
    return [y.reshape(*y.shape[:2], -1), *arrays[1:]]


def _node(operation: str, a: dict[str, Any]) -> Node | None:
    x, (family, rank) = a["x"], layers.family(operation)
    if family in ("lstm", "gru", "rnn"):
        return _network(operation, a) if x.ndim == 3 else None
    if rank and x.ndim != rank + 2:
        return None
    constants = {name: a[name] for name in ("weight", "bias") if a.get(name) is not None}
    if family == "linear" and x.ndim == a["weight"].ndim == 2:
        return Node("Gemm", {"transB": 1}, constants)
    if family in ("conv", "conv_transpose", "max_pool", "avg_pool"):
        kernel, stride, dilation, before, after = layers.window(a, rank)
        sizes = {"kernel_shape": kernel, "strides": stride, "pads": before + after}
        if family == "avg_pool":
            counted = {"count_include_pad": int(a.get("count_include_pad", True))}
            return Node("AveragePool", sizes | counted, {}) if set(dilation) == {1} else None
        sizes["dilations"] = dilation
        if family == "max_pool":
            return Node("MaxPool", sizes, {})
        sizes["group"] = a.get("groups", 1)
        if family == "conv":
            return Node("Conv", sizes, constants)
        more = as_tuple(a.get("output_padding", 0), rank)
        return Node("ConvTranspose", sizes | {"output_padding": more}, constants)
    if family in ("adaptive_avg_pool", "adaptive_max_pool") and a["output_size"] == 1:
        return Node("GlobalAveragePool" if family == "adaptive_avg_pool" else "GlobalMaxPool", {}, {})
    if family == "pad":
        none, pad = [0] * (x.ndim - len(a["pad"]) // 2), a["pad"]
        pads = none + list(pad[-2::-2]) + none + list(pad[::-2])
        mode = {"replicate": "edge", "circular": "wrap"}.get(a.get("mode", "constant"), a.get("mode", "constant"))
        # (onnxruntime has "wrap" from opset 19 on)
        return None if mode == "wrap" else Node("Pad", {"mode": mode}, {"pads": np.array(pads)})
    if family in ("softmax", "log_softmax"):
        return Node("Softmax" if family == "softmax" else "LogSoftmax", {"axis": a.get("dim", -1)}, {})
    if family in ARITHMETIC and "alpha" not in a and isinstance(x, np.ndarray):
        return Node(ARITHMETIC[family], {}, {"other": np.asarray(a.get("other", a.get("exponent")), x.dtype)})
    if family in ("sum", *REDUCTIONS):
        dim = a.get("dim")
        axes = np.array(tuple(range(x.ndim)) if dim is None else dim).reshape(-1) % max(x.ndim, 1)
        keep = {"keepdims": int(a.get("keepdim", False))}
        if family == "sum":
            return Node("ReduceSum", keep, {"axes": axes})
        return Node(REDUCTIONS[family], keep | {"axes": axes.tolist()}, {})
    if family in POINTWISE:
        options = {"alpha" if name == "negative_slope" else name: value for name, value in a.items() if name != "x"}
        return Node(POINTWISE[family], options, {})
    return None


def _network(operation: str, a: dict[str, Any]) -> Node | None:
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
    return Node(kind, attributes, inputs)
