"""A leased cluster in which somebody works all the time, while `pulumi`, the evacuation or everything is killed -9.

Slow (about ten minutes), and worth it: only the real engine, provider and saver together show that no kill between a
gate and its cluster loses a byte. Where the workspace is still there after a kill, somebody works on in it: the next
command must save that, too, or refuse and say so.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from killing import NOTHING, UP, Point, ground, in_good_order
from lending import CLUSTER, Lent, lived_through
from stackyard_infra.provider import tagged
from stranger import Stranger, strangers_ray
from tally import Row, Tally
from toy import Stack, toy_checkout, wait_until

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


STEPS = {"up": "create", "update": "update", "destroy": "delete"}


@pytest.mark.parametrize("operation", STEPS)
def test_after_a_kill_at_any_event_the_next_command_converges_and_no_work_is_lost(
    operation: str,
    lent: Lent,
    neighbour: Stack,
    tally: Tally,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    stranger = request.getfixturevalue("stranger") if operation == "destroy" else None
    others = neighbour.running()
    points = plan(lent, operation)
    state, rows = NOTHING if operation == "destroy" else UP, list[Row]()
    for point in in_good_order(points, state):
        rows.append(lived_through(lent, point, state, tally))
        state = UP if point.then == "up" else NOTHING
        with capfd.disabled():
            print(f"\n{rows[-1]}", end="", flush=True)
        assert neighbour.running() == others, "another stack is untouched"
    assert lent.made, "somebody worked on after a kill"
    done = {f"{event} {STEPS[operation]}" for event in ("resourcePreEvent", "resOutputsEvent")}
    changed = lent.named if operation != "update" else ("LeasedCluster",)  # no gate is ever updated
    assert {row.event for row in rows} >= {f"{event} {each}" for event in done for each in changed}
    assert [str(row) for row in rows if not row.killed or row.wrong] == []
    assert stranger is None or stranger.answers(), "somebody else's Ray is untouched"


def test_with_everything_gone_and_nobody_destroying_what_is_older_than_the_newest_version_comes_back(
    lent: Lent, tally: Tally
) -> None:
    """The whole cluster is killed and its folder removed, at moments that are drawn; the saver saves all the time."""
    drawn = random.Random(SEED)
    tally.seeds["everything_gone"] = SEED
    lent.saves("10s")
    for number in range(3):
        assert lent.make_up() == 0
        lent.working()
        lent.work(f"work-{number}")
        lent.remember()
        instance = lent.instance()
        time.sleep(drawn.uniform(11, 16))  # the shortest that may be asked for is 10 seconds
        tagged.end(lent.stack_id, grace=0)
        shutil.rmtree(lent.beside)
        newest = max((lent.store / "workspaces" / CLUSTER / "versions").glob("*.json"))
        version = json.loads(newest.read_bytes())["body"]
        assert version["instance"] == instance
        started = dt.datetime.fromisoformat(version["started"]).timestamp()
        wrong = lent.restored("latest", lent.folder / "back")
        wrong = wrong or lent.lacks(instance, lent.folder / "back", tally, until=started)
        lent.checked.add(instance)
        tally.rows.append(Row("lend", "everything", f"{number + 1} of 3", "cluster", "up", True, wrong, 0))
        assert not wrong
    assert lent.make_up() == 0
    lent.working()
    lent.remember()
    assert lent.complaint() == ""
    assert lent.make_down() == 0
    left = lent.leftovers()
    tally.leftovers += left
    assert left == []
    assert lent.gone_well(tally) == ""


def test_an_evacuation_killed_at_any_moment_is_done_by_the_next_destroy(lent: Lent, tally: Tally) -> None:
    """The process that a gate asks is killed, at moments that are drawn: refused, and nobody stands still for good."""
    drawn, asked = random.Random(SEED), f"evacuation-{CLUSTER}"
    tally.seeds["evacuation_killed"] = SEED
    for number in range(4):
        assert lent.make_up() == 0
        lent.working()
        lent.remember()
        delay = drawn.random() * 1.2
        engine = subprocess.Popen(
            lent.command("destroy", "--yes", "--skip-preview"), cwd=lent.folder, env=lent.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(lambda engine=engine: tagged.find(lent.stack_id, asked) or engine.poll() is not None)
        time.sleep(delay)
        victims = [each for each in tagged.find(lent.stack_id, asked) if "evacuate" in each.cmdline()]
        for victim in victims:
            victim.kill()
        ended = engine.wait()
        wrong = "" if not victims or ended else "a gate took a killed evacuation for a yes"
        lent.settled()
        worked = lent.beside.exists() and lent.work(f"after-{number}")
        wrong = wrong or lent.next("down" if number % 2 else "up", worked, tally)
        if not number % 2:
            wrong = wrong or lent.next("down", False, tally)
        wrong = wrong or lent.gone_well(tally)
        row = Row("destroy", "evacuation", f"after {delay:.2f} s", "process", "down", True, wrong, 0)
        tally.rows.append(row)
        assert not wrong, row
