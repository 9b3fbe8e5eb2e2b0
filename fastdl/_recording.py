"""What the rest of the library knows of recording (fastdl/program.py): whether it goes on in this thread, numbers that
lie in memory, and what programs hold on to."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol

from fastdl._call import get_recorder, set_recorder

if TYPE_CHECKING:
    from fastdl.functional.verbs import Array

__all__ = ["Counter", "count", "get_recorder", "get_word", "hold", "replaced", "set_recorder", "set_word", "touch"]


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
