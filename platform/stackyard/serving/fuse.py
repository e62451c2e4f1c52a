"""When a replica stops asking its challenger, without waiting for anyone.

The loop's statistics see a challenger's failures seconds later and judge them well; a fuse sees them at once and need
only be safe. Failures in a row would never count up for a challenger that hangs on every other request, and failures
in all would be reached some day by any challenger that is asked often enough. So failures add up and successes forgive
slowly: a challenger that fails more than one request in FORGIVEN_BY is cut off, at the latest after `limit` failures
in a row; a rarer failure is left to the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

FORGIVEN_BY = 50
"""Answers that make one failure good again."""


@dataclass
class Fuse:
    """Counts of one challenger in one replica; once blown it stays blown."""

    limit: int
    failures: int = 0
    """Failures in all."""
    level: float = 0.0
    """Failures that are not forgiven yet."""
    blown: bool = False

    def failed(self, count: int = 1) -> bool:
        """Count failures; True when these have blown it."""
        self.failures += count
        self.level += count
        fresh = not self.blown and self.level >= self.limit
        self.blown = self.blown or fresh
        return fresh

    def succeeded(self, count: int = 1) -> None:
        """Count answers."""
        self.level = max(0.0, self.level - count / FORGIVEN_BY)
