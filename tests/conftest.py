"""A skipped test proves nothing, so a run may skip only for the reasons listed here; any other skip fails it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["tally"]
"""Of tests/support."""

ALLOWED_SKIPS = {
    "zsh is not installed": "activate is then tried in bash only",
    "the official Pulumi CLI is not installed": "the stand-in language host is then the one that is tried",
    "no network namespace can be made here": "a change of the machine's address is then not tried",
    "no mount namespace can be made here": "full disks are then those of fakes",
    "no Ray": "the machine cannot run a Ray cluster",
}
"""Reason, as the test gives it -> what goes untested."""

LONGEST = ("test_whole_path.py", "test_whole_runs.py", "test_serving_cluster.py")
"""Files that take minutes, the longest first."""

_unexpected = pytest.StashKey[list[str]]()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The life-cycle suite takes long: it runs where it is named (`make test-lifecycle`), never by the way."""
    named = any("lifecycle" in argument for argument in config.args)
    return True if collection_path.name == "lifecycle" and not named else None


@pytest.fixture(autouse=True, scope="session")
def state_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where leased clusters take their places under a ceiling: a real one's count is none of the tests' business."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state-home")))
        yield


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `lifecycle` stay for that suite. The longest files come first, then others with slow tests.

    So the last worker to finish has not begun late.
    """
    apart = [item for item in items if item.get_closest_marker("lifecycle")]
    if apart and not any("lifecycle" in argument for argument in config.args):
        config.hook.pytest_deselected(items=apart)
        items[:] = [item for item in items if item not in apart]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (item.path not in slow, rank.get(item.path.name, len(rank))))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_unexpected] = []


class _Skips:
    """Collects the skips that no list allows."""

    def __init__(self, config: pytest.Config) -> None:
        self._found = config.stash[_unexpected]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._look(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._look(report)

    def _look(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if reason.removeprefix("Skipped: ") not in ALLOWED_SKIPS:
            self._found.append(f"{report.nodeid}: {reason}")


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(_Skips(session.config), "stackyard-skips")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash[_unexpected] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash[_unexpected]:
        terminalreporter.write_line(f"a skip that no list allows (tests/conftest.py): {line}", red=True)
