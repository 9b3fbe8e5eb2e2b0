"""The form that a case is declared by, and what can be done with a case."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator

import fastdl
from fastdl import reference

Array = np.ndarray[Any, Any]
Arguments = dict[str, Any]
Shape = tuple[int, ...]
Draw = Callable[[Generator], Array]
Source = Any
"""What an argument is made from: a Shape, a Draw, None, or a tuple of those for an argument that is a tuple."""
# (float64 arguments, float64 results) -> for each result the error allowed, in units of rounding of the dtype
Tolerance = Callable[[Arguments, tuple[Array, ...]], "tuple[Any, ...]"]
signature_of = cache(inspect.signature)
STATISTICS = ("mean", "rstd")
"""Arguments, and results of return_stats, that are float64 whatever the dtype."""


class Expected(tuple[Array, ...]):
    """What the reference gives for some arguments; and how far from it one may be, by each tolerance once asked."""

    def __init__(self, _: Iterable[Array]) -> None:
        self._allowed: dict[Tolerance, tuple[Any, ...]] = {}

    def allowed(self, tolerance: Tolerance, arguments: Arguments) -> tuple[Any, ...]:
        if tolerance not in self._allowed:
            self._allowed[tolerance] = tolerance(to_float64(arguments), self)
        return self._allowed[tolerance]


@dataclass(frozen=True, kw_only=True)
class Case:
    operation: str
    id: str
    draw: Callable[[Generator], Arguments]
    parameters: Arguments
    shapes: tuple[Shape, ...]
    """Of what is returned (tuples in it laid out one after the other), or of the arrays that are updated."""
    updates: tuple[str, ...]
    """The arguments that the operation works on in place."""
    flops: float
    tolerance: Tolerance
    tags: frozenset[str]
    data: tuple[str, ...] = ()
    """The floating-point arguments that there is no gradient in."""
    backward: Case | None = None
    grads: tuple[str, ...] = ()
    """Of a backward: the arguments that are gradients, of forward's results in their order."""
    sources: dict[str, Source] = field(default_factory=dict)
    """What the arrays that the forward is given are made from."""

    def differentiable(self, arguments: Arguments) -> list[tuple[str, int | None]]:
        """The arguments that the backward returns gradients in, or None in place of such a one: the name and, of
        an argument that is a tuple, the place in it."""
        found: list[tuple[str, int | None]] = []
        for name, value in arguments.items():
            if name in (*self.data, *self.parameters):
                continue
            if isinstance(value, tuple):
                found += [(name, i) for i in range(len(value))]
            elif value is None or getattr(value, "dtype", np.dtype(int)).kind == "f":
                found.append((name, None))
        return found

    def shape(self, name: str) -> Shape:
        """Of an array that the forward is given, which is not drawn for that where its source says it."""
        source = self.sources[name]
        return source if _is_shape(source) else np.shape(_draw(source, np.random.default_rng(0)))

    def make(self, dtype: Any, rng: Generator | None = None) -> Arguments:
        """The arguments by name. The same generator state gives a case and its backward the same inputs."""
        with np.errstate(all="ignore"):
            arrays = self.draw(rng or np.random.default_rng(0))
        kept = STATISTICS if "rstd" in arrays else ()  # a mean alone is none of them
        cast = {name: array if name in kept else _cast(array, dtype) for name, array in arrays.items()}
        return cast | self.parameters

    def complete(self, arguments: Arguments, module: Any = fastdl) -> Arguments:
        """With what a backward takes as `saved`, whose layout is the module's own: as its forward returns it."""
        if "saved" in arguments or "saved" not in signature_of(getattr(fastdl, self.operation)).parameters:
            return arguments
        forward = self.operation.removesuffix("_backward")
        *_, saved = getattr(module, forward)(**given_to(forward, arguments), return_saved=True)
        return arguments | {"saved": saved}

    def bytes(self, dtype: Any) -> int:
        """Least memory traffic: every array in once, every result out once."""
        read = sum(a.nbytes for a in flat(self.make(dtype).values()))
        return read + sum(int(np.prod(shape)) for shape in self.shapes) * np.dtype(dtype).itemsize

    def run(self, arguments: Arguments, module: Any = fastdl) -> tuple[Array, ...]:
        """Call the operation of fastdl or fastdl.reference; its results. In-place arguments are not touched."""
        arguments = self.complete(arguments, module) | {name: copy(arguments[name]) for name in self.updates}
        return results(self, getattr(module, self.operation)(**arguments), arguments)

    def expected(self, arguments: Arguments) -> Expected:
        """What the reference gives in float64."""
        with np.errstate(all="ignore"):
            return Expected(self.run(to_float64(arguments), reference))

    def check(self, actual: tuple[Array, ...], arguments: Arguments, expected: tuple[Array, ...] | None = None) -> None:
        """Assert shapes, dtypes, the places of NaN and infinities, and every error within the tolerance."""
        if expected is None:
            expected = self.expected(arguments)
        elif not isinstance(expected, Expected):
            expected = Expected(expected)
        dtype = next(a.dtype for a in flat(arguments.values()) if a.dtype.kind == "f")
        info = np.finfo(dtype)
        with np.errstate(all="ignore"):
            allowed = expected.allowed(self.tolerance, arguments)
            assert tuple(a.shape for a in actual) == self.shapes
            statistics = range(1, len(actual) - len(self.updates)) if self.parameters.get("return_stats") else ()
            for place, (got, want, units) in enumerate(zip(actual, expected, allowed, strict=True)):
                wide = want.dtype.kind != "f" or place in statistics
                assert got.dtype == (want.dtype if wide else dtype)
                if want.dtype.kind == "f":  # what the dtype cannot hold is infinite in it
                    want = np.where(np.abs(want) > info.max, np.copysign(np.inf, want), want)
                # Below the smallest normal number there is no relative precision to ask for.
                bound = units * info.eps / 2 + (info.tiny if np.any(units) else 0)
                same = (got == want) | (np.isnan(got) & np.isnan(want))
                error = np.where(same, 0, np.abs(got.astype(np.float64) - want))
                wrong = ~(same | (error <= bound))
                if wrong.any():
                    bound = np.broadcast_to(bound, wrong.shape)
                    excess = np.where(wrong, np.nan_to_num(error / bound, nan=np.inf), 0)
                    i = np.unravel_index(excess.argmax(), wrong.shape)
                    raise AssertionError(
                        f"{self.id}: {wrong.sum()} of {wrong.size} elements wrong, the worst at {i}: "
                        f"found {got[i]!r}, expected {want[i]!r} within {bound[i]:.3g}"
                    )


@dataclass(frozen=True, kw_only=True)
class Backward:
    """What declares <operation>_backward beside its forward."""

    flops: float
    tolerance: Tolerance
    shapes: tuple[Shape, ...]
    grads: tuple[str, ...] = ("grad_output",)
    """The arguments that are gradients, of forward's results in their order."""
    inputs: dict[str, Source] = field(default_factory=dict)
    """What forward was not given."""
    updates: tuple[str, ...] = ()
    parameters: Arguments = field(default_factory=dict)


def declare(
    operation: str,
    inputs: dict[str, Source],
    output: Shape | tuple[Shape, ...],
    *,
    flops: float,
    tolerance: Tolerance,
    backward: Backward | None = None,
    updates: tuple[str, ...] = (),
    data: tuple[str, ...] = (),
    tags: tuple[str, ...] = (),
    note: str = "",
    **parameters: Any,
) -> Case:
    """The form: a case and, with `backward`, the case of the operation's gradient.

    inputs: by argument name a shape (filled with normal numbers), a function that draws the array, None, or a tuple
    of those. Floating-point arrays are converted to the dtype in question. parameters: the keyword arguments. The
    arguments of the backward follow from its signature: a random grad_output, `y` for what forward returned, and else
    what forward was given. What `return_saved` adds is not compared: see Case.complete.
    """

    def draw(rng: Generator) -> Arguments:
        return {name: _draw(source, rng) for name, source in inputs.items()}

    sizes = "_".join("x".join(map(str, shape)) or "scalar" for shape in inputs.values() if _is_shape(shape))
    words = [f"{k}={'x'.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in parameters.items()]
    label = "-".join(filter(None, [note, sizes, *words]))
    several = bool(updates) or bool(output and isinstance(output[0], tuple))
    shapes: tuple[Shape, ...] = output if several else (output,)  # type: ignore[assignment]
    gradient = None
    if backward is not None:
        signature = signature_of(getattr(fastdl, f"{operation}_backward")).parameters

        def draw_backward(rng: Generator) -> Arguments:
            given = draw(rng)
            for name, shape in zip(backward.grads, shapes, strict=False):
                given[name] = rng.standard_normal(shape)
            given |= {name: _draw(source, rng) for name, source in backward.inputs.items()}
            if "y" in signature:
                given["y"] = np.asarray(getattr(reference, operation)(**given_to(operation, given), **parameters))
            if parameters.get("return_stats"):  # what forward saved: (mean and) rstd, after y
                saved = copied_call(operation, given, parameters)[1:]
                given |= dict(zip(STATISTICS[-len(saved) :], saved, strict=True))
            return {name: given[name] for name in signature if name in given}

        gradient = Case(
            operation=f"{operation}_backward",
            id=f"{operation}_backward-{label}",
            draw=draw_backward,
            parameters={name: value for name, value in parameters.items() if name in signature} | backward.parameters,
            shapes=backward.shapes,
            updates=backward.updates,
            flops=backward.flops,
            tolerance=backward.tolerance,
            tags=frozenset(tags),
            grads=backward.grads,
            sources=inputs,
        )
    return Case(
        operation=operation,
        id=f"{operation}-{label}",
        draw=draw,
        parameters=parameters,
        shapes=shapes,
        updates=updates,
        flops=flops,
        tolerance=tolerance,
        tags=frozenset(tags),
        data=data,
        backward=gradient,
        sources=inputs,
    )


def results(case: Case, returned: Any, arguments: Arguments) -> tuple[Array, ...]:
    """The arrays that a call produced: returned, alone or in a tuple, and updated in place; `saved` is private."""
    updated = tuple(arguments[name] for name in case.updates)
    if returned is None:
        return updated
    if case.parameters.get("return_saved"):
        returned = returned[:-1]
    return (*(flat(returned) if isinstance(returned, tuple) else (np.asarray(returned),)), *updated)


# Tolerances


def exact(arguments: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Values are chosen or copied, never computed: no error at all."""
    return (0.0,) * len(expected)


def summed(case_operation: str, *terms: float, linear_in: tuple[str, ...] | None = None) -> Tolerance:
    """For sums of that many products (one count a result), in whatever order: 4 sqrt(terms) roundings of sum |term|.

    Rounding errors of a sum grow as sqrt(terms) with high probability (Higham and Mary, SIAM J. Sci. Comput. 41(5),
    2019); 4 covers that probability. Still tight: one wrong term among n weighs 1/n. sum |term| is the operation
    itself on the absolute values of its arrays (of `linear_in` where it is not linear in all).
    """

    def tolerance(arguments: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        names = [n for n in linear_in or arguments if isinstance(arguments[n], np.ndarray)]
        positive = arguments | {n: np.abs(arguments[n]) for n in names}
        fused = arguments.get("activation", "none") not in ("none", "relu")
        if fused:
            positive |= {"activation": "none", "activation_args": ()}
        magnitudes = getattr(reference, case_operation)(**positive)
        magnitudes = magnitudes if isinstance(magnitudes, tuple) else (magnitudes,)
        bounds = [4 * np.sqrt(n + 2) * np.asarray(m) for n, m in zip(terms, magnitudes, strict=True)]
        if fused:  # its slope is at most 2; and its own roundings
            bounds = [2 * bound + 12 * np.abs(y) for bound, y in zip(bounds, expected, strict=True)]
        return tuple(bounds)

    return tolerance


# Helpers


def mapped(function: Callable[[Array], Any], value: Any) -> Any:
    """An argument with `function` of each array in it, which it may be itself or hold in a tuple."""
    if type(value) is tuple:
        return tuple(mapped(function, item) for item in value)
    return function(value) if isinstance(value, np.ndarray) else value


def flat(values: Iterable[Any]) -> list[Array]:
    """All arrays among those values and in tuples among them."""
    arrays: list[Array] = []
    for value in values:
        if isinstance(value, tuple):
            arrays += flat(value)
        elif isinstance(value, (np.ndarray, np.generic)):
            arrays.append(np.asarray(value))
    return arrays


def copy(x: Any) -> Any:
    return mapped(np.copy, x)


def to_float64(arguments: Arguments) -> Arguments:
    return {name: _cast(value, np.float64) for name, value in arguments.items()}


def given_to(operation: str, arguments: Arguments) -> Arguments:
    """Those arguments that the operation takes."""
    names = signature_of(getattr(fastdl, operation)).parameters
    return {name: value for name, value in arguments.items() if name in names}


def copied_call(operation: str, given: Arguments, parameters: Arguments) -> Any:
    """What the reference makes of copies of what is given."""
    copies = {name: copy(value) for name, value in given_to(operation, given).items()}
    return getattr(reference, operation)(**copies, **parameters)


def _cast(value: Any, dtype: Any) -> Any:
    return mapped(lambda a: a.astype(dtype) if a.dtype.kind == "f" else a, value)


def _is_shape(source: Source) -> bool:
    return isinstance(source, tuple) and all(isinstance(n, int) for n in source)


def _draw(source: Source, rng: Generator) -> Any:
    if _is_shape(source):
        return rng.standard_normal(source)
    if isinstance(source, tuple):
        return tuple(_draw(item, rng) for item in source)
    return None if source is None else source(rng)
