"""Peers are held to one thread before any of them is imported; what is timed is a plugin's, or a default one's."""

from __future__ import annotations

from typing import Any

import pytest

from bench import environment

environment.hold_to("", 1)


def _session(config: pytest.Config) -> Any:
    """The plugin that says what is timed."""
    from bench.session import Session

    return next(plugin for plugin in config.pluginmanager.get_plugins() if isinstance(plugin, Session))


def pytest_configure(config: pytest.Config) -> None:
    from bench import session, suites

    try:
        _session(config)
    except StopIteration:
        config.pluginmanager.register(session.default(suites.all_groups()))


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config) -> Any:
    return _session(pytestconfig)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    from bench import contest

    if "implementation" not in metafunc.fixturenames:
        return
    groups = _session(metafunc.config).groups
    if metafunc.config.getoption("benchmark_disable"):
        groups = [group for group in groups if "small" in group.tags]
    pairs = [(group.name, name) for group in groups for name in _ours_first(group)]
    if metafunc.config.getoption("benchmark_disable"):
        pairs = [(group, name) for group, name in pairs if name not in contest.SLOW]
    metafunc.parametrize(("group", "implementation"), pairs, ids=[f"{group}-{name}" for group, name in pairs])


def _ours_first(group):  # type: ignore[no-untyped-def]
    return sorted(group.implementations, key=lambda name: name != group.ours)
