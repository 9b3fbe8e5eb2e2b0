"""Convolution with shapes and options drawn at random, sizes of 0 and 1 and every option beside every other among them,
against torch in float64 and against the reference.

Arrays hold small whole numbers, so that a number in the wrong place is never within the rounding error.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import reference
from fastdl.functional.conv._shared import ALGORITHMS, PADDING_MODES
from tests.cases.window import as_sides as sides_alike

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional

Rng = np.random.Generator
Call = tuple[str, dict[str, Any]]
FORMATS = {1: ("NCL", "NLC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
ACTIVATIONS = [("none", ()), ("relu", ()), ("relu6", ()), ("hardtanh", (-0.5, 2.0)), ("gelu", ())]
DRAWS = 100


def numbers(rng: Rng, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(dtype)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def size(rng: Rng, most: int) -> int:
    """Half of them are the sizes that are special, few are 0."""
    return int(rng.choice([0, 1, 1, 1, 1, 2, 3])) if rng.random() < 0.4 else int(rng.integers(1, most + 1))


def sizes(rng: Rng, rank: int, least: int, most: int) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(least, most + 1, rank))


def option(rng: Rng, values: tuple[int, ...]) -> Any:
    """As it may be given: a number, if they are all the same, or a tuple."""
    return values[0] if len(set(values)) == 1 and rng.random() < 0.5 else values


def windows(rng: Rng) -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Rank, kernel, stride and dilation."""
    rank = int(rng.choice([1, 2, 2, 2, 3]))
    if rng.random() < 0.3:
        return rank, (3,) * rank, (1,) * rank, (1,) * rank
    kernel = sizes(rng, rank, 1, 4) if rng.random() < 0.8 else (1,) * rank
    stride = sizes(rng, rank, 1, 3) if rng.random() < 0.7 else sizes(rng, rank, 1, 6)
    return rank, kernel, stride, sizes(rng, rank, 1, 2) if rng.random() < 0.3 else (1,) * rank


def paddings(rng: Rng, kernel: tuple[int, ...], dilation: tuple[int, ...], stride: tuple[int, ...]) -> Any:
    kind = rng.random()
    if kind < 0.1:
        return "valid"
    if kind < 0.25 and set(stride) != {0}:
        return str(rng.choice(["same", "same_lower"]))
    most = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if kind < 0.4:
        return tuple((int(rng.integers(0, m + 1)), int(rng.integers(0, m + 1))) for m in most)
    return option(rng, tuple(int(rng.integers(0, m + 1)) if rng.random() < 0.6 else 0 for m in most))


def as_sides(
    padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...], stride: Any = 1, spatial: Any = None
) -> list[tuple[int, int]]:
    """Padding as (before, after); "same" and "same_lower" as ONNX has them, SAME_UPPER and SAME_LOWER."""
    if not (isinstance(padding, str) and padding.startswith("same")):
        return sides_alike(padding, kernel, dilation)
    found = []
    steps = (stride,) * len(kernel) if isinstance(stride, int) else stride
    for n, k, s, d in zip(spatial, kernel, steps, dilation, strict=True):
        total = max(0, (math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n) if s > 1 else d * (k - 1)
        small, large = total // 2, total - total // 2
        found.append((small, large) if padding == "same" else (large, small))
    return found


def without_batch(rng: Rng, batch: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """Some of those with a batch of one without it."""
    if batch != 1 or rng.random() < 0.7:
        return arguments
    with_it = ("x", "grad_output", "residual", "out", "columns")
    return {k: v[0] if k in with_it else v for k, v in arguments.items()}


def draw_conv(rng: Rng, backward: bool) -> Call:
    rank, kernel, stride, dilation = windows(rng)
    padding = paddings(rng, kernel, dilation, stride)
    positions = tuple(size(rng, 12 if rank < 3 else 5) or 1 for _ in range(rank))
    around = [(0, 0)] * rank if str(padding).startswith("same") else as_sides(padding, kernel, dilation)
    spatial = tuple(
        max(1 if rng.random() < 0.95 else 0, s * (n - 1) + d * (k - 1) + 1 - sum(p) + int(rng.integers(0, s)))
        for n, k, s, d, p in zip(positions, kernel, stride, dilation, around, strict=True)
    )
    around = as_sides(padding, kernel, dilation, stride, spatial)
    groups = int(rng.choice([1, 1, 1, 2, 3, 5]))
    channels, filters, batch = size(rng, 20), size(rng, 20), size(rng, 3)
    if rng.random() < 0.2:
        groups, channels, filters = max(1, channels), 1, int(rng.integers(1, 3))  # depthwise
    shape = (batch, channels * groups, *spatial)
    last = bool(rng.random() < 0.4)
    dtype = rng.choice([np.float32, np.float64])
    bordered = all(max(p) < n for n, p in zip(spatial, around, strict=True))
    mode = str(rng.choice(PADDING_MODES)) if bordered and rng.random() < 0.4 else "zeros"
    form: dict[str, Any] = {
        "stride": option(rng, stride),
        "padding": padding,
        "dilation": option(rng, dilation),
        "groups": groups,
        "padding_mode": mode,
        "data_format": FORMATS[rank][last],
        "algorithm": str(rng.choice(ALGORITHMS)) if rng.random() < 0.6 else "auto",
    }
    weight = numbers(rng, (filters * groups, channels, *kernel), dtype)
    images = (shape[0], *spatial, shape[1]) if last else shape
    arguments = {"x": numbers(rng, images, dtype), "weight": weight, **form}
    padded = [n + sum(p) - d * (k - 1) - 1 for n, p, k, d in zip(spatial, around, kernel, dilation, strict=True)]
    out = tuple(max(0, n // s + 1) for n, s in zip(padded, stride, strict=True))
    result = (batch, *out, weight.shape[0]) if last else (batch, weight.shape[0], *out)
    if backward:
        arguments = {"grad_output": numbers(rng, result, dtype), **arguments, "input_grad": bool(rng.random() < 0.9)}
        return f"conv{rank}d_backward", without_batch(rng, batch, arguments)
    if rng.random() < 0.6:
        arguments["bias"] = numbers(rng, weight.shape[:1], dtype)
    if rng.random() < 0.3:
        arguments["residual"] = numbers(rng, result, dtype)
    arguments["activation"], arguments["activation_args"] = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
    if rng.random() < 0.3:
        arguments["out"] = np.full(result, np.nan, dtype)
    return f"conv{rank}d", without_batch(rng, batch, arguments)


def draw_transposed(rng: Rng, backward: bool) -> Call:
    rank, kernel, stride, dilation = windows(rng)
    padding = paddings(rng, kernel, dilation, (0,))
    around = as_sides(padding, kernel, dilation)
    spatial = tuple(
        max(1, size(rng, 8 if rank < 3 else 4), ceil_div(sum(p) - d * (k - 1), s) + 1)  # so that something is left
        for k, s, d, p in zip(kernel, stride, dilation, around, strict=True)
    )
    more = tuple(
        int(rng.integers(0, max(s, d))) if rng.random() < 0.4 else 0 for s, d in zip(stride, dilation, strict=True)
    )
    groups, channels, filters, batch = int(rng.choice([1, 1, 1, 2, 3])), size(rng, 20), size(rng, 20), size(rng, 3)
    dtype = rng.choice([np.float32, np.float64])
    arguments: dict[str, Any] = {
        "x": numbers(rng, (batch, channels * groups, *spatial), dtype),
        "weight": numbers(rng, (channels * groups, filters, *kernel), dtype),
        "stride": option(rng, stride),
        "padding": padding,
        "output_padding": option(rng, more),
        "groups": groups,
        "dilation": option(rng, dilation),
    }
    out = tuple(
        s * (n - 1) + 1 + d * (k - 1) + m - sum(p)
        for n, k, s, d, m, p in zip(spatial, kernel, stride, dilation, more, around, strict=True)
    )
    result = (batch, filters * groups, *out)
    if backward:
        arguments = {"grad_output": numbers(rng, result, dtype), **arguments, "input_grad": bool(rng.random() < 0.9)}
        return f"conv_transpose{rank}d_backward", without_batch(rng, batch, arguments)
    if rng.random() < 0.6:
        arguments["bias"] = numbers(rng, result[1:2], dtype)
    arguments["activation"], arguments["activation_args"] = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
    if rng.random() < 0.3:
        arguments["out"] = np.full(result, np.nan, dtype)
    return f"conv_transpose{rank}d", without_batch(rng, batch, arguments)


def draw_unfold(rng: Rng, backward: bool) -> Call:
    rank, kernel, stride, dilation = windows(rng)
    padding = option(rng, sizes(rng, rank, 0, 2))
    around = as_sides(padding, kernel, dilation)
    spatial = tuple(
        max(1, d * (k - 1) + 1 - sum(p)) + int(rng.integers(0, 8))
        for k, d, p in zip(kernel, dilation, around, strict=True)
    )
    batch, channels, dtype = size(rng, 3), size(rng, 5), rng.choice([np.float32, np.float64])
    positions = math.prod(
        (n + sum(p) - d * (k - 1) - 1) // s + 1
        for n, p, k, s, d in zip(spatial, around, kernel, stride, dilation, strict=True)
    )
    form = {
        "kernel_size": option(rng, kernel) if rank == 2 else kernel,
        "dilation": option(rng, dilation),
        "padding": padding,
        "stride": option(rng, stride),
    }
    columns = (batch, channels * math.prod(kernel), positions)
    shape, name = ((batch, channels, *spatial), columns)[:: -1 if backward else 1], ("x", "columns")[backward]
    arguments = {name: numbers(rng, shape[0], dtype), **form}
    if backward:
        arguments["output_size"] = spatial
    if rng.random() < 0.3:
        arguments["out"] = np.full(shape[1], np.nan, dtype)
    return ("im2col", "col2im")[backward], without_batch(rng, batch, arguments)


def by_torch(name: str, arguments: dict[str, Any]) -> Any:
    """What torch finds, in float64 (torch.Tensor or a tuple of them)."""
    given = {
        k: torch.tensor(v.astype(np.float64), requires_grad=True) if isinstance(v, np.ndarray) else v
        for k, v in arguments.items()
        if k not in ("out", "algorithm", "input_grad")
    }
    if name in ("im2col", "col2im"):
        if len(given["output_size"] if name == "col2im" else as_tuple(given["kernel_size"])) != 2:
            raise RuntimeError("torch's are for images")
        return F.unfold(given.pop("x"), **given) if name == "im2col" else F.fold(given.pop("columns"), **given)
    if given["weight"].numel() == 0:
        raise RuntimeError("torch gives no filters where there are no channels")
    forward, grad = name.removesuffix("_backward"), given.pop("grad_output", None)
    x, weight = given.pop("x"), given.pop("weight")
    if x.ndim < weight.ndim:
        batch = {k: arguments[k][None] for k in ("x", "grad_output", "residual") if k in arguments}
        found = by_torch(name, {**arguments, **batch})
        return found[0] if isinstance(found, torch.Tensor) else (found[0][0], *found[1:])
    bias = given.pop("bias", None)
    if grad is not None:
        bias = torch.zeros(grad.shape[-1 if given.get("data_format", "NC").endswith("C") else 1], dtype=torch.float64)
        bias.requires_grad_()
    y = (transposed_by_torch if "transpose" in name else conv_by_torch)(forward, x, weight, bias, **given)
    return y if grad is None else torch.autograd.grad(y, (x, weight, bias), grad.detach())


def as_tuple(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value


def fused(y: Any, activation: str, args: tuple[float, ...]) -> Any:
    return y if activation == "none" else (getattr(F, activation, None) or getattr(torch, activation))(y, *args)


def conv_by_torch(
    name: str,
    x: Any,
    weight: Any,
    bias: Any,
    padding: Any,
    dilation: Any,
    padding_mode: str,
    data_format: str,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    residual: Any = None,
    **form: Any,
) -> Any:
    last, kernel = data_format.endswith("C"), weight.shape[2:]
    spread = (dilation,) * len(kernel) if isinstance(dilation, int) else dilation
    spatial = x.shape[1:-1] if last else x.shape[2:]
    sides = [n for side in reversed(as_sides(padding, kernel, spread, form["stride"], spatial)) for n in side]
    x = F.pad(x.movedim(-1, 1) if last else x, sides, mode=padding_mode.replace("zeros", "constant"))
    y = getattr(F, name)(x, weight, bias, dilation=dilation, **form)
    y = y.movedim(1, -1) if last else y
    return fused(y if residual is None else y + residual, activation, activation_args)


def transposed_by_torch(
    name: str,
    x: Any,
    weight: Any,
    bias: Any,
    padding: Any,
    dilation: Any,
    output_padding: Any,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    **form: Any,
) -> Any:
    kernel = weight.shape[2:]
    spread = (dilation,) * len(kernel) if isinstance(dilation, int) else dilation
    more = (output_padding,) * len(kernel) if isinstance(output_padding, int) else output_padding
    y = getattr(F, name)(x, weight, bias, dilation=dilation, **form)
    sides = as_sides(padding, kernel, spread)
    around = [n for (before, after), m in zip(sides[::-1], more[::-1], strict=True) for n in (-before, m - after)]
    y = F.pad(y, around)
    if bias is not None:  # what output_padding adds has the bias, too
        ones = F.pad(torch.ones_like(getattr(F, name)(x, weight, None, dilation=dilation, **form)), around)
        y = y + (1 - ones.detach()) * bias.reshape(-1, *[1] * len(kernel))
    return fused(y, activation, activation_args)


def check(name: str, arguments: dict[str, Any]) -> bool:
    """Compare with both; false where the call is refused for an algorithm that does not apply."""
    expected = [in_float64(reference, name, arguments)]
    with contextlib.suppress(RuntimeError, IndexError):  # torch has not every size of 0
        expected.append(by_torch(name, arguments))
    try:
        found = getattr(fastdl, name)(**arguments)
    except ValueError as error:
        if arguments.get("algorithm", "auto") != "auto" and "algorithm" in str(error):
            return False
        raise
    dtype = arguments.get("x", arguments.get("columns")).dtype
    for result in expected:
        compare(found, result, dtype, arguments.get("input_grad", True))
    if name == "conv2d":
        compare_packed(arguments, found)
    return True


def in_float64(module: Any, name: str, arguments: dict[str, Any]) -> Any:
    wide = {k: v.astype(np.float64) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    return getattr(module, name)(**{k: v for k, v in wide.items() if k != "out"})


def compare(found: Any, expected: Any, dtype: Any, input_grad: bool = True) -> None:
    results = found if isinstance(found, tuple) else (found,)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    for i, (got, want) in enumerate(zip(results, wanted, strict=True)):
        want = want.detach().numpy() if isinstance(want, torch.Tensor) else want
        if i == 0 and not input_grad:
            assert got.size == 0
            continue
        assert got.shape == want.shape
        assert got.dtype == dtype
        largest = max(1.0, float(np.abs(want).max(initial=0)))
        np.testing.assert_allclose(got, want, rtol=0, atol=largest * (2e-4 if dtype == np.float32 else 1e-11))


def compare_packed(arguments: dict[str, Any], found: np.ndarray) -> None:
    """The same with packed weights, wherever the algorithm packs them."""
    form = {k: arguments[k] for k in ("stride", "padding", "dilation", "groups", "data_format")}
    for algorithm in {"auto", arguments["algorithm"]}:
        try:
            packed = fastdl.pack_conv2d_weight(arguments["weight"], **form, algorithm=algorithm)
        except ValueError:
            continue
        try:
            again = fastdl.conv2d(**{**arguments, "weight": packed, "out": None})
        except ValueError as error:
            assert "algorithm" in str(error)  # noqa: PT017
            continue
        compare(again, found.astype(np.float64), found.dtype)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("draw", [draw_conv, draw_transposed, draw_unfold])
@pytest.mark.parametrize("seed", range(2))
def test_random_options(draw: Callable[[Rng, bool], Call], backward: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    compared = 0
    for i in range(DRAWS):
        name, arguments = draw(rng, backward)
        shown = {k: v.shape if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
        try:
            compared += check(name, arguments)
        except AssertionError as error:
            raise AssertionError(f"draw {i}: {name}({shown})") from error
    assert compared > DRAWS / 2
