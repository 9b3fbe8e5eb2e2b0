"""Layers in recorded programs: what they add, join, split and copy is recorded, and is the same to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import nn, optim
from tests.support import DTYPES

Step = Callable[..., Any]


class _Twice(nn.Module):
    """One Linear in two places."""

    def __init__(self, dtype: Any) -> None:
        self.linear, self.relu = nn.Linear(6, 6, dtype=dtype, rng=0), nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.linear(self.relu(self.linear(x)))

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        return self.linear.backward(self.relu.backward(self.linear.backward(grad_output)), input_grad=input_grad)


class _Tied(nn.Module):
    """One array in two layers, and an odd way from one to the other: rows turned round."""

    def __init__(self, dtype: Any) -> None:
        self.first, self.second = nn.Linear(6, 6, dtype=dtype, rng=0), nn.Linear(6, 6, dtype=dtype, rng=1)
        self.second.weight = self.first.weight

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x)[::-1])

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        return self.first.backward(self.second.backward(grad_output)[::-1], input_grad=input_grad)


class _States(nn.Module):
    """Cells from states of zeros, and gradients of the last state only."""

    def __init__(self, dtype: Any) -> None:
        self.cell, self.rnn = nn.LSTMCell(6, 5, dtype=dtype, rng=0), nn.GRU(5, 6, dtype=dtype, rng=1)

    def forward(self, x: Any) -> Any:
        h, _ = self.cell(x)
        return self.rnn(h[None])[1]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        grad_h = self.rnn.backward(None, grad_output)[0]
        return self.cell.backward((grad_h, None), input_grad=input_grad)


def _head(dtype: Any, width: int = 6) -> nn.Module:
    return nn.Linear(width, 3, dtype=dtype, rng=9)


def _linear(dtype: Any, width: int = 6) -> nn.Module:
    return nn.Linear(6, width, dtype=dtype, rng=width)


_ROWS, _IMAGES, _SEQUENCES = (8, 6), (8, 4, 5, 5), (7, 8, 6)
_NETS: dict[str, tuple[tuple[int, ...], Callable[[Any], nn.Module]]] = {
    "residual": (_ROWS, lambda d: nn.Sequential(nn.Residual(_linear(d)), nn.ReLU(), _head(d))),
    "residual with a shortcut": (
        _ROWS,
        lambda d: nn.Sequential(nn.Residual(nn.Sequential(_linear(d), nn.Tanh()), _linear(d)), _head(d)),
    ),
    "residual first": (_ROWS, lambda d: nn.Residual(_linear(d), nn.Sequential(nn.LayerNorm(6, dtype=d), _linear(d)))),
    "concat": (
        _ROWS,
        lambda d: nn.Sequential(_linear(d), nn.Concat(nn.Identity(), _linear(d, 4), _linear(d, 2)), _head(d, 12)),
    ),
    "concat of images": (
        _IMAGES,
        lambda d: nn.Sequential(
            nn.Concat(
                nn.Identity(),
                nn.Sequential(nn.Conv2d(4, 3, 3, padding=1, dtype=d, rng=0), nn.BatchNorm2d(3, dtype=d)),
            ),
            nn.Conv2d(7, 2, 1, dtype=d, rng=1),
            nn.Flatten(),
            _head(d, 50),
        ),
    ),
    "lstm": (_SEQUENCES, lambda d: nn.Sequential(nn.LSTM(6, 5, dtype=d, rng=0), nn.LastState(), _head(d, 5))),
    "lstm of both directions": (
        _SEQUENCES,
        lambda d: nn.Sequential(
            nn.LSTM(6, 5, num_layers=2, bidirectional=True, dtype=d, rng=0), nn.LastState(), _head(d, 10)
        ),
    ),
    "gru with dropout": (
        _SEQUENCES,
        lambda d: nn.Sequential(
            nn.GRU(6, 5, num_layers=2, dropout=0.5, dtype=d, rng=0),
            nn.LastState(),
            nn.Dropout(0.2, seed=1),
            _head(d, 5),
        ),
    ),
    "cell and last state": (_ROWS, lambda d: nn.Sequential(_States(d), nn.Flatten(0, 1), _head(d))),
    "one layer twice": (_ROWS, lambda d: nn.Sequential(_Twice(d), _head(d))),
    "one array twice": (_ROWS, lambda d: nn.Sequential(_Tied(d), _head(d))),
    "in place": (
        _ROWS,
        lambda d: nn.Sequential(_linear(d), nn.LayerNorm(6, dtype=d), nn.LeakyReLU(-0.1, inplace=True), _head(d)),
    ),
}


def _step(net: nn.Module) -> Step:
    loss, optimizer = nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(x: Any, target: Any) -> Any:
        value = loss(net(x), target)
        net.backward(loss.backward(), input_grad=False)
        return value, optimizer.step(net.grads, max_norm=1.0)

    return step


def _batches(shape: tuple[int, ...], dtype: Any, count: int = 5, classes: int = 3) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(shape).astype(dtype), rng.integers(0, classes, 8)) for _ in range(count)]


def _same(make: Callable[[], tuple[nn.Module, Step]], batches: list[tuple[Any, ...]]) -> None:
    """Results of each call, and parameters and buffers after it, of the function and of its program."""
    (net, step), (peer, plain) = make(), make()
    before = net.state_dict()
    program = fastdl.record(step, *batches[0])
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=f"{name} changed while recording")
    for batch in batches:
        found, expected = program(*batch), plain(*batch)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        for (name, a), b in zip(net.state_dict().items(), peer.state_dict().values(), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", _NETS)
def test_training_steps(name: str, dtype: Any) -> None:
    shape, build = _NETS[name]

    def make() -> tuple[nn.Module, Step]:
        net = build(dtype)
        return net, _step(net)

    _same(make, _batches(shape, dtype, classes=6 if name == "residual first" else 3))


def test_gradients_of_two_passes_in_one_step() -> None:
    def make() -> tuple[nn.Module, Step]:
        net = nn.Sequential(_linear(np.float32), nn.BatchNorm1d(6), nn.ReLU(), _head(np.float32))
        loss, optimizer = nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=0.01)

        def step(x: Any, target: Any) -> Any:
            net.zero_grad()
            values = []
            for half in (slice(0, 4), slice(4, 8)):
                values.append(loss(net(x[half]), target[half]))
                net.backward(loss.backward(), input_grad=False)
            optimizer.step(net.grads, grad_scale=0.5)
            return values

        return net, step

    _same(make, _batches(_ROWS, np.float32))


@pytest.mark.parametrize("order", ["transposed", "every other", "reversed"])
def test_arguments_in_another_order(order: str) -> None:
    """Views of arguments, and of what was computed from them."""
    view = {
        "transposed": lambda x: x.T,
        "every other": lambda x: np.swapaxes(x[:, ::2], 0, 1),
        "reversed": lambda x: x[::-1, ::-1].T,
    }[order]
    width = 3 if order == "every other" else 6

    def make() -> tuple[nn.Module, Step]:
        net = nn.Sequential(nn.Linear(8, 8, rng=0), nn.ReLU())
        optimizer = optim.SGD(net.parameters(), lr=0.1)

        def step(x: Any, _: Any) -> Any:
            y = net(view(x))
            net.backward(fastdl.relu(y.T[:, ::-1]).T[:, ::-1], input_grad=False)
            optimizer.step(net.grads)
            return (fastdl.add(y, y, -0.5), y)

        return net, step

    _, step = make()
    assert step(*_batches(_ROWS, np.float32)[0])[0].shape == (width, 8)
    _same(make, _batches(_ROWS, np.float32))


def test_functions_of_arrays() -> None:
    def function(x: Any, table: Any, index: Any) -> Any:
        y = fastdl.cat((x, fastdl.take(table, index), x[:, ::-1]), -1)
        first, *_ = fastdl.cat_backward(y, (1, 17), 1)
        weighted = fastdl.mse_loss(x, fastdl.add(x, x, 0.5), reduction="none")
        weights = fastdl.binary_cross_entropy(fastdl.sigmoid(x), fastdl.sigmoid(weighted), weight=x[:1])
        return y, first, fastdl.take_backward(y, index, 9), weights

    rng = np.random.default_rng(0)
    arguments = [(rng.standard_normal((5, 6)), rng.standard_normal((9, 6)), rng.integers(0, 9, 5)) for _ in range(3)]
    program = fastdl.record(function, *arguments[0])
    for given in arguments:
        for found, expected in zip(program(*given), function(*given), strict=True):
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"index: found one outside the rows.*call 0 of the program, take\)"):
        program(*arguments[0][:2], arguments[0][2] + 9)


def test_inference_in_place_records_no_copy() -> None:
    net = nn.Sequential(nn.Linear(6, 6, rng=0), nn.BatchNorm1d(6), nn.LeakyReLU(-0.1, inplace=True)).eval()
    x = np.random.default_rng(0).standard_normal(_ROWS).astype(np.float32)
    with nn.no_grad():
        program = fastdl.record(net, x)
    assert len(program) == 3
    np.testing.assert_array_equal(program(x), net(x))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_sequences_of_any_length(kind, options):
    """Their lengths are an argument: others at each call."""
    steps, batch, rng = 7, 5, np.random.default_rng(0)
    nets = [kind(4, 6, rng=0, **options) for _ in range(2)]
    optimizers = [optim.SGD(net.parameters(), lr=0.1) for net in nets]

    def training_step(net, optimizer):
        def step(x, lengths):
            y, state = net(x, lengths=lengths)
            net.backward(fastdl.tanh(y), input_grad=False)
            optimizer.step(net.grads)
            return y, state

        return step

    plain, recorded = map(training_step, nets, optimizers)
    x = rng.standard_normal((steps, batch, 4)).astype(np.float32)
    program = fastdl.record(recorded, x, np.array([7, 2, 5, 1, 3]))
    infer = fastdl.record(lambda x, lengths: nets[0].eval()(x, lengths=lengths)[0], x, np.array([7, 2, 5, 1, 3]))
    nets[0].train()
    for _ in range(4):
        lengths = rng.integers(1, steps + 1, batch)
        found, wanted = program(x, lengths), plain(x, lengths)
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_array_equal(np.asarray(found[1]), np.asarray(wanted[1]))
    nets[0].eval()
    np.testing.assert_array_equal(infer(x, lengths), nets[0](x, lengths=lengths)[0])
    with pytest.raises(ValueError, match="lengths: found one outside"):
        program(x, np.array([7, 2, 5, 1, 8]))
