"""torch's own samples of its layers (ModuleInfo), results and gradients, for every layer that both libraries have.

A sample that is not compared stands in _SKIPPED with the reason. `python -m tests.test_moduleinfo` counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fastdl import nn

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("expecttest", reason="torch's samples need expecttest")
module_db = pytest.importorskip("torch.testing._internal.common_modules").module_db

MODULES = [info for info in module_db if hasattr(nn, info.module_cls.__name__)]

Reason = Callable[[Any], "str | None"]


def _adds_keys(sample: Any) -> str | None:
    options = sample.constructor_input.kwargs
    return "keys that are added" if options.get("add_bias_kv") or options.get("add_zero_attn") else None


_SKIPPED: dict[str, Reason] = {
    "MultiheadAttention": _adds_keys,
    "TransformerEncoderLayer": lambda sample: (
        "a function of torch" if any(map(callable, sample.constructor_input.args)) else None
    ),
    "TransformerEncoder": lambda sample: "a layer of torch (see test_nn_attention)",
}


def _to_numpy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().numpy().copy()
    if isinstance(value, (tuple, list)):
        return type(value)(map(_to_numpy, value))
    return value


def _keywords(kwargs: dict[str, Any]) -> dict[str, Any]:
    """A constructor's keywords without torch's dtype and device."""
    return {key: _to_numpy(value) for key, value in kwargs.items() if key not in ("dtype", "device")}


def _tensors(value: Any) -> list[Any]:
    """The tensors of a result or an argument that is one, or a tuple of such."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for item in value for t in _tensors(item)] if isinstance(value, (tuple, list)) else []


def _build(info: Any, sample: Any, training: bool) -> tuple[Any, Any]:
    """The two networks, with the same parameters and buffers."""
    arguments = sample.constructor_input
    by_torch = info.module_cls(*arguments.args, **arguments.kwargs)
    by_torch = by_torch.to(torch.float64).train(training)
    layer = getattr(nn, info.module_cls.__name__)
    args, kwargs = _to_numpy(tuple(arguments.args)), _keywords(arguments.kwargs)
    if (
        by_torch.state_dict() and next(iter(by_torch.parameters()), None) is not None
    ) or "running_mean" in by_torch.state_dict():
        kwargs["dtype"] = np.float64
    made = layer(*args, **kwargs)
    made.load_state_dict({name: value.numpy() for name, value in by_torch.state_dict().items()})
    return by_torch, made.train(training)


def _close(found: Any, expected: Any, what: str) -> None:
    about = lambda message: f"{what}: {message}"  # noqa: E731
    torch.testing.assert_close(torch.from_numpy(np.asarray(found)), expected.detach(), equal_nan=True, msg=about)


def _compare(info: Any, sample: Any, training: bool) -> None:
    by_torch, made = _build(info, sample, training)
    given = sample.forward_input
    if isinstance(made, nn.MultiheadAttention):  # which has no weights to return
        given.kwargs["need_weights"] = False
    # A loss has no gradient in its target, and no other layer in more than its first argument and the states.
    loss = hasattr(by_torch, "reduction")
    inputs = given.args[:-1] if loss else given.args
    named = {key: value for key, value in given.kwargs.items() if key == "input"}
    leaves = [t.detach().clone().requires_grad_(t.is_floating_point()) for t in _tensors((*inputs, *named.values()))]
    again = iter(leaves)

    def leaf(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return next(again)
        return type(value)(map(leaf, value)) if isinstance(value, (tuple, list)) else value

    args = [*map(leaf, inputs), *(given.args[len(inputs) :])]
    expected = by_torch(*args, **given.kwargs | {key: leaf(value) for key, value in named.items()})
    actual = made(*_to_numpy(tuple(given.args)), **{k: _to_numpy(v) for k, v in given.kwargs.items()})
    results = _tensors(expected)
    flat = _flat(actual)
    assert len(flat) == len(results)
    for i, (got, want) in enumerate(zip(flat, results, strict=True)):
        _close(got, want, f"result {i}")
    for name, value in by_torch.state_dict().items():
        _close(made.state_dict()[name], value, name)
    result = results[0]
    if not result.requires_grad:
        return
    rng = np.random.default_rng(0)
    grad_output = torch.from_numpy(np.asarray(rng.standard_normal(tuple(result.shape))))
    wanted = [t for t in leaves if t.requires_grad]
    parameters = dict(by_torch.named_parameters())
    found = torch.autograd.grad(result, [*wanted, *parameters.values()], grad_output, allow_unused=True)
    grad: Any
    if isinstance(actual, tuple) and not isinstance(made, nn.LSTMCell):
        grad = made.backward(grad_output.numpy())
    else:
        given_grad = grad_output.numpy()
        grad = made.backward((given_grad, np.zeros_like(given_grad)) if isinstance(made, nn.LSTMCell) else given_grad)
    state_grad = getattr(made, "state_grad", None) if len(_tensors(inputs)) > 1 and not loss else None
    grads = [*_flat(grad), *(_flat(state_grad) if state_grad is not None else [])]
    for i, (got, want) in enumerate(zip(grads, found[: len(wanted)], strict=True)):
        if want is not None:
            _close(got, want, f"gradient of argument {i}")
    for name, want in zip(parameters, found[len(wanted) :], strict=True):
        if want is not None:
            _close(made.grads[name], want, f"gradient of {name}")


def _flat(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [a for item in value for a in _flat(item)]
    return [] if value is None else [value]


def _outcomes(info: Any) -> Iterator[tuple[Any, str | None, str | None]]:
    """For each sample: it, why it is skipped, what is wrong."""
    for training in (True, False):
        samples = info.module_inputs_func(
            info, device="cpu", dtype=torch.float64, requires_grad=False, training=training
        )
        for sample in samples:
            try:
                reason = _SKIPPED.get(info.module_cls.__name__, lambda sample: None)(sample)
                if reason is None:
                    _compare(info, sample, training)
            except Exception as error:
                yield sample, None, f"{type(error).__name__}: {error}"
            else:
                yield sample, reason, None


@pytest.mark.parametrize("info", [pytest.param(info, id=info.module_cls.__name__) for info in MODULES])
def test_agrees_with_torch(info: Any) -> None:
    outcomes = list(_outcomes(info))
    assert outcomes, "no samples"
    wrong = [f"{_words(sample)}\n    {error}" for sample, _, error in outcomes if error]
    assert not wrong, f"{len(wrong)} of {len(outcomes)} samples:\n" + "\n".join(wrong[:5])


def _words(sample: Any) -> str:
    shapes = [tuple(t.shape) for t in _tensors(sample.forward_input.args)]
    made = sample.constructor_input
    return f"{made.args} {made.kwargs} of {shapes} {sample.forward_input.kwargs}"


def _count() -> None:
    agree = skipped = total = 0
    for info in MODULES:
        outcomes = list(_outcomes(info))
        wrong = [(sample, error) for sample, _, error in outcomes if error]
        without = sum(reason is not None for _, reason, _ in outcomes)
        skipped += without
        agree += len(outcomes) - len(wrong) - without
        total += len(outcomes)
        if wrong:
            print(f"{info.module_cls.__name__}: {len(wrong)} of {len(outcomes)}")
            seen = {error.splitlines()[0][:150]: sample for sample, error in wrong}
            print("\n".join(f"    {line}\n        {_words(sample)[:200]}" for line, sample in list(seen.items())[:5]))
    print(f"{agree} of {total - skipped} samples agree ({agree / (total - skipped):.2%}), {skipped} skipped")


if __name__ == "__main__":
    _count()
