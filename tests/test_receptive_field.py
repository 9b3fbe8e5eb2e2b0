"""Receptive fields against the truth: which inputs influence a unit, by the gradients of positive weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdl import ReceptiveField, nn, receptive_field


def _influence(net: nn.Module, x: np.ndarray, unit: tuple[int, ...]) -> list[np.ndarray]:
    """Along each dimension, which elements of x the unit of the result depends on."""
    y = net(x)
    one = np.zeros_like(y)
    one[(0, 0, *unit)] = 1
    seen = net.backward(one)[0, 0] > 0
    return [np.unique(index) for index in np.nonzero(seen)]


def _positive(rank: int, window: tuple[Any, ...]) -> nn.Module:
    """A convolution that sees what any layer of that window sees."""
    kernel, stride, padding, dilation = window
    layer = getattr(nn, f"Conv{rank}d")(1, 1, kernel, stride, padding, dilation, bias=False, dtype=np.float64)
    layer.weight[...] = 1
    return layer


def _check(layers: Any, net: nn.Module, rank: int) -> None:
    """A unit whose whole field lies in the input sees its ends; those at the borders nothing else either."""
    field = receptive_field(layers)
    first = [-(offset // stride) for offset, stride in zip(field.offset, field.stride, strict=True)]
    unit = tuple(max(n, 0) for n in first)
    starts = [o + i * s for o, i, s in zip(field.offset, unit, field.stride, strict=True)]
    ends = [start + size for start, size in zip(starts, field.size, strict=True)]
    last = [max(size - offset, end) for size, offset, end in zip(field.size, field.offset, ends, strict=True)]
    x = np.ones((1, 1, *(end + 2 for end in last)))
    for found, start, end in zip(_influence(net, x, unit), starts, ends, strict=True):
        assert (found.min(), found.max()) == (start, end - 1)
    for found, start, size in zip(_influence(net, x, (0,) * rank), field.offset, field.size, strict=True):
        assert start <= found.min()
        assert found.max() < start + size


@st.composite
def _stacks(draw: Any) -> tuple[int, list[tuple[Any, ...]]]:
    rank = draw(st.integers(1, 3))
    most = {1: 4, 2: 3, 3: 2}[rank]

    def numbers(least: int, most: int) -> Any:
        return draw(st.integers(least, most) | st.tuples(*[st.integers(least, most)] * rank))

    def window() -> tuple[Any, ...]:
        kernel = numbers(1, most)
        # No more padding than kernel - 1, so that every unit sees some of the input.
        padding = draw(st.sampled_from([0, tuple((k - 1) // 2 for k in np.broadcast_to(kernel, rank).tolist())]))
        return kernel, numbers(1, 3), padding, numbers(1, 2)

    return rank, [window() for _ in range(draw(st.integers(1, 3)))]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(_stacks())
def test_the_field_is_what_influences_a_unit(stack: tuple[int, list[tuple[Any, ...]]]) -> None:
    rank, windows = stack
    layers = [_positive(rank, window) for window in windows]
    net = nn.Sequential(*layers)
    _check(net, net, rank)
    names = ("kernel_size", "stride", "padding", "dilation")
    mixed = [window if i % 2 else dict(zip(names, window, strict=True)) for i, window in enumerate(windows)]
    assert receptive_field([nn.ReLU(), layers[0], *mixed[1:]]) == receptive_field(net)


def test_padding_layers_and_forms_of_padding() -> None:
    conv = nn.Conv2d(1, 1, (3, 4), padding="same", dilation=(1, 2), bias=False, dtype=np.float64)
    pairs = nn.Conv2d(1, 1, 2, padding=((1, 0), (0, 1)), stride=2, bias=False, dtype=np.float64)
    conv.weight[...] = pairs.weight[...] = 1
    net = nn.Sequential(nn.ZeroPad2d((2, 0, 1, 3)), pairs, nn.Sequential(nn.ConstantPad2d((-1, 0, 0, -1), 0), conv))
    _check(net, net, 2)
    assert receptive_field(net) == ReceptiveField((6, 14), (2, 2), (-4, -6))


def test_known_networks() -> None:
    """AlexNet and VGG-16 up to their last pooling, as the paper lists them (its padding is -offset)."""
    alexnet = [(11, 4), (3, 2), (5, 1, 2), (3, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1), (3, 2)]
    assert receptive_field(alexnet) == ((195,), (32,), (-64,))
    block, pool = (3, 1, 1), nn.MaxPool2d(2)
    vgg16 = [*[block] * 2, pool, *[block] * 2, pool, *[block] * 3, pool, *[block] * 3, pool, *[block] * 3, pool]
    assert receptive_field(nn.Sequential(pool, pool)) == receptive_field([pool, pool]) == ((4, 4), (4, 4), (0, 0))
    assert receptive_field(vgg16) == ((212, 212), (32, 32), (-90, -90))


def test_what_has_no_window_changes_nothing_and_a_head_ends() -> None:
    spatial = [nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2)]
    between = [nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8), nn.PReLU(8), nn.Dropout2d(), nn.Identity()]
    mixed = nn.Sequential(spatial[0], nn.ModuleList(between), nn.Sequential(*between, spatial[1]))
    for head in ([nn.Flatten(), nn.Linear(8, 8)], [nn.Linear(8, 8)], [nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1)]):
        assert receptive_field([mixed, *head, nn.Unflatten(1, (1, 1)), nn.ConvTranspose2d(8, 8, 3)]) == (
            receptive_field(spatial)
        )
    assert receptive_field(nn.ModuleList(spatial)) == receptive_field([spatial]) == ((4, 4), (2, 2), (-1, -1))


def test_branches_see_what_any_of_them_does() -> None:
    shift, wide = _positive(2, (2, 1, 1, 1)), _positive(2, ((3, 5), 1, (0, 2), 1))
    shift.weight[...] = wide.weight[...] = 1
    deep = nn.Sequential(nn.ConstantPad2d((0, -1, 0, -1), 0), shift)  # of as many rows and columns as x
    net = nn.Sequential(_positive(2, (3, 2, 1, 1)), nn.Residual(deep), nn.Concat(nn.Identity(), nn.ReLU(), dim=2), wide)
    assert receptive_field(net[:2]) == ReceptiveField((5, 5), (2, 2), (-3, -3))
    assert receptive_field(net) == receptive_field([*net[:2], nn.Residual(nn.ReLU(), nn.Tanh()), wide])
    _check(net[:2], net[:2], 2)


def test_of_nothing_every_unit_is_its_element() -> None:
    assert receptive_field([]) == receptive_field([nn.ReLU()]) == ((1,), (1,), (0,))


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([nn.Conv2d(1, 1, 3), nn.Conv1d(1, 1, 3)], ValueError, "layers: found layers of .1, 2. dimensions"),
        ([nn.Conv2d(1, 1, 3), ((3, 3, 3),)], ValueError, "layers: found layers of .2, 3. dimensions"),
        ([nn.Conv2d(1, 1, 3), nn.ConvTranspose2d(1, 1, 3)], TypeError, "layers: found ConvTranspose2d, expected conv"),
        (
            [nn.Concat(nn.Conv1d(1, 1, 3, 2), nn.Identity())],
            ValueError,
            "found branches of strides .*, expected all of",
        ),
        ([nn.Concat(nn.Conv1d(1, 1, 3), nn.Flatten())], ValueError, "layers: found a branch with a head"),
        ([nn.Fold(4, 2)], TypeError, "layers: found Fold"),
        ([3], TypeError, "layers: found 3"),
        ([()], TypeError, r"layers: found \(\)"),
        ([(3, 1, 0, 1, 2)], TypeError, "layers: found"),
        ([{"stride": 2}], ValueError, "layers: found"),
        ([{"kernel_size": 2, "strides": 2}], ValueError, "layers: found"),
        ([(0,)], ValueError, "kernel_size: found 0"),
        ([(3, 0)], ValueError, "stride: found 0"),
        ([(3, 1, -1)], ValueError, "padding: found -1"),
    ],
)
def test_mistakes(layers: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        receptive_field(layers)
