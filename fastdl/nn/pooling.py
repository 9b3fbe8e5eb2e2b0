"""Pooling."""

from __future__ import annotations

from math import inf
from typing import Any

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl.functional.verbs import Array, fail, flag, integer, pads, triple
from fastdl.nn._arguments import counted, data_format_of, each, example, extents, padding_of, real, size_of
from fastdl.nn._layer import Layer

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]

_SHAPES = ("(batch, channels, length)", "(batch, channels, height, width)", "(batch, channels, depth, height, width)")

_SHARED = {
    "dilation": "dilation : int or tuple of int\n    The distance of the window's elements.",
    "count": """
count_include_pad : bool
    Whether padding counts as elements that are 0.
divisor_override : int, optional
    What sums are divided by, in place of the number of elements.""",
    "norm_type": "norm_type : float\n    The power; not 0. Infinity takes the largest magnitude.",
    "window": """
kernel_size : int or tuple of int
    The sizes of the window.
stride : int or tuple of int, optional
    The steps that it makes; kernel_size where None.""",
    "padding": """
padding : int, tuple of int or tuple of pairs
    Elements added on both sides, at most half of the kernel; pairs are (before, after).""",
    "ceil_mode": """
ceil_mode : bool
    Whether there is a last window that starts inside and ends outside.""",
    "return_indices": """
return_indices : bool
    Whether layer(x) returns (y, indices), with the position of each maximum in its channel, int64, for MaxUnpool.""",
    "data_format": """
data_format : str, optional
    The order of the dimensions of input and result: channels first, which is the default, or last.""",
    "unpool": """
kernel_size : int or tuple of int
    The sizes of the window of the pooling.
stride : int or tuple of int, optional
    The steps that it made; kernel_size where None.
padding : int or tuple of int
    The elements that it added on both sides.""",
    "output_size": """
output_size : int, None or tuple of them
    The sizes of the result; None is the size of the input.""",
}


class _Windows(Layer):
    """Pooling with a window of one size. Attributes are what was given, as in torch."""

    as_tuples = False
    """Whether torch keeps them as tuples."""
    stride: int | tuple[int, ...] | None
    data_format: str = ""

    def _describe(self, kernel_size: Any, stride: Any, padding: Any = 0, dilation: Any = 1) -> None:
        check = each if self.as_tuples else extents
        self.kernel_size = check(kernel_size, "kernel_size", self.rank, 1)
        self.stride = self.kernel_size if stride is None else check(stride, "stride", self.rank, 1)
        self.dilation = check(dilation, "dilation", self.rank, 1)
        images = (1,) * (self.rank + 2)  # of whatever size
        kernel, steps, spread = (
            triple(value, "kernel_size", 1, 1, images) for value in (self.kernel_size, self.stride, self.dilation)
        )
        around = pads(padding, "padding", images, kernel, steps, spread)
        if any(2 * max(before, after) > k for before, after, k in zip(around[:3], around[3:], kernel, strict=True)):
            fail("padding", padding, ("at most half of kernel_size", kernel_size))
        padding = padding_of(padding, self.rank, words=True)
        self.padding = (padding,) * self.rank if self.as_tuples and isinstance(padding, int) else padding

    def _listed(self, *names: str) -> str:
        parts = [f"{name}={getattr(self, name)}" for name in names]
        return ", ".join(parts + [f"data_format={self.data_format}"] * self.data_format.endswith("C"))


def _with_positions(layer: _MaxPool | _AdaptiveMaxPool, x: Any, *arguments: Any, **options: Any) -> Any:
    """The forward of a layer of maxima: in training positions are kept, so that its gradient need not search."""
    keep = layer.return_indices or layer.training
    result = getattr(functions(), layer.function)(x, *arguments, return_indices=keep, **options)
    layer.save_for_backward(x, result[1] if keep else None)
    return result[0] if keep and not layer.return_indices else result


class _MaxPool(_Windows):
    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] | tuple[tuple[int, int], ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        data_format: str | None = None,
    ) -> None:
        self._describe(kernel_size, stride, padding, dilation)
        self.return_indices, self.ceil_mode = flag(return_indices, "return_indices"), flag(ceil_mode, "ceil_mode")
        self.data_format = data_format_of(data_format, self.rank)

    def forward(self, x: Any) -> Array | tuple[Array, Array]:
        window = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        return _with_positions(self, x, *window, data_format=self.data_format)  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, indices = self.saved
        window = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        backward = getattr(functions(), self.function_backward)
        return backward(grad_output, x, *window, self.data_format, indices)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return self._listed("kernel_size", "stride", "padding", "dilation", "ceil_mode")


class _AvgPool(_Windows):
    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] | tuple[tuple[int, int], ...] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        data_format: str | None = None,
    ) -> None:
        self._describe(kernel_size, stride, padding)
        self.ceil_mode = flag(ceil_mode, "ceil_mode")
        self.count_include_pad = flag(count_include_pad, "count_include_pad")
        if divisor_override is not None and integer(divisor_override, "divisor_override") == 0:
            fail("divisor_override", 0, "another number, or None")
        self.divisor_override = divisor_override
        self.data_format = data_format_of(data_format, self.rank)

    def _options(self) -> tuple[Any, ...]:
        window = self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        return (*window, self.divisor_override, 1, self.data_format)

    def forward(self, x: Any) -> Array:
        y = getattr(functions(), self.function)(x, *self._options())
        self.save_for_backward(x)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        backward = getattr(functions(), self.function_backward)
        return backward(grad_output, *self.saved, *self._options())  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return self._listed("kernel_size", "stride", "padding")


class _LPPool(_Windows):
    def __init__(
        self,
        norm_type: float,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        ceil_mode: bool = False,
    ) -> None:
        self.norm_type = real(norm_type, "norm_type", -inf, inf)
        if norm_type == 0:
            fail("norm_type", norm_type, "a number other than 0")
        self._describe(kernel_size, stride)
        self.stride = self.stride if stride is not None else None  # as torch prints it
        self.ceil_mode = flag(ceil_mode, "ceil_mode")

    def forward(self, x: Any) -> Array:
        options = float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode
        y = getattr(functions(), self.function)(x, *options)
        self.save_for_backward(x)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        options = float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode
        return getattr(functions(), self.function_backward)(grad_output, *self.saved, *options)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return self._listed("norm_type", "kernel_size", "stride", "ceil_mode")


class _AdaptivePool(Layer):
    def _describe(self, output_size: Any) -> None:
        sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,)
        if len(sizes) not in (1, self.rank):
            raise TypeError(f"output_size: found {output_size!r}, expected an int, None or {counted(self.rank)}")
        found = tuple(n if n is None else size_of(n, "output_size") for n in sizes)
        self.output_size = found if isinstance(output_size, (tuple, list)) else found[0]

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveAvgPool(_AdaptivePool):
    def __init__(self, output_size: int | tuple[int | None, ...] | None) -> None:
        self._describe(output_size)

    def forward(self, x: Any) -> Array:
        y = getattr(functions(), self.function)(x, self.output_size)
        self.save_for_backward(x)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        backward = getattr(functions(), self.function_backward)
        return backward(grad_output, *self.saved, self.output_size)  # type: ignore[no-any-return]


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(self, output_size: int | tuple[int | None, ...] | None, return_indices: bool = False) -> None:
        self._describe(output_size)
        self.return_indices = flag(return_indices, "return_indices")

    def forward(self, x: Any) -> Array | tuple[Array, Array]:
        return _with_positions(self, x, self.output_size)  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, indices = self.saved
        backward = getattr(functions(), self.function_backward)
        return backward(grad_output, x, self.output_size, indices)  # type: ignore[no-any-return]


class _MaxUnpool(_Windows):
    as_tuples = True

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] = 0,
    ) -> None:
        self._describe(kernel_size, stride, each(padding, "padding", self.rank, 0))

    def forward(self, x: Any, indices: Any, output_size: int | tuple[int, ...] | None = None) -> Array:
        """indices: what the pooling returned. output_size: the sizes of its input, where several have this result."""
        options = self.kernel_size, self.stride, self.padding, output_size
        y = getattr(functions(), self.function)(x, indices, *options)
        self.save_for_backward(indices)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return getattr(functions(), self.function_backward)(grad_output, *self.saved)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return self._listed("kernel_size", "stride", "padding")


_MAX = "window", "padding", "dilation", "return_indices", "ceil_mode", "data_format"
_AVG = "window", "padding", "ceil_mode", "count", "data_format"
_ADAPTIVE_MAX = "output_size", "return_indices"


def _rest(rank: int, function: str, call: str, result: str, *parameters: str) -> dict[str, str]:
    """What the docstrings of that many dimensions have after the first sentence. The example is of 1, 2, 3, 4 in the
    last dimension."""
    ones = ", ".join(["1"] * (rank + 1))
    listed = "\n".join(f"{{{name}}}" for name in parameters)
    return {
        **_SHARED,
        **example(f">>> x = np.array([1.0, 2.0, 3.0, 4.0]).reshape({ones}, 4)\n>>> nn.{call}.ravel()\n{result}"),
        "rest": f"""
The input is {_SHAPES[rank - 1]}, or has no batch, and so is the result.

Parameters
----------
{listed}

See Also
--------
fastdl.{function} : The formula, and the sizes of the result. torch.nn has the same layer.

{{example}}""",
    }


@doc(
    _rest(
        1,
        "max_pool1d",
        "MaxPool1d(2)(x)",
        "array([2., 4.])",
        "window",
        "padding",
        "dilation",
        "return_indices",
        "ceil_mode",
        "data_format",
    )
)
class MaxPool1d(_MaxPool, rank=1, function="max_pool1d"):
    """The largest value in each window of sequences; padding counts as -infinity.

    {rest}
    """


@doc(
    _rest(
        2,
        "max_pool2d",
        "MaxPool2d((1, 2))(x)",
        "array([2., 4.])",
        "window",
        "padding",
        "dilation",
        "return_indices",
        "ceil_mode",
        "data_format",
    )
)
class MaxPool2d(_MaxPool, rank=2, function="max_pool2d"):
    """The largest value in each window of images; padding counts as -infinity.

    {rest}
    """


@doc(
    _rest(
        3,
        "max_pool3d",
        "MaxPool3d((1, 1, 2))(x)",
        "array([2., 4.])",
        "window",
        "padding",
        "dilation",
        "return_indices",
        "ceil_mode",
        "data_format",
    )
)
class MaxPool3d(_MaxPool, rank=3, function="max_pool3d"):
    """The largest value in each window of volumes; padding counts as -infinity.

    {rest}
    """


@doc(
    _rest(
        1,
        "avg_pool1d",
        "AvgPool1d(2)(x)",
        "array([1.5, 3.5])",
        "window",
        "padding",
        "ceil_mode",
        "count",
        "data_format",
    )
)
class AvgPool1d(_AvgPool, rank=1, function="avg_pool1d", as_tuples=True):
    """The average of each window of sequences.

    {rest}
    """


@doc(
    _rest(
        2,
        "avg_pool2d",
        "AvgPool2d((1, 2))(x)",
        "array([1.5, 3.5])",
        "window",
        "padding",
        "ceil_mode",
        "count",
        "data_format",
    )
)
class AvgPool2d(_AvgPool, rank=2, function="avg_pool2d"):
    """The average of each window of images.

    {rest}
    """


@doc(
    _rest(
        3,
        "avg_pool3d",
        "AvgPool3d((1, 1, 2))(x)",
        "array([1.5, 3.5])",
        "window",
        "padding",
        "ceil_mode",
        "count",
        "data_format",
    )
)
class AvgPool3d(_AvgPool, rank=3, function="avg_pool3d"):
    """The average of each window of volumes.

    {rest}
    """


@doc(_rest(1, "lp_pool1d", "LPPool1d(1, 2)(x)", "array([3., 7.])", "norm_type", "window", "ceil_mode"))
class LPPool1d(_LPPool, rank=1, function="lp_pool1d"):
    """The norm of each window of sequences: ``sum(x**norm_type)**(1 / norm_type)``.

    {rest}
    """


@doc(_rest(2, "lp_pool2d", "LPPool2d(1, (1, 2))(x)", "array([3., 7.])", "norm_type", "window", "ceil_mode"))
class LPPool2d(_LPPool, rank=2, function="lp_pool2d"):
    """The norm of each window of images: ``sum(x**norm_type)**(1 / norm_type)``.

    {rest}
    """


@doc(_rest(3, "lp_pool3d", "LPPool3d(1, (1, 1, 2))(x)", "array([3., 7.])", "norm_type", "window", "ceil_mode"))
class LPPool3d(_LPPool, rank=3, function="lp_pool3d"):
    """The norm of each window of volumes: ``sum(x**norm_type)**(1 / norm_type)``.

    {rest}
    """


@doc(_rest(1, "adaptive_avg_pool1d", "AdaptiveAvgPool1d(2)(x)", "array([1.5, 3.5])", "output_size"))
class AdaptiveAvgPool1d(_AdaptiveAvgPool, rank=1, function="adaptive_avg_pool1d"):
    """The averages of as many windows of sequences as the result is to have elements.

    {rest}
    """


@doc(_rest(2, "adaptive_avg_pool2d", "AdaptiveAvgPool2d((None, 2))(x)", "array([1.5, 3.5])", "output_size"))
class AdaptiveAvgPool2d(_AdaptiveAvgPool, rank=2, function="adaptive_avg_pool2d"):
    """The averages of as many windows of images as the result is to have elements.

    {rest}
    """


@doc(_rest(3, "adaptive_avg_pool3d", "AdaptiveAvgPool3d((None, None, 2))(x)", "array([1.5, 3.5])", "output_size"))
class AdaptiveAvgPool3d(_AdaptiveAvgPool, rank=3, function="adaptive_avg_pool3d"):
    """The averages of as many windows of volumes as the result is to have elements.

    {rest}
    """


@doc(_rest(1, "adaptive_max_pool1d", "AdaptiveMaxPool1d(2)(x)", "array([2., 4.])", *_ADAPTIVE_MAX))
class AdaptiveMaxPool1d(_AdaptiveMaxPool, rank=1, function="adaptive_max_pool1d"):
    """The largest values of as many windows of sequences as the result is to have elements.

    {rest}
    """


@doc(
    _rest(
        2, "adaptive_max_pool2d", "AdaptiveMaxPool2d((None, 2))(x)", "array([2., 4.])", "output_size", "return_indices"
    )
)
class AdaptiveMaxPool2d(_AdaptiveMaxPool, rank=2, function="adaptive_max_pool2d"):
    """The largest values of as many windows of images as the result is to have elements.

    {rest}
    """


@doc(
    _rest(
        3,
        "adaptive_max_pool3d",
        "AdaptiveMaxPool3d((None, None, 2))(x)",
        "array([2., 4.])",
        "output_size",
        "return_indices",
    )
)
class AdaptiveMaxPool3d(_AdaptiveMaxPool, rank=3, function="adaptive_max_pool3d"):
    """The largest values of as many windows of volumes as the result is to have elements.

    {rest}
    """


@doc(
    _rest(
        1,
        "max_unpool1d",
        "MaxUnpool1d(2)(*nn.MaxPool1d(2, return_indices=True)(x))",
        "array([0., 2., 0., 4.])",
        "unpool",
    )
)
class MaxUnpool1d(_MaxUnpool, rank=1, function="max_unpool1d"):
    """Puts what MaxPool1d returned back to where it came from, and 0 elsewhere: ``layer(y, indices)``, or
    ``layer(y, indices, output_size)`` where the inputs of several sizes have that result.

    {rest}
    """


@doc(
    _rest(
        2,
        "max_unpool2d",
        "MaxUnpool2d((1, 2))(*nn.MaxPool2d((1, 2), return_indices=True)(x))",
        "array([0., 2., 0., 4.])",
        "unpool",
    )
)
class MaxUnpool2d(_MaxUnpool, rank=2, function="max_unpool2d"):
    """Puts what MaxPool2d returned back to where it came from, and 0 elsewhere: ``layer(y, indices)``, or
    ``layer(y, indices, output_size)`` where the inputs of several sizes have that result.

    {rest}
    """


@doc(
    _rest(
        3,
        "max_unpool3d",
        "MaxUnpool3d((1, 1, 2))(*nn.MaxPool3d((1, 1, 2), return_indices=True)(x))",
        "array([0., 2., 0., 4.])",
        "unpool",
    )
)
class MaxUnpool3d(_MaxUnpool, rank=3, function="max_unpool3d"):
    """Puts what MaxPool3d returned back to where it came from, and 0 elsewhere: ``layer(y, indices)``, or
    ``layer(y, indices, output_size)`` where the inputs of several sizes have that result.

    {rest}
    """
