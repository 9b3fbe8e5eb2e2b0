"""Blackjack against a dealer, with an infinite deck (Sutton and Barto 2018, example 5.1)."""

from __future__ import annotations

from typing import Any

from fastdl.rl._numba import compiled
from fastdl.rl.environment import Environment
from fastdl.rl.envs._options import as_in_gymnasium, flag, gymnasium
from fastdl.rl.random import integers

__all__ = ["blackjack"]

# What the state holds: of the player's hand and of the dealer's the sum (an ace is 1), whether there is an ace, and how
# many cards; the dealer's first card; parameters.
PLAYER, DEALER, SHOWN = 0, 3, 6
NATURAL, SUTTON_BARTO = range(7, 9)

SUM, ACE, CARDS = range(3)


@compiled
def draw(state: Any, hand: Any, rng: Any) -> Any:
    card = min(integers(rng, 13) + 1, 10)
    state[hand + SUM] += card
    state[hand + CARDS] += 1.0
    if card == 1:
        state[hand + ACE] = 1.0
    return card


@compiled
def usable_ace(state: Any, hand: Any) -> Any:
    return state[hand + ACE] != 0.0 and state[hand + SUM] <= 11.0


@compiled
def total(state: Any, hand: Any) -> Any:
    return state[hand + SUM] + (10.0 if usable_ace(state, hand) else 0.0)


@compiled
def is_natural(state: Any, hand: Any) -> Any:
    return state[hand + CARDS] == 2.0 and total(state, hand) == 21.0


@compiled
def observe(state: Any, observation: Any) -> None:
    observation[0] = total(state, PLAYER)
    observation[1] = state[SHOWN]
    observation[2] = usable_ace(state, PLAYER)


@compiled
def reset(state: Any, observation: Any, rng: Any) -> None:
    state[:SHOWN] = 0.0
    state[SHOWN] = draw(state, DEALER, rng)
    draw(state, DEALER, rng)
    draw(state, PLAYER, rng)
    draw(state, PLAYER, rng)
    integers(rng, 4)  # Gymnasium draws the suit of the card shown, and which one a card of 10 is, for its picture
    if state[SHOWN] == 10.0:
        integers(rng, 3)
    observe(state, observation)


@compiled
def step(state: Any, action: Any, observation: Any, rng: Any) -> Any:
    if action == 1:
        draw(state, PLAYER, rng)
        observe(state, observation)
        bust = state[PLAYER + SUM] > 21.0
        return (-1.0 if bust else 0.0), bust
    while total(state, DEALER) < 17.0:
        draw(state, DEALER, rng)
    observe(state, observation)
    player, dealer = total(state, PLAYER), total(state, DEALER)
    won = player > dealer or dealer > 21.0
    if is_natural(state, PLAYER):
        if state[SUTTON_BARTO] != 0.0:
            won = won or not is_natural(state, DEALER)
        elif won and state[NATURAL] != 0.0:
            return 1.5, True
    return (1.0 if won else (-1.0 if player < dealer else 0.0)), True


def blackjack(*, natural: bool = False, sab: bool = True, max_steps: int | None = None) -> Environment:
    """Blackjack-v1: to come closer to 21 than the dealer, not beyond, by sticking (0) or another card (1).

    An observation is the player's sum, the dealer's card that is shown, and whether the player has an ace that counts
    11. Cards are drawn with replacement; the dealer sticks from 17 on. An episode is one game, rewarded with 1, 0 or
    -1. The same numbers as Gymnasium's, from the same seed.

    Parameters
    ----------
    natural : bool
        Whether a game won with an ace and a 10 at once is rewarded with 1.5, where `sab` is False.
    sab : bool
        Whether an ace and a 10 at once win as in the book of Sutton and Barto: unless the dealer has the same.
        ``gymnasium.make`` says True.
    max_steps : int, optional
        After how many steps an episode is cut off; Gymnasium's are not.

    Returns
    -------
    Environment
        `state` is both hands.

    Raises
    ------
    TypeError
        An option that is not True or False.

    References
    ----------
    Sutton and Barto, "Reinforcement learning: an introduction" (2018), example 5.1.

    Examples
    --------
    >>> from fastdl import rl
    >>> rl.envs.blackjack().observation_counts
    (32, 11, 2)
    """
    options = {"natural": flag("natural", natural), "sab": flag("sab", sab)}
    spaces = gymnasium().spaces
    return Environment(
        reset,
        step,
        spaces.Tuple((spaces.Discrete(32), spaces.Discrete(11), spaces.Discrete(2))),
        spaces.Discrete(2),
        state=[0.0] * 7 + [natural, sab],
        **as_in_gymnasium("Blackjack-v1", blackjack, max_steps, options),
    )
