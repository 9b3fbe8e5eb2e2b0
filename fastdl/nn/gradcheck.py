"""Gradients of layers against finite differences."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from fastdl.functional.verbs import Array, fail, view
from fastdl.nn.container import back
from fastdl.nn.module import Module

__all__ = ["gradcheck"]


def gradcheck(
    layer: Module,
    *inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    samples: int = 50,
    seed: int = 0,
    **options: Any,
) -> bool:
    """Compare a layer's backward with finite differences of its forward, in float64. torch.autograd.gradcheck.

    The loss is the sum of what forward returns times random numbers v. Of the inputs and of each parameter an element
    a is moved, and its gradient has to be ::

        (loss(a + eps) - loss(a - eps)) / (2 * eps)

    within ``atol + rtol * (what is found)``.

    Parameters
    ----------
    layer : Module
        A layer or a network, in training or in eval mode. It is copied, and the copy converted to float64: it stays as
        it is. A layer of one's own has to work in the dtype of its parameters and inputs.
    *inputs : array
        What forward is given; floating-point ones are converted to float64. Checked are as many of them, from the
        first on, as backward returns gradients.
    eps : float
        How far an element is moved. Functions with a corner (relu) must not have one that close.
    atol, rtol : float
        The differences that are allowed: central differences in float64 are off by some 1e-16 / eps + eps ** 2.
    samples : int
        How many elements of each array are looked at, drawn at random where it has more.
    seed : int
        What v and the elements that are looked at follow from.
    **options
        Keywords of forward.

    Returns
    -------
    bool
        True.

    Raises
    ------
    AssertionError
        Naming the parameter or input whose gradient differs, the element, what was found and expected.
    ValueError
        If the layer is random: forward gives different results for the same inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn
    >>> nn.gradcheck(nn.Linear(3, 2, rng=0), np.ones((5, 3)))
    True
    >>> class Wrong(nn.Linear):
    ...     def backward(self, grad_output, input_grad=True):
    ...         grad = super().backward(grad_output, input_grad)
    ...         self.set_grads(weight=self.grads["weight"], bias=2 * grad_output.sum(0))
    ...         return grad
    >>> nn.gradcheck(Wrong(3, 2, rng=0), np.ones((5, 3)))
    Traceback (most recent call last):
    ...
    AssertionError: bias: found a gradient of 0.482... at [0], expected 0.241...
    """
    layer = copy.deepcopy(layer).to(np.float64)
    given = [_double(x, f"inputs[{i}]") for i, x in enumerate(inputs)]
    rng = np.random.default_rng(seed)
    state = {id(module): _buffers(module) for module in layer.modules()}

    def forward() -> Any:
        for module in layer.modules():  # running statistics are as they were
            for name, array in state[id(module)].items():
                getattr(module, name)[...] = array
        return layer(*(x.copy() if isinstance(x, np.ndarray) else x for x in given), **options)

    result = forward()
    weights = _like(result, rng)

    def loss() -> float:
        return _dot(forward(), weights)

    if loss() != _dot(result, weights):
        fail("layer", "different results for the same inputs", "the same (of layers that draw numbers, eval())")
    forward()
    found = back(layer, weights)
    grads = found if isinstance(found, tuple) else (found,)
    own = layer.grads
    checked: dict[str, tuple[Array, Any]] = {}
    for i, (x, grad) in enumerate(zip(given, grads, strict=False)):
        if isinstance(x, np.ndarray) and x.dtype == np.float64:
            checked["x" if len(grads) == 1 else f"inputs[{i}]"] = x, grad
    frozen = {f"{prefix}.{n}" if prefix else n for prefix, m in layer.named_modules() for n in m._frozen}
    checked |= {name: (array, own.get(name)) for name, array in layer.parameters().items() if name not in frozen}
    for name, (array, grad) in checked.items():
        _check(name, array, grad, loss, eps, atol, rtol, samples, rng)
    return True


def _check(
    name: str,
    array: Array,
    grad: Any,
    loss: Any,
    eps: float,
    atol: float,
    rtol: float,
    samples: int,
    rng: np.random.Generator,
) -> None:
    if grad is None:
        raise AssertionError(f"{name}: found no gradient, expected one of shape {array.shape}")
    if np.shape(grad) != array.shape:
        raise AssertionError(f"{name}: found a gradient of shape {np.shape(grad)}, expected {array.shape}")
    chosen = range(array.size) if array.size <= samples else rng.choice(array.size, samples, replace=False)
    for flat in chosen:
        at = np.unravel_index(flat, array.shape)
        before, values = array[at], []
        for moved in (before + eps, before - eps):
            array[at] = moved
            values.append(loss())
        array[at] = before
        expected = (values[0] - values[1]) / (2 * eps)
        if not abs(grad[at] - expected) <= atol + rtol * abs(expected):
            position = [int(i) for i in at]
            raise AssertionError(f"{name}: found a gradient of {float(grad[at])} at {position}, expected {expected}")


def _double(x: Any, argument: str) -> Any:
    """A floating-point array as float64, to be changed; others as they are."""
    if x is None or isinstance(x, (int, float, str, tuple, dict)):
        return x
    x = view(x, argument)
    return np.array(x, np.float64 if x.dtype.kind == "f" else x.dtype)


def _buffers(module: Module) -> dict[str, Array]:
    return {name: array.copy() for name in module.buffer_names if (array := getattr(module, name)) is not None}


def _like(result: Any, rng: np.random.Generator) -> Any:
    """Random numbers in the form of a result."""
    if isinstance(result, tuple):
        return tuple(_like(part, rng) for part in result)
    result = np.asarray(result)
    return rng.uniform(0.5, 1.5, result.shape) * rng.choice([-1.0, 1.0], result.shape)


def _dot(result: Any, weights: Any) -> float:
    if isinstance(result, tuple):
        return sum(_dot(part, weight) for part, weight in zip(result, weights, strict=True))
    return float(np.sum(np.asarray(result) * weights))
