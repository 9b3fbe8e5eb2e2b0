"""Every mistake is refused with the argument's name, what was found and what was expected; nothing is written."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

import fastdl
from tests.cases.activation import ELEMENTWISE
from tests.cases.case import flat

F32, F64 = np.float32, np.float64
_NAN = float("nan")


def _zeros(*shape: int, dtype: Any = F32) -> np.ndarray:
    return np.zeros(shape, dtype)


def _ints(*values: int) -> np.ndarray:
    return np.array(values)


def _adam(**more: Any) -> dict[str, Any]:
    arrays = {name: _zeros(5) for name in ("param", "grad", "exp_avg", "exp_avg_sq")}
    return arrays | {"step": 1} | more


def _saved(name: str) -> str:
    """What the gradient of an elementwise function takes: x or y."""
    return list(inspect.signature(getattr(fastdl, f"{name}_backward")).parameters)[1]


_ARITHMETIC = ("add", "sub", "mul", "div", "maximum", "minimum")
# A right call of each operation; a row below replaces some of its arguments.
_RIGHT: dict[str, dict[str, Any]] = {
    **{name: {"x": _zeros(2, 3)} for name in ELEMENTWISE},
    **{f"{name}_backward": {"grad_output": _zeros(2, 3), _saved(name): _zeros(2, 3)} for name in ELEMENTWISE},
    "threshold": {"x": _zeros(2, 3), "threshold": 0.5, "value": 1.0},
    "threshold_backward": {"grad_output": _zeros(2, 3), "x": _zeros(2, 3), "threshold": 0.5},
    **{name: {"x": _zeros(2, 3), "other": _zeros(2, 3)} for name in _ARITHMETIC},
    **{
        f"{name}_backward": {"grad_output": _zeros(2, 3), "x": _zeros(2, 3), "other": _zeros(2, 3)}
        for name in _ARITHMETIC
    },
    "pow": {"x": _zeros(2, 3), "exponent": _zeros(2, 3)},
    "pow_backward": {"grad_output": _zeros(2, 3), "x": _zeros(2, 3), "exponent": _zeros(2, 3)},
    "where": {"condition": np.zeros((2, 3), bool), "x": _zeros(2, 3), "other": _zeros(2, 3)},
    "where_backward": {
        "grad_output": _zeros(2, 3),
        "condition": np.zeros((2, 3), bool),
        "x": _zeros(2, 3),
        "other": _zeros(2, 3),
    },
    **{name: {"x": _zeros(2, 3), "dim": 1} for name in ("sum", "mean", "amax", "amin")},
    **{f"{name}_backward": {"grad_output": _zeros(2), "shape": (2, 3), "dim": 1} for name in ("sum", "mean")},
    **{
        f"{name}_backward": {"grad_output": _zeros(2), "x": _zeros(2, 3), "y": _zeros(2), "dim": 1}
        for name in ("amax", "amin")
    },
    "matmul": {"x": _zeros(2, 3), "other": _zeros(3, 4)},
    "matmul_backward": {"grad_output": _zeros(2, 4), "x": _zeros(2, 3), "other": _zeros(3, 4)},
    "take": {"x": _zeros(4, 3), "index": _ints(3, 0)},
    "take_backward": {"grad_output": _zeros(2, 3), "index": _ints(3, 0), "rows": 4},
    "embedding": {"x": _ints(3, 0), "weight": _zeros(4, 3)},
    "embedding_backward": {"grad_output": _zeros(2, 3), "x": _ints(3, 0), "weight": _zeros(4, 3)},
    "scaled_dot_product_attention": dict.fromkeys(("query", "key", "value"), _zeros(2, 4, 5)),
    "scaled_dot_product_attention_backward": {
        **dict.fromkeys(("grad_output", "query", "key", "value", "y"), _zeros(2, 4, 5)),
        "saved": _zeros(2, 4),
    },
    "interpolate": {"x": _zeros(1, 2, 4), "size": 5},
    "interpolate_backward": {"grad_output": _zeros(1, 2, 5), "x": _zeros(1, 2, 4), "size": 5},
    "resize": {"x": _zeros(1, 2, 4), "size": 5},
    "resize_backward": {"grad_output": _zeros(1, 2, 5), "x": _zeros(1, 2, 4), "size": 5},
    "pixel_shuffle": {"x": _zeros(8, 2, 3), "upscale_factor": 2},
    "pixel_shuffle_backward": {"grad_output": _zeros(2, 4, 6), "upscale_factor": 2},
    "pixel_unshuffle": {"x": _zeros(2, 4, 6), "downscale_factor": 2},
    "pixel_unshuffle_backward": {"grad_output": _zeros(8, 2, 3), "downscale_factor": 2},
    "cat": {"arrays": (_zeros(2, 3), _zeros(2, 4)), "dim": 1},
    "cat_backward": {"grad_output": _zeros(2, 7), "sizes": (3, 4), "dim": 1},
    "prelu": {"x": _zeros(2, 3), "weight": _zeros(3)},
    "prelu_backward": {"grad_output": _zeros(2, 3), "x": _zeros(2, 3), "weight": _zeros(3)},
    "softmax": {"x": _zeros(2, 3)},
    "softmax_backward": {"grad_output": _zeros(2, 3), "y": _zeros(2, 3)},
    "softmin": {"x": _zeros(2, 3)},
    "softmin_backward": {"grad_output": _zeros(2, 3), "y": _zeros(2, 3)},
    "glu": {"x": _zeros(2, 4)},
    "glu_backward": {"grad_output": _zeros(2, 2), "x": _zeros(2, 4)},
    "log_softmax": {"x": _zeros(2, 3)},
    "log_softmax_backward": {"grad_output": _zeros(2, 3), "y": _zeros(2, 3)},
    "linear": {"x": _zeros(2, 3), "weight": _zeros(4, 3), "bias": _zeros(4)},
    "linear_backward": {"grad_output": _zeros(2, 4), "x": _zeros(2, 3), "weight": _zeros(4, 3)},
    "conv2d": {"x": _zeros(2, 4, 5, 6), "weight": _zeros(6, 4, 3, 3), "bias": _zeros(6)},
    "conv2d_backward": {"grad_output": _zeros(2, 6, 3, 4), "x": _zeros(2, 4, 5, 6), "weight": _zeros(6, 4, 3, 3)},
    "conv1d": {"x": _zeros(2, 4, 9), "weight": _zeros(6, 4, 3), "bias": _zeros(6), "residual": _zeros(2, 6, 7)},
    "conv1d_backward": {"grad_output": _zeros(2, 6, 7), "x": _zeros(2, 4, 9), "weight": _zeros(6, 4, 3)},
    "conv3d": {"x": _zeros(2, 4, 3, 5, 6), "weight": _zeros(6, 4, 3, 3, 3), "bias": _zeros(6)},
    "conv3d_backward": {
        "grad_output": _zeros(2, 6, 1, 3, 4),
        "x": _zeros(2, 4, 3, 5, 6),
        "weight": _zeros(6, 4, 3, 3, 3),
    },
    "pad": {"x": _zeros(2, 3, 5), "pad": (1, 2)},
    "pad_backward": {"grad_output": _zeros(2, 3, 8), "pad": (1, 2)},
    "conv_transpose1d": {"x": _zeros(2, 4, 5), "weight": _zeros(4, 6, 3), "bias": _zeros(6)},
    "conv_transpose1d_backward": {"grad_output": _zeros(2, 6, 7), "x": _zeros(2, 4, 5), "weight": _zeros(4, 6, 3)},
    "conv_transpose2d": {"x": _zeros(2, 4, 5, 6), "weight": _zeros(4, 6, 3, 3), "bias": _zeros(6)},
    "conv_transpose2d_backward": {
        "grad_output": _zeros(2, 6, 7, 8),
        "x": _zeros(2, 4, 5, 6),
        "weight": _zeros(4, 6, 3, 3),
    },
    "conv_transpose3d": {"x": _zeros(2, 4, 5, 6, 3), "weight": _zeros(4, 6, 3, 3, 3), "bias": _zeros(6)},
    "conv_transpose3d_backward": {
        "grad_output": _zeros(2, 6, 7, 8, 5),
        "x": _zeros(2, 4, 5, 6, 3),
        "weight": _zeros(4, 6, 3, 3, 3),
    },
    "im2col": {"x": _zeros(2, 4, 5, 6), "kernel_size": 3},
    "col2im": {"columns": _zeros(2, 36, 12), "output_size": (5, 6), "kernel_size": 3},
    "fuse_conv_bn_weights": {
        "weight": _zeros(4, 3),
        "bias": _zeros(4),
        "running_mean": _zeros(4),
        "running_var": np.ones(4, F32),
    },
    "batch_norm": {
        "x": _zeros(2, 4, 5),
        "running_mean": _zeros(4),
        "running_var": np.ones(4, F32),
        "weight": _zeros(4),
        "bias": _zeros(4),
    },
    "batch_norm_backward": {
        "grad_output": _zeros(2, 4, 5),
        "x": _zeros(2, 4, 5),
        "weight": _zeros(4),
        "training": True,
        "mean": np.zeros(4),
        "rstd": np.zeros(4),
    },
    "instance_norm": {"x": _zeros(2, 4, 5), "weight": _zeros(4), "bias": _zeros(4)},
    "instance_norm_backward": {"grad_output": _zeros(2, 4, 5), "x": _zeros(2, 4, 5), "weight": _zeros(4)},
    "group_norm": {"x": _zeros(2, 4, 5), "num_groups": 2, "weight": _zeros(4), "bias": _zeros(4)},
    "group_norm_backward": {"grad_output": _zeros(2, 4, 5), "x": _zeros(2, 4, 5), "num_groups": 2},
    "layer_norm": {"x": _zeros(2, 4, 5), "normalized_shape": (4, 5), "weight": _zeros(4, 5), "bias": _zeros(4, 5)},
    "layer_norm_backward": {"grad_output": _zeros(2, 4, 5), "x": _zeros(2, 4, 5), "normalized_shape": 5},
    "rms_norm": {"x": _zeros(2, 4, 5), "normalized_shape": (4, 5), "weight": _zeros(4, 5)},
    "rms_norm_backward": {"grad_output": _zeros(2, 4, 5), "x": _zeros(2, 4, 5), "normalized_shape": 5},
    "sgd_step": {"param": _zeros(5), "grad": _zeros(5), "momentum_buffer": _zeros(5), "momentum": 0.9},
    "adagrad_step": {"param": _zeros(5), "grad": _zeros(5), "state_sum": _zeros(5)},
    "rmsprop_step": {
        "param": _zeros(5),
        "grad": _zeros(5),
        "square_avg": _zeros(5),
        "grad_avg": _zeros(5),
        "momentum_buffer": _zeros(5),
        "momentum": 0.9,
    },
    "adam_step": _adam(max_exp_avg_sq=_zeros(5)),
    "adamw_step": _adam(),
    "adadelta_step": {"param": _zeros(5), "grad": _zeros(5), "square_avg": _zeros(5), "acc_delta": _zeros(5)},
    "nadam_step": _adam(mu_product=np.ones((), F32)),
    "lion_step": {"param": _zeros(5), "grad": _zeros(5), "exp_avg": _zeros(5)},
    "alpha_dropout": {"x": _zeros(2, 3)},
    "alpha_dropout_backward": {"grad_output": _zeros(2, 3)},
    "dropout": {"x": _zeros(2, 3)},
    "dropout_backward": {"grad_output": _zeros(2, 3)},
    **{f"dropout{rank}d": {"x": _zeros(2, 3, *[4] * rank)} for rank in (1, 2, 3)},
    **{f"dropout{rank}d_backward": {"grad_output": _zeros(2, 3, *[4] * rank)} for rank in (1, 2, 3)},
    "l1_penalty": {"x": _zeros(2, 3)},
    "l1_penalty_backward": {"grad_output": _zeros(), "x": _zeros(2, 3)},
    "l2_penalty": {"x": _zeros(2, 3)},
    "l2_penalty_backward": {"grad_output": _zeros(), "x": _zeros(2, 3)},
}


def _weights(gates: int, dtype: Any = F32) -> tuple[np.ndarray, ...]:
    """Of one layer: 5 numbers in, 4 units."""
    shapes = (4 * gates, 5), (4 * gates, 4), (4 * gates,), (4 * gates,)
    return tuple(_zeros(*shape, dtype=dtype) for shape in shapes)


_PROJECTED = (_zeros(16, 5), _zeros(16, 3), _zeros(16), _zeros(16), _zeros(3, 4))
for _name, _gates, _numbers in (("rnn", 1, 4), ("lstm", 4, 24), ("gru", 3, 20)):  # of 3 steps, 2 samples
    _long = _name == "lstm"
    _states = {"h0": _zeros(1, 2, 4)} | ({"c0": _zeros(1, 2, 4)} if _long else {})
    _RIGHT[_name] = {"x": _zeros(3, 2, 5), "weights": _weights(_gates)} | _states
    _RIGHT[f"{_name}_backward"] = _RIGHT[_name] | {"grad_output": _zeros(3, 2, 4), "saved": _zeros(6 * _numbers)}
    _RIGHT[f"{_name}_cell"] = {"x": _zeros(2, 5), "h": _zeros(2, 4)} | ({"c": _zeros(2, 4)} if _long else {})
    _RIGHT[f"{_name}_cell"] |= dict(
        zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), _weights(_gates), strict=True)
    )
    _RIGHT[f"{_name}_cell_backward"] = {"grad_output": _zeros(2, 4)} | _RIGHT[f"{_name}_cell"]


def _poolings(rank: int) -> dict[str, dict[str, Any]]:
    """Of (2, 4, ..., 5, 6), or what is left of it in one dimension, to (2, 4, ..., 2, 3)."""
    x, y = _zeros(2, 4, *(3, 5, 6)[-rank:]), _zeros(2, 4, *(1, 2, 3)[-rank:])
    size, indices = (1, 2, 3)[-rank:], np.zeros(y.shape, int)
    indices[...] = np.arange(y[0, 0].size).reshape(y.shape[2:])
    forward = {
        "max_pool": {"x": x, "kernel_size": 2},
        "avg_pool": {"x": x, "kernel_size": 2},
        "lp_pool": {"x": x, "norm_type": 2.0, "kernel_size": 2},
        "adaptive_avg_pool": {"x": x, "output_size": size},
        "adaptive_max_pool": {"x": x, "output_size": size},
    }
    calls = {f"{name}{rank}d": call for name, call in forward.items()}
    calls |= {f"{name}{rank}d_backward": {"grad_output": y} | call for name, call in forward.items()}
    calls[f"max_unpool{rank}d"] = {"x": y, "indices": indices, "kernel_size": 2}
    calls[f"max_unpool{rank}d_backward"] = {"grad_output": x, "indices": indices}
    return calls


for _rank in (1, 2, 3):
    _RIGHT |= _poolings(_rank)

_LOSSES = (
    "mse_loss",
    "l1_loss",
    "huber_loss",
    "smooth_l1_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "kl_div",
    "hinge_embedding_loss",
)
_RIGHT |= {name: {"x": _zeros(2, 3), "target": _zeros(2, 3), "reduction": "none"} for name in _LOSSES}
_RIGHT |= {f"{name}_backward": {"grad_output": _zeros(2, 3)} | _RIGHT[name] for name in _LOSSES}
for _name in ("nll_loss", "cross_entropy"):
    _RIGHT[_name] = {"x": _zeros(3, 4), "target": _ints(0, 1, 3), "reduction": "none"}
    _RIGHT[f"{_name}_backward"] = {"grad_output": _zeros(3)} | _RIGHT[_name]
_RIGHT["cross_entropy_with_grad"] = _RIGHT["cross_entropy"]
_RIGHT["cosine_embedding_loss"] = {"x1": _zeros(3, 4), "x2": _zeros(3, 4), "target": _zeros(3), "reduction": "none"}
_RIGHT["cosine_embedding_loss_backward"] = {"grad_output": _zeros(3)} | _RIGHT["cosine_embedding_loss"]
_OVER_TIME: dict[str, Any] = {"reward": _zeros(4, 3), "state_value": _zeros(4, 3), "next_state_value": _zeros(4, 3)}
_MASKS: dict[str, Any] = {"terminated": np.zeros((4, 3), bool), "done": np.zeros((4, 3), bool)}
_RIGHT["discounted_returns"] = {"reward": _zeros(4, 3), "done": _MASKS["done"], "gamma": 0.9, "bootstrap": _zeros(3)}
_RIGHT["discounted_returns_backward"] = {"grad_output": _zeros(4, 3), "done": _MASKS["done"], "gamma": 0.9}
_RIGHT["gae"] = _OVER_TIME | _MASKS | {"gamma": 0.9, "lmbda": 0.5}
_RIGHT["gae_backward"] = {"grad_advantage": _zeros(4, 3), "grad_value_target": _zeros(4, 3)} | _MASKS
_RIGHT["gae_backward"] |= {"gamma": 0.9, "lmbda": 0.5}
_RIGHT["vtrace"] = {"log_rho": _zeros(4, 3)} | _OVER_TIME | _MASKS | {"gamma": 0.9}
_RIGHT["categorical_log_prob"] = {"logits": _zeros(3, 4), "action": _ints(0, 1, 3)}
_RIGHT["categorical_log_prob_backward"] = {"grad_output": _zeros(3)} | _RIGHT["categorical_log_prob"]
_RIGHT["categorical_entropy"] = {"logits": _zeros(3, 4)}
_RIGHT["categorical_entropy_backward"] = {"grad_output": _zeros(3), "logits": _zeros(3, 4)}
_RIGHT["normal_log_prob"] = {"mean": _zeros(3, 4), "log_std": _zeros(4), "action": _zeros(3, 4)}
_RIGHT["normal_log_prob_backward"] = {"grad_output": _zeros(3)} | _RIGHT["normal_log_prob"]
for _name in ("categorical", "normal"):
    _RIGHT[f"{_name}_policy_loss"] = _RIGHT[f"{_name}_log_prob"] | {"advantage": _zeros(3), "old_log_prob": _zeros(3)}
    _RIGHT[f"{_name}_policy_loss_backward"] = {"grad_output": _zeros()} | _RIGHT[f"{_name}_policy_loss"]


def _overlapping(operation: str, argument: str) -> dict[str, Any]:
    """`out` as large as it has to be, sharing memory with an argument, one element further on."""
    right = _RIGHT[operation]
    x, size = right[argument], getattr(fastdl, operation)(**right).shape
    memory = np.zeros(max(x.size, int(np.prod(size))) + 1)
    out = memory.view(F32)[1 : 1 + int(np.prod(size))].reshape(size)
    return {argument: memory.view(x.dtype)[: x.size].reshape(x.shape), "out": out}


_NORMS = [name for name in _RIGHT if "_norm" in name]
_SHARED = _zeros(10)

# operation, the arguments that are wrong, the exception, the argument it names, what it says was found and expected
_ROWS: list[tuple[str, dict[str, Any], type[Exception], str, str, str]] = [
    # rank
    ("linear", {"x": _zeros(), "bias": None}, ValueError, "x", "()", "3"),
    ("linear", {"weight": _zeros(12)}, ValueError, "x", "(2, 3)", "12"),
    ("linear", {"weight": _zeros(2, 2, 3)}, ValueError, "weight", "(2, 2, 3)", "(out, in) or (in,)"),
    ("linear", {"bias": _zeros(4, 1)}, ValueError, "bias", "(4, 1)", "1 dimensions"),
    ("linear", {"bias": _zeros()}, ValueError, "bias", "()", "1 dimensions"),
    ("linear", {"weight": _zeros(3)}, ValueError, "bias", "(4,)", "0 dimensions"),
    ("linear_backward", {"weight": _zeros(3)}, ValueError, "grad_output", "(2, 4)", "(2,)"),
    ("conv2d", {"x": _zeros(5, 6)}, ValueError, "x", "(5, 6)", "4 dimensions"),
    ("conv2d", {"weight": _zeros(6, 4, 3)}, ValueError, "weight", "(6, 4, 3)", "4 dimensions"),
    ("conv2d_backward", {"grad_output": _zeros(2, 6, 12)}, ValueError, "grad_output", "(2, 6, 12)", "(2, 6, 3, 4)"),
    ("im2col", {"x": _zeros(5, 6)}, ValueError, "x", "(5, 6)", "4 dimensions, or 3 without"),
    ("col2im", {"columns": _zeros(36)}, ValueError, "columns", "(36,)", "3 dimensions, or 2 without"),
    ("max_pool2d", {"x": _zeros(5, 6)}, ValueError, "x", "(5, 6)", "4 dimensions, or 3 without a batch"),
    ("max_pool2d", {"return_indices": 1}, TypeError, "return_indices", "1", "True or False"),
    ("max_pool2d", {"ceil_mode": None}, TypeError, "ceil_mode", "None", "True or False"),
    ("avg_pool2d", {"count_include_pad": 2**70}, TypeError, "count_include_pad", str(2**70), "True or False"),
    ("avg_pool2d", {"divisor_override": 2**70}, ValueError, "divisor_override", str(2**70), "64 bits"),
    ("avg_pool2d", {"divisor_override": 2.0}, TypeError, "divisor_override", "2.0", "int"),
    ("lp_pool2d", {"norm_type": _zeros(2)}, TypeError, "norm_type", "array", "number"),
    ("celu", {"alpha": _zeros(2)}, TypeError, "alpha", "array", "number"),
    ("cross_entropy", {"x": _zeros(3)}, ValueError, "target", "(3,)", "0 dimensions"),
    ("cross_entropy", {"x": _zeros()}, ValueError, "x", "()", "at least 1 dimension"),
    ("cross_entropy", {"target": np.zeros((3, 1), int)}, ValueError, "target", "(3, 1)", "1 dimensions"),
    # sizes that do not match
    ("linear", {"x": _zeros(2, 5)}, ValueError, "x", "(2, 5)", "3"),
    ("linear", {"bias": _zeros(3)}, ValueError, "bias", "(3,)", "(4,)"),
    ("linear_backward", {"grad_output": _zeros(2, 5)}, ValueError, "grad_output", "(2, 5)", "(2, 4)"),
    ("conv2d", {"x": _zeros(2, 3, 5, 6)}, ValueError, "weight", "(6, 4, 3, 3)", "3"),
    ("conv2d", {"groups": 2}, ValueError, "weight", "(6, 4, 3, 3)", "the 4 channels of x"),
    ("conv2d", {"groups": 4}, ValueError, "groups", "4", "6"),
    ("conv2d", {"groups": 0}, ValueError, "groups", "0", "at least 1"),
    ("conv2d", {"groups": -1}, ValueError, "groups", "-1", "at least 1"),
    ("conv2d", {"groups": 1.0}, TypeError, "groups", "1.0", "int"),
    ("conv2d", {"groups": "1"}, TypeError, "groups", "1", "int"),
    ("conv2d", {"groups": None}, TypeError, "groups", "None", "int"),
    ("conv2d", {"bias": _zeros(5)}, ValueError, "bias", "(5,)", "(6,)"),
    ("conv2d", {"weight": _zeros(6, 4, 0, 3)}, ValueError, "weight", "(6, 4, 0, 3)", "at least 1 x 1"),
    ("conv2d_backward", {"grad_output": _zeros(2, 6, 4, 4)}, ValueError, "grad_output", "4, 4)", "(2, 6, 3, 4)"),
    ("conv2d_backward", {"x": _zeros(2, 3, 5, 6)}, ValueError, "weight", "(6, 4, 3, 3)", "3"),
    *((name, {"x": _zeros(2, dtype=np.float16)}, TypeError, "x", "<f2", "float32 or float64") for name in ELEMENTWISE),
    *(
        (f"{name}_backward", {"grad_output": _zeros(3, 2)}, ValueError, "grad_output", "(3, 2)", "(2, 3)")
        for name in ELEMENTWISE
    ),
    ("gelu", {"approximate": "erf"}, ValueError, "approximate", "erf", "none, tanh"),
    ("gelu_backward", {"approximate": None}, TypeError, "approximate", "None", "none, tanh"),
    ("celu", {"alpha": 0.0}, ValueError, "alpha", "0.0", "other than 0"),
    ("celu_backward", {"alpha": 0}, ValueError, "alpha", "0", "other than 0"),
    ("softplus", {"beta": 0.0}, ValueError, "beta", "0.0", "other than 0"),
    ("hardtanh", {"min_val": 2.0}, ValueError, "min_val", "2.0", "at most max_val"),
    ("hardtanh", {"min_val": _NAN}, ValueError, "min_val", "nan", "a number"),
    ("softshrink", {"lambd": -0.5}, ValueError, "lambd", "-0.5", "at least 0"),
    ("softshrink_backward", {"lambd": math.inf}, ValueError, "lambd", "inf", "finite"),
    ("glu", {"x": _zeros(2, 3)}, ValueError, "x", "(2, 3)", "an even size in dimension -1"),
    ("glu", {"x": _zeros()}, ValueError, "x", "()", "an even size"),
    ("glu", {"dim": 2}, ValueError, "dim", "2", "at most 1"),
    ("glu_backward", {"grad_output": _zeros(2, 4)}, ValueError, "grad_output", "(2, 4)", "(2, 2)"),
    ("softmin", {"dim": True}, TypeError, "dim", "True", "int"),
    ("softmin_backward", {"grad_output": _zeros(6)}, ValueError, "grad_output", "(6,)", "(2, 3)"),
    ("prelu", {"weight": _zeros(1, 3)}, ValueError, "weight", "(1, 3)", "one for each channel of (2, 3)"),
    ("prelu", {"weight": _zeros(2)}, ValueError, "weight", "(2,)", "one for each channel of (2, 3)"),
    ("prelu", {"x": _zeros(3)}, ValueError, "weight", "(3,)", "one for each channel of (3,)"),
    ("prelu", {"weight": _zeros(3, dtype=F64)}, TypeError, "weight", "float64", "float32"),
    ("prelu_backward", {"grad_output": _zeros(3, 2)}, ValueError, "grad_output", "(3, 2)", "(2, 3)"),
    ("softmax_backward", {"grad_output": _zeros(6)}, ValueError, "grad_output", "(6,)", "(2, 3)"),
    ("log_softmax_backward", {"grad_output": _zeros(6)}, ValueError, "grad_output", "(6,)", "(2, 3)"),
    ("max_pool2d_backward", {"grad_output": _zeros(2, 4, 3, 3)}, ValueError, "grad_output", "3, 3)", "(2, 4, 2, 3)"),
    ("col2im", {"columns": _zeros(2, 35, 12)}, ValueError, "columns", "(2, 35, 12)", "a multiple of"),
    ("col2im", {"columns": _zeros(2, 36, 11)}, ValueError, "columns", "(2, 36, 11)", "(2, 36, 12)"),
    ("cross_entropy", {"target": _ints(0, 1)}, ValueError, "target", "(2,)", "(3,)"),
    ("cross_entropy_backward", {"grad_output": _zeros()}, ValueError, "grad_output", "()", "(3,)"),
    ("sgd_step", {"grad": _zeros(4)}, ValueError, "grad", "(4,)", "(5,)"),
    ("sgd_step", {"momentum_buffer": _zeros(4)}, ValueError, "momentum_buffer", "(4,)", "(5,)"),
    # sequences and volumes
    ("conv1d", {"x": _zeros(9)}, ValueError, "x", "(9,)", "3 dimensions, or 2 without a batch"),
    ("conv1d", {"weight": _zeros(6, 4, 3, 1)}, ValueError, "weight", "(6, 4, 3, 1)", "3 dimensions"),
    ("conv1d", {"stride": (1, 1)}, TypeError, "stride", "(1, 1)", "int"),
    ("conv1d", {"x": _zeros(2, 4, 2)}, ValueError, "kernel_size", "covers 3", "size 2 with its padding 0 + 0"),
    ("conv1d", {"bias": _zeros(5)}, ValueError, "bias", "(5,)", "(6,)"),
    ("conv1d_backward", {"grad_output": _zeros(2, 6, 8)}, ValueError, "grad_output", "(2, 6, 8)", "(2, 6, 7)"),
    ("conv1d_backward", {"padding": 1}, ValueError, "grad_output", "(2, 6, 7)", "(2, 6, 9)"),
    ("conv3d", {"x": _zeros(3, 5, 6)}, ValueError, "x", "(3, 5, 6)", "5 dimensions"),
    ("conv3d", {"weight": _zeros(6, 4, 3, 3)}, ValueError, "weight", "(6, 4, 3, 3)", "5 dimensions"),
    ("conv3d", {"stride": (1, 1)}, TypeError, "stride", "(1, 1)", "3 ints"),
    ("conv3d", {"dilation": (2, 1, 1)}, ValueError, "kernel_size", "dilation 2 which covers 5", "size 3"),
    ("conv3d", {"weight": _zeros(6, 3, 3, 3, 3)}, ValueError, "weight", "(6, 3, 3, 3, 3)", "4"),
    (
        "conv3d_backward",
        {"grad_output": _zeros(2, 6, 3, 4)},
        ValueError,
        "grad_output",
        "(2, 6, 3, 4)",
        "(2, 6, 1, 3, 4)",
    ),
    ("conv3d_backward", {"stride": (1, 2, 1)}, ValueError, "grad_output", "(2, 6, 1, 3, 4)", "(2, 6, 1, 2, 4)"),
    # residual and data_format
    ("conv1d", {"residual": _zeros(2, 6, 8)}, ValueError, "residual", "(2, 6, 8)", "(2, 6, 7)"),
    ("conv1d", {"residual": _zeros(2, 42)}, ValueError, "residual", "(2, 42)", "3 dimensions"),
    ("conv1d", {"residual": _zeros(2, 6, 7, dtype=F64)}, TypeError, "residual", "float64", "float32"),
    ("conv2d", {"residual": _zeros(2, 6, 4, 3)}, ValueError, "residual", "(2, 6, 4, 3)", "(2, 6, 3, 4)"),
    ("conv3d", {"residual": _zeros(2, 6, 1, 4, 3)}, ValueError, "residual", "(2, 6, 1, 4, 3)", "(2, 6, 1, 3, 4)"),
    ("conv2d", {"residual": [1.0]}, TypeError, "residual", "list", "array"),
    ("conv1d", {"data_format": "NCHW"}, ValueError, "data_format", "NCHW", "NCL, NLC"),
    ("conv2d", {"data_format": "NCL"}, ValueError, "data_format", "NCL", "NCHW, NHWC"),
    ("conv2d", {"data_format": "nhwc"}, ValueError, "data_format", "nhwc", "NCHW, NHWC"),
    ("conv2d_backward", {"data_format": "NLC"}, ValueError, "data_format", "NLC", "NCHW, NHWC"),
    ("conv3d", {"data_format": None}, TypeError, "data_format", "None", "NCDHW, NDHWC"),
    ("conv2d", {"data_format": "NHWC"}, ValueError, "weight", "(6, 4, 3, 3)", "6"),
    ("conv2d", {"precision": "high"}, ValueError, "precision", "high", "default, fast, exact"),
    ("conv_transpose2d", {"precision": None}, TypeError, "precision", "None", "default, fast, exact"),
    # padding in its forms
    ("conv2d", {"padding": "full"}, ValueError, "padding", "full", "'same', 'same_lower', 'valid' or numbers"),
    ("conv_transpose2d", {"padding": "same", "stride": 2}, ValueError, "padding", "'same' with stride", "stride 1"),
    ("conv2d", {"padding": (1, 2, 3)}, TypeError, "padding", "(1, 2, 3)", "2 ints"),
    ("conv2d", {"padding": ((1, 2),)}, TypeError, "padding", "((1, 2),)", "2 pairs"),
    ("conv2d", {"padding": ((1, 2), 1)}, TypeError, "padding", "((1, 2), 1)", "2 pairs"),
    ("conv2d", {"padding": ((1, 2), (1, 2, 3))}, TypeError, "padding", "(1, 2, 3)", "2 pairs"),
    ("conv2d", {"padding": ((1, 2), (1, -2))}, ValueError, "padding", "(1, -2)", "at least 0"),
    ("conv1d", {"padding": (1, 2)}, TypeError, "padding", "(1, 2)", "an int, ((before, after),), or a string"),
    ("conv1d", {"padding": 0.5}, TypeError, "padding", "0.5", "int"),
    ("conv1d", {"padding": None}, TypeError, "padding", "None", "int"),
    ("conv2d_backward", {"padding": "valid ", "stride": 1}, ValueError, "padding", "valid ", "numbers"),
    ("conv2d", {"padding_mode": "edge"}, ValueError, "padding_mode", "edge", "zeros, reflect, replicate, circular"),
    ("conv2d", {"padding_mode": "reflect", "padding": 5}, ValueError, "padding", "(5, 5) in dimension 3", "less than"),
    (
        "conv2d_backward",
        {"padding_mode": "circular", "padding": (6, 0), "grad_output": _zeros(2, 6, 15, 4)},
        ValueError,
        "padding",
        "of size 5",
        "at most the size",
    ),
    # geometry past 64 bits
    ("conv1d", {"padding": 2**31}, ValueError, "padding", "2147483648", "at most 2**30"),
    ("conv2d", {"padding": 2**100}, ValueError, "padding", str(2**100), "at most 2**30"),
    ("conv2d", {"stride": 2**62}, ValueError, "stride", str(2**62), "at most 2**30"),
    ("conv2d", {"stride": 2**64}, ValueError, "stride", str(2**64), "at most 2**30"),
    ("conv3d", {"dilation": 2**40}, ValueError, "dilation", str(2**40), "at most 2**30"),
    ("conv2d", {"groups": 2**64}, ValueError, "groups", str(2**64), "6"),
    ("conv2d", {"padding": 2**29}, ValueError, "x", "(1, 1073741827, 1073741828)", "fits 64 bits"),
    ("conv3d", {"padding": 2**20}, ValueError, "x", "an output of", "fits 64 bits"),
    ("im2col", {"kernel_size": 2**40, "padding": 2**40}, ValueError, "kernel_size", str(2**40), "at most 2**30"),
    ("im2col", {"padding": 2**29}, ValueError, "kernel_size", "columns of", "fits 64 bits"),
    (
        "im2col",
        {"kernel_size": 2**28, "padding": 2**29, "stride": 2**28},
        ValueError,
        "kernel_size",
        "columns of",
        "fits 64 bits",
    ),
    ("col2im", {"output_size": 2**40}, ValueError, "output_size", "1099511627776", "at most 2**30"),
    ("max_pool2d", {"stride": 2**40}, ValueError, "stride", str(2**40), "at most 2**30"),
    ("max_pool2d", {"kernel_size": 2**31, "padding": 2**30}, ValueError, "kernel_size", str(2**31), "at most 2**30"),
    ("pad", {"pad": (2**62, 0)}, ValueError, "pad", str(2**62), "at most 2**60"),
    ("pad", {"pad": (2**58, 0)}, ValueError, "pad", "elements", "fits 64 bits"),
    ("pad", {"pad": (2**40, 0, 2**40, 0)}, ValueError, "pad", "elements", "fits 64 bits"),
    # borders
    ("pad", {"pad": (1,)}, ValueError, "pad", "(1,)", "at most 3 dimensions"),
    ("pad", {"pad": (0,) * 8}, ValueError, "pad", "(0, 0, 0, 0, 0, 0, 0, 0)", "at most 3 dimensions"),
    ("pad", {"pad": 1}, TypeError, "pad", "1", "tuple of ints"),
    ("pad", {"pad": None}, TypeError, "pad", "None", "tuple of ints"),
    ("pad", {"pad": (1.0, 1)}, TypeError, "pad", "(1.0, 1)", "tuple of ints"),
    ("pad", {"pad": (True, 1)}, TypeError, "pad", "(True, 1)", "tuple of ints"),
    ("pad", {"pad": (-3, -3)}, ValueError, "pad", "(-3, -3) in dimension 2 of size 5", "at least 0"),
    ("pad", {"pad": (5, 0), "mode": "reflect"}, ValueError, "pad", "(5, 0) in dimension 2 of size 5", "less than"),
    ("pad", {"pad": (0, 0, 0, 6), "mode": "circular"}, ValueError, "pad", "(0, 6) in dimension 1 of size 3", "at most"),
    ("pad", {"pad": (-3, 3), "mode": "circular"}, ValueError, "pad", "(-3, 3) in dimension 2 of size 5", "cropped"),
    ("pad", {"pad": (-3, -3), "mode": "replicate"}, ValueError, "pad", "(-3, -3)", "at least 0"),
    ("pad", {"value": "0"}, TypeError, "value", "'0'", "a number"),
    ("pad", {"x": _zeros(2, 0), "pad": (1, 0), "mode": "replicate"}, ValueError, "pad", "of size 0", "at least 1"),
    ("pad", {"mode": "edge"}, ValueError, "mode", "edge", "constant, reflect, replicate, circular"),
    ("pad", {"x": np.zeros((2, 3), int)}, TypeError, "x", "<i8", "float32 or float64"),
    ("pad_backward", {"pad": (5, 4)}, ValueError, "grad_output", "(2, 3, 8)", "at least 9 in dimension 2"),
    ("pad_backward", {"pad": (4, 2), "mode": "reflect"}, ValueError, "pad", "(4, 2) in dimension 2 of size 2", "less"),
    ("pad_backward", {"mode": "wrap"}, ValueError, "mode", "wrap", "circular"),
    # windows
    ("conv2d", {"padding": -1}, ValueError, "padding", "-1", "at least 0"),
    ("conv2d", {"padding": (0, -1)}, ValueError, "padding", "(0, -1)", "at least 0"),
    ("conv2d", {"stride": 0}, ValueError, "stride", "0", "at least 1"),
    ("conv2d", {"stride": (1, 2, 3)}, TypeError, "stride", "(1, 2, 3)", "2 ints"),
    ("conv2d", {"stride": 1.5}, TypeError, "stride", "1.5", "int"),
    ("conv2d", {"stride": True}, TypeError, "stride", "True", "int"),
    ("conv2d", {"dilation": 0}, ValueError, "dilation", "0", "at least 1"),
    ("conv2d", {"dilation": 3}, ValueError, "kernel_size", "7", "5"),
    ("conv2d", {"weight": _zeros(6, 4, 3, 7)}, ValueError, "kernel_size", "7", "6"),
    ("conv2d_backward", {"weight": _zeros(6, 4, 6, 3)}, ValueError, "kernel_size", "6", "5"),
    ("conv2d", {"x": _zeros(2, 4, 0, 6)}, ValueError, "kernel_size", "3", "0"),
    ("conv2d", {"algorithm": "fft"}, ValueError, "algorithm", "fft", "direct"),
    (
        "conv2d",
        {"algorithm": "winograd", "x": _zeros(2, 4, 3, 4), "weight": _zeros(6, 4, 1, 1)},
        ValueError,
        "algorithm",
        "does not compute",
        "another",
    ),
    ("conv2d", {"algorithm": "depthwise"}, ValueError, "algorithm", "does not compute", "another"),
    ("conv2d", {"activation": "tan"}, ValueError, "activation", "tan", "relu"),
    ("linear", {"activation": "tan"}, ValueError, "activation", "tan", "relu"),
    ("linear", {"activation": "relu", "activation_args": (0.1,)}, ValueError, "activation_args", "(0.1,)", "at most 0"),
    ("conv2d", {"activation": "elu", "activation_args": (1.0, 2.0)}, ValueError, "activation_args", "2.0", "at most 1"),
    *(
        (operation, {"activation": activation, "activation_args": args}, ValueError, *message)
        for operation in ("linear", "conv2d", "conv_transpose2d")
        for activation, args, message in (
            ("celu", (0.0,), ("alpha", "0.0", "other than 0")),
            ("softplus", (0.0, 20.0), ("beta", "0.0", "other than 0")),
            ("softshrink", (-1.0,), ("lambd", "-1.0", "at least 0")),
            ("threshold", (0.5,), ("activation_args", "1 numbers", "threshold and value")),
            ("hardtanh", (2.0,), ("min_val", "2.0", "at most max_val, 1.0")),
        )
    ),
    ("im2col", {"kernel_size": 0}, ValueError, "kernel_size", "0", "at least 1"),
    ("im2col", {"kernel_size": 6}, ValueError, "kernel_size", "6", "5"),
    ("im2col", {"padding": -1}, ValueError, "padding", "-1", "at least 0"),
    ("col2im", {"output_size": (0, 6)}, ValueError, "output_size", "(0, 6)", "at least 1"),
    ("max_pool2d", {"kernel_size": 0}, ValueError, "kernel_size", "0", "at least 1"),
    ("max_pool2d", {"kernel_size": 6}, ValueError, "kernel_size", "6", "5"),
    ("max_pool2d", {"padding": 2}, ValueError, "padding", "2", "half of kernel_size 2"),
    ("max_pool2d", {"padding": -1}, ValueError, "padding", "-1", "at least 0"),
    ("max_pool2d", {"ceil_mode": True, "kernel_size": (8, 2), "stride": 1}, ValueError, "kernel_size", "8", "5"),
    ("max_pool2d", {"padding": ((0, 2), (0, 0))}, ValueError, "padding", "((0, 2), (0, 0))", "half of kernel_size"),
    ("max_pool2d", {"data_format": "NLC"}, ValueError, "data_format", "NLC", "NHWC"),
    ("max_pool2d", {"x": _zeros(2, 4, 0, 6)}, ValueError, "x", "(2, 4, 0, 6)", "at least 1"),
    ("max_pool2d_backward", {"indices": np.full((2, 4, 2, 3), 30)}, ValueError, "indices", "outside", "volume"),
    ("max_pool2d_backward", {"indices": np.full((2, 4, 2, 3), -2)}, ValueError, "indices", "outside", "volume"),
    ("max_pool2d_backward", {"indices": np.full((2, 4, 3, 3), 0)}, ValueError, "indices", "3, 3)", "(2, 4, 2, 3)"),
    ("max_pool2d_backward", {"indices": _zeros(2, 4, 2, 3)}, TypeError, "indices", "float32", "integers"),
    ("avg_pool2d", {"divisor_override": 0}, ValueError, "divisor_override", "0", "other than 0"),
    ("avg_pool2d", {"padding": 2}, ValueError, "padding", "2", "half of kernel_size"),
    ("lp_pool2d", {"norm_type": 0.0}, ValueError, "norm_type", "0.0", "other than 0"),
    ("lp_pool2d_backward", {"norm_type": _NAN}, ValueError, "norm_type", "nan", "a number"),
    ("adaptive_avg_pool2d", {"output_size": -1}, ValueError, "output_size", "-1", "at least 0"),
    ("adaptive_avg_pool2d", {"output_size": (1, 2, 3)}, TypeError, "output_size", "(1, 2, 3)", "2 ints"),
    ("adaptive_max_pool2d", {"output_size": 1.5}, TypeError, "output_size", "1.5", "2 ints"),
    ("adaptive_max_pool2d", {"x": _zeros(2, 4, 5, 0)}, ValueError, "x", "(2, 4, 5, 0)", "at least 1"),
    ("max_unpool2d", {"indices": np.full((2, 4, 2, 3), 24)}, ValueError, "indices", "outside", "volume"),
    ("max_unpool2d", {"indices": np.full((2, 4, 2, 3), -1)}, ValueError, "indices", "outside", "volume"),
    ("max_unpool2d", {"indices": np.full((2, 4, 3, 2), 0)}, ValueError, "indices", "3, 2)", "(2, 4, 2, 3)"),
    ("max_unpool2d", {"output_size": (4, 8)}, ValueError, "output_size", "4, 8)", "less than a stride"),
    ("max_unpool2d_backward", {"indices": np.full((2, 4, 2, 3), 30)}, ValueError, "indices", "outside", "volume"),
    (
        "max_unpool2d_backward",
        {"grad_output": _zeros(2, 3, 5, 6)},
        ValueError,
        "indices",
        "(2, 4, 2, 3)",
        "(2, 3, 5, 6)",
    ),
    *(
        (
            operation,
            {name: right[name][0, 0]},
            ValueError,
            name,
            str(right[name].shape[2:]),
            f"{rank + 2} dimensions" if name == "x" or "unpool" in operation else str(right[name].shape),
        )
        for rank in (1, 2, 3)
        for operation, right in _poolings(rank).items()
        for name in ("x", "grad_output")
        if name in right
    ),
    ("max_pool2d", {"stride": 0}, ValueError, "stride", "0", "at least 1"),
    ("softmax", {"dim": 2}, ValueError, "dim", "2", "1"),
    ("log_softmax", {"dim": -3}, ValueError, "dim", "-3", "-2"),
    # dtypes
    ("relu", {"x": _ints(1, 2)}, TypeError, "x", "<i8", "float32 or float64"),
    ("relu", {"x": np.zeros(3, np.float16)}, TypeError, "x", "<f2", "float32 or float64"),
    ("relu", {"x": np.zeros(3, complex)}, TypeError, "x", "<c16", "float32 or float64"),
    ("relu", {"x": np.zeros(3, ">f4")}, TypeError, "x", ">f4", "native byte order"),
    ("relu", {"x": np.array(["a"])}, TypeError, "x", "<U1", "float32 or float64"),
    ("relu", {"x": np.array([None])}, TypeError, "x", "|O", "float32 or float64"),
    ("relu", {"x": np.ma.masked_array(_zeros(3))}, TypeError, "x", "masked", "plain"),
    ("relu", {"x": [1.0, 2.0]}, TypeError, "x", "list", "array"),
    ("relu", {"x": None}, TypeError, "x", "NoneType", "array"),
    ("relu", {"x": 1.0}, TypeError, "x", "float", "array"),
    ("softmax", {"x": np.zeros((2, 3), int)}, TypeError, "x", "<i8", "float32 or float64"),
    ("linear", {"weight": _zeros(4, 3, dtype=F64)}, TypeError, "weight", "float64", "float32"),
    ("linear", {"weight": fastdl.pack_linear_weight(_zeros(4, 3, dtype=F64))}, TypeError, "weight", "64", "float32"),
    ("linear", {"bias": _zeros(4, dtype=F64)}, TypeError, "bias", "float64", "float32"),
    ("conv2d", {"x": np.zeros((2, 4, 5, 6), int)}, TypeError, "x", "<i8", "float32 or float64"),
    ("conv2d", {"weight": _zeros(6, 4, 3, 3, dtype=F64)}, TypeError, "weight", "float64", "float32"),
    ("max_pool2d_backward", {"grad_output": _zeros(2, 4, 2, 3, dtype=F64)}, TypeError, "grad_output", "64", "float32"),
    ("cross_entropy", {"x": np.zeros((3, 4), int)}, TypeError, "x", "<i8", "float32 or float64"),
    ("sgd_step", {"param": np.zeros(5, int)}, TypeError, "param", "<i8", "float32 or float64"),
    ("sgd_step", {"param": [0.0] * 5}, TypeError, "param", "list", "NumPy array"),
    ("sgd_step", {"grad": _zeros(5, dtype=F64)}, TypeError, "grad", "float64", "float32"),
    ("sgd_step", {"momentum_buffer": _zeros(5, dtype=F64)}, TypeError, "momentum_buffer", "float64", "float32"),
    # transposed convolution
    ("conv_transpose1d", {"x": _zeros(5)}, ValueError, "x", "(5,)", "3 dimensions"),
    ("conv_transpose1d_backward", {"grad_output": _zeros(2, 6, 8)}, ValueError, "grad_output", "8)", "(2, 6, 7)"),
    ("conv_transpose2d", {"x": _zeros(2, 3, 5, 6)}, ValueError, "weight", "(4, 6, 3, 3)", "3"),
    ("conv_transpose2d", {"groups": 3}, ValueError, "groups", "3", "4"),
    ("conv_transpose2d", {"groups": 0}, ValueError, "groups", "0", "at least 1"),
    ("conv_transpose2d", {"groups": 2}, ValueError, "bias", "(6,)", "(12,)"),
    ("conv_transpose2d", {"weight": _zeros(4, 6, 0, 3)}, ValueError, "weight", "(4, 6, 0, 3)", "at least 1 x 1"),
    ("conv_transpose2d", {"x": _zeros(2, 4, 0, 6)}, ValueError, "x", "(2, 4, 0, 6)", "at least one"),
    ("conv_transpose2d", {"stride": 0}, ValueError, "stride", "0", "at least 1"),
    ("conv_transpose2d", {"dilation": 0}, ValueError, "dilation", "0", "at least 1"),
    ("conv_transpose2d", {"padding": -1}, ValueError, "padding", "-1", "at least 0"),
    ("conv_transpose2d", {"padding": (4, 0)}, ValueError, "padding", "8", "7"),
    ("conv_transpose2d", {"stride": 2, "padding": "same"}, ValueError, "padding", "same", "stride 1"),
    ("conv_transpose2d", {"output_padding": 1}, ValueError, "output_padding", "1", "stride"),
    ("conv_transpose2d", {"output_padding": -1}, ValueError, "output_padding", "-1", "at least 0"),
    ("conv_transpose2d", {"stride": (1, 2, 3)}, TypeError, "stride", "(1, 2, 3)", "2 ints"),
    ("conv_transpose2d", {"stride": 2**31}, ValueError, "stride", str(2**31), "at most 2**30"),
    ("conv_transpose2d", {"activation": "tan"}, ValueError, "activation", "tan", "relu"),
    ("conv_transpose2d", {"weight": _zeros(4, 6, 3, 3, dtype=F64)}, TypeError, "weight", "float64", "float32"),
    ("conv_transpose2d_backward", {"grad_output": _zeros(2, 6, 7, 7)}, ValueError, "grad_output", "7)", "(2, 6, 7, 8)"),
    ("conv_transpose3d", {"bias": _zeros(5)}, ValueError, "bias", "(5,)", "(6,)"),
    ("conv_transpose3d_backward", {"x": _zeros(2, 3, 5, 6, 3)}, ValueError, "weight", "(4, 6, 3", "3"),
    # normalization
    ("fuse_conv_bn_weights", {"weight": _zeros()}, ValueError, "weight", "()", "out"),
    ("fuse_conv_bn_weights", {"weight": _ints(3, 1)}, TypeError, "weight", "<i8", "float32 or float64"),
    ("fuse_conv_bn_weights", {"bias": _zeros(3)}, ValueError, "bias", "(3,)", "(4,)"),
    ("fuse_conv_bn_weights", {"running_mean": None}, TypeError, "running_mean", "NoneType", "array"),
    ("fuse_conv_bn_weights", {"running_mean": _zeros(5)}, ValueError, "running_mean", "(5,)", "(4,)"),
    ("fuse_conv_bn_weights", {"running_var": _zeros(4, dtype=F64)}, TypeError, "running_var", "float64", "float32"),
    ("fuse_conv_bn_weights", {"running_var": _zeros(4, 1)}, ValueError, "running_var", "(4, 1)", "1 dimensions"),
    ("fuse_conv_bn_weights", {"norm_weight": _zeros(3)}, ValueError, "norm_weight", "(3,)", "(4,)"),
    ("fuse_conv_bn_weights", {"norm_bias": _zeros(5)}, ValueError, "norm_bias", "(5,)", "(4,)"),
    ("fuse_conv_bn_weights", {"eps": -1.0}, ValueError, "eps", "-1.0", "at least 0"),
    ("batch_norm", {"x": _zeros(4)}, ValueError, "x", "(4,)", "at least 2 dimensions"),
    ("batch_norm", {"x": _zeros(1, 4, 1), "training": True}, ValueError, "x", "(1, 4, 1)", "more than 1 value per"),
    ("batch_norm", {"running_mean": None, "running_var": None}, ValueError, "running_mean", "None", "training"),
    ("batch_norm", {"running_var": None}, ValueError, "running_mean", "one of", "both or none"),
    ("batch_norm", {"running_var": _zeros(5)}, ValueError, "running_var", "(5,)", "(4,)"),
    ("batch_norm", {"running_mean": _zeros(4, dtype=F64)}, TypeError, "running_mean", "float64", "float32"),
    ("batch_norm", {"running_mean": _zeros(8)[::2], "training": True}, ValueError, "running_mean", "not C", "one that"),
    ("batch_norm", {"running_mean": [0.0] * 4, "training": True}, TypeError, "running_mean", "list", "NumPy array"),
    (
        "batch_norm",
        {"running_mean": _SHARED[:4], "running_var": _SHARED[2:6], "training": True},
        ValueError,
        "running_var",
        "overlaps",
        "does not",
    ),
    (
        "batch_norm",
        {"running_mean": _SHARED[:4], "weight": _SHARED[2:6], "training": True},
        ValueError,
        "weight",
        "overlaps",
        "does not",
    ),
    ("batch_norm", {"weight": _zeros(3)}, ValueError, "weight", "(3,)", "(4,)"),
    ("batch_norm", {"bias": _zeros(4, 1)}, ValueError, "bias", "(4, 1)", "1 dimensions"),
    ("batch_norm", {"eps": -1.0}, ValueError, "eps", "-1.0", "at least 0"),
    ("batch_norm", {"eps": _NAN}, ValueError, "eps", "nan", "at least 0"),
    ("batch_norm_backward", {"grad_output": _zeros(2, 5, 4)}, ValueError, "grad_output", "(2, 5, 4)", "(2, 4, 5)"),
    ("batch_norm_backward", {"rstd": None}, ValueError, "mean", "one of", "both or none"),
    ("batch_norm_backward", {"training": False}, ValueError, "running_mean", "None", "training"),
    ("instance_norm", {"x": _zeros(2, 4)}, ValueError, "x", "(2, 4)", "more than 1 spatial"),
    ("instance_norm", {"use_input_stats": False}, ValueError, "running_mean", "None", "use_input_stats"),
    ("batch_norm_backward", {"mean": _zeros(4)}, TypeError, "mean", "float32", "float64"),
    ("instance_norm_backward", {"mean": np.zeros(4)}, ValueError, "mean", "(4,)", "2 dimensions"),
    *((n, {"eps": np.inf}, ValueError, "eps", "inf", "finite") for n in _NORMS),
    *((n, {"eps": "a"}, TypeError, "eps", "'a'", "number") for n in _NORMS),
    *((n, {"return_stats": 1}, TypeError, "return_stats", "1", "True or False") for n in _NORMS if "back" not in n),
    *((n, {"momentum": -1}, ValueError, "momentum", "-1", "between 0 and 1") for n in ("batch_norm", "instance_norm")),
    ("batch_norm", {"training": None}, TypeError, "training", "None", "True or False"),
    ("instance_norm_backward", {"use_input_stats": 1}, TypeError, "use_input_stats", "1", "True or False"),
    ("group_norm", {"num_groups": True}, TypeError, "num_groups", "True", "int"),
    ("group_norm_backward", {"num_groups": 2.0}, TypeError, "num_groups", "2.0", "int"),
    ("group_norm", {"num_groups": 3}, ValueError, "num_groups", "3", "divisor of the channels 4"),
    ("group_norm", {"num_groups": 0}, ValueError, "num_groups", "0", "at least 1"),
    ("group_norm", {"x": _zeros(1, 4), "num_groups": 4}, ValueError, "x", "(1, 4)", "more than 1 value per group"),
    ("group_norm_backward", {"weight": _zeros(2)}, ValueError, "weight", "(2,)", "(4,)"),
    ("layer_norm", {"normalized_shape": (3, 5)}, ValueError, "normalized_shape", "(3, 5)", "(2, 4, 5)"),
    ("layer_norm", {"normalized_shape": (1, 2, 4, 5)}, ValueError, "normalized_shape", "(1, 2, 4, 5)", "(2, 4, 5)"),
    ("layer_norm", {"normalized_shape": ()}, TypeError, "normalized_shape", "()", "at least one"),
    ("layer_norm", {"normalized_shape": 5.0}, TypeError, "normalized_shape", "5.0", "int"),
    ("layer_norm", {"weight": _zeros(20)}, ValueError, "weight", "(20,)", "2 dimensions"),
    ("layer_norm_backward", {"mean": np.zeros(2)}, ValueError, "mean", "(2,)", "2 dimensions"),
    ("rms_norm", {"weight": _zeros(5, 4)}, ValueError, "weight", "(5, 4)", "(4, 5)"),
    ("rms_norm", {"eps": -1e-5}, ValueError, "eps", "-1e-05", "at least 0"),
    ("rms_norm_backward", {"rstd": np.zeros((2, 5))}, ValueError, "rstd", "(2, 5)", "(2, 4)"),
    # labels
    ("cross_entropy", {"target": _ints(0, 1, 4)}, ValueError, "target", "class index", "classes"),
    ("cross_entropy", {"target": _ints(0, -1, 3)}, ValueError, "target", "class index", "classes"),
    ("cross_entropy", {"target": _ints(0, 2**40, 3)}, ValueError, "target", "class index", "classes"),
    ("cross_entropy", {"target": np.array([0, _NAN, 1])}, TypeError, "target", "float64", "integers"),
    ("cross_entropy", {"target": np.array([0, 1, 2], np.uint64)}, TypeError, "target", "uint64", "integers"),
    ("cross_entropy", {"target": np.array([True, False, True])}, TypeError, "target", "bool", "integers"),
    ("cross_entropy", {"x": _zeros(3, 0)}, ValueError, "target", "class index", "classes"),
    ("cross_entropy", {"reduction": "median"}, ValueError, "reduction", "median", "mean"),
    ("cross_entropy_backward", {"target": _ints(0, 1, 4)}, ValueError, "target", "class index", "classes"),
    # losses
    *((name, {"target": _zeros(3)}, ValueError, "target", "(3,)", "(2, 3)") for name in _LOSSES),
    *((name, {"target": _zeros(2, 3, dtype=F64)}, TypeError, "target", "64", "float32") for name in _LOSSES),
    *((name, {"reduction": "median"}, ValueError, "reduction", "median", "mean") for name in _LOSSES),
    *((f"{name}_backward", {"grad_output": _zeros()}, ValueError, "grad_output", "()", "(2, 3)") for name in _LOSSES),
    ("mse_loss", {"reduction": "batchmean"}, ValueError, "reduction", "batchmean", "mean"),
    ("huber_loss", {"delta": 0.0}, ValueError, "delta", "0.0", "above 0"),
    ("huber_loss_backward", {"delta": _NAN}, ValueError, "delta", "nan", "above 0"),
    ("smooth_l1_loss", {"beta": -1.0}, ValueError, "beta", "-1.0", "at least 0"),
    ("smooth_l1_loss_backward", {"beta": _NAN}, ValueError, "beta", "nan", "at least 0"),
    *(
        (
            f"binary_cross_entropy{end}",
            {argument: np.full((2, 3), value, F32)} | none,
            ValueError,
            argument,
            "a value",
            "",
        )
        for end, none in (("", {}), ("_backward", {}))
        for argument in ("x", "target")
        for value in (-0.1, 1.1, _NAN)
    ),
    ("binary_cross_entropy", {"weight": _zeros(2)}, ValueError, "weight", "(2,)", "(2, 3)"),
    ("binary_cross_entropy", {"weight": _zeros(1, 2, 3)}, ValueError, "weight", "(1, 2, 3)", "(2, 3)"),
    ("binary_cross_entropy_with_logits", {"pos_weight": _zeros(2)}, ValueError, "pos_weight", "(2,)", "(2, 3)"),
    ("binary_cross_entropy_with_logits", {"weight": _zeros(3, dtype=F64)}, TypeError, "weight", "64", "float32"),
    *(
        row
        for name in ("nll_loss", "nll_loss_backward", "cross_entropy", "cross_entropy_with_grad")
        for row in (
            (name, {"target": _ints(0, 1, 4)}, ValueError, "target", "class index", "classes"),
            (name, {"target": _ints(0, 1, -1)}, ValueError, "target", "class index", "classes"),
            (name, {"target": _ints(0, 1, -100), "ignore_index": -1}, ValueError, "target", "class index", "classes"),
            (name, {"target": _ints(0, 1)}, ValueError, "target", "(2,)", "(3,)"),
            (name, {"weight": _zeros(3)}, ValueError, "weight", "(3,)", "(4,)"),
            (name, {"reduction": "batchmean"}, ValueError, "reduction", "batchmean", "mean"),
        )
    ),
    ("nll_loss", {"target": _zeros(3, 4)}, TypeError, "target", "float32", "integers"),
    ("nll_loss_backward", {"grad_output": _zeros()}, ValueError, "grad_output", "()", "(3,)"),
    ("cross_entropy", {"target": _zeros(3, 5)}, ValueError, "target", "(3, 5)", "(3, 4)"),
    ("cross_entropy", {"target": _zeros(3, 4, dtype=F64)}, TypeError, "target", "float64", "float32"),
    ("cross_entropy", {"label_smoothing": 1.1}, ValueError, "label_smoothing", "1.1", "between 0 and 1"),
    ("cross_entropy", {"label_smoothing": _NAN}, ValueError, "label_smoothing", "nan", "between 0 and 1"),
    ("cross_entropy", {"label_smoothing": "a"}, TypeError, "label_smoothing", "'a'", "a number between 0 and 1"),
    ("cross_entropy", {"target": [0, 1, 2.5]}, TypeError, "target", "float64", "integers"),
    ("cross_entropy", {"target": [[0], [1, 2]]}, TypeError, "target", "several lengths", "numbers"),
    ("cross_entropy", {"target": [0, 1, 2**63]}, TypeError, "target", "float64", "integers"),
    ("cross_entropy", {"target": ["a", "b", "c"]}, TypeError, "target", "U1", "integers"),
    ("cross_entropy", {"weight": [1.0, 2.0]}, ValueError, "weight", "(2,)", "(4,)"),
    ("cross_entropy", {"weight": [1.0, None]}, TypeError, "weight", "object", "numbers"),
    ("cross_entropy", {"weight": np.ma.masked_array(_zeros(4))}, TypeError, "weight", "masked array", "plain"),
    ("nll_loss", {"ignore_index": 2**70}, ValueError, "ignore_index", str(2**70), "64 bits"),
    ("nll_loss_backward", {"ignore_index": 1.0}, TypeError, "ignore_index", "1.0", "int"),
    ("mse_loss", {"reduction": 3}, TypeError, "reduction", "3", "mean"),
    ("mse_loss_backward", {"grad_output": 1.0}, TypeError, "grad_output", "float", "array"),
    ("kl_div", {"log_target": 1}, TypeError, "log_target", "1", "True or False"),
    ("huber_loss", {"delta": [1.0]}, TypeError, "delta", "[1.0]", "number"),
    ("smooth_l1_loss", {"beta": None}, TypeError, "beta", "None", "number"),
    ("hinge_embedding_loss", {"margin": _zeros(2)}, TypeError, "margin", "shape (2,)", "number"),
    ("cosine_embedding_loss", {"margin": _NAN}, ValueError, "margin", "nan", "number"),
    ("cross_entropy", {"target": _zeros(3, 4), "ignore_index": 0}, ValueError, "ignore_index", "0", "negative"),
    ("cosine_embedding_loss", {"x1": _zeros(3, 4, 1)}, ValueError, "x1", "(3, 4, 1)", "1 or 2 dimensions"),
    ("cosine_embedding_loss", {"x2": _zeros(1, 4)}, ValueError, "x2", "(1, 4)", "(3, 4)"),
    ("cosine_embedding_loss", {"target": _zeros()}, ValueError, "target", "()", "(3,)"),
    ("cosine_embedding_loss", {"reduction": "all"}, ValueError, "reduction", "all", "mean"),
    ("cosine_embedding_loss_backward", {"grad_output": _zeros()}, ValueError, "grad_output", "()", "(3,)"),
    # policies
    *(
        row
        for end in ("", "_backward")
        for row in (
            (f"discounted_returns{end}", {"done": _zeros(4, 3)}, TypeError, "done", "float32", "bool"),
            (f"discounted_returns{end}", {"done": np.zeros((4, 3), np.uint8)}, TypeError, "done", "uint8", "bool"),
            (f"discounted_returns{end}", {"done": np.zeros(4, bool)}, ValueError, "done", "(4,)", "(4, 3)"),
            (f"discounted_returns{end}", {"done": [False]}, TypeError, "done", "list", "array"),
            (f"discounted_returns{end}", {"gamma": 1.1}, ValueError, "gamma", "1.1", "between 0 and 1"),
            (f"gae{end}", {"terminated": None}, TypeError, "terminated", "None", "array"),
            (f"gae{end}", {"done": np.zeros((3, 4), bool)}, ValueError, "done", "(3, 4)", "(4, 3)"),
            (f"gae{end}", {"lmbda": -0.1}, ValueError, "lmbda", "-0.1", "between 0 and 1"),
            (f"gae{end}", {"gamma": _NAN}, ValueError, "gamma", "nan", "between 0 and 1"),
        )
    ),
    ("discounted_returns", {"reward": _zeros()}, ValueError, "reward", "()", "at least 1 dimension"),
    ("discounted_returns", {"bootstrap": _zeros(4)}, ValueError, "bootstrap", "(4,)", "(3,)"),
    ("discounted_returns", {"bootstrap": _zeros()}, ValueError, "bootstrap", "()", "1 dimensions"),
    ("gae", {"reward": np.zeros((4, 3), int)}, TypeError, "reward", "i8", "float32 or float64"),
    ("gae", {"state_value": _zeros(5, 3)}, ValueError, "state_value", "(5, 3)", "(4, 3)"),
    ("gae", {"next_state_value": _zeros(4, 3, dtype=F64)}, TypeError, "next_state_value", "float64", "float32"),
    ("gae_backward", {"grad_value_target": _zeros(3)}, ValueError, "grad_value_target", "(3,)", "(4, 3)"),
    ("vtrace", {"reward": _zeros(4)}, ValueError, "reward", "(4,)", "(4, 3)"),
    ("vtrace", {"terminated": _zeros(4, 3)}, TypeError, "terminated", "float32", "bool"),
    ("vtrace", {"rho_threshold": -1.0}, ValueError, "rho_threshold", "-1.0", "at least 0"),
    ("vtrace", {"c_threshold": _NAN}, ValueError, "c_threshold", "nan", "at least 0"),
    *(
        row
        for name in (name for name in _RIGHT if name.startswith("categorical_"))
        for row in (
            (name, {"logits": _zeros(4)}, ValueError, "logits", "(4,)", "2 dimensions"),
            (name, {"logits": _zeros(3, 0)}, ValueError, "logits", "(3, 0)", "at least 1 action"),
        )
    ),
    *(
        row
        for name in (name for name in _RIGHT if name.startswith("categorical_") and "entropy" not in name)
        for row in (
            (name, {"action": _ints(0, 1, 4)}, ValueError, "action", "one outside the actions", "0 <= action"),
            (name, {"action": _ints(0, -1, 3)}, ValueError, "action", "one outside the actions", "0 <= action"),
            (name, {"action": _ints(0, 1)}, ValueError, "action", "(2,)", "(3,)"),
            (name, {"action": _zeros(3)}, TypeError, "action", "float32", "integers"),
        )
    ),
    *(
        row
        for name in (name for name in _RIGHT if name.startswith("normal_"))
        for row in (
            (name, {"mean": _zeros(4)}, ValueError, "mean", "(4,)", "2 dimensions"),
            (name, {"log_std": _zeros(3)}, ValueError, "log_std", "(3,)", "(4,) or (3, 4)"),
            (name, {"action": _ints(0, 1, 2)}, TypeError, "action", "i8", "float32 or float64"),
            (name, {"action": _zeros(3)}, ValueError, "action", "(3,)", "(3, 4)"),
        )
    ),
    *(
        row
        for name in (name for name in _RIGHT if "_policy_loss" in name)
        for row in (
            (name, {"advantage": _zeros(4)}, ValueError, "advantage", "(4,)", "(3,)"),
            (name, {"advantage": None}, TypeError, "advantage", "None", "array"),
            (name, {"old_log_prob": _zeros(3, 1)}, ValueError, "old_log_prob", "(3, 1)", "1 dimensions"),
            (name, {"clip": -0.1}, ValueError, "clip", "-0.1", "at least 0"),
            (name, {"clip": 0.2, "old_log_prob": None}, ValueError, "clip", "0.2", "None without old_log_prob"),
            (name, {"entropy_weight": math.inf}, ValueError, "entropy_weight", "inf", "finite"),
        )
    ),
    ("categorical_log_prob_backward", {"grad_output": _zeros()}, ValueError, "grad_output", "()", "1 dimensions"),
    ("categorical_entropy_backward", {"grad_output": _zeros(4)}, ValueError, "grad_output", "(4,)", "(3,)"),
    ("normal_log_prob_backward", {"grad_output": _zeros(2)}, ValueError, "grad_output", "(2,)", "(3,)"),
    ("normal_policy_loss_backward", {"grad_output": _zeros(3)}, ValueError, "grad_output", "(3,)", "()"),
    # options of the optimizer
    ("sgd_step", {"step": 0}, ValueError, "step", "0", "at least 1"),
    ("sgd_step", {"lr": -0.1}, ValueError, "lr", "-0.1", "at least 0"),
    ("sgd_step", {"lr": _NAN}, ValueError, "lr", "nan", "at least 0"),
    ("sgd_step", {"momentum": -0.1}, ValueError, "momentum", "-0.1", "at least 0"),
    ("sgd_step", {"weight_decay": -0.1}, ValueError, "weight_decay", "-0.1", "at least 0"),
    ("sgd_step", {"nesterov": True, "dampening": 0.5}, ValueError, "nesterov", "0.5", "dampening of 0"),
    ("sgd_step", {"nesterov": True, "momentum": 0.0}, ValueError, "nesterov", "0.0", "momentum above 0"),
    ("sgd_step", {"momentum_buffer": None}, ValueError, "momentum_buffer", "none", "array like param"),
    # regularization
    *(
        (f"{name}{end}", *row)
        for name in ("alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d")
        for end in ("", "_backward")
        for row in (
            ({"p": -0.1}, ValueError, "p", "-0.1", "between 0 and 1"),
            ({"p": 1.5}, ValueError, "p", "1.5", "between 0 and 1"),
            ({"p": _NAN}, ValueError, "p", "nan", "between 0 and 1"),
            ({"p": _NAN, "training": False}, ValueError, "p", "nan", "between 0 and 1"),
            ({"p": "0.5"}, TypeError, "p", "0.5", "number"),
            ({"seed": -1}, ValueError, "seed", "-1", "at least 0"),
            ({"seed": 2**63}, ValueError, "seed", str(2**63), "less than 2**63"),
            ({"seed": 1.0}, TypeError, "seed", "1.0", "int"),
            ({"seed": None}, TypeError, "seed", "None", "int"),
            ({"offset": -1}, ValueError, "offset", "-1", "at least 0"),
            ({"offset": 2**64}, ValueError, "offset", str(2**64), "less than 2**63"),
        )
    ),
    ("dropout", {"x": np.zeros((2, 3), int)}, TypeError, "x", "<i8", "float32 or float64"),
    ("dropout", {"p": _zeros(2)}, TypeError, "p", "shape (2,)", "number"),
    ("dropout", {"training": 1}, TypeError, "training", "1", "True or False"),
    ("alpha_dropout_backward", {"training": "no"}, TypeError, "training", "'no'", "True or False"),
    ("l1_penalty", {"coefficient": "a"}, TypeError, "coefficient", "'a'", "number"),
    ("l2_penalty_backward", {"coefficient": np.inf}, ValueError, "coefficient", "inf", "finite"),
    ("l2_penalty_backward", {"add": 1, "out": _zeros(2, 3)}, TypeError, "add", "1", "True or False"),
    ("linear_backward", {"input_grad": 1}, TypeError, "input_grad", "1", "True or False"),
    ("dropout1d", {"x": _zeros(3)}, ValueError, "x", "(3,)", "2 or 3 dimensions"),
    ("dropout2d", {"x": _zeros(2, 3)}, ValueError, "x", "(2, 3)", "4 dimensions, or 3"),
    (
        "dropout3d_backward",
        {"grad_output": _zeros(2, 3, 4)},
        ValueError,
        "grad_output",
        "(2, 3, 4)",
        "4 or 5",
    ),
    *(
        row
        for name in ("l1_penalty", "l2_penalty")
        for row in (
            (name, {"x": np.zeros(3, int)}, TypeError, "x", "<i8", "float32 or float64"),
            (name, {"x": []}, ValueError, "x", "no arrays", "at least one"),
            (name, {"x": [_zeros(3), 1.0]}, TypeError, "x[1]", "float", "array"),
            (name, {"x": (_zeros(3), _zeros(3, dtype=F64))}, TypeError, "x[1]", "float64", "float32"),
            (f"{name}_backward", {"grad_output": _zeros(1)}, ValueError, "grad_output", "(1,)", "()"),
            (f"{name}_backward", {"grad_output": _zeros(dtype=F64)}, TypeError, "grad_output", "float64", "float32"),
        )
    ),
    # in place: not through a view that would have to be copied
    ("sgd_step", {"param": _zeros(10)[::2]}, ValueError, "param", "not C-contiguous", "one that is"),
    ("sgd_step", {"param": _SHARED[:5], "grad": _SHARED[2:7]}, ValueError, "grad", "overlaps", "does not"),
    (
        "sgd_step",
        {"param": _SHARED[:5], "momentum_buffer": _SHARED[4:9]},
        ValueError,
        "momentum_buffer",
        "overlaps",
        "does not",
    ),
    (
        "sgd_step",
        {"grad": _SHARED[:5], "momentum_buffer": _SHARED[4:9]},
        ValueError,
        "momentum_buffer",
        "overlaps",
        "does not",
    ),
]


_OPTIMIZERS = [name for name in _RIGHT if name.endswith("_step")]
_STATES = [
    (operation, name)
    for operation in _OPTIMIZERS
    for name, value in _RIGHT[operation].items()
    if isinstance(value, np.ndarray) and name not in ("param", "grad")
]
_ROWS += [
    row
    for op in _OPTIMIZERS
    for row in (
        (op, {"grad": _zeros(4)}, ValueError, "grad", "(4,)", "(5,)"),
        (op, {"grad": _zeros(5, dtype=F64)}, TypeError, "grad", "float64", "float32"),
        (op, {"param": [0.0] * 5}, TypeError, "param", "list", "NumPy array"),
        (op, {"param": _zeros(10)[::2]}, ValueError, "param", "not C-contiguous", "one that is"),
        (op, {"param": _SHARED[:5], "grad": _SHARED[2:7]}, ValueError, "grad", "overlaps", "does not"),
        (op, {"lr": -0.1}, ValueError, "lr", "-0.1", "at least 0"),
        (op, {"lr": _NAN}, ValueError, "lr", "nan", "at least 0"),
        (op, {"weight_decay": -0.1}, ValueError, "weight_decay", "-0.1", "at least 0"),
        (op, {"grad_scale": -1.0}, ValueError, "grad_scale", "-1.0", "at least 0"),
        (op, {"grad_scale": _NAN}, ValueError, "grad_scale", "nan", "at least 0"),
        (op, {"clip_value": -1.0}, ValueError, "clip_value", "-1.0", "at least 0"),
    )
    if op != "sgd_step" or row[1].keys() & {"grad_scale", "clip_value"}
]
_ROWS += [
    row
    for op, state in _STATES
    for row in (
        (op, {state: _zeros(4)}, ValueError, state, "(4,)", "()" if state == "mu_product" else "(5,)"),
        (op, {"param": _SHARED[:5], state: _SHARED[4:9]}, ValueError, state, "overlaps", "does not"),
        (op, {"grad": _SHARED[:5], state: _SHARED[4:9]}, ValueError, state, "overlaps", "does not"),
        (op, {state: _zeros(5, dtype=F64)}, TypeError, state, "float64", "float32"),
    )
    if op != "sgd_step" and (state != "mu_product" or (row[2] is ValueError and "overlaps" not in row))
]
_ROWS += [
    *(
        row
        for name in (*_ARITHMETIC, *(f"{name}_backward" for name in _ARITHMETIC), "where", "where_backward")
        for row in (
            (name, {"other": _zeros(3, 2)}, ValueError, "other", "(3, 2)", "broadcasts with (2, 3)"),
            (name, {"other": _zeros(2)}, ValueError, "other", "(2,)", "broadcasts with (2, 3)"),
            (name, {"other": _zeros(2, 3, dtype=F64)}, TypeError, "other", "float64", "float32"),
            (name, {"other": "1"}, TypeError, "other", "str", "an array"),
            (name, {"x": True}, TypeError, "x", "bool", "an array"),
            (name, {"x": 1.0, "other": np.zeros((2, 3), int)}, TypeError, "other", "<i8", "float32 or float64"),
            (name, {"other": 10**400}, ValueError, "other", "a value of type int", "a number"),
            (name, {"x": 1.0, "other": 2.0}, TypeError, "other", "2.0", "an array"),
        )
    ),
    *(
        (f"{name}_backward", {"grad_output": _zeros(3)}, ValueError, "grad_output", "(3,)", "(2, 3)")
        for name in (*_ARITHMETIC, "where", "pow")
    ),
    *(
        row
        for name in ("pow", "pow_backward")
        for row in (
            (name, {"exponent": _zeros(2)}, ValueError, "exponent", "(2,)", "broadcasts with (2, 3)"),
            (name, {"exponent": None}, TypeError, "exponent", "NoneType", "an array"),
            (name, {"x": 1.0, "exponent": 2.0}, TypeError, "exponent", "2.0", "an array"),
        )
    ),
    *(
        row
        for name in ("where", "where_backward")
        for row in (
            (name, {"condition": _zeros(2, 3)}, TypeError, "condition", "float32", "bool"),
            (name, {"condition": True}, TypeError, "condition", "bool", "an array"),
            (name, {"condition": np.ones(4, bool)}, ValueError, "x", "(2, 3)", "broadcasts with (4,)"),
        )
    ),
    *(
        row
        for name in ("sum", "mean", "amax", "amin")
        for op in (name, f"{name}_backward")
        for row in (
            (op, {"dim": 2}, ValueError, "dim", "2", "between -2 and 1"),
            (op, {"dim": (0, -2)}, ValueError, "dim", "(0, -2)", "each dimension once"),
            (op, {"dim": 1.0}, TypeError, "dim", "1.0", "an int or a tuple of ints"),
            (op, {"dim": (0, True)}, TypeError, "dim", "(0, True)", "an int or a tuple of ints"),
            (op, {"keepdim": 1}, TypeError, "keepdim", "1", "True or False"),
        )
    ),
    *(
        (f"{name}_backward", {"grad_output": _zeros(3)}, ValueError, "grad_output", "(3,)", "(2,)")
        for name in ("sum", "mean", "amax", "amin")
    ),
    *((f"{name}_backward", {"shape": 3}, TypeError, "shape", "3", "a tuple of ints") for name in ("sum", "mean")),
    *((name, {"x": _zeros(3, 0)}, ValueError, "x", "(3, 0)", "elements") for name in ("amax", "amin")),
    *((f"{name}_backward", {"y": _zeros(3)}, ValueError, "y", "(3,)", "(2,)") for name in ("amax", "amin")),
    *(
        row
        for name in ("matmul", "matmul_backward")
        for row in (
            (name, {"x": _zeros()}, ValueError, "x", "()", "at least 1 dimension"),
            (name, {"other": _zeros()}, ValueError, "other", "()", "at least 1 dimension"),
            (name, {"other": _zeros(4, 3)}, ValueError, "other", "(4, 3)", "3 rows"),
            (name, {"other": _zeros(3, dtype=F64)}, TypeError, "other", "float64", "float32"),
            (name, {"other": [1.0]}, TypeError, "other", "list", "an array"),
            (name, {"x": _zeros(5, 2, 3), "other": _zeros(4, 3, 2)}, ValueError, "other", "(4, 3, 2)", "(5, 2, 3)"),
        )
    ),
    ("matmul_backward", {"grad_output": _zeros(2)}, ValueError, "grad_output", "(2,)", "(2, 4)"),
    ("add", {"x": np.zeros((2, 3), int)}, TypeError, "x", "<i8", "float32 or float64"),
    ("add", {"alpha": "1"}, TypeError, "alpha", "'1'", "a number"),
    ("add", {"alpha": True}, TypeError, "alpha", "True", "a number"),
    ("take", {"x": _zeros(), "index": _ints(0)}, ValueError, "x", "()", "at least 1 dimension"),
    ("take", {"index": np.zeros(2)}, TypeError, "index", "float64", "integers"),
    ("take", {"index": [0.5]}, TypeError, "index", "float64", "integers"),
    *(
        ("take", {"index": _ints(0, i)}, ValueError, "index", "outside the rows", "0 <= index")
        for i in (4, -1, -(2**63))
    ),
    ("take", {"x": _zeros(0, 3)}, ValueError, "index", "outside the rows", "0 <= index"),
    *(
        ("take_backward", {"index": _ints(0, i)}, ValueError, "index", "outside the rows", "0 <= index")
        for i in (4, -1, 2**63 - 1)
    ),
    ("take_backward", {"index": _ints(0, 1, 2)}, ValueError, "grad_output", "(2, 3)", "begins with (3,)"),
    ("take_backward", {"index": _ints(*range(6)).reshape(2, 3, 1)}, ValueError, "grad_output", "(2, 3)", "(2, 3, 1)"),
    ("embedding", {"weight": _zeros(4)}, ValueError, "weight", "(4,)", "2 dimensions"),
    ("embedding", {"x": _ints(0, 4)}, ValueError, "index", "outside the rows", "0 <= index"),
    ("embedding", {"padding_idx": -5}, ValueError, "padding_idx", "-5", "at least -4"),
    ("embedding_backward", {"grad_output": _zeros(2, 2)}, ValueError, "grad_output", "(2, 2)", "(2, 3)"),
    ("embedding_backward", {"padding_idx": 4}, ValueError, "padding_idx", "4", "at most 3"),
    *(
        (name + end, *row)
        for name in ("scaled_dot_product_attention",)
        for end in ("", "_backward")
        for row in (
            ({"query": _zeros(5)}, ValueError, "query", "(5,)", "at least 2 dimensions"),
            ({"key": _zeros(4, 5)}, ValueError, "key", "(4, 5)", "3 dimensions"),
            ({"key": _zeros(2, 4, 3)}, ValueError, "key", "(2, 4, 3)", "(2,) + (keys, 5"),
            ({"key": _zeros(1, 4, 5)}, ValueError, "key", "(1, 4, 5)", "(2,) + (keys, 5"),
            ({"value": _zeros(2, 3, 5)}, ValueError, "value", "(2, 3, 5)", "begins with (2, 4)"),
            ({"value": _zeros(2, 4, 5, dtype=F64)}, TypeError, "value", "float64", "float32"),
            ({"attn_mask": _zeros(3, 4)}, ValueError, "attn_mask", "(3, 4)", "broadcasts to (2, 4, 4)"),
            ({"attn_mask": _zeros(1, 2, 4, 4)}, ValueError, "attn_mask", "(1, 2, 4, 4)", "broadcasts to (2, 4, 4)"),
            ({"attn_mask": _ints(1, 1, 1, 1)}, TypeError, "attn_mask", "<i8", "float32"),
            ({"attn_mask": _zeros(4, 4), "is_causal": True}, ValueError, "attn_mask", "is_causal", "one of the two"),
            ({"is_causal": 1}, TypeError, "is_causal", "1", "True or False"),
            ({"dropout_p": 1.5}, ValueError, "dropout_p", "1.5", "between 0 and 1"),
            ({"key": _zeros(3, 4, 5), "value": _zeros(3, 4, 5), "enable_gqa": True}, ValueError, "key", "3", "2"),
        )
    ),
    ("scaled_dot_product_attention_backward", {"y": _zeros(2, 4, 3)}, ValueError, "y", "(2, 4, 3)", "(2, 4, 5)"),
    ("scaled_dot_product_attention_backward", {"saved": _zeros(8)}, ValueError, "saved", "(8,)", "(2, 4)"),
    *(
        (name + end, *row)
        for name in ("interpolate", "resize")
        for end in ("", "_backward")
        for row in (
            ({"x": _zeros(2, 4)}, ValueError, "x", "(2, 4)", "3 to 5 dimensions"),
            ({"x": _zeros(1, 2, 0)}, ValueError, "x", "(1, 2, 0)", "at least 1"),
            ({"size": 0}, ValueError, "size", "0", "at least 1"),
            ({"size": (3, 4)}, TypeError, "size", "(3, 4)", "an int"),
            ({"size": None}, ValueError, "size", "None", "one of the two"),
            ({"scale_factor": 2.0}, ValueError, "scale_factor", "beside size", "one of the two"),
            ({"size": None, "scale_factor": 0.1}, ValueError, "size", "0", "at least 1"),
            ({"size": None, "scale_factor": 0.0}, ValueError, "scale_factor", "0", "above 0"),
            ({"size": None, "scale_factor": (2.0, 2.0)}, ValueError, "scale_factor", "(2.0, 2.0)", "1 numbers"),
            ({"mode": "cubist"}, ValueError, "mode", "cubist", "linear"),
        )
    ),
    ("interpolate", {"mode": "bilinear"}, ValueError, "mode", "1 spatial", "one of 2"),
    ("interpolate", {"align_corners": True}, ValueError, "align_corners", "nearest", "None"),
    ("interpolate", {"recompute_scale_factor": True}, ValueError, "recompute_scale_factor", "True", "a scale_factor"),
    ("interpolate_backward", {"grad_output": _zeros(1, 2, 4)}, ValueError, "grad_output", "(1, 2, 4)", "(1, 2, 5)"),
    ("resize", {"coordinates": "nearest_exact"}, ValueError, "coordinates", "nearest_exact", "half_pixel"),
    ("resize", {"nearest_mode": "round"}, ValueError, "nearest_mode", "round", "floor"),
    ("resize_backward", {"grad_output": _zeros(1, 2, 4)}, ValueError, "grad_output", "(1, 2, 4)", "(1, 2, 5)"),
    ("pixel_shuffle", {"x": _zeros(6, 2, 3)}, ValueError, "x", "6 channels", "a multiple of 4"),
    ("pixel_shuffle", {"x": _zeros(4, 4)}, ValueError, "x", "(4, 4)", "3 dimensions"),
    ("pixel_shuffle", {"upscale_factor": 0}, ValueError, "upscale_factor", "0", "at least 1"),
    (
        "pixel_shuffle_backward",
        {"grad_output": _zeros(2, 3, 4)},
        ValueError,
        "grad_output",
        "(2, 3, 4)",
        "multiples of 2",
    ),
    ("pixel_unshuffle", {"x": _zeros(2, 4, 5)}, ValueError, "x", "(2, 4, 5)", "multiples of 2"),
    ("pixel_unshuffle", {"downscale_factor": 1.0}, TypeError, "downscale_factor", "1.0", "an int"),
    ("pixel_unshuffle_backward", {"grad_output": _zeros(6, 2, 3)}, ValueError, "grad_output", "6", "a multiple of 4"),
    ("take_backward", {"rows": -1}, ValueError, "rows", "-1", "at least 0"),
    ("take_backward", {"rows": 4.0}, TypeError, "rows", "4.0", "an int"),
    ("take_backward", {"grad_output": [1.0, 2.0]}, TypeError, "grad_output", "list", "array"),
    ("cat", {"arrays": _zeros(2, 3)}, TypeError, "arrays", "ndarray", "tuple or a list"),
    ("cat", {"arrays": ()}, ValueError, "arrays", "no arrays", "at least one"),
    ("cat", {"arrays": (_zeros(2, 3), 1.0)}, TypeError, "arrays[1]", "float", "array"),
    ("cat", {"arrays": (_zeros(2, 3), _zeros(2, 3, dtype=F64))}, TypeError, "arrays[1]", "float64", "float32"),
    ("cat", {"arrays": (_zeros(2, 3), _zeros(6))}, ValueError, "arrays[1]", "(6,)", "2 dimensions"),
    ("cat", {"arrays": (_zeros(), _zeros())}, ValueError, "arrays[0]", "()", "at least 1 dimension"),
    ("cat", {"arrays": (_zeros(2, 3), _zeros(3, 3))}, ValueError, "arrays", "(3, 3) as number 1", "(2, 3) but for"),
    ("cat", {"dim": 2}, ValueError, "dim", "2", "at least -2 and at most 1"),
    ("cat", {"dim": 1.0}, TypeError, "dim", "1.0", "an int"),
    ("cat_backward", {"sizes": (3, 3)}, ValueError, "sizes", "(3, 3)", "add up to 7"),
    ("cat_backward", {"sizes": (8, -1)}, ValueError, "sizes", "(8, -1)", "add up to 7"),
    ("cat_backward", {"sizes": ()}, ValueError, "sizes", "()", "add up to 7"),
    ("cat_backward", {"sizes": (3.0, 4)}, TypeError, "sizes", "(3.0, 4)", "a tuple of ints"),
    ("cat_backward", {"sizes": 7}, TypeError, "sizes", "7", "a tuple of ints"),
    ("cat_backward", {"dim": -3}, ValueError, "dim", "-3", "at least -2 and at most 1"),
    ("cat_backward", {"grad_output": _zeros()}, ValueError, "grad_output", "()", "at least 1 dimension"),
]
_FIVE = _SHARED[:5]
_ROWS += [
    ("adam_step", {"exp_avg": _SHARED[:5], "exp_avg_sq": _SHARED[1:6]}, ValueError, "exp_avg_sq", "overlaps", "not"),
    (
        "adam_step",
        {"exp_avg": _SHARED[:5], "max_exp_avg_sq": _SHARED[:5]},
        ValueError,
        "max_exp_avg_sq",
        "overlaps",
        "not",
    ),
    (
        "rmsprop_step",
        {"grad_avg": _SHARED[:5], "momentum_buffer": _SHARED[:5]},
        ValueError,
        "momentum_buffer",
        "overlaps",
        "not",
    ),
    ("nadam_step", {"mu_product": np.ones(())}, TypeError, "mu_product", "float64", "float32"),
    (
        "nadam_step",
        {"grad": _SHARED[:5], "mu_product": _SHARED[:1].reshape(())},
        ValueError,
        "mu_product",
        "overlaps",
        "not",
    ),
    ("nadam_step", {"momentum_decay": -1.0}, ValueError, "momentum_decay", "-1.0", "at least 0"),
    ("adagrad_step", {"step": 0}, ValueError, "step", "0", "at least 1"),
    ("adagrad_step", {"lr_decay": -1.0}, ValueError, "lr_decay", "-1.0", "at least 0"),
    ("rmsprop_step", {"alpha": -1.0}, ValueError, "alpha", "-1.0", "between 0 and 1"),
    ("rmsprop_step", {"momentum": _NAN}, ValueError, "momentum", "nan", "at least 0"),
    ("rmsprop_step", {"momentum_buffer": None}, ValueError, "momentum_buffer", "none", "array like param"),
    ("adadelta_step", {"rho": 1.5}, ValueError, "rho", "1.5", "between 0 and 1"),
    *(
        (op, {"eps": -1e-8}, ValueError, "eps", "-1e-08", "at least 0")
        for op in ("adagrad_step", "rmsprop_step", "adam_step", "adamw_step", "adadelta_step", "nadam_step")
    ),
    *(
        (op, {"betas": betas}, ValueError, "betas", str(betas), "below 1")
        for op in ("adam_step", "adamw_step", "nadam_step", "lion_step")
        for betas in ((1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, _NAN))
    ),
    *((op, {"step": 0}, ValueError, "step", "0", "at least 1") for op in ("adam_step", "adamw_step", "nadam_step")),
]

_ROWS += [
    row
    for name, gates in (("rnn", 1), ("lstm", 4), ("gru", 3))
    for op in (name, f"{name}_backward")
    for weights in [_weights(gates)]
    for row in (
        (op, {"x": _zeros(5)}, ValueError, "x", "(5,)", "3 dimensions, or 2 without a batch"),
        (op, {"x": _zeros(3, 5), "h0": _zeros(1, 2, 4)}, ValueError, "h0", "(1, 2, 4)", "2 dimensions"),
        (op, {"x": _zeros(0, 5)}, ValueError, "x", "(0, 5)", "at least 1 step"),
        (op, {"x": _zeros(0, 2, 5)}, ValueError, "x", "(0, 2, 5)", "at least 1 step"),
        (op, {"x": _zeros(2, 0, 5), "batch_first": True}, ValueError, "x", "(2, 0, 5)", "at least 1 step"),
        (
            op,
            {"x": _zeros(3, 2, 6)},
            ValueError,
            "weights",
            f"0 (then the peepholes) the shape ({4 * gates}, 5)",
            ", 6)",
        ),
        (op, {"x": _zeros(3, 2, 5, dtype=F64)}, TypeError, "weights", "float32", "float64"),
        (op, {"x": np.zeros((3, 2, 5), int)}, TypeError, "x", "i8", "float32 or float64"),
        (op, {"weights": ()}, ValueError, "weights", "no arrays", "at least one"),
        (op, {"weights": weights[:1]}, ValueError, "weights", "1 arrays", "2 or, with biases, 4"),
        (op, {"weights": weights[:3]}, ValueError, "weights", "3 arrays", "2 or, with biases, 4")
        if name != "lstm"
        else (op, {"weights": weights[:3]}, ValueError, "weights", "array 2", "(4, 4)"),
        (op, {"weights": weights, "num_layers": 2}, ValueError, "weights", "array 2", f"({4 * gates}, 4)"),
        (op, {"weights": weights, "num_layers": 3}, ValueError, "weights", "4 arrays", "each of 3 layers"),
        (op, {"weights": (*weights[:3], _zeros(3))}, ValueError, "weights", "array 3", f"({4 * gates}, 0)"),
        (op, {"weights": (*weights[:3], _zeros(1, 2, 3))}, ValueError, "weights", "array 3", f"({4 * gates}, 0)"),
        (op, {"weights": (*weights[:3], weights[3].astype(F64))}, TypeError, "weights[3]", "float64", "float32"),
        (op, {"num_layers": 0}, ValueError, "num_layers", "0", "at least 1"),
        (op, {"weights": weights * 2, "bidirectional": True, "reverse": True}, ValueError, "reverse", "True", "one of"),
        (op, {"h0": _zeros(2, 2, 4)}, ValueError, "h0", "(2, 2, 4)", "(1, 2, 4)"),
        (op, {"h0": _zeros(2, 4)}, ValueError, "h0", "(2, 4)", "3 dimensions"),
        (op, {"h0": _zeros(1, 2, 4, dtype=F64)}, TypeError, "h0", "float64", "float32"),
        (op, {"lengths": _ints(3)}, ValueError, "lengths", "(1,)", "(2,)"),
        (op, {"lengths": np.ones(2)}, TypeError, "lengths", "float64", "integers"),
        (op, {"dropout": 1.5}, ValueError, "dropout", "1.5", "between 0 and 1"),
        (op, {"seed": -1}, ValueError, "seed", "-1", "at least 0"),
        (op, {"offset": -1}, ValueError, "offset", "-1", "at least 0"),
    )
]
_ROWS += [
    row
    for name in ("rnn", "lstm", "gru")
    for op, saving in ((name, {"return_saved": True}), (name, {}), (f"{name}_backward", {}))
    for lengths, wrong in ((_ints(0, 3), "0"), (_ints(3, 4), "4"), (_ints(-1, 2), "-1"))
    for row in [(op, {"lengths": lengths} | saving, ValueError, "lengths", wrong, "between 1 and 3 steps")]
]
_ROWS += [
    row
    for op in ("rnn_backward", "lstm_backward", "gru_backward")
    for size in [_RIGHT[op]["saved"].size]
    for shared in [_zeros(3, 2, 4)]
    for row in (
        (op, {"grad_output": _zeros(3, 2, 5)}, ValueError, "grad_output", "(3, 2, 5)", "(3, 2, 4)"),
        (op, {"grad_output": _zeros(3, 8)}, ValueError, "grad_output", "(3, 8)", "(3, 2, 4)"),
        (op, {"grad_output": _zeros(3, 2, 4, dtype=F64)}, TypeError, "grad_output", "float64", "float32"),
        (op, {"saved": _zeros(size - 1)}, ValueError, "saved", f"({size - 1},)", f"({size},)"),
        (op, {"saved": _zeros(size // 2, 2)}, ValueError, "saved", f"({size // 2}, 2)", "1 dimensions"),
        (op, {"saved": _zeros(size, dtype=F64)}, TypeError, "saved", "float64", "float32"),
        (op, {"lengths": _ints(3, 2)}, ValueError, "saved", f"({size},)", f"({size // 6 * 5},)"),
        (op, {"grad_h_n": _zeros(1, 2, 5)}, ValueError, "grad_h_n", "(1, 2, 5)", "(1, 2, 4)"),
        (op, {"truncate": -1}, ValueError, "truncate", "-1", "at least 0"),
        (op, {"state_grad_norms": _zeros(3)}, ValueError, "state_grad_norms", "(3,)", "(1, 3)"),
        (op, {"state_grad_norms": _zeros(1, 3, dtype=F64)}, TypeError, "state_grad_norms", "float64", "float32"),
        (
            op,
            {"grad_output": shared, "state_grad_norms": shared.reshape(8, 3)[:1]},
            ValueError,
            "state_grad_norms",
            "overlaps",
            "one that does not",
        ),
    )
]
_ROWS += [
    row
    for op in ("lstm", "lstm_backward")
    for row in (
        (op, {"c0": _zeros(1, 3, 4)}, ValueError, "c0", "(1, 3, 4)", "(1, 2, 4)"),
        (op, {"peepholes": (_zeros(12),) * 2}, ValueError, "peepholes", "2 arrays", "1 arrays"),
        (op, {"peepholes": (_zeros(11),)}, ValueError, "weights", "array 4", "(12, 0)"),
        (op, {"peepholes": (_zeros(12, dtype=F64),)}, TypeError, "peepholes", "float64", "float32"),
        (op, {"weights": _PROJECTED}, ValueError, "h0", "(1, 2, 4)", "(1, 2, 3)"),
        (op, {"weights": (*_PROJECTED[:4], _zeros(4, 4))}, ValueError, "weights", "array 4", "(3, 4)"),
    )
]
_ROWS += [
    ("lstm_backward", {"grad_c_n": _zeros(2, 2, 4)}, ValueError, "grad_c_n", "(2, 2, 4)", "(1, 2, 4)"),
    *(
        (op, {"nonlinearity": "sigmoid"}, ValueError, "nonlinearity", "'sigmoid'", "tanh, relu")
        for op in _RIGHT
        if op.startswith("rnn")
    ),
]
_ROWS += [
    row
    for name, gates in (("rnn", 1), ("lstm", 4), ("gru", 3))
    for op in (f"{name}_cell", f"{name}_cell_backward")
    for rows in [4 * gates]
    for row in (
        (op, {"x": _zeros(3, 2, 5)}, ValueError, "x", "(3, 2, 5)", "1 or 2 dimensions"),
        (op, {"x": _zeros(2, 6)}, ValueError, "weight_ih", f"({rows}, 5)", f"({rows}, 6)"),
        (op, {"x": _zeros(5)}, ValueError, "h", "(2, 4)", "(4,)"),
        (op, {"h": _zeros(3, 4)}, ValueError, "h", "(3, 4)", "(2, 4)"),
        (op, {"h": _zeros(2, 4, dtype=F64)}, TypeError, "h", "float64", "float32"),
        (op, {"weight_ih": _zeros(rows)}, ValueError, "weight_ih", f"({rows},)", "2 dimensions"),
        (op, {"weight_hh": _zeros(rows + 1, 4)}, ValueError, "weight_hh", f"({rows + 1}, 4)", f"({rows}, 4)"),
        (op, {"weight_hh": _zeros(0, 0)}, ValueError, "weight_hh", "(0, 0)", "at least 1 unit"),
        (op, {"bias_ih": _zeros(rows + 1)}, ValueError, "bias_ih", f"({rows + 1},)", f"({rows},)"),
        (op, {"bias_hh": _zeros(rows, 1)}, ValueError, "bias_hh", f"({rows}, 1)", "1 dimensions"),
    )
]
_ROWS += [
    row
    for op in ("lstm_cell", "lstm_cell_backward")
    for row in [(op, {"c": _zeros(2, 5)}, ValueError, "c", "(2, 5)", "(2, 4)")]
]
_ROWS += [
    (op, {"grad_output": _zeros(2, 5)}, ValueError, "grad_output", "(2, 5)", "(2, 4)")
    for op in ("rnn_cell_backward", "lstm_cell_backward", "gru_cell_backward")
]
_ROWS.append(("lstm_cell_backward", {"grad_c": _zeros(2, 5)}, ValueError, "grad_c", "(2, 5)", "(2, 4)"))


def _identify(row: tuple[Any, ...]) -> str:
    operation, wrong, *_ = row
    return f"{operation}-{'-'.join(wrong)}"


def _refused(operation: str, arguments: dict[str, Any], error: type[Exception]) -> str:
    """The message, once it is sure that no array was written."""
    arrays = flat(arguments.values())
    before = [array.tobytes() for array in arrays]
    with pytest.raises(error) as refusal:
        getattr(fastdl, operation)(**arguments)
    assert [array.tobytes() for array in arrays] == before
    assert type(refusal.value) is error
    return str(refusal.value)


@pytest.mark.parametrize("row", _ROWS, ids=_identify)
def test_mistakes(row: tuple[str, dict[str, Any], type[Exception], str, str, str]) -> None:
    operation, wrong, error, argument, found, expected = row
    arguments = _RIGHT[operation] | wrong
    if "out" in inspect.signature(getattr(fastdl, operation)).parameters:
        # Right for the right call, so it would be written if the mistake went unseen.
        arguments["out"] = np.full_like(getattr(fastdl, operation)(**_RIGHT[operation]), 7)
    message = _refused(operation, arguments, error)
    assert message.startswith(f"{argument}: found ")
    said_found, said_expected = message.removeprefix(f"{argument}: found ").split("expected", 1)
    assert found in said_found
    assert expected in said_expected


@pytest.mark.parametrize("operation", _RIGHT)
def test_the_right_calls_are_right(operation: str) -> None:
    getattr(fastdl, operation)(**_RIGHT[operation])


@pytest.mark.parametrize("option", ["stride", "padding", "dilation"])
def test_numbers_that_equal_an_int_are_no_int(option: str) -> None:
    """Also where the same call with ints came before, and was remembered."""
    for right, wrong in ((1, True), (1, 1.0), ((1, 1), (1.0, 1)), ((1, 1), (1, True))):
        fastdl.conv2d(**_RIGHT["conv2d"], **{option: right})
        message = _refused("conv2d", _RIGHT["conv2d"] | {option: wrong}, TypeError)
        assert message.startswith(f"{option}: found {wrong!r}, expected an int")
    fastdl.conv2d(**_RIGHT["conv2d"], padding=((1, 1), (0, 0)))
    _refused("conv2d", _RIGHT["conv2d"] | {"padding": ((1.0, 1), (0, 0))}, TypeError)


_WITH_OUT = [name for name in _RIGHT if "out" in inspect.signature(getattr(fastdl, name)).parameters]


@pytest.mark.parametrize("operation", _WITH_OUT)
def test_out_that_cannot_be_written(operation: str) -> None:
    right = getattr(fastdl, operation)(**_RIGHT[operation])
    read_only = np.full_like(right, 7)
    read_only.flags.writeable = False
    for out, error, found, expected in (
        (np.full((*right.shape, 1), 7, F32), ValueError, str((*right.shape, 1)), str(right.shape)),
        (np.full(right.shape, 7, F64), TypeError, "float64", "float32"),
        (np.full(right.shape, 7, np.int32), TypeError, "int32", "float32"),
        (np.full((*right.shape, 2), 7, F32)[..., 0], ValueError, "not C-contiguous", "one that is"),
        (read_only, ValueError, "writable", "one that is"),
        (right.tolist(), TypeError, "list", "NumPy array"),
    ):
        message = _refused(operation, _RIGHT[operation] | {"out": out}, error)
        assert message.startswith("out: found ")
        said_found, said_expected = message.split("expected", 1)
        assert found in said_found
        assert expected in said_expected


# (A single number is read before anything is written.)
_ARRAYS_BESIDE_OUT = [
    (op, name) for op in _WITH_OUT for name, v in _RIGHT[op].items() if isinstance(v, np.ndarray) and v.ndim
]


@pytest.mark.parametrize(("operation", "argument"), _ARRAYS_BESIDE_OUT)
def test_out_that_overlaps(operation: str, argument: str) -> None:
    message = _refused(operation, _RIGHT[operation] | _overlapping(operation, argument), ValueError)
    assert message == f"{argument}: found an array that overlaps the result, expected one that does not"


def test_every_operation_is_tried() -> None:
    from fastdl.functional._operation import OPERATIONS

    assert set(_RIGHT) == set(OPERATIONS) == {operation for operation, *_ in _ROWS}
