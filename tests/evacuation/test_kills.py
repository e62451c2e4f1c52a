"""Killed anywhere, the saver loses nothing: the next command brings everything to where an undisturbed one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leased import TAG, Lab, picture
from stackyard.evacuation.failpoints import ARRIVING, EVACUATING, NAMES, RESTORING, SAVING, THAWING, VARIABLE

KILLED = -signal.SIGKILL


@pytest.fixture
def filled(lab: Lab) -> Lab:
    (lab.workspace / "deep").mkdir()
    for number in range(20):
        (lab.workspace / "deep" / str(number)).write_bytes(os.urandom(500))
    (lab.workspace / "large").write_bytes(os.urandom(3 << 20))
    return lab


@pytest.fixture
def writer(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """Somebody who appends to a file all the time."""
    code = (
        "import time\nn=0\n"
        "while True:\n n+=1\n f=open('log','a'); f.write(f'{n}\\n'); f.close()\n"
        " print(n, flush=True)\n time.sleep(0.05)"
    )
    name, _, value = (lab.settings.processes_tag or "").partition("=")
    assert name == TAG
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=lab.workspace,
        env={**os.environ, name: value},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def moves(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T"


def restored(lab: Lab) -> dict[bytes, object]:
    outcome = lab.command("restore", "latest", str(lab.base / "back"))
    assert outcome.code == 0, outcome
    return picture(lab.base / "back")


@pytest.mark.slow
@pytest.mark.parametrize("place", SAVING)
def test_a_save_killed_anywhere_is_followed_by_one_that_saves_everything(filled: Lab, place: str) -> None:
    """Slow: three processes a failpoint. Shows that a half-done save is neither taken for a version nor in the way."""
    assert filled.command("save", environment={VARIABLE: place}).code == KILLED
    before = filled.command("status").told["version"]
    assert (before is not None) is (place in ("version-stored", "save-noted"))
    assert filled.command("save").code == 0
    assert restored(filled) == picture(filled.workspace)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["pack-stored", "version-stored"])
def test_after_a_kill_nothing_older_than_the_newest_version_is_lost_with_the_workspace(filled: Lab, place: str) -> None:
    """Slow: processes. The whole machine goes, nobody runs a destroy: what comes back is the newest whole version."""
    assert filled.command("save").code == 0
    want = picture(filled.workspace)
    (filled.workspace / "large").write_bytes(os.urandom(2 << 20))
    newer = picture(filled.workspace)
    assert filled.command("save", environment={VARIABLE: place}).code == KILLED
    subprocess.run(["rm", "-rf", str(filled.workspace), str(filled.settings.state)], check=True)
    assert restored(filled) == (newer if place == "version-stored" else want)


@pytest.mark.slow
@pytest.mark.parametrize("place", EVACUATING)
def test_an_evacuation_killed_anywhere_is_finished_by_the_next(
    filled: Lab, writer: subprocess.Popen[str], place: str
) -> None:
    """Slow: processes, and one that writes all the time. Shows that no kill leaves a workspace half evacuated."""
    assert filled.command("evacuate", environment={VARIABLE: place}).code == KILLED
    assert not moves(writer.pid) or place == "freeze-noted"
    assert (filled.command("receipt").code == 0) is (place in ("receipt-stored", "sealed"))
    done = filled.command("evacuate")
    assert done.code == 0, done
    assert not moves(writer.pid)
    assert filled.command("receipt").code == 0
    assert restored(filled) == picture(filled.workspace)


@pytest.mark.slow
@pytest.mark.parametrize("place", EVACUATING[:-1])
def test_who_was_frozen_when_the_evacuation_was_killed_works_on_after_a_thaw_and_no_old_receipt_counts(
    filled: Lab, writer: subprocess.Popen[str], place: str
) -> None:
    """Slow: processes. Work done after a gate was killed is never lost to a receipt that was given before."""
    assert filled.command("evacuate", environment={VARIABLE: place}).code == KILLED
    thawed = filled.command("thaw")
    assert (thawed.code, thawed.told["thawed"]) == (0, [writer.pid])
    assert writer.stdout is not None
    for _ in range(3):
        writer.stdout.readline()
    assert filled.command("receipt").code == 1


@pytest.mark.slow
def test_a_thaw_killed_after_its_work_is_done_again(filled: Lab, writer: subprocess.Popen[str]) -> None:
    """Slow: processes."""
    assert filled.command("freeze").code == 0
    assert filled.command("thaw", environment={VARIABLE: THAWING[0]}).code == KILLED
    assert filled.command("thaw").code == 0
    assert moves(writer.pid)


@pytest.mark.slow
@pytest.mark.parametrize("place", RESTORING)
def test_a_restore_killed_anywhere_leaves_no_target_and_is_begun_anew(filled: Lab, place: str) -> None:
    """Slow: processes."""
    assert filled.command("save").code == 0
    target = filled.base / "back"
    assert filled.command("restore", "latest", str(target), environment={VARIABLE: place}).code == KILLED
    assert not target.exists()
    assert restored(filled) == picture(filled.workspace)


@pytest.mark.slow
def test_an_evacuation_that_is_asked_to_end_lets_everybody_go_on(filled: Lab, writer: subprocess.Popen[str]) -> None:
    """Slow: processes. An engine that gives up sends SIGTERM; nobody may stay frozen for that."""
    filled.save()
    settings = filled.base / "settings.json"
    settings.write_text(filled.settings.model_dump_json())
    evacuation = subprocess.Popen([sys.executable, "-m", "stackyard.evacuation", "evacuate", str(settings)])
    while moves(writer.pid) and evacuation.poll() is None:
        time.sleep(0.002)
    evacuation.terminate()
    code = evacuation.wait()
    assert moves(writer.pid) or code == 0


def test_every_failpoint_is_killed_at() -> None:
    assert set(NAMES) == {*SAVING, *EVACUATING, *RESTORING, *ARRIVING, *THAWING}
    assert len(NAMES) == len(set(NAMES))
