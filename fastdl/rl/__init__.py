"""Reinforcement learning in compiled loops: `pip install "fastdl[rl]"`."""

from __future__ import annotations

from fastdl.rl import envs, random
from fastdl.rl.environment import Environment
from fastdl.rl.envs import animate, make

__all__ = ["Environment", "animate", "envs", "make", "random"]
