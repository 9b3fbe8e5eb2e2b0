"""Optimizers and schedules over many steps: against torch, and what must not make a difference."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import nn, optim, reference
from fastdl.optim import lr_scheduler
from tests.support import DTYPES

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr_decay": 0.01, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
    ("Adagrad", {"maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "alpha": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {"centered": True, "eps": 0.01}),
    ("RMSprop", {"centered": True, "eps": 0.01, "momentum": 0.5, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    ("Adam", {"betas": (0.3, 0.5), "eps": 1e-3, "maximize": True}),
    ("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {}),
    ("AdamW", {"weight_decay": 0.2, "amsgrad": True, "maximize": True}),
    ("Adadelta", {}),
    ("Adadelta", {"rho": 0.5, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"momentum_decay": 0.1, "weight_decay": 0.1, "betas": (0.5, 0.9)}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("Lion", {}),
    ("Lion", {"weight_decay": 0.1, "betas": (0.5, 0.6), "maximize": True}),
]
EVERY = pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=lambda v: v if isinstance(v, str) else str(v))
SHAPES = ((), (17,), (3, 5), (0, 2), (40, 33))


def _arrays(dtype: Any, seed: int = 0, shapes: Any = SHAPES) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def _all_equal(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@EVERY
def test_hundred_steps_as_torch(name: str, options: dict[str, Any], dtype: Any, monkeypatch: Any) -> None:
    """Against torch in float64. Lion, which torch lacks, against the reference."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    # NAdam's mu_product is float32 in torch unless this is float64.
    monkeypatch.setattr(sys.modules["torch.optim.nadam"], "_get_scalar_dtype", lambda *_, **__: torch.float64)
    params = _arrays(dtype)
    optimizer = getattr(optim, name)(params, lr=0.01, **options)
    wide = [a.astype(np.float64) for a in params]
    peers = [torch.from_numpy(a).requires_grad_() for a in wide]
    peer: Any = None
    if name == "Lion":
        twin = optim.Lion(wide, lr=0.01, **options)
    else:
        peer = getattr(torch.optim, name)(peers, lr=0.01, **options)
    for step in range(100):
        grads = _arrays(dtype, step + 1)
        optimizer.step(grads)
        if peer is None:
            with nn.backend(reference):
                twin.step([g.astype(np.float64) for g in grads])
        else:
            for parameter, grad in zip(peers, grads, strict=True):
                parameter.grad = torch.from_numpy(grad.astype(np.float64))
            peer.step()
        for found, expected in zip(params, wide, strict=True):
            # A few roundings a step, of values up to about 10; what they do to the states adds up likewise.
            np.testing.assert_allclose(found, expected, rtol=0, atol=20 * (step + 1) * np.finfo(dtype).eps)
    assert optimizer.steps == 100


@EVERY
def test_grouping_threads_and_position_make_no_difference(name: str, options: dict[str, Any], threads: Any) -> None:
    """The same values as one array, as many, misaligned, and by any number of threads."""
    rng = np.random.default_rng(0)
    n = 200_003
    start, grads = rng.standard_normal(n).astype(np.float32), rng.standard_normal((3, n)).astype(np.float32)
    cuts = [0, 1, 18, 18, 4000, 4001, 100_000, 150_007, n]
    outcomes = []
    for number, pieces in ((1, [0, n]), (2, [0, n]), (1, cuts), (3, cuts)):
        fastdl.set_num_threads(number)
        memory = np.empty(n + 1, np.float32)[1:]
        memory[:] = start
        spans = list(pairwise(pieces))
        optimizer = getattr(optim, name)([memory[a:b] for a, b in spans], lr=0.01, **options)
        for grad in grads:
            optimizer.step([grad[a:b].copy() for a, b in spans], max_norm=100.0, clip_value=0.5)
        outcomes.append(memory)
    for outcome in outcomes[1:]:
        np.testing.assert_array_equal(outcome, outcomes[0])


@pytest.mark.parametrize("dtype", DTYPES)
@EVERY
def test_the_reference_serves_as_backend(name: str, options: dict[str, Any], dtype: Any) -> None:
    found, expected = _arrays(dtype), _arrays(dtype)
    a, b = (getattr(optim, name)(params, lr=0.01, **options) for params in (found, expected))
    for step in range(5):
        grads = _arrays(dtype, step + 1)
        norm = a.step(grads, grad_scale=0.5, max_norm=3.0, clip_value=0.1)
        with nn.backend(reference):
            assert b.step(grads, grad_scale=0.5, max_norm=3.0, clip_value=0.1) == norm
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=200 * np.finfo(dtype).eps)
    assert a.steps == b.steps == 5


def test_scaling_and_clipping_are_those_of_torch() -> None:
    """Unscale, clip by norm, clip by value, step; and gradients stay as they are."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    params, grads = _arrays(np.float64), _arrays(np.float64, 1)
    peers = [torch.from_numpy(a.copy()).requires_grad_() for a in params]
    for parameter, grad in zip(peers, grads, strict=True):
        parameter.grad = torch.from_numpy(np.asarray(grad / 8))
    norm = torch.nn.utils.clip_grad_norm_(peers, 2.0)
    torch.nn.utils.clip_grad_value_(peers, 0.05)
    torch.optim.SGD(peers, lr=1.0).step()
    before = copy.deepcopy(grads)
    found = optim.SGD(params, lr=1.0).step(grads, grad_scale=1 / 8, max_norm=2.0, clip_value=0.05)
    assert found == pytest.approx(float(norm), rel=1e-12)
    _all_equal(grads, before)
    for x, y in zip(params, peers, strict=True):
        np.testing.assert_allclose(x, y.detach().numpy(), rtol=1e-12, atol=1e-15)


def test_scaling_lasts_for_one_step() -> None:
    x, grad = np.zeros(3), np.ones(3)
    optimizer = optim.SGD([x], lr=1.0)
    optimizer.step([grad], grad_scale=0.5)
    optimizer.step([grad], clip_value=0.25)
    optimizer.step([grad])
    np.testing.assert_array_equal(x, -1.75)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, np.inf, 3.0, 0.5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_grad_norm_as_torch(dtype: Any, norm_type: float, threads: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    empty = () if norm_type == np.inf else ((0, 2),)  # of which torch takes no maximum
    grads = _arrays(dtype, shapes=((), (17,), *empty, (40, 33), (30_001,)))
    peers = [torch.zeros(a.shape, dtype=torch.float64, requires_grad=True) for a in grads]
    for parameter, grad in zip(peers, grads, strict=True):
        parameter.grad = torch.from_numpy(grad.astype(np.float64))
    expected = float(torch.nn.utils.clip_grad_norm_(peers, 1.5, norm_type))
    norms = []
    for number in (1, 2, 3):
        fastdl.set_num_threads(number)
        clipped = [g.copy() for g in grads]
        norms.append(fastdl.clip_grad_norm_(dict(enumerate(clipped)), 1.5, norm_type))
    assert norms[0] == norms[1] == norms[2] == pytest.approx(expected, rel=1e-12)
    for found, parameter in zip(clipped, peers, strict=True):
        np.testing.assert_allclose(
            found, parameter.grad.numpy(), rtol=1e-12 + 2 * np.finfo(dtype).eps
        )  # the norm's own


def test_norms_of_what_float32_cannot_square() -> None:
    large, small = np.full(100, 1e30, np.float32), np.full(100, 1e-30, np.float32)
    assert fastdl.clip_grad_norm_(large.copy(), 1.0) == pytest.approx(1e31)
    assert fastdl.clip_grad_norm_([small.copy()], 1.0) == pytest.approx(1e-29)
    assert fastdl.clip_grad_norm_([], 1.0) == 0
    mixed = [np.full(9, 2.0, np.float32), np.full(16, 3.0)]
    assert fastdl.clip_grad_norm_(mixed, 100.0) == pytest.approx(np.sqrt(9 * 4 + 16 * 9))


@pytest.mark.parametrize("norm_type", [2.0, np.inf])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_norms_that_are_not_finite(value: float, norm_type: float) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    grad = np.array([1.0, value, 2.0])
    parameter = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    parameter.grad = torch.from_numpy(grad.copy())
    torch.nn.utils.clip_grad_norm_([parameter], 1.0, norm_type)
    before = grad.copy()
    with pytest.raises(ValueError, match="grads: found a norm of"):
        fastdl.clip_grad_norm_([grad], 1.0, norm_type, error_if_nonfinite=True)
    np.testing.assert_array_equal(grad, before)
    fastdl.clip_grad_norm_([grad], 1.0, norm_type)
    np.testing.assert_array_equal(grad, parameter.grad.numpy())


def test_clip_grad_value() -> None:
    grads = {"a": np.array([-2.0, 0.5, np.nan, np.inf], np.float32), "b": np.array(-7.0)}
    fastdl.clip_grad_value_(grads, 1.5)
    np.testing.assert_array_equal(grads["a"], np.array([-1.5, 0.5, np.nan, 1.5], np.float32))
    assert grads["b"] == -1.5
    for call in (
        lambda: fastdl.clip_grad_value_(grads, -1.0),
        lambda: fastdl.clip_grad_norm_(grads, -1.0),
        lambda: fastdl.clip_grad_norm_(grads, 1.0, 0.0),
        lambda: fastdl.clip_grad_norm_(np.ones((3, 3))[:, 1], 1.0),
    ):
        with pytest.raises(ValueError, match="found"):
            call()


def test_groups_as_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    params = _arrays(np.float64)
    peers = [torch.from_numpy(a.copy()).requires_grad_() for a in params]

    def groups(arrays: list[Any]) -> list[dict[str, Any]]:
        return [{"params": arrays[:2], "lr": 0.1}, {"params": arrays[2:3], "betas": (0.5, 0.6), "weight_decay": 0.2}]

    optimizer, peer = optim.Adam(groups(params), lr=0.01), torch.optim.Adam(groups(peers), lr=0.01)
    for step in range(10):
        if step == 5:
            optimizer.add_param_group({"params": params[3:], "eps": 1e-3})
            peer.add_param_group({"params": peers[3:], "eps": 1e-3})
            optimizer.param_groups[1]["lr"] = peer.param_groups[1]["lr"] = 0.3
        grads = _arrays(np.float64, step + 1)
        count = 3 if step < 5 else 5
        for parameter, grad in zip(peers[:count], grads, strict=False):
            parameter.grad = torch.from_numpy(grad)
        optimizer.step(grads[:count])
        peer.step()
    for found, expected in zip(params, peers, strict=True):
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    assert [group.steps for group in optimizer.param_groups] == [10, 10, 5]
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1, 2]
    assert dict(optimizer.param_groups[1])["betas"] == (0.5, 0.6)


def test_options_of_groups_are_checked_when_they_are_set() -> None:
    optimizer = optim.Adam(_arrays(np.float64), lr=0.1)
    group = optimizer.param_groups[0]
    before = dict(group._options)
    for name, value, error in (
        ("lr", -1.0, ValueError),
        ("lr", float("nan"), ValueError),
        ("betas", (0.9, 1.0), ValueError),
        ("eps", -1.0, ValueError),
        ("amsgrad", True, ValueError),
        ("momentum", 0.9, KeyError),
    ):
        with pytest.raises(error, match=name):
            group[name] = value
    assert group._options == before
    for wrong in ({"lr": 1.0}, {"params": [], "rate": 1.0}, {"params": {"0": np.ones(3)}}):
        with pytest.raises(ValueError, match="param_group: found"):
            optimizer.add_param_group(wrong)
    with pytest.raises(ValueError, match="memory shared"):
        optimizer.add_param_group({"params": {"x": next(iter(optimizer.params.values()))}})
    with pytest.raises(ValueError, match="initial_accumulator_value: found"):
        optim.Adagrad(_arrays(np.float64), initial_accumulator_value=-1.0)
    assert len(optimizer.param_groups) == 1


@EVERY
def test_continues_from_its_state_dict(name: str, options: dict[str, Any], tmp_path: Any) -> None:
    def make(params: dict[str, np.ndarray]) -> optim.Optimizer:
        first, *rest = params
        groups = [{"params": {first: params[first]}, "lr": 0.1}, {"params": {key: params[key] for key in rest}}]
        return getattr(optim, name)(groups, lr=0.01, **options)

    params = dict(zip("abcde", _arrays(np.float32), strict=True))
    optimizer = make(params)
    for seed in (1, 2):
        optimizer.step(dict(zip("abcde", _arrays(np.float32, seed), strict=True)))
    optimizer.param_groups[1]["lr"] = 0.03
    np.savez(tmp_path / "state.npz", **optimizer.state_dict())
    resumed_params = {key: a.copy() for key, a in params.items()}
    resumed = make(resumed_params)
    resumed.load_state_dict(np.load(tmp_path / "state.npz"))
    for seed in (3, 4):
        grads = dict(zip("abcde", _arrays(np.float32, seed), strict=True))
        optimizer.step(grads)
        resumed.step(grads)
    _all_equal(resumed_params.values(), params.values())
    assert resumed.state_dict().keys() == optimizer.state_dict().keys()
    wrong = optimizer.state_dict() | {"groups.1.lr": -1.0, "groups.0.lr": 5.0}
    with pytest.raises(ValueError, match="lr: found"):
        resumed.load_state_dict(wrong)
    _all_equal(resumed.state_dict().values(), optimizer.state_dict().values())


def test_gradients_may_come_as_they_like() -> None:
    """The same arrays changed in place, other arrays, views that have to be copied each time."""
    for make in (lambda g: g, lambda g: g.copy(), lambda g: np.asfortranarray(g)):
        x, y = np.zeros((3, 4)), np.zeros((3, 4))
        grad = np.ones((3, 4))
        same = make(grad)
        optimizer, twin = optim.SGD([x], lr=1.0), optim.SGD({"y": y}, lr=1.0)
        for i in range(3):
            same[...] = grad[...] = i
            optimizer.step([same])
            twin.step({"y": make(grad)})
        np.testing.assert_array_equal(x, -3)
        np.testing.assert_array_equal(y, -3)


def test_bound_steps() -> None:
    params, twins, grads = _arrays(np.float32), _arrays(np.float32), _arrays(np.float32, 1)
    optimizer, twin = optim.AdamW(params, lr=0.1), optim.AdamW(twins, lr=0.1)
    step = optimizer.bind(grads)
    for i in range(4):
        for grad in grads:
            grad *= -1.5
        twin.lr = optimizer.lr = 0.1 / (i + 1)
        twin.step(grads)
        if i == 2:  # a step with other gradients in between does not disturb
            optimizer.step([g.copy() for g in grads])
        else:
            step()
    _all_equal(params, twins)
    assert optimizer.steps == 4
    with pytest.raises(ValueError, match=r"grads\['2'\]: found what would have to be copied"):
        optimizer.bind([*grads[:2], np.asfortranarray(grads[2]), *grads[3:]])


def test_nothing_to_update() -> None:
    optimizer = optim.Adam({})
    optimizer.step({})
    assert optimizer.steps == 1
    optimizer.load_state_dict(optimizer.state_dict())


def test_overlaps_of_gradients_with_anything_written() -> None:
    params = _arrays(np.float64)
    optimizer = optim.Adam(params)
    for taken in (params[1], next(iter(optimizer.state.values()))["exp_avg"], optimizer.state["1"]["exp_avg_sq"]):
        grads = _arrays(np.float64, 1)
        grads[1 if taken.shape == (17,) else 0] = taken
        before = [p.copy() for p in params]
        with pytest.raises(ValueError, match="overlaps the result"):
            optimizer.step(grads)
        _all_equal(params, before)


SCHEDULES: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("StepLR", lambda s, o: s.StepLR(o, 30, gamma=0.3)),
    ("MultiStepLR", lambda s, o: s.MultiStepLR(o, [80, 30, 30], gamma=0.5)),
    ("ExponentialLR", lambda s, o: s.ExponentialLR(o, 0.97)),
    ("CosineAnnealingLR", lambda s, o: s.CosineAnnealingLR(o, 40, eta_min=1e-4)),
    ("LinearLR", lambda s, o: s.LinearLR(o, start_factor=0.25, total_iters=20)),
    ("LinearLR down", lambda s, o: s.LinearLR(o, start_factor=1.0, end_factor=0.5, total_iters=7)),
    ("ConstantLR", lambda s, o: s.ConstantLR(o, factor=0.5, total_iters=10)),
    ("LambdaLR", lambda s, o: s.LambdaLR(o, [lambda epoch: 0.9**epoch, lambda epoch: 1 / (1 + epoch)])),
    ("OneCycleLR", lambda s, o: s.OneCycleLR(o, max_lr=[1.0, 0.5], total_steps=110)),
    ("OneCycleLR linear", lambda s, o: s.OneCycleLR(o, 1.0, epochs=11, steps_per_epoch=10, anneal_strategy="linear")),
    ("OneCycleLR three", lambda s, o: s.OneCycleLR(o, 1.0, 101, three_phase=True, pct_start=0.4, div_factor=10.0)),
    ("OneCycleLR no momentum", lambda s, o: s.OneCycleLR(o, 1.0, 101, cycle_momentum=False, final_div_factor=100.0)),
    (
        "SequentialLR",
        lambda s, o: s.SequentialLR(
            o, [s.LinearLR(o, 0.1, total_iters=5), s.CosineAnnealingLR(o, 60), s.ExponentialLR(o, 0.9)], [5, 65]
        ),
    ),
]


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize(("name", "make"), SCHEDULES, ids=[name for name, _ in SCHEDULES])
@pytest.mark.filterwarnings("ignore")
def test_schedules_as_torch(name: str, make: Callable[[Any, Any], Any], kind: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    options = {"momentum": 0.9} if kind == "SGD" else {}

    def groups(array: Any) -> list[dict[str, Any]]:
        return [{"params": [array(3)]}, {"params": [array(2)], "lr": 0.02}]

    optimizer = getattr(optim, kind)(groups(np.ones), lr=0.1, **options)
    peer = getattr(torch.optim, kind)(groups(lambda n: torch.ones(n, requires_grad=True)), lr=0.1, **options)
    schedule, expected = make(lr_scheduler, optimizer), make(torch.optim.lr_scheduler, peer)
    key = "momentum" if kind == "SGD" else "betas"
    for epoch in range(100):
        assert schedule.get_last_lr() == pytest.approx(expected.get_last_lr(), rel=1e-9), epoch
        for group, wanted in zip(optimizer.param_groups, peer.param_groups, strict=True):
            assert group["lr"] == pytest.approx(wanted["lr"], rel=1e-9)
            assert group[key] == pytest.approx(wanted[key], rel=1e-9)
        if epoch == 50:  # a new schedule goes on where this one stopped
            state, saved = schedule.state_dict(), optimizer.state_dict()
            optimizer = getattr(optim, kind)(groups(np.ones), lr=0.1, **options)
            schedule = make(lr_scheduler, optimizer)
            optimizer.load_state_dict(saved)
            schedule.load_state_dict(state)
        schedule.step()
        peer.step()
        expected.step()


def test_schedules_refuse() -> None:
    optimizer = optim.Adagrad([np.ones(3)])
    for call, error, message in (
        (lambda: lr_scheduler.StepLR(optimizer, 0), ValueError, "step_size: found 0"),
        (lambda: lr_scheduler.CosineAnnealingLR(optimizer, 0), ValueError, "T_max: found 0"),
        (lambda: lr_scheduler.LinearLR(optimizer, start_factor=0), ValueError, "start_factor: found 0"),
        (lambda: lr_scheduler.LinearLR(optimizer, end_factor=2), ValueError, "end_factor: found 2"),
        (lambda: lr_scheduler.LinearLR(optimizer, total_iters=0), ValueError, "total_iters: found 0"),
        (lambda: lr_scheduler.ConstantLR(optimizer, 2.0), ValueError, "factor: found 2.0"),
        (lambda: lr_scheduler.LambdaLR(optimizer, []), ValueError, "lr_lambda: found 0 functions"),
        (lambda: lr_scheduler.OneCycleLR(optimizer, 1.0), ValueError, "total_steps: found None"),
        (lambda: lr_scheduler.OneCycleLR(optimizer, 1.0, 10), ValueError, "cycle_momentum: found True"),
        (lambda: lr_scheduler.OneCycleLR(optimizer, [1.0, 2.0], 9, cycle_momentum=False), ValueError, "max_lr: found"),
        (lambda: lr_scheduler.ExponentialLR(optimizer, -0.5).step(), ValueError, "lr: found"),
        (lambda: lr_scheduler.SequentialLR(optimizer, [], []), ValueError, "schedulers: found 0"),
        (lambda: lr_scheduler.StepLR([np.ones(3)], 1), TypeError, "optimizer: found list"),
        (lambda: lr_scheduler.StepLR(optim.SGD([np.ones(3)]), 1, last_epoch=3), ValueError, "last_epoch: found 3"),
    ):
        with pytest.raises(error, match=message):
            call()
    schedule = lr_scheduler.OneCycleLR(optim.SGD([np.ones(3)], momentum=0.9), 1.0, 3)
    for _ in range(3):
        schedule.step()
    with pytest.raises(ValueError, match="step: found 4 steps"):
        schedule.step()
    with pytest.raises(ValueError, match="state: found"):
        schedule.load_state_dict({"last_epoch": 1})
