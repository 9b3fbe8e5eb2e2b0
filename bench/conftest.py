"""Peers are held to one thread before any of them is imported; what is timed is a plugin's, or a default one's."""

from __future__ import annotations

import pytest

from bench import environment

environment.hold_to("", 1)

NAME = "bench-session"


def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.has_plugin(NAME):
        return
    from bench import session, suites

    config.pluginmanager.register(session.default(suites.all_groups()), NAME)


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config) -> object:
    """The bench.session.Session that says what is timed."""
    return pytestconfig.pluginmanager.get_plugin(NAME)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    from bench import contest

    if "implementation" not in metafunc.fixturenames:
        return
    groups = metafunc.config.pluginmanager.get_plugin(NAME).groups
    if metafunc.config.getoption("benchmark_disable"):
        groups = [group for group in groups if "small" in group.tags]
    pairs = [(group.name, name) for group in groups for name in _ours_first(group)]
    if metafunc.config.getoption("benchmark_disable"):
        pairs = [(group, name) for group, name in pairs if name not in contest.SLOW]
    metafunc.parametrize(("group", "implementation"), pairs, ids=[f"{group}-{name}" for group, name in pairs])


def _ours_first(group):  # type: ignore[no-untyped-def]
    return sorted(group.implementations, key=lambda name: name != group.ours)
