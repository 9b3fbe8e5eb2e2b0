"""Attention, a block of queries at a time, whose scores of all keys stay in the second-level cache as long as there are
no more than some thousand of them; csrc/kernels/attention.c has the formulas. Heads and blocks of queries are cut over
threads; backward heads of keys, with all the queries that look at them.
"""

from __future__ import annotations

import numpy as np

from fastdl._kernels import Heads
from fastdl.numba.kernels._kernel import blocks, compiled, kernel, share
from fastdl.numba.kernels.fields import fields, numbers
from fastdl.numba.kernels.memory import release, scratch
from fastdl.numba.kernels.product import WORTH_SHARING, axpys, dots, scratch_panel, scratch_sums, times
from fastdl.numba.kernels.regularization import philox
from fastdl.numba.kernels.softmax import dot, exponentials_of, largest
from fastdl.numba.kernels.vmath import exp, like, log

QUERIES = 60  # of a block: a multiple of a tile's rows
FEW = 4
"""Queries for which packing the keys would take longer than the product."""
_INFINITY = float("inf")


@compiled
def _mask_begin(geometry, rank, head):
    """Where the mask of a head begins: geometry [rank, 2] has sizes and steps."""
    at = 0
    for d in range(rank - 1, -1, -1):
        at += head % geometry[2 * d] * geometry[2 * d + 1]
        head //= geometry[2 * d]
    return at


@compiled
def _scores(query, key, allowed, bias, geometry, h, scale, head, first, rows, seen, scores, panel, sums):
    """scores [rows, keys] of queries from `first` on, of the `seen` keys: -infinity where they may not look."""
    keys, width, nothing = h.keys, h.width, like(-_INFINITY, scores[0])
    if width:
        of = query[(head * h.queries + first) * width :]
        to = key[head // h.group * keys * width :]
        if rows <= FEW:
            dots(of, width, to, width, scores[:0], scores, keys, rows, width, False, 0, seen)
        else:
            times(of, width, 1, to, 1, width, scores, keys, rows, seen, width, True, False, panel, sums)
    else:
        for i in range(rows * keys):
            scores[i] = like(0.0, scores[0])
    factor, mask, step = like(scale, scores[0]), _mask_begin(geometry, h.mask_rank, head), h.mask_key
    for i in range(rows):
        row, at = scores[i * keys : i * keys + seen], mask + (first + i) * h.mask_row
        for j in range(row.size):
            row[j] *= factor
        if bias.size:
            more = bias[at:]
            for j in range(row.size):
                row[j] += more[j * step]
        if allowed.size:
            is_allowed = allowed[at:]
            for j in range(row.size):
                row[j] = row[j] if is_allowed[j * step] != 0 else nothing
        if h.causal:
            for j in range(first + i + 1, seen):
                row[j] = nothing


@compiled
def _seen(h, first, rows):
    """The keys that some of the queries from `first` on may look at."""
    return min(h.keys, first + rows) if h.causal else h.keys


@compiled
def _keeping(seed, offset, row, limit, factor, words, keeping):
    """What dropout multiplies the weights of a row by."""
    philox(seed, offset + row * (words.size // 4), words)
    for j in range(keeping.size):
        keeping[j] = factor if np.int64(words[j]) < limit else like(0.0, factor)


@compiled
def _attention(
    query, key, value, allowed, bias, y, logsumexp, geometry, heads, scale, limit, factor, seed, offset, begin, end,
):  # fmt: skip
    """Blocks of queries."""
    h = fields(heads, Heads)
    keys, width, each = h.keys, h.value_width, (h.queries + QUERIES - 1) // QUERIES
    panel = scratch_panel(query, 0 if h.queries <= FEW else max(keys, h.width))
    sums = scratch_sums(query)
    scores = scratch(min(h.queries, QUERIES) * keys, query.dtype)
    words, keeping, zero = scratch((keys + 3) // 4 * 4, np.uint32), scratch(keys, query.dtype), like(0.0, query[0])
    for block in range(begin, end):
        head, first = block // each, block % each * QUERIES
        rows, start = min(QUERIES, h.queries - first), head * h.queries + first
        seen = _seen(h, first, rows)
        _scores(query, key, allowed, bias, geometry, h, scale, head, first, rows, seen, scores, panel, sums)
        for i in range(rows):
            row = scores[i * keys : i * keys + seen]
            most = largest(row)
            most = zero if most == -_INFINITY else most
            total = exponentials_of(row, most)
            inverse = zero if total == zero else like(1.0, zero) / total
            for j in range(seen):
                row[j] *= inverse
            if logsumexp.size:
                logsumexp[start + i] = most + log(total)
            if limit >= 0:
                _keeping(seed, offset, start + i, limit, like(factor, zero), words, keeping[:seen])
                for j in range(seen):
                    row[j] *= keeping[j]
        to, of = y[start * width : (start + rows) * width], value[head // h.group * keys * width :]
        if rows <= FEW and width:
            axpys(scores, keys, 1, of, width, to, width, rows, seen, 0, width)
        else:
            times(scores, keys, 1, of, width, 1, to, width, rows, width, seen, True, False, panel, sums)
    release((panel, sums, scores, words, keeping))


@compiled
def _attention_gradients(
    grad_output, query, key, value, allowed, bias, y, logsumexp, grad_query, grad_key, grad_value, geometry, heads,
    scale, limit, factor, seed, offset, begin, end,
):  # fmt: skip
    """Heads of keys."""
    h = fields(heads, Heads)
    keys, width, out = h.keys, h.width, h.value_width
    panel, sums, zero = scratch_panel(query), scratch_sums(query), like(0.0, query[0])
    weights, slopes = scratch(QUERIES * keys, query.dtype), scratch(QUERIES * keys, query.dtype)
    words, keeping = scratch((keys + 3) // 4 * 4, np.uint32), scratch(keys, query.dtype)
    for j in range(keys):
        keeping[j] = like(1.0, zero)
    for of_keys in range(begin, end):
        k, v = key[of_keys * keys * width :], value[of_keys * keys * out :]
        to_k, to_v = grad_key[of_keys * keys * width :], grad_value[of_keys * keys * out :]
        for j in range(keys * width):
            to_k[j] = zero
        for j in range(keys * out):
            to_v[j] = zero
        for head in range(of_keys * h.group, (of_keys + 1) * h.group):
            for first in range(0, h.queries, QUERIES):
                rows, start = min(QUERIES, h.queries - first), head * h.queries + first
                seen = _seen(h, first, rows)
                g, q = grad_output[start * out :], query[start * width :]
                _scores(query, key, allowed, bias, geometry, h, scale, head, first, rows, seen, weights, panel, sums)
                if out:
                    times(g, out, 1, v, 1, out, slopes, keys, rows, seen, out, True, False, panel, sums)
                else:
                    for j in range(rows * keys):
                        slopes[j] = zero
                for i in range(rows):
                    weight, slope = weights[i * keys : i * keys + seen], slopes[i * keys : i * keys + seen]
                    least = logsumexp[start + i]
                    least, by = zero if least == -_INFINITY else least, like(scale, zero)
                    inner = dot(g[i * out : (i + 1) * out], y[(start + i) * out : (start + i + 1) * out])
                    if limit >= 0:
                        _keeping(seed, offset, start + i, limit, like(factor, zero), words, keeping[:seen])
                    for j in range(seen):
                        p = exp(weight[j] - least)
                        slope[j] = by * p * (keeping[j] * slope[j] - inner)
                        weight[j] = p * keeping[j]
                times(weights, 1, keys, g, out, 1, to_v, out, seen, out, rows, False, False, panel, sums)
                times(slopes, 1, keys, q, width, 1, to_k, width, seen, width, rows, False, False, panel, sums)
                to = grad_query[start * width : (start + rows) * width]
                times(slopes, keys, 1, k, width, 1, to, width, rows, width, seen, True, False, panel, sums)
    release((panel, sums, weights, slopes, words, keeping))


def _dropping(keep):
    """The numbers below which weights are kept (-1: all are), and what they are multiplied by."""
    return (-1, 1.0) if keep >= 1 else (int(np.rint(keep * 2.0**32)), 1 / keep if keep > 0 else 0.0)


@kernel
def attention(query, key, value, allowed, bias, y, logsumexp, geometry, heads, scale, keep, seed, offset):
    h = Heads(*heads)
    if h.keys == 0 or h.heads * h.queries == 0:
        y[:], logsumexp[:] = 0, -_INFINITY
        return
    work = min(h.queries, QUERIES) * h.keys * max(1, h.width + h.value_width)
    given = query, key, value, allowed, bias, y, logsumexp
    arguments = *given, geometry, numbers(h), scale, *_dropping(keep), seed, offset
    share(_attention, h.heads * blocks(h.queries, QUERIES), max(1, WORTH_SHARING // work), *arguments)


@kernel
def attention_backward(
    grad_output, query, key, value, allowed, bias, y, logsumexp, grad_query, grad_key, grad_value, geometry, heads,
    scale, keep, seed, offset,
):  # fmt: skip
    h = Heads(*heads)
    if h.keys == 0 or h.heads * h.queries == 0:
        grad_query[:] = grad_key[:] = grad_value[:] = 0
        return
    work = h.group * h.queries * h.keys * max(1, h.width + h.value_width)
    given = grad_output, query, key, value, allowed, bias, y, logsumexp, grad_query, grad_key, grad_value
    arguments = *given, geometry, numbers(h), scale, *_dropping(keep), seed, offset
    share(_attention_gradients, h.heads // h.group, max(1, WORTH_SHARING // work), *arguments)
