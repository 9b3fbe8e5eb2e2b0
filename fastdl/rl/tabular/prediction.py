"""Agents that learn what states are worth under a given policy: tables of state values.

They are those of `control` with one column, which is what a state is worth whatever is done there, and with actions
drawn from the policy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._docs import doc
from fastdl.rl.tabular import rules
from fastdl.rl.tabular.agent import Agent
from fastdl.rl.tabular.control import TEXTS, TRACES, Array, Number, replacing

__all__ = ["TD", "MonteCarloPrediction", "NStepTD", "TDLambda"]

GIVEN = """
    policy : array_like, optional
        What is done: the action of every state, integers of shape (S,), or the probability of each, float64 of shape
        (S, A). By default all actions are as likely.
    values : float or array_like, shape (S,)
        The values to begin with."""
RAISES = """
    Raises
    ------
    ValueError
        A number outside its range; a policy that is none, or of another shape; `values` of another shape or not finite.
    TypeError
        Observations or actions that are not discrete."""
SHARED = {**TEXTS, "given": GIVEN, "wrong": RAISES}


class Prediction(Agent):
    """The base of agents that learn state values."""

    def _learn_values(self, environment: Any, policy: Any, values: Any, **settings: Any) -> None:
        named = {"alpha", "gamma", "max_steps", "seed", "n", "lambda_"}
        self._arguments = {name: value for name, value in settings.items() if name in named}
        self._set_up(environment, policy=policy, values=values, predicts=True, **settings)

    @property
    def values(self) -> Array:
        """The values of the states, float64 of shape (S,): a copy."""
        return np.asarray(self._tables.q[0, :, 0].copy())

    def predict(self, observation: Any) -> float:
        """The value of an observation."""
        return float(self._tables.q[0, self.index(observation), 0])


@doc(SHARED)
class TD(Prediction):
    """TD(0): *v(s) += alpha (r + gamma v(s') - v(s))*.

    Sutton (1988); Sutton and Barto (2018), section 6.1.

    Parameters
    ----------
    {environment}
    {given}
    {run}

    {wrong}

    Examples
    --------
    A walk to the left or to the right, which pays 1 at its right end:

    >>> from fastdl import rl
    >>> P = {s: {0: [(0.5, max(s - 1, 0), 0.0, s == 0), (0.5, min(s + 1, 4), float(s == 4), s == 4)]} for s in range(5)}
    >>> walk = rl.tabular.Table.from_gymnasium(P, start=2)
    >>> agent = rl.TD(walk, alpha=rl.InverseVisits(0.8), gamma=1.0, values=0.5, seed=0)
    >>> history = agent.train(episodes=20_000)
    >>> agent.values.round(1).tolist()  # 1/6 to 5/6
    [0.2, 0.3, 0.5, 0.7, 0.8]
    """

    method = rules.ONE_STEP

    def __init__(
        self,
        environment: Any,
        policy: Any = None,
        *,
        alpha: Number = 0.1,
        gamma: float = 0.99,
        values: Any = 0.0,
        max_steps: int | None = None,
        seed: int | None = None,
    ) -> None:
        self._learn_values(environment, policy, values, alpha=alpha, gamma=gamma, max_steps=max_steps, seed=seed)


@doc(SHARED)
class NStepTD(Prediction):
    """TD toward the return of n steps: *r_1 + gamma r_2 + ... + gamma^n v(s_n)*.

    Sutton and Barto (2018), section 7.1.

    Parameters
    ----------
    {environment}
    n : int
        How many steps.
    {given}
    {run}

    {wrong}

    Examples
    --------
    >>> import gymnasium
    >>> from fastdl import rl
    >>> table = rl.tabular.Table.from_gymnasium(gymnasium.make("FrozenLake-v1"))
    >>> agent = rl.NStepTD(table, n=8, gamma=1.0, seed=0)
    >>> agent.train(episodes=1000).returns.size, agent.values.shape
    (1000, (16,))
    """

    method = rules.N_STEP

    def __init__(
        self,
        environment: Any,
        policy: Any = None,
        *,
        n: int = 4,
        alpha: Number = 0.1,
        gamma: float = 0.99,
        values: Any = 0.0,
        max_steps: int | None = None,
        seed: int | None = None,
    ) -> None:
        self._learn_values(environment, policy, values, n=n, alpha=alpha, gamma=gamma, max_steps=max_steps, seed=seed)


@doc(SHARED, traces=TRACES)
class TDLambda(Prediction):
    """TD(lambda): every step moves all states that are eligible for it.

    Sutton (1988); Sutton and Barto (2018), section 12.2.

    Parameters
    ----------
    {environment}
    {traces}
    {given}
    {run}

    {wrong}

    Examples
    --------
    >>> import gymnasium
    >>> from fastdl import rl
    >>> table = rl.tabular.Table.from_gymnasium(gymnasium.make("FrozenLake-v1"))
    >>> agent = rl.TDLambda(table, lambda_=0.9, gamma=1.0, seed=0)
    >>> agent.train(episodes=1000).returns.size, agent.values.shape
    (1000, (16,))
    """

    method = rules.TRACES

    def __init__(
        self,
        environment: Any,
        policy: Any = None,
        *,
        lambda_: float = 0.9,
        traces: str = "accumulating",
        alpha: Number = 0.1,
        gamma: float = 0.99,
        values: Any = 0.0,
        max_steps: int | None = None,
        seed: int | None = None,
    ) -> None:
        settings = {"alpha": alpha, "gamma": gamma, "max_steps": max_steps, "seed": seed, "lambda_": lambda_}
        self._learn_values(environment, policy, values, **settings, replacing=replacing(traces))
        self._arguments["traces"] = traces


@doc(SHARED)
class MonteCarloPrediction(Prediction):
    """Every visit of a state toward the return that followed it, at the end of the episode.

    An episode that is cut off counts with the value of its last state. Sutton and Barto (2018), sections 5.1 and 6.1.

    Parameters
    ----------
    {environment}
    {given}
    {run}

    {wrong}

    Examples
    --------
    What sticking on 20 and 21, and nothing else, is worth at blackjack, with 21 in hand:

    >>> import gymnasium, numpy as np
    >>> from fastdl import rl
    >>> hit = np.arange(32) < 20
    >>> policy = np.repeat(hit, 11 * 2).astype(int)  # an observation is a hand, the dealer's card, a usable ace
    >>> environment = gymnasium.make("Blackjack-v1")
    >>> agent = rl.MonteCarloPrediction(environment, policy, alpha=rl.InverseVisits(), max_steps=100, seed=0)
    >>> history = agent.train(episodes=2000)
    >>> agent.predict((21, 5, 0)) > 0.5
    True
    """

    method = rules.N_STEP

    def __init__(
        self,
        environment: Any,
        policy: Any = None,
        *,
        alpha: Number = 0.1,
        gamma: float = 1.0,
        values: Any = 0.0,
        max_steps: int | None = None,
        seed: int | None = None,
    ) -> None:
        settings = {"alpha": alpha, "gamma": gamma, "max_steps": max_steps, "seed": seed}
        self._learn_values(environment, policy, values, **settings, n=None)
        del self._arguments["n"]
