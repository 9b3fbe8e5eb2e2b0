"""Whole networks, as ONNX models with random weights, against what else runs them.

python -m bench.onnx resnet50 vgg11 mobilenet_v2 lenet transformer [--threads 1] [--cpu] [--peers onnxruntime openvino]
python -m bench.onnx memory      the peak of a process that loads ResNet-50 and runs it, fastdl's against onnxruntime's

One sample. Contenders take turns in one process; results are compared first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.environment import hold_to

Call = Callable[[], Any]


class Network:
    """An ONNX model, node after node."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        import numpy as np

        self.name, self.shape, self.nodes, self.weights = name, shape, [], {}  # type: ignore[var-annotated]
        self.random = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, array: Any, dtype: str = "float32") -> str:
        import numpy as np

        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(array, dtype)
        return name

    def normal(self, *shape: int, scale: float) -> str:
        return self.constant(self.random.standard_normal(shape, dtype="float32") * scale)

    def conv(
        self,
        x: str,
        channels: int,
        out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        act: str = "relu",
        pad: int | None = None,
    ) -> str:
        inside = channels // groups
        weight = self.normal(out, inside, kernel, kernel, scale=(2 / (inside * kernel**2)) ** 0.5)
        bias = [] if norm else [self.normal(out, scale=0.1)]
        pads = [kernel // 2 if pad is None else pad] * 4
        x = self.add("Conv", x, weight, *bias, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups)
        if norm:
            statistics = [1 + 0.1 * self.random.standard_normal(out), 0.1 * self.random.standard_normal(out)]
            statistics += [0.1 * self.random.standard_normal(out), self.random.uniform(0.5, 1.5, out)]
            x = self.add("BatchNormalization", x, *map(self.constant, statistics))
        return self.act(x, act)

    def act(self, x: str, name: str) -> str:
        if name == "relu6":
            return self.add("Clip", x, self.constant(0.0), self.constant(6.0))
        return self.add("Relu", x) if name == "relu" else x

    def pool(self, x: str, kernel: int = 2, stride: int = 2, pad: int = 0) -> str:
        return self.add("MaxPool", x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def dense(self, x: str, inputs: int, out: int, act: str = "") -> str:
        weight = self.normal(out, inputs, scale=(2 / inputs) ** 0.5)
        return self.act(self.add("Gemm", x, weight, self.normal(out, scale=0.1), transB=1), act)

    def linear(self, x: str, inputs: int, out: int) -> str:
        weight = self.normal(inputs, out, scale=inputs**-0.5)
        return self.add("Add", self.add("MatMul", x, weight), self.normal(out, scale=0.1))

    def finish(self, y: str) -> bytes:
        from onnx import TensorProto, helper, numpy_helper

        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        last = helper.make_tensor_value_info(y, TensorProto.FLOAT, None)
        weights = [numpy_helper.from_array(v, k) for k, v in self.weights.items()]
        graph = helper.make_graph(self.nodes, self.name, [x], [last], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(model.SerializeToString())


def resnet50() -> bytes:
    net = Network("resnet50", (1, 3, 224, 224))
    x = net.pool(net.conv("x", 3, 64, 7, 2), 3, 2, 1)
    channels = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = net.conv(net.conv(x, channels, width, 1), width, width, 3, stride)
            y = net.conv(y, width, 4 * width, 1, act="")
            if not block:
                x = net.conv(x, channels, 4 * width, 1, stride, act="")
            x, channels = net.act(net.add("Add", y, x), "relu"), 4 * width
    return net.finish(net.dense(net.add("Flatten", net.add("GlobalAveragePool", x)), 2048, 1000))


def vgg11() -> bytes:
    net = Network("vgg11", (1, 3, 224, 224))
    x, channels = "x", 3
    for width in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        x = net.conv(x, channels, width, 3, norm=False) if width else net.pool(x)
        channels = width or channels
    x = net.add("Flatten", x)
    x = net.dense(net.dense(x, 512 * 49, 4096, "relu"), 4096, 4096, "relu")
    return net.finish(net.dense(x, 4096, 1000))


def mobilenet_v2() -> bytes:
    net = Network("mobilenet_v2", (1, 3, 224, 224))
    x, channels = net.conv("x", 3, 32, 3, 2, act="relu6"), 32
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, width, blocks, first in stages:
        for block in range(blocks):
            stride, inside = first if not block else 1, channels * expand
            y = net.conv(x, channels, inside, 1, act="relu6") if expand > 1 else x
            y = net.conv(y, inside, inside, 3, stride, inside, act="relu6")
            y = net.conv(y, inside, width, 1, act="")
            x = net.add("Add", x, y) if stride == 1 and channels == width else y
            channels = width
    x = net.add("GlobalAveragePool", net.conv(x, channels, 1280, 1, act="relu6"))
    return net.finish(net.dense(net.add("Flatten", x), 1280, 1000))


def lenet() -> bytes:
    net = Network("lenet", (1, 1, 28, 28))
    x = net.pool(net.conv("x", 1, 6, 5, norm=False))
    x = net.add("Flatten", net.pool(net.conv(x, 6, 16, 5, norm=False, pad=0)))
    return net.finish(net.dense(net.dense(net.dense(x, 400, 120, "relu"), 120, 84, "relu"), 84, 10))


def transformer(layers: int = 4, width: int = 128, tokens: int = 64, heads: int = 4) -> bytes:
    """An encoder, norms first, as exporters write it."""
    net = Network("transformer", (1, tokens, width))

    def norm(x: str) -> str:
        scale = net.constant(1 + 0.1 * net.random.standard_normal(width))
        return net.add("LayerNormalization", x, scale, net.normal(width, scale=0.1), axis=-1, epsilon=1e-5)

    def split(x: str, perm: list[int]) -> str:
        shape = net.constant([0, 0, heads, width // heads], "int64")
        return net.add("Transpose", net.add("Reshape", x, shape), perm=perm)

    x = "x"
    for _ in range(layers):
        y = norm(x)
        q, k, v = (split(net.linear(y, width, width), perm) for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        scores = net.add("Div", net.add("MatMul", q, k), net.constant((width / heads) ** 0.5))
        mixed = net.add("Transpose", net.add("MatMul", net.add("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        mixed = net.add("Reshape", mixed, net.constant([0, 0, width], "int64"))
        x = net.add("Add", x, net.linear(mixed, width, width))
        y = net.linear(norm(x), width, 4 * width)
        erf = net.add("Erf", net.add("Div", y, net.constant(2**0.5)))
        y = net.add("Mul", net.add("Mul", y, net.add("Add", erf, net.constant(1.0))), net.constant(0.5))
        x = net.add("Add", x, net.linear(y, 4 * width, width))
    return net.finish(norm(x))


MODELS = {f.__name__: f for f in (resnet50, vgg11, mobilenet_v2, lenet, transformer)}


def with_fastdl(model: bytes, x: Any, threads: int) -> Call:
    import fastdl.onnx

    fastdl.set_num_threads(threads)
    run = fastdl.onnx.load(model).run
    return lambda: run([x])[0]


def with_onnxruntime(model: bytes, x: Any, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def with_openvino(model: bytes, x: Any, threads: int) -> Call:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    return lambda: request.infer([x])[0]


def with_torch(model: bytes, x: Any, threads: int) -> Call:
    """The same calls of torch.nn.functional, traced and frozen, as its users do for inference."""
    import onnx
    import torch

    torch.set_num_threads(threads)
    graph = onnx.load_from_string(model).graph
    weights = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in graph.initializer}

    class Net(torch.nn.Module):  # type: ignore[misc]
        def forward(self, value: Any) -> Any:
            env = {"x": value, **weights}
            for node in graph.node:
                attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
                env[node.output[0]] = _torch_node(node.op_type, [env[n] for n in node.input], attributes)
            return env[graph.output[0].name]

    value = torch.from_numpy(x)
    with torch.no_grad():
        traced = torch.jit.freeze(torch.jit.trace(Net().eval(), value))
        for _ in range(3):
            traced(value)

    def call() -> Any:
        with torch.inference_mode():
            return traced(value).numpy()

    return call


def _torch_node(kind: str, i: list[Any], a: dict[str, Any]) -> Any:
    import torch
    from torch.nn import functional

    table: dict[str, Callable[[], Any]] = {
        "Conv": lambda: functional.conv2d(*i, stride=a["strides"], padding=a["pads"][:2], groups=a["group"]),
        "BatchNormalization": lambda: functional.batch_norm(i[0], i[3], i[4], i[1], i[2]),
        "Relu": lambda: functional.relu(i[0]),
        "Clip": lambda: functional.hardtanh(i[0], 0.0, 6.0),
        "MaxPool": lambda: functional.max_pool2d(i[0], a["kernel_shape"], a["strides"], a["pads"][:2]),
        "GlobalAveragePool": lambda: functional.adaptive_avg_pool2d(i[0], 1),
        "Flatten": lambda: i[0].flatten(1),
        "Gemm": lambda: functional.linear(*i),
        "Add": lambda: i[0] + i[1],
        "Mul": lambda: i[0] * i[1],
        "Div": lambda: i[0] / i[1],
        "Erf": lambda: torch.erf(i[0]),
        "MatMul": lambda: i[0] @ i[1],
        "Softmax": lambda: functional.softmax(i[0], -1),
        "Transpose": lambda: i[0].permute(*a["perm"]),
        "Reshape": lambda: i[0].reshape([n or i[0].shape[k] for k, n in enumerate(i[1].tolist())]),
        "LayerNormalization": lambda: functional.layer_norm(i[0], i[1].shape, i[1], i[2], a["epsilon"]),
    }
    return table[kind]()


def with_ncnn(model: bytes, x: Any, threads: int) -> Call | None:
    """ncnn does not read ONNX: its own text of a convolutional network, batch norms folded."""
    import ncnn
    import numpy as np

    import fastdl.onnx

    loaded = fastdl.onnx.load(model)
    nodes, constants = loaded._graph.nodes, loaded._graph.constants
    known = {"Conv", "Relu", "Clip", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm", "Add"}
    if not {n.operator.name for n in nodes} <= known:
        return None
    lines, data, word = ["Input x 0 1 x"], [], np.zeros(1, np.int32).tobytes()
    left = {n: sum(n in m.uses for m in nodes) for n in ("x", *(m.outputs[0] for m in nodes))}
    taken: dict[str, int] = {}

    def blob(name: str) -> str:
        """A blob may be taken once: others are copies."""
        if left[name] < 2:
            return name
        taken[name] = taken.get(name, -1) + 1
        return f"{name}_{taken[name]}"

    for node in nodes:
        a, kind, out = node.attributes, node.operator.name, node.outputs[0]
        inputs = [blob(n) for n in node.inputs if n in left]
        if kind in ("Conv", "Gemm"):
            weight, bias = (constants[n] for n in node.inputs[1:])
            data += [word, weight.tobytes(), bias.tobytes()]
            settings = f"0={len(weight)}"
            if kind == "Gemm":
                kind, settings = "InnerProduct", f"{settings} 1=1 2={weight.size}"
            else:
                kind = "Convolution" if a["group"] == 1 else "ConvolutionDepthWise"
                settings += f" 1={a['kernel_shape'][0]} 3={a['strides'][0]} 4={a['pads'][0]} 5=1 6={weight.size}"
                settings += f" 7={a['group']}" if a["group"] > 1 else ""
        elif kind in ("MaxPool", "GlobalAveragePool"):
            whole = kind == "GlobalAveragePool"
            settings = "0=1 4=1" if whole else f"0=0 1={a['kernel_shape'][0]} 2={a['strides'][0]} 3={a['pads'][0]} 5=1"
            kind = "Pooling"
        else:
            kind, settings = {
                "Relu": ("ReLU", ""),
                "Clip": ("Clip", "0=0.0 1=6.0"),
                "Flatten": ("Flatten", ""),
                "Add": ("BinaryOp", "0=0"),
            }[kind]
        lines.append(f"{kind} {out} {len(inputs)} 1 {' '.join(inputs)} {out} {settings}")
        if left[out] > 1:
            copies = [f"{out}_{i}" for i in range(left[out])]
            lines.append(f"Split {out}_split 1 {len(copies)} {out} {' '.join(copies)}")
    blobs = 1 + sum(int(line.split()[3]) for line in lines[1:])
    net = ncnn.Net()
    net.opt.num_threads = threads
    for name in dir(net.opt):
        if name.startswith(("use_fp16", "use_bf16")):
            setattr(net.opt, name, False)
    with tempfile.TemporaryDirectory() as folder:
        text, weights = Path(folder, "net.param"), Path(folder, "net.bin")
        text.write_text("\n".join(["7767517", f"{len(lines)} {blobs}", *lines]) + "\n")
        weights.write_bytes(b"".join(data))
        if net.load_param(str(text)) or net.load_model(str(weights)):
            raise RuntimeError("ncnn does not load the model")
    image = ncnn.Mat(x[0]).clone()

    def call() -> Any:
        extractor = net.create_extractor()
        extractor.input("x", image)
        return np.array(extractor.extract(nodes[-1].outputs[0])[1])[np.newaxis]

    return call


def with_numpy(model: bytes, x: Any, threads: int) -> Call:
    """ONNX's own reference, which is plain NumPy: an implementation that is nobody's here."""
    import threadpoolctl
    from onnx.reference import ReferenceEvaluator

    threadpoolctl.threadpool_limits(threads, user_api="blas")
    evaluator = ReferenceEvaluator(model)
    return lambda: evaluator.run(None, {"x": x})[0]


PEERS: dict[str, Callable[[bytes, Any, int], Call | None]] = {
    "onnxruntime": with_onnxruntime,
    "openvino": with_openvino,
    "ncnn": with_ncnn,
    "torch": with_torch,
}


CONTENDERS: dict[str, Callable[[bytes, Any, int], Call | None]] = {
    "fastdl": with_fastdl,
    "numpy": with_numpy,
    **PEERS,
}
FLOPS = {"resnet50": 8.178e9, "vgg11": 15.22e9, "mobilenet_v2": 0.6015e9, "lenet": 0.833e6, "transformer": 109.1e6}
"""Of products and convolutions."""


def sample(name: str) -> Any:
    import numpy as np

    shape = {"lenet": (1, 1, 28, 28), "transformer": (1, 64, 128)}.get(name, (1, 3, 224, 224))
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def compared(found: Any, expected: Any, what: str) -> None:
    """Of networks of many layers, whose rounding differs: to a thousandth of the largest."""
    import numpy as np

    if found.shape != expected.shape:
        raise AssertionError(f"{what}: found the shape {found.shape}, expected {expected.shape}")
    error = np.abs(found - expected).max() / np.abs(expected).max()
    if not error < 1e-3:
        raise AssertionError(f"{what} computes something else: {error} of the largest")


def compare(name: str, peers: list[str], threads: int, rounds: int) -> dict[str, Any]:
    import statistics

    import numpy as np

    import fastdl
    from bench.timing import interleave, median_ratio

    model, x = MODELS[name](), sample(name)
    calls: dict[str, Call] = {"fastdl": with_fastdl(model, x, threads)}
    calls |= {p: call for p in peers if (call := PEERS[p](model, x, threads)) is not None}
    results = {peer: np.asarray(call()) for peer, call in calls.items()}
    for peer, found in results.items():
        compared(found, results["fastdl"], peer)
    seconds = 0.05 if name in ("lenet", "transformer") else 0.5
    times = interleave(calls, rounds, seconds)
    report: dict[str, Any] = {"model": name, "threads": threads, "version": fastdl.__version__}
    report["fastdl, ms"] = 1e3 * statistics.median(times["fastdl"])
    return report | {f"over {p}": median_ratio(times[p], times["fastdl"]) for p in calls if p != "fastdl"}


_MEMORY = """
import sys
import numpy as np
def peak(): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
x = np.ones((1, 3, 224, 224), np.float32)
if sys.argv[1] == "fastdl":
    import fastdl.onnx
    fastdl.set_num_threads(1)
    def load(): return (lambda run: lambda: run([x]))(fastdl.onnx.load(sys.argv[2]).run)
else:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    def load(): return (lambda s: lambda: s.run(None, {"x": x}))(onnxruntime.InferenceSession(sys.argv[2], options))
before = peak()
run = load()
for _ in range(3):
    run()
print(before, peak())
"""


def memory() -> dict[str, Any]:
    """MB, of processes of their own; the second number without what imports take."""
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "resnet50.onnx")
        path.write_bytes(resnet50())
        for name in ("fastdl", "onnxruntime"):
            command = [sys.executable, "-c", _MEMORY, name, str(path)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            before, peak = (int(n) / 1024 for n in output)
            report |= {f"{name}, MB": peak, f"{name} beyond imports, MB": peak - before}
    report["fastdl over onnxruntime"] = report["fastdl, MB"] / report["onnxruntime, MB"]
    return report


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(
        prog="bench.onnx", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=[*MODELS, "memory"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--isa", choices=("native", "v3"), default="native", help="v3: hold peers to AVX2")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--json", help="write the reports to this file too")
    hold_to("native", 1)
    from bench.timing import offer_cpu_time

    offer_cpu_time(parser)
    options = parser.parse_args(argv)
    hold_to("native", options.threads)
    reports = []
    for what in options.what:
        report = memory() if what == "memory" else compare(what, options.peers, options.threads, options.rounds)
        reports.append(report)
        for name, value in report.items():
            print(f"{name:<34}{value:.3f}" if isinstance(value, float) else f"{name:<34}{value}")
    if options.json:
        Path(options.json).write_text(json.dumps(reports, indent=1))
    return reports


if __name__ == "__main__":
    main()
