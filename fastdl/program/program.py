"""A program: what calls it, and what it returns."""

from __future__ import annotations

import ctypes
import gc
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._call import get_recorder, program_runner
from fastdl._library import COMPILED
from fastdl._native import ffi, lib
from fastdl._recording import LEVEL, depends, freeze, moved_on, thaw, version_at
from fastdl.functional.verbs import Array, ArrayLike, fail, integer, natural
from fastdl.program.errors import RecordError
from fastdl.program.explain import Explanation, explain
from fastdl.program.memory import bytes_of, has, view
from fastdl.program.nest import leaves_of, rebuilt
from fastdl.program.plan import LINE, Place, Plan
from fastdl.program.run import SIGNATURES, Dry, Use, memory_start, used_dtype

_INDEX = {name: i for i, name in enumerate(SIGNATURES)}
_FLOAT = np.dtype(np.float32).num
_PIECE = 0.05
"""Seconds without a look at Ctrl-C."""


_TRIM = 1 << 24
"""Bytes that are let go of until the system gets them back."""


def _trim() -> None:
    """Give the system what is free: of many arrays between others, glibc does so only when it is told."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class Maker(NamedTuple):
    """Of one result."""

    make: Callable[[list[Any], list[Array]], Any]
    """It, from the leaves of the arguments and the new arrays, as bytes."""
    kind: Any = None
    """What call.c makes it from; None: nothing."""
    like: Any = None
    """Where it is a new array, one like it."""
    at: Callable[[list[Array]], tuple[int, Any]] | None = None
    """Where it is one number: its address and dtype."""


def _weakly(program: Program, method: str) -> Callable[..., Any]:
    """A method of a program that does not keep it alive."""
    this = weakref.ref(program)

    def call(*arguments: Any) -> Any:
        return getattr(this(), method)(*arguments)

    return call


def _sorts_of(first: Dry, second: Dry) -> list[str]:
    """What each result is: "array", a "number" out of one, or the "same" object always."""
    leaves, others = leaves_of(first.result, "result"), leaves_of(second.result, "result")
    if [name for name, _ in leaves] != [name for name, _ in others]:
        raise RecordError("record: found results of another form in the next run: control flow depends on values")
    sorts = []
    for (name, leaf), (_, other) in zip(leaves, others, strict=True):
        if isinstance(leaf, np.ndarray):
            sorts.append("same" if leaf is other else "array")
        elif isinstance(leaf, (float, np.floating)) and float(leaf) in first.run.values:
            if float(other) not in second.run.values:
                raise RecordError(f"record: found {name} to be a number of another kind in the next run")
            if first.run.newest[first.run.values[float(leaf)][0]] != float(leaf):
                raise RecordError(
                    f"record: found {name} to be a number that was read before its array was written again, expected "
                    "one that is still there in the end"
                )
            sorts.append("number")
        elif type(leaf) is type(other) and (leaf is other or leaf == other or (leaf != leaf and other != other)):
            sorts.append("same")
        else:
            raise RecordError(
                f"record: found {name} to be {leaf!r} and, with other values, {other!r}, expected what fastdl "
                "computed: a number that Python made of its results; return those"
            )
    return sorts


def _same(leaf: Any) -> Maker:
    return Maker(lambda arguments, new: leaf, (leaf,))


def view_of(index: int, leaf: Array, argument: Any) -> Maker:
    """What a result that is (part of) an argument is made by."""
    offset = leaf.ctypes.data - argument.ctypes.data
    if offset == 0 and leaf.shape == argument.shape and leaf.strides == argument.strides:
        return Maker(lambda arguments, new: arguments[index], -1 - index)
    shape, strides, dtype = leaf.shape, leaf.strides, leaf.dtype
    return Maker(lambda arguments, new: np.ndarray(shape, dtype, arguments[index].data, offset, strides))


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

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], runs: list[Dry]) -> None:
        self.function = function
        self.sealed = False
        self._arguments, self._first = arguments, runs[0]
        self._plan = Plan(runs)
        self._sorts = _sorts_of(runs[0], runs[1])
        runs[0].run.forget(self._plan.is_persistent)
        self._kernels = [c.kernel for c in runs[0].run.calls]
        leaves = leaves_of(arguments, "argument")
        self._expected: list[tuple[str, Any, Any]] = [
            (name, leaf.shape, leaf.dtype) if isinstance(leaf, np.ndarray) else (name, None, leaf)
            for name, leaf in leaves
        ]
        """Of each argument its name, shape and dtype; of what is no array None and itself."""
        self._read_only = self._sources()
        self._build()
        depends(self, runs[0].run.owners)

    def _persistent(self, uses: Iterable[Use]) -> list[Use]:
        """Those of what was there before."""
        memory = self._first.run.memory
        return [u for u in uses if self._plan.is_persistent(memory.at(u.address)[0].start)]

    def _sources(self) -> list[Array]:
        """The arrays from which something is prepared."""
        memory = self._first.run.memory
        prepared = [use for call in self._first.run.calls if call.prepared for use in call.uses]
        ranges = {id(r): r for r in (memory.at(use.address)[0] for use in self._persistent(prepared))}
        return [array for r in ranges.values() for array in r.keep.values() if isinstance(array, np.ndarray)]

    def _build(self) -> None:
        first, plan = self._first, self._plan
        block = np.empty(plan.block + LINE, np.uint8)
        self._block = block[-block.ctypes.data % LINE :][: plan.block]
        self._nothing = np.zeros(8, np.int64)
        self._constants = [constant.copy() for constant in plan.constants]
        words: list[int] = []
        """Slots, and after them structs and tables."""
        bindings: list[tuple[int, int, int]] = []
        loads: list[tuple[int, Any]] = []
        inner: list[tuple[int, int]] = []
        """Words that are the address of another word."""
        starts: list[tuple[int, int]] = []
        calls = first.run.calls
        prepared = [use for c in calls if c.prepared for use in c.uses]
        written = [use for c in calls for use in c.uses if use.writes]
        sources = (
            {LEVEL, *(memory_start(first.run, use.address) for use in self._persistent(prepared))}
            if prepared
            else set()
        )
        watched = {int(version_at(start).ctypes.data) for start in sources}
        trained = {int(version_at(memory_start(first.run, u.address)).ctypes.data) for u in self._persistent(written)}
        sizes = [len(c.slots) for c in calls]
        after = sum(sizes)
        extra: list[int] = []
        number = np.zeros(1, np.float64)

        def place(address: int | None, at: int) -> int:
            """What stands at word `at` for an address of the first run."""
            if address is None:
                return 0
            if not has(first.run.memory, address):
                return int(self._nothing.ctypes.data)
            found, offset = first.run.memory.at(address)
            kind, base = plan.of[found.start]
            if kind == "planned":
                return int(self._block.ctypes.data) + base + offset
            if kind == "persistent":
                return base + offset
            if kind == "constant":
                return int(self._constants[base].ctypes.data) + offset
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
                elif kind == "z":
                    words.append(int(self._nothing.ctypes.data))
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
        advances = [(a.ctypes.data + 8 * index, by) for a, index, by in first.run.advances.values()]
        code = [0, 0, 0, len(calls), len(bindings), len(loads), len(advances)]
        code += [sum(c.prepared for c in calls), 1, len(watched), len(trained)]
        code += [w for kernel, at in starts for w in (kernel, base + 8 * at)]
        code += [w for at, argument, offset in bindings for w in (base + 8 * at, argument, offset)]
        code += [w for at, c in loads for w in (base + 8 * at, c.array.ctypes.data + 8 * c.index, c.by)]
        code += [w for advance in advances for w in advance]
        code += [w for version in watched for w in (version, 0)]
        code += trained
        self._code = np.array(code, np.int64)
        self._code_pointer = ffi.from_buffer("int64_t[]", self._code)
        self._written = self._written_arguments()
        self._template, self._returned = self._results()
        self._flat = (
            not any(shape is None for _, shape, _ in self._expected)
            and len(self._arguments) == len(self._expected)
            and type(self._template) in (tuple, np.ndarray, float, type(None))
            and len(self._template if type(self._template) is tuple else (None,)) == len(self._returned)
        )
        """Whether arguments are arrays, and results a tuple or one alone."""
        self._new = [m.kind if isinstance(m.kind, int) else m.kind[0] for m in self._returned if m.like is not None]
        """Which new array each result is that is one."""
        begin = int(self._block.ctypes.data)
        self._native = int(self._code.ctypes.data), begin, begin + plan.block
        self._run = (self._quick() or self._slow) if COMPILED else self._eager
        self._thaw: Any = None
        if self._read_only:
            freeze(self._read_only)
            self._thaw = weakref.finalize(self, thaw, self._read_only)
            self._thaw.atexit = False

    def _written_arguments(self) -> frozenset[int]:
        first = self._first
        found = set()
        for r in first.run.memory.ranges:
            kind, base = self._plan.of.get(r.start, Place("", 0))
            if kind == "argument" and r.wrote:
                found.add(base)
        return frozenset(found)

    def _results(self) -> tuple[Any, list[Maker]]:
        """The nest of results, and for each leaf what makes it from the arguments and the new arrays."""
        makers: list[Maker] = []
        for sort, (name, leaf) in zip(self._sorts, leaves_of(self._first.result, "result"), strict=True):
            if sort == "array":
                makers.append(self._array_result(name, leaf))
            elif sort == "number":
                makers.append(self._number_result(*self._first.run.values[float(leaf)], type(leaf)))
            else:
                makers.append(_same(leaf))
        return self._first.result, makers

    def _array_result(self, name: str, leaf: Array) -> Maker:
        first = self._first
        if leaf.size == 0:
            return Maker(lambda arguments, new: leaf.copy())
        memory = first.run.memory
        if not has(memory, leaf.ctypes.data) or memory.at(leaf.ctypes.data)[0].start not in self._plan.of:
            for i, argument in enumerate(first.arguments):
                if argument is not None and np.may_share_memory(argument, leaf):
                    return view_of(i, leaf, argument)
            raise RecordError(
                f"record: found {name} to be an array that NumPy made, expected one that fastdl computed: compute it "
                "with fastdl, or after the program"
            )
        found, offset = memory.at(leaf.ctypes.data)
        kind, base = self._plan.of[found.start]
        shape, strides, dtype = leaf.shape, leaf.strides, leaf.dtype
        if kind == "persistent":
            return _same(leaf)
        if kind == "argument":
            return view_of(base, leaf, first.arguments[base])
        if kind != "result":
            raise RecordError(f"record: found {name} to be an array that something else than fastdl made")
        if offset == 0 and leaf.flags.c_contiguous and leaf.nbytes == found.end - found.start:
            at = (lambda new: (new[base].ctypes.data, dtype)) if leaf.size == 1 else None
            return Maker(lambda arguments, new: new[base].view(dtype).reshape(shape), base, np.empty_like(leaf), at)
        return Maker(lambda arguments, new: np.ndarray(shape, dtype, new[base].data, offset, strides))

    def _number_result(self, address: int, dtype: Any, type_: type) -> Maker:
        found, offset = self._first.run.memory.at(address)
        where, base = self._plan.of[found.start]
        if where == "persistent":
            memory = view(base + offset, dtype.itemsize, None)
            there = int(memory.ctypes.data)
            return Maker(lambda arguments, new: type_(memory.view(dtype)[0]), at=lambda new: (there, dtype))
        if where == "argument":
            return Maker(
                lambda arguments, new: type_(bytes_of(arguments[base])[offset:][: dtype.itemsize].view(dtype)[0])
            )
        whole = type_ is float and offset == 0 and found.end - found.start == dtype.itemsize
        return Maker(
            lambda arguments, new: type_(new[base][offset:][: dtype.itemsize].view(dtype)[0]),
            (base, dtype.num) if whole else None,
            np.empty((), dtype) if whole else None,
            lambda new: (new[base].ctypes.data + offset, dtype),
        )

    def __call__(self, *arguments: Any) -> Any:
        """What the function would return."""
        return self._run(*arguments)

    def run_epochs(
        self,
        *arrays: ArrayLike,
        epochs: int = 1,
        order: ArrayLike | None = None,
        rng: np.random.Generator | int | None = None,
        callback: Callable[[int, Any], Any] | None = None,
        every: int = 0,
    ) -> Any:
        """Go over data in mini-batches without Python in between: rows are gathered, and the program runs, in C.

        Parameters
        ----------
        *arrays : array of shape (n, ...)
            The data, one for each argument of the program: what has shape (batch, ...) there.
        epochs : int
            How often to go over all rows, each time in another order; what is left of n / batch is left out. Not
            with `order`.
        order : (steps, batch) array of int64, optional
            The rows of each batch, instead.
        rng : numpy.random.Generator, int or None
            What orders are drawn from: a generator, which moves on, or a seed.
        callback : callable, optional
            Called as ``callback(step, results)`` after every `every` steps, and after the last, with the number of
            steps made and the results of those since the last call. Where it returns True, that was the last.
        every : int
            Steps between calls of it; 0: an epoch.

        Returns
        -------
        array or tuple of arrays, or None
            For each result of the program that is one number, those of all steps, (steps,).

        Raises
        ------
        ValueError, TypeError
            For arrays that do not fit the program's arguments, or an order with other rows than they have.

        Notes
        -----
        Ctrl-C is answered between two steps; what was done until then stays done.

        Examples
        --------
        >>> import numpy as np, fastdl
        >>> from fastdl import nn, optim
        >>> net, loss = nn.Linear(2, 1, rng=0), nn.MSELoss()
        >>> optimizer = optim.SGD(net.parameters(), lr=0.1)
        >>> def step(x, target):
        ...     value = loss(net(x), target)
        ...     net.backward(loss.backward(), input_grad=False)
        ...     optimizer.step(net.grads)
        ...     return value
        >>> x = np.random.default_rng(0).standard_normal((64, 2), dtype=np.float32)
        >>> program = fastdl.record(step, x[:8], x[:8, :1])
        >>> losses = program.run_epochs(x, x[:, :1].copy(), epochs=20, rng=0)
        >>> losses.shape, bool(losses[-1] < 1e-3)
        ((160,), True)
        """
        if not self._flat or self._written:
            fail("program", "nested arguments, or some that it writes", "arrays that it reads, for run_epochs")
        if len(arrays) != len(self._expected):
            fail("arrays", f"{len(arrays)} arrays", f"{len(self._expected)}, one for each argument of the program")
        data = [self._data(array, i) for i, array in enumerate(arrays)]
        rows, batches = {len(array) for array in data}, {shape[0] for _, shape, _ in self._expected}
        if len(rows) != 1 or len(batches) != 1:
            fail("arrays", f"{sorted(rows)} rows for batches of {sorted(batches)}", "as many rows in each")
        n, batch = rows.pop(), batches.pop()
        orders = self._orders(n, batch, epochs, order, rng)
        natural(every, "every")
        buffers = [np.empty(shape, used_dtype(dtype)) for _, shape, dtype in self._expected]
        new: list[Array] = [np.empty(size, np.uint8) for size in self._plan.results]
        addresses = np.array([a.ctypes.data for a in (*buffers, *new)] or [0], np.int64)
        gathers = np.array(
            [[a.ctypes.data, a.nbytes // max(1, n), b.ctypes.data] for a, b in zip(data, buffers, strict=True)],
            np.int64,
        )
        found: list[list[Array]] = []
        done = 0
        for steps in orders:
            if COMPILED:
                made = self._batches(steps, addresses, gathers, new, every or len(steps), done, callback)
            else:
                made = self._eager_batches(steps, data, every or len(steps), done, callback)
            found.append(made[0])
            done += len(steps)
            if made[1]:
                break
        joined = [np.concatenate(parts) for parts in zip(*found, strict=True)]
        return None if not joined else joined[0] if len(joined) == 1 else tuple(joined)

    def _data(self, array: ArrayLike, i: int) -> Array:
        name, shape, dtype = self._expected[i]
        found = np.asarray(array)
        if found.dtype not in (dtype, used_dtype(dtype)):
            raise TypeError(f"arrays[{i}]: found dtype {found.dtype}, expected {dtype}, as {name} was recorded")
        if not shape or found.shape[1:] != shape[1:] or found.ndim != len(shape):
            fail(f"arrays[{i}]", f"shape {found.shape}", f"(n, {', '.join(map(str, shape[1:]))}), rows of {name}")
        return np.ascontiguousarray(found, used_dtype(dtype))

    @staticmethod
    def _orders(n: int, batch: int, epochs: int, order: Any, rng: Any) -> Iterator[Array]:
        """The rows of each step, an epoch at a time."""
        integer(epochs, "epochs", 0)
        if order is not None:
            rows = np.ascontiguousarray(order)
            if rows.dtype.kind not in "iu":
                raise TypeError(f"order: found dtype {rows.dtype}, expected int64")
            if rows.ndim != 2 or rows.shape[1] != batch:
                fail("order", f"shape {rows.shape}", f"(steps, {batch})")
            if rows.size and not 0 <= rows.min() <= rows.max() < n:
                fail("order", f"rows from {rows.min()} to {rows.max()}", f"rows of arrays that have {n}")
            return iter([rows.astype(np.int64, copy=False)])
        if n < batch:
            fail("arrays", f"{n} rows", f"at least {batch}, a batch")
        generator = np.random.default_rng(rng)
        return (generator.permutation(n)[: n // batch * batch].reshape(-1, batch) for _ in range(epochs))

    def _batches(
        self,
        order: Array,
        addresses: Array,
        gathers: Array,
        new: list[Array],
        every: int,
        before: int,
        callback: Callable[[int, Any], Any] | None,
    ) -> tuple[list[Array], bool]:
        """One epoch, in pieces short enough for Ctrl-C; and whether the callback ended it."""
        numbers = [(a, d) for a, d in (maker.at(new) for maker in self._returned if maker.at is not None)]
        results = [np.empty(len(order), dtype) for _, dtype in numbers]
        step, told, piece, many = 0, 0, 1, np.zeros(1, np.int64)
        while step < len(order):
            piece = min(piece, len(order) - step, told + every - step)
            collects = np.array(
                [[a, d.itemsize, r[step:].ctypes.data] for (a, d), r in zip(numbers, results, strict=True)]
                or [[0] * 3],
                np.int64,
            )
            begin = perf_counter()
            status = lib.fdl_program_batches(
                self._code_pointer,
                *(ffi.from_buffer("int64_t[]", a) for a in (addresses, order[step:])),
                *(piece, order.shape[1]),
                *(ffi.from_buffer("int64_t[]", gathers), len(gathers)),
                *(ffi.from_buffer("int64_t[]", collects), len(numbers)),
                ffi.from_buffer("int64_t[]", many),
            )
            if status:
                self._raise(status)
            step += piece
            piece = max(1, min(1 << 20, int(piece * _PIECE / max(perf_counter() - begin, 1e-7))))
            if step - told == every or step == len(order):
                part = [r[told:step] for r in results]
                told = step
                if callback is not None and callback(before + step, part[0] if len(part) == 1 else tuple(part)):
                    return [r[:step] for r in results], True
        return results, False

    def _eager(self, *arguments: Any) -> Any:
        """Without a compiler: the function again, whose arguments are checked all the same."""
        if get_recorder() is not None:
            return self.function(*arguments)
        if self._code[_kernels.PROGRAM_STALE]:
            self._raise(lib.FDL_STALE)
        leaves = self._bound(arguments)
        return self.function(*rebuilt(arguments, iter(leaves)))

    def _eager_batches(
        self, order: Array, data: list[Array], every: int, before: int, callback: Callable[[int, Any], Any] | None
    ) -> tuple[list[Array], bool]:
        """_batches in Python."""
        results: list[list[Any]] = []
        told = 0
        for step, rows in enumerate(order, 1):
            found = self._eager(*(array[rows] for array in data))
            values = found if isinstance(self._template, tuple) else (found,)
            results.append([v for v, maker in zip(values, self._returned, strict=True) if maker.at is not None])
            if step - told == every or step == len(order):
                part = [np.array(column) for column in zip(*results[told:step], strict=True)]
                told = step
                if callback is not None and callback(before + step, part[0] if len(part) == 1 else tuple(part)):
                    return [np.array(column) for column in zip(*results, strict=True)], True
        return [np.array(column) for column in zip(*results, strict=True)], False

    def _slow(self, *arguments: Any) -> Any:
        """The same, complete: the quick form, in call.c, leaves to it what is not as it should be."""
        recorder = get_recorder()
        if recorder is not None:  # part of another program
            if self.frozen or self._first.run.rounds:
                recorder.approximate()
            return self.function(*arguments)
        leaves = self._bound(arguments)
        new = [np.empty(size, np.uint8) for size in self._plan.results]
        addresses = np.array(
            [a.ctypes.data if isinstance(a, np.ndarray) else 0 for a in (*leaves, *new)] or [0], np.int64
        )
        status = lib.fdl_program_run(self._code_pointer, ffi.from_buffer("int64_t[]", addresses))
        if status:
            self._raise(status)
        given = [leaf for _, leaf in leaves_of(arguments, "")]
        made = iter([m.make(given if type(m.kind) is int and m.kind < 0 else leaves, new) for m in self._returned])
        return rebuilt(self._template, made)

    def _described(self) -> Any:
        """For Numba (fastdl/numba/programs.py): its arguments and results; None where they are nested."""
        if not self._flat or any(maker.kind is None for maker in self._returned):
            return None
        results: list[tuple[Any, ...]] = []
        for maker in self._returned:
            if maker.like is not None:
                kind = "new" if isinstance(maker.kind, int) else "number"
                results.append((kind, maker.like.dtype.str, maker.like.shape))
            elif isinstance(maker.kind, int):
                results.append(("argument", -1 - maker.kind))
            elif type(maker.kind) is tuple and maker.kind[0] is None:
                results.append(("none",))
            else:
                return None
        if self._new != list(range(len(self._plan.results))):
            return None
        arguments = tuple(
            (used_dtype(dtype).str, shape, i in self._written) for i, (_, shape, dtype) in enumerate(self._expected)
        )
        return arguments, tuple(results), not isinstance(self._template, tuple)

    def _quick(self) -> Any:
        """The call in C, for arguments and results that are arrays, a tuple of results at most."""
        if not self._flat:
            return None
        one = not isinstance(self._template, tuple)
        wanted = [np.empty(shape, used_dtype(dtype)) for _, shape, dtype in self._expected]
        for i, array in enumerate(wanted):
            array.flags.writeable = i in self._written
        new: list[Any] = [None] * len(self._plan.results)
        kinds = []
        for maker in self._returned:
            if maker.kind is None:
                return None
            kinds.append(maker.kind)
            if maker.like is not None:
                new[maker.kind if isinstance(maker.kind, int) else maker.kind[0]] = maker.like
        if any(like is None for like in new) or len({*self._new}) < len(self._new):
            return None
        release = sum(r.end - r.start for r in self._first.run.memory.ranges) > 1 << 16
        parts = self._code, tuple(wanted), tuple(new), tuple(kinds), one, self._block, release
        return program_runner((*parts, _weakly(self, "_slow"), _weakly(self, "_raise")))

    def _bound(self, arguments: tuple[Any, ...]) -> list[Any]:
        """The leaves of the arguments, checked, as a program uses them."""
        given = leaves_of(arguments, "argument")
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
            if array.dtype not in (expected, used_dtype(expected)):
                raise TypeError(
                    f"{name}: found dtype {array.dtype}, expected {expected}, with which the program was recorded"
                )
            contiguous = np.require(array, used_dtype(expected), "C")
            if i in self._written:
                if contiguous is not leaf or not array.flags.writeable:
                    fail(
                        name, "an array that is not C-contiguous and writable", "one that is: the program writes to it"
                    )
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
            if status in (lib.FDL_BUSY, lib.FDL_STALE):
                raise
            at = int(self._code[_kernels.PROGRAM_FAILED])
            raise type(error)(f"{error} (call {at} of the program, {self._kernels[at]})") from None

    def _replaced(self, array: Any) -> None:
        """Something that was recorded is replaced; an array, or all of an optimizer's."""
        if array is not None and not self.sealed:
            address = array.__array_interface__["data"][0]
            memory = self._first.run.memory
            if not has(memory, address) or not self._plan.is_persistent(memory.at(address)[0].start):
                return
        self._code[_kernels.PROGRAM_STALE] = 1

    @property
    def stale(self) -> bool:
        """Whether something that it uses was replaced since it was recorded."""
        return bool(self._code[_kernels.PROGRAM_STALE])

    @property
    def frozen(self) -> bool:
        """Whether it computes with what it made of parameters before."""
        return bool(self._code[_kernels.PROGRAM_PREPARED])

    def copy(self) -> Program:
        """The same program with memory of its own, for another thread: parameters and states are shared."""
        if self.sealed:
            self._refuse()
        other = object.__new__(Program)
        other.__dict__.update(self.__dict__)
        other._build()
        other._code[_kernels.PROGRAM_STALE] = self._code[_kernels.PROGRAM_STALE]
        depends(other, self._first.run.owners)
        return other

    def seal(self, release: Callable[[set[int]], None]) -> None:
        """Prepare what is prepared from parameters now, one after the other, and let go of those that nothing else
        reads: of a large model's weights there is one copy then. The program cannot be copied after that, nor be part
        of another, and goes stale with another instruction-set level.

        release is called before, with where those lie, for who else holds them.
        """
        run = self._first.run
        count, header = int(self._code[_kernels.PROGRAM_PREPARED]), _kernels.PROGRAM_HEADER
        if not count or not COMPILED or self.sealed:
            return
        self._thaw()
        self._read_only.clear()
        self.function = self._refuse
        run.held.clear()
        last: dict[int, Any] = {}
        """Of each call, the memory that it is the last to read."""
        for found in run.memory.ranges:
            if self._plan.is_persistent(found.start) and found.last < count:
                last.setdefault(found.last, []).append(found)
        release({found.start for group in last.values() for found in group})
        code, nothing = np.zeros(header + 2, np.int64), np.zeros(1, np.int64)
        code[_kernels.PROGRAM_CALLS] = 1
        freed = _TRIM
        gc.collect()  # what recording made
        for i in range(count):
            code[header:] = self._code[header + 2 * i : header + 2 * i + 2]
            status = lib.fdl_program_run(ffi.from_buffer("int64_t[]", code), ffi.from_buffer("int64_t[]", nothing))
            if status:
                self._raise(status)
            for found in last.get(i, ()):
                freed += found.end - found.start
                found.keep.clear()
            if freed >= _TRIM or i == count - 1:
                _trim()
                freed = 0
        first = header + 2 * int(self._code[_kernels.PROGRAM_CALLS])
        for words, kind in ((3, "BINDINGS"), (3, "LOADS"), (2, "ADVANCES")):
            first += words * int(self._code[getattr(_kernels, f"PROGRAM_{kind}")])
        self._code[_kernels.PROGRAM_CHANGED] = 0
        for at in range(first, first + 2 * int(self._code[_kernels.PROGRAM_WATCHES]), 2):
            self._code[at : at + 2] = self._nothing.ctypes.data, 0  # nothing is prepared again
        self.sealed = True

    @staticmethod
    def _refuse(*_: Any) -> Any:
        raise RuntimeError("Program: found one that is sealed, expected one that can be copied, or be part of another")

    @contextmanager
    def kept(self) -> Iterator[list[Array]]:
        """Inside this context what was there before recording may change: parameters, states, generators, which are
        handed out as bytes. They are put back at the end."""
        run = self._first.run
        memories = [
            view(r.start + low, high - low, None)
            for r in run.memory.ranges
            if self._plan.is_persistent(r.start)
            for low, high in r.wrote
        ] + [bytes_of(array) for array, _, _ in run.advances.values()]
        before = [memory.copy() for memory in memories]
        try:
            yield memories
        finally:
            for memory, old in zip(memories, before, strict=True):
                memory[:] = old
            for use in self._persistent(use for call in run.calls for use in call.uses if use.writes):
                moved_on(memory_start(run, use.address))

    def __reduce__(self) -> Any:
        raise TypeError("a Program cannot be pickled: it holds addresses; record it again, which takes milliseconds")

    def __len__(self) -> int:
        """How many kernels a call of it calls."""
        return sum(not call.prepared for call in self._first.run.calls)

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"<Program of {name}: {len(self)} kernels, {self.memory['planned']} bytes between them>"

    def __str__(self) -> str:
        return self.explain()

    def explain(self, time: bool = False) -> Explanation:
        """A table of the kernels: their shapes, operations and bytes, and where their results lie.

        Parameters
        ----------
        time : bool
            Whether to run each kernel alone, and say how long it takes, and how much of that this machine's limits
            account for. Parameters and states are put back after that.

        Returns
        -------
        Explanation
            A str, whose `rows` are the same as tuples: kernel, shapes of the first input and result, operations (a
            multiply-add is two; what is no product counts one an element), bytes of all its arrays, seconds.

        Examples
        --------
        >>> import numpy as np, fastdl
        >>> print(fastdl.record(fastdl.relu, np.ones((2, 3), np.float32)).explain())
        kernel       input  result  flops  bytes  result lies in
        --------------------------------------------------------
        elementwise  2 x 3  2 x 3       6     48  result 0
        --------------------------------------------------------
        1 kernels: 6 flops, 48 bytes
        between kernels: 0 bytes planned, 0 if each array had its own
        """
        return explain(self, time)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes of what lies between kernels: as planned, and what it would be if each array had memory of its own; and
        of what is prepared from parameters."""
        return {
            "planned": self._plan.block - self._plan.prepared,
            "unplanned": self._plan.unplanned,
            "prepared": self._plan.prepared,
        }
