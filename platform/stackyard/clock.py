"""One clock for decisions and deadlines, so that tests and replays can live through a year in a minute.

Timeouts, polls and health checks do not come here: they use real time.
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Tells the time that decisions are made by."""

    def now(self) -> dt.datetime:
        """The present, timezone-aware, UTC."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> dt.datetime:
        """The present, UTC."""
        return dt.datetime.now(dt.UTC)


class VirtualClock:
    """Time that stands still until it is moved."""

    def __init__(self, start: dt.datetime) -> None:
        self._now = start

    def now(self) -> dt.datetime:
        """Where the clock was put."""
        return self._now

    def advance(self, **delta: float) -> None:
        """Move on by a `timedelta(**delta)`."""
        self._now += dt.timedelta(**delta)


class FileClock:
    """Time that stands in a file, for processes of one stack that live through a replay together.

    A second line, where there is one, is the time up to which all that happened is known. Whoever decides lives by
    that: a decision then does not depend on how much of a day had reached the store when it was looked at.
    """

    def __init__(self, path: Path, *, known: bool = False) -> None:
        self._path, self._known = path, known

    def now(self) -> dt.datetime:
        """The time in the file, UTC. Raises OSError or ValueError while there is none."""
        lines = self._path.read_text().split()
        if not lines:
            raise ValueError(f"{self._path} is empty")
        return dt.datetime.fromisoformat(lines[-1 if self._known else 0])

    def set(self, now: dt.datetime, known: dt.datetime | None = None) -> None:
        """Put the clock to `now`, all being known up to `known` (absent: up to now).

        Readers see the old time or the new one, never half of it.
        """
        scratch = self._path.with_name(f".{self._path.name}-{os.getpid()}")
        scratch.write_text("\n".join(at.astimezone(dt.UTC).isoformat() for at in (now, known) if at is not None))
        os.replace(scratch, self._path)


def clock_of(path: Path | None, *, known: bool = False) -> Clock:
    """The machine's clock, or the one in the file `path`; of that the present, or the time up to which all is
    `known`."""
    return SystemClock() if path is None else FileClock(path, known=known)
