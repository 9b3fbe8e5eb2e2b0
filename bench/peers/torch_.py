"""PyTorch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from bench.peers import Call
from tests.cases.activation import ELEMENTWISE
from tests.cases.case import mapped


def prepare(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    return _build(OPERATIONS, operation, arguments, threads)


def together(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    return _build(TRAINING, operation, arguments, threads)


def _build(builders: dict[str, Any], operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    build = builders.get(operation)
    tensors = {k: mapped(torch.from_numpy, v) for k, v in arguments.items()}
    return build(**tensors) if build else None


def _plain(function: Callable[..., Any]) -> Callable[..., Call]:
    """One that takes the same arguments, by torch's own names."""

    def build(**given: Any) -> Call:
        arrays = [given.pop(name) for name in ("condition", "x", "other", "exponent") if name in given]
        return functools.partial(function, *arrays, **given)

    return build


def _linear(x, weight, bias=None, activation="none"):  # type: ignore[no-untyped-def]
    if activation == "relu":
        return lambda: F.linear(x, weight, bias).relu_()
    return functools.partial(F.linear, x, weight, bias)


def _linear_backward(grad_output, x, weight, input_grad=True):  # type: ignore[no-untyped-def]
    rows, grads = x.reshape(-1, x.shape[-1]), grad_output.reshape(-1, grad_output.shape[-1])
    return lambda: (grad_output @ weight if input_grad else None, grads.T @ rows, grads.sum(0))


def _conv2d(  # type: ignore[no-untyped-def]
    x, weight, bias=None, activation="none", algorithm="auto", data_format="NCHW", **window
):
    if data_format == "NHWC":  # the same memory, as torch's own layout of that kind
        weight = weight.to(memory_format=torch.channels_last)
        call = _conv2d(x.permute(0, 3, 1, 2), weight, bias, activation, **window)
        return lambda: call().permute(0, 2, 3, 1)
    if activation == "relu":
        return lambda: F.conv2d(x, weight, bias, **window).relu_()
    return functools.partial(F.conv2d, x, weight, bias, **window)


def _conv2d_backward(  # type: ignore[no-untyped-def]
    grad_output,
    x,
    weight,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    data_format="NCHW",
    algorithm="auto",
    input_grad=True,
):
    pair = lambda value: [value, value] if isinstance(value, int) else list(value)  # noqa: E731
    backward, mask = torch.ops.aten.convolution_backward, [input_grad, True, True]
    window = ([len(weight)], pair(stride), pair(padding), pair(dilation), False, [0, 0], groups, mask)
    if data_format == "NHWC":
        grad_output, x = grad_output.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2)
        weight = weight.to(memory_format=torch.channels_last)

        def call():  # type: ignore[no-untyped-def]
            grad_x, grad_weight, grad_bias = backward(grad_output, x, weight, *window)
            return grad_x.permute(0, 2, 3, 1) if input_grad else None, grad_weight, grad_bias

        return call
    return lambda: backward(grad_output, x, weight, *window)


def _pad_backward(grad_output, pad, mode="constant"):  # type: ignore[no-untyped-def]
    added = [b + a for a, b in zip(pad[-1::-2], pad[-2::-2], strict=True)]
    unpadded = grad_output.shape[: -len(added)]
    x = grad_output.new_zeros(
        (*unpadded, *(n - k for n, k in zip(grad_output.shape[-len(added) :], added, strict=True)))
    )
    return _autograd(lambda x: F.pad(x, pad, mode))(grad_output, x)


def _conv_transpose2d_backward(  # type: ignore[no-untyped-def]
    grad_output, x, weight, stride=1, padding=0, output_padding=0, groups=1, dilation=1, input_grad=True
):
    pair = lambda value: [value, value] if isinstance(value, int) else list(value)  # noqa: E731
    backward, mask = torch.ops.aten.convolution_backward, [input_grad, True, True]
    sizes = [weight.shape[1] * groups]
    window = (sizes, pair(stride), pair(padding), pair(dilation), True, pair(output_padding), groups, mask)
    return lambda: backward(grad_output, x, weight, *window)


def _autograd(function: Callable[..., Any]) -> Callable[..., Call]:
    """The backward pass alone: the graph is built once."""

    def build(grad_output, x, *others, **keywords):  # type: ignore[no-untyped-def]
        x = x.clone().requires_grad_()
        with torch.enable_grad():
            y = function(x, *others, **keywords)
        return lambda: torch.autograd.grad(y, x, grad_output, retain_graph=True)

    return build


def _pools() -> dict[str, Callable[..., Call | None]]:
    """Pooling by torch's names and arguments; channels last it has as a memory format only."""

    def forward(name: str) -> Callable[..., Call | None]:
        def build(x, data_format="NCHW", **options):  # type: ignore[no-untyped-def]
            return None if data_format.endswith("C") else functools.partial(getattr(F, name), x, **options)

        return build

    def backward(name: str) -> Callable[..., Call]:
        return _autograd(lambda x, indices=None, **options: getattr(F, name)(x, **options))

    kinds = ("max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool")
    names = [f"{kind}{rank}d" for kind in kinds for rank in (1, 2, 3)]
    unpool = {name: forward(name) for name in ("max_unpool1d", "max_unpool2d", "max_unpool3d")}
    return unpool | {n: forward(n) for n in names} | {f"{n}_backward": backward(n) for n in names}


def _norms() -> dict[str, Callable[..., Call | None]]:
    """Normalization; the backward passes alone, given the statistics that were saved."""

    def batch(x, running_mean=None, running_var=None, weight=None, bias=None, return_stats=False, **o):  # type: ignore[no-untyped-def]
        return functools.partial(F.batch_norm, x, running_mean, running_var, weight, bias, **o)

    def batch_backward(grad_output, x, running_mean=None, running_var=None, weight=None, **o):  # type: ignore[no-untyped-def]
        train, eps = o.get("training", False), o.get("eps", 1e-5)
        back = torch.ops.aten.native_batch_norm_backward
        saved = (o["mean"].to(x), o["rstd"].to(x)) if train else (None, None)  # torch's are of x's dtype
        return lambda: back(grad_output, x, weight, running_mean, running_var, *saved, train, eps, [True] * 3)

    def layer(x, normalized_shape, weight=None, bias=None, eps=1e-5, return_stats=False):  # type: ignore[no-untyped-def]
        return functools.partial(F.layer_norm, x, normalized_shape, weight, bias, eps)

    def layer_backward(grad_output, x, normalized_shape, weight=None, eps=1e-5, mean=None, rstd=None):  # type: ignore[no-untyped-def]
        back, size = torch.ops.aten.native_layer_norm_backward, list(normalized_shape)
        mean, rstd = (s.to(x).reshape(*s.shape, *[1] * len(size)) for s in (mean, rstd))
        return lambda: back(grad_output, x, size, mean, rstd, weight, weight, [True] * 3)

    def group(x, num_groups, weight=None, bias=None, eps=1e-5, return_stats=False):  # type: ignore[no-untyped-def]
        return functools.partial(F.group_norm, x, num_groups, weight, bias, eps)

    def group_backward(grad_output, x, num_groups, weight=None, eps=1e-5, mean=None, rstd=None):  # type: ignore[no-untyped-def]
        back, (n, c) = torch.ops.aten.native_group_norm_backward, x.shape[:2]
        inner = x.numel() // (n * c)
        mean, rstd = mean.to(x), rstd.to(x)
        return lambda: back(grad_output, x, mean, rstd, weight, n, c, inner, num_groups, [True] * 3)

    def instance(x, running_mean=None, running_var=None, weight=None, bias=None, return_stats=False, **o):  # type: ignore[no-untyped-def]
        return functools.partial(F.instance_norm, x, running_mean, running_var, weight, bias, **o)

    def rms(x, normalized_shape, weight=None, eps=None, return_stats=False):  # type: ignore[no-untyped-def]
        return functools.partial(F.rms_norm, x, normalized_shape, weight, eps)

    def autograd(build: Callable[..., Call], *names: str) -> Callable[..., Call]:
        """Of x and of those that there are: the graph is built once."""

        def backward(grad_output, x, weight=None, mean=None, rstd=None, **o):  # type: ignore[no-untyped-def]
            inputs = [x.clone().requires_grad_()]
            inputs += [weight.clone().requires_grad_() for _ in names if weight is not None]
            given = dict(zip(names, inputs[1:], strict=False))
            with torch.enable_grad():
                y = build(x=inputs[0], **given, **o)()
            return lambda: torch.autograd.grad(y, inputs, grad_output, retain_graph=True)

        return backward

    return {
        "batch_norm": batch,
        "batch_norm_backward": batch_backward,
        "layer_norm": layer,
        "layer_norm_backward": layer_backward,
        "group_norm": group,
        "group_norm_backward": group_backward,
        "instance_norm": instance,
        "instance_norm_backward": autograd(instance, "weight", "bias"),
        "rms_norm": rms,
        "rms_norm_backward": autograd(rms, "weight"),
    }


def _losses() -> dict[str, Callable[..., Call]]:
    def forward(name: str) -> Callable[..., Call]:
        return lambda **arguments: functools.partial(
            getattr(F, name), *(arguments.pop(key) for key in ("x", "x1", "x2") if key in arguments), **arguments
        )

    def both(x, target, **options):  # type: ignore[no-untyped-def]
        """The loss, its graph, and the backward pass through it, as a training step runs them."""
        x = x.clone().requires_grad_()

        def call():  # type: ignore[no-untyped-def]
            with torch.enable_grad():
                loss = F.cross_entropy(x, target, **options)
            return loss.detach(), *torch.autograd.grad(loss, x)

        return call

    def pair(grad_output, x1, x2, target, **options):  # type: ignore[no-untyped-def]
        inputs = x1.clone().requires_grad_(), x2.clone().requires_grad_()
        with torch.enable_grad():
            y = F.cosine_embedding_loss(*inputs, target, **options)
        return lambda: torch.autograd.grad(y, inputs, grad_output, retain_graph=True)

    names = ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy", "kl_div")
    names += ("binary_cross_entropy_with_logits", "hinge_embedding_loss", "nll_loss", "cross_entropy")
    one = lambda name: _autograd(lambda x, target, **options: getattr(F, name)(x, target, **options))  # noqa: E731
    return (
        {name: forward(name) for name in (*names, "cosine_embedding_loss")}
        | {f"{name}_backward": one(name) for name in names}
        | {"cosine_embedding_loss_backward": pair, "cross_entropy_with_grad": both}
    )


def _prelu_backward(grad_output, x, weight):  # type: ignore[no-untyped-def]
    inputs = x.clone().requires_grad_(), weight.clone().requires_grad_()
    with torch.enable_grad():
        y = F.prelu(*inputs)
    return lambda: torch.autograd.grad(y, inputs, grad_output, retain_graph=True)


def _elementwise() -> dict[str, Callable[..., Call]]:
    """Activations, and their gradients by the operators that torch's own autograd calls."""

    def forward(name: str) -> Callable[..., Call]:
        return lambda x, **options: functools.partial(getattr(F, name, None) or getattr(torch, name), x, **options)

    def backward(name: str, *defaults: tuple[str, Any]) -> Callable[..., Call]:
        def build(grad_output, **saved):  # type: ignore[no-untyped-def]
            x = saved.pop("x", None)
            values = [saved.get(option, default) for option, default in defaults]
            return functools.partial(
                getattr(torch.ops.aten, name), grad_output, saved["y"] if x is None else x, *values
            )

        return build

    def elu(poscoef: float, negcoef: float) -> Callable[..., Call]:
        def build(grad_output, x, alpha=1.0):  # type: ignore[no-untyped-def]
            return lambda: torch.ops.aten.elu_backward(grad_output, alpha * negcoef, poscoef, 1.0, False, x)

        return build

    selu_scale, selu_alpha = 1.0507009873554805, 1.6732632423543772
    return {name: forward(name) for name in ELEMENTWISE} | {
        "relu_backward": lambda grad_output, x: functools.partial(torch.ops.aten.threshold_backward, grad_output, x, 0),
        "relu6_backward": backward("hardtanh_backward", ("", 0), ("", 6)),
        "leaky_relu_backward": backward("leaky_relu_backward", ("negative_slope", 0.01), ("", False)),
        "elu_backward": elu(1.0, 1.0),
        "selu_backward": elu(selu_scale, selu_alpha),
        "gelu_backward": lambda grad_output, x, approximate="none": functools.partial(
            torch.ops.aten.gelu_backward, grad_output, x, approximate=approximate
        ),
        "silu_backward": backward("silu_backward"),
        "mish_backward": backward("mish_backward"),
        "softplus_backward": backward("softplus_backward", ("beta", 1.0), ("threshold", 20.0)),
        "hardtanh_backward": backward("hardtanh_backward", ("min_val", -1.0), ("max_val", 1.0)),
        "hardsigmoid_backward": backward("hardsigmoid_backward"),
        "hardswish_backward": backward("hardswish_backward"),
        "sigmoid_backward": backward("sigmoid_backward"),
        "tanh_backward": backward("tanh_backward"),
    }


def _optimizer(name: str, fused: bool = False) -> Callable[..., Call]:
    """A step of the class from the state given, fused where torch has that, else by its multi-tensor functions."""

    def build(param, grad, step=1, max_exp_avg_sq=None, grad_avg=None, **given):  # type: ignore[no-untyped-def]
        states = {n: v for n, v in given.items() if isinstance(v, torch.Tensor)}
        states |= {} if max_exp_avg_sq is None else {"max_exp_avg_sq": max_exp_avg_sq}
        states |= {} if grad_avg is None else {"grad_avg": grad_avg}
        states = {"sum" if n == "state_sum" else n: v for n, v in states.items()}
        options = {n: v for n, v in given.items() if n not in states and n != "state_sum" and v is not None}
        options |= {} if max_exp_avg_sq is None else {"amsgrad": True}
        options |= {} if grad_avg is None else {"centered": True}
        optimizer = getattr(torch.optim, name)([param], **options, **{"fused" if fused else "foreach": True})
        if name != "SGD":
            states["step"] = torch.tensor(float(step - 1))
        optimizer.state[param].update(states)
        param.grad = grad
        return optimizer.step

    return build


def _dropout(name: str) -> Callable[..., Call]:
    def build(x, p=0.5, training=True, seed=0, offset=0):  # type: ignore[no-untyped-def]
        return functools.partial(getattr(F, name), x, p, training)

    return build


def _network(name: str) -> Callable[..., Call | None]:
    """What torch.nn's module calls; None where torch has no such network."""

    def build(  # type: ignore[no-untyped-def]
        x,
        weights,
        h0,
        c0=None,
        num_layers=1,
        bidirectional=False,
        batch_first=False,
        nonlinearity="tanh",
        linear_before_reset=True,
        **others,
    ):
        if any(others.values()) or h0 is None or not linear_before_reset:
            return None
        function = getattr(torch._VF, f"rnn_{nonlinearity}" if name == "rnn" else name)
        states = (h0, c0) if name == "lstm" else h0
        biases = len(weights) // num_layers // (1 + bidirectional) >= 4
        return functools.partial(
            function, x, states, weights, biases, num_layers, 0.0, False, bidirectional, batch_first
        )

    return build


def _network_cell(name: str) -> Callable[..., Call | None]:
    def build(  # type: ignore[no-untyped-def]
        x, h, weight_ih, weight_hh, bias_ih, bias_hh, c=None, nonlinearity="tanh", linear_before_reset=True
    ):
        if not linear_before_reset:
            return None
        function = getattr(torch, f"rnn_{nonlinearity}_cell" if name == "rnn" else f"{name}_cell")
        return functools.partial(function, x, (h, c) if name == "lstm" else h, weight_ih, weight_hh, bias_ih, bias_hh)

    return build


def _differentiated(forward: Callable[..., Call | None], training: bool) -> Callable[..., Call | None]:
    """The gradient of what `forward` builds, in all that the backward returns; training: along with the forward."""

    def build(  # type: ignore[no-untyped-def]
        grad_output,
        grad_h_n=None,
        grad_c_n=None,
        grad_c=None,
        truncate=0,
        input_grad=True,
        state_grad_norms=None,
        **given,
    ):
        if truncate or not input_grad or state_grad_norms is not None:
            return None
        given.pop("saved", None)
        names = ("x", "weights", "h", "h0", "c", "c0", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
        leaves = [
            leaf.requires_grad_()
            for name in names
            for leaf in (given.get(name, ()) if name == "weights" else (given.get(name),))
            if leaf is not None
        ]
        call = forward(**given)
        if call is None:
            return None
        outer = [grad for grad in (grad_output, grad_h_n, grad_c_n, grad_c) if grad is not None]

        def results() -> list[Any]:
            with torch.enable_grad():
                y = call()
            return list(y if isinstance(y, tuple) else (y,))[: len(outer)]

        if training:
            return lambda: torch.autograd.grad(results(), leaves, outer)
        made = results()
        return lambda: torch.autograd.grad(made, leaves, outer, retain_graph=True)

    return build


def _attention(query, key, value, attn_mask=None, **options):  # type: ignore[no-untyped-def]
    if options.get("dropout_p", 0.0) or query.ndim < 3:
        return None
    return functools.partial(F.scaled_dot_product_attention, query, key, value, attn_mask, **options)


def _attention_backward(  # type: ignore[no-untyped-def]
    grad_output, query, key, value, y, saved=None, attn_mask=None, is_causal=False, scale=None, **options
):
    """The kernel behind the gradient, given what its forward returns."""
    if any(options.values()) or query.ndim != 4 or attn_mask is not None:
        return None
    options = {"dropout_p": 0.0, "is_causal": is_causal}
    found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, **options, scale=scale)
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    return functools.partial(backward, grad_output, query, key, value, *found[:2], **options, scale=scale)


_NETWORKS = {name: _network(name) for name in ("rnn", "lstm", "gru")} | {
    f"{name}_cell": _network_cell(name) for name in ("rnn", "lstm", "gru")
}
TRAINING = {f"{name}_backward": _differentiated(build, True) for name, build in _NETWORKS.items()}
"""Where the forward makes what its backward needs."""

OPERATIONS: dict[str, Callable[..., Call | None]] = {
    **{name: _dropout(name) for name in ("alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d")},
    "l1_penalty": lambda x, coefficient=1.0: lambda: coefficient * x.abs().sum(),
    "l2_penalty": lambda x, coefficient=1.0: lambda: coefficient / 2 * torch.dot(x.ravel(), x.ravel()),
    **_elementwise(),
    **{
        name: _plain(getattr(torch, name))
        for name in ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "where")
    },
    **{name: _plain(getattr(torch, name)) for name in ("sum", "mean", "amax", "amin")},
    "matmul": _plain(torch.matmul),
    "mul_backward": lambda grad_output, x, other: (
        lambda: (
            (grad_output * other).sum_to_size(x.shape),
            (grad_output * x).sum_to_size(other.shape),
        )
    ),
    "matmul_backward": lambda grad_output, x, other: lambda: (grad_output @ other.mT, x.mT @ grad_output),
    "take": lambda x, index: functools.partial(F.embedding, index, x),
    "take_backward": lambda grad_output, index, rows: functools.partial(
        torch.ops.aten.embedding_dense_backward, grad_output, index, rows, -1, False
    ),
    "embedding": lambda x, weight, padding_idx=None: functools.partial(F.embedding, x, weight, padding_idx),
    "embedding_backward": lambda grad_output, x, weight, padding_idx=None: functools.partial(
        torch.ops.aten.embedding_dense_backward,
        grad_output,
        x,
        len(weight),
        -1 if padding_idx is None else padding_idx,
        False,
    ),
    "scaled_dot_product_attention": _attention,
    "scaled_dot_product_attention_backward": _attention_backward,
    "interpolate": lambda x, **options: functools.partial(F.interpolate, x, **options),
    "pixel_shuffle": lambda x, upscale_factor: functools.partial(F.pixel_shuffle, x, upscale_factor),
    "pixel_unshuffle": lambda x, downscale_factor: functools.partial(F.pixel_unshuffle, x, downscale_factor),
    "cat": lambda arrays, dim=0: functools.partial(torch.cat, arrays, dim),
    "prelu": lambda x, weight: functools.partial(F.prelu, x, weight),
    "prelu_backward": _prelu_backward,
    "softmax": lambda x, dim=-1: functools.partial(torch.softmax, x, dim),
    "softmax_backward": lambda grad_output, y, dim=-1: functools.partial(
        torch._softmax_backward_data, grad_output, y, dim, y.dtype
    ),
    "log_softmax": lambda x, dim=-1: functools.partial(torch.log_softmax, x, dim),
    "log_softmax_backward": lambda grad_output, y, dim=-1: functools.partial(
        torch._log_softmax_backward_data, grad_output, y, dim, y.dtype
    ),
    "linear": _linear,
    "linear_backward": _linear_backward,
    "conv2d": _conv2d,
    "conv2d_backward": _conv2d_backward,
    "conv_transpose2d": lambda x, weight, bias=None, **window: functools.partial(
        F.conv_transpose2d, x, weight, bias, **window
    ),
    "conv_transpose2d_backward": _conv_transpose2d_backward,
    "im2col": lambda x, kernel_size, dilation=1, padding=0, stride=1: functools.partial(
        F.unfold, x, kernel_size, dilation, padding, stride
    ),
    "col2im": lambda columns, output_size, kernel_size, dilation=1, padding=0, stride=1: functools.partial(
        F.fold, columns, output_size, kernel_size, dilation, padding, stride
    ),
    "pad": lambda x, pad, mode="constant", value=0.0: functools.partial(F.pad, x, pad, mode, value),
    "pad_backward": _pad_backward,
    **_losses(),
    **_pools(),
    "sgd_step": _optimizer("SGD", fused=True),
    "adagrad_step": _optimizer("Adagrad", fused=True),
    "rmsprop_step": _optimizer("RMSprop"),
    "adam_step": _optimizer("Adam", fused=True),
    "adamw_step": _optimizer("AdamW", fused=True),
    "adadelta_step": _optimizer("Adadelta"),
    "nadam_step": _optimizer("NAdam"),
    **_norms(),
    **_NETWORKS,
    **{f"{name}_backward": _differentiated(build, False) for name, build in _NETWORKS.items()},
}
