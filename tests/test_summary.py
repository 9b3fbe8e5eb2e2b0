"""Summaries of networks: every column against what it says, and torch's count of operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastdl import nn, receptive_field


def _cells(text: str) -> dict[str, list[str]]:
    """The rows by their first cell; cells are apart by two blanks."""
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    heads = lines[0]
    starts = [0, *(heads.index(" " + name) + 1 for name in ("output",))]
    found = {}
    for line in lines[1:-1]:
        name = line[: starts[1]].strip()
        found[name] = [part.strip() for part in line[starts[1] :].split("  ") if part.strip()]
    return found


def _network(library: Any) -> Any:
    return library.Sequential(
        library.Conv2d(2, 8, 3, stride=2, padding=1, groups=2),
        library.ConvTranspose2d(8, 6, (2, 3), stride=2, groups=2),
        library.Sequential(library.Conv2d(6, 4, 1, bias=False), library.Flatten()),
        library.Linear(4 * 12 * 17, 10),
        library.Linear(10, 3),
    )


def test_operations_are_those_that_torch_counts() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    counter = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode(display=False)
    with counter:
        _network(torch.nn)(torch.zeros(3, 2, 12, 16))
    text = _network(nn).summary((3, 2, 12, 16))
    assert _cells(text)["total"][1] == f"{counter.get_total_flops():,}"


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_operations_of_recurrent_layers_are_those_of_their_products(name: str) -> None:
    layer = getattr(nn, name)(3, 4, num_layers=2, bidirectional=True)
    weights = sum(array.size for key, array in layer.parameters().items() if "weight" in key)
    cells = _cells(layer.summary((7, 5, 3)))[name]
    assert f"{2 * 7 * 5 * weights:,}" in cells
    cell = getattr(nn, f"{name}Cell")(3, 4)
    weights = cell.weight_ih.size + cell.weight_hh.size
    assert f"{2 * 5 * weights:,}" in _cells(cell.summary((5, 3)))[f"{name}Cell"]


@pytest.mark.parametrize(
    ("layer", "shape", "flops"),
    [
        (nn.ReLU(), (2, 3, 8, 8), 384),
        (nn.PReLU(3), (2, 3, 8, 8), 384),
        (nn.Dropout(), (2, 3, 8, 8), 0),
        (nn.Softmax(1), (2, 3, 8, 8), 4 * 384),
        (nn.BatchNorm2d(3), (2, 3, 8, 8), 6 * 384),
        (nn.MaxPool2d(2), (2, 3, 8, 8), 2 * 3 * 4 * 4 * 4),
        (nn.AvgPool2d((2, 3), 1), (2, 3, 8, 8), 2 * 3 * 7 * 6 * 6),
        (nn.LPPool1d(2, 3), (2, 3, 9), 2 * 3 * 3 * 3),
        (nn.AdaptiveAvgPool2d(1), (2, 3, 8, 8), 384),
        (nn.Flatten(), (2, 3, 8, 8), 0),
        (nn.ZeroPad2d(1), (2, 3, 8, 8), 0),
        (nn.Residual(nn.Identity()), (2, 3, 8, 8), 384),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_each_family_has_its_formula(layer: nn.Module, shape: tuple[int, ...], flops: int) -> None:
    assert _cells(layer.summary(shape))["total"][1] == f"{flops:,}"


def test_columns() -> None:
    shared = nn.Conv2d(4, 4, 3, padding=1)
    block = nn.Residual(nn.Sequential(shared, nn.ReLU(), shared))
    net = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), block, nn.Flatten(), nn.Linear(36, 2)).train()
    net.requires_grad_(False, "0.weight")
    before, text = net.state_dict(), net.summary((5, 2, 8, 8))
    assert repr(text) == text
    rows = _cells(text)
    assert rows["0: Conv2d"][:2] == ["(5, 4, 3, 3)", "76"]
    assert rows["0: Conv2d"][3:] == ["720 B", "3 x 3"]
    assert rows["0: Conv2d x2"] == ["(5, 4, 3, 3)", "148", f"{2 * 2 * 45 * 144:,}", "1.4 KiB"]
    expected = receptive_field(net[:2]).size
    assert rows["1: Residual"] == ["(5, 4, 3, 3)", "0", "180", "720 B", f"{expected[0]} x {expected[1]}"]
    assert rows["2: Flatten"] == ["(5, 36)", "0", "0", "0 B"]
    assert rows["total"][0] == f"{sum(a.size for a in net.parameters().values()):,}"
    assert text.splitlines()[-1] == "parameters: 1.2 KiB, 72 of them frozen"
    assert len({len(line) for line in text.splitlines() if line.startswith("--")}) == 1
    assert all(module.training for module in net.modules())
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(RuntimeError, match="called before forward"):
        net.backward(np.ones((5, 2), np.float32))


def test_several_inputs_and_layers_of_ones_own() -> None:
    class Own(nn.Module):
        def forward(self, x: Any) -> Any:
            return np.tanh(x)

    class Two(nn.Module):
        def __init__(self) -> None:
            self.a, self.b, self.own, self.unused = nn.Linear(3, 2), nn.Linear(4, 2), Own(), nn.ReLU()
            self.b.bias = self.a.bias

        def forward(self, x: Any, z: Any) -> Any:
            return self.own(self.a(x) + self.b(z))

    rows = _cells(Two().summary((5, 3), (5, 4)))
    assert rows["Two"] == ["(5, 2)"]
    assert rows["a: Linear"] == ["(5, 2)", "8", "60", "40 B"]
    assert rows["b: Linear"] == ["(5, 2)", "8", "80", "40 B"]
    assert rows["own: Own"] == ["(5, 2)", "0", "?", "40 B"]
    assert rows["unused: ReLU"] == ["not called", "0", "0", "0 B"]
    assert rows["total"] == ["16", "at least 140", "120 B"]
    double = nn.Linear(3, 2, dtype=np.float64)
    assert _cells(double.summary((5, 3)))["Linear"][-1] == "80 B"


def test_mistakes_leave_the_modes() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout())
    with pytest.raises(TypeError, match=r"input_shapes: found 5, expected tuples of ints, such as \(1, 3, 32, 32\)"):
        net.summary(5, 3)
    with pytest.raises(ValueError, match="input_shapes: found"):
        net.summary((-5, 3))
    with pytest.raises(ValueError, match="x: found"):
        net.summary((5, 4))
    assert all(module.training for module in net.modules())
