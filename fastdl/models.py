"""Networks that people know, as modules of fastdl.nn. Parameters have the names of torchvision's, where it has the
network, so that its weights load as they are: ``fastdl.models.resnet18().load("resnet18.safetensors")``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastdl import nn
from fastdl._docs import doc
from fastdl.functional.verbs import ABOVE_ZERO, number
from fastdl.nn._arguments import size_of
from fastdl.nn._parameters import PARAMETERS, generator
from fastdl.nn.module import Rng

__all__ = ["lenet", "lstm_classifier", "mobilenet_v2", "resnet18", "resnet50", "unet", "vgg11"]

_SHARED = {
    **PARAMETERS,
    "classes": "classes, channels : int\n    How many numbers come out, and how many channels an image has.",
}

_Conv = Callable[..., nn.Conv2d]


def _dropout(p: float, rng: np.random.Generator) -> nn.Dropout:
    return nn.Dropout(p, seed=int(rng.integers(2**63 - 1)))


def _convolutions(dtype: Any, rng: np.random.Generator) -> _Conv:
    """What makes convolutions with weights after He et al. 2015, for layers that relu follows; their size stays."""

    def make(inputs: int, outputs: int, kernel: int = 3, bias: bool = False, **options: Any) -> nn.Conv2d:
        options = {"padding": kernel // 2, "dtype": dtype, "rng": rng, **options}
        conv = nn.Conv2d(inputs, outputs, kernel, bias=bias, **options)
        deviation = math.sqrt(2 * options.get("groups", 1) / (outputs * kernel * kernel))
        conv.weight[...] = rng.normal(0.0, deviation, conv.weight.shape)
        if conv.bias is not None:
            conv.bias[...] = 0
        return conv

    return make


@doc(_SHARED)
def lenet(classes: int = 10, channels: int = 1, *, dtype: Any = np.float32, rng: Rng = None) -> nn.Sequential:
    """LeNet-5 with relu and maxima, for images of 28 x 28.

    Parameters
    ----------
    {classes}
    {dtype}
    {rng}

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.models.lenet()(np.ones((2, 1, 28, 28), np.float32)).shape
    (2, 10)
    """
    options: Any = {"dtype": dtype, "rng": generator(rng)}
    return nn.Sequential(
        {
            "conv1": nn.Conv2d(size_of(channels, "channels", 1), 6, 5, padding=2, **options),
            "relu1": nn.ReLU(),
            "pool1": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(6, 16, 5, **options),
            "relu2": nn.ReLU(),
            "pool2": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(400, 120, **options),
            "relu3": nn.ReLU(),
            "fc2": nn.Linear(120, 84, **options),
            "relu4": nn.ReLU(),
            "fc3": nn.Linear(84, size_of(classes, "classes", 1), **options),
        }
    )


@doc(_SHARED)
def vgg11(
    classes: int = 1000,
    channels: int = 3,
    batch_norm: bool = False,
    hidden: int = 4096,
    *,
    dtype: Any = np.float32,
    rng: Rng = None,
) -> nn.Sequential:
    """VGG of 11 layers with weights, for images of at least 32 x 32.

    Parameters
    ----------
    {classes}
    batch_norm : bool
        Whether one follows each convolution.
    hidden : int
        Of the two linear layers before the last. torchvision's have 4096, and so 120 million parameters.
    {dtype}
    {rng}
        It also draws the seeds of dropout.

    References
    ----------
    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015.
    """
    rng, classes, hidden = generator(rng), size_of(classes, "classes", 1), size_of(hidden, "hidden", 1)
    conv = _convolutions(dtype, rng)
    layers: list[nn.Module] = []
    width = size_of(channels, "channels", 1)
    for outputs in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        if outputs:
            layers += [conv(width, outputs, bias=True)]
            layers += [nn.BatchNorm2d(outputs, dtype=dtype)] if batch_norm else []
            layers += [nn.ReLU()]
            width = outputs
        else:
            layers += [nn.MaxPool2d(2)]
    options: Any = {"dtype": dtype, "rng": rng}
    head: list[nn.Module] = []
    for inputs in (512 * 7 * 7, hidden):
        head += [nn.Linear(inputs, hidden, **options), nn.ReLU(), _dropout(0.5, rng)]
    head.append(nn.Linear(hidden, classes, **options))
    return nn.Sequential(
        {
            "features": nn.Sequential(*layers),
            "avgpool": nn.AdaptiveAvgPool2d(7),
            "flatten": nn.Flatten(),
            "classifier": nn.Sequential(*head),
        }
    )


def _basic(conv: _Conv, norm: Callable[[int], nn.Module], inputs: int, width: int, stride: int) -> list[Any]:
    return [
        ("conv1", conv(inputs, width, stride=stride), "x"),
        ("bn1", norm(width)),
        ("relu1", nn.ReLU()),
        ("conv2", conv(width, width)),
        ("bn2", norm(width)),
    ]


def _bottleneck(conv: _Conv, norm: Callable[[int], nn.Module], inputs: int, width: int, stride: int) -> list[Any]:
    return [
        ("conv1", conv(inputs, width, 1), "x"),
        ("bn1", norm(width)),
        ("relu1", nn.ReLU()),
        ("conv2", conv(width, width, stride=stride)),
        ("bn2", norm(width)),
        ("relu2", nn.ReLU()),
        ("conv3", conv(width, 4 * width, 1)),
        ("bn3", norm(4 * width)),
    ]


def _resnet(
    blocks: tuple[int, ...], expansion: int, classes: int, channels: int, small: bool, dtype: Any, rng: Rng
) -> nn.Sequential:
    rng = generator(rng)
    conv = _convolutions(dtype, rng)

    def norm(width: int) -> nn.Module:
        return nn.BatchNorm2d(width, dtype=dtype)

    channels, classes = size_of(channels, "channels", 1), size_of(classes, "classes", 1)
    stem = conv(channels, 64) if small else conv(channels, 64, 7, stride=2)
    layers: dict[str, nn.Module] = {"conv1": stem, "bn1": norm(64), "relu": nn.ReLU()}
    if not small:
        layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    inputs = 64
    for i, count in enumerate(blocks):
        width, parts = 64 << i, []
        for j in range(count):
            stride = 2 if i and not j else 1
            nodes = (_basic if expansion == 1 else _bottleneck)(conv, norm, inputs, width, stride)
            last, past, outputs = nodes[-1][0], "x", expansion * width
            if stride != 1 or inputs != outputs:
                past = "downsample"
                nodes.append((past, nn.Sequential(conv(inputs, outputs, 1, stride=stride), norm(outputs)), "x"))
            parts.append(nn.Graph(*nodes, ("sum", nn.Add(), last, past), ("relu", nn.ReLU())))
            inputs = outputs
        layers[f"layer{i + 1}"] = nn.Sequential(*parts)
    head = nn.Linear(inputs, classes, dtype=dtype, rng=rng)
    return nn.Sequential({**layers, "avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": head})


_RESNET = {
    **_SHARED,
    "small": """
small : bool
    Whether it begins with a convolution of 3 x 3 and without pooling, for images of 32 x 32.""",
    "source": """
References
----------
He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016; of 50 layers with the strides where
torchvision has them.""",
}


@doc(_RESNET)
def resnet18(
    classes: int = 1000, channels: int = 3, small: bool = False, *, dtype: Any = np.float32, rng: Rng = None
) -> nn.Sequential:
    """The residual network of 18 layers.

    Parameters
    ----------
    {classes}
    {small}
    {dtype}
    {rng}

    {source}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> net = fastdl.models.resnet18(10, small=True)
    >>> net(np.ones((1, 3, 32, 32), np.float32)).shape
    (1, 10)
    >>> [name for name in net.parameters() if name.startswith("layer2.0.")][-3:]
    ['layer2.0.downsample.0.weight', 'layer2.0.downsample.1.weight', 'layer2.0.downsample.1.bias']
    """
    return _resnet((2, 2, 2, 2), 1, classes, channels, small, dtype, rng)


@doc(_RESNET)
def resnet50(
    classes: int = 1000, channels: int = 3, small: bool = False, *, dtype: Any = np.float32, rng: Rng = None
) -> nn.Sequential:
    """The residual network of 50 layers, whose blocks are narrow in the middle.

    Parameters
    ----------
    {classes}
    {small}
    {dtype}
    {rng}

    {source}
    """
    return _resnet((3, 4, 6, 3), 4, classes, channels, small, dtype, rng)


@doc(_SHARED)
def mobilenet_v2(
    classes: int = 1000, channels: int = 3, width: float = 1.0, *, dtype: Any = np.float32, rng: Rng = None
) -> nn.Sequential:
    """MobileNetV2: convolutions of one channel each between those of single pixels.

    Parameters
    ----------
    {classes}
    width : float
        What numbers of channels are multiplied by, rounded to multiples of 8.
    {dtype}
    {rng}
        It also draws the seeds of dropout.

    References
    ----------
    Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
    """
    rng, width = generator(rng), number(width, "width", ABOVE_ZERO)
    conv = _convolutions(dtype, rng)

    def scaled(n: int) -> int:
        found = max(8, int(n * width + 4) // 8 * 8)
        return found + 8 if found < 0.9 * n * width else found

    def normed(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Sequential:
        norm = nn.BatchNorm2d(outputs, dtype=dtype)
        return nn.Sequential(conv(inputs, outputs, kernel, **options), norm, nn.ReLU6())

    inputs = scaled(32)
    layers: list[nn.Module] = [normed(size_of(channels, "channels", 1), inputs, stride=2)]
    for expansion, n, count, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for j in range(count):
            outputs, inner, stride = scaled(n), inputs * expansion, first if j == 0 else 1
            parts: list[nn.Module] = [normed(inputs, inner, 1)] if expansion > 1 else []
            parts += [normed(inner, inner, stride=stride, groups=inner), conv(inner, outputs, 1)]
            block = nn.Sequential(*parts, nn.BatchNorm2d(outputs, dtype=dtype))
            if stride == 1 and inputs == outputs:
                layers.append(nn.Graph(("conv", block), ("sum", nn.Add(), "conv", "x")))
            else:
                layers.append(nn.Sequential({"conv": block}))
            inputs = outputs
    last = scaled(1280) if width > 1 else 1280
    layers.append(normed(inputs, last, 1))
    head = nn.Linear(last, size_of(classes, "classes", 1), dtype=dtype, rng=rng)
    return nn.Sequential(
        {
            "features": nn.Sequential(*layers),
            "avgpool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "classifier": nn.Sequential(_dropout(0.2, rng), head),
        }
    )


@doc(_SHARED)
def unet(
    classes: int = 1,
    channels: int = 3,
    width: int = 64,
    depth: int = 4,
    *,
    dtype: Any = np.float32,
    rng: Rng = None,
) -> nn.Graph:
    """U-Net: a number for each class and pixel, from ever smaller images and back; padded, with batch-norms.

    Parameters
    ----------
    {classes}
    width : int
        The channels of the largest images; each halving of their sides doubles them.
    depth : int
        How often sides are halved: they have to be multiples of 2 ** depth.
    {dtype}
    {rng}

    References
    ----------
    Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> net = fastdl.models.unet(classes=2, width=4, depth=2)
    >>> net(np.ones((1, 3, 16, 16), np.float32)).shape
    (1, 2, 16, 16)
    """
    rng, depth, width = generator(rng), size_of(depth, "depth", 1), size_of(width, "width", 1)
    conv = _convolutions(dtype, rng)

    def double(inputs: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for n in (inputs, outputs):
            layers += [conv(n, outputs), nn.BatchNorm2d(outputs, dtype=dtype), nn.ReLU()]
        return nn.Sequential(*layers)

    nodes: list[tuple[Any, ...]] = []
    inputs = size_of(channels, "channels", 1)
    for i in range(depth):
        nodes += [(f"down{i}", double(inputs, width << i)), (f"pool{i}", nn.MaxPool2d(2))]
        inputs = width << i
    nodes.append(("middle", double(inputs, width << depth)))
    for i in reversed(range(depth)):
        n = width << i
        nodes += [
            (f"grow{i}", nn.ConvTranspose2d(2 * n, n, 2, stride=2, dtype=dtype, rng=rng)),
            (f"cat{i}", nn.Cat(), f"down{i}", f"grow{i}"),
            (f"up{i}", double(2 * n, n)),
        ]
    return nn.Graph(*nodes, ("head", nn.Conv2d(width, size_of(classes, "classes", 1), 1, dtype=dtype, rng=rng)))


@doc(_SHARED)
def lstm_classifier(
    features: int,
    classes: int,
    hidden: int = 128,
    layers: int = 1,
    bidirectional: bool = False,
    *,
    dtype: Any = np.float32,
    rng: Rng = None,
) -> nn.Sequential:
    """A class for each sequence, (steps, batch, features), from the last state of an LSTM; takes `lengths`.

    Parameters
    ----------
    features : int
        How many numbers a step has.
    classes : int
        How many numbers come out.
    hidden, layers : int
        The units of a layer, and how many layers there are.
    bidirectional : bool
        Whether sequences are read from both ends.
    {dtype}
    {rng}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> net = fastdl.models.lstm_classifier(3, 2, hidden=8)
    >>> net(np.ones((7, 5, 3), np.float32), lengths=np.array([7, 7, 4, 2, 1])).shape
    (5, 2)
    """
    options: Any = {"dtype": dtype, "rng": generator(rng)}
    classes = size_of(classes, "classes", 1)
    lstm = nn.LSTM(features, hidden, num_layers=layers, bidirectional=bidirectional, **options)
    wide = hidden * (2 if bidirectional else 1)
    return nn.Sequential({"lstm": lstm, "last": nn.LastState(), "fc": nn.Linear(wide, classes, **options)})
