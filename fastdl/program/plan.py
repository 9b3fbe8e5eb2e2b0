"""Several runs compared: they are one program if they differ only in the memory that each made for itself, which is
then planned into one block."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastdl.functional.verbs import Array
from fastdl.program.errors import RecordError
from fastdl.program.memory import Range, has
from fastdl.program.nest import leaves_of
from fastdl.program.run import SIGNATURES, Call, Dry

LINE = 64
"""Bytes between the beginnings of planned arrays: a cache line."""
_GEOMETRY = frozenset({"geometry"})
"""Parameters that hold sizes: arrays that are made from shapes at each call."""


def slot_name(call: Call, index: int) -> str:
    return f"{SIGNATURES[call.kernel][index][1]} of {call.kernel} (call {call.at})"


def compare(one: Dry, other: Dry) -> None:
    """Refuse two runs that are not the same list of calls."""
    names, others = [c.kernel for c in one.run.calls], [c.kernel for c in other.run.calls]
    for at, (a, b) in enumerate(zip(one.run.calls, other.run.calls, strict=False)):
        if a.kernel != b.kernel or a.dtype != b.dtype:
            raise RecordError(
                f"record: found {a.kernel} and, with other values, {b.kernel} as call {at}, expected one of them "
                "always: control flow depends on values"
            )
        for i, ((kind, x), (kind2, y)) in enumerate(zip(a.slots, b.slots, strict=True)):
            if kind != kind2 or (kind == "p" and (x is None) != (y is None)):
                raise RecordError(
                    f"record: found {slot_name(a, i)} given and, with other values, not given, expected one of "
                    "them always: control flow depends on values"
                )
            if kind in "id" and x != y and not (x != x and y != y):
                raise RecordError(
                    f"record: found {slot_name(a, i)} to be {x} and, in the next run, {y}, expected the same "
                    "number: control flow depends on values, or it is one that changes from call to call, which has to "
                    "lie in an array, or in an optimizer or layer"
                )
            if kind == "w" and (x.array is not y.array or x.index != y.index or x.by != y.by):
                raise RecordError(f"record: found {slot_name(a, i)} taken from two generators")
            if kind == "s" and x != y:
                raise RecordError(
                    f"record: found other sizes in {slot_name(a, i)} in the next run, expected the same: a shape "
                    "depends on values"
                )
            if kind == "t" and len(x[0]) != len(y[0]):
                raise RecordError(f"record: found more arrays in {slot_name(a, i)} in one run than in another")
    if len(names) != len(others):
        longer = names if len(names) > len(others) else others
        raise RecordError(
            f"record: found {len(names)} calls of kernels and, with other values, {len(others)}, the first that is not "
            f"in both being {longer[min(len(names), len(others))]}, expected the same always: control flow depends on "
            "values"
        )


class Place(NamedTuple):
    """Where a range of memory is in the program."""

    kind: str
    """"argument", "persistent", "constant", "planned" or "result"."""
    base: int
    """The argument's number; the address; the offset in the block; the result's number."""


def returned_by(dry: Dry) -> tuple[set[int], set[int]]:
    """The starts of the ranges that arrays lie in which a run returns, and of those that numbers were taken from."""
    memory = dry.run.memory
    leaves = [leaf for _, leaf in leaves_of(dry.result, "")]
    arrays = [leaf for leaf in leaves if isinstance(leaf, np.ndarray) and leaf.size and has(memory, leaf.ctypes.data)]
    numbers = [dry.run.values[float(n)] for n in leaves if isinstance(n, (float, np.floating)) and n in dry.run.values]
    return {memory.at(a.ctypes.data)[0].start for a in arrays}, {memory.at(address)[0].start for address, _ in numbers}


class Plan:
    """What becomes of the memory of the first run, compared with that of the others."""

    def __init__(self, runs: list[Dry]) -> None:
        first = runs[0]
        self.of: dict[int, Place] = {}
        """By the start of its range in the first run."""
        self.constants: list[Array] = []
        self.results: list[int] = []
        """The bytes of each range that is returned."""
        own = [{a.ctypes.data: i for i, a in enumerate(r.arguments) if a is not None and a.size} for r in runs]
        pairs: dict[int, tuple[Range, Range, str]] = {}
        for calls in zip(*(r.run.calls for r in runs), strict=True):
            for i, slots in enumerate(zip(*(c.slots for c in calls), strict=True)):
                kind = slots[0][0]
                addresses = []
                if kind == "p" and slots[0][1] is not None:
                    addresses = [tuple(s[1] for s in slots)]
                elif kind == "t":
                    addresses = [tuple(int(s[1][0][p]) for s in slots) for p in slots[0][1][1]]
                for group in addresses:
                    self._pair(runs, group, slot_name(calls[0], i), pairs)
        returned, read = returned_by(first)
        planned: list[Range] = []
        for start, (a, b, name) in pairs.items():
            size = a.end - a.start
            if a.start in own[0]:
                if own[1].get(b.start) != own[0][a.start]:
                    raise RecordError(f"record: found {name} to be another argument in the next run")
                self.of[start] = Place("argument", own[0][a.start])
            elif a.start == b.start:
                self.of[start] = Place("persistent", a.start)
                one, other = a.read_first, b.read_first
                if one is not None and other is not None and not np.array_equal(one, other):
                    raise RecordError(
                        f"record: found {name} to hold other numbers in the next run, expected the same: NumPy writes "
                        "to it inside of the function, which a program does not; pass it as an argument"
                    )
            elif a.made and b.made:
                if start in returned or start in read:
                    self.of[start] = Place("result", len(self.results))
                    self.results.append(size)
                else:
                    planned.append(a)
            else:
                self.of[start] = Place("constant", self._constant(a, b, name))
        self._lay_out(planned)
        stays = [r for r in planned if r.last == len(first.run.calls)]
        self.prepared = sum(rounded(r.end - r.start) for r in stays)
        """Bytes of what is prepared from parameters, and stays in the block."""
        self.unplanned = sum(rounded(r.end - r.start) for r in planned) - self.prepared

    def is_persistent(self, start: int) -> bool:
        """Whether the range that starts there was there before, and stays."""
        return start in self.of and self.of[start].kind == "persistent"

    @staticmethod
    def _pair(runs: list[Dry], addresses: tuple[int, ...], name: str, pairs: dict[int, Any]) -> None:
        places = [run.run.memory.at(address) for run, address in zip(runs, addresses, strict=True)]
        if len({offset for _, offset in places}) > 1:
            raise RecordError(f"record: found {name} at another place of its memory in the next run")
        a, b = places[0][0], places[1][0]
        for c, _ in places[1:]:
            if (c.start == a.start) != (b.start == a.start):
                raise RecordError(f"record: found {name} in memory of its own in one run and in the same in another")
        known = pairs.setdefault(a.start, (a, b, name))
        if known[1] is not b:
            raise RecordError(
                f"record: found {name} to be another array in the next run: control flow depends on values"
            )

    def _constant(self, a: Range, b: Range, name: str) -> int:
        """Memory that something else than a kernel filled, in each run anew: a number, or sizes."""
        parameter, kernel = name.split(" (")[0].split(" of ")
        type_ = next(t for t, n, _ in SIGNATURES[kernel] if n == parameter)
        if a.read_first is not None and b.read_first is not None:
            same = np.array_equal(a.read_first, b.read_first)
            number = "int" not in type_ and a.end - a.start <= 8
            if same and ("fdl_" in type_ or (not a.wrote and (parameter in _GEOMETRY or number))):
                self.constants.append(np.array(a.read_first))
                return len(self.constants) - 1
        raise RecordError(
            f"record: found {name} to be an array that something else than fastdl made inside of the function, "
            "expected an argument, one that was there before, or fastdl's: NumPy does not run between two calls of a "
            "program; compute it with fastdl, make it before, or pass it"
        )

    def _lay_out(self, planned: list[Range]) -> None:
        """Offsets in one block: the largest first, each at the lowest place that is free as long as it lives."""
        placed: list[tuple[int, int, Range]] = []
        for r in sorted(planned, key=lambda r: r.start - r.end):
            size, offset = rounded(r.end - r.start), 0
            for low, high, other in placed:  # in order of low
                if other.last < r.first or r.last < other.first:
                    continue
                if offset + size <= low:
                    break
                offset = max(offset, high)
            placed.append((offset, offset + size, r))
            placed.sort(key=lambda p: p[0])
            self.of[r.start] = Place("planned", offset)
        self.block = max((high for _, high, _ in placed), default=0)


def rounded(size: int) -> int:
    return -(-size // LINE) * LINE
