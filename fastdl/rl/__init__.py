"""Reinforcement learning in compiled loops: `pip install "fastdl[rl]"`."""

from __future__ import annotations

from fastdl.rl import agents, envs, random
from fastdl.rl.agents import A2C, DQN, PPO, REINFORCE, DivergedError, History, evaluate
from fastdl.rl.environment import Environment
from fastdl.rl.envs import animate, make
from fastdl.rl.plot import learning_curve

__all__ = [
    "A2C",
    "DQN",
    "PPO",
    "REINFORCE",
    "DivergedError",
    "Environment",
    "History",
    "agents",
    "animate",
    "envs",
    "evaluate",
    "learning_curve",
    "make",
    "random",
]
