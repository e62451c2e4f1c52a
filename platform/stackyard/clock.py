"""One clock for decisions and deadlines, so that tests and replays can live through a year in a minute.

Timeouts, polls and health checks do not come here: they use real time.
"""

from __future__ import annotations

import datetime as dt
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
