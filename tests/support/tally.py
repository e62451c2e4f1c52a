"""What a run counted, told at its end: a table of the kills, and as the very last line one JSON object.

A pytest plugin. What tests write down with the fixture `tally` is gathered from every worker; a run whose figures do
not hold (a kill that nothing converged after, a byte lost, a thing left over, a refusal that was none) fails, even if
every test in it passed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import pytest


class Row(NamedTuple):
    """One kill: when it came, what came after, and how that ended."""

    operation: str
    event: str
    occurrence: str
    victim: str
    then: str
    killed: bool
    wrong: str
    seconds: float

    def __str__(self) -> str:
        ended = "never hit" if not self.killed else self.wrong or "converged"
        when = f"{self.operation:<9}{self.event:<42}{self.occurrence:<15}"
        return f"{when}{self.victim:<8}then {self.then:<9}{self.seconds:5.1f} s  {ended}"


class Refusal(NamedTuple):
    """A situation in which a gate must refuse, or must not, and what it did."""

    situation: str
    must: bool
    did: bool


@dataclass
class Tally:
    """What the tests of one run found."""

    rows: list[Row] = field(default_factory=list[Row])
    leftovers: list[str] = field(default_factory=list[str])
    lost: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """What was lost beyond the objective, and how many bytes of it."""
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    seeds: dict[str, int] = field(default_factory=dict[str, int])
    """Of tests that draw what they do, by name."""

    def kill(self, operation: str, event: str, *, then: str, killed: bool, wrong: str = "", seconds: float = 0) -> None:
        """Write down the kill of a process that is no engine. Asserts that it came, and that all is well after it."""
        self.rows.append(Row(operation, event, "", "process", then, killed, wrong, seconds))
        assert killed, f"{operation}: {event} was never hit"
        assert not wrong, f"{operation}, killed at {event}: {wrong}"

    def holds(self) -> bool:
        """Whether nothing is wrong."""
        sound = all(row.killed and not row.wrong for row in self.rows)
        return sound and not self.leftovers and not self.lost and all(each.must == each.did for each in self.refusals)

    def merge(self, plain: dict[str, Any]) -> None:
        """Add what another process found."""
        self.rows += [Row(*each) for each in plain["rows"]]
        self.leftovers += plain["leftovers"]
        self.lost += [(what, size) for what, size in plain["lost"]]
        self.refusals += [Refusal(*each) for each in plain["refusals"]]
        self.seeds |= plain["seeds"]

    def line(self) -> str:
        """The run in one JSON object. `refusals_correct` is null where none was asked for."""
        told = {
            "kill_points": len(self.rows),
            "converged": sum(row.killed and not row.wrong for row in self.rows),
            "never_hit": sum(not row.killed for row in self.rows),
            "bytes_lost": sum(size for _, size in self.lost),
            "leaks": len(self.leftovers),
            "refusals_correct": all(each.must == each.did for each in self.refusals) if self.refusals else None,
            "refusals": len(self.refusals),
            "seeds": self.seeds,
        }
        return json.dumps(told)

    def anything(self) -> bool:
        """Whether any test wrote something down."""
        return bool(self.rows or self.leftovers or self.lost or self.refusals)


_KEY = pytest.StashKey[Tally]()
_NAME = "stackyard-tally"


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    """Where tests write down what they found."""
    return pytestconfig.stash[_KEY]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_KEY] = Tally()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker ended: what it found is ours."""
    if (found := getattr(node, "workeroutput", {}).get(_NAME)) is not None:
        node.config.stash[_KEY].merge(json.loads(found))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    tally = session.config.stash[_KEY]
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_NAME] = json.dumps(asdict(tally))
    elif not tally.holds() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tally = config.stash[_KEY]
    if tally.rows:
        terminalreporter.section("killed -9")
        for row in tally.rows:
            terminalreporter.write_line(str(row))
    for what, size in tally.lost:
        terminalreporter.write_line(f"lost: {what} ({size} bytes)", red=True)
    for each in tally.leftovers:
        terminalreporter.write_line(f"left over: {each}", red=True)
    for each in tally.refusals:
        if each.must != each.did:
            terminalreporter.write_line(f"wrong: {each.situation} was {'' if each.did else 'not '}refused", red=True)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    # Later than the terminal's own last line.
    tally = config.stash[_KEY]
    if tally.anything() and not hasattr(config, "workeroutput"):
        config.get_terminal_writer().line(tally.line())
