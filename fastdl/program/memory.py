"""Memory that one run of a function uses: ranges of addresses, by their owners."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np

from fastdl._native import ffi
from fastdl.functional.verbs import Array


class Range:
    """Memory of one owner, or of several that overlap."""

    __slots__ = ("end", "expected", "first", "keep", "last", "made", "read_first", "start", "wrote")

    def __init__(self, start: int, end: int, keep: Any, call: int) -> None:
        self.start, self.end = start, end
        self.keep: dict[int, Any] = {id(keep): keep}
        """By id: what has to live as long as its memory is used."""
        self.first = self.last = call
        self.made = False
        """Whether a kernel wrote to it before any read from it."""
        self.wrote: list[tuple[int, int]] = []
        """What kernels wrote, as offsets."""
        self.read_first: Array | None = None
        """What was read of it first, as bytes."""
        self.expected: dict[tuple[int, int], tuple[Array, int]] = {}
        """What it has to hold until a kernel writes to it: bytes, and their sum."""


class Memory:
    """All ranges, in order of their addresses."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ranges: list[Range] = []

    def find(self, start: int, end: int, keep: Any, call: int) -> Range:
        """The range that has [start, end), made or grown."""
        i = bisect_right(self.starts, start) - 1
        if i >= 0 and end <= self.ranges[i].end:
            return self.ranges[i]
        first = i if i >= 0 and start < self.ranges[i].end else i + 1
        last = first
        while last < len(self.ranges) and self.ranges[last].start < end:
            last += 1
        if first == last:
            new = Range(start, end, keep, call)
            self.starts.insert(first, start)
            self.ranges.insert(first, new)
            return new
        one, *others = self.ranges[first:last]
        for other in others:
            one.keep |= other.keep
            one.first, one.made = min(one.first, other.first), one.made and other.made
            one.expected |= other.expected
        one.start, one.end = min(one.start, start), max(one.end, end, *(o.end for o in others))
        one.keep[id(keep)] = keep
        self.starts[first:last], self.ranges[first:last] = [one.start], [one]
        return one

    def at(self, address: int) -> tuple[Range, int]:
        found = self.ranges[bisect_right(self.starts, address) - 1]
        return found, address - found.start


def has(memory: Memory, address: int) -> bool:
    i = bisect_right(memory.starts, address) - 1
    return i >= 0 and address < memory.ranges[i].end


def extent_of(array: Array) -> tuple[int, int]:
    """The lowest address of an array that has elements, of whatever strides, and the bytes from there to its end."""
    reach = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
    low = sum(r for r in reach if r < 0)
    return array.ctypes.data + low, sum(map(abs, reach)) + array.itemsize


def bytes_of(array: Array) -> Array:
    """The memory of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8)


_END, _PIECE, _PIECES = 1 << 13, 1 << 12, 6
"""Bytes at either end of a large array that are looked at, and filled, and in so many pieces between: what is changed
as a whole is changed there, and the rest is compared when a program is verified."""


def ends_of(memory: Array) -> list[Array]:
    """Of bytes: all of a few, else the first, the last, and pieces between."""
    if memory.size <= 2 * _END + _PIECE * _PIECES:
        return [memory]
    step = (memory.size - 2 * _END) // _PIECES // 8 * 8
    starts = [_END + i * step for i in range(_PIECES)]
    return [memory[:_END], memory[memory.size - _END :], *(memory[at : at + _PIECE] for at in starts)]


def united(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that touch or overlap as one."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1]:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return found


def sum_of(memory: Array) -> int:
    total = 0
    for part in ends_of(memory):
        whole = part.size // 8 * 8
        total += int(np.add.reduce(part[:whole].view(np.uint64)))
        if whole < part.size:
            total += int(np.add.reduce(part[whole:], dtype=np.uint64)) * 0x9E3779B1
    return total


def view(address: int, size: int, dtype: int | None) -> Array:
    """`size` bytes at an address, as bytes or as numbers."""
    memory = np.frombuffer(ffi.buffer(ffi.cast("char *", address), size), np.uint8)
    return memory if dtype is None else memory.view((np.float32, np.float64)[dtype])
