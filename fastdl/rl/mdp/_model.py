"""The model: a finite Markov decision process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdl.rl.mdp import _forms
from fastdl.rl.mdp._forms import Layout, Rows, real
from fastdl.rl.mdp._lazy import kernels, share

if TYPE_CHECKING:
    from fastdl.rl.mdp._simulation import Episode

TOLERANCE = 1e-8
"""How far from 1 the sum of a distribution may be."""


def checked_discount(discount: Any) -> float:
    if isinstance(discount, bool) or not isinstance(discount, int | float | np.integer | np.floating):
        raise TypeError(f"discount: found {discount!r}, expected a number")
    if not 0 <= discount <= 1:
        raise ValueError(f"discount: found {discount}, expected 0 to 1")
    return float(discount)


@dataclass(frozen=True, eq=False, repr=False, init=False)
class MDP:
    """A finite Markov decision process: states, actions, transition probabilities, rewards and a discount.

    From state s, action a leads to state j with probability ``p(j | s, a)`` and earns ``r(s, a, j)``; a policy is worth
    ``v(s) = E[sum_t discount ** t * r_t]``, and solvers look for one that is worth most in every state.

    Transitions are kept in rows, one for each state and action, of the successors that have a probability (CSR, float64
    and int32, 12 bytes each). Nothing can be changed afterwards, and everything is checked here.

    Parameters
    ----------
    transitions : (S, A, S) or (A, S, S) array, sparse matrix, or list of A sparse matrices
        Probabilities. ``P[s, a, j]`` or ``P[a, s, j]``; or a matrix of SciPy's (S * A, S) whose row ``s * A + a`` holds
        ``p(. | s, a)``; or one (S, S) for each action; or, with `states` and `actions`, one whose row i holds
        ``p(. | states[i], actions[i])``, in any order, for the actions that states have.
    rewards : array, or as transitions
        By state (S,); by state and action (S, A), where a state lacks an action anything; by row (R,) where `states`
        is given; or by transition: of the shape of dense transitions, or a sparse matrix or matrices shaped as the
        transitions are, or one number for each stored entry. A vector is taken to be by row, else by state, else by
        transition, whichever its length allows first. What a state earns is earned on leaving it.
    discount : float
        0 to 1. With 1, see `value_iteration` and `evaluate_policy`.
    states, actions : (R,) ints, optional
        What the rows of a sparse matrix are the rows of.
    terminal : (S,) bool, or sequence of ints, optional
        States in which an episode is over. They are worth 0, have no actions, and what is given for them is ignored,
        rewards too: what is won on arriving is a reward by transition.
    terminated : bool, shaped as rewards by transition, optional
        Transitions that end the episode, as in Gymnasium: their reward counts, the value of where they lead does not.
    layout : {"sas", "ass"}, optional
        Which of both a dense array is; needed where S == A.
    copy : bool
        False: hold a sparse matrix's own arrays where their types fit (float64, int32, int64 pointers). They must not
        be written to any more.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described: a row that does not sum to 1 within 1e-8, a negative or missing number, a
        successor that is no state, a state without actions that is not terminal. The first state and action are named.

    See Also
    --------
    MDP.from_csr : from arrays of a sparse matrix, without SciPy.
    MDP.from_gymnasium : from a table such as those of Gymnasium's toy-text environments.

    References
    ----------
    Puterman, "Markov Decision Processes", 2014, chapter 2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import rl
    >>> P = np.array([[[0.9, 0.1], [0.0, 1.0]], [[1.0, 0.0], [0.5, 0.5]]])  # (S, A, S)
    >>> mdp = rl.MDP(P, [[1.0, 0.0], [0.0, 2.0]], 0.9, layout="sas")
    >>> mdp
    MDP(states=2, actions=2, transitions=6, discount=0.9)
    >>> rl.value_iteration(mdp).policy
    array([1, 1], dtype=int32)
    """

    num_states: int
    num_actions: int
    discount: float
    terminal: Any
    """(S,) bool: states in which an episode is over."""
    _state_ptr: Any
    _actions: Any
    _row_ptr: Any
    _successors: Any
    _probabilities: Any
    _weights: Any  # probabilities, 0 of transitions that end the episode
    _rewards: Any  # (R,) expected
    _transition_rewards: Any  # (nnz,) or None
    _ending: Any  # (R,) bool, whether a row may end the episode, or None where none does

    def __init__(
        self,
        transitions: Any,
        rewards: Any,
        discount: float,
        *,
        states: Any = None,
        actions: Any = None,
        terminal: Any = None,
        terminated: Any = None,
        layout: Layout | None = None,
        copy: bool = True,
    ) -> None:
        discount = checked_discount(discount)
        rows = _forms.rows_of(transitions, states, actions, layout, copy)
        self._set(rows, rewards, discount, terminal, terminated, states is not None)

    @classmethod
    def from_csr(
        cls,
        row_ptr: Any,
        successors: Any,
        probabilities: Any,
        rewards: Any,
        discount: float,
        *,
        num_states: int,
        states: Any = None,
        actions: Any = None,
        terminal: Any = None,
        terminated: Any = None,
        copy: bool = True,
    ) -> MDP:
        """From the three arrays of a sparse matrix in CSR form, for which SciPy is not needed.

        Parameters
        ----------
        row_ptr : (R + 1,) ints
            Where each row begins in the arrays that follow.
        successors : (nnz,) ints
            The state that each transition leads to.
        probabilities : (nnz,) floats
            Its probability.
        rewards : array
            (S,), (S, A), (R,) or (nnz,), as of `MDP`.
        discount : float
            0 to 1.
        num_states : int
            S.
        states, actions, terminal, terminated, copy
            As of `MDP`; without the first two, row ``s * A + a`` is that of state s and action a.

        Returns
        -------
        MDP

        Raises
        ------
        TypeError, ValueError
            As of `MDP`.

        Examples
        --------
        >>> from fastdl import rl
        >>> rl.MDP.from_csr([0, 1, 2], [1, 1], [1.0, 1.0], [5.0, 0.0], 0.9, num_states=2)
        MDP(states=2, actions=1, transitions=2, discount=0.9)
        """
        discount = checked_discount(discount)
        num_actions = None
        paired = states is not None or actions is not None
        if paired and (states is None or actions is None):
            raise ValueError("states, actions: found one without the other, expected both or neither")
        if not paired:
            count = np.size(row_ptr) - 1
            if not isinstance(num_states, int | np.integer) or num_states < 1 or count < 1 or count % num_states:
                raise ValueError(f"row_ptr: found {count} rows, expected a multiple of num_states, {num_states!r}")
            num_actions = count // int(num_states)
            states, actions = _forms._all_pairs(int(num_states), num_actions)
        rows = _forms.from_csr(row_ptr, successors, probabilities, num_states, states, actions, num_actions, copy=copy)
        mdp = cls.__new__(cls)
        mdp._set(rows, rewards, discount, terminal, terminated, paired)
        return mdp

    @classmethod
    def from_gymnasium(cls, env: Any, discount: float) -> MDP:
        """From a table of transitions, such as Gymnasium's toy-text environments have.

        Parameters
        ----------
        env : gymnasium.Env, Environment, or mapping
            An environment whose ``env.unwrapped.P`` is a table, one of ours of which `fastdl.rl.envs.transitions` makes
            a table, or the table: ``P[state][action]`` is a list of ``(probability, next_state, reward, terminated)``.
            Several of one list may lead to the same state.
        discount : float
            0 to 1.

        Returns
        -------
        MDP
            Transitions that are terminated keep their reward and have no future.

        Raises
        ------
        TypeError, ValueError
            There is no table, or as of `MDP`.

        Examples
        --------
        >>> from fastdl import rl
        >>> P = {0: {0: [(0.5, 0, 0.0, False), (0.5, 1, 1.0, True)]}, 1: {0: [(1.0, 1, 0.0, True)]}}
        >>> rl.value_iteration(rl.MDP.from_gymnasium(P, 1.0), 1e-9).value.round(6)
        array([1., 0.])
        >>> rl.MDP.from_gymnasium(rl.make("FrozenLake-v1"), 0.99)
        MDP(states=16, actions=4, transitions=152, discount=0.99)
        """
        arguments, rewards, terminated = _forms.table_of(env)
        mdp = cls.__new__(cls)
        rows = _forms.from_csr(*arguments)
        rewards = rows.by_transition("rewards", real("rewards", rewards))
        discount = checked_discount(discount)
        mdp._set(rows, rewards, discount, None, terminated if terminated.any() else None, True, every=True)
        return mdp

    def _set(
        self,
        rows: Rows,
        rewards: Any,
        discount: float,
        terminal: Any,
        terminated: Any,
        paired: bool,
        every: bool = False,
    ) -> None:
        """every: rewards are by transition, whatever their length."""
        num_states, num_actions = rows.num_states, rows.num_actions
        over = _terminal_mask(terminal, num_states)
        by_row, by_transition = _rewards(rewards, rows, paired, every)
        ended = None
        if terminated is not None:
            ended = rows.by_transition("terminated", terminated)
            if ended.dtype != np.bool_:
                raise TypeError(f"terminated: found {ended.dtype}, expected bool")
        states, actions, row_ptr, successors, probabilities = rows[:5]
        keys = states.astype(np.int64) * num_actions + actions if paired else None
        if over.any() or (keys is not None and (np.diff(keys) <= 0).any()):
            order = np.arange(len(states)) if keys is None else np.argsort(keys, kind="stable")
            order = order[~over[states[order]]]
            if keys is not None and (twice := np.diff(keys[order]) == 0).any():
                row = order[int(np.argmax(twice))]
                raise ValueError(f"states, actions: found two rows of state {states[row]}, action {actions[row]}")
            places, row_ptr = _places(row_ptr, order)
            states, actions, by_row = states[order], actions[order], by_row if by_row is None else by_row[order]
            successors, probabilities = successors[places], probabilities[places]
            by_transition = by_transition if by_transition is None else by_transition[places]
            ended = ended if ended is None else ended[places]
        state_ptr = np.zeros(num_states + 1, np.int64)
        np.cumsum(np.bincount(states, minlength=num_states), out=state_ptr[1:])
        self._check_rows(state_ptr, actions, row_ptr, successors, probabilities, num_states)
        empty = (np.diff(state_ptr) == 0) & ~over
        if empty.any():
            raise ValueError(
                f"states: found no action in state {np.argmax(empty)}, expected one at least, or that it is terminal"
            )
        if by_transition is not None:
            by_transition = np.require(by_transition, np.float64, ["C", "W"])
            _check_finite(by_transition, state_ptr, actions, row_ptr)
            by_row = np.empty(len(actions))
            blocks = -(-len(actions) // kernels.ROWS)
            share(kernels.expected, blocks, 8, row_ptr, probabilities, by_transition, by_row)
        else:
            by_row = np.array(by_row, np.float64)
            _check_finite(by_row, state_ptr, actions, None)
        weights, ending = probabilities, None
        if ended is not None and (ended := ended & (probabilities > 0)).any():
            weights = np.where(ended, 0.0, probabilities)
            ending = (
                np.bincount(np.repeat(np.arange(len(actions)), np.diff(row_ptr))[ended], minlength=len(actions)) > 0
            )
        over.flags.writeable = False
        fields = {
            "num_states": num_states,
            "num_actions": num_actions,
            "discount": discount,
            "terminal": over,
            "_state_ptr": state_ptr,
            "_actions": np.ascontiguousarray(actions, np.int32),
            "_row_ptr": row_ptr,
            "_successors": successors,
            "_probabilities": probabilities,
            "_weights": weights,
            "_rewards": by_row,
            "_transition_rewards": by_transition,
            "_ending": ending,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @staticmethod
    def _check_rows(
        state_ptr: Any, actions: Any, row_ptr: Any, successors: Any, probabilities: Any, num_states: int
    ) -> None:
        blocks = -(-len(actions) // kernels.ROWS)
        faults = np.full((blocks, 3), -1)
        share(kernels.check_rows, blocks, 4, row_ptr, successors, probabilities, num_states, TOLERANCE, faults)
        wrong = faults[faults[:, 0] >= 0]
        if not len(wrong):
            return
        row, fault, place = wrong[0]
        where = _where(state_ptr, actions, row)
        kind = kernels.FAULTS[fault]
        if kind == "empty":
            raise ValueError(f"transitions: found no successor at {where}, expected probabilities that sum to 1")
        if kind == "sum":
            total = probabilities[row_ptr[row] : row_ptr[row + 1]].sum()
            raise ValueError(f"transitions: found a sum of {total:.10g} at {where}, expected 1")
        if kind == "outside":
            raise ValueError(
                f"transitions: found successor {successors[place]} at {where}, expected 0 to {num_states - 1}"
            )
        raise ValueError(
            f"transitions: found probability {probabilities[place]} of state {successors[place]} at {where}, "
            f"expected {'a finite number' if kind == 'not finite' else 'at least 0'}"
        )

    def __repr__(self) -> str:
        more = f", terminal={self.terminal.sum()}" if self.terminal.any() else ""
        return (
            f"MDP(states={self.num_states}, actions={self.num_actions}, transitions={len(self._successors)}, "
            f"discount={self.discount}{more})"
        )

    # ---- what there is ----

    @property
    def available(self) -> Any:
        """(S, A) bool: the actions that each state has; none in a terminal state."""
        mask = np.zeros((self.num_states, self.num_actions), bool)
        mask[self._state_of_row(), self._actions] = True
        return mask

    @property
    def absorbing(self) -> Any:
        """(S,) bool: states that no action leaves, and terminal states."""
        return self._absorbing(free=False)

    def reachable(self, start: int | Sequence[int]) -> Any:
        """The states that some policy reaches from a state, or from one of several.

        Parameters
        ----------
        start : int, or sequence of ints
            States.

        Returns
        -------
        (S,) bool
            True of `start` too.

        Raises
        ------
        TypeError, ValueError
            `start` is no state.

        Examples
        --------
        >>> from fastdl import rl
        >>> rl.MDP([[[0, 1, 0]], [[0, 1, 0]], [[1, 0, 0]]], [0, 0, 0], 0.9).reachable(0)
        array([ True,  True, False])
        """
        reached = _marked("start", start, self.num_states)
        kernels.forward_reach(self._state_ptr, self._row_ptr, self._successors, self._weights, reached)
        return reached

    def to_dense(self) -> tuple[Any, Any]:
        """Transitions and expected rewards as arrays.

        Returns
        -------
        transitions : (S, A, S) float64
            Probabilities of going on: what ends the episode is left out, so that such a row sums to less than 1, and
            those of a terminal state or of an action that a state does not have are 0.
        rewards : (S, A) float64
            As of `expected_rewards`.

        Examples
        --------
        >>> from fastdl import rl
        >>> rl.MDP([[[0, 1]], [[1, 0]]], [3, 4], 0.9).to_dense()[0]
        array([[[0., 1.]],
        <BLANKLINE>
               [[1., 0.]]])
        """
        dense = np.zeros((self.num_states, self.num_actions, self.num_states))
        row = np.repeat(np.arange(len(self._actions)), np.diff(self._row_ptr))
        np.add.at(dense, (self._state_of_row()[row], self._actions[row], self._successors), self._weights)
        return dense, self.expected_rewards()

    def expected_rewards(self, policy: Any = None) -> Any:
        """The reward that is expected of the next step.

        Parameters
        ----------
        policy : (S,) ints or (S, A) floats, optional
            Deterministic, or the probability of each action.

        Returns
        -------
        (S, A) float64, or (S,) with a policy
            ``sum_j p(j | s, a) * r(s, a, j)``: -inf of an action that a state does not have, 0 in terminal states.

        Raises
        ------
        TypeError, ValueError
            `policy` is none.

        Examples
        --------
        >>> from fastdl import rl
        >>> mdp = rl.MDP([[[0, 1]], [[0.5, 0.5]]], [[[0, 3]], [[4, 8]]], 0.9)
        >>> mdp.expected_rewards()
        array([[3.],
               [6.]])
        """
        if policy is not None:
            from fastdl.rl.mdp._policy import chain_of

            return chain_of(self, policy).constants
        out = np.full((self.num_states, self.num_actions), -np.inf)
        out[np.diff(self._state_ptr) == 0] = 0.0
        out[self._state_of_row(), self._actions] = self._rewards
        return out

    def transition_matrix(self, policy: Any, *, sparse: bool = False) -> Any:
        """The Markov chain of a policy: ``P[s, j] = sum_a policy(a | s) * p(j | s, a)``.

        Parameters
        ----------
        policy : (S,) ints or (S, A) floats
            Deterministic, or the probability of each action.
        sparse : bool
            Return a sparse array of SciPy's (CSR).

        Returns
        -------
        (S, S) float64, or scipy.sparse.csr_array
            Probabilities of going on, as `to_dense` has them.

        Raises
        ------
        ImportError
            `sparse`, and SciPy is not installed.
        TypeError, ValueError
            `policy` is none.

        Examples
        --------
        >>> from fastdl import rl
        >>> rl.MDP([[[0, 1]], [[0.5, 0.5]]], [0, 0], 0.9).transition_matrix([0, 0])
        array([[0. , 1. ],
               [0.5, 0.5]])
        """
        from fastdl.rl.mdp._policy import chain_of

        chain = chain_of(self, policy)
        return chain.sparse() if sparse else chain.dense()

    def simulate(self, policy: Any, start: Any, steps: int = 1000, *, seed: Any = None) -> Episode:
        """Follow a policy until the episode is over, or for so many steps.

        Parameters
        ----------
        policy : (S,) ints or (S, A) floats
            Deterministic, or the probability of each action.
        start : int, or (S,) floats
            The first state, or its distribution.
        steps : int
            At most.
        seed : int, numpy.random.Generator or None
            As of `numpy.random.default_rng`: the same seed, the same episode.

        Returns
        -------
        Episode
            states (T + 1,), actions (T,), rewards (T,) and whether it ended. Rewards are those of the transitions that
            were made where there are such, else what is expected of state and action.

        Raises
        ------
        TypeError, ValueError
            `policy`, `start` or `steps` is not as described.

        Examples
        --------
        >>> from fastdl import rl
        >>> walk = rl.MDP([[[0.5, 0.5]], [[0, 0]]], [[[0, 1]], [[0, 0]]], 1.0, terminal=[1])
        >>> episode = walk.simulate([0, 0], 0, seed=1)
        >>> episode.rewards.sum(), episode.terminated
        (np.float64(1.0), True)
        """
        from fastdl.rl.mdp._simulation import simulate

        return simulate(self, policy, start, steps, seed)

    def to_petsc(self, transitions: str | PathLike[str], costs: str | PathLike[str]) -> None:
        """Write the two matrices, in PETSc's binary format, that the solver madupite reads.

        Row ``s * A + a`` of the transitions (S * A, S) holds ``p(. | s, a)``; the costs (S, A) are the negative
        expected rewards. A terminal state stays where it is, for nothing. An action that a state does not have is
        written as a copy of its first one. If there are transitions that end the episode, they lead to one more, last
        state, which is never left and costs nothing.

        Parameters
        ----------
        transitions, costs : path
            Files to write.

        Raises
        ------
        ValueError
            There are more than 2**31 - 1 entries, which the format's usual form cannot hold.

        References
        ----------
        PETSc's manual page of MatLoad; madupite's tutorial, example 2.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from fastdl import rl
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> rl.MDP([[[0, 1]], [[0.5, 0.5]]], [1, 2], 0.9).to_petsc(folder / "P.bin", folder / "g.bin")
        >>> (folder / "P.bin").stat().st_size  # 4 + 2 + 3 integers of 4 bytes, 3 numbers of 8
        60
        """
        from fastdl.rl.mdp._petsc import write

        write(self, transitions, costs)

    # ---- for the rest of the package ----

    def _absorbing(self, free: bool) -> Any:
        """(S,) bool: states that no action leaves; with `free`, only those where none is rewarded."""
        out = np.empty(self.num_states, bool)
        arrays = (self._state_ptr, self._row_ptr, self._successors, self._probabilities, self._rewards)
        kernels.absorbing_states(*arrays, free, out)
        return out

    def _state_of_row(self) -> Any:
        return np.repeat(np.arange(self.num_states), np.diff(self._state_ptr))

    @property
    def _arrays(self) -> tuple[Any, ...]:
        return self._state_ptr, self._row_ptr, self._successors, self._weights, self._rewards


def _where(state_ptr: Any, actions: Any, row: int) -> str:
    return f"state {np.searchsorted(state_ptr, row, 'right') - 1}, action {actions[row]}"


def _check_finite(rewards: Any, state_ptr: Any, actions: Any, row_ptr: Any) -> None:
    finite = np.isfinite(rewards)
    if not finite.all():
        place = int(np.argmin(finite))
        row = place if row_ptr is None else int(np.searchsorted(row_ptr, place, "right")) - 1
        where = _where(state_ptr, actions, row)
        raise ValueError(f"rewards: found {rewards[place]} at {where}, expected a finite number")


def _terminal_mask(terminal: Any, num_states: int) -> Any:
    if terminal is None:
        return np.zeros(num_states, bool)
    given = np.asarray(terminal)
    if given.dtype == np.bool_:
        if given.shape != (num_states,):
            raise ValueError(f"terminal: found shape {given.shape}, expected ({num_states},), or indices")
        return given.copy()
    return _marked("terminal", terminal, num_states)


def _marked(name: str, states: Any, num_states: int) -> Any:
    """(S,) bool: True of the states that are listed."""
    indices = np.atleast_1d(_forms.integers(name, states))
    wrong = (indices < 0) | (indices >= num_states)
    if indices.ndim != 1 or wrong.any():
        found = indices[wrong][0] if wrong.any() else f"shape {indices.shape}"
        raise ValueError(f"{name}: found {found}, expected states from 0 to {num_states - 1}")
    mask = np.zeros(num_states, bool)
    mask[indices] = True
    return mask


def _rewards(rewards: Any, rows: Rows, paired: bool, every: bool) -> tuple[Any, Any]:
    """By row, or by transition: one of both is None."""
    count, entries = len(rows.states), len(rows.successors)
    several = isinstance(rewards, Sequence) and len(rewards) > 0 and all(map(_forms.is_sparse, rewards))
    if _forms.is_sparse(rewards) or several:
        return None, real("rewards", rows.by_transition("rewards", rewards))
    array = real("rewards", rewards)
    if every or array.ndim == 3:
        return None, rows.by_transition("rewards", array)
    if array.shape == (count,) and paired:
        return array, None
    if array.shape == (rows.num_states,):
        return array[rows.states], None
    if array.shape == (rows.num_states, rows.num_actions):
        return array[rows.states, rows.actions] if paired else array.ravel(), None
    if array.shape == (entries,):
        return None, rows.by_transition("rewards", array)
    by_row = f" or ({count},)" if paired else ""
    raise ValueError(
        f"rewards: found shape {array.shape}, expected ({rows.num_states},), ({rows.num_states}, {rows.num_actions})"
        f"{by_row}, or one a transition"
    )


def _places(row_ptr: Any, order: Any) -> tuple[Any, Any]:
    """Where the entries of rows in another order are, and where each row then begins."""
    lengths = np.diff(row_ptr)[order]
    begins = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return np.repeat(row_ptr[:-1][order] - begins[:-1], lengths) + np.arange(begins[-1]), begins
