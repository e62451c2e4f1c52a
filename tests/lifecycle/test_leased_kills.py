"""A leased cluster in which somebody works all the time, while `pulumi`, the evacuation or everything is killed -9.

Slow (about ten minutes), and worth it: only the real engine, provider and saver together show that no kill between a
gate and its cluster loses a byte. Where the workspace is still there after a kill, somebody works on in it: the next
command must save that, too, or refuse and say so.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from killing import NOTHING, UP, Point, ground, in_good_order, killed_at, points_of
from lending import Lent
from stackyard_infra.provider import tagged
from stranger import Stranger, strangers_ray
from tally import Refusal, Row, Tally
from toy import Stack, toy_checkout

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(3600)]
SEED = int(os.environ.get("STACKYARD_SEED", "20261121"))


@pytest.fixture
def lent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lent]:
    with ground(Lent, tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture(scope="module")
def stranger() -> Iterator[Stranger]:
    with strangers_ray() as made:
        yield made


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Another stack on this machine."""
    base = tmp_path_factory.mktemp("neighbour")
    (base / "backend").mkdir()
    made = Stack(toy_checkout(base / "another checkout"))
    made.pulumi("stack", "init")
    made.pulumi("config", "set", "--secret", "TOKEN", "anything")
    made.up()
    yield made
    tagged.end(made.stack_id, grace=1)
    shutil.rmtree(made.runtime, ignore_errors=True)


def plan(lent: Lent) -> list[Point]:
    """First, middle and last of what is told of a lease, and one of each other kind of event: those differ in nothing
    from what they are without a lease."""
    points: list[Point] = []
    for operation in ("up", "update", "destroy"):
        if operation == "update":
            lent.edit()
        _, events = lent.told(operation, lambda _event: False)
        all_points = points_of(operation, events)
        leased = [point for point in all_points if point.event.endswith(lent.named)]
        others = {point.event: point for point in all_points if point not in leased}
        points += [*leased, *others.values()]
        steps = ("create", "update", "delete")
        points += [
            point._replace(victim="group")
            for point in leased
            if "PreEvent" in point.event and point.event.split()[1] in steps
        ]
    return points


def taken_up(lent: Lent, then: str, tally: Tally) -> str:
    """The next command, and what is wrong after it. An unguarded cluster with work in it must be refused first."""
    lent.remember()
    if then == "up":
        status = lent.make_up()
        if not status:
            lent.working()
            lent.remember()
        return f"make up ended with {status}" if status else lent.complaint()
    must = lent.unguarded() and bool(lent.made.get(lent.instance()))
    status = lent.make_down()
    if must or status:
        tally.refusals.append(Refusal("a destroy between gate and cluster, after work", must, status != 0))
        if lost := lent.lacks(lent.instance(), lent.workspace, tally):
            return f"refused, and {lost}"
        status = lent.make_up() or lent.make_down()
    left = lent.leftovers()
    tally.leftovers += left
    return f"make down ended with {status}" if status else ", ".join(left)


def test_after_a_kill_at_any_event_the_next_command_converges_and_no_work_is_lost(
    lent: Lent, stranger: Stranger, neighbour: Stack, tally: Tally, capfd: pytest.CaptureFixture[str]
) -> None:
    others = neighbour.running()
    state, rows, late = NOTHING, list[Row](), 0
    for number, point in enumerate(in_good_order(plan(lent))):
        started = time.monotonic()
        killed = killed_at(lent, point, state)
        if number % 3:  # else the next command comes at once, while what was killed may still be at work
            lent.settled()
            late += lent.work(f"late-{number}")
        wrong = taken_up(lent, point.then, tally)
        state = UP if point.then == "up" else NOTHING
        tally.leftovers += (strays := lent.settled())
        wrong = wrong or lent.gone_well(tally) or ", ".join(strays)
        seconds = time.monotonic() - started
        row = Row(point.operation, point.event, point.occurrence, point.victim, point.then, killed, wrong, seconds)
        rows.append(row)
        tally.rows.append(row)
        with capfd.disabled():
            print(f"\n{row}", end="", flush=True)
        assert neighbour.running() == others, "another stack is untouched"
    assert late > len(rows) // 3, "somebody worked on after most kills"
    assert {row.event for row in rows} >= {
        f"{event} {step} {of}"
        for event in ("resourcePreEvent", "resOutputsEvent")
        for step in ("create", "delete")
        for of in lent.named
    }
    assert [str(row) for row in rows if not row.killed or row.wrong] == []
    assert stranger.answers(), "somebody else's Ray is untouched"
