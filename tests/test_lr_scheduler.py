"""Schedules of learning rates: against torch, and their mistakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastdl import optim
from fastdl.optim import lr_scheduler

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
        (lambda: lr_scheduler.ExponentialLR(optimizer, -0.5), ValueError, "gamma: found"),
        (lambda: lr_scheduler.SequentialLR(optimizer, [], []), ValueError, "schedulers: found none"),
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
