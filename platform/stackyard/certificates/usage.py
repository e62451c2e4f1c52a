"""How long it ran and what it cost: from the notes that were made when its processes started and ended. Pure.

An opening without a close (a kill, a reboot) ended when it was last seen running; where nobody looked either, when it
was opened again or taken away, which is the most that it can have been: `assumed` counts those.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Sums over all openings."""

    openings: int = 0
    seconds: float = 0.0
    """That its processes ran."""
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    cost: float = 0.0
    """In the currency of the budget's."""
    assumed: int = 0
    """Openings whose end nobody noted."""
    unread: int = 0
    """Lines that could not be read."""


def used(events: Sequence[Mapping[str, Any] | None], seen: Mapping[str, Any] | None, end: dt.datetime) -> Usage:
    """The sums of `events` (lines of usage.jsonl, None for one that is torn), `seen` (seen.json) and when it ended."""
    spans: list[tuple[Mapping[str, Any], dt.datetime, bool]] = []
    running: Mapping[str, Any] | None = None
    unread = 0
    for event in events:
        if event is None or (at := _at(event.get("at"))) is None:
            unread += 1
        elif event.get("what") == "opened":
            if running is not None:
                spans.append((running, _latest(running, seen, at), True))
            running = event
        elif event.get("what") == "closed" and running is not None:
            spans.append((running, at, False))
            running = None
    if running is not None:
        spans.append((running, _latest(running, seen, end), True))
    return _sum(spans, unread)


def _latest(opening: Mapping[str, Any], seen: Mapping[str, Any] | None, most: dt.datetime) -> dt.datetime:
    if seen is not None and seen.get("generation") == opening.get("generation"):
        at, began = _at(seen.get("at")), _at(opening["at"])
        if at is not None and began is not None and began <= at <= most:
            return at
    return most


def _sum(spans: Sequence[tuple[Mapping[str, Any], dt.datetime, bool]], unread: int) -> Usage:
    seconds = cpu = gpu = cost = 0.0
    for opening, ended, _ in spans:
        began = _at(opening["at"]) or ended
        lasted = max(0.0, (ended - began).total_seconds())
        workers = _number(opening, "workers")
        seconds += lasted
        cpu += lasted / 3600 * workers * _number(opening, "cpus")
        gpu += lasted / 3600 * workers * _number(opening, "gpus")
        cost += lasted / 3600 * _number(opening, "hourly_price")
    assumed = sum(guessed for _, _, guessed in spans)
    return Usage(len(spans), round(seconds, 3), round(cpu, 6), round(gpu, 6), round(cost, 6), assumed, unread)


def _number(event: Mapping[str, Any], name: str) -> float:
    value = event.get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0


def _at(text: Any) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
