"""From what users have (arrays, sparse matrices, tables) to rows of transitions, one for each state and action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Layout = Literal["sas", "ass"]


class Rows(NamedTuple):
    """Transitions in rows, as of a sparse matrix (CSR), and what each row is the row of."""

    states: Any
    actions: Any
    row_ptr: Any
    successors: Any
    probabilities: Any
    num_states: int
    num_actions: int
    by_transition: Any  # from an argument laid out as the transitions are, to one number each


def real(name: str, value: Any, *, copy: bool = False) -> Any:
    """A contiguous float64 array that may be written to: another one is another type to Numba."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError
        return np.array(array, np.float64, order="C") if copy else np.require(array, np.float64, ["C", "W"])
    except (TypeError, ValueError):
        raise TypeError(f"{name}: found {_described(value)}, expected an array of real numbers") from None


def integers(name: str, value: Any, dtype: Any = np.int64, *, copy: bool = False) -> Any:
    """The same of ints."""
    array = np.asarray(value)
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: found {_described(value)}, expected integers")
    limits = np.iinfo(dtype)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise ValueError(f"{name}: found {array.min()} to {array.max()}, expected {np.dtype(dtype).name}")
    return np.array(array, dtype, order="C") if copy else np.require(array, dtype, ["C", "W"])


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return type(value).__name__


def is_sparse(value: Any) -> bool:
    return hasattr(value, "tocsr")


def rows_of(transitions: Any, states: Any, actions: Any, layout: Layout | None, copy: bool) -> Rows:
    if layout not in (None, "sas", "ass"):
        raise ValueError(f"layout: found {layout!r}, expected 'sas', 'ass' or None")
    if is_sparse(transitions):
        return _from_sparse(transitions, states, actions, copy)
    if states is not None or actions is not None:
        raise ValueError("states, actions: found them with dense transitions, expected a sparse matrix of their rows")
    if isinstance(transitions, Sequence) and len(transitions) and all(map(is_sparse, transitions)):
        return _from_sparse_list(transitions)
    return _from_dense(transitions, layout)


def _from_dense(transitions: Any, layout: Layout | None) -> Rows:
    array = real("transitions", transitions)
    shape = array.shape
    fits = [name for name, axis in (("sas", 0), ("ass", 1)) if array.ndim == 3 and shape[axis] == shape[2]]
    if not fits or 0 in shape or (layout is not None and layout not in fits):
        wanted = {"sas": "(S, A, S)", "ass": "(A, S, S)", None: "(S, A, S) or (A, S, S)"}[layout]
        raise ValueError(f"transitions: found shape {shape}, expected {wanted} with S, A at least 1")
    if layout is None and len(fits) == 2:
        raise ValueError(
            f"transitions: found shape {shape}, which is (S, A, S) and (A, S, S), expected layout= to say it"
        )

    def in_order(argument: Any) -> Any:  # (S, A, S)
        return argument.transpose(1, 0, 2) if (layout or fits[0]) == "ass" else argument

    array = in_order(array)
    num_states, num_actions = array.shape[:2]
    flat = array.reshape(-1, num_states)
    there = flat != 0
    row_ptr = np.concatenate(([0], there.sum(1).cumsum())).astype(np.int64)

    def by_transition(name: str, argument: Any) -> Any:
        if is_sparse(argument) or np.shape(argument) != shape:
            raise ValueError(f"{name}: found shape {np.shape(argument)}, expected {shape}, that of transitions")
        return in_order(np.asarray(argument)).reshape(-1, num_states)[there]

    return Rows(
        *_all_pairs(num_states, num_actions),
        *(row_ptr, np.nonzero(there)[1].astype(np.int32), flat[there]),
        num_states,
        num_actions,
        by_transition,
    )


def _from_sparse(transitions: Any, states: Any, actions: Any, copy: bool) -> Rows:
    matrix = transitions.tocsr()
    rows, num_states = matrix.shape
    if (states is None) != (actions is None):
        raise ValueError("states, actions: found one without the other, expected both or neither")
    if states is None:
        if num_states == 0 or rows == 0 or rows % num_states:
            raise ValueError(f"transitions: found shape {matrix.shape}, expected (S * A, S), or states= and actions=")
        num_actions = rows // num_states
        states, actions = _all_pairs(num_states, num_actions)
    else:
        num_actions = None

    def by_transition(name: str, argument: Any) -> Any:
        return _along(name, argument, matrix)

    return from_csr(
        *(matrix.indptr, matrix.indices, matrix.data, num_states, states, actions, num_actions, by_transition, copy)
    )


def _along(name: str, argument: Any, matrix: Any) -> Any:
    """One number for each stored entry of the matrix: given so, or as a sparse matrix of the same shape."""
    if not is_sparse(argument):
        if np.shape(argument) != matrix.data.shape:
            raise ValueError(
                f"{name}: found shape {np.shape(argument)}, expected {matrix.data.shape}, one a stored transition"
            )
        return np.asarray(argument)
    if argument.shape != matrix.shape:
        raise ValueError(f"{name}: found shape {argument.shape}, expected {matrix.shape}, that of transitions")
    other = argument.tocsr()
    if np.array_equal(other.indptr, matrix.indptr) and np.array_equal(other.indices, matrix.indices):
        return other.data
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return np.asarray(other[rows, matrix.indices]).ravel()


def _from_sparse_list(transitions: Any) -> Rows:
    from scipy import sparse

    num_actions, shape = len(transitions), transitions[0].shape
    for action, matrix in enumerate(transitions):
        if matrix.shape != shape or shape[0] != shape[1] or shape[0] == 0:
            raise ValueError(f"transitions: found shape {matrix.shape} of action {action}, expected (S, S) of each")

    def stacked(matrices: Any) -> Any:  # row s * A + a
        order = np.arange(shape[0] * num_actions).reshape(num_actions, shape[0]).T.ravel()
        return sparse.vstack([matrix.tocsr() for matrix in matrices], format="csr")[order]

    rows = _from_sparse(stacked(transitions), None, None, False)

    def by_transition(name: str, argument: Any) -> Any:
        if not (
            isinstance(argument, Sequence) and [getattr(m, "shape", None) for m in argument] == [shape] * num_actions
        ):
            raise ValueError(f"{name}: found {_described(argument)}, expected {num_actions} sparse matrices {shape}")
        return rows.by_transition(name, stacked(argument))

    return rows._replace(by_transition=by_transition)


def from_csr(
    row_ptr: Any,
    successors: Any,
    probabilities: Any,
    num_states: Any,
    states: Any,
    actions: Any,
    num_actions: int | None = None,
    by_transition: Any = None,
    copy: bool = False,
) -> Rows:
    """Checks all that makes the arrays fit together; what they hold is checked later, by kernels."""
    if isinstance(num_states, bool) or not isinstance(num_states, int | np.integer) or not 1 <= num_states < 2**31:
        raise ValueError(f"num_states: found {num_states!r}, expected an int from 1 to 2**31 - 1")
    row_ptr = integers("row_ptr", row_ptr, copy=copy)
    successors = integers("successors", successors, np.int32, copy=copy)
    probabilities = real("probabilities", probabilities, copy=copy)
    if successors.ndim != 1 or successors.shape != probabilities.shape:
        raise ValueError(
            f"probabilities: found shape {probabilities.shape}, expected {successors.shape}, that of successors"
        )
    if row_ptr.ndim != 1 or len(row_ptr) < 1 or row_ptr[0] != 0 or row_ptr[-1] != len(successors):
        raise ValueError(f"row_ptr: found shape {row_ptr.shape}, expected (R + 1,) from 0 to {len(successors)}")
    falls = row_ptr[1:] < row_ptr[:-1]
    if falls.any():
        raise ValueError(f"row_ptr: found less behind row {np.argmax(falls)} than before it, expected no less")
    states, actions = integers("states", states, np.int32), integers("actions", actions, np.int32)
    count = len(row_ptr) - 1
    for name, array, limit in (("states", states, int(num_states)), ("actions", actions, num_actions)):
        if array.shape != (count,):
            raise ValueError(f"{name}: found shape {array.shape}, expected ({count},), one a row of transitions")
        wrong = (array < 0) | (array >= limit) if limit is not None else array < 0
        if wrong.any():
            row = int(np.argmax(wrong))
            upper = f"below {limit}" if limit is not None else "at least 0"
            raise ValueError(f"{name}: found {array[row]} in row {row}, expected {upper}")
    if num_actions is None:
        num_actions = int(actions.max()) + 1 if count else 1
    return Rows(
        *(states, actions, row_ptr, successors, probabilities, int(num_states), num_actions),
        by_transition or (lambda name, argument: _of_length(name, argument, len(successors))),
    )


def _of_length(name: str, argument: Any, length: int) -> Any:
    if np.shape(argument) != (length,):
        raise ValueError(f"{name}: found shape {np.shape(argument)}, expected ({length},), one a transition")
    return np.asarray(argument)


def _all_pairs(num_states: int, num_actions: int) -> tuple[Any, Any]:
    return (
        np.repeat(np.arange(num_states, dtype=np.int32), num_actions),
        np.tile(np.arange(num_actions, dtype=np.int32), num_states),
    )


def table_of(environment: Any) -> Any:
    """The table P[state][action] = [(probability, next_state, reward, terminated), ...] as the arguments of from_csr,
    rewards and terminated."""
    table = environment
    if not isinstance(table, Mapping | Sequence):
        table = getattr(getattr(environment, "unwrapped", environment), "P", None)
    if table is None:
        from fastdl.rl.environment import Environment

        if isinstance(environment, Environment):
            from fastdl.rl.envs import transitions

            table = transitions(environment)
    if not isinstance(table, Mapping | Sequence) or len(table) == 0:
        raise TypeError(
            f"env: found {type(environment).__name__}, expected an environment with a table P, or that table"
        )
    count = len(table)
    states, actions, lengths, entries = [], [], [], []
    for s in range(count):
        try:
            of_state = table[s]
        except KeyError:
            raise ValueError(f"P: found no state {s} among {count}, expected 0 to {count - 1}") from None
        named = sorted(of_state) if isinstance(of_state, Mapping) else range(len(of_state))
        for a in named:
            outcomes = of_state[a]
            for outcome in outcomes:
                if len(outcome) != 4:
                    raise ValueError(
                        f"P: found {outcome!r} at state {s}, action {a}, expected (probability, next_state, reward, "
                        "terminated)"
                    )
            states.append(s)
            actions.append(a)
            lengths.append(len(outcomes))
            entries += outcomes
    probabilities, successors, rewards, ended = zip(*entries, strict=True) if entries else ((), (), (), ())
    row_ptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return (row_ptr, successors, probabilities, count, states, actions), rewards, np.array(ended, bool)
