"""fastdl.training: fit against loops written out, and what it keeps when it is stopped or killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import load_checkpoint, nn, optim, training
from tests.support import HOME, WITH_TESTS

Array = np.ndarray


def _data(n: int = 70, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 5), np.float32)
    return x, (x @ rng.standard_normal((5, 3), np.float32)).argmax(1)


def _net(seed: int = 0) -> nn.Sequential:
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        *(nn.Linear(5, 16, rng=rng), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2, seed=seed)),
        nn.Linear(16, 3, rng=rng),
    )


def _same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def _fit(net: nn.Module, data: Any = None, epochs: int = 3, **options: Any) -> training.History:
    optimizer = options.pop("optimizer", None) or optim.Adam(net.parameters(), lr=0.01)
    options = {"batch_size": 16, "rng": 1} | options
    return training.fit(net, _data() if data is None else data, nn.CrossEntropyLoss(), optimizer, epochs, **options)


def _written_out(net: nn.Module, epochs: int = 3, drop_last: bool = False, **clipping: Any) -> list[float]:
    """What fit does, in plain Python."""
    x, y = _data()
    loss, optimizer = nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=0.01)
    rng, losses = np.random.default_rng(1), []
    for _ in range(epochs):
        order, total, count = rng.permutation(len(x)), 0.0, 0
        for start in range(0, len(x) // 16 * 16 if drop_last else len(x), 16):
            rows = order[start : start + 16]
            value = float(loss(net(x[rows]), y[rows]))
            net.backward(loss.backward(), input_grad=False)
            optimizer.step(net.grads, **clipping)
            total, count = total + value * len(rows), count + len(rows)
        losses.append(total / count)
    return losses


@pytest.mark.parametrize(
    "options",
    [{}, {"record": False}, {"transform": lambda rng, x, y: (x, y)}, {"drop_last": True}, {"max_norm": 0.1}],
    ids=["native", "plain", "transform", "drop_last", "max_norm"],
)
def test_is_the_loop_written_out(options: dict[str, Any]) -> None:
    net, other = _net(), _net()
    history = _fit(net, **options)
    losses = _written_out(other, drop_last=options.get("drop_last", False), max_norm=options.get("max_norm"))
    assert _same(net, other)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-12)  # the order of a sum of some numbers in float64
    assert history.ended == "epochs"
    assert history["epoch"].tolist() == [1, 2, 3]


def test_batches_may_come_from_anywhere() -> None:
    x, y = _data()
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 70, 16)]

    def generate(rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
        yield from batches

    nets = [_net() for _ in range(4)]
    for net, data in zip(nets, [(x, y), [x, y], batches, generate], strict=True):
        _fit(net, data, shuffle=False)
    assert all(_same(nets[0], net) for net in nets[1:])


def test_several_inputs_reach_the_model() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            self.one, self.other = nn.Linear(2, 3, rng=0), nn.Linear(3, 3, rng=1)

        def forward(self, a: Array, b: Array) -> Array:
            return fastdl.add(self.one(a), self.other(b))

        def backward(self, grad_output: Array, input_grad: bool = True) -> Any:
            return self.one.backward(grad_output, input_grad), self.other.backward(grad_output, input_grad)

    x, y = _data()
    net = Two()
    history = _fit(net, (np.ascontiguousarray(x[:, :2]), np.ascontiguousarray(x[:, 2:]), y), epochs=20)
    assert history["loss"][-1] < 0.7 * history["loss"][0]


def test_validation_is_of_all_data_in_eval_mode() -> None:
    net, held = _net(), _data(50, seed=5)
    history = _fit(net, validation=held, metrics={"right": training.accuracy, "size": lambda o, t: len(t)})
    assert history.columns == ["epoch", "loss", "val_loss", "val_right", "val_size", "lr", "seconds"]
    assert net.training
    assert net[3].offset > 0
    scores = net.eval()(held[0])
    last = history[-1]
    assert last["val_right"] == (scores.argmax(1) == held[1]).mean()
    assert last["val_loss"] == pytest.approx(float(fastdl.cross_entropy(scores, held[1])), rel=1e-5)  # of batches
    assert last["val_size"] == 50
    state = net.state_dict()
    found = training.evaluate(net.train(), held, nn.CrossEntropyLoss(), training.accuracy, batch_size=7)
    assert found == {"loss": pytest.approx(last["val_loss"], rel=1e-6), "accuracy": last["val_right"]}
    assert all(np.array_equal(state[name], array) for name, array in net.state_dict().items())
    assert net.training


@pytest.mark.parametrize("record", [True, False])
def test_batches_of_a_validation_may_come_in_the_same_memory(record: bool) -> None:
    x, y = _data(64, 1)

    def batches(_: Any) -> Iterator[tuple[Array, Array]]:
        inputs, target = np.empty_like(x[:16]), np.empty_like(y[:16])
        for start in range(0, 64, 16):
            inputs[:], target[:] = x[start : start + 16], y[start : start + 16]
            yield inputs, target

    def seen(output: Array, target: Array) -> int:
        return int(np.array_equal(target, y))

    assert training.evaluate(_net(), batches, metrics=seen, record=record) == {"seen": 1.0}


@pytest.mark.parametrize("found", [None, "1", np.ones(2), [1.0, 2.0], 1j])
def test_a_metric_is_a_number(found: Any) -> None:
    with pytest.raises(TypeError, match=r"metrics: found .* returned by odd, expected a number"):
        training.evaluate(_net(), _data(), metrics={"odd": lambda output, target: found})
    for number in (np.float32(1), np.ones(1), True, 1):
        assert training.evaluate(_net(), _data(), metrics={"odd": lambda output, target, n=number: n}) == {"odd": 1.0}


def test_evaluate_says_what_is_not_right() -> None:
    for metrics in ((), training.accuracy):
        with pytest.raises(ValueError, match="validation: found no batch"):
            training.evaluate(_net(), [], nn.CrossEntropyLoss(), metrics)
    with pytest.raises(TypeError, match="model: found str"):
        training.evaluate("net", _data())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="loss: found str"):
        training.evaluate(_net(), _data(), "loss")  # type: ignore[arg-type]


def test_a_validation_changes_no_training() -> None:
    net, other = _net(), _net()
    _fit(net, validation=_data(50, seed=5), metrics=training.accuracy)
    _fit(other)
    assert _same(net, other)


@pytest.mark.parametrize("each", ["epoch", "batch"])
def test_schedules_make_steps(each: Any) -> None:
    net = _net()
    optimizer = optim.SGD(net.parameters(), lr=0.5)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    history = _fit(net, optimizer=optimizer, schedule=schedule, schedule_each=each)
    steps = 5 if each == "batch" else 1  # 70 rows in batches of 16
    np.testing.assert_allclose(history["lr"], [0.5 * 0.5 ** (steps * e) for e in range(3)], rtol=1e-12)
    assert schedule.last_epoch == 3 * steps


def test_a_plateau_is_seen_by_what_is_monitored() -> None:
    net = _net()
    optimizer = optim.SGD(net.parameters(), lr=0.5)
    schedule = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.1)
    metrics = {"worse": lambda output, target: float(len(history_of))}
    history_of: list[Any] = []
    options = {"metrics": metrics, "monitor": "val_worse", "callback": lambda history: history_of.append(1)}
    history = _fit(net, optimizer=optimizer, schedule=schedule, validation=_data(), **options)
    np.testing.assert_allclose(history["lr"], [0.5, 0.5, 0.05])


@pytest.mark.parametrize("mode", ["min", "max"])
def test_training_ends_where_nothing_gets_better(mode: Any) -> None:
    values = [3.0, 1.0, 2.0, float("nan"), 1.0, 0.0]
    seen: list[dict[str, Array]] = []

    def metric(output: Array, target: Array) -> float:
        return values[len(seen)] * (1 if mode == "min" else -1)

    net = _net()
    options = {"validation": _data(), "metrics": {"m": metric}, "monitor": "val_m", "mode": mode, "patience": 3}
    history = _fit(net, epochs=20, callback=lambda history: seen.append(net.state_dict()), **options)
    assert (len(history), history.best, history.ended) == (5, 2, "patience")
    assert all(np.array_equal(seen[1][name], array) for name, array in net.state_dict().items())
    assert not np.array_equal(seen[1]["0.weight"], seen[4]["0.weight"])
    kept = _net()
    seen.clear()
    options["callback"] = lambda history: seen.append(kept.state_dict())
    _fit(kept, epochs=20, restore_best=False, **options)
    assert all(np.array_equal(seen[4][name], array) for name, array in kept.state_dict().items())


def test_min_delta_is_what_counts() -> None:
    values = iter([1.0, 0.95, 0.91, 0.5])
    history = _fit(
        *(_net(), None, 4),
        **{"validation": _data(), "metrics": {"m": lambda output, target: next(values)}, "monitor": "val_m"},
        **{"min_delta": 0.1, "patience": 3},
    )
    assert history.best == 4


def test_a_callback_ends_training() -> None:
    history = _fit(_net(), epochs=9, callback=lambda history: len(history) == 2)
    assert (len(history), history.ended) == (2, "callback")
    history = _fit(_net(), epochs=9, callback=lambda history: history["epoch"][-1] == 2)  # NumPy's True
    assert (len(history), history.ended) == (2, "callback")


def _all_of_it(net: nn.Module) -> tuple[Any, Any]:
    optimizer = optim.Adam(net.parameters(), lr=0.02)
    return optimizer, optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.001, max_lr=0.05, step_size_up=7)


def _run(epochs: int, folder: Path | None, seed: int = 0, **options: Any) -> tuple[nn.Module, training.History]:
    net = _net(seed)
    optimizer, schedule = _all_of_it(net)
    given = {"schedule": schedule, "schedule_each": "batch", "validation": _data(50, 5), "metrics": training.accuracy}
    given |= {"transform": lambda rng, x, y: (x + rng.standard_normal(x.shape, np.float32), y), "checkpoint": folder}
    return net, _fit(net, epochs=epochs, optimizer=optimizer, **given, **options)


def _without_time(history: training.History) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize("options", [{}, {"restore_best": True}], ids=["last", "best"])
def test_what_is_resumed_never_stopped(options: dict[str, Any], tmp_path: Path) -> None:
    whole, expected = _run(7, None, **options)
    _run(3, tmp_path / "run")
    _run(4, tmp_path / "run", seed=9, resume=True)
    net, history = _run(7, tmp_path / "run", seed=8, resume=True, **options)
    assert _same(net, whole)
    assert net[3].offset == whole[3].offset
    assert _without_time(history) == _without_time(expected)
    assert history.best == expected.best
    assert training.History.load(tmp_path / "run" / "history.csv").rows == history.rows
    again, same = _run(7, tmp_path / "run", seed=7, resume=True, **options)  # nothing is left to do
    assert same.rows == history.rows
    assert _same(again, net)


def test_patience_goes_on_too(tmp_path: Path) -> None:
    def run(epochs: int, resume: bool) -> tuple[training.History, nn.Module]:
        net = _net()
        values = {1: 1.0, 2: 0.5}
        count = [0]

        def metric(output: Array, target: Array) -> float:
            count[0] += 1
            return values.get(count[0] + (2 if resume else 0), 2.0)

        options = {"validation": _data(), "metrics": {"m": metric}, "monitor": "val_m", "patience": 3}
        return _fit(net, epochs=epochs, checkpoint=tmp_path / "c.npz", resume=resume, **options), net

    run(2, False)
    best = _net()
    load_checkpoint(tmp_path / "c.npz", model=best)
    history, net = run(20, True)
    assert (len(history), history.best, history.ended) == (5, 2, "patience")
    assert _same(net, best)
    assert len(run(20, True)[0]) == 5  # there is nothing left to do
    longer = _fit(
        *(_net(), None, 7),
        **{"checkpoint": tmp_path / "c.npz", "resume": True, "validation": _data(), "metrics": {"m": lambda o, t: 3.0}},
        **{"monitor": "val_m", "patience": 4},
    )
    assert (len(longer), longer.ended) == (6, "patience")


SCRIPT = """
import os, sys, time
import numpy as np
from tests.test_training import _run
def callback(history):
    print(len(history), flush=True)
    time.sleep(0.02)
net, history = _run(int(sys.argv[2]), sys.argv[1], resume=True, callback=callback)
np.savez(os.path.join(sys.argv[1], "result.npz"), **net.state_dict())
print(history.ended, history.best, flush=True)
"""


def _start(folder: Path, epochs: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(epochs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HOME, env=WITH_TESTS)


def test_a_kill_at_any_moment_loses_an_epoch_at_most(tmp_path: Path) -> None:
    whole, expected = _run(30, None)
    rng, last = np.random.default_rng(0), 0
    for _ in range(2):
        process = _start(tmp_path, 30)
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(3)]
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        rest = [int(line) for line in process.stdout.read().split() if line.isdigit()]
        process.wait()
        assert seen[0] <= last + 2
        last = max(seen + rest)
        rows = load_checkpoint(tmp_path / "checkpoint.npz")["rows"]
        assert last <= len(rows) <= last + 1
    process = _start(tmp_path, 30)
    assert process.communicate()[0].split()[-2] == "epochs"
    with np.load(tmp_path / "result.npz") as result:
        assert all(np.array_equal(result[name], array) for name, array in whole.state_dict().items())
    found = training.History.load(tmp_path / "history.csv")
    assert _without_time(found) == _without_time(expected)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_where_python_drops_it() -> None:
    class Pressed:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    seen = []

    def callback(history: training.History) -> None:
        seen.append(Pressed() if len(history) == 3 else None)
        seen.clear()

    history = _fit(_net(), epochs=9, callback=callback)
    assert (history.ended, len(history)) == ("interrupted", 3)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_with_the_best_weights(tmp_path: Path) -> None:
    process = _start(tmp_path, 100_000)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[0].split()
    assert process.returncode == 0
    ended, best = said[-2:]
    assert ended == "interrupted"
    rows = load_checkpoint(tmp_path / "checkpoint.npz")["rows"]
    losses = [row["val_loss"] for row in rows]
    assert int(best) in (int(np.argmin(losses)) + 1, len(rows) + 1)
    expected, _ = _run(int(best), None)
    with np.load(tmp_path / "result.npz") as result:
        assert all(np.array_equal(result[name], array) for name, array in expected.state_dict().items())


@pytest.mark.parametrize("data", ["arrays", "batches"])
def test_an_interrupt_within_an_epoch_loses_that_epoch(data: str) -> None:
    net = _net()

    def interrupt(rng: Any, x: Array, y: Array) -> tuple[Array, Array]:
        calls.append(1)
        if len(calls) == 13:  # of the third epoch
            raise KeyboardInterrupt
        return x, y

    calls: list[int] = []
    x, y = _data()
    given = (x, y) if data == "arrays" else [(x[i : i + 16], y[i : i + 16]) for i in range(0, 70, 16)]
    seen: list[dict[str, Array]] = []
    history = _fit(net, given, 9, transform=interrupt, callback=lambda h: seen.append(net.state_dict()))
    assert (len(history), history.ended) == (2, "interrupted")
    assert all(np.array_equal(seen[history.best - 1][name], a) for name, a in net.state_dict().items())


def test_nothing_is_printed_unless_asked_for(capfd: Any) -> None:
    _fit(_net(), validation=_data())
    _fit(_net(), progress=None)  # no terminal here
    assert capfd.readouterr() == ("", "")
    pytest.importorskip("rich")
    _fit(_net(), validation=_data(), metrics=training.accuracy, progress=True)
    said = " ".join(capfd.readouterr().out.split())
    assert "epoch 3/3" in said
    assert "val_accuracy" in said


def test_history_is_a_table(tmp_path: Path) -> None:
    history = _fit(_net(), validation=_data(), metrics=training.accuracy, table=tmp_path / "table.csv")
    text = (tmp_path / "table.csv").read_text().splitlines()
    assert text[0] == "epoch,loss,val_loss,val_accuracy,lr,seconds"
    assert len(text) == 4
    loaded = training.History.load(tmp_path / "table.csv")
    assert loaded.rows == history.rows  # to the last bit
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    for content in (b"epoch,loss\none,two\n", bytes(range(256))):
        (tmp_path / "words.csv").write_bytes(content)
        with pytest.raises(ValueError, match="expected a table of numbers"):
            training.History.load(tmp_path / "words.csv")
    with pytest.raises(KeyError, match="expected one of epoch, loss"):
        history["absent"]


def test_history_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    history = _fit(_net(), validation=_data(), metrics=training.accuracy)
    figure = history.plot(tmp_path / "curves.png")
    assert len(figure.axes) == 2
    lines = {line.get_label(): line.get_ydata() for axes in figure.axes for line in axes.lines}
    assert np.array_equal(lines["val_loss"], history["val_loss"])
    assert np.array_equal(lines["val_accuracy"], history["val_accuracy"])
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="no epoch"):
        training.History().plot()


def test_metrics_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores, classes = rng.standard_normal((40, 6)), rng.integers(0, 6, 40)
    assert training.accuracy(scores, classes) == metrics.accuracy_score(classes, scores.argmax(1))
    assert training.accuracy(scores, np.eye(6)[classes]) == training.accuracy(scores, classes)
    for k in (1, 3, 5):
        expected = metrics.top_k_accuracy_score(classes, scores, k=k)
        assert training.top_k_accuracy(scores, classes, k) == pytest.approx(expected)
    y, target = rng.standard_normal((40, 3)), rng.standard_normal((40, 3))
    assert training.r2_score(y, target) == pytest.approx(metrics.r2_score(target, y))
    assert training.mean_absolute_error(y, target) == pytest.approx(metrics.mean_absolute_error(target, y))
    assert training.binary_accuracy(y, target > 0) == ((y > 0) == (target > 0)).mean()
    images, labels = rng.standard_normal((2, 4, 5, 5)), rng.integers(0, 4, (2, 5, 5))
    assert training.accuracy(images, labels) == (images.argmax(1) == labels).mean()
    for metric in (training.r2_score, training.binary_accuracy, training.mean_absolute_error):
        with pytest.raises(ValueError, match="target: found shape"):
            metric(y, target[:, :1])
    with pytest.raises(ValueError, match="k: found 7"):
        training.top_k_accuracy(scores, classes, 7)
    with pytest.raises(ValueError, match="target: found shape"):
        training.accuracy(scores, classes[:, None])


def _other(net: nn.Module) -> Any:
    return optim.Adam(_net().parameters())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"data": np.ones((3, 5))}, ValueError, "data: found a batch of"),
        ({"data": 5}, TypeError, "data: found int, expected a tuple of arrays"),
        ({"data": (np.ones((3, 5)), np.ones(4))}, ValueError, "of as many rows each"),
        ({"data": (np.ones((0, 5)), np.ones(0))}, ValueError, "data: found no rows"),
        ({"data": iter([])}, ValueError, "data: found an iterator"),
        ({"data": ([[0.0] * 5], np.zeros(1, int))}, TypeError, "data: found a tuple of list, ndarray, expected arrays"),
        ({"validation": iter([_data()])}, ValueError, "validation: found an iterator"),
        ({"restore_best": "no"}, TypeError, "restore_best: found 'no'"),
        ({"progress": "no"}, TypeError, "progress: found 'no'"),
        ({"table": "absent/table.csv"}, ValueError, "table: found absent"),
        ({"table": "."}, ValueError, "table: found ., expected a file"),
        ({"group": 3}, TypeError, "group: found int"),
        ({"data": []}, ValueError, "data: found no batch"),
        ({"data": [tuple(a[:0] for a in _data())]}, ValueError, "data: found a batch of no rows"),
        ({"epochs": -1}, ValueError, "epochs: found -1"),
        ({"batch_size": 0}, ValueError, "batch_size: found 0"),
        ({"batch_size": 99, "drop_last": True}, ValueError, "data: found 70 rows, expected at least 99"),
        ({"shuffle": 1}, TypeError, "shuffle: found 1"),
        ({"rng": "x"}, TypeError, "rng: found 'x'"),
        ({"metrics": training.accuracy}, ValueError, "metrics: found some, expected none"),
        ({"metrics": 3, "validation": _data()}, TypeError, "metrics: found int"),
        ({"metrics": [1], "validation": _data()}, TypeError, "metrics: found int"),
        ({"metrics": [training.accuracy] * 2, "validation": _data()}, ValueError, "the name 'accuracy'"),
        ({"monitor": "val_loss"}, ValueError, "monitor: found 'val_loss', expected one of loss"),
        ({"mode": "most"}, ValueError, "mode: found 'most'"),
        ({"patience": 0}, ValueError, "patience: found 0"),
        ({"min_delta": -1.0}, ValueError, "min_delta: found -1.0"),
        ({"schedule_each": "step"}, ValueError, "schedule_each: found 'step'"),
        ({"data": tuple(a.astype(float) for a in _data())}, TypeError, "float64"),
        ({"data": (_data()[0][:, :3].copy(), _data()[1])}, ValueError, "x: found 3 features"),
        ({"schedule": 3}, TypeError, "schedule: found int"),
        ({"resume": True}, ValueError, "resume: found True"),
        ({"checkpoint": "absent/file.npz"}, ValueError, "checkpoint: found absent"),
        ({"max_norm": -1.0}, ValueError, "max_norm: found -1.0"),
        ({"callback": 3}, TypeError, "callback: found int"),
        ({"transform": 3}, TypeError, "transform: found int"),
        ({"transform": lambda rng, x, y: x}, TypeError, "transform: found ndarray returned"),
        ({"loss": nn.CrossEntropyLoss(reduction="none")}, ValueError, "loss: found reduction='none'"),
        ({"loss": fastdl.cross_entropy}, TypeError, "loss: found function"),
        ({"model": np.ones(3)}, TypeError, "model: found ndarray"),
        ({"optimizer": 3}, TypeError, "optimizer: found int"),
        ({"optimizer": _other}, ValueError, "optimizer: found one of other parameters"),
    ],
)
def test_mistakes_change_nothing(options: dict[str, Any], error: Any, message: str, tmp_path: Path) -> None:
    net = _net()
    before = net.state_dict()
    given: dict[str, Any] = {"model": net, "data": _data(), "loss": nn.CrossEntropyLoss(), "epochs": 2} | options
    optimizer = given.pop("optimizer", optim.Adam(net.parameters()))
    if optimizer is _other:
        optimizer = _other(net)
    order = [given.pop(name) for name in ("model", "data", "loss")]
    with pytest.raises(error, match=message):
        training.fit(*order, optimizer, given.pop("epochs"), **given)
    assert all(np.array_equal(before[name], array) for name, array in net.state_dict().items())


def test_what_cannot_be_recorded_is_said_and_may_be_left_out() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(5, 3, rng=0)

        def forward(self, x: Array) -> Array:
            return self.layer(np.tanh(self.layer(x))[:, [0, 1, 2, 0, 1]])

        def backward(self, grad_output: Array, input_grad: bool = True) -> Array:
            return self.layer.backward(grad_output)

    with pytest.raises(fastdl.RecordError):
        _fit(Noisy())
    assert len(_fit(Noisy(), record=False)) == 3


def test_another_model_is_refused_on_resuming(tmp_path: Path) -> None:
    _run(1, tmp_path)
    net = nn.Linear(5, 3, rng=0)
    before = net.state_dict()
    optimizer, schedule = _all_of_it(net)
    with pytest.raises(ValueError, match="model"):
        _fit(net, optimizer=optimizer, schedule=schedule, checkpoint=tmp_path, resume=True, validation=_data())
    assert all(np.array_equal(before[name], array) for name, array in net.state_dict().items())
    other = _net()
    optimizer, schedule = _all_of_it(other)
    before = other.state_dict()
    with pytest.raises(ValueError, match="schedule: found none, expected one, as in the checkpoint"):
        _fit(_net(), checkpoint=tmp_path, resume=True, validation=_data())
    with pytest.raises(ValueError, match="mode: found 'max', expected 'min', as in the checkpoint"):
        _run(2, tmp_path, resume=True, mode="max")
    with pytest.raises(ValueError, match="monitor: found 'loss', expected 'val_loss'"):
        _fit(other, optimizer=optimizer, schedule=schedule, checkpoint=tmp_path, resume=True)
    assert all(np.array_equal(before[name], array) for name, array in other.state_dict().items())
    fastdl.save_checkpoint(tmp_path / "other.npz", model=other)
    with pytest.raises(ValueError, match="checkpoint: found one without a history"):
        _fit(other, checkpoint=tmp_path / "other.npz", resume=True)
