"""Networks of agents: made here, or the user's own, with all parameters in one block of memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fastdl import nn
from fastdl._recording import owner_of, writing

Array = np.ndarray[Any, Any]

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}
_GAIN = {"tanh": 5 / 3, "relu": 2**0.5, "elu": 1.0, "silu": 2**0.5}


def mlp(sizes: Sequence[int], activation: str, last_gain: float, dtype: Any, rng: np.random.Generator) -> nn.Sequential:
    """A network of linear layers with orthogonal weights (Saxe et al. 2014) and biases of zero; the last layer's are
    scaled by `last_gain`, a small one for policies that are indifferent at first (Andrychowicz et al. 2021)."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        layer = nn.Linear(inputs, outputs, dtype=dtype, rng=rng)
        layer.weight[...] = orthogonal((outputs, inputs), last_gain if last else _GAIN[activation], rng)
        layer.bias[...] = 0  # type: ignore[index]
        layers += [layer] if last else [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


def orthogonal(shape: tuple[int, int], gain: float, rng: np.random.Generator) -> Array:
    """A matrix whose rows, or columns where there are fewer, are orthogonal and of length `gain`."""
    rows, columns = shape
    q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    q *= np.sign(np.diagonal(r))
    return gain * (q if rows >= columns else q.T)


_BLOCKS: weakref.WeakValueDictionary[int, Parameters] = weakref.WeakValueDictionary()
"""All there are, by where their memory begins."""


class Parameters:
    """All parameters of an agent in one block, so that they are checked and kept at once.

    Parameters
    ----------
    networks : dict of str to Module
        Their parameters become views of the block.
    arrays : dict of str to array
        Others.
    dtype : dtype
        Of all of them.
    """

    def __init__(self, networks: dict[str, nn.Module], arrays: dict[str, Array], dtype: Any) -> None:
        modules = [module for network in networks.values() for module in {id(m): m for m in network.modules()}.values()]
        if len({id(module) for module in modules}) < len(modules):
            raise TypeError(f"{', '.join(networks)}: found a module that both have, expected modules of their own")
        named = dict(arrays)
        for prefix, network in networks.items():
            named |= {f"{prefix}.{name}": array for name, array in network.parameters().items()}
        for name, array in named.items():
            if owner_of(array).ctypes.data in _BLOCKS:
                raise ValueError(f"{name}: found a network of another agent, expected one of this agent's own")
            if array.dtype != dtype:
                raise TypeError(f"{name}: found dtype {array.dtype}, expected {np.dtype(dtype)}, as the agent has")
        starts = np.concatenate([[0], np.cumsum([-(-array.size // 16) * 16 for array in named.values()])])
        self.flat = np.zeros(int(starts[-1]), dtype)
        self.named: dict[str, Array] = {}
        moved: dict[int, Array] = {}
        for (name, array), start in zip(named.items(), starts, strict=False):
            view = self.flat[start : start + array.size].reshape(array.shape)
            view[...] = array
            self.named[name] = moved[id(array)] = view
        for network in networks.values():
            for module in network.modules():
                for own in module.parameter_names:
                    if (array := getattr(module, own)) is not None:
                        setattr(module, own, moved[id(array)])
        self._good = self.flat.copy()
        _BLOCKS[self.flat.ctypes.data] = self

    def finite(self) -> bool:
        """Whether all are; if so, they are kept."""
        if not np.isfinite(self.flat.sum()):
            return False
        self._good[...] = self.flat
        return True

    def restore(self) -> None:
        """Put back what was kept last."""
        with writing([self.flat]):
            self.flat[...] = self._good

    def load(self, values: Any) -> None:
        """Write all of them, from arrays by name."""
        with writing(self.named.values()):
            for name, array in self.named.items():
                array[...] = values[name]
        self._good[...] = self.flat
