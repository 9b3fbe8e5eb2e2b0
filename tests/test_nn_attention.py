"""Attention, transformers and embeddings against PyTorch with the same state_dict, and in programs."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import nn, optim
from tests.support import DTYPES, assert_close


def _pair(name: str, dtype: Any, *arguments: Any, **options: Any) -> tuple[Any, Any, Any]:
    """torch, a layer of it, and ours with its state."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    peer = getattr(torch.nn, name)(*arguments, **options).double()
    for parameter in peer.parameters():  # biases start at 0
        torch.nn.init.normal_(parameter, std=0.4)
    layer = getattr(nn, name)(*arguments, **options, dtype=dtype)
    assert list(layer.state_dict()) == list(peer.state_dict())
    layer.load_state_dict({key: value.numpy() for key, value in peer.state_dict().items()})
    peer.load_state_dict({key: torch.from_numpy(a.astype(np.float64)) for key, a in layer.state_dict().items()})
    return torch, peer, layer


def _agree(torch: Any, peer: Any, layer: Any, inputs: tuple[Any, ...], dtype: Any, **options: Any) -> None:
    """Results, and gradients of parameters and inputs; options: (torch's, ours)."""
    leaves = [torch.from_numpy(x.astype(np.float64)).requires_grad_() for x in inputs]
    attends = isinstance(layer, nn.MultiheadAttention)
    theirs, ours = options.get("theirs", {}), options.get("ours", {})
    if attends:
        expected, _ = peer(*(leaves if len(leaves) == 3 else leaves * 3), need_weights=False, **theirs)
        y, none = layer(*inputs, **ours)
        assert none is None
    else:
        expected, y = peer(*leaves, **theirs), layer(*inputs, **ours)
    assert_close(y, expected.detach().numpy(), dtype)
    grad = np.random.default_rng(9).standard_normal(y.shape).astype(dtype)
    expected.backward(torch.from_numpy(grad.astype(np.float64)))
    found = layer.backward(grad)
    for own, leaf in zip(found if isinstance(found, tuple) else (found,), leaves, strict=True):
        assert_close(own, leaf.grad.numpy(), dtype)
    for name, parameter in peer.named_parameters():
        assert_close(layer.grads[name], parameter.grad.numpy(), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_attention_of_a_sequence_to_itself_and_to_another(batch_first: bool, bias: bool, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    for shapes in (((5, 3, 12),), ((5, 3, 12), (7, 3, 12), (7, 3, 12)), ((5, 12),), ((5, 12), (7, 12), (7, 12))):
        pair = _pair("MultiheadAttention", dtype, 12, 3, bias=bias, batch_first=batch_first)
        given = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        turned = batch_first and len(shapes[0]) == 3
        _agree(*pair, tuple(np.swapaxes(x, 0, 1).copy() if turned else x for x in given), dtype)


@pytest.mark.parametrize("kind", ["causal", "bools", "numbers", "each head", "padding", "both", "padding and causal"])
def test_masks_are_those_of_torch(kind: str) -> None:
    torch, peer, layer = _pair("MultiheadAttention", np.float64, 8, 2, batch_first=True)
    rng = np.random.default_rng(1)
    x, causal = rng.standard_normal((3, 6, 8)), ~np.tri(6, dtype=bool)
    padding, numbers = np.arange(6) >= np.array([[6], [4], [1]]), rng.standard_normal((6, 6))
    masks: dict[str, Any] = {
        "causal": {"attn_mask": causal},
        "bools": {"attn_mask": causal},
        "numbers": {"attn_mask": numbers},
        "each head": {"attn_mask": rng.standard_normal((6, 6, 6))},
        "padding": {"key_padding_mask": padding},
        "both": {"attn_mask": numbers, "key_padding_mask": np.where(padding, -np.inf, 0.0)},
        "padding and causal": {"attn_mask": causal, "key_padding_mask": padding},
    }[kind]
    theirs = {name: torch.from_numpy(mask) for name, mask in masks.items()}
    ours = {"causal": {"is_causal": True}, "padding and causal": {"is_causal": True, "key_padding_mask": padding}}
    _agree(torch, peer, layer, (x,), np.float64, theirs=theirs, ours=ours.get(kind, masks))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_layer_of_a_transformer(norm_first: bool, activation: str, dtype: Any) -> None:
    options = {"dropout": 0.0, "norm_first": norm_first, "activation": activation, "batch_first": True}
    torch, peer, layer = _pair("TransformerEncoderLayer", dtype, 12, 3, 20, **options)
    x = np.random.default_rng(0).standard_normal((2, 5, 12)).astype(dtype)
    _agree(torch, peer, layer, (x,), dtype)
    mask = torch.from_numpy(~np.tri(5, dtype=bool))
    peer.zero_grad()
    _agree(torch, peer, layer, (x,), dtype, theirs={"src_mask": mask}, ours={"is_causal": True})


def test_layers_of_a_transformer() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    options = {"dropout": 0.0, "batch_first": True}
    own = nn.TransformerEncoderLayer(8, 2, 16, **options, dtype=np.float64, rng=0)
    net = nn.TransformerEncoder(own, 3, nn.LayerNorm(8, dtype=np.float64))
    peer_layer = torch.nn.TransformerEncoderLayer(8, 2, 16, **options, dtype=torch.double)
    peer = torch.nn.TransformerEncoder(peer_layer, 3, torch.nn.LayerNorm(8, dtype=torch.double))
    assert list(net.state_dict()) == list(peer.state_dict())
    for array in net.parameters().values():
        array[...] = np.random.default_rng(array.size).standard_normal(array.shape) / 3
    peer.load_state_dict({key: torch.from_numpy(a) for key, a in net.state_dict().items()})
    _agree(torch, peer, net, (np.random.default_rng(0).standard_normal((2, 5, 8)),), np.float64)


def test_dropout_of_weights_differs_from_call_to_call_and_is_repeated_by_its_offset() -> None:
    layer = nn.MultiheadAttention(8, 2, dropout=0.5, rng=0)
    x = np.random.default_rng(0).standard_normal((5, 2, 8)).astype(np.float32)
    first, _ = layer(x)
    second, _ = layer(x)
    assert not np.array_equal(first, second)
    layer.offset = 0
    np.testing.assert_array_equal(layer(x)[0], first)
    assert copy.deepcopy(layer).seed != layer.seed
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0], layer(x)[0])


def test_gradients_with_dropout_are_those_of_the_very_mask() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.3, dtype=np.float64, rng=0)
    rng = np.random.default_rng(0)
    x, grad, step = rng.standard_normal((3, 2, 4)), rng.standard_normal((3, 2, 4)), rng.standard_normal((3, 2, 4))
    randoms = [layer.self_attn, layer.dropout, layer.dropout1, layer.dropout2]

    def value(x: Any) -> float:
        for module in randoms:
            module.offset = 0
        return float((layer(x) * grad).sum())

    value(x)
    found = float((layer.backward(grad) * step).sum())
    h = 1e-6  # half of the digits
    assert found == pytest.approx((value(x + h * step) - value(x - h * step)) / (2 * h), rel=1e-6)


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_embedding(padding_idx: int | None) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    layer = nn.Embedding(6, 3, padding_idx, dtype=np.float64, rng=0)
    peer = torch.nn.Embedding(6, 3, padding_idx, dtype=torch.double)
    if padding_idx is not None:
        assert not layer.weight[padding_idx].any()
    peer.load_state_dict({"weight": torch.from_numpy(layer.weight.copy())})
    x = np.array([[0, 2, 5], [2, 2, 1]])
    y, expected = layer(x), peer(torch.from_numpy(x))
    np.testing.assert_array_equal(y, expected.detach().numpy())
    grad = np.random.default_rng(0).standard_normal(y.shape)
    expected.backward(torch.from_numpy(grad))
    assert layer.backward(grad) is None
    np.testing.assert_allclose(layer.grads["weight"], peer.weight.grad.numpy(), rtol=1e-14)


class _Classifier(nn.Module):
    """Of sequences of symbols."""

    def __init__(self) -> None:
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, rng=0)
        self.embedding, self.encoder = nn.Embedding(11, 8, rng=1), nn.TransformerEncoder(layer, 2)
        self.flatten, self.head = nn.Flatten(), nn.Linear(5 * 8, 3, rng=2)

    def forward(self, x: Any) -> Any:
        return self.head(self.flatten(self.encoder(self.embedding(x), is_causal=True)))

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        for layer in (self.head, self.flatten, self.encoder, self.embedding):
            grad_output = layer.backward(grad_output)
        return grad_output


def test_a_transformer_learns_as_a_program_as_it_does_without() -> None:
    x = np.random.default_rng(0).integers(0, 11, (32, 5))
    target = x[:, -1] % 3
    losses = []
    for compiled in (False, True):
        np.random.default_rng(0)
        net = _Classifier()
        for i, module in enumerate(m for m in net.modules() if hasattr(m, "seed")):
            module.seed = i
        loss, optimizer = nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=3e-3)

        def plain(x: Any, target: Any, net: Any = net, loss: Any = loss, optimizer: Any = optimizer) -> Any:
            value = loss(net(x), target)
            net.backward(loss.backward(), input_grad=False)
            optimizer.step(net.grads)
            return value

        step = nn.compile_step(net, loss, optimizer, x, target) if compiled else plain
        losses.append([float(step(x, target)) for _ in range(60)])
        net.eval()
        bound = net.bind(x)
        np.testing.assert_allclose(bound(x), net(x), rtol=1e-4, atol=1e-5)  # weights packed: sums in another order
    assert losses[0] == losses[1]
    assert losses[0][-1] < 0.3 * losses[0][0]


def test_resized_images_and_shuffled_pixels_in_a_program() -> None:
    net = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.PixelUnshuffle(2), nn.PixelShuffle(4))
    x = np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(fastdl.record(net, x)(x), net(x))
    assert net.backward(net(x)).shape == x.shape


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.MultiheadAttention(7, 2), ValueError, "embed_dim: found 7, expected a multiple of num_heads, 2"),
        (lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True), ValueError, "add_bias_kv: found True"),
        (lambda: nn.MultiheadAttention(8, 2, kdim=4), ValueError, "kdim: found 4"),
        (lambda: nn.MultiheadAttention(8, 2)(np.ones((5, 2, 8), "f"), need_weights=True), ValueError, "need_weights"),
        (lambda: nn.MultiheadAttention(8, 2)(np.ones((5, 2, 6), "f")), ValueError, "query: found shape"),
        (lambda: nn.MultiheadAttention(8, 2)(np.ones((5, 2, 8))), TypeError, "found dtype float64, expected float32"),
        (
            lambda: nn.MultiheadAttention(8, 2)(np.ones((5, 2, 8), "f"), attn_mask=np.ones((4, 5), bool)),
            ValueError,
            "attn_mask: found shape",
        ),
        (lambda: nn.TransformerEncoderLayer(8, 2, activation="tanh"), ValueError, "activation: found 'tanh'"),
        (lambda: nn.TransformerEncoder("layer", 2), TypeError, "encoder_layer: found str"),  # type: ignore[arg-type]
        (lambda: nn.Embedding(4, 2, padding_idx=4), ValueError, "padding_idx: found 4"),
        (lambda: nn.Embedding(4, 2)([4]), ValueError, "index: found one outside the rows"),
        (lambda: nn.Upsample(), ValueError, "size: found"),
        (lambda: nn.Upsample(3, mode="cubic"), ValueError, "mode: found 'cubic'"),
        (lambda: nn.PixelShuffle(0), ValueError, "upscale_factor: found 0"),
    ],
)
def test_mistakes(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
