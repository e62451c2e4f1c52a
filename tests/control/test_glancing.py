"""Between two looks in a replay, the controller wakes for what somebody waits for, and for nothing else."""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from stackyard.clock import FileClock
from stackyard.control.__main__ import _glance

NOON = dt.datetime(2013, 3, 1, 12, tzinfo=dt.UTC)
LONG = 600.0


@dataclass
class Asked:
    """A worker, as far as it is looked at."""

    answered: bool = False


@pytest.fixture
def clock(tmp_path: Path) -> FileClock:
    made = FileClock(tmp_path / "clock", known=True)
    made.set(NOON)
    return made


@pytest.mark.parametrize("what", ["clock", "answer", "stop"])
def test_a_moved_clock_an_answer_and_the_end_are_seen_at_once(clock: FileClock, what: str) -> None:
    worker, stop = Asked(answered=what == "answer"), threading.Event()
    if what == "clock":
        clock.set(NOON + dt.timedelta(days=1))
    if what == "stop":
        stop.set()
    _glance(stop, clock, NOON, worker, LONG)  # type: ignore[arg-type]


def test_hours_that_the_loop_does_not_live_by_wake_nobody(clock: FileClock) -> None:
    clock.set(NOON + dt.timedelta(hours=5), known=NOON)
    assert FileClock(clock._path).now() == NOON + dt.timedelta(hours=5)  # pyright: ignore[reportPrivateUsage]
    assert clock.now() == NOON
    _glance(threading.Event(), clock, NOON, Asked(), 0.01)  # type: ignore[arg-type]


def test_a_clock_that_cannot_be_read_is_left_to_the_next_look(tmp_path: Path) -> None:
    (tmp_path / "clock").write_text("")
    _glance(threading.Event(), FileClock(tmp_path / "clock"), NOON, Asked(), LONG)  # type: ignore[arg-type]
