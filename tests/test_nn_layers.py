"""Layers against PyTorch with the same state_dict, and their mistakes."""

from __future__ import annotations

import copy
import inspect
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import nn
from fastdl._backend import backend
from tests.support import DTYPES, assert_close


def test_cross_entropy_without_reduction_needs_the_gradient_of_each_row() -> None:
    scores, target = np.random.default_rng(0).standard_normal((4, 3)), np.array([0, 2, 1, 1])
    loss = nn.CrossEntropyLoss(reduction="none")
    assert loss(scores, target).shape == (4,)
    with pytest.raises(ValueError, match=r"grad_output: found \(\), expected \(4,\)"):
        loss.backward()
    mean = nn.CrossEntropyLoss()
    mean(scores, target)
    np.testing.assert_allclose(loss.backward(np.full(4, 0.25)), mean.backward(), rtol=1e-14)


def _loss_inputs(name: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    x, signs = rng.standard_normal((4, 3)), rng.choice([-1.0, 1.0], (4, 3))
    return {
        "BCELoss": [rng.uniform(size=(4, 3)), rng.uniform(size=(4, 3))],
        "KLDivLoss": [x, rng.uniform(size=(4, 3))],
        "HingeEmbeddingLoss": [x, signs],
        "CosineEmbeddingLoss": [x, rng.standard_normal((4, 3)), signs[:, 0]],
        "NLLLoss": [x, np.array([0, 2, 1, 1])],
        "CrossEntropyLoss": [x, np.array([0, 2, 1, 1])],
    }.get(name, [x, rng.standard_normal((4, 3))])


_WEIGHT = np.array([0.5, 1.0, 2.0])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MSELoss", {}),
        ("L1Loss", {"reduction": "sum"}),
        ("HuberLoss", {"delta": 0.5}),
        ("SmoothL1Loss", {"beta": 0.5}),
        ("BCELoss", {"weight": _WEIGHT}),
        ("BCEWithLogitsLoss", {"pos_weight": _WEIGHT, "reduction": "sum"}),
        ("KLDivLoss", {"reduction": "batchmean"}),
        ("KLDivLoss", {"log_target": True}),
        ("HingeEmbeddingLoss", {"margin": 0.5}),
        ("CosineEmbeddingLoss", {"margin": -0.5}),
        ("NLLLoss", {"weight": _WEIGHT, "ignore_index": 2}),
        ("CrossEntropyLoss", {"weight": _WEIGHT, "ignore_index": 2, "label_smoothing": 0.1}),
    ],
)
def test_losses_are_those_of_torch(name: str, options: dict[str, Any]) -> None:
    """By position too: the options come in torch's order, without the two that it has given up."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    inputs = _loss_inputs(name)
    loss = getattr(nn, name)(**options)
    value = loss(*inputs)
    grads = loss.backward()
    given = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    tensors = [torch.from_numpy(a) for a in inputs]
    differentiable = [t.requires_grad_() for t in tensors[:-1]]
    expected = getattr(torch.nn, name)(**given)(*tensors)
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-12)
    grads = grads if isinstance(grads, tuple) else (grads,)
    for grad, x in zip(grads, differentiable, strict=True):
        np.testing.assert_allclose(grad, x.grad.numpy(), rtol=1e-12, atol=1e-15)
    names = [n for n in inspect.signature(getattr(torch.nn, name)).parameters if n not in ("size_average", "reduce")]
    assert list(inspect.signature(getattr(nn, name)).parameters) == names


def test_relu_inplace_writes_over_its_input() -> None:
    x = np.array([-1.0, 2.0])
    layer = nn.ReLU(inplace=True)
    assert layer(x) is x
    np.testing.assert_array_equal(x, [0, 2])
    np.testing.assert_array_equal(layer.backward(np.ones(2)), [0, 1])


@pytest.mark.parametrize(
    ("start", "end", "shape"), [(1, -1, (2, 60)), (0, -1, (120,)), (1, 2, (2, 12, 5)), (2, 2, (2, 3, 4, 5))]
)
def test_flatten(start: int, end: int, shape: tuple[int, ...]) -> None:
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    layer = nn.Flatten(start, end)
    np.testing.assert_array_equal(layer(x), x.reshape(shape))
    np.testing.assert_array_equal(layer.backward(layer(x)), x)


def test_flatten_of_an_empty_batch() -> None:
    layer = nn.Flatten()
    assert layer(np.empty((0, 3, 4))).shape == (0, 12)
    assert layer.backward(np.empty((0, 12))).shape == (0, 3, 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rank", "options", "output_size"),
    [
        (1, {"stride": 3, "padding": 1}, (14,)),
        (2, {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}, None),
        (2, {"stride": (2, 1), "dilation": (1, 2), "bias": False}, (12, 9)),
        (3, {"stride": 2, "padding": (1, 0, 1)}, (10, 11, 9)),
    ],
)
def test_transposed_convolution_agrees_with_torch(rank: int, options: Any, output_size: Any, dtype: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    peer = getattr(torch.nn, f"ConvTranspose{rank}d")(4, 6, 3, **options).double()
    layer = getattr(nn, f"ConvTranspose{rank}d")(4, 6, 3, **options, dtype=dtype)
    assert {n: a.shape for n, a in layer.parameters().items()} == {n: a.shape for n, a in peer.named_parameters()}
    peer.load_state_dict({name: torch.from_numpy(a).double() for name, a in layer.state_dict().items()})
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 4, 5, 5, 5)[: 2 + rank]).astype(dtype)
    peer_x = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    y, expected = layer.forward(x, output_size), peer(peer_x, output_size)
    assert_close(y, expected.detach().numpy(), dtype)
    grad = rng.standard_normal(y.shape).astype(dtype)
    expected.backward(torch.from_numpy(grad.astype(np.float64)))
    assert_close(layer.backward(grad), peer_x.grad.numpy(), dtype)
    for name, parameter in peer.named_parameters():
        assert_close(layer.grads[name], parameter.grad.numpy(), dtype)


def test_transposed_convolution_refuses_sizes_that_the_stride_cannot_give() -> None:
    layer, x = nn.ConvTranspose2d(1, 1, 3, stride=2), np.ones((1, 1, 4, 4), np.float32)
    assert layer.forward(x, 10).shape == (1, 1, 10, 10)
    for size in (8, (9, 11)):
        with pytest.raises(ValueError, match="output_size: found"):
            layer.forward(x, size)


def test_initial_values_are_uniform_within_one_over_root_fan_in() -> None:
    for layer, fan_in in (
        (nn.Linear(100, 300, rng=0), 100),
        (nn.Conv2d(8, 64, (3, 5), groups=2, rng=0), 60),
        (nn.Conv3d(3, 64, 2, rng=0), 24),
        (nn.ConvTranspose2d(64, 8, (3, 5), groups=2, rng=0), 60),
    ):
        bound = 1 / np.sqrt(fan_in)
        for array in layer.parameters().values():
            assert np.abs(array).max() <= bound * (1 + 1e-6)
        # The deviation of a uniform variable is bound / sqrt(3); of n samples' it strays by about 0.5 / sqrt(n).
        weight = layer.parameters()["weight"]
        assert weight.std() == pytest.approx(bound / np.sqrt(3), rel=5 * 0.5 / np.sqrt(weight.size))


def test_a_seed_fixes_the_initial_values_and_a_generator_goes_on() -> None:
    np.testing.assert_array_equal(nn.Linear(3, 2, rng=7).weight, nn.Linear(3, 2, rng=7).weight)
    rng = np.random.default_rng(7)
    first, second = nn.Linear(3, 2, rng=rng), nn.Linear(3, 2, rng=rng)
    assert not np.array_equal(first.weight, second.weight)


_LAYERS = [
    ("BatchNorm1d", (6,), {}, (5, 6)),
    ("BatchNorm1d", (6, 1e-3, 0.3), {}, (5, 6, 9)),
    ("BatchNorm2d", (6,), {"momentum": None}, (4, 6, 5, 7)),
    ("BatchNorm2d", (6,), {"affine": False, "track_running_stats": False}, (4, 6, 5, 7)),
    ("BatchNorm3d", (3,), {"affine": False}, (4, 3, 2, 3, 4)),
    ("InstanceNorm1d", (6,), {}, (5, 6, 9)),
    ("InstanceNorm1d", (6,), {"affine": True}, (6, 9)),
    ("InstanceNorm2d", (6, 1e-3, 0.3, True, True), {}, (4, 6, 5, 7)),
    ("InstanceNorm3d", (3,), {"track_running_stats": True, "momentum": None}, (4, 3, 2, 3, 4)),
    ("LayerNorm", (9,), {}, (5, 6, 9)),
    ("LayerNorm", ((6, 9), 1e-3), {"bias": False}, (5, 6, 9)),
    ("LayerNorm", ([9],), {"elementwise_affine": False}, (5, 6, 9)),
    ("GroupNorm", (3, 6), {}, (5, 6, 9)),
    ("GroupNorm", (2, 6, 1e-3, False), {}, (5, 6, 3, 4)),
    ("RMSNorm", (9,), {"eps": 1e-6}, (5, 6, 9)),
    ("RMSNorm", ((6, 9), 1e-3, False), {}, (5, 6, 9)),
    ("Conv1d", (4, 6, 3), {"padding": "same", "dilation": 2}, (2, 4, 9)),
    ("Conv1d", (4, 6, (3,), 2, 1, 1, 2, False, "circular"), {}, (2, 4, 9)),
    ("Conv2d", (4, 6, (2, 3)), {"padding": "same", "padding_mode": "replicate"}, (2, 4, 7, 9)),
    ("Conv2d", (4, 6, 3, (1, 2), (2, 1), (2, 1), 2, True, "reflect"), {}, (2, 4, 7, 9)),
    ("Conv2d", (4, 6, 3), {"padding": "valid"}, (2, 4, 7, 9)),
    ("Conv3d", (2, 3, 2), {"stride": (1, 2, 1), "padding": (1, 0, 1)}, (2, 2, 3, 4, 5)),
    ("Conv3d", (2, 3, 3), {"padding": 1, "padding_mode": "circular"}, (2, 2, 3, 4, 5)),
    ("Unfold", ((2, 3), (2, 1), (1, 2), (1, 2)), {}, (2, 3, 6, 7)),
    ("Threshold", (0.25, -1.5), {}, (5, 7)),
    ("Hardshrink", (), {}, (5, 7)),
    ("Softshrink", (0.75,), {}, (5, 7)),
    ("Tanhshrink", (), {}, (5, 7)),
    ("GLU", (1,), {}, (5, 6, 7)),
    ("Softmin", (1,), {}, (5, 6, 7)),
    ("Softmax2d", (), {}, (2, 3, 4, 5)),
    ("Softmax2d", (), {}, (3, 4, 5)),
    ("Upsample", (None, 2.0, "bilinear"), {}, (2, 3, 6, 7)),
    ("Upsample", ((5, 9), None, "bicubic", True), {}, (2, 3, 6, 7)),
    ("Upsample", (), {"scale_factor": 1.5, "mode": "nearest"}, (2, 3, 7)),
    ("PixelShuffle", (2,), {}, (2, 8, 3, 5)),
    ("PixelUnshuffle", (3,), {}, (2, 2, 6, 9)),
    ("Fold", ((6, 7), (2, 3), (2, 1), (1, 2), (1, 2)), {}, (2, 12, 30)),
    *(
        (f"{name}{rank}d", (padding, *value), {}, (2, 3, 6, 7, 8)[: rank + 2])
        for name, value in (
            ("ZeroPad", ()),
            ("ConstantPad", (1.5,)),
            ("ReflectionPad", ()),
            ("ReplicationPad", ()),
            ("CircularPad", ()),
        )
        for rank in (1, 2, 3)
        for padding in (2, (1, 2, 3, 0, 2, 1)[: 2 * rank])
    ),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "arguments", "options", "shape"), _LAYERS, ids=[f"{name}-{a}-{o}" for name, a, o, _ in _LAYERS]
)
def test_layer_agrees_with_torch(name: str, arguments: Any, options: Any, shape: Any, dtype: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    peer = getattr(torch.nn, name)(*arguments, **options).double()
    layer = getattr(nn, name)(
        *arguments, **options, **({"dtype": dtype} if name.startswith("Conv") or "Norm" in name else {})
    )
    layer.load_state_dict({key: value.numpy() for key, value in peer.state_dict().items()})
    peer.load_state_dict({key: torch.from_numpy(np.array(a, copy=True)) for key, a in layer.state_dict().items()})
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    peer_x = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    y, expected = layer(x), peer(peer_x)
    assert_close(y, expected.detach().numpy(), dtype)
    grad_output = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    expected.backward(torch.from_numpy(grad_output.astype(np.float64)))
    assert_close(layer.backward(grad_output), peer_x.grad.numpy(), dtype)
    for key, parameter in peer.named_parameters():
        assert_close(layer.grads[key], parameter.grad.numpy(), dtype)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Linear(-1, 2), ValueError, "in_features: found -1"),
        (lambda: nn.Linear(1, 2.0), TypeError, "out_features: found 2.0"),
        (lambda: nn.Linear(1, 2, dtype=np.int32), TypeError, "dtype: found int32"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "in_channels: found 3"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), ValueError, "out_channels: found 3"),
        (lambda: nn.Conv2d(4, 4, 3, groups=0), ValueError, "groups: found 0, expected at least 1"),
        (lambda: nn.Conv2d(4, 4, 0), ValueError, "kernel_size: found 0"),
        (lambda: nn.Conv2d(4, 4, 3, padding=-1), ValueError, "padding: found -1"),
        (
            lambda: nn.ConvTranspose2d(4, 4, 3, stride=2, padding="same"),
            ValueError,
            "padding: found 'same' with stride",
        ),
        (lambda: nn.Conv2d(4, 4, 3, precision="high"), ValueError, "precision: found 'high'"),
        (lambda: nn.Conv2d(4, 4, 3, padding="some"), ValueError, "padding: found 'some'"),
        (lambda: nn.Conv2d(4, 4, 3, padding_mode="edge"), ValueError, "padding_mode: found 'edge'"),
        (lambda: nn.Conv1d(4, 4, (3, 3)), TypeError, "kernel_size: found"),
        (lambda: nn.Conv3d(4, 4, 3, stride=(1, 2)), TypeError, "stride: found"),
        (lambda: nn.ZeroPad2d((1, 2)), ValueError, r"padding: found \(1, 2\), expected an int or 4 ints"),
        (lambda: nn.ReflectionPad1d(1.5), TypeError, "padding: found"),
        (lambda: nn.ReflectionPad1d(3)(np.ones((1, 1, 3))), ValueError, "pad: found .* of size 3"),
        (lambda: nn.ConvTranspose1d(3, 4, 3, groups=2), ValueError, "in_channels: found 3"),
        (lambda: nn.ConvTranspose3d(4, 4, (3, 0, 3)), ValueError, "kernel_size: found"),
        (lambda: nn.CrossEntropyLoss(reduction="max"), ValueError, "reduction: found 'max'"),
        (lambda: nn.Sequential(nn.ReLU(), "relu"), TypeError, "layers: found str as '1'"),
        (lambda: nn.Flatten(2, 1)(np.ones((1, 2, 3))), ValueError, "dimensions 2 to 1"),
        (lambda: nn.Flatten(1, 3)(np.ones((1, 2, 3))), ValueError, "dimensions 1 to 3"),
        (lambda: nn.Linear(3, 2)(np.ones((1, 4), np.float32)), ValueError, "x: found"),
        (lambda: nn.Linear(3, 2)(np.ones((1, 3))), TypeError, "x: found dtype float64, expected float32, this layer's"),
    ],
)
def test_mistakes(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"momentum": 0.3, "affine": False}], ids=str)
@pytest.mark.parametrize(
    ("name", "shape"), [("BatchNorm1d", (5, 6)), ("BatchNorm2d", (4, 6, 5, 4)), ("InstanceNorm1d", (5, 6, 9))]
)
def test_running_statistics_agree_with_torch(name: str, shape: Any, options: Any, dtype: Any) -> None:
    """Over three batches in training, of which the state is loaded into another layer, and then in inference."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    peer = getattr(torch.nn, name)(6, track_running_stats=True, **options).double()
    layer = getattr(nn, name)(6, track_running_stats=True, **options, dtype=dtype)
    assert list(layer.state_dict()) == list(peer.state_dict())
    for seed in range(3):
        x = 2 + np.random.default_rng(seed).standard_normal(shape).astype(dtype)
        layer(x)
        peer(torch.from_numpy(x.astype(np.float64)))
    for key, value in peer.state_dict().items():
        assert_close(layer.state_dict()[key], value.numpy(), dtype)
    other = getattr(nn, name)(6, track_running_stats=True, **options, dtype=dtype)
    other.load_state_dict(layer.state_dict())
    assert int(other.num_batches_tracked) == int(peer.num_batches_tracked)
    other.eval()
    peer.eval()
    peer_x = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    y, expected = other(x), peer(peer_x)
    assert_close(y, expected.detach().numpy(), dtype)
    expected.backward(torch.ones_like(expected))
    assert_close(other.backward(np.ones_like(x)), peer_x.grad.numpy(), dtype)
    assert int(other.num_batches_tracked) == int(peer.num_batches_tracked)


_POOLS = [
    ("MaxPool", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("AvgPool", {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
    ("LPPool", {"norm_type": 2, "kernel_size": 2}),
    ("AdaptiveAvgPool", {"output_size": 3}),
    ("AdaptiveMaxPool", {"output_size": 1}),
]


@pytest.mark.parametrize(("name", "options"), _POOLS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pooling_layers_agree_with_torch(name: str, options: dict[str, Any], rank: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = np.random.default_rng(0).standard_normal((2, 3, *(6, 7, 8)[-rank:]))
    layer, peer = getattr(nn, f"{name}{rank}d")(**options), getattr(torch.nn, f"{name}{rank}d")(**options)
    peer_x = torch.from_numpy(x).requires_grad_()
    y, peer_y = layer(x), peer(peer_x)
    np.testing.assert_allclose(y, peer_y.detach().numpy(), rtol=1e-13)
    grad = np.random.default_rng(1).standard_normal(y.shape)
    peer_y.backward(torch.from_numpy(grad))
    np.testing.assert_allclose(layer.backward(grad), peer_x.grad.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_goes_back_where_pooling_came_from(rank: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, *(7, 8, 9)[-rank:]))
    pool, unpool = getattr(nn, f"MaxPool{rank}d")(2, return_indices=True), getattr(nn, f"MaxUnpool{rank}d")(2)
    y, indices = pool(x)
    back = unpool(y, indices, output_size=x.shape)
    assert back.shape == x.shape
    np.testing.assert_array_equal(back[back != 0], x[back != 0])
    assert np.count_nonzero(back) == y.size
    np.testing.assert_array_equal(unpool.backward(back), y)
    np.testing.assert_array_equal(pool.backward(y), back)


_RECURRENT = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu", "bias": False, "batch_first": True}),
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"num_layers": 2, "proj_size": 3, "batch_first": True}),
    ("GRU", {"num_layers": 3, "bias": False}),
    ("GRU", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
]
_RECURRENT_IDS = [f"{name}-{'-'.join(options)}" for name, options in _RECURRENT]


def _recurrent_pair(torch: Any, name: str, options: dict[str, Any], dtype: Any) -> tuple[Any, Any]:
    """A layer with the parameters of a torch layer in float64, rounded to dtype in both."""
    torch.manual_seed(0)
    peer = getattr(torch.nn, name)(4, 5, **options).double()
    layer = getattr(nn, name)(4, 5, **options, dtype=dtype)
    layer.load_state_dict({key: value.numpy() for key, value in peer.state_dict().items()})
    peer.load_state_dict({key: torch.from_numpy(a).double() for key, a in layer.state_dict().items()})
    assert list(layer.parameters()) == [key for key, _ in peer.named_parameters()]
    return layer, peer


def _recurrent_data(layer: Any, dtype: Any, batch: tuple[int, ...]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Seven steps, and states; without a batch if `batch` is empty."""
    rng = np.random.default_rng(0)
    order = (*batch, 7) if layer.batch_first else (7, *batch)
    first = layer.num_layers * layer.directions
    shapes = [(first, *batch, layer.output_size), (first, *batch, layer.hidden_size)][: layer.states]
    return rng.standard_normal((*order, 4)).astype(dtype), [rng.standard_normal(s).astype(dtype) for s in shapes]


def _joined(states: list[Any]) -> Any:
    return states[0] if len(states) == 1 else tuple(states)


def _parts(state: Any) -> Any:
    return state if isinstance(state, tuple) else (state,)


def _assert_recurrent_grads(layer: Any, peer: Any, peer_states: list[Any], dtype: Any) -> None:
    assert list(layer.grads) == [key for key, _ in peer.named_parameters()]
    for key, parameter in peer.named_parameters():
        assert_close(layer.grads[key], parameter.grad.numpy(), dtype)
    for found, state in zip(_parts(layer.state_grad), peer_states, strict=True):
        assert_close(found, state.grad.numpy(), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(3,), ()], ids=["batch", "one"])
@pytest.mark.parametrize(("name", "options"), _RECURRENT, ids=_RECURRENT_IDS)
def test_recurrent_layer_agrees_with_torch(name: str, options: dict[str, Any], batch: Any, dtype: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    layer, peer = _recurrent_pair(torch, name, options, dtype)
    x, states = _recurrent_data(layer, dtype, batch)
    peer_x, *peer_states = (torch.from_numpy(a.astype(np.float64)).requires_grad_() for a in (x, *states))
    y, after = layer(x, _joined(states))
    peer_y, peer_after = peer(peer_x, _joined(peer_states))
    rng = np.random.default_rng(1)
    grads, outputs = [], [peer_y, *_parts(peer_after)]
    for found, expected in zip([y, *_parts(after)], outputs, strict=True):
        assert found.dtype == dtype
        assert_close(found, expected.detach().numpy(), dtype)
        grads.append(rng.standard_normal(found.shape).astype(dtype))
    torch.autograd.backward(outputs, [torch.from_numpy(g.astype(np.float64)) for g in grads])
    assert_close(layer.backward(grads[0], _joined(grads[1:])), peer_x.grad.numpy(), dtype)
    _assert_recurrent_grads(layer, peer, peer_states, dtype)


@pytest.mark.parametrize(("name", "options"), _RECURRENT, ids=_RECURRENT_IDS)
def test_recurrent_layer_with_lengths_agrees_with_packed_sequences(name: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    layer, peer = _recurrent_pair(torch, name, options, np.float64)
    x, states = _recurrent_data(layer, np.float64, (3,))
    lengths, first = np.array([4, 7, 1]), layer.batch_first
    x[np.arange(7) >= lengths[:, None] if first else np.arange(7)[:, None] >= lengths] = np.nan
    peer_x, *peer_states = (torch.from_numpy(a).requires_grad_() for a in (x, *states))
    options = {"batch_first": first, "enforce_sorted": False}
    packed = torch.nn.utils.rnn.pack_padded_sequence(peer_x, torch.from_numpy(lengths), **options)
    peer_packed, peer_after = peer(packed, _joined(peer_states))
    peer_y, _ = torch.nn.utils.rnn.pad_packed_sequence(peer_packed, batch_first=first)
    y, after = layer(x, _joined(states), lengths)
    assert_close(y, peer_y.detach().numpy(), np.float64)
    for found, expected in zip(_parts(after), _parts(peer_after), strict=True):
        assert_close(found, expected.detach().numpy(), np.float64)
    grad = np.random.default_rng(1).standard_normal(y.shape)
    peer_y.backward(torch.from_numpy(grad))
    assert_close(layer.backward(grad), peer_x.grad.numpy(), np.float64)
    _assert_recurrent_grads(layer, peer, peer_states, np.float64)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_recurrent_arguments_come_in_the_order_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    sizes = (4, 5, 2, "relu") if name == "RNN" else (4, 5) if name.endswith("Cell") else (4, 5, 2)
    flags = (False,) if name.endswith("Cell") else (False, True, 0.0, True)
    peer, layer = getattr(torch.nn, name)(*sizes, *flags), getattr(nn, name)(*sizes, *flags)
    expected = {key: tuple(value.shape) for key, value in peer.named_parameters()}
    assert {key: array.shape for key, array in layer.parameters().items()} == expected


def test_recurrent_initial_values_are_uniform_within_one_over_root_hidden() -> None:
    layer = nn.LSTM(3, 100, num_layers=2, rng=7)
    for array in layer.parameters().values():
        assert 0.09 < np.abs(array).max() <= 0.1 * (1 + 1e-6)
    assert layer.weight_hh_l0.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.02)
    same = nn.LSTM(3, 100, num_layers=2, rng=7)
    np.testing.assert_array_equal(same.weight_hh_l1, layer.weight_hh_l1)
    assert same.seed == layer.seed


def test_a_recurrent_layer_in_eval_mode_has_the_gradients_of_no_dropout() -> None:
    x = np.random.default_rng(0).standard_normal((7, 3, 4))
    layer = nn.LSTM(4, 5, num_layers=2, dropout=0.5, dtype=np.float64, rng=0)
    with pytest.raises(RuntimeError, match=r"LSTM\.backward: called before forward"):
        layer.backward(np.ones((7, 3, 5)))
    y, _ = layer.eval()(x)
    grad = layer.backward(np.ones_like(y))
    same = nn.LSTM(4, 5, num_layers=2, dtype=np.float64, rng=0)
    expected, _ = same(x)
    np.testing.assert_allclose(y, expected, rtol=1e-13)
    np.testing.assert_allclose(grad, same.backward(np.ones_like(y)), rtol=1e-12)
    for name, array in same.grads.items():
        np.testing.assert_allclose(layer.grads[name], array, rtol=1e-12)


def test_dropout_between_recurrent_layers_draws_anew_every_training_forward() -> None:
    layer = nn.GRU(4, 6, num_layers=3, dropout=0.5, rng=0)
    x = np.random.default_rng(0).standard_normal((7, 3, 4), np.float32)
    first, second = layer(x)[0], layer(x)[0]
    assert not np.array_equal(first, second)
    assert layer.offset == 2 * (2 * 7 * 3 * 2)  # masks of two layers, for each step and sample 6 numbers: 2 counters
    layer.offset = 0
    np.testing.assert_array_equal(layer(x)[0], first)
    grad = np.ones_like(first)
    expected = fastdl.gru_backward(
        grad,
        x,
        list(layer.parameters().values()),
        layer.saved[1],
        num_layers=3,
        dropout=0.5,
        training=True,
        seed=layer.seed,
    )
    np.testing.assert_array_equal(layer.backward(grad), expected.input)


def test_a_gradient_of_a_recurrent_result_may_be_missing() -> None:
    layer = nn.LSTM(4, 5, dtype=np.float64, rng=0)
    x = np.random.default_rng(0).standard_normal((7, 3, 4))
    for _ in range(3):
        y, (h, c) = layer(x)
    zero = np.zeros_like(y)
    np.testing.assert_array_equal(layer.backward(None, (h, None)), layer.backward(zero, (h, np.zeros_like(c))))
    assert layer.backward(y, input_grad=False).size == 0


def test_truncation_stops_the_gradients_of_states() -> None:
    layer = nn.GRU(4, 5, dtype=np.float64, rng=0, truncate=3)
    x = np.random.default_rng(0).standard_normal((7, 2, 4))
    y, _ = layer(x)
    grad = np.zeros_like(y)
    grad[5] = 1
    assert (layer.backward(grad) != 0).any((1, 2)).tolist() == [False] * 3 + [True] * 3 + [False]
    layer.truncate = 0
    layer(x)
    assert (layer.backward(grad) != 0).any((1, 2)).tolist() == [True] * 6 + [False]


@pytest.mark.parametrize(("name", "options"), _RECURRENT, ids=_RECURRENT_IDS)
def test_gradient_norms_are_those_of_each_state(name: str, options: dict[str, Any]) -> None:
    """Of a loss on the last states only, against what backward finds in the initial state of the steps that remain."""
    options = {key: value for key, value in options.items() if key not in ("num_layers", "bidirectional")}
    layer = getattr(nn, name)(4, 5, **options, dtype=np.float64, rng=0)
    x, _ = _recurrent_data(layer, np.float64, (3,))
    axis = 1 if options.get("batch_first") else 0
    y, state = layer(x)
    grad = [np.ones_like(s) for s in _parts(state)]
    norms = nn.gradient_norms(layer, None, _joined(grad))
    assert norms.shape == (1, 7)
    assert layer.grads == {}
    layer.backward(None, _joined(grad))  # of the same forward
    assert norms[0, -1] == pytest.approx(np.linalg.norm(grad[0]))
    for step in range(6):
        _, state = layer(np.take(x, range(step + 1), axis))
        layer(np.take(x, range(step + 1, 7), axis), state)
        layer.backward(None, _joined(grad))
        assert norms[0, step] == pytest.approx(np.linalg.norm(_parts(layer.state_grad)[0]), rel=1e-9)
    layer(x)
    assert nn.gradient_norms(layer, np.zeros_like(y)).max() == 0


def test_gradient_norms_have_a_row_for_each_layer_and_direction() -> None:
    layer = nn.LSTM(4, 5, num_layers=2, bidirectional=True, rng=0)
    y, _ = layer(np.ones((6, 4), np.float32))
    norms = nn.gradient_norms(layer, np.ones_like(y))
    assert norms.shape == (4, 6)
    assert norms.dtype == np.float32
    assert (norms > 0).all()


def test_a_recurrent_layer_in_a_sequential() -> None:
    net = nn.Sequential(nn.GRU(4, 5, rng=0), nn.Output(), nn.Linear(5, 2, rng=0))
    x = np.random.default_rng(0).standard_normal((7, 3, 4), np.float32)
    y = net(x)
    np.testing.assert_array_equal(y, net[2](net[0](x)[0]))
    assert net.backward(np.ones_like(y)).shape == x.shape
    assert list(net.grads) == list(net.parameters())


_CELLS = [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu", "bias": False}), ("LSTMCell", {}), ("GRUCell", {})]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(3,), ()], ids=["batch", "one"])
@pytest.mark.parametrize(("name", "options"), _CELLS)
def test_cell_agrees_with_torch(name: str, options: dict[str, Any], batch: Any, dtype: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    cell, peer = _recurrent_pair(torch, name, options, dtype)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*batch, 4)).astype(dtype)
    states = [rng.standard_normal((*batch, 5)).astype(dtype) for _ in range(1 + (name == "LSTMCell"))]
    peer_x, *peer_states = (torch.from_numpy(a.astype(np.float64)).requires_grad_() for a in (x, *states))
    for given, peer_given in ((None, None), (_joined(states), _joined(peer_states))):
        found, expected = _parts(cell(x, given)), _parts(peer(peer_x, peer_given))
        for a, b in zip(found, expected, strict=True):
            assert_close(a, b.detach().numpy(), dtype)
    grads = [rng.standard_normal(a.shape).astype(dtype) for a in found]
    torch.autograd.backward(expected, [torch.from_numpy(g.astype(np.float64)) for g in grads])
    assert_close(cell.backward(_joined(grads)), peer_x.grad.numpy(), dtype)
    _assert_recurrent_grads(cell, peer, peer_states, dtype)


@pytest.mark.parametrize(("name", "options"), [*_CELLS, ("GRUCell", {"linear_before_reset": False})])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_bound_cell_makes_the_same_steps_in_arrays_of_its_own(name: str, options: Any, batch: int) -> None:
    cell = getattr(nn, name)(4, 5, **options, rng=0)
    bound, rng = cell.bind(batch), np.random.default_rng(0)
    arrays = [bound.x, bound.h, *([bound.c] if name == "LSTMCell" else [])]
    assert [a.shape for a in arrays] == [(batch, 4), *[(batch, 5)] * (len(arrays) - 1)]
    steps = rng.standard_normal((6, batch, 4), np.float32)
    for _ in range(2):
        state = None
        for x in steps:
            state = cell(x, state)
            assert bound(x) is arrays[1]
            for found, expected in zip(arrays[1:], _parts(state), strict=True):
                assert_close(found, expected, np.float32)
        bound.reset()
    arrays[1][...] = 0.5  # what is written into the arrays counts, and only that
    bound.x[...] = steps[0]
    bound.step()
    given = [np.full((batch, 5), 0.5, np.float32), np.zeros((batch, 5), np.float32)][: len(arrays) - 1]
    assert_close(bound.h, _parts(cell(steps[0], _joined(given)))[0], np.float32)
    bound.reset()
    with pytest.raises(ValueError, match="read-only"):
        cell.weight_ih[...] = 0
    cell.load_state_dict({name: value / 2 for name, value in cell.state_dict().items()})
    assert_close(bound(steps[0]), _parts(cell(steps[0]))[0], np.float32)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_bound_cell_copies_what_is_assigned_and_refuses_what_does_not_fit(batch: int) -> None:
    cell, x = nn.LSTMCell(4, 5, rng=0), np.full((batch, 4), 0.5, np.float32)
    bound = cell.bind(batch)
    arrays = bound.x, bound.h, bound.c
    bound.x, bound.h, bound.c = x, np.full((batch, 5), 0.25, np.float32), [[0.5] * 5] * batch
    assert all(now is before for now, before in zip((bound.x, bound.h, bound.c), arrays, strict=True))
    bound.step()
    state = np.full((batch, 5), 0.25, np.float32), np.full((batch, 5), 0.5, np.float32)
    assert_close(bound.h, cell(x, state)[0], np.float32)
    for wrong in (x[:, :3], x[0] if batch > 1 else x[0, 0], x[None]):
        with pytest.raises(ValueError, match=r"x: found shape .*, expected \(., 4\)"):
            bound(wrong)
    for wrong in (x.astype(np.float64), x.astype(np.int32)):
        with pytest.raises(TypeError, match=r"x: found dtype .*, expected float32, the bound cell's"):
            bound(wrong)
    with pytest.raises(TypeError, match="x: found str"):
        bound("x")
    with pytest.raises(ValueError, match=r"h: found shape \(7,\)"):
        bound.h = np.zeros(7, np.float32)
    with pytest.raises(AttributeError):
        bound.state = x
    with pytest.raises(AttributeError, match="c: found a bound GRUCell"):
        nn.GRUCell(4, 5).bind().c = x
    for again in (copy.deepcopy, lambda bound: pickle.loads(pickle.dumps(bound))):
        bound(x)
        other = again(bound)
        np.testing.assert_array_equal(other.h, bound.h)
        held = bound.h.copy()
        y = other(x).copy()
        np.testing.assert_array_equal(bound.h, held)
        np.testing.assert_array_equal(bound(x), y)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.LSTM(4, 0), ValueError, "hidden_size: found 0, expected at least 1"),
        (lambda: nn.LSTM(4, 5.0), TypeError, "hidden_size: found 5.0"),
        (lambda: nn.LSTM(-4, 5), ValueError, "input_size: found -4"),
        (lambda: nn.LSTM(4, 5, 0), ValueError, "num_layers: found 0, expected at least 1"),
        (lambda: nn.LSTM(4, 5, proj_size=5), ValueError, "proj_size: found 5, expected less than hidden_size, 5"),
        (lambda: nn.LSTM(4, 5, truncate=-1), ValueError, "truncate: found -1"),
        (lambda: nn.GRU(4, 5, dropout=1.5), ValueError, "dropout: found 1.5"),
        (lambda: nn.GRU(4, 5, dtype=np.int32), TypeError, "dtype: found int32"),
        (lambda: nn.RNN(4, 5, nonlinearity="gelu"), ValueError, "nonlinearity: found 'gelu'"),
        (lambda: nn.RNNCell(4, 5, nonlinearity="gelu"), ValueError, "nonlinearity: found 'gelu'"),
        (lambda: nn.GRUCell(4, 0), ValueError, "hidden_size: found 0"),
        (lambda: nn.GRUCell(4, 5).bind(-1), ValueError, "batch: found -1"),
    ],
)
def test_recurrent_mistakes_in_the_constructor(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda lstm, x, h: lstm(x[:, :, :3]), ValueError, r"x: found \(7, 2, 3\), expected \(steps, batch, 4\) or"),
        (lambda lstm, x, h: lstm(x[None]), ValueError, r"x: found \(1, 7, 2, 4\), expected \(steps, batch, 4\) or"),
        (lambda lstm, x, h: lstm(x[:0]), ValueError, "x: found .* expected at least 1 step"),
        (lambda lstm, x, h: lstm(x.astype(float)), TypeError, "x: found dtype float64, expected float32, this layer's"),
        (lambda lstm, x, h: lstm(x, h), TypeError, r"state: found ndarray, expected a pair \(h, c\)"),
        (lambda lstm, x, h: lstm(x, (h,)), TypeError, r"state: found 1 values, expected a pair \(h, c\)"),
        (lambda lstm, x, h: lstm(x, (h, h[0])), ValueError, "c0: found shape .* expected 3 dimensions"),
        (lambda lstm, x, h: lstm(x[:, 0], (h, h)), ValueError, "h0: found shape .* expected 2 dimensions"),
        (lambda lstm, x, h: lstm(x, None, [1, 2, 3]), ValueError, r"lengths: found \(3,\), expected \(2,\)"),
        (lambda lstm, x, h: lstm(x, None, [1.0, 2.0]), TypeError, r"lengths\[0\]: found 1.0"),
        (lambda lstm, x, h: lstm(x, None, np.array([8, 1])), ValueError, "lengths: found 8, expected between 1 and 7"),
        (lambda lstm, x, h: (lstm(x), lstm.backward(x)), ValueError, "grad_output: found"),
        (lambda lstm, x, h: (lstm(x), lstm.backward(None, h)), TypeError, "grad_state: found ndarray"),
        (lambda lstm, x, h: nn.LSTMCell(4, 5)(x), ValueError, r"x: found \(7, 2, 4\), expected \(batch, 4\) or"),
        (lambda lstm, x, h: nn.LSTMCell(4, 5)(x[0], h[0]), TypeError, "state: found ndarray, expected a pair"),
        (lambda lstm, x, h: nn.GRUCell(4, 5)(x[0], h), ValueError, "h: found"),
        (lambda lstm, x, h: nn.GRUCell(4, 5).backward(h[0]), RuntimeError, "GRUCell.backward: called before forward"),
    ],
)
def test_recurrent_mistakes(call: Any, error: type[Exception], message: str) -> None:
    x, h = np.ones((7, 2, 4), np.float32), np.ones((1, 2, 5), np.float32)
    with pytest.raises(error, match=message):
        call(nn.LSTM(4, 5, rng=0), x, h)


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (
            nn.Conv2d(3, 4, 3),
            np.ones((1, 8, 8, 3), np.float32),
            r"x: found 8 channels in dimension 1 of shape \(1, 8, 8, 3\), expected 3 \(data_format='NCHW'\); "
            "dimension 3 has 3, as data_format='NHWC' expects",
        ),
        (
            nn.Conv2d(3, 4, 3, data_format="NHWC"),
            np.ones((1, 3, 8, 8), np.float32),
            r"x: found 8 channels in dimension 3 .*, expected 3 \(data_format='NHWC'\); dimension 1 has 3",
        ),
        (
            nn.Conv1d(3, 4, 3),
            np.ones((2, 4, 8), np.float32),
            r"x: found 4 channels in dimension 1 .*, expected 3 \(data_format='NCL'\)$",
        ),
        (
            nn.ConvTranspose2d(3, 4, 3),
            np.ones((1, 4, 8, 8), np.float32),
            "x: found 4 channels in dimension 1 .*, expected 3$",
        ),
        (nn.Linear(3, 4), np.ones((2, 5), np.float32), "x: found 5 features in dimension 1 .*, expected 3$"),
        (nn.BatchNorm2d(3), np.ones((2, 4, 5, 5), np.float32), "x: found 4 channels in dimension 1 .*, expected 3$"),
        (nn.InstanceNorm1d(3), np.ones((4, 5), np.float32), "x: found 4 channels in dimension 0 .*, expected 3$"),
        (nn.GroupNorm(2, 4), np.ones((2, 6, 5), np.float32), "x: found 6 channels in dimension 1 .*, expected 4$"),
        (nn.LayerNorm(3), np.ones((2, 4), np.float32), "x: found 4 features in dimension 1 .*, expected 3$"),
        (nn.RMSNorm(3), np.ones((2, 4), np.float32), "x: found 4 features in dimension 1 .*, expected 3$"),
        (nn.PReLU(3), np.ones((2, 4), np.float32), "x: found 4 channels in dimension 1 .*, expected 3$"),
        *(
            (layer, np.ones(shape), "x: found dtype float64, expected float32, this layer's$")
            for layer, shape in (
                (nn.Linear(3, 4), (2, 3)),
                (nn.Conv2d(3, 4, 3), (1, 3, 8, 8)),
                (nn.ConvTranspose1d(3, 4, 3), (1, 3, 8)),
                (nn.BatchNorm1d(3), (2, 3)),
                (nn.BatchNorm1d(3, affine=False), (2, 3)),
                (nn.InstanceNorm2d(3, affine=True), (2, 3, 4, 4)),
                (nn.LayerNorm(3), (2, 3)),
                (nn.GroupNorm(1, 3), (2, 3)),
                (nn.RMSNorm(3), (2, 3)),
                (nn.PReLU(), (2, 3)),
                (nn.GRU(3, 4), (5, 2, 3)),
                (nn.RNNCell(3, 4), (2, 3)),
            )
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_errors_blame_the_input(layer: Any, x: np.ndarray, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        layer(x)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_channels_last(rank: int) -> None:
    rng, last = np.random.default_rng(0), ("NLC", "NHWC", "NDHWC")[rank - 1]
    x = rng.standard_normal((2, 3, 7, 8, 9)[: rank + 2])
    first_to_last = (0, *range(2, rank + 2), 1)
    for name, arguments, options in (
        ("Conv", (3, 4, 3), {"stride": 2, "padding": 1, "dtype": np.float64, "rng": 0}),
        ("MaxPool", (3, 2), {"padding": 1, "return_indices": False}),
        ("AvgPool", (3, 2), {"padding": 1, "count_include_pad": False}),
    ):
        kind = getattr(nn, f"{name}{rank}d")
        one, other = kind(*arguments, **options), kind(*arguments, **options, data_format=last)
        assert repr(other).endswith(f"data_format={last})")
        y = one(x)
        moved = np.ascontiguousarray(x.transpose(first_to_last))
        np.testing.assert_allclose(other(moved), y.transpose(first_to_last), rtol=1e-12)
        grad = rng.standard_normal(y.shape)
        expected = one.backward(grad).transpose(first_to_last)
        found = other.backward(np.ascontiguousarray(grad.transpose(first_to_last)))
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
        for key, array in one.grads.items():
            np.testing.assert_allclose(other.grads[key], array, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("padding", ["same", "same_lower"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_same_padding_of_a_layer_with_a_stride(rank: int, padding: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 8, 7, 6)[: rank + 2])
    layer = getattr(nn, f"Conv{rank}d")(3, 4, 4, stride=2, padding=padding, dtype=np.float64, rng=0)
    assert f"padding={padding}" in repr(layer)
    y = layer(x)
    assert y.shape == (2, 4, 4, 4, 3)[: rank + 2]
    options = {"stride": 2, "padding": padding}
    function, backward = getattr(fastdl, f"conv{rank}d"), getattr(fastdl, f"conv{rank}d_backward")
    np.testing.assert_array_equal(y, function(x, layer.weight, layer.bias, **options), strict=True)
    grad = rng.standard_normal(y.shape)
    expected = backward(grad, x, layer.weight, **options)
    np.testing.assert_array_equal(layer.backward(grad), expected.input, strict=True)
    np.testing.assert_array_equal(layer.grads["weight"], expected.weight, strict=True)


@pytest.mark.parametrize("name", [f"Conv{kind}{rank}d" for kind in ("", "Transpose") for rank in (1, 2, 3)])
def test_precision_of_a_convolution_is_that_of_every_pass(name: str) -> None:
    given = []

    def recorded(function: str) -> Any:
        def call(*arguments: Any, precision: str, **options: Any) -> Any:
            given.append((function, precision))
            return getattr(fastdl, function)(*arguments, precision=precision, **options)

        return call

    layer = getattr(nn, name)(2, 2, 3, precision="exact", rng=0)
    assert repr(layer).endswith(", precision=exact)")
    names = layer.function, layer.function_backward
    with backend(SimpleNamespace(**{function: recorded(function) for function in names})):
        layer.backward(layer(np.ones((1, 2, 4, 4, 4)[: layer.rank + 2], np.float32)))
    assert given == [(function, "exact") for function in names]


def test_asymmetric_padding_of_a_convolution() -> None:
    layer = nn.Conv2d(1, 1, 3, padding=((1, 2), (0, 1)), padding_mode="replicate", dtype=np.float64, rng=0)
    assert "padding=((1, 2), (0, 1)), padding_mode=replicate" in repr(layer)
    plain = nn.Conv2d(1, 1, 3, dtype=np.float64, rng=0)
    x = np.random.default_rng(0).standard_normal((1, 1, 5, 5))
    np.testing.assert_allclose(layer(x), plain(np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 1)), "edge")), rtol=1e-12)


_COPIES = {
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "deepcopy of a network": lambda layer: copy.deepcopy(nn.Sequential(layer))[0],
}


@pytest.mark.parametrize("way", _COPIES)
@pytest.mark.parametrize(
    "layer", [nn.Dropout(seed=3), nn.AlphaDropout(), nn.Dropout2d(seed=1), nn.GRU(6, 5, 2, dropout=0.5)], ids=repr
)
def test_copies_of_dropout_draw_masks_of_their_own(layer: Any, way: str) -> None:
    """And what was drawn before, or from a copy, changes nothing for the other."""
    x = np.ones((4, 30, 6), np.float32) if isinstance(layer, nn.GRU) else np.ones((2, 30, 4, 1), np.float32)

    def draw(layer: Any) -> np.ndarray:
        y = layer(x)
        return y[0] if isinstance(y, tuple) else y

    draw(layer)
    others = [_COPIES[way](layer), _COPIES[way](layer)]
    seed, offset = layer.seed, layer.offset
    drawn = [draw(other) for other in others] + [draw(layer)]
    for i, one in enumerate(drawn):
        assert not any(np.array_equal(one, another) for another in drawn[:i])
    layer.seed, layer.offset = seed, offset
    np.testing.assert_array_equal(draw(layer), drawn[2])
    assert not {"seed", "offset"} & set(layer.state_dict())


@pytest.mark.parametrize("layer", [nn.Dropout(), nn.Dropout3d(), nn.LSTM(6, 5, 2, dropout=0.5)], ids=repr)
def test_a_pickled_dropout_layer_goes_on_where_it_was(layer: Any) -> None:
    x = np.ones((4, 30, 6), np.float32) if isinstance(layer, nn.LSTM) else np.ones((2, 30, 2, 1, 1), np.float32)
    layer(x)
    other = pickle.loads(pickle.dumps(layer))
    for _ in range(2):
        found, expected = other(x), layer(x)
        if isinstance(layer, nn.LSTM):
            found, expected = found[0], expected[0]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("Dropout", (3, 5, 7)),
        ("AlphaDropout", (5,)),
        ("Dropout1d", (3, 5, 7)),
        ("Dropout2d", (3, 5, 7, 2)),
        ("Dropout2d", (3, 5, 7)),
    ],
)
def test_forwards_of_dropout_take_counters_one_after_the_other(name: str, shape: tuple[int, ...]) -> None:
    layer, x = getattr(nn, name)(seed=5), np.ones(shape)
    drawn = 15 if name[-1] == "d" else x.size
    for i in range(3):
        assert layer.offset == i * -(-drawn // 4)
        np.testing.assert_array_equal(
            layer(x), getattr(fastdl, layer.function)(x, seed=5, offset=layer.offset - -(-drawn // 4))
        )


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda w: nn.CrossEntropyLoss(w), ["weight"]),
        (lambda w: nn.NLLLoss(w), ["weight"]),
        (lambda w: nn.BCELoss(w), ["weight"]),
        (lambda w: nn.BCEWithLogitsLoss(w, pos_weight=2 * w), ["weight", "pos_weight"]),
    ],
)
def test_weights_of_losses_are_in_the_state(make: Any, names: list[str]) -> None:
    weight = np.array([1.0, 2.0, 3.0], np.float32)
    loss = make(weight)
    state = loss.state_dict()
    assert list(state) == names
    assert not loss.parameters()
    np.testing.assert_array_equal(state["weight"], weight)
    weight[...] = 9
    assert loss.weight.tolist() == [1, 2, 3]
    loss.load_state_dict({name: array * 5 for name, array in state.items()})
    assert loss.weight.tolist() == [5, 10, 15]
    assert list(make(weight).state_dict()) == names


def test_weights_of_losses_may_be_a_list() -> None:
    loss = nn.CrossEntropyLoss([0.5, 2.0])
    assert loss.weight.dtype == np.float32
    x, target = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32), np.array([0, 1, 1])
    assert loss(x, target) == nn.CrossEntropyLoss(np.array([0.5, 2.0], np.float32))(x, target)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm2d(3, bias=False, dtype=np.float64), (2, 3, 4, 4)),
        (nn.InstanceNorm1d(3, affine=True, bias=False, dtype=np.float64), (2, 3, 4)),
        (nn.GroupNorm(3, 3, bias=False, dtype=np.float64), (2, 3, 4)),
        (nn.LayerNorm(4, bias=False, dtype=np.float64), (2, 3, 4)),
    ],
    ids=repr,
)
def test_norms_without_bias(layer: Any, shape: tuple[int, ...]) -> None:
    assert [name for name in layer.state_dict() if "running" not in name and "num" not in name] == ["weight"]
    layer.weight[...] = 2
    x = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_allclose(layer(x).mean(), 0, atol=1e-13)
    layer.backward(x)
    assert list(layer.grads) == ["weight"]


@pytest.mark.parametrize("momentum", [None, 0.25])
def test_a_refused_batch_leaves_running_statistics_alone(momentum: float | None) -> None:
    layer = nn.BatchNorm1d(3, momentum=momentum)
    before = layer.state_dict()
    for x in (np.ones((1, 3), np.float32), np.ones((4, 2), np.float32), np.ones((4, 3))):
        with pytest.raises((TypeError, ValueError), match="x: found"):
            layer(x)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


_INPLACE = [
    nn.ReLU(True),
    nn.ReLU6(True),
    nn.LeakyReLU(0.1, True),
    nn.LeakyReLU(-0.1, True),
    nn.ELU(1.5, True),
    nn.SELU(True),
    nn.CELU(1.5, True),
    nn.SiLU(True),
    nn.Mish(True),
    nn.Hardtanh(-0.5, 0.75, True),
    nn.Hardsigmoid(True),
    nn.Hardswish(True),
    nn.Threshold(0.5, -1.0, True),
]


@pytest.mark.parametrize("layer", _INPLACE, ids=repr)
def test_activations_in_place_have_the_gradient_of_the_others(layer: Any) -> None:
    x = np.random.default_rng(0).standard_normal((5, 7)) * 3
    other = copy.deepcopy(layer)
    other.inplace = False
    expected, grad = other(x), np.random.default_rng(1).standard_normal((5, 7))
    y = x.copy()
    assert layer(y) is y
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(layer.backward(grad), other.backward(grad), rtol=1e-14)


@pytest.mark.parametrize("first", [nn.ReLU6(), nn.Hardtanh(), nn.Sigmoid(), nn.Tanh(), nn.LeakyReLU(0.5)], ids=repr)
def test_what_a_later_layer_does_in_place_is_never_a_wrong_gradient(first: Any) -> None:
    x = np.random.default_rng(0).standard_normal((40, 5)) * 3
    net = nn.Sequential(first, nn.Dropout(0.5, True, seed=1))
    net(x)
    with pytest.raises(RuntimeError, match="written over before backward"):
        net.backward(np.ones_like(x))


def test_the_input_may_be_given_by_the_name_that_torch_has_for_it() -> None:
    layer, x = nn.Linear(3, 2, rng=0), np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(layer(input=x), layer(x))
    assert nn.MSELoss()(input=x, target=0 * x) == 1
    with pytest.raises(TypeError, match="positional argument"):
        layer(x, input=x)


@pytest.mark.parametrize("layer", [nn.ReLU(True), nn.Mish(True), nn.Dropout(inplace=True)], ids=repr)
def test_what_cannot_be_written_over_is_refused_by_name(layer: Any) -> None:
    frozen = np.ones((3, 4))
    frozen.flags.writeable = False
    for x in (np.ones((3, 4))[:, ::2], frozen):
        with pytest.raises(
            ValueError, match="x: with inplace=True found an array that is not C-contiguous and writable"
        ):
            layer(x)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm2d(3), (8, 3, 5, 5)),
        (nn.InstanceNorm1d(3, affine=True), (4, 3, 50)),
        (nn.GroupNorm(3, 6), (4, 6, 20)),
        (nn.LayerNorm(30), (8, 30)),
        (nn.RMSNorm(30), (8, 30)),
    ],
    ids=repr,
)
def test_the_gradient_of_a_norm_is_as_exact_as_its_functions(layer: Any, shape: tuple[int, ...]) -> None:
    """Of numbers far from 0, whose mean and variance float32 would round."""
    rng = np.random.default_rng(0)
    x, grad = (1000 + rng.standard_normal(shape)).astype(np.float32), rng.standard_normal(shape).astype(np.float32)
    layer(x)
    found = layer.backward(grad)
    same = copy.deepcopy(layer).to(np.float64)
    same(x.astype(np.float64))
    expected = same.backward(grad.astype(np.float64))
    largest = np.abs(expected).max()
    # The gradient is a difference of numbers as large as grad * rstd: some roundings of those.
    np.testing.assert_allclose(found / largest, expected / largest, rtol=0, atol=4e-6)
