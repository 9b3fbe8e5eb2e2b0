"""A program in parts, between which something else may go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl._native import ffi, lib
from fastdl.functional.verbs import Array
from fastdl.program.program import Program


class Parts:
    """Runs a program, whose arguments and results are arrays, from one cut to the next.

    cuts: how many of its calls are made before each, ascending; the last part is what is left. The parts share the
    words of the program, in which the first one puts the arguments.
    """

    def __init__(self, program: Program, cuts: Sequence[int]) -> None:
        self.program = program
        code = program._code
        begin = _kernels.PROGRAM_HEADER
        count = int(code[_kernels.PROGRAM_CALLS])
        # What follows the calls, as program.c reads it: the first part takes arguments, the last one moves on.
        sizes = {
            _kernels.PROGRAM_BINDINGS: 3,
            _kernels.PROGRAM_LOADS: 3,
            _kernels.PROGRAM_ADVANCES: 2,
            _kernels.PROGRAM_WATCHES: 2,
            _kernels.PROGRAM_VERSIONS: 1,
        }
        ends = [0, *cuts, count]
        self._codes: list[Array] = []
        for i, (low, high) in enumerate(pairwise(ends)):
            header, at = code[:begin].copy(), begin + 2 * count
            header[_kernels.PROGRAM_CALLS] = high - low
            words = [header, code[begin + 2 * low : begin + 2 * high]]
            for field, size in sizes.items():
                length = size * int(code[field])
                first = field in (_kernels.PROGRAM_BINDINGS, _kernels.PROGRAM_LOADS)
                if i == (0 if first else len(ends) - 2):
                    words.append(code[at : at + length])
                else:
                    header[field] = 0
                at += length
            self._codes.append(np.concatenate(words))
        self._pointers = [ffi.from_buffer("int64_t[]", code) for code in self._codes]
        self._new: list[Array] = [np.empty(size, np.uint8) for size in program._plan.results]

    def __call__(self, arguments: tuple[Any, ...], between: Callable[[int], Any]) -> list[Any]:
        """The results, which are valid until the next call; between: called after each part, with its number."""
        program = self.program
        leaves = program._bound(arguments)
        addresses = np.array([a.ctypes.data for a in (*leaves, *self._new)] or [0], np.int64)
        given = ffi.from_buffer("int64_t[]", addresses)
        for i, code in enumerate(self._pointers):
            status = lib.fdl_program_run(code, given)
            if status:
                program._raise(status)
            between(i)
        return [maker.make(leaves, self._new) for maker in program._returned]


def last_write(program: Program, array: Array) -> int:
    """How many calls of a program it takes until it has written to this array for the last time; 0: never."""
    begin, end = array.ctypes.data, array.ctypes.data + array.nbytes
    calls = program._first.run.calls
    for i in range(len(calls), 0, -1):
        if any(use.writes and begin <= use.address < end for use in calls[i - 1].uses):
            return i
    return 0
