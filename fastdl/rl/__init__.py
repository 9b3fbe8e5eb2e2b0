"""Reinforcement learning in compiled loops: `pip install "fastdl[rl]"`."""

from __future__ import annotations

from fastdl.rl import random, tabular
from fastdl.rl.environment import Environment
from fastdl.rl.tabular import (
    SARSA,
    TD,
    Constant,
    DoubleQLearning,
    DynaQ,
    ExpectedSARSA,
    Exponential,
    InverseVisits,
    Linear,
    MonteCarloControl,
    MonteCarloPrediction,
    NStepExpectedSARSA,
    NStepSARSA,
    NStepTD,
    QLambda,
    QLearning,
    SARSALambda,
    TDLambda,
)

__all__ = [
    "SARSA",
    "TD",
    "Constant",
    "DoubleQLearning",
    "DynaQ",
    "Environment",
    "ExpectedSARSA",
    "Exponential",
    "InverseVisits",
    "Linear",
    "MonteCarloControl",
    "MonteCarloPrediction",
    "NStepExpectedSARSA",
    "NStepSARSA",
    "NStepTD",
    "QLambda",
    "QLearning",
    "SARSALambda",
    "TDLambda",
    "random",
    "tabular",
]
