"""The node tests of ONNX's own backend test suite, every one of the operations that fastdl has."""

from __future__ import annotations

import inspect
import math
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastdl

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
loader = pytest.importorskip("onnx.backend.test.loader", reason="this ONNX comes without its tests")

Attributes = dict[str, Any]
Inputs = list[np.ndarray]
Pair = tuple[int, int]


class Call(NamedTuple):
    """A node as a call of fastdl, and what makes the node's outputs of the result."""

    operation: str
    arguments: dict[str, Any]
    outputs: Callable[[Any], tuple[Any, ...]] = lambda y: (y,)


class Window(NamedTuple):
    """The attributes of a sliding window, with ONNX's defaults."""

    rank: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    sides: tuple[Pair, ...]

    def symmetric(self, most: tuple[int, ...] | None = None) -> bool:
        """Whether it pads alike on both sides, and no more than `most` (as pooling demands)."""
        return all(b == a for b, a in self.sides) and (
            most is None or all(b <= m for (b, _), m in zip(self.sides, most, strict=True))
        )


def _window(attributes: Attributes, sizes: tuple[int, ...], kernel: Any = None) -> Window:
    rank = len(sizes)
    kernel = tuple(attributes.get("kernel_shape", kernel))
    stride = tuple(attributes.get("strides", (1,) * rank))
    dilation = tuple(attributes.get("dilations", (1,) * rank))
    pads = attributes.get("pads", (0,) * 2 * rank)
    sides = tuple(zip(pads[:rank], pads[rank:], strict=True))
    same = attributes.get("auto_pad", b"NOTSET").decode()
    if same.startswith("SAME"):
        extra = [
            max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, s, d, k in zip(sizes, stride, dilation, kernel, strict=True)
        ]
        sides = tuple((n // 2, n - n // 2) if same == "SAME_UPPER" else (n - n // 2, n // 2) for n in extra)
    return Window(rank, kernel, stride, dilation, sides)


def _padded(x: np.ndarray, sides: tuple[Pair, ...], value: float = 0.0) -> np.ndarray:
    return fastdl.pad(x, tuple(n for side in reversed(sides) for n in side), value=value)


def _conv(attributes: Attributes, inputs: Inputs) -> Call:
    x, weight, *bias = inputs
    w = _window(attributes, x.shape[2:], weight.shape[2:])
    arguments = {"x": x, "weight": weight, "bias": bias[0] if bias else None, "groups": attributes.get("group", 1)}
    return Call(f"conv{w.rank}d", arguments | {"stride": w.stride, "padding": w.sides, "dilation": w.dilation})


def _conv_transpose(attributes: Attributes, inputs: Inputs) -> Call:
    """What output_shape, auto_pad or padding on one side only leave away, or add, is cropped or padded afterwards."""
    x, weight, *bias = inputs
    attributes = dict(attributes)
    same = attributes.pop("auto_pad", b"NOTSET").decode()
    w = _window(attributes, x.shape[2:], weight.shape[2:])
    more = tuple(attributes.get("output_padding", (0,) * w.rank))
    wanted = attributes.get("output_shape")
    if same.startswith("SAME"):
        wanted = [n * s for n, s in zip(x.shape[2:], w.stride, strict=True)]
    sides = w.sides
    if wanted is not None:
        sizes = zip(x.shape[2:], w.stride, w.dilation, w.kernel, more, wanted, strict=True)
        extra = [s * (n - 1) + m + d * (k - 1) + 1 - out for n, s, d, k, m, out in sizes]
        sides = tuple((n // 2, n - n // 2) if same == "SAME_UPPER" else (n - n // 2, n // 2) for n in extra)
    native = all(b == a >= 0 for b, a in sides)
    arguments = {
        "x": x,
        "weight": weight,
        "bias": bias[0] if bias else None,
        "stride": w.stride,
        "padding": tuple(b for b, _ in sides) if native else 0,
        "output_padding": more,
        "groups": attributes.get("group", 1),
        "dilation": w.dilation,
    }
    cropped = () if native else tuple((-b, -a) for b, a in sides)
    return Call(f"conv_transpose{w.rank}d", arguments, lambda y: (_padded(y, cropped),))


def _pooling(name: str, attributes: Attributes, x: np.ndarray, outside: float) -> tuple[Call, bool]:
    """The call, and whether its padding was done beforehand, because the operation does not take it."""
    w = _window(attributes, x.shape[2:])
    native = w.symmetric(tuple(k // 2 for k in w.kernel))
    arguments = {"x": x if native else _padded(x, w.sides, outside), "kernel_size": w.kernel, "stride": w.stride}
    if native and any(b for b, _ in w.sides):
        arguments["padding"] = tuple(b for b, _ in w.sides)
    if any(d > 1 for d in w.dilation):
        arguments["dilation"] = w.dilation
    if attributes.get("ceil_mode", 0):
        arguments["ceil_mode"] = True
    return Call(f"{name}{w.rank}d", arguments), not native


def _max_pool(attributes: Attributes, inputs: Inputs) -> Call:
    """Indices count the elements of all planes; with storage_order 1 those of a plane column by column."""
    (x,) = inputs
    call, _ = _pooling("max_pool", attributes, x, -np.inf)
    if attributes["outputs"] == 1:
        return call

    def outputs(result: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        y, indices = result
        if attributes.get("storage_order", 0):
            indices = np.ravel_multi_index(np.unravel_index(indices, x.shape[2:]), x.shape[2:], order="F")
        planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * (x.ndim - 2))
        return y, indices + planes * math.prod(x.shape[2:])

    return Call(call.operation, call.arguments | {"return_indices": True}, outputs)


def _average_pool(attributes: Attributes, inputs: Inputs) -> Call:
    (x,) = inputs
    call, padded = _pooling("avg_pool", attributes, x, 0.0)
    count_all = bool(attributes.get("count_include_pad", 0))
    arguments = call.arguments | {"count_include_pad": count_all}
    if not padded or count_all:
        return Call(call.operation, arguments)

    def outputs(y: np.ndarray) -> tuple[np.ndarray]:
        """Without what was padded: over the part of each window that is in x."""
        inside = _pooling("avg_pool", attributes, np.ones_like(x), 0.0)[0].arguments["x"]
        return (y / getattr(fastdl, call.operation)(**arguments | {"x": inside}),)

    return Call(call.operation, arguments, outputs)


def _lp_pool(attributes: Attributes, inputs: Inputs) -> Call:
    """Of the absolute values, as ONNX has it; torch does not take them."""
    w = _window(attributes, inputs[0].shape[2:])
    x = _padded(np.abs(inputs[0]), w.sides)
    without = {name: value for name, value in attributes.items() if name not in ("pads", "auto_pad")}
    call, _ = _pooling("lp_pool", without | {"kernel_shape": w.kernel}, x, 0.0)
    return Call(call.operation, call.arguments | {"norm_type": float(attributes.get("p", 2))})


def _global(name: str) -> Callable[[Attributes, Inputs], Call]:
    def call(attributes: Attributes, inputs: Inputs) -> Call:
        return Call(f"{name}{inputs[0].ndim - 2}d", {"x": inputs[0], "output_size": 1})

    return call


def _max_unpool(attributes: Attributes, inputs: Inputs) -> Call:
    """Indices are those in a result of the default size; a larger output_shape adds zeros after it."""
    x, indices, *shape = inputs
    w = _window(attributes, x.shape[2:])
    sizes = [(n - 1) * s + k - b - a for n, s, k, (b, a) in zip(x.shape[2:], w.stride, w.kernel, w.sides, strict=True)]
    wanted = shape[0][2:] if shape else sizes
    more = tuple((0, int(n) - size) for n, size in zip(wanted, sizes, strict=True))
    arguments = {"x": x, "indices": indices % math.prod(sizes), "kernel_size": w.kernel, "stride": w.stride}
    return Call(f"max_unpool{w.rank}d", arguments, lambda y: (_padded(y, more),))


def _pad(attributes: Attributes, inputs: Inputs) -> Call:
    """Integers are padded as float64, which holds these."""
    x, pads, *rest = inputs
    axes = rest[1] if len(rest) > 1 else np.arange(x.ndim)
    sides = [(0, 0)] * x.ndim
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        sides[axis] = int(before), int(after)
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    arguments = {
        "x": x if x.dtype.kind == "f" else x.astype(np.float64),
        "pad": tuple(n for side in reversed(sides) for n in side),
        "mode": modes[attributes.get("mode", b"constant").decode()],
        "value": float(rest[0]) if rest else 0.0,
    }
    return Call("pad", arguments, lambda y: (y.astype(x.dtype),))


def _gemm(attributes: Attributes, inputs: Inputs) -> Call:
    """alpha A B + beta C, where linear has a bias for each column only."""
    a, b, *c = inputs
    a = a.T if attributes.get("transA", 0) else a
    b = b if attributes.get("transB", 0) else b.T
    bias = attributes.get("beta", 1.0) * c[0].astype(np.float32) if c else np.zeros(1, np.float32)
    arguments = {"x": np.float32(attributes.get("alpha", 1.0)) * a, "weight": b}
    if bias.ndim == 2 and len(bias) > 1:
        return Call("linear", arguments, lambda y: (y + bias,))
    return Call("linear", arguments | {"bias": np.broadcast_to(bias.reshape(-1), (len(b),)).astype(np.float32)})


def _col2im(attributes: Attributes, inputs: Inputs) -> Call:
    columns, image, block = inputs
    w = _window(attributes, tuple(map(int, image)), map(int, block))
    arguments = {"columns": columns, "output_size": tuple(map(int, image)), "kernel_size": w.kernel}
    return Call("col2im", arguments | {"dilation": w.dilation, "padding": w.sides, "stride": w.stride})


def _dropout(attributes: Attributes, inputs: Inputs) -> Call:
    """Trains only where a third input says so. The second output is the mask."""
    x, *rest = inputs
    options = {"p": float(rest[0]) if rest else 0.5, "training": len(rest) > 1 and bool(rest[1])}
    if attributes["outputs"] == 1:
        return Call("dropout", {"x": x} | options)
    return Call("dropout", {"x": x} | options, lambda y: (y, fastdl.dropout_mask(x.shape, **options)))


def _softmax(name: str) -> Callable[[Attributes, Inputs], Call]:
    return lambda attributes, inputs: Call(name, {"x": inputs[0], "dim": attributes.get("axis", -1)})


def _optimizer(operation: str, states: tuple[str, ...], options: Callable[[Attributes, int], Any]) -> Any:
    """The step of all the node's arrays as if they were one, which is then cut again. Learning rate, count of steps,
    then all parameters, all gradients, and all of each state; the new ones come out likewise, without gradients."""

    def call(attributes: Attributes, inputs: Inputs) -> Call:
        rate, steps, *arrays = inputs
        columns = np.split(np.arange(len(arrays)), 2 + len(states))
        joined = [np.concatenate([arrays[i].ravel() for i in column]) for column in columns]
        given = dict(zip(("param", "grad", *states), joined, strict=True))
        ends = np.cumsum([arrays[i].size for i in columns[0]])[:-1]

        def outputs(nothing: None) -> tuple[Any, ...]:
            updated = (array for name, array in given.items() if name != "grad")
            return tuple(part for array in updated for part in np.split(array, ends))

        chosen = {"lr": float(rate), "weight_decay": attributes["norm_coefficient"]}
        return Call(operation, given | chosen | options(attributes, int(steps)), outputs)

    return call


def _adam_options(attributes: Attributes, steps: int) -> dict[str, Any]:
    """At step 0, ONNX corrects no bias: the corrections are 1 from some step on."""
    assert steps == 0
    betas = attributes["alpha"], attributes["beta"]
    return {"step": 10**6, "betas": betas, "eps": attributes["epsilon"]}


def _adagrad_options(attributes: Attributes, steps: int) -> dict[str, Any]:
    return {"step": steps + 1, "lr_decay": attributes["decay_factor"], "eps": attributes["epsilon"]}


def _momentum_options(attributes: Attributes, steps: int) -> dict[str, Any]:
    """beta is the part of the gradient that is added, 1 at the first step."""
    dampening = 1 - attributes["beta"] if steps > 0 else 0.0
    options = {"step": 2, "momentum": attributes["alpha"], "dampening": dampening}
    return options | {"nesterov": attributes["mode"] == b"nesterov"}


def _batch_norm(attributes: Attributes, inputs: Inputs) -> Call:
    """momentum is the part that is kept, and the running variance takes the biased one."""
    x, weight, bias, mean, variance = inputs
    training, kept = bool(attributes.get("training_mode", 0)), attributes.get("momentum", 0.9)
    found = mean.copy(), variance.copy()
    arguments = {"x": x, "running_mean": found[0], "running_var": found[1], "weight": weight, "bias": bias}
    arguments |= {"training": training, "momentum": 1 - kept, "eps": attributes.get("epsilon", 1e-5)}
    count = x.size // x.shape[1]

    def outputs(y: np.ndarray) -> tuple[np.ndarray, ...]:
        biased = variance * kept + (found[1] - variance * kept) * (count - 1) / count
        return (y, found[0], biased.astype(variance.dtype))[: attributes["outputs"]]

    return Call("batch_norm", arguments, outputs)


def _layer_norm(attributes: Attributes, inputs: Inputs) -> Call:
    x, weight, *bias = inputs
    axis = attributes.get("axis", -1)
    shape = x.shape[axis:]
    arguments = {"x": x, "normalized_shape": shape, "weight": weight, "bias": bias[0] if bias else None}
    arguments |= {"eps": attributes.get("epsilon", 1e-5), "return_stats": True}

    def outputs(found: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        y, *stats = found  # fastdl's are float64
        return (y, *(s.astype(y.dtype).reshape(*s.shape, *[1] * len(shape)) for s in stats))[: attributes["outputs"]]

    return Call("layer_norm", arguments, outputs)


def _rms_norm(attributes: Attributes, inputs: Inputs) -> Call:
    x, weight = inputs
    arguments = {"x": x, "normalized_shape": x.shape[attributes.get("axis", -1) :], "weight": weight}
    return Call("rms_norm", arguments | {"eps": attributes.get("epsilon", 1e-5)})


def _group_norm(attributes: Attributes, inputs: Inputs) -> Call:
    x, weight, bias = inputs
    arguments = {"x": x, "weight": weight, "bias": bias, "eps": attributes.get("epsilon", 1e-5)}
    return Call("group_norm", arguments | {"num_groups": attributes["num_groups"]})


def _instance_norm(attributes: Attributes, inputs: Inputs) -> Call:
    x, weight, bias = inputs
    return Call("instance_norm", {"x": x, "weight": weight, "bias": bias, "eps": attributes.get("epsilon", 1e-5)})


def _mean_variance(attributes: Attributes, inputs: Inputs) -> Call:
    assert tuple(attributes.get("axes", (0, 2, 3))) == (0, 2, 3)
    return Call("batch_norm", {"x": inputs[0], "training": True, "eps": 1e-18})


def _nll(attributes: Attributes, inputs: Inputs) -> Call:
    x, target, *weight = inputs
    arguments = {
        "x": x,
        "target": target,
        "ignore_index": attributes.get("ignore_index", -(2**62)),
        "reduction": attributes.get("reduction", b"mean").decode(),
    }
    return Call("nll_loss", arguments | ({"weight": weight[0]} if weight else {}))


def _cross_entropy(attributes: Attributes, inputs: Inputs) -> Call:
    """ONNX may ask for the logarithms of the probabilities as well."""
    arguments = _nll(attributes, inputs).arguments
    with_log = attributes["outputs"] == 2
    return Call("cross_entropy", arguments, lambda y: (y, fastdl.log_softmax(inputs[0], 1)) if with_log else (y,))


def _elementwise(name: str, **defaults: tuple[str, float]) -> Callable[[Attributes, Inputs], Call]:
    """fastdl's argument = (ONNX's attribute, its default)."""

    def call(attributes: Attributes, inputs: Inputs) -> Call:
        options = {ours: attributes.get(theirs, default) for ours, (theirs, default) in defaults.items()}
        return Call(name, {"x": inputs[0]} | options)

    return call


def _selu(attributes: Attributes, inputs: Inputs) -> Call:
    """gamma times elu, which of the default numbers is selu."""
    gamma = attributes.get("gamma")
    if gamma is None:
        return Call("selu", {"x": inputs[0]})
    return Call("elu", {"x": inputs[0], "alpha": attributes["alpha"]}, lambda y: (np.float32(gamma) * y,))


def _hard_sigmoid(attributes: Attributes, inputs: Inputs) -> Call:
    """min(max(alpha x + beta, 0), 1); fastdl's alpha is 1 / 6 and its beta 1 / 2."""
    slope, shift = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    return Call("hardsigmoid", {"x": 6 * (np.float32(slope) * inputs[0] + np.float32(shift)) - 3})


def _prelu(attributes: Attributes, inputs: Inputs) -> Call:
    """ONNX's slopes have the shape of x, or one that broadcasts to it: as many channels."""
    x, slope = inputs
    flat = (1, x.size, 1)
    weight = np.broadcast_to(slope, x.shape).ravel().copy()
    return Call("prelu", {"x": x.reshape(flat), "weight": weight}, lambda y: (y.reshape(x.shape),))


def _gelu(attributes: Attributes, inputs: Inputs) -> Call:
    return Call("gelu", {"x": inputs[0], "approximate": attributes.get("approximate", b"none").decode()})


def _recurrent(operator: str) -> Callable[[Attributes, Inputs], Call]:
    """The tests leave out inputs and outputs at the end; what is left out between others is an empty array."""

    def call(attributes: Attributes, inputs: Inputs) -> Call:
        x, W, R, B, lengths, h0, c0, P = (a if a is not None and a.size else None for a in (*inputs, *[None] * 5)[:8])
        weights, peepholes = fastdl.weights_from_onnx(operator, W, R, B, P)
        direction = attributes.get("direction", b"forward").decode()
        batchwise, directions, hidden = bool(attributes.get("layout", 0)), len(W), attributes["hidden_size"]
        states = {"h0": h0} | ({"c0": c0, "peepholes": peepholes} if operator == "LSTM" else {})
        if operator == "GRU":
            states["linear_before_reset"] = bool(attributes.get("linear_before_reset", 0))
        for name in ("h0", "c0"):
            if batchwise and states.get(name) is not None:
                states[name] = states[name].swapaxes(0, 1)
        arguments = {"x": x, "weights": weights, "lengths": lengths, "batch_first": batchwise} | states
        arguments |= {"bidirectional": directions == 2, "reverse": direction == "reverse"}

        def outputs(found: Any) -> tuple[Any, ...]:
            y, *last = found
            y = y.reshape(*y.shape[:2], directions, hidden)
            last = [state.swapaxes(0, 1) if batchwise else state for state in last]
            named = dict(zip(("Y", "Y_h", "Y_c"), (y if batchwise else y.swapaxes(1, 2), *last), strict=False))
            return tuple(named[name] for name in attributes["names"])

        return Call(operator.lower(), arguments, outputs)

    return call


ADAPTERS: dict[str, Callable[[Attributes, Inputs], Call]] = {
    "Celu": _elementwise("celu", alpha=("alpha", 1.0)),
    "Elu": _elementwise("elu", alpha=("alpha", 1.0)),
    "Erf": _elementwise("erf"),
    "Exp": _elementwise("exp"),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _elementwise("hardswish"),
    "LeakyRelu": _elementwise("leaky_relu", negative_slope=("alpha", 0.01)),
    "Log": _elementwise("log"),
    "Mish": _elementwise("mish"),
    "PRelu": _prelu,
    "Relu": _elementwise("relu"),
    "Selu": _selu,
    "Sigmoid": _elementwise("sigmoid"),
    "Softplus": _elementwise("softplus"),
    "Softsign": _elementwise("softsign"),
    "Tanh": _elementwise("tanh"),
    "Adagrad": _optimizer("adagrad_step", ("state_sum",), _adagrad_options),
    "Adam": _optimizer("adam_step", ("exp_avg", "exp_avg_sq"), _adam_options),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Col2Im": _col2im,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Dropout": _dropout,
    "Gemm": _gemm,
    "GlobalAveragePool": _global("adaptive_avg_pool"),
    "GRU": _recurrent("GRU"),
    "GlobalMaxPool": _global("adaptive_max_pool"),
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LSTM": _recurrent("LSTM"),
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _softmax("log_softmax"),
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
    "MaxUnpool": _max_unpool,
    "Momentum": _optimizer("sgd_step", ("momentum_buffer",), _momentum_options),
    "MeanVarianceNormalization": _mean_variance,
    "NegativeLogLikelihoodLoss": _nll,
    "Pad": _pad,
    "RMSNormalization": _rms_norm,
    "RNN": _recurrent("RNN"),
    "Softmax": _softmax("softmax"),
    "SoftmaxCrossEntropyLoss": _cross_entropy,
}

_OTHER_GENERATOR = "compares with the mask of NumPy's Mersenne Twister; fastdl's comes from a counter"
SKIPPED = {
    "test_training_dropout_default": _OTHER_GENERATOR,
    "test_training_dropout_default_mask": _OTHER_GENERATOR,
    "test_training_dropout": _OTHER_GENERATOR,
    "test_training_dropout_mask": _OTHER_GENERATOR,
    "test_celu_float16": "float16: fastdl computes in float32 and float64",
    "test_celu_bfloat16": "bfloat16: fastdl computes in float32 and float64",
    "test_maxpool_2d_uint8": "uint8: fastdl computes in float32 and float64",
    "test_col2im_5d": "three spatial dimensions: col2im is for images, as torch.nn.functional.fold",
}


def _node_tests() -> dict[str, Any]:
    """By name, the tests of one node whose operation is in the table."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of making the inputs of other operations
        cases = loader.load_model_tests(kind="node")
    return {
        case.name: case
        for case in cases
        if case.model and len(case.model.graph.node) == 1 and case.model.graph.node[0].op_type in ADAPTERS
    }


def _call(case: Any, inputs: Inputs) -> Call:
    (node,) = case.model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} | {"outputs": len(node.output)}
    if node.op_type in ("GRU", "LSTM", "RNN"):
        places = dict(zip(node.output, ("Y", "Y_h", "Y_c"), strict=False))
        attributes["names"] = [places[output.name] for output in case.model.graph.output]
        given = iter(inputs)
        inputs = [next(given) if name else np.empty(0, np.float32) for name in node.input]
    return ADAPTERS[node.op_type](attributes, inputs)


def _exists(call: Call) -> bool:
    function = getattr(fastdl, call.operation, None)
    return function is not None and set(call.arguments) <= set(inspect.signature(function).parameters)


NODE_TESTS = _node_tests()
RUN = [n for n, case in NODE_TESTS.items() if n not in SKIPPED and _exists(_call(case, case.data_sets[0][0]))]


@pytest.mark.parametrize("name", RUN)
def test_node(name: str) -> None:
    """Within the tolerance that the test states itself."""
    case = NODE_TESTS[name]
    for inputs, expected in case.data_sets:
        call = _call(case, inputs)
        outputs = call.outputs(getattr(fastdl, call.operation)(**call.arguments))
        for found, wanted in zip(outputs, expected, strict=True):
            assert found.dtype == wanted.dtype
            assert found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, rtol=case.rtol, atol=case.atol)


@pytest.mark.parametrize("name", SKIPPED)
def test_node_that_is_skipped(name: str) -> None:
    assert name in NODE_TESTS, "no such test: it needs no reason"
    pytest.skip(SKIPPED[name])


def test_the_node_tests_do_run() -> None:
    """Every one of an operation that fastdl has, and of those no small number."""
    assert set(NODE_TESTS) - set(RUN) <= set(SKIPPED)
    run = Counter(NODE_TESTS[name].model.graph.node[0].op_type for name in RUN)
    assert run.total() >= 100
    assert set(run) == set(ADAPTERS)
