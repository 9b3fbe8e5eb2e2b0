"""Optimizers as functions: one step each, of one parameter and its state, in place. Defaults are torch.optim's.

What they share: param is updated in place, and so are its states, which begin as zeros (Adagrad's as one likes) and
have param's shape and dtype. grad counts as clamp(grad_scale grad, -clip_value, clip_value), and is not changed.
maximize: against the gradient's sign. weight_decay: added to the gradient as weight_decay param (coupled), or, with
decoupled_weight_decay, taken off beforehand: param *= 1 - lr weight_decay. step counts from 1.
"""

from __future__ import annotations

from math import inf
from typing import Any

from fastdl import _kernels
from fastdl.functional._operation import helper, operation
from fastdl.functional.verbs import Array, disjoint, fail, floats_like, in_place, optional_state, state

__all__ = [
    "adadelta_step",
    "adagrad_step",
    "adam_step",
    "adamw_step",
    "lion_step",
    "nadam_step",
    "rmsprop_step",
    "sgd_step",
]


@operation
def sgd_step(
    param: Array,
    grad: Any,
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
    """One step of stochastic gradient descent, in place. torch.optim.SGD.

        g = (-grad if maximize else grad) + weight_decay param
        v = g at step 1, else momentum v + (1 - dampening) g            (v is momentum_buffer)
        param -= lr (g + momentum v if nesterov else v)

    Without momentum, v is g and momentum_buffer is not needed. param, grad, momentum_buffer: one shape.
    step counts from 1. Source of momentum: Sutskever et al., ICML 2013, in torch's form.
    """
    param = in_place(param, "param")
    grad = _gradient(grad, param)
    momentum_buffer = optional_state(momentum_buffer, "momentum_buffer", param, grad)
    _check(step, lr, weight_decay, grad_scale, clip_value)
    _check_sgd(momentum, dampening, nesterov)
    _check_buffer(momentum, momentum_buffer is not None)
    buffer = momentum_buffer if momentum != 0 else None
    _kernels.sgd_step(
        param,
        grad,
        buffer,
        param.size,
        step,
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
def adagrad_step(
    param: Array,
    grad: Any,
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
    """One step of Adagrad, in place. torch.optim.Adagrad; Duchi, Hazan and Singer, JMLR 12 (2011).

    s += g^2,   param -= lr / (1 + (step - 1) lr_decay) g / (sqrt(s) + eps)              (s is state_sum)
    """
    param = in_place(param, "param")
    grad = _gradient(grad, param)
    state_sum = state(state_sum, "state_sum", param, grad)
    _check(step, lr, weight_decay, grad_scale, clip_value)
    _check_adagrad(lr_decay, eps)
    _kernels.adagrad_step(
        param, grad, state_sum, param.size, step, lr, lr_decay, weight_decay, eps, maximize, grad_scale, clip_value
    )


@operation
def rmsprop_step(
    param: Array,
    grad: Any,
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
    """One step of RMSprop, in place. torch.optim.RMSprop; Hinton's lectures (2012), centered: Graves, arXiv:1308.0850.

        s = alpha s + (1 - alpha) g^2,   a = alpha a + (1 - alpha) g                      (square_avg, grad_avg)
        d = g / (sqrt(s - a^2) + eps) with grad_avg (centered), g / (sqrt(s) + eps) without
        b = momentum b + d,   param -= lr b                                               (momentum_buffer)

    Without momentum, b is d and momentum_buffer is not needed.
    """
    param = in_place(param, "param")
    grad = _gradient(grad, param)
    square_avg = state(square_avg, "square_avg", param, grad)
    grad_avg = optional_state(grad_avg, "grad_avg", param, grad)
    momentum_buffer = optional_state(momentum_buffer, "momentum_buffer", param, grad)
    disjoint(square_avg, "grad_avg", grad_avg)
    disjoint(square_avg, "momentum_buffer", momentum_buffer)
    if grad_avg is not None:
        disjoint(grad_avg, "momentum_buffer", momentum_buffer)
    _check(1, lr, weight_decay, grad_scale, clip_value)
    _check_rmsprop(alpha, eps, momentum)
    _check_buffer(momentum, momentum_buffer is not None)
    _kernels.rmsprop_step(
        param,
        grad,
        square_avg,
        grad_avg,
        momentum_buffer,
        param.size,
        lr,
        alpha,
        eps,
        weight_decay,
        momentum,
        maximize,
        grad_scale,
        clip_value,
    )


@operation
def adam_step(
    param: Array,
    grad: Any,
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
    """One step of Adam, in place. torch.optim.Adam; Kingma and Ba, ICLR 2015; amsgrad: Reddi et al., ICLR 2018.

        m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2                      (exp_avg, exp_avg_sq)
        u = max(u, v) with max_exp_avg_sq (amsgrad), v without
        param -= lr / (1 - beta1^step) m / (sqrt(u) / sqrt(1 - beta2^step) + eps)

    decoupled_weight_decay: AdamW, for which there is adamw_step too.
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
def adamw_step(
    param: Array,
    grad: Any,
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
    """adam_step with decoupled weight decay. torch.optim.AdamW; Loshchilov and Hutter, ICLR 2019."""
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


@operation
def adadelta_step(
    param: Array,
    grad: Any,
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
    """One step of Adadelta, in place. torch.optim.Adadelta; Zeiler, arXiv:1212.5701.

    s = rho s + (1 - rho) g^2,   d = sqrt(a + eps) / sqrt(s + eps) g                      (s is square_avg)
    a = rho a + (1 - rho) d^2,   param -= lr d                                            (a is acc_delta)
    """
    param = in_place(param, "param")
    grad = _gradient(grad, param)
    square_avg = state(square_avg, "square_avg", param, grad)
    acc_delta = state(acc_delta, "acc_delta", param, grad)
    disjoint(square_avg, "acc_delta", acc_delta)
    _check(1, lr, weight_decay, grad_scale, clip_value)
    _check_adadelta(rho, eps)
    _kernels.adadelta_step(
        param, grad, square_avg, acc_delta, param.size, lr, rho, eps, weight_decay, maximize, grad_scale, clip_value
    )


@operation
def nadam_step(
    param: Array,
    grad: Any,
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
    """One step of NAdam, in place. torch.optim.NAdam; Dozat, ICLR workshop 2016.

        m and v as adam_step has them,   mu(t) = beta1 (1 - 0.96^(t momentum_decay) / 2),   M(t) = mu(1) ... mu(t)
        param -= lr ((1 - mu(t)) / (1 - M(t)) g + mu(t + 1) / (1 - M(t + 1)) m) / (sqrt(v / (1 - beta2^t)) + eps)

    t is step. mu_product: one value, shape (), which begins as 1 and becomes M(t).
    """
    param = in_place(param, "param")
    grad = _gradient(grad, param)
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
    _check(step, lr, weight_decay, grad_scale, clip_value)
    _check_nadam(betas[0], betas[1], eps, momentum_decay)
    _kernels.nadam_step(
        param,
        grad,
        exp_avg,
        exp_avg_sq,
        mu_product,
        param.size,
        step,
        lr,
        betas[0],
        betas[1],
        eps,
        weight_decay,
        momentum_decay,
        decoupled_weight_decay,
        maximize,
        grad_scale,
        clip_value,
    )


@operation
def lion_step(
    param: Array,
    grad: Any,
    exp_avg: Array,
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    maximize: bool = False,
    grad_scale: float = 1.0,
    clip_value: float = inf,
) -> None:
    """One step of Lion, in place. Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, Algorithm 2.

        param -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay param),   m = beta2 m + (1 - beta2) g

    m is exp_avg. The weight decay is decoupled, as the paper has it.
    """
    param = in_place(param, "param")
    grad = _gradient(grad, param)
    exp_avg = state(exp_avg, "exp_avg", param, grad)
    _check(1, lr, weight_decay, grad_scale, clip_value)
    _check_betas(betas[0], betas[1])
    _kernels.lion_step(
        param, grad, exp_avg, param.size, lr, betas[0], betas[1], weight_decay, maximize, grad_scale, clip_value
    )


@helper
def _adam(
    param: Array,
    grad: Any,
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
    grad = _gradient(grad, param)
    exp_avg = state(exp_avg, "exp_avg", param, grad)
    exp_avg_sq = state(exp_avg_sq, "exp_avg_sq", param, grad)
    max_exp_avg_sq = optional_state(max_exp_avg_sq, "max_exp_avg_sq", param, grad)
    disjoint(exp_avg, "exp_avg_sq", exp_avg_sq)
    disjoint(exp_avg, "max_exp_avg_sq", max_exp_avg_sq)
    disjoint(exp_avg_sq, "max_exp_avg_sq", max_exp_avg_sq)
    _check(step, lr, weight_decay, grad_scale, clip_value)
    _check_adam(betas[0], betas[1], eps)
    _kernels.adam_step(
        param,
        grad,
        exp_avg,
        exp_avg_sq,
        max_exp_avg_sq,
        param.size,
        step,
        lr,
        betas[0],
        betas[1],
        eps,
        weight_decay,
        decoupled_weight_decay,
        maximize,
        grad_scale,
        clip_value,
    )


@helper
def _gradient(grad: Any, param: Array) -> Array:
    grad = floats_like(grad, "grad", param)
    if grad.shape != param.shape:
        fail("grad", grad.shape, param.shape)
    disjoint(param, "grad", grad)
    return grad


@helper
def _check(step: int, lr: float, weight_decay: float, grad_scale: float, clip_value: float) -> None:
    if step < 1:
        fail("step", step, "at least 1")
    if not lr >= 0:
        fail("lr", lr, "at least 0")
    if not weight_decay >= 0:
        fail("weight_decay", weight_decay, "at least 0")
    if not grad_scale >= 0:
        fail("grad_scale", grad_scale, "at least 0")
    if not clip_value >= 0:
        fail("clip_value", clip_value, "at least 0")


@helper
def _check_buffer(momentum: float, has_buffer: bool) -> None:
    if momentum != 0 and not has_buffer:
        fail("momentum_buffer", "none", "an array like param, because momentum is not 0")


@helper
def _check_eps(eps: float) -> None:
    if not eps >= 0:
        fail("eps", eps, "at least 0")


@helper
def _check_betas(beta1: float, beta2: float) -> None:
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        fail("betas", (beta1, beta2), "two numbers of at least 0 and below 1")


@helper
def _check_sgd(momentum: float, dampening: float, nesterov: bool) -> None:
    if not momentum >= 0:
        fail("momentum", momentum, "at least 0")
    if dampening != dampening:
        fail("dampening", dampening, "a number")
    if nesterov and (momentum == 0 or dampening != 0):
        fail("nesterov", (momentum, dampening), "a momentum above 0 and a dampening of 0")


@helper
def _check_adagrad(lr_decay: float, eps: float) -> None:
    if not lr_decay >= 0:
        fail("lr_decay", lr_decay, "at least 0")
    _check_eps(eps)


@helper
def _check_rmsprop(alpha: float, eps: float, momentum: float) -> None:
    if not alpha >= 0:
        fail("alpha", alpha, "at least 0")
    if not momentum >= 0:
        fail("momentum", momentum, "at least 0")
    _check_eps(eps)


@helper
def _check_adam(beta1: float, beta2: float, eps: float) -> None:
    _check_betas(beta1, beta2)
    _check_eps(eps)


@helper
def _check_adadelta(rho: float, eps: float) -> None:
    if not 0 <= rho <= 1:
        fail("rho", rho, "at least 0 and at most 1")
    _check_eps(eps)


@helper
def _check_nadam(beta1: float, beta2: float, eps: float, momentum_decay: float) -> None:
    _check_adam(beta1, beta2, eps)
    if not momentum_decay >= 0:
        fail("momentum_decay", momentum_decay, "at least 0")
