"""Two networks that play against each other, so that one learns to draw digits: a DCGAN on scikit-learn's 8 x 8 images.

The generator makes images of random numbers by transposed convolutions, the discriminator tells them from real ones;
each learns from the other's mistakes (Goodfellow et al. 2014; Radford et al. 2015). What it draws is judged by a third
network, a classifier of real digits: by the Frechet distance between the features that it finds in real and in drawn
images (Heusel et al. 2017), and by the classes that it sees.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastdl
from fastdl import nn, optim, training
from fastdl.examples import at_least_one, at_least_zero, digits, requires

Array = Any
LATENT = 32
"""Numbers that an image is made of."""
BETAS = 0.5, 0.999
REAL = 0.9
"""What real images are to be judged as, in place of 1 (Salimans et al. 2016)."""
SAMPLES = 2000
"""That a distance is computed of."""
SHEET = 8, 16
"""Rows and columns of samples."""


class History(NamedTuple):
    """One value an epoch."""

    discriminator: list[float]
    generator: list[float]
    distance: list[float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=at_least_one, default=40, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch-size", type=at_least_one, default=32, metavar="N", help="default: %(default)s")
    parser.add_argument("--lr", type=float, default=1e-3, metavar="LR", help="learning rate of both (%(default)s)")
    parser.add_argument(
        "--seed", type=at_least_zero, default=0, metavar="N", help="of weights, order and noise (%(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("gan"), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--threads", type=at_least_one, metavar="N", help="default: as fastdl info shows")


def run(arguments: argparse.Namespace) -> None:
    """Train, report and draw."""
    with requires("examples"):  # now, rather than after the training
        for module in ("matplotlib.figure", "rich.progress", "sklearn.datasets", "PIL.Image"):
            import_module(module)
    if not arguments.output.absolute().parent.is_dir():
        raise FileNotFoundError(f"--output: found {arguments.output}, expected a folder in one that exists")
    arguments.output.mkdir(exist_ok=True)
    if arguments.threads:
        fastdl.set_num_threads(arguments.threads)
    rng = np.random.default_rng(arguments.seed)
    images, labels = load()
    if arguments.batch_size > len(images):
        raise ValueError(f"--batch-size: found {arguments.batch_size}, expected at most {len(images)}, all images")
    judge = Judge(images, labels, rng)
    began = time.perf_counter()
    generator, history = train(images, judge, arguments, rng)
    seconds = time.perf_counter() - began

    drawn = sampled(generator, noise(SAMPLES, rng))
    scores = judge.classifier(drawn)
    shares = np.bincount(scores.argmax(1), minlength=10) / len(drawn)
    sure = float((fastdl.softmax(scores, dim=1).max(1) > 0.9).mean())
    first, last = history.distance[0], history.distance[-1]
    rate = arguments.epochs * len(images) / seconds
    print(f"trained {arguments.epochs} epochs in {seconds:.1f} s: {rate:,.0f} images/s")
    print(
        f"Frechet distance to real digits: {first:.1f} after the first epoch, {last:.1f} after the last, "
        f"{first / last:.1f} times less (real digits of one half to those of the other: {judge.floor:.1f})"
    )
    print("classes drawn: " + ", ".join(f"{digit} {share:.1%}" for digit, share in enumerate(shares)))
    print(f"the classifier ({judge.accuracy:.1%} on held-out digits) is more than 90% sure of {sure:.1%} of them")
    frames = [arguments.output / name_of(epoch) for epoch in range(arguments.epochs)]
    animate(arguments.output / "gan.gif", frames)
    interpolate(arguments.output / "interpolation.png", generator, rng)
    draw(arguments.output / "curves.png", history, judge.floor)
    print(f"samples of each epoch, gan.gif, interpolation.png, curves.png: {arguments.output}")


def load() -> tuple[Array, Array]:
    """All images (n, 1, 8, 8), from -1 to 1, and their classes."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images[:, None] / 8 - 1).astype(np.float32), data.target


def generator_of(rng: Any) -> nn.Sequential:
    """(n, LATENT, 1, 1) to (n, 1, 8, 8)."""
    return nn.Sequential(
        *(nn.ConvTranspose2d(LATENT, 64, 4, bias=False, rng=rng), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1, bias=False, rng=rng), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 1, 3, padding=1, rng=rng), nn.Tanh()),
    )


def discriminator_of(rng: Any) -> nn.Sequential:
    """(n, 1, 8, 8) to scores (n, 1): positive for real images."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 4, stride=2, padding=1, rng=rng), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(32, 64, 4, stride=2, padding=1, bias=False, rng=rng), nn.BatchNorm2d(64), nn.LeakyReLU(0.2)),
        *(nn.Flatten(), nn.Linear(256, 1, rng=rng)),
    )


def noise(count: int, rng: Any) -> Array:
    return rng.standard_normal((count, LATENT, 1, 1), np.float32)


class Game:
    """Both networks and a step of both."""

    def __init__(self, rng: Any, lr: float, batch_size: int) -> None:
        self.generator, self.discriminator = generator_of(rng), discriminator_of(rng)
        self.optimizers = [
            optim.Adam(net.parameters(), lr=lr, betas=BETAS) for net in (self.discriminator, self.generator)
        ]
        self.loss = nn.BCEWithLogitsLoss()
        self.targets = [np.full((batch_size, 1), value, np.float32) for value in (REAL, 0, 1)]

    def step(self, real: Array, first: Array, second: Array) -> tuple[Array, Array]:
        """The losses of discriminator and generator; each has noise of its own."""
        is_real, is_drawn, passes = self.targets
        net, loss = self.discriminator, self.loss
        of_real = loss(net(real), is_real)
        of_drawn = loss(net(self.generator(first)), is_drawn)
        for _ in range(2):  # of drawn images, and then of real ones: gradients add up
            net.backward(loss.backward(), input_grad=False)
        self.optimizers[0].step(net.grads)
        of_generator = loss(net(self.generator(second)), passes)  # which does not saturate where it is far behind
        self.generator.backward(net.backward(loss.backward()), input_grad=False)
        self.optimizers[1].step(self.generator.grads)
        return fastdl.add(of_real, of_drawn), of_generator


def train(images: Array, judge: Judge, arguments: argparse.Namespace, rng: Any) -> tuple[nn.Sequential, History]:
    """The generator; after each epoch a sheet of samples, of the same noise."""
    from fastdl.training.progress import bar

    size = arguments.batch_size
    game = Game(rng, arguments.lr, size)
    program = fastdl.record(game.step, images[:size], noise(size, rng), noise(size, rng))
    shown, judged = noise(SHEET[0] * SHEET[1], rng), noise(SAMPLES, rng)
    schedules = [optim.lr_scheduler.PolynomialLR(optimizer, arguments.epochs) for optimizer in game.optimizers]
    history = History([], [], [])
    with bar(True, arguments.epochs) as show:
        for epoch in range(arguments.epochs):
            given = images, noise(len(images), rng), noise(len(images), rng)
            losses = program.run_epochs(*given, rng=rng)
            for schedule in schedules:
                schedule.step()
            history.discriminator.append(float(losses[0].mean()))
            history.generator.append(float(losses[1].mean()))
            history.distance.append(judge.distance(sampled(game.generator, judged)))
            text = f"epoch {epoch + 1}, Frechet distance {history.distance[-1]:.1f}"
            sheet(sampled(game.generator, shown), text).save(arguments.output / name_of(epoch))
            show(epoch + 1, text.partition(", ")[2])
    return game.generator, history


def sampled(generator: nn.Sequential, latent: Array) -> Array:
    """Images, as in inference."""
    try:
        with nn.no_grad():
            return generator.eval()(latent)
    finally:
        generator.train()


class Judge:
    """A classifier of real digits, and what it makes of them."""

    def __init__(self, images: Array, labels: Array, rng: Any) -> None:
        self.classifier = digits.network(nn, rng=rng)
        held = np.arange(len(images)) % 5 == 0
        optimizer = optim.Adam(self.classifier.parameters(), lr=2e-3)
        history = training.fit(
            *(self.classifier, (images[~held], labels[~held]), nn.CrossEntropyLoss(), optimizer, 12),
            validation=(images[held], labels[held]),
            metrics=training.accuracy,
            schedule=optim.lr_scheduler.CosineAnnealingLR(optimizer, 12),
            rng=rng,
        )
        self.accuracy = float(history["val_accuracy"][-1])
        self.moments = self._moments(images)
        mixed = rng.permutation(len(images))
        halves = (self._moments(images[half]) for half in np.array_split(mixed, 2))
        self.floor = frechet(*next(halves), *next(halves))

    def _moments(self, images: Array) -> tuple[Array, Array]:
        """The mean and covariance of the features: what goes into the last layer."""
        self.classifier.eval()
        with nn.no_grad():
            features = self.classifier[:-1](images).astype(np.float64)
        return features.mean(0), np.cov(features, rowvar=False)

    def distance(self, images: Array) -> float:
        """Of drawn images to real ones."""
        return frechet(*self.moments, *self._moments(images))


def frechet(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> float:
    """The squared distance of Frechet (and of Wasserstein) between two normal distributions::

        |m1 - m2|^2 + trace(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2))

    The roots are those of eigenvalues: all three matrices are symmetric, and none of these is negative but by rounding.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ other_covariance @ root)
    shift = float(((mean - other_mean) ** 2).sum())
    return shift + float(np.trace(covariance) + np.trace(other_covariance) - 2 * np.sqrt(np.maximum(mixed, 0)).sum())


def name_of(epoch: int) -> str:
    return f"epoch-{epoch + 1:03}.png"


def sheet(images: Array, text: str = "", columns: int = SHEET[1], zoom: int = 6) -> Any:
    """Images side by side, dark on light, with a line of text above."""
    from PIL import Image, ImageDraw

    tiles = np.pad((images[:, 0] + 1) / 2, ((0, 0), (1, 1), (1, 1)))
    _, height, width = tiles.shape
    grid = tiles.reshape(-1, columns, height, width).transpose(0, 2, 1, 3).reshape(-1, columns * width)
    pixels = 255 - np.uint8(255 * np.clip(grid, 0, 1)).repeat(zoom, 0).repeat(zoom, 1)
    above = 20 if text else 0
    picture = Image.new("L", (pixels.shape[1], pixels.shape[0] + above), 255)
    picture.paste(Image.fromarray(pixels), (0, above))
    if text:
        ImageDraw.Draw(picture).text((8, 4), text, fill=0)
    return picture


def animate(path: Path, frames: list[Path]) -> None:
    """One picture after the other, smaller and in few shades of gray, the last one longer."""
    from PIL import Image

    pictures = [Image.open(frame).reduce(2).quantize(16) for frame in frames]
    durations = [120] * (len(pictures) - 1) + [2000]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)


def interpolate(path: Path, generator: nn.Sequential, rng: Any, rows: int = 8, steps: int = 12) -> None:
    """Ways through the space of noise from one image to another, as a PNG: on spheres, near which noise lies."""
    begin, end = (noise(rows, rng)[:, None] for _ in range(2))
    lengths = [np.linalg.norm(a, axis=2, keepdims=True) for a in (begin, end)]
    cosine = (begin * end).sum(2, keepdims=True) / (lengths[0] * lengths[1])
    angle = np.arccos(np.clip(cosine, -1, 1))
    part = np.linspace(0, 1, steps, dtype=np.float32)[None, :, None, None, None]
    way = (np.sin((1 - part) * angle) * begin + np.sin(part * angle) * end) / np.sin(angle)
    latent = way.reshape(rows * steps, LATENT, 1, 1).astype(np.float32)
    sheet(sampled(generator, latent), columns=steps).save(path)


def draw(path: Path, history: History, floor: float) -> None:
    """Losses and distances over epochs, as a PNG."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(11, 4.5), layout="constrained")
    losses, distances = figure.subplots(1, 2)
    epochs = range(1, len(history.distance) + 1)
    losses.plot(epochs, history.discriminator, label="discriminator")
    losses.plot(epochs, history.generator, label="generator")
    losses.set(title="Losses", xlabel="epoch", ylabel="binary cross entropy")
    distances.plot(epochs, history.distance, label="drawn to real digits")
    distances.axhline(floor, color="gray", linestyle=":", label="real to real digits")
    distances.set(title="Frechet distance of a classifier's features", xlabel="epoch", yscale="log")
    for axes in (losses, distances):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, format="png", dpi=120)


if __name__ == "__main__":
    from fastdl.__main__ import main

    main(["train", "gan", *sys.argv[1:]])
