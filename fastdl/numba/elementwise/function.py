"""A scalar function as one of arrays: its expression (trace.py) compiled by Numba, and run by the kernel `apply`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import inf, nan
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import carray  # type: ignore[attr-defined]
from numba.core import types
from numba.extending import intrinsic

from fastdl import _kernels
from fastdl.functional.activation.applied import MOST_PARAMETERS, apply, apply_backward
from fastdl.functional.verbs import Array, ArrayLike, fail, floats, number
from fastdl.numba import math as vectors
from fastdl.numba.elementwise.trace import FUNCTIONS, Graph, derivative, source, trace
from fastdl.numba.kernels.vmath import like

__all__ = ["Elementwise"]

_DTYPES = {np.dtype(np.float32): types.float32, np.dtype(np.float64): types.float64}
_BLOCK = 512
"""Elements that are computed at once, and once more where one of them was out of range."""
_FORM = """
def {name}(xs, grads, ys, parameters):
    far = within(xs)
    for i in range(xs.size):
        x = xs[i]
        {lines}
        ys[i] = {result}
    return far
"""
_APART = """
def whole(x_data, grad_data, y_data, parameter_data, size):
    xs, grads, ys = carray(x_data, size), carray(grad_data, size), carray(y_data, size)
    parameters = carray(parameter_data, most)
    apart = address_of(x_data) != address_of(y_data) and address_of(grad_data) != address_of(y_data)
    for begin in range(0, size, block):
        end = min(begin + block, size)
        part = xs[begin:end], grads[begin:end], ys[begin:end], parameters
        if not apart or near(*part) < 0:
            anywhere(*part)
"""
_WHOLE = """
def whole(x_data, grad_data, y_data, parameter_data, size):
    xs, grads, ys = carray(x_data, size), carray(grad_data, size), carray(y_data, size)
    anywhere(xs, grads, ys, carray(parameter_data, most))
"""
_KNOWN: dict[str, Any] = {name: getattr(vectors, name) for name in (*FUNCTIONS, "power", "select")}
_KNOWN |= {"like": like, "carray": carray, "inf": inf, "nan": nan}
_KNOWN |= {"near_sin": vectors.near_sin, "near_cos": vectors.near_cos}
_OUT = inspect.Parameter("out", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)


class Elementwise:
    """A scalar function for arrays, with its gradient: what fastdl.elementwise makes."""

    def __init__(self, function: Callable[..., Any], slope: Callable[..., Any] | None = None) -> None:
        if not callable(function):
            raise TypeError(f"function: found {type(function).__name__}, expected a function of a number")
        self.function, self.slope = function, slope
        first, *self._parameters = _parameters_of(function, "function")
        self.name, self._first = getattr(function, "__name__", type(function).__name__), first.name
        count = len(self._parameters)
        if slope is not None and len(_parameters_of(slope, "derivative")) != 1 + count:
            fail("derivative", f"a function of {len(_parameters_of(slope, 'derivative'))} numbers", 1 + count)
        graph, result = trace(function, count, vectors)
        of_slope = (graph, derivative(graph, result)) if slope is None else trace(slope, count, vectors)
        self._expressions = (graph, result), of_slope
        self._addresses: tuple[dict[Any, int], dict[Any, int]] = {}, {}
        """By dtype."""
        self._compiled: list[Any] = []
        """Alive as long as their addresses are in use."""
        self._defaults: Any = None
        if all(parameter.default is not parameter.empty for parameter in self._parameters):
            self._defaults = self._values(tuple(parameter.default for parameter in self._parameters), {})
        self.__doc__, self.__name__, self.__wrapped__ = function.__doc__, self.name, function
        self.__signature__ = inspect.Signature([first, *self._parameters, _OUT])
        self.types: dict[int, Any] = {}
        """In compiled code: its own, and that of its gradient."""

    def address(self, backward: int, dtype: Any) -> int:
        """Of the compiled function, or of its gradient."""
        found = self._addresses[backward].get(dtype)
        if found is None:
            graph, result = self._expressions[backward]
            compiled = _compile(graph, result, bool(backward), _DTYPES[dtype])
            self._compiled.append(compiled)
            found = self._addresses[backward][dtype] = int(compiled.address)
        return found

    def _values(self, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """The parameters after x, as the kernel takes them."""
        values = [0.0] * MOST_PARAMETERS
        names = [parameter.name for parameter in self._parameters]
        if len(given) > len(names) or not named.keys() <= set(names[len(given) :]):
            raise TypeError(f"{self.name}: found arguments {[*given, *named]}, expected at most {names}")
        for i, parameter in enumerate(self._parameters):
            value = given[i] if i < len(given) else named.get(parameter.name, parameter.default)
            if value is inspect.Parameter.empty:
                raise TypeError(f"{self.name}: found no {parameter.name}, expected a number")
            values[i] = number(value, parameter.name)
        return values

    def __call__(self, x: ArrayLike, *parameters: float, out: Array | None = None, **named: float) -> Array:
        """The function of each element."""
        x = floats(x, self._first)
        address = self._addresses[0].get(x.dtype) or self.address(0, x.dtype)
        if out is None and not parameters and not named and self._defaults:  # most calls: no more than they need
            result = np.empty(x.shape, x.dtype)
            _kernels.apply(x, None, result, x.size, address, *self._defaults)
            return result
        values = self._values(parameters, named)
        return apply(x, self._first, address, *values, out)  # type: ignore[call-arg]

    def backward(
        self, grad_output: ArrayLike, x: ArrayLike, *parameters: float, out: Array | None = None, **named: float
    ) -> Array:
        """The gradient in x: grad_output times the derivative at each element."""
        x = floats(x, self._first)
        address, values = self.address(1, x.dtype), self._values(parameters, named)
        return apply_backward(grad_output, x, self._first, address, *values, out)  # type: ignore[call-arg]

    def __reduce__(self) -> Any:
        return _again, (self.function, self.slope)

    def __repr__(self) -> str:
        return f"fastdl.elementwise({self.name})"


def _again(function: Any, slope: Any) -> Elementwise:
    """What was pickled: of a decorated function, which pickles by name, that name is this already."""
    return function if isinstance(function, Elementwise) else Elementwise(function, slope)


def _parameters_of(function: Any, argument: str) -> list[inspect.Parameter]:
    found = list(inspect.signature(function).parameters.values())
    plain = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in found)
    if not found or not plain or len(found) > 1 + MOST_PARAMETERS or any(p.name == "out" for p in found):
        expected = f"(x, ...): a number, and at most {MOST_PARAMETERS} parameters, none of them called out"
        fail(argument, str(inspect.signature(function)), expected)
    return found


def _bits_of(real: Any) -> tuple[ir.IntType, int]:
    """The integers as wide as numbers, and NEAR among them."""
    kind = np.uint32 if real == types.float32 else np.uint64
    near = np.array(vectors.NEAR, np.float32 if real == types.float32 else np.float64)
    return ir.IntType(8 * kind().itemsize), int(near.view(kind))


@intrinsic
def _within(typing, xs):
    """What `beyond` begins with."""
    kind = types.int32 if xs.dtype == types.float32 else types.int64
    return kind(xs), lambda context, builder, signature, arguments: context.get_constant(kind, 0)


@intrinsic
def _beyond(typing, far, x):
    """A negative number if `far` is one or |x| >= NEAR, or NaN."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer, near = _bits_of(x)
        half = 1 << (integer.width - 1)
        size = builder.and_(builder.bitcast(arguments[1], integer), integer(half - 1))
        return builder.or_(arguments[0], builder.add(size, integer(half - near)))

    return far(far, x), lower


@intrinsic
def _address_of(typing, pointer):
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(arguments[0], ir.IntType(64))

    return types.int64(pointer), lower


def _compile(graph: Graph, result: int, backward: bool, real: Any) -> Any:
    """What the kernel calls: the expression, of each element. Sines and cosines are taken in a way that is good for
    small numbers, and once more in one that is good for all where that does not do."""
    lines, (name,), turned = source(graph, [result])
    if backward:
        name = f"grads[i] * {name}"
    options: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}}
    known = _KNOWN | {"most": MOST_PARAMETERS, "block": _BLOCK, "address_of": _address_of}
    known |= {"within": _within, "beyond": _beyond}

    def function(form: str, of: str, lines: list[str]) -> Any:
        exec(form.format(name=of, lines="\n        ".join(lines), result=name), known)  # what `source` wrote
        return known[of]

    known["anywhere"] = numba.njit(**options)(function(_FORM, "anywhere", lines))
    if turned:
        near = [line.replace(" = sin(", " = near_sin(").replace(" = cos(", " = near_cos(") for line in lines]
        near += [f"far = beyond(far, {argument})" for argument in turned]
        known["near"] = numba.njit(**options)(function(_FORM, "near", near))
    exec(_APART if turned else _WHOLE, known)
    pointer = types.CPointer(real)
    kind = types.void(pointer, pointer, pointer, types.CPointer(types.float64), types.int64)
    return numba.cfunc(kind, **options)(known["whole"])
