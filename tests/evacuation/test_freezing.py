"""Writers stand still and go on; nobody else does, and a crash between is found by whoever comes next."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leased import TAG, Lab
from stackyard.evacuation import freezing
from stackyard.evacuation.errors import FreezeError
from stackyard.evacuation.freezing import Freezer

WRITER = "import sys,time\nprint('up', flush=True)\nwhile True: time.sleep(0.01)"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(lab: Lab) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def run(code: str = WRITER, *, tag: str | None = None, cwd: Path | None = None) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if name != TAG}
        if tag is not None:
            environment[TAG] = tag
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            cwd=cwd or lab.base,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield run
    for process in started:
        for number in (signal.SIGKILL, signal.SIGCONT):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
        process.wait()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def ours(lab: Lab) -> str:
    return (lab.settings.processes_tag or "").partition("=")[2]


def test_the_tagged_and_their_children_stop_and_go_on(lab: Lab, start: Start) -> None:
    code = f"import subprocess,sys\nc=subprocess.Popen([sys.executable,'-c',{WRITER!r}])\nc.wait()"
    parent = start(code, tag=ours(lab))
    freezer = Freezer(lab.settings)
    frozen = freezer.freeze()
    assert {process.pid for process in frozen} > {parent.pid}
    assert all(state(process.pid) == "T" for process in frozen)
    assert freezer.freeze() == frozen
    assert Freezer(lab.settings).thaw() == frozen
    assert all(state(process.pid) != "T" for process in frozen)
    assert Freezer(lab.settings).thaw() == []


def test_who_has_no_tag_and_a_file_of_the_workspace_open_stops_too(lab: Lab, start: Start) -> None:
    inside = start("f=open('x','w')\n" + WRITER, cwd=lab.workspace)
    outside = start()
    assert [process.pid for process in Freezer(lab.settings).freeze()] == [inside.pid]
    assert state(outside.pid) != "T"
    Freezer(lab.settings).thaw()


def test_another_cluster_is_left_alone_even_inside_the_workspace(lab: Lab, start: Start) -> None:
    stranger = start(tag="another", cwd=lab.workspace)
    assert Freezer(lab.settings).freeze() == []
    assert state(stranger.pid) != "T"
    Freezer(lab.settings).thaw()


def test_whom_somebody_else_stopped_stays_stopped(lab: Lab, start: Start) -> None:
    process = start(tag=ours(lab))
    os.kill(process.pid, signal.SIGSTOP)
    while state(process.pid) != "T":
        time.sleep(0.001)
    assert Freezer(lab.settings).freeze() == []
    Freezer(lab.settings).thaw()
    assert state(process.pid) == "T"


def test_a_number_that_was_given_again_is_not_touched(lab: Lab, start: Start) -> None:
    process = start(tag=ours(lab))
    Freezer(lab.settings).freeze()
    record = lab.settings.state / "frozen.json"
    noted = json.loads(record.read_bytes())
    noted["processes"][0]["start"] += 1
    record.write_text(json.dumps(noted))
    assert Freezer(lab.settings).thaw() == []
    assert state(process.pid) == "T"


def test_a_record_of_another_boot_says_nothing(lab: Lab, start: Start) -> None:
    start(tag=ours(lab))
    Freezer(lab.settings).freeze()
    record = lab.settings.state / "frozen.json"
    record.write_text(json.dumps({**json.loads(record.read_bytes()), "boot": "another"}))
    assert Freezer(lab.settings).thaw() == []


def test_who_cannot_be_stopped_is_named(lab: Lab, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(tag=ours(lab))
    monkeypatch.setattr(freezing, "_signal", lambda *_: None)
    clock = iter(range(0, 1000, 6))
    with pytest.raises(FreezeError, match=str(process.pid)):
        Freezer(lab.settings).freeze(clock=lambda: float(next(clock)))
    monkeypatch.undo()
    Freezer(lab.settings).thaw()


def test_the_commands_freeze_and_thaw_by_the_record(lab: Lab, start: Start) -> None:
    process = start(tag=ours(lab))
    frozen = lab.command("freeze")
    assert (frozen.code, frozen.told["frozen"]) == (0, [process.pid])
    assert state(process.pid) == "T"
    assert lab.command("thaw").told["thawed"] == [process.pid]
    assert state(process.pid) != "T"


def test_a_full_disk_does_not_keep_the_record_from_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reserve").write_bytes(b"room")
    whole = os.fsync

    def full(descriptor: int) -> None:
        if (tmp_path / "reserve").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    freezing.write_whole(tmp_path / "frozen.json", b"{}")
    assert (tmp_path / "frozen.json").read_bytes() == b"{}"
