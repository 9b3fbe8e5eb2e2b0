"""Policies: sequences of columns around vector widths, episodes that end; distributions of sizes around them too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastdl import reference
from tests.cases.case import Arguments, Array, Backward, Case, Draw, Shape, declare

# Over time


def _ends(shape: Shape, part: float) -> Draw:
    """Bools, that part of them true."""
    return lambda rng: np.asarray(rng.uniform(size=shape) < part)


def _roundings(a: Arguments) -> float:
    """Of a sum over steps that is carried on by a factor, in units of its terms taken positive: as many steps as it
    reaches over, each with some five roundings, add up at random (case.summed); and where the factor is no number of
    float32, its own error once for each step."""
    steps = len(next(value for value in a.values() if isinstance(value, np.ndarray)))
    factor = a["gamma"] * a.get("lmbda", 1.0)
    reach = min(steps, 1 / (1 - factor) if factor < 1 else math.inf)
    return 4 * np.sqrt(5 * reach + 2) + (0 if np.float32(factor) == factor else reach)


def _positive(a: Arguments, *names: str) -> Arguments:
    """With those arguments positive, and state_value so that it adds to them."""
    signs = {name: np.abs(a[name]) for name in names if a.get(name) is not None}
    return a | signs | ({"state_value": -np.abs(a["state_value"])} if "state_value" in a else {})


def _returns_tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    return (_roundings(a) * reference.discounted_returns(**_positive(a, "reward", "bootstrap")),)


def _returns_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    grads = reference.discounted_returns_backward(**_positive(a, "grad_output"))
    return tuple(_roundings(a) * grad for grad in grads)


def _gae_tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    advantage, _ = reference.gae(**_positive(a, "reward", "next_state_value"))
    return _roundings(a) * advantage, _roundings(a) * (advantage + np.abs(a["state_value"]))


def _gae_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    reward, _, next_ = reference.gae_backward(**_positive(a, "grad_advantage", "grad_value_target"))
    return tuple(_roundings(a) * grad for grad in (reward, reward + np.abs(a["grad_value_target"]), next_))


def _vtrace_tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """Ratios are within some roundings of theirs, and count once a step."""
    advantage, target = reference.vtrace(**_positive(a, "reward", "next_state_value"))
    units = 2 * _roundings(a)
    return units * advantage, units * (target + 2 * np.abs(a["state_value"]))


def _returns(shape: Shape, *, bootstrap: bool = True, part: float = 0.1, reward: Any = None, **form: Any) -> Case:
    size = math.prod(shape)
    return declare(
        "discounted_returns",
        {"reward": reward or shape, "done": _ends(shape, part), "bootstrap": shape[1:] if bootstrap else None},
        shape,
        flops=2 * size,
        tolerance=_returns_tolerance,
        backward=Backward(flops=2 * size, tolerance=_returns_backward, shapes=(shape, shape[1:])),
        note=_note(form, shape, bootstrap=bootstrap, part=part),
        **form,
    )


def _gae(shape: Shape, *, done: bool = False, part: float = 0.1, **form: Any) -> Case:
    size = math.prod(shape)
    values = {name: form.pop(name, shape) for name in ("reward", "state_value", "next_state_value")}
    return declare(
        "gae",
        values | {"terminated": _ends(shape, part), "done": _ends(shape, 2 * part) if done else None},
        (shape, shape),
        flops=6 * size,
        tolerance=_gae_tolerance,
        data=("done",),
        backward=Backward(
            flops=5 * size,
            tolerance=_gae_backward,
            shapes=(shape,) * 3,
            grads=("grad_advantage", "grad_value_target"),
        ),
        note=_note(form, shape, done=done, part=part),
        **form,
    )


def _vtrace(shape: Shape, *, done: bool = True, part: float = 0.1, **form: Any) -> Case:
    values = {name: form.pop(name, shape) for name in ("log_rho", "reward", "state_value", "next_state_value")}
    return declare(
        "vtrace",
        values | {"terminated": _ends(shape, part), "done": _ends(shape, 2 * part) if done else None},
        (shape, shape),
        flops=30 * math.prod(shape),
        tolerance=_vtrace_tolerance,
        note=_note(form, shape, done=done, part=part),
        **form,
    )


def _note(form: dict[str, Any], shape: Shape, **options: Any) -> str:
    words = [form.pop("note", ""), "x".join(map(str, shape)), *(f"{name}={value}" for name, value in options.items())]
    return "-".join(filter(None, words))


def _not_finite(rng: np.random.Generator) -> Array:
    """Of the columns some have NaN or infinity somewhere; none more than one kind, which would make another."""
    x = rng.standard_normal((9, 21))
    x[4, 3], x[8, 7], x[0, 11], x[5, 20] = np.nan, np.inf, -np.inf, np.nan
    return x


_HALF: dict[str, Any] = {"gamma": 0.9375}
_BOTH: dict[str, Any] = {"gamma": 0.9375, "lmbda": 0.75}
_USUAL: dict[str, Any] = {"gamma": 0.99, "lmbda": 0.95}
_SHAPES: tuple[Shape, ...] = (
    *((n,) for n in (1, 2, 33)),
    *((5, n) for n in (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 100)),
    (1, 6),
    (200, 6),
    (4, 3, 5),
)
_EMPTY_TAGS = ("empty", "not-in-torch")  # torch has no gradient of what nothing uses, and no shape of nothing
_EMPTY: tuple[Shape, ...] = ((0,), (0, 3), (4, 0))

_OVER_TIME = [
    *(_returns(shape, **_HALF) for shape in _SHAPES),
    *(_returns(shape, **_HALF, tags=_EMPTY_TAGS) for shape in _EMPTY),
    *(_returns((20, 5), bootstrap=False, gamma=gamma) for gamma in (0.0, 0.99, 1.0)),
    *(_returns((20, 5), part=part, gamma=0.5) for part in (0.0, 1.0)),
    _returns((9, 21), reward=_not_finite, **_HALF, note="special", tags=("special",)),
    *(_gae(shape, **_BOTH) for shape in _SHAPES),
    *(_gae(shape, **_BOTH, tags=_EMPTY_TAGS) for shape in _EMPTY),
    *(_gae((40, 9), done=True, gamma=gamma, lmbda=lmbda) for gamma, lmbda in ((0.99, 0.95), (1.0, 1.0), (0.5, 0.0))),
    *(_gae((20, 5), part=part, done=True, **_BOTH) for part in (0.0, 0.5)),
    _gae((9, 21), done=True, reward=_not_finite, **_BOTH, note="special-reward", tags=("special",)),
    _gae((9, 21), done=True, next_state_value=_not_finite, **_BOTH, note="special-value", tags=("special",)),
    *(_vtrace(shape, **_BOTH) for shape in _SHAPES),
    *(_vtrace(shape, **_BOTH, tags=_EMPTY_TAGS) for shape in _EMPTY),
    _vtrace((40, 9), done=False, gamma=0.99),
    _vtrace((40, 9), **_USUAL, rho_threshold=2.0, c_threshold=0.5),
    _vtrace((40, 9), **_BOTH, rho_threshold=math.inf, c_threshold=0.0),
    _vtrace((9, 21), log_rho=_not_finite, **_BOTH, note="special-ratio", tags=("special",)),
    _vtrace((9, 21), reward=_not_finite, **_BOTH, note="special-reward", tags=("special",)),
    *(
        form(shape, **options, tags=("bench",))
        for shape in ((128, 8), (2048, 1), (2048, 64))
        for form, options in ((_returns, {"gamma": 0.99}), (_gae, _USUAL), (_vtrace, {"gamma": 0.99}))
    ),
    _gae((1024, 2048), **_USUAL, tags=("large",)),
]

# Distributions


def _of_sum(x: Array, terms: int) -> float:
    """Roundings of adding so many terms in double: none that matters, unless that is the precision of x itself."""
    return 0.0 if np.array_equal(x, x.astype(np.float32), equal_nan=True) else np.sqrt(terms)


def _categorical_rows(a: Arguments) -> tuple[Array, Array, Array, Array]:
    """p, |log p| (0 where p is), and the units of error of log-probabilities and of entropies, of each row."""
    log_p = reference.log_softmax(a["logits"])
    p = np.exp(log_p)
    size, sums = np.where(p == 0, 0, np.abs(log_p)), 8 + 2 * np.sqrt(log_p.shape[-1])
    finite = np.where(np.isfinite(a["logits"]), a["logits"], np.nan)
    spread = np.nan_to_num(np.nanmax(finite, -1, initial=-np.inf) - np.nanmin(finite, -1, initial=np.inf))
    entropy = np.nan_to_num(reference.categorical_entropy(a["logits"]))
    return p, size, sums + 4 * spread, sums * (entropy + 1)


def _normal_rows(a: Arguments) -> tuple[Array, Array]:
    """The units of error of log-probabilities and of entropies: roundings of their terms taken positive."""
    units, v = 12 + 2 * np.sqrt(a["mean"].shape[-1]), np.broadcast_to(np.abs(a["log_std"]), a["mean"].shape)
    z = (a["action"] - a["mean"]) * np.exp(-a["log_std"])
    return units * (z * z / 2 + v + 0.92).sum(-1), units * (v + 1.42).sum(-1)


def _plain_slope(a: Arguments, log_prob: Array, units: Array) -> tuple[Array, Array]:
    """|slope| of the objective in the log-probability, before any of it is cut off, and its units of error."""
    slope, relative = np.abs(a["advantage"]), np.ones_like(units)
    if a.get("old_log_prob") is not None:
        slope = slope * np.exp(log_prob - a["old_log_prob"])
        relative = units + np.abs(log_prob - a["old_log_prob"]) + 6
    return slope, slope * relative


def _log_prob_of(a: Arguments) -> Array:
    if "logits" in a:
        return reference.categorical_log_prob(a["logits"], a["action"])
    return reference.normal_log_prob(a["mean"], a["log_std"], a["action"])


def _log_prob_tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    return ((_categorical_rows(a)[2] if "logits" in a else _normal_rows(a)[0]) + 2 * np.abs(expected[0]),)


def _log_prob_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    p, _, units, _ = _categorical_rows(a)
    return (np.abs(a["grad_output"])[:, None] * units[:, None] * (p + reference.policy._at(a["logits"], a["action"])),)


def _entropy_tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    return (_categorical_rows(a)[3],)


def _entropy_slope(a: Arguments) -> Array:
    """The error of p (log p + H), which is p's and that of the sum."""
    p, size, units, entropy = _categorical_rows(a)
    return p * (units[:, None] * (size + entropy[:, None] / 8) + entropy[:, None])


def _entropy_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    return (np.abs(a["grad_output"])[:, None] * _entropy_slope(a),)


def _loss_tolerance(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    """The error of each objective follows from that of its log-probability; the mean adds roundings in double."""
    log_prob, first = _log_prob_of(a), "logits" if "logits" in a else "mean"
    units, of_entropy = _categorical_rows(a)[2:] if "logits" in a else _normal_rows(a)
    units = units + 2 * np.abs(log_prob)
    slope, error = _plain_slope(a, log_prob, units)
    rows = error if a.get("old_log_prob") is not None else slope * (units + np.abs(log_prob))
    rows = rows + abs(a.get("entropy_weight", 0.0)) * of_entropy
    return (rows.sum() / max(1, len(rows)) * (1 + _of_sum(a[first], len(rows))) + 2 * np.abs(expected[0]),)


def _loss_slopes(a: Arguments, units: Array) -> tuple[Array, Array]:
    """The gradient of each row's log-probability, taken positive, and its units of error; of one row of the mean."""
    log_prob = _log_prob_of(a)
    slope, error = _plain_slope(a, log_prob, units + 2 * np.abs(log_prob))
    scale = np.abs(a["grad_output"]) / max(1, len(slope))
    return (scale * slope)[:, None], (scale * (error + 4 * slope))[:, None]


def _categorical_loss_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    p, _, units, _ = _categorical_rows(a)
    slope, error = _loss_slopes(a, units)
    of_entropy = abs(a.get("entropy_weight", 0.0)) * np.abs(a["grad_output"]) / max(1, len(p)) * _entropy_slope(a)
    both = p + reference.policy._at(a["logits"], a["action"])
    return (both * (error + slope * units[:, None]) + of_entropy,)


def _shared(a: Arguments, error: Array) -> Array:
    """Of a log_std that all rows share: the errors of a sum."""
    return error if a["log_std"].ndim == 2 else error.sum(0) * (1 + _of_sum(a["mean"], len(error)))


def _normal_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    inverse, g = np.exp(-a["log_std"]), np.abs(a["grad_output"])[:, None]
    z = np.abs(a["action"] - a["mean"]) * inverse
    return 16 * g * z * inverse, _shared(a, 16 * g * (z * z + 1))


def _normal_loss_backward(a: Arguments, expected: tuple[Array, ...]) -> tuple[Any, ...]:
    inverse = np.exp(-a["log_std"])
    z = np.abs(a["action"] - a["mean"]) * inverse
    slope, error = _loss_slopes(a, _normal_rows(a)[0])
    error, of_entropy = error + 16 * slope, 4 * abs(a.get("entropy_weight", 0.0) * a["grad_output"]) / max(1, len(z))
    if a["log_std"].ndim == 1:  # terms that are equal: their roundings are, too, and add up
        of_entropy = of_entropy * (1 + _of_sum(a["mean"], len(z)))
    return error * z * inverse, _shared(a, error * (z * z + 1) + of_entropy)


def _named(rows: int, actions: int) -> Draw:
    return lambda rng: rng.integers(0, actions, rows)


def _categorical(shape: Shape, logits: Any = None, **form: Any) -> list[Case]:
    """log_prob and entropy."""
    rows, flops = shape[:1], 8 * math.prod(shape)
    form["note"] = _note(form, shape)
    inputs = {"logits": logits or shape, "action": _named(*shape)}
    both = (
        ("categorical_log_prob", inputs, _log_prob_tolerance, _log_prob_backward),
        ("categorical_entropy", {"logits": inputs["logits"]}, _entropy_tolerance, _entropy_backward),
    )
    return [
        declare(
            name,
            given,
            rows,
            flops=flops,
            tolerance=tolerance,
            backward=Backward(flops=flops, tolerance=backward, shapes=(shape,)),
            **form,
        )
        for name, given, tolerance, backward in both
    ]


def _rated(rows: int, old: bool) -> dict[str, Any]:
    """Advantages, and log-probabilities that differ enough from what they were for some ratios to be cut off."""
    return {
        "advantage": (rows,),
        "old_log_prob": (lambda rng: rng.standard_normal(rows) - 1) if old else None,
    }


def _categorical_loss(shape: Shape, old: bool = True, logits: Any = None, **form: Any) -> Case:
    flops = 10 * math.prod(shape)
    return declare(
        "categorical_policy_loss",
        {"logits": logits or shape, "action": _named(*shape)} | _rated(shape[0], old),
        (),
        flops=flops,
        tolerance=_loss_tolerance,
        data=("advantage", "old_log_prob"),
        backward=Backward(flops=flops, tolerance=_categorical_loss_backward, shapes=(shape,)),
        note=_note(form, shape, old=old),
        **form,
    )


def _deviations(shape: Shape) -> Draw:
    return lambda rng: rng.uniform(-1, 0.5, shape)


def _normal(shape: Shape, own: bool = False, mean: Any = None, **form: Any) -> Case:
    flops, of_log_std = 12 * math.prod(shape), shape if own else shape[1:]
    return declare(
        "normal_log_prob",
        {"mean": mean or shape, "log_std": _deviations(of_log_std), "action": shape},
        shape[:1],
        flops=flops,
        tolerance=_log_prob_tolerance,
        data=("action",),
        backward=Backward(flops=flops, tolerance=_normal_backward, shapes=(shape, of_log_std)),
        note=_note(form, shape, own=own),
        **form,
    )


def _normal_loss(shape: Shape, old: bool = True, own: bool = False, mean: Any = None, **form: Any) -> Case:
    flops, of_log_std = 14 * math.prod(shape), shape if own else shape[1:]
    return declare(
        "normal_policy_loss",
        {"mean": mean or shape, "log_std": _deviations(of_log_std), "action": shape} | _rated(shape[0], old),
        (),
        flops=flops,
        tolerance=_loss_tolerance,
        data=("action", "advantage", "old_log_prob"),
        backward=Backward(flops=flops, tolerance=_normal_loss_backward, shapes=(shape, of_log_std)),
        note=_note(form, shape, own=own, old=old),
        **form,
    )


def _scores(rng: np.random.Generator) -> Array:
    """NaN, infinities of either sign, a row in which nothing is possible, and one action that alone is."""
    x = rng.standard_normal((9, 5))
    x[0, 3], x[1, 4], x[2, 0], x[3], x[4, 1:] = np.nan, np.inf, -np.inf, -np.inf, -np.inf
    return x


def _masked(shape: Shape) -> Draw:
    """Of rows some whose first hundred actions are impossible, and logits far from 0 and from each other."""

    def draw(rng: np.random.Generator) -> Array:
        x = 10 * rng.standard_normal(shape) + 300
        x[::2, :100] = -np.inf
        x[1, 70:] += 50
        return x

    return draw


_NOT_FINITE = ("special", "not-in-torch")  # torch's gradient of the entropy is NaN where a logit is -infinity


def _impossible(shape: Shape) -> Case:
    """Entropies only: the log-probability of what is impossible is infinite, and its slope is none."""
    return _categorical(shape, _masked(shape), note="masked", tags=_NOT_FINITE)[1]


def _means(rng: np.random.Generator) -> Array:
    x = rng.standard_normal((9, 3))
    x[0, 1], x[4, 0] = np.nan, np.inf
    return x


_SIZES: tuple[Shape, ...] = (
    *((n, 3) for n in (1, 2, 7, 8, 9, 15, 16, 17, 33)),
    *((5, n) for n in (1, 2, 18, 63, 64, 65, 130)),
    (700, 6),
    (200, 70),
)
_PPO: dict[str, Any] = {"clip": 0.2, "entropy_weight": 0.01}

_DISTRIBUTIONS = [
    *(case for shape in _SIZES for case in _categorical(shape)),
    *_categorical((0, 3), tags=_EMPTY_TAGS),
    *_categorical((9, 5), _scores, note="special", tags=_NOT_FINITE),
    *(_impossible(shape) for shape in ((6, 150), (6, 101))),
    *(_categorical_loss(shape, **_PPO) for shape in _SIZES),
    *(_categorical_loss((33, 4), old, entropy_weight=weight) for old in (False, True) for weight in (0.0, 0.1)),
    _categorical_loss((33, 4), clip=0.0),
    _categorical_loss((0, 3), tags=("special", *_EMPTY_TAGS)),  # the mean of nothing: NaN
    _categorical_loss((9, 5), False, _scores, note="special", tags=("special",)),
    *(_normal(shape, own) for shape in _SIZES for own in (False, True)),
    *(_normal((0, 3), own, tags=_EMPTY_TAGS) for own in (False, True)),
    _normal((5, 0), tags=_EMPTY_TAGS),
    _normal_loss((5, 0), False, tags=_EMPTY_TAGS),
    _normal((9, 3), mean=_means, note="special", tags=("special",)),
    *(_normal_loss(shape, **_PPO) for shape in _SIZES),
    *(
        _normal_loss((33, 4), old, own, entropy_weight=weight)
        for old in (False, True)
        for own in (False, True)
        for weight in (0.0, 0.1)
    ),
    _normal_loss((0, 3), tags=("special", *_EMPTY_TAGS)),
    _normal_loss((9, 3), mean=_means, note="special", tags=("special",)),
    *(case for shape in ((256, 2), (4096, 18)) for case in _categorical(shape, tags=("bench",))),
    *(_categorical_loss(shape, **_PPO, tags=("bench",)) for shape in ((256, 2), (4096, 18))),
    *(
        form(shape, tags=("bench",), **more)
        for shape in ((256, 1), (256, 2), (4096, 18))
        for form, more in ((_normal, {}), (_normal_loss, _PPO))
    ),
]

CASES = [*_OVER_TIME, *_DISTRIBUTIONS]
