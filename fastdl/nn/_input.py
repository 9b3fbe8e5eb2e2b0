"""What layers are given, checked against what they are made for."""

from __future__ import annotations

from typing import Any

from fastdl.functional.verbs import Array, fail, floats, view

__all__: list[str] = []


def layer_input(
    x: Any,
    like: Array | None = None,
    ndim: int | tuple[int, ...] = (),
    size: int | None = None,
    dim: int = -1,
    what: str = "features",
    argument: str = "x",
) -> Array:
    """x as `floats`, in the dtype of `like` (a parameter), of `ndim` dimensions, of `size` in dimension `dim`.

    The errors blame x, and not the weight as the function would, and say what is probably meant where the sizes tell.
    """
    viewed = view(x, argument)
    if like is not None and viewed.dtype != like.dtype:
        raise TypeError(f"{argument}: found dtype {viewed.dtype}, expected {like.dtype}, this layer's")
    x = floats(x, argument)
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if allowed and x.ndim not in allowed:
        fail(argument, f"shape {x.shape}", " or ".join(map(str, allowed)) + " dimensions")
    if size is not None:
        if not -x.ndim <= dim < x.ndim:
            fail(argument, f"shape {x.shape}", f"{size} {what} in dimension {dim}")
        if x.shape[dim] != size:
            hint = ""
            if dim not in (-1, x.ndim - 1) and x.shape[-1] == size:
                hint = f" (its last has {size}: are its {what} last?)"
            fail(argument, f"shape {x.shape}", f"{size} {what} in dimension {dim}{hint}")
    return x
