"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl.functional.loss import REDUCTIONS
from fastdl.functional.verbs import ABOVE_ZERO, Array, flag, floats, integer
from fastdl.nn._arguments import example, one_of, real
from fastdl.nn._layer import Layer

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

_SHARED = {
    "call": """
``loss(x, target)`` returns the loss of x, and ``loss.backward()`` after it the gradient of x. With reduction "none"
backward has to be given a gradient of the shape of the loss.""",
    "reduction": """
reduction : {"mean", "sum", "none"}
    What becomes of the losses of the elements.""",
    "weight": """
weight : array, optional
    Factors of the losses, of a shape that broadcasts to the target's; a buffer, and so in state_dict.""",
    "classes": """
weight : (classes,) array, optional
    A factor for each class; a buffer, and so in state_dict. A list is taken as
    float32. "mean" divides by the sum of the factors of the targets.
ignore_index : int
    Targets of this class count for nothing.""",
}


class _Loss(Layer):
    """`_options()` are the keywords of the function, beside the reduction."""

    weight: Array | None
    pos_weight: Array | None

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = one_of(reduction, "reduction", REDUCTIONS[:3])

    def _options(self) -> dict[str, Any]:
        return {}

    def _factors(self, value: Any, argument: str) -> None:
        """Keep a buffer of its own, or None."""
        setattr(self, argument, None if value is None else np.array(floats(_listed(value), argument)))

    def forward(self, x: Any, target: Any) -> Array:
        y = getattr(functions(), self.function)(x, target, reduction=self.reduction, **self._options())
        self.save_for_backward(x, target)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any = None) -> Array:
        """The gradient of x.

        grad_output: the gradient of what forward returned, needed only for reduction "none"; None is 1.
        """
        inputs = self.saved
        if grad_output is None:
            grad_output = np.ones((), floats(inputs[0], "x").dtype)
        backward = getattr(functions(), self.function_backward)
        return backward(grad_output, *inputs, reduction=self.reduction, **self._options())  # type: ignore[no-any-return]


def _listed(value: Any) -> Any:
    """A list of numbers as an array, of float32 as torch would have it."""
    return np.array(value, np.float32) if isinstance(value, (tuple, list)) else value


@doc(
    _SHARED,
    example(
        ">>> loss = nn.MSELoss()\n"
        ">>> loss(np.array([1.0, 2.0]), np.zeros(2))\n"
        "array(2.5)\n"
        ">>> loss.backward()\n"
        "array([1., 2.])"
    ),
)
class MSELoss(_Loss, function="mse_loss"):
    """The squared error: ``(x - target)**2``.

    {call}

    Parameters
    ----------
    {reduction}

    See Also
    --------
    fastdl.mse_loss, torch.nn.MSELoss

    {example}
    """


@doc(_SHARED, example(">>> nn.L1Loss()(np.array([1.0, -2.0]), np.zeros(2))\narray(1.5)"))
class L1Loss(_Loss, function="l1_loss"):
    """The absolute error: ``abs(x - target)``.

    {call}

    Parameters
    ----------
    {reduction}

    See Also
    --------
    fastdl.l1_loss, torch.nn.L1Loss

    {example}
    """


@doc(_SHARED, example(">>> nn.HuberLoss()(np.array([0.5, 3.0]), np.zeros(2))\narray(1.3125)"))
class HuberLoss(_Loss, function="huber_loss"):
    """Squared near 0 and absolute beyond, of d = abs(x - target)::

        0.5 * d**2 if d <= delta else delta * (d - 0.5 * delta)

    {call}

    Parameters
    ----------
    {reduction}
    delta : float
        Where the one becomes the other; above 0.

    See Also
    --------
    fastdl.huber_loss, torch.nn.HuberLoss

    {example}
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = real(delta, "delta", ABOVE_ZERO)

    def _options(self) -> dict[str, Any]:
        return {"delta": self.delta}


@doc(_SHARED, example(">>> nn.SmoothL1Loss(beta=2.0)(np.array([1.0, 4.0]), np.zeros(2))\narray(1.625)"))
class SmoothL1Loss(_Loss, function="smooth_l1_loss"):
    """The absolute error with a smooth bottom, of d = abs(x - target)::

        0.5 * d**2 / beta if d < beta else d - 0.5 * beta

    {call}

    Parameters
    ----------
    {reduction}
    beta : float
        How wide the bottom is; at least 0, which is L1Loss.

    See Also
    --------
    fastdl.smooth_l1_loss, torch.nn.SmoothL1Loss

    {example}
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = real(beta, "beta", 0.0)

    def _options(self) -> dict[str, Any]:
        return {"beta": self.beta}


@doc(_SHARED, example(">>> round(float(nn.BCELoss()(np.array([0.5, 0.5]), np.array([0.0, 1.0]))), 3)\n0.693"))
class BCELoss(_Loss, function="binary_cross_entropy"):
    """The binary cross entropy of probabilities: ``-(target * log(x) + (1 - target) * log(1 - x)) * weight``.

    {call}

    Parameters
    ----------
    {weight}
    {reduction}

    See Also
    --------
    fastdl.binary_cross_entropy : The function.
    BCEWithLogitsLoss : The same of scores, which is more exact. torch.nn.BCELoss.

    {example}
    """

    buffer_names = ("weight",)

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._factors(weight, "weight")

    def _options(self) -> dict[str, Any]:
        return {"weight": self.weight}


@doc(_SHARED, example(">>> round(float(nn.BCEWithLogitsLoss()(np.zeros(2), np.array([0.0, 1.0]))), 3)\n0.693"))
class BCEWithLogitsLoss(_Loss, function="binary_cross_entropy_with_logits"):
    """The binary cross entropy of scores, p being sigmoid(x)::

        -(pos_weight * target * log(p) + (1 - target) * log(1 - p)) * weight

    {call}

    Parameters
    ----------
    {weight}
    {reduction}
    pos_weight : array, optional
        Factors of the losses of targets that are 1, of a shape that broadcasts to the target's; a buffer as well.

    See Also
    --------
    fastdl.binary_cross_entropy_with_logits, torch.nn.BCEWithLogitsLoss

    {example}
    """

    buffer_names = ("weight", "pos_weight")

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction)
        self._factors(weight, "weight")
        self._factors(pos_weight, "pos_weight")

    def _options(self) -> dict[str, Any]:
        return {"weight": self.weight, "pos_weight": self.pos_weight}


@doc(_SHARED, example('>>> p = np.array([[0.25, 0.75]])\n>>> nn.KLDivLoss("batchmean")(np.log(p), p)\narray(0.)'))
class KLDivLoss(_Loss, function="kl_div"):
    """The divergence of Kullback and Leibler, of log-probabilities x: ``target * (log(target) - x)``.

    {call}

    Parameters
    ----------
    reduction : {"mean", "batchmean", "sum", "none"}
        What becomes of the losses of the elements. "batchmean", the sum over the batch size, is the divergence.
    log_target : bool
        Whether targets are log-probabilities too.

    See Also
    --------
    fastdl.kl_div, torch.nn.KLDivLoss

    {example}
    """

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        self.reduction = one_of(reduction, "reduction", REDUCTIONS)
        self.log_target = flag(log_target, "log_target")

    def _options(self) -> dict[str, Any]:
        return {"log_target": self.log_target}


@doc(_SHARED, example(">>> nn.HingeEmbeddingLoss()(np.array([0.5, 0.25]), np.array([1.0, -1.0]))\narray(0.625)"))
class HingeEmbeddingLoss(_Loss, function="hinge_embedding_loss"):
    """Of distances x, and targets that are 1 or -1: ``x if target == 1 else max(margin - x, 0)``.

    {call}

    Parameters
    ----------
    margin : float
        How far apart what does not belong together has to be.
    {reduction}

    See Also
    --------
    fastdl.hinge_embedding_loss, torch.nn.HingeEmbeddingLoss

    {example}
    """

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = real(margin, "margin")

    def _options(self) -> dict[str, Any]:
        return {"margin": self.margin}


@doc(
    _SHARED,
    example(
        ">>> a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])\n"
        ">>> nn.CosineEmbeddingLoss()(a, b, np.array([1.0]))\n"
        "array(1.)"
    ),
)
class CosineEmbeddingLoss(_Loss, function="cosine_embedding_loss"):
    """Of pairs of vectors, and targets that are 1 or -1::

        1 - cos(x1, x2) if target == 1 else max(cos(x1, x2) - margin, 0)

    ``loss(x1, x2, target)`` returns the loss, and ``loss.backward()`` after it the gradients of x1 and x2.

    Parameters
    ----------
    margin : float
        The cosine below which what does not belong together costs nothing.
    {reduction}

    See Also
    --------
    fastdl.cosine_embedding_loss, torch.nn.CosineEmbeddingLoss

    {example}
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = real(margin, "margin")

    def _options(self) -> dict[str, Any]:
        return {"margin": self.margin}

    def forward(self, x1: Any, x2: Any, target: Any) -> Array:  # type: ignore[override]
        y = functions().cosine_embedding_loss(x1, x2, target, reduction=self.reduction, **self._options())
        self.save_for_backward(x1, x2, target)
        return y  # type: ignore[no-any-return]

    def backward(self, grad_output: Any = None) -> tuple[Array, Array]:  # type: ignore[override]
        """The gradients of x1 and x2; grad_output as for other losses."""
        return super().backward(grad_output)  # type: ignore[return-value]


@doc(_SHARED, example(">>> round(float(nn.NLLLoss()(np.log([[0.25, 0.75]]), np.array([1]))), 3)\n0.288"))
class NLLLoss(_Loss, function="nll_loss"):
    """The negative log-likelihood, of log-probabilities x and class indices: ``-weight[target] * x[target]``.

    {call}

    x is (batch, classes, ...), target (batch, ...) integers.

    Parameters
    ----------
    {classes}
    {reduction}

    See Also
    --------
    fastdl.nll_loss, LogSoftmax, torch.nn.NLLLoss

    {example}
    """

    buffer_names = ("weight",)

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._factors(weight, "weight")
        self.ignore_index = integer(ignore_index, "ignore_index")

    def _options(self) -> dict[str, Any]:
        return {"weight": self.weight, "ignore_index": self.ignore_index}


@doc(
    _SHARED,
    example(
        ">>> loss = nn.CrossEntropyLoss()\n"
        ">>> round(float(loss(np.zeros((2, 4)), np.array([0, 3]))), 3)\n"
        "1.386\n"
        ">>> loss.backward()[0]\n"
        "array([-0.375,  0.125,  0.125,  0.125])"
    ),
)
class CrossEntropyLoss(_Loss, function="cross_entropy"):
    """The cross entropy, of scores x and class indices or probabilities: NLLLoss of ``log_softmax(x)``.

    {call}

    x is (batch, classes, ...), target (batch, ...) integers or probabilities shaped as x.

    Parameters
    ----------
    {classes}
    {reduction}
    label_smoothing : float
        How much of each target, from 0 to 1, is spread evenly over all classes.

    See Also
    --------
    fastdl.cross_entropy : The formula.
    fastdl.cross_entropy_with_grad : Loss and gradient in one pass. torch.nn.CrossEntropyLoss.

    {example}
    """

    buffer_names = ("weight",)

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__(reduction)
        self._factors(weight, "weight")
        self.ignore_index = integer(ignore_index, "ignore_index")
        self.label_smoothing = real(label_smoothing, "label_smoothing", 0.0, 1.0)

    def _options(self) -> dict[str, Any]:
        options = {"weight": self.weight, "ignore_index": self.ignore_index}
        return options | {"label_smoothing": self.label_smoothing}
