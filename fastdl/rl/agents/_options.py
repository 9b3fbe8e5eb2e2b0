"""The options of agents: what is said about them, and their ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastdl.rl.agents._networks import ACTIVATIONS

SHARED = {
    "environment": """
environment : Environment or str or gymnasium.vector.VectorEnv
    Compiled (`fastdl.rl.make`, or the user's own), or Gymnasium's, by name or a vector, stepped from Python.""",
    "networks": """
hidden : sequence of int
    The sizes of the hidden layers of both networks.
activation : {"tanh", "relu", "elu", "silu"}
    After each of them.
policy, value : Module, optional
    Networks of the user's own instead: (n, O) to logits (n, A) or means (n, D), and to (n, 1).
dtype : numpy.float32 or numpy.float64
    Of networks and of what they are given.""",
    "steps": """
n_envs, n_steps : int
    How many environments run at once, and the steps of each in an iteration.
gamma : float
    The discount.
lmbda : float
    Of generalized advantage estimation (Schulman et al. 2016): 0 trusts the value function, 1 the rewards.""",
    "learning": """
lr : float
    The learning rate.
anneal : bool
    Whether it falls to 0 over the steps of a call of `train`.
entropy_weight, value_weight : float
    What the policy's entropy and the value function's squared error count in the loss.
max_norm : float or None
    Gradients are scaled so that their norm is at most this.""",
    "normalization": """
normalize_observations, normalize_rewards, normalize_advantages : bool
    By running mean and deviation; by the running deviation of discounted returns; over an iteration.
initial_std : float
    Of continuous actions, in units of half their range.
seed : int, optional
    The same seed gives the same agent, on any number of threads.""",
}

_WHOLE = (
    *("n_envs", "n_steps", "epochs", "batch_size", "episodes"),
    *("capacity", "learning_starts", "train_every", "target_every", "exploration_steps"),
)
_FLAGS = (
    *("anneal", "baseline", "double", "dueling"),
    *("normalize_observations", "normalize_rewards", "normalize_advantages"),
)
# The ranges of options: lowest, highest.
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("gamma", "lmbda", "alpha", "beta", "epsilon", "final_epsilon"), (0, 1)),
    **dict.fromkeys(_WHOLE, (1, np.inf)),
    **dict.fromkeys(("entropy_weight", "value_weight"), (0, np.inf)),
    **dict.fromkeys(("lr", "clip", "max_norm"), (np.finfo(float).tiny, np.inf)),
    "initial_std": (np.finfo(float).tiny, np.inf),
}


def check_options(options: dict[str, Any]) -> None:
    """Refuse what is out of its range."""
    for name, value in options.items():
        if name in _FLAGS and not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name}: found {value!r}, expected True or False")
        if name in _RANGES and not (value is None and name == "max_norm"):
            low, high = _RANGES[name]
            kind: Any = (int, np.integer) if name in _WHOLE else (int, float, np.number)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise TypeError(f"{name}: found {value!r}, expected {'an integer' if name in _WHOLE else 'a number'}")
            if not low <= value <= high or value == np.inf:
                bound = "more than 0" if 0 < low < 1e-300 else f"at least {low:g}"
                raise ValueError(f"{name}: found {value}, expected {bound}" + (f", at most {high:g}" * (high < np.inf)))
    if not isinstance(options["activation"], str) or options["activation"] not in ACTIVATIONS:
        raise ValueError(f"activation: found {options['activation']!r}, expected one of {', '.join(ACTIVATIONS)}")
    try:
        right = np.dtype(options["dtype"]) in (np.float32, np.float64)
    except TypeError:
        right = False
    if not right:
        raise TypeError(f"dtype: found {options['dtype']!r}, expected float32 or float64")
    hidden = options["hidden"]
    if not isinstance(hidden, Sequence) or isinstance(hidden, str):
        raise TypeError(f"hidden: found {hidden!r}, expected a sequence of sizes of layers")
    if not all(isinstance(n, (int, np.integer)) and n > 0 for n in hidden):
        raise ValueError(f"hidden: found {hidden!r}, expected sizes of layers")
    seed_of(options["seed"])


def seed_of(seed: Any) -> np.random.SeedSequence:
    try:
        return np.random.SeedSequence(seed)
    except (TypeError, ValueError):
        raise TypeError(f"seed: found {seed!r}, expected an integer that is not negative, or None") from None


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    """Of a constructor's arguments, those that a file keeps."""
    others = ("self", "environment", "policy", "value", "network", "__class__")
    return {name: value for name, value in given.items() if name not in others}
