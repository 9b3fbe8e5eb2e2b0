"""For Numba. Arrays: checked, made ready for a kernel, created; what may be written, and what may not overlap.

What is a type's business (dtype, number of dimensions, layout of `out`) is settled while compiling, as a TypingError;
what is a value's (shapes, strides, overlap) raises the same ValueError as in plain Python.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.core.errors import RequireLiteralValue, TypingError
from numba.extending import intrinsic, overload, register_jitable

from fastdl.functional import verbs
from fastdl.numba.verbs.types import are_ints, check_wanted, is_int, is_list, is_none, literal


def check_floats(x: Any, argument: Any, ndim: Any) -> None:
    name, ndim = literal(argument), literal(ndim)
    if not isinstance(ndim, int):  # Numba's second try, after an error: the first one's message is the one to read
        raise RequireLiteralValue(f"{name} and its dimensions have to be literals")
    if not isinstance(x, types.Array):
        raise TypingError(f"{name}: found {x}, expected an array")
    if x.dtype not in (types.float32, types.float64):
        raise TypingError(f"{name}: found dtype {x.dtype}, expected float32 or float64")
    if ndim >= 0 and x.ndim != ndim:
        raise TypingError(f"{name}: found {x.ndim} dimensions, expected {ndim}")


def check_floats_like(x: Any, argument: Any, like: Any, ndim: Any = -1) -> None:
    check_floats(x, argument, ndim)
    if x.dtype != like.dtype:
        raise TypingError(f"{literal(argument)}: found dtype {x.dtype}, expected {like.dtype}")


@overload(verbs.floats, prefer_literal=True)
def _floats(x, argument, ndim=-1):
    check_floats(x, argument, ndim)
    if x.layout == "C":
        return lambda x, argument, ndim=-1: x
    return lambda x, argument, ndim=-1: np.ascontiguousarray(x)


@overload(verbs.floats_like, prefer_literal=True)
def _floats_like(x, argument, like, ndim=-1):
    check_floats_like(x, argument, like, ndim)
    if x.layout == "C":
        return lambda x, argument, like, ndim=-1: x
    return lambda x, argument, like, ndim=-1: np.ascontiguousarray(x)


@overload(verbs.linear_weight, prefer_literal=True)
def _linear_weight(weight, x):
    if getattr(weight, "instance_class", None) is not verbs.PackedLinearWeight:

        def plain(weight, x):
            array = verbs.floats_like(weight, "weight", x)
            return array, array.shape, 0

        return plain
    if weight.types[0].dtype != x.dtype:
        raise TypingError(f"weight: found one packed for {weight.types[0].dtype}, expected one for {x.dtype}")
    return lambda weight, x: (weight.data, weight.shape, 1)


@overload(verbs.floats_as, prefer_literal=True)
def _floats_as(x, argument, like):
    name, ndim = literal(argument), like.ndim

    def implementation(x, argument, like):
        x = verbs.floats_like(x, name, like, ndim)
        if x.shape != like.shape:
            verbs.fail(name, x.shape, like.shape)
        return x

    return implementation


@overload(verbs.optional_vector, prefer_literal=True)
def _optional_vector(x, argument, like, size):
    if is_none(x):
        return lambda x, argument, like, size: None
    name = literal(argument)
    if is_list(x):
        return lambda x, argument, like, size: verbs.optional_vector(np.array(x, like.dtype), name, like, size)
    if getattr(x, "ndim", 1) == 0:

        def scalar(x, argument, like, size):
            if size != -1:
                verbs.fail(name, "shape ()", "1 dimensions")
            return verbs.floats_like(x, name, like, 0)

        return scalar

    def implementation(x, argument, like, size):
        x = verbs.floats_like(x, name, like, 1)
        if size == -1:
            verbs.fail(name, ("shape", x.shape), "0 dimensions")
        if x.size != size:
            verbs.fail(name, x.shape, (size,))
        return x

    return implementation


@overload(verbs.zeros)
def _zeros(shape, like):
    return lambda shape, like: np.zeros(shape, like.dtype)


@overload(verbs.loss_grad, prefer_literal=True)
def _loss_grad(grad_output, like, shape):
    if isinstance(grad_output, (types.Integer, types.Float)) and len(shape) == 0:

        def of_a_number(grad_output, like, shape):
            array = np.empty((), like.dtype)
            array[()] = grad_output
            return array

        return of_a_number

    def implementation(grad_output, like, shape):
        grad_output = verbs.floats_like(grad_output, "grad_output", like)
        if grad_output.shape != shape:
            verbs.fail("grad_output", grad_output.shape, shape)
        return grad_output

    return implementation


@overload(verbs.optional_like, prefer_literal=True)
def _optional_like(x, argument, like, shape):
    if is_none(x):
        return lambda x, argument, like, shape: None
    name, ndim = literal(argument), len(shape)

    def implementation(x, argument, like, shape):
        x = verbs.floats_like(x, name, like, ndim)
        if x.shape != shape:
            verbs.fail(name, x.shape, shape)
        return x

    return implementation


@overload(verbs.optional_broadcast, prefer_literal=True)
def _optional_broadcast(x, argument, like):
    if is_none(x):
        return lambda x, argument, like: None
    name, missing = literal(argument), like.ndim - x.ndim
    if missing < 0:
        raise TypingError(f"{name}: found {x.ndim} dimensions, expected at most {like.ndim}")

    def broadcast(x, argument, like):
        result = np.empty(like.shape, like.dtype)
        for i in range(x.ndim):
            if x.shape[i] != 1 and x.shape[i] != like.shape[missing + i]:
                verbs.fail(name, x.shape, ("one that broadcasts to", like.shape))
        result[...] = x
        return result

    if missing or x.layout != "C" or not x.mutable:
        check_floats_like(x, name, like)
        return broadcast
    broadcast = register_jitable(broadcast)

    def implementation(x, argument, like):
        x = verbs.floats_like(x, name, like)
        return x if x.shape == like.shape else broadcast(x, argument, like)

    return implementation


@overload(verbs.optional_stats, prefer_literal=True)
def _optional_stats(x, argument, shape):
    if is_none(x):
        return lambda x, argument, shape: None
    name, ndim = literal(argument), len(shape)
    check_floats(x, name, ndim)
    if x.dtype != types.float64:
        raise TypingError(f"{name}: found dtype {x.dtype}, expected float64, in which statistics are returned")

    def implementation(x, argument, shape):
        x = verbs.floats(x, name, ndim)
        if x.shape != shape:
            verbs.fail(name, x.shape, shape)
        return x

    return implementation


@overload(verbs.stats_output, prefer_literal=True)
def _stats_output(shape, wanted):
    if not check_wanted(wanted, "return_stats"):
        shape_of_none = (0,) * len(shape)
        return lambda shape, wanted: np.empty(shape_of_none, np.float64)
    return lambda shape, wanted: np.empty(shape, np.float64)


@overload(verbs.with_mean_and_rstd, prefer_literal=True)
def _with_mean_and_rstd(y, mean, rstd, wanted):
    if check_wanted(wanted, "return_stats"):
        return lambda y, mean, rstd, wanted: (y, mean, rstd)
    return lambda y, mean, rstd, wanted: y


@overload(verbs.with_rstd, prefer_literal=True)
def _with_rstd(y, rstd, wanted):
    if check_wanted(wanted, "return_stats"):
        return lambda y, rstd, wanted: (y, rstd)
    return lambda y, rstd, wanted: y


@overload(verbs.with_saved, prefer_literal=True)
def _with_saved(results, saved, wanted):
    if check_wanted(wanted, "return_saved"):
        return lambda results, saved, wanted: (*results, saved)
    return lambda results, saved, wanted: results


@overload(verbs.split_shape, prefer_literal=False)
def _split_shape(value, argument, shape):
    count = 1 if is_int(value) else len(value) if isinstance(value, types.BaseTuple) else 0
    if count == 0 or not (is_int(value) or are_ints(value, count)):
        raise TypingError(f"{literal(argument)}: found {value}, expected an int or a tuple of at least one")
    if count > len(shape):
        raise TypingError(f"{literal(argument)}: found {count} sizes, expected at most {len(shape)}, as x has")
    first = len(shape) - count
    as_tuple = register_jitable((lambda value: (value,)) if is_int(value) else (lambda value: value))

    def implementation(value, argument, shape):
        if as_tuple(value) != shape[first:]:
            verbs.fail(argument, value, shape)
        return shape[:first], shape[first:]

    return implementation


@overload(verbs.running_stat, prefer_literal=True)
def _running_stat(x, argument, like, size, updated):
    if is_none(x):
        return lambda x, argument, like, size, updated: None
    name = literal(argument)
    if literal(updated) is not False:
        check_writable(x, name, like)

    def implementation(x, argument, like, size, updated):
        return verbs.optional_vector(x, name, like, size)

    return implementation


def check_writable(out: Any, argument: str, like: Any) -> None:
    if not isinstance(out, types.Array) or out.layout != "C" or not out.mutable:
        raise TypingError(f"{argument}: found {out}, expected a writable C-contiguous array")
    if out.dtype != like.dtype:
        raise TypingError(f"{argument}: found dtype {out.dtype}, expected {like.dtype}")


@overload(verbs.output)
def _output(out, shape, like):
    if is_none(out):
        return lambda out, shape, like: np.empty(shape, like.dtype)
    check_writable(out, "out", like)

    def implementation(out, shape, like):
        if out.shape != shape:
            verbs.fail("out", out.shape, shape)
        return out

    return implementation


@overload(verbs.writable, prefer_literal=True)
def _writable(out, argument, shape, like):
    check_writable(out, literal(argument), like)

    def implementation(out, argument, shape, like):
        if out.shape != shape:
            verbs.fail(argument, out.shape, shape)
        return out

    return implementation


@overload(verbs.optional_writable, prefer_literal=True)
def _optional_writable(x, argument, shape, like):
    if is_none(x):
        return lambda x, argument, shape, like: None
    name = literal(argument)
    return lambda x, argument, shape, like: verbs.writable(x, name, shape, like)


@overload(verbs.in_place, prefer_literal=True)
def _in_place(x, argument):
    check_floats(x, argument, -1)
    check_writable(x, literal(argument), x)
    return lambda x, argument: x


@overload(verbs.state, prefer_literal=True)
def _state(x, argument, param, grad):
    name = literal(argument)

    def implementation(x, argument, param, grad):
        x = verbs.writable(x, name, param.shape, param)
        verbs.disjoint(param, name, x)
        verbs.disjoint(grad, name, x)
        return x

    return implementation


@overload(verbs.optional_state, prefer_literal=True)
def _optional_state(x, argument, param, grad):
    if is_none(x):
        return lambda x, argument, param, grad: None
    name = literal(argument)
    return lambda x, argument, param, grad: verbs.state(x, name, param, grad)


@overload(verbs.reduced_shape, prefer_literal=True)
def _reduced_shape(shape, reduction):
    value = literal(reduction)
    if not isinstance(value, str):
        raise RequireLiteralValue("reduction has to be a string literal inside Numba")
    if value == "none":
        return lambda shape, reduction: shape
    return lambda shape, reduction: ()


@overload(verbs.gradient)
def _gradient(x, wanted=True):
    def implementation(x, wanted=True):
        if wanted:
            return np.empty_like(x)
        return np.empty_like(x[:0])

    return implementation


@intrinsic
def address(typing_context, array):
    """array.ctypes.data, without the ctypes object, whose making takes longer than a small kernel."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.intp))

    return types.intp(array), lower


@register_jitable
def overlap(a, b):
    first, second = address(a), address(b)
    return first < second + b.size * b.itemsize and second < first + a.size * a.itemsize


@overload(verbs.disjoint, prefer_literal=True)
def _disjoint(written, argument, other):
    if is_none(other):
        return lambda written, argument, other: None
    # A constant: an exception that carries a run-time string costs its references on every call.
    message = f"{literal(argument)}: found an array that overlaps the result, expected one that does not"

    def implementation(written, argument, other):
        if overlap(written, other):
            raise ValueError(message)

    return implementation


@overload(verbs.same_or_disjoint, prefer_literal=True)
def _same_or_disjoint(written, argument, other):
    name = literal(argument)
    if not isinstance(name, str):  # a helper's argument: compiled once more, with its value
        raise RequireLiteralValue("the argument's name has to be a literal")

    def implementation(written, argument, other):
        if address(written) != address(other):
            verbs.disjoint(written, name, other)

    return implementation
