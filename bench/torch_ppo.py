"""Proximal policy optimization as one writes it with torch and Gymnasium: what fastdl.rl.PPO is compared with.

The same method and options, with the same networks, normalisations and order of updates; plain torch, eager."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode

Array = np.ndarray[Any, Any]


def _mlp(sizes: list[int], gain: float, activation: str) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        layer = torch.nn.Linear(inputs, outputs)
        torch.nn.init.orthogonal_(layer.weight, gain if last else {"tanh": 5 / 3, "relu": 2**0.5}[activation])
        torch.nn.init.zeros_(layer.bias)
        layers += [layer] if last else [layer, {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[activation]()]
    return torch.nn.Sequential(*layers)


class TorchPPO:
    """Options as fastdl.rl.PPO has them."""

    def __init__(
        self,
        environment: str,
        *,
        activation: str = "tanh",
        n_envs: int = 8,
        n_steps: int = 128,
        gamma: float = 0.99,
        lmbda: float = 0.95,
        epochs: int = 4,
        batch_size: int = 256,
        clip: float = 0.2,
        lr: float = 2.5e-3,
        value_weight: float = 0.5,
        max_norm: float = 0.5,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.name, self.seed, self.n, self.t = environment, seed, n_envs, n_steps
        self.gamma, self.lmbda, self.epochs, self.rows = gamma, lmbda, epochs, batch_size
        self.clip, self.value_weight, self.max_norm = clip, value_weight, max_norm
        same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.vector = gymnasium.make_vec(environment, n_envs, "sync", vector_kwargs=same_step)
        space = self.vector.single_action_space
        self.discrete = isinstance(space, gymnasium.spaces.Discrete)
        size = self.vector.single_observation_space.shape[0]
        outputs = int(space.n) if self.discrete else space.shape[0]
        if not self.discrete:
            self.middle, self.half = (space.high + space.low) / 2, (space.high - space.low) / 2
        self.policy, self.value = (
            _mlp([size, 64, 64, last], gain, activation) for last, gain in ((outputs, 0.01), (1, 1.0))
        )
        self.log_std = torch.nn.Parameter(torch.zeros(outputs))
        parameters = [*self.policy.parameters(), *self.value.parameters()] + [] * self.discrete
        self.parameters = parameters if self.discrete else [*parameters, self.log_std]
        self.optimizer = torch.optim.Adam(self.parameters, lr=lr, eps=1e-5)
        self.normalize = normalize_observations
        self.mean, self.squares, self.count = np.zeros(size), np.zeros(size), 0
        self.scaled = normalize_rewards
        self.moments, self.discounted = np.zeros(3), np.zeros(n_envs)
        self.returns: list[float] = []
        self.lengths: list[int] = []

    def _input(self, observation: Array) -> torch.Tensor:
        if self.normalize and self.count:
            deviation = np.sqrt(self.squares / self.count + 1e-8)
            observation = np.clip((observation - self.mean) / deviation, -10, 10)
        return torch.as_tensor(observation, dtype=torch.float32)

    def _distribution(self, x: torch.Tensor) -> Any:
        output = self.policy(x)
        if self.discrete:
            return torch.distributions.Categorical(logits=output)
        return torch.distributions.Independent(torch.distributions.Normal(output, self.log_std.exp()), 1)

    def _taken(self, action: torch.Tensor) -> Array:
        if self.discrete:
            return action.numpy()
        return (self.middle + self.half * np.clip(action.numpy(), -1, 1)).astype(np.float32)

    def train(self, steps: int) -> TorchPPO:
        raw, _ = self.vector.reset(seed=self.seed)
        running, length = np.zeros(self.n), np.zeros(self.n, np.int64)
        for _ in range(-(-steps // (self.n * self.t))):
            observations, actions, log_probs, rewards, terminations, ends, finals, seen = ([] for _ in range(8))
            now = self._input(raw)
            for _ in range(self.t):
                with torch.no_grad():
                    distribution = self._distribution(now)
                    action = distribution.sample()
                    log_prob = distribution.log_prob(action)
                raw, reward, terminated, truncated, info = self.vector.step(self._taken(action))
                done = terminated | truncated
                after = self._input(raw)
                last = raw.astype(np.float64)
                for i in np.flatnonzero(done):
                    last[i] = info["final_obs"][i]
                final = torch.zeros(self.n)
                if (truncated & ~terminated).any():
                    with torch.no_grad():
                        final = self.value(self._input(last))[:, 0]
                for group, item in (
                    (observations, now), (actions, action), (log_probs, log_prob), (finals, final), (seen, last),
                    (rewards, torch.as_tensor(self._counted(reward, done), dtype=torch.float32)),
                    (terminations, torch.as_tensor(terminated)), (ends, torch.as_tensor(done)),
                ):  # fmt: skip
                    group.append(item)
                running, length = running + reward, length + 1
                for i in np.flatnonzero(done):
                    self.returns.append(running[i]), self.lengths.append(length[i])
                    running[i], length[i] = 0, 0
                now = after
            self._learn(observations, now, actions, log_probs, rewards, terminations, ends, finals)
            self._note(np.concatenate(seen))
        return self

    def _counted(self, reward: Array, done: Array) -> Array:
        """Take rewards into the running deviation of discounted returns, by which `_learn` divides them."""
        for i in range(self.n):
            self.discounted[i] = self.discounted[i] * self.gamma + reward[i]
            self.moments[0] += 1
            apart = self.discounted[i] - self.moments[1]
            self.moments[1] += apart / self.moments[0]
            self.moments[2] += apart * (self.discounted[i] - self.moments[1])
        self.discounted[done] = 0
        return reward

    def _learn(self, observations, last, actions, log_probs, rewards, terminations, ends, finals) -> None:
        x = torch.stack(observations)
        if self.scaled:
            deviation = float(np.sqrt(self.moments[2] / self.moments[0]))
            rewards = [reward / deviation for reward in rewards]
        with torch.no_grad():
            values = self.value(torch.cat([x, last[None]]))[:, :, 0]
        advantages, running = torch.zeros(self.t, self.n), torch.zeros(self.n)
        for t in reversed(range(self.t)):
            following = torch.where(ends[t], finals[t] * ~terminations[t], values[t + 1])
            delta = rewards[t] + self.gamma * following - values[t]
            advantages[t] = running = delta + self.gamma * self.lmbda * ~ends[t] * running
        targets = (advantages + values[:-1]).flatten()
        advantages = ((advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)).flatten()
        x, old = x.flatten(0, 1), torch.stack(log_probs).flatten()
        actions = torch.stack(actions).flatten(0, 1)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(x)).split(self.rows):
                if len(rows) < self.rows:
                    continue
                distribution = self._distribution(x[rows])
                ratio = torch.exp(distribution.log_prob(actions[rows]) - old[rows])
                a = advantages[rows]
                loss = -torch.min(ratio * a, ratio.clamp(1 - self.clip, 1 + self.clip) * a).mean()
                loss = loss + self.value_weight * ((self.value(x[rows])[:, 0] - targets[rows]) ** 2).mean()
                self.optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
                self.optimizer.step()

    def _note(self, raw: Array) -> None:
        """Running moments (Chan et al. 1979)."""
        n, mean = len(raw), raw.mean(0)
        total, apart = self.count + n, mean - self.mean
        self.squares += ((raw - mean) ** 2).sum(0) + apart**2 * self.count * n / total
        self.mean, self.count = self.mean + apart * n / total, total

    def predict(self, observation: Array) -> Array:
        """Of many observations: the best actions."""
        with torch.no_grad():
            output = self.policy(self._input(observation))
        return output.argmax(1).numpy() if self.discrete else self._taken(output)
