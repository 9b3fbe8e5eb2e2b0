"""REINFORCE: the policy gradient of whole episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import fastdl
from fastdl import nn, optim, record
from fastdl._docs import doc
from fastdl.rl._numba import borrowing, compiled
from fastdl.rl.agents import _collect
from fastdl.rl.agents._agent import described, options_of
from fastdl.rl.agents._collect import copy
from fastdl.rl.agents._gymnasium import GymnasiumWorlds
from fastdl.rl.agents._on_policy import OnPolicy
from fastdl.rl.agents._options import SHARED

Array = np.ndarray[Any, Any]

__all__ = ["REINFORCE"]


@compiled
def _line_up(steps: Any, gamma: float, observations: Any, actions: Any, returns: Any) -> None:
    """Copy the steps of N episodes one behind the other, and what is to come after each of them; of a truncated episode
    that is what the baseline expects."""
    begin = 0
    for i in range(steps.done.shape[1]):
        ended, t = False, 0
        while not ended:
            ended = steps.done[t, i]
            copy(steps.observations[t, i], observations[begin + t])
            actions[begin + t] = steps.actions[t, i]
            t += 1
        coming = 0.0 if steps.terminated[t - 1, i] else np.float64(steps.next_values[t - 1, i])
        for back in range(t):
            coming = steps.rewards[t - 1 - back, i] + gamma * coming
            returns[begin + t - 1 - back] = coming
        begin += t


@borrowing
def _weigh(
    n: int,
    returns: Any,
    values: Any,
    baseline: bool,
    normalize: bool,
    entropy_weight: float,
    value_weight: float,
    advantages: Any,
    of_entropy: Any,
    of_value: Any,
) -> Any:
    """Write advantages, and what gradients are multiplied by, of the first n rows, and zeros after; the mean squared
    advantage. A mean over all rows is then one over n."""
    mean = squares = 0.0
    for i in range(n):
        advantage = returns[i] - values[i] if baseline else returns[i]
        mean += advantage
        squares += advantage * advantage
    mean, squares = mean / n, squares / n
    shift = mean if normalize else 0.0
    factor = 1.0 / (max(squares - mean * mean, 0.0) ** 0.5 + 1e-8) if normalize else 1.0
    rows = advantages.shape[0]
    for i in range(rows):
        if i < n:
            advantage = returns[i] - values[i] if baseline else returns[i]
            advantages[i] = (advantage - shift) * factor * rows / n
            of_entropy[i] = -entropy_weight / n
            of_value[i] = value_weight / n
        else:
            advantages[i] = of_entropy[i] = of_value[i] = 0.0
    return squares


@doc(SHARED)
class REINFORCE(OnPolicy):
    """REINFORCE with a baseline (Williams 1992; Sutton and Barto 2018, section 13.4).

    ::

        loss = -mean((G - value) * log_prob) - entropy_weight * mean(entropy) + value_weight * mean((value - G)^2)

    over the steps of whole episodes, where ``G`` is the discounted return from a step on. An episode that was cut off
    goes on, for ``G``, with what the baseline expects.

    Parameters
    ----------
    {environment}
        Its episodes have a bound (`max_steps`).
    {networks}
    episodes : int
        How many an update is made of; so many run at once.
    gamma : float
        The discount.
    baseline : bool
        Whether a value function is learned and taken off the returns.
    {learning}
    normalize_observations, normalize_advantages : bool
        By running mean and deviation; over the episodes of an update.
    initial_std : float
        Of continuous actions, in units of half their range.
    seed : int, optional
        The same seed gives the same agent, on any number of threads.

    Raises
    ------
    ValueError, TypeError
        For an option out of its range, an environment that `Environment.check` refuses, a network of other shapes.

    Examples
    --------
    >>> from fastdl import rl
    >>> agent = rl.REINFORCE(rl.make("CartPole-v1"), seed=0)
    >>> history = agent.train(300_000, target=475.0)
    >>> bool(agent.evaluate(100).mean() >= 475.0)
    True
    """

    def __init__(
        self,
        environment: Any,
        *,
        hidden: Sequence[int] = (64,),
        activation: str = "tanh",
        policy: nn.Module | None = None,
        value: nn.Module | None = None,
        dtype: Any = np.float32,
        episodes: int = 8,
        gamma: float = 0.99,
        baseline: bool = True,
        lr: float = 5e-3,
        anneal: bool = False,
        entropy_weight: float = 0.0,
        value_weight: float = 0.5,
        max_norm: float | None = 0.5,
        normalize_observations: bool = False,
        normalize_advantages: bool = True,
        initial_std: float = 1.0,
        seed: int | None = None,
    ) -> None:
        options = options_of(locals())
        environment = described(environment, options)
        episodes = options["episodes"]
        if environment.max_steps is None:
            raise ValueError(f"environment: found {environment}, expected max_steps: episodes have to end")
        outputs = environment.n_actions or environment.action_size
        super().__init__(environment, options, {"policy": (policy, outputs, 0.01), "value": (value, 1, 1.0)})
        self.worlds = _collect.worlds_of(environment, episodes, self._seeds["worlds"])
        self.optimizer = optim.Adam(self.parameters.named, lr=lr, eps=1e-5)
        self.rollout = _collect.steps_of(environment, environment.max_steps, episodes, self.dtype)
        self._episodes = _collect.episodes_of(episodes)
        self._scratch = _collect.scratch_of(environment, episodes, outputs, self.dtype)
        self._of_entropy = np.full(environment.action_size, -entropy_weight, self.dtype)
        self._updates: dict[int, tuple[Any, tuple[Array, ...]]] = {}

    def _collect(self) -> None:
        environment, steps, n = self.environment, self.rollout, len(self.worlds.lengths)
        policy, baseline = self.bound("policy", n), self.options["baseline"]
        critic = self.bound("value", n) if baseline else None
        self._episodes.ended[0] = 0
        if isinstance(environment, GymnasiumWorlds):
            seed = None if self._started[0] else self.vector_seed
            environment.start(self.worlds, self.scale, steps.observations[0], seed)
            self._started[0] = 1
            made, status = environment.collect(
                policy, critic, self.worlds, self.scale, self.log_std, steps, self._episodes, once=True
            )
        else:
            reset, step = environment.addresses
            made, status = _collect.collect(
                policy.code, critic.code if critic else 0, reset, step, environment.max_steps, True, True, False,
                self.worlds, self.scale, self.log_std, steps, self._episodes, self._scratch,
            )  # fmt: skip
        self.refuse(status, self.steps + made * n)
        if self._episodes.ended[0] < n:
            raise ValueError(f"environment: found an episode of more than {made} steps, expected max_steps to hold")

    def _learn(self) -> dict[str, float]:
        options, steps = self.options, self.rollout
        n = int(self._episodes.lengths.sum())
        rows = _rounded(n)
        update, memory = self._update_of(rows)
        observations, actions, returns, *weights = memory
        if not options["baseline"]:
            steps.next_values[...] = 0
        _line_up(steps, options["gamma"], observations, actions, returns)
        values = self.bound("value", rows)(observations).reshape(-1) if options["baseline"] else returns
        squares = _weigh(
            n, returns, values, options["baseline"], options["normalize_advantages"], options["entropy_weight"],
            options["value_weight"], *weights,
        )  # fmt: skip
        loss = update(*memory)
        self.steps += n
        _collect.rescale(self.scale)
        return {"policy": float(loss), "value": float(squares)}

    def _update_of(self, rows: int) -> tuple[Any, tuple[Array, ...]]:
        """The program of an update by so many rows, and memory for what it takes."""
        if rows not in self._updates:
            size, actions = self.environment.observation_size, self.rollout.actions
            memory = (
                np.zeros((rows, size), self.dtype),
                np.zeros((rows, *actions.shape[2:]), actions.dtype),
                *(np.zeros(rows, self.dtype) for _ in range(4)),
            )
            self._updates[rows] = record(self._update, *memory, verify=False), memory
        return self._updates[rows]

    def _update(
        self, observation: Array, action: Array, returns: Array, advantage: Array, of_entropy: Array, of_value: Array
    ) -> Array:
        policy, value, log_std = self.networks["policy"], self.networks["value"], self.log_std
        grads: dict[str, Array] = {}
        output = policy(observation)
        if log_std is None:
            loss = fastdl.categorical_policy_loss(output, action, advantage)
            grad = fastdl.categorical_policy_loss_backward(1.0, output, action, advantage)
            if self.options["entropy_weight"]:
                grad = fastdl.add(grad, fastdl.categorical_entropy_backward(of_entropy, output))
        else:
            loss = fastdl.normal_policy_loss(output, log_std, action, advantage)
            found = fastdl.normal_policy_loss_backward(1.0, output, log_std, action, advantage)
            grad, grads["log_std"] = found.mean, found.log_std
            if self.options["entropy_weight"]:  # the entropy is the sum of log_std, but for a constant
                grads["log_std"] = fastdl.add(found.log_std, self._of_entropy)
        policy.backward(grad, input_grad=False)
        grads |= {f"policy.{name}": array for name, array in policy.grads.items()}
        if self.options["baseline"]:
            expected = value(observation).reshape(-1)
            grad = fastdl.mse_loss_backward(of_value, expected, returns, reduction="none")
            value.backward(grad.reshape(-1, 1), input_grad=False)
            grads |= {f"value.{name}": array for name, array in value.grads.items()}
        self.optimizer.step(grads, max_norm=self.options["max_norm"])
        return loss


def _rounded(n: int) -> int:
    """So many rows or up to a quarter more, of few different sizes: there is a program to record for each."""
    size = 64
    while size < n:
        size += max(64, 1 << size.bit_length() - 3)
    return size
