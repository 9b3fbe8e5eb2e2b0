"""What compiling a user's @njit function costs: its first call in a new process that has imported Numba.

python -m bench.first_call            seconds of CPU time, and how many functions Numba compiles for it
python -m bench.first_call --cached   the same in a second process, with cache=True

`nothing` calls nothing of fastdl: what Numba itself takes to begin.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CALLS = {
    "nothing": "x",
    "relu": "fastdl.relu(x)",
    "linear": "fastdl.linear(x, matrix, bias)",
    "conv2d": "fastdl.conv2d(images, filters, bias, padding=1)",
    "lstm": "fastdl.lstm(sequence, weights)",
    "adam_step": "fastdl.adam_step(x, weights[0], moments[0], moments[1], 1)",
    "digits": "train(images, labels, weights, 2)",
}
"""digits: a training loop of the example's network, 25 calls forward and backward."""

_SCRIPT = """
import json, time
import numba, numpy as np
import fastdl
from numba.core import event

def real(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) / 8

x, matrix, bias = real(16, 4), real(3, 4), real(3)
moments = np.zeros((2, 16, 4), np.float32)
images, filters, sequence = real(2, 3, 8, 8), real(3, 3, 3, 3), real(5, 2, 4)
weights = real(16, 4), real(16, 4), real(16), real(16)
labels = np.arange(32) % 10
if NAME == "digits":
    images = real(32, 1, 8, 8)
    weights = (real(16, 1, 5, 5), real(16), real(32, 16, 3, 3), real(32), real(128, 512), real(128), real(10, 128),
               real(10))

@numba.njit(cache=CACHE)
def train(images, labels, weights, steps):
    w1, b1, w2, b2, w3, b3, w4, b4 = weights
    loss = 0.0
    for _ in range(steps):
        x1 = fastdl.conv2d(images, w1, b1, padding=2)
        y1 = fastdl.relu(x1)
        x2 = fastdl.conv2d(y1, w2, b2, padding=1)
        y2 = fastdl.relu(x2)
        pooled, indices = fastdl.max_pool2d(y2, 2, return_indices=True)
        flat = pooled.reshape(len(pooled), 512)
        x3 = fastdl.linear(flat, w3, b3)
        y3 = fastdl.relu(x3)
        scores = fastdl.linear(y3, w4, b4)
        loss = float(fastdl.cross_entropy(scores, labels))
        g = fastdl.cross_entropy_backward(1.0, scores, labels)
        g4 = fastdl.linear_backward(g, y3, w4)
        g3 = fastdl.linear_backward(fastdl.relu_backward(g4.input, x3), flat, w3)
        unpooled = fastdl.max_pool2d_backward(g3.input.reshape(pooled.shape), y2, 2, indices=indices)
        g2 = fastdl.conv2d_backward(fastdl.relu_backward(unpooled, x2), y1, w2, padding=1)
        g1 = fastdl.conv2d_backward(fastdl.relu_backward(g2.input, x1), images, w1, padding=2, input_grad=False)
        fastdl.sgd_step(w1, g1.weight, lr=0.05)
        fastdl.sgd_step(b1, g1.bias, lr=0.05)
        fastdl.sgd_step(w2, g2.weight, lr=0.05)
        fastdl.sgd_step(b2, g2.bias, lr=0.05)
        fastdl.sgd_step(w3, g3.weight, lr=0.05)
        fastdl.sgd_step(b3, g3.bias, lr=0.05)
        fastdl.sgd_step(w4, g4.weight, lr=0.05)
        fastdl.sgd_step(b4, g4.bias, lr=0.05)
    return loss

@numba.njit(cache=CACHE)
def user(x, matrix, bias, images, filters, sequence, weights, labels, moments):
    return CALL

with event.install_recorder("numba:compile") as recorder:
    start = time.process_time()
    user(x, matrix, bias, images, filters, sequence, weights, labels, moments)
    seconds = time.process_time() - start
print(json.dumps([seconds, sum(e.is_start for _, e in recorder.buffer)]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench.first_call", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[[], *CALLS], metavar="NAME")
    parser.add_argument("--cached", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the report to this file too")
    options = parser.parse_args()
    report: dict[str, Any] = {}
    for name in options.names or CALLS:
        seconds, compiled = measure(name, options.cached, options.rounds)
        report[f"{name}, s"], report[f"{name}, compiled"] = seconds, compiled
        print(f"{name:<12}{seconds:8.3f} s  {compiled} compiled")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1))


def measure(name: str, cached: bool, rounds: int) -> tuple[float, int]:
    """The median of several processes."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        text = _SCRIPT.replace("CALL", CALLS[name]).replace("CACHE", str(cached)).replace("NAME", repr(name))
        script.write_text(text)
        places = [str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = os.environ | {
            "NUMBA_CACHE_DIR": folder,
            "FASTDL_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, places)),
        }
        found = []
        for _ in range(rounds + cached):
            ran = subprocess.run([sys.executable, script], env=environment, capture_output=True, check=True)
            found.append(json.loads(ran.stdout))
        found = found[cached:]
    return statistics.median(seconds for seconds, _ in found), max(compiled for _, compiled in found)


if __name__ == "__main__":
    main()
