"""What forward saves for backward: which forward a backward belongs to, for how long, and that it is unchanged.

Every module has a Memory in each thread and mode. A forward puts a Record there, a backward takes the
last one away; `recorded` and `answered` wrap the methods that do so. All forwards below one outermost call have its
number: together they are one pass through a network, in which a layer may come several times.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from fastdl._call import sample
from fastdl._recording import touch

__all__ = ["is_grad_enabled", "no_grad"]

_enabled: ContextVar[bool] = ContextVar("grad_enabled", default=True)


def is_grad_enabled() -> bool:
    """Whether forward saves what backward needs: not inside of no_grad(). torch.is_grad_enabled."""
    return _enabled.get()


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside this context (or a function that it decorates) forward saves nothing. torch.no_grad.

    It holds for the thread, or the task, that enters it. What was saved before stays, for the backward that follows.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn
    >>> layer = nn.Linear(3, 2, rng=0)
    >>> with nn.no_grad():
    ...     y = layer(np.ones((1, 3), np.float32))
    >>> layer.backward(y)
    Traceback (most recent call last):
    ...
    RuntimeError: Linear.backward: called before forward
    """
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


class _Here:
    """Where a thread is."""

    __slots__ = ("answering", "backwards", "forwards", "mode", "most", "number", "root", "watch")

    def __init__(self) -> None:
        self.forwards = 0
        """How many forwards are running, one inside of another."""
        self.number = 0
        """Of the outermost one."""
        self.mode = True
        """Whether its module is in training."""
        self.most = 1
        """How many passes may wait."""
        self.backwards = 0
        """How many backwards are running."""
        self.answering = True
        """The mode of the forward that the outermost one answers."""
        self.root = 0
        """The newest pass that its module is answering."""
        self.watch: Callable[[Any, tuple[Any, ...], Any], None] | None = None
        """Called with each module, its inputs and its result."""


class _Thread(threading.local):
    def __init__(self) -> None:
        self.here = _Here()


_thread = _Thread()
_numbers = itertools.count(1)


class Record:
    """What one forward saved."""

    __slots__ = ("marks", "number", "values")

    def __init__(self, number: int) -> None:
        self.number = number
        self.values: tuple[Any, ...] | None = None
        self.marks: list[tuple[Any, int, int | None]] = []

    def save(self, values: tuple[Any, ...], thorough: bool) -> None:
        self.values, self.marks = values, []
        for value in values:
            if type(value) is np.ndarray:
                mark = sample(value)
                if mark is not None:
                    self.marks.append((value, mark, _checksum(value) if thorough else None))
            elif type(value) in (tuple, list, dict):
                inner = Record(0)
                inner.save(tuple(value.values() if type(value) is dict else value), thorough)
                self.marks += inner.marks

    def unchanged(self) -> bool:
        for a, mark, checksum in self.marks:
            if sample(a) != mark or (checksum is not None and _checksum(a) != checksum):
                return False
        return True


class Memory:
    """The records of one module in one thread, of training or of inference."""

    __slots__ = (
        "adding",
        "backward",
        "checked",
        "dropped",
        "forward",
        "passes",
        "returning",
        "root",
        "unverified",
        "waiting",
    )

    def __init__(self) -> None:
        self.waiting: list[Record] = []
        """For their backward, the last first."""
        self.passes = 0
        """How many different numbers those have."""
        self.forward: Record | None = None
        """Of the forward that runs."""
        self.backward: Record | None = None
        """Of the backward that runs."""
        self.returning = False
        """Whether a backward came after the last forward: the next forward begins anew."""
        self.root = 0
        """The root of the thread in its last backward."""
        self.adding = False
        """Whether gradients are added to those that an earlier backward of this pass found."""
        self.dropped = 0
        """How many records had to go because too many were waiting."""
        self.checked = False
        """Whether the module was looked at for modules that it holds in a plain list."""
        self.unverified = 2
        """How many passes are still to be looked at thoroughly."""

    def wait(self, record: Record, here: _Here) -> None:
        """Keep a record, and those of the last passes."""
        if self.returning:
            if not here.backwards:
                self.waiting.clear()
                self.passes = self.dropped = 0
                self.returning = False
            elif self.root != here.root:  # inside of the backward of something larger: this had none in it yet
                self.returning = False
        if not self.waiting or self.waiting[-1].number != record.number:
            self.passes += 1
            while self.passes > here.most:
                oldest = self.waiting[0].number
                kept = [r for r in self.waiting if r.number != oldest]
                self.dropped += len(self.waiting) - len(kept)
                self.waiting = kept
                self.passes -= 1
        self.waiting.append(record)

    def take(self) -> Record | None:
        """The last record, which no longer waits."""
        if not self.waiting:
            return None
        record = self.waiting.pop()
        if not self.waiting or self.waiting[-1].number != record.number:
            self.passes -= 1
        return record

    def why_nothing(self) -> str:
        """What became of a record that is not there."""
        if self.dropped:
            return "the forward was too long ago: the last `max_forwards` of what was called are kept, in eval mode one"
        return "called more often than forward" if self.returning else "called before forward"


class Memories(threading.local):
    """The memories of one module in each thread: in inference, and in training."""

    def __init__(self) -> None:
        self.modes = Memory(), Memory()


_MISSING = Record(0)


@contextmanager
def watching(watch: Callable[[Any, tuple[Any, ...], Any], None]) -> Iterator[None]:
    """Inside this context `watch` is called after each forward of this thread, and whatever was called before."""
    here = _thread.here
    before = here.watch

    def both(module: Any, inputs: tuple[Any, ...], result: Any) -> None:
        if before is not None:
            before(module, inputs, result)
        watch(module, inputs, result)

    here.watch = both
    try:
        yield
    finally:
        here.watch = before


def recorded(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A class' forward, what it saves kept for its backward."""

    @functools.wraps(forward)
    def wrapper(self: Any, *inputs: Any, **options: Any) -> Any:
        if type(self).forward is not wrapper:  # super().forward(): part of a forward that is recorded
            return forward(self, *inputs, **options)
        touch(self)
        here = _thread.here
        result = _kept(forward, self, inputs, options, here) if _enabled.get() else forward(self, *inputs, **options)
        if here.watch is not None:
            here.watch(self, inputs, result)
        return result

    return wrapper


def _kept(forward: Callable[..., Any], module: Any, inputs: Any, options: Any, here: _Here) -> Any:
    """What forward returns, and what it saves in the module's memory."""
    if not here.forwards:
        _begin(module, here)
    memory = module._memories.modes[here.mode]
    if not memory.checked:
        module.children()
        memory.checked = True
    outer, record = memory.forward, Record(here.number)
    memory.forward = record
    here.forwards += 1
    try:
        result = forward(module, *inputs, **options)
    finally:
        here.forwards -= 1
        memory.forward = outer
    memory.wait(record, here)
    return result


def _begin(module: Any, here: _Here) -> None:
    """The outermost forward is this module's."""
    here.number = next(_numbers)
    here.mode = here.answering if here.backwards else module.training
    here.most = module.max_forwards if here.mode else 1


def answered(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A class' backward, of the last forward that has none yet."""

    @functools.wraps(backward)
    def wrapper(self: Any, *grads: Any, **options: Any) -> Any:
        if type(self).backward is not wrapper:
            return backward(self, *grads, **options)
        touch(self)
        here, modes = _thread.here, self._memories.modes
        if not here.backwards:  # of the mode that the module is in, if there was such a forward
            other = not self.training
            here.answering = other if modes[other].waiting and not modes[self.training].waiting else self.training
        memory = modes[here.answering]
        outer, adding = memory.backward, memory.adding
        record = memory.take()
        memory.backward = _MISSING if record is None else record
        memory.adding = memory.returning
        if not memory.returning:
            self._begin_pass(memory.backward.number)
        if not here.backwards:
            here.root = self._passes[0]
        memory.root = here.root
        here.backwards += 1
        try:
            result = backward(self, *grads, **options)
        except BaseException:
            memory.adding = adding
            if record is not None:  # it may be tried again
                memory.passes += not memory.waiting or memory.waiting[-1].number != record.number
                memory.waiting.append(record)
            raise
        finally:
            here.backwards -= 1
            memory.backward = outer
        memory.returning = True
        return result

    return wrapper


def saved(module: Any) -> tuple[Any, ...]:
    """What the forward saved that a backward is now of; outside of backward, the last one that waits for it."""
    here, modes = _thread.here, module._memories.modes
    memory = modes[here.answering if here.backwards else module.training]
    record = memory.backward or (memory.waiting[-1] if memory.waiting else _MISSING)
    if record.values is None:
        why = memory.why_nothing() if record is _MISSING else "forward saved nothing (save_for_backward)"
        raise RuntimeError(f"{type(module).__name__}.backward: {why}")
    if record.marks:
        if not record.unchanged():
            raise RuntimeError(
                f"{type(module).__name__}.backward: an array that forward saved was written over before backward, by a "
                "later layer or function that works in place on it: inplace=False, or a copy, is needed there"
            )
        memory.unverified -= memory.unverified > 0
    values: tuple[Any, ...] = record.values
    return values


def memory_of_backward(module: Any) -> Memory:
    """That of the backward that runs."""
    memory: Memory = module._memories.modes[_thread.here.answering]
    return memory


def save(module: Any, values: tuple[Any, ...]) -> None:
    """Keep the values with the record of the forward that runs."""
    if not _enabled.get():
        return
    here = _thread.here
    if not here.forwards:  # a forward that was put in place of the class' own
        _begin(module, here)
    memory = module._memories.modes[here.mode]
    record = memory.forward
    if record is None:
        record = Record(here.number)
        memory.wait(record, here)
    # Not where forwards go by that no backward follows: there it would be for nothing.
    record.save(values, memory.unverified > 0 and (memory.returning or not memory.dropped))


def _checksum(a: Any) -> int:
    """All of its elements, so that any one that differs is seen."""
    bits = np.ascontiguousarray(a).reshape(-1).view(f"u{a.itemsize}" if a.itemsize in (1, 2, 4, 8) else "u1")
    return int(np.add.reduce(bits, dtype=bits.dtype))
