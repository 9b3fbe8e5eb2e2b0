"""Constructors of layers: torch's arguments, attributes and repr; mistakes are refused at once, by name."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest

from fastdl import nn

_CALLS: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "Linear": [((3, 4), {}), ((3, 4, False), {})],
    **{
        f"Conv{n}d": [
            ((3, 4, 2), {}),
            ((4, 6, 3, 2, 1, 2, 2), {}),
            ((4, 6, 3), {"padding": "same", "bias": False, "padding_mode": "circular"}),
            ((4, 6, (1, 2, 3)[:n], (3, 2, 1)[:n], (0, 1, 2)[:n]), {}),
        ]
        for n in (1, 2, 3)
    },
    **{
        f"ConvTranspose{n}d": [
            ((3, 4, 2), {}),
            ((4, 6, 3, 2, 1, 1, 2, False, 2), {}),
            ((4, 6, (1, 2, 3)[:n]), {"stride": (3, 2, 1)[:n]}),
        ]
        for n in (1, 2, 3)
    },
    **{
        f"{name}{n}d": calls
        for n in (1, 2, 3)
        for name, calls in {
            "MaxPool": [
                ((2,), {}),
                (((2, 3, 4)[:n], 2, 1), {"dilation": 2, "return_indices": True, "ceil_mode": True}),
            ],
            "AvgPool": [((2,), {}), (((2, 3, 4)[:n], 2, 1, True, False), {})],
            "LPPool": [((2, 3), {}), ((1.5, (2, 3, 4)[:n], 2, True), {})],
            "MaxUnpool": [((2,), {}), (((2, 3, 4)[:n], 2, 1), {})],
            "AdaptiveAvgPool": [((2,), {}), (((2, None, 3)[:n],), {})],
            "AdaptiveMaxPool": [((2,), {}), (((2, None, 3)[:n], True), {})],
            "BatchNorm": [((3,), {}), ((3, 1e-3, None, False, False), {}), ((3,), {"bias": False})],
            "InstanceNorm": [((3,), {}), ((3, 1e-3, 0.2, True, True), {}), ((3,), {"affine": True, "bias": False})],
            "ZeroPad": [((1,), {}), (((1, 2, 3, 4, 5, 6)[: 2 * n],), {})],
            "ConstantPad": [((1, 2), {}), (((1, 2, 3, 4, 5, 6)[: 2 * n], -1.5), {})],
            "ReflectionPad": [((1,), {}), (((1, 2, 3, 4, 5, 6)[: 2 * n],), {})],
            "ReplicationPad": [((1,), {})],
            "CircularPad": [((1,), {})],
            "Dropout": [((), {}), ((0, True), {})],
        }.items()
    },
    "LayerNorm": [((3,), {}), (((3, 4), 1e-3, False), {}), ((3,), {"bias": False})],
    "GroupNorm": [((2, 4), {}), ((2, 4, 1e-3, False), {}), ((2, 4), {"bias": False})],
    "RMSNorm": [((3,), {}), (((3, 4), 1e-3, False), {})],
    **{
        name: [((), {}), ((True,), {})]
        for name in ("ReLU", "ReLU6", "SELU", "SiLU", "Mish", "Hardsigmoid", "Hardswish")
    },
    **{name: [((), {})] for name in ("Softsign", "LogSigmoid", "Sigmoid", "Tanh", "Tanhshrink", "Softmax2d")},
    "LeakyReLU": [((), {}), ((1, True), {})],
    "ELU": [((), {}), ((2, True), {})],
    "CELU": [((), {}), ((2.5, True), {})],
    "GELU": [((), {}), (("tanh",), {})],
    "Softplus": [((), {}), ((2, 10), {})],
    "Hardtanh": [((), {}), ((-2, 2.5, True), {})],
    "PReLU": [((), {}), ((3, 0.1), {})],
    "Threshold": [((1, 2), {}), ((0.5, -1, True), {})],
    "Hardshrink": [((), {}), ((1,), {})],
    "Softshrink": [((), {}), ((1.5,), {})],
    "GLU": [((), {}), ((0,), {})],
    "Softmin": [((1,), {})],
    "Softmax": [((1,), {})],
    "LogSoftmax": [((-2,), {})],
    "Dropout": [((), {}), ((0.25, True), {})],
    "AlphaDropout": [((), {}), ((1, True), {})],
    "Unfold": [((2,), {}), (((2, 3), 1, (1, 2), 2), {})],
    "Fold": [((4, 2), {}), (((4, 5), (2, 3), 1, (1, 2), 2), {})],
    "RNN": [((3, 4), {}), ((3, 4, 2, "relu", False, True, 0.5, True), {})],
    "LSTM": [((3, 4), {}), ((3, 4, 2, False, True, 0.5, True, 2), {})],
    "GRU": [((3, 4), {}), ((3, 4, 2, False, True, 0.5, True), {})],
    "RNNCell": [((3, 4), {}), ((3, 4, False, "relu"), {})],
    "LSTMCell": [((3, 4), {}), ((3, 4, False), {})],
    "GRUCell": [((3, 4), {})],
    **{
        name: [((), {}), ((), {"reduction": "sum"})]
        for name in (
            "MSELoss",
            "L1Loss",
            "HuberLoss",
            "SmoothL1Loss",
            "BCELoss",
            "BCEWithLogitsLoss",
            "KLDivLoss",
            "HingeEmbeddingLoss",
            "CosineEmbeddingLoss",
            "NLLLoss",
            "CrossEntropyLoss",
        )
    },
}

_FAMILIES = [
    "activation",
    "conv",
    "dropout",
    "fold",
    "linear",
    "loss",
    "normalization",
    "padding",
    "pooling",
    "recurrent",
]
_CLASSES = [
    name
    for name, value in vars(nn).items()
    if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__.split(".")[-1] in _FAMILIES
]
_LISTED = sorted(set(_CALLS) & set(_CLASSES))


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def test_every_layer_of_both_is_listed(torch: Any) -> None:
    assert not {n for n in _CLASSES if hasattr(torch.nn, n)} - set(_CALLS)


@pytest.mark.parametrize("name", _LISTED)
def test_repr_and_attributes_are_those_of_torch(torch: Any, name: str) -> None:
    for args, options in _CALLS[name]:
        layer, peer = getattr(nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
        if name not in ("Hardsigmoid", "Hardswish"):  # torch leaves out `inplace` of these two
            assert repr(layer) == repr(peer)
        for attribute in getattr(peer, "__constants__", []):
            if attribute not in ("size_average", "reduce") and name != "ReLU6":  # which is a Hardtanh of torch's
                assert getattr(layer, attribute) == getattr(peer, attribute), attribute


_LEFT_OUT = {"device", "size_average", "reduce", "min_value", "max_value"}
"""Arguments of torch that fastdl does not have: devices, and what torch itself has given up."""
_OTHER_DEFAULTS = {("Softmax", "dim"), ("LogSoftmax", "dim"), ("Softmin", "dim")}
"""torch wants these to be given, and warns."""


@pytest.mark.parametrize("name", _LISTED)
def test_arguments_are_those_of_torch(torch: Any, name: str) -> None:
    """In torch's order, with torch's defaults, and spelled out; what fastdl adds stands behind."""
    ours = inspect.signature(getattr(nn, name)).parameters
    assert not [p for p in ours.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    theirs = dict(inspect.signature(getattr(torch.nn, name)).parameters)
    if "args" in theirs:  # written with *args, described in the docstring
        return
    expected = [n for n in theirs if n not in _LEFT_OUT and n in ours]
    assert set(theirs) - set(ours) <= _LEFT_OUT | {"dtype"}
    assert [n for n in ours if n in theirs] == expected
    for n in expected:
        if n != "dtype" and (name, n) not in _OTHER_DEFAULTS:
            assert ours[n].default == theirs[n].default, n


@pytest.mark.parametrize("name", sorted(_CLASSES))
def test_docstrings_describe_every_argument(name: str) -> None:
    text = inspect.getdoc(getattr(nn, name)) or ""
    assert "Examples\n--------" in text
    assert not re.search(r"\{[a-z_]+\}", text), "a text was not filled in"
    for argument in inspect.signature(getattr(nn, name)).parameters:
        lines = [line.split(" : ")[0].replace("*", "") for line in text.splitlines() if " : " in line]
        described = any(argument in line.split(", ") for line in lines)
        assert described, f"{argument} is not described"


@pytest.mark.parametrize("name", _LISTED)
def test_an_argument_that_does_not_exist_is_an_error(name: str) -> None:
    args, options = _CALLS[name][0]
    with pytest.raises(TypeError, match="unexpected keyword argument 'bidirectionl'"):
        getattr(nn, name)(*args, **options, bidirectionl=True)
    with pytest.raises(TypeError, match=r"takes .* positional argument"):
        getattr(nn, name)(*args, *[True] * 20)


_MISTAKES = [
    ("Linear(True, 2)", "in_features: found True"),
    ("Linear(2, 'a')", "out_features: found 'a', expected an int"),
    ("Linear(2, 3, bias=1)", "bias: found 1, expected True or False"),
    ("Linear(2, 3, dtype='f')", None),
    ("Linear(2, 3, dtype=np.float16)", "dtype: found float16, expected float32 or float64"),
    ("Linear(2, 3, dtype=None)", "dtype: found None"),
    ("Linear(2, 3, dtype='no')", "dtype: found 'no'"),
    ("Linear(2, 3, rng='a')", "rng: found 'a'"),
    ("Linear(2, 3, rng=-1)", "rng: found -1"),
    ("Conv2d(1, 1, 0)", "kernel_size: found 0, expected at least 1"),
    ("Conv2d(1, 1, (3, 3, 3))", r"kernel_size: found \(3, 3, 3\), expected an int or 2 ints"),
    ("Conv1d(1, 1, (3, 3))", r"kernel_size: found \(3, 3\), expected an int or 1 int$"),
    ("Conv2d(1, 1, 3, stride=0)", "stride: found 0"),
    ("Conv2d(1, 1, 3, stride=1.5)", "stride: found 1.5"),
    ("Conv2d(1, 1, 3, padding=-1)", "padding: found -1"),
    ("Conv2d(1, 1, 3, padding=((1, 1),))", "padding: found"),
    ("Conv2d(1, 1, 3, padding=((1, -1), (0, 0)))", "padding: found"),
    ("Conv2d(1, 1, 3, dilation=0)", "dilation: found 0"),
    ("Conv2d(1, 1, 3, groups=True)", "groups: found True"),
    ("Conv2d(1, 1, 3, bias=None)", "bias: found None"),
    ("Conv2d(1, 1, 3, padding_mode=1)", "padding_mode: found 1"),
    ("Conv2d(1, 1, 3, data_format='NCL')", "data_format: found 'NCL', expected one of NCHW, NHWC"),
    ("ConvTranspose2d(1, 1, 3, output_padding=1)", "output_padding: found 1, expected less than stride"),
    ("ConvTranspose2d(1, 1, 3, padding_mode='reflect')", "padding_mode: found 'reflect', expected one of zeros"),
    ("MaxPool2d(0)", "kernel_size: found 0"),
    ("MaxPool2d(2, padding=2)", "padding: found 2, expected at most half of kernel_size 2"),
    ("MaxPool2d(2, return_indices=1)", "return_indices: found 1"),
    ("MaxPool2d(2, ceil_mode='no')", "ceil_mode: found 'no'"),
    ("AvgPool2d(2, divisor_override=0)", "divisor_override: found 0"),
    ("AvgPool2d(2, divisor_override=1.5)", "divisor_override: found 1.5"),
    ("AvgPool2d(2, count_include_pad=2)", "count_include_pad: found 2"),
    ("LPPool2d(0, 2)", "norm_type: found 0"),
    ("LPPool2d('2', 2)", "norm_type: found '2'"),
    ("AdaptiveAvgPool2d(-1)", "output_size: found -1"),
    ("AdaptiveAvgPool2d((1, 2, 3))", "output_size: found"),
    ("AdaptiveMaxPool1d(1.5)", "output_size: found 1.5"),
    ("MaxUnpool2d(2, stride=0)", "stride: found 0"),
    ("BatchNorm2d(-1)", "num_features: found -1"),
    ("BatchNorm2d(2, eps=-1)", "eps: found -1"),
    ("BatchNorm2d(2, eps=float('inf'))", "eps: found inf"),
    ("BatchNorm2d(2, momentum='a')", "momentum: found 'a'"),
    ("BatchNorm2d(2, momentum=2)", "momentum: found 2"),
    ("BatchNorm2d(2, affine=1)", "affine: found 1"),
    ("BatchNorm2d(2, track_running_stats=0)", "track_running_stats: found 0"),
    ("BatchNorm2d(2, bias='no')", "bias: found 'no'"),
    ("LayerNorm(())", r"normalized_shape: found \(\)"),
    ("LayerNorm((3, 1.5))", "normalized_shape: found 1.5"),
    ("LayerNorm(3, elementwise_affine=None)", "elementwise_affine: found None"),
    ("GroupNorm(True, 4)", "num_groups: found True"),
    ("GroupNorm(0, 4)", "num_groups: found 0"),
    ("GroupNorm(3, 4)", "num_channels: found 4, expected a multiple of num_groups, 3"),
    ("RMSNorm(3, eps='a')", "eps: found 'a'"),
    ("ReLU(inplace=1)", "inplace: found 1"),
    ("LeakyReLU('a')", "negative_slope: found 'a'"),
    ("LeakyReLU(float('nan'))", "negative_slope: found nan"),
    ("ELU(np.ones(2))", "alpha: found an array"),
    ("CELU(0)", "alpha: found 0"),
    ("GELU('erf')", "approximate: found 'erf'"),
    ("Softplus(beta=0)", "beta: found 0"),
    ("Softplus(threshold=None)", "threshold: found None"),
    ("Hardtanh(1, 1)", "min_val: found 1, expected less than max_val, 1"),
    ("PReLU(0)", "num_parameters: found 0"),
    ("PReLU(init='a')", "init: found 'a'"),
    ("Threshold('a', 0)", "threshold: found 'a'"),
    ("Threshold(0, None)", "value: found None"),
    ("Softshrink(-1)", "lambd: found -1"),
    ("Hardshrink('a')", "lambd: found 'a'"),
    ("GLU(1.5)", "dim: found 1.5"),
    ("Softmax(1.5)", "dim: found 1.5"),
    ("Softmax(True)", "dim: found True"),
    ("Dropout(p=2)", "p: found 2"),
    ("Dropout(p=True)", "p: found True"),
    ("Dropout(seed=-1)", "seed: found -1"),
    ("Dropout(seed=1.5)", "seed: found 1.5"),
    ("Unfold(0)", "kernel_size: found 0"),
    ("Fold(0, 1)", "output_size: found 0"),
    ("ZeroPad2d((1, 2))", r"padding: found \(1, 2\), expected an int or 4 ints"),
    ("ConstantPad1d(1, 'a')", "value: found 'a'"),
    ("LSTM(4, 8, num_layers=0)", "num_layers: found 0"),
    ("LSTM(4, 8, bias=0)", "bias: found 0"),
    ("LSTM(4, 8, batch_first=1)", "batch_first: found 1"),
    ("LSTM(4, 8, bidirectional='yes')", "bidirectional: found 'yes'"),
    ("LSTM(4, 8, dropout=True)", "dropout: found True"),
    ("LSTM(4, 8, proj_size=-1)", "proj_size: found -1"),
    ("GRU(4, 8, linear_before_reset=1)", "linear_before_reset: found 1"),
    ("RNN(4, 8, nonlinearity=0)", "nonlinearity: found 0"),
    ("GRUCell(4, 8, bias=None)", "bias: found None"),
    ("CrossEntropyLoss(weight='a')", "weight: found str"),
    ("CrossEntropyLoss(weight=np.ones(2, int))", "weight: found dtype"),
    ("CrossEntropyLoss(ignore_index=1.5)", "ignore_index: found 1.5"),
    ("CrossEntropyLoss(label_smoothing=2)", "label_smoothing: found 2"),
    ("CrossEntropyLoss(reduction=None)", "reduction: found None"),
    ("MSELoss('batchmean')", "reduction: found 'batchmean'"),
    ("HuberLoss(delta=0)", "delta: found 0"),
    ("SmoothL1Loss(beta=-1)", "beta: found -1"),
    ("HingeEmbeddingLoss(margin='a')", "margin: found 'a'"),
    ("KLDivLoss(log_target=1)", "log_target: found 1"),
]


@pytest.mark.parametrize(("call", "message"), _MISTAKES, ids=[call for call, _ in _MISTAKES])
def test_mistakes_are_refused_at_construction(call: str, message: str | None) -> None:
    def make() -> Any:
        return eval(f"nn.{call}", {"nn": nn, "np": np})

    if message is None:
        make()
        return
    with pytest.raises((TypeError, ValueError), match=message):
        make()
