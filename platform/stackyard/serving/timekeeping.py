"""What time it is for the logs: the stack's clock, which a replay may hold still, and never a reason to fail."""

from __future__ import annotations

import time
from pathlib import Path

from stackyard.clock import clock_of


class Timekeeper:
    """The stack's clock, or its last known time while the clock's file cannot be read."""

    def __init__(self, path: Path | None) -> None:
        self._clock = None if path is None else clock_of(path)
        self._known: float | None = None

    def __call__(self) -> float:
        """Seconds since 1970, UTC. Raises nothing."""
        if self._clock is None:
            return time.time()
        try:
            self._known = self._clock.now().timestamp()
        except (OSError, ValueError, OverflowError):
            if self._known is None:  # never read: a row needs some time
                return time.time()
        return self._known
