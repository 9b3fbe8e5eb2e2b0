"""Pooling with shapes and options drawn at random, every option beside every other, NaN and infinity among the numbers,
against torch and, where torch has less (dilation of averages, asymmetric padding), against the reference.

Arrays hold small whole numbers, so that what is added is exact and equal elements are common.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import reference
from tests.cases.window import as_tuple

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional

Rng = np.random.Generator
FORMATS = {1: ("NCL", "NLC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
FAMILIES = ("max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool", "max_unpool")
DRAWS = 60
_REFUSED_BY_TORCH = ("smaller than kernel size", "Expected grad_output to have non-zero size")
"""What torch has in one or two dimensions only, and gradients of nothing."""


def pick(rng: Rng, *values: Any) -> Any:
    return values[rng.integers(len(values))]


def each_or_one(rng: Rng, values: list[int]) -> Any:
    """An option as it may be given: a number, if they are all the same, or a tuple."""
    return values[0] if len(set(values)) == 1 and rng.random() < 0.5 else tuple(values)


def numbers(rng: Rng, shape: tuple[int, ...], dtype: Any, special: bool) -> np.ndarray:
    x = rng.integers(-3, 4, shape).astype(dtype)
    if special:
        where = rng.random(shape)
        x[where < 0.1], x[where > 0.95], x[(where > 0.9) & (where < 0.95)] = np.nan, np.inf, -np.inf
    return x


def draw_window(rng: Rng, rank: int, family: str) -> tuple[dict[str, Any], bool]:
    """Options of a window, and whether torch has them."""
    kernel = [int(rng.integers(1, 5)) for _ in range(rank)]
    stride = pick(
        rng, None, None if family == "lp_pool" else (), each_or_one(rng, [int(rng.integers(1, 5)) for _ in range(rank)])
    )
    form: dict[str, Any] = {"kernel_size": each_or_one(rng, kernel), "stride": stride}
    form["ceil_mode"] = pick(rng, True, False)
    in_torch = True
    if family != "lp_pool":
        form["padding"] = each_or_one(rng, [int(rng.integers(0, k // 2 + 1)) for k in kernel])
        if rng.random() < 0.1:
            form["padding"] = tuple(tuple(int(n) for n in rng.integers(0, k // 2 + 1, 2)) for k in kernel)
            in_torch = False
    if family == "max_pool" or rng.random() < 0.2:
        form["dilation"] = each_or_one(rng, [int(rng.integers(1, 4)) for _ in range(rank)])
        in_torch &= family == "max_pool"
    if family == "avg_pool":
        form["count_include_pad"] = pick(rng, True, False)
        form["divisor_override"] = pick(rng, None, None, 3, -2)
        if rank == 1 and form["divisor_override"] is None:
            del form["divisor_override"]
        in_torch &= rank > 1 or "divisor_override" not in form
    return form, in_torch


def draw(rng: Rng, family: str, rank: int) -> tuple[dict[str, Any], dict[str, Any], bool, bool]:
    """The arrays, the options, whether channels come last, and whether torch has all that."""
    sizes = tuple(pick(rng, 1, 2, int(rng.integers(1, 12)), int(rng.integers(1, 12))) for _ in range(rank))
    batch = pick(rng, (), (1,), (2,), (0,) if rng.random() < 0.2 else (3,))
    channels = int(rng.integers(1, 4))
    dtype = pick(rng, np.float32, np.float64)
    last, in_torch = False, True
    x = numbers(rng, (*batch, channels, *sizes), dtype, rng.random() < 0.2)
    if family == "max_unpool":
        form, _ = draw_window(rng, rank, family)
        form = {name: form[name] for name in ("kernel_size", "stride", "padding")}
        form["stride"] = form["stride"] or None
        if np.ndim(form["padding"]) == 2:
            form["padding"] = 0
        kernel, around = as_tuple(form["kernel_size"], rank), as_tuple(form["padding"], rank)
        step = kernel if form["stride"] is None else as_tuple(form["stride"], rank)
        outs = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(sizes, step, around, kernel, strict=True)]
        if rng.random() < 0.5:
            outs = [n + int(rng.integers(-s + 1, s)) for n, s in zip(outs, step, strict=True)]
            form["output_size"] = pick(rng, tuple(outs), (*batch, channels, *outs) if batch else tuple(outs))
        volume, count = int(np.prod(np.maximum(outs, 0))), int(np.prod(sizes))
        planes = int(np.prod((*batch, channels)))
        if volume < count:  # of equal indices torch takes any
            return {"x": x}, form, False, False
        found = [rng.permutation(volume)[:count] for _ in range(planes)]
        return {"x": x, "indices": np.array(found, np.int64).reshape(x.shape)}, form, False, True
    if family.startswith("adaptive"):
        outs = [pick(rng, 0, 1, 2, int(rng.integers(1, 14))) for _ in range(rank)]
        form = {"output_size": each_or_one(rng, outs)}
        if rank > 1 and rng.random() < 0.3:
            form["output_size"] = tuple(pick(rng, None, n) for n in outs)
    else:
        form, in_torch = draw_window(rng, rank, family)
        if family in ("max_pool", "avg_pool") and rng.random() < 0.3:
            form["data_format"], last = FORMATS[rank][1], True
    if family == "lp_pool":
        form["norm_type"] = pick(rng, 1, 2, 3, 0.5, 1.5, 4.0, -1, -0.5, -2.0)
        if form["norm_type"] not in (1, 2, 3, 4.0):
            x = np.abs(x)  # sums of rounded terms do not become 0
    if "max" in family:
        form["return_indices"] = pick(rng, True, False)
    return {"x": x}, form, last, in_torch


def compare(found: Any, expected: Any, dtype: Any) -> None:
    found = found if isinstance(found, tuple) else (found,)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for got, want in zip(found, expected, strict=True):
        assert got.shape == want.shape
        if want.dtype == np.int64:
            np.testing.assert_array_equal(got, want)
        else:
            assert got.dtype == dtype
            tolerance = 2e-5 if dtype == np.float32 else 1e-12
            largest = float(np.abs(want[np.isfinite(want)]).max(initial=1))
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * largest)


def by_torch(name: str, arrays: dict[str, Any], form: dict[str, Any], grad: np.ndarray | None) -> Any:
    """The result and, given grad_output, the gradient, both in the dtype of x."""
    tensors = {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}
    tensors["x"].requires_grad_(grad is not None)
    others = [tensors["indices"]] if "indices" in tensors else []
    norm = [form["norm_type"]] if "norm_type" in form else []
    options = {key: value for key, value in form.items() if key != "norm_type"}
    if name == "lp_pool1d":  # which takes no tuple
        (options["kernel_size"],) = as_tuple(options["kernel_size"], 1)
    y = getattr(F, name)(tensors["x"], *others, *norm, **options)
    several = isinstance(y, tuple)
    results = tuple(item.detach().numpy() for item in (y if several else (y,)))
    first = y[0] if several else y
    gradient = None
    if grad is not None:
        (gradient,) = torch.autograd.grad(first, tensors["x"], torch.from_numpy(grad), allow_unused=True)
        gradient = np.zeros_like(arrays["x"]) if gradient is None else gradient.numpy()
    return results if several else results[0], gradient


def by_reference(name: str, arrays: dict[str, Any], form: dict[str, Any], grad: np.ndarray | None) -> Any:
    with np.errstate(all="ignore"):
        wide = {key: value.astype(np.float64) if value.dtype.kind == "f" else value for key, value in arrays.items()}
        y = getattr(reference, name)(**wide, **form)
        if grad is None:
            return y, None
        return y, backward(reference, name, wide, form, grad.astype(np.float64), None)


def backward(
    module: Any, name: str, arrays: dict[str, Any], form: dict[str, Any], grad: np.ndarray, indices: Any
) -> Any:
    function = getattr(module, f"{name}_backward")
    if "indices" in arrays:
        return function(grad, arrays["indices"])
    options = {key: value for key, value in form.items() if key != "return_indices"}
    given = {} if indices is None else {"indices": indices}
    return function(grad, **arrays, **options, **given)


def check(rng: Rng, family: str, rank: int) -> bool:
    """Compare one draw; false where it is refused, by both."""
    arrays, form, last, in_torch = draw(rng, family, rank)
    if "indices" not in arrays and family == "max_unpool":
        return False
    name, x = f"{family}{rank}d", arrays["x"]
    axis = -rank - 1  # of the channels, where torch has them
    given = {"x": np.ascontiguousarray(np.moveaxis(x, axis, -1))} if last else arrays
    plain = {key: value for key, value in form.items() if key != "data_format"}
    back = (lambda a: np.moveaxis(a, -1, axis)) if last else (lambda a: a)
    try:
        found = getattr(fastdl, name)(**given, **form)
    except ValueError as error:
        if in_torch:
            with pytest.raises((RuntimeError, ValueError)):
                by_torch(name, arrays, plain, None)
        assert str(error).startswith(("kernel_size: found", "output_size: found"))  # noqa: PT017
        return False
    y = found[0] if isinstance(found, tuple) else found
    grad = numbers(rng, y.shape, x.dtype, False)
    if family == "max_pool":  # where a window sees nothing but padding torch makes up a position
        in_torch &= bool((getattr(fastdl, name)(**given, **form | {"return_indices": True})[1] >= 0).all())
    grad_there = np.ascontiguousarray(back(grad))
    try:
        expected, gradient = (by_torch if in_torch else by_reference)(name, arrays, plain, grad_there)
    except RuntimeError as error:
        assert any(said in str(error) for said in _REFUSED_BY_TORCH), error  # noqa: PT017
        expected, gradient = by_reference(name, arrays, plain, grad_there)
    compare(tuple(map(back, found)) if isinstance(found, tuple) else back(found), expected, x.dtype)
    indices = found[1] if isinstance(found, tuple) and rng.random() < 0.5 else None
    compare(back(backward(fastdl, name, given, form, grad, indices)), gradient, x.dtype)
    if not isinstance(found, tuple):
        out = np.full_like(found, 7)
        assert getattr(fastdl, name)(**given, **form, out=out) is out
        np.testing.assert_array_equal(out, found)
    return True


@pytest.mark.parametrize(("family", "rank"), itertools.product(FAMILIES, (1, 2, 3)))
def test_options_at_random(family: str, rank: int) -> None:
    done = 0
    for seed in range(DRAWS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                done += check(np.random.default_rng((seed, rank)), family, rank)
            except Exception as error:
                raise AssertionError(f"{family}{rank}d, seed {seed}: {error}") from error
    assert done > DRAWS / 4
