"""Modules: forward and backward, parameters, the state, the tree, and their mistakes."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections import OrderedDict, deque
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
    with pytest.raises(TypeError, match="mode: found 'eval', expected True or False"):
        net.train("eval")


def test_buffers_have_torchs_names() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False))
    names = [f"1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")]
    assert list(net.buffers()) == names
    assert net.buffers()["1.running_var"] is net[1].running_var


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


class _Scale(nn.Module):
    """A layer of one's own; `wrong` makes its gradient of the weight so."""

    parameter_names = ("weight",)

    def __init__(self, features: int, wrong: float = 1.0) -> None:
        self.weight = np.linspace(0.5, 2, features)
        self.wrong = wrong

    def forward(self, x: Any) -> Any:
        self.save_for_backward(x)
        return x * self.weight

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        (x,) = self.saved
        self.set_grads(weight=self.wrong * (grad_output * x).sum(0))
        return grad_output * self.weight


def _x(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def _small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4, dtype=np.float64, rng=0), nn.Tanh(), nn.Linear(4, 2, dtype=np.float64, rng=1))


def _peer(torch: Any, net: nn.Module, peer: Any) -> Any:
    peer = peer.double()
    peer.load_state_dict({name: torch.from_numpy(array) for name, array in net.state_dict().items()})
    return peer


def _assert_same_grads(net: nn.Module, peer: Any) -> None:
    expected = {name: p.grad for name, p in peer.named_parameters() if p.grad is not None}
    assert list(net.grads) == list(expected)
    for name, grad in net.grads.items():
        np.testing.assert_allclose(grad, expected[name].numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mode", [True, False])
def test_a_network_called_several_times_is_answered_in_reverse(mode: bool) -> None:
    """A triplet of a siamese network, as torch; in eval mode only one forward is kept, which is an error."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = _small().train(mode)
    peer = _peer(torch, net, torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)))
    inputs, grads = [_x(5, 3, seed=i) for i in range(3)], [_x(5, 2, seed=9 + i) for i in range(3)]
    for _ in range(2):  # two passes: the second begins anew
        results = [net(x) for x in inputs]
        if not mode:
            net.backward(grads[2])
            with pytest.raises(RuntimeError, match=r"Linear\.backward: the forward was too long ago"):
                net.backward(grads[1])
            return
        peer_inputs = [torch.from_numpy(x).requires_grad_() for x in inputs]
        peer.zero_grad()
        torch.autograd.backward([peer(x) for x in peer_inputs], [torch.from_numpy(g) for g in grads])
        for i in (2, 1, 0):
            np.testing.assert_allclose(net.backward(grads[i]), peer_inputs[i].grad.numpy(), rtol=1e-12)
        _assert_same_grads(net, peer)
        with pytest.raises(RuntimeError, match=r"Linear\.backward: called more often than forward"):
            net.backward(grads[0])
    assert len(results) == 3


@pytest.mark.parametrize("mode", [True, False])
def test_a_layer_in_two_places_of_a_network(mode: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    shared, act = nn.Linear(3, 3, dtype=np.float64, rng=0), nn.Tanh()
    net = nn.Sequential(shared, act, nn.Sequential(shared, act), shared).train(mode)
    peer_shared = torch.nn.Linear(3, 3)
    peer = torch.nn.Sequential(
        peer_shared, torch.nn.Tanh(), torch.nn.Sequential(peer_shared, torch.nn.Tanh()), peer_shared
    )
    assert list(net.state_dict()) == list(peer.state_dict())
    assert list(net.parameters()) == [name for name, _ in peer.named_parameters()]
    assert [name for name, _ in net.named_modules()] == ["", "0", "1", "2"]
    peer = _peer(torch, net, peer)
    x, grad = _x(5, 3), _x(5, 3, seed=1)
    peer_x = torch.from_numpy(x).requires_grad_()
    peer(peer_x).backward(torch.from_numpy(grad))
    for _ in range(3):
        net(x)
        np.testing.assert_allclose(net.backward(grad), peer_x.grad.numpy(), rtol=1e-12)
        _assert_same_grads(net, peer)


def test_a_cell_in_a_loop_is_differentiable_in_eval_mode_too() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Loop(nn.Module):
        def __init__(self) -> None:
            self.cell = nn.GRUCell(3, 4, dtype=np.float64, rng=0)

        def forward(self, xs: Any) -> Any:
            h = None
            for x in xs:
                h = self.cell(x, h)
            self.save_for_backward(len(xs))
            return h

        def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
            (steps,) = self.saved
            grads = []
            for _ in range(steps):
                grads.append(self.cell.backward(grad_output))
                grad_output = self.cell.state_grad
            return np.stack(grads[::-1])

    loop, peer, xs = Loop().eval(), torch.nn.GRUCell(3, 4).double(), _x(20, 2, 3)
    _peer(torch, loop.cell, peer)
    peer_xs, h = torch.from_numpy(xs).requires_grad_(), None
    for x in peer_xs:
        h = peer(x, h)
    h.sum().backward()
    y = loop(xs)
    np.testing.assert_allclose(loop.backward(np.ones_like(y)), peer_xs.grad.numpy(), rtol=1e-10)
    _assert_same_grads(loop.cell, peer)


def _alive(net: nn.Module, x: np.ndarray, calls: int) -> int:
    """How many of the inputs of so many calls are still held after them."""
    refs = []
    for _ in range(calls):
        given = x.copy()
        refs.append(weakref.ref(given))
        net(given)
        del given
    gc.collect()
    return sum(ref() is not None for ref in refs)


def test_what_forward_saved_is_held_for_as_long_as_documented() -> None:
    net, x = _small(), _x(5, 3)
    assert _alive(net, x, 10) == net.max_forwards == 4
    net.backward(net(x))
    assert _alive(net.eval(), x, 10) == 1
    net.backward(net(x))
    with nn.no_grad():
        assert not nn.is_grad_enabled()
        assert _alive(net, x, 10) == 0
    assert nn.is_grad_enabled()
    given = x.copy()
    ref, y = weakref.ref(given), net(given)
    del given
    net.backward(y)
    assert ref() is None
    net.train().max_forwards = 7
    assert _alive(net, x, 10) == 7


def test_no_grad_leaves_what_waits() -> None:
    net, x = _small(), _x(5, 3)
    expected = net.backward(np.ones_like(net(x)))
    y = net(x)
    with nn.no_grad():
        net(2 * x)
    np.testing.assert_array_equal(net.backward(np.ones_like(y)), expected)


def test_a_validation_between_backward_and_step_leaves_the_gradients() -> None:
    net, x = _small(), _x(5, 3)
    net.backward(np.ones_like(net(x)))
    before = net.grads
    net.eval()(2 * x)
    assert net.grads.keys() == before.keys()
    assert all(net.grads[name] is before[name] for name in before)


def test_a_forward_in_the_other_mode_takes_nothing_away() -> None:
    net, inputs, grad = _small(), [_x(5, 3, seed=i) for i in range(3)], _x(5, 2, seed=9)
    expected = [(net(x), net.backward(grad))[1] for x in inputs]
    net.zero_grad()
    net(inputs[0]), net(inputs[1])
    net.eval()(inputs[2])
    np.testing.assert_array_equal(net.train().backward(grad), expected[1])
    np.testing.assert_array_equal(net.eval().backward(grad), expected[2])
    net(inputs[2])
    np.testing.assert_array_equal(net.train().backward(grad), expected[0])
    np.testing.assert_array_equal(net.backward(grad), expected[2])  # of the only forward that there is
    with pytest.raises(RuntimeError, match=r"Linear\.backward: called more often than forward"):
        net.backward(grad)


def test_a_part_in_eval_mode_is_answered_as_often_as_the_network() -> None:
    """Frozen normalization, in a siamese network and where a forward is done again inside of backward."""
    net = nn.Sequential(nn.Linear(3, 3, dtype=np.float64, rng=0), nn.BatchNorm1d(3, dtype=np.float64))
    net[1].eval()
    inputs, grad = [_x(5, 3, seed=i) for i in range(3)], _x(5, 3, seed=9)
    expected = [(net(x), net.backward(grad))[1] for x in inputs]
    for x in inputs:
        net(x)
    for i in (2, 1, 0):
        np.testing.assert_array_equal(net.backward(grad), expected[i])


def test_gradients_are_those_of_the_last_pass() -> None:
    """Also where it did not come by a layer that an earlier one did."""

    class Either(nn.Module):
        def __init__(self) -> None:
            self.a, self.b = _Scale(3), _Scale(3)

        def forward(self, x: Any, which: str = "a") -> Any:
            self.save_for_backward(which)
            return getattr(self, which)(x)

        def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
            return getattr(self, self.saved[0]).backward(grad_output)

    net, x = Either(), _x(5, 3)
    for which in ("a", "b", "b", "a"):
        net.backward(net(x, which))
        assert list(net.grads) == [f"{which}.weight"]
    net(x, "a"), net(x, "b")
    net.backward(x), net.backward(x)
    assert list(net.grads) == ["a.weight", "b.weight"]
    net.zero_grad()
    for which in ("a", "b"):
        net.backward(net(x, which))
    assert list(net.grads) == ["a.weight", "b.weight"]


def test_gradients_add_up_after_zero_grad() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = _small()
    peer = _peer(torch, net, torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)))
    for _ in range(2):
        net.zero_grad()
        peer.zero_grad()
        assert net.grads == {}
        for seed in range(3):
            x, grad = _x(5, 3, seed=seed), _x(5, 2, seed=9 + seed)
            net(x)
            net.backward(grad)
            peer(torch.from_numpy(x)).backward(torch.from_numpy(grad))
        _assert_same_grads(net, peer)
    net.zero_grad(accumulate=False)
    for _ in range(2):
        net(x)
        net.backward(grad)
    peer.zero_grad()
    peer(torch.from_numpy(x)).backward(torch.from_numpy(grad))
    _assert_same_grads(net, peer)


def test_a_backward_that_fails_may_be_tried_again() -> None:
    layer, x = _Scale(3), _x(5, 3)
    y = layer(x)
    with pytest.raises(ValueError, match="operands could not be broadcast"):
        layer.backward(y[:, :2])
    assert layer.grads == {}
    np.testing.assert_array_equal(layer.backward(y), y * layer.weight)
    np.testing.assert_array_equal(layer.grads["weight"], (y * x).sum(0))


def test_a_forward_inside_of_backward_does_not_begin_a_pass() -> None:
    """Checkpointing: the forward is done again when its backward is due."""

    class Checkpoint(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            self.module = module

        def forward(self, x: Any) -> Any:
            self.save_for_backward(x)
            with nn.no_grad():
                return self.module(x)

        def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
            self.module(*self.saved)
            return self.module.backward(grad_output)

    layer, x, grad = nn.Linear(3, 3, dtype=np.float64, rng=0), _x(5, 3), _x(5, 3, seed=1)
    plain, saving = nn.Sequential(layer, nn.Tanh(), layer), Checkpoint(nn.Sequential(layer, nn.Tanh()))
    plain(x)
    expected = plain.backward(grad), plain.grads
    net = nn.Sequential(saving, Checkpoint(layer))
    for _ in range(2):
        net(x)
        np.testing.assert_array_equal(net.backward(grad), expected[0])
        for found, wanted in zip(net.grads.values(), expected[1].values(), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-13)


class _Double(nn.Module):
    """In place, as a user would write it."""

    def forward(self, x: Any) -> Any:
        x *= 2
        return x

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        return 2 * grad_output


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.ReLU6(), nn.Dropout(0.5, inplace=True, seed=0)),
        lambda: nn.Sequential(nn.Sigmoid(), nn.ReLU(inplace=True), _Double()),
        lambda: nn.Sequential(nn.Softmax(), _Double()),
        lambda: nn.Residual(nn.Sequential(nn.Identity(), _Double())),
        lambda: nn.Residual(nn.ReLU(inplace=True)),
        lambda: nn.Concat(nn.ReLU(inplace=True), _Scale(3)),
    ],
)
@pytest.mark.parametrize("calls", [1, 3])
def test_what_was_written_over_in_place_is_refused(make: Any, calls: int) -> None:
    net, x = make(), _x(5, 3)
    for _ in range(calls):
        y = net(x.copy())
    with pytest.raises(RuntimeError, match=r"\.backward: an array that forward saved was written over"):
        net.backward(y)


def test_one_element_that_was_written_over_is_found_in_the_first_passes_and_a_new_array_always() -> None:
    layer, x = _Scale(30), _x(5, 30)
    for i in range(6):
        given = x.copy()
        layer(given)
        given[0, 1] += 1
        if i < 2:
            with pytest.raises(RuntimeError, match="written over"):
                layer.backward(x)
        layer(x)
        layer.backward(x)
    given = x.copy()
    layer(given)
    given[...] = _x(5, 30, seed=1)
    with pytest.raises(RuntimeError, match="written over"):
        layer.backward(x)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(_Scale(3), nn.Dropout(0.5, inplace=True, seed=0), nn.ReLU(inplace=True), _Scale(3)),
        nn.Sequential(_Scale(3), _Double(), nn.Flatten(), nn.Tanh()),
    ],
)
def test_in_place_layers_where_nothing_needs_what_they_overwrite(net: nn.Module) -> None:
    x = np.where(_x(5, 3) == 0, np.nan, _x(5, 3))
    for _ in range(4):
        y = net(x)
        assert np.isfinite(net.backward(np.ones_like(y))).all()


def test_nan_is_not_taken_for_a_change() -> None:
    layer = _Scale(3)
    y = layer(np.full((2, 3), np.nan))
    assert np.isnan(layer.backward(y)).all()


def test_frozen_parameters_get_no_gradient() -> None:
    net, x = _small(), _x(5, 3)
    expected = net.backward(np.ones_like(net(x))), net.grads
    net.requires_grad_(False, "0.weight")
    np.testing.assert_array_equal(net.backward(np.ones_like(net(x))), expected[0])
    assert list(net.grads) == ["0.bias", "2.weight", "2.bias"]
    assert list(net.parameters()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert net[2].requires_grad_(False) is net[2]
    net.backward(np.ones_like(net(x)))
    assert list(net.grads) == ["0.bias"]
    assert list(copy.deepcopy(net)[2]._frozen) != []
    net.requires_grad_()
    net.backward(np.ones_like(net(x)))
    assert list(net.grads) == list(expected[1])
    with pytest.raises(ValueError, match=r"names: found '0.wait', expected among \['0.weight'"):
        net.requires_grad_(False, "0.wait")


def test_tied_parameters_are_one() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def tied(library: Any, **options: Any) -> Any:
        net = library.Sequential(library.Linear(3, 3, **options), library.Tanh(), library.Linear(3, 3, **options))
        net[2].weight = net[0].weight
        return net

    net = tied(nn, dtype=np.float64, rng=0)
    peer = _peer(torch, net, tied(torch.nn))
    assert list(net.parameters()) == [name for name, _ in peer.named_parameters()] == ["0.weight", "0.bias", "2.bias"]
    assert list(net.state_dict()) == list(peer.state_dict())
    x = _x(5, 3)
    peer(torch.from_numpy(x)).sum().backward()
    net.backward(np.ones_like(net(x)))
    _assert_same_grads(net, peer)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), copy.deepcopy(net).to(np.float32)):
        assert other[2].weight is other[0].weight
        assert other[0].weight is not net[0].weight
    net[2].requires_grad_(False)
    net.backward(np.ones_like(net(x)))
    assert list(net.grads) == ["0.bias"]


def test_copies_and_pickles_hold_no_batch() -> None:
    net, x = _small(), _x(500, 3)
    size = len(pickle.dumps(net))
    net.backward(net(x)[:, :])
    y = net(x)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(other.eval()(x), y)
        assert other.grads == {}
        other.train()
        with pytest.raises(RuntimeError, match="called before forward"):
            other.backward(other.backward(y))
    assert len(pickle.dumps(net)) < size + 100
    other = _small()
    other(x)
    np.testing.assert_array_equal(net.backward(y), other.backward(y))  # the copies took nothing away


def test_threads_share_a_network() -> None:
    """Each gets the gradients of its own forward, whatever others do in between."""
    net = _small()
    inputs = [_x(50, 3, seed=i) for i in range(8)]
    expected = [(net(x), net.backward(np.ones((50, 2)))) for x in inputs]
    barrier, failures = threading.Barrier(8), []

    def work(i: int) -> None:
        for _ in range(20):
            barrier.wait()
            y = net(inputs[i])
            barrier.wait()
            grad = net.backward(np.ones((50, 2)))
            if not (np.array_equal(y, expected[i][0]) and np.array_equal(grad, expected[i][1])):
                failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_repr_is_torchs() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def make(library: Any) -> Any:
        block = {"fc": library.Flatten(), "act": library.Sequential(library.Identity(), library.Unflatten(1, (2, -1)))}
        return library.Sequential(
            library.Identity(),
            library.Sequential(OrderedDict(block)),
            library.ModuleList([library.Identity(), library.Identity(), library.Flatten(2)]),
            library.ModuleDict(block),
            library.Sequential(),
        )

    assert repr(make(nn)) == repr(make(torch.nn))


def test_repr_with_lines_of_its_own() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            self.child = nn.Identity()

        def extra_repr(self) -> str:
            return "a=1\nb=2"

    assert repr(Two()) == "Two(\n  a=1\n  b=2\n  (child): Identity()\n)"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([nn.ReLU()], "ModuleList"),
        ((1, nn.ReLU()), "ModuleList"),
        ({"a": nn.ReLU()}, "ModuleDict"),
        ([[1], [nn.ReLU()]], "ModuleList"),
        ({nn.ReLU()}, "ModuleList"),
        (OrderedDict(a=nn.ReLU()), "ModuleDict"),
        (deque([nn.ReLU()]), "ModuleList"),
    ],
)
def test_modules_in_a_plain_list_are_refused(value: Any, kind: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.layers = value

    with pytest.raises(TypeError, match=rf"Net\.layers: found modules in a \w+, expected an nn\.{kind}"):
        Net()


@pytest.mark.parametrize("ask", [lambda n: n.parameters(), lambda n: n.eval(), lambda n: n(1), lambda n: repr(n)])
def test_modules_that_came_into_a_plain_list_later_are_refused(ask: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.layers: list[Any] = []
            self.layers.append(nn.ReLU())

        def forward(self, x: Any) -> Any:
            return x

    with pytest.raises(TypeError, match=r"Net\.layers: found modules in a list, expected an nn\.ModuleList"):
        ask(Net())


def test_modules_and_parameters_may_be_assigned_later() -> None:
    net = nn.Sequential(nn.Flatten(), _Scale(3))
    net[1].inner = _Scale(2)
    net[0] = nn.Sequential(_Scale(4))
    assert list(net.parameters()) == ["0.0.weight", "1.weight", "1.inner.weight"]
    with pytest.raises(TypeError, match=r"_Scale\.weight: found list, expected an array or None"):
        net[1].weight = [1.0]
    del net[1].inner
    net[1].weight = None
    assert list(net.parameters()) == ["0.0.weight"]


def test_apply_goes_up_from_the_leaves() -> None:
    seen: list[str] = []
    net = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Flatten())
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["ReLU", "Tanh", "Sequential", "Flatten", "Sequential"]
    assert [name for name, _ in net.named_children()] == ["0", "1"]
    assert list(dict(_small().named_parameters())) == list(_small().parameters())


def test_set_grads_takes_declared_parameters_of_their_shape() -> None:
    layer = _Scale(3)
    with pytest.raises(ValueError, match=r"_Scale.set_grads: found 'wait', expected one of \['weight'\]"):
        layer.set_grads(wait=np.zeros(3))
    with pytest.raises(ValueError, match=r"_Scale.set_grads: weight: found \(2,\), expected \(3,\)"):
        layer.set_grads(weight=np.zeros(2))


def test_load_state_dict_that_is_not_strict() -> None:
    net = _small()
    state = {name: array + 1 for name, array in net.state_dict().items()}
    state["extra"] = state.pop("0.bias")
    before = net[0].bias.copy()
    keys = net.load_state_dict(state, strict=False)
    assert keys == (["0.bias"], ["extra"])
    assert keys.missing_keys == ["0.bias"]
    np.testing.assert_array_equal(net[0].bias, before)
    np.testing.assert_array_equal(net[2].bias, state["2.bias"])
    with pytest.raises(ValueError, match=r"'2\.bias': found shape"):
        net.load_state_dict({"2.bias": np.zeros(3)}, strict=False)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_checkpoints_of_other_precision_are_converted(dtype: Any) -> None:
    net = _network(rng=0)
    state = {name: (array * 0 + 0.1).astype(dtype) for name, array in net.state_dict().items()}
    net.load_state_dict(state)
    for array in net.parameters().values():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.float32(dtype(0.1)))


def test_save_and_load(tmp_path: Any) -> None:
    net, other = _network(rng=0), _network(rng=1)
    path = tmp_path / "weights"  # no ending is added
    net.save(path)
    assert other.load(str(path)) == ([], [])
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(other.parameters()[name], array)
    with pytest.raises(TypeError, match=r"state: found str, expected a mapping .*; load\(path\) reads a file"):
        other.load_state_dict("weights.npz")
    with pytest.raises(TypeError, match="state: found list"):
        other.load_state_dict([1])
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match="path: found one array"):
        other.load(tmp_path / "one.npy")
    with pytest.raises(FileNotFoundError):
        other.load(tmp_path / "none.npz")


def test_optimizers_leave_frozen_parameters_as_they_are() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = _small().requires_grad_(False, "0.weight")
    peer = _peer(torch, net, torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)))
    peer[0].weight.requires_grad_(False)
    optimizer = optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    peer_optimizer = torch.optim.AdamW(peer.parameters(), lr=0.1, weight_decay=0.1)
    for seed in range(3):
        x, grad = _x(5, 3, seed=seed), _x(5, 2, seed=9 + seed)
        net(x)
        net.backward(grad, input_grad=False)
        optimizer.step(net.grads)
        peer_optimizer.zero_grad()
        peer(torch.from_numpy(x)).backward(torch.from_numpy(grad))
        peer_optimizer.step()
    for name, parameter in peer.named_parameters():
        np.testing.assert_allclose(net.parameters()[name], parameter.detach().numpy(), rtol=1e-10)
