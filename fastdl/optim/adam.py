"""Steps by averages of the gradient and of its square: Adam, AdamW and NAdam."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import ClassVar

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import helper, operation
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    disjoint,
    fail,
    flag,
    floats_like,
    in_place,
    integer,
    number,
    optional_state,
    state,
)
from fastdl.optim._shared import SHARED, check_common, gradient_of, two_betas
from fastdl.optim.optimizer import Optimizer, Options, Params

__all__ = ["adam_step", "adamw_step", "nadam_step"]

_ADAM = {
    "adam_formula": """
        With g the gradient and t the step::

            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            u = max(u, v) if amsgrad else v
            param -= lr * m / (1 - beta1**t) / (sqrt(u / (1 - beta2**t)) + eps)
    """,
    "adam_states": """
        exp_avg, exp_avg_sq : array, like `param`
            m and v, the averages of the gradient and of its square, zeros before the first step. Updated in place.
    """,
    "max_exp_avg_sq": """
        max_exp_avg_sq : array, like `param`, optional
            u, the largest v so far, zeros before the first step: the AMSGrad variant. Updated in place.
    """,
    "amsgrad": """
        amsgrad : bool
            Divide by the root of the largest v so far, which adds the state max_exp_avg_sq.
    """,
    "adam_references": """
        References
        ----------
        Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1. AMSGrad: Reddi, Kale and
        Kumar, "On the convergence of Adam and beyond", ICLR 2018, algorithm 2. Decoupled weight decay: Loshchilov and
        Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.
    """,
    "nadam_formula": """
        With g the gradient and t the step::

            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            mu(t) = beta1 * (1 - 0.96**(t * momentum_decay) / 2)
            M(t) = mu(1) * ... * mu(t)
            d = (1 - mu(t)) / (1 - M(t)) * g + mu(t + 1) / (1 - M(t + 1)) * m
            param -= lr * d / (sqrt(v / (1 - beta2**t)) + eps)
    """,
    "momentum_decay": """
        momentum_decay : float
            How fast mu grows to beta1, at least 0.
    """,
    "nadam_references": """
        References
        ----------
        Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.
    """,
}


@operation
@doc(SHARED, _ADAM)
def adam_step(
    param: Array,
    grad: ArrayLike,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    max_exp_avg_sq: Array | None = None,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    grad_scale: float = 1.0,
    clip_value: float = inf,
) -> None:
    """Make one step of Adam, in place.

    {adam_formula}

    Parameters
    ----------
    {param_grad}
    {adam_states}
    {step}
    {lr}
    {betas}
    {eps}
    {either_decay}
    {max_exp_avg_sq}
    {maximize}
    {scaling}

    {step_raises}

    See Also
    --------
    fastdl.optim.Adam : The same for many parameters, with the states kept.

    {adam_references}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> param, m, v = np.ones(3), np.zeros(3), np.zeros(3)
    >>> fastdl.adam_step(param, np.array([2.0, -1.0, 0.0]), m, v, step=1, lr=0.1)
    >>> param
    array([0.9, 1.1, 1. ])
    """
    _adam(
        param,
        grad,
        exp_avg,
        exp_avg_sq,
        step,
        lr,
        betas,
        eps,
        weight_decay,
        max_exp_avg_sq,
        maximize,
        decoupled_weight_decay,
        grad_scale,
        clip_value,
    )


@operation
@doc(SHARED, _ADAM)
def adamw_step(
    param: Array,
    grad: ArrayLike,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    max_exp_avg_sq: Array | None = None,
    maximize: bool = False,
    grad_scale: float = 1.0,
    clip_value: float = inf,
) -> None:
    """Make one step of AdamW, Adam with decoupled weight decay, in place.

    {adam_formula}

    Parameters
    ----------
    {param_grad}
    {adam_states}
    {step}
    {lr}
    {betas}
    {eps}
    {decoupled}
    {max_exp_avg_sq}
    {maximize}
    {scaling}

    {step_raises}

    See Also
    --------
    fastdl.optim.AdamW : The same for many parameters, with the states kept.

    {adam_references}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> param, m, v = np.ones(3), np.zeros(3), np.zeros(3)
    >>> fastdl.adamw_step(param, np.array([2.0, -1.0, 0.0]), m, v, step=1, lr=0.1, weight_decay=0.5)
    >>> param
    array([0.85, 1.05, 0.95])
    """
    _adam(
        param,
        grad,
        exp_avg,
        exp_avg_sq,
        step,
        lr,
        betas,
        eps,
        weight_decay,
        max_exp_avg_sq,
        maximize,
        True,
        grad_scale,
        clip_value,
    )


@helper
def _adam(
    param: Array,
    grad: ArrayLike,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    max_exp_avg_sq: Array | None,
    maximize: bool,
    decoupled_weight_decay: bool,
    grad_scale: float,
    clip_value: float,
) -> None:
    param = in_place(param, "param")
    grad = gradient_of(grad, param)
    exp_avg = state(exp_avg, "exp_avg", param, grad)
    exp_avg_sq = state(exp_avg_sq, "exp_avg_sq", param, grad)
    max_exp_avg_sq = optional_state(max_exp_avg_sq, "max_exp_avg_sq", param, grad)
    disjoint(exp_avg, "exp_avg_sq", exp_avg_sq)
    disjoint(exp_avg, "max_exp_avg_sq", max_exp_avg_sq)
    disjoint(exp_avg_sq, "max_exp_avg_sq", max_exp_avg_sq)
    check_common(lr, weight_decay, maximize, grad_scale, clip_value)
    beta1, beta2 = two_betas(betas)
    _kernels.adam_step(
        param,
        grad,
        exp_avg,
        exp_avg_sq,
        max_exp_avg_sq,
        param.size,
        integer(step, "step", 1),
        lr,
        beta1,
        beta2,
        number(eps, "eps", 0.0),
        weight_decay,
        flag(decoupled_weight_decay, "decoupled_weight_decay"),
        maximize,
        grad_scale,
        clip_value,
    )


@operation
@doc(SHARED, _ADAM)
def nadam_step(
    param: Array,
    grad: ArrayLike,
    exp_avg: Array,
    exp_avg_sq: Array,
    mu_product: Array,
    step: int,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
    grad_scale: float = 1.0,
    clip_value: float = inf,
) -> None:
    """Make one step of NAdam, Adam with Nesterov momentum, in place.

    {nadam_formula}

    Parameters
    ----------
    {param_grad}
    {adam_states}
    mu_product : array of the dtype of `param`, shape ()
        M(t - 1), 1 before the first step. Becomes M(t).
    {step}
    {lr}
    {betas}
    {eps}
    {either_decay}
    {momentum_decay}
    {maximize}
    {scaling}

    {step_raises}

    See Also
    --------
    fastdl.optim.NAdam : The same for many parameters, with the states kept.

    {nadam_references}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> param, m, v, mu_product = np.ones(3), np.zeros(3), np.zeros(3), np.array(1.0)
    >>> fastdl.nadam_step(param, np.array([2.0, -1.0, 0.0]), m, v, mu_product, step=1, lr=0.1)
    >>> param.round(4), mu_product.round(4)
    (array([0.8944, 1.1056, 1.    ]), np.float64(0.4501))
    """
    param = in_place(param, "param")
    grad = gradient_of(grad, param)
    exp_avg = state(exp_avg, "exp_avg", param, grad)
    exp_avg_sq = state(exp_avg_sq, "exp_avg_sq", param, grad)
    mu_product = in_place(mu_product, "mu_product")
    if mu_product.shape != ():
        fail("mu_product", mu_product.shape, ())
    mu_product = floats_like(mu_product, "mu_product", param)
    disjoint(exp_avg, "exp_avg_sq", exp_avg_sq)
    disjoint(param, "mu_product", mu_product)
    disjoint(grad, "mu_product", mu_product)
    disjoint(exp_avg, "mu_product", mu_product)
    disjoint(exp_avg_sq, "mu_product", mu_product)
    check_common(lr, weight_decay, maximize, grad_scale, clip_value)
    beta1, beta2 = two_betas(betas)
    _kernels.nadam_step(
        param,
        grad,
        exp_avg,
        exp_avg_sq,
        mu_product,
        param.size,
        integer(step, "step", 1),
        lr,
        beta1,
        beta2,
        number(eps, "eps", 0.0),
        weight_decay,
        number(momentum_decay, "momentum_decay", 0.0),
        flag(decoupled_weight_decay, "decoupled_weight_decay"),
        maximize,
        grad_scale,
        clip_value,
    )


@doc(SHARED, _ADAM)
class Adam(Optimizer):
    """Adam, as torch.optim.Adam.

    {adam_formula}

    Parameters
    ----------
    {params}
    {lr}
    {betas}
    {eps}
    {either_decay}
    {amsgrad}
    {maximize}

    {class_raises}

    See Also
    --------
    fastdl.adam_step : One step as a function.

    {adam_references}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> x = np.array([3.0, -2.0])
    >>> optimizer = optim.Adam({"x": x}, lr=0.1)
    >>> for _ in range(200):
    ...     optimizer.step({"x": 2 * x})  # the gradient of (x**2).sum()
    >>> bool(np.abs(x).max() < 0.01)
    True
    """

    update = staticmethod(adam_step)
    optional_states: ClassVar[Mapping[str, str]] = {"max_exp_avg_sq": "amsgrad"}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def check(self, options: Options) -> None:
        flag(options["amsgrad"], "amsgrad")
        super().check(options)


@doc(SHARED, _ADAM)
class AdamW(Adam):
    """AdamW, Adam with decoupled weight decay, as torch.optim.AdamW.

    {adam_formula}

    Parameters
    ----------
    {params}
    {lr}
    {betas}
    {eps}
    {decoupled}
    {amsgrad}
    {maximize}

    {class_raises}

    See Also
    --------
    fastdl.adamw_step : One step as a function.

    {adam_references}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> x = np.array([1.0, -2.0])
    >>> optimizer = optim.AdamW([x], lr=0.1, weight_decay=0.5)
    >>> optimizer.step([np.zeros(2)])
    >>> x
    array([ 0.95, -1.9 ])
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay=True)


@doc(SHARED, _ADAM)
class NAdam(Optimizer):
    """NAdam, Adam with Nesterov momentum, as torch.optim.NAdam.

    {nadam_formula}

    Parameters
    ----------
    {params}
    {lr}
    {betas}
    {eps}
    {either_decay}
    {momentum_decay}
    {maximize}

    {class_raises}

    See Also
    --------
    fastdl.nadam_step : One step as a function.

    {nadam_references}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> x = np.array([3.0, -2.0])
    >>> optimizer = optim.NAdam([x], lr=0.1)
    >>> for _ in range(200):
    ...     optimizer.step([2 * x])
    >>> bool(np.abs(x).max() < 0.01)
    True
    """

    update = staticmethod(nadam_step)
    initial_states: ClassVar[Mapping[str, float | str]] = {"mu_product": 1.0}

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
            },
        )
