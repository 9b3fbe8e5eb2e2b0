"""Normalization: x [batch, groups, channels, inner], y = (x - mean) rstd weight + bias, statistics in double.

A statistic is of `count` elements in `pieces` runs, `step` apart: of GROUP and RMS it is a group of one sample, of
BATCH a channel of all of them. Where BATCH has one element a run, x is turned round, so that there is one run.

    grad_input = rstd (h - mean(h) - z mean(h z)),    z = (x - mean) rstd,    h = grad_output weight
"""

from __future__ import annotations

import numpy as np

from fastdl import _kernels
from fastdl.numba.kernels._kernel import MEMORY_GRAIN, compiled, kernel, share

BATCH, FIXED, RMS = _kernels.NORM_BATCH, _kernels.NORM_FIXED, _kernels.NORM_RMS


@compiled(sums=True)
def _sum_of(x, shift):
    """Of x - shift, and of the squares."""
    total = squares = 0.0
    for i in range(x.size):
        apart = x[i] - shift
        total += apart
        squares += apart * apart
    return total, squares


@compiled
def _moments(x, run, pieces, step, at, centred):
    """Mean, what it lost in rounding, and variance."""
    count = max(1, run * pieces)
    mean = 0.0
    if centred:
        total = 0.0
        for piece in range(pieces):
            total += _sum_of(x[at + piece * step : at + piece * step + run], 0.0)[0]
        mean = total / count
    total = squares = 0.0
    for piece in range(pieces):
        sums = _sum_of(x[at + piece * step : at + piece * step + run], mean)
        total, squares = total + sums[0], squares + sums[1]
    lost = total / count if centred else 0.0
    return mean, lost, max(squares / count - lost * lost, 0.0) if squares == squares else squares


@compiled
def _statistics(x, means, lost, variances, run, pieces, step, starts, centred, begin, end):
    for s in range(begin, end):
        means[s], lost[s], variances[s] = _moments(x, run, pieces, step, s * starts, centred)


@compiled
def _normalize(x, means, lost, rstds, weight, bias, y, statistics, channels, inner, begin, end):
    """Rows [inner] of x; row r is of channel r % channels of group r / channels, which has statistics[s]."""
    for row in range(begin, end):
        group = row // channels
        s = group % statistics
        given, to = x[row * inner : (row + 1) * inner], y[row * inner : (row + 1) * inner]
        mean, rest, rstd = means[s], lost[s], rstds[s]
        factor, shift = rstd, 0.0
        if weight.size:
            factor *= weight[row % weight.size]
        if bias.size:
            shift = bias[row % bias.size]
        for i in range(to.size):
            to[i] = _apart(given[i], mean, rest) * factor + shift


@compiled
def _normalize_rows(x, means, lost, rstds, weight, bias, y, width, begin, end):
    """The same where `inner` is 1, of whole groups: weights lie along the row."""
    for row in range(begin, end):
        given, to = x[row * width : (row + 1) * width], y[row * width : (row + 1) * width]
        mean, rest, rstd = means[row], lost[row], rstds[row]
        at = row * width % max(weight.size, bias.size, 1)
        if weight.size and bias.size:
            factors, shifts = weight[at : at + width], bias[at : at + width]
            for i in range(to.size):
                to[i] = _apart(given[i], mean, rest) * rstd * factors[i] + shifts[i]
        elif weight.size:
            factors = weight[at : at + width]
            for i in range(to.size):
                to[i] = _apart(given[i], mean, rest) * rstd * factors[i]
        elif bias.size:
            shifts = bias[at : at + width]
            for i in range(to.size):
                to[i] = _apart(given[i], mean, rest) * rstd + shifts[i]
        else:
            for i in range(to.size):
                to[i] = _apart(given[i], mean, rest) * rstd


def _turned(x, batch, groups, back=False):
    """[groups, batch] of [batch, groups], or the other way."""
    shape = (groups, batch) if back else (batch, groups)
    return np.ascontiguousarray(x.reshape(shape).T).reshape(-1)


def _layout(kind, batch, groups, channels, inner):
    """How many statistics there are, the run, pieces, step of one, and from one to the next."""
    if kind in (BATCH, FIXED):
        return groups, inner, batch, groups * inner, inner
    return batch * groups, channels * inner, 1, 0, channels * inner


def _grain(elements):
    return max(1, MEMORY_GRAIN // max(1, elements))


def _found(x, kind, layout):
    statistics, run, pieces, step, starts = layout
    means, lost, variances = np.zeros(statistics), np.zeros(statistics), np.zeros(statistics)
    arguments = x, means, lost, variances, run, pieces, step, starts, kind != RMS
    share(_statistics, statistics, _grain(run * pieces), *arguments)
    return means, lost, variances


@kernel
def normalize(
    x, fixed_mean, fixed_var, running_mean, running_var, weight, bias, y, mean, rstd, batch, groups, channels, inner,
    kind, momentum, eps,
):  # fmt: skip
    turned = kind in (BATCH, FIXED) and inner == 1 and batch > 1
    layout = _layout(kind, batch, groups, channels, inner)
    given, to = x, y
    if turned:
        given, to, layout = _turned(x, batch, groups), np.empty_like(y), (groups, batch, 1, 0, batch)
    if kind == FIXED:
        means, lost, variances = fixed_mean.astype(np.float64), np.zeros(groups), fixed_var.astype(np.float64)
    else:
        means, lost, variances = _found(given, kind, layout)
    with np.errstate(all="ignore"):
        rstds = 1 / np.sqrt(variances + eps)
        count = layout[1] * layout[2]
        if running_mean.size and count and batch:
            average, spread = (v.reshape(-1, groups).mean(0) for v in (means, variances))
            running_mean[:] = (1 - momentum) * running_mean.astype(np.float64) + momentum * average
            unbiased = np.float64(count) / np.float64(count - 1)
            running_var[:] = (1 - momentum) * running_var.astype(np.float64) + momentum * spread * unbiased
    if x.size:
        if turned:
            arguments = given, means, lost, rstds, weight, bias, to, groups, 1, batch
            share(_normalize, groups, _grain(batch), *arguments)
            y[:] = _turned(to, batch, groups, back=True)
        elif inner == 1:
            arguments = x, means, lost, rstds, weight, bias, y, channels
            share(_normalize_rows, batch * groups, _grain(channels), *arguments)
        else:
            arguments = x, means, lost, rstds, weight, bias, y, layout[0], channels, inner
            share(_normalize, batch * groups * channels, _grain(inner), *arguments)
    for of, values in ((mean, means), (rstd, rstds)):
        if of.size:
            of[: values.size] = values


@compiled
def _apart(x, mean, lost):
    """x - mean, freed of what rounding the mean has cost it: in this order, even where sums may take another."""
    return x - mean - lost


@compiled(sums=True)
def _gradient_sums(g, x, weight, mean, rstd, shift, inner, channel):
    """Of h and h z over a run, whose weights are `weight` from `channel` on, one for each `inner` elements."""
    total = products = 0.0
    if weight.size == 0:
        for i in range(g.size):
            total += g[i]
            products += g[i] * (_apart(x[i], mean, shift) * rstd)
    elif inner == 1:
        factors = weight[channel : channel + g.size]
        for i in range(g.size):
            h = np.float64(g[i]) * factors[i]
            total += h
            products += h * (_apart(x[i], mean, shift) * rstd)
    else:
        for c in range(g.size // inner):
            part, given = g[c * inner : (c + 1) * inner], x[c * inner : (c + 1) * inner]
            of_channel = along = 0.0
            for i in range(part.size):
                of_channel += part[i]
                along += part[i] * (_apart(given[i], mean, shift) * rstd)
            total += weight[channel + c] * of_channel
            products += weight[channel + c] * along
    return total, products


@compiled
def _gradients(
    g, x, means, lost, rstds, weight, grad_input, run, pieces, step, starts, groups, channels, inner, centred, fixed,
    begin, end,
):  # fmt: skip
    """Statistics."""
    count = max(1, run * pieces)
    for s in range(begin, end):
        mean, shift, rstd = means[s], lost[s], rstds[s]
        channel = s % groups * channels
        total = products = 0.0
        if not fixed:
            for piece in range(pieces):
                at = s * starts + piece * step
                sums = _gradient_sums(g[at : at + run], x[at : at + run], weight, mean, rstd, shift, inner, channel)
                total, products = total + sums[0], products + sums[1]
        centre, slope = total / count if centred and not fixed else 0.0, products / count
        for piece in range(pieces):
            at = s * starts + piece * step
            if inner == 1 and weight.size > 0 and pieces == 1:
                part, given, to = g[at : at + run], x[at : at + run], grad_input[at : at + run]
                factors = weight[channel : channel + run]
                for i in range(to.size):
                    z = _apart(given[i], mean, shift) * rstd
                    to[i] = rstd * (np.float64(part[i]) * factors[i] - centre - z * slope)
                continue
            each = inner if inner > 1 and pieces == 1 else run
            for c in range(run // max(1, each)):
                first = at + c * each
                part, given = g[first : first + each], x[first : first + each]
                to = grad_input[first : first + each]
                factor = np.float64(weight[channel + c]) if weight.size else 1.0
                if fixed:
                    for i in range(to.size):
                        to[i] = part[i] * factor * rstd
                else:
                    for i in range(to.size):
                        z = _apart(given[i], mean, shift) * rstd
                        to[i] = rstd * (part[i] * factor - centre - z * slope)


@compiled(sums=True)
def _channel_sums(g, x, means, lost, rstds, weights, biases, batch, groups, channels, inner, statistics, begin, end):
    """Of channels: sums of g z, and of g."""
    for channel in range(begin, end):
        along = total = 0.0
        for row in range(batch):
            s = (row * groups + channel // channels) % statistics
            mean, shift, rstd = means[s], lost[s], rstds[s]
            at = (row * groups * channels + channel) * inner
            part, given = g[at : at + inner], x[at : at + inner]
            for i in range(part.size):
                total += part[i]
                along += part[i] * (_apart(given[i], mean, shift) * rstd)
        weights[channel], biases[channel] = along, total


@compiled
def _column_sums(g, x, means, lost, rstds, weights, biases, batch, groups, channels, statistics, begin, end):
    """The same where `inner` is 1, of channels side by side."""
    width = groups * channels
    along, total = np.zeros(end - begin, np.float64), np.zeros(end - begin, np.float64)
    for row in range(batch):
        part, given = g[row * width + begin : row * width + end], x[row * width + begin : row * width + end]
        if groups == 1:
            s = row % statistics
            mean, shift, rstd = means[s], lost[s], rstds[s]
            for i in range(part.size):
                total[i] += part[i]
                along[i] += part[i] * (_apart(given[i], mean, shift) * rstd)
        else:
            for i in range(part.size):
                s = (row * groups + (begin + i) // channels) % statistics
                total[i] += part[i]
                along[i] += part[i] * (_apart(given[i], means[s], lost[s]) * rstds[s])
    weights[begin:end], biases[begin:end] = along, total


@kernel
def normalize_backward(
    grad_output, x, running_mean, running_var, weight, mean, rstd, grad_input, grad_weight, grad_bias, batch, groups,
    channels, inner, kind, eps,
):  # fmt: skip
    turned = kind in (BATCH, FIXED) and inner == 1 and batch > 1
    g, to, layout = grad_output, grad_input, _layout(kind, batch, groups, channels, inner)
    sizes = batch, groups, channels, inner
    if turned:
        g, x, to = _turned(grad_output, batch, groups), _turned(x, batch, groups), np.empty_like(grad_input)
        layout, sizes = (groups, batch, 1, 0, batch), (1, groups, 1, batch)
    statistics = layout[0]
    with np.errstate(all="ignore"):
        if kind == FIXED:
            means, lost = running_mean.astype(np.float64), np.zeros(statistics)
            rstds = 1 / np.sqrt(running_var.astype(np.float64) + eps)
        elif rstd.size:
            means, lost, rstds = mean if mean.size else np.zeros(statistics), np.zeros(statistics), rstd
        else:
            means, lost, variances = _found(x, kind, layout)
            rstds = 1 / np.sqrt(variances + eps)
    each = layout[1] * layout[2]
    if x.size:
        arguments = (
            g,
            x,
            means,
            lost,
            rstds,
            weight,
            to,
            *layout[1:],
            groups,
            channels,
            sizes[3],
            kind != RMS,
            kind == FIXED,
        )
        share(_gradients, statistics, _grain(each), *arguments)
        if turned:
            grad_input[:] = _turned(to, batch, groups, back=True)
    if grad_weight.size or grad_bias.size:
        width = sizes[1] * sizes[2]
        weights, biases = np.zeros(width), np.zeros(width)
        arguments = g, x, means, lost, rstds, weights, biases, *sizes[:3]
        if x.size and sizes[3] == 1:
            share(_column_sums, width, max(16, _grain(sizes[0])), *arguments, statistics)
        elif x.size:
            share(_channel_sums, width, _grain(sizes[0] * sizes[3]), *arguments, sizes[3], statistics)
        if grad_weight.size:
            grad_weight[:] = weights
        if grad_bias.size:
            grad_bias[:] = biases
