"""The operations inside a user's @njit function: the same names, the same results, cached on disk.

Nothing here imports fastdl.numba: Numba finds it by its entry point.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl.functional._operation import OPERATIONS
from tests.cases import Case, results
from tests.cases.case import flat
from tests.support import DTYPES, everyday

numba = pytest.importorskip("numba", reason="Numba is not installed")


def _spelt_out(case: Case, dtype: Any) -> dict[str, Any]:
    """The arguments with every default filled in and every window option a tuple, so that many cases share types."""
    signature = inspect.signature(OPERATIONS[case.operation])
    bound = signature.bind(**case.complete(case.make(dtype)))
    bound.apply_defaults()
    bound.arguments.pop("out", None)
    windows = ("stride", "padding", "dilation", "kernel_size")
    rank = next((int(c) for c in case.operation if c in "13"), 2)
    return {
        name: (value,) * rank if name in windows and isinstance(value, int) else value
        for name, value in bound.arguments.items()
    }


def _is_written(value: Any) -> bool:
    """Strings and flags are literals of the call."""
    return isinstance(value, (str, bool))


def _largest_group(operation: str, dtype: Any) -> list[Case]:
    """The most cases of an operation that one compilation serves: argument types, and what are literals."""
    groups = defaultdict(list)
    for case in everyday(operation=operation):
        arguments = _spelt_out(case, dtype)
        groups[tuple(v if _is_written(v) else numba.typeof(v) for v in arguments.values())].append(case)
    return max(groups.values(), key=len)


def _compiled(operation: str, arguments: dict[str, Any]) -> Any:
    """@njit def call(x, ...): return fastdl.<operation>(x=x, ...), with the literals written into it."""
    passed = [name for name, value in arguments.items() if not _is_written(value)]
    written = ", ".join(f"{n}={v!r}" if _is_written(v) else f"{n}={n}" for n, v in arguments.items())
    namespace = {"fastdl": fastdl}
    exec(f"def call({', '.join(passed)}): return fastdl.{operation}({written})", namespace)
    function = numba.njit(namespace["call"])
    return lambda **arguments: function(*[arguments[name] for name in passed])


@pytest.mark.parametrize("dtype", [DTYPES[0], pytest.param(*DTYPES[1].values, id=DTYPES[1].id, marks=pytest.mark.slow)])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_same_results(operation: str, dtype: Any) -> None:
    cases = _largest_group(operation, dtype)
    compiled = _compiled(operation, _spelt_out(cases[0], dtype))
    for case in cases:
        arguments = _spelt_out(case, dtype)
        inside = arguments | {name: arguments[name].copy() for name in case.updates}
        got = results(case, compiled(**inside), inside)
        for a, b in zip(got, case.run(arguments), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=case.id)
            assert a.dtype == b.dtype


_SCRIPT = """
import json, numba, numpy as np, fastdl

@numba.njit(cache=True)
def train(x, target, w1, b1, w2, steps):
    loss = 0.0
    for step in range(steps):
        pre = fastdl.linear(x, w1, b1)
        hidden = fastdl.relu(pre)
        scores = fastdl.linear(hidden, w2)
        loss = fastdl.cross_entropy(scores, target)[()]
        grad = fastdl.cross_entropy_backward(np.ones((), x.dtype), scores, target)
        second = fastdl.linear_backward(grad, hidden, w2)
        first = fastdl.linear_backward(fastdl.relu_backward(second.input, pre), x, w1, input_grad=False)
        fastdl.sgd_step(w1, first.weight, lr=0.5)
        fastdl.sgd_step(b1, first.bias, lr=0.5)
        fastdl.sgd_step(w2, second.weight, lr=0.5)
    return loss

rng = np.random.default_rng(0)
x = rng.standard_normal((40, 5)).astype(np.float32)
target = (x[:, 0] > x[:, 1]).astype(np.int64)
w1, w2 = (rng.standard_normal(shape).astype(np.float32) for shape in ((16, 5), (2, 16)))
loss = train(x, target, w1, np.zeros(16, np.float32), w2, 200)
stats = train.stats
print(json.dumps([float(loss), sum(stats.cache_hits.values()), sum(stats.cache_misses.values())]))
"""


def test_training_loop_is_cached(tmp_path: Path) -> None:
    """The same script in two processes: the second one compiles nothing."""
    script = tmp_path / "train.py"
    script.write_text(_SCRIPT)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    losses = []
    for hits, misses in ((0, 1), (1, 0)):
        ran = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=300)
        assert ran.returncode == 0, ran.stderr
        loss, *found = json.loads(ran.stdout)
        assert found == [hits, misses]
        losses.append(loss)
    assert losses[0] == losses[1] < 0.1


_VERSIONS = """
import json, sys, numba, numpy as np, fastdl

fastdl.__version__ = sys.argv[1]

@numba.njit(cache=True)
def inner(x):
    return fastdl.elu(x)

@numba.njit(cache=True)
def outer(x):
    return inner(x)

assert outer(np.ones(3)).sum() == 3
print(json.dumps([sum(f.stats.cache_hits.values()) for f in (outer, inner)]))
"""


def test_another_version_compiles_anew(tmp_path: Path) -> None:
    """Also what only calls a function that calls fastdl."""
    script = tmp_path / "versions.py"
    script.write_text(_VERSIONS)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    found = []
    for version in ("1", "1", "2", "2", "1"):
        ran = subprocess.run([sys.executable, script, version], capture_output=True, text=True, env=environment)
        assert ran.returncode == 0, ran.stderr
        assert not ran.stderr
        found.append(json.loads(ran.stdout))
    assert found == [[0, 0], [1, 0], [0, 0], [1, 0], [0, 0]]


@numba.njit
def _relu_into(x: Any, out: Any) -> Any:
    return fastdl.relu(x, out=out)


@numba.njit
def _pool(x: Any, kernel_size: Any, padding: Any) -> Any:
    return fastdl.max_pool2d(x, kernel_size, padding=padding)


@numba.njit
def _loss(x: Any, target: Any) -> Any:
    return fastdl.cross_entropy(x, target)


@numba.njit
def _weighted(x: Any, target: Any, weight: Any, pos_weight: Any) -> Any:
    return fastdl.binary_cross_entropy_with_logits(x, target, weight, "none", pos_weight)


@numba.njit
def _pad(x: Any, pad: Any, mode: Any) -> Any:
    return fastdl.pad(x, pad, mode)


@numba.njit
def _conv_and_backward(x: Any, weight: Any, padding: Any, padding_mode: Any) -> Any:
    y = fastdl.conv2d(x, weight, padding=padding, padding_mode=padding_mode)
    return y, fastdl.conv2d_backward(y, x, weight, padding=padding, padding_mode=padding_mode)


@numba.njit
def _add(x: Any, y: Any) -> Any:
    return fastdl.add(x, y)


@numba.njit
def _take(x: Any, index: Any) -> Any:
    return fastdl.take(x, index)


@numba.njit
def _give(grad: Any, index: Any, rows: Any) -> Any:
    return fastdl.take_backward(grad, index, rows)


@numba.njit
def _dropout(x: Any, p: Any) -> Any:
    return fastdl.dropout(x, p)


@numba.njit
def _cat(arrays: Any, dim: Any) -> Any:
    return fastdl.cat(arrays, dim)


@numba.njit
def _cat_back(grad: Any, sizes: Any, dim: Any) -> Any:
    return fastdl.cat_backward(grad, sizes, dim)


_X, _IMAGE = np.ones((2, 3), np.float32), np.ones((1, 1, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (_relu_into, (_X, np.zeros((3, 2), np.float32))),
        (_pool, (_IMAGE, 5, 0)),
        (_pool, (_IMAGE, 0, 0)),
        (_pool, (_IMAGE, 2, -1)),
        (_pool, (_IMAGE, 2, 2)),
        (_pool, (_IMAGE, 2, "wide")),
        (_pad, (_X, (3, 0), "reflect")),
        (_pad, (_X, (0, 0, 0, 3), "circular")),
        (_pad, (_X, (-2, -2), "constant")),
        (_pad, (_X, (2**61, 0), "constant")),
        (_pad, (_X, (1, 1), "edge")),
        (_pad, (_X, (1,), "reflect")),
        (_conv_and_backward, (_IMAGE, _IMAGE, 4, "reflect")),
        (_conv_and_backward, (_IMAGE, _IMAGE, 1, "edge")),
        (_weighted, (_X, _X, np.ones(2, np.float32), None)),
        (_loss, (_X, np.array([0, 3]))),
        (_loss, (_X, np.array([0, -1]))),
        (_loss, (_X, np.array([0, 1, 2]))),
        (_loss, (np.ones(3, np.float32), np.array([0]))),
        (_add, (_X, _X.T)),
        (_add, (_X, _IMAGE)),
        (_take, (_X, np.array([0, 2]))),
        (_take, (_X, np.array([0, -1]))),
        (_give, (_X, np.array([0, 3]), 3)),
        (_give, (_X, np.array([0, 1, 2]), 3)),
        (_give, (_X, np.array([0, 1]), -1)),
        (_give, (_X, np.zeros((2, 3, 1), np.int64), 3)),
        (_cat, ((_X, _X.T.copy()), 0)),
        (_cat, ((_X, _X), 2)),
        (_cat, ((_X, _IMAGE), 0)),
        (_cat, ((np.ones(()), np.ones(())), 0)),
        (_cat_back, (_X, (1, 2), 0)),
        (_cat_back, (_X, (3, -1), 0)),
        (_dropout, (_X, 1.5)),
        (_dropout, (_X, math.nan)),
    ],
)
def test_mistakes_in_values_raise_what_python_raises(function: Any, arguments: tuple[Any, ...]) -> None:
    """The same exception with the same words, be it that it is raised by compiled code."""
    with pytest.raises((ValueError, TypeError)) as expected:
        function.py_func(*arguments)
    with pytest.raises(type(expected.value)) as found:
        function(*arguments)
    assert type(found.value) is type(expected.value)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("pad", [(), (1, 2), (-1, 2, 0, -3), (0, 1, 2, 3, 4, 5, 6, 7)], ids=len)
def test_pad_takes_tuples_of_any_length(pad: tuple[int, ...]) -> None:
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(_pad(x, pad, "constant"), fastdl.pad(x, pad))
    if min(pad, default=0) >= 0:
        np.testing.assert_array_equal(_pad(x, pad, "replicate"), fastdl.pad(x, pad, "replicate"))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "zeros"])
def test_convolution_with_a_border(mode: str) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 6, 7)), rng.standard_normal((4, 3, 3, 3))
    y, grad = _conv_and_backward(x, weight, (2, 1), mode)
    np.testing.assert_array_equal(y, fastdl.conv2d(x, weight, padding=(2, 1), padding_mode=mode))
    expected = fastdl.conv2d_backward(y, x, weight, padding=(2, 1), padding_mode=mode)
    for found, wanted in zip(grad, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_overlapping_out_raises() -> None:
    memory = np.ones(7, np.float32)
    with pytest.raises(ValueError, match="overlaps the result"):
        _relu_into(memory[:6], memory[1:])
    np.testing.assert_array_equal(memory, 1)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (_relu_into, (np.ones(3, np.int32), np.ones(3, np.int32))),
        (_relu_into, (np.ones(3, np.float32), np.ones(3))),
        (_relu_into, (1.5, np.ones(3))),
        (_pool, (_IMAGE, 2.5, 0)),
        (_pool, (_IMAGE, (2, 2, 2), 0)),
        (_pool, (_IMAGE, 2, (1, 1, 1))),
        (_pool, (_IMAGE, 2, True)),
        (_pad, (_X, (1, 0.5), "reflect")),
        (_pad, (_X, 1, "reflect")),
        (_loss, (_X, np.array([0.0, 1.0]))),
        (_add, (_X, np.ones((2, 3)))),
        (_take, (np.ones(()), np.array([0]))),
        (_take, (_X, np.array([0.0]))),
        (_cat, (_X, 0)),
        (_cat, ((_X, np.ones((2, 3))), 0)),
        (_cat, ((_X, 1.0), 0)),
        (_cat_back, (_X, 2, 0)),
        (_cat_back, (_X, (1.0, 1.0), 0)),
        (_cat_back, (np.ones(()), (1,), 0)),
        (_dropout, (_X, "half")),
    ],
)
def test_mistakes_in_types_do_not_compile(function: Any, arguments: tuple[Any, ...]) -> None:
    """One line says the function, and what Python says, with types in place of values."""
    with pytest.raises((ValueError, TypeError)) as expected:
        function.py_func(*arguments)
    with pytest.raises(numba.TypingError) as found:
        function(*arguments)
    lines = [line for line in str(found.value).splitlines() if ": found " in line]
    assert len(lines) == 1
    assert re.match(r"fastdl\.\w+: ", lines[0])
    said = re.sub(r"found (?!dtype|shape).*?, expected", "found (.*?), expected", str(expected.value))
    assert re.search(re.escape(said).replace(re.escape("(.*?)"), "(.*?)"), lines[0])
    assert len(str(found.value).splitlines()) < 14  # with what Numba says of the place


def test_arrays_of_several_layouts_and_rows_of_any_shape() -> None:
    x = np.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(_cat((x, x[:, ::2], x[::-1]), -1), np.concatenate((x, x[:, ::2], x[::-1]), -1))
    np.testing.assert_array_equal(_cat((x,), 1), x)
    for found, expected in zip(_cat_back(x, (1, 0, 5), 1), fastdl.cat_backward(x, (1, 0, 5), 1), strict=True):
        np.testing.assert_array_equal(found, expected)
    for index in (3, [0, 3], np.array([[1, 1], [3, 0]]), np.zeros((2, 0), np.int32)):
        given = tuple(index) if isinstance(index, list) else index
        y = _take(x, given)
        np.testing.assert_array_equal(y, x[index])
        np.testing.assert_array_equal(_give(y, given, 5), fastdl.take_backward(y, index, 5))
    np.testing.assert_array_equal(_take(np.arange(3.0), np.array([2, 2])), [2, 2])


def test_views_are_inputs() -> None:
    """A layout that Numba knows is not contiguous, and one whose strides are negative."""

    @numba.njit
    def relu(x: Any) -> Any:
        return fastdl.relu(x)

    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
    for view in (x[:, ::2], x[::-1], x.T, x[::-2, ::-3]):
        np.testing.assert_array_equal(relu(view), fastdl.relu(view))


@numba.njit
def _entropy(x: Any, target: Any, weight: Any) -> Any:
    both = fastdl.cross_entropy_with_grad(x, target, weight, label_smoothing=0.1)
    each = fastdl.cross_entropy(x, target, weight, reduction="none")
    return both.loss, both.grad, each, fastdl.cross_entropy_backward(each, x, target, weight, reduction="none")


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 5, 3), (2, 5, 3, 2)])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_targets_of_every_kind(shape: tuple[int, ...], soft: bool, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    x, rows = rng.standard_normal(shape), shape[:1] + shape[2:] if len(shape) > 1 else ()
    target = rng.uniform(size=shape) if soft else np.asarray(rng.integers(0, 5, rows))
    weight = rng.uniform(size=5) if weighted else None
    for got, want in zip(_entropy(x, target, weight), _entropy.py_func(x, target, weight), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape", [(), (4,), (3, 1), (3, 4)])
def test_weights_are_broadcast(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    arguments = rng.standard_normal((3, 4)), rng.uniform(size=(3, 4)), rng.uniform(size=shape), rng.uniform(size=(1, 4))
    np.testing.assert_array_equal(_weighted(*arguments), _weighted.py_func(*arguments))


@numba.njit
def _pool_and_back(x: Any) -> Any:
    y, indices = fastdl.max_pool2d(x, 2, stride=(1, 2), return_indices=True)
    grad = fastdl.max_pool2d_backward(y, x, 2, stride=(1, 2), indices=indices)
    back = fastdl.max_unpool2d(y, indices, 2, stride=(1, 2), output_size=x.shape)
    return y, indices, grad, back, fastdl.adaptive_avg_pool2d(x, (None, 1))


def test_indices_and_none_in_tuples() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 8))
    for got, want in zip(_pool_and_back(x), _pool_and_back.py_func(x), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_linear_with_a_vector_for_its_weight(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal(shape), rng.standard_normal(4), np.array(0.5)

    def both(x, weight, bias):
        y = fastdl.linear(x, weight, bias)
        return y, fastdl.linear(x, weight), fastdl.linear_backward(y, x, weight)

    for a, b in zip(flat(numba.njit(both)(x, weight, bias)), flat(both(x, weight, bias)), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
    for wrong in (np.ones(1), np.ones(4)):
        with pytest.raises(ValueError, match="bias: found shape"):
            numba.njit(both)(x, weight, wrong)
    with pytest.raises((ValueError, numba.TypingError), match="bias: found shape"):
        numba.njit(both)(x, np.ones((2, 4)), bias)


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 5, 3, 2)])
def test_dropout2d_of_three_dimensions(shape: tuple[int, ...]) -> None:
    x = np.ones(shape)
    found = numba.njit(lambda x: fastdl.dropout2d(x, 0.5, seed=3))(x)
    np.testing.assert_array_equal(found, fastdl.dropout2d(x, 0.5, seed=3))


def test_one_sequence_without_a_batch() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((5, 3)), tuple(rng.standard_normal(shape) for shape in ((16, 3), (16, 4)))

    @numba.njit
    def both(x, weights):
        output, h_n, c_n, saved = fastdl.lstm(x, weights, return_saved=True)
        return output, h_n, c_n, fastdl.lstm_backward(output, x, weights, saved, grad_h_n=h_n, grad_c_n=c_n)

    found, expected = both(x, weights), both(x[:, None], weights)
    assert [a.shape for a in (*found[:3], found[3].input, found[3].h0)] == [(5, 4), (1, 4), (1, 4), (5, 3), (1, 4)]
    for a, b in zip(flat(found), flat(expected), strict=True):
        np.testing.assert_array_equal(a, b.reshape(a.shape))


def test_norms_with_flags_at_run_time() -> None:
    @numba.njit
    def norms(x, mean, variance, flag):
        return (
            fastdl.batch_norm(x, mean, variance, training=flag),
            fastdl.instance_norm(x, mean, variance, use_input_stats=flag),
        )

    x = np.random.default_rng(0).standard_normal((4, 3, 5))
    for flag in (True, False):
        statistics = [(np.zeros(3), np.ones(3)) for _ in range(2)]
        for found, wanted in zip(norms(x, *statistics[0], flag), norms.py_func(x, *statistics[1], flag), strict=True):
            np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(*statistics)
