"""Training steps of whole networks against PyTorch, each in a process of its own, so that no pool's threads spin in
another's time.

python -m bench.models                    ResNet-18 on 32 x 32 images, batch 32, two threads
python -m bench.models --threads 1 --cpu  by processor time, beside other work

A step is forward, cross-entropy, backward and SGD with momentum: fastdl's as a program (nn.compile_step), torch's eager
one. The losses of the first steps are compared before anything is timed; then the processes take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench import timing
from bench.timing import median_ratio, offer_cpu_time

COMPARED = 4
"""Steps whose losses have to agree: later ones differ by what rounding has grown to."""
STILL = 1e-9
"""The learning rate while time is taken."""
SIZES = {"resnet18": (32, 3, 32, 32)}
"""Of deeper networks with norms (ResNet-50, MobileNetV2) no library's losses in float32 are right for long: 1% of a
gradient is rounding at this size."""


def data(name: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal(SIZES[name], np.float32), rng.integers(0, 10, SIZES[name][0])


def network(name: str) -> Any:
    from fastdl import models

    return getattr(models, name)(10, small=True, rng=0)


def fastdl_step(name: str, threads: int) -> tuple[Callable[[], float], Callable[[], Any]]:
    """A step that returns its loss, and what makes the rate small."""
    import fastdl
    from fastdl import nn, optim

    fastdl.set_num_threads(threads)
    net = network(name)
    optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x, target = data(name)
    step = nn.compile_step(net, nn.CrossEntropyLoss(), optimizer, x, target)
    return lambda: float(step(x, target)), lambda: setattr(optimizer, "lr", STILL)


def torch_step(name: str, threads: int) -> tuple[Callable[[], float], Callable[[], Any]]:
    import torch

    from tests.torch_models import ResNet

    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    net = ResNet((2, 2, 2, 2), False, True, 10)
    net.load_state_dict({key: torch.from_numpy(array) for key, array in network(name).state_dict().items()})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x, target = map(torch.from_numpy, data(name))

    def step() -> float:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(net(x), target)
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step, lambda: optimizer.param_groups[0].update(lr=STILL)


CONTENDERS: dict[str, Callable[[str, int], tuple[Callable[[], float], Callable[[], Any]]]] = {
    "fastdl": fastdl_step,
    "torch": torch_step,
}


def work(who: str, name: str, threads: int) -> None:
    """A contender: answers each line, a number of seconds, with the time of a step in a turn that long."""
    step, stop = CONTENDERS[who](name, threads)
    print(json.dumps([step() for _ in range(COMPARED)]), flush=True)
    stop()
    for line in sys.stdin:
        step()
        print(timing.seconds_per_call(step, timing.calls_lasting(step, float(line))), flush=True)


class Contender:
    def __init__(self, who: str, name: str, options: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "bench.models", name, "--work", who, "--threads", str(options.threads)]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        self.process = subprocess.Popen(
            command + (["--cpu"] if options.cpu_time else []),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.times: list[float] = []
        self.losses = json.loads(self.line())

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def turn(self, seconds: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        self.times.append(float(self.line()))

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    contenders = {who: Contender(who, name, options) for who in CONTENDERS}
    ours, theirs = contenders["fastdl"], contenders["torch"]
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-3, err_msg=name)
    for turn in range(options.rounds + 1):
        for contender in contenders.values():
            contender.turn(options.seconds)
            if turn == 0:
                contender.times.clear()
    for contender in contenders.values():
        contender.end()
    ratio = median_ratio(theirs.times, ours.times)
    print(f"{name}, batch {SIZES[name][0]}, {options.threads} threads, a training step")
    for who, contender in contenders.items():
        print(f"  {who:8} {statistics.median(contender.times) * 1e3:8.1f} ms")
    print(f"  torch takes {ratio:.2f}x as long", flush=True)
    return {who: statistics.median(contender.times) for who, contender in contenders.items()} | {"ratio": ratio}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m bench.models", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"among {', '.join(SIZES)}; the first if none")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each contender in each round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--against", nargs="*", default=["torch"], choices=["torch"])
    parser.add_argument("--work", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--json", help="a file for the figures")
    offer_cpu_time(parser)
    options = parser.parse_args(arguments)
    options.cpu_time = "--cpu" in (sys.argv[1:] if arguments is None else arguments)
    if options.work:
        work(options.work, options.networks[0], options.threads)
        return {}
    report = {name: measure(name, options) for name in options.networks or ["resnet18"]}
    if options.json:
        with open(options.json, "w") as file:
            json.dump(report, file, indent=1)
    return report


if __name__ == "__main__":
    main()
