"""fit: a network is trained, measured and kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from copy import deepcopy
from math import inf
from typing import Any, Literal

import numpy as np

from fastdl import nn
from fastdl.functional.verbs import choice, fail, flag, integer, number
from fastdl.optim import Optimizer
from fastdl.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from fastdl.training.checkpoint import Checkpoint, check_place
from fastdl.training.data import Array, Data, arrays_of, batches_of, check_again, pieces_of
from fastdl.training.evaluate import Evaluation
from fastdl.training.history import History
from fastdl.training.interrupt import Interrupt, interruptible
from fastdl.training.metrics import Metrics
from fastdl.training.progress import bar
from fastdl.training.steps import Steps, mistakes

__all__ = ["fit"]

_LOOKS = 50
"""How often a progress bar moves in an epoch."""


def fit(
    model: nn.Module,
    data: Data,
    loss: nn.Module,
    optimizer: Optimizer,
    epochs: int,
    *,
    batch_size: int = 32,
    shuffle: bool = True,
    drop_last: bool = False,
    rng: np.random.Generator | int | None = None,
    transform: Callable[..., tuple[Any, ...]] | None = None,
    validation: Data | None = None,
    metrics: Metrics = (),
    schedule: LRScheduler | None = None,
    schedule_each: Literal["epoch", "batch"] = "epoch",
    max_norm: float | None = None,
    clip_value: float | None = None,
    monitor: str | None = None,
    mode: Literal["min", "max"] = "min",
    patience: int | None = None,
    min_delta: float = 0.0,
    restore_best: bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    table: str | os.PathLike[str] | None = None,
    progress: bool | None = False,
    callback: Callable[[History], Any] | None = None,
    record: bool = True,
    group: Any = None,
) -> History:
    """Train a network: epochs of steps, each a program, with validation, early stopping and checkpoints.

    A step is ``loss(model(*inputs), target)``, backward, and the optimizer's step. It is recorded once for each shape
    of batch (fastdl.record); over arrays, a whole epoch runs without Python in between.

    Parameters
    ----------
    model : Module
    data : tuple of arrays, iterable of batches, or function
        (inputs..., target): arrays of as many rows each, taken in batches; or what gives such tuples as batches, again
        in each epoch; or a function of a random generator that returns it.
    loss : Module
        Of (output, target), such as nn.CrossEntropyLoss().
    optimizer : Optimizer
        Of the model's parameters.
    epochs : int
        How many, those of a training that is resumed included.
    batch_size : int
        Rows of a batch, where data are arrays; with `group`, on each rank.
    shuffle : bool
        Whether each epoch takes the rows of arrays in a new order.
    drop_last : bool
        Leave out the rows that are left where they do not fill a batch.
    rng : numpy.random.Generator, int or None
        What orders are drawn from, and what `transform` and `data` are given.
    transform : function, optional
        ``transform(rng, *batch)`` returns what is trained on instead of a batch: augmentation.
    validation : as `data`, optional
        What the model is measured on after each epoch, in eval mode.
    metrics : functions of (output, target), or a dict of them
        Computed of the whole validation data, such as training.accuracy.
    schedule : LRScheduler, optional
        Of the optimizer; it makes a step after each epoch or batch. ReduceLROnPlateau is given what is monitored.
    schedule_each : {"epoch", "batch"}
        Which.
    max_norm, clip_value : float, optional
        How gradients are clipped, as Optimizer.step takes them.
    monitor : str, optional
        The column of the history that says which epoch is best; "val_loss", or "loss" without validation.
    mode : {"min", "max"}
        Whether less of it is better, or more. NaN never is.
    patience : int, optional
        End after so many epochs in a row that are not better than the best.
    min_delta : float
        By how much an epoch has to be better to count.
    restore_best : bool, optional
        Whether the model ends with the weights of its best epoch; by default with `patience`, and after Ctrl-C.
    checkpoint : path, optional
        A file, or a folder to put one in, that is written after each epoch, at once: it is always whole. In a folder,
        the history is beside it.
    resume : bool
        Go on from the checkpoint, if there is one, as if training had never stopped: to the last bit.
    table : path, optional
        A file of comma-separated values for the history, written after each epoch.
    progress : bool, optional
        Whether to show a bar (package rich); None: where standard output is a terminal.
    callback : function, optional
        Called with the history after each epoch; where it returns True, that was the last.
    record : bool
        Whether steps are programs; without, model and loss may do what fastdl.record does not allow.
    group : fastdl.distributed.Group, optional
        Processes that train together.

    Returns
    -------
    History
        A row for each epoch.

    Raises
    ------
    ValueError, TypeError
        For an argument that is not right, before training.
    RecordError
        For a step that cannot be recorded.

    Notes
    -----
    Ctrl-C ends training: the model gets the weights of its best epoch, and the history says "interrupted". The
    checkpoint is that of the last epoch that ended, from which `resume` goes on.

    "loss" is the mean over an epoch's steps, while weights change; batches count by the sizes of their targets. (Of a
    loss that is a sum it is the mean over targets, too.)

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn, optim, training
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((256, 2), dtype=np.float32)
    >>> y = (x[:, 0] > x[:, 1]).astype(np.int64)
    >>> net = nn.Sequential(nn.Linear(2, 16, rng=0), nn.ReLU(), nn.Linear(16, 2, rng=1))
    >>> history = training.fit(
    ...     net, (x[:192], y[:192]), nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=1e-2), 20, rng=0,
    ...     validation=(x[192:], y[192:]), metrics=training.accuracy,
    ... )
    >>> history.columns
    ['epoch', 'loss', 'val_loss', 'val_accuracy', 'lr', 'seconds']
    >>> bool(history[-1]["val_accuracy"] > 0.95)
    True
    """
    _check(model, loss, optimizer, schedule, callback, transform, group)
    integer(epochs, "epochs", 0)
    integer(batch_size, "batch_size", 1)
    for name, value in {"shuffle": shuffle, "drop_last": drop_last, "resume": resume, "record": record}.items():
        flag(value, name)
    for name, wish in {"restore_best": restore_best, "progress": progress}.items():
        if wish is not None:
            flag(wish, name)
    choice(schedule_each, "schedule_each", ("epoch", "batch"))
    choice(mode, "mode", ("min", "max"))
    if schedule_each == "batch" and isinstance(schedule, ReduceLROnPlateau):
        fail("schedule_each", "'batch'", "'epoch' for ReduceLROnPlateau, which looks at what epochs are compared by")
    number(min_delta, "min_delta", 0.0)
    for name, limit in {"max_norm": max_norm, "clip_value": clip_value}.items():
        if limit is not None:
            number(limit, name, 0.0, inf)
    if patience is not None:
        integer(patience, "patience", 1)
    if resume and checkpoint is None:
        fail("resume", "True", "False, because there is no checkpoint")
    try:
        generator = np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise TypeError(f"rng: found {rng!r}, expected a numpy Generator, a seed or None") from None
    arrays = arrays_of(data, "data")
    check_again(data, epochs, "data")
    check_again(validation, epochs, "validation")
    evaluation = None
    if validation is not None:
        evaluation = Evaluation(model, validation, loss, metrics, batch_size, record, group)
    elif metrics:
        fail("metrics", "some", "none, because there is no validation to compute them of")
    columns = ["loss"] if evaluation is None else ["loss", "val_loss", *(f"val_{n}" for n in evaluation.metrics)]
    watched = columns[min(1, len(columns) - 1)] if monitor is None else monitor
    if watched not in columns:
        fail("monitor", repr(monitor), f"one of {', '.join(columns)}")
    first = group is None or group.rank == 0
    kept = Checkpoint(checkpoint, model, optimizer, schedule, generator) if checkpoint is not None and first else None
    if table is not None and first:
        check_place(table)
    best = _Best(model, watched, mode, min_delta)
    history = History()
    tables = [path for path in (table, None if kept is None else kept.table) if path is not None] if first else []
    with mistakes(), group.training() if group is not None else interruptible() as interrupt:
        if group is not None:
            held = None if evaluation is None or evaluation.arrays is None else len(evaluation.arrays[0])
            options: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "shuffle": shuffle}
            options |= {
                "drop_last": drop_last,
                "data": [f"{a.dtype} {a.shape}" for a in arrays or ()],
                "rows of validation": held,
            }
            options |= {"columns": columns, "monitor": watched}
            options |= {"mode": mode, "patience": patience, "min_delta": min_delta, "restore_best": restore_best}
            options |= {"max_norm": max_norm, "clip_value": clip_value, "record": record, "loss": type(loss).__name__}
            options |= {"schedule": type(schedule).__name__, "schedule_each": schedule_each}
            group.check_same(model, optimizer, **options)
        if kept is not None and resume:
            kept.load(history, best)
        if group is not None:
            group.begin(model, optimizer, schedule, generator, history, best)
        make = Steps if group is None else group.steps
        steps = make(model, loss, optimizer, max_norm, clip_value, record)
        each_batch = schedule.step if schedule is not None and schedule_each == "batch" else None
        model.train()
        source = _Source(data, arrays, steps, batch_size, shuffle, drop_last, generator, transform, group)
        with bar(progress if first else False, epochs) as show:
            try:
                enough = patience is not None and best.since >= patience
                for epoch in range(len(history), 0 if enough else epochs):
                    began = time.perf_counter()
                    rate = optimizer.lr
                    row: dict[str, float] = {
                        "epoch": epoch + 1,
                        "loss": source.epoch(epoch, each_batch, _shown(show, epoch, interrupt)),
                    }
                    if group is not None:
                        group.agree(model, optimizer)
                    if evaluation is not None:
                        row |= {f"val_{name}": value for name, value in evaluation().items()}
                    row |= {"lr": rate, "seconds": time.perf_counter() - began}
                    if group is not None:
                        row = group.one(row)
                    if schedule is not None and each_batch is None:
                        schedule.step(*([row[watched]] if isinstance(schedule, ReduceLROnPlateau) else []))
                    history.rows.append(row)
                    best.note(row)
                    history.best = best.epoch
                    enough = patience is not None and best.since >= patience
                    if kept is not None:
                        kept.save(history, best)
                    for path in tables:
                        history.save(path)
                    show(epoch + 1, "  ".join(f"{name} {row[name]:.4g}" for name in columns))
                    stop = callback is not None and _is_true(callback(history))
                    if interrupt is not None:
                        interrupt.check()
                    if stop if group is None else group.some(stop):
                        history.ended = "callback"
                    if enough or history.ended == "callback":
                        break
                if enough:
                    history.ended = "patience"
            except KeyboardInterrupt:
                if group is not None and not group.stopped:
                    raise  # from a function of this rank's, while others go on
                history.ended, history.best = "interrupted", best.epoch
        if patience is not None or history.ended == "interrupted" if restore_best is None else restore_best:
            best.restore()
    return history


class _Best:
    """The best epoch so far, and the weights that it left."""

    def __init__(self, model: nn.Module, watched: str, mode: str, min_delta: float) -> None:
        self.model, self.watched, self.sign, self.min_delta = model, watched, 1 if mode == "min" else -1, min_delta
        self.epoch: int | None = None
        self.value = inf
        """Of what is watched, or minus that: less is better."""
        self.since = 0
        self.state: dict[str, Array] = {}

    def note(self, row: dict[str, float]) -> None:
        value = self.sign * row[self.watched]
        if value < self.value - self.min_delta or (self.epoch is None and value < self.value):
            self.epoch, self.value, self.since, self.state = int(row["epoch"]), value, 0, self.model.state_dict()
        else:
            self.since += 1

    def restore(self) -> None:
        if self.state:
            self.model.load_state_dict(self.state)


class _Source:
    """The batches of an epoch, and the steps over them."""

    def __init__(
        self,
        data: Any,
        arrays: tuple[Array, ...] | None,
        steps: Any,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        rng: np.random.Generator,
        transform: Any,
        group: Any,
    ) -> None:
        self.data, self.arrays, self.steps, self.drop_last, self.rng = data, arrays, steps, drop_last, rng
        self.transform, self.group, self.shuffle = transform, group, shuffle
        self.summed = getattr(steps.loss, "reduction", "mean") == "sum"
        self.ranks = 1 if group is None else group.size
        self.size = batch_size * self.ranks
        if arrays is None:
            return
        order, rest = pieces_of(np.arange(len(arrays[0])), self.size, drop_last)
        if not len(order) and not len(rest):
            fail("data", f"{len(arrays[0])} rows", f"at least {self.size}, a batch, with drop_last")
        if transform is None:
            for rows in (*order[:1], *([rest] if len(rest) else [])):
                steps.prepare(*self._batch(rows))

    def epoch(self, epoch: int, each_batch: Callable[[], Any] | None, show: Callable[[float], None]) -> float:
        """One epoch: its loss."""
        total, count = 0.0, 0
        if self.arrays is None:
            rng = self._own_rng(epoch)
            for batch in batches_of(self.data, "data", rng):
                batch = self._transformed(batch, rng)
                total, count = self._step(batch, np.size(batch[-1]), total, count, each_batch)
            if not count:
                fail("data", "no batch", "at least one in each epoch")
            self.steps.end()
            return total / count
        n = len(self.arrays[0])
        order, rest = pieces_of(self.rng.permutation(n) if self.shuffle else np.arange(n), self.size, self.drop_last)
        steps = len(order) + bool(len(rest))
        rng = self._own_rng(epoch)
        if self.transform is None and self.steps.native and len(order):
            every = 1 if each_batch is not None else max(1, len(order) // _LOOKS)

            def done(step: int) -> None:
                if each_batch is not None:
                    each_batch()
                show(step / steps)

            losses = self.steps.over(self.arrays, order, done, every)
            count = self._size(order[0]) * len(order)
            total, order = float(losses.sum()) * (1 if self.summed else self._size(order[0])), order[:0]
        for i, rows in enumerate((*order, *([rest] if len(rest) else []))):
            own = len(rows) if self.group is None else len(self.group.share(rows))
            batch = self._transformed(self._batch(rows), rng) if own else self._batch(rows)
            weight = own * self.ranks / len(rows)
            total, count = self._step(batch, self._size(rows), total, count, each_batch, weight)
            if i % max(1, steps // _LOOKS) == 0:
                show((i + 1) / steps)
        return total / count

    def _step(
        self, batch: Any, size: int, total: float, count: int, each_batch: Any, weight: float = 1.0
    ) -> tuple[float, int]:
        value = self.steps(*batch, weight=weight)
        if each_batch is not None:
            each_batch()
        return total + value * (1 if self.summed else size), count + size

    def _size(self, rows: Array) -> int:
        """Of the targets of these rows, on all ranks."""
        assert self.arrays is not None
        return len(rows) * int(self.arrays[-1][0].size)

    def _batch(self, rows: Array) -> tuple[Array, ...]:
        assert self.arrays is not None
        own = rows if self.group is None else self.group.share(rows)
        return tuple(array[own] for array in self.arrays)

    def _own_rng(self, epoch: int) -> np.random.Generator:
        """What this epoch draws from, besides orders, which are the same on all ranks."""
        if self.group is None:
            return self.rng
        return np.random.default_rng([int(deepcopy(self.rng).integers(2**63)), epoch, self.group.rank])

    def _transformed(self, batch: tuple[Any, ...], rng: np.random.Generator) -> tuple[Any, ...]:
        if self.transform is None:
            return batch
        found = self.transform(rng, *batch)
        if not isinstance(found, (tuple, list)) or len(found) < 2:
            raise TypeError(f"transform: found {type(found).__name__} returned, expected a tuple (inputs..., target)")
        return tuple(found)


def _is_true(found: Any) -> bool:
    """NumPy's True is another object."""
    return isinstance(found, (bool, np.bool_)) and bool(found)


def _shown(show: Any, epoch: int, interrupt: Interrupt | None) -> Callable[[float], None]:
    def shown(part: float) -> None:
        show(epoch + part, "")
        if interrupt is not None:
            interrupt.check()

    return shown


def _check(model: Any, loss: Any, optimizer: Any, schedule: Any, callback: Any, transform: Any, group: Any) -> None:
    for name, value, kind in (("model", model, nn.Module), ("optimizer", optimizer, Optimizer)):
        if not isinstance(value, kind):
            raise TypeError(f"{name}: found {type(value).__name__}, expected one of fastdl's, a {kind.__name__}")
    if not callable(loss) or not hasattr(loss, "backward"):
        raise TypeError(f"loss: found {type(loss).__name__}, expected a loss of fastdl.nn, or a Module with a backward")
    for name, value in {"callback": callback, "transform": transform}.items():
        if value is not None and not callable(value):
            raise TypeError(f"{name}: found {type(value).__name__}, expected a function")
    if group is not None and not (hasattr(group, "begin") and hasattr(group, "rank")):
        raise TypeError(f"group: found {type(group).__name__}, expected a fastdl.distributed.Group")
    if getattr(loss, "reduction", "mean") == "none":
        fail("loss", "reduction='none'", "a reduction to one number")
    own = {id(array) for array in model.parameters().values()}
    if not own & {id(array) for array in optimizer.params.values()}:
        fail("optimizer", "one of other parameters", "one of the model's parameters()")
    if schedule is not None:
        if not isinstance(schedule, LRScheduler):
            raise TypeError(f"schedule: found {type(schedule).__name__}, expected one of fastdl.optim.lr_scheduler")
        if schedule.optimizer is not optimizer:
            fail("schedule", "one of another optimizer", "one of this optimizer")
