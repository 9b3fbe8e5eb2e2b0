"""What is asked of arrays before anything else is done with them. Each returns or notes the first row that is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.rl.mdp.kernels._compile import compiled

__all__ = ["FAULTS", "ROWS", "check_policy_rows", "check_rows", "expected", "find_rows"]

ROWS = 4096
"""Rows that are looked at together."""
FAULTS = ("", "not finite", "negative", "outside", "sum", "empty")


@compiled
def check_rows(
    row_ptr: Any, successors: Any, probabilities: Any, states: int, tolerance: float, faults: Any, begin: int, end: int
) -> None:
    """faults[block] = (row, fault, transition) of the first row of a block that is no distribution over states."""
    for block in range(begin, end):
        for row in range(block * ROWS, min(block * ROWS + ROWS, row_ptr.size - 1)):
            total, fault, place = 0.0, 0, -1
            for j in range(row_ptr[row], row_ptr[row + 1]):
                p = probabilities[j]
                if fault == 0:
                    if not np.isfinite(p):
                        fault, place = 1, j
                    elif p < 0:
                        fault, place = 2, j
                    elif successors[j] < 0 or successors[j] >= states:
                        fault, place = 3, j
                total += p
            if fault == 0 and abs(total - 1.0) > tolerance:
                fault = 4 if row_ptr[row] < row_ptr[row + 1] else 5
            if fault:
                faults[block, 0], faults[block, 1], faults[block, 2] = row, fault, place
                break


@compiled
def expected(row_ptr: Any, probabilities: Any, amounts: Any, out: Any, begin: int, end: int) -> None:
    """out[row] = sum_j probabilities[row, j] * amounts[row, j], for blocks of rows."""
    for row in range(begin * ROWS, min(end * ROWS, out.size)):
        total = 0.0
        for j in range(row_ptr[row], row_ptr[row + 1]):
            total += probabilities[j] * amounts[j]
        out[row] = total


@compiled
def find_rows(state_ptr: Any, actions: Any, policy: Any, rows: Any) -> int:
    """rows[s] = the row of action policy[s], -1 in a state without actions. Returns the first state that does not have
    its action, -1 if there is none."""
    for s in range(policy.size):
        rows[s] = -1
        begin, end = state_ptr[s], state_ptr[s + 1]
        if begin == end:
            continue
        guess = begin + policy[s]
        if policy[s] >= 0 and guess < end and actions[guess] == policy[s]:
            rows[s] = guess
            continue
        for r in range(begin, end):
            if actions[r] == policy[s]:
                rows[s] = r
        if rows[s] < 0:
            return s
    return -1


@compiled
def check_policy_rows(state_ptr: Any, actions: Any, policy: Any, tolerance: float, out: Any) -> tuple[int, int, int]:
    """out[row] = policy[s, a]. Returns the first state and action that are wrong, and how: 1, 2 and 4 as FAULTS, 5: an
    action that the state does not have; all -1 if there is none."""
    for s in range(policy.shape[0]):
        r, end = state_ptr[s], state_ptr[s + 1]
        if r == end:
            continue
        total = 0.0
        for a in range(policy.shape[1]):
            p = policy[s, a]
            if not np.isfinite(p):
                return s, a, 1
            if p < 0:
                return s, a, 2
            if r < end and actions[r] == a:
                out[r] = p
                r += 1
            elif p != 0:
                return s, a, 5
            total += p
        if abs(total - 1.0) > tolerance:
            return s, -1, 4
    return -1, -1, -1
