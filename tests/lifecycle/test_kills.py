"""`pulumi` killed -9 at every kind of event that its engine tells, and the next `make up` or `make down`.

Slow (about ten minutes), and worth it: what a kill leaves behind (a lock, a half-written state, a resource that no
state knows) differs from moment to moment, and only the real engine shows every one of them. The healing is that of
`make`; the stack is a small one, since what heals is the engine's, the tools' and the provider's, not the product's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from killing import NOTHING, UP, Ground, Point, ground, in_good_order, killed_at, points_of
from stackyard_infra.provider import tagged
from tally import Row, Tally

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(3600)]


class Servers(Ground):
    """Two web servers under a supervisor."""

    def edit(self) -> None:
        self.edition += 1
        (self.folder / "infra/mlflow.txt").write_text(f"edition {self.edition}")

    def complaint(self) -> str:
        """What is wrong with a stack that should be up; empty: nothing."""
        there = Counter(tagged.tags_of(process.pid).get(tagged.PROCESS_TAG) for process in tagged.find(self.stack_id))
        if there != Counter(["supervisor", "mlflow", "metrics"]):
            return f"runs {dict(there)}"
        if len(self.ports()) != 2:
            return f"listens on {self.ports()}"
        note = self.folder / ".stackyard/local/etc/mlflow/note"
        if note.read_text() != (self.folder / "infra/mlflow.txt").read_text():
            return "mlflow does not run on its newest edition"
        return self.differs()


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    with ground(Servers, tmp_path, monkeypatch) as made:
        made.pulumi("config", "set", "--secret", "TOKEN", "anything")
        yield made


def plan(servers: Servers) -> list[Point]:
    """Every kill point of the three operations, found by running each once, unharmed."""
    points: list[Point] = []
    for operation in ("up", "update", "destroy"):
        if operation == "update":
            servers.edit()
        _, events = servers.told(operation, lambda _event: False)
        points += points_of(operation, events)
    steps = {f"resourcePreEvent {step}" for step in ("create", "update", "delete")}
    return points + [
        p._replace(victim="group") for p in points if p.event in steps and p.occurrence.startswith("first")
    ]


def test_after_a_kill_at_any_event_the_next_command_converges(
    servers: Servers, tally: Tally, capfd: pytest.CaptureFixture[str]
) -> None:
    state, rows = NOTHING, list[Row]()
    for point in in_good_order(plan(servers)):
        started = time.monotonic()
        killed = killed_at(servers, point, state)
        status = servers.make_up() if point.then == "up" else servers.make_down()
        wrong = f"make {point.then} ended with {status}" if status else ""
        state = UP if point.then == "up" else NOTHING
        if state == UP:
            wrong = wrong or servers.complaint()
        else:
            left = servers.leftovers()
            tally.leftovers += left
            wrong = wrong or ", ".join(left)
        tally.leftovers += (strays := servers.settled())
        wrong = wrong or ", ".join(strays)
        seconds = time.monotonic() - started
        rows.append(
            Row(point.operation, point.event, point.occurrence, point.victim, point.then, killed, wrong, seconds)
        )
        tally.rows.append(rows[-1])
        with capfd.disabled():
            print(f"\n{rows[-1]}", end="", flush=True)
    kinds = {(row.operation, row.event.split()[0]) for row in rows}
    assert {kind for _, kind in kinds} >= {"preludeEvent", "resourcePreEvent", "resOutputsEvent", "summaryEvent"}
    assert [str(row) for row in rows if not row.killed or row.wrong] == []
    assert tally.leftovers == []
