"""Training steps and networks as programs (fastdl.record)."""

from __future__ import annotations

from typing import Any

from fastdl.nn.module import Module

__all__ = ["compile_step"]


def compile_step(
    network: Module, loss: Module, optimizer: Any, x: Any, target: Any, *, max_norm: float | None = None
) -> Any:
    """A training step as a program: forward, loss, backward and the optimizer's step, in one call of C.

    ::

        value = loss(network(x), target)
        network.backward(loss.backward(), input_grad=False)
        optimizer.step(network.grads, max_norm=max_norm)

    Parameters
    ----------
    network : Module
        In the mode, training or eval, in which it is to be trained.
    loss : Module
        Such as nn.CrossEntropyLoss(), with a reduction to one number.
    optimizer : Optimizer
        Of the network's parameters. Its learning rate may be set between calls, by a schedule too.
    x, target : array, or what the network and the loss take
        Examples of a batch: later ones have to have their shapes and dtypes.
    max_norm : float, optional
        As Optimizer.step takes it.

    Returns
    -------
    fastdl.Program
        Called with (x, target) it makes a step and returns the loss.

    See Also
    --------
    fastdl.record : For steps of another form.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn, optim
    >>> net = nn.Sequential(nn.Linear(4, 8, rng=0), nn.ReLU(), nn.Linear(8, 3, rng=1))
    >>> optimizer = optim.SGD(net.parameters(), lr=0.5)
    >>> x, target = np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0])
    >>> step = nn.compile_step(net, nn.CrossEntropyLoss(), optimizer, x, target)
    >>> losses = [float(step(x, target)) for _ in range(100)]
    >>> losses[-1] < 0.1 < losses[0]
    True
    """
    from fastdl.program import record

    def step(x: Any, target: Any) -> Any:
        value = loss(network(x), target)
        network.backward(loss.backward(), input_grad=False)
        optimizer.step(network.grads, max_norm=max_norm)
        return value

    return record(step, x, target)
