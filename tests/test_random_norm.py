"""Normalization, losses and linear with shapes and options drawn at random, sizes of 0 and 1 and every option beside
every other among them, forward and gradients, against torch in float64.

Numbers are multiples of 1/4, so that differences of any two are exact; some draws have NaN and infinity in places.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdl

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional

Rng = np.random.Generator
Call = tuple[str, dict[str, Any]]
DRAWS = 400
"""Of each family."""
REDUCTIONS = ("mean", "sum", "none")
ELEMENTWISE = (
    "mse_loss",
    "l1_loss",
    "huber_loss",
    "smooth_l1_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "kl_div",
    "hinge_embedding_loss",
    "cosine_embedding_loss",
)


def finite(rng: Rng, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.asarray(rng.integers(-12, 13, shape) / 4, dtype)


def numbers(rng: Rng, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    x = finite(rng, shape, dtype)
    if x.size and rng.random() < 0.1:
        x.ravel()[rng.integers(x.size, size=2)] = rng.choice([np.nan, np.inf, -np.inf], 2)
    return x


def positive(rng: Rng, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.asarray(rng.integers(1, 13, shape) / 4, dtype)


def size(rng: Rng, most: int = 20) -> int:
    """Half of them are the sizes that are special."""
    return int(rng.choice([0, 1, 1, 1, 2, 2, 3, 4])) if rng.random() < 0.5 else int(rng.integers(1, most + 1))


def sizes(rng: Rng, count: int) -> tuple[int, ...]:
    return tuple(size(rng, 300 if i == count - 1 and rng.random() < 0.1 else 20 // count) for i in range(count))


def maybe(rng: Rng, value: Any) -> Any:
    return value if rng.random() < 0.5 else None


def written(rng: Rng, shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
    return {"out": np.full(shape, np.nan, dtype)} if rng.random() < 0.3 else {}


def draw_norm(rng: Rng) -> Call:
    name = str(rng.choice(["batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"]))
    dtype = rng.choice([np.float32, np.float64])
    shape = (size(rng, 4), size(rng, 8), *sizes(rng, int(rng.integers(0, 4))))
    form: dict[str, Any] = {"eps": float(rng.choice([1e-5, 1e-3, 0.5]))} if rng.random() < 0.7 else {}
    params: tuple[int, ...] = shape[1:2]
    if name in ("layer_norm", "rms_norm"):
        params = shape[-int(rng.integers(1, len(shape) + 1)) :]
        form["normalized_shape"] = params[0] if len(params) == 1 and rng.random() < 0.5 else params
    if name == "group_norm":
        divisors = [n for n in range(1, shape[1] + 1) if shape[1] % n == 0]
        form["num_groups"] = int(rng.choice(divisors)) if divisors else 1
    if name in ("batch_norm", "instance_norm"):
        option = "training" if name == "batch_norm" else "use_input_stats"
        form[option] = bool(rng.random() < 0.6)
        if not form[option] or rng.random() < 0.5:
            form |= {"running_mean": finite(rng, params, dtype), "running_var": positive(rng, params, dtype)}
        if rng.random() < 0.5:
            form["momentum"] = float(rng.choice([0.0, 0.1, 0.5, 1.0]))
    form["weight"] = maybe(rng, finite(rng, params, dtype))
    if name != "rms_norm":
        form["bias"] = maybe(rng, finite(rng, params, dtype))
    return name, {"x": numbers(rng, shape, dtype), **form, **written(rng, shape, dtype)}


def broadcastable(rng: Rng, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    shape = shape[int(rng.integers(0, len(shape) + 1)) :]
    return positive(rng, tuple(n if rng.random() < 0.7 else 1 for n in shape), dtype)


def draw_elementwise(rng: Rng) -> Call:
    name = str(rng.choice(ELEMENTWISE))
    dtype = rng.choice([np.float32, np.float64])
    reduction = str(rng.choice(REDUCTIONS))
    form: dict[str, Any] = {"reduction": reduction} if rng.random() < 0.8 else {}
    if name == "cosine_embedding_loss":
        shape = sizes(rng, int(rng.integers(1, 3)))
        rows = shape[:-1]
        form |= {"x1": positive(rng, shape, dtype), "x2": numbers(rng, shape, dtype)}
        form |= {"target": np.asarray(rng.choice([-1, 1], rows), dtype)}
        if rng.random() < 0.5:
            form["margin"] = float(rng.choice([-0.5, 0.0, 0.5]))
        return name, form | written(rng, rows if form.get("reduction") == "none" else (), dtype)
    shape = sizes(rng, int(rng.integers(0, 5)))
    x, target = numbers(rng, shape, dtype), numbers(rng, shape, dtype)
    if name == "huber_loss" and rng.random() < 0.7:
        form["delta"] = float(rng.choice([0.25, 1.0, 2.5]))
    if name == "smooth_l1_loss" and rng.random() < 0.7:
        form["beta"] = float(rng.choice([0.0, 0.25, 1.0, 2.5]))
    if name == "hinge_embedding_loss":
        target = np.asarray(rng.choice([-1, 1], shape), dtype)
        if rng.random() < 0.7:
            form["margin"] = float(rng.choice([-0.5, 0.0, 0.6]))
    if name == "kl_div":
        target = np.asarray(np.abs(target))
        form["log_target"] = bool(rng.random() < 0.5)
        if shape and rng.random() < 0.3:
            form["reduction"] = "batchmean"
    if name.startswith("binary"):
        target = np.asarray(rng.random(shape), dtype)
        x = np.asarray(rng.choice([0, 0.25, 0.5, 0.99, 1], shape), dtype) if "logits" not in name else x
        form["weight"] = maybe(rng, broadcastable(rng, shape, dtype))
        if "logits" in name:
            x[np.isinf(x)] = 0  # where torch has NaN: its formula subtracts infinity from itself
            form["pos_weight"] = maybe(rng, broadcastable(rng, shape, dtype))
    result = shape if form.get("reduction") == "none" else ()
    return name, {"x": x, "target": target, **form, **written(rng, result, dtype)}


def draw_classes(rng: Rng) -> Call:
    name = str(rng.choice(["nll_loss", "cross_entropy", "cross_entropy"]))
    dtype = rng.choice([np.float32, np.float64])
    classes, rank = max(1, size(rng, 40)), int(rng.integers(0, 4))
    rows = () if rank == 0 else (size(rng, 9), *(size(rng, 70 if rank == 2 else 9) for _ in range(rank - 1)))
    shape = (*rows[:1], classes, *rows[1:])
    target: Any = rng.integers(0, classes, rows)
    form: dict[str, Any] = {"weight": maybe(rng, positive(rng, (classes,), dtype))}
    if rng.random() < 0.8:
        form["reduction"] = str(rng.choice(REDUCTIONS))
    if name == "cross_entropy" and rng.random() < 0.4:
        form["label_smoothing"] = float(rng.choice([0.0, 0.1, 1.0]))
    if name == "cross_entropy" and rng.random() < 0.3:
        target = np.asarray(rng.random(shape), dtype)
    elif rng.random() < 0.5:
        form["ignore_index"] = int(rng.choice([-1, -100, rng.integers(0, classes)]))
        target = np.where(rng.random(rows) < 0.3, form["ignore_index"], target)
        target = target.tolist() if target.size and rng.random() < 0.2 else target
    result = rows if form.get("reduction") == "none" else ()
    return name, {"x": numbers(rng, shape, dtype), "target": target, **form, **written(rng, result, dtype)}


def draw_linear(rng: Rng) -> Call:
    dtype = rng.choice([np.float32, np.float64])
    first, (features, out) = sizes(rng, int(rng.integers(0, 4))), (size(rng, 70), size(rng, 40))
    form: dict[str, Any] = {"bias": maybe(rng, numbers(rng, (out,), dtype))}
    if rng.random() < 0.2:
        form["activation"] = str(rng.choice(["relu", "tanh", "gelu"]))
    x, weight = numbers(rng, (*first, features), dtype), numbers(rng, (out, features), dtype)
    return "linear", {"x": x, "weight": weight, **form, **written(rng, (*first, out), dtype)}


FAMILIES: dict[str, Callable[[Rng], Call]] = {
    "normalization": draw_norm,
    "elementwise": draw_elementwise,
    "classes": draw_classes,
    "linear": draw_linear,
}


def grad_names(name: str) -> list[str]:
    """The arguments that there is a gradient in, in the order of the backward's results."""
    if name == "linear" or name.endswith("_norm"):
        return ["x", "weight"] if name == "rms_norm" else ["x", "weight", "bias"]
    return ["x1", "x2"] if name == "cosine_embedding_loss" else ["x"]


def by_torch(name: str, arguments: dict[str, Any], grad_output: Any = None) -> tuple[list[Any], list[Any]]:
    """The result, and what is updated; the gradients (None: of an argument that is not there)."""
    given = {k: v for k, v in arguments.items() if k not in ("out", "activation")}
    if name == "batch_norm":
        given = {"running_mean": None, "running_var": None} | given
    if name == "rms_norm":
        given.setdefault("eps", float(np.finfo(arguments["x"].dtype).eps))
    tensors: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(value, np.ndarray) or (key == "target" and isinstance(value, (list, int))):
            value = torch.from_numpy(np.array(value))
            value = value.double() if value.is_floating_point() else value
        tensors[key] = value
    leaves = [tensors.get(key) for key in grad_names(name)]
    for leaf in leaves:
        if leaf is not None:
            leaf.requires_grad_()
    if isinstance(tensors.get("normalized_shape"), int):
        tensors["normalized_shape"] = (tensors["normalized_shape"],)
    first = [tensors.pop(key) for key in ("x", "x1", "x2", "target") if key in tensors]
    y = getattr(F, name)(*first, **tensors)
    if "activation" in arguments:
        y = getattr(F if arguments["activation"] == "gelu" else torch, arguments["activation"])(y)
    updates = [tensors[key].numpy() for key in ("running_mean", "running_var") if tensors.get(key) is not None]
    grads: list[Any] = []
    if grad_output is not None:
        there = [leaf for leaf in leaves if leaf is not None]
        found = iter(
            torch.autograd.grad(y, there, torch.from_numpy(np.array(grad_output, np.float64)), allow_unused=True)
        )
        grads = [None if leaf is None else next(found) for leaf in leaves]
        grads = [g if g is None else g.numpy() for g in grads]
    return [y.detach().numpy(), *updates], grads


def agree(found: Any, expected: Any, dtype: Any, what: str) -> None:
    found = np.asarray(found)
    assert found.dtype == dtype, what
    assert found.shape == expected.shape, what
    finite = np.abs(expected[np.isfinite(expected)])
    allowed = (2e-5 if dtype == np.float32 else 1e-12) * max(1.0, float(finite.max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=allowed, err_msg=what)


def compare(name: str, arguments: dict[str, Any], rng: Rng) -> bool:
    """False where both refuse the call."""
    shown = f"{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"
    dtype = next(v.dtype for v in arguments.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f")
    try:
        expected, _ = by_torch(name, arguments)
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError):
        if arguments["x"].size > 0:  # torch trips over some that are empty
            with pytest.raises(ValueError):  # noqa: PT011
                getattr(fastdl, name)(**arguments)
        return False
    copies = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    y = getattr(fastdl, name)(**copies)
    assert "out" not in copies or y is copies["out"]
    updates = [copies[key] for key in ("running_mean", "running_var") if key in copies]
    for found, want in zip([y, *updates], expected, strict=True):
        agree(found, want, dtype, shown)
    if "activation" in arguments:
        return True
    if name in ("group_norm", "instance_norm") and y.size == 0:
        return True  # torch takes the sum of no gradients for NaN
    if name == "group_norm" and arguments["weight"] is None:  # torch's gradient fails with a bias alone
        arguments = arguments | {"bias": None}
    grad_output = np.asarray(rng.integers(-4, 5, np.shape(y)) / 4, dtype)
    _, grads = by_torch(name, arguments, grad_output)
    backward = getattr(fastdl, f"{name}_backward")
    given = {k: v for k, v in arguments.items() if k in inspect.signature(backward).parameters and k != "out"}
    found = backward(grad_output, **given)
    for got, want in zip(found if isinstance(found, tuple) else (found,), grads, strict=True):
        if want is not None:
            agree(got, want, dtype, f"{shown} backward of {grad_output!r}")
    return True


@pytest.mark.parametrize("family", FAMILIES)
def test_draws(family: str) -> None:
    compared = 0
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        compared += compare(*FAMILIES[family](rng), rng)
    assert compared > 0.7 * DRAWS


def main(first: int, last: int) -> None:
    """Draws of each family, of which those that fail are printed: python -c "...main(0, 10_000)"."""
    for family, draw in FAMILIES.items():
        failed = 0
        for seed in range(first, last):
            rng = np.random.default_rng(seed)
            try:
                compare(*draw(rng), rng)
            except (Exception, pytest.fail.Exception) as error:
                failed += 1
                if failed <= 10:
                    print(f"{family} {seed}: {type(error).__name__} {str(error)[:1500]}\n")
        print(f"{family}: {failed} of {last - first} failed")
