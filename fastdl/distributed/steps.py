"""A training step of several processes: gradients into one block of memory, summed up, and the optimizer's step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels, nn
from fastdl._library import COMPILED
from fastdl.functional.verbs import array_table, fail, floats
from fastdl.optim import Optimizer
from fastdl.program import record as recording
from fastdl.program import recorded

Array = np.ndarray[Any, Any]

_MORE = 3
"""Numbers after the gradients: the loss, how many ranks were told to end, and how many have no batch any more."""
_BUCKET = 1 << 17
"""Bytes of gradients that are sent together, at least, where they are sent while backward goes on."""


class Bucket(NamedTuple):
    """A part of a block."""

    names: list[str]
    """Of the parameters whose gradients lie in it, one after another."""
    grads: Array
    whole: Array
    """What is summed up: the gradients, and in the last bucket `_MORE` numbers."""


class Steps:
    """Forward, backward and the copy of gradients into the block are a program; the optimizer's step is another."""

    native = False

    def __init__(
        self, group: Any, model: nn.Module, loss: Any, optimizer: Optimizer, max_norm: Any, clip_value: Any, record: Any
    ) -> None:
        self.group, self.model, self.loss, self.optimizer, self.record = group, model, loss, optimizer, record
        self.mean = getattr(loss, "reduction", "mean") != "sum"
        self.overlap = group.overlap and record and COMPILED
        self.clipping = {"max_norm": max_norm, "clip_value": clip_value}
        self.buckets: list[Bucket] = []
        """In the order in which backward finds them."""
        self.grads: dict[str, Array] = {}
        """The same memory, by the names of parameters."""
        self._backward: Any = recorded(self._into_buckets) if record else self._into_buckets
        self._parts: dict[int, Any] = {}
        """Of each program, by its id."""
        self._update: Any = None

    def prepare(self, *batch: Any) -> None:
        """Find out now what cannot be recorded."""
        if self.record and len(batch[-1]):
            self._make_buckets(*batch)
            self._backward.program(*batch)

    def __call__(self, *batch: Any, weight: float = 1.0) -> float:
        """A step; its loss, of all ranks. weight: of this rank's rows, where others have other numbers; 0: none."""
        none = not (weight and len(batch[-1]))
        if not self.buckets:
            if none:
                fail("data", f"no row for rank {self.group.rank} in the first batch", "at least one for each rank")
            self._make_buckets(*batch)
        if not self.mean:
            weight = 1.0
        requests: list[Any] = []

        def send(i: int, value: float = 0.0) -> None:
            if i >= len(self.buckets):
                return
            whole = self.buckets[i].whole
            if i == len(self.buckets) - 1:
                whole[-_MORE:] = value, self.group.interrupted, 0
            if weight != 1:
                self.buckets[i].grads[:] *= weight
            requests.append(self.group.add_up(whole, wait=not self.overlap))

        last = len(self.buckets) - 1
        if none:
            for bucket in self.buckets:
                bucket.whole[:] = 0
            for i in range(last):
                send(i)
            value = 0.0
        elif self.overlap:
            (value,) = self._in_parts(batch)(batch, lambda i: send(i) if i < last else None)
        else:
            value = self._backward(*batch)
            for i in range(last):
                send(i)
        send(last, float(value) * weight)
        found = self._arrived(requests)
        if self._update is None or (self.record and self._update.stale):
            self._update = recording(self._step) if self.record else self._step
        self._update()
        return found / (self.group.size if self.mean else 1)

    def end(self) -> None:
        """There is no batch any more in this epoch: on no rank, or it is an error on all."""
        for bucket in self.buckets:
            bucket.whole[:] = 0
        self.buckets[-1].whole[-_MORE:] = 0, self.group.interrupted, 1
        self._arrived([self.group.add_up(bucket.whole, wait=not self.overlap) for bucket in self.buckets])

    def _arrived(self, requests: list[Any]) -> float:
        """Wait for sums; that of losses."""
        for request in requests:
            if request is not None:
                request.Wait()
        loss, stop, ended = self.buckets[-1].whole[-_MORE:]
        if stop:
            self.group.stopped = True
            raise KeyboardInterrupt
        if 0 < ended < self.group.size:
            fail("data", "more batches on some ranks than on others", "as many on each")
        return float(loss)

    def _in_parts(self, batch: Any) -> Any:
        """The program for batches like this, cut where a bucket is full."""
        from fastdl.program.parts import Parts, last_write

        program = self._backward.program(*batch)
        if id(program) not in self._parts:
            self._parts = {id(p): self._parts[id(p)] for p in self._backward.programs.values() if id(p) in self._parts}
            full = [last_write(program, bucket.grads) for bucket in self.buckets[:-1]]
            self._parts[id(program)] = Parts(program, np.maximum.accumulate(full).tolist() if full else [])
        return self._parts[id(program)]

    def _forward_backward(self, *batch: Any) -> Any:
        *inputs, target = batch
        value = self.loss(self.model(*inputs), target)
        if np.size(value) != 1:
            fail("loss", f"a result of shape {np.shape(value)}", "one number: reduction='mean'")
        self.model.backward(self.loss.backward(), input_grad=False)
        return value

    def _make_buckets(self, *batch: Any) -> None:
        """Memory for the gradients that there are: found out by a run that changes nothing."""
        if self.buckets:
            return
        names: list[str] = []

        def look(*batch: Any) -> None:
            self._forward_backward(*batch)
            names[:] = self.model.grads

        recording(look, *batch, verify=False)
        params = self.model.parameters()
        if not names:
            fail("model", "no parameter with a gradient", "at least one")
        names.reverse()  # backward finds the last ones first
        dtypes = list(dict.fromkeys(params[name].dtype for name in names))
        for dtype in dtypes:
            parts: list[list[str]] = [[]]
            for name in (name for name in names if params[name].dtype == dtype):
                if self.overlap and sum(params[n].nbytes for n in parts[-1]) >= _BUCKET:
                    parts.append([])
                parts[-1].append(name)
            sizes = [sum(params[name].size for name in part) for part in parts]
            block = np.zeros(sum(sizes) + _MORE * (dtype == dtypes[-1]), dtype)
            begin = 0
            for part, size in zip(parts, sizes, strict=True):
                end = begin + size
                last = dtype == dtypes[-1] and part is parts[-1]
                self.buckets.append(Bucket(part, block[begin:end], block[begin : None if last else end]))
                for name in part:
                    self.grads[name] = block[begin : begin + params[name].size].reshape(params[name].shape)
                    begin += params[name].size

    def _into_buckets(self, *batch: Any) -> Any:
        there: dict[str, Array] = {}
        """What has been copied already."""
        missing = [set(bucket.names) for bucket in self.buckets]

        def found(name: str, grad: Array) -> None:
            for bucket, rest in zip(self.buckets, missing, strict=True):
                if name in rest:
                    there[name] = grad
                    rest.discard(name)
                    if not rest:
                        _copy(bucket, there)

        with _watching(self.model, found) if self.overlap else _nothing():
            value = self._forward_backward(*batch)
        grads = self.model.grads
        if grads.keys() != self.grads.keys():
            fail("model", f"gradients of {sorted(grads)}", f"of {sorted(self.grads)}, as in the first step")
        for bucket in self.buckets:
            # Without overlap all of them; else those where a layer that comes twice added something.
            if any(there.get(name) is not grads[name] for name in bucket.names):
                _copy(bucket, grads)
        return value

    def _step(self) -> None:
        self.optimizer.step(self.grads, grad_scale=1 / self.group.size if self.mean else 1.0, **self.clipping)


def _copy(bucket: Bucket, grads: dict[str, Array]) -> None:
    """By a kernel, so that it is a part of the program."""
    parts = tuple(floats(grads[name], "grads").reshape(-1) for name in bucket.names if grads[name].size)
    if parts:
        _kernels.cat(bucket.grads, array_table(parts, parts, 0), len(parts), 1)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _watching(model: nn.Module, found: Callable[[str, Array], Any]) -> Iterator[None]:
    """Inside of this, `found` is told of each gradient of a parameter as soon as a layer's backward has it."""
    names = {id(array): name for name, array in model.parameters().items()}
    modules = [module for module in model.modules() if module.parameter_names]

    def watched(module: nn.Module) -> Callable[..., None]:
        def set_grads(**grads: Array) -> None:
            type(module).set_grads(module, **grads)
            for own in grads:
                if own in module._grads:
                    found(names[id(getattr(module, own))], module._grads[own])

        return set_grads

    for module in modules:
        module.__dict__["set_grads"] = watched(module)
    try:
        yield
    finally:
        for module in modules:
            module.__dict__.pop("set_grads", None)
