"""Schedules of learning rates: against torch, together, continued, and their mistakes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastdl import optim
from fastdl.optim import lr_scheduler

Make = Callable[[Any, Any], Any]
"""From the module of schedules, fastdl's or torch's, and an optimizer to a schedule of it."""


def _fall(epoch: int) -> float:
    return 1 / (1 + epoch)


def _twice_in_five(epoch: int) -> float:
    return 0.5 if epoch % 5 in (1, 2) else 1.0


SCHEDULES: dict[str, Make] = {
    "StepLR": lambda s, o: s.StepLR(o, 30, gamma=0.3),
    "StepLR every": lambda s, o: s.StepLR(o, 1, gamma=0.95),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [80, 30, 30], gamma=0.5),
    "MultiStepLR at once": lambda s, o: s.MultiStepLR(o, [0, 1, 2, 2], gamma=0.5),
    "ConstantLR": lambda s, o: s.ConstantLR(o, factor=0.5, total_iters=10),
    "ConstantLR 1": lambda s, o: s.ConstantLR(o, factor=1.0, total_iters=1),
    "LinearLR": lambda s, o: s.LinearLR(o, start_factor=0.25, total_iters=20),
    "LinearLR down": lambda s, o: s.LinearLR(o, start_factor=1.0, end_factor=0.5, total_iters=7),
    "LinearLR to 0": lambda s, o: s.LinearLR(o, start_factor=0.7, end_factor=0.0, total_iters=9),
    "LinearLR at once": lambda s, o: s.LinearLR(o, start_factor=0.1, total_iters=1),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.97),
    "ExponentialLR 0": lambda s, o: s.ExponentialLR(o, 0.0),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, total_iters=40, power=2.5),
    "PolynomialLR line": lambda s, o: s.PolynomialLR(o, total_iters=7),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 40, eta_min=1e-4),
    "CosineAnnealingLR over and over": lambda s, o: s.CosineAnnealingLR(o, 3),
    "CosineAnnealingLR 1": lambda s, o: s.CosineAnnealingLR(o, 1, eta_min=1e-3),
    "CosineAnnealingLR above": lambda s, o: s.CosineAnnealingLR(o, 25, eta_min=0.05),
    "CosineAnnealingWarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 10, eta_min=1e-3),
    "CosineAnnealingWarmRestarts longer": lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, T_mult=3),
    "CosineAnnealingWarmRestarts 1": lambda s, o: s.CosineAnnealingWarmRestarts(o, 1),
    "LambdaLR": lambda s, o: s.LambdaLR(o, [lambda epoch: 0.9**epoch, _fall]),
    "MultiplicativeLR": lambda s, o: s.MultiplicativeLR(o, [_twice_in_five, lambda epoch: 0.99]),
    "CyclicLR": lambda s, o: s.CyclicLR(o, 0.01, [0.3, 0.1], step_size_up=7, step_size_down=12),
    "CyclicLR triangular2": lambda s, o: s.CyclicLR(o, 0.01, 0.1, step_size_up=5, mode="triangular2"),
    "CyclicLR exp_range": lambda s, o: s.CyclicLR(
        o, [0.01, 0.0], 0.1, 4, mode="exp_range", gamma=0.98, base_momentum=0.7, max_momentum=0.95
    ),
    "CyclicLR function": lambda s, o: s.CyclicLR(
        o, 0.01, 0.1, 3, 1, scale_fn=lambda x: 1 / (1 + x), scale_mode="iterations", cycle_momentum=False
    ),
    "CyclicLR function of cycles": lambda s, o: s.CyclicLR(o, 0.01, 0.1, 1, scale_fn=lambda x: 1 / x),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, max_lr=[1.0, 0.5], total_steps=110),
    "OneCycleLR linear": lambda s, o: s.OneCycleLR(o, 1.0, epochs=11, steps_per_epoch=10, anneal_strategy="linear"),
    "OneCycleLR three": lambda s, o: s.OneCycleLR(o, 1.0, 120, three_phase=True, pct_start=0.4, div_factor=10.0),
    "OneCycleLR no momentum": lambda s, o: s.OneCycleLR(o, 1.0, 111, cycle_momentum=False, final_div_factor=100.0),
    "OneCycleLR only down": lambda s, o: s.OneCycleLR(o, 1.0, 130, pct_start=0.0),
    "OneCycleLR momenta": lambda s, o: s.OneCycleLR(
        o, 1.0, 140, base_momentum=[0.5, 0.6], max_momentum=0.99, anneal_strategy="linear", three_phase=True
    ),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=5), s.CosineAnnealingLR(o, 60), s.ExponentialLR(o, 0.9)], [5, 65]
    ),
    "SequentialLR of one": lambda s, o: s.SequentialLR(o, [s.StepLR(o, 3)], []),
    "SequentialLR from 0": lambda s, o: s.SequentialLR(o, [s.ConstantLR(o, 0.1), s.StepLR(o, 20, 0.5)], [0]),
    "SequentialLR of all": lambda s, o: s.SequentialLR(
        o,
        [
            s.ConstantLR(o, 0.5, 3),
            s.LinearLR(o, 0.1, total_iters=5),
            s.PolynomialLR(o, 10),
            s.MultiStepLR(o, [2, 4]),
            s.LambdaLR(o, _fall),
            s.CosineAnnealingWarmRestarts(o, 4),
            s.MultiplicativeLR(o, _twice_in_five),
            s.StepLR(o, 2, 0.5),
        ],
        [3, 10, 21, 30, 31, 44, 60],
    ),
    "SequentialLR with cycles": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=5), s.CyclicLR(o, 0.01, 0.1, 4)], [10]
    ),
    "ChainedScheduler": lambda s, o: s.ChainedScheduler(
        [s.ConstantLR(o, 0.1, 20), s.ExponentialLR(o, 0.99), s.CosineAnnealingLR(o, 30, 1e-3), s.StepLR(o, 7, 0.9)]
    ),
}
NAMED = pytest.mark.parametrize("name", SCHEDULES)


def _pair(kind: str, **options: Any) -> tuple[Any, Any, Any]:
    """The same optimizer of two groups, fastdl's and torch's, and torch's module of schedules."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def groups(array: Any) -> list[dict[str, Any]]:
        return [{"params": [array(3)]}, {"params": [array(2)], "lr": 0.02}]

    options = {"lr": 0.1} | options
    optimizer = getattr(optim, kind)(groups(np.ones), **options)
    peer = getattr(torch.optim, kind)(groups(lambda n: torch.ones(n, requires_grad=True)), **options)
    return optimizer, peer, torch.optim.lr_scheduler


def _same(optimizer: Any, peer: Any, where: Any) -> None:
    for group, wanted in zip(optimizer.param_groups, peer.param_groups, strict=True):
        assert group["lr"] == pytest.approx(max(0.0, wanted["lr"]), rel=1e-9, abs=1e-15), where
        for key in ("momentum", "betas"):
            if key in group:
                assert group[key] == pytest.approx(wanted[key], rel=1e-9), where


@pytest.mark.parametrize("kind", ["SGD", "Adam", "RMSprop", "Adadelta"])
@NAMED
@pytest.mark.filterwarnings("ignore")
def test_as_torch(name: str, kind: str) -> None:
    """A hundred steps, of optimizers with momentum (which begins as 0), with betas, and without both."""
    optimizer, peer, theirs = _pair(kind)
    make = SCHEDULES[name]
    try:
        expected = make(theirs, peer)
    except ValueError:
        before = [dict(group) for group in optimizer.param_groups]
        with pytest.raises(ValueError, match="cycle_momentum: found True"):
            make(lr_scheduler, optimizer)
        if not name.startswith("Sequential"):  # the first in it is made before, and stays
            after = [{**group, "params": 0} for group in optimizer.param_groups]
            assert after == [{**own, "params": 0} for own in before]
        return
    schedule = make(lr_scheduler, optimizer)
    for epoch in range(100):
        _same(optimizer, peer, epoch)
        assert schedule.get_last_lr() == pytest.approx([max(0.0, lr) for lr in expected.get_last_lr()], rel=1e-9)
        if hasattr(expected, "last_epoch"):
            assert schedule.last_epoch == expected.last_epoch
        optimizer.step([np.ones(3), np.ones(2)])
        schedule.step()
        peer.step()
        expected.step()


@NAMED
@pytest.mark.parametrize("how", ["state", "deepcopy", "pickle"])
def test_goes_on_where_it_stopped(name: str, how: str, tmp_path: Any) -> None:
    """In a new schedule of a new optimizer, through a file; and as a copy."""
    if how == "pickle" and "lambda" in str(SCHEDULES[name].__code__.co_consts):
        return  # a function that has no name cannot be pickled
    optimizer, twin = (optim.SGD([{"params": [np.ones(3)]}, {"params": [np.ones(2)]}], lr=0.1) for _ in range(2))
    schedule, whole = (SCHEDULES[name](lr_scheduler, o) for o in (optimizer, twin))
    for epoch in range(90):
        if epoch in (0, 4, 37):
            if how == "state":
                np.savez(tmp_path / "optimizer.npz", **optimizer.state_dict())
                np.savez(tmp_path / "schedule.npz", **schedule.state_dict())
                optimizer = optim.SGD([{"params": [np.ones(3)]}, {"params": [np.ones(2)]}])
                schedule = SCHEDULES[name](lr_scheduler, optimizer)
                optimizer.load_state_dict(np.load(tmp_path / "optimizer.npz"))
                schedule.load_state_dict(np.load(tmp_path / "schedule.npz"))
            else:
                both = (optimizer, schedule)
                optimizer, schedule = copy.deepcopy(both) if how == "deepcopy" else pickle.loads(pickle.dumps(both))
            assert schedule.get_last_lr() == whole.get_last_lr()
        schedule.step()
        whole.step()
        assert [dict(g) | {"params": 0} for g in optimizer.param_groups] == [
            dict(g) | {"params": 0} for g in twin.param_groups
        ]


@NAMED
@pytest.mark.filterwarnings("ignore")
def test_last_epoch_as_torch(name: str) -> None:
    """A new schedule of the same optimizer that is told where the last one stopped."""
    if name.startswith(("Sequential", "Chained")):
        return  # are made of schedules, not told
    _, peer, theirs = _pair("SGD", momentum=0.9)
    optimizer, *_ = _pair("SGD", momentum=0.9)
    make = SCHEDULES[name]

    def continued(module: Any, it: Any, epoch: int) -> Any:
        class Resumed:
            def __getattr__(self, kind: str) -> Any:
                return lambda *args, **options: getattr(module, kind)(*args, last_epoch=epoch, **options)

        return make(Resumed(), it)

    schedule, expected = make(lr_scheduler, optimizer), make(theirs, peer)
    for epoch in range(60):
        if epoch in (3, 20, 41):
            schedule, expected = continued(lr_scheduler, optimizer, epoch), continued(theirs, peer, epoch)
            if name.startswith("CosineAnnealingWarmRestarts"):
                return  # torch takes the whole of last_epoch as steps of the first run
        _same(optimizer, peer, epoch)
        schedule.step()
        peer.step()
        expected.step()


@pytest.mark.filterwarnings("ignore")
def test_several_of_one_optimizer_and_changes_by_hand_as_torch() -> None:
    optimizer, peer, theirs = _pair("Adam")
    both = []
    for module, it in ((lr_scheduler, optimizer), (theirs, peer)):
        both.append([module.ExponentialLR(it, 0.99), module.LinearLR(it, 0.1, total_iters=9), module.StepLR(it, 4)])
    for epoch in range(30):
        _same(optimizer, peer, epoch)
        peer.step()
        if epoch == 12:
            for group in (*optimizer.param_groups, *peer.param_groups):
                group["lr"] = 0.7
        for schedules in both:
            for schedule in schedules:
                schedule.step()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize(("patience", "cooldown"), [(0, 0), (2, 0), (3, 4), (0, 2)])
def test_plateaus_as_torch(mode: str, threshold_mode: str, patience: int, cooldown: int) -> None:
    options = {
        "mode": mode,
        "threshold_mode": threshold_mode,
        "patience": patience,
        "cooldown": cooldown,
        "factor": 0.5,
        "threshold": 0.05,
        "min_lr": [1e-4, 1e-3],
        "eps": 1e-5,
    }
    optimizer, peer, theirs = _pair("SGD")
    schedule, expected = lr_scheduler.ReduceLROnPlateau(optimizer, **options), theirs.ReduceLROnPlateau(peer, **options)
    rng = np.random.default_rng(0)
    for epoch in range(80):
        loss = float(rng.normal() if epoch % 13 else np.nan) + (1 / (1 + epoch) if mode == "min" else epoch / 50)
        schedule.step(loss)
        expected.step(loss)
        _same(optimizer, peer, epoch)
        found = (schedule.best, schedule.num_bad_epochs, schedule.cooldown_counter, schedule.last_epoch)
        assert found == (expected.best, expected.num_bad_epochs, expected.cooldown_counter, expected.last_epoch)
        if epoch == 40:
            state = schedule.state_dict()
            schedule = lr_scheduler.ReduceLROnPlateau(optimizer)
            schedule.load_state_dict({name: np.asarray(value) for name, value in state.items()})
    for wrong in ("0.1", None, True, np.ones(2)):
        with pytest.raises(TypeError, match="metrics: found"):
            schedule.step(wrong)


def test_the_step_after_the_last_of_one_cycle() -> None:
    """torch makes step total_steps as well; its line goes on, below 0, where ours ends."""
    for strategy in ("cos", "linear"):
        optimizer = optim.SGD([np.ones(3)])
        schedule = lr_scheduler.OneCycleLR(optimizer, 1.0, 5, anneal_strategy=strategy)
        for _ in range(5):
            optimizer.step([np.ones(3)])
            schedule.step()
        assert 0 <= optimizer.lr < 0.3
        before = dict(optimizer.param_groups[0]), schedule.state_dict()
        with pytest.raises(ValueError, match="step: found 6 steps, expected at most total_steps, 5"):
            schedule.step()
        assert (dict(optimizer.param_groups[0]), schedule.state_dict()) == before


def test_sequences_of_sequences() -> None:
    """As one sequence of all; torch has no such thing."""

    def rates(nested: bool) -> list[float]:
        optimizer = optim.SGD([np.ones(2)], lr=1.0)
        s = lr_scheduler
        first, second = s.LinearLR(optimizer, 0.5, total_iters=3), s.ExponentialLR(optimizer, 0.9)
        third, fourth = s.StepLR(optimizer, 2, 0.5), s.CosineAnnealingLR(optimizer, 10)
        if nested:
            inner = s.SequentialLR(optimizer, [third, fourth], [4])
            schedule = s.SequentialLR(optimizer, [first, second, inner], [3, 7])
        else:
            schedule = s.SequentialLR(optimizer, [first, second, third, fourth], [3, 7, 11])
        found = []
        for _ in range(25):
            found.append(optimizer.lr)
            schedule.step()
        return found

    assert rates(True) == pytest.approx(rates(False), rel=1e-12)


class _Broken(lr_scheduler.LRScheduler):
    def get_lr(self) -> list[float]:
        return [0.5, -1.0] if self.last_epoch == self.wrong_at else [0.5, 0.5]

    def __init__(self, optimizer: Any, wrong_at: int) -> None:
        self.wrong_at = wrong_at
        super().__init__(optimizer)


def test_a_step_that_is_refused_changes_nothing() -> None:
    for wrong_at in (0, 2):
        optimizer = optim.SGD([{"params": [np.ones(3)]}, {"params": [np.ones(2)]}], lr=0.1)
        before = [dict(group) | {"params": 0} for group in optimizer.param_groups]
        if wrong_at == 0:
            with pytest.raises(ValueError, match="lr: found -1"):
                _Broken(optimizer, 0)
            assert [dict(group) | {"params": 0} for group in optimizer.param_groups] == before
            continue
        schedule = _Broken(optimizer, wrong_at)
        schedule.step()
        optimizer.lr = 0.3
        before = [dict(group) | {"params": 0} for group in optimizer.param_groups]
        with pytest.raises(ValueError, match="lr: found -1"):
            schedule.step()
        assert schedule.last_epoch == 1
        assert [dict(group) | {"params": 0} for group in optimizer.param_groups] == before


S = lr_scheduler
WRONG: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda o: S.StepLR(o, 0), ValueError, "step_size: found 0"),
    (lambda o: S.StepLR(o, 1.5), TypeError, "step_size: found 1.5"),
    (lambda o: S.StepLR(o, True), TypeError, "step_size: found True"),
    (lambda o: S.StepLR(o, 1, gamma="0.1"), TypeError, "gamma: found '0.1'"),
    (lambda o: S.StepLR(o, 1, last_epoch="a"), TypeError, "last_epoch: found 'a'"),
    (lambda o: S.StepLR(o, 1, last_epoch=3), ValueError, "last_epoch: found 3"),
    (lambda o: S.StepLR([np.ones(3)], 1), TypeError, "optimizer: found list"),
    (lambda o: S.MultiStepLR(o, 3), TypeError, "milestones: found 3"),
    (lambda o: S.MultiStepLR(o, [1, 2.5]), TypeError, "milestones: found 2.5"),
    (lambda o: S.CosineAnnealingLR(o, 0), ValueError, "T_max: found 0"),
    (lambda o: S.CosineAnnealingLR(o, 1, eta_min=-1.0), ValueError, "eta_min: found -1"),
    (lambda o: S.CosineAnnealingWarmRestarts(o, 0), ValueError, "T_0: found 0"),
    (lambda o: S.CosineAnnealingWarmRestarts(o, 1, 0), ValueError, "T_mult: found 0"),
    (lambda o: S.CosineAnnealingWarmRestarts(o, 1, 1.5), TypeError, "T_mult: found 1.5"),
    (lambda o: S.LinearLR(o, start_factor=0), ValueError, "start_factor: found 0"),
    (lambda o: S.LinearLR(o, end_factor=2), ValueError, "end_factor: found 2"),
    (lambda o: S.LinearLR(o, total_iters=0), ValueError, "total_iters: found 0"),
    (lambda o: S.PolynomialLR(o, 0), ValueError, "total_iters: found 0"),
    (lambda o: S.PolynomialLR(o, 3, "2"), TypeError, "power: found '2'"),
    (lambda o: S.ConstantLR(o, 2.0), ValueError, "factor: found 2.0"),
    (lambda o: S.LambdaLR(o, []), ValueError, "lr_lambda: found 0 functions"),
    (lambda o: S.LambdaLR(o, 0.5), TypeError, "lr_lambda: found 0.5"),
    (lambda o: S.MultiplicativeLR(o, [0.5]), TypeError, "lr_lambda: found 0.5"),
    (lambda o: S.ExponentialLR(o, -0.5), ValueError, "gamma: found -0.5"),
    (lambda o: S.OneCycleLR(o, 1.0), ValueError, "total_steps: found None"),
    (lambda o: S.OneCycleLR(o, 1.0, 0), ValueError, "total_steps: found 0"),
    (lambda o: S.OneCycleLR(o, 1.0, epochs=2, steps_per_epoch=1.5), TypeError, "steps_per_epoch: found 1.5"),
    (lambda o: S.OneCycleLR(o, 1.0, 10), ValueError, "cycle_momentum: found True"),
    (lambda o: S.OneCycleLR(o, 1.0, 10, pct_start=1.5, cycle_momentum=False), ValueError, "pct_start: found 1.5"),
    (lambda o: S.OneCycleLR(o, [1.0, 2.0], 9, cycle_momentum=False), ValueError, "max_lr: found 2 numbers"),
    (lambda o: S.OneCycleLR(o, "1", 9, cycle_momentum=False), TypeError, "max_lr: found '1'"),
    (lambda o: S.OneCycleLR(o, 1.0, 9, anneal_strategy="exp"), ValueError, "anneal_strategy: found 'exp'"),
    (lambda o: S.OneCycleLR(o, 1.0, 9, div_factor=0.0, cycle_momentum=False), ValueError, "div_factor: found 0"),
    (lambda o: S.CyclicLR(o, 0.1, 1.0), ValueError, "cycle_momentum: found True"),
    (lambda o: S.CyclicLR(o, 0.1, 1.0, 0, cycle_momentum=False), ValueError, "step_size_up: found 0"),
    (lambda o: S.CyclicLR(o, 0.1, 1.0, mode="saw", cycle_momentum=False), ValueError, "mode: found 'saw'"),
    (lambda o: S.CyclicLR(o, 0.1, 1.0, scale_fn=0.5, cycle_momentum=False), TypeError, "scale_fn: found 0.5"),
    (lambda o: S.ReduceLROnPlateau(o, factor=1.0), ValueError, "factor: found 1.0"),
    (lambda o: S.ReduceLROnPlateau(o, mode="less"), ValueError, "mode: found 'less'"),
    (lambda o: S.ReduceLROnPlateau(o, min_lr=[0.1, 0.2]), ValueError, "min_lr: found 2 numbers"),
    (lambda o: S.SequentialLR(o, [], []), ValueError, "schedulers: found none"),
    (lambda o: S.SequentialLR(o, S.StepLR(o, 1), []), TypeError, "schedulers: found"),
    (lambda o: S.SequentialLR(o, [S.StepLR(o, 1)], [3]), ValueError, "milestones: found 1"),
    (
        lambda o: S.SequentialLR(o, [S.ReduceLROnPlateau(o)], []),
        ValueError,
        r"schedulers\[0\]: found ReduceLROnPlateau",
    ),
    (
        lambda o: S.SequentialLR(o, [S.StepLR(optim.SGD([np.ones(2)]), 1)], []),
        ValueError,
        r"schedulers\[0\]: found one",
    ),
    (lambda o: S.SequentialLR(o, [S.StepLR(o, 1)] * 3, [5, 3]), ValueError, "milestones: found"),
    (lambda o: S.ChainedScheduler([]), ValueError, "schedulers: found none"),
    (lambda o: S.ChainedScheduler([3]), TypeError, r"schedulers\[0\]: found int"),
    (lambda o: S.LRScheduler(o), NotImplementedError, "LRScheduler.get_lr"),
]


@pytest.mark.parametrize(("make", "error", "message"), WRONG, ids=[f"{i}" for i in range(len(WRONG))])
def test_mistakes(make: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    optimizer = optim.Adagrad([np.ones(3)], lr=0.25)
    with pytest.raises(error, match=message):
        make(optimizer)
    assert optimizer.lr == 0.25


def test_states_of_another_schedule() -> None:
    optimizer = optim.SGD([np.ones(3)], lr=0.5)
    schedule = S.SequentialLR(optimizer, [S.StepLR(optimizer, 3), S.ExponentialLR(optimizer, 0.5)], [4])
    state, before = schedule.state_dict(), copy.deepcopy(schedule.state_dict())
    for change, message in (
        ({"last_epoch": "a"}, "last_epoch"),
        ({"0.base_lrs": [0.1, 0.2]}, "base_lrs"),
        ({"1.gamma": [0.5]}, "gamma"),
        ({"2.gamma": 0.5}, "state: found"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            schedule.load_state_dict(state | {"1.last_epoch": 17} | change)
        assert schedule.state_dict() == before
    with pytest.raises(ValueError, match="state: found"):
        S.StepLR(optimizer, 3).load_state_dict({"last_epoch": 1})
