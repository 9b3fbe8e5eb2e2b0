"""Agents that learn from what their policy has just done, and then forget it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from fastdl.rl.agents import _collect
from fastdl.rl.agents._agent import Agent, Clock
from fastdl.rl.agents.history import History

__all__ = ["OnPolicy"]


class OnPolicy(Agent):
    """Collects steps by its policy, learns from them, and so on."""

    _episodes: _collect.Episodes

    def train(
        self, steps: int, *, target: float | None = None, callback: Callable[[Any, History], Any] | None = None
    ) -> History:
        """Learn for some steps more.

        Parameters
        ----------
        steps : int
            Of all environments together; rounded up to whole iterations: ``n_envs * n_steps``, or whole episodes of
            REINFORCE.
        target : float, optional
            Stop where the mean return of 100 episodes with the best actions reaches it (`evaluate`), which is looked at
            now and then, from where the last 20 episodes of training come within half of it.
        callback : callable, optional
            Called as ``callback(agent, history)`` after each iteration, with the episodes of that iteration; training
            ends where it returns True.

        Returns
        -------
        History

        Raises
        ------
        DivergedError
            Where a parameter, an observation or a reward is not finite; the agent has its last good parameters.
        """
        begin, end = self.check_steps(steps, target)
        clock = Clock()
        with self.learning():
            while self.steps < end:
                if self.options["anneal"]:
                    self.optimizer.lr = self.options["lr"] * (end - self.steps) / (end - begin)
                self._collect()
                losses = self._learn()
                if self.noted(clock, self._episodes, losses, target, callback):
                    break
        return clock.finished()

    @abstractmethod
    def _collect(self) -> None:
        """Take the steps of an iteration."""

    @abstractmethod
    def _learn(self) -> dict[str, float]:
        """Improve the networks by them, and count them; the losses."""
