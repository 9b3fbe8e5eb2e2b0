"""Training steps of whole networks, and recorded programs: the contenders of bench.programs and bench.models."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from bench import models, programs
from bench.contenders import Prepared
from bench.suites import Absent, Group
from bench.suites.operations import shared

NAMES = {
    "fastdl": "program",
    "numpy": "numpy",
    "torch": "torch",
    "torch.compile": "compile",
    "jax": "jax",
    "jax loop": "jax loop",
    "fastdl layers": "plain",
    "fastdl epoch": "epoch",
    "fastdl in @njit": "njit",
}
"""What those of bench.programs are called here: ours is the recorded program, called from Python."""
NEEDS = {"torch": "torch", "compile": "torch", "jax": "jax", "jax loop": "jax", "njit": "numba"}
VARIANTS = tuple((name, "variant") for name in NAMES if name.startswith("fastdl "))
QUICK = ("mlp 4-64-64-2", "digits")
ANSWERS = ("mlp 4-64-64-2", "mlp 784-256-10", "lenet", "lstm")
"""Networks of which answering one sample is timed as well."""
DEEP = {"resnet18": ("fastdl", "torch")}
"""Those of bench.models."""


def groups(dtype: str, threads: int, level: str) -> list[Group]:
    if dtype != "float32":
        return []

    def group(family: str, case: str, operation: str, who: tuple[str, ...], *tags: str) -> Group:
        return Group(
            "training", family, case, operation, dtype, threads, level, 0.0, who, VARIANTS, tags=frozenset(tags)
        )

    every = tuple(name for name, who in NAMES.items() if who not in NEEDS or importlib.util.find_spec(NEEDS[who]))
    quick = {name: ["quick"] if name in QUICK else [] for name in programs.EVERY}
    small = {name: ["small"] if name.startswith("mlp 4") else [] for name in programs.EVERY}
    found = [
        group("training", f"{name}, training step", "training", every, *quick[name], *small[name])
        for name in programs.EVERY
    ]
    answers = tuple(name for name in every if name in ("fastdl", "numpy", "torch", "torch.compile", "fastdl layers"))
    found += [
        group("programs", f"{name}, one sample", "inference", answers, *quick[name], *small[name]) for name in ANSWERS
    ]
    deep = {name: tuple(w for w in who if w == "fastdl" or importlib.util.find_spec(w)) for name, who in DEEP.items()}
    return found + [group("training", f"{name}, training step", "training", who) for name, who in deep.items()]


def traffic(group: Group) -> int:
    return 0


def prepare(group: Group, implementation: str) -> Prepared:
    name, _, what = group.case.partition(", ")
    if name in DEEP:
        return _deep(name, implementation, group)
    who = NAMES[implementation]
    import fastdl

    fastdl.set_num_threads(group.threads)
    return _answer(who, name) if what == "one sample" else _step(who, name)


def _step(who: str, name: str) -> Prepared:
    expected = shared(f"losses of {name}", lambda: (np.array(programs.losses_of(programs.by_plain(name))),))[0]
    step = programs.CONTENDERS[who](name)
    if step is None:
        raise Absent(f"{who} does not make {name}")
    programs.compare(who, name, programs.losses_of(step, programs.FEW if who == "numpy" else programs.STEPS), expected)
    return Prepared(step.call, _stays(f"{name}: {who}", step.call), steps=step.steps)


def _stays(what: str, call: Any) -> Any:
    """A check that the loss is what it was when the rate was made all but 0: a step that is not made has none."""
    mean = float(np.mean(np.asarray(call())))

    def check(value: Any) -> None:
        found = float(np.mean(np.asarray(value)))
        if not abs(found - mean) <= 1e-3 + 0.02 * abs(mean):
            raise AssertionError(f"{what}: found a loss of {found:g}, expected about {mean:g}")

    return check


def _answer(who: str, name: str) -> Prepared:
    expected = shared(f"answer of {name}", lambda: (np.asarray(programs.answer_of("numpy", name)()),))[0]

    def check(found: Any) -> None:
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-3, atol=1e-4, err_msg=f"{name}: {who}")

    call = programs.answer_of(who, name)
    check(call())
    return Prepared(call, check)


def _deep(name: str, implementation: str, group: Group) -> Prepared:
    def losses(make: Any) -> tuple[Any, Any]:
        step, stop = make(name, group.threads)
        first = [step() for _ in range(models.COMPARED)]
        stop()
        return step, np.array(first)

    expected = shared(f"losses of {name}", lambda: (losses(models.fastdl_step)[1],))[0]
    step, found = losses(models.CONTENDERS[implementation])
    np.testing.assert_allclose(found, expected, rtol=1e-3, err_msg=f"{name}: {implementation}")
    return Prepared(step, _stays(f"{name}: {implementation}", step))
