"""A store that was moved aside comes back, whatever becomes of who moved it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stackyard.rehearsals import away

STARTER = """
import subprocess, sys, time
keeper = subprocess.Popen([sys.executable, "-m", "stackyard.rehearsals.away", sys.argv[1], "60"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
keeper.stdin.write(sys.argv[2] + "\\n")
keeper.stdin.flush()
print(keeper.stdout.readline(), keeper.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "a store"
    folder.mkdir()
    (folder / "object").write_text("kept")
    return folder


def _whole(store: Path) -> bool:
    return store.is_dir() and (store / "object").read_text() == "kept" and not away.aside(store).exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_the_store_comes_back_when_who_took_it_is_ended(store: Path, tmp_path: Path, number: signal.Signals):
    command = [sys.executable, "-c", STARTER, str(tmp_path / "record"), str(store)]
    starter = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    said = starter.stdout.readline() + starter.stdout.readline()
    assert "away" in said and store.is_file() and away.aside(store).is_dir()
    os.kill(starter.pid, number)
    starter.wait()
    keeper, end = int(said.split()[-1]), time.monotonic() + 20
    while Path(f"/proc/{keeper}").exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert _whole(store) and not (tmp_path / "record").exists()


def _noted(store: Path, record: Path) -> None:
    record.write_text(f'{{"store": "{store}"}}')


def _moved(store: Path, record: Path) -> None:
    _noted(store, record)
    store.rename(away.aside(store))


def _replaced(store: Path, record: Path) -> None:
    away.take(store, record)


def _half_put_back(store: Path, record: Path) -> None:
    away.take(store, record)
    store.unlink()


def _back_but_noted(store: Path, record: Path) -> None:
    _half_put_back(store, record)
    away.aside(store).rename(store)


def _half_noted(_store: Path, record: Path) -> None:
    record.write_text('{"sto')


def _nothing(_store: Path, _record: Path) -> None:
    return


STAGES = (_noted, _moved, _replaced, _half_put_back, _back_but_noted, _half_noted, _nothing)


@pytest.mark.parametrize("stage", STAGES, ids=lambda each: each.__name__.strip("_"))
def test_killed_at_any_step_the_next_to_come_puts_it_back(
    store: Path, tmp_path: Path, stage: Callable[[Path, Path], None]
):
    stage(store, tmp_path / "record")
    assert away.put_back(tmp_path / "record") is None
    assert away.put_back(tmp_path / "record") is None, "it may be repeated"
    assert _whole(store) and not (tmp_path / "record").exists()


def test_a_store_that_somebody_made_meanwhile_is_kept_beside(store: Path, tmp_path: Path):
    away.take(store, tmp_path / "record")
    store.unlink()
    store.mkdir()
    (store / "new").write_text("x")
    made = away.put_back(tmp_path / "record")
    assert made is not None and (Path(made) / "new").read_text() == "x"
    assert _whole(store)
