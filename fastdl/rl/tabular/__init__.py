"""Control and prediction with a table of values, in compiled loops.

An agent learns on a `Table` of transitions, on an `fastdl.rl.MDP`, of which one is made, on an `fastdl.rl.Environment`,
or on an environment of Gymnasium's that Python steps. What it does in a step is written once (`rules`), and so is each
of the three loops around it (`loops`).
"""

from __future__ import annotations

from fastdl.rl.tabular.control import (
    SARSA,
    DoubleQLearning,
    DynaQ,
    ExpectedSARSA,
    MonteCarloControl,
    NStepExpectedSARSA,
    NStepSARSA,
    QLambda,
    QLearning,
    SARSALambda,
)
from fastdl.rl.tabular.prediction import TD, MonteCarloPrediction, NStepTD, TDLambda
from fastdl.rl.tabular.schedules import Constant, Exponential, InverseVisits, Linear
from fastdl.rl.tabular.table import Table

__all__ = [
    "SARSA",
    "TD",
    "Constant",
    "DoubleQLearning",
    "DynaQ",
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
    "Table",
]
