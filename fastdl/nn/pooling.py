"""Pooling."""

from __future__ import annotations

import re
from typing import Any

from fastdl._backend import functions
from fastdl.functional.verbs import Array
from fastdl.nn.module import Module

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


class _Pool(Module):
    """A layer over the function named like its class: MaxPool2d over fastdl.max_pool2d; torch.nn.MaxPool2d."""

    function: str

    def __init_subclass__(cls) -> None:
        cls.function = re.sub(r"(?<=[A-Za-z])(?=[A-Z][a-z])", "_", cls.__name__).lower()

    def __init__(self, **options: Any) -> None:
        self.options = options

    def forward(self, x: Any) -> Any:
        y = getattr(functions(), self.function)(x, **self.options)
        # Positions that were asked for spare the gradient the search for them.
        self.save_for_backward(x, {"indices": y[1]} if isinstance(y, tuple) else {})
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, found = self.saved
        options = {name: value for name, value in self.options.items() if name != "return_indices"}
        return getattr(functions(), f"{self.function}_backward")(grad_output, x, **options, **found)


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        options = {"padding": padding, "dilation": dilation, "return_indices": return_indices, "ceil_mode": ceil_mode}
        super().__init__(kernel_size=kernel_size, stride=stride, **options)


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        options = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad, "divisor_override": divisor_override}
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding, **options)


class _LPPool(_Pool):
    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__(norm_type=float(norm_type), kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode)


class _AdaptiveAvgPool(_Pool):
    def __init__(self, output_size: Any) -> None:
        super().__init__(output_size=output_size)


class _AdaptiveMaxPool(_Pool):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size=output_size, return_indices=return_indices)


class _MaxUnpool(_Pool):
    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding)

    def forward(self, x: Any, indices: Any, output_size: Any = None) -> Array:  # type: ignore[override]
        self.save_for_backward(indices)
        return getattr(functions(), self.function)(x, indices, **self.options, output_size=output_size)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return getattr(functions(), f"{self.function}_backward")(grad_output, *self.saved)


class MaxPool1d(_MaxPool):
    """torch.nn.MaxPool1d."""


class MaxPool2d(_MaxPool):
    """torch.nn.MaxPool2d."""


class MaxPool3d(_MaxPool):
    """torch.nn.MaxPool3d."""


class MaxUnpool1d(_MaxUnpool):
    """torch.nn.MaxUnpool1d."""


class MaxUnpool2d(_MaxUnpool):
    """torch.nn.MaxUnpool2d."""


class MaxUnpool3d(_MaxUnpool):
    """torch.nn.MaxUnpool3d."""


class AvgPool1d(_AvgPool):
    """torch.nn.AvgPool1d."""


class AvgPool2d(_AvgPool):
    """torch.nn.AvgPool2d."""


class AvgPool3d(_AvgPool):
    """torch.nn.AvgPool3d."""


class LPPool1d(_LPPool):
    """torch.nn.LPPool1d."""


class LPPool2d(_LPPool):
    """torch.nn.LPPool2d."""


class LPPool3d(_LPPool):
    """torch.nn.LPPool3d."""


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """torch.nn.AdaptiveAvgPool1d."""


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """torch.nn.AdaptiveAvgPool2d."""


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """torch.nn.AdaptiveAvgPool3d."""


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """torch.nn.AdaptiveMaxPool1d."""


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """torch.nn.AdaptiveMaxPool2d."""


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """torch.nn.AdaptiveMaxPool3d."""
