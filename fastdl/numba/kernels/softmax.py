"""softmax and its relatives: [outer, classes, inner], normalised over the middle dimension.

    y = e^(x - max) / sum e^(x - max)          log: y = x - max - log(sum)

Where `inner` is 1 a row is contiguous, and vectors go along it; else they go along `inner`.
"""

from __future__ import annotations

import numpy as np

from fastdl.numba.kernels._kernel import compiled, kernel, share, share_elements
from fastdl.numba.kernels.activation import GRAIN
from fastdl.numba.kernels.memory import overlap, release, scratch
from fastdl.numba.kernels.vector import filled, lanes, larger_number, largest_lane, load
from fastdl.numba.kernels.vmath import exp, like, log, sigmoid

_INFINITY = float("inf")


@compiled
def largest(x):
    """Of numbers, NaN not counted. Side by side, because LLVM has no order of its own for what may be NaN."""
    width = lanes(x)
    if x.size >= width:
        most = filled(-_INFINITY, x)
        for i in range(0, x.size - width, width):
            most = larger_number(load(x, i), most)
        return largest_lane(larger_number(load(x, x.size - width), most))
    most_ = like(-_INFINITY, x[0])
    for i in range(x.size):
        most_ = x[i] if x[i] > most_ else most_
    return most_


@compiled(sums=True)
def sum_of_exponentials(x, most):
    total = like(0.0, x[0])
    for i in range(x.size):
        total += exp(x[i] - most)
    return total


@compiled(sums=True)
def exponentials(x, y, most):
    """Into y, and their sum."""
    total = like(0.0, x[0])
    for i in range(x.size):
        e = exp(x[i] - most)
        y[i] = e
        total += e
    return total


@compiled(sums=True)
def exponentials_of(x, most):
    """The same in place: of what overlaps, no loop is vectorised."""
    total = like(0.0, x[0])
    for i in range(x.size):
        x[i] = exp(x[i] - most)
        total += x[i]
    return total


@compiled(sums=True)
def dot(x, y):
    total = like(0.0, x[0])
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@compiled(sums=True)
def total_of(x):
    total = like(0.0, x[0])
    for i in range(x.size):
        total += x[i]
    return total


@compiled
def _softmax(x, y, classes, inner, logarithm, begin, end):
    in_place = overlap(x, y)
    most, sums = scratch(inner, x.dtype), scratch(inner, x.dtype)
    for row in range(begin, end):
        at = row * classes * inner
        if inner == 1:
            given, to = x[at : at + classes], y[at : at + classes]
            peak = largest(given)
            if logarithm:
                rest = log(sum_of_exponentials(given, peak))
                for c in range(classes):
                    to[c] = given[c] - peak - rest
            else:
                total = exponentials_of(to, peak) if in_place else exponentials(given, to, peak)
                for c in range(classes):
                    to[c] = to[c] / total
            continue
        most[:] = like(-_INFINITY, x[0])
        sums[:] = like(0.0, x[0])
        for c in range(classes):
            given = x[at + c * inner : at + (c + 1) * inner]
            for i in range(inner):
                most[i] = given[i] if given[i] > most[i] else most[i]
        for c in range(classes):
            given, to = x[at + c * inner : at + (c + 1) * inner], y[at + c * inner : at + (c + 1) * inner]
            if logarithm:
                for i in range(inner):
                    sums[i] += exp(given[i] - most[i])
            else:
                for i in range(inner):
                    e = exp(given[i] - most[i])
                    to[i] = e
                    sums[i] += e
        if logarithm:
            for i in range(inner):
                sums[i] = log(sums[i])
        for c in range(classes):
            given, to = x[at + c * inner : at + (c + 1) * inner], y[at + c * inner : at + (c + 1) * inner]
            if logarithm:
                for i in range(inner):
                    to[i] = given[i] - most[i] - sums[i]
            else:
                for i in range(inner):
                    to[i] = to[i] / sums[i]
    release((most, sums))


@compiled
def _softmax_gradients(grad_output, y, grad_input, classes, inner, logarithm, begin, end):
    sums = scratch(inner, y.dtype)
    for row in range(begin, end):
        at = row * classes * inner
        if inner == 1:
            g, of, to = grad_output[at : at + classes], y[at : at + classes], grad_input[at : at + classes]
            if logarithm:
                total = total_of(g)
                for c in range(classes):
                    to[c] = g[c] - exp(of[c]) * total
            else:
                total = dot(g, of)
                for c in range(classes):
                    to[c] = of[c] * (g[c] - total)
            continue
        sums[:] = like(0.0, y[0])
        for c in range(classes):
            start, stop = at + c * inner, at + (c + 1) * inner
            g, of = grad_output[start:stop], y[start:stop]
            if logarithm:
                for i in range(inner):
                    sums[i] += g[i]
            else:
                for i in range(inner):
                    sums[i] += g[i] * of[i]
        for c in range(classes):
            start, stop = at + c * inner, at + (c + 1) * inner
            g, of, to = grad_output[start:stop], y[start:stop], grad_input[start:stop]
            if logarithm:
                for i in range(inner):
                    to[i] = g[i] - exp(of[i]) * sums[i]
            else:
                for i in range(inner):
                    to[i] = of[i] * (g[i] - sums[i])
    release(sums)


def _rows(function, outer, classes, inner, *arguments):
    if outer and classes and inner:
        share(function, outer, max(1, GRAIN // (classes * inner)), *arguments)


@kernel
def softmax(x, y, outer, classes, inner):
    _rows(_softmax, outer, classes, inner, x, y, classes, inner, False)


@kernel
def log_softmax(x, y, outer, classes, inner):
    _rows(_softmax, outer, classes, inner, x, y, classes, inner, True)


@kernel
def softmax_backward(grad_output, y, grad_input, outer, classes, inner):
    _rows(_softmax_gradients, outer, classes, inner, grad_output, y, grad_input, classes, inner, False)


@kernel
def log_softmax_backward(grad_output, y, grad_input, outer, classes, inner):
    _rows(_softmax_gradients, outer, classes, inner, grad_output, y, grad_input, classes, inner, True)


# ---- glu: x [outer, 2, inner] ----


@compiled
def _glu(x, y, inner, begin, end):
    for row in range(begin, end):
        a, b = x[2 * row * inner : (2 * row + 1) * inner], x[(2 * row + 1) * inner : (2 * row + 2) * inner]
        to = y[row * inner : (row + 1) * inner]
        for i in range(to.size):
            to[i] = a[i] * sigmoid(b[i])


@compiled
def _glu_gradients(grad_output, x, grad_input, inner, begin, end):
    one = like(1.0, x[0])
    for row in range(begin, end):
        g = grad_output[row * inner : (row + 1) * inner]
        a, b = x[2 * row * inner : (2 * row + 1) * inner], x[(2 * row + 1) * inner : (2 * row + 2) * inner]
        grad_a = grad_input[2 * row * inner : (2 * row + 1) * inner]
        grad_b = grad_input[(2 * row + 1) * inner : (2 * row + 2) * inner]
        for i in range(g.size):
            s = sigmoid(b[i])
            grad_a[i], grad_b[i] = g[i] * s, g[i] * s * (one - s) * a[i]


@kernel
def glu(x, y, outer, inner):
    _rows(_glu, outer, 1, inner, x, y, inner)


@kernel
def glu_backward(grad_output, x, grad_input, outer, inner):
    _rows(_glu_gradients, outer, 1, inner, grad_output, x, grad_input, inner)


# ---- prelu: x [outer, channels, inner] ----


@compiled
def _prelu_one(x, y, slope):
    zero = like(0.0, x[0])
    for i in range(x.size):
        y[i] = x[i] if x[i] > zero else slope * x[i]


@compiled
def _prelu(x, weight, y, channels, inner, begin, end):
    zero = like(0.0, x[0])
    for plane in range(begin, end):
        slope = weight[plane % channels]
        given, to = x[plane * inner : (plane + 1) * inner], y[plane * inner : (plane + 1) * inner]
        for i in range(to.size):
            to[i] = given[i] if given[i] > zero else slope * given[i]


@compiled
def _prelu_gradients(grad_output, x, weight, grad_input, sums, outer, channels, inner, weights, begin, end):
    """Of channels."""
    zero = like(0.0, x[0])
    for channel in range(begin, end):
        slope, total = weight[channel % weights], 0.0
        for row in range(outer):
            start = (row * channels + channel) * inner
            g, given = grad_output[start : start + inner], x[start : start + inner]
            to = grad_input[start : start + inner]
            for i in range(to.size):
                to[i] = g[i] if given[i] > zero else slope * g[i]
            for i in range(to.size):
                total += zero if given[i] > zero else g[i] * given[i]
        sums[channel] = total


@kernel
def prelu(x, weight, y, outer, channels, inner, weights):
    if weights == 1 and x.size:
        share_elements(_prelu_one, GRAIN, (x, y), weight[0])
    else:
        _rows(_prelu, outer * channels, 1, inner, x, weight, y, channels, inner)


@kernel
def prelu_backward(grad_output, x, weight, grad_input, grad_weight, outer, channels, inner, weights):
    sums = np.zeros(channels)
    arguments = grad_output, x, weight, grad_input, sums, outer, channels, inner, weights
    if x.size:
        share(_prelu_gradients, channels, max(1, GRAIN // (outer * inner)), *arguments)
    grad_weight[:] = sums.sum() if weights == 1 else sums
