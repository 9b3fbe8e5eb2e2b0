"""Reinforcement learning in compiled loops: `pip install "fastdl[rl]"`.

Markov decision processes and how they are solved (`mdp`), tabular control and prediction (`tabular`), environments that
compiled code steps (`envs`, or a user's own: `Environment`), and agents whose policies are networks (`agents`)."""

from __future__ import annotations

from fastdl.rl import agents, envs, mdp, random, tabular
from fastdl.rl.agents import A2C, DQN, PPO, REINFORCE, DivergedError, History, evaluate
from fastdl.rl.environment import Environment
from fastdl.rl.envs import animate, make
from fastdl.rl.mdp import *
from fastdl.rl.plot import learning_curve
from fastdl.rl.tabular import *

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
    "mdp",
    "random",
    "tabular",
    *mdp.__all__,
    *tabular.__all__,
]
