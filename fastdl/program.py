"""Programs: a function over fastdl recorded once, and replayed in C.

A function of fastdl ends in calls of the kernels of fastdl.h, whose arguments are addresses, numbers and small structs.
A Program is the list of those calls that one run of ordinary Python code made. Replaying it is a loop in C
(csrc/runtime/program.c): no Python, no allocation, no checks in between.

Recording is dry: kernels do not run, and what they would have written is filled with numbers that mean nothing (huge,
of either sign, no two alike). It happens three times with other such numbers, and the three lists have to be the same
but for the memory that each run made for itself. Whatever depends on what kernels compute, or on the arguments'
values, then differs: control flow, sizes, numbers that were taken out of an array, arrays that NumPy computed in
between. That is an error which says where. What has to change from call to call lies in memory that kernels read: an
optimizer's number of steps and learning rate, the position of a generator, running statistics.
"""

from __future__ import annotations

import sys
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._native import ffi, lib
from fastdl._recording import Counter, depends, set_recorder
from fastdl.functional.verbs import Array, fail

__all__ = ["Program", "RecordError", "record"]

_SIGNATURES = _kernels.SIGNATURES
_INDEX = {name: i for i, name in enumerate(_SIGNATURES)}
_HEADER = _kernels.PROGRAM_HEADER
_BUSY, _STALE = 9, 10
_LINE = 64
"""Bytes between the beginnings of planned arrays: a cache line."""
_GEOMETRY = frozenset({"geometry"})
"""Parameters that hold sizes: arrays that are made from shapes at each call."""
_WORDS = {"arrays", "table"}
"""Parameters that hold addresses of arrays, in rows."""


class RecordError(RuntimeError):
    """A function that cannot be recorded as a program, and why."""


# ---- memory that one run of the function uses ----


class _Range:
    """Memory of one owner, or of several that overlap."""

    __slots__ = ("end", "expected", "first", "keep", "last", "made", "read_first", "start", "wrote")

    def __init__(self, start: int, end: int, keep: Any, call: int) -> None:
        self.start, self.end, self.keep = start, end, [keep]
        self.first = self.last = call
        self.made = False
        """Whether a kernel wrote to it before any read from it."""
        self.wrote: list[tuple[int, int]] = []
        """What kernels wrote, as offsets."""
        self.read_first: Array | None = None
        """What was read of it first, as bytes."""
        self.expected: dict[tuple[int, int], tuple[Array, int]] = {}
        """What it has to hold until a kernel writes to it: bytes, and their sum."""


class _Memory:
    """All ranges, in order of their addresses."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ranges: list[_Range] = []

    def find(self, start: int, end: int, keep: Any, call: int) -> _Range:
        """The range that has [start, end), made or grown."""
        i = bisect_right(self.starts, start) - 1
        if i >= 0 and end <= self.ranges[i].end:
            return self.ranges[i]
        first = i if i >= 0 and start < self.ranges[i].end else i + 1
        last = first
        while last < len(self.ranges) and self.ranges[last].start < end:
            last += 1
        if first == last:
            new = _Range(start, end, keep, call)
            self.starts.insert(first, start)
            self.ranges.insert(first, new)
            return new
        one, *others = self.ranges[first:last]
        for other in others:
            one.keep += other.keep
            one.first, one.made = min(one.first, other.first), one.made and other.made
            one.expected |= other.expected
        one.start, one.end = min(one.start, start), max(one.end, end, *(o.end for o in others))
        one.keep.append(keep)
        self.starts[first:last], self.ranges[first:last] = [one.start], [one]
        return one

    def at(self, address: int) -> tuple[_Range, int]:
        found = self.ranges[bisect_right(self.starts, address) - 1]
        return found, address - found.start


def _owner(array: Array) -> Array:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _extent(array: Array) -> tuple[int, int]:
    """The lowest address of an array that has elements, of whatever strides, and the bytes from there to its end."""
    reach = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
    low = sum(r for r in reach if r < 0)
    return array.ctypes.data + low, sum(map(abs, reach)) + array.itemsize


def _bytes(array: Array) -> Array:
    """The memory of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8)


def _sum(memory: Array) -> int:
    whole = memory.size // 8 * 8
    total = int(np.add.reduce(memory[:whole].view(np.uint64))) if whole else 0
    return total + int(np.add.reduce(memory[whole:], dtype=np.uint64)) * 0x9E3779B1


# ---- one run ----


class _Call(NamedTuple):
    kernel: str
    dtype: int
    slots: list[tuple[str, Any]]
    """Of each argument: "i" and "d" a number, "w" a Counter, "p" an address (None: NULL), "s" the words of a struct,
    "t" the words of a table of addresses and where in it they are."""


class _Run:
    """The recorder of one dry run."""

    def __init__(self, scale: float, seed: int) -> None:
        self.calls: list[_Call] = []
        self.memory = _Memory()
        self.restore: list[tuple[Array, Array]] = []
        self.held: list[Any] = []
        self.touched: dict[int, tuple[Any, dict[str, Any]]] = {}
        self.advances: dict[tuple[int, int], tuple[Array, int, int]] = {}
        self.values: dict[float, tuple[int, Any]] = {}
        """Numbers that kernels would have computed: what stands for them, and where."""
        random = np.random.default_rng(seed)
        self.pattern = (scale * random.uniform(1, 2, 4099)).astype(np.float32)
        self.single = iter((scale * random.uniform(2, 4, 1 << 16)).astype(np.float32))

    # What the rest of the library calls (fastdl/_recording.py).

    def word(self, array: Array, index: int) -> int:
        self.hold(array)
        by = self.advances.get((id(array), index), (array, index, 0))[2]
        return Counter(int(array[index]) + by, array, index, by)

    def advance(self, array: Array, index: int, by: int) -> None:
        self.hold(array)
        if array.ndim == 0 or array.size == 1:
            by += self.advances.get((id(array), index), (array, index, 0))[2]
        self.advances[id(array), index] = array, index, by

    def touch(self, owner: Any) -> None:
        if id(owner) in self.touched:
            return
        self.touched[id(owner)] = owner, dict(vars(owner))
        memories = getattr(owner, "_memories", None)
        if memories is not None:
            owner.__dict__["_memories"] = type(memories)()

    def hold(self, *objects: Any) -> None:
        self.held += objects

    # What call.c calls.

    def __call__(self, kernel: str, dtype: int, given: tuple[Any, ...]) -> None:
        slots: list[tuple[str, Any]] = []
        written: list[Array] = []
        here = len(self.calls)
        for (type_, name, _), value in zip(_SIGNATURES[kernel], given, strict=True):
            if not type_.endswith("*"):
                kind = "d" if type_ == "double" else "w" if isinstance(value, Counter) else "i"
                slots.append((kind, value if kind == "w" else float(value) if kind == "d" else int(value)))
            elif value is None:
                slots.append(("p", None))
            elif isinstance(value, tuple):
                slots.append(("s", tuple(int(v) for v in value)))
            elif name in _WORDS:
                words = np.array(value, np.int64).reshape(-1)
                places = list(_addresses_in(name, kernel, dtype, words, value))
                for _, address, size, writes in places:
                    self._read_or_write(address, size, None, writes, name, kernel)
                    if writes:
                        written.append(_view(address, size, dtype))
                slots.append(("t", (words, [place for place, *_ in places])))
            elif name == "strided":  # an array of any strides, read
                first, size = _extent(value)
                self._read_or_write(first, size, value, False, name, kernel)
                slots.append(("p", value.ctypes.data))
            elif value.size == 0:
                slots.append(("p", None if _SIGNATURES[kernel][len(slots)][2] else value.ctypes.data))
            else:
                writes = not type_.startswith("const ")
                address = value.ctypes.data
                self._read_or_write(address, value.nbytes, value, writes, name, kernel)
                if writes:
                    written.append(value)
                slots.append(("p", address))
        self.calls.append(_Call(kernel, dtype, slots))
        for array in written:
            self._fill(array, here)

    def _read_or_write(self, address: int, size: int, array: Array | None, writes: bool, name: str, kernel: str) -> None:
        if size == 0:
            return
        start, end, keep = address, address + size, array
        if array is not None:
            owner = _owner(array)
            keep = owner
            if owner.flags.c_contiguous or owner.flags.f_contiguous:
                start, end = owner.ctypes.data, owner.ctypes.data + owner.nbytes
        here = len(self.calls)
        found = self.memory.find(start, end, keep, here)
        found.last = here
        for (low, high), (memory, total) in found.expected.items():
            if low < address + size and address < high and _sum(memory) != total:
                raise RecordError(
                    f"record: found {name} of {kernel} (call {here}) changed since fastdl wrote it or read it, by NumPy, "
                    "expected that only fastdl changes it: between two calls of a program nothing else runs"
                )
        offset = address - found.start
        if writes:
            found.made = found.made or (found.first == here and found.read_first is None)
            found.wrote.append((offset, offset + size))
        elif not any(low <= offset and offset + size <= high for low, high in found.wrote):
            found.made = False
            if found.read_first is None:
                found.read_first = _view(address, size, None).copy()
        key = (address, address + size)
        if not writes and key not in found.expected:
            memory = _view(address, size, None)
            found.expected[key] = memory, _sum(memory)

    def _fill(self, array: Array, call: int) -> None:
        """With numbers that mean nothing, in place of what a kernel would have written."""
        memory = _bytes(array)
        address = memory.ctypes.data
        found, _ = self.memory.at(address)
        if not any(kept.ctypes.data == address and kept.size == memory.size for kept, _ in self.restore):
            self.restore.append((memory, memory.copy()))
        flat = array.reshape(-1)
        if array.dtype.kind != "f":
            flat[:] = 0
        elif array.size == 1:
            flat[0] = value = next(self.single)
            self.values[float(value)] = address, array.dtype
        else:
            for begin in range(0, array.size, self.pattern.size):
                part = flat[begin : begin + self.pattern.size]
                part[:] = np.roll(self.pattern, call)[: part.size] if begin == 0 else self.pattern[: part.size]
        low, high = address, address + memory.size
        for key in [k for k in found.expected if k[0] < high and low < k[1]]:
            del found.expected[key]
        found.expected[low, high] = memory, _sum(memory)

    def finish(self) -> None:
        """All memory as it was before the run, and what only Python knows."""
        try:
            for found in self.memory.ranges:
                for memory, total in found.expected.values():
                    if _sum(memory) != total:
                        raise RecordError(
                            "record: found an array that NumPy changed after fastdl used it, expected that only fastdl "
                            "changes it: between two calls of a program nothing else runs"
                        )
        finally:
            self.undo()

    def undo(self) -> None:
        for memory, before in reversed(self.restore):
            memory[:] = before
        for owner, state in self.touched.values():
            owner.__dict__.clear()
            owner.__dict__.update(state)


def _view(address: int, size: int, dtype: int | None) -> Array:
    """`size` bytes at an address, as bytes or as numbers."""
    memory = np.frombuffer(ffi.buffer(ffi.cast("char *", address), size), np.uint8)
    return memory if dtype is None else memory.view((np.float32, np.float64)[dtype])


def _addresses_in(
    name: str, kernel: str, dtype: int, words: Array, value: Array
) -> Iterator[tuple[int, int, int, bool]]:
    """Of a table (fastdl.h): the place of an address, the address, the bytes there, and whether they are written."""
    width = (4, 8)[dtype]
    if name == "arrays":
        for row in range(0, len(words), 3):
            size = int(words[row + 2]) * width
            if words[row] and size:
                yield row, int(words[row]), size, False
            if words[row + 1] and size:
                yield row + 1, int(words[row + 1]), size, True
        return
    begin = 0
    columns = _kernels.TABLE_COLUMNS
    for row in range(0, len(words), columns):
        end = int(words[row + _kernels.TABLE_END])
        size, begin = (end - begin) * width, end
        steps = kernel == "optimizer_step"
        if not words[row + _kernels.TABLE_GRAD] or not size:
            continue
        yield row + _kernels.TABLE_GRAD, int(words[row + _kernels.TABLE_GRAD]), size, False
        for column in range(_kernels.TABLE_PARAM, columns) if steps else ():
            if column in (_kernels.TABLE_GRAD, _kernels.TABLE_END) or not words[row + column]:
                continue
            scalar = column in (_kernels.TABLE_STEP, _kernels.TABLE_MU_PRODUCT)
            yield row + column, int(words[row + column]), 8 if scalar else size, True


# ---- recording ----


class _Silent:
    """In place of standard output."""

    def write(self, text: str) -> int:
        if text.strip():
            raise RecordError(
                f"record: found that the function prints ({text.strip()[:40]!r}), expected that it only computes: a "
                "program would print nothing; print what it returns"
            )
        return len(text)

    def flush(self) -> None:
        pass


@contextmanager
def _recording(run: _Run) -> Iterator[None]:
    before, output = set_recorder(run), sys.stdout
    sys.stdout = _Silent()  # type: ignore[assignment]
    try:
        yield
    finally:
        set_recorder(None if before is None else before)
        sys.stdout = output


def _leaves(value: Any, name: str) -> list[tuple[str, Any]]:
    """What is in nested tuples, lists and dicts, with a name for each."""
    if isinstance(value, (tuple, list)):
        return [leaf for i, item in enumerate(value) for leaf in _leaves(item, f"{name}[{i}]")]
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{name}[{key!r}]")]
    return [(name, value)]


def _rebuilt(value: Any, leaves: Iterator[Any]) -> Any:
    """The same nest with other leaves."""
    if isinstance(value, tuple):
        items = [_rebuilt(item, leaves) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [_rebuilt(item, leaves) for item in value]
    if isinstance(value, dict):
        return {key: _rebuilt(item, leaves) for key, item in value.items()}
    return next(leaves)


class _Dry(NamedTuple):
    run: _Run
    arguments: list[Array | None]
    """The copies that the function was given."""
    result: Any


def _dry_run(function: Callable[..., Any], arguments: tuple[Any, ...], scale: float, seed: int) -> _Dry:
    run = _Run(scale, seed)
    copies: list[Any] = []
    for i, (_, leaf) in enumerate(_leaves(arguments, "")):
        if isinstance(leaf, np.ndarray):
            copy = np.array(leaf, order="C")
            copies.append(copy)
            if copy.dtype in (np.float32, np.float64) and copy.size:
                copy.reshape(-1)[:] = np.resize(np.roll(run.pattern, 7 * i), copy.size)
        else:
            copies.append(leaf)
    try:
        with _recording(run):
            result = function(*_rebuilt(arguments, iter(copies)))
    except RecordError:
        run.undo()
        raise
    except Exception as error:
        run.undo()
        raise RecordError(
            f"record: found that the function raises {type(error).__name__} ({error}) when values are replaced by "
            "others, expected that what it does depends on shapes and dtypes only"
        ) from error
    run.finish()
    return _Dry(run, [c if isinstance(c, np.ndarray) else None for c in copies], result)


# ---- the same list three times ----


def _slot_name(call: _Call, index: int, at: int) -> str:
    return f"{_SIGNATURES[call.kernel][index][1]} of {call.kernel} (call {at})"


def _compare(one: _Dry, other: _Dry) -> None:
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
                    f"record: found {_slot_name(a, i, at)} given and, with other values, not given, expected one of "
                    "them always: control flow depends on values"
                )
            if kind in "id" and x != y and not (x != x and y != y):
                raise RecordError(
                    f"record: found {_slot_name(a, i, at)} to be {x} and, in the next run, {y}, expected the same "
                    "number: one that changes from call to call has to lie in an array, or in an optimizer or layer"
                )
            if kind == "w" and (x.array is not y.array or x.index != y.index or x.by != y.by):
                raise RecordError(f"record: found {_slot_name(a, i, at)} taken from two generators")
            if kind == "s" and x != y:
                raise RecordError(
                    f"record: found other sizes in {_slot_name(a, i, at)} in the next run, expected the same: a shape "
                    "depends on values"
                )
            if kind == "t" and len(x[0]) != len(y[0]):
                raise RecordError(f"record: found more arrays in {_slot_name(a, i, at)} in one run than in another")
    if len(names) != len(others):
        longer = names if len(names) > len(others) else others
        raise RecordError(
            f"record: found {len(names)} calls of kernels and, with other values, {len(others)}, the first that is not "
            f"in both being {longer[min(len(names), len(others))]}, expected the same always: control flow depends on "
            "values"
        )


class _Place(NamedTuple):
    """Where a range of memory is in the program."""

    kind: str
    """"argument", "persistent", "constant", "planned" or "result"."""
    base: int
    """The argument's number; the address; the offset in the block; the result's number."""


class _Plan:
    """What becomes of the memory of the first run, compared with that of the others."""

    def __init__(self, runs: list[_Dry]) -> None:
        first = runs[0]
        self.of: dict[int, _Place] = {}
        """By the start of its range in the first run."""
        self.constants: list[Array] = []
        self.results: list[int] = []
        """The bytes of each range that is returned."""
        own = [{a.ctypes.data: i for i, a in enumerate(r.arguments) if a is not None and a.size} for r in runs]
        pairs: dict[int, tuple[_Range, _Range, str]] = {}
        for at, calls in enumerate(zip(*(r.run.calls for r in runs), strict=True)):
            for i, slots in enumerate(zip(*(c.slots for c in calls), strict=True)):
                kind = slots[0][0]
                addresses = []
                if kind == "p" and slots[0][1] is not None:
                    addresses = [tuple(s[1] for s in slots)]
                elif kind == "t":
                    addresses = [tuple(int(s[1][0][p]) for s in slots) for p in slots[0][1][1]]
                for group in addresses:
                    self._pair(runs, group, _slot_name(calls[0], i, at), pairs)
        returned = {
            first.run.memory.at(leaf.ctypes.data)[0].start
            for _, leaf in _leaves(first.result, "")
            if isinstance(leaf, np.ndarray) and leaf.size and _known(first.run.memory, leaf)
        }
        planned: list[_Range] = []
        for start, (a, b, name) in pairs.items():
            size = a.end - a.start
            if a.start in own[0]:
                if own[1].get(b.start) != own[0][a.start]:
                    raise RecordError(f"record: found {name} to be another argument in the next run")
                self.of[start] = _Place("argument", own[0][a.start])
            elif a.start == b.start:
                self.of[start] = _Place("persistent", a.start)
            elif a.made and b.made:
                if start in returned:
                    self.of[start] = _Place("result", len(self.results))
                    self.results.append(size)
                else:
                    planned.append(a)
            else:
                self.of[start] = _Place("constant", self._constant(a, b, name))
        self._lay_out(planned)
        self.unplanned = sum(_rounded(r.end - r.start) for r in planned)

    @staticmethod
    def _pair(runs: list[_Dry], addresses: tuple[int, ...], name: str, pairs: dict[int, Any]) -> None:
        places = [run.run.memory.at(address) for run, address in zip(runs, addresses, strict=True)]
        if len({offset for _, offset in places}) > 1:
            raise RecordError(f"record: found {name} at another place of its memory in the next run")
        a, b = places[0][0], places[1][0]
        for c, _ in places[1:]:
            if (c.start == a.start) != (b.start == a.start):
                raise RecordError(f"record: found {name} in memory of its own in one run and in the same in another")
        known = pairs.setdefault(a.start, (a, b, name))
        if known[1] is not b:
            raise RecordError(f"record: found {name} to be another array in the next run: control flow depends on values")

    def _constant(self, a: _Range, b: _Range, name: str) -> int:
        """Memory that something else than a kernel filled, in each run anew: a number, or sizes."""
        parameter = name.split(" of ")[0]
        if a.read_first is not None and b.read_first is not None:
            same = np.array_equal(a.read_first, b.read_first)
            if same and not a.wrote and (parameter in _GEOMETRY or a.end - a.start <= 8):
                self.constants.append(np.array(a.read_first))
                return len(self.constants) - 1
        raise RecordError(
            f"record: found {name} to be an array that something else than fastdl made inside of the function, expected "
            "an argument, one that was there before, or fastdl's: NumPy does not run between two calls of a program; "
            "compute it with fastdl, make it before, or pass it"
        )

    def _lay_out(self, planned: list[_Range]) -> None:
        """Offsets in one block: the largest first, each at the lowest place that is free as long as it lives."""
        placed: list[tuple[int, int, _Range]] = []
        for r in sorted(planned, key=lambda r: r.start - r.end):
            size, offset = _rounded(r.end - r.start), 0
            for low, high, other in placed:  # in order of low
                if other.last < r.first or r.last < other.first:
                    continue
                if offset + size <= low:
                    break
                offset = max(offset, high)
            placed.append((offset, offset + size, r))
            placed.sort(key=lambda p: p[0])
            self.of[r.start] = _Place("planned", offset)
        self.block = max((high for _, high, _ in placed), default=0)


def _rounded(size: int) -> int:
    return -(-size // _LINE) * _LINE


def _known(memory: _Memory, array: Array) -> bool:
    address = array.ctypes.data
    i = bisect_right(memory.starts, address) - 1
    return i >= 0 and address < memory.ranges[i].end


def record(function: Callable[..., Any], *arguments: Any, verify: bool = True) -> Program:
    """Record what a function does, for calls that cost no more than its kernels.

    The function may be anything over fastdl's functions, layers, losses and optimizers: a network, a training step.
    What it does may depend on shapes, dtypes and options, not on values. It runs several times here, without computing
    anything, and nothing that it would have changed changes: parameters, states, statistics and generators are as
    before.

    Parameters
    ----------
    function : callable
        Takes arrays, or nested tuples, lists and dicts of them, and returns such. Whatever else it uses (parameters,
        an optimizer's states) has to be there before, and is used where it is.
    *arguments
        Examples: later arguments have to have their shapes and dtypes. Their values do not matter, but for integers
        that Python code looks at.
    verify : bool
        Whether to compare two calls of the program with two of the function, on the arguments and on others, to the
        last bit; everything is put back after that.

    Returns
    -------
    Program

    Raises
    ------
    RecordError
        A RuntimeError, for a function that cannot be recorded: because of NumPy between two calls of fastdl, a number
        that changes, or control flow that depends on values. It says which kernel and argument, and the likely cause.

    See Also
    --------
    Program : What it returns.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> from fastdl import nn, optim
    >>> net, loss = nn.Sequential(nn.Linear(4, 8, rng=0), nn.ReLU(), nn.Linear(8, 3, rng=1)), nn.CrossEntropyLoss()
    >>> optimizer = optim.Adam(net.parameters(), lr=0.01)
    >>> def step(x, target):
    ...     value = loss(net(x), target)
    ...     net.backward(loss.backward(), input_grad=False)
    ...     optimizer.step(net.grads)
    ...     return value
    >>> x, target = np.ones((5, 4), np.float32), np.array([0, 1, 2, 0, 1])
    >>> program = fastdl.record(step, x, target)
    >>> losses = [float(program(x, target)) for _ in range(50)]
    >>> losses[-1] < losses[0]
    True
    """
    if not callable(function):
        raise TypeError(f"function: found {type(function).__name__}, expected a function")
    runs = [_dry_run(function, arguments, scale, seed) for seed, scale in enumerate((1e30, -1e30, 1e-30), 1)]
    for other in runs[1:]:
        _compare(runs[0], other)
    program = Program(function, arguments, runs)
    if verify:
        _verify(program, arguments)
    return program


class Program:
    """What record returns: a function that replays the kernels of another.

    Called with arguments of the recorded shapes and dtypes it returns what the function would return, in new arrays.
    Arguments are used where they are; those that are not C-contiguous are copied. Parameters and states are those of
    the layers and optimizers that were recorded, which so are trained. Options that lie in memory (an optimizer's
    learning rate, set by itself or by a schedule) may change between calls.

    A program may run in one thread at a time: `copy` gives another one memory of its own. It cannot be pickled: it
    holds addresses, and recording again takes milliseconds.

    Notes
    -----
    Where a parameter of a layer is replaced by another array, or an optimizer's states are, calls raise RuntimeError:
    record again. What is copied into them, as load_state_dict does, is seen.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], runs: list[_Dry]) -> None:
        self.function = function
        self._arguments, self._runs = arguments, runs
        self._kernels = [c.kernel for c in runs[0].run.calls]
        leaves = _leaves(arguments, "argument")
        self._expected = [
            (name, leaf.shape, leaf.dtype) if isinstance(leaf, np.ndarray) else (name, None, leaf)
            for name, leaf in leaves
        ]
        self._build()
        for owner, _ in runs[0].run.touched.values():
            depends(self, owner)

    def _build(self) -> None:
        first = self._runs[0]
        plan = self._plan = _Plan(self._runs)
        held = [(r.keep, r.start) for r in first.run.memory.ranges if plan.of.get(r.start, ("",))[0] == "persistent"]
        self._held = [first.run.held, held]
        block = np.empty(plan.block + _LINE, np.uint8)
        self._block = block[-block.ctypes.data % _LINE :][: plan.block]
        self._nothing = np.zeros(8, np.int64)
        words: list[int] = []
        """Slots, and after them structs and tables."""
        bindings: list[tuple[int, int, int]] = []
        loads: list[tuple[int, Any]] = []
        inner: list[tuple[int, int]] = []
        """Words that are the address of another word."""
        starts: list[tuple[int, int]] = []
        calls = first.run.calls
        sizes = [len(c.slots) for c in calls]
        after = sum(sizes)
        extra: list[int] = []
        number = np.zeros(1, np.float64)

        def place(address: int | None, at: int) -> int:
            """What stands at word `at` for an address of the first run."""
            if address is None:
                return 0
            if not _has(first.run.memory, address):
                return int(self._nothing.ctypes.data)
            found, offset = first.run.memory.at(address)
            kind, base = plan.of[found.start]
            if kind == "planned":
                return int(self._block.ctypes.data) + base + offset
            if kind == "persistent":
                return base + offset
            if kind == "constant":
                return int(plan.constants[base].ctypes.data) + offset
            bindings.append((at, base if kind == "argument" else len(self._expected) + base, offset))
            return 0

        for call in calls:
            starts.append((int(lib.fdl_slot_kernel(2 * _INDEX[call.kernel] + call.dtype)), len(words)))
            for kind, value in call.slots:
                at = len(words)
                if kind == "d":
                    number[0] = value
                    words.append(int(number.view(np.int64)[0]))
                elif kind == "i":
                    words.append(value)
                elif kind == "w":
                    loads.append((at, value))
                    words.append(0)
                elif kind == "p":
                    words.append(place(value, at))
                else:
                    inner.append((at, after + len(extra)))
                    words.append(0)
                    if kind == "s":
                        extra += value
                        continue
                    table, places = value
                    begin = after + len(extra)
                    extra += [int(w) for w in table]
                    for p in places:
                        extra[begin - after + p] = place(int(table[p]), begin + p)
        self._words = np.array([*words, *extra], np.int64)
        base = int(self._words.ctypes.data)
        for at, target in inner:
            self._words[at] = base + 8 * target
        advances = list(first.run.advances.values())
        self._advances = advances
        code = [0, 0, 0, len(calls), len(bindings), len(loads), len(advances)]
        code += [w for kernel, at in starts for w in (kernel, base + 8 * at)]
        code += [w for at, argument, offset in bindings for w in (base + 8 * at, argument, offset)]
        code += [w for at, c in loads for w in (base + 8 * at, c.array.ctypes.data + 8 * c.index, c.by)]
        code += [w for array, index, by in advances for w in (array.ctypes.data + 8 * index, by)]
        self._code = np.array(code, np.int64)
        self._addresses = np.zeros(len(self._expected) + len(plan.results) + 1, np.int64)
        self._code_pointer = ffi.from_buffer("int64_t[]", self._code)
        self._address_pointer = ffi.from_buffer("int64_t[]", self._addresses)
        self._written = self._written_arguments()
        self._template, self._returned = self._results()
        self._lock = threading.Lock()

    def _written_arguments(self) -> frozenset[int]:
        first = self._runs[0]
        found = set()
        for r in first.run.memory.ranges:
            kind, base = self._plan.of.get(r.start, _Place("", 0))
            if kind == "argument" and r.wrote:
                found.add(base)
        return frozenset(found)

    def _results(self) -> tuple[Any, list[Callable[[list[Any], list[Array]], Any]]]:
        """The nest of results, and for each leaf what makes it from the arguments and the new arrays."""
        first, second = self._runs[0], self._runs[1]
        leaves, others = _leaves(first.result, "result"), _leaves(second.result, "result")
        if [name for name, _ in leaves] != [name for name, _ in others]:
            raise RecordError("record: found results of another form in the next run: control flow depends on values")
        makers: list[Callable[[list[Any], list[Array]], Any]] = []
        for i, ((name, leaf), (_, other)) in enumerate(zip(leaves, others, strict=True)):
            if isinstance(leaf, np.ndarray):
                makers.append(self._array_result(name, leaf))
            elif isinstance(leaf, (float, np.floating)) and (value := first.run.values.get(float(leaf))) is not None:
                if float(other) not in second.run.values:
                    raise RecordError(f"record: found {name} to be a number of another kind in the next run")
                makers.append(self._number_result(*value, type(leaf)))
            elif type(leaf) is type(other) and (leaf == other or leaf is other or (leaf != leaf and other != other)):
                makers.append(lambda arguments, new, leaf=leaf: leaf)  # type: ignore[misc]
            else:
                raise RecordError(
                    f"record: found {name} to be {leaf!r} and, with other values, {other!r}, expected what fastdl "
                    "computed: a number that Python made of its results; return those"
                )
        return first.result, makers

    def _array_result(self, name: str, leaf: Array) -> Callable[[list[Any], list[Array]], Any]:
        first = self._runs[0]
        if leaf.size == 0:
            return lambda arguments, new: leaf.copy()
        if not _known(first.run.memory, leaf):
            for i, argument in enumerate(first.arguments):
                if argument is not None and np.may_share_memory(argument, leaf):
                    return _view_of(i, leaf, argument)
            raise RecordError(
                f"record: found {name} to be an array that NumPy made, expected one that fastdl computed: compute it with "
                "fastdl, or after the program"
            )
        found, offset = first.run.memory.at(leaf.ctypes.data)
        kind, base = self._plan.of[found.start]
        shape, strides, dtype = leaf.shape, leaf.strides, leaf.dtype
        if kind == "persistent":
            return lambda arguments, new: leaf
        if kind == "argument":
            return _view_of(base, leaf, first.arguments[base])
        if kind != "result":
            raise RecordError(f"record: found {name} to be an array that something else than fastdl made")
        if offset == 0 and leaf.flags.c_contiguous and leaf.nbytes == found.end - found.start:
            return lambda arguments, new: new[base].view(dtype).reshape(shape)
        return lambda arguments, new: np.ndarray(shape, dtype, new[base].data, offset, strides)

    def _number_result(self, address: int, dtype: Any, type_: type) -> Callable[[list[Any], list[Array]], Any]:
        first = self._runs[0]
        found, offset = first.run.memory.at(address)
        kind, base = self._plan.of[found.start]
        if kind == "planned":
            memory = self._block[base + offset :][: dtype.itemsize]
        elif kind == "persistent":
            memory = _view(base + offset, dtype.itemsize, None)
        else:
            return lambda arguments, new: type_(new[base][offset:][: dtype.itemsize].view(dtype)[0])
        return lambda arguments, new: type_(memory.view(dtype)[0])

    def __call__(self, *arguments: Any) -> Any:
        """What the function would return."""
        from fastdl._call import get_recorder

        if get_recorder() is not None:  # part of another program
            return self.function(*arguments)
        leaves = self._bound(arguments)
        new = [np.empty(size, np.uint8) for size in self._plan.results]
        with self._lock:
            self._addresses[: len(leaves)] = [a.ctypes.data if isinstance(a, np.ndarray) else 0 for a in leaves]
            self._addresses[len(leaves) : len(leaves) + len(new)] = [a.ctypes.data for a in new]
            status = lib.fdl_program_run(self._code_pointer, self._address_pointer)
        if status:
            self._raise(status)
        made = iter([make(leaves, new) for make in self._returned])
        return _rebuilt(self._template, made)

    def _bound(self, arguments: tuple[Any, ...]) -> list[Any]:
        """The leaves of the arguments, checked, as a program uses them."""
        given = _leaves(arguments, "argument")
        if [name for name, _ in given] != [name for name, *_ in self._expected]:
            fail("arguments", [name for name, _ in given], [name for name, *_ in self._expected])
        bound = []
        for i, ((name, leaf), (_, shape, expected)) in enumerate(zip(given, self._expected, strict=True)):
            if shape is None:
                if not (leaf is expected or (type(leaf) is type(expected) and leaf == expected)):
                    fail(name, repr(leaf), f"{expected!r}, with which the program was recorded")
                bound.append(leaf)
                continue
            array = leaf if isinstance(leaf, np.ndarray) else np.asarray(leaf)
            if array.shape != shape:
                fail(name, f"shape {array.shape}", f"shape {shape}, with which the program was recorded")
            if array.dtype != expected:
                raise TypeError(
                    f"{name}: found dtype {array.dtype}, expected {expected}, with which the program was recorded"
                )
            contiguous = np.require(array, expected, "C")
            if i in self._written:
                if contiguous is not leaf or not array.flags.writeable:
                    fail(name, "an array that is not C-contiguous and writable", "one that is: the program writes to it")
            elif self._block.size and np.may_share_memory(contiguous, self._block):
                contiguous = contiguous.copy()
            bound.append(contiguous)
        for i in self._written:
            for j, other in enumerate(bound):
                if i != j and isinstance(other, np.ndarray) and np.may_share_memory(bound[i], other):
                    fail(given[j][0], f"memory shared with {given[i][0]}, which is written", "memory of its own")
        return bound

    def _raise(self, status: int) -> None:
        try:
            _kernels.raise_status(status)
        except Exception as error:
            if status in (_BUSY, _STALE):
                raise
            at = int(self._code[_kernels.PROGRAM_FAILED])
            raise type(error)(f"{error} (call {at} of the program, {self._kernels[at]})") from None

    def _replaced(self, array: Any) -> None:
        """Something that was recorded is replaced; an array, or all of an optimizer's."""
        if array is not None:
            address = array.__array_interface__["data"][0]
            memory = self._runs[0].run.memory
            if not _has(memory, address) or self._plan.of.get(memory.at(address)[0].start, ("",))[0] != "persistent":
                return
        self._code[_kernels.PROGRAM_STALE] = 1

    def copy(self) -> Program:
        """The same program with memory of its own, for another thread: parameters and states are shared."""
        other = object.__new__(Program)
        other.__dict__.update(self.__dict__)
        other._build()
        for owner, _ in self._runs[0].run.touched.values():
            depends(other, owner)
        return other

    def __reduce__(self) -> Any:
        raise TypeError("a Program cannot be pickled: it holds addresses; record it again, which takes milliseconds")

    def __len__(self) -> int:
        """How many kernels it calls."""
        return len(self._kernels)

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"<Program of {name}: {len(self)} kernels, {self._plan.block} bytes between them>"

    @property
    def memory(self) -> dict[str, int]:
        """Bytes of what lies between kernels: as planned, and what it would be if each array had memory of its own."""
        return {"planned": self._plan.block, "unplanned": self._plan.unplanned}


def _has(memory: _Memory, address: int) -> bool:
    i = bisect_right(memory.starts, address) - 1
    return i >= 0 and address < memory.ranges[i].end


def _view_of(index: int, leaf: Array, argument: Any) -> Callable[[list[Any], list[Array]], Any]:
    """What a result that is (part of) an argument is made by."""
    offset = leaf.ctypes.data - argument.ctypes.data
    if offset == 0 and leaf.shape == argument.shape and leaf.strides == argument.strides:
        return lambda arguments, new: arguments[index]
    shape, strides, dtype = leaf.shape, leaf.strides, leaf.dtype
    return lambda arguments, new: np.ndarray(shape, dtype, arguments[index].data, offset, strides)


# ---- verification ----


def _others(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments with other values: their rows in another order, and floats a little less."""
    leaves = []
    for _, leaf in _leaves(arguments, ""):
        if isinstance(leaf, np.ndarray) and leaf.size:
            rolled = np.roll(leaf, 1, 0) if leaf.ndim else leaf
            leaves.append((rolled * leaf.dtype.type(0.875)).astype(leaf.dtype) if leaf.dtype.kind == "f" else rolled)
        else:
            leaves.append(leaf)
    return _rebuilt(arguments, iter(leaves))  # type: ignore[no-any-return]


def _copied(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    leaves = (np.array(leaf) if isinstance(leaf, np.ndarray) else leaf for _, leaf in _leaves(arguments, ""))
    return _rebuilt(arguments, leaves)  # type: ignore[no-any-return]


def _verify(program: Program, arguments: tuple[Any, ...]) -> None:
    """Refuse a program that does not compute, on these arguments and on others, what its function does."""
    first = program._runs[0].run
    persistent = [
        _view(r.start + low, high - low, None)
        for r in first.memory.ranges
        if program._plan.of.get(r.start, ("",))[0] == "persistent"
        for low, high in set(r.wrote)
    ] + [_bytes(array[..., None]) for array, _, _ in first.advances.values()]
    before = [memory.copy() for memory in persistent]
    states = [(owner, dict(vars(owner))) for owner, _ in first.touched.values()]
    found = []
    try:
        for call in (program.function, program):
            for owner, state in states:
                owner.__dict__.clear()
                owner.__dict__.update(state)
                if "_memories" in state:
                    owner.__dict__["_memories"] = type(state["_memories"])()
            for memory, old in zip(persistent, before, strict=True):
                memory[:] = old
            outcome: list[Any] = []
            for values in (arguments, _others(arguments)):
                own = _copied(values)
                result = call(*own)
                outcome += [*_leaves(result, "result"), *_leaves(own, "argument")]
                outcome = [(n, np.array(v) if isinstance(v, np.ndarray) else v) for n, v in outcome]
            outcome += [("a parameter or state", memory.copy()) for memory in persistent]
            found.append(outcome)
    finally:
        for memory, old in zip(persistent, before, strict=True):
            memory[:] = old
        for owner, state in states:
            owner.__dict__.clear()
            owner.__dict__.update(state)
    for (name, a), (_, b) in zip(*found, strict=True):
        equal = np.array_equal(a, b, equal_nan=getattr(a, "dtype", np.dtype(bool)).kind == "f") if isinstance(
            a, np.ndarray
        ) else a == b or (a != a and b != b)
        if not equal:
            raise RecordError(
                f"record: found {name} of the program to differ from the function's, expected the same: the function "
                "changes something that fastdl's kernels do not know of"
            )
