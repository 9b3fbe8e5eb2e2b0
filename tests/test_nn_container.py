"""Containers: against PyTorch, which has to find the same results, gradients and names, and their mistakes."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from fastdl import nn

F64 = {"dtype": np.float64}


def _x(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def _check(net: nn.Module, peer: Any, x: np.ndarray, **options: Any) -> None:
    """Two passes, so that nothing is left over from the first."""
    import torch

    peer = peer.double()
    peer.load_state_dict({name: torch.from_numpy(array) for name, array in net.state_dict().items()})
    peer_x = torch.from_numpy(x).requires_grad_()
    expected = peer(peer_x)
    grad = _x(*expected.shape, seed=1)
    expected.backward(torch.from_numpy(grad))
    for _ in range(2):
        y = net(x, **options)
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12)
        np.testing.assert_allclose(net.backward(grad), peer_x.grad.numpy(), rtol=1e-11, atol=1e-14)
        for name, parameter in peer.named_parameters():
            np.testing.assert_allclose(net.grads[name], parameter.grad.numpy(), rtol=1e-11, atol=1e-14)
    net(x, **options)
    before = net.grads
    net.backward(grad, input_grad=False)
    for name, array in net.grads.items():
        np.testing.assert_array_equal(array, before[name])


def test_residual_and_concat_agree_with_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Residual(torch.nn.Module):
        def __init__(self, module: Any, shortcut: Any = None) -> None:
            super().__init__()
            self.module = module
            self.shortcut = shortcut

        def forward(self, x: Any) -> Any:
            return self.module(x) + (x if self.shortcut is None else self.shortcut(x))

    class Concat(torch.nn.Sequential):
        def forward(self, x: Any) -> Any:
            return torch.cat([module(x) for module in self], 1)

    def make(library: Any, residual: Any, concat: Any, **options: Any) -> Any:
        def conv(a: int, b: int) -> Any:
            return library.Conv2d(a, b, 3, padding=1, **options)

        return library.Sequential(
            conv(2, 4),
            residual(library.Sequential(conv(4, 4), library.Tanh(), conv(4, 4))),
            concat(library.Identity(), conv(4, 3), library.Sequential(library.Tanh(), conv(4, 1))),
            residual(conv(8, 2), library.Conv2d(8, 2, 1, **options)),
            library.Flatten(),
            library.Unflatten(1, (2, -1)),
        )

    _check(make(nn, nn.Residual, nn.Concat, **F64), make(torch.nn, Residual, Concat), _x(3, 2, 4, 5))


@pytest.mark.parametrize(("name", "bidirectional"), [("LSTM", True), ("GRU", False), ("RNN", True)])
@pytest.mark.parametrize("lengths", [None, np.array([4, 7, 1])])
def test_last_state_agrees_with_torch(name: str, bidirectional: bool, lengths: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    options = {"num_layers": 2, "bidirectional": bidirectional}

    class Last(torch.nn.Sequential):
        def forward(self, x: Any) -> Any:
            if lengths is not None:
                x = torch.nn.utils.rnn.pack_padded_sequence(x, torch.from_numpy(lengths), enforce_sorted=False)
            state = self[0](x)[1]
            h = state[0] if isinstance(state, tuple) else state
            return self[2](torch.cat([*h[-1 - bidirectional :]], -1))

    width = 10 if bidirectional else 5
    recurrent = getattr(nn, name)(4, 5, **options, **F64)
    net = nn.Sequential(nn.Identity(), nn.Sequential(recurrent, nn.LastState(), nn.Linear(width, 2, **F64)))
    peer = Last(getattr(torch.nn, name)(4, 5, **options), torch.nn.Identity(), torch.nn.Linear(width, 2))
    _check(net[1], peer, _x(7, 3, 4), **({} if lengths is None else {"lengths": lengths}))
    if lengths is not None:  # a keyword finds its layer at any depth
        np.testing.assert_array_equal(net(_x(7, 3, 4), lengths=lengths), net[1](_x(7, 3, 4), lengths=lengths))


def test_last_state_of_one_sequence_and_of_something_else() -> None:
    lstm, last = nn.LSTM(4, 5, bidirectional=True, **F64), nn.LastState()
    x = _x(7, 4)
    net = nn.Sequential(lstm, last)
    y = net(x)
    np.testing.assert_array_equal(y, net(x[:, None])[0])
    grad = net.backward(y[None])
    net(x)
    np.testing.assert_array_equal(net.backward(y), grad[:, 0])
    with pytest.raises(ValueError, match=r"x: found ndarray, expected \(output, state\)"):
        last(x)


def test_a_recurrent_layer_at_the_end_takes_both_gradients() -> None:
    gru = nn.GRU(4, 5, **F64, rng=0)
    net = nn.Sequential(nn.Identity(), gru)
    y, state = net(_x(7, 3, 4))
    found = net.backward((y, state))
    gru(_x(7, 3, 4))
    np.testing.assert_array_equal(found, gru.backward(y, state))


def _named() -> nn.Sequential:
    return nn.Sequential({"fc1": nn.Linear(3, 4, **F64), "act": nn.ReLU(), "fc2": nn.Linear(4, 2, **F64)})


def test_sequential_is_had_by_position_name_and_slice() -> None:
    net = _named()
    assert net["fc1"] is net[0] is net[-3] is net.fc1
    assert net[np.int64(2)] is net["fc2"]
    head = net[1:]
    assert isinstance(head, nn.Sequential)
    assert list(head.state_dict()) == ["fc2.weight", "fc2.bias"]
    assert head.fc2 is net.fc2
    x = _x(5, 3)
    np.testing.assert_array_equal(net(x), head(net[:1](x)))
    assert list(net[::2].children()) == ["fc1", "fc2"]
    assert len(net) == len(list(net)) == 3
    for index, error, message in (
        (3, IndexError, "index: found 3, expected between -3 and 2"),
        (-4, IndexError, "index: found -4"),
        ("fc3", KeyError, r"'fc3': not among \['fc1', 'act', 'fc2'\]"),
        (1.0, TypeError, "index: found 1.0, expected an int, a slice or a name"),
        (True, TypeError, "index: found True"),
    ):
        with pytest.raises(error, match=message):
            net[index]
    with pytest.raises(AttributeError, match="'Sequential' object has no attribute 'fc3'"):
        _ = net.fc3


def test_sequential_changes_as_torchs() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def changed(library: Any) -> Any:
        net = library.Sequential(library.Identity(), library.Tanh(), library.Sigmoid())
        net.append(library.Flatten())
        net.insert(1, library.ReLU6())
        net[0] = library.Softsign()
        del net[2]
        net.extend([library.Tanh()])
        net.last = library.Identity()
        return net

    net, peer = changed(nn), changed(torch.nn)
    assert [(k, type(v).__name__) for k, v in net.children().items()] == [
        (k, type(v).__name__) for k, v in peer.named_children()
    ]
    del net.last
    assert list(net.children()) == ["0", "1", "2", "3", "4"]
    named = _named()
    named.insert(1, nn.Tanh()).append(nn.Identity())
    assert list(named.children()) == ["fc1", "1", "act", "fc2", "4"]
    del named["act"]
    del named[:1]
    assert list(named.children()) == ["0", "fc2", "2"]
    part = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Sigmoid())[1:]
    assert list(part.children()) == ["1", "2"]
    assert len(part.append(nn.ReLU())) == 3
    assert list(nn.Sequential().children()) == []
    np.testing.assert_array_equal(nn.Sequential()(_x(3)), _x(3))


class _Stack(nn.Module):
    def __init__(self) -> None:
        self.layers = nn.ModuleList(nn.Linear(3, 3, **F64, rng=i) for i in range(3))
        self.heads = nn.ModuleDict({"a": nn.Linear(3, 1, **F64, rng=7)})

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return self.heads["a"](x)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        grad_output = self.heads["a"].backward(grad_output)
        for layer in self.layers[::-1]:
            grad_output = layer.backward(grad_output)
        return grad_output


def test_a_first_layer_whose_backward_always_returns_the_gradient() -> None:
    class Negative(nn.Module):
        def forward(self, x: Any) -> Any:
            return -x

        def backward(self, grad_output: Any) -> Any:
            return -grad_output

    net = nn.Sequential(Negative(), nn.Linear(3, 2, **F64))
    y = net(_x(5, 3))
    net.backward(y, input_grad=False)
    assert list(net.grads) == ["1.weight", "1.bias"]


def test_the_input_by_torchs_name() -> None:
    x = _x(2, 6)
    for net in (nn.Sequential(nn.Identity()), nn.Identity(), nn.Flatten(), nn.Unflatten(1, (6,))):
        np.testing.assert_array_equal(net(input=x), x)


def test_module_list_and_dict_are_children() -> None:
    net, x = _Stack(), _x(5, 3)
    flat = nn.Sequential(*net.layers, net.heads["a"])
    grad = _x(5, 1)
    for other in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert list(other.parameters()) == [f"layers.{i}.{n}" for i in range(3) for n in ("weight", "bias")] + [
            "heads.a.weight",
            "heads.a.bias",
        ]
        np.testing.assert_array_equal(other(x), flat(x))
        np.testing.assert_array_equal(other.backward(grad), flat.backward(grad))
        for found, expected in zip(other.grads.values(), flat.grads.values(), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert not any(module.training for module in net.eval().modules())


def test_module_list_is_a_list_and_module_dict_a_dict() -> None:
    layers = nn.ModuleList([nn.ReLU()])
    layers.extend([nn.Tanh(), nn.Sigmoid()]).insert(0, nn.Identity())
    assert [type(m).__name__ for m in layers] == ["Identity", "ReLU", "Tanh", "Sigmoid"]
    assert list(layers[1:3].children()) == ["0", "1"]
    assert layers[-1] is layers[3]
    assert nn.Identity in map(type, layers + nn.ModuleList([nn.Flatten()]))
    assert len(layers + nn.ModuleList([nn.Flatten()])) == 5
    layers[0] = nn.Flatten()
    del layers[-1]
    assert [type(m).__name__ for m in layers] == ["Flatten", "ReLU", "Tanh"]
    heads = nn.ModuleDict({"a": nn.ReLU()})
    heads["b"] = nn.Tanh()
    heads.update({"c": nn.Sigmoid(), "a": nn.Identity()})
    assert list(heads) == list(heads.keys()) == ["a", "b", "c"]
    assert [type(m).__name__ for m in heads.values()] == ["Identity", "Tanh", "Sigmoid"]
    assert dict(heads.items())["b"] is heads["b"] is heads.b
    assert isinstance(heads.pop("b"), nn.Tanh)
    del heads["c"]
    assert "a" in heads
    assert "b" not in heads
    heads.clear()
    assert len(heads) == 0
    with pytest.raises(AttributeError, match="'ModuleList' object has no attribute 'forward'"):
        layers(1)


def test_features_by_name() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net, peer = (
        _named(),
        torch.nn.Sequential(
            OrderedDict({"fc1": torch.nn.Linear(3, 4), "act": torch.nn.ReLU(), "fc2": torch.nn.Linear(4, 2)})
        ).double(),
    )
    peer.load_state_dict({name: torch.from_numpy(array) for name, array in net.state_dict().items()})
    x = _x(5, 3)
    outer = nn.Sequential(net, nn.Tanh())
    found = outer.features(x, ["1", "0.act", "0.fc1", ""])
    assert list(found) == ["1", "0.act", "0.fc1", ""]
    for name, part in (("0.fc1", peer[:1]), ("0.act", peer[:2])):
        np.testing.assert_allclose(found[name], part(torch.from_numpy(x)).detach().numpy(), rtol=1e-12)
    assert found[""] is found["1"]
    overwritten = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    np.testing.assert_array_equal(overwritten.features(x.copy(), "0")["0"], x)
    with pytest.raises(ValueError, match=r"names: found 'fc1', expected among \['', '0', '0.fc1'"):
        outer.features(x, ["fc1"])
    net.unused = nn.ModuleList([nn.ReLU()])
    with pytest.raises(AttributeError):
        net(x)
    stack = _Stack()
    with pytest.raises(ValueError, match="names: found 'layers', which forward does not call"):
        stack.features(x, ["layers"])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Sequential(nn.ReLU(), "relu"), TypeError, "layers: found str as '1', expected a Module"),
        (lambda: nn.Sequential(nn.ReLU), TypeError, r"layers: found ReLU as '0', a class: expected one that is made"),
        (lambda: nn.Sequential({"a.b": nn.ReLU()}), ValueError, r"layers: found the name 'a.b', expected one that"),
        (lambda: nn.Sequential({"": nn.ReLU()}), ValueError, "layers: found the name ''"),
        (lambda: nn.Sequential(nn.ReLU())(_x(3), lengths=3), TypeError, "lengths: found a keyword that no layer of"),
        (lambda: nn.Sequential().insert(2, nn.ReLU()), IndexError, "index: found 2, expected between 0 and 0"),
        (lambda: nn.Sequential().append(3), TypeError, "layers: found int as '0'"),
        (lambda: nn.ModuleList([3]), TypeError, "layers: found int as '0'"),
        (lambda: nn.ModuleDict({"a": 3}), TypeError, "layers: found int as 'a'"),
        (lambda: nn.Residual(3), TypeError, "layers: found int as 'module'"),
        (lambda: nn.Concat(), ValueError, "modules: found none, expected at least one"),
        (
            lambda: nn.Residual(nn.Linear(3, 4, **F64))(_x(5, 3)),
            ValueError,
            r"x: found shape \(5, 3\) beside the module, expected \(5, 4\), .*\(a shortcut, Residual",
        ),
        (lambda: nn.Unflatten(1, (2, 3))(_x(5, 7)), ValueError, r"x: found size 7 in dimension 1, expected .*\(2, 3\)"),
        (lambda: nn.Unflatten(1, (2, -1))(_x(5, 7)), ValueError, "x: found size 7 in dimension 1"),
        (lambda: nn.Unflatten(3, (2, -1))(_x(5, 7)), ValueError, r"x: found shape \(5, 7\), expected dimension 3"),
        (lambda: nn.Unflatten(1, (-1, -1)), ValueError, "unflattened_size: found"),
        (lambda: nn.Unflatten(1, 3), TypeError, "unflattened_size: found int, expected a tuple"),
        (lambda: nn.Unflatten(1.0, (3,)), TypeError, "dim: found 1.0, expected an int"),
        (lambda: nn.Flatten("a"), TypeError, "start_dim: found 'a', expected an int"),
    ],
)
def test_mistakes(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
