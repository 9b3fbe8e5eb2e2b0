"""Pooling: geometry, divisors, ties, NaN, windows of nothing but -infinity, adaptive windows even and uneven."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import reference
from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, Tolerance, declare, exact, summed
from tests.cases.window import as_sides, as_tuple

_FORMATS = {3: "NLC", 4: "NHWC", 5: "NDHWC"}


def _positions(sizes: Shape, kernel: Shape, form: dict[str, Any]) -> Shape:
    """How often the window fits, by trying every position; in ceil_mode one more where it starts in what is there."""
    rank = len(sizes)
    stride, dilation = as_tuple(form.get("stride", kernel), rank), as_tuple(form.get("dilation", 1), rank)
    around = as_sides(form.get("padding", 0), kernel, dilation)
    found = []
    for n, k, s, d, (before, after) in zip(sizes, kernel, stride, dilation, around, strict=True):
        last = n + after - d * (k - 1) - 1  # where a window that fits may start
        starts = [i for i in range(-before, n + after, s) if i <= last]
        more = [i for i in range(-before, n, s) if last < i < last + s]
        found.append(len(starts) + (len(more) if form.get("ceil_mode") else 0))
    return tuple(found)


def _case(
    operation: str,
    shape: Shape,
    output: Shape,
    taps: float,
    x: Draw | None,
    forward: Tolerance,
    back: Tolerance,
    **form: Any,
) -> Case:
    work = math.prod(output) * taps
    if x is not None:  # a drawn array's shape is not in the id
        form["note"] = "-".join(filter(None, [form.get("note"), "x".join(map(str, shape))]))
    with_indices = form.get("return_indices", False)
    return declare(
        operation,
        {"x": x or shape},
        (output, output) if with_indices else output,
        flops=work,
        tolerance=forward,
        backward=None if with_indices else Backward(flops=work, tolerance=back, shapes=(shape,)),
        **form,
    )


def pooling(shape: Shape, kernel: Any, x: Draw | None = None, kind: str = "max", **form: Any) -> Case:
    """A case of max_pool or avg_pool (or lp_pool, given norm_type) in as many dimensions as the shape has."""
    rank = len(shape) - 2
    last = form.get("data_format", "NCHW").endswith("C")
    channels, sizes = (shape[-1], shape[1:-1]) if last else (shape[1], shape[2:])
    positions = _positions(sizes, as_tuple(kernel, rank), form)
    output = (shape[0], *positions, channels) if last else (shape[0], channels, *positions)
    taps = math.prod(as_tuple(kernel, rank))
    name = f"{kind}_pool{rank}d"
    forward, back = {
        # An element is in at most `taps` windows; an average is a sum and a division.
        "max": (exact, summed(f"{name}_backward", taps, linear_in=("grad_output",))),
        "avg": (summed(name, taps), summed(f"{name}_backward", taps + 1, linear_in=("grad_output",))),
        "lp": (_norm, _norm_backward),
    }[kind]
    return _case(name, shape, output, taps, x, forward, back, kernel_size=kernel, **form)


def known(shape: Shape, kernel: int, tags: tuple[str, ...] = (), **form: Any) -> Case:
    """The backward of max_pool, given the positions that the forward returned."""
    rank, last = len(shape) - 2, form.get("data_format", "NCHW").endswith("C")
    channels, sizes = (shape[-1], shape[1:-1]) if last else (shape[1], shape[2:])
    positions = _positions(sizes, as_tuple(kernel, rank), form)
    name, taps = f"max_pool{rank}d", kernel**rank

    def x(rng: np.random.Generator) -> Array:
        return np.random.default_rng(7).standard_normal(shape).astype(np.float32)  # indices are those of either dtype

    return declare(
        f"{name}_backward",
        {
            "grad_output": (shape[0], *positions, channels) if last else (shape[0], channels, *positions),
            "x": x,
            "indices": lambda rng: getattr(reference, name)(x(rng), kernel, return_indices=True, **form)[1],
        },
        shape,
        kernel_size=kernel,
        flops=math.prod(positions) * shape[0] * channels,
        tolerance=summed(f"{name}_backward", taps, linear_in=("grad_output",)),
        note="known-" + "x".join(map(str, shape)),
        tags=tags,
        **form,
    )


def _norm(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """A power's few roundings and a sum's sqrt(terms), of positive terms, through a root: divided by p; its own few."""
    p, taps = a["norm_type"], math.prod(as_tuple(a["kernel_size"], a["x"].ndim - 2))
    if np.isinf(p):
        return (0.0,)
    return ((4 * np.sqrt(taps + 2) / abs(p) + 8 + 4 * abs(p)) * np.abs(expected[0]),)


def _norm_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """The same in each of the at most `taps` terms that are added, taken positive; 1/p - 1 times an error stays below
    twice of it."""
    taps = math.prod(as_tuple(a["kernel_size"], a["x"].ndim - 2))
    positive = a | {"grad_output": np.abs(a["grad_output"])}
    magnitude = np.abs(getattr(reference, f"lp_pool{a['x'].ndim - 2}d_backward")(**positive))
    p = a["norm_type"]
    return ((8 * np.sqrt(taps + 2) + 16 + (0 if np.isinf(p) else 8 * abs(p))) * magnitude,)


def adaptive(shape: Shape, output_size: Any, x: Draw | None = None, kind: str = "avg", **form: Any) -> Case:
    sizes = shape[2:]
    wanted = output_size if isinstance(output_size, tuple) else (output_size,) * len(sizes)
    outs = tuple(n if o is None else o for n, o in zip(sizes, wanted, strict=True))
    # Of uneven windows one more than size / out may be seen, and an element may be in two.
    taps = math.prod(-(-n // o) + (n % o > 0) if o else 1 for n, o in zip(sizes, outs, strict=True))
    overlap = math.prod(-(-o // n) + 1 if n % o else 1 for n, o in zip(sizes, outs, strict=True) if o)
    name = f"adaptive_{kind}_pool{len(sizes)}d"
    forward = exact if kind == "max" else summed(name, taps)
    back = summed(f"{name}_backward", overlap + 1, linear_in=("grad_output",))
    return _case(name, shape, (*shape[:2], *outs), taps, x, forward, back, output_size=output_size, **form)


def unpooling(shape: Shape, kernel: Any, *, output_size: Any = None, distinct: bool = True, **form: Any) -> Case:
    rank = len(shape) - 2
    kernel_, step = as_tuple(kernel, rank), as_tuple(form.get("stride", kernel), rank)
    around = as_tuple(form.get("padding", 0), rank)
    default = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(shape[2:], step, around, kernel_, strict=True))
    sizes = default if output_size is None else as_tuple(output_size, rank)[-rank:]
    volume, count = math.prod(sizes), math.prod(shape[2:])

    def indices(rng: np.random.Generator) -> Array:
        planes = [
            rng.permutation(volume)[:count] if distinct else rng.integers(0, volume, count)
            for _ in range(shape[0] * shape[1])
        ]
        return np.array(planes, np.int64).reshape(shape)

    given = {} if output_size is None else {"output_size": output_size}
    return declare(
        f"max_unpool{rank}d",
        {"x": shape, "indices": indices},
        (*shape[:2], *sizes),
        kernel_size=kernel,
        flops=0,
        tolerance=exact,
        backward=Backward(flops=0, tolerance=exact, shapes=(shape,)) if distinct else None,
        note="" if distinct else "repeated",
        **given,
        **form,
    )


def _ties(*shape: int) -> Draw:
    return lambda rng: rng.integers(-1, 2, shape).astype(np.float64)


def _special(*shape: int) -> Draw:
    """NaN and infinities here and there, and a last part of nothing but -infinity."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        x = rng.standard_normal(shape)
        scattered = rng.random(x.shape)
        x[scattered < 0.1], x[scattered > 0.9] = np.nan, np.inf
        x[:, :, -(shape[2] // 2) :] = -np.inf
        return x

    return draw


def _positive(*shape: int) -> Draw:
    return lambda rng: np.abs(rng.standard_normal(shape)) + 0.1


def _zeros_too(*shape: int) -> Draw:
    """Whole windows of zeros, where the gradient of a norm is 0 by definition."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        x = np.abs(rng.standard_normal(shape)) + 0.1
        x[..., : shape[-1] // 2] = 0
        return x

    return draw


_OWN = ("not-in-torch",)
_PADDING_ONLY = ("special", "padding-only")
_MAX_2D = [
    *(pooling((2, 3, 6, width), 2) for width in (2, 3, 15, 16, 17, 31, 32, 33, 34, 65)),
    pooling((2, 3, 13, 17), 3),
    pooling((2, 3, 13, 17), 3, stride=2, padding=1),
    pooling((2, 3, 13, 35), 3, stride=1, padding=1),
    pooling((1, 2, 13, 17), (2, 3), stride=(3, 1), padding=(1, 0)),
    pooling((1, 2, 13, 17), 3, stride=2, padding=1, dilation=2),
    pooling((1, 2, 14, 19), (2, 4), stride=(1, 2), padding=(0, 2), dilation=(3, 1)),
    pooling((1, 2, 9, 9), 2, stride=5),
    pooling((1, 2, 9, 80), (2, 60), stride=1),
    pooling((1, 2, 30, 200), (25, 70), stride=(1, 65), padding=(3, 30)),
    pooling((1, 2, 9, 150), (1, 70), stride=1, padding=(0, 3)),
    pooling((1, 1, 1, 1), 1),
    pooling((4, 3, 1, 1), 1),
    pooling((1, 1, 1, 1), 3, padding=1),
    pooling((2, 3, 6, 5), (6, 5)),
    pooling((2, 3, 13, 17), (13, 17)),
    pooling((0, 3, 6, 6), 2),
    pooling((2, 0, 6, 6), 2, tags=_OWN),
    pooling((2, 1, 2, 2), 2, padding=1, dilation=3, tags=_PADDING_ONLY),
    pooling((1, 2, 5, 2), (3, 2), stride=1, padding=1, dilation=(1, 3), tags=_PADDING_ONLY),
    pooling((3, 17, 30, 30), 2),
    # planes of more rows than the search for the winners takes at a time
    pooling((1, 2, 150, 90), 3, _special(1, 2, 150, 90), stride=2, padding=1, note="bands", tags=("special",)),
    pooling((1, 2, 170, 40), 3, _ties(1, 2, 170, 40), stride=1, dilation=3, padding=1, note="bands", tags=("special",)),
    pooling((1, 2, 300, 70), (2, 3), stride=(5, 2)),
    pooling((1, 2, 200, 71), (3, 4), stride=(1, 2), padding=(1, 2), dilation=(4, 2)),
    *(pooling((3, 17, rows, width), 2) for rows, width in ((7, 7), (6, 8), (5, 4), (3, 6))),
    pooling((2, 3, 11, 18), 3, stride=2, ceil_mode=True),
    pooling((2, 3, 2, 5), 3, stride=2, ceil_mode=True),
    pooling((2, 3, 10, 13), 2, stride=3, padding=1, ceil_mode=True),
    pooling((2, 3, 8, 19), 4, stride=2, padding=((0, 2), (1, 0))),
    *(
        pooling((2, 3, 12, 19), k, draw(2, 3, 12, 19), note=draw.__name__[1:], tags=("special",), **window)
        for draw in (_ties, _special)
        for k, window in (
            (2, {}),
            (3, {"stride": 1, "padding": 1}),
            (3, {"stride": 2, "padding": 1}),
            (3, {"stride": 3, "return_indices": True}),
            (2, {"stride": 1, "return_indices": True}),
            (3, {"stride": 2, "padding": 1, "return_indices": True}),
            ((12, 19), {"return_indices": True}),
            ((12, 19), {}),
        )
    ),
    *(
        pooling((2, 12, 19, c), 3, _special(2, 12, 19, c), stride=2, padding=1, data_format="NHWC", tags=("special",))
        for c in (1, 15, 16, 33)
    ),
    pooling((2, 12, 9, 5), (2, 3), data_format="NHWC", return_indices=True),
    pooling((2, 12, 9, 17), 2, stride=1, data_format="NHWC", dilation=(1, 2)),
    pooling((32, 16, 8, 8), 2, tags=("bench",)),
    pooling((8, 64, 112, 112), 3, stride=2, padding=1, tags=("bench", "large")),
]
_MAX = [
    *_MAX_2D,
    known((2, 3, 12, 19), 3, stride=1, padding=1),
    known((2, 12, 19, 3), 2, data_format="NHWC"),
    known((2, 3, 40), 3, stride=2),
    known((2, 3, 5, 6, 9), 2),
    known((8, 64, 112, 112), 3, stride=2, padding=1, tags=("bench", "large")),
    # rows longer than what is reduced at a time
    pooling((1, 2, 9001), 3, stride=2, padding=1),
    pooling((1, 2, 9001), 5, stride=3, padding=2, dilation=2),
    pooling((1, 1, 3, 9001), (2, 60), stride=1, padding=(0, 30)),
    pooling((1, 2, 9001), 70, stride=65),
    *(pooling((2, 3, length), 3, stride=2, padding=1) for length in (1, 2, 15, 33, 70)),
    pooling((2, 5, 50), 5, stride=3, padding=2, dilation=2, ceil_mode=True),
    pooling((2, 5, 50), (50,), _special(2, 5, 50), note="special", tags=("special",)),
    pooling((2, 9, 50), 4, stride=1, data_format="NLC"),
    pooling((2, 3, 50), 2, _ties(2, 3, 50), note="ties", return_indices=True, tags=("special",)),
    pooling((4, 16, 1000), 3, stride=2, padding=1, tags=("bench",)),
    pooling((2, 3, 6, 7, 9), 2),
    pooling((2, 3, 6, 7, 19), 3, stride=2, padding=1),
    pooling((1, 2, 5, 6, 17), (2, 3, 1), stride=(1, 2, 3), padding=(1, 0, 0), dilation=(2, 1, 1), ceil_mode=True),
    pooling((1, 2, 6, 6, 17), 5, stride=1, padding=2),
    pooling((1, 2, 6, 14, 17), (5, 5, 2), stride=1, padding=(2, 2, 0), dilation=(1, 2, 1)),
    pooling((1, 2, 6, 6, 17), 3, _ties(1, 2, 6, 6, 17), stride=1, note="ties", tags=("special",)),
    pooling((1, 2, 6, 6, 17), 3, _special(1, 2, 6, 6, 17), stride=2, padding=1, return_indices=True, tags=("special",)),
    pooling((2, 4, 5, 6, 7), 2, stride=1, data_format="NDHWC"),
    pooling((2, 16, 8, 32, 32), 2, tags=("bench",)),
]
_AVG = [
    pooling((1, 2, 9001), 3, kind="avg", stride=2, padding=1, count_include_pad=False, ceil_mode=True),
    pooling((1, 2, 3, 9001), (2, 60), kind="avg", stride=1, padding=(0, 30)),
    pooling((1, 2, 9001), 4, kind="avg", stride=3),
    pooling((1, 2, 9001), 70, kind="avg", stride=65),
    *(pooling((2, 3, 6, width), 2, kind="avg") for width in (2, 3, 15, 16, 17, 33, 65)),
    *(pooling((2, 3, 13, 35), 3, kind="avg", stride=s, padding=1) for s in (1, 2, 3, 4)),
    pooling((2, 3, 13, 17), 3, kind="avg", stride=2, padding=1, count_include_pad=False),
    pooling((2, 3, 13, 17), 3, kind="avg", stride=2, padding=1, divisor_override=7),
    *(
        pooling((2, 3, 10, 13), 3, kind="avg", stride=2, padding=1, ceil_mode=True, count_include_pad=include)
        for include in (True, False)
    ),
    pooling((2, 3, 2, 5), 3, kind="avg", stride=2, ceil_mode=True),
    pooling((2, 3, 8, 19), 4, kind="avg", stride=3, padding=((0, 2), (1, 0)), ceil_mode=True, tags=_OWN),
    pooling((2, 3, 14, 18), 3, kind="avg", stride=2, padding=1, dilation=2, tags=_OWN),
    pooling((2, 3, 9, 18), (2, 3), kind="avg", stride=1, dilation=(3, 2), count_include_pad=False, tags=_OWN),
    pooling((1, 2, 9, 80), (2, 60), kind="avg", stride=1),
    pooling((1, 2, 30, 200), (25, 70), kind="avg", stride=(1, 65), padding=(3, 30)),
    pooling((1, 1, 1, 1), 1, kind="avg"),
    pooling((0, 3, 6, 6), 2, kind="avg"),
    pooling((2, 3, 13, 17), (13, 17), kind="avg"),
    pooling((2, 3, 13, 17), (13, 17), kind="avg", divisor_override=5),
    pooling(
        (2, 3, 12, 19), 3, _special(2, 3, 12, 19), kind="avg", stride=2, padding=1, note="special", tags=("special",)
    ),
    pooling((2, 9, 12, 5), 3, kind="avg", stride=2, padding=1, data_format="NHWC", count_include_pad=False),
    pooling((2, 9, 12, 33), 2, kind="avg", data_format="NHWC"),
    *(pooling((2, 3, length), 3, kind="avg", stride=2, padding=1) for length in (1, 2, 33)),
    pooling((2, 3, 40), 4, kind="avg", stride=3, padding=2, ceil_mode=True, count_include_pad=False),
    pooling((2, 7, 40), 4, kind="avg", stride=1, data_format="NLC"),
    pooling((2, 3, 6, 7, 19), 3, kind="avg", stride=2, padding=1, count_include_pad=False),
    pooling((1, 2, 6, 12, 17), (5, 4, 3), kind="avg", stride=1, padding=(2, 2, 1)),
    pooling((1, 2, 5, 6, 17), (2, 3, 1), kind="avg", stride=(1, 2, 3), padding=(1, 0, 0), ceil_mode=True),
    pooling((2, 4, 5, 6, 7), 2, kind="avg", stride=1, data_format="NDHWC"),
    pooling((4, 16, 1000), 3, kind="avg", stride=2, padding=1, tags=("bench",)),
    pooling((2, 16, 8, 32, 32), 2, kind="avg", tags=("bench",)),
    pooling((32, 16, 8, 8), 2, kind="avg", tags=("bench",)),
    pooling((8, 64, 112, 112), 3, kind="avg", stride=2, padding=1, tags=("bench", "large")),
    pooling((8, 64, 112, 112), 2, kind="avg", tags=("bench", "large")),
]
_LP = [
    pooling((2, 3, 9, 18), 3, _positive(2, 3, 9, 18), kind="lp", norm_type=p, stride=2, note="positive")
    for p in (1, 2, 3, 0.5, 1.5, -1.0, math.inf, -math.inf)
] + [
    pooling((2, 3, 9, 18), 2, kind="lp", norm_type=2.0),
    pooling((2, 3, 9, 18), 2, _zeros_too(2, 3, 9, 18), kind="lp", norm_type=2.0, note="zeros", tags=("special",)),
    pooling((2, 3, 9, 17), 2, _positive(2, 3, 9, 17), kind="lp", norm_type=3.0, ceil_mode=True, note="positive"),
    pooling((2, 3, 33), 3, _positive(2, 3, 33), kind="lp", norm_type=2.5, stride=1, note="positive"),
    pooling((2, 3, 33), 33, kind="lp", norm_type=2.0),
    pooling((2, 3, 9, 18), 2, kind="lp", norm_type=2.0, dilation=(2, 3), tags=("not-in-torch",)),
    pooling((2, 3, 5, 6, 17), 2, _positive(2, 3, 5, 6, 17), kind="lp", norm_type=3.0, note="positive"),
    *(pooling((2, 8, *(16,) * rank), 2, kind="lp", norm_type=2.0, tags=("bench",)) for rank in (1, 2, 3)),
]
_ADAPTIVE = [
    *(
        adaptive((2, 3, 12, 19), out, draw, kind, note=note, tags=tags)
        for out in (1, (5, 7), (12, 19), (4, 1), (None, 3), (1, 19), (14, 40))
        for kind, draw, note, tags in (
            ("avg", None, "", ()),
            ("max", None, "", ()),
            ("max", _ties(2, 3, 12, 19), "ties", ("special",)),
            ("max", _special(2, 3, 12, 19), "special", ("special",)),
        )
    ),
    *(adaptive((2, 3, 12, 19), 0, kind=kind, tags=_OWN) for kind in ("avg", "max")),
    *(
        adaptive(shape, out, kind=kind)
        for kind in ("avg", "max")
        for shape, out in (
            ((2, 3, 20), 7),
            ((2, 3, 20), 1),
            ((2, 3, 70), (3,)),
            ((0, 3, 20), 7),
            ((2, 3, 5, 6, 9), (2, 3, 4)),
            ((2, 3, 5, 6, 9), 1),
            ((2, 3, 4, 6, 34), (2, None, 17)),
        )
    ),
    *(
        adaptive(shape, out, _special(*shape), "max", return_indices=True, tags=("special",))
        for shape, out in (((2, 3, 12, 19), (5, 7)), ((2, 3, 12, 19), 1), ((2, 3, 20), 7), ((2, 3, 5, 6, 9), (2, 3, 4)))
    ),
    *(
        adaptive((4, 8, *sizes), out, kind=kind, tags=("bench",))
        for kind in ("avg", "max")
        for sizes, out in (((100,), 1), ((13, 13), 6), ((8, 8, 8), 2))
    ),
    *(adaptive((8, 2048, 7, 7), 1, kind=kind, tags=("bench", "large")) for kind in ("avg", "max")),
    adaptive((1, 2, 1000, 1000), 1, tags=("large",)),
]
_UNPOOL = [
    unpooling((2, 3, 4, 5), 2),
    unpooling((2, 3, 4, 5), 2, distinct=False),
    unpooling((2, 3, 4, 5), 3, stride=2, padding=1),
    unpooling((2, 3, 4, 5), 2, output_size=(9, 11)),
    unpooling((2, 3, 4, 5), 2, output_size=(2, 3, 9, 9)),
    unpooling((0, 3, 4, 5), 2),
    unpooling((2, 3, 17), 2),
    unpooling((2, 3, 17), 3, stride=2, output_size=(36,)),
    unpooling((2, 3, 2, 3, 4), 2),
    *(unpooling((4, 8, *(8,) * rank), 2, tags=("bench",)) for rank in (1, 2, 3)),
]
# Sizes that small networks use, for `bench.compare --tag grid`.
_SMALL = (
    *(((64, 6, 28, 28), 2, {}), ((64, 16, 8, 8), 2, {}), ((8, 512, 7, 7), 2, {}), ((16, 64, 32, 32), 2, {})),
    *(((64, 32, 15, 15), 2, {}), ((1, 8, 8, 8), 2, {}), ((32, 32, 14, 14), 3, {})),
    *(((8, 512, 7, 7), 3, {"stride": 2, "padding": 1}), ((16, 64, 32, 32), 3, {"stride": 2, "padding": 1})),
    *(((1, 16, 13, 13), 3, {"stride": 1, "padding": 1}), ((4, 32, 20, 20), 5, {"stride": 1, "padding": 2})),
)
_GRID = [
    *(
        pooling(shape, kernel, kind=kind, tags=("grid", "large"), **form)
        for shape, kernel, form in _SMALL
        for kind in ("max", "avg")
    ),
    *(known(shape, kernel, tags=("grid", "large"), **form) for shape, kernel, form in _SMALL),
]

CASES = [*_MAX, *_AVG, *_LP, *_ADAPTIVE, *_UNPOOL, *_GRID]
