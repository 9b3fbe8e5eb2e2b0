"""Prioritized sweeping over a binary heap."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.rl.mdp.kernels._compile import compiled

__all__ = ["predecessors", "sweep_by_priority"]


@compiled
def predecessors(begins: Any, rows: Any, places: Any, weights: Any, states: Any) -> tuple[Any, Any, Any]:
    """For each state j the states s before it, each once, and the most that an action moves from s to j:
    max_a sum weights[s, a, j]. The columns of `transpose` are ordered by row, so by state and action."""
    ptr = np.zeros(begins.size, np.int64)
    before, most = np.empty(rows.size, np.int32), np.empty(rows.size, np.float64)
    k = 0
    for j in range(begins.size - 1):
        i, end = begins[j], begins[j + 1]
        while i < end:
            s, largest = states[rows[i]], 0.0
            while i < end and states[rows[i]] == s:
                r, total = rows[i], 0.0
                while i < end and rows[i] == r:
                    total += weights[places[i]]
                    i += 1
                largest = max(largest, total)
            if largest > 0:
                before[k], most[k] = s, largest
                k += 1
        ptr[j + 1] = k
    return ptr, before[:k].copy(), most[:k].copy()


@compiled
def _rise(heap: Any, position: Any, priority: Any, i: int) -> None:
    s = heap[i]
    while i > 0:
        up = (i - 1) >> 1
        other = heap[up]
        if priority[other] >= priority[s]:
            break
        heap[i] = other
        position[other] = i
        i = up
    heap[i] = s
    position[s] = i


@compiled
def _sink(heap: Any, position: Any, priority: Any, size: int) -> None:
    s, i = heap[0], 0
    while True:
        down = 2 * i + 1
        if down >= size:
            break
        if down + 1 < size and priority[heap[down + 1]] > priority[heap[down]]:
            down += 1
        other = heap[down]
        if priority[other] <= priority[s]:
            break
        heap[i] = other
        position[other] = i
        i = down
    heap[i] = s
    position[s] = i


@compiled
def sweep_by_priority(
    state_ptr: Any,
    row_ptr: Any,
    successors: Any,
    weights: Any,
    rewards: Any,
    discount: float,
    ptr: Any,
    before: Any,
    most: Any,
    threshold: float,
    limit: int,
    priority: Any,
    value: Any,
) -> int:
    """Back up the state of the highest priority, add to its predecessors' what that can have changed there, and so on,
    until no priority is above the threshold or `limit` backups are made; returns how many were made.

    priority[s] is at no time less than |max_a q(s, a) - value[s]|."""
    heap, position = np.empty(value.size, np.int64), np.full(value.size, -1, np.int64)
    size = 0
    for s in range(value.size):
        if priority[s] > threshold:
            heap[size] = s
            _rise(heap, position, priority, size)
            size += 1
    backups = 0
    while size and backups < limit:
        s = heap[0]
        size -= 1
        position[s] = -1
        if size:
            heap[0] = heap[size]
            _sink(heap, position, priority, size)
        best = -np.inf
        for r in range(state_ptr[s], state_ptr[s + 1]):
            total = 0.0
            for j in range(row_ptr[r], row_ptr[r + 1]):
                total += weights[j] * value[successors[j]]
            best = max(best, rewards[r] + discount * total)
        if state_ptr[s] == state_ptr[s + 1]:
            best = 0.0
        change = abs(best - value[s])
        value[s] = best
        priority[s] = 0.0
        backups += 1
        for i in range(ptr[s], ptr[s + 1]):
            other = before[i]
            priority[other] += discount * most[i] * change
            if priority[other] > threshold:
                if position[other] < 0:
                    heap[size] = other
                    position[other] = size
                    size += 1
                _rise(heap, position, priority, position[other])
    return backups
