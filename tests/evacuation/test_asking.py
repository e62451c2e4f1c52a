"""Who trains is asked for a checkpoint before everything stands still, and nobody is waited for without end."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leased import TAG, Lab
from stackyard.evacuation import asking
from stackyard.store import trainings
from stackyard.store.trainings import Announced


class Hall:
    """Trainings that answer after so many looks, and a clock that goes on with each pause."""

    def __init__(self, lab: Lab, answers: dict[str, int | None]) -> None:
        self.folder, self.now, self.looks, self._answers = lab.base / "trainings", 0.0, 0, answers
        for name in answers:
            trainings.announce(self.folder / f"0-{name}.json", dataclasses.replace(trainings.here(name, 5), step=7))

    def pause(self, seconds: float) -> None:
        self.now, self.looks = self.now + seconds, self.looks + 1
        wanted = trainings.requested(self.folder)
        for name, after in self._answers.items():
            if after == self.looks and wanted:
                told = dataclasses.replace(trainings.here(name, 5), step=8, saved=8, answered=wanted)
                trainings.announce(self.folder / f"0-{name}.json", told)


@pytest.mark.parametrize(
    ("after", "seconds", "answered"),
    [
        pytest.param(1, 0.05, True, id="at-once"),
        pytest.param(40, 2.0, True, id="after-a-while"),
        pytest.param(None, 30.0, False, id="never"),
    ],
)
def test_who_trains_is_waited_for_as_long_as_the_settings_say(
    lab: Lab, after: int | None, seconds: float, answered: bool
):
    hall = Hall(lab, {"trees": after})
    with asking.asked(lab.settings, pause=hall.pause, clock=lambda: hall.now) as (told,):
        assert trainings.requested(hall.folder) is not None, "who answered waits until it is stopped"
    assert (told["name"], told["answered"]) == ("trees", answered)
    assert told["saved"] == (8 if answered else 5)
    assert hall.now == pytest.approx(seconds, abs=0.1)
    assert trainings.requested(hall.folder) is None, "nobody asks any more"
    assert asking.last(lab.settings) == [told]
    assert ("did not answer" in asking.sentences([told])[0]) is not answered


@pytest.mark.parametrize("changes", [{}, {"ask": 0}], ids=["nobody-trains", "not-to-be-asked"])
def test_where_there_is_nobody_to_ask_nobody_waits(lab: Lab, changes: dict[str, float]):
    hall = Hall(lab, {"trees": None} if changes else {})
    with asking.asked(lab.with_(**changes).settings, pause=hall.pause, clock=lambda: hall.now) as told:
        assert (hall.looks, len(told)) == (0, len(changes))


def _dead(lab: Lab) -> Announced:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return dataclasses.replace(trainings.here("dead", 0), pid=process.pid)


def _stopped(lab: Lab) -> Announced:
    process = subprocess.Popen(["sleep", "60"])
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    start = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    return dataclasses.replace(trainings.here("stopped", 0), pid=process.pid, start=start)


@pytest.mark.parametrize("who", [pytest.param(_dead, id="dead"), pytest.param(_stopped, id="stopped")])
def test_who_cannot_answer_is_not_waited_for(lab: Lab, who: Callable[[Lab], Announced]):
    hall, training = Hall(lab, {}), who(lab)
    trainings.announce(hall.folder / "9-it.json", training)
    with asking.asked(lab.settings, pause=hall.pause, clock=lambda: hall.now):
        assert hall.looks == 0
    if training.name == "stopped":
        os.kill(training.pid, signal.SIGKILL)
        os.waitpid(training.pid, 0)


def test_a_disk_that_takes_no_request_keeps_nobody_from_the_evacuation(lab: Lab):
    hall = Hall(lab, {"trees": None})
    (hall.folder / "request.json").mkdir()  # nothing can be written there
    with asking.asked(lab.settings, pause=hall.pause, clock=lambda: hall.now) as (told,):
        assert (told["name"], told["answered"], hall.looks) == ("trees", False, 0)


@pytest.mark.parametrize("odd", [{"pid": [1]}, {"where": {}}, {"step": "7"}, {"saved": None}, {"pid": True}])
def test_what_anybody_writes_among_the_trainings_stops_no_evacuation(lab: Lab, odd: dict[str, object]):
    hall = Hall(lab, {"trees": 1})
    told = dataclasses.asdict(trainings.here("odd", 0)) | {"where": "another machine"} | odd
    (hall.folder / "1-odd.json").write_text(json.dumps(told))
    with asking.asked(lab.settings, pause=hall.pause, clock=lambda: hall.now) as (one,):
        assert one["name"] == "trees"


def test_an_evacuation_stops_a_training_at_the_checkpoint_that_it_asked_for(lab: Lab):
    name, _, value = (lab.settings.processes_tag or "").partition("=")
    assert name == TAG
    command = [sys.executable, "-m", "stackyard.training.practice", str(lab.workspace), "--here"]
    environment = {**os.environ, name: value, trainings.WORKSPACE: str(lab.workspace)}
    told = [*command, "--steps", "1000000", "--every", "1000000", "--pace", "0.01"]
    process = subprocess.Popen(told, env=environment)
    try:
        while not [each for _, each in trainings.announced(lab.base / "trainings") if each.step > 2]:
            assert process.poll() is None
        outcome = lab.command("evacuate")
        assert outcome.code == 0, outcome
        (asked,) = outcome.told["asked"]
        assert asked["answered"] and asked["saved"] > 2
        assert trainings.said(lab.base / "trainings")[0].step == asked["saved"], "no step is to be done again"
        assert [int(path.stem.rpartition("-")[2]) for path in lab.workspace.glob("*.checkpoint")] == [asked["saved"]]
    finally:
        process.kill()
        process.wait()
