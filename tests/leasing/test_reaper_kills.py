"""Killed anywhere, a reaper loses nothing and leaves nobody standing: the next look brings everything to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from leased import picture
from lent import WRITES, Lent, gone, state
from stackyard.evacuation.failpoints import EVACUATING
from stackyard.leasing import verbs
from stackyard.leasing.failpoints import NAMES, RESUMING, SUSPENDING, TELLING, VARIABLE
from tally import Tally

STATES = {
    "look-noted": "S",
    "suspend-intended": "S",
    "suspend-saved": "T",
    "suspend-noted": "T",
    "suspend-ended": "ZX",
    "suspend-thawed": "ZX",
}
"""How the writer is when its reaper was killed at a place: at work, standing, or no more."""
KILLED = -signal.SIGKILL
WITHIN = EVACUATING[:3]
"""Places in the evacuation, which is a process of its own: that one dies, and the reaper tells."""


def _mostly_apart(places: Sequence[str], here: str) -> list[Any]:
    """All but one wait for the life-cycle suite: each takes some four processes, and ends in the same way."""
    return [place if place == here else pytest.param(place, marks=pytest.mark.lifecycle) for place in places]


def reap(bench: Lent) -> dict[str, Any]:
    code, told = verbs.reap([bench.folder])
    assert code == 0, told
    return told["clusters"][0]


def killed(bench: Lent, place: str, *command: str) -> None:
    """Run a verb that dies at `place`; a place that is never come to fails the test."""
    code, told = bench.command(*command, environment={VARIABLE: place})
    assert (code, told) == (KILLED, {})


def ended_for_good(bench: Lent, tmp_path: Path) -> None:
    """What every suspension comes to."""
    assert (reap(bench)["state"], bench.running()) == ("suspended", [])
    assert (bench.read("suspended.json")["whole"], bench.read("reaping.json")) == (True, None)
    assert bench.restored(tmp_path / "back") == picture(bench.workspace)
    before = bench.acts()
    assert (reap(bench)["did"], bench.acts()) == ([], before)


@pytest.mark.slow
@pytest.mark.parametrize("place", _mostly_apart(["look-noted", *SUSPENDING], "suspend-noted"))
def test_a_suspension_killed_anywhere_is_finished_by_the_next_look(
    bench: Lent, tmp_path: Path, tally: Tally, place: str
) -> None:
    """Slow: four processes a failpoint. Shows that no kill loses a byte or leaves a cluster half suspended."""
    writer, stranger = bench.start(WRITES), bench.start(tagged=False)
    bench.lease(ttl=600.0)
    killed(bench, place, "reap")
    assert state(writer.pid) in STATES[place]
    ended_for_good(bench, tmp_path)
    assert gone(writer)
    assert state(stranger.pid) == "S"
    tally.kill("reap", place, then="reap", killed=True)


@pytest.mark.slow
@pytest.mark.parametrize("place", _mostly_apart(WITHIN, "frozen"))
def test_an_evacuation_killed_under_its_reaper_leaves_nobody_standing(
    bench: Lent, tmp_path: Path, tally: Tally, place: str
) -> None:
    """Slow: processes. Shows that the reaper lets go whom its evacuation had stopped, and tries again."""
    writer = bench.start(WRITES)
    bench.lease(ttl=600.0)
    code, told = bench.command("reap", environment={VARIABLE: place})
    assert (code, "gave no answer" in told["clusters"][0]["failed"]) == (1, True)
    assert writer.stdout is not None
    writer.stdout.readline()
    assert (bench.read("suspended.json"), bench.read("reaping.json"), bench.acts()) == (None, None, [])
    ended_for_good(bench, tmp_path)
    tally.kill("reap", place, then="reap", killed=True)


@pytest.mark.slow
@pytest.mark.parametrize("place", _mostly_apart(SUSPENDING[:3], "suspend-saved"))
def test_who_was_stopped_by_a_killed_reaper_goes_on_when_the_lease_was_extended(
    bench: Lent, tally: Tally, place: str
) -> None:
    """Slow: processes. Shows that a lease which is no longer over ends nothing, whatever a reaper had begun."""
    writer = bench.start(WRITES)
    bench.lease(ttl=600.0, extend={"times": 1, "by": 7200.0})
    killed(bench, place, "reap")
    assert verbs.extend(bench.folder, 7200.0, "ada", "a paper")[0] == 0
    answer = reap(bench)
    assert (answer["state"], bench.read("suspended.json"), bench.read("reaping.json")) == ("open", None, None)
    assert writer.poll() is None
    assert writer.stdout is not None
    for _ in range(3):
        writer.stdout.readline()
    tally.kill("reap", place, then="extend", killed=True)


@pytest.mark.slow
@pytest.mark.parametrize("place", _mostly_apart(RESUMING, "resume-cleared"))
def test_a_resumption_killed_anywhere_is_finished_by_the_next_look(bench: Lent, tally: Tally, place: str) -> None:
    """Slow: processes. What a person asked for is not forgotten because somebody killed its command."""
    bench.start()
    assert verbs.suspend(bench.folder, "a quiet month", "asked")[0] == 0
    killed(bench, place, "resume", "--by", "ada")
    assert (reap(bench)["state"], len(bench.running())) == ("open", 1)
    assert (bench.read("suspended.json"), bench.read("reaping.json")) == (None, None)
    assert bench.read("idle.json")["resumed"]["by"] == "ada"
    assert reap(bench)["did"] == []
    tally.kill("resume", place, then="reap", killed=True)


@pytest.mark.slow
@pytest.mark.lifecycle
def test_a_warning_and_an_extension_that_were_noted_stay_so(bench: Lent, tally: Tally) -> None:
    """Slow: processes."""
    bench.lease(ttl=3600.0 + 1800.0, extend={"times": 1, "by": 60.0})
    killed(bench, "warning-noted", "reap")
    assert len([each for each in reap(bench)["events"] if ":warning:" in each["key"]]) == 1
    killed(bench, "extension-noted", "extend", "--seconds=60", "--by=ada", "--because=a paper")
    assert verbs.extend(bench.folder, 60.0, "ada", "a paper")[0] == 0
    assert len(bench.read("extensions.json")["extensions"]) == 1
    for place, then in (("warning-noted", "reap"), ("extension-noted", "extend")):
        tally.kill("reap" if then == "reap" else "extend", place, then=then, killed=True)


@pytest.mark.slow
def test_a_reaper_that_is_asked_to_end_lets_everybody_go_on(bench: Lent, tmp_path: Path) -> None:
    """Slow: processes. A controller that stops sends SIGTERM; nobody may stay frozen for that."""
    writer = bench.start(WRITES)
    (bench.workspace / "large").write_bytes(os.urandom(8 << 20))
    bench.lease(ttl=600.0)
    reaper = subprocess.Popen([sys.executable, "-m", "stackyard.leasing", "reap", str(bench.folder)])
    while state(writer.pid) == "S" and reaper.poll() is None:
        time.sleep(0.002)
    reaper.terminate()
    reaper.wait()
    if bench.read("suspended.json") is None:
        assert writer.stdout is not None
        writer.stdout.readline()
    ended_for_good(bench, tmp_path)


def test_every_failpoint_is_killed_at() -> None:
    assert set(NAMES) == {*SUSPENDING, *RESUMING, *TELLING}
    assert TELLING == ("look-noted", "warning-noted", "extension-noted")
    assert len(NAMES) == len(set(NAMES))
