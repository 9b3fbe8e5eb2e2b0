"""Reinforcement learning in compiled loops: `pip install "fastdl[rl]"`.

Markov decision processes and how they are solved (`mdp`), tabular control and prediction (`tabular`), environments that
compiled code steps (`envs`, or a user's own: `Environment`), and agents whose policies are networks (`agents`).
docs/rl.md shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastdl.rl import mdp as mdp
from fastdl.rl.mdp import *
from fastdl.rl.plot import learning_curve as learning_curve

if TYPE_CHECKING:
    from fastdl.rl import agents as agents
    from fastdl.rl import envs as envs
    from fastdl.rl import random as random
    from fastdl.rl import tabular as tabular
    from fastdl.rl.agents import A2C as A2C
    from fastdl.rl.agents import DQN as DQN
    from fastdl.rl.agents import PPO as PPO
    from fastdl.rl.agents import REINFORCE as REINFORCE
    from fastdl.rl.agents import DivergedError as DivergedError
    from fastdl.rl.agents import History as History
    from fastdl.rl.agents import evaluate as evaluate
    from fastdl.rl.environment import *
    from fastdl.rl.envs import animate as animate
    from fastdl.rl.envs import make as make
    from fastdl.rl.tabular import *
else:
    # What is compiled is imported when it is first used, and Numba with it.
    _LATER = {
        name: module
        for module, names in {
            "": "agents envs random tabular",
            ".agents": "A2C DQN PPO REINFORCE DivergedError History evaluate",
            ".environment": "Environment",
            ".envs": "animate make",
            ".tabular": """SARSA TD Constant DoubleQLearning DynaQ ExpectedSARSA Exponential InverseVisits Linear
                MonteCarloControl MonteCarloPrediction NStepExpectedSARSA NStepSARSA NStepTD QLambda QLearning
                SARSALambda TDLambda Table""",
        }.items()
        for name in names.split()
    }
    __all__ = sorted({"mdp", "learning_curve", *mdp.__all__, *_LATER})

    def __getattr__(name):
        from importlib import import_module

        if name not in _LATER:
            raise AttributeError(f"module 'fastdl.rl' has no attribute {name!r}")
        module = _LATER[name]
        found = getattr(import_module(f"fastdl.rl{module}"), name) if module else import_module(f"fastdl.rl.{name}")
        globals()[name] = found
        return found

    def __dir__():
        return sorted({*globals(), *_LATER})
