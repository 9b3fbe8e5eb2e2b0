"""Steps by the gradient over the root of a sum or an average of its squares: Adagrad, RMSprop and Adadelta."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import ClassVar

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import operation
from fastdl.functional.verbs import Array, ArrayLike, disjoint, flag, in_place, integer, number, optional_state, state
from fastdl.optim._shared import SHARED, check_buffer, check_common, gradient_of
from fastdl.optim.optimizer import Optimizer, Options, Params

__all__ = ["adadelta_step", "adagrad_step", "rmsprop_step"]

_ADAGRAD = {
    "adagrad_formula": """
        With g the gradient and t the step::

            s = s + g**2
            param -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)
    """,
    "lr_decay": """
        lr_decay : float
            How fast the learning rate falls, at least 0.
    """,
    "adagrad_references": """
        References
        ----------
        Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 12
        (2011), figure 1, with diagonal matrices.
    """,
}
_RMSPROP = {
    "rmsprop_formula": """
        With g the gradient::

            s = alpha * s + (1 - alpha) * g**2
            a = alpha * a + (1 - alpha) * g
            d = g / (sqrt(s - a**2 if centered else s) + eps)
            b = momentum * b + d
            param -= lr * b

        Without momentum, b is d.
    """,
    "alpha": """
        alpha : float
            How much of the averages is kept, at least 0 and at most 1.
    """,
    "rmsprop_momentum": """
        momentum : float
            How much of b is kept, at least 0.
    """,
    "rmsprop_references": """
        References
        ----------
        Hinton, "Neural networks for machine learning", lecture 6 (2012). Centered: Graves, "Generating sequences with
        recurrent neural networks", arXiv:1308.0850, equations 38 to 45.
    """,
}
_ADADELTA = {
    "adadelta_formula": """
        With g the gradient::

            s = rho * s + (1 - rho) * g**2
            d = sqrt(a + eps) / sqrt(s + eps) * g
            a = rho * a + (1 - rho) * d**2
            param -= lr * d
    """,
    "rho": """
        rho : float
            How much of the averages is kept, at least 0 and at most 1.
    """,
    "adadelta_references": """
        References
        ----------
        Zeiler, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701, algorithm 1.
    """,
}


@operation
@doc(SHARED, _ADAGRAD)
def adagrad_step(
    param: Array,
    grad: ArrayLike,
    state_sum: Array,
    step: int = 1,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
    grad_scale: float = 1.0,
    clip_value: float = inf,
) -> None:
    """Make one step of Adagrad, in place.

    {adagrad_formula}

    Parameters
    ----------
    {param_grad}
    state_sum : array, like `param`
        s, the sum of the squares of all gradients; usually zeros before the first step. Updated in place.
    {step}
    {lr}
    {lr_decay}
    {coupled}
    {eps}
    {maximize}
    {scaling}

    {step_raises}

    See Also
    --------
    fastdl.optim.Adagrad : The same for many parameters, with the states kept.

    {adagrad_references}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> param, s = np.ones(2), np.array([9.0, 0.0])
    >>> fastdl.adagrad_step(param, np.array([4.0, -2.0]), s, lr=0.5)
    >>> param, s
    (array([0.6, 1.5]), array([25.,  4.]))
    """
    param = in_place(param, "param")
    grad = gradient_of(grad, param)
    state_sum = state(state_sum, "state_sum", param, grad)
    check_common(lr, weight_decay, maximize, grad_scale, clip_value)
    _kernels.adagrad_step(
        param,
        grad,
        state_sum,
        param.size,
        integer(step, "step", 1),
        lr,
        number(lr_decay, "lr_decay", 0.0),
        weight_decay,
        number(eps, "eps", 0.0),
        maximize,
        grad_scale,
        clip_value,
    )


@operation
@doc(SHARED, _RMSPROP)
def rmsprop_step(
    param: Array,
    grad: ArrayLike,
    square_avg: Array,
    grad_avg: Array | None = None,
    momentum_buffer: Array | None = None,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    maximize: bool = False,
    grad_scale: float = 1.0,
    clip_value: float = inf,
) -> None:
    """Make one step of RMSprop, in place.

    {rmsprop_formula}

    Parameters
    ----------
    {param_grad}
    square_avg : array, like `param`
        s, an average of the squares, zeros before the first step. Updated in place.
    grad_avg : array, like `param`, optional
        a, an average of the gradient, zeros before the first step: the centered variant. Updated in place.
    momentum_buffer : array, like `param`, optional
        b, zeros before the first step. Updated in place. Not needed without momentum.
    {lr}
    {alpha}
    {eps}
    {coupled}
    {rmsprop_momentum}
    {maximize}
    {scaling}

    {step_raises}

    See Also
    --------
    fastdl.optim.RMSprop : The same for many parameters, with the states kept.

    {rmsprop_references}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> param, s = np.ones(2), np.zeros(2)
    >>> fastdl.rmsprop_step(param, np.array([4.0, -2.0]), s, lr=0.1, alpha=0.75)
    >>> param.round(6), s
    (array([0.8, 1.2]), array([4., 1.]))
    """
    param = in_place(param, "param")
    grad = gradient_of(grad, param)
    square_avg = state(square_avg, "square_avg", param, grad)
    grad_avg = optional_state(grad_avg, "grad_avg", param, grad)
    momentum_buffer = optional_state(momentum_buffer, "momentum_buffer", param, grad)
    disjoint(square_avg, "grad_avg", grad_avg)
    disjoint(square_avg, "momentum_buffer", momentum_buffer)
    if grad_avg is not None:
        disjoint(grad_avg, "momentum_buffer", momentum_buffer)
    check_common(lr, weight_decay, maximize, grad_scale, clip_value)
    check_buffer(momentum, momentum_buffer is not None)
    _kernels.rmsprop_step(
        param,
        grad,
        square_avg,
        grad_avg,
        momentum_buffer,
        param.size,
        lr,
        number(alpha, "alpha", 0.0, 1.0),
        number(eps, "eps", 0.0),
        weight_decay,
        momentum,
        maximize,
        grad_scale,
        clip_value,
    )


@operation
@doc(SHARED, _ADADELTA)
def adadelta_step(
    param: Array,
    grad: ArrayLike,
    square_avg: Array,
    acc_delta: Array,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
    grad_scale: float = 1.0,
    clip_value: float = inf,
) -> None:
    """Make one step of Adadelta, in place.

    {adadelta_formula}

    Parameters
    ----------
    {param_grad}
    square_avg, acc_delta : array, like `param`
        s and a, averages of the squares of gradients and of steps, zeros before the first step. Updated in place.
    {lr}
    {rho}
    {eps}
    {coupled}
    {maximize}
    {scaling}

    {step_raises}

    See Also
    --------
    fastdl.optim.Adadelta : The same for many parameters, with the states kept.

    {adadelta_references}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> param, s, a = np.ones(2), np.zeros(2), np.zeros(2)
    >>> fastdl.adadelta_step(param, np.array([4.0, -2.0]), s, a, rho=0.75, eps=1.0)
    >>> param.round(4), s
    (array([-0.7889,  2.4142]), array([4., 1.]))
    """
    param = in_place(param, "param")
    grad = gradient_of(grad, param)
    square_avg = state(square_avg, "square_avg", param, grad)
    acc_delta = state(acc_delta, "acc_delta", param, grad)
    disjoint(square_avg, "acc_delta", acc_delta)
    check_common(lr, weight_decay, maximize, grad_scale, clip_value)
    _kernels.adadelta_step(
        param,
        grad,
        square_avg,
        acc_delta,
        param.size,
        lr,
        number(rho, "rho", 0.0, 1.0),
        number(eps, "eps", 0.0),
        weight_decay,
        maximize,
        grad_scale,
        clip_value,
    )


@doc(SHARED, _ADAGRAD)
class Adagrad(Optimizer):
    """Adagrad, as torch.optim.Adagrad.

    {adagrad_formula}

    Parameters
    ----------
    {params}
    {lr}
    {lr_decay}
    {coupled}
    initial_accumulator_value : float
        s before the first step, at least 0.
    {eps}
    {maximize}

    {class_raises}

    See Also
    --------
    fastdl.adagrad_step : One step as a function.

    {adagrad_references}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> x = np.array([3.0, -2.0])
    >>> optimizer = optim.Adagrad([x], lr=0.5)
    >>> optimizer.step([2 * x])
    >>> x
    array([ 2.5, -1.5])
    """

    update = staticmethod(adagrad_step)
    initial_states: ClassVar[Mapping[str, float | str]] = {"state_sum": "initial_accumulator_value"}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
                "maximize": maximize,
            },
        )

    def check(self, options: Options) -> None:
        number(options["initial_accumulator_value"], "initial_accumulator_value", 0.0)
        super().check(options)


@doc(SHARED, _RMSPROP)
class RMSprop(Optimizer):
    """RMSprop, as torch.optim.RMSprop.

    {rmsprop_formula}

    Parameters
    ----------
    {params}
    {lr}
    {alpha}
    {eps}
    {coupled}
    {rmsprop_momentum}
    centered : bool
        Divide by the root of the variance, which adds the state grad_avg, a.
    {maximize}

    {class_raises}

    See Also
    --------
    fastdl.rmsprop_step : One step as a function.

    {rmsprop_references}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> x = np.array([3.0, -2.0])
    >>> optimizer = optim.RMSprop([x], lr=0.1, alpha=0.75)
    >>> optimizer.step([2 * x])
    >>> x.round(6)
    array([ 2.8, -1.8])
    """

    update = staticmethod(rmsprop_step)
    optional_states: ClassVar[Mapping[str, str]] = {"grad_avg": "centered", "momentum_buffer": "momentum"}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "maximize": maximize,
            },
        )

    def check(self, options: Options) -> None:
        flag(options["centered"], "centered")
        super().check(options)


@doc(SHARED, _ADADELTA)
class Adadelta(Optimizer):
    """Adadelta, as torch.optim.Adadelta.

    {adadelta_formula}

    Parameters
    ----------
    {params}
    {lr}
    {rho}
    {eps}
    {coupled}
    {maximize}

    {class_raises}

    See Also
    --------
    fastdl.adadelta_step : One step as a function.

    {adadelta_references}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> x = np.array([3.0, -2.0])
    >>> optimizer = optim.Adadelta([x], rho=0.75, eps=1.0)
    >>> optimizer.step([2 * x])
    >>> x.round(4)
    array([ 1.1026, -0.2111])
    """

    update = staticmethod(adadelta_step)

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize})
