"""Returns, advantages and losses of policies: against the papers' sums, in programs, and with masks of any kind."""

from __future__ import annotations

import threading
import time
from math import prod
from typing import Any

import numpy as np
import pytest

import fastdl

T, GAMMA, LMBDA = 12, 0.9, 0.8


def _episode(seed: int = 0) -> tuple[Any, ...]:
    """Rewards, values of states, of next states, and masks: an end at step 4, a truncation at step 8."""
    rng = np.random.default_rng(seed)
    reward, value, after = rng.standard_normal((3, T))
    next_value = np.append(value[1:], after[0])
    next_value[8] = after[8]  # of the final observation, not of the next episode's first
    terminated, done = np.zeros(T, bool), np.zeros(T, bool)
    terminated[4] = done[4] = done[8] = True
    return reward, value, next_value, terminated, done


def _last(step: int) -> int:
    """The last step of the episode that a step is in."""
    return next(end for end in (4, 8, T - 1) if end >= step)


def test_gae_is_the_sum_of_discounted_errors() -> None:
    """Schulman et al. (2016), equation 16."""
    reward, value, next_value, terminated, done = _episode()
    delta = reward + GAMMA * (1 - terminated) * next_value - value
    expected = [sum((GAMMA * LMBDA) ** (t - s) * delta[t] for t in range(s, _last(s) + 1)) for s in range(T)]
    found = fastdl.gae(reward, value, next_value, terminated, done, gamma=GAMMA, lmbda=LMBDA)
    np.testing.assert_allclose(found.advantage, expected, rtol=1e-12)
    np.testing.assert_allclose(found.value_target, expected + value, rtol=1e-12)


@pytest.mark.parametrize(("rho_threshold", "c_threshold", "lmbda"), [(1.0, 1.0, 1.0), (2.0, 0.5, 0.7)])
def test_vtrace_is_the_sum_of_the_paper(rho_threshold: float, c_threshold: float, lmbda: float) -> None:
    """Espeholt et al. (2018), equation 1, and the policy gradient of section 4.2."""
    reward, value, next_value, terminated, done = _episode(1)
    log_rho = np.random.default_rng(2).standard_normal(T)
    rho, c = np.minimum(rho_threshold, np.exp(log_rho)), lmbda * np.minimum(c_threshold, np.exp(log_rho))
    delta = rho * (reward + GAMMA * (1 - terminated) * next_value - value)

    def target(s: int) -> float:
        terms = (GAMMA ** (t - s) * prod(c[s:t]) * delta[t] for t in range(s, _last(s) + 1))
        return float(value[s] + sum(terms))

    targets = np.array([target(s) for s in range(T)])
    follows = [next_value[s] if s == _last(s) else targets[s + 1] for s in range(T)]
    expected = rho * (reward + GAMMA * (1 - terminated) * np.array(follows) - value)
    options = {"rho_threshold": rho_threshold, "c_threshold": c_threshold, "lmbda": lmbda}
    found = fastdl.vtrace(log_rho, reward, value, next_value, terminated, done, gamma=GAMMA, **options)
    np.testing.assert_allclose(found.value_target, targets, rtol=1e-12)
    np.testing.assert_allclose(found.advantage, expected, rtol=1e-12)


@pytest.mark.parametrize("backend", fastdl.available_backends())
def test_what_is_behind_an_end_does_not_count(backend: str) -> None:
    """Whatever it is."""
    reward, value, next_value, terminated, done = _episode(3)
    spoilt, useless = reward.copy(), next_value.copy()
    spoilt[9], useless[4] = np.nan, np.inf
    with fastdl.use_backend(backend):
        clean = fastdl.gae(reward, value, next_value, terminated, done, gamma=GAMMA, lmbda=LMBDA)
        found = fastdl.gae(spoilt, value, useless, terminated, done, gamma=GAMMA, lmbda=LMBDA)
    np.testing.assert_array_equal(found.advantage[:9], clean.advantage[:9])
    assert np.isnan(found.advantage[9])


def test_programs() -> None:
    """An update of a policy: masks are arguments, and are seen where they are."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((3, 4), np.float32)

    def update(x: Any, action: Any, reward: Any, value: Any, done: Any) -> Any:
        advantage, target = fastdl.gae(reward, value, value, done, gamma=0.99, lmbda=0.95)
        logits = fastdl.linear(x, weight)
        given = logits, action, advantage.reshape(-1)
        loss = fastdl.categorical_policy_loss(*given, entropy_weight=0.01)
        grad = fastdl.categorical_policy_loss_backward(1.0, *given, entropy_weight=0.01)
        return loss, fastdl.linear_backward(grad, x, weight).weight, target

    def arguments() -> tuple[Any, ...]:
        x, reward, value = (rng.standard_normal(s, np.float32) for s in ((20, 4), (10, 2), (10, 2)))
        return x, rng.integers(0, 3, 20), reward, value, rng.uniform(size=(10, 2)) < 0.3

    program = fastdl.record(update, *arguments())
    for _ in range(3):
        given = arguments()
        for found, expected in zip(program(*given), update(*given), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_mask_that_numpy_makes_inside_of_a_program_is_refused() -> None:
    """Also a short one, which is no number."""

    def returns(reward: Any, done: Any) -> Any:
        return fastdl.discounted_returns(reward, np.zeros(4, bool), gamma=0.5)

    with pytest.raises(fastdl.RecordError, match="done of discounted_returns"):
        fastdl.record(returns, np.ones(4), np.zeros(4, bool))


def test_actions_are_written_meanwhile() -> None:
    """Whatever they are when they are read: a ValueError or a result."""
    rng = np.random.default_rng(0)
    logits, action, advantage = rng.standard_normal((20_000, 3)), np.zeros(20_000, np.int64), np.ones(20_000)
    stop = threading.Event()

    def refill() -> None:
        bad = np.full_like(action, 2**40)
        while not stop.is_set():
            action[...] = bad
            action[...] = 0

    thread = threading.Thread(target=refill)
    thread.start()
    refused = 0
    try:
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            try:
                fastdl.categorical_policy_loss_backward(1.0, logits, action, advantage)
            except ValueError as error:
                assert "action: found one outside" in str(error)  # noqa: PT017
                refused += 1
    finally:
        stop.set()
        thread.join()
    assert refused > 0
