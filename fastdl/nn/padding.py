"""Borders."""

from __future__ import annotations

from math import inf
from typing import Any

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl.functional.verbs import Array, borders, fail
from fastdl.nn._arguments import counted, example, real
from fastdl.nn._layer import Layer

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class _Pad(Layer):
    mode: str = "constant"
    value: float = 0.0

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        sides = padding if isinstance(padding, (tuple, list)) else (padding,) * (2 * self.rank)
        borders(sides, "padding", (1,) * self.rank)
        if len(sides) != 2 * self.rank:
            fail("padding", padding, f"an int or {counted(2 * self.rank)}")
        self.padding: tuple[int, ...] = tuple(map(int, sides))

    def forward(self, x: Any) -> Array:
        y = functions().pad(x, self.padding, self.mode, self.value)
        self.save_for_backward()
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return functions().pad_backward(grad_output, *self.saved, self.padding, self.mode)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return str(self.padding)


class _ConstantPad(_Pad):
    def __init__(self, padding: int | tuple[int, ...], value: float) -> None:
        super().__init__(padding)
        self.value = real(value, "value", -inf, inf)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


_VALUE = "value : float\n    Of the border."


def _rest(rank: int, call: str, result: str, value: str = "") -> dict[str, str]:
    """What the docstrings of that many dimensions have after the first sentence."""
    sides = ("left, right", "left, right, top, bottom", "left, right, top, bottom, front, back")[rank - 1]
    shape = ("(batch, channels, length)", "(batch, channels, height, width)", "(batch, channels, depth, height, width)")
    ones = ", ".join(["1"] * (rank + 1))
    return {
        **example(f">>> x = np.array([1.0, 2.0, 3.0]).reshape({ones}, 3)\n>>> nn.{call}(x).ravel()\n{result}"),
        "rest": f"""
Input and result are {shape[rank - 1]}, or have no batch.

Parameters
----------
padding : int or ({sides})
    Elements added on each side, or one number for all. Numbers below 0 crop.
{value}

See Also
--------
fastdl.pad : The function.
Conv{rank}d : Has a padding_mode of its own.

{{example}}""",
    }


@doc(_rest(1, "ZeroPad1d(1)", "array([0., 1., 2., 3., 0.])"))
class ZeroPad1d(_Pad, rank=1):
    """Sequences with a border of zeros.

    {rest}
    """


@doc(_rest(2, "ZeroPad2d((1, 1, 0, 0))", "array([0., 1., 2., 3., 0.])"))
class ZeroPad2d(_Pad, rank=2):
    """Images with a border of zeros.

    {rest}
    """


@doc(_rest(3, "ZeroPad3d((1, 1, 0, 0, 0, 0))", "array([0., 1., 2., 3., 0.])"))
class ZeroPad3d(_Pad, rank=3):
    """Volumes with a border of zeros.

    {rest}
    """


@doc(_rest(1, "ConstantPad1d(1, 9)", "array([9., 1., 2., 3., 9.])", _VALUE))
class ConstantPad1d(_ConstantPad, rank=1):
    """Sequences with a border of one value.

    {rest}
    """


@doc(_rest(2, "ConstantPad2d((1, 1, 0, 0), 9)", "array([9., 1., 2., 3., 9.])", _VALUE))
class ConstantPad2d(_ConstantPad, rank=2):
    """Images with a border of one value.

    {rest}
    """


@doc(_rest(3, "ConstantPad3d((1, 1, 0, 0, 0, 0), 9)", "array([9., 1., 2., 3., 9.])", _VALUE))
class ConstantPad3d(_ConstantPad, rank=3):
    """Volumes with a border of one value.

    {rest}
    """


@doc(_rest(1, "ReflectionPad1d(1)", "array([2., 1., 2., 3., 2.])"))
class ReflectionPad1d(_Pad, rank=1, mode="reflect"):
    """Sequences with a border that mirrors them at their edge, which is not repeated.

    {rest}
    """


@doc(_rest(2, "ReflectionPad2d((1, 1, 0, 0))", "array([2., 1., 2., 3., 2.])"))
class ReflectionPad2d(_Pad, rank=2, mode="reflect"):
    """Images with a border that mirrors them at their edge, which is not repeated.

    {rest}
    """


@doc(_rest(3, "ReflectionPad3d((1, 1, 0, 0, 0, 0))", "array([2., 1., 2., 3., 2.])"))
class ReflectionPad3d(_Pad, rank=3, mode="reflect"):
    """Volumes with a border that mirrors them at their edge, which is not repeated.

    {rest}
    """


@doc(_rest(1, "ReplicationPad1d(1)", "array([1., 1., 2., 3., 3.])"))
class ReplicationPad1d(_Pad, rank=1, mode="replicate"):
    """Sequences with a border that repeats their edge.

    {rest}
    """


@doc(_rest(2, "ReplicationPad2d((1, 1, 0, 0))", "array([1., 1., 2., 3., 3.])"))
class ReplicationPad2d(_Pad, rank=2, mode="replicate"):
    """Images with a border that repeats their edge.

    {rest}
    """


@doc(_rest(3, "ReplicationPad3d((1, 1, 0, 0, 0, 0))", "array([1., 1., 2., 3., 3.])"))
class ReplicationPad3d(_Pad, rank=3, mode="replicate"):
    """Volumes with a border that repeats their edge.

    {rest}
    """


@doc(_rest(1, "CircularPad1d(1)", "array([3., 1., 2., 3., 1.])"))
class CircularPad1d(_Pad, rank=1, mode="circular"):
    """Sequences with a border that goes on at their other end.

    {rest}
    """


@doc(_rest(2, "CircularPad2d((1, 1, 0, 0))", "array([3., 1., 2., 3., 1.])"))
class CircularPad2d(_Pad, rank=2, mode="circular"):
    """Images with a border that goes on at their other end.

    {rest}
    """


@doc(_rest(3, "CircularPad3d((1, 1, 0, 0, 0, 0))", "array([3., 1., 2., 3., 1.])"))
class CircularPad3d(_Pad, rank=3, mode="circular"):
    """Volumes with a border that goes on at their other end.

    {rest}
    """
