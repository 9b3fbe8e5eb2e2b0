"""A finite Markov decision process as compiled loops draw from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastdl.rl._numba import compiled, inlined
from fastdl.rl.mdp import MDP
from fastdl.rl.mdp._policy import checked_start
from fastdl.rl.random import bits, product

__all__ = ["Table"]

Array = np.ndarray[Any, Any]

SLOT = np.dtype(
    [("threshold", np.uint64), ("reward", np.float64), ("successor", np.int32), ("alias", np.int32)], align=True
)
"""A transition and, in the same memory, its column of the alias table of its row. A `successor` below 0 is terminal:
``~successor``. The `alias` is how many transitions further it lies."""


class Table(NamedTuple):
    """Transitions in rows, a row for each (state, action), and one more for where episodes start.

    A row is drawn from by the alias method (Walker 1977; Vose 1991): a random number picks one of the row's columns,
    its fraction whether it is that column's transition or the alias, so that a draw costs the same for every row
    and has no branch to mispredict.
    """

    offsets: Array
    """int64, shape (S * A + 2,): where each row begins in `slots`."""
    slots: Array
    """SLOT, one a transition."""
    n_states: int
    n_actions: int

    @classmethod
    def build(
        cls,
        indptr: Array,
        successors: Array,
        probabilities: Array,
        rewards: Array,
        terminal: Array,
        start: Array,
    ) -> Table:
        """Of transitions in rows, one for each (state, action).

        Parameters
        ----------
        indptr : array of int64, shape (S * A + 1,)
            Where each row begins.
        successors, probabilities, rewards, terminal : array, shape (T,)
            Of each transition: the state it leads to, how probable it is, what it pays, whether the episode ends.
        start : array of float64, shape (S,)
            How probable it is that an episode starts in each state.

        Raises
        ------
        ValueError
            Shapes that do not fit, probabilities that are negative or do not sum to 1, successors outside the states,
            rewards that are not finite.
        """
        indptr, successors = np.asarray(indptr, np.int64), np.asarray(successors, np.int64)
        probabilities, rewards = np.asarray(probabilities, np.float64), np.asarray(rewards, np.float64)
        terminal, start = np.asarray(terminal, bool), np.asarray(start, np.float64)
        n_states, n_rows = start.size, indptr.size - 1
        if start.ndim != 1 or n_rows < 1 or n_rows % max(n_states, 1):
            raise ValueError(f"indptr: found {n_rows} rows, expected a multiple of the {n_states} states of start")
        for name, array in (("probabilities", probabilities), ("rewards", rewards), ("terminal", terminal)):
            if array.shape != successors.shape or array.ndim != 1:
                raise ValueError(f"{name}: found shape {array.shape}, expected that of successors, {successors.shape}")
        if indptr[0] != 0 or indptr[-1] != successors.size or (np.diff(indptr) < 1).any():
            raise ValueError("indptr: found a row without transitions, expected at least one in every row")
        for name, bad, values, expected in (
            ("successors", (successors < 0) | (successors >= n_states), successors, f"states below {n_states}"),
            ("probabilities", ~((probabilities >= 0) & (probabilities <= 1 + 1e-8)), probabilities, "0 to 1"),
            ("rewards", ~np.isfinite(rewards), rewards, "finite numbers"),
            ("start", ~((start >= 0) & (start <= 1 + 1e-8)), start, "0 to 1"),
        ):
            if bad.any():
                raise ValueError(f"{name}: found {values[bad][0]} at {int(np.argmax(bad))}, expected {expected}")
        sums = np.append(np.add.reduceat(probabilities, indptr[:-1]), start.sum())
        if (wrong := np.abs(sums - 1.0) > 1e-6).any():
            row = int(np.argmax(wrong))
            name, place = ("start", "") if row == n_rows else ("probabilities", f" in row {row}")
            raise ValueError(f"{name}: found a sum of {sums[row]}{place}, expected 1")
        possible, starts = probabilities > 0, np.flatnonzero(start)
        indptr = np.append(0, np.cumsum(possible))[indptr]
        successors, rewards, terminal = successors[possible], rewards[possible], terminal[possible]
        offsets = np.append(indptr, indptr[-1] + starts.size)
        slots = np.zeros(int(offsets[-1]), SLOT)
        slots["successor"][: successors.size] = np.where(terminal, ~successors, successors)
        slots["successor"][successors.size :] = starts
        slots["reward"][: successors.size] = rewards
        _fill_aliases(offsets, np.append(probabilities[possible], start[starts]), slots["threshold"], slots["alias"])
        return cls(offsets, slots, n_states, n_rows // n_states)

    @classmethod
    def from_gymnasium(cls, source: Any, start: Sequence[float] | Array | int | None = None) -> Table:
        """Of the dictionary that Gymnasium's toy-text environments have as `P`.

        Parameters
        ----------
        source : dict or gymnasium.Env
            ``{state: {action: [(probability, successor, reward, terminated), ...]}}``, or an environment that has it
            as ``P``, and where it starts as ``initial_state_distrib``.
        start : int or array_like of float64, shape (S,), optional
            The state that episodes start in, or the probability of each; needed with a dictionary.

        Returns
        -------
        Table

        Examples
        --------
        >>> import gymnasium
        >>> from fastdl.rl.tabular import Table
        >>> table = Table.from_gymnasium(gymnasium.make("FrozenLake-v1"))
        >>> table.n_states, table.n_actions
        (16, 4)
        """
        if not isinstance(source, Mapping):
            environment = getattr(source, "unwrapped", source)
            if not isinstance(getattr(environment, "P", None), Mapping):
                raise TypeError(f"source: found {source!r}, expected a dictionary, or an environment that has P")
            source, start = environment.P, environment.initial_state_distrib if start is None else start
        n_states = len(source)
        n_actions = len(source[0]) if 0 in source else 0
        if not n_actions or set(source) != set(range(n_states)):
            raise ValueError(f"source: found states {list(source)[:5]}..., expected 0 to {n_states - 1}")
        if start is None:
            raise ValueError("start: found None, expected the state that episodes start in, or probabilities")
        if isinstance(start, (int, np.integer)):
            start = np.arange(n_states) == start
        if np.shape(start) != (n_states,):
            raise ValueError(f"start: found shape {np.shape(start)}, expected ({n_states},)")
        lengths, transitions = [], []
        for state in range(n_states):
            if set(source[state]) != set(range(n_actions)):
                raise ValueError(f"source: found actions {list(source[state])} in state {state}, expected {n_actions}")
            for action in range(n_actions):
                lengths.append(len(source[state][action]))
                transitions += source[state][action]
        probabilities, successors, rewards, terminal = (np.array([t[i] for t in transitions]) for i in range(4))
        indptr = np.append(0, np.cumsum(lengths))
        return cls.build(indptr, successors, probabilities, rewards, terminal, np.asarray(start, np.float64))

    @classmethod
    def from_mdp(cls, mdp: MDP, start: Any = None) -> Table:
        """Of a model, as `MDP` holds it; agents that are given a model make this table of it.

        Parameters
        ----------
        mdp : MDP
            Its discount is not used: agents have one of their own. An episode ends by transitions that say so, and in
            states that are terminal, or that no action leaves or is rewarded in.
        start : int or array_like of float64, shape (S,), optional
            The state that episodes start in, or the probability of each; by default all states that some action leaves
            are as likely.

        Returns
        -------
        Table
            Of a terminal state, which has no actions, every action ends the episode at once, for nothing.

        Raises
        ------
        TypeError, ValueError
            A state that lacks actions which others have; a start that is none, or needed because no state is left.

        Examples
        --------
        >>> from fastdl import rl
        >>> P = rl.envs.transitions(rl.make("FrozenLake-v1"))
        >>> table = rl.tabular.Table.from_mdp(rl.MDP.from_gymnasium(P, 0.99), start=0)
        >>> table.n_states, table.n_actions
        (16, 4)
        """
        if not isinstance(mdp, MDP):
            raise TypeError(f"mdp: found {mdp!r}, expected an MDP")
        n_states, n_actions = mdp.num_states, mdp.num_actions
        if (few := ~mdp.terminal & ~mdp.available.all(axis=1)).any():
            state = int(np.argmax(few))
            raise ValueError(
                f"mdp: found {int(mdp.available[state].sum())} actions in state {state}, "
                f"expected all {n_actions} in every state that is not terminal"
            )
        if start is None:
            left = ~mdp.absorbing
            if not left.any():
                raise ValueError("start: found None, expected a state, as no action leaves any state of mdp")
            start = left / left.sum()
        lengths, last = np.ones(n_states * n_actions, np.int64), np.repeat(mdp.terminal, n_actions)
        lengths[~last] = np.diff(mdp._row_ptr)
        indptr = np.append(0, np.cumsum(lengths))
        given = ~np.repeat(last, lengths)  # what mdp has; the others, one a row, stay where they are
        successors = np.repeat(np.arange(n_states * n_actions) // n_actions, lengths)
        probabilities, rewards, terminal = np.ones(given.size), np.zeros(given.size), np.ones(given.size, bool)
        successors[given], probabilities[given] = mdp._successors, mdp._probabilities
        expected = mdp._transition_rewards is None
        rewards[given] = np.repeat(mdp._rewards, np.diff(mdp._row_ptr)) if expected else mdp._transition_rewards
        terminal[given] = (mdp._weights == 0) | mdp._absorbing(free=True)[mdp._successors]
        return cls.build(indptr, successors, probabilities, rewards, terminal, checked_start(mdp, start))

    @property
    def ends(self) -> bool:
        """Whether every state that can be reached from a start can reach an end."""
        successor = self.slots["successor"]
        rows = np.repeat(np.arange(self.offsets.size - 1), np.diff(self.offsets))
        states = np.minimum(rows // self.n_actions, self.n_states)  # the row of starts is a state of its own
        target = np.where(successor < 0, self.n_states + 1, successor)
        return _reaches(np.stack([states, target]), self.n_states)


def _reaches(edges: Array, n_states: int) -> bool:
    """Over edges between states, the start (n_states) and the end (n_states + 1)."""
    source, target = edges
    forward = np.zeros(n_states + 2, bool)
    backward = np.zeros(n_states + 2, bool)
    forward[n_states] = backward[n_states + 1] = True
    for seen, from_, to in ((forward, source, target), (backward, target, source)):
        count = 0
        while count != (count := int(seen.sum())):
            seen[to[seen[from_]]] = True
    return bool((~forward | backward).all())


@compiled
def _fill_aliases(offsets: Any, probabilities: Any, threshold: Any, alias: Any) -> None:
    """Vose's method, row by row: columns of equal weight, each shared by at most two transitions."""
    widest = 0
    for row in range(offsets.size - 1):
        widest = max(widest, offsets[row + 1] - offsets[row])
    small, large, weight = np.empty(widest, np.int64), np.empty(widest, np.int64), np.empty(widest)
    for row in range(offsets.size - 1):
        first, n = offsets[row], offsets[row + 1] - offsets[row]
        total = probabilities[first : first + n].sum()
        n_small = n_large = 0
        for i in range(n):
            weight[i] = probabilities[first + i] * n / total
            if weight[i] < 1.0:
                small[n_small] = i
                n_small += 1
            else:
                large[n_large] = i
                n_large += 1
        while n_small and n_large:
            n_small -= 1
            i, j = small[n_small], large[n_large - 1]
            threshold[first + i] = np.uint64(weight[i] * 18446744073709551616.0)
            alias[first + i] = j - i
            weight[j] -= 1.0 - weight[i]
            if weight[j] < 1.0:
                n_large -= 1
                small[n_small] = j
                n_small += 1
        for k in range(n_small + n_large):  # what rounding has left is 1
            i = small[k] if k < n_small else large[k - n_small]
            threshold[first + i] = np.uint64(18446744073709551615)
            alias[first + i] = 0


@inlined
def draw(table: Any, row: Any, rng: Any) -> Any:
    """The index of a transition of a row; without a branch, which would be taken at random. Indices are unsigned, so
    that nothing looks whether they count from the end."""
    first = np.uint64(table.offsets[np.uint64(row)])
    last = np.uint64(table.offsets[np.uint64(row + 1)])
    column, fraction = product(bits(rng), last - first)
    slot = table.slots[first + column]
    return first + column + np.uint64(np.int64(slot.alias) & -np.int64(fraction >= slot.threshold))
