"""A rehearsal measures what a fault costs a real training, and leaves nothing behind, however it ends.

The trainings are real processes; Ray, which would start them, is played: what it does is start and forget.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leased import Lab, leased
from stackyard.rehearsals import away, course, faults, running
from stackyard.rehearsals.cluster import Cluster, Silent
from stackyard.rehearsals.running import BusyError, RehearsalError, Rehearsed, clear, rehearse
from stackyard.spec.leases import RehearsalSpec
from stackyard.store import trainings

ANY = RehearsalSpec()


class Played(Cluster):
    """A cluster whose Ray starts what it is given in a process of this machine, and dies as told."""

    def __init__(self, lab: Lab) -> None:
        (lab.base / "evacuation.json").write_text(lab.settings.model_dump_json())
        super().__init__(lab.base, lab.settings, {})
        self.__dict__.update(running={}, silent=0, others={}, killed=[], lingering={})

    def jobs(self) -> dict[str, str]:
        if self.__dict__["silent"] > 0:
            self.__dict__["silent"] -= 1
            raise Silent("it is starting")
        living = {name: "RUNNING" for name, job in self.__dict__["running"].items() if job.poll() is None}
        lingering = {name: "RUNNING" for name, times in self.__dict__["lingering"].items() if times > 0}
        self.__dict__["lingering"] = {name: times - 1 for name, times in self.__dict__["lingering"].items()}
        return living | lingering | self.__dict__["others"]

    def submit(self, name: str, entrypoint: str) -> None:
        tag, _, value = (self.settings.processes_tag or "").partition("=")
        environment = {**os.environ, tag: value, trainings.VARIABLE: str(self.trainings)}
        command = [*shlex.split(entrypoint), "--here"]
        self.__dict__["running"][name] = subprocess.Popen(command, env=environment)

    def stop(self, name: str) -> None:
        self.__dict__["running"][name].terminate()
        self.__dict__["running"][name].wait()
        self.__dict__["lingering"][name] = 3  # Ray says that a job ended a little later

    def part_of(self, pid: int) -> str | None:
        return "worker-0"

    def kill(self, name: str) -> int:
        for job in self.__dict__["running"].values():
            job.kill()
            job.wait()
        self.__dict__.update(silent=1)
        self.__dict__["killed"].append(name)
        return len(self.__dict__["running"])

    def end(self) -> None:
        for job in self.__dict__["running"].values():
            job.kill()
            job.wait()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    monkeypatch.setattr(course, "_AGAIN", 0.2)
    monkeypatch.setattr(course, "_PACE", 0.01)
    monkeypatch.setattr(faults, "OUTAGE", 0.3)
    lab = leased(tmp_path)
    (lab.workspace / "mine.txt").write_text("work")
    lab.save()
    made = Played(lab)
    yield made
    made.end()


def _quiet(_sentence: str) -> None:
    return


def _left(cluster: Cluster) -> set[str]:
    """What is in the workspace and beside it that a rehearsal put there."""
    beside = {path.name for path in cluster.folder.iterdir()}
    return {path.name for path in cluster.workspace.iterdir()} | beside & {"rehearsing.json", "store-away.json"}


@pytest.mark.parametrize(("scenario", "part"), [("preemption", "worker-0"), ("head-loss", "head")])
def test_a_training_that_is_killed_goes_on_from_its_checkpoint(cluster: Played, scenario: Any, part: str):
    found = rehearse(cluster, scenario, ANY, yes=False, say=_quiet)
    assert found.held, found
    measured = found.measured
    assert measured.steps_lost is not None and 0 <= measured.steps_lost <= course._EVERY
    assert measured.steps_before >= 2 * course._EVERY and measured.resume and measured.resume > 0
    assert measured.at_risk and measured.bytes_lost == 0, "its own checkpoints were not saved yet"
    assert cluster.__dict__["killed"] == [part] and found.notes["jobs"] == 2
    assert _left(cluster) == {"mine.txt"}
    assert json.loads((cluster.folder / "rehearsals.json").read_text())["last"][scenario] == found.plain()


def test_a_training_goes_on_while_the_store_is_away(cluster: Played):
    found = rehearse(cluster, "store-outage", ANY, yes=False, say=_quiet)
    assert found.held, found
    assert (found.measured.steps_lost, found.notes["save_while_away"], found.notes["jobs"]) == (0, "store_away", 1)
    assert found.measured.at_risk and found.notes["saved_again"] is not None
    assert _left(cluster) == {"mine.txt"}
    assert Path(cluster.settings.store).is_dir()


def test_at_a_leases_end_the_checkpoint_that_was_asked_for_leaves_no_step_to_do_again(
    cluster: Played, monkeypatch: pytest.MonkeyPatch
):
    def leasing(_cluster: Cluster, verb: str, *_more: str) -> None:
        if verb == "suspend":
            settled = cluster.folder / "evacuation.json"
            done = subprocess.run([sys.executable, "-m", "stackyard.evacuation", "suspend", str(settled)])
            assert done.returncode == 0
            cluster.kill("all")

    monkeypatch.setattr(faults, "_leasing", leasing)
    found = rehearse(cluster, "lease-end", ANY, yes=False, say=_quiet)
    assert found.held, found
    assert found.notes["answered"] != []
    assert found.measured.steps_lost == 0


def test_an_objective_that_is_missed_is_told(cluster: Played):
    strict = RehearsalSpec.model_construct(resume=0.0)
    found = rehearse(cluster, "preemption", strict, yes=False, say=_quiet)
    assert [each.name for each in found.checks if not each.held] == ["time to resume"]
    assert not found.held and found.plain()["held"] is False


def test_where_somebody_works_nothing_is_rehearsed_without_a_yes(cluster: Played):
    cluster.__dict__["others"] = {"raysubmit_1": "RUNNING"}
    trainings.announce(cluster.trainings / "1-theirs.json", trainings.here("trees", 3))
    with pytest.raises(BusyError, match=r"raysubmit_1 is running; training trees is at step 3"):
        rehearse(cluster, "preemption", ANY, yes=False, say=_quiet)
    assert _left(cluster) == {"mine.txt"} and not cluster.__dict__["running"]
    assert rehearse(cluster, "preemption", ANY, yes=True, say=_quiet).held


def test_a_ray_that_does_not_answer_is_no_yes(cluster: Played):
    cluster.__dict__["silent"] = 9
    with pytest.raises(RehearsalError, match="not to be asked"):
        rehearse(cluster, "preemption", ANY, yes=False, say=_quiet)


def test_of_two_rehearsals_the_second_is_refused(cluster: Played):
    with running._alone(cluster), pytest.raises(BusyError, match="another rehearsal"):
        rehearse(cluster, "preemption", ANY, yes=False, say=_quiet)


def test_a_rehearsal_that_fails_or_is_interrupted_clears_away_what_it_made(
    cluster: Played, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: Any) -> faults.Happened:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        raise AssertionError

    monkeypatch.setitem(faults.FAULTS, "preemption", faults.Fault("it", interrupted))
    with pytest.raises(KeyboardInterrupt):
        rehearse(cluster, "preemption", ANY, yes=False, say=_quiet)
    assert _left(cluster) == {"mine.txt"}
    assert not [job for job in cluster.__dict__["running"].values() if job.poll() is None]


def test_what_a_killed_rehearsal_left_is_taken_away_by_the_next(cluster: Played):
    run = course.Course(cluster, _quiet)
    (cluster.folder / "rehearsing.json").write_text(json.dumps({"name": run.name, "pid": 1}))
    run._until(lambda: run._living(saved=course._EVERY), 60)
    away.take(Path(cluster.settings.store), cluster.folder / "store-away.json")
    assert _left(cluster) == {"mine.txt", run.name, "rehearsing.json", "store-away.json"}
    clear(cluster)
    assert _left(cluster) == {"mine.txt"}
    assert Path(cluster.settings.store).is_dir()
    assert not [job for job in cluster.__dict__["running"].values() if job.poll() is None]
    clear(cluster)


@pytest.mark.parametrize("silent", [True, False], ids=["long-ago", "a-moment-ago"])
def test_after_a_reboot_nobody_is_killed_for_having_the_number_of_a_rehearsed_training(
    cluster: Played, monkeypatch: pytest.MonkeyPatch, silent: bool
):
    killed = list[tuple[int, int]]()
    monkeypatch.setattr(running.os, "kill", lambda *told: killed.append(told))
    monkeypatch.setattr(running, "_END", 5.2)
    told = trainings.Announced("rehearsal-1", os.getpid(), 1, "another boot", 0, 7, 0)
    trainings.announce(place := cluster.trainings / "1-a.json", told)
    (cluster.folder / "rehearsing.json").write_text(json.dumps({"name": "rehearsal-1", "pid": 1}))
    if silent:
        os.utime(place, (0, 0))
        clear(cluster)
        assert not (cluster.folder / "rehearsing.json").exists(), "the next rehearsal may begin"
    else:
        with pytest.raises(RehearsalError, match="does not end"):
            clear(cluster)
    assert killed == []


def test_a_cluster_that_a_killed_rehearsal_left_suspended_is_started_again(
    cluster: Played, monkeypatch: pytest.MonkeyPatch
):
    said, suspended = list[str](), cluster.folder / "suspended.json"

    def leasing(_cluster: Cluster, verb: str, *_more: str) -> None:
        said.append(verb)
        if len(said) == 1:
            raise faults.FaultError("Ray does not start")
        suspended.unlink()

    monkeypatch.setattr(faults, "_leasing", leasing)
    suspended.write_text(json.dumps({"because": faults.BECAUSE}))
    clear(cluster)
    assert said == [], "nobody rehearses"
    (cluster.folder / "rehearsing.json").write_text(json.dumps({"name": "rehearsal-1", "scenario": "lease-end"}))
    with pytest.raises(RehearsalError, match="Ray does not start"):
        rehearse(cluster, "preemption", ANY, yes=False, say=_quiet)
    clear(cluster)
    assert said == ["resume", "resume"]
    assert _left(cluster) == {"mine.txt"}


@pytest.mark.parametrize("told", ['{"because": "its last day was 2027-02-01"}', "{}", "5", "{"])
def test_a_cluster_that_somebody_else_suspended_stays_so(cluster: Played, monkeypatch: pytest.MonkeyPatch, told: str):
    said = list[str]()
    monkeypatch.setattr(faults, "_leasing", lambda _cluster, verb, *_: said.append(verb))
    (cluster.folder / "suspended.json").write_text(told)
    (cluster.folder / "rehearsing.json").write_text(json.dumps({"name": "rehearsal-1", "scenario": "lease-end"}))
    clear(cluster)
    assert said == []
    assert not (cluster.folder / "rehearsing.json").exists()


def test_a_record_that_was_written_by_half_is_of_nothing(cluster: Played):
    (cluster.folder / "rehearsing.json").write_text('{"na')
    clear(cluster)
    assert _left(cluster) == {"mine.txt"}


def test_a_file_that_goes_with_the_fault_is_counted(cluster: Played, monkeypatch: pytest.MonkeyPatch):
    def fatal(_cluster: Cluster, _training: Any, _look: Callable[[], None]) -> faults.Happened:
        (cluster.workspace / "mine.txt").unlink()
        cluster.kill("worker-0")
        return faults.Happened()

    monkeypatch.setitem(faults.FAULTS, "preemption", faults.Fault("it", fatal))
    found: Rehearsed = rehearse(cluster, "preemption", ANY, yes=False, say=_quiet)
    assert (found.measured.bytes_lost, found.held) == (4, False)
