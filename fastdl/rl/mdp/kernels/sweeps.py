"""Passes over all states: Bellman's operator, that of one policy, and action values."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.rl.mdp.kernels._compile import AHEAD, compiled, prefetch

__all__ = ["BLOCK", "affine", "bellman", "gauss_seidel", "q_values"]

BLOCK = 1024
"""States, of which smallest and largest change are noted together."""


@compiled
def bellman(
    state_ptr: Any,
    row_ptr: Any,
    successors: Any,
    weights: Any,
    rewards: Any,
    actions: Any,
    discount: float,
    tie: float,
    value: Any,
    out: Any,
    policy: Any,
    extremes: Any,
    begin: int,
    end: int,
) -> None:
    """out[s] = max_a q(s, a), q(s, a) = rewards[s, a] + discount * sum_j weights[s, a, j] * value[j], for the blocks
    begin to end.

    policy[s] becomes the lowest action within about `tie` of the best. extremes[block] = smallest and largest out -
    value, largest |out|. A state without actions is worth 0, action -1. `actions` is empty where every state has all,
    so that they need not be read."""
    last = successors.size - 1
    numbered = actions.size > 0
    for block in range(begin, end):
        low, high, size = np.inf, -np.inf, 0.0
        first, behind = block * BLOCK, min(block * BLOCK + BLOCK, out.size)
        k = row_ptr[state_ptr[first]]
        for s in range(first, behind):
            best, chosen, action = -np.inf, -np.inf, -1
            row = state_ptr[s]
            for r in range(row, state_ptr[s + 1]):
                total = 0.0
                stop = row_ptr[r + 1]
                for j in range(k, stop):
                    prefetch(value, np.int64(successors[min(j + AHEAD, last)]))
                    total += weights[j] * value[np.uint32(successors[j])]
                k = stop
                q = rewards[r] + discount * total
                best = max(best, q)
                if q > chosen + tie:
                    chosen, action = q, r - row
            if action < 0:
                best = 0.0
            elif numbered:
                action = actions[row + action]
            change = best - value[s]
            low, high, size = min(low, change), max(high, change), max(size, abs(best))
            out[s] = best
            policy[s] = action
        extremes[block, 0], extremes[block, 1], extremes[block, 2] = low, high, size


@compiled
def gauss_seidel(
    state_ptr: Any,
    row_ptr: Any,
    successors: Any,
    weights: Any,
    rewards: Any,
    discount: float,
    backwards: bool,
    value: Any,
    extremes: Any,
) -> None:
    """value[s] = max_a q(s, a), one state after the other, each with what those before it have become."""
    states, last = value.size, successors.size - 1
    low, high, size = np.inf, -np.inf, 0.0
    ahead = -AHEAD if backwards else AHEAD
    for i in range(states):
        s = states - 1 - i if backwards else i
        best = -np.inf
        for r in range(state_ptr[s], state_ptr[s + 1]):
            total = 0.0
            for j in range(row_ptr[r], row_ptr[r + 1]):
                prefetch(value, np.int64(successors[max(0, min(j + ahead, last))]))
                total += weights[j] * value[np.uint32(successors[j])]
            best = max(best, rewards[r] + discount * total)
        if state_ptr[s] == state_ptr[s + 1]:
            best = 0.0
        change = best - value[s]
        low, high, size = min(low, change), max(high, change), max(size, abs(best))
        value[s] = best
    extremes[0, 0], extremes[0, 1], extremes[0, 2] = low, high, size


@compiled
def affine(
    ptr: Any,
    columns: Any,
    weights: Any,
    constants: Any,
    discount: float,
    value: Any,
    out: Any,
    extremes: Any,
    begin: int,
    end: int,
) -> None:
    """out[i] = constants[i] + discount * sum_j weights[i, j] * value[j]; extremes as of `bellman`."""
    last = columns.size - 1
    for block in range(begin, end):
        low, high, size = np.inf, -np.inf, 0.0
        first, behind = block * BLOCK, min(block * BLOCK + BLOCK, out.size)
        k = ptr[first]
        for i in range(first, behind):
            total = 0.0
            stop = ptr[i + 1]
            for j in range(k, stop):
                prefetch(value, np.int64(columns[min(j + AHEAD, last)]))
                total += weights[j] * value[np.uint32(columns[j])]
            k = stop
            new = constants[i] + discount * total
            change = new - value[i]
            low, high, size = min(low, change), max(high, change), max(size, abs(new))
            out[i] = new
        extremes[block, 0], extremes[block, 1], extremes[block, 2] = low, high, size


@compiled
def q_values(
    state_ptr: Any,
    row_ptr: Any,
    successors: Any,
    weights: Any,
    rewards: Any,
    actions: Any,
    discount: float,
    value: Any,
    out: Any,
    begin: int,
    end: int,
) -> None:
    """out[s, a] = q(s, a) of the actions that states have, for the blocks begin to end."""
    last = successors.size - 1
    for s in range(begin * BLOCK, min(end * BLOCK, value.size)):
        for r in range(state_ptr[s], state_ptr[s + 1]):
            total = 0.0
            for j in range(row_ptr[r], row_ptr[r + 1]):
                prefetch(value, np.int64(successors[min(j + AHEAD, last)]))
                total += weights[j] * value[np.uint32(successors[j])]
            out[s, actions[r]] = rewards[r] + discount * total
