"""Normalization of x [batch, groups, channels, inner]: y = (x - mean) rstd weight + bias, statistics in double.

A statistic is of `count` elements in `pieces` runs, `step` apart: of GROUP and RMS it is a sample's group, normalized
while it is in cache, of BATCH a channel of all of them. Where BATCH has one element a run, loops run over
channels. What is normalized is computed in the dtype of x, where deviations are such that nothing overflows there: x
minus the mean as that dtype has it loses no digit, and what the mean lost in rounding is subtracted after that.

    grad_input = rstd (h - mean(h) - z mean(h z)),    z = (x - mean) rstd,    h = grad_output weight
"""

from __future__ import annotations

import numpy as np

from fastdl import _kernels
from fastdl.numba.kernels._kernel import MEMORY_GRAIN, compiled, kernel, share
from fastdl.numba.kernels.memory import release, scratch
from fastdl.numba.kernels.vmath import like

BATCH, FIXED, RMS = _kernels.NORM_BATCH, _kernels.NORM_FIXED, _kernels.NORM_RMS
_LEAST, _MOST = 1e-9, 1e9
"""Of 1 / deviation, within which float32 holds all that is computed."""
_LARGE = 1e30


# ---- statistics ----


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
    """Mean, what is to be added to it, and variance: around the first element or, if that lies far from the mean, once
    more."""
    count = max(1, run * pieces)
    mean = np.float64(x[at]) if centred and run * pieces > 0 else 0.0
    for _ in range(2):
        total = squares = 0.0
        for piece in range(pieces):
            sums = _sum_of(x[at + piece * step : at + piece * step + run], mean)
            total, squares = total + sums[0], squares + sums[1]
        lost = total / count if centred else 0.0
        variance = squares / count - lost * lost
        if variance != variance or lost * lost <= 4.0 * variance:
            break
        mean += lost
    return mean, lost, max(variance, 0.0) if variance == variance else variance


@compiled
def _statistics(x, means, lost, variances, run, pieces, step, starts, centred, begin, end):
    for s in range(begin, end):
        means[s], lost[s], variances[s] = _moments(x, run, pieces, step, s * starts, centred)


@compiled
def _column_statistics(x, means, lost, variances, batch, width, begin, end):
    """Of columns, side by side."""
    size = end - begin
    mean, total, squares = scratch(size, np.float64), scratch(size, np.float64), scratch(size, np.float64)
    for i in range(size):
        mean[i] = x[begin + i]
    for _ in range(2):
        total[:] = squares[:] = 0.0
        for row in range(batch):
            given = x[row * width + begin : row * width + end]
            for i in range(size):
                apart = given[i] - mean[i]
                total[i] += apart
                squares[i] += apart * apart
        far = False
        for i in range(size):
            shift = total[i] / batch
            variance = squares[i] / batch - shift * shift
            far |= shift * shift > 4.0 * variance
            means[begin + i], lost[begin + i] = mean[i], shift
            variances[begin + i] = 0.0 if variance < 0.0 else variance
        if not far:
            break
        for i in range(size):
            mean[i] += total[i] / batch
    release((mean, total, squares))


# ---- what is normalized ----


@compiled
def _apart(x, mean, lost):
    """x - mean, freed of what rounding the mean has cost it: in this order, even where sums may take another."""
    return x - mean - lost


@compiled
def _scale(x, mean, lost, factor, shift, y):
    for i in range(y.size):
        y[i] = _apart(x[i], mean, lost) * factor + shift


@compiled
def _scale_each(x, mean, lost, rstd, factors, shifts, y):
    for i in range(y.size):
        y[i] = _apart(x[i], mean, lost) * rstd * factors[i] + shifts[i]


@compiled
def _normalize_group(x, mean, lost, rstd, weight, bias, channel, inner, y):
    """With weights from `channel` on, one for each `inner` elements."""
    usual, near = _LEAST < rstd < _MOST, like(mean, x[0])
    rest = like(mean - near + lost, x[0])
    if inner == 1:
        factors, shifts = weight[channel : channel + y.size], bias[channel : channel + y.size]
        if usual:
            _scale_each(x, near, rest, like(rstd, x[0]), factors, shifts, y)
        else:
            _scale_each(x, mean, lost, rstd, factors, shifts, y)
        return
    for c in range(y.size // inner):
        given, to = x[c * inner : (c + 1) * inner], y[c * inner : (c + 1) * inner]
        factor, shift = rstd * weight[channel + c], np.float64(bias[channel + c])
        if usual:
            _scale(given, near, rest, like(factor, x[0]), like(shift, x[0]), to)
        else:
            _scale(given, mean, lost, factor, shift, to)


@compiled
def _normalize_groups(x, weight, bias, y, means, variances, rstds, groups, channels, inner, centred, eps, begin, end):
    """Statistics of a sample's groups, and what they normalize."""
    size = channels * inner
    for s in range(begin, end):
        mean, lost, variance = _moments(x, size, 1, 0, s * size, centred)
        rstd = 1.0 / np.sqrt(variance + eps)
        means[s], variances[s], rstds[s] = mean + lost, variance, rstd
        given, to = x[s * size : (s + 1) * size], y[s * size : (s + 1) * size]
        _normalize_group(given, mean, lost, rstd, weight, bias, s % groups * channels, inner, to)


@compiled
def _normalize_channels(x, means, lost, rstds, weight, bias, y, channels, inner, begin, end):
    """Rows [inner] of x, of which row r is of channel r % channels."""
    for row in range(begin, end):
        given, to, s = x[row * inner : (row + 1) * inner], y[row * inner : (row + 1) * inner], row % channels
        _normalize_group(given, means[s], lost[s], rstds[s], weight, bias, s, inner, to)


@compiled
def _normalize_columns(x, columns, y, begin, end):
    """Rows of one element of each channel."""
    near, rest, factors, shifts = columns[0], columns[1], columns[2], columns[3]
    width = near.size
    for row in range(begin, end):
        given, to = x[row * width : (row + 1) * width], y[row * width : (row + 1) * width]
        for i in range(width):
            to[i] = _apart(given[i], near[i], rest[i]) * factors[i] + shifts[i]


def _grain(elements):
    return max(1, MEMORY_GRAIN // max(1, elements))


def _of_channels(x, batch, channels, inner):
    """Means, what is to be added to them, and variances."""
    means, lost, variances = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    if inner == 1 and batch > 1:
        share(_column_statistics, channels, max(16, _grain(batch)), x, means, lost, variances, batch, channels)
    else:
        layout = inner, batch, channels * inner, inner
        share(_statistics, channels, _grain(batch * inner), x, means, lost, variances, *layout, True)
    return means, lost, variances


def _inverse(variances, eps):
    """1 / deviations."""
    rstds = np.empty(variances.size)
    _invert(variances, eps, rstds)
    return rstds


@compiled
def _invert(variances, eps, rstds):
    for i in range(rstds.size):
        rstds[i] = 1.0 / np.sqrt(variances[i] + eps)


@compiled
def _are_usual(rstds):
    usual = True
    for i in range(rstds.size):
        usual &= _LEAST < rstds[i] < _MOST
    return usual


@compiled
def _set_columns(columns, means, lost, factors, shifts, slopes):
    for i in range(means.size):
        columns[0, i] = means[i]
        columns[1, i] = means[i] - columns[0, i] + lost[i]
        columns[2, i], columns[3, i], columns[4, i] = factors[i], shifts[i], slopes[i]


def _columns(x, means, lost, rstds, factors, shifts, slopes):
    """The mean as x has it, the rest of it, and then the others, in the dtype to compute in: a row each."""
    columns = np.empty((5, means.size), x.dtype if _are_usual(rstds) else np.float64)
    _set_columns(columns, means, lost, factors, shifts, slopes)
    return columns


@compiled
def _follow(running_mean, running_var, means, variances, momentum, count):
    """Running statistics: [groups] of one or more rows of those."""
    groups, kept = running_mean.size, 1.0 - momentum
    rows, unbiased = means.size // groups, np.float64(count) / np.float64(count - 1)
    for i in range(groups):
        average = variance = 0.0
        for row in range(rows):
            average += means[row * groups + i]
            variance += variances[row * groups + i]
        running_mean[i] = kept * running_mean[i] + momentum * (average / rows)
        running_var[i] = kept * running_var[i] + momentum * (variance / rows) * unbiased


@kernel
def normalize(
    x, fixed_mean, fixed_var, running_mean, running_var, weight, bias, y, mean, rstd, batch, groups, channels, inner,
    kind, momentum, eps,
):  # fmt: skip
    weight, bias = _or_filled(weight, 1, groups * channels, x), _or_filled(bias, 0, groups * channels, x)
    if kind in (BATCH, FIXED):
        if kind == FIXED:
            means, lost, variances = fixed_mean.astype(np.float64), np.zeros(groups), fixed_var.astype(np.float64)
        else:
            means, lost, variances = _of_channels(x, batch, groups, inner)
        rstds = _inverse(variances, eps)
        if x.size and inner == 1:
            columns = _columns(x, means, lost, rstds, rstds * weight, bias, bias)
            share(_normalize_columns, batch, _grain(groups), x, columns, y)
        elif x.size:
            arguments = x, means, lost, rstds, weight, bias, y, groups, inner
            share(_normalize_channels, batch * groups, _grain(inner), *arguments)
        means, count = means + lost, batch * inner
    else:
        count = batch * groups
        means, rstds = (of if of.size == count else np.empty(count) for of in (mean, rstd))
        variances = np.empty(count)
        arguments = x, weight, bias, y, means, variances, rstds, groups, channels, inner, kind != RMS, eps
        share(_normalize_groups, batch * groups, _grain(channels * inner), *arguments)
        count = channels * inner
    if running_mean.size and count and batch:
        _follow(running_mean, running_var, means, variances, momentum, count)
    for of, values in ((mean, means), (rstd, rstds)):
        if of.size and of is not values:
            of[: values.size] = values


def _or_filled(given, value, size, x):
    return given if given.size else np.full(size, value, x.dtype)


# ---- gradients ----


@compiled(sums=True)
def _sums(g, x, mean, lost, rstd):
    """Of g and g z."""
    total = products = 0.0
    for i in range(g.size):
        total += g[i]
        products += g[i] * (_apart(x[i], mean, lost) * rstd)
    return total, products


@compiled(sums=True)
def _sums_of_each(g, x, mean, lost, rstd, factors):
    """Of h and h z."""
    total = products = 0.0
    for i in range(g.size):
        h = np.float64(g[i]) * factors[i]
        total += h
        products += h * (_apart(x[i], mean, lost) * rstd)
    return total, products


@compiled
def _slope(g, x, mean, lost, by, centre, slope, to):
    for i in range(to.size):
        to[i] = g[i] * by - centre - _apart(x[i], mean, lost) * slope


@compiled
def _slope_of_each(g, x, mean, lost, rstd, factors, centre, slope, to):
    for i in range(to.size):
        to[i] = g[i] * factors[i] * rstd - centre - _apart(x[i], mean, lost) * slope


@compiled
def _fits(rstd, centre, slope):
    """Whether float32 holds all that is computed: of zeros the slope is 0, which it holds too."""
    return _LEAST < rstd < _MOST and abs(centre) < _LARGE and abs(slope) < _LARGE


@compiled
def _group_gradients(g, x, means, lost, rstds, weight, grad_input, groups, channels, inner, centred, begin, end):
    size = channels * inner
    for s in range(begin, end):
        mean, low, rstd, at, channel = means[s], lost[s], rstds[s], s * size, s % groups * channels
        near = like(mean, x[0])
        rest = like(mean - near + low, x[0])
        total = products = 0.0
        if inner == 1:
            part, given, factors = g[at : at + size], x[at : at + size], weight[channel : channel + size]
            total, products = _sums_of_each(part, given, mean, low, rstd, factors)
        else:
            for c in range(channels):
                first = at + c * inner
                sums = _sums(g[first : first + inner], x[first : first + inner], mean, low, rstd)
                total, products = total + weight[channel + c] * sums[0], products + weight[channel + c] * sums[1]
        centre, slope = rstd * total / size if centred else 0.0, rstd * (products / size) * rstd
        small = _fits(rstd, centre, slope)
        if inner == 1:
            part, given, to = g[at : at + size], x[at : at + size], grad_input[at : at + size]
            factors = weight[channel : channel + size]
            if small:
                by, centre_, slope_ = like(rstd, x[0]), like(centre, x[0]), like(slope, x[0])
                _slope_of_each(part, given, near, rest, by, factors, centre_, slope_, to)
            else:
                _slope_of_each(part, given, mean, low, rstd, factors, centre, slope, to)
            continue
        for c in range(channels):
            first, by = at + c * inner, rstd * weight[channel + c]
            part, given = g[first : first + inner], x[first : first + inner]
            to = grad_input[first : first + inner]
            if small:
                _slope(part, given, near, rest, like(by, x[0]), like(centre, x[0]), like(slope, x[0]), to)
            else:
                _slope(part, given, mean, low, by, centre, slope, to)


@compiled
def _channel_sums(g, x, means, lost, rstds, along, totals, batch, groups, channels, inner, statistics, begin, end):
    """Of channels: sums of g z, and of g."""
    for channel in range(begin, end):
        along[channel] = totals[channel] = 0.0
        for row in range(batch):
            s = (row * groups + channel // channels) % statistics
            at = (row * groups * channels + channel) * inner
            sums = _sums(g[at : at + inner], x[at : at + inner], means[s], lost[s], rstds[s])
            totals[channel], along[channel] = totals[channel] + sums[0], along[channel] + sums[1]


@compiled
def _column_sums(g, x, means, lost, rstds, along, totals, batch, width, channels, statistics, begin, end):
    """The same, added to those, where `inner` is 1: channels side by side, whose statistics are `channels` elements
    apart."""
    of_columns, of_products = totals[begin:end], along[begin:end]
    of_rows = scratch(3 * (end - begin), np.float64).reshape(3, -1)
    mean, low, rstd = of_rows[0], of_rows[1], of_rows[2]
    for row in range(batch):
        part, given = g[row * width + begin : row * width + end], x[row * width + begin : row * width + end]
        if channels == width:
            s = row % statistics
            mean_, low_, rstd_ = means[s], lost[s], rstds[s]
            for i in range(of_columns.size):
                of_columns[i] += part[i]
                of_products[i] += part[i] * (_apart(given[i], mean_, low_) * rstd_)
            continue
        if row == 0 or statistics * channels != width:
            for i in range(mean.size):
                s = (row * (width // channels) + (begin + i) // channels) % statistics
                mean[i], low[i], rstd[i] = means[s], lost[s], rstds[s]
        for i in range(of_columns.size):
            of_columns[i] += part[i]
            of_products[i] += part[i] * (_apart(given[i], mean[i], low[i]) * rstd[i])
    release(of_rows)


@compiled
def _set_slopes(rstds, weight, along, totals, count, factors, centres, slopes):
    """Of each channel: what g is multiplied by, what is subtracted, and what x is multiplied by."""
    for i in range(rstds.size):
        factors[i] = rstds[i] * weight[i]
        centres[i] = factors[i] * totals[i] / count
        slopes[i] = factors[i] * (along[i] / count) * rstds[i]


@compiled
def _channel_gradients(g, x, means, lost, rstds, factors, centres, slopes, grad_input, channels, inner, begin, end):
    """Rows [inner], of which row r is of channel r % channels."""
    for row in range(begin, end):
        part, given = g[row * inner : (row + 1) * inner], x[row * inner : (row + 1) * inner]
        to, s = grad_input[row * inner : (row + 1) * inner], row % channels
        near = like(means[s], x[0])
        if _fits(rstds[s], centres[s], slopes[s]):
            rest, by = like(means[s] - near + lost[s], x[0]), like(factors[s], x[0])
            _slope(part, given, near, rest, by, like(centres[s], x[0]), like(slopes[s], x[0]), to)
        else:
            _slope(part, given, means[s], lost[s], factors[s], centres[s], slopes[s], to)


@compiled
def _channel_multiples(g, factors, grad_input, channels, inner, begin, end):
    """Where statistics are given, of samples."""
    if inner == 1:
        for row in range(begin, end):
            part, to = g[row * channels : (row + 1) * channels], grad_input[row * channels : (row + 1) * channels]
            for i in range(channels):
                to[i] = part[i] * factors[i]
        return
    for row in range(begin * channels, end * channels):
        part, to = g[row * inner : (row + 1) * inner], grad_input[row * inner : (row + 1) * inner]
        factor = factors[row % channels]
        for i in range(inner):
            to[i] = part[i] * factor


@compiled
def _column_gradients(g, x, columns, grad_input, begin, end):
    near, rest, factors, centres, slopes = columns[0], columns[1], columns[2], columns[3], columns[4]
    width = near.size
    for row in range(begin, end):
        part, given = g[row * width : (row + 1) * width], x[row * width : (row + 1) * width]
        to = grad_input[row * width : (row + 1) * width]
        for i in range(width):
            to[i] = part[i] * factors[i] - centres[i] - _apart(given[i], near[i], rest[i]) * slopes[i]


@kernel
def normalize_backward(
    grad_output, x, running_mean, running_var, weight, mean, rstd, grad_input, grad_weight, grad_bias, batch, groups,
    channels, inner, kind, eps,
):  # fmt: skip
    g, of_channels = grad_output, kind in (BATCH, FIXED)
    statistics, width = groups if of_channels else batch * groups, groups * channels
    size = batch * inner if of_channels else channels * inner
    weight = _or_filled(weight, 1, width, x)
    if kind == FIXED:
        means, lost = running_mean.astype(np.float64), np.zeros(groups)
        rstds = _inverse(running_var.astype(np.float64), eps)
    elif rstd.size:
        means, lost, rstds = mean if mean.size else np.zeros(statistics), np.zeros(statistics), rstd
    else:
        means, lost, rstds = _found(x, kind, statistics, size, batch, groups, inner, eps)
    along, totals = np.zeros(width), np.zeros(width)
    if x.size and (of_channels or grad_weight.size or grad_bias.size):
        arguments = g, x, means, lost, rstds, along, totals, batch
        if inner == 1:
            share(_column_sums, width, max(16, _grain(batch)), *arguments, width, channels, statistics)
        else:
            share(_channel_sums, width, _grain(batch * inner), *arguments, groups, channels, inner, statistics)
    if x.size and of_channels:
        _gradients_of_channels(g, x, means, lost, rstds, weight, along, totals, grad_input, batch, inner, kind)
    elif x.size:
        arguments = g, x, means, lost, rstds, weight, grad_input, groups, channels, inner, kind != RMS
        share(_group_gradients, statistics, _grain(size), *arguments)
    if grad_weight.size:
        grad_weight[:] = along
    if grad_bias.size:
        grad_bias[:] = totals


def _found(x, kind, statistics, size, batch, groups, inner, eps):
    """Means, what is to be added to them, and 1 / deviations, which were not saved."""
    if kind == BATCH:
        means, lost, variances = _of_channels(x, batch, groups, inner)
        return means, lost, _inverse(variances, eps)
    means, lost, variances = np.zeros(statistics), np.zeros(statistics), np.zeros(statistics)
    share(_statistics, statistics, _grain(size), x, means, lost, variances, size, 1, 0, size, kind != RMS)
    return means, lost, _inverse(variances, eps)


def _gradients_of_channels(g, x, means, lost, rstds, weight, along, totals, grad_input, batch, inner, kind):
    factors, centres, slopes = np.empty(rstds.size), np.empty(rstds.size), np.empty(rstds.size)
    _set_slopes(rstds, weight, along, totals, max(1, batch * inner), factors, centres, slopes)
    if kind == FIXED:
        share(_channel_multiples, batch, _grain(means.size * inner), g, factors, grad_input, means.size, inner)
    elif inner > 1:
        arguments = g, x, means, lost, rstds, factors, centres, slopes, grad_input, means.size, inner
        share(_channel_gradients, batch * means.size, _grain(inner), *arguments)
    else:
        columns = _columns(x, means, lost, rstds, factors, centres, slopes)
        share(_column_gradients, batch, _grain(means.size), g, x, columns, grad_input)
