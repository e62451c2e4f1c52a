"""How set-up speaks: short lines on stderr, a moving one while something long runs, one sentence when it cannot go on.

stdout stays free, since `env` writes shell code there.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import NoReturn

UNABLE = 2
"""Exit status: this machine or its settings lack something; the sentence says what."""

BUSY = 4
"""Exit status: another process is at work on the same stack."""

_PREFIX = "stackyard: "
_lock = threading.Lock()


class Stop(SystemExit):
    """Ends the command with a status, after its one sentence was said."""


def line(text: str) -> None:
    """One finished line."""
    with _lock:
        print(_PREFIX + text, file=sys.stderr, flush=True)


def stop(sentence: str, status: int = UNABLE) -> NoReturn:
    """Say why it cannot go on, and end."""
    line(sentence)
    raise Stop(status)


class Progress:
    """A line that moves: rewritten on a terminal, repeated every `every` seconds in a log."""

    def __init__(self, what: str, every: float = 15.0) -> None:
        self._what = what
        self._live = sys.stderr.isatty()
        self._every = 0.2 if self._live else every
        self._started = time.monotonic()
        self._next = 0.0
        line(what)

    def at(self, detail: str) -> None:
        """Show `detail` if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        text = f"{_PREFIX}{self._what}: {detail}, {now - self._started:.0f} s"
        with _lock:
            print(
                f"\r\x1b[K{text}" if self._live else text,
                end="" if self._live else "\n",
                file=sys.stderr,
                flush=True,
            )

    def done(self) -> None:
        """Finish the line with the time it took."""
        with _lock:
            if self._live:
                print("\r\x1b[K", end="", file=sys.stderr)
        line(f"{self._what}: done in {time.monotonic() - self._started:.0f} s")
