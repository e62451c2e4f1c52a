"""Which of many models' runs start now, when there is room for only some of them.

Oldest wish first, so that no model waits for ever behind others that ask more often.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """A model whose retraining is due."""

    model: str
    since: dt.datetime
    """When it first was."""
    reason: str = ""


@dataclass(frozen=True)
class Queued:
    """A model that waits, and why."""

    model: str
    place: int
    """Its place in the queue, from 1."""
    reason: str


def admit(waiting: Sequence[Waiting], running: int, limit: int) -> tuple[list[Waiting], list[Queued]]:
    """Those that start now and those that wait, of models that are due while `running` of `limit` places are taken.

    A model counts once however often it is named, by its oldest wish; equals go by name.
    """
    oldest: dict[str, Waiting] = {}
    for one in sorted(waiting, key=lambda one: (one.since, one.model, one.reason)):
        oldest.setdefault(one.model, one)
    ordered = list(oldest.values())
    room = max(0, limit - running)
    taken = min(limit, running + len(ordered[:room]))
    behind = [
        Queued(one.model, place, f"{taken} of {limit} places are taken; {place - 1} model(s) have waited longer")
        for place, one in enumerate(ordered[room:], start=1)
    ]
    return ordered[:room], behind
