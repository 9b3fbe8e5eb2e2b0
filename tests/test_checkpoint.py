"""Checkpoints: a training that goes on from one is the one that never stopped, to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import _files, nn, optim
from tests.support import HOME, WITH_TESTS
from tests.test_files import ENDINGS

X = np.random.default_rng(7).standard_normal((64, 2, 6, 6), np.float32)
TARGET = np.arange(64) % 3


class Training:
    """Everything that changes: parameters, running statistics, dropout, states, schedule, the order of the data."""

    def __init__(self, kind: str = "AdamW") -> None:
        self.net = nn.Sequential(
            nn.Conv2d(2, 4, 3, rng=0), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.2, seed=3),
            nn.Flatten(), nn.Dropout(0.3, seed=4), nn.Linear(64, 3, rng=1),
        )  # fmt: skip
        options = {"SGD": {"momentum": 0.9, "nesterov": True}, "AdamW": {"amsgrad": True}, "NAdam": {}}[kind]
        self.optimizer = getattr(optim, kind)(self.net.parameters(), lr=0.01, **options)
        warm_up = optim.lr_scheduler.LinearLR(self.optimizer, 0.3, total_iters=3)
        plateau = optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=10)
        self.schedule = optim.lr_scheduler.SequentialLR(self.optimizer, [warm_up, plateau], milestones=[3])
        self.rng = np.random.default_rng(5)
        self.loss = nn.CrossEntropyLoss()

    def steps(self, count: int) -> list[float]:
        losses = []
        for _ in range(count):
            rows = self.rng.integers(0, len(X), 16)
            losses.append(float(self.loss(self.net(X[rows]), TARGET[rows])))
            self.net.backward(self.loss.backward(), input_grad=False)
            self.optimizer.step(self.net.grads, max_norm=1.0)
            self.schedule.step()
        return losses

    def parts(self) -> dict[str, Any]:
        return {
            "model": self.net,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "generators": {"data": self.rng},
        }


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["SGD", "AdamW", "NAdam"])
def test_goes_on_as_if_it_had_never_stopped(tmp_path: Path, kind: str, ending: str) -> None:
    one = Training(kind)
    one.steps(5)
    fastdl.save_checkpoint(tmp_path / f"x.{ending}", **one.parts(), epoch=5)
    expected = one.steps(6)
    other = Training(kind)
    other.steps(2)
    assert fastdl.load_checkpoint(tmp_path / f"x.{ending}", **other.parts()) == {"epoch": 5}
    assert other.steps(6) == expected
    for name, array in one.net.state_dict().items():
        np.testing.assert_array_equal(other.net.state_dict()[name], array)
    for name, value in one.optimizer.state_dict().items():
        np.testing.assert_array_equal(other.optimizer.state_dict()[name], value)


def test_in_another_process_and_by_a_program(tmp_path: Path) -> None:
    one = Training()
    one.steps(4)
    fastdl.save_checkpoint(tmp_path / "x.npz", **one.parts())
    code = f"""
import fastdl
from fastdl import nn
from tests.test_checkpoint import TARGET, Training, X
one = Training()
fastdl.load_checkpoint({str(tmp_path / "x.npz")!r}, **one.parts())
step = nn.compile_step(one.net, one.loss, one.optimizer, X[:16], TARGET[:16], max_norm=1.0)
step(X[:16], TARGET[:16])
fastdl.load_checkpoint({str(tmp_path / "x.npz")!r}, **one.parts())  # which the program sees
for _ in range(4):
    rows = one.rng.integers(0, len(X), 16)
    print(float(step(X[rows], TARGET[rows])).hex())
    one.schedule.step()
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=HOME, env=WITH_TESTS, capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.split() == [loss.hex() for loss in one.steps(4)]


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_generator_of_numpy(tmp_path: Path, kind: str, ending: str) -> None:
    one, other = (np.random.Generator(getattr(np.random, kind)(seed)) for seed in (1, 2))
    one.integers(10, size=3, dtype=np.uint32)  # half of 64 bits are kept for later
    fastdl.save_checkpoint(tmp_path / f"x.{ending}", generators=one)
    fastdl.load_checkpoint(tmp_path / f"x.{ending}", generators=other)
    np.testing.assert_array_equal(one.integers(1 << 30, size=700), other.integers(1 << 30, size=700))


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_else_is_kept(tmp_path: Path, ending: str) -> None:
    extra = {
        "epoch": 3,
        "best": float("-inf"),
        "name": "näme",
        "history": {"loss": [0.5, float("nan")], "array": np.arange(3.0), "none": None, "empty": {}},
        "rate": np.float32(0.1),
        "pair": (1, True),
        "large": 1 << 200,
    }
    fastdl.save_checkpoint(tmp_path / f"x.{ending}", **extra)
    found = fastdl.load_checkpoint(tmp_path / f"x.{ending}")
    np.testing.assert_equal(found, extra | {"rate": float(np.float32(0.1)), "pair": [1, True]})
    assert found["history"]["array"].dtype == np.float64


def test_several_of_each(tmp_path: Path) -> None:
    def made(seed: int) -> dict[str, Any]:
        nets = {"generator": nn.Linear(2, 3, rng=seed), "critic": nn.Linear(3, 1, rng=seed + 1)}
        optimizers = {name: optim.RMSprop(net.parameters()) for name, net in nets.items()}
        return {"model": nets, "optimizer": optimizers}

    one, other = made(0), made(10)
    fastdl.save_checkpoint(tmp_path / "x.npz", **one)
    fastdl.load_checkpoint(tmp_path / "x.npz", **other)
    for name, net in one["model"].items():
        np.testing.assert_array_equal(other["model"][name].weight, net.weight)
    alone = {"critic": nn.Linear(3, 1)}
    with pytest.raises(ValueError, match=r"path: found a checkpoint with 'model/generator', .*expected 'model/critic'"):
        fastdl.load_checkpoint(tmp_path / "x.npz", model=alone)


def test_a_model_alone_and_its_weights_where_they_are(tmp_path: Path) -> None:
    one, other = Training(), Training()
    one.steps(3)
    fastdl.save_checkpoint(tmp_path / "x.npz", **one.parts())
    bound = other.net.bind(X[:2])
    weight = other.net[0].weight
    assert fastdl.load_checkpoint(tmp_path / "x.npz", model=other.net) == {}
    assert other.net[0].weight is weight
    np.testing.assert_array_equal(bound(X[:2]), one.net.bind(X[:2])(X[:2]))


def test_after_a_mistake_nothing_has_changed(tmp_path: Path) -> None:
    one, path = Training(), tmp_path / "x.npz"
    one.steps(3)
    fastdl.save_checkpoint(path, **one.parts())
    other = Training()
    other.steps(1)
    expected = Training()
    expected.steps(1)
    small = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Dropout(seed=1))
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"optimizer": optim.SGD(other.net.parameters())}, ValueError, "optimizer: found the state of a AdamW"),
        (
            {"optimizer": optim.AdamW(small.parameters())},
            ValueError,
            "optimizer: exp_avg.0.weight: found shape",
        ),
        ({"schedule": optim.lr_scheduler.StepLR(other.optimizer, 2)}, ValueError, "schedule: found the state of a Seq"),
        ({"generators": {"other": other.rng}}, ValueError, "path: found a checkpoint with"),
        ({"generators": {"data": np.random.Generator(np.random.MT19937(0))}}, ValueError, "found the state of a PCG64"),
        ({"model": small}, ValueError, "model: found random layers '3', '5', expected '1'"),
        ({"model": nn.Linear(64, 3)}, ValueError, "model: found random layers '3', '5', expected none"),
        ({"model": Training().net.to(np.float64)}, ValueError, "model: found '0.weight' of dtype float32, expected fl"),
        ({"model": other.optimizer}, TypeError, "model: found AdamW, expected Module"),
        ({"generators": 5}, TypeError, "generators: found int, expected Generator"),
    ]
    for changed, error, message in wrong:
        with pytest.raises(error, match=message):
            fastdl.load_checkpoint(path, **other.parts() | changed)
    assert other.steps(3) == expected.steps(3)


@pytest.mark.parametrize(
    "about",
    [
        None,
        [],
        {"format": 99, "parts": {}, "extra": {}},
        {"format": 1, "parts": {"model": {}}, "extra": {}},
        {"format": 1, "parts": {"model": {"state": 3, "random": {}}}, "extra": {}},
        {"format": 1, "parts": {"model": {"state": {"weight": {"__array__": "nothing"}}, "random": {}}}, "extra": {}},
        {"format": 1, "parts": 5, "extra": {}},
        {"format": 1, "parts": {"model": 5}, "extra": {}},
        {"format": 1, "parts": {"model": {"state": {"weight": {}}, "random": {}}}, "extra": {}},
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, about: Any) -> None:
    _files.write(tmp_path / "x.npz", {"weight": np.ones((2, 3), np.float32)}, about)
    net = nn.Linear(3, 2, rng=0)
    before = net.state_dict()
    with pytest.raises((ValueError, TypeError), match=r"^(path|model): "):
        fastdl.load_checkpoint(tmp_path / "x.npz", model=net)
    np.testing.assert_array_equal(net.weight, before["weight"])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"a": object()}, "extra/a: found object, expected arrays"),
        ({"a": {1: 2}}, "extra/a: found the key 1, expected a str"),
        ({"a": [np.array([None])]}, "extra/a/0: found dtype object"),
        ({"a": b"bytes"}, "extra/a: found bytes"),
    ],
)
def test_what_cannot_be_kept(tmp_path: Path, extra: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fastdl.save_checkpoint(tmp_path / "x.npz", **extra)
    assert os.listdir(tmp_path) == []


def test_killed_at_any_moment_there_is_a_whole_one(tmp_path: Path) -> None:
    """A process that writes again and again is killed; what is there loads."""
    code = f"""
import fastdl, numpy as np
for i in range(100000):
    fastdl.save_checkpoint({str(tmp_path / "x.npz")!r}, step=i, array=np.full(200000, i))
    if i == 0:
        print("begun", flush=True)
"""
    for wait in (0.0, 0.003, 0.011):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=HOME, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        process.stdout.close()
        found = fastdl.load_checkpoint(tmp_path / "x.npz")
        assert (found["array"] == found["step"]).all()
