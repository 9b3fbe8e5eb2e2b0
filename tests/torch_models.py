"""The networks of fastdl.models written out in PyTorch, with the same names: what tests and benchmarks compare with."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn as T


class LeNet(T.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = T.Conv2d(1, 6, 5, padding=2), T.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = T.Linear(400, 120), T.Linear(120, 84), T.Linear(84, 10)

    def forward(self, x: Any) -> Any:
        for conv in (self.conv1, self.conv2):
            x = T.functional.max_pool2d(conv(x).relu(), 2)
        return self.fc3(self.fc2(self.fc1(x.flatten(1)).relu()).relu())


class VGG(T.Module):
    def __init__(self, batch_norm: bool) -> None:
        super().__init__()
        layers, width = [], 3
        for n in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
            norm = [T.BatchNorm2d(n)] if batch_norm and n else []
            layers += [T.Conv2d(width, n, 3, padding=1), *norm, T.ReLU()] if n else [T.MaxPool2d(2)]
            width = n or width
        self.features = T.Sequential(*layers)
        self.avgpool = T.AdaptiveAvgPool2d(7)
        head = [T.Linear(25088, 32), T.ReLU(), T.Dropout(), T.Linear(32, 32), T.ReLU(), T.Dropout(), T.Linear(32, 5)]
        self.classifier = T.Sequential(*head)

    def forward(self, x: Any) -> Any:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class Block(T.Module):
    def __init__(self, inputs: int, width: int, stride: int, narrow: bool) -> None:
        super().__init__()
        kernels = (1, 3, 1) if narrow else (3, 3)
        widths = [inputs, *[width] * (len(kernels) - 1), width * (4 if narrow else 1)]
        for i, kernel in enumerate(kernels):
            step = stride if i == (1 if narrow else 0) else 1
            conv = T.Conv2d(widths[i], widths[i + 1], kernel, step, kernel // 2, bias=False)
            setattr(self, f"conv{i + 1}", conv)
            setattr(self, f"bn{i + 1}", T.BatchNorm2d(widths[i + 1]))
        if stride > 1 or inputs != widths[-1]:
            conv = T.Conv2d(inputs, widths[-1], 1, stride, bias=False)
            self.downsample = T.Sequential(conv, T.BatchNorm2d(widths[-1]))
        self.count = len(kernels)

    def forward(self, x: Any) -> Any:
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y.relu() if i < self.count else y
        return (y + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()


class ResNet(T.Module):
    def __init__(self, blocks: tuple[int, ...], narrow: bool, small: bool, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = T.Conv2d(3, 64, 3, 1, 1, bias=False) if small else T.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1, self.small, inputs = T.BatchNorm2d(64), small, 64
        for i, count in enumerate(blocks):
            layer = T.Sequential()
            for j in range(count):
                layer.append(Block(inputs, 64 << i, 2 if i and not j else 1, narrow))
                inputs = (64 << i) * (4 if narrow else 1)
            setattr(self, f"layer{i + 1}", layer)
        self.fc = T.Linear(inputs, classes)

    def forward(self, x: Any) -> Any:
        x = self.bn1(self.conv1(x)).relu()
        x = x if self.small else T.functional.max_pool2d(x, 3, 2, 1)
        return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))


class Inverted(T.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        parts = [_normed(inputs, inner, 1)] if expansion > 1 else []
        parts += [_normed(inner, inner, 3, stride, inner), T.Conv2d(inner, outputs, 1, bias=False)]
        self.conv = T.Sequential(*parts, T.BatchNorm2d(outputs))
        self.past = stride == 1 and inputs == outputs

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.past else self.conv(x)


def _normed(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> Any:
    conv = T.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return T.Sequential(conv, T.BatchNorm2d(outputs), T.ReLU6())


class MobileNet(T.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        layers, inputs = [_normed(3, 32, 3, 2)], 32
        for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)):
            for i in range(n):
                layers.append(Inverted(inputs, c, s if i == 0 else 1, t))
                inputs = c
        layers += [Inverted(160, 320, 1, 6), _normed(320, 1280, 1)]
        self.features = T.Sequential(*layers)
        self.classifier = T.Sequential(T.Dropout(0.2), T.Linear(1280, classes))

    def forward(self, x: Any) -> Any:
        return self.classifier(self.features(x).mean((2, 3)))


class UNet(T.Module):
    def __init__(self) -> None:
        super().__init__()

        def double(a: int, b: int) -> Any:
            pairs = [[T.Conv2d(n, b, 3, padding=1, bias=False), T.BatchNorm2d(b), T.ReLU()] for n in (a, b)]
            return T.Sequential(*pairs[0], *pairs[1])

        self.down0, self.down1, self.down2, self.middle = double(3, 8), double(8, 16), double(16, 32), double(32, 64)
        self.grow2, self.up2 = T.ConvTranspose2d(64, 32, 2, 2), double(64, 32)
        self.grow1, self.up1 = T.ConvTranspose2d(32, 16, 2, 2), double(32, 16)
        self.grow0, self.up0 = T.ConvTranspose2d(16, 8, 2, 2), double(16, 8)
        self.head = T.Conv2d(8, 2, 1)

    def forward(self, x: Any) -> Any:
        past = []
        for i in range(3):
            past.append(getattr(self, f"down{i}")(x))
            x = T.functional.max_pool2d(past[-1], 2)
        x = self.middle(x)
        for i in (2, 1, 0):
            x = getattr(self, f"up{i}")(torch.cat([past[i], getattr(self, f"grow{i}")(x)], 1))
        return self.head(x)


class Classifier(T.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = T.LSTM(4, 16, num_layers=2, bidirectional=True)
        self.fc = T.Linear(32, 3)

    def forward(self, x: Any) -> Any:
        h = self.lstm(x)[1][0]
        return self.fc(torch.cat([h[-2], h[-1]], 1))
