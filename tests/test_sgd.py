"""SGD as a class, against PyTorch, and its mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastdl import optim
from tests.support import DTYPES

SGD_OPTIONS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3},
    {"weight_decay": 0.1},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"momentum": 0.5, "dampening": 0.5, "weight_decay": 0.2, "maximize": True},
    {"maximize": True},
]


def _arrays(dtype: Any, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((), (17,), (3, 5), (0, 2), (40, 33))]


@pytest.mark.parametrize("options", SGD_OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sgd_agrees_with_torch_for_twenty_steps(options: dict[str, Any], dtype: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    params = _arrays(dtype)
    peers = [torch.from_numpy(a.astype(np.float64)).requires_grad_() for a in params]
    optimizer, peer = optim.SGD(params, lr=0.05, **options), torch.optim.SGD(peers, lr=0.05, **options)
    for step in range(20):
        grads = _arrays(dtype, step + 1)
        optimizer.step(grads)
        for parameter, grad in zip(peers, grads, strict=True):
            parameter.grad = torch.from_numpy(grad.astype(np.float64))
        peer.step()
        for found, expected in zip(params, peers, strict=True):
            # A few roundings a step, of values up to about 10.
            np.testing.assert_allclose(
                found, expected.detach().numpy(), rtol=0, atol=10 * (step + 1) * np.finfo(dtype).eps
            )


def test_sgd_continues_from_its_state_dict(tmp_path: Any) -> None:
    options = {"lr": 0.1, "momentum": 0.9, "nesterov": True}
    params = dict(zip("abcde", _arrays(np.float32), strict=True))
    optimizer = optim.SGD(params, **options)
    optimizer.step(dict(zip("abcde", _arrays(np.float32, 1), strict=True)))
    optimizer.lr = 0.01
    np.savez(tmp_path / "sgd.npz", **optimizer.state_dict())

    resumed_params = {name: a.copy() for name, a in params.items()}
    resumed = optim.SGD(resumed_params, momentum=0.5)
    resumed.load_state_dict(np.load(tmp_path / "sgd.npz"))
    assert dict(resumed.param_groups[0]._options) == optimizer.param_groups[0]._options
    for seed in (2, 3):
        grads = dict(zip("abcde", _arrays(np.float32, seed), strict=True))
        optimizer.step(grads)
        resumed.step(grads)
    for name, array in params.items():
        np.testing.assert_array_equal(array, resumed_params[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("groups.0.steps"), "also \\['groups.0.steps'\\]"),
        (lambda s: s.update(betas=1), "unexpected \\['betas'\\]"),
        (lambda s: s.update({"momentum_buffer.1": np.ones(3)}), "momentum_buffer.1: found"),
    ],
)
def test_sgd_refuses_another_state_dict(change: Any, message: str) -> None:
    optimizer = optim.SGD(_arrays(np.float64), momentum=0.9)
    optimizer.step(_arrays(np.float64, 1))
    before = optimizer.state_dict()
    state = {name: np.asarray(value) + 1 for name, value in optimizer.state_dict().items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda grads, params: grads.pop(), ValueError, "grads: found gradients of"),
        (lambda grads, params: grads.append(grads[0]), ValueError, "grads: found gradients of"),
        (
            lambda grads, params: grads.__setitem__(2, np.ones((5, 3))),
            ValueError,
            r"grads\['2'\]: found shape \(5, 3\)",
        ),
        (lambda grads, params: grads.__setitem__(4, grads[4].astype("f")), TypeError, r"grads\['4'\]: found dtype"),
        (lambda grads, params: grads.__setitem__(4, None), TypeError, r"grads\['4'\]: found NoneType"),
        (lambda grads, params: grads.__setitem__(4, params[4]), ValueError, r"grads\['4'\]: found an array that over"),
    ],
)
def test_sgd_changes_nothing_after_a_mistake(change: Any, error: type[Exception], message: str) -> None:
    params, grads = _arrays(np.float64), _arrays(np.float64, 1)
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
    before = [a.copy() for a in params]
    change(grads, params)
    with pytest.raises(error, match=message):
        optimizer.step(grads)
    for found, expected in zip(params, before, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert optimizer.steps == 0


def test_sgd_refuses_wrong_options_and_parameters() -> None:
    x = np.zeros(4)
    for options, message in (
        ({"lr": -1}, "lr: found -1"),
        ({"lr": float("nan")}, "lr: found nan"),
        ({"momentum": -0.1}, "momentum: found -0.1"),
        ({"weight_decay": -1}, "weight_decay: found -1"),
        ({"nesterov": True}, "nesterov: found"),
    ):
        with pytest.raises(ValueError, match=message):
            optim.SGD([x], **options)
    with pytest.raises(ValueError, match="memory shared with another parameter"):
        optim.SGD([x[:3], x[2:]])
    with pytest.raises(TypeError, match="found one array"):
        optim.SGD(x)
    with pytest.raises(TypeError, match=r"params\['0'\]: found dtype"):
        optim.SGD([np.zeros(3, np.int64)])
    with pytest.raises(ValueError, match=r"params\['0'\]: found an array that is not C-contiguous"):
        optim.SGD([np.zeros((3, 4)).T])
