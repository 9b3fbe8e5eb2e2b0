"""Reinforcement learning: Markov decision processes and how they are solved."""

from fastdl.rl.mdp import *
from fastdl.rl.mdp import __all__ as __all__
