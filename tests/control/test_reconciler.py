"""The reconciler against a real store and journal, with runs that are fakes: killed anywhere, it goes on."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

import played
from stackyard.clock import VirtualClock
from stackyard.control.__main__ import main
from stackyard.control.journal import Journal
from stackyard.control.reconciler import Reconciler
from stackyard.control.settings import ControllerSettings
from stackyard.store import audit, bundles, layout, releases
from stackyard.store.documents import canonical, public_text
from stackyard.store.keys import ensure_signing_key
from stackyard.store.objects import Store


class FakeRuns:
    """Runs that live until they are ended by the test."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.intents: dict[str, dict[str, Any]] = {}
        self.living: set[str] = set()

    def start(self, run_id: str, intent: dict[str, Any]) -> int:
        self.started.append(run_id)
        self.intents[run_id] = intent
        self.living.add(run_id)
        return 100 + len(self.started)

    def alive(self, run_id: str, pid: int | None) -> bool:
        return run_id in self.living and pid is not None


class FakeProjector:
    """Remembers what it was asked to show; ends as the test says."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.ended: dict[str, bool] = {}
        self.under_way: set[str] = set()

    def busy(self, run_id: str) -> bool:
        return run_id in self.under_way

    def start(self, run_id: str, projection: dict[str, Any]) -> None:
        self.asked.append(projection)
        self.under_way.add(run_id)

    def finished(self) -> dict[str, bool]:
        ended, self.ended = self.ended, {}
        self.under_way -= set(ended)
        return ended


class World:
    """A folder, a clock, fakes; and controllers that may be made anew at any time."""

    def __init__(self, folder: Path) -> None:
        project = folder / "project"
        project.mkdir()
        (project / "features.py").write_text("def build(frame):\n    return frame\n")
        self.clock = VirtualClock(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        self.store = Store.open(folder / "store")
        self.runs, self.projector = FakeRuns(), FakeProjector()
        self.settings = ControllerSettings(
            stack="local",
            stack_id="0123abcd",
            model="m",
            store=str(folder / "store"),
            database=f"sqlite:///{folder}/db/journal.sqlite",
            mlflow="http://127.0.0.1:9",
            signing_key=folder / "keys" / "release",
            project={"name": "m"},
            project_folder=project,
            checkout=folder,
            runtime=folder / "runtime",
            cache=folder / "cache",
            log_folder=folder / "logs",
            token_path=folder / "keys" / "token",
            node_address="127.0.0.9",
        )
        self.journal = Journal(self.settings.database)
        self.journal.migrate()
        self.controller = self.another()

    def another(self) -> Reconciler:
        """A controller that knows nothing but what the world holds."""
        return Reconciler(
            self.settings,
            store=self.store,
            journal=self.journal,
            runs=self.runs,  # type: ignore[arg-type]
            projector=self.projector,  # type: ignore[arg-type]
            clock=self.clock,
        )

    def end(self, run_id: str, **result: Any) -> None:
        """The process of `run_id` ends, with a result when one is given."""
        self.runs.living.discard(run_id)
        if result:
            self.store.create(layout.run(run_id, "result.json"), canonical({"run_id": run_id, "seconds": 5.0} | result))

    def bundle(self) -> str:
        return bundles.publish(self.store, {"lineage.json": b"{}"}, {"model": "m"})

    def newest(self) -> releases.Release | None:
        key = ensure_signing_key(self.settings.signing_key)
        return releases.newest(self.store, "m", [public_text(key.public_key())])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_without_a_champion_one_is_trained_and_released_once(world: World) -> None:
    for _ in range(3):
        world.controller.step()
    (run_id,) = world.runs.started
    world.end(run_id, status="succeeded", bundle=world.bundle())
    for _ in range(3):
        world.controller.step()
    release = world.newest()
    assert release is not None
    assert (release.number, release.champion, world.runs.started) == (1, world.bundle(), [run_id])


@pytest.mark.parametrize("steps", range(6), ids=lambda steps: f"killed after {steps} steps")
def test_a_controller_killed_at_any_step_is_followed_by_one_that_ends_the_same(world: World, steps: int) -> None:
    for step in range(8):
        if step == steps:
            world.controller = world.another()
        if step == 2:
            world.end(world.runs.started[0], status="succeeded", bundle=world.bundle())
        world.controller.step()
    release = world.newest()
    assert release is not None
    assert (release.number, len(world.runs.started)) == (1, 1)


def test_a_run_that_dies_without_a_result_is_taken_up_under_its_own_id(world: World) -> None:
    world.controller.step()
    world.end(world.runs.started[0])
    world.clock.advance(minutes=1)
    world.another().step()
    first, second = world.runs.started
    assert first == second


def test_a_run_that_keeps_dying_is_given_up_and_not_tried_for_ever(world: World) -> None:
    for _ in range(40):
        world.controller.step()
        for run_id in list(world.runs.living):
            world.end(run_id)
        world.clock.advance(minutes=10)
    assert len(set(world.runs.started)) == 3  # decide.PATIENCE
    assert "Change the project" in world.journal.decisions("m")[0].reason


@pytest.mark.parametrize("seconds", [None, 5.0], ids=["no-time", "five-seconds"])
def test_a_failed_run_is_tried_again_whether_or_not_its_time_is_known(world: World, seconds: float | None) -> None:
    world.controller.step()
    world.end(world.runs.started[0], status="failed", reason="the training process crashed", seconds=seconds)
    world.clock.advance(minutes=5)
    world.controller.step()
    assert len(set(world.runs.started)) == 2


def test_a_run_interrupted_by_a_change_of_the_project_is_not_taken_up_with_its_old_data_and_code(world: World) -> None:
    world.controller.step()
    world.end(world.runs.started[0])
    (world.settings.project_folder / "features.py").write_text("def build(frame):\n    return frame.select('a')\n")
    world.clock.advance(minutes=1)
    for _ in range(2):
        world.controller.step()
    first, second = world.runs.started
    assert first != second
    assert json.loads(world.store.read(layout.run(first, "result.json")))["kind"] == "run-result"


def test_a_changed_project_gets_a_new_run_after_failures(world: World) -> None:
    world.controller.step()
    world.end(world.runs.started[0], status="failed", reason="bad data")
    (world.settings.project_folder / "features.py").write_text("def build(frame):\n    return frame.select('a')\n")
    world.controller.step()
    assert len(set(world.runs.started)) == 2


def test_a_lost_database_costs_neither_champion_nor_another_training(world: World, tmp_path: Path) -> None:
    world.controller.step()
    world.end(world.runs.started[0], status="succeeded", bundle=world.bundle())
    (tmp_path / "db" / "journal.sqlite").unlink()
    world.journal.close()
    world.journal = Journal(world.settings.database)
    world.journal.migrate()
    controller = world.another()
    for _ in range(3):
        controller.step()
    release = world.newest()
    assert release is not None
    assert release.champion == world.bundle()


def test_a_projection_that_fails_is_made_again_later_and_never_in_the_way(world: World) -> None:
    world.controller.step()
    (run_id,) = world.runs.started
    world.end(run_id, status="succeeded", bundle=world.bundle())
    for _ in range(4):
        world.controller.step()
    assert [projection["champion"] for projection in world.projector.asked] == [True]
    world.projector.ended = {run_id: False}
    world.controller.step()
    assert len(world.projector.asked) == 1
    world.clock.advance(minutes=1)
    world.controller.step()
    assert len(world.projector.asked) == 2
    world.projector.ended = {run_id: True}
    world.controller.step()
    world.clock.advance(hours=1)
    world.controller.step()
    assert ["follow" in projection for projection in world.projector.asked] == [False, False, True]


def test_the_intent_carries_no_secret_and_can_be_read_as_json(world: World) -> None:
    world.controller.step()
    (intent,) = world.runs.intents.values()
    assert json.loads(canonical(intent))["project"] == {"name": "m"}
    assert {"commit", "dirty", "lock"} <= set(intent["facts"])


def test_a_step_that_keeps_failing_is_told_once_and_forgotten_when_it_is_over(world: World) -> None:
    trap = world.settings.project_folder / "link.py"
    trap.symlink_to("features.py")
    told = []
    for _ in range(3):
        with pytest.raises(Exception, match="symbolic link") as caught:
            world.controller.step()
        told.append(world.controller.note(caught.value))
    assert told == [True, False, False]
    (decision,) = world.journal.decisions("m")
    assert (decision.kind, "symbolic link" in decision.reason) == ("Failed", True)
    trap.unlink()
    world.controller.step()
    assert [each.kind for each in world.journal.decisions("m", 2)] == ["Looked", "StartRun"]


def test_a_controller_whose_store_is_away_ends_and_makes_no_empty_one(world: World, tmp_path: Path) -> None:
    away = world.settings.model_copy(update={"store": str(tmp_path / "away")})
    (tmp_path / "settings.json").write_text(away.model_dump_json())
    assert main(str(tmp_path / "settings.json")) == 1
    assert not (tmp_path / "away").exists()


def test_a_release_that_became_another_after_a_kill_has_an_audit_entry_of_its_own(tmp_path: Path) -> None:
    yard = played.Yard(tmp_path)
    loop = yard.controller()
    yard.settle(loop)
    key = ensure_signing_key(yard.settings.signing_key)
    log = audit.Log(yard.store, "m", key)
    log.append(
        at="then", who="controller", what="promoted", why="decided, and killed", event="release:2:0123456789abcdef"
    )
    yard.days(loop, 2)
    told = [entry.event or "" for entry in audit.entries(yard.store, "m", [public_text(key.public_key())])]
    assert len([event for event in told if event.startswith("release:2:")]) == 2
