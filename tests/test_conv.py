"""What a user sees of the way convolutions are computed: explanations, scratch memory, packed weights."""

from __future__ import annotations

import numpy as np
import pytest

import fastdl

_MIB = 1 << 20


@pytest.mark.parametrize(
    ("x", "weight", "options", "algorithm"),
    [
        ((1, 64, 56, 56), (64, 64, 1, 1), {}, "pointwise"),
        ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}, "winograd"),
        ((1, 512, 7, 7), (512, 512, 3, 3), {"padding": 1, "packed": True}, "winograd_2x2"),
        ((1, 3, 224, 224), (64, 3, 7, 7), {"padding": 3, "stride": 2}, "rows"),
        ((1, 64, 56, 56), (64, 1, 3, 3), {"padding": 1, "groups": 64}, "depthwise"),
        ((1, 56, 56, 64), (64, 1, 3, 3), {"padding": 1, "groups": 64, "data_format": "NHWC"}, "depthwise"),
        ((1, 128, 28, 28), (128, 128, 3, 3), {"padding": 1, "stride": 2}, "direct"),
    ],
)
def test_explanation(x: tuple[int, ...], weight: tuple[int, ...], options: dict, algorithm: str) -> None:
    found = fastdl.explain_conv2d(x, weight, **options)
    y = np.empty(found.output_shape, np.float32)
    assert found.algorithm == algorithm
    assert found.flops == 2 * y.size * int(np.prod(weight[1:]))
    assert found.bytes == 4 * (int(np.prod(x)) + int(np.prod(weight)) + y.size)
    assert str(found).startswith(f"{algorithm}: {found.reason}")


def test_explanation_of_what_was_asked_for() -> None:
    assert fastdl.explain_conv2d((1, 4, 9, 9), (4, 4, 3, 3), algorithm="im2col").algorithm == "im2col"
    with pytest.raises(ValueError, match="algorithm: found"):
        fastdl.explain_conv2d((1, 4, 9, 9), (4, 4, 3, 3), stride=2, algorithm="winograd")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x", "weight", "options"),
    [
        ((1, 64, 112, 112), (64, 64, 3, 3), {"padding": 1}),
        ((1, 512, 28, 28), (512, 512, 3, 3), {"padding": 1, "stride": 2}),
        ((1, 3, 512, 512), (64, 3, 7, 7), {"padding": 3, "stride": 2}),
        ((4, 1024, 20, 20), (64, 1024, 1, 1), {}),
        ((1, 64, 3, 3000), (32, 64, 3, 5), {"padding": 2}),
    ],
)
def test_direct_scratch_is_bounded(x: tuple[int, ...], weight: tuple[int, ...], options: dict, dtype: type) -> None:
    """At most 2 MiB a thread, whatever the image; the explicit columns of "im2col" take what they take."""
    direct = fastdl.explain_conv2d(x, weight, **options, algorithm="direct", dtype=dtype)
    assert 0 < direct.scratch <= 2 * _MIB
    if weight[2:] != (1, 1):
        columns = direct.output_shape[2] * direct.output_shape[3] * int(np.prod(weight[1:])) * np.dtype(dtype).itemsize
        assert fastdl.explain_conv2d(x, weight, **options, algorithm="im2col", dtype=dtype).scratch >= columns


def test_packed_weights_are_refused_where_they_do_not_fit() -> None:
    x, weight = np.ones((1, 4, 6, 6), np.float32), np.ones((4, 4, 3, 3), np.float32)
    packed = fastdl.pack_conv2d_weight(weight)
    assert packed.shape == weight.shape
    with pytest.raises(ValueError, match="weight: found one packed for conv2d with groups 1"):
        fastdl.conv2d(x, fastdl.pack_conv2d_weight(weight), groups=2)
    with pytest.raises(ValueError, match="NHWC"):
        fastdl.conv2d(x, packed, data_format="NHWC")
    with pytest.raises(ValueError, match="weight: found one packed for conv2d"):
        fastdl.conv1d(x[0], packed)
    with pytest.raises(TypeError, match="weight: found dtype float32"):
        fastdl.conv2d(x.astype(np.float64), packed)
    with pytest.raises(TypeError, match="weight: found PackedConv2dWeight"):
        fastdl.conv2d_backward(np.ones((1, 4, 4, 4), np.float32), x, packed)


def test_packed_weights_in_numba() -> None:
    numba = pytest.importorskip("numba", reason="Numba is not installed")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 32, 20, 20)).astype(np.float32)
    weight = rng.standard_normal((32, 32, 3, 3)).astype(np.float32)

    @numba.njit
    def twice(x, weight):  # type: ignore[no-untyped-def]
        packed = fastdl.pack_conv2d_weight(weight, padding=1)
        return fastdl.conv2d(fastdl.conv2d(x, packed, padding=1), packed, padding=1)

    packed = fastdl.pack_conv2d_weight(weight, padding=1)
    want = fastdl.conv2d(fastdl.conv2d(x, packed, padding=1), packed, padding=1)
    np.testing.assert_array_equal(twice(x, weight), want)


@pytest.mark.parametrize("algorithm", ["winograd_2x2", "winograd"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gradients_keep_what_is_not_finite_in_its_place(algorithm: str, bad: float) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 19, 9, 10)), rng.standard_normal((17, 19, 3, 3))
    grad_output = rng.standard_normal((2, 17, 9, 10))
    grad_output[1, 3, 4, 5] = bad
    found = fastdl.conv2d_backward(grad_output, x, weight, padding=1, algorithm=algorithm)
    expected = fastdl.conv2d_backward(grad_output, x, weight, padding=1, algorithm="direct")
    assert np.isfinite(expected.input).sum() == x.size - 19 * 9
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-10)
