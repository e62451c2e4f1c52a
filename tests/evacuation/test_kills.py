"""Killed anywhere, the saver loses nothing: the next command brings everything to where an undisturbed one does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leased import TAG, Lab, picture
from stackyard import evacuation
from stackyard.evacuation.failpoints import ARRIVING, EVACUATING, NAMES, RESTORING, SAVING, THAWING, VARIABLE
from tally import Tally

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


def missing(lab: Lab, tally: Tally, want: dict[bytes, Any] | None = None) -> str:
    """What of the workspace (or of `want`) the newest version does not give back; it is counted as lost."""
    want, have = picture(lab.workspace) if want is None else want, restored(lab)
    wrong = sorted(path for path in want.keys() | have.keys() if want.get(path) != have.get(path))
    size = sum(len(want[path][3]) for path in wrong if len(want.get(path, ())) == 5)
    if wrong:
        tally.lost.append((f"{wrong}", max(1, size)))
    return f"{wrong} differ" if wrong else ""


@pytest.mark.slow
@pytest.mark.parametrize("place", SAVING)
def test_a_save_killed_anywhere_is_followed_by_one_that_saves_everything(filled: Lab, tally: Tally, place: str) -> None:
    """Slow: three processes a failpoint. Shows that a half-done save is neither taken for a version nor in the way."""
    killed = filled.command("save", environment={VARIABLE: place}).code == KILLED
    before = filled.command("status").told["version"]
    assert (before is not None) is (place in ("version-stored", "save-noted"))
    assert filled.command("save").code == 0
    tally.kill("save", place, then="save", killed=killed, wrong=missing(filled, tally))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["pack-stored", "version-stored"])
def test_after_a_kill_nothing_older_than_the_newest_version_is_lost_with_the_workspace(
    filled: Lab, tally: Tally, place: str
) -> None:
    """Slow: processes. The whole machine goes, nobody runs a destroy: what comes back is the newest whole version."""
    assert filled.command("save").code == 0
    want = picture(filled.workspace)
    (filled.workspace / "large").write_bytes(os.urandom(2 << 20))
    newer = picture(filled.workspace)
    killed = filled.command("save", environment={VARIABLE: place}).code == KILLED
    subprocess.run(["rm", "-rf", str(filled.workspace), str(filled.settings.state)], check=True)
    wrong = missing(filled, tally, newer if place == "version-stored" else want)
    tally.kill("save", place, then="restore", killed=killed, wrong=wrong)


@pytest.mark.slow
@pytest.mark.parametrize("place", EVACUATING)
def test_an_evacuation_killed_anywhere_is_finished_by_the_next(
    filled: Lab, writer: subprocess.Popen[str], tally: Tally, place: str
) -> None:
    """Slow: processes, and one that writes all the time. Shows that no kill leaves a workspace half evacuated."""
    killed = filled.command("evacuate", environment={VARIABLE: place}).code == KILLED
    assert not moves(writer.pid) or place == "freeze-noted"
    assert (filled.command("receipt").code == 0) is (place in ("receipt-stored", "sealed"))
    done = filled.command("evacuate")
    assert done.code == 0, done
    assert not moves(writer.pid)
    assert filled.command("receipt").code == 0
    tally.kill("evacuate", place, then="evacuate", killed=killed, wrong=missing(filled, tally))


@pytest.mark.slow
@pytest.mark.parametrize("place", EVACUATING[:3])
def test_a_suspension_killed_anywhere_is_finished_by_the_next_or_by_an_evacuation(
    filled: Lab, writer: subprocess.Popen[str], tally: Tally, place: str
) -> None:
    """Slow: processes, and one that writes all the time. Nothing stands still that nobody knows of, nothing is lost."""
    killed = filled.command("suspend", environment={VARIABLE: place}).code == KILLED
    assert filled.command("receipt").code == 1
    then = "evacuate" if place == "frozen" else "suspend"
    done = filled.command(then)
    assert done.code == 0, done
    assert not moves(writer.pid)
    tally.kill("suspend", place, then=then, killed=killed, wrong=missing(filled, tally))


@pytest.mark.slow
@pytest.mark.parametrize("place", EVACUATING[:-1])
def test_who_was_frozen_when_the_evacuation_was_killed_works_on_after_a_thaw_and_no_old_receipt_counts(
    filled: Lab, writer: subprocess.Popen[str], tally: Tally, place: str
) -> None:
    """Slow: processes. Work done after a gate was killed is never lost to a receipt that was given before."""
    killed = filled.command("evacuate", environment={VARIABLE: place}).code == KILLED
    thawed = filled.command("thaw")
    assert (thawed.code, thawed.told["thawed"]) == (0, [writer.pid])
    assert writer.stdout is not None
    for _ in range(3):
        writer.stdout.readline()
    counts = filled.command("receipt").code == 0
    tally.kill("evacuate", place, then="thaw", killed=killed, wrong="an old receipt counts" if counts else "")


@pytest.mark.slow
def test_a_thaw_killed_after_its_work_is_done_again(filled: Lab, writer: subprocess.Popen[str], tally: Tally) -> None:
    """Slow: processes."""
    assert filled.command("freeze").code == 0
    killed = filled.command("thaw", environment={VARIABLE: THAWING[0]}).code == KILLED
    assert filled.command("thaw").code == 0
    tally.kill("thaw", THAWING[0], then="thaw", killed=killed, wrong="" if moves(writer.pid) else "it stands still")


@pytest.mark.slow
@pytest.mark.parametrize("place", RESTORING)
def test_a_restore_killed_anywhere_leaves_no_target_and_is_begun_anew(filled: Lab, tally: Tally, place: str) -> None:
    """Slow: processes."""
    assert filled.command("save").code == 0
    target = filled.base / "back"
    killed = filled.command("restore", "latest", str(target), environment={VARIABLE: place}).code == KILLED
    assert not target.exists()
    tally.kill("restore", place, then="restore", killed=killed, wrong=missing(filled, tally))


@pytest.mark.slow
def test_an_evacuation_that_is_asked_to_end_lets_everybody_go_on(filled: Lab, writer: subprocess.Popen[str]) -> None:
    """Slow: processes. An engine that gives up sends SIGTERM; nobody may stay frozen for that."""
    filled.save()
    settings = filled.base / "settings.json"
    settings.write_text(filled.settings.model_dump_json())
    asked = subprocess.Popen([sys.executable, "-m", "stackyard.evacuation", "evacuate", str(settings)])
    while moves(writer.pid) and asked.poll() is None:
        time.sleep(0.002)
    asked.terminate()
    code = asked.wait()
    assert moves(writer.pid) or code == 0


def test_every_failpoint_is_killed_at() -> None:
    assert set(NAMES) == {*SAVING, *EVACUATING, *RESTORING, *ARRIVING, *THAWING}
    assert len(NAMES) == len(set(NAMES))
    folder = Path(evacuation.__file__).parent
    sources = "".join(path.read_text() for path in folder.glob("*.py"))
    assert set(re.findall(r'failpoints\.hit\("([^"]+)"\)', sources)) == set(NAMES)
