"""NumPy's generator PCG64 in compiled code: the same numbers, bit for bit, from the same seed.

A stream of random numbers is an array of six 64-bit integers, which every function here moves on. Seeded as
``numpy.random.default_rng(seed)`` it gives what that gives, so that an environment which draws as Gymnasium's does
starts and moves as that one does."""

from __future__ import annotations

from math import cos, log, pi, sqrt
from typing import Any

import numpy as np

from fastdl.rl._numba import compiled, intrinsic, ir, types

__all__ = ["bits", "integers", "normal", "product", "random", "streams", "uniform"]

# The multiplier of the 128-bit congruential generator (O'Neill 2014).
_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
_STATE_HIGH, _STATE_LOW, _INCREMENT_HIGH, _INCREMENT_LOW, _HAS_32, _NEXT_32 = range(6)
_MASK = (1 << 64) - 1


def streams(seed: int | np.random.SeedSequence | None, n: int | None = None) -> np.ndarray[Any, Any]:
    """The state of a generator, or of `n` independent ones, for the functions of this module.

    Parameters
    ----------
    seed : int or numpy.random.SeedSequence or None
        As in ``numpy.random.default_rng``; None takes entropy from the system.
    n : int, optional
        How many; each is seeded by a child of the seed (``SeedSequence.spawn``).

    Returns
    -------
    ndarray of uint64, shape (6,) or (n, 6)
        High and low half of the state, of the increment, whether half of a drawn number is kept, and that half.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import rl
    >>> rng = rl.random.streams(7)
    >>> rl.random.random(rng) == np.random.default_rng(7).random()
    True
    """
    sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    if n is not None:
        return np.stack([streams(child) for child in sequence.spawn(n)]) if n else np.empty((0, 6), np.uint64)
    state: dict[str, Any] = np.random.PCG64(sequence).state  # type: ignore[assignment]
    value, increment = state["state"]["state"], state["state"]["inc"]
    return np.array(
        [value >> 64, value & _MASK, increment >> 64, increment & _MASK, state["has_uint32"], state["uinteger"]],
        np.uint64,
    )


@intrinsic
def _step(typing_context: Any, high: Any, low: Any, increment_high: Any, increment_low: Any) -> Any:
    """The next state, as (high, low), in 128-bit arithmetic, which Numba's integers do not have."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide, narrow = ir.IntType(128), ir.IntType(64)

        def joined(high: Any, low: Any) -> Any:
            shifted = builder.shl(builder.zext(high, wide), wide(64))
            return builder.or_(shifted, builder.zext(low, wide))

        state = builder.mul(joined(arguments[0], arguments[1]), wide(_MULTIPLIER))
        state = builder.add(state, joined(arguments[2], arguments[3]))
        halves = [builder.trunc(builder.lshr(state, wide(64)), narrow), builder.trunc(state, narrow)]
        return context.make_tuple(builder, signature.return_type, halves)

    return types.UniTuple(types.uint64, 2)(high, low, increment_high, increment_low), lower


@compiled
def bits(rng: Any) -> Any:
    """64 random bits, as a uint64."""
    high, low = _step(rng[_STATE_HIGH], rng[_STATE_LOW], rng[_INCREMENT_HIGH], rng[_INCREMENT_LOW])
    rng[_STATE_HIGH], rng[_STATE_LOW] = high, low
    mixed, rotation = high ^ low, high >> np.uint64(58)
    return (mixed >> rotation) | (mixed << ((np.uint64(64) - rotation) & np.uint64(63)))


@intrinsic
def product(typing_context: Any, a: Any, b: Any) -> Any:
    """The product of two uint64 as (high, low). For 64 random bits and n: an integer below n, and what is left of the
    number as a fraction, in units of 2**-64."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide, narrow = ir.IntType(128), ir.IntType(64)
        result = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        halves = [builder.trunc(builder.lshr(result, wide(64)), narrow), builder.trunc(result, narrow)]
        return context.make_tuple(builder, signature.return_type, halves)

    return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), lower


@compiled
def _bits_32(rng: Any) -> Any:
    """32 random bits: the low half of a number, then its high half."""
    if rng[_HAS_32]:
        rng[_HAS_32] = 0
        return rng[_NEXT_32]
    drawn = bits(rng)
    rng[_HAS_32] = 1
    rng[_NEXT_32] = drawn >> np.uint64(32)
    return drawn & np.uint64(0xFFFFFFFF)


@compiled
def random(rng: Any) -> Any:
    """A float64 from [0, 1), as ``Generator.random``."""
    return np.int64(bits(rng) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def uniform(rng: Any, low: Any, high: Any) -> Any:
    """A float64 from [low, high), as ``Generator.uniform``."""
    return low + (high - low) * random(rng)


@compiled
def integers(rng: Any, n: Any) -> Any:
    """An int64 from 0 to n - 1, n up to 2**32 - 1, as ``Generator.integers(n)`` (Lemire 2019)."""
    if n <= 1:
        return np.int64(0)
    size, low = np.uint64(n), np.uint64(0xFFFFFFFF)
    scaled = _bits_32(rng) * size
    if scaled & low < size:
        threshold = (low - (size - np.uint64(1))) % size
        while scaled & low < threshold:
            scaled = _bits_32(rng) * size
    return np.int64(scaled >> np.uint64(32))


@compiled
def normal(rng: Any) -> Any:
    """A float64 from the standard normal distribution, of two uniform ones (Box and Muller 1958); other numbers than
    NumPy's method gives."""
    return sqrt(-2.0 * log(1.0 - random(rng))) * cos(2.0 * pi * random(rng))
