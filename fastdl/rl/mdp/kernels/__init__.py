"""Loops over the transitions of a Markov decision process, compiled by Numba at first use and kept on disk.

All take the same arrays (see `MDP`): `state_ptr` (S + 1,), the rows of each state, which are its actions; `row_ptr`
(R + 1,), the transitions of each row; `successors` and `weights`, a state and a probability for each transition, where
the weight of one that ends the episode is 0. A kernel whose last parameters are `begin` and `end` does a part of the
work and is cut over threads by `share`.
"""

from fastdl.numba.kernels._kernel import share as share
from fastdl.rl.mdp.kernels.chains import *
from fastdl.rl.mdp.kernels.checks import *
from fastdl.rl.mdp.kernels.graphs import *
from fastdl.rl.mdp.kernels.queue import *
from fastdl.rl.mdp.kernels.sweeps import *
