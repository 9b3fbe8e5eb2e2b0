"""What happens by chance in environments of few states: drawn in a step, and as a table of all transitions.

The dynamics of such an environment are two functions: ``outcomes(state, s, action)``, how many there are, three at
most, and their probabilities, and ``outcome(state, s, action, i)``, the next state, the reward and the end of the
i-th. `s` is an observation, `state` the environment's, of which parameters are read."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.rl._numba import compiled
from fastdl.rl.environment import Environment
from fastdl.rl.random import random

__all__ = ["transitions"]


@compiled
def drawn(outcomes: Any, rng: Any) -> Any:
    """Which outcome happens: the first up to which probabilities add to more than a random number."""
    n, probabilities = outcomes
    x, total = random(rng), 0.0
    for i in range(n):
        total += probabilities[i]
        if total > x:
            return i
    return 0


def transitions(environment: Environment) -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:
    """All transitions of an environment of few states, as Gymnasium's tables `P` have them.

    Parameters
    ----------
    environment : Environment
        Of `frozen_lake`, `taxi` (whose fickle passengers, which are not in its observations, are left out as in
        Gymnasium) or `cliff_walking`.

    Returns
    -------
    dict
        ``{state: {action: [(probability, next state, reward, terminated), ...]}}``.

    Raises
    ------
    ValueError
        Another environment.

    Examples
    --------
    >>> from fastdl import rl
    >>> P = rl.envs.transitions(rl.envs.cliff_walking())
    >>> P[36][1]  # from the start to the right: over the cliff, and back to the start
    [(1.0, 36, -100.0, False)]
    """
    from fastdl.rl.envs.toy_text import cliff_walking, frozen_lake, taxi

    module: Any = next((m for m in (frozen_lake, taxi, cliff_walking) if m.step is environment.step), None)
    if module is None:
        raise ValueError(f"environment: found {environment}, expected FrozenLake, Taxi or CliffWalking")
    state, counts = np.array(environment.state), environment.observation_counts
    assert counts is not None
    assert environment.n_actions is not None
    table: dict[int, dict[int, list[tuple[float, int, float, bool]]]] = {}
    for s in range(counts[0]):
        table[s] = {}
        for action in range(environment.n_actions):
            n, probabilities = module.outcomes(state, s, action)
            table[s][action] = [(probabilities[i], *module.outcome(state, s, action, i)) for i in range(n)]
    return table
