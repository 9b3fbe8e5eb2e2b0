"""The contenders. Each turns an operation and its arguments into a call that takes none and is ready to be timed.

`prepare(name, operation, arguments, threads)` returns that call, or None where a peer does not have the operation.
What can be made once (views, graphs, weights in the peer's own layout where its API offers that) is made before.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.cases.activation import ELEMENTWISE
from tests.cases.case import mapped

Arguments = Mapping[str, Any]
Call = Callable[[], Any]


def prepare(name: str, operation: str, arguments: Arguments, threads: int) -> Call | None:
    return PEERS[name](operation, dict(arguments), threads)


def installed() -> list[str]:
    """The peers that can be imported here."""
    return [name for name in PEERS if all(map(importlib.util.find_spec, MODULES.get(name, (name,))))]


def split_backward(arguments: Arguments, operation: str) -> Arguments:
    """What the forward operation was given, out of the arguments of its backward."""
    import fastdl

    accepted = inspect.signature(getattr(fastdl, operation.removesuffix("_backward"))).parameters
    return {name: value for name, value in arguments.items() if name in accepted and name != "out"}


# ---- fastdl and NumPy ----


def _fastdl(operation: str, arguments: dict[str, Any], threads: int) -> Call:
    import fastdl

    fastdl.set_num_threads(threads)
    return _positional(getattr(fastdl, operation), arguments)


def together(name: str, operation: str, arguments: Arguments, threads: int) -> Call | None:
    """Forward and backward as one call; None: nothing passes from one to the other, so that each can be made alone."""
    if name == "torch" and operation in TORCH_TRAINING:
        return _torch(operation, dict(arguments), threads, TORCH_TRAINING)
    if name != "fastdl" or "saved" not in arguments:
        return None
    import fastdl

    forward = _positional(
        getattr(fastdl, operation.removesuffix("_backward")),
        dict(split_backward(arguments, operation)) | {"return_saved": True},
    )
    given = {key: value for key, value in arguments.items() if key != "saved"}
    backward = functools.partial(getattr(fastdl, operation), **given)
    fastdl.set_num_threads(threads)
    return lambda: backward(saved=forward()[-1])


def packed_weight(arguments: dict[str, Any]) -> Any:
    """conv2d's weight as fastdl.pack_conv2d_weight makes it for these very arguments."""
    import fastdl

    names = inspect.signature(fastdl.pack_conv2d_weight).parameters
    given = {name: value for name, value in arguments.items() if name in names}
    return fastdl.pack_conv2d_weight(**given, x_shape=arguments["x"].shape)


def _positional(function: Callable[..., Any], arguments: dict[str, Any]) -> Call:
    """As one writes the call: the leading arguments by position, which is also faster than by keyword."""
    leading = list(itertools.takewhile(arguments.__contains__, inspect.signature(function).parameters))
    keywords = {name: value for name, value in arguments.items() if name not in leading}
    return functools.partial(function, *(arguments[name] for name in leading), **keywords)


def _numpy(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    """fastdl.reference, which is plain NumPy."""
    import threadpoolctl

    from fastdl import reference

    threadpoolctl.threadpool_limits(threads, user_api="blas")
    return _positional(getattr(reference, operation), arguments)


def _matmul(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    """np.matmul alone, for linear layers without bias and activation."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(threads, user_api="blas")
    if operation != "linear" or arguments.get("bias") is not None or arguments.get("activation", "none") != "none":
        return None
    return functools.partial(np.matmul, arguments["x"], arguments["weight"].T)


# ---- PyTorch ----


def _torch(operation: str, arguments: dict[str, Any], threads: int, builders: Any = None) -> Call | None:
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    build = (TORCH if builders is None else builders).get(operation)
    tensors = {k: mapped(torch.from_numpy, v) for k, v in arguments.items()}
    return build(torch, torch.nn.functional, **tensors) if build else None


def _torch_linear(torch, F, x, weight, bias=None, activation="none"):  # type: ignore[no-untyped-def]
    if activation == "relu":
        return lambda: F.linear(x, weight, bias).relu_()
    return functools.partial(F.linear, x, weight, bias)


def _torch_linear_backward(torch, F, grad_output, x, weight, input_grad=True):  # type: ignore[no-untyped-def]
    rows, grads = x.reshape(-1, x.shape[-1]), grad_output.reshape(-1, grad_output.shape[-1])
    return lambda: (grad_output @ weight if input_grad else None, grads.T @ rows, grads.sum(0))


def _torch_conv2d(  # type: ignore[no-untyped-def]
    torch, F, x, weight, bias=None, activation="none", algorithm="auto", data_format="NCHW", **window
):
    if data_format == "NHWC":  # the same memory, as torch's own layout of that kind
        weight = weight.to(memory_format=torch.channels_last)
        call = _torch_conv2d(torch, F, x.permute(0, 3, 1, 2), weight, bias, activation, **window)
        return lambda: call().permute(0, 2, 3, 1)
    if activation == "relu":
        return lambda: F.conv2d(x, weight, bias, **window).relu_()
    return functools.partial(F.conv2d, x, weight, bias, **window)


def _torch_conv2d_backward(  # type: ignore[no-untyped-def]
    torch,
    F,
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
    backward, mask = torch.ops.aten.convolution_backward, [input_grad, True, False]
    window = (pair(stride), pair(padding), pair(dilation), False, [0, 0], groups, mask)
    if data_format == "NHWC":
        grad_output, x = grad_output.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2)
        weight = weight.to(memory_format=torch.channels_last)

        def call():  # type: ignore[no-untyped-def]
            grad_x, grad_weight, _ = backward(grad_output, x, weight, None, *window)
            return grad_x.permute(0, 2, 3, 1) if input_grad else None, grad_weight

        return call
    return lambda: backward(grad_output, x, weight, None, *window)


def _torch_pad_backward(torch, F, grad_output, pad, mode="constant"):  # type: ignore[no-untyped-def]
    added = [b + a for a, b in zip(pad[-1::-2], pad[-2::-2], strict=True)]
    unpadded = grad_output.shape[: -len(added)]
    x = grad_output.new_zeros(
        (*unpadded, *(n - k for n, k in zip(grad_output.shape[-len(added) :], added, strict=True)))
    )
    return _torch_autograd(lambda F, x: F.pad(x, pad, mode))(torch, F, grad_output, x)


def _torch_conv_transpose2d_backward(  # type: ignore[no-untyped-def]
    torch, F, grad_output, x, weight, stride=1, padding=0, output_padding=0, groups=1, dilation=1, input_grad=True
):
    pair = lambda value: [value, value] if isinstance(value, int) else list(value)  # noqa: E731
    backward, mask = torch.ops.aten.convolution_backward, [input_grad, True, False]
    window = (pair(stride), pair(padding), pair(dilation), True, pair(output_padding), groups, mask)
    return lambda: backward(grad_output, x, weight, None, *window)


def _torch_autograd(function: Callable[..., Any]) -> Callable[..., Call]:
    """The backward pass alone: the graph is built once."""

    def build(torch, F, grad_output, x, *others, **keywords):  # type: ignore[no-untyped-def]
        x = x.clone().requires_grad_()
        with torch.enable_grad():
            y = function(F, x, *others, **keywords)
        return lambda: torch.autograd.grad(y, x, grad_output, retain_graph=True)

    return build


def _torch_pools() -> dict[str, Callable[..., Call | None]]:
    """Pooling by torch's names and arguments; channels last it has as a memory format only."""

    def forward(name: str) -> Callable[..., Call | None]:
        def build(torch, F, x, data_format="NCHW", **options):  # type: ignore[no-untyped-def]
            return None if data_format.endswith("C") else functools.partial(getattr(F, name), x, **options)

        return build

    def backward(name: str) -> Callable[..., Call]:
        return _torch_autograd(lambda F, x, indices=None, **options: getattr(F, name)(x, **options))

    kinds = ("max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool")
    names = [f"{kind}{rank}d" for kind in kinds for rank in (1, 2, 3)]
    unpool = {name: forward(name) for name in ("max_unpool1d", "max_unpool2d", "max_unpool3d")}
    return unpool | {n: forward(n) for n in names} | {f"{n}_backward": backward(n) for n in names}


def _torch_norms() -> dict[str, Callable[..., Call | None]]:
    """Normalization; the backward passes alone, given the statistics that were saved."""

    def batch(torch, F, x, running_mean=None, running_var=None, weight=None, bias=None, return_stats=False, **o):  # type: ignore[no-untyped-def]
        return functools.partial(F.batch_norm, x, running_mean, running_var, weight, bias, **o)

    def batch_backward(torch, F, grad_output, x, running_mean=None, running_var=None, weight=None, **o):  # type: ignore[no-untyped-def]
        train, eps = o.get("training", False), o.get("eps", 1e-5)
        back = torch.ops.aten.native_batch_norm_backward
        saved = (o["mean"].to(x), o["rstd"].to(x)) if train else (None, None)  # torch's are of x's dtype
        return lambda: back(grad_output, x, weight, running_mean, running_var, *saved, train, eps, [True] * 3)

    def layer(torch, F, x, normalized_shape, weight=None, bias=None, eps=1e-5, return_stats=False):  # type: ignore[no-untyped-def]
        return functools.partial(F.layer_norm, x, normalized_shape, weight, bias, eps)

    def layer_backward(torch, F, grad_output, x, normalized_shape, weight=None, eps=1e-5, mean=None, rstd=None):  # type: ignore[no-untyped-def]
        back, size = torch.ops.aten.native_layer_norm_backward, list(normalized_shape)
        mean, rstd = (s.to(x).reshape(*s.shape, *[1] * len(size)) for s in (mean, rstd))
        return lambda: back(grad_output, x, size, mean, rstd, weight, weight, [True] * 3)

    def group(torch, F, x, num_groups, weight=None, bias=None, eps=1e-5, return_stats=False):  # type: ignore[no-untyped-def]
        return functools.partial(F.group_norm, x, num_groups, weight, bias, eps)

    def group_backward(torch, F, grad_output, x, num_groups, weight=None, eps=1e-5, mean=None, rstd=None):  # type: ignore[no-untyped-def]
        back, (n, c) = torch.ops.aten.native_group_norm_backward, x.shape[:2]
        inner = x.numel() // (n * c)
        mean, rstd = mean.to(x), rstd.to(x)
        return lambda: back(grad_output, x, mean, rstd, weight, n, c, inner, num_groups, [True] * 3)

    def instance(torch, F, x, running_mean=None, running_var=None, weight=None, bias=None, return_stats=False, **o):  # type: ignore[no-untyped-def]
        return functools.partial(F.instance_norm, x, running_mean, running_var, weight, bias, **o)

    def rms(torch, F, x, normalized_shape, weight=None, eps=None, return_stats=False):  # type: ignore[no-untyped-def]
        return functools.partial(F.rms_norm, x, normalized_shape, weight, eps)

    def autograd(build: Callable[..., Call]) -> Callable[..., Call]:
        """Of x and weight: the graph is built once."""

        def backward(torch, F, grad_output, x, weight=None, mean=None, rstd=None, **o):  # type: ignore[no-untyped-def]
            inputs = [t.clone().requires_grad_() for t in (x, weight) if t is not None]
            with torch.enable_grad():
                y = build(torch, F, x=inputs[0], weight=inputs[1] if len(inputs) > 1 else None, **o)()
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
        "instance_norm_backward": autograd(instance),
        "rms_norm": rms,
        "rms_norm_backward": autograd(rms),
    }


def _torch_losses() -> dict[str, Callable[..., Call]]:
    def forward(name: str) -> Callable[..., Call]:
        return lambda torch, F, **arguments: functools.partial(
            getattr(F, name), *(arguments.pop(key) for key in ("x", "x1", "x2") if key in arguments), **arguments
        )

    def both(torch, F, x, target, **options):  # type: ignore[no-untyped-def]
        """The loss, its graph, and the backward pass through it, as a training step runs them."""
        x = x.clone().requires_grad_()

        def call():  # type: ignore[no-untyped-def]
            with torch.enable_grad():
                loss = F.cross_entropy(x, target, **options)
            return loss.detach(), *torch.autograd.grad(loss, x)

        return call

    def pair(torch, F, grad_output, x1, x2, target, **options):  # type: ignore[no-untyped-def]
        inputs = x1.clone().requires_grad_(), x2.clone().requires_grad_()
        with torch.enable_grad():
            y = F.cosine_embedding_loss(*inputs, target, **options)
        return lambda: torch.autograd.grad(y, inputs, grad_output, retain_graph=True)

    names = ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy", "kl_div")
    names += ("binary_cross_entropy_with_logits", "hinge_embedding_loss", "nll_loss", "cross_entropy")
    one = lambda name: _torch_autograd(lambda F, x, target, **options: getattr(F, name)(x, target, **options))  # noqa: E731
    return (
        {name: forward(name) for name in (*names, "cosine_embedding_loss")}
        | {f"{name}_backward": one(name) for name in names}
        | {"cosine_embedding_loss_backward": pair, "cross_entropy_with_grad": both}
    )


def _torch_prelu_backward(torch, F, grad_output, x, weight):  # type: ignore[no-untyped-def]
    inputs = x.clone().requires_grad_(), weight.clone().requires_grad_()
    with torch.enable_grad():
        y = F.prelu(*inputs)
    return lambda: torch.autograd.grad(y, inputs, grad_output, retain_graph=True)


def _torch_elementwise() -> dict[str, Callable[..., Call]]:
    """Activations, and their gradients by the operators that torch's own autograd calls."""

    def forward(name: str) -> Callable[..., Call]:
        return lambda torch, F, x, **options: functools.partial(
            getattr(F, name, None) or getattr(torch, name), x, **options
        )

    def backward(name: str, *defaults: tuple[str, Any]) -> Callable[..., Call]:
        def build(torch, F, grad_output, **saved):  # type: ignore[no-untyped-def]
            x = saved.pop("x", None)
            values = [saved.get(option, default) for option, default in defaults]
            return functools.partial(
                getattr(torch.ops.aten, name), grad_output, saved["y"] if x is None else x, *values
            )

        return build

    def elu(poscoef: float, negcoef: float) -> Callable[..., Call]:
        def build(torch, F, grad_output, x, alpha=1.0):  # type: ignore[no-untyped-def]
            return lambda: torch.ops.aten.elu_backward(grad_output, alpha * negcoef, poscoef, 1.0, False, x)

        return build

    selu_scale, selu_alpha = 1.0507009873554805, 1.6732632423543772
    return {name: forward(name) for name in ELEMENTWISE} | {
        "relu_backward": lambda torch, F, grad_output, x: functools.partial(
            torch.ops.aten.threshold_backward, grad_output, x, 0
        ),
        "relu6_backward": backward("hardtanh_backward", ("", 0), ("", 6)),
        "leaky_relu_backward": backward("leaky_relu_backward", ("negative_slope", 0.01), ("", False)),
        "elu_backward": elu(1.0, 1.0),
        "selu_backward": elu(selu_scale, selu_alpha),
        "gelu_backward": lambda torch, F, grad_output, x, approximate="none": functools.partial(
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


def _torch_optimizer(name: str, fused: bool = False) -> Callable[..., Call]:
    """A step of the class from the state given, fused where torch has that, else by its multi-tensor functions."""

    def build(torch, F, param, grad, step=1, max_exp_avg_sq=None, grad_avg=None, **given):  # type: ignore[no-untyped-def]
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


def _torch_dropout(name: str) -> Callable[..., Call]:
    def build(torch, F, x, p=0.5, training=True, seed=0, offset=0):  # type: ignore[no-untyped-def]
        return functools.partial(getattr(F, name), x, p, training)

    return build


def _torch_network(name: str) -> Callable[..., Call | None]:
    """What torch.nn's module calls; None where torch has no such network."""

    def build(  # type: ignore[no-untyped-def]
        torch,
        F,
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


def _torch_network_cell(name: str) -> Callable[..., Call | None]:
    def build(  # type: ignore[no-untyped-def]
        torch, F, x, h, weight_ih, weight_hh, bias_ih, bias_hh, c=None, nonlinearity="tanh", linear_before_reset=True
    ):
        if not linear_before_reset:
            return None
        function = getattr(torch, f"rnn_{nonlinearity}_cell" if name == "rnn" else f"{name}_cell")
        return functools.partial(function, x, (h, c) if name == "lstm" else h, weight_ih, weight_hh, bias_ih, bias_hh)

    return build


def _torch_differentiated(forward: Callable[..., Call | None], training: bool) -> Callable[..., Call | None]:
    """The gradient of what `forward` builds, in all that the backward returns; training: along with the forward."""

    def build(  # type: ignore[no-untyped-def]
        torch,
        F,
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
        call = forward(torch, F, **given)
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


_TORCH_NETWORKS = {name: _torch_network(name) for name in ("rnn", "lstm", "gru")} | {
    f"{name}_cell": _torch_network_cell(name) for name in ("rnn", "lstm", "gru")
}
TORCH_TRAINING = {f"{name}_backward": _torch_differentiated(build, True) for name, build in _TORCH_NETWORKS.items()}
"""Where the forward makes what its backward needs."""

TORCH: dict[str, Callable[..., Call | None]] = {
    **{name: _torch_dropout(name) for name in ("alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d")},
    "l1_penalty": lambda torch, F, x, coefficient=1.0: lambda: coefficient * x.abs().sum(),
    "l2_penalty": lambda torch, F, x, coefficient=1.0: lambda: coefficient / 2 * torch.dot(x.ravel(), x.ravel()),
    **_torch_elementwise(),
    "prelu": lambda torch, F, x, weight: functools.partial(F.prelu, x, weight),
    "prelu_backward": _torch_prelu_backward,
    "softmax": lambda torch, F, x, dim=-1: functools.partial(torch.softmax, x, dim),
    "softmax_backward": lambda torch, F, grad_output, y, dim=-1: functools.partial(
        torch._softmax_backward_data, grad_output, y, dim, y.dtype
    ),
    "log_softmax": lambda torch, F, x, dim=-1: functools.partial(torch.log_softmax, x, dim),
    "log_softmax_backward": lambda torch, F, grad_output, y, dim=-1: functools.partial(
        torch._log_softmax_backward_data, grad_output, y, dim, y.dtype
    ),
    "linear": _torch_linear,
    "linear_backward": _torch_linear_backward,
    "conv2d": _torch_conv2d,
    "conv2d_backward": _torch_conv2d_backward,
    "conv_transpose2d": lambda torch, F, x, weight, bias=None, **window: functools.partial(
        F.conv_transpose2d, x, weight, bias, **window
    ),
    "conv_transpose2d_backward": _torch_conv_transpose2d_backward,
    "im2col": lambda torch, F, x, kernel_size, dilation=1, padding=0, stride=1: functools.partial(
        F.unfold, x, kernel_size, dilation, padding, stride
    ),
    "col2im": lambda torch, F, columns, output_size, kernel_size, dilation=1, padding=0, stride=1: functools.partial(
        F.fold, columns, output_size, kernel_size, dilation, padding, stride
    ),
    "pad": lambda torch, F, x, pad, mode="constant", value=0.0: functools.partial(F.pad, x, pad, mode, value),
    "pad_backward": _torch_pad_backward,
    **_torch_losses(),
    **_torch_pools(),
    "sgd_step": _torch_optimizer("SGD", fused=True),
    "adagrad_step": _torch_optimizer("Adagrad", fused=True),
    "rmsprop_step": _torch_optimizer("RMSprop"),
    "adam_step": _torch_optimizer("Adam", fused=True),
    "adamw_step": _torch_optimizer("AdamW", fused=True),
    "adadelta_step": _torch_optimizer("Adadelta"),
    "nadam_step": _torch_optimizer("NAdam"),
    **_torch_norms(),
    **_TORCH_NETWORKS,
    **{f"{name}_backward": _torch_differentiated(build, False) for name, build in _TORCH_NETWORKS.items()},
}


# ---- ONNX Runtime ----


def _onnxruntime(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    """A graph of one node with the parameters as constants, so that they are packed once. float32 only."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    x = arguments.get("x")
    node = None if x is None or x.dtype != np.float32 else _onnx_node(operation, arguments)
    if node is None:
        return None
    kind, attributes, inputs = node
    constants = [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in inputs.items() if v is not None]
    outputs = {"LSTM": ["y", "h_n", "c_n"], "GRU": ["y", "h_n"], "RNN": ["y", "h_n"]}.get(kind, ["y"])
    names = [name if value is not None else "" for name, value in inputs.items()]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", *names], outputs, **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(x))
    for name in outputs:
        binding.bind_output(name)

    def call() -> Any:
        session.run_with_iobinding(binding)
        return binding

    return call


def _onnx_node(operation: str, a: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, np.ndarray]] | None:
    """The node's type, its attributes and its constant inputs."""

    def pair(name: str, default: Any) -> list[int]:
        value = default if a.get(name) is None else a[name]
        return [value, value] if isinstance(value, int) else list(value)

    def window(kernel: list[int], stride: Any) -> dict[str, Any]:
        shape = {"kernel_shape": kernel, "strides": pair("stride", stride), "dilations": pair("dilation", 1)}
        return shape | {"pads": pair("padding", 0) * 2}

    if operation in ("lstm", "gru", "rnn"):
        return _onnx_network(operation, a)
    if a.get("activation", "none") != "none" or "x" not in a:
        return None
    constants = {name: a[name] for name in ("weight", "bias") if a.get(name) is not None}
    if operation == "linear" and a["x"].ndim == 2:
        return "Gemm", {"transB": 1}, constants
    if operation == "conv2d" and a.get("data_format", "NCHW") == "NCHW":
        return "Conv", window(list(a["weight"].shape[2:]), 1) | {"group": a.get("groups", 1)}, constants
    if operation == "conv_transpose2d":
        transposed = {"group": a.get("groups", 1), "output_padding": pair("output_padding", 0)}
        return "ConvTranspose", window(list(a["weight"].shape[2:]), 1) | transposed, constants
    if operation == "pad":
        x, pad = a["x"], a["pad"]
        none = [0] * (x.ndim - len(pad) // 2)
        pads = none + list(pad[-2::-2]) + none + list(pad[::-2])
        mode = {"replicate": "edge", "circular": "wrap"}.get(a.get("mode", "constant"), a.get("mode", "constant"))
        # (onnxruntime has "wrap" from opset 19 on)
        return None if mode == "wrap" else ("Pad", {"mode": mode}, {"pads": np.array(pads)})
    kind, rank = operation[:-2] if re.search(r"pool\dd$", operation) else "", a["x"].ndim - 2
    if kind in ("max_pool", "avg_pool") and a.get("data_format", "NC").startswith("NC"):
        each = lambda value: [value] * rank if isinstance(value, int) else list(value)  # noqa: E731
        kernel = each(a["kernel_size"])
        sizes = {
            "kernel_shape": kernel,
            "strides": each(a.get("stride") or kernel),
            "pads": each(a.get("padding", 0)) * 2,
        }
        if kind == "max_pool":
            return "MaxPool", sizes | {"dilations": each(a.get("dilation", 1))}, {}
        return "AveragePool", sizes | {"count_include_pad": int(a.get("count_include_pad", True))}, {}
    if kind in ("adaptive_avg_pool", "adaptive_max_pool") and a["output_size"] == 1:
        return "GlobalAveragePool" if kind == "adaptive_avg_pool" else "GlobalMaxPool", {}, {}
    if operation == "relu":
        return "Relu", {}, {}
    if operation in ("softmax", "log_softmax"):
        return {"softmax": "Softmax", "log_softmax": "LogSoftmax"}[operation], {"axis": a.get("dim", -1)}, {}
    return None


def _onnx_network(operation: str, a: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]] | None:
    """One layer, in one direction or both, whose states before the first step are constants as well."""
    import fastdl

    others = ("lengths", "dropout", "batch_first", "reverse", "return_saved")
    if any(a.get(name) is not None and a.get(name) is not False for name in others) or a.get("num_layers", 1) > 1:
        return None
    both, hidden, each = a.get("bidirectional", False), a["weights"][1].shape[1], len(a["weights"])
    if operation == "lstm" and (each // (1 + both)) % 2:
        return None  # a projection
    kind = operation.upper()
    given = fastdl.weights_to_onnx(kind, a["weights"], both, a.get("peepholes"))
    inputs = {"W": given["W"], "R": given["R"], "B": given.get("B"), "lengths": None, "h0": a.get("h0")}
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": "bidirectional" if both else "forward"}
    if kind == "LSTM":
        inputs |= {"c0": a.get("c0"), "P": given.get("P")}
    if kind == "GRU":
        attributes["linear_before_reset"] = int(a.get("linear_before_reset", True))
    if kind == "RNN":
        attributes["activations"] = [a.get("nonlinearity", "tanh").capitalize()] * (1 + both)
    while inputs and list(inputs.values())[-1] is None:
        inputs.popitem()
    return kind, attributes, inputs


# ---- JAX ----


def _jax(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    """The compiled function. NPROC and XLA_FLAGS (hold_to) are its only knobs for threads."""
    import jax

    jax.config.update("jax_enable_x64", True)
    arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
    settings = {name: value for name, value in arguments.items() if name not in arrays}
    build = JAX.get(operation)
    if build is None:
        return None
    function = jax.jit(functools.partial(build, jax, **settings))
    on_device = {name: jax.device_put(value) for name, value in arrays.items()}
    return lambda: function(**on_device).block_until_ready()


def _jax_conv2d(  # type: ignore[no-untyped-def]
    jax, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, activation="none", algorithm="auto"
):
    pair = lambda value: (value, value) if isinstance(value, int) else tuple(value)  # noqa: E731
    y = jax.lax.conv_general_dilated(
        x,
        weight,
        pair(stride),
        [(p, p) for p in pair(padding)],
        rhs_dilation=pair(dilation),
        feature_group_count=groups,
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )
    y = y if bias is None else y + bias[:, None, None]
    return jax.nn.relu(y) if activation == "relu" else y


def _jax_linear(jax, x, weight, bias=None, activation="none"):  # type: ignore[no-untyped-def]
    y = x @ weight.T if bias is None else x @ weight.T + bias
    return jax.nn.relu(y) if activation == "relu" else y


JAX: dict[str, Callable[..., Any]] = {
    "relu": lambda jax, x: jax.numpy.maximum(x, 0),
    "softmax": lambda jax, x, dim=-1: jax.nn.softmax(x, dim),
    "log_softmax": lambda jax, x, dim=-1: jax.nn.log_softmax(x, dim),
    "linear": _jax_linear,
    "conv2d": _jax_conv2d,
}


PEERS: dict[str, Callable[[str, dict[str, Any], int], Call | None]] = {
    "fastdl": _fastdl,
    "numpy": _numpy,
    "matmul": _matmul,
    "torch": _torch,
    "onnxruntime": _onnxruntime,
    "jax": _jax,
}
MODULES = {"matmul": ("numpy",), "onnxruntime": ("onnxruntime", "onnx")}


def arrays_of(result: Any) -> list[np.ndarray]:
    """What a call returned, as NumPy arrays (gradients that were not asked for left out)."""
    if hasattr(result, "copy_outputs_to_cpu"):  # ONNX Runtime's binding
        arrays = list(result.copy_outputs_to_cpu())
        if len(arrays) > 1:  # a network's (steps, directions, batch, hidden)
            y = arrays[0].swapaxes(1, 2)
            arrays[0] = y.reshape(*y.shape[:2], -1)
        return arrays
    if isinstance(result, (tuple, list)):
        return [array for item in result for array in arrays_of(item)]
    return [] if result is None or not np.size(result) else [np.asarray(result)]
