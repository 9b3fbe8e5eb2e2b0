"""A contender of one case, ready to be timed, and the check of what it returns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

import fastdl
from bench import machine, peers
from bench.peers.fastdl_ import packed_weight
from fastdl import reference
from tests.cases.case import flat

Call = Callable[[], Any]
OWN = ("fastdl", "numba", "numpy")
"""Those that take `saved`, and draw the masks of dropout as fastdl does."""


class Inaccurate(AssertionError):
    """A peer computes the operation, but with errors beyond those of rounding."""

    def __init__(self, what: str, error: float) -> None:
        super().__init__(what, error)  # both, so that it can be told to another process
        self.error = error

    def __str__(self) -> str:
        return str(self.args[0])


class Prepared(NamedTuple):
    call: Call
    check: Callable[[Any], None]
    """Given what a call returned, raises AssertionError if that is not the result. What works in place is only right
    once: from the second call on, that it has changed what it works on."""
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Makes what a turn is made inside of: a backend, a number of threads."""
    steps: int = 1
    """What one call does so many times."""


def contender(
    name: str,
    case: Any,
    dtype: Any,
    threads: int,
    expected: tuple[Any, ...],
    with_forward: bool = False,
    packed: bool = False,
    algorithm: str = "",
) -> Prepared | None:
    """What is ready to be timed, its result checked; None if the peer does not have the operation.

    "copy" is np.copyto of as many bytes as the operation has to read and write.
    """
    if name == "copy":
        return Prepared(machine.copy(threads, case.bytes(dtype) * (1.5 if with_forward else 1))[0], lambda result: None)
    arguments = case.make(dtype)
    if algorithm and name == "fastdl":
        arguments["algorithm"] = algorithm
    if packed and name == "fastdl":
        arguments["weight"] = packed_weight(case.operation, arguments)
    if name in OWN:
        arguments = case.complete(arguments, reference if name == "numpy" else fastdl)
    call = peers.prepare(name, case.operation, arguments, threads)
    if call is None:
        return None
    prepared = _checked(name, case, call, arguments, expected, dtype)
    if not with_forward:
        return prepared
    joined = peers.together(name, case.operation, arguments, threads)
    if joined is not None:
        return _checked(name, case, joined, arguments, expected, dtype)
    given = peers.split_backward(arguments, case.operation)
    forward = peers.prepare(name, case.operation.removesuffix("_backward"), given, threads)
    if forward is None:
        return None

    def both() -> Any:
        forward()
        return call()

    return Prepared(both, prepared.check)


def _checked(
    name: str, case: Any, call: Call, arguments: dict[str, Any], expected: tuple[Any, ...], dtype: Any
) -> Prepared:
    """The result of a first call, and what checks that of the last of each turn."""
    compare = check_masked if "dropout" in case.operation and name not in OWN else check  # (masks are the peer's own)
    worked_on = [arguments[update] for update in case.updates]
    in_place = len(worked_on) == len(case.shapes)
    wanted = expected if in_place else expected[: len(expected) - len(worked_on)]
    if case.parameters.get("return_stats") and name not in OWN and not case.grads:
        wanted = wanted[:1]  # the others keep what backward needs of it to themselves

    given = [array for array in flat(arguments.values()) if isinstance(array, np.ndarray)]

    def checked(returned: Any) -> None:
        found = peers.arrays_of(returned)
        compare(case, name, worked_on if in_place else found, wanted, dtype)
        if not in_place:
            spoil(found, [*given, *expected])

    checked(call())
    if not in_place:
        return Prepared(call, checked)
    seen = [np.copy(array) for array in worked_on]

    def changed(returned: Any) -> None:
        if all(np.array_equal(a, b, equal_nan=True) for a, b in zip(worked_on, seen, strict=True)):
            raise AssertionError(f"{case.id}: {name}: a turn changed nothing in {', '.join(case.updates)}")
        for kept, array in zip(seen, worked_on, strict=True):
            kept[...] = array

    return Prepared(call, changed)


def spoil(results: list[Any], kept: list[Any]) -> None:
    """Leave nothing of a result where the next one may be put: who then computes nothing has nothing to show.

    Not of what is kept, nor of what cannot be written to.
    """
    for array in results:
        if array.flags.writeable and not any(np.may_share_memory(array, other) for other in kept):
            array[...] = np.nan if array.dtype.kind == "f" else 0


def check(case: Any, name: str, found: list[Any], expected: tuple[Any, ...], dtype: Any) -> None:
    """That a contender computes all of the operation, to within 1000 roundings: accuracy is the tests' business."""
    wanted = [array for array in expected if np.size(array)]
    if len(found) < len(wanted):
        raise AssertionError(f"{case.id}: {name}: found {len(found)} results, expected {len(wanted)}")
    for i, (a, b) in enumerate(zip(found, wanted, strict=False)):
        problem = f"{case.id}: {name}: result {i}"
        if a.shape != b.shape:
            raise AssertionError(f"{problem}: found the shape {a.shape}, expected {b.shape}")
        error, scale = np.max(np.abs(a - b), initial=0), np.max(np.abs(b), initial=0)
        if error <= 1000 * np.finfo(dtype).eps * scale:
            continue
        problem = f"{problem} is off by {error:.2e}, where values reach {scale:.2e}"
        if error <= scale / 100 and name != "fastdl":
            raise Inaccurate(problem, float(error / scale))
        raise AssertionError(problem)


def check_masked(case: Any, name: str, found: list[Any], expected: tuple[Any, ...], dtype: Any) -> None:
    """Dropout with a mask of its own: as large, in the mean of squares, as with fastdl's, where there are enough."""
    if len(found) < len(expected):
        raise AssertionError(f"{case.id}: {name}: found {len(found)} results, expected {len(expected)}")
    for i, (a, b) in enumerate(zip(found, expected, strict=False)):
        if a.shape != b.shape:
            raise AssertionError(f"{case.id}: {name}: result {i}: found the shape {a.shape}, expected {b.shape}")
        size, wanted = float(np.mean(np.square(a, dtype=np.float64))), float(np.mean(np.square(b)))
        if not (0.5 * wanted <= size <= 2 * wanted or (a.size < 1000 and np.isfinite(size))):
            raise AssertionError(
                f"{case.id}: {name}: result {i}: found a mean square of {size:.3g}, expected about {wanted:.3g}"
            )
