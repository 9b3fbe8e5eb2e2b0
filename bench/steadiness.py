"""Whether time does what its reader expects: from one size to the next, and with a busy neighbour.

python -m bench.steadiness sizes   convolutions of neighbouring sizes: the largest steps of time a multiply-add
python -m bench.steadiness busy    2 threads over 1 on ten kinds of work, alone and beside a process on the second core

`sizes`: of each size, from 13 to 33 pixels, 3 to 65 channels and filters, kernels 1, 3 and 5, one thread. Steps between
calls that take less than a few microseconds say little: what a call costs by itself is most of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastdl
from bench.timing import calls_lasting, interleave, median_ratio, offer_cpu_time, seconds_per_call
from fastdl import nn, optim

Report = dict[str, Any]

CHANNELS = (3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)
PIXELS = tuple(range(13, 34))


def main(argv: list[str] | None = None) -> Report:
    parser = argparse.ArgumentParser(
        prog="bench.steadiness", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=MEASURES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="write the report to this file too")
    offer_cpu_time(parser)
    options = parser.parse_args(argv)
    report = MEASURES[options.what](options.rounds)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1))
    return report


# ---- from one size to the next ----


def sizes(rounds: int) -> Report:
    """Steps in pixels at 16 channels, and in channels at 16 pixels."""
    fastdl.set_num_threads(1)
    places = [(k, c, p) for k in (1, 3, 5) for c in (3, 16, 64) for p in PIXELS]
    places += [(k, c, p) for k in (1, 3, 5) for c in CHANNELS for p in (13, 16, 32) if (k, c, p) not in places]
    times = dict(zip(places, _each_time(places, rounds), strict=True))
    steps = []
    for one, seconds in times.items():
        for other in _neighbours(one):
            if other in times:
                ratio = times[other] / _work(other) / (seconds / _work(one))
                steps.append((max(ratio, 1 / ratio), one, other, seconds, times[other]))
    steps.sort(key=lambda step: -step[0])
    for ratio, one, other, a, b in steps[:20]:
        print(f"{ratio:5.2f}x  {_named(one)} {a * 1e6:8.1f} us   {_named(other)} {b * 1e6:8.1f} us")
    above = {str(limit): sum(step[0] > limit for step in steps) for limit in (1.3, 1.5)}
    print(f"{len(steps)} steps, above 1.3x: {above['1.3']}, above 1.5x: {above['1.5']}")
    return {"steps": len(steps), "above": above, "largest": steps[0][0]}


def _each_time(places: list[tuple[int, int, int]], rounds: int) -> list[float]:
    """Seconds a call, medians of rounds over all of them."""
    rng = np.random.default_rng(0)
    calls: list[Callable[[], Any]] = []
    for kernel, channels, pixels in places:
        x = rng.standard_normal((1, channels, pixels, pixels), np.float32)
        weight = rng.standard_normal((channels, channels, kernel, kernel), np.float32)
        calls.append(lambda x=x, weight=weight, pad=kernel // 2: fastdl.conv2d(x, weight, padding=pad))  # type: ignore[misc]
    many = [calls_lasting(call, 0.002) for call in calls]
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, n, each in zip(calls, many, found, strict=True):
            each.append(seconds_per_call(call, n))
    return [statistics.median(each) for each in found]


def _neighbours(place: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """The next size up in pixels and in channels."""
    kernel, channels, pixels = place
    at = CHANNELS.index(channels)
    more = [(kernel, CHANNELS[at + 1], pixels)] if at + 1 < len(CHANNELS) else []
    return [(kernel, channels, pixels + 1), *(m for m in more if m[1] - channels <= 1)]


def _work(place: tuple[int, int, int]) -> int:
    kernel, channels, pixels = place
    return channels * channels * kernel * kernel * pixels * pixels


def _named(place: tuple[int, int, int]) -> str:
    kernel, channels, pixels = place
    return f"{kernel}x{kernel}, {channels:2} channels, {pixels} pixels"


# ---- beside a busy process ----


def busy(rounds: int) -> Report:
    """The ratio of one thread's time to two threads', on each kind of work."""
    work = _kinds_of_work()
    report: Report = {}
    for beside in (False, True):
        spinner = _spin_on(max(os.sched_getaffinity(0))) if beside else None
        try:
            ratios = {name: _two_over_one(call, rounds) for name, call in work.items()}
        finally:
            if spinner is not None:
                spinner.kill()
                spinner.wait()
        title = "beside a busy process" if beside else "alone"
        print(f"2 threads over 1, {title}: " + ", ".join(f"{name} {r:.2f}x" for name, r in ratios.items()))
        print(f"  geometric mean {statistics.geometric_mean(ratios.values()):.2f}x, least {min(ratios.values()):.2f}x")
        report[title] = ratios
    return report


def _spin_on(core: int) -> subprocess.Popen[bytes]:
    """A process that computes on that core until it is ended."""
    code = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    spinner = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(0.5)
    return spinner


def _two_over_one(call: Callable[[], Any], rounds: int) -> float:
    def with_threads(n: int) -> Callable[[], Any]:
        return lambda: fastdl.set_num_threads(n)

    contenders = {"1": call, "2": call}
    times = interleave(contenders, rounds, 0.1, before={"1": with_threads(1), "2": with_threads(2)})
    return median_ratio(times["1"], times["2"])


def _kinds_of_work() -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    x, weight = normal(256, 1024), normal(1024, 1024)
    image, kernel, small = normal(8, 64, 28, 28), normal(64, 64, 3, 3), normal(32, 16, 8, 8)
    point, large = normal(128, 64, 1, 1), normal(1_000_000)
    lstm, sequence, one = nn.LSTM(256, 256, rng=0), normal(20, 32, 256), normal(50, 1, 256)
    net = nn.Sequential(nn.Linear(784, 256, rng=0), nn.ReLU(), nn.Linear(256, 10, rng=1))
    rows, target = normal(128, 784), rng.integers(0, 10, 128)
    adam = optim.Adam([normal(1_000_000)], lr=1e-3)
    step = nn.compile_step(net, nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=1e-9), rows, target)
    return {
        "linear": lambda: fastdl.linear(x, weight),
        "3x3": lambda: fastdl.conv2d(image, kernel, padding=1),
        "1x1": lambda: fastdl.conv2d(image, point),
        "small images": lambda: fastdl.conv2d(small, kernel[:, :16], padding=1),
        "pooling": lambda: fastdl.max_pool2d(image, 2),
        "tanh": lambda: fastdl.tanh(large),
        "lstm": lambda: lstm(sequence),
        "lstm of one": lambda: lstm(one),
        "adam": lambda: adam.step([large]),
        "network step": lambda: step(rows, target),
    }


MEASURES: dict[str, Callable[[int], Report]] = {"sizes": sizes, "busy": busy}

if __name__ == "__main__":
    main()
