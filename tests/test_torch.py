"""Outputs and gradients against PyTorch in float64, NaN and infinities included."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastdl
from tests.cases import Case, all_cases
from tests.cases.activation import ELEMENTWISE
from tests.cases.case import mapped
from tests.cases.conv import by_winograd, convolution, transposed, unfold
from tests.cases.normalization import norm
from tests.cases.padding import padding
from tests.cases.pooling import adaptive, pooling
from tests.cases.recurrent import recurrent
from tests.cases.window import as_sides, as_tuple
from tests.support import DTYPES, everyday, parameters

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
rnn_utils = pytest.importorskip("torch.nn.utils.rnn")
F = torch.nn.functional


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch's formula, which it applies to each element of what is not contiguous: its vectors take NaN differently."""
    return lambda x, **options: function(torch.stack([x, x], -1)[..., 0], **options)


def _by_position(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch's, whose arrays have other names, and may be numbers in some places only."""

    def call(**given: Any) -> Any:
        names = [name for name in ("condition", "x", "other", "exponent") if name in given]
        arrays = [given.pop(name) for name in names]
        return function(
            *[a if isinstance(a, torch.Tensor) else torch.tensor(a, dtype=torch.float64) for a in arrays], **given
        )

    return call


def _gelu_inner(x: Any) -> Any:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def _fused(y: Any, activation: str, activation_args: Any) -> Any:
    if activation == "none":
        return y
    if activation == "gelu_tanh":
        return F.gelu(y, approximate="tanh")
    return (getattr(F, activation, None) or getattr(torch, activation))(y, *activation_args)


def _linear(x: Any, weight: Any, bias: Any, activation: str = "none", activation_args: Any = ()) -> Any:
    return _fused(F.linear(x, weight, bias), activation, activation_args)


def _convolution(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch's, given what fastdl adds to it: asymmetric padding, channels last, and the fused ends."""

    def call(
        x: Any,
        weight: Any,
        bias: Any,
        activation: str = "none",
        activation_args: Any = (),
        algorithm: str = "auto",
        data_format: str = "NCHW",
        residual: Any = None,
        padding: Any = 0,
        padding_mode: str = "zeros",
        **geometry: Any,
    ) -> Any:
        last = data_format.endswith("C")
        x = x.movedim(-1, 1) if last else x
        if np.ndim(padding) == 2 or padding_mode != "zeros":
            sides = as_sides(padding, weight.shape[2:], as_tuple(geometry.get("dilation", 1), x.ndim - 2))
            mode = padding_mode if padding_mode != "zeros" else "constant"
            x, padding = F.pad(x, [n for side in reversed(sides) for n in side], mode), 0
        y = function(x, weight, bias, padding=padding, **geometry)
        y = y.movedim(1, -1) if last else y
        y = y if residual is None else y + residual
        return _fused(y, activation, activation_args)

    return call


def _pad(x: Any, pad: Any, mode: str = "constant", value: float = 0.0) -> Any:
    """torch's, dimension by dimension where it has a mode for few of them only; by index where it refuses a crop."""
    if mode == "constant":
        for dim, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
            moved = x.movedim(-1 - dim, -1)
            moved = F.pad(F.pad(moved, (max(before, 0), max(after, 0)), value=value), (min(before, 0), min(after, 0)))
            x = moved.movedim(-1, -1 - dim)
        return x
    for dim, sides in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        moved = x.movedim(-1 - dim, -1)
        flat = moved.reshape(math.prod(moved.shape[:-1]), 1, moved.shape[-1])
        padded = (
            F.pad(flat, sides, mode)
            if flat.numel()
            else flat.new_zeros((0, 1, flat.shape[-1] + sum(sides))) + 0 * flat.sum()
        )
        x = padded.reshape(*moved.shape[:-1], padded.shape[-1]).movedim(-1, -1 - dim)
    return x


def _unfold(x: Any, kernel_size: Any, padding: Any = 0, dilation: Any = 1, stride: Any = 1) -> Any:
    if np.ndim(padding) == 2 or isinstance(padding, str):
        sides = as_sides(padding, as_tuple(kernel_size, 2), as_tuple(dilation, 2))
        x, padding = F.pad(x, [n for side in reversed(sides) for n in side]), 0
    return F.unfold(x, kernel_size, dilation, padding, stride)


def _fold(
    columns: Any, output_size: Any, kernel_size: Any, padding: Any = 0, dilation: Any = 1, stride: Any = 1
) -> Any:
    if np.ndim(padding) != 2 and not isinstance(padding, str):
        return F.fold(columns, output_size, kernel_size, dilation, padding, stride)
    sides = as_sides(padding, as_tuple(kernel_size, 2), as_tuple(dilation, 2))
    padded = [n + before + after for n, (before, after) in zip(output_size, sides, strict=True)]
    images = F.fold(columns, padded, kernel_size, dilation, 0, stride)
    return F.pad(images, [-n for side in reversed(sides) for n in side])


def _pooling(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch's, given what fastdl adds to it: channels last and, before a maximum, asymmetric padding."""

    def call(x: Any, *others: Any, data_format: str = "NCHW", padding: Any = 0, **options: Any) -> Any:
        last = data_format.endswith("C")
        x = x.movedim(-1, 1) if last else x
        if np.ndim(padding) == 2:
            x, padding = F.pad(x, [n for side in reversed(padding) for n in side], value=-np.inf), 0
        y = function(x, *others, **options | ({} if padding == 0 else {"padding": padding}))
        if isinstance(y, tuple):
            return tuple(item.movedim(1, -1) if last else item for item in y)
        return y.movedim(1, -1) if last else y

    return call


def _transposed(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch's, with asymmetric padding and activation."""

    def call(
        x: Any,
        weight: Any,
        bias: Any,
        activation: str = "none",
        activation_args: Any = (),
        padding: Any = 0,
        **geometry: Any,
    ) -> Any:
        if np.ndim(padding) == 2:
            y = function(x, weight, bias, **geometry)
            y = y[(..., *[slice(before, n - after) for n, (before, after) in zip(y.shape[2:], padding, strict=True)])]
        else:
            y = function(x, weight, bias, padding=padding, **geometry)
        return _fused(y, activation, activation_args)

    return call


def _loss(name: str) -> Callable[..., Any]:
    return lambda x, **options: getattr(F, name)(x, **options)


def _of_logits(x: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: str = "mean") -> Any:
    """As F.binary_cross_entropy_with_logits, whose own formula is a difference of large numbers, without that."""
    positive = (1.0 if pos_weight is None else pos_weight) * target
    losses = -(positive * F.logsigmoid(x) + (1 - target) * F.logsigmoid(-x)) * (1.0 if weight is None else weight)
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def _cross_entropy_with_grad(x: Any, *others: Any, **options: Any) -> Any:
    loss = F.cross_entropy(x, *others, **options)
    return loss, *torch.autograd.grad(loss.sum(), x)


def _dropout(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch's, whose mask is another one: agreement is a matter of p = 0, p = 1 and evaluation."""
    return lambda x, p=0.5, training=True, seed=0, offset=0: function(x, p, training)


def _same_mask(case: Case) -> bool:
    p, training = case.parameters.get("p", 0.5), case.parameters.get("training", True)
    return "dropout" not in case.operation or not training or p in (0, 1)


def _norm(function: Callable[..., Any], view: Callable[..., Any]) -> Callable[..., Any]:
    """torch's y, with the statistics, over what `view` makes of x, and the running ones, where fastdl returns them."""

    def call(x: Any, *others: Any, return_stats: bool = False, **options: Any) -> Any:
        running = {name: options[name] for name in ("running_mean", "running_var") if options.get(name) is not None}
        options |= {name: value.detach().clone() for name, value in running.items()}
        y = function(x, *others, **options)
        found = [y]
        of_input = {F.batch_norm: options.get("training", False), F.instance_norm: options.get("use_input_stats", True)}
        if return_stats:
            flat, axes = view(x.detach(), options)
            eps = options.get("eps", torch.finfo(x.dtype).eps if function is F.rms_norm else 1e-5)
            if not of_input.get(function, True):
                mean, variance = running["running_mean"].detach(), running["running_var"].detach()
                shape = (len(x), -1) if function is F.instance_norm else (-1,)
                mean, variance = (t.expand(*shape) if len(shape) == 2 else t for t in (mean, variance))
            else:
                mean, variance = flat.mean(axes), flat.var(axes, correction=0)
            if function is F.rms_norm:
                found.append(torch.rsqrt((flat * flat).mean(axes) + eps))
            else:
                found += [mean, torch.rsqrt(variance + eps)]
        if of_input.get(function):
            found += [options[name] for name in running]
        return tuple(found) if len(found) > 1 else y

    return call


def _in_groups(x: Any, options: Any) -> Any:
    return x.reshape(len(x), options["num_groups"], -1), (2,)


def _last(x: Any, options: Any) -> Any:
    shape = options["normalized_shape"]
    return x, tuple(range(x.ndim - np.size(shape), x.ndim))


def _tuple(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch wants a tuple for normalized_shape."""

    def call(x: Any, normalized_shape: Any, **options: Any) -> Any:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        return function(x, normalized_shape=shape, **options)

    return call


def _reversed(x: Any, lengths: Any) -> Any:
    """(steps, batch, ...) with each sequence, as long as it is, from its end to its beginning."""
    step = torch.arange(len(x))[:, None]
    source = torch.where(step < lengths, lengths - 1 - step, step)
    return x.gather(0, source[..., None].expand_as(x))


def _recurrent(name: str) -> Callable[..., Any]:
    """A module of torch with these weights, given what fastdl adds to it: lengths, and one direction, in reverse."""

    def call(
        x: Any,
        weights: Any,
        h0: Any = None,
        c0: Any = None,
        batch_first: bool = False,
        reverse: bool = False,
        lengths: Any = None,
        training: bool = False,
        return_saved: bool = False,
        seed: int = 0,
        offset: int = 0,
        **options: Any,
    ) -> Any:
        each = len(weights) // options.get("num_layers", 1) // (1 + options.get("bidirectional", False))
        sizes = x.shape[-1], weights[-1].shape[1] if each % 2 else weights[1].shape[1]
        if each % 2:
            options["proj_size"] = weights[1].shape[1]
        if name == "GRU":
            assert options.pop("linear_before_reset", True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # dropout between one layer and none
            module = getattr(torch.nn, name)(*sizes, bias=each >= 4, dtype=x.dtype, **options).train(training)
        batch_first = batch_first and x.ndim == 3
        x = x.swapaxes(0, 1) if batch_first else x
        ends = torch.full((x.shape[1],), len(x)) if lengths is None else lengths
        turned = (lambda a: _reversed(a, ends)) if x.ndim == 3 else lambda a: a.flip(0)
        x = turned(x) if reverse else x
        state = None if h0 is None else (h0, c0) if name == "LSTM" else h0
        packed = x if lengths is None else rnn_utils.pack_padded_sequence(x, lengths, enforce_sorted=False)
        named = dict(zip((n for n, _ in module.named_parameters()), weights, strict=True))
        y, state = torch.func.functional_call(module, named, (packed, state))
        if lengths is not None:
            y, _ = rnn_utils.pad_packed_sequence(y, total_length=len(x))
        y = turned(y) if reverse else y
        return y.swapaxes(0, 1) if batch_first else y, *(state if name == "LSTM" else (state,))

    return call


def _cell(function: Any, x: Any, states: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> Any:
    """torch's, which wants a batch, and either both biases or none."""
    zero = torch.zeros(len(weight_ih), dtype=x.dtype)
    biases = (zero if bias is None else bias for bias in (bias_ih, bias_hh))
    rows = [a if a.ndim == 2 else a[None] for a in (x, *states)]
    found = function(rows[0], tuple(rows[1:]) if len(states) > 1 else rows[1], weight_ih, weight_hh, *biases)
    found = found if isinstance(found, tuple) else (found,)
    found = tuple(a if x.ndim == 2 else a[0] for a in found)
    return found if len(found) > 1 else found[0]


def _lstm_cell(x: Any, h: Any, c: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> Any:
    return _cell(torch.lstm_cell, x, (h, c), weight_ih, weight_hh, bias_ih, bias_hh)


def _gru_cell(
    x: Any, h: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any, linear_before_reset: bool = True
) -> Any:
    assert linear_before_reset
    return _cell(torch.gru_cell, x, (h,), weight_ih, weight_hh, bias_ih, bias_hh)


def _rnn_cell(
    x: Any, h: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any, nonlinearity: str = "tanh"
) -> Any:
    return _cell(getattr(torch, f"rnn_{nonlinearity}_cell"), x, (h,), weight_ih, weight_hh, bias_ih, bias_hh)


def _over_time(terms: Any, factors: Any, done: Any, after: Any) -> Any:
    """sum[t] = terms[t] + factors[t] sum[t + 1], or terms[t] where t is done, step by step."""
    sums = []
    for t in reversed(range(len(terms))):
        after = terms[t] + factors * torch.where(done[t], torch.zeros_like(terms[t]), after)
        sums.insert(0, after)
    return torch.stack(sums) if sums else terms.clone()


def _gae(reward, state_value, next_state_value, terminated, done=None, *, gamma, lmbda):  # type: ignore[no-untyped-def]
    next_ = torch.where(terminated, torch.zeros_like(reward), next_state_value)
    done, after = terminated if done is None else done, torch.zeros(reward.shape[1:], dtype=reward.dtype)
    advantage = _over_time(reward + gamma * next_ - state_value, gamma * lmbda, done, after)
    return advantage, advantage + state_value


def _discounted_returns(reward: Any, done: Any, bootstrap: Any = None, *, gamma: float) -> Any:
    after = torch.zeros(reward.shape[1:], dtype=reward.dtype) if bootstrap is None else bootstrap
    return _over_time(reward, gamma, done, after)


def _categorical(logits: Any) -> Any:
    return torch.distributions.Categorical(logits=logits, validate_args=False)


def _normal(mean: Any, log_std: Any) -> Any:
    normal = torch.distributions.Normal(mean, log_std.exp().expand_as(mean), validate_args=False)
    return torch.distributions.Independent(normal, 1, validate_args=False)


def _policy_loss(distribution, action, advantage, old_log_prob=None, *, clip=None, entropy_weight=0.0):  # type: ignore[no-untyped-def]
    log_prob = distribution.log_prob(action)
    objective = advantage * log_prob
    if old_log_prob is not None:
        ratio = torch.exp(log_prob - old_log_prob)
        objective = ratio * advantage
        if clip is not None:
            objective = torch.min(objective, torch.clamp(ratio, 1 - clip, 1 + clip) * advantage)
    return -objective.mean() - entropy_weight * distribution.entropy().mean()


def _attention(query: Any, key: Any, value: Any, attn_mask: Any = None, **options: Any) -> Any:
    """torch's in plain operations: its kernels have no gradient where there are no keys, or a mask."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return F.scaled_dot_product_attention(query, key, value, attn_mask, **options)


_TORCH: dict[str, Callable[..., Any]] = {
    "where": _by_position(lambda condition, x, y: torch.where(condition.bool(), x, y)),
    "scaled_dot_product_attention": _attention,
    "embedding": lambda x, weight, padding_idx=None: F.embedding(x, weight, padding_idx),
    "interpolate": lambda x, **options: F.interpolate(x, **options),
    "pixel_shuffle": lambda x, upscale_factor: F.pixel_shuffle(x, upscale_factor),
    "pixel_unshuffle": lambda x, downscale_factor: F.pixel_unshuffle(x, downscale_factor),
    "discounted_returns": _discounted_returns,
    "gae": _gae,
    "categorical_log_prob": lambda logits, action: _categorical(logits).log_prob(action),
    "categorical_entropy": lambda logits: _categorical(logits).entropy(),
    "categorical_policy_loss": lambda logits, **others: _policy_loss(_categorical(logits), **others),
    "normal_log_prob": lambda mean, log_std, action: _normal(mean, log_std).log_prob(action),
    "normal_policy_loss": lambda mean, log_std, **others: _policy_loss(_normal(mean, log_std), **others),
    **{
        name: _dropout(getattr(F, name)) for name in ("alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d")
    },
    "l1_penalty": lambda x, coefficient=1.0: coefficient * x.abs().sum(),
    "l2_penalty": lambda x, coefficient=1.0: coefficient / 2 * x.square().sum(),
    **{name: _elementwise(getattr(F, name, None) or getattr(torch, name)) for name in ELEMENTWISE},
    # torch's gelu cancels below 0, and the derivative of its hardsigmoid is rounded to float32.
    "gelu": lambda x, approximate="none": (
        x * (torch.erfc(-x * math.sqrt(0.5)) / 2 if approximate == "none" else torch.sigmoid(2 * _gelu_inner(x)))
    ),
    "hardsigmoid": lambda x: F.relu6(x + 3) / 6,
    **{
        name: _by_position(getattr(torch, name))
        for name in (
            *("add", "sub", "mul", "div", "pow", "maximum", "minimum"),
            *("sum", "mean", "amax", "amin", "matmul"),
        )
    },
    "take": lambda x, index: x[index],
    "cat": lambda arrays, dim=0: torch.cat(arrays, dim),
    "prelu": lambda x, weight: F.prelu(x, weight),
    "glu": lambda x, dim: F.glu(x, dim),
    "softmax": lambda x, dim: F.softmax(x, dim),
    "softmin": lambda x, dim: F.softmin(x, dim),
    "log_softmax": lambda x, dim: F.log_softmax(x, dim),
    "linear": _linear,
    "conv1d": _convolution(F.conv1d),
    "conv2d": _convolution(F.conv2d),
    "conv3d": _convolution(F.conv3d),
    "conv_transpose1d": _transposed(F.conv_transpose1d),
    "conv_transpose2d": _transposed(F.conv_transpose2d),
    "conv_transpose3d": _transposed(F.conv_transpose3d),
    "im2col": _unfold,
    "col2im": _fold,
    "pad": _pad,
    **{
        f"{name}{rank}d": _pooling(getattr(F, f"{name}{rank}d"))
        for name in ("max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool", "max_unpool")
        for rank in (1, 2, 3)
    },
    "batch_norm": _norm(F.batch_norm, lambda x, options: (x.reshape(*x.shape[:2], -1), (0, 2))),
    "instance_norm": _norm(F.instance_norm, lambda x, options: (x.reshape(*x.shape[:2], -1), (2,))),
    "group_norm": _norm(F.group_norm, _in_groups),
    "layer_norm": _tuple(_norm(F.layer_norm, _last)),
    "rms_norm": _tuple(_norm(F.rms_norm, _last)),
    **{f"{name}_loss": _loss(f"{name}_loss") for name in ("mse", "l1", "huber", "smooth_l1", "hinge_embedding", "nll")},
    "binary_cross_entropy": _loss("binary_cross_entropy"),
    "binary_cross_entropy_with_logits": _of_logits,
    "kl_div": _loss("kl_div"),
    "cross_entropy": _loss("cross_entropy"),
    "cross_entropy_with_grad": _cross_entropy_with_grad,
    "cosine_embedding_loss": lambda x1, x2, **options: F.cosine_embedding_loss(x1, x2, **options),
    "lstm": _recurrent("LSTM"),
    "gru": _recurrent("GRU"),
    "rnn": _recurrent("RNN"),
    "lstm_cell": _lstm_cell,
    "gru_cell": _gru_cell,
    "rnn_cell": _rnn_cell,
}


def _tensor(value: Any) -> Any:
    return mapped(
        lambda a: torch.from_numpy(a.astype(np.float64)).requires_grad_() if a.dtype.kind == "f" else torch.tensor(a),
        value,
    )


def _check(case: Case, dtype: Any) -> None:
    """The forward and, where there is one, the backward, each within the case's own tolerance."""
    arguments = case.make(dtype, np.random.default_rng(3))
    tensors = {name: _tensor(value) for name, value in arguments.items()}
    tensors |= {name: tensors[name].detach() for name in case.data if tensors[name] is not None}
    y = _TORCH[case.operation](**tensors)
    expected = y if isinstance(y, tuple) else (y,)
    case.check(case.run(arguments), arguments, tuple(item.detach().numpy() for item in expected))
    if case.backward:
        backward = case.backward.make(dtype, np.random.default_rng(3))
        if "y" in backward and dtype == np.float32:
            return  # given the rounded y, where torch has its own in float64
        if "y" in backward:
            backward["y"] = expected[0].detach().numpy()
        outer = [_tensor(backward[name]) for name in case.backward.grads]
        torch.autograd.backward(expected[: len(outer)], outer)
        grads = case.backward.run(backward)
        inputs = [
            tensors[name] if place is None else tensors[name][place] for name, place in case.differentiable(arguments)
        ]
        # Without a bias torch has no gradient for it; the sum over the rest is the reference's to check, as is what
        # is returned besides gradients.
        inputs += [None] * (len(grads) - len(inputs))
        expected = tuple(
            grad.astype(np.float64) if x is None else x.grad.numpy() for x, grad in zip(inputs, grads, strict=True)
        )
        case.backward.check(grads, backward, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "case",
    parameters(
        c
        for c in all_cases()
        if c.operation in _TORCH and not c.tags & {"padding-only", "not-in-torch"} and _same_mask(c)
    ),
)
def test_cases(case: Case, dtype: Any) -> None:
    if "far" in case.tags and dtype == np.float64:
        pytest.skip("torch rounds the mean to float64, which is all that is left of what is compared")
    if "empty" in case.tags and case.operation in ("instance_norm", "group_norm"):
        pytest.skip("torch indexes instances that are not there, and takes the sum of no gradients for NaN")
    _check(case, dtype)


_OPTIMIZERS = {
    "sgd_step": "SGD",
    "adagrad_step": "Adagrad",
    "rmsprop_step": "RMSprop",
    "adam_step": "Adam",
    "adamw_step": "AdamW",
    "adadelta_step": "Adadelta",
    "nadam_step": "NAdam",
}


@pytest.mark.parametrize("case", parameters(everyday(operation="binary_cross_entropy_with_logits")))
def test_binary_cross_entropy_of_moderate_logits(case: Case) -> None:
    """torch's own function, where its formula is good to ten digits."""
    if "special" in case.tags:
        return
    arguments = case.make(np.float64)
    x, *others = (_tensor(value) for name, value in arguments.items() if name != "reduction")
    names = [name for name in arguments if name not in ("x", "reduction")]
    expected = F.binary_cross_entropy_with_logits(
        x,
        **dict(zip(names, map(torch.Tensor.detach, others), strict=True)),
        reduction=arguments.get("reduction", "mean"),
    )
    np.testing.assert_allclose(case.run(arguments)[0], expected.detach().numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", parameters(c for name in _OPTIMIZERS for c in all_cases(name)))
def test_optimizer_steps(case: Case, dtype: Any) -> None:
    """From the same state; torch neither scales nor clips."""
    arguments = case.make(dtype, np.random.default_rng(3))
    given = ("step", "grad_scale", "clip_value")
    options = {name: value for name, value in case.parameters.items() if name not in given}
    options |= {
        name: True for name, state in (("amsgrad", "max_exp_avg_sq"), ("centered", "grad_avg")) if state in case.updates
    }
    param = _tensor(arguments["param"])
    optimizer = getattr(torch.optim, _OPTIMIZERS[case.operation])([param], **options)
    step = case.parameters.get("step", 1)
    states = {name: _tensor(arguments[name]).detach() for name in case.updates[1:]}
    if case.operation == "sgd_step" and step == 1:
        states = {}
    names = {"state_sum": "sum"}
    optimizer.state[param].update({names.get(name, name): value for name, value in states.items()})
    if case.operation != "sgd_step":
        optimizer.state[param]["step"] = torch.tensor(float(step - 1))
    limit = case.parameters.get("clip_value", np.inf)
    param.grad = (_tensor(arguments["grad"]).detach() * case.parameters.get("grad_scale", 1.0)).clamp(-limit, limit)
    optimizer.step()
    expected = [param, *(optimizer.state[param][names.get(name, name)] for name in case.updates[1:])]
    case.check(case.run(arguments), arguments, tuple(t.detach().numpy() for t in expected))


def _pairs(least: int, most: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(*[st.integers(least, most)] * 2)


@st.composite
def _images(draw: Any, channels: int, kernel: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    """A shape into which the kernel fits, often only just."""
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, padding, dilation, strict=True)]
    height, width = (draw(st.integers(n, n + extra)) for n, extra in zip(least, (6, 36), strict=True))
    return draw(st.integers(0, 3)), channels, height, width


def _as(data_format: str, x: tuple[int, ...]) -> tuple[int, ...]:
    return (x[0], *x[2:], x[1]) if data_format == "NHWC" else x


_DATA_FORMATS = st.sampled_from(["NCHW", "NHWC"])


@st.composite
def _convolutions(draw: Any) -> Case:
    groups, kernel, dilation, padding = (
        draw(st.integers(1, 4)),
        draw(_pairs(1, 4)),
        draw(_pairs(1, 3)),
        draw(_pairs(0, 4)),
    )
    x = draw(_images(groups * draw(st.integers(1, 18)), kernel, padding, dilation))
    data_format = draw(_DATA_FORMATS)
    return convolution(
        _as(data_format, x),
        groups * draw(st.integers(1, 18)),
        kernel,
        bias=draw(st.booleans()),
        stride=draw(_pairs(1, 4)),
        padding=padding,
        dilation=dilation,
        groups=groups,
        data_format=data_format,
        algorithm=draw(st.sampled_from(["auto", "direct", "im2col"])),
    )


_EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)


@_EXAMPLES
@given(_convolutions(), st.sampled_from([np.float32, np.float64]))
def test_any_convolution(case: Case, dtype: Any) -> None:
    _check(case, dtype)


@st.composite
def _depthwise_convolutions(draw: Any) -> Case:
    channels, kernel, dilation = draw(st.integers(1, 5)), draw(_pairs(1, 6)), draw(_pairs(1, 3))
    padding = draw(_pairs(0, 6))
    return convolution(
        draw(_images(channels, kernel, padding, dilation)),
        channels * draw(st.integers(1, 3)),
        kernel,
        bias=draw(st.booleans()),
        stride=draw(_pairs(1, 4)),
        padding=padding,
        dilation=dilation,
        groups=channels,
        algorithm="depthwise",
    )


@_EXAMPLES
@given(_depthwise_convolutions(), st.sampled_from([np.float32, np.float64]))
def test_any_depthwise_convolution(case: Case, dtype: Any) -> None:
    _check(case, dtype)


@st.composite
def _transposes(draw: Any) -> Case:
    groups, kernel, dilation, stride = (
        draw(st.integers(1, 3)),
        draw(_pairs(1, 5)),
        draw(_pairs(1, 3)),
        draw(_pairs(1, 4)),
    )
    size = draw(st.tuples(st.integers(1, 8), st.integers(1, 36)))
    more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    whole = [s * (n - 1) + d * (k - 1) + m for n, k, s, d, m in zip(size, kernel, stride, dilation, more, strict=True)]
    return transposed(
        (draw(st.integers(0, 3)), groups * draw(st.integers(1, 18)), *size),
        groups * draw(st.integers(1, 18)),
        kernel,
        bias=draw(st.booleans()),
        stride=stride,
        padding=tuple(draw(st.integers(0, min(6, n // 2))) for n in whole),
        output_padding=more,
        groups=groups,
        dilation=dilation,
    )


@_EXAMPLES
@given(_transposes(), st.sampled_from([np.float32, np.float64]))
def test_any_transposed_convolution(case: Case, dtype: Any) -> None:
    _check(case, dtype)


def _ties_and_nan(shape: tuple[int, ...]) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.choice([-np.inf, -1.0, 0.0, 1.0, np.nan], shape, p=[0.1, 0.3, 0.3, 0.2, 0.1])


@st.composite
def _winograd_convolutions(draw: Any) -> Case:
    padding = draw(_pairs(0, 4))
    x = draw(_images(draw(st.integers(1, 40)), (3, 3), padding, (1, 1)))
    data_format = draw(_DATA_FORMATS)
    case = convolution(
        _as(data_format, x),
        draw(st.integers(1, 40)),
        3,
        bias=draw(st.booleans()),
        padding=padding,
        data_format=data_format,
        algorithm="winograd",
        activation=draw(st.sampled_from(["none", "relu"])),
    )
    return by_winograd(case)


@_EXAMPLES
@given(_winograd_convolutions(), st.sampled_from([np.float32, np.float64]))
def test_any_winograd_convolution(case: Case, dtype: Any) -> None:
    _check(case, dtype)


def _padding_only(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> bool:
    """Does any window miss the image? torch's backward then writes outside its arrays."""
    return any(
        all(not 0 <= start + d * tap < n for tap in range(k))
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
        for start in range(-p, max(1, n + p - d * (k - 1) + s - 1), s)
        if start < n
    )


@st.composite
def _volumes(draw: Any, least: list[int]) -> tuple[int, ...]:
    """A batch of sequences, images or volumes of at least those sizes, often only just, the last often far more."""
    sizes = [draw(st.integers(n, n + (36 if i == len(least) - 1 else 5))) for i, n in enumerate(least)]
    return draw(st.integers(0, 3)), draw(st.integers(1, 5)), *sizes


@st.composite
def _poolings(draw: Any) -> Case:
    """max_pool and avg_pool in any number of dimensions, with all of their options."""
    rank, kind = draw(st.integers(1, 3)), draw(st.sampled_from(["max", "avg"]))
    some = lambda least, most: draw(st.tuples(*[st.integers(least, most)] * rank))  # noqa: E731
    kernel, dilation = some(1, 5), some(1, 3) if kind == "max" else (1,) * rank
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, padding, dilation, strict=True)]
    if kind == "avg":  # torch's avg_pool3d wants the kernel to fit without padding
        least = list(map(max, least, kernel))
    shape = draw(_volumes(least))
    stride = draw(st.none() | st.tuples(*[st.integers(1, 4)] * rank))
    form: dict[str, Any] = {"padding": padding, "ceil_mode": draw(st.booleans())}
    form |= {} if stride is None else {"stride": stride}
    last = draw(st.booleans())
    if last:
        form["data_format"] = ("NLC", "NHWC", "NDHWC")[rank - 1]
    stored = (shape[0], *shape[2:], shape[1]) if last else shape
    if kind == "avg":
        form |= {"count_include_pad": draw(st.booleans())}
        form |= {"divisor_override": draw(st.integers(1, 9))} if rank > 1 and draw(st.booleans()) else {}
        return pooling(stored, kernel, kind="avg", **form)
    assume(not _padding_only(shape[2:], kernel, stride or kernel, padding, dilation))
    form |= {"dilation": dilation} | ({"return_indices": True} if draw(st.booleans()) else {})
    return pooling(stored, kernel, _ties_and_nan(stored), **form)


@st.composite
def _adaptive_poolings(draw: Any) -> Case:
    shape = draw(_volumes([1] * draw(st.integers(1, 3))))
    out = tuple(draw(st.integers(1, n + 3)) for n in shape[2:])
    if draw(st.booleans()):
        return adaptive(shape, out)
    indices = {"return_indices": True} if draw(st.booleans()) else {}
    return adaptive(shape, out, _ties_and_nan(shape), "max", **indices)


@_EXAMPLES
@given(_poolings() | _adaptive_poolings(), st.sampled_from([np.float32, np.float64]))
def test_any_pooling(case: Case, dtype: Any) -> None:
    _check(case, dtype)


@st.composite
def _unfoldings(draw: Any) -> Case:
    kernel, dilation = draw(_pairs(1, 4)), draw(_pairs(1, 3))
    padding = draw(_pairs(0, 4))
    shape = draw(_images(draw(st.integers(1, 5)), kernel, padding, dilation).filter(lambda shape: shape[0]))
    if draw(st.booleans()):
        padding = tuple((n, n + draw(st.integers(0, 3))) for n in padding)
    return draw(st.sampled_from(unfold(shape, kernel, padding=padding, dilation=dilation, stride=draw(_pairs(1, 4)))))


@_EXAMPLES
@given(_unfoldings(), st.sampled_from([np.float32, np.float64]))
def test_any_unfolding(case: Case, dtype: Any) -> None:
    _check(case, dtype)


@st.composite
def _norms(draw: Any) -> Case:
    """Any of them, in two to five dimensions, of any channels, with and without everything that is optional."""
    groups = draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(1, 40), min_size=0, max_size=2))
    x = (draw(st.integers(1, 40)), groups * draw(st.integers(1, 12)), *sizes)
    operation = draw(st.sampled_from(["batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"]))
    form: dict[str, Any] = {"affine": draw(st.booleans()), "eps": draw(st.sampled_from([1e-5, 1e-3]))}
    if operation == "batch_norm":
        form |= {"training": draw(st.booleans()), "running": draw(st.booleans()), "momentum": 0.3}
        assume(math.prod(x) > x[1])
    elif operation == "instance_norm":
        form |= {"use_input_stats": draw(st.booleans()), "running": draw(st.booleans()), "momentum": 0.3}
        assume(math.prod(sizes) > 1)
    elif operation == "group_norm":
        form["num_groups"] = groups
        assume(math.prod(x) > groups)
    else:
        form["normalized_shape"] = x[draw(st.integers(0, len(x) - 1)) :]
    return norm(operation, x, lambda rng: 3 + rng.standard_normal(x), **form)


@_EXAMPLES
@given(_norms())
def test_any_norm(case: Case) -> None:
    """In float32, of which torch's float64 is exact to all digits: in float64 it rounds means where fastdl does not."""
    _check(case, np.float32)


@st.composite
def _paddings(draw: Any) -> Case:
    """Any rank, any number of padded dimensions; numbers up to what the mode allows, or crops."""
    shape = (*draw(st.lists(st.integers(1, 5), min_size=0, max_size=4)), draw(st.integers(1, 40)))
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    most = {"reflect": lambda n: n - 1, "circular": lambda n: n}.get(mode, lambda n: 6)
    pad: list[int] = []
    for n in shape[::-1][: draw(st.integers(0, len(shape)))]:
        before = draw(st.integers(-n if mode == "constant" else 0, most(n)))
        pad += [before, draw(st.integers(-n - min(before, 0) if mode == "constant" else 0, most(n)))]
    return padding(shape, tuple(pad), mode=mode, **({"value": 1.5} if mode == "constant" else {}))


@_EXAMPLES
@given(_paddings(), st.sampled_from([np.float32, np.float64]))
def test_any_padding(case: Case, dtype: Any) -> None:
    _check(case, dtype)


@pytest.mark.parametrize(
    ("shape", "pad"), [((2, 3, 9), (4, 3)), ((2, 3, 9, 8), (4, 3, 0, 5)), ((2, 3, 4, 5, 6), (1, 5, 4, 2, 3, 0))]
)
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_where_torch_has_it_at_once(shape: Any, pad: Any, mode: str) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_array_equal(fastdl.pad(x, pad, mode), F.pad(torch.from_numpy(x), pad, mode).numpy())


@st.composite
def _networks(draw: Any) -> Case:
    operation = draw(st.sampled_from(["lstm", "gru", "rnn"]))
    hidden, batch, steps = draw(st.integers(1, 20)), draw(st.integers(0, 6)), draw(st.integers(1, 8))
    bidirectional = draw(st.booleans())
    options: dict[str, Any] = {"nonlinearity": draw(st.sampled_from(["tanh", "relu"]))} if operation == "rnn" else {}
    if operation == "lstm" and hidden > 1:
        options["projection"] = draw(st.integers(0, hidden - 1))
    if batch and draw(st.booleans()):
        options["lengths"] = tuple(draw(st.lists(st.integers(1, steps), min_size=batch, max_size=batch)))
    return recurrent(
        operation,
        hidden,
        batch,
        steps,
        draw(st.integers(1, 20)),
        bias=draw(st.booleans()),
        states=draw(st.booleans()),
        num_layers=draw(st.integers(1, 3)),
        bidirectional=bidirectional,
        batch_first=draw(st.booleans()),
        reverse=not bidirectional and draw(st.booleans()),
        **options,
    )


@settings(max_examples=80, deadline=None, derandomize=True)
@given(_networks(), st.sampled_from([np.float32, np.float64]))
def test_any_network(case: Case, dtype: Any) -> None:
    _check(case, dtype)


@pytest.mark.parametrize("operation", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("lengths", [None, (5, 2, 4)])
def test_norms_of_the_gradients_in_states(operation: str, lengths: Any) -> None:
    """What torch keeps as the gradient of each state of a loop over its cells."""
    rng = np.random.default_rng(0)
    steps, batch, size, hidden = 5, 3, 2, 4
    gates, long = {"lstm": 4, "gru": 3, "rnn": 1}[operation], operation == "lstm"
    x = rng.standard_normal((steps, batch, size))
    shapes = [(gates * hidden, size), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,)]
    weights = tuple(rng.standard_normal(shape) for shape in shapes)
    grad_output = rng.standard_normal((steps, batch, hidden))
    grad_h_n = rng.standard_normal((1, batch, hidden))
    cell = getattr(torch, {"rnn": "rnn_tanh"}.get(operation, operation) + "_cell")
    parameters = [torch.from_numpy(w).requires_grad_() for w in weights]
    squares = np.zeros(steps)
    ends = lengths or (steps,) * batch
    for b, end in enumerate(ends):
        h, c = (torch.zeros(1, hidden, dtype=torch.float64) for _ in range(2))
        states, loss = [], 0.0
        for t in range(end):
            found = cell(torch.from_numpy(x[t, b : b + 1]), (h, c) if long else h, *parameters)
            h, c = found if long else (found, c)
            h.retain_grad()
            states.append(h)
            loss = loss + (h[0] * torch.from_numpy(grad_output[t, b])).sum()
        (loss + (h[0] * torch.from_numpy(grad_h_n[0, b])).sum()).backward()
        squares[:end] += [float(h.grad.square().sum()) for h in states]
    given = None if lengths is None else np.array(lengths)
    *_, saved = getattr(fastdl, operation)(x, weights, lengths=given, return_saved=True)
    norms = np.full((1, steps), np.nan)
    grads = getattr(fastdl, f"{operation}_backward")(
        grad_output, x, weights, saved, grad_h_n=grad_h_n, lengths=given, state_grad_norms=norms
    )
    np.testing.assert_allclose(norms[0], np.sqrt(squares), rtol=1e-10)
    for grad, parameter in zip(grads.weights, parameters, strict=True):
        np.testing.assert_allclose(grad, parameter.grad.numpy(), rtol=1e-10, atol=1e-12)
