"""What results do not depend on, to the last bit: the number of threads, the place in an array and, with
`fastdl.set_deterministic`, the other samples of a batch."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl._kernels import ACTIVATION_NAMES
from tests.cases import Case, all_cases
from tests.support import DTYPES, HOME, everyday, on_each_level

RANDOM = ("dropout", "alpha_dropout", "dropout1d", "dropout2d", "dropout3d")
OPERATIONS = sorted({case.operation for case in everyday()})


PRODUCTS = ("linear", "conv", "rnn", "lstm", "gru", "scaled_dot_product_attention")
"""What is summed as is quickest for a batch, unless `set_deterministic` is set."""


@pytest.fixture
def deterministic() -> Iterator[None]:
    with fastdl.deterministic():
        yield


def _same(found: Any, expected: Any) -> bool:
    """Every bit, but those of a NaN."""
    bits = np.dtype(f"u{found.dtype.itemsize}")
    equal = found.view(bits) == expected.view(bits)
    return bool(np.all(equal | (np.isnan(found) & np.isnan(expected) if found.dtype.kind == "f" else False)))


def _assert_same(found: Iterable[Any], expected: Iterable[Any], what: object) -> None:
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert _same(np.ascontiguousarray(a), np.ascontiguousarray(b)), f"{what}: result {i}"


_MADE: dict[tuple[str, Any], dict[str, Any]] = {}


def _made(case: Case, dtype: Any) -> dict[str, Any]:
    """The arguments, kept for the levels to come; `run` leaves them as they are."""
    if "large" in case.tags:
        return case.make(dtype)
    if (case.id, dtype) not in _MADE:
        _MADE[case.id, dtype] = case.make(dtype)
    return _MADE[case.id, dtype]


# ---- threads ----


def _check_threads(cases: Iterable[Case], dtype: Any) -> None:
    for case in cases:
        arguments = _made(case, dtype)
        found = []
        for number in (1, 2, 3):  # more than there are cores, too; pieces fall to whoever comes
            with fastdl.threads(number):
                found.append(case.run(arguments))
        for other in found[1:]:
            _assert_same(other, found[0], case.id)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operation", OPERATIONS)
@on_each_level
def test_threads(operation: str, dtype: Any, level: str) -> None:
    _check_threads(everyday(operation=operation), dtype)


@pytest.mark.parametrize(
    "operation", sorted({case.operation for case in all_cases() if "large" in case.tags and case.flops < 3e7})
)
def test_threads_where_there_is_work_for_them(operation: str) -> None:
    """Sizes above the grain of every operation, below what takes long; of many some."""
    cases = [c for c in all_cases(operation) if {"large", "batch8"} & c.tags == {"large"} and c.flops < 3e7]
    _check_threads(cases[:: 1 + len(cases) // 8], np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("x", "weight", "options"),
    [
        ((1, 4, 84, 84), (32, 4, 8, 8), {"stride": 4}),
        ((1, 64, 9, 9), (64, 64, 3, 3), {}),
        ((1, 128, 28, 28), (96, 128, 3, 3), {"padding": 1, "stride": 2}),
        ((1, 512, 14, 14), (256, 512, 1, 1), {"stride": 2}),
        ((1, 64, 33, 33), (64, 64, 3, 3), {"padding": 1}),
        ((5, 64, 7, 7), (100, 64, 3, 3), {"padding": 1, "stride": 2}),
        ((1, 28, 28, 256), (64, 256, 1, 1), {"data_format": "NHWC"}),
        ((1, 15, 15, 63), (70, 63, 3, 3), {"data_format": "NHWC", "stride": 2}),
        ((2, 3, 41, 43), (5, 3, 4, 4), {"stride": 3}),
    ],
)
@on_each_level
def test_threads_of_convolution(x: Any, weight: Any, options: Any, dtype: Any, level: str) -> None:
    """Shapes whose last columns fall into tiles of different widths for every number of threads."""
    rng = np.random.default_rng(0)
    image, kernel = rng.standard_normal(x).astype(dtype), rng.standard_normal(weight).astype(dtype)
    grad = rng.standard_normal(fastdl.conv2d(image, kernel, **options).shape).astype(dtype)
    found = []
    for number in (1, 2, 3, 4, 5):
        with fastdl.threads(number):
            found.append([fastdl.conv2d(image, kernel, **options)])
            found[-1] += fastdl.conv2d_backward(grad, image, kernel, **options)
    for other in found[1:]:
        _assert_same(other, found[0], level)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(64, 1024, 1024), (17, 600, 48), (50, 300, 700), (3, 900, 90)])
@on_each_level
def test_threads_of_linear(rows: int, inputs: int, outputs: int, level: str) -> None:
    """Of which a thread's part would be few rows or columns, or small enough for a cache."""
    rng = np.random.default_rng(0)
    x, weight, grad = (rng.standard_normal(s, np.float32) for s in ((rows, inputs), (outputs, inputs), (rows, outputs)))
    found = []
    for number in (1, 2, 3, 4, 5):
        with fastdl.threads(number):
            found.append([fastdl.linear(x, weight), *fastdl.linear_backward(grad, x, weight)])
            found[-1].append(fastdl.linear(x, fastdl.pack_linear_weight(weight)))
    for other in found[1:]:
        _assert_same(other, found[0], level)


def test_threads_of_clipping() -> None:
    rng = np.random.default_rng(0)
    grads = [rng.standard_normal(shape, np.float32) for shape in (300_000, 5, 70_001, (300, 400))]
    found = []
    for number in (1, 2, 3, 5):
        with fastdl.threads(number):
            copies = [grad.copy() for grad in grads]
            found.append([np.asarray(fastdl.clip_grad_norm_(copies, 1.0)), *copies])
    for other in found[1:]:
        _assert_same(other, found[0], "clip_grad_norm_")


# ---- the other samples of a batch ----


WHOLE = {
    *("take", "embedding", "cat", "fuse_conv_bn_weights"),
    *("add", "sub", "mul", "div", "pow", "maximum", "minimum", "where", "sum", "mean", "amax", "amin", "matmul"),
}
"""Of rows by index, of weights, of arrays in which any dimension may be that of the samples."""


def _batched(case: Case, arguments: dict[str, Any]) -> tuple[dict[str, int], dict[int, int]] | None:
    """The dimension of the samples in each argument, and in each result that is of a sample alone.

    None: samples are not independent by definition, or there is no dimension of them.
    """
    family, options = case.operation.removesuffix("_backward"), case.parameters
    backward = family != case.operation
    if family.endswith(("_step", "_penalty")) or family in RANDOM or case.updates or options.get("return_saved"):
        return None
    if family in WHOLE:
        return None
    if family == "batch_norm" and options.get("training"):
        return None
    if "reduction" in inspect.signature(getattr(fastdl, family)).parameters and options.get("reduction") != "none":
        return None
    if family in ("rnn", "lstm", "gru"):
        if arguments["x"].ndim < 3 or (options.get("training") and options.get("dropout")):
            return None
        batch = 0 if options.get("batch_first") else 1
        names = {"x": batch, "grad_output": batch, "lengths": 0}
        states = 0 if backward else 1 + (family == "lstm")
        return names | dict.fromkeys(("h0", "c0", "grad_h_n", "grad_c_n"), 1), {
            0: batch,
            **dict.fromkeys(range(1, 1 + states), 1),
        }
    if family.endswith("_cell"):
        if arguments["x"].ndim < 2:
            return None
        states = 1 + (family == "lstm_cell")
        return dict.fromkeys(("x", "h", "c", "grad_output", "grad_c"), 0), dict.fromkeys(range(states + backward), 0)
    if family == "scaled_dot_product_attention":
        query, mask = arguments["query"], arguments.get("attn_mask")
        if query.ndim < 3 or options.get("dropout_p") or (options.get("enable_gqa") and query.ndim < 4):
            return None  # where masks of dropout lie follows from the batch
        names = dict.fromkeys(("query", "key", "value", "grad_output", "y", "saved"), 0)
        own = np.ndim(mask) == query.ndim and np.shape(mask)[0] > 1
        return names | ({"attn_mask": 0} if own else {}), dict.fromkeys(range(len(case.shapes)), 0)
    lead = next(arguments[name] for name in _FIRST if name in arguments)
    if family in ("discounted_returns", "gae", "vtrace"):  # over time, which comes first; what is of one step has none
        if lead.ndim < 2:
            return None
        names = {n: int(v.ndim == lead.ndim) for n, v in arguments.items() if isinstance(v, np.ndarray)}
        return names, {i: int(len(shape) == lead.ndim) for i, shape in enumerate(case.shapes)}
    if family.endswith("policy_loss"):
        return None
    if family.startswith(("categorical", "normal")):
        common = ["log_std"] * (np.ndim(arguments.get("log_std")) == 1)  # and its gradient, the second, is a sum
        names = {n: 0 for n, v in arguments.items() if isinstance(v, np.ndarray) and n not in common}
        return names, dict.fromkeys(range(1 if common else len(case.shapes)), 0)
    last = max(np.size(options.get("normalized_shape", ())), len(options.get("pad", ())) // 2)
    if family.startswith("pixel") and lead.ndim == 3:
        return None  # an image alone
    if lead.ndim < 2 or lead.ndim <= last or options.get("dim", -1) in (0, -lead.ndim):
        return None
    shared = ["bias", "running_mean", "running_var"]
    shared += ["mean", "rstd"] * (family == "batch_norm")
    shared += ["weight", "pos_weight"] * (not family.startswith("binary"))
    names = {
        name: 0
        for name, value in arguments.items()
        if isinstance(value, np.ndarray) and value.shape[:1] == lead.shape[:1] and name not in shared
    }
    both = family in ("cosine_embedding_loss", "cross_entropy_with_grad")  # results of each sample in a gradient, too
    alone = len(case.shapes) if both or not (backward or family == "batch_norm") else 1
    return names, dict.fromkeys(range(alone), 0)


_FIRST = ("x", "x1", "query", "columns", "grad_output", "reward", "grad_advantage", "logits", "mean")


def _taken(arguments: dict[str, Any], names: dict[str, int], samples: Any) -> dict[str, Any]:
    return {
        name: np.take(value, samples, axis=names[name]) if name in names and value is not None else value
        for name, value in arguments.items()
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if not name.endswith("_step")])
@on_each_level
def test_batch(operation: str, dtype: Any, level: str) -> None:
    """Samples of each case, as often as it takes, together and alone."""
    with fastdl.deterministic(operation.startswith(PRODUCTS)):
        _check_batches(everyday(operation=operation), dtype)


def _check_batches(cases: Iterable[Case], dtype: Any) -> None:
    for case in cases:
        arguments = _made(case, dtype)
        found = _batched(case, arguments)
        if found is None:
            continue
        names, results = found
        first = next(name for name in _FIRST if name in names)
        count = arguments[first].shape[names[first]]
        if "empty" in case.tags or count == 0:
            continue
        for batch in (2, 5, 17):
            samples = np.arange(batch) % count
            together = case.run(_taken(arguments, names, samples))
            for place in (0, batch - 1):
                alone = case.run(_taken(arguments, names, samples[place : place + 1]))
                for i, axis in results.items():
                    one = np.take(together[i], [place], axis=axis)
                    assert _same(one, alone[i]), f"{case.id}: result {i} of sample {place} of {batch}"


def test_most_operations_have_samples() -> None:
    """Where the test above has nothing to compare, and why."""
    found = {c.operation for c in everyday() if _batched(c, c.make(np.float32))}
    families = {name.removesuffix("_backward") for name in set(OPERATIONS) - found}
    apart = {*RANDOM, "l1_penalty", "l2_penalty", *WHOLE}
    apart |= {"categorical_policy_loss", "normal_policy_loss"}
    assert {name for name in families if not name.endswith("_step")} == apart


@pytest.mark.parametrize("kind", [fastdl.nn.RNNCell, fastdl.nn.LSTMCell, fastdl.nn.GRUCell])
@pytest.mark.parametrize("size", [5, 700])
@on_each_level
def test_batch_of_bound_cells(kind: Any, size: int, level: str) -> None:
    """Whose weights are packed for one row as for many."""
    cell = kind(size, 75, rng=0)
    x = np.random.default_rng(0).standard_normal((20, size), np.float32)
    alone = cell.bind()(x[:1])
    for batch in (2, 9, 20):
        together = cell.bind(batch)(x[:batch])
        for a, b in zip(together, alone, strict=True) if isinstance(alone, tuple) else [(together, alone)]:
            _assert_same([a[:1]], [b], batch)


@on_each_level
def test_batch_matters_unless_it_is_set(level: str) -> None:
    """Which is what the tests above would find."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((32, 300), np.float32), rng.standard_normal((40, 300), np.float32)
    with fastdl.deterministic(False):
        assert not np.array_equal(fastdl.linear(x, weight)[:1], fastdl.linear(x[:1], weight))
    with fastdl.deterministic():
        assert np.array_equal(fastdl.linear(x, weight)[:1], fastdl.linear(x[:1], weight))


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spoilt", [(), (1,), (0, 3)])
@on_each_level
def test_each_image_decides_for_itself_whether_winograd_is_exact_enough(spoilt: Any, dtype: Any, level: str) -> None:
    """One that is not finite, or has a number much larger than the others, leaves its neighbours what they are."""
    rng = np.random.default_rng(0)
    images, turned = (rng.standard_normal((4, 32, 14, 15)).astype(dtype) for _ in range(2))
    weight, wide = (rng.standard_normal((32, 32, k, k)).astype(dtype) for k in (3, 4))
    for n, value in zip(spoilt, (1e12, np.inf), strict=False):
        images[n, 3, 4, 5] = value
    last = np.ascontiguousarray(images.transpose(0, 2, 3, 1))

    def run(part: slice) -> list[Any]:
        x, other = images[part], turned[part]
        return [
            fastdl.conv2d(x, weight, padding=1),
            fastdl.conv2d(last[part], weight, padding=1, data_format="NHWC"),
            fastdl.conv2d_backward(x, other, weight, padding=1).input,
            fastdl.conv_transpose2d(x, wide, stride=2, padding=1),
        ]

    with np.errstate(invalid="ignore"):
        together = run(slice(None))
        for n in range(4):
            _assert_same([y[n : n + 1] for y in together], run(slice(n, n + 1)), n)


# ---- the place in an array ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "operation", [*ACTIVATION_NAMES[1:], "mse_loss", "huber_loss", "binary_cross_entropy_with_logits"]
)
@on_each_level
def test_place_in_an_array(operation: str, dtype: Any, level: str) -> None:
    """An element in the middle of a vector, in a tail and alone is computed alike."""
    rng = np.random.default_rng(0)
    x, y, grad = (rng.uniform(0.01, 3, 3000).astype(dtype) for _ in range(3))
    name, tanh = ("gelu", "tanh") if operation == "gelu_tanh" else (operation, "none")
    forward, backward = getattr(fastdl, name), getattr(fastdl, f"{name}_backward")
    if "loss" in operation or "entropy" in operation:
        given, options = (x, np.minimum(y, 1)), {"reduction": "none"}
    else:
        given, options = (x,), {}
    options |= {"approximate": tanh} if name == "gelu" else {}
    options |= {"threshold": 1.0, "value": 2.0} if operation == "threshold" else {}
    found = forward(*given, **options), backward(grad, *given, **options)
    for begin, count in ((0, 1), (1, 2), (3, 7), (17, 13), (5, 31), (9, 64), (33, 500), (100, 2900)):
        part = slice(begin, begin + count)
        some = tuple(a[part] for a in given)
        alone = forward(*some, **options), backward(grad[part], *some, **options)
        _assert_same(alone, [a[part] for a in found], part)


@pytest.mark.parametrize("case", [c for c in everyday() if c.operation.endswith("_step")], ids=lambda case: case.id)
@on_each_level
def test_place_in_an_optimizers_arrays(case: Case, level: str) -> None:
    arguments = _made(case, np.float32)
    size = arguments["param"].size
    found = case.run(arguments)
    for part in (slice(0, 1), slice(1, 4), slice(size // 3, size)):
        some = {n: a[part].copy() if np.shape(a) == (size,) else a for n, a in arguments.items()}
        _assert_same(case.run(some), [a[part] if a.shape == (size,) else a for a in found], part)


# ---- the setting ----


def test_deterministic_for_a_block() -> None:
    assert fastdl.get_deterministic() is False
    with fastdl.deterministic():
        assert fastdl.get_deterministic() is True
        with fastdl.deterministic(False):
            assert fastdl.get_deterministic() is False
        assert fastdl.get_deterministic() is True
        with pytest.raises(TypeError, match="on: found 1, expected a bool"):
            fastdl.set_deterministic(1)  # type: ignore[arg-type]
        assert fastdl.show_config()["deterministic"] is True
    assert fastdl.get_deterministic() is False


def test_deterministic_from_the_environment() -> None:
    code = "import fastdl; print(fastdl.get_deterministic())"
    for value, expected in ("1", "True"), ("0", "False"), ("", "False"):
        environment = os.environ | {"FASTDL_DETERMINISTIC": value}
        run = subprocess.run([sys.executable, "-c", code], cwd=HOME, env=environment, capture_output=True, text=True)
        assert run.stdout.strip() == expected, run.stderr
    environment = os.environ | {"FASTDL_DETERMINISTIC": "yes"}
    run = subprocess.run([sys.executable, "-c", code], cwd=HOME, env=environment, capture_output=True, text=True)
    assert "FASTDL_DETERMINISTIC: found 'yes', expected '0' or '1'" in run.stderr


def test_numba_follows() -> None:
    numba = pytest.importorskip("numba")

    @numba.njit  # type: ignore[untyped-decorator]
    def linear(x: Any, weight: Any) -> Any:
        return fastdl.linear(x, weight)

    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((32, 300), np.float32), rng.standard_normal((40, 300), np.float32)
    assert not np.array_equal(linear(x, weight)[:1], linear(x[:1], weight))
    with fastdl.deterministic():
        assert np.array_equal(linear(x, weight)[:1], linear(x[:1], weight))
