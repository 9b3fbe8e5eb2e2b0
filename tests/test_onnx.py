"""ONNX models: ONNX's own backend tests, broken files, and how models become programs."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
runner = pytest.importorskip("onnx.backend.test.runner", reason="this ONNX comes without its tests")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import fastdl  # noqa: E402
from fastdl import __main__, _recording  # noqa: E402
from fastdl.onnx import backend  # noqa: E402
from fastdl.onnx._table import TABLE  # noqa: E402
from tests import onnx_scope  # noqa: E402

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class Replayed(backend.FastdlBackendRep):
    """Runs every model twice, as recorded and as replayed, and minds what could not be recorded."""

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        super().run(inputs)
        found = super().run(inputs)
        for plan in self.model._plans.values():
            assert not [step.reason for step in plan.steps if step.reason]
        return found


class Tested(backend.FastdlBackend):
    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Replayed:
        return Replayed(super().prepare(model, device).model)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


with warnings.catch_warnings(), np.errstate(all="ignore"):
    warnings.simplefilter("ignore")  # of making the inputs of other operations
    SUITE = runner.Runner(Tested, __name__)
_REAL = ("test_resnet50", "test_squeezenet", "test_shufflenet")
"""Of the whole networks these, for time."""


def _suite() -> dict[str, type]:
    """ONNX's test cases without what is out of scope, and what is for other devices."""
    found = {}
    for category, items in SUITE._test_items.items():
        case = SUITE._get_test_case(f"Onnx{category}Tests")
        for name, item in sorted(items.items()):
            plain = name.removesuffix("_cpu")
            if name.endswith("_cuda") or plain in onnx_scope.EXCEPTIONS:
                continue
            if category == "RealModel":
                if plain not in _REAL:
                    continue
            elif not onnx_scope.in_scope(_model_of(item.func)):
                continue
            setattr(case, name, item.func)
        found[case.__name__] = case
    return found


def _model_of(function: Any) -> Any:
    """The model of a test of ONNX's runner, which keeps it in a closure."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    test = dict(zip(function.__code__.co_freevars, (c.cell_contents for c in function.__closure__), strict=True))[
        "model_test"
    ]
    return test.model if test.model is not None else onnx.load(Path(test.model_dir, "model.onnx"))


globals().update(_suite())


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ONNX's runner puts its models."""
    monkeypatch.setenv("ONNX_HOME", str(tmp_path))


def test_every_operator_is_in_the_table_or_left_out_for_a_reason() -> None:
    known = {name for _, name in TABLE}
    assert onnx_scope.all_of_onnx() <= known | onnx_scope.OTHERS
    assert not known & onnx_scope.OTHERS


def test_the_suite_does_run() -> None:
    """Few tests are left out, and none of an operator that is in the table alone."""
    counts = {
        name: len([n for n in vars(case) if n.startswith("test_")])
        for name, case in globals().items()
        if name.startswith("Onnx")
    }
    assert counts["OnnxNodeModelTests"] >= 1700
    assert sum(counts.values()) >= 1840
    assert len(onnx_scope.EXCEPTIONS) < 0.01 * sum(counts.values())


def model_of(
    nodes: list[Any],
    inputs: dict[str, Any],
    outputs: list[str],
    weights: dict[str, Any] | None = None,
    opset: int = 18,
    **kinds: int,
) -> Any:
    """A model; inputs: shapes by name."""
    infos = [helper.make_tensor_value_info(n, kinds.get(n, FLOAT), s) for n, s in inputs.items()]
    made = [helper.make_tensor_value_info(n, kinds.get(n, FLOAT), None) for n in outputs]
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in (weights or {}).items()]
    graph = helper.make_graph(nodes, "test", infos, made, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def kernels_of(model: Any) -> list[str]:
    """The kernels of the plan that was used last."""
    plan = next(reversed(model._plans.values()))
    return [row.kernel for step in plan.steps if step.program for row in step.program.explain().rows]


def convolutional() -> Any:
    """A residual block with batch norms, as exporters write it."""
    norms = {f"{n}{i}": np.abs(random(4, seed=i)) + 0.5 for i in (1, 2) for n in ("s", "v")}
    norms |= {f"{n}{i}": random(4, seed=3 + i) for i in (1, 2) for n in ("t", "m")}
    weights = {
        "w1": random(4, 3, 3, 3),
        "w2": random(4, 4, 3, 3),
        "w3": random(4, 3, 1, 1),
        "w4": random(5, 4),
        "b4": random(5),
    }
    nodes = [
        node("Conv", "x w1", "a", pads=[1] * 4),
        node("BatchNormalization", "a s1 t1 m1 v1", "b"),
        node("Relu", "b", "c"),
        node("Conv", "c w2", "d", pads=[1] * 4),
        node("BatchNormalization", "d s2 t2 m2 v2", "e"),
        node("Conv", "x w3", "f"),
        node("Add", "e f", "g"),
        node("Relu", "g", "h"),
        node("GlobalAveragePool", "h", "i"),
        node("Flatten", "i", "j"),
        node("Gemm", "j w4 b4", "y", transB=1),
    ]
    return model_of(nodes, {"x": ["batch", 3, "height", "width"]}, ["y"], weights | norms)


def reference(model: Any, inputs: dict[str, Any]) -> list[Any]:
    """What ONNX's own evaluator gives."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, inputs)


def test_a_residual_block_is_few_kernels() -> None:
    """Norms, additions and activations are part of the convolutions."""
    proto = convolutional()
    x = random(2, 3, 9, 8)
    expected = reference(proto, {"x": x})[0]
    model = fastdl.onnx.load(proto.SerializeToString())
    for _ in range(2):
        np.testing.assert_allclose(model.run([x])[0], expected, rtol=1e-4, atol=1e-4)
    assert kernels_of(model)[:3] == ["conv"] * 3
    assert len(kernels_of(model)) == 5


def test_what_run_takes_and_gives() -> None:
    model = fastdl.onnx.load(convolutional())
    assert [tuple(t) for t in model.inputs] == [("x", ("batch", 3, "height", "width"), np.dtype(np.float32))]
    x = random(1, 3, 6, 6)
    (one,), two = model.run([x]), model.run({"x": x})
    assert list(two) == ["y"]
    np.testing.assert_array_equal(one, two["y"])
    assert one is not two["y"]
    assert not np.may_share_memory(one, two["y"])
    assert "4 Conv" not in str(model)
    assert "3 Conv" in str(model)
    assert "batch x 3 x height x width" in str(model)
    assert "a program of" in model.explain()
    np.testing.assert_array_equal(model.run([np.asfortranarray(x)])[0], one)


@pytest.mark.parametrize(
    ("inputs", "error", "text"),
    [
        ([], ValueError, "inputs: found 0 of them, expected 1"),
        ([random(1, 3, 6, 6)] * 2, ValueError, "inputs: found 2 of them"),
        ({"z": random(1, 3, 6, 6)}, ValueError, "inputs: found names \\['z'\\]"),
        ({}, ValueError, "expected names \\['x'\\]"),
        ([random(1, 4, 6, 6)], ValueError, "x: found shape \\(1, 4, 6, 6\\)"),
        ([random(3, 6, 6)], ValueError, "x: found shape \\(3, 6, 6\\)"),
        ([random(1, 3, 6, 6).astype(np.float64)], TypeError, "x: found dtype float64, expected float32"),
        (random(1, 3, 6, 6), TypeError, "inputs: found ndarray"),
        (None, TypeError, "inputs: found NoneType"),
    ],
)
def test_wrong_inputs(inputs: Any, error: type[Exception], text: str) -> None:
    model = fastdl.onnx.load(convolutional())
    for _ in range(2):
        with pytest.raises(error, match=text):
            model.run(inputs)
        model.run([random(1, 3, 6, 6)])


def test_programs_are_kept_for_a_limited_number_of_shapes() -> None:
    proto = convolutional()
    model = fastdl.onnx.load(proto, limit=2)
    for size in (4, 5, 6, 4):
        x = random(1, 3, size, size)
        np.testing.assert_allclose(model.run([x])[0], reference(convolutional(), {"x": x})[0], rtol=1e-4, atol=1e-4)
        assert len(model._plans) <= 2


def test_several_threads_may_run_one_model() -> None:
    model = fastdl.onnx.load(convolutional())
    xs = [random(1, 3, 8, 8, seed=i) for i in range(4)]
    expected = [model.run([x])[0] for x in xs]
    wrong = []

    def work(i: int) -> None:
        for _ in range(200):
            if not np.array_equal(model.run([xs[i]])[0], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_shape_arithmetic_disappears() -> None:
    """A reshape whose shape is computed from that of the input."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n", axis=0),
        node("Unsqueeze", "n zero1", "n1"),
        node("Concat", "n1 minus", "shape", axis=0),
        node("Relu", "x", "r"),
        node("Reshape", "r shape", "y"),
    ]
    weights = {"zero": np.int64(0), "zero1": np.array([0]), "minus": np.array([-1])}
    model = fastdl.onnx.load(model_of(nodes, {"x": ["n", 2, 3]}, ["y"], weights))
    x = random(4, 2, 3)
    np.testing.assert_array_equal(model.run([x])[0], np.maximum(x, 0).reshape(4, 6))
    plan = next(iter(model._plans.values()))
    assert [[n.operator.name for n in step.nodes] for step in plan.steps] == [["Relu", "Reshape"]]


def test_programs_and_numpy_alternate() -> None:
    """What only NumPy computes lies between two programs, and explain says so."""
    nodes = [node("Relu", "x", "a"), node("Cos", "a", "b"), node("Sigmoid", "b", "c"), node("ArgMax", "c", "y", axis=1)]
    model = fastdl.onnx.load(model_of(nodes, {"x": ["n", 3]}, ["y", "c"], y=INT64))
    x = random(4, 3)
    for _ in range(2):
        y, c = model.run([x])
        expected = 1 / (1 + np.exp(-np.cos(np.maximum(x, 0))))
        np.testing.assert_allclose(c, expected, rtol=1e-6)
        np.testing.assert_array_equal(y, expected.argmax(1)[:, None])
    text = model.explain()
    assert "a program of 1 Relu" in text
    assert "NumPy: 1 Cos" in text


def test_sizes_that_follow_from_values() -> None:
    """Nothing is recorded of what is as long as there are nonzeros."""
    nodes = [
        node("NonZero", "x", "i"),
        node("Transpose", "i", "t"),
        node("GatherND", "x t", "v"),
        node("Relu", "v", "y"),
    ]
    model = fastdl.onnx.load(model_of(nodes, {"x": ["n"]}, ["y"]))
    for x in ([1.0, 0, -2, 3], [0.0, 0, 0, 5], [0.0, 0, 0, 0]):
        given = np.array(x, np.float32)
        np.testing.assert_array_equal(model.run([given])[0], np.maximum(given[given != 0], 0))
    assert len(model._plans) == 1


def _branches() -> tuple[Any, Any]:
    zero = helper.make_graph([node("Relu", "x", "p")], "then", [], [helper.make_tensor_value_info("p", FLOAT, None)])
    one = helper.make_graph([node("Neg", "x", "q")], "else", [], [helper.make_tensor_value_info("q", FLOAT, None)])
    return zero, one


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_that_is_known_is_taken_once(condition: bool) -> None:
    then, other = _branches()
    nodes = [helper.make_node("If", ["c"], ["z"], then_branch=then, else_branch=other), node("Sigmoid", "z", "y")]
    model = fastdl.onnx.load(model_of(nodes, {"x": [3]}, ["y"], {"c": np.array(condition)}))
    x = np.array([-1, 0, 2], np.float32)
    expected = 1 / (1 + np.exp(-(np.maximum(x, 0) if condition else -x)))
    np.testing.assert_allclose(model.run([x])[0], expected, rtol=1e-6)
    plan = next(iter(model._plans.values()))
    assert not any(n.operator.name == "If" for step in plan.steps for n in step.nodes)


def test_a_branch_that_values_choose() -> None:
    then, other = _branches()
    nodes = [
        node("ReduceSum", "x", "s", keepdims=0),
        node("Greater", "s zero", "c"),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    model = fastdl.onnx.load(model_of(nodes, {"x": [2]}, ["y"], {"zero": np.float32(0)}))
    for values in ([3, -1], [-3, 1], [3, -1]):
        x = np.array(values, np.float32)
        np.testing.assert_array_equal(model.run([x])[0], np.maximum(x, 0) if x.sum() > 0 else -x)


@pytest.mark.parametrize(
    ("nodes", "weights", "kernel"),
    [
        ("Div x r2 a|Erf a b|Add b one c|Mul x c d|Mul d half y", {"r2": 2**0.5, "one": 1, "half": 0.5}, "elementwise"),
        ("Sigmoid x a|Mul a x y", {}, "elementwise"),
        ("Add x three a|Clip a zero six b|Mul x b c|Div c six y", {"three": 3, "zero": 0, "six": 6}, "elementwise"),
        ("Softplus x a|Tanh a b|Mul x b y", {}, "elementwise"),
    ],
)
def test_activations_that_are_written_out(nodes: str, weights: dict[str, float], kernel: str) -> None:
    made = []
    for text in nodes.split("|"):
        kind, *names = text.split()
        made.append(helper.make_node(kind, names[:-1], names[-1:]))
    proto = model_of(made, {"x": ["n", 5]}, ["y"], {k: np.float32(v) for k, v in weights.items()})
    x = 3 * random(4, 5)
    expected = reference(proto, {"x": x})[0]
    model = fastdl.onnx.load(proto)
    np.testing.assert_allclose(model.run([x])[0], expected, rtol=1e-5, atol=1e-6)
    assert kernels_of(model) == [kernel]


def test_a_layer_norm_that_is_written_out() -> None:
    nodes = [
        node("ReduceMean", "x axes", "m"),
        node("Sub", "x m", "d"),
        node("Pow", "d two", "p"),
        node("ReduceMean", "p axes", "v"),
        node("Add", "v eps", "e"),
        node("Sqrt", "e", "s"),
        node("Div", "d s", "q"),
        node("Mul", "q w", "z"),
        node("Add", "z b", "y"),
    ]
    weights = {"axes": np.array([-1]), "two": np.float32(2), "eps": np.float32(1e-5), "w": random(6), "b": random(6)}
    proto = model_of(nodes, {"x": ["n", 6]}, ["y"], weights)
    x = random(3, 6)
    expected = reference(proto, {"x": x})[0]
    model = fastdl.onnx.load(proto)
    np.testing.assert_allclose(model.run([x])[0], expected, rtol=1e-5, atol=1e-5)
    assert len(kernels_of(model)) == 1


def _norm(**changes: str) -> list[Any]:
    """A layer norm, written out, with other inputs than usual of some nodes."""
    inputs = {"m": "x axes", "d": "x m", "c": "x m", "p": "d two", "v": "p axes", "e": "v eps", "s": "e", "q": "c s"}
    kinds = ["ReduceMean", "Sub", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div"]
    nodes = [node(k, i, o) for k, (o, i) in zip(kinds, (inputs | changes).items(), strict=True)]
    return [*nodes, node("Mul", "q w", "z"), node("Add", "z b", "y")]


def _chain(text: str) -> list[Any]:
    return [node(kind, " ".join(names[:-1]), names[-1]) for kind, *names in map(str.split, text.split("|"))]


_GELU = "Div x root a|Erf a b|Add b one c|Mul x c d|Mul d half y"
_NORM_WEIGHTS = {"axes": np.array([-1]), "two": np.float32(2), "eps": np.float32(1e-5), "w": random(4), "b": random(4)}
_GELU_WEIGHTS = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
_STATISTICS = {"s": random(3), "t": random(3), "m": random(3), "v": np.abs(random(3)) + 0.5}


@pytest.mark.parametrize(
    ("nodes", "shape", "weights"),
    [
        (_norm(d="x w"), [2, 4], _NORM_WEIGHTS),
        (_norm(), [2, 4], _NORM_WEIGHTS | {"eps": np.full((1, 1, 1, 1), 1e-5, np.float32)}),
        (_chain(_GELU), [4], _GELU_WEIGHTS | {"root": np.full((1, 1), 2**0.5, np.float32)}),
        (_chain(_GELU), [], _GELU_WEIGHTS | {"half": np.full(1, 0.5, np.float32)}),
        (_chain(_GELU), [4], _GELU_WEIGHTS | {"half": np.float32(0.5004)}),
        (_chain("MatMul x w a|MatMul a w/turned y"), [2, 3], {"w": random(3, 3), "w/turned": random(3, 3, seed=1)}),
        (
            [
                node("Conv", "x w", "a"),
                node("BatchNormalization", "a s t m v", "b", name="norm"),
                node("Conv", "b norm/weight", "y"),
            ],
            [1, 3, 2, 2],
            {"w": random(3, 3, 1, 1), "norm/weight": random(3, 3, 1, 1, seed=1)} | _STATISTICS,
        ),
    ],
    ids=["another difference", "rank of eps", "rank", "rank of a number", "0.5004", "name of a product", "of a norm"],
)
def test_what_is_only_nearly_one_kernel_stays_what_it_is(nodes: Any, shape: Any, weights: Any) -> None:
    proto = model_of(nodes, {"x": shape}, ["y"], weights)
    x = np.asarray(random(*shape))
    (expected,) = reference(proto, {"x": x})
    model = fastdl.onnx.load(proto)
    for _ in range(2):
        (found,) = model.run([x])
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)  # a few roundings of float32


def _constants() -> dict[str, Any]:
    """Two branches that return what they hold."""
    made = []
    for i, name in enumerate(["then_branch", "else_branch"]):
        info, value = helper.make_tensor_value_info(f"k{i}", FLOAT, [2]), np.full(2, i, np.float32)
        made.append((name, helper.make_graph([], name, [], [info], [numpy_helper.from_array(value, f"k{i}")])))
    return dict(made)


@pytest.mark.parametrize(
    ("nodes", "outputs", "weights"),
    [
        ([node("Relu", "x", "y"), node("Reshape", "y shape", "z")], ["y", "z"], {"shape": np.array([-1])}),
        ([node("Relu", "x", "y")], ["x", "y", "w"], {"w": random(3)}),
        (
            [
                node("ReduceMax", "x", "m", keepdims=0),
                node("Cast", "m", "c", to=TensorProto.BOOL),
                node("If", "c", "y", **_constants()),
            ],
            ["y"],
            {},
        ),
        (
            [node("Cast", "x", "i", to=INT64), node("Add", "i i", "j"), node("Expand", "j shape", "y")],
            ["y"],
            {"shape": np.array([3, 2, 2])},
        ),
        ([node("SequenceConstruct", "x w", "q"), node("SequenceAt", "q at", "y")], ["y"], {"w": random(3), "at": 0}),
    ],
    ids=["views", "inputs and constants", "branches", "broadcast", "sequences"],
)
def test_results_are_nobody_elses(nodes: Any, outputs: list[str], weights: dict[str, Any]) -> None:
    model = fastdl.onnx.load(model_of(nodes, {"x": [2, 2]}, outputs, weights, y=0, z=0))
    x = random(2, 2)
    first = [np.array(array) for array in model.run([x.copy()])]
    for _ in range(3):
        given = x.copy()
        found = model.run([given])
        for i, (array, expected) in enumerate(zip(found, first, strict=True)):
            np.testing.assert_array_equal(array, expected)
            assert not any(np.shares_memory(array, other) for other in found[:i])
        for array in found:
            array[...] = 77
        np.testing.assert_array_equal(given, x)


def test_a_branch_that_returns_the_input_in_a_later_call() -> None:
    made = [
        helper.make_graph([node(kind, "x", f"y{i}")], "b", [], [helper.make_tensor_value_info(f"y{i}", FLOAT, [2])])
        for i, kind in enumerate(["Neg", "Identity"])
    ]
    nodes = [node("If", "c", "y", then_branch=made[0], else_branch=made[1])]
    model = fastdl.onnx.load(model_of(nodes, {"c": [], "x": [2]}, ["y"], c=TensorProto.BOOL))
    x = random(2)
    for condition in (True, False):
        (found,) = model.run([np.array(condition), x])
        np.testing.assert_array_equal(found, -x if condition else x)
        assert not np.shares_memory(found, x)


def test_inputs_that_are_nearly_arrays() -> None:
    model = fastdl.onnx.load(model_of([node("Mul", "x x", "y")], {"x": [2, 2]}, ["y"], x=INT64, y=INT64))
    x = np.array([[1, 2], [3, 4]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        given = [x, np.matrix(x), x.astype(">i8"), np.ma.masked_array(x), x.tolist()]
    for array in [*given, *given[::-1]]:
        (found,) = model.run([array])
        assert type(found) is np.ndarray
        assert found.dtype == np.dtype(np.int64)
        np.testing.assert_array_equal(found, x * x)


def test_a_mean_of_nothing_is_nan_without_a_warning() -> None:
    axes = {"axes": np.array([0])}
    model = fastdl.onnx.load(model_of([node("ReduceMean", "x axes", "y")], {"x": ["n", 2]}, ["y"], axes))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(model.run([np.empty((0, 2), np.float32)])[0]).all()


def test_inputs_that_are_no_arrays_have_to_be_given(tmp_path: Path) -> None:
    proto = model_of([node("SequenceAt", "q at", "y")], {}, ["y"], {"at": 0})
    proto.graph.input.append(helper.make_tensor_sequence_value_info("q", FLOAT, None))
    model = fastdl.onnx.load(proto)
    with pytest.raises(ValueError, match="inputs: found none, of which q are no arrays"):
        model.explain()
    assert "node by node" in model.explain([[random(2)]])
    path = saved(tmp_path, proto)
    with pytest.raises(SystemExit, match="fastdl: inputs: found none"):
        __main__.main(["onnx", str(path)])


def test_copies_and_pickles_say_why_not() -> None:
    model = fastdl.onnx.load(model_of([node("Relu", "x", "y")], {"x": [2]}, ["y"]))
    for function in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="a Model can neither be copied nor pickled"):
            function(model)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("inside", [False, True], ids=["scores scaled", "query and key scaled"])
def test_attention_that_is_written_out(masked: bool, inside: bool) -> None:
    """As exporters write it: no array of scores is left."""
    nodes = [node("Transpose", "k", "t", perm=[0, 1, 3, 2])]
    if inside:
        nodes += [node("Mul", "q c", "q2"), node("Mul", "t c", "t2"), node("MatMul", "q2 t2", "s")]
    else:
        nodes += [node("MatMul", "q t", "s1"), node("Div", "s1 d", "s")]
    nodes += [node("Add", "s mask", "m")] if masked else []
    nodes += [node("Softmax", "m" if masked else "s", "p", axis=-1), node("MatMul", "p v", "y")]
    weights = {"c": np.float32(0.25), "d": np.float32(16), "mask": random(5, 7)}
    used = {"c"} if inside else {"d"}
    weights = {n: w for n, w in weights.items() if n in used | ({"mask"} if masked else set())}
    shapes = {"q": ["b", 2, 5, 4], "k": ["b", 2, 7, 4], "v": ["b", 2, 7, 3]}
    proto = model_of(nodes, shapes, ["y"], weights)
    given = {"q": random(2, 2, 5, 4, seed=1), "k": random(2, 2, 7, 4, seed=2), "v": random(2, 2, 7, 3, seed=3)}
    expected = reference(proto, given)[0]
    model = fastdl.onnx.load(proto)
    for _ in range(2):
        np.testing.assert_allclose(model.run(given)["y"], expected, rtol=1e-5, atol=1e-6)
    assert kernels_of(model) == ["attention"]


def test_a_model_of_one_shape_keeps_one_copy_of_its_weights() -> None:
    """Those that kernels read packed are gone; another instruction-set level would need them, and is refused."""
    weights = {"w": random(64, 64), "b": random(64), "w2": random(32, 64)}
    nodes = [node("Gemm", "x w b", "a", transB=1), node("Relu", "a", "r"), node("Gemm", "r w2", "y", transB=1)]
    proto = model_of(nodes, {"x": [3, 64]}, ["y"], weights)
    x = random(3, 64)
    expected = reference(proto, {"x": x})[0]
    model = fastdl.onnx.load(proto)
    for _ in range(3):
        np.testing.assert_allclose(model.run([x])[0], expected, rtol=1e-4, atol=1e-4)
    assert not {"w", "w2"} & set(model._graph.constants)
    (step,) = next(iter(model._plans.values())).steps
    assert step.program is not None
    assert step.program.sealed
    assert "2 kernels" in model.explain(time=True)
    with pytest.raises(RuntimeError, match="sealed"):
        step.program.copy()
    other = fastdl.onnx.load(model_of(nodes, {"x": ["n", 64]}, ["y"], weights))
    other.run([x])
    assert {"w", "w2"} <= set(other._graph.constants)
    _recording.level_changed()
    with pytest.raises(RuntimeError, match="load it again"):
        model.run([x])
    other.run([x])


def test_in_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fastdl.__main__ import main

    path = str(saved(tmp_path, convolutional()))
    main(["onnx", path, "--size", "batch=2", "--size", "height=8", "--size", "width=8", "--kernels"])
    text = capsys.readouterr().out
    for part in ("float32, batch x 3 x height x width", "3 Conv", "2 x 3 x 8 x 8", "GFLOP/s", "of a shape", "conv "):
        assert part in text
    for arguments in (["--size", "batch=many"], ["--size", "depth=3"]):
        with pytest.raises(SystemExit, match="fastdl: "):
            main(["onnx", path, *arguments])
    (tmp_path / "none.onnx").write_bytes(b"none")
    with pytest.raises(SystemExit, match="no ONNX model"):
        main(["onnx", str(tmp_path / "none.onnx")])


# Files that are no models, or that mean harm.


def saved(tmp_path: Path, model: Any) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_truncated(tmp_path: Path, part: float) -> None:
    data = convolutional().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(ValueError, match="model: found"):
        fastdl.onnx.load(path)


def test_bytes_at_random() -> None:
    """Whatever is damaged is an error that says so, or does no harm."""
    data = bytearray(convolutional().SerializeToString())
    generator = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for at in generator.integers(0, len(data), 3):
            damaged[at] = generator.integers(256)
        try:
            fastdl.onnx.load(bytes(damaged)).run([random(1, 3, 5, 5)])
        except (ValueError, TypeError, NotImplementedError, IndexError) as error:
            assert str(error)  # noqa: PT017


def test_nothing_like_a_model() -> None:
    for thing in (b"", b"hello", b"\xff" * 100):
        with pytest.raises(ValueError, match="model: found"):
            fastdl.onnx.load(thing)
    with pytest.raises(TypeError, match="model: found int"):
        fastdl.onnx.load(3)
    with pytest.raises(FileNotFoundError):
        fastdl.onnx.load("/nowhere/model.onnx")


def test_cyclic() -> None:
    nodes = [node("Add", "x b", "a"), node("Relu", "a", "b")]
    with pytest.raises(ValueError, match="model: found an invalid one"):
        fastdl.onnx.load(model_of(nodes, {"x": [2]}, ["b"]))


def test_an_operator_that_fastdl_does_not_have() -> None:
    nodes = [helper.make_node("Magic", ["x"], ["y"], name="the_node", domain="some.where"), node("Relu", "y", "z")]
    proto = model_of(nodes, {"x": [2]}, ["z"])
    proto.opset_import.append(helper.make_opsetid("some.where", 1))
    with pytest.raises(NotImplementedError, match=r"node 'the_node': operator some\.where\.Magic"):
        fastdl.onnx.load(proto)


@pytest.mark.parametrize("dims", [[1 << 40], [1 << 31, 1 << 31, 1 << 31], [100], [-3]])
def test_tensors_that_are_not_as_large_as_they_say(dims: list[int]) -> None:
    proto = model_of([node("Add", "x w", "y")], {"x": [2]}, ["y"], {"w": random(2)})
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend(dims)
    with pytest.raises(ValueError, match="model: found"):
        fastdl.onnx.load(proto)


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        ("ConstantOfShape s y", {"s": np.array([1 << 20, 1 << 20])}),
        ("Expand x s y", {"s": np.array([1 << 20, 1 << 20])}),
        ("Tile x s y", {"s": np.array([1 << 40])}),
        ("Range a b c y", {"a": np.int64(0), "b": np.int64(1 << 50), "c": np.int64(1)}),
        ("Pad x s y", {"s": np.array([0, 1 << 40])}),
        ("OneHot i d v y", {"i": np.array([1]), "d": np.int64(1 << 50), "v": random(2)}),
        ("Resize x r s y", {"r": np.zeros(0, np.float32), "s": np.array([1e12], np.float32)}),
    ],
)
def test_results_without_bounds(nodes: str, weights: dict[str, Any]) -> None:
    """Sizes that numbers in the file ask for are refused before memory is."""
    kind, *names = nodes.split()
    proto = model_of([helper.make_node(kind, names[:-1], ["y"])], {"x": [1]}, ["y"], weights, y=TensorProto.UNDEFINED)
    proto.graph.output[0].type.tensor_type.elem_type = INT64 if kind == "Range" else FLOAT
    with pytest.raises(ValueError, match=rf"node '{kind}_0' \({kind}\): found a result of shape"):
        fastdl.onnx.load(proto).run([np.ones(1, np.float32)])


def external(location: str, **entries: str) -> Any:
    proto = model_of([node("Add", "x w", "y")], {"x": [2]}, ["y"], {"w": np.array([1, 2], np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return proto


def test_external_data(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"....." + np.array([10, 20], np.float32).tobytes())
    path = saved(tmp_path, external("weights.bin", offset="5", length="8"))
    np.testing.assert_array_equal(fastdl.onnx.load(path).run([np.ones(2, np.float32)])[0], [11, 21])
    with pytest.raises(ValueError, match="expected a path to the model"):
        fastdl.onnx.load(path.read_bytes())


@pytest.mark.parametrize(
    ("location", "entries"),
    [
        ("../secret.bin", {}),
        ("/etc/hostname", {}),
        ("", {}),
        ("link.bin", {}),
        ("missing.bin", {}),
        ("folder/../../secret.bin", {}),
        ("weights.bin", {"offset": "4"}),
        ("weights.bin", {"offset": "-4"}),
        ("weights.bin", {"length": "4"}),
        ("weights.bin", {"length": "999999999999"}),
        ("weights.bin", {"offset": "many"}),
    ],
)
def test_external_data_out_of_bounds(tmp_path: Path, location: str, entries: dict[str, str]) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "folder").mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(8))
    (folder / "weights.bin").write_bytes(bytes(8))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ValueError, match="model: found"):
        fastdl.onnx.load(saved(folder, external(location, **entries)))


# Graphs that torch exports.


def _cnn(torch: Any) -> tuple[Any, Any]:
    from torch import nn

    layers = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=8),
    ]
    layers += [nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 5), nn.Softmax(-1)]
    return nn.Sequential(*layers), torch.randn(2, 3, 12, 12)


def _lstm(torch: Any) -> tuple[Any, Any]:
    from torch import nn

    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.out = nn.LSTM(6, 7, 2, batch_first=True, bidirectional=True), nn.Linear(14, 3)

        def forward(self, x: Any) -> Any:
            return self.out(self.lstm(x)[0][:, -1])

    return Net(), torch.randn(2, 5, 6)


def _transformer(torch: Any) -> tuple[Any, Any]:
    from torch import nn

    layer = nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(2, 6, 16)


def _unet(torch: Any) -> tuple[Any, Any]:
    from torch import nn
    from torch.nn import functional

    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = (
                nn.Conv2d(1, 4, 3, padding=1),
                nn.Conv2d(4, 8, 3, padding=1),
                nn.Conv2d(12, 4, 3, padding=1),
            )
            self.up, self.out = nn.ConvTranspose2d(4, 4, 2, 2), nn.Conv2d(8, 2, 1)

        def forward(self, x: Any) -> Any:
            a = torch.relu(self.one(x))
            b = torch.relu(self.two(functional.max_pool2d(a, 2)))
            c = functional.interpolate(functional.max_pool2d(b, 2), scale_factor=2, mode="nearest")
            d = torch.relu(self.three(torch.cat([c, functional.max_pool2d(a, 2)], 1)))
            return functional.interpolate(self.out(torch.cat([self.up(d), a], 1)), scale_factor=2, mode="bilinear")

    return Net(), torch.randn(2, 1, 16, 16)


def _resnet(torch: Any) -> tuple[Any, Any]:
    from torch import nn

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
            self.two = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))

        def forward(self, x: Any) -> Any:
            return torch.relu(x + self.two(self.one(x)))

    return nn.Sequential(Block(), Block()), torch.randn(2, 4, 10, 10)


@pytest.mark.parametrize(
    ("make", "dynamo"),
    [
        *((make, False) for make in (_cnn, _lstm, _transformer, _unet, _resnet)),
        *((make, True) for make in (_lstm, _transformer)),  # that exporter takes seconds
    ],
)
def test_what_torch_exports(make: Callable[[Any], tuple[Any, Any]], dynamo: bool, tmp_path: Path) -> None:
    """With a free batch size; to the accuracy of float32 sums in another order."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    torch.manual_seed(0)
    net, x = make(torch)
    net.eval()
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(net, (x,), str(path), dynamo=True, dynamic_shapes=shapes, verbose=False)
        else:
            names = {
                "input_names": ["x"],
                "output_names": ["y"],
                "dynamic_axes": {"x": {0: "batch"}, "y": {0: "batch"}},
            }
            torch.onnx.export(net, (x,), str(path), dynamo=False, **names)
    model = fastdl.onnx.load(path)
    for batch in (2, 3, 1):
        value = torch.randn(batch, *x.shape[1:])
        with torch.no_grad():
            expected = net(value).numpy()
        for _ in range(2):
            (found,) = model.run([value.numpy()])
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)
    plan = next(reversed(model._plans.values()))
    assert not [step.reason for step in plan.steps if step.reason]
    session = pytest.importorskip("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    other = session.run(None, {model.inputs[0].name: value.numpy()})[0]
    np.testing.assert_allclose(found, other, rtol=1e-4, atol=2e-5)
