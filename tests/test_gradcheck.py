"""nn.gradcheck: passes what is right, in every form, and names what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastdl import nn


def _x(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize(
    ("layer", "inputs", "options"),
    [
        (nn.Sequential(nn.Conv2d(2, 3, 3, rng=0), nn.BatchNorm2d(3), nn.Tanh()), (_x(2, 2, 5, 5),), {}),
        (nn.BatchNorm1d(3).eval(), (_x(4, 3),), {}),
        (nn.LSTM(3, 4, num_layers=2, bidirectional=True, rng=0), (_x(5, 2, 3),), {"lengths": np.array([5, 2])}),
        (nn.GRU(3, 4, rng=0), (_x(5, 2, 3).astype(np.float32),), {}),
        (nn.LSTMCell(3, 4, rng=0), (_x(2, 3),), {}),
        (nn.CrossEntropyLoss(), (_x(4, 3), np.array([0, 2, 1, 1])), {}),
        (nn.CosineEmbeddingLoss(), (_x(4, 3), 2 + _x(4, 3), np.array([1.0, -1, 1, 1])), {}),
        (nn.Residual(nn.Linear(3, 3, rng=0)), (_x(4, 3),), {}),
        (nn.Concat(nn.Identity(), nn.Linear(3, 2, rng=0)), (_x(4, 3),), {}),
        (nn.Sequential(nn.RNN(3, 4, rng=0), nn.LastState(), nn.Unflatten(1, (2, 2))), (_x(5, 2, 3),), {}),
        (nn.Dropout(0.5).eval(), (_x(4, 3),), {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_pass(layer: nn.Module, inputs: Any, options: dict[str, Any]) -> None:
    before = {name: (id(array), array.copy()) for name, array in layer.parameters().items()}
    state = layer.state_dict()
    assert nn.gradcheck(layer, *inputs, **options)
    assert layer.grads == {}
    for name, array in layer.parameters().items():
        assert (id(array), array.dtype) == (before[name][0], np.float32)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


class _Two(nn.Module):
    """y = a * x + b, its gradients times what is given."""

    parameter_names = ("a", "b")

    def __init__(self, **wrong: Any) -> None:
        self.a, self.b = np.array([1.0, -2, 3]), np.array([0.5, 1, 2])
        self.wrong = wrong

    def forward(self, x: Any) -> Any:
        self.save_for_backward(x)
        return x * self.a + self.b

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        (x,) = self.saved
        grads = {"a": (grad_output * x).sum(0), "b": grad_output.sum(0)}
        self.set_grads(**{name: grad * self.wrong.get(name, 1) for name, grad in grads.items() if name != self.skipped})
        return grad_output * self.a * self.wrong.get("x", 1)

    @property
    def skipped(self) -> Any:
        return self.wrong.get("skipped")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"a": 1.001}, r"^a: found a gradient of .* at \[0\], expected"),
        ({"b": np.array([1, 1, -1.0])}, r"^b: found a gradient of .* at \[2\], expected"),
        ({"x": np.nan}, r"^x: found a gradient of nan at \[0, 0\]"),
        ({"x": np.array([[[1.0]]])}, r"^x: found a gradient of shape \(1, 4, 3\), expected \(4, 3\)"),
        ({"skipped": "b"}, r"^b: found no gradient, expected one of shape \(3,\)"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        nn.gradcheck(_Two(**wrong), _x(4, 3))
    if "x" not in wrong:
        with pytest.raises(AssertionError, match=message.replace("^", r"^1\.")):
            nn.gradcheck(nn.Sequential(nn.Tanh(), _Two(**wrong)), _x(4, 3))


def test_frozen_parameters_need_no_gradient_and_few_samples_are_enough() -> None:
    assert nn.gradcheck(_Two(), _x(4, 3))
    assert nn.gradcheck(_Two(a=2).requires_grad_(False, "a"), _x(4, 3), samples=2)


def test_a_random_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layer: found different results for the same inputs, expected .* eval\(\)"):
        nn.gradcheck(nn.Dropout(0.5, seed=0), np.ones((10, 10)))
