"""What the rest of the library knows of recording (fastdl/program.py): whether it goes on in this thread, numbers that
lie in memory, and what programs hold on to."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastdl._call import get_recorder, set_recorder

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fastdl.functional.verbs import Array

__all__ = [
    "Counter",
    "count",
    "get_recorder",
    "get_word",
    "hold",
    "replaced",
    "set_recorder",
    "set_word",
    "touch",
    "writing",
]


class Recorder(Protocol):
    def __call__(self, kernel: str, dtype: int, arguments: tuple[Any, ...]) -> None: ...
    def word(self, array: Array, index: int) -> int: ...
    def advance(self, array: Array, index: int, by: int) -> None: ...
    def touch(self, owner: Any) -> None: ...
    def hold(self, *objects: Any) -> None: ...


class Counter(int):
    """While a program is recorded, a number that lies in memory: a kernel's argument that is one is read from there."""

    array: Array
    index: int
    by: int
    """What was added since."""

    def __new__(cls, value: int, array: Array, index: int, by: int) -> Counter:
        self = super().__new__(cls, value)
        self.array, self.index, self.by = array, index, by
        return self

    def __add__(self, other: int) -> Counter:
        return Counter(int(self) + other, self.array, self.index, self.by + other)

    __radd__ = __add__

    def __sub__(self, other: int) -> Counter:
        return self + -other

    def __deepcopy__(self, memo: Any) -> int:
        return int(self)


def get_word(array: Array, index: int) -> int:
    """The element of an int64 array that kernels may be given as a number."""
    recorder = get_recorder()
    return int(array[index]) if recorder is None else recorder.word(array, index)


def set_word(array: Array, index: int, value: int) -> None:
    """The same the other way round."""
    recorder = get_recorder()
    if recorder is None:
        array[index] = value
    elif isinstance(value, Counter) and value.array is array and value.index == index:
        recorder.advance(array, index, value.by)
    else:
        raise RuntimeError(
            f"record: found a generator set to {int(value)} inside of the function, expected that it only moves on: "
            "set it between calls of the program"
        )


def count(array: Array) -> None:
    """Add 1 to an int64 array of one element."""
    recorder = get_recorder()
    if recorder is None:
        array += 1
    else:
        recorder.advance(array, 0, 1)


def touch(owner: Any) -> None:
    """`owner`, a module, is about to change as a call changes it: what it holds is put back after a recording."""
    recorder = get_recorder()
    if recorder is not None:
        recorder.touch(owner)


def hold(*objects: Any) -> None:
    """Keep these alive with the program that is recorded: kernels know their memory by its address only."""
    recorder = get_recorder()
    if recorder is not None:
        recorder.hold(*objects)


_programs: weakref.WeakKeyDictionary[Any, weakref.WeakSet[Any]] = weakref.WeakKeyDictionary()


def depends(program: Any, owner: Any) -> None:
    """The program uses arrays of `owner`, a module or an optimizer."""
    _programs.setdefault(owner, weakref.WeakSet()).add(program)


def replaced(owner: Any, array: Any = None) -> None:
    """Arrays of `owner`, or this one of them, are no longer those that programs were recorded with."""
    for program in _programs.get(owner, ()) if _programs else ():
        program._replaced(array)


# Frozen programs (record's freeze) work with what they made of parameters before: packed weights, say. Each array has a
# version, a number that everything in fastdl which writes to parameters adds to, programs in C among them, and that
# frozen programs compare. From all else, which could not be noticed, parameters are kept by being read-only.

_VERSIONS = np.zeros(1 << 12, np.int64)
"""Of arrays, by where their memory begins; several may share one."""
LEVEL = 0
"""In place of where memory begins: the version of the instruction-set level, for which some weights are packed."""
_frozen: dict[int, tuple[Array, int]] = {}
"""By id: arrays that are read-only for frozen programs, and for how many of them."""


def owner_of(array: Array) -> Array:
    """The array whose memory this one's is."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def version_at(start: int) -> Array:
    """The version, one int64, of arrays whose owner's memory begins there."""
    place = (start // 64 * 0x9E3779B1 >> 8) % len(_VERSIONS)
    return _VERSIONS[place : place + 1]


def freeze(arrays: Iterable[Array]) -> None:
    """Make these read-only."""
    for array in arrays:
        known = _frozen.get(id(array))
        if known is not None:
            _frozen[id(array)] = array, known[1] + 1
        elif array.flags.writeable:
            array.flags.writeable = False
            _frozen[id(array)] = array, 1


def thaw(arrays: Iterable[Array]) -> None:
    """Undo a `freeze` of these."""
    for array in arrays:
        known = _frozen.get(id(array))
        if known is not None and known[1] > 1:
            _frozen[id(array)] = array, known[1] - 1
        elif known is not None:
            del _frozen[id(array)]
            array.flags.writeable = True


def changed(arrays: Iterable[Array]) -> None:
    """Let frozen programs know."""
    for start in {owner_of(array).ctypes.data for array in arrays}:
        version = version_at(start)
        version += 1


_NOTHING = nullcontext()


def writing(arrays: Iterable[Array | None]) -> AbstractContextManager[None]:
    """Inside this context fastdl may write to arrays, although programs are frozen that use them."""
    return _writing([a for a in arrays if a is not None]) if _frozen else _NOTHING


@contextmanager
def _writing(arrays: list[Array]) -> Iterator[None]:
    owners = [owner_of(array) for array in arrays]
    every = *owners, *arrays  # owners first: no view is writable where its owner is not
    locked = [a for a in every if id(a) in _frozen and not a.flags.writeable]
    for array in locked:
        array.flags.writeable = True
    try:
        yield
    finally:
        for array in locked:
            array.flags.writeable = False
        changed(owners)
