"""A small convolutional network on scikit-learn's digits, 8 x 8 images of ten classes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastdl
from fastdl import nn, optim, training
from fastdl.examples import at_least_one, at_least_zero, rates, requires

Array = Any
Batch = tuple[Array, Array]
MOMENTUM, WEIGHT_DECAY = 0.9, 2e-4
BLOCKS = {2: "Convolution 1, ReLU", 5: "Convolution 2, ReLU, pooling"}
"""Where feature maps are drawn: after so many layers."""


class Digits(NamedTuple):
    """Images (n, 1, 8, 8), normalised by the training images' mean and deviation, and their classes (n,)."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=at_least_one, default=15, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch-size", type=at_least_one, default=64, metavar="N", help="default: %(default)s")
    parser.add_argument("--lr", type=float, default=0.1, metavar="LR", help="first learning rate (%(default)s)")
    parser.add_argument(
        "--seed", type=at_least_zero, default=0, metavar="N", help="of weights, order and distortions (%(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("digits.png"), metavar="PNG", help="default: %(default)s")
    parser.add_argument("--threads", type=at_least_one, metavar="N", help="default: as fastdl info shows")
    parser.add_argument("--compare", action="store_true", help="also time PyTorch, where it is installed")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="written after each epoch; what it holds is gone on from"
    )
    parser.add_argument(
        "--distributed", action="store_true", help="as one of the processes that mpiexec started (batches are a rank's)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Train, report and draw."""
    if not arguments.distributed:
        _run(arguments, None)
        return
    from fastdl import distributed

    with requires("mpi"):
        group = distributed.Group(threads=arguments.threads)
    with group:
        _run(arguments, group)


def _run(arguments: argparse.Namespace, group: Any) -> None:
    with requires("examples"):  # now, rather than after the training
        for module in ("matplotlib.figure", "rich.progress", "sklearn.datasets"):
            import_module(module)
    if not arguments.output.absolute().parent.is_dir():
        raise FileNotFoundError(f"--output: found {arguments.output}, expected a file in a folder that exists")
    if arguments.threads:
        fastdl.set_num_threads(arguments.threads)
    digits = load()
    rng = np.random.default_rng(arguments.seed)
    net = network(nn, rng=rng)
    options = {"group": group, "checkpoint": arguments.checkpoint, "resume": arguments.checkpoint is not None}
    history = train(net, digits, arguments.epochs, arguments.batch_size, arguments.lr, rng, **options)
    if not history.rows:
        raise ValueError("found no epoch that ended, expected one to report on")
    if group is not None and group.rank:
        return

    predictions = net(digits.test_images).argmax(1)
    correct = int((predictions == digits.test_labels).sum())
    print(f"test accuracy {correct / len(predictions):.2%} ({correct} of {len(predictions)} held-out images)")
    if group is None:
        print(speeds(digits, arguments.batch_size, arguments.lr, arguments.seed, arguments.compare))
    else:
        rate = len(history) * len(digits.train_images) / history.seconds
        ranks = f"{group.size} ranks (threads: {fastdl.get_num_threads()})"
        print(f"training on {ranks}, images/s: {rate:,.0f}, testing included")
    draw(arguments.output, net, digits, history)
    print(f"loss, filters and feature maps: {arguments.output}")


def network(library: Any, **options: Any) -> Any:
    """The network in fastdl.nn or torch.nn, which take the same arguments."""
    return library.Sequential(
        library.Conv2d(1, 16, 5, padding=2, **options),
        library.ReLU(),
        library.Conv2d(16, 32, 3, padding=1, **options),
        library.ReLU(),
        library.MaxPool2d(2),
        library.Flatten(),
        library.Linear(32 * 4 * 4, 128, **options),
        library.ReLU(),
        library.Linear(128, 10, **options),
    )


def load(test_fraction: float = 0.2) -> Digits:
    """The images, a stratified part of them held out for testing; always the same part."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = data.images[:, None].astype(np.float32)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, data.target, test_size=test_fraction, stratify=data.target, random_state=0
    )
    mean, deviation = train_images.mean(), train_images.std()
    return Digits((train_images - mean) / deviation, train_labels, (test_images - mean) / deviation, test_labels)


def train(
    net: nn.Sequential, digits: Digits, epochs: int, batch_size: int, lr: float, rng: Any, **options: Any
) -> training.History:
    """SGD with momentum on distorted images, the learning rate falling linearly to zero. options: of training.fit."""
    optimizer = optim.SGD(net.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    ranks = options["group"].size if options.get("group") else 1
    steps = epochs * -(-len(digits.train_images) // (batch_size * ranks))
    schedule = optim.lr_scheduler.PolynomialLR(optimizer, steps)
    if (path := options.get("checkpoint")) and path.exists():
        fastdl.load_checkpoint(path / "checkpoint.npz" if path.is_dir() else path, schedule=schedule)
        if (made := schedule.total_iters) != steps:
            raise ValueError(
                f"--checkpoint: found a training of {made} steps, expected {steps}: the learning rate falls to zero "
                "with them, so go on with the same --epochs, --batch-size and number of ranks"
            )
    return training.fit(
        net,
        (digits.train_images, digits.train_labels),
        nn.CrossEntropyLoss(),
        optimizer,
        epochs,
        batch_size=batch_size,
        rng=rng,
        transform=lambda rng, images, labels: (_distorted(images, rng), labels),
        validation=(digits.test_images, digits.test_labels),
        metrics=training.accuracy,
        schedule=schedule,
        schedule_each="batch",
        progress=True,
        **options,
    )


def train_step(net: Any, loss: Any, optimizer: Any, images: Array, labels: Array) -> float:
    value = float(loss(net(images), labels))
    net.backward(loss.backward(), input_grad=False)
    optimizer.step(net.grads)
    return value


def speeds(digits: Digits, batch_size: int, lr: float, seed: int, with_torch: bool) -> str:
    """Images a second of the same training steps on fastdl, recorded and not, on its NumPy reference and, if asked, on
    PyTorch."""
    from fastdl import reference

    steps = {"fastdl": _recorded_step(seed, lr), "plain": _fastdl_step(fastdl, seed, lr)}
    steps["NumPy"] = _fastdl_step(reference, seed, lr)
    has_torch = find_spec("torch") is not None
    if with_torch and has_torch:
        steps["PyTorch"] = _torch_step(seed, lr)
    batches = [batch for _, batch in _batches(digits, batch_size, np.random.default_rng(seed))]
    threads = fastdl.get_num_threads()
    found = rates(steps, batches, threads)
    own, plain = found.pop("fastdl"), found.pop("plain")
    others = "".join(f" | {name} {rate:,.0f}, fastdl is {own / rate:.1f}x" for name, rate in found.items())
    if with_torch and not has_torch:
        others += " | PyTorch is not installed"
    gain = f" | not recorded {plain:,.0f}: a program is {own / plain:.2f}x"
    return f"training, images/s (threads: {threads}): fastdl {own:,.0f}{others}{gain}"


def draw(path: Path, net: nn.Sequential, digits: Digits, history: training.History) -> None:
    """The loss, the first layer's filters, and what the network makes of the first test image, as a PNG."""
    from matplotlib.figure import Figure

    image = digits.test_images[:1]
    maps, x = {}, image
    for count, layer in enumerate(net, start=1):
        x = layer(x)
        if count in BLOCKS:
            maps[BLOCKS[count]] = x[0]

    figure: Any = Figure(figsize=(13, 7.5), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.15, 1])
    curve, filters = upper.subplots(1, 2, width_ratios=[1.5, 1])
    labels = {"loss": "train (distorted images)", "val_loss": "test (held out)"}
    for column, label in labels.items():
        curve.plot(history["epoch"], history[column], marker="o", markersize=4, label=label)
    accuracy = history["val_accuracy"][-1]
    curve.set(title=f"Loss (test accuracy {accuracy:.2%})", xlabel="epoch", ylabel="cross entropy")
    curve.set_yscale("log")
    curve.xaxis.get_major_locator().set_params(integer=True)
    curve.grid(alpha=0.3, which="both")
    curve.legend(frameon=False)

    weight = net[0].parameters()["weight"][:, 0]
    limit = float(np.abs(weight).max())
    drawn = filters.imshow(_mosaic(weight, 4), cmap="RdBu_r", vmin=-limit, vmax=limit)
    filters.set(title=f"Convolution 1: learned filters, {weight.shape[1]} x {weight.shape[2]}")
    figure.colorbar(drawn, ax=filters, label="weight", shrink=0.9)

    panels = lower.subplots(1, 1 + len(maps), width_ratios=[1, 1.2, 2.2])
    panels[0].imshow(image[0, 0], cmap="gray_r")
    panels[0].set(title=f"Test image: a {digits.test_labels[0]}, predicted {x[0].argmax()}", xlabel="x", ylabel="y")
    for axes, (name, channels) in zip(panels[1:], maps.items(), strict=True):
        drawn = axes.imshow(_mosaic(channels, 4), cmap="magma")
        axes.set(title=f"{name}: feature maps")
        figure.colorbar(drawn, ax=axes, label="activation", shrink=0.8)
    for axes in (filters, *panels[1:]):
        axes.set_axis_off()
    figure.savefig(path, format="png", dpi=120)


def _batches(digits: Digits, size: int, rng: Any) -> Iterator[tuple[int, Batch]]:
    """Every training image once, in random order, with the number of images that came before."""
    order = rng.permutation(len(digits.train_images))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield start, (digits.train_images[chosen], digits.train_labels[chosen])


def _distorted(images: Array, rng: Any) -> Array:
    """Each image under a small random affine map (rotation, scale, shear, shift), read bilinearly."""
    count, _, height, width = images.shape
    centre = np.array([height - 1, width - 1]) / 2
    pixels = np.indices((height, width)).reshape(2, -1).T - centre
    angle = rng.uniform(-0.2, 0.2, count)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.stack([cos, -sin, sin, cos], axis=1).reshape(count, 2, 2)
    stretch = np.eye(2) + rng.uniform(-0.15, 0.15, (count, 2, 2))
    sources = pixels @ (stretch @ rotation) + centre + rng.uniform(-0.8, 0.8, (count, 1, 2))

    border = 2
    padded = np.pad(images[:, 0], ((0, 0), (border, border), (border, border)), constant_values=images.min())
    sources = np.clip(sources + border, 0, np.array(padded.shape[1:]) - 1.001)  # leaves a pixel to the right
    corner = sources.astype(np.int64)
    row, column = corner[..., 0], corner[..., 1]
    down, right = np.moveaxis((sources - corner).astype(images.dtype), 2, 0)
    n = np.arange(count)[:, None]
    above = (1 - right) * padded[n, row, column] + right * padded[n, row, column + 1]
    below = (1 - right) * padded[n, row + 1, column] + right * padded[n, row + 1, column + 1]
    return ((1 - down) * above + down * below).reshape(images.shape)


def _step(seed: int, lr: float) -> Callable[..., float]:
    net, loss = network(nn, rng=seed), nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    return partial(train_step, net, loss, optimizer)


def _recorded_step(seed: int, lr: float) -> Callable[[Batch], float]:
    recorded = fastdl.recorded(_step(seed, lr))
    return lambda batch: recorded(*batch)


def _fastdl_step(functions: Any, seed: int, lr: float) -> Callable[[Batch], float]:
    plain = _step(seed, lr)

    def step(batch: Batch) -> float:
        with nn.backend(functions):
            return plain(*batch)

    return step


def _torch_step(seed: int, lr: float) -> Callable[[Batch], float]:
    import torch

    net, loss = network(torch.nn), torch.nn.CrossEntropyLoss()
    net.load_state_dict({name: torch.from_numpy(a) for name, a in network(nn, rng=seed).state_dict().items()})
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    torch.set_num_threads(fastdl.get_num_threads())

    def step(batch: Batch) -> float:
        images, labels = map(torch.from_numpy, batch)
        optimizer.zero_grad()
        value = loss(net(images), labels)
        value.backward()
        optimizer.step()
        return float(value)

    return step


def _mosaic(tiles: Array, rows: int) -> Array:
    """Images side by side in that many rows, with empty lines between them."""
    tiles = np.pad(tiles, ((0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    count, height, width = tiles.shape
    grid = tiles.reshape(rows, count // rows, height, width).transpose(0, 2, 1, 3)
    return grid.reshape(rows * height, -1)[:-1, :-1]


if __name__ == "__main__":
    from fastdl.__main__ import main

    main(["train", "digits", *sys.argv[1:]])
