"""Dropout, by the numbers of Philox4x32-10 (csrc/vector/philox.h), and penalties."""

from __future__ import annotations

import numpy as np

from fastdl.numba.kernels._address import array_at
from fastdl.numba.kernels._kernel import MEMORY_GRAIN, compiled, kernel, share
from fastdl.numba.kernels.memory import release, scratch
from fastdl.numba.kernels.vmath import like, magnitude

RUNS = 1024  # whose words are made together; 4 words a counter
_LOW = np.uint64(0xFFFFFFFF)
_M0, _M1, _W0, _W1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57), np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_WORD = np.uint64(32)


@compiled
def philox(seed, counter, words):
    """words [4 n] = those of `counter` and the n - 1 after it."""
    for i in range(words.size // 4):
        number = np.uint64(counter) + np.uint64(i)
        c0, c1 = number & _LOW, number >> _WORD
        c2 = c3 = np.uint64(0)
        k0, k1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _WORD
        for _ in range(10):
            p0, p1 = _M0 * c0, _M1 * c2
            c0, c1, c2, c3 = (p1 >> _WORD) ^ c1 ^ k0, p1 & _LOW, (p0 >> _WORD) ^ c3 ^ k1, p0 & _LOW
            k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = c0, c1, c2, c3


@compiled
def _dropout(x, y, size, run, limit, seed, offset, scale, shift, dropped, begin, end):
    """Blocks of RUNS runs."""
    factor, more, instead, zero = like(scale, x[0]), like(shift, x[0]), like(dropped, x[0]), like(0.0, x[0])
    words = scratch(RUNS, np.uint32)
    for block in range(begin, end):
        philox(seed, offset + block * (RUNS // 4), words)
        first = block * RUNS * run
        if run == 1:
            given, to = x[first : min(size, first + RUNS)], y[first : min(size, first + RUNS)]
            for i in range(to.size):
                to[i] = factor * given[i] + more if np.int64(words[i]) < limit else zero * given[i] + instead
            continue
        for r in range(RUNS):
            at = first + r * run
            if at >= size:
                break
            given, to = x[at : min(size, at + run)], y[at : min(size, at + run)]
            if np.int64(words[r]) < limit:
                for i in range(to.size):
                    to[i] = factor * given[i] + more
            else:
                for i in range(to.size):
                    to[i] = zero * given[i] + instead
    release(words)


@kernel
def dropout(x, y, size, run, keep, seed, offset, scale, shift, dropped):
    if size == 0:
        return
    limit, pieces = int(np.rint(keep * 2.0**32)), -(-size // (run * RUNS))
    grain = max(1, MEMORY_GRAIN // (run * RUNS))
    share(_dropout, pieces, grain, x, y, size, run, limit, seed, offset, scale, shift, dropped)


# ---- penalties: factor sum |x|^power; the gradient is factor sign(x), or factor x ----


@compiled(sums=True)
def _power_sum(x, power):
    total = 0.0
    if power == 2:
        for i in range(x.size):
            total += np.float64(x[i]) * np.float64(x[i])
    else:
        for i in range(x.size):
            total += magnitude(x[i])
    return total


@compiled
def _penalty(arrays, power, like_):
    total = 0.0
    for row in range(arrays.size // 3):
        x = array_at(arrays[3 * row], arrays[3 * row + 2], like_)
        for begin in range(0, x.size, 1 << 14):
            total += _power_sum(x[begin : begin + (1 << 14)], power)
    return total


@compiled
def _penalty_gradients(arrays, factor, power, add, like_):
    zero, one = like(0.0, like_[0]), like(1.0, like_[0])
    scale = like(factor, like_[0])
    for row in range(arrays.size // 3):
        x = array_at(arrays[3 * row], arrays[3 * row + 2], like_)
        grad = array_at(arrays[3 * row + 1], arrays[3 * row + 2], like_)
        for i in range(x.size):
            slope = x[i] if power == 2 else (one if x[i] > zero else zero) - (one if x[i] < zero else zero)
            grad[i] = (grad[i] if add else zero) + scale * slope if add else scale * slope


@kernel
def penalty(result, arrays, count, factor, power):
    result[:] = factor * _penalty(arrays, power, result)


@kernel
def penalty_backward(grad_output, arrays, count, factor, power, add):
    _penalty_gradients(arrays, float(grad_output[0]) * factor, power, add, grad_output)
