"""Policies as they are given, and the Markov chains that they make of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdl.rl.mdp import _forms
from fastdl.rl.mdp._lazy import kernels, share

if TYPE_CHECKING:
    from fastdl.rl.mdp._model import MDP

GRAIN = 32768
"""Transitions that are worth another thread."""


def blocks(size: int, block: int) -> int:
    return -(-size // block)


def grain(entries: int, pieces: int) -> int:
    """How many pieces are worth a thread, where all together have so many entries."""
    return max(1, GRAIN * pieces // max(1, entries))


@dataclass(frozen=True, eq=False)
class Chain:
    """A Markov chain with rewards, as a sparse matrix in CSR form; states that have ended have empty rows."""

    ptr: Any
    columns: Any
    weights: Any
    constants: Any
    """(S,) expected rewards."""
    ending: Any
    """(S,) bool, states from which the next step may be the last, or None."""

    @property
    def states(self) -> int:
        return len(self.constants)

    def sweep(self, discount: float, value: Any, out: Any, constants: Any = None) -> tuple[float, float, float]:
        """out = constants + discount * weights @ value; smallest and largest change, largest magnitude."""
        pieces = blocks(self.states, kernels.BLOCK)
        extremes = np.empty((pieces, 3))
        constants = self.constants if constants is None else constants
        arguments = (self.ptr, self.columns, self.weights, constants, discount, value, out, extremes)
        share(kernels.affine, pieces, grain(len(self.columns), pieces), *arguments)
        return extremes[:, 0].min(), extremes[:, 1].max(), extremes[:, 2].max()

    def transposed(self, constants: Any) -> Chain:
        """The chain against its arrows, which moves what is in states to where it goes."""
        begins, rows, places = kernels.transpose(self.ptr, self.columns, self.states)
        return Chain(begins, rows.astype(np.int32), self.weights[places], constants, self.ending)

    def dense(self) -> Any:
        matrix = np.zeros((self.states, self.states))
        rows = np.repeat(np.arange(self.states), np.diff(self.ptr))
        np.add.at(matrix, (rows, self.columns), self.weights)
        return matrix

    def sparse(self) -> Any:
        try:
            from scipy.sparse import csr_array
        except ImportError as error:
            raise ImportError("SciPy is not installed: pip install scipy") from error
        arrays = self.weights.copy(), self.columns.copy(), self.ptr.copy()
        matrix = csr_array(arrays, shape=(self.states, self.states))
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix

    @property
    def longest_row(self) -> int:
        return int(np.diff(self.ptr).max(initial=0))


def rows_of_policy(mdp: MDP, policy: Any) -> tuple[Any, Any]:
    """A checked policy: the row of each state, -1 where it has none, or (None and) the probability of each row."""
    array = np.asarray(policy)
    if array.ndim == 1:
        actions = _forms.integers("policy", policy)
        if actions.shape != (mdp.num_states,):
            raise ValueError(f"policy: found shape {actions.shape}, {_expected_shape(mdp)}")
        rows = np.empty(mdp.num_states, np.int64)
        wrong = kernels.find_rows(mdp._state_ptr, mdp._actions, actions, rows)
        if wrong >= 0:
            action = actions[wrong]
            if not 0 <= action < mdp.num_actions:
                raise ValueError(f"policy: found action {action} in state {wrong}, expected 0 to {mdp.num_actions - 1}")
            raise ValueError(f"policy: found action {action} in state {wrong}, expected {_those_of(mdp, wrong)}")
        return rows, None
    if array.shape != (mdp.num_states, mdp.num_actions):
        raise ValueError(f"policy: found shape {array.shape}, {_expected_shape(mdp)}")
    shares = np.zeros(len(mdp._actions))
    probabilities = _forms.real("policy", policy)
    state, action, fault = kernels.check_policy_rows(mdp._state_ptr, mdp._actions, probabilities, 1e-8, shares)
    if state >= 0:
        if fault == 4:
            total = probabilities[state].sum()
            raise ValueError(f"policy: found a sum of {total:.10g} in state {state}, expected 1")
        found = f"policy: found probability {probabilities[state, action]} at state {state}, action {action}"
        wanted = {1: "a finite number", 2: "at least 0", 5: f"0, as the state has {_those_of(mdp, state)} only"}[fault]
        raise ValueError(f"{found}, expected {wanted}")
    return None, shares


def _expected_shape(mdp: MDP) -> str:
    return f"expected ({mdp.num_states},) actions or ({mdp.num_states}, {mdp.num_actions}) probabilities"


def _those_of(mdp: MDP, state: int) -> str:
    there = mdp._actions[mdp._state_ptr[state] : mdp._state_ptr[state + 1]]
    return "its actions " + ", ".join(map(str, there[:8])) + (", ..." if len(there) > 8 else "")


def shares_of_policy(mdp: MDP, policy: Any) -> Any:
    """The probability of each row."""
    rows, shares = rows_of_policy(mdp, policy)
    if shares is None:
        shares = np.zeros(len(mdp._actions))
        shares[rows[rows >= 0]] = 1.0
    return shares


def chain_of(mdp: MDP, policy: Any) -> Chain:
    rows, shares = rows_of_policy(mdp, policy)
    return chain_of_rows(mdp, rows) if shares is None else _mixed_chain(mdp, shares)


def chain_of_rows(mdp: MDP, rows: Any) -> Chain:
    there = rows >= 0
    everywhere = bool(there.all())
    lengths = mdp._row_ptr[rows + 1] - mdp._row_ptr[rows]
    constants, ending = mdp._rewards[rows] if len(mdp._rewards) else np.zeros(len(rows)), None
    if mdp._ending is not None:
        ending = mdp._ending[rows]
    if not everywhere:
        lengths[~there], constants[~there] = 0, 0.0
        if ending is not None:
            ending &= there
    ptr = np.concatenate(([0], np.cumsum(lengths)))
    columns, weights = np.empty(ptr[-1], np.int32), np.empty(ptr[-1])
    pieces = blocks(len(rows), kernels.CHAIN_BLOCK)
    arguments = (rows, mdp._row_ptr, mdp._successors, mdp._weights, ptr, columns, weights)
    share(kernels.fill_chain, pieces, grain(int(ptr[-1]), pieces), *arguments)
    return Chain(ptr, columns, weights, constants, ending)


def _mixed_chain(mdp: MDP, shares: Any) -> Chain:
    lengths = np.where(shares > 0, np.diff(mdp._row_ptr), 0)
    before = np.concatenate(([0], np.cumsum(lengths)))
    ptr = before[mdp._state_ptr]
    columns, weights, constants = np.empty(ptr[-1], np.int32), np.empty(ptr[-1]), np.empty(mdp.num_states)
    pieces = blocks(mdp.num_states, kernels.CHAIN_BLOCK)
    arguments = (shares, *mdp._arrays, ptr, columns, weights, constants)
    share(kernels.mix_chain, pieces, grain(int(ptr[-1]), pieces), *arguments)
    ending = None
    if mdp._ending is not None:
        used = mdp._ending & (shares > 0)
        ending = np.zeros(mdp.num_states, bool)
        ending[mdp._state_of_row()[used]] = True
    return Chain(ptr, columns, weights, constants, ending)


def checked_values(name: str, value: Any, mdp: MDP) -> Any:
    """A fresh array of one finite number a state, 0 in states without actions."""
    array = _forms.real(name, value, copy=True)
    if array.shape != (mdp.num_states,):
        raise ValueError(f"{name}: found shape {array.shape}, expected ({mdp.num_states},)")
    if not np.isfinite(array).all():
        state = int(np.argmin(np.isfinite(array)))
        raise ValueError(f"{name}: found {array[state]} in state {state}, expected a finite number")
    return array


def checked_start(mdp: MDP, start: Any) -> Any:
    """The distribution of the first state."""
    if isinstance(start, int | np.integer) and not isinstance(start, bool):
        if not 0 <= start < mdp.num_states:
            raise ValueError(f"start: found {start}, expected a state from 0 to {mdp.num_states - 1}")
        return np.eye(1, mdp.num_states, int(start))[0].copy()
    array = checked_values("start", start, mdp)
    if (array < 0).any():
        raise ValueError(f"start: found {array.min()} in state {array.argmin()}, expected at least 0")
    if abs(array.sum() - 1) > 1e-8:
        raise ValueError(f"start: found a sum of {array.sum():.10g}, expected 1")
    return array


def checked_positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: found {value!r}, expected a number")
    if not 0 < value < np.inf:
        raise ValueError(f"{name}: found {value}, expected a number above 0")
    return float(value)


def checked_count(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: found {value!r}, expected an int")
    if value < least:
        raise ValueError(f"{name}: found {value}, expected at least {least}")
    return int(value)
