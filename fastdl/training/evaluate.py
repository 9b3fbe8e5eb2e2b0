"""How good a model is, on data that it is not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastdl import nn
from fastdl.functional.verbs import fail, integer
from fastdl.program import recorded
from fastdl.training.data import Array, Data, arrays_of, batches_of
from fastdl.training.metrics import Metrics, named
from fastdl.training.steps import mistakes

__all__ = ["evaluate"]


def evaluate(
    model: nn.Module,
    data: Data,
    loss: nn.Module | None = None,
    metrics: Metrics = (),
    *,
    batch_size: int = 256,
    record: bool = True,
) -> dict[str, float]:
    """The loss and metrics of a model, in eval mode, on data.

    Parameters
    ----------
    model : Module
    data : tuple of arrays, or batches
        As `fit` takes them.
    loss : Module, optional
        Such as nn.CrossEntropyLoss(): the mean over examples of what it gives for batches.
    metrics : functions of (output, target), or a dict of them
        Each is called once, with the outputs and targets of all batches.
    batch_size : int
        Rows of a batch, where data are arrays.
    record : bool
        Whether the model is recorded as a program; without, it may do what fastdl.record does not allow.

    Returns
    -------
    dict of str to float
        "loss", if there is one, and the metrics by name.

    Raises
    ------
    ValueError, TypeError
        For data and metrics that are none.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn, training
    >>> x = np.eye(4, dtype=np.float32)
    >>> net = nn.Linear(4, 4, rng=0)
    >>> net.weight[...] = x
    >>> training.evaluate(net, (x, np.arange(4)), metrics=[training.accuracy])
    {'accuracy': 1.0}
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: found {type(model).__name__}, expected one of fastdl's, a Module")
    if loss is not None and not callable(loss):
        raise TypeError(f"loss: found {type(loss).__name__}, expected a loss of fastdl.nn")
    with mistakes():
        return Evaluation(model, data, loss, metrics, batch_size, record)()


class Evaluation:
    """The same again and again: the programs are kept. group: of fastdl.distributed, whose members share the work."""

    def __init__(
        self, model: nn.Module, data: Any, loss: Any, metrics: Metrics, batch_size: int, record: bool, group: Any = None
    ) -> None:
        self.model, self.loss, self.metrics, self.data, self.group = model, loss, named(metrics), data, group
        self.batch_size = integer(batch_size, "batch_size", 1)
        self.arrays = arrays_of(data, "validation")
        self.summed = getattr(loss, "reduction", "mean") == "sum"
        self.native = record
        self._call = recorded(self._forward) if record else self._forward

    def _forward(self, *batch: Any) -> Any:
        *inputs, target = batch
        output = self.model(*inputs)
        return output, None if self.loss is None else self.loss(output, target)

    def __call__(self) -> dict[str, float]:
        outputs: list[Any] = []
        targets: list[Any] = []
        total, count = 0.0, 0
        with _evaluating(self.model), nn.no_grad():
            for batch in self._batches():
                output, value = self._call(*batch)
                if value is not None:
                    size = np.size(batch[-1])
                    total, count = total + float(value) * (1 if self.summed else size), count + size
                if self.metrics:
                    outputs.append(output if self.native else _kept(output))
                    targets.append(batch[-1] if self.arrays is not None else _kept(batch[-1]))
        if self.group is not None:
            total, count, outputs, targets = self.group.gathered(total, count, outputs, targets)
        if (self.loss is not None and not count) or (self.metrics and not outputs):
            fail("validation", "no batch", "at least one")
        found = {} if self.loss is None else {"loss": total / count}
        if self.metrics:
            whole = _joined(outputs), _joined(targets)
            found |= {name: _number(name, metric(*whole)) for name, metric in self.metrics.items()}
        return found

    def _batches(self) -> Iterator[tuple[Any, ...]]:
        if self.arrays is None:
            yield from batches_of(self.data, "validation", np.random.default_rng(0))
            return
        arrays = self.arrays if self.group is None else tuple(self.group.share(a) for a in self.arrays)
        for start in range(0, len(arrays[0]), self.batch_size):
            yield tuple(a[start : start + self.batch_size] for a in arrays)


def _kept(part: Any) -> Any:
    """Of memory that may be used again for the next batch, a copy."""
    return part.copy() if isinstance(part, np.ndarray) else part


def _number(name: str, found: Any) -> float:
    if isinstance(found, (str, bytes)) or np.size(found) != 1 or np.asarray(found).dtype.kind not in "biuf":
        shape = f" of shape {found.shape}" if isinstance(found, np.ndarray) else ""
        raise TypeError(f"metrics: found {type(found).__name__}{shape} returned by {name}, expected a number")
    return float(np.asarray(found).reshape(()))


def _joined(parts: list[Any]) -> Array:
    if not parts or not all(isinstance(part, np.ndarray) for part in parts):
        found = type(parts[0]).__name__ if parts else "none"
        raise TypeError(f"metrics: found outputs or targets that are {found}, expected arrays")
    return np.concatenate(parts)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
