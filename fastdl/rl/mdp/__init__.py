"""Markov decision processes that are known: the model, its solvers, its pictures.

`MDP` is the model. `value_iteration`, `policy_iteration`, `modified_policy_iteration` and `prioritized_sweeping` find
an optimal policy and say how far from the optimum it can be; `backward_induction` does so for a finite horizon;
`evaluate_policy` and `occupancy_measure` say what a policy is worth and where it goes. docs/mdp.md shows them.

The loops are in kernels/, written in Numba, which is imported when the first of them runs.
"""

from fastdl.rl.mdp._draw import draw
from fastdl.rl.mdp._evaluation import action_values, evaluate_policy, greedy_policy, occupancy_measure
from fastdl.rl.mdp._model import MDP
from fastdl.rl.mdp._simulation import Episode
from fastdl.rl.mdp._solution import FiniteHorizonSolution, Solution
from fastdl.rl.mdp._solvers import backward_induction, modified_policy_iteration, policy_iteration, value_iteration
from fastdl.rl.mdp._sweeping import prioritized_sweeping

__all__ = [
    "MDP",
    "Episode",
    "FiniteHorizonSolution",
    "Solution",
    "action_values",
    "backward_induction",
    "draw",
    "evaluate_policy",
    "greedy_policy",
    "modified_policy_iteration",
    "occupancy_measure",
    "policy_iteration",
    "prioritized_sweeping",
    "value_iteration",
]
