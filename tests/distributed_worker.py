"""What tests/test_distributed.py starts by mpiexec: python -m tests.distributed_worker FOLDER JSON-OF-RUNS."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fastdl import distributed, nn, optim, training
from fastdl.distributed import steps


def data(n: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((n, 1, 6, 6)).astype(dtype)
    return x, (x.reshape(n, -1) @ rng.standard_normal((36, 4))).argmax(1)


def network(dtype: Any, kind: str) -> nn.Sequential:
    rng = np.random.default_rng(0)
    more = {"dropout": [nn.Dropout(0.3, seed=1)], "norm": [nn.BatchNorm2d(8, dtype=dtype)]}.get(kind, [])
    twice = nn.Linear(16, 16, dtype=dtype, rng=rng)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1, dtype=dtype, rng=rng), *more, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(72, 16, dtype=dtype, rng=rng), nn.Tanh(), *([twice, nn.Tanh(), twice] if kind == "shared" else [])),
        nn.Linear(16, 4, dtype=dtype, rng=rng),
    )


def run(options: dict[str, Any], folder: Path, group: Any) -> tuple[nn.Module, training.History]:
    """Training on `options["batch"]` rows a step, of all ranks together. "last": other options of the last rank."""
    if group is not None and group.rank == group.size - 1:
        options = options | options.get("last", {})
    dtype = np.dtype(options.get("dtype", "float64"))
    net = network(dtype, options.get("kind", "plain"))
    if group is not None and group.rank and not options.get("resume"):
        for array in net.parameters().values():
            array += 1  # which the broadcast at the beginning undoes
    optimizer = optim.Adam(net.parameters(), lr=0.01, weight_decay=0.01)
    size = 1 if group is None else group.size

    def callback(history: training.History) -> bool:
        if len(history) == options.get("at") and group.rank == size - 1:
            if options["what"] == "stop":
                return True
            if options["what"] == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if options["what"] == "break":
                raise KeyboardInterrupt
            if options["what"] == "raise":
                raise ValueError("this rank has had enough")
            os.kill(os.getpid(), signal.SIGINT)
        return False

    def twice(rng: Any, x: Any, y: Any) -> Any:
        assert len(x)
        return np.concatenate([x, 2 * x]), np.concatenate([y, y])

    n = options.get("n", 96)
    rows: Any = data(n, dtype)
    if "batches" in options:
        rows = [tuple(a[:8] for a in rows)] * options["batches"]
    history = training.fit(
        *(net, rows, nn.CrossEntropyLoss(reduction=options.get("reduction", "mean"))),
        *(optimizer, options.get("epochs", 4)),
        batch_size=options["batch"] // size,
        rng=7 if group is None or not group.rank else group.rank,  # that of rank 0 counts
        validation=data(50, dtype),
        metrics={"accuracy": training.accuracy, "own": lambda output, target: 0 if group is None else group.rank},
        schedule=optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        max_norm=options.get("max_norm"),
        checkpoint=folder / "checkpoint.npz",
        resume=options.get("resume", False),
        callback=callback,
        record=options.get("record", True),
        transform=twice if options.get("twice") else None,
        group=group,
    )
    return net, history


def main() -> None:
    for i, options in enumerate(json.loads(sys.argv[2])):
        folder = Path(sys.argv[1]) / options.get("folder", str(i))
        folder.mkdir(exist_ok=True)
        with distributed.Group(threads=1, overlap=options.get("overlap", False)) as group:
            group.overlap = (options | (options.get("last", {}) if group.rank else {})).get("overlap", False)
            steps._BUCKET = options.get("bucket", steps._BUCKET)
            net, history = run(options, folder, group)
            rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
            (folder / f"{group.rank}.json").write_text(json.dumps({"ended": history.ended, "rows": rows}))
            np.savez(folder / f"{group.rank}.npz", **net.state_dict())


if __name__ == "__main__":
    main()
