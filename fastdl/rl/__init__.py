"""Reinforcement learning in compiled loops: `pip install "fastdl[rl]"`."""

from __future__ import annotations

from fastdl.rl import random
from fastdl.rl.environment import Environment

__all__ = ["Environment", "random"]
