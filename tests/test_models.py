"""Whole networks against PyTorch: the same names, results and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import models, nn

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from tests.torch_models import VGG, Classifier, LeNet, MobileNet, ResNet, UNet  # noqa: E402

F64: Any = {"dtype": np.float64, "rng": 0}
MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], tuple[int, ...]]] = {
    "lenet": (lambda: models.lenet(**F64), LeNet, (4, 1, 28, 28)),
    "vgg11": (lambda: models.vgg11(5, hidden=32, **F64), lambda: VGG(False), (2, 3, 32, 32)),
    "vgg11, norms": (
        lambda: models.vgg11(5, hidden=32, batch_norm=True, **F64), lambda: VGG(True), (2, 3, 32, 48),
    ),
    "resnet18": (lambda: models.resnet18(5, **F64), lambda: ResNet((2, 2, 2, 2), False, False), (2, 3, 64, 48)),
    "resnet18, small": (
        lambda: models.resnet18(5, small=True, **F64), lambda: ResNet((2, 2, 2, 2), False, True), (2, 3, 16, 24),
    ),
    "resnet50": (lambda: models.resnet50(5, **F64), lambda: ResNet((3, 4, 6, 3), True, False), (2, 3, 64, 48)),
    "mobilenet_v2": (lambda: models.mobilenet_v2(5, **F64), MobileNet, (2, 3, 64, 48)),
    "unet": (lambda: models.unet(2, width=8, depth=3, **F64), UNet, (2, 3, 24, 32)),
    "lstm_classifier": (
        lambda: models.lstm_classifier(4, 3, hidden=16, layers=2, bidirectional=True, **F64), Classifier, (9, 3, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_results_and_gradients_are_torchs(name: str) -> None:
    """In float64, in which what 50 layers round is small: a wrong one is seen."""
    make, make_peer, shape = MODELS[name]
    torch.manual_seed(0)
    net, peer = make(), make_peer().double()
    assert list(net.state_dict()) == list(peer.state_dict())
    net.load_state_dict(peer.state_dict())
    for part in (net, peer):
        for module in part.modules():
            if type(module).__name__ == "Dropout":
                module.eval()  # the masks differ
    x = np.random.default_rng(0).standard_normal(shape)
    tensor = torch.from_numpy(x).requires_grad_()
    expected = peer(tensor)
    grad = np.random.default_rng(1).standard_normal(expected.shape)
    expected.backward(torch.from_numpy(grad))
    _near(net(x), expected.detach().numpy())
    _near(net.backward(grad), tensor.grad.numpy())
    grads = net.grads
    assert list(grads) == [name for name, _ in peer.named_parameters()]
    for key, parameter in peer.named_parameters():
        _near(grads[key], parameter.grad.numpy(), key)
    state = net.state_dict()
    for key, array in peer.state_dict().items():
        _near(state[key], array.numpy(), key)
    net.eval()
    peer.eval()
    with torch.no_grad():
        _near(net(x), peer(torch.from_numpy(x)).numpy())


def _near(found: Any, expected: Any, message: str = "") -> None:
    """Within 1e-9 of the largest: sums of up to 10^5 terms of 1e-16, through 50 layers and norms over few numbers."""
    assert found.shape == expected.shape
    largest = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * largest + 1e-13, err_msg=message)


@pytest.mark.parametrize("name", ["resnet18, small", "mobilenet_v2", "unet"])
def test_binds_to_a_program_of_few_kernels(name: str) -> None:
    """Norms become part of convolutions, also within graphs, and so do sums in residual networks."""
    net = MODELS[name][0]().to(np.float32)
    x = np.random.default_rng(0).standard_normal(MODELS[name][2]).astype(np.float32)
    net(x)
    y = net.eval()(x)
    program = net.bind(x)
    np.testing.assert_allclose(program(x), y, rtol=0, atol=1e-4 * np.abs(y).max())
    kernels = [line.split()[0] for line in str(program).splitlines()]
    assert "conv" in kernels
    assert "normalize" not in kernels
    assert "add" not in kernels


def test_resnet50_is_torchvisions() -> None:
    """Its published number of parameters."""
    assert sum(array.size for array in models.resnet50().parameters().values()) == 25_557_032
    assert sum(array.size for array in models.resnet18().parameters().values()) == 11_689_512
    assert sum(array.size for array in models.mobilenet_v2().parameters().values()) == 3_504_872


@pytest.mark.parametrize("make", [lambda: models.vgg11(5, hidden=8, rng=0), lambda: models.mobilenet_v2(5, rng=0)])
def test_the_same_rng_makes_a_network_that_trains_the_same(make: Any) -> None:
    one, other = ([m.seed for m in net.modules() if isinstance(m, nn.Dropout)] for net in (make(), make()))
    assert one
    assert one == other
    assert len(set(one)) == len(one)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.unet(depth=0), "depth: found 0"),
        (lambda: models.resnet18(0), "classes: found 0"),
        (lambda: models.lenet(channels=0), "channels: found 0"),
        (lambda: models.vgg11(hidden=-1), "hidden: found -1"),
        (lambda: models.mobilenet_v2(width=0), "width: found 0, expected a finite number above 0"),
        (lambda: models.mobilenet_v2(width=float("nan")), "width: found nan"),
        (lambda: models.lstm_classifier(3, 0), "classes: found 0"),
    ],
)
def test_mistakes(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
    assert fastdl.models is models
