"""A leased cluster in which somebody works all the time, while `pulumi`, the evacuation or everything is killed -9.

Slow (about ten minutes), and worth it: only the real engine, provider and saver together show that no kill between a
gate and its cluster loses a byte. Where the workspace is still there after a kill, somebody works on in it: the next
command must save that, too, or refuse and say so.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from killing import NOTHING, UP, Point, ground, in_good_order, killed_at
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


def plan(lent: Lent, operation: str) -> list[Point]:
    """What is done to cluster and gate, each with either command next and once with all of the engine's own processes
    killed; one of each other kind of event, which differs in nothing from what it is without a lease."""
    if operation != "up":
        assert lent.make_up() == 0
    if operation == "update":
        lent.edit()
    _, events = lent.told(operation, lambda _event: False)
    same, opposite = ("down", "up") if operation == "destroy" else ("up", "down")
    points: list[Point] = []
    for event, count in Counter(events).items():
        first = Point(operation, event, f"first of {count}", 1, same)
        doing = event.endswith(lent.named) and event.split()[1] in ("create", "update", "delete")
        points += [first, first._replace(then=opposite)] if doing else [first]
        points += [first._replace(victim="group")] if doing and "PreEvent" in event else []
    return points


def taken_up(lent: Lent, then: str, worked: bool, tally: Tally) -> str:
    """The next command, and what is wrong after it. It must refuse what was made after its gate had gone."""
    lent.remember()
    if then == "up":
        status = lent.make_up()
        if not status:
            lent.working()
            lent.remember()
        return f"make up ended with {status}" if status else lent.complaint()
    must = worked and lent.unguarded()
    status = lent.make_down()
    if must or status:
        tally.refusals.append(Refusal("a destroy between gate and cluster, after work", must, status != 0))
        if lost := lent.lacks(lent.instance(), lent.workspace, tally):
            return f"refused, and {lost}"
        status = lent.make_up() or lent.make_down()
    left = lent.leftovers()
    tally.leftovers += left
    return f"make down ended with {status}" if status else ", ".join(left)


STEPS = {"up": "create", "update": "update", "destroy": "delete"}


@pytest.mark.parametrize("operation", STEPS)
def test_after_a_kill_at_any_event_the_next_command_converges_and_no_work_is_lost(
    operation: str, lent: Lent, stranger: Stranger, neighbour: Stack, tally: Tally, capfd: pytest.CaptureFixture[str]
) -> None:
    others = neighbour.running()
    points = plan(lent, operation)
    state = NOTHING if operation == "destroy" else UP
    rows, late = list[Row](), 0
    for number, point in enumerate(in_good_order(points, state)):
        started = time.monotonic()
        killed = killed_at(lent, point, state)
        worked = False
        if point.victim == "engine":  # else the next command comes at once, while what was killed may still be at work
            lent.settled()
            worked = lent.work(f"late-{number}")
        late += worked
        wrong = taken_up(lent, point.then, worked, tally)
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
    assert late, "somebody worked on after a kill"
    done = {f"{event} {STEPS[operation]}" for event in ("resourcePreEvent", "resOutputsEvent")}
    changed = lent.named if operation != "update" else ("LeasedCluster",)  # no gate is ever updated
    assert {row.event for row in rows} >= {f"{event} {each}" for event in done for each in changed}
    assert [str(row) for row in rows if not row.killed or row.wrong] == []
    assert stranger.answers(), "somebody else's Ray is untouched"
