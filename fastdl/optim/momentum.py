"""Steps along the gradient, or an average of it: SGD, and its sign: Lion."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import ClassVar

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import operation
from fastdl.functional.verbs import Array, ArrayLike, fail, flag, in_place, integer, number, optional_state, state
from fastdl.optim._shared import SHARED, check_buffer, check_common, gradient_of, two_betas
from fastdl.optim.optimizer import Optimizer, Params

__all__ = ["lion_step", "sgd_step"]

_SGD = {
    "sgd_formula": """
        With g the gradient and t the step::

            v = g if t == 1 else momentum * v + (1 - dampening) * g
            param -= lr * (g + momentum * v if nesterov else v)

        Without momentum, v is g.
    """,
    "momentum": """
        momentum : float
            How much of v is kept, at least 0.
        dampening : float
            How much of the gradient is left out of v, from the second step on.
    """,
    "nesterov": """
        nesterov : bool
            Nesterov momentum, which needs a momentum above 0 and no dampening.
    """,
    "sgd_references": """
        References
        ----------
        Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning", ICML
        2013, in torch's form: the learning rate multiplies v, and is not in it.
    """,
}
_LION = {
    "lion_formula": """
        With g the gradient::

            param -= lr * sign(beta1 * m + (1 - beta1) * g)
            m = beta2 * m + (1 - beta2) * g
    """,
    "lion_betas": """
        betas : tuple of two floats
            How much of m is kept in the direction of a step, and in m; each at least 0 and below 1.
    """,
    "lion_references": """
        References
        ----------
        Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, algorithm 2.
    """,
}


@operation
@doc(SHARED, _SGD)
def sgd_step(
    param: Array,
    grad: ArrayLike,
    momentum_buffer: Array | None = None,
    step: int = 1,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    grad_scale: float = 1.0,
    clip_value: float = inf,
) -> None:
    """Make one step of stochastic gradient descent, in place.

    {sgd_formula}

    Parameters
    ----------
    {param_grad}
    momentum_buffer : array, like `param`, optional
        v; what it holds before the first step does not matter. Updated in place. Not needed without momentum.
    {step}
    {lr}
    {momentum}
    {coupled}
    {nesterov}
    {maximize}
    {scaling}

    {step_raises}

    See Also
    --------
    fastdl.optim.SGD : The same for many parameters, with the states kept.

    {sgd_references}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> param, v = np.ones(2), np.zeros(2)
    >>> for step in (1, 2):
    ...     fastdl.sgd_step(param, np.array([1.0, 2.0]), v, step, lr=0.1, momentum=0.5)
    >>> param
    array([0.75, 0.5 ])
    """
    param = in_place(param, "param")
    grad = gradient_of(grad, param)
    momentum_buffer = optional_state(momentum_buffer, "momentum_buffer", param, grad)
    check_common(lr, weight_decay, maximize, grad_scale, clip_value)
    check_buffer(momentum, momentum_buffer is not None)
    number(dampening, "dampening")
    if flag(nesterov, "nesterov") and (momentum == 0 or dampening != 0):
        fail("nesterov", (momentum, dampening), "a momentum above 0 and a dampening of 0")
    buffer = momentum_buffer if momentum != 0 else None
    _kernels.sgd_step(
        param,
        grad,
        buffer,
        param.size,
        integer(step, "step", 1),
        lr,
        momentum,
        dampening,
        weight_decay,
        nesterov,
        maximize,
        grad_scale,
        clip_value,
    )


@operation
@doc(SHARED, _LION)
def lion_step(
    param: Array,
    grad: ArrayLike,
    exp_avg: Array,
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    maximize: bool = False,
    grad_scale: float = 1.0,
    clip_value: float = inf,
) -> None:
    """Make one step of Lion, in place.

    {lion_formula}

    Parameters
    ----------
    {param_grad}
    exp_avg : array, like `param`
        m, an average of the gradient, zeros before the first step. Updated in place.
    {lr}
    {lion_betas}
    {decoupled}
    {maximize}
    {scaling}

    {step_raises}

    See Also
    --------
    fastdl.optim.Lion : The same for many parameters, with the states kept.

    {lion_references}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> param, m = np.ones(3), np.zeros(3)
    >>> fastdl.lion_step(param, np.array([2.0, -0.1, 0.0]), m, lr=0.25)
    >>> param
    array([0.75, 1.25, 1.  ])
    """
    param = in_place(param, "param")
    grad = gradient_of(grad, param)
    exp_avg = state(exp_avg, "exp_avg", param, grad)
    check_common(lr, weight_decay, maximize, grad_scale, clip_value)
    beta1, beta2 = two_betas(betas)
    _kernels.lion_step(
        param, grad, exp_avg, param.size, lr, beta1, beta2, weight_decay, maximize, grad_scale, clip_value
    )


@doc(SHARED, _SGD)
class SGD(Optimizer):
    """Stochastic gradient descent, as torch.optim.SGD.

    {sgd_formula}

    The first step of a parameter is the first with momentum: its state holds ``momentum_buffer``, v, and ``step``, the
    number of steps that v has been through, from when momentum is first above 0.

    Parameters
    ----------
    {params}
    {lr}
    {momentum}
    {coupled}
    {nesterov}
    {maximize}

    {class_raises}

    See Also
    --------
    fastdl.sgd_step : One step as a function.

    {sgd_references}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> x = np.array([3.0, -2.0])
    >>> optimizer = optim.SGD({"x": x}, lr=0.25)
    >>> for _ in range(2):
    ...     optimizer.step({"x": 2 * x})  # the gradient of (x**2).sum()
    >>> x
    array([ 0.75, -0.5 ])
    """

    update = staticmethod(sgd_step)
    optional_states: ClassVar[Mapping[str, str]] = {"momentum_buffer": "momentum", "step": "momentum"}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )


@doc(SHARED, _LION)
class Lion(Optimizer):
    """Lion, which steps by the sign of an average of the gradient.

    {lion_formula}

    Parameters
    ----------
    {params}
    {lr}
    {lion_betas}
    {decoupled}
    {maximize}

    {class_raises}

    See Also
    --------
    fastdl.lion_step : One step as a function.

    {lion_references}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> x = np.array([3.0, -2.0])
    >>> optimizer = optim.Lion([x], lr=0.5)
    >>> optimizer.step([2 * x])
    >>> x
    array([ 2.5, -1.5])
    """

    update = staticmethod(lion_step)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize})
