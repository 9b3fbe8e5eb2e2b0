"""Modules: forward and backward, parameters, the state, the tree, and their mistakes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import nn, optim, reference
from tests.support import DTYPES, assert_close


def _network(library: Any = nn, **options: Any) -> Any:
    return library.Sequential(
        library.Conv2d(2, 4, 3, padding=1, **options),
        library.ReLU(),
        library.Conv2d(4, 6, (2, 3), stride=(1, 2), dilation=(2, 1), groups=2, bias=False, **options),
        library.MaxPool2d(2, stride=1, padding=1),
        library.Flatten(),
        library.Sequential(library.Linear(6 * 6 * 4, 5, **options), library.ReLU()),
        library.Linear(5, 3, bias=False, **options),
    )


SHAPES = {
    "0.weight": (4, 2, 3, 3),
    "0.bias": (4,),
    "2.weight": (6, 2, 2, 3),
    "5.0.weight": (5, 144),
    "5.0.bias": (5,),
    "6.weight": (3, 5),
}


def _data(dtype: Any, rows: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((rows, 2, 7, 8)).astype(dtype), rng.integers(0, 3, rows)


def _train_once(net: Any, loss: Any, x: np.ndarray, target: np.ndarray) -> tuple[Any, np.ndarray]:
    value = loss(net(x), target)
    return value, net.backward(loss.backward())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_network_agrees_with_torch(dtype: Any, reduction: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    peer = _network(torch.nn).double()
    net = _network(dtype=dtype)
    net.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
    x, target = _data(dtype)
    value, input_grad = _train_once(net, nn.CrossEntropyLoss(reduction=reduction), x, target)

    peer.load_state_dict({name: torch.from_numpy(a).double() for name, a in net.state_dict().items()})
    peer_x = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    expected = torch.nn.CrossEntropyLoss(reduction=reduction)(peer(peer_x), torch.from_numpy(target))
    expected.backward()
    assert_close(value, expected.item(), dtype)
    assert_close(input_grad, peer_x.grad.numpy(), dtype)
    grads = net.grads
    assert list(grads) == [name for name, _ in peer.named_parameters()]
    for name, parameter in peer.named_parameters():
        assert_close(grads[name], parameter.grad.numpy(), dtype)
        assert grads[name].dtype == dtype


def test_network_agrees_with_finite_differences() -> None:
    net, loss = _network(dtype=np.float64, rng=2), nn.CrossEntropyLoss()
    x, target = _data(np.float64, rows=3)
    _, input_grad = _train_once(net, loss, x, target)
    rng = np.random.default_rng(3)
    for array, grad in [(x, input_grad), *((a, net.grads[name]) for name, a in net.parameters().items())]:
        for index in rng.choice(array.size, min(8, array.size), replace=False):
            position = np.unravel_index(index, array.shape)
            values, before, step = [], array[position], 1e-6
            for sign in (1, -1):
                array[position] = before + sign * step
                values.append(float(loss(net(x), target)))
            array[position] = before
            # Central differences: rounding eps / step = 2e-10, truncation step^2 = 1e-12.
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(grad[position], rel=1e-6, abs=2e-9)


def test_the_reference_backend_runs_the_same_network() -> None:
    x, target = _data(np.float64)
    net, loss = _network(dtype=np.float64, rng=0), nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    other = copy.deepcopy(net)
    with nn.backend(reference):
        other_optimizer = optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            _train_once(other, loss, x, target)
            other_optimizer.step(other.grads)
    for _ in range(3):
        _train_once(net, loss, x, target)
        optimizer.step(net.grads)
    for name, array in net.parameters().items():
        np.testing.assert_allclose(array, other.parameters()[name], rtol=1e-10, atol=1e-12)


def test_backend_looks_functions_up_in_the_module_given() -> None:
    class Recorder:
        relu = staticmethod(lambda x, out=None: "recorded")

    with nn.backend(Recorder):
        assert nn.ReLU()(np.zeros(1)) == "recorded"
    assert nn.ReLU()(np.zeros(1)) == 0


def test_the_first_layer_may_skip_its_input_gradient() -> None:
    x, target = _data(np.float32)
    net, loss = _network(rng=0), nn.CrossEntropyLoss()
    _train_once(net, loss, x, target)
    grads = net.grads
    loss(net(x), target)
    assert net.backward(loss.backward(), input_grad=False).size == 0
    for name, grad in net.grads.items():
        np.testing.assert_array_equal(grad, grads[name])


def test_parameters_have_torch_names_and_shapes() -> None:
    net = _network()
    assert {name: a.shape for name, a in net.parameters().items()} == SHAPES
    assert {a.dtype for a in net.parameters().values()} == {np.dtype(np.float32)}
    assert net.parameters()["5.0.bias"] is net[5][0].bias


def test_state_dict_round_trip_through_a_file(tmp_path: Any) -> None:
    net, other = _network(rng=0), _network(rng=1)
    np.savez(tmp_path / "net.npz", **net.state_dict())
    held = other.parameters()
    other.load_state_dict(np.load(tmp_path / "net.npz"))
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(held[name], array)


def test_state_dict_is_a_copy() -> None:
    net = _network(rng=0)
    state = net.state_dict()
    net.parameters()["0.bias"][...] = 9
    assert not (state["0.bias"] == 9).any()


def test_load_state_dict_names_every_mistake_and_loads_nothing() -> None:
    net = _network(rng=0)
    before = net.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    state["extra.weight"] = state.pop("0.bias")
    state["5.0.weight"] = state["5.0.weight"][:, :10]
    state["6.weight"] = state["6.weight"].astype(np.int64)
    with pytest.raises(ValueError, match="state: ") as error:
        net.load_state_dict(state)
    for part in (
        "missing '0.bias'",
        "unexpected 'extra.weight'",
        "'5.0.weight': found shape (5, 10), expected (5, 144)",
        "'6.weight': found dtype int64",
    ):
        assert part in str(error.value)
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, before[name])


def test_attributes_that_are_modules_are_children() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Linear(3, 3, rng=0)

        def forward(self, x: Any) -> Any:
            return x + self.inner(x)

        def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
            return grad_output + self.inner.backward(grad_output)

    net = nn.Sequential({"block": Residual(), "last": nn.Linear(3, 1, rng=0)})
    assert list(net.parameters()) == ["block.inner.weight", "block.inner.bias", "last.weight", "last.bias"]
    x = np.ones((2, 3), np.float32)
    net.backward(np.ones_like(net(x)))
    assert list(net.grads) == list(net.parameters())


def test_train_and_eval_reach_every_layer() -> None:
    net = _network()
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    assert all(module.training for module in net.train().modules())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Unfold(1),
        nn.Fold(1, 1),
        nn.ZeroPad1d(1),
        nn.Linear(2, 3),
        nn.Conv2d(1, 1, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Sequential(nn.ReLU()),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_backward_before_forward(layer: nn.Module) -> None:
    with pytest.raises(RuntimeError, match="called before forward"):
        layer.backward(np.zeros((2, 3), np.float32))
    with pytest.raises(RuntimeError, match=r"CrossEntropyLoss.backward: called before forward"):
        nn.CrossEntropyLoss().backward()


def test_public_modules() -> None:
    assert fastdl.nn is nn
    assert fastdl.optim is optim
