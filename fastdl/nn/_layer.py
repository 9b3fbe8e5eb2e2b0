"""What layers over a function of fastdl share."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from fastdl._recording import Counter, get_word, set_word
from fastdl.functional.verbs import natural
from fastdl.nn.module import Module


class Layer(Module):
    """A layer over a function: `class ReLU(Layer, function="relu")`. What else tells subclasses apart, such as `rank`,
    the number of spatial dimensions, is given in the same way."""

    function: str
    function_backward: str
    rank: int

    def __init_subclass__(cls, **constants: Any) -> None:
        super().__init_subclass__()
        for name, value in constants.items():
            setattr(cls, name, value)
        if "function" in constants:
            cls.function_backward = cls.function + "_backward"

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        if options and "input" in options:  # torch's name of x
            inputs = (options.pop("input"), *inputs)
        return self.forward(*inputs, **options)


class RandomLayer(Layer):
    """A layer that draws from a counter-based generator: `seed` is its key, `offset` the counter of the next draw."""

    _generator: Any
    """Seed and offset, an int64 array: in memory, because programs move on in it."""
    _copies: int
    """How many copies were made, each of which has a seed of its own."""

    def _seed(self, seed: int | None) -> None:
        fresh = int(np.random.default_rng().integers(2**63 - 1)) if seed is None else seed
        self._generator = np.array([fresh, 0], np.int64)
        self._copies = 0

    @property
    def seed(self) -> int:
        return get_word(self._generator, 0)

    @seed.setter
    def seed(self, value: int) -> None:
        set_word(self._generator, 0, natural(value, "seed"))

    @property
    def offset(self) -> int:
        return get_word(self._generator, 1)

    @offset.setter
    def offset(self, value: int) -> None:
        set_word(self._generator, 1, value if isinstance(value, Counter) else natural(value, "offset"))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        state: Any = self.__getstate__()
        other.__dict__.update(copy.deepcopy(state, memo))
        self._copies += 1
        entropy = np.random.SeedSequence((self.seed, self.offset, self._copies))
        other._seed(int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1)))
        return other

    def __copy__(self) -> Any:
        return copy.deepcopy(self)
