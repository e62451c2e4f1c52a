"""Nothing outlives a run: no process of its tree, however it was started, and no folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stackyard.training import keeper

_STRAY = "import os,time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); print('up', flush=True)"
WORK = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', \"{_STRAY}; time.sleep(600)\"]);"


def _kept(folder: Path, then: str) -> subprocess.Popen[str]:
    folder.mkdir(parents=True)
    command = [sys.executable, "-I", keeper.__file__, str(folder), sys.executable, "-c", WORK + then]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(folder)}
    )


def _below(process: subprocess.Popen[str]) -> set[int]:
    return keeper.descendants(process.pid)


def test_when_the_work_ends_its_daemons_end_and_its_status_is_kept(tmp_path: Path) -> None:
    process = _kept(tmp_path / "run" / "one", "sys.exit(7)")
    assert process.wait(30) == 7
    assert not (tmp_path / "run").exists()


def test_when_the_pipe_closes_everything_ends(tmp_path: Path, runs: Any) -> None:
    process = _kept(tmp_path / "run" / "one", "time.sleep(600)")
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "up\n"
    below = _below(process)
    assert len(below) == 2
    process.stdin.close()
    assert process.wait(30) == 128 + signal.SIGKILL
    assert not below & keeper.parents().keys()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("marked", ["by-tag", "by-open-file"])
def test_a_sweep_ends_strangers_of_the_run_and_spares_all_others(tmp_path: Path, runs: Any, marked: str) -> None:
    folder, value = tmp_path / "run", f"swept-{os.getpid()}"
    folder.mkdir()
    ours: dict[str, Any] = {"env": {**os.environ, keeper.RUN_TAG: value}} if marked == "by-tag" else {"cwd": folder}
    sleep = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(600)"]
    stray = subprocess.Popen(sleep, stdout=subprocess.PIPE, **ours)
    neighbour = subprocess.Popen(sleep, stdout=subprocess.PIPE, cwd=tmp_path)
    try:
        for process in (stray, neighbour):
            assert process.stdout is not None
            process.stdout.readline()
        assert keeper.sweep(keeper.RUN_TAG, value, str(folder)) == [stray.pid]
        assert stray.wait(10) == -signal.SIGKILL
        assert neighbour.poll() is None
    finally:
        for process in (stray, neighbour):
            process.kill()
            process.communicate()


def test_a_neighbour_with_the_same_run_id_in_another_checkout_is_spared(tmp_path: Path) -> None:
    marks = [keeper.run_mark("flights-0001-0123abcd", tmp_path / name) for name in ("ours", "theirs")]
    sleep = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(600)"]
    ours, theirs = (
        subprocess.Popen(sleep, stdout=subprocess.PIPE, env={**os.environ, keeper.RUN_TAG: mark}) for mark in marks
    )
    try:
        for process in (ours, theirs):
            assert process.stdout is not None
            process.stdout.readline()
        assert keeper.sweep(keeper.RUN_TAG, marks[0], str(tmp_path / "ours")) == [ours.pid]
        assert theirs.poll() is None
    finally:
        for process in (ours, theirs):
            process.kill()
            process.communicate()
