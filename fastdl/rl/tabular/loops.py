"""The loops of tabular agents: over a table, over a compiled environment, and a step at a time from Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.rl._numba import borrowing, inlined
from fastdl.rl.environment import call_reset, call_step
from fastdl.rl.tabular.rules import (
    ACTION,
    ENDED,
    EPISODES,
    FULL,
    OUTSIDE,
    STATE,
    UNTIL,
    advance,
    begin,
    has_room,
    refresh,
)
from fastdl.rl.tabular.table import draw

__all__ = ["begin_once", "over_environment", "over_table", "refresh_all", "step_once"]


@borrowing
def over_table(t: Any, table: Any, steps: int) -> int:
    """Up to so many steps, up to the episode `UNTIL`; the last answer of `advance`."""
    s, a, answer = t.counters[STATE], t.counters[ACTION], 0
    for _ in range(steps):
        if not has_room(t):
            answer = FULL
            break
        if s < 0:
            s = np.int64(table.slots[draw(table, table.n_states * table.n_actions, t.rng[1])].successor)
            a = begin(t, s)
        slot = table.slots[draw(table, s * table.n_actions + a, t.rng[1])]
        s2 = np.int64(slot.successor)
        terminated = s2 < 0
        s2 = ~s2 if terminated else s2
        answer = advance(t, s, a, slot.reward, s2, terminated, False)
        s, a = s2, answer
        if answer < 0:
            s = -1
            if answer != ENDED or t.counters[EPISODES] == t.counters[UNTIL]:
                break
    t.counters[STATE], t.counters[ACTION] = s, a
    return answer


@borrowing
def over_environment(t: Any, reset: int, step: int, state: Any, observation: Any, counts: Any, steps: int) -> int:
    """The same, over functions at addresses."""
    s, a, answer = t.counters[STATE], t.counters[ACTION], 0
    for _ in range(steps):
        if not has_room(t):
            answer = FULL
            break
        if s < 0:
            call_reset(reset, state, observation, t.rng[1])
            s = raveled(observation, counts)
            if s < 0:
                answer = OUTSIDE
                break
            a = begin(t, s)
        r, terminated = call_step(step, state, a, observation, t.rng[1])
        s2 = raveled(observation, counts)
        if s2 < 0:
            answer, s = OUTSIDE, -1
            break
        answer = advance(t, s, a, r, s2, terminated, False)
        s, a = s2, answer
        if answer < 0:
            s = -1
            if answer != ENDED or t.counters[EPISODES] == t.counters[UNTIL]:
                break
    t.counters[STATE], t.counters[ACTION] = s, a
    return answer


@inlined
def raveled(observation: Any, counts: Any) -> Any:
    """The number of a discrete observation; -1: it is outside its space."""
    s = 0
    for i in range(counts.size):
        value = observation[i]
        if not 0 <= value < counts[i]:
            return -1
        s = s * counts[i] + int(value)
    return s


@borrowing
def begin_once(t: Any, s: int) -> int:
    """The first action in an environment that Python steps."""
    t.counters[STATE] = s
    t.counters[ACTION] = begin(t, s)
    return int(t.counters[ACTION])


@borrowing
def step_once(t: Any, r: float, s2: int, terminated: bool, cut_off: bool) -> int:
    """What `advance` answers to a step of such an environment."""
    answer = advance(t, t.counters[STATE], t.counters[ACTION], r, s2, terminated, cut_off)
    t.counters[STATE] = s2 if answer >= 0 else -1
    t.counters[ACTION] = answer
    return int(answer)


@borrowing
def refresh_all(t: Any) -> None:
    """Look for the best actions of all states."""
    for s in range(t.q.shape[1]):
        refresh(t, s)
