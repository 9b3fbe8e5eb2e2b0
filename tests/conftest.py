from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

import fastdl


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(params=fastdl.supported_isas())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction-set level of this machine in turn, active."""
    before = fastdl.active_isa()
    fastdl.use_isa(request.param)
    yield request.param
    fastdl.use_isa(before)


@pytest.fixture
def threads() -> Iterator[None]:
    """Leaves the number of threads as it was."""
    before = fastdl.get_num_threads()
    yield
    fastdl.set_num_threads(before)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts, here and in processes that are started: what a shell runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
