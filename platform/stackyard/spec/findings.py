"""A broken rule, before it is known in which file and line the place to blame was written."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stackyard.spec.problems import Keys, nearest


@dataclass(frozen=True)
class Finding:
    """A broken rule. `keys` is the place to blame, `instead` the one if `keys` was left to its default."""

    code: str
    keys: Keys
    rule: str
    remedy: str
    value: Any = None
    suggestion: str | None = None
    instead: Keys | None = None


def of_time_zone(keys: Keys, name: str) -> Iterator[Finding]:
    """What is wrong with the name of a time zone."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = {zone.lower(): zone for zone in zoneinfo.available_timezones()}
        close = known.get(nearest(name, known) or "")
        yield Finding("time-zone", keys, "is not a time zone", "write for example Europe/Zurich", name, close)
