"""A replay buffer in arrays made beforehand, drawn from evenly or by priority."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastdl.rl._numba import borrowing, inlined
from fastdl.rl.agents._collect import copy
from fastdl.rl.random import integers, random

Array = np.ndarray[Any, Any]


class Replay(NamedTuple):
    """C transitions, of which the oldest are overwritten. R is float32 or float64."""

    observations: Array
    """(C, O), R."""
    next_observations: Array
    """(C, O), R."""
    actions: Array
    """(C,), int64."""
    rewards: Array
    """(C,), R."""
    terminated: Array
    """(C,), bool."""
    place: Array
    """(2,), int64: where the next one is written, and how many there are."""
    tree: Array
    """(2 * P,), float64: sums of priorities, of node i those of 2i and 2i + 1; leaf P + c belongs to transition c. One
    element: all count the same."""
    largest: Array
    """(1,), float64: the largest priority so far, which new transitions are given."""


class Batch(NamedTuple):
    """B transitions that were drawn."""

    rows: Array
    """(B,), int64: which."""
    observations: Array
    next_observations: Array
    actions: Array
    targets: Array
    """(B,), R: minus what their values should be."""
    weights: Array
    """(B,), R: by how much they count."""
    losses: Array
    """(B,), R: minus the values that they have."""


def replay_of(capacity: int, size: int, dtype: Any, prioritized: bool) -> Replay:
    leaves = 1
    while prioritized and leaves < capacity:
        leaves *= 2
    return Replay(
        np.zeros((capacity, size), dtype),
        np.zeros((capacity, size), dtype),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, dtype),
        np.zeros(capacity, np.bool_),
        np.zeros(2, np.int64),
        np.zeros(2 * leaves if prioritized else 1),
        np.ones(1),
    )


def batch_of(rows: int, size: int, dtype: Any) -> Batch:
    return Batch(
        np.zeros(rows, np.int64),
        np.zeros((rows, size), dtype),
        np.zeros((rows, size), dtype),
        np.zeros(rows, np.int64),
        *(np.zeros(rows, dtype) for _ in range(3)),
    )


@inlined
def set_priority(tree: Any, row: int, priority: float) -> None:
    node = tree.shape[0] // 2 + row
    tree[node] = priority
    node //= 2
    while node:
        tree[node] = tree[2 * node] + tree[2 * node + 1]
        node //= 2


@inlined
def _found(tree: Any, sum_before: float) -> Any:
    """The row where the sum of priorities, from the first on, goes beyond that."""
    leaves = tree.shape[0] // 2
    node = 1
    while node < leaves:
        node *= 2
        if sum_before >= tree[node] and tree[node + 1] > 0.0:
            sum_before -= tree[node]
            node += 1
    return node - leaves


@inlined
def store(replay: Any, observation: Any, action: int, reward: float, terminated: bool, after: Any) -> None:
    """Add a transition."""
    row, capacity = replay.place[0], replay.actions.shape[0]
    copy(observation, replay.observations[row])
    copy(after, replay.next_observations[row])
    replay.actions[row], replay.rewards[row], replay.terminated[row] = action, reward, terminated
    replay.place[0] = (row + 1) % capacity
    replay.place[1] = min(replay.place[1] + 1, capacity)
    if replay.tree.shape[0] > 1:
        set_priority(replay.tree, row, replay.largest[0])


@borrowing
def draw(replay: Any, batch: Any, beta: float, rng: Any) -> None:
    """Draw transitions and their weights: evenly, or by priority, where ``(1 / (n * probability))^beta`` makes up for
    it, the largest of a batch being 1 (Schaul et al. 2016)."""
    rows, n = batch.rows.shape[0], replay.place[1]
    prioritized = replay.tree.shape[0] > 1
    leaves, largest = replay.tree.shape[0] // 2, 0.0
    for b in range(rows):
        if prioritized:
            total = replay.tree[1]
            row = _found(replay.tree, (b + random(rng)) / rows * total)
            weight = (total / (n * replay.tree[leaves + row])) ** beta
            batch.weights[b] = weight
            largest = max(largest, weight)
        else:
            row = integers(rng, n)
            batch.weights[b] = 1.0
        batch.rows[b] = row
        copy(replay.observations[row], batch.observations[b])
        copy(replay.next_observations[row], batch.next_observations[b])
        batch.actions[b] = replay.actions[row]
    for b in range(rows):
        batch.weights[b] /= rows * (largest if prioritized else 1.0)


@borrowing
def reprioritize(replay: Any, batch: Any, alpha: float) -> None:
    """Priorities by how wrong the values were: ``(|error| + 1e-6)^alpha``."""
    for b in range(batch.rows.shape[0]):
        priority = (abs(np.float64(batch.targets[b]) - batch.losses[b]) + 1e-6) ** alpha
        replay.largest[0] = max(replay.largest[0], priority)
        set_priority(replay.tree, batch.rows[b], priority)
