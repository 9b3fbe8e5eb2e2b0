"""Single operations: the cases of tests/cases."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastdl
from bench import peers
from bench.contenders import Prepared, contender
from bench.suites import Absent, Group
from tests import cases
from tests.cases import Case

FAMILIES = {
    "products": ("linear", "matmul", "attention"),
    "convolution": ("conv",),
    "pooling": ("pooling",),
    "recurrent": ("recurrent",),
    "pointwise": ("activation", "arithmetic", "regularization"),
    "arrays": ("arrays", "padding", "reduction", "resize"),
    "losses": ("loss",),
    "normalization": ("normalization",),
    "optimizers": ("optim",),
    "reinforcement learning": ("policy",),
}
"""By the files of tests/cases."""

QUICK = frozenset(
    (
        *("linear-1x64_10x64_10", "linear-512x512_512x512", "matmul-heads-4x64x32_4x32x64"),
        "scaled_dot_product_attention-1x4x256x64_1x4x256x64_1x4x256x64",
        *("conv2d-1x64x56x56_64x64x3x3-stride=1-padding=1", "conv2d_backward-1x64x56x56_64x64x3x3-stride=1-padding=1"),
        "conv2d-1x512x14x14_512x512x3x3-padding=1",
        "conv2d-1x144x56x56_144x1x3x3-stride=1-padding=1-groups=144",
        *("conv2d-grid-16x16x8x8_32x16x3x3_32-padding=1", "max_pool2d-32x16x8x8-kernel_size=2"),
        "avg_pool2d-8x64x112x112-kernel_size=3-stride=2-padding=1",
        *("lstm_cell-hidden=32-1x32-1x32_1x32_1x32", "lstm-hidden=64-100x1x64_1x1x64_1x1x64"),
        *("relu-16384", "tanh-16384", "gelu-16384", "sigmoid_backward-16384", "relu-6400000"),
        *("sum-bench-4096x1024-dim=-1", "cat-8x64x56x56_(64, 32, 32)-dim=1"),
        *("cross_entropy-128x10", "cross_entropy_backward-1024x1000", "mse_loss-1024"),
        "layer_norm-1024x768_768_768-normalized_shape=768-return_stats=True",
        "batch_norm-8x512x7x7_512_512-training=True-return_stats=True",
        "adam_step-exp_avg-exp_avg_sq-10000_10000_10000-lr=0.1-step=3",
        "sgd_step-10000_10000_10000-lr=0.1-momentum=0.9-step=2",
        "gae-2048x64-done=False-part=0.1-2048x64_2048x64_2048x64-gamma=0.99-lmbda=0.95",
        "categorical_policy_loss-256x2-old=True-256x2_256-clip=0.2-entropy_weight=0.01",
    )
)
"""What stands for its family when there is little time, by id."""

NETWORKS = frozenset(("vgg16", "mobilenet_v2"))
TAGS = frozenset(("bench", "batch8", "grid", "depthwise")) | NETWORKS
"""Of the cases that are worth timing."""


@functools.cache
def family_of() -> dict[str, tuple[str, Case]]:
    """By its id: every case that is worth timing, and its family."""
    found = {}
    for family, files in FAMILIES.items():
        for file in files:
            for form in getattr(cases, file).CASES:
                for case in (form, form.backward):
                    if case is not None and case.tags & TAGS:
                        found[case.id] = family, case
    return found


def groups(dtype: str, threads: int, level: str) -> list[Group]:
    some = [name for name in peers.PEERS if name not in ("fastdl", "numpy", "numba")]
    installed = tuple(name for name in ("fastdl", "numpy", *some, "numba") if not peers.missing(name))
    found, seen = [], set()
    for case_id, (family, case) in family_of().items():
        kind = (case.operation, case.tags & {"large", *NETWORKS})
        worth = case.tags & {"bench", *NETWORKS} and kind not in seen
        seen.add(kind)
        tags = {
            *(["small"] if "large" not in case.tags else []),
            *(["quick"] if case_id in QUICK else []),
            *([] if worth or case_id in QUICK else ["full"]),
        }
        found.append(
            Group(
                "operations", family, case_id, case.operation, dtype, threads, level, case.flops, installed,
                tags=frozenset(tags),
            )
        )  # fmt: skip
    return found


def traffic(group: Group) -> int:
    return family_of()[group.case][1].bytes(np.dtype(group.dtype))


def prepare(group: Group, implementation: str) -> Prepared:
    case, dtype = family_of()[group.case][1], np.dtype(group.dtype)
    expected = shared(case.id, lambda: case.expected(case.make(dtype)), group.dtype)
    prepared = contender(implementation, case, dtype, group.threads, expected, packed=group.packed)
    if prepared is None:
        raise Absent(f"{implementation} has no {case.operation}, or not in this form")
    if implementation == "fastdl":
        return prepared._replace(around=functools.partial(fastdl.threads, group.threads))
    if implementation == "numba":  # chosen for a whole turn, as its users do
        return prepared._replace(call=prepared.call.within, around=functools.partial(_on_numba, group.threads))
    return prepared


@contextlib.contextmanager
def _on_numba(threads: int) -> Iterator[None]:
    with fastdl.threads(threads), fastdl.use_backend("numba"):
        yield


SHARED = "FASTDL_BENCH_SHARED"
"""The variable that names a folder where processes leave for each other what takes long to compute."""
_last: dict[str, tuple[Any, ...]] = {}


def shared(name: str, compute: Callable[[], tuple[Any, ...]], *more: str) -> tuple[Any, ...]:
    """What a group's results are compared with: computed once, by whichever process needs it first."""
    name = hashlib.sha256("|".join((name, *more)).encode()).hexdigest()[:32]
    if name in _last:
        return _last[name]
    _last.clear()  # the implementations of one group follow each other
    path = Path(os.environ[SHARED], f"{name}.npz") if SHARED in os.environ else None
    if path is not None and path.exists():
        with np.load(path) as data:
            _last[name] = tuple(data[key] for key in data.files)
        return _last[name]
    _last[name] = compute()
    if path is not None:
        for other in path.parent.glob("*.npz"):
            other.unlink()
        part = path.with_suffix(".part.npz")
        np.savez(part, *_last[name])
        part.rename(path)
    return _last[name]
