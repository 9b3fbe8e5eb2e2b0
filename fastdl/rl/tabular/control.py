"""Agents that learn how to act: tables of action values."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._docs import doc
from fastdl.rl.tabular import rules
from fastdl.rl.tabular.agent import Agent
from fastdl.rl.tabular.schedules import Schedule

__all__ = [
    "SARSA",
    "DoubleQLearning",
    "DynaQ",
    "ExpectedSARSA",
    "MonteCarloControl",
    "NStepExpectedSARSA",
    "NStepSARSA",
    "QLambda",
    "QLearning",
    "SARSALambda",
]

Array = np.ndarray[Any, Any]
Number = float | Schedule

TEXTS = {
    "environment": """
        environment : Table, MDP, Environment or gymnasium.Env
            What to learn on, with discrete observations and actions. An environment of Gymnasium's is stepped by
            Python, which is slower, all others in compiled code. Of a model, episodes start in any state that some
            action leaves; `Table.from_mdp` takes another start.
        alpha : float or Schedule
            The step size, above 0 and at most 1.
        gamma : float
            The discount, from 0 to 1.""",
    "exploration": """
        epsilon : float or Schedule, optional
            How probable it is that an action is taken at random, all being as likely. By default 0.1, or 0 with a
            temperature.
        temperature : float or Schedule, optional
            Actions that are not taken at random are drawn with probabilities *exp(q / temperature) / sum* (softmax, or
            Boltzmann exploration); by default the best one is taken, and one of the best at random where several are.
        q : float or array_like, shape (S, A)
            The values to begin with.""",
    "run": """
        max_steps : int, optional
            After how many steps an episode is cut off, besides what the environment says itself. The value of the state
            in which it is cut off counts, as of any other.
        seed : int, optional
            Of the agent and of its environment: the same gives the same numbers.""",
    "raises": """
        Raises
        ------
        ValueError
            A number outside its range, `q` of another shape or not finite.
        TypeError
            Observations or actions that are not discrete.""",
}


class Control(Agent):
    """The base of agents that learn action values."""

    def _learn_control(
        self, environment: Any, q: Any, epsilon: Number | None, temperature: Number | None, **settings: Any
    ) -> None:
        if epsilon is None:
            epsilon = 0.1 if temperature is None else 0.0
        named = {"alpha", "gamma", "max_steps", "seed", "n", "lambda_", "planning_steps", "bonus"}
        self._arguments = {"epsilon": epsilon, "temperature": temperature}
        self._arguments |= {name: value for name, value in settings.items() if name in named}
        self._set_up(environment, values=q, epsilon=epsilon, temperature=temperature, **settings)

    @property
    def q(self) -> Array:
        """The action values, float64 of shape (S, A): a copy; of double Q-learning the mean of both."""
        return np.asarray(self._tables.q.mean(axis=0))

    @property
    def policy(self) -> Array:
        """The best action of every state, int64 of shape (S,); the first one where several are."""
        return self._tables.best["action"].astype(np.int64)

    def predict(self, observation: Any) -> int:
        """The best action; the first one where several are."""
        return int(self._tables.best["action"][self.index(observation)])


@doc(TEXTS)
class QLearning(Control):
    """Q-learning, off-policy: *q(s, a) += alpha (r + gamma max q(s') - q(s, a))*.

    Watkins (1989); Sutton and Barto (2018), section 6.5.

    Parameters
    ----------
    {environment}
    {exploration}
    {run}

    {raises}

    Examples
    --------
    >>> import gymnasium
    >>> from fastdl import rl
    >>> table = rl.tabular.Table.from_gymnasium(gymnasium.make("CliffWalking-v1"))
    >>> agent = rl.QLearning(table, alpha=0.5, gamma=1.0, epsilon=0.1, seed=0)
    >>> history = agent.train(episodes=1000)
    >>> history.returns.shape
    (1000,)
    >>> float(agent.q[36].max()), agent.predict(36)  # from the start, up and along the cliff
    (-13.0, 0)
    """

    method = rules.ONE_STEP
    target = rules.GREEDY

    def __init__(
        self,
        environment: Any,
        *,
        alpha: Number = 0.1,
        gamma: float = 0.99,
        epsilon: Number | None = None,
        temperature: Number | None = None,
        q: Any = 0.0,
        max_steps: int | None = None,
        seed: int | None = None,
    ) -> None:
        self._learn_control(
            environment, q, epsilon, temperature, alpha=alpha, gamma=gamma, max_steps=max_steps, seed=seed
        )


@doc(TEXTS)
class SARSA(QLearning):
    """SARSA, on-policy: *q(s, a) += alpha (r + gamma q(s', a') - q(s, a))*, a' being the action that is taken next.

    Rummery and Niranjan (1994); Sutton and Barto (2018), section 6.4.

    Parameters
    ----------
    {environment}
    {exploration}
    {run}

    {raises}

    Examples
    --------
    >>> import gymnasium
    >>> from fastdl import rl
    >>> table = rl.tabular.Table.from_gymnasium(gymnasium.make("CliffWalking-v1"))
    >>> agent = rl.SARSA(table, alpha=0.5, gamma=1.0, epsilon=rl.Exponential(0.1, 1e-9, 0.99, per="episode"), seed=0)
    >>> float(agent.train(episodes=3000).returns[-1])  # far from the cliff, as exploring has taught
    -17.0
    """

    target = rules.SAMPLED


@doc(TEXTS)
class ExpectedSARSA(QLearning):
    """Expected SARSA: *q(s, a) += alpha (r + gamma sum_a' pi(a' | s') q(s', a') - q(s, a))*, pi being the behaviour.

    Van Seijen, van Hasselt, Whiteson and Wiering (2009); Sutton and Barto (2018), section 6.6.

    Parameters
    ----------
    {environment}
    {exploration}
    {run}

    {raises}

    Examples
    --------
    >>> import gymnasium
    >>> from fastdl import rl
    >>> table = rl.tabular.Table.from_gymnasium(gymnasium.make("CliffWalking-v1"))
    >>> agent = rl.ExpectedSARSA(table, alpha=1.0, gamma=1.0, epsilon=0.1, seed=0)
    >>> agent.train(episodes=100).lengths.shape
    (100,)
    """

    target = rules.EXPECTED


@doc(TEXTS)
class DoubleQLearning(QLearning):
    """Double Q-learning: of two estimates one is moved, at random, toward what the other says of its best action.

    Actions are chosen by the sum of both. Van Hasselt (2010); Sutton and Barto (2018), section 6.7.

    Parameters
    ----------
    {environment}
    {exploration}
    {run}

    {raises}

    Examples
    --------
    >>> import gymnasium
    >>> from fastdl import rl
    >>> table = rl.tabular.Table.from_gymnasium(gymnasium.make("CliffWalking-v1"))
    >>> agent = rl.DoubleQLearning(table, alpha=0.5, gamma=1.0, epsilon=0.1, seed=0)
    >>> agent.train(episodes=1000).returns.size, agent.predict(36)  # from the start, up
    (1000, 0)
    """

    method = rules.DOUBLE


@doc(TEXTS)
class NStepSARSA(Control):
    """SARSA toward the return of n steps: *r_1 + gamma r_2 + ... + gamma^n q(s_n, a_n)*.

    Sutton and Barto (2018), section 7.2.

    Parameters
    ----------
    {environment}
    n : int
        How many steps.
    {exploration}
    {run}

    {raises}

    Examples
    --------
    >>> import gymnasium
    >>> from fastdl import rl
    >>> table = rl.tabular.Table.from_gymnasium(gymnasium.make("CliffWalking-v1"))
    >>> agent = rl.NStepSARSA(table, n=4, alpha=0.2, gamma=1.0, epsilon=0.1, seed=0)
    >>> agent.train(steps=10_000).truncated.any()
    np.False_
    """

    method = rules.N_STEP

    def __init__(
        self,
        environment: Any,
        *,
        n: int = 4,
        alpha: Number = 0.1,
        gamma: float = 0.99,
        epsilon: Number | None = None,
        temperature: Number | None = None,
        q: Any = 0.0,
        max_steps: int | None = None,
        seed: int | None = None,
    ) -> None:
        self._learn_control(
            environment, q, epsilon, temperature, n=n, alpha=alpha, gamma=gamma, max_steps=max_steps, seed=seed
        )


@doc(TEXTS)
class NStepExpectedSARSA(NStepSARSA):
    """n-step SARSA whose last state counts with its average action: *... + gamma^n sum_a pi(a | s_n) q(s_n, a)*.

    Sutton and Barto (2018), section 7.2, equation 7.7.

    Parameters
    ----------
    {environment}
    n : int
        How many steps.
    {exploration}
    {run}

    {raises}

    Examples
    --------
    >>> import gymnasium
    >>> from fastdl import rl
    >>> table = rl.tabular.Table.from_gymnasium(gymnasium.make("CliffWalking-v1"))
    >>> agent = rl.NStepExpectedSARSA(table, n=4, alpha=0.2, gamma=1.0, epsilon=0.1, seed=0)
    >>> agent.train(steps=10_000).truncated.any()
    np.False_
    """

    target = rules.EXPECTED


@doc(TEXTS)
class MonteCarloControl(Control):
    """Every visit of a pair toward the return that followed it, at the end of the episode.

    On-policy, for policies that explore; an episode that is cut off counts with the value of its last pair.
    Sutton and Barto (2018), section 5.4.

    Parameters
    ----------
    {environment}
    {exploration}
    {run}

    {raises}

    Examples
    --------
    >>> import gymnasium
    >>> from fastdl import rl
    >>> agent = rl.MonteCarloControl(gymnasium.make("Blackjack-v1"), alpha=rl.InverseVisits(), max_steps=100, seed=0)
    >>> agent.train(episodes=2000).returns.size, agent.predict((21, 10, 0))  # no more cards
    (2000, 0)
    """

    method = rules.N_STEP

    def __init__(
        self,
        environment: Any,
        *,
        alpha: Number = 0.1,
        gamma: float = 1.0,
        epsilon: Number | None = None,
        temperature: Number | None = None,
        q: Any = 0.0,
        max_steps: int | None = None,
        seed: int | None = None,
    ) -> None:
        settings = {"alpha": alpha, "gamma": gamma, "max_steps": max_steps, "seed": seed}
        self._learn_control(environment, q, epsilon, temperature, **settings, n=None)
        del self._arguments["n"]


TRACES = """
    lambda_ : float
        How fast eligibility fades: by *gamma lambda* a step, from 0 (one-step) to 1 (Monte Carlo).
    traces : {"accumulating", "replacing"}
        Whether another visit of a pair adds 1 to its eligibility, or sets it to 1. Below 1e-12 it is 0."""


@doc(TEXTS, traces=TRACES)
class SARSALambda(Control):
    """SARSA(lambda): every step moves all pairs that are eligible for it.

    Rummery and Niranjan (1994); Singh and Sutton (1996), replacing traces; Sutton and Barto (2018), section 12.7.

    Parameters
    ----------
    {environment}
    {traces}
    {exploration}
    {run}

    {raises}

    Examples
    --------
    >>> import gymnasium
    >>> from fastdl import rl
    >>> table = rl.tabular.Table.from_gymnasium(gymnasium.make("CliffWalking-v1"))
    >>> agent = rl.SARSALambda(table, lambda_=0.8, traces="replacing", gamma=1.0, seed=0)
    >>> agent.train(steps=10_000).truncated.any()
    np.False_
    """

    method = rules.TRACES

    def __init__(
        self,
        environment: Any,
        *,
        lambda_: float = 0.9,
        traces: str = "accumulating",
        alpha: Number = 0.1,
        gamma: float = 0.99,
        epsilon: Number | None = None,
        temperature: Number | None = None,
        q: Any = 0.0,
        max_steps: int | None = None,
        seed: int | None = None,
    ) -> None:
        settings = {"alpha": alpha, "gamma": gamma, "max_steps": max_steps, "seed": seed, "lambda_": lambda_}
        self._learn_control(environment, q, epsilon, temperature, **settings, replacing=replacing(traces))
        self._arguments["traces"] = traces


@doc(TEXTS, traces=TRACES)
class QLambda(SARSALambda):
    """Watkins's Q(lambda): Q-learning with traces, which are forgotten when an action is taken that is not a best one.

    Watkins (1989); Sutton and Barto (2018), section 12.10.

    Parameters
    ----------
    {environment}
    {traces}
    {exploration}
    {run}

    {raises}

    Examples
    --------
    >>> import gymnasium
    >>> from fastdl import rl
    >>> table = rl.tabular.Table.from_gymnasium(gymnasium.make("CliffWalking-v1"))
    >>> agent = rl.QLambda(table, lambda_=0.8, gamma=1.0, seed=0)
    >>> agent.train(episodes=1000).returns.size, agent.predict(36)  # from the start, up
    (1000, 0)
    """

    target = rules.GREEDY


@doc(TEXTS)
class DynaQ(Control):
    """Dyna-Q: Q-learning, and as much again from steps that a model of the environment remembers.

    The model holds what a pair led to last. With a bonus it is Dyna-Q+, which tries again what it has not tried for
    long. Sutton (1990); Sutton and Barto (2018), sections 8.2 and 8.3.

    Parameters
    ----------
    {environment}
    planning_steps : int
        How many steps of the model a step of the environment is followed by.
    bonus : float
        Of *kappa*: a pair not tried for *tau* steps pays *kappa sqrt(tau)* more in planning; actions never tried, of
        states that have been visited, are thought to lead nowhere and pay nothing else.
    {exploration}
    {run}

    {raises}

    Examples
    --------
    >>> import gymnasium
    >>> from fastdl import rl
    >>> table = rl.tabular.Table.from_gymnasium(gymnasium.make("CliffWalking-v1"))
    >>> agent = rl.DynaQ(table, planning_steps=20, alpha=0.5, gamma=1.0, seed=0)
    >>> agent.train(episodes=100).returns.size, float(agent.q[36].max())
    (100, -13.0)
    """

    method = rules.PLANNING
    target = rules.GREEDY

    def __init__(
        self,
        environment: Any,
        *,
        planning_steps: int = 10,
        bonus: float = 0.0,
        alpha: Number = 0.1,
        gamma: float = 0.99,
        epsilon: Number | None = None,
        temperature: Number | None = None,
        q: Any = 0.0,
        max_steps: int | None = None,
        seed: int | None = None,
    ) -> None:
        settings = {"alpha": alpha, "gamma": gamma, "max_steps": max_steps, "seed": seed}
        settings |= {"planning_steps": planning_steps, "bonus": bonus}
        self._learn_control(environment, q, epsilon, temperature, **settings)


def replacing(traces: str) -> bool:
    """Whether traces are replaced."""
    if traces not in ("accumulating", "replacing"):
        raise ValueError(f"traces: found {traces!r}, expected 'accumulating' or 'replacing'")
    return traces == "replacing"
