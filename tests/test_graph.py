"""nn.Graph against PyTorch, and what it refuses."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import nn, optim

F64 = {"dtype": np.float64}


def _x(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def _block(**options: Any) -> nn.Graph:
    return nn.Graph(
        ("conv1", nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False, **options)),
        ("bn1", nn.BatchNorm2d(6, **({"dtype": options["dtype"]} if options else {}))),
        ("relu", nn.ReLU()),
        ("conv2", nn.Conv2d(6, 6, 3, padding=1, **options)),
        ("downsample", nn.Sequential(nn.Conv2d(4, 6, 1, stride=2, **options)), "x"),
        ("sum", nn.Add(), "conv2", "downsample"),
        ("out", nn.ReLU()),
    )


def _peer_block(torch: Any) -> Any:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(6)
            self.conv2 = torch.nn.Conv2d(6, 6, 3, padding=1)
            self.downsample = torch.nn.Sequential(torch.nn.Conv2d(4, 6, 1, stride=2))

        def forward(self, x: Any) -> Any:
            return (self.conv2(self.bn1(self.conv1(x)).relu()) + self.downsample(x)).relu()

    return Block()


def _same(net: nn.Module, peer: Any, *inputs: Any, **options: Any) -> None:
    """Results, gradients of inputs and parameters, twice, and in eval mode."""
    import torch

    peer = peer.double()
    peer.load_state_dict({name: torch.from_numpy(array) for name, array in net.state_dict().items()})
    for train in (True, True, False):
        net.train(train)
        peer.train(train)
        peer.zero_grad()
        given = [torch.from_numpy(x).requires_grad_(x.dtype.kind == "f") for x in inputs]
        expected = peer(*given)
        several = isinstance(expected, tuple)
        found = net(*inputs, **options)
        results = list(zip(found, expected, strict=True)) if several else [(found, expected)]
        grads = [_x(*y.shape, seed=i) for i, (y, _) in enumerate(results)]
        torch.autograd.backward([y for _, y in results], [torch.from_numpy(g) for g in grads])
        back = net.backward(tuple(grads) if several else grads[0])
        for y, want in results:
            np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-11, atol=1e-13)
        for grad, x in zip(back if len(given) > 1 else (back,), given, strict=True):
            if x.requires_grad:
                np.testing.assert_allclose(grad, x.grad.numpy(), rtol=1e-10, atol=1e-13)
        own = net.grads
        assert list(own) == [name for name, p in peer.named_parameters() if p.grad is not None]
        for name, parameter in peer.named_parameters():
            np.testing.assert_allclose(own[name], parameter.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_a_residual_block_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    _same(_block(**F64, rng=np.random.default_rng(0)), _peer_block(torch), _x(3, 4, 7, 8))


def test_graphs_in_sequentials_and_in_graphs_have_torchs_names() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer1 = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), _peer_block(torch))
            self.head = torch.nn.Conv2d(6, 2, 1)

        def forward(self, x: Any) -> Any:
            return self.head(self.layer1(x))

    def nested(rng: Any) -> nn.Module:
        layer = nn.Sequential(nn.Conv2d(3, 4, 1, **F64, rng=rng), _block(**F64, rng=rng))
        return nn.Graph(("layer1", layer), ("head", nn.Conv2d(6, 2, 1, **F64, rng=rng)))

    def flat(rng: Any) -> nn.Module:
        block = _block(**F64, rng=rng)
        return nn.Graph(
            ("layer1.0", nn.Conv2d(3, 4, 1, **F64, rng=rng)),
            ("layer1.1.conv1", block.conv1),
            ("layer1.1.bn1", block.bn1),
            ("relu", nn.ReLU()),
            ("layer1.1.conv2", block.conv2),
            ("layer1.1.downsample", block.downsample, "layer1.0"),
            ("sum", nn.Add(), "layer1.1.conv2", "layer1.1.downsample"),
            ("out", nn.ReLU()),
            ("head", nn.Conv2d(6, 2, 1, **F64, rng=rng)),
        )

    for make in (nested, flat):
        net = make(np.random.default_rng(0))
        assert list(net.parameters()) == [name for name, _ in Net().named_parameters()]
        _same(net, Net(), _x(2, 3, 5, 6))
    net = flat(0)
    assert net["layer1.1.bn1"] is net.children()["layer1.1.bn1"]


def test_inputs_results_and_a_shared_layer() -> None:
    """A value that goes three ways, a layer at three nodes, two inputs, two results, one of which is used as well."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(5, 5)
            self.twice = torch.nn.Linear(5, 5)
            self.head = torch.nn.Linear(15, 2)

        def forward(self, a: Any, b: Any) -> Any:
            h = self.first(a)
            left, right = self.twice(h).tanh(), self.twice(b)
            again = self.twice(left + right + h)
            return left, self.head(torch.cat([left, again, h], 1))

    rng = np.random.default_rng(0)
    shared = nn.Linear(5, 5, **F64, rng=rng)
    net = nn.Graph(
        ("first", nn.Linear(5, 5, **F64, rng=rng), "a"),
        ("twice", shared),
        ("left", nn.Tanh()),
        ("right", shared, "b"),
        ("sum", nn.Add(), "left", "right", "first"),
        ("again", shared),
        ("cat", nn.Cat(), "left", "again", "first"),
        ("head", nn.Linear(15, 2, **F64, rng=rng)),
        inputs=("a", "b"),
        outputs=("left", "head"),
    )
    a, b = _x(4, 5), _x(4, 5, seed=1)
    _same(net, Net(), a, b)
    for name, y in zip("ab", net(b=b, a=a), strict=True):
        np.testing.assert_array_equal(y, net(a, b)[name == "b"])
    assert nn.gradcheck(net, a, b)
    # A result that gets no gradient.
    peer = Net().double()
    peer.load_state_dict({name: torch.from_numpy(array) for name, array in net.state_dict().items()})
    left, _ = peer(torch.from_numpy(a), torch.from_numpy(b))
    net.train()
    net(a, b)
    left.sum().backward(retain_graph=True)
    net.backward((np.ones((4, 5)), None))
    for name, parameter in peer.named_parameters():
        expected = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy()
        np.testing.assert_allclose(net.grads[name], expected, rtol=1e-11, atol=1e-13)


def test_an_encoder_and_a_decoder() -> None:
    """States of a recurrent layer go on to another: results by index, and a layer with a second input."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.LSTM(3, 4)
            self.decoder = torch.nn.LSTM(2, 4)
            self.gru = torch.nn.GRU(4, 4)

        def forward(self, source: Any, target: Any) -> Any:
            _, state = self.encoder(source)
            y, (h, _) = self.decoder(target, state)
            return self.gru(y, h)[0]

    rng = np.random.default_rng(0)
    net = nn.Graph(
        ("encoder", nn.LSTM(3, 4, **F64, rng=rng), "source"),
        ("decoder", nn.LSTM(2, 4, **F64, rng=rng), "target", ("encoder", 1)),
        ("state", nn.Identity(), ("decoder", 1)),
        ("gru", nn.GRU(4, 4, **F64, rng=rng), ("decoder", 0), ("state", 0)),
        inputs=("source", "target"),
        outputs=("gru", 0),
    )
    _same(net, Net(), _x(6, 2, 3), _x(5, 2, 2))


def test_last_state_takes_a_tuple() -> None:
    net = nn.Graph(("lstm", nn.LSTM(3, 4, **F64, rng=0)), ("last", nn.LastState()), ("fc", nn.Linear(4, 2, **F64)))
    line = nn.Sequential(*net.children().values())
    x, lengths = _x(5, 3, 3), np.array([5, 2, 4])
    np.testing.assert_array_equal(net(x, lengths=lengths), line(x, lengths=lengths))
    assert nn.gradcheck(net, x, lengths=lengths)


def test_nodes_in_any_order() -> None:
    fc1, fc2 = nn.Linear(3, 4, **F64, rng=0), nn.Linear(4, 2, **F64, rng=1)
    net = nn.Graph(("fc2", fc2, "act"), ("act", nn.Tanh(), "fc1"), ("fc1", fc1, "x"), outputs="fc2")
    line, x = nn.Sequential(fc1, nn.Tanh(), fc2), _x(5, 3)
    np.testing.assert_array_equal(net(x), line(x))
    grad = net.backward(np.ones((5, 2)))
    line(x)
    np.testing.assert_array_equal(grad, line.backward(np.ones((5, 2))))
    assert [name for name, _, _ in net.nodes()] == ["fc1", "act", "fc2"]
    assert list(net.parameters()) == ["fc2.weight", "fc2.bias", "fc1.weight", "fc1.bias"]


def test_gradcheck_and_its_input_grad() -> None:
    net = _block(**F64, rng=np.random.default_rng(0))
    assert nn.gradcheck(net, _x(2, 4, 5, 5))
    x = _x(2, 4, 5, 5)
    y = net(x)
    net.backward(y)
    expected = net.grads
    net(x)
    net.backward(y, input_grad=False)
    for name, grad in net.grads.items():
        np.testing.assert_array_equal(grad, expected[name])


def test_records_trains_and_binds() -> None:
    """The same bits as a program, in training and frozen, norms within convolutions and sums within products."""
    x, target = _x(4, 4, 6, 6).astype(np.float32), np.arange(4) % 3

    def made() -> tuple[Any, Any, Any]:
        rng = np.random.default_rng(0)
        net = nn.Sequential(_block(dtype=np.float32, rng=rng), nn.Flatten(), nn.Linear(54, 3, rng=rng))
        return net, nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=0.01)

    net, loss, optimizer = made()
    expected = []
    for _ in range(4):
        expected.append(float(loss(net(x), target)))
        net.backward(loss.backward(), input_grad=False)
        optimizer.step(net.grads)
    other, *parts = made()
    step = nn.compile_step(other, *parts, x, target)
    assert [float(step(x, target)) for _ in range(4)] == expected
    y = net.eval()(x)
    np.testing.assert_array_equal(net.bind(x, freeze=False)(x), y)
    bound = net.bind(x)
    np.testing.assert_allclose(bound(x), y, rtol=1e-4, atol=1e-5)
    plain, frozen = ([line.split()[0] for line in str(p).splitlines()] for p in (net.bind(x, freeze=False), bound))
    assert "normalize" in plain
    assert "add" not in plain
    assert not {"normalize", "elementwise", "add"} & set(frozen)


def test_copies_and_pickles() -> None:
    shared = nn.Linear(3, 3, rng=0)
    net = nn.Graph(("one", shared), ("two", shared), ("sum", nn.Add(), "one", "two"))
    x = np.ones((2, 3), np.float32)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(other(x), net(x))
        assert other["one"] is other["two"] is not shared
        assert list(other.state_dict()) == ["one.weight", "one.bias"]
        assert repr(other) == repr(net)
    assert not any(module.training for module in net.eval().modules())
    net.one = nn.Linear(3, 3, rng=1)
    assert net["two"] is net.one
    with pytest.raises(ValueError, match="Graph: found modules"):
        net.three = shared
    with pytest.raises(ValueError, match="Graph: found modules"):
        del net.one
    with pytest.raises(KeyError, match="'three': not among"):
        net["three"]


def test_what_it_prints_sees_and_costs() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Graph(
            ("conv", nn.Conv2d(4, 4, 3, padding=1)),
            ("sum", nn.Add(), "conv", "x"),
            ("cat", nn.Cat(), "sum", "x"),
        ),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    assert "(sum): Add() <- conv, x" in repr(net)
    assert "inputs=('x',), outputs='cat'" in repr(net)
    lines = {line.split(":")[0].strip(): line for line in str(net.summary((1, 3, 8, 8))).splitlines()}
    assert "(1, 8, 6, 6)" in lines["cat"]
    assert lines["sum"].split()[-3:] == ["5", "x", "5"]
    assert "144" in lines["sum"]  # additions
    assert lines["2"].split()[-3:] == ["6", "x", "6"]
    residual = nn.Sequential(net[0], nn.Residual(nn.Conv2d(4, 4, 3, padding=1)), nn.MaxPool2d(2))
    assert fastdl.receptive_field(net) == fastdl.receptive_field(residual)
    apart = nn.Graph(("a", nn.Conv2d(1, 1, 3, stride=2)), ("b", nn.Conv2d(1, 1, 3), "x"), ("c", nn.Cat(3), "a", "b"))
    with pytest.raises(ValueError, match="branches of strides"):
        fastdl.receptive_field(apart)
    assert "c: Cat" in str(apart.summary((1, 1, 3, 3)))
    whole = nn.Graph(("conv", nn.Conv2d(1, 1, 3)), ("flat", nn.Flatten()), ("fc", nn.Linear(4, 2)))
    assert fastdl.receptive_field(whole).size == (3, 3)
    features = net.features(np.ones((1, 3, 8, 8), np.float32), ["1.sum"])
    assert features["1.sum"].shape == (1, 4, 6, 6)


def test_adds_in_one_order() -> None:
    """A value used by five others: the same bits each time, and as a program."""
    layers = [nn.Linear(8, 8, rng=i) for i in range(5)]
    net = nn.Graph(
        *((f"n{i}", layer, "x") for i, layer in enumerate(layers)), ("s", nn.Add(), *(f"n{i}" for i in range(5)))
    )
    x = _x(3, 8).astype(np.float32)
    net(x)
    found = net.backward(x)
    parts = []
    for layer in layers:
        layer(x)
        parts.append(layer.backward(x))
    total = parts[4]
    for part in parts[3::-1]:
        total = total + part
    np.testing.assert_array_equal(found, total)


RELU = nn.ReLU()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Graph(), ValueError, "nodes: found none, expected at least one"),
        (lambda: nn.Graph(nn.ReLU()), TypeError, r"nodes: found ReLU\(\), expected a tuple \(name, module"),
        (lambda: nn.Graph(("a",)), TypeError, "nodes: found"),
        (lambda: nn.Graph(("a", "relu")), TypeError, "found str as 'a', expected a Module"),
        (lambda: nn.Graph(("a", nn.ReLU)), TypeError, "found ReLU as 'a', a class"),
        (lambda: nn.Graph(("", RELU)), ValueError, "nodes: found the name ''"),
        (lambda: nn.Graph(("a..b", RELU)), ValueError, "nodes: found the name 'a..b'"),
        (lambda: nn.Graph(("a", RELU), ("a", nn.Tanh())), ValueError, "nodes: found the name 'a' twice"),
        (lambda: nn.Graph(("x", RELU)), ValueError, "nodes: found the name 'x' twice"),
        (lambda: nn.Graph(("a", RELU), ("a.b", nn.Tanh())), ValueError, "nodes: found 'a' and 'a.b', expected no name"),
        (
            lambda: nn.Graph(("a", RELU, "y")),
            ValueError,
            r"nodes: found 'y' as an input of 'a', expected one of \['x', 'a'\]",
        ),
        (lambda: nn.Graph(("a", RELU, 3)), TypeError, "nodes: a: found 3, expected the name"),
        (lambda: nn.Graph(("a", RELU), outputs="b"), ValueError, "outputs: found 'b', expected one of"),
        (lambda: nn.Graph(("a", RELU), outputs=()), TypeError, r"outputs: found \(\)"),
        (lambda: nn.Graph(("a", RELU), outputs=3), TypeError, "outputs: found 3"),
        (lambda: nn.Graph(("a", RELU), inputs=3), TypeError, "inputs: found 3"),
        (lambda: nn.Graph(("a", nn.Add()), inputs=("x", "x")), ValueError, "inputs: found"),
        (lambda: nn.Graph(("a", RELU, "x"), inputs=("x", "y")), ValueError, r"inputs: found \['y'\], which no output"),
        (lambda: nn.Graph(("a", RELU), ("b", nn.Tanh(), "x")), ValueError, r"nodes: found \['a'\], which no output"),
        (
            lambda: nn.Graph(("a", nn.Add(), "x", "c"), ("b", RELU), ("c", nn.Tanh())),
            ValueError,
            "nodes: found a cycle: a <- c <- b <- a",
        ),
        (lambda: nn.Graph(("a", nn.Add(), "a", "x")), ValueError, "nodes: found a cycle: a <- a"),
        (
            lambda: nn.Graph(("a", nn.ReLU(inplace=True)), ("b", nn.Add(), "a", "x")),
            ValueError,
            "nodes: found 'a', which works in place on 'x', before 'b', which uses it too, expected inplace=False",
        ),
        (
            lambda: nn.Graph(
                ("f", nn.Flatten()), ("a", nn.Sequential(nn.Dropout(), nn.ReLU(inplace=True))), outputs=("a", "x")
            ),
            ValueError,
            "nodes: found 'a', which works in place on 'f', before 'the result'",
        ),
        *[
            (
                lambda make=make: nn.Graph(("f", make()), ("a", nn.ReLU(inplace=True)), ("b", nn.Add(), "a", "x")),
                ValueError,
                "nodes: found 'a', which works in place on 'f', before 'b'",
            )
            for make in (
                nn.Add,
                nn.Sequential,
                lambda: nn.Sequential(nn.Identity(), nn.Dropout()),
                lambda: nn.Graph(("i", nn.Identity())),
            )
        ],
        *[
            (
                lambda make=make: nn.Graph(("a", make()), ("b", nn.Add(), "a", "x")),
                ValueError,
                "nodes: found 'a', which works in place on 'x', before 'b', which uses it too",
            )
            for make in (
                lambda: nn.Graph(("r", nn.ReLU(inplace=True))),
                lambda: nn.Graph(("i", nn.Identity()), ("g", nn.Graph(("r", nn.ReLU(inplace=True))))),
                lambda: nn.Residual(nn.Conv2d(2, 2, 1), nn.ReLU(inplace=True)),
                lambda: nn.Concat(nn.Sequential(nn.ReLU(inplace=True))),
            )
        ],
        (
            lambda: nn.Graph(
                (
                    "a",
                    nn.Graph(("r", nn.ReLU(inplace=True), "v"), ("s", nn.Add(), "r", "u"), inputs=("u", "v")),
                    "x",
                    "x",
                )
            ),
            ValueError,
            "nodes: found 'a', which works in place on 'x', before 'a', which uses it too",
        ),
        (
            lambda: setattr(nn.Graph(("a", RELU), ("b", nn.Add(), "a", "x")), "a", nn.ReLU(inplace=True)),
            ValueError,
            "nodes: found 'a', which works in place on 'x', before 'b', which uses it too",
        ),
        (lambda: nn.Graph(("a", RELU))(), TypeError, "Graph: found 0 inputs, expected 1: x"),
        (lambda: nn.Graph(("a", RELU))(1, 2), TypeError, "Graph: found 2 inputs, expected 1: x"),
        (lambda: nn.Graph(("a", RELU))(_x(3), y=3), TypeError, "y: found a keyword that no layer of this Graph"),
        (lambda: nn.Graph(("a", RELU), ("b", nn.Tanh(), ("a", 1)))(_x(3)), ValueError, r"Graph: a\[1\]: found one"),
        (lambda: nn.Add()(_x(3), _x(4)), ValueError, r"x: found shapes \(3,\) and \(4,\), expected one shape"),
        (lambda: nn.Cat("1"), TypeError, "dim: found '1', expected an int"),
    ],
)
def test_mistakes(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_gradients_of_several_results_are_a_tuple() -> None:
    net = nn.Graph(("a", nn.ReLU()), ("b", nn.Tanh()), outputs=("a", "b"))
    net(_x(3))
    with pytest.raises(ValueError, match="grad_output: found ndarray, expected a tuple of 2"):
        net.backward(_x(3))
    with pytest.raises(ValueError, match="grad_output: found 3 gradients, expected a tuple of 2"):
        net.backward((None, None, None))
    np.testing.assert_array_equal(net.backward((None, None)), np.zeros(3))


def test_works_in_place_where_nothing_is_lost() -> None:
    x = _x(2, 3)
    net = nn.Graph(("fc", nn.Linear(3, 3, **F64, rng=0)), ("act", nn.ReLU(inplace=True)), ("sum", nn.Add(), "act", "x"))
    line = nn.Residual(nn.Sequential(net.fc, nn.ReLU()))
    np.testing.assert_array_equal(net(x), line(x))
    nested = nn.Graph(("fc", net.fc), ("act", nn.Graph(("a", nn.ReLU(inplace=True)))), ("sum", nn.Add(), "act", "x"))
    np.testing.assert_array_equal(nested(x), line(x))
