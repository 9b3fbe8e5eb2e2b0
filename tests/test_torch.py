"""Outputs and gradients against PyTorch in float64, NaN and infinities included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.cases import Case, all_cases
from tests.cases.conv import convolution
from tests.cases.pooling import pooling
from tests.support import DTYPES, parameters

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional


def _linear(x: Any, weight: Any, bias: Any, activation: str = "none") -> Any:
    y = F.linear(x, weight, bias)
    return F.relu(y) if activation == "relu" else y


def _conv2d(x: Any, weight: Any, bias: Any, activation: str = "none", algorithm: str = "auto", **geometry: Any) -> Any:
    y = F.conv2d(x, weight, bias, **geometry)
    return F.relu(y) if activation == "relu" else y


_TORCH: dict[str, Callable[..., Any]] = {
    "relu": lambda x: F.relu(x),
    "softmax": lambda x, dim: F.softmax(x, dim),
    "log_softmax": lambda x, dim: F.log_softmax(x, dim),
    "linear": _linear,
    "conv2d": _conv2d,
    "im2col": lambda x, **window: F.unfold(x, **window),
    "col2im": lambda columns, **window: F.fold(columns, **window),
    "max_pool2d": lambda x, **window: F.max_pool2d(x, **window),
    "cross_entropy": lambda x, target, reduction: F.cross_entropy(x, target, reduction=reduction),
}


def _tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return (
        torch.from_numpy(value.astype(np.float64)).requires_grad_() if value.dtype.kind == "f" else torch.tensor(value)
    )


def _check(case: Case, dtype: Any) -> None:
    """The forward and, where there is one, the backward, each within the case's own tolerance."""
    arguments = case.make(dtype, np.random.default_rng(3))
    tensors = {name: _tensor(value) for name, value in arguments.items()}
    y = _TORCH[case.operation](**tensors)
    case.check(case.run(arguments), arguments, (y.detach().numpy(),))
    if case.backward:
        backward = case.backward.make(dtype, np.random.default_rng(3))
        if "y" in backward and dtype == np.float32:
            return  # given the rounded y, where torch has its own in float64
        y.backward(_tensor(backward["grad_output"]))
        grads = case.backward.run(backward)
        inputs = [tensors[n] for n, v in arguments.items() if v is None or getattr(v, "dtype", None) == dtype]
        # Without a bias torch has no gradient for it; the sum over the rest is the reference's to check.
        expected = tuple(
            grad.astype(np.float64) if x is None else x.grad.numpy() for x, grad in zip(inputs, grads, strict=True)
        )
        case.backward.check(grads, backward, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "case", parameters(c for c in all_cases() if c.operation in _TORCH and "padding-only" not in c.tags)
)
def test_cases(case: Case, dtype: Any) -> None:
    _check(case, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", parameters(all_cases("sgd_step")))
def test_sgd(case: Case, dtype: Any) -> None:
    arguments = case.make(dtype, np.random.default_rng(3))
    options = {name: value for name, value in case.parameters.items() if name != "step"}
    param = _tensor(arguments["param"])
    optimizer = torch.optim.SGD([param], **options)
    if case.parameters.get("step", 1) > 1:
        optimizer.state[param]["momentum_buffer"] = _tensor(arguments["momentum_buffer"]).detach()
    param.grad = _tensor(arguments["grad"]).detach()
    optimizer.step()
    expected = [param.detach().numpy()]
    if "momentum_buffer" in case.updates:
        expected.append(optimizer.state[param]["momentum_buffer"].numpy())
    case.check(case.run(arguments), arguments, tuple(expected))


def _pairs(least: int, most: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(*[st.integers(least, most)] * 2)


@st.composite
def _images(draw: Any, channels: int, kernel: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    """A shape into which the kernel fits, often only just."""
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, padding, dilation, strict=True)]
    height, width = (draw(st.integers(n, n + extra)) for n, extra in zip(least, (6, 36), strict=True))
    return draw(st.integers(0, 3)), channels, height, width


@st.composite
def _convolutions(draw: Any) -> Case:
    groups, kernel, dilation, padding = (
        draw(st.integers(1, 4)),
        draw(_pairs(1, 4)),
        draw(_pairs(1, 3)),
        draw(_pairs(0, 4)),
    )
    x = draw(_images(groups * draw(st.integers(1, 18)), kernel, padding, dilation))
    return convolution(
        x,
        groups * draw(st.integers(1, 18)),
        kernel,
        bias=draw(st.booleans()),
        stride=draw(_pairs(1, 4)),
        padding=padding,
        dilation=dilation,
        groups=groups,
        algorithm=draw(st.sampled_from(["auto", "direct", "im2col"])),
    )


_EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)


@_EXAMPLES
@given(_convolutions(), st.sampled_from([np.float32, np.float64]))
def test_any_convolution(case: Case, dtype: Any) -> None:
    _check(case, dtype)


def _ties_and_nan(shape: tuple[int, ...]) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.choice([-np.inf, -1.0, 0.0, 1.0, np.nan], shape, p=[0.1, 0.3, 0.3, 0.2, 0.1])


def _padding_only(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> bool:
    """Does any window miss the image? torch's backward then writes outside its arrays."""
    return any(
        all(not 0 <= start + d * tap < n for tap in range(k))
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
        for start in range(-p, n + p - d * (k - 1), s)
    )


@st.composite
def _poolings(draw: Any) -> Case:
    kernel, dilation = draw(_pairs(1, 4)), draw(_pairs(1, 3))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    shape = draw(_images(draw(st.integers(1, 5)), kernel, padding, dilation))
    stride = draw(st.none() | _pairs(1, 4))
    assume(not _padding_only(shape[2:], kernel, stride or kernel, padding, dilation))
    given_stride = {} if stride is None else {"stride": stride}
    return pooling(shape, kernel, _ties_and_nan(shape), padding=padding, dilation=dilation, **given_stride)


@_EXAMPLES
@given(_poolings(), st.sampled_from([np.float32, np.float64]))
def test_any_pooling(case: Case, dtype: Any) -> None:
    _check(case, dtype)
