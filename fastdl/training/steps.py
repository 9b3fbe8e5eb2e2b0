"""A training step, as a program or as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastdl import nn
from fastdl.functional.verbs import fail
from fastdl.optim import Optimizer
from fastdl.program import RecordError, recorded

Array = np.ndarray[Any, Any]


@contextmanager
def mistakes() -> Iterator[None]:
    """Inside of this, arguments that are not right are what they are outside of programs: a TypeError or ValueError."""
    try:
        yield
    except RecordError as error:
        if isinstance(error.__cause__, (TypeError, ValueError)):
            raise error.__cause__ from None
        raise


def value_of(loss: Any, output: Any, target: Any) -> Any:
    value = loss(output, target)
    if np.size(value) != 1:
        fail("loss", f"a result of shape {np.shape(value)}", "one number: reduction='mean'")
    return value


class Steps:
    """Forward, loss, backward and the optimizer's step, for batches of any shape."""

    def __init__(
        self, model: nn.Module, loss: Any, optimizer: Optimizer, max_norm: Any, clip_value: Any, record: bool
    ) -> None:
        def step(*batch: Any) -> Any:
            *inputs, target = batch
            value = value_of(loss, model(*inputs), target)
            model.backward(loss.backward(), input_grad=False)
            optimizer.step(model.grads, max_norm=max_norm, clip_value=clip_value)
            return value

        self.loss = loss
        self._step: Any = recorded(step) if record else step
        self.native = record
        """Whether `over` makes an epoch without Python in between."""

    def __call__(self, *batch: Any, weight: float = 1.0) -> float:
        """A step; its loss. weight: how many rows of all a rank has, which matters to those of fastdl.distributed."""
        return float(self._step(*batch))

    def end(self) -> None:
        """There is no batch any more in this epoch."""

    def prepare(self, *batch: Any) -> None:
        """Find out now what cannot be recorded."""
        if self.native:
            self._step.program(*batch)

    def over(self, arrays: tuple[Array, ...], order: Array, done: Callable[[int], Any], every: int) -> Array:
        """Steps over rows of arrays, in batches of equal size: their losses. done: called after every so many."""
        program = self._step.program(*(array[rows] for rows in order[:1] for array in arrays))
        losses = program.run_epochs(*arrays, order=order, every=every, callback=lambda step, _: done(step))
        return np.asarray(losses, np.float64)
