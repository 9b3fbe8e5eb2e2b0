"""Whole networks as ONNX models, one sample: the contenders of bench.onnx."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from bench import onnx
from bench.contenders import Prepared
from bench.suites import Absent, Group
from bench.suites.operations import shared

NEEDS = {"fastdl": "onnx", "numpy": "onnx", **{name: name for name in onnx.PEERS}}
QUICK = ("lenet", "transformer")
HEAVY = ("vgg11", "resnet50")
"""Only with all the others: half a second and more a call."""


def groups(dtype: str, threads: int, level: str) -> list[Group]:
    who = tuple(name for name, package in NEEDS.items() if importlib.util.find_spec(package))
    if dtype != "float32" or "fastdl" not in who:
        return []
    tags = {name: ["quick"] if name in QUICK else ["full"] if name in HEAVY else [] for name in onnx.MODELS}
    tags["lenet"].append("small")
    return [
        Group(
            "networks", "networks", f"{name}, inference", "inference", dtype, threads, level, onnx.FLOPS[name], who,
            tags=frozenset(tags[name]),
        )
        for name in onnx.MODELS
    ]  # fmt: skip


def traffic(group: Group) -> int:
    return 0


def prepare(group: Group, implementation: str) -> Prepared:
    name = group.case.partition(", ")[0]
    model, x = onnx.MODELS[name](), onnx.sample(name)
    expected = shared(group.case, lambda: (np.asarray(onnx.with_numpy(model, x, 1)()),))[0]
    call = onnx.CONTENDERS[implementation](model, x, group.threads)
    if call is None:
        raise Absent(f"{implementation} does not run {name}")

    def check(found: Any) -> None:
        onnx.compared(np.asarray(found), expected, f"{name}: {implementation}")

    check(call())
    return Prepared(call, check)
