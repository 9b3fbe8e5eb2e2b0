"""Made-up results in the form of bench/results.py, and a history with two known steps: what the dashboard is tried on.

python -m tests.dashboard_demo FOLDER        writes results.json and history.jsonl there
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FAMILIES = {
    "product": ("linear", "matmul", "linear_backward"),
    "convolution": ("conv2d", "conv2d_backward", "conv1d", "conv_transpose2d"),
    "pooling": ("max_pool2d", "avg_pool2d", "max_pool2d_backward"),
    "recurrent": ("lstm", "gru", "lstm_backward"),
    "pointwise": ("relu", "gelu", "softmax", "dropout"),
    "loss": ("cross_entropy", "mse_loss"),
    "normalization": ("batch_norm", "layer_norm", "layer_norm_backward"),
    "optimizers": ("adam_step", "sgd_step"),
    "networks": ("resnet50", "vgg16", "mobilenet_v2"),
    "training": ("train_mlp", "train_digits"),
    "programs": ("replay_mlp", "replay_lenet"),
    "calls": ("call_add", "call_linear"),
    "rl": ("cartpole_steps", "ppo_update", "gae"),
}
SHAPES = ("1x16", "8x64", "32x256", "64x1024", "128x3x56x56")
PEERS = ("torch", "onnxruntime")
PROCESSOR = "Example 9 (AVX2)"
COMMITS, FASTER, SLOWER = 200, 70, 140
"""From commit FASTER on convolution is 25% faster; from SLOWER on SLOWED alone is 15% slower."""
SLOWED = "pooling", "max_pool2d"


def group_of(operation: str, shape: str, dtype: str, threads: int) -> str:
    return f"{operation} {shape} [{dtype}, {threads} thread{'s' * (threads > 1)}, v3]"


def results(most: int = 2000, families: Iterable[str] = FAMILIES, seed: int = 1) -> dict[str, Any]:
    """A run of pytest-benchmark with `most` entries."""
    chance = random.Random(seed)
    kinds = [(dtype, threads) for dtype in ("float32", "float64") for threads in (1, 2)]
    limits = {(d, t): (6.4e10 * t / (1 + (d == "float64")), 9e9 * (1 + 0.3 * (t - 1))) for d, t in kinds}
    places = [
        (family, operation, shape, *kind)
        for family in families
        for operation in FAMILIES[family]
        for shape in range(len(SHAPES))
        for kind in kinds
    ]
    groups = [_group(chance, *place, limits[place[3:]]) for place in places]
    while sum(map(len, groups)) - most >= 5:  # some of each family
        groups.pop(chance.randrange(len(groups)))
    benchmarks = [entry for group in groups for entry in group]
    about = {"processor": PROCESSOR, "level": "v3", "versions": {"fastdl": "0.1.0", "numpy": "2.3", "torch": "2.13"}}
    for name, place in ("peak_flops", 0), ("bandwidth", 1):
        about[name] = {f"{dtype}, {threads} threads": limits[dtype, threads][place] for dtype, threads in kinds}
    return {
        "machine_info": {
            "node": "host",
            "processor": "x86_64",
            "machine": "x86_64",
            "system": "Linux",
            "release": "6.1",
            "python_implementation": "CPython",
            "python_version": "3.11.7",
            "cpu": {"brand_raw": "Example 9 3950", "count": 2},
            "fastdl": about,
        },
        "commit_info": {"id": sha(COMMITS), "time": date(COMMITS), "dirty": False, "branch": "main"},
        "benchmarks": benchmarks[:most],
        "datetime": date(COMMITS),
        "version": "5.1.0",
    }


def _group(
    chance: random.Random, family: str, operation: str, shape: int, dtype: str, threads: int, limit: tuple[float, float]
) -> list[dict[str, Any]]:
    peak, bandwidth = limit
    flops = 10.0 ** (3.2 + 1.6 * shape + chance.random())
    traffic = flops / (
        8.0 * (shape + 1) if family in ("product", "convolution", "networks") else 0.25 + chance.random()
    )
    least = max(flops / peak, traffic / bandwidth)
    ours = least / (0.45 + 0.5 * chance.random()) + 4e-7
    size = "call" if shape == 0 else "small" if shape < 3 else "large"
    group, found = group_of(operation, SHAPES[shape], dtype, threads), []
    disturbed = "another process took 12% of the time" if chance.random() < 0.02 else ""
    factors = {"fastdl": 1.0, "numba": chance.lognormvariate(0.6, 0.3), "numpy": chance.lognormvariate(1.6, 0.7)}
    factors |= {peer: chance.lognormvariate(0.35, 0.35) + (6 if size == "call" else 0) for peer in PEERS}
    for name, factor in factors.items():
        if name == "onnxruntime" and "backward" in operation:
            continue
        median = ours * factor
        spread = 0.01 + 0.03 * chance.random()
        middle = [factor, factor * (1 - spread), factor * (1 + spread)]
        extra = {
            "family": family,
            "case": f"{operation} {SHAPES[shape]}",
            "operation": operation,
            "implementation": name,
            "backend": {"fastdl": "c", "numba": "numba"}.get(name, ""),
            "role": {"fastdl": "ours", "numba": "variant", "numpy": "reference"}.get(name, "peer"),
            "dtype": dtype,
            "threads": threads,
            "level": "v3",
            "size": size,
            "flops": flops,
            "bytes": traffic,
            "peak_flops": peak,
            "bandwidth": bandwidth,
            "of_roofline": least / median,
            **({} if name == "fastdl" else {"ratio": middle}),
            "disturbed": disturbed,
        }
        stats = {"median": median, "q1": median * 0.99, "q3": median * 1.02, "min": median * 0.98, "rounds": 50}
        test = f"{operation}[{SHAPES[shape]}-{dtype}-{threads}-{name}]"
        found.append(
            {
                "group": group,
                "name": test,
                "fullname": f"bench/suites/{family}.py::{test}",
                "params": {},
                "stats": stats,
                "extra_info": extra,
            }
        )
    return found


def sha(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()


def date(number: int) -> str:
    return f"2026-{1 + number // 28:02}-{1 + number % 28:02}T12:00:00+00:00"


def history(run: dict[str, Any], commits: int = COMMITS, seed: int = 2) -> list[dict[str, Any]]:
    """What bench/history.jsonl would have of that run's cases, `commits` times."""
    chance, cases = random.Random(seed), dict[str, dict[str, Any]]()
    for entry in run["benchmarks"]:
        extra = entry["extra_info"]
        case = cases.setdefault(entry["group"], {"extra": extra, "ratio": {}})
        if extra["role"] != "ours":
            case["ratio"][extra["implementation"]] = extra["ratio"][0]
    lines = []
    for number in range(commits):
        for group, case in cases.items():
            extra = case["extra"]
            known = 1.0
            if extra["family"] == "convolution" and number < FASTER:
                known /= 1.25
            if (extra["family"], extra["operation"]) == SLOWED and number < SLOWER:
                known *= 1.15
            ratio = {}
            for name, now in case["ratio"].items():
                middle = now * known * math.exp(chance.gauss(0, 0.012))
                ratio[name] = [round(middle * part, 4) for part in (1, 0.98, 1.02)]
            if not ratio:  # the last case, cut short
                continue
            lines.append(
                {
                    "schema": 1,
                    "commit": sha(number),
                    "date": date(number),
                    "subject": f"Change number {number}",
                    "processor": PROCESSOR,
                    "group": group,
                    **{name: extra[name] for name in ("family", "size", "dtype", "threads", "level")},
                    "backend": "c",
                    "ratio": ratio,
                    "of_roofline": 0.5,
                }
            )
    return lines


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = results()
    (folder / "results.json").write_text(json.dumps(found))
    with open(folder / "history.jsonl", "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in history(found))
