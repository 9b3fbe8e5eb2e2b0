"""Whole networks: plain fastdl, recorded programs, and what users would pick instead, from the same weights.

    python -m bench.programs [NETWORK ...] [--rounds 9] [--against torch compile jax] [--json FILE]

For each network its training step, and for some one call of inference, is made by

    plain      fastdl.nn, as written
    program    fastdl.record of that, called from Python
    njit       the same program in a loop inside compiled code
    epoch      the same program over mini-batches, Program.run_epochs
    torch      eager
    compile    torch.compile of the network and the loss, which needs a C++ compiler and seconds to minutes
    jax        jit; "jax loop" is fori_loop over the same step

    numpy      fastdl.nn on the functions of fastdl.reference, which are plain NumPy

and the losses of the first 100 steps are compared with plain fastdl's before anything is timed. After that the learning
rate is all but 0: what trains on one batch for minutes ends with gradients that are subnormal numbers, which are slow.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import fastdl
from bench.timing import interleave, median_ratio, offer_cpu_time
from fastdl import nn, optim, reference
from fastdl._backend import backend

STEPS = 100
"""Compared."""
FEW = 10
"""Of those, where a step takes long."""
LOOP = 64
"""Steps of one call where a loop is compiled."""


def mlp(library: Any, *sizes: int, **options: Any) -> list[Any]:
    layers: list[Any] = []
    for one, other in pairwise(sizes):
        layers += [library.Linear(one, other, **options), library.ReLU()]
    return layers[:-1]


def lenet(library: Any, **options: Any) -> list[Any]:
    return [
        *(library.Conv2d(1, 6, 5, padding=2, **options), library.ReLU(), library.MaxPool2d(2)),
        *(library.Conv2d(6, 16, 5, **options), library.ReLU(), library.MaxPool2d(2), library.Flatten()),
        *mlp(library, 400, 120, 84, 10, **options),
    ]


def digits(library: Any, **options: Any) -> list[Any]:
    return [
        *(library.Conv2d(1, 16, 5, padding=2, **options), library.ReLU()),
        *(library.Conv2d(16, 32, 3, padding=1, **options), library.ReLU(), library.MaxPool2d(2), library.Flatten()),
        *mlp(library, 512, 128, 10, **options),
    ]


def vgg(library: Any, **options: Any) -> list[Any]:
    layers: list[Any] = []
    channels = 3
    for width in (32, 64, 128):
        for _ in range(2):
            convolution = library.Conv2d(channels, width, 3, padding=1, bias=False, **options)
            layers += [convolution, library.BatchNorm2d(width), library.ReLU()]
            channels = width
        layers += [library.MaxPool2d(2)]
    return [*layers, library.Flatten(), library.Linear(2048, 10, **options)]


def sequence(library: Any, **options: Any) -> list[Any]:
    last = nn.LastState() if library is nn else _torch_last()
    return [library.LSTM(32, 128, **options), last, library.Linear(128, 10, **options)]


def _torch_last() -> Any:
    import torch

    class Last(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x[1][0][-1]

    return Last()


NETWORKS: dict[str, tuple[Callable[..., list[Any]], tuple[int, ...], int, int]] = {
    "mlp 4-64-64-2": (lambda library, **o: mlp(library, 4, 64, 64, 2, **o), (32, 4), 0, 2),
    "mlp 784-256-10": (lambda library, **o: mlp(library, 784, 256, 10, **o), (128, 784), 0, 10),
    "lenet": (lenet, (64, 1, 28, 28), 0, 10),
    "digits": (digits, (64, 1, 8, 8), 0, 10),
    "vgg": (vgg, (32, 3, 32, 32), 0, 10),
    "lstm": (sequence, (50, 32, 32), 1, 10),
}
"""What makes the layers, the shape of a batch, which of its dimensions is the batch, and the classes."""


GAN = "gan"
"""A generator of 2 numbers from 16 and a discriminator, each with two hidden layers of 64, and an optimizer each."""
EVERY = (*NETWORKS, GAN)


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    if name == GAN:
        return rng.standard_normal((64, 2), np.float32) + 1, rng.standard_normal((64, 16), np.float32)
    _, shape, dim, classes = NETWORKS[name]
    return rng.standard_normal(shape, np.float32), rng.integers(0, classes, shape[dim])


STILL = 1e-9
"""The learning rate while time is taken."""


def plain_step(name: str) -> tuple[nn.Module, Callable[..., Any], Callable[[], Any]]:
    """A network, its training step, and what stops it."""
    if name == GAN:
        return plain_gan()
    net, loss = nn.Sequential(*NETWORKS[name][0](nn, rng=np.random.default_rng(1))), nn.CrossEntropyLoss()
    optimizer = optim.Adam(net.parameters(), lr=1e-3)

    def step(x: Any, target: Any) -> Any:
        value = loss(net(x), target)
        net.backward(loss.backward(), input_grad=False)
        optimizer.step(net.grads)
        return value

    return net, step, lambda: setattr(optimizer, "lr", STILL)


def plain_gan() -> tuple[nn.Module, Callable[..., Any], Callable[[], Any]]:
    rng = np.random.default_rng(1)
    generator = nn.Sequential(*mlp(nn, 16, 64, 64, 2, rng=rng))
    discriminator = nn.Sequential(*mlp(nn, 2, 64, 64, 1, rng=rng))
    loss = nn.BCEWithLogitsLoss()
    optimizers = [optim.Adam(net.parameters(), lr=1e-3) for net in (generator, discriminator)]
    rows = len(data(GAN)[0])
    yes, both = np.ones((rows, 1), np.float32), np.repeat(np.float32([[1], [0]]), rows, 0)

    def step(real: Any, noise: Any) -> Any:
        first = loss(discriminator(fastdl.cat([real, generator(noise)])), both)
        discriminator.backward(loss.backward(), input_grad=False)
        optimizers[1].step(discriminator.grads)
        second = loss(discriminator(generator(noise)), yes)
        generator.backward(discriminator.backward(loss.backward()), input_grad=False)
        optimizers[0].step(generator.grads)
        return fastdl.add(first, second)

    def stop() -> None:
        for optimizer in optimizers:
            optimizer.lr = STILL

    return nn.ModuleList([generator, discriminator]), step, stop


def torch_gan() -> tuple[Any, Callable[[], Any], Callable[[], Any]]:
    import torch

    nets = torch.nn.ModuleList(
        torch.nn.Sequential(*mlp(torch.nn, *sizes, 64, 64, out)) for sizes, out in (((16,), 2), ((2,), 1))
    )
    nets.load_state_dict({k: torch.from_numpy(v) for k, v in plain_gan()[0].state_dict().items()})
    generator, discriminator = nets
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-3) for net in nets]
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    real, noise = map(torch.from_numpy, data(GAN))
    yes, both = torch.ones(len(real), 1), torch.cat([torch.ones(len(real), 1), torch.zeros(len(real), 1)])

    def step() -> Any:
        optimizers[1].zero_grad()
        first = loss(discriminator(torch.cat([real, generator(noise).detach()])), both)
        first.backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        second = loss(discriminator(generator(noise)), yes)
        second.backward(inputs=list(generator.parameters()))
        optimizers[0].step()
        return (first + second).detach()

    def stop() -> None:
        for optimizer in optimizers:
            optimizer.param_groups[0].update(lr=STILL)

    return nets, step, stop


def torch_step(name: str, compiled: bool = False) -> tuple[Any, Callable[[], Any], Callable[[], Any]]:
    import torch

    torch.set_num_threads(fastdl.get_num_threads())
    torch.set_grad_enabled(True)
    if name == GAN:
        return torch_gan()
    net = torch.nn.Sequential(*NETWORKS[name][0](torch.nn))
    net.load_state_dict({k: torch.from_numpy(v) for k, v in plain_step(name)[0].state_dict().items()})
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, target = map(torch.from_numpy, data(name))

    def loss(x: Any, target: Any) -> Any:
        return torch.nn.functional.cross_entropy(net(x), target)

    loss = torch.compile(loss) if compiled else loss

    def step() -> Any:
        optimizer.zero_grad()
        value = loss(x, target)
        value.backward()
        optimizer.step()
        return value.detach()

    return net, step, lambda: optimizer.param_groups[0].update(lr=STILL)


class Step(NamedTuple):
    """A contender: what makes training steps, and what makes their learning rate all but 0."""

    call: Callable[[], Any]
    stop: Callable[[], Any]
    steps: int = 1
    """Of one call. Where there are several, the rate is all but 0 from the beginning."""


def by_plain(name: str) -> Step:
    x, target = data(name)
    _, step, stop = plain_step(name)
    return Step(lambda: step(x, target), stop)


def by_numpy(name: str) -> Step:
    call, stop, _ = by_plain(name)

    def step() -> Any:
        with backend(reference):
            return call()

    return Step(step, stop)


def recorded(name: str) -> tuple[Any, Callable[[], Any]]:
    _, step, stop = plain_step(name)
    return fastdl.record(step, *data(name)), stop


def by_program(name: str) -> Step:
    x, target = data(name)
    program, stop = recorded(name)
    return Step(lambda: program(x, target), stop)


def by_epoch(name: str) -> Step | None:
    """Where the batch is the first dimension: rows are gathered by index."""
    if name != GAN and NETWORKS[name][2]:
        return None
    x, target = data(name)
    program, stop = recorded(name)
    stop()
    order = np.broadcast_to(np.arange(len(x)), (LOOP, len(x))) + len(x) * (np.arange(LOOP) % 4)[:, np.newaxis]
    wide, targets = np.concatenate([x] * 4), np.concatenate([target] * 4)
    order = np.random.default_rng(0).permuted(order, axis=1)
    return Step(lambda: program.run_epochs(wide, targets, order=order), stop, LOOP)


def by_njit(name: str) -> Step | None:
    try:
        import numba
    except ImportError:
        return None
    x, target = data(name)
    program, stop = recorded(name)
    stop()

    @numba.njit
    def loop(program, x, target):  # type: ignore[no-untyped-def]
        value = program(x, target)
        for _ in range(LOOP - 1):
            value = program(x, target)
        return value

    return Step(lambda: loop(program, x, target), stop, LOOP)


def by_torch(name: str) -> Step:
    return Step(*torch_step(name)[1:])


def by_compile(name: str) -> Step | None:
    return None if name == GAN else Step(*torch_step(name, compiled=True)[1:])


def by_jax(name: str, looped: bool = False) -> Step | None:
    """Of networks of linear layers; Adam as written in its paper."""
    if not name.startswith("mlp"):
        return None
    import jax
    import jax.numpy as jnp

    state = plain_step(name)[0].state_dict()
    start = [jnp.asarray(v) for v in state.values()]
    x, target = map(jnp.asarray, data(name))

    def loss(parameters: Any, x: Any, target: Any) -> Any:
        pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
        for i, (weight, bias) in enumerate(pairs):
            x = x @ weight.T + bias
            x = jax.nn.relu(x) if i + 1 < len(pairs) else x
        return -jnp.take_along_axis(jax.nn.log_softmax(x), target[:, None], 1).mean()

    def step(carry: Any, x: Any, target: Any) -> Any:
        parameters, means, squares, t, lr = carry
        value, grads = jax.value_and_grad(loss)(parameters, x, target)
        t = t + 1
        means = [0.9 * m + 0.1 * g for m, g in zip(means, grads, strict=True)]
        squares = [0.999 * s + 0.001 * g * g for s, g in zip(squares, grads, strict=True)]
        rate, correction = lr / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.999**t)
        parameters = [
            p - rate * m / (jnp.sqrt(s) * correction + 1e-8) for p, m, s in zip(parameters, means, squares, strict=True)
        ]
        return (parameters, means, squares, t, lr), value

    def many(carry: Any, x: Any, target: Any) -> Any:
        first = step(carry, x, target)
        return jax.lax.fori_loop(0, LOOP - 1, lambda _, both: step(both[0], x, target), first)

    zeros = [jnp.zeros_like(p) for p in start]
    carry = (start, zeros, zeros, jnp.float32(0), jnp.float32(STILL if looped else 1e-3))
    jitted = jax.jit(many if looped else step)

    def call() -> Any:
        nonlocal carry
        carry, value = jitted(carry, x, target)
        return value.block_until_ready()

    def stop() -> None:
        nonlocal carry
        carry = (*carry[:4], jnp.float32(STILL))

    return Step(call, stop, LOOP if looped else 1)


CONTENDERS: dict[str, Callable[[str], Step | None]] = {
    "plain": by_plain,
    "program": by_program,
    "numpy": by_numpy,
    "torch": by_torch,
    "compile": by_compile,
    "jax": by_jax,
    "jax loop": functools.partial(by_jax, looped=True),
    "epoch": by_epoch,
    "njit": by_njit,
}
"""None where there is no such thing for that network."""


def losses_of(step: Step, steps: int = STEPS) -> list[float]:
    """Of the first steps, after which the rate is all but 0; of one that makes many a call, of the first of those."""
    losses = [float(np.ravel(step.call())[-1]) for _ in range(steps if step.steps == 1 else 1)]
    step.stop()
    return losses


def compare(who: str, name: str, losses: Sequence[float], expected: Sequence[float]) -> None:
    """Rounding grows along a training; the first steps say that it is the same step."""
    first = expected[: min(FEW, len(losses))]
    np.testing.assert_allclose(losses[:FEW], first, rtol=2e-3, atol=1e-3, err_msg=f"{name}: {who}")
    if len(losses) == len(expected):
        np.testing.assert_allclose(losses[-1], expected[-1], rtol=0.1, atol=0.02, err_msg=f"{name}: {who}")


def contenders(name: str, against: Sequence[str]) -> tuple[dict[str, Callable[[], Any]], dict[str, int]]:
    """What takes part, all of which have been seen to compute the same; and how many steps a call of each is."""
    names = {"plain", "program", "epoch", "njit", *against} | ({"jax loop"} if "jax" in against else set())
    made = {who: make(name) for who, make in CONTENDERS.items() if who in names}
    steps = {who: step for who, step in made.items() if step is not None}
    losses = {who: losses_of(step, FEW if who == "numpy" else STEPS) for who, step in steps.items()}
    for who in steps:
        compare(who, name, losses[who], losses["plain"])
    return {who: step.call for who, step in steps.items()}, {who: step.steps for who, step in steps.items()}


def answer_of(who: str, name: str) -> Callable[[], Any]:
    """One sample, one call: what that contender answers."""
    net, x = plain_step(name)[0], data(name)[0][:1]
    if who == "program":
        program = net.bind(x)
        return lambda: program(x)
    if who == "plain":
        net.eval()
        return lambda: net(x)
    if who == "numpy":
        net.eval()

        def by_reference() -> Any:
            with backend(reference):
                return net(x)

        return by_reference
    import torch

    other, sample = torch_step(name)[0].eval(), torch.from_numpy(x)
    other = torch.compile(other) if who == "compile" else other

    def call() -> Any:
        with torch.inference_mode():
            return other(sample)

    return call


def inference(name: str, against: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """One sample, one call."""
    names = ("plain", "program", *(who for who in ("torch", "compile", "numpy") if who in against))
    calls = {who: answer_of(who, name) for who in names}
    for call in calls.values():
        np.testing.assert_allclose(np.asarray(call()), calls["program"](), rtol=1e-4, atol=1e-5)
    return calls


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m bench.programs", description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"among {', '.join(EVERY)}; all if none")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.05, help="of each contender in each round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--against", nargs="*", default=["torch", "jax"], choices=["torch", "compile", "jax", "numpy"])
    parser.add_argument("--json", help="a file for the figures")
    offer_cpu_time(parser)
    options = parser.parse_args(arguments)
    fastdl.set_num_threads(options.threads)
    report: dict[str, Any] = {}
    for name in options.networks or EVERY:
        calls, steps = contenders(name, options.against)
        _measure(f"{name}, training step", calls, steps, options, report)
        if name == "mlp 4-64-64-2":
            calls = inference(name, options.against)
            _measure(f"{name}, inference of one", calls, dict.fromkeys(calls, 1), options, report)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(report, file, indent=1)
    return report


def _measure(
    title: str, calls: Any, steps: dict[str, int], options: argparse.Namespace, report: dict[str, Any]
) -> None:
    times = interleave(calls, options.rounds, options.seconds)
    times = {who: [t / steps[who] for t in found] for who, found in times.items()}
    print(title)
    report[title] = {}
    for who, found in times.items():
        ratio = median_ratio(found, times["program"])
        report[title][who] = {"us": statistics.median(found) * 1e6, "over program": ratio}
        print(f"  {who:10} {statistics.median(found) * 1e6:10.1f} us   {ratio:6.2f}x of the program's", flush=True)


if __name__ == "__main__":
    main()
