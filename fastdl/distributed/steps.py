"""A training step of several processes: gradients into one block of memory, summed up, and the optimizer's step."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl import _kernels, nn
from fastdl.functional.verbs import array_table, fail, floats
from fastdl.optim import Optimizer
from fastdl.program import record as recording
from fastdl.program import recorded

Array = np.ndarray[Any, Any]

_MORE = 2
"""Numbers after the gradients in a block: the loss, and how many ranks were told to end."""


class Steps:
    """Forward, backward and the copy of gradients into the block are a program; the optimizer's step is another."""

    native = False

    def __init__(
        self, group: Any, model: nn.Module, loss: Any, optimizer: Optimizer, max_norm: Any, clip_value: Any, record: Any
    ) -> None:
        self.group, self.model, self.loss, self.optimizer, self.record = group, model, loss, optimizer, record
        self.mean = getattr(loss, "reduction", "mean") != "sum"
        self.clipping = {"max_norm": max_norm, "clip_value": clip_value}
        self.blocks: list[Array] = []
        """One a dtype: gradients one after another; the first has the loss and the flag too."""
        self.grads: dict[str, Array] = {}
        """The parts of blocks, by the names of parameters."""
        self._backward: Any = recorded(self._into_blocks) if record else self._into_blocks
        self._update: Any = None

    def prepare(self, *batch: Any) -> None:
        """Find out now what cannot be recorded."""
        if self.record and len(batch[-1]):
            self._make_blocks(*batch)
            self._backward.program(*batch)

    def __call__(self, *batch: Any, rows: int | None = None) -> float:
        """A step; its loss, of all ranks. rows: of the whole batch."""
        own = len(batch[-1])
        if own:
            if not self.blocks:
                self._make_blocks(*batch)
            self.blocks[0][-_MORE] = self._backward(*batch)
        elif not self.blocks:
            fail("data", f"no row for rank {self.group.rank} in the first batch", "at least one for each rank")
        size = self.group.size
        first = self.blocks[0]
        if rows is not None and own * size != rows and self.mean:
            for block in self.blocks:
                block *= own * size / rows
        elif not own:
            for block in self.blocks:
                block[:] = 0
        first[-1] = self.group.interrupted
        for block in self.blocks:
            self.group.add_up(block)
        if first[-1]:
            raise KeyboardInterrupt
        if self._update is None:
            self._update = recording(self._step) if self.record else self._step
        elif self.record and self._update.stale:
            self._update = recording(self._step)
        self._update()
        return float(first[-_MORE]) / (size if self.mean else 1)

    def _forward_backward(self, *batch: Any) -> Any:
        *inputs, target = batch
        value = self.loss(self.model(*inputs), target)
        if np.size(value) != 1:
            fail("loss", f"a result of shape {np.shape(value)}", "one number: reduction='mean'")
        self.model.backward(self.loss.backward(), input_grad=False)
        return value

    def _make_blocks(self, *batch: Any) -> None:
        """Memory for the gradients that there are: found out by a run that changes nothing."""
        if self.blocks:
            return
        names: list[str] = []

        def look(*batch: Any) -> None:
            self._forward_backward(*batch)
            names[:] = self.model.grads

        recording(look, *batch, verify=False)
        params = self.model.parameters()
        if not names:
            fail("model", "no parameter with a gradient", "at least one")
        for dtype in dict.fromkeys(params[name].dtype for name in names):
            own = [name for name in names if params[name].dtype == dtype]
            ends = np.cumsum([0, *(params[name].size for name in own)])
            block = np.zeros(int(ends[-1]) + _MORE * (not self.blocks), dtype)
            self.blocks.append(block)
            for name, begin, end in zip(own, ends, ends[1:], strict=False):
                self.grads[name] = block[begin:end].reshape(params[name].shape)

    def _into_blocks(self, *batch: Any) -> Any:
        value = self._forward_backward(*batch)
        grads = self.model.grads
        if grads.keys() != self.grads.keys():
            fail("model", f"gradients of {sorted(grads)}", f"of {sorted(self.grads)}, as in the first step")
        for block in self.blocks:
            own = [floats(grad, "grads").reshape(-1) for grad in grads.values() if grad.dtype == block.dtype]
            parts = tuple(part for part in own if part.size)
            _kernels.cat(block[: sum(map(len, parts))], array_table(parts, parts, 0), len(parts), 1)
        return value

    def _step(self) -> None:
        self.optimizer.step(self.grads, grad_scale=1 / self.group.size if self.mean else 1.0, **self.clipping)
