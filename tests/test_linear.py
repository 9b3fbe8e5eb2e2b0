"""What a user sees of weights of linear that are packed once."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdl
from tests.support import DTYPES, HOME, on_each_level


def _arrays(rows: int, inputs: int, outputs: int, dtype: Any = np.float32) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in ((rows, inputs), (outputs, inputs), (outputs,)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [7, 24, 25, 64, 65, 150])
@pytest.mark.parametrize("inputs", [1, 50, 512, 513, 1100])
@on_each_level
def test_one_packed_weight_serves_any_number_of_samples(inputs: int, outputs: int, dtype: Any, level: str) -> None:
    x, weight, bias = _arrays(40, inputs, outputs, dtype)
    packed = fastdl.pack_linear_weight(weight)
    weight[:] = np.nan  # the copy is independent
    weight = _arrays(40, inputs, outputs, dtype)[1]
    expected = fastdl.reference.linear(*(a.astype(np.float64) for a in (x, weight, bias)))
    bound = np.abs(x).astype(np.float64) @ np.abs(weight.T) + np.abs(bias)
    for rows in (1, 2, 3, 5, 8, 16, 17, 40):
        error = np.abs(fastdl.linear(x[:rows], packed, bias) - expected[:rows])
        assert (error <= (inputs + 1) * np.finfo(dtype).eps * bound[:rows]).all(), rows
    np.testing.assert_array_equal(fastdl.linear(x[0], packed, bias), fastdl.linear(x[:1], packed, bias)[0])
    folded = fastdl.linear(x.reshape(2, 4, 5, inputs), packed, bias)
    np.testing.assert_array_equal(folded.reshape(40, outputs), fastdl.linear(x, packed, bias))


@on_each_level
def test_the_batch_does_not_matter_where_that_is_asked_for(level: str) -> None:
    for inputs, outputs in ((50, 33), (700, 100), (300, 9)):
        x, weight, bias = _arrays(40, inputs, outputs)
        packed = fastdl.pack_linear_weight(weight)
        with fastdl.deterministic():
            together = fastdl.linear(x, packed, bias, activation="gelu")
            for rows in (1, 2, 7, 16, 17):
                np.testing.assert_array_equal(fastdl.linear(x[:rows], packed, bias, activation="gelu"), together[:rows])


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (40, 0), (0, 0), (0,), (4,), (40,)])
def test_shapes_without_elements_and_of_one_dimension(shape: tuple[int, ...]) -> None:
    weight = np.ones(shape)
    packed = fastdl.pack_linear_weight(weight)
    assert packed.shape == shape
    for batch in ((), (0,), (3,), (20,), (2, 3)):
        x = np.ones((*batch, shape[-1]))
        np.testing.assert_array_equal(fastdl.linear(x, packed), fastdl.linear(x, weight))


def test_weights_that_lie_in_any_way_are_packed() -> None:
    x, weight, _ = _arrays(3, 40, 70)
    for other in (np.asfortranarray(weight), weight[::-2, ::-1], weight.T[:, :40]):
        want = fastdl.linear(x, np.ascontiguousarray(other))
        np.testing.assert_allclose(fastdl.linear(x, fastdl.pack_linear_weight(other)), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "again",
    [lambda packed: pickle.loads(pickle.dumps(packed)), copy.deepcopy, copy.copy],
    ids=["pickle", "deep", "copy"],
)
def test_packed_weights_can_be_pickled_and_copied(again: Callable[[Any], Any]) -> None:
    x, weight, _ = _arrays(3, 40, 70)
    packed = fastdl.pack_linear_weight(weight)
    found = again(packed)
    assert type(found) is fastdl.PackedLinearWeight
    np.testing.assert_array_equal(fastdl.linear(x, found), fastdl.linear(x, packed))


def test_a_pickle_is_good_on_every_level() -> None:
    """In a process of its own, as it would be."""
    x, weight, _ = _arrays(5, 600, 70)
    packed = fastdl.pack_linear_weight(weight)
    script = (
        "import pickle, sys, fastdl; x, packed = pickle.load(sys.stdin.buffer);"
        "fastdl.use_isa(sys.argv[1]); sys.stdout.buffer.write(fastdl.linear(x, packed).tobytes())"
    )
    for level in fastdl.supported_isas():
        run = subprocess.run(
            [sys.executable, "-c", script, level],
            cwd=HOME,
            input=pickle.dumps((x, packed)),
            capture_output=True,
            check=True,
        )
        found = np.frombuffer(run.stdout, np.float32).reshape(5, 70)
        np.testing.assert_allclose(found, x @ weight.T, rtol=1e-4, atol=1e-3)


def test_packed_weights_are_refused_where_they_do_not_fit() -> None:
    x, weight, _ = _arrays(3, 40, 70)
    packed = fastdl.pack_linear_weight(weight)
    out = np.zeros((3, 70), np.float32)
    with pytest.raises(ValueError, match=r"^x: found \(3, 39\), expected \.\.\. 40"):
        fastdl.linear(x[:, 1:], packed)
    with pytest.raises(ValueError, match=r"^bias: found \(69,\), expected \(70,\)"):
        fastdl.linear(x, packed, np.ones(69, np.float32), out=out)
    with pytest.raises(TypeError, match=r"^weight: found dtype float32 \(packed\), expected float64$"):
        fastdl.linear(x.astype(np.float64), packed)
    with pytest.raises(ValueError, match=r"^weight: found an array that overlaps the result"):
        fastdl.linear(x, packed, out=packed.data[: out.size].reshape(out.shape))
    with pytest.raises(TypeError, match=r"^weight: found PackedLinearWeight, expected an array"):
        fastdl.linear_backward(out, x, packed)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^weight: found PackedLinearWeight, expected an array"):
        fastdl.conv2d(np.ones((1, 4, 6, 6), np.float32), packed)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^weight: found PackedConv2dWeight, expected an array"):
        fastdl.linear(x, fastdl.pack_conv2d_weight(np.ones((4, 4, 1, 1), np.float32)))  # type: ignore[arg-type]
    assert not out.any()
    with pytest.raises(ValueError, match=r"^weight: found shape \(1, 70, 40\), expected \(out, in\) or \(in,\)"):
        fastdl.pack_linear_weight(weight[None])
    with pytest.raises(ValueError, match=r"^weight: found shape \(\), expected"):
        fastdl.pack_linear_weight(np.float32(1))
    with pytest.raises(TypeError, match=r"^weight: found dtype <i8, expected float32 or float64"):
        fastdl.pack_linear_weight(weight.astype(np.int64))
    with pytest.raises(TypeError, match=r"^weight: found list, expected an array"):
        fastdl.pack_linear_weight([1.0])  # type: ignore[arg-type]


def test_packed_weights_in_numba() -> None:
    numba = pytest.importorskip("numba", reason="Numba is not installed")

    @numba.njit
    def apply(x, packed, bias):  # type: ignore[no-untyped-def]
        return fastdl.linear(x, packed, bias, activation="tanh")

    @numba.njit
    def pack_and_apply(x, weight, bias):  # type: ignore[no-untyped-def]
        packed = fastdl.pack_linear_weight(weight)
        return fastdl.linear(x, packed, bias, activation="tanh")

    for outputs in (9, 70):
        x, weight, bias = _arrays(3, 40, outputs)
        packed = fastdl.pack_linear_weight(weight)
        for samples in (x, x[0], x[:, None]):
            want = fastdl.linear(samples, packed, bias, activation="tanh")
            np.testing.assert_array_equal(apply(samples, packed, bias), want)
            np.testing.assert_array_equal(pack_and_apply(samples, weight[:, ::-1][:, ::-1], bias), want)
    one = fastdl.linear(x, fastdl.pack_linear_weight(weight[0]), bias[0], activation="tanh")
    np.testing.assert_array_equal(pack_and_apply(x, weight[0], np.array(bias[0])), one)
    with pytest.raises(numba.TypingError, match=r"linear: weight: found dtype float32 .packed., expected float64"):
        apply(x.astype(np.float64), packed, None)
    with pytest.raises(ValueError, match="x"):
        apply(x[:, 1:].copy(), packed, bias)
