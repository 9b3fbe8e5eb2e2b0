"""What can be reached, and from where an end can be missed."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.rl.mdp.kernels._compile import compiled

__all__ = ["absorbing_states", "backward_reach", "endless_states", "forward_reach", "state_of_rows", "steer"]


@compiled
def state_of_rows(state_ptr: Any, out: Any) -> None:
    for s in range(state_ptr.size - 1):
        out[state_ptr[s] : state_ptr[s + 1]] = s


@compiled
def absorbing_states(
    state_ptr: Any, row_ptr: Any, successors: Any, probabilities: Any, rewards: Any, free: bool, out: Any
) -> None:
    """out[s]: no action leaves s. With `free`: and none is rewarded there."""
    for s in range(out.size):
        stays = True
        for r in range(state_ptr[s], state_ptr[s + 1]):
            if free and rewards[r] != 0:
                stays = False
            for j in range(row_ptr[r], row_ptr[r + 1]):
                if probabilities[j] > 0 and successors[j] != s:
                    stays = False
            if not stays:
                break
        out[s] = stays


@compiled
def forward_reach(state_ptr: Any, row_ptr: Any, successors: Any, probabilities: Any, reached: Any) -> None:
    """Mark all that can be reached from what is marked."""
    stack = np.empty(reached.size, np.int64)
    top = 0
    for s in range(reached.size):
        if reached[s]:
            stack[top] = s
            top += 1
    while top:
        top -= 1
        s = stack[top]
        for j in range(row_ptr[state_ptr[s]], row_ptr[state_ptr[s + 1]]):
            other = successors[j]
            if probabilities[j] > 0 and not reached[other]:
                reached[other] = True
                stack[top] = other
                top += 1


@compiled
def backward_reach(begins: Any, rows: Any, places: Any, weights: Any, states: Any, reached: Any) -> None:
    """Mark all from where something marked can be reached; `states` has the state of each row."""
    stack = np.empty(reached.size, np.int64)
    top = 0
    for s in range(reached.size):
        if reached[s]:
            stack[top] = s
            top += 1
    while top:
        top -= 1
        s = stack[top]
        for i in range(begins[s], begins[s + 1]):
            before = states[rows[i]]
            if weights[places[i]] > 0 and not reached[before]:
                reached[before] = True
                stack[top] = before
                top += 1


@compiled
def endless_states(
    begins: Any, rows: Any, places: Any, weights: Any, states: Any, ending: Any, ended: Any, counts: Any
) -> None:
    """Mark in `ended` all states from which every policy comes to an end, for sure, at last.

    ended: those where it has ended; ending: rows that may end at once. A row is endless if it cannot end and all of its
    successors may be endless; counts[s], the number of endless rows of s, falls to 0 where every policy ends. (What is
    left is the largest set of states that can be stayed in for ever.)"""
    stack = np.empty(ended.size, np.int64)
    top = 0
    spoiled = ending.copy()
    for r in range(ending.size):
        if ending[r]:
            counts[states[r]] -= 1
    for s in range(ended.size):
        if ended[s] or counts[s] == 0:
            ended[s] = True
            stack[top] = s
            top += 1
    while top:
        top -= 1
        s = stack[top]
        for i in range(begins[s], begins[s + 1]):
            r = rows[i]
            if weights[places[i]] > 0 and not spoiled[r]:
                spoiled[r] = True
                before = states[r]
                counts[before] -= 1
                if counts[before] == 0 and not ended[before]:
                    ended[before] = True
                    stack[top] = before
                    top += 1


@compiled
def steer(
    begins: Any,
    rows: Any,
    places: Any,
    weights: Any,
    states: Any,
    actions: Any,
    allowed: Any,
    reached: Any,
    policy: Any,
) -> None:
    """Backwards from what is marked, give each state that an allowed row can leave for it the action of that row."""
    queue = np.empty(reached.size, np.int64)
    head, tail = 0, 0
    for s in range(reached.size):
        if reached[s]:
            queue[tail] = s
            tail += 1
    while head < tail:
        s = queue[head]
        head += 1
        for i in range(begins[s], begins[s + 1]):
            r = rows[i]
            before = states[r]
            if allowed[r] and weights[places[i]] > 0 and not reached[before]:
                reached[before] = True
                policy[before] = actions[r]
                queue[tail] = before
                tail += 1
