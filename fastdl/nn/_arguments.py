"""What constructors check. Each function returns the value as the layer keeps it, or raises an error that names the
argument, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastdl.functional.verbs import DATA_FORMATS, FINITE, Array, choice, fail, integer, is_int, number, view


def size_of(value: Any, argument: str, least: int = 0) -> int:
    return integer(value, argument, least)


def real(value: Any, argument: str, least: float = -FINITE, most: float = FINITE) -> float:
    """A number as `number` takes it, kept as it was given, so that it is printed so."""
    number(value, argument, least, most)
    return value  # type: ignore[no-any-return]


def one_of(value: Any, argument: str, names: tuple[str, ...]) -> str:
    choice(value, argument, names)
    return value  # type: ignore[no-any-return]


def extents(value: Any, argument: str, rank: int, least: int) -> int | tuple[int, ...]:
    """An int or `rank` ints, kept as they were given."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(values) not in (1, rank) or not all(map(is_int, values)):
        raise TypeError(f"{argument}: found {value!r}, expected an int or {counted(rank)}")
    if min(values) < least:
        fail(argument, value, ("at least", least))
    values = tuple(map(int, values))
    return values if isinstance(value, (tuple, list)) else values[0]


def each(value: Any, argument: str, rank: int, least: int) -> tuple[int, ...]:
    """The same as a tuple of `rank` ints."""
    value = extents(value, argument, rank, least)
    return (value,) * rank if isinstance(value, int) else value * rank if len(value) < rank else value


def padding_of(value: Any, rank: int, words: bool) -> Any:
    """Padding as convolution and pooling take it: an int, `rank` ints or `rank` pairs (before, after), kept as they
    were given; where `words`, a str, which only the geometry can tell right from wrong."""
    if isinstance(value, str) and words:
        return value
    if isinstance(value, (tuple, list)) and any(isinstance(side, (tuple, list)) for side in value):
        sides = tuple(tuple(side) if isinstance(side, (tuple, list)) else () for side in value)
        if len(sides) != rank or not all(len(side) == 2 and all(map(is_int, side)) for side in sides):
            raise TypeError(f"padding: found {value!r}, expected {counted(rank, 'pair')} (before, after)")
        if min(map(min, sides)) < 0:
            fail("padding", value, "at least 0")
        return sides
    return extents(value, "padding", rank, 0)


def counted(count: int, thing: str = "int") -> str:
    return f"{count} {thing}" + "s" * (count > 1)


def normalized_size_of(value: Any) -> tuple[int, ...]:
    """A normalized_shape, as a tuple."""
    shape = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not shape:
        fail("normalized_shape", value, "at least one size")
    return tuple(size_of(n, "normalized_shape") for n in shape)


def data_format_of(value: Any, rank: int) -> str:
    """The name of a layout; None is the one with the channels first."""
    names = DATA_FORMATS[rank - 1]
    return names[0] if value is None else one_of(value, "data_format", names)


def float_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype: found {dtype!r}, expected float32 or float64") from None
    if dtype is None or found not in (np.float32, np.float64) or not found.isnative:
        raise TypeError(f"dtype: found {found if dtype is not None else None}, expected float32 or float64")
    return found


def blame_input(
    x: Any, dtype: np.dtype[Any] | None, size: int, dim: int, what: str = "features", data_format: str = ""
) -> None:
    """After a function has refused its arguments: raise what says more, if it is x that does not fit the layer.

    dtype: the layer's, if it has arrays. size: how many of `what` x has to have in dimension `dim`, which counts from
    the last, so that a batch makes no difference. data_format: of layers that have one.
    """
    found = view(x, "x")
    if dtype is not None and found.dtype.kind in "fiub" and found.dtype != dtype:
        raise TypeError(f"x: found dtype {found.dtype}, expected {dtype}, this layer's") from None
    if found.ndim < -dim or found.shape[dim] == size:
        return
    expected = str(size)
    if data_format:
        expected += f" (data_format={data_format!r})"
        first, last = DATA_FORMATS[len(data_format) - 3]
        other, fitting = (-1, last) if data_format == first else (1 - len(data_format), first)
        if found.shape[other] == size:
            expected += f"; dimension {found.ndim + other} has {size}, as data_format={fitting!r} expects"
    at = f"in dimension {found.ndim + dim} of shape {found.shape}"
    raise ValueError(f"x: found {found.shape[dim]} {what} {at}, expected {expected}") from None


def in_place(function: Callable[..., Array], x: Any, *arguments: Any) -> Array:
    """The function's result written over x; a mistake in x is x's, not that of `out`."""
    try:
        return function(x, *arguments, out=x)
    except (TypeError, ValueError) as error:
        if str(error).startswith("out:"):
            raise type(error)(f"x: with inplace=True{str(error)[4:]}") from None
        raise


def dtype_of(*arrays: Array | None) -> np.dtype[Any] | None:
    return next((array.dtype for array in arrays if array is not None), None)


def example(lines: str) -> Mapping[str, str]:
    """The section Examples of a docstring, for fastdl._docs.doc."""
    return {"example": f"Examples\n--------\n>>> import numpy as np\n>>> from fastdl import nn\n{lines.strip()}"}
