"""A pendulum is swung up and held: proximal policy optimization, evaluated in Gymnasium's Pendulum-v1."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from fastdl.examples import _control

OPTIONS: dict[str, Any] = {
    **{"n_envs": 4, "n_steps": 1024, "epochs": 2, "batch_size": 256, "gamma": 0.9, "lr": 1e-3},
    **{"activation": "relu", "normalize_observations": True, "normalize_rewards": True},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _control.add_arguments(parser, "pendulum", steps=300_000, seeds=5)


def run(arguments: argparse.Namespace) -> None:
    """Train, report and draw."""
    from fastdl import rl

    def agent(seed: int) -> Any:
        return rl.PPO(rl.make("Pendulum-v1"), seed=seed, **OPTIONS)

    _control.run(arguments, "Pendulum-v1, PPO", agent, target=None, solved=-200.0)


if __name__ == "__main__":
    from fastdl.__main__ import main

    main(["train", "pendulum", *sys.argv[1:]])
