"""The Markov chain of a policy, the transpose of a sparse matrix, and episodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.rl.mdp.kernels._compile import compiled

__all__ = ["CHAIN_BLOCK", "episode", "fill_chain", "mix_chain", "sort_rows", "transpose"]

CHAIN_BLOCK = 1024


@compiled
def fill_chain(
    rows: Any, row_ptr: Any, successors: Any, weights: Any, ptr: Any, columns: Any, out: Any, begin: int, end: int
) -> None:
    """The transitions of rows[i], side by side, for the blocks begin to end of i; ptr says where they go."""
    for i in range(begin * CHAIN_BLOCK, min(end * CHAIN_BLOCK, rows.size)):
        if rows[i] < 0:
            continue
        k = ptr[i]
        for j in range(row_ptr[rows[i]], row_ptr[rows[i] + 1]):
            columns[k] = successors[j]
            out[k] = weights[j]
            k += 1


@compiled
def mix_chain(
    shares: Any,
    state_ptr: Any,
    row_ptr: Any,
    successors: Any,
    weights: Any,
    rewards: Any,
    ptr: Any,
    columns: Any,
    out: Any,
    constants: Any,
    begin: int,
    end: int,
) -> None:
    """The transitions of all rows with a share in their state, times that share, and the mean of their rewards."""
    for s in range(begin * CHAIN_BLOCK, min(end * CHAIN_BLOCK, constants.size)):
        k, total = ptr[s], 0.0
        for r in range(state_ptr[s], state_ptr[s + 1]):
            if shares[r] == 0:
                continue
            total += shares[r] * rewards[r]
            for j in range(row_ptr[r], row_ptr[r + 1]):
                columns[k] = successors[j]
                out[k] = shares[r] * weights[j]
                k += 1
        constants[s] = total


@compiled
def transpose(ptr: Any, columns: Any, states: int) -> tuple[Any, Any, Any]:
    """The places of a sparse matrix column by column: where each column begins, and the row and the place of each."""
    begins = np.zeros(states + 1, np.int64)
    for j in range(columns.size):
        begins[columns[j] + 1] += 1
    for i in range(states):
        begins[i + 1] += begins[i]
    fill = begins[:-1].copy()
    rows, places = np.empty(columns.size, np.int64), np.empty(columns.size, np.int64)
    for row in range(ptr.size - 1):
        for j in range(ptr[row], ptr[row + 1]):
            k = fill[columns[j]]
            fill[columns[j]] = k + 1
            rows[k], places[k] = row, j
    return begins, rows, places


@compiled
def sort_rows(ptr: Any, columns: Any, values: Any) -> Any:
    """Sort each row by column, in place, adding up what has the same one; returns the lengths that are left. What is
    left of a row stays at its beginning, without zeros."""
    lengths = np.zeros(ptr.size - 1, np.int64)
    for row in range(ptr.size - 1):
        begin, end = ptr[row], ptr[row + 1]
        order = begin + np.argsort(columns[begin:end], kind="mergesort")
        sorted_columns, sorted_values = columns[order], values[order]
        k = begin - 1
        for i in range(end - begin):
            if sorted_values[i] == 0:
                continue
            if k >= begin and columns[k] == sorted_columns[i]:
                values[k] += sorted_values[i]
            else:
                k += 1
                columns[k], values[k] = sorted_columns[i], sorted_values[i]
        lengths[row] = k + 1 - begin
    return lengths


@compiled
def _drawn(shares: Any, begin: int, end: int, uniform: float) -> int:
    """The place in which the running sum of shares passes `uniform`; never one without a share."""
    total, last = 0.0, begin
    for j in range(begin, end):
        if shares[j] > 0:
            total += shares[j]
            last = j
            if uniform < total:
                break
    return last


@compiled
def episode(
    state_ptr: Any,
    row_ptr: Any,
    successors: Any,
    probabilities: Any,
    weights: Any,
    rewards: Any,
    by_transition: bool,
    transition_rewards: Any,
    shares: Any,
    uniforms: Any,
    states: Any,
    rows: Any,
    gained: Any,
) -> tuple[int, bool]:
    """Walk from states[0]; returns how many steps were made and whether the episode ended."""
    for step in range(rows.size):
        s = states[step]
        if state_ptr[s] == state_ptr[s + 1]:
            return step, True
        row = _drawn(shares, state_ptr[s], state_ptr[s + 1], uniforms[step, 0])
        j = _drawn(probabilities, row_ptr[row], row_ptr[row + 1], uniforms[step, 1])
        rows[step] = row
        gained[step] = transition_rewards[j] if by_transition else rewards[row]
        states[step + 1] = successors[j]
        if weights[j] == 0:
            return step + 1, True
    final = states[rows.size]
    return rows.size, state_ptr[final] == state_ptr[final + 1]
