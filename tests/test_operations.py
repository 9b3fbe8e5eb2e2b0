"""Every case on every level and dtype against the float64 reference."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import _kernels
from fastdl.functional import verbs
from fastdl.functional.conv._shared import ALGORITHMS
from tests.cases import Case, all_cases, results
from tests.cases.case import flat, mapped, signature_of
from tests.cases.conv import by_winograd, computed_by, convolution
from tests.support import DTYPES, Guarded, everyday, made, on_each_level, parameters


def _has_out(case: Case) -> bool:
    return "out" in signature_of(getattr(fastdl, case.operation)).parameters


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", parameters(all_cases()))
@on_each_level
def test_agrees_with_reference(case: Case, dtype: Any, level: str) -> None:
    """From and into poisoned, guarded, misaligned memory; inputs stay as they were."""
    arguments, expected = made(case, dtype)
    guards: list[Guarded] = []
    given = case.complete(arguments)
    call = {name: Guarded.within(value, guards) for name, value in given.items()}
    if _has_out(case):
        guards.append(Guarded(case.shapes[0], dtype))
        call["out"] = guards[-1].array
    returned = getattr(fastdl, case.operation)(**call)
    if _has_out(case):
        assert (returned[0] if isinstance(returned, tuple) else returned) is call["out"]
    case.check(results(case, returned, call), arguments, expected)
    for guard in guards:
        guard.check()
    for name in given.keys() - set(case.updates):
        for after, before in zip(flat([call[name]]), flat([given[name]]), strict=True):
            np.testing.assert_array_equal(after, before, err_msg=f"{name} changed")


def _computed_by(algorithm: str) -> list[Case]:
    cases = [case for rank in (1, 2, 3) for end in ("", "_backward") for case in all_cases(f"conv{rank}d{end}")]
    cases = [case for case in cases if computed_by(algorithm, case)]
    return [by_winograd(case) for case in cases] if algorithm.startswith("winograd") else cases


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("algorithm", "case"),
    [
        pytest.param(algorithm, *case.values, id=f"{algorithm}-{case.id}", marks=case.marks)
        for algorithm in ALGORITHMS
        if algorithm != "auto"
        for case in parameters(_computed_by(algorithm))
    ],
)
@on_each_level
def test_convolution_algorithms(case: Case, dtype: Any, level: str, algorithm: str) -> None:
    arguments, expected = made(case, dtype)
    if not computed_by(algorithm, case, dtype):
        return  # half as many terms fit the buffers in double precision
    case.check(case.run(arguments | {"algorithm": algorithm}), arguments, expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS[1:])
def test_algorithms_are_tried(algorithm: str) -> None:
    assert len([case for case in _computed_by(algorithm) if "large" not in case.tags]) >= 8


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("algorithm", "case"),
    [
        pytest.param(algorithm, *case.values, id=f"{algorithm}-{case.id}", marks=case.marks)
        for algorithm in ("auto", "direct", "winograd_2x2", "winograd")
        for case in parameters(everyday(operation="conv2d"))
        if algorithm == "auto" or computed_by(algorithm, *case.values)
    ],
)
@on_each_level
def test_packed_weights(case: Case, dtype: Any, level: str, algorithm: str) -> None:
    """Packed on the best level, used on each, from guarded memory."""
    case = by_winograd(case) if computed_by("winograd", case) else case
    arguments, expected = made(case, dtype)
    names = signature_of(fastdl.pack_conv2d_weight).parameters
    options = {name: value for name, value in arguments.items() if name in names and name != "weight"}
    fastdl.use_isa(fastdl.supported_isas()[0])
    packed = fastdl.pack_conv2d_weight(
        arguments["weight"], **options | {"algorithm": algorithm, "x_shape": arguments["x"].shape}
    )
    ways = {"winograd_2x2": (2,), "winograd": (4,), "direct": (0, _kernels.TILE_COLUMNS)}
    assert packed.tile in ways.get(algorithm, (packed.tile,))
    fastdl.use_isa(level)
    guarded = Guarded.holding(packed.data)
    packed = packed._replace(data=guarded.array)
    case.check(case.run(arguments | {"weight": packed}), arguments, expected)
    guarded.check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", parameters(all_cases("linear")))
@on_each_level
def test_packed_linear_weights(case: Case, dtype: Any, level: str) -> None:
    """The same for linear."""
    arguments, expected = made(case, dtype)
    fastdl.use_isa(fastdl.supported_isas()[0])
    packed = fastdl.pack_linear_weight(arguments["weight"])
    fastdl.use_isa(level)
    guarded = Guarded.holding(packed.data)
    case.check(case.run(arguments | {"weight": packed._replace(data=guarded.array)}), arguments, expected)
    guarded.check()


@pytest.mark.parametrize("algorithm", ["direct", "winograd_2x2", "winograd"])
@pytest.mark.parametrize("size", [(3, 4), (7, 7), (40, 31)])
def test_packed_weights_serve_any_size(size: tuple[int, int], algorithm: str) -> None:
    case = by_winograd(convolution((2, 33, *size), 35, 3, padding=1))
    arguments = case.make(np.float32)
    packed = fastdl.pack_conv2d_weight(arguments["weight"], padding=1, algorithm=algorithm, x_shape=(1, 33, 16, 16))
    case.check(case.run(arguments | {"weight": packed}), arguments)


def _gaps(x: np.ndarray) -> np.ndarray:
    """The same values, every other element of each dimension of something larger."""
    memory = np.full([2 * n for n in x.shape], 7, x.dtype)
    view = memory[(..., *[slice(None, None, 2)] * x.ndim)]
    view[...] = x
    return view


def _reversed(x: np.ndarray) -> np.ndarray:
    """The same values, every stride negative."""
    backwards = (..., *[slice(None, None, -1)] * x.ndim)
    return x[backwards].copy()[backwards]


def _transposed(x: np.ndarray) -> np.ndarray:
    return x.T.copy().T


@pytest.mark.parametrize("case", parameters(everyday()))
def test_any_strides(case: Case) -> None:
    """A view gives exactly what its contiguous copy gives; but a product of views, which are read where they lie, and
    whose sums may be taken in another order."""
    arguments = case.make(np.float32)
    exact = case.operation not in ("matmul", "matmul_backward")
    expected = case.run(arguments) if exact else []
    for layout in (_gaps, _reversed, _transposed):
        views = {name: mapped(layout, value) for name, value in arguments.items() if name not in case.updates}
        found = case.run(arguments | views)
        if not exact:
            case.check(found, arguments)
            continue
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=layout.__name__)


@pytest.mark.parametrize(
    "case",
    parameters(
        c
        for c in everyday()
        if c.operation in ("add", "mul", "pow", "maximum")
        or c.operation.startswith(("relu", "softmax", "log_", "dropout", "alpha_"))
    ),
)
def test_in_place(case: Case) -> None:
    """Operations that go element by element, or row by row, may write over any of their inputs."""
    arguments, expected = made(case, np.float32)
    for name in [n for n, v in arguments.items() if isinstance(v, np.ndarray) and v.shape == case.shapes[0]]:
        call = arguments | {name: arguments[name].copy()}
        case.check((getattr(fastdl, case.operation)(**call, out=call[name]),), arguments, expected)


@pytest.mark.parametrize(
    "case",
    parameters(
        case
        for name in ("linear", "conv2d", "conv_transpose2d", "rnn", "lstm", "gru")
        for case in everyday(operation=f"{name}_backward")
    ),
)
def test_without_input_gradient(case: Case) -> None:
    arguments = case.make(np.float32)
    _, *others = case.run(arguments)
    unwanted, *same = case.run(arguments | {"input_grad": False})
    assert unwanted.size == 0
    for got, want in zip(same, others, strict=True):
        np.testing.assert_array_equal(got, want)


def test_fields_of_gradients() -> None:
    x, weight = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)
    assert fastdl.linear_backward(np.ones((2, 4), np.float32), x, weight)._fields == ("input", "weight", "bias")
    image, kernel = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 1, 1), np.float32)
    assert fastdl.conv2d_backward(image, image, kernel)._fields == ("input", "weight", "bias")


@pytest.mark.parametrize(
    "dtype", [[("b", "f4"), ("c", "f4")], [("a", "i1"), ("b", "f4")], [("a", "i2"), ("b", "f4"), ("c", "i2")]]
)
def test_fields_of_records(dtype: Any) -> None:
    """Whose elements lie anywhere."""
    records = np.zeros((5, 3), dtype)
    records["b"] = np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)
    x = records["b"].copy()
    for view in (records["b"], records["b"].T, records["b"][::-2]):
        np.testing.assert_array_equal(fastdl.relu(view), fastdl.relu(np.array(view)))
    np.testing.assert_array_equal(records["b"], x)


@pytest.mark.parametrize("dtype", DTYPES)
@on_each_level
def test_views_of_any_kind_are_copied(dtype: Any, level: str) -> None:
    """Dimensions in any order, steps of either sign, repeated, of sizes around vectors and the parts of a copy."""
    rng = np.random.default_rng(0)
    for shape in (
        (3, 40, 70),
        (70, 3, 40),
        (2, 1, 129, 3),
        (33, 300),
        (20_000, 3),
        (3, 20_000),
        (2, 2, 2, 2, 2),
        (7,),
        (),
    ):
        x = rng.standard_normal(shape).astype(dtype)
        for _ in range(12):
            view = x.transpose(rng.permutation(x.ndim))
            view = view[(..., *[slice(None, None, int(rng.choice([1, 1, -1, 2, -3]))) for _ in range(x.ndim)])]
            view = np.broadcast_to(view[..., None], (*view.shape, 3)) if rng.random() < 0.2 else view
            copy = verbs.copied(view)
            assert copy.flags.c_contiguous
            assert not np.may_share_memory(copy, x)
            np.testing.assert_array_equal(copy, view, strict=True)


class _DLPack:
    """An array that offers DLPack and nothing else."""

    def __init__(self, x: np.ndarray) -> None:
        self.__dlpack__, self.__dlpack_device__ = x.__dlpack__, x.__dlpack_device__


def test_buffer_and_dlpack() -> None:
    """Anything NumPy can view without a copy is an input."""
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    want = fastdl.relu(x)
    np.testing.assert_array_equal(fastdl.relu(memoryview(x)), want)
    np.testing.assert_array_equal(fastdl.relu(array.array("f", x.ravel())), want.ravel())
    np.testing.assert_array_equal(fastdl.relu(_DLPack(x)), want)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64])
def test_targets_of_any_integer_dtype(dtype: Any) -> None:
    x, target = np.eye(3, dtype=np.float32), np.array([2, 0, 1])
    assert fastdl.cross_entropy(x, target.astype(dtype)) == fastdl.cross_entropy(x, target)
