"""torch's own samples of its functions (OpInfo), forward and gradients, for every function that both libraries have.

A sample that is not compared stands in _SKIPPED with the reason. `python -m tests.test_opinfo` counts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl.functional._operation import OPERATIONS

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("expecttest", reason="torch's samples need expecttest")
op_db = pytest.importorskip("torch.testing._internal.common_methods_invocations").op_db

_NAMES = {"unfold": "im2col", "fold": "col2im"}
"""What fastdl calls differently."""
_OTHERS = {"take", "cat", "embedding", "scaled_dot_product_attention"}
"""What means something else there (fastdl's is index_select along dimension 0), what takes a list of tensors, what has
its arguments in another order in these samples, and whose gradient takes what forward saves: test_torch compares these.
"""


def _function(op: Any) -> str | None:
    """The name of fastdl's function of the same name and meaning."""
    if op.name not in ("unfold",) and op.name.removeprefix("nn.functional.").isidentifier():
        name = _NAMES.get(op.name.removeprefix("nn.functional."), op.name.removeprefix("nn.functional."))
        if name in OPERATIONS and name not in _OTHERS and op.supports_dtype(torch.float64, "cpu"):
            return name
    return None


OPS = [(op, name) for op in op_db if (name := _function(op))]


def _no_skip(name: str, given: dict[str, Any]) -> str | None:
    return None


def _negative_eps(name: str, given: dict[str, Any]) -> str | None:
    return "torch takes a negative eps, which makes NaN" if (given.get("eps") or 0) < 0 else None


def _torch_norms(name: str, given: dict[str, Any]) -> str | None:
    if given["x"].ndim < 2:
        return "torch takes an array without channels if it is empty"
    return "torch takes a momentum below 0" if (given.get("momentum") or 0) < 0 else None


def _random(name: str, given: dict[str, Any]) -> str | None:
    if given.get("training", True) and 0 < given.get("p", 0.5) < 1:
        return "random: the masks are of other generators"
    return None


def _rounded(name: str, given: dict[str, Any]) -> str | None:
    return "quotients that are rounded" if given.get("rounding_mode") else None


_SKIPPED: dict[str, Callable[[str, dict[str, Any]], str | None]] = {
    "div": _rounded,
    **dict.fromkeys(("group_norm", "layer_norm", "rms_norm"), _negative_eps),
    **dict.fromkeys(("batch_norm", "instance_norm"), _torch_norms),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"), _random),
}


def _to_numpy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, (tuple, list)):
        return type(value)(map(_to_numpy, value))
    return value


_TORCH_PARAMETERS = {
    "cross_entropy": "x target weight size_average ignore_index reduce reduction label_smoothing",
    "nll_loss": "x target weight size_average ignore_index reduce reduction",
    "binary_cross_entropy": "x target weight size_average reduce reduction",
    "binary_cross_entropy_with_logits": "x target weight size_average reduce reduction pos_weight",
    "kl_div": "x target size_average reduce reduction log_target",
    "mse_loss": "x target size_average reduce reduction",
    "l1_loss": "x target size_average reduce reduction",
    "smooth_l1_loss": "x target size_average reduce reduction beta",
    "hinge_embedding_loss": "x target margin size_average reduce reduction",
    "cosine_embedding_loss": "x1 x2 target margin size_average reduce reduction",
    "max_pool1d": "x kernel_size stride padding dilation ceil_mode return_indices",
    "max_pool2d": "x kernel_size stride padding dilation ceil_mode return_indices",
    "max_pool3d": "x kernel_size stride padding dilation ceil_mode return_indices",
    "leaky_relu": "x negative_slope inplace",
    "where": "x condition other",
    "softmax": "x dim dtype",
    "log_softmax": "x dim dtype",
}
"""Where torch's order of parameters is not fastdl's."""
_IGNORED = {"rounding_mode": None, "size_average": None, "reduce": None, "inplace": False, "use_global_stats": None}
"""torch's parameters without a counterpart, and the value at which they say nothing."""


def _given(name: str, sample: Any) -> dict[str, Any]:
    """A sample as arguments of fastdl's function, by name; tensors stay."""
    names = list(inspect.signature(OPERATIONS[name]).parameters)
    order = _TORCH_PARAMETERS.get(name, " ".join(names)).split()
    values = dict(zip(order, (sample.input, *sample.args), strict=False)) | sample.kwargs
    values = {("x" if key == "input" else key): value for key, value in values.items()}
    for key, silent in _IGNORED.items():
        if key in values and key not in names and values[key] is silent:
            del values[key]
    if "dtype" in values:  # the caller's to convert
        values["x"] = values["x"].to(values.pop("dtype") or values["x"].dtype)
    return values


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _data(name: str) -> set[str]:
    """Floating-point arguments that there is no gradient in: targets and weights of losses, running statistics."""
    loss = "target" in inspect.signature(OPERATIONS[name]).parameters
    return {"target", "weight", "pos_weight"} if loss else {"running_mean", "running_var"}


def _compare(op: Any, name: str, sample: Any) -> None:
    given = _given(name, sample)
    floats = {key: value.detach().clone() for key, value in given.items() if _is_float(value)}
    leaves = {key: value.requires_grad_() for key, value in floats.items() if key not in _data(name)}
    by_torch = given | floats
    swap = lambda value: next((by_torch[k] for k, v in given.items() if v is value), value)  # noqa: E731
    args = [swap(value) if isinstance(value, torch.Tensor) else value for value in sample.args]
    kwargs = {k: swap(v) if isinstance(v, torch.Tensor) else v for k, v in sample.kwargs.items()}
    first = next(iter(by_torch.values()))
    if kwargs.get("dtype"):
        first = first.to(kwargs.pop("dtype"))
    expected = op(first, *args, **kwargs)
    several = isinstance(expected, tuple)
    arrays = {key: np.array(_to_numpy(v)) if isinstance(v, torch.Tensor) else _to_numpy(v) for key, v in given.items()}
    actual = getattr(fastdl, name)(**{k: v.copy() if isinstance(v, np.ndarray) else v for k, v in arrays.items()})
    for got, want in zip(actual if several else (actual,), expected if several else (expected,), strict=True):
        torch.testing.assert_close(torch.from_numpy(np.asarray(got)), want.detach(), equal_nan=True)
    result = expected[0] if several else expected
    if f"{name}_backward" not in OPERATIONS or not result.requires_grad:
        return
    rng = np.random.default_rng(0)
    grad_output = torch.from_numpy(np.asarray(rng.standard_normal(tuple(result.shape)), _to_numpy(result).dtype))
    found = torch.autograd.grad(result, list(leaves.values()), grad_output, allow_unused=True)
    grads = dict(zip(leaves, found, strict=True))
    backward = inspect.signature(OPERATIONS[f"{name}_backward"]).parameters
    call = {key: value for key, value in arrays.items() if key in backward}
    call["grad_output"] = grad_output.numpy()
    if "y" in backward:
        call["y"] = np.asarray(actual)
    if "shape" in backward:
        call["shape"] = arrays["x"].shape
    if several and "indices" in backward:
        call["indices"] = actual[1]
    returned = OPERATIONS[f"{name}_backward"](**call)
    if isinstance(returned, tuple) and not hasattr(returned, "_asdict"):  # of x and the other
        names = [key for key in backward if key in ("x", "other", "exponent")]
        fields = {{"x": "input"}.get(key, key): grad for key, grad in zip(names, returned, strict=True)}
    else:
        fields = returned._asdict() if isinstance(returned, tuple) else {"input": returned}
    for field, got in fields.items():
        want = grads.get({"input": "x"}.get(field, field))
        if want is not None:
            torch.testing.assert_close(
                torch.from_numpy(np.asarray(got)), want, equal_nan=True, msg=lambda m, f=field: f"gradient of {f}: {m}"
            )
    missing = [k for k, g in grads.items() if g is not None and {"x": "input"}.get(k, k) not in fields]
    assert not missing, f"no gradient of {missing}"


def _samples(op: Any) -> Iterator[Any]:
    yield from op.sample_inputs("cpu", torch.float64, requires_grad=False)


def _outcomes(op: Any, name: str) -> Iterator[tuple[Any, str | None, str | None]]:
    """For each sample: it, why it is skipped, what is wrong."""
    for sample in _samples(op):
        try:
            reason = _SKIPPED.get(name, _no_skip)(name, _given(name, sample))
            if reason is None:
                _compare(op, name, sample)
        except Exception as error:
            yield sample, None, f"{type(error).__name__}: {error}"
        else:
            yield sample, reason, None


@pytest.mark.parametrize(("op", "name"), [pytest.param(op, name, id=op.full_name) for op, name in OPS])
def test_agrees_with_torch(op: Any, name: str) -> None:
    outcomes = list(_outcomes(op, name))
    assert outcomes, "no samples"
    wrong = [f"{sample}\n    {error}" for sample, _, error in outcomes if error]
    assert not wrong, f"{len(wrong)} of {len(outcomes)} samples:\n" + "\n".join(wrong[:5])


def _count() -> None:
    agree = skipped = total = 0
    for op, name in OPS:
        outcomes = list(_outcomes(op, name))
        wrong = [error for _, _, error in outcomes if error]
        skipped += sum(reason is not None for _, reason, _ in outcomes)
        agree += len(outcomes) - len(wrong) - sum(reason is not None for _, reason, _ in outcomes)
        total += len(outcomes)
        if wrong:
            print(f"{op.full_name}: {len(wrong)} of {len(outcomes)}")
            seen = {error.splitlines()[0][:160]: error for error in wrong}
            print("\n".join(f"    {line}" for line in list(seen)[:6]))
    print(f"{agree} of {total - skipped} samples agree ({agree / (total - skipped):.2%}), {skipped} skipped")


if __name__ == "__main__":
    _count()
