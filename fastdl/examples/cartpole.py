"""A pole is balanced on a cart: proximal policy optimization, evaluated in Gymnasium's CartPole-v1."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from fastdl.examples import _control

OPTIONS: dict[str, Any] = {"hidden": (64,), "n_steps": 128, "batch_size": 128, "lr": 5e-3}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _control.add_arguments(parser, "cartpole", steps=500_000, seeds=5)


def run(arguments: argparse.Namespace) -> None:
    """Train until the task counts as solved, report and draw."""
    from fastdl import rl

    def agent(seed: int) -> Any:
        return rl.PPO(rl.make("CartPole-v1"), seed=seed, **OPTIONS)

    _control.run(arguments, "CartPole-v1, PPO", agent, target=490.0, solved=475.0)


if __name__ == "__main__":
    from fastdl.__main__ import main

    main(["train", "cartpole", *sys.argv[1:]])
