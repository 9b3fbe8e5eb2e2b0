"""What docs/numba.md says can be called inside @njit, and with which arguments."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl.functional._operation import OPERATIONS
from tests.cases import Case, results
from tests.cases.case import flat
from tests.support import everyday
from tests.test_numba import _compiled, _largest_group, _spelt_out

numba = pytest.importorskip("numba", reason="Numba is not installed")

TEXT = Path(__file__).parents[1].joinpath("docs", "numba.md").read_text()


def _row(pattern: str) -> set[str]:
    """The names in the cells before the one that says that."""
    (line,) = [line for line in TEXT.splitlines() if line.startswith("|") and re.search(pattern, line)]
    return set(re.findall(r"`(\w+)`", line.split("|")[1]))


REFUSED = _row("a TypingError of one line")
LITERALS = _row("decide the type of what is returned")


def _types(case: Case, known: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a case, and their Numba types: names and flags are literals if they are known."""
    from numba.core import types

    arguments = _spelt_out(case, np.float32)
    if "out" in inspect.signature(OPERATIONS[case.operation]).parameters:
        arguments["out"] = None
    return arguments, {
        name: types.literal(value) if name in known and isinstance(value, (str, bool)) else numba.typeof(value)
        for name, value in arguments.items()
    }


def _refusal(operation: Any, given: tuple[Any, ...]) -> str:
    try:
        operation.result(given)
    except numba.TypingError as refusal:
        return str(refusal)
    return ""


def test_only_what_decides_types_has_to_be_literal() -> None:
    """Of every operation, each name and each flag in turn only known at run time."""
    numba.njit(lambda x: fastdl.relu(x))(np.ones(1))
    from fastdl.numba.operations import Operation

    found = defaultdict(set)
    for name, function in OPERATIONS.items():
        case = _largest_group(name, np.float32)[0]
        operation = Operation(name, function)
        options = [n for n, v in _spelt_out(case, np.float32).items() if isinstance(v, (str, bool))]
        for option in options:
            _, types = _types(case, set(options) - {option})
            given = tuple(types[parameter] for parameter in operation.signature.parameters)
            said = _refusal(operation, given)
            assert said in ("", f"fastdl.{name}: {option}: found a value known at run time only, expected a literal")
            found[bool(said)].add(option)
    assert found[True] == LITERALS
    assert not found[True] & found[False]


@pytest.mark.parametrize("operation", ["conv2d", "conv2d_backward", "max_pool2d", "pad", "gelu", "linear", "lstm"])
def test_names_and_flags_at_run_time(operation: str) -> None:
    for case in _largest_group(operation, np.float32)[:3]:
        arguments = _spelt_out(case, np.float32)
        passed = [n for n, v in arguments.items() if n not in LITERALS]
        written = ", ".join(f"{n}={n}" if n in passed else f"{n}={v!r}" for n, v in arguments.items())
        namespace: dict[str, Any] = {"fastdl": fastdl}
        exec(f"def call({', '.join(passed)}): return fastdl.{operation}({written})", namespace)
        got = numba.njit(namespace["call"])(*[arguments[name] for name in passed])
        for a, b in zip(results(case, got, arguments), case.run(arguments), strict=True):
            np.testing.assert_array_equal(a, b)


_FUNCTIONS = [n for n in dir(fastdl) if inspect.isfunction(getattr(fastdl, n)) and n[0] != "_"]
_FUNCTIONS.remove("receptive_field")  # of layers


@pytest.mark.parametrize("name", _FUNCTIONS)
def test_every_function_is_in_the_table(name: str) -> None:
    namespace: dict[str, Any] = {"fastdl": fastdl}
    exec(f"def call(): return fastdl.{name}({', '.join(['1'] * 30)})", namespace)
    with pytest.raises(numba.TypingError) as refusal:
        numba.njit(namespace["call"])()
    said = str(refusal.value).splitlines()[1]
    if name in REFUSED:
        assert said == f"fastdl.{name}: found a call in compiled code, expected one in Python"
    else:
        assert said == f"fastdl.{name}: too many positional arguments"


_WITH_OUT = [n for n, f in OPERATIONS.items() if "out" in inspect.signature(f).parameters]


@pytest.mark.parametrize("operation", _WITH_OUT)
def test_out(operation: str) -> None:
    """What is returned is `out`, and has what would have been returned."""
    case: Case = next(iter(everyday(operation=operation)))
    arguments = _spelt_out(case, np.float32)
    arguments.pop("return_indices", None), arguments.pop("return_stats", None)
    expected = OPERATIONS[operation](**arguments)
    if isinstance(expected, tuple):
        arguments["out"] = tuple(np.full_like(array, np.nan) for array in expected)
    else:
        arguments["out"] = np.full_like(expected, np.nan)
    found = _compiled(operation, arguments)(**arguments)
    for a, b, c in zip(_each(found), _each(expected), _each(arguments["out"]), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.ctypes.data == c.ctypes.data


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def test_arguments_that_may_be_none() -> None:
    @numba.njit
    def both(x: Any, weight: Any, bias: Any, first: Any, second: Any) -> Any:
        given = bias if first else None
        out = np.empty((len(x), len(weight)), x.dtype) if second else None
        return fastdl.linear(x, weight, given, out=out)

    x, weight, bias = np.ones((2, 3)), np.ones((4, 3)), np.arange(4.0)
    for first in (True, False):
        for second in (True, False):
            expected = fastdl.linear(x, weight, bias if first else None)
            np.testing.assert_array_equal(both(x, weight, bias, first, second), expected)


def test_lists() -> None:
    x, weight = np.random.default_rng(0).standard_normal((2, 2, 7, 6)), np.ones((3, 2, 3, 3))

    @numba.njit
    def convolve(x: Any, weight: Any, a: Any, b: Any) -> Any:
        return fastdl.conv2d(x, weight, padding=[a, b], stride=[b], dilation=[1, 1])

    @numba.njit
    def pool(x: Any, count: Any) -> Any:
        return fastdl.max_pool2d(x, [2] * count, [1] * count)

    @numba.njit
    def losses(x: Any, target: Any, weight: Any) -> Any:
        return fastdl.cross_entropy(x, [0, 1], [1.0, 2.5]), fastdl.cross_entropy(x, [target, 0], (weight, 1.0))

    np.testing.assert_array_equal(convolve(x, weight, 1, 2), convolve.py_func(x, weight, 1, 2))
    for count in (1, 2):
        np.testing.assert_array_equal(pool(x, count), pool.py_func(x, count))
    for count in (0, 3, 9):
        with pytest.raises(TypeError) as expected:
            pool.py_func(x, count)
        with pytest.raises(TypeError) as found:
            pool(x, count)
        assert str(found.value) == str(expected.value) or count == 9
        assert str(found.value).startswith("kernel_size: found ")
    np.testing.assert_array_equal(losses(x[0, 0, :2, :2], 1, 0.5), losses.py_func(x[0, 0, :2, :2], 1, 0.5))
    with pytest.raises(
        numba.TypingError, match=r"fastdl.cat: arrays: found list\(array\(float64, 4d, C\)\), expected a tuple"
    ):
        numba.njit(lambda x: fastdl.cat([x, x], 0))(x)


@numba.njit
def _clip_norm(grads: Any, max_norm: Any, norm_type: Any, error: Any) -> Any:
    return fastdl.clip_grad_norm_(grads, max_norm, norm_type, error)


@numba.njit
def _clip_value(grads: Any, clip_value: Any) -> None:
    fastdl.clip_grad_value_(grads, clip_value)


def _gradients() -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((3, 4)).astype(np.float32)
    return first, rng.standard_normal(5), None, first, rng.standard_normal(70_000).astype(np.float32)


@pytest.mark.parametrize("norm_type", [1, 2.0, 3.5, np.inf])
@pytest.mark.parametrize("max_norm", [0, 1.0, 1e9])
def test_clipping(norm_type: float, max_norm: float) -> None:
    """Of two dtypes, with one that is given twice, and None."""
    found, expected = _gradients(), _gradients()
    assert _clip_norm(found, max_norm, norm_type, True) == fastdl.clip_grad_norm_(expected, max_norm, norm_type)
    _clip_value(found, 1e-3)
    fastdl.clip_grad_value_(expected, 1e-3)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_clipping_one_array_and_none() -> None:
    found, expected = np.array([3.0, 4.0]), np.array([3.0, 4.0])
    assert _clip_norm(found, 1.0, 2.0, False) == fastdl.clip_grad_norm_(expected, 1.0)
    np.testing.assert_array_equal(found, expected)
    assert _clip_norm((), 1.0, 2.0, True) == 0


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (_clip_norm, (np.ones(3), -1.0, 2.0, True)),
        (_clip_norm, (np.ones(3), np.nan, 2.0, True)),
        (_clip_norm, (np.ones(3), 1.0, 0.0, True)),
        (_clip_norm, (np.array([np.inf]), 1.0, 2.0, True)),
        (_clip_norm, (np.array([np.nan]), 1.0, 2.0, True)),
        (_clip_value, (np.ones(3), -1.0)),
    ],
)
def test_mistakes_in_clipping(function: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="found") as expected:
        function.py_func(*arguments)
    with pytest.raises(ValueError, match=re.escape(str(expected.value))):
        function(*arguments)


def test_clipping_what_cannot_be_changed() -> None:
    for grads in (np.ones(3, np.int64), np.ones((4, 4))[:, ::2], (np.ones(3), 1.0), 1.0):
        with pytest.raises((TypeError, ValueError, numba.TypingError), match=r"grads(\[.\])?: found .*, expected"):
            _clip_norm(grads, 1.0, 2.0, True)


def test_one_dimension_and_none() -> None:
    """One sample, and the gradient of a reduced loss as a number."""

    @numba.njit
    def sample(x: Any, weight: Any, matrix: Any) -> Any:
        y = fastdl.linear(x, matrix, weight[:3])
        scores = fastdl.softmax(fastdl.linear(fastdl.relu(x), matrix))
        grad = fastdl.cross_entropy_backward(2, scores, 1)
        norms = fastdl.layer_norm(x, 4), fastdl.rms_norm(x, (4,), weight), fastdl.layer_norm(x, [4][0], weight, weight)
        back = fastdl.layer_norm_backward(x, x, 4, weight), fastdl.rms_norm_backward(x, x, 4)
        return y, grad, norms, back, fastdl.linear_backward(grad, x, matrix), fastdl.mse_loss_backward(0.5, x, weight)

    rng = np.random.default_rng(0)
    x, weight, matrix = rng.standard_normal(4), rng.standard_normal(4), rng.standard_normal((3, 4))
    found, expected = sample(x, weight, matrix), sample.py_func(x, weight, matrix)
    for a, b in zip(flat(found), flat(expected), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_of_a_loss(dtype: Any) -> None:
    loss = numba.njit(lambda x: float(fastdl.mse_loss(x, x + 1)) + float(2) + float("3"))(np.ones(3, dtype))
    assert loss == 6.0


def test_mistakes_that_are_literals() -> None:
    """They are known while compiling, and raised at run time all the same."""
    x = np.ones((2, 3))
    for function, message in (
        (lambda x: fastdl.softmax(x, 7), "dim: found 7, expected at least -2 and at most 1"),
        (lambda x: fastdl.dropout(x, 1.5), "p: found 1.5, expected a number between 0 and 1"),
        (lambda x: fastdl.gelu(x, approximate="erf"), "approximate: found 'erf', expected one of none, tanh"),
    ):
        compiled = numba.njit(function)
        for call in (function, compiled):
            with pytest.raises(ValueError, match="found") as refusal:
                call(x)
            assert str(refusal.value) == message


def _allocations(call: Any) -> tuple[int, int]:
    """How many arrays are allocated, and how many are freed."""
    from numba.core.runtime import _nrt_python, rtsys

    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    call()
    after = rtsys.get_allocation_stats()
    _nrt_python.memsys_disable_stats()
    return after.alloc - before.alloc, after.free - before.free


def test_mistakes_are_caught_and_leave_nothing_allocated() -> None:
    @numba.njit
    def caught(x: Any, target: Any, rounds: Any) -> Any:
        count = 0
        for _ in range(rounds):
            try:
                fastdl.cross_entropy(x[:, ::2], target)
            except Exception:
                count += 1
        return count

    assert caught(np.ones((2, 6)), np.array([0, 1]), 2) == 0

    x, target = np.ones((2, 6)), np.array([0, 9])
    caught(x, target, 1)
    made, freed = _allocations(lambda: caught(x, target, 100))
    assert made == freed > 100


def test_results_are_let_go_of() -> None:
    @numba.njit
    def many(x: Any, weight: Any, rounds: Any) -> Any:
        for _ in range(rounds):
            y = fastdl.conv2d(x[:, :, ::2], weight, padding_mode="reflect", padding=1)
            fastdl.conv2d_backward(y, x[:, :, ::2], weight, padding_mode="reflect", padding=1)
            fastdl.relu(y, out=y)

    x, weight = np.ones((1, 2, 8, 4)), np.ones((3, 2, 3, 3))
    many(x, weight, 1)
    made, freed = _allocations(lambda: many(x, weight, 50))
    assert made == freed > 200


def _odd_types() -> list[Any]:
    """Types of arguments, of which most are wrong anywhere."""
    from numba.core import types

    def array(dtype: Any, ndim: int, layout: Any = "C") -> Any:
        return types.Array(dtype, ndim, layout)

    pair = types.UniTuple(types.int64, 2)
    return [
        array(types.int32, 1),
        array(types.float64, 2),
        array(types.float32, 0),
        array(types.float32, 3, "A"),
        array(types.float32, 2, "F"),
        array(types.float32, 6),
        array(types.complex64, 2),
        array(types.boolean, 1),
        types.none,
        types.unicode_type,
        types.literal("none"),
        types.float64,
        types.int64,
        types.literal(-1),
        types.boolean,
        types.complex128,
        types.Tuple(()),
        types.UniTuple(types.int64, 1),
        pair,
        types.UniTuple(types.float64, 3),
        types.UniTuple(pair, 2),
        types.UniTuple(array(types.float32, 2), 2),
        types.List(types.int64),
        types.List(array(types.float32, 2)),
        types.Optional(array(types.float32, 2)),
        types.DictType(types.int64, types.int64),
    ]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_any_type_is_taken_or_refused_in_one_line(operation: str) -> None:
    """Each argument in turn of types that have no business there, a part of them for each operation."""
    from fastdl.numba.operations import Operation

    found = Operation(operation, OPERATIONS[operation])
    case = _largest_group(operation, np.float32)[0]
    _, given = _types(case, set(_spelt_out(case, np.float32)))
    odd = _odd_types()
    for i, name in enumerate(given):
        for numba_type in odd[(len(operation) + i) % 4 :: 4]:
            types = given | {name: numba_type}
            said = _refusal(found, tuple(types[parameter] for parameter in found.signature.parameters))
            assert not said or re.fullmatch(rf"fastdl\.{operation}: [\w\[\]]+: found .*, expected .*", said)
