"""Optimizers: in-place step functions, and classes with torch.optim's names and arguments over lists of arrays."""

from __future__ import annotations

from typing import Any

from fastdl import _kernels
from fastdl._arrays import Array, disjoint, fail, floats_like, in_place, optional_in_place
from fastdl._operation import helper, operation


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
) -> None:
    """One step of stochastic gradient descent, in place. torch.optim.SGD.

        g = (-grad if maximize else grad) + weight_decay param
        v = g at step 1, else momentum v + (1 - dampening) g            (v is momentum_buffer)
        param -= lr (g + momentum v if nesterov else v)

    Without momentum, v is g and momentum_buffer is not needed. param, grad, momentum_buffer: one shape.
    step counts from 1. Source of momentum: Sutskever et al., ICML 2013, in torch's form.
    """
    param = in_place(param, "param")
    grad = floats_like(grad, "grad", param)
    if grad.shape != param.shape:
        fail("grad", grad.shape, param.shape)
    momentum_buffer = optional_in_place(momentum_buffer, "momentum_buffer", param)
    _check_sgd(step, lr, momentum, dampening, weight_decay, nesterov, momentum_buffer is not None)
    disjoint(param, "grad", grad)
    disjoint(param, "momentum_buffer", momentum_buffer)
    disjoint(grad, "momentum_buffer", momentum_buffer)
    _kernels.sgd_step(
        param, grad, momentum_buffer, param.size, step == 1, lr, momentum, dampening, weight_decay, nesterov, maximize
    )


@helper
def _check_sgd(
    step: int,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    has_buffer: bool,
) -> None:
    if step < 1:
        fail("step", step, "at least 1")
    if not lr >= 0:
        fail("lr", lr, "at least 0")
    if not momentum >= 0:
        fail("momentum", momentum, "at least 0")
    if not weight_decay >= 0:
        fail("weight_decay", weight_decay, "at least 0")
    if nesterov and (momentum == 0 or dampening != 0):
        fail("nesterov", (momentum, dampening), "a momentum above 0 and a dampening of 0")
    if momentum != 0 and not has_buffer:
        fail("momentum_buffer", "none", "an array like param, because momentum is not 0")
