"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl.functional.loss import REDUCTIONS
from fastdl.functional.verbs import Array, choice, floats
from fastdl.nn.module import Module

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class _Loss(Module):
    """loss(*inputs), the last of them the target; backward() returns the gradient of the others.

    `function` is one of fastdl's, which everything else is given to as keywords."""

    function: str

    def __init__(self, reduction: str, allowed: tuple[str, ...] = REDUCTIONS[:3], **options: Any) -> None:
        choice(reduction, "reduction", allowed)
        self.options = {"reduction": reduction, **options}

    def forward(self, *inputs: Any) -> Array:
        self.save_for_backward(*inputs)
        return getattr(functions(), self.function)(*inputs, **self.options)

    def backward(self, grad_output: Any = None) -> Any:
        """The gradient of the input. grad_output: 1 where None; needed only for reduction "none"."""
        saved = self.saved
        if grad_output is None:
            grad_output = np.ones((), floats(saved[0], "input").dtype)
        return getattr(functions(), f"{self.function}_backward")(grad_output, *saved, **self.options)


class MSELoss(_Loss):
    """torch.nn.MSELoss."""

    function = "mse_loss"

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class L1Loss(_Loss):
    """torch.nn.L1Loss."""

    function = "l1_loss"

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class HuberLoss(_Loss):
    """torch.nn.HuberLoss."""

    function = "huber_loss"

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction, delta=delta)


class SmoothL1Loss(_Loss):
    """torch.nn.SmoothL1Loss."""

    function = "smooth_l1_loss"

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction, beta=beta)


class BCELoss(_Loss):
    """torch.nn.BCELoss: of probabilities."""

    function = "binary_cross_entropy"

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight)


class BCEWithLogitsLoss(_Loss):
    """torch.nn.BCEWithLogitsLoss."""

    function = "binary_cross_entropy_with_logits"

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction, weight=weight, pos_weight=pos_weight)


class KLDivLoss(_Loss):
    """torch.nn.KLDivLoss: of log-probabilities."""

    function = "kl_div"

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction, REDUCTIONS, log_target=log_target)


class HingeEmbeddingLoss(_Loss):
    """torch.nn.HingeEmbeddingLoss."""

    function = "hinge_embedding_loss"

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)


class CosineEmbeddingLoss(_Loss):
    """torch.nn.CosineEmbeddingLoss: loss(x1, x2, target); backward returns the gradients of x1 and x2."""

    function = "cosine_embedding_loss"

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)


class NLLLoss(_Loss):
    """torch.nn.NLLLoss: of log-probabilities and class indices."""

    function = "nll_loss"

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight, ignore_index=ignore_index)


class CrossEntropyLoss(_Loss):
    """torch.nn.CrossEntropyLoss: of scores, and class indices or probabilities."""

    function = "cross_entropy"

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing)
