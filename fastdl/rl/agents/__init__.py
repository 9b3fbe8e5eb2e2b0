"""Agents whose policies and values are networks: policy gradient, actor-critic, deep Q-learning."""

from __future__ import annotations

from fastdl.rl.agents._agent import Agent, evaluate
from fastdl.rl.agents.actor_critic import A2C, PPO
from fastdl.rl.agents.dqn import DQN, Dueling
from fastdl.rl.agents.history import DivergedError, History
from fastdl.rl.agents.reinforce import REINFORCE

__all__ = ["A2C", "DQN", "PPO", "REINFORCE", "Agent", "DivergedError", "Dueling", "History", "evaluate"]
