"""Losses. Those that go element by element are a loop over losses and one over slopes; csrc/kernels/loss.c has the
formulas. Sums are taken in double, by blocks of a fixed size, so that they do not follow from the number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdl import _kernels
from fastdl.numba.kernels._kernel import blocks, compiled, fallback, kernel, share
from fastdl.numba.kernels.activation import softplus_of
from fastdl.numba.kernels.arithmetic import total_of
from fastdl.numba.kernels.memory import release, scratch
from fastdl.numba.kernels.softmax import exponentials, largest, sum_of_exponentials
from fastdl.numba.kernels.vmath import between, exp, like, log, log1p, magnitude, sigmoid

BAD_TARGET, BAD_PROBABILITY, BAD_TARGET_PROBABILITY = 2, 5, 6
NONE, MEAN, BATCHMEAN = _kernels.REDUCTION_NONE, _kernels.REDUCTION_MEAN, _kernels.REDUCTION_BATCHMEAN
BLOCK = 1 << 16
"""Elements that are summed together."""
_INFINITY = float("inf")
LOSSES: dict[int, Any] = {}
SLOPES: dict[int, Any] = {}


def loss_loop(function):
    loop = compiled(function)
    LOSSES[_kernels.LOSS_NAMES.index(function.__name__)] = loop
    return loop


def slope_loop(function):
    loop = compiled(function)
    SLOPES[_kernels.LOSS_NAMES.index(function.__name__.removesuffix("_slope"))] = loop
    return loop


@loss_loop
def mse(x, target, parameter, y):
    for i in range(y.size):
        d = x[i] - target[i]
        y[i] = d * d


@slope_loop
def mse_slope(x, target, parameter, y):
    for i in range(y.size):
        d = x[i] - target[i]
        y[i] = d + d


@loss_loop
def l1(x, target, parameter, y):
    for i in range(y.size):
        y[i] = magnitude(x[i] - target[i])


@slope_loop
def l1_slope(x, target, parameter, y):
    zero, one = like(0.0, x[0]), like(1.0, x[0])
    for i in range(y.size):
        y[i] = one if x[i] > target[i] else (-one if x[i] < target[i] else zero)


@loss_loop
def huber(x, target, parameter, y):
    delta, half = like(parameter, x[0]), like(0.5, x[0])
    for i in range(y.size):
        d = magnitude(x[i] - target[i])
        y[i] = half * d * d if d < delta else delta * (d - half * delta)


@slope_loop
def huber_slope(x, target, parameter, y):
    delta = like(parameter, x[0])
    for i in range(y.size):
        y[i] = between(x[i] - target[i], -delta, delta)


@loss_loop
def smooth_l1(x, target, parameter, y):
    beta, half = like(parameter, x[0]), like(0.5, x[0])
    for i in range(y.size):
        d = magnitude(x[i] - target[i])
        y[i] = half * d * d / beta if d < beta else d - half * beta


@slope_loop
def smooth_l1_slope(x, target, parameter, y):
    beta = like(parameter, x[0])
    for i in range(y.size):
        y[i] = between(x[i] - target[i], -beta, beta) / beta


@loss_loop
def binary_cross_entropy(x, target, parameter, y):
    one, least = like(1.0, x[0]), like(-100.0, x[0])
    for i in range(y.size):
        of, rest = log(x[i]), log1p(-x[i])
        of, rest = least if of < least else of, least if rest < least else rest
        y[i] = -(target[i] * of + (one - target[i]) * rest)


@slope_loop
def binary_cross_entropy_slope(x, target, parameter, y):
    one, tiny = like(1.0, x[0]), like(float(np.float32(1e-12)), x[0])
    for i in range(y.size):
        variance = x[i] * (one - x[i])
        y[i] = (x[i] - target[i]) / (tiny if variance < tiny else variance)


@loss_loop
def kl_div_log_target(x, target, parameter, y):
    for i in range(y.size):
        y[i] = exp(target[i]) * (target[i] - x[i])


@slope_loop
def kl_div_log_target_slope(x, target, parameter, y):
    for i in range(y.size):
        y[i] = -exp(target[i])


@loss_loop
def kl_div(x, target, parameter, y):
    zero = like(0.0, x[0])
    for i in range(y.size):
        t = target[i]
        own = t * log(t)
        y[i] = (zero if t == zero else own) - t * x[i]


@slope_loop
def kl_div_slope(x, target, parameter, y):
    for i in range(y.size):
        y[i] = -target[i]


@loss_loop
def hinge_embedding(x, target, parameter, y):
    zero, one, margin = like(0.0, x[0]), like(1.0, x[0]), like(parameter, x[0])
    for i in range(y.size):
        rest = margin - x[i]
        rest = zero if rest < zero else rest
        y[i] = (x[i] if target[i] != -one else zero) + (rest if target[i] != one else zero)


@slope_loop
def hinge_embedding_slope(x, target, parameter, y):
    zero, one, margin = like(0.0, x[0]), like(1.0, x[0]), like(parameter, x[0])
    for i in range(y.size):
        below = (target[i] != one) & (margin - x[i] >= zero)
        y[i] = (one if target[i] != -one else zero) - (one if below else zero)


@compiled
def binary_cross_entropy_with_logits(x, target, pos_weight, y):
    one = like(1.0, x[0])
    for i in range(y.size):
        positive = target[i] * softplus_of(-x[i])
        if pos_weight.size:
            positive *= pos_weight[i]
        y[i] = positive + (one - target[i]) * softplus_of(x[i])


@compiled
def binary_cross_entropy_with_logits_slope(x, target, pos_weight, y):
    one = like(1.0, x[0])
    for i in range(y.size):
        positive = target[i] * sigmoid(-x[i])
        if pos_weight.size:
            positive *= pos_weight[i]
        y[i] = (one - target[i]) * sigmoid(x[i]) - positive


LOGITS = _kernels.LOSS_BINARY_CROSS_ENTROPY_WITH_LOGITS
PROBABILITIES = _kernels.LOSS_BINARY_CROSS_ENTROPY


@compiled
def _multiplied(y, by):
    for i in range(y.size):
        y[i] *= by[i]


@compiled
def _scaled(y, factor):
    by = like(factor, y[0])
    for i in range(y.size):
        y[i] *= by


def _are_probabilities(x):
    return bool(((x >= 0) & (x <= 1)).all())


def _bad(x, target, kind):
    if kind != PROBABILITIES:
        return None
    return (
        BAD_PROBABILITY
        if not _are_probabilities(x)
        else BAD_TARGET_PROBABILITY
        if not _are_probabilities(target)
        else None
    )


def _divisor(size, batch, reduction):
    return size if reduction == MEAN else batch if reduction == BATCHMEAN else 1


def _in_blocks(each, size, *arguments):
    """each(begin, end, *arguments) for blocks of elements, over threads."""

    def over(begin, end):
        for block in range(begin, end):
            each(block * BLOCK, min(size, (block + 1) * BLOCK), *arguments)

    share(over, blocks(size, BLOCK), 1)


@kernel
def elementwise_loss(x, target, weight, pos_weight, loss, size, batch, kind, parameter, reduction):
    if status := _bad(x, target, kind):
        return status
    sums = np.zeros(blocks(size, BLOCK))

    def one(begin, end):
        y = loss[begin:end] if reduction == NONE else np.empty(end - begin, x.dtype)
        if kind == LOGITS:
            binary_cross_entropy_with_logits(x[begin:end], target[begin:end], pos_weight[begin:end], y)
        else:
            LOSSES[kind](x[begin:end], target[begin:end], parameter, y)
        if weight.size:
            _multiplied(y, weight[begin:end])
        if reduction != NONE:
            sums[begin // BLOCK] = total_of(y)

    _in_blocks(one, size)
    if reduction != NONE:
        divisor = _divisor(size, batch, reduction)
        loss[:] = sums.sum() / divisor if divisor else np.nan
    return None


@kernel
def elementwise_loss_backward(
    grad_output, x, target, weight, pos_weight, grad_input, size, batch, kind, parameter, reduction
):  # fmt: skip
    if status := _bad(x, target, kind):
        return status
    divisor = _divisor(size, batch, reduction)

    def one(begin, end):
        y = grad_input[begin:end]
        if kind == LOGITS:
            binary_cross_entropy_with_logits_slope(x[begin:end], target[begin:end], pos_weight[begin:end], y)
        else:
            SLOPES[kind](x[begin:end], target[begin:end], parameter, y)
        if weight.size:
            _multiplied(y, weight[begin:end])
        if reduction == NONE:
            _multiplied(y, grad_output[begin:end])
        else:
            _scaled(y, float(grad_output[0]) / max(1, divisor))

    _in_blocks(one, size)
    return None


# ---- losses of classes: x [outer, classes, inner], target [outer, inner] ----


@compiled
def _count(target, weight, classes, ignore_index):
    """The weights of what is not ignored, and whether all targets are classes."""
    total, fine = 0.0, True
    for i in range(target.size):
        t = target[i]
        if t != ignore_index:
            fine &= 0 <= t < classes
            if fine:
                total += np.float64(weight[t]) if weight.size else 1.0
    return total, fine


@compiled
def _nll(x, target, weight, losses, classes, inner, ignore_index):
    for i in range(target.size):
        t, row = target[i], i // inner * classes
        if t == ignore_index:
            losses[i] = 0.0
        else:
            value = -x[(row + t) * inner + i % inner]
            losses[i] = value * (weight[t] if weight.size else like(1.0, x[0]))


@compiled
def _nll_gradients(grad_output, target, weight, grad_input, classes, inner, ignore_index, divisor):
    grad_input[:] = like(0.0, grad_input[0])
    for i in range(target.size):
        t = target[i]
        if t != ignore_index:
            g = grad_output[i if grad_output.size == target.size else 0]
            of_class = -np.float64(weight[t]) if weight.size else -1.0
            grad_input[(i // inner * classes + t) * inner + i % inner] = g * (of_class / divisor)


def _reduced(losses, loss, reduction, count):
    if reduction == NONE:
        loss[:] = losses
    else:
        _put_mean(losses, float(count if reduction == MEAN else 1), loss)


@compiled
def _put_mean(losses, count, loss):
    loss[0] = total_of(losses) / count


@kernel
def nll_loss(x, target, weight, loss, outer, classes, inner, ignore_index, reduction):
    count, fine = _count(target, weight, classes, ignore_index)
    if not fine:
        return BAD_TARGET
    losses = np.empty(target.size)
    if x.size:
        _nll(x, target, weight, losses, classes, inner, ignore_index)
    else:
        losses[:] = 0
    _reduced(losses, loss, reduction, count)
    return None


@kernel
def nll_loss_backward(grad_output, target, weight, grad_input, outer, classes, inner, ignore_index, reduction):
    count, fine = _count(target, weight, classes, ignore_index)
    if not fine:
        return BAD_TARGET
    divisor = count if reduction == MEAN and count else 1.0
    if grad_input.size:
        _nll_gradients(grad_output, target, weight, grad_input, classes, inner, ignore_index, divisor)
    return None


@compiled
def _cross_entropy(
    x, target, weight, grad_output, losses, grad_input, classes, ignore_index, smoothing, divisor, begin, end
):
    """Rows, one after the other: the loss is lse - (1 - smoothing) x[target] - smoothing mean(x), times weights."""
    even = smoothing / classes
    for row in range(begin, end):
        given, ignored = x[row * classes : (row + 1) * classes], target[row] == ignore_index
        t = 0 if ignored else target[row]  # the gradient of what is ignored is 0, or NaN where x is
        of_row = grad_input[row * classes : (row + 1) * classes] if grad_input.size else grad_input
        most, of_own = largest(given), given[t]
        at_once = grad_input.size > 0 and not smoothing  # grad_input may be x
        total = exponentials(given, of_row, most) if at_once else sum_of_exponentials(given, most)
        of_target = np.float64(weight[t]) if weight.size else 1.0
        all_weights, spread = of_target * (1.0 - smoothing), 0.0
        rest = log(total)
        if smoothing:
            for c in range(classes):
                of_class = even * (np.float64(weight[c]) if weight.size else 1.0)
                all_weights += of_class
                if of_class != 0.0:
                    spread -= of_class * (given[c] - most - rest)
        if losses.size:
            own = of_target * (1.0 - smoothing)
            loss = (0.0 if own == 0.0 else -own * (of_own - most - rest)) + spread
            losses[row] = 0.0 if ignored else loss
        if grad_input.size:
            g = np.float64(grad_output[row if grad_output.size > 1 else 0]) if grad_output.size else 1.0
            g = 0.0 if ignored else g / divisor
            factor = like(g * all_weights, x[0]) / total
            if at_once:
                for c in range(classes):
                    of_row[c] *= factor
            else:
                for c in range(classes):
                    of_row[c] = exp(given[c] - most) * factor
            if smoothing:
                for c in range(classes):
                    of_row[c] -= like(g * even * (np.float64(weight[c]) if weight.size else 1.0), x[0])
            of_row[t] -= like(g * of_target * (1.0 - smoothing), x[0])


PIXELS = 256
"""Side by side, of which all sums stay in the first-level cache."""


@compiled
def _cross_entropy_of_pixels(
    x, target, weight, grad_output, losses, grad_input, classes, inner, ignore_index, smoothing, divisor, begin, end
):
    """The same of x [outer, classes, inner], up to PIXELS of `inner` at a time."""
    parts, even, zero = (inner + PIXELS - 1) // PIXELS, smoothing / classes, like(0.0, x[0])
    reals, doubles = scratch(5 * PIXELS, x.dtype).reshape(5, -1), scratch(PIXELS, np.float64)
    all_classes = 0.0
    if smoothing:
        for c in range(classes):
            all_classes += even * (np.float64(weight[c]) if weight.size else 1.0)
    for piece in range(begin, end):
        outer, first = piece // parts, piece % parts * PIXELS
        count, at, start = min(PIXELS, inner - first), outer * classes * inner + first, outer * inner + first
        most, sums, slopes, evens = reals[0, :count], reals[1, :count], reals[2, :count], reals[3, :count]
        rests, spread, own = reals[4, :count], doubles[:count], target[start : start + count]
        _sums_of_pixels(x[at:], classes, inner, most, sums)
        for i in range(count):
            rests[i], spread[i] = log(sums[i]), 0.0
        if smoothing and losses.size:
            for c in range(classes):
                of_class, given = even * (np.float64(weight[c]) if weight.size else 1.0), x[at + c * inner :]
                if of_class != 0.0:
                    for i in range(count):
                        spread[i] -= of_class * (given[i] - most[i] - rests[i])
        for i in range(count):
            t = own[i]
            ignored = t == ignore_index
            of_target = 0.0 if ignored else (np.float64(weight[t]) if weight.size else 1.0) * (1.0 - smoothing)
            if losses.size:
                loss = 0.0 if of_target == 0.0 else -of_target * (x[at + t * inner + i] - most[i] - rests[i])
                losses[start + i] = 0.0 if ignored else loss + spread[i]
            g = np.float64(grad_output[start + i if grad_output.size > 1 else 0]) if grad_output.size else 1.0
            g = 0.0 if ignored else g / divisor
            slopes[i], evens[i] = like(g * (of_target + all_classes), zero) / sums[i], like(g * even, zero)
        if grad_input.size:
            for c in range(classes):
                given, to = x[at + c * inner :], grad_input[at + c * inner : at + c * inner + count]
                of_class = weight[c] if weight.size and smoothing else like(1.0, zero)
                for i in range(count):
                    to[i] = exp(given[i] - most[i]) * slopes[i] - of_class * evens[i]
            to, options = grad_input[at:], (ignore_index, smoothing, divisor)
            _take_targets(grad_output, own, weight, to, inner, start, *options)
    release((reals, doubles))


@compiled
def _sums_of_pixels(x, classes, inner, most, sums):
    """Maxima and sums of exponentials."""
    for i in range(most.size):
        most[i], sums[i] = like(-_INFINITY, x[0]), like(0.0, x[0])
    for c in range(classes):
        given = x[c * inner :]
        for i in range(most.size):
            most[i] = given[i] if given[i] > most[i] else most[i]
    for c in range(classes):
        given = x[c * inner :]
        for i in range(sums.size):
            sums[i] += exp(given[i] - most[i])


@compiled
def _take_targets(grad_output, target, weight, grad_input, inner, start, ignore_index, smoothing, divisor):
    """Subtract of each pixel's class what it counts."""
    for i in range(target.size):
        t = target[i]
        if t == ignore_index:
            continue
        g = np.float64(grad_output[start + i if grad_output.size > 1 else 0]) if grad_output.size else 1.0
        of_target = np.float64(weight[t]) if weight.size else 1.0
        grad_input[t * inner + i] -= like(g / divisor * of_target * (1.0 - smoothing), grad_input[0])


@kernel
def cross_entropy(
    x, target, probabilities, weight, grad_output, loss, grad_input, outer, classes, inner, ignore_index,
    label_smoothing, reduction,
):  # fmt: skip
    """Of classes that are named; losses of probabilities are NumPy's."""
    if probabilities.size or x.size == 0:
        arguments = x, target, probabilities, weight, grad_output, loss, grad_input, outer, classes, inner
        return fallback("cross_entropy", *arguments, ignore_index, label_smoothing, reduction)
    count, fine = _count(target, weight, classes, ignore_index)
    if not fine:
        return BAD_TARGET
    losses = np.zeros(target.size if loss.size else 0)
    divisor = count if reduction == MEAN and count else 1.0
    arguments, options = (x, target, weight, grad_output, losses, grad_input), (ignore_index, label_smoothing, divisor)
    if inner == 1:
        share(_cross_entropy, outer, max(1, (1 << 12) // classes), *arguments, classes, *options)
    else:
        pieces, grain = outer * blocks(inner, PIXELS), max(1, (1 << 12) // (classes * min(inner, PIXELS)))
        share(_cross_entropy_of_pixels, pieces, grain, *arguments, classes, inner, *options)
    if loss.size:
        _reduced(losses, loss, reduction, count)
    return None


# ---- cosine_embedding: x1, x2 [rows, features] ----

TINY = float(np.float32(1e-12))


@compiled(sums=True)
def _cosine_products(x1, x2):
    product = square1 = square2 = 0.0
    for i in range(x1.size):
        a, b = np.float64(x1[i]), np.float64(x2[i])
        product, square1, square2 = product + a * b, square1 + a * a, square2 + b * b
    return product, square1 + TINY, square2 + TINY


@compiled
def _cosine_losses(x1, x2, target, losses, features, margin, begin, end):
    for row in range(begin, end):
        of = _cosine_products(x1[row * features : (row + 1) * features], x2[row * features : (row + 1) * features])
        cos = of[0] / np.sqrt(of[1] * of[2])
        beyond = 0.0 if cos - margin < 0.0 else cos - margin
        losses[row] = 1.0 - cos if target[row] == 1 else beyond if target[row] == -1 else 0.0


@compiled
def _cosine_gradients(grads, x1, x2, target, grad_x1, grad_x2, features, margin, divisor, begin, end):
    """grads: one, or one a row."""
    for row in range(begin, end):
        a, b = x1[row * features : (row + 1) * features], x2[row * features : (row + 1) * features]
        to1, to2 = grad_x1[row * features : (row + 1) * features], grad_x2[row * features : (row + 1) * features]
        product, square1, square2 = _cosine_products(a, b)
        length = np.sqrt(square1 * square2)
        cos = product / length
        sign = -1.0 if target[row] == 1 else 1.0 if target[row] == -1 and not cos < margin else 0.0
        g = sign * grads[row if grads.size > 1 else 0] / divisor
        other, own1, own2 = (
            like(g / length, x1[0]),
            like(g * cos / square1, x1[0]),
            like(g * cos / square2, x1[0]),
        )
        for i in range(a.size):
            to1[i], to2[i] = other * b[i] - own1 * a[i], other * a[i] - own2 * b[i]


@kernel
def cosine_embedding_loss(x1, x2, target, loss, rows, features, margin, reduction):
    losses = loss if reduction == NONE else np.empty(rows)
    share(_cosine_losses, rows, max(1, (1 << 15) // max(1, features)), x1, x2, target, losses, features, margin)
    if reduction != NONE:
        divisor = _divisor(rows, rows, reduction)
        loss[:] = losses.sum() / divisor if divisor else np.nan


@kernel
def cosine_embedding_loss_backward(
    grad_output, x1, x2, target, grad_x1, grad_x2, rows, features, margin, reduction
):  # fmt: skip
    if x1.size:
        arguments = (
            grad_output,
            x1,
            x2,
            target,
            grad_x1,
            grad_x2,
            features,
            margin,
            max(1, _divisor(rows, rows, reduction)),
        )
        share(_cosine_gradients, rows, max(1, (1 << 15) // features), *arguments)
