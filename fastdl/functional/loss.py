"""Losses of a prediction x against a target, which is data: gradients are those in x.

reduction, of all of them: "mean", "sum" or "none", which returns the loss of each element (row) instead of one value,
of shape (). Sums run in float64; the mean of nothing is NaN, as torch's. out: an array like the result, which shares
memory with no argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import helper, operation
from fastdl.functional.verbs import (
    ABOVE_ZERO,
    Array,
    ArrayLike,
    choice,
    class_split,
    class_target,
    disjoint,
    fail,
    flag,
    floats,
    floats_like,
    integer,
    loss_grad,
    number,
    optional_broadcast,
    optional_vector,
    output,
    reduced_shape,
    row_shape,
)

__all__ = [
    "CosineEmbeddingGrad",
    "LossAndGrad",
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_backward",
    "cosine_embedding_loss",
    "cosine_embedding_loss_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "cross_entropy_with_grad",
    "hinge_embedding_loss",
    "hinge_embedding_loss_backward",
    "huber_loss",
    "huber_loss_backward",
    "kl_div",
    "kl_div_backward",
    "l1_loss",
    "l1_loss_backward",
    "mse_loss",
    "mse_loss_backward",
    "nll_loss",
    "nll_loss_backward",
    "smooth_l1_loss",
    "smooth_l1_loss_backward",
]

REDUCTIONS = _kernels.REDUCTION_NAMES
_USUAL = REDUCTIONS[:3]

ClassTarget = ArrayLike | Sequence[Any] | int
"""Class indices (also as a list, of lists where there are several dimensions), or probabilities."""

_TEXTS = {
    "pair": """
        x, target : array
            The prediction, float32 or float64, and what it should be: of the same shape, any, and dtype.
        """,
    "classes": """
        x : array of shape (rows, classes), (rows, classes, d1, ...) or (classes,)
            float32 or float64.
        """,
    "named": """
        target : array (or list) of integers, shaped as x without the classes
            Each in [0, classes), or ignore_index.
        """,
    "class_weight": """
        weight : array (or list) of shape (classes,), optional
            What the loss of each class is multiplied by.
        """,
    "ignore_index": """
        ignore_index : int
            Rows with this target have the loss 0, and do not count in the mean.
        """,
    "smoothing": """
        label_smoothing : float, in [0, 1]
            How much of the target is spread evenly over all classes.
        """,
    "reduction": """
        reduction : {"mean", "sum", "none"}
            Return the mean (NaN if there is nothing), the sum, or the losses as they are. Sums run in float64. A
            literal inside Numba.
        """,
    "out": """
        out : array, optional
            Where to store the result: of its shape and dtype, C-contiguous; no argument shares its memory.
        """,
    "returns": """
        array
            Shape (), or that of x with reduction "none"; of x's dtype.
        """,
    "returns_rows": """
        array
            Shape (), or that of x without the classes with reduction "none"; of x's dtype.
        """,
    "grad_output": """
        grad_output : array, or a number where its shape is ()
            The gradient of what the forward returned, shaped as that.
        """,
    "returns_grad": """
        array
            The gradient of x, shaped as x. There is none of the target, which is data.
        """,
    "raises": """
        Raises
        ------
        ValueError
            Shapes that do not fit each other, numbers out of range, arrays that overlap what is written.
        TypeError
            What is no array (or no number), or has another dtype. Either message names the argument, what was found
            and what was expected; nothing has been written then.
        """,
}


class LossAndGrad(NamedTuple):
    """A loss and its gradient, for a grad_output of 1.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> loss, grad = fastdl.cross_entropy_with_grad(np.zeros((1, 2), np.float32), [0])
    >>> grad
    array([[-0.5,  0.5]], dtype=float32)
    """

    loss: Array
    grad: Array


class CosineEmbeddingGrad(NamedTuple):
    """The gradients of cosine_embedding_loss in x1 and x2.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x1, x2 = np.array([1, 0], np.float32), np.array([0, 2], np.float32)
    >>> fastdl.cosine_embedding_loss_backward(1.0, x1, x2, np.array(1, np.float32)).x1
    array([ 0., -1.], dtype=float32)
    """

    x1: Array
    x2: Array


# ---- element by element ----


@operation
@doc(_TEXTS)
def mse_loss(x: ArrayLike, target: ArrayLike, reduction: str = "mean", out: Array | None = None) -> Array:
    """The squared difference. torch.nn.functional.mse_loss.

    ::

        loss = (x - target)^2

    Parameters
    ----------
    {pair}
    {reduction}
    {out}

    Returns
    -------
    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([1, 4], np.float32), np.array([1, 2], np.float32)
    >>> fastdl.mse_loss(x, target)
    array(2., dtype=float32)
    >>> fastdl.mse_loss(x, target, reduction="none")
    array([0., 4.], dtype=float32)
    """
    return _loss(x, target, None, None, _kernels.LOSS_MSE, 0.0, choice(reduction, "reduction", _USUAL), reduction, out)


@operation
@doc(_TEXTS)
def mse_loss_backward(
    grad_output: ArrayLike | float, x: ArrayLike, target: ArrayLike, reduction: str = "mean", out: Array | None = None
) -> Array:
    """The gradient of mse_loss.

    For a grad_output of 1 and reduction "sum"::

        grad = 2 * (x - target)

    Parameters
    ----------
    {grad_output}
    {pair}
    {reduction}
    {out}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    mse_loss : the loss.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([1, 4], np.float32), np.array([1, 2], np.float32)
    >>> fastdl.mse_loss_backward(1.0, x, target)
    array([0., 2.], dtype=float32)
    """
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(grad_output, x, target, None, None, _kernels.LOSS_MSE, 0.0, code, reduction, out)


@operation
@doc(_TEXTS)
def l1_loss(x: ArrayLike, target: ArrayLike, reduction: str = "mean", out: Array | None = None) -> Array:
    """The absolute difference. torch.nn.functional.l1_loss.

    ::

        loss = |x - target|

    Parameters
    ----------
    {pair}
    {reduction}
    {out}

    Returns
    -------
    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([1, 4], np.float32), np.array([1, 2], np.float32)
    >>> fastdl.l1_loss(x, target)
    array(1., dtype=float32)
    """
    return _loss(x, target, None, None, _kernels.LOSS_L1, 0.0, choice(reduction, "reduction", _USUAL), reduction, out)


@operation
@doc(_TEXTS)
def l1_loss_backward(
    grad_output: ArrayLike | float, x: ArrayLike, target: ArrayLike, reduction: str = "mean", out: Array | None = None
) -> Array:
    """The gradient of l1_loss.

    For a grad_output of 1 and reduction "sum"::

        grad = sign(x - target)          0 where they are the same

    Parameters
    ----------
    {grad_output}
    {pair}
    {reduction}
    {out}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    l1_loss : the loss.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([1, 4], np.float32), np.array([1, 2], np.float32)
    >>> fastdl.l1_loss_backward(1.0, x, target)
    array([0. , 0.5], dtype=float32)
    """
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(grad_output, x, target, None, None, _kernels.LOSS_L1, 0.0, code, reduction, out)


@operation
@doc(_TEXTS)
def huber_loss(
    x: ArrayLike, target: ArrayLike, reduction: str = "mean", delta: float = 1.0, out: Array | None = None
) -> Array:
    """The squared difference, but linear where that is large. torch.nn.functional.huber_loss.

    ::

        d    = |x - target|
        loss = d^2 / 2                          where d <= delta
        loss = delta * (d - delta / 2)          else


    Parameters
    ----------
    {pair}
    {reduction}
    delta : float, above 0
        Where the parabola becomes a line.
    {out}

    Returns
    -------
    {returns}

    {raises}

    References
    ----------
    Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([1, 4], np.float32), np.array([1, 2], np.float32)
    >>> fastdl.huber_loss(x, target, reduction="sum")
    array(1.5, dtype=float32)
    """
    delta = number(delta, "delta", ABOVE_ZERO, inf)
    return _loss(
        x, target, None, None, _kernels.LOSS_HUBER, delta, choice(reduction, "reduction", _USUAL), reduction, out
    )


@operation
@doc(_TEXTS)
def huber_loss_backward(
    grad_output: ArrayLike | float,
    x: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    delta: float = 1.0,
    out: Array | None = None,
) -> Array:
    """The gradient of huber_loss.

    For a grad_output of 1 and reduction "sum"::

        grad = x - target, but at least -delta and at most delta

    Parameters
    ----------
    {grad_output}
    {pair}
    {reduction}
    delta : float, above 0
        Where the parabola becomes a line.
    {out}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    huber_loss : the loss.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([1, 4], np.float32), np.array([1, 2], np.float32)
    >>> fastdl.huber_loss_backward(1.0, x, target, reduction="sum")
    array([0., 1.], dtype=float32)
    """
    delta = number(delta, "delta", ABOVE_ZERO, inf)
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(grad_output, x, target, None, None, _kernels.LOSS_HUBER, delta, code, reduction, out)


@operation
@doc(_TEXTS)
def smooth_l1_loss(
    x: ArrayLike, target: ArrayLike, reduction: str = "mean", beta: float = 1.0, out: Array | None = None
) -> Array:
    """The absolute difference, but a parabola where that is small. torch.nn.functional.smooth_l1_loss.

    ::

        d    = |x - target|
        loss = d^2 / (2 * beta)          where d <= beta
        loss = d - beta / 2              else


    Parameters
    ----------
    {pair}
    {reduction}
    beta : float, at least 0
        Where the parabola becomes a line; at 0 this is l1_loss.
    {out}

    Returns
    -------
    {returns}

    {raises}

    References
    ----------
    Girshick, "Fast R-CNN", ICCV 2015, section 2.3.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([1, 4], np.float32), np.array([1, 2], np.float32)
    >>> fastdl.smooth_l1_loss(x, target, reduction="sum", beta=0.5)
    array(1.75, dtype=float32)
    """
    beta = number(beta, "beta", 0.0)
    code = choice(reduction, "reduction", _USUAL)
    return _loss(x, target, None, None, _smooth_l1(beta), beta, code, reduction, out)


@operation
@doc(_TEXTS)
def smooth_l1_loss_backward(
    grad_output: ArrayLike | float,
    x: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    beta: float = 1.0,
    out: Array | None = None,
) -> Array:
    """The gradient of smooth_l1_loss.

    For a grad_output of 1 and reduction "sum"::

        grad = (x - target) / beta, but at least -1 and at most 1

    Parameters
    ----------
    {grad_output}
    {pair}
    {reduction}
    beta : float, at least 0
        Where the parabola becomes a line; at 0 this is l1_loss.
    {out}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    smooth_l1_loss : the loss.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([1, 4], np.float32), np.array([1, 2], np.float32)
    >>> fastdl.smooth_l1_loss_backward(1.0, x, target, reduction="sum", beta=0.5)
    array([0., 1.], dtype=float32)
    """
    beta = number(beta, "beta", 0.0)
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(grad_output, x, target, None, None, _smooth_l1(beta), beta, code, reduction, out)


@operation
@doc(_TEXTS)
def binary_cross_entropy(
    x: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, reduction: str = "mean", out: Array | None = None
) -> Array:
    """The cross entropy of probabilities. torch.nn.functional.binary_cross_entropy.

    ::

        loss = -weight * (target * log(x) + (1 - target) * log(1 - x))

    where logarithms are held to -100 at least.

    Parameters
    ----------
    x, target : array
        Probabilities: the prediction, float32 or float64, and what it should be, of the same shape and dtype. Anything
        outside [0, 1] is a ValueError.
    weight : array, optional
        What each loss is multiplied by; of a shape that broadcasts to x's.
    {reduction}
    {out}

    Returns
    -------
    {returns}

    {raises}

    See Also
    --------
    binary_cross_entropy_with_logits : the same of sigmoid(x), which is more accurate.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([0.5, 0.25], np.float32), np.array([1, 0], np.float32)
    >>> fastdl.binary_cross_entropy(x, target, reduction="none").round(4)
    array([0.6931, 0.2877], dtype=float32)
    """
    return _loss(
        x,
        target,
        weight,
        None,
        _kernels.LOSS_BINARY_CROSS_ENTROPY,
        0.0,
        choice(reduction, "reduction", _USUAL),
        reduction,
        out,
    )


@operation
@doc(_TEXTS)
def binary_cross_entropy_backward(
    grad_output: ArrayLike | float,
    x: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """The gradient of binary_cross_entropy.

    For a grad_output of 1 and reduction "sum"::

        grad = weight * (x - target) / max(x * (1 - x), 1e-12)

    Parameters
    ----------
    {grad_output}
    x, target : array
        What the forward was given.
    weight : array, optional
        What each loss is multiplied by; of a shape that broadcasts to x's.
    {reduction}
    {out}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    binary_cross_entropy : the loss.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([0.5, 0.25], np.float32), np.array([1, 0], np.float32)
    >>> fastdl.binary_cross_entropy_backward(1.0, x, target, reduction="sum").round(4)
    array([-2.    ,  1.3333], dtype=float32)
    """
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(
        grad_output, x, target, weight, None, _kernels.LOSS_BINARY_CROSS_ENTROPY, 0.0, code, reduction, out
    )


@operation
@doc(_TEXTS)
def binary_cross_entropy_with_logits(
    x: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    """The cross entropy of sigmoid(x), accurate for any x. torch.nn.functional.binary_cross_entropy_with_logits.

    ::

        loss = weight * (pos_weight * target * log(1 + exp(-x)) + (1 - target) * log(1 + exp(x)))

    Parameters
    ----------
    {pair}
    weight : array, optional
        What each loss is multiplied by; of a shape that broadcasts to x's.
    {reduction}
    pos_weight : array, optional
        What the part of the target is multiplied by; of a shape that broadcasts to x's.
    {out}

    Returns
    -------
    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([0, 100], np.float32), np.array([1, 0], np.float32)
    >>> fastdl.binary_cross_entropy_with_logits(x, target, reduction="none").round(4)
    array([  0.6931, 100.    ], dtype=float32)
    """
    return _loss(
        x,
        target,
        weight,
        pos_weight,
        _kernels.LOSS_BINARY_CROSS_ENTROPY_WITH_LOGITS,
        0.0,
        choice(reduction, "reduction", _USUAL),
        reduction,
        out,
    )


@operation
@doc(_TEXTS)
def binary_cross_entropy_with_logits_backward(
    grad_output: ArrayLike | float,
    x: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    """The gradient of binary_cross_entropy_with_logits.

    For a grad_output of 1 and reduction "sum"::

        grad = weight * ((1 - target) * sigmoid(x) - pos_weight * target * sigmoid(-x))

    Parameters
    ----------
    {grad_output}
    {pair}
    weight : array, optional
        What each loss is multiplied by; of a shape that broadcasts to x's.
    {reduction}
    pos_weight : array, optional
        What the forward was given.
    {out}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    binary_cross_entropy_with_logits : the loss.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([0, 100], np.float32), np.array([1, 0], np.float32)
    >>> fastdl.binary_cross_entropy_with_logits_backward(1.0, x, target, reduction="sum")
    array([-0.5,  1. ], dtype=float32)
    """
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(
        grad_output,
        x,
        target,
        weight,
        pos_weight,
        _kernels.LOSS_BINARY_CROSS_ENTROPY_WITH_LOGITS,
        0.0,
        code,
        reduction,
        out,
    )


@operation
@doc(_TEXTS)
def kl_div(
    x: ArrayLike, target: ArrayLike, reduction: str = "mean", log_target: bool = False, out: Array | None = None
) -> Array:
    """The Kullback-Leibler divergence of the target from x. torch.nn.functional.kl_div.

    ::

        loss = target * (log(target) - x)          0 where target is 0

    Parameters
    ----------
    x : array
        Logarithms of probabilities, float32 or float64.
    target : array
        Probabilities, or with log_target their logarithms; as x.
    reduction : {"mean", "sum", "none", "batchmean"}
        As everywhere; "batchmean" is the sum divided by x.shape[0].
    log_target : bool
        Whether target holds logarithms of probabilities.
    {out}

    Returns
    -------
    {returns}

    {raises}

    See Also
    --------
    log_softmax : which makes logarithms of probabilities.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.log(np.array([0.5, 0.5], np.float32)), np.array([1, 0], np.float32)
    >>> fastdl.kl_div(x, target, reduction="sum").round(4)
    np.float32(0.6931)
    """
    flag(log_target, "log_target")
    code = choice(reduction, "reduction", REDUCTIONS)
    return _loss(
        x,
        target,
        None,
        None,
        _kernels.LOSS_KL_DIV_LOG_TARGET if log_target else _kernels.LOSS_KL_DIV,
        0.0,
        code,
        reduction,
        out,
    )


@operation
@doc(_TEXTS)
def kl_div_backward(
    grad_output: ArrayLike | float,
    x: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    log_target: bool = False,
    out: Array | None = None,
) -> Array:
    """The gradient of kl_div.

    For a grad_output of 1 and reduction "sum"::

        grad = -target                    with log_target: -exp(target)

    Parameters
    ----------
    {grad_output}
    x, target : array
        What the forward was given.
    reduction : {"mean", "sum", "none", "batchmean"}
        As everywhere; "batchmean" is the sum divided by x.shape[0].
    log_target : bool
        Whether target holds logarithms of probabilities.
    {out}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    kl_div : the loss.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.log(np.array([0.5, 0.5], np.float32)), np.array([1, 0], np.float32)
    >>> fastdl.kl_div_backward(1.0, x, target, reduction="sum")
    array([-1., -0.], dtype=float32)
    """
    flag(log_target, "log_target")
    code = choice(reduction, "reduction", REDUCTIONS)
    kind = _kernels.LOSS_KL_DIV_LOG_TARGET if log_target else _kernels.LOSS_KL_DIV
    return _loss_backward(grad_output, x, target, None, None, kind, 0.0, code, reduction, out)


@operation
@doc(_TEXTS)
def hinge_embedding_loss(
    x: ArrayLike, target: ArrayLike, margin: float = 1.0, reduction: str = "mean", out: Array | None = None
) -> Array:
    """A distance that should be small, or at least the margin. torch.nn.functional.hinge_embedding_loss.

    ::

        loss = x                         where target = 1
        loss = max(0, margin - x)        where target = -1


    Where target is neither, the two are added, as torch does.

    Parameters
    ----------
    x : array
        Distances, float32 or float64.
    target : array
        1 for what belongs together, -1 for what does not; as x.
    margin : float
        How far off a wrong pair has to be for no loss.
    {reduction}
    {out}

    Returns
    -------
    {returns}

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([0.25, 0.25], np.float32), np.array([1, -1], np.float32)
    >>> fastdl.hinge_embedding_loss(x, target, reduction="none")
    array([0.25, 0.75], dtype=float32)
    """
    margin = number(margin, "margin")
    return _loss(
        x,
        target,
        None,
        None,
        _kernels.LOSS_HINGE_EMBEDDING,
        margin,
        choice(reduction, "reduction", _USUAL),
        reduction,
        out,
    )


@operation
@doc(_TEXTS)
def hinge_embedding_loss_backward(
    grad_output: ArrayLike | float,
    x: ArrayLike,
    target: ArrayLike,
    margin: float = 1.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """The gradient of hinge_embedding_loss.

    For a grad_output of 1 and reduction "sum"::

        grad = 1                                     where target = 1
        grad = -1 where x <= margin, else 0          where target = -1

    Parameters
    ----------
    {grad_output}
    x, target : array
        What the forward was given.
    margin : float
        How far off a wrong pair has to be for no loss.
    {reduction}
    {out}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    hinge_embedding_loss : the loss.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x, target = np.array([0.25, 0.25], np.float32), np.array([1, -1], np.float32)
    >>> fastdl.hinge_embedding_loss_backward(1.0, x, target, reduction="sum")
    array([ 1., -1.], dtype=float32)
    """
    margin = number(margin, "margin")
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(
        grad_output, x, target, None, None, _kernels.LOSS_HINGE_EMBEDDING, margin, code, reduction, out
    )


# ---- of classes ----


@operation
@doc(_TEXTS)
def nll_loss(
    x: ArrayLike,
    target: ClassTarget,
    weight: ArrayLike | Sequence[float] | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """The negative log-likelihood of the target classes. torch.nn.functional.nll_loss.

    Of each row::

        loss = -weight[target] * x[target]

    The mean is that by the weights of the targets: their sum is what is divided by.

    Parameters
    ----------
    {classes}
    {named}
    {class_weight}
    {ignore_index}
    {reduction}
    {out}

    Returns
    -------
    {returns_rows}

    {raises}

    See Also
    --------
    nll_loss_backward : its gradient.
    cross_entropy : the same of log_softmax(x).

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.log(np.array([[0.5, 0.5], [0.25, 0.75]], np.float32))
    >>> fastdl.nll_loss(x, [0, 1], reduction="none").round(4)
    array([0.6931, 0.2877], dtype=float32)
    >>> fastdl.nll_loss(x, [0, 1], weight=[1.0, 3.0]).round(4)
    np.float32(0.389)
    """
    x = floats(x, "x")
    outer, classes, inner = class_split(x.shape)
    indices, _ = class_target(target, x, False)
    weight = optional_vector(weight, "weight", x, classes)
    ignore_index = integer(ignore_index, "ignore_index")
    code = choice(reduction, "reduction", _USUAL)
    result = output(out, reduced_shape(row_shape(x.shape), reduction), x)
    if out is not None:
        _apart(result, x, indices, None, weight, None)
    _kernels.nll_loss(x, indices, weight, result, outer, classes, inner, ignore_index, code)
    return result


@operation
@doc(_TEXTS)
def nll_loss_backward(
    grad_output: ArrayLike | float,
    x: ArrayLike,
    target: ClassTarget,
    weight: ArrayLike | Sequence[float] | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """The gradient of nll_loss.

    For a grad_output of 1 and reduction "sum", of each row::

        grad[target] = -weight[target]          0 elsewhere


    Parameters
    ----------
    {grad_output}
    {classes}
    {named}
    {class_weight}
    {ignore_index}
    {reduction}
    {out}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    nll_loss : the loss.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.log(np.array([[0.5, 0.5], [0.25, 0.75]], np.float32))
    >>> fastdl.nll_loss_backward(1.0, x, [0, 1])
    array([[-0.5,  0. ],
           [ 0. , -0.5]], dtype=float32)
    """
    x = floats(x, "x")
    outer, classes, inner = class_split(x.shape)
    indices, _ = class_target(target, x, False)
    weight = optional_vector(weight, "weight", x, classes)
    ignore_index = integer(ignore_index, "ignore_index")
    code = choice(reduction, "reduction", _USUAL)
    grad = loss_grad(grad_output, x, reduced_shape(row_shape(x.shape), reduction))
    result = output(out, x.shape, x)
    if out is not None:
        disjoint(result, "grad_output", grad)
        _apart(result, x, indices, None, weight, None)
    _kernels.nll_loss_backward(grad, indices, weight, result, outer, classes, inner, ignore_index, code)
    return result


@operation
@doc(_TEXTS)
def cross_entropy(
    x: ArrayLike,
    target: ClassTarget,
    weight: ArrayLike | Sequence[float] | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    out: Array | None = None,
) -> Array:
    """The cross entropy of softmax(x) and the target. torch.nn.functional.cross_entropy.

    Of each row::

        loss = -sum(c * log_softmax(x))
        c    = weight * ((1 - label_smoothing) * t + label_smoothing / classes)

    where t is 1 at the class that the target names and 0 elsewhere, or the target itself where that has probabilities.
    The mean of named classes is that by their weights: the sum of weight[target] is what is divided by.

    Parameters
    ----------
    {classes}
    target : array (or list) of integers, shaped as x without the classes; or array of floats, as x
        Classes, each in [0, classes) or ignore_index; or the probability of every class.
    {class_weight}
    {ignore_index}
    {reduction}
    {smoothing}
    {out}

    Returns
    -------
    {returns_rows}

    {raises}

    See Also
    --------
    cross_entropy_with_grad : the loss and its gradient in one pass.
    nll_loss : the same of log-probabilities.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[0, 0, 0], [0, 0, 50]], np.float32)
    >>> fastdl.cross_entropy(x, [0, 2], reduction="none").round(4)
    array([1.0986, 0.    ], dtype=float32)
    >>> fastdl.cross_entropy(x, np.full((2, 3), 1 / 3, np.float32), reduction="none").round(4)
    array([ 1.0986, 33.3333], dtype=float32)
    """
    x = floats(x, "x")
    outer, classes, inner = class_split(x.shape)
    indices, probabilities = class_target(target, x, True)
    weight = optional_vector(weight, "weight", x, classes)
    ignore_index = integer(ignore_index, "ignore_index")
    label_smoothing = number(label_smoothing, "label_smoothing", 0.0, 1.0)
    _check_ignored(probabilities, ignore_index)
    code = choice(reduction, "reduction", _USUAL)
    result = output(out, reduced_shape(row_shape(x.shape), reduction), x)
    if out is not None:
        _apart(result, x, indices, probabilities, weight, None)
    _kernels.cross_entropy(
        x,
        indices,
        probabilities,
        weight,
        None,
        result,
        None,
        outer,
        classes,
        inner,
        ignore_index,
        label_smoothing,
        code,
    )
    return result


@operation
@doc(_TEXTS)
def cross_entropy_backward(
    grad_output: ArrayLike | float,
    x: ArrayLike,
    target: ClassTarget,
    weight: ArrayLike | Sequence[float] | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    out: Array | None = None,
) -> Array:
    """The gradient of cross_entropy.

    For a grad_output of 1 and reduction "sum", of each row, with c as in cross_entropy::

        grad = sum(c) * softmax(x) - c


    Parameters
    ----------
    {grad_output}
    {classes}
    target : array (or list) of integers, shaped as x without the classes; or array of floats, as x
        Classes, each in [0, classes) or ignore_index; or the probability of every class.
    {class_weight}
    {ignore_index}
    {reduction}
    {smoothing}
    {out}

    Returns
    -------
    {returns_grad}

    {raises}

    See Also
    --------
    cross_entropy : the loss.
    cross_entropy_with_grad : both in one pass.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[0, 0, 0], [0, 0, 50]], np.float32)
    >>> fastdl.cross_entropy_backward(1.0, x, [0, 2], reduction="sum").round(4)
    array([[-0.6667,  0.3333,  0.3333],
           [ 0.    ,  0.    ,  0.    ]], dtype=float32)
    """
    x = floats(x, "x")
    outer, classes, inner = class_split(x.shape)
    indices, probabilities = class_target(target, x, True)
    weight = optional_vector(weight, "weight", x, classes)
    ignore_index = integer(ignore_index, "ignore_index")
    label_smoothing = number(label_smoothing, "label_smoothing", 0.0, 1.0)
    _check_ignored(probabilities, ignore_index)
    code = choice(reduction, "reduction", _USUAL)
    grad = loss_grad(grad_output, x, reduced_shape(row_shape(x.shape), reduction))
    result = output(out, x.shape, x)
    if out is not None:
        disjoint(result, "grad_output", grad)
        _apart(result, x, indices, probabilities, weight, None)
    _kernels.cross_entropy(
        x,
        indices,
        probabilities,
        weight,
        grad,
        None,
        result,
        outer,
        classes,
        inner,
        ignore_index,
        label_smoothing,
        code,
    )
    return result


@operation
@doc(_TEXTS)
def cross_entropy_with_grad(
    x: ArrayLike,
    target: ClassTarget,
    weight: ArrayLike | Sequence[float] | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> LossAndGrad:
    """cross_entropy and its gradient in one pass, in which the exponentials are shared.

    The gradient is that for a grad_output of 1, or of ones with reduction "none".


    Parameters
    ----------
    {classes}
    target : array (or list) of integers, shaped as x without the classes; or array of floats, as x
        Classes, each in [0, classes) or ignore_index; or the probability of every class.
    {class_weight}
    {ignore_index}
    {reduction}
    {smoothing}

    Returns
    -------
    LossAndGrad
        (loss, grad): what cross_entropy and cross_entropy_backward return.

    {raises}

    See Also
    --------
    cross_entropy : the loss alone.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[0, 0, 0], [0, 0, 50]], np.float32)
    >>> loss, grad = fastdl.cross_entropy_with_grad(x, [0, 2])
    >>> loss.round(4), grad[0].round(4)
    (np.float32(0.5493), array([-0.3333,  0.1667,  0.1667], dtype=float32))
    """
    x = floats(x, "x")
    outer, classes, inner = class_split(x.shape)
    indices, probabilities = class_target(target, x, True)
    weight = optional_vector(weight, "weight", x, classes)
    ignore_index = integer(ignore_index, "ignore_index")
    label_smoothing = number(label_smoothing, "label_smoothing", 0.0, 1.0)
    _check_ignored(probabilities, ignore_index)
    code = choice(reduction, "reduction", _USUAL)
    loss, grad = np.empty(reduced_shape(row_shape(x.shape), reduction), x.dtype), np.empty_like(x)
    _kernels.cross_entropy(
        x, indices, probabilities, weight, None, loss, grad, outer, classes, inner, ignore_index, label_smoothing, code
    )
    return LossAndGrad(loss, grad)


@operation
@doc(_TEXTS)
def cosine_embedding_loss(
    x1: ArrayLike,
    x2: ArrayLike,
    target: ArrayLike,
    margin: float = 0.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """How far two vectors are from one direction, or from two. torch.nn.functional.cosine_embedding_loss.

    ::

        cos  = sum(x1 * x2) / sqrt(sum(x1^2) * sum(x2^2))
        loss = 1 - cos                         where target = 1
        loss = max(0, cos - margin)            where target = -1, else 0

    where sums are over the features, and those of squares have 1e-12 added.

    Parameters
    ----------
    x1, x2 : array of shape (rows, features) or (features,)
        float32 or float64.
    target : array of shape (rows,) or ()
        1 for what belongs together, -1 for what does not; of x1's dtype.
    margin : float
        How large the cosine of what does not belong together may be.
    {reduction}
    {out}

    Returns
    -------
    array
        Shape (), or that of the target with reduction "none"; of x1's dtype.

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x1, x2 = np.array([[1, 0], [3, 4]], np.float32), np.array([[0, 2], [3, 4]], np.float32)
    >>> fastdl.cosine_embedding_loss(x1, x2, np.array([1, -1], np.float32), reduction="none")
    array([1., 1.], dtype=float32)
    """
    x1 = floats(x1, "x1")
    rows, features = _pair_split(x1.shape)
    x2 = _like(x2, "x2", x1, x1.shape)
    target = _like(target, "target", x1, x1.shape[:-1])
    margin = number(margin, "margin")
    code = choice(reduction, "reduction", _USUAL)
    result = output(out, reduced_shape(x1.shape[:-1], reduction), x1)
    if out is not None:
        disjoint(result, "x1", x1)
        disjoint(result, "x2", x2)
        disjoint(result, "target", target)
    _kernels.cosine_embedding_loss(x1, x2, target, result, rows, features, margin, code)
    return result


@operation
@doc(_TEXTS)
def cosine_embedding_loss_backward(
    grad_output: ArrayLike | float,
    x1: ArrayLike,
    x2: ArrayLike,
    target: ArrayLike,
    margin: float = 0.0,
    reduction: str = "mean",
) -> CosineEmbeddingGrad:
    """The gradients of cosine_embedding_loss in x1 and x2.

    With lengths |x| = sqrt(sum(x^2) + 1e-12)::

        d cos / d x1 = x2 / (|x1| * |x2|) - cos * x1 / |x1|^2

    and likewise of x2; times -1 where target = 1, and 1 where it is -1 and cos is at least the margin.

    Parameters
    ----------
    {grad_output}
    x1, x2, target : array
        What the forward was given.
    margin : float
        As in the forward.
    {reduction}

    Returns
    -------
    CosineEmbeddingGrad
        The gradients of x1 and of x2: (x1, x2).

    {raises}

    See Also
    --------
    cosine_embedding_loss : the loss.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x1, x2 = np.array([1, 0], np.float32), np.array([0, 2], np.float32)
    >>> fastdl.cosine_embedding_loss_backward(1.0, x1, x2, np.array(1, np.float32)).x2
    array([-0.5,  0. ], dtype=float32)
    """
    x1 = floats(x1, "x1")
    rows, features = _pair_split(x1.shape)
    x2 = _like(x2, "x2", x1, x1.shape)
    target = _like(target, "target", x1, x1.shape[:-1])
    margin = number(margin, "margin")
    code = choice(reduction, "reduction", _USUAL)
    grad = loss_grad(grad_output, x1, reduced_shape(x1.shape[:-1], reduction))
    grad_x1, grad_x2 = np.empty_like(x1), np.empty_like(x1)
    _kernels.cosine_embedding_loss_backward(grad, x1, x2, target, grad_x1, grad_x2, rows, features, margin, code)
    return CosineEmbeddingGrad(grad_x1, grad_x2)


# ---- what they share ----


@helper
def _loss(
    x: Any,
    target: Any,
    weight: Any,
    pos_weight: Any,
    kind: int,
    parameter: float,
    code: int,
    reduction: str,
    out: Array | None,
) -> Array:
    x = floats(x, "x")
    target = _like(target, "target", x, x.shape)
    weight = optional_broadcast(weight, "weight", x)
    pos_weight = optional_broadcast(pos_weight, "pos_weight", x)
    result = output(out, reduced_shape(x.shape, reduction), x)
    if out is not None:
        _apart(result, x, target, None, weight, pos_weight)
    batch = x.shape[0] if x.ndim > 0 else 1
    _kernels.elementwise_loss(x, target, weight, pos_weight, result, x.size, batch, kind, parameter, code)
    return result


@helper
def _loss_backward(
    grad_output: Any,
    x: Any,
    target: Any,
    weight: Any,
    pos_weight: Any,
    kind: int,
    parameter: float,
    code: int,
    reduction: str,
    out: Array | None,
) -> Array:
    x = floats(x, "x")
    target = _like(target, "target", x, x.shape)
    weight = optional_broadcast(weight, "weight", x)
    pos_weight = optional_broadcast(pos_weight, "pos_weight", x)
    grad = loss_grad(grad_output, x, reduced_shape(x.shape, reduction))
    result = output(out, x.shape, x)
    if out is not None:
        disjoint(result, "grad_output", grad)
        _apart(result, x, target, None, weight, pos_weight)
    batch = x.shape[0] if x.ndim > 0 else 1
    _kernels.elementwise_loss_backward(
        grad, x, target, weight, pos_weight, result, x.size, batch, kind, parameter, code
    )
    return result


@helper
def _like(array: Any, argument: str, x: Array, shape: tuple[int, ...]) -> Array:
    floating = floats_like(array, argument, x)
    if floating.shape != shape:
        fail(argument, floating.shape, shape)
    return floating


@helper
def _apart(result: Array, x: Array, target: Any, probabilities: Any, weight: Any, pos_weight: Any) -> None:
    disjoint(result, "x", x)
    disjoint(result, "target", target)
    disjoint(result, "target", probabilities)
    disjoint(result, "weight", weight)
    disjoint(result, "pos_weight", pos_weight)


@helper
def _pair_split(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 1 and len(shape) != 2:
        fail("x1", shape, "1 or 2 dimensions")
    return shape[0] if len(shape) == 2 else 1, shape[-1]


@helper
def _smooth_l1(beta: float) -> int:
    return _kernels.LOSS_SMOOTH_L1 if beta > 0 else _kernels.LOSS_L1


@helper
def _check_ignored(probabilities: Array | None, ignore_index: int) -> None:
    if probabilities is not None and ignore_index >= 0:
        fail("ignore_index", ignore_index, "a negative one with probabilities as target")
