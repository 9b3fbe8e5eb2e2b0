"""Losses of a prediction x against a target, which is data: gradients are those in x.

reduction, of all of them: "mean", "sum" or "none", which returns the loss of each element (row) instead of one value,
of shape (). Sums run in float64; the mean of nothing is NaN, as torch's. out: an array like the result, which shares
memory with no argument.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl.functional._operation import helper, operation
from fastdl.functional.verbs import (
    Array,
    choice,
    class_split,
    class_target,
    disjoint,
    fail,
    floats,
    floats_like,
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
_MSE, _L1, _HUBER, _SMOOTH_L1, _BCE, _BCE_LOGITS, _KL_DIV, _KL_DIV_LOG, _HINGE = range(len(_kernels.LOSS_NAMES))


class LossAndGrad(NamedTuple):
    loss: Array
    grad: Array


class CosineEmbeddingGrad(NamedTuple):
    x1: Array
    x2: Array


# ---- element by element ----


@operation
def mse_loss(x: Any, target: Any, reduction: str = "mean", out: Array | None = None) -> Array:
    """(x - target)^2. torch.nn.functional.mse_loss. x, target: one shape."""
    return _loss(x, target, None, None, _MSE, 0.0, choice(reduction, "reduction", _USUAL), reduction, out)


@operation
def mse_loss_backward(
    grad_output: Any, x: Any, target: Any, reduction: str = "mean", out: Array | None = None
) -> Array:
    """The gradient of mse_loss in x. grad_output: shaped as mse_loss returns."""
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(grad_output, x, target, None, None, _MSE, 0.0, code, reduction, out)


@operation
def l1_loss(x: Any, target: Any, reduction: str = "mean", out: Array | None = None) -> Array:
    """|x - target|. torch.nn.functional.l1_loss. x, target: one shape."""
    return _loss(x, target, None, None, _L1, 0.0, choice(reduction, "reduction", _USUAL), reduction, out)


@operation
def l1_loss_backward(grad_output: Any, x: Any, target: Any, reduction: str = "mean", out: Array | None = None) -> Array:
    """The gradient of l1_loss in x, 0 where x = target. grad_output: shaped as l1_loss returns."""
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(grad_output, x, target, None, None, _L1, 0.0, code, reduction, out)


@operation
def huber_loss(x: Any, target: Any, reduction: str = "mean", delta: float = 1.0, out: Array | None = None) -> Array:
    """With d = |x - target|: d^2 / 2 up to d = delta, then delta (d - delta / 2). torch.nn.functional.huber_loss.

    x, target: one shape. delta: above 0.
    """
    _check_delta(delta)
    return _loss(x, target, None, None, _HUBER, delta, choice(reduction, "reduction", _USUAL), reduction, out)


@operation
def huber_loss_backward(
    grad_output: Any, x: Any, target: Any, reduction: str = "mean", delta: float = 1.0, out: Array | None = None
) -> Array:
    """The gradient of huber_loss in x. grad_output: shaped as huber_loss returns."""
    _check_delta(delta)
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(grad_output, x, target, None, None, _HUBER, delta, code, reduction, out)


@operation
def smooth_l1_loss(x: Any, target: Any, reduction: str = "mean", beta: float = 1.0, out: Array | None = None) -> Array:
    """With d = |x - target|: d^2 / (2 beta) up to d = beta, then d - beta / 2. torch.nn.functional.smooth_l1_loss.

    x, target: one shape. beta: at least 0, where it is l1_loss.
    """
    code = choice(reduction, "reduction", _USUAL)
    return _loss(x, target, None, None, _smooth_l1(beta), beta, code, reduction, out)


@operation
def smooth_l1_loss_backward(
    grad_output: Any, x: Any, target: Any, reduction: str = "mean", beta: float = 1.0, out: Array | None = None
) -> Array:
    """The gradient of smooth_l1_loss in x. grad_output: shaped as smooth_l1_loss returns."""
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(grad_output, x, target, None, None, _smooth_l1(beta), beta, code, reduction, out)


@operation
def binary_cross_entropy(
    x: Any, target: Any, weight: Any = None, reduction: str = "mean", out: Array | None = None
) -> Array:
    """-weight (target log(x) + (1 - target) log(1 - x)). torch.nn.functional.binary_cross_entropy.

    x, target: one shape, probabilities; anything outside [0, 1] is a ValueError. weight: of a shape that NumPy
    broadcasts to theirs, or None. Logarithms are held to -100 at least.
    """
    return _loss(x, target, weight, None, _BCE, 0.0, choice(reduction, "reduction", _USUAL), reduction, out)


@operation
def binary_cross_entropy_backward(
    grad_output: Any, x: Any, target: Any, weight: Any = None, reduction: str = "mean", out: Array | None = None
) -> Array:
    """The gradient of binary_cross_entropy in x: weight (x - target) / max(x (1 - x), 1e-12).

    grad_output: shaped as binary_cross_entropy returns.
    """
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(grad_output, x, target, weight, None, _BCE, 0.0, code, reduction, out)


@operation
def binary_cross_entropy_with_logits(
    x: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
    out: Array | None = None,
) -> Array:
    """binary_cross_entropy of sigmoid(x), accurate for any x. torch.nn.functional.binary_cross_entropy_with_logits.

    x, target: one shape. weight, pos_weight (which the target's part is multiplied by): of shapes that NumPy
    broadcasts to theirs, or None.
    """
    return _loss(
        x, target, weight, pos_weight, _BCE_LOGITS, 0.0, choice(reduction, "reduction", _USUAL), reduction, out
    )


@operation
def binary_cross_entropy_with_logits_backward(
    grad_output: Any,
    x: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
    out: Array | None = None,
) -> Array:
    """The gradient of binary_cross_entropy_with_logits in x. grad_output: shaped as that returns."""
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(grad_output, x, target, weight, pos_weight, _BCE_LOGITS, 0.0, code, reduction, out)


@operation
def kl_div(x: Any, target: Any, reduction: str = "mean", log_target: bool = False, out: Array | None = None) -> Array:
    """target (log(target) - x), 0 where target is 0. torch.nn.functional.kl_div.

    x: logarithms of probabilities. target: probabilities of the same shape, or their logarithms with log_target.
    reduction: also "batchmean", the sum divided by x.shape[0].
    """
    code = choice(reduction, "reduction", REDUCTIONS)
    return _loss(x, target, None, None, _KL_DIV_LOG if log_target else _KL_DIV, 0.0, code, reduction, out)


@operation
def kl_div_backward(
    grad_output: Any,
    x: Any,
    target: Any,
    reduction: str = "mean",
    log_target: bool = False,
    out: Array | None = None,
) -> Array:
    """The gradient of kl_div in x, which is -target. grad_output: shaped as kl_div returns."""
    code = choice(reduction, "reduction", REDUCTIONS)
    kind = _KL_DIV_LOG if log_target else _KL_DIV
    return _loss_backward(grad_output, x, target, None, None, kind, 0.0, code, reduction, out)


@operation
def hinge_embedding_loss(
    x: Any, target: Any, margin: float = 1.0, reduction: str = "mean", out: Array | None = None
) -> Array:
    """x where target is 1, max(0, margin - x) where it is -1. torch.nn.functional.hinge_embedding_loss.

    x, target: one shape and dtype. Where target is neither, the two are added, as torch does.
    """
    return _loss(x, target, None, None, _HINGE, margin, choice(reduction, "reduction", _USUAL), reduction, out)


@operation
def hinge_embedding_loss_backward(
    grad_output: Any,
    x: Any,
    target: Any,
    margin: float = 1.0,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """The gradient of hinge_embedding_loss in x. grad_output: shaped as hinge_embedding_loss returns."""
    code = choice(reduction, "reduction", _USUAL)
    return _loss_backward(grad_output, x, target, None, None, _HINGE, margin, code, reduction, out)


# ---- of classes ----


@operation
def nll_loss(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """-weight[target] x[target] of each row: log-probabilities in, as log_softmax makes them. F.nll_loss of torch.

    x: (rows, classes), (rows, classes, d1, ...) or (classes,). target: integers of x's shape without the classes, in
    [0, classes) or ignore_index, whose loss is 0; anything else is a ValueError. weight: (classes,) or None. The mean
    is by the weights of the targets that count.
    """
    x = floats(x, "x")
    outer, classes, inner = class_split(x.shape)
    target, _ = class_target(target, x, False)
    weight = optional_vector(weight, "weight", x, classes)
    code = choice(reduction, "reduction", _USUAL)
    result = output(out, reduced_shape(row_shape(x.shape), reduction), x)
    if out is not None:
        _apart(result, x, target, None, weight, None)
    _kernels.nll_loss(x, target, weight, result, outer, classes, inner, ignore_index, code)
    return result


@operation
def nll_loss_backward(
    grad_output: Any,
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """The gradient of nll_loss in x: -weight[target] at the target, else 0. grad_output: shaped as nll_loss returns."""
    x = floats(x, "x")
    outer, classes, inner = class_split(x.shape)
    target, _ = class_target(target, x, False)
    weight = optional_vector(weight, "weight", x, classes)
    code = choice(reduction, "reduction", _USUAL)
    grad_output = _grad_like(grad_output, x, reduced_shape(row_shape(x.shape), reduction))
    result = output(out, x.shape, x)
    if out is not None:
        disjoint(result, "grad_output", grad_output)
        _apart(result, x, target, None, weight, None)
    _kernels.nll_loss_backward(grad_output, target, weight, result, outer, classes, inner, ignore_index, code)
    return result


@operation
def cross_entropy(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    out: Array | None = None,
) -> Array:
    """-sum over j of c[j] log_softmax(x)[j] of each row. torch.nn.functional.cross_entropy.

    x: (rows, classes), (rows, classes, d1, ...) or (classes,), unnormalised scores. target: integers of x's shape
    without the classes, in [0, classes) or ignore_index, whose loss is 0 (anything else is a ValueError): c is 1 there;
    or floats of x's shape, which are c. weight: (classes,) or None, multiplies c. label_smoothing, in [0, 1]: how much
    of c is spread over all classes. The mean of integer targets is by the weights of those that count.
    """
    x = floats(x, "x")
    outer, classes, inner = class_split(x.shape)
    indices, probabilities = class_target(target, x, True)
    weight = optional_vector(weight, "weight", x, classes)
    _check_smoothing(label_smoothing, probabilities, ignore_index)
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
def cross_entropy_backward(
    grad_output: Any,
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    out: Array | None = None,
) -> Array:
    """The gradient of cross_entropy in x: grad_output (sum(c) softmax(x) - c), divided as the loss is.

    grad_output: shaped as cross_entropy returns.
    """
    x = floats(x, "x")
    outer, classes, inner = class_split(x.shape)
    indices, probabilities = class_target(target, x, True)
    weight = optional_vector(weight, "weight", x, classes)
    _check_smoothing(label_smoothing, probabilities, ignore_index)
    code = choice(reduction, "reduction", _USUAL)
    grad = _grad_like(grad_output, x, reduced_shape(row_shape(x.shape), reduction))
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
def cross_entropy_with_grad(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> LossAndGrad:
    """cross_entropy and its gradient in x, for a grad_output of 1 (ones), in one pass: the exponentials are shared.

    Takes what cross_entropy takes. Returns a named tuple: loss, grad.
    """
    x = floats(x, "x")
    outer, classes, inner = class_split(x.shape)
    indices, probabilities = class_target(target, x, True)
    weight = optional_vector(weight, "weight", x, classes)
    _check_smoothing(label_smoothing, probabilities, ignore_index)
    code = choice(reduction, "reduction", _USUAL)
    loss, grad = np.empty(reduced_shape(row_shape(x.shape), reduction), x.dtype), np.empty_like(x)
    _kernels.cross_entropy(
        x, indices, probabilities, weight, None, loss, grad, outer, classes, inner, ignore_index, label_smoothing, code
    )
    return LossAndGrad(loss, grad)


@operation
def cosine_embedding_loss(
    x1: Any, x2: Any, target: Any, margin: float = 0.0, reduction: str = "mean", out: Array | None = None
) -> Array:
    """1 - cos(x1, x2) where target is 1, max(0, cos(x1, x2) - margin) where it is -1, else 0.

    torch.nn.functional.cosine_embedding_loss. x1, x2: (rows, features) or (features,). target: (rows,) or (), of their
    dtype.
    """
    x1 = floats(x1, "x1")
    rows, features = _pair_split(x1.shape)
    x2 = _like(x2, "x2", x1, x1.shape)
    target = _like(target, "target", x1, x1.shape[:-1])
    code = choice(reduction, "reduction", _USUAL)
    result = output(out, reduced_shape(x1.shape[:-1], reduction), x1)
    if out is not None:
        disjoint(result, "x1", x1)
        disjoint(result, "x2", x2)
        disjoint(result, "target", target)
    _kernels.cosine_embedding_loss(x1, x2, target, result, rows, features, margin, code)
    return result


@operation
def cosine_embedding_loss_backward(
    grad_output: Any, x1: Any, x2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> CosineEmbeddingGrad:
    """The gradients of cosine_embedding_loss in x1 and x2, a named tuple. grad_output: shaped as that returns."""
    x1 = floats(x1, "x1")
    rows, features = _pair_split(x1.shape)
    x2 = _like(x2, "x2", x1, x1.shape)
    target = _like(target, "target", x1, x1.shape[:-1])
    code = choice(reduction, "reduction", _USUAL)
    grad = _grad_like(grad_output, x1, reduced_shape(x1.shape[:-1], reduction))
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
    batch = (x.shape + (1,))[0]  # noqa: RUF005
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
    grad = _grad_like(grad_output, x, reduced_shape(x.shape, reduction))
    result = output(out, x.shape, x)
    if out is not None:
        disjoint(result, "grad_output", grad)
        _apart(result, x, target, None, weight, pos_weight)
    batch = (x.shape + (1,))[0]  # noqa: RUF005
    _kernels.elementwise_loss_backward(
        grad, x, target, weight, pos_weight, result, x.size, batch, kind, parameter, code
    )
    return result


@helper
def _like(array: Any, argument: str, x: Array, shape: tuple[int, ...]) -> Array:
    array = floats_like(array, argument, x)
    if array.shape != shape:
        fail(argument, array.shape, shape)
    return array


@helper
def _grad_like(grad_output: Any, x: Array, shape: tuple[int, ...]) -> Array:
    return _like(grad_output, "grad_output", x, shape)


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
    return ((1,) + shape)[-2], shape[-1]  # noqa: RUF005 (Numba has no stars)


@helper
def _check_delta(delta: float) -> None:
    if not delta > 0:
        fail("delta", delta, "above 0")


@helper
def _smooth_l1(beta: float) -> int:
    if not beta >= 0:
        fail("beta", beta, "at least 0")
    return _SMOOTH_L1 if beta > 0 else _L1


@helper
def _check_smoothing(label_smoothing: float, probabilities: Array | None, ignore_index: int) -> None:
    if not 0 <= label_smoothing <= 1:
        fail("label_smoothing", label_smoothing, "0 to 1")
    if probabilities is not None and ignore_index >= 0:
        fail("ignore_index", ignore_index, "a negative one with probabilities as target")
