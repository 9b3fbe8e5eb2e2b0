"""Images of other sizes: every mode, smaller and larger, sizes around vectors; pixels and channels."""

from __future__ import annotations

import math
from typing import Any

from tests.cases.case import Arguments, Array, Backward, Case, Shape, declare, exact, summed


def _taps(sizes: Shape, outs: Shape, mode: str) -> int:
    """Terms of the sum that a result is."""
    if mode in ("nearest", "nearest-exact"):
        return 1
    if mode == "area":
        return math.prod(n // m + 2 for n, m in zip(sizes, outs, strict=True))
    return (4 if "cubic" in mode else 2) ** len(sizes)


def _resize(operation: str, leading: Shape, sizes: Shape, outs: Shape | None = None, **form: Any) -> Case:
    """outs: of the result, where they do not follow from a scale_factor."""
    factor, size = form.get("scale_factor"), form.pop("size", outs)
    if outs is None:
        factors = factor if isinstance(factor, tuple) else (factor,) * len(sizes)
        outs = tuple(int(n * f) for n, f in zip(sizes, factors, strict=True))
    if factor is None:
        form["size"] = size
    taps = _taps(sizes, outs, form.get("mode", "nearest"))
    given_to_one = taps * math.prod(-(-m // n) + 1 for n, m in zip(sizes, outs, strict=True))
    count = math.prod(leading) * math.prod(outs)

    return declare(
        operation,
        {"x": (*leading, *sizes)},
        (*leading, *outs),
        flops=2 * taps * count,
        tolerance=exact if taps == 1 else _summed(operation, taps, sizes),
        backward=Backward(
            flops=2 * taps * count,
            tolerance=_summed(f"{operation}_backward", given_to_one, sizes),
            shapes=((*leading, *sizes),),
        ),
        **form,
    )


def _summed(operation: str, terms: int, sizes: Shape) -> Any:
    """As `summed` in the one array that the function is linear in, and what weights are off by. The place in the input
    that they follow from is rounded in double, by a part of its size, here and there; slopes are below 3 a dimension,
    weights of a cubic, which may cancel in a sum of magnitudes, below 1.5."""
    name = "grad_output" if operation.endswith("_backward") else "x"
    of_one = summed(operation, terms, linear_in=(name,))

    def tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
        if a.get("mode", "nearest") in ("nearest", "nearest-exact", "area"):
            return of_one(a, expected)
        largest = abs(a[name]).max(initial=0)
        return tuple(2 * bound + 6 * max(sizes) * math.sqrt(terms) * largest for bound in of_one(a, expected))

    return tolerance


_BY_RANK = {
    1: ("nearest", "nearest-exact", "linear", "area"),
    2: ("nearest", "nearest-exact", "bilinear", "bicubic", "area"),
    3: ("nearest", "nearest-exact", "trilinear", "area"),
}
_SIZES = ((7, 5, 9), (11, 5, 4))


def _shuffle(x: Shape, r: int, **form: Any) -> tuple[Case, Case]:
    """pixel_shuffle of x, and back."""
    *leading, channels, height, width = x
    y = (*leading, channels // (r * r), height * r, width * r)
    back = {"flops": 0, "tolerance": exact}
    return (
        declare(
            "pixel_shuffle",
            {"x": x},
            y,
            **back,
            backward=Backward(**back, shapes=(x,)),
            upscale_factor=r,
            **form,
        ),
        declare(
            "pixel_unshuffle",
            {"x": y},
            x,
            **back,
            backward=Backward(**back, shapes=(y,)),
            downscale_factor=r,
            **form,
        ),
    )


CASES = [
    *(
        _resize("interpolate", (2, 3), _SIZES[0][-rank:], _SIZES[1][-rank:], mode=mode)
        for rank, modes in _BY_RANK.items()
        for mode in modes
    ),
    *(
        _resize("interpolate", (1, 2), _SIZES[0][-rank:], scale_factor=factor, mode=mode)
        for rank, modes in _BY_RANK.items()
        for mode in modes
        for factor in (2.0, 0.6, (1.3, 2.7, 0.5)[-rank:])
    ),
    *(
        _resize("interpolate", (2, 3), _SIZES[0][-rank:], _SIZES[1][-rank:], mode=mode, align_corners=True)
        for rank, modes in _BY_RANK.items()
        for mode in modes
        if "linear" in mode or "cubic" in mode
    ),
    *(_resize("interpolate", (1, 2), (n,), (2 * n,), mode="linear") for n in (1, 2, 7, 8, 9, 16, 17, 33)),
    *(_resize("interpolate", (1, 2), (3, n), (5, n), mode="bilinear") for n in (1, 7, 8, 9, 17)),
    *(_resize("interpolate", (1, 9), (n, 4), (1, 1), mode=mode) for n in (1, 5) for mode in ("bilinear", "bicubic")),
    *(_resize("interpolate", (1, 2), (1, 1), (3, 4), mode=mode) for mode in ("bilinear", "bicubic", "nearest")),
    _resize("interpolate", (1, 2), (6, 5), (6, 5), mode="bicubic"),
    # torch's gradient of these is not that of its function: it goes to the elements that the sizes alone would say.
    *(
        _resize("interpolate", (1, 2), (10,), scale_factor=factor, mode="nearest", tags=("not-in-torch",))
        for factor in (1.05, 2.05)
    ),
    _resize("interpolate", (1, 2), (10,), scale_factor=1.05, mode="nearest-exact"),
    _resize("interpolate", (1, 2), (10,), scale_factor=1.05, mode="linear"),
    _resize("interpolate", (1, 2), (6, 5), scale_factor=1.4, mode="bicubic", recompute_scale_factor=True),
    _resize("interpolate", (1, 2), (6, 5), scale_factor=1.4, mode="bilinear", recompute_scale_factor=False),
    _resize("interpolate", (0, 2), (6, 5), (3, 4), tags=("empty", "not-in-torch")),
    _resize("interpolate", (30, 7), (31, 33), (45, 20), mode="bilinear"),
    *(
        _resize("resize", (2, 2), (7, 5), outs, mode=mode, coordinates=coordinates, tags=("not-in-torch",))
        for outs in ((11, 3), (1, 8))
        for mode in ("linear", "cubic")
        for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    ),
    *(
        _resize("resize", (2, 2), (8,), (outs,), nearest_mode=how, coordinates=coordinates, tags=("not-in-torch",))
        for outs in (4, 12)
        for how in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
        for coordinates in ("half_pixel", "asymmetric", "align_corners")
    ),
    _resize("resize", (1, 2), (6, 5), scale_factor=1.4, mode="cubic", cubic_coefficient=-0.5, tags=("not-in-torch",)),
    _resize("resize", (1, 2), (6, 5), scale_factor=0.7, mode="cubic", exclude_outside=True, tags=("not-in-torch",)),
    *(
        _resize("resize", (1, 2), (5,), (9,), nearest_mode=how, exclude_outside=True, tags=("not-in-torch",))
        for how in ("floor", "ceil")
    ),
    _resize("interpolate", (8, 64), (16, 16), scale_factor=2.0, mode="nearest", tags=("bench",)),
    _resize("interpolate", (8, 64), (16, 16), scale_factor=2.0, mode="bilinear", tags=("bench",)),
    _resize("interpolate", (1, 3), (224, 224), (112, 112), mode="bilinear", tags=("bench",)),
    _resize("interpolate", (1, 3), (224, 224), (320, 320), mode="bicubic", tags=("bench",)),
    _resize("resize", (1, 3), (112, 112), (224, 224), mode="cubic", tags=("bench", "not-in-torch")),
    *(case for x, r in (((2, 8, 3, 5), 2), ((9, 1, 4), 3), ((2, 3, 16, 5, 9), 4)) for case in _shuffle(x, r)),
    *_shuffle((3, 4, 2), 1),
    *_shuffle((0, 4, 3, 2), 2, tags=("empty", "not-in-torch")),
    *_shuffle((8, 64, 32, 32), 2, tags=("bench",)),
]
