"""Optimizers over many steps: against torch, what must not make a difference, and their mistakes."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
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
    ("SGD", {"weight_decay": 0.1}),
    ("SGD", {"momentum": 0.5, "dampening": 0.5, "weight_decay": 0.2, "maximize": True}),
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
CLASSES = sorted({name for name, _ in OPTIMIZERS})
EVERY = pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=lambda v: v if isinstance(v, str) else str(v))
SHAPES = ((), (17,), (3, 5), (0, 2), (40, 33))


def _arrays(dtype: Any, seed: int = 0, shapes: Any = SHAPES) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def _all_equal(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def _numbers_of(optimizer: optim.Optimizer) -> list[np.ndarray]:
    return [own["step"] for own in optimizer.state.values() if "step" in own]


def _peer(name: str, params: list[np.ndarray], monkeypatch: Any, **options: Any) -> tuple[Callable[..., None], Any]:
    """The same optimizer over `params`, float64, in place: torch's or, of what torch lacks, the reference; a function
    that makes its step, with None for no gradient, and the optimizer."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    # NAdam's mu_product is float32 in torch unless this is float64.
    monkeypatch.setattr(sys.modules["torch.optim.nadam"], "_get_scalar_dtype", lambda *_, **__: torch.float64)
    if not hasattr(torch.optim, name):
        twin = getattr(optim, name)(params, **options)

        def step_of_reference(grads: list[Any]) -> None:
            with nn.backend(reference):
                twin.step([None if g is None else g.astype(np.float64) for g in grads])

        return step_of_reference, twin
    peers = [torch.from_numpy(a).requires_grad_() for a in params]
    peer = getattr(torch.optim, name)(peers, **options)

    def step(grads: list[Any]) -> None:
        for parameter, grad in zip(peers, grads, strict=True):
            parameter.grad = None if grad is None else torch.from_numpy(grad.astype(np.float64))
        peer.step()

    return step, peer


@pytest.mark.parametrize("dtype", DTYPES)
@EVERY
def test_hundred_steps_as_torch(name: str, options: dict[str, Any], dtype: Any, monkeypatch: Any) -> None:
    """Against torch in float64. Lion, which torch lacks, against the reference."""
    params = _arrays(dtype)
    optimizer = getattr(optim, name)(params, lr=0.01, **options)
    wide = [a.astype(np.float64) for a in params]
    step_of_peer, _ = _peer(name, wide, monkeypatch, lr=0.01, **options)
    for step in range(100):
        grads = _arrays(dtype, step + 1)
        optimizer.step(grads)
        step_of_peer(grads)
        for found, expected in zip(params, wide, strict=True):
            # A few roundings a step, of values up to about 10; what they do to the states adds up likewise.
            np.testing.assert_allclose(found, expected, rtol=0, atol=20 * (step + 1) * np.finfo(dtype).eps)
    assert all(own["step"] == 100 for own in optimizer.state.values() if "step" in own)


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
    _all_equal(_numbers_of(a), _numbers_of(b))


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
    assert [own["step"] for own in optimizer.state.values()] == [10, 10, 10, 5, 5]
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
        ("amsgrad", 1, TypeError),
        ("momentum", 0.9, KeyError),
    ):
        with pytest.raises(error, match=name):
            group[name] = value
    assert group._options == before
    for wrong in ({"lr": 1.0}, {"params": [], "rate": 1.0}, {"params": {"0": np.ones(3)}}):
        with pytest.raises(ValueError, match="param_group: found"):
            optimizer.add_param_group(wrong)
    with pytest.raises(ValueError, match="memory shared"):
        optimizer.add_param_group({"params": {"x": optimizer.params["4"][1:]}})
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
    assert optimizer.state["0"]["step"] == 4
    with pytest.raises(ValueError, match=r"grads\['2'\]: found what would have to be copied"):
        optimizer.bind([*grads[:2], np.asfortranarray(grads[2]), *grads[3:]])


def test_nothing_to_update() -> None:
    for nothing in ({}, [], iter(())):
        with pytest.raises(ValueError, match="params: found no parameters, expected at least one"):
            optim.Adam(nothing)
    x = np.ones(3)
    optimizer = optim.Adam([{"params": []}, {"params": [x]}])
    for grads in ([None], {}, {"0": None}):
        optimizer.step(grads)
        assert optimizer.step(grads, max_norm=1.0) == 0
    np.testing.assert_array_equal(x, 1)
    assert optimizer.state["0"]["step"] == 0
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


@EVERY
def test_parameters_without_a_gradient_are_skipped_as_in_torch(
    name: str, options: dict[str, Any], monkeypatch: Any
) -> None:
    """Their states and steps too, so that parameters are at different steps later; by a dict, a list, the reference."""
    rng = np.random.default_rng(0)
    start = _arrays(np.float64)
    runs = [[a.copy() for a in start] for _ in range(3)]
    by_list, by_reference = (getattr(optim, name)(runs[i], lr=0.01, **options) for i in (0, 1))
    by_dict = getattr(optim, name)(dict(zip("abcde", runs[2], strict=True)), lr=0.01, **options)
    step_of_peer, peer = _peer(name, start, monkeypatch, lr=0.01, **options)
    done = np.zeros(5, int)
    for step in range(30):
        has = rng.random(5) < (0.2 if step < 5 else 0.6)
        grads = [g if h else None for g, h in zip(_arrays(np.float64, step + 1), has, strict=True)]
        by_list.step(grads)
        by_dict.step({key: grad for key, grad in zip("abcde", grads, strict=True) if grad is not None or key < "c"})
        with nn.backend(reference):
            by_reference.step(grads)
        step_of_peer(grads)
        done += has
        for params in runs:
            for found, expected in zip(params, start, strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
    for optimizer in (by_list, by_reference, by_dict):
        steps = _numbers_of(optimizer)
        assert not steps or steps == list(done)
    if name == "NAdam":
        found = [float(own["mu_product"]) for own in by_list.state.values()]
        wanted = [float(peer.state[param]["mu_product"]) for param in peer.param_groups[0]["params"]]
        assert found == pytest.approx(wanted, rel=1e-12)


def test_norms_and_threads_do_not_see_parameters_without_a_gradient(threads: Any) -> None:
    sizes = (3, 50_000, 7, 70_001, 1)
    for number in (1, 3):
        fastdl.set_num_threads(number)
        params = [np.zeros(n, np.float32) for n in sizes]
        optimizer = optim.SGD(params, lr=1.0)
        grads = [np.full(n, i + 1.0, np.float32) if i % 2 else None for i, n in enumerate(sizes)]
        norm = optimizer.step(grads, max_norm=1e9)
        assert norm == pytest.approx(np.sqrt(50_000 * 2.0**2 + 70_001 * 4.0**2))
        for i, param in enumerate(params):
            np.testing.assert_array_equal(param, -(i + 1.0) if i % 2 else 0.0)


def _resize(array: np.ndarray) -> None:
    array.resize(100_000, refcheck=False)


def _retype(array: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array.dtype = np.int32


def _reshape(array: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array.shape = (2, 10)


def _shrink(array: np.ndarray) -> None:
    array.resize(1, refcheck=False)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("how", [_resize, _retype, _reshape, _shrink, lambda a: a.setflags(write=False)])
@pytest.mark.parametrize("what", ["param", "grad"])
def test_no_array_is_trusted_because_it_was_seen_before(what: str, how: Any, name: str) -> None:
    """What changed since the last step, by step and by a bound step: refused, and nothing is written."""
    param, grad, other = np.ones(20, np.float32), np.full(20, 0.5, np.float32), np.ones(5, np.float32)
    optimizer = getattr(optim, name)([other, param], lr=0.1)
    grads = [np.ones(5, np.float32), grad]
    bound = optimizer.bind(grads)
    optimizer.step(grads)
    bound()
    how(param if what == "param" else grad)
    if what == "grad" and not grad.flags.writeable:  # is only read
        optimizer.step(grads)
        return
    before = other.copy(), param.copy()
    for call in (lambda: optimizer.step(grads), bound, lambda: optimizer.step(grads, max_norm=1.0)):
        with pytest.raises((ValueError, TypeError), match=r"(params|grads)\['1'\]: found"):
            call()
    _all_equal((other, param), before)


def test_a_parameter_may_move() -> None:
    """Elsewhere, of the same shape: it is found there; the state stays with it."""
    for bound in (False, True):
        param, grad = np.ones(20), np.ones(20)
        optimizer = optim.Adam([param], lr=0.1)
        step = optimizer.bind([grad]) if bound else lambda optimizer=optimizer, grad=grad: optimizer.step([grad])
        step()
        param.resize(1_000_000, refcheck=False)
        param.resize(20, refcheck=False)
        step()
        twin = np.ones(20)
        other = optim.Adam([twin], lr=0.1)
        for _ in range(2):
            other.step([grad])
        np.testing.assert_array_equal(param, twin)


def test_states_cannot_be_moved() -> None:
    optimizer = optim.NAdam([np.ones(20)], lr=0.1)
    optimizer = pickle.loads(pickle.dumps(optimizer))
    for array in optimizer.state["0"].values():
        with pytest.raises(ValueError, match="resize"):
            array.resize(100_000, refcheck=False)
    with pytest.raises(TypeError):
        optimizer.state["0"]["exp_avg"] = np.ones(20)
    optimizer.state["0"]["exp_avg"][:] = 3.0  # but written they can be
    optimizer.step([np.zeros(20)])
    np.testing.assert_allclose(optimizer.state["0"]["exp_avg"], 2.7)


def test_a_gradient_that_overlapped_is_refused_the_next_time_too() -> None:
    params = [np.ones(4), np.ones(6)]
    optimizer = optim.SGD(params, lr=0.1)
    for _ in range(3):
        with pytest.raises(ValueError, match=r"grads\['0'\]: found an array that overlaps"):
            optimizer.step([params[1][:4], np.ones(6)])
    with pytest.raises(ValueError, match=r"grads\['1'\]: found shape"):
        optimizer.step([params[1][:4], np.ones(3)])
    with pytest.raises(ValueError, match=r"grads\['0'\]: found an array that overlaps"):
        optimizer.step([params[1][:4], np.ones(6)])


@pytest.mark.parametrize("name", CLASSES)
def test_constructors_say_all_of_it(name: str) -> None:
    """The options by name, with the defaults of the step function, which is all that describes an optimizer."""
    cls = getattr(optim, name)
    function = getattr(fastdl, f"{name.lower()}_step")
    options = inspect.signature(cls).parameters
    step = inspect.signature(function).parameters
    assert cls.update is function or name == "AdamW"
    shared = [option for option in options if option in step]
    assert {option: options[option].default for option in shared} == {option: step[option].default for option in shared}
    states = set(cls([np.ones(2)])._states)
    assert set(step) == {"param", "grad", "grad_scale", "clip_value", *shared, *states}
    with pytest.raises(TypeError, match="learning_rate"):
        cls([np.ones(3)], learning_rate=0.1)
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if hasattr(torch.optim, name):
        peers = inspect.signature(getattr(torch.optim, name)).parameters
        assert {o: options[o].default for o in options} == {o: peers[o].default for o in options}


WRONG: list[tuple[str, Any, type[Exception]]] = [
    ("lr", -1, ValueError),
    ("lr", float("nan"), ValueError),
    ("lr", float("inf"), ValueError),
    ("lr", "a", TypeError),
    ("lr", True, TypeError),
    ("lr", None, TypeError),
    ("lr", np.ones(2), TypeError),
    ("weight_decay", -0.1, ValueError),
    ("weight_decay", "0.1", TypeError),
    ("maximize", 1, TypeError),
    ("maximize", "yes", TypeError),
    ("momentum", -0.1, ValueError),
    ("momentum", [0.9], TypeError),
    ("dampening", float("nan"), ValueError),
    ("nesterov", True, ValueError),
    ("nesterov", 1, TypeError),
    ("lr_decay", -1.0, ValueError),
    ("initial_accumulator_value", -1.0, ValueError),
    ("initial_accumulator_value", "0", TypeError),
    ("eps", -1.0, ValueError),
    ("eps", float("inf"), ValueError),
    ("alpha", -0.1, ValueError),
    ("centered", 1, TypeError),
    ("rho", 1.5, ValueError),
    ("betas", (0.9, 1.0), ValueError),
    ("betas", (-0.1, 0.9), ValueError),
    ("betas", (0.9, float("nan")), ValueError),
    ("betas", (0.9, 0.9, 0.9), ValueError),
    ("betas", ("0.9", "0.99"), TypeError),
    ("betas", "ab", TypeError),
    ("betas", 0.9, TypeError),
    ("betas", (True, 0.9), TypeError),
    ("amsgrad", 1, TypeError),
    ("momentum_decay", -1.0, ValueError),
    ("decoupled_weight_decay", "no", TypeError),
]


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(("option", "value", "error"), WRONG, ids=lambda v: getattr(v, "__name__", str(v)))
def test_options_are_checked(name: str, option: str, value: Any, error: type[Exception]) -> None:
    cls = getattr(optim, name)
    if option not in inspect.signature(cls).parameters:
        return
    with pytest.raises(error, match=f"^{option}: found .*expected "):
        cls([np.ones(3)], **{option: value})
    optimizer = cls([np.ones(3)])
    before = dict(optimizer.param_groups[0])
    with pytest.raises(error, match=f"^{option}: found .*expected "):
        optimizer.param_groups[0][option] = value
    with pytest.raises(error, match=f"^{option}: found .*expected "):
        optimizer.add_param_group({"params": {"x": np.ones(2)}, option: value})
    after = dict(optimizer.param_groups[0])
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (np.zeros(3), TypeError, "params: found one array"),
        (3, TypeError, "params: found int, expected a list or a dict"),
        (nn.Sequential(nn.Linear(2, 3, rng=0)), TypeError, r"params: found Sequential, expected .*its parameters\(\)"),
        ([np.zeros(3, np.int64)], TypeError, r"params\['0'\]: found dtype"),
        ([np.zeros((3, 4)).T], ValueError, r"params\['0'\]: found an array that is not C-contiguous"),
        ({"w": [1.0]}, TypeError, r"params\['w'\]: found list"),
        ([{"lr": 0.1}], ValueError, r"param_group: found \['lr'\]"),
        ([{"params": [np.ones(2)]}, [np.ones(2)]], TypeError, "param_group: found list"),
        ([{"params": [np.ones(2)], "rate": 1.0}], ValueError, "param_group: found"),
    ],
)
def test_parameters_are_checked(params: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        optim.SGD(params)
    net = nn.Linear(2, 3, rng=0)
    frozen = fastdl.record(net, np.ones((1, 2), np.float32), freeze=True)
    with pytest.raises(error, match=message):
        optim.SGD(params)
    del frozen


def test_parameters_that_share_memory() -> None:
    x = np.zeros(4)
    with pytest.raises(ValueError, match="memory shared with another parameter"):
        optim.SGD([x[:3], x[2:]])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda grads, params: grads.pop(), ValueError, "grads: found 4 gradients, expected 5"),
        (lambda grads, params: grads.append(grads[0]), ValueError, "grads: found 6 gradients, expected 5"),
        (
            lambda grads, params: grads.__setitem__(2, np.ones((5, 3))),
            ValueError,
            r"grads\['2'\]: found shape \(5, 3\)",
        ),
        (lambda grads, params: grads.__setitem__(4, grads[4].astype("f")), TypeError, r"grads\['4'\]: found dtype"),
        (lambda grads, params: grads.__setitem__(4, 1.0), TypeError, r"grads\['4'\]: found float"),
        (lambda grads, params: grads.__setitem__(4, params[4]), ValueError, r"grads\['4'\]: found an array that over"),
    ],
)
def test_nothing_changes_after_a_mistake(change: Any, error: type[Exception], message: str) -> None:
    params, grads = _arrays(np.float64), _arrays(np.float64, 1)
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
    before = [a.copy() for a in params]
    change(grads, params)
    with pytest.raises(error, match=message):
        optimizer.step(grads)
    _all_equal(params, before)
    assert optimizer.state["0"]["step"] == 0


def test_gradients_of_no_parameter() -> None:
    optimizer = optim.SGD({"a": np.ones(3), "b": np.ones(2)})
    with pytest.raises(ValueError, match=r"grads: found gradients of \['c'\], expected of \['a', 'b'\]"):
        optimizer.step({"a": np.ones(3), "c": np.ones(2)})
    with pytest.raises(TypeError, match="grads: found one array"):
        optimizer.step(np.ones((2, 3)))
    for options, message in (
        ({"grad_scale": -1.0}, "grad_scale: found"),
        ({"max_norm": "1"}, "max_norm: found"),
        ({"clip_value": True}, "clip_value: found"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            optimizer.step({"a": np.ones(3)}, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("step.0"), "also \\['step.0'\\]"),
        (lambda s: s.pop("groups.0.lr"), "also \\['groups.0.lr'\\]"),
        (lambda s: s.update(betas=1), "unexpected \\['betas'\\]"),
        (lambda s: s.update({"momentum_buffer.1": np.ones(3)}), "momentum_buffer.1: found"),
        (lambda s: s.update({"momentum_buffer.1": np.ones(17, int)}), "momentum_buffer.1: found"),
        (lambda s: s.update({"step.1": 0.5}), "step.1: found"),
        (lambda s: s.update({"groups.0.momentum": -1.0}), "momentum: found"),
    ],
)
def test_another_state_dict_is_refused(change: Any, message: str) -> None:
    optimizer = optim.SGD(_arrays(np.float64), momentum=0.9)
    optimizer.step(_arrays(np.float64, 1))
    before = optimizer.state_dict()
    state = {name: np.asarray(value) for name, value in optimizer.state_dict().items()}
    state["groups.0.lr"] = 7.0
    change(state)
    with pytest.raises((ValueError, TypeError), match=message):
        optimizer.load_state_dict(state)
    _all_equal(optimizer.state_dict().values(), before.values())


def test_what_is_of_another_kind() -> None:
    optimizer = optim.SGD([np.ones(3)])
    schedule = lr_scheduler.StepLR(optimizer, 1)
    for wrong, message in (
        (lambda: optimizer.load_state_dict(3), "state: found int"),
        (lambda: schedule.load_state_dict([1]), "state: found list"),
        (lambda: optimizer.param_groups[0].update(params=[np.ones(2)]), "params: a parameter group keeps its own"),
        (lambda: optim.Optimizer([np.ones(2)], {"lr": 1.0}), "Optimizer: expected a subclass"),
        (lambda: optim.clip_grad_norm_(3, 1.0), "grads: found int"),
        (lambda: optim.clip_grad_value_([np.ones(3)], "a"), "clip_value: found 'a'"),
    ):
        with pytest.raises(TypeError, match=message):
            wrong()


def test_a_state_of_float16() -> None:
    params = dict(zip("abcde", _arrays(np.float32), strict=True))
    optimizer = optim.Adam(params, amsgrad=True)
    optimizer.step(dict(zip("abcde", _arrays(np.float32, 1), strict=True)))
    state = {
        name: value.astype(np.float16) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
        for name, value in optimizer.state_dict().items()
    }
    other = optim.Adam({name: a.copy() for name, a in params.items()}, amsgrad=True)
    other.load_state_dict(state)
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, np.asarray(state[name]))
    assert other.state["b"]["exp_avg"].dtype == np.float32
    other.step(dict(zip("abcde", _arrays(np.float32, 1), strict=True)))


def test_momentum_may_begin_and_end_later_as_in_torch(monkeypatch: Any) -> None:
    for wrap in (nullcontext, lambda: nn.backend(reference)):
        params, wide = _arrays(np.float64), _arrays(np.float64)
        optimizer = optim.SGD(params, lr=0.1, dampening=0.3)
        step_of_peer, peer = _peer("SGD", wide, monkeypatch, lr=0.1, dampening=0.3)
        for step, momentum in enumerate([0, 0, 0.9, 0.9, 0, 0, 0.5, 0.5]):
            optimizer.param_groups[0]["momentum"] = peer.param_groups[0]["momentum"] = momentum
            grads = _arrays(np.float64, step + 1)
            with wrap():
                optimizer.step(grads)
            step_of_peer(grads)
            for found, expected in zip(params, wide, strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
        resumed = optim.SGD([a.copy() for a in params])
        resumed.load_state_dict(optimizer.state_dict())
        grads = _arrays(np.float64, 99)
        optimizer.step(grads)
        resumed.step(grads)
        _all_equal(params, resumed.params.values())


def test_a_bound_step_sees_options_that_need_other_states() -> None:
    x, y, grad = np.ones(3), np.ones(3), np.full(3, 0.5)
    optimizer, twin = optim.SGD([x], lr=0.1), optim.SGD([y], lr=0.1)
    step = optimizer.bind([grad])
    for momentum in (0.0, 0.9, 0.9):
        optimizer.param_groups[0]["momentum"] = twin.param_groups[0]["momentum"] = momentum
        step()
        twin.step([grad])
    np.testing.assert_array_equal(x, y)
    assert x[0] != pytest.approx(1 - 3 * 0.05)


@EVERY
@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_go_on_as_the_original(name: str, options: dict[str, Any], how: Any) -> None:
    """And share no memory with it; parameters that were copied along are those that the copy updates."""
    params = dict(zip("abcde", _arrays(np.float32), strict=True))
    optimizer = getattr(optim, name)([{"params": {"a": params.pop("a")}, "lr": 0.1}, {"params": params}], **options)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step([_arrays(np.float32, 1)[0], None, *_arrays(np.float32, 1)[2:]])
    copied_params, copied, copied_schedule = how((params, optimizer, schedule))
    assert copied_schedule.optimizer is copied
    assert copied.params["b"] is copied_params["b"]
    for one, other in ((optimizer, schedule), (copied, copied_schedule)):
        for seed in (2, 3):
            one.step(_arrays(np.float32, seed))
            other.step()
    _all_equal(copied.params.values(), optimizer.params.values())
    _all_equal(copied.state_dict().values(), optimizer.state_dict().values())
    copied.step(_arrays(np.float32, 4))
    assert any((copied.params[key] != optimizer.params[key]).any() for key in copied.params)
    group = how(optimizer.param_groups[1])
    assert dict(group).keys() == dict(optimizer.param_groups[1]).keys()


def _sign_step(param: Any, grad: Any, momentum_buffer: Any, step: int, lr: float, momentum: float) -> None:
    if momentum > 1:
        raise ValueError(f"momentum: found {momentum}, expected at most 1")
    momentum_buffer *= momentum
    momentum_buffer += grad
    param -= lr / step * np.sign(momentum_buffer)


class SignDescent(optim.Optimizer):
    update = staticmethod(_sign_step)

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})


def test_an_optimizer_of_ones_own() -> None:
    """Groups, schedules, skipped parameters, clipping, binding, states and copies come with the class."""
    a, b = np.ones(4), np.ones((2, 3), np.float32)
    optimizer = SignDescent([{"params": {"a": a}, "momentum": 0.0}, {"params": {"b": b}, "lr": 0.5}], lr=0.25)
    schedule = lr_scheduler.OneCycleLR(optimizer, [0.1, 0.2], total_steps=4)
    optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = 0.25, 0.5
    norm = optimizer.step({"a": np.array([3.0, -4.0, 0.0, 0.0])}, max_norm=1.0, clip_value=0.5)
    assert norm == 5.0
    np.testing.assert_allclose(optimizer.state["a"]["momentum_buffer"], [0.5, -0.5, 0, 0])
    np.testing.assert_array_equal(a, [0.75, 1.25, 1, 1])
    np.testing.assert_array_equal(b, 1)
    assert [int(own["step"]) for own in optimizer.state.values()] == [1, 0]
    step = optimizer.bind({"a": np.ones(4), "b": np.ones((2, 3), np.float32)})
    step()
    np.testing.assert_array_equal(b, 0.5)
    schedule.step()
    copied = pickle.loads(pickle.dumps(optimizer))
    other = SignDescent([{"params": {"a": a.copy()}}, {"params": {"b": b.copy()}}])
    other.load_state_dict(optimizer.state_dict())
    for one in (optimizer, copied, other):
        one.step({"a": np.full(4, -1.0), "b": np.ones((2, 3), np.float32)})
    for one in (copied, other):
        _all_equal(one.params.values(), optimizer.params.values())
    for wrong, message in (
        (lambda: SignDescent([a], lr=-1.0), "lr: found"),
        (lambda: SignDescent([a], momentum=2.0), "momentum: found 2.0"),
        (lambda: optimizer.param_groups[0].update(momentum=2.0), "momentum: found 2.0"),
        (lambda: optimizer.step({"a": np.ones(3)}), r"grads\['a'\]: found shape"),
        (lambda: optimizer.step({"a": a}), r"grads\['a'\]: found an array that overlaps"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


def test_tied_parameters() -> None:
    """An array that is given twice is updated once, by what both names have."""
    w, v = np.ones(3), np.ones(2)
    optimizer = optim.SGD({"first": w, "v": v, "second": w}, lr=1.0)
    assert list(optimizer.params) == ["first", "v"]
    grad = np.full(3, 0.25)
    optimizer.step({"first": grad})
    np.testing.assert_array_equal(w, 0.75)
    optimizer.step({"second": grad})
    np.testing.assert_array_equal(w, 0.5)
    optimizer.step({"first": grad, "second": grad, "v": np.ones(2)})  # one array: the gradient of both
    np.testing.assert_array_equal(w, 0.25)
    optimizer.step({"first": grad, "second": grad.copy()})
    np.testing.assert_array_equal(w, -0.25)
    optimizer.add_param_group({"params": {"third": v}})
    optimizer.step([None, np.ones(2), None, np.ones(2)])
    np.testing.assert_array_equal(v, -2)
    assert optimizer.state_dict().keys() == optim.SGD({"first": w, "v": v}).state_dict().keys() | {
        f"groups.1.{name}" for name in optimizer.defaults
    }


def test_a_network_with_tied_and_frozen_layers() -> None:
    net = nn.Sequential(nn.Linear(3, 3, rng=0), nn.Linear(3, 3, rng=1), nn.Linear(3, 3, rng=2))
    net[1].weight = net[0].weight
    net[2].requires_grad_(False)
    for params in (net.parameters(), dict(net.named_parameters()), net.named_parameters()):
        optimizer = optim.Adam(params, lr=0.1)
        before = {name: array.copy() for name, array in net.parameters().items()}
        net.backward(net(np.ones((2, 3), np.float32)))
        optimizer.step(net.grads)
        changed = {name for name, array in net.parameters().items() if (array != before[name]).any()}
        assert changed == {"0.weight", "0.bias", "1.bias"}
        assert {name: int(own["step"]) for name, own in optimizer.state.items()} == {
            name: int(not name.startswith("2")) for name in before
        }


_DRAWS: dict[str, Callable[[Any], Any]] = {
    "lr": lambda rng: float(10.0 ** rng.uniform(-4, -0.5)),
    "momentum": lambda rng: float(rng.choice([0.0, 0.5, 0.9, 0.99])),
    "dampening": lambda rng: float(rng.choice([0.0, 0.1, 1.0])),
    "weight_decay": lambda rng: float(rng.choice([0.0, 1e-3, 0.3])),
    "nesterov": lambda rng: bool(rng.integers(2)),
    "maximize": lambda rng: bool(rng.integers(2)),
    "lr_decay": lambda rng: float(rng.choice([0.0, 0.1, 1.0])),
    "initial_accumulator_value": lambda rng: float(rng.choice([0.0, 0.1, 3.0])),
    "eps": lambda rng: float(10.0 ** rng.uniform(-10, -1)),
    "alpha": lambda rng: float(rng.choice([0.0, 0.5, 0.9, 0.99])),
    "centered": lambda rng: bool(rng.integers(2)),
    "rho": lambda rng: float(rng.choice([0.0, 0.5, 0.9, 0.99])),
    "betas": lambda rng: (float(rng.choice([0.0, 0.5, 0.9])), float(rng.choice([0.0, 0.5, 0.99, 0.999]))),
    "amsgrad": lambda rng: bool(rng.integers(2)),
    "momentum_decay": lambda rng: float(rng.choice([0.0, 4e-3, 0.5])),
    "decoupled_weight_decay": lambda rng: bool(rng.integers(2)),
}


@pytest.mark.parametrize("name", CLASSES)
def test_options_at_random_as_torch(name: str, monkeypatch: Any) -> None:
    """Ten steps each, of 1 to 5 parameters, some without a gradient at times, the learning rate changing."""
    cls = getattr(optim, name)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        options = {o: _DRAWS[o](rng) for o in inspect.signature(cls).parameters if o != "params" and rng.random() < 0.7}
        if options.get("nesterov"):
            options |= {"momentum": 0.9, "dampening": 0.0}
        if options.get("centered"):
            # The variance is a difference, of which torch takes the root where rounding leads below 0.
            options |= {"alpha": 0.9, "eps": 0.1}
        shapes = [tuple(map(int, rng.integers(0, 40, rng.integers(0, 3)))) for _ in range(rng.integers(1, 6))]
        params = _arrays(np.float64, seed, shapes)
        wide = [a.copy() for a in params]
        optimizer = cls(params, **options)
        step_of_peer, peer = _peer(name, wide, monkeypatch, **options)
        scale = float(10.0 ** rng.uniform(-3, 2))
        for step in range(10):
            grads = [
                np.asarray(scale * g) if rng.random() < 0.9 else None
                for g in _arrays(np.float64, 100 * seed + step, shapes)
            ]
            optimizer.step(grads)
            step_of_peer(grads)
            if step == 5:
                for group in (*optimizer.param_groups, *peer.param_groups):
                    group["lr"] = 0.5 * group["lr"]
        for found, expected in zip(params, wide, strict=True):
            largest = np.abs(expected).max(initial=1.0)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11 * largest, err_msg=f"{seed} {options}")


def test_an_optimizer_is_in_five_files() -> None:
    """One that is added touches no more, outside the tests: the same holds for one that is there. A sixth is its
    version in Numba, if there is to be one."""
    home = Path(__file__).parents[1]
    if not (home / "csrc").is_dir():
        pytest.skip("the sources are not here")
    files = [f for folder in ("csrc", "fastdl") for f in (home / folder).rglob("*") if f.suffix in (".c", ".h", ".py")]
    # What the build writes is not in the repository.
    name = re.compile(r"(?<![a-z])lion", re.IGNORECASE)  # and not a million
    naming = {str(f.relative_to(home)) for f in files if f.name != "_kernels.py" and name.search(f.read_text())}
    assert naming == {
        "csrc/fastdl.h",
        "csrc/kernels/optim.c",
        "fastdl/numba/kernels/optim.py",
        "fastdl/optim/momentum.py",
        "fastdl/optim/__init__.py",
        "fastdl/reference/optim.py",
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.NAdam, optim.RMSprop, optim.Lion, optim.Adadelta])
def test_states_do_not_stay_subnormal(make: Any, dtype: Any) -> None:
    """Arithmetic on subnormal numbers takes a hundred cycles each, and a decaying average never gets beyond them."""
    options = {"momentum": 0.9} if make is optim.SGD else {}
    param = np.ones(33, dtype)
    optimizer = make([param], **options)
    optimizer.step([np.zeros(33, dtype)])
    tiny = np.finfo(dtype).smallest_normal
    for state in optimizer.state["0"].values():
        if state.shape == param.shape:
            state[:] = tiny / 8
            state[7] = np.nan
    optimizer.step([np.zeros(33, dtype)])
    for state in optimizer.state["0"].values():
        if state.shape == param.shape:
            assert np.isnan(state[7])
            assert not np.delete(state, 7).any()
