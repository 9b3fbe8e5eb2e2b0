"""Dropout's generator and masks, and penalties over many arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import nn, reference
from fastdl.reference.regularization import kept, philox
from tests.support import DTYPES

_ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((_ONES,) * 4, (_ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter: Any, key: Any, words: Any) -> None:
    """philox4x32 10 in kat_vectors, which comes with Random123, the authors' library."""
    np.testing.assert_array_equal(philox([counter], key), [words])


def _words(size: int, seed: int, offset: int) -> np.ndarray:
    """The kernel's words, bit by bit: word i is kept where it is less than (1 - p) 2^32, which is exact for these p."""
    words = np.zeros(size, np.int64)
    for bit in reversed(range(32)):
        for i in range(size):
            threshold = int(words[i]) + 2**bit
            if not fastdl.dropout_mask((size,), 1 - threshold / 2**32, seed=seed, offset=offset)[i]:
                words[i] = threshold
    return words


@pytest.mark.parametrize("operation", ["dropout", "dropout_backward", "alpha_dropout", "alpha_dropout_backward"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_dropped_is_multiplied_by_0(operation: str, dtype: Any, level: str) -> None:
    """So that what is not finite shows, as in torch: NaN where it is dropped; what is kept is as it was."""
    x = np.tile(np.array([np.nan, np.inf, -np.inf, 1.0, -1.0], dtype), 40)
    y = getattr(fastdl, operation)(x, 0.5, seed=3)
    finite, mask = np.isfinite(x), fastdl.dropout_mask(x.shape, 0.5, seed=3)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x) | (~finite & ~mask))
    np.testing.assert_array_equal(np.isinf(y), np.isinf(x) & mask)
    assert np.unique(y[finite & ~mask]).size == 1


def test_known_answer_of_the_kernel(level: str) -> None:
    np.testing.assert_array_equal(_words(4, 0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8])


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1])
@pytest.mark.parametrize("offset", [0, 2**32 - 3, 2**63 - 5])
def test_mask_is_the_references(seed: int, offset: int, level: str) -> None:
    for size in (1, 31, 1029):
        mask = fastdl.dropout_mask((size,), 0.3, seed=seed, offset=offset)
        np.testing.assert_array_equal(mask, kept(size, 0.3, True, seed, offset))


def test_offset_counts_fours() -> None:
    mask = fastdl.dropout_mask((4000,), seed=5)
    np.testing.assert_array_equal(fastdl.dropout_mask((3600,), seed=5, offset=100), mask[400:])
    np.testing.assert_array_equal(fastdl.dropout_mask((40, 100), seed=5).ravel(), mask)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate(p: float) -> None:
    """The number kept is binomial: within 5 standard deviations, and so is the number of equal neighbours."""
    size = 10_000_000
    mask = fastdl.dropout_mask((size,), p, seed=11)
    assert abs(mask.sum() - size * (1 - p)) <= 5 * math.sqrt(size * p * (1 - p))
    same = p * p + (1 - p) * (1 - p)
    for lag in (1, 2, 4):  # of every other pair, so that pairs are independent
        equal = (mask[:-lag] == mask[lag:])[:: 2 * lag]
        assert abs(equal.sum() - equal.size * same) <= 5 * math.sqrt(equal.size * same * (1 - same))


@pytest.mark.usefixtures("threads")
def test_mask_depends_on_nothing_else(level: str) -> None:
    """Not on threads, dtype or alignment, in long arrays, which are streamed, as in short ones."""
    for size in (1001, 2_300_003):
        expected = fastdl.dropout_mask((size,), 0.4, seed=9, offset=3)
        for threads in (1, 2, 3):
            fastdl.set_num_threads(threads)
            for dtype in (np.float32, np.float64):
                memory, out = np.ones(size + 3, dtype), np.empty(size + 3, dtype)
                for start in (0, 1, 3):
                    x, y = memory[start : start + size], out[3 - start :][:size]
                    fastdl.dropout(x, 0.4, seed=9, offset=3, out=y)
                    np.testing.assert_array_equal(y != 0, expected)
                    np.testing.assert_array_equal(fastdl.dropout_backward(x, 0.4, seed=9, offset=3), y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["l1_penalty", "l2_penalty"])
@pytest.mark.usefixtures("threads")
def test_many_arrays(name: str, dtype: Any, level: str) -> None:
    """The sum of the penalties of each, the same for any number of threads; gradients array by array."""
    rng = np.random.default_rng(0)
    shapes = [(0,), (3, 5), (), (70_001,), (0, 2), *[(n,) for n in range(30)], (1 << 14,), (2, 9000), (0,)]
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    penalty, backward = getattr(fastdl, name), getattr(fastdl, f"{name}_backward")
    expected = getattr(reference, name)([a.astype(np.float64) for a in arrays], 0.1)
    one = np.ones((), dtype)
    values = []
    for threads in (1, 2, 3):
        fastdl.set_num_threads(threads)
        values.append(penalty(arrays, 0.1))
        grads = backward(2 * one, tuple(arrays), 0.1)
        assert isinstance(grads, tuple)
        for grad, x in zip(grads, arrays, strict=True):
            np.testing.assert_array_equal(grad, backward(2 * one, x, 0.1))
        sums = [np.ones_like(x) for x in arrays]
        assert backward(2 * one, arrays, 0.1, out=sums, add=True)[1] is sums[1]
        for total, grad in zip(sums, grads, strict=True):
            np.testing.assert_allclose(total, 1 + grad, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)
    assert values[0] == values[1] == values[2]
    np.testing.assert_allclose(
        values[0], expected, rtol=2 * np.finfo(np.float32 if dtype == np.float32 else dtype).eps * 8
    )


def test_many_arrays_in_numba() -> None:
    numba = pytest.importorskip("numba", reason="Numba is not installed")

    @numba.njit
    def both(x: Any, out: Any, one: Any) -> Any:
        fastdl.l2_penalty_backward(one, x, 0.1, out=out, add=True)
        return fastdl.l1_penalty(x, 0.1), fastdl.l1_penalty_backward(one, x, 0.1)

    x = (np.arange(-3.0, 4), np.ones((2, 3)), np.ones(()), -np.ones(5))
    out = tuple(np.ones_like(a) for a in x)
    value, grads = both(x, out, np.ones(()))
    assert value == fastdl.l1_penalty(x, 0.1)
    for grad, total, a in zip(grads, out, x, strict=True):
        np.testing.assert_array_equal(grad, 0.1 * np.sign(a))
        np.testing.assert_allclose(total, 1 + 0.1 * a, rtol=1e-15)

    mask = numba.njit(lambda: fastdl.dropout_mask((3, 7), 0.4, seed=2))()
    np.testing.assert_array_equal(mask, fastdl.dropout_mask((3, 7), 0.4, seed=2))


@pytest.mark.parametrize("out", [np.zeros(3), (np.zeros(3),), (np.zeros(3), np.zeros(2))])
def test_out_has_to_be_like_the_arrays(out: Any) -> None:
    x = (np.zeros(3), np.zeros(4))
    with pytest.raises((TypeError, ValueError), match=r"^out(\[1\])?: found .* expected"):
        fastdl.l1_penalty_backward(np.ones(()), x, out=out)
    with pytest.raises(ValueError, match=r"^add: found no out, expected arrays to add to"):
        fastdl.l1_penalty_backward(np.ones(()), x, add=True)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ("Dropout", (3, 7)),
        ("Dropout1d", (5, 7, 2)),
        ("Dropout2d", (5, 7, 2, 3)),
        ("Dropout2d", (5, 7, 2)),
        ("Dropout3d", (5, 7, 1, 2, 3)),
    ],
)
def test_layers(layer: str, shape: tuple[int, ...]) -> None:
    make = getattr(nn, layer)
    x = np.ones(shape, np.float32)
    first, second = make(0.4, seed=1), make(0.4, seed=1)
    one, two = first(x), first(x)
    np.testing.assert_array_equal(second(x), one)
    assert (one != two).any(), "a new mask every time"
    np.testing.assert_array_equal(first.backward(x), two)
    np.testing.assert_array_equal(np.unique(np.concatenate([one, two])), np.array([0, 1 / 0.6], np.float32))
    assert make().seed != make().seed
    with nn.backend(reference):
        np.testing.assert_allclose(make(0.4, seed=1)(x), one, rtol=1e-6)
    over = x.copy()
    assert make(0.4, True, seed=1)(over) is over
    np.testing.assert_array_equal(over, one)
    first.eval()
    assert first(x) is x
    np.testing.assert_array_equal(first.backward(x), x)
    with pytest.raises(ValueError, match=r"^p: found 2"):
        make(2)


def test_alpha_dropout_layer() -> None:
    """The function's masks, one after another."""
    x = np.random.default_rng(0).standard_normal((3, 7)).astype(np.float32)
    layer = nn.AlphaDropout(0.4, seed=1)
    for offset in (0, 6):
        np.testing.assert_array_equal(layer(x), fastdl.alpha_dropout(x, 0.4, seed=1, offset=offset))
        expected = fastdl.alpha_dropout_backward(x, 0.4, seed=1, offset=offset)
        np.testing.assert_array_equal(layer.backward(x), expected)
    assert layer.eval()(x) is x
