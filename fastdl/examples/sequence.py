"""Recurrent networks that write Python's documentation, character by character: LSTM and GRU, and a plain RNN beside.

The text is pydoc_data.topics, what help("topics") shows. Each network is trained on stretches of it by truncated
backpropagation through time, the states carried from one stretch to the next, and measured by its perplexity per
character on text held out: as if every character had been a choice among that many equally likely ones.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import numpy as np

import fastdl
from fastdl import nn, optim
from fastdl.examples import at_least_one, at_least_zero, rates, requires

Array = Any
Batch = tuple[Array, Array]
NETWORKS = ("LSTM", "GRU", "RNN")
MAX_NORM = 1.0
LOOK_BACK = 100
"""Steps over which the gradients of a last one are followed."""
PROMPT = "The "
"""What networks go on from when they write: the text begins so as well."""


class Text(NamedTuple):
    """Characters as their positions in the alphabet."""

    alphabet: str
    train: Array
    test: Array


class Model(nn.Module):
    """A recurrent layer and the scores of the next character: what torch's users write too."""

    def __init__(self, kind: str, characters: int, hidden: int, rng: Any = None) -> None:
        self.recurrent = getattr(nn, kind)(characters, hidden, rng=rng)
        self.head = nn.Linear(hidden, characters, rng=rng)

    def forward(self, x: Array, state: Any = None) -> tuple[Array, Any]:
        output, state = self.recurrent(x, state)
        return self.head(output), state

    def backward(self, grad_output: Array, input_grad: bool = True) -> Array:
        return self.recurrent.backward(self.head.backward(grad_output), input_grad=input_grad)


class History(NamedTuple):
    """Perplexities, one value an epoch, and the characters trained on in a second."""

    train: list[float]
    test: list[float]
    rate: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=at_least_one, default=6, metavar="N", help="default: %(default)s")
    parser.add_argument("--hidden", type=at_least_one, default=128, metavar="N", help="units (%(default)s)")
    parser.add_argument(
        "--batch-size", type=at_least_one, default=16, metavar="N", help="texts read side by side (%(default)s)"
    )
    parser.add_argument(
        "--steps", type=at_least_one, default=32, metavar="N", help="characters that gradients go back (%(default)s)"
    )
    parser.add_argument("--lr", type=float, default=1e-2, metavar="LR", help="first learning rate (%(default)s)")
    parser.add_argument(
        "--seed", type=at_least_zero, default=0, metavar="N", help="of weights and samples (%(default)s)"
    )
    parser.add_argument(
        "--characters", type=at_least_one, metavar="N", help="of the text; default: all of it, some 310,000"
    )
    parser.add_argument("--output", type=Path, default=Path("sequence.png"), metavar="PNG", help="default: %(default)s")
    parser.add_argument("--threads", type=at_least_one, metavar="N", help="default: as fastdl info shows")
    parser.add_argument("--compare", action="store_true", help="also time PyTorch, where it is installed")


def run(arguments: argparse.Namespace) -> None:
    """Train, report, write and draw."""
    with requires("examples"):  # now, rather than after the training
        for module in ("matplotlib.figure", "rich.progress", "threadpoolctl"):
            import_module(module)
    if not arguments.output.absolute().parent.is_dir():
        raise FileNotFoundError(f"--output: found {arguments.output}, expected a file in a folder that exists")
    if arguments.threads:
        fastdl.set_num_threads(arguments.threads)
    text = load(arguments.characters)
    if len(text.test) <= arguments.batch_size * LOOK_BACK:
        raise ValueError(f"--characters: found a text of {len(text.train) + len(text.test)}, too short for this batch")
    baselines = ngrams(text)
    sizes = len(text.train), len(text.test), len(text.alphabet)
    print("text: {:,} characters to train on, {:,} held out, {} different ones".format(*sizes))

    models = {kind: Model(kind, len(text.alphabet), arguments.hidden, arguments.seed) for kind in NETWORKS}
    histories = train(models, text, arguments.epochs, arguments.batch_size, arguments.steps, arguments.lr)
    print("perplexity per character on held-out text (lower is better):")
    for name, value in baselines.items():
        print(f"  {name:8} {value:6.2f}   counted")
    for name, history in histories.items():
        first = f"{history.test[0]:.2f} after the first epoch"
        print(f"  {name:8} {history.test[-1]:6.2f}   {first}; trained on {history.rate:,.0f} characters/s")
    print(speeds(text, arguments))

    norms = {kind: vanishing(model, text, arguments.batch_size) for kind, model in models.items()}
    shares = ", ".join(f"{kind} {values[0] / values[-1]:.0e}" for kind, values in norms.items())
    print(f"of the gradient in the last state, there is left {LOOK_BACK - 1} steps before: {shares}")
    for kind in NETWORKS[:2]:
        print(f"\n{kind} writes:\n{write(models[kind], text, 400, np.random.default_rng(arguments.seed))}")
    draw(arguments.output, baselines, histories, norms)
    print(f"\nperplexities and gradients over time: {arguments.output}")


def load(characters: int | None = None, test_fraction: float = 0.1) -> Text:
    """The text, its end held out. Topics quote one another: a paragraph that was there before is left out, so that
    nothing held out was trained on. So are those with a "|" or many spaces: tables, grammars, code indented deep."""
    from pydoc_data.topics import topics

    paragraphs: dict[str, None] = {}
    for _, topic in sorted(topics.items()):
        found = map(dedent, topic.strip("\n").split("\n\n"))
        paragraphs.update(dict.fromkeys(p for p in found if "|" not in p and " " * 8 not in p))
    text = "\n\n".join(paragraphs)[:characters].encode("ascii", "replace").decode()
    alphabet = "".join(sorted(set(text)))
    codes = np.array([alphabet.index(character) for character in text])
    split = round(len(codes) * (1 - test_fraction))
    return Text(alphabet, codes[:split], codes[split:])


def ngrams(text: Text) -> dict[str, float]:
    """The held-out perplexities of guessing by counts: of characters, and of pairs, smoothed by those of characters."""
    size, smoothing = len(text.alphabet), 5.0
    single = np.bincount(text.train, minlength=size) + 1.0
    single /= single.sum()
    pairs = np.bincount(text.train[:-1] * size + text.train[1:], minlength=size * size).reshape(size, size)
    double = (pairs + smoothing * single) / (pairs.sum(1, keepdims=True) + smoothing)
    before, now = text.test[:-1], text.test[1:]
    chances = {"unigrams": single[now], "bigrams": double[before, now]}
    return {name: float(np.exp(-np.log(p).mean())) for name, p in chances.items()}


def train(
    models: dict[str, Model], text: Text, epochs: int, batch_size: int, steps: int, lr: float
) -> dict[str, History]:
    """Adam with clipped gradients, the learning rate falling linearly to zero; one network after another."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    loss = nn.CrossEntropyLoss()
    histories = {}
    columns = (
        TextColumn("{task.description:4} epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        for name, model in models.items():
            task = progress.add_task(name, total=epochs, state="")
            optimizer = optim.Adam(model.parameters(), lr=lr)
            step = fastdl.recorded(partial(train_step, model, loss, optimizer))
            history = histories[name] = History([], [], 0.0)
            seconds, count = 0.0, 0
            for epoch in range(epochs):
                total, seen, state = 0.0, 0, None
                start = time.perf_counter()
                for done, batch in _stretches(text.train, batch_size, steps, len(text.alphabet)):
                    optimizer.lr = lr * (1 - (epoch + done) / epochs)
                    value, state = step(batch, state)
                    total, seen = total + value * batch[1].size, seen + batch[1].size
                seconds, count = seconds + time.perf_counter() - start, count + seen
                history.train.append(float(np.exp(total / seen)))
                history.test.append(perplexity(model, text, batch_size))
                report = f"perplexity {history.train[-1]:.2f}, held out {history.test[-1]:.2f}"
                progress.update(task, advance=1, state=report)
            histories[name] = history._replace(rate=count / seconds)
    return histories


def train_step(model: Model, loss: Any, optimizer: Any, batch: Batch, state: Any) -> tuple[float, Any]:
    """The loss, and the states to go on from. No gradient goes into the stretch before."""
    x, target = batch
    scores, state = model(x, state)
    value = float(loss(scores.reshape(target.size, -1), target.ravel()))
    model.backward(loss.backward().reshape(scores.shape), input_grad=False)
    optimizer.step(model.grads, max_norm=MAX_NORM)
    return value, state


def perplexity(model: Model, text: Text, batch_size: int) -> float:
    """Of each character held out, given those before it."""
    loss, total, count, state = nn.CrossEntropyLoss(reduction="sum"), 0.0, 0, None
    model.eval()
    for _, (x, target) in _stretches(text.test, batch_size, 256, len(text.alphabet)):
        scores, state = model(x, state)
        total += float(loss(scores.reshape(target.size, -1), target.ravel()))
        count += target.size
    model.train()
    return float(np.exp(total / count))


def vanishing(model: Model, text: Text, batch_size: int) -> Array:
    """The norms of the gradients in the states of each step, of a loss that only sees the last one."""
    _, (x, target) = next(_stretches(text.test, batch_size, LOOK_BACK, len(text.alphabet)))
    loss = nn.CrossEntropyLoss()
    scores, _ = model(x)
    loss(scores[-1], target[-1])
    grad = np.zeros_like(scores)
    grad[-1] = loss.backward()
    return nn.gradient_norms(model.recurrent, model.head.backward(grad))[0]


def write(model: Model, text: Text, count: int, rng: Any, temperature: float = 0.6) -> str:
    """The prompt and that many characters, each drawn from the scores after the one before, by a cell that is bound for
    streaming."""
    layer, size = model.recurrent, len(text.alphabet)
    cell = getattr(nn, type(layer).__name__ + "Cell")(size, layer.hidden_size)
    cell.load_state_dict({name.removesuffix("_l0"): array for name, array in layer.state_dict().items()})
    stream, ones = cell.bind(), np.eye(size, dtype=np.float32)
    written = PROMPT
    for character in PROMPT:
        h = stream(ones[text.alphabet.index(character)])
    for _ in range(count):
        scores = model.head(h)[0].astype(np.float64) / temperature
        written += text.alphabet[(scores + rng.gumbel(size=size)).argmax()]  # a draw from softmax(scores)
        h = stream(ones[text.alphabet.index(written[-1])])
    return written


def speeds(text: Text, arguments: argparse.Namespace) -> str:
    """Characters a second of the same training steps of an LSTM on fastdl, recorded and not, on its NumPy reference
    and, if asked, on PyTorch."""
    from fastdl import reference

    size, hidden, lr, seed = len(text.alphabet), arguments.hidden, arguments.lr, arguments.seed
    modules = {"plain": fastdl, "NumPy": reference}
    steps = {"fastdl": _recorded_step(size, hidden, lr, seed)}
    steps |= {name: _fastdl_step(module, size, hidden, lr, seed) for name, module in modules.items()}
    has_torch = find_spec("torch") is not None
    if arguments.compare and has_torch:
        steps["PyTorch"] = _torch_step(size, hidden, lr, seed)
    stretches = _stretches(text.train, arguments.batch_size, arguments.steps, size)
    batches = [batch for (_, batch), _ in zip(stretches, range(8), strict=False)]
    threads = fastdl.get_num_threads()
    found = rates(steps, batches, threads)
    own, plain = found.pop("fastdl"), found.pop("plain")
    others = "".join(f" | {name} {rate:,.0f}, fastdl is {own / rate:.1f}x" for name, rate in found.items())
    if arguments.compare and not has_torch:
        others += " | PyTorch is not installed"
    gain = f" | not recorded {plain:,.0f}: a program is {own / plain:.2f}x"
    return f"training the LSTM, characters/s (threads: {threads}): fastdl {own:,.0f}{others}{gain}"


def draw(path: Path, baselines: dict[str, float], histories: dict[str, History], norms: dict[str, Array]) -> None:
    """Perplexity over epochs, and the norms of gradients over time, as a PNG."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(13, 5), layout="constrained")
    curve, gradients = figure.subplots(1, 2)
    for i, (name, history) in enumerate(histories.items()):
        epochs = range(1, len(history.test) + 1)
        curve.plot(epochs, history.test, marker="o", markersize=4, color=f"C{i}", label=f"{name}, held out")
        curve.plot(epochs, history.train, linestyle=":", color=f"C{i}", label=f"{name}, while training")
    for name, value in baselines.items():
        curve.axhline(value, color="gray", linewidth=1, linestyle="--")
        curve.annotate(name, (1, value), textcoords="offset points", xytext=(2, 3), color="gray")
    curve.set(title="Perplexity", xlabel="epoch", ylabel="equally likely characters")
    curve.set_yscale("log")
    curve.yaxis.set_major_formatter("{x:g}")
    curve.yaxis.set_minor_formatter("{x:g}")
    curve.xaxis.get_major_locator().set_params(integer=True)
    curve.grid(alpha=0.3, which="both")
    curve.legend(frameon=False)

    for i, (name, values) in enumerate(norms.items()):
        gradients.plot(np.arange(1 - len(values), 1), values / values[-1], color=f"C{i}", label=name)
    gradients.set(
        title="The vanishing gradient: how a loss at the last step reaches back",
        xlabel="step, the last one is 0",
        ylabel="norm of the gradient in the hidden state, the last one's is 1",
    )
    gradients.set_yscale("log")
    gradients.grid(alpha=0.3)
    gradients.legend(frameon=False)
    figure.savefig(path, format="png", dpi=120)


def _stretches(text: Array, batch_size: int, steps: int, characters: int) -> Iterator[tuple[float, Batch]]:
    """The text as `batch_size` columns read side by side, stretch by stretch: what part came before, the characters,
    each a row with one 1 (steps, batch, characters), and those that follow (steps, batch)."""
    length = (len(text) - 1) // batch_size
    before = text[: length * batch_size].reshape(batch_size, length).T
    after = text[1 : length * batch_size + 1].reshape(batch_size, length).T
    ones = np.eye(characters, dtype=np.float32)
    for start in range(0, length, steps):
        yield start / length, (ones[before[start : start + steps]], after[start : start + steps])


def _step(characters: int, hidden: int, lr: float, seed: int) -> Callable[..., tuple[float, Any]]:
    model, loss = Model("LSTM", characters, hidden, seed), nn.CrossEntropyLoss()
    return partial(train_step, model, loss, optim.Adam(model.parameters(), lr=lr))


def _recorded_step(characters: int, hidden: int, lr: float, seed: int) -> Callable[[Batch], float]:
    recorded = fastdl.recorded(_step(characters, hidden, lr, seed))
    return lambda batch: recorded(batch, None)[0]


def _fastdl_step(functions: Any, characters: int, hidden: int, lr: float, seed: int) -> Callable[[Batch], float]:
    plain = _step(characters, hidden, lr, seed)

    def step(batch: Batch) -> float:
        with nn.backend(functions):
            return plain(batch, None)[0]

    return step


def _torch_step(characters: int, hidden: int, lr: float, seed: int) -> Callable[[Batch], float]:
    import torch

    layer, head = torch.nn.LSTM(characters, hidden), torch.nn.Linear(hidden, characters)
    loss = torch.nn.CrossEntropyLoss()
    modules = torch.nn.ModuleDict({"recurrent": layer, "head": head})
    state = Model("LSTM", characters, hidden, seed).state_dict()
    modules.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})
    optimizer = torch.optim.Adam(modules.parameters(), lr=lr)
    torch.set_num_threads(fastdl.get_num_threads())

    def step(batch: Batch) -> float:
        x, target = map(torch.from_numpy, batch)
        optimizer.zero_grad()
        value = loss(head(layer(x)[0]).flatten(0, 1), target.flatten())
        value.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), MAX_NORM)
        optimizer.step()
        return float(value)

    return step


if __name__ == "__main__":
    from fastdl.__main__ import main

    main(["train", "sequence", *sys.argv[1:]])
