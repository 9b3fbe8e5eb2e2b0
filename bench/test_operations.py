"""Every case tagged "bench" on every implementation, for pytest-benchmark.

    pytest bench                                         time everything (FASTDL_ISA chooses the level)
    pytest bench -k "conv2d and not backward" --benchmark-group-by=param:case
    pytest bench --benchmark-disable                     no timing: small cases once, their results checked

`extra_info` holds the case's flops and bytes, this machine's measured limits, and the part of the roofline that the
fastest round reached. Absolute times drift with the machine: for a ratio, use bench.compare.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fastdl
from bench import machine, peers
from bench.compare import Inaccurate, contender
from tests.cases import Case, all_cases

DTYPE = np.dtype(np.float32)
PEERS = [name for name in peers.installed() if name not in ("fastdl", "matmul")]
IMPLEMENTATIONS = [("fastdl", 1), ("fastdl", 2), *((name, 1) for name in PEERS)]
EXPECTED: dict[str, tuple[np.ndarray, ...]] = {}


@pytest.mark.parametrize(
    ("implementation", "threads"), IMPLEMENTATIONS, ids=[f"{name}-{threads}" for name, threads in IMPLEMENTATIONS]
)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in all_cases(tag="bench")])
def test_operation(benchmark: Any, case: Case, implementation: str, threads: int) -> None:
    if benchmark.disabled and "large" in case.tags:
        pytest.skip("large: only with timing")
    if case.id not in EXPECTED:
        EXPECTED.clear()  # the implementations of one case follow each other
        EXPECTED[case.id] = case.expected(case.make(DTYPE))
    try:
        call = contender(implementation, case, DTYPE, threads, EXPECTED[case.id])
    except Inaccurate as problem:
        pytest.skip(str(problem))
    if call is None:
        pytest.skip(f"{implementation} has no {case.operation}")
    benchmark.group = case.id
    benchmark(call)
    if benchmark.disabled:
        return
    peak, bandwidth = machine.limits(DTYPE, threads, fastdl.active_isa())
    traffic = case.bytes(DTYPE)
    least = machine.roofline_seconds(case.flops, traffic, DTYPE, threads, fastdl.active_isa())
    benchmark.extra_info.update(
        isa=fastdl.active_isa(),
        threads=threads,
        flops=case.flops,
        bytes=traffic,
        peak_flops_per_second=peak,
        copy_bytes_per_second=bandwidth,
        of_roofline=least / benchmark.stats.stats.min,
    )


def test_cases_are_told_apart() -> None:
    """Results of benchmarks are compared over time by id."""
    ids = [case.id for case in all_cases()]
    assert not [case for case, group in itertools.groupby(sorted(ids)) if len(list(group)) > 1]
