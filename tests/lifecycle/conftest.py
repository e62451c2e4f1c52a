"""What the suite counted, told at its end: a table of the kills, and as the very last line one JSON object."""

from __future__ import annotations

import pytest

from tally import Tally

_tally = pytest.StashKey[Tally]()


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    """Where tests write down what they found."""
    return pytestconfig.stash.setdefault(_tally, Tally())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tally = config.stash.get(_tally, None)
    if tally and tally.rows:
        terminalreporter.section("pulumi killed -9")
        for row in tally.rows:
            terminalreporter.write_line(str(row))


def pytest_unconfigure(config: pytest.Config) -> None:
    # Later than the terminal's own last line.
    tally = config.stash.get(_tally, None)
    if tally:
        config.get_terminal_writer().line(tally.line())
