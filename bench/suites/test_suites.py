"""Every group of bench.suites on every implementation, for pytest-benchmark.

    pytest bench                                   time them (FASTDL_ISA chooses the level), one thread
    pytest bench -k "conv2d and not backward"
    pytest bench --benchmark-disable               no timing: small ones once, their results checked
    python -m bench                                the same with a choice, threads, a time limit, and what is made of it

The first test of a group times all of its contenders in turns; each test then tells pytest-benchmark its part of that.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench import contest
from bench.contenders import Inaccurate
from bench.session import Session, recorded, replay
from bench.suites import Absent


@pytest.mark.benchmark(timer=recorded)
def test_group(benchmark: Any, session: Session, group: str, implementation: str) -> None:
    work = session.by_name[group]
    if benchmark.disabled:
        try:
            prepared = work.prepare(implementation)
        except (Absent, Inaccurate) as reason:
            pytest.skip(str(reason))
        with prepared.around():
            result = benchmark(prepared.call)
        prepared.check(result)
        return
    outcome = session.outcome(group)
    if implementation in outcome.failed:
        pytest.fail(outcome.failed[implementation], pytrace=False)
    if implementation not in outcome.times:
        pytest.skip(outcome.absent.get(implementation, "not asked for"))
    benchmark.group = group
    benchmark.extra_info.update(contest.extra_info(work, implementation, outcome))
    replay(benchmark, outcome.times[implementation])
