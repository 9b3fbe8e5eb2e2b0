"""Dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl.functional.verbs import floats, natural, probability
from fastdl.nn.module import Module

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d"]


class _Dropout(Module):
    """seed: what the masks follow from; a new one where None. Every forward in training draws from counters of its own:
    `offset` is the first of the next, so that seed and offset make any run reproducible. inplace: write over x.
    Outside training forward returns x itself.
    """

    elementwise = True
    function: str
    whole_channels = False

    def __init__(self, p: float = 0.5, inplace: bool = False, *, seed: int | None = None) -> None:
        self.p, self.inplace = probability(p, "p"), inplace
        self.seed = int(np.random.default_rng().integers(2**63 - 1)) if seed is None else natural(seed, "seed")
        self.offset = 0

    def forward(self, x: Any) -> Any:
        if not self.training:
            self.save_for_backward(None)
            return x
        x = floats(x, "x") if not self.inplace else x
        options = {"p": self.p, "seed": self.seed, "offset": self.offset}
        y = getattr(functions(), self.function)(x, out=x if self.inplace else None, **options)
        self.save_for_backward(options)
        drawn = math.prod(y.shape[:2]) if self.whole_channels else y.size
        self.offset += -(-drawn // 4)
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        (options,) = self.saved
        if options is None:
            return grad_output
        return getattr(functions(), f"{self.function}_backward")(grad_output, **options)


class Dropout(_Dropout):
    """torch.nn.Dropout."""

    function = "dropout"


class AlphaDropout(_Dropout):
    """torch.nn.AlphaDropout."""

    function = "alpha_dropout"


class Dropout1d(_Dropout):
    """torch.nn.Dropout1d."""

    function = "dropout1d"
    whole_channels = True


class Dropout2d(_Dropout):
    """torch.nn.Dropout2d."""

    function = "dropout2d"
    whole_channels = True


class Dropout3d(_Dropout):
    """torch.nn.Dropout3d."""

    function = "dropout3d"
    whole_channels = True
