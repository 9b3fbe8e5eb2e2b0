"""PETSc's binary format, for the solver madupite."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdl.rl.mdp._lazy import kernels

if TYPE_CHECKING:
    from fastdl.rl.mdp._model import MDP

MAT_FILE_CLASSID = 1211216


def write(mdp: MDP, transitions: str | PathLike[str], costs: str | PathLike[str]) -> None:
    num_states, num_actions = mdp.num_states + (mdp._ending is not None), mdp.num_actions
    rows = np.full((num_states, num_actions), -1, np.int64)
    rows[mdp._state_of_row(), mdp._actions] = np.arange(len(mdp._actions))
    idle = np.ones(num_states, bool)
    idle[: mdp.num_states] = np.diff(mdp._state_ptr) == 0
    first = np.append(mdp._state_ptr[:-1], 0)[:num_states]
    rows = np.where(rows < 0, first[:, None], rows)
    rows[idle] = -1
    reward = np.zeros((num_states, num_actions))
    reward[~idle] = mdp._rewards[rows[~idle]]
    flat = rows.ravel()
    there = flat >= 0
    # of each row its transitions, and one more: to the end, or where it stays
    lengths = np.ones(len(flat), np.int64)
    lengths[there] += np.diff(mdp._row_ptr)[flat[there]]
    ptr = np.concatenate(([0], np.cumsum(lengths)))
    columns, values = np.empty(ptr[-1], np.int32), np.zeros(ptr[-1])
    pieces = -(-len(flat) // kernels.CHAIN_BLOCK)
    kernels.fill_chain(flat, mdp._row_ptr, mdp._successors, mdp._weights, ptr, columns, values, 0, pieces)
    state = np.repeat(np.arange(num_states), num_actions)
    columns[ptr[1:] - 1] = np.where(there, num_states - 1, state)
    values[ptr[1:] - 1] = np.where(there, 0.0, 1.0)
    if mdp._ending is not None:
        ended = np.bincount(
            np.repeat(np.arange(len(mdp._actions)), np.diff(mdp._row_ptr)),
            mdp._probabilities - mdp._weights,
            len(mdp._actions),
        )
        values[ptr[1:][there] - 1] = ended[flat[there]]
    left = kernels.sort_rows(ptr, columns, values)
    kept = np.repeat(ptr[:-1], left) + _counting(left)
    _write_matrix(transitions, (len(flat), num_states), left, columns[kept], values[kept])
    every = np.tile(np.arange(num_actions), num_states)
    _write_matrix(costs, (num_states, num_actions), np.full(num_states, num_actions), every, 0.0 - reward.ravel())


def _counting(lengths: Any) -> Any:
    """0, 1, ... of each length in turn."""
    total = int(lengths.sum())
    return np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _write_matrix(path: str | PathLike[str], shape: tuple[int, int], lengths: Any, columns: Any, values: Any) -> None:
    if len(values) >= 2**31 or max(shape) >= 2**31:
        raise ValueError(f"mdp: found {len(values)} entries in a matrix {shape}, expected less than 2**31 of each")
    with open(path, "wb") as file:
        for part in ([MAT_FILE_CLASSID, *shape, len(values)], lengths, columns):
            file.write(np.asarray(part).astype(">i4").tobytes())
        file.write(values.astype(">f8").tobytes())
