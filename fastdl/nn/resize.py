"""Images of other sizes."""

from __future__ import annotations

from typing import Any

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl.functional.resize import MODES
from fastdl.functional.verbs import Array, fail
from fastdl.nn._arguments import example, one_of, size_of
from fastdl.nn._layer import Layer

__all__ = ["PixelShuffle", "PixelUnshuffle", "Upsample"]


@doc(example(">>> nn.Upsample(scale_factor=2)(np.ones((1, 3, 4, 4))).shape\n(1, 3, 8, 8)"))
class Upsample(Layer, function="interpolate"):
    """Images in another size, which may be a smaller one. torch.nn.Upsample.

    Parameters
    ----------
    size : int or tuple of int, optional
        The spatial sizes of the result.
    scale_factor : float or tuple of float, optional
        Instead: what sizes are multiplied by.
    mode : {"nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area"}
        How.
    align_corners : bool, optional
        Whether the outermost elements of both stand in the same places; of the linear and cubic modes.
    recompute_scale_factor : bool, optional
        Whether places follow from the sizes, also where a scale_factor was given.

    See Also
    --------
    fastdl.interpolate, torch.nn.Upsample

    {example}
    """

    def __init__(
        self,
        size: int | tuple[int, ...] | None = None,
        scale_factor: float | tuple[float, ...] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        if (size is None) == (scale_factor is None):
            fail("size", f"{size} with scale_factor {scale_factor}", "one of the two")
        self.size, self.scale_factor, self.mode = size, scale_factor, one_of(mode, "mode", MODES)
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def _options(self) -> tuple[Any, ...]:
        return self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor

    def forward(self, x: Any) -> Array:
        y = functions().interpolate(x, *self._options())
        self.save_for_backward(x)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        return functions().interpolate_backward(grad_output, *self.saved, *self._options())  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        said = f"size={self.size}" if self.size is not None else f"scale_factor={self.scale_factor}"
        return f"{said}, mode={self.mode!r}"


class _Shuffle(Layer):
    name: str
    """Of the option."""

    def _describe(self, factor: int) -> None:
        setattr(self, self.name, size_of(factor, self.name, 1))

    def forward(self, x: Any) -> Array:
        y = getattr(functions(), self.function)(x, getattr(self, self.name))
        self.save_for_backward()
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        _ = self.saved
        backward = getattr(functions(), self.function_backward)
        return backward(grad_output, getattr(self, self.name))  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"{self.name}={getattr(self, self.name)}"


@doc(example(">>> nn.PixelShuffle(2)(np.ones((1, 8, 3, 3))).shape\n(1, 2, 6, 6)"))
class PixelShuffle(_Shuffle, function="pixel_shuffle", name="upscale_factor"):
    """Channels laid out as pixels, (..., C r r, H, W) as (..., C, H r, W r). torch.nn.PixelShuffle.

    Parameters
    ----------
    upscale_factor : int
        r, at least 1.

    See Also
    --------
    fastdl.pixel_shuffle, torch.nn.PixelShuffle

    {example}
    """

    def __init__(self, upscale_factor: int) -> None:
        self._describe(upscale_factor)


@doc(example(">>> nn.PixelUnshuffle(2)(np.ones((1, 2, 6, 6))).shape\n(1, 8, 3, 3)"))
class PixelUnshuffle(_Shuffle, function="pixel_unshuffle", name="downscale_factor"):
    """Pixels laid out as channels, the inverse of PixelShuffle. torch.nn.PixelUnshuffle.

    Parameters
    ----------
    downscale_factor : int
        r, at least 1.

    See Also
    --------
    fastdl.pixel_unshuffle, torch.nn.PixelUnshuffle

    {example}
    """

    def __init__(self, downscale_factor: int) -> None:
        self._describe(downscale_factor)
