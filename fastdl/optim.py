"""Optimizers: in-place step functions, and classes with torch.optim's names and arguments over lists of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl._arrays import Array, _view, disjoint, fail, floats_like, in_place, optional_in_place
from fastdl._backend import functions
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


Arrays = Iterable[Array] | Mapping[str, Array]


class Optimizer:
    """Parameters, and the buffers and options that a step function such as sgd_step takes with each of them.

    params: a list of arrays, or a dict by name such as net.parameters(); they are updated in place.
    A subclass names its step function. options hold that function's keyword arguments, and may change between steps.
    """

    step_function: str
    options: dict[str, Any]

    def __init__(self, params: Arrays, buffers: tuple[str, ...] = (), **options: Any) -> None:
        self.params = {name: in_place(param, f"params[{name!r}]") for name, param in _named(params).items()}
        self._labels = {name: f"grads[{name!r}]" for name in self.params}
        by_address = sorted(self.params.items(), key=lambda item: item[1].ctypes.data)
        for (_, before), (name, param) in pairwise(by_address):
            if np.may_share_memory(before, param):
                fail(f"params[{name!r}]", "memory shared with another parameter", "memory of its own")
        self.buffers = {name: {b: np.zeros_like(p) for b in buffers} for name, p in self.params.items()}
        self.options = options
        self.steps = 0

    @property
    def lr(self) -> float:
        """The learning rate, which may change between steps."""
        return self.options["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        self.options["lr"] = value

    def step(self, grads: Arrays) -> None:
        """Update every parameter, in place. grads: a list in the order of params, or a dict by the same names.

        Everything is checked before the first parameter changes.
        """
        grads = self._checked(_named(grads))
        update = getattr(functions(), self.step_function)
        for name, param in self.params.items():
            update(param, grads[name], **self.buffers[name], step=self.steps + 1, **self.options)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """The number of steps, the options, and copies of the buffers as "buffer.parameter": what np.savez stores."""
        buffers = {f"{b}.{name}": a.copy() for name, own in self.buffers.items() for b, a in own.items()}
        return {"steps": self.steps, **self.options, **buffers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what state_dict() returned. After an error nothing has changed."""
        buffers = {f"{b}.{name}": a for name, own in self.buffers.items() for b, a in own.items()}
        expected = {"steps", *self.options, *buffers}
        if set(state) != expected:
            fail("state", f"unexpected {sorted(set(state) - expected)}", f"also {sorted(expected - set(state))}")
        values = {name: _view(state[name], name) for name in buffers}
        for name, value in values.items():
            if (value.shape, value.dtype) != (buffers[name].shape, buffers[name].dtype):
                fail(name, (value.shape, value.dtype), (buffers[name].shape, buffers[name].dtype))
        for name, value in values.items():
            np.copyto(buffers[name], value)
        self.options = {name: np.asarray(state[name]).item() for name in self.options}
        self.steps = int(state["steps"])

    def _checked(self, grads: Mapping[str, Array]) -> dict[str, Array]:
        if grads.keys() != self.params.keys():
            fail("grads", f"gradients of {list(grads)}", f"of {list(self.params)}")
        checked = {}
        for name, param in self.params.items():
            label = self._labels[name]
            grad = checked[name] = floats_like(grads[name], label, param)
            if grad.shape != param.shape:
                fail(label, f"shape {grad.shape}", f"shape {param.shape}")
            disjoint(param, label, grad)
        return checked


class SGD(Optimizer):
    """Stochastic gradient descent, by sgd_step. torch.optim.SGD."""

    step_function = "sgd_step"

    def __init__(
        self,
        params: Arrays,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
    ) -> None:
        _check_sgd(1, lr, momentum, dampening, weight_decay, nesterov, True)
        super().__init__(
            params,
            buffers=("momentum_buffer",) if momentum else (),
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
        )


def _named(arrays: Arrays) -> Mapping[str, Array]:
    if isinstance(arrays, np.ndarray):
        raise TypeError("found one array, expected a list or a dict of arrays")
    # A list first: asking what is a Mapping takes longer than a small step.
    if not isinstance(arrays, list) and isinstance(arrays, (dict, Mapping)):
        return arrays
    return {str(i): array for i, array in enumerate(arrays)}
