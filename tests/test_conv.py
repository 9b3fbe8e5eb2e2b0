"""What a user sees of the way convolutions are computed: explanations, scratch memory, packed weights."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from itertools import product
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import _kernels, reference
from fastdl.functional.conv._shared import ALGORITHMS
from fastdl.functional.conv.packing import pack_conv2d_weight_as
from tests.support import DTYPES, HOME, Guarded

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
        ((64, 16, 5, 5), (120, 16, 5, 5), {}, "pointwise"),
        ((64, 32, 9, 9), (64, 32, 4, 4), {"stride": 2}, "batched"),
    ],  # where the answer is the same on every processor
)
def test_explanation(x: tuple[int, ...], weight: tuple[int, ...], options: dict, algorithm: str) -> None:
    found = fastdl.explain_conv2d(x, weight, **options)
    y = np.empty(found.output_shape, np.float32)
    assert found.algorithm == algorithm
    assert found.flops == 2 * y.size * int(np.prod(weight[1:]))
    assert found.bytes == 4 * (int(np.prod(x)) + int(np.prod(weight)) + y.size)
    assert str(found).startswith(f"{algorithm}: {found.reason}")


@pytest.mark.usefixtures("level")
def test_explanation_of_few_positions() -> None:
    assert "few positions" in fastdl.explain_conv2d((1, 1024, 7, 7), (256, 1024, 1, 1), packed=True).reason
    assert (
        "few positions"
        in fastdl.explain_conv2d((1, 256, 14, 14), (256, 256, 3, 3), stride=2, padding=1, packed=True).reason
    )
    assert "few" not in fastdl.explain_conv2d((1, 1024, 8, 8), (256, 1024, 1, 1), packed=True).reason
    assert "few" not in fastdl.explain_conv2d((1, 1024, 7, 7), (256, 1024, 1, 1)).reason


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


def test_packed_weights_can_be_pickled() -> None:
    x, weight = np.ones((1, 4, 6, 6), np.float32), np.ones((4, 4, 3, 3), np.float32)
    packed = pickle.loads(pickle.dumps(fastdl.pack_conv2d_weight(weight)))
    np.testing.assert_array_equal(fastdl.conv2d(x, packed), fastdl.conv2d(x, weight))


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


@pytest.mark.parametrize("groups", [1, 5])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [
        ((2, 2), (2, 3), (1, 1)),
        ((4, 4), (5, 5), (1, 1)),
        ((3, 2), (2, 4), (1, 1)),
        ((1, 1), (2, 3), (1, 1)),
        ((3, 3), (3, 2), (2, 1)),
        ((2, 2, 2), (2, 3, 2), (1, 1, 1)),
        ((1, 2, 3), (3, 1, 2), (1, 1, 1)),
    ],
)
def test_every_number_of_a_strided_gradient_in_its_place(
    kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], groups: int
) -> None:
    """Whole numbers, so that a result is right or far from it; sizes of which as many in all are often the same."""
    rng, rank = np.random.default_rng(0), len(kernel)
    depth = (2,) if rank == 3 else ()
    weight = rng.integers(-4, 5, (5, 5 // groups, *kernel)).astype(np.float32)
    for height, width, top, left, bottom, right in product((6, 7), (6, 7, 8), *[(0, 1)] * 4):
        x = rng.integers(-4, 5, (1, 5, *depth, height, width)).astype(np.float32)
        form: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups}
        form["padding"] = (0, top, left)[-rank:]
        more = tuple(min(m, s - 1) for m, s in zip((0, bottom, right)[-rank:], stride, strict=True))
        name = f"conv_transpose{rank}d"
        found = getattr(fastdl, name)(x, weight, **form, output_padding=more)
        np.testing.assert_array_equal(found, getattr(reference, name)(x, weight, **form, output_padding=more))
        name = f"conv{rank}d_backward"
        grad = getattr(fastdl, name)(x, found, weight, **form).input
        np.testing.assert_array_equal(grad, getattr(reference, name)(x, found, weight, **form).input)


def test_a_phase_with_as_many_positions_as_pixels_is_no_matrix() -> None:
    x = np.zeros((1, 1, 6, 7), np.float32)
    x[0, 0, 3, 4] = 1
    y = fastdl.conv_transpose2d(
        x, np.ones((1, 5, 2, 2), np.float32), stride=(2, 3), padding=(0, 1), output_padding=(1, 0)
    )
    assert np.argwhere(y[0, 0]).tolist() == [[6, 11], [6, 12], [7, 11], [7, 12]]


@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
def test_a_kernel_of_one_tap_with_as_many_positions_as_pixels_is_no_matrix(data_format: str) -> None:
    """(2, 1) pixels and (1, 2) positions: the second column is padding."""
    x, weight = np.array([3, 5], np.float32).reshape(1, 1, 2, 1), np.ones((1, 1, 1, 1), np.float32)
    axes = (0, 2, 3, 1) if data_format == "NHWC" else (0, 1, 2, 3)
    form: dict[str, Any] = {"stride": (2, 1), "padding": ((0, 0), (0, 1)), "data_format": data_format}
    y = fastdl.conv2d(x.transpose(axes), weight, **form)
    assert y.ravel().tolist() == [3, 0]
    grads = fastdl.conv2d_backward(np.array([7, 11], np.float32).reshape(y.shape), x.transpose(axes), weight, **form)
    assert grads.input.ravel().tolist() == [7, 0]
    assert grads.weight.item() == 21


@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_no_channels_and_no_filters(kernel: int, data_format: str) -> None:
    """A sum over nothing is the bias alone."""
    last = data_format == "NHWC"
    for channels, filters, batch in product((0, 2), (0, 3), (0, 1)):
        x = np.ones((batch, 5, 5, channels) if last else (batch, channels, 5, 5), np.float32)
        weight, bias = np.ones((filters, channels, kernel, kernel), np.float32), np.ones(filters, np.float32)
        for algorithm in ALGORITHMS:
            form: dict[str, Any] = {"data_format": data_format, "algorithm": algorithm}
            try:
                y = fastdl.conv2d(x, weight, bias, **form)
            except ValueError as error:
                assert str(error).startswith("algorithm"), algorithm  # noqa: PT017
                continue
            np.testing.assert_allclose(y, 1 + channels * kernel**2, rtol=1e-6)
            assert y.shape[3 if last else 1] == filters
            packed = fastdl.pack_conv2d_weight(weight, **form)
            np.testing.assert_array_equal(fastdl.conv2d(x, packed, bias, **form), y)
            grads = fastdl.conv2d_backward(np.ones_like(y), x, weight, **form)
            assert (grads.bias == batch * (6 - kernel) ** 2).all()
            np.testing.assert_allclose(grads.weight, batch * (6 - kernel) ** 2, rtol=1e-6)
            assert grads.input.shape == x.shape
    assert fastdl.conv1d(np.ones((1, 0, 2)), np.ones((1, 0, 2))).tolist() == [[[0]]]


def test_packed_weights_of_single_channels_by_im2col() -> None:
    """Where the channels are last, they are packed for depthwise convolution, in an order of its own."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 7, 8, 6)), rng.standard_normal((6, 1, 3, 2))
    form: dict[str, Any] = {"groups": 6, "data_format": "NHWC", "algorithm": "im2col"}
    packed = fastdl.pack_conv2d_weight(weight, groups=6, data_format="NHWC")
    np.testing.assert_allclose(fastdl.conv2d(x, packed, **form), fastdl.conv2d(x, weight, **form), rtol=1e-12)


@pytest.mark.parametrize(
    ("which", "options", "algorithm", "reason"),
    [
        ("forward", {"padding": 1}, "winograd", "3 x 3 at stride 1"),
        ("input_grad", {"padding": 1}, "winograd", "at stride 1 it is itself a convolution"),
        ("weight_grad", {"padding": 1}, "winograd", "36 multiplications"),
        ("input_grad", {"stride": 2}, "direct", "a stride apart"),
        ("weight_grad", {"stride": 2}, "direct", "transposed while it is packed"),
        ("input_grad", {"padding": 1, "precision": "exact"}, "direct", "at stride 1 it is itself a convolution"),
        ("weight_grad", {"padding": 1, "precision": "exact"}, "direct", "the general case"),
        ("weight_grad", {"padding": 1, "algorithm": "im2col"}, "im2col", "asked for"),
        ("input_grad", {"padding": 1, "data_format": "NHWC"}, "winograd", "at stride 1 it is itself a convolution"),
        ("weight_grad", {"padding": 1, "data_format": "NHWC"}, "direct", "row by row"),
    ],
)
def test_explanation_of_each_pass(which: Any, options: dict[str, Any], algorithm: str, reason: str) -> None:
    x = (1, 56, 56, 64) if options.get("data_format") == "NHWC" else (1, 64, 56, 56)
    found = fastdl.explain_conv2d(x, (64, 64, 3, 3), which=which, **options)
    assert found.algorithm == algorithm
    assert reason in found.reason
    of_arrays = fastdl.explain_conv2d(
        np.ones(x, np.float32), np.ones((64, 64, 3, 3), np.float32), which=which, **options
    )
    assert of_arrays == found
    assert found.output_shape == {"input_grad": x, "weight_grad": (64, 64, 3, 3)}.get(which, (1, 64, 56, 56))


def test_explanations_refuse() -> None:
    with pytest.raises(ValueError, match="which: found 'backward', expected one of forward, input_grad, weight_grad"):
        fastdl.explain_conv2d((1, 4, 9, 9), (4, 4, 3, 3), which="backward")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="x_shape: found 'images'"):
        fastdl.explain_conv2d("images", (4, 4, 3, 3))
    with pytest.raises(ValueError, match="packed: found True for a gradient"):
        fastdl.explain_conv2d((1, 4, 9, 9), (4, 4, 3, 3), packed=True, which="input_grad")


def _calls(x: np.ndarray, weight: np.ndarray, turned: np.ndarray, precision: Any) -> list[np.ndarray]:
    """What Winograd's algorithm would compute: forward, both gradients, transposed, channels last, packed."""
    form: dict[str, Any] = {"padding": 1, "precision": precision}
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    packed = fastdl.pack_conv2d_weight(weight, **form)
    return [
        fastdl.conv2d(x, weight, **form),
        fastdl.conv2d(x, packed, **form),
        fastdl.conv2d(last, weight, data_format="NHWC", **form),
        *fastdl.conv2d_backward(x, x, weight, **form)[:2],
        fastdl.conv_transpose2d(x, weight, **form),
        fastdl.conv_transpose2d(x, turned, stride=2, **form),
        fastdl.conv_transpose2d_backward(x, x, weight, **form).input,
    ]


def test_exact_convolution_is_direct_in_every_pass() -> None:
    """Of small whole numbers every sum is exact, but Winograd's transforms round."""
    rng = np.random.default_rng(0)
    x, weight, turned = (
        rng.integers(-4, 5, shape).astype(np.float32) for shape in ((1, 64, 32, 32), (64, 64, 3, 3), (64, 64, 4, 4))
    )
    exact = _calls(x, weight, turned, "exact")
    assert all((y == np.rint(y)).all() for y in exact)
    assert all((y != np.rint(y)).any() for y in _calls(x, weight, turned, "fast")[:6])
    before = fastdl.get_conv_precision()
    try:
        fastdl.set_conv_precision("exact")
        for y, expected in zip(_calls(x, weight, turned, "default"), exact, strict=True):
            np.testing.assert_array_equal(y, expected)
        with pytest.raises(ValueError, match="algorithm: found"):
            fastdl.conv2d(x, weight, padding=1, algorithm="winograd")
    finally:
        fastdl.set_conv_precision(before)
    with pytest.raises(ValueError, match="precision: found 'high', expected 'fast' or 'exact'"):
        fastdl.set_conv_precision("high")  # type: ignore[arg-type]


@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
def test_winograd_beside_the_image(data_format: str) -> None:
    """So wide a border that whole blocks of its tiles see nothing else."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((1, 17, 4, 20)), rng.standard_normal((16, 17, 3, 3))
    x = x.transpose(0, 2, 3, 1).copy() if data_format == "NHWC" else x
    form: dict[str, Any] = {"padding": ((1, 1), (700, 650)), "data_format": data_format}
    found, expected = (fastdl.conv2d(x, weight, **form, algorithm=name) for name in ("winograd", "direct"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [16, 64, 256])
def test_error_of_winograd(channels: int, dtype: type, data_format: str) -> None:
    """Root mean square, as a part of the results' deviation: eps times about sqrt(channels), the length of the sums, of
    normal numbers. Other interpolation points (0, +-1, +-2) leave twice as much, tiles of 6 x 6 four times."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((1, channels, 24, 24)).astype(dtype), rng.standard_normal((32, channels, 3, 3))
    weight = weight.astype(dtype)
    expected = reference.conv2d(x.astype(np.longdouble), weight.astype(np.longdouble))
    order, back = ((0, 2, 3, 1), (0, 3, 1, 2)) if data_format == "NHWC" else ((0, 1, 2, 3), (0, 1, 2, 3))
    found = fastdl.conv2d(x.transpose(order).copy(), weight, algorithm="winograd", data_format=data_format)
    error = found.transpose(back) - expected
    assert np.sqrt((error**2).mean()) < (np.sqrt(channels) + 4) * np.finfo(dtype).eps * expected.std()


def test_one_large_number_takes_the_digits_of_its_neighbours_no_more() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((1, 64, 32, 32)), rng.standard_normal((64, 64, 3, 3))
    x[0, 3, 20, 21] = 1e8
    x, weight = x.astype(np.float32), weight.astype(np.float32)
    expected = fastdl.conv2d(x.astype(np.float64), weight.astype(np.float64), padding=1, algorithm="direct")
    found = fastdl.conv2d(x, weight, padding=1, precision="fast")
    unseen = np.ones((32, 32), bool)
    unseen[19:22, 20:23] = False
    assert np.abs(found - expected)[..., unseen].max() < 1e-3


def test_precision_from_the_environment() -> None:
    code = "import fastdl; print(fastdl.get_conv_precision())"
    for value, expected in ("exact", "exact"), ("fast", "fast"), ("", "fast"):
        environment = os.environ | {"FASTDL_CONV_PRECISION": value}
        run = subprocess.run([sys.executable, "-c", code], cwd=HOME, env=environment, capture_output=True, text=True)
        assert run.stdout.strip() == expected, run.stderr
    environment = os.environ | {"FASTDL_CONV_PRECISION": "high"}
    run = subprocess.run([sys.executable, "-c", code], cwd=HOME, env=environment, capture_output=True, text=True)
    assert "FASTDL_CONV_PRECISION: found 'high', expected 'fast' or 'exact'" in run.stderr


@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_empty_tuples_are_refused_as_torch_refuses_them(name: str, rank: int) -> None:
    """Unlike pooling's stride, where they mean the kernel's size."""
    torch = pytest.importorskip("torch")
    name = f"{name}{rank}d"
    x, weight = np.ones((1, 2, *(5,) * rank)), np.ones((2, 2, *(3,) * rank))
    y = getattr(fastdl, name)(x, weight)
    options = ["stride", "padding", "dilation"] + ["output_padding"] * name.startswith("conv_transpose")
    for option in options:
        with pytest.raises(RuntimeError, match=f"expected {option}"):
            getattr(torch.nn.functional, name)(torch.tensor(x), torch.tensor(weight), **{option: ()})
        with pytest.raises(TypeError, match=rf"{option}: found \(\), expected an int"):
            getattr(fastdl, name)(x, weight, **{option: ()})
        with pytest.raises(TypeError, match=rf"{option}: found \(\), expected an int"):
            getattr(fastdl, f"{name}_backward")(y, x, weight, **{option: ()})
    numba = pytest.importorskip("numba")
    function = getattr(fastdl, name)
    with pytest.raises(numba.TypingError, match="stride: found"):
        numba.njit(lambda x, weight: function(x, weight, stride=()))(x, weight)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2])
def test_batched_is_direct(threads: int, dtype: type) -> None:
    """Images side by side: any number of them, sizes, strides, dilations, groups and fused operations."""
    rng = np.random.default_rng(threads)

    def whole(*shape: int) -> np.ndarray:
        """Small whole numbers: sums are exact in whatever order."""
        return rng.integers(-4, 5, shape).astype(dtype)

    tried = 0
    while tried < 150:
        kernel, stride, dilation, padding = (
            rng.integers(low, high, 2) for low, high in ((1, 5), (1, 5), (1, 4), (0, 5))
        )
        size = rng.integers(1, 14, 2)
        if (size + 2 * padding < dilation * (kernel - 1) + 1).any():
            continue
        tried += 1
        groups, batch = int(rng.integers(1, 4)), int(rng.integers(1, 40))
        channels, filters = rng.integers(1, 8), rng.integers(1, 30)
        x, weight = whole(batch, groups * channels, *size), whole(groups * filters, channels, *kernel)
        form: dict[str, Any] = {
            "stride": tuple(stride.tolist()),
            "padding": tuple(padding.tolist()),
            "dilation": tuple(dilation.tolist()),
            "groups": groups,
        }
        fused: dict[str, Any] = {
            "bias": whole(len(weight)),
            "activation": str(rng.choice(["none", "relu", "leaky_relu"])),
        }
        expected = fastdl.conv2d(x, weight, algorithm="direct", **form, **fused)
        if tried % 3 == 0:
            fused["residual"] = whole(*expected.shape)
            expected = fastdl.conv2d(x, weight, algorithm="direct", **form, **fused)
        grad_output = whole(*expected.shape)
        with fastdl.threads(threads):
            np.testing.assert_array_equal(fastdl.conv2d(x, weight, algorithm="batched", **form, **fused), expected)
            packed = fastdl.pack_conv2d_weight(weight, **form)
            found = fastdl.conv2d(x, packed, algorithm="batched", **form, **fused)
            np.testing.assert_array_equal(found, expected)
            gradients = fastdl.conv2d_backward(grad_output, x, weight, algorithm="batched", **form)
        for a, b in zip(
            gradients, fastdl.conv2d_backward(grad_output, x, weight, algorithm="direct", **form), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": 2, "stride": 2}, {"padding": (0, 1), "dilation": 2}])
def test_batched_keeps_what_is_not_finite_in_its_place(options: dict[str, Any], bad: float) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((20, 3, 9, 8)), rng.standard_normal((5, 3, 3, 3))
    grad_output = rng.standard_normal(fastdl.conv2d(x, weight, **options).shape)
    for array in (x, weight, grad_output):
        right = array.flat[7]
        array.flat[7] = bad
        for algorithm in ("batched", "direct"):
            found = fastdl.conv2d(x, weight, algorithm=algorithm, **options)
            gradients = fastdl.conv2d_backward(grad_output, x, weight, algorithm=algorithm, **options)
            if algorithm == "batched":
                batched = (found, *gradients)
        for a, b in zip(batched, (found, *gradients), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        array.flat[7] = right


_FORMS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 5, 9, 9), (17, 5, 3, 3), {"padding": 1}),
    ((1, 24, 14, 14), (19, 24, 1, 1), {}),
    ((2, 16, 7, 7), (24, 16, 1, 1), {}),
    ((1, 20, 18, 19), (20, 1, 3, 3), {"padding": 1, "groups": 20}),
    ((1, 20, 40, 75), (20, 1, 3, 3), {"padding": 1, "groups": 20, "stride": 2}),
    ((1, 6, 9, 12), (6, 1, 3, 2), {"groups": 6, "dilation": 2}),
    ((9, 3, 8, 8), (8, 3, 3, 3), {"padding": 2, "stride": 2}),
    ((1, 32, 20, 20), (33, 32, 3, 3), {"padding": 1}),
    ((2, 3, 4, 4), (5, 3, 4, 4), {}),
]


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "weight_shape", "form"), _FORMS)
def test_limits_are_those_of_the_activation(
    shape: tuple[int, ...], weight_shape: tuple[int, ...], form: dict[str, Any], dtype: Any
) -> None:
    """relu, relu6 and hardtanh are applied in registers where results are stored: to the bit what they are after."""
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(s).astype(dtype) for s in (shape, weight_shape))
    bias = rng.standard_normal(len(weight)).astype(dtype)
    for bad, algorithm, last in product((False, True), ALGORITHMS, (False, True)):
        given, w, options = x.copy(), weight, form | {"algorithm": algorithm}
        if bad:
            given[0, :2, 3, 3] = np.nan, np.inf
        if last:
            given, w = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (given, w))
            options["data_format"] = "NHWC"
        try:
            plain = fastdl.conv2d(given, w, bias, **options)
        except ValueError:  # not one that applies
            continue
        residual = rng.standard_normal(plain.shape).astype(dtype)
        more = plain if algorithm == "direct" else fastdl.conv2d(given, w, bias, **options, residual=residual)
        for activation, args in (("relu", ()), ("relu6", ()), ("hardtanh", (-0.5, 0.25)), ("hardtanh", (0.5, 0.5))):
            after = getattr(fastdl, activation)
            fused: dict[str, Any] = {"activation": activation, "activation_args": args}
            found = fastdl.conv2d(given, w, bias, **options, **fused)
            np.testing.assert_array_equal(found, after(plain, *args), err_msg=f"{algorithm} {activation}")
            if algorithm != "direct":
                found = fastdl.conv2d(given, w, bias, **options, residual=residual, **fused)
                np.testing.assert_array_equal(found, after(more, *args), err_msg=f"{algorithm} {activation}, residual")


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", DTYPES)
def test_windows_two_pixels_apart(dtype: Any) -> None:
    """Columns at stride 2 are lines of every other pixel, which rows of the kernel share: sizes around vectors, rows
    above and below the image, strips that begin and end within rows, images one after the other in a strip."""
    rng = np.random.default_rng(2)
    for tried in range(60):
        batch, channels, filters = (int(n) for n in rng.integers(1, (4, 12, 30)))
        kernel, stride = rng.integers((1, 2), (6, 8)), (int(rng.integers(1, 5)), 2)
        dilation, padding = (int(rng.integers(1, 4)), 1), rng.integers(0, 7, 2)
        least = np.maximum(1, dilation * (kernel - 1) + 1 - 2 * padding)
        size = least + (rng.integers(0, 45, 2) if tried % 4 else rng.integers(0, (4, 540), 2))
        x = Guarded.holding(rng.integers(-4, 5, (batch, channels, *size)).astype(dtype))
        weight = rng.integers(-4, 5, (filters, channels, *kernel)).astype(dtype)
        form: dict[str, Any] = {"stride": stride, "padding": tuple(padding.tolist()), "dilation": dilation}
        columns = reference.im2col(x.array, tuple(kernel.tolist()), **form)
        np.testing.assert_array_equal(fastdl.im2col(x.array, tuple(kernel.tolist()), **form), columns)
        expected = reference.conv2d(x.array.astype(np.float64), weight.astype(np.float64), **form)
        grads = reference.conv2d_backward(expected, x.array.astype(np.float64), weight.astype(np.float64), **form)
        for algorithm in ("direct", "im2col"):
            found = fastdl.conv2d(x.array, weight, **form, algorithm=algorithm)
            np.testing.assert_array_equal(found, expected, err_msg=f"{size} {kernel} {form}")
        packed = pack_conv2d_weight_as(_kernels.TILE_COLUMNS, weight)
        np.testing.assert_array_equal(fastdl.conv2d(x.array, packed, **form), expected)
        found = fastdl.conv2d_backward(found, x.array, weight, **form, algorithm="direct").weight
        bound = 4 * np.finfo(dtype).eps * np.abs(grads.weight).max()
        np.testing.assert_allclose(found, grads.weight, rtol=0, atol=bound * size.prod() ** 0.5)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("x", "weight", "options"),
    [
        ((1, 40, 1, 1), (3, 40, 1, 1), {}),
        ((1, 70, 7, 7), (300, 70, 1, 1), {}),
        ((3, 70, 3, 5), (65, 70, 1, 1), {}),
        ((1, 300, 4, 4), (33, 300, 3, 3), {"padding": 1}),
        ((2, 60, 14, 9), (97, 60, 3, 3), {"padding": 1, "stride": 2}),
        ((5, 9, 11, 13), (70, 9, 5, 2), {"padding": (2, 0), "stride": (1, 3), "dilation": (2, 1)}),
        ((1, 2100, 2, 3), (40, 2100, 2, 2), {"padding": 1}),
        ((40, 64, 20, 20), (20, 64, 1, 1), {"stride": 2}),
    ],
)
def test_packed_for_few_positions(
    x: tuple[int, ...], weight: tuple[int, ...], options: dict[str, Any], dtype: Any
) -> None:
    """With the filters as columns, whatever pays: as by "direct", with all that is fused, by one thread and by two."""
    rng = np.random.default_rng(x[1])
    whole = [rng.integers(-4, 5, shape).astype(dtype) for shape in (x, weight, weight[:1])]  # sums are exact
    expected = fastdl.conv2d(*whole, **options, algorithm="direct")
    residual = rng.integers(-4, 5, expected.shape).astype(dtype)
    packed = pack_conv2d_weight_as(_kernels.TILE_COLUMNS, whole[1])
    packed = packed._replace(data=Guarded.holding(packed.data).array)
    image, bias, y = Guarded.holding(whole[0]), Guarded.holding(whole[2]), Guarded(expected.shape, dtype)
    for threads, activation, added in product((1, 2), ("none", "relu", "tanh"), (None, residual)):
        with fastdl.threads(threads):
            found = fastdl.conv2d(
                image.array, packed, bias.array, **options, activation=activation, residual=added, out=y.array
            )
            y.check()
        want = fastdl.conv2d(*whole, **options, activation=activation, residual=added, algorithm="direct")
        np.testing.assert_array_equal(found, want)
    np.testing.assert_array_equal(fastdl.conv2d(image.array, packed, **options), expected - bias.array[:, None, None])
    with pytest.raises(ValueError, match="algorithm"):
        fastdl.conv2d(image.array, packed, **options, algorithm="im2col")


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("terms", [3, 24, 130, 515, 1030])
def test_products_of_pixels_where_they_lie(terms: int, dtype: Any) -> None:
    """1 x 1 kernels read the image itself, but for the last columns, by weights that are packed and that are not."""
    rng = np.random.default_rng(terms)
    for filters, (height, width), batch in product(
        (1, 7, 40, 75), ((1, 5), (7, 7), (1, 33), (14, 14), (16, 32)), (1, 2)
    ):
        if terms * filters > 1 << 15 and (height, width) != (7, 7):
            continue
        x = rng.standard_normal((batch, terms, height, width)).astype(dtype)
        weight, bias = rng.standard_normal((filters, terms, 1, 1)).astype(dtype), rng.standard_normal(filters)
        wide = np.einsum("fc,nchw->nfhw", *(a.astype(np.float64) for a in (weight[:, :, 0, 0], x)))
        wide += bias[:, None, None]
        bound = 2 * terms**0.5 * np.finfo(dtype).eps * terms**0.5  # of a sum of so many, each about 1
        guards = [Guarded.holding(x), Guarded((batch, filters, height, width), dtype)]
        for w in (weight, fastdl.pack_conv2d_weight(weight)):
            fastdl.conv2d(guards[0].array, w, bias.astype(dtype), out=guards[1].array, activation="relu6")
            np.testing.assert_allclose(guards[1].array, np.clip(wide, 0, 6), rtol=0, atol=4 * bound)
            guards[1].check()
