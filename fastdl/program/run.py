"""Dry runs: what a function calls is noted in place of being done, and nothing stays changed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._recording import Counter, get_recorder, owner_of, set_recorder
from fastdl.functional.verbs import Array
from fastdl.program.errors import RecordError
from fastdl.program.memory import Memory, ends_of, extent_of, has, sum_of, united, view
from fastdl.program.nest import leaves_of, rebuilt

SIGNATURES = _kernels.SIGNATURES
_PATTERN = 1 << 16
"""How many numbers without meaning there are."""
_WORDS = {"arrays", "table"}
"""Parameters that hold addresses of arrays, in rows."""
_SIZES = frozenset(kernel for kernel in SIGNATURES if kernel.endswith(("_size", "_plan")))
"""Kernels that compute from sizes alone: they are made while recording."""
_UPDATED = frozenset({"param", "running_mean", "running_var", "optimizer"}) | {
    *("momentum_buffer", "state_sum", "square_avg", "grad_avg", "acc_delta", "mu_product"),
    *("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
}
"""Parameters whose arrays kernels read as well as write."""


class Use(NamedTuple):
    """An array that a kernel is given."""

    name: str
    address: int
    size: int
    """In bytes."""
    shape: tuple[int, ...]
    writes: bool


class Call(NamedTuple):
    """A call of a kernel."""

    kernel: str
    dtype: int
    slots: list[tuple[str, Any]]
    """Of each argument: "i" and "d" a number, "w" a Counter, "p" an address (None: NULL), "s" the words of a struct,
    "t" the words of a table of addresses and where in it they are, "z" an array without elements."""
    uses: list[Use]
    at: int = -1
    """Which one of the function's calls it is."""
    prepared: bool = False
    """Whether it is made only where a parameter changed."""


@cache
def _numbers(scale: float, seed: int) -> tuple[Array, Array]:
    """Numbers without meaning, for arrays and for single ones."""
    random = np.random.default_rng(seed)
    many = (scale * random.uniform(1, 2, 2 * _PATTERN)).astype(np.float32)
    return many, (scale * random.uniform(2, 4, _PATTERN)).astype(np.float32)


class Run:
    """The recorder of one dry run."""

    def __init__(self, scale: float, seed: int) -> None:
        self.calls: list[Call] = []
        self.memory = Memory()
        self.seed = seed
        self.newest: dict[int, float] = {}
        """The number that stands at an address now."""
        self.restore: dict[tuple[int, int], tuple[Array, Array]] = {}
        self.held: list[Any] = []
        self.arrays: dict[int, Array] = {}
        """Of tables, by their addresses."""
        self.rounds = False
        """Whether a frozen program is part of it, whose results differ by rounding from what is recorded."""
        self.touched: dict[int, tuple[Any, dict[str, Any]]] = {}
        self.owners: list[Any] = []
        """Those of `touched`, when that is forgotten."""
        self.advances: dict[tuple[int, int], tuple[Array, int, int]] = {}
        self.values: dict[float, tuple[int, Any]] = {}
        """Numbers that kernels would have computed: what stands for them, and where."""
        self.pattern, single = _numbers(scale, seed)
        self.single = iter(single)

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
        for group in objects:
            for array in group if isinstance(group, tuple) else ():
                if isinstance(array, np.ndarray):
                    self.arrays[array.ctypes.data] = array

    def approximate(self) -> None:
        self.rounds = True

    # What call.c calls.

    def __call__(self, kernel: str, dtype: int, given: tuple[Any, ...]) -> None:
        if kernel in _SIZES:
            before = set_recorder(None)
            try:
                getattr(_kernels, kernel)(*given)
            finally:
                set_recorder(before)
            return
        slots: list[tuple[str, Any]] = []
        uses: list[Use] = []
        written: list[Array] = []
        for (type_, name, optional), value in zip(SIGNATURES[kernel], given, strict=True):
            writes = type_.endswith("*") and not type_.startswith("const ")
            if not type_.endswith("*"):
                kind = "d" if type_ == "double" else "w" if isinstance(value, Counter) else "i"
                slots.append((kind, value if kind == "w" else float(value) if kind == "d" else int(value)))
            elif value is None:
                slots.append(("p", None))
            elif isinstance(value, tuple):
                slots.append(("s", tuple(int(v) for v in value)))
            elif name in _WORDS:
                words = np.array(value, np.int64).reshape(-1)
                places = list(addresses_in(name, kernel, dtype, words))
                for _, address, size, updates in places:
                    array = self.arrays.get(address)
                    if updates and name == "table":
                        self._use(address, size, array, False, name, kernel)
                    self._use(address, size, array, updates, name, kernel)
                    uses.append(Use(name, address, size, (size // (4, 8)[dtype],), updates))
                    if updates:
                        written.append(view(address, size, dtype))
                slots.append(("t", (words, [place for place, *_ in places])))
            elif name.startswith("strided") and value.size:  # an array of any strides, read
                low, size = extent_of(value)
                self._use(low, size, value, False, name, kernel)
                uses.append(Use(name, low, size, value.shape, False))
                slots.append(("p", value.ctypes.data))
            elif value.size == 0:
                slots.append(("p", None) if optional else ("z", None))
            else:
                address = value.ctypes.data
                if writes and name in _UPDATED:
                    self._use(address, value.nbytes, value, False, name, kernel)
                self._use(address, value.nbytes, value, writes, name, kernel)
                uses.append(Use(name, address, value.nbytes, value.shape, writes))
                if writes:
                    written.append(value)
                slots.append(("p", address))
        self.calls.append(Call(kernel, dtype, slots, uses, len(self.calls)))
        for array in written:
            self._fill(array)

    def _use(self, address: int, size: int, array: Array | None, writes: bool, name: str, kernel: str) -> None:
        start, end, keep = address, address + size, array
        if array is not None:
            keep = whole = owner_of(array)
            if whole.flags.c_contiguous or whole.flags.f_contiguous:
                start, end = whole.ctypes.data, whole.ctypes.data + whole.nbytes
        here = len(self.calls)
        found = self.memory.find(start, end, keep, here)
        found.keep |= {id(array): array, id(keep): keep}
        found.last = here
        for (low, high), (memory, total) in found.expected.items():
            if low < address + size and address < high and sum_of(memory) != total:
                raise RecordError(
                    f"record: found {name} of {kernel} (call {here}) changed since fastdl wrote it or read it, by "
                    "NumPy, expected that only fastdl changes it: between two calls of a program nothing else runs"
                )
        offset = address - found.start
        if writes:
            found.made = found.made or (found.first == here and found.read_first is None)
            found.wrote = united([*found.wrote, (offset, offset + size)])
        elif not any(low <= offset and offset + size <= high for low, high in found.wrote):
            found.made = False
            if found.read_first is None:
                found.read_first = np.concatenate(ends_of(view(address, size, None)))
        key = (address, address + size)
        if not writes and key not in found.expected:
            memory = view(address, size, None)
            found.expected[key] = memory, sum_of(memory)

    def _fill(self, array: Array) -> None:
        """With numbers that mean nothing, in place of what a kernel would have written."""
        address = array.ctypes.data
        memory = view(address, array.nbytes, None)  # it may be read-only, for frozen programs
        found, _ = self.memory.at(address)
        for part in ends_of(memory):
            key = part.ctypes.data, part.size
            if key not in self.restore:
                self.restore[key] = part, part.copy()
            numbers = part.view(array.dtype)
            if array.dtype.kind != "f":
                numbers[:] = self.seed
            elif array.size == 1:
                numbers[0] = value = next(self.single)
                self.values[float(value)] = address, array.dtype
                self.newest[address] = float(value)
            else:
                numbers[:] = self.pattern[len(self.calls) % 997 :][: numbers.size]
        low, high = address, address + memory.size
        for key in [k for k in found.expected if k[0] < high and low < k[1]]:
            del found.expected[key]
        found.expected[low, high] = memory, sum_of(memory)

    def finish(self) -> None:
        """All memory as it was before the run, and what only Python knows."""
        try:
            for found in self.memory.ranges:
                for memory, total in found.expected.values():
                    if sum_of(memory) != total:
                        raise RecordError(
                            "record: found an array that NumPy changed after fastdl used it, expected that only fastdl "
                            "changes it: between two calls of a program nothing else runs"
                        )
        finally:
            self.undo()

    def forget(self, is_persistent: Callable[[int], bool]) -> None:
        """What a program made of this does not need: above all the memory that this run made for itself."""
        for found in self.memory.ranges:
            if not is_persistent(found.start):
                found.keep.clear()
            found.expected.clear()
            found.read_first = None
        self.owners = [owner for owner, _ in self.touched.values()]
        self.arrays.clear()
        self.restore.clear()
        self.touched.clear()
        self.held = [
            one
            for group in self.held
            for one in (group if isinstance(group, tuple) else (group,))
            if not (
                isinstance(one, np.ndarray)
                and has(self.memory, one.ctypes.data)
                and not is_persistent(self.memory.at(one.ctypes.data)[0].start)
            )
        ]

    def undo(self) -> None:
        for memory, before in reversed(self.restore.values()):
            memory[:] = before
        self.restore.clear()
        for owner, state in self.touched.values():
            owner.__dict__.clear()
            owner.__dict__.update(state)


def addresses_in(name: str, kernel: str, dtype: int, words: Array) -> Iterator[tuple[int, int, int, bool]]:
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


class _Silent:
    """In place of standard output: refuses what a function writes that is recorded, and hands on all else."""

    lock = Lock()
    recordings = 0
    output: Any = None

    def write(self, text: str) -> Any:
        if get_recorder() is not None and text.strip():
            raise RecordError(
                f"record: found that the function prints ({text.strip()[:40]!r}), expected that it only computes: a "
                "program would print nothing; print what it returns"
            )
        return self.output.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.output, name)


_silent = _Silent()


@contextmanager
def _recording(run: Run) -> Iterator[None]:
    with _Silent.lock:  # several threads may record
        if _Silent.recordings == 0:
            _Silent.output, sys.stdout = sys.stdout, _silent
        _Silent.recordings += 1
    before = set_recorder(run)
    try:
        yield
    finally:
        set_recorder(before)
        with _Silent.lock:
            _Silent.recordings -= 1
            if _Silent.recordings == 0 and sys.stdout is _silent:
                sys.stdout = _Silent.output


class Dry(NamedTuple):
    run: Run
    arguments: list[Array | None]
    """The copies that the function was given."""
    result: Any


def memory_start(run: Run, address: int) -> int:
    """Where the memory begins that an array at this address, which was there before, lies in."""
    for array in run.memory.at(address)[0].keep.values():
        owner = owner_of(array) if isinstance(array, np.ndarray) else None
        if owner is not None and owner.ctypes.data <= address < owner.ctypes.data + owner.nbytes:
            return int(owner.ctypes.data)
    return address


def used_dtype(dtype: Any) -> Any:
    """In which a program uses an argument of that dtype: integers are class indices or rows, which kernels take as
    int64."""
    return np.dtype(np.int64) if dtype.kind in "iu" and np.can_cast(dtype, np.int64) else dtype


def dry_run(function: Callable[..., Any], arguments: tuple[Any, ...], scale: float, seed: int) -> Dry:
    run = Run(scale, seed)
    copies: list[Any] = []
    for i, (_, leaf) in enumerate(leaves_of(arguments, "")):
        if isinstance(leaf, np.ndarray):
            copy = np.array(leaf, used_dtype(leaf.dtype), order="C")
            copies.append(copy)
            if copy.size:
                run.memory.find(copy.ctypes.data, copy.ctypes.data + copy.nbytes, copy, -1)
            if copy.dtype in (np.float32, np.float64) and copy.size:
                copy.reshape(-1)[:] = np.resize(np.roll(run.pattern, 7 * i), copy.size)
            elif copy.size:
                flat = copy.reshape(-1)  # other numbers, but such as there are
                flat[:] = np.random.default_rng(seed).choice(flat, flat.size) if seed else flat
        else:
            copies.append(leaf)
    try:
        with _recording(run):
            result = function(*rebuilt(arguments, iter(copies)))
    except BaseException as error:
        run.undo()
        if isinstance(error, RecordError) or not isinstance(error, Exception):
            raise
        raise RecordError(
            f"record: found that the function raises {type(error).__name__} ({error}) when values are replaced by "
            "others, expected that what it does depends on shapes and dtypes only"
        ) from error
    run.finish()
    return Dry(run, [c if isinstance(c, np.ndarray) else None for c in copies], result)
