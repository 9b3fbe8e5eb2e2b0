"""Advantage actor-critic methods: a policy and a value function, from steps of several environments at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import fastdl
from fastdl import nn, optim, record
from fastdl._docs import doc
from fastdl.rl._numba import compiled
from fastdl.rl.agents import _collect
from fastdl.rl.agents._agent import described
from fastdl.rl.agents._gymnasium import GymnasiumWorlds
from fastdl.rl.agents._on_policy import OnPolicy
from fastdl.rl.agents._options import SHARED

Array = np.ndarray[Any, Any]

__all__ = ["A2C", "PPO", "ActorCritic"]


@compiled
def _normalize(x: Any) -> None:
    """To a mean of 0 and a standard deviation of 1, in place."""
    n = x.size
    flat = x.reshape(n)
    mean = 0.0
    for i in range(n):
        mean += flat[i]
    mean /= n
    squares = 0.0
    for i in range(n):
        squares += (flat[i] - mean) ** 2
    factor = 1.0 / ((squares / n) ** 0.5 + 1e-8)
    for i in range(n):
        flat[i] = (flat[i] - mean) * factor


class ActorCritic(OnPolicy):
    """What A2C and PPO share: T steps of N environments, advantages, updates by a recorded program."""

    def __init__(self, environment: Any, options: dict[str, Any], policy: Any, value: Any) -> None:
        environment = described(environment, options)
        outputs = environment.n_actions or environment.action_size
        super().__init__(environment, options, {"policy": (policy, outputs, 0.01), "value": (value, 1, 1.0)})
        t, n = options["n_steps"], options["n_envs"]
        self.worlds = _collect.worlds_of(self.environment, n, self._seeds["worlds"])
        self.rollout = _collect.steps_of(self.environment, t, n, self.dtype)
        self.running = np.zeros(n)
        self.reward_moments = np.zeros(3)
        self.optimizer = self._optimizer()
        self._episodes = _collect.episodes_of(t * n)
        self._scratch = _collect.scratch_of(self.environment, n, outputs, self.dtype)
        self._update: Any = None

    def _optimizer(self) -> optim.Optimizer:
        return optim.Adam(self.parameters.named, lr=self.options["lr"], eps=1e-5)

    def _state(self) -> dict[str, Array]:
        return super()._state() | {
            "running": self.running,
            "reward_moments": self.reward_moments,
            "first": self.rollout.observations[0],
        }

    def _collect(self) -> None:
        """Take T steps in each environment."""
        environment, steps, n = self.environment, self.rollout, self.options["n_envs"]
        policy, critic = self.bound("policy", n), self.bound("value", n)
        if isinstance(environment, GymnasiumWorlds):
            if not self._started[0]:
                seed = self.vector_seed
                environment.start(self.worlds, self.scale, steps.observations[0], seed)
            made, status = environment.collect(
                policy, critic, self.worlds, self.scale, self.log_std, steps, self._episodes
            )
        else:
            reset, step = environment.addresses
            made, status = _collect.collect(
                policy.code, critic.code, reset, step, environment.max_steps or 0, not self._started[0], False, False,
                self.worlds, self.scale, self.log_std, steps, self._episodes, self._scratch,
            )  # fmt: skip
        self._started[0] = 1
        self.refuse(status, self.steps + made * n)

    def _learn(self) -> dict[str, float]:
        options, steps = self.options, self.rollout
        n = options["n_envs"]
        if options["normalize_rewards"]:
            _collect.scale_rewards(steps, options["gamma"], self.reward_moments, self.running)
        rows = steps.observations.shape[0] * n
        values = self.bound("value", rows)(steps.observations.reshape(rows, -1)).reshape(-1, n)
        _collect.prepare(values, steps)
        advantage, value_target = fastdl.gae(
            steps.rewards, values[:-1], steps.next_values, steps.terminated, steps.done,
            gamma=options["gamma"], lmbda=options["lmbda"],
        )  # fmt: skip
        if options["normalize_advantages"]:
            _normalize(advantage)
        size = advantage.size
        losses = self._improve(
            steps.observations[:-1].reshape(size, -1), steps.actions.reshape(size, *steps.actions.shape[2:]),
            steps.log_probs.reshape(size), advantage.reshape(size), value_target.reshape(size),
        )  # fmt: skip
        self.steps += size
        # What is observed next is normalised as what was learned from, until here.
        _collect.rescale(self.scale)
        steps.observations[0] = steps.observations[-1]
        if self.scale.normalize[0]:
            for raw, out in zip(self.worlds.observations, steps.observations[0], strict=True):
                _collect.normalise(raw, self.scale, out)
        return losses

    def _improve(self, *batch: Array) -> dict[str, float]:
        """Update the networks by (observations, actions, log_probs, advantages, value_targets)."""
        raise NotImplementedError

    def _recorded(self, rows: int, clip: float | None) -> Any:
        """The program of an update by so many rows."""
        policy, value = self.networks["policy"], self.networks["value"]
        options, log_std = self.options, self.log_std
        entropy, weight, max_norm = options["entropy_weight"], options["value_weight"], options["max_norm"]

        def update(observation: Array, action: Array, log_prob: Array, advantage: Array, target: Array) -> Any:
            old = log_prob if clip is not None else None
            grads: dict[str, Array] = {}
            output = policy(observation)
            if log_std is None:
                loss = fastdl.categorical_policy_loss(output, action, advantage, old, clip=clip, entropy_weight=entropy)
                grad = fastdl.categorical_policy_loss_backward(
                    1.0, output, action, advantage, old, clip=clip, entropy_weight=entropy
                )
            else:
                given = output, log_std, action, advantage, old
                loss = fastdl.normal_policy_loss(*given, clip=clip, entropy_weight=entropy)
                grad, grads["log_std"] = fastdl.normal_policy_loss_backward(
                    1.0, *given, clip=clip, entropy_weight=entropy
                )
            policy.backward(grad, input_grad=False)
            found = value(observation).reshape(-1)
            value_loss = fastdl.mse_loss(found, target)
            value.backward(fastdl.mse_loss_backward(weight, found, target).reshape(-1, 1), input_grad=False)
            for prefix, network in (("policy", policy), ("value", value)):
                grads |= {f"{prefix}.{name}": array for name, array in network.grads.items()}
            self.optimizer.step(grads, max_norm=max_norm)
            return loss, value_loss

        steps = self.rollout
        examples = (
            np.zeros((rows, steps.observations.shape[2]), self.dtype),
            np.zeros((rows, *steps.actions.shape[2:]), steps.actions.dtype),
            *(np.zeros(rows, self.dtype) for _ in range(3)),
        )
        return record(update, *examples, verify=False)


@doc(SHARED)
class PPO(ActorCritic):
    """Proximal policy optimization, clipped (Schulman et al. 2017).

    ::

        ratio = exp(log_prob - old_log_prob)
        loss = -mean(min(ratio * A, clamp(ratio, 1 - clip, 1 + clip) * A))
               - entropy_weight * mean(entropy) + value_weight * mean((value - target)^2)

    Continuous actions are drawn from a normal distribution whose deviations are parameters.

    Parameters
    ----------
    {environment}
    {networks}
    {steps}
    epochs, batch_size : int
        How often an iteration's steps are learned from, in another order each time, and by how many at once.
    clip : float
        How far the ratio may go from 1.
    {learning}
    {normalization}

    Raises
    ------
    ValueError, TypeError
        For an option out of its range, an environment that `Environment.check` refuses, a network of other shapes.

    Examples
    --------
    >>> from fastdl import rl
    >>> agent = rl.PPO(rl.make("CartPole-v1"), seed=0)
    >>> history = agent.train(200_000, target=475.0)
    >>> bool(agent.evaluate(100).mean() >= 475.0)
    True
    """

    def __init__(
        self,
        environment: Any,
        *,
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        policy: nn.Module | None = None,
        value: nn.Module | None = None,
        dtype: Any = np.float32,
        n_envs: int = 8,
        n_steps: int = 128,
        gamma: float = 0.99,
        lmbda: float = 0.95,
        epochs: int = 4,
        batch_size: int = 256,
        clip: float = 0.2,
        lr: float = 2.5e-3,
        anneal: bool = False,
        entropy_weight: float = 0.0,
        value_weight: float = 0.5,
        max_norm: float | None = 0.5,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        normalize_advantages: bool = True,
        initial_std: float = 1.0,
        seed: int | None = None,
    ) -> None:
        options = {
            k: v for k, v in locals().items() if k not in ("self", "environment", "policy", "value", "__class__")
        }
        super().__init__(environment, options, policy, value)
        if batch_size > self.rollout.rewards.size:
            raise ValueError(
                f"batch_size: found {batch_size}, expected at most n_envs * n_steps = {self.rollout.rewards.size}"
            )

    def _improve(self, *batch: Array) -> dict[str, float]:
        rows = self.options["batch_size"]
        if self._update is None:
            self._update = self._recorded(rows, self.options["clip"])
        losses = self._update.run_epochs(*batch, epochs=self.options["epochs"], rng=self.rng)
        return {"policy": float(losses[0].mean()), "value": float(losses[1].mean())}


@doc(SHARED)
class A2C(ActorCritic):
    """Advantage actor-critic (Mnih et al. 2016), synchronous: one update by all steps of an iteration.

    ::

        loss = -mean(A * log_prob) - entropy_weight * mean(entropy) + value_weight * mean((value - target)^2)

    Parameters
    ----------
    {environment}
    {networks}
    {steps}
    {learning}
    {normalization}

    Raises
    ------
    ValueError, TypeError
        For an option out of its range, an environment that `Environment.check` refuses, a network of other shapes.

    Examples
    --------
    >>> from fastdl import rl
    >>> agent = rl.A2C(rl.make("CartPole-v1"), seed=0)
    >>> history = agent.train(10_000)
    >>> agent.predict([0.0, 0.1, 0.0, 0.1]) in (0, 1)
    True
    """

    def __init__(
        self,
        environment: Any,
        *,
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        policy: nn.Module | None = None,
        value: nn.Module | None = None,
        dtype: Any = np.float32,
        n_envs: int = 8,
        n_steps: int = 16,
        gamma: float = 0.99,
        lmbda: float = 1.0,
        lr: float = 2e-3,
        anneal: bool = False,
        entropy_weight: float = 0.0,
        value_weight: float = 0.5,
        max_norm: float | None = 0.5,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        normalize_advantages: bool = False,
        initial_std: float = 1.0,
        seed: int | None = None,
    ) -> None:
        options = {
            k: v for k, v in locals().items() if k not in ("self", "environment", "policy", "value", "__class__")
        }
        super().__init__(environment, options, policy, value)

    def _improve(self, *batch: Array) -> dict[str, float]:
        if self._update is None:
            self._update = self._recorded(self.rollout.rewards.size, None)
        policy, value = self._update(*batch)
        return {"policy": float(policy), "value": float(value)}
