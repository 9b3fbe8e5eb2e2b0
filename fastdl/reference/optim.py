"""Optimizers: in-place step functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl.functional.verbs import Array
from fastdl.optim import adam, adaptive, momentum
from fastdl.reference._implements import implements

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


def _scaled(grad: Any, maximize: bool, grad_scale: float, clip_value: float) -> Array:
    grad = np.clip(grad_scale * grad, -clip_value, clip_value)
    return -grad if maximize else grad


def _decayed(param: Array, grad: Array, lr: float, weight_decay: float, decoupled: bool) -> Array:
    """The gradient with the weight decay in it, or, decoupled, the parameter without it."""
    if decoupled:
        param *= 1 - lr * weight_decay
    elif weight_decay:  # 0 times an infinite parameter would be NaN
        grad = grad + weight_decay * param
    return grad


def _average(average: Array, x: Array, beta: float) -> None:
    average[...] = beta * average + (1 - beta) * x


@implements(momentum.sgd_step)
def sgd_step(
    param,
    grad,
    momentum_buffer,
    step,
    lr,
    momentum,
    dampening,
    weight_decay,
    nesterov,
    maximize,
    grad_scale,
    clip_value,
):
    grad = _decayed(param, _scaled(grad, maximize, grad_scale, clip_value), lr, weight_decay, False)
    if momentum and momentum_buffer is not None:
        momentum_buffer[...] = grad if step == 1 else momentum * momentum_buffer + (1 - dampening) * grad
        grad = grad + momentum * momentum_buffer if nesterov else momentum_buffer
    param -= lr * grad


@implements(adaptive.adagrad_step)
def adagrad_step(param, grad, state_sum, step, lr, lr_decay, weight_decay, eps, maximize, grad_scale, clip_value):
    grad = _decayed(param, _scaled(grad, maximize, grad_scale, clip_value), lr, weight_decay, False)
    state_sum += grad**2
    param -= lr / (1 + (step - 1) * lr_decay) * grad / (np.sqrt(state_sum) + eps)


@implements(adaptive.rmsprop_step)
def rmsprop_step(
    param,
    grad,
    square_avg,
    grad_avg,
    momentum_buffer,
    lr,
    alpha,
    eps,
    weight_decay,
    momentum,
    maximize,
    grad_scale,
    clip_value,
):
    grad = _decayed(param, _scaled(grad, maximize, grad_scale, clip_value), lr, weight_decay, False)
    _average(square_avg, grad**2, alpha)
    variance = square_avg
    if grad_avg is not None:
        _average(grad_avg, grad, alpha)
        variance = np.maximum(square_avg - grad_avg**2, 0)  # which rounding may take below 0
    delta = grad / (np.sqrt(variance) + eps)
    if momentum and momentum_buffer is not None:
        momentum_buffer[...] = delta = momentum * momentum_buffer + delta
    param -= lr * delta


@implements(adam.adam_step)
def adam_step(
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
):
    grad = _scaled(grad, maximize, grad_scale, clip_value)
    grad = _decayed(param, grad, lr, weight_decay, decoupled_weight_decay)
    _average(exp_avg, grad, betas[0])
    _average(exp_avg_sq, grad**2, betas[1])
    square = exp_avg_sq
    if max_exp_avg_sq is not None:
        np.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
        square = max_exp_avg_sq
    root = np.sqrt(square) / np.sqrt(1 - betas[1] ** step) + eps
    param -= lr / (1 - betas[0] ** step) * exp_avg / root


@implements(adam.adamw_step)
def adamw_step(
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
    grad_scale,
    clip_value,
):
    rest = lr, betas, eps, weight_decay, max_exp_avg_sq, maximize, True, grad_scale, clip_value
    adam_step(param, grad, exp_avg, exp_avg_sq, step, *rest)


@implements(adaptive.adadelta_step)
def adadelta_step(param, grad, square_avg, acc_delta, lr, rho, eps, weight_decay, maximize, grad_scale, clip_value):
    grad = _decayed(param, _scaled(grad, maximize, grad_scale, clip_value), lr, weight_decay, False)
    _average(square_avg, grad**2, rho)
    delta = np.sqrt(acc_delta + eps) / np.sqrt(square_avg + eps) * grad
    _average(acc_delta, delta**2, rho)
    param -= lr * delta


@implements(adam.nadam_step)
def nadam_step(
    param,
    grad,
    exp_avg,
    exp_avg_sq,
    mu_product,
    step,
    lr,
    betas,
    eps,
    weight_decay,
    momentum_decay,
    decoupled_weight_decay,
    maximize,
    grad_scale,
    clip_value,
):
    grad = _scaled(grad, maximize, grad_scale, clip_value)
    grad = _decayed(param, grad, lr, weight_decay, decoupled_weight_decay)
    mu, mu_next = (betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (step, step + 1))
    mu_product *= mu
    _average(exp_avg, grad, betas[0])
    _average(exp_avg_sq, grad**2, betas[1])
    root = np.sqrt(exp_avg_sq / (1 - betas[1] ** step)) + eps
    param -= lr * (1 - mu) / (1 - mu_product) * grad / root
    param -= lr * mu_next / (1 - mu_product * mu_next) * exp_avg / root


@implements(momentum.lion_step)
def lion_step(param, grad, exp_avg, lr, betas, weight_decay, maximize, grad_scale, clip_value):
    grad = _scaled(grad, maximize, grad_scale, clip_value)
    _decayed(param, grad, lr, weight_decay, True)
    param -= lr * np.sign(betas[0] * exp_avg + (1 - betas[0]) * grad)
    _average(exp_avg, grad, betas[1])
