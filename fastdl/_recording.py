"""What the rest of the library knows of recording (fastdl/program.py): whether it goes on in this thread, numbers that
lie in memory, and what programs hold on to."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from threading import RLock
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
    def approximate(self) -> None: ...


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


_programs: weakref.WeakSet[Any] = weakref.WeakSet()
_of_optimizers: weakref.WeakKeyDictionary[Any, weakref.WeakSet[Any]] = weakref.WeakKeyDictionary()


def depends(program: Any, owners: Iterable[Any]) -> None:
    """The program is there, and uses what these hold."""
    _programs.add(program)
    for owner in owners:
        _of_optimizers.setdefault(owner, weakref.WeakSet()).add(program)


def replaced(owner: Any, array: Any = None) -> None:
    """Programs that use this array are out of date, or (None) those that use anything of `owner`."""
    if _programs:
        for program in list(_programs if array is not None else _of_optimizers.get(owner, ())):
            program._replaced(array)


# Frozen programs (record's freeze) work with what they made of parameters before: packed weights, say. Each array has a
# version, a number that everything in fastdl which writes to parameters adds to, programs in C among them, and that
# frozen programs compare. From all else, which could not be noticed, parameters are kept by being read-only.

_VERSIONS = np.zeros(1 << 12, np.int64)
"""Of arrays, by where their memory begins; several may share one."""
LEVEL = 0
"""In place of where memory begins: the version of the instruction-set level, for which some weights are packed."""


def owner_of(array: Array) -> Array:
    """The array whose memory this one's is."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def version_at(start: int) -> Array:
    """The version, one int64, of arrays whose owner's memory begins there."""
    place = (start // 64 * 0x9E3779B1 >> 8) % len(_VERSIONS)
    return _VERSIONS[place : place + 1]


def level_changed() -> None:
    """Weights have to be packed anew, and programs that have nothing to pack any more are out of date."""
    moved_on(LEVEL)
    for program in list(_programs):
        if program.sealed:
            program._replaced(None)


def moved_on(start: int) -> None:
    """What `version_at` says is another now."""
    version = version_at(start)
    version += 1


class _Lock:
    """On the memory of one array, `owner`."""

    def __init__(self, owner: Array) -> None:
        self.owner, self.programs, self.writers = owner, 0, 0
        """How many programs are frozen over it, and how many of fastdl's functions write to it now."""
        self.arrays: dict[int, tuple[Array, bool]] = {}
        """By id: the owner first, then views; and whether they may be written otherwise."""
        self.add(owner)

    def add(self, array: Array) -> None:
        if id(array) not in self.arrays:
            # A view that was made meanwhile is read-only because its owner is.
            own = array.flags.writeable or (array is not self.owner and self.arrays[id(self.owner)][1])
            self.arrays[id(array)] = array, own

    def count(self, programs: int = 0, writers: int = 0) -> None:
        """So many more, or fewer."""
        self.programs, self.writers = self.programs + programs, self.writers + writers
        free = self.programs == 0 or self.writers > 0
        for array, own in self.arrays.values():
            if array.flags.writeable != (free and own):
                array.flags.writeable = free and own
        if self.programs == self.writers == 0:
            _locks.pop(id(self.owner), None)


_locks: dict[int, _Lock] = {}
"""By the owner's id."""
_locking = RLock()


def freeze(arrays: Iterable[Array]) -> None:
    """Make these read-only, for one program more."""
    with _locking:
        found = {}
        for array in arrays:
            owner = owner_of(array)
            lock = found[id(owner)] = _locks.setdefault(id(owner), _Lock(owner))
            lock.add(array)
        for lock in found.values():
            lock.count(programs=1)


def thaw(arrays: Iterable[Array]) -> None:
    """Undo a `freeze` of these."""
    with _locking:
        for key in {id(owner_of(array)) for array in arrays}:
            _locks[key].count(programs=-1)


_NOTHING = nullcontext()


def writing(arrays: Iterable[Array | None]) -> AbstractContextManager[None]:
    """Inside this context fastdl may write to arrays, although programs are frozen that use them.

    What is not an array yet, because nobody has checked it, is left to who does."""
    if not _locks:
        return _NOTHING
    given = [(id(owner_of(array)), array) for array in arrays if isinstance(array, np.ndarray)]
    return _NOTHING if _locks.keys().isdisjoint(key for key, _ in given) else _writing(given)


def is_frozen(owners: frozenset[int]) -> bool:
    """Whether programs are frozen that use arrays with these owners, by their ids."""
    return bool(_locks) and not _locks.keys().isdisjoint(owners)


@contextmanager
def _writing(given: list[tuple[int, Array]]) -> Iterator[None]:
    with _locking:
        found = {key: _locks[key] for key, _ in given if key in _locks}
        for key, array in given:
            if key in found:
                found[key].add(array)
        for lock in found.values():
            lock.count(writers=1)
    try:
        yield
    finally:
        with _locking:
            for lock in found.values():
                lock.count(writers=-1)
                moved_on(lock.owner.ctypes.data)
