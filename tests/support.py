"""What several test files need: cases as parameters, and arrays in guarded memory."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdl
from tests.cases import Case, Expected, all_cases
from tests.cases.case import copy, mapped

DTYPES = [pytest.param(np.float32, id="f32"), pytest.param(np.float64, id="f64")]
HOME = Path(fastdl.__file__).parents[1]
"""Where a new `python -c` imports this same fastdl: in the checkout it would find the sources."""
WITH_TESTS = os.environ | {"PYTHONPATH": os.pathsep.join([str(HOME), str(Path(__file__).parents[1])])}
"""The environment in which one that is started there imports these tests, too."""
_GUARD = 67  # elements on either side: more than the longest vector, and odd, so that nothing is aligned


def parameters(cases: Iterable[Case]) -> list[Any]:
    """The cases as pytest parameters; large ones are slow tests, and batch 8 adds nothing to batch 1 but time."""
    return [
        pytest.param(case, id=case.id, marks=[pytest.mark.slow] if "large" in case.tags else [])
        for case in cases
        if "batch8" not in case.tags
    ]


def everyday(**which: Any) -> list[Case]:
    return [case for case in all_cases(**which) if "large" not in case.tags]


_MADE: dict[tuple[str, Any], tuple[dict[str, Any], Expected]] = {}


def made(case: Case, dtype: Any) -> tuple[dict[str, Any], Expected]:
    """The arguments and the expected results; kept for the variants to come, unless they are large."""
    key = case.id, dtype
    if key not in _MADE:
        arguments = case.make(dtype)
        if "large" in case.tags:
            return arguments, case.expected(arguments)
        _MADE[key] = arguments, case.expected(arguments)
    arguments, expected = _MADE[key]
    return {name: copy(value) for name, value in arguments.items()}, expected


def on_each_level(test: Callable[..., None]) -> Callable[..., None]:
    """A test with a parameter `level`, tried on each level of this machine: one test, for there are many."""

    @functools.wraps(test)
    def wrapper(**arguments: Any) -> None:
        before = fastdl.active_isa()
        try:
            for level in fastdl.supported_isas():
                fastdl.use_isa(level)
                try:
                    test(level=level, **arguments)
                except Exception as error:
                    raise AssertionError(f"at level {level}: {error}") from error
        finally:
            fastdl.use_isa(before)

    signature = inspect.signature(test)
    kept = [parameter for name, parameter in signature.parameters.items() if name != "level"]
    wrapper.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return wrapper


class Guarded:
    """A poisoned array, misaligned by one element, between guard zones."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        kind = np.dtype(dtype).kind
        poison = np.nan if kind == "f" else True if kind == "b" else np.iinfo(dtype).min
        size = int(np.prod(shape))
        self._memory = np.full(size + 2 * _GUARD + 1, poison, dtype)
        offset = _GUARD
        while self._memory[offset:].ctypes.data % (2 * self._memory.itemsize) == 0:
            offset += 1
        self.array = self._memory[offset : offset + size].reshape(shape)
        self._zones = self._memory[:offset], self._memory[offset + size :]
        self._before = [zone.tobytes() for zone in self._zones]

    @classmethod
    def holding(cls, x: np.ndarray) -> Guarded:
        guarded = cls(x.shape, x.dtype)
        guarded.array[...] = x
        return guarded

    @classmethod
    def within(cls, value: Any, guards: list[Guarded]) -> Any:
        """An argument with its arrays, which it may hold in a tuple, in memory of that kind; appended to `guards`."""

        def guarded(x: np.ndarray) -> np.ndarray:
            guards.append(cls.holding(x))
            return guards[-1].array

        return mapped(guarded, value)

    def check(self) -> None:
        assert [zone.tobytes() for zone in self._zones] == self._before, "written outside the array"


def assert_close(found: Any, expected: Any, dtype: Any) -> None:
    """Relative to the largest value, after a few layers of sums of at most some hundred terms: 200 roundings."""
    scale = max(float(np.abs(expected).max()), np.finfo(dtype).tiny)
    tolerance = 200 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(found) / scale, np.asarray(expected) / scale, rtol=0, atol=tolerance)
