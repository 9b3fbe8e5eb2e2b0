"""Optimizers: updates of one element, over the tables of arrays of csrc/fastdl.h, or over one array.

What all elements of a step share, rates and corrections that follow from the options and from how many steps were done,
is worked out once, a Plan. Neighbours in a table that are at the same step are one pass, cut over threads by elements.
"""

from __future__ import annotations

from itertools import groupby
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._kernels import TABLE_COLUMNS, TABLE_END, TABLE_GRAD, TABLE_MU_PRODUCT, TABLE_PARAM, TABLE_STATE, TABLE_STEP
from fastdl.numba.kernels._address import array_at
from fastdl.numba.kernels._kernel import MEMORY_GRAIN, compiled, kernel, share, share_elements
from fastdl.numba.kernels.vmath import by_dtype, like, magnitude, root
from fastdl.reference.kernels import KERNELS as IN_NUMPY

LEAST_32, LEAST_64 = float(np.finfo(np.float32).tiny), float(np.finfo(np.float64).tiny)
PASSES: dict[str, Any] = {}


class Plan(NamedTuple):
    """Of a step; all are floats, so that there is one version of each pass."""

    scale: float
    """Of the gradient; below 0 to maximize."""
    limit: float
    decay: float
    """Of weights, into the gradient."""
    kept: float
    """What is left of parameters by the other kind of weight decay."""
    rate: float
    rate_grad: float
    """nadam's, of the gradient itself."""
    correction: float
    """1 / sqrt(1 - beta2^t)"""
    eps: float
    beta1: float
    beta2: float
    momentum: float
    fresh: float
    """1 - dampening; at sgd's first step it is as if there were neither."""
    nesterov: float


@compiled
def _gradient(grad, param, plan):
    """As it counts."""
    limit = like(plan.limit, grad)
    g = like(plan.scale, grad) * grad
    g = limit if g > limit else g
    g = -limit if g < -limit else g
    decayed = g + like(plan.decay, grad) * param
    return decayed if plan.decay != 0.0 else g


@compiled
def _mix(average, x, beta):
    """beta average + (1 - beta) x, exactly x where beta is 0 and the average is finite."""
    rest = like(1.0 - beta, x)
    near, far = average + rest * (x - average), x - like(beta, x) * (x - average)
    return near if 1.0 - beta < 0.5 else far


@compiled
def _squares(average, x, beta):
    return like(beta, x) * average + like(1.0 - beta, x) * x * x


@compiled
def _kept(state):
    """Averages that shrink until they are subnormal would stay so, and be slow, for ever: they are 0."""
    return like(0.0, state) if magnitude(state) < by_dtype(state, LEAST_32, LEAST_64) else state


def one_pass(function):
    loop = compiled(function)
    PASSES[function.__name__] = loop
    return loop


# Each over part of one array; a state that there is not has no elements.


@one_pass
def sgd(param, grad, buffer, second, third, plan):
    rate, momentum, fresh = like(plan.rate, param[0]), like(plan.momentum, param[0]), like(plan.fresh, param[0])
    if buffer.size == 0:
        for i in range(param.size):
            param[i] -= rate * _gradient(grad[i], param[i], plan)
    elif plan.momentum == 0.0 and plan.fresh == 1.0:  # the first step; the buffer's content does not matter
        first = like(1.0 + plan.nesterov, param[0])
        for i in range(param.size):
            g = _gradient(grad[i], param[i], plan)
            buffer[i] = _kept(g)
            param[i] -= rate * (first * g)
    elif plan.nesterov != 0.0:
        for i in range(param.size):
            g = _gradient(grad[i], param[i], plan)
            v = momentum * buffer[i] + fresh * g
            buffer[i] = _kept(v)
            param[i] -= rate * (g + momentum * v)
    else:
        for i in range(param.size):
            v = momentum * buffer[i] + fresh * _gradient(grad[i], param[i], plan)
            buffer[i] = _kept(v)
            param[i] -= rate * v


@one_pass
def adagrad(param, grad, sums, second, third, plan):
    rate, eps = like(plan.rate, param[0]), like(plan.eps, param[0])
    for i in range(param.size):
        g = _gradient(grad[i], param[i], plan)
        square = sums[i] + g * g
        sums[i] = _kept(square)
        param[i] -= rate * (g / (root(square) + eps))


@one_pass
def rmsprop(param, grad, squares, average, buffer, plan):
    rate, eps, momentum = like(plan.rate, param[0]), like(plan.eps, param[0]), like(plan.momentum, param[0])
    zero = like(0.0, param[0])
    for i in range(param.size):
        g = _gradient(grad[i], param[i], plan)
        square = _squares(squares[i], g, plan.beta2)
        squares[i] = _kept(square)
        if average.size:
            mean = _mix(average[i], g, plan.beta2)
            average[i] = _kept(mean)
            square = square - mean * mean
            square = zero if square < zero else square
        step = g / (root(square) + eps)
        if buffer.size:
            step = momentum * buffer[i] + step
            buffer[i] = _kept(step)
        param[i] -= rate * step


@one_pass
def adam(param, grad, average, squares, most, plan):
    rate, eps, kept = like(plan.rate, param[0]), like(plan.eps, param[0]), like(plan.kept, param[0])
    correction = like(plan.correction, param[0])
    if most.size == 0:
        for i in range(param.size):
            g = _gradient(grad[i], param[i], plan)
            mean, square = _mix(average[i], g, plan.beta1), _squares(squares[i], g, plan.beta2)
            average[i], squares[i] = _kept(mean), _kept(square)
            param[i] = kept * param[i] - rate * (mean / (root(square) * correction + eps))
    else:
        for i in range(param.size):
            g = _gradient(grad[i], param[i], plan)
            mean, square = _mix(average[i], g, plan.beta1), _squares(squares[i], g, plan.beta2)
            average[i], squares[i] = _kept(mean), _kept(square)
            largest = square if (square > most[i]) | (square != square) else most[i]
            most[i] = _kept(largest)
            param[i] = kept * param[i] - rate * (mean / (root(largest) * correction + eps))


@one_pass
def adadelta(param, grad, squares, deltas, third, plan):
    rate, eps = like(plan.rate, param[0]), like(plan.eps, param[0])
    for i in range(param.size):
        g = _gradient(grad[i], param[i], plan)
        square = _squares(squares[i], g, plan.beta2)
        step = root(deltas[i] + eps) / root(square + eps) * g
        squares[i], deltas[i] = _kept(square), _kept(_squares(deltas[i], step, plan.beta2))
        param[i] -= rate * step


@one_pass
def nadam(param, grad, average, squares, third, plan):
    rate, eps, kept = like(plan.rate, param[0]), like(plan.eps, param[0]), like(plan.kept, param[0])
    correction, rate_grad = like(plan.correction, param[0]), like(plan.rate_grad, param[0])
    for i in range(param.size):
        g = _gradient(grad[i], param[i], plan)
        mean, square = _mix(average[i], g, plan.beta1), _squares(squares[i], g, plan.beta2)
        average[i], squares[i] = _kept(mean), _kept(square)
        param[i] = kept * param[i] - (rate_grad * g + rate * mean) / (root(square) * correction + eps)


@one_pass
def lion(param, grad, average, second, third, plan):
    rate, kept = like(plan.rate, param[0]), like(plan.kept, param[0])
    zero, one = like(0.0, param[0]), like(1.0, param[0])
    for i in range(param.size):
        g = _gradient(grad[i], param[i], plan)
        direction = _mix(average[i], g, plan.beta1)
        sign = one if direction > zero else (-one if direction < zero else direction)
        average[i] = _kept(_mix(average[i], g, plan.beta2))
        param[i] = kept * param[i] - rate * sign


@one_pass
def clip(param, grad, first, second, third, plan):
    for i in range(param.size):
        param[i] = _gradient(grad[i], param[i], plan)


# ---- tables ----


@compiled(counted=True)
def _counted(table):
    """The steps that each row has done with this one; 0 where there is no gradient, or no count."""
    steps = np.zeros(len(table), np.int64)
    for row in range(len(table)):
        if table[row, TABLE_GRAD] != 0 and table[row, TABLE_STEP] != 0:
            step = array_at(table[row, TABLE_STEP], 1, steps)
            step[0] += 1
            steps[row] = step[0]
    return steps


@compiled(counted=True)
def _parts(table, row, begin, end, like_, used):
    """Of a row, what elements [begin, end) of all arrays are: parameter, gradient and the first `used` states."""
    start = table[row - 1, TABLE_END] if row else 0
    first, last = max(begin - start, 0), min(end, table[row, TABLE_END]) - start
    size = table[row, TABLE_END] - start
    param = array_at(table[row, TABLE_PARAM], size, like_)[first:last]
    grad = array_at(table[row, TABLE_GRAD], size, like_)[first:last]
    none = param[:0]
    a, b, c = table[row, TABLE_STATE], table[row, TABLE_STATE + 1], table[row, TABLE_STATE + 2]
    states = (
        array_at(a, size, like_)[first:last] if a and used > 0 else none,
        array_at(b, size, like_)[first:last] if b and used > 1 else none,
        array_at(c, size, like_)[first:last] if c and used > 2 else none,
    )
    return param, grad, states


def _states_used(o: dict[str, Any], method: str) -> int:
    """A buffer of momentum is not used where there is none."""
    return 3 if o["momentum"] else {"sgd": 0, "rmsprop": 2}.get(method, 3)


def _over(update, used):
    def over(table, like_, plan, begin, end):
        row = int(np.searchsorted(table[:, TABLE_END], begin, side="right"))
        while row < len(table) and begin < end:
            if table[row, TABLE_GRAD]:
                param, grad, states = _parts(table, row, begin, end, like_, used)
                if param.size:
                    update(param, grad, *states, plan)
            begin, row = int(table[row, TABLE_END]), row + 1

    return over


def _plan(o: dict[str, Any], method: str, step: int, product: float) -> Plan:
    rate, rate_grad, correction, momentum, fresh = o["lr"], 0.0, 1.0, o["momentum"], 1.0 - o["dampening"]
    decoupled = o["decoupled_weight_decay"] or method == "lion"
    if method in ("adam", "nadam"):
        correction = 1 / sqrt(1 - o["beta2"] ** step)
    if method == "adam":
        rate = o["lr"] / (1 - o["beta1"] ** step)
    elif method == "adagrad":
        rate = o["lr"] / (1 + (step - 1) * o["lr_decay"])
    elif method == "nadam":
        now, after = _mu(o, step), _mu(o, step + 1)
        rate, rate_grad = o["lr"] * after / (1 - product * after), o["lr"] * (1 - now) / (1 - product)
    elif method == "sgd" and step == 1:
        momentum, fresh = 0.0, 1.0
    return Plan(
        scale=-o["grad_scale"] if o["maximize"] else o["grad_scale"],
        limit=o["clip_value"],
        decay=0.0 if decoupled or method == "clip" else o["weight_decay"],
        kept=1 - o["lr"] * o["weight_decay"] if decoupled else 1.0,
        rate=rate,
        rate_grad=rate_grad,
        correction=correction,
        eps=o["eps"],
        beta1=o["beta1"],
        beta2={"rmsprop": o["alpha"], "adadelta": o["rho"]}.get(method, o["beta2"]),
        momentum=momentum,
        fresh=fresh,
        nesterov=o["momentum"] if o["nesterov"] else 0.0,
    )


def _mu(o: dict[str, Any], step: int) -> float:
    return float(o["beta1"] * (1 - 0.5 * 0.96 ** (step * o["momentum_decay"])))


_FIELDS = _kernels.Optimizer._fields
_NO_OPTIONS: dict[str, Any] = dict.fromkeys(_FIELDS, 0.0)


def _run(options: dict[str, Any], method: str, table: Any, like_: Any) -> None:
    table = table.reshape(-1, TABLE_COLUMNS)
    if not len(table):
        return
    # sgd's first step is its buffer's first.
    used = _states_used(options, method)
    steps = _counted(table) if used and (method != "sgd" or table[0, TABLE_STATE]) else np.zeros(len(table), np.int64)
    products = np.ones(len(table))
    if method == "nadam":
        for row in np.flatnonzero(table[:, TABLE_GRAD]):
            product = array_at(int(table[row, TABLE_MU_PRODUCT]), 1, products)
            product *= _mu(options, int(steps[row]))
            products[row] = product[0]
    ends = table[:, TABLE_END].tolist()
    present = np.flatnonzero(table[:, TABLE_GRAD]).tolist()
    for (step, product), rows in groupby(present, lambda row: (int(steps[row]), float(products[row]))):
        chosen = list(rows)
        begin, plan = ends[chosen[0] - 1] if chosen[0] else 0, _plan(options, method, step, product)
        _share(_over(PASSES[method], used), begin, ends[chosen[-1]], table, like_, plan)


def _share(over: Any, begin: int, end: int, *arguments: Any) -> None:
    def shifted(first: int, last: int) -> None:
        over(*arguments, begin + first, begin + last)

    share(shifted, end - begin, MEMORY_GRAIN // 2)


@kernel
def optimizer_step(optimizer, table, count, like_):
    numbers = optimizer.view(np.float64)
    integers = _FIELDS.index("lr")
    options = {name: int(optimizer[i]) if i < integers else float(numbers[i]) for i, name in enumerate(_FIELDS)}
    _run(options, _kernels.OPTIMIZER_NAMES[options["method"]], table, like_)


def _one(method: str) -> None:
    """The kernel of one step of one array."""
    parameters = [(name, c_type.endswith("*")) for c_type, name, _ in _kernels.SIGNATURES[f"{method}_step"]]
    apart = "step", "mu_product", "size"
    arrays = [i for i, (name, is_array) in enumerate(parameters) if is_array and name not in apart]
    numbers = [(name, i) for i, (name, is_array) in enumerate(parameters) if not is_array and name not in apart]
    at = {name: i for i, (name, _) in enumerate(parameters)}

    def step_(*arguments: Any) -> None:
        options = _NO_OPTIONS | {name: arguments[i] for name, i in numbers}
        step, of_step = arguments[at["step"]] if "step" in at else 1, 1.0
        param, grad, *states = [arguments[i] for i in arrays]
        if method == "nadam":
            product = arguments[at["mu_product"]]
            product *= _mu(options, step)
            of_step = float(product[0])
        if param.size:
            none, used = param[:0], _states_used(options, method)
            states = [*states[:used], none, none, none][:3]
            plan = _plan(options, method, step, of_step)
            share_elements(PASSES[method], MEMORY_GRAIN // 2, (param, grad, *states), plan)

    step_.__name__ = f"{method}_step"
    kernel(step_)


for _name in PASSES:
    if _name != "clip":
        _one(_name)


# ---- norms of gradients ----


@compiled(sums=True)
def _power_sum(x, power):
    total = 0.0
    if power == 2.0:
        for i in range(x.size):
            total += np.float64(x[i]) * np.float64(x[i])
    elif power == 1.0:
        for i in range(x.size):
            total += magnitude(x[i])
    else:
        for i in range(x.size):
            total += np.float64(magnitude(x[i])) ** power
    return total


@compiled
def _most(x):
    most = 0.0
    for i in range(x.size):
        a = np.float64(magnitude(x[i]))
        most = a if a > most or a != a else most
    return most


@kernel
def grad_norm(norm, table, count, norm_type, like_):
    begin, total = 0, 0.0
    for row in table.reshape(-1, TABLE_COLUMNS).tolist():
        size, begin = row[TABLE_END] - begin, row[TABLE_END]
        if row[TABLE_GRAD] and size:
            grad = array_at(row[TABLE_GRAD], size, like_)
            if np.isinf(norm_type):
                most = _most(grad)
                total = most if most > total or most != most else total
            else:
                total += sum(_power_sum(grad[i : i + (1 << 12)], norm_type) for i in range(0, size, 1 << 12))
    norm[:] = total if np.isinf(norm_type) else total ** (1 / norm_type)


@kernel
def scale_grads(optimizer, norms, norm, count, norm_type, grad_scale, max_norm, clip_value, like_):
    """A few numbers."""
    given = [a if a.size else None for a in (norms, norm)]
    IN_NUMPY["scale_grads"](optimizer, *given, count, norm_type, grad_scale, max_norm, clip_value, like_.dtype)
