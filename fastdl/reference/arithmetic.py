"""Arithmetic, element by element."""

from __future__ import annotations

import numpy as np

from fastdl import functional
from fastdl.reference._implements import implements

__all__ = [
    "add",
    "add_backward",
    "div",
    "div_backward",
    "maximum",
    "maximum_backward",
    "minimum",
    "minimum_backward",
    "mul",
    "mul_backward",
    "pow",
    "pow_backward",
    "sub",
    "sub_backward",
    "where",
    "where_backward",
]


def _to(x, grad, like):
    """grad, summed over what x is broadcast over."""
    if not isinstance(x, (np.ndarray, np.generic)):
        return np.empty(0, like.dtype)
    grad = np.broadcast_to(grad, like.shape)
    grad = grad.sum(tuple(range(grad.ndim - x.ndim)))
    return grad.sum(tuple(d for d, n in enumerate(x.shape) if n == 1), keepdims=True).astype(like.dtype)


@implements(functional.add)
def add(x, other, alpha):
    return x + alpha * other


@implements(functional.add_backward)
def add_backward(grad_output, x, other, alpha):
    return _to(x, grad_output, grad_output), _to(other, alpha * grad_output, grad_output)


@implements(functional.sub)
def sub(x, other, alpha):
    return x - alpha * other


@implements(functional.sub_backward)
def sub_backward(grad_output, x, other, alpha):
    return _to(x, grad_output, grad_output), _to(other, -alpha * grad_output, grad_output)


@implements(functional.mul)
def mul(x, other):
    return x * other


@implements(functional.mul_backward)
def mul_backward(grad_output, x, other):
    return _to(x, grad_output * other, grad_output), _to(other, grad_output * x, grad_output)


@implements(functional.div)
def div(x, other):
    return x / other


@implements(functional.div_backward)
def div_backward(grad_output, x, other):
    return _to(x, grad_output / other, grad_output), _to(other, -grad_output * (x / other / other), grad_output)


@implements(functional.pow)
def pow(x, exponent):
    return np.power(x, exponent)


@implements(functional.pow_backward)
def pow_backward(grad_output, x, exponent):
    grad_x = np.where(np.equal(exponent, 0), 0, grad_output * (exponent * np.power(x, np.subtract(exponent, 1.0))))
    zero = np.equal(x, 0) & np.greater_equal(exponent, 0)
    grad_exponent = np.where(zero, 0, grad_output * (np.power(x, exponent) * np.log(x)))
    return _to(x, grad_x, grad_output), _to(exponent, grad_exponent, grad_output)


@implements(functional.maximum)
def maximum(x, other):
    return np.maximum(x, other)


def _chosen(grad_output, x, other, taken):
    """The gradients of one of two, by which is taken."""
    half, same = grad_output / 2, np.equal(x, other)
    return (
        _to(x, np.where(same, half, np.where(taken(other, x), 0, grad_output)), grad_output),
        _to(other, np.where(same, half, np.where(taken(x, other), 0, grad_output)), grad_output),
    )


@implements(functional.maximum_backward)
def maximum_backward(grad_output, x, other):
    return _chosen(grad_output, x, other, np.greater)


@implements(functional.minimum)
def minimum(x, other):
    return np.minimum(x, other)


@implements(functional.minimum_backward)
def minimum_backward(grad_output, x, other):
    return _chosen(grad_output, x, other, np.less)


@implements(functional.where)
def where(condition, x, other):
    return np.where(condition, x, other)


@implements(functional.where_backward)
def where_backward(grad_output, condition, x, other):
    return _to(x, np.where(condition, grad_output, 0), grad_output), _to(
        other, np.where(condition, 0, grad_output), grad_output
    )
